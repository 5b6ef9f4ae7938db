//! Post-quantum pre-shared keys (RFC 8784): both ends are ours, or the initiator is made by hand.

use std::sync::Arc;
use std::time::Duration;

use iked::auth::{octets, psk};
use iked::crypto::keymat::Mixed;
use iked::crypto::ocsp::Status;
use iked::kernel::ChildInstall;
use iked::lookup::port::Answer;
use iked::policy::{Auth, Config, EapMethod, Policy, Ppk, PublicKeyAuth, Secret};
use iked::wire::registry::{ExchangeType, KeId, NotifyType, PayloadType};
use iked::wire::{Id, Message, Payload};

use super::asking::{answer, asked, host_by};
use super::impostor::{is_told_that_it_failed, nothing_is_left, prf};
use super::peer::{Opened, Peer, status};
use super::setup::{self, Suite, config, gateway, no_keys, warrior};
use super::world::{Host, Pair, Side, at};

const AUTH: ExchangeType = ExchangeType::IKE_AUTH;
const BOTH: [Side; 2] = [Side::Initiator, Side::Responder];

/// A PPK with another secret than is usual.
fn ppk(id: &str, secret: &[u8]) -> Ppk {
    Ppk {
        secret: Secret::new(secret.to_vec()),
        ..setup::ppk(id)
    }
}

fn ppks(ids: &[&str]) -> Vec<Ppk> {
    ids.iter().map(|id| setup::ppk(id)).collect()
}

fn with(policy: Policy, ppks: Vec<Ppk>) -> Policy {
    Policy { ppks, ..policy }
}

fn pair(initiator: &[&str], responder: &[&str]) -> Pair {
    Pair::new(
        (with(warrior(), ppks(initiator)), no_keys()),
        (with(gateway(), ppks(responder)), no_keys()),
    )
}

/// The keys of the first Child SA.
fn child_key(host: &Host) -> Vec<u8> {
    let install: &ChildInstall = host.kernel.installed.first().unwrap();
    install.keys.inbound_encr.expose().to_vec()
}

/// The keys that the same pair has without any PPK: all else is drawn from the same seeds.
fn plain_key() -> Vec<u8> {
    let mut pair = pair(&[], &[]);
    pair.connect();
    assert!(pair.is_up());
    child_key(&pair.initiator)
}

fn assert_mixed(pair: &Pair, id: &str) {
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    for host in [&pair.initiator, &pair.responder] {
        let line = format!("PPK '{id}' is in the keys");
        assert!(host.said(&line), "{:?}", host.lines);
    }
}

fn assert_unmixed(pair: &Pair) {
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    for host in [&pair.initiator, &pair.responder] {
        assert!(!host.said("is in the keys"), "{:?}", host.lines);
    }
}

/// Nobody got in, and nothing is left after a while.
fn assert_nobody_got_in(pair: &mut Pair) {
    pair.assert_nothing_is_left();
    assert_eq!(pair.initiator.stats().sa_established_total, 0);
}

#[test]
fn a_ppk_that_both_know_is_in_the_keys_of_the_child_sa() {
    let plain = plain_key();
    let rows: [(&[&str], &[&str], &str); 6] = [
        (&["one"], &["one"], "one"),
        (&["one!"], &["one!"], "one"),
        (&["one!"], &["one"], "one"),
        (&["one"], &["one!"], "one"),
        // Which one is for the initiator to say.
        (&["two", "one"], &["one", "two", "three"], "two"),
        (&["three"], &["one!", "two", "three"], "three"),
    ];
    for (initiator, responder, id) in rows {
        let mut pair = pair(initiator, responder);
        pair.connect();
        assert_mixed(&pair, id);
        assert_ne!(child_key(&pair.initiator), plain, "{initiator:?}");
    }
}

#[test]
fn who_has_none_or_another_gets_up_without_where_neither_requires_one() {
    let plain = plain_key();
    let rows: [(&[&str], &[&str], [bool; 2]); 4] = [
        (&["one"], &[], [true, false]),
        (&[], &["one"], [false, true]),
        (&["one"], &["two"], [true, true]),
        (&["one", "two"], &["two"], [true, true]),
    ];
    for (initiator, responder, audited) in rows {
        let mut pair = pair(initiator, responder);
        pair.connect();
        assert_unmixed(&pair);
        assert_eq!(child_key(&pair.initiator), plain, "{initiator:?}");
        let said = BOTH.map(|side| pair.host(side).said("has a PPK, but none is used"));
        assert_eq!(said, audited, "{initiator:?} {responder:?}");
    }
}

#[test]
fn who_requires_one_gets_up_with_nobody_that_has_none_or_another() {
    // Where the initiator hears no USE_PPK it waits for a better answer, and gives up.
    let missing = "IKE_SA_INIT response 0 from 192.0.2.2:500 dropped: authentication failed: \
                   PPK: required, and the responder has none";
    let rows: [(&[&str], &[&str], Side, &str); 6] = [
        (&["one!"], &[], Side::Initiator, missing),
        (
            &[],
            &["one!"],
            Side::Responder,
            "PPK: required, and the peer has none",
        ),
        (
            &["one!"],
            &["two"],
            Side::Responder,
            "PPK: unknown ID 'one'",
        ),
        (
            &["one"],
            &["two!"],
            Side::Responder,
            "PPK: unknown ID 'one'",
        ),
        (
            &["one!"],
            &["two!"],
            Side::Responder,
            "PPK: unknown ID 'one'",
        ),
        // By its length alone it is another.
        (
            &["one!"],
            &["one1!"],
            Side::Responder,
            "PPK: unknown ID 'one'",
        ),
    ];
    for (initiator, responder, side, why) in rows {
        let mut pair = pair(initiator, responder);
        pair.connect();
        pair.assert_said_once(side, why);
        assert_nobody_got_in(&mut pair);
    }
}

#[test]
fn another_secret_of_the_same_name_gets_nobody_in() {
    // Whether it is required or not: who names a PPK that is known must have it.
    for id in ["one", "one!"] {
        let ours = vec![ppk(id, b"a secret")];
        let theirs = vec![ppk(id, b"another secret")];
        let mut pair = Pair::new(
            (with(warrior(), ours), no_keys()),
            (with(gateway(), theirs), no_keys()),
        );
        pair.connect();
        let why = "authentication failed: pre-shared key mismatch with PPK 'one'";
        assert!(pair.responder.said(why), "{:?}", pair.responder.lines);
        assert_nobody_got_in(&mut pair);
    }
}

#[test]
fn public_keys_are_proven_with_the_ppk_or_without() {
    let keys = [setup::ecdsa(), setup::ecdsa()];
    for ((ours, theirs), mixed) in [
        (("one", "one"), true),
        (("one!", "one!"), true),
        (("one", "two"), false),
    ] {
        let [(initiator, store_i), (responder, store_r)] = setup::with_keys(&keys[0], &keys[1]);
        let mut pair = Pair::new(
            (with(initiator, ppks(&[ours])), store_i),
            (with(responder, ppks(&[theirs])), store_r),
        );
        pair.connect();
        if mixed {
            assert_mixed(&pair, "one");
        } else {
            assert_unmixed(&pair);
        }
    }
    let [(initiator, store_i), (responder, store_r)] = setup::with_keys(&keys[0], &keys[1]);
    let mut pair = Pair::new(
        (with(initiator, vec![ppk("one", b"a secret")]), store_i),
        (with(responder, vec![ppk("one", b"another")]), store_r),
    );
    pair.connect();
    assert!(pair.responder.said("signature: "));
    assert!(pair.responder.said(" with PPK 'one'"));
    assert_nobody_got_in(&mut pair);
}

/// Both ends of EAP by this method, with these PPKs.
fn eap(method: EapMethod, initiator: &[&str], responder: &[&str]) -> Pair {
    eap_with(method, ppks(initiator), ppks(responder))
}

fn eap_with(method: EapMethod, initiator: Vec<Ppk>, responder: Vec<Ppk>) -> Pair {
    let [client, server] = setup::with_passwords(&[method], &[method], "secret");
    let host = |(mut config, store): (Config, _), ppks, seed| {
        Arc::make_mut(&mut config.policies[0]).ppks = ppks;
        Host::new(config, store, seed)
    };
    Pair::of(host(client, initiator, 1), host(server, responder, 2))
}

#[test]
fn with_eap_the_last_proofs_of_both_are_made_with_the_ppk() {
    // With a key of the method, and without one.
    for method in [EapMethod::MsChapV2, EapMethod::Gtc] {
        for ids in ["one", "one!"] {
            let mut pair = eap(method, &[ids], &["two", ids]);
            pair.connect();
            assert_mixed(&pair, "one");
        }
        for (initiator, responder) in [("one", "two"), ("one", ""), ("", "one")] {
            let ids = |id: &'static str| if id.is_empty() { vec![] } else { vec![id] };
            let mut pair = eap(method, &ids(initiator), &ids(responder));
            pair.connect();
            assert_unmixed(&pair);
        }
    }
}

#[test]
fn with_eap_who_has_not_the_ppk_that_is_required_is_not_let_in() {
    let method = EapMethod::MsChapV2;
    // It is not even asked for its name.
    let mut pair = eap(method, &[], &["one!"]);
    pair.connect();
    let lacks = "PPK: required, and the peer has none";
    assert!(pair.responder.said(lacks), "{:?}", pair.responder.lines);
    assert!(!pair.responder.said("EAP user"));
    assert_nobody_got_in(&mut pair);
    for (initiator, responder) in [("one!", "two"), ("one", "two!")] {
        let mut pair = eap(method, &[initiator], &[responder]);
        pair.connect();
        let unknown = "PPK: unknown ID 'one'";
        assert!(pair.responder.said(unknown), "{:?}", pair.responder.lines);
        assert_nobody_got_in(&mut pair);
    }
}

#[test]
fn with_eap_another_secret_of_the_same_name_gets_nobody_in() {
    for method in [EapMethod::MsChapV2, EapMethod::Gtc] {
        let mut pair = eap_with(method, ppks(&["one"]), vec![ppk("one", b"another")]);
        pair.connect();
        let why = "pre-shared key mismatch with PPK 'one'";
        assert!(pair.responder.said(why), "{:?}", pair.responder.lines);
        assert_nobody_got_in(&mut pair);
    }
}

#[test]
fn a_peer_that_the_shards_are_asked_about_has_the_ppk_as_well() {
    for (ids, mixed) in [("one!", true), ("one", true), ("two", false)] {
        let server = with(setup::pool_gateway("10.8.0.0/24"), ppks(&["one"]));
        let mut server = config([server]);
        server.settings.sticky_address = true;
        let client = config([with(setup::pool_warrior(), ppks(&[ids]))]);
        let [initiator, responder] =
            [(client, 1), (server, 2)].map(|(config, seed)| Host::new(config, no_keys(), seed));
        let mut pair = Pair::of(initiator, responder);
        pair.connect();
        if mixed {
            assert_mixed(&pair, "one");
        } else {
            assert_unmixed(&pair);
        }
    }
}

#[test]
fn a_handshake_that_waits_for_what_the_outside_says_has_the_ppk_as_well() {
    for side in BOTH {
        for (ours, theirs) in [("one!", "one!"), ("one", "one"), ("one", "two")] {
            let auth = || Auth::PublicKey(PublicKeyAuth::Any);
            let host = |policy, ids, name, one, seed| {
                host_by(auth(), with(policy, ppks(&[ids])), name, one == side, seed)
            };
            let mut pair = Pair::of(
                host(warrior(), ours, "good", Side::Initiator, 1),
                host(gateway(), theirs, "revoked", Side::Responder, 2),
            );
            pair.connect();
            while let Some(lookup) = pair.host(side.other()).endpoint.poll_lookup() {
                answer(&mut pair, side.other(), &lookup, Answer::Own(None));
            }
            assert!(!pair.is_up(), "{side:?}");
            let lookup = asked(&mut pair, side);
            answer(&mut pair, side, &lookup, Answer::Ocsp(Ok(Status::Good)));
            if ours == theirs {
                assert_mixed(&pair, "one");
            } else {
                assert_unmixed(&pair);
            }
        }
    }
}

#[test]
fn use_ppk_is_said_again_with_a_cookie_and_with_another_key_exchange() {
    let methods = [KeId::CURVE25519, KeId::ECP_256];
    let client = Policy {
        ike_proposals: vec![setup::ike(Suite::AesGcm, &methods)],
        ..with(warrior(), ppks(&["one!"]))
    };
    let server = Policy {
        ike_proposals: vec![setup::ike(Suite::AesGcm, &methods[1..])],
        ..with(gateway(), ppks(&["one!"]))
    };
    let mut server = config([server]);
    server.settings.cookie_threshold = 0;
    let mut pair = Pair::of(
        Host::new(config([client]), no_keys(), 1),
        Host::new(server, no_keys(), 2),
    );
    pair.connect();
    assert_mixed(&pair, "one");
    let requests = pair.passed.iter().filter(|(side, datagram)| {
        let message = Message::decode(&datagram.bytes).unwrap();
        let says = |payload: &Payload<'_>| matches!(payload, Payload::Notify(n) if n.kind == NotifyType::USE_PPK);
        *side == Side::Initiator && message.payloads.iter().any(says)
    });
    assert_eq!(requests.count(), 3);
}

#[test]
fn an_ike_sa_and_child_sas_are_rekeyed_from_the_mixed_keys() {
    for side in BOTH {
        let lived = |policy, one| Policy {
            ike_lifetime: Duration::from_secs(if one == side { 300 } else { 0 }),
            ..with(policy, ppks(&["one!"]))
        };
        let initiator = (lived(warrior(), Side::Initiator), no_keys());
        let responder = (lived(gateway(), Side::Responder), no_keys());
        let mut pair = Pair::new(initiator, responder);
        pair.connect();
        assert_mixed(&pair, "one");
        // Long enough for probes on the new one, which only its keys can answer.
        pair.pass_time(500);
        for side in BOTH {
            let host = pair.host(side);
            let stats = host.stats();
            assert_eq!(stats.sa_rekeyed, 1, "{side:?} {:?}", host.lines);
            assert_eq!(stats.sa_established_current, 1, "{side:?}");
            // A PPK is for the first IKE SA alone (RFC 8784, 3).
            let lines = host.lines.iter();
            let mixed = lines.filter(|line| line.contains("is in the keys"));
            assert_eq!(mixed.count(), 1);
        }
    }
}

#[test]
fn it_is_said_only_to_who_says_it_and_only_where_there_is_one_for_it() {
    let elsewhere = Policy {
        peer: Some(setup::net("198.51.100.0/24")),
        ..with(gateway(), ppks(&["one"]))
    };
    let rows = [
        (config([with(gateway(), ppks(&["one"]))]), true, true),
        (config([with(gateway(), ppks(&["one"]))]), false, false),
        (config([gateway()]), true, false),
        (config([elsewhere, gateway()]), true, false),
        // Which policy it will be is known by the identity only.
        (
            config([with(gateway(), ppks(&["one"])), gateway()]),
            true,
            true,
        ),
    ];
    for (number, (config, said, answered)) in rows.into_iter().enumerate() {
        let mut host = Host::new(config, no_keys(), 2);
        let mut peer = Peer::new(1);
        let notify = [status(NotifyType::USE_PPK, &[])];
        let last: &[Payload<'_>] = if said { &notify } else { &[] };
        let request = peer.sa_init(&[], last);
        let answers = peer.send(&mut host, at(0), &request);
        let message = Message::decode(&answers[0].bytes).unwrap();
        let says =
            |p: &Payload<'_>| matches!(p, Payload::Notify(n) if n.kind == NotifyType::USE_PPK);
        let has = message.payloads.iter().any(says);
        assert_eq!(has, answered, "{number}");
    }
}

/// An initiator made by hand that has said USE_PPK to a gateway with these.
fn met(ids: &[&str]) -> (Host, Peer) {
    let mut host = Host::new(config([with(gateway(), ppks(ids))]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet_with(&mut host, at(0), &[status(NotifyType::USE_PPK, &[])]);
    (host, peer)
}

/// The initiator's AUTH data with these SK_pi.
fn proof(peer: &Peer, mixed: Option<&Mixed>) -> Vec<u8> {
    let keys = peer.keys.as_ref().unwrap();
    let (sk_pi, _) = keys.proving(mixed);
    let (kind, data) = (peer.id.kind, &peer.id.data);
    let body = Id { kind, data }.body();
    let (request, nonce) = (&peer.request, &peer.nonce_r);
    let octets = octets::signed_octets(request, nonce, prf(), sk_pi.expose(), &body);
    psk::shared_key_auth(prf(), &peer.secret, &octets)
}

fn mixed(peer: &Peer, id: &str) -> Mixed {
    let keys = peer.keys.as_ref().unwrap();
    let secret = ppks(&[id]).remove(0).secret;
    keys.mix(prf(), secret.expose()).unwrap()
}

/// IKE_AUTH with this proof and these notifications.
fn ask(host: &mut Host, peer: &mut Peer, auth: Vec<u8>, notes: &[(NotifyType, &[u8])]) -> Opened {
    let mut payloads = peer.auth_payloads();
    payloads.auth = payloads.auth.map(|(method, _)| (method, auth));
    let mut payloads = payloads.borrow();
    payloads.extend(notes.iter().map(|(kind, data)| status(*kind, data)));
    peer.ask(host, at(0), AUTH, &payloads)
}

const IDENTITY: NotifyType = NotifyType::PPK_IDENTITY;
const PLAIN: NotifyType = NotifyType::NO_PPK_AUTH;

#[test]
fn a_gateway_says_whether_it_has_taken_the_ppk() {
    let (mut host, mut peer) = met(&["one"]);
    let keys = mixed(&peer, "one");
    let auth = proof(&peer, Some(&keys));
    let opened = ask(&mut host, &mut peer, auth, &[(IDENTITY, b"\x02one")]);
    assert!(opened.has(PayloadType::SA));
    assert!(opened.notifies().contains(&IDENTITY));
    let (mut host, mut peer) = met(&["one"]);
    let keys = mixed(&peer, "two");
    let (auth, plain) = (proof(&peer, Some(&keys)), proof(&peer, None));
    let notes = [(IDENTITY, &b"\x02two"[..]), (PLAIN, &plain)];
    let opened = ask(&mut host, &mut peer, auth, &notes);
    assert!(opened.has(PayloadType::SA), "{:?}", host.lines);
    assert!(!opened.notifies().contains(&IDENTITY));
}

#[test]
fn every_proof_that_is_not_the_right_one_is_refused_with_one_line() {
    type Notes<'a> = Vec<(NotifyType, &'a [u8])>;
    let (mut host, mut peer) = met(&["one", "two"]);
    let one = mixed(&peer, "one");
    let [good, other, plain] = [
        proof(&peer, Some(&one)),
        proof(&peer, Some(&mixed(&peer, "two"))),
        proof(&peer, None),
    ];
    let mut forged = plain.clone();
    forged[0] ^= 1;
    let mismatch = "authentication failed: pre-shared key mismatch";
    let with_one = "authentication failed: pre-shared key mismatch with PPK 'one'";
    let unnamed = "authentication failed: PPK: the peer names none";
    let known: (NotifyType, &[u8]) = (IDENTITY, b"\x02one");
    let unknown: (NotifyType, &[u8]) = (IDENTITY, b"\x02three");
    let rows: Vec<(&str, &[u8], Notes<'_>, &str)> = vec![
        ("no PPK_IDENTITY", &good, vec![], unnamed),
        (
            "plain, and none named",
            &plain,
            vec![(PLAIN, &plain)],
            unnamed,
        ),
        ("plain for one that is known", &plain, vec![known], with_one),
        ("both plain", &plain, vec![known, (PLAIN, &plain)], with_one),
        ("of another PPK", &other, vec![known], with_one),
        (
            "forged, for an unknown one",
            &good,
            vec![unknown, (PLAIN, &forged)],
            mismatch,
        ),
        (
            "empty, for an unknown one",
            &good,
            vec![unknown, (PLAIN, b"")],
            mismatch,
        ),
        (
            "mixed, for an unknown one",
            &good,
            vec![unknown, (PLAIN, &good)],
            mismatch,
        ),
        ("no AUTH data", b"", vec![known, (PLAIN, &plain)], with_one),
        (
            "unknown",
            &good,
            vec![unknown],
            "authentication failed: PPK: unknown ID 'three'",
        ),
        (
            "opaque",
            &good,
            vec![(IDENTITY, b"\x01one")],
            "authentication failed: PPK: unknown ID 'one'",
        ),
        (
            "of no form",
            &good,
            vec![(IDENTITY, b"")],
            "authentication failed: PPK: unknown ID ''",
        ),
    ];
    for (name, auth, notes, why) in rows {
        let opened = ask(&mut host, &mut peer, auth.to_vec(), &notes);
        is_told_that_it_failed(&opened, name);
        nothing_is_left(&mut host, name, why);
        (host, peer) = met(&["one", "two"]);
    }
    // And with the same bytes the right one gets in.
    let opened = ask(&mut host, &mut peer, good, &[known]);
    assert!(opened.has(PayloadType::SA));
}

#[test]
fn what_is_said_of_ppks_without_use_ppk_is_passed_over() {
    for policy in [gateway(), with(gateway(), ppks(&["one"]))] {
        let mut host = Host::new(config([policy]), no_keys(), 2);
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let auth = proof(&peer, None);
        let notes = [(IDENTITY, &b"\x02one"[..]), (PLAIN, b"nonsense")];
        let opened = ask(&mut host, &mut peer, auth, &notes);
        assert!(opened.has(PayloadType::SA), "{:?}", host.lines);
        assert!(!opened.notifies().contains(&IDENTITY));
    }
}

#[test]
fn a_policy_found_by_identity_decides_again() {
    // The addresses lead to a policy with a PPK, the identity to one that requires another, or none.
    let named = |ids: &[&str]| Policy {
        name: "named".to_owned(),
        dstid: Some(setup::fqdn("warrior.example")),
        ..with(gateway(), ppks(ids))
    };
    let other = Policy {
        name: "other".to_owned(),
        dstid: Some(setup::fqdn("other.example")),
        ..with(gateway(), ppks(&["one"]))
    };
    let rows: [(&[&str], &[&str], bool); 4] = [
        (&[], &["one"], true),
        (&[], &["one!"], false),
        (&["two!"], &["one"], false),
        (&["two!"], &["two"], true),
    ];
    for (theirs, ours, gets_in) in rows {
        let server = config([named(theirs), other.clone()]);
        let client = config([with(warrior(), ppks(ours))]);
        let mut pair = Pair::of(
            Host::new(client, no_keys(), 1),
            Host::new(server, no_keys(), 2),
        );
        pair.connect();
        assert_eq!(pair.is_up(), gets_in, "{theirs:?} {ours:?}");
        if !gets_in {
            assert_nobody_got_in(&mut pair);
        }
    }
}

#[test]
fn an_answer_without_use_ppk_does_not_end_what_the_true_one_still_can() {
    let mut pair = pair(&["one!"], &["one!"]);
    let first = pair.initiate();
    // Somebody answers faster than the gateway, and has no PPK.
    let mut liar = Host::new(config([gateway()]), no_keys(), 3);
    let path = super::world::mirrored(first[0].path);
    let lie = liar.receive(at(0), path, &first[0].bytes);
    let (_, sent) = pair.give(Side::Responder, &lie[0]);
    assert!(sent.is_empty(), "{:?}", pair.initiator.lines);
    assert!(
        pair.initiator
            .said("PPK: required, and the responder has none")
    );
    pair.run(Side::Initiator, first);
    assert_mixed(&pair, "one");
}

#[test]
fn what_is_repeated_is_answered_with_the_same_bytes() {
    let mut pair = pair(&["one"], &["one"]);
    let mut sent = pair.initiate();
    for _ in 0..2 {
        let (_, lost) = pair.give(Side::Initiator, &sent[0]);
        let (_, again) = pair.give(Side::Initiator, &sent[0]);
        assert_eq!(lost, again);
        (_, sent) = pair.give(Side::Responder, &again[0]);
    }
    assert_mixed(&pair, "one");
}
