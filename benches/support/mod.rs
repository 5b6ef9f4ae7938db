//! What the benches share: the clock, measurements that take turns, and the table they print. The
//! clock is the CPU time of this thread, so that other load on the machine does not count; what
//! that load does to caches and clock rate hits both sides of a ratio, which are measured in turns.

#![allow(dead_code, reason = "each bench uses a part of this")]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(crate) mod floor;
pub(crate) mod hosts;

/// CPU time of this thread in nanoseconds.
pub(crate) fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// CPU time of one job in nanoseconds.
pub(crate) fn timed(job: impl FnOnce()) -> f64 {
    let start = cpu();
    job();
    cpu() - start
}

/// What the command line says: names of rows to run, and whether this is a whole run (`cargo
/// bench`) or only a look whether everything works.
pub(crate) struct Wanted {
    names: Vec<String>,
    whole: bool,
}

impl Wanted {
    pub(crate) fn from_command_line() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            whole: arguments.iter().any(|argument| argument == "--bench"),
            names: arguments
                .into_iter()
                .filter(|argument| !argument.starts_with('-'))
                .collect(),
        }
    }

    /// Whether a row is to be run: all are, where none is named.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| row.contains(name))
    }

    /// Whether this is no mere look.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// `whole` in a whole run, else 1.
    pub(crate) fn times(&self, whole: usize) -> usize {
        if self.whole { whole } else { 1 }
    }
}

/// Two jobs, ours and the bare primitives for the same work, measured in turns.
#[derive(Default)]
pub(crate) struct Paired {
    ours: Vec<f64>,
    floor: Vec<f64>,
}

impl Paired {
    pub(crate) fn push(&mut self, ours: f64, floor: f64) {
        self.ours.push(ours);
        self.floor.push(floor);
    }

    /// Nanoseconds of ours and of the floor, and how many times the floor ours takes: medians.
    pub(crate) fn medians(&self) -> (f64, f64, f64) {
        let both = self.ours.iter().zip(&self.floor);
        let ratios: Vec<f64> = both.map(|(ours, floor)| ours / floor).collect();
        (median(&self.ours), median(&self.floor), median(&ratios))
    }
}

/// Measures two jobs in turns of about a millisecond each.
pub(crate) fn take_turns(
    wanted: &Wanted,
    mut ours: impl FnMut(),
    mut floor: impl FnMut(),
) -> Paired {
    let ours_count = repeats(wanted, &mut ours);
    let floor_count = repeats(wanted, &mut floor);
    let mut paired = Paired::default();
    for _ in 0..wanted.times(TURNS) {
        let ours = one_of_many(ours_count, &mut ours);
        paired.push(ours, one_of_many(floor_count, &mut floor));
    }
    paired
}

/// Nanoseconds of one call among so many.
pub(crate) fn one_of_many(count: u32, job: &mut dyn FnMut()) -> f64 {
    let all = timed(|| {
        for _ in 0..count {
            job();
        }
    });
    all / f64::from(count)
}

/// How many calls fill one turn.
fn repeats(wanted: &Wanted, job: &mut dyn FnMut()) -> u32 {
    let mut count = 1;
    while wanted.is_whole() && one_of_many(count, job) * f64::from(count) < TURN.as_nanos() as f64 {
        count *= 2;
    }
    count
}

/// The middle one.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The head of a table.
pub(crate) fn head(title: &str, columns: &[&str]) {
    println!("\n### {title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|---|{}", "---:|".repeat(columns.len() - 1));
}

/// A row of a table.
pub(crate) fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// The usual row: a name, ours, the floor and the ratio.
pub(crate) fn paired_row(name: &str, paired: &Paired) {
    let (ours, floor, ratio) = paired.medians();
    let ratio = format!("{ratio:.2}");
    row(&[name.to_owned(), micros(ours), micros(floor), ratio]);
}

/// Nanoseconds as microseconds with three digits or so.
pub(crate) fn micros(nanos: f64) -> String {
    let micros = nanos / 1e3;
    match micros {
        ..10.0 => format!("{micros:.2} us"),
        ..100.0 => format!("{micros:.1} us"),
        _ => format!("{micros:.0} us"),
    }
}

/// Turns of each job: enough for a median that one disturbance does not move.
const TURNS: usize = 101;
/// Length of a turn: a thousand times the cost of reading the clock.
const TURN: Duration = Duration::from_millis(1);
