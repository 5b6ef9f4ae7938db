//! Vectors of RFC 2865, what a server of our own making says, and what must not be believed.

use std::net::IpAddr;
use std::time::Duration;

use super::packet::{Builder, Code, Fault, PACKET_MAX, Packet};
use super::request::{Cause, Facts, Figures, Moment};
use super::{Reply, Verdict, attribute};
use crate::crypto::md5::md5;
use crate::policy::radius::{MICROSOFT, Mapping, Radius};
use crate::wire::registry::CfgAttrType;

const SECRET: &[u8] = b"xyzzy5461";
const REQUEST: [u8; 16] = [7; 16];

fn facts() -> Facts {
    Facts {
        user: b"carol".to_vec(),
        local: "192.0.2.1".parse().unwrap(),
        remote: "2001:db8::2".parse().unwrap(),
        session: 0x1234,
    }
}

/// A key as a server hides it (RFC 2548, 2.4.2).
fn hide(key: &[u8], request: &[u8; 16]) -> Vec<u8> {
    let mut plain = vec![u8::try_from(key.len()).unwrap()];
    plain.extend(key);
    plain.resize(plain.len().next_multiple_of(16), 0);
    let mut out = vec![0x80, 1];
    let mut pad = md5(&[SECRET, request, &out]);
    for block in plain.chunks(16) {
        let hidden: Vec<u8> = block
            .iter()
            .zip(pad)
            .map(|(byte, pad)| byte ^ pad)
            .collect();
        pad = md5(&[SECRET, &hidden]);
        out.extend(hidden);
    }
    out
}

fn put_vendor(builder: &mut Builder, vendor: u32, kind: u8, value: &[u8]) {
    let mut whole = vendor.to_be_bytes().to_vec();
    whole.extend([kind, u8::try_from(value.len() + 2).unwrap()]);
    whole.extend(value);
    builder.put(attribute::VENDOR_SPECIFIC, &whole);
}

fn read(bytes: &[u8]) -> Result<Reply, Fault> {
    Reply::read(
        &Packet::decode(bytes)?,
        &REQUEST,
        SECRET,
        &Radius::default(),
    )
}

#[test]
fn the_answer_of_rfc_2865_7_1_belongs_to_its_request() {
    let request = hex::decode(
        "010000380f403f9473978057bd83d5cb98f4227a01066e656d6f02120dbe708d93d413ce3196e43f782a0aee\
         0406c0a8011005060000\
         0003",
    )
    .unwrap();
    let answer =
        hex::decode("0200002686fe220e7624ba2a1005f6bf9b55e0b20606000000010f06000000000e06c0a80103")
            .unwrap();
    let request = Packet::decode(&request).unwrap();
    assert_eq!(request.first(attribute::USER_NAME), Some(&b"nemo"[..]));
    let answer = Packet::decode(&answer).unwrap();
    let proof = request.authenticator;
    assert_eq!(answer.verify_answer(SECRET, &proof, false), Ok(()));
    assert_eq!(
        answer.verify_answer(SECRET, &proof, true),
        Err(Fault::MessageAuthenticator)
    );
    assert_eq!(
        answer.verify_answer(b"xyzzy5460", &proof, false),
        Err(Fault::Authenticator)
    );
    assert_eq!(
        answer.verify_answer(SECRET, &REQUEST, false),
        Err(Fault::Authenticator)
    );
}

#[test]
fn a_request_begins_with_its_message_authenticator_and_splits_eap() {
    let eap: Vec<u8> = (0..=255).cycle().take(600).collect();
    let bytes = facts()
        .access(&eap, Some(b"state"))
        .access_request(9, &REQUEST, SECRET);
    let packet = Packet::decode(&bytes).unwrap();
    assert_eq!((packet.code, packet.identifier), (Code::ACCESS_REQUEST, 9));
    let first = packet.attributes().next().unwrap();
    assert_eq!(first.0, attribute::MESSAGE_AUTHENTICATOR);
    assert_eq!(packet.all(attribute::EAP_MESSAGE).count(), 3);
    assert_eq!(packet.eap(), eap);
    assert_eq!(packet.first(attribute::STATE), Some(&b"state"[..]));
    assert_eq!(
        packet.first(attribute::ACCT_SESSION_ID),
        Some(&b"0000000000001234"[..])
    );
    assert_eq!(
        packet.first(attribute::CALLING_STATION_ID),
        Some(&b"2001:db8::2"[..])
    );
}

#[test]
fn an_accept_gives_key_and_configuration() {
    let mut builder = Builder::default();
    builder.put_eap(&[3, 1, 0, 4]);
    put_vendor(&mut builder, MICROSOFT, 17, &hide(&[1; 32], &REQUEST));
    put_vendor(&mut builder, MICROSOFT, 16, &hide(&[2; 32], &REQUEST));
    put_vendor(&mut builder, MICROSOFT, 28, &[192, 0, 2, 53]);
    builder.put(attribute::FRAMED_IP_ADDRESS, &[10, 9, 0, 7]);
    let mut prefix = vec![0, 64];
    prefix.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 9]);
    builder.put(attribute::FRAMED_IPV6_PREFIX, &prefix);
    builder.put(attribute::FRAMED_INTERFACE_ID, &[0, 0, 0, 0, 0, 0, 0, 5]);
    builder.put(attribute::CLASS, b"gold");
    builder.put_number(attribute::SESSION_TIMEOUT, 3600);
    let bytes = builder.answer(Code::ACCESS_ACCEPT, 1, &REQUEST, SECRET, true);
    let reply = read(&bytes).unwrap();
    assert_eq!(reply.verdict, Verdict::Accept);
    let msk = reply.msk.unwrap();
    assert_eq!(msk.expose(), [[1; 32], [2; 32]].concat());
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(
        reply.granted,
        [
            (CfgAttrType::INTERNAL_IP4_ADDRESS, address("10.9.0.7")),
            (
                CfgAttrType::INTERNAL_IP6_ADDRESS,
                address("2001:db8:0:9::5")
            ),
            (CfgAttrType::INTERNAL_IP4_DNS, address("192.0.2.53")),
        ]
    );
    assert_eq!(reply.class, [b"gold".to_vec()]);
    assert_eq!(reply.session_timeout, Some(Duration::from_secs(3600)));
}

#[test]
fn short_keys_are_filled_up() {
    let mut builder = Builder::default();
    put_vendor(&mut builder, MICROSOFT, 16, &hide(&[2; 16], &REQUEST));
    put_vendor(&mut builder, MICROSOFT, 17, &hide(&[1; 16], &REQUEST));
    let bytes = builder.answer(Code::ACCESS_ACCEPT, 1, &REQUEST, SECRET, true);
    let msk = read(&bytes).unwrap().msk.unwrap();
    let whole = [&[1; 16][..], &[2; 16], &[0; 32]].concat();
    assert_eq!(msk.expose(), whole);
}

#[test]
fn addresses_that_the_server_leaves_open_are_not_granted() {
    for open in [[255; 4], [255, 255, 255, 254]] {
        let mut builder = Builder::default();
        builder.put(attribute::FRAMED_IP_ADDRESS, &open);
        let bytes = builder.answer(Code::ACCESS_ACCEPT, 1, &REQUEST, SECRET, true);
        assert_eq!(read(&bytes).unwrap().granted, []);
    }
}

#[test]
fn the_administrator_says_what_an_attribute_means() {
    let mapping = |vendor, attribute, v4| Mapping {
        vendor,
        attribute,
        v4,
        v6: None,
    };
    let meanings = Radius {
        mappings: vec![
            mapping(0, attribute::FRAMED_IP_ADDRESS, None),
            mapping(9, 200, Some(CfgAttrType::INTERNAL_IP4_ADDRESS)),
        ],
        ..Radius::default()
    };
    let mut builder = Builder::default();
    builder.put(attribute::FRAMED_IP_ADDRESS, &[10, 0, 0, 1]);
    put_vendor(&mut builder, 9, 200, &[10, 0, 0, 2]);
    let bytes = builder.answer(Code::ACCESS_ACCEPT, 1, &REQUEST, SECRET, true);
    let packet = Packet::decode(&bytes).unwrap();
    let reply = Reply::read(&packet, &REQUEST, SECRET, &meanings).unwrap();
    let address = "10.0.0.2".parse().unwrap();
    assert_eq!(
        reply.granted,
        [(CfgAttrType::INTERNAL_IP4_ADDRESS, address)]
    );
}

#[test]
fn no_bit_of_an_answer_can_be_changed() {
    let mut builder = Builder::default();
    builder.put_eap(&[4, 1, 0, 4]);
    let bytes = builder.answer(Code::ACCESS_REJECT, 1, &REQUEST, SECRET, true);
    assert_eq!(read(&bytes).unwrap().verdict, Verdict::Reject);
    for bit in 0..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&forged).is_err(), "bit {bit}");
    }
}

#[test]
fn an_answer_without_message_authenticator_is_none() {
    for code in [
        Code::ACCESS_ACCEPT,
        Code::ACCESS_REJECT,
        Code::ACCESS_CHALLENGE,
    ] {
        let mut builder = Builder::default();
        builder.put_eap(&[1, 1, 0, 5, 1]);
        let bytes = builder.answer(code, 1, &REQUEST, SECRET, false);
        assert_eq!(read(&bytes).err(), Some(Fault::MessageAuthenticator));
    }
}

#[test]
fn keys_with_impossible_lengths_are_refused() {
    let good = hide(&[1; 32], &REQUEST);
    for bad in [&good[..2], &good[..17], &good[..18]] {
        let mut builder = Builder::default();
        put_vendor(&mut builder, MICROSOFT, 17, bad);
        put_vendor(&mut builder, MICROSOFT, 16, &good);
        let bytes = builder.answer(Code::ACCESS_ACCEPT, 1, &REQUEST, SECRET, true);
        assert_eq!(read(&bytes).err(), Some(Fault::Key), "{}", bad.len());
    }
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let mut builder = Builder::default();
    builder.put(attribute::STATE, b"state");
    let good = builder.answer(Code::ACCESS_CHALLENGE, 1, &REQUEST, SECRET, true);
    for cut in 0..good.len() {
        assert!(Packet::decode(&good[..cut]).is_err(), "{cut}");
    }
    for length in [0, 1, 200] {
        let mut bad = good.clone();
        bad[21] = length;
        assert!(Packet::decode(&bad).is_err(), "{length}");
    }
    let mut long = good;
    long.resize(PACKET_MAX + 2, 26);
    assert!(Packet::decode(&long).is_ok(), "padding");
    long[2..4].copy_from_slice(&u16::try_from(PACKET_MAX + 2).unwrap().to_be_bytes());
    assert!(Packet::decode(&long).is_err());
}

#[test]
fn a_record_tells_all_that_was_counted() {
    let figures = Figures {
        at: 1_700_000_000,
        seconds: 90,
        octets: [(5 << 32) + 7, 8],
        packets: [9, 10],
        class: vec![b"gold".to_vec()],
        addresses: vec!["10.9.0.7".parse().unwrap()],
    };
    let moment = Moment::Stop(Cause::LostCarrier);
    let bytes =
        facts()
            .record(moment, &figures)
            .signed_request(Code::ACCOUNTING_REQUEST, 3, SECRET);
    let packet = Packet::decode(&bytes).unwrap();
    assert_eq!(packet.verify_request(SECRET), Ok(()));
    for (kind, value) in [
        (attribute::ACCT_STATUS_TYPE, 2),
        (attribute::ACCT_SESSION_TIME, 90),
        (attribute::ACCT_INPUT_OCTETS, 7),
        (attribute::ACCT_INPUT_GIGAWORDS, 5),
        (attribute::ACCT_OUTPUT_OCTETS, 8),
        (attribute::ACCT_OUTPUT_GIGAWORDS, 0),
        (attribute::ACCT_INPUT_PACKETS, 9),
        (attribute::ACCT_OUTPUT_PACKETS, 10),
        (attribute::ACCT_TERMINATE_CAUSE, 2),
        (attribute::EVENT_TIMESTAMP, 1_700_000_000),
    ] {
        assert_eq!(packet.number(kind), Some(value), "attribute {kind}");
    }
    assert_eq!(packet.first(attribute::CLASS), Some(&b"gold"[..]));
}
