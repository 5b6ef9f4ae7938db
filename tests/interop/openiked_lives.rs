//! OpenIKED on IKE SAs that live: more Child SAs, addresses that change, deaths. Only the rig's kernel
//! lets it start.
//!
//! What it cannot do: it has no REDIRECT, and moves to no other address by itself (MOBIKE as responder
//! only, iked.conf(5)).

use std::thread;
use std::time::{Duration, Instant};

use super::gateway::Conf;
use super::mobility::{forgetful, moved};
use super::openiked::{BEHIND, BEHIND_NET, Peer};
use super::openiked_scenarios::Ends;
use super::rekey::inbound_spis_of;
use super::session::{kernel_is_clean, passes_packets};
use super::world::{
    BEHIND_NAT, CLIENT, GATEWAY, INSIDE, Layout, World, assert_says, wait_for, wait_long_for,
};

/// Its Child SA is gone from its kernel alone, which then asks for another: it makes one beside the
/// first.
pub fn the_peer_asks_for_a_second_child_sa() {
    let peer = Peer::new("active");
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &peer.mirror());
    ends.carries();
    let first = inbound_spis_of(&ends.gateway);
    ends.world.run("rw", "ip", &["xfrm", "state", "flush"]);
    let words = ["-q", "-c", "1", "-W", "1", "-I", BEHIND, INSIDE];
    wait_for("a second Child SA", || {
        ends.world.attempt("rw", "ping", &words);
        let now = inbound_spis_of(&ends.gateway);
        (now.len() == 2 && now.contains(&first[0])).then_some(())
    });
    assert_eq!(ends.gateway.count("IKE SA established"), 1);
    wait_for("an answer through it", || {
        let output = ends.world.attempt("rw", "ping", &words);
        output.status.success().then_some(())
    });
}

/// Its IKE SA follows. Its Child SAs do not: on Linux the kernel refuses the PF_KEY message by which it
/// would move them, so packets pass again when they have been rekeyed.
pub fn the_gateway_moves_to_another_address() {
    let peer = Peer {
        hosts: format!("local {CLIENT} peer any"),
        ..Peer::new("passive")
    };
    let conf = Conf {
        lifetimes: "lifetime 40".to_owned(),
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    ends.carries();
    let first = inbound_spis_of(&ends.gateway);
    let new = "192.0.2.5";
    let lines = format!(
        "addr del {GATEWAY}/24 dev wan\naddr add {new}/24 dev wan\nroute replace default dev wan\n"
    );
    ends.world.batch("gw", &lines);
    let line = format!("ikev2_update_sa_addresses: old {GATEWAY}:4500 new {new}:4500");
    moved(&ends.gateway, &line);
    assert_says(&ends.peer.log(), &[&line]);
    assert_says(
        &ends.peer.ikectl(&["show", "sa"]),
        &[&format!("{new}:4500")],
    );
    wait_long_for("another Child SA", || {
        let now = inbound_spis_of(&ends.gateway);
        (now.len() == 1 && now != first).then_some(())
    });
    // What it could not move stays in its kernel.
    wait_for("two SAs in the gateway's kernel", || {
        let states = ends.world.ip("gw", &["xfrm", "state"]);
        (states.matches("proto esp").count() == 2).then_some(())
    });
    ends.carries();
    assert_eq!(ends.gateway.count("IKE SA established"), 1);
}

pub fn a_nat_forgets_the_peer() {
    let peer = Peer {
        hosts: format!("local {BEHIND_NAT} peer {GATEWAY}"),
        ..Peer::new("active")
    };
    let conf = Conf {
        hosts: "local any peer any".to_owned(),
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Nat), &peer, &conf);
    ends.carries();
    let before = ends.gateway.show_sa();
    forgetful(&ends.world);
    // The answer to the first packet through a new mapping is lost.
    let words = [
        "-q", "-c", "5", "-i", "0.2", "-W", "1", "-I", BEHIND, INSIDE,
    ];
    wait_for("an answer through another mapping", || {
        // So long that nothing passes: a mapping lives for a second after its last packet.
        thread::sleep(Duration::from_secs(3));
        let output = ends.world.attempt("rw", "ping", &words);
        let shown = ends.gateway.show_sa();
        (output.status.success() && shown != before).then_some(())
    });
    moved(&ends.gateway, "moved by its NAT: old 192.0.2.2:");
    assert_eq!(ends.gateway.count("IKE SA established"), 1);
}

pub fn both_sides_rekey_the_child_sa_at_once() {
    let peer = Peer {
        lifetimes: "lifetime 40".to_owned(),
        ..Peer::new("active")
    };
    let conf = Conf {
        lifetimes: "lifetime 40".to_owned(),
        ..peer.mirror()
    };
    // The Child SA is made between these two.
    let earliest = Instant::now();
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    let latest = Instant::now();
    let first = inbound_spis_of(&ends.gateway);
    let sleep_until = |at: Instant| thread::sleep(at.saturating_duration_since(Instant::now()));
    sleep_until(earliest + Duration::from_secs(29));
    assert_eq!(inbound_spis_of(&ends.gateway), first);
    // Both begin between 85 and 95 hundredths of the lifetime, and neither hears of the other.
    ends.world.interrupt();
    sleep_until(latest + Duration::from_secs(38));
    ends.world.calm();
    wait_for("another Child SA", || {
        let now = inbound_spis_of(&ends.gateway);
        (now.len() == 1 && now != first).then_some(())
    });
    ends.wait_for_one_child();
    ends.carries();
    assert_eq!(ends.gateway.count("IKE SA established"), 1);
}

pub fn a_gateway_that_died_is_noticed_by_the_peer() {
    // On Linux it never hears when a Child SA was used last and does not ask: its rekey is the question.
    let peer = Peer {
        lifetimes: "lifetime 20".to_owned(),
        ..Peer::new("active")
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &peer.mirror());
    let Ends {
        world: _world,
        gateway,
        peer,
    } = ends;
    gateway.kill();
    wait_long_for("the peer to give up", || {
        let shown = peer.ikectl(&["show", "sa"]);
        (!shown.contains("ESTABLISHED")).then_some(())
    });
}

pub fn a_peer_that_died_is_noticed_by_the_gateway() {
    let peer = Peer::new("active");
    let conf = Conf {
        set: vec!["dpd_check_interval 4".to_owned()],
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    let Ends {
        world,
        gateway,
        peer,
    } = ends;
    peer.kill();
    // Its kernel dies with it, and answers no packet either.
    for what in ["state", "policy"] {
        world.ip("rw", &["xfrm", what, "flush"]);
    }
    // It asks only a peer that owes it packets.
    let words = ["-q", "-c", "1", "-W", "1", "-I", INSIDE, BEHIND];
    wait_long_for("the gateway to give up", || {
        world.attempt("gw", "ping", &words);
        (gateway.count("IKE SA currently established") == 0).then_some(())
    });
    kernel_is_clean(&world);
}

/// Both ends load flows of both families. IPv4 passes: by PF_KEY it has no SA on Linux that takes IPv6
/// within IPv4.
pub fn the_peer_assigns_addresses_of_both_families() {
    let peer = Peer {
        flows: format!("from {BEHIND_NET} to dynamic from fd00:66::/64 to dynamic"),
        config: "config address 10.7.0.0/24 config address fd00:7::/112",
        ..Peer::new("passive")
    };
    let conf = Conf {
        flows: format!("from dynamic to {BEHIND_NET} from dynamic to fd00:66::/64"),
        requests: vec!["address any", "address ::"],
        ..peer.mirror()
    };
    let ends = Ends::meet(World::new(Layout::Wire), &peer, &conf);
    let shown = ends.gateway.show_sa();
    let address = |mark: &str| {
        let before = shown.split(mark).next().unwrap();
        before.rsplit(' ').next().unwrap().to_owned()
    };
    let four = address("/32 -> 10.66.0.0/24 ");
    let six = address("/128 -> fd00:66::/64 ");
    assert!(
        four.starts_with("10.7.0.") && six.starts_with("fd00:7::"),
        "{shown}"
    );
    let flows = [format!("={four}/32("), format!("={six}/128(")];
    assert_says(&ends.peer.log(), &[&flows[0], &flows[1]]);
    ends.world
        .batch("gw", &format!("addr add {four}/32 dev lo\n"));
    let lines = format!("route add {four}/32 dev wan src {BEHIND}\n");
    ends.world.batch("rw", &lines);
    passes_packets(&ends.world, BEHIND, &four);
}
