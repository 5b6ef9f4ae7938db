//! iked.conf(5) as we read it against iked.conf(5) as OpenIKED reads it: the same files to `iked -nv`
//! of both, the same verdict and the same dump wanted. Where we differ by intent is a table
//! (`differential/rules.rs`), and docs/DIFFERENCES.md is made from it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/handmade.rs"]
mod handmade;
#[path = "differential/programs.rs"]
mod programs;
#[path = "differential/rules.rs"]
mod rules;

use programs::{Dump, Ours, Peer, Release};

/// Files of each release; IKED_DIFFERENTIAL_FILES for more or fewer.
const FILES: u64 = 2_000;

/// What came of all files with one release.
#[derive(Debug, Default)]
struct Tally {
    same: u64,
    refused: u64,
    used: BTreeMap<&'static str, u64>,
    differing: Vec<String>,
}

fn count() -> u64 {
    let wish = std::env::var("IKED_DIFFERENTIAL_FILES");
    wish.ok().and_then(|n| n.parse().ok()).unwrap_or(FILES)
}

fn compare_all(release: Release) -> Tally {
    let (peer, ours) = (Peer::new(release), Ours::new());
    let mut tally = Tally::default();
    let handmade = handmade::FILES.iter().map(|&text| text.to_owned());
    let generated = (0..count()).map(|seed| generate::file(seed, release));
    for (number, text) in handmade.chain(generated).enumerate() {
        let (theirs, own) = (peer.read(&text), ours.read(&text));
        match differences(&text, theirs.clone(), own.clone(), &mut tally) {
            None => tally.same += 1,
            Some(what) => tally.differing.push(format!(
                "file {number}: {what}\n{text}\n--- OpenIKED: {theirs}\n--- ours: {own}\n"
            )),
        }
    }
    tally
}

/// What is left of the differences when all that are meant are taken away.
fn differences(text: &str, mut theirs: Dump, mut ours: Dump, tally: &mut Tally) -> Option<String> {
    if theirs.accepted != ours.accepted {
        let meant = rules::VERDICTS.iter().find(|rule| {
            rule.ours_accepts == ours.accepted && (rule.applies)(text, &theirs, &ours)
        });
        let Some(meant) = meant else {
            return Some("the verdicts differ".to_owned());
        };
        *tally.used.entry(meant.name).or_default() += 1;
        return None;
    }
    if !ours.accepted {
        tally.refused += 1;
        return None;
    }
    for rule in rules::FILES {
        if (rule.level)(&mut theirs.lines, &mut ours.lines) {
            *tally.used.entry(rule.name).or_default() += 1;
        }
    }
    for (theirs, ours) in theirs.lines.iter_mut().zip(&mut ours.lines) {
        for rule in rules::POLICIES {
            if (rule.level)(theirs, ours) {
                *tally.used.entry(rule.name).or_default() += 1;
            }
        }
    }
    let pairs = theirs.lines.iter().zip(&ours.lines);
    let first = pairs.into_iter().find(|(theirs, ours)| theirs != ours);
    match first {
        Some((theirs, ours)) => Some(format!(
            "the dumps differ:\n  {}\n  {}",
            theirs.join(" "),
            ours.join(" ")
        )),
        None if theirs.lines.len() != ours.lines.len() => {
            Some("the dumps have different lengths".to_owned())
        }
        None => None,
    }
}

fn judge(release: Release) -> Tally {
    let tally = compare_all(release);
    let (wrong, all) = (tally.differing.len(), count());
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("differences-{release:?}"));
    fs::write(&log, tally.differing.concat()).unwrap();
    let shown: String = tally.differing.iter().take(3).cloned().collect();
    assert_eq!(
        wrong, 0,
        "{release:?}: {wrong} of {all} files differ:\n{shown}"
    );
    // Files that both refuse show little.
    assert!(
        tally.refused * 4 < tally.same * 3,
        "{} are refused",
        tally.refused
    );
    tally
}

#[test]
fn files_mean_here_what_they_mean_to_openiked() {
    let releases = [Release::OpenIked7_2, Release::OpenIked7_4];
    let threads = releases.map(|release| thread::spawn(move || judge(release)));
    let tallies = threads.map(|thread| thread.join().unwrap());
    if count() >= FILES {
        let shown = |name: &&str| tallies.iter().any(|tally| tally.used.contains_key(*name));
        let unused: Vec<_> = rules::names().filter(|name| !shown(name)).collect();
        assert!(
            unused.is_empty(),
            "differences that no file shows: {unused:?}"
        );
    }
}

#[test]
fn the_document_of_differences_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/DIFFERENCES.md");
    let wanted = rules::document();
    if std::env::var_os("IKED_UPDATE_OUTPUTS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == wanted,
        "docs/DIFFERENCES.md is old: IKED_UPDATE_OUTPUTS=1 cargo test --test differential document"
    );
}
