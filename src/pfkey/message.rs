//! PF_KEY version 2 messages (RFC 2367) with the extensions of KAME and Linux (linux/pfkeyv2.h,
//! linux/ipsec.h). No sockets here.

use std::net::{IpAddr, SocketAddr};

use super::frame::{self, Limits, state, u16_at, u32_at};
pub use super::frame::{Answer, Request};
use crate::kernel::entry::{Direction, IpProtocol, Layer, Template};
use crate::kernel::{self, SelectorPair};
use crate::wire::registry::{EncrId, IntegId, ProtocolId};
use crate::wire::spi::EspSpi;
use crate::wire::{Transform, TransformId};

/// Message types, SADB_*.
pub mod kind {
    pub use super::super::frame::kind::*;

    /// Add or replace a policy.
    pub const SPD_UPDATE: u8 = 13;
    /// Delete a policy.
    pub const SPD_DELETE: u8 = 15;
    /// Tell all policies; the last one has the sequence number 0.
    pub const SPD_DUMP: u8 = 18;
    /// Delete the policy with this number.
    pub const SPD_DELETE2: u8 = 22;
    /// ESP in UDP comes from a new place.
    pub const NEW_MAPPING: u8 = 23;
}

/// IPSEC_DIR_*.
const fn number(direction: Direction) -> u8 {
    match direction {
        Direction::In => 1,
        Direction::Out => 2,
        Direction::Forward => 3,
    }
}

/// The algorithms of a Child SA by PF_KEY's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms {
    encr: u8,
    integ: u8,
}

impl Algorithms {
    /// Those of an SA of IPComp: its algorithm has the place of the encryption.
    pub const DEFLATE: Self = Self {
        encr: CALG_DEFLATE,
        integ: 0,
    };

    /// Reads the chosen transforms. `None` for what Linux cannot do over PF_KEY: authenticated
    /// encryption and extended sequence numbers have no words in it, and for HMAC-SHA2-256 it
    /// would cut the ICV to 96 bits where RFC 4868 has 128.
    pub fn of(protocol: ProtocolId, transforms: &[Transform]) -> Option<Self> {
        let (mut encr, mut integ) = (None, None);
        for transform in transforms {
            match transform.id {
                TransformId::Encr(id) => encr = Some(encr_number(id)?),
                TransformId::Integ(IntegId::NONE) => {}
                TransformId::Integ(id) => integ = Some(integ_number(id)?),
                TransformId::Esn(id) if id.0 == 0 => {}
                TransformId::Ke(_) | TransformId::Prf(_) => {}
                TransformId::Esn(_) | TransformId::Unknown(..) => return None,
            }
        }
        match (protocol, encr, integ) {
            (ProtocolId::ESP, Some(encr), Some(integ)) => Some(Self { encr, integ }),
            (ProtocolId::AH, None, Some(integ)) => Some(Self { encr: 0, integ }),
            _ => None,
        }
    }
}

fn encr_number(id: EncrId) -> Option<u8> {
    // SADB_EALG_* and SADB_X_EALG_*; most are IKE's numbers.
    match id {
        EncrId::DES3 => Some(3),
        EncrId::CAST => Some(6),
        EncrId::BLOWFISH => Some(7),
        EncrId::NULL => Some(11),
        EncrId::AES_CBC => Some(12),
        EncrId::AES_CTR => Some(13),
        _ => None,
    }
}

fn integ_number(id: IntegId) -> Option<u8> {
    // SADB_AALG_* and SADB_X_AALG_*.
    match id {
        IntegId::HMAC_MD5_96 => Some(2),
        IntegId::HMAC_SHA1_96 => Some(3),
        IntegId::HMAC_SHA2_384_192 => Some(6),
        IntegId::HMAC_SHA2_512_256 => Some(7),
        _ => None,
    }
}

/// One SA with its algorithms by PF_KEY's numbers. The kernel keeps at most 32 packets of replay
/// window over PF_KEY.
pub type SaEntry<'a> = kernel::entry::SaEntry<'a, Algorithms>;

impl Request {
    /// `SADB_REGISTER` for one SA type.
    pub fn register(seq: u32, pid: u32, protocol: IpProtocol) -> Self {
        Self::begin(kind::REGISTER, sa_type(protocol), seq, pid).end()
    }

    /// `SADB_ADD`.
    pub fn add(seq: u32, pid: u32, sa: &SaEntry<'_>) -> Self {
        let mut request = Self::begin(kind::ADD, sa_type(sa.protocol), seq, pid);
        request.sa(sa.spi, sa.replay_window.min(32) as u8, sa.algorithms);
        request.extension(extension::SA2, |out| {
            out.extend_from_slice(&[mode(sa.transport), 0, 0, 0]);
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&short_reqid(sa.reqid).to_ne_bytes());
        });
        request.address(
            extension::ADDRESS_SRC,
            SocketAddr::new(sa.source, 0),
            0,
            None,
        );
        request.address(
            extension::ADDRESS_DST,
            SocketAddr::new(sa.destination, 0),
            0,
            None,
        );
        // Linux wants both lifetimes or none.
        let (packets, bytes, time) = (kernel::PACKETS_HARD, sa.bytes_hard, sa.hard);
        let hard = Limits {
            packets,
            bytes,
            time,
        };
        request.lifetime(extension::LIFETIME_HARD, hard);
        let (packets, bytes, time) = (kernel::PACKETS_SOFT, sa.bytes_soft, sa.soft);
        let soft = Limits {
            packets,
            bytes,
            time,
        };
        request.lifetime(extension::LIFETIME_SOFT, soft);
        if sa.protocol != IpProtocol::Comp {
            request.key(extension::KEY_AUTH, sa.integ_key);
        }
        // Also with NULL encryption, whose key is empty.
        if sa.protocol == IpProtocol::Esp {
            request.key(extension::KEY_ENCRYPT, sa.encr_key);
        }
        if let Some((source_port, destination_port)) = sa.encap {
            request.extension(extension::NAT_T_TYPE, |out| {
                out.extend_from_slice(&[UDP_ENCAP_ESPINUDP, 0, 0, 0]);
            });
            for (number, port) in [
                (extension::NAT_T_SPORT, source_port),
                (extension::NAT_T_DPORT, destination_port),
            ] {
                request.extension(number, |out| {
                    out.extend_from_slice(&port.to_be_bytes());
                    out.extend_from_slice(&[0; 2]);
                });
            }
        }
        request.end()
    }

    /// `SADB_DELETE`.
    pub fn delete(
        seq: u32,
        pid: u32,
        source: IpAddr,
        destination: IpAddr,
        spi: EspSpi,
        protocol: IpProtocol,
    ) -> Self {
        Self::about(kind::DELETE, seq, pid, (source, destination, spi, protocol))
    }

    /// `SADB_GET`.
    pub fn get(
        seq: u32,
        pid: u32,
        source: IpAddr,
        destination: IpAddr,
        spi: EspSpi,
        protocol: IpProtocol,
    ) -> Self {
        Self::about(kind::GET, seq, pid, (source, destination, spi, protocol))
    }

    fn about(
        message_kind: u8,
        seq: u32,
        pid: u32,
        (source, destination, spi, protocol): (IpAddr, IpAddr, EspSpi, IpProtocol),
    ) -> Self {
        let mut request = Self::begin(message_kind, sa_type(protocol), seq, pid);
        request.sa(spi, 0, Algorithms { encr: 0, integ: 0 });
        request.address(extension::ADDRESS_SRC, SocketAddr::new(source, 0), 0, None);
        request.address(
            extension::ADDRESS_DST,
            SocketAddr::new(destination, 0),
            0,
            None,
        );
        request.end()
    }

    /// `SADB_X_SPDUPDATE`: adds a policy or replaces the one with the same selector.
    pub fn update_policy(
        seq: u32,
        pid: u32,
        direction: Direction,
        pair: &SelectorPair,
        priority: u32,
        template: &Template,
    ) -> Self {
        let mut request = Self::begin(kind::SPD_UPDATE, SA_TYPE_UNSPEC, seq, pid);
        request.selector(direction, pair);
        request.policy(direction, priority, Some(template));
        request.end()
    }

    /// `SADB_X_SPDDELETE`.
    pub fn delete_policy(seq: u32, pid: u32, direction: Direction, pair: &SelectorPair) -> Self {
        let mut request = Self::begin(kind::SPD_DELETE, SA_TYPE_UNSPEC, seq, pid);
        request.selector(direction, pair);
        request.policy(direction, 0, None);
        request.end()
    }

    /// `SADB_X_SPDDELETE2`: by the kernel's number for it, whatever its selector.
    pub fn delete_listed_policy(seq: u32, pid: u32, policy: ListedPolicy) -> Self {
        let mut request = Self::begin(kind::SPD_DELETE2, SA_TYPE_UNSPEC, seq, pid);
        request.extension(extension::POLICY, |out| {
            out.extend_from_slice(&POLICY_IPSEC.to_ne_bytes());
            out.extend_from_slice(&[policy.direction, 0]);
            out.extend_from_slice(&policy.id.to_ne_bytes());
            out.extend_from_slice(&[0; 4]);
        });
        request.end()
    }

    /// `SADB_DUMP` or `SADB_X_SPDDUMP`.
    pub fn list(message_kind: u8, seq: u32, pid: u32) -> Self {
        Self::begin(message_kind, SA_TYPE_UNSPEC, seq, pid).end()
    }

    fn sa(&mut self, spi: EspSpi, window: u8, algorithms: Algorithms) {
        self.extension(extension::SA, |out| {
            out.extend_from_slice(&spi.to_bytes());
            out.extend_from_slice(&[window, state::MATURE, algorithms.integ, algorithms.encr]);
            out.extend_from_slice(&[0; 4]);
        });
    }

    fn address(&mut self, number: u16, address: SocketAddr, protocol: u8, prefix: Option<u8>) {
        let prefix = prefix.unwrap_or_else(|| if address.is_ipv4() { 32 } else { 128 });
        self.extension(number, |out| {
            out.extend_from_slice(&[protocol, prefix, 0, 0]);
            socket_address(out, address);
        });
    }

    /// For packets from us the peer is the destination, else we are.
    fn selector(&mut self, direction: Direction, pair: &SelectorPair) {
        let local = (pair.local.network(), pair.local_port);
        let remote = (pair.remote.network(), pair.remote_port);
        let (source, destination) = match direction {
            Direction::Out => (local, remote),
            Direction::In | Direction::Forward => (remote, local),
        };
        let protocol = if pair.protocol == 0 {
            PROTOCOL_ANY
        } else {
            pair.protocol
        };
        for (number, (net, port)) in [
            (extension::ADDRESS_SRC, source),
            (extension::ADDRESS_DST, destination),
        ] {
            let address = SocketAddr::new(net.addr, port.unwrap_or(0));
            self.address(number, address, protocol, Some(net.len));
        }
    }

    fn policy(&mut self, direction: Direction, priority: u32, template: Option<&Template>) {
        self.extension(extension::POLICY, |out| {
            out.extend_from_slice(&POLICY_IPSEC.to_ne_bytes());
            out.extend_from_slice(&[number(direction), 0]);
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&priority.to_ne_bytes());
            if let Some(template) = template {
                for layer in template.layers(direction) {
                    ipsec_request(out, template, layer);
                }
            }
        });
    }
}

/// `sadb_x_ipsecrequest`, whose length counts bytes.
fn ipsec_request(out: &mut Vec<u8>, template: &Template, layer: Layer) {
    let at = out.len();
    let protocol = match layer.protocol {
        IpProtocol::Esp => libc::IPPROTO_ESP,
        IpProtocol::Ah => libc::IPPROTO_AH,
        IpProtocol::Comp => libc::IPPROTO_COMP,
    };
    let level = if layer.optional {
        LEVEL_USE
    } else {
        LEVEL_UNIQUE
    };
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(protocol as u16).to_ne_bytes());
    out.extend_from_slice(&[mode(layer.transport), level, 0, 0]);
    out.extend_from_slice(&short_reqid(template.reqid).to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    if !layer.transport {
        socket_address(out, SocketAddr::new(template.source, 0));
        socket_address(out, SocketAddr::new(template.destination, 0));
    }
    let len = (out.len() - at) as u16;
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&len.to_ne_bytes());
    }
}

/// `sockaddr_in` or `sockaddr_in6`, unpadded.
fn socket_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            out.extend_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out.extend_from_slice(&v4.port().to_be_bytes());
            out.extend_from_slice(&v4.ip().octets());
            out.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            out.extend_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            out.extend_from_slice(&v6.port().to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&v6.ip().octets());
            out.extend_from_slice(&[0; 4]);
        }
    }
}

/// An SA as a dump tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSa {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// SPI at the destination.
    pub spi: EspSpi,
    /// Of its packets.
    pub protocol: IpProtocol,
    /// Whether this daemon, or one before it, made it: over PF_KEY or over NETLINK_XFRM.
    pub is_ours: bool,
    /// It has passed a soft limit.
    pub is_aged: bool,
}

/// A policy as a dump tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPolicy {
    /// The kernel's number for it.
    pub id: u32,
    /// IPSEC_DIR_*; from 4 on it belongs to a socket.
    pub direction: u8,
    /// Whether this daemon, or one before it, made it: over PF_KEY or over NETLINK_XFRM.
    pub is_ours: bool,
}

impl Answer<'_> {
    /// Destination, SPI and whether it is the hard limit, of an `EXPIRE` message.
    pub fn expire(&self) -> Option<(IpAddr, EspSpi, bool)> {
        // Those of IPComp are no more than companions.
        let main = self.sa_type != sa_type(IpProtocol::Comp);
        (self.kind == kind::EXPIRE && main).then_some(())?;
        let hard = self.find(extension::LIFETIME_HARD).is_some();
        let destination = self.socket_address(extension::ADDRESS_DST)?.ip();
        Some((destination, self.spi()?, hard))
    }

    /// SPI and new source of a `NEW_MAPPING` message: the source is the address before, the
    /// destination the address now, each with its port beside it.
    pub fn mapping(&self) -> Option<(EspSpi, SocketAddr)> {
        (self.kind == kind::NEW_MAPPING).then_some(())?;
        let address = self.socket_address(extension::ADDRESS_DST)?.ip();
        let port: [u8; 2] = self
            .find(extension::NAT_T_DPORT)?
            .get(4..6)?
            .try_into()
            .ok()?;
        Some((
            self.spi()?,
            SocketAddr::new(address, u16::from_be_bytes(port)),
        ))
    }

    /// The kernel's number of the policy that this tells, or that an `ACQUIRE` is about.
    pub fn policy_id(&self) -> Option<u32> {
        u32_at(self.find(extension::POLICY)?, 8)
    }

    /// One SA of `SADB_DUMP`, if it is one that carries packets.
    pub fn listed_sa(&self) -> Option<ListedSa> {
        let state = self.state()?;
        matches!(state, state::MATURE | state::DYING).then_some(())?;
        let packets = |number| u32_at(self.find(number)?, 4);
        let limits = (
            packets(extension::LIFETIME_HARD),
            packets(extension::LIFETIME_SOFT),
        );
        let marked = (Some(kernel::PACKETS_HARD), Some(kernel::PACKETS_SOFT));
        Some(ListedSa {
            source: self.socket_address(extension::ADDRESS_SRC)?.ip(),
            destination: self.socket_address(extension::ADDRESS_DST)?.ip(),
            spi: self.spi()?,
            protocol: PROTOCOLS
                .into_iter()
                .find(|protocol| sa_type(*protocol) == self.sa_type)?,
            is_ours: limits == marked || self.reqid().is_some_and(kernel::is_our_reqid),
            is_aged: state == state::DYING,
        })
    }

    /// The reqid, cut short, of what `SADB_DUMP` tells if it is no SA but a packet's wait for one.
    pub fn larva(&self) -> Option<u32> {
        (self.state()? == state::LARVAL).then_some(())?;
        self.reqid()
    }

    /// One policy of `SADB_X_SPDDUMP`.
    pub fn listed_policy(&self) -> Option<ListedPolicy> {
        (self.kind == kind::SPD_DUMP).then_some(())?;
        let policy = self.find(extension::POLICY)?;
        let priority = u32_at(policy, 12)?;
        let first_reqid = u32_at(policy, POLICY_LEN + 8);
        Some(ListedPolicy {
            id: u32_at(policy, 8)?,
            direction: *policy.get(6)?,
            is_ours: kernel::is_our_priority(priority)
                || first_reqid.is_some_and(kernel::is_our_reqid),
        })
    }

    fn state(&self) -> Option<u8> {
        (self.kind == kind::DUMP).then_some(())?;
        self.find(extension::SA)?.get(9).copied()
    }

    fn reqid(&self) -> Option<u32> {
        u32_at(self.find(extension::SA2)?, 12)
    }

    fn socket_address(&self, number: u16) -> Option<SocketAddr> {
        let address = self.find(number)?.get(8..)?;
        let port = u16::from_be_bytes(address.get(2..4)?.try_into().ok()?);
        let family = i32::from(u16_at(address, 0)?);
        let ip = if family == libc::AF_INET {
            let octets: [u8; 4] = address.get(4..8)?.try_into().ok()?;
            IpAddr::from(octets)
        } else if family == libc::AF_INET6 {
            let octets: [u8; 16] = address.get(8..24)?.try_into().ok()?;
            IpAddr::from(octets)
        } else {
            return None;
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// Policies may name only small reqids. Two that become the same matter only where the outer
/// addresses are the same too; those of traps, which have no SAs, are the same as no Child SA's.
pub(super) const fn short_reqid(reqid: u32) -> u32 {
    match (reqid, reqid & 0xff00_0000) {
        (0, _) => 0,
        (_, kernel::TRAP_TAG) => REQID_HALF + reqid % REQID_HALF,
        _ => reqid % (REQID_HALF - 1) + 1,
    }
}

const fn sa_type(protocol: IpProtocol) -> u8 {
    match protocol {
        IpProtocol::Ah => 2,
        IpProtocol::Esp => 3,
        IpProtocol::Comp => 9,
    }
}

fn mode(transport: bool) -> u8 {
    if transport { 1 } else { 2 }
}

/// Extension types, SADB_EXT_* and SADB_X_EXT_*.
mod extension {
    pub(super) use super::frame::extension::*;

    pub(super) const POLICY: u16 = 18;
    pub(super) const SA2: u16 = 19;
    pub(super) const NAT_T_TYPE: u16 = 20;
    pub(super) const NAT_T_SPORT: u16 = 21;
    pub(super) const NAT_T_DPORT: u16 = 22;
}

const PROTOCOLS: [IpProtocol; 3] = [IpProtocol::Esp, IpProtocol::Ah, IpProtocol::Comp];
const SA_TYPE_UNSPEC: u8 = 0;
const CALG_DEFLATE: u8 = 2;
const POLICY_IPSEC: u16 = 2;
/// Only by SAs with the reqid of the request.
const LEVEL_USE: u8 = 1;
const LEVEL_UNIQUE: u8 = 3;
/// Half of the reqids that a policy may name (up to IPSEC_MANUAL_REQID_MAX, 0x3fff).
const REQID_HALF: u32 = 0x2000;
/// Length of `sadb_x_policy`.
const POLICY_LEN: usize = 16;
/// "Any upper-layer protocol" in a selector (IPSEC_PROTO_ANY).
const PROTOCOL_ANY: u8 = 255;
const UDP_ENCAP_ESPINUDP: u8 = 2;

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
