//! Datagrams that come twice, late, in another order, in pieces or not at all.

use std::time::Duration;

use iked::wire::Payload;
use iked::wire::registry::{ExchangeType, NotifyType};

use super::peer::{Peer, status};
use super::setup::{self, config, gateway, no_keys, warrior};
use super::world::{Host, Pair, Side, at};

fn host() -> Host {
    Host::new(config([gateway()]), no_keys(), 2)
}

#[test]
fn a_repeated_ike_sa_init_gets_the_same_answer_from_the_same_ike_sa() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let request = peer.sa_init(&[], &[]);
    let first = peer.send(&mut host, at(0), &request);
    let mut expected = host.stats();
    for second in 1..4 {
        assert_eq!(peer.send(&mut host, at(second), &request), first);
    }
    // Nothing was drawn, chosen or computed for them.
    expected.msg_rcvd += 3;
    expected.retransmit_response += 3;
    assert_eq!(host.stats(), expected);
    assert_eq!(host.endpoint.len(), 1);
}

#[test]
fn a_repeated_ike_sa_init_is_answered_where_it_came_from() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let request = peer.sa_init(&[], &[]);
    let first = peer.send(&mut host, at(0), &request);
    peer.path.local.set_port(40_000);
    let again = peer.send(&mut host, at(1), &request);
    assert_eq!(again[0].bytes, first[0].bytes);
    assert_eq!(again[0].path.remote.port(), 40_000);
}

#[test]
fn a_repeated_ike_auth_gets_the_same_bytes_without_crypto() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    let first = peer.send(&mut host, at(0), &request);
    let mut expected = host.stats();
    for second in 1..4 {
        assert_eq!(peer.send(&mut host, at(second), &request), first);
    }
    expected.msg_rcvd += 3;
    expected.retransmit_response += 3;
    assert_eq!(host.stats(), expected);
    assert_eq!(host.kernel.installed.len(), 1);
    // The lost answer's Message ID is not used up: the next request still fits.
    let alive = peer.ask(&mut host, at(5), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(alive.payloads(), []);
}

#[test]
fn a_repeated_request_of_other_bytes_is_no_repetition() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    peer.log_in(&mut host, at(0));
    let before = host.stats();
    let header = peer.header(ExchangeType::IKE_AUTH, 1);
    let payloads = peer.auth_payloads();
    let other = peer.seal_as(&header, &payloads.borrow());
    assert_eq!(peer.send(&mut host, at(1), &other), []);
    assert_eq!(host.stats().unexpected, before.unexpected + 1);
    assert_eq!(host.stats().retransmit_response, before.retransmit_response);
}

#[test]
fn a_refusal_is_repeated_too() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.secret = b"wrong".to_vec();
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    let first = peer.send(&mut host, at(0), &request);
    assert_eq!(peer.send(&mut host, at(2), &request), first);
    assert_eq!(host.stats().retransmit_response, 1);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    for lost in 0..2 {
        let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
        // Hand on all but the answer of number `lost`.
        let mut request = pair.initiate();
        for number in 0..2 {
            let (_, answer) = pair.give(Side::Initiator, &request[0]);
            if number == lost {
                break;
            }
            request = pair.give(Side::Responder, &answer[0]).1;
        }
        pair.pass_time(3);
        assert!(pair.is_up(), "{lost}: {:?}", pair.initiator.lines);
        assert_eq!(pair.initiator.stats().retransmit_request, 1);
        assert_eq!(pair.responder.stats().retransmit_response, 1);
    }
}

#[test]
fn duplicates_of_everything_change_nothing() {
    let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    let mut queue: Vec<_> = pair
        .initiate()
        .into_iter()
        .map(|d| (Side::Initiator, d))
        .collect();
    let mut given = 0;
    while let Some((from, datagram)) = queue.pop() {
        given += 1;
        assert!(given < 40, "they never stop talking");
        let (to, answers) = pair.give(from, &datagram);
        queue.extend(answers.into_iter().map(|answer| (to, answer)));
        // The second copy is answered from the cache at most; nobody hears that answer.
        pair.give(from, &datagram);
    }
    assert_eq!(pair.responder.stats().sa_established_current, 1);
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    assert_eq!(pair.responder.kernel.installed.len(), 1);
    assert_eq!(pair.initiator.kernel.installed.len(), 1);
}

#[test]
fn a_peer_that_never_answers_is_given_up_after_126_seconds() {
    let mut host = Host::new(config([warrior()]), no_keys(), 1);
    let first = host.command(at(0), iked::ike::Command::Initiate(0));
    let mut sends = vec![(0, first)];
    for second in 1..126 {
        let sent = host.wake(at(second));
        if !sent.is_empty() {
            sends.push((second, sent));
        }
    }
    // About 2, 6, 14, 30 and 62 s; we look once a second.
    let about = [0..=0, 2..=3, 5..=7, 13..=16, 27..=34, 55..=69];
    assert_eq!(sends.len(), about.len());
    for (range, (second, _)) in about.iter().zip(&sends) {
        assert!(range.contains(second), "{second} is not in {range:?}");
    }
    assert!(sends.iter().all(|(_, sent)| *sent == sends[0].1));
    assert_eq!(host.endpoint.len(), 1);
    assert_eq!(host.wake(at(126)), []);
    assert!(host.endpoint.is_empty());
    assert_eq!(host.stats().retransmit_limit, 1);
    assert_eq!(host.stats().sa_established_failures, 1);
}

/// A gateway and a peer that fragments, past IKE_SA_INIT, and the pieces of its IKE_AUTH.
fn in_pieces() -> (Host, Peer, Vec<Vec<u8>>) {
    let mut host = host();
    let mut peer = Peer::new(1);
    let supported = [status(NotifyType::FRAGMENTATION_SUPPORTED, &[])];
    peer.meet_with(&mut host, at(0), &supported);
    let payloads = peer.auth_payloads();
    let pieces = peer.seal_fragments(ExchangeType::IKE_AUTH, &payloads.borrow(), 120);
    assert!(pieces.len() >= 3, "{}", pieces.len());
    (host, peer, pieces)
}

fn give_all(host: &mut Host, peer: &Peer, pieces: &[&Vec<u8>]) -> usize {
    let answers: Vec<_> = pieces
        .iter()
        .flat_map(|piece| peer.send(host, at(0), piece))
        .collect();
    for answer in &answers {
        assert_eq!(peer.open(&answer.bytes).notifies(), []);
    }
    answers.len()
}

#[test]
fn fragments_in_any_order_make_one_request() {
    let (mut host, peer, pieces) = in_pieces();
    let forward: Vec<_> = pieces.iter().collect();
    assert_eq!(give_all(&mut host, &peer, &forward), 1);
    let (mut host, peer, pieces) = in_pieces();
    let backward: Vec<_> = pieces.iter().rev().collect();
    assert_eq!(give_all(&mut host, &peer, &backward), 1);
    let stats = host.stats();
    assert_eq!(stats.frag_rcvd, pieces.len() as u64);
    assert_eq!(stats.frag_reass_ok, 1);
    assert_eq!(stats.sa_established_current, 1);
}

#[test]
fn a_lost_fragment_is_made_up_by_the_retransmission() {
    let (mut host, peer, pieces) = in_pieces();
    let all: Vec<_> = pieces.iter().collect();
    assert_eq!(give_all(&mut host, &peer, &all[1..]), 0);
    assert_eq!(host.stats().half_open, 1);
    // All come again; those that are there already count as duplicates.
    assert_eq!(give_all(&mut host, &peer, &all), 1);
    assert_eq!(host.stats().frag_reass_ok, 1);
}

#[test]
fn an_answer_is_forgotten_after_five_silent_minutes() {
    let mut config = config([gateway()]);
    config.settings.dpd_check_interval = Duration::ZERO;
    let mut host = Host::new(config, no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    let first = peer.send(&mut host, at(0), &request);
    assert_eq!(host.wake(at(299)), []);
    assert_eq!(peer.send(&mut host, at(299), &request), first);
    // A repetition proves nothing, so it does not make the answer live longer.
    assert_eq!(host.wake(at(301)), []);
    assert_eq!(peer.send(&mut host, at(302), &request), []);
    let alive = peer.ask(&mut host, at(303), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(alive.notifies(), []);
}

#[test]
fn duplicate_fragments_are_dropped() {
    let (mut host, peer, pieces) = in_pieces();
    let (last, rest) = pieces.split_last().unwrap();
    let twice: Vec<_> = rest.iter().chain(rest).collect();
    assert_eq!(give_all(&mut host, &peer, &twice), 0);
    assert_eq!(host.stats().frag_rcvd_drop, rest.len() as u64);
    assert_eq!(give_all(&mut host, &peer, &[last]), 1);
}

#[test]
fn a_fragmented_request_that_is_repeated_gets_one_answer() {
    let (mut host, peer, pieces) = in_pieces();
    let all: Vec<_> = pieces.iter().collect();
    assert_eq!(give_all(&mut host, &peer, &all), 1);
    assert_eq!(give_all(&mut host, &peer, &all), 1);
    assert_eq!(host.stats().retransmit_response, 1);
    assert_eq!(host.stats().frag_reass_ok, 1);
    assert_eq!(host.kernel.installed.len(), 1);
}

#[test]
fn a_forged_fragment_does_not_take_the_place_of_the_true_one() {
    let (mut host, peer, pieces) = in_pieces();
    let mut forged = pieces[1].clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(give_all(&mut host, &peer, &[&pieces[0], &forged]), 0);
    assert_eq!(host.stats().integrity_errors, 1);
    let rest: Vec<_> = pieces[1..].iter().collect();
    assert_eq!(give_all(&mut host, &peer, &rest), 1);
}

#[test]
fn fragments_that_were_not_agreed_upon_are_dropped() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let pieces = peer.seal_fragments(ExchangeType::IKE_AUTH, &payloads.borrow(), 120);
    assert_eq!(
        give_all(&mut host, &peer, &pieces.iter().collect::<Vec<_>>()),
        0
    );
    assert_eq!(host.stats().frag_rcvd_drop, pieces.len() as u64);
    assert_eq!(host.stats().sa_established_total, 0);
}

#[test]
fn small_packets_make_both_sides_fragment() {
    let keys = setup::rsa();
    let [(policy_i, store_i), (policy_r, store_r)] = setup::with_keys(&keys[0], &keys[1]);
    let host = |policy, store, seed| {
        let mut config = config([policy]);
        config.settings.fragment_size = 320;
        Host::new(config, store, seed)
    };
    let mut pair = Pair::of(host(policy_i, store_i, 1), host(policy_r, store_r, 2));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    for host in [&pair.initiator, &pair.responder] {
        assert!(host.stats().frag_sent >= 2);
        assert_eq!(host.stats().frag_reass_ok, 1);
        assert_eq!(host.stats().frag_rcvd_drop, 0);
    }
    let protected = pair.passed.iter().skip(2);
    assert!(protected.clone().count() > 2);
    assert!(protected.clone().all(|(_, d)| d.bytes.len() <= 320 - 32));
}

#[test]
fn fragments_of_a_request_and_of_a_response_are_kept_apart() {
    // Both directions count Message IDs from 0, so the numbers alone do not tell them apart.
    let mut config = config([gateway()]);
    config.settings.dpd_check_interval = Duration::from_secs(60);
    let mut host = Host::new(config, no_keys(), 2);
    let mut peer = Peer::new(1);
    let supported = [status(NotifyType::FRAGMENTATION_SUPPORTED, &[])];
    peer.meet_with(&mut host, at(0), &supported);
    peer.log_in(&mut host, at(0));
    // Two answered probes bring our own Message ID to 2, where the peer's next request is, too.
    for round in 0..2 {
        let due = (0..).map(|s| at(s + 600 * round)).find_map(|now| {
            let sent = host.wake(now);
            (!sent.is_empty()).then_some((now, sent))
        });
        let (now, sent) = due.unwrap();
        let probe = peer.open(&sent[0].bytes);
        let mut header = probe.header;
        header.flags.initiator = true;
        header.flags.response = true;
        let answer = peer.seal_as(&header, &[]);
        peer.send(&mut host, now, &answer);
    }
    let (now, sent) = (0..)
        .map(|s| at(s + 2000))
        .find_map(|now| {
            let sent = host.wake(now);
            (!sent.is_empty()).then_some((now, sent))
        })
        .unwrap();
    let probe = peer.open(&sent[0].bytes);
    assert_eq!((probe.header.message_id, peer.next_id), (2, 2));
    let vendor = [b'v'; 400];
    let long = [Payload::VendorId(&vendor)];
    let request = peer.seal_fragments(ExchangeType::INFORMATIONAL, &long, 300);
    let mut header = peer.header(ExchangeType::INFORMATIONAL, 2);
    header.flags.response = true;
    let response = peer.seal_fragments_as(&header, &long, 300);
    assert_eq!((request.len(), response.len()), (2, 2));
    assert_eq!(peer.send(&mut host, now, &request[0]), []);
    assert_eq!(peer.send(&mut host, now, &response[0]), []);
    assert_eq!(peer.send(&mut host, now, &response[1]), []);
    let answers = peer.send(&mut host, now, &request[1]);
    assert_eq!(answers.len(), 1);
    assert_eq!(host.stats().frag_reass_ok, 2);
    assert_eq!(host.stats().frag_rcvd_drop, 0);
}

#[test]
fn a_peer_with_a_larger_window_gets_one_request_at_a_time_and_has_one_itself() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    peer.log_in(&mut host, at(0));
    // RFC 7296, 2.3: what it allows us is no promise of ours.
    for size in [&[0, 0, 0, 4][..], &[0, 0, 0, 0], &[4]] {
        let size = [status(NotifyType::SET_WINDOW_SIZE, size)];
        let answer = peer.ask(&mut host, at(0), ExchangeType::INFORMATIONAL, &size);
        assert_eq!(answer.payloads(), []);
    }
    let ahead = peer.header(ExchangeType::INFORMATIONAL, peer.next_id + 1);
    let ahead = peer.seal_as(&ahead, &[]);
    assert_eq!(peer.send(&mut host, at(1), &ahead), []);
    let spi = host.kernel.holds()[0];
    let expire = |hard| iked::kernel::KernelEvent::Expire { spi, hard };
    host.endpoint.handle_kernel(at(1), expire(false));
    let request = host.wake(at(1));
    assert_eq!(request.len(), 1);
    // Its Delete would fit the window of the peer, but waits.
    host.endpoint.handle_kernel(at(1), expire(true));
    assert_eq!(host.wake(at(2)), []);
    let mut header = peer.open(&request[0].bytes).header;
    (header.flags.initiator, header.flags.response) = (true, true);
    let refusal = peer.seal_as(&header, &[status(NotifyType::NO_ADDITIONAL_SAS, &[])]);
    let delete = peer.send(&mut host, at(2), &refusal);
    assert_eq!(delete.len(), 1);
    let delete = peer.open(&delete[0].bytes);
    assert_eq!(delete.header.message_id, header.message_id + 1);
    assert_eq!(delete.header.exchange, ExchangeType::INFORMATIONAL);
    // And the peer's own next request is still the one that we wait for.
    peer.ask(&mut host, at(3), ExchangeType::INFORMATIONAL, &[]);
}
