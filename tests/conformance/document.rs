//! docs/CONFORMANCE.md: every requirement with the test that shows it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::case::Requirement;

/// Where it is.
pub(super) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFORMANCE.md")
}

/// The RFCs by name, in the order of the document.
const RFCS: &[(u32, &str)] = &[
    (7296, "Internet Key Exchange Protocol Version 2"),
    (7383, "IKEv2 message fragmentation"),
    (4555, "MOBIKE"),
    (5685, "Redirect mechanism"),
    (6023, "Childless initiation of the IKE SA"),
    (7427, "Signature authentication"),
    (9593, "Announced authentication methods"),
    (8247, "Algorithms to implement"),
    (3948, "UDP encapsulation of ESP"),
    (4478, "Repeated authentication"),
    (4806, "OCSP inside of IKEv2"),
    (4739, "Multiple authentication exchanges"),
    (8598, "Split DNS"),
    (8784, "Mixing preshared keys for post-quantum security"),
];

/// The document.
pub(super) fn render(requirements: &[Requirement]) -> String {
    let mut text = INTRODUCTION.to_owned();
    let (met, unmet): (Vec<_>, Vec<_>) = requirements.iter().partition(|r| r.unmet.is_none());
    let recorded = met.iter().filter(|r| r.tests.is_empty()).count();
    let _ = writeln!(
        text,
        "{} requirements are met: {recorded} by a recording, {} by other tests. {} are not met; \
         they are listed at the end with the reason.\n",
        met.len(),
        met.len() - recorded,
        unmet.len()
    );
    for rfc in in_order(requirements) {
        let all: Vec<_> = met.iter().filter(|r| r.rfc == rfc).copied().collect();
        if all.is_empty() {
            continue;
        }
        let _ = writeln!(text, "## RFC {rfc}: {}\n", name(rfc));
        text.push_str("| Section | Level | Requirement | Test |\n|---|---|---|---|\n");
        for one in sorted(all) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                one.section,
                one.level,
                one.rule,
                tests(one)
            );
        }
        text.push('\n');
    }
    text.push_str(
        "## Not met\n\n| RFC | Section | Level | Requirement | Why |\n|---|---|---|---|---|\n",
    );
    for rfc in in_order(requirements) {
        for one in sorted(unmet.iter().filter(|r| r.rfc == rfc).copied().collect()) {
            let _ = writeln!(
                text,
                "| {rfc} | {} | {} | {} | {} |",
                one.section,
                one.level,
                one.rule,
                one.unmet.as_deref().unwrap_or_default()
            );
        }
    }
    text
}

fn name(rfc: u32) -> &'static str {
    let row = RFCS.iter().find(|(number, _)| *number == rfc);
    row.unwrap_or_else(|| panic!("RFC {rfc} has no name in tests/conformance/document.rs"))
        .1
}

fn in_order(requirements: &[Requirement]) -> Vec<u32> {
    for one in requirements {
        name(one.rfc);
    }
    RFCS.iter().map(|(number, _)| *number).collect()
}

/// By section, as numbers.
fn sorted(mut all: Vec<&Requirement>) -> Vec<&Requirement> {
    let key = |one: &Requirement| {
        let numbers = one.section.split('.');
        let numbers: Vec<u32> = numbers.map(|part| part.parse().unwrap_or(0)).collect();
        (numbers, one.level.clone(), one.rule.clone())
    };
    all.sort_by_key(|one| key(one));
    all
}

fn tests(one: &Requirement) -> String {
    let link = |path: &str, text: &str| format!("[{text}](../{path})");
    if one.tests.is_empty() {
        let path = one.file.to_str().unwrap();
        let name = one.file.parent().and_then(Path::file_name).unwrap();
        return link(path, name.to_str().unwrap());
    }
    let named = one.tests.iter().map(|test| {
        let (file, name) = test.split_once("::").unwrap();
        link(file, &format!("`{name}`"))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// Every test that a requirement names and that is nowhere.
pub(super) fn missing_tests(requirements: &[Requirement]) -> Vec<String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut missing = Vec::new();
    for one in requirements {
        for test in &one.tests {
            let Some((file, name)) = test.split_once("::") else {
                missing.push(format!("{}: `{test}` is no FILE::NAME", one.file.display()));
                continue;
            };
            let text = texts.entry(file.to_owned()).or_insert_with(|| {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
                fs::read_to_string(path).unwrap_or_default()
            });
            if !has_test(text, name) && !is_scenario(file, text, name) {
                missing.push(format!("{}: no test `{test}`", one.file.display()));
            }
        }
    }
    missing
}

/// Whether a function of this name stands behind `#[test]`, or in a table of tests by its name.
fn has_test(text: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    text.match_indices(&function).any(|(at, _)| {
        let before = &text[..at];
        let attributes = before.rfind("#[test]").map_or("", |from| &before[from..]);
        !attributes.is_empty() && !attributes.contains('{') && !attributes.contains("fn ")
    })
}

/// Whether it is a scenario of the interoperability tests that some column of their table plays.
fn is_scenario(file: &str, text: &str, name: &str) -> bool {
    let module = file.strip_prefix("tests/interop/");
    let Some(module) = module.and_then(|module| module.strip_suffix(".rs")) else {
        return false;
    };
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/tables.rs");
    let tables = fs::read_to_string(tables).unwrap_or_default();
    let row = format!("{module}::{name} [");
    let mut rows = tables.lines().filter_map(|line| line.split_once(&row));
    let played = rows.any(|(_, cells)| {
        ["yes", "dry", "rig"]
            .iter()
            .any(|cell| cells.contains(cell))
    });
    played && text.contains(&format!("pub fn {name}()"))
}

const INTRODUCTION: &str = "# Conformance

Made by `tests/conformance.rs` from the files under `tests/conformance/`; do not edit. It is made anew by
`IKED_UPDATE_OUTPUTS=1 cargo test --test conformance`, and a test fails while it is stale.

A requirement is shown either by a recording (a directory with the messages that go in and the messages that
must come out, played to a whole endpoint) or by a test named in the table; the generator checks that each named test
exists. Requirements are put in our own words; the RFCs have the exact ones.

";
