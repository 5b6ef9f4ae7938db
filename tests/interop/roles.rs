//! `iked` begins, and what else a peer must understand to go along: REDIRECT (RFC 5685) and an IKE SA
//! without a Child SA at first (RFC 6023).

use super::gateway::{CLIENT_ID, Conf, Gateway};
use super::keys::Kind;
use super::session::{Session, kernel_holds_traps, kernel_is_clean, passes_packets, raw_keys};
use super::strongswan::{Client, StrongSwan};
use super::world::{CLIENT, GATEWAY, INSIDE, Layout, World, assert_says, coupled, wait_for};

/// Another address of the gateway.
const ELSEWHERE: &str = "192.0.2.9";

pub fn a_client_is_sent_to_another_address() {
    let world = World::new(Layout::Wire);
    world.batch("gw", &format!("addr add {ELSEWHERE}/24 dev wan\n"));
    let session = Session::open(&world, &Conf::default(), &Client::default());
    session.gateway.ikectl(&["redirect", ELSEWHERE]);
    wait_for("an IKE SA with the other address", || {
        let shown = session.gateway.show_sa();
        let there = format!(" {ELSEWHERE}:4500->");
        let mut lines = shown.lines();
        lines
            .any(|line| line.contains(&there) && line.contains("ESTABLISHED"))
            .then_some(())
    });
    session
        .gateway
        .wait_for_count("IKE SA currently established", 1);
    assert_says(&session.swan.log(), &["redirect"]);
    session.gateway.says(&["redirecting to 192.0.2.9"]);
    let address = session.address();
    session.passes_packets(&address, INSIDE);
}

pub fn a_client_comes_without_a_child_sa_and_asks_for_one_later() {
    let world = World::new(Layout::Wire);
    let client = Client {
        lines: vec!["childless = force".to_owned()],
        ..Client::default()
    };
    let session = Session::open(&world, &Conf::default(), &client);
    assert_says(
        &session.said,
        &["generating CREATE_CHILD_SA request 2 [ SA No TSi TSr ]"],
    );
    let mut lines = session.said.lines();
    let auth = lines
        .find(|line| line.contains("generating IKE_AUTH request 1"))
        .unwrap();
    assert!(!auth.contains(" SA "), "{auth}");
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

/// The client lets nobody in who asks for a Child SA at once.
pub fn the_gateway_begins_without_a_child_sa() {
    let said = begins_childless("force");
    assert_says(&said, &["parsed CREATE_CHILD_SA request 2 [ SA No"]);
}

/// The client does not say that it takes such, so the gateway asks as usual.
pub fn the_gateway_begins_without_a_child_sa_only_where_it_may() {
    let said = begins_childless("never");
    assert_says(&said, &["generating IKE_AUTH response 1 [ IDr AUTH SA "]);
}

fn begins_childless(childless: &str) -> String {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        encap: "tunnel childless",
        ..Conf::default()
    };
    let client = Client {
        lines: vec![format!("childless = {childless}")],
        ..answers()
    };
    begins(conf, &client, &world)
}

/// The gateway connects to the client, which only answers.
pub fn turned<'w>(mut conf: Conf, client: &Client, world: &'w World) -> (Gateway, StrongSwan<'w>) {
    conf.mode = "active";
    conf.hosts = format!("local {GATEWAY} peer {CLIENT}");
    if conf.requests.is_empty() {
        conf.flows = format!("from 10.8.0.0/24 to {CLIENT}");
    }
    conf.config = Vec::new();
    let swan = StrongSwan::start(world, client);
    let gateway = Gateway::start(world, &conf);
    gateway.wait_for_count("IKE SA currently established", 1);
    wait_for("the Child SA at the client", || {
        swan.list_sas().contains("INSTALLED").then_some(())
    });
    let shown = gateway.show_sa();
    assert_says(
        &shown,
        &[&format!("<FQDN/{CLIENT_ID}>["), "] ESTABLISHED i"],
    );
    (gateway, swan)
}

/// The gateway connects and either side rekeys; gives what the client has logged.
pub fn begins(conf: Conf, client: &Client, world: &World) -> String {
    let (gateway, swan) = turned(conf, client, world);
    passes_packets(world, CLIENT, INSIDE);
    // Whoever began, either side may rekey, and the roles turn.
    swan.rekey(&["--child", "net"]);
    gateway.wait_for_count("Child SA removed", 2);
    swan.rekey(&["--ike", "home"]);
    gateway.wait_for_count("IKE SA rekeyed", 1);
    gateway.wait_for_count("IKE SA currently established", 1);
    assert_says(&gateway.show_sa(), &["] ESTABLISHED r"]);
    passes_packets(world, CLIENT, INSIDE);
    swan.disconnect();
    gateway.wait_for_count("IKE SA currently established", 0);
    kernel_holds_traps(world, 1);
    assert_eq!(gateway.count("faults"), 0);
    swan.log()
}

/// A client that asks for no address.
pub fn answers() -> Client {
    Client {
        vips: String::new(),
        ..Client::default()
    }
}

pub fn the_gateway_begins_with_a_secret() {
    let world = World::new(Layout::Wire);
    begins(Conf::default(), &answers(), &world);
}

pub fn the_gateway_begins_with_raw_ecdsa_keys() {
    let world = World::new(Layout::Wire);
    let client = Client {
        keys: raw_keys(&world, Kind::EcdsaP256, Kind::EcdsaP256),
        ..answers()
    };
    let conf = Conf {
        auth: String::new(),
        ..Conf::default()
    };
    let said = begins(conf, &client, &world);
    let method = "authentication of 'gateway.example' with ECDSA_WITH_SHA256_DER successful";
    assert_says(&said, &[method]);
}

pub fn the_gateway_tries_again_with_the_key_exchange_that_the_client_wants() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        ikesa: vec!["enc aes-256-gcm prf hmac-sha2-256 group modp2048 group curve25519".to_owned()],
        ..Conf::default()
    };
    let said = begins(conf, &answers(), &world);
    assert_says(
        &said,
        &["generating IKE_SA_INIT response 0 [ N(INVAL_KE) ]"],
    );
}

pub fn the_gateway_begins_with_rsa_keys_in_fragments() {
    let world = World::new(Layout::Wire);
    let client = Client {
        keys: raw_keys(&world, Kind::Rsa2048, Kind::Rsa2048),
        lines: vec!["fragmentation = yes".to_owned()],
        daemon_lines: vec!["fragment_size = 400".to_owned()],
        ..answers()
    };
    let conf = Conf {
        set: vec!["fragmentation".to_owned(), "fragment_size 400".to_owned()],
        auth: String::new(),
        ..Conf::default()
    };
    let (gateway, swan) = turned(conf, &client, &world);
    assert!(gateway.count("fragment sent") >= 2);
    assert!(gateway.count("fragment received") >= 2);
    assert_eq!(gateway.count("fragment reassembled"), 1);
    let words = [
        "reassembled fragmented IKE message",
        "splitting IKE message",
    ];
    assert_says(&swan.log(), &words);
}

pub fn the_gateway_begins_and_deletes_at_the_client() {
    let world = World::new(Layout::Wire);
    let (gateway, swan) = turned(Conf::default(), &answers(), &world);
    gateway.ikectl(&["passive"]);
    gateway.ikectl(&["reset", "sa"]);
    swan.wait_for_log("received DELETE for IKE_SA home");
    wait_for("the client to forget", || {
        swan.established().is_empty().then_some(())
    });
    gateway.wait_for_count("IKE SA currently established", 0);
    kernel_is_clean(&world);
}

pub fn the_gateway_asks_for_addresses_of_both_families() {
    let world = World::new(Layout::Wire);
    let lines = "addr add 10.66.0.1/24 dev lo\naddr add fd00:66::1/64 dev lo nodad\n";
    world.batch("rw", lines);
    let client = Client {
        remote_ts: "dynamic".to_owned(),
        local_ts: Some("10.66.0.0/24, fd00:66::/64".to_owned()),
        pools: vec![("four", "10.7.0.1/32"), ("six", "fd00:7::1/128")],
        ..answers()
    };
    let conf = Conf {
        flows: "from dynamic to 10.66.0.0/24 from dynamic to fd00:66::/64".to_owned(),
        requests: vec!["address any", "address ::"],
        iface: Some("lo"),
        ..Conf::default()
    };
    let (gateway, swan) = turned(conf, &client, &world);
    assert_says(&swan.list_sas(), &["10.7.0.1/32 fd00:7::1/128"]);
    let shown = gateway.show_sa();
    assert_says(&shown, &["10.7.0.1/32 -> ", "fd00:7::1/128 -> "]);
    let said = "granted address 10.7.0.1/32, address fd00:7::1/64";
    gateway.says(&[said]);
    if !coupled() {
        return;
    }
    passes_packets(&world, "10.66.0.1", "10.7.0.1");
    passes_packets(&world, "fd00:66::1", "fd00:7::1");
    let set = || {
        let shown = world.ip("gw", &["-o", "addr", "show", "dev", "lo"]);
        ["10.7.0.1/32", "fd00:7::1/64"].map(|address| shown.contains(address))
    };
    assert_eq!(set(), [true; 2]);
    // What a crash leaves behind is taken away by the next one, and nothing else is.
    gateway.kill();
    assert_eq!(set(), [true; 2]);
    let gateway = Gateway::start(&world, &Conf::default());
    assert_eq!(set(), [false; 2]);
    assert_says(&world.ip("gw", &["addr", "show", "dev", "lo"]), &[INSIDE]);
    gateway.stop();
}

/// charon gives whatever attributes its pool has, to whoever gets an address of it (RFC 8598).
pub fn the_gateway_is_told_for_which_domains_the_name_servers_are() {
    let world = World::new(Layout::Wire);
    world.batch("rw", "addr add 10.66.0.1/24 dev lo\n");
    // Its attributes are text, so the anchor is one whose bytes are: "01", "2", "3" and the digest in hex.
    let pool = "10.7.0.1/32\n dns = 10.66.0.53\n 25 = corp.example\n 26 = 0123abcd";
    let client = Client {
        remote_ts: "dynamic".to_owned(),
        local_ts: Some("10.66.0.0/24".to_owned()),
        pools: vec![("four", pool)],
        ..answers()
    };
    let requests = ["address any", "dns-domain any", "dnssec-ta any"];
    let conf = Conf {
        flows: "from dynamic to 10.66.0.0/24".to_owned(),
        requests: requests.to_vec(),
        ..Conf::default()
    };
    let (gateway, swan) = turned(conf, &client, &world);
    assert_says(&swan.log(), &["CPRQ(ADDR DOMAIN", "CPRP(ADDR DNS"]);
    let said = "dns-domain corp.example (12337 50 51 ABCD)";
    gateway.says(&[said]);
}

pub fn the_client_limits_how_long_an_authentication_counts() {
    let world = World::new(Layout::Wire);
    world.batch("rw", "addr add 10.66.0.1/24 dev lo\n");
    let limits = ["reauth_time = 15s", "over_time = 8s", "rekey_time = 0s"];
    // charon begins anew itself where it can; not so where it has assigned an address.
    let client = Client {
        lines: limits.map(str::to_owned).to_vec(),
        remote_ts: "dynamic".to_owned(),
        local_ts: Some("10.66.0.0/24".to_owned()),
        pools: vec![("four", "10.7.0.0/29")],
        ..answers()
    };
    let conf = Conf {
        flows: "from dynamic to 10.66.0.0/24".to_owned(),
        requests: vec!["address any"],
        ..Conf::default()
    };
    let (gateway, swan) = turned(conf, &client, &world);
    gateway.wait_for_count("IKE SA established", 2);
    gateway.wait_for_count("IKE SA currently established", 1);
    let words = [
        "authentication ends in ",
        "authenticating again",
        "replaced by another IKE SA",
    ];
    gateway.says(&words);
    wait_for("the client to have one IKE SA", || {
        (swan.established().len() == 1).then_some(())
    });
    assert_says(&gateway.show_sa(), &["10.7.0."]);
    assert_eq!(gateway.count("faults"), 0);
}
