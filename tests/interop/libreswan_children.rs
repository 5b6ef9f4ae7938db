//! libreswan with two Child SAs, rekeys that both sides begin at once, addresses that pluto assigns, and
//! its death. All of it needs a kernel with ESP, without which pluto has no Child SA.

use super::gateway::{Conf, Gateway};
use super::libreswan::{Client, Libreswan};
use super::libreswan_rekey::{BEHIND, BEHIND_NET, networks, wait_for_another_child};
use super::pluto_session::Session;
use super::rekey::inbound_spis_of;
use super::session::{gateway_has_let_go, kernel_is_clean, packets_pass, passes_packets};
use super::world::{INSIDE, INSIDE_NET, Layout, World, assert_says, wait_for, wait_long_for};

/// Another network behind the gateway, and a host there.
const OTHER_NET: &str = "10.88.0.0/24";
const OTHER: &str = "10.88.0.1";

/// Ends with two networks behind the gateway; the client has a connection for each.
fn two_networks(world: &World, mode: &'static str) -> (Conf, Client) {
    world.batch("gw", &format!("addr add {OTHER}/24 dev lo\n"));
    let lines = format!(
        "addr add {BEHIND}/32 dev lo\nroute add {INSIDE}/32 dev wan src {BEHIND}\n\
         route add {OTHER}/32 dev wan src {BEHIND}\n"
    );
    world.batch("rw", &lines);
    let (mut conf, mut client) = networks(mode);
    conf.flows = format!("from {INSIDE_NET} to {BEHIND_NET} from {OTHER_NET} to {BEHIND_NET}");
    let other = format!("rightsubnet={OTHER_NET}\nleftsubnet={BEHIND_NET}");
    client.more = vec![("other", other)];
    (conf, client)
}

fn both_carry(world: &World, gateway: &Gateway) {
    assert_eq!(inbound_spis_of(gateway).len(), 2);
    for inside in [INSIDE, OTHER] {
        packets_pass(world, BEHIND, inside, &[4]);
    }
}

pub fn the_client_asks_for_a_second_child_sa() {
    let world = World::new(Layout::Wire);
    let (conf, client) = two_networks(&world, "passive");
    let session = Session::connect(&world, &conf, &client);
    let (gateway, swan) = (&session.gateway, &session.swan);
    let said = swan.initiate("other");
    assert_says(&said, &["established Child SA"]);
    both_carry(&world, gateway);
    for name in ["home", "other"] {
        let before = inbound_spis_of(gateway);
        swan.rekey_child_of(name);
        wait_for("the rekey of one of two", || {
            let now = inbound_spis_of(gateway);
            let kept = now.iter().filter(|spi| before.contains(spi)).count();
            (now.len() == 2 && kept == 1).then_some(())
        });
        wait_for("four SAs in the client's kernel", || {
            let states = world.ip("rw", &["xfrm", "state"]);
            (states.matches("proto esp").count() == 4).then_some(())
        });
        both_carry(&world, gateway);
    }
    let before = inbound_spis_of(gateway);
    swan.rekey_ike();
    gateway.wait_for_count("IKE SA rekeyed", 1);
    gateway.wait_for_count("IKE SA currently established", 1);
    assert_eq!(inbound_spis_of(gateway), before);
    both_carry(&world, gateway);
    gateway.ikectl(&["reset", "sa"]);
    gateway_has_let_go(&world, gateway);
}

pub fn the_gateway_asks_for_a_second_child_sa() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = two_networks(&world, "active");
    // It wants a key exchange with all but the first.
    conf.childsa = vec!["enc aes-256-gcm group curve25519".to_owned()];
    client.esp = "aes_gcm256;dh31".to_owned();
    let swan = Libreswan::start(&world, &client);
    let gateway = Gateway::start(&world, &conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    // pluto takes one network into a Child SA; packets to the other ask for one of its own.
    for inside in [INSIDE, OTHER] {
        let words = ["-q", "-c", "1", "-W", "1", "-I", inside, BEHIND];
        wait_for(&format!("an answer to {inside}"), || {
            let output = world.attempt("gw", "ping", &words);
            output.status.success().then_some(())
        });
    }
    both_carry(&world, &gateway);
    assert_eq!(gateway.count("IKE SA established"), 1);
    assert_says(&swan.traffic(), &["\"home\"", "\"other\""]);
}

/// While nothing passes the gateway begins a rekey by itself, and the client is told to begin the same.
fn both_begin(world: &World, gateway: &Gateway, swan: &Libreswan) {
    world.interrupt();
    let before = gateway.count("message sent");
    wait_for("the gateway to begin a rekey", || {
        (gateway.count("message sent") > before).then_some(())
    });
    let before = swan.log().matches("retransmission").count();
    swan.rekey_child();
    wait_for("a retransmission of pluto", || {
        (swan.log().matches("retransmission").count() > before).then_some(())
    });
    world.calm();
}

pub fn both_sides_rekey_the_child_sa_at_once() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = networks("passive");
    conf.lifetimes = "lifetime 12".to_owned();
    client.more_lines(&["pfs=no"]);
    let session = Session::connect(&world, &conf, &client);
    session.passes_packets(BEHIND, INSIDE);
    let (gateway, swan) = (&session.gateway, &session.swan);
    let first = inbound_spis_of(gateway);
    both_begin(&world, gateway, swan);
    wait_for_another_child(gateway, &first);
    gateway.wait_for_count("IKE SA currently established", 1);
    // Which of the two stays, the nonces say. Where it is pluto's, and pluto took ours up last, it has
    // nothing left to send through: its next packet makes it ask for another.
    let ours_goes = gateway.log().contains("simultaneous rekey: ours goes");
    let sas: &[usize] = if ours_goes { &[2, 4] } else { &[2] };
    // pluto sends through a new one as soon as it has answered, and until that answer has come again to a
    // gateway that missed it, nothing arrives.
    let words = ["-q", "-c", "1", "-W", "1", "-I", BEHIND, INSIDE];
    wait_for("a packet to pass again", || {
        let output = world.attempt("rw", "ping", &words);
        output.status.success().then_some(())
    });
    packets_pass(&world, BEHIND, INSIDE, sas);
    swan.wait_for_states(|states| {
        let children = states.matches("ESTABLISHED_CHILD_SA").count();
        children == 1 || ours_goes && children == 2
    });
    assert_eq!(gateway.count("IKE SA established"), 1);
    assert_eq!(gateway.count("faults"), 0);
}

pub fn a_client_that_died_is_noticed_by_the_gateway() {
    let world = World::new(Layout::Wire);
    let (mut conf, client) = networks("passive");
    conf.lifetimes = "ikelifetime 9".to_owned();
    let Session { gateway, swan, .. } = Session::connect(&world, &conf, &client);
    swan.kill();
    wait_long_for("the gateway to give up", || {
        (gateway.count("IKE SA currently established") == 0).then_some(())
    });
    kernel_is_clean(&world);
}

pub fn the_peer_assigns_an_address() {
    let world = World::new(Layout::Wire);
    world.batch("rw", &format!("addr add {BEHIND}/24 dev lo\n"));
    let (mut conf, mut client) = networks("active");
    conf.flows = format!("from dynamic to {BEHIND_NET}");
    conf.requests = vec!["address any"];
    client.remote_ts = String::new();
    client.more_lines(&[
        "rightaddresspool=10.7.0.10-10.7.0.20",
        "leftmodecfgserver=yes",
        "rightmodecfgclient=yes",
        "modecfgpull=yes",
        "narrowing=yes",
    ]);
    let _swan = Libreswan::start(&world, &client);
    let gateway = Gateway::start(&world, &conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    let shown = gateway.show_sa();
    let before = shown.split("/32 -> 10.66.0.0/24 ").next().unwrap();
    let address = before.rsplit(' ').next().unwrap();
    assert!(address.starts_with("10.7.0."), "{shown}");
    world.batch("gw", &format!("addr add {address}/32 dev lo\n"));
    let lines = format!("route add {address}/32 dev wan src {BEHIND}\n");
    world.batch("rw", &lines);
    passes_packets(&world, BEHIND, address);
}
