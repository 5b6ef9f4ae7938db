//! What a responder says of a certificate, shown by who has it (RFC 4806): the certificates and
//! responses are those of `tests/vectors/ocsp`, the lookup thread is the test.

use std::time::Duration;

use iked::crypto::ocsp::Status;
use iked::lookup::port::{Answer, Lookup, Question};
use iked::policy::{Auth, Eap, EapMethod, Ocsp, Policy, PublicKeyAuth};

use super::asking::{answer, asked, certificates, file, host_by};
use super::setup::{config, fqdn, gateway, warrior};
use super::world::{Pair, Side};

/// The certificate `good` is that of the other than who asks, whose is `revoked`; an answer may be
/// this old.
fn pair(side: Side, auth: impl Fn() -> Auth, max_age: Option<u64>) -> Pair {
    let name = |asks| if asks == side { "revoked" } else { "good" };
    let (initiator, responder) = (Side::Initiator, Side::Responder);
    let mut pair = Pair::of(
        host_by(auth(), warrior(), name(initiator), false, 1),
        host_by(auth(), gateway(), name(responder), false, 2),
    );
    let policy = match side {
        Side::Initiator => warrior(),
        Side::Responder => gateway(),
    };
    let mut asking = config([Policy {
        srcid: fqdn("revoked.example"),
        auth: auth(),
        ..policy
    }]);
    asking.settings.ocsp = Some(Ocsp {
        url: "http://192.0.2.81/".to_owned(),
        tolerate: Duration::ZERO,
        max_age: max_age.map(Duration::from_secs),
    });
    let now = pair.now();
    pair.host(side).endpoint.handle_config(now, asking.into());
    pair
}

fn signed() -> Auth {
    Auth::PublicKey(PublicKeyAuth::Any)
}

/// The responses are of some months ago.
const AGES: Option<u64> = Some(100_000_000);

/// What the other than who asks is asked of its own certificate.
fn own(pair: &mut Pair, side: Side) -> Lookup {
    let lookup = pair.host(side.other()).endpoint.poll_lookup();
    let lookup = lookup.expect("not asked for its own");
    let Question::Own(question) = &lookup.question else {
        panic!("{lookup:?}");
    };
    assert_eq!(question.leaf, certificates("good")[0]);
    assert_eq!(question.issuer, certificates("ca")[0]);
    assert_eq!(question.url, "http://192.0.2.80:8080/ocsp");
    let soon = pair.now().mono + Duration::from_secs(5);
    assert_eq!(lookup.until, soon);
    lookup
}

fn show(pair: &mut Pair, side: Side, lookup: &Lookup, response: Option<&str>) {
    let response = response.map(|name| file(name).into());
    answer(pair, side.other(), lookup, Answer::Own(response));
}

#[test]
fn a_response_that_the_peer_shows_is_as_good_as_one_that_is_asked_for() {
    for side in [Side::Responder, Side::Initiator] {
        for recorded in ["good.der", "delegated.der", "bare.der"] {
            let mut pair = pair(side, signed, AGES);
            pair.connect();
            let lookup = own(&mut pair, side);
            assert!(!pair.is_up());
            show(&mut pair, side, &lookup, Some(recorded));
            assert!(pair.is_up(), "{side:?} {recorded}");
            assert_eq!(pair.host(side).stats().lookups, 0);
        }
    }
}

#[test]
fn a_response_that_does_not_count_is_passed_over_and_the_responder_asked() {
    let recorded = [
        None,
        Some("revoked.der"),
        Some("unknown.der"),
        Some("foreign.der"),
        Some("plain.der"),
        Some("sha1.der"),
        Some("short.der"),
        Some("refused.der"),
        Some("make.sh"),
    ];
    for side in [Side::Responder, Side::Initiator] {
        for recorded in recorded {
            let mut pair = pair(side, signed, AGES);
            pair.connect();
            let lookup = own(&mut pair, side);
            show(&mut pair, side, &lookup, recorded);
            assert!(!pair.is_up(), "{side:?} {recorded:?}");
            let lookup = asked(&mut pair, side);
            answer(&mut pair, side, &lookup, Answer::Ocsp(Ok(Status::Good)));
            assert!(pair.is_up(), "{side:?} {recorded:?}");
        }
    }
}

#[test]
fn without_maxage_nothing_counts_that_is_older_than_what_we_keep() {
    for side in [Side::Responder, Side::Initiator] {
        let mut pair = pair(side, signed, None);
        pair.connect();
        let lookup = own(&mut pair, side);
        show(&mut pair, side, &lookup, Some("good.der"));
        assert!(!pair.is_up());
        assert!(matches!(asked(&mut pair, side).question, Question::Ocsp(_)));
    }
}

#[test]
fn who_shows_that_it_is_revoked_is_refused() {
    // The roles of the certificates are the other way round.
    for side in [Side::Responder, Side::Initiator] {
        let mut pair = pair(side.other(), signed, None);
        let mut asking = config([Policy {
            srcid: fqdn("good.example"),
            auth: signed(),
            ..if side == Side::Initiator {
                warrior()
            } else {
                gateway()
            }
        }]);
        asking.settings.ocsp = Some(Ocsp {
            url: "http://192.0.2.81/".to_owned(),
            tolerate: Duration::ZERO,
            max_age: AGES.map(Duration::from_secs),
        });
        let now = pair.now();
        pair.host(side).endpoint.handle_config(now, asking.into());
        pair.connect();
        let other = side.other();
        // The other has `set ocsp` as well, so it may have asked something first.
        let mut lookups = 0;
        while let Some(lookup) = pair.host(side).endpoint.poll_lookup() {
            assert!(matches!(lookup.question, Question::Own(_)), "{lookup:?}");
            answer(&mut pair, side, &lookup, Answer::Own(None));
            lookups += 1;
        }
        while let Some(lookup) = pair.host(other).endpoint.poll_lookup() {
            let said = match &lookup.question {
                Question::Own(_) => Answer::Own(Some(file("revoked.der").into())),
                Question::Ocsp(_) => Answer::Ocsp(Ok(Status::Good)),
                other => panic!("{other:?}"),
            };
            answer(&mut pair, other, &lookup, said);
            while let Some(lookup) = pair.host(side).endpoint.poll_lookup() {
                assert!(matches!(lookup.question, Question::Own(_)), "{lookup:?}");
                answer(&mut pair, side, &lookup, Answer::Own(None));
                lookups += 1;
            }
        }
        assert!(lookups <= 1);
        assert!(pair.host(side).said("certificate: revoked"), "{side:?}");
        assert!(!pair.is_up());
    }
}

#[test]
fn nobody_waits_long_for_what_it_would_show() {
    for side in [Side::Responder, Side::Initiator] {
        let mut pair = pair(side, signed, AGES);
        pair.connect();
        let lookup = own(&mut pair, side);
        if side == Side::Responder {
            // The lookup thread is dead, and the handshake goes on all the same.
            pair.pass_time(8);
        } else {
            show(&mut pair, side, &lookup, None);
        }
        let lookup = asked(&mut pair, side);
        answer(&mut pair, side, &lookup, Answer::Ocsp(Ok(Status::Good)));
        assert!(pair.is_up(), "{side:?}");
    }
}

#[test]
fn a_peer_that_does_not_ask_is_shown_nothing() {
    let mut pair = Pair::of(
        host_by(signed(), warrior(), "good", false, 1),
        host_by(signed(), gateway(), "revoked", false, 2),
    );
    pair.connect();
    assert!(pair.is_up());
    assert_eq!(pair.initiator.stats().lookups, 0);
    assert_eq!(pair.responder.stats().lookups, 0);
}

#[test]
fn with_eap_the_gateway_shows_it_with_its_first_answer() {
    for recorded in [Some("good.der"), None] {
        let user = super::setup::eap_user("secret");
        let auth = || {
            let methods = vec![EapMethod::Gtc];
            let user = Some(user.clone());
            Auth::Eap(Eap { methods, user })
        };
        let mut pair = pair(Side::Initiator, auth, AGES);
        pair.connect();
        let lookup = own(&mut pair, Side::Initiator);
        show(&mut pair, Side::Initiator, &lookup, recorded);
        // The gateway has no users, so that it refuses the name if it hears it.
        let why = "EAP: wrong user name or password for 'alice'";
        assert_eq!(pair.responder.said(why), recorded.is_some());
        if recorded.is_none() {
            let lookup = asked(&mut pair, Side::Initiator);
            assert!(matches!(lookup.question, Question::Ocsp(_)), "{lookup:?}");
        }
    }
}
