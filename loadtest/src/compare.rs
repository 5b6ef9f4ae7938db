//! Runs of several responders side by side: of each figure the median over the rounds, as Markdown, as
//! JSON, and as a page with a picture. What is to be compared is CPU time, and that by the ratio within
//! a round, in which the responders had the same machine one after the other.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::plot::{self, Bar};
use crate::report::{Latency, escaped};

/// What a report says that can be compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Figures {
    machine: String,
    peers: u64,
    up: u64,
    lost: u64,
    rate: f64,
    cpu_micros_per_sa: Option<f64>,
    system_micros_per_sa: Option<f64>,
    bytes_per_sa: Option<f64>,
    handshake: Latency,
}

/// One run of one responder.
#[derive(Clone, Debug)]
pub struct Run {
    /// How the scenario is called.
    pub scenario: String,
    /// How the responder is called.
    pub responder: String,
    /// What came of it.
    pub figures: Figures,
}

/// All rounds of one responder in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// The responder.
    pub responder: String,
    /// Rounds.
    pub rounds: usize,
    /// CPU time for each IKE SA, in microseconds: median, least and most.
    pub cpu_micros: [f64; 3],
    /// The part of that in the kernel.
    pub system_micros: f64,
    /// How often the CPU time of the scenario's first responder that is: median of the rounds.
    pub ratio: f64,
    /// IKE SAs in a second.
    pub rate: f64,
    /// Milliseconds of a whole handshake: half of them, 99 of 100, 999 of 1000.
    pub latency: [f64; 3],
    /// Resident bytes for each.
    pub bytes: f64,
    /// Peers that did not get in or did not stay, in all rounds.
    pub lost: u64,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What it was made on.
    pub machine: String,
    /// The commit of this tree.
    pub commit: String,
    /// By scenario, then by responder, in the order of the first round.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// Puts runs side by side. Those of one responder in one scenario are its rounds, in their order.
    pub fn new(commit: &str, runs: &[Run]) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for run in runs {
            let same = |row: &Row| row.scenario == run.scenario && row.responder == run.responder;
            if !rows.iter().any(same) {
                rows.push(row(runs, run));
            }
        }
        let machine = runs.first().map(|run| run.figures.machine.clone());
        Self {
            machine: machine.unwrap_or_default(),
            commit: commit.to_owned(),
            rows,
        }
    }

    /// For benches/README.md and for a terminal.
    pub fn markdown(&self) -> String {
        let mut out = format!("Commit {}, {}.\n\n", self.commit, self.machine);
        out += "| scenario | responder | CPU per IKE SA | in the kernel | ratio | rate | p50 | p99 | p99.9 | memory per IKE SA | lost |\n";
        out += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        for row in &self.rows {
            let [cpu, least, most] = row.cpu_micros;
            let [p50, p99, p999] = row.latency;
            let _ = writeln!(
                out,
                "| {} | {} | {cpu:.0} us ({least:.0}-{most:.0}) | {:.0} us | {:.2} | {:.0}/s | {p50:.1} ms | \
                 {p99:.1} ms | {p999:.1} ms | {:.1} KiB | {} |",
                row.scenario,
                row.responder,
                row.system_micros,
                row.ratio,
                row.rate,
                row.bytes / 1024.0,
                row.lost,
            );
        }
        out
    }

    /// One page that a person looks at.
    pub fn html(&self) -> String {
        let mut out = String::from(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Responders compared</title>\n\
             <style>body{font:15px/1.4 sans-serif;margin:2em auto;max-width:70em;color:#222}\
             pre{background:#f4f4f4;padding:1em;overflow:auto}svg{max-width:100%;height:auto}</style>\n\
             <h1>Responders compared</h1>\n",
        );
        let _ = writeln!(out, "<pre>{}</pre>", escaped(&self.markdown()));
        let bars = |title, unit, value: fn(&Row) -> f64| {
            let bars = self.rows.iter().map(|row| Bar {
                name: format!("{} {}", row.scenario, row.responder),
                group: self.place_of(&row.responder),
                value: value(row),
            });
            plot::bars(title, unit, &bars.collect::<Vec<_>>())
        };
        let plots = [
            bars("CPU time per IKE SA", "us", |row| row.cpu_micros[0]),
            bars("Memory per IKE SA", "KiB", |row| row.bytes / 1024.0),
        ];
        for plot in plots.into_iter().flatten() {
            out += &plot;
            out.push('\n');
        }
        out
    }

    /// Which colour a responder has.
    fn place_of(&self, responder: &str) -> usize {
        let mut seen: Vec<&str> = Vec::new();
        for row in &self.rows {
            if row.responder == responder {
                break;
            }
            if !seen.contains(&row.responder.as_str()) {
                seen.push(&row.responder);
            }
        }
        seen.len()
    }
}

/// All rounds that are like this one.
fn row(runs: &[Run], like: &Run) -> Row {
    let of = |responder: &str| -> Vec<&Figures> {
        let same = |run: &&Run| run.scenario == like.scenario && run.responder == responder;
        runs.iter().filter(same).map(|run| &run.figures).collect()
    };
    let first = runs.iter().find(|run| run.scenario == like.scenario);
    let first = of(first.map_or("", |run| &run.responder));
    let rounds = of(&like.responder);
    let middle = |value: fn(&Figures) -> f64| median(rounds.iter().map(|one| value(one)));
    let cpu = |one: &Figures| one.cpu_micros_per_sa.unwrap_or(0.0);
    let pairs = rounds.iter().zip(&first);
    let all = || rounds.iter().map(|one| cpu(one));
    Row {
        scenario: like.scenario.clone(),
        responder: like.responder.clone(),
        rounds: rounds.len(),
        cpu_micros: [
            median(all()),
            all().fold(f64::MAX, f64::min),
            all().fold(0.0, f64::max),
        ],
        system_micros: middle(|one| one.system_micros_per_sa.unwrap_or(0.0)),
        ratio: median(pairs.map(|(one, base)| cpu(one) / cpu(base).max(f64::MIN_POSITIVE))),
        rate: middle(|one| one.rate),
        latency: [
            middle(|one| one.handshake.p50),
            middle(|one| one.handshake.p99),
            middle(|one| one.handshake.p999),
        ],
        bytes: middle(|one| one.bytes_per_sa.unwrap_or(0.0)),
        lost: rounds
            .iter()
            .map(|one| one.peers - one.up.min(one.peers) + one.lost)
            .sum(),
    }
}

/// The one in the middle, the upper one of two; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(scenario: &str, responder: &str, cpu: f64, up: u64) -> Run {
        let handshake = serde_json::json!({"count": up, "p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0});
        let report = serde_json::json!({
            "machine": "2 x a <CPU>", "peers": 100, "up": up, "lost": 1, "rate": 50.0, "cpu_micros_per_sa": cpu,
            "system_micros_per_sa": cpu / 4.0, "bytes_per_sa": 2048.0, "handshake": handshake,
        });
        Run {
            scenario: scenario.to_owned(),
            responder: responder.to_owned(),
            figures: serde_json::from_value(report).unwrap(),
        }
    }

    #[test]
    fn ratios_are_within_a_round_and_figures_the_median_of_all() {
        let runs = [
            run("psk", "ours", 100.0, 100),
            run("psk", "theirs", 600.0, 100),
            // The machine was busy in this round, for both.
            run("psk", "ours", 300.0, 100),
            run("psk", "theirs", 1500.0, 97),
            run("psk", "ours", 110.0, 100),
            run("psk", "theirs", 770.0, 100),
            run("cert", "theirs", 900.0, 100),
        ];
        let comparison = Comparison::new("abc", &runs);
        let rows = &comparison.rows;
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[0].rounds, rows[0].ratio), (3, 1.0));
        assert_eq!(rows[1].cpu_micros, [770.0, 600.0, 1500.0]);
        assert_eq!((rows[1].ratio, rows[1].lost), (6.0, 6));
        assert_eq!((rows[2].scenario.as_str(), rows[2].ratio), ("cert", 1.0));
        let table = comparison.markdown();
        let line = "| psk | theirs | 770 us (600-1500) | 192 us | 6.00 | 50/s | 1.0 ms | 3.0 ms | 4.0 ms | 2.0 KiB | 6 |";
        assert!(table.contains(line), "{table}");
        let page = comparison.html();
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("a &lt;CPU&gt;"));
    }
}
