//! libreswan on IKE SAs that live: rekeys by either side, and an `iked` that begins. All of it needs a
//! kernel with ESP, without which pluto has no Child SA.

use std::time::{Duration, Instant};

use super::gateway::{CLIENT_ID, Conf, Gateway};
use super::libreswan::{Client, Libreswan};
use super::pluto_session::Session;
use super::rekey::inbound_spis_of;
use super::session::{gateway_has_let_go, passes_packets};
use super::world::{CLIENT, GATEWAY, INSIDE, Layout, World, assert_says, wait_for, wait_long_for};

/// A network behind the client, and a host there.
pub const BEHIND_NET: &str = "10.66.0.0/24";
pub const BEHIND: &str = "10.66.0.1";

/// What is waited for after a rekey of the Child SA.
const ANOTHER: &str = "one Child SA in the place of the first";
/// When a client that was to rekey is told so once more.
const AGAIN: Duration = Duration::from_secs(12);

/// Network to network: the conf of either role, and the client for it.
pub fn networks(mode: &'static str) -> (Conf, Client) {
    let conf = Conf {
        mode,
        hosts: format!("local {GATEWAY} peer {CLIENT}"),
        flows: format!("from 10.8.0.0/24 to {BEHIND_NET}"),
        config: Vec::new(),
        ..Conf::default()
    };
    let client = Client {
        wants_address: false,
        lines: vec![format!("leftsubnet={BEHIND_NET}")],
        ..Client::default()
    };
    (conf, client)
}

/// Waits until both ends have one IKE SA with one Child SA, in the place of the one before.
pub fn was_replaced(world: &World, gateway: &Gateway, before: &[String]) {
    wait_for_another_child(gateway, before);
    still_works(world, gateway);
}

pub fn wait_for_another_child(gateway: &Gateway, before: &[String]) {
    wait_for(ANOTHER, || another_child(gateway, before));
}

fn another_child(gateway: &Gateway, before: &[String]) -> Option<()> {
    let now = inbound_spis_of(gateway);
    (now.len() == 1 && now != before).then_some(())
}

pub fn still_works(world: &World, gateway: &Gateway) {
    gateway.wait_for_count("IKE SA currently established", 1);
    for host in ["gw", "rw"] {
        wait_for("two SAs in the kernel", || {
            let states = world.ip(host, &["xfrm", "state"]);
            (states.matches("proto esp").count() == 2).then_some(())
        });
    }
    passes_packets(world, BEHIND, INSIDE);
    assert_eq!(gateway.count("faults"), 0);
}

/// The host there, and its way to the gateway's network.
pub fn open_behind(world: &World) {
    let lines =
        format!("addr add {BEHIND}/32 dev lo\nroute add {INSIDE}/32 dev wan src {BEHIND}\n");
    world.batch("rw", &lines);
}

fn client_rekeys(conf: &Conf, client: &Client) {
    let world = World::new(Layout::Wire);
    let session = Session::connect(&world, conf, client);
    session.passes_packets(BEHIND, INSIDE);
    let (gateway, swan) = (&session.gateway, &session.swan);
    for round in 1..=2 {
        let before = inbound_spis_of(gateway);
        swan.rekey_child();
        was_replaced(&world, gateway, &before);
        swan.rekey_ike();
        gateway.wait_for_count("IKE SA rekeyed", round);
        still_works(&world, gateway);
    }
    swan.disconnect();
    gateway_has_let_go(&world, gateway);
}

pub fn the_client_rekeys() {
    let (conf, mut client) = networks("passive");
    client.lines.push("pfs=no".to_owned());
    client_rekeys(&conf, &client);
}

pub fn the_client_rekeys_with_key_exchange() {
    let (mut conf, mut client) = networks("passive");
    conf.childsa = vec!["enc aes-256-gcm group curve25519".to_owned()];
    client.esp = "aes_gcm256;dh31".to_owned();
    client_rekeys(&conf, &client);
}

fn gateway_rekeys(childsa: &str, esp: &str, pfs: &str) {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = networks("passive");
    conf.lifetimes = "ikelifetime 10 lifetime 13".to_owned();
    conf.childsa = vec![childsa.to_owned()];
    client.esp = esp.to_owned();
    client.lines.push(format!("pfs={pfs}"));
    let session = Session::connect(&world, &conf, &client);
    session.passes_packets(BEHIND, INSIDE);
    let gateway = &session.gateway;
    for _ in 0..2 {
        let (before, rekeyed) = (inbound_spis_of(gateway), gateway.count("IKE SA rekeyed"));
        gateway.wait_for_count_above("IKE SA rekeyed", rekeyed);
        was_replaced(&world, gateway, &before);
    }
}

pub fn the_gateway_rekeys() {
    gateway_rekeys("enc aes-256-gcm", "aes_gcm256", "no");
}

pub fn the_gateway_rekeys_with_key_exchange() {
    gateway_rekeys("enc aes-256-gcm group curve25519", "aes_gcm256;dh31", "yes");
}

pub fn the_gateway_begins() {
    let (conf, client) = networks("active");
    begins(&conf, &client);
}

/// The gateway begins, either side rekeys, and it ends; what the gateway has logged.
pub fn begins(conf: &Conf, client: &Client) -> String {
    let world = World::new(Layout::Wire);
    open_behind(&world);
    let swan = Libreswan::start(&world, client);
    let gateway = Gateway::start(&world, conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    let up = [&format!("<FQDN/{CLIENT_ID}>["), "] ESTABLISHED i"];
    assert_says(&gateway.show_sa(), &up);
    still_works(&world, &gateway);
    // Whoever began, either side may rekey, and either may end it.
    let before = inbound_spis_of(&gateway);
    swan.rekey_child();
    was_replaced(&world, &gateway, &before);
    swan.rekey_ike();
    gateway.wait_for_count("IKE SA rekeyed", 1);
    still_works(&world, &gateway);
    gateway.ikectl(&["passive"]);
    gateway.ikectl(&["reset", "sa"]);
    swan.wait_for_states(|states| !states.contains("ESTABLISHED_IKE_SA"));
    gateway_has_let_go(&world, &gateway);
    gateway.log()
}

pub fn in_transport_mode() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = networks("passive");
    conf.encap = "transport";
    conf.flows = format!("from {GATEWAY} to {CLIENT}");
    client.remote_ts = format!("{GATEWAY}/32");
    client.lines = vec![
        format!("leftsubnet={CLIENT}/32"),
        "type=transport".to_owned(),
    ];
    let _session = Session::connect(&world, &conf, &client);
    let states = world.ip("gw", &["xfrm", "state"]);
    assert_eq!(states.matches("mode transport").count(), 2, "{states}");
    passes_packets(&world, CLIENT, GATEWAY);
}

pub fn a_gateway_that_died_is_noticed_by_the_client() {
    let world = World::new(Layout::Wire);
    let (conf, mut client) = networks("passive");
    let lines = ["dpddelay=1s", "dpdtimeout=5s", "retransmit-timeout=4s"];
    client.lines.extend(lines.map(str::to_owned));
    let session = Session::connect(&world, &conf, &client);
    let Session { gateway, swan, .. } = session;
    gateway.kill();
    swan.wait_for_states(|states| !states.contains("ESTABLISHED_IKE_SA"));
}

/// The client rekeys its Child SA. Where the gateway rekeys the IKE SA just then it is told to come again
/// (RFC 7296, 2.25.2): "CREATE_CHILD_SA failed with error notification TEMPORARY_FAILURE", and pluto leaves it
/// at that.
fn rekeys_until_replaced(gateway: &Gateway, swan: &Libreswan) {
    let before = inbound_spis_of(gateway);
    let mut asked: Option<Instant> = None;
    wait_long_for(ANOTHER, || {
        if asked.is_none_or(|at| at.elapsed() > AGAIN) {
            swan.rekey_child();
            asked = Some(Instant::now());
        }
        another_child(gateway, &before)
    });
}

pub fn both_sides_rekey_over_a_lossy_wire() {
    let world = World::new(Layout::Wire);
    world.disturb();
    let (mut conf, client) = networks("passive");
    conf.lifetimes = "ikelifetime 20".to_owned();
    let session = Session::connect(&world, &conf, &client);
    let (gateway, swan) = (&session.gateway, &session.swan);
    for _ in 0..2 {
        rekeys_until_replaced(gateway, swan);
    }
    wait_long_for("rekeys by the gateway", || {
        (gateway.count("IKE SA rekeyed") >= 2).then_some(())
    });
    world.calm();
    open_behind(&world);
    still_works(&world, gateway);
    swan.disconnect();
    gateway_has_let_go(&world, gateway);
}
