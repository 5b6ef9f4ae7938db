//! Public keys as proof of identity: which method a policy allows, which key a peer must have, and
//! what goes into CERT and CERTREQ payloads for raw keys (RFC 7670 and OpenIKED's own encodings).

use super::AuthError;
use super::store::CredentialStore;
use crate::crypto::Provider;
use crate::crypto::sign::{KeyKind, PrivateKey, PublicKey};
use crate::policy::{Identity, PublicKeyAuth};
use crate::wire::registry::{AuthMethod, CertEncoding, HashAlgorithm};

/// Makes our AUTH: method 14 where the peer announced a hash that our key can use (RFC 7427), else
/// the older method of the key, if the policy lets it pass.
pub fn sign(
    store: &CredentialStore,
    words: PublicKeyAuth,
    peer_hashes: &[HashAlgorithm],
    octets: &[u8],
) -> Result<(AuthMethod, Vec<u8>), AuthError> {
    let key = store.private_key().ok_or(AuthError::NoPrivateKey)?;
    let hash = preferred(key.kind())
        .iter()
        .find(|hash| peer_hashes.contains(hash));
    if let Some(&hash) = hash {
        let data = key
            .sign_rfc7427(hash, octets)
            .map_err(AuthError::Signature)?;
        return Ok((AuthMethod::SIGNATURE, data));
    }
    // The method is part of what both sides agree on ("mutually" in iked.conf(5)).
    match older_method(key.kind()) {
        Some(method) if allows(words, method) => {
            key.sign_legacy(octets).map_err(AuthError::Signature)
        }
        Some(_) | None => Err(AuthError::NoCommonHash),
    }
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
fn older_method(kind: KeyKind) -> Option<AuthMethod> {
    match kind {
        KeyKind::Rsa => Some(AuthMethod::RSA),
        KeyKind::EcdsaP256 => Some(AuthMethod::ECDSA_256),
        KeyKind::EcdsaP384 => Some(AuthMethod::ECDSA_384),
        KeyKind::EcdsaP521 => Some(AuthMethod::ECDSA_521),
        KeyKind::Ed25519 => None,
    }
}

/// Checks the peer's AUTH with the key on file for its identity. A raw key that the peer sends must
/// be that key; certificates it sends add nothing and are not looked at.
pub fn verify(
    _provider: &Provider,
    store: &CredentialStore,
    words: PublicKeyAuth,
    peer_id: &Identity,
    peer_certs: &[(CertEncoding, &[u8])],
    method: AuthMethod,
    auth: &[u8],
    octets: &[u8],
    our_hashes: &[HashAlgorithm],
) -> Result<(), AuthError> {
    if !allows(words, method) {
        return Err(AuthError::Method);
    }
    let on_file = store.peer_keys(peer_id);
    if on_file.is_empty() {
        return Err(AuthError::UnknownKey);
    }
    let sent = sent_key(peer_certs)?;
    let mut failure = AuthError::KeyMismatch;
    for key in on_file {
        if sent.as_ref().is_some_and(|sent| sent != key) {
            continue;
        }
        if !kind_allowed(words, key.kind()) {
            failure = AuthError::Method;
            continue;
        }
        let checked = if method == AuthMethod::SIGNATURE {
            key.verify_rfc7427(auth, octets, our_hashes)
        } else {
            key.verify_legacy(method, auth, octets)
        };
        match checked {
            Ok(()) => return Ok(()),
            Err(error) => failure = AuthError::Signature(error),
        }
    }
    Err(failure)
}

/// Which methods each word of iked.conf(5) lets in.
fn allows(words: PublicKeyAuth, method: AuthMethod) -> bool {
    let any = [
        AuthMethod::SIGNATURE,
        AuthMethod::RSA,
        AuthMethod::ECDSA_256,
        AuthMethod::ECDSA_384,
        AuthMethod::ECDSA_521,
    ];
    match words {
        PublicKeyAuth::Any => any.contains(&method),
        PublicKeyAuth::Rfc7427 => method == AuthMethod::SIGNATURE,
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
fn kind_allowed(words: PublicKeyAuth, kind: KeyKind) -> bool {
    match words {
        PublicKeyAuth::Any | PublicKeyAuth::Rfc7427 => true,
        PublicKeyAuth::Rsa => kind == KeyKind::Rsa,
        PublicKeyAuth::Ecdsa256 => kind == KeyKind::EcdsaP256,
        PublicKeyAuth::Ecdsa384 => kind == KeyKind::EcdsaP384,
        PublicKeyAuth::Ecdsa521 => kind == KeyKind::EcdsaP521,
    }
}

/// The raw key among the CERT payloads: the first, which is the one that signs (RFC 7296, 3.6). One
/// that cannot be read is not the key on file.
fn sent_key(certs: &[(CertEncoding, &[u8])]) -> Result<Option<PublicKey>, AuthError> {
    let key = certs.iter().find_map(|(encoding, data)| match *encoding {
        CertEncoding::RAW_RSA => Some(PublicKey::from_rsa_pkcs1_der(data)),
        CertEncoding::RAW_PUBLIC_KEY | CertEncoding::OPENIKED_ECDSA => {
            Some(PublicKey::from_spki_der(data))
        }
        _ => None,
    });
    key.transpose().map_err(|_| AuthError::KeyMismatch)
}

/// Our raw key in one encoding that the peer asked for; nothing where it asked for none, because it
/// must have the key on file anyway.
pub fn certs_to_send(
    store: &CredentialStore,
    requested: &[(CertEncoding, &[u8])],
) -> Vec<(CertEncoding, Vec<u8>)> {
    let Some(public) = store.own_public_key() else {
        return Vec::new();
    };
    let asked = |encoding| requested.iter().any(|(asked, _)| *asked == encoding);
    let ecdsa = !matches!(public.kind(), KeyKind::Rsa | KeyKind::Ed25519);
    if asked(CertEncoding::RAW_PUBLIC_KEY) {
        return vec![(CertEncoding::RAW_PUBLIC_KEY, public.spki_der().to_vec())];
    }
    if let (true, Some(der)) = (asked(CertEncoding::RAW_RSA), public.rsa_pkcs1_der()) {
        return vec![(CertEncoding::RAW_RSA, der)];
    }
    if ecdsa && asked(CertEncoding::OPENIKED_ECDSA) {
        return vec![(CertEncoding::OPENIKED_ECDSA, public.spki_der().to_vec())];
    }
    Vec::new()
}

/// The CERTREQ that asks for raw keys of our own key's kind. None for ECDSA: its number is OpenIKED's
/// own, libreswan drops a whole message with a number it does not know, and the key must be on
/// file anyway.
pub fn certreq_to_send(store: &CredentialStore) -> Vec<(CertEncoding, Vec<u8>)> {
    let encoding = match store.private_key().map(PrivateKey::kind) {
        Some(KeyKind::Rsa) => CertEncoding::RAW_RSA,
        Some(KeyKind::Ed25519) => CertEncoding::RAW_PUBLIC_KEY,
        Some(KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::EcdsaP521) | None => {
            return Vec::new();
        }
    };
    vec![(encoding, Vec::new())]
}

#[cfg(test)]
mod tests;
