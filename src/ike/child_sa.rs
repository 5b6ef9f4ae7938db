//! Child SAs as an IKE SA holds them: names, transforms and the way into the kernel.

use std::time::Duration;

use super::context::Context;
use super::ike_sa::IkeSa;
use super::names;
use super::narrow::Narrowed;
use super::negotiate::Chosen;
use crate::crypto::Rng;
use crate::crypto::keymat::ChildKeys;
use crate::kernel::{ChildInstall, ChildRemove, Encap, KernelRequest, RequestId};
use crate::policy::Policy;
use crate::wire::Transform;
use crate::wire::spi::EspSpi;

/// One Child SA: a pair of ESP (or AH) SAs and their policies.
#[derive(Clone, Debug)]
pub struct ChildSa {
    /// What names it in the kernel.
    pub names: ChildRemove,
    /// The agreed algorithms.
    pub transforms: Vec<Transform>,
    /// Whether the kernel has it.
    pub loaded: bool,
    /// Whether its lifetime is over; the peer is told as soon as we may send a request.
    pub expired: bool,
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
        Self {
            names,
            transforms: chosen.transforms.clone(),
            loaded: false,
            expired: false,
        }
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
            lifetime_soft: Duration::from_secs(per_mille(hard.as_secs(), permille)),
            lifetime_hard: hard,
            bytes_soft: per_mille(bytes_hard, permille),
            bytes_hard,
            replay_window: REPLAY_WINDOW,
        }),
    }
}

/// A part of a limit, without rounding a small one to nothing.
fn per_mille(limit: u64, part: u64) -> u64 {
    let scaled = u128::from(limit) * u128::from(part) / 1000;
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Anti-replay window in packets: room for reordering across the queues of a fast link.
const REPLAY_WINDOW: u32 = 128;
