//! A host is an endpoint with a kernel made by hand; what it sends is a value to be handed on, lost
//! or changed. A pair is two of them with nothing between but this file.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use iked::auth::store::CredentialStore;
use iked::crypto::{Provider, Rng, boring};
use iked::ike::{Command, Endpoint, EndpointParts, Event, News, Path, Reply, Stats};
use iked::kernel::{
    ChildInstall, ChildRemove, Count, Grant, KernelError, KernelEvent, KernelRequest, Outer,
    RequestId, Trap, Volume,
};
use iked::policy::{Config, Options, Policy};
use iked::steer::ShardId;
use iked::time::Now;
use iked::wire::spi::EspSpi;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The moment this many seconds after the start of the test program.
pub(super) fn at(seconds: u64) -> Now {
    let since = Duration::from_secs(seconds);
    Now {
        mono: *START + since,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since,
    }
}

/// A datagram on its way; `path` is how its sender sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) path: Path,
    pub(super) bytes: Vec<u8>,
}

/// The same path as its other end sees it.
pub(super) fn mirrored(path: Path) -> Path {
    Path {
        local: path.remote,
        remote: path.local,
        marker: path.marker,
    }
}

/// What this kernel does with an `AddChild`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Willing,
    Refusing,
    /// Says nothing until asked.
    Slow,
}

/// A kernel that remembers.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) mood: Mood,
    pub(super) installed: Vec<ChildInstall>,
    pub(super) removed: Vec<ChildRemove>,
    /// Child SAs that were moved, and where to.
    pub(super) moved: Vec<(EspSpi, Outer)>,
    /// Requests a slow kernel has not answered.
    pub(super) waiting: Vec<RequestId>,
    /// Packets that each Child SA has counted, inbound and outbound.
    pub(super) packets: (u64, u64),
    /// How often it was asked for them.
    pub(super) questions: usize,
    pub(super) traps: Vec<Trap>,
    /// What was granted and not returned.
    pub(super) grants: Vec<(RequestId, Grant)>,
}

impl Kernel {
    /// Child SAs that are in it now.
    pub(super) fn holds(&self) -> Vec<EspSpi> {
        let gone = |child: &ChildInstall| self.removed.contains(&child.names);
        let held = self.installed.iter().filter(|child| !gone(child));
        held.map(|child| child.names.inbound_spi).collect()
    }
}

/// One endpoint and its surroundings.
pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    pub(super) kernel: Kernel,
    pub(super) lines: Vec<String>,
    pub(super) events: Vec<Event>,
    pub(super) replies: Vec<Reply>,
}

impl Host {
    pub(super) fn new(config: Config, store: CredentialStore, seed: u8) -> Self {
        Self::with_options(config, store, seed, options())
    }

    pub(super) fn with_options(
        config: Config,
        store: CredentialStore,
        seed: u8,
        options: Options,
    ) -> Self {
        Self::with_provider(config, store, seed, options, boring::provider())
    }

    pub(super) fn with_provider(
        config: Config,
        store: CredentialStore,
        seed: u8,
        options: Options,
        provider: Provider,
    ) -> Self {
        Self::of((0, 1), config, store, seed, options, provider)
    }

    /// One of several shards of a host, by its number.
    pub(super) fn shard((shard, shards): (u8, u8), config: Config) -> Self {
        let (seed, store) = (shard + 2, super::setup::no_keys());
        Self::of(
            (shard, shards),
            config,
            store,
            seed,
            options(),
            boring::provider(),
        )
    }

    fn of(
        (shard, shards): (u8, u8),
        config: Config,
        store: CredentialStore,
        seed: u8,
        options: Options,
        provider: Provider,
    ) -> Self {
        let endpoint = Endpoint::new(EndpointParts {
            shard: ShardId(shard),
            shards,
            config: Arc::new(config),
            options: Arc::new(options),
            store: Arc::new(store),
            provider,
            rng: Rng::from_seed([seed; 32]),
            cookie_seed: [seed; 32],
            now: at(0),
        });
        let kernel = Kernel {
            mood: Mood::Willing,
            installed: Vec::new(),
            removed: Vec::new(),
            moved: Vec::new(),
            waiting: Vec::new(),
            packets: (0, 0),
            questions: 0,
            traps: Vec::new(),
            grants: Vec::new(),
        };
        let mut host = Self {
            endpoint,
            kernel,
            lines: Vec::new(),
            events: Vec::new(),
            replies: Vec::new(),
        };
        // What it asks of the kernel from the beginning.
        host.drain(at(0));
        host
    }

    /// Takes a datagram; returns what is sent because of it.
    pub(super) fn receive(&mut self, now: Now, path: Path, bytes: &[u8]) -> Vec<Datagram> {
        let mut bytes = bytes.to_vec();
        self.endpoint.handle_datagram(now, path, &mut bytes);
        self.drain(now)
    }

    /// Takes a command; returns what is sent because of it.
    pub(super) fn command(&mut self, now: Now, command: Command) -> Vec<Datagram> {
        self.endpoint.handle_command(now, 7, command);
        self.drain(now)
    }

    /// Lets time pass to `now` with one wake-up.
    pub(super) fn wake(&mut self, now: Now) -> Vec<Datagram> {
        self.endpoint.handle_timeout(now);
        self.drain(now)
    }

    /// Answers all requests that a slow kernel left waiting.
    pub(super) fn answer_kernel(&mut self, now: Now) -> Vec<Datagram> {
        for id in std::mem::take(&mut self.kernel.waiting) {
            self.endpoint.handle_kernel(now, KernelEvent::Done { id });
        }
        self.drain(now)
    }

    /// Takes what another shard has to tell; returns what is sent because of it.
    pub(super) fn hear(&mut self, now: Now, news: News) -> Vec<Datagram> {
        self.endpoint.handle_news(now, news);
        self.drain(now)
    }

    fn drain(&mut self, now: Now) -> Vec<Datagram> {
        let mut sent = Vec::new();
        loop {
            let mut buffer = Vec::new();
            while let Some(transmit) = self.endpoint.poll_transmit(&mut buffer) {
                sent.push(Datagram {
                    path: transmit.path,
                    bytes: buffer.clone(),
                });
            }
            let Some(request) = self.endpoint.poll_kernel() else {
                break;
            };
            self.serve(now, request);
        }
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Log { line, .. } = &event {
                self.lines.push(line.clone());
            }
            self.events.push(event);
        }
        while let Some((id, reply)) = self.endpoint.poll_reply() {
            assert_eq!(id, 7);
            self.replies.push(reply);
        }
        sent
    }

    fn serve(&mut self, now: Now, request: KernelRequest) {
        match request {
            KernelRequest::AddChild { id, child } => match self.kernel.mood {
                Mood::Willing => {
                    self.kernel.installed.push(*child);
                    self.endpoint.handle_kernel(now, KernelEvent::Done { id });
                }
                Mood::Slow => {
                    self.kernel.installed.push(*child);
                    self.kernel.waiting.push(id);
                }
                Mood::Refusing => {
                    let error = KernelError {
                        errno: 12,
                        action: "add SA",
                    };
                    let failed = KernelEvent::Failed { id, error };
                    self.endpoint.handle_kernel(now, failed);
                }
            },
            KernelRequest::AddOutbound { child } => {
                let installed = self.kernel.installed.iter_mut();
                for other in installed.filter(|other| other.names == child.names) {
                    other.receive_only = false;
                }
            }
            KernelRequest::MoveChild { child, to } => {
                let installed = self.kernel.installed.iter_mut();
                for other in installed.filter(|other| other.names == *child) {
                    other.names = child.moved(to);
                    other.encap = to.encap;
                }
                self.kernel.moved.push((child.inbound_spi, to));
            }
            KernelRequest::DeleteChild { child } => self.kernel.removed.push(*child),
            KernelRequest::Count { asker, children } => {
                self.kernel.questions += 1;
                let (inbound, outbound) = self.kernel.packets;
                let count = |spi| Count {
                    spi,
                    inbound: volume(inbound),
                    outbound: volume(outbound),
                };
                let counts = children.into_iter().map(count).collect();
                let event = KernelEvent::Counts { asker, counts };
                self.endpoint.handle_kernel(now, event);
            }
            KernelRequest::LastCount { account, child } => {
                let (inbound, outbound) = self.kernel.packets;
                let count = Some(Count {
                    spi: child,
                    inbound: volume(inbound),
                    outbound: volume(outbound),
                });
                let event = KernelEvent::LastCount {
                    account,
                    child,
                    count,
                };
                self.endpoint.handle_kernel(now, event);
            }
            KernelRequest::Couple { id } => {
                let refusing = self.kernel.mood == Mood::Refusing;
                let result = if refusing {
                    Err("no ESP here".to_owned())
                } else {
                    Ok(())
                };
                let event = KernelEvent::Coupled { id, result };
                self.endpoint.handle_kernel(now, event);
            }
            KernelRequest::SetTraps { traps } => self.kernel.traps = traps,
            KernelRequest::Grant { id, grant } => self.kernel.grants.push((id, *grant)),
            KernelRequest::Return { id } => self.kernel.grants.retain(|(other, _)| *other != id),
        }
    }

    /// The counters now.
    pub(super) fn stats(&self) -> Stats {
        self.endpoint.stats().clone()
    }

    /// The lines of `ikectl show sa`.
    pub(super) fn show(&mut self, now: Now) -> Vec<String> {
        self.replies.clear();
        self.command(now, Command::ShowSa { json: false });
        let mut shown = Vec::new();
        loop {
            self.wake(now);
            match self.replies.pop() {
                Some(Reply::Text { lines, more }) => {
                    shown.extend(lines);
                    if !more {
                        return shown;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether some line of the log has this in it.
    pub(super) fn said(&self, part: &str) -> bool {
        self.lines.iter().any(|line| line.contains(part))
    }
}

/// Which host of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Initiator,
    Responder,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// Two hosts. Datagrams pass at once and in order, through a NAT before the initiator if there is
/// one.
pub(super) struct Pair {
    pub(super) initiator: Host,
    pub(super) responder: Host,
    pub(super) seconds: u64,
    /// The address and port that the responder sees for each port of the initiator.
    pub(super) nat: Option<fn(SocketAddr) -> SocketAddr>,
    /// The largest IP packet that passes.
    pub(super) mtu: Option<usize>,
    /// All datagrams that were sent.
    pub(super) sent: Vec<(Side, Datagram)>,
    /// All datagrams that passed.
    pub(super) passed: Vec<(Side, Datagram)>,
}

impl Pair {
    pub(super) fn new(
        initiator: (Policy, CredentialStore),
        responder: (Policy, CredentialStore),
    ) -> Self {
        let host = |(policy, store), seed| Host::new(super::setup::config([policy]), store, seed);
        Self::of(host(initiator, 1), host(responder, 2))
    }

    pub(super) fn of(initiator: Host, responder: Host) -> Self {
        Self {
            initiator,
            responder,
            seconds: 0,
            nat: None,
            mtu: None,
            sent: Vec::new(),
            passed: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Now {
        at(self.seconds)
    }

    pub(super) fn host(&mut self, side: Side) -> &mut Host {
        match side {
            Side::Initiator => &mut self.initiator,
            Side::Responder => &mut self.responder,
        }
    }

    /// Starts an IKE SA by the initiator's only policy, and hands on all that follows.
    pub(super) fn connect(&mut self) {
        let first = self.initiate();
        self.run(Side::Initiator, first);
    }

    /// Only the first request.
    pub(super) fn initiate(&mut self) -> Vec<Datagram> {
        let now = self.now();
        self.initiator.command(now, Command::Initiate(0))
    }

    /// Hands datagrams that `from` sent to the other side, and so on until all is quiet.
    pub(super) fn run(&mut self, from: Side, sent: Vec<Datagram>) {
        let mut queue: std::collections::VecDeque<_> =
            sent.into_iter().map(|datagram| (from, datagram)).collect();
        while let Some((from, datagram)) = queue.pop_front() {
            assert!(self.sent.len() < 1000, "they never stop talking");
            self.sent.push((from, datagram.clone()));
            let headers = if datagram.path.remote.is_ipv4() {
                28
            } else {
                48
            };
            let marker = if datagram.path.marker { 4 } else { 0 };
            let packet = datagram.bytes.len() + headers + marker;
            if self.mtu.is_some_and(|mtu| packet > mtu) {
                continue;
            }
            self.passed.push((from, datagram.clone()));
            let (to, answers) = self.give(from, &datagram);
            queue.extend(answers.into_iter().map(|answer| (to, answer)));
        }
    }

    /// Hands over one datagram that `from` sent; returns who got it and the answers.
    pub(super) fn give(&mut self, from: Side, datagram: &Datagram) -> (Side, Vec<Datagram>) {
        let now = self.now();
        let mut path = mirrored(datagram.path);
        match (from, self.nat) {
            (Side::Initiator, Some(nat)) => path.remote = nat(path.remote),
            (Side::Responder, Some(_)) => path.local = self.behind_nat(datagram.path.remote),
            (Side::Initiator | Side::Responder, None) => {}
        }
        match from {
            Side::Initiator => {
                let answers = self.responder.receive(now, path, &datagram.bytes);
                (Side::Responder, answers)
            }
            Side::Responder => {
                let answers = self.initiator.receive(now, path, &datagram.bytes);
                (Side::Initiator, answers)
            }
        }
    }

    fn behind_nat(&self, outside: SocketAddr) -> SocketAddr {
        let inside = |port| SocketAddr::new(super::setup::WARRIOR, port);
        let nat = self.nat.unwrap();
        let port = [500, 4500]
            .into_iter()
            .find(|&port| nat(inside(port)) == outside);
        inside(port.expect("the NAT has no such mapping"))
    }

    /// Lets both sides wake at each second up to this one, and hands on what they send.
    pub(super) fn pass_time(&mut self, until: u64) {
        while self.seconds < until {
            self.seconds += 1;
            let now = self.now();
            for side in [Side::Initiator, Side::Responder] {
                let sent = self.host(side).wake(now);
                self.run(side, sent);
            }
        }
    }

    /// Once all patience is over, neither end has kept anything.
    pub(super) fn assert_nothing_is_left(&mut self) {
        self.pass_time(self.seconds + 400);
        for side in [Side::Initiator, Side::Responder] {
            let host = self.host(side);
            assert!(host.kernel.holds().is_empty(), "{side:?}");
            assert_eq!(host.stats().sa_established_current, 0, "{side:?}");
            assert_eq!(host.stats().leases, 0, "{side:?}");
            assert!(host.endpoint.is_empty(), "{side:?} {:?}", host.lines);
        }
    }

    /// Whether one end said this, once.
    pub(super) fn assert_said_once(&mut self, side: Side, line: &str) {
        let host = self.host(side);
        let said = host.lines.iter().filter(|said| said.contains(line));
        assert_eq!(said.count(), 1, "{line}: {:?}", host.lines);
    }

    /// Begins; the answer to each request is lost at first, and is the same when it comes.
    pub(super) fn connect_losing_answers(&mut self) {
        let mut request = self.initiate();
        for _ in 0..40 {
            let mut answers = Vec::new();
            let (_, lost) = self.give(Side::Initiator, &request[0]);
            for datagram in &request {
                let (_, again) = self.give(Side::Initiator, datagram);
                answers.extend(again);
            }
            assert_eq!(lost, answers);
            request = answers
                .iter()
                .flat_map(|answer| self.give(Side::Responder, answer).1)
                .collect();
            if request.is_empty() {
                return;
            }
        }
        panic!("no end to it");
    }

    /// Whether both sides hold one established IKE SA and the Child SAs of each are the other's.
    pub(super) fn is_up(&self) -> bool {
        let (initiator, responder) = (&self.initiator.kernel, &self.responder.kernel);
        let established =
            |host: &Host| host.stats().sa_established_current == 1 && host.endpoint.len() == 1;
        let agree = initiator.installed.len() == 1
            && responder.installed.len() == 1
            && agree(&initiator.installed[0], &responder.installed[0]);
        established(&self.initiator) && established(&self.responder) && agree
    }
}

/// Whether two Child SAs are the two ends of one: SPIs, keys and selectors crosswise equal.
pub(super) fn agree(a: &ChildInstall, b: &ChildInstall) -> bool {
    let spis = |x: &ChildInstall, y: &ChildInstall| x.names.inbound_spi == y.names.outbound_spi;
    let keys = |x: &ChildInstall, y: &ChildInstall| {
        x.keys.inbound_encr.expose() == y.keys.outbound_encr.expose()
            && x.keys.inbound_integ.expose() == y.keys.outbound_integ.expose()
    };
    let mut crosswise = b.names.selectors.clone();
    for pair in &mut crosswise {
        std::mem::swap(&mut pair.local, &mut pair.remote);
        std::mem::swap(&mut pair.local_port, &mut pair.remote_port);
    }
    spis(a, b)
        && spis(b, a)
        && keys(a, b)
        && keys(b, a)
        && a.keys.inbound_encr.expose() != a.keys.outbound_encr.expose()
        && a.transforms == b.transforms
        && a.names.selectors == crosswise
}

/// No flags.
pub(super) fn options() -> Options {
    Options {
        natt_off: false,
        natt_only: false,
        natt_port: 4500,
        config_dir: "/nowhere".into(),
    }
}

/// So many packets of 100 bytes.
fn volume(packets: u64) -> Volume {
    Volume {
        packets,
        octets: packets * 100,
    }
}
