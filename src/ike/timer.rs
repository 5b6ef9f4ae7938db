//! One deadline for each IKE SA, ordered; the endpoint asks for the earliest.

use std::collections::BTreeSet;
use std::time::Instant;

/// The deadlines of all IKE SAs of a shard, by slab key.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(Instant, usize)>,
}

impl Timers {
    /// Moves the deadline of `key` from `old` to `new`.
    pub fn set(&mut self, key: usize, old: Option<Instant>, new: Option<Instant>) {
        if old == new {
            return;
        }
        if let Some(at) = old {
            self.queue.remove(&(at, key));
        }
        if let Some(at) = new {
            self.queue.insert((at, key));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Takes one key that is due. Its owner must set a new deadline, or none.
    pub fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        Some(key)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn deadlines_come_in_order_and_move() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.set(1, None, Some(at(5)));
        timers.set(2, None, Some(at(3)));
        timers.set(1, Some(at(5)), Some(at(1)));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(at(0)), None);
        assert_eq!(timers.pop_due(at(4)), Some(1));
        assert_eq!(timers.pop_due(at(4)), Some(2));
        assert_eq!(timers.pop_due(at(4)), None);
        timers.set(3, None, Some(at(9)));
        timers.set(3, Some(at(9)), None);
        assert_eq!(timers.next(), None);
    }
}
