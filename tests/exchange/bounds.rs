//! What one peer can cost us, and what a forged or repeated message may not break.

use iked::wire::registry::{ExchangeType, NotifyType, ProtocolId};
use iked::wire::{Delete, Message, Payload, TrafficSelector, encode_message};

use super::peer::{Peer, range, status};
use super::setup::{config, end, flow, gateway, no_keys, warrior};
use super::world::{Host, Pair, Side, at};

#[test]
fn a_forged_ike_sa_init_response_with_a_low_order_point_does_not_end_the_attempt() {
    for point in [vec![0u8; 32], {
        let mut p = vec![0u8; 32];
        p[0] = 1;
        p
    }] {
        let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
        let first = pair.initiate();
        let (_, answers) = pair.give(Side::Initiator, &first[0]);
        let mut forged = answers[0].clone();
        let mut message = Message::decode(&answers[0].bytes).unwrap();
        for payload in message.payloads.iter_mut() {
            if let Payload::Ke(ke) = payload {
                ke.data = &point;
            }
        }
        forged.bytes.clear();
        encode_message(&message.header, &message.payloads, &mut forged.bytes);
        assert_eq!(pair.give(Side::Responder, &forged).1, []);
        assert_eq!(pair.initiator.endpoint.len(), 1, "the attempt is gone");
        drop(message);
        pair.run(Side::Responder, answers);
        assert!(pair.is_up());
    }
}

#[test]
fn a_request_sent_again_in_smaller_fragments_gets_its_answer_again() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    let supported = [status(NotifyType::FRAGMENTATION_SUPPORTED, &[])];
    peer.meet_with(&mut host, at(0), &supported);
    let payloads = peer.auth_payloads();
    let header = peer.header(ExchangeType::IKE_AUTH, 1);
    let whole = peer.seal_as(&header, &payloads.borrow());
    let first = peer.send(&mut host, at(0), &whole);
    assert_eq!(first.len(), 1);
    // The answer is lost, and the peer believes that its long datagram was.
    let pieces = peer.seal_fragments_as(&header, &payloads.borrow(), 120);
    let again: Vec<_> = pieces
        .iter()
        .flat_map(|p| peer.send(&mut host, at(20), p))
        .collect();
    assert_eq!(again, first);
}

#[test]
fn an_answer_to_a_fragmented_request_is_repeated_for_fragment_1() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    let supported = [status(NotifyType::FRAGMENTATION_SUPPORTED, &[])];
    peer.meet_with(&mut host, at(0), &supported);
    let payloads = peer.auth_payloads();
    let pieces = peer.seal_fragments(ExchangeType::IKE_AUTH, &payloads.borrow(), 120);
    for p in &pieces {
        peer.send(&mut host, at(0), p);
    }
    let answered: Vec<usize> = pieces
        .iter()
        .map(|p| peer.send(&mut host, at(20), p).len())
        .collect();
    assert_eq!(answered[0], 1, "{answered:?}");
    assert_eq!(answered.iter().sum::<usize>(), 1);
}

#[test]
fn a_cookie_is_no_longer_than_the_request() {
    let mut config = config([gateway()]);
    config.settings.cookie_threshold = 0;
    let mut host = Host::new(config, no_keys(), 2);
    let peer = Peer::new(1);
    let mut bytes = Vec::new();
    let nonce = [7; 16];
    encode_message(
        &peer.header(ExchangeType::IKE_SA_INIT, 0),
        &[Payload::Nonce(&nonce)],
        &mut bytes,
    );
    let answers = peer.send(&mut host, at(0), &bytes);
    assert!(
        answers.iter().all(|a| a.bytes.len() <= bytes.len()),
        "{} -> {}",
        bytes.len(),
        answers[0].bytes.len()
    );
}

#[test]
fn an_ikev1_datagram_counts_as_of_another_version() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    let mut bytes = peer.sa_init(&[], &[]);
    bytes[17] = 0x10;
    assert_eq!(peer.send(&mut host, at(0), &bytes), []);
    assert_eq!(
        (host.stats().version_errors, host.stats().decode_errors),
        (1, 0)
    );
}

#[test]
fn a_port_range_is_not_widened_in_the_kernel() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    payloads.ts_r[0].protocol = 6;
    (payloads.ts_r[0].start_port, payloads.ts_r[0].end_port) = (1000, 2000);
    let opened = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads.borrow());
    assert_eq!(opened.notifies(), [NotifyType::TS_UNACCEPTABLE]);
    assert!(host.kernel.installed.is_empty());
}

#[test]
fn of_very_many_selectors_only_the_first_are_looked_at() {
    let mut policy = gateway();
    policy.flows = vec![flow(end("0.0.0.0/0"), end("0.0.0.0/0"))];
    let mut host = Host::new(config([policy]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    // Each takes 62 prefixes or so, each pair of them some thousand policies: none is taken.
    let odd = |number: u32| {
        let mut selector = range("0.0.0.1", "255.255.255.254");
        selector.start = std::net::IpAddr::from((2 * number + 1).to_be_bytes());
        selector.protocol = 17;
        selector
    };
    payloads.ts_i = (0..254).map(odd).collect();
    payloads.ts_r = payloads.ts_i.clone();
    // Behind some 65,000 of them stands one pair that could be had.
    let tcp = |first, last| TrafficSelector {
        protocol: 6,
        ..range(first, last)
    };
    payloads.ts_i.push(tcp("10.2.0.0", "10.2.255.255"));
    payloads.ts_r.push(tcp("10.1.0.0", "10.1.255.255"));
    let opened = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads.borrow());
    assert_eq!(opened.notifies(), [NotifyType::TS_UNACCEPTABLE]);
}

#[test]
fn a_broken_ike_sa_init_response_counts_as_dropped() {
    let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    let first = pair.initiate();
    let (_, answers) = pair.give(Side::Initiator, &first[0]);
    let mut bad = answers[0].clone();
    bad.bytes[31] = 0;
    bad.bytes[30] = 0;
    pair.give(Side::Responder, &bad);
    let s = pair.initiator.stats();
    assert_eq!((s.decode_errors, s.msg_rcvd_dropped), (1, 1));
}

#[test]
fn pieces_of_a_message_are_given_up_in_time() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    let supported = [status(NotifyType::FRAGMENTATION_SUPPORTED, &[])];
    peer.meet_with(&mut host, at(0), &supported);
    peer.log_in(&mut host, at(0));
    let vendor = [b'v'; 400];
    let long = [Payload::VendorId(&vendor)];
    let pieces = peer.seal_fragments(ExchangeType::INFORMATIONAL, &long, 300);
    peer.send(&mut host, at(0), &pieces[0]);
    host.wake(at(200));
    peer.send(&mut host, at(250), &pieces[1]);
    assert_eq!(
        (host.stats().frag_reass_ok, host.stats().frag_reass_drop),
        (0, 1)
    );
}
#[test]
fn a_delete_of_a_protocol_nobody_knows_deletes_nothing() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    peer.log_in(&mut host, at(0));
    let spi = peer.esp_spi;
    let delete = Payload::Delete(Delete {
        protocol: ProtocolId(99),
        spi_size: 4,
        spis: &spi,
    });
    peer.ask(&mut host, at(1), ExchangeType::INFORMATIONAL, &[delete]);
    assert_eq!(host.kernel.holds().len(), 1);
}
