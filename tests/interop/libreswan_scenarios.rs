//! A libreswan road warrior gets in, by every way that it has, and is refused.
//!
//! What libreswan can do with raw keys: `authby=rsa-sha2` signs by RSASSA-PSS (RFC 7427) and takes
//! nothing else from the gateway, which answers a signature of that kind with one of the same and where
//! it begins needs the word `rsa-pss`, for libreswan announces nothing of the kind (RFC 9593);
//! with `authby=rsa-sha1` both ends are left with method 1; `authby=ecdsa` is RFC 7427. It sends one
//! selector for each direction and no list of them.

use super::gateway::{Conf, Gateway};
use super::keys::{Keys, Kind};
use super::libreswan::{Client, Libreswan, NssKey};
use super::libreswan_rekey::networks;
use super::pluto_session::Session;
use super::session::{gateway_has_let_go, kernel_is_clean};
use super::world::{
    BEHIND_NAT, CLIENT6, GATEWAY6, INSIDE, INSIDE_NET6, INSIDE6, Layout, World, assert_says,
    coupled,
};

/// The words of `iked.conf` and of ipsec.conf for one suite, and what pluto calls it.
#[derive(Clone, Copy, Debug)]
struct Suite {
    ikesa: &'static str,
    childsa: &'static str,
    ike: &'static str,
    esp: &'static str,
    chosen: &'static str,
    esp_chosen: &'static str,
}

const GCM_X25519: Suite = Suite {
    ikesa: "enc aes-256-gcm prf hmac-sha2-256 group curve25519",
    childsa: "enc aes-256-gcm",
    ike: "aes_gcm256-sha2_256-dh31",
    esp: "aes_gcm256",
    chosen: "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 group=DH31}",
    esp_chosen: "xfrm=AES_GCM_16_256-NONE",
};

const CBC_X25519: Suite = Suite {
    ikesa: "enc aes-256 auth hmac-sha2-256 prf hmac-sha2-256 group curve25519",
    childsa: "enc aes-256 auth hmac-sha2-256",
    ike: "aes256-sha2_256-dh31",
    esp: "aes256-sha2_256",
    chosen: "{cipher=AES_CBC_256 integ=HMAC_SHA2_256_128 prf=HMAC_SHA2_256 group=DH31}",
    esp_chosen: "xfrm=AES_CBC_256-HMAC_SHA2_256_128",
};

const GCM_ECP256: Suite = Suite {
    ikesa: "enc aes-128-gcm prf hmac-sha2-256 group ecp256",
    childsa: "enc aes-128-gcm",
    ike: "aes_gcm128-sha2_256-dh19",
    esp: "aes_gcm128",
    chosen: "{cipher=AES_GCM_16_128 integ=n/a prf=HMAC_SHA2_256 group=DH19}",
    esp_chosen: "xfrm=AES_GCM_16_128-NONE",
};

const CBC_MODP2048: Suite = Suite {
    ikesa: "enc aes-128 auth hmac-sha2-256 prf hmac-sha2-256 group modp2048",
    childsa: "enc aes-128 auth hmac-sha2-256",
    ike: "aes128-sha2_256-dh14",
    esp: "aes128-sha2_256",
    chosen: "{cipher=AES_CBC_128 integ=HMAC_SHA2_256_128 prf=HMAC_SHA2_256 group=MODP2048}",
    esp_chosen: "xfrm=AES_CBC_128-HMAC_SHA2_256_128",
};

fn ends(suite: Suite) -> (Conf, Client) {
    let conf = Conf {
        ikesa: vec![suite.ikesa.to_owned()],
        childsa: vec![suite.childsa.to_owned()],
        ..Conf::default()
    };
    let client = Client {
        ike: suite.ike.to_owned(),
        esp: suite.esp.to_owned(),
        ..Client::default()
    };
    (conf, client)
}

fn gets_in_with(suite: Suite) {
    let world = World::new(Layout::Wire);
    let (conf, client) = ends(suite);
    let session = Session::open(&world, &conf, &client);
    session.chose(suite.chosen, suite.esp_chosen);
    assert_says(&session.said, &["authenticated peer using authby=secret"]);
}

pub fn psk_aes_gcm_x25519() {
    gets_in_with(GCM_X25519);
}

pub fn psk_aes_cbc_sha2_x25519() {
    gets_in_with(CBC_X25519);
}

pub fn psk_aes_gcm_ecp256() {
    gets_in_with(GCM_ECP256);
}

pub fn psk_aes_cbc_sha2_modp2048() {
    gets_in_with(CBC_MODP2048);
}

/// Raw key pairs for both ends, libreswan's made by its own program with these words.
fn raw_keys(world: &World, gateway: Kind, program: &str, words: &[&str]) -> Option<(NssKey, Keys)> {
    let own = NssKey::make(world, program, words);
    let theirs = Keys::make(world, "gateway", gateway);
    Gateway::give_keys(world, &theirs, &own.public);
    Some((own, theirs))
}

fn rsa_keys(world: &World) -> Option<(NssKey, Keys)> {
    raw_keys(world, Kind::Rsa2048, "rsasigkey", &["3072"])
}

/// `auth` is libreswan's line for how both ends prove themselves, `said` what it says of the
/// gateway's proof.
fn gets_in_with_keys(
    suite: Suite,
    auth: &'static str,
    keys: impl Fn(&World) -> Option<(NssKey, Keys)>,
    said: &str,
) {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = ends(suite);
    conf.auth = String::new();
    client.keys = keys(&world);
    client.auth = auth;
    let session = Session::open(&world, &conf, &client);
    session.chose(suite.chosen, suite.esp_chosen);
    assert_says(&session.said, &[said]);
}

const RSA: &str = "2048-bit PKCS#1 1.5 RSA with SHA2_256";
const RSA_PSS: &str = "2048-bit RSASSA-PSS with SHA2_256";
const RSA_SHA1: &str = "2048-bit PKCS#1 1.5 RSA with SHA1";
const ECDSA: &str = "P-256 ECDSA with SHA2_256";

pub fn raw_rsa_keys_with_pss_on_both_sides_aes_cbc_sha2_modp2048() {
    gets_in_with_keys(CBC_MODP2048, "authby=rsa-sha2", rsa_keys, RSA_PSS);
}

pub fn raw_rsa_keys_with_nothing_but_pss() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = ends(GCM_X25519);
    conf.auth = "rsa-pss".to_owned();
    client.keys = rsa_keys(&world);
    client.auth = "authby=rsa-sha2";
    let session = Session::open(&world, &conf, &client);
    assert_says(&session.said, &[RSA_PSS]);
}

/// It says nowhere that it takes nothing else, so the word has to.
pub fn the_gateway_begins_with_pss() {
    for (word, says) in [
        (
            "rsa-pss",
            "responder established IKE SA; authenticated peer",
        ),
        ("rsa", "authentication failed"),
    ] {
        let world = World::new(Layout::Wire);
        let (mut conf, mut client) = networks("active");
        conf.auth = word.to_owned();
        client.keys = rsa_keys(&world);
        client.auth = "authby=rsa-sha2";
        let swan = Libreswan::start(&world, &client);
        let gateway = Gateway::start(&world, &conf);
        swan.wait_for_log(says);
        let pss = swan.log().contains(RSA_PSS);
        assert_eq!(pss, word == "rsa-pss", "{}", swan.log());
        assert_eq!(gateway.count("faults"), 0);
    }
}

pub fn raw_rsa_keys_by_method_1_aes_gcm_x25519() {
    gets_in_with_keys(GCM_X25519, "authby=rsa-sha1", rsa_keys, RSA_SHA1);
}

pub fn raw_ecdsa_keys_aes_gcm_ecp256() {
    let keys = |world: &World| raw_keys(world, Kind::EcdsaP256, "ecdsasigkey", &[]);
    gets_in_with_keys(GCM_ECP256, "authby=ecdsa", keys, ECDSA);
}

pub fn the_client_has_an_ecdsa_key_and_the_gateway_an_rsa_key() {
    let keys = |world: &World| raw_keys(world, Kind::Rsa2048, "ecdsasigkey", &[]);
    gets_in_with_keys(CBC_X25519, "leftauth=ecdsa\n rightauth=rsasig", keys, RSA);
}

pub fn over_ipv6() {
    let world = World::new(Layout::Wire);
    let (conf, mut client) = ends(GCM_X25519);
    client.own = CLIENT6.to_owned();
    client.gateway = GATEWAY6.to_owned();
    let session = Session::open(&world, &conf, &client);
    assert_says(
        &session.gateway.show_sa(),
        &["[2001:db8::1]:", "->[2001:db8::2]:"],
    );
}

pub fn an_ipv6_address_is_assigned() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = ends(CBC_X25519);
    conf.flows = format!("from {INSIDE_NET6} to dynamic");
    conf.config = vec!["address fd00:9::/112".to_owned()];
    client.remote_ts = INSIDE_NET6.to_owned();
    let session = Session::connect(&world, &conf, &client);
    let address = session.address("INTERNAL_IP6_ADDRESS");
    session.passes_packets(&address, INSIDE6);
}

pub fn networks_without_an_assigned_address() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = ends(GCM_X25519);
    conf.flows = "from 10.8.0.0/24 to 10.66.0.0/24".to_owned();
    conf.config = Vec::new();
    client.wants_address = false;
    client.lines = vec!["leftsubnet=10.66.0.0/24".to_owned()];
    let session = Session::connect(&world, &conf, &client);
    let flow = "loaded flows: ESP-10.8.0.0/24=10.66.0.0/24(";
    session.gateway.says(&[flow]);
    session.passes_packets("10.66.0.1", INSIDE);
}

pub fn a_wrong_key_exchange_is_tried_again_with_the_right_one() {
    let world = World::new(Layout::Wire);
    let client = Client {
        ike: "aes_gcm256-sha2_256-dh14+dh31".to_owned(),
        ..Client::default()
    };
    let session = Session::open(&world, &Conf::default(), &client);
    assert_says(&session.said, &["INVALID_KE_PAYLOAD", "DH31"]);
}

pub fn a_cookie_is_asked_for_and_taken() {
    let world = World::new(Layout::Wire);
    let conf = Conf {
        set: vec!["cookie_threshold 0".to_owned()],
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &Client::default());
    assert_says(&session.said, &["received anti-DDOS COOKIE response"]);
    assert_eq!(session.gateway.count("cookies sent"), 1);
    assert_eq!(session.gateway.count("cookies wrong"), 0);
    assert_eq!(session.gateway.count("IKE SA created"), 1);
}

pub fn behind_a_nat() {
    let world = World::new(Layout::Nat);
    let client = Client {
        own: BEHIND_NAT.to_owned(),
        ..Client::default()
    };
    let session = Session::open(&world, &Conf::default(), &client);
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
        assert_says(&session.said, &["ESPinUDP"]);
        let states = world.ip("gw", &["xfrm", "state"]);
        assert_eq!(states.matches("encap type espinudp").count(), 2, "{states}");
        session.swan.disconnect();
        gateway_has_let_go(&world, &session.gateway);
    }
}

/// Messages too long for a datagram, both ways: long signatures and a long list of proposals.
pub fn fragments_with_rsa_keys() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = ends(GCM_X25519);
    conf.set = vec!["fragmentation".to_owned(), "fragment_size 300".to_owned()];
    conf.auth = String::new();
    client.keys = rsa_keys(&world);
    client.auth = "authby=rsasig";
    client.lines = vec!["fragmentation=force".to_owned()];
    let session = Session::open(&world, &conf, &client);
    let gateway = &session.gateway;
    assert!(gateway.count("fragment received") >= 2);
    assert!(gateway.count("fragment sent") >= 2);
    assert_eq!(gateway.count("fragment reassembled"), 1);
    assert_eq!(gateway.count("fragment dropped"), 0);
    assert_eq!(gateway.count("fragment could not be reassembled"), 0);
}

/// The client fails with these words, and the gateway keeps nothing.
fn is_refused(client: &Client, words: &str) -> (World, Gateway) {
    let world = World::new(Layout::Wire);
    let gateway = Gateway::start(&world, &Conf::default());
    let swan = Libreswan::start(&world, client);
    let said = swan.connect();
    assert_says(&said, &[words]);
    assert!(!said.contains("established IKE SA"), "{said}");
    let shown = gateway.show_sa();
    assert!(!shown.contains("ESTABLISHED"), "{shown}");
    assert_eq!(gateway.count("IKE SA currently established"), 0);
    assert_eq!(gateway.count("Child SA created"), 0);
    assert_eq!(gateway.count("leases"), 0);
    assert_eq!(gateway.count("half open"), 0);
    kernel_is_clean(&world);
    (world, gateway)
}

pub fn a_wrong_secret_fails_authentication() {
    let client = Client {
        secret: "another secret".to_owned(),
        ..Client::default()
    };
    let (_world, gateway) = is_refused(&client, "AUTHENTICATION_FAILED");
    assert_eq!(gateway.count("IKE SA failed to establish"), 1);
}

pub fn no_common_proposal() {
    let client = Client {
        ike: "aes128-sha1-dh14".to_owned(),
        // It takes no unauthenticated refusal for final, and says what it was told when it gives up.
        lines: vec!["retransmit-timeout=2s".to_owned()],
        ..Client::default()
    };
    let (_world, gateway) = is_refused(&client, "NO_PROPOSAL_CHOSEN");
    assert!(gateway.count("failed proposal negotiation") >= 1);
}

/// The Child SA is refused with these words and the IKE SA stays at both ends.
fn child_is_refused(world: &World, client: &Client, words: &str) -> Gateway {
    let gateway = Gateway::start(world, &Conf::default());
    let swan = Libreswan::start(world, client);
    let said = swan.connect();
    assert_says(&said, &["established IKE SA", words]);
    assert_says(&swan.states(), &["ESTABLISHED_IKE_SA"]);
    let shown = gateway.show_sa();
    assert_says(&shown, &["ESTABLISHED r"]);
    assert!(!shown.contains("sa_childsas"), "{shown}");
    assert_eq!(gateway.count("IKE SA currently established"), 1);
    assert_eq!(gateway.count("Child SA created"), 0);
    kernel_is_clean(world);
    swan.disconnect();
    gateway.wait_for_count("IKE SA currently established", 0);
    gateway
}

pub fn disjoint_selectors_keep_the_ike_sa_until_the_client_deletes_it() {
    let world = World::new(Layout::Wire);
    let client = Client {
        remote_ts: "172.16.0.0/16".to_owned(),
        ..Client::default()
    };
    let gateway = child_is_refused(&world, &client, "rejected Child SA with TS_UNACCEPTABLE");
    gateway.says(&["received delete, closing SA"]);
}

pub fn no_common_esp_proposal_keeps_the_ike_sa() {
    let world = World::new(Layout::Wire);
    let client = Client {
        esp: "aes128-sha1".to_owned(),
        ..Client::default()
    };
    child_is_refused(&world, &client, "rejected Child SA with NO_PROPOSAL_CHOSEN");
}

pub fn reset_sa_deletes_at_the_client() {
    let world = World::new(Layout::Wire);
    let client = Client {
        remote_ts: "172.16.0.0/16".to_owned(),
        ..Client::default()
    };
    let gateway = Gateway::start(&world, &Conf::default());
    let swan = Libreswan::start(&world, &client);
    swan.connect();
    assert_says(&swan.states(), &["ESTABLISHED_IKE_SA"]);
    gateway.ikectl(&["reset", "sa"]);
    swan.wait_for_states(|states| !states.contains("ESTABLISHED_IKE_SA"));
    gateway_has_let_go(&world, &gateway);
}
