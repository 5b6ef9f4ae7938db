//! An authority in memory that certifies hosts by the thousand, for load tests: no folder, no index, no
//! password. Its certificates have the same extensions as those of `ikectl ca`.

use boring::x509::X509;
use zeroize::Zeroizing;

use super::CaError;
use super::certificate::{self, Issuer, Subject};
use super::key::Key;
use super::request::Usage;

/// The kind of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairKind {
    /// ECDSA on P-256.
    EcdsaP256,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// A key pair.
#[derive(Clone, Debug)]
pub struct Pair(Key);

impl Pair {
    /// Makes a new one.
    pub fn generate(kind: PairKind) -> Result<Self, CaError> {
        Ok(Self(match kind {
            PairKind::EcdsaP256 => Key::p256()?,
            PairKind::Rsa2048 => Key::rsa(2048)?,
        }))
    }

    /// Reads a private key in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CaError> {
        Ok(Self(Key::from_pem(pem, None)?))
    }

    /// The private half, PKCS #8 in PEM.
    pub fn private_pem(&self) -> Result<Zeroizing<Vec<u8>>, CaError> {
        self.0.plain_pem()
    }

    /// The public half, SubjectPublicKeyInfo in PEM.
    pub fn public_pem(&self) -> Result<Vec<u8>, CaError> {
        self.0.public_pem()
    }
}

/// The authority.
#[derive(Clone, Debug)]
pub struct Mint {
    pair: Pair,
    certificate: X509,
}

impl Mint {
    /// A new one with this key. `now` is in seconds since 1970.
    pub fn new(pair: Pair, now: i64) -> Result<Self, CaError> {
        let certificate = certificate::of_authority(&pair.0, "load test", now)?;
        Ok(Self { pair, certificate })
    }

    /// One that was written to files: its key and its certificate.
    pub fn from_pem(pair: Pair, pem: &[u8]) -> Result<Self, CaError> {
        let certificate = X509::from_pem(pem)?;
        if !certificate.public_key()?.public_eq(pair.0.pkey()) {
            return Err(CaError::Unpaired("ca".to_owned()));
        }
        Ok(Self { pair, certificate })
    }

    /// Its certificate in PEM.
    pub fn certificate_pem(&self) -> Result<Vec<u8>, CaError> {
        Ok(self.certificate.to_pem()?)
    }

    /// A certificate in PEM for a host with this name and this key, good for either end. Two with one
    /// `serial` must not be shown to one peer.
    pub fn certify(
        &self,
        pair: &Pair,
        host: &str,
        serial: u64,
        now: i64,
    ) -> Result<Vec<u8>, CaError> {
        let issuer = Issuer {
            certificate: &self.certificate,
            key: &self.pair.0,
        };
        let subject = Subject {
            key: &pair.0,
            name: host,
            host,
            usage: Usage::Any,
        };
        let certificate = certificate::of_host(issuer, subject, &serial.to_be_bytes(), now)?;
        Ok(certificate.to_pem()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::x509::{Certificate, TrustStore};

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn hosts_are_certified_and_an_authority_comes_back_from_its_files() {
        for kind in [PairKind::EcdsaP256, PairKind::Rsa2048] {
            let mint = Mint::new(Pair::generate(kind).unwrap(), NOW).unwrap();
            let pem = mint.certificate_pem().unwrap();
            let key = mint.pair.private_pem().unwrap();
            let again = Mint::from_pem(Pair::from_pem(&key).unwrap(), &pem).unwrap();
            let host = Pair::generate(kind).unwrap();
            let one = again.certify(&host, "one.example", 7, NOW).unwrap();
            let one = Certificate::all_from_pem(&one).unwrap().remove(0);
            let public = crate::crypto::sign::PublicKey::from_pem(&host.public_pem().unwrap());
            assert!(one.public_key().unwrap() == public.unwrap());
            let roots = Certificate::all_from_pem(&pem).unwrap();
            let trust = TrustStore::new(&roots, &[], false).unwrap();
            assert!(trust.verify(&one, &[], NOW).is_ok());
        }
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let pair = || Pair::generate(PairKind::EcdsaP256).unwrap();
        let pem = Mint::new(pair(), NOW).unwrap().certificate_pem().unwrap();
        assert!(matches!(
            Mint::from_pem(pair(), &pem),
            Err(CaError::Unpaired(_))
        ));
    }
}
