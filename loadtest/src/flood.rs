//! Others who ask and never go on: IKE_SA_INIT requests at a steady pace from many addresses, each with an
//! SPI of its own, so that a responder takes each for a peer and not for a repetition. What it answers
//! is counted and not looked at, COOKIE or not: here, or where it leaves the responder's host, which is then
//! spared what an answer on a virtual wire costs its sender for being received.
//!
//! One socket is enough for all of them, because each datagram says where it comes from; so there may be
//! as many as the scenario's network has, and they go out by the batch.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use iked::auth::store::CredentialStore;
use iked::crypto::{Rng, boring};
use iked::ike::{Command, Endpoint, EndpointParts, Path};
use iked::policy::{Config, Options};
use iked::shard::batch::{Drained, ReceiveBatch, SendBatch};
use iked::shard::socket::{self, Ports, ShardSocket};
use iked::steer::{ShardId, Steering};
use iked::time::Now;

use crate::engine::Live;
use crate::meter::Meter;
use crate::responder;
use crate::scenario::{self, Scenario};

/// The socket and what goes out through it.
#[derive(Debug)]
pub struct Flood {
    sockets: Vec<ShardSocket>,
    to: SocketAddr,
    /// The first source address, and how many there are.
    from: (IpAddr, u32),
    request: Vec<u8>,
    per_second: f64,
    dice: Rng,
    outgoing: SendBatch,
    incoming: ReceiveBatch,
    elsewhere: Option<Elsewhere>,
    live: Arc<Live>,
}

/// The device by which the answers leave.
#[derive(Debug)]
struct Elsewhere {
    pid: i32,
    device: String,
    /// Its packets before the first request.
    before: u64,
    looked: Instant,
}

impl Elsewhere {
    fn new(pids: &[i32], device: &str) -> io::Result<Self> {
        let missing =
            || io::Error::other(format!("no device {device} at a process of the responder"));
        let pid = *pids.first().ok_or_else(missing)?;
        Ok(Self {
            pid,
            device: device.to_owned(),
            before: responder::packets(pid, device).ok_or_else(missing)?,
            looked: now().mono,
        })
    }

    /// Answers until now; `None` where the responder is gone.
    fn count(&self) -> Option<u64> {
        let packets = responder::packets(self.pid, &self.device)?;
        Some(packets.saturating_sub(self.before))
    }
}

impl Flood {
    /// That of a scenario, if it has one. The peers of `config` say what it asks for, and `pids` are the
    /// responder's processes.
    pub fn new(
        scenario: &Scenario,
        config: &Arc<Config>,
        options: &Arc<Options>,
        seed: u64,
        pids: &[i32],
        live: &Arc<Live>,
    ) -> io::Result<Option<Self>> {
        let Some(flood) = &scenario.flood else {
            return Ok(None);
        };
        let device = flood.answers_by.as_deref();
        let elsewhere = device.map(|device| Elsewhere::new(pids, device));
        let address = scenario.responder.address;
        let wildcard = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let any = Ports {
            ike: Some(0),
            natt: None,
        };
        let key = u32::try_from(seed & 0xffff_ffff).unwrap_or(1);
        let bound = socket::bind(&[wildcard], any, &Steering::new(1, key))?;
        let seed = [seed.to_le_bytes(); 4].concat();
        Ok(Some(Self {
            sockets: bound.shards.into_iter().flatten().collect(),
            to: SocketAddr::new(address, crate::run::IKE_PORT),
            from: scenario::network(&flood.from).unwrap_or((address, 1)),
            request: request(config, options)?,
            per_second: flood.requests,
            dice: Rng::from_seed(seed.try_into().unwrap_or([4; 32])),
            outgoing: SendBatch::default(),
            incoming: ReceiveBatch::new(),
            elsewhere: elsewhere.transpose()?,
            live: Arc::clone(live),
        }))
    }

    /// Until the run is over. It measures nothing but what all threads share.
    pub fn run(mut self) -> io::Result<Meter> {
        let start = now().mono;
        let late_max = self.per_second * LATE_MAX.as_secs_f64();
        // Requests whose time has come, and those of them that were sent or left out.
        let mut done: f64 = 0.0;
        let mut number: u32 = 0;
        while !self.live.stop.load(Ordering::Relaxed) {
            let due = (now().mono - start).as_secs_f64() * self.per_second;
            if due < done + 1.0 {
                self.hear();
                pause();
                continue;
            }
            // Whoever could not work for a while does not make up for it by a burst.
            done = done.max(due - late_max);
            let count = ((due - done) as u32).clamp(1, BATCH);
            for _ in 0..count {
                self.queue(number);
                number = number.wrapping_add(1);
            }
            done += f64::from(count);
            // What finds no room in a queue is lost, as it may be further on.
            let sent = self.outgoing.flush(&self.sockets).sent;
            self.live.flood_sent.fetch_add(sent, Ordering::Relaxed);
            self.hear();
        }
        self.look_elsewhere();
        Ok(Meter::default())
    }

    fn queue(&mut self, number: u32) {
        let mut bytes = self.outgoing.buffer();
        bytes.clear();
        bytes.extend_from_slice(&self.request);
        // An initiator's SPI is not zero.
        let spi = (self.dice.u64() | 1).to_be_bytes();
        for (byte, new) in bytes.iter_mut().zip(spi) {
            *byte = new;
        }
        let (first, count) = self.from;
        let path = Path {
            local: (scenario::nth(first, number % count.max(1)), 0).into(),
            remote: self.to,
            marker: false,
        };
        self.outgoing.push(path, bytes);
    }

    /// Takes what has come, a few batches at most: requests must not wait behind it.
    fn hear(&mut self) {
        if let Some(elsewhere) = &mut self.elsewhere {
            let now = now().mono;
            if now - elsewhere.looked > LOOK {
                elsewhere.looked = now;
                self.look_elsewhere();
            }
            return;
        }
        for socket in &self.sockets {
            for _ in 0..ROUNDS_MAX {
                let drained = self.incoming.receive(socket);
                let count = self.incoming.len() as u64;
                self.live.flood_answered.fetch_add(count, Ordering::Relaxed);
                if !matches!(drained, Ok(Drained::No)) {
                    break;
                }
            }
        }
    }

    /// Counts what has left by the device.
    fn look_elsewhere(&self) {
        if let Some(count) = self.elsewhere.as_ref().and_then(Elsewhere::count) {
            self.live.flood_answered.store(count, Ordering::Relaxed);
        }
    }
}

/// The first request of a peer.
fn request(config: &Arc<Config>, options: &Arc<Options>) -> io::Result<Vec<u8>> {
    let mut endpoint = Endpoint::new(EndpointParts {
        shard: ShardId(0),
        shards: 1,
        config: Arc::clone(config),
        options: Arc::clone(options),
        store: Arc::new(CredentialStore::default()),
        provider: boring::provider(),
        rng: Rng::from_seed([5; 32]),
        cookie_seed: [6; 32],
        now: now(),
    });
    endpoint.handle_command(now(), 0, Command::Initiate(0));
    let mut request = Vec::new();
    let transmit = endpoint.poll_transmit(&mut request);
    let none = || io::Error::other("the flood has no request to send");
    transmit.map(|_| request).ok_or_else(none)
}

#[expect(clippy::disallowed_methods, reason = "the thread owns its clock")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread has nothing else to do"
)]
fn pause() {
    std::thread::sleep(Duration::from_micros(200));
}

/// Requests that go out in one system call.
const BATCH: u32 = 64;
/// Batches of answers that are taken between two of requests.
const ROUNDS_MAX: usize = 4;
/// Time between two looks at the device.
const LOOK: Duration = Duration::from_millis(100);
/// How far the flood may be behind its pace before requests are left out.
const LATE_MAX: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;

    use iked::wire::Header;

    use super::*;
    use crate::population;

    #[test]
    fn each_request_has_an_address_of_its_own_and_its_answer_is_counted() {
        let text = "[peers]\ncount = 1\nsources = \"127.2.0.0/16\"\n[responder]\naddress = \"127.0.0.1\"\n\
                    identity = \"gw.example\"\nnetwork = \"10.8.0.0/24\"\n[auth]\nmethod = \"psk\"\n\
                    secret = \"s\"\n[flood]\nrequests = 100.0\nfrom = \"127.3.0.0/16\"\n";
        let scenario = Scenario::parse("s.toml", text).unwrap();
        let config = population::config(&scenario).unwrap();
        let options = Arc::new(Options {
            natt_off: false,
            natt_only: false,
            natt_port: 4500,
            config_dir: "/nowhere".into(),
        });
        let live = Arc::new(Live::default());
        let flood = Flood::new(&scenario, &config, &options, 1, &[], &live).unwrap();
        let mut flood = flood.unwrap();
        let responder = UdpSocket::bind("127.0.0.1:0").unwrap();
        responder
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        flood.to = responder.local_addr().unwrap();
        let (mut sources, mut spis) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..REQUESTS {
            flood.queue(number);
            assert_eq!(flood.outgoing.flush(&flood.sockets).sent, 1);
            let mut bytes = [0; 1500];
            let (len, source) = responder.recv_from(&mut bytes).unwrap();
            let header = Header::peek(&bytes[..len]).unwrap();
            sources.insert(source.ip());
            spis.insert(header.initiator_spi.unwrap().value());
            responder.send_to(b"no", source).unwrap();
            flood.hear();
        }
        assert_eq!((sources.len(), spis.len()), (300, 300));
        // The answer to one that went to the loopback is there at once.
        assert_eq!(live.flood_answered.load(Ordering::Relaxed), 300);
    }

    #[test]
    fn answers_are_counted_where_they_leave() {
        let own = i32::try_from(std::process::id()).unwrap();
        let elsewhere = Elsewhere::new(&[own], "lo").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .send_to(b"answer", socket.local_addr().unwrap())
            .unwrap();
        assert!(elsewhere.count() >= Some(1));
        for (pids, device) in [(&[own][..], "nowhere0"), (&[], "lo")] {
            let error = Elsewhere::new(pids, device).unwrap_err().to_string();
            let expected = format!("no device {device} at a process of the responder");
            assert_eq!(error, expected);
        }
    }

    const REQUESTS: u32 = 300;
}
