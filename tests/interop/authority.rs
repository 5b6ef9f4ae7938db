//! The walk-through of ikectl(8): an authority made by `ikectl ca`, a gateway set up by `install`, and
//! a strongSwan client that opens the exported archive, or a second host set up like the first, on which
//! our own daemon runs or OpenIKED's.

use std::fs;
use std::process::Command;

use super::credentials::by_signature;
use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID, Gateway};
use super::openiked::{BEHIND, BEHIND_NET, Peer};
use super::openiked_scenarios::Ends;
use super::refusals::is_refused;
use super::session::{Session, passes_packets};
use super::strongswan::{Client, Credentials};
use super::world::{CLIENT, GATEWAY, INSIDE, INSIDE_NET, Layout, World};
use super::world::{assert_says, coupled, lossy, text, wait_long_for};

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
    ca(world, "create password s3cret");
    installs_host(world, gateway, "server", "iked");
}

/// A host's certificate for this usage, or any, in a folder like `/etc/iked`.
fn installs_host(world: &World, host: &str, usage: &str, folder: &str) {
    let folder = world.folder(folder);
    let folder = text(&folder);
    ca(world, &format!("install {folder}"));
    ca(world, &format!("certificate {host} create {usage}"));
    ca(world, &format!("certificate {host} install {folder}"));
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

/// A host behind the client, which the gateway's network is to reach.
fn behind_the_client(world: &World) {
    let lines =
        format!("addr add {BEHIND}/24 dev lo\nroute add {INSIDE_NET} dev wan src {BEHIND}\n");
    world.batch("rw", &lines);
}

/// The client's end, in the words of iked.conf(5).
fn other_end() -> String {
    let mut conf = String::new();
    if !coupled() {
        conf += "set decouple\n";
    }
    conf + &format!(
        "ikev2 \"branch\" active esp from {BEHIND_NET} to {INSIDE_NET} local {CLIENT} peer {GATEWAY} \\\n  \
         srcid {CLIENT_ID} dstid {GATEWAY_ID} ecdsa256\n"
    )
}

pub fn two_hosts_of_one_authority() {
    let world = World::new(Layout::Wire);
    behind_the_client(&world);
    installs(&world, GATEWAY_ID);
    installs_host(&world, CLIENT_ID, "", "branch");
    let conf = Conf {
        hosts: format!("local {GATEWAY} peer {CLIENT}"),
        flows: format!("from {INSIDE_NET} to {BEHIND_NET}"),
        ikesa: Vec::new(),
        childsa: Vec::new(),
        config: Vec::new(),
        ..by_signature()
    };
    let gateway = Gateway::start(&world, &conf);
    let branch = Gateway::start_on(&world, "rw", "branch", &other_end(), 1);
    for (end, role, other, own) in [
        (&gateway, "r", CLIENT_ID, GATEWAY_ID),
        (&branch, "i", GATEWAY_ID, CLIENT_ID),
    ] {
        end.wait_for_count("IKE SA currently established", 1);
        let up = format!("] ESTABLISHED {role}");
        let shown = end.show_sa();
        assert_says(&shown, &[&format!("<FQDN/{other}>["), &up]);
        assert_eq!(shown.matches("sa_childsas:").count(), 2, "{shown}");
        let listed = end.ikectl(&["show", "certstore"]);
        assert_eq!(listed, format!("CA: /O=vpn/CN=VPN CA\nCERT: /CN={own}\n"));
    }
    passes_packets(&world, BEHIND, INSIDE);
    // Whom the authority revokes is let in no more.
    ca(&world, &format!("certificate {CLIENT_ID} revoke"));
    ca(&world, &format!("install {}", text(&world.folder("iked"))));
    gateway.ikectl(&["reload"]);
    gateway.ikectl(&["reset", "sa"]);
    branch.wait_for_count("IKE SA currently established", 0);
    branch.ikectl(&["reload"]);
    wait_long_for("the refusal", || {
        let refused = gateway.log().contains("certificate revoked");
        refused.then_some(())
    });
    assert_eq!(gateway.count("IKE SA currently established"), 0);
    for end in [&gateway, &branch] {
        assert_eq!(end.count("faults"), 0);
    }
}

fn openiked_is_the_other_host(mode: &'static str) {
    let world = World::new(Layout::Wire);
    installs(&world, GATEWAY_ID);
    installs_host(&world, CLIENT_ID, "", "openiked/etc");
    let peer = Peer {
        installed: true,
        set: vec!["fragmentation".to_owned()],
        ..Peer::new(mode)
    };
    let ends = Ends::meet(world, &peer, &peer.mirror());
    ends.carries();
    assert_says(
        &ends.peer.ikectl(&["show", "certstore"]),
        &["CA: /O=vpn/CN=VPN CA", &format!("CERT: /CN={CLIENT_ID}")],
    );
}

pub fn openiked_of_the_same_authority_begins() {
    openiked_is_the_other_host("active");
}

pub fn openiked_of_the_same_authority_answers() {
    openiked_is_the_other_host("passive");
}
