//! The world: hosts, the network between them, and the queue of what happens next, ordered by time
//! and number. One step is one happening: it is handed to whom it concerns, what comes of it is
//! put into the queue, and the invariants are checked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::{self, Ledger, Received, Violation, demand};
use super::dice::Dice;
use super::host::{Host, Output, Route};
use super::kernel::Alarm;
use super::net::{Datagram, Net};
use super::plan::{self, Tunnel};
use super::report::Line;
use super::traffic;
use crate::ike::ike_sa::IkeSa;
use crate::ike::state::State;
use crate::ike::{Command, Endpoint, Event, News, Path};
use crate::kernel::KernelEvent;
use crate::lookup::port::{Answer, LookupId};
use crate::policy::Config;
use crate::steer::{self, ShardId};
use crate::time::Now;
use crate::wire::Header;
use crate::wire::spi::{EspSpi, IkeSpi};

/// Where the lines of a traced run go.
pub type Tracer = Box<dyn FnMut(&str) + Send>;

/// A world in motion.
pub struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) tunnels: Vec<Tunnel>,
    pub(super) net: Net,
    pub(super) now: Duration,
    pub(super) chaos: Duration,
    pub(super) pause: Duration,
    /// Mishaps still happen.
    pub(super) wild: bool,
    pub(super) mishaps: Dice,
    /// Datagrams seen on the wire, for forgers.
    pub(super) captured: VecDeque<Datagram>,
    /// When the last packet of each tunnel got in at each end.
    pub(super) delivered: BTreeMap<(usize, usize), Duration>,
    pub(super) dice: Dice,
    queue: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    ledger: Ledger,
    tracer: Option<Tracer>,
    steps: u64,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Happening {
    Arrive { host: usize, datagram: Datagram },
    Own { host: usize, life: u32, what: Inner },
    Restart { host: usize },
    Mishap,
}

/// Something inside one host in one of its lives.
#[derive(Debug)]
pub(super) enum Inner {
    Handed {
        shard: ShardId,
        path: Path,
        bytes: Vec<u8>,
        received: Received,
    },
    Wake {
        shard: ShardId,
        ticket: u64,
    },
    News {
        shard: ShardId,
        news: News,
    },
    Kernel,
    Answer {
        shard: ShardId,
        event: KernelEvent,
    },
    /// The outside answers.
    Found {
        shard: ShardId,
        id: LookupId,
        answer: Answer,
    },
    Alarm(Alarm),
    /// A command for every shard.
    Command(Command),
    /// The shard takes a new configuration.
    Reload {
        shard: ShardId,
        config: Arc<Config>,
    },
    /// An operator has a policy without IKE SA initiate.
    Initiate {
        shard: ShardId,
        policy: u32,
    },
    /// The hosts behind it send something through every tunnel.
    Traffic,
    /// The shards of a host begin to wait for their first deadline.
    Begin,
}

impl World {
    /// The world of this seed. `start` is the moment its time counts from.
    pub fn new(seed: u64, start: Instant) -> Self {
        let mut dice = Dice::new(seed);
        let plan = plan::draw(&mut dice.fork());
        let net = Net::new(&plan, dice.fork());
        let mishaps = dice.fork();
        let hosts = plan
            .hosts
            .into_iter()
            .map(|host| Host::new(host, dice.fork(), start));
        let mut world = Self {
            hosts: hosts.collect(),
            tunnels: plan.tunnels,
            net,
            now: Duration::ZERO,
            chaos: plan.chaos,
            pause: plan.pause,
            wild: true,
            mishaps,
            captured: VecDeque::new(),
            delivered: BTreeMap::new(),
            dice: dice.fork(),
            queue: BTreeMap::new(),
            sequence: 0,
            ledger: Ledger::default(),
            tracer: None,
            steps: 0,
        };
        for host in 0..world.hosts.len() {
            world.plan_own(host, Duration::ZERO, Inner::Begin);
        }
        world.plan(Duration::ZERO, Happening::Mishap);
        world
    }

    /// Tells `tracer` everything that happens.
    pub fn trace(&mut self, tracer: Tracer) {
        self.tracer = Some(tracer);
        for host in 0..self.hosts.len() {
            self.tell(|world| format!("plan {:?}", world.hosts[host].plan));
        }
    }

    /// Steps taken so far.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Time passed so far.
    pub const fn time(&self) -> Duration {
        self.now
    }

    pub(super) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.tracer.is_none() {
            return;
        }
        let line = format!("{:10.3} {}", self.now.as_secs_f64(), line(self));
        if let Some(tracer) = &mut self.tracer {
            tracer(&line);
        }
    }

    pub(super) fn plan(&mut self, after: Duration, what: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), what);
    }

    pub(super) fn plan_own(&mut self, host: usize, after: Duration, what: Inner) {
        let life = self.hosts[host].life;
        self.plan(after, Happening::Own { host, life, what });
    }

    /// Runs until this moment.
    pub(super) fn run_until(&mut self, until: Duration) -> Result<(), Violation> {
        while let Some(entry) = self.queue.first_entry() {
            let at = entry.key().0;
            if at > until {
                break;
            }
            let what = entry.remove();
            self.now = at;
            self.steps += 1;
            demand!(self.steps < STEPS_MAX, "it never ends");
            self.happen(what)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<(), Violation> {
        let frozen = match &what {
            Happening::Arrive { host, .. } | Happening::Own { host, .. } => {
                self.hosts[*host].frozen_until
            }
            Happening::Restart { .. } | Happening::Mishap => Duration::ZERO,
        };
        if frozen > self.now {
            let after = frozen - self.now;
            self.plan(after, what);
            return Ok(());
        }
        match what {
            Happening::Arrive { host, datagram } => self.arrive(host, datagram),
            Happening::Own { host, life, what } => {
                let alive = self.hosts[host].up && self.hosts[host].life == life;
                if alive {
                    self.inner(host, what)
                } else {
                    Ok(())
                }
            }
            Happening::Restart { host } => {
                self.tell(|world| format!("{} starts again", world.hosts[host].plan.name));
                let now = self.now;
                self.hosts[host].boot(now);
                self.plan_own(host, Duration::ZERO, Inner::Begin);
                Ok(())
            }
            Happening::Mishap => self.mishap(),
        }
    }

    fn inner(&mut self, host: usize, what: Inner) -> Result<(), Violation> {
        match what {
            Inner::Handed {
                shard,
                path,
                mut bytes,
                received,
            } => self.act(host, shard, Some(received), |endpoint, now| {
                endpoint.handle_datagram(now, path, &mut bytes);
            }),
            Inner::Wake { shard, ticket } => {
                let state = &mut self.hosts[host].shards[usize::from(shard.0)];
                if state.ticket != ticket {
                    return Ok(());
                }
                state.deadline = None;
                self.act(host, shard, None, |endpoint, now| {
                    endpoint.handle_timeout(now)
                })
            }
            Inner::News { shard, news } => self.act(host, shard, None, |endpoint, now| {
                endpoint.handle_news(now, news);
            }),
            Inner::Kernel => self.kernel(host),
            Inner::Answer { shard, event } => {
                self.tell(|world| format!("{} kernel: {event:?}", world.hosts[host].plan.name));
                self.act(host, shard, None, |endpoint, now| {
                    endpoint.handle_kernel(now, event)
                })
            }
            Inner::Found { shard, id, answer } => {
                self.tell(|world| format!("{} outside: {answer:?}", world.hosts[host].plan.name));
                self.act(host, shard, None, |endpoint, now| {
                    endpoint.handle_lookup(now, id, answer);
                })
            }
            Inner::Alarm(alarm) => {
                if let Some(KernelEvent::Expire { spi, hard }) = self.hosts[host].kernel.ring(alarm)
                {
                    self.expire(host, spi, hard);
                }
                Ok(())
            }
            Inner::Command(command) => self.command(host, &command),
            Inner::Reload { shard, config } => self.act(host, shard, None, |endpoint, now| {
                endpoint.handle_config(now, config);
            }),
            Inner::Initiate { shard, policy } => self.initiate(host, shard, policy),
            Inner::Traffic => {
                self.traffic(host);
                Ok(())
            }
            Inner::Begin => {
                self.plan_own(host, Duration::ZERO, Inner::Traffic);
                for shard in self.hosts[host].shard_ids() {
                    self.act(host, shard, None, |_, _| {})?;
                }
                Ok(())
            }
        }
    }

    fn initiate(&mut self, host: usize, shard: ShardId, policy: u32) -> Result<(), Violation> {
        // Whoever asks for a second IKE SA gets it, and both are kept: that is no disorder, but it
        // is no use here either.
        let shards = self.hosts[host].shards.iter();
        let all: Vec<_> = shards.flat_map(|shard| shard.endpoint.ike_sas()).collect();
        let serves =
            |sa: &IkeSa| sa.policy.index == policy && !matches!(sa.state, State::Deleting(_));
        if all.into_iter().any(serves) {
            return Ok(());
        }
        self.tell(|world| format!("{} initiates", world.hosts[host].plan.name));
        self.act(host, shard, None, |endpoint, now| {
            endpoint.handle_command(now, 1, Command::Initiate(policy));
        })
    }

    /// As the kernel thread does: the tag of the SPI says which shard is told, right or wrong.
    pub(super) fn expire(&mut self, host: usize, spi: EspSpi, hard: bool) {
        let shards = self.hosts[host].plan.shards;
        if let Some(shard) = steer::shard_of_esp_spi(spi).filter(|shard| shard.0 < shards) {
            let event = KernelEvent::Expire { spi, hard };
            self.plan_own(host, Duration::ZERO, Inner::Answer { shard, event });
        }
    }

    pub(super) fn command(&mut self, host: usize, command: &Command) -> Result<(), Violation> {
        self.tell(|world| format!("{} command: {command:?}", world.hosts[host].plan.name));
        for shard in self.hosts[host].shard_ids() {
            let command = command.clone();
            self.act(host, shard, None, |endpoint, now| {
                endpoint.handle_command(now, 1, command);
            })?;
        }
        Ok(())
    }

    /// A shard in its turn: does something, and what comes of it goes where it belongs.
    pub(super) fn act(
        &mut self,
        host: usize,
        shard: ShardId,
        received: Option<Received>,
        what: impl FnOnce(&mut Endpoint, Now),
    ) -> Result<(), Violation> {
        let now = self.hosts[host].now(self.now);
        let Some(state) = self.hosts[host].shards.get_mut(usize::from(shard.0)) else {
            return Ok(());
        };
        state.shown = None;
        what(&mut state.endpoint, now);
        let output = self.hosts[host].drain(shard);
        if self.tracer.is_some() {
            self.tell_output(host, shard, &output);
        }
        self.ledger
            .output(host, &self.hosts[host], shard, &output, received)?;
        check::shard(&self.hosts[host], shard)?;
        self.dispatch(host, shard, output);
        self.set_alarm_clock(host, shard)
    }

    fn dispatch(&mut self, host: usize, shard: ShardId, output: Output) {
        for datagram in output.sent {
            if self.captured.len() >= CAPTURED_MAX {
                self.captured.pop_front();
            }
            self.captured.push_back(datagram.clone());
            for delivery in self.net.send(self.now, host, datagram) {
                let (host, datagram) = (delivery.host, delivery.datagram);
                self.plan(delivery.after, Happening::Arrive { host, datagram });
            }
        }
        for request in output.requests {
            let at = self.hosts[host].kernel.ask(self.now, shard, request);
            self.plan_own(host, at.saturating_sub(self.now), Inner::Kernel);
        }
        for lookup in output.lookups {
            let plan = self.hosts[host].plan.lookup;
            for (after, id, answer) in plan.answers(&mut self.dice, self.wild, &lookup) {
                self.plan_own(host, after, Inner::Found { shard, id, answer });
            }
        }
        for event in output.events {
            let Event::News(news) = event else {
                continue;
            };
            let heard = |other: &ShardId| news.to().is_none_or(|to| to == *other);
            let others = self.hosts[host].shard_ids();
            for other in others.filter(|other| *other != shard).filter(heard) {
                let after = self.dice.millis(0, 20);
                let news = news.clone();
                let what = Inner::News { shard: other, news };
                self.plan_own(host, after, what);
            }
        }
    }

    fn set_alarm_clock(&mut self, host: usize, shard: ShardId) -> Result<(), Violation> {
        let (start, now) = (self.hosts[host].now(Duration::ZERO).mono, self.now);
        let late = self.dice.millis(0, 20);
        let state = &mut self.hosts[host].shards[usize::from(shard.0)];
        let deadline = state.endpoint.poll_timeout();
        let deadline = deadline.map(|(at, _)| at.saturating_duration_since(start));
        if deadline == state.deadline {
            return Ok(());
        }
        state.deadline = deadline;
        state.ticket += 1;
        let ticket = state.ticket;
        let Some(at) = deadline else { return Ok(()) };
        if at > now {
            state.spins = (now, 0);
        } else {
            state.spins.1 += 1;
            demand!(
                state.spins.1 < SPINS_MAX,
                "{} {shard:?} wakes again and again and does nothing about it",
                self.hosts[host].plan.name
            );
        }
        let after = at.saturating_sub(now) + late;
        self.plan_own(host, after, Inner::Wake { shard, ticket });
        Ok(())
    }

    fn kernel(&mut self, host: usize) -> Result<(), Violation> {
        while let Some(done) = self.hosts[host].kernel.work(self.now) {
            for alarm in done.alarms {
                self.plan_own(host, alarm.after, Inner::Alarm(alarm));
            }
            if let Some((shard, event)) = done.answer {
                let after = self.dice.millis(0, 3);
                self.plan_own(host, after, Inner::Answer { shard, event });
            }
            if let Some(spi) = done.added {
                check::both_ends(&self.hosts, host, spi)?;
            }
        }
        Ok(())
    }

    fn arrive(&mut self, host: usize, datagram: Datagram) -> Result<(), Violation> {
        let Some(to) = self.net.inward(self.now, host, &datagram) else {
            return Ok(());
        };
        if !self.hosts[host].up {
            return Ok(());
        }
        if traffic::is_esp(to, &datagram) {
            self.esp(host, &datagram);
            return Ok(());
        }
        let (shard, path, bytes, forwarded) = match self.hosts[host].route(to, &datagram) {
            Route::Nowhere => return Ok(()),
            Route::Here(shard, path, bytes) => (shard, path, bytes, false),
            Route::Forwarded(shard, path, bytes) => (shard, path, bytes, true),
        };
        let received = Received {
            len: datagram.bytes.len(),
            forged: datagram.forged,
            sa_init: check::is_sa_init(&bytes),
        };
        self.tell(|world| {
            let forged = if datagram.forged { " FORGED" } else { "" };
            let name = &world.hosts[host].plan.name;
            format!(
                "{name}/{} < {} {}{forged}",
                shard.0,
                datagram.from,
                describe(&bytes)
            )
        });
        let what = Inner::Handed {
            shard,
            path,
            bytes,
            received,
        };
        if forwarded {
            let after = self.dice.millis(0, 5);
            self.plan_own(host, after, what);
            return Ok(());
        }
        self.inner(host, what)
    }

    /// What `ikectl show sa` says now, shard by shard; checked against everything else.
    pub(super) fn show(&mut self, host: usize) -> Result<Vec<Vec<Line>>, Violation> {
        let mut shown = Vec::new();
        for shard in self.hosts[host].shard_ids() {
            let now = self.hosts[host].now(self.now);
            let state = &self.hosts[host].shards[usize::from(shard.0)];
            if let Some(lines) = state.remembered(now) {
                shown.push(lines);
                continue;
            }
            // What is due first: the list is of one moment.
            self.act(host, shard, None, |endpoint, now| {
                endpoint.handle_timeout(now)
            })?;
            let now = self.now;
            self.hosts[host].ask_to_show(shard, now);
            let mut lines = None;
            for _ in 0..SHOW_TURNS_MAX {
                self.act(host, shard, None, |endpoint, now| {
                    endpoint.handle_timeout(now)
                })?;
                lines = self.hosts[host].shown(shard);
                if lines.is_some() {
                    break;
                }
            }
            let Some(lines) = lines else {
                return Err(Violation("show sa never ends".to_owned()));
            };
            self.hosts[host].shards[usize::from(shard.0)].shown = Some(lines.clone());
            shown.push(lines);
        }
        check::host(&self.hosts[host], &shown)?;
        Ok(shown)
    }

    fn tell_output(&mut self, host: usize, shard: ShardId, output: &Output) {
        let name = format!("{}/{}", self.hosts[host].plan.name, shard.0);
        for event in &output.events {
            if let Event::Log { line, .. } = event {
                self.tell(|_| format!("{name} : {line}"));
            }
        }
        for datagram in &output.sent {
            let ike = datagram
                .bytes
                .strip_prefix(&[0; 4])
                .unwrap_or(&datagram.bytes);
            self.tell(|_| format!("{name} > {} {}", datagram.to, describe(ike)));
        }
        for request in &output.requests {
            self.tell(|_| format!("{name} kernel < {}", describe_request(request)));
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({} hosts at {:?})", self.hosts.len(), self.now)
    }
}

/// One line about an IKE message, from its header.
fn describe(ike: &[u8]) -> String {
    let Ok(header) = Header::peek(ike) else {
        return format!("{} bytes", ike.len());
    };
    let spi = |spi: Option<IkeSpi>| spi.map_or(0, IkeSpi::value) >> 40;
    format!(
        "{} {}{} {:06x}/{:06x} from {} ({} bytes)",
        header.exchange,
        if header.flags.response {
            "resp "
        } else {
            "req "
        },
        header.message_id,
        spi(header.initiator_spi),
        spi(header.responder_spi),
        if header.flags.initiator { "i" } else { "r" },
        ike.len()
    )
}

fn describe_request(request: &crate::kernel::KernelRequest) -> String {
    use crate::kernel::KernelRequest::{
        AddChild, AddOutbound, Count, Couple, DeleteChild, Grant, LastCount, MoveChild, Return,
        SetTraps,
    };
    match request {
        AddChild { id, child } => format!(
            "add {:?} in {} out {}{} soft {:?}",
            id,
            child.names.inbound_spi,
            child.names.outbound_spi,
            if child.receive_only {
                " receive only"
            } else {
                ""
            },
            child.lifetime_soft
        ),
        AddOutbound { child } => format!("add outbound {}", child.names.outbound_spi),
        MoveChild { child, to } => format!("move {} to {to:?}", child.inbound_spi),
        DeleteChild { child } => format!("delete {}", child.inbound_spi),
        LastCount { child, .. } => format!("last count {child}"),
        Count { children, .. } => format!("count {children:?}"),
        SetTraps { traps } => format!("{} traps", traps.len()),
        Grant { id, grant } => format!("{id:?} grants {grant}"),
        Couple { .. } => "couple".to_owned(),
        Return { id } => format!("{id:?} grants no more"),
    }
}

/// Steps of one world; a hundred times what one takes.
const STEPS_MAX: u64 = 2_000_000;
/// Turns in which a shard is due at once again.
const SPINS_MAX: u32 = 200;
/// Turns in which `show sa` must be done.
const SHOW_TURNS_MAX: usize = 50;
/// Datagrams that forgers remember.
const CAPTURED_MAX: usize = 64;
