//! The certificate of a client, and what the responder that the gateway asks says of it.

use std::fs;
use std::process::Command;

use super::credentials::{by_signature, certified_client, certify_gateway};
use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID};
use super::keys::Kind;
use super::pki::Holder;
use super::refusals::is_refused;
use super::session::Session;
use super::world::{Layout, Process, World, assert_says, lossy, need, text, wait_for};

/// `openssl ocsp` beside the gateway. It signs for the authority, and knows one certificate.
fn responder(world: &World, authority: &Holder, about: &Holder, revoked: bool) -> Process {
    need("openssl", "openssl");
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in", text(&about.certificate)])
        .output()
        .unwrap();
    let said = lossy(&output.stdout);
    let serial = said.trim().strip_prefix("serial=").unwrap();
    let (letter, since) = if revoked {
        ("R", "260101000000Z")
    } else {
        ("V", "")
    };
    let index = world.path("index.txt");
    let line = format!("{letter}\t21260101000000Z\t{since}\t{serial}\tunknown\t/CN=client\n");
    fs::write(&index, line).unwrap();
    let mut command = world.command("gw", "openssl");
    command.args(["ocsp", "-port", "8888", "-ndays", "1", "-ignore_err"]);
    command.args(["-index", text(&index), "-CA", text(&authority.certificate)]);
    command.args(["-rsigner", text(&authority.certificate)]);
    command.args(["-rkey", text(&authority.keys.private)]);
    let process = world.start("openssl", command);
    wait_for("openssl ocsp", || {
        process.log().contains("waiting for OCSP").then_some(())
    });
    process
}

/// The gateway's configuration, the client, and the responder.
fn scene(world: &World, revoked: bool) -> (Conf, super::strongswan::Client, Process) {
    let root = Holder::authority(world, "root");
    let gateway = root.vouches_for(world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let client = root.vouches_for(world, "client", CLIENT_ID, Kind::EcdsaP256);
    certify_gateway(world, &gateway, &[], &[&root]);
    let responder = responder(world, &root, &client, revoked);
    let conf = Conf {
        set: vec!["ocsp \"http://127.0.0.1:8888/\"".to_owned()],
        ..by_signature()
    };
    (conf, certified_client(&client, &[], &root), responder)
}

pub fn a_certificate_that_its_responder_calls_good_gets_in() {
    let world = World::new(Layout::Wire);
    let (conf, client, _responder) = scene(&world, false);
    let session = Session::open(&world, &conf, &client);
    assert_eq!(session.gateway.count("lookups"), 1);
    assert_eq!(session.gateway.count("lookup failures"), 0);
}

pub fn a_certificate_that_its_responder_calls_revoked_is_refused() {
    let world = World::new(Layout::Wire);
    let (conf, client, _responder) = scene(&world, true);
    let words = "received AUTHENTICATION_FAILED notify error";
    let gateway = is_refused(&world, &conf, &client, words);
    assert_says(
        &gateway.log(),
        &["authentication failed: certificate: revoked"],
    );
}
