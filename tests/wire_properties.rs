//! Properties of the wire codec over arbitrary messages, arbitrary bytes and damaged messages.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use iked::fuzzing;
use iked::wire::registry::{
    AuthMethod, CertEncoding, CfgAttrType, CfgType, EncrId, EsnId, ExchangeType, IdType, IntegId,
    KeId, NotifyType, PayloadType, PrfId, ProtocolId, TransformType,
};
use iked::wire::spi::IkeSpi;
use iked::wire::{
    Auth, Cert, CertReq, CfgAttribute, Cp, Delete, Flags, Header, Id, Ke, Message, Notify, Payload,
    Proposal, Sk, Skf, TrafficSelector, Transform, TransformId, UnknownPayload, decode_payloads,
    encode_message, encode_payloads, nonce_without_cookie, print,
};

/// A payload that owns its bytes: what proptest makes and shrinks. Payloads borrow from it.
#[derive(Clone, Debug)]
enum Owned {
    Sa(Vec<OwnedProposal>),
    Ke(u16, Vec<u8>),
    Id(bool, u8, Vec<u8>),
    Cert(u8, Vec<u8>),
    CertReq(u8, Vec<u8>),
    Auth(u8, Vec<u8>),
    Nonce(Vec<u8>),
    Notify(u8, Vec<u8>, u16, Vec<u8>),
    Delete(u8, u8, Vec<u8>),
    VendorId(Vec<u8>),
    Ts(bool, Vec<TrafficSelector>),
    Cp(u8, Vec<(u16, Vec<u8>)>),
    Eap(Vec<u8>),
    Unknown(u8, Vec<u8>),
}

#[derive(Clone, Debug)]
struct OwnedProposal {
    number: u8,
    protocol: u8,
    spi: Vec<u8>,
    transforms: Vec<Transform>,
}

/// The last payload of a message in the clear.
#[derive(Clone, Debug)]
enum Encrypted {
    No,
    Sk(u8, Vec<u8>),
    Skf(u8, u16, u16, Vec<u8>),
}

impl Owned {
    fn payload(&self) -> Payload<'_> {
        match self {
            Self::Sa(proposals) => {
                Payload::Sa(proposals.iter().map(OwnedProposal::proposal).collect())
            }
            Self::Ke(method, data) => Payload::Ke(Ke {
                method: KeId(*method),
                data,
            }),
            Self::Id(initiator, kind, data) => {
                let id = Id {
                    kind: IdType(*kind),
                    data,
                };
                if *initiator {
                    Payload::IdI(id)
                } else {
                    Payload::IdR(id)
                }
            }
            Self::Cert(encoding, data) => Payload::Cert(Cert {
                encoding: CertEncoding(*encoding),
                data,
            }),
            Self::CertReq(encoding, data) => Payload::CertReq(CertReq {
                encoding: CertEncoding(*encoding),
                data,
            }),
            Self::Auth(method, data) => Payload::Auth(Auth {
                method: AuthMethod(*method),
                data,
            }),
            Self::Nonce(bytes) => Payload::Nonce(bytes),
            Self::Notify(protocol, spi, kind, data) => Payload::Notify(Notify {
                protocol: ProtocolId(*protocol),
                spi,
                kind: NotifyType(*kind),
                data,
            }),
            Self::Delete(protocol, spi_size, spis) => Payload::Delete(Delete {
                protocol: ProtocolId(*protocol),
                spi_size: *spi_size,
                spis,
            }),
            Self::VendorId(bytes) => Payload::VendorId(bytes),
            Self::Ts(true, selectors) => Payload::TsI(selectors.clone().into()),
            Self::Ts(false, selectors) => Payload::TsR(selectors.clone().into()),
            Self::Cp(kind, attributes) => Payload::Cp(Cp {
                kind: CfgType(*kind),
                attributes: attributes
                    .iter()
                    .map(|(kind, value)| CfgAttribute {
                        kind: CfgAttrType(*kind),
                        value,
                    })
                    .collect(),
            }),
            Self::Eap(bytes) => Payload::Eap(bytes),
            Self::Unknown(kind, body) => Payload::Unknown(UnknownPayload {
                kind: PayloadType(*kind),
                body,
            }),
        }
    }
}

impl OwnedProposal {
    fn proposal(&self) -> Proposal<'_> {
        Proposal {
            number: self.number,
            protocol: ProtocolId(self.protocol),
            spi: &self.spi,
            transforms: self.transforms.clone().into(),
        }
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=most)
}

fn transform() -> impl Strategy<Value = Transform> {
    let id = (0u8..=7, any::<u16>()).prop_map(|(kind, number)| match kind {
        1 => TransformId::Encr(EncrId(number)),
        2 => TransformId::Prf(PrfId(number)),
        3 => TransformId::Integ(IntegId(number)),
        4 => TransformId::Ke(KeId(number)),
        5 => TransformId::Esn(EsnId(number)),
        other => TransformId::Unknown(TransformType(other), number),
    });
    (id, option::of(any::<u16>())).prop_map(|(id, bits)| Transform::new(id, bits))
}

fn proposal() -> impl Strategy<Value = OwnedProposal> {
    (any::<u8>(), any::<u8>(), bytes(16), vec(transform(), 0..12)).prop_map(
        |(number, protocol, spi, transforms)| OwnedProposal {
            number,
            protocol,
            spi,
            transforms,
        },
    )
}

fn selector() -> impl Strategy<Value = TrafficSelector> {
    let v4 = any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (IpAddr::V4(a), IpAddr::V4(b)));
    let v6 = any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (IpAddr::V6(a), IpAddr::V6(b)));
    (any::<(u8, u16, u16)>(), prop_oneof![v4, v6]).prop_map(
        |((protocol, start_port, end_port), (start, end))| TrafficSelector {
            protocol,
            start_port,
            end_port,
            start,
            end,
        },
    )
}

fn delete() -> impl Strategy<Value = Owned> {
    (any::<u8>(), 0u8..=16, 0usize..6).prop_flat_map(|(protocol, size, count)| {
        vec(any::<u8>(), usize::from(size) * count)
            .prop_map(move |spis| Owned::Delete(protocol, size, spis))
    })
}

fn payload() -> impl Strategy<Value = Owned> {
    let unknown = any::<u8>().prop_filter("known", |&kind| PayloadType(kind).name().is_none());
    prop_oneof![
        vec(proposal(), 1..5).prop_map(Owned::Sa),
        (any::<u16>(), vec(any::<u8>(), 1..80)).prop_map(|(method, data)| Owned::Ke(method, data)),
        (any::<(bool, u8)>(), bytes(40)).prop_map(|((i, kind), data)| Owned::Id(i, kind, data)),
        (any::<u8>(), bytes(90)).prop_map(|(encoding, data)| Owned::Cert(encoding, data)),
        (any::<u8>(), bytes(60)).prop_map(|(encoding, data)| Owned::CertReq(encoding, data)),
        (any::<u8>(), bytes(64)).prop_map(|(method, data)| Owned::Auth(method, data)),
        vec(any::<u8>(), 16..=256).prop_map(Owned::Nonce),
        (any::<(u8, u16)>(), bytes(16), bytes(40))
            .prop_map(|((protocol, kind), spi, data)| Owned::Notify(protocol, spi, kind, data)),
        delete(),
        bytes(40).prop_map(Owned::VendorId),
        (any::<bool>(), vec(selector(), 1..5)).prop_map(|(i, list)| Owned::Ts(i, list)),
        (any::<u8>(), vec((0u16..0x8000, bytes(20)), 0..6))
            .prop_map(|(kind, attributes)| Owned::Cp(kind, attributes)),
        bytes(40).prop_map(Owned::Eap),
        (unknown, bytes(30)).prop_map(|(kind, body)| Owned::Unknown(kind, body)),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    (
        any::<(u64, u64)>(),
        0u8..16,
        any::<(u8, u32)>(),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |((spi_i, spi_r), minor, (exchange, message_id), [initiator, version, response])| {
                Header {
                    initiator_spi: IkeSpi::new(spi_i),
                    responder_spi: IkeSpi::new(spi_r),
                    next_payload: PayloadType::NONE,
                    major: 2,
                    minor,
                    exchange: ExchangeType(exchange),
                    flags: Flags {
                        initiator,
                        version,
                        response,
                    },
                    message_id,
                    length: 0,
                }
            },
        )
}

fn encrypted() -> impl Strategy<Value = Encrypted> {
    prop_oneof![
        Just(Encrypted::No),
        (any::<u8>(), bytes(60)).prop_map(|(first, body)| Encrypted::Sk(first, body)),
        (any::<u8>(), 1u16..=99, 0u16..=99, bytes(60)).prop_map(|(first, number, more, body)| {
            Encrypted::Skf(first, number, number + more, body)
        }),
    ]
}

/// The bytes of a message, its header and payloads as decoding must give them back.
fn encode<'a>(
    header: Header,
    owned: &'a [Owned],
    encrypted: &'a Encrypted,
) -> (Vec<u8>, Header, Vec<Payload<'a>>) {
    let mut payloads: Vec<Payload<'a>> = owned.iter().map(Owned::payload).collect();
    let mut clear = Vec::new();
    encode_message(&header, &payloads, &mut clear);
    match encrypted {
        Encrypted::No => (),
        Encrypted::Sk(first, body) => payloads.push(Payload::Sk(Sk {
            first_inner: PayloadType(*first),
            body_at: clear.len() + 4,
            body,
        })),
        Encrypted::Skf(first, number, total, body) => payloads.push(Payload::Skf(Skf {
            first_inner: PayloadType(*first),
            number: *number,
            total: *total,
            body_at: clear.len() + 8,
            body,
        })),
    }
    let mut out = Vec::new();
    encode_message(&header, &payloads, &mut out);
    let length = u32::try_from(out.len()).unwrap();
    let next_payload = payloads.first().map_or(PayloadType::NONE, Payload::kind);
    (
        out,
        Header {
            length,
            next_payload,
            ..header
        },
        payloads,
    )
}

/// Most of these have SA, KE and Nonce once each, and some begin with a COOKIE.
fn request() -> impl Strategy<Value = Vec<Owned>> {
    let few = || prop_oneof![8 => Just(1usize), 1 => Just(0), 1 => Just(2)];
    let of = |which: fn(&Owned) -> bool| payload().prop_filter("another", which);
    let part = move |which| few().prop_flat_map(move |count| vec(of(which), count));
    let cookie = bytes(64).prop_map(|data| Owned::Notify(0, Vec::new(), 16390, data));
    let first = prop_oneof![2 => Just(Vec::new()), 1 => cookie.prop_map(|one| vec![one])];
    (
        first,
        part(|one| matches!(one, Owned::Sa(_))),
        part(|one| matches!(one, Owned::Ke(..))),
        part(|one| matches!(one, Owned::Nonce(_))),
        vec(payload(), 0..3),
    )
        .prop_flat_map(|(first, sa, ke, nonce, others)| {
            let rest = [sa, ke, nonce, others]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>();
            (Just(first), Just(rest).prop_shuffle())
        })
        .prop_map(|(first, rest)| first.into_iter().chain(rest).collect())
}

/// What `nonce_without_cookie` must say of a message with these payloads.
fn nonce_of<'a>(payloads: &[Payload<'a>]) -> Option<&'a [u8]> {
    let cookie = matches!(payloads.first(), Some(Payload::Notify(notify)) if notify.kind == NotifyType::COOKIE);
    let count = |kind| payloads.iter().filter(|one| one.kind() == kind).count();
    let [sa, ke, nonce] = [PayloadType::SA, PayloadType::KE, PayloadType::NONCE].map(count);
    let closed = count(PayloadType::SK) + count(PayloadType::SKF) > 0;
    let found = payloads.iter().find_map(|one| {
        if let Payload::Nonce(nonce) = one {
            Some(*nonce)
        } else {
            None
        }
    });
    found.filter(|_| !cookie && !closed && [sa, ke, nonce] == [1, 1, 1])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_gives_back_what_was_encoded(
        header in header(),
        owned in vec(payload(), 0..8),
        encrypted in encrypted(),
    ) {
        let (bytes, header, payloads) = encode(header, &owned, &encrypted);
        let decoded = Message::decode(&bytes).unwrap();
        prop_assert_eq!(decoded, Message { header, payloads: payloads.into() });
    }

    #[test]
    fn inner_payloads_decode_to_what_was_encoded(owned in vec(payload(), 0..8)) {
        let payloads: Vec<_> = owned.iter().map(Owned::payload).collect();
        let mut bytes = Vec::new();
        let first = encode_payloads(&payloads, &mut bytes);
        prop_assert_eq!(decode_payloads(first, &bytes).unwrap(), payloads);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_a_panic(bytes in bytes(400)) {
        fuzzing::message(&bytes);
        fuzzing::sk_payload(&bytes);
        let _ = Header::peek(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_true_header_are_decoded_or_refused(
        header in header(),
        first in 33u8..=54,
        body in bytes(300),
    ) {
        let mut bytes = Vec::new();
        let length = u32::try_from(Header::LEN + body.len()).unwrap();
        Header { next_payload: PayloadType(first), length, ..header }.encode(&mut bytes);
        bytes.extend_from_slice(&body);
        fuzzing::message(&bytes);
    }

    #[test]
    fn any_body_of_one_payload_is_decoded_or_refused(first in 33u8..=54, body in bytes(200)) {
        let length = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
        let mut bytes = vec![first, 0, 0, 0, length[0], length[1]];
        bytes.extend_from_slice(&body);
        bytes.push(0);
        fuzzing::sk_payload(&bytes);
    }

    #[test]
    fn a_damaged_message_is_decoded_or_refused_and_stays_a_fixed_point(
        header in header(),
        owned in vec(payload(), 1..6),
        encrypted in encrypted(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let (mut bytes, ..) = encode(header, &owned, &encrypted);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        fuzzing::message(&bytes);
    }

    #[test]
    fn the_nonce_of_a_request_without_cookie_is_found_as_decoding_finds_it(
        owned in request(),
        encrypted in prop_oneof![9 => Just(Encrypted::No), 1 => encrypted()],
        header in header(),
    ) {
        let (bytes, _, payloads) = encode(header, &owned, &encrypted);
        prop_assert_eq!(nonce_without_cookie(&bytes), nonce_of(&payloads));
    }

    #[test]
    fn a_message_cut_short_is_refused(
        header in header(),
        owned in vec(payload(), 1..6),
        cut in any::<Index>(),
    ) {
        let (bytes, ..) = encode(header, &owned, &Encrypted::No);
        let kept = cut.index(bytes.len());
        prop_assert!(Message::decode(&bytes[..kept]).is_err());
        prop_assert_eq!(nonce_without_cookie(&bytes[..kept]), None);
        // Even when the length in the header is made to fit.
        if kept >= Header::LEN {
            let mut short = bytes[..kept].to_vec();
            short[24..28].copy_from_slice(&u32::try_from(kept).unwrap().to_be_bytes());
            prop_assert!(Message::decode(&short).is_err());
        }
    }

    #[test]
    fn bits_that_must_be_ignored_change_nothing(
        header in header(),
        owned in vec(payload(), 1..6),
        reserved in any::<u8>(),
    ) {
        let (bytes, ..) = encode(header, &owned, &Encrypted::No);
        let mut dirty = bytes.clone();
        // RFC 7296, 3.1: the reserved flags; 3.2: the reserved bits behind the critical bit.
        dirty[19] |= reserved & !0x38;
        dirty[29] |= reserved & 0x7f;
        prop_assert_eq!(Message::decode(&dirty).unwrap(), Message::decode(&bytes).unwrap());
    }

    #[test]
    fn printing_shows_no_bytes_that_could_be_secret(
        header in header(),
        mut secret in vec(any::<u8>(), 16..64),
    ) {
        secret.iter_mut().for_each(|byte| *byte = b'A' + *byte % 16);
        let text = String::from_utf8(secret.clone()).unwrap();
        let payloads = [
            Payload::Nonce(&secret),
            Payload::Auth(Auth { method: AuthMethod::SHARED_KEY, data: &secret }),
            Payload::Eap(&secret),
            Payload::Ke(Ke { method: KeId::CURVE25519, data: &secret }),
            Payload::IdI(Id { kind: IdType::KEY_ID, data: &secret }),
        ];
        let compact = print::compact(&payloads, header.flags.response);
        let details = print::details(&Message { header, payloads: payloads.to_vec().into() });
        let printed = compact + &details;
        prop_assert!(!printed.contains(&text[..8]), "{}", printed);
        prop_assert!(!printed.contains(&hex::encode(&secret[..8])), "{}", printed);
    }
}
