//! What gateways grant this host. Where the policy names an interface, the addresses are set on it;
//! once there is a Child SA that takes packets from them, routes lead there, and the name servers
//! are asked. What should stand is worked out anew after each change and compared with what does, so
//! a new IKE SA with the same gateway takes over whatever the old one had, without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::host::{Interfaces, Names};
use crate::ike::Level;
use crate::kernel::{ChildRemove, Grant, RequestId, SelectorPair};
use crate::log;
use crate::policy::IpNet;
use crate::route::link::Piece;
use crate::route::message::LinkAddress;
use crate::route::way::{Course, Prefix};
use crate::steer::ShardId;
use crate::wire::spi::EspSpi;

/// A grant by its shard and the shard's name for it.
pub type Name = (ShardId, RequestId);

/// All grants, and what is set on this host for them.
pub struct Grants {
    interfaces: Option<Box<dyn Interfaces>>,
    held: BTreeMap<Name, Held>,
    /// How many there have been.
    count: u64,
    /// Which grant a Child SA came with.
    children: BTreeMap<EspSpi, Name>,
    standing: BTreeSet<Piece>,
    /// What could not be set; it is tried again with each change, and said once.
    refused: BTreeSet<Piece>,
    /// What the resolver has been told, by interface.
    told: BTreeMap<String, Names>,
}

/// A grant, and where its packets go.
struct Held {
    grant: Grant,
    /// Younger ones have higher numbers.
    age: u64,
    /// Of its interface, if that is there.
    index: Option<u32>,
    /// Networks that its Child SAs lead to, and have led to.
    ways: BTreeSet<IpNet>,
    /// The gateway, as it was last seen from outside.
    peer: Option<IpAddr>,
}

impl Held {
    /// The granted address that packets of a family come from.
    fn source(&self, v4: bool) -> Option<IpAddr> {
        let mut addresses = self.grant.addresses.iter().map(|net| net.addr);
        addresses.find(|address| address.is_ipv4() == v4)
    }

    /// Whether packets of a selector pair come from a granted address, and a route can tell them
    /// from all others.
    fn leads(&self, pair: &SelectorPair) -> bool {
        let whole = pair.protocol == 0 && pair.local_port.is_none() && pair.remote_port.is_none();
        let mut addresses = self.grant.addresses.iter();
        whole && !pair.outward && addresses.any(|net| pair.local.contains(net.addr))
    }
}

impl Grants {
    /// None so far.
    pub fn new(interfaces: Option<Box<dyn Interfaces>>) -> Self {
        Self {
            interfaces,
            held: BTreeMap::new(),
            count: 0,
            children: BTreeMap::new(),
            standing: BTreeSet::new(),
            refused: BTreeSet::new(),
            told: BTreeMap::new(),
        }
    }

    /// The way to the interfaces is there from now on.
    pub(super) fn couple(&mut self, interfaces: Option<Box<dyn Interfaces>>) {
        self.interfaces = interfaces;
        for held in self.held.values_mut() {
            look(self.interfaces.as_deref(), held);
        }
        self.settle();
    }

    /// Keeps a grant and sets its addresses, where the policy names an interface for them.
    pub fn take(&mut self, name: Name, grant: Grant) {
        self.count += 1;
        let mut held = Held {
            grant,
            age: self.count,
            index: None,
            ways: BTreeSet::new(),
            peer: None,
        };
        look(self.interfaces.as_deref(), &mut held);
        self.held.insert(name, held);
        self.settle();
    }

    /// A Child SA of its IKE SA stands: routes lead into it, around for the gateway itself. They stay
    /// as long as the grant, for what is on the way to a Child SA must not go elsewhere meanwhile.
    pub fn lead(&mut self, name: Name, child: &ChildRemove) {
        let Some(held) = self.held.get_mut(&name) else {
            return;
        };
        held.peer = Some(child.remote);
        look(self.interfaces.as_deref(), held);
        // What Linux sends by the loopback interface is seen by no policy (NOXFRM), and by IPv6
        // routes it sends nothing there.
        if !child.transport && held.index != Some(LOOPBACK) {
            let pairs = child.selectors.iter().filter(|pair| held.leads(pair));
            let ways: Vec<IpNet> = pairs.map(|pair| pair.remote.network()).collect();
            held.ways.extend(ways);
        }
        self.children.insert(child.inbound_spi, name);
        self.settle();
    }

    /// A Child SA is about to go elsewhere, or has come back from there.
    pub fn follow(&mut self, inbound_spi: EspSpi, peer: IpAddr) {
        let name = self.children.get(&inbound_spi);
        let held = name.and_then(|name| self.held.get_mut(name));
        let Some(held) = held.filter(|held| held.peer != Some(peer)) else {
            return;
        };
        held.peer = Some(peer);
        self.settle();
    }

    /// A Child SA is gone.
    pub fn forget(&mut self, inbound_spi: EspSpi) {
        self.children.remove(&inbound_spi);
    }

    /// What is granted now, in the order of shards and age.
    pub fn all(&self) -> impl Iterator<Item = &Grant> {
        self.held.values().map(|held| &held.grant)
    }

    /// Takes away what was set for it and for no other grant.
    pub fn give_back(&mut self, name: Name) {
        if self.held.remove(&name).is_some() {
            self.children.retain(|_, of| *of != name);
            self.settle();
        }
    }

    /// The daemon ends.
    pub fn give_back_all(&mut self) {
        self.held.clear();
        self.children.clear();
        self.settle();
    }

    /// Those that have an interface, the oldest first.
    fn by_age(&self) -> Vec<(&Held, &str, u32)> {
        let there = self.held.values().filter_map(|held| {
            let iface = held.grant.iface.as_deref()?;
            Some((held, iface, held.index?))
        });
        let mut all: Vec<_> = there.collect();
        all.sort_by_key(|(held, ..)| held.age);
        all
    }

    /// What should stand. Where two grants lead to the same network the younger one does.
    fn wanted(&self) -> BTreeSet<Piece> {
        let all = self.by_age();
        let mut pieces = BTreeSet::new();
        let mut routes = BTreeMap::new();
        for (held, _, index) in &all {
            let index = *index;
            for net in &held.grant.addresses {
                pieces.insert(Piece::Address(LinkAddress {
                    index,
                    address: net.addr,
                    len: net.len,
                }));
            }
            for way in &held.ways {
                if let Some(source) = held.source(way.is_ipv4()) {
                    routes.insert(prefix(way), Course::Out { index, source });
                }
            }
        }
        for v4 in [true, false] {
            if routes.keys().any(|to| to.address.is_ipv4() == v4) {
                pieces.insert(Piece::Rule { v4 });
                let peers = all.iter().filter_map(|(held, ..)| held.peer);
                for peer in peers.filter(|peer| peer.is_ipv4() == v4) {
                    routes.insert(Prefix::host(peer), Course::Elsewhere);
                }
            }
        }
        let routes = routes.into_iter();
        pieces.extend(routes.map(|(to, course)| Piece::Route(course, to)));
        pieces
    }

    /// What the resolver should know of each interface.
    fn names(&self) -> BTreeMap<String, Names> {
        let mut all: BTreeMap<String, Names> = BTreeMap::new();
        for (held, iface, _) in self.by_age() {
            if held.ways.is_empty() || held.grant.name_servers.is_empty() {
                continue;
            }
            let names = all.entry(iface.to_owned()).or_default();
            names.all |= held.ways.iter().any(|way| way.len == 0);
            for server in &held.grant.name_servers {
                if !names.servers.contains(server) {
                    names.servers.push(*server);
                }
            }
            for domain in &held.grant.domains {
                names.all |= domain.name == ".";
                if domain.name != "." && !names.domains.contains(&domain.name) {
                    names.domains.push(domain.name.clone());
                }
            }
        }
        all
    }

    /// Sets what is missing, then takes away what is too much, and says what cannot be done. What
    /// somebody else set stays theirs.
    fn settle(&mut self) {
        let wanted = self.wanted();
        let names = self.names();
        let Some(interfaces) = &mut self.interfaces else {
            return;
        };
        let missing: Vec<Piece> = wanted.difference(&self.standing).copied().collect();
        for piece in missing {
            let before = self
                .standing
                .iter()
                .find(|other| is_instead(**other, piece));
            let before = before.copied();
            let result = match (piece, before) {
                (Piece::Route(course, to), Some(_)) => interfaces.replace(to, course),
                _ => interfaces.add(piece),
            };
            match result {
                Ok(()) => {
                    log::write(Level::Info, format!("{piece} set"));
                    self.refused.remove(&piece);
                    self.standing.insert(piece);
                    if let Some(before) = before {
                        self.standing.remove(&before);
                    }
                }
                Err(error) if self.refused.insert(piece) => {
                    log::write(Level::Warning, format!("{piece} not set: {error}"));
                }
                Err(_) => {}
            }
        }
        let left: Vec<Piece> = self.standing.difference(&wanted).copied().collect();
        for piece in left.into_iter().rev() {
            self.standing.remove(&piece);
            if let Err(error) = interfaces.remove(piece) {
                log::write(Level::Warning, format!("{piece} not taken away: {error}"));
            }
        }
        self.refused.retain(|piece| wanted.contains(piece));
        for (iface, names) in &names {
            if self.told.get(iface) != Some(names) {
                let line = format!("iface {iface}: name servers {names}");
                log::write(Level::Info, &line);
                interfaces.resolve(iface, Some(names.clone()));
            }
        }
        for iface in self.told.keys().filter(|iface| !names.contains_key(*iface)) {
            interfaces.resolve(iface, None);
        }
        self.told = names;
    }
}

/// Looks for the interface of a grant; one that was made anew has another number.
fn look(interfaces: Option<&dyn Interfaces>, held: &mut Held) {
    let (Some(iface), Some(interfaces)) = (&held.grant.iface, interfaces) else {
        return;
    };
    held.index = match interfaces.index_of(iface) {
        Ok(index) => Some(index),
        Err(error) => {
            log::write(Level::Warning, format!("iface {iface}: {error}"));
            None
        }
    };
}

/// Whether these are two routes for the same destination.
fn is_instead(one: Piece, other: Piece) -> bool {
    matches!((one, other), (Piece::Route(_, a), Piece::Route(_, b)) if a == b)
}

/// Number of the loopback interface of any network namespace.
const LOOPBACK: u32 = 1;

fn prefix(net: &IpNet) -> Prefix {
    Prefix {
        address: net.addr,
        len: net.len,
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
