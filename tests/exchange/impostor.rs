//! Peers that are not who they say, in ways that no honest implementation tries: each gets its answer,
//! the log names it, the policy and the reason, and nothing is left.

use iked::auth::{octets, psk};
use iked::crypto::sign::PrivateKey;
use iked::crypto::{Prf, boring};
use iked::policy::Policy;
use iked::wire::registry::{
    AuthMethod, ExchangeType, HashAlgorithm, NotifyType, PrfId, ProtocolId,
};
use iked::wire::{Id, Notify, Payload};

use super::peer::{Opened, Peer};
use super::setup::{config, ecdsa, fqdn, gateway, no_keys, rsa, with_keys};
use super::world::{Host, Pair, Side, at};

pub(super) const AUTH: ExchangeType = ExchangeType::IKE_AUTH;
pub(super) const PEER: &str = "peer FQDN/warrior.example policy 'gateway': ";

pub(super) fn prf() -> &'static dyn Prf {
    boring::provider().prf(PrfId::HMAC_SHA2_256).unwrap()
}

/// What the initiator signs (RFC 7296, 2.15).
pub(super) fn octets_of(peer: &Peer) -> Vec<u8> {
    let keys = peer.keys.as_ref().unwrap();
    let id = Id {
        kind: peer.id.kind,
        data: &peer.id.data,
    };
    let sk_pi = keys.sk_pi.expose();
    octets::signed_octets(&peer.request, &peer.nonce_r, prf(), sk_pi, &id.body())
}

/// No trace of the peer but the line that names it, and why.
pub(super) fn nothing_is_left(host: &mut Host, name: &str, why: &str) {
    is_refused_in_one_line(host, name, &format!("{PEER}{why}"));
}

/// No trace of the peer but one line with this in it.
pub(super) fn is_refused_in_one_line(host: &mut Host, name: &str, line: &str) {
    let stats = host.stats();
    assert_eq!(stats.sa_established_total, 0, "{name}");
    assert_eq!(stats.sa_established_failures, 1, "{name}");
    assert_eq!((stats.half_open, stats.leases), (0, 0), "{name}");
    assert!(host.kernel.installed.is_empty(), "{name}");
    let said = host.lines.iter().filter(|said| said.contains(line));
    assert_eq!(said.count(), 1, "{name}: `{line}` in {:?}", host.lines);
    host.wake(at(11));
    assert!(host.endpoint.is_empty(), "{name}");
}

pub(super) fn is_told_that_it_failed(opened: &Opened, name: &str) {
    let failed = [NotifyType::AUTHENTICATION_FAILED];
    assert_eq!(opened.notifies(), failed, "{name}");
    assert_eq!(opened.payloads().len(), 1, "{name}: {opened:?}");
}

/// A gateway that has the public key of this one on file.
fn knows(key: &[u8]) -> Host {
    let [_, (policy, store)] = with_keys(key, &ecdsa());
    Host::new(config([policy]), store, 2)
}

/// A proof, made of what the peer must sign.
pub(super) type Proof = (AuthMethod, Vec<u8>);
pub(super) type Forge = fn(&PrivateKey, &[u8]) -> Proof;

/// Method 14 as it should be.
fn honest(key: &PrivateKey, octets: &[u8]) -> Proof {
    let data = key.sign_rfc7427(HashAlgorithm::SHA2_256, octets).unwrap();
    (AuthMethod::SIGNATURE, data)
}

/// The same, with its data changed.
fn changed(key: &PrivateKey, octets: &[u8], change: impl Fn(&mut Vec<u8>)) -> Proof {
    let (method, mut data) = honest(key, octets);
    change(&mut data);
    (method, data)
}

/// The AlgorithmIdentifier with its length, and the signature, of a proof by method 14.
fn parts((_, data): &Proof) -> (&[u8], &[u8]) {
    data.split_at(1 + usize::from(data[0]))
}

fn tries(host: &mut Host, key: &PrivateKey, forge: Forge) -> Opened {
    tries_knowing(host, key, forge, &[0, 2, 0, 3, 0, 4, 0, 5])
}

/// With these as the hashes that the peer announces (RFC 7427); without any it announces nothing.
fn tries_knowing(host: &mut Host, key: &PrivateKey, forge: Forge, hashes: &[u8]) -> Opened {
    let mut peer = Peer::new(1);
    let notify = Notify {
        protocol: ProtocolId::NONE,
        spi: &[],
        kind: NotifyType::SIGNATURE_HASH_ALGORITHMS,
        data: hashes,
    };
    match hashes {
        [] => peer.meet(host, at(0)),
        [_, ..] => peer.meet_with(host, at(0), &[Payload::Notify(notify)]),
    }
    let mut payloads = peer.auth_payloads();
    payloads.auth = Some(forge(key, &octets_of(&peer)));
    peer.ask(host, at(0), AUTH, &payloads.borrow())
}

/// Whatever the kind of key.
pub(super) const FORGERIES: &[(&str, Forge)] = &[
    ("empty", |_, _| (AuthMethod::SIGNATURE, Vec::new())),
    ("zeroes", |key, octets| {
        changed(key, octets, |data| data.fill(0))
    }),
    ("identifier alone", |key, octets| {
        changed(key, octets, |data| data.truncate(1 + usize::from(data[0])))
    }),
    ("zeroes for the signature", |key, octets| {
        changed(key, octets, |data| {
            let at = 1 + usize::from(data[0]);
            data[at..].fill(0);
        })
    }),
    ("truncated", |key, octets| {
        changed(key, octets, |data| data.truncate(data.len() - 1))
    }),
    ("overlong", |key, octets| {
        changed(key, octets, |data| data.push(0))
    }),
    ("flipped", |key, octets| {
        changed(key, octets, |data| *data.last_mut().unwrap() ^= 1)
    }),
    ("identifier of another hash", |key, octets| {
        let own = honest(key, octets);
        let data = key.sign_rfc7427(HashAlgorithm::SHA2_384, octets).unwrap();
        let other = (AuthMethod::SIGNATURE, data);
        (own.0, [parts(&other).0, parts(&own).1].concat())
    }),
    ("of an older handshake", |key, octets| {
        let older: Vec<u8> = octets.iter().map(|byte| byte ^ 1).collect();
        honest(key, &older)
    }),
    ("another's", |_, octets| {
        honest(&PrivateKey::from_pem(&ecdsa()).unwrap(), octets)
    }),
];

/// Proofs by methods that the policy does not have.
const SWITCHED: &[(&str, Forge)] = &[
    ("shared key of nothing", |_, octets| {
        (
            AuthMethod::SHARED_KEY,
            psk::shared_key_auth(prf(), &[], octets),
        )
    }),
    ("NULL", |_, octets| {
        (AuthMethod::NULL, psk::shared_key_auth(prf(), &[], octets))
    }),
];

fn refuses(pem: &[u8], forgeries: &[(&str, Forge)], why: &str) {
    let key = PrivateKey::from_pem(pem).unwrap();
    for (name, forge) in forgeries {
        let mut host = knows(pem);
        let opened = tries(&mut host, &key, *forge);
        is_told_that_it_failed(&opened, name);
        nothing_is_left(&mut host, name, why);
    }
}

const BAD: &str = "authentication failed: signature: ";
pub(super) const METHOD: &str = "authentication failed: authentication method not allowed";

#[test]
fn forged_ecdsa_signatures_are_refused() {
    let pem = ecdsa();
    let key = PrivateKey::from_pem(&pem).unwrap();
    let mut host = knows(&pem);
    tries(&mut host, &key, honest);
    assert_eq!(host.stats().sa_established_total, 1, "{:?}", host.lines);
    refuses(&pem, FORGERIES, BAD);
    refuses(&pem, SWITCHED, METHOD);
    let encodings: &[(&str, Forge)] = &[
        ("r and s side by side in method 14", |key, octets| {
            let own = honest(key, octets);
            let (_, flat) = key.sign_legacy(octets).unwrap();
            (own.0, [parts(&own).0, &flat].concat())
        }),
        ("r and s in DER in method 9", |key, octets| {
            let own = honest(key, octets);
            (AuthMethod::ECDSA_256, parts(&own).1.to_vec())
        }),
        ("no identifier", |key, octets| {
            let (_, flat) = key.sign_legacy(octets).unwrap();
            (AuthMethod::SIGNATURE, flat)
        }),
        ("method of another curve", |key, octets| {
            let (_, flat) = key.sign_legacy(octets).unwrap();
            (AuthMethod::ECDSA_384, flat)
        }),
    ];
    refuses(&pem, encodings, BAD);
    let sha_1: &[(&str, Forge)] = &[("method of RSA", |key, octets| {
        (AuthMethod::RSA, parts(&honest(key, octets)).1.to_vec())
    })];
    refuses(&pem, sha_1, METHOD);
}

#[test]
fn forged_rsa_signatures_are_refused() {
    let pem = &rsa()[0];
    let key = PrivateKey::from_pem(pem).unwrap();
    let pss: Forge = |key, octets| {
        let data = key.sign_rfc7427_pss(HashAlgorithm::SHA2_256, octets);
        (AuthMethod::SIGNATURE, data.unwrap())
    };
    for good in [honest, pss] {
        let mut host = knows(pem);
        tries(&mut host, &key, good);
        assert_eq!(host.stats().sa_established_total, 1, "{:?}", host.lines);
    }
    refuses(pem, FORGERIES, BAD);
    refuses(pem, SWITCHED, METHOD);
    let encodings: &[(&str, Forge)] = &[
        ("PSS under the name of PKCS #1", |key, octets| {
            let own = honest(key, octets);
            let data = key
                .sign_rfc7427_pss(HashAlgorithm::SHA2_256, octets)
                .unwrap();
            let other = (AuthMethod::SIGNATURE, data);
            (own.0, [parts(&own).0, parts(&other).1].concat())
        }),
        ("PKCS #1 under the name of PSS", |key, octets| {
            let own = honest(key, octets);
            let data = key
                .sign_rfc7427_pss(HashAlgorithm::SHA2_256, octets)
                .unwrap();
            let other = (AuthMethod::SIGNATURE, data);
            (own.0, [parts(&other).0, parts(&own).1].concat())
        }),
    ];
    refuses(pem, encodings, BAD);
    let sha_1: &[(&str, Forge)] = &[
        ("method 14 under the number of 1", honest_as_method_1),
        ("method 1, by who knows better", |key, octets| {
            key.sign_legacy(octets).unwrap()
        }),
    ];
    refuses(pem, sha_1, METHOD);
}

/// RFC 7427, 4: method 14 is for ends that have told each other their hashes, method 1 for others.
#[test]
fn who_announces_no_hashes_proves_itself_by_method_1_and_not_by_14() {
    let pem = &rsa()[0];
    let key = PrivateKey::from_pem(pem).unwrap();
    let mut host = knows(pem);
    let older: Forge = |key, octets| key.sign_legacy(octets).unwrap();
    tries_knowing(&mut host, &key, older, &[]);
    assert_eq!(host.stats().sa_established_total, 1, "{:?}", host.lines);
    let mut host = knows(pem);
    let opened = tries_knowing(&mut host, &key, honest, &[]);
    is_told_that_it_failed(&opened, "method 14");
    nothing_is_left(&mut host, "method 14", BAD);
}

/// All of method 14's data under the number of method 1.
fn honest_as_method_1(key: &PrivateKey, octets: &[u8]) -> Proof {
    (AuthMethod::RSA, honest(key, octets).1)
}

#[test]
fn a_secret_does_not_stand_in_for_a_method_that_the_policy_has_not() {
    for method in [AuthMethod::SIGNATURE, AuthMethod::RSA, AuthMethod::NULL] {
        let mut host = Host::new(config([gateway()]), no_keys(), 2);
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let mut payloads = peer.auth_payloads();
        payloads.auth.as_mut().unwrap().0 = method;
        let opened = peer.ask(&mut host, at(0), AUTH, &payloads.borrow());
        is_told_that_it_failed(&opened, "method");
        nothing_is_left(&mut host, "method", METHOD);
    }
}

#[test]
fn without_auth_and_without_eap_each_policy_says_why_not() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    payloads.auth = None;
    let opened = peer.ask(&mut host, at(0), AUTH, &payloads.borrow());
    is_told_that_it_failed(&opened, "no AUTH");
    assert_eq!(host.stats().sa_established_total, 0);
    assert!(host.said("no compatible policy found for FQDN/warrior.example: 'gateway' has no EAP"));
}

#[test]
fn nobody_rekeys_deletes_or_asks_before_authentication() {
    for exchange in [ExchangeType::CREATE_CHILD_SA, ExchangeType::INFORMATIONAL] {
        let mut host = Host::new(config([gateway()]), no_keys(), 2);
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let early = peer.seal(exchange, &[Payload::Nonce(&[1; 32])]);
        assert_eq!(peer.send(&mut host, at(0), &early), []);
        // No key is computed for it, so nobody knows whose it is: it is counted, not logged.
        assert_eq!(host.stats().unexpected, 1);
        assert_eq!(host.stats().sa_established_total, 0);
        assert_eq!(host.stats().sa_created, 1);
        // It counts for nothing: IKE_AUTH is still the first.
        peer.next_id = 1;
        peer.log_in(&mut host, at(0));
        assert_eq!(host.stats().sa_established_total, 1, "{:?}", host.lines);
    }
}

/// The initiator refuses the one who answers, tells it, and neither keeps anything.
pub(super) fn responder_is_refused(mut pair: Pair, line: &str) {
    pair.connect();
    assert!(pair.initiator.said(line), "{:?}", pair.initiator.lines);
    pair.pass_time(20);
    assert_eq!(pair.initiator.stats().sa_established_total, 0);
    assert!(pair.initiator.kernel.holds().is_empty());
    assert_eq!(pair.responder.stats().sa_established_current, 0);
    assert!(pair.responder.kernel.holds().is_empty());
    assert!(pair.host(Side::Responder).endpoint.is_empty());
}

#[test]
fn a_responder_must_be_who_it_says_too() {
    let (ours, theirs) = (ecdsa(), ecdsa());
    let [(warrior, store), _] = with_keys(&ours, &theirs);
    // It signs with another key than the one on file.
    let [_, (gateway, wrong)] = with_keys(&ours, &ecdsa());
    let initiator = Host::new(config([warrior.clone()]), store, 1);
    let responder = Host::new(config([gateway.clone()]), wrong, 2);
    let line = "peer FQDN/gateway.example policy 'warrior': authentication failed: ";
    responder_is_refused(Pair::of(initiator, responder), line);
    // It has the right key and another name.
    let [(_, store), (_, right)] = with_keys(&ours, &theirs);
    let wants = Policy {
        dstid: Some(fqdn("gateway.example")),
        ..warrior
    };
    let other = Policy {
        srcid: fqdn("other.example"),
        ..gateway
    };
    let initiator = Host::new(config([wants]), store, 1);
    let responder = Host::new(config([other]), right, 2);
    let line = "no compatible policy found for FQDN/other.example: 'warrior' wants dstid \
                FQDN/gateway.example";
    responder_is_refused(Pair::of(initiator, responder), line);
}
