//! CREATE_CHILD_SA with a real peer: rekeys of Child SA and IKE SA by either side, with and without
//! key exchange, and traffic that goes on where there is ESP.

use super::gateway::{Conf, Gateway};
use super::session::Session;
use super::strongswan::Client;
use super::world::{INSIDE, Layout, World, assert_says, wait_for};

/// The inbound SPIs of the Child SAs that the gateway shows.
pub fn inbound_spis(session: &Session<'_>) -> Vec<String> {
    inbound_spis_of(&session.gateway)
}

pub fn inbound_spis_of(gateway: &Gateway) -> Vec<String> {
    let shown = gateway.show_sa();
    let lines = shown.lines().filter(|line| line.contains("sa_childsas:"));
    let inbound = lines.filter(|line| line.contains(" in "));
    inbound
        .filter_map(|line| line.split("ESP ").nth(1)?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// Waits until one Child SA is left and it is another than before; packets pass through it.
fn child_was_replaced(session: &Session<'_>, before: &[String]) {
    wait_for("another Child SA in the place of the first", || {
        let now = inbound_spis(session);
        (now.len() == 1 && now != before).then_some(())
    });
    still_works(session);
}

fn still_works(session: &Session<'_>) {
    let address = session.address();
    session.passes_packets(&address, INSIDE);
    assert_eq!(session.gateway.count("IKE SA currently established"), 1);
    assert_eq!(session.gateway.count("faults"), 0);
    assert_says(&session.swan.list_sas(), &["ESTABLISHED", "INSTALLED"]);
}

fn client_rekeys_child(conf: &Conf, client: &Client) {
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, conf, client);
    for _ in 0..3 {
        let before = inbound_spis(&session);
        session.swan.rekey(&["--child", "net"]);
        child_was_replaced(&session, &before);
    }
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

pub fn the_client_rekeys_its_child_sa() {
    client_rekeys_child(&Conf::default(), &Client::default());
}

pub fn the_client_rekeys_its_child_sa_with_key_exchange() {
    let conf = Conf {
        childsa: vec!["enc aes-256-gcm group curve25519".to_owned()],
        ..Conf::default()
    };
    let client = Client {
        esp_proposals: "aes256gcm16-x25519".to_owned(),
        ..Client::default()
    };
    client_rekeys_child(&conf, &client);
}

pub fn a_client_that_insists_on_key_exchange_gets_it_unasked() {
    let client = Client {
        esp_proposals: "aes256gcm16-x25519".to_owned(),
        ..Client::default()
    };
    client_rekeys_child(&Conf::default(), &client);
}

pub fn another_method_is_asked_for_in_a_rekey() {
    let conf = Conf {
        childsa: vec!["enc aes-256-gcm group ecp256".to_owned()],
        ..Conf::default()
    };
    let client = Client {
        esp_proposals: "aes256gcm16-x25519-ecp256".to_owned(),
        ..Client::default()
    };
    let world = World::new(Layout::Wire);
    let session = Session::open(&world, &conf, &client);
    let before = inbound_spis(&session);
    session.swan.rekey(&["--child", "net"]);
    child_was_replaced(&session, &before);
    assert_says(&session.swan.log(), &["N(INVAL_KE)"]);
}

pub fn the_client_rekeys_the_ike_sa() {
    let world = World::new(Layout::Nat);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    let before = inbound_spis(&session);
    for round in 1..=3 {
        session.swan.rekey(&["--ike", "home"]);
        session.gateway.wait_for_count("IKE SA rekeyed", round);
        session
            .gateway
            .wait_for_count("IKE SA currently established", 1);
        assert_eq!(inbound_spis(&session), before, "the Child SA moves along");
        still_works(&session);
    }
    // The Child SA can be rekeyed on the IKE SA that inherited it.
    session.swan.rekey(&["--child", "net"]);
    child_was_replaced(&session, &before);
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

pub fn the_gateway_rekeys_the_ike_sa() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        lifetimes: "ikelifetime 10".to_owned(),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &Client::default());
    for round in 1..=2 {
        session.gateway.wait_for_count("IKE SA rekeyed", round);
        session
            .gateway
            .wait_for_count("IKE SA currently established", 1);
        still_works(&session);
    }
    let log = session.swan.log();
    assert_says(
        &log,
        &[
            "IKE_SA home[2] rekeyed between",
            "received DELETE for IKE_SA",
        ],
    );
}

pub fn the_gateway_rekeys_the_child_sa() {
    // Its lifetime is the kernel's to watch.
    let world = World::new(Layout::Wire);
    let conf = Conf {
        lifetimes: "lifetime 12".to_owned(),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &Client::default());
    for _ in 0..2 {
        let before = inbound_spis(&session);
        child_was_replaced(&session, &before);
    }
}

pub fn no_packet_is_lost_to_rekeys_by_both_sides() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        lifetimes: "lifetime 9".to_owned(),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &Client::default());
    let address = session.address();
    let words = [
        "-q", "-c", "150", "-i", "0.2", "-W", "5", "-I", &address, INSIDE,
    ];
    let ping = world.start("ping", {
        let mut command = world.command("rw", "ping");
        command.args(words);
        command
    });
    for _ in 0..6 {
        std::thread::sleep(std::time::Duration::from_secs(4));
        session.swan.rekey(&["--child", "net"]);
    }
    let said = wait_for("the end of the pings", || {
        let said = ping.log();
        said.contains("packet loss").then_some(said)
    });
    assert_says(
        &said,
        &["150 packets transmitted, 150 received, 0% packet loss"],
    );
    wait_for("one Child SA", || {
        (inbound_spis(&session).len() == 1).then_some(())
    });
}
