//! The peer's certificates: which key they vouch for, and what has been verified before.

use std::time::{SystemTime, UNIX_EPOCH};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::AuthError;
use super::pubkey::named;
use super::store::CredentialStore;
use crate::crypto::sign::PublicKey;
use crate::crypto::x509::Certificate;
use crate::policy::Identity;

/// Chains that led to a trusted certificate, by the SHA-256 of everything in them, and until when (in
/// seconds since 1970) that holds. One for each shard; only what was verified comes in.
#[derive(Debug, Default)]
pub struct ChainCache(HashMap<Vec<[u8; 32]>, i64, RandomState>);

impl ChainCache {
    /// Forgets everything: the trusted certificates or the revocation lists are others now.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn holds(&self, chain: &[[u8; 32]], at: i64) -> bool {
        self.0.get(chain).is_some_and(|until| at <= *until)
    }

    fn learn(&mut self, chain: Vec<[u8; 32]>, until: i64) {
        if self.0.len() >= CHAINS_MAX {
            // Rare, and what is still in use comes back at its next handshake.
            self.0.clear();
        }
        self.0.insert(chain, until);
    }
}

/// The key that the peer's certificates vouch for: the first must name `identity` and lead to an
/// authority we trust.
pub fn vouched(
    store: &CredentialStore,
    cache: &mut ChainCache,
    wall: SystemTime,
    identity: &Identity,
    certs: &[&[u8]],
) -> Result<PublicKey, AuthError> {
    let (leaf, others) = certs.split_first().ok_or(AuthError::UnknownKey)?;
    if others.len() > OTHERS_MAX {
        return Err(AuthError::Certificate("too many certificates"));
    }
    let leaf = Certificate::from_der(leaf)?;
    if !named(&leaf)?.iter().any(|name| name.same(identity)) {
        return Err(AuthError::Certificate("names another identity"));
    }
    let trust = store
        .trust()
        .ok_or(AuthError::Certificate("no trusted authority"))?;
    // One that cannot be read may be of no use for the chain either.
    let others = others
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok());
    let others: Vec<Certificate> = others.collect();
    let all = [&leaf].into_iter().chain(&others);
    let chain = all
        .map(Certificate::fingerprint)
        .collect::<Result<Vec<_>, _>>()?;
    let at = wall
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    if !cache.holds(&chain, at) {
        let until = trust.verify(&leaf, &others, at);
        let until = until.map_err(|error| AuthError::Certificate(error.0))?;
        cache.learn(chain, until);
    }
    Ok(leaf.public_key()?)
}

/// The keys of certificates in `certs` that name this identity: these are trusted as they are.
pub fn pinned(store: &CredentialStore, identity: &Identity) -> Vec<PublicKey> {
    let certificates = store.certificates().iter();
    let named = certificates
        .filter(|c| named(c).is_ok_and(|names| names.iter().any(|name| name.same(identity))));
    named.filter_map(|c| c.public_key().ok()).collect()
}

/// Chains remembered by one shard: as many as road warriors that come and go in a while.
const CHAINS_MAX: usize = 4096;
/// Certificates beside the first that a peer may send.
const OTHERS_MAX: usize = 8;

#[cfg(test)]
mod tests;
