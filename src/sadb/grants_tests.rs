//! Grants against an interface that notes what is done to it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::policy::domain::Domain;
use crate::wire::registry::ProtocolId;

/// One interface, `vpn0`, and what is set.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    there: BTreeSet<Piece>,
    /// Each change, in order.
    done: Vec<String>,
    resolver: Option<Names>,
}

impl Fake {
    fn there(&self) -> Vec<String> {
        self.0.lock().there.iter().map(Piece::to_string).collect()
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().done)
    }
}

impl Interfaces for Fake {
    fn index_of(&self, name: &str) -> io::Result<u32> {
        let known = [("lo", LOOPBACK), ("vpn0", 7)];
        let known = known.into_iter().find(|(known, _)| *known == name);
        known
            .map(|(_, index)| index)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    fn add(&mut self, piece: Piece) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.there.iter().any(|other| is_instead(*other, piece)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.done.push(format!("+ {piece}"));
        let fresh = state.there.insert(piece);
        fresh
            .then_some(())
            .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }

    fn replace(&mut self, to: Prefix, course: Course) -> io::Result<()> {
        let mut state = self.0.lock();
        let piece = Piece::Route(course, to);
        let before = state
            .there
            .iter()
            .copied()
            .find(|other| is_instead(*other, piece));
        assert!(before.is_some_and(|before| state.there.remove(&before)));
        state.there.insert(piece);
        state.done.push(format!("= {piece}"));
        Ok(())
    }

    fn remove(&mut self, piece: Piece) -> io::Result<()> {
        let mut state = self.0.lock();
        assert!(state.there.remove(&piece), "{piece} is not set");
        state.done.push(format!("- {piece}"));
        Ok(())
    }

    fn resolve(&mut self, iface: &str, names: Option<Names>) {
        assert_eq!(iface, "vpn0");
        let mut state = self.0.lock();
        let said = names
            .as_ref()
            .map_or_else(|| "nobody".to_owned(), Names::to_string);
        state.done.push(format!("ask {said}"));
        state.resolver = names;
    }
}

/// A Child SA with the gateway at 192.0.2.`gateway`, for packets between these networks.
fn child(spi: u32, gateway: u8, pairs: &[(&str, &str)]) -> ChildRemove {
    let pair = |(local, remote): &(&str, &str)| SelectorPair {
        protocol: 0,
        local: net(local),
        local_port: None,
        remote: net(remote),
        remote_port: None,
        outward: false,
        if_id: None,
    };
    ChildRemove {
        protocol: ProtocolId::ESP,
        transport: false,
        local: IpAddr::from([198, 51, 100, 1]),
        remote: IpAddr::from([192, 0, 2, gateway]),
        inbound_spi: EspSpi::new(spi).unwrap(),
        outbound_spi: EspSpi::new(spi + 1).unwrap(),
        reqid: 1,
        ipcomp: None,
        selectors: pairs.iter().map(pair).collect(),
    }
}

fn net(text: &str) -> IpNet {
    let (addr, len) = text.split_once('/').unwrap();
    IpNet {
        addr: addr.parse().unwrap(),
        len: len.parse().unwrap(),
    }
}

fn grant(iface: Option<&str>, addresses: &[&str]) -> Grant {
    let addresses = addresses.iter().map(|text| net(text));
    Grant {
        iface: iface.map(str::to_owned),
        addresses: addresses.collect(),
        ..Grant::default()
    }
}

fn name(shard: u8, id: u64) -> (ShardId, RequestId) {
    (ShardId(shard), RequestId(id))
}

#[test]
fn an_address_is_there_as_long_as_any_grant_has_it() {
    let fake = Fake::default();
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    let both = grant(Some("vpn0"), &["10.9.0.1/24", "fd00::1/64"]);
    grants.take(name(0, 1), both);
    assert_eq!(fake.there(), ["address 10.9.0.1/24", "address fd00::1/64"]);
    grants.take(name(1, 1), grant(Some("vpn0"), &["10.9.0.1/24"]));
    grants.give_back(name(0, 1));
    assert_eq!(fake.there(), ["address 10.9.0.1/24"]);
    assert_eq!(grants.all().count(), 1);
    grants.give_back(name(0, 1));
    grants.give_back(name(1, 1));
    assert!(fake.there().is_empty());
}

#[test]
fn what_another_set_and_what_has_no_interface_is_left_alone() {
    let fake = Fake::default();
    let theirs = Piece::Address(LinkAddress {
        index: 7,
        address: "10.9.0.1".parse().unwrap(),
        len: 24,
    });
    fake.0.lock().there.insert(theirs);
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    grants.take(
        name(0, 1),
        grant(Some("vpn0"), &["10.9.0.1/24", "10.9.0.2/24"]),
    );
    grants.take(name(0, 2), grant(Some("vpn1"), &["10.9.0.3/24"]));
    grants.take(name(0, 3), grant(None, &["10.9.0.4/24"]));
    for id in [2, 3] {
        let all = [("10.9.0.3/32", "0.0.0.0/0"), ("10.9.0.4/32", "0.0.0.0/0")];
        grants.lead(name(0, id), &child(0x100, 1, &all));
    }
    assert_eq!(fake.there().len(), 2);
    grants.give_back_all();
    assert_eq!(fake.there(), ["address 10.9.0.1/24"]);
    assert_eq!(grants.all().count(), 0);
}

#[test]
fn routes_lead_into_a_child_sa_around_its_gateway_and_back_in_reverse_order() {
    let fake = Fake::default();
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    let both = grant(Some("vpn0"), &["10.9.0.1/24", "fd00::1/64"]);
    grants.take(name(0, 1), both);
    fake.done();
    let pairs = [("10.9.0.1/32", "0.0.0.0/0"), ("fd00::1/128", "fd01::7/32")];
    grants.lead(name(0, 1), &child(0x100, 1, &pairs));
    let set = [
        "route around for 192.0.2.1",
        "route to 0.0.0.0/0 from 10.9.0.1",
        "route to fd01::/32 from fd00::1",
        "rule for IPv6 to table 210",
        "rule for IPv4 to table 210",
    ];
    assert_eq!(fake.done(), set.map(|piece| format!("+ {piece}")));
    grants.give_back(name(0, 1));
    let mut gone = set.map(|piece| format!("- {piece}")).to_vec();
    gone.reverse();
    gone.extend(["- address fd00::1/64", "- address 10.9.0.1/24"].map(str::to_owned));
    assert_eq!(fake.done(), gone);
}

#[test]
fn rekeys_change_nothing_and_a_new_ike_sa_takes_over_without_a_gap() {
    let fake = Fake::default();
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    let all = [("10.9.0.1/32", "0.0.0.0/0")];
    grants.take(name(0, 1), grant(Some("vpn0"), &["10.9.0.1/32"]));
    grants.lead(name(0, 1), &child(0x100, 1, &all));
    fake.done();
    grants.lead(name(0, 1), &child(0x200, 1, &all));
    grants.forget(EspSpi::new(0x100).unwrap());
    // Authenticated again, first with the same address, then with another.
    grants.take(name(1, 1), grant(Some("vpn0"), &["10.9.0.1/32"]));
    grants.lead(name(1, 1), &child(0x300, 1, &all));
    grants.give_back(name(0, 1));
    assert!(fake.done().is_empty());
    grants.take(name(0, 2), grant(Some("vpn0"), &["10.9.0.2/32"]));
    let other = [("10.9.0.2/32", "0.0.0.0/0")];
    grants.lead(name(0, 2), &child(0x400, 1, &other));
    grants.give_back(name(1, 1));
    let done = [
        "+ address 10.9.0.2/32",
        "= route to 0.0.0.0/0 from 10.9.0.2",
        "- address 10.9.0.1/32",
    ];
    assert_eq!(fake.done(), done);
}

#[test]
fn a_gateway_that_moves_is_kept_outside_where_it_is_now() {
    let fake = Fake::default();
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    grants.take(name(0, 1), grant(Some("vpn0"), &["10.9.0.1/32"]));
    grants.lead(
        name(0, 1),
        &child(0x100, 1, &[("10.9.0.1/32", "0.0.0.0/0")]),
    );
    fake.done();
    let spi = EspSpi::new(0x100).unwrap();
    grants.follow(EspSpi::new(0x900).unwrap(), IpAddr::from([192, 0, 2, 8]));
    grants.follow(spi, IpAddr::from([192, 0, 2, 9]));
    grants.follow(spi, IpAddr::from([192, 0, 2, 9]));
    let done = [
        "+ route around for 192.0.2.9",
        "- route around for 192.0.2.1",
    ];
    assert_eq!(fake.done(), done);
}

#[test]
fn what_a_route_cannot_tell_apart_or_is_not_from_our_address_has_none() {
    let fake = Fake::default();
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    grants.take(name(0, 1), grant(Some("vpn0"), &["10.9.0.1/32"]));
    fake.done();
    let mut web = child(0x100, 1, &[("10.9.0.1/32", "0.0.0.0/0")]);
    web.selectors[0].remote_port = Some(443);
    let site = child(0x200, 1, &[("10.1.0.0/16", "10.2.0.0/16")]);
    let mut transport = child(0x300, 1, &[("10.9.0.1/32", "192.0.2.1/32")]);
    transport.transport = true;
    // The gateway itself cannot be reached through a tunnel with it.
    let gateway = child(0x400, 1, &[("10.9.0.1/32", "192.0.2.1/32")]);
    for child in [web, site, transport] {
        grants.lead(name(0, 1), &child);
    }
    assert!(fake.done().is_empty());
    grants.lead(name(0, 1), &gateway);
    let done = [
        "+ route around for 192.0.2.1",
        "+ rule for IPv4 to table 210",
    ];
    assert_eq!(fake.done(), done);
}

#[test]
fn the_resolver_is_told_once_there_is_a_way_to_the_servers_and_when_there_is_none() {
    let fake = Fake::default();
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    let named = |server: &str, domain: &str| Grant {
        name_servers: vec![server.parse().unwrap()],
        domains: Domain::new(domain.as_bytes()).into_iter().collect(),
        ..grant(Some("vpn0"), &["10.9.0.1/32"])
    };
    grants.take(name(0, 1), named("10.9.0.53", "corp.example"));
    assert!(fake.0.lock().resolver.is_none());
    let part = [("10.9.0.1/32", "10.0.0.0/8")];
    grants.lead(name(0, 1), &child(0x100, 1, &part));
    grants.lead(name(0, 1), &child(0x200, 1, &part));
    grants.take(name(0, 2), named("10.9.0.54", "."));
    let all = [("10.9.0.1/32", "0.0.0.0/0")];
    grants.lead(name(0, 2), &child(0x300, 1, &all));
    grants.give_back(name(0, 2));
    grants.give_back(name(0, 1));
    let asked = fake.done();
    let asked: Vec<_> = asked
        .iter()
        .filter(|line| line.starts_with("ask"))
        .collect();
    assert_eq!(
        asked,
        [
            "ask 10.9.0.53 for corp.example",
            "ask 10.9.0.53, 10.9.0.54 for corp.example, all names",
            "ask 10.9.0.53 for corp.example",
            "ask nobody",
        ]
    );
}

#[test]
fn the_loopback_interface_has_addresses_and_no_routes() {
    let fake = Fake::default();
    let mut grants = Grants::new(Some(Box::new(fake.clone())));
    let named = Grant {
        name_servers: vec!["10.9.0.53".parse().unwrap()],
        ..grant(Some("lo"), &["10.9.0.1/32"])
    };
    grants.take(name(0, 1), named);
    grants.lead(
        name(0, 1),
        &child(0x100, 1, &[("10.9.0.1/32", "0.0.0.0/0")]),
    );
    assert_eq!(fake.done(), ["+ address 10.9.0.1/32"]);
}
