//! All IKE SAs of a shard and the ways to find one: by our SPI, by the request that made it while
//! it is half-open, by the kernel request it waits for, by the peer's identity, by deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::time::Instant;

use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;
use slab::Slab;

use super::context::Context;
use super::event::News;
use super::holders::Holders;
use super::ike_sa::IkeSa;
use super::state::State;
use super::wheel::Wheel;
use crate::crypto::Rng;
use crate::kernel::RequestId;
use crate::policy::Identity;
use crate::wire::spi::IkeSpi;

/// A place in the table; reused after its IKE SA is gone.
pub type Key = usize;

/// The table. An IKE SA that is being worked on is taken out and put back.
#[derive(Debug)]
pub struct Table {
    sas: Slab<Option<Box<IkeSa>>>,
    by_spi: HashMap<IkeSpi, Key, SeedableRandomState>,
    half_open: HashMap<u64, Key, SeedableRandomState>,
    requests: HashMap<RequestId, Key, SeedableRandomState>,
    identities: Holders,
    /// IKE SAs of each active policy, by its name.
    active: BTreeMap<String, BTreeSet<Key>>,
    deadlines: Wheel,
    hasher: SeedableRandomState,
}

impl Table {
    /// An empty table whose hashes nobody outside can foresee, for deadlines from `now` on.
    pub fn new(now: Instant, rng: &mut Rng) -> Self {
        let hasher =
            SeedableRandomState::with_seed(rng.u64(), foldhash::SharedSeed::global_fixed());
        Self {
            sas: Slab::new(),
            by_spi: HashMap::with_hasher(hasher.clone()),
            half_open: HashMap::with_hasher(hasher.clone()),
            requests: HashMap::with_hasher(hasher.clone()),
            identities: Holders::default(),
            active: BTreeMap::new(),
            deadlines: Wheel::new(now),
            hasher,
        }
    }

    /// Keyed digest of a datagram, with something to tell equal ones apart.
    pub fn digest(&self, datagram: impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(datagram)
    }

    /// IKE SAs in the table.
    pub fn len(&self) -> usize {
        self.sas.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sas.is_empty()
    }

    /// IKE SAs that wait for IKE_AUTH.
    pub fn half_open_len(&self) -> usize {
        self.half_open.len()
    }

    /// The IKE SA with this SPI of ours.
    pub fn by_spi(&self, spi: IkeSpi) -> Option<Key> {
        self.by_spi.get(&spi).copied()
    }

    /// The half-open IKE SA that this IKE_SA_INIT request made.
    pub fn by_init(&self, digest: u64) -> Option<Key> {
        self.half_open.get(&digest).copied()
    }

    /// The IKE SA that waits for this kernel request.
    pub fn by_request(&mut self, id: RequestId) -> Option<Key> {
        self.requests.remove(&id)
    }

    /// All IKE SAs of this identity, but one that is taken out.
    pub fn by_identity(&self, identity: &Identity) -> Vec<Key> {
        let digest = self.digest(identity);
        let same = |key: &Key| self.get(*key).and_then(|sa| sa.peer_id.as_ref()) == Some(identity);
        self.identities.of(digest).filter(same).collect()
    }

    /// The IKE SAs of this active policy, in whatever state.
    pub fn by_policy(&self, policy: &str) -> Vec<Key> {
        let keys = self.active.get(policy).into_iter().flatten();
        keys.copied().collect()
    }

    /// The keys of all IKE SAs, by our SPI.
    pub fn keys_by_spi(&self) -> Vec<Key> {
        let mut keys: Vec<(IkeSpi, Key)> = self
            .sas
            .iter()
            .filter_map(|(key, sa)| sa.as_ref().map(|sa| (sa.own_spi, key)))
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// Looks at an IKE SA.
    pub fn get(&self, key: Key) -> Option<&IkeSa> {
        self.sas.get(key)?.as_deref()
    }

    /// Whether an IKE SA already has this SPI of ours.
    pub fn has_spi(&self, spi: IkeSpi) -> bool {
        self.by_spi.contains_key(&spi)
    }

    /// Takes a new IKE SA in.
    pub fn insert(&mut self, cx: &mut Context, sa: IkeSa) {
        let key = self.sas.insert(None);
        self.by_spi.insert(sa.own_spi, key);
        if let Some(digest) = sa.init_digest {
            self.half_open.insert(digest, key);
        }
        self.put(cx, key, Box::new(sa));
    }

    /// Takes an IKE SA out to work on it; [`Self::put`] must follow.
    pub fn take(&mut self, key: Key) -> Option<Box<IkeSa>> {
        self.sas.get_mut(key)?.take()
    }

    /// Puts an IKE SA back and brings every index up to its state; a closed one is gone.
    pub fn put(&mut self, cx: &mut Context, key: Key, mut sa: Box<IkeSa>) {
        if !matches!(sa.state, State::AwaitAuthRequest(_))
            && let Some(digest) = sa.init_digest.take()
        {
            self.half_open.remove(&digest);
        }
        cx.stats.half_open = self.half_open.len() as u64;
        if matches!(sa.state, State::Closed) {
            self.remove(cx, key, *sa);
            return;
        }
        for request in sa.awaits() {
            self.requests.insert(request, key);
        }
        if !sa.indexed
            && sa.state.is_authenticated()
            && let Some(identity) = &sa.peer_id
        {
            let digest = self.digest(identity);
            self.identities.insert(digest, key);
            sa.indexed = true;
        }
        if !sa.counted && sa.policy.active && !matches!(sa.state, State::AwaitAuthRequest(_)) {
            let name = sa.policy.name.clone();
            self.active.entry(name).or_default().insert(key);
            sa.counted = true;
            count(cx, &sa, true);
        }
        let deadline = sa.deadline(cx).map(|(at, _)| at);
        self.deadlines.set(key, deadline);
        if let Some(place) = self.sas.get_mut(key) {
            *place = Some(sa);
        }
    }

    fn remove(&mut self, cx: &mut Context, key: Key, mut sa: IkeSa) {
        sa.release(cx);
        self.deadlines.set(key, None);
        self.by_spi.remove(&sa.own_spi);
        if let (true, Some(identity)) = (sa.indexed, sa.peer_id.take()) {
            let digest = self.digest(&identity);
            self.identities.remove(digest, key);
        }
        if sa.counted {
            if let Some(keys) = self.active.get_mut(&sa.policy.name) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.active.remove(&sa.policy.name);
                }
            }
            count(cx, &sa, false);
        }
        self.sas.try_remove(key);
        cx.stats.sa_removed += 1;
    }

    /// When to look for whose deadline has come.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Whether an IKE SA waits for a deadline.
    #[cfg(any(test, feature = "sim"))]
    pub fn has_deadline(&self, key: Key) -> bool {
        self.deadlines.has(key)
    }

    /// Takes out an IKE SA whose deadline has come.
    pub fn take_due(&mut self, now: Instant) -> Option<(Key, Box<IkeSa>)> {
        while let Some(key) = self.deadlines.pop_due(now) {
            if let Some(sa) = self.take(key) {
                return Some((key, sa));
            }
        }
        None
    }
}

/// Counts an IKE SA of an active policy here and elsewhere.
fn count(cx: &mut Context, sa: &IkeSa, more: bool) {
    cx.count_served(&sa.policy.name, more);
    let policy = sa.policy.name.clone();
    cx.out.news.push_back(News::Served { policy, more });
}
