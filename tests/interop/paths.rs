//! What lies between: retries before the handshake, NAT, fragments.

use super::gateway::Conf;
use super::keys::Kind;
use super::session::{Session, raw_keys};
use super::strongswan::Client;
use super::world::{BEHIND_NAT, GATEWAY6, Layout, World, assert_says, coupled};

pub fn a_wrong_key_exchange_is_tried_again_with_the_right_one() {
    let world = World::new(Layout::Wire);
    let client = Client {
        proposals: "aes256gcm16-prfsha256-modp2048-x25519".to_owned(),
        ..Client::default()
    };
    let session = Session::open(&world, &Conf::default(), &client);
    let words = "MODP_2048, it requested CURVE_25519";
    assert_says(
        &session.said,
        &[words, "parsed IKE_SA_INIT response 0 [ N(INVAL_KE) ]"],
    );
}

pub fn a_cookie_is_asked_for_and_taken() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        set: vec!["cookie_threshold 0".to_owned()],
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &Client::default());
    let words = "parsed IKE_SA_INIT response 0 [ N(COOKIE) ]";
    assert_says(
        &session.said,
        &[words, "IKE_SA_INIT request 0 [ N(COOKIE) SA KE"],
    );
    assert_eq!(session.gateway.count("cookies sent"), 1);
    assert_eq!(session.gateway.count("cookies wrong"), 0);
    assert_eq!(session.gateway.count("IKE SA created"), 1);
}

pub fn a_cookie_and_then_a_wrong_key_exchange() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        set: vec!["cookie_threshold 0".to_owned()],
        ..Conf::default()
    };
    let client = Client {
        proposals: "aes256gcm16-prfsha256-modp2048-x25519".to_owned(),
        ..Client::default()
    };
    let session = Session::open(&world, &conf, &client);
    assert_says(&session.said, &["N(COOKIE)", "N(INVAL_KE)"]);
}

pub fn behind_a_nat() {
    let world = World::new(Layout::Nat);
    let session = Session::open(&world, &Conf::default(), &Client::default());
    assert_says(
        &session.said,
        &["local host is behind NAT", "[4500] to 192.0.2.1[4500]"],
    );
    assert_says(&session.swan.list_sas(), &[BEHIND_NAT, "TUNNEL-in-UDP"]);
    let shown = session.gateway.show_sa();
    assert_says(
        &shown,
        &["192.0.2.1:4500->192.0.2.2:", " ESTABLISHED r natt"],
    );
    assert!(
        !shown.contains("->192.0.2.2:4500<"),
        "no port was translated: {shown}"
    );
    if coupled() {
        let states = world.ip("gw", &["xfrm", "state"]);
        assert_eq!(states.matches("encap type espinudp").count(), 2, "{states}");
    }
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

pub fn behind_a_nat_with_keys_and_aes_cbc() {
    let world = World::new(Layout::Nat);
    let conf = Conf {
        ikesa: vec!["enc aes-256 auth hmac-sha2-256 prf hmac-sha2-256 group ecp256".to_owned()],
        childsa: vec!["enc aes-256 auth hmac-sha2-256".to_owned()],
        auth: String::new(),
        ..Conf::default()
    };
    let client = Client {
        proposals: "aes256-sha256-ecp256".to_owned(),
        esp_proposals: "aes256-sha256".to_owned(),
        keys: raw_keys(&world, Kind::EcdsaP256, Kind::EcdsaP256),
        ..Client::default()
    };
    let session = Session::open(&world, &conf, &client);
    assert_says(&session.gateway.show_sa(), &[" ESTABLISHED r natt"]);
}

/// Messages too long for a datagram, both ways: many selectors.
pub fn with_many_networks() -> (Conf, Client) {
    let networks = || (0..24).map(|number| format!("10.8.{number}.0/24"));
    let flows: Vec<String> = networks()
        .map(|net| format!("from {net} to dynamic"))
        .collect();
    let conf = Conf {
        set: vec!["fragmentation".to_owned(), "fragment_size 600".to_owned()],
        flows: flows.join(" "),
        ..Conf::default()
    };
    let client = Client {
        remote_ts: networks().collect::<Vec<_>>().join(", "),
        lines: vec!["fragmentation = yes".to_owned()],
        daemon_lines: vec!["fragment_size = 576".to_owned()],
        ..Client::default()
    };
    (conf, client)
}

/// Fragments went both ways and were put together at both ends.
fn fragments_passed(session: &Session<'_>) {
    assert_says(
        &session.said,
        &[
            "splitting IKE message",
            "reassembled fragmented IKE message",
        ],
    );
    assert!(session.gateway.count("fragment received") >= 2);
    assert!(session.gateway.count("fragment sent") >= 2);
    assert_eq!(session.gateway.count("fragment reassembled"), 1);
    assert_eq!(session.gateway.count("fragment dropped"), 0);
    assert_eq!(
        session.gateway.count("fragment could not be reassembled"),
        0
    );
}

pub fn fragments_over_ipv4_with_rsa_keys() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = with_many_networks();
    client.keys = raw_keys(&world, Kind::Rsa2048, Kind::Rsa2048);
    conf.auth = String::new();
    let session = Session::open(&world, &conf, &client);
    fragments_passed(&session);
}

pub fn fragments_over_ipv6() {
    let world = World::new(Layout::Wire);
    let (conf, mut client) = with_many_networks();
    client.remote = GATEWAY6.to_owned();
    let session = Session::open(&world, &conf, &client);
    fragments_passed(&session);
}

pub fn fragments_of_aes_cbc_behind_a_nat() {
    let world = World::new(Layout::Nat);
    let (mut conf, mut client) = with_many_networks();
    conf.ikesa =
        vec!["enc aes-128 auth hmac-sha2-256 prf hmac-sha2-256 group curve25519".to_owned()];
    client.proposals = "aes128-sha256-x25519".to_owned();
    let session = Session::open(&world, &conf, &client);
    fragments_passed(&session);
}

pub fn no_fragments_where_the_gateway_says_so() {
    let world = World::new(Layout::Wire);
    let (mut conf, client) = with_many_networks();
    conf.set = vec!["nofragmentation".to_owned()];
    let session = Session::open(&world, &conf, &client);
    assert!(
        !session.said.contains("splitting IKE message"),
        "{}",
        session.said
    );
    assert_eq!(session.gateway.count("fragment received"), 0);
    assert_eq!(session.gateway.count("fragment sent"), 0);
}
