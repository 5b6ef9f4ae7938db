//! Signatures: RFC 7427 with the AlgorithmIdentifiers of its appendix A, and the older methods.

use std::time::SystemTime;

use boring::base64;
use iked::auth::AuthError;
use iked::auth::chain::ChainCache;
use iked::auth::pubkey::{self, Claim};
use iked::auth::store::CredentialStore;
use iked::crypto::CryptoError;
use iked::crypto::sign::{KeyKind, PrivateKey, PublicKey};
use iked::policy::{Identity, PublicKeyAuth};
use iked::wire::registry::{AuthMethod, CertEncoding, HashAlgorithm, IdType};

use super::provider;
use super::reader::{Vector, read};

#[test]
fn rfc7427_takes_what_is_published_as_good_and_nothing_else() {
    for vector in read("signatures.txt") {
        let verified = key(&vector).verify_rfc7427(
            &auth_data(&vector, "identifier"),
            &vector.bytes("message"),
            provider().signature_hashes,
        );
        assert_eq!(verified, verdict(&vector), "{}", vector.place);
    }
}

#[test]
fn rfc7427_refuses_other_messages_and_changed_signatures() {
    for vector in read("signatures.txt").iter().filter(|v| v.is_valid()) {
        let key = key(vector);
        let message = vector.bytes("message");
        let good = auth_data(vector, "identifier");
        let verify = |auth: &[u8], message: &[u8]| {
            key.verify_rfc7427(auth, message, provider().signature_hashes)
        };
        let longer = [message.as_slice(), &[0]].concat();
        assert_eq!(verify(&good, &longer), Err(CryptoError::Signature));
        for at in [0, 1, 3, good.len() / 2, good.len() - 1] {
            let mut changed = good.clone();
            changed[at] ^= 1;
            let verified = verify(&changed, &message);
            assert_eq!(verified, Err(CryptoError::Signature), "{}", vector.place);
        }
        for len in [0, 1, usize::from(good[0]), good.len() - 1] {
            let verified = verify(&good[..len], &message);
            assert_eq!(verified, Err(CryptoError::Signature), "{}", vector.place);
        }
        let more = [good.as_slice(), &[0]].concat();
        assert_eq!(verify(&more, &message), Err(CryptoError::Signature));
    }
}

#[test]
fn rfc7427_refuses_a_hash_that_was_not_announced_and_an_algorithm_that_does_not_fit() {
    let vectors = read("signatures.txt");
    for vector in vectors.iter().filter(|vector| vector.is_valid()) {
        let key = key(vector);
        let message = vector.bytes("message");
        let good = auth_data(vector, "identifier");
        let own = hash(vector);
        assert_eq!(key.verify_rfc7427(&good, &message, &[own]), Ok(()));
        let others: Vec<HashAlgorithm> = provider().signature_hashes.to_vec();
        let others: Vec<HashAlgorithm> = others.into_iter().filter(|h| *h != own).collect();
        for allowed in [&others[..], &[]] {
            let verified = key.verify_rfc7427(&good, &message, allowed);
            assert_eq!(verified, Err(CryptoError::Signature), "{}", vector.place);
        }
        for other in &vectors {
            let identifier = other.bytes("identifier");
            if identifier == vector.bytes("identifier") {
                continue;
            }
            let auth = with_identifier(&identifier, &vector.bytes("signature"));
            let verified = key.verify_rfc7427(&auth, &message, provider().signature_hashes);
            assert_eq!(verified, Err(CryptoError::Signature), "{}", vector.place);
        }
    }
}

#[test]
fn the_older_methods_take_what_is_published_as_good_and_nothing_else() {
    for vector in read("signatures_legacy.txt") {
        let message = vector.bytes("message");
        let signature = vector.bytes("signature");
        let key = key(&vector);
        let method = method(&vector);
        let verified = key.verify_legacy(method, &signature, &message);
        assert_eq!(verified, verdict(&vector), "{}", vector.place);
        for other in AuthMethod::KNOWN.iter().filter(|other| **other != method) {
            let verified = key.verify_legacy(*other, &signature, &message);
            assert_eq!(verified, Err(CryptoError::Signature), "{}", vector.place);
        }
        let longer = [message.as_slice(), &[0]].concat();
        let verified = key.verify_legacy(method, &signature, &longer);
        assert_eq!(verified, Err(CryptoError::Signature), "{}", vector.place);
    }
}

#[test]
fn ed25519_signs_the_published_signatures() {
    for vector in read("ed25519_sign.txt") {
        // RFC 8410: PKCS #8 around an OCTET STRING in an OCTET STRING.
        let prefix = hex::decode("302e020100300506032b657004220420").unwrap();
        let der = [prefix, vector.bytes("secret")].concat();
        let body = base64::encode_block(&der);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let key = PrivateKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(key.kind(), KeyKind::Ed25519);
        let public = key.public().unwrap();
        assert!(
            public
                .spki_der()
                .unwrap()
                .ends_with(&vector.bytes("public"))
        );
        let message = vector.bytes("message");
        let auth = key.sign_rfc7427(HashAlgorithm::IDENTITY, &message).unwrap();
        let identifier = hex::decode("300506032b6570").unwrap();
        let expected = with_identifier(&identifier, &vector.bytes("signature"));
        assert_eq!(auth, expected, "{}", vector.place);
        let verified = public.verify_rfc7427(&auth, &message, &[HashAlgorithm::IDENTITY]);
        assert_eq!(verified, Ok(()), "{}", vector.place);
    }
}

#[test]
fn keys_off_their_curve_are_none() {
    let mut seen = 0;
    for vector in read("signatures.txt") {
        if !vector.text("algorithm").starts_with("ECDSA") {
            continue;
        }
        // The other y coordinate of that x differs in more than the last bit.
        let mut der = vector.bytes("key");
        *der.last_mut().unwrap() ^= 1;
        let error = PublicKey::from_spki_der(&der).map(|key| key.kind());
        assert_eq!(error, Err(CryptoError::UnsupportedKey), "{}", vector.place);
        seen += 1;
    }
    assert!(seen > 0);
}

fn key(vector: &Vector) -> PublicKey {
    let der = vector.bytes("key");
    let (key, kind) = match vector.text("algorithm") {
        "RSA_PKCS1" | "RSA_PSS" => (PublicKey::from_spki_der(&der), KeyKind::Rsa),
        "RSA" => (PublicKey::from_rsa_pkcs1_der(&der), KeyKind::Rsa),
        "ECDSA_P256" | "ECDSA_256" => (PublicKey::from_spki_der(&der), KeyKind::EcdsaP256),
        "ECDSA_P384" | "ECDSA_384" => (PublicKey::from_spki_der(&der), KeyKind::EcdsaP384),
        "ECDSA_P521" | "ECDSA_521" => (PublicKey::from_spki_der(&der), KeyKind::EcdsaP521),
        "ED25519" => (PublicKey::from_spki_der(&der), KeyKind::Ed25519),
        other => panic!("{}: {other}", vector.place),
    };
    let key = key.unwrap_or_else(|error| panic!("{}: {error}", vector.place));
    assert_eq!(key.kind(), kind, "{}", vector.place);
    key
}

fn method(vector: &Vector) -> AuthMethod {
    match vector.text("algorithm") {
        "RSA" => AuthMethod::RSA,
        "ECDSA_256" => AuthMethod::ECDSA_256,
        "ECDSA_384" => AuthMethod::ECDSA_384,
        "ECDSA_521" => AuthMethod::ECDSA_521,
        other => panic!("{}: {other}", vector.place),
    }
}

fn hash(vector: &Vector) -> HashAlgorithm {
    let name = vector.text("hash");
    let mut known = HashAlgorithm::KNOWN.iter().copied();
    known.find(|hash| hash.name() == Some(name)).unwrap()
}

fn verdict(vector: &Vector) -> Result<(), CryptoError> {
    if vector.is_valid() {
        Ok(())
    } else {
        Err(CryptoError::Signature)
    }
}

fn auth_data(vector: &Vector, identifier: &str) -> Vec<u8> {
    with_identifier(&vector.bytes(identifier), &vector.bytes("signature"))
}

fn with_identifier(identifier: &[u8], signature: &[u8]) -> Vec<u8> {
    let length = u8::try_from(identifier.len()).unwrap();
    [&[length], identifier, signature].concat()
}

/// What IKE_AUTH makes of a signature: the same data in an AUTH payload, the key on file and, where it
/// is `shown`, in a CERT payload too.
fn through_auth(
    key: &PublicKey,
    words: PublicKeyAuth,
    shown: bool,
    (method, auth): (AuthMethod, &[u8]),
    octets: &[u8],
) -> Result<bool, AuthError> {
    let identity = Identity {
        kind: IdType::FQDN,
        data: b"peer.example".to_vec(),
    };
    let store = CredentialStore::from_keys(None, vec![(identity.clone(), key.clone())]);
    let spki = key.spki_der().map_err(AuthError::from)?;
    let certs: &[_] = &[(CertEncoding::RAW_PUBLIC_KEY, &*spki)];
    let claim = Claim {
        identity: &identity,
        certs: if shown { certs } else { &[] },
        method,
        auth,
        octets,
        hashes: provider().signature_hashes,
        peer_hashes: &[],
    };
    let mut cache = ChainCache::default();
    let proven = pubkey::verify(&store, &mut cache, SystemTime::UNIX_EPOCH, words, &claim)?;
    Ok(proven.pss)
}

/// The word of iked.conf(5) that lets in this kind of key and no other.
fn word(kind: KeyKind) -> PublicKeyAuth {
    match kind {
        KeyKind::Rsa => PublicKeyAuth::Rsa,
        KeyKind::EcdsaP256 => PublicKeyAuth::Ecdsa256,
        KeyKind::EcdsaP384 => PublicKeyAuth::Ecdsa384,
        KeyKind::EcdsaP521 => PublicKeyAuth::Ecdsa521,
        KeyKind::Ed25519 => PublicKeyAuth::Rfc7427,
    }
}

fn judged(vector: &Vector, pss: bool) -> Result<bool, AuthError> {
    match verdict(vector) {
        Ok(()) => Ok(pss),
        Err(error) => Err(AuthError::Signature(error)),
    }
}

#[test]
fn ike_auth_takes_what_is_published_as_good_and_nothing_else() {
    for vector in read("signatures.txt") {
        let (key, message) = (key(&vector), vector.bytes("message"));
        let auth = auth_data(&vector, "identifier");
        let proof = (AuthMethod::SIGNATURE, auth.as_slice());
        let expected = judged(&vector, vector.text("algorithm") == "RSA_PSS");
        for words in [PublicKeyAuth::Any, PublicKeyAuth::Rfc7427, word(key.kind())] {
            for shown in [false, true] {
                let taken = through_auth(&key, words, shown, proof, &message);
                assert_eq!(taken, expected, "{} {words:?}", vector.place);
            }
        }
        // `rsa-pss` takes what names RSASSA-PSS, and that alone.
        if expected == Ok(true) || expected == Ok(false) {
            let strict = through_auth(&key, PublicKeyAuth::RsaPss, true, proof, &message);
            let wanted = expected.clone().and_then(|pss| match pss {
                true => Ok(true),
                false => Err(AuthError::Method),
            });
            assert_eq!(strict, wanted, "{}", vector.place);
        }
        let other = if key.kind() == KeyKind::Rsa {
            PublicKeyAuth::Ecdsa256
        } else {
            PublicKeyAuth::Rsa
        };
        let refused = through_auth(&key, other, true, proof, &message);
        assert_eq!(refused, Err(AuthError::Method), "{}", vector.place);
    }
}

#[test]
fn ike_auth_takes_the_older_methods_where_the_policy_has_them() {
    for vector in read("signatures_legacy.txt") {
        let (key, message) = (key(&vector), vector.bytes("message"));
        let signature = vector.bytes("signature");
        let proof = (method(&vector), signature.as_slice());
        let expected = judged(&vector, false);
        for words in [PublicKeyAuth::Any, word(key.kind())] {
            for shown in [false, true] {
                let taken = through_auth(&key, words, shown, proof, &message);
                assert_eq!(taken, expected, "{} {words:?}", vector.place);
            }
        }
        let newer = through_auth(&key, PublicKeyAuth::Rfc7427, true, proof, &message);
        assert_eq!(newer, Err(AuthError::Method), "{}", vector.place);
        // The same bytes are nothing in the data of method 14, which begins with an algorithm.
        let bare = (AuthMethod::SIGNATURE, signature.as_slice());
        let refused = through_auth(&key, PublicKeyAuth::Any, true, bare, &message);
        let bad = Err(AuthError::Signature(CryptoError::Signature));
        assert_eq!(refused, bad, "{}", vector.place);
    }
}
