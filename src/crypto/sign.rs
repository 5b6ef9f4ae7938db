//! Signatures and the keys that make and check them: RFC 7427 (method 14) with RSA, ECDSA and
//! Ed25519, and the older methods 1 and 9 to 11 (RFC 7296, RFC 4754).

use std::fmt;

use boring::bn::{BigNum, BigNumContext};
use boring::ec::EcKey;
use boring::ecdsa::EcdsaSig;
use boring::hash::{MessageDigest, hash};
use boring::nid::Nid;
use boring::pkey::{HasParams, HasPublic, Id, PKey, PKeyRef, Private, Public};
use boring::rsa::{Padding, Rsa};
use boring::sign::{RsaPssSaltlen, Signer, Verifier};

use super::CryptoError;
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
        Ok(Self { key, kind })
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
        self.sign_identified(algorithm(self.kind, false, hash), data)
    }

    /// The same with RSASSA-PSS.
    pub fn sign_rfc7427_pss(
        &self,
        hash: HashAlgorithm,
        data: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.sign_identified(algorithm(self.kind, true, hash), data)
    }

    fn sign_identified(
        &self,
        algorithm: Option<Algorithm>,
        data: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let algorithm = algorithm.ok_or(CryptoError::UnsupportedKey)?;
        let identifier = algorithm.identifier();
        let length = u8::try_from(identifier.len()).map_err(|_| CryptoError::Library)?;
        let mut out = vec![length];
        out.extend_from_slice(&identifier);
        out.extend(self.sign(algorithm, data)?);
        Ok(out)
    }

    fn sign(&self, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let Some(digest) = algorithm.digest() else {
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
    spki: Vec<u8>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.kind)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    fn new(key: PKey<Public>) -> Result<Self, CryptoError> {
        let kind = kind_of(&key)?;
        let spki = key.public_key_to_der()?;
        Ok(Self { key, kind, spki })
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
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
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
        let algorithm = HASHES
            .iter()
            .filter(|hash| allowed.contains(hash))
            .flat_map(|&hash| {
                [
                    algorithm(self.kind, false, hash),
                    algorithm(self.kind, true, hash),
                ]
            })
            .flatten()
            .find(|algorithm| algorithm.is(identifier))
            .ok_or(CryptoError::Signature)?;
        self.verify(algorithm, signature, signed)
    }

    fn verify(
        &self,
        algorithm: Algorithm,
        signature: &[u8],
        signed: &[u8],
    ) -> Result<(), CryptoError> {
        let good = match algorithm.digest() {
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
    let Some((&length, rest)) = auth_data.split_first() else {
        return false;
    };
    rest.split_at_checked(usize::from(length))
        .is_some_and(|(identifier, _)| {
            HASHES
                .iter()
                .any(|&hash| Algorithm::RsaPss(hash).is(identifier))
        })
}

fn kind_of<T: HasParams + HasPublic>(key: &PKeyRef<T>) -> Result<KeyKind, CryptoError> {
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
            let key = key.ec_key()?;
            let mut context = BigNumContext::new()?;
            if !key.public_key().is_on_curve(key.group(), &mut context)? {
                return Err(CryptoError::UnsupportedKey);
            }
            match key.group().curve_name() {
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

/// RFC 4754, 7: each curve has its hash.
fn legacy_ecdsa(kind: KeyKind) -> Option<(AuthMethod, MessageDigest, usize)> {
    match kind {
        KeyKind::EcdsaP256 => Some((AuthMethod::ECDSA_256, MessageDigest::sha256(), 32)),
        KeyKind::EcdsaP384 => Some((AuthMethod::ECDSA_384, MessageDigest::sha384(), 48)),
        KeyKind::EcdsaP521 => Some((AuthMethod::ECDSA_521, MessageDigest::sha512(), 66)),
        KeyKind::Rsa | KeyKind::Ed25519 => None,
    }
}

/// A signature algorithm with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    RsaPkcs1(HashAlgorithm),
    RsaPss(HashAlgorithm),
    Ecdsa(HashAlgorithm),
    Ed25519,
}

fn algorithm(kind: KeyKind, pss: bool, hash: HashAlgorithm) -> Option<Algorithm> {
    let sha2 = hash_byte(hash).is_some();
    match kind {
        KeyKind::Rsa if sha2 && pss => Some(Algorithm::RsaPss(hash)),
        KeyKind::Rsa if sha2 => Some(Algorithm::RsaPkcs1(hash)),
        KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::EcdsaP521 if sha2 && !pss => {
            Some(Algorithm::Ecdsa(hash))
        }
        KeyKind::Ed25519 if hash == HashAlgorithm::IDENTITY && !pss => Some(Algorithm::Ed25519),
        KeyKind::Rsa
        | KeyKind::EcdsaP256
        | KeyKind::EcdsaP384
        | KeyKind::EcdsaP521
        | KeyKind::Ed25519 => None,
    }
}

/// 1, 2 and 3 for the three members of SHA-2, as their object identifiers count them.
fn hash_byte(hash: HashAlgorithm) -> Option<u8> {
    match hash {
        HashAlgorithm::SHA2_256 => Some(1),
        HashAlgorithm::SHA2_384 => Some(2),
        HashAlgorithm::SHA2_512 => Some(3),
        _ => None,
    }
}

impl Algorithm {
    fn digest(self) -> Option<MessageDigest> {
        match self {
            Self::Ed25519 => None,
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) | Self::Ecdsa(hash) => match hash {
                HashAlgorithm::SHA2_256 => Some(MessageDigest::sha256()),
                HashAlgorithm::SHA2_384 => Some(MessageDigest::sha384()),
                _ => Some(MessageDigest::sha512()),
            },
        }
    }

    /// The DER of the AlgorithmIdentifier, RFC 7427, appendix A.
    fn identifier(self) -> Vec<u8> {
        match self {
            Self::RsaPkcs1(hash) => {
                // sha256WithRSAEncryption is 11, the next two follow; parameters are NULL.
                let last = 10 + hash_byte(hash).unwrap_or(0);
                let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
                der(0x30, &[der(0x06, &oid), NULL.to_vec()].concat())
            }
            Self::Ecdsa(hash) => {
                let last = 1 + hash_byte(hash).unwrap_or(0);
                let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last];
                der(0x30, &der(0x06, &oid))
            }
            Self::Ed25519 => der(0x30, &der(0x06, &[0x2b, 0x65, 0x70])),
            Self::RsaPss(hash) => pss_identifier(hash, false),
        }
    }

    /// Whether these bytes name this algorithm, in any of the forms that are in use.
    fn is(self, identifier: &[u8]) -> bool {
        match self {
            Self::RsaPss(hash) => {
                identifier == pss_identifier(hash, false)
                    || identifier == pss_identifier(hash, true)
            }
            Self::RsaPkcs1(_) | Self::Ecdsa(_) | Self::Ed25519 => identifier == self.identifier(),
        }
    }
}

/// RSASSA-PSS with one hash for both uses and a salt as long as it; `trailer` writes out the default
/// trailer field too, as some do.
fn pss_identifier(hash: HashAlgorithm, trailer: bool) -> Vec<u8> {
    let number = hash_byte(hash).unwrap_or(0);
    let salt_len = [0, 32, 48, 64]
        .get(usize::from(number))
        .copied()
        .unwrap_or(0);
    let hash_oid = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, number];
    let hash_id = der(0x30, &[der(0x06, &hash_oid), NULL.to_vec()].concat());
    let mgf1 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    let mgf1 = der(0x30, &[der(0x06, &mgf1), hash_id.clone()].concat());
    let mut parameters = [
        der(0xa0, &hash_id),
        der(0xa1, &mgf1),
        der(0xa2, &der(0x02, &[salt_len])),
    ]
    .concat();
    if trailer {
        parameters.extend(der(0xa3, &der(0x02, &[1])));
    }
    let pss = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    der(0x30, &[der(0x06, &pss), der(0x30, &parameters)].concat())
}

/// A DER value of fewer than 128 bytes.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, content.len() as u8];
    out.extend_from_slice(content);
    out
}

const NULL: [u8; 2] = [5, 0];
/// The hashes of `Algorithm`.
const HASHES: [HashAlgorithm; 4] = [
    HashAlgorithm::SHA2_256,
    HashAlgorithm::SHA2_384,
    HashAlgorithm::SHA2_512,
    HashAlgorithm::IDENTITY,
];
const RSA_BITS_MIN: i32 = 2048;
/// A verification with more takes a shard too long.
const RSA_BITS_MAX: i32 = 8192;
