//! Case files. The head says which requirement it is; behind the first empty line stand the inputs,
//! one a line, each followed by what came of it, indented. `requirements.txt` has only heads.

use std::fs;
use std::path::{Path, PathBuf};

/// A requirement and what shows that it is met.
#[derive(Clone, Debug)]
pub(super) struct Requirement {
    /// Number of the RFC.
    pub(super) rfc: u32,
    /// Section.
    pub(super) section: String,
    /// `MUST`, `SHOULD`, `MUST NOT`, `SHOULD NOT`, `MAY`.
    pub(super) level: String,
    /// What is required, in our words.
    pub(super) rule: String,
    /// Tests that show it, `FILE::NAME`; empty where a case does.
    pub(super) tests: Vec<String>,
    /// Why it is not met.
    pub(super) unmet: Option<String>,
    /// The file it stands in.
    pub(super) file: PathBuf,
}

/// A requirement with a recording.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) requirement: Requirement,
    pub(super) seed: u8,
    /// What is configured otherwise than usual.
    pub(super) config: Vec<String>,
    head: String,
    /// Inputs, comments and empty lines.
    pub(super) inputs: Vec<String>,
    pub(super) text: String,
}

const LEVELS: [&str; 5] = ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"];

/// The folder of all cases.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// All case files and all lists of requirements, in the order of their names.
pub(super) fn files() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut cases, mut lists) = (Vec::new(), Vec::new());
    for rfc in entries(&folder()) {
        if !rfc.is_dir() {
            continue;
        }
        for entry in entries(&rfc) {
            if entry.is_dir() {
                cases.extend(entries(&entry));
            } else {
                lists.push(entry);
            }
        }
    }
    (cases, lists)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = read.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

impl Case {
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (head, script) = text
            .split_once("\n\n")
            .unwrap_or_else(|| panic!("{}: no script", path.display()));
        let mut config = Vec::new();
        let mut seed = 1;
        let mut rest = String::new();
        for line in head.lines() {
            match line.split_once(": ") {
                Some(("config", words)) => config = words.split(' ').map(str::to_owned).collect(),
                Some(("seed", number)) => seed = number.parse().unwrap(),
                _ => rest.push_str(&format!("{line}\n")),
            }
        }
        let requirement = requirement(path, &rest);
        assert!(
            requirement.tests.is_empty() && requirement.unmet.is_none(),
            "{}: a case shows it by itself",
            path.display()
        );
        let inputs = script.lines().filter(|line| !line.starts_with(' '));
        Self {
            requirement,
            seed,
            config,
            head: head.to_owned(),
            inputs: inputs.map(str::to_owned).collect(),
            text: text.clone(),
        }
    }

    /// The file with these outputs, one list for each input.
    pub(super) fn with_outputs(&self, outputs: &[Vec<String>]) -> String {
        let mut text = format!("{}\n\n", self.head);
        for (input, outputs) in self.inputs.iter().zip(outputs) {
            text.push_str(&format!("{input}\n"));
            for output in outputs {
                text.push_str(&format!("  {output}\n"));
            }
        }
        text
    }
}

/// The requirements of a list: heads with an empty line between.
pub(super) fn read_list(path: &Path) -> Vec<Requirement> {
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let all: Vec<_> = blocks.map(|block| requirement(path, block)).collect();
    for one in &all {
        assert!(
            one.tests.is_empty() == one.unmet.is_some(),
            "{}: {}: a test or a reason, one of them",
            path.display(),
            one.rule
        );
    }
    all
}

fn requirement(path: &Path, head: &str) -> Requirement {
    let place = path.strip_prefix(folder()).unwrap();
    let rfc = place.iter().next().unwrap().to_str().unwrap();
    let mut requirement = Requirement {
        rfc: rfc.strip_prefix("rfc").unwrap().parse().unwrap(),
        section: String::new(),
        level: String::new(),
        rule: String::new(),
        tests: Vec::new(),
        unmet: None,
        file: Path::new("tests/conformance").join(place),
    };
    for line in head.lines() {
        let (key, value) = line
            .split_once(": ")
            .unwrap_or_else(|| panic!("{}: {line}", path.display()));
        let value = value.trim().to_owned();
        match key {
            "section" => requirement.section = value,
            "level" => requirement.level = value,
            "rule" => requirement.rule = value,
            "test" => requirement.tests.push(value),
            "unmet" => requirement.unmet = Some(value),
            _ => panic!("{}: {line}", path.display()),
        }
    }
    let known = LEVELS.contains(&requirement.level.as_str());
    let whole = known && !requirement.section.is_empty() && !requirement.rule.is_empty();
    assert!(whole, "{}: {requirement:?}", path.display());
    requirement
}
