//! What we have put into the kernel: every Child SA, and for each selector pair the Child SAs that
//! want its policies, the youngest last. The kernel keeps one policy per selector, so two Child
//! SAs with the same one (a rekey, two peers behind one NAT) share it, and the youngest has it. A
//! trap has it while no Child SA does. Selector pairs that the SPD cannot tell apart, because only
//! one of them is for what goes out alone, are one here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use crate::kernel::{ChildRemove, Outer, SelectorPair, TRAP_TAG, Trap};
use crate::steer::ShardId;
use crate::wire::registry::ProtocolId;
use crate::wire::spi::{Cpi, EspSpi};

/// The Child SAs in the kernel, by inbound SPI, and what is not yet as it should be.
#[derive(Debug, Default)]
pub struct Mirror {
    children: BTreeMap<EspSpi, ChildRemove>,
    outbound: HashSet<(IpAddr, EspSpi)>,
    comps: HashSet<(IpAddr, Cpi)>,
    pairs: HashMap<SelectorPair, Wanted>,
    touched: HashSet<SelectorPair>,
    /// Selector pairs of the traps of each shard.
    traps: BTreeMap<ShardId, Vec<Trap>>,
    /// Which trap is meant, by the reqid in its policy.
    reqids: HashMap<u32, SelectorPair>,
    trap_count: u32,
}

/// Who wants policies for a selector pair, and what the kernel has.
#[derive(Debug)]
struct Wanted {
    owners: Vec<EspSpi>,
    /// The first has the policy where there is no owner.
    traps: Vec<(ShardId, Trap)>,
    standing: Standing,
}

impl Wanted {
    const fn new() -> Self {
        Self {
            owners: Vec::new(),
            traps: Vec::new(),
            standing: Standing::Nothing,
        }
    }
}

/// What the kernel has for a selector pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Nothing,
    Policies(Template),
    /// A trap; its reqid is never used again. The kernel asks only once in a while for an SA of one
    /// reqid (net.core.xfrm_acq_expires), and must not take a new trap for one it has asked for.
    Trap(Trap, u32),
    /// A failed addition wrote and took back, perhaps what was another's.
    Unknown,
}

/// What a policy says beside its selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Template {
    protocol: ProtocolId,
    transport: bool,
    local: IpAddr,
    remote: IpAddr,
    reqid: u32,
    ipcomp: bool,
    outward: bool,
}

/// What must still happen so that the policies in the kernel are as the mirror says.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Child SAs that get policies (back), each with the selector pairs in question.
    pub restore: Vec<ChildRemove>,
    /// Traps that take the place of policies, or of nothing, each with its reqid.
    pub traps: Vec<(Trap, u32)>,
    /// Keys of selector pairs that nobody wants any more.
    pub unowned: HashSet<SelectorPair>,
}

impl Mirror {
    /// Whether one of these SAs is there already.
    pub fn clashes(&self, child: &ChildRemove) -> bool {
        self.children.contains_key(&child.inbound_spi)
            || self.outbound.contains(&(child.remote, child.outbound_spi))
            || child.comps().any(|comp| self.comps.contains(&comp))
    }

    /// Whether the Child SA with this inbound SPI is there.
    pub fn holds(&self, inbound_spi: EspSpi) -> bool {
        self.children.contains_key(&inbound_spi)
    }

    /// Takes in a Child SA that is about to be added; returns the selector pairs whose policies
    /// must be written for it. The others stand already as it wants them.
    pub fn admit(&mut self, child: &ChildRemove) -> Vec<SelectorPair> {
        let mut write = Vec::new();
        for pair in &child.selectors {
            let template = template(child, *pair);
            let wanted = self.pairs.entry(pair.key()).or_insert_with(Wanted::new);
            if wanted.standing != Standing::Policies(template) {
                if let Standing::Trap(_, reqid) = wanted.standing {
                    self.reqids.remove(&reqid);
                }
                wanted.standing = Standing::Policies(template);
                write.push(*pair);
            }
            wanted.owners.push(child.inbound_spi);
        }
        self.outbound.insert((child.remote, child.outbound_spi));
        self.comps.extend(child.comps());
        self.children.insert(child.inbound_spi, child.clone());
        write
    }

    /// Whether the way that a Child SA is to go is taken by another.
    pub fn is_taken(&self, inbound_spi: EspSpi, to: Outer) -> bool {
        let child = self.children.get(&inbound_spi);
        child.is_some_and(|child| {
            let mut comps = child.moved(to).comps().zip(child.comps());
            to.remote != child.remote && self.outbound.contains(&(to.remote, child.outbound_spi))
                || comps.any(|(after, before)| after != before && self.comps.contains(&after))
        })
    }

    /// Takes in that a Child SA moves. Returns it as it was before, with only those selector pairs
    /// whose policies must be written anew: those that are its own, and not a younger one's.
    /// `None`: it is not there.
    pub fn shift(&mut self, inbound_spi: EspSpi, to: Outer) -> Option<ChildRemove> {
        let child = self.children.get_mut(&inbound_spi)?;
        let after = child.moved(to);
        let mut before = std::mem::replace(child, after);
        let after = child.clone();
        self.outbound.remove(&(before.remote, before.outbound_spi));
        self.outbound.insert((to.remote, before.outbound_spi));
        for comp in before.comps() {
            self.comps.remove(&comp);
        }
        self.comps.extend(child.comps());
        let pairs = &mut self.pairs;
        before.selectors.retain(|pair| {
            let own = pairs.get_mut(&pair.key());
            let own = own.filter(|wanted| wanted.owners.last() == Some(&inbound_spi));
            own.is_some_and(|wanted| {
                let right = Standing::Policies(template(&after, *pair));
                std::mem::replace(&mut wanted.standing, right) != right
            })
        });
        Some(before)
    }

    /// Lets a Child SA go; `None`: it is not there. [`Self::settle`] tells what follows.
    pub fn retire(&mut self, inbound_spi: EspSpi) -> Option<ChildRemove> {
        let child = self.children.remove(&inbound_spi)?;
        self.outbound.remove(&(child.remote, child.outbound_spi));
        for comp in child.comps() {
            self.comps.remove(&comp);
        }
        for pair in &child.selectors {
            if let Some(wanted) = self.pairs.get_mut(&pair.key()) {
                wanted.owners.retain(|spi| *spi != inbound_spi);
            }
            self.touched.insert(pair.key());
        }
        Some(child)
    }

    /// These selector pairs may have any policies now: their addition failed half-way.
    pub fn doubt(&mut self, selectors: &[SelectorPair]) {
        for pair in selectors {
            if let Some(wanted) = self.pairs.get_mut(&pair.key()) {
                wanted.standing = Standing::Unknown;
                self.touched.insert(pair.key());
            }
        }
    }

    /// Takes in that this shard wants these traps and no others. [`Self::settle`] tells what follows.
    pub fn set_traps(&mut self, shard: ShardId, traps: Vec<Trap>) {
        let before = self.traps.remove(&shard).unwrap_or_default();
        for trap in before {
            if let Some(wanted) = self.pairs.get_mut(&trap.pair.key()) {
                wanted.traps.retain(|(owner, _)| *owner != shard);
            }
            self.touched.insert(trap.pair.key());
        }
        for trap in &traps {
            let wanted = self
                .pairs
                .entry(trap.pair.key())
                .or_insert_with(Wanted::new);
            wanted.traps.push((shard, *trap));
            self.touched.insert(trap.pair.key());
        }
        self.traps.insert(shard, traps);
    }

    /// The trap with this reqid, if it stands, and the shard that set it.
    pub fn trapped(&self, reqid: u32) -> Option<(ShardId, Trap)> {
        let wanted = self.pairs.get(self.reqids.get(&reqid)?)?;
        let stands = matches!(wanted.standing, Standing::Trap(_, own) if own == reqid);
        wanted.traps.first().copied().filter(|_| stands)
    }

    /// Where the Child SA with this inbound SPI is.
    pub fn child(&self, inbound_spi: EspSpi) -> Option<&ChildRemove> {
        self.children.get(&inbound_spi)
    }

    /// What must be done for the selector pairs touched since the last time; taken as done.
    pub fn settle(&mut self) -> Settlement {
        let mut restore: BTreeMap<EspSpi, Vec<SelectorPair>> = BTreeMap::new();
        let mut unowned = HashSet::new();
        let mut traps = Vec::new();
        for pair in std::mem::take(&mut self.touched) {
            let Some(wanted) = self.pairs.get_mut(&pair) else {
                continue;
            };
            let Some(youngest) = wanted.owners.last() else {
                if let Standing::Trap(stands, reqid) = wanted.standing {
                    if wanted
                        .traps
                        .first()
                        .is_some_and(|(_, trap)| *trap == stands)
                    {
                        continue;
                    }
                    self.reqids.remove(&reqid);
                }
                if let Some((_, trap)) = wanted.traps.first() {
                    self.trap_count = self.trap_count.wrapping_add(1);
                    let reqid = TRAP_TAG | self.trap_count & 0x00ff_ffff;
                    wanted.standing = Standing::Trap(*trap, reqid);
                    self.reqids.insert(reqid, pair);
                    traps.push((*trap, reqid));
                } else {
                    self.pairs.remove(&pair);
                    unowned.insert(pair);
                }
                continue;
            };
            let Some(child) = self.children.get(youngest) else {
                continue;
            };
            let own = child.selectors.iter().find(|own| own.key() == pair);
            let own = own.copied().unwrap_or(pair);
            let right = Standing::Policies(template(child, own));
            if wanted.standing != right {
                wanted.standing = right;
                restore.entry(*youngest).or_default().push(own);
            }
        }
        let mut settlement = Settlement {
            restore: Vec::new(),
            traps,
            unowned,
        };
        for (spi, selectors) in restore {
            if let Some(child) = self.children.get(&spi) {
                settlement.restore.push(ChildRemove {
                    selectors,
                    ..child.clone()
                });
            }
        }
        settlement
    }

    /// Everything, for the end: after this nothing is there. Child SAs, and selector pairs of traps.
    pub fn drain(&mut self) -> (Vec<ChildRemove>, Vec<SelectorPair>) {
        let Self {
            children, traps, ..
        } = std::mem::take(self);
        let pairs = traps.into_values().flatten().map(|trap| trap.pair);
        (children.into_values().collect(), pairs.collect())
    }

    /// All Child SAs, as they are now.
    pub fn children(&self) -> impl Iterator<Item = &ChildRemove> {
        self.children.values()
    }

    /// How many Child SAs there are.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }
}

fn template(child: &ChildRemove, pair: SelectorPair) -> Template {
    Template {
        protocol: child.protocol,
        transport: child.transport,
        local: child.local,
        remote: child.remote,
        reqid: child.reqid,
        ipcomp: child.ipcomp.is_some(),
        outward: pair.outward,
    }
}
