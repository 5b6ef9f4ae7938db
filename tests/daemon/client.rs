//! A real initiator: the library's endpoint over UDP sockets. It tells itself the time, so that a
//! test need not wait for a silence to last five minutes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use iked::auth::store::CredentialStore;
use iked::config::{self, Environment, Nobody};
use iked::crypto::{Rng, boring};
use iked::ike::{Command, Endpoint, EndpointParts, Path, Stats};
use iked::lookup::port::{Answer, Question};
use iked::policy::{Generation, Options};
use iked::steer::ShardId;
use iked::time::Now;
use socket2::{Domain, Socket, Type};

/// A gateway's policies for any number of clients, with more `set` lines before them.
pub(super) fn gateway_conf(set: &[&str]) -> String {
    let set: String = set.iter().map(|line| format!("set {line}\n")).collect();
    format!(
        "{set}set decouple\nikev2 \"clients\" passive esp from 10.1.0.0/16 to 10.2.0.0/16 \
         local any peer any {SUITE} srcid gateway.example psk \"a secret of the tests\"\n"
    )
}

/// What both ends of these tests speak.
pub(super) const SUITE: &str = "ikesa enc aes-128-gcm prf hmac-sha2-256 group curve25519 \
                         childsa enc aes-128-gcm";

/// Which ports a client really sends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// 500 and 4500.
    Own,
    /// Two others: the gateway sees a NAT, and they go on with UDP encapsulation.
    Translated,
}

/// The initiator.
pub(super) struct Client {
    endpoint: Endpoint,
    address: IpAddr,
    sockets: [UdpSocket; 2],
    /// How far its clock is ahead.
    ahead: Duration,
    /// All IKE messages it sent and got, without marker.
    pub(super) tape: Vec<Vec<u8>>,
    /// How many of them it got.
    pub(super) got: usize,
    /// What it shows a gateway that wants to know what a responder says of its certificate.
    pub(super) shows: Option<Vec<u8>>,
}

impl Client {
    /// One that knows the gateway by its address and has not spoken yet. Without MOBIKE, which would
    /// take every IKE SA to port 4500.
    pub(super) fn new(name: &str, address: IpAddr, gateway: IpAddr, ports: Ports) -> Self {
        let proof = "psk \"a secret of the tests\"";
        let store = CredentialStore::default();
        Self::with((name, proof), address, gateway, ports, store)
    }

    /// The same with another clause for what it proves itself by, and what that takes.
    pub(super) fn with(
        (name, proof): (&str, &str),
        address: IpAddr,
        gateway: IpAddr,
        ports: Ports,
        store: CredentialStore,
    ) -> Self {
        let text = format!(
            "set decouple\nset nomobike\nikev2 \"home\" active esp from 10.2.0.0/16 to 10.1.0.0/16 \
             local {address} peer {gateway} {SUITE} srcid {name} dstid gateway.example \
             {proof}\n"
        );
        let environment = Environment {
            hostname: name,
            passive: false,
            resolver: &Nobody,
            files: &Nobody,
        };
        let loaded = config::parse_str(name, &text, &[], Generation(0), environment).unwrap();
        let mut seed = [0; 32];
        for (byte, letter) in seed.iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        let options = Options {
            natt_off: false,
            natt_only: false,
            natt_port: NATT_PORT,
            config_dir: PathBuf::new(),
        };
        let endpoint = Endpoint::new(EndpointParts {
            shard: ShardId(0),
            shards: 1,
            config: Arc::new(loaded.config),
            options: Arc::new(options),
            store: Arc::new(store),
            provider: boring::provider(),
            rng: Rng::from_seed(seed),
            cookie_seed: seed,
            now: now(Duration::ZERO),
        });
        let sockets = [IKE_PORT, NATT_PORT].map(|port| match ports {
            Ports::Own => bind((address, port).into()),
            Ports::Translated => bind((address, 0).into()),
        });
        Self {
            endpoint,
            address,
            sockets,
            ahead: Duration::ZERO,
            tape: Vec::new(),
            got: 0,
            shows: None,
        }
    }

    /// Sends the first request.
    pub(super) fn begin(&mut self) {
        self.command(Command::Initiate(0));
    }

    /// Is refused.
    pub(super) fn fail(&mut self) {
        self.begin();
        self.turn_until("a refusal", |stats| stats.sa_established_failures == 1);
        assert!(self.endpoint.is_empty());
    }

    /// Establishes its IKE SA.
    pub(super) fn establish(&mut self) {
        self.begin();
        self.turn_until("ESTABLISHED", |stats| stats.sa_established_current == 1);
    }

    /// Five minutes of silence pass, and it asks whether the gateway lives. Only an answer that the
    /// keys of the IKE SA open ends this.
    pub(super) fn ask_for_life(&mut self) {
        let (asked, got) = (self.endpoint.stats().dpd_sent, self.got);
        self.ahead += SILENCE;
        self.turn_until("a question", |stats| stats.dpd_sent == asked + 1);
        let until = Instant::now() + PATIENCE;
        while self.is_asking() {
            assert!(Instant::now() < until, "no answer");
            self.turn();
        }
        assert!(self.got > got && self.stats().integrity_errors == 0);
    }

    /// Deletes its IKE SA and waits for the gateway's consent.
    pub(super) fn say_goodbye(&mut self) {
        let got = self.got;
        self.command(Command::ResetSa);
        let until = Instant::now() + PATIENCE;
        while !self.endpoint.is_empty() {
            assert!(Instant::now() < until, "no answer to the Delete");
            self.turn();
        }
        // It would forget the IKE SA without an answer too, only later.
        assert!(self.got > got && self.stats().integrity_errors == 0);
    }

    /// A request waits for its answer.
    fn is_asking(&self) -> bool {
        let mut sas = self.endpoint.ike_sas();
        sas.any(|sa| sa.window.outstanding().is_some())
    }

    pub(super) fn turn_until(&mut self, what: &str, done: impl Fn(&Stats) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self.endpoint.stats()) {
            assert!(Instant::now() < until, "waited in vain for {what}");
            self.turn();
        }
    }

    pub(super) fn stats(&self) -> &Stats {
        self.endpoint.stats()
    }

    /// The socket of port 500 or of 4500.
    pub(super) fn socket(&self, marker: bool) -> &UdpSocket {
        &self.sockets[usize::from(marker)]
    }

    fn command(&mut self, command: Command) {
        self.endpoint.handle_command(now(self.ahead), 0, command);
        self.drain();
    }

    /// Takes what has come and does what is due.
    pub(super) fn turn(&mut self) {
        let mut idle = true;
        for (marker, port) in [(false, IKE_PORT), (true, NATT_PORT)] {
            let mut buffer = [0; 65_535];
            while let Ok((len, remote)) = self.socket(marker).recv_from(&mut buffer) {
                let strip = if marker { MARKER.len() } else { 0 };
                let Some(ike) = buffer.get_mut(strip..len) else {
                    continue;
                };
                let local = SocketAddr::new(self.address, port);
                let path = Path {
                    local,
                    remote,
                    marker,
                };
                self.tape.push(ike.to_vec());
                self.got += 1;
                self.endpoint.handle_datagram(now(self.ahead), path, ike);
                idle = false;
            }
        }
        self.endpoint.handle_timeout(now(self.ahead));
        self.drain();
        if idle {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn drain(&mut self) {
        while let Some(lookup) = self.endpoint.poll_lookup() {
            assert!(matches!(lookup.question, Question::Own(_)), "{lookup:?}");
            let response = self.shows.as_deref().map(Arc::from);
            let answer = Answer::Own(response);
            self.endpoint
                .handle_lookup(now(self.ahead), lookup.id, answer);
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit(&mut buffer) {
            let path = transmit.path;
            let marker = if path.marker { MARKER } else { &[] };
            let datagram = [marker, &buffer].concat();
            let sent = self.socket(path.marker).send_to(&datagram, path.remote);
            assert_eq!(sent.unwrap(), datagram.len());
            // A keepalive is no message.
            if buffer.len() > 1 {
                self.tape.push(buffer.clone());
            }
        }
        assert!(self.endpoint.poll_kernel().is_none(), "it is decoupled");
        while self.endpoint.poll_event().is_some() || self.endpoint.poll_reply().is_some() {}
    }
}

/// A socket that does not wait, beside the daemon's on the same port of all addresses.
pub(super) fn bind(name: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(name), Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&name.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

fn now(ahead: Duration) -> Now {
    Now {
        mono: Instant::now() + ahead,
        wall: SystemTime::now() + ahead,
    }
}

pub(super) const IKE_PORT: u16 = 500;
pub(super) const NATT_PORT: u16 = 4500;
/// RFC 3948, 2.2.
pub(super) const MARKER: &[u8] = &[0; 4];
/// Longer than the silence that makes it ask.
const SILENCE: Duration = Duration::from_secs(400);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
