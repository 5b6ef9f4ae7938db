//! Private keys: made, read, and written in PEM.

use std::fmt;

use boring::ec::{EcGroup, EcKey};
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::pkey::{Id, PKey, PKeyRef, Private};
use boring::rsa::Rsa;
use boring::sign::Signer;
use der::pem::{LineEnding, encode_string};
use zeroize::Zeroizing;

use super::CaError;
use super::request::{KeyKind, Secret};
use crate::sys::pkcs;

/// How often PBKDF2 is run over an authority's password: some tenths of a second.
const ROUNDS: i32 = 600_000;

const RSA_BITS: u32 = 3072;

/// A private key that can sign certificates.
#[derive(Clone)]
pub(super) struct Key(PKey<Private>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Makes a new one.
    pub(super) fn generate(kind: KeyKind) -> Result<Self, CaError> {
        match kind {
            KeyKind::EcdsaP256 => Self::p256(),
            KeyKind::Rsa => Self::rsa(RSA_BITS),
        }
    }

    /// A new one for ECDSA on P-256.
    pub(super) fn p256() -> Result<Self, CaError> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        Ok(Self(PKey::from_ec_key(EcKey::generate(&group)?)?))
    }

    /// A new one for RSA with so many bits.
    pub(super) fn rsa(bits: u32) -> Result<Self, CaError> {
        Ok(Self(PKey::from_rsa(Rsa::generate(bits)?)?))
    }

    /// Reads a key in PEM: PKCS #8, PKCS #1 or SEC 1, and with a password also if it is encrypted.
    /// Without one, encrypted keys are refused.
    pub(super) fn from_pem(pem: &[u8], password: Option<&Secret>) -> Result<Self, CaError> {
        let password = password.map_or("", Secret::reveal).as_bytes();
        let key = PKey::private_key_from_pem_passphrase(pem, password);
        let key = key.map_err(|_| CaError::Key)?;
        match key.id() {
            Id::RSA | Id::EC => Ok(Self(key)),
            _ => Err(CaError::Key),
        }
    }

    pub(super) fn pkey(&self) -> &PKeyRef<Private> {
        &self.0
    }

    pub(super) fn is_rsa(&self) -> bool {
        self.0.id() == Id::RSA
    }

    /// PKCS #8 without encryption.
    pub(super) fn plain_pem(&self) -> Result<Zeroizing<Vec<u8>>, CaError> {
        Ok(Zeroizing::new(self.0.private_key_to_pem_pkcs8()?))
    }

    /// PKCS #8, encrypted with AES-256 under a key from the password.
    pub(super) fn sealed_pem(&self, password: &Secret) -> Result<Vec<u8>, CaError> {
        let mut salt = [0; 16];
        boring::rand::rand_bytes(&mut salt)?;
        let sealed = pkcs::seal_key(&self.0, password.reveal().as_bytes(), &salt, ROUNDS);
        pem(
            "ENCRYPTED PRIVATE KEY",
            &sealed.map_err(|_| CaError::Crypto)?,
        )
    }

    /// The public half.
    pub(super) fn public_pem(&self) -> Result<Vec<u8>, CaError> {
        Ok(self.0.public_key_to_pem()?)
    }

    /// Signs with SHA-256; RSA as PKCS #1 v1.5 does.
    pub(super) fn sign(&self, what: &[u8]) -> Result<Vec<u8>, CaError> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.0)?;
        Ok(signer.sign_oneshot_to_vec(what)?)
    }
}

/// DER in PEM's armour.
pub(super) fn pem(label: &'static str, der: &[u8]) -> Result<Vec<u8>, CaError> {
    let text = encode_string(label, LineEnding::LF, der);
    text.map(String::into_bytes).map_err(|_| CaError::Crypto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_keys_open_with_their_password_only() {
        let key = Key::generate(KeyKind::EcdsaP256).unwrap();
        let secret = |words: &str| Secret::new(words.to_owned());
        let pem = key.sealed_pem(&secret("right")).unwrap();
        assert!(pem.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let again = Key::from_pem(&pem, Some(&secret("right"))).unwrap();
        assert!(again.pkey().public_eq(key.pkey()));
        assert!(Key::from_pem(&pem, Some(&secret("wrong"))).is_err());
        assert!(Key::from_pem(&pem, None).is_err());
    }

    #[test]
    fn plain_keys_need_no_password() {
        for kind in [KeyKind::EcdsaP256, KeyKind::Rsa] {
            let key = Key::generate(kind).unwrap();
            let again = Key::from_pem(&key.plain_pem().unwrap(), None).unwrap();
            assert!(again.pkey().public_eq(key.pkey()));
            assert_eq!(again.is_rsa(), kind == KeyKind::Rsa);
        }
    }

    #[test]
    fn what_signs_no_certificates_is_refused() {
        let ed25519 = PKey::generate(Id::ED25519).unwrap();
        let pem = ed25519.private_key_to_pem_pkcs8().unwrap();
        assert!(matches!(Key::from_pem(&pem, None), Err(CaError::Key)));
        assert!(matches!(Key::from_pem(b"no key", None), Err(CaError::Key)));
    }
}
