//! The `radius` lines of iked.conf(5): whom to ask, whom to tell, who may tell us, and what the
//! attributes of an answer mean to the peer's configuration.

use std::net::{IpAddr, SocketAddr};

use super::Secret;
use crate::wire::registry::CfgAttrType;

/// All `radius` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Radius {
    /// `radius server`: who lets peers in.
    pub auth: Servers,
    /// `radius accounting server`: who is told of it.
    pub accounting: Servers,
    /// `radius config`, in file order; later lines win.
    pub mappings: Vec<Mapping>,
    /// `radius dae listen on`: where we take requests (RFC 5176).
    pub dae_listen: Vec<SocketAddr>,
    /// `radius dae client`: from whom.
    pub dae_clients: Vec<(IpAddr, Secret)>,
}

/// Servers in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Address and secret of each.
    pub list: Vec<Server>,
    /// `max-tries`: how often one server is asked the same.
    pub tries: u32,
    /// `max-failovers`: how many others are asked when one is silent.
    pub failovers: u32,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            tries: 3,
            failovers: 0,
        }
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it shares with us.
    pub secret: Secret,
}

/// `radius config`: what one attribute means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The vendor's number; zero is none.
    pub vendor: u32,
    /// The attribute, or the vendor's.
    pub attribute: u8,
    /// What the peer gets if the value is an IPv4 address.
    pub v4: Option<CfgAttrType>,
    /// What it gets if it is an IPv6 address.
    pub v6: Option<CfgAttrType>,
}

impl Radius {
    /// What an attribute with an address means to the peer's configuration.
    pub fn meaning(&self, vendor: u32, attribute: u8, value: IpAddr) -> Option<CfgAttrType> {
        let own = self.mappings.iter().rev();
        let found = own
            .chain(BUILT_IN)
            .find(|row| (row.vendor, row.attribute) == (vendor, attribute))?;
        if value.is_ipv4() { found.v4 } else { found.v6 }
    }
}

/// The number of Microsoft.
pub const MICROSOFT: u32 = 311;

const fn built_in(
    vendor: u32,
    attribute: u8,
    v4: Option<CfgAttrType>,
    v6: Option<CfgAttrType>,
) -> Mapping {
    Mapping {
        vendor,
        attribute,
        v4,
        v6,
    }
}

/// What attributes mean where no line says otherwise: Framed-IP-Address, Framed-IP-Netmask,
/// Framed-IPv6-Prefix of a whole address, Framed-IPv6-Address, DNS-Server-IPv6-Address (RFC 6911),
/// and Microsoft's name servers (RFC 2548).
const BUILT_IN: &[Mapping] = &[
    built_in(0, 8, Some(CfgAttrType::INTERNAL_IP4_ADDRESS), None),
    built_in(0, 9, Some(CfgAttrType::INTERNAL_IP4_NETMASK), None),
    built_in(0, 97, None, Some(CfgAttrType::INTERNAL_IP6_ADDRESS)),
    built_in(0, 168, None, Some(CfgAttrType::INTERNAL_IP6_ADDRESS)),
    built_in(0, 169, None, Some(CfgAttrType::INTERNAL_IP6_DNS)),
    built_in(MICROSOFT, 28, Some(CfgAttrType::INTERNAL_IP4_DNS), None),
    built_in(MICROSOFT, 29, Some(CfgAttrType::INTERNAL_IP4_DNS), None),
    built_in(MICROSOFT, 30, Some(CfgAttrType::INTERNAL_IP4_NBNS), None),
    built_in(MICROSOFT, 31, Some(CfgAttrType::INTERNAL_IP4_NBNS), None),
];
