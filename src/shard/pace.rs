//! How often a shard looks for datagrams. One that finds some whenever it looks, but few each time,
//! pays for the system calls of a batch with each of them; it looks a little later then, as network
//! cards do with their interrupts. One that is idle now and then looks at once, and so does one with
//! so much to do that its batches are large anyway.

use std::time::{Duration, Instant};

/// The turns of one shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the last turn ended, and how many datagrams it took at once.
    ended: Instant,
    taken: usize,
    /// How many turns in a row began as soon as the one before had ended.
    hasty: u32,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            ended: now,
            taken: 0,
            hasty: 0,
        }
    }

    /// Something is there to be done at `now`: how long it is to wait for more.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let idle = now.saturating_duration_since(self.ended);
        self.hasty = if idle < IDLE { self.hasty + 1 } else { 0 };
        let few = (1..FEW).contains(&self.taken);
        (self.hasty > HASTY && few).then_some(PAUSE)
    }

    /// A turn has ended that took so many datagrams at once.
    pub(super) const fn turned(&mut self, now: Instant, taken: usize) {
        self.ended = now;
        self.taken = taken;
    }
}

/// A shorter rest is none.
const IDLE: Duration = Duration::from_micros(30);
/// So many turns without a rest are load, not chance.
const HASTY: u32 = 16;
/// A batch as large as this is worth its system calls.
const FEW: usize = 24;
/// How long; the system makes it some 50 microseconds longer (`PR_SET_TIMERSLACK`).
const PAUSE: Duration = Duration::from_micros(100);

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use super::*;

    /// Turns with so many datagrams, so long after one another; how many of them paused.
    fn pauses(turns: u32, rest: Duration, taken: usize) -> usize {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let turn = |_: &u32| {
            now += rest;
            let pause = pace.pause(now);
            now += pause.unwrap_or_default();
            pace.turned(now, taken);
            pause.is_some()
        };
        (0..turns).filter(turn).count()
    }

    #[test]
    fn only_who_always_finds_a_few_waits_for_more() {
        let short = Duration::from_micros(5);
        assert_eq!(pauses(100, short, 2), 100 - HASTY as usize);
        assert_eq!(pauses(100, short, FEW), 0, "large batches");
        assert_eq!(pauses(100, short, 0), 0, "mail, no datagrams");
        assert_eq!(pauses(100, IDLE, 2), 0, "rests");
        assert_eq!(pauses(HASTY, short, 2), 0, "a burst");
    }

    #[test]
    fn one_rest_ends_it() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..=HASTY {
            pace.turned(now, 1);
            pace.pause(now);
        }
        assert_eq!(pace.pause(now), Some(PAUSE));
        now += IDLE;
        assert_eq!(pace.pause(now), None);
    }
}
