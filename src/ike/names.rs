//! Algorithms in the words of iked.conf(5), as log lines and `ikectl` print them.

use std::fmt::{self, Display};

use crate::crypto::keymat::IkeSuite;
use crate::wire::registry::{EncrId, EsnId, IntegId, KeId, PrfId};
use crate::wire::{Transform, TransformId};

/// `enc aes-128-gcm` or `enc aes-256 auth hmac-sha2-256`, as the log lines say it.
pub fn child(transforms: &[Transform]) -> impl Display {
    fmt::from_fn(move |f| {
        for transform in transforms {
            match transform.id {
                TransformId::Encr(id) => write!(f, "enc {}", encr(id, transform.key_length))?,
                TransformId::Integ(id) => write!(f, " auth {}", integ(id))?,
                TransformId::Ke(id) => write!(f, " group {}", ke(id))?,
                TransformId::Esn(EsnId::ESN) => f.write_str(" esn")?,
                TransformId::Prf(_) | TransformId::Esn(_) | TransformId::Unknown(..) => {}
            }
        }
        Ok(())
    })
}

/// `enc aes-128-gcm group curve25519 prf hmac-sha2-256`.
pub fn suite(suite: &IkeSuite) -> impl Display {
    fmt::from_fn(move |f| {
        write!(f, "enc {}", encr(suite.encr.id(), suite.key_length))?;
        if let Some(id) = suite.integ {
            write!(f, " auth {}", integ(id.id()))?;
        }
        write!(f, " group {} prf {}", ke(suite.ke), prf(suite.prf.id()))
    })
}

/// A cipher.
fn encr(id: EncrId, key_length: Option<u16>) -> impl Display {
    let bits = key_length.unwrap_or(0);
    fmt::from_fn(move |f| match id {
        EncrId::DES3 => f.write_str("3des"),
        EncrId::CAST => f.write_str("cast"),
        EncrId::BLOWFISH => f.write_str("blowfish"),
        EncrId::NULL => f.write_str("null"),
        EncrId::AES_CBC => write!(f, "aes-{bits}"),
        EncrId::AES_CTR => write!(f, "aes-{bits}-ctr"),
        EncrId::AES_GCM_8 => write!(f, "aes-{bits}-gcm-8"),
        EncrId::AES_GCM_12 => write!(f, "aes-{bits}-gcm-12"),
        EncrId::AES_GCM_16 => write!(f, "aes-{bits}-gcm"),
        EncrId::AES_GMAC => write!(f, "aes-{bits}-gmac"),
        EncrId::CHACHA20_POLY1305 => f.write_str("chacha20-poly1305"),
        other => other.fmt(f),
    })
}

/// An integrity algorithm.
fn integ(id: IntegId) -> &'static str {
    match id {
        IntegId::HMAC_MD5_96 => "hmac-md5",
        IntegId::HMAC_SHA1_96 => "hmac-sha1",
        IntegId::HMAC_SHA2_256_128 => "hmac-sha2-256",
        IntegId::HMAC_SHA2_384_192 => "hmac-sha2-384",
        IntegId::HMAC_SHA2_512_256 => "hmac-sha2-512",
        _ => "none",
    }
}

/// A pseudorandom function.
fn prf(id: PrfId) -> &'static str {
    match id {
        PrfId::HMAC_MD5 => "hmac-md5",
        PrfId::HMAC_SHA1 => "hmac-sha1",
        PrfId::HMAC_SHA2_256 => "hmac-sha2-256",
        PrfId::HMAC_SHA2_384 => "hmac-sha2-384",
        PrfId::HMAC_SHA2_512 => "hmac-sha2-512",
        _ => "unknown",
    }
}

/// A key exchange method.
fn ke(id: KeId) -> impl Display {
    fmt::from_fn(move |f| {
        let name = match id {
            KeId::MODP_768 => "modp768",
            KeId::MODP_1024 => "modp1024",
            KeId::MODP_1536 => "modp1536",
            KeId::MODP_2048 => "modp2048",
            KeId::MODP_3072 => "modp3072",
            KeId::MODP_4096 => "modp4096",
            KeId::MODP_6144 => "modp6144",
            KeId::MODP_8192 => "modp8192",
            KeId::ECP_192 => "ecp192",
            KeId::ECP_224 => "ecp224",
            KeId::ECP_256 => "ecp256",
            KeId::ECP_384 => "ecp384",
            KeId::ECP_521 => "ecp521",
            KeId::BRAINPOOL_224 => "brainpool224",
            KeId::BRAINPOOL_256 => "brainpool256",
            KeId::BRAINPOOL_384 => "brainpool384",
            KeId::BRAINPOOL_512 => "brainpool512",
            KeId::CURVE25519 => "curve25519",
            KeId::SNTRUP761X25519 => "sntrup761x25519",
            other => return other.fmt(f),
        };
        f.write_str(name)
    })
}
