//! Key pairs as PEM files, made by `openssl`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::world::{World, lossy, need, text};

/// What kind of key pair.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Rsa2048,
    EcdsaP256,
}

/// The files of a key pair.
#[derive(Clone, Debug)]
pub struct Keys {
    pub private: PathBuf,
    pub public: PathBuf,
}

impl Keys {
    pub fn make(world: &World, name: &str, kind: Kind) -> Self {
        need("openssl", "openssl");
        let folder = world.folder("keys");
        let keys = Self {
            private: folder.join(format!("{name}.key")),
            public: folder.join(format!("{name}.pub")),
        };
        let (algorithm, option) = match kind {
            Kind::Rsa2048 => ("RSA", "rsa_keygen_bits:2048"),
            Kind::EcdsaP256 => ("EC", "ec_paramgen_curve:P-256"),
        };
        let private = openssl(&["genpkey", "-algorithm", algorithm, "-pkeyopt", option]);
        write_secret(&keys.private, &private);
        let public = openssl(&["pkey", "-in", text(&keys.private), "-pubout"]);
        fs::write(&keys.public, public).unwrap();
        keys
    }
}

fn write_secret(path: &PathBuf, contents: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, contents).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let error = lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {error}");
    lossy(&output.stdout)
}
