//! Messages of NETLINK_ROUTE that concern routes and rules (linux/rtnetlink.h, linux/fib_rules.h):
//! a table of our own, and the rule that has the kernel look there before its main table.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::message::{PROTOCOL, encode};
use crate::sys::net::OUTSIDE_MARK;

/// The routing table of ours, and the priority of the rule that leads to it. Those of OpenIKED.
pub const TABLE: u8 = 210;

/// Where packets go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// An address, host bits zero.
    pub address: IpAddr,
    /// Length in bits.
    pub len: u8,
}

impl Prefix {
    /// One address alone.
    pub const fn host(address: IpAddr) -> Self {
        let len = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { address, len }
    }
}

/// What a route in our table says of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Course {
    /// The other tables say where they go.
    Elsewhere,
    /// By an interface.
    Out {
        /// Of the interface.
        index: u32,
        /// The address that they come from where the sender has not chosen one.
        source: IpAddr,
    },
}

/// A route in our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// For these packets.
    pub to: Prefix,
    /// What it says.
    pub course: Course,
}

/// Asks for all routes of both families.
pub fn dump_routes(seq: u32) -> Vec<u8> {
    let all = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    encode(seq, NLM_F_DUMP, all)
}

/// Asks for all rules of both families.
pub fn dump_rules(seq: u32) -> Vec<u8> {
    let all = RouteNetlinkMessage::GetRule(RuleMessage::default());
    encode(seq, NLM_F_DUMP, all)
}

/// Sets a route, marked as ours; a refusal or its success is told.
pub fn add_route(seq: u32, route: Route) -> Vec<u8> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    encode(
        seq,
        flags,
        RouteNetlinkMessage::NewRoute(route_message(route)),
    )
}

/// Sets a route in the place of another with the same destination.
pub fn replace_route(seq: u32, route: Route) -> Vec<u8> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    encode(
        seq,
        flags,
        RouteNetlinkMessage::NewRoute(route_message(route)),
    )
}

/// Takes a route away; a refusal or its success is told.
pub fn remove_route(seq: u32, route: Route) -> Vec<u8> {
    let mut message = route_message(route);
    message.header.scope = RouteScope::NoWhere;
    encode(seq, NLM_F_ACK, RouteNetlinkMessage::DelRoute(message))
}

/// Has all packets of a family looked up in our table, but those that must stay outside.
pub fn add_rule(seq: u32, v4: bool) -> Vec<u8> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    encode(seq, flags, RouteNetlinkMessage::NewRule(rule_message(v4)))
}

/// Takes the rule away; a refusal or its success is told.
pub fn remove_rule(seq: u32, v4: bool) -> Vec<u8> {
    let message = RouteNetlinkMessage::DelRule(rule_message(v4));
    encode(seq, NLM_F_ACK, message)
}

fn route_message(route: Route) -> RouteMessage {
    let Route { to, course } = route;
    let mut header = RouteHeader {
        address_family: family(to.address.is_ipv4()),
        destination_prefix_length: to.len,
        table: TABLE,
        protocol: RouteProtocol::from(PROTOCOL),
        ..RouteHeader::default()
    };
    let mut attributes = vec![RouteAttribute::Destination(to.address.into())];
    match course {
        Course::Elsewhere => {
            header.scope = RouteScope::Universe;
            header.kind = RouteType::Throw;
        }
        Course::Out { index, source } => {
            header.scope = RouteScope::Link;
            header.kind = RouteType::Unicast;
            attributes.push(RouteAttribute::PrefSource(source.into()));
            attributes.push(RouteAttribute::Oif(index));
        }
    }
    let mut message = RouteMessage::default();
    message.header = header;
    message.attributes = attributes;
    message
}

fn rule_message(v4: bool) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(v4);
    message.header.table = TABLE;
    message.header.action = RuleAction::ToTable;
    message.header.flags = RuleFlags::Invert;
    message.attributes = vec![
        RuleAttribute::Priority(u32::from(TABLE)),
        RuleAttribute::FwMark(OUTSIDE_MARK),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
    ];
    message
}

const fn family(v4: bool) -> AddressFamily {
    if v4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// The route that a message tells of, if it is one of ours.
pub(super) fn our_route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.table != TABLE || header.protocol != RouteProtocol::from(PROTOCOL) {
        return None;
    }
    let (mut to, mut source, mut index) = (None, None, None);
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(address) = attribute {
            to = ip(address);
        } else if let RouteAttribute::PrefSource(address) = attribute {
            source = ip(address);
        } else if let RouteAttribute::Oif(number) = attribute {
            index = Some(*number);
        }
    }
    // The destination of a default route is left out.
    let any = if is_v4(header.address_family)? {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let to = Prefix {
        address: to.unwrap_or(any),
        len: header.destination_prefix_length,
    };
    let course = if header.kind == RouteType::Throw {
        Course::Elsewhere
    } else {
        Course::Out {
            index: index?,
            source: source?,
        }
    };
    Some(Route { to, course })
}

/// Whether a message tells of our rule, and if so whether of the one for IPv4.
pub(super) fn our_rule(message: &RuleMessage) -> Option<bool> {
    let has = |attribute| message.attributes.contains(&attribute);
    let ours = message.header.table == TABLE
        && has(RuleAttribute::Priority(u32::from(TABLE)))
        && has(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    is_v4(message.header.family).filter(|_| ours)
}

/// Whether a family is IPv4 (else IPv6); others are of no interest.
fn is_v4(family: AddressFamily) -> Option<bool> {
    let known = [AddressFamily::Inet, AddressFamily::Inet6].contains(&family);
    known.then_some(family == AddressFamily::Inet)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(v4) = address {
        Some(IpAddr::V4(*v4))
    } else if let RouteAddress::Inet6(v6) = address {
        Some(IpAddr::V6(*v6))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Told, read};
    use super::*;

    fn prefix(text: &str, len: u8) -> Prefix {
        Prefix {
            address: text.parse().unwrap(),
            len,
        }
    }

    fn out(to: Prefix, source: &str) -> Route {
        let source = source.parse().unwrap();
        let course = Course::Out { index: 7, source };
        Route { to, course }
    }

    /// What the kernel tells of it, which has no flags of a request.
    fn told(mut request: Vec<u8>) -> Told {
        request[6..8].copy_from_slice(&[0, 0]);
        match read(&request)[..] {
            [(3, false, told)] => told,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_route_of_ours_is_marked_and_read_back() {
        let all = [
            out(prefix("10.1.0.0", 16), "10.9.0.7"),
            out(prefix("::", 0), "fd00::7"),
            Route {
                to: Prefix::host("192.0.2.1".parse().unwrap()),
                course: Course::Elsewhere,
            },
        ];
        for route in all {
            assert_eq!(told(add_route(3, route)), Told::Route(route));
        }
        let asked = add_route(3, all[0]);
        let flags = [24, 0, 0x05, 0x06];
        assert_eq!(asked[4..8], flags, "RTM_NEWROUTE, excl | create, ack");
        // struct rtmsg: IPv4, /16, table 210, protocol 0x49, scope link, unicast.
        assert_eq!(asked[16..24], [2, 16, 0, 0, 210, 0x49, 253, 1]);
        assert_eq!(replace_route(3, all[0])[4..8], [24, 0, 0x05, 0x05]);
        let away = remove_route(3, all[2]);
        assert_eq!(away[4..8], [25, 0, 0x05, 0], "RTM_DELROUTE, ack");
        assert_eq!(away[16..24], [2, 32, 0, 0, 210, 0x49, 255, 9]);
    }

    #[test]
    fn a_default_route_has_no_destination_when_it_is_told() {
        // struct rtmsg, RTA_PREFSRC, RTA_OIF.
        let mut body = vec![2, 0, 0, 0, 210, 0x49, 253, 1, 0, 0, 0, 0];
        body.extend([8, 0, 7, 0, 10, 9, 0, 7, 8, 0, 4, 0]);
        body.extend(7u32.to_ne_bytes());
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend([24, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        message.extend(body);
        let route = out(prefix("0.0.0.0", 0), "10.9.0.7");
        assert_eq!(told(message.clone()), Told::Route(route));
        for (at, other) in [(20, 254), (21, 4)] {
            let mut foreign = message.clone();
            foreign[at] = other;
            assert_eq!(told(foreign), Told::Other, "table or protocol of others");
        }
    }

    #[test]
    fn the_rule_is_for_all_but_marked_packets_and_read_back() {
        for (v4, family) in [(true, 2), (false, 10)] {
            let asked = add_rule(3, v4);
            assert_eq!(asked[4..8], [32, 0, 0x05, 0x06], "RTM_NEWRULE");
            // struct fib_rule_hdr: table 210, to that table, inverted.
            let header = [family, 0, 0, 0, 210, 0, 0, 1, 2, 0, 0, 0];
            assert_eq!(asked[16..28], header);
            assert_eq!(told(asked), Told::Rule { v4 });
            assert_eq!(remove_rule(3, v4)[4..8], [33, 0, 0x05, 0]);
        }
        let mut foreign = add_rule(3, true);
        foreign[20] = 211;
        assert_eq!(told(foreign), Told::Other);
    }
}
