//! What we show of ourselves: which of our keys signs, and which certificates or raw key go along
//! with it (RFC 7296, 3.6 and 3.7; RFC 7670 and OpenIKED's own encodings).

use super::AuthError;
use super::announce::{Announced, Way};
use super::pubkey::{allows_key, named};
use super::store::{CredentialStore, OwnKey};
use crate::crypto::CryptoError;
use crate::crypto::sign::KeyKind;
use crate::crypto::x509::Certificate;
use crate::policy::{Identity, PublicKeyAuth};
use crate::wire::registry::{CertEncoding, HashAlgorithm};

/// A certificate of ours, for a key of ours.
#[derive(Debug)]
pub struct OwnCertificate {
    /// The place of its key in [`CredentialStore::keys`].
    key: usize,
    /// The identities it names.
    names: Vec<Identity>,
    /// DER: itself, then the intermediate ones that we have.
    chain: Vec<Vec<u8>>,
    /// Key identifiers of the authorities above it.
    above: Vec<[u8; 20]>,
    /// Itself, and who issued it, where we have that one.
    issued: Option<(Certificate, Certificate)>,
}

impl OwnCertificate {
    /// The certificate with this DER and its issuer, if it is this one and has one.
    pub fn issued(&self, der: &[u8]) -> Option<(&Certificate, &Certificate)> {
        let (leaf, issuer) = self.issued.as_ref()?;
        (leaf.der() == der).then_some((leaf, issuer))
    }
}

/// What goes into IKE_AUTH.
#[derive(Debug)]
pub struct Shown<'s> {
    /// Signs.
    pub key: &'s OwnKey,
    /// CERT payloads, the one of the key first.
    pub certs: Vec<(CertEncoding, &'s [u8])>,
    /// Worth a line in the log.
    pub note: Option<String>,
}

/// Finds the certificates in `certs` that belong to one of our keys, and what leads up from them.
pub fn certificates(
    keys: &[OwnKey],
    certificates: &[Certificate],
    authorities: &[Certificate],
) -> Result<Vec<OwnCertificate>, CryptoError> {
    let mut own = Vec::new();
    for leaf in certificates {
        // A key that cannot sign here is none of ours.
        let Ok(public) = leaf.public_key() else {
            continue;
        };
        let Some(key) = keys.iter().position(|key| key.public == public) else {
            continue;
        };
        let path = path_up(leaf, certificates, authorities);
        let chain = [leaf].into_iter().chain(path.iter().copied());
        let chain = chain.filter(|c| *c == leaf || !c.is_self_issued());
        let above = path.iter().filter_map(|c| c.key_id().ok());
        own.push(OwnCertificate {
            key,
            names: named(leaf)?,
            chain: chain.take(CHAIN_MAX).map(|c| c.der().to_vec()).collect(),
            above: above.collect(),
            issued: path.first().map(|issuer| (leaf.clone(), (*issuer).clone())),
        });
    }
    Ok(own)
}

/// The issuers of a certificate, nearest first, as far as we have them.
fn path_up<'c>(
    leaf: &'c Certificate,
    certificates: &'c [Certificate],
    authorities: &'c [Certificate],
) -> Vec<&'c Certificate> {
    let mut path = Vec::new();
    let mut last = leaf;
    while path.len() < CHAIN_MAX && !last.is_self_issued() {
        let mut all = authorities.iter().chain(certificates);
        match all.find(|issuer| last.is_issued_by(issuer)) {
            Some(issuer) if issuer != last => {
                path.push(issuer);
                last = issuer;
            }
            Some(_) | None => break,
        }
    }
    path
}

/// Chooses key and certificates by what the policy's word allows, the identity we use, and what the
/// peer asked for. A peer that asked for nothing gets our certificate, if there is one; a raw key
/// only on demand, because it must have that on file anyway.
pub fn show<'s>(
    store: &'s CredentialStore,
    words: PublicKeyAuth,
    srcid: &Identity,
    requested: &[(CertEncoding, &[u8])],
) -> Result<Shown<'s>, AuthError> {
    let keys = store.keys();
    let fits = |own: &&OwnCertificate| {
        let key = keys.get(own.key);
        key.is_some_and(|key| allows_key(words, key.public.kind()))
            && own.names.iter().any(|name| name.same(srcid))
    };
    let authorities = authorities(requested);
    let wanted = requested.is_empty() || authorities.is_some();
    if wanted {
        let asked = authorities.unwrap_or_default();
        let own = || store.own_certificates().iter().filter(fits);
        let best = own().find(|own| own.above.iter().any(|id| asked.contains(id)));
        if let Some(own) = best.or_else(|| own().next())
            && let Some(key) = keys.get(own.key)
        {
            return Ok(certified(key, own));
        }
    }
    let key = keys.iter().find(|key| allows_key(words, key.public.kind()));
    let key = key.ok_or(AuthError::NoPrivateKey)?;
    Ok(bare(key, srcid, requested, wanted))
}

/// A key with its certificates.
fn certified<'s>(key: &'s OwnKey, own: &'s OwnCertificate) -> Shown<'s> {
    let chain = own.chain.iter();
    Shown {
        key,
        certs: chain
            .map(|der| (CertEncoding::X509, der.as_slice()))
            .collect(),
        note: None,
    }
}

/// A raw key, where a certificate may have been wanted.
fn bare<'s>(
    key: &'s OwnKey,
    srcid: &Identity,
    requested: &[(CertEncoding, &[u8])],
    wanted: bool,
) -> Shown<'s> {
    let missed = wanted && !requested.is_empty();
    Shown {
        key,
        certs: raw(key, requested),
        note: missed.then(|| format!("no valid local certificate found for {srcid}")),
    }
}

/// The same choice among what the peer announced that it takes (RFC 9593), in its order, with the way
/// to sign that came first. `None` where none of it can be had from the keys and the policy's word.
/// `hashes` are those that the peer verifies.
pub fn show_announced<'s>(
    store: &'s CredentialStore,
    words: PublicKeyAuth,
    srcid: &Identity,
    requested: &[(CertEncoding, &[u8])],
    (announced, hashes): (&Announced, &[HashAlgorithm]),
) -> Option<(Shown<'s>, Way)> {
    let keys = store.keys();
    let can = |way: Way, key: &OwnKey| way.fits(words, key.public.kind(), hashes);
    let authorities = authorities(requested);
    let wanted = requested.is_empty() || authorities.is_some();
    let asked = authorities.unwrap_or_default();
    let ours = |way: Way, under: &dyn Fn(&OwnCertificate) -> bool| {
        let named = |own: &&OwnCertificate| own.names.iter().any(|name| name.same(srcid));
        let own = store.own_certificates().iter().filter(|_| wanted);
        let mut own = own.filter(named).filter(|own| under(own));
        own.find_map(|own| {
            let key = keys.get(own.key).filter(|key| can(way, key))?;
            Some((certified(key, own), way))
        })
    };
    // Below the authority that the announcement is for, or any that was asked for.
    let below = |own: &OwnCertificate, authority: u8| match usize::from(authority).checked_sub(1) {
        None => own.above.iter().any(|id| asked.contains(id)),
        Some(place) => asked.get(place).is_some_and(|id| own.above.contains(id)),
    };
    let for_any = || announced.ways().filter(|(_, authority)| *authority == 0);
    announced
        .ways()
        .find_map(|(way, authority)| ours(way, &|own| below(own, authority)))
        .or_else(|| for_any().find_map(|(way, _)| ours(way, &|_| true)))
        .or_else(|| {
            for_any().find_map(|(way, _)| {
                let key = keys.iter().find(|key| can(way, key))?;
                Some((bare(key, srcid, requested, wanted), way))
            })
        })
}

/// The key identifiers in the requests for X.509 certificates; `None` if there is no such request.
/// One that is no list of them (RFC 7296, 3.7) is passed over.
fn authorities(requested: &[(CertEncoding, &[u8])]) -> Option<Vec<[u8; 20]>> {
    let mut x509 = requested
        .iter()
        .filter(|(encoding, data)| *encoding == CertEncoding::X509 && data.len() % 20 == 0)
        .peekable();
    x509.peek()?;
    let ids = x509.flat_map(|(_, data)| data.as_chunks::<20>().0.iter().copied());
    Some(ids.collect())
}

/// Our raw key in one encoding that the peer asked for.
fn raw<'s>(key: &'s OwnKey, requested: &[(CertEncoding, &[u8])]) -> Vec<(CertEncoding, &'s [u8])> {
    let asked = |encoding| requested.iter().any(|(asked, _)| *asked == encoding);
    let ecdsa = !matches!(key.public.kind(), KeyKind::Rsa | KeyKind::Ed25519);
    if asked(CertEncoding::RAW_PUBLIC_KEY) {
        return vec![(CertEncoding::RAW_PUBLIC_KEY, &key.spki_der)];
    }
    if let (true, Some(der)) = (asked(CertEncoding::RAW_RSA), key.rsa_der.as_deref()) {
        return vec![(CertEncoding::RAW_RSA, der)];
    }
    if ecdsa && asked(CertEncoding::OPENIKED_ECDSA) {
        return vec![(CertEncoding::OPENIKED_ECDSA, &key.spki_der)];
    }
    Vec::new()
}

/// The CERTREQ payloads of ours: the authorities we trust, or without one raw keys of our own key's
/// kind. None for raw ECDSA: its number is OpenIKED's own, libreswan drops a whole message with a
/// number it does not know, and the key must be on file anyway. With `ocsp` also what a responder says
/// of the certificate: of ours in `ocsp/`, or whom the authority names (RFC 4806, 3.1). That comes
/// first: by the last one OpenIKED chooses what it shows where none of the authorities is its own.
pub fn request(store: &CredentialStore, ocsp: bool) -> Vec<(CertEncoding, Vec<u8>)> {
    if !store.authorities().is_empty() {
        let ids = |of: &[[u8; 20]]| of.iter().take(AUTHORITIES_MAX).flatten().copied().collect();
        let status = ocsp.then(|| (CertEncoding::OCSP, ids(store.responder_ids())));
        let x509 = (CertEncoding::X509, ids(store.authority_ids()));
        return status.into_iter().chain([x509]).collect();
    }
    let encoding = match store.keys().first().map(|key| key.public.kind()) {
        Some(KeyKind::Rsa) => CertEncoding::RAW_RSA,
        Some(KeyKind::Ed25519) => CertEncoding::RAW_PUBLIC_KEY,
        Some(KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::EcdsaP521) | None => {
            return Vec::new();
        }
    };
    vec![(encoding, Vec::new())]
}

/// Certificates sent, our own included.
const CHAIN_MAX: usize = 4;
/// Authorities named in a CERTREQ: a kilobyte of them fits into IKE_SA_INIT without fragments.
const AUTHORITIES_MAX: usize = 50;

#[cfg(test)]
mod tests;
