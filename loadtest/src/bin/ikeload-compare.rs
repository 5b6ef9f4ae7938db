//! ikeload-compare: puts reports of ikeload side by side; what scripts/compare.sh ends with.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ikeload::compare::{Comparison, Run};

/// Puts reports of ikeload side by side and prints them as a table in Markdown.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The commit of this tree.
    #[arg(long)]
    commit: String,
    /// Write the comparison as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the comparison as a page with a picture.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Write what can be said in a few words, for a reader of no tables.
    #[arg(long)]
    summary: Option<PathBuf>,
    /// Runs in the order in which they were made; the first responder of a scenario is what the others
    /// are measured by.
    #[arg(required = true, value_name = "SCENARIO=RESPONDER=REPORT")]
    runs: Vec<String>,
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the program is for"
)]
fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ikeload-compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let mut runs = Vec::new();
    for words in &arguments.runs {
        runs.push(run(words).map_err(|error| format!("{words}: {error}"))?);
    }
    let comparison = Comparison::new(&arguments.commit, &runs);
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(&comparison)?)?;
    }
    if let Some(path) = &arguments.html {
        fs::write(path, comparison.html())?;
    }
    if let Some(path) = &arguments.summary {
        fs::write(path, comparison.summary())?;
    }
    Ok(comparison.markdown())
}

fn run(words: &str) -> Result<Run, Box<dyn Error>> {
    let mut words = words.splitn(3, '=');
    let mut next = || words.next().ok_or("want SCENARIO=RESPONDER=REPORT");
    let (scenario, responder, file) = (next()?, next()?, next()?);
    Ok(Run {
        scenario: scenario.to_owned(),
        responder: responder.to_owned(),
        figures: serde_json::from_str(&fs::read_to_string(file)?)?,
    })
}
