//! Which IKE SAs belong to one peer: by digest of its identity, for the identity itself is kept once, in
//! the IKE SA. Most have one, but there are gateways all of whose peers say the same name, and from the
//! other end all IKE SAs with one gateway are of one peer: so the many with one digest are in order.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::table::Key;

/// Keys of IKE SAs by digest.
#[derive(Debug, Default)]
pub struct Holders(HashMap<u64, Keys>);

#[derive(Debug)]
enum Keys {
    One(Key),
    #[expect(
        clippy::box_collection,
        reason = "few digests have many keys, and all pay for the room"
    )]
    Many(Box<BTreeSet<Key>>),
}

impl Holders {
    /// One more with this digest.
    pub fn insert(&mut self, digest: u64, key: Key) {
        match self.0.entry(digest) {
            Entry::Vacant(entry) => {
                entry.insert(Keys::One(key));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Keys::Many(keys) => {
                    keys.insert(key);
                }
                Keys::One(other) => {
                    let keys = BTreeSet::from([*other, key]);
                    entry.insert(Keys::Many(Box::new(keys)));
                }
            },
        }
    }

    /// That one is gone.
    pub fn remove(&mut self, digest: u64, key: Key) {
        let Entry::Occupied(mut entry) = self.0.entry(digest) else {
            return;
        };
        let left = match entry.get_mut() {
            Keys::One(other) => *other != key,
            Keys::Many(keys) => {
                keys.remove(&key);
                !keys.is_empty()
            }
        };
        if !left {
            entry.remove();
        }
    }

    /// All with this digest, in order.
    pub fn of(&self, digest: u64) -> impl Iterator<Item = Key> {
        let (one, many) = match self.0.get(&digest) {
            None => (None, None),
            Some(Keys::One(key)) => (Some(*key), None),
            Some(Keys::Many(keys)) => (None, Some(keys.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(holders: &Holders, digest: u64) -> Vec<Key> {
        holders.of(digest).collect()
    }

    #[test]
    fn each_digest_has_its_keys_in_order() {
        let mut holders = Holders::default();
        for (digest, key) in [(7, 3), (9, 4), (7, 1), (7, 2), (7, 2)] {
            holders.insert(digest, key);
        }
        assert_eq!(all(&holders, 7), [1, 2, 3]);
        assert_eq!(all(&holders, 9), [4]);
        assert_eq!(holders.of(8).count(), 0);
        holders.remove(9, 1);
        holders.remove(8, 4);
        assert_eq!(all(&holders, 9), [4]);
        for (digest, key) in [(7, 3), (9, 4), (7, 1), (7, 2)] {
            holders.remove(digest, key);
        }
        assert_eq!(holders.0.len(), 0);
    }

    /// In a table by hash alone each of them would be compared with all before it: that takes minutes.
    #[test]
    fn a_hundred_thousand_may_say_the_same_name() {
        let mut holders = Holders::default();
        for key in 0..100_000 {
            holders.insert(7, key);
        }
        assert_eq!(holders.of(7).count(), 100_000);
        for key in 0..100_000 {
            holders.remove(7, key);
        }
        assert_eq!(holders.of(7).count(), 0);
    }
}
