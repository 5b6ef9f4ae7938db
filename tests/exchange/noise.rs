//! What nobody vouches for, at every moment of an IKE SA: the answer is the one RFC 7296, 2.21 asks
//! for (mostly silence), one counter tells why, and nothing else changes: no address, no timer, no
//! state. The genuine message still does what it would have done.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use iked::crypto::Rng;
use iked::wire::registry::{ExchangeType, NotifyType, PayloadType};
use iked::wire::{Header, Message};

use super::peer::{Peer, clear_notify};
use super::setup::{config, gateway, no_keys};
use super::world::{Datagram, Host, at};
use scene::{Effect, Moment, Scene};

#[path = "noise/floods.rs"]
mod floods;
#[path = "noise/fragments.rs"]
mod fragments;
#[path = "noise/mutations.rs"]
mod mutations;
#[path = "noise/scene.rs"]
mod scene;

/// Offsets in the IKE header.
const NEXT_PAYLOAD_AT: usize = 16;
const VERSION_AT: usize = 17;
const EXCHANGE_AT: usize = 18;
const FLAGS_AT: usize = 19;
const MESSAGE_ID_AT: usize = 20;
const LENGTH_AT: usize = 24;
/// Flags of the IKE header.
const INITIATOR: u8 = 0x08;
const RESPONSE: u8 = 0x20;

fn with(bytes: &[u8], at: usize, part: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at..at + part.len()].copy_from_slice(part);
    changed
}

/// Writes the true length into the header.
fn measured(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    if let Some(field) = bytes.get_mut(LENGTH_AT..LENGTH_AT + 4) {
        field.copy_from_slice(&length);
    }
    bytes
}

/// At each moment a scene of its own, which goes on afterwards.
fn everywhere(act: impl Fn(&mut Scene)) {
    for moment in Moment::ALL {
        let mut scene = Scene::at(moment);
        act(&mut scene);
        scene.goes_on();
    }
}

/// Why a message with the right SPIs and Message ID is not taken at this moment, where `reason` is
/// what is wrong with it: some moments do not look so far.
fn reason_at(moment: Moment, reason: &'static str) -> &'static str {
    match moment {
        // The answer to this Message ID is being worked on.
        Moment::AwaitKernel => "msg_rcvd_busy",
        // It was answered, and only the same bytes are answered again.
        Moment::Deleted => "unexpected",
        _ => reason,
    }
}

#[test]
fn nothing_but_noise_goes_on_as_ever() {
    everywhere(|_| {});
}

#[test]
fn a_datagram_of_another_length_than_it_says_is_dropped_in_silence() {
    everywhere(|scene| {
        let next = scene.next.bytes.clone();
        let len = u32::try_from(next.len()).unwrap();
        let mut inputs: Vec<Vec<u8>> = [0, 1, 27, 28, next.len() - 1]
            .map(|cut| next[..cut].to_vec())
            .to_vec();
        inputs.extend(
            [0, 27, 28, len - 1, len + 1, u32::MAX]
                .map(|length| with(&next, LENGTH_AT, &length.to_be_bytes())),
        );
        for more in [1, 4, 60_000] {
            inputs.push([&next[..], &vec![0; more]].concat());
        }
        inputs.push(vec![0; 65_507]);
        for input in inputs {
            let effect = scene.hear(&input);
            assert_eq!((effect.answers, effect.dropped), (Vec::new(), true));
            // Zeroes are of version 0.
            let version_zero = input.get(VERSION_AT) == Some(&0);
            assert!(
                version_zero || effect.reasons == ["decode_errors"],
                "{:?}",
                effect.reasons
            );
        }
    });
}

#[test]
fn a_request_of_a_higher_major_version_is_told_ours() {
    everywhere(|scene| {
        for version in [0x30, 0xf0, 0x3f] {
            let mut request = with(&scene.next.bytes, VERSION_AT, &[version]);
            request[FLAGS_AT] &= !RESPONSE;
            let effect = scene.hear(&request);
            assert_eq!(effect.reasons, ["version_errors"]);
            assert!(effect.dropped);
            assert_hint(&effect, &request, NotifyType::INVALID_MAJOR_VERSION);
            scene.ignores(&with(&request, FLAGS_AT, &[RESPONSE]), "version_errors");
            scene.ignores(&measured(request[..28].to_vec()), "version_errors");
        }
    });
}

/// One answer in the clear: this notification, our version, the SPIs and the Message ID of the
/// request, and no more bytes than came.
fn assert_hint(effect: &Effect, request: &[u8], kind: NotifyType) {
    let [answer] = effect.answers.as_slice() else {
        panic!("{effect:?}")
    };
    assert_eq!(clear_notify(answer).0, kind);
    assert!(answer.bytes.len() <= request.len());
    let (ours, theirs) = (
        Header::decode(&answer.bytes).unwrap(),
        Header::peek(request).unwrap(),
    );
    assert_eq!((ours.major, ours.minor), (2, 0));
    assert_eq!(ours.initiator_spi, theirs.initiator_spi);
    assert_eq!(ours.responder_spi, theirs.responder_spi);
    assert_eq!(
        (ours.message_id, ours.exchange),
        (theirs.message_id, theirs.exchange)
    );
    assert_ne!(ours.flags.initiator, theirs.flags.initiator);
}

#[test]
fn a_lower_major_version_gets_silence() {
    everywhere(|scene| {
        for version in [0x00, 0x10, 0x1f] {
            let effect = scene.hear(&with(&scene.next.bytes.clone(), VERSION_AT, &[version]));
            assert_eq!((effect.answers, effect.dropped), (Vec::new(), true));
            assert_eq!(effect.reasons.len(), 1);
        }
    });
}

#[test]
fn a_higher_minor_version_is_spoken_to_as_ours() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.request = with(&peer.sa_init(&[], &[]), VERSION_AT, &[0x2f]);
    let answers = peer.send(&mut host, at(0), &peer.request.clone());
    assert_eq!(answers[0].bytes[VERSION_AT], 0x20);
    peer.take_sa_init(&answers[0].bytes);
    let mut header = peer.header(ExchangeType::IKE_AUTH, 1);
    header.minor = 15;
    let payloads = peer.auth_payloads();
    let request = peer.seal_as(&header, &payloads.borrow());
    let answers = peer.send(&mut host, at(0), &request);
    let opened = peer.open(&answers[0].bytes);
    assert_eq!((opened.notifies(), opened.header.minor), (Vec::new(), 0));
    assert_eq!(host.stats().sa_established_current, 1);
}

#[test]
fn a_wrong_chain_outside_of_the_encryption_is_dropped_in_silence() {
    everywhere(|scene| {
        let next = scene.next.bytes.clone();
        let length = u16::from_be_bytes([next[30], next[31]]);
        let reason = reason_at(scene.moment, "decode_errors");
        for wrong in [0, 1, 3, length - 1, length + 1, u16::MAX] {
            scene.ignores(&with(&next, 30, &wrong.to_be_bytes()), reason);
        }
        // The chain ends before the message does, or has nothing in it.
        scene.ignores(&with(&next, NEXT_PAYLOAD_AT, &[0]), reason);
        let header_only = measured(next[..28].to_vec());
        scene.ignores(&header_only, reason);
    });
}

/// The message with an unknown critical payload before all others.
fn with_critical(bytes: &[u8]) -> Vec<u8> {
    let mut changed = with(bytes, NEXT_PAYLOAD_AT, &[200]);
    changed.splice(28..28, [bytes[NEXT_PAYLOAD_AT], 0x80, 0, 6, 1, 2]);
    measured(changed)
}

#[test]
fn an_unknown_critical_payload_in_the_clear_is_named_in_a_first_request_only() {
    everywhere(|scene| {
        let input = with_critical(&scene.next.bytes);
        let reason = reason_at(scene.moment, "decode_errors");
        if scene.moment != Moment::Nobody {
            return scene.ignores(&input, reason);
        }
        let effect = scene.hear(&input);
        assert_eq!(effect.reasons, [reason]);
        let answer = &effect.answers[0];
        let named = (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![200]);
        assert_eq!(clear_notify(answer), named);
        assert!(answer.bytes.len() <= input.len());
        assert_eq!(Header::peek(&answer.bytes).unwrap().responder_spi, None);
        // Where the critical bit is clear the payload is nothing.
        let passed_over = with(&input, 29, &[0]);
        assert!(Message::decode(&passed_over).is_ok());
    });
}

/// The message as a request or a response.
fn directed(bytes: &[u8], response: bool) -> Vec<u8> {
    let flags = bytes[FLAGS_AT] & INITIATOR | if response { RESPONSE } else { 0 };
    with(bytes, FLAGS_AT, &[flags])
}

/// Where the victim's SPI stands in messages to it.
fn own_spi_at(scene: &Scene) -> usize {
    if scene.header().flags.initiator { 8 } else { 0 }
}

#[test]
fn an_spi_of_nobody_is_told_so_in_a_request_only() {
    everywhere(|scene| {
        let at = own_spi_at(scene);
        for spi in [[1; 8], [0xff; 8], [1, 0, 0, 0, 0, 0, 0, 0]] {
            let nobodys = with(&scene.next.bytes, at, &spi);
            let request = directed(&nobodys, false);
            let effect = scene.hear(&request);
            assert_eq!(effect.reasons, ["unknown_spi"]);
            assert_hint(&effect, &request, NotifyType::INVALID_IKE_SPI);
            scene.ignores(&directed(&nobodys, true), "unknown_spi");
            scene.ignores(&measured(request[..28].to_vec()), "unknown_spi");
        }
    });
}

#[test]
fn hints_are_rationed() {
    let mut scene = Scene::at(Moment::Nobody);
    for second in 0..3 {
        scene.pair.seconds = second;
        let mut answered = 0;
        for round in 0..200u64 {
            let spi = (1 << 56 | round).to_be_bytes();
            let request = with(&scene.next.bytes, 8, &spi);
            answered += scene.hear(&request).answers.len();
        }
        assert_eq!(answered, 50);
    }
    scene.goes_on();
}

#[test]
fn our_spi_with_another_peers_or_with_none_is_dropped() {
    everywhere(|scene| {
        if matches!(scene.moment, Moment::Nobody | Moment::SaInitSent) {
            return;
        }
        let at = 8 - own_spi_at(scene);
        for spi in [[7; 8], [0; 8]] {
            scene.ignores(&with(&scene.next.bytes.clone(), at, &spi), "unexpected");
        }
        // Without our SPI it would have to be a first request.
        let at = own_spi_at(scene);
        scene.ignores(&with(&scene.next.bytes.clone(), at, &[0; 8]), "unexpected");
    });
}

#[test]
fn the_flags_of_another_role_or_direction_are_dropped() {
    everywhere(|scene| {
        let next = scene.next.bytes.clone();
        let flags = next[FLAGS_AT];
        if scene.moment == Moment::Nobody {
            // A first request that is a response, or not from an initiator.
            scene.ignores(&with(&next, FLAGS_AT, &[flags | RESPONSE]), "unexpected");
            scene.ignores(&with(&next, FLAGS_AT, &[RESPONSE]), "unknown_spi");
            return;
        }
        scene.ignores(&with(&next, FLAGS_AT, &[flags ^ RESPONSE]), "unexpected");
        // The other role's SPI is looked up: nobody's.
        let other = directed(&with(&next, FLAGS_AT, &[flags ^ INITIATOR]), true);
        scene.ignores(&other, "unknown_spi");
        // With the SPIs in each other's place we are found, in the wrong role.
        let swapped = [&next[8..16], &next[..8], &next[16..]].concat();
        for response in [0, RESPONSE] {
            let role = (flags ^ INITIATOR) & INITIATOR;
            scene.ignores(&with(&swapped, FLAGS_AT, &[role | response]), "unexpected");
        }
    });
}

#[test]
fn a_message_id_outside_of_the_window_is_dropped() {
    everywhere(|scene| {
        let right = scene.header().message_id;
        let around = [1, 2, 0xffff].map(|step| right.wrapping_add(step));
        let before = [1, 2].map(|step| right.wrapping_sub(step));
        for id in around.into_iter().chain(before).chain([0, u32::MAX]) {
            if id == right {
                continue;
            }
            let input = with(&scene.next.bytes, MESSAGE_ID_AT, &id.to_be_bytes());
            // What follows a Delete is inside the window, but not from the peer.
            let follows = scene.moment == Moment::Deleted && id == right + 1;
            scene.ignores(
                &input,
                if follows {
                    "integrity_errors"
                } else {
                    "unexpected"
                },
            );
        }
    });
}

#[test]
fn a_response_of_another_exchange_than_the_request_is_dropped() {
    everywhere(|scene| {
        let right = scene.header().exchange;
        if !scene.header().flags.response {
            return;
        }
        for exchange in 34..=37 {
            if ExchangeType(exchange) != right {
                let input = with(&scene.next.bytes, EXCHANGE_AT, &[exchange]);
                scene.ignores(&input, "unexpected");
            }
        }
    });
}

#[test]
fn a_request_that_is_not_ike_auth_is_too_early_for_a_half_open_ike_sa() {
    let mut scene = Scene::at(Moment::HalfOpen);
    for exchange in [0, 34, 36, 37, 43, 255] {
        let input = with(&scene.next.bytes, EXCHANGE_AT, &[exchange]);
        scene.ignores(&input, "unexpected");
    }
    scene.goes_on();
}

#[test]
fn ciphertext_with_any_bit_wrong_is_dropped_in_silence() {
    everywhere(|scene| {
        if matches!(scene.moment, Moment::Nobody | Moment::SaInitSent) {
            return;
        }
        let next = scene.next.bytes.clone();
        let reason = reason_at(scene.moment, "integrity_errors");
        for at in 32..next.len() {
            let is_numbers = scene.moment == Moment::InPieces && at < 36;
            if is_numbers {
                continue;
            }
            scene.ignores(&with(&next, at, &[next[at] ^ 1 << (at % 8)]), reason);
        }
        // The header and the type of the first payload inside are under the checksum, too.
        scene.ignores(&with(&next, 28, &[next[28] ^ 1]), reason);
        scene.ignores(&with(&next, VERSION_AT, &[0x21]), reason);
        scene.ignores(&with(&next, FLAGS_AT, &[next[FLAGS_AT] | 1]), reason);
        for len in [0, 1, 7, 8, 23, 24, 25, 65_000] {
            let garbage = sealed_by_nobody(&next, len);
            scene.ignores(&garbage, reason);
        }
    });
}

/// The message with so many bytes of garbage in its SK payload.
fn sealed_by_nobody(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut body = vec![0; len];
    Rng::from_seed([9; 32]).fill(&mut body);
    let mut message = with(&bytes[..32], NEXT_PAYLOAD_AT, &[PayloadType::SK.0]);
    let length = u16::try_from(len + 4).unwrap().to_be_bytes();
    message[30..32].copy_from_slice(&length);
    message.extend(body);
    measured(message)
}

#[test]
fn everything_said_so_far_said_again_by_a_stranger_changes_nothing() {
    everywhere(|scene| {
        scene.close_house();
        let stranger = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 4500);
        for old in scene.sent.clone() {
            if old == scene.next {
                continue;
            }
            for remote in [scene.path().remote, stranger] {
                let mut path = scene.path();
                path.remote = remote;
                let effect = scene.hear_from(path, &old.bytes);
                assert_one_reason(scene, &old.bytes, &effect);
            }
        }
    });
}

/// There is one reason, and an answer only where it is an old one again, or a hint.
fn assert_one_reason(scene: &Scene, input: &[u8], effect: &Effect) {
    let context = format!("{:?}, input {}: {effect:?}", scene.moment, scene.note);
    let [reason] = effect.reasons.as_slice() else {
        panic!("{context}")
    };
    let is_request = Header::peek(input).is_ok_and(|header| !header.flags.response);
    assert!(is_request || effect.answers.is_empty(), "{context}");
    match (*reason, effect.answers.as_slice()) {
        (_, []) => {}
        ("retransmit_response", answers) => {
            let known = |answer: &Datagram| scene.sent.iter().any(|d| d.bytes == answer.bytes);
            assert!(answers.iter().all(known), "{context}");
        }
        ("unknown_spi", _) => assert_hint(effect, input, NotifyType::INVALID_IKE_SPI),
        ("version_errors", _) => assert_hint(effect, input, NotifyType::INVALID_MAJOR_VERSION),
        _ => panic!("{context}"),
    }
}
