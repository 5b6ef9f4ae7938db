//! How sessions live and end: liveness, deletes from either side, half-open ones, shards.

use super::gateway::{Conf, Gateway};
use super::rekey::{inbound_spis, inbound_spis_of};
use super::roles::{answers, turned};
use super::session::{Session, kernel_is_clean, passes_packets};
use super::strongswan::{Client, StrongSwan};
use super::world::{CLIENT, INSIDE, Layout, World, assert_says, wait_for, wait_long_for};

pub fn the_clients_liveness_probes_are_answered() {
    let world = World::new(Layout::Wire);
    let client = Client {
        lines: vec!["dpd_delay = 1s".to_owned()],
        ..Client::default()
    };
    let session = Session::open(&world, &Conf::default(), &client);
    wait_for("answers to two probes", || {
        let log = session.swan.log();
        (log.matches("parsed INFORMATIONAL response").count() >= 2).then_some(())
    });
    assert_says(&session.swan.log(), &["sending DPD request"]);
    session.is_up();
}

pub fn the_gateway_limits_how_long_an_authentication_counts() {
    let world = World::new(Layout::Wire);
    let client = Client {
        lines: vec!["over_time = 5s".to_owned()],
        ..Client::default()
    };
    let conf = Conf {
        set: vec!["auth_lifetime 20".to_owned()],
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &client);
    assert_says(&session.swan.log(), &["received AUTH_LIFETIME of 20s"]);
    session.gateway.wait_for_count("IKE SA established", 2);
    session
        .gateway
        .wait_for_count("IKE SA currently established", 1);
    assert_eq!(session.gateway.count("faults"), 0);
}

pub fn a_byte_limit_replaces_the_child_sa_in_time() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        lifetimes: "lifetime 3600 bytes 200K".to_owned(),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &Client::default());
    let address = session.address();
    let words = ["-q", "-c", "400", "-i", "0.05", "-s", "1000", "-W", "5"];
    let words = [&words[..], &["-I", &address, INSIDE]].concat();
    let said = world.run("rw", "ping", &words);
    assert_says(&said, &[" 400 received, 0% packet loss"]);
    // 400 packets of more than 1000 bytes are two limits of 200 KiB, and one is replaced before.
    let removed = session.gateway.count("Child SA removed");
    assert!(removed >= 4, "{removed}");
    let log = session.gateway.log();
    assert!(!log.contains("expired"), "{log}");
    wait_for("one Child SA", || {
        (inbound_spis(&session).len() == 1).then_some(())
    });
    session.is_up();
}

pub fn a_child_sa_whose_bytes_are_used_up_is_made_anew() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        lifetimes: "lifetime 3600 bytes 100K".to_owned(),
        ..Conf::default()
    };
    let (gateway, swan) = turned(conf, &answers(), &world);
    let before = inbound_spis_of(&gateway);
    // ESP passes while no message of ours gets out, so no rekey comes in time.
    let rule = ["ipproto", "udp", "dport", "4500", "blackhole"];
    world.ip("gw", &[&["rule", "add"], &rule[..]].concat());
    let words = ["-q", "-c", "150", "-i", "0.02", "-s", "1000", "-W", "1"];
    let words = [&words[..], &["-I", INSIDE, CLIENT]].concat();
    world.attempt("gw", "ping", &words);
    gateway.says(&[&format!("Child SA {} expired", before[0])]);
    world.ip("gw", &[&["rule", "del"], &rule[..]].concat());
    wait_long_for("another Child SA in the place of the first", || {
        let now = inbound_spis_of(&gateway);
        (now.len() == 1 && now != before).then_some(())
    });
    wait_long_for("the same at the client", || {
        let listed = swan.list_sas();
        (listed.matches("INSTALLED").count() == 1).then_some(())
    });
    passes_packets(&world, CLIENT, INSIDE);
    assert_eq!(gateway.count("faults"), 0);
}

pub fn the_clients_delete_of_the_ike_sa_removes_everything() {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    let said = session.swan.disconnect();
    assert_says(
        &said,
        &["sending DELETE for IKE_SA", "parsed INFORMATIONAL response"],
    );
    session.is_gone_from_the_gateway();
    assert_eq!(session.gateway.count("Child SA removed"), 2);
    session.gateway.wait_for_count("IKE SA removed", 1);
    assert_eq!(session.gateway.show_sa(), "");
}

pub fn the_clients_delete_of_the_child_sa_keeps_the_ike_sa() {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    let said = session.swan.drop_child("net");
    assert_says(&said, &["received DELETE for ESP CHILD_SA with SPI"]);
    let shown = session.gateway.show_sa();
    assert_says(&shown, &["ESTABLISHED r"]);
    assert!(!shown.contains("sa_childsas"), "{shown}");
    assert_eq!(session.gateway.count("Child SA removed"), 2);
    kernel_is_clean(&world);
}

pub fn reset_sa_deletes_at_the_client() {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    session.gateway.ikectl(&["reset", "sa"]);
    session.swan.wait_for_log("received DELETE for IKE_SA home");
    wait_for("the client to forget", || {
        let listed = session.swan.list_sas();
        (!listed.contains("ESTABLISHED")).then_some(())
    });
    session.is_gone_from_the_gateway();
}

pub fn reset_id_deletes_the_one_that_is_named() {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    session
        .gateway
        .ikectl(&["reset", "id", "FQDN/nobody.example"]);
    session.is_up();
    session
        .gateway
        .ikectl(&["reset", "id", "FQDN/warrior.example"]);
    session.swan.wait_for_log("received DELETE for IKE_SA home");
    session.is_gone_from_the_gateway();
}

pub fn a_stopped_gateway_leaves_nothing_in_the_kernel() {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    session.gateway.stop();
    kernel_is_clean(&world);
}

pub fn a_client_that_comes_back_without_a_word_replaces_its_old_sa() {
    let world = World::new(Layout::Wire);
    let client = Client::default();
    let session = Session::open(&world, &Conf::default(), &client);
    let Session { gateway, swan, .. } = session;
    swan.kill();
    let swan = StrongSwan::start(&world, &client);
    let said = swan.connect();
    assert_says(&said, &["N(INIT_CONTACT)", "established between"]);
    // INITIAL_CONTACT: the old one is gone without waiting for a timer.
    gateway.wait_for_count("IKE SA currently established", 1);
    assert_eq!(gateway.count("IKE SA established"), 2);
    assert_eq!(gateway.show_sa().matches("iked_sas:").count(), 1);
}

/// The pool has 254 addresses, of which one is drawn at random where none is kept.
pub fn a_client_that_comes_back_without_a_word_keeps_its_address() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        set: vec!["stickyaddress".to_owned()],
        ..Conf::default()
    };
    let client = Client {
        // It says nothing of before, and asks for no address but any.
        lines: vec!["unique = never".to_owned()],
        ..Client::default()
    };
    let mut session = Session::open(&world, &conf, &client);
    let address = session.address();
    // In any of two shards.
    for _ in 0..4 {
        let Session { gateway, swan, .. } = session;
        swan.kill();
        let swan = StrongSwan::start(&world, &client);
        let said = swan.connect();
        gateway.wait_for_count("IKE SA currently established", 1);
        session = Session {
            world: &world,
            gateway,
            swan,
            said,
        };
        assert_eq!(session.address(), address);
        session.passes_packets(&address, INSIDE);
    }
    let said = "address re-use (identical dstid)";
    wait_for("four addresses used again", || {
        (session.gateway.log().matches(said).count() == 4).then_some(())
    });
    assert_eq!(session.gateway.count("leases"), 1);
}

pub fn a_gateway_that_died_is_noticed_by_the_client() {
    let world = World::new(Layout::Wire);
    let client = Client {
        lines: vec!["dpd_delay = 1s".to_owned()],
        daemon_lines: vec!["retransmit_timeout = 0.5".to_owned()],
        ..Client::default()
    };
    let Session { gateway, swan, .. } = Session::open(&world, &Conf::default(), &client);
    gateway.kill();
    wait_for("the client to give up", || {
        swan.established().is_empty().then_some(())
    });
    assert_says(&swan.log(), &["giving up after 3 retransmits"]);
    // The next one cleans up what the dead one left in the kernel, and lets the client in again.
    let gateway = Gateway::start(&world, &Conf::default());
    kernel_is_clean(&world);
    swan.connect();
    gateway.wait_for_count("IKE SA currently established", 1);
}

pub fn a_client_that_died_is_noticed_by_the_gateway() {
    // The slowest of all: our patience with a peer is 126 seconds.
    let world = World::new(Layout::Wire);
    let conf = Conf {
        lifetimes: "ikelifetime 9".to_owned(),
        ..Conf::default()
    };
    let Session { gateway, swan, .. } = Session::open(&world, &conf, &Client::default());
    swan.kill();
    wait_long_for("the gateway to give up", || {
        (gateway.count("IKE SA currently established") == 0).then_some(())
    });
    assert_eq!(gateway.count("leases"), 0);
    kernel_is_clean(&world);
}

/// The client's IKE_AUTH never arrives, and then the client is gone.
fn dies_half_open(conf: Conf) {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        set: [conf.set, vec!["halfopen_timeout 2".to_owned()]].concat(),
        ..conf
    };
    let gateway = Gateway::start(&world, &conf);
    // A rule of the routing table swallows port 4500: no kernel of ours lacks that.
    let rule = "rule add ipproto udp dport 4500 blackhole";
    world.ip("rw", &rule.split(' ').collect::<Vec<_>>());
    let swan = StrongSwan::start(&world, &Client::default());
    swan.start_connecting();
    gateway.wait_for_count("half open", 1);
    swan.wait_for_log("generating IKE_AUTH request 1");
    swan.kill();
    gateway.wait_for_count("half open", 0);
    let shown = gateway.show_sa();
    assert!(!shown.contains("iked_sas:"), "{shown}");
    assert_eq!(gateway.count("half open timeouts"), 1);
    assert_eq!(gateway.count("IKE SA created"), 1);
    assert_eq!(gateway.count("IKE SA established"), 0);
    assert_eq!(gateway.count("leases"), 0);
    kernel_is_clean(&world);
}

pub fn a_client_that_dies_in_mid_handshake_leaves_nothing() {
    dies_half_open(Conf::default());
}

pub fn one_two_and_four_shards_give_the_same_results() {
    let mut results = Vec::new();
    for shards in [1, 2, 4] {
        let world = World::new(Layout::Nat);
        let conf = Conf {
            shards,
            ..Conf::default()
        };
        let session = Session::open(&world, &conf, &Client::default());
        let mut shown = vec![steady(&session)];
        for _ in 0..4 {
            session.swan.disconnect();
            session.is_gone_from_the_gateway();
            session.swan.connect();
            shown.push(steady(&session));
        }
        assert_eq!(session.gateway.count("IKE SA established"), 5);
        assert_eq!(session.gateway.count("IKE SA created"), 5);
        assert_eq!(session.gateway.count("unexpected"), 0);
        assert_eq!(session.gateway.count("faults"), 0);
        results.push(shown);
    }
    let first = &results[0];
    assert!(results.iter().all(|other| other == first), "{results:#?}");
}

/// The established session as `ikectl` shows it, less the numbers that are drawn: SPIs, the
/// assigned address, the port that the NAT box made up.
fn steady(session: &Session<'_>) -> String {
    let shown = session.gateway.show_sa();
    let mut sas = shown.split("iked_sas:");
    let live = sas.find(|sa| sa.contains("ESTABLISHED")).unwrap();
    let words = live.split_whitespace().map(|word| {
        let address = word.split_once("->192.0.2.2:").map(|(before, _)| before);
        let number = word.strip_prefix("0x").map(|_| "NUMBER");
        address.or(number).unwrap_or(word)
    });
    let steady = words.collect::<Vec<_>>().join(" ");
    steady.replace(&session.address(), "ADDRESS")
}
