//! What is refused, in which words, and what is left afterwards.

use std::time::Duration;

use iked::ike::Command;
use iked::kernel::KernelEvent;
use iked::policy::Policy;
use iked::wire::registry::{
    AuthMethod, ExchangeType, IdType, KeId, NotifyType, PayloadType, ProtocolId,
};
use iked::wire::{Header, Message, Payload, encode_payloads};

use super::peer::{AuthPayloads, Opened, Peer, clear_notify, range};
use super::setup::{self, Suite, config, gateway, no_keys, warrior};
use super::world::{Datagram, Host, Mood, Pair, Side, at, mirrored};

fn host() -> Host {
    Host::new(config([gateway()]), no_keys(), 2)
}

/// IKE_AUTH with payloads changed by the test; the answer.
fn log_in_with(host: &mut Host, peer: &mut Peer, change: impl Fn(&mut AuthPayloads)) -> Opened {
    peer.meet(host, at(0));
    let mut payloads = peer.auth_payloads();
    change(&mut payloads);
    peer.ask(host, at(0), ExchangeType::IKE_AUTH, &payloads.borrow())
}

/// The answer says just this, with no proof of ours, and the IKE SA is gone after its last answer
/// has lingered.
fn assert_thrown_out(host: &mut Host, opened: &Opened, notify: NotifyType) {
    assert_eq!(opened.notifies(), [notify]);
    assert_eq!(opened.payloads().len(), 1, "{opened:?}");
    let stats = host.stats();
    assert_eq!(stats.sa_established_total, 0);
    assert_eq!(stats.sa_established_failures, 1);
    assert_eq!((stats.half_open, stats.leases), (0, 0));
    assert!(host.kernel.installed.is_empty());
    host.wake(at(11));
    assert!(host.endpoint.is_empty());
    assert_eq!(host.stats().sa_removed, host.stats().sa_created);
}

/// The IKE SA is up without a Child SA, the answer says why, and the peer can still talk.
fn assert_kept_without_child(
    host: &mut Host,
    peer: &mut Peer,
    opened: &Opened,
    notify: NotifyType,
) {
    assert_eq!(opened.notifies(), [notify]);
    assert!(opened.has(PayloadType::AUTH), "our proof goes with it");
    for kind in [PayloadType::SA, PayloadType::TS_I, PayloadType::TS_R] {
        assert!(!opened.has(kind), "{kind}");
    }
    let stats = host.stats();
    assert_eq!(stats.sa_established_current, 1);
    assert_eq!(stats.csa_created, stats.csa_removed);
    // An address is the peer's to keep, for another Child SA, or it has none.
    let address = u64::from(opened.has(PayloadType::CP));
    assert_eq!(stats.leases, address);
    assert!(host.kernel.holds().is_empty());
    let answer = peer.ask(host, at(1), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(answer.payloads(), []);
}

#[test]
fn a_wrong_pre_shared_key_is_refused_inside_the_encrypted_response() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.secret = b"wrong".to_vec();
    let opened = log_in_with(&mut host, &mut peer, |_| {});
    assert_thrown_out(&mut host, &opened, NotifyType::AUTHENTICATION_FAILED);
    assert!(host.said("pre-shared key mismatch"));
}

#[test]
fn proofs_that_are_none_are_refused() {
    type Change = fn(&mut AuthPayloads);
    let changes: [(&str, Change); 8] = [
        ("no AUTH", |p| p.auth = None),
        ("empty", |p| {
            p.auth = Some((AuthMethod::SHARED_KEY, Vec::new()))
        }),
        ("zeroes", |p| {
            p.auth = Some((AuthMethod::SHARED_KEY, vec![0; 32]));
        }),
        ("truncated", |p| {
            let (_, data) = p.auth.as_mut().unwrap();
            data.pop();
        }),
        ("overlong", |p| {
            let (_, data) = p.auth.as_mut().unwrap();
            data.push(0);
        }),
        ("flipped", |p| {
            let (_, data) = p.auth.as_mut().unwrap();
            data[31] ^= 1;
        }),
        ("another method", |p| {
            p.auth.as_mut().unwrap().0 = AuthMethod::SIGNATURE;
        }),
        ("NULL", |p| p.auth = Some((AuthMethod::NULL, Vec::new()))),
    ];
    for (name, change) in changes {
        let mut host = host();
        let opened = log_in_with(&mut host, &mut Peer::new(1), change);
        assert_eq!(
            opened.notifies(),
            [NotifyType::AUTHENTICATION_FAILED],
            "{name}"
        );
        assert_thrown_out(&mut host, &opened, NotifyType::AUTHENTICATION_FAILED);
        let why = match name {
            "no AUTH" => {
                "no compatible policy found for FQDN/warrior.example: 'gateway' has no EAP"
            }
            "another method" | "NULL" => {
                "peer FQDN/warrior.example policy 'gateway': authentication failed: authentication \
                 method not allowed"
            }
            _ => {
                "peer FQDN/warrior.example policy 'gateway': authentication failed: pre-shared key \
                 mismatch"
            }
        };
        let said = host.lines.iter().filter(|line| line.contains(why));
        assert_eq!(said.count(), 1, "{name}: {:?}", host.lines);
    }
}

#[test]
fn a_proof_for_another_identity_is_refused() {
    let mut host = host();
    let change = |p: &mut AuthPayloads| p.id = setup::fqdn("somebody.else");
    let opened = log_in_with(&mut host, &mut Peer::new(1), change);
    assert_thrown_out(&mut host, &opened, NotifyType::AUTHENTICATION_FAILED);
    let why =
        "peer FQDN/somebody.else policy 'gateway': authentication failed: pre-shared key mismatch";
    assert!(host.said(why), "{:?}", host.lines);
}

#[test]
fn identities_of_impossible_form_are_refused() {
    for (kind, data) in [
        (IdType::IPV4_ADDR, vec![1, 2, 3]),
        (IdType::IPV6_ADDR, vec![1; 17]),
        (IdType::FQDN, vec![]),
        (IdType::KEY_ID, vec![b'x'; 1025]),
    ] {
        let mut host = host();
        let mut peer = Peer::new(1);
        peer.id = iked::policy::Identity { kind, data };
        let opened = log_in_with(&mut host, &mut peer, |_| {});
        assert_thrown_out(&mut host, &opened, NotifyType::AUTHENTICATION_FAILED);
    }
}

#[test]
fn an_identity_that_no_policy_names_is_refused() {
    let mut host = Host::new(
        config([Policy {
            dstid: Some(setup::fqdn("alice")),
            ..gateway()
        }]),
        no_keys(),
        2,
    );
    let opened = log_in_with(&mut host, &mut Peer::new(1), |_| {});
    assert_thrown_out(&mut host, &opened, NotifyType::AUTHENTICATION_FAILED);
    assert_eq!(host.stats().no_policy, 1);
}

#[test]
fn an_ike_auth_without_what_every_one_has_is_bad_syntax() {
    for missing in [
        PayloadType::ID_I,
        PayloadType::SA,
        PayloadType::TS_I,
        PayloadType::TS_R,
    ] {
        let mut host = host();
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let payloads = peer.auth_payloads();
        let mut payloads = payloads.borrow();
        payloads.retain(|payload| payload.kind() != missing);
        let opened = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads);
        assert_thrown_out(&mut host, &opened, NotifyType::INVALID_SYNTAX);
    }
}

#[test]
fn an_ike_auth_with_a_payload_twice_is_bad_syntax() {
    for twice in 0..5 {
        let mut host = host();
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let payloads = peer.auth_payloads();
        let mut payloads = payloads.borrow();
        payloads.push(payloads[twice].clone());
        let opened = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads);
        assert_thrown_out(&mut host, &opened, NotifyType::INVALID_SYNTAX);
    }
}

/// The payloads of IKE_AUTH behind an unknown one.
fn with_unknown(peer: &mut Peer, critical: bool) -> Vec<u8> {
    let payloads = peer.auth_payloads();
    let mut chain = Vec::new();
    let first = encode_payloads(&payloads.borrow(), &mut chain);
    let flags = if critical { 0x80 } else { 0 };
    let mut plaintext = vec![first.0, flags, 0, 6, 1, 2];
    plaintext.extend(chain);
    let header = peer.header(ExchangeType::IKE_AUTH, 1);
    peer.next_id = 2;
    peer.seal_bytes(&header, PayloadType(200), &plaintext)
}

#[test]
fn an_unknown_critical_payload_in_ike_auth_ends_it() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let request = with_unknown(&mut peer, true);
    let answers = peer.send(&mut host, at(0), &request);
    let opened = peer.open(&answers[0].bytes);
    let [Payload::Notify(notify)] = opened.payloads()[..] else {
        panic!("{opened:?}")
    };
    assert_eq!(notify.data, [200]);
    assert_thrown_out(&mut host, &opened, NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD);
}

#[test]
fn an_unknown_payload_that_is_not_critical_is_passed_over() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let request = with_unknown(&mut peer, false);
    let answers = peer.send(&mut host, at(0), &request);
    assert_eq!(peer.open(&answers[0].bytes).notifies(), []);
    assert_eq!(host.stats().sa_established_current, 1);
}

#[test]
fn an_unknown_critical_payload_later_is_refused_and_the_ike_sa_lives_on() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    peer.log_in(&mut host, at(0));
    let header = peer.header(ExchangeType::INFORMATIONAL, 2);
    let request = peer.seal_bytes(&header, PayloadType(200), &[0, 0x80, 0, 4]);
    let answers = peer.send(&mut host, at(1), &request);
    let opened = peer.open(&answers[0].bytes);
    assert_eq!(
        opened.notifies(),
        [NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD]
    );
    peer.next_id = 3;
    let answer = peer.ask(&mut host, at(2), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(answer.payloads(), []);
    assert_eq!(host.kernel.holds().len(), 1);
}

#[test]
fn bad_syntax_of_a_known_peer_ends_the_ike_sa() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    peer.log_in(&mut host, at(0));
    let header = peer.header(ExchangeType::INFORMATIONAL, 2);
    let request = peer.seal_bytes(&header, PayloadType::DELETE, &[0, 0, 0, 99]);
    let answers = peer.send(&mut host, at(1), &request);
    assert_eq!(
        peer.open(&answers[0].bytes).notifies(),
        [NotifyType::INVALID_SYNTAX]
    );
    assert_eq!(host.stats().sa_established_current, 0);
    assert!(host.kernel.holds().is_empty());
    host.wake(at(12));
    assert!(host.endpoint.is_empty());
}

#[test]
fn no_common_proposal_is_refused_in_the_clear_and_leaves_nothing() {
    let mut host = host();
    for offer in [
        setup::ike(Suite::ChaCha20, &[KeId::CURVE25519]),
        setup::ike(Suite::AesGcm, &[KeId::ECP_256]),
    ] {
        let mut peer = Peer::with(1, offer);
        let request = peer.sa_init(&[], &[]);
        let answers = peer.send(&mut host, at(0), &request);
        let refused = (NotifyType::NO_PROPOSAL_CHOSEN, Vec::new());
        assert_eq!(clear_notify(&answers[0]), refused);
        let header = Header::peek(&answers[0].bytes).unwrap();
        assert_eq!(header.initiator_spi, Some(peer.spi_i));
        assert_eq!(header.responder_spi, None);
        assert!(answers[0].bytes.len() <= request.len());
    }
    let stats = host.stats();
    assert!(host.endpoint.is_empty());
    assert_eq!((stats.sa_created, stats.half_open), (0, 0));
    assert_eq!(stats.sa_proposals_negotiate_failures, 2);
    let why =
        "no proposal chosen: 'gateway' has no common IKE proposal, failed to negotiate IKE SA";
    let said = host.lines.iter().filter(|line| line.contains(why));
    assert_eq!(said.count(), 2, "{:?}", host.lines);
}

/// Whatever stage it fails at, one line names the peer and why each policy that comes into question does
/// not let it in.
#[test]
fn who_is_refused_by_every_policy_has_one_line_that_says_why_each_refused() {
    let policy = |name: &str| Policy {
        name: name.to_owned(),
        ..gateway()
    };
    let alice = Policy {
        dstid: Some(setup::fqdn("alice")),
        ..policy("alice")
    };
    let eap = Policy {
        auth: iked::policy::Auth::Eap(iked::policy::Eap::of(iked::policy::EapMethod::MsChapV2)),
        ..policy("passwords")
    };
    let far = Policy {
        peer: Some(setup::net("203.0.113.0/24")),
        ..policy("far")
    };
    let other = Policy {
        ike_proposals: vec![setup::ike(Suite::ChaCha20, &[KeId::CURVE25519])],
        ..policy("ciphers")
    };
    let mut host = Host::new(config([alice, eap, far.clone(), other]), no_keys(), 2);
    let opened = log_in_with(&mut host, &mut Peer::new(1), |_| {});
    assert_thrown_out(&mut host, &opened, NotifyType::AUTHENTICATION_FAILED);
    let why = "no compatible policy found for FQDN/warrior.example: 'alice' wants dstid FQDN/alice, \
               'passwords' wants EAP, 'far' is for another peer address, \
               'ciphers' has other IKE proposals than agreed";
    let said = host.lines.iter().filter(|line| line.contains(why));
    assert_eq!(said.count(), 1, "{:?}", host.lines);
    // Nobody comes from there.
    let mut host = Host::new(config([far]), no_keys(), 2);
    let peer = Peer::new(1).sa_init(&[], &[]);
    assert_eq!(Peer::new(1).send(&mut host, at(0), &peer), []);
    let why = "from 192.0.2.1:500 to 192.0.2.2:500: no compatible policy found: 'far' is for \
               another peer address, failed";
    assert!(host.said(why), "{:?}", host.lines);
}

#[test]
fn no_common_child_proposal_keeps_the_ike_sa() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let change = |p: &mut AuthPayloads| p.child = Some(setup::esp(Suite::ChaCha20));
    let opened = log_in_with(&mut host, &mut peer, change);
    assert_kept_without_child(
        &mut host,
        &mut peer,
        &opened,
        NotifyType::NO_PROPOSAL_CHOSEN,
    );
}

#[test]
fn disjoint_selectors_keep_the_ike_sa() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let change = |p: &mut AuthPayloads| p.ts_r = vec![range("172.16.0.0", "172.16.0.255")];
    let opened = log_in_with(&mut host, &mut peer, change);
    assert_kept_without_child(&mut host, &mut peer, &opened, NotifyType::TS_UNACCEPTABLE);
}

#[test]
fn disjoint_selectors_leave_the_peer_its_address() {
    let policy = setup::pool_gateway("10.8.0.0/30");
    let mut host = Host::new(config([policy]), no_keys(), 2);
    let mut peer = Peer::new(1);
    let change = |p: &mut AuthPayloads| {
        p.ask_address = true;
        p.ts_r = vec![range("172.16.0.0", "172.16.0.255")];
    };
    let opened = log_in_with(&mut host, &mut peer, change);
    assert_kept_without_child(&mut host, &mut peer, &opened, NotifyType::TS_UNACCEPTABLE);
    assert!(opened.address().is_some());
    host.command(at(2), Command::ResetAll);
    assert_eq!(host.stats().leases, 0);
}

fn any_selectors(payloads: &mut AuthPayloads) {
    let any = vec![range("0.0.0.0", "255.255.255.255")];
    (payloads.ts_i, payloads.ts_r) = (any.clone(), any);
    payloads.ask_address = true;
}

#[test]
fn an_empty_pool_keeps_the_ike_sa_and_a_delete_refills_it() {
    let policy = setup::pool_gateway("10.8.0.0/30");
    let mut host = Host::new(config([policy]), no_keys(), 2);
    let mut holders = Vec::new();
    let mut refused = None;
    for seed in 1..10 {
        let mut peer = Peer::new(seed);
        let opened = log_in_with(&mut host, &mut peer, any_selectors);
        match opened.address() {
            Some(address) => holders.push((peer, address)),
            None => {
                refused = Some((peer, opened));
                break;
            }
        }
    }
    let (mut late, opened) = refused.expect("a /30 is exhausted");
    assert_eq!(opened.notifies(), [NotifyType::INTERNAL_ADDRESS_FAILURE]);
    assert!(opened.has(PayloadType::AUTH));
    assert_eq!(host.stats().leases_exhausted, 1);
    assert_eq!(host.stats().leases, holders.len() as u64);
    assert_eq!(
        host.stats().sa_established_current,
        holders.len() as u64 + 1
    );
    let alive = late.ask(&mut host, at(1), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(alive.payloads(), []);
    // No two peers hold one address.
    let mut addresses: Vec<_> = holders.iter().map(|(_, address)| address.clone()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), holders.len());
    // One leaves, and its address is the next one's.
    let (mut leaver, address) = holders.remove(0);
    let delete = Payload::Delete(iked::wire::Delete {
        protocol: ProtocolId::IKE,
        spi_size: 0,
        spis: &[],
    });
    leaver.ask(&mut host, at(1), ExchangeType::INFORMATIONAL, &[delete]);
    assert_eq!(host.stats().leases, holders.len() as u64);
    let opened = log_in_with(&mut host, &mut Peer::new(20), any_selectors);
    assert_eq!(opened.address(), Some(address));
}

#[test]
fn a_peer_that_asks_for_no_address_where_one_is_due_gets_no_child() {
    let policy = setup::pool_gateway("10.8.0.0/24");
    let mut host = Host::new(config([policy]), no_keys(), 2);
    let mut peer = Peer::new(1);
    let opened = log_in_with(&mut host, &mut peer, |_| {});
    assert_kept_without_child(
        &mut host,
        &mut peer,
        &opened,
        NotifyType::FAILED_CP_REQUIRED,
    );
}

#[test]
fn a_kernel_that_refuses_keeps_the_ike_sa() {
    let policy = setup::pool_gateway("10.8.0.0/24");
    let mut host = Host::new(config([policy]), no_keys(), 2);
    host.kernel.mood = Mood::Refusing;
    let mut peer = Peer::new(1);
    let opened = log_in_with(&mut host, &mut peer, any_selectors);
    assert_kept_without_child(&mut host, &mut peer, &opened, NotifyType::TEMPORARY_FAILURE);
    assert_eq!(host.stats().kernel_failures, 1);
    assert!(host.said("add SA: "));
}

#[test]
fn an_initiator_whose_kernel_refuses_is_up_without_a_child() {
    let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    pair.initiator.kernel.mood = Mood::Refusing;
    pair.connect();
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    assert_eq!(pair.initiator.stats().csa_created, 0);
    assert_eq!(pair.initiator.stats().kernel_failures, 1);
}

#[test]
fn a_kernel_that_never_answers_counts_as_refusing_and_keeps_nothing() {
    let mut host = host();
    host.kernel.mood = Mood::Slow;
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    peer.send(&mut host, at(0), &request);
    assert_eq!(host.wake(at(19)), []);
    let answers = host.wake(at(20));
    let opened = peer.open(&answers[0].bytes);
    assert_eq!(opened.notifies(), [NotifyType::TEMPORARY_FAILURE]);
    // It may have been done all the same.
    assert!(host.kernel.holds().is_empty());
    host.answer_kernel(at(21));
    assert_eq!(host.stats().csa_created, 0);
    assert_eq!(host.stats().sa_established_current, 1);
}

#[test]
fn the_kernels_answer_to_a_dead_ike_sa_is_not_taken_by_the_next_one() {
    let mut host = host();
    host.kernel.mood = Mood::Slow;
    let waiting = |host: &mut Host, seed| {
        let mut peer = Peer::new(seed);
        peer.meet(host, at(0));
        let payloads = peer.auth_payloads();
        let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
        assert_eq!(peer.send(host, at(0), &request), []);
    };
    waiting(&mut host, 1);
    host.command(at(0), Command::ResetAll);
    assert!(host.endpoint.is_empty());
    assert!(host.kernel.holds().is_empty());
    // The next one takes the same place in the table.
    waiting(&mut host, 2);
    let id = host.kernel.waiting[0];
    host.endpoint.handle_kernel(at(0), KernelEvent::Done { id });
    assert_eq!(host.wake(at(0)), []);
    assert_eq!(host.stats().sa_established_total, 0);
    assert_eq!(host.answer_kernel(at(0)).len(), 1);
    assert_eq!(host.stats().sa_established_total, 1);
}

#[test]
fn an_exchange_nobody_knows_ends_the_ike_sa_of_a_known_peer() {
    for exchange in [
        ExchangeType(99),
        ExchangeType::IKE_AUTH,
        ExchangeType::IKE_SA_INIT,
    ] {
        let mut host = host();
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        peer.log_in(&mut host, at(0));
        let opened = peer.ask(&mut host, at(1), exchange, &[]);
        assert_eq!(
            opened.notifies(),
            [NotifyType::INVALID_SYNTAX],
            "{exchange}"
        );
        assert!(host.kernel.holds().is_empty());
    }
}

#[test]
fn unprotected_errors_do_not_end_an_initiators_attempt() {
    let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    let first = pair.initiate();
    for kind in [
        NotifyType::NO_PROPOSAL_CHOSEN,
        NotifyType::AUTHENTICATION_FAILED,
        NotifyType::INVALID_SYNTAX,
        NotifyType::INVALID_IKE_SPI,
    ] {
        let forged = forged_answer(&first[0], kind);
        assert_eq!(pair.give(Side::Responder, &forged).1, [], "{kind}");
    }
    pair.run(Side::Initiator, first);
    assert!(pair.is_up(), "{:?}", pair.initiator.lines);
}

fn forged_answer(request: &Datagram, kind: NotifyType) -> Datagram {
    let mut header = Message::decode(&request.bytes).unwrap().header;
    header.flags.initiator = false;
    header.flags.response = true;
    let mut bytes = Vec::new();
    let notify = super::peer::status(kind, &[]);
    iked::wire::encode_message(&header, &[notify], &mut bytes);
    Datagram {
        path: mirrored(request.path),
        bytes,
    }
}

#[test]
fn a_full_house_answers_with_silence() {
    let mut config = config([gateway()]);
    config.settings.half_open_max = 3;
    let mut host = Host::new(config, no_keys(), 2);
    let mut peers: Vec<Peer> = (1..=4).map(Peer::new).collect();
    for (index, peer) in peers.iter_mut().enumerate() {
        let request = peer.sa_init(&[], &[]);
        let answers = peer.send(&mut host, at(0), &request);
        assert_eq!(answers.len(), usize::from(index < 3));
    }
    assert_eq!(host.stats().half_open, 3);
    assert_eq!(host.stats().half_open_refused, 1);
    // One of those inside gets through, and there is room again.
    let mut peer = Peer::new(1);
    let request = peer.sa_init(&[], &[]);
    let answers = peer.send(&mut host, at(0), &request);
    peer.take_sa_init(&answers[0].bytes);
    peer.log_in(&mut host, at(0));
    assert_eq!(host.stats().half_open, 2);
    let request = peers[3].sa_init(&[], &[]);
    assert_eq!(peers[3].send(&mut host, at(1), &request).len(), 1);
}

#[test]
fn a_cookie_is_demanded_only_above_the_threshold() {
    let mut config = config([gateway()]);
    config.settings.cookie_threshold = 2;
    let mut host = Host::new(config, no_keys(), 2);
    let challenged: Vec<bool> = (1..=4)
        .map(|seed| {
            let mut peer = Peer::new(seed);
            let request = peer.sa_init(&[], &[]);
            let answers = peer.send(&mut host, at(0), &request);
            let message = Message::decode(&answers[0].bytes).unwrap();
            matches!(message.payloads[..], [Payload::Notify(_)])
        })
        .collect();
    assert_eq!(challenged, [false, false, true, true]);
    assert_eq!(host.stats().cookies_sent, 2);
}

#[test]
fn half_open_ike_sas_are_dropped_in_time() {
    let mut config = config([gateway()]);
    config.settings.half_open_timeout = Duration::from_secs(30);
    let mut host = Host::new(config, no_keys(), 2);
    for seed in 1..=5 {
        Peer::new(seed).meet(&mut host, at(0));
    }
    assert_eq!(host.stats().half_open, 5);
    assert_eq!(host.wake(at(29)), []);
    assert_eq!(host.endpoint.len(), 5);
    assert_eq!(
        host.endpoint.poll_timeout().map(|(when, _)| when),
        Some(at(30).mono)
    );
    assert_eq!(host.wake(at(30)), []);
    assert!(host.endpoint.is_empty());
    let stats = host.stats();
    assert_eq!((stats.half_open, stats.half_open_timeouts), (0, 5));
    assert_eq!(stats.sa_established_failures, 5);
    assert_eq!(host.endpoint.poll_timeout(), None);
}

#[test]
fn a_peer_that_wants_transport_mode_of_a_tunnel_policy_gets_a_tunnel() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let change = |p: &mut AuthPayloads| p.notifies.push(NotifyType::USE_TRANSPORT_MODE);
    let opened = log_in_with(&mut host, &mut peer, change);
    assert_eq!(opened.notifies(), []);
    assert!(!host.kernel.installed[0].names.transport);
}

/// What the gateway or its peer signs over has the other's nonce and both names in it, so what came from
/// one end is no proof for the other.
#[test]
fn our_own_proof_sent_back_is_refused() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let first = log_in_with(&mut host, &mut peer, |_| {});
    let ours = first.payloads().iter().find_map(|payload| match payload {
        Payload::Auth(auth) => Some((auth.method, auth.data.to_vec())),
        _ => None,
    });
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let change = |p: &mut AuthPayloads| {
        p.id = setup::fqdn("gateway.example");
        p.auth = ours.clone();
    };
    let opened = log_in_with(&mut host, &mut Peer::new(1), change);
    assert_thrown_out(&mut host, &opened, NotifyType::AUTHENTICATION_FAILED);
    let why = "peer FQDN/gateway.example policy 'gateway': authentication failed: pre-shared key mismatch";
    assert!(host.said(why), "{:?}", host.lines);
}
