//! The same exchanges over a wire that loses a fifth of all datagrams, delivers a tenth twice and a
//! quarter out of turn: all of it still comes about. Only the rig's kernel has such a wire.

use super::children::patient;
use super::gateway::Conf;
use super::mobility::{change_address, moved};
use super::rekey::inbound_spis;
use super::roles::{answers, turned};
use super::session::{Session, passes_packets};
use super::strongswan::Client;
use super::world::{CLIENT, INSIDE, Layout, World, assert_says, wait_long_for};

fn disturbed() -> World {
    let world = World::new(Layout::Wire);
    world.disturb();
    world
}

/// Waits until both ends have one IKE SA with one Child SA, then holds the wire still and looks
/// whether packets pass.
fn has_converged(session: &Session<'_>) {
    session
        .gateway
        .wait_for_count("IKE SA currently established", 1);
    wait_long_for("one IKE SA and one Child SA at both ends", || {
        let listed = session.swan.list_sas();
        let one = session.swan.established().len() == 1
            && listed.matches("INSTALLED").count() == 1
            && inbound_spis(session).len() == 1;
        one.then_some(())
    });
    let states = |host: &str| session.world.ip(host, &["xfrm", "state"]);
    for host in ["gw", "rw"] {
        wait_long_for("two SAs in the kernel", || {
            (states(host).matches("proto esp").count() == 2).then_some(())
        });
    }
    session.world.calm();
    session.passes_packets(&session.address(), INSIDE);
    session.world.disturb();
    assert_eq!(session.gateway.count("faults"), 0);
}

pub fn the_client_rekeys_over_a_lossy_wire() {
    let world = disturbed();
    let session = Session::connect(&world, &Conf::default(), &patient());
    has_converged(&session);
    for round in 1..=3 {
        let before = inbound_spis(&session);
        session.swan.rekey(&["--child", "net"]);
        wait_long_for("another Child SA", || {
            (inbound_spis(&session) != before).then_some(())
        });
        session.swan.rekey(&["--ike", "home"]);
        session.gateway.wait_for_count("IKE SA rekeyed", round);
        has_converged(&session);
    }
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

pub fn the_gateway_rekeys_over_a_lossy_wire() {
    let world = disturbed();
    let conf = Conf {
        // Long enough for retransmissions: an exchange that waits keeps the next one waiting, and a
        // Child SA that expires before its rekey has come through is made again by nobody.
        lifetimes: "ikelifetime 15 lifetime 120".to_owned(),
        ..Conf::default()
    };
    let session = Session::connect(&world, &conf, &patient());
    let before = inbound_spis(&session);
    wait_long_for("rekeys by the gateway", || {
        let now = inbound_spis(&session);
        let rekeyed = session.gateway.count("IKE SA rekeyed");
        (rekeyed >= 2 && now.len() == 1 && now != before).then_some(())
    });
    session.gateway.ikectl(&["reset", "sa"]);
    session.is_gone_from_the_gateway();
    // All three Deletes of an IKE SA that was replaced may be lost: charon then gives up by itself.
    wait_long_for("the client to forget", || {
        session.swan.established().is_empty().then_some(())
    });
}

pub fn fragments_pass_a_lossy_wire() {
    let world = disturbed();
    let (conf, client) = super::paths::with_many_networks();
    let client = Client {
        daemon_lines: [client.daemon_lines, patient().daemon_lines].concat(),
        ..client
    };
    let session = Session::connect(&world, &conf, &client);
    has_converged(&session);
    assert!(session.gateway.count("fragment received") >= 2);
}

pub fn a_client_moves_over_a_lossy_wire() {
    let world = disturbed();
    let session = Session::connect(&world, &Conf::default(), &patient());
    for (old, new) in [(CLIENT, "192.0.2.3"), ("192.0.2.3", CLIENT)] {
        change_address(&world, old, new, None);
        world.introduce();
        moved(&session.gateway, &format!("old {old}:4500 new {new}:4500"));
        has_converged(&session);
        let states = world.ip("gw", &["xfrm", "state"]);
        assert_says(&states, &[&format!("dst {new}")]);
    }
}

pub fn the_gateway_begins_over_a_lossy_wire() {
    let world = disturbed();
    let client = Client {
        daemon_lines: patient().daemon_lines,
        ..answers()
    };
    let (gateway, swan) = turned(Conf::default(), &client, &world);
    swan.drop_child("net");
    swan.disconnect();
    gateway.wait_for_count("IKE SA currently established", 0);
    world.calm();
    // An active policy begins again, and this time nothing disturbs it.
    wait_long_for("the next IKE SA", || {
        (gateway.count("IKE SA currently established") == 1).then_some(())
    });
    passes_packets(&world, CLIENT, INSIDE);
}
