//! Those who wait for answers: any number for the same, each with a time of its own.

use std::collections::BTreeMap;
use std::time::Instant;

/// When somebody has no use for an answer any more, and in which order they came.
type Place = (Instant, u64);

/// Those who wait, by what they wait for.
#[derive(Debug)]
pub struct Waiters<K, W> {
    by_time: BTreeMap<Place, K>,
    by_key: BTreeMap<K, BTreeMap<Place, W>>,
    next: u64,
}

impl<K: Ord + Clone, W> Waiters<K, W> {
    /// Nobody.
    pub const fn new() -> Self {
        Self {
            by_time: BTreeMap::new(),
            by_key: BTreeMap::new(),
            next: 0,
        }
    }

    /// Lets one wait; gives it back where too many do.
    pub fn add(&mut self, key: K, until: Instant, who: W) -> Result<(), W> {
        if self.by_time.len() >= WAITERS_MAX {
            return Err(who);
        }
        let place = (until, self.next);
        self.next += 1;
        self.by_time.insert(place, key.clone());
        self.by_key.entry(key).or_default().insert(place, who);
        Ok(())
    }

    /// All who wait for this; they do no longer.
    pub fn take(&mut self, key: &K) -> Vec<W> {
        let all = self.by_key.remove(key).unwrap_or_default();
        let all = all.into_iter().map(|(place, who)| {
            self.by_time.remove(&place);
            who
        });
        all.collect()
    }

    /// All whose time is over, with what they waited for; they wait no longer.
    pub fn late(&mut self, now: Instant) -> Vec<(K, W)> {
        let mut late = Vec::new();
        while let Some(entry) = self.by_time.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (place, key) = entry.remove_entry();
            if let Some(all) = self.by_key.get_mut(&key) {
                let who = all.remove(&place);
                if all.is_empty() {
                    self.by_key.remove(&key);
                }
                late.extend(who.map(|who| (key, who)));
            }
        }
        late
    }

    /// When the next one's time is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty() && self.by_key.is_empty()
    }
}

impl<K: Ord + Clone, W> Default for Waiters<K, W> {
    fn default() -> Self {
        Self::new()
    }
}

/// IKE SAs that wait at the same time, of all shards.
const WAITERS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_leaves_once_by_what_comes_or_when_its_time_is_over() {
        let start = crate::lookup::now().mono;
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut waiters = Waiters::new();
        for (key, seconds, who) in [("a", 3, 1), ("b", 1, 2), ("a", 1, 3), ("a", 2, 4)] {
            waiters.add(key, at(seconds), who).unwrap();
        }
        assert_eq!(waiters.deadline(), Some(at(1)));
        assert_eq!(waiters.late(at(0)), []);
        assert_eq!(waiters.late(at(1)), [("b", 2), ("a", 3)]);
        assert_eq!(waiters.take(&"a"), [4, 1]);
        assert!(waiters.take(&"a").is_empty());
        assert!(waiters.is_empty());
        assert_eq!((waiters.deadline(), waiters.late(at(9)).len()), (None, 0));
    }

    #[test]
    fn there_is_no_room_for_any_number() {
        let now = crate::lookup::now().mono;
        let mut waiters = Waiters::new();
        for who in 0..WAITERS_MAX {
            waiters.add((), now, who).unwrap();
        }
        assert_eq!(waiters.add((), now, 9), Err(9));
        assert_eq!(waiters.take(&()).len(), WAITERS_MAX);
        assert_eq!(waiters.add((), now, 9), Ok(()));
    }
}
