//! The words of `ikectl`: a tree of commands whose words may be shortened while they stay unique.
//! Nothing is sent here.

use std::fmt;
use std::slice::Iter;

use super::imsg::{EVENTS, Kind, Reset};
use super::query::{Query, What};
use crate::ca::request as authority;

mod ca;

/// What the words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Something of the daemon.
    Ask(Request),
    /// Something of a certification authority in a folder of this host.
    Ca(authority::Command),
}

/// What the operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `active`
    Active,
    /// `passive`
    Passive,
    /// `couple`
    Couple,
    /// `decouple`
    Decouple,
    /// `load PATH`
    Load(String),
    /// `log brief|verbose`
    Log {
        /// Verbose?
        verbose: bool,
    },
    /// `monitor`
    Monitor,
    /// `top`: ours
    Top,
    /// `redirect ADDRESS`: ours
    Redirect(String),
    /// `reload`
    Reload,
    /// `reset all|ca|policy|radius|sa|user`
    Reset(Reset),
    /// `reset id IKEID`
    ResetId(String),
    /// `show sa`
    ShowSa,
    /// `show certstore`
    ShowCertstore,
    /// `show stats`
    ShowStats,
    /// `show policy`, `show pool` and `explain`: ours
    Show(What),
}

impl Command {
    /// Reads the words after the options.
    pub fn parse(words: &[String]) -> Result<Self, GrammarError> {
        let mut table = MAIN;
        let mut words = words.iter();
        loop {
            let word = words.next();
            let entry = choose(table, word)?;
            match entry.then {
                Then::Words(next) => table = next,
                Then::Request(request) => {
                    return match words.next() {
                        None => Ok(Self::Ask(request())),
                        Some(word) => Err(fault(Fault::Superfluous, Some(word), &[])),
                    };
                }
                Then::Explain => return explain(word, words.as_slice()).map(Self::Ask),
                Then::Ca(read) => return read(&mut words).map(Self::Ca),
                Then::Value(make) => {
                    let value = word.cloned().unwrap_or_default();
                    return match words.next() {
                        None => Ok(Self::Ask(make(value))),
                        Some(word) => Err(fault(Fault::Superfluous, Some(word), &[])),
                    };
                }
            }
        }
    }
}

impl Request {
    /// The frame that asks for it.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Active => Kind::ACTIVE,
            Self::Passive => Kind::PASSIVE,
            Self::Couple => Kind::COUPLE,
            Self::Decouple => Kind::DECOUPLE,
            Self::Load(_) | Self::Reload => Kind::RELOAD,
            Self::Log { .. } => Kind::VERBOSE,
            Self::Monitor => Kind::NOTIFY,
            Self::Top => Kind::SHOW_COUNTERS,
            Self::Redirect(_) => Kind::REDIRECT,
            Self::Reset(_) => Kind::RESET,
            Self::ResetId(_) => Kind::RESET_ID,
            Self::ShowSa => Kind::SHOW_SA,
            Self::ShowCertstore => Kind::SHOW_CERTSTORE,
            Self::ShowStats => Kind::SHOW_STATS,
            Self::Show(_) => Kind::SHOW,
        }
    }

    /// What asks for the same as JSON, if there is an answer in JSON.
    pub fn as_json(&self) -> Option<Query> {
        let what = match self {
            Self::ShowSa => What::Sa,
            Self::ShowCertstore => What::Certstore,
            Self::ShowStats => What::Stats,
            Self::Show(what) => what.clone(),
            Self::Active
            | Self::Passive
            | Self::Couple
            | Self::Decouple
            | Self::Load(_)
            | Self::Log { .. }
            | Self::Monitor
            | Self::Top
            | Self::Redirect(_)
            | Self::Reload
            | Self::Reset(_)
            | Self::ResetId(_) => return None,
        };
        Some(Query { json: true, what })
    }

    /// What follows the frame's header.
    pub fn payload(&self) -> Vec<u8> {
        match self {
            Self::Load(text) | Self::Redirect(text) | Self::ResetId(text) => {
                text.clone().into_bytes()
            }
            Self::Log { verbose } => (if *verbose { 2i32 } else { 0 }).to_ne_bytes().to_vec(),
            Self::Show(what) => {
                let what = what.clone();
                Query { json: false, what }.to_string().into_bytes()
            }
            Self::Reset(what) => what.number().to_ne_bytes().to_vec(),
            Self::Monitor => EVENTS.as_bytes().to_vec(),
            Self::Active
            | Self::Passive
            | Self::Couple
            | Self::Decouple
            | Self::Reload
            | Self::Top
            | Self::ShowSa
            | Self::ShowCertstore
            | Self::ShowStats => Vec::new(),
        }
    }
}

/// Words that make no command; prints like OpenIKED's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrammarError {
    fault: Fault,
    word: Option<String>,
    valid: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Missing,
    Ambiguous,
    Unknown,
    Superfluous,
}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.as_deref().unwrap_or_default();
        match self.fault {
            Fault::Missing => f.write_str("missing argument:")?,
            Fault::Ambiguous => write!(f, "ambiguous argument: {word}")?,
            Fault::Unknown => write!(f, "unknown argument: {word}")?,
            Fault::Superfluous => write!(f, "superfluous argument: {word}")?,
        }
        if !self.valid.is_empty() {
            f.write_str("\nvalid commands/args:")?;
        }
        for word in &self.valid {
            write!(f, "\n  {word}")?;
        }
        Ok(())
    }
}

impl std::error::Error for GrammarError {}

/// A word and what comes after it.
struct Entry {
    /// The word, or the name of a value in angle brackets.
    word: &'static str,
    then: Then,
}

enum Then {
    Words(&'static [Entry]),
    Request(fn() -> Request),
    Value(fn(String) -> Request),
    Ca(fn(&mut Iter<'_, String>) -> Result<authority::Command, GrammarError>),
    /// An address, and perhaps an identity.
    Explain,
}

/// `explain ADDRESS [ID]`.
fn explain(address: Option<&String>, rest: &[String]) -> Result<Request, GrammarError> {
    let unknown = || fault(Fault::Unknown, address, &EXPLAIN);
    let what = What::Explain {
        address: address
            .and_then(|word| word.parse().ok())
            .ok_or_else(unknown)?,
        id: rest.first().cloned(),
    };
    match rest.get(1) {
        None => Ok(Request::Show(what)),
        Some(word) => Err(fault(Fault::Superfluous, Some(word), &[])),
    }
}

fn choose(table: &'static [Entry], word: Option<&String>) -> Result<&'static Entry, GrammarError> {
    let Some(word) = word.filter(|word| !word.is_empty()) else {
        return Err(fault(Fault::Missing, None, table));
    };
    if let Some(value) = table
        .iter()
        .find(|entry| matches!(entry.then, Then::Value(_) | Then::Explain))
    {
        return Ok(value);
    }
    let names: Vec<&'static str> = table.iter().map(|entry| entry.word).collect();
    let at = pick(&names, Some(word))?;
    let chosen = table.get(at);
    chosen.ok_or_else(|| fault(Fault::Unknown, Some(word), table))
}

/// Which of these names a word is or begins, if it is one only.
fn pick(names: &[&'static str], word: Option<&String>) -> Result<usize, GrammarError> {
    let Some(word) = word.filter(|word| !word.is_empty()) else {
        return Err(fault_among(Fault::Missing, None, names.to_vec()));
    };
    if let Some(exact) = names.iter().position(|name| name == word) {
        return Ok(exact);
    }
    let starts = |name: &&'static str| name.starts_with(word.as_str());
    let mut matches = (0..).zip(names).filter(|(_, name)| starts(name));
    let kind = match (matches.next(), matches.next()) {
        (Some((only, _)), None) => return Ok(only),
        (Some(_), Some(_)) => Fault::Ambiguous,
        (None, _) => Fault::Unknown,
    };
    Err(fault_among(kind, Some(word), names.to_vec()))
}

fn fault(fault: Fault, word: Option<&String>, table: &'static [Entry]) -> GrammarError {
    fault_among(fault, word, table.iter().map(|entry| entry.word).collect())
}

fn fault_among(fault: Fault, word: Option<&String>, valid: Vec<&'static str>) -> GrammarError {
    GrammarError {
        fault,
        word: word.cloned(),
        valid,
    }
}

const fn words(word: &'static str, next: &'static [Entry]) -> Entry {
    Entry {
        word,
        then: Then::Words(next),
    }
}

const fn request(word: &'static str, make: fn() -> Request) -> Entry {
    Entry {
        word,
        then: Then::Request(make),
    }
}

const fn value(word: &'static str, make: fn(String) -> Request) -> Entry {
    Entry {
        word,
        then: Then::Value(make),
    }
}

static MAIN_TABLE: [Entry; 14] = [
    request("active", || Request::Active),
    Entry {
        word: "ca",
        then: Then::Ca(ca::ca),
    },
    request("passive", || Request::Passive),
    request("couple", || Request::Couple),
    request("decouple", || Request::Decouple),
    words("explain", &EXPLAIN),
    words("load", &LOAD),
    words("log", &LOG),
    request("monitor", || Request::Monitor),
    words("redirect", &REDIRECT),
    request("reload", || Request::Reload),
    words("reset", &RESET),
    words("show", &SHOW),
    request("top", || Request::Top),
];
const MAIN: &[Entry] = &MAIN_TABLE;

static EXPLAIN: [Entry; 1] = [Entry {
    word: "<address>",
    then: Then::Explain,
}];

static LOAD: [Entry; 1] = [value("<path>", Request::Load)];

static REDIRECT: [Entry; 1] = [value("<address>", Request::Redirect)];

static LOG: [Entry; 2] = [
    request("verbose", || Request::Log { verbose: true }),
    request("brief", || Request::Log { verbose: false }),
];

static RESET: [Entry; 7] = [
    request("all", || Request::Reset(Reset::All)),
    request("ca", || Request::Reset(Reset::Ca)),
    request("policy", || Request::Reset(Reset::Policy)),
    request("sa", || Request::Reset(Reset::Sa)),
    request("radius", || Request::Reset(Reset::Radius)),
    request("user", || Request::Reset(Reset::User)),
    words("id", &RESET_ID),
];

static RESET_ID: [Entry; 1] = [value("<ikeid>", Request::ResetId)];

static SHOW: [Entry; 6] = [
    request("sa", || Request::ShowSa),
    Entry {
        word: "ca",
        then: Then::Ca(ca::show),
    },
    request("certstore", || Request::ShowCertstore),
    request("stats", || Request::ShowStats),
    request("policy", || Request::Show(What::Policy)),
    request("pool", || Request::Show(What::Pool)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match Command::parse(&words).map_err(|error| error.to_string())? {
            Command::Ask(request) => Ok(request),
            Command::Ca(command) => panic!("{command:?}"),
        }
    }

    #[test]
    fn words_may_be_shortened_while_they_stay_unique() {
        assert_eq!(parse("show sa"), Ok(Request::ShowSa));
        assert_eq!(parse("sh st"), Ok(Request::ShowStats));
        assert_eq!(parse("lo v"), Err(ambiguous("lo")));
        assert_eq!(parse("log v"), Ok(Request::Log { verbose: true }));
        assert_eq!(parse("res s"), Ok(Request::Reset(Reset::Sa)));
        assert_eq!(parse("d"), Ok(Request::Decouple));
        assert_eq!(parse("rel"), Ok(Request::Reload));
    }

    fn ambiguous(word: &str) -> String {
        let valid: Vec<String> = MAIN
            .iter()
            .map(|entry| format!("\n  {}", entry.word))
            .collect();
        format!(
            "ambiguous argument: {word}\nvalid commands/args:{}",
            valid.concat()
        )
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        assert_eq!(
            parse("reset id FQDN/sa"),
            Ok(Request::ResetId("FQDN/sa".to_owned()))
        );
        assert_eq!(parse("load all"), Ok(Request::Load("all".to_owned())));
    }

    #[test]
    fn explain_takes_an_address_and_perhaps_an_identity() {
        let address = "192.0.2.1".parse().unwrap();
        let asked = |id| Ok(Request::Show(What::Explain { address, id }));
        assert_eq!(parse("explain 192.0.2.1"), asked(None));
        assert_eq!(
            parse("e 192.0.2.1 a.example"),
            asked(Some("a.example".to_owned()))
        );
        assert_eq!(
            parse("explain 192.0.2.1 a b"),
            Err("superfluous argument: b".to_owned())
        );
        let valid = "valid commands/args:\n  <address>";
        assert_eq!(
            parse("explain a.example"),
            Err(format!("unknown argument: a.example\n{valid}"))
        );
        assert_eq!(parse("explain"), Err(format!("missing argument:\n{valid}")));
    }

    #[test]
    fn every_command_is_in_the_manual() {
        fn walk(table: &'static [Entry], before: &str, missing: &mut Vec<String>) {
            let page = include_str!("../../man/ikectl.8");
            for entry in table {
                let command = format!("{before} {}", entry.word);
                match entry.then {
                    Then::Words(next) => walk(next, &command, missing),
                    // `log` has both its words on one line, and values have names there.
                    Then::Request(_) | Then::Value(_) | Then::Explain | Then::Ca(_) => {
                        let line = command.split(" <").next().unwrap_or_default();
                        let line = line.replace("log verbose", "log brief");
                        if !page.lines().any(|l| l.starts_with(&line)) {
                            missing.push(command);
                        }
                    }
                }
            }
        }
        let mut missing = Vec::new();
        walk(MAIN, ".It Cm", &mut missing);
        assert!(missing.is_empty(), "not in man/ikectl.8: {missing:?}");
    }

    #[test]
    fn faults_name_the_word_and_what_would_do() {
        assert_eq!(
            parse("show"),
            Err("missing argument:\nvalid commands/args:\n  sa\n  ca\n  certstore\n  stats\n  policy\n  pool".to_owned())
        );
        assert_eq!(
            parse("show s"),
            Err(
                "ambiguous argument: s\nvalid commands/args:\n  sa\n  ca\n  certstore\n  stats\n  policy\n  pool"
                    .to_owned()
            )
        );
        assert_eq!(
            parse("log loud"),
            Err("unknown argument: loud\nvalid commands/args:\n  verbose\n  brief".to_owned())
        );
        assert_eq!(
            parse("reload now"),
            Err("superfluous argument: now".to_owned())
        );
        assert_eq!(
            parse("load"),
            Err("missing argument:\nvalid commands/args:\n  <path>".to_owned())
        );
    }
}
