//! From the text of iked.conf(5) to the immutable values of `policy`, and back (`print`). The text
//! is read by `lexer`, `parser` and `clauses` into `ast`, which `resolve` gives its meaning. What
//! the outside must be asked for (files, names, interfaces) goes through two traits, so parsing
//! itself is pure. Nothing half right is ever loaded: one error, and the whole text is refused.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use zeroize::Zeroizing;

use crate::policy::{Config, Generation, IfId};

mod ast;
mod clauses;
mod domains;
mod fuzz;
mod hosts;
mod identity;
mod kernel;
mod lexer;
mod names;
mod parser;
mod print;
mod proposals;
mod radius;
mod resolve;
mod system;
mod tables;

pub use fuzz::{Nobody, fuzz};
pub use identity::{identity_text, parse_identity};
pub use print::{print, print_policy, print_proposals, transform_name};
pub use system::{SystemFiles, SystemResolver};

/// One thing that is wrong; prints as `FILE: LINE: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; `None` where the file as a whole is meant.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}: {line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// What a good text gives.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is odd but no error, each as `FILE: LINE: message`.
    pub warnings: Vec<String>,
}

/// What a configuration depends on beside its text.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The name of this machine: the default of `srcid`.
    pub hostname: &'a str,
    /// `-S`: passive unless the file says `set active`.
    pub passive: bool,
    /// Who is asked for names.
    pub resolver: &'a dyn Resolver,
    /// Who is asked for files.
    pub files: &'a dyn Files,
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({})", self.hostname)
    }
}

/// What an interface of this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is none.
    Absent,
    /// Anything that carries packets by itself.
    Plain,
    /// An XFRM interface; without a number it is for any.
    Xfrm(Option<IfId>),
}

/// Names and what they stand for.
pub trait Resolver {
    /// The addresses of a local interface, without IPv6 link-local ones; none if there is no such
    /// interface.
    fn interface(&self, name: &str) -> Vec<IpAddr>;
    /// What a local interface is. Who knows none has none.
    fn link(&self, _name: &str) -> Link {
        Link::Absent
    }
    /// Whether PF_KEY is the only way into the kernel.
    fn has_only_pfkey(&self) -> bool {
        false
    }
    /// The addresses of each of these host names: none where it has none, `None` where nobody said so
    /// in time. Asked once for all names of a text.
    fn hosts(&self, names: &[String]) -> Vec<Option<Vec<IpAddr>>>;
    /// The port of a service.
    fn service(&self, name: &str) -> Option<u16>;
    /// The number of an IP protocol.
    fn protocol(&self, name: &str) -> Option<u8>;
}

/// Files that hold secrets.
pub trait Files {
    /// The whole content, or why it cannot be had (in words that follow the file's name).
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// Reads a configuration file (`-` is standard input).
pub fn load(
    path: &Path,
    macros: &[(String, String)],
    generation: Generation,
    environment: Environment<'_>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let name = path.to_string_lossy();
    let bytes = environment.files.read(&name).map_err(|message| {
        vec![Diagnostic {
            file: name.clone().into_owned(),
            line: None,
            message,
        }]
    })?;
    let shown = if name == "-" { "stdin" } else { &*name };
    parse_bytes(shown, &bytes, macros, generation, environment)
}

/// Reads a configuration from text; `name` is how errors call it.
pub fn parse_str(
    name: &str,
    text: &str,
    macros: &[(String, String)],
    generation: Generation,
    environment: Environment<'_>,
) -> Result<Loaded, Vec<Diagnostic>> {
    parse_bytes(name, text.as_bytes(), macros, generation, environment)
}

fn parse_bytes(
    name: &str,
    bytes: &[u8],
    macros: &[(String, String)],
    generation: Generation,
    environment: Environment<'_>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let parsed = parser::parse(name, bytes.to_vec(), macros, environment.files);
    let mut errors = parsed.errors;
    let asked = names::Asked::of(&parsed.statements, environment.resolver);
    let environment = Environment {
        resolver: &asked,
        ..environment
    };
    let mut resolved = resolve::resolve(&parsed.statements, generation, environment);
    errors.append(&mut resolved.errors);
    if !errors.is_empty() {
        if errors.iter().all(|error| error.file == name) {
            errors.sort_by_key(|error| error.line);
        }
        return Err(errors);
    }
    let mut warnings = resolved.warnings;
    if parsed.statements.is_empty() {
        warnings.push(format!("{name}: no valid configuration rules found"));
    }
    Ok(Loaded {
        config: resolved.config,
        warnings,
    })
}
