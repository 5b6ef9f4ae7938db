//! Child SAs beside the first, Child SAs of transport mode, and rekeys that both sides begin at once.

use super::gateway::{Conf, Gateway};
use super::rekey::inbound_spis;
use super::roles::{answers, turned};
use super::session::{Session, gateway_has_let_go, packets_pass, passes_packets};
use super::strongswan::{Client, StrongSwan};
use super::world::{
    BEHIND_NAT, CLIENT, GATEWAY, INSIDE, INSIDE_NET, Layout, World, assert_says, wait_for,
    wait_long_for,
};

/// Another network behind the gateway, and a host there.
const OTHER_NET: &str = "10.88.0.0/24";
const OTHER: &str = "10.88.0.1";

/// Ends with two networks behind the gateway; the client has a Child SA for each.
fn two_networks(world: &World) -> (Conf, Client) {
    world.batch("gw", &format!("addr add {OTHER}/24 dev lo\n"));
    let conf = Conf {
        flows: format!("from {INSIDE_NET} to dynamic from {OTHER_NET} to dynamic"),
        ..Conf::default()
    };
    let client = Client {
        more_children: vec![("other", OTHER_NET)],
        ..Client::default()
    };
    (conf, client)
}

pub fn the_client_asks_for_a_second_child_sa() {
    let world = World::new(Layout::Wire);
    let (conf, client) = two_networks(&world);
    let session = Session::open(&world, &conf, &client);
    let said = session.swan.initiate("other");
    assert_says(&said, &["CREATE_CHILD_SA", "CHILD_SA other{2} established"]);
    let address = session.address();
    both_carry(&session, &address);
    for child in ["net", "other"] {
        let before = inbound_spis(&session);
        session.swan.rekey(&["--child", child]);
        wait_for("the rekey of one of two", || {
            let now = inbound_spis(&session);
            let kept = now.iter().filter(|spi| before.contains(spi)).count();
            (now.len() == 2 && kept == 1).then_some(())
        });
        both_carry(&session, &address);
    }
    // Both move along when the IKE SA is rekeyed, and go one by one.
    let before = inbound_spis(&session);
    session.swan.rekey(&["--ike", "home"]);
    session.gateway.wait_for_count("IKE SA rekeyed", 1);
    session
        .gateway
        .wait_for_count("IKE SA currently established", 1);
    assert_eq!(inbound_spis(&session), before);
    both_carry(&session, &address);
    session.swan.drop_child("other");
    assert_eq!(inbound_spis(&session).len(), 1);
    session.passes_packets(&address, INSIDE);
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

fn both_carry(session: &Session<'_>, address: &str) {
    assert_eq!(inbound_spis(session).len(), 2);
    for inside in [INSIDE, OTHER] {
        packets_pass(session.world, address, inside, &[4]);
    }
}

pub fn the_gateway_makes_its_child_sa_again() {
    let world = World::new(Layout::Wire);
    let (gateway, swan) = turned(Conf::default(), &answers(), &world);
    swan.drop_child("net");
    assert!(!gateway.show_sa().contains("sa_childsas"));
    wait_long_for("another Child SA", || {
        gateway.show_sa().contains("sa_childsas").then_some(())
    });
    assert_says(&swan.log(), &["parsed CREATE_CHILD_SA request"]);
    assert_eq!(gateway.count("IKE SA established"), 1);
    passes_packets(&world, CLIENT, INSIDE);
}

/// Host to host; strongSwan's ESP in user space has no transport mode.
fn in_transport_mode() -> (Conf, Client) {
    let conf = Conf {
        encap: "transport",
        hosts: format!("local {GATEWAY} peer {CLIENT}"),
        flows: format!("from {GATEWAY} to {CLIENT}"),
        config: Vec::new(),
        ..Conf::default()
    };
    let client = Client {
        remote_ts: GATEWAY.to_owned(),
        child_lines: vec!["mode = transport".to_owned()],
        ..answers()
    };
    (conf, client)
}

fn carries_in_transport_mode(world: &World, gateway: &Gateway, swan: &StrongSwan<'_>) {
    assert_says(&swan.list_sas(), &["TRANSPORT"]);
    for host in ["gw", "rw"] {
        let states = world.ip(host, &["xfrm", "state"]);
        assert_eq!(states.matches("mode transport").count(), 2, "{states}");
    }
    passes_packets(world, CLIENT, GATEWAY);
    swan.rekey(&["--child", "net"]);
    gateway.wait_for_count("Child SA removed", 2);
    passes_packets(world, CLIENT, GATEWAY);
    // An active policy would wait for the next packet, or begin again.
    gateway.ikectl(&["passive"]);
    swan.disconnect();
    gateway_has_let_go(world, gateway);
}

pub fn the_client_begins_in_transport_mode() {
    let world = World::new(Layout::Wire);
    let (conf, client) = in_transport_mode();
    let gateway = Gateway::start(&world, &conf);
    let swan = StrongSwan::start(&world, &client);
    swan.connect();
    carries_in_transport_mode(&world, &gateway, &swan);
}

pub fn the_client_begins_in_transport_mode_behind_a_nat() {
    let world = World::new(Layout::Nat);
    let (conf, client) = in_transport_mode();
    let conf = Conf {
        hosts: format!("local {GATEWAY} peer any"),
        flows: format!("from {GATEWAY} to any"),
        ..conf
    };
    let gateway = Gateway::start(&world, &conf);
    let swan = StrongSwan::start(&world, &client);
    swan.connect();
    let count = || gateway.count("Child SA removed");
    for begins in [false, true] {
        assert_says(&swan.list_sas(), &["TRANSPORT-in-UDP"]);
        passes_packets(&world, BEHIND_NAT, GATEWAY);
        if begins {
            break;
        }
        let before = count();
        swan.rekey(&["--child", "net"]);
        gateway.wait_for_count("Child SA removed", before + 2);
    }
    let policies = world.ip("gw", &["xfrm", "policy"]);
    assert_says(&policies, &[&format!("dst {CLIENT}/32"), "mode transport"]);
    swan.disconnect();
    gateway_has_let_go(&world, &gateway);
}

pub fn the_gateway_begins_in_transport_mode() {
    let world = World::new(Layout::Wire);
    let (mut conf, client) = in_transport_mode();
    conf.mode = "active";
    let swan = StrongSwan::start(&world, &client);
    let gateway = Gateway::start(&world, &conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    carries_in_transport_mode(&world, &gateway, &swan);
}

/// A client that is not worn out by a link that is cut for some seconds.
pub fn patient() -> Client {
    Client {
        daemon_lines: [
            "retransmit_timeout = 1",
            "retransmit_base = 1",
            "retransmit_tries = 12",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Client::default()
    }
}

/// While the link is cut the gateway begins a rekey by itself, and the client is told to begin the
/// same: neither request arrives before the other has been sent.
fn both_begin(session: &Session<'_>, words: &[&str]) {
    let world = session.world;
    world.cut_link();
    let before = session.gateway.count("message sent");
    wait_for("the gateway to begin a rekey", || {
        (session.gateway.count("message sent") > before).then_some(())
    });
    session.swan.rekey(words);
    session.swan.wait_for_log("retransmit 1 of request");
    world.mend_link();
}

pub fn both_sides_rekey_the_ike_sa_at_once() {
    let world = World::new(Layout::Nat);
    let conf = Conf {
        lifetimes: "ikelifetime 10".to_owned(),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &patient());
    let address = session.address();
    for round in 1..=3 {
        let before = session.swan.established();
        both_begin(&session, &["--ike", "home"]);
        wait_for("one IKE SA in the place of the one before", || {
            let now = session.swan.established();
            (now.len() == 1 && now != before).then_some(())
        });
        session
            .gateway
            .wait_for_count("IKE SA currently established", 1);
        assert!(session.gateway.count("IKE SA rekeyed") >= round);
        assert_eq!(inbound_spis(&session).len(), 1);
        session.passes_packets(&address, INSIDE);
    }
    assert_eq!(session.gateway.count("faults"), 0);
    assert_says(&session.swan.list_sas(), &[BEHIND_NAT, "INSTALLED"]);
}

pub fn both_sides_rekey_the_child_sa_at_once() {
    // Its lifetime is the kernel's to watch.
    let world = World::new(Layout::Nat);
    let conf = Conf {
        lifetimes: "lifetime 12".to_owned(),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &patient());
    let address = session.address();
    for _ in 0..3 {
        let before = inbound_spis(&session);
        both_begin(&session, &["--child", "net"]);
        wait_for("one Child SA in the place of the one before", || {
            let now = inbound_spis(&session);
            (now.len() == 1 && now != before).then_some(())
        });
        wait_for("one Child SA at the client", || {
            let listed = session.swan.list_sas();
            (listed.matches("INSTALLED").count() == 1).then_some(())
        });
        session.passes_packets(&address, INSIDE);
        // It keeps the old inbound SA for some seconds.
        wait_for("two SAs in the client's kernel", || {
            let states = world.ip("rw", &["xfrm", "state"]);
            (states.matches("proto esp").count() == 2).then_some(())
        });
    }
    assert_eq!(session.gateway.count("IKE SA established"), 1);
    assert_eq!(session.gateway.count("faults"), 0);
}
