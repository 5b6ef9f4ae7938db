//! Handshakes that wait for what the outside says: the certificates are those of
//! `tests/vectors/ocsp`, the lookup thread is the test.

use std::fs;
use std::path::Path;
use std::time::Duration;

use iked::auth::store::{CredentialStore, Parts};
use iked::crypto::ocsp::Status;
use iked::crypto::sign::PrivateKey;
use iked::crypto::x509::Certificate;
use iked::ike::Command;
use iked::lookup::port::{Answer, Failure, Lookup, Question};
use iked::policy::{Auth, Eap, EapMethod, Ocsp, Policy, PublicKeyAuth};

use super::setup::{config, fqdn, gateway, warrior};
use super::world::{Datagram, Host, Pair, Side};

pub(super) fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ocsp");
    fs::read(folder.join(name)).unwrap()
}

pub(super) fn certificates(name: &str) -> Vec<Certificate> {
    Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap()
}

/// A host that shows this certificate, and asks for the other's if `asks`.
fn host(policy: Policy, name: &str, asks: bool, seed: u8) -> Host {
    let auth = Auth::PublicKey(PublicKeyAuth::Any);
    host_by(auth, policy, name, asks, seed)
}

pub(super) fn host_by(auth: Auth, policy: Policy, name: &str, asks: bool, seed: u8) -> Host {
    let parts = Parts {
        keys: vec![PrivateKey::from_pem(&file(&format!("{name}.key"))).unwrap()],
        certificates: certificates(name),
        authorities: certificates("ca"),
        responders: certificates("delegate"),
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    let policy = Policy {
        srcid: fqdn(&format!("{name}.example")),
        auth,
        ..policy
    };
    let mut config = config([policy]);
    config.settings.ocsp = asks.then(|| Ocsp {
        url: "http://192.0.2.81/".to_owned(),
        tolerate: Duration::ZERO,
        max_age: Some(Duration::from_secs(60)),
    });
    Host::new(config, store, seed)
}

/// The warrior is `good`, the gateway `revoked`; what they are is for the test to say.
fn pair(asking: Side) -> Pair {
    Pair::of(
        host(warrior(), "good", asking == Side::Initiator, 1),
        host(gateway(), "revoked", asking == Side::Responder, 2),
    )
}

/// Begins. The other than who asks is asked in turn what its own responder says, and has nothing.
fn connect(pair: &mut Pair, side: Side) {
    pair.connect();
    let other = side.other();
    while let Some(lookup) = pair.host(other).endpoint.poll_lookup() {
        assert!(matches!(lookup.question, Question::Own(_)), "{lookup:?}");
        answer(pair, other, &lookup, Answer::Own(None));
    }
}

/// What this host asks; nobody else asks.
pub(super) fn asked(pair: &mut Pair, side: Side) -> Lookup {
    let lookup = pair.host(side).endpoint.poll_lookup().expect("no question");
    assert!(pair.initiator.endpoint.poll_lookup().is_none());
    assert!(pair.responder.endpoint.poll_lookup().is_none());
    lookup
}

fn tell(pair: &mut Pair, side: Side, lookup: &Lookup, said: Result<Status, Failure>) {
    answer(pair, side, lookup, Answer::Ocsp(said));
}

pub(super) fn answer(pair: &mut Pair, side: Side, lookup: &Lookup, answer: Answer) {
    let now = pair.now();
    let host = pair.host(side);
    host.endpoint.handle_lookup(now, lookup.id, answer);
    let sent = host.wake(now);
    pair.run(side, sent);
}

#[test]
fn a_handshake_waits_for_the_answer_in_either_role() {
    for side in [Side::Responder, Side::Initiator] {
        let mut pair = pair(side);
        connect(&mut pair, side);
        assert!(!pair.is_up(), "{side:?}");
        let lookup = asked(&mut pair, side);
        let Question::Ocsp(question) = &lookup.question else {
            panic!("{lookup:?}");
        };
        let about = if side == Side::Responder {
            "good"
        } else {
            "revoked"
        };
        assert_eq!(question.leaf, certificates(about)[0]);
        assert_eq!(question.issuer, certificates("ca")[0]);
        assert_eq!(**question.responders, *certificates("delegate"));
        // What the issuer's certificate says goes before the configuration.
        assert_eq!(question.url, "http://192.0.2.80:8080/ocsp");
        assert_eq!(question.tolerate, Duration::from_secs(300));
        assert_eq!(question.max_age, Some(Duration::from_secs(60)));
        tell(&mut pair, side, &lookup, Ok(Status::Good));
        assert!(pair.is_up(), "{side:?} {:?}", pair.host(side).lines);
        assert_eq!(pair.passed.len(), 4, "{side:?}");
        let stats = pair.host(side).stats();
        assert_eq!((stats.lookups, stats.lookup_failures), (1, 0));
    }
}

#[test]
fn nothing_but_good_lets_the_peer_in() {
    let answers = [
        (Ok(Status::Revoked), "certificate: revoked"),
        (Ok(Status::Unknown), "unknown to its OCSP responder"),
        (Err(Failure::Late), "not confirmed: no answer in time"),
    ];
    for side in [Side::Responder, Side::Initiator] {
        for (answer, line) in &answers {
            let mut pair = pair(side);
            connect(&mut pair, side);
            let lookup = asked(&mut pair, side);
            tell(&mut pair, side, &lookup, answer.clone());
            assert!(pair.host(side).said(line), "{side:?} {line}");
            assert_eq!(pair.host(side).stats().sa_established_total, 0, "{side:?}");
            assert_eq!(pair.host(side).stats().lookup_failures, 1);
            pair.pass_time(60);
            assert!(pair.initiator.endpoint.is_empty(), "{side:?} {line}");
            assert!(pair.responder.endpoint.is_empty(), "{side:?} {line}");
        }
    }
}

#[test]
fn an_answer_that_comes_twice_or_to_another_question_is_dropped() {
    for side in [Side::Responder, Side::Initiator] {
        let mut pair = pair(side);
        connect(&mut pair, side);
        let lookup = asked(&mut pair, side);
        let mut other = lookup.clone();
        other.id.serial += 1;
        tell(&mut pair, side, &other, Ok(Status::Revoked));
        assert!(!pair.is_up(), "{side:?}");
        tell(&mut pair, side, &lookup, Ok(Status::Good));
        assert!(pair.is_up(), "{side:?}");
        tell(&mut pair, side, &lookup, Ok(Status::Revoked));
        tell(&mut pair, side, &other, Err(Failure::Late));
        assert!(pair.is_up(), "{side:?}");
        pair.pass_time(60);
        assert!(pair.is_up(), "{side:?}");
    }
}

#[test]
fn an_answer_for_an_ike_sa_that_is_gone_is_dropped() {
    for side in [Side::Responder, Side::Initiator] {
        let mut pair = pair(side);
        connect(&mut pair, side);
        let lookup = asked(&mut pair, side);
        let now = pair.now();
        pair.host(side).command(now, Command::ResetAll);
        assert!(pair.host(side).endpoint.is_empty());
        tell(&mut pair, side, &lookup, Ok(Status::Good));
        assert!(pair.host(side).endpoint.is_empty());
        assert_eq!(pair.host(side).stats().sa_established_total, 0);
    }
}

#[test]
fn the_peers_repetitions_meet_silence_and_one_answer_settles_all() {
    let mut pair = pair(Side::Responder);
    connect(&mut pair, Side::Responder);
    let lookup = asked(&mut pair, Side::Responder);
    let sent = pair.passed.len();
    pair.pass_time(9);
    let repeated: Vec<Datagram> = pair
        .passed
        .drain(sent..)
        .map(|(_, datagram)| datagram)
        .collect();
    assert!(repeated.len() >= 2, "{repeated:?}");
    assert!(
        repeated
            .iter()
            .all(|datagram| datagram.path.remote.ip() == super::setup::GATEWAY)
    );
    assert_eq!(pair.responder.stats().msg_rcvd_busy, repeated.len() as u64);
    assert!(
        pair.responder.endpoint.poll_lookup().is_none(),
        "asked again"
    );
    tell(&mut pair, Side::Responder, &lookup, Ok(Status::Good));
    assert!(pair.is_up());
}

#[test]
fn without_an_answer_the_handshake_ends_with_its_time() {
    let mut pair = pair(Side::Responder);
    connect(&mut pair, Side::Responder);
    let lookup = asked(&mut pair, Side::Responder);
    assert!(lookup.until <= pair.now().mono + Duration::from_secs(20));
    pair.pass_time(31);
    assert!(pair.responder.endpoint.is_empty());
    assert_eq!(pair.responder.stats().half_open_timeouts, 1);
    tell(&mut pair, Side::Responder, &lookup, Ok(Status::Good));
    assert_eq!(pair.responder.stats().sa_established_total, 0);

    let mut pair = self::pair(Side::Initiator);
    connect(&mut pair, Side::Initiator);
    asked(&mut pair, Side::Initiator);
    assert!(pair.responder.stats().sa_established_current == 1);
    pair.pass_time(40);
    assert!(pair.initiator.said("not confirmed: no answer"));
    assert!(pair.initiator.endpoint.is_empty());
    // It was told, so nothing is left there either.
    assert!(pair.responder.endpoint.is_empty());
}

#[test]
fn a_certificate_that_is_trusted_as_it_is_is_not_asked_about() {
    let mut pair = pair(Side::Responder);
    let parts = Parts {
        keys: vec![PrivateKey::from_pem(&file("revoked.key")).unwrap()],
        certificates: [certificates("revoked"), certificates("good")].concat(),
        authorities: certificates("ca"),
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    pair.responder.endpoint.handle_credentials(store.into());
    connect(&mut pair, Side::Responder);
    assert!(pair.is_up());
    assert!(pair.responder.endpoint.poll_lookup().is_none());
}

#[test]
fn who_has_not_proven_its_key_has_nobody_asked() {
    let mut pair = pair(Side::Responder);
    // The right certificate, and another's key.
    let parts = Parts {
        keys: vec![PrivateKey::from_pem(&file("delegate.key")).unwrap()],
        certificates: certificates("good"),
        authorities: certificates("ca"),
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    pair.initiator.endpoint.handle_credentials(store.into());
    connect(&mut pair, Side::Responder);
    assert!(pair.responder.endpoint.poll_lookup().is_none());
    assert!(
        pair.responder.said("authentication failed"),
        "{:?}",
        pair.responder.lines
    );
}

#[test]
fn with_tls_alone_nothing_is_granted_nor_taken_before_the_answer() {
    for side in [Side::Responder, Side::Initiator] {
        for good in [true, false] {
            let auth = || Auth::Eap(Eap::of(EapMethod::Tls));
            let (initiator, responder) = (side == Side::Initiator, side == Side::Responder);
            let mut pair = Pair::of(
                host_by(auth(), warrior(), "good", initiator, 1),
                host_by(auth(), gateway(), "revoked", responder, 2),
            );
            connect(&mut pair, side);
            assert!(!pair.is_up());
            assert!(pair.host(side).kernel.installed.is_empty());
            let lookup = asked(&mut pair, side);
            let Question::Ocsp(question) = &lookup.question else {
                panic!("{:?}", lookup.question);
            };
            let about = if responder { "good" } else { "revoked" };
            assert_eq!(question.leaf, certificates(about)[0]);
            // TLS proves both ends, and the question comes at its end.
            assert!(pair.responder.said("EAP user"));
            let answer = if good { Status::Good } else { Status::Revoked };
            tell(&mut pair, side, &lookup, Ok(answer));
            assert_eq!(pair.is_up(), good, "{side:?}");
        }
    }
}

#[test]
fn with_eap_the_client_says_nothing_of_itself_before_the_answer() {
    for good in [true, false] {
        let auth = |user| {
            let methods = vec![EapMethod::Gtc];
            Auth::Eap(Eap { methods, user })
        };
        let user = Some(super::setup::eap_user("secret"));
        let mut pair = Pair::of(
            host_by(auth(user), warrior(), "good", true, 1),
            host_by(auth(None), gateway(), "revoked", false, 2),
        );
        connect(&mut pair, Side::Initiator);
        assert_eq!(pair.passed.len(), 4);
        let lookup = asked(&mut pair, Side::Initiator);
        let answer = if good { Status::Good } else { Status::Revoked };
        tell(&mut pair, Side::Initiator, &lookup, Ok(answer));
        // The gateway has no users, so that it refuses the name if it hears it.
        let why = "EAP: wrong user name or password for 'alice'";
        assert_eq!(pair.responder.said(why), good);
    }
}
