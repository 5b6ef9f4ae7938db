//! Peers whose certificates do not say who they are, with those of `tests/vectors/certs`: each gets its
//! answer, the log names it, the policy and the reason, and nothing is left.

use std::fs;
use std::path::Path;

use iked::auth::store::{CredentialStore, Parts};
use iked::crypto::sign::PrivateKey;
use iked::crypto::x509::{Certificate, Crl};
use iked::policy::{Auth, Policy, PublicKeyAuth};
use iked::wire::registry::{AuthMethod, CertEncoding, HashAlgorithm, NotifyType};
use iked::wire::{Cert, Payload};

use super::impostor::{
    AUTH, FORGERIES, Forge, METHOD, is_refused_in_one_line, is_told_that_it_failed, octets_of,
    responder_is_refused,
};
use super::peer::{Opened, Peer, status};
use super::setup::{config, ecdsa, fqdn, gateway, warrior};
use super::world::{Host, Pair, at};

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/certs");
    fs::read(folder.join(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let mut all = Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap();
    all.remove(0)
}

fn key(name: &str) -> PrivateKey {
    PrivateKey::from_pem(&file(&format!("{name}.key"))).unwrap()
}

/// A gateway for whoever the root vouches for; these lists are there.
fn host(lists: &[&str]) -> Host {
    host_for(None, lists)
}

/// One that wants this peer.
fn host_for(dstid: Option<&str>, lists: &[&str]) -> Host {
    let lists = lists.iter().flat_map(|name| Crl::all_from_pem(&file(name)));
    let parts = Parts {
        keys: vec![key("rsa")],
        authorities: vec![certificate("root")],
        crls: lists.collect(),
        ..Parts::default()
    };
    let mut warnings = Vec::new();
    let store = CredentialStore::assemble(parts, &mut warnings);
    assert_eq!(warnings, [""; 0]);
    let policy = Policy {
        auth: Auth::PublicKey(PublicKeyAuth::Any),
        dstid: dstid.map(fqdn),
        ..gateway()
    };
    Host::new(config([policy]), store, 2)
}

/// A peer says that it is `peer.example`, shows these certificates and signs like this.
fn tries(host: &mut Host, shown: &[&str], key: &PrivateKey, forge: Forge) -> Opened {
    let mut peer = Peer::new(1);
    peer.id = fqdn("peer.example");
    let hashes = &[0, 2, 0, 3, 0, 4, 0, 5];
    let knows = [status(NotifyType::SIGNATURE_HASH_ALGORITHMS, hashes)];
    peer.meet_with(host, at(0), &knows);
    let mut payloads = peer.auth_payloads();
    payloads.auth = Some(forge(key, &octets_of(&peer)));
    let certificates: Vec<_> = shown.iter().map(|name| certificate(name)).collect();
    let mut all = payloads.borrow();
    all.extend(certificates.iter().map(|certificate| {
        Payload::Cert(Cert {
            encoding: CertEncoding::X509,
            data: certificate.der(),
        })
    }));
    peer.ask(host, at(0), AUTH, &all)
}

fn honest(key: &PrivateKey, octets: &[u8]) -> (AuthMethod, Vec<u8>) {
    let data = key.sign_rfc7427(HashAlgorithm::SHA2_256, octets).unwrap();
    (AuthMethod::SIGNATURE, data)
}

const WHO: &str = "peer FQDN/peer.example policy 'gateway': authentication failed: ";

fn is_refused(host: &mut Host, opened: &Opened, name: &str, why: &str) {
    is_told_that_it_failed(opened, name);
    is_refused_in_one_line(host, name, &format!("{WHO}{why}"));
}

#[test]
fn the_certificates_of_these_tests_get_in_where_nothing_is_wrong() {
    for (shown, own) in [
        (&["peer"][..], "peer"),
        (&["rsa"], "rsa"),
        (&["below", "middle"], "below"),
    ] {
        let mut host = host(&[]);
        tries(&mut host, shown, &key(own), honest);
        assert_eq!(host.stats().sa_established_total, 1, "{:?}", host.lines);
    }
}

#[test]
fn a_certificate_that_does_not_vouch_for_the_peer_gets_nobody_in() {
    for (name, shown, why) in [
        (
            "wrong authority",
            &["stranger"][..],
            "unable to get local issuer certificate",
        ),
        (
            "wrong authority, shown along",
            &["stranger", "other"],
            "self signed certificate in certificate chain",
        ),
        (
            "missing intermediate",
            &["below"],
            "unable to get local issuer certificate",
        ),
        ("expired", &["expired"], "certificate has expired"),
        ("not yet valid", &["future"], "certificate is not yet valid"),
        ("another user's", &["nameless"], "names another identity"),
        (
            "path length",
            &["toolong", "tiny", "limited"],
            "path length constraint exceeded",
        ),
        (
            "name constraints",
            &["outside", "narrow"],
            "permitted subtree violation",
        ),
        (
            "issued by no authority",
            &["forged", "peer"],
            "unable to get local issuer certificate",
        ),
        (
            "key usage",
            &["usage"],
            "key usage does not allow signatures",
        ),
        (
            "SHA-1",
            &["sha1"],
            "signature algorithm too weak or unknown",
        ),
    ] {
        let mut host = host(&[]);
        let opened = tries(&mut host, shown, &key("peer"), honest);
        is_refused(&mut host, &opened, name, &format!("certificate: {why}"));
    }
    let mut short = host(&[]);
    let opened = tries(&mut short, &["small"], &key("peer"), honest);
    is_refused(&mut short, &opened, "short key", "unsupported key");
    let mut host = host(&["root.crl"]);
    let opened = tries(&mut host, &["revoked"], &key("peer"), honest);
    let why = "certificate: certificate revoked";
    is_refused(&mut host, &opened, "revoked", why);
}

#[test]
fn anothers_good_certificate_is_of_no_use_without_its_key_or_its_name() {
    let mut first = host(&[]);
    let opened = tries(&mut first, &["peer"], &key("below"), honest);
    is_refused(&mut first, &opened, "its key", "signature: ");
    // Under its own name, which no policy wants.
    let mut second = host_for(Some("somebody.example"), &[]);
    let opened = tries(&mut second, &["peer"], &key("peer"), honest);
    is_told_that_it_failed(&opened, "its name");
    let line = "no compatible policy found for FQDN/peer.example: 'gateway' wants dstid \
                FQDN/somebody.example";
    is_refused_in_one_line(&mut second, "its name", line);
}

#[test]
fn forged_signatures_of_a_certified_key_are_refused() {
    for own in ["peer", "rsa"] {
        for (name, forge) in FORGERIES {
            let mut host = host(&[]);
            let opened = tries(&mut host, &[own], &key(own), *forge);
            is_refused(&mut host, &opened, name, "signature: ");
        }
    }
}

#[test]
fn a_certificate_does_not_stand_in_for_a_proof() {
    let methods: [(&str, Forge); 3] = [
        ("NULL", |_, _| (AuthMethod::NULL, Vec::new())),
        ("shared key", |_, octets| {
            (AuthMethod::SHARED_KEY, octets[..32].to_vec())
        }),
        ("SHA-1", |_, octets| (AuthMethod::RSA, octets.to_vec())),
    ];
    for (name, forge) in methods {
        let mut host = host(&[]);
        let opened = tries(&mut host, &["peer"], &key("peer"), forge);
        let line = format!("peer FQDN/peer.example policy 'gateway': {METHOD}");
        is_told_that_it_failed(&opened, name);
        is_refused_in_one_line(&mut host, name, &line);
    }
    // Nor is anything let in without AUTH, where there is no EAP.
    let mut host = host(&[]);
    let mut peer = Peer::new(1);
    peer.id = fqdn("peer.example");
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    payloads.auth = None;
    let peers = certificate("peer");
    let mut all = payloads.borrow();
    all.push(Payload::Cert(Cert {
        encoding: CertEncoding::X509,
        data: peers.der(),
    }));
    let opened = peer.ask(&mut host, at(0), AUTH, &all);
    is_told_that_it_failed(&opened, "no AUTH");
    let line = "no compatible policy found for FQDN/peer.example: 'gateway' has no EAP";
    is_refused_in_one_line(&mut host, "no AUTH", line);
}

#[test]
fn a_responders_certificate_must_be_good_too() {
    for (own, why) in [
        ("stranger", "unable to get local issuer certificate"),
        ("below", "unable to get local issuer certificate"),
    ] {
        // The one who begins has a raw key, which the other has on file.
        let raw = PrivateKey::from_pem(&ecdsa()).unwrap();
        let public = raw.public().unwrap();
        let parts = Parts {
            keys: vec![raw],
            authorities: vec![certificate("root")],
            ..Parts::default()
        };
        let store = CredentialStore::assemble(parts, &mut Vec::new());
        let policy = Policy {
            auth: Auth::PublicKey(PublicKeyAuth::Any),
            ..warrior()
        };
        let initiator = Host::new(config([policy]), store, 1);
        let parts = Parts {
            keys: vec![key(own)],
            certificates: vec![certificate(own)],
            peers: vec![(fqdn("warrior.example"), public)],
            ..Parts::default()
        };
        let store = CredentialStore::assemble(parts, &mut Vec::new());
        let policy = Policy {
            auth: Auth::PublicKey(PublicKeyAuth::Any),
            srcid: fqdn("peer.example"),
            ..gateway()
        };
        let responder = Host::new(config([policy]), store, 2);
        let line = format!(
            "peer FQDN/peer.example policy 'warrior': authentication failed: certificate: {why}"
        );
        responder_is_refused(Pair::of(initiator, responder), &line);
    }
}
