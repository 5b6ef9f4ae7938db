//! What the gateway's kernel tells: that packets wait for a Child SA, that none come back, and that
//! an address has gone.

use super::gateway::{Conf, Gateway};
use super::session::{kernel_holds_traps, passes_packets};
use super::strongswan::{Client, StrongSwan};
use super::world::{CLIENT, GATEWAY, INSIDE, Layout, World, assert_says, coupled, wait_for};

/// Another host at the client's end.
const BESIDE: &str = "10.99.0.1";

/// A gateway that begins by itself.
fn active() -> Conf {
    Conf {
        mode: "active",
        hosts: format!("local {GATEWAY} peer {CLIENT}"),
        flows: format!("from 10.8.0.0/24 to {CLIENT}"),
        config: Vec::new(),
        ..Conf::default()
    }
}

/// A client that only answers.
fn answers() -> Client {
    Client {
        vips: String::new(),
        ..Client::default()
    }
}

fn open<'w>(world: &'w World, conf: &Conf, client: &Client) -> (Gateway, StrongSwan<'w>) {
    let swan = StrongSwan::start(world, client);
    let gateway = Gateway::start(world, conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    wait_for("the Child SA at the client", || {
        swan.list_sas().contains("INSTALLED").then_some(())
    });
    (gateway, swan)
}

/// Pings from behind the gateway until there is an answer.
fn reaches(world: &World, to: &str) {
    let words = ["-q", "-c", "1", "-W", "1", "-I", INSIDE, to];
    wait_for(&format!("an answer from {to}"), || {
        world
            .attempt("gw", "ping", &words)
            .status
            .success()
            .then_some(())
    });
}

/// Pings that have reached the client, in the clear or not.
fn pings_at_the_client(world: &World) -> String {
    let text = world.run("rw", "cat", &["/proc/net/snmp"]);
    let line = text
        .lines()
        .find(|line| line.starts_with("IcmpMsg: ") && line.ends_with(char::is_numeric));
    line.unwrap_or_default().to_owned()
}

pub fn iked_tells_its_peer_when_an_address_of_its_own_changes() {
    let world = World::new(Layout::Wire);
    let (gateway, swan) = open(&world, &active(), &answers());
    passes_packets(&world, CLIENT, INSIDE);
    // A DHCP client renews: gone and back in one breath.
    let again = format!("addr del {GATEWAY}/24 dev wan\naddr add {GATEWAY}/24 dev wan\n");
    world.batch("gw", &again);
    passes_packets(&world, CLIENT, INSIDE);
    for (old, new) in [(GATEWAY, "192.0.2.5"), ("192.0.2.5", "192.0.2.6")] {
        let lines = format!("addr del {old}/24 dev wan\naddr add {new}/24 dev wan\n");
        world.batch("gw", &lines);
        wait_for(&format!("the IKE SA at {new}"), || {
            let there = swan.list_sas().contains(&format!("@ {new}[4500]"));
            there.then_some(())
        });
        let shown = gateway.show_sa();
        assert_says(
            &shown,
            &[&format!("{new}:4500->{CLIENT}:4500"), "] ESTABLISHED i"],
        );
        if coupled() {
            wait_for("the client's SAs to follow", || {
                let states = world.ip("rw", &["xfrm", "state"]);
                (states.matches(new).count() == 2 && !states.contains(old)).then_some(())
            });
        }
        passes_packets(&world, CLIENT, INSIDE);
    }
    assert_eq!(
        swan.log().matches("parsed INFORMATIONAL request").count(),
        2
    );
    assert_eq!(gateway.count("IKE SA established"), 1);
    assert_eq!(gateway.count("faults"), 0);
}

pub fn a_packet_brings_the_tunnel_back_and_none_leaves_in_the_clear() {
    let world = World::new(Layout::Wire);
    let (gateway, swan) = open(&world, &active(), &answers());
    reaches(&world, CLIENT);
    swan.disconnect();
    gateway.wait_for_count("IKE SA currently established", 0);
    kernel_holds_traps(&world, 1);
    // Long before the minute is over after which it would begin by itself.
    reaches(&world, CLIENT);
    gateway.says(&["a packet to its peer"]);
    gateway.wait_for_count("IKE SA currently established", 1);
    assert_eq!(gateway.count("IKE SA established"), 2);
    // Nobody answers: packets wait in vain, but not one of them gets out.
    let before = pings_at_the_client(&world);
    swan.disconnect();
    swan.kill();
    kernel_holds_traps(&world, 1);
    let words = [
        "-q", "-c", "3", "-i", "0.3", "-W", "1", "-I", INSIDE, CLIENT,
    ];
    assert!(!world.attempt("gw", "ping", &words).status.success());
    assert_eq!(pings_at_the_client(&world), before);
    gateway.stop();
    assert!(!world.ip("gw", &["xfrm", "policy"]).contains("tmpl"));
}

pub fn a_flow_that_the_client_left_out_gets_a_child_sa_of_its_own_when_it_is_used() {
    let world = World::new(Layout::Wire);
    world.batch("rw", &format!("addr add {BESIDE}/32 dev lo\n"));
    world.batch("gw", &format!("route add {BESIDE}/32 via {CLIENT}\n"));
    let conf = Conf {
        flows: format!("from 10.8.0.0/24 to {CLIENT} from 10.8.0.0/24 to {BESIDE}"),
        ..active()
    };
    let beside = "beside {\n esp_proposals = aes256gcm16\n remote_ts = 10.8.0.0/24\n";
    let client = Client {
        children: vec![format!("{beside} local_ts = {BESIDE}/32\n }}")],
        ..answers()
    };
    let (gateway, swan) = open(&world, &conf, &client);
    let first = swan.list_sas();
    assert_eq!(first.matches("INSTALLED").count(), 1, "{first}");
    reaches(&world, CLIENT);
    reaches(&world, BESIDE);
    let both = swan.list_sas();
    assert_eq!(both.matches("INSTALLED").count(), 2, "{both}");
    assert_says(&both, &[BESIDE, "net: ", "beside: "]);
    assert_eq!(gateway.count("IKE SA established"), 1);
    swan.disconnect();
    kernel_holds_traps(&world, 2);
}

pub fn a_peer_that_sends_nothing_back_is_asked_soon() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        set: vec!["dpd_check_interval 4".to_owned()],
        ..active()
    };
    let (gateway, swan) = open(&world, &conf, &answers());
    // As long as packets come back, nothing is asked, though no IKE message passes.
    let words = ["-q", "-c", "100", "-i", "0.1", "-I", INSIDE, CLIENT];
    world.run("gw", "ping", &words);
    let asked = |swan: &StrongSwan<'_>| swan.log().matches("parsed INFORMATIONAL request").count();
    assert_eq!(asked(&swan), 0);
    world.batch("rw", "link set wan down\n");
    wait_for("a question to the peer", || {
        world.attempt(
            "gw",
            "ping",
            &["-q", "-c", "3", "-W", "1", "-I", INSIDE, CLIENT],
        );
        let log = gateway.log();
        log.contains("retransmit 1 INFORMATIONAL").then_some(())
    });
}
