//! What `ikectl top` shows: what there is, and what was counted in the last second. A page of text for
//! each second; nothing is read or written here.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Counters by name.
pub(super) type Counters = BTreeMap<String, u64>;

/// Reads lines `NUMBER NAME`.
pub(super) fn read(text: &str) -> Counters {
    let lines = text.lines().filter_map(|line| {
        let (number, name) = line.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    lines.collect()
}

/// The page: what goes up and down as it is, of the rest what was counted since `before`, the most
/// frequent first, for each of `seconds`.
pub(super) fn page(date: &str, before: &Counters, now: &Counters, seconds: f64) -> String {
    let mut text = format!("iked, {date}\n\n");
    for (name, label) in LEVELS {
        let level = now.get(*name).copied().unwrap_or_default();
        let _ = writeln!(text, "{level:>12}  {label}");
    }
    let mut counted: Vec<(u64, &str)> = now
        .iter()
        .filter(|(name, _)| LEVELS.iter().all(|(level, _)| level != name))
        .map(|(name, value)| {
            let earlier = before.get(name).copied().unwrap_or_default();
            (value.saturating_sub(earlier), name.as_str())
        })
        .filter(|(count, _)| *count > 0)
        .collect();
    counted.sort_unstable_by(|(a, one), (b, other)| b.cmp(a).then(one.cmp(other)));
    text.push_str("\n  per second\n");
    for (count, name) in counted {
        let rate = count as f64 / seconds.max(f64::MIN_POSITIVE);
        let _ = writeln!(text, "{rate:>12.1}  {name}");
    }
    text
}

/// Counters that are a state.
const LEVELS: &[(&str, &str)] = &[
    ("sa_established_current", "IKE SAs established"),
    ("half_open", "IKE SAs half open"),
    ("leases", "addresses leased"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_shown_as_they_are_and_counters_as_rates() {
        let before = read("5 sa_established_current\n100 msg_rcvd\n7 dpd_sent\n50 msg_sent\n");
        let now =
            read("6 sa_established_current\n103 msg_rcvd\n7 dpd_sent\n60 msg_sent\nnonsense\n");
        let page = page("today", &before, &now, 2.0);
        let said = "iked, today\n\n           6  IKE SAs established\n           0  IKE SAs half open\n           \
                    0  addresses leased\n\n  per second\n         5.0  msg_sent\n         1.5  msg_rcvd\n";
        assert_eq!(page, said);
    }
}
