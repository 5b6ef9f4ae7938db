//! Tokens of iked.conf(5): words, quoted strings, numbers and single characters, from a stack of
//! files and macro texts. Comments, joined lines and `$macro` are dealt with here; what words mean
//! is the parser's matter. Works on bytes and is total: any input gives tokens or errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::ast::Position;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word without quotes; a keyword or a string.
    Bare(String),
    /// A string in quotes; never a keyword.
    Quoted(String),
    Number(i64),
    /// Any other character.
    Char(u8),
    Newline,
    Eof,
    /// What is wrong; the rest of the line has been skipped.
    Error(String),
}

/// A token and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: Position,
}

/// Macro names and their texts.
#[derive(Debug, Default)]
pub(super) struct Macros {
    texts: BTreeMap<String, Macro>,
}

#[derive(Debug)]
struct Macro {
    text: String,
    persistent: bool,
}

impl Macros {
    /// A `-D` macro: it beats definitions of the file.
    pub(super) fn set_persistent(&mut self, name: &str, text: &str) {
        self.texts.insert(
            name.to_owned(),
            Macro {
                text: text.to_owned(),
                persistent: true,
            },
        );
    }

    /// A definition in the file.
    pub(super) fn set(&mut self, name: String, text: String) {
        let taken = self
            .texts
            .get(&name)
            .is_some_and(|existing| existing.persistent);
        if !taken {
            self.texts.insert(
                name,
                Macro {
                    text,
                    persistent: false,
                },
            );
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(|found| found.text.as_str())
    }
}

/// The reader of tokens.
#[derive(Debug)]
pub(super) struct Lexer {
    frames: Vec<Frame>,
    file: Arc<str>,
    line: u32,
    main_ended: bool,
}

#[derive(Debug)]
struct Frame {
    bytes: Zeroizing<Vec<u8>>,
    next: usize,
    kind: FrameKind,
}

#[derive(Debug)]
enum FrameKind {
    /// The file that is read; where its parent goes on afterwards.
    File { parent: Option<Position> },
    /// The text of a macro, in which `$` means nothing.
    Macro,
    /// A character read too far, with its backslash already dealt with.
    Unread { from_macro: bool },
}

#[derive(Clone, Copy, Debug)]
struct Char {
    byte: u8,
    from_macro: bool,
    verbatim: bool,
}

impl Lexer {
    pub(super) fn new(name: &str, bytes: Vec<u8>) -> Self {
        let kind = FrameKind::File { parent: None };
        let frame = Frame {
            bytes: Zeroizing::new(bytes),
            next: 0,
            kind,
        };
        Self {
            frames: vec![frame],
            file: name.into(),
            line: 1,
            main_ended: false,
        }
    }

    /// Goes on with another file; afterwards with this one.
    pub(super) fn include(&mut self, name: &str, bytes: Vec<u8>) {
        let kind = FrameKind::File {
            parent: Some(self.position()),
        };
        self.frames.push(Frame {
            bytes: Zeroizing::new(bytes),
            next: 0,
            kind,
        });
        self.file = name.into();
        self.line = 1;
    }

    /// How many files are open, the main one included.
    pub(super) fn depth(&self) -> usize {
        let is_file = |frame: &&Frame| matches!(frame.kind, FrameKind::File { .. });
        self.frames.iter().filter(is_file).count()
    }

    /// Skips what is left of the line, without looking at it; the newline comes next.
    pub(super) fn skip_line(&mut self) {
        while let Some(c) = self.get() {
            if c.byte == b'\n' {
                self.unread(c);
                return;
            }
        }
    }

    /// The next token.
    pub(super) fn next(&mut self, macros: &Macros) -> Token {
        loop {
            let Some(c) = self.get_after_blanks() else {
                return self.end_of_file();
            };
            let at = self.position();
            let kind = match c.byte {
                b'#' => {
                    self.skip_line();
                    continue;
                }
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    Kind::Newline
                }
                b'$' if !c.from_macro => match self.expand(macros) {
                    Ok(()) => continue,
                    Err(message) => self.error(message),
                },
                b'"' | b'\'' => self.quoted(c.byte),
                b'-' | b'0'..=b'9' => self.number_or_word(c),
                byte if starts_word(byte) => self.word(vec![byte]),
                byte => Kind::Char(byte),
            };
            return Token { kind, at };
        }
    }

    fn position(&self) -> Position {
        Position {
            file: self.file.clone(),
            line: self.line,
        }
    }

    fn error(&mut self, message: String) -> Kind {
        self.skip_line();
        Kind::Error(message)
    }

    /// The end of an included file ends its last line; so does the end of the main file, once.
    fn end_of_file(&mut self) -> Token {
        let at = self.position();
        if let Some(Frame {
            kind: FrameKind::File {
                parent: Some(parent),
            },
            ..
        }) = self.frames.last()
        {
            (self.file, self.line) = (parent.file.clone(), parent.line);
            self.frames.pop();
            return Token {
                kind: Kind::Newline,
                at,
            };
        }
        if self.main_ended {
            return Token {
                kind: Kind::Eof,
                at,
            };
        }
        self.main_ended = true;
        Token {
            kind: Kind::Newline,
            at,
        }
    }

    fn raw(&mut self) -> Option<Char> {
        loop {
            let frame = self.frames.last_mut()?;
            if let Some(&byte) = frame.bytes.get(frame.next) {
                frame.next += 1;
                let (from_macro, verbatim) = match frame.kind {
                    FrameKind::File { .. } => (false, false),
                    FrameKind::Macro => (true, false),
                    FrameKind::Unread { from_macro } => (from_macro, true),
                };
                return Some(Char {
                    byte,
                    from_macro,
                    verbatim,
                });
            }
            match frame.kind {
                FrameKind::File { .. } => return None,
                FrameKind::Macro | FrameKind::Unread { .. } => self.frames.pop(),
            };
        }
    }

    /// One character outside quotes: backslash-newline joins lines, backslash-x is x.
    fn get(&mut self) -> Option<Char> {
        loop {
            let c = self.raw()?;
            if c.byte != b'\\' || c.verbatim {
                return Some(c);
            }
            let escaped = self.raw()?;
            if escaped.byte != b'\n' {
                return Some(escaped);
            }
            self.line = self.line.saturating_add(1);
        }
    }

    fn get_after_blanks(&mut self) -> Option<Char> {
        loop {
            let c = self.get()?;
            if !matches!(c.byte, b' ' | b'\t' | b'\r') {
                return Some(c);
            }
        }
    }

    fn unread(&mut self, c: Char) {
        // A frame read to its end would stay below the new one.
        let spent = |frame: &Frame| frame.next >= frame.bytes.len();
        while self
            .frames
            .last()
            .is_some_and(|top| matches!(top.kind, FrameKind::Unread { .. }) && spent(top))
        {
            self.frames.pop();
        }
        let kind = FrameKind::Unread {
            from_macro: c.from_macro,
        };
        self.frames.push(Frame {
            bytes: Zeroizing::new(vec![c.byte]),
            next: 0,
            kind,
        });
    }

    /// Reads the name after `$` and pushes its text in front of what follows.
    fn expand(&mut self, macros: &Macros) -> Result<(), String> {
        let mut name = String::new();
        while let Some(c) = self.get() {
            if !(c.byte.is_ascii_alphanumeric() || c.byte == b'_') {
                self.unread(c);
                break;
            }
            if name.len() >= TOKEN_MAX {
                return Err("macro name too long".to_owned());
            }
            name.push(char::from(c.byte));
        }
        let Some(text) = macros.get(&name) else {
            return Err(format!("macro '{name}' not defined"));
        };
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        self.frames.push(Frame {
            bytes,
            next: 0,
            kind: FrameKind::Macro,
        });
        Ok(())
    }

    fn quoted(&mut self, quote: u8) -> Kind {
        let mut text = Vec::new();
        loop {
            let Some(c) = self.raw() else {
                return self.unterminated();
            };
            let mut byte = c.byte;
            match byte {
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    continue;
                }
                b'\\' => {
                    let Some(next) = self.raw() else {
                        return self.unterminated();
                    };
                    match next.byte {
                        b' ' | b'\t' => byte = next.byte,
                        b'\n' => {
                            self.line = self.line.saturating_add(1);
                            continue;
                        }
                        other if other == quote => byte = other,
                        _ => self.unread(next),
                    }
                }
                0 => return self.error("syntax error: NUL byte in a string".to_owned()),
                byte if byte == quote => break,
                _ => {}
            }
            if text.len() >= TOKEN_MAX {
                return self.error("string too long".to_owned());
            }
            text.push(byte);
        }
        match String::from_utf8(text) {
            Ok(text) => Kind::Quoted(text),
            Err(_) => self.error("string is not UTF-8 text".to_owned()),
        }
    }

    fn unterminated(&self) -> Kind {
        Kind::Error("reached end of file while parsing quoted string".to_owned())
    }

    /// `-` and digits are a number only in front of a blank or one of `),/}=`; else `10.0.0.1` and
    /// `4h` are words.
    fn number_or_word(&mut self, first: Char) -> Kind {
        let mut text = vec![first.byte];
        let mut next = self.get();
        while let Some(c) = next.filter(|c| c.byte.is_ascii_digit()) {
            if text.len() >= TOKEN_MAX {
                return self.error("string too long".to_owned());
            }
            text.push(c.byte);
            next = self.get();
        }
        if let Some(c) = next {
            self.unread(c);
        }
        let digits = text.strip_prefix(b"-").unwrap_or(&text);
        if !digits.is_empty() && next.is_none_or(|c| ends_number(c.byte)) {
            let text = String::from_utf8_lossy(&text);
            return match text.parse() {
                Ok(number) => Kind::Number(number),
                Err(_) => {
                    let way = if first.byte == b'-' { "small" } else { "large" };
                    let message = format!("\"{text}\" invalid number: too {way}");
                    self.error(message)
                }
            };
        }
        if first.byte != b'-' {
            return self.word(text);
        }
        for &byte in digits.iter().rev() {
            self.unread(Char { byte, ..first });
        }
        Kind::Char(b'-')
    }

    fn word(&mut self, mut text: Vec<u8>) -> Kind {
        while let Some(c) = self.get() {
            if !continues_word(c.byte) {
                self.unread(c);
                break;
            }
            if text.len() >= TOKEN_MAX {
                return self.error("string too long".to_owned());
            }
            text.push(c.byte);
        }
        // Words are ASCII by construction.
        Kind::Bare(String::from_utf8_lossy(&text).into_owned())
    }
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'*')
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || (byte.is_ascii_punctuation() && !b"(){}<>!=/#,".contains(&byte))
}

fn ends_number(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b || b"),/}=".contains(&byte)
}

/// Longest token, and longest text of a macro, in bytes.
pub(super) const TOKEN_MAX: usize = 8096;

#[cfg(test)]
mod tests {
    use super::*;

    fn lex_with(text: &str, macros: &Macros) -> Vec<Kind> {
        let mut lexer = Lexer::new("test", text.as_bytes().to_vec());
        let mut kinds = Vec::new();
        loop {
            let kind = lexer.next(macros).kind;
            if kind == Kind::Eof {
                return kinds;
            }
            kinds.push(kind);
        }
    }

    fn lex(text: &str) -> Vec<Kind> {
        let mut kinds = lex_with(text, &Macros::default());
        assert_eq!(
            kinds.pop(),
            Some(Kind::Newline),
            "the end of a file ends its last line"
        );
        kinds
    }

    fn bare(text: &str) -> Kind {
        Kind::Bare(text.to_owned())
    }

    fn quoted(text: &str) -> Kind {
        Kind::Quoted(text.to_owned())
    }

    #[test]
    fn addresses_and_times_are_words_and_slashes_stand_alone() {
        let slash = Kind::Char(b'/');
        assert_eq!(
            lex("10.0.0.0/24"),
            [bare("10.0.0.0"), slash.clone(), Kind::Number(24)]
        );
        assert_eq!(
            lex("2001:db8::/32"),
            [bare("2001:db8::"), slash, Kind::Number(32)]
        );
        assert_eq!(
            lex("4h 0x61 17 -3"),
            [bare("4h"), bare("0x61"), Kind::Number(17), Kind::Number(-3)]
        );
        assert_eq!(
            lex("{6}"),
            [Kind::Char(b'{'), Kind::Number(6), Kind::Char(b'}')]
        );
        assert_eq!(
            lex("-5x -"),
            [Kind::Char(b'-'), bare("5x"), Kind::Char(b'-')]
        );
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        let message = "\"9223372036854775808\" invalid number: too large".to_owned();
        assert_eq!(lex("9223372036854775808 x"), [Kind::Error(message)]);
    }

    #[test]
    fn comments_end_with_their_line_unless_it_is_joined() {
        assert_eq!(lex("a # b\nc"), [bare("a"), Kind::Newline, bare("c")]);
        assert_eq!(lex("a # b \\\nc\nd"), [bare("a"), Kind::Newline, bare("d")]);
        assert_eq!(lex("a#b"), [bare("a")]);
    }

    #[test]
    fn backslashes_join_lines_and_quote_characters() {
        assert_eq!(lex("a \\\n b"), [bare("a"), bare("b")]);
        assert_eq!(lex("a\\\nb"), [bare("ab")]);
        assert_eq!(lex("a\\b\\c"), [bare("abc")]);
        let mut lexer = Lexer::new("test", b"a \\\n\\\nb\nc".to_vec());
        let lines: Vec<u32> = std::iter::repeat_with(|| lexer.next(&Macros::default()).at.line)
            .take(4)
            .collect();
        assert_eq!(lines, [1, 3, 3, 4]);
    }

    #[test]
    fn quotes_keep_blanks_and_most_backslashes() {
        assert_eq!(lex(r#""a b" 'c "d"'"#), [quoted("a b"), quoted("c \"d\"")]);
        assert_eq!(lex(r#""a\"b\ c\d""#), [quoted("a\"b c\\d")]);
        assert_eq!(lex("\"a\nb\\\nc\" d"), [quoted("abc"), bare("d")]);
        assert_eq!(lex("\"$x # no\""), [quoted("$x # no")]);
    }

    #[test]
    fn broken_strings_are_errors_and_the_next_line_lives() {
        let eof = "reached end of file while parsing quoted string".to_owned();
        assert_eq!(lex("\"abc"), [Kind::Error(eof)]);
        let nul = "syntax error: NUL byte in a string".to_owned();
        assert_eq!(
            lex("\"a\0b\" c\nd"),
            [Kind::Error(nul), Kind::Newline, bare("d")]
        );
        let long = format!("{} x\ny", "a".repeat(TOKEN_MAX + 1));
        assert_eq!(
            lex(&long),
            [
                Kind::Error("string too long".to_owned()),
                Kind::Newline,
                bare("y")
            ]
        );
    }

    #[test]
    fn macros_are_text_that_is_read_again_but_not_expanded_again() {
        let mut macros = Macros::default();
        macros.set("net".to_owned(), "10.0.0.0/8".to_owned());
        macros.set("two".to_owned(), "a $net".to_owned());
        let kinds = lex_with("$net,$two", &macros);
        assert_eq!(
            kinds,
            [
                bare("10.0.0.0"),
                Kind::Char(b'/'),
                Kind::Number(8),
                Kind::Char(b','),
                bare("a"),
                Kind::Char(b'$'),
                bare("net"),
                Kind::Newline,
            ]
        );
        let undefined = Kind::Error("macro 'none' not defined".to_owned());
        assert_eq!(lex("$none x\ny"), [undefined, Kind::Newline, bare("y")]);
    }

    #[test]
    fn command_line_macros_beat_the_file() {
        let mut macros = Macros::default();
        macros.set_persistent("a", "first");
        macros.set("a".to_owned(), "second".to_owned());
        assert_eq!(lex_with("$a", &macros), [bare("first"), Kind::Newline]);
    }

    #[test]
    fn an_included_file_ends_its_last_line_and_the_parent_goes_on() {
        let mut lexer = Lexer::new("main", b"a\nb\n".to_vec());
        let macros = Macros::default();
        assert_eq!(lexer.next(&macros).kind, bare("a"));
        assert_eq!(lexer.next(&macros).kind, Kind::Newline);
        lexer.include("other", b"\n\nx".to_vec());
        assert_eq!(lexer.depth(), 2);
        lexer.next(&macros);
        lexer.next(&macros);
        let token = lexer.next(&macros);
        assert_eq!(
            (token.kind, &*token.at.file, token.at.line),
            (bare("x"), "other", 3)
        );
        assert_eq!(lexer.next(&macros).kind, Kind::Newline);
        let token = lexer.next(&macros);
        assert_eq!(
            (token.kind, &*token.at.file, token.at.line),
            (bare("b"), "main", 2)
        );
    }
}
