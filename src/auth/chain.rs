//! The peer's certificates: which key they vouch for, and what has been verified before.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::AuthError;
use super::pubkey::named;
use super::store::CredentialStore;
use crate::crypto::x509::Certificate;
use crate::policy::Identity;

/// Chains that led to a trusted certificate, by the SHA-256 of everything in them, and until when (in
/// seconds since 1970) that holds. One for each shard; only what was verified comes in.
#[derive(Debug, Default)]
pub struct ChainCache(BTreeMap<Vec<[u8; 32]>, i64>);

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

/// Checks that the peer's certificates vouch for its key: `leaf` must name `identity` and lead to an
/// authority we trust, if need be through `others` in DER.
pub fn vouch(
    store: &CredentialStore,
    cache: &mut ChainCache,
    wall: SystemTime,
    identity: &Identity,
    leaf: &Certificate,
    others: &[&[u8]],
) -> Result<(), AuthError> {
    if others.len() > OTHERS_MAX {
        return Err(AuthError::Certificate("too many certificates"));
    }
    if !named(leaf)?.iter().any(|name| name.same(identity)) {
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
    let all = [leaf].into_iter().chain(&others);
    let chain = all
        .map(Certificate::fingerprint)
        .collect::<Result<Vec<_>, _>>()?;
    let at = wall
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    if !cache.holds(&chain, at) {
        let until = trust.verify(leaf, &others, at);
        let until = until.map_err(|error| AuthError::Certificate(error.0))?;
        cache.learn(chain, until);
    }
    Ok(())
}

/// Chains remembered by one shard: as many as road warriors that come and go in a while.
const CHAINS_MAX: usize = 4096;
/// Certificates beside the first that a peer may send.
const OTHERS_MAX: usize = 8;

#[cfg(test)]
mod tests;
