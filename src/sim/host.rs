//! One host: its shards, each an [`Endpoint`], its kernel and its clock. What the shell does in
//! life (sockets, steering, the marker of the NAT-T port) is done here in a few lines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::dice::Dice;
use super::kernel::FakeKernel;
use super::net::Datagram;
use super::plan::HostPlan;
use super::report::{self, Line};
use crate::crypto::null;
use crate::ike::{Command, Endpoint, EndpointParts, Event, Path, Reply};
use crate::kernel::KernelRequest;
use crate::lookup::port::Lookup;
use crate::steer::{ShardId, Steer, Steering};
use crate::time::Now;

/// A host in one of its lives; a crash begins the next.
#[derive(Debug)]
pub struct Host {
    /// Its part of the plan.
    pub plan: HostPlan,
    /// Its shards.
    pub shards: Vec<Shard>,
    /// Its kernel.
    pub kernel: FakeKernel,
    /// Counts crashes; what was under way in an earlier life does not reach this one.
    pub life: u32,
    /// Runs; else it has crashed and will start again.
    pub up: bool,
    /// Stands still until then: nothing happens in it, and then everything at once.
    pub frozen_until: Duration,
    /// Seconds its wall clock is off.
    pub wall_shift: i64,
    steering: Steering,
    dice: Dice,
    start: Instant,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    /// The protocol.
    pub endpoint: Endpoint,
    /// The deadline it last told.
    pub deadline: Option<Duration>,
    /// Counts deadlines, so that one that was moved does not ring.
    pub ticket: u64,
    /// Wake-ups in a row without time passing.
    pub spins: (Duration, u32),
    /// Answers to commands.
    pub replies: Vec<Reply>,
    /// What `show sa` said, until something happens in it.
    pub shown: Option<Vec<Line>>,
}

impl Shard {
    /// What `show sa` would say at `now`, if nothing has happened since it was asked, and nothing
    /// is due.
    pub fn remembered(&self, now: Now) -> Option<Vec<Line>> {
        let due = self.endpoint.poll_timeout();
        let due = due.is_some_and(|(at, _)| at <= now.mono);
        self.shown.clone().filter(|_| !due)
    }
}

/// All that an endpoint wants done.
#[derive(Debug, Default)]
pub struct Output {
    /// Datagrams as they leave the host.
    pub sent: Vec<Datagram>,
    /// Kernel requests.
    pub requests: Vec<KernelRequest>,
    /// Questions to the outside.
    pub lookups: Vec<Lookup>,
    /// Events.
    pub events: Vec<Event>,
}

/// What becomes of a datagram that reaches a host.
#[derive(Debug)]
pub enum Route {
    /// The kernel or the socket eats it.
    Nowhere,
    /// This shard handles it.
    Here(ShardId, Path, Vec<u8>),
    /// One shard got it and hands it to its owner.
    Forwarded(ShardId, Path, Vec<u8>),
}

impl Host {
    /// A host that just started for the first time.
    pub fn new(plan: HostPlan, mut dice: Dice, start: Instant) -> Self {
        let kernel = FakeKernel::new(plan.kernel, dice.fork());
        let steering = Steering::new(plan.shards, 0x9e37_79b9);
        let mut host = Self {
            plan,
            shards: Vec::new(),
            kernel,
            life: 0,
            up: true,
            frozen_until: Duration::ZERO,
            wall_shift: 0,
            steering,
            dice,
            start,
        };
        host.boot(Duration::ZERO);
        host
    }

    /// Starts with empty state.
    pub fn boot(&mut self, now: Duration) {
        let now = self.now(now);
        let cookie_seed = self.dice.bytes();
        self.up = true;
        self.shards.clear();
        for number in 0..self.plan.shards {
            let endpoint = Endpoint::new(EndpointParts {
                shard: ShardId(number),
                shards: self.plan.shards,
                config: Arc::clone(&self.plan.config),
                options: Arc::clone(&self.plan.options),
                store: Arc::clone(&self.plan.store),
                provider: null::provider(),
                rng: self.dice.rng(),
                cookie_seed,
                now,
            });
            self.shards.push(Shard {
                endpoint,
                deadline: None,
                ticket: 0,
                spins: (Duration::ZERO, 0),
                replies: Vec::new(),
                shown: None,
            });
        }
    }

    /// Loses everything. The next start of the daemon clears what it finds of its own in the
    /// kernel, so that is gone too.
    pub fn crash(&mut self) {
        self.life += 1;
        self.up = false;
        self.shards.clear();
        self.kernel = FakeKernel::new(self.plan.kernel, self.dice.fork());
    }

    /// The time as this host knows it.
    pub fn now(&self, now: Duration) -> Now {
        let wall = 1_800_000_000 + self.wall_shift + i64::try_from(now.as_secs()).unwrap_or(0);
        let since_epoch = Duration::from_secs(u64::try_from(wall).unwrap_or(0));
        Now {
            mono: self.start + now,
            wall: SystemTime::UNIX_EPOCH + since_epoch,
        }
    }

    /// Which shard gets a datagram, and how.
    pub fn route(&mut self, to: SocketAddr, datagram: &Datagram) -> Route {
        let marker = to.port() == 4500;
        let bytes = datagram.bytes.as_slice();
        let ike = match (marker, bytes.split_first_chunk::<4>()) {
            (false, _) => bytes,
            (true, Some(([0, 0, 0, 0], ike))) => ike,
            // A keepalive, or ESP.
            (true, Some(_) | None) => return Route::Nowhere,
        };
        let path = Path {
            local: to,
            remote: datagram.from,
            marker,
        };
        let any = |dice: &mut Dice, shards: u8| {
            let shard = dice.below(usize::from(shards));
            ShardId(u8::try_from(shard).unwrap_or(0))
        };
        let owner = self.steering.owner_of(bytes, marker);
        let (Steer::Shard(owner) | Steer::Initial(owner)) = owner else {
            return Route::Here(any(&mut self.dice, self.plan.shards), path, ike.to_vec());
        };
        let astray = self.dice.chance(self.plan.astray);
        if astray && any(&mut self.dice, self.plan.shards) != owner {
            return Route::Forwarded(owner, path, ike.to_vec());
        }
        Route::Here(owner, path, ike.to_vec())
    }

    /// Takes everything a shard wants done.
    pub fn drain(&mut self, shard: ShardId) -> Output {
        let address = self.plan.address;
        let mut output = Output::default();
        let Some(shard) = self.shards.get_mut(usize::from(shard.0)) else {
            return output;
        };
        let mut buffer = Vec::new();
        while let Some(transmit) = shard.endpoint.poll_transmit(&mut buffer) {
            let path = transmit.path;
            let mut from = path.local;
            if from.ip().is_unspecified() {
                from.set_ip(address);
            }
            let marker: &[u8] = if path.marker { &[0; 4] } else { &[] };
            output.sent.push(Datagram {
                from,
                to: path.remote,
                bytes: [marker, &buffer].concat(),
                forged: false,
            });
        }
        while let Some(request) = shard.endpoint.poll_kernel() {
            output.requests.push(request);
        }
        while let Some(lookup) = shard.endpoint.poll_lookup() {
            output.lookups.push(lookup);
        }
        while let Some(event) = shard.endpoint.poll_event() {
            output.events.push(event);
        }
        while let Some((_, reply)) = shard.endpoint.poll_reply() {
            shard.replies.push(reply);
        }
        output
    }

    /// What `ikectl show sa` says of one shard so far, if the last chunk is there.
    pub fn shown(&mut self, shard: ShardId) -> Option<Vec<Line>> {
        let shard = self.shards.get_mut(usize::from(shard.0))?;
        let is_last = |reply: &Reply| matches!(reply, Reply::Text { more: false, .. });
        if !shard.replies.iter().any(is_last) {
            return None;
        }
        let mut text = Vec::new();
        for reply in std::mem::take(&mut shard.replies) {
            if let Reply::Text { lines, .. } = reply {
                text.extend(lines);
            }
        }
        Some(report::parse(&text))
    }

    /// Begins a `show sa` on one shard.
    pub fn ask_to_show(&mut self, shard: ShardId, now: Duration) {
        let now = self.now(now);
        if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
            shard.replies.clear();
            shard
                .endpoint
                .handle_command(now, 0, Command::ShowSa { json: false });
        }
    }

    /// The numbers of its shards.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        let count = u8::try_from(self.shards.len()).unwrap_or(0);
        (0..count).map(ShardId)
    }
}
