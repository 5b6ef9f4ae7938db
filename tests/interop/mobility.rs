//! A client that moves, and a NAT that moves it: MOBIKE and what goes without it.

use super::gateway::{Conf, Gateway};
use super::session::Session;
use super::strongswan::Client;
use super::world::{BEHIND_NAT, CLIENT, INSIDE, Layout, World, assert_says, coupled, wait_for};

/// Waits until the gateway has moved its Child SAs; gives the line that says so.
pub fn moved(gateway: &Gateway, line: &str) -> String {
    wait_for(&format!("`{line}` in the log of iked"), || {
        let log = gateway.log();
        let found = log.lines().rev().find(|said| said.contains(line));
        found.map(str::to_owned)
    })
}

/// The client gets another address in place of the one it has.
pub fn change_address(world: &World, old: &str, new: &str, gateway: Option<&str>) {
    let mut lines = format!("addr del {old}/24 dev wan\naddr add {new}/24 dev wan\n");
    if let Some(gateway) = gateway {
        lines += &format!("route replace default via {gateway}\n");
    }
    world.batch("rw", &lines);
}

/// The gateway's kernel sends to this address, and packets pass.
fn carries_on(session: &Session<'_>, address: &str, outer: &str) {
    assert_says(
        &session.gateway.show_sa(),
        &[&format!("192.0.2.1:4500->{outer}:"), "] ESTABLISHED r"],
    );
    if coupled() {
        let states = session.world.ip("gw", &["xfrm", "state"]);
        assert_says(&states, &[&format!("dst {outer}")]);
    }
    session.passes_packets(address, INSIDE);
    assert_eq!(session.gateway.count("faults"), 0);
    assert_eq!(session.gateway.count("IKE SA established"), 1);
}

pub fn a_client_moves_to_another_address() {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    assert_says(&session.said, &["MOBIKE_SUP"]);
    let address = session.address();
    change_address(&world, CLIENT, "192.0.2.3", None);
    let line = "ikev2_update_sa_addresses: old 192.0.2.2:4500 new 192.0.2.3:4500";
    moved(&session.gateway, line);
    let log = session.swan.log();
    assert_says(&log, &["N(UPD_SA_ADDR)", "N(COOKIE2)"]);
    carries_on(&session, &address, "192.0.2.3");
    // And once more, and back to where it began.
    change_address(&world, "192.0.2.3", CLIENT, None);
    moved(&session.gateway, "old 192.0.2.3:4500 new 192.0.2.2:4500");
    carries_on(&session, &address, CLIENT);
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

pub fn a_client_moves_behind_a_nat() {
    let world = World::new(Layout::Nat);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    let address = session.address();
    change_address(&world, BEHIND_NAT, "10.77.0.3", Some("10.77.0.1"));
    let line = moved(
        &session.gateway,
        "ikev2_update_sa_addresses: old 192.0.2.2:",
    );
    assert_says(&line, &[" new 192.0.2.2:"]);
    carries_on(&session, &address, CLIENT);
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

/// A NAT box that forgets a mapping after a second without packets, and then takes another port.
pub fn forgetful(world: &World) {
    for timeout in ["udp_timeout", "udp_timeout_stream"] {
        let words = format!("net.netfilter.nf_conntrack_{timeout}=1");
        world.run("nat", "sysctl", &["-qw", &words]);
    }
}

fn rebound(mobike: &str, line: &str) {
    let world = World::new(Layout::Nat);
    let client = Client {
        lines: vec![format!("mobike = {mobike}"), "dpd_delay = 3s".to_owned()],
        ..Client::default()
    };
    let session = Session::open(&world, &Conf::default(), &client);
    let address = session.address();
    let before = session.gateway.show_sa();
    forgetful(&world);
    moved(&session.gateway, line);
    assert_ne!(session.gateway.show_sa(), before, "another port");
    carries_on(&session, &address, CLIENT);
}

pub fn a_nat_forgets_a_client_without_mobike() {
    rebound("no", "moved by its NAT: old 192.0.2.2:");
}

pub fn a_nat_forgets_a_client_with_mobike() {
    rebound("yes", "ikev2_update_sa_addresses: old 192.0.2.2:");
}
