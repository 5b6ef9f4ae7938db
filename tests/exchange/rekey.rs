//! CREATE_CHILD_SA: rekeys of Child SAs and of the IKE SA by either side, by both at once, and what
//! is refused (RFC 7296, 1.3, 2.8 and 2.25).

use std::time::Duration;

use iked::ike::state::State;
use iked::kernel::KernelEvent;
use iked::policy::Policy;
use iked::wire::registry::{ExchangeType, KeId, NotifyType, ProtocolId};
use iked::wire::{Header, Ke, Notify, Payload, Proposal, Transform, TransformId};

use super::peer::Peer;
use super::setup::{self, Suite, config, gateway, no_keys, warrior};
use super::world::{Datagram, Host, Pair, Side, agree, at};

const BOTH: [Side; 2] = [Side::Initiator, Side::Responder];

fn other(side: Side) -> Side {
    match side {
        Side::Initiator => Side::Responder,
        Side::Responder => Side::Initiator,
    }
}

fn up(change: impl Fn(Policy) -> Policy) -> Pair {
    up_with(1, &change(warrior()), &change(gateway()))
}

/// `seed` decides the nonces, and so who wins. Nobody asks whether the other lives.
fn up_with(seed: u8, warrior: &Policy, gateway: &Policy) -> Pair {
    let host = |policy: &Policy, seed| {
        let mut config = config([policy.clone()]);
        config.settings.dpd_check_interval = Duration::ZERO;
        Host::new(config, no_keys(), seed)
    };
    let mut pair = Pair::of(host(warrior, seed), host(gateway, seed + 100));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    pair
}

/// The two ends of this method do not do the same.
fn hybrid(policy: Policy) -> Policy {
    let method = KeId::SNTRUP761X25519;
    let mut esp = setup::esp(Suite::AesGcm);
    esp.transforms
        .push(Transform::new(TransformId::Ke(method), None));
    Policy {
        ike_proposals: vec![setup::ike(Suite::AesGcm, &[method])],
        child_proposals: vec![esp],
        ..policy
    }
}

fn with_ke(policy: Policy) -> Policy {
    let mut esp = setup::esp(Suite::AesGcm);
    for method in [KeId::CURVE25519, KeId::ECP_256] {
        esp.transforms
            .push(Transform::new(TransformId::Ke(method), None));
    }
    Policy {
        child_proposals: vec![esp],
        ..policy
    }
}

/// The kernel of this side says that its Child SA comes to its end.
fn soft_expire(pair: &mut Pair, side: Side) -> Vec<Datagram> {
    let now = pair.now();
    let host = pair.host(side);
    let spi = *host.kernel.holds().last().unwrap();
    let event = KernelEvent::Expire { spi, hard: false };
    host.endpoint.handle_kernel(now, event);
    host.wake(now)
}

/// One Child SA at each end, the same one, ready to send at both.
fn assert_one_child(pair: &mut Pair) {
    // What was given up stays in the kernel for a moment.
    pair.pass_time(pair.seconds + 1);
    let pair = &*pair;
    let hosts = [&pair.initiator, &pair.responder];
    let held = hosts.map(|host| host.kernel.holds());
    assert_eq!(
        held.each_ref().map(Vec::len),
        [1, 1],
        "{:#?} {:#?}",
        pair.initiator.lines,
        pair.responder.lines
    );
    let installed = |at: usize| {
        let spi = held[at][0];
        let mut all = hosts[at].kernel.installed.iter();
        all.find(|child| child.names.inbound_spi == spi).unwrap()
    };
    let (a, b) = (installed(0), installed(1));
    assert!(agree(a, b));
    assert!(!a.receive_only && !b.receive_only);
    for host in hosts {
        let stats = host.stats();
        assert_eq!(
            stats.sa_established_current, 1,
            "{:#?} {:#?}",
            pair.initiator.lines, pair.responder.lines
        );
        assert_eq!(stats.csa_created - stats.csa_removed, 2);
        assert_eq!(stats.faults, 0);
    }
}

#[test]
fn a_child_sa_is_rekeyed_by_either_side_with_and_without_key_exchange() {
    for side in BOTH {
        for change in [|policy| policy, with_ke, hybrid] {
            let mut pair = up(change);
            let before = pair.initiator.kernel.holds();
            let request = soft_expire(&mut pair, side);
            // The hybrid's value takes two fragments.
            assert!((1..=2).contains(&request.len()));
            pair.run(side, request);
            assert_one_child(&mut pair);
            assert_ne!(pair.initiator.kernel.holds(), before);
            let [a, b] = BOTH.map(|side| pair.host(side).kernel.installed.clone());
            // Policies stay: the reqid that they name is the same.
            assert_eq!(a[0].names.reqid, a[1].names.reqid);
            assert_eq!(b[0].names.reqid, b[1].names.reqid);
        }
    }
}

#[test]
fn a_gateway_rekeys_the_child_sa_of_a_leased_address() {
    let roadwarrior = setup::pool_warrior();
    let mut pair = up_with(1, &roadwarrior, &setup::pool_gateway("10.9.0.0/24"));
    for side in [Side::Responder, Side::Initiator, Side::Responder] {
        let request = soft_expire(&mut pair, side);
        pair.run(side, request);
        assert_one_child(&mut pair);
        let selectors = |host: &Host| {
            host.kernel
                .installed
                .last()
                .unwrap()
                .names
                .selectors
                .clone()
        };
        assert_eq!(selectors(&pair.responder)[0].remote.len, 32);
        assert_eq!(selectors(&pair.initiator)[0].local.len, 32);
    }
}

#[test]
fn a_responder_sends_through_the_new_child_sa_when_the_old_one_is_deleted() {
    let mut pair = up(|policy| policy);
    let request = soft_expire(&mut pair, Side::Initiator);
    let (_, answer) = pair.give(Side::Initiator, &request[0]);
    let made = pair.responder.kernel.installed.last().unwrap();
    assert!(made.receive_only, "the initiator cannot receive yet");
    assert_eq!(pair.responder.kernel.holds().len(), 2);
    let (_, delete) = pair.give(Side::Responder, &answer[0]);
    let made = pair.initiator.kernel.installed.last().unwrap();
    assert!(!made.receive_only);
    // The old one still takes what is on its way.
    assert_eq!(pair.initiator.kernel.holds().len(), 2);
    pair.run(Side::Initiator, delete);
    assert_one_child(&mut pair);
}

#[test]
fn without_the_delete_the_new_child_sa_is_used_after_ten_seconds() {
    let mut pair = up(|policy| policy);
    let request = soft_expire(&mut pair, Side::Initiator);
    let (_, answer) = pair.give(Side::Initiator, &request[0]);
    assert_eq!(answer.len(), 1);
    pair.responder.wake(at(9));
    assert!(pair.responder.kernel.installed[1].receive_only);
    pair.responder.wake(at(10));
    assert!(!pair.responder.kernel.installed[1].receive_only);
}

#[test]
fn two_rekeys_of_one_child_sa_at_once_leave_one() {
    let mut seen = [false; 2];
    for seed in 0..40 {
        let mut pair = up_with(seed, &warrior(), &gateway());
        let first = soft_expire(&mut pair, Side::Initiator);
        let second = soft_expire(&mut pair, Side::Responder);
        let (_, mut to_initiator) = pair.give(Side::Initiator, &first[0]);
        let (_, mut to_responder) = pair.give(Side::Responder, &second[0]);
        let mut passed = 0;
        while !to_initiator.is_empty() || !to_responder.is_empty() {
            passed += 1;
            assert!(passed < 20);
            let mut next = Vec::new();
            for datagram in std::mem::take(&mut to_initiator) {
                next.extend(pair.give(Side::Responder, &datagram).1);
            }
            for datagram in std::mem::take(&mut to_responder) {
                to_initiator.extend(pair.give(Side::Initiator, &datagram).1);
            }
            to_responder = next;
        }
        pair.pass_time(pair.seconds + 15);
        assert_one_child(&mut pair);
        let ours_went = pair.initiator.said("simultaneous rekey: ours goes");
        let theirs_went = pair.responder.said("simultaneous rekey: ours goes");
        assert_ne!(ours_went, theirs_went, "one loses");
        seen[usize::from(ours_went)] = true;
        if seen == [true; 2] {
            return;
        }
    }
    panic!("one side always loses");
}

#[test]
fn a_rekey_of_a_child_sa_that_is_being_deleted_is_put_off() {
    let mut pair = up(|policy| policy);
    let request = soft_expire(&mut pair, Side::Initiator);
    let now = pair.now();
    let spi = pair.responder.kernel.holds()[0];
    let expire = KernelEvent::Expire { spi, hard: true };
    pair.responder.endpoint.handle_kernel(now, expire);
    let delete = pair.responder.wake(now);
    let (_, refusal) = pair.give(Side::Initiator, &request[0]);
    pair.run(Side::Responder, delete);
    pair.run(Side::Responder, refusal);
    assert!(pair.initiator.said("TEMPORARY_FAILURE"));
    pair.pass_time(pair.seconds + 130);
    assert_eq!(pair.initiator.kernel.holds(), []);
    assert_eq!(pair.responder.kernel.holds(), []);
}

#[test]
fn a_vanished_child_sa_is_made_anew() {
    let mut pair = up(|policy| policy);
    let request = soft_expire(&mut pair, Side::Initiator);
    // The responder has lost it, and its Delete is lost on the way.
    let now = pair.now();
    let spi = pair.responder.kernel.holds()[0];
    let expire = KernelEvent::Expire { spi, hard: true };
    pair.responder.endpoint.handle_kernel(now, expire);
    let delete = pair.responder.wake(now);
    let (_, acknowledged) = pair.give(Side::Responder, &delete[0]);
    pair.run(Side::Initiator, acknowledged);
    assert_eq!(pair.initiator.kernel.holds(), []);
    pair.run(Side::Initiator, request);
    assert!(pair.responder.said("no such Child SA"));
    assert_eq!(pair.initiator.kernel.holds(), []);
}

fn rekey_ike_now(pair: &mut Pair, side: Side) -> Vec<Datagram> {
    let lifetime = u64::from(IKE_LIFETIME);
    let now = at(lifetime - 1);
    pair.seconds = lifetime - 1;
    pair.host(side).wake(now)
}

const IKE_LIFETIME: u32 = 3600;

fn short_lived(side: Side, change: impl Fn(Policy) -> Policy) -> Pair {
    let lifetime = Duration::from_secs(u64::from(IKE_LIFETIME));
    let policy = |policy, wanted| {
        let ike_lifetime = if side == wanted {
            lifetime
        } else {
            Duration::ZERO
        };
        Policy {
            ike_lifetime,
            ..policy
        }
    };
    let (a, b) = (
        change(policy(warrior(), Side::Initiator)),
        change(policy(gateway(), Side::Responder)),
    );
    up_with(1, &a, &b)
}

fn own_spis(pair: &mut Pair) -> Vec<String> {
    let now = pair.now();
    let shown = pair.responder.show(now);
    let lines = shown.iter().filter(|line| line.contains("ESTABLISHED"));
    lines
        .map(|line| line.split(' ').nth(3).unwrap().to_owned())
        .collect()
}

#[test]
fn the_ike_sa_is_rekeyed_by_either_side_and_keeps_its_child_sa() {
    for (side, change) in BOTH
        .into_iter()
        .flat_map(|side| [|policy| policy, hybrid].map(|change| (side, change)))
    {
        let mut pair = short_lived(side, change);
        let before = (pair.initiator.kernel.holds(), own_spis(&mut pair));
        let request = rekey_ike_now(&mut pair, side);
        let request: Vec<_> = request
            .into_iter()
            .filter(|d| d.bytes.len() > 150)
            .collect();
        assert_eq!(request.len(), 1);
        pair.run(side, request);
        assert_one_child(&mut pair);
        assert_eq!(pair.initiator.kernel.holds(), before.0);
        assert_ne!(own_spis(&mut pair), before.1);
        pair.pass_time(pair.seconds + 30);
        assert_eq!(
            (pair.initiator.endpoint.len(), pair.responder.endpoint.len()),
            (1, 1)
        );
        // The new one works: its Child SA can be rekeyed, again by either side.
        for side in BOTH {
            let request = soft_expire(&mut pair, side);
            pair.run(side, request);
            assert_one_child(&mut pair);
        }
    }
}

#[test]
fn two_rekeys_of_the_ike_sa_at_once_leave_one() {
    let lifetime = Duration::from_secs(u64::from(IKE_LIFETIME));
    let mut seen = [false; 2];
    for seed in 0..40 {
        let lasting = |policy| Policy {
            ike_lifetime: lifetime,
            ..policy
        };
        let mut pair = up_with(seed, &lasting(warrior()), &lasting(gateway()));
        pair.seconds = u64::from(IKE_LIFETIME) - 1;
        let only = |sent: Vec<Datagram>| -> Vec<Datagram> {
            sent.into_iter().filter(|d| d.bytes.len() > 150).collect()
        };
        let now = pair.now();
        let first = only(pair.initiator.wake(now));
        let second = only(pair.responder.wake(now));
        assert_eq!((first.len(), second.len()), (1, 1));
        let (_, to_initiator) = pair.give(Side::Initiator, &first[0]);
        let (_, to_responder) = pair.give(Side::Responder, &second[0]);
        pair.run(Side::Responder, to_initiator);
        pair.run(Side::Initiator, to_responder);
        pair.pass_time(pair.seconds + 30);
        assert_one_child(&mut pair);
        assert_eq!(
            (pair.initiator.endpoint.len(), pair.responder.endpoint.len()),
            (1, 1)
        );
        let ours_went = pair.initiator.said("simultaneous rekey: ours goes");
        seen[usize::from(ours_went)] = true;
        if seen == [true; 2] {
            return;
        }
    }
    panic!("one side always loses");
}

#[test]
fn the_redundant_ike_sa_of_a_double_rekey_is_deleted_and_never_rekeyed() {
    // So short that a rekey of it would be due before it is given up.
    let lasting = |policy| Policy {
        ike_lifetime: Duration::from_secs(10),
        ..policy
    };
    let mut pair = up_with(1, &lasting(warrior()), &lasting(gateway()));
    pair.seconds = 9;
    let now = pair.now();
    let first = pair.initiator.wake(now);
    let second = pair.responder.wake(now);
    assert_eq!((first.len(), second.len()), (1, 1));
    let (_, to_initiator) = pair.give(Side::Initiator, &first[0]);
    let (_, to_responder) = pair.give(Side::Responder, &second[0]);
    // What either sends from now on is lost, also the Delete that the redundant one waits for.
    pair.give(Side::Responder, &to_initiator[0]);
    pair.give(Side::Initiator, &to_responder[0]);
    let side = if pair.initiator.said("simultaneous rekey: ours goes") {
        Side::Responder
    } else {
        Side::Initiator
    };
    let host = pair.host(side);
    let mut sas = host.endpoint.ike_sas();
    let redundant =
        sas.find(|sa| matches!(sa.state, State::Established(_)) && sa.children.is_empty());
    let (own, initiator) = redundant
        .map(|sa| (sa.own_spi, sa.initiator_spi()))
        .unwrap();
    drop(sas);
    let mut asked = Vec::new();
    for second in 10..22 {
        let sent = host.wake(at(second));
        let sent = sent.iter().map(|d| Header::decode(&d.bytes).unwrap());
        let of_it = sent.filter(|header| header.initiator_spi == initiator);
        asked.extend(of_it.map(|header| header.exchange));
    }
    let gone = host.endpoint.ike_sas().find(|sa| sa.own_spi == own);
    assert!(gone.is_none_or(|sa| matches!(sa.state, State::Deleting(_))));
    assert!(asked.contains(&ExchangeType::INFORMATIONAL), "{asked:?}");
    assert!(!asked.contains(&ExchangeType::CREATE_CHILD_SA), "{asked:?}");
}

#[test]
fn an_unanswered_rekey_of_the_ike_sa_yields_to_the_peers() {
    let lifetime = Duration::from_secs(u64::from(IKE_LIFETIME));
    let mut pair = up(|policy| Policy {
        ike_lifetime: lifetime,
        ..policy
    });
    pair.seconds = u64::from(IKE_LIFETIME) - 1;
    let now = pair.now();
    // The initiator's request is lost; the responder's whole exchange passes.
    let lost = pair.initiator.wake(now);
    assert_eq!(lost.len(), 1);
    let request = pair.responder.wake(now);
    pair.run(Side::Responder, request);
    pair.pass_time(pair.seconds + 130);
    assert_one_child(&mut pair);
    assert_eq!(
        (pair.initiator.endpoint.len(), pair.responder.endpoint.len()),
        (1, 1)
    );
}

/// Both ends have rekeyed the IKE SA: the responder's request is lost, and so is the Delete of the
/// initiator, whose own exchange has passed.
fn undecided() -> Pair {
    let lifetime = Duration::from_secs(u64::from(IKE_LIFETIME));
    let mut pair = up(|policy| Policy {
        ike_lifetime: lifetime,
        ..policy
    });
    pair.seconds = u64::from(IKE_LIFETIME) - 1;
    let now = pair.now();
    let lost = pair.responder.wake(now);
    assert_eq!(lost.len(), 1);
    let request = pair.initiator.wake(now);
    let (_, answer) = pair.give(Side::Initiator, &request[0]);
    let (_, delete) = pair.give(Side::Responder, &answer[0]);
    assert_eq!(delete.len(), 1);
    pair
}

#[test]
fn what_the_peer_asks_on_the_ike_sa_that_it_made_decides_for_that_one() {
    let mut pair = undecided();
    // On the new one the initiator rekeys the Child SA as if nothing were open.
    let rekey = soft_expire(&mut pair, Side::Initiator);
    pair.run(Side::Initiator, rekey);
    assert!(!pair.responder.said("no such Child SA"));
    assert_eq!(pair.responder.stats().csa_created, 4);
    pair.pass_time(pair.seconds + 130);
    assert_one_child(&mut pair);
    assert_eq!(
        (pair.initiator.endpoint.len(), pair.responder.endpoint.len()),
        (1, 1)
    );
}

#[test]
fn an_ike_sa_that_is_given_up_leaves_all_to_the_one_that_the_peer_made() {
    let mut pair = undecided();
    for _ in 0..130 {
        pair.seconds += 1;
        let now = pair.now();
        pair.responder.wake(now);
    }
    assert!(pair.responder.said("retransmit limit reached"));
    let sas: Vec<_> = pair.responder.endpoint.ike_sas().collect();
    assert_eq!((sas.len(), sas[0].children.len()), (1, 1));
    assert_eq!(pair.responder.kernel.holds().len(), 1);
}

#[test]
fn a_child_sa_that_the_peer_may_not_know_yet_is_not_rekeyed() {
    let mut pair = up(|policy| policy);
    let request = soft_expire(&mut pair, Side::Responder);
    let (_, lost) = pair.give(Side::Responder, &request[0]);
    assert_eq!(lost.len(), 1);
    let unknown = *pair.initiator.kernel.holds().last().unwrap();
    // Its lifetime is cut short while the answer is asked for again.
    assert_eq!(soft_expire(&mut pair, Side::Initiator), []);
    for second in 1..15 {
        assert_eq!(pair.initiator.wake(at(second)), []);
    }
    let again = pair.responder.wake(at(15));
    pair.seconds = 15;
    pair.run(Side::Responder, again);
    // Now it knows, and the rekey is due.
    pair.pass_time(20);
    assert_one_child(&mut pair);
    assert_ne!(pair.initiator.kernel.holds(), [unknown]);
}

fn logged_in(host: &mut Host) -> Peer {
    let mut peer = Peer::new(1);
    peer.meet(host, at(0));
    assert_eq!(peer.log_in(host, at(0)).notifies(), []);
    peer
}

fn esp_offer<'a>(spi: &'a [u8; 4], transforms: &[Transform]) -> Payload<'a> {
    Payload::Sa(
        [Proposal {
            number: 1,
            protocol: ProtocolId::ESP,
            spi,
            transforms: transforms.to_vec().into(),
        }]
        .into(),
    )
}

#[test]
fn a_further_child_sa_is_made_beside_the_first() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = logged_in(&mut host);
    let wanted = peer.auth_payloads();
    let transforms = setup::esp(Suite::AesGcm).transforms;
    let payloads = [
        esp_offer(&[9, 9, 9, 9], &transforms),
        Payload::Nonce(&[7; 32]),
        Payload::TsI(wanted.ts_i.clone().into()),
        Payload::TsR(wanted.ts_r.into()),
    ];
    let opened = peer.ask(&mut host, at(1), ExchangeType::CREATE_CHILD_SA, &payloads);
    assert_eq!(opened.notifies(), []);
    assert_eq!(host.kernel.holds().len(), 2);
    let installed = &host.kernel.installed;
    assert_ne!(installed[0].names.reqid, installed[1].names.reqid);
    assert!(!installed[1].receive_only);
    assert_eq!(host.stats().csa_created, 4);
}

#[test]
fn a_peer_that_insists_on_key_exchange_gets_one_that_the_ike_sa_may_use() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = logged_in(&mut host);
    let wanted = peer.auth_payloads();
    let mut transforms = setup::esp(Suite::AesGcm).transforms;
    transforms.push(Transform::new(TransformId::Ke(KeId::CURVE25519), None));
    let old = peer.esp_spi;
    let rekey = Payload::Notify(Notify {
        protocol: ProtocolId::ESP,
        spi: &old,
        kind: NotifyType::REKEY_SA,
        data: &[],
    });
    let ask = |ke: Ke<'static>| {
        vec![
            rekey.clone(),
            esp_offer(&[9, 9, 9, 9], &transforms),
            Payload::Nonce(&[7; 32]),
            Payload::Ke(ke),
            Payload::TsI(wanted.ts_i.clone().into()),
            Payload::TsR(wanted.ts_r.clone().into()),
        ]
    };
    let wrong = Ke {
        method: KeId::ECP_256,
        data: &[4; 64],
    };
    let exchange = ExchangeType::CREATE_CHILD_SA;
    let opened = peer.ask(&mut host, at(1), exchange, &ask(wrong));
    assert_eq!(opened.notifies(), [NotifyType::INVALID_KE_PAYLOAD]);
    let right = Ke {
        method: KeId::CURVE25519,
        data: &[9; 32],
    };
    let opened = peer.ask(&mut host, at(2), exchange, &ask(right));
    assert_eq!(opened.notifies(), []);
    assert!(
        opened
            .payloads()
            .iter()
            .any(|p| matches!(p, Payload::Ke(_)))
    );
    assert_eq!(host.kernel.holds().len(), 2);
}

#[test]
fn a_rekey_of_nobody_is_answered_child_sa_not_found_with_its_spi() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = logged_in(&mut host);
    let wanted = peer.auth_payloads();
    let transforms = setup::esp(Suite::AesGcm).transforms;
    for spi in [&[1, 2, 3, 4][..], &[], &[1; 8]] {
        let payloads = [
            Payload::Notify(Notify {
                protocol: ProtocolId::ESP,
                spi,
                kind: NotifyType::REKEY_SA,
                data: &[],
            }),
            esp_offer(&[9, 9, 9, 9], &transforms),
            Payload::Nonce(&[7; 32]),
            Payload::TsI(wanted.ts_i.clone().into()),
            Payload::TsR(wanted.ts_r.clone().into()),
        ];
        let opened = peer.ask(&mut host, at(1), ExchangeType::CREATE_CHILD_SA, &payloads);
        let expected = Payload::Notify(Notify {
            protocol: ProtocolId::ESP,
            spi,
            kind: NotifyType::CHILD_SA_NOT_FOUND,
            data: &[],
        });
        assert_eq!(opened.payloads(), [expected]);
    }
    assert_eq!(host.kernel.holds().len(), 1);
}

#[test]
fn a_lost_answer_is_repeated_from_the_cache_and_makes_nothing_twice() {
    for side in BOTH {
        let mut pair = up(|policy| policy);
        let request = soft_expire(&mut pair, side);
        let (_, first) = pair.give(side, &request[0]);
        let (_, again) = pair.give(side, &request[0]);
        assert_eq!(first, again);
        pair.run(other(side), again);
        assert_one_child(&mut pair);
    }
}
