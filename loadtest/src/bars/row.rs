//! A figure and what it is to come to.

use std::fmt::Write as _;

use serde::Serialize;

/// One line: what was measured, and what it is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// What.
    pub what: String,
    /// The figure; `None` where it was not measured.
    pub measured: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// What it must not exceed or, of a `floor`, fall below.
    pub bar: Option<f64>,
    /// More is better.
    pub floor: bool,
    /// What else there is to say.
    pub note: String,
}

impl Row {
    /// Whether it is as it is to be: nothing is asked of some, and a figure that is missing meets nothing.
    pub fn is_met(&self) -> bool {
        let Some(bar) = self.bar else { return true };
        self.measured.is_some_and(|measured| {
            if self.floor {
                measured >= bar
            } else {
                measured <= bar
            }
        })
    }
}

/// For benches/README.md and for a terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = "| what | measured | bar | met | |\n|---|---:|---:|---|---|\n".to_owned();
    for row in rows {
        let told = |value: f64| format!("{value:.*} {}", digits(value), row.unit);
        let measured = row.measured.map_or_else(|| "-".to_owned(), told);
        let sign = if row.floor { "at least" } else { "at most" };
        let bar = row.bar.map(|bar| format!("{sign} {}", told(bar)));
        let met = match (row.bar, row.is_met()) {
            (None, _) => "",
            (Some(_), true) => "yes",
            (Some(_), false) => "no",
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {met} | {} |",
            row.what,
            measured.trim_end(),
            bar.unwrap_or_default().trim_end(),
            row.note
        );
    }
    out
}

/// So that small figures have some.
const fn digits(value: f64) -> usize {
    if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    }
}
