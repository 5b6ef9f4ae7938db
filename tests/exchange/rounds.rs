//! Several authentications in a row (RFC 4739): both ends are ours, or the initiator is made by hand.

use std::sync::Arc;

use iked::auth::store::CredentialStore;
use iked::auth::{octets, psk as shared};
use iked::crypto::ocsp::Status;
use iked::crypto::sign::PrivateKey;
use iked::lookup::port::Answer;
use iked::policy::{Auth, Config, Eap, EapMethod, Identity, Policy, PublicKeyAuth, Round, Secret};
use iked::wire::registry::{AuthMethod, ExchangeType, NotifyType, PayloadType, ProtocolId};
use iked::wire::{Auth as AuthPayload, Delete, Id, Message, Payload};

use super::asking::{answer, asked, host_by};
use super::impostor::{is_told_that_it_failed, prf};
use super::peer::{Opened, Peer, range, status};
use super::setup::{self, eap_user, fqdn, gateway, no_keys, psk, warrior};
use super::world::{Host, Pair, Side, at};

const AUTH: ExchangeType = ExchangeType::IKE_AUTH;
const BOTH: [Side; 2] = [Side::Initiator, Side::Responder];
const FOLLOWS: NotifyType = NotifyType::ANOTHER_AUTH_FOLLOWS;

fn round(name: &str, auth: Auth) -> Round {
    Round {
        srcid: fqdn(name),
        dstid: None,
        auth,
    }
}

/// EAP by this method, as alice with this password.
fn eap(method: EapMethod, password: &str) -> Auth {
    Auth::Eap(Eap {
        methods: vec![method],
        user: Some(eap_user(password)),
    })
}

fn signed() -> Auth {
    Auth::PublicKey(PublicKeyAuth::Any)
}

/// All of it by name: what both ends have, and the client's passwords are right.
fn by(word: &str) -> Auth {
    match word {
        "psk" => psk(setup::SECRET),
        "other-psk" => psk(b"another secret"),
        "key" => signed(),
        "mschap" => eap(EapMethod::MsChapV2, "secret"),
        "gtc" => eap(EapMethod::Gtc, "secret"),
        "wrong" => eap(EapMethod::MsChapV2, "guessed"),
        other => panic!("{other}"),
    }
}

fn by_words(policy: Policy, words: &[&str]) -> Policy {
    let (first, rest) = words.split_first().unwrap();
    Policy {
        auth: by(first),
        then: rest
            .iter()
            .map(|word| round("user.example", by(word)))
            .collect(),
        ..policy
    }
}

fn house(policies: Vec<Policy>) -> Config {
    let mut config = Config {
        policies: policies.into_iter().map(Arc::new).collect(),
        ..Config::default()
    };
    let secret = Secret::new(b"secret".to_vec());
    config.users.insert("alice".to_owned(), secret);
    config
}

/// Stores with raw keys of each other; the warrior's stands for its user as well.
fn stores() -> [CredentialStore; 2] {
    let [ours, theirs] = [setup::ecdsa(), setup::ecdsa()];
    let key = |pem: &[u8]| PrivateKey::from_pem(pem).unwrap();
    let public = |pem: &[u8]| key(pem).public().unwrap();
    let known = ["warrior.example", "user.example"];
    let known = known.map(|name| (fqdn(name), public(&ours)));
    [
        CredentialStore::from_keys(
            Some(key(&ours)),
            vec![(fqdn("gateway.example"), public(&theirs))],
        ),
        CredentialStore::from_keys(Some(key(&theirs)), known.to_vec()),
    ]
}

fn pair_of(initiator: Vec<Policy>, responder: Vec<Policy>) -> Pair {
    let [ours, theirs] = stores();
    Pair::of(
        Host::new(house(initiator), ours, 1),
        Host::new(house(responder), theirs, 2),
    )
}

fn pair(initiator: &[&str], responder: &[&str]) -> Pair {
    pair_of(
        vec![by_words(warrior(), initiator)],
        vec![by_words(gateway(), responder)],
    )
}

/// Nobody got in, and nothing is left after a while.
fn assert_nobody_got_in(pair: &mut Pair) {
    assert!(pair.responder.kernel.installed.is_empty());
    pair.assert_nothing_is_left();
    assert_eq!(pair.responder.stats().sa_established_total, 0);
}

const COMBINATIONS: &[&[&str]] = &[
    &["psk", "psk"],
    &["psk", "other-psk"],
    &["psk", "mschap"],
    &["psk", "gtc"],
    &["psk", "key"],
    &["key", "mschap"],
    &["key", "psk"],
    &["key", "key"],
    &["mschap", "psk"],
    &["mschap", "key"],
    &["mschap", "gtc"],
    &["gtc", "mschap"],
    &["key", "mschap", "psk"],
    &["psk", "gtc", "key", "mschap"],
];

#[test]
fn every_authentication_may_follow_every_other() {
    for words in COMBINATIONS {
        let mut pair = pair(words, words);
        pair.connect();
        assert!(
            pair.is_up(),
            "{words:?} {:?} {:?}",
            pair.initiator.lines,
            pair.responder.lines
        );
        for done in 1..words.len() {
            let line = format!("authentication {done} of {}", words.len());
            assert!(pair.responder.said(&line), "{:?}", pair.responder.lines);
        }
        // Who it is was said first.
        assert!(pair.responder.said("[FQDN/warrior.example] local "));
        // And it lives.
        pair.pass_time(200);
        assert!(pair.is_up(), "{words:?}");
    }
}

#[test]
fn who_does_not_do_them_all_is_not_let_in() {
    let required = "the peer does not prove itself once more";
    let surplus = "the peer wants to prove itself once more";
    let rows: [(&[&str], &[&str], Side, &str); 8] = [
        (&["psk"], &["psk", "mschap"], Side::Responder, required),
        (&["key"], &["key", "psk"], Side::Responder, required),
        (&["mschap"], &["mschap", "psk"], Side::Responder, required),
        (
            &["psk", "psk"],
            &["psk", "psk", "psk"],
            Side::Responder,
            required,
        ),
        (
            &["psk", "psk", "psk"],
            &["psk", "psk"],
            Side::Responder,
            surplus,
        ),
        (
            &["psk", "mschap", "psk"],
            &["psk", "mschap"],
            Side::Responder,
            surplus,
        ),
        (
            &["psk", "psk"],
            &["psk", "mschap"],
            Side::Responder,
            "authentication method not allowed",
        ),
        (
            &["psk", "mschap"],
            &["psk", "psk"],
            Side::Responder,
            "authentication method not allowed",
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
fn a_gateway_that_takes_one_only_is_not_begun_with() {
    let mut pair = pair(&["psk", "mschap"], &["psk"]);
    pair.connect();
    let why = "dropped: authentication failed: the responder takes no second authentication";
    assert!(pair.initiator.said(why), "{:?}", pair.initiator.lines);
    assert_nobody_got_in(&mut pair);
    // Where it takes several of others, it says so when it knows who we are.
    let other = Policy {
        name: "other".to_owned(),
        dstid: Some(fqdn("other.example")),
        ..by_words(gateway(), &["psk", "mschap"])
    };
    let ours = vec![by_words(warrior(), &["psk", "mschap"])];
    let mut pair = pair_of(ours, vec![other, by_words(gateway(), &["psk"])]);
    pair.connect();
    let why = "policy 'gateway': authentication failed: the peer wants to prove itself once more";
    assert!(pair.responder.said(why), "{:?}", pair.responder.lines);
    assert_nobody_got_in(&mut pair);
}

#[test]
fn a_later_proof_that_does_not_hold_gets_nobody_in() {
    let rows: [(&[&str], &[&str], &str); 5] = [
        (
            &["psk", "psk"],
            &["psk", "other-psk"],
            "pre-shared key mismatch",
        ),
        (
            &["psk", "wrong"],
            &["psk", "mschap"],
            "wrong user name or password for 'alice'",
        ),
        (
            &["mschap", "psk"],
            &["mschap", "other-psk"],
            "pre-shared key mismatch",
        ),
        (
            &["mschap", "wrong"],
            &["mschap", "mschap"],
            "wrong user name or password for 'alice'",
        ),
        (
            &["psk", "psk", "psk"],
            &["psk", "psk", "other-psk"],
            "pre-shared key mismatch",
        ),
    ];
    for (initiator, responder, why) in rows {
        let mut pair = pair(initiator, responder);
        pair.connect();
        assert!(pair.responder.said(why), "{why} {:?}", pair.responder.lines);
        assert_nobody_got_in(&mut pair);
    }
}

#[test]
fn a_later_identity_must_be_the_one_that_is_wanted_and_proven() {
    let wants = |name: &str| {
        let mut policy = by_words(gateway(), &["key", "key"]);
        policy.then[0].dstid = Some(fqdn(name));
        policy
    };
    let is = |name: &str| {
        let mut policy = by_words(warrior(), &["key", "key"]);
        policy.then[0].srcid = fqdn(name);
        policy
    };
    let mut pair = pair_of(vec![is("user.example")], vec![wants("USER.example")]);
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    let mut pair = pair_of(vec![is("warrior.example")], vec![wants("user.example")]);
    pair.connect();
    let why = "for FQDN/warrior.example: 'gateway' wants dstid FQDN/user.example then";
    assert!(pair.responder.said(why), "{:?}", pair.responder.lines);
    assert_nobody_got_in(&mut pair);
    // Nobody has a key of that name.
    let mut pair = pair_of(vec![is("mallory.example")], vec![wants("mallory.example")]);
    pair.connect();
    let why = "peer FQDN/mallory.example policy 'gateway': authentication failed: no public key";
    assert!(pair.responder.said(why), "{:?}", pair.responder.lines);
    assert_nobody_got_in(&mut pair);
}

#[test]
fn an_address_is_given_with_the_last_alone() {
    for words in COMBINATIONS {
        let client = by_words(setup::pool_warrior(), words);
        let server = by_words(setup::pool_gateway("10.8.0.0/24"), words);
        let mut pair = pair_of(vec![client], vec![server]);
        let (mut from, mut sent) = (Side::Initiator, pair.initiate());
        let mut before = 0;
        while let [datagram] = sent.as_slice() {
            assert_eq!(pair.responder.stats().leases, 0, "{words:?}");
            (from, sent) = pair.give(from, datagram);
            before += 1;
            if pair.responder.stats().sa_established_total == 1 {
                break;
            }
        }
        assert!(before > 4, "{words:?}");
        assert_eq!(pair.responder.stats().leases, 1, "{words:?}");
        pair.run(from, sent);
        assert!(pair.is_up(), "{words:?} {:?}", pair.initiator.lines);
    }
}

#[test]
fn lost_messages_are_sent_again_and_answered_from_the_cache() {
    for words in COMBINATIONS {
        let mut pair = pair(words, words);
        pair.connect_losing_answers();
        assert!(pair.is_up(), "{words:?}");
    }
}

#[test]
fn a_certificate_is_asked_about_before_the_next_one_begins() {
    for side in BOTH {
        let host = |policy, name, one, seed| {
            let policy = Policy {
                then: vec![round("user.example", psk(setup::SECRET))],
                ..policy
            };
            host_by(signed(), policy, name, one == side, seed)
        };
        for good in [true, false] {
            let mut pair = Pair::of(
                host(warrior(), "good", Side::Initiator, 1),
                host(gateway(), "revoked", Side::Responder, 2),
            );
            pair.connect();
            while let Some(lookup) = pair.host(side.other()).endpoint.poll_lookup() {
                answer(&mut pair, side.other(), &lookup, Answer::Own(None));
            }
            assert!(!pair.is_up(), "{side:?}");
            let lookup = asked(&mut pair, side);
            let status = if good { Status::Good } else { Status::Revoked };
            answer(&mut pair, side, &lookup, Answer::Ocsp(Ok(status)));
            assert_eq!(pair.is_up(), good, "{side:?} {:?}", pair.responder.lines);
            if !good {
                assert!(pair.host(side).said("certificate: revoked"));
                assert_nobody_got_in(&mut pair);
            }
        }
    }
}

#[test]
fn several_are_offered_only_where_a_policy_has_them() {
    let elsewhere = Policy {
        peer: Some(setup::net("198.51.100.0/24")),
        ..by_words(gateway(), &["psk", "psk"])
    };
    let rows = [
        (vec![gateway()], false),
        (vec![by_words(gateway(), &["psk", "psk"])], true),
        (vec![elsewhere, gateway()], false),
        (vec![by_words(gateway(), &["psk", "psk"]), gateway()], true),
    ];
    for (number, (policies, expected)) in rows.into_iter().enumerate() {
        let mut host = Host::new(house(policies), no_keys(), 2);
        let mut peer = Peer::new(1);
        let request = peer.sa_init(&[], &[]);
        let answers = peer.send(&mut host, at(0), &request);
        let message = Message::decode(&answers[0].bytes).unwrap();
        let says = |p: &Payload<'_>| matches!(p, Payload::Notify(n) if n.kind == NotifyType::MULTIPLE_AUTH_SUPPORTED);
        let has = message.payloads.iter().any(says);
        assert_eq!(has, expected, "{number}");
    }
}

/// An initiator made by hand, whose first proof was taken by a gateway that wants this next.
fn half_way(next: &str) -> (Host, Peer) {
    let policy = by_words(setup::pool_gateway("10.8.0.0/24"), &["psk", next]);
    let mut host = Host::new(house(vec![policy]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    payloads.ask_address = true;
    payloads.ts_i = vec![range("0.0.0.0", "255.255.255.255")];
    payloads.notifies = vec![NotifyType::MULTIPLE_AUTH_SUPPORTED, FOLLOWS];
    let opened = peer.ask(&mut host, at(0), AUTH, &payloads.borrow());
    let kinds: Vec<_> = opened.payloads().iter().map(Payload::kind).collect();
    assert_eq!(kinds, [PayloadType::ID_R, PayloadType::AUTH]);
    assert_eq!(host.stats().sa_established_total, 0);
    assert_eq!(host.stats().half_open, 1);
    (host, peer)
}

/// The AUTH of a later round, under this name and with this secret.
fn proof(peer: &Peer, name: &Identity, secret: &[u8]) -> Vec<u8> {
    let (kind, data) = (name.kind, &name.data);
    let body = Id { kind, data }.body();
    let sk_pi = peer.keys.as_ref().unwrap().sk_pi.expose();
    let (request, nonce) = (&peer.request, &peer.nonce_r);
    let octets = octets::signed_octets(request, nonce, prf(), sk_pi, &body);
    shared::shared_key_auth(prf(), secret, &octets)
}

fn later(peer: &mut Peer, host: &mut Host, payloads: &[Payload<'_>]) -> Opened {
    peer.ask(host, at(0), AUTH, payloads)
}

#[test]
fn a_second_request_without_its_proof_is_refused() {
    let user = fqdn("user.example");
    let (kind, data) = (user.kind, user.data.as_slice());
    let id = Payload::IdI(Id { kind, data });
    let method = AuthMethod::SHARED_KEY;
    for wrong in 0..8 {
        let (mut host, mut peer) = half_way(if wrong < 6 { "psk" } else { "mschap" });
        let good = proof(&peer, &user, setup::SECRET);
        let first = peer.auth_payloads().auth.unwrap().1;
        let auth = |data| Payload::Auth(AuthPayload { method, data });
        let payloads = match wrong {
            0 => vec![],
            1 => vec![id.clone()],
            2 => vec![auth(&good)],
            // That of the first round, under either name.
            3 => vec![id.clone(), auth(&first)],
            4 => vec![id.clone(), auth(&good), status(FOLLOWS, &[])],
            5 => vec![id.clone(), Payload::Eap(&[2, 1, 0, 4])],
            6 => vec![id.clone(), auth(&good)],
            _ => vec![Payload::Eap(&[2, 1, 0, 4])],
        };
        let opened = later(&mut peer, &mut host, &payloads);
        let told = opened.notifies();
        let syntax = matches!(wrong, 0 | 2 | 7);
        if syntax {
            assert_eq!(told, [NotifyType::INVALID_SYNTAX], "{wrong}");
        } else {
            is_told_that_it_failed(&opened, &wrong.to_string());
        }
        let stats = host.stats();
        assert_eq!(
            (stats.sa_established_total, stats.leases),
            (0, 0),
            "{wrong}"
        );
        assert_eq!(stats.sa_established_failures, 1, "{wrong}");
        assert!(host.kernel.installed.is_empty());
        host.wake(at(11));
        assert!(host.endpoint.is_empty(), "{wrong}");
    }
    let (mut host, mut peer) = half_way("psk");
    let good = proof(&peer, &user, setup::SECRET);
    let data = good.as_slice();
    let opened = later(
        &mut peer,
        &mut host,
        &[id, Payload::Auth(AuthPayload { method, data })],
    );
    // No further proof of ours: SA, selectors and the address.
    assert!(opened.has(PayloadType::SA) && !opened.has(PayloadType::AUTH));
    assert!(!opened.has(PayloadType::ID_R));
    assert!(opened.address().is_some());
}

#[test]
fn between_two_rounds_nothing_else_is_to_be_had_and_either_may_end_it() {
    let (mut host, mut peer) = half_way("psk");
    let request = peer.seal(ExchangeType::CREATE_CHILD_SA, &[]);
    assert_eq!(peer.send(&mut host, at(0), &request), []);
    peer.next_id -= 1;
    // The peer does not take our proof.
    let delete = Payload::Delete(Delete {
        protocol: ProtocolId::IKE,
        spi_size: 0,
        spis: &[],
    });
    let opened = peer.ask(&mut host, at(0), ExchangeType::INFORMATIONAL, &[delete]);
    assert!(opened.payloads().is_empty());
    assert!(host.said("given up by the peer"));
    host.wake(at(11));
    assert!(host.endpoint.is_empty());
    // It never comes back.
    let (mut host, _) = half_way("psk");
    host.wake(at(31));
    assert!(host.endpoint.is_empty(), "{:?}", host.lines);
    assert_eq!(host.stats().half_open, 0);
}

#[test]
fn a_wrong_proof_of_the_gateway_ends_it_before_the_second_begins() {
    let ours = vec![by_words(warrior(), &["key", "mschap"])];
    let theirs = vec![by_words(gateway(), &["key", "mschap"])];
    let [client, _] = stores();
    let [_, server] = stores();
    let mut pair = Pair::of(
        Host::new(house(ours), client, 1),
        Host::new(house(theirs), server, 2),
    );
    pair.connect();
    assert!(!pair.responder.said("alice"));
    assert_nobody_got_in(&mut pair);
}

/// Where the Child SA is refused with the last answer, the IKE SA stays all the same.
#[test]
fn selectors_that_do_not_fit_keep_the_ike_sa() {
    let mut client = by_words(warrior(), &["psk", "psk"]);
    client.flows = vec![setup::flow(
        setup::end("10.7.0.0/16"),
        setup::end("10.1.0.0/16"),
    )];
    let server = by_words(gateway(), &["psk", "psk"]);
    let mut pair = pair_of(vec![client], vec![server]);
    pair.connect();
    for side in BOTH {
        let stats = pair.host(side).stats();
        assert_eq!(stats.sa_established_current, 1, "{side:?}");
        assert_eq!(stats.csa_created, 0, "{side:?}");
    }
}
