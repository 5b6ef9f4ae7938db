//! Payloads by name. What a message of its exchange usually has stands for itself; `+WORD` adds,
//! `-NAME` takes away, and a word without sign means that the words are all there is.

use std::net::IpAddr;

use iked::crypto::null;
use iked::ike::Role;
use iked::wire::registry::{
    AuthMethod, CfgAttrType, CfgType, EncrId, ExchangeType, IdType, IntegId, KeId, NotifyType,
    PayloadType, ProtocolId, TransformType,
};
use iked::wire::{
    Auth, CfgAttribute, Cp, Id, Ke, Notify, Payload, Proposal, TrafficSelector, Transform,
    TransformId,
};

use super::peer::{Peer, Raw};
use super::setup::{self, Suite};

/// What the words of one line say.
pub(super) fn payloads(
    peer: &mut Peer,
    exchange: ExchangeType,
    response: bool,
    words: &[String],
) -> Vec<Raw> {
    let signed = |word: &&String| word.starts_with(['+', '-']);
    let mut all: Vec<String> = if words.iter().all(|word| signed(&word)) {
        usual(exchange, response)
    } else {
        Vec::new()
    };
    for word in words {
        if let Some(name) = word.strip_prefix('-') {
            let before = all.len();
            all.retain(|other| other != name && other.split('(').next() != Some(name));
            assert!(all.len() < before, "{word}: not among {all:?}");
        } else if let Some(first) = word.strip_prefix("+^") {
            all.insert(0, first.to_owned());
        } else {
            all.push(word.strip_prefix('+').unwrap_or(word).to_owned());
        }
    }
    let mut raw = Vec::new();
    for word in all {
        raw.extend(payload(peer, exchange, response, &word));
    }
    raw
}

fn usual(exchange: ExchangeType, response: bool) -> Vec<String> {
    let names: &[&str] = match (exchange, response) {
        (ExchangeType::IKE_SA_INIT, false) => &["SA", "KE", "Ni"],
        (ExchangeType::IKE_SA_INIT, true) => &["SA", "KE", "Nr"],
        (ExchangeType::IKE_AUTH, false) => &["IDi", "AUTH", "SA", "TSi", "TSr"],
        (ExchangeType::IKE_AUTH, true) => &["IDr", "AUTH", "SA", "TSi", "TSr"],
        (ExchangeType::CREATE_CHILD_SA, false) => &["SA", "Ni", "TSi", "TSr"],
        (ExchangeType::CREATE_CHILD_SA, true) => &["SA", "Nr", "TSi", "TSr"],
        _ => &[],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// One word: a name, and arguments in brackets.
fn payload(peer: &mut Peer, exchange: ExchangeType, response: bool, word: &str) -> Vec<Raw> {
    let (name, rest) = word.split_once('(').unwrap_or((word, ""));
    let args: Vec<&str> = rest.trim_end_matches(')').split_whitespace().collect();
    let one = |payload: Payload<'_>| vec![Raw::of(&payload)];
    match name {
        "SA" => vec![proposals(peer, exchange, response, &args)],
        "KE" => vec![key_exchange(peer, &args)],
        "Ni" | "Nr" => vec![nonce(peer, &args)],
        "IDi" | "IDr" => vec![identity(peer, name, &args)],
        "AUTH" => vec![auth(peer, &args)],
        "TSi" | "TSr" => vec![selectors(peer, response, name, &args)],
        "N" => vec![notify(peer, &args)],
        "D" => vec![delete(peer, &args)],
        "CP" => vec![configuration(&args)],
        "V" => one(Payload::VendorId(&vec![b'v'; number(args[0])])),
        // A payload of any type with any body.
        "P" => vec![Raw {
            kind: PayloadType(args[0].parse().unwrap()),
            critical: args.contains(&"critical"),
            body: args
                .get(1)
                .and_then(|text| hex::decode(text).ok())
                .unwrap_or_default(),
        }],
        _ => panic!("{word}: no such payload"),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text}: no number"))
}

/// The value of `key=value`.
fn value<'a>(args: &[&'a str], key: &str) -> Option<&'a str> {
    let mut pairs = args.iter().filter_map(|arg| arg.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// `SA(ike|esp|ah spi=NAME suite=cbc|chacha -prf -ke -encr -esn +integ +unknown keylen=BITS ke=METHOD)`;
/// in a response what was offered first.
fn proposals(peer: &Peer, exchange: ExchangeType, response: bool, args: &[&str]) -> Raw {
    let init = exchange == ExchangeType::IKE_SA_INIT;
    let protocol = if init || args.contains(&"ike") {
        ProtocolId::IKE
    } else if args.contains(&"ah") {
        ProtocolId::AH
    } else {
        ProtocolId::ESP
    };
    let mut transforms = if response && !args.contains(&"own") {
        offered(peer, protocol)
    } else {
        transforms(protocol, args)
    };
    for arg in args {
        let kind = match *arg {
            "-prf" => TransformType::PRF,
            "-ke" => TransformType::KE,
            "-encr" => TransformType::ENCR,
            "-esn" => TransformType::ESN,
            _ => continue,
        };
        transforms.retain(|t| t.id.kind() != kind);
    }
    if args.contains(&"+integ") {
        let id = TransformId::Integ(IntegId::HMAC_SHA2_256_128);
        transforms.push(Transform::new(id, None));
    }
    if args.contains(&"+unknown") {
        let id = TransformId::Unknown(TransformType(240), 1);
        transforms.push(Transform::new(id, None));
    }
    if args.contains(&"+cipher") {
        let id = TransformId::Encr(EncrId(1023));
        transforms.insert(0, Transform::new(id, Some(128)));
    }
    if let Some(bits) = value(args, "keylen") {
        for transform in &mut transforms {
            if transform.id.encr().is_some() {
                transform.key_length = bits.parse().ok();
            }
        }
    }
    let spi = match (value(args, "spi"), protocol) {
        (Some("empty"), _) => Vec::new(),
        (Some("zero"), _) => vec![0; 4],
        (Some(name), _) => spi(peer, name),
        (None, ProtocolId::IKE) if init => Vec::new(),
        (None, ProtocolId::IKE) => vec![0xbc; 8],
        (None, _) => spi(peer, "theirs"),
    };
    let times: u8 = value(args, "times").map_or(1, |n| n.parse().unwrap());
    let proposal = |number| Proposal {
        number: value(args, "number").map_or(number, |n| n.parse().unwrap()),
        protocol,
        spi: &spi,
        transforms: transforms.clone().into(),
    };
    Raw::of(&Payload::Sa((1..=times).map(proposal).collect()))
}

fn transforms(protocol: ProtocolId, args: &[&str]) -> Vec<Transform> {
    let suite = match value(args, "suite") {
        None => Suite::AesGcm,
        Some("cbc") => Suite::AesCbcSha256,
        Some("chacha") => Suite::ChaCha20,
        Some(other) => panic!("{other}: no suite"),
    };
    let methods: Vec<KeId> = match value(args, "ke") {
        Some(list) => list
            .split(',')
            .map(|id| KeId(id.parse().unwrap()))
            .collect(),
        None if protocol == ProtocolId::IKE => vec![KeId::CURVE25519],
        None => Vec::new(),
    };
    if protocol == ProtocolId::IKE {
        return setup::ike(suite, &methods).transforms;
    }
    let mut transforms = setup::esp(suite).transforms;
    transforms.extend(
        methods
            .into_iter()
            .map(|id| Transform::new(TransformId::Ke(id), None)),
    );
    transforms
}

/// Of the last offer the first transform of each type.
fn offered(peer: &Peer, protocol: ProtocolId) -> Vec<Transform> {
    let asked = peer.asked.as_ref().expect("a request to answer");
    let mut chosen: Vec<Transform> = Vec::new();
    for payload in asked.payloads() {
        let Payload::Sa(list) = payload else { continue };
        let proposal = list.iter().find(|p| p.protocol == protocol);
        let proposal = proposal.unwrap_or_else(|| panic!("no offer of {protocol}"));
        for transform in &proposal.transforms {
            if chosen.iter().all(|t| t.id.kind() != transform.id.kind()) {
                chosen.push(*transform);
            }
        }
    }
    chosen
}

fn spi(peer: &Peer, name: &str) -> Vec<u8> {
    let known = peer.names.get(name).cloned();
    known.unwrap_or_else(|| hex::decode(name).unwrap_or_else(|_| panic!("{name}: no SPI")))
}

/// `KE(method=N sent=N len=N fill=BYTE)`.
fn key_exchange(peer: &mut Peer, args: &[&str]) -> Raw {
    let method = value(args, "method").map_or(KeId::CURVE25519, |id| KeId(id.parse().unwrap()));
    let mut data = if null::provider().key_exchange(method).is_some() {
        peer.key_pair(method)
    } else {
        vec![7; 32]
    };
    if let Some(len) = value(args, "len") {
        data.resize(number(len), 1);
    }
    if let Some(byte) = value(args, "fill") {
        data.fill(byte.parse().unwrap());
    }
    let data = &data;
    Raw::of(&Payload::Ke(Ke { method, data }))
}

/// `Ni(len=N fill=BYTE)`.
fn nonce(peer: &Peer, args: &[&str]) -> Raw {
    let mut body = peer.nonce.clone();
    if let Some(len) = value(args, "len") {
        body.resize(number(len), 1);
    }
    if let Some(byte) = value(args, "fill") {
        body.fill(byte.parse().unwrap());
    }
    Raw {
        kind: PayloadType::NONCE,
        critical: false,
        body,
    }
}

/// `IDi(fqdn=NAME)`, else the peer's.
fn identity(peer: &mut Peer, name: &str, args: &[&str]) -> Raw {
    let other = value(args, "fqdn").map(setup::fqdn);
    let own = (name == "IDi") == (peer.role == Role::OriginalInitiator);
    if own && let Some(id) = other.clone() {
        peer.id = id;
    }
    let id = other.unwrap_or_else(|| peer.id.clone());
    let (kind, data): (IdType, &[u8]) = (id.kind, &id.data);
    let id = Id { kind, data };
    Raw::of(&if name == "IDi" {
        Payload::IdI(id)
    } else {
        Payload::IdR(id)
    })
}

/// `AUTH(wrong method=N)`.
fn auth(peer: &Peer, args: &[&str]) -> Raw {
    let (mut method, mut data) = peer.auth();
    if args.contains(&"wrong") {
        data[0] ^= 1;
    }
    if let Some(id) = value(args, "method") {
        method = AuthMethod(id.parse().unwrap());
    }
    let data = &data;
    Raw::of(&Payload::Auth(Auth { method, data }))
}

/// `TSi(FIRST-LAST ...)` or `TSi(none)`; `proto=N` and `ports=A-B` hold for all. Without arguments
/// all networks of the usual policy. The initiator of the exchange is whoever asks.
fn selectors(peer: &Peer, response: bool, name: &str, args: &[&str]) -> Raw {
    let (warrior, gateway) = ("10.2.0.0-10.2.255.255", "10.1.0.0-10.1.255.255");
    let peers_own = (name == "TSi") != response;
    let of_warrior = peers_own == (peer.role == Role::OriginalInitiator);
    let protocol = value(args, "proto").map_or(0, |n| n.parse().unwrap());
    let ports = value(args, "ports").and_then(|text| text.split_once('-'));
    let (start_port, end_port) = ports.map_or((0, u16::MAX), |(first, last)| {
        (first.parse().unwrap(), last.parse().unwrap())
    });
    let mut ranges: Vec<&str> = args.iter().filter(|a| !a.contains('=')).copied().collect();
    if ranges.is_empty() {
        ranges.push(if of_warrior { warrior } else { gateway });
    }
    let selector = |range: &str| {
        let (start, end) = range.split_once('-').unwrap();
        TrafficSelector {
            protocol,
            start_port,
            end_port,
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
        }
    };
    let mut all = Vec::new();
    if ranges != ["none"] {
        all.extend(ranges.into_iter().map(selector));
    }
    if let Some(times) = value(args, "times") {
        all = vec![all[0]; number(times)];
    }
    Raw::of(&if name == "TSi" {
        Payload::TsI(all.into())
    } else {
        Payload::TsR(all.into())
    })
}

/// `N(TYPE [ESP NAME] [DATA])`; DATA is `hex=..`, `len=N`, `cookie`, `source`, `destination`,
/// `gateway=ADDRESS`, `address=ADDRESS`, `nonce`, or `wrong` for a hash of nothing.
fn notify(peer: &Peer, args: &[&str]) -> Raw {
    let known = NotifyType::KNOWN.iter().copied();
    let kind = known
        .clone()
        .find(|kind| kind.name() == Some(args[0]))
        .unwrap_or_else(|| NotifyType(args[0].parse().unwrap()));
    let mut protocol = ProtocolId::NONE;
    let (mut spi_bytes, mut data) = (Vec::new(), Vec::new());
    let [source, destination] = match kind {
        NotifyType::NAT_DETECTION_SOURCE_IP | NotifyType::NAT_DETECTION_DESTINATION_IP => {
            peer.nat_hashes()
        }
        _ => [[0; 20]; 2],
    };
    let mut words = args[1..].iter();
    while let Some(&word) = words.next() {
        match word {
            "ESP" | "AH" => {
                protocol = if word == "ESP" {
                    ProtocolId::ESP
                } else {
                    ProtocolId::AH
                };
                spi_bytes = spi(peer, words.next().unwrap());
            }
            "cookie" => data.clone_from(&peer.cookie),
            "source" => data.extend(source),
            "destination" => data.extend(destination),
            "wrong" => data.extend([0xee; 20]),
            "nonce" => data.extend(asked_nonce(peer)),
            _ => match word.split_once('=') {
                Some(("hex", text)) => data.extend(hex::decode(text).unwrap()),
                Some(("len", text)) => data.extend(vec![0xaa; number(text)]),
                Some(("gateway", text)) => data.extend(gateway(text)),
                Some(("address", text)) => data.extend(octets(text)),
                _ => panic!("{word}: no data of a notification"),
            },
        }
    }
    Raw::of(&Payload::Notify(Notify {
        protocol,
        spi: &spi_bytes,
        kind,
        data: &data,
    }))
}

/// The nonce of the request that is answered.
fn asked_nonce(peer: &Peer) -> Vec<u8> {
    let asked = peer.asked.as_ref().unwrap();
    let payloads = asked.payloads();
    let nonce = payloads.iter().find_map(|payload| match payload {
        Payload::Nonce(nonce) => Some(nonce.to_vec()),
        _ => None,
    });
    nonce.unwrap()
}

fn octets(text: &str) -> Vec<u8> {
    match text.parse().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The gateway of a REDIRECT (RFC 5685, 6.2).
fn gateway(text: &str) -> Vec<u8> {
    let octets = octets(text);
    let kind = if octets.len() == 4 { 1 } else { 2 };
    [vec![kind, u8::try_from(octets.len()).unwrap()], octets].concat()
}

/// `D(IKE)`, `D(ESP NAME ...)`; `size=N` and `count=N` lie.
fn delete(peer: &Peer, args: &[&str]) -> Raw {
    let protocol = match args[0] {
        "IKE" => ProtocolId::IKE,
        "AH" => ProtocolId::AH,
        "ESP" => ProtocolId::ESP,
        other => ProtocolId(other.parse().unwrap()),
    };
    let names = args[1..].iter().filter(|arg| !arg.contains('='));
    let spis: Vec<Vec<u8>> = names.map(|name| spi(peer, name)).collect();
    let size = spis.first().map_or(0, Vec::len);
    let size = value(args, "size").map_or(size, number);
    let count = value(args, "count").map_or(spis.len(), number);
    let mut body = vec![protocol.0, u8::try_from(size).unwrap()];
    body.extend(u16::try_from(count).unwrap().to_be_bytes());
    body.extend(spis.concat());
    Raw {
        kind: PayloadType::DELETE,
        critical: false,
        body,
    }
}

/// `CP(request|reply|set ATTRIBUTE[=HEX] ...)`.
fn configuration(args: &[&str]) -> Raw {
    let kind = match args[0] {
        "request" => CfgType::REQUEST,
        "reply" => CfgType::REPLY,
        "set" => CfgType(3),
        other => CfgType(other.parse().unwrap()),
    };
    let parsed: Vec<(CfgAttrType, Vec<u8>)> = args[1..]
        .iter()
        .map(|arg| {
            let (name, text) = arg.split_once('=').unwrap_or((arg, ""));
            let mut known = CfgAttrType::KNOWN.iter().copied();
            let kind = known.find(|kind| kind.name() == Some(name));
            let kind = kind.unwrap_or_else(|| CfgAttrType(name.parse().unwrap()));
            (kind, hex::decode(text).unwrap())
        })
        .collect();
    let attributes = parsed
        .iter()
        .map(|(kind, value)| CfgAttribute { kind: *kind, value })
        .collect();
    Raw::of(&Payload::Cp(Cp { kind, attributes }))
}
