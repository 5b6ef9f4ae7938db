//! One run: starts the threads, watches them and the responder, and puts the report together.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use iked::policy::Options;
use iked::shard::socket::{self, Ports};
use iked::steer::Steering;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::bars;
use crate::credentials::{self, Credentials};
use crate::engine::{self, Live, Parts};
use crate::flood::Flood;
use crate::meter::Meter;
use crate::population;
use crate::report::{Flooded, Frame, Report, Sample};
use crate::responder::{self, Cost};
use crate::scenario::{Scenario, Wrong};

/// Synthetic IKEv2 initiators by the thousand, against any responder.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    /// The scenario, a TOML file; with `--bars` the folder of the reports.
    pub scenario: PathBuf,
    /// Where all randomness of the run comes from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; each has a part of the peers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
    /// Process of the responder, on this machine: its CPU time and memory go into the report. May
    /// be given several times.
    #[arg(long = "pid")]
    pub pids: Vec<i32>,
    /// Make keys and certificates for the responder and the peers, write them below this folder, and
    /// end: `private`, `certs`, `ca` and `pubkeys` are as in /etc/iked, all in PEM; the rest is for a
    /// run with `--credentials`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["credentials", "pids", "json", "html"])]
    pub write_credentials: Option<PathBuf>,
    /// The folder that `--write-credentials` made for this scenario.
    #[arg(long, value_name = "DIR")]
    pub credentials: Option<PathBuf>,
    /// Run nothing: put the reports in this folder that `scripts/bars.sh` made side by side with the bars
    /// that they are to meet, as a table, `bars.json` and `bars.html`.
    #[arg(long, conflicts_with_all = ["credentials", "pids", "json", "html"])]
    pub bars: bool,
    /// Write the report as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the report as a page with plots.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no scenario.
    #[error(transparent)]
    Scenario(#[from] Wrong),
    /// Its words are not those of iked.conf(5).
    #[error(transparent)]
    Population(#[from] population::Error),
    /// There are no keys for the peers.
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    /// A socket or a thread cannot be had.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A report cannot be written.
    #[error("{file}: {error}")]
    File {
        /// Which.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// There are no reports to put side by side.
    #[error(transparent)]
    Bars(#[from] bars::Error),
    /// A process of the responder is not there.
    #[error("no such process among {0:?}")]
    NoProcess(Vec<i32>),
}

/// A part of the peers at work.
type Thread = JoinHandle<io::Result<Meter>>;

/// Makes what the responder and the peers of a scenario prove themselves with.
pub fn write_credentials(arguments: &Arguments, folder: &Path) -> Result<(), Error> {
    let scenario = Scenario::load(&arguments.scenario)?;
    Ok(credentials::write(&scenario, folder)?)
}

/// Runs a scenario to its end.
pub fn run(arguments: &Arguments) -> Result<Report, Error> {
    let scenario = Arc::new(Scenario::load(&arguments.scenario)?);
    let before = responder::cost(&arguments.pids);
    let before = before.ok_or_else(|| Error::NoProcess(arguments.pids.clone()))?;
    let live = Arc::new(Live::default());
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (threads, start) = raise(arguments, &scenario, &live)?;
    let watch = Watch {
        arguments,
        scenario: &scenario,
        live: &live,
        stop: &stop,
        start,
    };
    let watched = watch.until_the_end(before);
    live.stop.store(true, Ordering::Relaxed);
    let (meter, broken) = gather(threads);
    let frame = Frame {
        scenario: arguments.scenario.display().to_string(),
        machine: machine(),
        seed: arguments.seed,
        cut_short: broken.or(watched.cut_short),
        peers: scenario.peers.count.into(),
        lost: live.lost.load(Ordering::Relaxed),
        flood: scenario.flood.is_some().then(|| Flooded {
            sent: live.flood_sent.load(Ordering::Relaxed),
            answered: live.flood_answered.load(Ordering::Relaxed),
        }),
        seconds: watched.settled.as_secs_f64(),
        arrivals: scenario.arrival_of(scenario.peers.count),
        stayed: watched.stayed,
        cost: (!arguments.pids.is_empty()).then_some((before, watched.cost)),
        samples: watched.samples,
    };
    let report = Report::new(frame, &meter);
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report).map_err(io::Error::from)?;
        write(path, &json)?;
    }
    if let Some(path) = &arguments.html {
        write(path, &report.html())?;
    }
    Ok(report)
}

/// What all threads have measured, and what ended one before its time.
fn gather(threads: Vec<Thread>) -> (Meter, Option<String>) {
    let (mut meter, mut broken) = (Meter::default(), None);
    for thread in threads {
        match thread.join() {
            Ok(Ok(one)) => meter.add(&one),
            Ok(Err(error)) => broken = Some(error.to_string()),
            Err(_) => broken = Some("a thread has panicked".to_owned()),
        }
    }
    (meter, broken)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::File {
        file: path.display().to_string(),
        error,
    })
}

/// Opens the sockets and starts the threads; the run begins when all is ready.
fn raise(
    arguments: &Arguments,
    scenario: &Arc<Scenario>,
    live: &Arc<Live>,
) -> Result<(Vec<Thread>, Instant), Error> {
    let config = population::config(scenario)?;
    let Credentials { store, config_dir } =
        credentials::load(scenario, arguments.credentials.as_deref())?;
    let options = Arc::new(Options {
        natt_off: false,
        natt_only: false,
        natt_port: NATT_PORT,
        config_dir,
    });
    let ports = Ports {
        ike: Some(IKE_PORT),
        natt: Some(NATT_PORT),
    };
    let key = u32::try_from(arguments.seed & 0xffff_ffff).unwrap_or(1);
    let steering = Steering::new(arguments.threads, key);
    let bound = socket::bind(&socket::WILDCARDS, ports, &steering)?;
    let store = Arc::new(store);
    let (seed, pids) = (arguments.seed, &arguments.pids);
    let flood = Flood::new(scenario, &config, &options, seed, pids, live)?;
    let mut threads = Vec::new();
    let start = now();
    for (thread, sockets) in (0..).zip(bound.shards) {
        let parts = Parts {
            thread,
            threads: arguments.threads,
            scenario: Arc::clone(scenario),
            config: Arc::clone(&config),
            options: Arc::clone(&options),
            store: Arc::clone(&store),
            sockets,
            seed: arguments.seed,
            start,
            live: Arc::clone(live),
        };
        let builder = std::thread::Builder::new().name(format!("peers {thread}"));
        threads.push(builder.spawn(move || engine::run(parts))?);
    }
    if let Some(flood) = flood {
        let builder = std::thread::Builder::new().name("flood".to_owned());
        threads.push(builder.spawn(move || flood.run())?);
    }
    Ok((threads, start))
}

/// What the main thread looks at while the others work.
struct Watch<'a> {
    arguments: &'a Arguments,
    scenario: &'a Scenario,
    live: &'a Live,
    stop: &'a AtomicBool,
    start: Instant,
}

/// What it saw.
struct Watched {
    cut_short: Option<String>,
    /// When all were up or had failed.
    settled: Duration,
    /// What the responder had cost by then.
    cost: Cost,
    /// How long they stayed then, and what that has cost.
    stayed: Option<(Duration, Cost)>,
    samples: Vec<Sample>,
}

impl Watch<'_> {
    /// Until all peers have come and stayed, or there is no sense in going on.
    fn until_the_end(&self, before: Cost) -> Watched {
        let bar = self.bar();
        let mut seen = Watched {
            cut_short: None,
            settled: Duration::ZERO,
            cost: before,
            stayed: None,
            samples: Vec::new(),
        };
        let mut heard = (0, self.start);
        let mut over_at = None;
        while seen.cut_short.is_none() {
            pause();
            let now = now();
            let Some(cost) = responder::cost(&self.arguments.pids) else {
                seen.cut_short = Some("the responder's process is gone".to_owned());
                break;
            };
            seen.samples.push(self.sample(now, before, cost));
            self.tell(&bar);
            let all = self.live.heard.load(Ordering::Relaxed);
            if all != heard.0 {
                heard = (all, now);
            }
            if let Some(over_at) = over_at {
                seen.stayed = Some((now - self.start - seen.settled, cost));
                if self.is_over(now, over_at) {
                    break;
                }
            } else {
                seen.settled = now - self.start;
                seen.cost = cost;
                let settled = self.live.settled.load(Ordering::Relaxed);
                let stay = Duration::from_secs(self.scenario.steady.seconds);
                over_at = (settled >= self.arguments.threads.into()).then(|| now + stay);
                seen.cut_short = self.silence(now - heard.1).filter(|_| over_at.is_none());
                if over_at.is_some() && stay.is_zero() {
                    break;
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                seen.cut_short = Some("stopped by a signal".to_owned());
            }
        }
        bar.finish_and_clear();
        seen
    }

    /// Whether they have stayed until `over_at`. Before that nothing new is begun for a while, and whoever
    /// is on its way again may still come.
    fn is_over(&self, now: Instant, over_at: Instant) -> bool {
        let stay = Duration::from_secs(self.scenario.steady.seconds);
        if now + (stay / 4).min(CALM_MAX) >= over_at {
            self.live.calm.store(true, Ordering::Relaxed);
        }
        let patience = Duration::from_secs(self.scenario.arrival.patience);
        let returning = self.live.returning.load(Ordering::Relaxed);
        now >= over_at && (returning == 0 || now >= over_at + patience)
    }

    /// Why there is no sense in waiting any longer.
    fn silence(&self, since: Duration) -> Option<String> {
        let address = self.scenario.responder.address;
        let silence = self.scenario.arrival.silence;
        let enough = since > Duration::from_secs(silence);
        enough.then(|| format!("nothing from {address} for {silence} s"))
    }

    fn sample(&self, now: Instant, before: Cost, cost: Cost) -> Sample {
        Sample {
            at: (now - self.start).as_secs_f64(),
            up: self.live.up.load(Ordering::Relaxed),
            failed: self.live.failed.load(Ordering::Relaxed),
            cpu: cost.user + cost.system - before.user - before.system,
            resident: cost.resident,
        }
    }

    fn bar(&self) -> ProgressBar {
        let bar = ProgressBar::new(self.scenario.peers.count.into());
        let words = "{bar:40} {pos}/{len} up, {per_sec}, {msg} {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(words) {
            bar.set_style(style);
        }
        if !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar
    }

    fn tell(&self, bar: &ProgressBar) {
        let live = self.live;
        bar.set_position(live.up.load(Ordering::Relaxed));
        let failed = live.failed.load(Ordering::Relaxed);
        let lost = live.lost.load(Ordering::Relaxed);
        bar.set_message(format!("{failed} failed, {lost} lost,"));
    }
}

/// `2 x Intel(R) Xeon(R)`: whose figures these are.
fn machine() -> String {
    use procfs::Current as _;
    let model = procfs::CpuInfo::current().ok().and_then(|cpus| {
        let name = cpus.model_name(0)?.to_owned();
        Some(format!("{} x {name}", cpus.num_cores()))
    });
    model.unwrap_or_else(|| "unknown processor".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the program owns its clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread only watches the others"
)]
fn pause() {
    std::thread::sleep(SAMPLE_EVERY);
}

/// The ports of IKE and of NAT traversal, at both ends.
pub(crate) const IKE_PORT: u16 = 500;
pub(crate) const NATT_PORT: u16 = 4500;
/// How long before the end nothing new is begun.
const CALM_MAX: Duration = Duration::from_secs(3);
/// How often the run is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
