//! Replays the committed fuzz corpus through the functions that the fuzz targets run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use iked::fuzzing::{TARGETS, Target};

#[test]
fn every_corpus_file_passes_its_target() {
    for Target { name, run } in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "fuzz/corpus/{name} holds no files");
        for path in files {
            let bytes = fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| run(&bytes));
            assert!(outcome.is_ok(), "{} fails target {name}", path.display());
        }
    }
}

#[test]
fn every_target_has_its_file_its_binary_and_its_corpus_and_no_corpus_is_left_over() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        let file = fuzz().join("fuzz_targets").join(name).with_extension("rs");
        let text = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            text.contains(&format!("iked::fuzzing::{name}(")),
            "{}",
            file.display()
        );
        assert!(
            manifest.contains(&format!("\"fuzz_targets/{name}.rs\"")),
            "no binary {name}"
        );
    }
    let folders: BTreeSet<String> = fs::read_dir(fuzz().join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let names: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(folders, names);
}

#[test]
fn corpus_files_are_small() {
    for Target { name, .. } in TARGETS {
        for path in corpus(name) {
            let len = fs::metadata(&path).unwrap().len();
            assert!(len <= 8192, "{} has {len} bytes", path.display());
        }
    }
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(fuzz().join("corpus").join(name)) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
