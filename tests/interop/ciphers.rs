//! Every cipher of ESP and every checksum of AH, with traffic: what is agreed is what both kernels do.

use super::gateway::{Conf, Gateway};
use super::libreswan::{self, Libreswan};
use super::libreswan_rekey::{BEHIND, networks, open_behind};
use super::openiked::{Peer, Suite};
use super::openiked_scenarios::Ends;
use super::roles::answers;
use super::session::{gateway_has_let_go, passes_packets, sas_of};
use super::strongswan::{self, StrongSwan};
use super::world::{CLIENT, INSIDE, INSIDE_NET, Layout, World, assert_says};

/// The words of iked.conf(5), of swanctl.conf and of ipsec.conf, empty where the peer has none, and what
/// `ip xfrm state` must say.
struct Cipher {
    ours: &'static str,
    strongswan: &'static str,
    libreswan: &'static str,
    kernel: &'static str,
}

const fn cipher(words: [&'static str; 4]) -> Cipher {
    let [ours, strongswan, libreswan, kernel] = words;
    Cipher {
        ours,
        strongswan,
        libreswan,
        kernel,
    }
}

const ESP: &[Cipher] = &[
    cipher([
        "enc aes-128-gcm",
        "aes128gcm16",
        "aes_gcm128",
        "rfc4106(gcm(aes))",
    ]),
    cipher([
        "enc chacha20-poly1305",
        "chacha20poly1305",
        "chacha20_poly1305",
        "rfc7539esp(chacha20,poly1305)",
    ]),
    cipher([
        "enc aes-256-ctr auth hmac-sha2-256",
        "aes256ctr-sha256",
        "aes_ctr256-sha2_256",
        "rfc3686(ctr(aes))",
    ]),
    cipher([
        "enc aes-128-gmac",
        "aes128gmac",
        "null_auth_aes_gmac_128",
        "rfc4543(gcm(aes))",
    ]),
    cipher([
        "enc null auth hmac-sha1",
        "null-sha1",
        "null-sha1",
        "ecb(cipher_null)",
    ]),
    cipher([
        "enc 3des auth hmac-sha1",
        "3des-sha1",
        "3des-sha1",
        "cbc(des3_ede)",
    ]),
    cipher(["enc cast auth hmac-sha1", "cast128-sha1", "", "cbc(cast5)"]),
    cipher([
        "enc aes-128 auth hmac-sha2-256",
        "aes128-sha256",
        "aes128-sha2_256",
        "hmac(sha256)",
    ]),
    cipher([
        "enc aes-192 auth hmac-sha2-384",
        "aes192-sha384",
        "aes192-sha2_384",
        "hmac(sha384)",
    ]),
    cipher([
        "enc aes-256 auth hmac-sha2-512",
        "aes256-sha512",
        "aes256-sha2_512",
        "hmac(sha512)",
    ]),
    cipher(["enc aes-256-gcm esn", "aes256gcm16-esn", "", "esn"]),
];

const AH: &[Cipher] = &[
    cipher(["auth hmac-sha1", "sha1", "sha1", "hmac(sha1)"]),
    cipher(["auth hmac-sha2-256", "sha256", "sha2_256", "hmac(sha256)"]),
    cipher(["auth hmac-sha2-384", "sha384", "sha2_384", "hmac(sha384)"]),
    cipher(["auth hmac-sha2-512", "sha512", "sha2_512", "hmac(sha512)"]),
];

fn conf(protocol: &'static str, ciphers: &[Cipher], base: Conf) -> Conf {
    Conf {
        protocol,
        childsa: ciphers.iter().map(|one| one.ours.to_owned()).collect(),
        ..base
    }
}

/// The one Child SA of both ends has this cipher, and packets pass.
fn carries(world: &World, protocol: &str, cipher: &Cipher, from: &str) {
    for host in ["gw", "rw"] {
        let states = world.ip(host, &["xfrm", "state"]);
        assert_eq!(sas_of(&states), 2, "{}: {states}", cipher.ours);
        assert_says(&states, &[&format!("proto {protocol} "), cipher.kernel]);
    }
    passes_packets(world, from, INSIDE);
}

/// One IKE SA, and one Child SA after the other.
fn with_strongswan(protocol: &'static str, ciphers: &[Cipher]) {
    let world = World::new(Layout::Wire);
    let child = |(number, one): (usize, &Cipher)| {
        let proposals = format!("{protocol}_proposals = {}", one.strongswan);
        format!("child{number} {{\n {proposals}\n remote_ts = {INSIDE_NET}\n }}")
    };
    let client = strongswan::Client {
        children: ciphers.iter().enumerate().map(child).collect(),
        ..answers()
    };
    let base = Conf {
        flows: format!("from {INSIDE_NET} to {CLIENT}"),
        config: Vec::new(),
        ..Conf::default()
    };
    let gateway = Gateway::start(&world, &conf(protocol, ciphers, base));
    let swan = StrongSwan::start(&world, &client);
    for (number, cipher) in ciphers.iter().enumerate() {
        let name = format!("child{number}");
        swan.initiate(&name);
        carries(&world, protocol, cipher, CLIENT);
        swan.drop_child(&name);
    }
    swan.disconnect();
    gateway_has_let_go(&world, &gateway);
    assert_eq!(gateway.count("IKE SA established"), 1);
    assert_eq!(gateway.count("faults"), 0);
}

pub fn every_cipher_of_esp() {
    with_strongswan("esp", ESP);
}

pub fn every_checksum_of_ah() {
    with_strongswan("ah", AH);
}

/// A connection for each, one after the other.
fn with_libreswan(protocol: &'static str, ciphers: &[Cipher]) {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let world = World::new(Layout::Wire);
    let (base, client) = networks("passive");
    let known = || {
        let known = ciphers.iter().filter(|one| !one.libreswan.is_empty());
        NAMES.into_iter().zip(known)
    };
    let connection = |(name, one): (&'static str, &Cipher)| {
        (name, format!("phase2={protocol}\nesp={}", one.libreswan))
    };
    let client = libreswan::Client {
        more: known().map(connection).collect(),
        ..client
    };
    open_behind(&world);
    let gateway = Gateway::start(&world, &conf(protocol, ciphers, base));
    let swan = Libreswan::start(&world, &client);
    for (name, cipher) in known() {
        let said = swan.initiate(name);
        assert_says(&said, &["initiator established Child SA using"]);
        carries(&world, protocol, cipher, BEHIND);
        swan.delete(name);
        gateway_has_let_go(&world, &gateway);
    }
    assert_eq!(gateway.count("faults"), 0);
}

pub fn every_cipher_of_esp_with_libreswan() {
    with_libreswan("esp", ESP);
}

pub fn every_checksum_of_ah_with_libreswan() {
    with_libreswan("ah", AH);
}

/// Linux' PF_KEY, OpenIKED's only way into the kernel, has no AEAD, and OpenIKED no SHA2-256, Blowfish or CAST
/// for it. Its proposals for AH have transforms of encryption in them, which no responder may take.
const PF_KEY: [(&str, &str); 3] = [
    ("enc aes-256-ctr auth hmac-sha1", "rfc3686(ctr(aes))"),
    ("enc 3des auth hmac-sha2-512", "cbc(des3_ede)"),
    ("enc aes-192 auth hmac-sha2-384", "hmac(sha384)"),
];

pub fn every_cipher_that_its_pf_key_has() {
    for (childsa, kernel) in PF_KEY {
        let ikesa = "enc aes-256-gcm prf hmac-sha2-256 group curve25519";
        let peer = Peer {
            suite: Suite { ikesa, childsa },
            ..Peer::new("active")
        };
        let ends = Ends::meet(World::new(Layout::Wire), &peer, &peer.mirror());
        for host in ["gw", "rw"] {
            let states = ends.world.ip(host, &["xfrm", "state"]);
            assert_says(&states, &["proto esp ", kernel]);
        }
        ends.carries();
    }
}
