//! What AWS-LC, a relative of BoringSSL with the same origin, does in half the time: key exchange by
//! Curve25519 (RFC 8031) and on the larger curves of RFC 5903, and signatures with RSA keys. It picks
//! its code by what the CPU can do. `benches/README.md` has the figures.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, PublicKey, UnparsedPublicKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, RsaEncoding, RsaKeyPair};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::{ActiveKeyExchange, CryptoError, KeyExchange, Rng, SecretBytes};
use crate::wire::registry::{HashAlgorithm, KeId};

/// One curve.
pub(super) struct Curve {
    id: KeId,
    /// Bits of a secret.
    bits: usize,
    /// What stands before the coordinates in the library's form of a public value, and not on the
    /// wire.
    prefix: &'static [u8],
    /// Bytes of a public value on the wire.
    public_len: usize,
    algorithm: &'static agreement::Algorithm,
}

pub(super) static CURVE_25519: Curve = Curve {
    id: KeId::CURVE25519,
    bits: 256,
    prefix: &[],
    public_len: 32,
    algorithm: &agreement::X25519,
};

pub(super) static ECP_384: Curve = Curve {
    id: KeId::ECP_384,
    bits: 384,
    prefix: UNCOMPRESSED,
    public_len: 96,
    algorithm: &agreement::ECDH_P384,
};

pub(super) static ECP_521: Curve = Curve {
    id: KeId::ECP_521,
    bits: 521,
    prefix: UNCOMPRESSED,
    public_len: 132,
    algorithm: &agreement::ECDH_P521,
};

impl Curve {
    /// A secret is drawn again until it is in range (RFC 5903, 7), which the first nearly always is.
    fn draw(&self, rng: &mut Rng) -> Result<PrivateKey, CryptoError> {
        let mut secret = Zeroizing::new(vec![0; self.bits.div_ceil(8)]);
        for _ in 0..DRAWS_MAX {
            rng.fill(&mut secret);
            if let Some(top) = secret.first_mut() {
                *top &= 0xff >> (self.bits.next_multiple_of(8) - self.bits);
            }
            if let Ok(key) = PrivateKey::from_private_key(self.algorithm, &secret) {
                return Ok(key);
            }
        }
        Err(CryptoError::Library)
    }
}

impl KeyExchange for Curve {
    fn id(&self) -> KeId {
        self.id
    }

    fn public_len(&self) -> usize {
        self.public_len
    }

    fn check_public(&self, peer_public: &[u8]) -> Result<(), CryptoError> {
        if peer_public.len() == self.public_len {
            Ok(())
        } else {
            Err(CryptoError::PublicLength)
        }
    }

    fn start(&self, rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let key = self.draw(rng)?;
        let public = key.compute_public_key().map_err(|_| CryptoError::Library)?;
        Ok(Box::new(Active {
            key,
            public,
            prefix: self.prefix,
        }))
    }
}

struct Active {
    key: PrivateKey,
    public: PublicKey,
    prefix: &'static [u8],
}

impl ActiveKeyExchange for Active {
    fn public(&self) -> &[u8] {
        let public = self.public.as_ref();
        public.get(self.prefix.len()..).unwrap_or(public)
    }

    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        // RFC 5903, 7: the shared secret is the x coordinate, in its full width. The library checks
        // that the point is on the curve, and refuses a secret that is all zero (RFC 8031, 2.3).
        if peer_public.len() != self.public().len() {
            return Err(CryptoError::PublicLength);
        }
        let peer = if self.prefix.is_empty() {
            Cow::Borrowed(peer_public)
        } else {
            Cow::Owned([self.prefix, peer_public].concat())
        };
        let peer = UnparsedPublicKey::new(self.key.algorithm(), peer);
        agreement::agree(&self.key, peer, CryptoError::PublicValue, |shared| {
            Ok(SecretBytes::new(shared.to_vec()))
        })
    }
}

/// An RSA key that signs with PKCS #1 v1.5 or RSASSA-PSS. The library wipes it when it is dropped.
pub(super) struct RsaSigner(RsaKeyPair);

impl fmt::Debug for RsaSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaSigner")
    }
}

impl RsaSigner {
    /// Of a PKCS #1 RSAPrivateKey; `None` where the library does not take it.
    pub(super) fn from_pkcs1_der(der: &[u8]) -> Option<Self> {
        RsaKeyPair::from_der(der).ok().map(Self)
    }

    /// Signs with one of the algorithms of method 14 (RFC 7427); the salt of RSASSA-PSS is as long as
    /// the hash. `UnsupportedKey` for an algorithm that is not one of RSA.
    pub(super) fn sign(&self, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let encoding = encoding(algorithm).ok_or(CryptoError::UnsupportedKey)?;
        let mut out = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(encoding, &SystemRandom::new(), data, &mut out)
            .map_err(|_| CryptoError::Library)?;
        Ok(out)
    }
}

fn encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        Algorithm::RsaPkcs1(HashAlgorithm::SHA2_256) => &signature::RSA_PKCS1_SHA256,
        Algorithm::RsaPkcs1(HashAlgorithm::SHA2_384) => &signature::RSA_PKCS1_SHA384,
        Algorithm::RsaPkcs1(HashAlgorithm::SHA2_512) => &signature::RSA_PKCS1_SHA512,
        Algorithm::RsaPss(HashAlgorithm::SHA2_256) => &signature::RSA_PSS_SHA256,
        Algorithm::RsaPss(HashAlgorithm::SHA2_384) => &signature::RSA_PSS_SHA384,
        Algorithm::RsaPss(HashAlgorithm::SHA2_512) => &signature::RSA_PSS_SHA512,
        Algorithm::RsaPkcs1(_)
        | Algorithm::RsaPss(_)
        | Algorithm::Ecdsa(_)
        | Algorithm::Ed25519 => return None,
    })
}

/// SEC 1, 2.3.4: a point that is not compressed.
const UNCOMPRESSED: &[u8] = &[4];
/// A secret is out of range once in 2^32 times at most.
const DRAWS_MAX: usize = 8;
