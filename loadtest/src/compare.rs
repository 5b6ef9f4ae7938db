//! Runs of several responders side by side: of each figure the median over the rounds, as Markdown, as
//! JSON, and as a page with a picture. What is to be compared is CPU time, and that by the ratio within
//! a round, in which the responders had the same machine one after the other.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::bars::{Row as BarRow, table};
use crate::page::page;
use crate::plot::{self, Bar};
use crate::report::{Flooded, Latency};

mod bars;
mod flood;

pub use flood::FloodRow;

/// What is no responder, but what BoringSSL alone takes for the primitives of one handshake.
pub const PRIMITIVES: &str = "primitives";
/// This tree's own.
const OURS: &str = "iked";

/// What a report says that can be compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Figures {
    #[serde(default)]
    machine: String,
    peers: u64,
    up: u64,
    lost: u64,
    rate: Option<f64>,
    cpu_micros_per_sa: Option<f64>,
    system_micros_per_sa: Option<f64>,
    bytes_per_sa: Option<f64>,
    handshake: Option<Latency>,
    flood: Option<Flooded>,
    #[serde(default)]
    samples: Vec<Moment>,
}

/// A sample of a report: when it was taken, and the responder's CPU time until then, both in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Moment {
    at: f64,
    cpu: f64,
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
    pub system_micros: Option<f64>,
    /// How often the CPU time of the scenario's first responder that is: median of the rounds.
    pub ratio: f64,
    /// How often that of the primitives, where they were measured.
    pub primitives_ratio: Option<f64>,
    /// IKE SAs in a second.
    pub rate: Option<f64>,
    /// Milliseconds of a whole handshake: half of them, 99 of 100, 999 of 1000.
    pub latency: [Option<f64>; 3],
    /// Resident bytes for each.
    pub bytes: Option<f64>,
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
    /// The same of the runs with a flood.
    pub floods: Vec<FloodRow>,
    /// What of this was to be reached.
    pub bars: Vec<BarRow>,
}

impl Comparison {
    /// Puts runs side by side. Those of one responder in one scenario are its rounds, in their order.
    pub fn new(commit: &str, runs: &[Run]) -> Self {
        let (flooded, quiet): (Vec<Run>, Vec<Run>) = runs
            .iter()
            .cloned()
            .partition(|run| run.figures.flood.is_some());
        let rows: Vec<Row> = firsts(&quiet).map(|run| row(&quiet, run)).collect();
        let floods: Vec<FloodRow> = firsts(&flooded)
            .map(|run| flood::row(&flooded, run))
            .collect();
        let machine = runs.iter().map(|run| &run.figures.machine);
        let machine = machine.clone().find(|machine| !machine.is_empty());
        Self {
            machine: machine.cloned().unwrap_or_default(),
            commit: commit.to_owned(),
            bars: bars::of(&rows, &floods),
            rows,
            floods,
        }
    }

    /// For benches/README.md and for a terminal.
    pub fn markdown(&self) -> String {
        let mut out = format!("Commit {}, {}.\n", self.commit, self.machine);
        if !self.rows.is_empty() {
            out += "\n| scenario | responder | CPU per IKE SA | in the kernel | by iked's | by primitives | rate | p50 | p99 | p99.9 | memory per IKE SA | lost |\n";
            out += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        }
        for row in &self.rows {
            let [cpu, least, most] = row.cpu_micros;
            let [p50, p99, p999] = row.latency.map(|value| told(value, 1, " ms"));
            let _ = writeln!(
                out,
                "| {} | {} | {cpu:.0} us ({least:.0}-{most:.0}) | {} | {:.2} | {} | {} | {p50} | {p99} | {p999} | {} | {} |",
                row.scenario,
                row.responder,
                told(row.system_micros, 0, " us"),
                row.ratio,
                told(row.primitives_ratio, 2, ""),
                told(row.rate, 0, "/s"),
                told(row.bytes.map(|bytes| bytes / 1024.0), 1, " KiB"),
                row.lost,
            );
        }
        out += &flood::markdown(&self.floods);
        if !self.bars.is_empty() {
            let _ = write!(out, "\n{}", table(&self.bars));
        }
        out
    }

    /// A sentence or two for who reads no tables.
    pub fn summary(&self) -> String {
        let ours = self.rows.iter().filter(|row| row.responder == OURS);
        let parts = ours.map(|own| {
            let mut part = format!("{} {:.0} us", own.scenario, own.cpu_micros[0]);
            let mut more = Vec::new();
            if let Some(ratio) = own.primitives_ratio {
                more.push(format!("{ratio:.2} times BoringSSL's primitives alone"));
            }
            for other in &self.rows {
                let same = other.scenario == own.scenario;
                if same && ![OURS, PRIMITIVES].contains(&other.responder.as_str()) {
                    more.push(format!(
                        "{} {:.1} times as much",
                        other.responder, other.ratio
                    ));
                }
            }
            if !more.is_empty() {
                let _ = write!(part, " ({})", more.join(", "));
            }
            part
        });
        let parts: Vec<String> = parts.collect();
        let mut out = format!(
            "CPU time per IKE SA with its Child SA and a leased address, all responders in turns: {}.\n",
            parts.join("; ")
        );
        out += &flood::summary(&self.floods);
        let _ = writeln!(
            out,
            "(`make compare` at commit {}, {}; [benches/README.md](benches/README.md) has it all.)",
            self.commit, self.machine
        );
        out
    }

    /// One page that a person looks at.
    pub fn html(&self) -> String {
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
            bars("Memory per IKE SA", "KiB", |row| {
                row.bytes.unwrap_or(0.0) / 1024.0
            }),
        ];
        let about = format!("{}, commit {}", self.machine, self.commit);
        let plots = plots.into_iter().flatten();
        page("Responders compared", &about, &self.markdown(), plots)
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

/// The first round of each responder in each scenario.
fn firsts(runs: &[Run]) -> impl Iterator<Item = &Run> {
    let is_first = |&(at, run): &(usize, &Run)| {
        let mut before = runs.iter().take(at);
        !before.any(|one| one.scenario == run.scenario && one.responder == run.responder)
    };
    runs.iter().enumerate().filter(is_first).map(|(_, run)| run)
}

/// What the rounds of a responder in a scenario came to.
fn rounds<'a>(runs: &'a [Run], scenario: &str, responder: &str) -> Vec<&'a Figures> {
    let same = |run: &&Run| run.scenario == scenario && run.responder == responder;
    runs.iter().filter(same).map(|run| &run.figures).collect()
}

/// All rounds that are like this one.
fn row(runs: &[Run], like: &Run) -> Row {
    let of = |responder: &str| rounds(runs, &like.scenario, responder);
    let first = runs.iter().find(|run| run.scenario == like.scenario);
    let first = of(first.map_or("", |run| &run.responder));
    let rounds = of(&like.responder);
    let middle = |value: fn(&Figures) -> Option<f64>| median(rounds.iter().map(|one| value(one)));
    let cpu = |one: &Figures| one.cpu_micros_per_sa.unwrap_or(0.0);
    let times = |base: &[&Figures]| {
        let pairs = rounds.iter().zip(base);
        median(pairs.map(|(one, base)| Some(cpu(one) / cpu(base).max(f64::MIN_POSITIVE))))
    };
    let all = || rounds.iter().map(|one| cpu(one));
    Row {
        scenario: like.scenario.clone(),
        responder: like.responder.clone(),
        rounds: rounds.len(),
        cpu_micros: [
            median(all().map(Some)).unwrap_or(0.0),
            all().fold(f64::MAX, f64::min),
            all().fold(0.0, f64::max),
        ],
        system_micros: middle(|one| one.system_micros_per_sa),
        ratio: times(&first).unwrap_or(0.0),
        primitives_ratio: times(&of(PRIMITIVES)),
        rate: middle(|one| one.rate),
        latency: [
            middle(|one| one.handshake.map(|all| all.p50)),
            middle(|one| one.handshake.map(|all| all.p99)),
            middle(|one| one.handshake.map(|all| all.p999)),
        ],
        bytes: middle(|one| one.bytes_per_sa),
        lost: rounds
            .iter()
            .map(|one| one.peers - one.up.min(one.peers) + one.lost)
            .sum(),
    }
}

/// The one in the middle, the upper one of two; `None` where there is none.
fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A figure with so many digits behind the point, and its unit.
fn told(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn run(scenario: &str, responder: &str, cpu: f64, up: u64) -> Run {
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

    /// The primitives alone.
    fn bare(scenario: &str, cpu: f64) -> Run {
        let report = serde_json::json!({"peers": 9, "up": 9, "lost": 0, "cpu_micros_per_sa": cpu});
        Run {
            scenario: scenario.to_owned(),
            responder: PRIMITIVES.to_owned(),
            figures: serde_json::from_value(report).unwrap(),
        }
    }

    #[test]
    fn ratios_are_within_a_round_and_figures_the_median_of_all() {
        let runs = [
            bare("psk", 80.0),
            run("psk", "ours", 100.0, 100),
            run("psk", "theirs", 600.0, 100),
            // The machine was busy in this round, for all.
            bare("psk", 200.0),
            run("psk", "ours", 300.0, 100),
            run("psk", "theirs", 1500.0, 97),
            bare("psk", 100.0),
            run("psk", "ours", 110.0, 100),
            run("psk", "theirs", 770.0, 100),
            run("cert", "theirs", 900.0, 100),
        ];
        let ours_first = [&runs[1..], &runs[..1]].concat();
        let comparison = Comparison::new("abc", &ours_first);
        let row = |scenario: &str, responder: &str| {
            let mut rows = comparison.rows.iter();
            let row = rows.find(|row| row.scenario == scenario && row.responder == responder);
            row.unwrap().clone()
        };
        assert_eq!(comparison.rows.len(), 4);
        let (ours, theirs) = (row("psk", "ours"), row("psk", "theirs"));
        assert_eq!((ours.rounds, ours.ratio), (3, 1.0));
        assert_eq!(theirs.cpu_micros, [770.0, 600.0, 1500.0]);
        assert_eq!((theirs.ratio, theirs.lost), (6.0, 6));
        assert_eq!(
            (
                row("cert", "theirs").ratio,
                row("cert", "theirs").primitives_ratio
            ),
            (1.0, None)
        );
        // Its rounds begin with the second one here: 100 by 200, 300 by 100, 110 by 80.
        assert_eq!(ours.primitives_ratio, Some(110.0 / 80.0));
        assert_eq!(row("psk", PRIMITIVES).latency, [None; 3]);
        let table = comparison.markdown();
        let line = "| psk | theirs | 770 us (600-1500) | 192 us | 6.00 | 9.62 | 50/s | 1.0 ms | 3.0 ms | 4.0 ms | 2.0 KiB | 6 |";
        assert!(table.contains(line), "{table}");
        assert!(
            table.contains("| psk | primitives | 100 us (80-200) | - | 0.73 | 1.00 | - | - |"),
            "{table}"
        );
        let page = comparison.html();
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("a &lt;CPU&gt;"));
    }

    #[test]
    fn the_summary_has_our_figures_with_the_others_beside_them() {
        let runs = [
            run("psk", "iked", 100.0, 100),
            bare("psk", 80.0),
            run("psk", "strongswan-5.9.8", 610.0, 100),
        ];
        let said = Comparison::new("abc", &runs).summary();
        let part = "psk 100 us (1.25 times BoringSSL's primitives alone, strongswan-5.9.8 6.1 times as much).\n";
        assert!(said.contains(part), "{said}");
        assert!(said.contains("commit abc"), "{said}");
    }
}
