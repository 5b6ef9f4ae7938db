//! What the comparison is to reach, and whether it does: each bar is a ratio within the same rounds.

use std::fmt::Write as _;

use serde::Serialize;

use super::{FloodRow, OURS, Row, told};

/// A bar, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Reached {
    /// What it is about.
    pub what: String,
    /// The bar.
    pub bar: f64,
    /// Whether the figure has to be above it, and not below.
    pub above: bool,
    /// The figure; `None` where it was not measured.
    pub measured: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
}

impl Reached {
    /// Whether it is reached; a figure that is missing reaches nothing.
    pub fn is_reached(&self) -> bool {
        let above = self.above;
        self.measured.is_some_and(|measured| {
            if above {
                measured >= self.bar
            } else {
                measured <= self.bar
            }
        })
    }
}

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
pub(super) fn reached(rows: &[Row], floods: &[FloodRow]) -> Vec<Reached> {
    let mut out = Vec::new();
    for (scenario, primitives, other, times) in CPU {
        let of = || rows.iter().filter(|row| row.scenario == scenario);
        let Some(own) = of().find(|row| row.responder == OURS) else {
            continue;
        };
        if let Some(bar) = primitives {
            out.push(Reached {
                what: format!("{scenario}: CPU time by the primitives' at most"),
                bar,
                above: false,
                measured: own.primitives_ratio,
                unit: "",
            });
        }
        // The release that is nearest to us counts.
        let others = of().filter(|row| row.responder.starts_with(other));
        out.push(Reached {
            what: format!("{scenario}: CPU time of {other} by ours at least"),
            bar: times,
            above: true,
            measured: others.map(|row| row.ratio).reduce(f64::min),
            unit: "",
        });
    }
    out.extend(under_a_flood(floods));
    out
}

fn under_a_flood(floods: &[FloodRow]) -> Vec<Reached> {
    let of = |name: &'static str| {
        let rows = floods.iter();
        rows.filter(move |row| row.responder.starts_with(name))
    };
    // Each at the flood that suits it best.
    let best = |name| of(name).filter_map(|row| row.per_core).reduce(f64::max);
    let mut out = Vec::new();
    if let Some(ours) = best(OURS) {
        let times = best("strongswan").map(|theirs| ours / theirs);
        out.push(Reached {
            what: "flood: answers per second and core by strongswan's at least".to_owned(),
            bar: ANSWERS,
            above: true,
            measured: times,
            unit: "",
        });
        out.push(Reached {
            what: "flood: CPU time per answer at most".to_owned(),
            bar: ANSWER_MICROS,
            above: false,
            measured: Some(1e6 / ours),
            unit: " us",
        });
    }
    if let Some(row) = of(OURS).find(|row| row.honest().is_some()) {
        let is_one = row.sent.is_some_and(|sent| sent >= STRANGERS);
        let honest = row.honest().filter(|_| is_one);
        out.push(Reached {
            what: "beside 100000 strangers in a second: honest peers let in at least".to_owned(),
            bar: HONEST,
            above: true,
            measured: honest.map(|part| part * 100.0),
            unit: " %",
        });
    }
    out
}

/// A section of the table.
pub(super) fn markdown(bars: &[Reached]) -> String {
    let mut out = String::new();
    if bars.is_empty() {
        return out;
    }
    out += "\n| bar | wanted | measured | reached |\n|---|---:|---:|---|\n";
    for bar in bars {
        let _ = writeln!(
            out,
            "| {} | {}{} | {} | {} |",
            bar.what,
            bar.bar,
            bar.unit,
            told(bar.measured, 2, bar.unit),
            if bar.is_reached() { "yes" } else { "no" },
        );
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
            "| psk: CPU time by the primitives' at most | 1.3 | 1.11 | yes |",
            "| psk: CPU time of strongswan by ours at least | 6 | 5.90 | no |",
            "| psk-ecp256: CPU time of openiked by ours at least | 6 | 6.00 | yes |",
        ] {
            assert!(table.contains(line), "{table}");
        }
        assert_eq!(comparison.bars.len(), 3);
        let alone = Comparison::new("abc", &runs[..1]);
        assert_eq!(alone.bars.len(), 2);
        assert!(
            alone.bars.iter().all(|bar| !bar.is_reached()),
            "{:?}",
            alone.bars
        );
    }
}
