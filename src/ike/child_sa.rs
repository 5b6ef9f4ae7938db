//! Child SAs as an IKE SA holds them: what a peer asks and is granted, names, transforms and the
//! way into the kernel.

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::Context;
use super::error::Error;
use super::exchange::sa_init::status;
use super::ike_sa::IkeSa;
use super::ipcomp;
use super::names;
use super::narrow::{self, Narrowed, Sides};
use super::natt;
use super::negotiate::{self, Chosen, Rules};
use super::timer;
use crate::crypto::keymat::{self, ChildKeys};
use crate::crypto::{CryptoError, Prf, SecretBytes};
use crate::kernel::{ChildInstall, ChildRemove, Cpis, Encap, KernelRequest, Outer, RequestId};
use crate::policy::Policy;
use crate::wire::registry::{KeId, NotifyType, ProtocolId};
use crate::wire::spi::{Cpi, EspSpi};
use crate::wire::{Payload, Proposal, TrafficSelector, Transform, TransformId};

/// One Child SA: a pair of ESP (or AH) SAs and their policies.
#[derive(Clone, Debug)]
pub struct ChildSa {
    /// What names it in the kernel.
    pub names: ChildRemove,
    /// UDP encapsulation, if any.
    pub encap: Option<Encap>,
    /// The agreed algorithms.
    pub transforms: Vec<Transform>,
    /// The agreed selectors as they stood on the wire, ours and the peer's, where those of its
    /// policies do not say the same.
    pub stood: Option<Box<Sides>>,
    /// Whether the kernel has it.
    pub loaded: bool,
    /// What is to become of it.
    pub fate: Fate,
    /// Inbound SPI of the Child SA whose place it takes.
    pub replaces: Option<EspSpi>,
    /// Packets from the peer and to it, as the kernel counted them last: for DPD.
    pub packets: (u64, u64),
    /// What the kernel must still be given before we may send through it.
    pub outbound_waits: Option<Box<ChildInstall>>,
    /// Its keys, which no kernel has ever had, for one that may have them later.
    pub kept: Option<Box<Kept>>,
}

/// What is kept of a Child SA that was made while decoupled.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The keys ([`ChildKeys::joined`]).
    keys: SecretBytes,
    /// Since when it has lived.
    since: Instant,
}

/// What is to become of a Child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in use.
    Living,
    /// The peer has replaced it and will delete it.
    Replaced,
    /// We must tell the peer that it goes.
    Doomed,
}

/// How packets become those of a Child SA.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Transport mode (else tunnel).
    pub transport: bool,
    /// Compressed first.
    pub ipcomp: Option<Cpis>,
}

/// What a peer asks of a Child SA.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Its proposals.
    pub proposals: &'a [Proposal<'a>],
    /// Its own selectors.
    pub ts_i: &'a [TrafficSelector],
    /// Ours, as it wants them.
    pub ts_r: &'a [TrafficSelector],
    /// It wants transport mode.
    pub transport: bool,
    /// It wants IPComp, and takes what is compressed under this CPI.
    pub ipcomp: Option<Cpi>,
}

/// What it is granted: the payloads of the answer that concern the Child SA.
#[derive(Clone, Debug)]
pub struct Grant {
    number: u8,
    protocol: ProtocolId,
    spi: [u8; 4],
    transforms: Vec<Transform>,
    ts_i: Vec<TrafficSelector>,
    ts_r: Vec<TrafficSelector>,
    transport: bool,
    ipcomp: Option<[u8; 3]>,
    more: bool,
}

impl Grant {
    /// The notifications.
    pub fn notifications(&self) -> impl Iterator<Item = Payload<'_>> {
        let more = self.more;
        let more = more.then(|| status(NotifyType::ADDITIONAL_TS_POSSIBLE, &[]));
        mode(self.protocol, self.transport, self.ipcomp.as_ref()).chain(more)
    }

    /// The SA payload.
    pub fn sa(&self) -> Payload<'_> {
        Payload::Sa(
            [Proposal {
                number: self.number,
                protocol: self.protocol,
                spi: &self.spi,
                transforms: self.transforms.iter().copied().collect(),
            }]
            .into(),
        )
    }

    /// The TSi and TSr payloads.
    pub fn selectors(&self) -> [Payload<'static>; 2] {
        [
            Payload::TsI(self.ts_i.clone().into()),
            Payload::TsR(self.ts_r.clone().into()),
        ]
    }
}

impl ChildSa {
    /// A Child SA on the paths of its IKE SA, not yet loaded.
    pub fn new(
        sa: &IkeSa,
        chosen: &Chosen,
        inbound_spi: EspSpi,
        outbound_spi: EspSpi,
        reqid: u32,
        mut narrowed: Narrowed,
        mode: Mode,
    ) -> Self {
        // They stay for as long as the Child SA does.
        narrowed.pairs.shrink_to_fit();
        let stood = (narrowed.local, narrowed.remote);
        let stood = (stood != narrow::sides(&narrowed.pairs)).then(|| Box::new(stood));
        for pair in &mut narrowed.pairs {
            pair.if_id = sa.policy.if_id;
        }
        let Outer {
            local,
            remote,
            encap,
        } = outer(sa);
        let names = ChildRemove {
            protocol: chosen.protocol,
            transport: mode.transport,
            local,
            remote,
            inbound_spi,
            outbound_spi,
            reqid,
            ipcomp: mode.ipcomp,
            selectors: narrowed.pairs,
        };
        Self {
            names,
            encap,
            transforms: chosen.transforms.clone(),
            stood,
            loaded: false,
            fate: Fate::Living,
            replaces: None,
            packets: (0, 0),
            outbound_waits: None,
            kept: None,
        }
    }

    /// Keeps the keys of one that is not loaded for now, so that it can be.
    pub fn keep(mut self, keys: &ChildKeys, since: Instant) -> Self {
        let keys = keys.joined();
        self.kept = Some(Box::new(Kept { keys, since }));
        self
    }

    /// The agreed selectors as they stood on the wire: ours, the peer's. A rekey offers them again.
    pub fn selectors(&self) -> Sides {
        let stood = self.stood.as_deref().cloned();
        stood.unwrap_or_else(|| narrow::sides(&self.names.selectors))
    }

    /// Where its packets go.
    pub fn outer(&self) -> Outer {
        Outer {
            local: self.names.local,
            remote: self.names.remote,
            encap: self.encap,
        }
    }

    /// Notes that they go elsewhere from now on.
    pub fn shift(&mut self, to: Outer) {
        self.names = self.names.moved(to);
        self.encap = to.encap;
        if let Some(waiting) = &mut self.outbound_waits {
            waiting.names = waiting.names.moved(to);
            waiting.encap = to.encap;
        }
    }

    /// The encryption and integrity algorithms in words of iked.conf(5).
    pub fn algorithms(&self) -> impl std::fmt::Display {
        names::child(&self.transforms)
    }
}

/// The notifications about the mode, as they are asked for and granted. `ipcomp` is the data of
/// IPCOMP_SUPPORTED.
///
/// ESP_TFC_PADDING_NOT_SUPPORTED (RFC 7296, 1.3.1) is said where it is so: Linux cuts off what is
/// behind a packet by the length in its IP header, and in transport mode or behind IPComp there is
/// none (RFC 4303, 2.7).
pub fn mode(
    protocol: ProtocolId,
    transport: bool,
    ipcomp: Option<&[u8; 3]>,
) -> impl Iterator<Item = Payload<'_>> {
    let unpadded = protocol == ProtocolId::ESP && (transport || ipcomp.is_some());
    let unpadded = unpadded.then(|| status(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED, &[]));
    let ipcomp = ipcomp.map(|data| status(NotifyType::IPCOMP_SUPPORTED, data));
    let transport = transport.then(|| status(NotifyType::USE_TRANSPORT_MODE, &[]));
    ipcomp.into_iter().chain(transport).chain(unpadded)
}

/// Where packets of the Child SAs of this IKE SA go now.
pub fn outer(sa: &IkeSa) -> Outer {
    Outer {
        local: sa.path.local.ip(),
        remote: sa.path.remote.ip(),
        encap: sa.nat.encapsulate().then(|| Encap {
            local_port: sa.path.local.port(),
            remote_port: sa.path.remote.port(),
        }),
    }
}

/// Chooses what the peer may have of what it asks, by the policy of this IKE SA: the Child SA, with
/// an SPI of ours drawn, and the answer. `reqid`: of the Child SA that it replaces.
pub fn grant(
    cx: &mut Context,
    sa: &IkeSa,
    ask: Ask<'_>,
    rules: Rules,
    reqid: Option<u32>,
) -> Result<(ChildSa, Grant, Chosen), Error> {
    let policy = Arc::clone(&sa.policy);
    let Some(chosen) = choose(&policy, ask.proposals, rules) else {
        cx.stats.sa_proposals_negotiate_failures += 1;
        return Err(Error::NoProposal);
    };
    if let (Some(wanted), false) = (chosen.ke(), rules.ignore_ke)
        && rules.ke_sent != Some(wanted)
    {
        return Err(Error::InvalidKe(wanted));
    }
    let outbound_spi = outbound_spi(&chosen).ok_or(Error::NoProposal)?;
    let transport = ask.transport && policy.transport;
    let wanted = if transport {
        natt::as_packets_have_them(sa.nat, sa.path, ask.ts_r, ask.ts_i)
    } else {
        (ask.ts_r.to_vec(), ask.ts_i.to_vec())
    };
    let narrowed = narrow::narrow(&policy.flows, &wanted.0, &wanted.1, sa.dynamic());
    let narrowed = narrowed.ok_or(Error::TrafficSelectors)?;
    let ipcomp = ask.ipcomp.filter(|_| policy.ipcomp).and_then(|outbound| {
        let selectors = narrowed.local.iter().chain(&narrowed.remote);
        let inbound = ipcomp::draw(cx, sa, selectors)?;
        ipcomp::pair(sa, inbound, outbound)
    });
    let inbound_spi = cx.draw_esp_spi();
    let reqid = reqid.unwrap_or_else(|| cx.next_reqid());
    let grant = Grant {
        number: chosen.number,
        protocol: chosen.protocol,
        spi: inbound_spi.to_bytes(),
        transforms: chosen.transforms.clone(),
        ts_i: narrowed.remote.clone(),
        ts_r: narrowed.local.clone(),
        transport,
        ipcomp: ipcomp.map(|cpis| ipcomp::data(cpis.inbound)),
        more: narrowed.more,
    };
    let mode = Mode { transport, ipcomp };
    let child = ChildSa::new(
        sa,
        &chosen,
        inbound_spi,
        outbound_spi,
        reqid,
        narrowed,
        mode,
    );
    Ok((child, grant, chosen))
}

/// A policy without key exchange in its Child SAs still grants one to a peer that insists, by a
/// method that its IKE SAs may use: Windows wants that in every rekey.
fn choose(policy: &Policy, proposals: &[Proposal<'_>], rules: Rules) -> Option<Chosen> {
    let strict = negotiate::choose(&policy.child_proposals, proposals, rules);
    if strict.is_some() || rules.ignore_ke {
        return strict;
    }
    let methods: Vec<Transform> = negotiate::methods(&policy.ike_proposals)
        .map(|id| Transform::new(TransformId::Ke(id), None))
        .collect();
    let mut generous = policy.child_proposals.clone();
    generous.retain(|proposal| {
        negotiate::methods(slice::from_ref(proposal)).all(|id| id == KeId::NONE)
    });
    for proposal in &mut generous {
        proposal.transforms.retain(|t| t.id.ke().is_none());
        proposal.transforms.extend(&methods);
    }
    negotiate::choose(&generous, proposals, rules)
}

/// The peer's SPI in its proposal.
pub fn outbound_spi(chosen: &Chosen) -> Option<EspSpi> {
    let spi = <[u8; 4]>::try_from(chosen.spi.as_slice()).ok()?;
    EspSpi::from_bytes(spi)
}

/// The keys of a Child SA from the nonces of its exchange and, where it has one, its own key
/// exchange (RFC 7296, 2.17).
pub fn derive_keys(
    prf: &dyn Prf,
    sk_d: &[u8],
    shared: Option<&[u8]>,
    nonces: (&[u8], &[u8]),
    transforms: &[Transform],
    we_are_exchange_initiator: bool,
) -> Result<ChildKeys, CryptoError> {
    let (encr_len, integ_len) =
        keymat::child_key_lengths(transforms).ok_or(CryptoError::KeyLength)?;
    let (ni, nr) = nonces;
    ChildKeys::derive(
        prf,
        sk_d,
        shared,
        ni,
        nr,
        encr_len,
        integ_len,
        we_are_exchange_initiator,
    )
}

/// What the kernel must know to install `child`.
pub fn install(
    cx: &mut Context,
    policy: &Policy,
    child: &ChildSa,
    keys: ChildKeys,
    grant: Option<RequestId>,
) -> ChildInstall {
    let replay_window = cx.config.settings.replay_window;
    let rng = &mut cx.rng;
    let hard = policy.child_lifetime;
    let soft = timer::soft_lifetime(hard, rng);
    let bytes_hard = policy.child_lifetime_bytes;
    ChildInstall {
        names: child.names.clone(),
        transforms: child.transforms.clone(),
        keys,
        encap: child.encap,
        lifetime_soft: Duration::from_secs(soft.as_secs()),
        lifetime_hard: hard,
        bytes_soft: timer::soft_bytes(bytes_hard, rng),
        bytes_hard,
        replay_window,
        mark: policy.mark(),
        if_id: policy.if_id,
        offload: policy.offload.clone(),
        receive_only: false,
        grant,
    }
}

/// What the kernel must know to install one whose keys were kept, which they are no longer: a kernel
/// that has had them has counted with them, and must not begin to count anew. Of its lifetimes the
/// rest is left, and never nothing.
pub fn install_kept(
    cx: &mut Context,
    policy: &Policy,
    child: &mut ChildSa,
    grant: Option<RequestId>,
    now: Instant,
) -> Option<ChildInstall> {
    let Kept { keys, since } = *child.kept.take()?;
    let (encr_len, _) = keymat::child_key_lengths(&child.transforms)?;
    let keys = ChildKeys::of_joined(&keys, encr_len)?;
    let mut install = install(cx, policy, child, keys, grant);
    let age = now.saturating_duration_since(since);
    for lifetime in [&mut install.lifetime_soft, &mut install.lifetime_hard] {
        if !lifetime.is_zero() {
            let left = lifetime.saturating_sub(age).as_secs();
            *lifetime = Duration::from_secs(left.max(1));
        }
    }
    Some(install)
}

/// Asks the kernel for it.
pub fn request_install(cx: &mut Context, install: ChildInstall) -> RequestId {
    let id = cx.next_request();
    cx.backlog.asked(id);
    let child = Box::new(install);
    cx.out
        .kernel
        .push_back(KernelRequest::AddChild { id, child });
    id
}
