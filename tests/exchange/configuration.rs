//! What a CFG_REPLY says (RFC 7296, 3.15.1): each `config` entry, as its attribute has it.

use std::time::Duration;

use iked::crypto::Rng;
use iked::ike::Command;
use iked::ike::grant;
use iked::ike::lease::{self, Lease, Pools};
use iked::kernel::Grant;
use iked::policy::domain::Domain;
use iked::policy::{CfgEntry, Policy};
use iked::wire::registry::{CfgAttrType, CfgType, ExchangeType};
use iked::wire::{CfgAttribute, Cp, Payload};

use super::peer::{Peer, range};
use super::setup::{config, net, no_keys, pool_gateway, pool_warrior};
use super::world::{Host, Pair, Side, at};

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
            Payload::Cp(cp) if cp.kind == CfgType::REPLY => Some(cp.attributes.to_vec()),
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

fn split_dns() -> Policy {
    let mut policy = pool_gateway("10.8.0.0/22");
    let anchors = vec!["20326 8 2 e06d44b8".parse().unwrap()];
    let domain = |name: &str, anchors| Domain {
        anchors,
        ..Domain::new(name.as_bytes()).unwrap()
    };
    policy.domains = vec![
        domain("corp.example", anchors),
        domain("lab.example.", vec![]),
    ];
    policy.config.push(CfgEntry {
        attribute: CfgAttrType::INTERNAL_IP4_DNS,
        value: net("10.9.0.1/32"),
        is_pool: false,
    });
    policy
}

/// What a CFG_REQUEST for these is answered with, as far as RFC 8598 has a say in it.
fn domains_for(policy: &Policy, asked: &[CfgAttrType]) -> Vec<(CfgAttrType, Vec<u8>)> {
    let attributes = asked.iter().map(|&kind| CfgAttribute { kind, value: &[] });
    let request = Cp {
        kind: CfgType::REQUEST,
        attributes: attributes.collect(),
    };
    let (mut pools, mut rng) = (Pools::new(0, 1), Rng::from_seed([1; 32]));
    let by = (policy, &[][..]);
    let answered = lease::answer(&mut pools, &mut rng, by, Some(&request), Lease::default());
    let mut reply = answered.unwrap().1.unwrap();
    reply.retain(|(kind, _)| [DOMAIN, ANCHOR].contains(kind));
    reply
}

const DOMAIN: CfgAttrType = CfgAttrType::INTERNAL_DNS_DOMAIN;
const ANCHOR: CfgAttrType = CfgAttrType::INTERNAL_DNSSEC_TA;

#[test]
fn domains_and_anchors_are_given_to_whoever_asks_for_them_and_only_with_a_name_server() {
    let policy = split_dns();
    let (corp, lab) = (b"corp.example".to_vec(), b"lab.example.".to_vec());
    let anchor = [&[0x4f, 0x66, 8, 2], &b"E06D44B8"[..]].concat();
    let dns = CfgAttrType::INTERNAL_IP4_DNS;
    assert_eq!(domains_for(&policy, &[dns]), []);
    assert_eq!(domains_for(&policy, &[dns, ANCHOR]), []);
    let only_names = [(DOMAIN, corp.clone()), (DOMAIN, lab.clone())];
    assert_eq!(domains_for(&policy, &[dns, DOMAIN]), only_names);
    // An anchor is behind its domain (RFC 8598, 4.2).
    let all = [(DOMAIN, corp), (ANCHOR, anchor), (DOMAIN, lab)];
    assert_eq!(domains_for(&policy, &[dns, DOMAIN, ANCHOR]), all);
    let mut without = policy;
    without.config.retain(|entry| entry.attribute != dns);
    assert_eq!(domains_for(&without, &[dns, DOMAIN, ANCHOR]), []);
}

#[test]
fn an_initiator_asks_for_domains_and_takes_what_it_asked_for() {
    for asks in [false, true] {
        let mut warrior = pool_warrior();
        if asks {
            warrior.request.extend([(DOMAIN, None), (ANCHOR, None)]);
        }
        let mut pair = Pair::new((warrior, no_keys()), (split_dns(), no_keys()));
        pair.connect();
        assert!(pair.is_up(), "{:?}", pair.initiator.lines);
        let said = |line: &str| pair.initiator.lines.iter().any(|l| l.ends_with(line));
        let domains = "dns-domain corp.example (20326 8 2 E06D44B8), dns-domain lab.example.";
        assert_eq!(said(domains), asks);
    }
}

#[test]
fn whoever_asks_for_anchors_asks_for_domains_and_whoever_asks_for_those_for_name_servers() {
    let asked = |kinds: &[CfgAttrType]| {
        let mut policy = pool_warrior();
        policy.request = kinds.iter().map(|kind| (*kind, None)).collect();
        lease::asked(&policy)
    };
    let (four, six) = (CfgAttrType::INTERNAL_IP4_DNS, CfgAttrType::INTERNAL_IP6_DNS);
    assert_eq!(asked(&[ANCHOR]), [ANCHOR, DOMAIN, four, six]);
    assert_eq!(asked(&[six, DOMAIN]), [six, DOMAIN]);
    assert_eq!(asked(&[four]), [four]);
}

#[test]
fn domains_that_are_none_are_passed_over_with_their_anchors() {
    let mut policy = pool_warrior();
    policy.request.extend([(DOMAIN, None), (ANCHOR, None)]);
    let dns = (CfgAttrType::INTERNAL_IP4_DNS, &[10, 9, 0, 1][..]);
    let taken = |kind, attributes: &[(CfgAttrType, &[u8])]| {
        let attributes = attributes.iter();
        let attributes = attributes.map(|&(kind, value)| CfgAttribute { kind, value });
        let attributes = attributes.collect();
        let granted = grant::read(&policy, &[Payload::Cp(Cp { kind, attributes })]);
        let domains = granted.domains.iter();
        let shown = domains.map(|d| format!("{} {}", d.name, d.anchors.len()));
        shown.collect::<Vec<_>>()
    };
    let anchor = (ANCHOR, &[0, 1, 8, 2, 0xaa][..]);
    let good = (DOMAIN, &b"corp.example"[..]);
    let bad = (DOMAIN, &b"corp\n.example"[..]);
    let long = (DOMAIN, &[b'a'; 300][..]);
    let short = (ANCHOR, &[0, 1, 8, 2][..]);
    let reply = CfgType::REPLY;
    assert_eq!(
        taken(reply, &[dns, good, anchor, anchor]),
        ["corp.example 2"]
    );
    assert_eq!(
        taken(reply, &[dns, anchor, good, short]),
        ["corp.example 0"]
    );
    assert_eq!(taken(reply, &[dns, good, bad, anchor]), ["corp.example 0"]);
    // Behind something else, asked for or not, an anchor is nobody's (RFC 8598, 4.2).
    let other = (CfgAttrType::INTERNAL_IP4_NBNS, &[10, 9, 0, 2][..]);
    assert_eq!(
        taken(reply, &[dns, good, other, anchor]),
        ["corp.example 0"]
    );
    assert_eq!(taken(reply, &[dns, long, anchor, good]), ["corp.example 0"]);
    // Without a name server, and in anything but a reply, they mean nothing.
    assert_eq!(taken(reply, &[good]), Vec::<String>::new());
    assert_eq!(taken(CfgType::SET, &[dns, good]), Vec::<String>::new());
    let many: Vec<_> = std::iter::once(dns).chain([good; 200]).collect();
    assert_eq!(taken(reply, &many).len(), 64);
}

/// What a policy that asks for everything takes from a CFG_REPLY.
fn granted(attributes: &[(CfgAttrType, &[u8])]) -> Grant {
    let kinds = [
        CfgAttrType::INTERNAL_IP4_ADDRESS,
        CfgAttrType::INTERNAL_IP6_ADDRESS,
        CfgAttrType::INTERNAL_IP4_DNS,
        CfgAttrType::INTERNAL_IP6_DNS,
        CfgAttrType::INTERNAL_IP4_SUBNET,
        CfgAttrType::INTERNAL_IP6_SUBNET,
    ];
    let policy = Policy {
        request: kinds.map(|kind| (kind, None)).to_vec(),
        ..pool_warrior()
    };
    let attributes = attributes.iter();
    let attributes = attributes.map(|&(kind, value)| CfgAttribute { kind, value });
    let cp = Cp {
        kind: CfgType::REPLY,
        attributes: attributes.collect(),
    };
    grant::read(&policy, &[Payload::Cp(cp)])
}

#[test]
fn everything_that_a_gateway_grants_is_read_and_what_has_no_sense_is_not() {
    let mut v6 = [0; 17];
    (v6[0], v6[15], v6[16]) = (0xfd, 9, 64);
    let address = (CfgAttrType::INTERNAL_IP4_ADDRESS, &[10, 9, 0, 7][..]);
    let good = granted(&[
        address,
        (CfgAttrType::INTERNAL_IP4_NETMASK, &[255, 255, 255, 0]),
        (CfgAttrType::INTERNAL_IP6_ADDRESS, &v6),
        (CfgAttrType::INTERNAL_IP4_DNS, &[10, 9, 0, 1]),
        (CfgAttrType::INTERNAL_IP6_DNS, &v6[..16]),
        (
            CfgAttrType::INTERNAL_IP4_SUBNET,
            &[10, 0, 3, 3, 255, 0, 0, 0],
        ),
        (CfgAttrType::INTERNAL_IP6_SUBNET, &v6),
    ]);
    let line = "address 10.9.0.7/24, address fd00::9/64, name-server 10.9.0.1, \
                name-server fd00::9, protected-subnet 10.0.0.0/8, protected-subnet fd00::/64";
    assert_eq!(good.to_string(), line);
    // Half a mask, one with holes and a prefix too long are none; then it is a host's.
    let holes = (CfgAttrType::INTERNAL_IP4_NETMASK, &[255, 0, 255, 0][..]);
    assert_eq!(
        granted(&[address, holes]).to_string(),
        "address 10.9.0.7/32"
    );
    v6[16] = 129;
    let nonsense = granted(&[
        (CfgAttrType::INTERNAL_IP4_ADDRESS, &[127, 0, 0, 1]),
        (CfgAttrType::INTERNAL_IP6_ADDRESS, &[0xff; 16]),
        (CfgAttrType::INTERNAL_IP4_DNS, &[0; 4]),
        (CfgAttrType::INTERNAL_IP4_DNS, &[10, 9, 0]),
        (CfgAttrType::INTERNAL_IP4_SUBNET, &[10, 0, 0, 0]),
        (
            CfgAttrType::INTERNAL_IP4_SUBNET,
            &[10, 0, 0, 0, 0, 255, 0, 0],
        ),
        (CfgAttrType::INTERNAL_IP6_SUBNET, &v6),
    ]);
    assert!(nonsense.is_empty(), "{nonsense}");
    let many = [(CfgAttrType::INTERNAL_IP4_DNS, &[10, 9, 0, 1][..]); 100];
    assert_eq!(granted(&many).name_servers.len(), 64);
}

#[test]
fn the_kernel_thread_has_a_grant_from_the_first_ike_sa_to_the_end_of_the_last() {
    let warrior = Policy {
        iface: Some("vpn0".to_owned()),
        ike_lifetime: Duration::from_secs(3600),
        ..pool_warrior()
    };
    let gateway = pool_gateway("10.8.0.0/22");
    let mut pair = Pair::new((warrior, no_keys()), (gateway, no_keys()));
    pair.connect();
    let grants = |pair: &Pair| pair.initiator.kernel.grants.clone();
    let [(_, grant)] = &grants(&pair)[..] else {
        panic!("{:?}", grants(&pair));
    };
    assert_eq!(grant.iface.as_deref(), Some("vpn0"));
    assert_eq!(grant.addresses.len(), 1);
    assert_eq!(grant.addresses[0].len, 22);
    let before = grants(&pair);
    pair.seconds = 3599;
    let sent = pair.initiator.wake(at(3599));
    pair.run(Side::Initiator, sent);
    assert!(pair.initiator.said("rekeyed as"));
    assert_eq!(grants(&pair), before);
    let now = pair.now();
    let sent = pair.initiator.command(now, Command::ResetSa);
    pair.run(Side::Initiator, sent);
    assert_eq!(grants(&pair), []);
    assert_eq!(pair.responder.kernel.grants, []);
}
