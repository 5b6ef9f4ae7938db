//! One thread with a part of the peers: an [`Endpoint`] that begins, its sockets, and the clock. The
//! peers of a thread are those whose number has its remainder; a response finds its thread by SPI, as
//! in the daemon.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use iked::auth::store::CredentialStore;
use iked::crypto::{Rng, boring};
use iked::ike::state::State;
use iked::ike::{Command, Endpoint, EndpointParts, Event};
use iked::policy::{Config, Options};
use iked::shard;
use iked::shard::batch::{Drained, ReceiveBatch, SendBatch};
use iked::shard::socket::ShardSocket;
use iked::steer::ShardId;
use iked::time::Now;
use iked::wire::Header;
use iked::wire::spi::IkeSpi;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::kernel::Kernel;
use crate::meter::Meter;
use crate::scenario::Scenario;

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
    /// All peers are up or have failed, by thread.
    pub settled: AtomicU64,
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

/// A peer on its way.
struct Coming {
    peer: u32,
    since: Instant,
    /// The last that was said about it.
    said: String,
}

struct Engine {
    parts: Parts,
    endpoint: Endpoint,
    kernel: Kernel,
    meter: Meter,
    incoming: ReceiveBatch,
    outgoing: SendBatch,
    dice: Rng,
    next: u32,
    coming: BTreeMap<u64, Coming>,
    up: u64,
    /// When the last of our peers came.
    all_begun: Option<Instant>,
    /// When to look at those on their way again.
    look_at: Instant,
}

/// Runs until all peers are up or have failed, have stayed, and have gone; what it measured.
pub fn run(parts: Parts) -> io::Result<Meter> {
    let mut poll = Poll::new()?;
    for (index, socket) in parts.sockets.iter().enumerate() {
        let source = socket.raw_fd();
        let registry = poll.registry();
        registry.register(&mut SourceFd(&source), Token(index), Interest::READABLE)?;
    }
    let mut engine = Engine::new(parts);
    let mut events = Events::with_capacity(16);
    let mut settled = false;
    while !engine.parts.live.stop.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(engine.timeout(now().mono))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        engine.turn();
        if !settled && engine.is_settled() {
            settled = true;
            engine.parts.live.settled.fetch_add(1, Ordering::Relaxed);
        }
    }
    engine.finish();
    Ok(engine.meter)
}

impl Engine {
    fn new(parts: Parts) -> Self {
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
            provider: boring::provider(),
            rng: Rng::from_seed(seed(1)),
            cookie_seed: seed(2),
            now: now(),
        });
        Self {
            dice: Rng::from_seed(seed(3)),
            next: u32::from(parts.thread),
            parts,
            endpoint,
            kernel: Kernel::default(),
            meter: Meter::default(),
            incoming: ReceiveBatch::new(),
            outgoing: SendBatch::default(),
            coming: BTreeMap::new(),
            up: 0,
            all_begun: None,
            look_at: now().mono,
        }
    }

    /// How long there is nothing to do.
    fn timeout(&self, now: Instant) -> Duration {
        let mut timeout = LOOK_AFTER_MAX;
        let deadline = self.endpoint.poll_timeout().map(|(at, _)| at);
        let others = self.next_at(now).into_iter().chain(self.kernel.next());
        for at in deadline.into_iter().chain(others) {
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
            self.take_datagrams(index);
            self.drain();
        }
        self.begin();
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
            self.endpoint
                .handle_command(now, 0, Command::Initiate(peer));
            if let Some(spi) = self.drain() {
                let coming = Coming {
                    peer,
                    since: at,
                    said: String::new(),
                };
                self.coming.insert(spi, coming);
            }
        }
    }

    fn take_datagrams(&mut self, index: usize) {
        let mut more = true;
        let mut rounds = 0;
        while more && rounds < ROUNDS_MAX {
            rounds += 1;
            let Some(socket) = self.parts.sockets.get(index) else {
                return;
            };
            more = matches!(self.incoming.receive(socket), Ok(Drained::No));
            for at in 0..self.incoming.len() {
                self.take_datagram(index, at);
            }
        }
    }

    fn take_datagram(&mut self, index: usize, at: usize) {
        if self.is_lost() {
            return;
        }
        let Some(socket) = self.parts.sockets.get(index) else {
            return;
        };
        let marker = socket.marker;
        let Some((path, bytes)) = self.incoming.datagram(at, socket) else {
            return;
        };
        let Some(ike) = shard::strip(bytes, marker) else {
            return;
        };
        let now = now();
        let header = Header::peek(ike).ok();
        self.endpoint.handle_datagram(now, path, ike);
        self.answer_kernel();
        self.parts.live.heard.fetch_add(1, Ordering::Relaxed);
        if let Some(header) = header {
            self.meter.received(now.mono, &header);
            if let Some(spi) = header.initiator_spi {
                self.note(now.mono, spi);
            }
        }
    }

    /// Whether a datagram gets lost on its way.
    fn is_lost(&mut self) -> bool {
        let loss = self.parts.scenario.wire.loss;
        loss > 0.0 && (self.dice.u64() as f64 / u64::MAX as f64) < loss
    }

    /// Looks what became of an IKE SA that was on its way.
    fn note(&mut self, now: Instant, spi: IkeSpi) {
        if !self.coming.contains_key(&spi.value()) {
            return;
        }
        let sa = self.endpoint.ike_sa(spi);
        match sa.map(|sa| (&sa.state, sa.children.is_empty())) {
            Some((State::Established(_), false)) => {
                if let Some(coming) = self.coming.remove(&spi.value()) {
                    let took = now.saturating_duration_since(coming.since);
                    self.meter.handshakes.record(took);
                    self.up += 1;
                    self.parts.live.up.fetch_add(1, Ordering::Relaxed);
                }
            }
            Some((State::Established(_), true)) => {
                self.fail(spi.value(), "IKE_AUTH", "no Child SA")
            }
            Some((State::Deleting(_) | State::Closed, _)) | None => self.fail(spi.value(), "", ""),
            Some((
                State::AwaitSaInitResponse(_)
                | State::AwaitAuthRequest(_)
                | State::AwaitAuthResponse(_)
                | State::AwaitKernel(_),
                _,
            )) => {}
        }
    }

    fn fail(&mut self, spi: u64, exchange: &str, reason: &str) {
        self.drain();
        let Some(coming) = self.coming.remove(&spi) else {
            return;
        };
        let waits = self.meter.waits(spi).unwrap_or("IKE_AUTH");
        let exchange = if exchange.is_empty() { waits } else { exchange };
        let reason = if reason.is_empty() {
            &coming.said
        } else {
            reason
        };
        let policy = self.parts.config.policies.get(coming.peer as usize);
        let peer = policy.map_or("", |policy| &policy.name);
        self.meter.failed(exchange, reason, peer);
        self.meter.forget(spi);
        self.parts.live.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers what the endpoint asks of its kernel, and what it asks then.
    fn answer_kernel(&mut self) {
        let now = now();
        while let Some(request) = self.endpoint.poll_kernel() {
            if let Some(event) = self.kernel.ask(now.mono, request) {
                self.endpoint.handle_kernel(now, event);
            }
        }
    }

    /// Moves what the endpoint wants done to where it goes; the SPI of the last request.
    fn drain(&mut self) -> Option<u64> {
        self.answer_kernel();
        let mut last = None;
        let now = now().mono;
        loop {
            let mut buffer = self.outgoing.buffer();
            let Some(transmit) = self.endpoint.poll_transmit(&mut buffer) else {
                self.outgoing.recycle(buffer);
                break;
            };
            if let Ok(header) = Header::peek(&buffer) {
                self.meter.sent(now, &header);
                last = header.initiator_spi.map(IkeSpi::value);
            }
            if self.is_lost() {
                self.outgoing.recycle(buffer);
            } else {
                self.outgoing.push(transmit.path, buffer);
            }
        }
        self.outgoing.flush(&self.parts.sockets);
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Log { line, .. } = event {
                self.hear(&line);
            }
        }
        while self.endpoint.poll_reply().is_some() {}
        last
    }

    /// Keeps the last that was said of a peer that is on its way.
    fn hear(&mut self, line: &str) {
        let Some((spi, said)) = line
            .strip_prefix("spi=0x")
            .and_then(|rest| rest.split_once(": "))
        else {
            return;
        };
        let spi = u64::from_str_radix(spi, 16).unwrap_or(0);
        if let Some(coming) = self.coming.get_mut(&spi) {
            // How it ended matters less than why.
            if coming.said.is_empty() || !said.starts_with("sa_free") {
                said.clone_into(&mut coming.said);
            }
        }
    }

    /// Finds those that ended without a datagram, and those whose time is over.
    fn look(&mut self) {
        let patience = Duration::from_secs(self.parts.scenario.arrival.patience);
        let now = now().mono;
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_AFTER_MAX;
        let gone = self.coming.keys().filter(|spi| {
            let spi = IkeSpi::new(**spi);
            spi.is_none_or(|spi| self.endpoint.ike_sa(spi).is_none())
        });
        let gone: Vec<u64> = gone.copied().collect();
        for spi in gone {
            self.fail(spi, "", "");
        }
        if self.all_begun.is_some_and(|at| now > at + patience) {
            let late: Vec<u64> = self.coming.keys().copied().collect();
            for spi in late {
                self.fail(spi, "", "not up in time");
            }
        }
        let current = self.endpoint.stats().sa_established_current;
        let lost = self.up.saturating_sub(current);
        if lost > 0 {
            self.up -= lost;
            self.parts.live.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn is_settled(&self) -> bool {
        self.next >= self.parts.scenario.peers.count && self.coming.is_empty()
    }

    fn finish(&mut self) {
        if self.parts.scenario.steady.delete {
            self.endpoint.handle_command(now(), 0, Command::Shutdown);
            self.drain();
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
/// Batches taken from one socket in a turn.
const ROUNDS_MAX: usize = 4;
