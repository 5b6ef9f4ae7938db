//! What the comparison is to reach, and whether it does: each bar is a ratio within the same rounds.

use super::{FloodRow, OURS, Row as Compared};
use crate::bars::Row;

/// CPU time per IKE SA: scenario, how often the primitives at most, whose it is measured by, and how much
/// more that one has to take at least.
const CPU: [(&str, Option<f64>, &str, f64); 4] = [
    ("psk", Some(1.3), "strongswan", 6.0),
    ("ecdsa", Some(1.2), "strongswan", 7.0),
    ("rsa", Some(1.1), "strongswan", 2.5),
    ("psk-ecp256", None, "openiked", 6.0),
];
/// Microseconds of CPU time for an answer to a stranger at most.
const ANSWER_MICROS: f64 = 5.0;
/// How often strongSwan's answers per second and core.
const ANSWERS: f64 = 5.0;
/// Percent of the honest peers that get in beside the flood.
const HONEST: f64 = 99.9;
/// Requests in a second that make the flood of that bar, less a twentieth for the sender's own troubles. One
/// that was less shows nothing.
const STRANGERS: f64 = 95_000.0;

/// All of them, by what was measured.
pub(super) fn of(rows: &[Compared], floods: &[FloodRow]) -> Vec<Row> {
    let mut out = Vec::new();
    for (scenario, primitives, other, times) in CPU {
        let of = || rows.iter().filter(|row| row.scenario == scenario);
        let Some(own) = of().find(|row| row.responder == OURS) else {
            continue;
        };
        if let Some(bar) = primitives {
            out.push(Row {
                what: format!("{scenario}: CPU time by the primitives'"),
                bar: Some(bar),
                measured: own.primitives_ratio,
                ..Row::default()
            });
        }
        // The release that is nearest to us counts.
        let others = of().filter(|row| row.responder.starts_with(other));
        out.push(Row {
            what: format!("{scenario}: CPU time of {other} by ours"),
            bar: Some(times),
            floor: true,
            measured: others.map(|row| row.ratio).reduce(f64::min),
            ..Row::default()
        });
    }
    out.extend(under_a_flood(floods));
    out
}

fn under_a_flood(floods: &[FloodRow]) -> Vec<Row> {
    let of = |name: &'static str| {
        let rows = floods.iter();
        rows.filter(move |row| row.responder.starts_with(name))
    };
    // Each at the flood that suits it best.
    let best = |name| of(name).filter_map(|row| row.per_core).reduce(f64::max);
    let mut out = Vec::new();
    if let Some(ours) = best(OURS) {
        out.push(Row {
            what: "flood: answers per second and core by strongSwan's".to_owned(),
            bar: Some(ANSWERS),
            floor: true,
            measured: best("strongswan").map(|theirs| ours / theirs),
            ..Row::default()
        });
        out.push(Row {
            what: "flood: CPU time per answer".to_owned(),
            bar: Some(ANSWER_MICROS),
            measured: Some(1e6 / ours),
            unit: "us",
            ..Row::default()
        });
    }
    if let Some(row) = of(OURS).find(|row| row.honest().is_some()) {
        let is_one = row.sent.is_some_and(|sent| sent >= STRANGERS);
        let honest = row.honest().filter(|_| is_one);
        out.push(Row {
            what: "beside 100000 strangers in a second: honest peers let in".to_owned(),
            bar: Some(HONEST),
            floor: true,
            measured: honest.map(|part| part * 100.0),
            unit: "%",
            ..Row::default()
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::super::{Comparison, PRIMITIVES, Run};

    #[test]
    fn the_nearest_release_counts_and_what_is_missing_reaches_nothing() {
        let own = |scenario, responder, cpu| run(scenario, responder, cpu, 100);
        let runs: [Run; 6] = [
            own("psk", "iked", 100.0),
            own("psk", PRIMITIVES, 90.0),
            own("psk", "strongswan-5.9.8", 700.0),
            own("psk", "strongswan-6.0.1", 590.0),
            own("psk-ecp256", "iked", 100.0),
            own("psk-ecp256", "openiked-7.2", 600.0),
        ];
        let comparison = Comparison::new("abc", &runs);
        let table = comparison.markdown();
        for line in [
            "| psk: CPU time by the primitives' | 1.11 | at most 1.30 | yes |",
            "| psk: CPU time of strongswan by ours | 5.90 | at least 6.00 | no |",
            "| psk-ecp256: CPU time of openiked by ours | 6.00 | at least 6.00 | yes |",
        ] {
            assert!(table.contains(line), "{table}");
        }
        assert_eq!(comparison.bars.len(), 3);
        let alone = Comparison::new("abc", &runs[..1]);
        assert_eq!(alone.bars.len(), 2);
        assert!(
            alone.bars.iter().all(|bar| !bar.is_met()),
            "{:?}",
            alone.bars
        );
    }
}
