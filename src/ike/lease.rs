//! Addresses for road warriors and the configuration payload (RFC 7296, 3.15).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::error::Error;
use crate::crypto::Rng;
use crate::policy::pool::Pool;
use crate::policy::{CfgEntry, IpNet, Policy};
use crate::steer::ShardId;
use crate::wire::Cp;
use crate::wire::registry::{CfgAttrType, CfgType};

/// All pools of one shard: each is this shard's slice of a `config address A/len`, so no two
/// shards can lease one address.
#[derive(Debug)]
pub struct Pools {
    shard: u8,
    shards: u8,
    pools: BTreeMap<(IpAddr, u8), Pool>,
    in_use: usize,
}

/// The addresses one IKE SA holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// IPv4 address and the pool it is from; no pool for a fixed answer.
    pub v4: Option<(IpAddr, Option<IpNet>)>,
    /// IPv6 likewise.
    pub v6: Option<(IpAddr, Option<IpNet>)>,
}

impl Lease {
    /// Whether it holds nothing.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// The addresses that are of a pool, with their pool.
    pub fn pooled(&self) -> impl Iterator<Item = (IpAddr, IpNet)> {
        let both = [self.v4, self.v6].into_iter().flatten();
        both.filter_map(|(address, net)| Some((address, net?)))
    }

    /// Takes out what is of one of these pools.
    pub fn take_of(&mut self, pools: &[IpNet]) -> Self {
        let of =
            |piece: &mut (IpAddr, Option<IpNet>)| piece.1.is_some_and(|net| pools.contains(&net));
        Self {
            v4: self.v4.take_if(of),
            v6: self.v6.take_if(of),
        }
    }
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
            in_use: 0,
        }
    }

    /// Addresses that IKE SAs of this shard hold now, whichever slice they are of.
    pub const fn in_use(&self) -> usize {
        self.in_use
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

    /// An IKE SA of this shard holds these from now on, which were leased before.
    pub fn move_in(&mut self, lease: &Lease) {
        self.in_use += lease.pooled().count();
    }

    /// An IKE SA of this shard holds these no more, but they stay leased.
    pub fn move_out(&mut self, lease: &Lease) {
        self.in_use = self.in_use.saturating_sub(lease.pooled().count());
    }

    /// Makes addresses free that no IKE SA holds any more; returns those of other shards' slices,
    /// each with its pool and its shard.
    pub fn free(&mut self, lease: &Lease) -> Vec<(IpAddr, IpNet, ShardId)> {
        let mut elsewhere = Vec::new();
        for (address, net) in lease.pooled() {
            let own = self.shard;
            let pool = self.pool(net);
            match pool.home_of(address) {
                Some(home) if home != own => elsewhere.push((address, net, ShardId(home))),
                Some(_) | None => pool.release(address),
            }
        }
        elsewhere
    }

    fn pool(&mut self, net: IpNet) -> &mut Pool {
        let (shard, shards) = (self.shard, self.shards);
        let pool = self.pools.entry((net.addr, net.len));
        pool.or_insert_with(|| Pool::new(net, shard, shards))
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
        let address = self.pool(net).lease(rng, wanted).ok()?;
        self.in_use += 1;
        Some((address, Some(net)))
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
/// granted this peer; the lease is held by the IKE SA, and begins with what it has `kept`.
pub fn answer(
    pools: &mut Pools,
    rng: &mut Rng,
    (policy, granted): (&Policy, &[(CfgAttrType, IpAddr)]),
    request: Option<&Cp<'_>>,
    kept: Lease,
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
    let mut lease = kept;
    let mut refused = None;
    for kind in [
        CfgAttrType::INTERNAL_IP4_ADDRESS,
        CfgAttrType::INTERNAL_IP6_ADDRESS,
    ] {
        let held = if kind == CfgAttrType::INTERNAL_IP4_ADDRESS {
            lease.v4
        } else {
            lease.v6
        };
        if held.is_some() || !asks(kind) {
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

/// The pools that a request will be answered from, by a policy and what a server granted.
pub fn pools_for(
    policy: &Policy,
    granted: &[(CfgAttrType, IpAddr)],
    request: Option<&Cp<'_>>,
) -> Vec<IpNet> {
    let request = request.filter(|cp| cp.kind == CfgType::REQUEST);
    let asked = |kind| request.is_some_and(|cp| cp.attributes.iter().any(|a| a.kind == kind));
    let is_granted = |kind| granted.iter().any(|(granted, _)| *granted == kind);
    let pools = policy.config.iter().filter(|entry| {
        let kind = entry.attribute;
        entry.is_pool && is_address(kind) && asked(kind) && !is_granted(kind)
    });
    pools.map(|entry| entry.value).collect()
}

fn is_address(attribute: CfgAttrType) -> bool {
    matches!(
        attribute,
        CfgAttrType::INTERNAL_IP4_ADDRESS | CfgAttrType::INTERNAL_IP6_ADDRESS
    )
}

/// The address that an attribute of this kind holds, if it holds one.
pub fn wanted(request: &Cp<'_>, kind: CfgAttrType) -> Option<IpAddr> {
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
    reply.extend(domains_for(policy, request, &reply));
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

/// The policy's domains, for whoever asks for them and is told of a name server, and their trust
/// anchors for whoever asks for those, too (RFC 8598, 3.2 and 4.2).
fn domains_for(policy: &Policy, request: &Cp<'_>, reply: &CfgReply) -> CfgReply {
    let asks = |kind| request.attributes.iter().any(|a| a.kind == kind);
    let mut domains = CfgReply::new();
    if !asks(CfgAttrType::INTERNAL_DNS_DOMAIN) || !reply.iter().any(|(kind, _)| is_dns(*kind)) {
        return domains;
    }
    let anchors = asks(CfgAttrType::INTERNAL_DNSSEC_TA);
    for domain in &policy.domains {
        let name = domain.name.as_bytes().to_vec();
        domains.push((CfgAttrType::INTERNAL_DNS_DOMAIN, name));
        for anchor in domain.anchors.iter().filter(|_| anchors) {
            domains.push((CfgAttrType::INTERNAL_DNSSEC_TA, anchor.encode()));
        }
    }
    domains
}

/// What the policy asks the gateway for.
pub fn asked(policy: &Policy) -> Vec<CfgAttrType> {
    let mut kinds: Vec<CfgAttrType> = policy.request.iter().map(|(kind, _)| *kind).collect();
    // RFC 8598, 3.1: whoever asks for trust anchors asks for their domains, and whoever asks for
    // domains for their name servers.
    let has = |kinds: &[CfgAttrType], kind| kinds.contains(&kind);
    if has(&kinds, CfgAttrType::INTERNAL_DNSSEC_TA)
        && !has(&kinds, CfgAttrType::INTERNAL_DNS_DOMAIN)
    {
        kinds.push(CfgAttrType::INTERNAL_DNS_DOMAIN);
    }
    let asks_dns = kinds.iter().any(|kind| is_dns(*kind));
    if has(&kinds, CfgAttrType::INTERNAL_DNS_DOMAIN) && !asks_dns {
        kinds.extend([CfgAttrType::INTERNAL_IP4_DNS, CfgAttrType::INTERNAL_IP6_DNS]);
    }
    kinds
}

/// Whether a name server's address is its value.
pub const fn is_dns(kind: CfgAttrType) -> bool {
    matches!(
        kind,
        CfgAttrType::INTERNAL_IP4_DNS | CfgAttrType::INTERNAL_IP6_DNS
    )
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
