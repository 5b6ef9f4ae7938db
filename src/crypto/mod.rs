//! Algorithms by transform number; no messages. A [`Provider`] is a table of `&'static dyn`
//! algorithms: `boring` for life, `null` (insecure, seeded) for simulation and fuzzing.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

use crate::wire::registry::{EncrId, HashAlgorithm, IntegId, KeId, PrfId};

pub mod algorithm;
pub mod asn1;
mod awslc;
pub mod boring;
pub mod crl;
pub mod keymat;
pub mod md5;
pub mod mschap;
#[cfg(any(test, feature = "sim"))]
pub mod null;
pub mod ocsp;
pub mod rng;
pub mod sign;
mod sntrup;
pub mod tls;
pub mod x509;

pub use rng::Rng;

/// What can go wrong in a primitive; never carries key material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A key of a length the algorithm does not take.
    #[error("bad key length")]
    KeyLength,
    /// The peer's key exchange value has the wrong length.
    #[error("bad key exchange length")]
    PublicLength,
    /// The peer's key exchange value is out of range, off its curve, or gives a zero secret.
    #[error("invalid key exchange value")]
    PublicValue,
    /// The integrity check failed, or the ciphertext has an impossible length.
    #[error("integrity check failed")]
    Integrity,
    /// A signature does not verify.
    #[error("signature does not verify")]
    Signature,
    /// A key cannot be read, or is of a kind not supported.
    #[error("unsupported key")]
    UnsupportedKey,
    /// A certificate cannot be read.
    #[error("malformed certificate")]
    Certificate,
    /// The library refused.
    #[error("crypto library failure")]
    Library,
}

/// Bytes that are wiped when dropped and never printed.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SecretBytes {
    /// In constant time, but for the length.
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && ::boring::memcmp::eq(&self.0, &other.0)
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({})", self.0.len())
    }
}

/// A keyed pseudorandom function, RFC 7296, 2.13.
pub trait Prf: Sync {
    /// Its number.
    fn id(&self) -> PrfId;
    /// Output length in bytes, which is also the preferred key length.
    fn output_len(&self) -> usize;
    /// `prf(key, parts[0] | parts[1] | ..)`; `out` must be `output_len()` long or shorter (then truncated).
    fn compute(&self, key: &[u8], parts: &[&[u8]], out: &mut [u8]);
    /// `prf+(key, parts..)` (RFC 7296, 2.13) filling all of `out`; `out` is at most 255 blocks,
    /// `Err(KeyLength)` when longer.
    fn plus(&self, key: &[u8], parts: &[&[u8]], out: &mut [u8]) -> Result<(), CryptoError>;
}

/// An integrity algorithm, for IKE's own messages and as a name for ESP.
pub trait Integ: Sync {
    /// Its number.
    fn id(&self) -> IntegId;
    /// Key length in bytes.
    fn key_len(&self) -> usize;
    /// Length of the (truncated) checksum in bytes.
    fn icv_len(&self) -> usize;
}

/// An encryption algorithm as IKE uses it. Lengths are in bytes.
pub trait Cipher: Sync {
    /// Its number.
    fn id(&self) -> EncrId;
    /// Whether it authenticates by itself (then no INTEG transform goes with it).
    fn is_aead(&self) -> bool;
    /// Length of the key material taken from SK_e*, salt included, for this Key Length attribute
    /// (bits; `None` where the algorithm has one length only). `None` if that length does not exist.
    fn key_material_len(&self, key_length_bits: Option<u16>) -> Option<usize>;
    /// One direction of an IKE SA: `encr_key` is `key_material_len` long; `integ` with its key is
    /// given exactly when `!is_aead()`.
    fn key(
        &self,
        encr_key: &[u8],
        integ: Option<(&'static dyn Integ, &[u8])>,
    ) -> Result<Box<dyn MessageKey>, CryptoError>;
}

/// The ready key of one direction of an IKE SA: seals and opens the SK or SKF payload of a message.
///
/// The message layout is RFC 7296, 3.14 and RFC 5282: everything before `iv_at` (IKE header, any
/// clear payloads, generic header of SK, for SKF also its fragment numbers) is authenticated;
/// at `iv_at` stand IV, ciphertext and ICV.
pub trait MessageKey: Send + Sync {
    /// Length of the IV field.
    fn iv_len(&self) -> usize;
    /// The plaintext with padding and pad length byte must be a multiple of this (1 for AEAD).
    fn block_len(&self) -> usize;
    /// Length of the checksum field.
    fn icv_len(&self) -> usize;
    /// On entry `message` is: authenticated part, `iv_len` bytes to be overwritten, padded plaintext
    /// (pad length byte included). Encrypts in place, writes the IV and appends the ICV. Length fields
    /// in the authenticated part must already be final. `counter` is unique per key (message counter of the
    /// caller, counting every seal): AEADs make the IV of it; CBC draws a random IV from `rng`.
    fn seal(
        &self,
        message: &mut Vec<u8>,
        iv_at: usize,
        counter: u64,
        rng: &mut Rng,
    ) -> Result<(), CryptoError>;
    /// Checks and decrypts in place; returns where in `message` the plaintext stands, padding
    /// (with its length byte) still included. Nothing of `message` before `iv_at` changes.
    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, CryptoError>;
}

/// A key exchange method, RFC 7296, 3.4.
pub trait KeyExchange: Sync {
    /// Its number.
    fn id(&self) -> KeId;
    /// Length of the initiator's KE payload data in bytes, and mostly the responder's.
    fn public_len(&self) -> usize;
    /// As responder: cheap checks of the initiator's value (length; MODP: 1 < y < p-1) before any state is
    /// made for it.
    fn check_public(&self, peer_public: &[u8]) -> Result<(), CryptoError>;
    /// Draws a key pair.
    fn start(&self, rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError>;
    /// As responder, to this value of the initiator. The same as [`Self::start`] where both ends do the
    /// same.
    fn answer(
        &self,
        rng: &mut Rng,
        _peer_public: &[u8],
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.start(rng)
    }
}

/// A key pair that waits for the peer's value.
pub trait ActiveKeyExchange: Send + Sync {
    /// The KE payload data we send.
    fn public(&self) -> &[u8];
    /// The shared secret g^ir, as long as RFC 7296, 2.14 (and RFC 5903 for ECP: x only) wants it.
    /// The key pair outlives a value that is no good: an initiator cannot know who sent it.
    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError>;
}

/// The tables.
#[derive(Clone, Copy)]
pub struct Provider {
    /// Pseudorandom functions.
    pub prfs: &'static [&'static dyn Prf],
    /// Integrity algorithms.
    pub integs: &'static [&'static dyn Integ],
    /// Encryption algorithms that IKE itself may use.
    pub ciphers: &'static [&'static dyn Cipher],
    /// Key exchange methods.
    pub key_exchanges: &'static [&'static dyn KeyExchange],
    /// SHA-1 of the parts (NAT detection, RFC 7296, 2.23; CERTREQ).
    pub sha1: fn(&[&[u8]]) -> [u8; 20],
    /// SHA-256 of the parts (cookies, RFC 7296, 2.6).
    pub sha256: fn(&[&[u8]]) -> [u8; 32],
    /// Constant-time equality; false for different lengths.
    pub equal: fn(&[u8], &[u8]) -> bool,
    /// Hash algorithms we verify signatures with, as RFC 7427 announces them.
    pub signature_hashes: &'static [HashAlgorithm],
}

impl Provider {
    /// The PRF with this number.
    pub fn prf(&self, id: PrfId) -> Option<&'static dyn Prf> {
        self.prfs.iter().copied().find(|a| a.id() == id)
    }

    /// The integrity algorithm with this number.
    pub fn integ(&self, id: IntegId) -> Option<&'static dyn Integ> {
        self.integs.iter().copied().find(|a| a.id() == id)
    }

    /// The cipher with this number.
    pub fn cipher(&self, id: EncrId) -> Option<&'static dyn Cipher> {
        self.ciphers.iter().copied().find(|a| a.id() == id)
    }

    /// The key exchange method with this number.
    pub fn key_exchange(&self, id: KeId) -> Option<&'static dyn KeyExchange> {
        self.key_exchanges.iter().copied().find(|a| a.id() == id)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}
