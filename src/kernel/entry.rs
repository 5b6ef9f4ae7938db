//! A Child SA as the entries that every kernel makes of it: two SAs, and policies for each selector
//! pair. Numbers and bytes are the backend's.

use std::net::IpAddr;
use std::time::Duration;

use super::{ChildInstall, ChildRemove, SelectorPair, Trap};
use crate::wire::registry::ProtocolId;
use crate::wire::spi::EspSpi;

/// Which way a policy looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Packets for us.
    In,
    /// Packets from us, and packets forwarded towards the peer.
    Out,
    /// Packets from the peer that we forward.
    Forward,
}

/// One SA, one direction.
#[derive(Debug)]
pub struct SaEntry<'a, A> {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// SPI at the destination.
    pub spi: EspSpi,
    /// ESP or AH.
    pub protocol: ProtocolId,
    /// Transport mode (else tunnel).
    pub transport: bool,
    /// Ties policies to it.
    pub reqid: u32,
    /// Algorithms, in the words of the backend.
    pub algorithms: A,
    /// Key of the encryption, salt last.
    pub encr_key: &'a [u8],
    /// Key of the integrity algorithm.
    pub integ_key: &'a [u8],
    /// UDP encapsulation: source and destination port.
    pub encap: Option<(u16, u16)>,
    /// Time after which the kernel warns; zero is never.
    pub soft: Duration,
    /// Time after which the kernel drops it; zero is never.
    pub hard: Duration,
    /// Bytes after which the kernel warns; zero is never.
    pub bytes_soft: u64,
    /// Bytes after which the kernel drops it; zero is never.
    pub bytes_hard: u64,
    /// Anti-replay window in packets.
    pub replay_window: u32,
}

/// What a policy demands of packets: the SA's outer addresses and its reqid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// ESP or AH.
    pub protocol: ProtocolId,
    /// Transport mode (else tunnel).
    pub transport: bool,
    /// Of the SA.
    pub reqid: u32,
}

/// The SA of what the peer sends.
pub fn inbound<A>(child: &ChildInstall, algorithms: A) -> SaEntry<'_, A> {
    let names = &child.names;
    SaEntry {
        source: names.remote,
        destination: names.local,
        spi: names.inbound_spi,
        protocol: names.protocol,
        transport: names.transport,
        reqid: names.reqid,
        algorithms,
        encr_key: child.keys.inbound_encr.expose(),
        integ_key: child.keys.inbound_integ.expose(),
        encap: child
            .encap
            .map(|encap| (encap.remote_port, encap.local_port)),
        soft: soft_time(child),
        hard: child.lifetime_hard,
        bytes_soft: soft_bytes(child),
        bytes_hard: child.bytes_hard,
        replay_window: child.replay_window,
    }
}

/// The SA of what we send.
pub fn outbound<A>(child: &ChildInstall, algorithms: A) -> SaEntry<'_, A> {
    let names = &child.names;
    SaEntry {
        source: names.local,
        destination: names.remote,
        spi: names.outbound_spi,
        protocol: names.protocol,
        transport: names.transport,
        reqid: names.reqid,
        algorithms,
        encr_key: child.keys.outbound_encr.expose(),
        integ_key: child.keys.outbound_integ.expose(),
        encap: child
            .encap
            .map(|encap| (encap.local_port, encap.remote_port)),
        // One warning by time for each Child SA is enough; bytes are counted on both.
        soft: Duration::ZERO,
        hard: child.lifetime_hard,
        bytes_soft: soft_bytes(child),
        bytes_hard: child.bytes_hard,
        replay_window: child.replay_window,
    }
}

/// A soft limit at or past the hard one would never be heard.
fn soft_time(child: &ChildInstall) -> Duration {
    let hard = child.lifetime_hard;
    if hard.is_zero() || child.lifetime_soft < hard {
        child.lifetime_soft
    } else {
        Duration::ZERO
    }
}

fn soft_bytes(child: &ChildInstall) -> u64 {
    let hard = child.bytes_hard;
    if hard == 0 || child.bytes_soft < hard {
        child.bytes_soft
    } else {
        0
    }
}

/// What the policy of a trap demands: an SA that there never is.
pub fn trap(trap: &Trap, reqid: u32) -> Template {
    Template {
        source: trap.local,
        destination: trap.remote,
        protocol: trap.protocol,
        transport: trap.transport,
        reqid,
    }
}

/// The policies of a Child SA: for each selector pair one for each direction, but none for packets
/// that a host in transport mode would have to forward.
pub fn policies(
    child: &ChildRemove,
) -> impl Iterator<Item = (Direction, SelectorPair, Template)> + use<> {
    let inward = Template {
        source: child.remote,
        destination: child.local,
        protocol: child.protocol,
        transport: child.transport,
        reqid: child.reqid,
    };
    let outward = Template {
        source: child.local,
        destination: child.remote,
        ..inward
    };
    let all = [
        (Direction::In, inward),
        (Direction::Forward, inward),
        (Direction::Out, outward),
    ];
    let transport = child.transport;
    let wanted = move |direction| direction != Direction::Forward || !transport;
    child.selectors.clone().into_iter().flat_map(move |pair| {
        let wanted = all
            .into_iter()
            .filter(move |(direction, _)| wanted(*direction));
        wanted.map(move |(direction, template)| (direction, pair, template))
    })
}
