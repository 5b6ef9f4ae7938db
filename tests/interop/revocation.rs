//! The certificate of a client, and what the responder that the gateway asks says of it, or a list that
//! it fetches; and what both ends show each other of what a responder said (RFC 4806).

use std::fs;
use std::process::Command;

use super::credentials::{by_signature, certified_client, certify_gateway};
use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID};
use super::keys::Kind;
use super::pki::Holder;
use super::refusals::is_refused;
use super::session::Session;
use super::world::{Layout, Process, World, assert_says, lossy, need, text, wait_for};

/// `openssl ocsp` on this host. It signs for the authority, and knows one certificate.
fn responder(
    world: &World,
    host: &str,
    authority: &Holder,
    about: &Holder,
    revoked: bool,
) -> Process {
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
    let mut command = world.command(host, "openssl");
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
    let responder = responder(world, "gw", &root, &client, revoked);
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
    gateway.says(&["authentication failed: certificate: revoked"]);
}

/// The gateway's configuration, a client whose certificate names a list, and the server that has it.
fn listed(world: &World, revoked: bool) -> (Conf, super::strongswan::Client, Process) {
    let root = Holder::authority(world, "root");
    let gateway = root.vouches_for(world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let at = ["--crl", "http://127.0.0.1:8889/root.crl"];
    let client = root.vouches_oddly(world, "client", CLIENT_ID, &at);
    let other = root.vouches_for(world, "other", "other.example", Kind::EcdsaP256);
    certify_gateway(world, &gateway, &[], &[&root]);
    let whose = if revoked { &client } else { &other };
    let folder = world.folder("lists");
    fs::write(folder.join("root.crl"), root.list(whose, "der")).unwrap();
    let mut command = world.command("gw", "python3");
    command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1"]);
    command.args(["--directory", text(&folder), "8889"]);
    let server = world.start("http", command);
    wait_for("http.server", || {
        server.log().contains("Serving HTTP").then_some(())
    });
    let conf = Conf {
        set: vec!["crl fetch".to_owned()],
        ..by_signature()
    };
    (conf, certified_client(&client, &[], &root), server)
}

pub fn a_certificate_that_is_on_no_list_gets_in() {
    let world = World::new(Layout::Wire);
    let (conf, client, server) = listed(&world, false);
    let session = Session::open(&world, &conf, &client);
    assert_eq!(session.gateway.count("lookups"), 1);
    assert_eq!(session.gateway.count("lookup failures"), 0);
    assert_says(&server.log(), &["GET /root.crl HTTP/1.0"]);
    let listed = session.gateway.ikectl(&["show", "certstore"]);
    let line = "CRL: /C=DE/O=Interop/CN=root from http://127.0.0.1:8889/root.crl\n";
    assert!(listed.ends_with(line), "{listed}");
}

pub fn a_certificate_that_the_list_revokes_is_refused() {
    let world = World::new(Layout::Wire);
    let (conf, client, _server) = listed(&world, true);
    let words = "received AUTHENTICATION_FAILED notify error";
    let gateway = is_refused(&world, &conf, &client, words);
    gateway.says(&["authentication failed: certificate: revoked"]);
}

/// Certificates that name a responder, which is there for one end only.
fn in_band(world: &World, host: &str) -> (super::strongswan::Client, Process) {
    let root = Holder::authority(world, "root");
    let at = ["--ocsp", "http://127.0.0.1:8888/"];
    let gateway = root.vouches_oddly(world, "gateway", GATEWAY_ID, &at);
    let client = root.vouches_oddly(world, "client", CLIENT_ID, &at);
    certify_gateway(world, &gateway, &[], &[&root]);
    let about = if host == "gw" { &gateway } else { &client };
    let responder = responder(world, host, &root, about, false);
    let client = super::strongswan::Client {
        plugins: "revocation curl",
        ..certified_client(&client, &[], &root)
    };
    (client, responder)
}

pub fn the_client_shows_what_its_responder_said() {
    let world = World::new(Layout::Wire);
    let (client, _responder) = in_band(&world, "rw");
    let conf = Conf {
        set: vec!["ocsp \"http://127.0.0.1:8888/\"".to_owned()],
        ..by_signature()
    };
    let session = Session::open(&world, &conf, &client);
    let words = "sending OCSP status for certificate \"C=DE, O=Interop, CN=client\"";
    assert_says(&session.said, &[words]);
    assert_eq!(session.gateway.count("lookups"), 0);
}

pub fn the_gateway_shows_what_its_responder_said() {
    let world = World::new(Layout::Wire);
    let (mut client, _responder) = in_band(&world, "gw");
    client.lines.push("ocsp = request".to_owned());
    if let Some(credentials) = &mut client.credentials {
        credentials.remote += " revocation = strict\n";
    }
    let session = Session::open(&world, &by_signature(), &client);
    let words = [
        "received OCSP response issued by \"C=DE, O=Interop, CN=root\"",
        "certificate status is good",
    ];
    assert_says(&session.said, &words);
    assert_eq!(session.gateway.count("lookups"), 1);
    assert_eq!(session.gateway.count("lookup failures"), 0);
}
