//! The certificates are those of `tests/vectors/certs`, made by openssl(1).

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::auth::pubkey::{Claim, verify};
use crate::auth::store::Parts;
use crate::crypto::CryptoError;
use crate::crypto::x509::Crl;
use crate::policy::PublicKeyAuth;
use crate::wire::registry::{AuthMethod, CertEncoding, IdType};

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/certs");
    fs::read(folder.join(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let all = Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap();
    all.into_iter().next().unwrap()
}

fn store(authorities: &[&str], crls: &[&str], partial_chain: bool) -> CredentialStore {
    let parts = Parts {
        authorities: authorities.iter().map(|name| certificate(name)).collect(),
        crls: crls
            .iter()
            .flat_map(|name| Crl::all_from_pem(&file(name)))
            .collect(),
        partial_chain,
        ..Parts::default()
    };
    let mut warnings = Vec::new();
    let store = CredentialStore::assemble(parts, &mut warnings);
    assert_eq!(warnings, [""; 0]);
    store
}

fn fqdn(name: &str) -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: name.as_bytes().to_vec(),
    }
}

/// 2027-06-01, when the certificates are valid.
const NOW: u64 = 1_811_808_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// What comes of these certificates, sent by `identity`.
fn outcome(store: &CredentialStore, identity: &Identity, sent: &[&str]) -> Result<(), AuthError> {
    let ders: Vec<Vec<u8>> = sent
        .iter()
        .map(|name| certificate(name).der().to_vec())
        .collect();
    let others: Vec<&[u8]> = ders.iter().skip(1).map(Vec::as_slice).collect();
    let (leaf, mut cache) = (certificate(sent[0]), ChainCache::default());
    vouch(store, &mut cache, at(NOW), identity, &leaf, &others)?;
    // Once more out of the cache, where only what was verified is.
    assert_eq!(cache.0.len(), 1);
    vouch(store, &mut cache, at(NOW), identity, &leaf, &others).map(|_| ())
}

fn refused(why: &'static str) -> Result<(), AuthError> {
    Err(AuthError::Certificate(why))
}

#[test]
fn a_chain_to_a_trusted_authority_vouches_for_every_name_in_the_certificate() {
    let store = store(&["root"], &[], false);
    assert_eq!(outcome(&store, &fqdn("peer.example"), &["peer"]), Ok(()));
    assert_eq!(outcome(&store, &fqdn("PEER.Example"), &["peer"]), Ok(()));
    let others = [
        (IdType::RFC822_ADDR, b"peer@example.org".to_vec()),
        (IdType::IPV4_ADDR, vec![192, 0, 2, 7]),
        (IdType::DER_ASN1_DN, certificate("peer").subject().unwrap()),
    ];
    for (kind, data) in others {
        let identity = Identity { kind, data };
        assert_eq!(outcome(&store, &identity, &["peer"]), Ok(()), "{identity}");
    }
    assert_eq!(
        outcome(&store, &fqdn("peer.example"), &["below", "middle"]),
        Ok(())
    );
    assert_eq!(
        outcome(&store, &fqdn("peer.inside.example"), &["inside", "narrow"]),
        Ok(())
    );
}

#[test]
fn a_certificate_of_another_name_does_not_vouch_whatever_its_common_name_is() {
    let store = store(&["root"], &[], false);
    let other = refused("names another identity");
    assert_eq!(outcome(&store, &fqdn("peer.example"), &["nameless"]), other);
    for name in ["", "peer", "peer.example.", "xpeer.example", "*.example"] {
        assert_eq!(outcome(&store, &fqdn(name), &["peer"]), other, "{name}");
    }
    let mail = Identity {
        kind: IdType::RFC822_ADDR,
        ..fqdn("peer.example")
    };
    assert_eq!(outcome(&store, &mail, &["peer"]), other);
}

#[test]
fn every_broken_chain_is_refused_and_says_why() {
    let root = store(&["root"], &[], false);
    let rows: [(&[&str], &str); 12] = [
        (&["stranger"], "unable to get local issuer certificate"),
        (
            &["stranger", "other"],
            "self signed certificate in certificate chain",
        ),
        (&["below"], "unable to get local issuer certificate"),
        (&["below", "peer"], "unable to get local issuer certificate"),
        (&["expired"], "certificate has expired"),
        (&["future"], "certificate is not yet valid"),
        (&["sha1"], "signature algorithm too weak or unknown"),
        (&["small"], "unsupported key"),
        (&["usage"], "key usage does not allow signatures"),
        (&["outside", "narrow"], "permitted subtree violation"),
        (
            &["toolong", "tiny", "limited"],
            "path length constraint exceeded",
        ),
        (
            &["forged", "peer"],
            "unable to get local issuer certificate",
        ),
    ];
    for (sent, why) in rows {
        let result = outcome(&root, &fqdn("peer.example"), sent);
        assert_eq!(result, refused(why), "{sent:?}");
    }
    let nothing = store(&[], &[], false);
    let result = outcome(&nothing, &fqdn("peer.example"), &["peer"]);
    assert_eq!(result, refused("no trusted authority"));
    let many = ["peer"; OTHERS_MAX + 2];
    let result = outcome(&root, &fqdn("peer.example"), &many);
    assert_eq!(result, refused("too many certificates"));
}

#[test]
fn revocation_counts_as_soon_as_there_is_a_list_and_then_each_issuer_needs_one() {
    let peer = fqdn("peer.example");
    assert_eq!(
        outcome(&store(&["root"], &[], false), &peer, &["revoked"]),
        Ok(())
    );
    assert_eq!(
        outcome(
            &store(&["root"], &["empty.crl"], false),
            &peer,
            &["revoked"]
        ),
        Ok(())
    );
    let listed = store(&["root"], &["root.crl"], false);
    assert_eq!(
        outcome(&listed, &peer, &["revoked"]),
        refused("certificate revoked")
    );
    assert_eq!(outcome(&listed, &peer, &["peer"]), Ok(()));
    let result = outcome(&listed, &peer, &["below", "middle"]);
    assert_eq!(result, refused("unable to get certificate CRL"));
}

#[test]
fn a_chain_may_end_in_the_middle_only_where_that_is_wanted() {
    let peer = fqdn("peer.example");
    assert_eq!(
        outcome(&store(&["middle"], &[], true), &peer, &["below"]),
        Ok(())
    );
    let result = outcome(&store(&["middle"], &[], false), &peer, &["below"]);
    assert_eq!(result, refused("unable to get issuer certificate"));
    assert_eq!(
        outcome(&store(&["root", "middle"], &[], false), &peer, &["below"]),
        Ok(())
    );
}

#[test]
fn what_was_verified_is_remembered_until_it_expires_and_never_without_bound() {
    let store = store(&["root"], &[], false);
    let peer = fqdn("peer.example");
    let (leaf, middle) = (certificate("below"), certificate("middle"));
    let others = [middle.der()];
    let mut cache = ChainCache::default();
    assert!(vouch(&store, &mut cache, at(NOW), &peer, &leaf, &others).is_ok());
    let company = [middle.clone()];
    let chain = Certificate::chain_fingerprint(&leaf, &company).unwrap();
    let verified = cache.0[&chain].clone();
    let until = verified.until;
    assert_eq!(verified.above.first(), Some(&middle));
    assert!(cache.find(&chain, until).is_some());
    assert!(cache.find(&chain, until + 1).is_none());
    let later = at(until as u64 + 1);
    let late = vouch(&store, &mut cache, later, &peer, &leaf, &others);
    assert_eq!(late.map(|_| ()), refused("certificate has expired"));
    // The same leaf with other company is another chain.
    let alone = Certificate::chain_fingerprint(&leaf, &[]).unwrap();
    assert!(cache.find(&alone, until).is_none());
    for number in 0..2 * CHAINS_MAX as u64 {
        let mut other = [0; 32];
        other[..8].copy_from_slice(&number.to_be_bytes());
        cache.learn(other, verified.clone());
    }
    assert!(cache.0.len() <= CHAINS_MAX);
}

#[test]
fn bytes_that_are_no_certificate_are_an_error_at_any_length() {
    let store = store(&["root"], &[], false);
    let der = certificate("peer").der().to_vec();
    for len in 0..der.len() {
        let claim = Claim {
            identity: &fqdn("peer.example"),
            certs: &[(CertEncoding::X509, &der[..len])],
            method: AuthMethod::SIGNATURE,
            auth: &[],
            octets: &[],
            hashes: &[],
            peer_hashes: &[],
        };
        let mut cache = ChainCache::default();
        let result = verify(&store, &mut cache, at(NOW), PublicKeyAuth::Any, &claim);
        let error = AuthError::Crypto(CryptoError::Certificate);
        assert_eq!(result.map(|_| ()), Err(error), "{len}");
    }
}

#[test]
fn a_certificate_on_file_is_trusted_for_its_names_as_it_is() {
    let parts = Parts {
        certificates: vec![certificate("stranger"), certificate("expired")],
        ..Parts::default()
    };
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    let keys = store.pinned(&fqdn("peer.example"));
    let expected = ["stranger", "expired"].map(|name| certificate(name).public_key().unwrap());
    assert_eq!(keys, expected);
    assert_eq!(store.pinned(&fqdn("else.example")), []);
}
