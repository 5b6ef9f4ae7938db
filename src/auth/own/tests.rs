//! Keys are those of `tests/vectors/auth` and `tests/vectors/certs`, made by openssl(1).

use std::fs;
use std::path::Path;

use super::*;
use crate::auth::store::Parts;
use crate::crypto::sign::{PrivateKey, PublicKey};
use crate::wire::registry::IdType;

const KEYS: [&str; 5] = ["rsa", "p256", "p384", "p521", "ed25519"];

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    fs::read(folder.join(name)).unwrap()
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_pem(&file(&format!("auth/{name}.pub"))).unwrap()
}

/// A host with one raw key.
fn store(own: &str) -> CredentialStore {
    let own = PrivateKey::from_pem(&file(&format!("auth/{own}.key"))).unwrap();
    CredentialStore::from_keys(Some(own), Vec::new())
}

fn read(name: &str) -> Vec<Certificate> {
    Certificate::all_from_pem(&file(&format!("certs/{name}"))).unwrap()
}

/// A host with keys and certificates of `certs`.
fn certified(keys: &[&str], certificates: &[&str], authorities: &[&str]) -> CredentialStore {
    let key = |name: &&str| PrivateKey::from_pem(&file(&format!("certs/{name}.key"))).unwrap();
    let parts = Parts {
        keys: keys.iter().map(key).collect(),
        certificates: certificates.iter().flat_map(|name| read(name)).collect(),
        authorities: authorities.iter().flat_map(|name| read(name)).collect(),
        ..Parts::default()
    };
    CredentialStore::assemble(parts, &mut Vec::new())
}

fn me() -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: b"peer.example".to_vec(),
    }
}

fn shown(store: &CredentialStore, asked: &[(CertEncoding, &[u8])]) -> Vec<(CertEncoding, Vec<u8>)> {
    let shown = show(store, PublicKeyAuth::Any, &me(), asked).unwrap();
    let certs = shown.certs.into_iter();
    certs
        .map(|(encoding, data)| (encoding, data.to_vec()))
        .collect()
}

#[test]
fn without_a_private_key_nothing_is_shown_or_asked_for() {
    let store = CredentialStore::default();
    let asked = [(CertEncoding::RAW_PUBLIC_KEY, &[][..])];
    let result = show(&store, PublicKeyAuth::Any, &me(), &asked).map(|_| ());
    assert_eq!(result, Err(AuthError::NoPrivateKey));
    assert_eq!(request(&store, false), []);
}

#[test]
fn our_raw_key_is_shown_in_the_encoding_asked_for() {
    let sent = |own: &str, asked: &[CertEncoding]| {
        let asked: Vec<_> = asked.iter().map(|encoding| (*encoding, &[][..])).collect();
        shown(&store(own), &asked)
    };
    let spki = |name| public(name).spki_der().unwrap();
    let (raw, rsa, ecdsa) = (
        CertEncoding::RAW_PUBLIC_KEY,
        CertEncoding::RAW_RSA,
        CertEncoding::OPENIKED_ECDSA,
    );
    for own in KEYS {
        assert_eq!(sent(own, &[CertEncoding::X509, raw]), [(raw, spki(own))]);
        assert_eq!(sent(own, &[]), []);
        assert_eq!(sent(own, &[CertEncoding::X509, CertEncoding::HASH_URL]), []);
    }
    let pkcs1 = public("rsa").rsa_pkcs1_der().unwrap();
    assert_eq!(sent("rsa", &[ecdsa, rsa]), [(rsa, pkcs1)]);
    assert_eq!(sent("p256", &[rsa, ecdsa]), [(ecdsa, spki("p256"))]);
    assert_eq!(sent("rsa", &[ecdsa]), []);
    assert_eq!(sent("p256", &[rsa]), []);
    assert_eq!(sent("ed25519", &[rsa, ecdsa]), []);
}

#[test]
fn raw_rsa_and_ed25519_keys_are_asked_for_and_ecdsa_keys_are_not() {
    let asked = |own| request(&store(own), false);
    assert_eq!(asked("rsa"), [(CertEncoding::RAW_RSA, vec![])]);
    for own in ["p256", "p384", "p521"] {
        assert_eq!(asked(own), []);
    }
    assert_eq!(asked("ed25519"), [(CertEncoding::RAW_PUBLIC_KEY, vec![])]);
}

#[test]
fn the_authorities_we_trust_are_asked_for_by_the_hash_of_their_keys() {
    let store = certified(&["peer"], &["peer.crt"], &["root.crt", "other.crt"]);
    let asked = request(&store, false);
    let [(CertEncoding::X509, ids)] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    // openssl x509 -in FILE -pubkey -noout | openssl pkey -pubin -outform DER | sha1sum
    let expected = ["root.crt", "other.crt"].map(|name| read(name)[0].key_id().unwrap());
    assert_eq!(*ids, expected.concat());
}

#[test]
fn what_a_responder_says_is_asked_for_by_the_hashes_of_those_we_trust() {
    let parts = |responders| Parts {
        authorities: read("root.crt"),
        responders,
        ..Parts::default()
    };
    for responders in [Vec::new(), read("other.crt")] {
        let hashes: Vec<_> = responders.iter().map(|c| c.key_id().unwrap()).collect();
        let store = CredentialStore::assemble(parts(responders), &mut Vec::new());
        let [(CertEncoding::OCSP, ids), (CertEncoding::X509, _)] = &*request(&store, true) else {
            panic!("{:?}", request(&store, true));
        };
        assert_eq!(*ids, hashes.concat());
        assert_eq!(request(&store, false).len(), 1);
    }
    // Without an authority there is no chain that could be asked about.
    let none = CredentialStore::default();
    assert_eq!(request(&none, true), []);
}

#[test]
fn a_certificate_goes_to_whoever_asks_for_one_or_for_nothing_at_all() {
    let store = certified(&["below"], &["below-chain.pem"], &["root.crt"]);
    let chain: Vec<_> = read("below-chain.pem")
        .iter()
        .map(|c| (CertEncoding::X509, c.der().to_vec()))
        .collect();
    let root = read("root.crt")[0].key_id().unwrap();
    let other = read("other.crt")[0].key_id().unwrap();
    assert_eq!(chain.len(), 2, "leaf and intermediate, not the root");
    assert_eq!(shown(&store, &[]), chain);
    for asked in [&root[..], &other[..], &[][..]] {
        assert_eq!(shown(&store, &[(CertEncoding::X509, asked)]), chain);
    }
    // No list of hashes, so no request for a certificate.
    assert_eq!(shown(&store, &[(CertEncoding::X509, &root[1..])]), []);
}

#[test]
fn the_certificate_below_the_authority_asked_for_is_preferred() {
    let certificates = ["stranger.crt", "peer.crt"];
    let store = certified(
        &["stranger", "peer"],
        &certificates,
        &["root.crt", "other.crt"],
    );
    for (authority, leaf) in [("root.crt", "peer.crt"), ("other.crt", "stranger.crt")] {
        let id = read(authority)[0].key_id().unwrap();
        let asked = [(CertEncoding::X509, &id[..])];
        let shown = show(&store, PublicKeyAuth::Any, &me(), &asked).unwrap();
        let leaf = &read(leaf)[0];
        assert_eq!(shown.certs, [(CertEncoding::X509, leaf.der())]);
        assert_eq!(shown.key.public, leaf.public_key().unwrap());
        assert_eq!(shown.note, None);
    }
}

#[test]
fn rsa_and_ecdsa_keys_stand_side_by_side_and_the_policy_chooses() {
    let store = certified(&["peer", "rsa"], &["peer.crt", "rsa.crt"], &["root.crt"]);
    let kind = |words| show(&store, words, &me(), &[]).map(|shown| shown.key.public.kind());
    assert_eq!(kind(PublicKeyAuth::Rsa), Ok(KeyKind::Rsa));
    assert_eq!(kind(PublicKeyAuth::Ecdsa256), Ok(KeyKind::EcdsaP256));
    assert_eq!(kind(PublicKeyAuth::Any), Ok(KeyKind::EcdsaP256));
    assert_eq!(kind(PublicKeyAuth::Ecdsa521), Err(AuthError::NoPrivateKey));
}

#[test]
fn without_a_certificate_for_our_identity_the_raw_key_stands_in_and_the_log_says_so() {
    let store = certified(&["peer"], &["nameless.crt", "stranger.crt"], &["root.crt"]);
    let id = read("root.crt")[0].key_id().unwrap();
    let asked = [
        (CertEncoding::X509, &id[..]),
        (CertEncoding::RAW_PUBLIC_KEY, &[][..]),
    ];
    let shown = show(&store, PublicKeyAuth::Any, &me(), &asked).unwrap();
    let expected = (
        CertEncoding::RAW_PUBLIC_KEY,
        store.keys()[0].spki_der.as_slice(),
    );
    assert_eq!(shown.certs, [expected]);
    let note = "no valid local certificate found for FQDN/peer.example";
    assert_eq!(shown.note.as_deref(), Some(note));
}
