//! The vector files of `tests/vectors/crypto`: blocks of `name = value` lines with an empty line
//! between them, `#` for comments. The lines right under a `[title]` are no block but hold for all
//! blocks up to the next title.

use std::fs;
use std::path::Path;

/// One block, with what its title gives it.
pub(super) struct Vector {
    /// File and line, for messages.
    pub(super) place: String,
    fields: Vec<(String, String)>,
}

impl Vector {
    /// The value of this name, if the block has it.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        let own = self.fields.iter().rev().find(|(found, _)| found == name);
        own.map(|(_, value)| value.as_str())
    }

    /// The value of this name.
    pub(super) fn text(&self, name: &str) -> &str {
        self.find(name)
            .unwrap_or_else(|| panic!("{}: no `{name}`", self.place))
    }

    /// The bytes under this name.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        hex::decode(self.text(name))
            .unwrap_or_else(|error| panic!("{}: `{name}`: {error}", self.place))
    }

    /// The bytes under this name, of a length known beforehand.
    pub(super) fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        let bytes = self.bytes(name);
        bytes
            .try_into()
            .unwrap_or_else(|_| panic!("{}: `{name}` has another length", self.place))
    }

    /// What `result` says.
    pub(super) fn is_valid(&self) -> bool {
        match self.text("result") {
            "valid" => true,
            "invalid" => false,
            other => panic!("{}: result `{other}`", self.place),
        }
    }

    /// The number of a key exchange method.
    pub(super) fn group(&self) -> u16 {
        self.text("group")
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", self.place))
    }
}

/// All blocks of a file.
pub(super) fn read(name: &str) -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/crypto");
    let text = fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut found = Vec::new();
    let mut defaults = Vec::new();
    let mut block: Option<Vector> = None;
    let mut in_title = false;
    // The last block ends like any other.
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        if line.starts_with('#') {
            continue;
        }
        if line.is_empty() {
            found.extend(block.take());
            in_title = false;
        } else if line.starts_with('[') {
            assert!(block.is_none(), "{name}:{number}: a title in a block");
            defaults.clear();
            in_title = true;
        } else {
            let field = field(name, number, line);
            if in_title {
                defaults.push(field);
            } else {
                let block = block.get_or_insert_with(|| Vector {
                    place: format!("{name}:{number}"),
                    fields: defaults.clone(),
                });
                block.fields.push(field);
            }
        }
    }
    assert!(!found.is_empty(), "{name} has no vectors");
    found
}

fn field(file: &str, number: usize, line: &str) -> (String, String) {
    let (name, value) = line
        .split_once('=')
        .unwrap_or_else(|| panic!("{file}:{number}: not `name = value`"));
    (name.trim().to_owned(), value.trim().to_owned())
}
