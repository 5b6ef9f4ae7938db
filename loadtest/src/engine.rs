//! One thread with a part of the peers: an [`Endpoint`] that begins, its sockets, and the clock. The
//! peers of a thread are those whose number has its remainder; a response finds its thread by SPI, as
//! in the daemon. `wire` is what goes out and comes in, `watch` what becomes of the peers, `life` what
//! those do that are up.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use iked::auth::store::CredentialStore;
use iked::crypto::Rng;
use iked::ike::{Command, Endpoint, EndpointParts};
use iked::policy::{Config, Options};
use iked::shard::batch::ReceiveBatch;
use iked::shard::socket::ShardSocket;
use iked::steer::ShardId;
use iked::time::Now;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::kernel::Kernel;
use crate::key_pair;
use crate::meter::Meter;
use crate::nat::Nat;
use crate::scenario::Scenario;

mod life;
mod watch;
mod wire;

use life::Life;
use wire::Outgoing;

/// What all threads share.
#[derive(Debug, Default)]
pub struct Live {
    /// Peers that came.
    pub begun: AtomicU64,
    /// Peers whose IKE SA came up.
    pub up: AtomicU64,
    /// Peers whose IKE SA did not.
    pub failed: AtomicU64,
    /// IKE SAs that were up and are gone, and not by our wish.
    pub lost: AtomicU64,
    /// Requests of the flood that went out.
    pub flood_sent: AtomicU64,
    /// Datagrams that it got for them.
    pub flood_answered: AtomicU64,
    /// Datagrams that came in.
    pub heard: AtomicU64,
    /// Peers that went while the others stay, and are on their way again.
    pub returning: AtomicU64,
    /// All peers are up or have failed, by thread.
    pub settled: AtomicU64,
    /// Nothing new is to be begun: the run is nearly over.
    pub calm: AtomicBool,
    /// The run is over.
    pub stop: AtomicBool,
}

/// What a thread is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its number.
    pub thread: u8,
    /// How many there are.
    pub threads: u8,
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// The peers.
    pub config: Arc<Config>,
    /// The command line's part.
    pub options: Arc<Options>,
    /// Keys and authorities.
    pub store: Arc<CredentialStore>,
    /// Its sockets.
    pub sockets: Vec<ShardSocket>,
    /// Where all randomness of the run comes from.
    pub seed: u64,
    /// When the run begins.
    pub start: Instant,
    /// Shared.
    pub live: Arc<Live>,
}

impl Parts {
    /// How many peers this thread has.
    fn own_peers(&self) -> u32 {
        self.scenario
            .peers_of(self.thread.into(), self.threads.into())
    }
}

/// A peer on its way.
struct Coming {
    peer: u32,
    since: Instant,
    /// It was up before.
    again: bool,
    /// The last that was said about it.
    said: String,
}

struct Engine {
    parts: Parts,
    endpoint: Endpoint,
    kernel: Kernel,
    meter: Meter,
    incoming: ReceiveBatch,
    outgoing: Outgoing,
    /// Which of the sockets may have something.
    readable: Vec<bool>,
    dice: Rng,
    next: u32,
    /// Those on their way, by the SPI of their IKE SA.
    coming: BTreeMap<u64, Coming>,
    /// Those that are up, by the SPI that the log names them by.
    names: HashMap<u64, u32>,
    /// Their own SPIs, by place among the peers of this thread; 0: not known.
    spis: Vec<u64>,
    up: u64,
    /// What those do that are up, once all have come.
    life: Option<Life>,
    /// When the last of our peers came.
    all_begun: Option<Instant>,
    /// When to look at those on their way again.
    look_at: Instant,
}

/// Runs until all peers are up or have failed, have stayed, and have gone; what it measured.
pub fn run(mut parts: Parts) -> io::Result<Meter> {
    let nat = Nat::new(&parts.scenario, parts.thread, parts.threads)?;
    let nat = nat.map(|(nat, sockets)| {
        parts.sockets = sockets;
        nat
    });
    let mut poll = Poll::new()?;
    for (index, socket) in parts.sockets.iter().enumerate() {
        let source = socket.raw_fd();
        let registry = poll.registry();
        registry.register(&mut SourceFd(&source), Token(index), Interest::READABLE)?;
    }
    let mut engine = Engine::new(parts, nat);
    let mut events = Events::with_capacity(16);
    let mut settled = false;
    while !engine.parts.live.stop.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(engine.timeout(now().mono))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        for event in &events {
            if let Some(readable) = engine.readable.get_mut(event.token().0) {
                *readable = true;
            }
        }
        engine.turn();
        if !settled && engine.is_settled() {
            settled = true;
            engine.life = Some(Life::new(&engine.parts, now().mono));
            engine.parts.live.settled.fetch_add(1, Ordering::Relaxed);
        }
    }
    engine.finish();
    Ok(engine.meter)
}

impl Engine {
    fn new(parts: Parts, nat: Option<Nat>) -> Self {
        let seed = |salt: u8| {
            let mut seed = [salt; 32];
            for (place, byte) in seed.iter_mut().zip(parts.seed.to_le_bytes()) {
                *place = byte;
            }
            if let Some(place) = seed.get_mut(8) {
                *place = parts.thread;
            }
            seed
        };
        let endpoint = Endpoint::new(EndpointParts {
            shard: ShardId(parts.thread),
            shards: parts.threads,
            config: Arc::clone(&parts.config),
            options: Arc::clone(&parts.options),
            store: Arc::clone(&parts.store),
            provider: key_pair::provider(parts.scenario.suite.one_key_pair),
            rng: Rng::from_seed(seed(1)),
            cookie_seed: seed(2),
            now: now(),
        });
        let own = parts.own_peers();
        Self {
            dice: Rng::from_seed(seed(3)),
            next: u32::from(parts.thread),
            readable: vec![true; parts.sockets.len()],
            outgoing: Outgoing::new(nat),
            names: HashMap::new(),
            spis: vec![0; own as usize],
            life: None,
            parts,
            endpoint,
            kernel: Kernel::default(),
            meter: Meter::default(),
            incoming: ReceiveBatch::new(),
            coming: BTreeMap::new(),
            up: 0,
            all_begun: None,
            look_at: now().mono,
        }
    }

    /// How long there is nothing to do.
    fn timeout(&self, now: Instant) -> Duration {
        if self.readable.contains(&true) {
            return Duration::ZERO;
        }
        let mut timeout = LOOK_AFTER_MAX;
        let deadline = self.endpoint.poll_timeout().map(|(at, _)| at);
        let others = self.next_at(now).into_iter().chain(self.kernel.next());
        let late = self.outgoing.next().into_iter();
        let deeds = self.life.as_ref().and_then(Life::next);
        for at in deadline.into_iter().chain(others).chain(late).chain(deeds) {
            timeout = timeout.min(at.saturating_duration_since(now));
        }
        timeout
    }

    /// When the next peer comes.
    fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.next >= self.parts.scenario.peers.count {
            return None;
        }
        match self.parts.scenario.arrival_of(self.next) {
            Some(after) => Some(self.parts.start + after),
            None => self.has_room().then_some(now),
        }
    }

    fn has_room(&self) -> bool {
        let window = self.parts.scenario.arrival.window / u32::from(self.parts.threads);
        self.coming.len() < window.max(1) as usize
    }

    fn turn(&mut self) {
        for index in 0..self.parts.sockets.len() {
            if self.readable.get(index) == Some(&true) {
                self.take_datagrams(index);
                self.drain();
            }
        }
        self.begin();
        self.live();
        let now = now();
        while let Some(event) = self.kernel.due(now.mono) {
            self.endpoint.handle_kernel(now, event);
        }
        self.endpoint.handle_timeout(now);
        self.drain();
        self.look();
    }

    /// Lets those come whose time it is, some at a time: what comes in must not wait behind them.
    fn begin(&mut self) {
        for _ in 0..BEGIN_PER_TURN_MAX {
            let now = now();
            let Some(at) = self.next_at(now.mono).filter(|at| *at <= now.mono) else {
                return;
            };
            let peer = self.next;
            self.next += u32::from(self.parts.threads);
            if self.next >= self.parts.scenario.peers.count {
                self.all_begun = Some(now.mono);
            }
            self.parts.live.begun.fetch_add(1, Ordering::Relaxed);
            self.come(now, peer, at, false);
        }
    }

    /// A peer begins.
    fn come(&mut self, now: Now, peer: u32, since: Instant, again: bool) {
        self.endpoint
            .handle_command(now, 0, Command::Initiate(peer));
        if let Some(spi) = self.drain() {
            let coming = Coming {
                peer,
                since,
                again,
                said: String::new(),
            };
            self.coming.insert(spi, coming);
        }
    }

    fn is_settled(&self) -> bool {
        self.next >= self.parts.scenario.peers.count && self.coming.is_empty()
    }

    /// The place of a peer among those of this thread.
    fn place_of(&self, peer: u32) -> usize {
        (peer / u32::from(self.parts.threads)) as usize
    }

    fn finish(&mut self) {
        let counts = &mut self.meter.counts;
        counts.sent_again = self.endpoint.stats().retransmit_request;
        let first = self.meter.handshakes.count() + self.meter.reconnects.count();
        counts.encapsulated = self.kernel.encapsulated;
        counts.child_rekeys = self.kernel.made.saturating_sub(first);
        // Whoever goes now goes by our wish.
        self.names.clear();
        if self.parts.scenario.steady.delete {
            self.endpoint.handle_command(now(), 0, Command::Shutdown);
            self.drain();
            self.outgoing.hurry(&self.parts.sockets);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread owns its clock")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// The longest sleep: the run may be over.
const LOOK_AFTER_MAX: Duration = Duration::from_millis(20);
/// Peers that come in one turn at most.
const BEGIN_PER_TURN_MAX: usize = 16;
