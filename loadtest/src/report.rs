//! What a run came to: as a table for the terminal, as JSON, and as one HTML file with plots.

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::meter::{Durations, Meter};
use crate::plot::{self, Axes, Line};
use crate::responder::Cost;

/// One sample of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// Peers that are up, all that ever were.
    pub up: u64,
    /// Peers that failed.
    pub failed: u64,
    /// CPU time of the responder until now, in seconds.
    pub cpu: f64,
    /// Its resident bytes.
    pub resident: u64,
}

/// How long something took, in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// Half of them.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// All of them.
    pub max: f64,
}

impl Latency {
    fn of(durations: &Durations) -> Self {
        Self {
            count: durations.count(),
            p50: durations.quantile(0.5),
            p90: durations.quantile(0.9),
            p99: durations.quantile(0.99),
            p999: durations.quantile(0.999),
            max: durations.quantile(1.0),
        }
    }
}

/// What became of a flood.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Flooded {
    /// Requests that went out.
    pub sent: u64,
    /// Datagrams that came for them.
    pub answered: u64,
}

/// Why peers failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// In which exchange.
    pub exchange: String,
    /// The last line about one of them.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// One of them.
    pub peer: String,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario file.
    pub scenario: String,
    /// The machine: processor and how many.
    pub machine: String,
    /// Where all randomness came from.
    pub seed: u64,
    /// How the run ended before its time, if it did.
    pub cut_short: Option<String>,
    /// Peers there are.
    pub peers: u64,
    /// Peers whose IKE SA with its Child SA came up.
    pub up: u64,
    /// Peers whose IKE SA did not.
    pub failed: u64,
    /// IKE SAs that were up and got lost.
    pub lost: u64,
    /// What became of the flood beside them, if there was one.
    pub flood: Option<Flooded>,
    /// Seconds until the last one was up or had failed.
    pub seconds: f64,
    /// IKE SAs that came up in a second.
    pub rate: f64,
    /// CPU time of the responder for each, in microseconds, if it was watched.
    pub cpu_micros_per_sa: Option<f64>,
    /// The part of that in the kernel.
    pub system_micros_per_sa: Option<f64>,
    /// Resident bytes of the responder that each added.
    pub bytes_per_sa: Option<f64>,
    /// From when a peer was to come until it was up.
    pub handshake: Latency,
    /// By exchange.
    pub exchanges: Vec<(&'static str, Latency)>,
    /// What went wrong, the most frequent first.
    pub failures: Vec<Failure>,
    /// Over time.
    pub samples: Vec<Sample>,
}

/// What a report is made of beside the meter.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The scenario file.
    pub scenario: String,
    /// The machine.
    pub machine: String,
    /// Where all randomness came from.
    pub seed: u64,
    /// How the run ended before its time.
    pub cut_short: Option<String>,
    /// Peers there are.
    pub peers: u64,
    /// IKE SAs that got lost.
    pub lost: u64,
    /// What became of the flood.
    pub flood: Option<Flooded>,
    /// Seconds until all were up or had failed.
    pub seconds: f64,
    /// What the responder cost before and after that.
    pub cost: Option<(Cost, Cost)>,
    /// Over time.
    pub samples: Vec<Sample>,
}

impl Report {
    /// Puts it together.
    pub fn new(frame: Frame, meter: &Meter) -> Self {
        let up = meter.handshakes.count();
        let failures = meter
            .failures
            .iter()
            .map(|((exchange, reason), (count, peer))| Failure {
                exchange: exchange.clone(),
                reason: reason.clone(),
                count: *count,
                peer: peer.clone(),
            });
        let mut failures: Vec<Failure> = failures.collect();
        failures.sort_by_key(|failure| Reverse(failure.count));
        let each = |of: fn(&Cost) -> f64| {
            let (before, after) = frame.cost.as_ref().filter(|_| up > 0)?;
            Some((of(after) - of(before)) / up as f64)
        };
        let exchanges = meter.exchanges.iter();
        Self {
            peers: frame.peers,
            up,
            failed: failures.iter().map(|failure| failure.count).sum(),
            lost: frame.lost,
            flood: frame.flood,
            rate: if frame.seconds > 0.0 {
                up as f64 / frame.seconds
            } else {
                0.0
            },
            cpu_micros_per_sa: each(|cost| cost.user + cost.system).map(|s| s * 1e6),
            system_micros_per_sa: each(|cost| cost.system).map(|s| s * 1e6),
            bytes_per_sa: each(|cost| cost.resident as f64),
            handshake: Latency::of(&meter.handshakes),
            exchanges: exchanges
                .map(|(name, all)| (*name, Latency::of(all)))
                .collect(),
            failures,
            scenario: frame.scenario,
            machine: frame.machine,
            seed: frame.seed,
            cut_short: frame.cut_short,
            seconds: frame.seconds,
            samples: frame.samples,
        }
    }

    /// Whether everybody came up and stayed.
    pub fn is_good(&self) -> bool {
        self.cut_short.is_none() && self.up == self.peers && self.lost == 0
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{} of {} peers up in {:.2} s ({:.0}/s), {} failed, {} lost later",
            self.up, self.peers, self.seconds, self.rate, self.failed, self.lost
        );
        if let (Some(cpu), Some(system), Some(bytes)) = (
            self.cpu_micros_per_sa,
            self.system_micros_per_sa,
            self.bytes_per_sa,
        ) {
            let _ = writeln!(
                out,
                "responder: {cpu:.0} us of CPU for each ({system:.0} us in the kernel), {bytes:.0} resident bytes"
            );
        }
        if let Some(flood) = self.flood {
            let (sent, answered) = (flood.sent, flood.answered);
            let _ = writeln!(
                out,
                "flood beside them: {sent} requests, {answered} answers"
            );
        }
        let _ = writeln!(
            out,
            "{:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "p50", "p90", "p99", "p99.9", "max"
        );
        let whole = [("whole handshake", self.handshake)];
        for (name, l) in whole.into_iter().chain(self.exchanges.iter().copied()) {
            let _ = writeln!(
                out,
                "{name:<16} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                l.count, l.p50, l.p90, l.p99, l.p999, l.max
            );
        }
        for failure in &self.failures {
            let _ = writeln!(
                out,
                "{} failed in {}: {} (one is {})",
                failure.count, failure.exchange, failure.reason, failure.peer
            );
        }
        if let Some(why) = &self.cut_short {
            let _ = writeln!(out, "cut short: {why}");
        }
        out
    }

    /// One page that a person looks at.
    pub fn html(&self) -> String {
        let mut out =
            String::from("<!doctype html>\n<meta charset=\"utf-8\">\n<title>ikeload</title>\n");
        out += "<style>body{font:15px/1.4 sans-serif;margin:2em auto;max-width:62em;color:#222}\
                pre{background:#f4f4f4;padding:1em;overflow:auto}svg{max-width:100%;height:auto}</style>\n";
        let _ = writeln!(out, "<h1>ikeload: {}</h1>", escaped(&self.scenario));
        let _ = writeln!(
            out,
            "<p>{}, seed {}</p>\n<pre>{}</pre>",
            escaped(&self.machine),
            self.seed,
            escaped(&self.table())
        );
        for plot in self.plots() {
            out += &plot;
            out.push('\n');
        }
        out
    }

    fn plots(&self) -> Vec<String> {
        let rate = differences(&self.samples, |sample| sample.up as f64);
        let failed = differences(&self.samples, |sample| sample.failed as f64);
        let cpu = differences(&self.samples, |sample| sample.cpu * 100.0);
        let resident = self
            .samples
            .iter()
            .map(|sample| (sample.at, sample.resident as f64 / 1048576.0));
        let ranked = |l: &Latency| {
            let values = [l.p50, l.p90, l.p99, l.p999, l.max];
            (0..).map(f64::from).zip(values).collect()
        };
        let mut latencies = vec![Line::new("whole handshake", ranked(&self.handshake))];
        for (name, latency) in &self.exchanges {
            latencies.push(Line::new(name, ranked(latency)));
        }
        let mut plots = vec![
            plot::lines(
                over_time("IKE SAs in a second", "1/s"),
                &[Line::new("up", rate), Line::new("failed", failed)],
            ),
            plot::lines(LATENCY, &latencies),
        ];
        if self.cpu_micros_per_sa.is_some() {
            plots.push(plot::lines(
                over_time("CPU of the responder", "% of one"),
                &[Line::new("user and system", cpu)],
            ));
            plots.push(plot::lines(
                over_time("Memory of the responder", "MiB"),
                &[Line::new("resident", resident.collect())],
            ));
        }
        plots.into_iter().flatten().collect()
    }
}

/// What was added in a second, between two samples.
fn differences(samples: &[Sample], value: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let steps = pairs.filter(|(a, b)| b.at > a.at);
    steps
        .map(|(a, b)| (b.at, (value(b) - value(a)) / (b.at - a.at)))
        .collect()
}

const fn over_time<'a>(title: &'a str, y: &'a str) -> Axes<'a> {
    Axes {
        title,
        x: "s",
        y,
        ticks: &[],
    }
}

/// Percentiles stand at equal distances: true ones would hide the last.
const LATENCY: Axes<'_> = Axes {
    title: "Latency",
    x: "percentile",
    y: "ms",
    ticks: &["50", "90", "99", "99.9", "100"],
};

/// For a page.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report() -> Report {
        let mut meter = Meter::default();
        for millis in 1..=100 {
            meter.handshakes.record(Duration::from_millis(millis));
        }
        meter.failed("IKE_AUTH", "recv AUTHENTICATION_FAILED <now>", "peer-3");
        meter.failed("IKE_AUTH", "recv AUTHENTICATION_FAILED <now>", "peer-4");
        let cost = |cpu: f64, resident| Cost {
            user: cpu,
            system: cpu / 4.0,
            resident,
        };
        let sample = |at: f64, up| Sample {
            at,
            up,
            failed: 0,
            cpu: at / 10.0,
            resident: 1 << 20,
        };
        let frame = Frame {
            scenario: "storm.toml".to_owned(),
            machine: "a machine".to_owned(),
            seed: 7,
            cut_short: None,
            peers: 102,
            lost: 0,
            flood: Some(Flooded {
                sent: 900,
                answered: 800,
            }),
            seconds: 2.0,
            cost: Some((cost(1.0, 1_000_000), cost(1.08, 1_400_000))),
            samples: vec![sample(0.0, 0), sample(1.0, 40), sample(2.0, 100)],
        };
        Report::new(frame, &meter)
    }

    #[test]
    fn sums_are_by_ike_sa_and_failures_name_a_peer() {
        let report = report();
        assert_eq!((report.up, report.failed), (100, 2));
        assert!(!report.is_good());
        assert!((report.cpu_micros_per_sa.unwrap() - 1000.0).abs() < 1.0);
        assert!((report.system_micros_per_sa.unwrap() - 200.0).abs() < 1.0);
        assert!((report.bytes_per_sa.unwrap() - 4000.0).abs() < 1.0);
        let table = report.table();
        assert!(
            table.starts_with("100 of 102 peers up in 2.00 s (50/s), 2 failed, 0 lost later\n"),
            "{table}"
        );
        assert!(
            table
                .contains("2 failed in IKE_AUTH: recv AUTHENTICATION_FAILED <now> (one is peer-3)")
        );
        assert!(table.contains("flood beside them: 900 requests, 800 answers\n"));
        assert!(
            (report.handshake.p50 - 50.0).abs() < 0.1,
            "{:?}",
            report.handshake
        );
    }

    #[test]
    fn a_page_has_all_plots_and_no_raw_text() {
        let page = report().html();
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(page.contains("AUTHENTICATION_FAILED &lt;now&gt;"));
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["handshake"]["count"], 100);
    }
}
