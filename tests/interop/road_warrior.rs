//! A strongSwan road warrior gets in: algorithms, keys, address families.

use super::gateway::Conf;
use super::keys::Kind;
use super::session::{Session, raw_keys};
use super::strongswan::Client;
use super::world::{GATEWAY6, INSIDE_NET, INSIDE_NET6, INSIDE6, Layout, World, assert_says};

/// The words of `iked.conf` and of swanctl.conf for one suite, and what charon calls it.
#[derive(Clone, Copy, Debug)]
struct Suite {
    ikesa: &'static str,
    childsa: &'static str,
    proposals: &'static str,
    esp: &'static str,
    chosen: &'static str,
    esp_chosen: &'static str,
}

const GCM_X25519: Suite = Suite {
    ikesa: "enc aes-256-gcm prf hmac-sha2-256 group curve25519",
    childsa: "enc aes-256-gcm",
    proposals: "aes256gcm16-prfsha256-x25519",
    esp: "aes256gcm16",
    chosen: "IKE:AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE_25519",
    esp_chosen: "ESP:AES_GCM_16_256/NO_EXT_SEQ",
};

const CBC_X25519: Suite = Suite {
    ikesa: "enc aes-256 auth hmac-sha2-256 prf hmac-sha2-256 group curve25519",
    childsa: "enc aes-256 auth hmac-sha2-256",
    proposals: "aes256-sha256-x25519",
    esp: "aes256-sha256",
    chosen: "IKE:AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/CURVE_25519",
    esp_chosen: "ESP:AES_CBC_256/HMAC_SHA2_256_128/NO_EXT_SEQ",
};

const GCM_ECP256: Suite = Suite {
    ikesa: "enc aes-128-gcm prf hmac-sha2-256 group ecp256",
    childsa: "enc aes-128-gcm",
    proposals: "aes128gcm16-prfsha256-ecp256",
    esp: "aes128gcm16",
    chosen: "IKE:AES_GCM_16_128/PRF_HMAC_SHA2_256/ECP_256",
    esp_chosen: "ESP:AES_GCM_16_128/NO_EXT_SEQ",
};

const CBC_MODP2048: Suite = Suite {
    ikesa: "enc aes-128 auth hmac-sha2-256 prf hmac-sha2-256 group modp2048",
    childsa: "enc aes-128 auth hmac-sha2-256",
    proposals: "aes128-sha256-modp2048",
    esp: "aes128-sha256",
    chosen: "IKE:AES_CBC_128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048",
    esp_chosen: "ESP:AES_CBC_128/HMAC_SHA2_256_128/NO_EXT_SEQ",
};

fn ends(suite: Suite) -> (Conf, Client) {
    let conf = Conf {
        ikesa: vec![suite.ikesa.to_owned()],
        childsa: vec![suite.childsa.to_owned()],
        ..Conf::default()
    };
    let client = Client {
        proposals: suite.proposals.to_owned(),
        esp_proposals: suite.esp.to_owned(),
        ..Client::default()
    };
    (conf, client)
}

fn gets_in_with(suite: Suite) {
    let world = World::new(Layout::Wire);
    let (conf, client) = ends(suite);
    let session = Session::open(&world, &conf, &client);
    assert_says(&session.said, &[suite.chosen, suite.esp_chosen]);
    assert_says(&session.said, &["with pre-shared key successful"]);
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

/// Both ends hold raw public keys of each other.
fn gets_in_with_keys(suite: Suite, gateway: Kind, client_key: Kind, word: &str, method: &str) {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = ends(suite);
    client.keys = raw_keys(&world, gateway, client_key);
    conf.auth = word.to_owned();
    let session = Session::open(&world, &conf, &client);
    let method = format!("with {method} successful");
    assert_says(&session.said, &[suite.chosen, suite.esp_chosen, &method]);
}

pub fn raw_rsa_keys_aes_cbc_sha2_modp2048() {
    let method = "RSA_EMSA_PKCS1_SHA2_256";
    gets_in_with_keys(
        CBC_MODP2048,
        Kind::Rsa2048,
        Kind::Rsa2048,
        "rfc7427",
        method,
    );
}

pub fn raw_rsa_keys_aes_gcm_x25519() {
    let method = "RSA_EMSA_PKCS1_SHA2_256";
    gets_in_with_keys(GCM_X25519, Kind::Rsa2048, Kind::Rsa2048, "", method);
}

pub fn raw_ecdsa_keys_aes_gcm_ecp256() {
    let method = "ECDSA_WITH_SHA256_DER";
    gets_in_with_keys(GCM_ECP256, Kind::EcdsaP256, Kind::EcdsaP256, "", method);
}

pub fn raw_ecdsa_keys_aes_cbc_sha2_x25519() {
    let method = "ECDSA_WITH_SHA256_DER";
    gets_in_with_keys(
        CBC_X25519,
        Kind::EcdsaP256,
        Kind::EcdsaP256,
        "rfc7427",
        method,
    );
}

pub fn the_gateway_has_an_ecdsa_key_and_the_client_an_rsa_key() {
    let method = "ECDSA_WITH_SHA256_DER";
    gets_in_with_keys(GCM_X25519, Kind::EcdsaP256, Kind::Rsa2048, "", method);
}

pub fn over_ipv6() {
    let world = World::new(Layout::Wire);
    let (conf, mut client) = ends(GCM_X25519);
    client.remote = GATEWAY6.to_owned();
    let session = Session::open(&world, &conf, &client);
    assert_says(
        &session.gateway.show_sa(),
        &["[2001:db8::1]:", "->[2001:db8::2]:"],
    );
}

pub fn over_ipv6_with_keys_and_aes_cbc() {
    let world = World::new(Layout::Wire);
    let (conf, mut client) = ends(CBC_MODP2048);
    client.remote = GATEWAY6.to_owned();
    client.keys = raw_keys(&world, Kind::Rsa2048, Kind::Rsa2048);
    let conf = Conf {
        auth: String::new(),
        ..conf
    };
    let session = Session::open(&world, &conf, &client);
    assert_says(&session.said, &["with RSA_EMSA_PKCS1_SHA2_256 successful"]);
}

pub fn addresses_of_both_families_are_assigned() {
    let world = World::new(Layout::Wire);
    let (mut conf, mut client) = ends(GCM_X25519);
    conf.flows = format!("from {INSIDE_NET} to dynamic from {INSIDE_NET6} to dynamic");
    conf.config.push("address fd00:9::/112".to_owned());
    client.vips = "0.0.0.0, ::".to_owned();
    client.remote_ts = format!("{INSIDE_NET}, {INSIDE_NET6}");
    let session = Session::open(&world, &conf, &client);
    let listed = session.swan.list_sas();
    let line = listed
        .lines()
        .find(|line| line.contains("local  '"))
        .unwrap();
    let word = line
        .split(['[', ' ', ']'])
        .find(|word| word.starts_with("fd00:9::"));
    let address = word.unwrap_or_else(|| panic!("no IPv6 address in:\n{listed}"));
    assert_says(&session.gateway.show_sa(), &[address]);
    session.passes_packets(address, INSIDE6);
}
