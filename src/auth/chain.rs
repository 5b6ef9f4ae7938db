//! The peer's certificates: which key they vouch for, and what has been verified before.

use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;

use super::AuthError;
use super::pubkey::named;
use super::store::CredentialStore;
use crate::crypto::x509::{Certificate, Verified};
use crate::policy::Identity;

/// Chains that led to a trusted certificate, by the SHA-256 of everything in them, and until when (in
/// seconds since 1970) that holds. One for each shard; only what was verified comes in.
#[derive(Debug, Default)]
pub struct ChainCache(HashMap<[u8; 32], Verified>);

/// A certificate that a chain of others vouches for.
#[derive(Clone, Debug)]
pub struct Vouched {
    /// It.
    pub leaf: Certificate,
    /// Who issued it, and so on up to a trusted certificate; empty where it is trusted itself.
    pub above: Vec<Certificate>,
}

impl ChainCache {
    /// Forgets everything: the trusted certificates or the revocation lists are others now.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn find(&self, chain: &[u8; 32], at: i64) -> Option<&Verified> {
        self.0.get(chain).filter(|verified| at <= verified.until)
    }

    fn learn(&mut self, chain: [u8; 32], verified: Verified) {
        if self.0.len() >= CHAINS_MAX {
            // Rare, and what is still in use comes back at its next handshake.
            self.0.clear();
        }
        self.0.insert(chain, verified);
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
) -> Result<Vouched, AuthError> {
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
    let chain = Certificate::chain_fingerprint(leaf, &others)?;
    let at = wall
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    let above = if let Some(verified) = cache.find(&chain, at) {
        verified.above.clone()
    } else {
        let verified = trust.verify(leaf, &others, at);
        let verified = verified.map_err(|error| AuthError::Certificate(error.0))?;
        let above = verified.above.clone();
        cache.learn(chain, verified);
        above
    };
    let leaf = leaf.clone();
    Ok(Vouched { leaf, above })
}

/// Chains remembered by one shard: as many as road warriors that come and go in a while.
const CHAINS_MAX: usize = 4096;
/// Certificates beside the first that a peer may send.
const OTHERS_MAX: usize = 8;

#[cfg(test)]
mod tests;
