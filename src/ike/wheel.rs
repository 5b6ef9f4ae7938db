//! One deadline for each IKE SA, on a wheel: to move one costs the same among ten and among a million.
//!
//! Time is cut into slots. What is due in the slot of now, or before, is in order. Each later slot has a
//! list without order, which is put in order when its time comes; what is due only after the wheel has
//! gone round is on one list more, of which some are looked at with every slot that passes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The deadlines of all IKE SAs of a shard, by slab key.
#[derive(Debug)]
pub struct Wheel {
    /// What deadlines are counted from.
    origin: Instant,
    /// The slot of now.
    cursor: u64,
    /// Due in the slot of now, or before: nanoseconds since the origin, and the node.
    near: BTreeSet<(u64, u32)>,
    /// The ends of the lists (slot modulo `SLOTS`, then `LATER`), then a node for each key. A list is a
    /// ring with its end in it.
    nodes: Vec<Node>,
    /// A bit for each slot whose list has somebody on it.
    filled: Box<[u64]>,
}

/// The deadline of one key in nanoseconds since the origin, and its neighbours on a list.
#[derive(Clone, Copy, Debug)]
struct Node {
    at: u64,
    before: u32,
    after: u32,
}

impl Node {
    /// On no list: its own neighbour, as whoever is near.
    const fn alone(index: u32) -> Self {
        Self {
            at: NEVER,
            before: index,
            after: index,
        }
    }
}

impl Wheel {
    /// An empty one, for deadlines from `origin` on.
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            cursor: 0,
            near: BTreeSet::new(),
            nodes: (0..FIRST).map(Node::alone).collect(),
            filled: vec![0; SLOTS as usize / 64].into(),
        }
    }

    /// Sets the deadline of `key` in the place of the one that it had, or takes that away.
    pub fn set(&mut self, key: usize, deadline: Option<Instant>) {
        let at = deadline.map_or(NEVER, |deadline| self.nanos(deadline));
        let Some(index) = self.index(key) else {
            return;
        };
        let old = self.node(index).at;
        if at == old {
            return;
        }
        if old != NEVER {
            self.unlink(index);
        }
        self.put_at(index, at);
        if at != NEVER {
            self.link(index, at);
        }
    }

    /// Whether `key` has a deadline.
    #[cfg(any(test, feature = "sim"))]
    pub fn has(&self, key: usize) -> bool {
        let node = self.nodes.get(FIRST as usize + key);
        node.is_some_and(|node| node.at != NEVER)
    }

    /// When to look for what is due: the earliest deadline, or, where it would have to be sought among
    /// many, a moment before it.
    pub fn next(&self) -> Option<Instant> {
        let nanos = match self.near.first() {
            Some(&(at, _)) => at,
            None => self.next_listed()?,
        };
        self.origin.checked_add(Duration::from_nanos(nanos))
    }

    /// Takes one key that is due, the earliest first; it has no deadline then.
    pub fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let since = now.saturating_duration_since(self.origin);
        let now = u64::try_from(since.as_nanos()).unwrap_or(NEVER);
        self.turn_to(now / SLOT);
        let &(at, index) = self.near.first()?;
        if at > now {
            return None;
        }
        self.near.pop_first();
        self.put_at(index, NEVER);
        index.checked_sub(FIRST).map(|key| key as usize)
    }

    fn nanos(&self, deadline: Instant) -> u64 {
        let since = deadline.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(since).unwrap_or(NEVER).min(NEVER - 1)
    }

    /// The node of a key. There are never as many keys as have none.
    fn index(&mut self, key: usize) -> Option<u32> {
        let index = u32::try_from(key).ok()?.checked_add(FIRST)?;
        while self.nodes.len() <= index as usize {
            let next = u32::try_from(self.nodes.len()).ok()?;
            self.nodes.push(Node::alone(next));
        }
        Some(index)
    }

    fn node(&self, index: u32) -> Node {
        let node = self.nodes.get(index as usize);
        node.copied().unwrap_or_else(|| Node::alone(index))
    }

    fn put_at(&mut self, index: u32, at: u64) {
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.at = at;
        }
    }

    /// Makes neighbours of two nodes.
    fn join(&mut self, before: u32, after: u32) {
        if let Some(node) = self.nodes.get_mut(before as usize) {
            node.after = after;
        }
        if let Some(node) = self.nodes.get_mut(after as usize) {
            node.before = before;
        }
    }

    /// Puts a node that is nowhere to where its deadline belongs.
    fn link(&mut self, index: u32, at: u64) {
        let slot = at / SLOT;
        if slot <= self.cursor {
            self.join(index, index);
            self.near.insert((at, index));
            return;
        }
        let in_this_round = slot - self.cursor < SLOTS;
        let list = if in_this_round { list_of(slot) } else { LATER };
        self.mark(list, true);
        self.join(self.node(list).before, index);
        self.join(index, list);
    }

    /// Takes a node from wherever it is.
    fn unlink(&mut self, index: u32) {
        let Node { at, before, after } = self.node(index);
        if before == index {
            self.near.remove(&(at, index));
            return;
        }
        self.join(before, after);
        self.join(index, index);
        if before == after {
            // Nobody but the end of the list is left.
            self.mark(before, false);
        }
    }

    fn mark(&mut self, list: u32, filled: bool) {
        if let Some(word) = self.filled.get_mut(list as usize / 64) {
            let bit = 1 << (list % 64);
            *word = if filled { *word | bit } else { *word & !bit };
        }
    }

    /// Lets the wheel turn until `slot` is that of now.
    fn turn_to(&mut self, slot: u64) {
        if slot <= self.cursor {
            return;
        }
        let (from, passed) = (self.cursor + 1, slot - self.cursor);
        self.cursor = slot;
        let most = passed.min(SLOTS);
        while let Some(due) = self.next_filled(from, most) {
            self.take_list(list_of(due));
        }
        self.look_at_later(passed);
    }

    /// Puts all of a list in order.
    fn take_list(&mut self, list: u32) {
        let mut index = self.node(list).after;
        while index != list {
            let Node { at, after, .. } = self.node(index);
            self.join(index, index);
            self.near.insert((at, index));
            index = after;
        }
        self.join(list, list);
        self.mark(list, false);
    }

    /// Looks at so many of those who are due later that everybody's turn comes four times in one round
    /// of the wheel, and nobody's twice now.
    fn look_at_later(&mut self, passed: u64) {
        let each = LATER_EACH.max(self.nodes.len() as u64 * 4 / SLOTS);
        let mut stays = None;
        for _ in 0..each.saturating_mul(passed) {
            let index = self.node(LATER).after;
            if index == LATER || stays == Some(index) {
                return;
            }
            let Node { at, after, .. } = self.node(index);
            self.join(LATER, after);
            self.link(index, at);
            if self.node(LATER).before == index {
                stays = stays.or(Some(index));
            }
        }
    }

    /// The first of `count` slots from `slot` on whose list has somebody on it.
    fn next_filled(&self, slot: u64, count: u64) -> Option<u64> {
        let end = slot + count;
        let mut at = slot;
        while at < end {
            let list = list_of(at);
            let word = self.filled.get(list as usize / 64).copied().unwrap_or(0);
            let rest = word >> (list % 64);
            if rest != 0 {
                let found = at + u64::from(rest.trailing_zeros());
                return (found < end).then_some(found);
            }
            at += 64 - u64::from(list % 64);
        }
        None
    }

    /// What [`Self::next`] says when nothing is near.
    fn next_listed(&self) -> Option<u64> {
        let slot = self.next_filled(self.cursor + 1, SLOTS - 1);
        let listed = slot.map(|slot| self.earliest(list_of(slot)).unwrap_or(slot * SLOT));
        let quarter = (self.cursor + SLOTS / 4) * SLOT;
        let later = self.node(LATER).after != LATER;
        let later = later.then(|| self.earliest(LATER).unwrap_or(quarter));
        listed.into_iter().chain(later).min()
    }

    /// The earliest deadline of a list, if it is short.
    fn earliest(&self, list: u32) -> Option<u64> {
        let (mut index, mut earliest) = (self.node(list).after, NEVER);
        for _ in 0..SHORT {
            if index == list {
                return Some(earliest);
            }
            let Node { at, after, .. } = self.node(index);
            earliest = earliest.min(at);
            index = after;
        }
        None
    }
}

const fn list_of(slot: u64) -> u32 {
    (slot % SLOTS) as u32
}

/// Nanoseconds in a slot.
const SLOT: u64 = 128_000_000;
/// Slots of one round, 17 minutes: probes and retransmissions are due before it ends.
const SLOTS: u64 = 8192;
/// The list of those who are due after one round.
const LATER: u32 = SLOTS as u32;
/// The node of key 0.
const FIRST: u32 = LATER + 1;
/// Without a deadline.
const NEVER: u64 = u64::MAX;
/// How many of those who are due later are looked at with each slot, at least.
const LATER_EACH: u64 = 256;
/// A list of fewer is looked through for its earliest.
const SHORT: usize = 16;

#[cfg(test)]
mod tests;
