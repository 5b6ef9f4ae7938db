//! Algorithms in the words of iked.conf(5), as log lines and `ikectl` print them.

use crate::crypto::keymat::IkeSuite;
use crate::wire::registry::{EncrId, EsnId, IntegId, KeId, PrfId};
use crate::wire::{Transform, TransformId};

/// `enc aes-128-gcm` or `enc aes-256 auth hmac-sha2-256`, as the log lines say it.
pub fn child(transforms: &[Transform]) -> String {
    let mut text = String::new();
    for transform in transforms {
        match transform.id {
            TransformId::Encr(id) => {
                text.push_str("enc ");
                text.push_str(&encr(id, transform.key_length));
            }
            TransformId::Integ(id) => {
                text.push_str(" auth ");
                text.push_str(integ(id));
            }
            TransformId::Ke(id) => {
                text.push_str(" group ");
                text.push_str(&ke(id));
            }
            TransformId::Esn(EsnId::ESN) => text.push_str(" esn"),
            TransformId::Prf(_) | TransformId::Esn(_) | TransformId::Unknown(..) => {}
        }
    }
    text
}

/// `enc aes-128-gcm group curve25519 prf hmac-sha2-256`.
pub fn suite(suite: &IkeSuite) -> String {
    let auth = suite
        .integ
        .map(|id| format!(" auth {}", integ(id.id())))
        .unwrap_or_default();
    let encr = encr(suite.encr.id(), suite.key_length);
    format!(
        "enc {encr}{auth} group {} prf {}",
        ke(suite.ke),
        prf(suite.prf.id())
    )
}

/// A cipher.
pub fn encr(id: EncrId, key_length: Option<u16>) -> String {
    let bits = key_length.unwrap_or(0);
    match id {
        EncrId::DES3 => "3des".to_owned(),
        EncrId::CAST => "cast".to_owned(),
        EncrId::BLOWFISH => "blowfish".to_owned(),
        EncrId::NULL => "null".to_owned(),
        EncrId::AES_CBC => format!("aes-{bits}"),
        EncrId::AES_CTR => format!("aes-{bits}-ctr"),
        EncrId::AES_GCM_8 => format!("aes-{bits}-gcm-8"),
        EncrId::AES_GCM_12 => format!("aes-{bits}-gcm-12"),
        EncrId::AES_GCM_16 => format!("aes-{bits}-gcm"),
        EncrId::AES_GMAC => format!("aes-{bits}-gmac"),
        EncrId::CHACHA20_POLY1305 => "chacha20-poly1305".to_owned(),
        other => other.to_string(),
    }
}

/// An integrity algorithm.
pub fn integ(id: IntegId) -> &'static str {
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
pub fn prf(id: PrfId) -> &'static str {
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
pub fn ke(id: KeId) -> String {
    match id {
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
        other => return other.to_string(),
    }
    .to_owned()
}
