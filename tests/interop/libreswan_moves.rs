//! libreswan and addresses that change: MOBIKE in both roles, a NAT that forgets, REDIRECT. All of it
//! needs a kernel with ESP, without which pluto has no Child SA.

use super::gateway::{Conf, Gateway};
use super::libreswan::{Client, Libreswan};
use super::libreswan_rekey::{BEHIND, BEHIND_NET, networks, open_behind, still_works};
use super::mobility::{change_address, forgetful, moved};
use super::pluto_session::Session;
use super::session::{gateway_has_let_go, passes_packets};
use super::world::{BEHIND_NAT, CLIENT, GATEWAY, INSIDE, Layout, World, assert_says, wait_for};

/// Another address of either end.
const ELSEWHERE: &str = "192.0.2.9";

/// Both roles' configuration with MOBIKE.
fn mobile(mode: &'static str) -> (Conf, Client) {
    let (mut conf, mut client) = networks(mode);
    if mode == "passive" {
        conf.hosts = "local any peer any".to_owned();
    }
    client.lines.push("mobike=yes".to_owned());
    // pluto does MOBIKE only where its own address may change, and as responder where the peer's may.
    if mode == "active" {
        client.gateway = "%any".to_owned();
    } else {
        client.own = "%defaultroute".to_owned();
    }
    (conf, client)
}

pub fn a_client_moves_to_another_address() {
    let world = World::new(Layout::Wire);
    let (conf, client) = mobile("passive");
    world.batch("rw", &format!("route add default via {GATEWAY}\n"));
    let session = Session::connect(&world, &conf, &client);
    session.passes_packets(BEHIND, INSIDE);
    let (gateway, swan) = (&session.gateway, &session.swan);
    for (old, new) in [(CLIENT, "192.0.2.3"), ("192.0.2.3", CLIENT)] {
        change_address(&world, old, new, Some(GATEWAY));
        // Unlike RFC 4555, 3.3 it stays at port 500.
        let line = format!("ikev2_update_sa_addresses: old {old}:500 new {new}:500");
        moved(gateway, &line);
        let log = swan.log();
        assert_says(&log, &["MOBIKE response: updating IPsec SA"]);
        let states = world.ip("gw", &["xfrm", "state"]);
        assert_says(&states, &[&format!("dst {new}")]);
        let lines = format!("route replace {INSIDE}/32 dev wan src {BEHIND}\n");
        world.batch("rw", &lines);
        still_works(&world, gateway);
    }
    assert_eq!(gateway.count("IKE SA established"), 1);
    swan.disconnect();
    gateway_has_let_go(&world, gateway);
}

pub fn the_gateway_moves_to_another_address() {
    let world = World::new(Layout::Wire);
    let (conf, client) = mobile("active");
    open_behind(&world);
    let swan = Libreswan::start(&world, &client);
    let gateway = Gateway::start(&world, &conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    still_works(&world, &gateway);
    for (old, new) in [(GATEWAY, "192.0.2.5"), ("192.0.2.5", "192.0.2.6")] {
        // The last address takes all routes along.
        let lines = format!(
            "addr del {old}/24 dev wan\naddr add {new}/24 dev wan\nroute replace default dev wan\n"
        );
        world.batch("gw", &lines);
        wait_for(&format!("the Child SA of pluto to be at {new}"), || {
            let states = world.ip("rw", &["xfrm", "state"]);
            states.contains(&format!("dst {new}")).then_some(())
        });
        swan.wait_for_log("MOBIKE request: updating IPsec SA by request");
        still_works(&world, &gateway);
    }
    assert_eq!(gateway.count("IKE SA established"), 1);
}

pub fn a_nat_forgets_a_client() {
    let world = World::new(Layout::Nat);
    let (mut conf, mut client) = networks("passive");
    conf.hosts = "local any peer any".to_owned();
    client.own = BEHIND_NAT.to_owned();
    let lines = ["dpddelay=3s", "dpdtimeout=60s"];
    client.lines.extend(lines.map(str::to_owned));
    let session = Session::connect(&world, &conf, &client);
    session.passes_packets(BEHIND, INSIDE);
    let before = session.gateway.show_sa();
    forgetful(&world);
    moved(&session.gateway, "moved by its NAT: old 192.0.2.2:");
    assert_ne!(session.gateway.show_sa(), before, "another port");
    still_works(&world, &session.gateway);
    assert_eq!(session.gateway.count("IKE SA established"), 1);
}

pub fn a_client_is_sent_to_another_address() {
    let world = World::new(Layout::Wire);
    world.batch("gw", &format!("addr add {ELSEWHERE}/24 dev wan\n"));
    let (mut conf, mut client) = networks("passive");
    conf.hosts = "local any peer any".to_owned();
    client.lines.push("accept-redirect=yes".to_owned());
    client.revives = true;
    let session = Session::connect(&world, &conf, &client);
    let gateway = &session.gateway;
    gateway.ikectl(&["redirect", ELSEWHERE]);
    is_at(
        gateway,
        &format!(" {ELSEWHERE}:4500->"),
        &format!(" {ELSEWHERE}:500->"),
    );
    gateway.says(&["redirecting to 192.0.2.9"]);
    session.passes_packets(BEHIND, INSIDE);
}

/// Waits for one IKE SA, on a path with one of these parts.
fn is_at(gateway: &Gateway, floated: &str, plain: &str) {
    wait_for("an IKE SA with the other address", || {
        let shown = gateway.show_sa();
        let mut lines = shown.lines().filter(|line| line.contains("ESTABLISHED"));
        lines
            .any(|line| line.contains(floated) || line.contains(plain))
            .then_some(())
    });
    gateway.wait_for_count("IKE SA currently established", 1);
}

pub fn the_gateway_is_sent_to_another_address() {
    let world = World::new(Layout::Wire);
    let lines = format!(
        "addr add {ELSEWHERE}/24 dev wan\naddr add {BEHIND}/32 dev lo\n\
         route add {INSIDE}/32 dev wan src {BEHIND}\n"
    );
    world.batch("rw", &lines);
    let (conf, mut client) = networks("active");
    let there = format!("left={ELSEWHERE}\nleftsubnet={BEHIND_NET}");
    client.more = vec![("there", there)];
    let swan = Libreswan::start(&world, &client);
    let gateway = Gateway::start(&world, &conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    swan.redirect(ELSEWHERE);
    is_at(
        &gateway,
        &format!("->{ELSEWHERE}:4500<"),
        &format!("->{ELSEWHERE}:500<"),
    );
    passes_packets(&world, BEHIND, INSIDE);
}
