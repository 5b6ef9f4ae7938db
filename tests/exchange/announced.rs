//! What each end announces that it takes as proof (RFC 9593), and what the other makes of it. The
//! certificates are those of `tests/vectors/certs`: an ECDSA and an RSA key for the same name, and
//! one of another authority.

use std::fs;
use std::path::Path;

use iked::auth::announce::{self, Way};
use iked::auth::store::{CredentialStore, Parts};
use iked::crypto::algorithm::Algorithm;
use iked::crypto::boring;
use iked::crypto::sign::PrivateKey;
use iked::crypto::x509::Certificate;
use iked::policy::{Auth, Config, Eap, EapMethod, Policy, PublicKeyAuth};
use iked::wire::registry::{AuthMethod, CertEncoding, HashAlgorithm, NotifyType};
use iked::wire::{CertReq, Message, Payload};

use super::impostor::{AUTH, octets_of};
use super::peer::{Opened, Peer, status};
use super::setup::{config, ecdsa, fqdn, gateway, no_keys, warrior, with_passwords};
use super::world::{Host, Pair, Side, at};

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/certs");
    fs::read(folder.join(name)).unwrap()
}

fn certificates(name: &str) -> Vec<Certificate> {
    Certificate::all_from_pem(&file(name)).unwrap()
}

fn key_id(name: &str) -> [u8; 20] {
    certificates(name)[0].key_id().unwrap()
}

fn key(name: &str) -> PrivateKey {
    PrivateKey::from_pem(&file(&format!("{name}.key"))).unwrap()
}

/// `peer.example` with these keys and their certificates; the other end's raw key is on file.
fn holder(policy: Policy, keys: &[&str], other: &PrivateKey) -> (Policy, CredentialStore) {
    let names = keys.iter().map(|name| format!("{name}.crt"));
    let parts = Parts {
        keys: keys.iter().map(|name| key(name)).collect(),
        certificates: names.flat_map(|name| certificates(&name)).collect(),
        peers: vec![(fqdn("raw.example"), other.public().unwrap())],
        authorities: [certificates("root.crt"), certificates("other.crt")].concat(),
        ..Parts::default()
    };
    let mut warnings = Vec::new();
    let store = CredentialStore::assemble(parts, &mut warnings);
    assert_eq!(warnings, [""; 0]);
    let policy = Policy {
        srcid: fqdn("peer.example"),
        auth: Auth::PublicKey(PublicKeyAuth::Any),
        ..policy
    };
    (policy, store)
}

/// `raw.example`, which takes what its word says of whoever is certified by the root.
fn taker(policy: Policy, own: PrivateKey, words: PublicKeyAuth) -> (Policy, CredentialStore) {
    let parts = Parts {
        keys: vec![own],
        authorities: certificates("root.crt"),
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    let policy = Policy {
        srcid: fqdn("raw.example"),
        auth: Auth::PublicKey(words),
        ..policy
    };
    (policy, store)
}

/// Both keys at the end that proves itself by one of them.
fn pair(side: Side, keys: &[&str], words: PublicKeyAuth) -> Pair {
    // Its own key must be one that its word lets sign.
    let raw = match words {
        PublicKeyAuth::Rsa | PublicKeyAuth::RsaPss => super::setup::rsa()[0].clone(),
        _ => ecdsa(),
    };
    let raw = PrivateKey::from_pem(&raw).unwrap();
    match side {
        Side::Initiator => {
            let initiator = holder(warrior(), keys, &raw);
            Pair::new(initiator, taker(gateway(), raw, words))
        }
        Side::Responder => {
            let responder = holder(gateway(), keys, &raw);
            Pair::new(taker(warrior(), raw, words), responder)
        }
    }
}

#[test]
fn of_two_keys_the_one_signs_that_the_other_end_takes_and_as_it_takes_it() {
    for side in [Side::Initiator, Side::Responder] {
        for keys in [["peer", "rsa"], ["rsa", "peer"]] {
            for words in [
                PublicKeyAuth::Any,
                PublicKeyAuth::Rsa,
                PublicKeyAuth::RsaPss,
                PublicKeyAuth::Ecdsa256,
            ] {
                let mut pair = pair(side, &keys, words);
                pair.connect();
                let lines = pair.host(side.other()).lines.clone();
                assert!(pair.is_up(), "{side:?} {keys:?} {words:?}: {lines:?}");
            }
        }
    }
}

/// What the IKE_SA_INIT response of this host announces.
fn said_by(config: Config, store: CredentialStore, hashes: bool) -> Option<Vec<u8>> {
    let mut host = Host::new(config, store, 2);
    let mut peer = Peer::new(1);
    let knows = [status(NotifyType::SIGNATURE_HASH_ALGORITHMS, HASHES)];
    peer.meet_with(&mut host, at(0), if hashes { &knows } else { &[] });
    let response = Message::decode(&peer.response).unwrap();
    let said = response.payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == NotifyType::SUPPORTED_AUTH_METHODS => {
            Some(notify.data.to_vec())
        }
        _ => None,
    });
    assert!(peer.response.len() <= 1280 - 40 - 8 || said.is_none());
    said
}

const HASHES: &[u8] = &[0, 2, 0, 3, 0, 4, 0, 5];

#[test]
fn a_responder_announces_what_all_its_policies_take() {
    let hashes = boring::provider().signature_hashes;
    let by = |words| Policy {
        auth: Auth::PublicKey(words),
        dstid: Some(fqdn("somebody.example")),
        ..gateway()
    };
    let psk = || said_by(config([gateway()]), no_keys(), true);
    assert_eq!(psk(), Some(vec![2, 2]));
    for newer in [true, false] {
        let both = config([by(PublicKeyAuth::Rsa), gateway()]);
        let expected = announce::list(&[PublicKeyAuth::Rsa], true, newer, hashes);
        assert_eq!(said_by(both, no_keys(), newer), Some(expected), "{newer}");
    }
    // Nobody without method 14 gets in here, and an empty list would promise another exchange.
    let new = || config([by(PublicKeyAuth::Rfc7427)]);
    assert_eq!(said_by(new(), no_keys(), false), None);
    assert!(said_by(new(), no_keys(), true).is_some());
    let [_, (eap, store)] = with_passwords(&[], &[EapMethod::MsChapV2], "secret");
    assert_eq!(said_by(eap, store, true), None);
}

#[test]
fn a_response_that_would_be_too_long_for_one_packet_does_without() {
    let said = |authorities: usize, fragment_size: u16| {
        let root = certificates("root.crt");
        let parts = Parts {
            authorities: root.into_iter().cycle().take(authorities).collect(),
            ..Parts::default()
        };
        let store = CredentialStore::assemble(parts, &mut Vec::new());
        let policy = Policy {
            auth: Auth::PublicKey(PublicKeyAuth::Any),
            ..gateway()
        };
        let mut config = config([policy]);
        config.settings.fragment_size = fragment_size;
        said_by(config, store, true)
    };
    assert!(said(10, 0).is_some());
    assert!(said(50, 0).is_none());
    assert!(said(10, 1500).is_some(), "no more than every path carries");
    assert!(said(50, 1500).is_none());
    assert!(said(0, 700).is_some());
    assert!(
        said(0, 400).is_none(),
        "what the operator knows of the path"
    );
}

#[test]
fn a_new_configuration_announces_what_is_new() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let policy = Policy {
        auth: Auth::PublicKey(PublicKeyAuth::Ecdsa256),
        ..gateway()
    };
    let new = std::sync::Arc::new(config([policy]));
    host.endpoint.handle_config(at(0), new);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let expected = [0, 0, 0, 11, 0, 0, 0x40, 0x3b, 3, 9, 0];
    assert!(peer.response.ends_with(&expected), "{:?}", peer.response);
}

/// A peer by hand announces this, asks for certificates of these authorities, and reads the gateway's
/// proof, which it can only have from a gateway that let it in.
fn proof_for(announced: &[u8], asked: &[[u8; 20]], keys: &[&str]) -> (Host, Opened) {
    let own = PrivateKey::from_pem(&ecdsa()).unwrap();
    let (policy, store) = holder(gateway(), keys, &own);
    let mut host = Host::new(config([policy]), store, 2);
    let mut peer = Peer::new(1);
    peer.id = fqdn("raw.example");
    let knows = [status(NotifyType::SIGNATURE_HASH_ALGORITHMS, HASHES)];
    peer.meet_with(&mut host, at(0), &knows);
    let mut payloads = peer.auth_payloads();
    let octets = octets_of(&peer);
    let data = own.sign_rfc7427(HashAlgorithm::SHA2_256, &octets).unwrap();
    payloads.auth = Some((AuthMethod::SIGNATURE, data));
    let mut all = payloads.borrow();
    // One payload for each: the numbers count on.
    all.extend(asked.iter().map(|data| {
        let encoding = CertEncoding::X509;
        Payload::CertReq(CertReq { encoding, data })
    }));
    all.push(status(NotifyType::SUPPORTED_AUTH_METHODS, announced));
    let opened = peer.ask(&mut host, at(0), AUTH, &all);
    assert_eq!(host.stats().sa_established_total, 1, "{:?}", host.lines);
    (host, opened)
}

/// How the gateway signed, and its certificate.
fn shown(opened: &Opened) -> (Option<Way>, Option<Vec<u8>>) {
    let payloads = opened.payloads();
    let auth = payloads.iter().find_map(|payload| match payload {
        Payload::Auth(auth) if auth.method == AuthMethod::SIGNATURE => {
            let identifier = &auth.data[1..][..usize::from(auth.data[0])];
            Algorithm::named(identifier).map(Way::Named)
        }
        Payload::Auth(auth) => Some(Way::Older(auth.method)),
        _ => None,
    });
    let cert = payloads.iter().find_map(|payload| match payload {
        Payload::Cert(cert) => Some(cert.data.to_vec()),
        _ => None,
    });
    (auth, cert)
}

/// An announcement of method 14 for an authority.
fn named(algorithm: Algorithm, authority: u8) -> Vec<u8> {
    let identifier = algorithm.identifier();
    let length = u8::try_from(identifier.len() + 3).unwrap();
    [&[length, 14, authority], &identifier[..]].concat()
}

const ECDSA: Algorithm = Algorithm::Ecdsa(HashAlgorithm::SHA2_256);
const PSS: Algorithm = Algorithm::RsaPss(HashAlgorithm::SHA2_384);

#[test]
fn the_first_that_the_peer_announced_and_a_key_can_do_is_done() {
    let root = [key_id("root.crt")];
    let both = ["peer", "rsa"];
    let pkcs1 = Algorithm::RsaPkcs1(HashAlgorithm::SHA2_512);
    for (announced, way) in [
        (vec![named(PSS, 0), named(ECDSA, 0)], Way::Named(PSS)),
        (vec![named(ECDSA, 0), named(PSS, 0)], Way::Named(ECDSA)),
        (vec![named(pkcs1, 1)], Way::Named(pkcs1)),
        // A secret and what is not known are nothing to sign with; method 9 is.
        (
            vec![vec![2, 2, 3, 77, 0], vec![3, 9, 0], named(PSS, 0)],
            Way::Older(AuthMethod::ECDSA_256),
        ),
    ] {
        let (host, opened) = proof_for(&announced.concat(), &root, &both);
        let certificate = match way {
            Way::Named(Algorithm::Ecdsa(_)) | Way::Older(_) => "peer.crt",
            Way::Named(_) => "rsa.crt",
        };
        let der = certificates(certificate)[0].der().to_vec();
        assert_eq!(shown(&opened), (Some(way), Some(der)), "{:?}", host.lines);
    }
}

#[test]
fn an_announcement_for_one_authority_leads_to_a_certificate_below_it() {
    let asked = [key_id("root.crt"), key_id("other.crt")];
    let keys = ["peer", "rsa", "stranger"];
    let root = || certificates("root.crt");
    assert_eq!(root().len(), 1);
    for (announced, way, certificate) in [
        (named(ECDSA, 2), ECDSA, "stranger.crt"),
        (named(ECDSA, 1), ECDSA, "peer.crt"),
        // RSA is for an authority that none of ours is below, or for none that was asked for.
        (
            [named(PSS, 2), named(PSS, 3), named(ECDSA, 2)].concat(),
            ECDSA,
            "stranger.crt",
        ),
        ([named(PSS, 1), named(ECDSA, 2)].concat(), PSS, "rsa.crt"),
    ] {
        let (host, opened) = proof_for(&announced, &asked, &keys);
        let der = certificates(certificate)[0].der().to_vec();
        let expected = (Some(Way::Named(way)), Some(der));
        assert_eq!(shown(&opened), expected, "{:?}", host.lines);
    }
}

#[test]
fn what_we_cannot_do_or_read_changes_nothing() {
    let root = [key_id("root.crt")];
    let none = "none of the proofs that the peer announced can be had";
    let cut = "SUPPORTED_AUTH_METHODS: truncated: passed over";
    let (_, as_without) = proof_for(&[], &root, &["peer"]);
    for (announced, said) in [
        (named(Algorithm::Ed25519, 0), Some(none)),
        (named(ECDSA, 7), Some(none)),
        (vec![2, 2, 3, 77, 0], None),
        (vec![2, 2, 9, 14, 0], Some(cut)),
        (
            vec![2, 2, 1],
            Some("SUPPORTED_AUTH_METHODS: malformed length"),
        ),
        ([2, 2].repeat(65), Some("SUPPORTED_AUTH_METHODS: too many")),
    ] {
        let (host, opened) = proof_for(&announced, &root, &["peer"]);
        assert_eq!(shown(&opened), shown(&as_without), "{announced:?}");
        let lines = &host.lines;
        let told = |line| lines.iter().any(|said: &String| said.contains(line));
        assert!(said.is_none_or(told), "{announced:?}: {lines:?}");
        assert_eq!(told(none), said == Some(none), "{announced:?}: {lines:?}");
    }
}

#[test]
fn a_gateway_with_eap_signs_as_its_client_announced() {
    let own = PrivateKey::from_pem(&ecdsa()).unwrap();
    let (policy, store) = holder(gateway(), &["peer", "rsa"], &own);
    let policy = Policy {
        auth: Auth::Eap(Eap::of(EapMethod::MsChapV2)),
        ..policy
    };
    let mut host = Host::new(config([policy]), store, 2);
    let mut peer = Peer::new(1);
    let knows = [status(NotifyType::SIGNATURE_HASH_ALGORITHMS, HASHES)];
    peer.meet_with(&mut host, at(0), &knows);
    let mut payloads = peer.auth_payloads();
    payloads.auth = None;
    let announced = named(PSS, 0);
    let mut all = payloads.borrow();
    all.push(status(NotifyType::SUPPORTED_AUTH_METHODS, &announced));
    let opened = peer.ask(&mut host, at(0), AUTH, &all);
    let der = certificates("rsa.crt")[0].der().to_vec();
    assert_eq!(shown(&opened), (Some(Way::Named(PSS)), Some(der)));
}
