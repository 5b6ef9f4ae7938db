//! Traps: the flows of our active policies while they have no Child SA. Packets for them do not
//! leave in the clear; the kernel holds them back and asks for a Child SA.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::context::Context;
use super::exchange::sa_init_initiator::unspecified;
use super::narrow;
use crate::kernel::{KernelRequest, SelectorPair, Trap};
use crate::policy::{Flow, IpNet, Policy, Selection};

/// The traps of one shard.
#[derive(Debug, Default)]
pub struct Traps {
    /// What the kernel was told last.
    set: Vec<Trap>,
    /// When each policy last began because of one.
    begun: BTreeMap<u32, Instant>,
}

impl Traps {
    /// Whether the configuration still has this trap.
    pub fn holds(&self, trap: &Trap) -> bool {
        self.set.contains(trap)
    }

    /// Whether a policy may begin an IKE SA because a packet hit its trap; a peer that refuses is
    /// not asked again at once, however many flows lead to it.
    pub fn may_begin(&mut self, now: Instant, policy: u32) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        if self.begun.get(&policy).is_some_and(recent) {
            return false;
        }
        self.begun.insert(policy, now);
        true
    }
}

/// Tells the kernel which traps this shard wants now, if they are not those of the last time.
pub fn refresh(cx: &mut Context) {
    let wanted = if cx.active && cx.coupled {
        let policies = cx.own_active();
        policies
            .iter()
            .flat_map(|policy| of_policy(policy))
            .collect()
    } else {
        Vec::new()
    };
    set(cx, wanted);
}

/// Takes all traps away.
pub fn clear(cx: &mut Context) {
    set(cx, Vec::new());
}

fn set(cx: &mut Context, wanted: Vec<Trap>) {
    if cx.traps.set != wanted {
        cx.traps.set.clone_from(&wanted);
        cx.traps.begun.clear();
        cx.out
            .kernel
            .push_back(KernelRequest::SetTraps { traps: wanted });
    }
}

/// A policy whose peer is not known, or not alone, has no traps: there is nobody to ask.
fn of_policy(policy: &Policy) -> Vec<Trap> {
    let peer = policy.peer.filter(IpNet::is_host).map(|net| net.addr);
    let Some(remote) = peer.filter(|_| policy.selection != Selection::Skip) else {
        return Vec::new();
    };
    let local = policy.local.filter(IpNet::is_host);
    let local = local.map_or_else(|| unspecified(remote), |net| net.addr);
    let trap = |pair| Trap {
        policy: policy.index,
        pair,
        protocol: policy.protocol,
        transport: policy.transport,
        local,
        remote,
    };
    let mut pairs = Vec::new();
    let all = policy.flows.iter().flat_map(|flow| pairs_of(policy, flow));
    for pair in all {
        // In transport mode only what is translated already has the addresses of an SA.
        let unusable = pair.outward && policy.transport;
        if !unusable && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs.into_iter().map(trap).collect()
}

/// The selectors of a flow whose addresses are known before there is an IKE SA, and those that its
/// packets have before source NAT. None that take in the neighbour discovery of IPv6: without it no
/// packet would reach the peer either. What an XFRM interface sends goes nowhere else.
pub fn pairs_of(policy: &Policy, flow: &Flow) -> impl Iterator<Item = SelectorPair> + use<> {
    let if_id = policy.if_id;
    let (from, to) = (flow.from.net.network(), flow.to.net.network());
    let fixed = !flow.from.dynamic && !flow.to.dynamic && from.is_ipv4() == to.is_ipv4();
    let multicast = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    let apart = if_id.is_some() || !to.contains(multicast);
    let pair = (fixed && apart).then_some(SelectorPair {
        protocol: flow.protocol,
        local: from,
        local_port: flow.from.port,
        remote: to,
        remote_port: flow.to.port,
        outward: false,
        if_id,
    });
    let before = pair.and_then(|pair| narrow::before_nat(flow, pair));
    pair.into_iter().chain(before)
}

/// Between two IKE SAs that one policy begins because of its traps.
const PAUSE: Duration = Duration::from_secs(10);
