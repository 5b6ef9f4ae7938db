//! What the fuzz targets run, one function per target, so that tests replay the committed corpus
//! through the same code without a fuzzer. Each takes any bytes and panics only on a bug of ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::auth::announce::Announced;
use crate::auth::store::CredentialStore;
use crate::crypto::{Rng, boring};
use crate::ike::{Endpoint, EndpointParts, Path};
use crate::policy::Options;
use crate::policy::radius::Radius;
use crate::radius::dae::{self, Order, Rights};
use crate::radius::packet::PACKET_MAX;
use crate::radius::{Builder, Code, Fault, Packet, Reply, attribute};
use crate::steer::ShardId;
use crate::time::Now;
use crate::wire::registry::{ExchangeType, NotifyType, PayloadType};
use crate::wire::sk::{self, SkFailure, SkKey};
use crate::wire::spi::IkeSpi;
use crate::wire::{
    Flags, Header, Message, Payload, announce, decode_payloads, encode_message, encode_payloads,
    nonce_without_cookie, print,
};

mod kernel;
mod lookup;
mod proofs;

pub use kernel::{pfkey, xfrm};
pub use lookup::{crl, http, ocsp};
pub use proofs::{certs, eap};

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "message",
        run: message,
    },
    Target {
        name: "sk_payload",
        run: sk_payload,
    },
    Target {
        name: "config",
        run: config,
    },
    Target {
        name: "control",
        run: control,
    },
    Target {
        name: "exchange",
        run: exchange,
    },
    Target {
        name: "xfrm",
        run: xfrm,
    },
    Target {
        name: "pfkey",
        run: pfkey,
    },
    Target {
        name: "radius",
        run: radius,
    },
    Target {
        name: "ocsp",
        run: ocsp,
    },
    Target {
        name: "crl",
        run: crl,
    },
    Target {
        name: "http",
        run: http,
    },
    Target {
        name: "eap",
        run: eap,
    },
    Target {
        name: "certs",
        run: certs,
    },
];

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its binary, its function and its corpus folder.
    pub name: &'static str,
    /// Its function.
    pub run: fn(&[u8]),
}

/// A datagram as it comes from the network: decoding is total, and what was decoded, once encoded,
/// is a fixed point of decoding and encoding.
pub fn message(bytes: &[u8]) {
    let nonce = nonce_without_cookie(bytes);
    let Ok(first) = Message::decode(bytes) else {
        return;
    };
    assert!(nonce.is_none_or(|nonce| {
        first
            .payloads
            .iter()
            .any(|one| *one == Payload::Nonce(nonce))
    }));
    assert!(print::details(&first).starts_with(&print::one_line(&first)));
    first.payloads.iter().for_each(announcements);
    if !encodable(&first.payloads) {
        return;
    }
    let once = encoded(&first);
    assert!(
        once.len() <= bytes.len(),
        "encoding may leave out what is unknown, not add"
    );
    let second = Message::decode(&once);
    assert!(second.is_ok(), "our own encoding is refused: {second:?}");
    let Ok(second) = second else { return };
    assert_eq!(encoded(&second), once);
    // Selectors of unknown types and unknown attributes of transforms are left out; when nothing
    // was, nothing may have changed.
    if once.len() == bytes.len() {
        assert_eq!(second, first);
    }
}

/// What can be read of announced methods (RFC 9593) is written as it was.
fn announcements(payload: &Payload<'_>) {
    let Payload::Notify(notify) = payload else {
        return;
    };
    if notify.kind != NotifyType::SUPPORTED_AUTH_METHODS {
        return;
    }
    let read = announce::decode(notify.data);
    assert_eq!(read.is_ok(), Announced::read(notify.data).is_ok());
    if let Ok(list) = read {
        let mut written = Vec::new();
        list.iter()
            .for_each(|one| announce::encode(one, &mut written));
        assert_eq!(written, notify.data);
    }
}

/// An iked.conf(5): what can be read survives being printed and read again.
pub fn config(bytes: &[u8]) {
    crate::config::fuzz(bytes);
}

/// A RADIUS packet of anybody, and its attributes in an answer of a server that shares a secret with
/// us: reading is total, and what is put together again is the same.
pub fn radius(bytes: &[u8]) {
    let Ok(packet) = Packet::decode(bytes) else {
        return;
    };
    assert!(packet.verify_answer(RADIUS_SECRET, &[1; 16], true).is_err());
    let _ = packet.verify_request(RADIUS_SECRET);
    let others = || {
        let attributes = packet.attributes();
        attributes.filter(|(kind, _)| *kind != attribute::MESSAGE_AUTHENTICATOR)
    };
    let mut builder = Builder::default();
    others().for_each(|(kind, value)| builder.put(kind, value));
    let (code, identifier) = (packet.code, packet.identifier);
    let answer = builder.answer(code, identifier, &[0; 16], RADIUS_SECRET, true);
    let Ok(answer) = Packet::decode(&answer) else {
        assert!(answer.len() > PACKET_MAX, "our own packet is refused");
        return;
    };
    assert!(answer.attributes().skip(1).eq(others()));
    assert_eq!(answer.verify_answer(RADIUS_SECRET, &[0; 16], true), Ok(()));
    if let Ok(reply) = Reply::read(&answer, &[0; 16], RADIUS_SECRET, &Radius::default()) {
        assert!(reply.msk.is_none_or(|msk| msk.expose().len() >= 64));
    }
    for code in [Code::DISCONNECT_REQUEST, Code::COA_REQUEST] {
        let mut builder = Builder::default();
        others().for_each(|(kind, value)| builder.put(kind, value));
        radius_order(
            &builder.signed_request(code, identifier, RADIUS_SECRET),
            code,
        );
    }
}

/// A request of a server that shares our secret: whom it means and what it wants is said, or it is
/// refused.
fn radius_order(request: &[u8], code: Code) {
    let Ok(request) = Packet::decode(request) else {
        return;
    };
    match dae::read(&request, RADIUS_SECRET, 0) {
        Ok(Order::Disconnect(target)) => {
            assert!(code == Code::DISCONNECT_REQUEST && target != dae::Target::default());
        }
        Ok(Order::Change(target, rights)) => {
            assert!(code == Code::COA_REQUEST && target != dae::Target::default());
            assert!(rights != Rights::default());
        }
        Ok(Order::Refuse(_)) => {}
        Err(fault) => assert_eq!(fault, Fault::Old),
    }
}

/// A stream of frames on the control socket.
pub fn control(bytes: &[u8]) {
    crate::control::imsg::fuzz(bytes);
}

/// Datagrams at a responder, each behind its length in two bytes; a length of zero lets a minute
/// pass. Whatever comes, nothing is authenticated, answers are no longer than a first answer can
/// be, and in the end nothing is left.
pub fn exchange(mut bytes: &[u8]) {
    let Some(mut endpoint) = responder() else {
        return;
    };
    let mut now = start();
    let mut out = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (datagram, rest) = rest.split_at(length);
        bytes = rest;
        if length == 0 {
            now.mono += Duration::from_secs(60);
        } else {
            endpoint.handle_datagram(now, PATH, &mut datagram.to_vec());
        }
        endpoint.handle_timeout(now);
        while endpoint.poll_transmit(&mut out).is_some() {
            assert!(out.len() <= ANSWER_MAX, "{} bytes", out.len());
        }
        assert!(endpoint.poll_kernel().is_none(), "nobody is authenticated");
    }
    now.mono += Duration::from_secs(3600);
    endpoint.handle_timeout(now);
    assert_eq!(endpoint.stats().sa_established_total, 0);
    assert!(endpoint.is_empty(), "half-open IKE SAs are left behind");
}

fn responder() -> Option<Endpoint> {
    let nobody = crate::config::Nobody;
    let environment = crate::config::Environment {
        hostname: "fuzz.example",
        passive: true,
        resolver: &nobody,
        files: &nobody,
    };
    let generation = crate::policy::Generation::default();
    let text = "ikev2 esp from any to dynamic psk \"secret\" config address 10.0.0.0/24";
    let loaded = crate::config::parse_str("fuzz", text, &[], generation, environment).ok()?;
    let options = Options {
        natt_off: false,
        natt_only: false,
        natt_port: 4500,
        config_dir: PathBuf::new(),
    };
    Some(Endpoint::new(EndpointParts {
        shard: ShardId(0),
        shards: 1,
        config: Arc::new(loaded.config),
        options: Arc::new(options),
        store: Arc::new(CredentialStore::default()),
        provider: boring::provider(),
        rng: Rng::from_seed([7; 32]),
        cookie_seed: [7; 32],
        now: start(),
    }))
}

/// Time begins when it is first asked for, and is the same for every input.
fn start() -> Now {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be had from the clock"
    )]
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now {
        mono: *START,
        wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

const PATH: Path = Path {
    local: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 500),
    remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 500),
    marker: false,
};
/// An IKE_SA_INIT response with the longest key exchange value (8192 bits), and room.
const ANSWER_MAX: usize = 1600;

/// The plaintext of an encrypted payload, as its authenticated peer may choose it.
///
/// The first byte is the type of the first payload inside, the second chooses the lengths of a key
/// that changes nothing; the rest is plaintext, padding and pad length.
pub fn sk_payload(bytes: &[u8]) {
    let [first, shape, padded @ ..] = bytes else {
        return;
    };
    if padded.len() > PLAINTEXT_MAX {
        return;
    }
    let mut key = Transparent::new(*shape);
    let mut datagram = enclosed(PayloadType(*first), padded, &key);
    let Ok(range) = sk::open_sk(&mut datagram, BODY_AT, &key) else {
        return;
    };
    let Some(plaintext) = datagram.get(range) else {
        return;
    };
    let Ok(payloads) = decode_payloads(PayloadType(*first), plaintext) else {
        return;
    };
    if !encodable(&payloads) {
        return;
    }
    let mut normal = Vec::new();
    let first = encode_payloads(&payloads, &mut normal);
    for datagram_max in [usize::MAX, 576, 100] {
        let mut datagrams = Vec::new();
        let sealed = sk::seal_fragments(&HEADER, &payloads, &mut key, datagram_max, &mut datagrams);
        assert_eq!(sealed, Ok(()));
        assert!(
            datagrams
                .iter()
                .all(|datagram| datagram.len() <= datagram_max)
        );
        assert_eq!(joined(&mut datagrams, &key), (first, normal.clone()));
    }
}

/// Opens fragments in order and joins what they hold.
fn joined(datagrams: &mut [Vec<u8>], key: &Transparent) -> (PayloadType, Vec<u8>) {
    let mut whole = Vec::new();
    let mut first = PayloadType::NONE;
    for (number, datagram) in (1..).zip(datagrams) {
        let place = match Message::decode(datagram)
            .map(|message| message.payloads)
            .as_deref()
        {
            Ok([Payload::Sk(sk)]) => Some((sk.first_inner, sk.body_at)),
            Ok([Payload::Skf(skf)]) if skf.number == number => Some((skf.first_inner, skf.body_at)),
            _ => None,
        };
        assert!(
            place.is_some(),
            "what was sealed is not one encrypted payload"
        );
        let Some((first_inner, body_at)) = place else {
            continue;
        };
        if number == 1 {
            first = first_inner;
        }
        let range = sk::open_sk(datagram, body_at, key);
        assert!(range.is_ok(), "what was sealed does not open");
        let Ok(range) = range else { continue };
        whole.extend_from_slice(datagram.get(range).unwrap_or_default());
    }
    (first, whole)
}

/// Whether the encoding of these payloads is one that decoding accepts: a TS payload of which
/// every selector was of an unknown type is left without any, which no peer may send.
fn encodable(payloads: &[Payload<'_>]) -> bool {
    !payloads.iter().any(|payload| {
        matches!(payload, Payload::TsI(selectors) | Payload::TsR(selectors) if selectors.is_empty())
    })
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_message(&message.header, &message.payloads, &mut out);
    out
}

/// A datagram with one SK payload around `padded`.
fn enclosed(first: PayloadType, padded: &[u8], key: &Transparent) -> Vec<u8> {
    let mut body = vec![0; key.iv_len];
    body.extend_from_slice(padded);
    body.resize(body.len() + key.icv_len, 0);
    let payload = Payload::Sk(crate::wire::Sk {
        first_inner: first,
        body_at: BODY_AT,
        body: &body,
    });
    let mut out = Vec::new();
    encode_message(&HEADER, &[payload], &mut out);
    out
}

/// A key that neither hides nor checks anything.
struct Transparent {
    iv_len: usize,
    block_len: usize,
    icv_len: usize,
}

impl Transparent {
    /// One of the shapes that real suites have: AEAD, CBC of 16-byte and of 8-byte blocks.
    const fn new(shape: u8) -> Self {
        match shape % 3 {
            0 => Self {
                iv_len: 8,
                block_len: 1,
                icv_len: 16,
            },
            1 => Self {
                iv_len: 16,
                block_len: 16,
                icv_len: 16,
            },
            _ => Self {
                iv_len: 8,
                block_len: 8,
                icv_len: 12,
            },
        }
    }
}

impl SkKey for Transparent {
    fn iv_len(&self) -> usize {
        self.iv_len
    }

    fn block_len(&self) -> usize {
        self.block_len
    }

    fn icv_len(&self) -> usize {
        self.icv_len
    }

    fn seal(&mut self, message: &mut Vec<u8>, _iv_at: usize) -> Result<(), SkFailure> {
        message.resize(message.len() + self.icv_len, 0);
        Ok(())
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, SkFailure> {
        let start = iv_at + self.iv_len;
        let end = message.len().checked_sub(self.icv_len).ok_or(SkFailure)?;
        let len = end.checked_sub(start).ok_or(SkFailure)?;
        if len % self.block_len == 0 {
            Ok(start..end)
        } else {
            Err(SkFailure)
        }
    }
}

const HEADER: Header = Header {
    initiator_spi: Some(IkeSpi::MAX),
    responder_spi: Some(IkeSpi::MAX),
    next_payload: PayloadType::SK,
    major: 2,
    minor: 0,
    exchange: ExchangeType::IKE_AUTH,
    flags: Flags {
        initiator: true,
        version: false,
        response: false,
    },
    message_id: 1,
    length: 0,
};
/// Where the IV of an only SK payload stands: behind the IKE and the generic payload header.
const BODY_AT: usize = Header::LEN + 4;
/// Between a server and us; the corpus has keys hidden with it.
const RADIUS_SECRET: &[u8] = b"fuzz";
/// More than this does not fit into the 16-bit length of an SK payload.
const PLAINTEXT_MAX: usize = 60_000;
