//! Signatures and the keys that make and check them: RFC 7427 (method 14) with RSA, ECDSA and
//! Ed25519, and the older methods 1 and 9 to 11 (RFC 7296, RFC 4754).

use std::fmt;

use boring::bn::BigNum;
use boring::ec::EcKey;
use boring::ecdsa::EcdsaSig;
use boring::hash::{MessageDigest, hash};
use boring::nid::Nid;
use boring::pkey::{HasParams, HasPublic, Id, PKey, PKeyRef, Private, Public};
use boring::rsa::{Padding, Rsa};
use boring::sign::{RsaPssSaltlen, Signer, Verifier};
use zeroize::Zeroizing;

use super::CryptoError;
use super::algorithm::Algorithm;
use super::awslc::RsaSigner;
use crate::wire::registry::{AuthMethod, HashAlgorithm};

/// The kinds of keys that sign here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, 2048 to 8192 bits.
    Rsa,
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
}

/// A key that signs. The library wipes it when it is dropped.
pub struct PrivateKey {
    key: PKey<Private>,
    kind: KeyKind,
    /// An RSA key once more, where it signs faster.
    rsa: Option<RsaSigner>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?})", self.kind)
    }
}

impl PrivateKey {
    /// Reads a PEM file: PKCS #8, or the traditional form of RSA and EC keys.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CryptoError> {
        let key = PKey::private_key_from_pem(pem).map_err(|_| CryptoError::UnsupportedKey)?;
        let kind = kind_of(&key)?;
        let rsa = match kind {
            KeyKind::Rsa => RsaSigner::from_pkcs1_der(&Zeroizing::new(key.private_key_to_der()?)),
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::EcdsaP521 | KeyKind::Ed25519 => None,
        };
        Ok(Self { key, kind, rsa })
    }

    /// Its kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// For TLS, which signs by itself.
    pub(super) const fn pkey(&self) -> &PKey<Private> {
        &self.key
    }

    /// The public half.
    pub fn public(&self) -> Result<PublicKey, CryptoError> {
        let der = self.key.public_key_to_der()?;
        PublicKey::from_spki_der(&der)
    }

    /// AUTH data of method 14 (RFC 7427, 3): length and DER of the AlgorithmIdentifier, signature.
    /// RSA signs with PKCS #1 v1.5, which every peer verifies.
    pub fn sign_rfc7427(&self, hash: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.sign_hashed(false, hash, data)
    }

    /// The same with RSASSA-PSS.
    pub fn sign_rfc7427_pss(
        &self,
        hash: HashAlgorithm,
        data: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.sign_hashed(true, hash, data)
    }

    fn sign_hashed(
        &self,
        pss: bool,
        hash: HashAlgorithm,
        data: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let of_pss = |algorithm: Algorithm| matches!(algorithm, Algorithm::RsaPss(_)) == pss;
        let algorithm =
            Algorithm::all().find(|one| one.fits(self.kind) && one.hash() == hash && of_pss(*one));
        self.sign_as(algorithm.ok_or(CryptoError::UnsupportedKey)?, data)
    }

    /// The same with an algorithm that fits this key.
    pub fn sign_as(&self, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if !algorithm.fits(self.kind) {
            return Err(CryptoError::UnsupportedKey);
        }
        let identifier = algorithm.identifier();
        let length = u8::try_from(identifier.len()).map_err(|_| CryptoError::Library)?;
        let mut out = vec![length];
        out.extend_from_slice(&identifier);
        out.extend(self.sign(algorithm, data)?);
        Ok(out)
    }

    fn sign(&self, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if let Some(rsa) = &self.rsa {
            return rsa.sign(algorithm, data);
        }
        let Some(digest) = digest_of(algorithm) else {
            return Ok(Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(data)?);
        };
        let mut signer = Signer::new(digest, &self.key)?;
        if let Algorithm::RsaPss(_) = algorithm {
            signer.set_rsa_padding(Padding::PKCS1_PSS)?;
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        }
        signer.update(data)?;
        Ok(signer.sign_to_vec()?)
    }

    /// AUTH data of methods 1 (RSA with SHA-1) and 9 to 11 (ECDSA, r and s side by side), with the
    /// method this key has.
    pub fn sign_legacy(&self, data: &[u8]) -> Result<(AuthMethod, Vec<u8>), CryptoError> {
        if self.kind == KeyKind::Rsa {
            let mut signer = Signer::new(MessageDigest::sha1(), &self.key)?;
            signer.update(data)?;
            return Ok((AuthMethod::RSA, signer.sign_to_vec()?));
        }
        let (method, digest, width) = legacy_ecdsa(self.kind).ok_or(CryptoError::UnsupportedKey)?;
        let digest = hash(digest, data)?;
        let key: EcKey<Private> = self.key.ec_key()?;
        let signature = EcdsaSig::sign(&digest, &key)?;
        let mut out = signature.r().to_vec_padded(width)?;
        out.extend(signature.s().to_vec_padded(width)?);
        Ok((method, out))
    }
}

/// A key that verifies.
#[derive(Clone)]
pub struct PublicKey {
    key: PKey<Public>,
    kind: KeyKind,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.kind)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.key.public_eq(&other.key)
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    /// `UnsupportedKey` where it is none that signs here.
    pub(super) fn new(key: PKey<Public>) -> Result<Self, CryptoError> {
        let kind = kind_of(&key)?;
        Ok(Self { key, kind })
    }

    /// Reads a PEM file: SubjectPublicKeyInfo, or the PKCS #1 form of RSA keys.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CryptoError> {
        if let Ok(key) = PKey::public_key_from_pem(pem) {
            return Self::new(key);
        }
        let rsa = Rsa::public_key_from_pem_pkcs1(pem).map_err(|_| CryptoError::UnsupportedKey)?;
        Self::new(PKey::from_rsa(rsa)?)
    }

    /// Reads a SubjectPublicKeyInfo (CERT encoding 15, RFC 7670).
    pub fn from_spki_der(der: &[u8]) -> Result<Self, CryptoError> {
        let key = PKey::public_key_from_der(der).map_err(|_| CryptoError::UnsupportedKey)?;
        Self::new(key)
    }

    /// Reads a PKCS #1 RSAPublicKey (CERT encoding 11).
    pub fn from_rsa_pkcs1_der(der: &[u8]) -> Result<Self, CryptoError> {
        let rsa = Rsa::public_key_from_der_pkcs1(der).map_err(|_| CryptoError::UnsupportedKey)?;
        Self::new(PKey::from_rsa(rsa)?)
    }

    /// Its kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> Result<Vec<u8>, CryptoError> {
        Ok(self.key.public_key_to_der()?)
    }

    /// Its PKCS #1 form, of an RSA key.
    pub fn rsa_pkcs1_der(&self) -> Option<Vec<u8>> {
        self.key.rsa().ok()?.public_key_to_der_pkcs1().ok()
    }

    /// Checks AUTH data of method 14. The AlgorithmIdentifier must be one we know, fit this key,
    /// and use a hash we allow.
    pub fn verify_rfc7427(
        &self,
        auth_data: &[u8],
        signed: &[u8],
        allowed: &[HashAlgorithm],
    ) -> Result<(), CryptoError> {
        let (&length, rest) = auth_data.split_first().ok_or(CryptoError::Signature)?;
        let (identifier, signature) = rest
            .split_at_checked(usize::from(length))
            .ok_or(CryptoError::Signature)?;
        let algorithm = Algorithm::named(identifier)
            .filter(|algorithm| algorithm.fits(self.kind) && allowed.contains(&algorithm.hash()))
            .ok_or(CryptoError::Signature)?;
        self.verify(algorithm, signature, signed)
    }

    fn verify(
        &self,
        algorithm: Algorithm,
        signature: &[u8],
        signed: &[u8],
    ) -> Result<(), CryptoError> {
        let good = match digest_of(algorithm) {
            None => {
                let mut verifier = Verifier::new_without_digest(&self.key)?;
                verifier.verify_oneshot(signature, signed).unwrap_or(false)
            }
            Some(digest) => {
                let mut verifier = Verifier::new(digest, &self.key)?;
                if let Algorithm::RsaPss(_) = algorithm {
                    verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                    verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                }
                verifier.update(signed)?;
                verifier.verify(signature).unwrap_or(false)
            }
        };
        if good {
            Ok(())
        } else {
            Err(CryptoError::Signature)
        }
    }

    /// Checks AUTH data of methods 1 and 9 to 11.
    pub fn verify_legacy(
        &self,
        method: AuthMethod,
        signature: &[u8],
        signed: &[u8],
    ) -> Result<(), CryptoError> {
        if method == AuthMethod::RSA && self.kind == KeyKind::Rsa {
            let mut verifier = Verifier::new(MessageDigest::sha1(), &self.key)?;
            verifier.update(signed)?;
            let good = verifier.verify(signature).unwrap_or(false);
            return if good {
                Ok(())
            } else {
                Err(CryptoError::Signature)
            };
        }
        let (own_method, digest, width) = legacy_ecdsa(self.kind).ok_or(CryptoError::Signature)?;
        if own_method != method || signature.len() != 2 * width {
            return Err(CryptoError::Signature);
        }
        let (r, s) = signature.split_at(width);
        let signature =
            EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
        let digest = hash(digest, signed)?;
        let key: EcKey<Public> = self.key.ec_key()?;
        let good = signature.verify(&digest, &key).unwrap_or(false);
        if good {
            Ok(())
        } else {
            Err(CryptoError::Signature)
        }
    }
}

/// Whether AUTH data of method 14 name RSASSA-PSS.
pub fn is_pss(auth_data: &[u8]) -> bool {
    let named = auth_data.split_first().and_then(|(&length, rest)| {
        let (identifier, _) = rest.split_at_checked(usize::from(length))?;
        Algorithm::named(identifier)
    });
    matches!(named, Some(Algorithm::RsaPss(_)))
}

/// `UnsupportedKey` where it is none that signs here.
pub(super) fn kind_of<T: HasParams + HasPublic>(key: &PKeyRef<T>) -> Result<KeyKind, CryptoError> {
    match key.id() {
        Id::RSA => {
            let rsa = key.rsa()?;
            let bits = rsa.n().num_bits();
            let exponent_good = rsa.e().is_odd() && rsa.e().num_bits() > 1;
            if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) && exponent_good {
                Ok(KeyKind::Rsa)
            } else {
                Err(CryptoError::UnsupportedKey)
            }
        }
        Id::EC => {
            // The library makes no point that is not on its curve.
            match key.ec_key()?.group().curve_name() {
                Some(Nid::X9_62_PRIME256V1) => Ok(KeyKind::EcdsaP256),
                Some(Nid::SECP384R1) => Ok(KeyKind::EcdsaP384),
                Some(Nid::SECP521R1) => Ok(KeyKind::EcdsaP521),
                _ => Err(CryptoError::UnsupportedKey),
            }
        }
        Id::ED25519 => Ok(KeyKind::Ed25519),
        _ => Err(CryptoError::UnsupportedKey),
    }
}

/// The hash that is signed; Ed25519 signs the whole message.
fn digest_of(algorithm: Algorithm) -> Option<MessageDigest> {
    match algorithm.hash() {
        HashAlgorithm::SHA2_256 => Some(MessageDigest::sha256()),
        HashAlgorithm::SHA2_384 => Some(MessageDigest::sha384()),
        HashAlgorithm::SHA2_512 => Some(MessageDigest::sha512()),
        _ => None,
    }
}

/// RFC 4754, 7: each curve has its hash.
fn legacy_ecdsa(kind: KeyKind) -> Option<(AuthMethod, MessageDigest, usize)> {
    match kind {
        KeyKind::EcdsaP256 => Some((AuthMethod::ECDSA_256, MessageDigest::sha256(), 32)),
        KeyKind::EcdsaP384 => Some((AuthMethod::ECDSA_384, MessageDigest::sha384(), 48)),
        KeyKind::EcdsaP521 => Some((AuthMethod::ECDSA_521, MessageDigest::sha512(), 66)),
        KeyKind::Rsa | KeyKind::Ed25519 => None,
    }
}

const RSA_BITS_MIN: i32 = 2048;
/// A verification with more takes a shard too long.
const RSA_BITS_MAX: i32 = 8192;
