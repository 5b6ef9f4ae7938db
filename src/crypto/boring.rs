//! The algorithms of a [`Provider`] on BoringSSL: hashes, PRFs and the tables. Ciphers and key
//! exchange have files of their own; raw calls are in `sys::bssl`.

use std::fmt;

use zeroize::Zeroizing;

use super::{CryptoError, Integ, Prf, Provider};
use crate::sys::bssl::{self, Hash, HmacKey};
use crate::wire::registry::{HashAlgorithm, IntegId, PrfId};

mod cipher;
mod curves;
mod kex;

/// The tables, strongest first where an order means anything.
pub fn provider() -> Provider {
    Provider {
        prfs: PRFS,
        integs: INTEGS,
        ciphers: cipher::CIPHERS,
        key_exchanges: kex::KEY_EXCHANGES,
        sha1,
        sha256,
        equal: |a, b| a.len() == b.len() && boring::memcmp::eq(a, b),
        signature_hashes: &[
            HashAlgorithm::SHA2_256,
            HashAlgorithm::SHA2_384,
            HashAlgorithm::SHA2_512,
            HashAlgorithm::IDENTITY,
        ],
    }
}

impl From<bssl::Failure> for CryptoError {
    fn from(_: bssl::Failure) -> Self {
        Self::Library
    }
}

impl From<boring::error::ErrorStack> for CryptoError {
    fn from(_: boring::error::ErrorStack) -> Self {
        Self::Library
    }
}

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hasher = boring::sha::Sha1::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = boring::sha::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}

/// HMAC-MD5 of these parts, one after the other.
pub fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut out = [0; 16];
    hmac(Hash::Md5, key, parts, &mut out);
    out
}

/// HMAC can only fail when memory does; the output is then random, so that nobody can foresee a
/// key made of it.
fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]], out: &mut [u8]) {
    if bssl::hmac(hash, key, parts, out).is_err() && boring::rand::rand_bytes(out).is_err() {
        std::process::abort();
    }
}

/// PRF_HMAC_*, RFC 7296, 2.13 and RFC 4868.
struct HmacPrf {
    id: PrfId,
    hash: Hash,
    output_len: usize,
}

impl Prf for HmacPrf {
    fn id(&self) -> PrfId {
        self.id
    }

    fn output_len(&self) -> usize {
        self.output_len
    }

    fn compute(&self, key: &[u8], parts: &[&[u8]], out: &mut [u8]) {
        hmac(self.hash, key, parts, out);
    }

    fn plus(&self, key: &[u8], parts: &[&[u8]], out: &mut [u8]) -> Result<(), CryptoError> {
        let key = HmacKey::new(self.hash, key)?;
        let mut last = Zeroizing::new([0u8; LONGEST_OUTPUT]);
        for (index, chunk) in out.chunks_mut(self.output_len).enumerate() {
            // T1 = prf(K, S | 1), Tn = prf(K, Tn-1 | S | n); n is one byte.
            let number = [u8::try_from(index + 1).map_err(|_| CryptoError::KeyLength)?];
            let before = if index > 0 { self.output_len } else { 0 };
            let before = last.get(..before).ok_or(CryptoError::Library)?;
            let mut block = Zeroizing::new([0u8; LONGEST_OUTPUT]);
            let all = [before].into_iter().chain(parts.iter().copied());
            key.compute(all.chain([&number[..]]), block.as_mut_slice())?;
            let head = block.get(..chunk.len()).ok_or(CryptoError::Library)?;
            chunk.copy_from_slice(head);
            // A copy, so that the block is wiped where it stands.
            last.copy_from_slice(block.as_slice());
        }
        Ok(())
    }
}

impl fmt::Debug for HmacPrf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// AUTH_HMAC_*, RFC 2403, 2404 and 4868.
struct HmacInteg {
    id: IntegId,
    key_len: usize,
    icv_len: usize,
}

impl Integ for HmacInteg {
    fn id(&self) -> IntegId {
        self.id
    }

    fn key_len(&self) -> usize {
        self.key_len
    }

    fn icv_len(&self) -> usize {
        self.icv_len
    }
}

/// The hash under an integrity algorithm.
fn integ_hash(id: IntegId) -> Option<Hash> {
    Some(match id {
        IntegId::HMAC_MD5_96 => Hash::Md5,
        IntegId::HMAC_SHA1_96 => Hash::Sha1,
        IntegId::HMAC_SHA2_256_128 => Hash::Sha256,
        IntegId::HMAC_SHA2_384_192 => Hash::Sha384,
        IntegId::HMAC_SHA2_512_256 => Hash::Sha512,
        _ => return None,
    })
}

static PRFS: &[&dyn Prf] = &[
    &HmacPrf {
        id: PrfId::HMAC_SHA2_256,
        hash: Hash::Sha256,
        output_len: 32,
    },
    &HmacPrf {
        id: PrfId::HMAC_SHA2_384,
        hash: Hash::Sha384,
        output_len: 48,
    },
    &HmacPrf {
        id: PrfId::HMAC_SHA2_512,
        hash: Hash::Sha512,
        output_len: 64,
    },
    &HmacPrf {
        id: PrfId::HMAC_SHA1,
        hash: Hash::Sha1,
        output_len: 20,
    },
    &HmacPrf {
        id: PrfId::HMAC_MD5,
        hash: Hash::Md5,
        output_len: 16,
    },
];

static INTEGS: &[&dyn Integ] = &[
    &HmacInteg {
        id: IntegId::HMAC_SHA2_256_128,
        key_len: 32,
        icv_len: 16,
    },
    &HmacInteg {
        id: IntegId::HMAC_SHA2_384_192,
        key_len: 48,
        icv_len: 24,
    },
    &HmacInteg {
        id: IntegId::HMAC_SHA2_512_256,
        key_len: 64,
        icv_len: 32,
    },
    &HmacInteg {
        id: IntegId::HMAC_SHA1_96,
        key_len: 20,
        icv_len: 12,
    },
    &HmacInteg {
        id: IntegId::HMAC_MD5_96,
        key_len: 16,
        icv_len: 12,
    },
];

/// Output of SHA-512.
const LONGEST_OUTPUT: usize = 64;
