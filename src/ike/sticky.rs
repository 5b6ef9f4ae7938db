//! `set stickyaddress`: a peer that comes again gets the address that it had. The newer IKE SA takes
//! it over from the older one, which goes; of an IKE SA that is gone it stays held for a moment.
//!
//! The slices of a pool are the shards' own, so an address moves between shards only by being
//! handed over: the shard where the peer has come asks all, and one of them may cede it. Then it is
//! in the hands of that shard, and stays leased in the slice it is of until it is returned there.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::lease::Lease;
use crate::policy::{Identity, IpNet};

/// Addresses whose peers are gone, by identity, for six seconds.
#[derive(Debug, Default)]
pub struct Held {
    leases: BTreeMap<Identity, (Lease, Instant)>,
    /// In the order in which they end; some were taken before.
    ends: VecDeque<(Instant, Identity)>,
}

impl Held {
    /// Holds what a peer had; returns what was held for it before.
    pub fn hold(&mut self, now: Instant, identity: Identity, lease: Lease) -> Option<Lease> {
        let until = now + HOLD;
        self.ends.push_back((until, identity.clone()));
        let before = self.leases.insert(identity, (lease, until));
        before.map(|(lease, _)| lease)
    }

    /// Takes out what is held for this peer, as far as it is of these pools.
    pub fn take(&mut self, identity: &Identity, pools: &[IpNet]) -> Lease {
        let Some((held, _)) = self.leases.get_mut(identity) else {
            return Lease::default();
        };
        let taken = held.take_of(pools);
        if held.is_empty() {
            self.leases.remove(identity);
        }
        taken
    }

    /// When something ends.
    pub fn next(&self) -> Option<Instant> {
        self.ends.front().map(|(until, _)| *until)
    }

    /// Takes out what nobody has come for.
    pub fn due(&mut self, now: Instant) -> Option<Lease> {
        while self.next().is_some_and(|until| until <= now) {
            let (until, identity) = self.ends.pop_front()?;
            // It may have been taken, and held again since.
            if self
                .leases
                .get(&identity)
                .is_some_and(|held| held.1 == until)
            {
                return self.leases.remove(&identity).map(|(lease, _)| lease);
            }
        }
        None
    }
}

/// How long an address is held for a peer that is gone; OpenIKED's.
const HOLD: Duration = Duration::from_secs(6);
