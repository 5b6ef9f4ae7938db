//! Certificates and EAP: who gets in, and who does not.

use std::fs;
use std::path::Path;

use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID, Gateway};
use super::keys::Kind;
use super::pki::Holder;
use super::refusals::is_refused;
use super::roles;
use super::session::Session;
use super::strongswan::{Client, Credentials, StrongSwan};
use super::world::{CLIENT, GATEWAY, Layout, World, assert_says};

/// The gateway's key and certificates, and the authorities it trusts.
pub fn certify_gateway(world: &World, own: &Holder, chain: &[&Holder], trusted: &[&Holder]) {
    let folder = world.folder("iked");
    for part in ["ca", "certs", "private"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::copy(&own.keys.private, folder.join("private/local.key")).unwrap();
    let mut pem = fs::read(&own.certificate).unwrap();
    for above in chain {
        pem.extend(fs::read(&above.certificate).unwrap());
    }
    fs::write(folder.join("certs/gateway-fullchain.pem"), pem).unwrap();
    for (number, authority) in trusted.iter().enumerate() {
        let to = folder.join(format!("ca/{number}.crt"));
        fs::copy(&authority.certificate, to).unwrap();
    }
}

/// A client that holds this, with intermediate certificates, and trusts that authority.
pub fn certified_client(own: &Holder, above: &[&Holder], trusted: &Holder) -> Client {
    let mut files = vec![
        (own.keys.private.clone(), "private/client.pem".to_owned()),
        (own.certificate.clone(), "x509/client.pem".to_owned()),
        (trusted.certificate.clone(), "x509ca/root.pem".to_owned()),
    ];
    for (number, above) in above.iter().enumerate() {
        files.push((above.certificate.clone(), format!("x509ca/{number}.pem")));
    }
    Client {
        credentials: Some(Credentials {
            local: "auth = pubkey\n certs = client.pem\n".to_owned(),
            remote: "auth = pubkey\n".to_owned(),
            secrets: String::new(),
            files,
        }),
        ..Client::default()
    }
}

pub fn by_signature() -> Conf {
    Conf {
        auth: String::new(),
        ..Conf::default()
    }
}

pub fn certificates_of_one_authority() {
    let world = World::new(Layout::Wire);
    let root = Holder::authority(&world, "root");
    let gateway = root.vouches_for(&world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let client = root.vouches_for(&world, "client", CLIENT_ID, Kind::Rsa2048);
    certify_gateway(&world, &gateway, &[], &[&root]);
    let client = certified_client(&client, &[], &root);
    let session = Session::open(&world, &by_signature(), &client);
    let words = [
        "received end entity cert \"C=DE, O=Interop, CN=gateway\"",
        "ECDSA_WITH_SHA256",
    ];
    assert_says(&session.said, &words);
    let listed = session.gateway.ikectl(&["show", "certstore"]);
    let expected = "CA: /C=DE/O=Interop/CN=root\nCERT: /C=DE/O=Interop/CN=gateway\n";
    assert_eq!(listed, expected);
}

pub fn intermediate_authorities_on_both_sides() {
    let world = World::new(Layout::Wire);
    let root = Holder::authority(&world, "root");
    let ours = root.intermediate(&world, "ours");
    let theirs = root.intermediate(&world, "theirs");
    let gateway = ours.vouches_for(&world, "gateway", GATEWAY_ID, Kind::Rsa2048);
    let client = theirs.vouches_for(&world, "client", CLIENT_ID, Kind::EcdsaP256);
    certify_gateway(&world, &gateway, &[&ours], &[&root]);
    let client = certified_client(&client, &[&theirs], &root);
    let session = Session::open(&world, &by_signature(), &client);
    let issuer = "received issuer cert \"C=DE, O=Interop, CN=ours\"";
    assert_says(
        &session.said,
        &[issuer, "sending issuer cert \"C=DE, O=Interop, CN=theirs\""],
    );
}

pub fn the_gateway_begins_with_certificates() {
    let world = World::new(Layout::Wire);
    let root = Holder::authority(&world, "root");
    let gateway = root.vouches_for(&world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let client = root.vouches_for(&world, "client", CLIENT_ID, Kind::EcdsaP256);
    certify_gateway(&world, &gateway, &[], &[&root]);
    let client = Client {
        vips: String::new(),
        ..certified_client(&client, &[], &root)
    };
    let said = roles::begins(by_signature(), &client, &world);
    let method = "authentication of 'gateway.example' with ECDSA_WITH_SHA256_DER successful";
    assert_says(&said, &[method]);
}

/// A client that proves itself by a password, and the gateway by its certificate.
pub fn by_password(root: &Path, user: &str, password: &str) -> Client {
    by_method("mschapv2", root, user, password)
}

fn by_method(method: &str, root: &Path, user: &str, password: &str) -> Client {
    Client {
        credentials: Some(Credentials {
            local: format!("auth = eap-{method}\n eap_id = {user}\n"),
            remote: "auth = pubkey\n".to_owned(),
            secrets: format!("eap-1 {{ id = {user}\n secret = \"{password}\"\n }}\n"),
            files: vec![(root.to_owned(), "x509ca/root.pem".to_owned())],
        }),
        ..Client::default()
    }
}

pub fn asks_for_passwords(world: &World) -> (Holder, Conf) {
    let root = Holder::authority(world, "root");
    let gateway = root.vouches_for(world, "gateway", GATEWAY_ID, Kind::Rsa2048);
    certify_gateway(world, &gateway, &[], &[&root]);
    let conf = Conf {
        auth: "eap \"mschap-v2\"".to_owned(),
        lines: vec!["user \"alice\" \"Hier ist's grün\"".to_owned()],
        ..Conf::default()
    };
    (root, conf)
}

pub fn a_password_gets_in() {
    let world = World::new(Layout::Wire);
    let (root, conf) = asks_for_passwords(&world);
    let client = by_password(&root.certificate, "alice", "Hier ist's grün");
    let session = Session::open(&world, &conf, &client);
    let words = [
        "EAP method EAP_MSCHAPV2 succeeded, MSK established",
        "with EAP successful",
    ];
    assert_says(&session.said, &words);
    session.gateway.says(&["EAP user 'alice' authenticated"]);
}

pub fn a_wrong_password_does_not() {
    let world = World::new(Layout::Wire);
    let (root, conf) = asks_for_passwords(&world);
    let client = by_password(&root.certificate, "alice", "hier ist's grün");
    let words = "EAP-MS-CHAPv2 failed with error ERROR_AUTHENTICATION_FAILURE";
    let gateway = is_refused(&world, &conf, &client, words);
    let why = "EAP: wrong user name or password for 'alice'";
    gateway.says(&[why, "sa_free: given up by the peer"]);
    assert_eq!(gateway.count("IKE SA failed to establish"), 1);
}

/// A client that can do nothing but this method gets it, though it is not the first on offer.
fn gets_in_with(method: &str, charon: &str) {
    let world = World::new(Layout::Wire);
    let (root, conf) = asks_for_passwords(&world);
    let conf = Conf {
        auth: format!("eap {{ mschap-v2, {method} }}"),
        ..conf
    };
    let client = by_method(method, &root.certificate, "alice", "Hier ist's grün");
    let session = Session::open(&world, &conf, &client);
    let succeeded = format!("EAP method {charon} succeeded, no MSK established");
    assert_says(&session.said, &[&succeeded, "with EAP successful"]);
    session.gateway.says(&["EAP user 'alice' authenticated"]);
}

pub fn a_client_with_nothing_but_md5_gets_in() {
    gets_in_with("md5", "EAP_MD5");
}

pub fn a_client_with_nothing_but_gtc_gets_in() {
    gets_in_with("gtc", "EAP_GTC");
}

/// charon signs, and wants the gateway to pass with this method.
fn asks_the_gateway(world: &World, method: &str) -> Client {
    let root = Holder::authority(world, "root");
    let client = root.vouches_for(world, "client", CLIENT_ID, Kind::EcdsaP256);
    let ca = world.folder("iked").join("ca");
    fs::create_dir_all(&ca).unwrap();
    fs::copy(&root.certificate, ca.join("root.crt")).unwrap();
    let client = certified_client(&client, &[], &root);
    let credentials = client.credentials.map(|credentials| Credentials {
        remote: format!("auth = eap-{method}\n eap_id = %any\n"),
        secrets: "eap-1 { id = alice\n secret = \"Hier ist's grün\"\n }\n".to_owned(),
        ..credentials
    });
    Client {
        vips: String::new(),
        credentials,
        ..client
    }
}

fn knows_a_password(methods: &str, password: &str) -> Conf {
    Conf {
        auth: format!("eap {methods} user \"alice\" \"{password}\""),
        ..Conf::default()
    }
}

pub fn the_gateway_begins_with_a_password() {
    let world = World::new(Layout::Wire);
    let client = asks_the_gateway(&world, "mschapv2");
    let conf = knows_a_password("mschap-v2", "Hier ist's grün");
    let said = roles::begins(conf, &client, &world);
    let words = [
        "EAP method EAP_MSCHAPV2 succeeded, MSK established",
        "authentication of 'gateway.example' with EAP successful",
    ];
    assert_says(&said, &words);
}

pub fn the_gateway_begins_with_a_password_and_md5() {
    let world = World::new(Layout::Wire);
    let client = asks_the_gateway(&world, "md5");
    let conf = knows_a_password("{ mschap-v2, md5 }", "Hier ist's grün");
    let said = roles::begins(conf, &client, &world);
    let words = [
        "EAP method EAP_MD5 succeeded, no MSK established",
        "authentication of 'gateway.example' with EAP successful",
    ];
    assert_says(&said, &words);
}

pub fn the_gateway_begins_with_a_wrong_password() {
    let world = World::new(Layout::Wire);
    let client = asks_the_gateway(&world, "mschapv2");
    let conf = Conf {
        mode: "active",
        hosts: format!("local {GATEWAY} peer {CLIENT}"),
        flows: format!("from 10.8.0.0/24 to {CLIENT}"),
        config: Vec::new(),
        ..knows_a_password("mschap-v2", "hier ist's grün")
    };
    let swan = StrongSwan::start(&world, &client);
    let gateway = Gateway::start(&world, &conf);
    let why = "sa_free: peer FQDN/warrior.example policy 'warriors': authentication failed: EAP: \
               refused by the peer E=691";
    gateway.says(&[why]);
    assert_eq!(gateway.count("IKE SA established"), 0);
    assert_eq!(swan.established(), [""; 0]);
}

/// A client that proves itself by EAP-TLS, with this version of TLS at most.
fn by_tls(version: &str, client: Client) -> Client {
    let credentials = client.credentials.map(|credentials| Credentials {
        local: "auth = eap-tls\n certs = client.pem\n".to_owned(),
        ..credentials
    });
    Client {
        credentials,
        daemon_lines: vec![format!("tls {{ version_max = {version}\n }}")],
        ..client
    }
}

fn gets_in_by_tls(version: &str) {
    let world = World::new(Layout::Wire);
    let root = Holder::authority(&world, "root");
    let gateway = root.vouches_for(&world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let client = root.vouches_for(&world, "client", CLIENT_ID, Kind::EcdsaP256);
    certify_gateway(&world, &gateway, &[], &[&root]);
    let client = by_tls(version, certified_client(&client, &[], &root));
    let conf = Conf {
        auth: "eap { mschap-v2, tls }".to_owned(),
        ..Conf::default()
    };
    let session = Session::open(&world, &conf, &client);
    let words = [
        &format!("negotiated TLS {version} using suite"),
        "EAP method EAP_TLS succeeded, MSK established",
        "with EAP successful",
    ];
    assert_says(&session.said, &words);
    let who = "EAP user 'FQDN/warrior.example' authenticated";
    session.gateway.says(&[who]);
}

pub fn a_certificate_gets_in_by_tls_1_2() {
    gets_in_by_tls("1.2");
}

pub fn a_certificate_gets_in_by_tls_1_3() {
    gets_in_by_tls("1.3");
}

pub fn a_certificate_of_a_stranger_is_refused_by_tls() {
    let world = World::new(Layout::Wire);
    let root = Holder::authority(&world, "root");
    let other = Holder::authority(&world, "other");
    let gateway = root.vouches_for(&world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let client = other.vouches_for(&world, "client", CLIENT_ID, Kind::EcdsaP256);
    certify_gateway(&world, &gateway, &[], &[&root]);
    let client = by_tls("1.2", certified_client(&client, &[], &root));
    let conf = Conf {
        auth: "eap tls".to_owned(),
        ..Conf::default()
    };
    let gateway = is_refused(&world, &conf, &client, "received fatal TLS alert");
    let why = "EAP-TLS: certificate: unable to get local issuer certificate";
    gateway.says(&[why]);
}

fn begins_by_tls(version: &str) {
    let world = World::new(Layout::Wire);
    // strongSwan names only authorities with RSA keys, and in TLS 1.3 a server may not name none.
    let root = Holder::authority_with(&world, "root", Kind::Rsa2048);
    let gateway = root.vouches_for(&world, "gateway", GATEWAY_ID, Kind::EcdsaP256);
    let client = root.vouches_for(&world, "client", CLIENT_ID, Kind::EcdsaP256);
    certify_gateway(&world, &gateway, &[], &[&root]);
    let client = certified_client(&client, &[], &root);
    let credentials = client.credentials.map(|credentials| Credentials {
        remote: "auth = eap-tls\n".to_owned(),
        ..credentials
    });
    let client = Client {
        vips: String::new(),
        credentials,
        daemon_lines: vec![format!("tls {{ version_max = {version}\n }}")],
        ..client
    };
    let conf = Conf {
        auth: "eap tls".to_owned(),
        ..Conf::default()
    };
    let said = roles::begins(conf, &client, &world);
    let words = [
        &format!("negotiated TLS {version} using suite"),
        "EAP method EAP_TLS succeeded, MSK established",
        "authentication of 'gateway.example' with EAP successful",
    ];
    assert_says(&said, &words);
}

pub fn the_gateway_begins_with_tls_1_2() {
    begins_by_tls("1.2");
}

pub fn the_gateway_begins_with_tls_1_3() {
    begins_by_tls("1.3");
}
