//! Vectors written out by hand from the structures of OpenBSD's net/pfkeyv2.h (revision 1.95), their
//! numbers compared with those in its revision 1.58 where it has them, and in what its iked(8) sends; and
//! the rules by which its kernel takes a message (sys/net/pfkeyv2_parsemessage.c, revision 1.64). No
//! OpenBSD has spoken: Debian's OpenIKED speaks the dialect of Linux.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::frame::Answer;
use super::told::{Flow, acquire, count, encapsulation_port, expire, flow, net_of, reserved, sent};
use super::words::identity_text;
use super::*;
use crate::crypto::SecretBytes;
use crate::crypto::keymat::ChildKeys;
use crate::kernel::{Count, Cpis, Encap, REQID_TAG, Volume};
use crate::policy::{IfId, IpNet};
use crate::wire::registry::{EsnId, IdType};
use crate::wire::spi::Cpi;

const NUMBERS: Numbers = Numbers { seq: 7, pid: 8 };

fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

fn net(text: &str, len: u8) -> IpNet {
    IpNet {
        addr: text.parse().unwrap(),
        len,
    }
}

fn identity(kind: IdType, text: &str) -> Identity {
    Identity {
        kind,
        data: text.as_bytes().to_vec(),
    }
}

fn transforms(ids: &[TransformId]) -> Vec<Transform> {
    ids.iter()
        .map(|id| Transform {
            id: *id,
            key_length: None,
        })
        .collect()
}

fn sa() -> SaEntry<'static> {
    let cbc = transforms(&[
        TransformId::Encr(EncrId::AES_CBC),
        TransformId::Integ(IntegId::HMAC_SHA2_256_128),
    ]);
    SaEntry {
        source: v4(1),
        destination: v4(2),
        spi: EspSpi::new(0x0102_0304).unwrap(),
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 5,
        algorithms: Algorithms::of(ProtocolId::ESP, &cbc).unwrap(),
        encr_key: &[0xee; 16],
        integ_key: &[0xaa; 32],
        encap: Some((4500, 4501)),
        soft: Duration::from_secs(9),
        hard: Duration::from_secs(10),
        bytes_soft: 800,
        bytes_hard: 1000,
        replay_window: 4096,
        mark: None,
        if_id: None,
        offload: None,
    }
}

fn pair() -> SelectorPair {
    SelectorPair {
        protocol: 17,
        local: net("10.1.2.3", 16),
        local_port: None,
        remote: net("10.9.9.9", 32),
        remote_port: Some(53),
        outward: false,
        if_id: None,
    }
}

/// Of what goes out.
fn template() -> Template {
    Template {
        source: v4(1),
        destination: v4(2),
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 9,
        ipcomp: false,
    }
}

const DOMAINS: Option<Domains> = Some(Domains { inner: 2, outer: 0 });

/// Extensions by name, one in each line of what is wanted: the name is for whoever reads it.
#[cfg(target_endian = "little")]
fn assert_bytes(request: &Request, wanted: &[(&str, &str)]) {
    let mut at = 0;
    for (name, hex) in wanted {
        let hex: String = hex.split_whitespace().collect();
        let end = (at + hex.len() / 2).min(request.bytes().len());
        let mut found = String::new();
        for byte in &request.bytes()[at..end] {
            found += &format!("{byte:02x}");
        }
        assert_eq!(found, hex, "{name}");
        at = end;
    }
    assert_eq!(at, request.bytes().len());
    taken(request);
}

#[cfg(target_endian = "little")]
#[test]
fn an_sa_with_all_that_openbsd_has_words_for() {
    let ours = identity(IdType::FQDN, "a.example");
    let peers = identity(IdType::RFC822_ADDR, "b@example");
    let extras = Extras {
        local_id: Some(&ours),
        remote_id: Some(&peers),
        tag: Tag::new("office"),
        tap: Some(1),
        domains: DOMAINS,
    };
    let request = add(NUMBERS, &sa(), Direction::Out, &extras);
    let wanted = [
        // version, type, errno, satype; len, reserved; seq, pid
        ("msg", "02030002 27000000 07000000 08000000"),
        // spi; replay, state, auth, encrypt; flags: tunnel and UDPENCAP
        ("SA", "02000100 01020304 4001050c 04020000"),
        (
            "SRC",
            "03000500 00000000 10020000 c0000201 0000000000000000",
        ),
        (
            "DST",
            "03000600 00000000 10020000 c0000202 0000000000000000",
        ),
        // allocations; bytes; addtime; usetime
        (
            "SOFT",
            "04000400 00000000 2003000000000000 0900000000000000 0000000000000000",
        ),
        (
            "HARD",
            "04000300 00000000 e803000000000000 0a00000000000000 0000000000000000",
        ),
        // The peer's port, in network order.
        ("UDPENCAP", "01001f00 11950000"),
        (
            "ENCRYPT",
            "03000900 80000000 eeeeeeeeeeeeeeee eeeeeeeeeeeeeeee",
        ),
        (
            "AUTH",
            "05000800 00010000 aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa \
                  aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa",
        ),
        // type, reserved; id; "FQDN/a.example"
        (
            "ID SRC",
            "04000a00 02000000 0000000000000000 4651444e2f612e65 78616d706c650000",
        ),
        // "UFQDN/b@example"
        (
            "ID DST",
            "04000b00 03000000 0000000000000000 554651444e2f6240 6578616d706c6500",
        ),
        // taglen; "office"
        ("TAG", "02002100 07000000 6f66666963650000"),
        ("TAP", "01002200 01000000"),
        // Out of the inner domain, into the outer.
        ("RDOMAIN", "01002500 02000000"),
    ];
    assert_bytes(&request, &wanted);
}

#[cfg(target_endian = "little")]
#[test]
fn an_inbound_sa_over_ipv6_takes_over_the_sequence_numbers_of_another() {
    let gcm = transforms(&[
        TransformId::Encr(EncrId::AES_GCM_16),
        TransformId::Esn(EsnId::ESN),
    ]);
    let sa = SaEntry {
        source: "2001:db8::2".parse().unwrap(),
        destination: "2001:db8::1".parse().unwrap(),
        transport: true,
        algorithms: Algorithms::of(ProtocolId::ESP, &gcm).unwrap(),
        encr_key: &[0xee; 20],
        integ_key: &[],
        encap: None,
        soft: Duration::ZERO,
        hard: Duration::ZERO,
        bytes_soft: 0,
        bytes_hard: 0,
        replay_window: 32,
        ..sa()
    };
    let ours = identity(IdType::FQDN, "a.example");
    let extras = Extras {
        local_id: Some(&ours),
        domains: DOMAINS,
        ..Extras::default()
    };
    let sent = Some(0x1_0000_0002);
    let request = update(NUMBERS, &sa, Direction::In, &extras, sent);
    let wanted = [
        ("msg", "02020002 19000000 07000000 08000000"),
        ("SA", "02000100 01020304 20010014 00040000"),
        // sockaddr_in6 has 28 bytes, the family 24, and 4 bytes of padding
        (
            "SRC",
            "05000500 00000000 1c180000 00000000 20010db800000000 0000000000000002 00000000 00000000",
        ),
        (
            "DST",
            "05000600 00000000 1c180000 00000000 20010db800000000 0000000000000001 00000000 00000000",
        ),
        (
            "ENCRYPT",
            "04000900 a0000000 eeeeeeeeeeeeeeee eeeeeeeeeeeeeeee eeeeeeee00000000",
        ),
        // Of an inbound SA we are the destination.
        (
            "ID DST",
            "04000b00 02000000 0000000000000000 4651444e2f612e65 78616d706c650000",
        ),
        ("RDOMAIN", "01002500 00000200"),
        ("REPLAY", "02002700 00000000 0200000001000000"),
    ];
    assert_bytes(&request, &wanted);
}

#[cfg(target_endian = "little")]
#[test]
fn flows_both_ways() {
    let extras = Extras {
        domains: DOMAINS,
        ..Extras::default()
    };
    let request = add_flow(NUMBERS, Direction::Out, &pair(), &template(), &extras);
    let source = "00000000 10020000 0a010000 0000000000000000";
    let source_mask = "00000000 10020000 ffff0000 0000000000000000";
    let destination = "00000000 10020035 0a090909 0000000000000000";
    let destination_mask = "00000000 1002ffff ffffffff 0000000000000000";
    let peer = "03000600 00000000 10020000 c0000202 0000000000000000";
    let lines = |heads: [&str; 4], all: [&str; 4]| {
        let line = |(head, rest)| format!("{head} {rest}");
        heads.into_iter().zip(all).map(line).collect::<Vec<_>>()
    };
    let heads = ["03001500", "03001100", "03001600", "03001200"];
    let out = lines(heads, [source, source_mask, destination, destination_mask]);
    let wanted = [
        ("msg", "020c0002 14000000 07000000 08000000"),
        // proto is the type REQUIRE; direction out
        ("FLOW_TYPE", "01001400 03020000"),
        ("DST", peer),
        ("SRC_FLOW", &out[0]),
        ("SRC_MASK", &out[1]),
        ("DST_FLOW", &out[2]),
        ("DST_MASK", &out[3]),
        ("PROTOCOL", "01001300 11000000"),
        ("RDOMAIN", "01002500 02000000"),
    ];
    assert_bytes(&request, &wanted);
    let inward = Template {
        source: v4(2),
        destination: v4(1),
        ipcomp: true,
        ..template()
    };
    let request = add_flow(NUMBERS, Direction::In, &pair(), &inward, &Extras::default());
    let back = lines(heads, [destination, destination_mask, source, source_mask]);
    let wanted = [
        // Packets go through IPComp first.
        ("msg", "020c0009 13000000 07000000 08000000"),
        ("FLOW_TYPE", "01001400 03010000"),
        ("DST", peer),
        ("SRC_FLOW", &back[0]),
        ("SRC_MASK", &back[1]),
        ("DST_FLOW", &back[2]),
        ("DST_MASK", &back[3]),
        ("PROTOCOL", "01001300 11000000"),
    ];
    assert_bytes(&request, &wanted);
}

#[cfg(target_endian = "little")]
#[test]
fn a_flow_of_ipv6_is_deleted_by_what_matches_it() {
    let pair = SelectorPair {
        protocol: 0,
        local: net("fd00:1::", 64),
        remote: net("::", 0),
        remote_port: None,
        ..pair()
    };
    let request = delete_flow(NUMBERS, Direction::Out, &pair, &template(), None);
    let zeros = "1c180000 00000000 0000000000000000 0000000000000000 00000000 00000000";
    let (to, to_mask) = (
        format!("05001600 00000000 {zeros}"),
        format!("05001200 00000000 {zeros}"),
    );
    let wanted = [
        ("msg", "020d0002 18000000 07000000 08000000"),
        ("FLOW_TYPE", "01001400 03020000"),
        (
            "SRC_FLOW",
            "05001500 00000000 1c180000 00000000 fd00000100000000 0000000000000000 00000000 00000000",
        ),
        (
            "SRC_MASK",
            "05001100 00000000 1c180000 00000000 ffffffffffffffff 0000000000000000 00000000 00000000",
        ),
        ("DST_FLOW", &to),
        ("DST_MASK", &to_mask),
        ("PROTOCOL", "01001300 00000000"),
    ];
    assert_bytes(&request, &wanted);
}

#[cfg(target_endian = "little")]
#[test]
fn two_sas_are_bound_together() {
    let comp = (IpProtocol::Comp, EspSpi::new(0x1234).unwrap(), v4(2));
    let esp = (IpProtocol::Esp, sa().spi, v4(2));
    let request = group(NUMBERS, comp, esp, Some((2, 0)));
    let wanted = [
        ("msg", "020e0009 0e000000 07000000 08000000"),
        ("SA", "02000100 00001234 00010000 00000000"),
        (
            "DST",
            "03000600 00000000 10020000 c0000202 0000000000000000",
        ),
        ("SA2", "02001700 01020304 00010000 00000000"),
        (
            "DST2",
            "03001800 00000000 10020000 c0000202 0000000000000000",
        ),
        // proto is the second SA's type
        ("SATYPE2", "01002300 02000000"),
        ("RDOMAIN", "01002500 02000000"),
    ];
    assert_bytes(&request, &wanted);
}

#[cfg(target_endian = "little")]
#[test]
fn the_messages_about_spis_and_policies() {
    let ends = (v4(2), v4(1));
    let from = "03000500 00000000 10020000 c0000202 0000000000000000";
    let to = "03000600 00000000 10020000 c0000201 0000000000000000";
    let wanted = [
        ("msg", "02010002 0a000000 07000000 08000000"),
        // min, max, reserved
        ("SPIRANGE", "02001000 00010000 ffffffff 00000000"),
        ("SRC", from),
        ("DST", to),
    ];
    let request = get_spi(NUMBERS, IpProtocol::Esp, ends, 0x100..=u32::MAX);
    assert_bytes(&request, &wanted);
    let named = (IpProtocol::Ah, sa().spi);
    let about = "02000100 01020304 00010000 00000000";
    let wanted = |head, more| {
        [
            ("msg", head),
            ("SA", about),
            ("SRC", from),
            ("DST", to),
            more,
        ]
    };
    let request = delete(NUMBERS, ends, named, Some(2));
    let head = "02040001 0b000000 07000000 08000000";
    assert_bytes(&request, &wanted(head, ("RDOMAIN", "01002500 02000000")));
    let request = get(NUMBERS, ends, named, None);
    let head = "02050001 0a000000 07000000 08000000";
    assert_bytes(&request, &wanted(head, ("nothing", "")));
    let request = register(NUMBERS, IpProtocol::Esp);
    assert_bytes(&request, &[("msg", "02070002 02000000 07000000 08000000")]);
    let wanted = [
        ("msg", "020f0000 03000000 07000000 08000000"),
        ("POLICY", "01001900 05000000"),
    ];
    assert_bytes(&ask_policy(NUMBERS, 5), &wanted);
}

/// Asserts that OpenBSD's kernel would take this: only extensions that it permits in a message of
/// this type, each once, all that it requires, and each as long as its structure.
fn taken(request: &Request) {
    const SA_LIKE: &[u16] = &[
        1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 17, 18, 19, 20, 21, 22, 31, 33, 34,
    ];
    const SA_MORE: &[u16] = &[36, 37, 39, 40];
    const FLOW: &[u16] = &[17, 18, 19, 20, 21, 22, 37];
    const FLOW_LEAST: &[u16] = &[17, 18, 20, 21, 22];
    let bytes = request.bytes();
    let (allowed, least): (&[&[u16]], &[u16]) = match bytes[1] {
        kind::GETSPI => (&[&[5, 6, 16]], &[5, 6, 16]),
        kind::UPDATE => (&[SA_LIKE, SA_MORE, &[7]], &[1, 5, 6]),
        kind::ADD => (&[SA_LIKE, SA_MORE, &[32]], &[1, 6]),
        kind::DELETE | kind::GET => (&[&[1, 5, 6, 37]], &[1, 6]),
        kind::REGISTER => (&[], &[]),
        kind::ADDFLOW => (&[FLOW, &[5, 6, 10, 11]], FLOW_LEAST),
        kind::DELFLOW => (&[FLOW], FLOW_LEAST),
        kind::GRPSPIS => (&[&[1, 6, 23, 24, 35, 37]], &[1, 6, 23, 24, 35]),
        kind::ASKPOLICY => (&[&[25]], &[25]),
        other => panic!("no request of type {other}"),
    };
    let u16_of = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    assert_eq!((bytes[0], bytes[2], u16_of(6)), (2, 0, 0));
    assert_eq!(usize::from(u16_of(4)) * 8, bytes.len());
    let (mut at, mut seen) = (16, Vec::new());
    while at < bytes.len() {
        let (len, number) = (usize::from(u16_of(at)) * 8, u16_of(at + 2));
        assert!(allowed.concat().contains(&number), "{number} not permitted");
        assert!(!seen.contains(&number), "{number} twice");
        let body = &bytes[at + 4..at + len];
        let key_len = || usize::from(u16_of(at + 4)).div_ceil(64) * 8;
        let right = match number {
            1 | 16 | 23 | 39 => len == 16,
            2..=4 => len == 32,
            5..=7 | 17 | 18 | 21 | 22 | 24 => {
                let portless = ![17, 18, 21, 22].contains(&number);
                assert!(!portless || body[6..8] == [0, 0], "a port in {number}");
                matches!((len, body[4], body[5]), (24, 16, 2) | (40, 28, 24))
            }
            8 | 9 => key_len() != 0 && len == key_len() + 8,
            10 | 11 => {
                let text = &body[12..];
                let end = text.iter().position(|byte| *byte == 0).unwrap();
                len == 16 + (end + 1).next_multiple_of(8)
            }
            33 => len <= 8 + 64,
            19 | 20 | 25 | 31 | 34 | 35 | 37 => len == 8,
            other => panic!("extension {other}"),
        };
        assert!(right, "extension {number} has {len} bytes");
        seen.push(number);
        at += len;
    }
    assert!(least.iter().all(|number| seen.contains(number)), "{seen:?}");
}

fn child(ipcomp: bool) -> ChildInstall {
    let key = |byte: u8, len: usize| SecretBytes::new(vec![byte; len]);
    ChildInstall {
        names: ChildRemove {
            protocol: ProtocolId::ESP,
            transport: false,
            local: v4(1),
            remote: v4(2),
            inbound_spi: EspSpi::new(0x1111_1111).unwrap(),
            outbound_spi: EspSpi::new(0x2222_2222).unwrap(),
            reqid: REQID_TAG + 1,
            ipcomp: ipcomp.then(|| Cpis {
                inbound: Cpi::new(0x1111).unwrap(),
                outbound: Cpi::new(0x2222).unwrap(),
            }),
            selectors: vec![pair()],
        },
        transforms: transforms(&[
            TransformId::Encr(EncrId::NULL),
            TransformId::Integ(IntegId::HMAC_SHA1_96),
        ]),
        keys: ChildKeys {
            outbound_encr: key(0, 0),
            outbound_integ: key(2, 20),
            inbound_encr: key(0, 0),
            inbound_integ: key(1, 20),
        },
        encap: Some(Encap {
            local_port: 4500,
            remote_port: 40_000,
        }),
        lifetime_soft: Duration::from_secs(90),
        lifetime_hard: Duration::from_secs(100),
        bytes_soft: 0,
        bytes_hard: 0,
        replay_window: 64,
        mark: None,
        if_id: None,
        offload: None,
        grant: None,
        receive_only: false,
    }
}

/// Numbers that count.
fn counting() -> impl FnMut() -> Numbers {
    let mut seq = 0;
    move || {
        seq += 1;
        Numbers { seq, pid: 8 }
    }
}

/// Type, SA type and sequence number of each.
fn heads(requests: &[Request]) -> Vec<(u8, u8, u32)> {
    let head = |request: &Request| {
        taken(request);
        let answer = Answer::decode(request.bytes()).unwrap();
        (answer.kind, answer.sa_type, answer.seq)
    };
    requests.iter().map(head).collect()
}

#[test]
fn a_child_sa_comes_and_goes_as_messages_that_the_kernel_takes() {
    let extras = Extras {
        domains: DOMAINS,
        ..Extras::default()
    };
    let plain = install(counting(), &child(false), &extras).unwrap();
    let wanted = [
        (kind::ADD, 2, 1),
        (kind::ADD, 2, 2),
        (kind::ADDFLOW, 2, 3),
        (kind::ADDFLOW, 2, 4),
    ];
    assert_eq!(heads(&plain), wanted);
    // Both have the peer's port.
    for request in &plain[..2] {
        let answer = Answer::decode(request.bytes()).unwrap();
        assert_eq!(encapsulation_port(&answer), Some(40_000));
    }
    let compressed = install(counting(), &child(true), &extras).unwrap();
    let wanted = [
        (kind::ADD, 2, 1),
        (kind::ADD, 9, 2),
        (kind::GRPSPIS, 9, 3),
        (kind::ADD, 2, 4),
        (kind::ADD, 9, 5),
        (kind::GRPSPIS, 9, 6),
        (kind::ADDFLOW, 9, 7),
        (kind::ADDFLOW, 9, 8),
    ];
    assert_eq!(heads(&compressed), wanted);
    // Where each SA of a group is: IPComp in the inner domain, what the net sees where we hear it.
    let domains = |request: &Request| {
        let answer = Answer::decode(request.bytes()).unwrap();
        let found = answer.find(extension::RDOMAIN).unwrap();
        [found[4], found[6]]
    };
    let all: Vec<[u8; 2]> = compressed.iter().map(domains).collect();
    assert_eq!(all[..6], [[0, 2], [2, 2], [2, 0], [2, 0], [2, 2], [2, 2]]);
    let receiving = ChildInstall {
        receive_only: true,
        ..child(true)
    };
    let receiving = install(counting(), &receiving, &extras).unwrap();
    assert_eq!(heads(&receiving).len(), 5);
    let gone = remove(counting(), &child(true).names, &extras);
    let wanted = [
        (kind::DELFLOW, 9, 1),
        (kind::DELFLOW, 9, 2),
        (kind::DELETE, 2, 3),
        (kind::DELETE, 2, 4),
        (kind::DELETE, 9, 5),
        (kind::DELETE, 9, 6),
    ];
    assert_eq!(heads(&gone), wanted);
}

#[test]
fn what_openbsd_has_no_words_for_is_refused_whole() {
    let refused = |child: ChildInstall| install(counting(), &child, &Extras::default()).is_none();
    assert!(!refused(child(false)));
    let mut marked = child(false);
    marked.mark = Some(1);
    assert!(refused(marked));
    let mut linked = child(false);
    linked.if_id = IfId::new(7);
    assert!(refused(linked));
    let mut moved = child(false);
    moved.offload = Some("eth0".to_owned());
    assert!(refused(moved));
    for ids in [
        &[TransformId::Encr(EncrId::AES_GCM_8)][..],
        &[TransformId::Encr(EncrId::AES_CBC)],
        &[
            TransformId::Encr(EncrId::CHACHA20_POLY1305),
            TransformId::Integ(IntegId::HMAC_SHA1_96),
        ],
    ] {
        let mut unknown = child(false);
        unknown.transforms = transforms(ids);
        assert!(refused(unknown), "{ids:?}");
    }
    let long = "x".repeat(64);
    for name in ["", "a\0b", &long] {
        assert_eq!(Tag::new(name), None, "{name:?}");
    }
    assert!(Tag::new(&long[..63]).is_some());
    // No type has these, so nothing is said of them.
    for kind in [IdType::KEY_ID, IdType::DER_ASN1_GN] {
        assert_eq!(identity_text(&identity(kind, "x")), None);
    }
}

/// A message of the kernel: header, then these extensions.
fn message(message_kind: u8, sa_type: u8, extensions: &[&[u8]]) -> Vec<u8> {
    let body = extensions.concat();
    let units = ((16 + body.len()) / 8) as u16;
    let mut bytes = vec![2, message_kind, 0, sa_type];
    bytes.extend_from_slice(&units.to_ne_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&9u32.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn read(bytes: &[u8]) -> Answer<'_> {
    Answer::decode(bytes).unwrap()
}

/// An extension of 8 bytes and 8 for each of `words`.
fn numbers(number: u16, words: &[u64]) -> Vec<u8> {
    let mut bytes = (words.len() as u16 + 1).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for word in words {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn two(first: u16, second: u16) -> Vec<u8> {
    [first.to_ne_bytes(), second.to_ne_bytes()].concat()
}

#[test]
fn what_the_kernel_tells_is_read() {
    let about = [&two(2, 1)[..], &[1, 2, 3, 4, 64, 1, 3, 12, 0, 0, 0, 0]].concat();
    let peer = [
        &two(3, 6)[..],
        &[
            0, 0, 0, 0, 16, 2, 0, 0, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ]
    .concat();
    let current = numbers(2, &[500, 10, 20]);
    let soft = message(
        kind::EXPIRE,
        2,
        &[&about, &current, &numbers(4, &[0, 9, 0]), &peer],
    );
    let hard = message(
        kind::EXPIRE,
        1,
        &[&about, &current, &numbers(3, &[0, 9, 0]), &peer],
    );
    let companion = message(kind::EXPIRE, 9, &[&about, &numbers(3, &[0, 9, 0]), &peer]);
    assert_eq!(expire(&read(&soft)), Some((v4(2), sa().spi, false)));
    assert_eq!(expire(&read(&hard)), Some((v4(2), sa().spi, true)));
    assert_eq!(expire(&read(&companion)), None);
    let wanted = message(kind::ACQUIRE, 2, &[&peer]);
    assert_eq!(acquire(&read(&wanted)), Some((9, v4(2))));
    assert_eq!(expire(&read(&wanted)), None);
    let spi = message(kind::GETSPI, 2, &[&about, &peer]);
    assert_eq!(reserved(&read(&spi)), Some(sa().spi));
    let encap = [&two(1, 31)[..], &[0x9c, 0x40, 0, 0]].concat();
    let counter = numbers(36, &[3, 4, 300, 400, 0, 0, 0, 0]);
    let counted = message(
        kind::GET,
        2,
        &[
            &about,
            &current,
            &peer,
            &encap,
            &counter,
            &numbers(39, &[77]),
        ],
    );
    let counted = read(&counted);
    let volume = |packets, octets| Volume { packets, octets };
    let wanted = Count {
        spi: sa().spi,
        inbound: volume(3, 300),
        outbound: volume(4, 400),
    };
    assert_eq!(count(sa().spi, &counted, &counted), Some(wanted));
    assert_eq!(sent(&counted), Some(77));
    assert_eq!(encapsulation_port(&counted), Some(40_000));
}

#[test]
fn a_flow_that_was_written_is_read_again() {
    for direction in [Direction::In, Direction::Out] {
        for (pair, template) in [
            (pair(), template()),
            (
                SelectorPair {
                    local: net("fd00::7", 128),
                    local_port: Some(0),
                    remote: net("fd00:8000::", 17),
                    remote_port: None,
                    ..pair()
                },
                Template {
                    ipcomp: true,
                    ..template()
                },
            ),
        ] {
            let request = add_flow(NUMBERS, direction, &pair, &template, &Extras::default());
            let wanted = Flow {
                direction,
                pair: SelectorPair {
                    local: pair.local.network(),
                    ..pair
                },
                is_required: true,
            };
            assert_eq!(flow(&read(request.bytes())), Some(wanted));
        }
    }
    let holes = net_of(v4(0), "255.0.255.0".parse().unwrap());
    assert_eq!(holes, None);
}

#[test]
fn truncated_and_random_answers_are_no_panic() {
    let whole = add_flow(
        NUMBERS,
        Direction::Out,
        &pair(),
        &template(),
        &Extras::default(),
    );
    let mut state = 1u64;
    let mut read = 0;
    for round in 0..20_000usize {
        let mut bytes = whole.bytes().to_vec();
        for _ in 0..round % 5 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = 6 + (state >> 33) as usize % (bytes.len() - 6);
            bytes[at] = (state >> 20) as u8;
        }
        for message_kind in 1..16 {
            bytes[1] = message_kind;
            let answer = Answer::decode(&bytes).unwrap();
            read += usize::from(flow(&answer).is_some());
            let _ = (expire(&answer), acquire(&answer), reserved(&answer));
            let _ = (sent(&answer), encapsulation_port(&answer));
            let _ = count(sa().spi, &answer, &answer);
        }
    }
    assert!(read > 10_000, "{read}");
}
