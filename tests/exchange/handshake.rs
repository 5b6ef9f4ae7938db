//! The way to an established IKE SA, in every suite and with every proof.

use std::net::{IpAddr, SocketAddr};

use iked::policy::{Auth, CfgEntry, Policy, PublicKeyAuth};
use iked::wire::registry::{CfgAttrType, ExchangeType, KeId, NotifyType};

use super::peer::{Peer, clear_notify, range, status};
use super::setup::{self, Suite, config, end, flow, gateway, net, no_keys, warrior};
use super::world::{Host, Mood, Pair, Side, at};

fn psk_pair(change: impl Fn(&mut Policy)) -> Pair {
    let [mut initiator, mut responder] = [warrior(), gateway()];
    change(&mut initiator);
    change(&mut responder);
    Pair::new((initiator, no_keys()), (responder, no_keys()))
}

#[test]
fn every_suite_and_key_exchange_gets_up_with_a_pre_shared_key() {
    for suite in [Suite::AesGcm, Suite::AesCbcSha256, Suite::ChaCha20] {
        for method in [
            KeId::CURVE25519,
            KeId::ECP_256,
            KeId::MODP_2048,
            KeId::SNTRUP761X25519,
        ] {
            let mut pair = psk_pair(|policy| {
                policy.ike_proposals = vec![setup::ike(suite, &[method])];
                policy.child_proposals = vec![setup::esp(suite)];
            });
            pair.connect();
            assert!(
                pair.is_up(),
                "{suite:?} {method}: {:?}",
                pair.responder.lines
            );
            // IKE_SA_INIT and IKE_AUTH, each with its answer, and nothing else.
            assert_eq!(pair.passed.len(), 4);
            let stats = pair.responder.stats();
            assert_eq!(stats.half_open, 0);
            assert_eq!(stats.csa_created, 2);
            assert_eq!(stats.sa_established_failures, 0);
        }
    }
}

#[test]
fn ecdsa_and_rsa_keys_prove_both_sides() {
    let ecdsa = [setup::ecdsa(), setup::ecdsa()];
    for keys in [&ecdsa, setup::rsa()] {
        let [initiator, responder] = setup::with_keys(&keys[0], &keys[1]);
        let mut pair = Pair::new(initiator, responder);
        pair.connect();
        assert!(pair.is_up(), "{:?}", pair.responder.lines);
    }
}

#[test]
fn an_ecdsa_client_and_an_rsa_gateway_understand_each_other() {
    let [initiator, responder] = setup::with_keys(&setup::ecdsa(), &setup::rsa()[0]);
    let mut pair = Pair::new(initiator, responder);
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
}

#[test]
fn a_key_that_is_not_on_file_gets_nobody_in() {
    let [initiator, _] = setup::with_keys(&setup::ecdsa(), &setup::ecdsa());
    let [_, responder] = setup::with_keys(&setup::ecdsa(), &setup::ecdsa());
    let mut pair = Pair::new(initiator, responder);
    pair.connect();
    assert!(pair.responder.said("authentication failed"));
    assert_eq!(pair.responder.stats().sa_established_total, 0);
    assert_eq!(pair.initiator.stats().sa_established_total, 0);
}

#[test]
fn the_right_key_under_another_name_gets_nobody_in() {
    let [(mut policy, store), responder] = setup::with_keys(&setup::ecdsa(), &setup::ecdsa());
    policy.srcid = setup::fqdn("somebody.else");
    let mut pair = Pair::new((policy, store), responder);
    pair.connect();
    assert!(pair.responder.said("no public key for this identity"));
    assert_eq!(pair.responder.stats().sa_established_total, 0);
}

#[test]
fn a_policy_for_ecdsa_refuses_an_rsa_signature() {
    let [initiator, (mut policy, store)] = setup::with_keys(&setup::rsa()[0], &setup::ecdsa());
    policy.auth = Auth::PublicKey(PublicKeyAuth::Ecdsa256);
    let mut pair = Pair::new(initiator, (policy, store));
    pair.connect();
    assert_eq!(pair.responder.stats().sa_established_total, 0);
    assert_eq!(pair.responder.stats().sa_established_failures, 1);
}

#[test]
fn the_initiator_refuses_a_gateway_that_cannot_prove_itself() {
    // The gateway lets this client in, but holds another key than the client has on file for it.
    let [ours, theirs] = [setup::ecdsa(), setup::ecdsa()];
    let [initiator, _] = setup::with_keys(&ours, &setup::ecdsa());
    let [_, responder] = setup::with_keys(&ours, &theirs);
    let mut pair = Pair::new(initiator, responder);
    pair.connect();
    assert_eq!(pair.initiator.stats().sa_established_total, 0);
    assert!(pair.initiator.kernel.installed.is_empty());
    // It says so with a Delete, and the gateway keeps nothing for it.
    assert_eq!(pair.responder.stats().sa_established_current, 0);
    assert!(pair.responder.kernel.holds().is_empty());
}

#[test]
fn the_initiator_refuses_a_gateway_of_another_name() {
    let mut initiator = warrior();
    initiator.dstid = Some(setup::fqdn("another.example"));
    let mut responder = gateway();
    responder.dstid = Some(setup::fqdn("warrior.example"));
    let mut pair = Pair::new((initiator, no_keys()), (responder, no_keys()));
    pair.connect();
    assert_eq!(pair.initiator.stats().sa_established_total, 0);
    assert_eq!(pair.responder.stats().sa_established_current, 0);
}

#[test]
fn a_wrong_key_exchange_is_asked_for_anew_on_the_same_spi() {
    let mut initiator = warrior();
    initiator.ike_proposals = vec![setup::ike(
        Suite::AesGcm,
        &[KeId::CURVE25519, KeId::ECP_256],
    )];
    let mut responder = gateway();
    responder.ike_proposals = vec![setup::ike(Suite::AesGcm, &[KeId::ECP_256])];
    let mut pair = Pair::new((initiator, no_keys()), (responder, no_keys()));
    let first = pair.initiate();
    let (_, refusal) = pair.give(Side::Initiator, &first[0]);
    let wanted = KeId::ECP_256.0.to_be_bytes().to_vec();
    assert_eq!(
        clear_notify(&refusal[0]),
        (NotifyType::INVALID_KE_PAYLOAD, wanted)
    );
    assert_eq!(pair.responder.endpoint.len(), 0);
    let (_, second) = pair.give(Side::Responder, &refusal[0]);
    assert_eq!(second[0].bytes[..8], first[0].bytes[..8]);
    pair.run(Side::Initiator, second);
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
}

#[test]
fn invalid_ke_answers_are_not_rationed() {
    // A thousand clients that guess wrong come back at once after an outage.
    let mut policy = gateway();
    policy.ike_proposals = vec![setup::ike(Suite::AesGcm, &[KeId::ECP_256])];
    let mut host = Host::new(config([policy]), no_keys(), 2);
    let offer = setup::ike(Suite::AesGcm, &[KeId::CURVE25519, KeId::ECP_256]);
    for seed in 0..200 {
        let mut peer = Peer::with(seed, offer.clone());
        let request = peer.sa_init(&[], &[]);
        let answers = peer.send(&mut host, at(0), &request);
        assert_eq!(answers.len(), 1, "client {seed} got no answer");
    }
}

#[test]
fn a_cookie_is_demanded_before_any_state_and_then_honoured() {
    let mut settings = config([gateway()]);
    settings.settings.cookie_threshold = 0;
    let responder = Host::new(settings, no_keys(), 2);
    let initiator = Host::new(config([warrior()]), no_keys(), 1);
    let mut pair = Pair::of(initiator, responder);
    let first = pair.initiate();
    let (_, challenge) = pair.give(Side::Initiator, &first[0]);
    let (kind, cookie) = clear_notify(&challenge[0]);
    assert_eq!(kind, NotifyType::COOKIE);
    assert_eq!(pair.responder.endpoint.len(), 0);
    assert_eq!(pair.responder.stats().sa_created, 0);
    let (_, second) = pair.give(Side::Responder, &challenge[0]);
    assert_eq!(second[0].bytes[..8], first[0].bytes[..8]);
    assert!(
        second[0].bytes.windows(cookie.len()).any(|w| w == cookie),
        "the cookie comes back"
    );
    pair.run(Side::Initiator, second);
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    assert_eq!(pair.responder.stats().cookies_sent, 1);
    assert_eq!(pair.responder.stats().cookies_wrong, 0);
}

#[test]
fn a_cookie_then_another_key_exchange_still_gets_up() {
    let mut settings = config([Policy {
        ike_proposals: vec![setup::ike(Suite::AesGcm, &[KeId::ECP_256])],
        ..gateway()
    }]);
    settings.settings.cookie_threshold = 0;
    let mut initiator = warrior();
    initiator.ike_proposals = vec![setup::ike(
        Suite::AesGcm,
        &[KeId::CURVE25519, KeId::ECP_256],
    )];
    let initiator = Host::new(config([initiator]), no_keys(), 1);
    let mut pair = Pair::of(initiator, Host::new(settings, no_keys(), 2));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    assert_eq!(pair.responder.stats().cookies_sent, 1);
}

#[test]
fn a_forged_cookie_is_answered_with_another_challenge() {
    let mut settings = config([gateway()]);
    settings.settings.cookie_threshold = 0;
    let mut host = Host::new(settings, no_keys(), 2);
    let mut peer = Peer::new(1);
    let request = peer.sa_init(&[], &[]);
    let challenge = peer.send(&mut host, at(0), &request);
    let (_, mut cookie) = clear_notify(&challenge[0]);
    let last = cookie.len() - 1;
    cookie[last] ^= 1;
    let forged = peer.sa_init(&[status(NotifyType::COOKIE, &cookie)], &[]);
    let again = peer.send(&mut host, at(0), &forged);
    assert_eq!(clear_notify(&again[0]).0, NotifyType::COOKIE);
    assert_eq!(host.stats().cookies_wrong, 1);
    // The right cookie from another address is as good as none.
    cookie[last] ^= 1;
    let moved = peer.sa_init(&[status(NotifyType::COOKIE, &cookie)], &[]);
    let mut path = super::world::mirrored(peer.path);
    path.remote = "198.51.100.9:500".parse().unwrap();
    let answers = host.receive(at(0), path, &moved);
    assert_eq!(clear_notify(&answers[0]).0, NotifyType::COOKIE);
    assert_eq!(host.endpoint.len(), 0);
}

#[test]
fn a_road_warrior_gets_an_address_and_selectors_for_it() {
    let pools = (setup::pool_gateway("10.8.0.0/24"), no_keys());
    let mut pair = Pair::new((setup::pool_warrior(), no_keys()), pools);
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    let installed = &pair.responder.kernel.installed[0];
    let [pair_of_selectors] = installed.names.selectors.as_slice() else {
        panic!("{installed:?}")
    };
    assert_eq!(pair_of_selectors.local, net("10.1.0.0/16"));
    assert!(net("10.8.0.0/24").contains(pair_of_selectors.remote.addr));
    assert_eq!(pair_of_selectors.remote.len, 32);
    assert_eq!(pair.responder.stats().leases, 1);
}

#[test]
fn the_answer_waits_for_the_kernel() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    host.kernel.mood = Mood::Slow;
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    assert_eq!(peer.send(&mut host, at(0), &request), []);
    // A repetition meanwhile is neither answered nor worked on twice.
    assert_eq!(peer.send(&mut host, at(1), &request), []);
    assert_eq!(host.stats().msg_rcvd_busy, 1);
    assert_eq!(host.kernel.waiting.len(), 1);
    assert_eq!(host.stats().sa_established_total, 0);
    let answers = host.answer_kernel(at(1));
    let opened = peer.open(&answers[0].bytes);
    assert_eq!(opened.notifies(), []);
    assert_eq!(host.stats().sa_established_current, 1);
    // From now on the repetition gets the answer.
    assert_eq!(
        peer.send(&mut host, at(2), &request)[0].bytes,
        answers[0].bytes
    );
}

#[test]
fn decoupled_hosts_get_up_without_asking_the_kernel() {
    let host = |policy, seed| {
        let mut config = config([policy]);
        config.settings.couple = false;
        Host::new(config, no_keys(), seed)
    };
    let mut pair = Pair::of(host(warrior(), 1), host(gateway(), 2));
    pair.connect();
    for host in [&pair.initiator, &pair.responder] {
        assert_eq!(host.stats().sa_established_current, 1);
        assert_eq!(host.stats().csa_created, 2);
        assert!(host.kernel.installed.is_empty());
    }
    let shown = pair.responder.show(at(0));
    assert!(shown.iter().any(|line| line.contains("sa_childsas")));
    // Nothing was loaded, so nothing is unloaded.
    let sent = pair.responder.command(at(0), iked::ike::Command::ResetSa);
    pair.run(Side::Responder, sent);
    assert!(pair.initiator.kernel.removed.is_empty());
    assert!(pair.responder.kernel.removed.is_empty());
}

#[test]
fn behind_a_nat_both_sides_float_to_4500_and_encapsulate() {
    let mut pair = psk_pair(|_| {});
    pair.nat = Some(|inside| SocketAddr::new([203, 0, 113, 7].into(), inside.port() + 10_000));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    let (_, auth) = &pair.passed[2];
    assert_eq!((auth.path.remote.port(), auth.path.marker), (4500, true));
    let encap = pair.responder.kernel.installed[0].encap.unwrap();
    assert_eq!((encap.local_port, encap.remote_port), (4500, 14_500));
    assert_eq!(
        pair.responder.kernel.installed[0].names.remote,
        IpAddr::from([203, 0, 113, 7])
    );
    assert!(pair.initiator.kernel.installed[0].encap.is_some());
}

#[test]
fn without_a_nat_nothing_is_encapsulated() {
    let mut pair = psk_pair(|_| {});
    pair.connect();
    assert_eq!(pair.responder.kernel.installed[0].encap, None);
    assert_eq!(pair.initiator.kernel.installed[0].encap, None);
    // RFC 4555, 3.3: MOBIKE changes the port all the same.
    assert_eq!(pair.passed[2].1.path.remote.port(), 4500);
}

#[test]
fn an_initiator_that_does_not_know_its_address_encapsulates_as_the_gateway_does() {
    // Its hash of 0.0.0.0 looks like a NAT to the gateway; both must draw the same conclusion.
    let mut initiator = warrior();
    initiator.local = None;
    let mut pair = Pair::new((initiator, no_keys()), (gateway(), no_keys()));
    pair.nat = Some(|inside| SocketAddr::new(setup::WARRIOR, inside.port()));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    let encap = |host: &Host| host.kernel.installed[0].encap.is_some();
    assert_eq!(encap(&pair.initiator), encap(&pair.responder));
}

#[test]
fn ipv6_hosts_get_up() {
    let [mut initiator, mut responder] = [warrior(), gateway()];
    let host = |text: &str| Some(net(&format!("{text}/128")));
    initiator.local = host("2001:db8::1");
    initiator.peer = host("2001:db8::2");
    initiator.flows = vec![flow(end("fd02::/64"), end("fd01::/64"))];
    responder.flows = vec![flow(end("fd01::/64"), end("fd02::/64"))];
    let mut pair = Pair::new((initiator, no_keys()), (responder, no_keys()));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
}

#[test]
fn an_ipv6_address_is_leased() {
    let mut responder = setup::pool_gateway("10.8.0.0/24");
    responder.config = vec![CfgEntry {
        attribute: CfgAttrType::INTERNAL_IP6_ADDRESS,
        value: net("fd08::/112"),
        is_pool: true,
    }];
    let v6 = iked::policy::FlowEnd {
        dynamic: true,
        ..end("::/0")
    };
    responder.flows = vec![flow(end("fd01::/64"), v6)];
    let mut initiator = setup::pool_warrior();
    initiator.flows = vec![flow(v6, end("fd01::/64"))];
    initiator.request = vec![(CfgAttrType::INTERNAL_IP6_ADDRESS, None)];
    let mut pair = Pair::new((initiator, no_keys()), (responder, no_keys()));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    let remote = pair.responder.kernel.installed[0].names.selectors[0].remote;
    assert!(net("fd08::/112").contains(remote.addr));
}

#[test]
fn a_wider_offer_is_narrowed_in_the_answer() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    let any = vec![range("0.0.0.0", "255.255.255.255")];
    (payloads.ts_i, payloads.ts_r) = (any.clone(), any);
    let opened = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads.borrow());
    let selectors: Vec<_> = opened
        .payloads()
        .into_iter()
        .filter_map(|payload| match payload {
            iked::wire::Payload::TsI(list) | iked::wire::Payload::TsR(list) => Some(list),
            _ => None,
        })
        .collect();
    let [ts_i, ts_r] = selectors.as_slice() else {
        panic!("{selectors:?}")
    };
    assert_eq!(*ts_i, [range("10.2.0.0", "10.2.255.255")]);
    assert_eq!(*ts_r, [range("10.1.0.0", "10.1.255.255")]);
}

#[test]
fn the_identity_chooses_the_policy_after_the_address_did() {
    let policy = |name: &str, secret: &[u8]| Policy {
        name: name.to_owned(),
        dstid: Some(setup::fqdn(name)),
        auth: setup::psk(secret),
        ..gateway()
    };
    let policies = [
        policy("alice", b"alices secret"),
        policy("bob", b"bobs secret"),
    ];
    let mut host = Host::new(config(policies), no_keys(), 2);
    for (seed, name, secret, welcome) in [
        (1, "alice", b"alices secret".as_slice(), true),
        (2, "bob", b"bobs secret", true),
        (3, "bob", b"alices secret", false),
        (4, "carol", b"bobs secret", false),
    ] {
        let mut peer = Peer::new(seed);
        peer.id = setup::fqdn(name);
        peer.secret = secret.to_vec();
        peer.meet(&mut host, at(0));
        let opened = peer.log_in(&mut host, at(0));
        let refused = opened.notifies() == [NotifyType::AUTHENTICATION_FAILED];
        assert_eq!(refused, !welcome, "{name}");
    }
}
