//! Extensions of a message, in OpenBSD's numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::frame::{Request, state};
use super::{Algorithms, Extras, Tag};
use crate::kernel::SelectorPair;
use crate::kernel::entry::{Direction, IpProtocol};
use crate::policy::{Identity, IpNet};
use crate::wire::registry::IdType;
use crate::wire::spi::EspSpi;

impl Request {
    pub(super) fn bsd_sa(
        &mut self,
        number: u16,
        spi: EspSpi,
        window: u8,
        algorithms: Algorithms,
        flags: u32,
    ) {
        self.extension(number, |out| {
            out.extend_from_slice(&spi.to_bytes());
            out.extend_from_slice(&[window, state::MATURE, algorithms.integ, algorithms.encr]);
            out.extend_from_slice(&flags.to_ne_bytes());
        });
    }

    pub(super) fn host(&mut self, number: u16, address: IpAddr) {
        self.place(number, SocketAddr::new(address, 0));
    }

    /// `sadb_address`, then `sockaddr_in` or `sockaddr_in6` with their lengths.
    pub(super) fn place(&mut self, number: u16, place: SocketAddr) {
        self.extension(number, |out| {
            out.extend_from_slice(&[0; 4]);
            match place {
                SocketAddr::V4(v4) => {
                    out.extend_from_slice(&[SOCKADDR_IN_LEN, AF_INET]);
                    out.extend_from_slice(&v4.port().to_be_bytes());
                    out.extend_from_slice(&v4.ip().octets());
                    out.extend_from_slice(&[0; 8]);
                }
                SocketAddr::V6(v6) => {
                    out.extend_from_slice(&[SOCKADDR_IN6_LEN, AF_INET6]);
                    out.extend_from_slice(&v6.port().to_be_bytes());
                    out.extend_from_slice(&[0; 4]);
                    out.extend_from_slice(&v6.ip().octets());
                    out.extend_from_slice(&[0; 4]);
                }
            }
        });
    }

    /// `sadb_protocol`.
    pub(super) fn protocol(&mut self, number: u16, protocol: u8, direction: u8) {
        self.extension(number, |out| {
            out.extend_from_slice(&[protocol, direction, 0, 0]);
        });
    }

    /// For packets from us the peer is the destination, else we are. A mask covers the port too.
    pub(super) fn flow_selector(&mut self, direction: Direction, pair: &SelectorPair) {
        let local = (pair.local.network(), pair.local_port);
        let remote = (pair.remote.network(), pair.remote_port);
        let (source, destination) = match direction {
            Direction::Out => (local, remote),
            Direction::In | Direction::Forward => (remote, local),
        };
        for ((flow, mask), (net, port)) in [
            ((extension::SRC_FLOW, extension::SRC_MASK), source),
            ((extension::DST_FLOW, extension::DST_MASK), destination),
        ] {
            self.place(flow, SocketAddr::new(net.addr, port.unwrap_or(0)));
            let ports = if port.is_some() { u16::MAX } else { 0 };
            self.place(mask, SocketAddr::new(mask_of(net), ports));
        }
        self.protocol(extension::PROTOCOL, pair.protocol, 0);
    }

    pub(super) fn extras(&mut self, incoming: bool, extras: &Extras<'_>) {
        let (source_id, destination_id) = if incoming {
            (extras.remote_id, extras.local_id)
        } else {
            (extras.local_id, extras.remote_id)
        };
        self.identities(source_id, destination_id);
        if let Some(Tag(name)) = extras.tag {
            self.extension(extension::TAG, |out| {
                out.extend_from_slice(&(name.len() as u32 + 1).to_ne_bytes());
                out.extend_from_slice(name.as_bytes());
                out.push(0);
            });
        }
        if let Some(unit) = extras.tap {
            self.extension(extension::TAP, |out| {
                out.extend_from_slice(&unit.to_ne_bytes());
            });
        }
    }

    pub(super) fn identities(&mut self, source: Option<&Identity>, destination: Option<&Identity>) {
        let both = [
            (extension::IDENTITY_SRC, source),
            (extension::IDENTITY_DST, destination),
        ];
        for (number, identity) in both {
            let Some((kind, text)) = identity.and_then(identity_text) else {
                continue;
            };
            self.extension(number, |out| {
                out.extend_from_slice(&kind.to_ne_bytes());
                out.extend_from_slice(&[0; 10]);
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            });
        }
    }

    pub(super) fn domains(&mut self, domains: Option<(u16, u16)>) {
        let Some((first, second)) = domains else {
            return;
        };
        self.extension(extension::RDOMAIN, |out| {
            out.extend_from_slice(&first.to_ne_bytes());
            out.extend_from_slice(&second.to_ne_bytes());
        });
    }
}

/// SADB_IDENTTYPE_* and the text that `ikectl` shows too; `None` for what has no type.
pub(super) fn identity_text(identity: &Identity) -> Option<(u16, String)> {
    let kind = match identity.kind {
        IdType::IPV4_ADDR | IdType::IPV6_ADDR => 1,
        IdType::FQDN => 2,
        IdType::RFC822_ADDR => 3,
        IdType::DER_ASN1_DN => 4,
        _ => return None,
    };
    let text = identity.to_string();
    (!text.contains('\0')).then_some((kind, text))
}

pub(super) fn mask_of(net: IpNet) -> IpAddr {
    let len = u32::from(net.len);
    match net.addr {
        IpAddr::V4(_) => {
            let mask = u32::MAX.checked_shl(32 - len.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(mask))
        }
        IpAddr::V6(_) => {
            let mask = u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(mask))
        }
    }
}

/// IPSP_DIRECTION_*.
pub(super) const fn direction_number(direction: Direction) -> u8 {
    match direction {
        Direction::In | Direction::Forward => 1,
        Direction::Out => 2,
    }
}

/// SADB_SATYPE_*, not those of RFC 2367.
pub(super) const fn sa_type(protocol: IpProtocol) -> u8 {
    match protocol {
        IpProtocol::Ah => 1,
        IpProtocol::Esp => 2,
        IpProtocol::Comp => 9,
    }
}

/// Extension types beside those of SAs, SADB_EXT_* and SADB_X_EXT_*.
pub(super) mod extension {
    pub(in super::super) const IDENTITY_SRC: u16 = 10;
    pub(in super::super) const IDENTITY_DST: u16 = 11;
    pub(in super::super) const SPIRANGE: u16 = 16;
    pub(in super::super) const SRC_MASK: u16 = 17;
    pub(in super::super) const DST_MASK: u16 = 18;
    pub(in super::super) const PROTOCOL: u16 = 19;
    pub(in super::super) const FLOW_TYPE: u16 = 20;
    pub(in super::super) const SRC_FLOW: u16 = 21;
    pub(in super::super) const DST_FLOW: u16 = 22;
    pub(in super::super) const SA2: u16 = 23;
    pub(in super::super) const DST2: u16 = 24;
    pub(in super::super) const POLICY: u16 = 25;
    pub(in super::super) const UDPENCAP: u16 = 31;
    pub(in super::super) const TAG: u16 = 33;
    pub(in super::super) const TAP: u16 = 34;
    pub(in super::super) const SATYPE2: u16 = 35;
    pub(in super::super) const COUNTER: u16 = 36;
    pub(in super::super) const RDOMAIN: u16 = 37;
    pub(in super::super) const REPLAY: u16 = 39;
}

/// OpenBSD's numbers, whatever this host's are.
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 24;
pub(super) const SOCKADDR_IN_LEN: u8 = 16;
pub(super) const SOCKADDR_IN6_LEN: u8 = 28;
