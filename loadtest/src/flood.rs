//! Others who ask and never go on: IKE_SA_INIT requests at a steady pace from many addresses, each with an
//! SPI of its own, so that a responder takes each for a peer and not for a repetition. What it answers
//! is counted and not looked at, COOKIE or not.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use iked::auth::store::CredentialStore;
use iked::crypto::{Rng, boring};
use iked::ike::{Command, Endpoint, EndpointParts};
use iked::policy::{Config, Options};
use iked::steer::ShardId;
use iked::time::Now;

use crate::engine::Live;
use crate::meter::Meter;
use crate::scenario::{self, Scenario};

/// The sockets and what they send.
#[derive(Debug)]
pub struct Flood {
    sockets: Vec<UdpSocket>,
    request: Vec<u8>,
    per_second: f64,
    dice: Rng,
    live: Arc<Live>,
}

impl Flood {
    /// That of a scenario, if it has one. The peers of `config` say what it asks for.
    pub fn new(
        scenario: &Scenario,
        config: &Arc<Config>,
        options: &Arc<Options>,
        seed: u64,
        live: &Arc<Live>,
    ) -> io::Result<Option<Self>> {
        let Some(flood) = &scenario.flood else {
            return Ok(None);
        };
        let (first, count) =
            scenario::network(&flood.from).unwrap_or((scenario.responder.address, 1));
        let to = SocketAddr::new(scenario.responder.address, crate::run::IKE_PORT);
        let mut sockets = Vec::new();
        for number in 0..count.min(SOURCES_MAX) {
            let socket = UdpSocket::bind((scenario::nth(first, number), 0))?;
            socket.set_nonblocking(true)?;
            socket.connect(to)?;
            sockets.push(socket);
        }
        Ok(Some(Self {
            sockets,
            request: request(config, options)?,
            per_second: flood.requests,
            dice: Rng::from_seed(
                [seed.to_le_bytes(); 4]
                    .concat()
                    .try_into()
                    .unwrap_or([4; 32]),
            ),
            live: Arc::clone(live),
        }))
    }

    /// Until the run is over. It measures nothing but what all threads share.
    pub fn run(mut self) -> io::Result<Meter> {
        let start = now().mono;
        let mut sent: u64 = 0;
        while !self.live.stop.load(Ordering::Relaxed) {
            let due = (now().mono - start).as_secs_f64() * self.per_second;
            for _ in 0..BURST_MAX {
                if sent as f64 >= due {
                    break;
                }
                self.send(sent);
                sent += 1;
            }
            pause();
        }
        for place in 0..self.sockets.len() {
            self.hear(place);
        }
        Ok(Meter::default())
    }

    fn send(&mut self, number: u64) {
        let place = usize::try_from(number).unwrap_or(0) % self.sockets.len().max(1);
        self.hear(place);
        // An initiator's SPI is not zero.
        let spi = (self.dice.u64() | 1).to_be_bytes();
        for (byte, new) in self.request.iter_mut().zip(spi) {
            *byte = new;
        }
        let socket = self.sockets.get(place);
        // Where there is no room in the queue it is lost, as it may be further on.
        if socket.is_some_and(|socket| socket.send(&self.request).is_ok()) {
            self.live.flood_sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hear(&self, place: usize) {
        let mut bytes = [0; 64];
        let Some(socket) = self.sockets.get(place) else {
            return;
        };
        while socket.recv(&mut bytes).is_ok() {
            self.live.flood_answered.fetch_add(1, Ordering::Relaxed);
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
    std::thread::sleep(Duration::from_millis(1));
}

/// Addresses, each with a socket of its own.
const SOURCES_MAX: u32 = 256;
/// Requests that are sent between two looks at the clock.
const BURST_MAX: u32 = 256;
