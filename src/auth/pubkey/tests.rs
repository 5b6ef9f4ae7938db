//! The keys and signatures are those of `tests/vectors/auth`, made by openssl(1).

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::*;
use crate::crypto::{CryptoError, boring};
use crate::wire::registry::IdType;

const OCTETS: &[u8] = b"octets that both sides sign";
const KEYS: [(&str, KeyKind); 5] = [
    ("rsa", KeyKind::Rsa),
    ("p256", KeyKind::EcdsaP256),
    ("p384", KeyKind::EcdsaP384),
    ("p521", KeyKind::EcdsaP521),
    ("ed25519", KeyKind::Ed25519),
];
const WORDS: [PublicKeyAuth; 7] = [
    PublicKeyAuth::Any,
    PublicKeyAuth::Rfc7427,
    PublicKeyAuth::Rsa,
    PublicKeyAuth::RsaPss,
    PublicKeyAuth::Ecdsa256,
    PublicKeyAuth::Ecdsa384,
    PublicKeyAuth::Ecdsa521,
];

/// id-RSASSA-PSS.
const PSS_OID: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

fn vector(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/auth");
    fs::read(folder.join(name)).unwrap()
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_pem(&vector(&format!("{name}.pub"))).unwrap()
}

fn peer() -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: b"peer.example".to_vec(),
    }
}

/// A host with one key of its own and these on file for `peer.example`.
fn store(own: &str, on_file: &[&str]) -> CredentialStore {
    let own = PrivateKey::from_pem(&vector(&format!("{own}.key"))).unwrap();
    let on_file = on_file.iter().map(|name| (peer(), public(name)));
    CredentialStore::from_keys(Some(own), on_file.collect())
}

/// One AUTH payload with the CERT payloads before it, as `peer.example` sends it.
struct Proof<'a> {
    words: PublicKeyAuth,
    certs: Vec<(CertEncoding, &'a [u8])>,
    method: AuthMethod,
    data: &'a [u8],
    peer_hashes: &'a [HashAlgorithm],
}

impl Proof<'_> {
    fn check(&self, store: &CredentialStore) -> Result<(), AuthError> {
        self.check_with(store, OCTETS, boring::provider().signature_hashes)
    }

    fn check_with(
        &self,
        store: &CredentialStore,
        octets: &[u8],
        hashes: &[HashAlgorithm],
    ) -> Result<(), AuthError> {
        let claim = Claim {
            identity: &peer(),
            certs: &self.certs,
            method: self.method,
            auth: self.data,
            octets,
            hashes,
            peer_hashes: self.peer_hashes,
        };
        let proven = verify(
            store,
            &mut ChainCache::default(),
            UNIX_EPOCH,
            self.words,
            &claim,
        )?;
        let by_identifier = self.data.windows(9).any(|oid| oid == PSS_OID);
        assert!(proven.vouched.is_none());
        assert_eq!(
            proven.pss,
            by_identifier && self.method == AuthMethod::SIGNATURE
        );
        Ok(())
    }
}

fn proof(words: PublicKeyAuth, method: AuthMethod, data: &[u8]) -> Proof<'_> {
    Proof {
        words,
        certs: Vec::new(),
        method,
        data,
        peer_hashes: &[],
    }
}

/// Key, method and AUTH data of every line of signatures.txt.
fn signatures() -> Vec<(String, AuthMethod, Vec<u8>)> {
    let text = String::from_utf8(vector("signatures.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let method = AuthMethod(words[1].parse().unwrap());
        (words[0].to_owned(), method, hex::decode(words[2]).unwrap())
    };
    lines.map(read).collect()
}

/// AUTH made with a store's first key.
fn signed(
    store: &CredentialStore,
    words: PublicKeyAuth,
    hashes: &[HashAlgorithm],
) -> Result<(AuthMethod, Vec<u8>), AuthError> {
    sign(&store.keys()[0].private, words, hashes, false, OCTETS)
}

fn bad_signature() -> Result<(), AuthError> {
    Err(AuthError::Signature(CryptoError::Signature))
}

#[test]
fn signatures_of_another_implementation_verify() {
    let signatures = signatures();
    assert_eq!(signatures.len(), 20);
    for (key, method, data) in &signatures {
        let proof = proof(PublicKeyAuth::Any, *method, data);
        assert_eq!(proof.check(&store("rsa", &[key])), Ok(()), "{key} {method}");
    }
}

#[test]
fn a_signature_with_any_byte_changed_does_not_verify() {
    for (key, method, data) in &signatures() {
        let store = store("rsa", &[key]);
        for at in [0, 1, data.len() / 2, data.len() - 1] {
            let mut changed = data.clone();
            changed[at] ^= 1;
            let result = proof(PublicKeyAuth::Any, *method, &changed).check(&store);
            assert_eq!(result, bad_signature(), "{key} {method} {at}");
        }
        for cut in [&[][..], &data[..1], &data[..data.len() - 1]] {
            let result = proof(PublicKeyAuth::Any, *method, cut).check(&store);
            assert_eq!(result, bad_signature(), "{key} {method} {}", cut.len());
        }
    }
}

#[test]
fn a_signature_does_not_verify_with_another_key() {
    let names = KEYS.map(|(name, _)| name);
    for (key, method, data) in &signatures() {
        let others: Vec<&str> = names.into_iter().filter(|name| name != key).collect();
        let result = proof(PublicKeyAuth::Any, *method, data).check(&store("rsa", &others));
        assert_eq!(result, bad_signature(), "{key} {method}");
    }
}

#[test]
fn a_signature_over_other_octets_does_not_verify() {
    let hashes = boring::provider().signature_hashes;
    for (key, method, data) in &signatures() {
        let proof = proof(PublicKeyAuth::Any, *method, data);
        let other = b"octets that only one side signs";
        let result = proof.check_with(&store("rsa", &[key]), other, hashes);
        assert_eq!(result, bad_signature(), "{key} {method}");
    }
}

#[test]
fn a_hash_that_we_did_not_announce_is_refused() {
    let provider = boring::provider();
    let all = provider.signature_hashes;
    for (key, method, data) in signatures()
        .iter()
        .filter(|(_, method, _)| *method == AuthMethod::SIGNATURE)
    {
        let store = store("rsa", &[key]);
        let proof = proof(PublicKeyAuth::Any, *method, data);
        let check = |hashes: &[HashAlgorithm]| proof.check_with(&store, OCTETS, hashes);
        // Each signature needs one of them.
        let enough = all.iter().filter(|hash| check(&[**hash]).is_ok()).count();
        assert_eq!(enough, 1, "{key}");
        assert_eq!(check(&[]), bad_signature());
        assert_eq!(check(&[HashAlgorithm::SHA1]), bad_signature());
    }
}

#[test]
fn every_key_proves_itself_by_method_14_to_a_peer_that_knows_it() {
    let hashes = boring::provider().signature_hashes;
    for (key, kind) in KEYS {
        let (method, data) = signed(&store(key, &[]), PublicKeyAuth::Rfc7427, hashes).unwrap();
        assert_eq!(method, AuthMethod::SIGNATURE);
        for words in WORDS {
            let lets_in = allows_key(words, kind) && words != PublicKeyAuth::RsaPss;
            let expected = match lets_in {
                true => Ok(()),
                false => Err(AuthError::Method),
            };
            let result = proof(words, method, &data).check(&store("rsa", &[key]));
            assert_eq!(result, expected, "{key} {words:?}");
        }
    }
}

#[test]
fn a_key_signs_with_the_hash_of_its_strength_or_one_that_the_peer_knows() {
    // The identifier ends in the number of the hash: 2, 3, 4 for ECDSA (RFC 7427, A.3).
    let hash_of = |key, hashes: &[HashAlgorithm]| {
        signed(&store(key, &[]), PublicKeyAuth::Any, hashes)
            .unwrap()
            .1[12]
    };
    let all = boring::provider().signature_hashes;
    assert_eq!(hash_of("p256", all), 2);
    assert_eq!(hash_of("p384", all), 3);
    assert_eq!(hash_of("p521", all), 4);
    assert_eq!(hash_of("p521", &[HashAlgorithm::SHA2_256]), 2);
    let odd = [HashAlgorithm::SHA1, HashAlgorithm::SHA2_512];
    assert_eq!(hash_of("p256", &odd), 4);
}

#[test]
fn a_peer_without_rfc_7427_gets_the_older_method_where_the_policy_has_it() {
    for (key, kind) in KEYS {
        // SHA-1 in method 14 is not made here: it counts as nothing in common.
        for hashes in [&[][..], &[HashAlgorithm::SHA1]] {
            for words in WORDS {
                let signed = signed(&store(key, &[]), words, hashes);
                let older =
                    older_method(kind).filter(|method| allows(words, *method, !hashes.is_empty()));
                let Some(older) = older else {
                    assert_eq!(signed, Err(AuthError::NoCommonHash), "{key} {words:?}");
                    continue;
                };
                let (method, data) = signed.unwrap();
                assert_eq!(method, older);
                let result = proof(words, method, &data).check(&store("rsa", &[key]));
                assert_eq!(result, Ok(()), "{key} {words:?}");
            }
        }
    }
}

#[test]
fn each_word_lets_its_own_methods_in() {
    let methods = |words| {
        let methods = (0..=u8::MAX).filter(|number| allows(words, AuthMethod(*number), false));
        methods.collect::<Vec<u8>>()
    };
    assert_eq!(methods(PublicKeyAuth::Any), [1, 9, 10, 11, 14]);
    assert_eq!(methods(PublicKeyAuth::Rfc7427), [14]);
    assert_eq!(methods(PublicKeyAuth::Rsa), [1, 14]);
    assert_eq!(methods(PublicKeyAuth::RsaPss), [14]);
    assert_eq!(methods(PublicKeyAuth::Ecdsa256), [9, 14]);
    assert_eq!(methods(PublicKeyAuth::Ecdsa384), [10, 14]);
    assert_eq!(methods(PublicKeyAuth::Ecdsa521), [11, 14]);
}

#[test]
fn a_mac_or_no_proof_at_all_never_passes_for_a_signature() {
    let store = store("rsa", &["rsa"]);
    for method in [AuthMethod::SHARED_KEY, AuthMethod::NULL, AuthMethod(0)] {
        for words in WORDS {
            let result = proof(words, method, &[]).check(&store);
            assert_eq!(result, Err(AuthError::Method));
        }
    }
}

#[test]
fn an_identity_without_a_key_on_file_is_unknown_whatever_it_sends() {
    let (key, method, data) = &signatures()[4];
    let own = public(key).spki_der().unwrap();
    let mut proof = proof(PublicKeyAuth::Any, *method, data);
    proof.certs.push((CertEncoding::RAW_PUBLIC_KEY, &own));
    assert_eq!(proof.check(&store("rsa", &[])), Err(AuthError::UnknownKey));
}

#[test]
fn the_kind_of_an_identity_is_part_of_it() {
    let other = Identity {
        kind: IdType::RFC822_ADDR,
        ..peer()
    };
    let store = CredentialStore::from_keys(None, vec![(other, public("rsa"))]);
    let (_, method, data) = &signatures()[4];
    let result = proof(PublicKeyAuth::Any, *method, data).check(&store);
    assert_eq!(result, Err(AuthError::UnknownKey));
}

#[test]
fn a_raw_key_sent_must_be_the_one_on_file() {
    let rsa = public("rsa");
    let rsa_pkcs1 = rsa.rsa_pkcs1_der().unwrap();
    let (rsa, p256) = (rsa.spki_der().unwrap(), public("p256").spki_der().unwrap());
    let store = store("rsa", &["rsa"]);
    let (_, method, data) = &signatures()[4];
    let check = |certs: &[(CertEncoding, &[u8])]| {
        let mut proof = proof(PublicKeyAuth::Any, *method, data);
        proof.certs = certs.to_vec();
        proof.check(&store)
    };
    let same = (CertEncoding::RAW_PUBLIC_KEY, &*rsa);
    let other = (CertEncoding::OPENIKED_ECDSA, &*p256);
    let garbage = (CertEncoding::RAW_RSA, &b"garbage"[..]);
    let certificate = (CertEncoding::X509, &b"no certificate"[..]);
    let url = (CertEncoding::HASH_URL, &b"http://peer.example/"[..]);
    assert_eq!(check(&[same]), Ok(()));
    assert_eq!(check(&[(CertEncoding::RAW_RSA, &rsa_pkcs1)]), Ok(()));
    let malformed = Err(AuthError::Crypto(CryptoError::Certificate));
    assert_eq!(check(&[certificate]), malformed);
    assert_eq!(check(&[certificate, same, other]), malformed);
    let unfetched = AuthError::Certificate("behind a URL, which is not fetched");
    assert_eq!(check(&[url, same]), Err(unfetched));
    let mismatch = Err(AuthError::KeyMismatch);
    assert_eq!(check(&[other]), mismatch);
    assert_eq!(check(&[other, same]), mismatch);
    assert_eq!(check(&[garbage]), mismatch);
    assert_eq!(check(&[garbage, same]), mismatch);
    assert_eq!(check(&[(CertEncoding::RAW_PUBLIC_KEY, &[])]), mismatch);
}

#[test]
fn any_of_several_keys_on_file_will_do() {
    let store = store("rsa", &["p256", "rsa"]);
    for (key, method, data) in signatures()
        .iter()
        .filter(|(key, ..)| ["rsa", "p256"].contains(&key.as_str()))
    {
        let result = proof(PublicKeyAuth::Any, *method, data).check(&store);
        assert_eq!(result, Ok(()), "{key} {method}");
    }
}

#[test]
fn an_rsa_key_signs_with_pss_for_a_peer_that_did_and_no_other_key_does() {
    let hashes = boring::provider().signature_hashes;
    for (key, _) in KEYS {
        let own = store(key, &[]);
        let own = &own.keys()[0].private;
        let (method, data) = sign(own, PublicKeyAuth::Any, hashes, true, OCTETS).unwrap();
        assert_eq!(sign::is_pss(&data), key == "rsa");
        let result = proof(PublicKeyAuth::Any, method, &data).check(&store("rsa", &[key]));
        assert_eq!(result, Ok(()), "{key}");
    }
}

#[test]
fn sha_1_is_for_peers_that_know_nothing_better_or_for_the_word_rsa() {
    let signature = signatures();
    let (key, method, data) = signature
        .iter()
        .find(|(_, method, _)| *method == AuthMethod::RSA)
        .unwrap();
    let peers = store("rsa", &[key]);
    for (words, newer, expected) in [
        (PublicKeyAuth::Any, false, Ok(())),
        (PublicKeyAuth::Any, true, Err(AuthError::Method)),
        (PublicKeyAuth::Rsa, true, Ok(())),
        (PublicKeyAuth::Rfc7427, false, Err(AuthError::Method)),
    ] {
        let peer_hashes: &[_] = if newer {
            &[HashAlgorithm::SHA2_512]
        } else {
            &[]
        };
        let proof = Proof {
            peer_hashes,
            ..proof(words, *method, data)
        };
        assert_eq!(proof.check(&peers), expected, "{words:?} {newer}");
    }
    // Nor do we sign with it for a peer that announces hashes, none of which our key can use.
    let odd = [HashAlgorithm::IDENTITY];
    let any = signed(&store("rsa", &[]), PublicKeyAuth::Any, &odd);
    assert_eq!(any, Err(AuthError::NoCommonHash));
    let rsa = signed(&store("rsa", &[]), PublicKeyAuth::Rsa, &odd).unwrap();
    assert_eq!(rsa.0, AuthMethod::RSA);
    let old = signed(&store("rsa", &[]), PublicKeyAuth::Any, &[]).unwrap();
    assert_eq!(old.0, AuthMethod::RSA);
}

#[test]
fn the_word_rsa_pss_signs_with_pss_and_takes_nothing_else() {
    let hashes = boring::provider().signature_hashes;
    let (own, peers) = (store("rsa", &[]), store("p256", &["rsa"]));
    let word = PublicKeyAuth::RsaPss;
    let (method, data) = signed(&own, word, hashes).unwrap();
    assert!(sign::is_pss(&data));
    assert_eq!(proof(word, method, &data).check(&peers), Ok(()));
    let (method, data) = signed(&own, PublicKeyAuth::Rsa, hashes).unwrap();
    assert!(!sign::is_pss(&data));
    let refused = proof(word, method, &data).check(&peers);
    assert_eq!(refused, Err(AuthError::Method));
    // A peer without RFC 7427 cannot have it.
    assert_eq!(signed(&own, word, &[]), Err(AuthError::NoCommonHash));
}
