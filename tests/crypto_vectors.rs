//! Published vectors for every algorithm of the Provider: RFCs, NIST's CAVP and Wycheproof, good
//! and bad ones. They stand in `tests/vectors/crypto`, each group with its source.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use iked::crypto::Provider;
use reader::{Vector, read};

#[path = "crypto_vectors/arithmetic.rs"]
mod arithmetic;
#[path = "crypto_vectors/curves.rs"]
mod curves;
#[path = "crypto_vectors/encryption.rs"]
mod encryption;
#[path = "crypto_vectors/hashes.rs"]
mod hashes;
#[path = "crypto_vectors/hybrid.rs"]
mod hybrid;
#[path = "crypto_vectors/keys.rs"]
mod keys;
#[path = "crypto_vectors/modp.rs"]
mod modp;
#[path = "crypto_vectors/reader.rs"]
mod reader;
#[path = "crypto_vectors/signatures.rs"]
mod signatures;

fn provider() -> Provider {
    iked::crypto::boring::provider()
}

#[test]
fn the_provider_has_what_the_project_promises() {
    let provider = provider();
    let numbers = |list: &mut dyn Iterator<Item = u16>| list.collect::<BTreeSet<u16>>();
    let ciphers = numbers(&mut provider.ciphers.iter().map(|found| found.id().0));
    let prfs = numbers(&mut provider.prfs.iter().map(|found| found.id().0));
    let integs = numbers(&mut provider.integs.iter().map(|found| found.id().0));
    let exchanges = numbers(&mut provider.key_exchanges.iter().map(|found| found.id().0));
    let hashes = numbers(&mut provider.signature_hashes.iter().map(|found| found.0));
    // ENCR_3DES, AES_CBC, AES_GCM_8, AES_GCM_12, AES_GCM_16, CHACHA20_POLY1305.
    assert_eq!(ciphers, BTreeSet::from([3, 12, 18, 19, 20, 28]));
    // HMAC with MD5, SHA-1, SHA-256, SHA-384, SHA-512.
    assert_eq!(prfs, BTreeSet::from([1, 2, 5, 6, 7]));
    assert_eq!(integs, BTreeSet::from([1, 2, 12, 13, 14]));
    // MODP, ECP, Brainpool, Curve25519, OpenIKED's hybrid.
    let groups = [
        1, 2, 5, 14, 15, 16, 17, 18, 19, 20, 21, 25, 26, 27, 28, 29, 30, 31, 1035,
    ];
    assert_eq!(exchanges, BTreeSet::from(groups));
    // SHA-256, SHA-384, SHA-512, identity.
    assert_eq!(hashes, BTreeSet::from([2, 3, 4, 5]));
}

#[test]
fn every_algorithm_of_the_provider_has_vectors_and_every_vector_an_algorithm() {
    let provider = provider();
    let mut missing = Vec::new();
    let mut compare = |what: &str, listed: BTreeSet<String>, tested: BTreeSet<String>| {
        for name in listed.symmetric_difference(&tested) {
            missing.push(format!("{what} {name}"));
        }
    };
    let ids = |list: Vec<String>| list.into_iter().collect::<BTreeSet<String>>();
    let ciphers = provider.ciphers.iter();
    compare(
        "cipher",
        ciphers.flat_map(|cipher| key_lengths(*cipher)).collect(),
        [tested("aead.txt", with_key), tested("cbc.txt", with_key)].concat_sets(),
    );
    let prfs = provider.prfs.iter().map(|prf| prf.id().to_string());
    let prfs = ids(prfs.collect());
    compare("prf", prfs.clone(), tested("hmac.txt", algorithm));
    let integs = provider.integs.iter().map(|integ| integ.id().to_string());
    compare(
        "integ",
        ids(integs.collect()),
        tested("integ.txt", algorithm),
    );
    // Nobody publishes key derivation with MD5; `prf_plus_chains_the_prf` covers it.
    let mut derived = tested("kdf.txt", algorithm);
    assert!(derived.insert("HMAC_MD5".to_owned()));
    compare("key derivation", prfs, derived);
    let exchanges = provider
        .key_exchanges
        .iter()
        .map(|ke| ke.id().0.to_string());
    let number = |vector: &Vector| vector.group().to_string();
    let mut groups = [tested("ecp.txt", number), tested("modp.txt", number)].concat_sets();
    groups.extend(tested("x25519.txt", |_| "31".to_owned()));
    groups.extend(tested("sntrup761.txt", number));
    compare("key exchange", ids(exchanges.collect()), groups);
    let hashes = provider.signature_hashes.iter().map(ToString::to_string);
    let hash = |vector: &Vector| vector.text("hash").to_owned();
    compare(
        "signature hash",
        ids(hashes.collect()),
        tested("signatures.txt", hash),
    );
    assert!(missing.is_empty(), "only on one side: {missing:?}");
}

#[test]
fn every_kind_of_signature_has_good_and_bad_vectors() {
    let mut seen: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for file in ["signatures.txt", "signatures_legacy.txt"] {
        for vector in read(file) {
            let kind = format!("{} {}", vector.text("algorithm"), vector.text("hash"));
            seen.entry(kind).or_default().insert(vector.is_valid());
        }
    }
    let expected = [
        "ECDSA_256 SHA2_256",
        "ECDSA_384 SHA2_384",
        "ECDSA_521 SHA2_512",
        "ECDSA_P256 SHA2_256",
        "ECDSA_P256 SHA2_512",
        "ECDSA_P384 SHA2_256",
        "ECDSA_P384 SHA2_384",
        "ECDSA_P384 SHA2_512",
        "ECDSA_P521 SHA2_512",
        "ED25519 IDENTITY",
        "RSA SHA1",
        "RSA_PKCS1 SHA2_256",
        "RSA_PKCS1 SHA2_384",
        "RSA_PKCS1 SHA2_512",
        "RSA_PSS SHA2_256",
        "RSA_PSS SHA2_384",
        "RSA_PSS SHA2_512",
    ];
    assert_eq!(seen.keys().collect::<Vec<_>>(), expected);
    for (kind, results) in seen {
        assert_eq!(results.len(), 2, "{kind} only one way");
    }
}

/// The union of sets.
trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<String>;
}

impl<const N: usize> ConcatSets for [BTreeSet<String>; N] {
    fn concat_sets(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}

/// What the good vectors of a file are about.
fn tested(file: &str, name: impl Fn(&Vector) -> String) -> BTreeSet<String> {
    read(file)
        .iter()
        .filter(|vector| vector.find("result").is_none() || vector.is_valid())
        .map(name)
        .collect()
}

fn algorithm(vector: &Vector) -> String {
    vector.text("algorithm").to_owned()
}

fn with_key(vector: &Vector) -> String {
    format!("{} {}", algorithm(vector), vector.bytes("key").len())
}

/// The cipher with each length of key it takes, without the salt.
fn key_lengths(cipher: &dyn iked::crypto::Cipher) -> Vec<String> {
    let salt = if cipher.is_aead() { 4 } else { 0 };
    let attributes = (0..=512).map(Some).chain([None]);
    attributes
        .filter_map(|bits| cipher.key_material_len(bits))
        .map(|len| format!("{} {}", cipher.id(), len - salt))
        .collect()
}
