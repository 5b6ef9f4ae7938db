//! Runs with a flood beside the peers, side by side: what an answer to a stranger costs, and whether
//! the honest ones get in meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{Figures, OURS, Run, median, rounds, told};

/// All rounds of one responder under one flood.
#[derive(Clone, Debug, Serialize)]
pub struct FloodRow {
    /// The scenario.
    pub scenario: String,
    /// The responder.
    pub responder: String,
    /// Rounds.
    pub rounds: usize,
    /// Requests that were sent in a second: what the flood was in truth.
    pub sent: Option<f64>,
    /// Answers in a second.
    pub answered: Option<f64>,
    /// CPU time of the responder for each, in microseconds; `None` where it let so many peers in that this
    /// would be in it.
    pub cpu_micros: Option<f64>,
    /// Answers for a second of CPU time.
    pub per_core: Option<f64>,
    /// Peers that came beside the flood, in all rounds.
    pub peers: u64,
    /// Those of them that got in.
    pub up: u64,
    /// Milliseconds of a whole handshake of theirs: half of them, 99 of 100.
    pub latency: [Option<f64>; 2],
}

impl FloodRow {
    /// The part of the honest peers that got in, 0 to 1; `None` where there were too few of them to say.
    pub(super) fn honest(&self) -> Option<f64> {
        (self.peers >= PEERS_MIN).then(|| self.up as f64 / self.peers as f64)
    }
}

/// All rounds that are like this one.
pub(super) fn row(runs: &[Run], like: &Run) -> FloodRow {
    let rounds = rounds(runs, &like.scenario, &like.responder);
    let middle = |value: fn(&Figures) -> Option<f64>| median(rounds.iter().map(|one| value(one)));
    let cpu_micros = middle(micros);
    FloodRow {
        scenario: like.scenario.clone(),
        responder: like.responder.clone(),
        rounds: rounds.len(),
        sent: middle(|one| Some(one.flood?.sent as f64 / one.samples.last()?.at)),
        answered: middle(|one| Some(one.flood?.answered as f64 / one.samples.last()?.at)),
        cpu_micros,
        per_core: cpu_micros.map(|micros| 1e6 / micros),
        peers: rounds.iter().map(|one| one.peers).sum(),
        up: rounds.iter().map(|one| one.up).sum(),
        latency: [
            middle(|one| one.handshake.map(|all| all.p50)),
            middle(|one| one.handshake.map(|all| all.p99)),
        ],
    }
}

/// What an answer cost.
fn micros(one: &Figures) -> Option<f64> {
    let answered = one.flood?.answered;
    let few = one.up * ANSWERS_PER_PEER <= answered && answered > 0;
    few.then_some(one.samples.last()?.cpu * 1e6 / answered as f64)
}

/// A section of the table.
pub(super) fn markdown(floods: &[FloodRow]) -> String {
    let mut out = String::new();
    if floods.is_empty() {
        return out;
    }
    out += "\n| flood | responder | sent | answered | CPU per answer | answers per second and core | honest peers let in | p50 | p99 |\n";
    out += "|---|---|---:|---:|---:|---:|---:|---:|---:|\n";
    for row in floods {
        let honest = row.honest().map_or_else(
            || "-".to_owned(),
            |part| format!("{} of {} ({:.2} %)", row.up, row.peers, part * 100.0),
        );
        let latency = if row.honest().is_some() {
            row.latency
        } else {
            [None; 2]
        };
        let [p50, p99] = latency.map(|value| told(value, 1, " ms"));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {honest} | {p50} | {p99} |",
            row.scenario,
            row.responder,
            told(row.sent, 0, "/s"),
            told(row.answered, 0, "/s"),
            told(row.cpu_micros, 2, " us"),
            told(row.per_core, 0, ""),
        );
    }
    out
}

/// What is said of it where there is no table.
pub(super) fn summary(floods: &[FloodRow]) -> String {
    let mut out = String::new();
    let mut costs: BTreeMap<&str, f64> = BTreeMap::new();
    for row in floods {
        let Some(micros) = row.cpu_micros else {
            continue;
        };
        let least = costs.entry(&row.responder).or_insert(micros);
        *least = least.min(micros);
    }
    let costs: Vec<String> = costs
        .iter()
        .map(|(responder, micros)| format!("{responder} {micros:.1} us"))
        .collect();
    if !costs.is_empty() {
        let costs = costs.join(", ");
        let _ = writeln!(out, "An answer to a spoofed IKE_SA_INIT: {costs}.");
    }
    for row in floods.iter().filter(|row| row.responder == OURS) {
        if let Some(part) = row.honest() {
            let sent = told(row.sent, 0, "");
            let percent = part * 100.0;
            let _ = writeln!(
                out,
                "Beside {sent} of them in a second {percent:.2} % of honest peers get in."
            );
        }
    }
    out
}

/// Peers below which their part says nothing.
const PEERS_MIN: u64 = 100;
/// Answers for each peer that was let in, from which on what the latter cost does not count.
const ANSWERS_PER_PEER: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::super::Comparison;
    use super::*;

    fn run(scenario: &str, responder: &str, peers: u64, up: u64, answered: u64, cpu: f64) -> Run {
        let report = serde_json::json!({
            "machine": "m", "peers": peers, "up": up, "lost": 0, "cpu_micros_per_sa": 5.0,
            "flood": {"sent": 400_000, "answered": answered},
            "samples": [{"at": 0.1, "cpu": 0.0}, {"at": 4.0, "cpu": cpu}],
            "handshake": {"count": up, "p50": 1.5, "p90": 2.0, "p99": 30.0, "p999": 4.0, "max": 5.0},
        });
        Run {
            scenario: scenario.to_owned(),
            responder: responder.to_owned(),
            figures: serde_json::from_value(report).unwrap(),
        }
    }

    #[test]
    fn an_answer_costs_what_it_takes_and_the_honest_are_counted_over_all_rounds() {
        let runs = [
            run("flood", "iked", 2, 2, 400_000, 1.6),
            run("flood", "strongswan-5.9.8", 2, 1, 100_000, 3.0),
            run("beside", "iked", 1000, 1000, 400_000, 2.0),
            run("beside", "iked", 1000, 996, 400_000, 2.0),
        ];
        let comparison = Comparison::new("abc", &runs);
        assert!(comparison.rows.is_empty());
        let [ours, theirs, beside] = &comparison.floods[..] else {
            panic!("{:?}", comparison.floods);
        };
        assert_eq!((ours.sent, ours.answered), (Some(1e5), Some(1e5)));
        assert_eq!(
            (ours.cpu_micros, ours.per_core),
            (Some(4.0), Some(250_000.0))
        );
        assert_eq!((theirs.cpu_micros, theirs.honest()), (Some(30.0), None));
        assert_eq!((beside.cpu_micros, beside.honest()), (None, Some(0.998)));
        let table = comparison.markdown();
        assert!(
            table.contains("| flood | iked | 100000/s | 100000/s | 4.00 us | 250000 | - | - | - |"),
            "{table}"
        );
        assert!(table.contains("| beside | iked | 100000/s | 100000/s | - | - | 1996 of 2000 (99.80 %) | 1.5 ms | 30.0 ms |"), "{table}");
        let said = comparison.summary();
        assert!(
            said.contains("iked 4.0 us, strongswan-5.9.8 30.0 us"),
            "{said}"
        );
        assert!(said.contains("99.80 % of honest"), "{said}");
        let bar = comparison.bars.last().unwrap();
        assert_eq!((bar.measured, bar.is_met()), (Some(99.8), false));
        // Half a flood shows nothing, however many get in beside it.
        let mut half = run("beside", "iked", 1000, 1000, 200_000, 1.0);
        half.figures.samples.last_mut().unwrap().at = 8.0;
        let half = Comparison::new("abc", &[half]);
        let bar = half.bars.last().unwrap();
        assert_eq!((bar.measured, bar.is_met()), (None, false));
    }
}
