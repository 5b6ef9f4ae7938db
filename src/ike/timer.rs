//! When an IKE SA or a Child SA is to be replaced: before its life ends, each at a time of its own.

use std::time::Duration;

use crate::crypto::Rng;

/// When to replace what lives this long: at 85 to 95 % of it, drawn for each so that those that came
/// together do not go together. Of a short life more is kept back: a request that is lost once or
/// twice, or put off by the peer, must still fit.
pub fn soft_lifetime(hard: Duration, rng: &mut Rng) -> Duration {
    let millis = u64::try_from(hard.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(soft(millis, 10_000, rng))
}

/// The same of a limit in bytes.
pub fn soft_bytes(hard: u64, rng: &mut Rng) -> u64 {
    soft(hard, 1 << 20, rng)
}

/// What is kept back is a twentieth to three of them, or of a small limit more: `reserve`, as far as
/// it is less than that again.
fn soft(hard: u64, reserve: u64, rng: &mut Rng) -> u64 {
    let part = |twentieths: u64| hard / 20 * twentieths + hard % 20 * twentieths / 20;
    let least = part(1).max(part(3).min(reserve));
    let most = part(3).max(part(6).min(reserve * 2));
    let drawn = rng.below((most - least).saturating_add(1));
    hard - least - drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_lifetimes_are_spread_and_leave_time_for_retries() {
        let mut rng = Rng::from_seed([1; 32]);
        for (hard, range) in [
            (0, 0..=0),
            (10, 7_000..=8_500),
            (40, 28_000..=34_000),
            (100, 80_000..=90_000),
            (10_800, 9_180_000..=10_260_000),
        ] {
            let hard = Duration::from_secs(hard);
            let mut drawn: Vec<_> = (0..100)
                .map(|_| soft_lifetime(hard, &mut rng).as_millis())
                .collect();
            assert!(drawn.iter().all(|soft| range.contains(soft)), "{drawn:?}");
            drawn.sort_unstable();
            drawn.dedup();
            assert!(hard.is_zero() || drawn.len() > 80, "{hard:?}");
        }
    }

    #[test]
    fn soft_byte_limits_are_below_the_hard_ones_and_leave_room() {
        let mut rng = Rng::from_seed([2; 32]);
        for (hard, range) in [
            (0, 0..=0),
            (1, 1..=1),
            (200_000, 140_000..=170_000),
            (4 << 30, 3_650_722_201..=4_080_218_932),
            (u64::MAX, u64::MAX / 20 * 17..=u64::MAX / 20 * 19 + 20),
        ] {
            for _ in 0..100 {
                let soft = soft_bytes(hard, &mut rng);
                assert!(range.contains(&soft), "{hard}: {soft}");
            }
        }
    }
}
