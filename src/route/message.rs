//! Messages of NETLINK_ROUTE that concern addresses and interfaces (linux/rtnetlink.h,
//! linux/if_addr.h, linux/if_link.h), and what any message says. Those of routes are in [`way`].

use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoXfrm, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::way::{self, Route};

/// Multicast groups, RTNLGRP_*.
pub mod group {
    /// IPv4 addresses.
    pub const IPV4_IFADDR: u32 = 5;
    /// IPv6 addresses.
    pub const IPV6_IFADDR: u32 = 9;
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkAddress {
    /// Of the interface.
    pub index: u32,
    /// Our own end.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub len: u8,
}

/// What one message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// An address of this host.
    Address {
        /// Where.
        at: LinkAddress,
        /// This host may send from it (by now).
        usable: bool,
        /// It was set by this daemon, or by one before it.
        ours: bool,
    },
    /// An interface of this host.
    Link {
        /// The number of an XFRM interface, zero where it is for any.
        xfrm: Option<u32>,
    },
    /// A route in our table, set by this daemon or by one before it.
    Route(Route),
    /// The rule that leads there, likewise.
    Rule {
        /// For IPv4 (else IPv6).
        v4: bool,
    },
    /// The end of a dump.
    Done,
    /// The request failed; errno, positive. Zero: it is done.
    Error(i32),
    /// Nothing of interest.
    Other,
}

/// A message: its sequence number, whether the table changed while it was dumped, and what it says.
pub type Message = (u32, bool, Told);

/// Asks for all addresses of both families.
pub fn dump_addresses(seq: u32) -> Vec<u8> {
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    encode(seq, NLM_F_DUMP, all)
}

/// Asks for one interface.
pub fn get_link(seq: u32, index: u32) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    encode(seq, 0, RouteNetlinkMessage::GetLink(message))
}

/// Sets an address, marked as ours; a refusal or its success is told.
pub fn add_address(seq: u32, at: LinkAddress) -> Vec<u8> {
    let mut message = address_message(at);
    if at.address.is_ipv6() {
        // The gateway gave it to nobody else, and behind the tunnel there is nobody to ask.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    let protocol = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
    message.attributes.push(protocol);
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    encode(seq, flags, RouteNetlinkMessage::NewAddress(message))
}

/// Takes an address away; a refusal or its success is told.
pub fn remove_address(seq: u32, at: LinkAddress) -> Vec<u8> {
    let message = RouteNetlinkMessage::DelAddress(address_message(at));
    encode(seq, NLM_F_ACK, message)
}

fn address_message(at: LinkAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match at.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = at.len;
    message.header.index = at.index;
    message.attributes = vec![
        AddressAttribute::Local(at.address),
        AddressAttribute::Address(at.address),
    ];
    message
}

pub(super) fn encode(seq: u32, flags: u16, message: RouteNetlinkMessage) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = seq;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The messages of one datagram, up to the first malformed one.
pub fn read(mut datagram: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some((one, rest)) = split(datagram) {
        all.push(one);
        datagram = rest;
    }
    all
}

fn split(datagram: &[u8]) -> Option<(Message, &[u8])> {
    let buffer = NetlinkBuffer::new_checked(&datagram).ok()?;
    let (len, seq) = (buffer.length() as usize, buffer.sequence_number());
    let interrupted = buffer.flags() & NLM_F_DUMP_INTR != 0;
    let told =
        match NetlinkMessage::deserialize(datagram.get(..len)?).map(NetlinkMessage::into_parts) {
            Ok((_, NetlinkPayload::Done(_))) => Told::Done,
            Ok((_, NetlinkPayload::Error(error))) => Told::Error(error.raw_code().saturating_neg()),
            Ok((_, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)))) => {
                address(&message).unwrap_or(Told::Other)
            }
            Ok((_, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)))) => {
                Told::Link {
                    xfrm: xfrm_interface(&message),
                }
            }
            Ok((_, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message)))) => {
                way::our_route(&message).map_or(Told::Other, Told::Route)
            }
            Ok((_, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRule(message)))) => {
                way::our_rule(&message).map_or(Told::Other, |v4| Told::Rule { v4 })
            }
            Ok(_) | Err(_) => Told::Other,
        };
    let rest = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some(((seq, interrupted, told), rest))
}

/// What an XFRM interface says of itself; `None` for any other.
fn xfrm_interface(message: &LinkMessage) -> Option<u32> {
    let infos = message.attributes.iter().find_map(|attribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else {
            return None;
        };
        Some(infos)
    })?;
    if !infos.contains(&LinkInfo::Kind(InfoKind::Xfrm)) {
        return None;
    }
    let number = infos.iter().find_map(|info| {
        let LinkInfo::Data(InfoData::Xfrm(fields)) = info else {
            return None;
        };
        fields.iter().find_map(|field| {
            let InfoXfrm::IfId(number) = field else {
                return None;
            };
            Some(*number)
        })
    });
    Some(number.unwrap_or(0))
}

fn address(message: &AddressMessage) -> Option<Told> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut local, mut address, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        if let AddressAttribute::Address(value) = attribute {
            address = Some(*value);
        } else if let AddressAttribute::Local(value) = attribute {
            local = Some(*value);
        } else if let AddressAttribute::Flags(value) = attribute {
            flags = *value;
        } else if let AddressAttribute::Protocol(setter) = attribute {
            ours = *setter == AddressProtocol::Other(PROTOCOL);
        }
    }
    let unproven = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let usable = !flags.intersects(unproven) || flags.contains(AddressFlags::Optimistic);
    // On a point-to-point link IFA_ADDRESS is the other end.
    let at = LinkAddress {
        index: message.header.index,
        address: local.or(address)?,
        len: message.header.prefix_len,
    };
    Some(Told::Address { at, usable, ours })
}

/// The protocol of our addresses (IFA_PROTO; Linux 5.18 and later), routes and rules: by it we know
/// them again after a crash.
pub(super) const PROTOCOL: u8 = 0x49;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_LEN: usize = 16;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const NEW_ADDR: u16 = 20;
    const DUMP_INTR: u16 = 0x10;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_FLAGS: u16 = 8;
    const IFA_PROTO: u16 = 11;

    /// On interface 2, prefix length 24.
    fn there(address: &str, usable: bool, ours: bool) -> Told {
        let at = LinkAddress {
            index: 2,
            address: address.parse().unwrap(),
            len: 24,
        };
        Told::Address { at, usable, ours }
    }

    fn message(kind: u16, flags: u16, seq: u32, body: &[u8]) -> Vec<u8> {
        let len = (HEADER_LEN + body.len()) as u32;
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&seq.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes
    }

    fn told_address(family: i32, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family as u8, 24, flags, 0];
        body.extend_from_slice(&2u32.to_ne_bytes());
        for (kind, value) in attributes {
            body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    #[test]
    fn a_dump_gives_our_own_end_of_each_link_and_its_end() {
        let tunnel = told_address(
            libc::AF_INET,
            0x80,
            &[
                (IFA_ADDRESS, &[10, 0, 0, 2]),
                (IFA_LOCAL, &[10, 0, 0, 1]),
                (3, b"tun0\0"),
            ],
        );
        let mut v6 = [0; 16];
        (v6[0], v6[15]) = (0xfd, 7);
        let network = told_address(
            libc::AF_INET6,
            0,
            &[(IFA_ADDRESS, &v6), (IFA_PROTO, &[PROTOCOL])],
        );
        let mut datagram = message(NEW_ADDR, 2, 7, &tunnel);
        datagram.extend(message(NEW_ADDR, 2 | DUMP_INTR, 7, &network));
        datagram.extend(message(DONE, 2, 7, &[0; 4]));
        assert_eq!(
            read(&datagram),
            [
                (7, false, there("10.0.0.1", true, false)),
                (7, true, there("fd00::7", true, true)),
                (7, false, Told::Done),
            ]
        );
    }

    #[test]
    fn an_address_that_is_not_yet_proven_unique_is_none() {
        let mut v6 = [0; 16];
        (v6[0], v6[15]) = (0xfd, 7);
        let at = [(IFA_ADDRESS, &v6[..])];
        let unproven = there("fd00::7", false, false);
        let tentative = told_address(libc::AF_INET6, 0x40, &at);
        assert_eq!(
            read(&message(NEW_ADDR, 2, 1, &tentative)),
            [(1, false, unproven)]
        );
        // The attribute has all flags and wins over the byte.
        let flags = 0x40u32.to_ne_bytes();
        let attributes = [at[0], (IFA_FLAGS, &flags[..])];
        let tentative = told_address(libc::AF_INET6, 0, &attributes);
        assert_eq!(
            read(&message(NEW_ADDR, 2, 1, &tentative)),
            [(1, false, unproven)]
        );
    }

    #[test]
    fn an_address_that_we_set_is_marked_and_read_back() {
        for (text, family, flags) in [("10.0.0.1", 2u8, 0u8), ("fd00::7", 10, 2)] {
            let at = LinkAddress {
                index: 2,
                address: text.parse().unwrap(),
                len: 24,
            };
            let mut asked = add_address(7, at);
            assert_eq!(
                asked[4..8],
                [20, 0, 0x05, 0x06],
                "RTM_NEWADDR, excl | create, ack"
            );
            assert_eq!(asked[16..20], [family, 24, flags, 0]);
            asked[6..8].copy_from_slice(&[0, 0]);
            assert_eq!(read(&asked), [(7, false, there(text, true, true))]);
            assert_eq!(remove_address(8, at)[4..8], [21, 0, 0x05, 0]);
        }
    }

    /// An attribute, padded.
    fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_interface_tells_whether_it_is_an_xfrm_interface() {
        let link = |info: &[Vec<u8>]| {
            // struct ifinfomsg, then IFLA_IFNAME and IFLA_LINKINFO.
            let mut body = vec![0; 16];
            body.extend(attribute(3, b"office\0"));
            body.extend(attribute(18, &info.concat()));
            match read(&message(16, 0, 3, &body))[..] {
                [(3, false, Told::Link { xfrm })] => xfrm,
                ref told => panic!("{told:?}"),
            }
        };
        let kind = |name: &[u8]| attribute(1, name);
        let numbers = [
            attribute(1, &4u32.to_ne_bytes()),
            attribute(2, &42u32.to_ne_bytes()),
        ];
        let numbered = attribute(2, &numbers.concat());
        assert_eq!(link(&[kind(b"xfrm\0"), numbered]), Some(42));
        assert_eq!(link(&[kind(b"xfrm\0")]), Some(0));
        assert_eq!(link(&[kind(b"veth\0")]), None);
        assert_eq!(get_link(3, 9)[4..6], [18, 0], "RTM_GETLINK");
        assert_eq!(get_link(3, 9)[20..24], 9u32.to_ne_bytes());
    }

    #[test]
    fn malformed_messages_end_the_datagram_and_harm_nobody() {
        let refusal = message(ERROR, 0, 3, &(-13i32).to_ne_bytes());
        assert_eq!(read(&refusal), [(3, false, Told::Error(13))]);
        let good = told_address(libc::AF_INET, 0, &[(IFA_ADDRESS, &[10, 0, 0, 2])]);
        let whole = message(NEW_ADDR, 2, 1, &good);
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_empty(), "{len} bytes");
        }
        let mut lying = whole;
        lying[24..26].copy_from_slice(&3u16.to_ne_bytes());
        assert_eq!(read(&lying), [(1, false, Told::Other)]);
        lying[0..4].copy_from_slice(&2u32.to_ne_bytes());
        assert!(read(&lying).is_empty());
    }
}
