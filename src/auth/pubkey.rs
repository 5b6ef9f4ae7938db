//! Public keys as proof of identity: which method a policy allows, which key a peer must have.

use std::time::SystemTime;

use super::AuthError;
use super::announce::Way;
use super::chain::{self, ChainCache, Vouched};
use super::store::CredentialStore;
use crate::crypto::CryptoError;
use crate::crypto::sign::{self, KeyKind, PrivateKey, PublicKey};
use crate::crypto::x509::Certificate;
use crate::policy::{Identity, PublicKeyAuth};
use crate::wire::registry::{AuthMethod, CertEncoding, HashAlgorithm, IdType};

/// Makes our AUTH: method 14 where the peer announced a hash that our key can use (RFC 7427), else
/// the older method of the key, if the policy lets it pass. `pss`: an RSA key signs with RSASSA-PSS,
/// as the peer did; under the word `rsa-pss` it always does.
pub fn sign(
    key: &PrivateKey,
    words: PublicKeyAuth,
    peer_hashes: &[HashAlgorithm],
    pss: bool,
    octets: &[u8],
) -> Result<(AuthMethod, Vec<u8>), AuthError> {
    let hash = preferred(key.kind())
        .iter()
        .find(|hash| peer_hashes.contains(hash));
    if let Some(&hash) = hash {
        let pss = pss || words == PublicKeyAuth::RsaPss;
        let data = if pss && key.kind() == KeyKind::Rsa {
            key.sign_rfc7427_pss(hash, octets)
        } else {
            key.sign_rfc7427(hash, octets)
        };
        return Ok((AuthMethod::SIGNATURE, data.map_err(AuthError::Signature)?));
    }
    // The method is part of what both sides agree on ("mutually" in iked.conf(5)).
    match older_method(key.kind()) {
        Some(method) if allows(words, method, !peer_hashes.is_empty()) => {
            key.sign_legacy(octets).map_err(AuthError::Signature)
        }
        Some(_) | None => Err(AuthError::NoCommonHash),
    }
}

/// Makes our AUTH in a way that the peer announced (RFC 9593) and that fits this key.
pub fn sign_by(
    key: &PrivateKey,
    way: Way,
    octets: &[u8],
) -> Result<(AuthMethod, Vec<u8>), AuthError> {
    let made = match way {
        Way::Named(algorithm) => {
            let data = key.sign_as(algorithm, octets);
            data.map(|data| (AuthMethod::SIGNATURE, data))
        }
        Way::Older(_) => key.sign_legacy(octets),
    };
    made.map_err(AuthError::Signature)
}

/// The hashes a key signs with, the best first: the hash as strong as the curve.
fn preferred(kind: KeyKind) -> &'static [HashAlgorithm] {
    use HashAlgorithm as H;
    match kind {
        KeyKind::Rsa | KeyKind::EcdsaP256 => &[H::SHA2_256, H::SHA2_384, H::SHA2_512],
        KeyKind::EcdsaP384 => &[H::SHA2_384, H::SHA2_512, H::SHA2_256],
        KeyKind::EcdsaP521 => &[H::SHA2_512, H::SHA2_384, H::SHA2_256],
        KeyKind::Ed25519 => &[H::IDENTITY],
    }
}

/// How a key signs for peers without RFC 7427.
pub(super) fn older_method(kind: KeyKind) -> Option<AuthMethod> {
    match kind {
        KeyKind::Rsa => Some(AuthMethod::RSA),
        KeyKind::EcdsaP256 => Some(AuthMethod::ECDSA_256),
        KeyKind::EcdsaP384 => Some(AuthMethod::ECDSA_384),
        KeyKind::EcdsaP521 => Some(AuthMethod::ECDSA_521),
        KeyKind::Ed25519 => None,
    }
}

/// What the peer says to prove who it is.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Who it says it is.
    pub identity: &'a Identity,
    /// Its CERT payloads.
    pub certs: &'a [(CertEncoding, &'a [u8])],
    /// Method of its AUTH payload.
    pub method: AuthMethod,
    /// Data of its AUTH payload.
    pub auth: &'a [u8],
    /// What it must have signed (RFC 7296, 2.15).
    pub octets: &'a [u8],
    /// Hash algorithms that we announced to this peer.
    pub hashes: &'a [HashAlgorithm],
    /// Those that it announced to us.
    pub peer_hashes: &'a [HashAlgorithm],
}

/// What a peer has proven.
#[derive(Clone, Debug)]
pub struct Proven {
    /// It signed with RSASSA-PSS.
    pub pss: bool,
    /// Its certificate, where its key is known by that alone.
    pub vouched: Option<Vouched>,
}

/// Checks the peer's AUTH with a key that is known to be its own: from a certificate in `certs`, from
/// a file in `pubkeys`, or from a chain that leads to a trusted authority.
pub fn verify(
    store: &CredentialStore,
    cache: &mut ChainCache,
    wall: SystemTime,
    words: PublicKeyAuth,
    claim: &Claim<'_>,
) -> Result<Proven, AuthError> {
    let strict = words == PublicKeyAuth::RsaPss && !sign::is_pss(claim.auth);
    if strict || !allows(words, claim.method, !claim.peer_hashes.is_empty()) {
        return Err(AuthError::Method);
    }
    let mut failure = AuthError::KeyMismatch;
    let (keys, vouched) = candidates(store, cache, wall, claim)?;
    for key in keys {
        if !allows_key(words, key.kind()) {
            failure = AuthError::Method;
            continue;
        }
        let checked = if claim.method == AuthMethod::SIGNATURE {
            key.verify_rfc7427(claim.auth, claim.octets, claim.hashes)
        } else {
            key.verify_legacy(claim.method, claim.auth, claim.octets)
        };
        match checked {
            Ok(()) => {
                let may = claim.method == AuthMethod::SIGNATURE && key.kind() == KeyKind::Rsa;
                let pss = may && sign::is_pss(claim.auth);
                return Ok(Proven { pss, vouched });
            }
            Err(error) => failure = AuthError::Signature(error),
        }
    }
    Err(failure)
}

/// What the keys are worth beside the signature: `None` where they are on file.
type Candidates = (Vec<PublicKey>, Option<Vouched>);

/// The keys with which this peer may have signed.
fn candidates(
    store: &CredentialStore,
    cache: &mut ChainCache,
    wall: SystemTime,
    claim: &Claim<'_>,
) -> Result<Candidates, AuthError> {
    let on_file = store.peer_keys(claim.identity);
    match claim.certs.first() {
        Some((CertEncoding::X509, leaf)) => {
            let pinned = store.pinned(claim.identity);
            if !pinned.is_empty() {
                return Ok((pinned, None));
            }
            let leaf = Certificate::from_der(leaf)?;
            let key = leaf.public_key()?;
            if on_file.contains(&key) {
                return Ok((vec![key], None));
            }
            let others = claim.certs.iter().skip(1);
            let others = others.filter(|(encoding, _)| *encoding == CertEncoding::X509);
            let others: Vec<&[u8]> = others.map(|(_, der)| *der).collect();
            let vouched = chain::vouch(store, cache, wall, claim.identity, &leaf, &others)?;
            Ok((vec![key], Some(vouched)))
        }
        Some((CertEncoding::HASH_URL | CertEncoding::HASH_URL_BUNDLE, _)) => {
            // We never say that we would (RFC 7296, 3.6), and whoever sends one is not yet known.
            Err(AuthError::Certificate("behind a URL, which is not fetched"))
        }
        Some((encoding, data)) => {
            let sent = sent_key(*encoding, data)?;
            if on_file.is_empty() {
                return Err(AuthError::UnknownKey);
            }
            let same = on_file.iter().filter(|key| **key == sent);
            Ok((same.cloned().collect(), None))
        }
        None => {
            let mut keys = store.pinned(claim.identity);
            keys.extend_from_slice(on_file);
            if keys.is_empty() {
                return Err(AuthError::UnknownKey);
            }
            Ok((keys, None))
        }
    }
}

/// Every identity that a certificate names: its alternative names, and its subject.
pub(super) fn named(certificate: &Certificate) -> Result<Vec<Identity>, CryptoError> {
    let names = certificate.alternative_names().into_iter();
    let mut names: Vec<Identity> = names.map(|(kind, data)| Identity { kind, data }).collect();
    names.push(Identity {
        kind: IdType::DER_ASN1_DN,
        data: certificate.subject()?,
    });
    Ok(names)
}

/// Which methods each word of iked.conf(5) lets in. Method 1 means SHA-1: without the word `rsa` it is
/// for peers that do not know RFC 7427; a `newer` one does.
pub(super) fn allows(words: PublicKeyAuth, method: AuthMethod, newer: bool) -> bool {
    let any = [
        AuthMethod::SIGNATURE,
        AuthMethod::RSA,
        AuthMethod::ECDSA_256,
        AuthMethod::ECDSA_384,
        AuthMethod::ECDSA_521,
    ];
    match words {
        PublicKeyAuth::Any if method == AuthMethod::RSA => !newer,
        PublicKeyAuth::Any => any.contains(&method),
        PublicKeyAuth::Rfc7427 | PublicKeyAuth::RsaPss => method == AuthMethod::SIGNATURE,
        PublicKeyAuth::Rsa => matches!(method, AuthMethod::SIGNATURE | AuthMethod::RSA),
        PublicKeyAuth::Ecdsa256 => {
            matches!(method, AuthMethod::SIGNATURE | AuthMethod::ECDSA_256)
        }
        PublicKeyAuth::Ecdsa384 => {
            matches!(method, AuthMethod::SIGNATURE | AuthMethod::ECDSA_384)
        }
        PublicKeyAuth::Ecdsa521 => {
            matches!(method, AuthMethod::SIGNATURE | AuthMethod::ECDSA_521)
        }
    }
}

/// Method 14 says nothing of the key, so the word is held against the key too.
pub(super) fn allows_key(words: PublicKeyAuth, kind: KeyKind) -> bool {
    match words {
        PublicKeyAuth::Any | PublicKeyAuth::Rfc7427 => true,
        PublicKeyAuth::Rsa | PublicKeyAuth::RsaPss => kind == KeyKind::Rsa,
        PublicKeyAuth::Ecdsa256 => kind == KeyKind::EcdsaP256,
        PublicKeyAuth::Ecdsa384 => kind == KeyKind::EcdsaP384,
        PublicKeyAuth::Ecdsa521 => kind == KeyKind::EcdsaP521,
    }
}

/// The raw key of a CERT payload. One that cannot be read is not the key on file.
fn sent_key(encoding: CertEncoding, data: &[u8]) -> Result<PublicKey, AuthError> {
    let key = match encoding {
        CertEncoding::RAW_RSA => PublicKey::from_rsa_pkcs1_der(data),
        CertEncoding::RAW_PUBLIC_KEY | CertEncoding::OPENIKED_ECDSA => {
            PublicKey::from_spki_der(data)
        }
        _ => return Err(AuthError::Certificate("encoding not supported")),
    };
    key.map_err(|_| AuthError::KeyMismatch)
}

#[cfg(test)]
mod tests;
