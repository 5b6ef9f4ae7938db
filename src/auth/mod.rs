//! Who the peer is: the octets both sides sign (RFC 7296, 2.15), pre-shared keys, public keys, and
//! the store of credentials.

use crate::crypto::CryptoError;

pub mod announce;
pub mod chain;
pub mod eap;
pub mod octets;
pub mod own;
pub mod psk;
pub mod pubkey;
pub mod store;

/// Why a proof of identity does not count, or cannot be made. The peer learns none of this: it is
/// told AUTHENTICATION_FAILED, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The policy does not allow this authentication method, or none was used.
    #[error("authentication method not allowed")]
    Method,
    /// There is no public key for the peer's identity.
    #[error("no public key for this identity")]
    UnknownKey,
    /// The peer sent a key that is not the one on file.
    #[error("public key differs from the one on file")]
    KeyMismatch,
    /// The peer's certificates do not prove its identity.
    #[error("certificate: {0}")]
    Certificate(&'static str),
    /// Nobody confirms that the peer's certificate is not revoked.
    #[error("certificate: not confirmed: {0}")]
    Unconfirmed(String),
    /// The MAC made with the pre-shared key is wrong.
    #[error("pre-shared key mismatch")]
    Mac,
    /// The signature is wrong, or of an algorithm not accepted.
    #[error("signature: {0}")]
    Signature(CryptoError),
    /// We have no private key.
    #[error("no private key")]
    NoPrivateKey,
    /// The peer verifies none of the hashes that our key can sign with.
    #[error("no common signature algorithm")]
    NoCommonHash,
    /// The policy names no user for us.
    #[error("no user for EAP")]
    NoUser,
    /// EAP came to no good end.
    #[error("{0}")]
    Eap(#[from] eap::Refusal),
    /// There is no agreement about a PPK (RFC 8784), and why.
    #[error("PPK: {0}")]
    Ppk(String),
    /// A proof is wrong, made or checked with the PPK of this ID; it may be that which differs.
    #[error("{0} with PPK '{1}'")]
    WithPpk(Box<Self>, String),
    /// The peer and the policy differ in how often one authenticates (RFC 4739).
    #[error("{0}")]
    Rounds(&'static str),
    /// A key or certificate cannot be used.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
}
