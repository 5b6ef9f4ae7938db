//! The reports of several runs against what they are to come to: latency at half of the rate at which
//! the responder is saturated, overload, memory, a million peers that stay, and what more shards
//! cost. A run that was not made has no row.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::page::page;
use crate::plot::{self, Bar as Plotted};
use crate::report::Latency;

mod row;

pub use row::Row;
pub(crate) use row::table;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A report cannot be read, or the table not be written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// It is no report.
    #[error("{0}: {1}")]
    Content(PathBuf, serde_json::Error),
}

/// What a report says that a bar is about.
#[derive(Clone, Debug, Deserialize)]
struct Run {
    machine: String,
    peers: u64,
    up: u64,
    failed: u64,
    lost: u64,
    rate: f64,
    goodput: Option<f64>,
    stay: Option<Stay>,
    cpu_micros_per_sa: Option<f64>,
    bytes_per_sa: Option<f64>,
    handshake: Latency,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Stay {
    cores: f64,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub struct Bars {
    machine: String,
    /// The rows, in the order of the table.
    pub rows: Vec<Row>,
}

/// The reports of a folder, by what `scripts/bars.sh` calls them.
struct Reports<'a>(&'a Path);

impl Reports<'_> {
    fn run(&self, name: &str) -> Result<Option<Run>, Error> {
        let path = self.0.join(format!("{name}.json"));
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::Content(path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::File(path, error)),
        }
    }

    /// What they were made on, by the first that is there.
    fn machine(&self) -> Result<String, Error> {
        for name in ["peak", "capped", "100k", "million", "shards-1"] {
            if let Some(run) = self.run(name)? {
                return Ok(run.machine);
            }
        }
        Ok(String::new())
    }
}

impl Bars {
    /// Reads the reports below `folder`.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let reports = Reports(folder);
        let mut rows = Vec::new();
        if let Some(run) = reports.run("peak")? {
            let note = format!("{} peers, as fast as they get in", run.peers);
            rows.push(free("saturating rate", Some(run.rate), "/s", note));
        }
        if let Some(run) = reports.run("half")? {
            rows.extend(half(&run));
        }
        if let (Some(peak), Some(twice)) = (reports.run("capped")?, reports.run("twice")?) {
            rows.extend(overload(&peak, &twice));
        }
        for name in ["100k", "million"] {
            if let Some(run) = reports.run(name)? {
                rows.extend(many(&run));
            }
        }
        let mut one = None;
        for shards in SHARDS {
            if let Some(run) = reports.run(&format!("shards-{shards}"))? {
                let cpu = run.cpu_micros_per_sa;
                one = one.or(cpu);
                rows.push(Row {
                    what: format!("CPU per handshake, {shards} shards"),
                    measured: cpu,
                    unit: "us",
                    bar: Some(one.unwrap_or(0.0) * SHARDS_FACTOR),
                    note: format!("{:.0}/s, {} lost", run.rate, lost(&run)),
                    ..Row::default()
                });
            }
        }
        let machine = reports.machine()?;
        Ok(Self { machine, rows })
    }

    /// Whether all that is asked for is so.
    pub fn are_met(&self) -> bool {
        self.rows.iter().all(Row::is_met)
    }

    /// For benches/README.md and for a terminal.
    pub fn markdown(&self) -> String {
        format!("{}.\n\n{}", self.machine, table(&self.rows))
    }

    /// Writes `bars.json` and `bars.html` below `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| Error::File(path, error))
        };
        let path = folder.join("bars.json");
        let json =
            serde_json::to_string_pretty(self).map_err(|error| Error::Content(path, error))?;
        put("bars.json", &json)?;
        put("bars.html", &self.html())
    }

    fn html(&self) -> String {
        let asked = self.rows.iter().filter_map(|row| {
            let bar = row.bar.filter(|bar| *bar > 0.0)?;
            Some(Plotted {
                name: row.what.clone(),
                group: usize::from(row.is_met()),
                value: row.measured? / bar * 100.0,
            })
        });
        let asked: Vec<Plotted> = asked.collect();
        let plot = plot::bars("Of the bar", "%", &asked);
        let title = "What this iked is to come to";
        page(title, &self.machine, &table(&self.rows), plot)
    }
}

/// Peers that did not get in or did not stay.
fn lost(run: &Run) -> u64 {
    run.peers.saturating_sub(run.up).max(run.failed) + run.lost
}

fn free(what: &str, measured: Option<f64>, unit: &'static str, note: String) -> Row {
    Row {
        what: what.to_owned(),
        measured,
        unit,
        note,
        ..Row::default()
    }
}

fn at_most(what: &str, measured: Option<f64>, unit: &'static str, bar: f64, note: String) -> Row {
    Row {
        bar: Some(bar),
        ..free(what, measured, unit, note)
    }
}

fn half(run: &Run) -> [Row; 2] {
    let note = format!("{} peers, p50 {:.1} ms", run.peers, run.handshake.p50);
    let (p99, lost) = (Some(run.handshake.p99), Some(lost(run) as f64));
    [
        at_most("at half of it: p99", p99, "ms", 3.0, note),
        at_most("at half of it: lost", lost, "", 0.0, String::new()),
    ]
}

fn overload(peak: &Run, twice: &Run) -> [Row; 2] {
    let peak = peak.rate;
    let part = twice.goodput.map(|goodput| goodput / peak.max(1.0) * 100.0);
    let note = format!("{:.0}/s of {peak:.0}/s", twice.goodput.unwrap_or(0.0));
    let dropped = Some(twice.lost as f64);
    let refused = lost(twice).saturating_sub(twice.lost);
    let others = format!("{refused} of {} never got in", twice.peers);
    [
        Row {
            floor: true,
            ..at_most("at twice the rate: goodput", part, "%", 90.0, note)
        },
        at_most("at twice the rate: dropped", dropped, "", 0.0, others),
    ]
}

fn many(run: &Run) -> Vec<Row> {
    let peers = run.peers;
    let note = format!("{} lost", lost(run));
    let memory = format!("memory per IKE SA, {peers} peers");
    let mut rows = vec![at_most(&memory, run.bytes_per_sa, "B", 2048.0, note)];
    if let Some(stay) = run.stay {
        let name = format!("staying, with DPD every 60 s, {peers} peers");
        let part = peers as f64 / 1e6;
        let note = "for each million of peers one core".to_owned();
        rows.push(at_most(&name, Some(stay.cores), "cores", part, note));
    }
    rows
}

/// The runs with so many shards.
const SHARDS: [u32; 5] = [1, 2, 4, 8, 16];
/// How much dearer a handshake may be with more shards than with one: what one run differs from the next by.
const SHARDS_FACTOR: f64 = 1.15;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, changes: &[(&str, serde_json::Value)]) {
        let handshake = serde_json::json!({"count": 9, "p50": 1.0, "p90": 2.0, "p99": 2.5, "p999": 4.0, "max": 5.0});
        let mut report = serde_json::json!({
            "machine": "2 x a <CPU>", "peers": 100_000, "up": 100_000, "failed": 0, "lost": 0, "rate": 2000.0,
            "goodput": null, "stay": null, "cpu_micros_per_sa": 100.0, "bytes_per_sa": 2000.0,
            "handshake": handshake,
        });
        for (key, value) in changes {
            report[*key] = value.clone();
        }
        fs::write(folder.join(format!("{name}.json")), report.to_string()).unwrap();
    }

    #[test]
    fn each_run_has_its_rows_and_what_is_missed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        put(folder, "peak", &[]);
        put(folder, "half", &[("up", 99_999.into())]);
        put(folder, "capped", &[("rate", 500.0.into())]);
        put(
            folder,
            "twice",
            &[("goodput", 400.0.into()), ("lost", 2.into())],
        );
        put(
            folder,
            "100k",
            &[("stay", serde_json::json!({"seconds": 60.0, "cores": 0.05}))],
        );
        put(folder, "shards-1", &[]);
        put(folder, "shards-4", &[("cpu_micros_per_sa", 120.0.into())]);
        let bars = Bars::read(folder).unwrap();
        let missed: Vec<&str> = bars
            .rows
            .iter()
            .filter(|row| !row.is_met())
            .map(|row| row.what.as_str())
            .collect();
        assert_eq!(
            missed,
            [
                "at half of it: lost",
                "at twice the rate: goodput",
                "at twice the rate: dropped",
                "CPU per handshake, 4 shards"
            ]
        );
        assert!(!bars.are_met());
        let table = bars.markdown();
        assert!(
            table.contains(
                "| at twice the rate: goodput | 80.0 % | at least 90.0 % | no | 400/s of 500/s |"
            ),
            "{table}"
        );
        assert!(table.contains("| staying, with DPD every 60 s, 100000 peers | 0.05 cores | at most 0.10 cores | yes |"), "{table}");
        bars.write(folder).unwrap();
        let page = fs::read_to_string(folder.join("bars.html")).unwrap();
        assert!(page.contains("<svg") && page.contains("a &lt;CPU&gt;"));
    }

    #[test]
    fn a_folder_without_reports_has_no_rows_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Bars::read(folder.path()).unwrap().rows, []);
        fs::write(folder.path().join("peak.json"), "{}").unwrap();
        let told = Bars::read(folder.path()).unwrap_err().to_string();
        assert!(told.contains("peak.json: missing field"), "{told}");
    }
}
