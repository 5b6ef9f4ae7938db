//! House rules that compiler and clippy do not check: who may import whom, sizes, where `unsafe`,
//! clocks and panics may stand. Every violation is printed as `FILE:LINE: what`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

#[path = "tidy/source.rs"]
mod source;

/// Which rooms, or which of their items, each room of `src/` may name besides itself. A row's
/// first word is a file or folder; a longer row wins over a shorter one. `*` is everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("time", &[]),
    ("steer", &["wire"]),
    ("policy", &["wire"]),
    ("policy/pool", &["wire", "crypto::rng", "crypto::Rng"]),
    ("crypto", &["wire", "sys::bssl"]),
    ("crypto/x509", &["wire", "crypto", "sys::x509"]),
    ("crypto/mschap", &["crypto", "sys::mschap"]),
    ("crypto/md5", &["sys::md5"]),
    ("radius", &["wire::registry", "crypto", "policy"]),
    (
        "kernel",
        &[
            "wire",
            "crypto::keymat",
            "policy::net",
            "policy::IpNet",
            "policy::domain",
            "policy::IfId",
        ],
    ),
    ("auth", &["wire", "crypto", "policy"]),
    (
        "ike",
        &[
            "wire",
            "crypto",
            "auth",
            "policy",
            "kernel",
            "steer",
            "time",
            "lookup::port",
            "lookup::http",
            "radius",
        ],
    ),
    (
        "mail",
        &[
            "ike",
            "kernel",
            "policy",
            "steer",
            "wire",
            "auth::store",
            "lookup::port",
            "lookup::http",
            "radius::dae",
        ],
    ),
    ("config", &["policy", "wire"]),
    ("log", &["ike::Level"]),
    ("sys", &["steer::BpfInsn"]),
    (
        "shard",
        &[
            "mail", "ike", "steer", "sys", "log", "time", "policy", "kernel", "wire",
        ],
    ),
    (
        "sadb",
        &[
            "mail",
            "kernel",
            "route",
            "steer",
            "sys",
            "log",
            "wire",
            "policy::IpNet",
            "ike::Level",
        ],
    ),
    (
        "lookup",
        &[
            "mail",
            "crypto",
            "steer",
            "time",
            "policy::radius",
            "policy::dn",
            "radius",
            "log",
            "ike::Level",
        ],
    ),
    ("lookup/http", &[]),
    (
        "lookup/port",
        &["crypto", "wire", "policy::radius", "radius"],
    ),
    ("xfrm", &["kernel", "wire", "crypto", "policy", "sys"]),
    ("pfkey", &["kernel", "wire", "crypto", "policy", "sys"]),
    ("route", &["sys"]),
    ("ca", &["sys"]),
    (
        "control",
        &[
            "mail",
            "ike",
            "policy",
            "log",
            "steer",
            "sys",
            "auth::store",
            "ca::request",
        ],
    ),
    (
        "sim",
        &[
            "wire",
            "crypto",
            "auth",
            "policy",
            "kernel",
            "steer",
            "time",
            "ike",
            "lookup::port",
        ],
    ),
    ("daemon", &["*"]),
    ("fuzzing", &["*"]),
    ("bin", &["*"]),
    ("lib", &["*"]),
];

/// Rooms that get time and randomness as arguments.
const NO_CLOCKS: &[&str] = &[
    "wire", "crypto", "policy", "ike", "auth", "steer", "config", "sim", "radius",
];
const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now", "OsRng", "thread::sleep"];

/// Rooms that touch neither files nor sockets nor threads.
const NO_WORLD: &[&str] = &[
    "wire", "crypto", "policy", "ike", "steer", "time", "kernel", "sim", "radius",
];
const WORLD: &[&str] = &[
    "std::fs",
    "std::thread",
    "UdpSocket",
    "TcpStream",
    "UnixStream",
];

const PANICS: &[&str] = &[".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!"];

/// Lines that may hold one of [`PANICS`]: file, a part of the line, and why it cannot happen.
const MAY_PANIC: &[(&str, &str, &str)] = &[];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn rooms_import_only_what_their_layer_allows() {
    let sources = sources();
    let rooms: BTreeSet<String> = sources.iter().map(room).collect();
    let mut wrong = Vec::new();
    for source in &sources {
        let Some(allowed) = allowed(source) else {
            wrong.push(at(
                source,
                0,
                "this room has no row in LAYERS of tests/tidy.rs",
            ));
            continue;
        };
        let own = room(source);
        let mut named = source.paths("crate::");
        named.extend(escaped(source, &rooms));
        for (offset, path) in named {
            let Some(target) = path.first() else { continue };
            if source.in_test(offset) || *target == own || !rooms.contains(target) {
                continue;
            }
            if !allowed.iter().any(|entry| covers(entry, &path)) {
                let what = format!("`{own}` must not name `{}`", path.join("::"));
                wrong.push(at(source, offset, &what));
            }
        }
    }
    report(wrong);
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    for source in &sources() {
        let lines = source.lines_without_tests();
        if lines > FILE_LINES_MAX {
            let what = format!("{lines} lines without tests, more than {FILE_LINES_MAX}");
            wrong.push(at(source, 0, &what));
        }
        for (name, offset, lines) in source.functions() {
            if lines > FUNCTION_LINES_MAX && !source.in_test(offset) {
                let what = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}");
                wrong.push(at(source, offset, &what));
            }
        }
    }
    report(wrong);
}

#[test]
fn unsafe_code_stands_only_in_sys_and_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for source in &sources() {
        for offset in source.find("unsafe") {
            if !source.path.starts_with("src/sys") {
                wrong.push(at(source, offset, "`unsafe` outside src/sys"));
            } else if is_unsafe_block(source, offset) && !has_safety_line(source, offset) {
                wrong.push(at(source, offset, "`unsafe` without a SAFETY line above"));
            }
        }
    }
    report(wrong);
}

#[test]
fn the_core_is_given_time_and_randomness_and_never_takes_them() {
    let mut wrong = Vec::new();
    for (rooms, names) in [(NO_CLOCKS, CLOCKS), (NO_WORLD, WORLD)] {
        for source in sources()
            .iter()
            .filter(|source| rooms.contains(&room(source).as_str()))
        {
            for name in names {
                for offset in source.find(name).filter(|&offset| !source.in_test(offset)) {
                    let what = format!("`{name}` in room `{}`", room(source));
                    wrong.push(at(source, offset, &what));
                }
            }
        }
    }
    report(wrong);
}

#[test]
fn nothing_panics_on_purpose_outside_of_tests() {
    let mut wrong = Vec::new();
    let mut used = vec![false; MAY_PANIC.len()];
    for source in &sources() {
        for name in PANICS {
            for offset in source.find(name).filter(|&offset| !source.in_test(offset)) {
                // A parser's own `expect` returns an error.
                if *name == ".expect(" && source.code[..offset].ends_with("self") {
                    continue;
                }
                let line = source.raw_line(source.line(offset));
                let allowed = MAY_PANIC
                    .iter()
                    .position(|(file, part, _)| source.path.ends_with(file) && line.contains(part));
                match allowed {
                    Some(row) => used[row] = true,
                    None => wrong.push(at(source, offset, &format!("`{name}`"))),
                }
            }
        }
    }
    for ((file, part, _), _) in MAY_PANIC.iter().zip(used).filter(|(_, used)| !used) {
        wrong.push(format!(
            "tests/tidy.rs: no line of {file} needs its row `{part}`"
        ));
    }
    report(wrong);
}

#[test]
fn no_marks_of_unfinished_work() {
    let marks = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
    ];
    let mut wrong = Vec::new();
    for path in all_files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
            if let Some(mark) = words.find(|word| marks.contains(word)) {
                wrong.push(format!("{}:{number}: {mark}", path.display()));
            }
        }
    }
    report(wrong);
}

#[test]
fn every_test_is_a_sentence_and_runs() {
    let mut wrong = Vec::new();
    for path in all_files()
        .into_iter()
        .filter(|path| path.extension() == Some("rs".as_ref()))
    {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let source = Source::new(path, text);
        for offset in source.find("#[ignore") {
            wrong.push(at(&source, offset, "a test that does not run"));
        }
        for (name, offset, _) in source.functions() {
            let is_test = source.code[..offset].trim_end().ends_with("#[test]");
            if is_test && name.starts_with("test_") {
                wrong.push(at(
                    &source,
                    offset,
                    &format!("`{name}` should be a sentence"),
                ));
            }
        }
    }
    report(wrong);
}

/// The row of LAYERS for this file: the longest that its path begins with.
fn allowed(source: &Source) -> Option<&'static [&'static str]> {
    let place = source
        .path
        .strip_prefix("src")
        .unwrap_or(&source.path)
        .with_extension("");
    let rows = LAYERS.iter().filter(|(name, _)| place.starts_with(name));
    rows.max_by_key(|(name, _)| name.len())
        .map(|(_, allowed)| *allowed)
}

/// Whether a row's entry allows this path.
fn covers(entry: &str, path: &[String]) -> bool {
    entry == "*" || {
        let entry: Vec<&str> = entry.split("::").collect();
        entry.len() <= path.len() && entry.iter().zip(path).all(|(entry, name)| entry == name)
    }
}

/// Paths that climb out of their room by `super`.
fn escaped(source: &Source, rooms: &BTreeSet<String>) -> Vec<(usize, Vec<String>)> {
    let place = source
        .path
        .strip_prefix("src")
        .unwrap_or(&source.path)
        .with_extension("");
    let own_file = place
        .file_name()
        .is_some_and(|name| name == "mod" || name == "lib");
    let depth = place.components().count() - usize::from(own_file);
    let climb = "super::".repeat(depth);
    if depth == 0 {
        return Vec::new();
    }
    let names_room = |path: &[String]| path.first().is_some_and(|name| rooms.contains(name));
    source
        .paths(&climb)
        .into_iter()
        .filter(|(_, path)| names_room(path))
        .collect()
}

/// A block, an `impl` or a foreign block; not a function or its type.
fn is_unsafe_block(source: &Source, offset: usize) -> bool {
    let rest = source.code[offset + "unsafe".len()..].trim_start();
    match rest.strip_prefix("extern") {
        Some(foreign) => foreign.trim_start().starts_with('{'),
        None => rest.starts_with('{') || rest.starts_with("impl"),
    }
}

/// Looks above the statement for a comment with the word.
fn has_safety_line(source: &Source, offset: usize) -> bool {
    let mut line = source.line(offset) - 1;
    let is_comment = |line: usize| source.raw_line(line).trim_start().starts_with("//");
    while line > 0 && !is_comment(line) {
        let code = source.code_line(line).trim_end();
        if code.is_empty() || code.ends_with([';', '{', '}', ',']) {
            return false;
        }
        line -= 1;
    }
    while line > 0 && is_comment(line) {
        if source.raw_line(line).contains("SAFETY:") {
            return true;
        }
        line -= 1;
    }
    false
}

/// The first folder or file under `src/`.
fn room(source: &Source) -> String {
    let place = source
        .path
        .strip_prefix("src")
        .unwrap_or(&source.path)
        .with_extension("");
    let first = place.components().next();
    first.map_or_else(String::new, |name| {
        name.as_os_str().to_string_lossy().into_owned()
    })
}

fn at(source: &Source, offset: usize, what: &str) -> String {
    format!("{}:{}: {what}", source.path.display(), source.line(offset))
}

fn report(mut wrong: Vec<String>) {
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} violations\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Every file under `src/`, with the files that only tests use marked as such.
fn sources() -> Vec<Source> {
    let mut sources: Vec<Source> = all_files()
        .into_iter()
        .filter(|path| path.starts_with("src") && path.extension() == Some("rs".as_ref()))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            Source::new(path, text)
        })
        .collect();
    assert!(sources.len() > 10, "the sources were not found");
    let test_files: Vec<PathBuf> = sources.iter().flat_map(Source::test_files).collect();
    for source in &mut sources {
        let bare = source.path.with_extension("");
        if test_files
            .iter()
            .any(|file| source.path == *file || bare.starts_with(file))
        {
            source.mark_as_test();
        }
    }
    sources
}

/// Every file of the project that people write, relative to its root, in order.
fn all_files() -> Vec<PathBuf> {
    let skipped = [
        "target",
        ".git",
        "fuzz/target",
        "fuzz/corpus",
        "tests/vectors",
        "Cargo.lock",
    ];
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if skipped.iter().any(|skipped| path == Path::new(skipped)) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_scanner_tells_code_from_comments_literals_and_tests() {
    let text = r##"
use crate::wire::{self, spi::{IkeSpi, EspSpi as Esp}, sk::*};
// panic! in a comment, /* unsafe
fn real<'a>(x: &'a str) -> char { let _ = "unsafe \" panic!"; let _ = r#"a"unsafe"#; '"' }
/* unsafe /* nested */ unsafe */
#[cfg(test)]
mod tests {
    fn only_here() { unsafe { x[0] } }
}
#[cfg(test)]
mod more;
fn last() { panic!() }
"##;
    let source = Source::new(PathBuf::from("src/ike/window.rs"), text.to_owned());
    let places: Vec<(usize, bool)> = source
        .find("unsafe")
        .map(|at| (source.line(at), source.in_test(at)))
        .collect();
    assert_eq!(places, [(8, true)]);
    let panics: Vec<usize> = source.find("panic!").map(|at| source.line(at)).collect();
    assert_eq!(panics, [12]);
    let paths: Vec<String> = source
        .paths("crate::")
        .into_iter()
        .map(|(_, path)| path.join("::"))
        .collect();
    assert_eq!(
        paths,
        [
            "wire",
            "wire::spi::IkeSpi",
            "wire::spi::EspSpi",
            "wire::sk::*"
        ]
    );
    let functions: Vec<String> = source
        .functions()
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    assert_eq!(functions, ["real", "only_here", "last"]);
    assert_eq!(source.test_files(), [PathBuf::from("src/ike/window/more")]);
    assert!(covers(
        "wire::spi",
        &["wire".into(), "spi".into(), "IkeSpi".into()]
    ));
    assert!(!covers("wire::spi", &["wire".into()]));
}
