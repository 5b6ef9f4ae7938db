//! What OpenBSD's kernel tells: answers, expiries, packets that want an SA. Reading is total.

use std::net::{IpAddr, SocketAddr};

use super::super::frame::{Answer, extension as base, u64_at};
use super::words::{
    AF_INET, AF_INET6, SOCKADDR_IN_LEN, SOCKADDR_IN6_LEN, direction_number, extension, mask_of,
    sa_type,
};
use super::{FLOW_TYPE_REQUIRE, kind};
use crate::kernel::entry::{Direction, IpProtocol};
use crate::kernel::{Count, SelectorPair, Volume};
use crate::policy::IpNet;
use crate::wire::spi::EspSpi;

/// A flow as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// In or out.
    pub direction: Direction,
    /// What matches.
    pub pair: SelectorPair,
    /// What matches waits for an SA (SADB_X_FLOW_TYPE_REQUIRE).
    pub is_required: bool,
}

/// Destination, SPI and whether it is the hard limit, of an `EXPIRE` message.
pub fn expire(answer: &Answer<'_>) -> Option<(IpAddr, EspSpi, bool)> {
    // Those of IPComp are no more than companions.
    let main = answer.sa_type != sa_type(IpProtocol::Comp);
    (answer.kind == kind::EXPIRE && main).then_some(())?;
    let hard = answer.find(base::LIFETIME_HARD).is_some();
    let destination = place(answer, base::ADDRESS_DST)?.ip();
    Some((destination, answer.spi()?, hard))
}

/// The SPI, or CPI, that `GETSPI` reserved.
pub fn reserved(answer: &Answer<'_>) -> Option<EspSpi> {
    (answer.kind == kind::GETSPI).then_some(())?;
    answer.spi()
}

/// Of an `ACQUIRE` message: what [`super::ask_policy`] takes, and the peer.
pub fn acquire(answer: &Answer<'_>) -> Option<(u32, IpAddr)> {
    (answer.kind == kind::ACQUIRE).then_some(())?;
    Some((answer.seq, place(answer, base::ADDRESS_DST)?.ip()))
}

/// The flow that `ASKPOLICY`, `ADDFLOW` or `DELFLOW` answers with.
pub fn flow(answer: &Answer<'_>) -> Option<Flow> {
    let told = [kind::ASKPOLICY, kind::ADDFLOW, kind::DELFLOW].contains(&answer.kind);
    let [flow_type, number] = *answer
        .find(extension::FLOW_TYPE)
        .filter(|_| told)?
        .get(4..6)?
    else {
        return None;
    };
    let direction = [Direction::In, Direction::Out]
        .into_iter()
        .find(|direction| direction_number(*direction) == number)?;
    let half = |flow, mask| {
        let (address, mask) = (place(answer, flow)?, place(answer, mask)?);
        let port = (mask.port() != 0).then_some(address.port());
        Some((net_of(address.ip(), mask.ip())?, port))
    };
    let source = half(extension::SRC_FLOW, extension::SRC_MASK)?;
    let destination = half(extension::DST_FLOW, extension::DST_MASK)?;
    let (local, remote) = match direction {
        Direction::Out => (source, destination),
        Direction::In | Direction::Forward => (destination, source),
    };
    let protocol = answer.find(extension::PROTOCOL);
    let protocol = protocol.and_then(|found| found.get(4).copied());
    Some(Flow {
        direction,
        pair: SelectorPair {
            protocol: protocol.unwrap_or(0),
            local: local.0,
            local_port: local.1,
            remote: remote.0,
            remote_port: remote.1,
            outward: false,
            if_id: None,
        },
        is_required: flow_type == FLOW_TYPE_REQUIRE,
    })
}

/// What went through an SA, by `GET` of the SA itself: `inbound` of the one that packets come in
/// by, `outbound` of the other.
pub fn count(spi: EspSpi, inbound: &Answer<'_>, outbound: &Answer<'_>) -> Option<Count> {
    let volume = |answer: &Answer<'_>, packets_at: usize| {
        let counter = answer.find(extension::COUNTER)?;
        Some(Volume {
            packets: u64_at(counter, packets_at)?,
            octets: u64_at(counter, packets_at + COUNTER_BYTES)?,
        })
    };
    Some(Count {
        spi,
        inbound: volume(inbound, 8)?,
        outbound: volume(outbound, 16)?,
    })
}

/// The last sequence number of an SA, by `GET`.
pub fn sent(answer: &Answer<'_>) -> Option<u64> {
    u64_at(answer.find(extension::REPLAY)?, 8)
}

/// Where the peer's NAT has it, by `GET`: the port of UDP encapsulation, which the kernel follows by
/// itself.
pub fn encapsulation_port(answer: &Answer<'_>) -> Option<u16> {
    let port = answer.find(extension::UDPENCAP)?.get(4..6)?;
    Some(u16::from_be_bytes(port.try_into().ok()?))
}

fn place(answer: &Answer<'_>, number: u16) -> Option<SocketAddr> {
    let address = answer.find(number)?.get(8..)?;
    let port = u16::from_be_bytes(address.get(2..4)?.try_into().ok()?);
    let ip = match (*address.first()?, *address.get(1)?) {
        (SOCKADDR_IN_LEN, AF_INET) => {
            let octets: [u8; 4] = address.get(4..8)?.try_into().ok()?;
            IpAddr::from(octets)
        }
        (SOCKADDR_IN6_LEN, AF_INET6) => {
            let octets: [u8; 16] = address.get(8..24)?.try_into().ok()?;
            IpAddr::from(octets)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The network of an address and its mask, unless the mask has holes.
pub(super) fn net_of(address: IpAddr, mask: IpAddr) -> Option<IpNet> {
    let len = match mask {
        IpAddr::V4(mask) => u32::from(mask).leading_ones(),
        IpAddr::V6(mask) => u128::from(mask).leading_ones(),
    };
    let net = IpNet {
        addr: address,
        len: len as u8,
    };
    (address.is_ipv4() == mask.is_ipv4() && mask_of(net) == mask).then_some(net.network())
}

/// In `sadb_x_counter` bytes are that far behind packets.
const COUNTER_BYTES: usize = 16;
