//! Transforms in the kernel's words: the names of its crypto API, ICV lengths, flags.
//! Which transforms are offered at all is `ike::negotiate`'s business, not this file's.

use crate::wire::registry::{EncrId, EsnId, IntegId, ProtocolId};
use crate::wire::{Transform, TransformId};

/// Encryption as XFRM wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encr {
    /// A plain cipher, `XFRMA_ALG_CRYPT`.
    Cipher {
        /// Name in the kernel's crypto API.
        name: &'static str,
    },
    /// An authenticated one, `XFRMA_ALG_AEAD`.
    Aead {
        /// Name in the kernel's crypto API.
        name: &'static str,
        /// Length of the ICV in bits.
        icv_bits: u32,
    },
}

/// Integrity as XFRM wants it, `XFRMA_ALG_AUTH_TRUNC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integ {
    /// Name in the kernel's crypto API.
    pub name: &'static str,
    /// Length of the truncated ICV in bits.
    pub icv_bits: u32,
}

/// What one Child SA's transforms mean to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms {
    /// Encryption; none for AH.
    pub encr: Option<Encr>,
    /// Integrity; none for authenticated encryption.
    pub integ: Option<Integ>,
    /// Extended sequence numbers.
    pub esn: bool,
}

impl Algorithms {
    /// Of an SA of IPComp: it neither encrypts nor proves.
    pub const NONE: Self = Self {
        encr: None,
        integ: None,
        esn: false,
    };

    /// Reads the chosen transforms of a Child SA of this protocol. `None` when the kernel has no
    /// word for one of them, or when they would leave packets without integrity protection.
    pub fn of(protocol: ProtocolId, transforms: &[Transform]) -> Option<Self> {
        let mut found = Self {
            encr: None,
            integ: None,
            esn: false,
        };
        for transform in transforms {
            match transform.id {
                TransformId::Encr(id) => found.encr = Some(encr(id)?),
                TransformId::Integ(IntegId::NONE) => {}
                TransformId::Integ(id) => found.integ = Some(integ(id)?),
                TransformId::Esn(id) => found.esn = id == EsnId::ESN,
                TransformId::Ke(_) | TransformId::Prf(_) => {}
                TransformId::Unknown(..) => return None,
            }
        }
        let sound = matches!(
            (protocol, found.encr, found.integ),
            (ProtocolId::ESP, Some(Encr::Aead { .. }), None)
                | (ProtocolId::ESP, Some(Encr::Cipher { .. }), Some(_))
                | (ProtocolId::AH, None, Some(_))
        );
        sound.then_some(found)
    }
}

fn encr(id: EncrId) -> Option<Encr> {
    let aead = |name, icv_bits| Some(Encr::Aead { name, icv_bits });
    let cipher = |name| Some(Encr::Cipher { name });
    match id {
        EncrId::DES3 => cipher("cbc(des3_ede)"),
        EncrId::CAST => cipher("cbc(cast5)"),
        EncrId::BLOWFISH => cipher("cbc(blowfish)"),
        EncrId::NULL => cipher("ecb(cipher_null)"),
        EncrId::AES_CBC => cipher("cbc(aes)"),
        EncrId::AES_CTR => cipher("rfc3686(ctr(aes))"),
        EncrId::AES_GCM_8 => aead("rfc4106(gcm(aes))", 64),
        EncrId::AES_GCM_12 => aead("rfc4106(gcm(aes))", 96),
        EncrId::AES_GCM_16 => aead("rfc4106(gcm(aes))", 128),
        EncrId::AES_GMAC => aead("rfc4543(gcm(aes))", 128),
        EncrId::CHACHA20_POLY1305 => aead("rfc7539esp(chacha20,poly1305)", 128),
        _ => None,
    }
}

fn integ(id: IntegId) -> Option<Integ> {
    let (name, icv_bits) = match id {
        IntegId::HMAC_MD5_96 => ("hmac(md5)", 96),
        IntegId::HMAC_SHA1_96 => ("hmac(sha1)", 96),
        IntegId::HMAC_SHA2_256_128 => ("hmac(sha256)", 128),
        IntegId::HMAC_SHA2_384_192 => ("hmac(sha384)", 192),
        IntegId::HMAC_SHA2_512_256 => ("hmac(sha512)", 256),
        _ => return None,
    };
    Some(Integ { name, icv_bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(id: TransformId) -> Transform {
        Transform {
            id,
            key_length: None,
        }
    }

    #[test]
    fn encryption_without_integrity_is_refused() {
        let cbc = t(TransformId::Encr(EncrId::AES_CBC));
        let none = t(TransformId::Integ(IntegId::NONE));
        assert_eq!(Algorithms::of(ProtocolId::ESP, &[cbc]), None);
        assert_eq!(Algorithms::of(ProtocolId::ESP, &[cbc, none]), None);
        assert_eq!(Algorithms::of(ProtocolId::ESP, &[]), None);
        assert_eq!(Algorithms::of(ProtocolId::IKE, &[cbc]), None);
    }

    #[test]
    fn aead_takes_no_integrity_and_cbc_takes_one() {
        let gcm = t(TransformId::Encr(EncrId::AES_GCM_12));
        let cbc = t(TransformId::Encr(EncrId::AES_CBC));
        let sha = t(TransformId::Integ(IntegId::HMAC_SHA2_256_128));
        let esn = t(TransformId::Esn(EsnId::ESN));
        let found = Algorithms::of(ProtocolId::ESP, &[gcm, esn]).unwrap();
        assert_eq!(
            found.encr,
            Some(Encr::Aead {
                name: "rfc4106(gcm(aes))",
                icv_bits: 96
            })
        );
        assert!(found.esn);
        assert_eq!(Algorithms::of(ProtocolId::ESP, &[gcm, sha]), None);
        let found = Algorithms::of(ProtocolId::ESP, &[cbc, sha]).unwrap();
        assert_eq!(
            found.integ,
            Some(Integ {
                name: "hmac(sha256)",
                icv_bits: 128
            })
        );
        assert!(Algorithms::of(ProtocolId::AH, &[sha]).is_some());
    }
}
