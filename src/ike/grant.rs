//! What a gateway's configuration payload gives us (RFC 7296, 2.19 and 3.15; RFC 8598).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::context::Context;
use super::ike_sa::IkeSa;
use super::lease;
use super::narrow::Dynamic;
use crate::kernel::{Grant, KernelRequest, RequestId};
use crate::policy::domain::{Anchor, Domain};
use crate::policy::{IpNet, Policy};
use crate::wire::registry::{CfgAttrType, CfgType};
use crate::wire::{CfgAttribute, Cp, Payload};

/// Takes what the CFG_REPLY of an IKE_AUTH response gives, and hands it to the kernel thread.
pub fn take(cx: &mut Context, sa: &mut IkeSa, payloads: &[Payload<'_>]) {
    let grant = read(&sa.policy, payloads);
    let address = |of: fn(&IpAddr) -> bool| {
        let mut addresses = grant.addresses.iter().map(|net| net.addr);
        addresses.find(of)
    };
    let assigned = Dynamic {
        v4: address(IpAddr::is_ipv4),
        v6: address(IpAddr::is_ipv6),
    };
    if grant.is_empty() {
        return;
    }
    sa.assigned = Some(Box::new(assigned));
    cx.info(format_args!("{}: granted {grant}", sa.tag()));
    let (id, grant) = (cx.next_request(), Box::new(grant));
    sa.grant = Some(id);
    cx.out.kernel.push_back(KernelRequest::Grant { id, grant });
}

/// The IKE SA that was granted it is gone, and no other takes its place.
pub fn give_back(cx: &mut Context, grant: Option<RequestId>) {
    if let Some(id) = grant {
        cx.out.kernel.push_back(KernelRequest::Return { id });
    }
}

/// What a CFG_REPLY gives us of what the policy asks for; the rest, and what has no sense, is
/// passed over.
pub fn read(policy: &Policy, payloads: &[Payload<'_>]) -> Grant {
    let mut grant = Grant {
        iface: policy.iface.clone(),
        ..Grant::default()
    };
    let kinds = lease::asked(policy);
    let asked = |kind| kinds.contains(&kind);
    let cps = payloads.iter().filter_map(|payload| {
        let Payload::Cp(cp) = payload else {
            return None;
        };
        (cp.kind == CfgType::REPLY).then_some(cp)
    });
    for cp in cps {
        for kind in ADDRESSES.into_iter().filter(|kind| asked(*kind)) {
            if grant
                .addresses
                .iter()
                .all(|net| net.is_ipv4() != is_v4(kind))
            {
                grant.addresses.extend(address(cp, kind));
            }
        }
        for attribute in cp.attributes.iter().filter(|a| asked(a.kind)) {
            if lease::is_dns(attribute.kind) && grant.name_servers.len() < ENTRIES_MAX {
                grant.name_servers.extend(ip(attribute.value));
            }
            if grant.subnets.len() < ENTRIES_MAX {
                grant.subnets.extend(subnet(attribute));
            }
        }
        if cp.attributes.iter().any(|a| lease::is_dns(a.kind)) {
            domains(cp, asked, &mut grant.domains);
        }
    }
    grant
}

/// Our address of one family, and how long the prefix of its network is.
fn address(cp: &Cp<'_>, kind: CfgAttrType) -> Option<IpNet> {
    let addr = lease::wanted(cp, kind).filter(|addr| addr.is_ipv4() == is_v4(kind))?;
    if addr.is_loopback() || addr.is_multicast() {
        return None;
    }
    let host = IpNet::host(addr);
    let value = |kind| {
        let attribute = cp.attributes.iter().find(|a| a.kind == kind);
        attribute.map(|a| a.value)
    };
    let len = if is_v4(kind) {
        value(CfgAttrType::INTERNAL_IP4_NETMASK).and_then(prefix_of)
    } else {
        value(kind).and_then(|value| value.get(16)).copied()
    };
    let len = len.filter(|len| (1..=host.len).contains(len));
    Some(len.map_or(host, |len| IpNet { addr, len }))
}

/// The network of an INTERNAL_IP4_SUBNET or INTERNAL_IP6_SUBNET.
fn subnet(attribute: &CfgAttribute<'_>) -> Option<IpNet> {
    let (addr, len) = match attribute.kind {
        CfgAttrType::INTERNAL_IP4_SUBNET => {
            let (addr, mask) = attribute.value.split_first_chunk::<4>()?;
            (IpAddr::from(*addr), prefix_of(mask)?)
        }
        CfgAttrType::INTERNAL_IP6_SUBNET => {
            let (addr, len) = attribute.value.split_first_chunk::<16>()?;
            let &[len] = len else { return None };
            (IpAddr::from(*addr), len)
        }
        _ => return None,
    };
    let net = IpNet { addr, len };
    (len <= IpNet::host(addr).len).then(|| net.network())
}

/// The prefix length of a netmask, if its ones come first.
fn prefix_of(mask: &[u8]) -> Option<u8> {
    let mask = u32::from_be_bytes(mask.try_into().ok()?);
    let ones = mask.leading_ones();
    (mask.count_ones() == ones).then_some(u8::try_from(ones).ok()?)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
    let v6 = <[u8; 16]>::try_from(value).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
    v4.or(v6).ok().filter(|address| !address.is_unspecified())
}

/// The domains that a CFG_REPLY with a name server names. What is no name and what is no trust
/// anchor is passed over (RFC 8598, 3.3 and 5).
fn domains(cp: &Cp<'_>, asked: impl Fn(CfgAttrType) -> bool, domains: &mut Vec<Domain>) {
    // An anchor is of the domain just before it, if that is one (RFC 8598, 4.2).
    let mut in_domain = false;
    for attribute in &cp.attributes {
        if attribute.kind == CfgAttrType::INTERNAL_DNS_DOMAIN {
            let domain = Domain::new(attribute.value).filter(|_| asked(attribute.kind));
            let domain = domain.filter(|_| domains.len() < ENTRIES_MAX);
            in_domain = domain.is_some();
            domains.extend(domain);
        } else if attribute.kind == CfgAttrType::INTERNAL_DNSSEC_TA && in_domain {
            let domain = domains.last_mut();
            let anchor = Anchor::decode(attribute.value).filter(|_| asked(attribute.kind));
            if let (Some(domain), Some(anchor)) = (domain, anchor) {
                domain.anchors.push(anchor);
            }
        } else {
            in_domain = false;
        }
    }
}

const fn is_v4(kind: CfgAttrType) -> bool {
    matches!(kind, CfgAttrType::INTERNAL_IP4_ADDRESS)
}

const ADDRESSES: [CfgAttrType; 2] = [
    CfgAttrType::INTERNAL_IP4_ADDRESS,
    CfgAttrType::INTERNAL_IP6_ADDRESS,
];
/// Name servers, networks and domains taken from one gateway, of each.
const ENTRIES_MAX: usize = 64;
