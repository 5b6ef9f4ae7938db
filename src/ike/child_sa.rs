//! Child SAs as an IKE SA holds them: names, transforms and the way into the kernel.

use std::time::Duration;

use super::context::Context;
use super::ike_sa::IkeSa;
use super::negotiate::Chosen;
use super::names;
use super::narrow::Narrowed;
use crate::crypto::Rng;
use crate::crypto::keymat::ChildKeys;
use crate::kernel::{ChildInstall, ChildRemove, Encap, KernelRequest, RequestId};
use crate::policy::Policy;
use crate::wire::spi::EspSpi;
use crate::wire::Transform;

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
        names::child(&self.transforms)
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

/// Anti-replay window in packets: room for reordering across the queues of a fast link.
const REPLAY_WINDOW: u32 = 128;
