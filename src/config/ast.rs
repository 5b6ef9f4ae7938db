//! An iked.conf(5) as it is written: clauses with the places they stand at. Nothing is looked up or
//! checked here; `resolve` does that.

use std::fmt;
use std::sync::Arc;

use crate::policy::{CrlFetch, KernelWay, Selection};

/// A place in a file; prints as `FILE: LINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) file: Arc<str>,
    pub(super) line: u32,
}

/// Something written at some place.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) at: Position,
}

impl fmt::Debug for Text {
    /// May be a password, so only the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({}: {})", self.at.file, self.at.line)
    }
}

/// One line of the file, macros and includes done.
#[derive(Debug)]
pub(super) enum Statement {
    Set(Set, Position),
    User {
        name: Text,
        password: Text,
    },
    Policy(Box<PolicyText>),
    /// A `radius` line, which only newer OpenBSD has.
    Radius(RadiusText),
}

/// What follows `set`.
#[derive(Debug)]
pub(super) enum Set {
    Active(bool),
    Couple(bool),
    Fragmentation(bool),
    Mobike(bool),
    VendorId(bool),
    EnforceSingleIkeSa(bool),
    StickyAddress(bool),
    CertPartialChain,
    Ocsp {
        url: String,
        tolerate: Option<u64>,
        max_age: Option<u64>,
    },
    Crl(CrlFetch),
    Kernel(KernelWay),
    ReplayWindow(i64),
    DpdCheckInterval(i64),
    CookieThreshold(i64),
    HalfOpenMax(i64),
    HalfOpenTimeout(i64),
    FragmentSize(i64),
    AuthLifetime(u64, Position),
}

/// What follows `radius`.
#[derive(Debug)]
pub(super) enum RadiusText {
    Server {
        accounting: bool,
        address: Text,
        port: Option<NameOrNumber>,
        secret: Text,
    },
    /// `max-tries` or `max-failovers`.
    Most {
        accounting: bool,
        tries: bool,
        number: (i64, Position),
    },
    Config {
        inet: Option<bool>,
        name: Text,
        vendor: Option<(i64, Position)>,
        attribute: (i64, Position),
    },
    Listen {
        address: Text,
        port: Option<NameOrNumber>,
    },
    Client {
        address: Text,
        secret: Text,
    },
}

/// `10.0.0.1`, `10.0.0.0/8`, `eth0`, `host.example`.
#[derive(Clone, Debug)]
pub(super) struct HostSpec {
    pub(super) host: Text,
    pub(super) len: Option<i64>,
}

impl HostSpec {
    /// The name or address; a quoted "10.0.0.0/8" is one string.
    pub(super) fn name(&self) -> &str {
        let text = self.host.text.as_str();
        match (self.len, text.rsplit_once('/')) {
            (None, Some((name, _))) => name,
            (_, _) => text,
        }
    }
}

/// What may stand after `from`, `to`, `peer` and `local`.
#[derive(Clone, Debug)]
pub(super) enum Host {
    Any,
    Dynamic,
    Spec {
        spec: HostSpec,
        pre_nat: Option<HostSpec>,
    },
}

/// A number, or a name to be looked up.
#[derive(Clone, Debug)]
pub(super) enum NameOrNumber {
    Name(Text),
    Number(i64, Position),
}

/// `from A port P to B port Q`.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) at: Position,
    pub(super) from: Host,
    pub(super) from_port: Option<NameOrNumber>,
    pub(super) to: Host,
    pub(super) to_port: Option<NameOrNumber>,
}

/// The words after one `ikesa` or `childsa`.
#[derive(Debug)]
pub(super) struct Transforms {
    pub(super) at: Position,
    pub(super) auth: Vec<Text>,
    pub(super) enc: Vec<Text>,
    pub(super) prf: Vec<Text>,
    pub(super) group: Vec<Text>,
    pub(super) esn: Vec<bool>,
}

/// The authentication clause.
#[derive(Debug)]
pub(super) enum AuthText {
    Psk(Text),
    PskFile(Text),
    /// The methods, in order, and who we are where we begin: name and password.
    Eap(Vec<Text>, Option<(Text, Text)>),
    Method(Text),
}

/// `then`, another identity or none, and how it is proven.
#[derive(Debug)]
pub(super) struct ThenText {
    pub(super) at: Position,
    pub(super) srcid: Option<Text>,
    pub(super) dstid: Option<Text>,
    pub(super) auth: Option<AuthText>,
}

/// `ppk ID SECRET` or `ppk ID file PATH`, perhaps with `required`.
#[derive(Debug)]
pub(super) struct PpkText {
    pub(super) id: Text,
    /// `file`: where the secret is.
    pub(super) file: bool,
    pub(super) secret: Text,
    pub(super) required: bool,
}

/// `config NAME ADDR`, `config NAME TEXT` or `request NAME ADDR`.
#[derive(Debug)]
pub(super) struct CfgText {
    pub(super) request: bool,
    pub(super) name: Text,
    /// `None` is `any`, which only `request` takes.
    pub(super) value: Option<HostSpec>,
    /// The value of an option that is no address.
    pub(super) text: Option<Text>,
}

/// One `ikev2` line.
#[derive(Debug)]
pub(super) struct PolicyText {
    pub(super) at: Position,
    pub(super) name: Option<Text>,
    pub(super) selection: Selection,
    pub(super) active: bool,
    pub(super) ipcomp: bool,
    pub(super) transport: bool,
    pub(super) natt: bool,
    pub(super) childless: bool,
    pub(super) ah: bool,
    /// `inet` (true) or `inet6`.
    pub(super) inet: Option<bool>,
    pub(super) protocols: Vec<NameOrNumber>,
    pub(super) hosts: Vec<Hosts>,
    pub(super) peer: Option<Host>,
    pub(super) local: Option<Host>,
    pub(super) ikesa: Vec<Transforms>,
    pub(super) childsa: Vec<Transforms>,
    pub(super) srcid: Option<Text>,
    pub(super) dstid: Option<Text>,
    pub(super) ike_lifetime: Option<u64>,
    pub(super) lifetime: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) auth: Option<AuthText>,
    pub(super) then: Vec<ThenText>,
    pub(super) ppks: Vec<PpkText>,
    pub(super) config: Vec<CfgText>,
    pub(super) iface: Option<Text>,
    pub(super) tag: Option<Text>,
    pub(super) tap: Option<Text>,
    pub(super) offload: Option<Text>,
}
