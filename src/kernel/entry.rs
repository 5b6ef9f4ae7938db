//! A Child SA as the entries that every kernel makes of it: two SAs, and policies for each selector
//! pair. Numbers and bytes are the backend's.

use std::net::IpAddr;
use std::time::Duration;

use super::{ChildInstall, ChildRemove, SelectorPair, Trap};
use crate::policy::IfId;
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

/// The IP protocol of an SA's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpProtocol {
    /// RFC 4303.
    Esp,
    /// RFC 4302.
    Ah,
    /// RFC 3173.
    Comp,
}

impl From<ProtocolId> for IpProtocol {
    fn from(protocol: ProtocolId) -> Self {
        if protocol == ProtocolId::AH {
            Self::Ah
        } else {
            Self::Esp
        }
    }
}

/// A device of this host that does the cryptography of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Number of the device.
    pub device: u32,
    /// Whether the SA is for what comes in.
    pub inbound: bool,
}

/// One SA, one direction.
#[derive(Clone, Copy, Debug)]
pub struct SaEntry<'a, A> {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// SPI, or CPI, at the destination.
    pub spi: EspSpi,
    /// Of its packets.
    pub protocol: IpProtocol,
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
    /// The mark of packets that came through it.
    pub mark: Option<u32>,
    /// Its XFRM interface.
    pub if_id: Option<IfId>,
    /// The device that does its cryptography.
    pub offload: Option<Offload>,
}

/// What a policy demands of packets: the outer addresses and the reqid of the SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// ESP or AH.
    pub protocol: IpProtocol,
    /// Transport mode (else tunnel).
    pub transport: bool,
    /// Of the SAs.
    pub reqid: u32,
    /// Packets are compressed first.
    pub ipcomp: bool,
}

/// One SA that packets of a policy go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Of its packets.
    pub protocol: IpProtocol,
    /// Transport mode (else tunnel).
    pub transport: bool,
    /// Packets may do without: what does not become shorter is not compressed (RFC 3173, 2.2).
    pub optional: bool,
}

impl Template {
    /// The SAs that packets go through on their way out, the first one first. Whichever is first
    /// makes the tunnel.
    pub fn layers(&self, direction: Direction) -> impl Iterator<Item = Layer> + use<> {
        let comp = Layer {
            protocol: IpProtocol::Comp,
            transport: self.transport,
            optional: direction != Direction::Out,
        };
        let main = Layer {
            protocol: self.protocol,
            transport: self.transport || self.ipcomp,
            optional: false,
        };
        self.ipcomp.then_some(comp).into_iter().chain([main])
    }
}

/// The SA of what the peer sends.
pub fn inbound<A>(child: &ChildInstall, algorithms: A) -> SaEntry<'_, A> {
    let names = &child.names;
    SaEntry {
        source: names.remote,
        destination: names.local,
        spi: names.inbound_spi,
        protocol: names.protocol.into(),
        transport: names.transport || names.ipcomp.is_some(),
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
        mark: child.mark,
        if_id: child.if_id,
        offload: None,
    }
}

/// The SA of what we send.
pub fn outbound<A>(child: &ChildInstall, algorithms: A) -> SaEntry<'_, A> {
    let names = &child.names;
    SaEntry {
        source: names.local,
        destination: names.remote,
        spi: names.outbound_spi,
        protocol: names.protocol.into(),
        transport: names.transport || names.ipcomp.is_some(),
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
        mark: None,
        if_id: child.if_id,
        offload: None,
    }
}

/// The SAs of IPComp, if packets are compressed: inbound, outbound. `algorithms` are the backend's
/// words for DEFLATE. They outlive the others, which end the Child SA.
pub fn compression<A: Copy>(
    child: &ChildInstall,
    algorithms: A,
) -> impl Iterator<Item = SaEntry<'_, A>> {
    let names = &child.names;
    let (transport, reqid) = (names.transport, names.reqid);
    let (local, remote) = (names.local, names.remote);
    let hard = child.lifetime_hard.saturating_mul(2);
    names
        .comps()
        .zip([remote, local])
        .map(move |((destination, cpi), source)| SaEntry {
            source,
            destination,
            spi: cpi.as_spi(),
            protocol: IpProtocol::Comp,
            transport,
            reqid,
            algorithms,
            encr_key: &[],
            integ_key: &[],
            encap: None,
            soft: Duration::ZERO,
            hard,
            bytes_soft: 0,
            bytes_hard: 0,
            replay_window: 0,
            mark: None,
            if_id: child.if_id,
            offload: None,
        })
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

/// What the policy of a trap demands: an SA that there never is. One is enough.
pub fn trap(trap: &Trap, reqid: u32) -> Template {
    Template {
        source: trap.local,
        destination: trap.remote,
        protocol: trap.protocol.into(),
        transport: trap.transport,
        reqid,
        ipcomp: false,
    }
}

/// The policies of a Child SA: for each selector pair one for each direction, but none for packets
/// that a host in transport mode would have to forward, nor for those that have other addresses than
/// its SAs until they are translated.
pub fn policies(
    child: &ChildRemove,
) -> impl Iterator<Item = (Direction, SelectorPair, Template)> + use<> {
    let inward = Template {
        source: child.remote,
        destination: child.local,
        protocol: child.protocol.into(),
        transport: child.transport,
        reqid: child.reqid,
        ipcomp: child.ipcomp.is_some(),
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
        let wanted = all.into_iter().filter(move |(direction, _)| {
            wanted(*direction) && (!pair.outward || *direction == Direction::Out && !transport)
        });
        wanted.map(move |(direction, template)| (direction, pair, template))
    })
}

#[cfg(test)]
mod tests {
    use super::super::REQID_TAG;
    use super::*;
    use crate::policy::IpNet;

    #[test]
    fn what_only_goes_out_has_no_policy_for_what_comes_in() {
        let host = |text: &str| text.parse::<IpAddr>().unwrap();
        let pair = SelectorPair {
            protocol: 0,
            local: IpNet::host(host("10.1.0.1")),
            local_port: None,
            remote: IpNet::host(host("10.2.0.1")),
            remote_port: None,
            outward: false,
            if_id: None,
        };
        let before = SelectorPair {
            local: IpNet::host(host("192.168.0.1")),
            outward: true,
            ..pair
        };
        let child = ChildRemove {
            protocol: ProtocolId::ESP,
            transport: false,
            local: host("192.0.2.1"),
            remote: host("192.0.2.2"),
            inbound_spi: EspSpi::new(0x100).unwrap(),
            outbound_spi: EspSpi::new(0x200).unwrap(),
            reqid: REQID_TAG,
            ipcomp: None,
            selectors: vec![pair, before],
        };
        let all: Vec<_> = policies(&child).map(|(way, pair, _)| (way, pair)).collect();
        let wanted = [
            (Direction::In, pair),
            (Direction::Forward, pair),
            (Direction::Out, pair),
            (Direction::Out, before),
        ];
        assert_eq!(all, wanted);
        let child = ChildRemove {
            transport: true,
            ..child
        };
        let all: Vec<_> = policies(&child).map(|(way, pair, _)| (way, pair)).collect();
        assert_eq!(all, [(Direction::In, pair), (Direction::Out, pair)]);
    }
}
