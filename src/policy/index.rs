//! Finds the policies that a peer's address and identity leave in question, without a walk through
//! all of them: they stand in lists by the network of `peer` and by `dstid`. Which of them applies
//! is for `select` to say.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;

use super::{Identity, IpNet, Policy, Selection};
use crate::wire::registry::IdType;

/// The index of one configuration, made when it is first asked. A copy begins without: the policies
/// of a configuration that is copied may be changed before it is used.
#[derive(Default)]
pub struct Index(OnceLock<Lists>);

impl Clone for Index {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Index(..)")
    }
}

#[derive(Default)]
struct Lists {
    /// The networks that `peer` names anywhere, by family and length; `None` is any peer.
    shapes: Vec<Option<(bool, u8)>>,
    lists: HashMap<Place, Candidates>,
}

/// Where a policy stands.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    peer: Option<IpNet>,
    who: Who,
}

#[derive(PartialEq, Eq, Hash)]
enum Who {
    /// All policies for these peers, whatever their `dstid`.
    All,
    /// Those that an identity cannot be looked up for: without `dstid`, or with a name that is
    /// written in many ways.
    Open,
    /// Those with this `dstid`.
    Named(IdType, Vec<u8>),
}

/// Places in the file, ascending, by how the policy ends the walk.
#[derive(Default)]
pub(super) struct Candidates {
    quick: Vec<u32>,
    last: Vec<u32>,
    default: Vec<u32>,
    /// Of all these, those with a PPK.
    ppk: Vec<u32>,
    /// Those with several authentications.
    then: Vec<u32>,
}

impl Candidates {
    /// Those of one kind, ascending.
    pub(super) fn of(&self, selection: Selection) -> &[u32] {
        match selection {
            Selection::Quick => &self.quick,
            Selection::Last => &self.last,
            Selection::Default => &self.default,
            Selection::Skip => &[],
        }
    }

    /// Those with a PPK, ascending.
    pub(super) fn with_ppk(&self) -> &[u32] {
        &self.ppk
    }

    /// Those with several authentications, ascending.
    pub(super) fn with_then(&self) -> &[u32] {
        &self.then
    }

    fn add(&mut self, policy: &Policy, place: u32) {
        let counts = policy.selection != Selection::Skip;
        if counts && !policy.ppks.is_empty() {
            self.ppk.push(place);
        }
        if counts && !policy.then.is_empty() {
            self.then.push(place);
        }
        match policy.selection {
            Selection::Quick => self.quick.push(place),
            Selection::Last => self.last.push(place),
            Selection::Default => self.default.push(place),
            Selection::Skip => {}
        }
    }
}

impl Index {
    /// Makes the index now, where nobody waits for a handshake.
    pub(super) fn prepare(&self, policies: &[Arc<Policy>]) {
        self.0.get_or_init(|| Lists::new(policies));
    }

    /// How many policies are for exactly these peers.
    pub(super) fn count(&self, policies: &[Arc<Policy>], peer: Option<IpNet>) -> usize {
        let lists = self.0.get_or_init(|| Lists::new(policies));
        let peer = peer.map(|net| net.network());
        let place = Place {
            peer,
            who: Who::All,
        };
        let all = lists.lists.get(&place);
        all.map_or(0, |all| {
            all.quick.len() + all.last.len() + all.default.len()
        })
    }

    /// The lists that hold every policy which may apply to this peer, and others.
    pub(super) fn candidates(
        &self,
        policies: &[Arc<Policy>],
        peer: IpAddr,
        id: Option<&Identity>,
    ) -> Vec<&Candidates> {
        let lists = self.0.get_or_init(|| Lists::new(policies));
        let mut found = Vec::with_capacity(2 * lists.shapes.len());
        for shape in &lists.shapes {
            let net = match *shape {
                None => None,
                Some((v4, _)) if v4 != peer.is_ipv4() => continue,
                Some((_, len)) => Some(IpNet { addr: peer, len }.network()),
            };
            let whos = match id {
                None => [Some(Who::All), None],
                Some(id) => [Some(Who::Open), named(id)],
            };
            let places = whos.into_iter().flatten();
            let places = places.map(|who| Place { peer: net, who });
            found.extend(places.filter_map(|place| lists.lists.get(&place)));
        }
        found
    }
}

impl Lists {
    fn new(policies: &[Arc<Policy>]) -> Self {
        let mut lists = Self::default();
        for (place, policy) in (0..).zip(policies) {
            let peer = policy.peer.map(|net| net.network());
            let shape = peer.map(|net| (net.is_ipv4(), net.len));
            if !lists.shapes.contains(&shape) {
                lists.shapes.push(shape);
            }
            let who = policy.dstid.as_ref().and_then(named);
            for who in [Who::All, who.unwrap_or(Who::Open)] {
                let list = lists.lists.entry(Place { peer, who }).or_default();
                list.add(policy, place);
            }
        }
        lists
    }
}

/// The one way to write the name, if there is one ([`Identity::same`]).
fn named(id: &Identity) -> Option<Who> {
    match id.kind {
        IdType::DER_ASN1_DN => None,
        IdType::FQDN => Some(Who::Named(id.kind, id.data.to_ascii_lowercase())),
        _ => Some(Who::Named(id.kind, id.data.clone())),
    }
}
