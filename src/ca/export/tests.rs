use std::collections::BTreeSet;
use std::io::{Cursor, Read};

use boring::pkcs12::Pkcs12;
use flate2::read::GzDecoder;
use serde_json::Value;

use super::super::request::{OfCertificate, Usage, What};
use super::super::tests::Desk;
use super::*;

fn how(private: bool) -> Export {
    Export {
        peer: Some("gw.example".to_owned()),
        password: Some(Secret::new("p&ss".to_owned())),
        private,
    }
}

/// Path, mode and content of each.
fn unpacked(path: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut tar = tar::Archive::new(GzDecoder::new(fs::File::open(path).unwrap()));
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let path = entry.path().unwrap().display().to_string();
        (path, entry.header().mode().unwrap(), bytes)
    });
    entries.collect()
}

fn exported() -> Desk {
    let desk = Desk::new();
    desk.certify("fe80:1@x", Usage::Client).unwrap();
    desk.host("fe80:1@x", OfCertificate::Export(how(false)))
        .unwrap();
    desk
}

#[test]
fn an_archive_is_the_folders_of_iked() {
    let desk = exported();
    let files = unpacked(&desk.path("fe80_1@x.tgz"));
    let listed: Vec<(&str, u32)> = files.iter().map(|(p, m, _)| (p.as_str(), *m)).collect();
    let expected = [
        ("private/", 0o700),
        ("ca/ca.crt", 0o644),
        ("crls/ca.crl", 0o644),
        ("certs/fe80:1@x.crt", 0o644),
        ("private/fe80:1@x.key", 0o600),
        ("private/local.key", 0o600),
        ("local.pub", 0o644),
        ("export/ca.crt", 0o644),
        ("export/ca.pfx", 0o644),
        ("export/peer.txt", 0o644),
        ("export/fe80_1@x.pfx", 0o600),
        ("export/fe80_1@x.ps1", 0o644),
        ("export/fe80_1@x.mobileconfig", 0o600),
        ("export/fe80_1@x.sswan", 0o600),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn a_zip_has_what_clients_want_and_nothing_in_the_clear() {
    let desk = exported();
    let bytes = fs::read(desk.path("fe80_1@x.zip")).unwrap();
    let mut zip = ::zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    assert_eq!(zip.len(), 7);
    for at in 0..zip.len() {
        let mut bytes = Vec::new();
        let mut file = zip.by_index(at).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let name = file.name().unwrap().to_string();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("PRIVATE KEY"), "{name}");
        assert!(!text.contains("p&ss"), "{name}");
    }
}

#[test]
fn a_pfx_opens_with_its_password_only() {
    let desk = exported();
    let files = unpacked(&desk.path("fe80_1@x.tgz"));
    let find = |name: &str| {
        files
            .iter()
            .find(|(path, ..)| path == name)
            .unwrap()
            .2
            .clone()
    };
    let pfx = Pkcs12::from_der(&find("export/fe80_1@x.pfx")).unwrap();
    let parsed = pfx.parse("p&ss").unwrap();
    assert!(parsed.cert.public_key().unwrap().public_eq(&parsed.pkey));
    assert_eq!(parsed.chain.unwrap().len(), 1);
    assert!(pfx.parse("other").is_err());
    let ca = Pkcs12::from_der(&find("export/ca.pfx"))
        .unwrap()
        .parse2("p&ss")
        .unwrap();
    assert!(ca.pkey.is_none());
    assert_eq!(ca.ca.unwrap().len(), 1);
}

#[test]
fn profiles_name_the_gateway_and_carry_the_identity() {
    let desk = exported();
    let text = fs::read(desk.path("fe80_1@x.sswan")).unwrap();
    let sswan: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(sswan["type"], "ikev2-cert");
    assert_eq!(sswan["remote"]["addr"], "gw.example");
    assert_eq!(sswan["local"]["id"], "fe80:1@x");
    let p12 = boring::base64::decode_block(sswan["local"]["p12"].as_str().unwrap()).unwrap();
    Pkcs12::from_der(&p12).unwrap().parse("p&ss").unwrap();
    let apple = fs::read_to_string(desk.path("fe80_1@x.mobileconfig")).unwrap();
    for part in [
        "<key>RemoteAddress</key>\n<string>gw.example</string>",
        "<key>LocalIdentifier</key>\n<string>fe80:1@x</string>",
        "<key>CertificateType</key>\n<string>ECDSA256</string>",
        "<key>ServerCertificateIssuerCommonName</key>\n<string>VPN CA</string>",
    ] {
        assert!(apple.contains(part), "{part}");
    }
    assert!(apple.contains(&boring::base64::encode_block(&p12)));
    for tag in ["dict", "array", "key", "string", "integer", "data"] {
        let count = |mark: &str| apple.matches(&format!("<{mark}{tag}>")).count();
        assert_eq!(count(""), count("/"), "{tag}");
    }
}

#[test]
fn a_script_has_its_names_as_literals() {
    let of = Profile {
        ca: "it's $(here)",
        ca_der: b"",
        ca_name: "",
        host: "a",
        peer: "gw.example",
        pfx: b"",
        rsa: false,
    };
    let script = String::from_utf8(windows::script(&of, "a.pfx")).unwrap();
    assert!(script.contains("Add-VpnConnection -Name 'it''s $(here)' -ServerAddress 'gw.example'"));
    assert!(
        script.lines().count() > 10 && script.matches("\r\n").count() == script.lines().count()
    );
}

#[test]
fn without_a_peer_there_are_no_profiles() {
    let desk = Desk::new();
    desk.certify("a", Usage::Any).unwrap();
    let how = Export {
        peer: None,
        ..how(false)
    };
    let said = desk.host("a", OfCertificate::Export(how.clone())).unwrap();
    let here = desk.path("");
    let here = here.display();
    assert_eq!(
        said,
        format!("exported files in {here}a.tgz\nexported files in {here}a.zip\n")
    );
    let said = desk.host("a", OfCertificate::Export(how)).unwrap();
    assert!(
        said.starts_with(&format!("{here}a.tgz is replaced\n")),
        "{said}"
    );
}

#[test]
fn the_authority_keeps_its_key_unless_told_otherwise() {
    let desk = Desk::new();
    desk.certify("a", Usage::Any).unwrap();
    let names = || -> Vec<String> {
        unpacked(&desk.path("ca.tgz"))
            .into_iter()
            .map(|(path, ..)| path)
            .collect()
    };
    let said = desk.run(What::Export(how(false))).unwrap();
    assert!(said.contains("stay here"), "{said}");
    assert_eq!(
        names(),
        ["a.crt", "ca.crl", "ca.crt", "index.txt", "serial.txt"]
    );
    desk.run(What::Export(how(true))).unwrap();
    let with = names();
    for name in ["ikeca.passwd", "private/ca.key", "private/a.key"] {
        assert!(with.iter().any(|path| path == name), "{with:?}");
    }
}

#[test]
fn identifiers_are_random() {
    let all: BTreeSet<String> = (0..64).map(|_| uuid().unwrap()).collect();
    assert_eq!(all.len(), 64);
    let ends: BTreeSet<&str> = all.iter().map(|id| &id[30..]).collect();
    assert!(ends.len() > 60);
    for id in &all {
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]));
    }
}
