//! Plays a case to one endpoint: each input line becomes a datagram, a word of the kernel, time or a
//! command, and what the endpoint does with it becomes lines.

use std::time::Duration;

use iked::crypto::null;
use iked::ike::{Command, Role};
use iked::kernel::KernelEvent;
use iked::policy::{Config, Flow, Policy, Round};
use iked::wire::print;
use iked::wire::registry::{ExchangeType, KeId};
use iked::wire::spi::{EspSpi, IkeSpi};
use iked::wire::{Header, Message, Payload, Transform, TransformId};

use super::case::Case;
use super::payloads::payloads;
use super::peer::Peer;
use super::setup::{self, Suite, config, gateway, no_keys, warrior};
use super::world::{Datagram, Host, Mood, at, mirrored, options};

/// A case being played.
struct Play {
    host: Host,
    peer: Peer,
    role: Role,
    seconds: u64,
    /// The datagrams that went in last.
    last: Vec<Vec<u8>>,
    /// All that came out.
    sent: Vec<Vec<u8>>,
    seen: Seen,
    logs: bool,
    place: String,
}

/// How much of the kernel's and the log's lists was told.
#[derive(Default)]
struct Seen {
    installed: usize,
    receive_only: Vec<bool>,
    removed: usize,
    moved: usize,
    lines: usize,
}

/// What came of each input.
pub(super) fn play(case: &Case) -> Vec<Vec<String>> {
    let mut play = Play::new(case);
    case.inputs
        .iter()
        .map(|input| {
            play.place = format!("{}: {input}", case.requirement.file.display());
            play.step(input)
        })
        .collect()
}

impl Play {
    fn new(case: &Case) -> Self {
        let words: Vec<&str> = case.config.iter().map(String::as_str).collect();
        let initiator = words.contains(&"role=initiator");
        let (role, peers) = if initiator {
            (Role::OriginalInitiator, Role::OriginalResponder)
        } else {
            (Role::OriginalResponder, Role::OriginalInitiator)
        };
        let config = configure(role, &words);
        let provider = null::provider();
        let host = Host::with_provider(config, no_keys(), case.seed, options(), provider);
        Self {
            host,
            peer: Peer::new(peers, case.seed),
            role,
            seconds: 0,
            last: Vec::new(),
            sent: Vec::new(),
            seen: Seen::default(),
            logs: words.contains(&"log"),
            place: String::new(),
        }
    }

    fn step(&mut self, input: &str) -> Vec<String> {
        let words = split(input);
        let Some((first, rest)) = words.split_first() else {
            return Vec::new();
        };
        if first.starts_with('#') {
            return Vec::new();
        }
        match first.as_str() {
            "up" => self.up(rest),
            "in" => {
                let datagrams = self.message(rest);
                self.last = datagrams.clone();
                self.hand_in(&datagrams, rest)
            }
            "again" => {
                let datagrams = self.last.clone();
                self.hand_in(&datagrams, rest)
            }
            "wait" => self.wait(rest[0].parse().unwrap()),
            "kernel" => self.kernel(rest),
            "operator" => self.operator(rest),
            "peer" => self.peer_moves(rest),
            "show" => self.show(),
            // As if so many requests had gone in each direction.
            "age" => {
                let id = rest[0].parse().unwrap();
                self.host.endpoint.age(id);
                self.peer.next_id = id;
                Vec::new()
            }
            other => panic!("{}: {other}?", self.place),
        }
    }

    /// The usual handshake; `init:WORD` and `auth:WORD` are for the payloads of the peer's messages.
    fn up(&mut self, words: &[String]) -> Vec<String> {
        let of = |prefix: &str| {
            let own = words.iter().filter_map(|word| word.strip_prefix(prefix));
            own.map(|word| format!(" {word}")).collect::<String>()
        };
        let kind = match self.role {
            Role::OriginalInitiator => {
                self.step("operator initiate");
                "response"
            }
            Role::OriginalResponder => "request",
        };
        for (exchange, words) in [("IKE_SA_INIT", of("init:")), ("IKE_AUTH", of("auth:"))] {
            let line = format!("in {exchange} {kind}{words}");
            let came = self.step(&line);
            let up = self.host.stats().sa_established_current == 1;
            let fine =
                up == (exchange == "IKE_AUTH") || came.iter().any(|l| l.contains("REDIRECT"));
            assert!(fine, "{}: {came:?} {:?}", self.place, self.host.lines);
        }
        Vec::new()
    }

    /// The datagrams of `in EXCHANGE request|response OPTIONS PAYLOADS`.
    fn message(&mut self, words: &[String]) -> Vec<Vec<u8>> {
        if words[0] == "bytes" {
            return vec![hex::decode(&words[1]).unwrap()];
        }
        let exchange = exchange(&words[0]);
        let response = words[1] == "response";
        let (options, contents): (Vec<_>, Vec<_>) =
            words[2..].iter().cloned().partition(|word| is_option(word));
        let value = |key: &str| {
            let mut pairs = options.iter().filter_map(|word| word.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, v)| v)
        };
        let id = value("id").map_or_else(
            || self.usual_id(exchange, response),
            |text| text.parse().unwrap(),
        );
        if !response {
            self.peer.next_id = id.wrapping_add(1);
        }
        let raw = payloads(&mut self.peer, exchange, response, &contents);
        let mut header = self.peer.header(exchange, response, id);
        adapt(&mut header, &value);
        let clear = exchange == ExchangeType::IKE_SA_INIT || options.iter().any(|w| w == "clear");
        let mut datagrams = if clear {
            vec![self.peer.clear(&header, &raw)]
        } else {
            let pieces = value("pieces").map(pieces);
            let wrong = value("keys") == Some("wrong");
            self.peer.seal(&header, &raw, pieces.as_deref(), wrong)
        };
        if options.iter().any(|word| word == "flip") {
            for datagram in &mut datagrams {
                *datagram.last_mut().unwrap() ^= 1;
            }
        }
        if let Some(text) = value("length") {
            let length: u32 = text.parse().unwrap();
            datagrams[0][24..28].copy_from_slice(&length.to_be_bytes());
        }
        datagrams
    }

    fn usual_id(&self, exchange: ExchangeType, response: bool) -> u32 {
        if exchange == ExchangeType::IKE_SA_INIT {
            0
        } else if response {
            let asked = self.peer.asked.as_ref();
            asked.map_or(0, |asked| asked.header.message_id)
        } else {
            self.peer.next_id
        }
    }

    fn hand_in(&mut self, datagrams: &[Vec<u8>], words: &[String]) -> Vec<String> {
        let mut path = mirrored(self.peer.path);
        for word in words {
            match word.split_once('=') {
                Some(("from", text)) => path.remote = text.parse().unwrap(),
                Some(("to", text)) => path.local = text.parse().unwrap(),
                _ => {}
            }
        }
        let before = self.host.endpoint.snapshot();
        let mut came = Vec::new();
        for datagram in datagrams {
            let mut bytes = datagram.clone();
            if words.iter().any(|word| word == "changed") {
                *bytes.last_mut().unwrap() ^= 1;
            }
            let sent = self.host.receive(at(self.seconds), path, &bytes);
            came.extend(self.tell(sent));
        }
        if came.iter().all(|line| line.starts_with("log ")) {
            let same = before == self.host.endpoint.snapshot();
            let change = if same { ", nothing changed" } else { "" };
            came.insert(0, format!("silence{change}"));
        }
        came
    }

    /// What was sent, what the kernel was asked, and where the case wants it what was logged.
    fn tell(&mut self, sent: Vec<Datagram>) -> Vec<String> {
        let mut lines: Vec<String> = sent.iter().map(|datagram| self.out(datagram)).collect();
        lines.extend(self.kernel_lines());
        let logged = self.host.lines[self.seen.lines..].to_vec();
        self.seen.lines = self.host.lines.len();
        if self.logs {
            lines.extend(
                logged
                    .iter()
                    .map(|line| format!("log {}", self.named(line))),
            );
        }
        lines
    }

    fn out(&mut self, datagram: &Datagram) -> String {
        let there = mirrored(datagram.path);
        let mut place = String::new();
        if there.local != self.peer.path.local {
            place.push_str(&format!(" to {}", there.local));
        }
        if there.remote != self.peer.path.remote {
            place.push_str(&format!(" from {}", there.remote));
        }
        if datagram.bytes == [0xff] {
            return format!("out keepalive{place}");
        }
        let header = Header::decode(&datagram.bytes).unwrap();
        let kind = if header.flags.response {
            "response"
        } else {
            "request"
        };
        let title = format!("{} {kind} {}", header.exchange, header.message_id);
        if self.sent.contains(&datagram.bytes) {
            return format!("out again {title}, the same bytes{place}");
        }
        self.sent.push(datagram.bytes.clone());
        let message = Message::decode(&datagram.bytes).unwrap();
        if let Some(Payload::Skf(skf)) = message.payloads.last() {
            let (number, total) = (skf.number, skf.total);
            let len = datagram.bytes.len();
            return format!("out {title} fragment {number}/{total}, {len} bytes{place}");
        }
        let sealed = matches!(message.payloads.last(), Some(Payload::Sk(_)));
        let foreign = header.initiator_spi != Some(self.peer.own_spi)
            && header.responder_spi != Some(self.peer.own_spi)
            && sealed;
        if foreign {
            return format!("out {title} of another IKE SA{place}");
        }
        let heard = self.peer.hear(&datagram.bytes).unwrap();
        if !header.flags.response {
            // Whoever is asked answers from there.
            self.peer.path = there;
        }
        let inside = print::compact(&heard.payloads(), header.flags.response);
        let inside = self.named(&inside);
        let (open, close) = if sealed { ("SK {", "}") } else { ("[", "]") };
        let space = if inside.is_empty() { "" } else { " " };
        format!("out {title} {open} {inside}{space}{close}{place}")
    }

    /// SPIs by the names that the case has for them.
    fn named(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("0x") {
            let digits = rest[at + 2..].bytes().take_while(u8::is_ascii_hexdigit);
            let len = digits.count();
            out.push_str(&rest[..at]);
            let token = &rest[at..at + 2 + len];
            if len == 8 || (len == 16 && !text.contains("spi=0x")) {
                let spi = hex::decode(&token[2..]).unwrap();
                out.push_str(&self.peer.name_of(&spi).unwrap_or_else(|| token.to_owned()));
            } else {
                out.push_str(token);
            }
            rest = &rest[at + 2 + len..];
        }
        out + rest
    }

    fn kernel_lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let kernel = &self.host.kernel;
        for child in &kernel.installed[self.seen.installed..] {
            let names = &child.names;
            let mode = if names.transport {
                "transport"
            } else {
                "tunnel"
            };
            let pairs = names.selectors.iter().map(|pair| {
                let port = |port: Option<u16>| port.map_or(String::new(), |p| format!(":{p}"));
                format!(
                    "{}{}={}{}",
                    pair.local,
                    port(pair.local_port),
                    pair.remote,
                    port(pair.remote_port)
                )
            });
            let pairs = pairs.collect::<Vec<_>>().join(" ");
            let only = if child.receive_only {
                ", receiving only"
            } else {
                ""
            };
            let udp = child.encap.map_or(String::new(), |encap| {
                format!(", in UDP {}-{}", encap.local_port, encap.remote_port)
            });
            let comp = names.ipcomp.map_or(String::new(), |cpis| {
                format!(", IPComp in ours out {}", cpis.outbound)
            });
            lines.push(format!(
                "kernel adds {} in {} out {} {mode} {pairs}{udp}{comp}{only}",
                names.protocol, names.inbound_spi, names.outbound_spi
            ));
        }
        let now: Vec<bool> = kernel.installed.iter().map(|c| c.receive_only).collect();
        for (child, before) in kernel.installed.iter().zip(&self.seen.receive_only) {
            if *before && !child.receive_only {
                lines.push(format!("kernel sends through {}", child.names.inbound_spi));
            }
        }
        for child in &kernel.removed[self.seen.removed..] {
            lines.push(format!("kernel removes {}", child.inbound_spi));
        }
        for (spi, to) in &kernel.moved[self.seen.moved..] {
            let udp = to.encap.map_or(String::new(), |encap| {
                format!(", in UDP {}-{}", encap.local_port, encap.remote_port)
            });
            lines.push(format!(
                "kernel moves {spi} to {}-{}{udp}",
                to.local, to.remote
            ));
        }
        let seen = Seen {
            installed: kernel.installed.len(),
            receive_only: now,
            removed: kernel.removed.len(),
            moved: kernel.moved.len(),
            lines: self.seen.lines,
        };
        self.seen = seen;
        lines.iter().map(|line| self.named(line)).collect()
    }

    /// Wakes at each second.
    fn wait(&mut self, seconds: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for passed in 1..=seconds {
            self.seconds += 1;
            let sent = self.host.wake(at(self.seconds));
            let came = self.tell(sent);
            if !came.is_empty() {
                lines.push(format!("after {passed} s:"));
                lines.extend(came);
            }
        }
        if lines.is_empty() {
            lines.push("silence".to_owned());
        }
        lines
    }

    fn kernel(&mut self, words: &[String]) -> Vec<String> {
        let now = at(self.seconds);
        let esp = |play: &Self, name: &str| {
            let bytes = play.peer.names.get(name).unwrap().clone();
            EspSpi::from_bytes(bytes.try_into().unwrap()).unwrap()
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let sent = match words.as_slice() {
            ["slow"] => {
                self.host.kernel.mood = Mood::Slow;
                return Vec::new();
            }
            ["refuses"] => {
                self.host.kernel.mood = Mood::Refusing;
                return Vec::new();
            }
            ["willing"] => {
                self.host.kernel.mood = Mood::Willing;
                return Vec::new();
            }
            ["answers"] => self.host.answer_kernel(now),
            ["expires", how, name] => {
                let (spi, hard) = (esp(self, name), *how == "hard");
                let event = KernelEvent::Expire { spi, hard };
                self.host.endpoint.handle_kernel(now, event);
                self.host.wake(now)
            }
            ["mapping", name, remote] => {
                let (spi, remote) = (esp(self, name), remote.parse().unwrap());
                let event = KernelEvent::Mapping { spi, remote };
                self.host.endpoint.handle_kernel(now, event);
                self.host.wake(now)
            }
            other => panic!("{}: {other:?}?", self.place),
        };
        let lines = self.tell(sent);
        if lines.is_empty() {
            return vec!["silence".to_owned()];
        }
        lines
    }

    fn operator(&mut self, words: &[String]) -> Vec<String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let command = match words.as_slice() {
            ["initiate"] => Command::Initiate(0),
            ["reset-sa"] => Command::ResetSa,
            ["reset-all"] => Command::ResetAll,
            ["redirect", to] => Command::Redirect(to.parse().unwrap()),
            ["local-address", old, new] => Command::LocalAddress {
                old: old.parse().unwrap(),
                new: new.parse().unwrap(),
                towards: None,
            },
            ["shutdown"] => Command::Shutdown,
            other => panic!("{}: {other:?}?", self.place),
        };
        let sent = self.host.command(at(self.seconds), command);
        let lines = self.tell(sent);
        if lines.is_empty() {
            return vec!["silence".to_owned()];
        }
        lines
    }

    /// `peer at ADDRESS:PORT`, `peer on 4500`, `peer spi HEX`.
    fn peer_moves(&mut self, words: &[String]) -> Vec<String> {
        let path = &mut self.peer.path;
        match (words[0].as_str(), words[1].as_str()) {
            ("at", address) => path.local = address.parse().unwrap(),
            ("on", "4500") => {
                path.local.set_port(4500);
                path.remote.set_port(4500);
                path.marker = true;
            }
            ("spi", text) => {
                let bytes: [u8; 8] = hex::decode(text).unwrap().try_into().unwrap();
                self.peer.begin_anew(IkeSpi::from_bytes(bytes).unwrap());
            }
            other => panic!("{}: {other:?}?", self.place),
        }
        Vec::new()
    }

    fn show(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .host
            .endpoint
            .ike_sas()
            .map(|sa| {
                let children = sa.children.len();
                format!(
                    "IKE SA {} with {children} Child SAs, peer {}",
                    sa.state, sa.path.remote
                )
            })
            .collect();
        if lines.is_empty() {
            lines.push("no IKE SA".to_owned());
        }
        lines
    }
}

/// Words, with brackets kept together.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut depth = 0;
    for letter in line.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if letter == ' ' && depth == 0 {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_option(word: &str) -> bool {
    let key = word.split('=').next().unwrap_or_default();
    !word.contains('(') && (word.contains('=') || ["clear", "flip"].contains(&key))
}

fn exchange(word: &str) -> ExchangeType {
    let mut known = ExchangeType::KNOWN.iter().copied();
    let named = known.find(|exchange| exchange.name() == Some(word));
    named.unwrap_or_else(|| ExchangeType(word.parse().unwrap()))
}

/// `1/3,2/3`.
fn pieces(text: &str) -> Vec<(u16, u16)> {
    let piece = |text: &str| {
        let (number, total) = text.split_once('/').unwrap();
        (number.parse().unwrap(), total.parse().unwrap())
    };
    text.split(',').map(piece).collect()
}

/// Fields of the header that the case wants otherwise.
fn adapt<'a>(header: &mut Header, value: &impl Fn(&str) -> Option<&'a str>) {
    let spi = |text: &str| match text {
        "none" => None,
        text => IkeSpi::from_bytes(hex::decode(text).unwrap().try_into().unwrap()),
    };
    if let Some(text) = value("spi_i") {
        header.initiator_spi = spi(text);
    }
    if let Some(text) = value("spi_r") {
        header.responder_spi = spi(text);
    }
    if let Some(text) = value("major") {
        header.major = text.parse().unwrap();
    }
    if let Some(text) = value("minor") {
        header.minor = text.parse().unwrap();
    }
    if let Some(text) = value("version") {
        header.flags.version = text == "1";
    }
    if let Some(text) = value("initiator") {
        header.flags.initiator = text == "1";
    }
}

/// The usual policies of the tests, changed by these words.
fn configure(role: Role, words: &[&str]) -> Config {
    let mut policy = match role {
        Role::OriginalInitiator => warrior(),
        Role::OriginalResponder => gateway(),
    };
    for (key, value) in words
        .iter()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
    {
        let seconds = || Duration::from_secs(value.parse().unwrap());
        match key {
            "pool" => policy = setup::pool_gateway(value),
            "ask-address" => policy = setup::pool_warrior(),
            "active" => policy.active = true,
            "transport" => policy.transport = true,
            "ipcomp" => policy.ipcomp = true,
            "two-networks" => {
                let other = setup::end("10.3.0.0/16");
                let first = policy.flows[0].clone();
                let from = other;
                policy.flows.push(Flow { from, ..first });
            }
            "natt" => policy.natt = true,
            "suite" => {
                let suite = if value == "cbc" {
                    Suite::AesCbcSha256
                } else {
                    Suite::ChaCha20
                };
                policy.ike_proposals = vec![setup::ike(suite, &[KeId::CURVE25519])];
                policy.child_proposals = vec![setup::esp(suite)];
            }
            "ike-ke" => policy.ike_proposals = vec![setup::ike(Suite::AesGcm, &methods(value))],
            "child-ke" => {
                let mut esp = setup::esp(Suite::AesGcm);
                let more = methods(value).into_iter().map(TransformId::Ke);
                esp.transforms
                    .extend(more.map(|id| Transform::new(id, None)));
                policy.child_proposals = vec![esp];
            }
            "lifetime" => policy.ike_lifetime = seconds(),
            "two-suites" => {
                let suites = [Suite::AesGcm, Suite::AesCbcSha256];
                let ike = |suite| setup::ike(suite, &[KeId::CURVE25519]);
                policy.ike_proposals = suites.map(ike).to_vec();
                policy.child_proposals = suites.map(setup::esp).to_vec();
            }
            "long-id" => policy.srcid = setup::fqdn(&"g".repeat(600)),
            "twice" => policy.then.push(Round {
                srcid: policy.srcid.clone(),
                dstid: None,
                auth: policy.auth.clone(),
            }),
            "ppk" => policy.ppks.push(setup::ppk(value)),
            "dstid" => policy.dstid = Some(setup::fqdn(value)),
            _ => {}
        }
    }
    settings(policy, words)
}

fn methods(text: &str) -> Vec<KeId> {
    text.split(',')
        .map(|id| KeId(id.parse().unwrap()))
        .collect()
}

fn settings(policy: Policy, words: &[&str]) -> Config {
    let mut config = config([policy]);
    let settings = &mut config.settings;
    settings.vendor_id = false;
    settings.mobike = false;
    for (key, value) in words
        .iter()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
    {
        match key {
            "mobike" => settings.mobike = true,
            "vendor-id" => settings.vendor_id = true,
            "nofragment" => settings.fragmentation = false,
            "fragment" => settings.fragment_size = value.parse().unwrap(),
            "cookie" => settings.cookie_threshold = value.parse().unwrap(),
            "halfopen-max" => settings.half_open_max = value.parse().unwrap(),
            "dpd" => settings.dpd_check_interval = Duration::ZERO,
            "single" => settings.enforce_single_ike_sa = true,
            "two-suites" | "long-id" | "role" | "pool" | "ask-address" | "active" | "transport"
            | "ipcomp" | "two-networks" | "natt" | "suite" | "ike-ke" | "child-ke" | "lifetime"
            | "dstid" | "ppk" | "twice" | "log" => {}
            other => panic!("config: {other}?"),
        }
    }
    config
}
