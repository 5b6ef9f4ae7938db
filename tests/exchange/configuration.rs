//! What a CFG_REPLY says (RFC 7296, 3.15.1): each `config` entry, as its attribute has it.

use iked::policy::{CfgEntry, Policy};
use iked::wire::Payload;
use iked::wire::registry::{CfgAttrType, CfgType, ExchangeType};

use super::peer::{Peer, range};
use super::setup::{config, net, no_keys, pool_gateway};
use super::world::{Host, at};

/// Logs in at a gateway with these entries beside its pool; the reply, but for the address.
fn reply(entries: &[(CfgAttrType, &str)]) -> Vec<(CfgAttrType, Vec<u8>)> {
    let mut policy: Policy = pool_gateway("10.8.0.0/22");
    policy
        .config
        .extend(entries.iter().map(|(attribute, value)| CfgEntry {
            attribute: *attribute,
            value: net(value),
            is_pool: false,
        }));
    let mut host = Host::new(config([policy]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    payloads.ask_address = true;
    payloads.ts_i = vec![range("0.0.0.0", "255.255.255.255")];
    let opened = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads.borrow());
    let attributes: Vec<_> = opened
        .payloads()
        .into_iter()
        .filter_map(|payload| match payload {
            Payload::Cp(cp) if cp.kind == CfgType::REPLY => Some(cp.attributes),
            _ => None,
        })
        .flatten()
        .map(|attribute| (attribute.kind, attribute.value.to_vec()))
        .collect();
    let ((kind, address), rest) = attributes.split_first().expect("a CFG_REPLY");
    assert_eq!(*kind, CfgAttrType::INTERNAL_IP4_ADDRESS);
    assert_eq!((address.len(), &address[..2]), (4, &[10, 8][..]));
    rest.to_vec()
}

#[test]
fn the_netmask_is_the_pools_unless_one_is_configured() {
    let mask = CfgAttrType::INTERNAL_IP4_NETMASK;
    assert_eq!(reply(&[]), [(mask, vec![255, 255, 252, 0])]);
    let configured = reply(&[(mask, "255.255.255.255/32")]);
    assert_eq!(configured, [(mask, vec![255; 4])]);
}

#[test]
fn servers_and_subnets_of_both_families_are_given_each_as_often_as_configured() {
    let v6 = |last| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
    let rows = [
        (
            CfgAttrType::INTERNAL_IP4_DNS,
            "10.9.0.1/32",
            vec![10, 9, 0, 1],
        ),
        (
            CfgAttrType::INTERNAL_IP4_DNS,
            "10.9.0.2/32",
            vec![10, 9, 0, 2],
        ),
        (CfgAttrType::INTERNAL_IP6_DNS, "2001:db8::1/128", v6(1)),
        (CfgAttrType::INTERNAL_IP6_DNS, "2001:db8::2/128", v6(2)),
        (
            CfgAttrType::INTERNAL_IP4_NBNS,
            "10.9.0.3/32",
            vec![10, 9, 0, 3],
        ),
        (
            CfgAttrType::INTERNAL_IP4_NBNS,
            "10.9.0.4/32",
            vec![10, 9, 0, 4],
        ),
        (
            CfgAttrType::INTERNAL_IP4_DHCP,
            "10.9.0.5/32",
            vec![10, 9, 0, 5],
        ),
        (
            CfgAttrType::INTERNAL_IP4_DHCP,
            "10.9.0.6/32",
            vec![10, 9, 0, 6],
        ),
        (CfgAttrType::INTERNAL_IP6_DHCP, "2001:db8::7/128", v6(7)),
        // A subnet has its mask behind it, for IPv6 its prefix length.
        (
            CfgAttrType::INTERNAL_IP4_SUBNET,
            "10.1.0.0/16",
            vec![10, 1, 0, 0, 255, 255, 0, 0],
        ),
        (
            CfgAttrType::INTERNAL_IP4_SUBNET,
            "10.3.0.0/20",
            vec![10, 3, 0, 0, 255, 255, 240, 0],
        ),
        (CfgAttrType::INTERNAL_IP4_SUBNET, "0.0.0.0/0", vec![0; 8]),
        (
            CfgAttrType::INTERNAL_IP6_SUBNET,
            "2001:db8::/32",
            [v6(0), vec![32]].concat(),
        ),
    ];
    let entries: Vec<_> = rows
        .iter()
        .map(|(kind, value, _)| (*kind, *value))
        .collect();
    let mut expected = vec![(CfgAttrType::INTERNAL_IP4_NETMASK, vec![255, 255, 252, 0])];
    expected.extend(rows.iter().map(|(kind, _, octets)| (*kind, octets.clone())));
    assert_eq!(reply(&entries), expected);
}
