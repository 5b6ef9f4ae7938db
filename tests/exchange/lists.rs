//! Handshakes that wait for revocation lists: the certificates are those of `tests/vectors/crl`, the
//! lookup thread is the test.

use std::fs;
use std::path::Path;
use std::time::Duration;

use iked::auth::store::{CredentialStore, Parts};
use iked::crypto::crl::CrlError;
use iked::crypto::ocsp::Status;
use iked::crypto::sign::PrivateKey;
use iked::crypto::x509::{Certificate, Crl};
use iked::lookup::port::{Answer, CrlQuestion, Failure, Lookup, Question};
use iked::policy::{Auth, CrlFetch, Eap, EapMethod, Ocsp, Policy, PublicKeyAuth};

use super::asking::{answer, asked};
use super::certified::Certified;
use super::setup::{config, fqdn, gateway, warrior};
use super::world::{Host, Pair, Side};

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/crl");
    fs::read(folder.join(name)).unwrap()
}

fn certificates(name: &str) -> Vec<Certificate> {
    Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap()
}

/// A host that shows this certificate and knows these authorities and lists.
fn host(policy: Policy, name: &str, crls: &[&str], crl: Option<CrlFetch>, seed: u8) -> Host {
    let auth = Auth::PublicKey(PublicKeyAuth::Any);
    host_by(auth, policy, name, crls, crl, seed)
}

fn host_by(
    auth: Auth,
    policy: Policy,
    name: &str,
    crls: &[&str],
    crl: Option<CrlFetch>,
    seed: u8,
) -> Host {
    let crls = crls.iter().map(|name| Crl::from_der(&file(name)).unwrap());
    let parts = Parts {
        keys: vec![PrivateKey::from_pem(&file(&format!("{name}.key"))).unwrap()],
        certificates: [certificates(name), certificates("sub")].concat(),
        authorities: certificates("ca"),
        crls: crls.collect(),
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    let policy = Policy {
        srcid: fqdn(&format!("{name}.example")),
        auth,
        ..policy
    };
    let mut config = config([policy]);
    config.settings.crl = crl;
    Host::new(config, store, seed)
}

/// The one with this certificate is the other than who asks.
pub(super) fn pair(side: Side, name: &str, crl: CrlFetch) -> Pair {
    let how = |asks| (asks == side).then_some(crl);
    let who = |asks| if asks == side { "revoked" } else { name };
    let (initiator, responder) = (Side::Initiator, Side::Responder);
    Pair::of(
        host(warrior(), who(initiator), &[], how(initiator), 1),
        host(gateway(), who(responder), &[], how(responder), 2),
    )
}

fn question(lookup: &Lookup) -> &CrlQuestion {
    match &lookup.question {
        Question::Crl(question) => question,
        other => panic!("{other:?}"),
    }
}

fn tell(pair: &mut Pair, side: Side, lookup: &Lookup, said: Result<Status, Failure>) {
    answer(pair, side, lookup, Answer::Crl(said));
}

#[test]
fn each_certificate_below_the_trusted_one_is_looked_up_in_the_list_that_it_names() {
    for side in [Side::Responder, Side::Initiator] {
        let mut pair = pair(side, "deep", CrlFetch::Required);
        pair.connect();
        for (name, issuer, list) in [("deep", "sub", "sub.crl"), ("sub", "ca", "ca.crl")] {
            assert!(!pair.is_up(), "{side:?} {name}");
            let lookup = asked(&mut pair, side);
            let asked = question(&lookup);
            assert_eq!(asked.certificate, certificates(name)[0]);
            assert_eq!(asked.issuer, certificates(issuer)[0]);
            assert_eq!(asked.urls, [format!("http://192.0.2.80:8081/{list}")]);
            tell(&mut pair, side, &lookup, Ok(Status::Good));
        }
        assert!(pair.is_up(), "{side:?} {:?}", pair.host(side).lines);
        let stats = pair.host(side).stats();
        assert_eq!((stats.lookups, stats.lookup_failures), (2, 0));
    }
}

#[test]
fn a_certificate_that_names_no_list_passes_and_without_the_words_nobody_asks() {
    for (name, crl) in [("silent", Some(CrlFetch::Required)), ("good", None)] {
        let mut pair = Pair::of(
            host(warrior(), name, &[], None, 1),
            host(gateway(), "revoked", &[], crl, 2),
        );
        pair.connect();
        assert!(pair.is_up(), "{name}");
        assert_eq!(pair.responder.stats().lookups, 0, "{name}");
    }
}

#[test]
fn a_list_that_revokes_refuses_and_one_that_cannot_be_had_only_where_it_must() {
    let late = || Err(Failure::Late);
    let wrong = || Err(Failure::Crl(CrlError::Signer));
    let revoked = || Ok(Status::Revoked);
    for side in [Side::Responder, Side::Initiator] {
        for (crl, said, up, line) in [
            (CrlFetch::Required, revoked(), false, "certificate: revoked"),
            (CrlFetch::Tried, revoked(), false, "certificate: revoked"),
            (
                CrlFetch::Required,
                late(),
                false,
                "not confirmed: no answer in time",
            ),
            (
                CrlFetch::Tried,
                late(),
                true,
                "revocation not looked up: no answer in time",
            ),
            (
                CrlFetch::Required,
                wrong(),
                false,
                "not confirmed: CRL of a wrong signer",
            ),
            (
                CrlFetch::Tried,
                wrong(),
                true,
                "not looked up: CRL of a wrong signer",
            ),
        ] {
            let mut pair = pair(side, "good", crl);
            pair.connect();
            let lookup = asked(&mut pair, side);
            tell(&mut pair, side, &lookup, said);
            assert!(pair.host(side).said(line), "{side:?} {line}");
            assert_eq!(pair.is_up(), up, "{side:?} {line}");
            assert_eq!(pair.host(side).stats().lookup_failures, 1);
            if !up {
                pair.pass_time(60);
                assert!(pair.initiator.endpoint.is_empty(), "{side:?} {line}");
                assert!(pair.responder.endpoint.is_empty(), "{side:?} {line}");
            }
        }
    }
}

#[test]
fn an_issuer_that_is_revoked_refuses_those_below_it() {
    let mut pair = pair(Side::Responder, "deep", CrlFetch::Required);
    pair.connect();
    let lookup = asked(&mut pair, Side::Responder);
    tell(&mut pair, Side::Responder, &lookup, Ok(Status::Good));
    let lookup = asked(&mut pair, Side::Responder);
    assert_eq!(question(&lookup).certificate, certificates("sub")[0]);
    tell(&mut pair, Side::Responder, &lookup, Ok(Status::Revoked));
    assert!(!pair.is_up());
    assert!(pair.responder.said("certificate: revoked"));
}

#[test]
fn the_wait_is_long_where_the_list_must_be_had_and_short_where_not() {
    for (crl, most) in [(CrlFetch::Required, 20), (CrlFetch::Tried, 5)] {
        let mut pair = pair(Side::Initiator, "deep", crl);
        pair.connect();
        let first = asked(&mut pair, Side::Initiator);
        let start = pair.now().mono;
        assert_eq!(first.until, start + Duration::from_secs(most));
        pair.pass_time(4);
        tell(&mut pair, Side::Initiator, &first, Ok(Status::Good));
        // All have twenty seconds together.
        let second = asked(&mut pair, Side::Initiator);
        let later = pair.now().mono + Duration::from_secs(most);
        let limit = start + Duration::from_secs(20);
        assert_eq!(second.until, later.min(limit));
        // Nothing comes any more, not even that there is nothing.
        pair.pass_time(40);
        assert_eq!(pair.is_up(), crl == CrlFetch::Tried);
    }
}

#[test]
fn who_has_not_proven_its_key_or_is_of_no_authority_has_nothing_fetched() {
    let mut stranger = pair(Side::Responder, "good", CrlFetch::Required);
    let parts = Parts {
        keys: vec![PrivateKey::from_pem(&file("silent.key")).unwrap()],
        certificates: certificates("good"),
        authorities: certificates("ca"),
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    stranger.initiator.endpoint.handle_credentials(store.into());
    let mut untrusted = pair(Side::Responder, "good", CrlFetch::Required);
    let parts = Parts {
        keys: vec![PrivateKey::from_pem(&file("revoked.key")).unwrap()],
        certificates: certificates("revoked"),
        authorities: certificates("other"),
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    untrusted
        .responder
        .endpoint
        .handle_credentials(store.into());
    for mut pair in [stranger, untrusted] {
        pair.connect();
        assert!(!pair.is_up());
        assert!(pair.responder.endpoint.poll_lookup().is_none());
        assert!(pair.responder.said("authentication failed"));
    }
}

#[test]
fn a_list_in_a_file_goes_before_one_that_is_fetched_and_both_must_be_content() {
    for (list, in_file) in [("later.crl", true), ("ca.crl", false)] {
        let fetch = Some(CrlFetch::Required);
        let mut pair = Pair::of(
            host(warrior(), "good", &[], None, 1),
            host(gateway(), "silent", &[list], fetch, 2),
        );
        pair.connect();
        if in_file {
            assert!(pair.responder.endpoint.poll_lookup().is_none());
            assert!(pair.responder.said("certificate revoked"));
            continue;
        }
        let lookup = asked(&mut pair, Side::Responder);
        tell(&mut pair, Side::Responder, &lookup, Ok(Status::Revoked));
        assert!(!pair.is_up());
    }
}

#[test]
fn with_ocsp_both_are_asked_and_both_must_be_content() {
    for (first, second) in [
        (Status::Revoked, None),
        (Status::Good, Some(Status::Revoked)),
        (Status::Good, Some(Status::Good)),
    ] {
        let side = Side::Responder;
        let mut pair = pair(side, "good", CrlFetch::Required);
        let mut settings = config([Policy {
            srcid: fqdn("revoked.example"),
            auth: Auth::PublicKey(PublicKeyAuth::Any),
            ..gateway()
        }]);
        settings.settings.crl = Some(CrlFetch::Required);
        settings.settings.ocsp = Some(Ocsp {
            url: "http://192.0.2.81/".to_owned(),
            tolerate: Duration::ZERO,
            max_age: None,
        });
        let now = pair.now();
        pair.responder.endpoint.handle_config(now, settings.into());
        pair.connect();
        let lookup = asked(&mut pair, side);
        assert!(matches!(lookup.question, Question::Ocsp(_)), "{lookup:?}");
        answer(&mut pair, side, &lookup, Answer::Ocsp(Ok(first)));
        if let Some(second) = second {
            assert!(!pair.is_up());
            let lookup = asked(&mut pair, side);
            tell(&mut pair, side, &lookup, Ok(second));
        }
        assert_eq!(pair.is_up(), second == Some(Status::Good));
    }
}

#[test]
fn with_eap_tls_too_the_list_is_asked_for() {
    for side in [Side::Responder, Side::Initiator] {
        for good in [true, false] {
            let auth = || Auth::Eap(Eap::of(EapMethod::Tls));
            let how = |asks| (asks == side).then_some(CrlFetch::Required);
            let mut pair = Pair::of(
                host_by(auth(), warrior(), "good", &[], how(Side::Initiator), 1),
                host_by(auth(), gateway(), "revoked", &[], how(Side::Responder), 2),
            );
            pair.connect();
            assert!(!pair.is_up());
            let lookup = asked(&mut pair, side);
            let said = if good { Status::Good } else { Status::Revoked };
            tell(&mut pair, side, &lookup, Ok(said));
            assert_eq!(pair.is_up(), good, "{side:?}");
        }
    }
}

#[test]
fn each_place_that_a_certificate_names_is_handed_on_up_to_four() {
    let certified = Certified {
        lists: "URI:ldap://192.0.2.80/cn=ca,URI:http://192.0.2.80/a,URI:http://192.0.2.81/a,\
                URI:https://192.0.2.82/a,URI:http://192.0.2.83/a,URI:http://192.0.2.84/a,\
                URI:http://192.0.2.85/a",
        ..Certified::default()
    };
    let [(client, ours), (mut server, theirs)] = certified.ends(|_| {});
    server.settings.crl = Some(CrlFetch::Required);
    let mut pair = Pair::of(Host::new(client, ours, 1), Host::new(server, theirs, 2));
    pair.connect();
    let lookup = asked(&mut pair, Side::Responder);
    let places = [80, 81, 83, 84].map(|last| format!("http://192.0.2.{last}/a"));
    assert_eq!(question(&lookup).urls, places);
    tell(&mut pair, Side::Responder, &lookup, Ok(Status::Good));
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
}
