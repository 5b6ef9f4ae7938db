//! Addresses for road warriors and the configuration payload (RFC 7296, 3.15).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::error::Error;
use super::narrow::Dynamic;
use crate::crypto::Rng;
use crate::policy::pool::Pool;
use crate::policy::{CfgEntry, IpNet, Policy};
use crate::wire::registry::{CfgAttrType, CfgType};
use crate::wire::{Cp, Payload};

/// All pools of one shard: each is this shard's slice of a `config address A/len`, so no two
/// shards can lease one address.
#[derive(Debug)]
pub struct Pools {
    shard: u8,
    shards: u8,
    pools: BTreeMap<(IpAddr, u8), Pool>,
}

/// The addresses one IKE SA holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// IPv4 address and the pool it is from; no pool for a fixed answer.
    pub v4: Option<(IpAddr, Option<IpNet>)>,
    /// IPv6 likewise.
    pub v6: Option<(IpAddr, Option<IpNet>)>,
}

/// Attributes of a CFG_REPLY.
pub type CfgReply = Vec<(CfgAttrType, Vec<u8>)>;

impl Pools {
    /// No pools yet; they are made when a policy first needs them.
    pub fn new(shard: u8, shards: u8) -> Self {
        Self {
            shard,
            shards,
            pools: BTreeMap::new(),
        }
    }

    /// Addresses leased now.
    pub fn in_use(&self) -> usize {
        self.pools.values().map(Pool::in_use).sum()
    }

    /// The same by pool.
    pub fn leased(&self) -> Vec<(IpNet, u64)> {
        let pools = self.pools.iter();
        let count = |(&(addr, len), pool): (&(IpAddr, u8), &Pool)| {
            let leased = u64::try_from(pool.in_use()).unwrap_or(u64::MAX);
            (IpNet { addr, len }, leased)
        };
        pools.map(count).collect()
    }

    /// Gives back what an IKE SA held.
    pub fn release(&mut self, lease: Lease) {
        for (address, net) in [lease.v4, lease.v6].into_iter().flatten() {
            let pool = net.and_then(|net| self.pools.get_mut(&(net.addr, net.len)));
            if let Some(pool) = pool {
                pool.release(address);
            }
        }
    }

    fn take(
        &mut self,
        rng: &mut Rng,
        entry: &CfgEntry,
        wanted: Option<IpAddr>,
    ) -> Option<(IpAddr, Option<IpNet>)> {
        if !entry.is_pool {
            return Some((entry.value.addr, None));
        }
        let net = entry.value;
        let (shard, shards) = (self.shard, self.shards);
        let pool = self
            .pools
            .entry((net.addr, net.len))
            .or_insert_with(|| Pool::new(net, shard, shards));
        pool.lease(rng, wanted)
            .ok()
            .map(|address| (address, Some(net)))
    }

    fn lease(
        &mut self,
        rng: &mut Rng,
        policy: &Policy,
        attribute: CfgAttrType,
        wanted: Option<IpAddr>,
    ) -> Result<Option<(IpAddr, Option<IpNet>)>, Error> {
        let mut configured = false;
        for entry in policy
            .config
            .iter()
            .filter(|entry| entry.attribute == attribute)
        {
            configured = true;
            if let Some(leased) = self.take(rng, entry, wanted) {
                return Ok(Some(leased));
            }
        }
        if configured {
            Err(Error::AddressFailure)
        } else {
            Ok(None)
        }
    }
}

/// Answers a CFG_REQUEST from the policy's `config` entries, and before them with what a server
/// granted this peer; the lease is held by the IKE SA.
pub fn answer(
    pools: &mut Pools,
    rng: &mut Rng,
    (policy, granted): (&Policy, &[(CfgAttrType, IpAddr)]),
    request: Option<&Cp<'_>>,
) -> Result<(Lease, Option<CfgReply>), Error> {
    let request = request.filter(|cp| cp.kind == CfgType::REQUEST);
    let has_pool = policy
        .config
        .iter()
        .any(|entry| entry.is_pool && is_address(entry.attribute));
    let Some(request) = request else {
        // FAILED_CP_REQUIRED: this policy lets in only peers that take an address from it.
        return if has_pool {
            Err(Error::ConfigurationRequired)
        } else {
            Ok(Default::default())
        };
    };
    let asks = |kind| request.attributes.iter().any(|a| a.kind == kind);
    let mut lease = Lease::default();
    let mut refused = None;
    for kind in [
        CfgAttrType::INTERNAL_IP4_ADDRESS,
        CfgAttrType::INTERNAL_IP6_ADDRESS,
    ] {
        if !asks(kind) {
            continue;
        }
        let own = granted.iter().find(|(granted, _)| *granted == kind);
        let leased = match own {
            Some((_, address)) => Ok(Some((*address, None))),
            None => pools.lease(rng, policy, kind, wanted(request, kind)),
        };
        match leased {
            Ok(leased) if kind == CfgAttrType::INTERNAL_IP4_ADDRESS => lease.v4 = leased,
            Ok(leased) => lease.v6 = leased,
            Err(error) => refused = Some(error),
        }
    }
    // One family may be exhausted; only a peer that got nothing at all is refused.
    if let (None, None, Some(error)) = (lease.v4, lease.v6, refused) {
        return Err(error);
    }
    let reply = reply(policy, granted, request, lease);
    Ok((lease, Some(reply)))
}

/// The addresses that a CFG_REPLY gives us.
pub fn granted(payloads: &[Payload<'_>]) -> Dynamic {
    let mut assigned = Dynamic::default();
    for payload in payloads {
        let Payload::Cp(cp) = payload else { continue };
        if cp.kind != CfgType::REPLY {
            continue;
        }
        assigned.v4 = wanted(cp, CfgAttrType::INTERNAL_IP4_ADDRESS).filter(IpAddr::is_ipv4);
        assigned.v6 = wanted(cp, CfgAttrType::INTERNAL_IP6_ADDRESS).filter(IpAddr::is_ipv6);
    }
    assigned
}

fn is_address(attribute: CfgAttrType) -> bool {
    matches!(
        attribute,
        CfgAttrType::INTERNAL_IP4_ADDRESS | CfgAttrType::INTERNAL_IP6_ADDRESS
    )
}

fn wanted(request: &Cp<'_>, kind: CfgAttrType) -> Option<IpAddr> {
    let value = request.attributes.iter().find(|a| a.kind == kind)?.value;
    let address = match value.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
        // RFC 7296, 3.15.1: an INTERNAL_IP6_ADDRESS ends with its prefix length.
        16 | 17 => IpAddr::from(<[u8; 16]>::try_from(value.get(..16)?).ok()?),
        _ => return None,
    };
    (!address.is_unspecified()).then_some(address)
}

fn reply(
    policy: &Policy,
    granted: &[(CfgAttrType, IpAddr)],
    request: &Cp<'_>,
    lease: Lease,
) -> CfgReply {
    let mut reply = CfgReply::new();
    if let Some((address, net)) = lease.v4 {
        reply.push((CfgAttrType::INTERNAL_IP4_ADDRESS, octets(address)));
        let configured = policy
            .config
            .iter()
            .any(|e| e.attribute == CfgAttrType::INTERNAL_IP4_NETMASK);
        if let (Some(net), false) = (net, configured) {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(net.len.min(32)))
                .unwrap_or(0);
            let mask = Ipv4Addr::from(mask).octets().to_vec();
            reply.push((CfgAttrType::INTERNAL_IP4_NETMASK, mask));
        }
    }
    if let Some((address, net)) = lease.v6 {
        let mut value = octets(address);
        value.push(net.map_or(128, |net| net.len));
        reply.push((CfgAttrType::INTERNAL_IP6_ADDRESS, value));
    }
    for (attribute, value) in granted.iter().filter(|(kind, _)| !is_address(*kind)) {
        reply.push((*attribute, octets(*value)));
    }
    let is_granted = |kind| granted.iter().any(|(granted, _)| *granted == kind);
    for entry in policy
        .config
        .iter()
        .filter(|entry| !is_address(entry.attribute) && !is_granted(entry.attribute))
    {
        reply.push((entry.attribute, value_of(entry)));
    }
    // RFC 7296, 3.15.1: an APPLICATION_VERSION may be left empty.
    if request
        .attributes
        .iter()
        .any(|a| a.kind == CfgAttrType::APPLICATION_VERSION)
    {
        reply.push((CfgAttrType::APPLICATION_VERSION, Vec::new()));
    }
    reply
}

fn value_of(entry: &CfgEntry) -> Vec<u8> {
    let mut value = octets(entry.value.addr);
    match entry.attribute {
        CfgAttrType::INTERNAL_IP4_SUBNET => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(entry.value.len.min(32)))
                .unwrap_or(0);
            value.extend(Ipv4Addr::from(mask).octets());
        }
        CfgAttrType::INTERNAL_IP6_SUBNET => value.push(entry.value.len),
        _ => {}
    }
    value
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
