//! What a run does: a TOML file. A key that nobody knows and a value without sense are told as
//! `FILE: LINE: message`.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use faults::{line_of, line_of_unknown, line_with};

mod faults;

/// A whole scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Who comes.
    pub peers: Peers,
    /// Where to.
    pub responder: Responder,
    /// How they prove who they are.
    pub auth: Auth,
    /// Algorithms and lifetimes, in the words of iked.conf(5).
    #[serde(default)]
    pub suite: Suite,
    /// When they come.
    #[serde(default)]
    pub arrival: Arrival,
    /// What they do once they are up.
    #[serde(default)]
    pub steady: Steady,
    /// What happens to datagrams.
    #[serde(default)]
    pub wire: Wire,
    /// Who else is there.
    pub flood: Option<Flood>,
    /// The NATs that the peers are behind, if they are.
    pub nat: Option<Nat>,
    /// Peers that answer late.
    pub slow: Option<Slow>,
    /// Peers that change their address while they stay.
    pub roam: Option<Roam>,
    /// Peers that go and come again while the others stay.
    pub reconnect: Option<Reconnect>,
}

/// The initiators.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// How many.
    pub count: u32,
    /// `ADDRESS/LEN`: peer 0 has the address, peer 1 the next one, and so on; behind the last one
    /// it begins anew, so that peers share an address and its ports. Behind a NAT they share an
    /// address and nothing else: that is `nat`.
    pub sources: String,
    /// The end of their names: `peer-17.DOMAIN`.
    #[serde(default = "default_domain")]
    pub domain: String,
}

/// The other end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Responder {
    /// Its address.
    pub address: IpAddr,
    /// Its identity, an FQDN.
    pub identity: String,
    /// The network behind it, `ADDRESS/LEN`.
    pub network: String,
}

/// Authentication.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Auth {
    /// A pre-shared key, the same for all.
    Psk {
        /// The key.
        secret: String,
    },
    /// Raw public keys, on file at the other end.
    Raw {
        /// Of both ends.
        #[serde(default)]
        key: KeyKind,
    },
    /// Certificates of one authority, one for each peer.
    Certificate {
        /// Of both ends and the authority.
        #[serde(default)]
        key: KeyKind,
    },
    /// EAP-MSCHAPv2: the responder proves itself with a certificate.
    EapMschapv2 {
        /// The password of every user; the user is named as the peer is.
        password: String,
        /// A folder like /etc/iked; its `ca/` has the authority that the responder's certificate is of.
        config_dir: PathBuf,
    },
}

/// The kind of the keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
}

/// Algorithms, lifetimes and addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Suite {
    /// Behind `ikesa`.
    pub ike: String,
    /// Behind `childsa`.
    pub child: String,
    /// Seconds until an IKE SA is rekeyed; 0 never.
    pub ike_lifetime: u32,
    /// Seconds until a Child SA is rekeyed.
    pub child_lifetime: u32,
    /// Ask for an address.
    pub virtual_ip: bool,
    /// All peers have one key pair of each method of key exchange, which spares the load generator work and
    /// the responder none.
    pub one_key_pair: bool,
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            ike: "enc aes-128-gcm prf hmac-sha2-256 group curve25519".to_owned(),
            child: "enc aes-128-gcm".to_owned(),
            ike_lifetime: 0,
            child_lifetime: 10_800,
            virtual_ip: true,
            one_key_pair: false,
        }
    }
}

/// When the peers come.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arrival {
    /// Peers in a second, whatever becomes of the earlier ones (open loop): how long one waits
    /// counts from when it was to come. 0: as `window` says.
    pub rate: f64,
    /// How many may be on their way at a time (closed loop); with a `rate` no limit.
    pub window: u32,
    /// Seconds after the last one came until those that are not up have failed.
    pub patience: u64,
    /// Seconds without a word of the responder after which the run is cut short.
    pub silence: u64,
}

impl Default for Arrival {
    fn default() -> Self {
        Self {
            rate: 0.0,
            window: 64,
            patience: 60,
            silence: 15,
        }
    }
}

/// What peers that are up do.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Steady {
    /// Seconds for which all of them stay.
    pub seconds: u64,
    /// Seconds between liveness probes of each, which has heard nothing in the half of that; 0 is none.
    pub dpd: u64,
    /// Delete all IKE SAs at the end; else they are left to the responder.
    pub delete: bool,
}

/// What happens to datagrams on their way, both ways.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wire {
    /// Part of them that is lost, 0 to 1.
    pub loss: f64,
}

/// Others who send IKE_SA_INIT requests and never go on, as long as the run lasts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// Requests in a second.
    pub requests: f64,
    /// `ADDRESS/LEN`: from where, one address after the other, and then again.
    pub from: String,
    /// A network device on the responder's side by which its answers to them leave, and nothing else does:
    /// they are counted there, and not taken in here. For a process given by `--pid`.
    pub answers_by: Option<String>,
}

/// NATs. Each peer has an address of its own inside (`sources` must have one for each), and outside an
/// address that it shares, with a port for each of its two.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nat {
    /// `ADDRESS/LEN`: the addresses outside, one for each NAT.
    pub outside: String,
    /// Peers of one thread behind each of them, 64 at most: each NAT has that many for each thread.
    pub peers: u32,
    /// Seconds in which each peer that stays gets another port outside once, and its next packet shows
    /// it; 0 is never.
    #[serde(default)]
    pub remap: u64,
}

/// Slow peers: whatever they send leaves late.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// Part of the peers, 0 to 1.
    pub part: f64,
    /// Milliseconds.
    pub millis: u64,
}

/// Peers that stay change their address, there and back again, and say so by MOBIKE (RFC 4555).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roam {
    /// Seconds in which each peer changes it once.
    pub every: u64,
    /// `ADDRESS/LEN`: the other addresses, given out as `sources` are.
    pub to: String,
}

/// Peers that go while the others stay, and come again at once.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconnect {
    /// Seconds in which `part` of the peers do so.
    pub every: u64,
    /// Part of the peers, more than 0 and 1 at most.
    pub part: f64,
    /// Whether they say goodbye by a Delete; else they are just gone, and are somebody new.
    pub delete: bool,
}

impl Nat {
    /// The first address outside and how many there are.
    pub fn network(&self) -> Option<(IpAddr, u32)> {
        network(&self.outside)
    }
}

/// A file that is no scenario.
#[derive(Debug)]
pub struct Wrong {
    file: String,
    line: Option<usize>,
    message: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}: {line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Wrong {}

impl Scenario {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Wrong> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| Wrong {
            file: file.clone(),
            line: None,
            message: error.to_string(),
        })?;
        Self::parse(&file, &text)
    }

    /// Reads a text; `file` is how errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Wrong> {
        let wrong = |line, message: &str| Wrong {
            file: file.to_owned(),
            line,
            message: message.to_owned(),
        };
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| line_of(text, span.start));
            let line = line.map(|line| line_of_unknown(text, line, error.message()));
            wrong(line, error.message())
        })?;
        for (key, bad, message) in faults::of(&scenario) {
            if bad {
                return Err(wrong(line_with(text, key), message));
            }
        }
        Ok(scenario)
    }

    /// The first source address and how many there are.
    pub fn sources(&self) -> Option<(IpAddr, u32)> {
        network(&self.peers.sources)
    }

    /// The address of a peer.
    pub fn source_of(&self, peer: u32) -> Option<IpAddr> {
        let (first, count) = self.sources()?;
        Some(nth(first, peer % count))
    }

    /// How many peers this one of so many threads has: those whose number has its remainder.
    pub fn peers_of(&self, thread: u32, threads: u32) -> u32 {
        self.peers.count.saturating_sub(thread).div_ceil(threads)
    }

    /// Where else a peer is when it roams.
    pub fn elsewhere(&self, peer: u32) -> Option<IpAddr> {
        let (first, count) = network(&self.roam.as_ref()?.to)?;
        Some(nth(first, peer % count))
    }

    /// How late a peer's datagrams leave, if it is a slow one. Slow ones are spread evenly.
    pub fn delay_of(&self, peer: u32) -> Option<Duration> {
        let slow = self.slow?;
        let until = |peer: f64| (peer * slow.part).floor();
        let peer = f64::from(peer);
        (until(peer + 1.0) > until(peer)).then(|| Duration::from_millis(slow.millis))
    }

    /// When a peer comes, from the beginning of the run; `None`: as soon as there is room.
    pub fn arrival_of(&self, peer: u32) -> Option<Duration> {
        let rate = self.arrival.rate;
        (rate > 0.0).then(|| Duration::from_secs_f64(f64::from(peer) / rate))
    }
}

/// The address of `ADDRESS/LEN`, and how many there are from it on.
pub fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, len) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let len: u32 = len.parse().ok()?;
    let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
    let host = bits.checked_sub(len)?;
    Some((address, 1_u32.checked_shl(host).unwrap_or(u32::MAX)))
}

/// The address that is so many behind the first one.
pub fn nth(first: IpAddr, offset: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => IpAddr::from(u32::from(first).wrapping_add(offset).to_be_bytes()),
        IpAddr::V6(first) => {
            IpAddr::from(u128::from(first).wrapping_add(offset.into()).to_be_bytes())
        }
    }
}

/// How many addresses `address` is behind `first`.
pub fn offset(first: IpAddr, address: IpAddr) -> Option<u32> {
    match (first, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => u32::from(address).checked_sub(first.into()),
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            let behind = u128::from(address).checked_sub(first.into())?;
            u32::try_from(behind).ok()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

fn default_domain() -> String {
    "load.example".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[peers]\ncount = 300\nsources = \"10.64.0.250/24\"\n\n[responder]\n\
        address = \"192.0.2.1\"\nidentity = \"gw.example\"\nnetwork = \"10.8.0.0/24\"\n\n\
        [auth]\nmethod = \"psk\"\nsecret = \"s\"\n";

    #[test]
    fn sources_go_round_and_arrivals_follow_the_rate() {
        let mut scenario = Scenario::parse("s.toml", GOOD).unwrap();
        let source = |peer| scenario.source_of(peer).unwrap().to_string();
        assert_eq!(
            [source(0), source(6), source(256)],
            ["10.64.0.250", "10.64.1.0", "10.64.0.250"]
        );
        assert_eq!(scenario.arrival_of(7), None);
        scenario.arrival.rate = 500.0;
        assert_eq!(scenario.arrival_of(7), Some(Duration::from_millis(14)));
    }

    #[test]
    fn slow_peers_are_a_part_of_all_and_who_roams_has_two_places() {
        let more = "[slow]\npart = 0.25\nmillis = 50\n[roam]\nevery = 5\nto = \"10.80.0.0/30\"\n";
        let scenario = Scenario::parse("s.toml", &format!("{GOOD}{more}")).unwrap();
        let slow: Vec<u32> = (0..12)
            .filter(|peer| scenario.delay_of(*peer).is_some())
            .collect();
        assert_eq!(slow, [3, 7, 11]);
        let elsewhere = scenario.elsewhere(6).unwrap().to_string();
        assert_eq!(elsewhere, "10.80.0.2");
        let first = IpAddr::from([10, 64, 0, 250]);
        assert_eq!(offset(first, nth(first, 300)), Some(300));
        assert_eq!(offset(first, IpAddr::from([10, 64, 0, 249])), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |from: &str, to: &str| {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            Scenario::parse("s.toml", &text).unwrap_err().to_string()
        };
        assert_eq!(
            told("count = 300", "count = 0"),
            "s.toml: 2: count: want at least one peer"
        );
        assert!(
            told("count = 300", "counts = 300").starts_with("s.toml: 2: unknown field `counts`")
        );
        assert!(told("count = 300", "count = \"many\"").starts_with("s.toml: 2: invalid type"));
        assert_eq!(
            told("10.64.0.250/24", "10.64.0.250"),
            "s.toml: 3: sources: want ADDRESS/LEN"
        );
        assert_eq!(
            told("10.64.0.250/24", "fd00::1/64"),
            "s.toml: 3: sources: want the family of the responder's address"
        );
        assert!(told("secret = \"s\"\n", "").starts_with("s.toml: "));
        assert!(
            told("[auth]\n", "[arrival]\nrate = -1.0\n[auth]\n")
                .ends_with("11: rate: want 0 to 1000000 in a second")
        );
        let flood = |lines: &str| told("[auth]\n", &format!("[flood]\n{lines}\n[auth]\n"));
        assert_eq!(
            flood("requests = 0.5\nfrom = \"10.96.0.0/16\""),
            "s.toml: 11: requests: want 1 to 1000000 in a second"
        );
        assert!(
            flood("requests = 5.0\nfrom = \"fd00::/64\"").starts_with("s.toml: 12: from: want")
        );
        let more = |lines: &str| told("secret = \"s\"\n", &format!("secret = \"s\"\n{lines}\n"));
        assert_eq!(
            more("[slow]\npart = 1.5\nmillis = 5"),
            "s.toml: 14: part: want 0 to 1"
        );
        assert_eq!(
            more(
                "[slow]\npart = 0.5\nmillis = 5\n[reconnect]\nevery = 5\npart = 0.0\ndelete = true"
            ),
            "s.toml: 18: part: want more than 0, and 1 at most"
        );
        assert_eq!(
            more("[reconnect]\nevery = 0\npart = 0.5\ndelete = true"),
            "s.toml: 14: every: want at least 1 second"
        );
        assert!(more("[roam]\nevery = 5\nto = \"fd00::/64\"").starts_with("s.toml: 15: to: want"));
        assert!(
            more("[nat]\noutside = \"10.96.0.0/24\"\npeers = 65")
                .starts_with("s.toml: 15: peers: want 1 to 64")
        );
        assert!(
            more("[nat]\noutside = \"10.96.0.0/32\"\npeers = 16")
                .starts_with("s.toml: 14: outside: want")
        );
        assert!(
            more("[nat]\noutside = \"10.96.0.0/24\"\npeers = 16")
                .starts_with("s.toml: 3: sources: want one for each peer")
        );
        let auth = |auth: &str| {
            let psk = "method = \"psk\"\nsecret = \"s\"";
            told(psk, auth)
        };
        assert_eq!(
            auth("method = \"certificate\"\nkey = \"dsa\"")
                .split(": ")
                .nth(1),
            Some("12")
        );
        assert!(auth("method = \"raw\"\nkey = \"dsa\"").contains("unknown variant `dsa`"));
        assert!(auth("method = \"rot13\"").starts_with("s.toml: 11: unknown variant `rot13`"));
        let missing = Scenario::load(Path::new("/nowhere/s.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("/nowhere/s.toml: No such file"),
            "{missing}"
        );
    }
}
