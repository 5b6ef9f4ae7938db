//! The walk-through of ikectl(8): an authority made by `ikectl ca`, a gateway set up by `install`, and
//! a strongSwan client that opens the exported archive.

use std::fs;
use std::process::Command;

use super::credentials::by_signature;
use super::gateway::{CLIENT_ID, GATEWAY_ID};
use super::refusals::is_refused;
use super::session::Session;
use super::strongswan::{Client, Credentials};
use super::world::{Layout, World, assert_says, lossy, text};

/// `ikectl ca vpn ...` in a folder of this world, where archives are put too.
fn ca(world: &World, words: &str) {
    let folder = world.folder("authority");
    let output = Command::new(env!("CARGO_BIN_EXE_ikectl"))
        .current_dir(&folder)
        .args(["--ssl-dir", text(&folder), "ca", "vpn"])
        .args(words.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{words}: {}",
        lossy(&output.stderr)
    );
}

fn installs(world: &World, gateway: &str) {
    let iked = world.folder("iked");
    ca(world, "create password s3cret");
    ca(world, &format!("install {}", text(&iked)));
    ca(world, &format!("certificate {gateway} create server"));
    ca(
        world,
        &format!("certificate {gateway} install {}", text(&iked)),
    );
}

/// A client that has nothing but the exported archive.
fn exported(world: &World) -> Client {
    let certificate = format!("certificate {CLIENT_ID}");
    ca(world, &format!("{certificate} create client"));
    ca(
        world,
        &format!("{certificate} export peer {GATEWAY_ID} password pfx-pw"),
    );
    let folder = world.folder("authority");
    let archive = folder.join(format!("{CLIENT_ID}.tgz"));
    let opened = Command::new("tar")
        .args(["-C", text(&folder), "-xzf", text(&archive)])
        .status()
        .unwrap();
    assert!(opened.success());
    let profile = fs::read(folder.join(format!("export/{CLIENT_ID}.sswan"))).unwrap();
    let profile: serde_json::Value = serde_json::from_slice(&profile).unwrap();
    assert_eq!(profile["remote"]["addr"], GATEWAY_ID);
    let pfx = folder.join(format!("export/{CLIENT_ID}.pfx"));
    Client {
        credentials: Some(Credentials {
            local: "auth = pubkey\n".to_owned(),
            remote: "auth = pubkey\n".to_owned(),
            secrets: "pkcs12-1 { file = client.pfx\n secret = \"pfx-pw\"\n }\n".to_owned(),
            files: vec![
                (pfx, "pkcs12/client.pfx".to_owned()),
                (folder.join("export/ca.crt"), "x509ca/ca.pem".to_owned()),
            ],
        }),
        ..Client::default()
    }
}

pub fn the_walk_through_leads_to_a_tunnel() {
    let world = World::new(Layout::Wire);
    installs(&world, GATEWAY_ID);
    let client = exported(&world);
    let session = Session::open(&world, &by_signature(), &client);
    assert_says(&session.said, &["ECDSA_WITH_SHA256"]);
    let listed = session.gateway.ikectl(&["show", "certstore"]);
    let expected = format!("CA: /O=vpn/CN=VPN CA\nCERT: /CN={GATEWAY_ID}\n");
    assert_eq!(listed, expected);
}

pub fn whom_the_authority_has_revoked_stays_outside() {
    let world = World::new(Layout::Wire);
    installs(&world, GATEWAY_ID);
    let client = exported(&world);
    ca(&world, &format!("certificate {CLIENT_ID} revoke"));
    ca(&world, &format!("install {}", text(&world.folder("iked"))));
    is_refused(&world, &by_signature(), &client, "AUTHENTICATION_FAILED");
}
