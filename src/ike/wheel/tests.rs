#![expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[test]
fn deadlines_come_in_order_and_move() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut wheel = Wheel::new(start);
    wheel.set(1, Some(at(5)));
    wheel.set(2, Some(at(3)));
    wheel.set(1, Some(at(1)));
    assert_eq!(wheel.next(), Some(at(1)));
    assert_eq!(wheel.pop_due(at(0)), None);
    assert_eq!(wheel.pop_due(at(4)), Some(1));
    assert_eq!(wheel.pop_due(at(4)), Some(2));
    assert_eq!(wheel.pop_due(at(4)), None);
    wheel.set(3, Some(at(9)));
    wheel.set(3, None);
    assert_eq!(wheel.next(), None);
    assert!(!wheel.has(3) && !wheel.has(99));
}

/// The same deadlines in order: what the wheel must do.
#[derive(Default)]
struct Ordered {
    of: BTreeMap<usize, Instant>,
    queue: BTreeSet<(Instant, usize)>,
}

impl Ordered {
    fn set(&mut self, key: usize, deadline: Option<Instant>) {
        if let Some(at) = self.of.remove(&key) {
            self.queue.remove(&(at, key));
        }
        if let Some(at) = deadline {
            self.of.insert(key, at);
            self.queue.insert((at, key));
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let &(_, key) = self.queue.first().filter(|(at, _)| *at <= now)?;
        self.set(key, None);
        Some(key)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The deadline of a key, in milliseconds from now, or none.
    Set(usize, Option<u64>),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// Time passes until the wheel says to look.
    Wait,
}

/// Spans as daemons have them: mostly within a minute, some of hours.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..2_000u64, 4 => 0..60_000u64, 2 => 0..20_000_000u64]
}

fn step(keys: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..keys, proptest::option::weighted(0.9, span())).prop_map(|(key, at)| Step::Set(key, at)),
        1 => span().prop_map(Step::Pass),
        3 => Just(Step::Wait),
    ]
}

/// Plays the steps on both and demands the same keys in the same order, none late.
fn play(keys: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let start = Instant::now();
    let (mut wheel, mut ordered) = (Wheel::new(start), Ordered::default());
    let mut now = start;
    for step in steps {
        match *step {
            Step::Set(key, span) => {
                let at = span.map(|span| now + Duration::from_millis(span));
                wheel.set(key, at);
                ordered.set(key, at);
            }
            Step::Pass(span) => now += Duration::from_millis(span),
            Step::Wait => {
                let (next, first) = (wheel.next(), ordered.queue.first());
                prop_assert_eq!(next.is_some(), first.is_some());
                if let (Some(next), Some(&(first, _))) = (next, first) {
                    prop_assert!(next <= first, "would wake {:?} late", next - first);
                    prop_assert!(keys > SHORT || next == first, "wakes for nothing");
                    now = now.max(next);
                }
            }
        }
        if !matches!(step, Step::Set(..)) {
            loop {
                let due = ordered.pop_due(now);
                prop_assert_eq!(wheel.pop_due(now), due);
                if due.is_none() {
                    break;
                }
            }
        }
        for key in 0..keys {
            prop_assert_eq!(wheel.has(key), ordered.of.contains_key(&key));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_few_are_told_as_if_in_order(steps in proptest::collection::vec(step(8), 1..200)) {
        play(8, &steps)?;
    }

    #[test]
    fn many_are_told_as_if_in_order(steps in proptest::collection::vec(step(100), 1..600)) {
        play(100, &steps)?;
    }
}

/// More than are looked at with each slot, all due after a round of the wheel or several.
#[test]
fn thousands_that_are_due_in_hours_come_in_time() {
    let start = Instant::now();
    let mut rng = crate::crypto::Rng::from_seed([7; 32]);
    let (mut wheel, mut ordered) = (Wheel::new(start), Ordered::default());
    for key in 0..20_000 {
        let at = Some(start + Duration::from_millis(1_100_000 + rng.below(10_000_000)));
        wheel.set(key, at);
        ordered.set(key, at);
    }
    let mut wakes = 0;
    while let Some(next) = wheel.next() {
        wakes += 1;
        assert!(next <= ordered.queue.first().unwrap().0);
        while let Some(key) = wheel.pop_due(next) {
            assert_eq!(ordered.pop_due(next), Some(key));
        }
        assert!(ordered.queue.first().is_none_or(|(at, _)| *at > next));
    }
    assert!(ordered.queue.is_empty());
    // Each slot at most once for its beginning, beside each deadline.
    assert!(wakes < 20_000 + 11_100_000 / 128, "{wakes}");
}
