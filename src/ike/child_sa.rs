//! Child SAs as an IKE SA holds them: names, transforms and the way into the kernel.

use std::time::Duration;

use super::context::Context;
use super::ike_sa::IkeSa;
use super::negotiate::{self, Chosen};
use super::narrow::Narrowed;
use crate::crypto::Rng;
use crate::crypto::keymat::ChildKeys;
use crate::kernel::{ChildInstall, ChildRemove, Encap, KernelRequest, RequestId};
use crate::policy::Policy;
use crate::wire::registry::{EncrId, IntegId};
use crate::wire::spi::EspSpi;
use crate::wire::{Transform, TransformId};

/// One Child SA: a pair of ESP (or AH) SAs and their policies.
#[derive(Clone, Debug)]
pub struct ChildSa {
    /// What names it in the kernel.
    pub names: ChildRemove,
    /// The agreed algorithms.
    pub transforms: Vec<Transform>,
    /// Whether the kernel has it.
    pub loaded: bool,
}

impl ChildSa {
    /// A Child SA on the paths of its IKE SA, not yet loaded.
    pub fn new(
        cx: &mut Context,
        sa: &IkeSa,
        chosen: &Chosen,
        inbound_spi: EspSpi,
        outbound_spi: EspSpi,
        narrowed: &Narrowed,
        transport: bool,
    ) -> Self {
        let names = ChildRemove {
            protocol: chosen.protocol,
            transport,
            local: sa.path.local.ip(),
            remote: sa.path.remote.ip(),
            inbound_spi,
            outbound_spi,
            reqid: cx.next_reqid(),
            selectors: narrowed.pairs.clone(),
        };
        Self { names, transforms: chosen.transforms.clone(), loaded: false }
    }

    /// The encryption and integrity algorithms in words of iked.conf(5).
    pub fn algorithms(&self) -> String {
        describe(&self.transforms)
    }
}

/// What the kernel must do to install `child`.
pub fn install_request(
    id: RequestId,
    rng: &mut Rng,
    policy: &Policy,
    sa: &IkeSa,
    child: &ChildSa,
    keys: ChildKeys,
) -> KernelRequest {
    let encap = sa.nat.encapsulate().then(|| Encap {
        local_port: sa.path.local.port(),
        remote_port: sa.path.remote.port(),
    });
    // Soft is 85 to 95 % of hard, drawn for each SA: no thundering herd of rekeys.
    let permille = 850 + rng.below(100);
    let hard = policy.child_lifetime;
    let bytes_hard = policy.child_lifetime_bytes;
    KernelRequest::AddChild {
        id,
        child: Box::new(ChildInstall {
            names: child.names.clone(),
            transforms: child.transforms.clone(),
            keys,
            encap,
            lifetime_soft: Duration::from_secs(hard.as_secs() / 1000 * permille),
            lifetime_hard: hard,
            bytes_soft: bytes_hard / 1000 * permille,
            bytes_hard,
            replay_window: REPLAY_WINDOW,
        }),
    }
}

/// `enc aes-128-gcm` or `enc aes-256 auth hmac-sha2-256`, as the log lines say it.
pub fn describe(transforms: &[Transform]) -> String {
    let mut text = String::new();
    for transform in transforms {
        match transform.id {
            TransformId::Encr(id) => {
                text.push_str("enc ");
                text.push_str(&encr_name(id, transform.key_length));
            }
            TransformId::Integ(id) => {
                text.push_str(" auth ");
                text.push_str(integ_name(id));
            }
            TransformId::Prf(_)
            | TransformId::Ke(_)
            | TransformId::Esn(_)
            | TransformId::Unknown(..) => {}
        }
    }
    text
}

/// The word of iked.conf(5) for a cipher.
pub fn encr_name(id: EncrId, key_length: Option<u16>) -> String {
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

/// The word of iked.conf(5) for an integrity algorithm.
pub fn integ_name(id: IntegId) -> &'static str {
    match id {
        IntegId::HMAC_MD5_96 => "hmac-md5",
        IntegId::HMAC_SHA1_96 => "hmac-sha1",
        IntegId::HMAC_SHA2_256_128 => "hmac-sha2-256",
        IntegId::HMAC_SHA2_384_192 => "hmac-sha2-384",
        IntegId::HMAC_SHA2_512_256 => "hmac-sha2-512",
        _ => "none",
    }
}

/// Whether these transforms need no separate integrity key.
pub fn is_aead(transforms: &[Transform]) -> bool {
    transforms.iter().any(|t| match t.id {
        TransformId::Encr(id) => negotiate::is_aead(id),
        _ => false,
    })
}

/// Anti-replay window in packets: room for reordering across the queues of a fast link.
const REPLAY_WINDOW: u32 = 128;
