//! A Rust source file as `tidy` sees it: comments and literals blanked out, test code marked, and
//! paths, functions and words found by their place. No parser: enough of the lexical grammar that
//! a word in a string or a comment is not taken for code.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// One file.
pub(super) struct Source {
    /// Relative to the root of the project.
    pub(super) path: PathBuf,
    /// As it is on disk.
    pub(super) text: String,
    /// The text, one byte for each of its characters, with blanks for comments and literals.
    pub(super) code: String,
    /// Ranges of `code` that exist only in tests.
    tests: Vec<Range<usize>>,
    /// Offset in `code` of the beginning of each line.
    line_starts: Vec<usize>,
}

impl Source {
    /// Takes a file apart.
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        let code = masked(&text);
        let tests = test_items(&code);
        let ends = code.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(ends.map(|(at, _)| at + 1))
            .collect();
        Self {
            path,
            text,
            code,
            tests,
            line_starts,
        }
    }

    /// Line number of an offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= at)
    }

    /// Whether the code at this offset is only for tests.
    pub(super) fn in_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// From here on the whole file is test code.
    pub(super) fn mark_as_test(&mut self) {
        self.tests = std::iter::once(0..self.code.len() + 1).collect();
    }

    /// How many lines are not test code.
    pub(super) fn lines_without_tests(&self) -> usize {
        let lines = self.text.lines().count();
        self.line_starts
            .iter()
            .take(lines)
            .filter(|&&at| !self.in_test(at))
            .count()
    }

    /// The raw line with this number, from 1.
    pub(super) fn raw_line(&self, line: usize) -> &str {
        self.text.lines().nth(line - 1).unwrap_or("")
    }

    /// The blanked line with this number, from 1.
    pub(super) fn code_line(&self, line: usize) -> &str {
        self.code.lines().nth(line - 1).unwrap_or("")
    }

    /// Where `needle` stands in code, not inside of a longer name.
    pub(super) fn find<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
        let bytes = self.code.as_bytes();
        let joins = |at: Option<&u8>| at.is_some_and(|&byte| is_name(byte));
        let starts_as_name = needle.bytes().next().is_some_and(is_name);
        let ends_as_name = needle.bytes().last().is_some_and(is_name);
        self.code
            .match_indices(needle)
            .map(|(at, _)| at)
            .filter(move |&at| {
                let before = at.checked_sub(1).and_then(|before| bytes.get(before));
                let after = bytes.get(at + needle.len());
                !(starts_as_name && joins(before) || ends_as_name && joins(after))
            })
    }

    /// Every function with a body: its name, where it begins and how many lines it has.
    pub(super) fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for at in self.find("fn") {
            let name_at = at + 2 + blanks(self.code.get(at + 2..).unwrap_or(""));
            let name = name_at_start(self.code.get(name_at..).unwrap_or(""));
            let end = item_end(&self.code, at);
            if !name.is_empty() && self.code.as_bytes().get(end - 1) == Some(&b'}') {
                found.push((name.to_owned(), at, self.line(end - 1) - self.line(at) + 1));
            }
        }
        found
    }

    /// Every path that begins with `start` (such as `crate::`), a brace group as one path for each
    /// of its leaves: where it stands and its segments behind `start`.
    pub(super) fn paths(&self, start: &str) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        for at in self.find(start) {
            let mut rest = self.code.get(at + start.len()..).unwrap_or("");
            let mut paths = Vec::new();
            expand(&mut rest, &mut Vec::new(), &mut paths);
            found.extend(paths.into_iter().map(|path| (at, path)));
        }
        found
    }

    /// Files that `#[cfg(test)] mod name;` declares here, without extension or with: a prefix of
    /// their paths.
    pub(super) fn test_files(&self) -> Vec<PathBuf> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new(""));
        let stem = self
            .path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("");
        let own = if matches!(stem, "mod" | "lib" | "main") {
            folder.to_path_buf()
        } else {
            folder.join(stem)
        };
        let mut found = Vec::new();
        for range in &self.tests {
            let code = self.code.get(range.clone()).unwrap_or("");
            let Some((_, name)) = code
                .strip_suffix(';')
                .and_then(|item| item.rsplit_once("mod "))
            else {
                continue;
            };
            // Literals are blank in `code`, so a path attribute is read from the raw lines.
            let raw: Vec<&str> = (self.line(range.start)..=self.line(range.end))
                .map(|n| self.raw_line(n))
                .collect();
            let attribute = raw
                .iter()
                .find_map(|line| line.trim().strip_prefix("#[path = \""));
            found.push(match attribute.and_then(|rest| rest.split('"').next()) {
                Some(file) => folder.join(file),
                None => own.join(name.trim()),
            });
        }
        found
    }
}

/// Reads one path or brace group from the front of `rest`.
fn expand(rest: &mut &str, prefix: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let depth = prefix.len();
    loop {
        *rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('{') {
            *rest = inner.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                expand(rest, prefix, out);
                // Behind a leaf there may be "as NAME"; the next leaf begins behind the comma.
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                *rest = rest
                    .get(end..)
                    .unwrap_or("")
                    .trim_start_matches(',')
                    .trim_start();
            }
            *rest = rest.strip_prefix('}').unwrap_or("");
            break;
        }
        let name = if rest.starts_with('*') {
            "*"
        } else {
            name_at_start(rest)
        };
        *rest = rest.get(name.len()..).unwrap_or("");
        if !name.is_empty() && name != "self" {
            prefix.push(name.to_owned());
        }
        match rest.strip_prefix("::") {
            Some(tail) if !name.is_empty() => *rest = tail,
            _ => {
                out.push(prefix.clone());
                break;
            }
        }
    }
    prefix.truncate(depth);
}

/// `text` with every comment and literal blank, one byte for each character.
fn masked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<u8> = Vec::with_capacity(chars.len());
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut index = 0;
    while index < chars.len() {
        let previous_is_name = index > 0 && is_name_char(at(index - 1));
        let end = match at(index) {
            '/' if at(index + 1) == '/' => until(&chars, index, '\n'),
            '/' if at(index + 1) == '*' => comment_end(&chars, index),
            '"' => string_end(&chars, index + 1),
            'r' if !previous_is_name || matches!(at(index - 1), 'b' | 'c') => {
                raw_string_end(&chars, index + 1)
            }
            '\'' if at(index + 1) == '\\' => until(&chars, index + 3, '\'') + 1,
            '\'' if at(index + 2) == '\'' => index + 3,
            _ => index,
        };
        if end <= index {
            let character = at(index);
            out.push(if character.is_ascii() {
                character as u8
            } else {
                b'?'
            });
            index += 1;
            continue;
        }
        let end = end.min(chars.len());
        // A line comment ends before its newline; what spans lines keeps them.
        for position in index..end {
            out.push(if at(position) == '\n' { b'\n' } else { b' ' });
        }
        index = end;
    }
    String::from_utf8(out).unwrap_or_default()
}

fn until(chars: &[char], from: usize, stop: char) -> usize {
    let rest = chars.get(from..).unwrap_or(&[]);
    rest.iter()
        .position(|&c| c == stop)
        .map_or(chars.len(), |found| from + found)
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut index = from;
    while index < chars.len() {
        match chars.get(index..index + 2) {
            Some(['/', '*']) => (depth, index) = (depth + 1, index + 2),
            Some(['*', '/']) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn string_end(chars: &[char], mut index: usize) -> usize {
    while let Some(&character) = chars.get(index) {
        match character {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    index
}

/// The end of a raw string whose `r` stands before `from`, or 0 where there is none.
fn raw_string_end(chars: &[char], from: usize) -> usize {
    let hashes = chars
        .get(from..)
        .unwrap_or(&[])
        .iter()
        .take_while(|&&c| c == '#')
        .count();
    if chars.get(from + hashes) != Some(&'"') {
        return 0;
    }
    let mut index = from + hashes + 1;
    while index < chars.len() {
        let quote = until(chars, index, '"');
        let closing = chars.get(quote + 1..quote + 1 + hashes).unwrap_or(&[]);
        if closing.len() == hashes && closing.iter().all(|&c| c == '#') {
            return quote + 1 + hashes;
        }
        index = quote + 1;
    }
    index
}

/// Items under `#[cfg(test)]`, `#[cfg(all(test, ..))]` or `#[test]`, attributes included.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test", "#[test]"] {
        for (at, _) in code.match_indices(attribute) {
            found.push(at..item_end(code, at));
        }
    }
    found
}

/// The end of the item that begins at `from`, attributes first: behind its `;` or its braces.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    let mut braces = 0usize;
    for (offset, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && depth == 0 {
                    return offset + 1;
                }
            }
            b';' if braces == 0 && depth == 0 => return offset + 1,
            _ => {}
        }
    }
    code.len()
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn name_at_start(text: &str) -> &str {
    let end = text
        .bytes()
        .position(|byte| !is_name(byte))
        .unwrap_or(text.len());
    text.get(..end).unwrap_or("")
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const fn is_name_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}
