//! Messages as they stood on the wire, or as the RFCs lay them out: every `NAME.hex` under
//! `tests/vectors/wire` is decoded and its print compared with `NAME.txt` beside it.
//!
//! A `.hex` file is hexadecimal with white space anywhere; `#` begins a comment. It holds one IKE
//! message without the non-ESP marker; one that must be refused is called `refused-..`.
//! `IKED_UPDATE_OUTPUTS=1` writes the `.txt` files anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use iked::fuzzing;
use iked::wire::{Message, encode_message, print};

#[test]
fn every_message_prints_as_recorded() {
    let update = std::env::var_os("IKED_UPDATE_OUTPUTS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for path in vectors() {
        let printed = printed(&read(&path));
        let expected_path = path.with_extension("txt");
        if update {
            fs::write(&expected_path, &printed).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if printed != expected {
            let name = expected_path.display();
            wrong.push(format!(
                "{name}:\n--- expected\n{expected}--- printed\n{printed}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_named_as_refused_is_refused_and_nothing_else() {
    for path in vectors() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let refused = Message::decode(&read(&path)).is_err();
        assert_eq!(refused, name.starts_with("refused-"), "{name}");
    }
}

#[test]
fn every_message_that_decodes_is_encoded_to_the_same_bytes() {
    let mut same = 0;
    for path in vectors() {
        let bytes = read(&path);
        fuzzing::message(&bytes);
        let Ok(message) = Message::decode(&bytes) else {
            continue;
        };
        let mut out = Vec::new();
        encode_message(&message.header, &message.payloads, &mut out);
        same += usize::from(out == bytes);
        // What encoding leaves out, it leaves out visibly: nothing else may differ.
        assert!(
            out == bytes || out.len() < bytes.len(),
            "{}",
            path.display()
        );
    }
    assert!(same > 0, "not one message came back as it was");
}

#[test]
fn every_prefix_of_every_message_is_refused() {
    for path in vectors() {
        let bytes = read(&path);
        for end in 0..bytes.len() {
            assert!(
                Message::decode(&bytes[..end]).is_err(),
                "{} cut at {end}",
                path.display()
            );
        }
    }
}

#[test]
fn every_recorded_print_has_its_message() {
    for path in files("txt") {
        assert!(
            path.with_extension("hex").exists(),
            "{} is an orphan",
            path.display()
        );
    }
}

/// The print of a message, or why there is none.
fn printed(bytes: &[u8]) -> String {
    match Message::decode(bytes) {
        Ok(message) => print::details(&message),
        Err(error) => format!("refused: {error}\n"),
    }
}

fn vectors() -> Vec<PathBuf> {
    let found = files("hex");
    assert!(!found.is_empty(), "no vectors");
    found
}

fn files(extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/wire");
    let mut found: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

fn read(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    let digits: String = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter(|character| !character.is_whitespace())
        .collect();
    hex::decode(digits).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
