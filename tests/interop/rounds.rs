//! Several authentications in a row (RFC 4739) with strongSwan, in both roles.

use super::credentials::{by_password, certified_client, certify_gateway};
use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID, Gateway, SECRET};
use super::keys::Kind;
use super::pki::Holder;
use super::refusals::is_refused;
use super::roles::{answers, begins};
use super::session::Session;
use super::strongswan::{Client, Credentials};
use super::world::{INSIDE, Layout, World, assert_says};

const USER: &str = "eap-1 { id = alice\n secret = \"open sesame\"\n }\n";

/// What follows the first round of the client, or at a client that answers of the gateway.
fn second(side: &str, auth: &str, id: &str) -> String {
    format!("{side}-2 {{ round = 2\n auth = {auth}\n id = {id}\n }}")
}

fn password(side: &str, user: &str, id: &str) -> String {
    second(side, &format!("eap-mschapv2\n eap_id = {user}"), id)
}

/// A secret first.
fn with_secret(client: Client, line: String) -> Client {
    let auth = "auth = psk\n".to_owned();
    Client {
        credentials: Some(Credentials {
            local: auth.clone(),
            remote: auth,
            secrets: format!("ike-1 {{ secret = \"{SECRET}\"\n }}\n{USER}"),
            files: Vec::new(),
        }),
        lines: vec![line],
        ..client
    }
}

fn asks(auth: &str) -> Conf {
    Conf {
        auth: auth.to_owned(),
        lines: vec!["user \"alice\" \"open sesame\"".to_owned()],
        ..Conf::default()
    }
}

fn secret_then(next: &str) -> Conf {
    asks(&format!("psk \"{SECRET}\" then {next}"))
}

const PASSWORD: &str = "eap \"mschap-v2\"";

/// It gets in, the IKE SA is rekeyed, and packets still pass.
fn gets_in(world: &World, conf: &Conf, client: &Client) -> String {
    let session = Session::open(world, conf, client);
    let words = ["authentication 1 of 2", "EAP user 'alice' authenticated"];
    session.gateway.says(&words);
    let address = session.address();
    session.swan.rekey(&["--ike", "home"]);
    session.gateway.wait_for_count("IKE SA rekeyed", 1);
    session.passes_packets(&address, INSIDE);
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
    session.said
}

pub fn a_client_with_a_secret_and_then_a_password() {
    let world = World::new(Layout::Wire);
    let client = with_secret(
        Client::default(),
        password("local", "alice", "user.example"),
    );
    let said = gets_in(&world, &secret_then(PASSWORD), &client);
    assert_says(&said, &["N(AUTH_FOLLOWS)", "with EAP successful"]);
}

/// Both ends by certificates of one authority.
fn certified(world: &World) -> Client {
    let root = Holder::authority(world, "root");
    let gateway = root.vouches_for(world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let client = root.vouches_for(world, "client", CLIENT_ID, Kind::Rsa2048);
    certify_gateway(world, &gateway, &[], &[&root]);
    let client = certified_client(&client, &[], &root);
    let credentials = client.credentials.map(|credentials| Credentials {
        secrets: USER.to_owned(),
        ..credentials
    });
    Client {
        credentials,
        ..client
    }
}

pub fn a_client_with_a_certificate_and_then_a_password() {
    let world = World::new(Layout::Wire);
    let client = Client {
        lines: vec![password("local", "alice", "user.example")],
        ..certified(&world)
    };
    let conf = asks(&format!("signature then dstid user.example {PASSWORD}"));
    gets_in(&world, &conf, &client);
}

pub fn a_client_with_a_password_and_then_a_secret() {
    let world = World::new(Layout::Wire);
    let root = Holder::authority(&world, "root");
    let gateway = root.vouches_for(&world, "gateway", GATEWAY_ID, Kind::Rsa2048);
    certify_gateway(&world, &gateway, &[], &[&root]);
    let client = by_password(&root.certificate, "alice", "open sesame");
    let credentials = client.credentials.map(|credentials| Credentials {
        secrets: format!("ike-1 {{ secret = \"{SECRET}\"\n }}\n{USER}"),
        ..credentials
    });
    let client = Client {
        credentials,
        lines: vec![second("local", "psk", "user.example")],
        ..client
    };
    let conf = asks(&format!("{PASSWORD} then psk \"{SECRET}\""));
    gets_in(&world, &conf, &client);
}

pub fn the_gateway_begins_with_a_secret_and_then_a_password() {
    let world = World::new(Layout::Wire);
    let client = with_secret(answers(), password("remote", "%any", "user.example"));
    let next = format!("srcid user.example {PASSWORD} user alice \"open sesame\"");
    let said = begins(secret_then(&next), &client, &world);
    let words = [
        "N(MULT_AUTH)",
        "N(AUTH_FOLLOWS)",
        "authentication of 'user.example' with EAP successful",
    ];
    assert_says(&said, &words);
}

pub fn the_gateway_begins_with_a_certificate_and_then_a_secret() {
    let world = World::new(Layout::Wire);
    let client = certified(&world);
    let credentials = client.credentials.map(|credentials| Credentials {
        secrets: format!("ike-1 {{ secret = \"{SECRET}\"\n }}\n"),
        ..credentials
    });
    let client = Client {
        vips: String::new(),
        credentials,
        lines: vec![second("remote", "psk", "user.example")],
        ..client
    };
    let conf = asks(&format!(
        "signature then srcid user.example psk \"{SECRET}\""
    ));
    let said = begins(conf, &client, &world);
    let proven = "authentication of 'user.example' with pre-shared key successful";
    assert_says(&said, &[proven]);
}

pub fn a_client_that_stops_after_the_first_is_refused() {
    let world = World::new(Layout::Wire);
    let told = "received AUTHENTICATION_FAILED notify error";
    let gateway = is_refused(&world, &secret_then(PASSWORD), &Client::default(), told);
    says_why(&gateway, "the peer does not prove itself once more");
}

pub fn a_wrong_password_after_the_secret_is_refused() {
    let world = World::new(Layout::Wire);
    let mut client = with_secret(
        Client::default(),
        password("local", "alice", "user.example"),
    );
    if let Some(credentials) = &mut client.credentials {
        credentials.secrets = credentials.secrets.replace("open", "close");
    }
    let words = "EAP-MS-CHAPv2 failed with error ERROR_AUTHENTICATION_FAILURE";
    let gateway = is_refused(&world, &secret_then(PASSWORD), &client, words);
    says_why(&gateway, "wrong user name or password for 'alice'");
}

fn says_why(gateway: &Gateway, why: &str) {
    gateway.says(&[why]);
    assert_eq!(gateway.count("IKE SA failed to establish"), 1);
}
