//! Fragments of strangers, which take no place, and of a peer that wants to fill our memory: SKF of
//! numbers, sizes and totals without end. A message in one piece gets through all the same.

use iked::crypto::Rng;
use iked::wire::Header;
use iked::wire::registry::{ExchangeType, NotifyType, PayloadType};

use super::super::peer::{Peer, status};
use super::super::setup::{config, gateway, no_keys};
use super::super::world::{Host, at};
use super::scene::{Moment, Scene};
use super::{LENGTH_AT, NEXT_PAYLOAD_AT, with};

#[test]
fn forged_fragments_take_no_place() {
    let mut scene = Scene::at(Moment::InPieces);
    let numbers = |number: u16, total: u16| [number.to_be_bytes(), total.to_be_bytes()].concat();
    for (number, total) in [
        (1, 1),
        (1, 2),
        (2, 65_535),
        (65_535, 65_535),
        (1, 128),
        (128, 128),
    ] {
        let forged = with(&scene.next.bytes, 32, &numbers(number, total));
        scene.ignores(&forged, "integrity_errors");
    }
    for (number, total) in [(0, 0), (0, 3), (4, 3), (65_535, 1)] {
        let forged = with(&scene.next.bytes, 32, &numbers(number, total));
        scene.ignores(&forged, "decode_errors");
    }
    // The pieces that are there, in any order, again.
    for piece in scene.sent.clone() {
        if piece.bytes[NEXT_PAYLOAD_AT] == PayloadType::SKF.0 && piece != scene.next {
            scene.ignores(&piece.bytes, "frag_rcvd_drop");
        }
    }
    scene.goes_on();
}

/// A half-open IKE SA whose peer fragments.
fn fragmenting() -> (Host, Peer) {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    let supported = [status(NotifyType::FRAGMENTATION_SUPPORTED, &[])];
    peer.meet_with(&mut host, at(0), &supported);
    (host, peer)
}

/// A fragment of IKE_AUTH with any numbers, sealed by the peer.
fn fragment(peer: &Peer, number: u16, total: u16, plaintext: &[u8]) -> Vec<u8> {
    let key = peer.keys.as_ref().unwrap().initiator.as_ref();
    let mut message = Vec::new();
    let mut header = peer.header(ExchangeType::IKE_AUTH, 1);
    header.next_payload = PayloadType::SKF;
    header.encode(&mut message);
    message.extend([PayloadType::VENDOR_ID.0, 0, 0, 0]);
    message.extend([number.to_be_bytes(), total.to_be_bytes()].concat());
    let iv_at = message.len();
    message.resize(iv_at + key.iv_len(), 0);
    message.extend_from_slice(plaintext);
    message.push(0);
    let length = message.len() + key.icv_len();
    let payload = u16::try_from(length - Header::LEN).unwrap();
    message[LENGTH_AT..28].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    message[30..32].copy_from_slice(&payload.to_be_bytes());
    // No other message of this test has such a counter.
    let counter = 1 << 40 | u64::from(total) << 16 | u64::from(number);
    let mut rng = Rng::from_seed([4; 32]);
    key.seal(&mut message, iv_at, counter, &mut rng).unwrap();
    message
}

/// Sends all; nothing is answered. Returns how many were dropped.
fn pour(host: &mut Host, peer: &Peer, pieces: Vec<Vec<u8>>) -> u64 {
    let before = host.stats();
    let count = pieces.len() as u64;
    for piece in pieces {
        assert_eq!(peer.send(host, at(0), &piece), []);
    }
    let stats = host.stats();
    assert_eq!(stats.frag_rcvd, before.frag_rcvd + count);
    assert_eq!((stats.integrity_errors, stats.frag_reass_ok), (0, 0));
    assert_eq!(stats.half_open, 1);
    stats.frag_rcvd_drop - before.frag_rcvd_drop
}

#[test]
fn fragments_of_a_message_too_long_to_be_one_are_dropped() {
    let (mut host, mut peer) = fragmenting();
    let pieces: Vec<_> = (1..=300)
        .map(|number| fragment(&peer, number, 65_535, &[0; 100]))
        .collect();
    assert_eq!(pour(&mut host, &peer, pieces), 300);
    let pieces: Vec<_> = (1..=129)
        .map(|number| fragment(&peer, number, 129, &[0; 100]))
        .collect();
    assert_eq!(pour(&mut host, &peer, pieces), 129);
    // What they began is no obstacle to a message in one piece.
    assert_eq!(peer.log_in(&mut host, at(0)).notifies(), []);
}

#[test]
fn fragments_of_nobody_known_hold_few_bytes() {
    let (mut host, mut peer) = fragmenting();
    let pieces: Vec<_> = (1..128)
        .map(|number| fragment(&peer, number, 128, &[0; 600]))
        .collect();
    // 27 pieces of 600 bytes are the most that 16 KiB hold.
    assert_eq!(pour(&mut host, &peer, pieces), 127 - 27);
    let pieces = [28, 29].map(|number| fragment(&peer, number, 128, &[0; 600]));
    assert_eq!(pour(&mut host, &peer, pieces.to_vec()), 2);
    assert_eq!(peer.log_in(&mut host, at(0)).notifies(), []);
}

#[test]
fn fragments_anew_replace_the_old_ones_and_never_the_other_way() {
    let (mut host, mut peer) = fragmenting();
    let growing: Vec<_> = (2..=128)
        .map(|total| fragment(&peer, 1, total, &[0; 16_000]))
        .collect();
    assert_eq!(pour(&mut host, &peer, growing), 0);
    let shrinking: Vec<_> = (2..128)
        .map(|total| fragment(&peer, 2, total, &[0; 100]))
        .collect();
    assert_eq!(pour(&mut host, &peer, shrinking), 126);
    assert_eq!(peer.log_in(&mut host, at(0)).notifies(), []);
}
