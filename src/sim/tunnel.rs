//! The two ends of a tunnel: policies that fit each other, and how its Child SAs are told from those
//! of others.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::dice::Dice;
use super::plan::{HostPlan, Taste, Tunnel};
use crate::kernel::SelectorPair;
use crate::policy::{
    Auth, CfgEntry, Flow, FlowEnd, Identity, IpNet, Policy, Ppk, Proposal, Round, Secret, Selection,
};
use crate::wire::registry::{CfgAttrType, EsnId, IdType, KeId, PrfId, ProtocolId};
use crate::wire::{Transform, TransformId};

impl Tunnel {
    /// Whether this host is one of its ends.
    pub const fn ends_at(&self, host: usize) -> bool {
        self.from == host || self.to == host
    }

    /// Whether these selectors are of this tunnel: its initiator's network is no other's.
    pub fn carries(&self, selectors: &[SelectorPair]) -> bool {
        let (net, pool) = (network(self.from), pool(self.from));
        selectors.iter().any(|pair| {
            let ends = [pair.local.addr, pair.remote.addr];
            ends.into_iter()
                .any(|end| net.contains(end) || pool.contains(end))
        })
    }
}

type End<'a> = (usize, &'a HostPlan);

/// The policies of both ends of one tunnel.
pub(super) fn pair(
    dice: &mut Dice,
    taste: &Taste,
    from: End<'_>,
    to: End<'_>,
    leased: bool,
) -> (Policy, Policy) {
    let sides = sides(dice, from.0, to.0, leased);
    let secret = Auth::Psk(Secret::new(format!("{SECRET}{}", from.0).into_bytes()));
    let name = |end: End<'_>| Identity {
        kind: IdType::FQDN,
        data: format!("{}.example", end.1.name).into_bytes(),
    };
    let make = |dice: &mut Dice, active: bool| {
        let (mine, theirs) = if active { (from, to) } else { (to, from) };
        let flow = |&(a, b): &(FlowEnd, FlowEnd)| {
            let (from, to) = if active { (a, b) } else { (b, a) };
            Flow {
                protocol: 0,
                from,
                to,
                pre_nat: None,
            }
        };
        let mutual = taste.mutual && !leased && from.1.nat.is_none();
        let known = active || mutual || theirs.1.nat.is_none() && dice.chance(500);
        let (ike_lifetime, child_lifetime) = lifetimes(dice, taste);
        let pfs = if active { taste.pfs.0 } else { taste.pfs.1 };
        Policy {
            index: 0,
            name: format!("{}-{}", mine.1.name, theirs.1.name),
            selection: Selection::Last,
            active: active || mutual,
            ipcomp: dice.chance(taste.ipcomp),
            transport: false,
            natt: false,
            childless: dice.chance(200),
            protocol: ProtocolId::ESP,
            family: None,
            flows: sides.iter().map(flow).collect(),
            local: (active || mutual).then(|| IpNet::host(mine.1.address)),
            peer: known.then(|| IpNet::host(theirs.1.address)),
            ike_proposals: vec![ike_proposal(dice, taste, active)],
            child_proposals: vec![esp_proposal(taste, pfs)],
            srcid: name(mine),
            dstid: Some(name(theirs)),
            ike_lifetime,
            child_lifetime,
            child_lifetime_bytes: 0,
            auth: secret.clone(),
            then: Vec::new(),
            ppks: Vec::new(),
            config: Vec::new(),
            domains: Vec::new(),
            request: Vec::new(),
            iface: None,
            if_id: None,
            offload: None,
            tag: None,
            tap: None,
        }
    };
    let (mut initiator, mut responder) = (make(dice, true), make(dice, false));
    if leased {
        initiator.request = vec![(CfgAttrType::INTERNAL_IP4_ADDRESS, None)];
        responder.config = vec![addresses(from.0)];
    }
    (initiator, responder)
}

/// What a host leases.
fn addresses(from: usize) -> CfgEntry {
    CfgEntry {
        attribute: CfgAttrType::INTERNAL_IP4_ADDRESS,
        value: pool(from),
        is_pool: true,
    }
}

/// Sometimes a second authentication, by a secret of its own; both ends say the same.
pub(super) fn rounds(dice: &mut Dice, initiator: &mut Policy, responder: &mut Policy) {
    if !initiator.ppks.is_empty() || !dice.chance(TWICE) {
        return;
    }
    for policy in [initiator, responder] {
        policy.then.push(Round {
            srcid: policy.srcid.clone(),
            dstid: policy.dstid.clone(),
            auth: Auth::Psk(Secret::new(format!("{SECRET} again").into_bytes())),
        });
    }
}

/// The PPKs of both ends: none, one that both may or must have, or one of each that the other lacks.
pub(super) fn ppks(dice: &mut Dice) -> (Vec<Ppk>, Vec<Ppk>) {
    let ppk = |id: &str, required| Ppk {
        id: id.as_bytes().to_vec(),
        secret: Secret::new(format!("{SECRET}{id}").into_bytes()),
        required,
    };
    let (ours, theirs, required) = match dice.below(6) {
        0 => ("shared", "shared", true),
        1 => ("shared", "shared", false),
        2 => ("ours", "theirs", false),
        _ => return (Vec::new(), Vec::new()),
    };
    (vec![ppk(ours, required)], vec![ppk(theirs, required)])
}

/// Of the IKE SA and of its Child SAs.
fn lifetimes(dice: &mut Dice, taste: &Taste) -> (Duration, Duration) {
    if taste.hasty {
        (dice.seconds(60, 300), dice.seconds(30, 120))
    } else {
        (dice.seconds(400, 900), dice.seconds(100, 300))
    }
}

/// The networks of each flow: the initiator's, the responder's.
fn sides(dice: &mut Dice, from: usize, to: usize, leased: bool) -> Vec<(FlowEnd, FlowEnd)> {
    let octet = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    let end = |net, dynamic| FlowEnd {
        net,
        dynamic,
        port: None,
    };
    let net = |a, b| IpNet {
        addr: IpAddr::V4(Ipv4Addr::new(10, a, b, 0)),
        len: 24,
    };
    let flows = u8::try_from(dice.between(1, 3)).unwrap_or(1);
    let sides = (0..flows).map(|number| {
        let ours = if leased {
            end(IpNet::ANY_V4, true)
        } else {
            end(net(octet(from), number), false)
        };
        (ours, end(net(200 + octet(to), number), false))
    });
    sides.collect()
}

/// All networks behind an initiator.
fn network(host: usize) -> IpNet {
    let octet = u8::try_from(host).unwrap_or(u8::MAX);
    IpNet {
        addr: IpAddr::V4(Ipv4Addr::new(10, octet, 0, 0)),
        len: 16,
    }
}

/// The pool that it gets an address from.
fn pool(host: usize) -> IpNet {
    let octet = u8::try_from(host).unwrap_or(u8::MAX);
    IpNet {
        addr: IpAddr::V4(Ipv4Addr::new(10, 90, octet, 0)),
        len: 25,
    }
}

/// Initiators may prefer another method than responders: then INVALID_KE_PAYLOAD is met.
fn ike_proposal(dice: &mut Dice, taste: &Taste, active: bool) -> Proposal {
    let mut methods = taste.methods.clone();
    if active && dice.chance(300) {
        methods.reverse();
    }
    let mut transforms = taste.ike.clone();
    transforms.push(Transform::new(TransformId::Prf(PrfId::HMAC_SHA2_256), None));
    let methods = methods.into_iter().map(TransformId::Ke);
    transforms.extend(methods.map(|id| Transform::new(id, None)));
    Proposal {
        protocol: ProtocolId::IKE,
        transforms,
    }
}

fn esp_proposal(taste: &Taste, pfs: bool) -> Proposal {
    let mut transforms = taste.esp.clone();
    if pfs {
        let methods = taste.methods.iter().map(|&id| TransformId::Ke(id));
        transforms.extend(methods.map(|id| Transform::new(id, None)));
    }
    // Where only one side wants key exchange, it can do without.
    if pfs && !(taste.pfs.0 && taste.pfs.1) {
        transforms.push(Transform::new(TransformId::Ke(KeId::NONE), None));
    }
    transforms.push(Transform::new(TransformId::Esn(EsnId::NO_ESN), None));
    Proposal {
        protocol: ProtocolId::ESP,
        transforms,
    }
}

/// The beginning of every pre-shared key; no log line may hold it.
pub const SECRET: &str = "the horse of seed ";
/// Tunnels in a thousand, of those without a PPK, whose initiators authenticate twice.
const TWICE: u64 = 300;
