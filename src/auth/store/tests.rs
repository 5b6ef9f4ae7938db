use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::*;
use crate::crypto::sign::KeyKind;

/// A configuration directory with these files, each a copy of one of `tests/vectors/auth`.
struct Dir(TempDir);

impl Dir {
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        for (path, vector) in files {
            dir.write(path, &fs::read(vectors().join(vector)).unwrap());
        }
        dir
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The store, and the warnings without the name of the directory.
    fn load(&self) -> (CredentialStore, Vec<String>) {
        let (store, warnings) = CredentialStore::load(self.0.path(), false);
        let prefix = format!("{}/", self.0.path().display());
        let warnings = warnings
            .iter()
            .map(|warning| warning.strip_prefix(&prefix).unwrap().to_owned());
        (store, warnings.collect())
    }
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/auth")
}

fn identity(kind: IdType, data: &[u8]) -> Identity {
    Identity {
        kind,
        data: data.to_vec(),
    }
}

#[test]
fn an_empty_directory_is_an_empty_store() {
    let (store, warnings) = Dir::with(&[]).load();
    assert!(store.keys().is_empty());
    assert!(store.peers.is_empty());
    assert_eq!(warnings, [""; 0]);
    let (store, warnings) = CredentialStore::load(Path::new("/nonexistent"), false);
    assert!(store.peers.is_empty());
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn a_private_key_is_read_in_every_form_and_its_public_half_known() {
    let forms = [
        ("rsa.key", "rsa.pub", KeyKind::Rsa),
        ("rsa-traditional.key", "rsa.pub", KeyKind::Rsa),
        ("p256.key", "p256.pub", KeyKind::EcdsaP256),
        ("p384.key", "p384.pub", KeyKind::EcdsaP384),
        ("p521.key", "p521.pub", KeyKind::EcdsaP521),
        ("ed25519.key", "ed25519.pub", KeyKind::Ed25519),
    ];
    for (private, public, kind) in forms {
        let (store, warnings) = Dir::with(&[("private/local.key", private)]).load();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(store.keys().len(), 1);
        assert_eq!(store.keys()[0].private.kind(), kind, "{private}");
        let public = PublicKey::from_pem(&fs::read(vectors().join(public)).unwrap()).unwrap();
        assert_eq!(store.keys()[0].public, public);
    }
}

#[test]
fn a_private_key_that_cannot_be_used_is_named() {
    for vector in ["rsa-encrypted.key", "rsa-1024.key", "rsa.pub", "make.sh"] {
        let (store, warnings) = Dir::with(&[("private/local.key", vector)]).load();
        assert!(store.keys().is_empty(), "{vector}");
        assert_eq!(warnings, ["private/local.key: unsupported key"]);
    }
}

#[test]
fn a_private_key_open_to_others_is_used_but_named() {
    let dir = Dir::with(&[("private/local.key", "p256.key")]);
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(dir.path("private/local.key"), mode).unwrap();
    let (store, warnings) = dir.load();
    assert!(!store.keys().is_empty());
    assert_eq!(warnings, ["private/local.key: mode 640 lets others at it"]);
}

#[test]
fn a_private_key_belongs_to_root_or_us_alone() {
    let foreign = Some("owner not root or current user".to_owned());
    assert_eq!(exposure(0, 0o100_600, 0), None);
    assert_eq!(exposure(0, 0o100_400, 1000), None);
    assert_eq!(exposure(1000, 0o100_600, 1000), None);
    assert_eq!(exposure(1001, 0o100_600, 1000), foreign);
    assert_eq!(exposure(1001, 0o100_600, 0), foreign);
    for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
        assert!(exposure(0, 0o100_600 | bit, 0).is_some(), "{bit:03o}");
    }
}

#[test]
fn keys_of_peers_are_filed_by_kind_and_name() {
    let (store, warnings) = Dir::with(&[
        ("pubkeys/ipv4/192.0.2.1", "rsa.pub"),
        ("pubkeys/ipv6/2001:db8::1", "rsa-pkcs1.pub"),
        ("pubkeys/fqdn/host.example", "p256.pub"),
        ("pubkeys/ufqdn/a@host.example", "ed25519.pub"),
        ("pubkeys/asn1_dn/ignored", "p384.pub"),
    ])
    .load();
    assert_eq!(warnings, [""; 0]);
    let ipv6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
    let filed = [
        (identity(IdType::IPV4_ADDR, &[192, 0, 2, 1]), KeyKind::Rsa),
        (identity(IdType::IPV6_ADDR, &ipv6), KeyKind::Rsa),
        (identity(IdType::FQDN, b"host.example"), KeyKind::EcdsaP256),
        (
            identity(IdType::RFC822_ADDR, b"a@host.example"),
            KeyKind::Ed25519,
        ),
    ];
    assert_eq!(store.peers.len(), filed.len());
    for (identity, kind) in filed {
        let kinds: Vec<KeyKind> = store
            .peer_keys(&identity)
            .iter()
            .map(PublicKey::kind)
            .collect();
        assert_eq!(kinds, [kind], "{identity}");
    }
}

#[test]
fn an_identity_finds_its_own_file_only() {
    let (store, _) = Dir::with(&[
        ("private/local.key", "rsa.key"),
        ("pubkeys/fqdn/host.example", "p256.pub"),
        ("secret", "rsa.pub"),
    ])
    .load();
    for (kind, data) in [
        (IdType::FQDN, &b"HOST.example"[..]),
        (IdType::FQDN, b"host.example."),
        (IdType::FQDN, b"host.example\0"),
        (IdType::FQDN, b"../fqdn/host.example"),
        (IdType::FQDN, b"../../secret"),
        (IdType::FQDN, b"./host.example"),
        (IdType::FQDN, b""),
        (IdType::RFC822_ADDR, b"host.example"),
        (IdType::KEY_ID, b"host.example"),
        (IdType::DER_ASN1_DN, b"host.example"),
        (IdType::IPV4_ADDR, b"192.0.2.1"),
    ] {
        assert_eq!(store.peer_keys(&identity(kind, data)), [], "{data:?}");
    }
}

#[test]
fn one_address_in_two_spellings_has_two_keys_in_the_order_of_names() {
    let (store, warnings) = Dir::with(&[
        ("pubkeys/ipv6/2001:db8::1", "p256.pub"),
        ("pubkeys/ipv6/2001:0db8:0:0:0:0:0:1", "rsa.pub"),
    ])
    .load();
    assert_eq!(warnings, [""; 0]);
    let address = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
    let keys = store.peer_keys(&identity(IdType::IPV6_ADDR, &address));
    let kinds: Vec<KeyKind> = keys.iter().map(PublicKey::kind).collect();
    assert_eq!(kinds, [KeyKind::Rsa, KeyKind::EcdsaP256]);
}

#[test]
fn what_is_no_key_is_named_and_left_out() {
    let dir = Dir::with(&[
        ("pubkeys/fqdn/a-good-one", "p256.pub"),
        ("pubkeys/fqdn/garbage", "make.sh"),
        ("pubkeys/fqdn/private", "p256.key"),
        ("pubkeys/fqdn/weak", "rsa-1024.pub"),
        ("pubkeys/fqdn/.hidden", "p384.pub"),
        ("pubkeys/ipv4/host.example", "p256.pub"),
        ("pubkeys/ipv6/192.0.2.1", "p256.pub"),
    ]);
    dir.write("pubkeys/fqdn/empty", b"");
    dir.write("pubkeys/fqdn/endless", &vec![b'\n'; 1 << 20]);
    dir.path("pubkeys/fqdn/folder/file");
    symlink("/nonexistent", dir.path("pubkeys/fqdn/nowhere")).unwrap();
    symlink("a-good-one", dir.path("pubkeys/fqdn/a-link")).unwrap();
    let fifo = Command::new("mkfifo")
        .arg(dir.path("pubkeys/fqdn/pipe"))
        .status();
    assert!(fifo.unwrap().success());
    let (store, warnings) = dir.load();
    let expected = [
        "pubkeys/ipv4/host.example: not a name of this kind",
        "pubkeys/ipv6/192.0.2.1: not a name of this kind",
        "pubkeys/fqdn/empty: unsupported key",
        "pubkeys/fqdn/endless: file too large",
        "pubkeys/fqdn/folder: not a regular file",
        "pubkeys/fqdn/garbage: unsupported key",
        "pubkeys/fqdn/nowhere: No such file or directory (os error 2)",
        "pubkeys/fqdn/pipe: not a regular file",
        "pubkeys/fqdn/private: unsupported key",
        "pubkeys/fqdn/weak: unsupported key",
    ];
    assert_eq!(warnings, expected);
    let names: Vec<&[u8]> = store.peers.keys().map(|key| key.data.as_slice()).collect();
    assert_eq!(names, [b"a-good-one".as_slice(), b"a-link"]);
}

#[test]
fn nothing_of_a_private_key_is_printed() {
    let (store, _) = Dir::with(&[("private/local.key", "ed25519.key")]).load();
    let text = format!("{store:?}");
    let shown = "private: PrivateKey(Ed25519), public: PublicKey(Ed25519), spki_der: [";
    assert!(text.contains(shown), "{text}");
}
