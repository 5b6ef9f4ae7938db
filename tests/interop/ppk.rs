//! Post-quantum pre-shared keys (RFC 8784) with strongSwan and libreswan, in both roles.

use super::credentials::{asks_for_passwords, by_password, by_signature};
use super::gateway::{Conf, SECRET};
use super::keys::Kind;
use super::libreswan::Client as Pluto;
use super::libreswan_rekey::{self, networks};
use super::pluto_session::Session as PlutoSession;
use super::roles::{answers, begins, turned};
use super::session::{Session, raw_keys};
use super::strongswan::Client;
use super::world::{INSIDE, Layout, World, assert_says};

/// A PPK's ID and its secret.
pub type Named = (&'static str, &'static str);

pub const ONE: Named = ("one", "thirty-two bytes of chance, or so");
pub const TWO: Named = ("two", "another thirty-two bytes of chance");

/// This authentication, and a PPK; `required` or nothing.
pub fn asking(auth: &str, (id, secret): Named, required: &str) -> String {
    format!("{auth} ppk \"{id}\" \"{secret}\" {required}")
}

fn gateway(ppk: Named, required: &str) -> Conf {
    Conf {
        auth: asking(&format!("psk \"{SECRET}\""), ppk, required),
        ..Conf::default()
    }
}

/// The same client with a PPK.
pub fn holding(client: Client, ppk: Named, required: bool) -> Client {
    let word = if required { "yes" } else { "no" };
    let lines = [
        format!("ppk_id = {}", ppk.0),
        format!("ppk_required = {word}"),
    ];
    Client {
        ppks: vec![ppk],
        lines: [client.lines, lines.to_vec()].concat(),
        ..client
    }
}

const MIXED: &str = "PPK 'one' is in the keys";
const UNMIXED: &str = "policy 'warriors' has a PPK, but none is used";

/// It gets in, rekeys both ways, and packets still pass.
fn gets_in_with(world: &World, conf: &Conf, client: &Client, said: &str) {
    let session = Session::open(world, conf, client);
    session.gateway.says(&[said]);
    let address = session.address();
    session.swan.rekey(&["--ike", "home"]);
    session.gateway.wait_for_count("IKE SA rekeyed", 1);
    session.swan.rekey(&["--child", "net"]);
    session.gateway.wait_for_count("Child SA removed", 2);
    session.passes_packets(&address, INSIDE);
    session.swan.disconnect();
    session.is_gone_from_the_gateway();
}

pub fn a_client_with_the_ppk_that_is_required() {
    let world = World::new(Layout::Wire);
    let client = holding(Client::default(), ONE, true);
    gets_in_with(&world, &gateway(ONE, "required"), &client, MIXED);
}

pub fn a_client_with_raw_keys_and_a_ppk_that_it_may_leave_out() {
    let world = World::new(Layout::Wire);
    let client = Client {
        keys: raw_keys(&world, Kind::EcdsaP256, Kind::EcdsaP256),
        ..Client::default()
    };
    let conf = Conf {
        auth: asking("", ONE, ""),
        ..by_signature()
    };
    gets_in_with(&world, &conf, &holding(client, ONE, false), MIXED);
}

pub fn a_client_with_another_ppk_gets_in_without() {
    let world = World::new(Layout::Wire);
    let client = holding(Client::default(), TWO, false);
    gets_in_with(&world, &gateway(ONE, ""), &client, UNMIXED);
}

pub fn a_client_without_a_ppk_gets_in_where_it_may() {
    let world = World::new(Layout::Wire);
    gets_in_with(&world, &gateway(ONE, ""), &Client::default(), UNMIXED);
}

pub fn a_password_and_a_ppk() {
    let world = World::new(Layout::Wire);
    let (root, conf) = asks_for_passwords(&world);
    let conf = Conf {
        auth: asking(&conf.auth, ONE, "required"),
        ..conf
    };
    let client = by_password(&root.certificate, "alice", "Hier ist's grün");
    gets_in_with(&world, &conf, &holding(client, ONE, true), MIXED);
}

pub fn a_password_and_a_ppk_of_the_client_that_the_gateway_has_not() {
    let world = World::new(Layout::Wire);
    let (root, conf) = asks_for_passwords(&world);
    let conf = Conf {
        auth: asking(&conf.auth, ONE, ""),
        ..conf
    };
    let client = by_password(&root.certificate, "alice", "Hier ist's grün");
    gets_in_with(&world, &conf, &holding(client, TWO, false), UNMIXED);
}

pub fn the_gateway_begins_with_the_ppk_that_is_required() {
    let world = World::new(Layout::Wire);
    let client = holding(answers(), ONE, true);
    let said = begins(gateway(ONE, "required"), &client, &world);
    assert_says(&said, &["N(USE_PPK)", "N(PPK_ID)"]);
}

pub fn the_gateway_begins_with_raw_keys_and_a_ppk_that_may_be_left_out() {
    let world = World::new(Layout::Wire);
    let client = Client {
        keys: raw_keys(&world, Kind::EcdsaP256, Kind::EcdsaP256),
        ..answers()
    };
    let conf = Conf {
        auth: asking("", ONE, ""),
        ..by_signature()
    };
    let (gateway, swan) = turned(conf, &holding(client, ONE, false), &world);
    gateway.says(&[MIXED]);
    assert_says(&swan.log(), &["N(NO_PPK)"]);
}

/// charon with a `ppk_id` of its own wants no other, so it has none here.
pub fn the_gateway_begins_with_a_ppk_that_the_client_has_not() {
    let world = World::new(Layout::Wire);
    let client = Client {
        ppks: vec![TWO],
        ..answers()
    };
    let (gateway, swan) = turned(gateway(ONE, ""), &client, &world);
    gateway.says(&[UNMIXED]);
    assert_says(&swan.log(), &["N(USE_PPK)", "N(NO_PPK)"]);
}

fn pluto(ppk: Named, word: &str) -> Pluto {
    Pluto {
        ppk: Some(ppk),
        lines: vec![format!("ppk={word}")],
        ..Pluto::default()
    }
}

pub fn a_libreswan_client_with_the_ppk_that_is_required() {
    let world = World::new(Layout::Wire);
    let client = pluto(ONE, "insist");
    let session = PlutoSession::open(&world, &gateway(ONE, "required"), &client);
    session.gateway.says(&[MIXED]);
}

pub fn a_libreswan_client_with_another_ppk_gets_in_without() {
    let world = World::new(Layout::Wire);
    let client = pluto(TWO, "yes");
    let session = PlutoSession::open(&world, &gateway(ONE, ""), &client);
    session.gateway.says(&[UNMIXED]);
}

/// The gateway begins, with this PPK and word; libreswan has that one.
fn libreswan_answers((ours, required): (Named, &str), (theirs, word): (Named, &str)) -> String {
    let (mut conf, mut client) = networks("active");
    conf.auth = asking(&conf.auth, ours, required);
    client.ppk = Some(theirs);
    client.lines.push(format!("ppk={word}"));
    libreswan_rekey::begins(&conf, &client)
}

pub fn the_gateway_begins_with_the_ppk_that_libreswan_requires() {
    let said = libreswan_answers((ONE, "required"), (ONE, "insist"));
    assert_says(&said, &[MIXED]);
}

pub fn the_gateway_begins_with_a_ppk_that_libreswan_has_not() {
    let said = libreswan_answers((ONE, ""), (TWO, "yes"));
    assert_says(&said, &[UNMIXED]);
}
