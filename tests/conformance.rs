//! Requirements of the RFCs, each with a recorded conversation or the name of the test that shows it.
//! `IKED_UPDATE_OUTPUTS=1` writes what comes out into the case files and docs/CONFORMANCE.md.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that tests make by hand"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one payload among many"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use case::{Case, Requirement};

#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/document.rs"]
mod document;
#[path = "conformance/payloads.rs"]
mod payloads;
#[path = "conformance/peer.rs"]
mod peer;
#[path = "conformance/play.rs"]
mod play;
#[path = "exchange/setup.rs"]
#[allow(dead_code, reason = "shared with tests/exchange.rs")]
mod setup;
#[path = "exchange/world.rs"]
#[allow(dead_code, reason = "shared with tests/exchange.rs")]
mod world;

/// One test at a time: with `IKED_UPDATE_OUTPUTS` they write what the others read.
static FILES: Mutex<()> = Mutex::new(());

fn update() -> bool {
    std::env::var_os("IKED_UPDATE_OUTPUTS").is_some_and(|value| value == "1")
}

fn requirements() -> Vec<Requirement> {
    let (cases, lists) = case::files();
    let recorded = cases.iter().map(|path| Case::read(path).requirement);
    let listed = lists.iter().flat_map(|path| case::read_list(path));
    recorded.chain(listed).collect()
}

#[test]
fn every_recorded_case_comes_out_as_it_is_written() {
    let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let (cases, _) = case::files();
    let mut wrong = Vec::new();
    for path in &cases {
        let case = Case::read(path);
        let played = catch_unwind(AssertUnwindSafe(|| play::play(&case)));
        let Ok(outputs) = played else {
            wrong.push(format!("{}: panic", path.display()));
            continue;
        };
        let text = case.with_outputs(&outputs);
        if update() {
            fs::write(path, &text).unwrap();
        } else if text != case.text {
            wrong.push(difference(path, &case.text, &text));
        }
    }
    assert!(!cases.is_empty());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first line that is not what it was.
fn difference(path: &Path, written: &str, played: &str) -> String {
    let pairs = written.lines().zip(played.lines());
    let line = pairs.take_while(|(a, b)| a == b).count();
    let nth = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").to_owned();
    format!(
        "{}:{}:\n  written {}\n  played  {}",
        path.display(),
        line + 1,
        nth(written),
        nth(played)
    )
}

#[test]
fn a_case_plays_the_same_twice() {
    let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let (cases, _) = case::files();
    for path in &cases {
        let case = Case::read(path);
        assert_eq!(play::play(&case), play::play(&case), "{}", path.display());
    }
}

#[test]
fn every_test_that_a_requirement_names_exists() {
    let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = document::missing_tests(&requirements());
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_table_of_conformance_is_fresh() {
    let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let text = document::render(&requirements());
    if update() {
        fs::create_dir_all(document::path().parent().unwrap()).unwrap();
        fs::write(document::path(), text).unwrap();
        return;
    }
    let written = fs::read_to_string(document::path()).unwrap_or_default();
    assert!(
        written == text,
        "docs/CONFORMANCE.md is stale: IKED_UPDATE_OUTPUTS=1 cargo test --test conformance"
    );
}
