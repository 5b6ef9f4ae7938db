//! IPComp (RFC 7296, 2.22) with a real peer: packets that become shorter, through rekeys by either side.

use super::gateway::{Conf, Gateway};
use super::rekey::inbound_spis_of;
use super::roles::{answers, turned};
use super::session::{Session, gateway_has_let_go};
use super::strongswan::{Client, StrongSwan};
use super::world::{CLIENT, INSIDE, Layout, World, assert_says, wait_for, wait_long_for};

fn compressing(client: Client) -> Client {
    let lines = vec!["ipcomp = yes".to_owned()];
    Client {
        child_lines: lines,
        ..client
    }
}

fn conf() -> Conf {
    Conf {
        encap: "ipcomp tunnel",
        ..Conf::default()
    }
}

/// Bytes and packets of all SAs of the gateway's kernel with this protocol.
fn counted(world: &World, protocol: &str) -> (u64, u64) {
    let text = world.ip("gw", &["-s", "xfrm", "state"]);
    let (mut bytes, mut packets) = (0, 0);
    for state in text.split("\nsrc ") {
        if !state.contains(&format!("proto {protocol} spi ")) {
            continue;
        }
        let current = state.split("lifetime current:").nth(1).unwrap();
        let number = |unit: &str| -> u64 {
            let head = current.split(unit).next().unwrap();
            head.rsplit(' ').next().unwrap().trim().parse().unwrap()
        };
        bytes += number("(bytes)");
        packets += number("(packets)");
    }
    (bytes, packets)
}

/// Pings of 1000 equal bytes pass as much shorter packets.
fn compressed_packets_pass(world: &World, from: &str) {
    let before = ["esp", "comp"].map(|protocol| counted(world, protocol));
    let words = [
        "-q", "-c", "3", "-i", "0.3", "-W", "5", "-s", "1000", "-p", "5a",
    ];
    let words = [&words[..], &["-I", from, INSIDE]].concat();
    world.run("rw", "ping", &words);
    let after = ["esp", "comp"].map(|protocol| counted(world, protocol));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.1 - before.1, 6, "packets: {before:?} {after:?}");
    }
    let bytes = after[0].0 - before[0].0;
    assert!(bytes < 6 * 300, "{bytes} bytes of ESP");
}

fn replaced(gateway: &Gateway, before: &[String]) {
    wait_long_for("another Child SA in the place of the first", || {
        let now = inbound_spis_of(gateway);
        (now.len() == 1 && now != before).then_some(())
    });
    // The old ones stay until the peer has answered.
    assert_says(&gateway.show_sa(), &["             : 0x0 IPCOMP 0x0000"]);
}

fn only_one_is_left(world: &World, swan: &StrongSwan<'_>) {
    assert_says(&swan.list_sas(), &["INSTALLED"]);
    wait_for("two SAs of IPComp in either kernel", || {
        let left = ["gw", "rw"].map(|host| {
            let states = world.ip(host, &["xfrm", "state"]);
            states.matches("proto comp spi").count()
        });
        (left == [2, 2]).then_some(())
    });
}

pub fn the_client_begins_with_compression() {
    let world = World::new(Layout::Nat);
    let session = Session::open(&world, &conf(), &compressing(Client::default()));
    assert_says(&session.said, &["N(IPCOMP_SUP)"]);
    let address = session.address();
    compressed_packets_pass(&world, &address);
    for _ in 0..2 {
        let before = inbound_spis_of(&session.gateway);
        session.swan.rekey(&["--child", "net"]);
        replaced(&session.gateway, &before);
        only_one_is_left(&world, &session.swan);
        compressed_packets_pass(&world, &address);
    }
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

pub fn the_gateway_begins_with_compression() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        lifetimes: "lifetime 15".to_owned(),
        ..conf()
    };
    let (gateway, swan) = turned(conf, &compressing(answers()), &world);
    compressed_packets_pass(&world, CLIENT);
    let before = inbound_spis_of(&gateway);
    replaced(&gateway, &before);
    only_one_is_left(&world, &swan);
    compressed_packets_pass(&world, CLIENT);
    gateway.ikectl(&["passive"]);
    swan.disconnect();
    gateway_has_let_go(&world, &gateway);
}

pub fn a_client_that_does_not_compress_gets_in_without() {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &conf(), &Client::default());
    let address = session.address();
    session.passes_packets(&address, INSIDE);
    assert_eq!(counted(&world, "comp"), (0, 0));
}
