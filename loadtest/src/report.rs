//! What a run came to: as a table for the terminal, as JSON, and as one HTML file with plots.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::meter::{Counts, Durations, Meter, Reasons};
use crate::page::page;
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

/// What it cost the responder that all were up.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stay {
    /// Seconds that they stayed.
    pub seconds: f64,
    /// CPU time of the responder in a second of that, in seconds: 1 is one core.
    pub cores: f64,
}

/// Why peers failed, or what befell them.
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
    /// The same while peers were still coming, where they come at a rate.
    pub goodput: Option<f64>,
    /// What it cost that they stayed, if the responder was watched.
    pub stay: Option<Stay>,
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
    /// From when a peer that had gone came again until it was up.
    pub reconnect: Latency,
    /// What was counted beside that.
    pub counts: Counts,
    /// What kept peers from getting in, the most frequent first.
    pub failures: Vec<Failure>,
    /// What befell those that were up: who got lost, and exchanges that came to nothing.
    pub troubles: Vec<Failure>,
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
    /// When the last peer came, where they come at a rate.
    pub arrivals: Option<Duration>,
    /// How long they stayed then, and what the responder had cost by the end of it.
    pub stayed: Option<(Duration, Cost)>,
    /// Over time.
    pub samples: Vec<Sample>,
}

impl Report {
    /// Puts it together.
    pub fn new(frame: Frame, meter: &Meter) -> Self {
        let up = meter.handshakes.count();
        let failures = ranked(&meter.failures);
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
            goodput: goodput(&frame),
            stay: stay(&frame),
            handshake: Latency::of(&meter.handshakes),
            reconnect: Latency::of(&meter.reconnects),
            counts: meter.counts.clone(),
            troubles: ranked(&meter.troubles),
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
        let all_in = self.up == self.peers && self.failed == 0;
        self.cut_short.is_none() && all_in && self.lost == 0
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
        self.tell_stay(&mut out);
        let _ = writeln!(
            out,
            "{:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "p50", "p90", "p99", "p99.9", "max"
        );
        let whole = [("whole handshake", self.handshake)].into_iter();
        let again = [("coming again", self.reconnect)].into_iter();
        let again = again.filter(|(_, latency)| latency.count > 0);
        for (name, l) in whole.chain(again).chain(self.exchanges.iter().copied()) {
            let _ = writeln!(
                out,
                "{name:<16} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                l.count, l.p50, l.p90, l.p99, l.p999, l.max
            );
        }
        for failure in self.failures.iter().take(ROWS_MAX) {
            let _ = writeln!(
                out,
                "{} failed in {}: {} (one is {})",
                failure.count, failure.exchange, failure.reason, failure.peer
            );
        }
        for trouble in self.troubles.iter().take(ROWS_MAX) {
            let _ = writeln!(
                out,
                "{} up, exchange {}: {} (one is {})",
                trouble.count, trouble.exchange, trouble.reason, trouble.peer
            );
        }
        if let Some(why) = &self.cut_short {
            let _ = writeln!(out, "cut short: {why}");
        }
        out
    }

    /// What they did while they stayed, and what went on beside it.
    fn tell_stay(&self, out: &mut String) {
        let c = &self.counts;
        if let Some(goodput) = self.goodput {
            let _ = writeln!(out, "while they came: {goodput:.0} up in a second");
        }
        if let Some(stay) = self.stay {
            let (seconds, cores) = (stay.seconds, stay.cores);
            let _ = writeln!(
                out,
                "while they stayed: {cores:.3} cores of the responder for {seconds:.0} s"
            );
        }
        let counted = [
            (c.moves_begun, "moves begun"),
            (c.moves, "moves done"),
            (c.encapsulated, "Child SAs in UDP"),
            (c.remaps, "ports changed by a NAT"),
            (c.gone, "went to come again"),
            (self.reconnect.count, "came again"),
            (c.ike_rekeys, "IKE SAs rekeyed"),
            (c.child_rekeys, "Child SAs rekeyed"),
            (c.delayed, "datagrams of slow peers"),
            (c.wire_lost, "datagrams lost on purpose"),
            (c.forgotten, "datagrams to a forgotten port"),
            (c.sent_again, "requests sent again"),
        ];
        let words = counted.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = words
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !words.is_empty() {
            let _ = writeln!(out, "{}", words.join(", "));
        }
        let asked = c
            .asked
            .iter()
            .map(|(exchange, count)| format!("{count} {exchange}"));
        let asked: Vec<String> = asked.collect();
        if !asked.is_empty() {
            let _ = writeln!(out, "begun by the responder: {}", asked.join(", "));
        }
    }

    /// One page that a person looks at.
    pub fn html(&self) -> String {
        let title = format!("ikeload: {}", self.scenario);
        let about = format!("{}, seed {}", self.machine, self.seed);
        page(&title, &about, &self.table(), self.plots())
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

/// The most frequent first.
fn ranked(reasons: &Reasons) -> Vec<Failure> {
    let all = reasons.iter();
    let rows = all.map(|((exchange, reason), (count, peer))| Failure {
        exchange: exchange.clone(),
        reason: reason.clone(),
        count: *count,
        peer: peer.clone(),
    });
    let mut rows: Vec<Failure> = rows.collect();
    rows.sort_by_key(|row| Reverse(row.count));
    rows
}

/// How many came up in a second until the last one came.
fn goodput(frame: &Frame) -> Option<f64> {
    let arrivals = frame.arrivals?.as_secs_f64();
    let mut before = frame.samples.iter().rev();
    let last = before.find(|sample| sample.at <= arrivals)?;
    (last.at > 0.0).then(|| last.up as f64 / last.at)
}

fn stay(frame: &Frame) -> Option<Stay> {
    let ((stayed, after), (_, before)) = (frame.stayed?, frame.cost?);
    let seconds = stayed.as_secs_f64();
    let cpu = after.user + after.system - before.user - before.system;
    (seconds > 0.0).then(|| Stay {
        seconds,
        cores: cpu / seconds,
    })
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

/// Reasons in the table; the JSON has all.
const ROWS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut meter = Meter::default();
        for millis in 1..=100 {
            meter.handshakes.record(Duration::from_millis(millis));
        }
        meter.failed("IKE_AUTH", "recv AUTHENTICATION_FAILED <now>", "peer-3");
        meter.failed("IKE_AUTH", "recv AUTHENTICATION_FAILED <now>", "peer-4");
        meter.troubled(
            "INFORMATIONAL",
            "sa_free: retransmit limit reached",
            "peer-5",
        );
        meter.reconnects.record(Duration::from_millis(7));
        meter.counts.moves = 12;
        meter.counts.asked.insert("CREATE_CHILD_SA", 3);
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
            arrivals: Some(Duration::from_secs(1)),
            stayed: Some((Duration::from_secs(10), cost(3.08, 1_400_000))),
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
        for line in [
            "while they came: 40 up in a second\n",
            "while they stayed: 0.250 cores of the responder for 10 s\n",
            "12 moves done, 1 came again\n",
            "begun by the responder: 3 CREATE_CHILD_SA\n",
            "1 up, exchange INFORMATIONAL: sa_free: retransmit limit reached (one is peer-5)\n",
        ] {
            assert!(table.contains(line), "{line}{table}");
        }
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
