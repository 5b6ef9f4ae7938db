//! Commands in a temporary folder, one after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use boring::x509::X509;
use tempfile::TempDir;

use super::request::{Export, KeyKind, Secret, Usage};
use super::*;

struct Nobody;

impl Prompt for Nobody {
    fn ask(&mut self, words: &str) -> io::Result<Secret> {
        panic!("{words}")
    }
}

pub(super) struct Desk {
    pub(super) folder: TempDir,
}

impl Desk {
    pub(super) fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        desk.run(create(KeyKind::EcdsaP256)).unwrap();
        desk
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// What is said about it.
    pub(super) fn run(&self, what: What) -> Result<String, CaError> {
        self.run_as(what, false)
    }

    fn run_as(&self, what: What, json: bool) -> Result<String, CaError> {
        let mut bench = Bench {
            folder: self.folder.path(),
            here: self.folder.path(),
            prompt: &mut Nobody,
            json,
        };
        let command = Command {
            ca: "vpn".to_owned(),
            what,
        };
        let mut out = Vec::new();
        run(&command, &mut bench, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    pub(super) fn certify(&self, host: &str, usage: Usage) -> Result<String, CaError> {
        let kind = KeyKind::EcdsaP256;
        self.host(host, OfCertificate::Create { usage, kind })
    }

    pub(super) fn host(&self, host: &str, what: OfCertificate) -> Result<String, CaError> {
        let host = host.to_owned();
        self.run(What::Certificate { host, what })
    }

    fn key(&self, host: &str, what: OfKey) -> Result<String, CaError> {
        let host = host.to_owned();
        self.run(What::Key { host, what })
    }

    fn read(&self, below: &str) -> Vec<u8> {
        fs::read(self.path(below)).unwrap()
    }

    fn certificate(&self, host: &str) -> X509 {
        X509::from_pem(&self.read(&format!("vpn/{host}.crt"))).unwrap()
    }

    fn mode(&self, below: &str) -> u32 {
        fs::metadata(self.path(below)).unwrap().permissions().mode() & 0o7777
    }
}

fn create(kind: KeyKind) -> What {
    What::Create {
        password: Some(Secret::new("s3cret".to_owned())),
        kind,
    }
}

#[test]
fn an_authority_has_its_files_with_their_modes() {
    let desk = Desk::new();
    for (file, mode) in [
        ("vpn", 0o700),
        ("vpn/private", 0o700),
        ("vpn/private/ca.key", 0o600),
        ("vpn/ikeca.passwd", 0o600),
        ("vpn/ca.crt", 0o644),
        ("vpn/ca.crl", 0o644),
        ("vpn/index.txt", 0o644),
        ("vpn/serial.txt", 0o644),
    ] {
        assert_eq!(desk.mode(file), mode, "{file}");
    }
    assert_eq!(desk.read("vpn/ikeca.passwd"), b"s3cret\ns3cret\n");
    let again = desk.run(create(KeyKind::EcdsaP256));
    assert!(matches!(again, Err(CaError::AuthorityExists(_))));
    desk.run(What::Delete).unwrap();
    assert!(!desk.path("vpn").exists());
    assert!(matches!(
        desk.run(What::Delete),
        Err(CaError::NoAuthority(_))
    ));
}

#[test]
fn folders_of_others_are_left_alone() {
    let desk = Desk::new();
    desk.run(What::Delete).unwrap();
    fs::create_dir(desk.path("vpn")).unwrap();
    fs::write(desk.path("vpn/ca.crt"), "theirs").unwrap();
    let made = desk.run(create(KeyKind::EcdsaP256));
    assert!(matches!(made, Err(CaError::Foreign(_))));
    assert!(matches!(
        desk.run(What::Delete),
        Err(CaError::NoAuthority(_))
    ));
    assert_eq!(desk.read("vpn/ca.crt"), b"theirs");
}

#[test]
fn a_password_that_is_there_is_used() {
    let desk = Desk::new();
    desk.run(What::Delete).unwrap();
    fs::create_dir(desk.path("vpn")).unwrap();
    fs::write(desk.path("vpn/ikeca.passwd"), "other\n").unwrap();
    desk.run(create(KeyKind::EcdsaP256)).unwrap();
    let secret = Secret::new("other".to_owned());
    key::Key::from_pem(&desk.read("vpn/private/ca.key"), Some(&secret)).unwrap();
}

#[test]
fn hosts_are_vouched_for_once() {
    let desk = Desk::new();
    desk.certify("a.example", Usage::Any).unwrap();
    assert_eq!(desk.mode("vpn/private/a.example.key"), 0o600);
    assert_eq!(desk.mode("vpn/a.example.crt"), 0o644);
    let first = desk.read("vpn/a.example.crt");
    let ca = desk.certificate("ca");
    assert!(
        desk.certificate("a.example")
            .verify(&ca.public_key().unwrap())
            .unwrap()
    );
    let again = desk.certify("a.example", Usage::Any);
    assert!(matches!(again, Err(CaError::CertificateExists(_))));
    assert_eq!(desk.read("vpn/a.example.crt"), first);
    desk.host("a.example", OfCertificate::Delete).unwrap();
    assert!(!desk.path("vpn/private/a.example.key").exists());
    let gone = desk.host("a.example", OfCertificate::Delete);
    assert!(matches!(gone, Err(CaError::NoCertificate(_))));
    desk.certify("a.example", Usage::Any).unwrap();
    let index = String::from_utf8(desk.read("vpn/index.txt")).unwrap();
    assert_eq!(index.matches("\t/CN=a.example\n").count(), 2);
}

#[test]
fn an_alternative_name_has_the_form_of_the_host() {
    let desk = Desk::new();
    let names = |host: &str| {
        desk.certify(host, Usage::Any).unwrap();
        desk.certificate(host).subject_alt_names().unwrap()
    };
    let name = &names("gw.example")[0];
    assert_eq!(name.dnsname(), Some("gw.example"));
    assert_eq!(names("192.0.2.1")[0].ipaddress(), Some(&[192, 0, 2, 1][..]));
    assert_eq!(names("2001:db8::1")[0].ipaddress().unwrap().len(), 16);
    assert_eq!(names("a@example.org")[0].email(), Some("a@example.org"));
    let own = crate::sys::process::hostname().unwrap();
    assert_eq!(names("local")[0].dnsname(), Some(own.as_str()));
}

#[test]
fn names_are_no_paths() {
    let desk = Desk::new();
    for name in [
        "",
        "..",
        ".x",
        "a/b",
        "a b",
        "a\tb",
        "a'b",
        "CA",
        "ca",
        "-x",
        &"x".repeat(65),
    ] {
        let made = desk.certify(name, Usage::Any);
        assert!(matches!(made, Err(CaError::Name(_))), "{name:?}");
    }
}

#[test]
fn keys_are_made_imported_and_deleted() {
    let desk = Desk::new();
    desk.key("a", OfKey::Create(KeyKind::EcdsaP256)).unwrap();
    let first = desk.read("vpn/private/a.key");
    desk.key("a", OfKey::Create(KeyKind::EcdsaP256)).unwrap();
    assert_eq!(desk.read("vpn/private/a.key"), first);
    let file = desk.path("mine.pem");
    let import = || OfKey::Import(file.to_str().unwrap().to_owned());
    fs::write(&file, &first).unwrap();
    assert!(matches!(desk.key("a", import()), Err(CaError::Exists(_))));
    desk.key("b", import()).unwrap();
    assert_eq!(desk.read("vpn/private/b.key"), first);
    fs::write(&file, "no key").unwrap();
    assert!(matches!(desk.key("c", import()), Err(CaError::Key)));
    desk.key("b", OfKey::Delete).unwrap();
    assert!(matches!(
        desk.key("b", OfKey::Delete),
        Err(CaError::NoKey(_))
    ));
}

#[test]
fn the_list_grows_and_a_revoked_key_is_not_used_again() {
    let desk = Desk::new();
    let number = || crl::number(&desk.read("vpn/ca.crl")).unwrap();
    assert_eq!(number(), 1);
    desk.certify("a", Usage::Any).unwrap();
    let key = desk.read("vpn/private/a.key");
    desk.host("a", OfCertificate::Revoke).unwrap();
    assert_eq!(number(), 2);
    let again = desk.host("a", OfCertificate::Revoke);
    assert!(matches!(again, Err(CaError::Revoked(_))));
    assert_eq!(number(), 2);
    let said = desk.certify("a", Usage::Any).unwrap();
    assert_eq!(
        said,
        "key for 'a' is made anew, for its certificate was revoked\n"
    );
    assert_ne!(desk.read("vpn/private/a.key"), key);
    assert_eq!(
        desk.run(What::Renew).unwrap(),
        "CRL 3 for CA 'vpn' signed\n"
    );
    assert_eq!(number(), 3);
}

#[test]
fn a_list_is_not_signed_when_the_index_is_damaged() {
    let desk = Desk::new();
    let before = desk.read("vpn/ca.crl");
    fs::write(desk.path("vpn/index.txt"), "R\tgarbage\n").unwrap();
    assert!(matches!(desk.run(What::Renew), Err(CaError::Index)));
    assert_eq!(desk.read("vpn/ca.crl"), before);
}

#[test]
fn certificates_of_others_are_not_revoked() {
    let desk = Desk::new();
    let other = Desk::new();
    other.certify("a", Usage::Any).unwrap();
    fs::copy(other.path("vpn/a.crt"), desk.path("vpn/a.crt")).unwrap();
    let revoked = desk.host("a", OfCertificate::Revoke);
    assert!(matches!(revoked, Err(CaError::Stranger(_))));
}

#[test]
fn what_is_installed_is_where_iked_looks() {
    let desk = Desk::new();
    let to = desk.path("etc");
    let path = || Some(to.to_str().unwrap().to_owned());
    let said = desk.run(What::Install(path())).unwrap();
    let etc = to.display();
    let expected = format!(
        "certificate for CA 'vpn' installed into {etc}/ca/ca.crt\n\
         CRL for CA 'vpn' installed to {etc}/crls/ca.crl\n"
    );
    assert_eq!(said, expected);
    desk.certify("a", Usage::Any).unwrap();
    desk.certify("b", Usage::Any).unwrap();
    desk.host("a", OfCertificate::Install(path())).unwrap();
    desk.host("a", OfCertificate::Install(path())).unwrap();
    assert!(!to.join("private/local.key.old").exists());
    let key = desk.read("vpn/private/a.key");
    assert_eq!(desk.read("etc/private/local.key"), key);
    assert_eq!(desk.read("etc/certs/a.crt"), desk.read("vpn/a.crt"));
    for (file, mode) in [
        ("etc/private", 0o700),
        ("etc/private/local.key", 0o600),
        ("etc/local.pub", 0o644),
        ("etc/certs/a.crt", 0o644),
    ] {
        assert_eq!(desk.mode(file), mode, "{file}");
    }
    let said = desk.key("b", OfKey::Install(path())).unwrap();
    assert!(
        said.starts_with(&format!("the key that was there is now {etc}")),
        "{said}"
    );
    assert_eq!(desk.read("etc/private/local.key.old"), key);
    assert_eq!(desk.mode("etc/private/local.key.old"), 0o600);
    assert_eq!(
        desk.read("etc/private/local.key"),
        desk.read("vpn/private/b.key")
    );
    let missing = desk.host("c", OfCertificate::Install(path()));
    assert!(matches!(missing, Err(CaError::NoCertificate(_))));
}

#[test]
fn keys_and_certificates_that_do_not_belong_together_are_not_given_away() {
    let desk = Desk::new();
    desk.certify("a", Usage::Any).unwrap();
    desk.key("a", OfKey::Delete).unwrap();
    desk.key("a", OfKey::Create(KeyKind::EcdsaP256)).unwrap();
    let export = Export {
        password: Some(Secret::new("x".to_owned())),
        ..Export::default()
    };
    for what in [OfCertificate::Install(None), OfCertificate::Export(export)] {
        assert!(matches!(desk.host("a", what), Err(CaError::Unpaired(_))));
    }
}

#[test]
fn certificates_are_shown_with_their_state() {
    let desk = Desk::new();
    desk.certify("a", Usage::Any).unwrap();
    desk.host("a", OfCertificate::Revoke).unwrap();
    desk.certify("b", Usage::Any).unwrap();
    let text = desk.run(What::Show(None)).unwrap();
    let states: Vec<&str> = text.lines().filter(|l| l.starts_with("s")).collect();
    let of = |name: &str| {
        states
            .iter()
            .position(|line| *line == format!("subject={name}"))
            .unwrap()
    };
    for (name, state) in [
        ("/O=vpn/CN=VPN CA", "valid"),
        ("/CN=a", "revoked"),
        ("/CN=b", "valid"),
    ] {
        assert_eq!(states[of(name) + 2], format!("state={state}"));
    }
    let json = desk.run_as(What::Show(None), true).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["name"], "a");
    assert_eq!(json[1]["state"], "revoked");
    let one = desk.run(What::Show(Some("b".to_owned()))).unwrap();
    assert!(one.starts_with("Certificate:\n"), "{one}");
    assert!(one.contains("-----BEGIN CERTIFICATE-----\n"));
}
