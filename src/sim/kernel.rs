//! A kernel that remembers: the SAs of one host, their lifetimes, and all the ways it can fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::dice::Dice;
use super::net::Datagram;
use super::plan::KernelPlan;
use crate::kernel::{
    ChildInstall, ChildRemove, Count, Grant, KernelError, KernelEvent, KernelRequest, Outer,
    RequestId, SelectorPair, Trap, Volume,
};
use crate::steer::ShardId;
use crate::wire::spi::{EspSpi, IkeSpi};

/// The kernel and kernel thread of one host.
#[derive(Debug)]
pub struct FakeKernel {
    plan: KernelPlan,
    dice: Dice,
    /// Child SAs by inbound SPI.
    pub children: BTreeMap<EspSpi, Held>,
    queue: VecDeque<(Duration, ShardId, KernelRequest)>,
    /// What each shard wants packets held back for.
    traps: BTreeMap<ShardId, Vec<Trap>>,
    /// What gateways granted.
    pub grants: BTreeMap<(ShardId, RequestId), Grant>,
    /// Selectors that an SA was asked for, and until when it is not asked again.
    asked: Vec<(SelectorPair, Duration)>,
    /// Numbers the additions, so that the lifetimes of one are not taken for another's.
    serial: u64,
}

/// What it holds of one Child SA; its policies stand as long as this does.
#[derive(Debug)]
pub struct Held {
    /// As it was installed.
    pub install: ChildInstall,
    /// Which addition this is.
    pub serial: u64,
    /// The inbound SA is there.
    pub inbound: bool,
    /// The outbound SA is there.
    pub outbound: bool,
    /// Sequence number of the last packet sent.
    sent: u32,
    /// Sequence numbers of packets received.
    seen: BTreeSet<u32>,
}

/// A packet that got in.
#[derive(Clone, Copy, Debug)]
pub struct Inside {
    /// By this Child SA.
    pub child: EspSpi,
    /// It came from elsewhere than the last.
    pub mapping: bool,
}

impl Held {
    /// Whether a request means this one, wherever its ends are thought to be.
    fn is(&self, child: &ChildRemove) -> bool {
        let names = &self.install.names;
        names.inbound_spi == child.inbound_spi && names.outbound_spi == child.outbound_spi
    }
}

/// What came of one request.
#[derive(Debug, Default)]
pub struct Done {
    /// The answer, and to whom.
    pub answer: Option<(ShardId, KernelEvent)>,
    /// The Child SA that stands now.
    pub added: Option<EspSpi>,
    /// Lifetimes that began.
    pub alarms: Vec<Alarm>,
}

/// A lifetime that will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// After how long.
    pub after: Duration,
    /// Of which Child SA, by inbound SPI.
    pub child: EspSpi,
    /// Which addition of it.
    pub serial: u64,
    /// Of its outbound SA; else the inbound one.
    pub outbound: bool,
    /// The end; else the time to replace it.
    pub hard: bool,
}

impl FakeKernel {
    /// An empty one.
    pub fn new(plan: KernelPlan, dice: Dice) -> Self {
        Self {
            plan,
            dice,
            children: BTreeMap::new(),
            queue: VecDeque::new(),
            traps: BTreeMap::new(),
            grants: BTreeMap::new(),
            asked: Vec::new(),
            serial: 0,
        }
    }

    /// From now on it does what it is asked, at once.
    pub fn heal(&mut self) {
        self.plan = KernelPlan {
            refuse: 0,
            slow: 0,
            mute: 0,
        };
    }

    /// Takes a request; returns when it will be done. Requests are done in order.
    pub fn ask(&mut self, now: Duration, shard: ShardId, request: KernelRequest) -> Duration {
        let mut pause = self.dice.millis(0, 5);
        if self.dice.chance(self.plan.slow) {
            pause += self.dice.millis(1_000, 25_000);
        }
        let last = self.queue.back().map_or(Duration::ZERO, |(at, ..)| *at);
        let at = last.max(now + pause);
        self.queue.push_back((at, shard, request));
        at
    }

    /// Requests not done yet.
    pub fn outstanding(&self) -> usize {
        self.queue.len()
    }

    /// Does the next request, if its time has come.
    pub fn work(&mut self, now: Duration) -> Option<Done> {
        self.queue.front().filter(|(at, ..)| *at <= now)?;
        let (_, shard, request) = self.queue.pop_front()?;
        let done = match request {
            KernelRequest::AddChild { id, child } => self.add(shard, id, *child),
            KernelRequest::AddOutbound { child } => self.add_outbound(&child),
            KernelRequest::MoveChild { child, to } => self.relocate(shard, &child, to),
            KernelRequest::DeleteChild { child } => {
                let spi = child.inbound_spi;
                let named = self.children.get(&spi);
                if named.is_some_and(|held| held.is(&child)) {
                    self.children.remove(&spi);
                }
                Done::default()
            }
            KernelRequest::Count { asker, children } => Done {
                answer: Some((shard, self.count(asker, &children))),
                ..Done::default()
            },
            KernelRequest::LastCount { account, child } => {
                let count = self.volumes(child);
                let event = KernelEvent::LastCount {
                    account,
                    child,
                    count,
                };
                Done {
                    answer: Some((shard, event)),
                    ..Done::default()
                }
            }
            KernelRequest::Couple { id } => Done {
                answer: Some((shard, KernelEvent::Coupled { id, result: Ok(()) })),
                ..Done::default()
            },
            KernelRequest::SetTraps { traps } => {
                self.traps.insert(shard, traps);
                Done::default()
            }
            KernelRequest::Grant { id, grant } => {
                self.grants.insert((shard, id), *grant);
                Done::default()
            }
            KernelRequest::Return { id } => {
                self.grants.remove(&(shard, id));
                Done::default()
            }
        };
        Some(done)
    }

    fn count(&self, asker: IkeSpi, children: &[EspSpi]) -> KernelEvent {
        let count = |spi: &EspSpi| self.volumes(*spi);
        let counts = children.iter().filter_map(count).collect();
        KernelEvent::Counts { asker, counts }
    }

    fn volumes(&self, spi: EspSpi) -> Option<Count> {
        let held = self.children.get(&spi)?;
        let volume = |packets: u64| Volume {
            packets,
            octets: packets * PACKET_LEN,
        };
        Some(Count {
            spi,
            inbound: volume(held.seen.len() as u64),
            outbound: volume(held.sent.into()),
        })
    }

    /// A packet found no SA to leave by: who set a trap for it, if anybody did and is not asked
    /// already.
    pub fn acquire(
        &mut self,
        now: Duration,
        fits: impl Fn(&[SelectorPair]) -> bool,
    ) -> Option<(ShardId, KernelEvent)> {
        self.asked.retain(|(_, until)| *until > now);
        let all = self.traps.iter();
        let mut all = all.flat_map(|(shard, traps)| traps.iter().map(|trap| (*shard, *trap)));
        let (shard, trap) = all.find(|(_, trap)| fits(&[trap.pair]))?;
        // A policy of a Child SA has taken its place, though nothing can leave by it now.
        let covers = |held: &Held| held.install.names.selectors.contains(&trap.pair);
        let asked = self.asked.iter().any(|(pair, _)| *pair == trap.pair);
        if asked || self.children.values().any(covers) {
            return None;
        }
        self.asked.push((trap.pair, now + ASK_AGAIN));
        Some((shard, KernelEvent::Wanted { trap }))
    }

    fn add(&mut self, shard: ShardId, id: RequestId, install: ChildInstall) -> Done {
        let (inbound, outbound) = (install.names.inbound_spi, install.names.outbound_spi);
        let taken = self.children.contains_key(&inbound)
            || self.children.values().any(|held| {
                let names = &held.install.names;
                names.outbound_spi == outbound && names.remote == install.names.remote
                    || names
                        .comps()
                        .any(|comp| install.names.comps().any(|new| new == comp))
            });
        let errno = match (taken, self.dice.chance(self.plan.refuse)) {
            (true, _) => Some(libc::EEXIST),
            (false, true) => Some(libc::ENOBUFS),
            (false, false) => None,
        };
        if let Some(errno) = errno {
            let action = "add SA";
            let error = KernelError { errno, action };
            let answer = Some((shard, KernelEvent::Failed { id, error }));
            return Done {
                answer,
                ..Done::default()
            };
        }
        self.serial += 1;
        let both = !install.receive_only;
        let mut alarms = self.alarms(&install, false);
        if both {
            alarms.extend(self.alarms(&install, true));
        }
        let held = Held {
            install,
            serial: self.serial,
            inbound: true,
            outbound: both,
            sent: 0,
            seen: BTreeSet::new(),
        };
        self.children.insert(inbound, held);
        let heard = !self.dice.chance(self.plan.mute);
        Done {
            answer: heard.then_some((shard, KernelEvent::Done { id })),
            added: Some(inbound),
            alarms,
        }
    }

    fn relocate(&mut self, shard: ShardId, child: &ChildRemove, to: Outer) -> Done {
        let refused = self.dice.chance(self.plan.refuse);
        let held = self.children.get_mut(&child.inbound_spi);
        let Some(held) = held.filter(|held| held.is(child)) else {
            return Done::default();
        };
        if refused {
            let spi = child.inbound_spi;
            let answer = Some((shard, KernelEvent::Expire { spi, hard: false }));
            return Done {
                answer,
                ..Done::default()
            };
        }
        held.install.names.local = to.local;
        held.install.names.remote = to.remote;
        held.install.encap = to.encap;
        Done::default()
    }

    fn add_outbound(&mut self, install: &ChildInstall) -> Done {
        let spi = install.names.inbound_spi;
        let Some(held) = self.children.get_mut(&spi) else {
            return Done::default();
        };
        held.outbound = true;
        let serial = held.serial;
        let mut alarms = self.alarms(install, true);
        for alarm in &mut alarms {
            alarm.serial = serial;
        }
        Done {
            answer: None,
            added: Some(spi),
            alarms,
        }
    }

    /// An ESP packet through the youngest Child SA with such selectors; `None`: there is no SA to
    /// send through.
    pub fn packet(&mut self, fits: impl Fn(&[SelectorPair]) -> bool) -> Option<Datagram> {
        let held = self.children.values_mut();
        let held = held.filter(|held| held.outbound && fits(&held.install.names.selectors));
        let held = held.max_by_key(|held| held.serial)?;
        held.sent += 1;
        let names = &held.install.names;
        let ports = held
            .install
            .encap
            .map(|encap| (encap.local_port, encap.remote_port));
        let (local_port, remote_port) = ports.unwrap_or((ESP, ESP));
        let head = [names.outbound_spi.to_bytes(), held.sent.to_be_bytes()];
        Some(Datagram {
            from: SocketAddr::new(names.local, local_port),
            to: SocketAddr::new(names.remote, remote_port),
            bytes: [head.concat(), vec![0; 92]].concat(),
            forged: false,
        })
    }

    /// Takes an ESP packet, if its SA is there and it is authentic and new.
    pub fn receive(&mut self, datagram: &Datagram) -> Option<Inside> {
        let (spi, rest) = datagram.bytes.split_first_chunk()?;
        let child = EspSpi::from_bytes(*spi)?;
        let sequence = u32::from_be_bytes(*rest.first_chunk()?);
        let held = self.children.get_mut(&child)?;
        if datagram.forged || !held.inbound || !held.seen.insert(sequence) {
            return None;
        }
        let names = &held.install.names;
        let encap = held.install.encap;
        let known = encap.map(|encap| SocketAddr::new(names.remote, encap.remote_port));
        let mapping = known.is_some_and(|known| known != datagram.from);
        Some(Inside { child, mapping })
    }

    fn alarms(&self, install: &ChildInstall, outbound: bool) -> Vec<Alarm> {
        let ends = [
            (install.lifetime_soft, false),
            (install.lifetime_hard, true),
        ];
        let ends = ends.into_iter().filter(|(after, _)| !after.is_zero());
        let alarm = |(after, hard)| Alarm {
            after,
            child: install.names.inbound_spi,
            serial: self.serial,
            outbound,
            hard,
        };
        ends.map(alarm).collect()
    }

    /// A lifetime ends; returns what is reported of it. The kernel names the SA by its own SPI,
    /// which for an outbound one is the peer's.
    pub fn ring(&mut self, alarm: Alarm) -> Option<KernelEvent> {
        let held = self.children.get_mut(&alarm.child)?;
        if held.serial != alarm.serial {
            return None;
        }
        let names = &held.install.names;
        let (spi, there) = if alarm.outbound {
            (names.outbound_spi, &mut held.outbound)
        } else {
            (names.inbound_spi, &mut held.inbound)
        };
        if !*there {
            return None;
        }
        *there = !alarm.hard;
        let hard = alarm.hard;
        Some(KernelEvent::Expire { spi, hard })
    }
}

/// net.core.xfrm_acq_expires.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Bytes of a packet.
const PACKET_LEN: u64 = 100;
/// The port that stands for ESP without UDP.
pub const ESP: u16 = 0;
