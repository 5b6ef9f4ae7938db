//! The lines of iked.conf(5): macros, `include`, `set`, `user`. A broken line is reported and the
//! next one is read. The `ikev2` line itself is in `clauses`; meaning is given by `resolve`.

use super::ast::{Position, Set, Statement, Text};
use super::lexer::{Kind, Lexer, Macros, TOKEN_MAX, Token};
use super::tables::{IGNORED, KEYWORDS};
use super::{Diagnostic, Files};
use crate::policy::{CrlFetch, KernelWay};

/// What reading gave: the statements, and what was wrong with the rest.
pub(super) struct Parsed {
    pub(super) statements: Vec<Statement>,
    pub(super) errors: Vec<Diagnostic>,
}

/// Reads a whole file.
pub(super) fn parse(
    name: &str,
    bytes: Vec<u8>,
    macros: &[(String, String)],
    files: &dyn Files,
) -> Parsed {
    let mut known = Macros::default();
    for (name, text) in macros {
        known.set_persistent(name, text);
    }
    let mut parser = Parser {
        lexer: Lexer::new(name, bytes),
        macros: known,
        files,
        files_read: 0,
        peeked: None,
        at_line_end: true,
    };
    let mut parsed = Parsed {
        statements: Vec::new(),
        errors: Vec::new(),
    };
    while parsed.errors.len() < ERRORS_MAX {
        match parser.line() {
            Ok(Line::Statement(statement)) => parsed.statements.push(statement),
            Ok(Line::Nothing) => {}
            Ok(Line::End) => break,
            Err(error) => {
                parsed.errors.push(error);
                parser.recover();
            }
        }
    }
    parsed
}

/// What every reading function gives.
pub(super) type Read<T> = Result<T, Diagnostic>;

/// The tokens, with one of them looked at ahead.
pub(super) struct Parser<'a> {
    lexer: Lexer,
    macros: Macros,
    files: &'a dyn Files,
    files_read: usize,
    peeked: Option<Token>,
    /// The last token taken was a newline, so there is nothing to recover from.
    at_line_end: bool,
}

enum Line {
    Statement(Statement),
    Nothing,
    End,
}

impl Parser<'_> {
    fn line(&mut self) -> Read<Line> {
        let first = self.take();
        let statement = match first.kind {
            Kind::Eof => return Ok(Line::End),
            Kind::Newline => return Ok(Line::Nothing),
            Kind::Error(message) => return Err(Diagnostic::at(&first.at, message)),
            Kind::Bare(ref word) if KEYWORDS.contains(&word.as_str()) => {
                match self.keyword_line(word, &first)? {
                    Some(statement) => statement,
                    None => return Ok(Line::Nothing),
                }
            }
            Kind::Bare(text) | Kind::Quoted(text) => {
                if text == "radius" && self.peek().kind != Kind::Char(b'=') {
                    let line = self.radius()?;
                    self.end_of_line()?;
                    return Ok(Line::Statement(Statement::Radius(line)));
                }
                self.definition(Text { text, at: first.at })?;
                return Ok(Line::Nothing);
            }
            Kind::Number(_) | Kind::Char(_) => return Err(unexpected(&first)),
        };
        self.end_of_line()?;
        Ok(Line::Statement(statement))
    }

    fn keyword_line(&mut self, word: &str, first: &Token) -> Read<Option<Statement>> {
        let statement = match word {
            "include" => {
                self.include()?;
                return Ok(None);
            }
            "set" => Statement::Set(self.set()?, first.at.clone()),
            "user" => {
                let name = self.string()?;
                Statement::User {
                    name,
                    password: self.string()?,
                }
            }
            "ikev2" => Statement::Policy(Box::new(self.policy(first.at.clone())?)),
            word if IGNORED.contains(&word) => {
                self.skip_rest();
                return Ok(None);
            }
            _ => return Err(unexpected(first)),
        };
        Ok(Some(statement))
    }

    fn include(&mut self) -> Read<()> {
        let path = self.string()?;
        self.end_of_line()?;
        let failed = |reason: &str| {
            Diagnostic::at(
                &path.at,
                format!("failed to include file {}: {reason}", path.text),
            )
        };
        if self.lexer.depth() >= INCLUDE_DEPTH_MAX || self.files_read >= INCLUDES_MAX {
            return Err(failed("too many includes"));
        }
        self.files_read += 1;
        let bytes = self
            .files
            .read(&path.text)
            .map_err(|reason| failed(&reason))?;
        self.lexer.include(&path.text, bytes.to_vec());
        Ok(())
    }

    fn definition(&mut self, name: Text) -> Read<()> {
        let equals = self.take();
        if equals.kind != Kind::Char(b'=') {
            // What stands wrong is the word that began the line.
            self.peeked = Some(equals);
            let message = format!("syntax error: unexpected '{}'", name.text);
            return Err(Diagnostic::at(&name.at, message));
        }
        let mut text = self.string()?.text;
        while self.peek().kind != Kind::Newline {
            text.push(' ');
            text.push_str(&self.string()?.text);
            if text.len() > TOKEN_MAX {
                return Err(Diagnostic::at(&name.at, "macro too long".to_owned()));
            }
        }
        self.end_of_line()?;
        if name.text.contains(|c: char| c.is_ascii_whitespace()) {
            let message = "macro name cannot contain whitespace".to_owned();
            return Err(Diagnostic::at(&name.at, message));
        }
        self.macros.set(name.text, text);
        Ok(())
    }

    fn set(&mut self) -> Read<Set> {
        let option = self.take();
        let Kind::Bare(word) = &option.kind else {
            return Err(unexpected(&option));
        };
        Ok(match word.as_str() {
            "active" => Set::Active(true),
            "passive" => Set::Active(false),
            "couple" => Set::Couple(true),
            "decouple" => Set::Couple(false),
            "fragmentation" => Set::Fragmentation(true),
            "nofragmentation" => Set::Fragmentation(false),
            "mobike" => Set::Mobike(true),
            "nomobike" => Set::Mobike(false),
            "vendorid" => Set::VendorId(true),
            "novendorid" => Set::VendorId(false),
            "enforcesingleikesa" => Set::EnforceSingleIkeSa(true),
            "noenforcesingleikesa" => Set::EnforceSingleIkeSa(false),
            "stickyaddress" => Set::StickyAddress(true),
            "nostickyaddress" => Set::StickyAddress(false),
            "cert_partial_chain" => Set::CertPartialChain,
            "ocsp" => self.ocsp()?,
            "crl" => self.crl()?,
            "dpd_check_interval" => Set::DpdCheckInterval(self.number()?),
            "cookie_threshold" => Set::CookieThreshold(self.number()?),
            "halfopen_max" => Set::HalfOpenMax(self.number()?),
            "halfopen_timeout" => Set::HalfOpenTimeout(self.number()?),
            "auth_lifetime" => Set::AuthLifetime(self.time()?, option.at.clone()),
            "fragment_size" => Set::FragmentSize(self.number()?),
            "kernel" => self.kernel()?,
            "replay_window" => Set::ReplayWindow(self.number()?),
            _ => return Err(unexpected(&option)),
        })
    }

    fn ocsp(&mut self) -> Read<Set> {
        let url = self.string()?.text;
        let mut tolerate = None;
        let mut max_age = None;
        if self.accept("tolerate") {
            tolerate = Some(self.time()?);
            if self.accept("maxage") {
                max_age = Some(self.time()?);
            }
        }
        Ok(Set::Ocsp {
            url,
            tolerate,
            max_age,
        })
    }

    fn crl(&mut self) -> Read<Set> {
        let how = self.take();
        let Kind::Bare(word) = &how.kind else {
            return Err(unexpected(&how));
        };
        match word.as_str() {
            "fetch" => Ok(Set::Crl(CrlFetch::Required)),
            "try" => Ok(Set::Crl(CrlFetch::Tried)),
            _ => Err(unexpected(&how)),
        }
    }

    fn kernel(&mut self) -> Read<Set> {
        let way = self.take();
        let Kind::Bare(word) = &way.kind else {
            return Err(unexpected(&way));
        };
        match word.as_str() {
            "auto" => Ok(Set::Kernel(KernelWay::Auto)),
            "xfrm" => Ok(Set::Kernel(KernelWay::Xfrm)),
            "pfkey" => Ok(Set::Kernel(KernelWay::PfKey)),
            _ => Err(unexpected(&way)),
        }
    }

    // ---- what the clauses are made of ----

    /// Looks at the next token.
    pub(super) fn peek(&mut self) -> &Token {
        let (lexer, macros) = (&mut self.lexer, &self.macros);
        self.peeked.get_or_insert_with(|| lexer.next(macros))
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Token {
        let token = match self.peeked.take() {
            Some(token) => token,
            None => self.lexer.next(&self.macros),
        };
        self.at_line_end = matches!(token.kind, Kind::Newline | Kind::Eof);
        token
    }

    /// Takes the next token if it is this word.
    pub(super) fn accept(&mut self, keyword: &str) -> bool {
        let found = self.at(keyword);
        if found {
            self.take();
        }
        found
    }

    /// Whether the next token is this word.
    pub(super) fn at(&mut self, keyword: &str) -> bool {
        matches!(&self.peek().kind, Kind::Bare(word) if word == keyword)
    }

    /// Takes the next token if it is this character.
    pub(super) fn accept_char(&mut self, byte: u8) -> bool {
        let found = self.peek().kind == Kind::Char(byte);
        if found {
            self.take();
        }
        found
    }

    /// Takes this word, or fails.
    pub(super) fn expect(&mut self, keyword: &str) -> Read<()> {
        if self.accept(keyword) {
            Ok(())
        } else {
            Err(unexpected(&self.take()))
        }
    }

    /// Takes this character, or fails.
    pub(super) fn expect_char(&mut self, byte: u8) -> Read<()> {
        if self.accept_char(byte) {
            Ok(())
        } else {
            Err(unexpected(&self.take()))
        }
    }

    /// Whether a string comes next: quoted, or a word that is no keyword.
    pub(super) fn at_string(&mut self) -> bool {
        match &self.peek().kind {
            Kind::Quoted(_) => true,
            Kind::Bare(word) => !KEYWORDS.contains(&word.as_str()),
            Kind::Number(_) | Kind::Char(_) | Kind::Newline | Kind::Eof | Kind::Error(_) => false,
        }
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Read<Text> {
        let is_string = self.at_string();
        let token = self.take();
        match token.kind {
            Kind::Bare(text) | Kind::Quoted(text) if is_string => Ok(Text { text, at: token.at }),
            Kind::Number(number) => {
                let message = format!("syntax error: a string must be quoted: {number}");
                Err(Diagnostic::at(&token.at, message))
            }
            Kind::Bare(_)
            | Kind::Quoted(_)
            | Kind::Char(_)
            | Kind::Newline
            | Kind::Eof
            | Kind::Error(_) => Err(unexpected(&token)),
        }
    }

    /// Takes a number.
    pub(super) fn number(&mut self) -> Read<i64> {
        let token = self.take();
        match token.kind {
            Kind::Number(number) => Ok(number),
            Kind::Bare(_)
            | Kind::Quoted(_)
            | Kind::Char(_)
            | Kind::Newline
            | Kind::Eof
            | Kind::Error(_) => Err(unexpected(&token)),
        }
    }

    /// Takes a time: seconds, or a number with `m` or `h`.
    pub(super) fn time(&mut self) -> Read<u64> {
        let units = [(b'm', 60), (b'h', 3600)];
        self.scaled(&units, u32::MAX.into(), "invalid time specification")
    }

    /// Takes a size: bytes, or a number with `K`, `M` or `G`.
    pub(super) fn size(&mut self) -> Read<u64> {
        let units = [(b'k', 1 << 10), (b'm', 1 << 20), (b'g', 1 << 30)];
        self.scaled(&units, SIZE_MAX, "invalid byte specification")
    }

    fn scaled(&mut self, units: &[(u8, u64)], most: u64, wrong: &str) -> Read<u64> {
        let is_string = self.at_string();
        let token = self.take();
        let (value, text) = match &token.kind {
            Kind::Number(number) => (u64::try_from(*number).ok(), number.to_string()),
            Kind::Bare(text) | Kind::Quoted(text) if is_string => {
                (scale(text, units), text.clone())
            }
            Kind::Bare(_)
            | Kind::Quoted(_)
            | Kind::Char(_)
            | Kind::Newline
            | Kind::Eof
            | Kind::Error(_) => return Err(unexpected(&token)),
        };
        let value = value.filter(|value| *value <= most);
        value.ok_or_else(|| Diagnostic::at(&token.at, format!("{wrong}: {text}")))
    }

    /// Takes the end of the line.
    pub(super) fn end_of_line(&mut self) -> Read<()> {
        let token = self.take();
        if self.at_line_end {
            Ok(())
        } else {
            Err(unexpected(&token))
        }
    }

    fn skip_rest(&mut self) {
        if self.peeked.is_none() {
            self.lexer.skip_line();
        }
        self.recover();
    }

    fn recover(&mut self) {
        while !self.at_line_end || self.peeked.is_some() {
            self.take();
        }
    }
}

fn scale(text: &str, units: &[(u8, u64)]) -> Option<u64> {
    let last = text.bytes().last()?;
    let (digits, factor) = match units
        .iter()
        .find(|(unit, _)| *unit == last.to_ascii_lowercase())
    {
        Some(&(_, factor)) => (text.get(..text.len() - 1)?, factor),
        None => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The error for a token that does not belong where it stands.
pub(super) fn unexpected(token: &Token) -> Diagnostic {
    let message = match &token.kind {
        Kind::Bare(text) => format!("syntax error: unexpected '{text}'"),
        // May be a password.
        Kind::Quoted(_) => "syntax error: unexpected string".to_owned(),
        Kind::Number(number) => format!("syntax error: unexpected number {number}"),
        Kind::Char(byte) => format!("syntax error: unexpected '{}'", byte.escape_ascii()),
        Kind::Newline | Kind::Eof => "syntax error: unexpected end of line".to_owned(),
        Kind::Error(message) => message.clone(),
    };
    Diagnostic::at(&token.at, message)
}

impl Diagnostic {
    /// Something wrong at a place.
    pub(super) fn at(at: &Position, message: String) -> Self {
        Self {
            file: at.file.to_string(),
            line: Some(at.line),
            message,
        }
    }
}

/// Largest size: what a number token can say.
const SIZE_MAX: u64 = i64::MAX as u64;
/// Errors after which reading is given up.
const ERRORS_MAX: usize = 100;
const INCLUDE_DEPTH_MAX: usize = 16;
const INCLUDES_MAX: usize = 4096;
