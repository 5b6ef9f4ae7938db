//! A certification authority in a folder, made by `openssl`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::keys::{Keys, Kind};
use super::world::{World, lossy, need, text};

/// A key pair with the certificate for it.
#[derive(Clone, Debug)]
pub struct Holder {
    pub keys: Keys,
    pub certificate: PathBuf,
}

impl Holder {
    /// An authority that vouches for itself.
    pub fn authority(world: &World, name: &str) -> Self {
        Self::authority_with(world, name, Kind::EcdsaP256)
    }

    /// One with a key of this kind.
    pub fn authority_with(world: &World, name: &str, kind: Kind) -> Self {
        let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n\
                          subjectKeyIdentifier=hash\n";
        issue(world, name, kind, extensions, None)
    }

    /// An authority below this one.
    pub fn intermediate(&self, world: &World, name: &str) -> Self {
        let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n\
                          subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        issue(world, name, Kind::EcdsaP256, extensions, Some(self))
    }

    /// An authority below this one, with more words for `pki --issue`.
    pub fn authority_oddly(&self, world: &World, name: &str, words: &[&str]) -> Self {
        self.oddly(world, name, &[&["--ca"], words].concat())
    }

    /// Somebody with this host name, with more words for `pki --issue`.
    pub fn vouches_oddly(&self, world: &World, name: &str, host: &str, words: &[&str]) -> Self {
        self.oddly(world, name, &[&["--san", host], words].concat())
    }

    fn oddly(&self, world: &World, name: &str, words: &[&str]) -> Self {
        let keys = Keys::make(world, name, Kind::EcdsaP256);
        let certificate = world.folder("pki").join(format!("{name}.crt"));
        let subject = format!("C=DE, O=Interop, CN={name}");
        let (issuer, issuer_key) = (text(&self.certificate), text(&self.keys.private));
        let issue = ["--issue", "--in", text(&keys.public), "--dn", &subject];
        let by = [
            "--cacert",
            issuer,
            "--cakey",
            issuer_key,
            "--outform",
            "pem",
        ];
        fs::write(&certificate, pki(&[&issue[..], &by, words].concat())).unwrap();
        Self { keys, certificate }
    }

    /// The list by which it revokes somebody's certificate, as PEM.
    pub fn revokes(&self, whose: &Self) -> Vec<u8> {
        self.list(whose, "pem")
    }

    /// The same in `pem` or `der`.
    pub fn list(&self, whose: &Self, form: &str) -> Vec<u8> {
        let (issuer, issuer_key) = (text(&self.certificate), text(&self.keys.private));
        let sign = ["--signcrl", "--cacert", issuer, "--cakey", issuer_key];
        let what = ["--cert", text(&whose.certificate), "--outform", form];
        pki(&[&sign[..], &what].concat())
    }

    /// Somebody with this host name.
    pub fn vouches_for(&self, world: &World, name: &str, host: &str, kind: Kind) -> Self {
        let extensions = format!(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nsubjectAltName=DNS:{host}\n\
             authorityKeyIdentifier=keyid\n"
        );
        issue(world, name, kind, &extensions, Some(self))
    }
}

fn issue(world: &World, name: &str, kind: Kind, extensions: &str, by: Option<&Holder>) -> Holder {
    need("openssl", "openssl");
    let keys = Keys::make(world, name, kind);
    let folder = world.folder("pki");
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let (request, certificate) = (file("csr"), file("crt"));
    fs::write(file("ext"), extensions).unwrap();
    let subject = format!("/C=DE/O=Interop/CN={name}");
    let key = text(&keys.private);
    let words = ["req", "-new", "-key", key, "-subj", &subject, "-out"];
    openssl(&[&words[..], &[text(&request)]].concat());
    let (issuer, issuer_key) = match by {
        Some(by) => (text(&by.certificate), text(&by.keys.private)),
        None => ("", key),
    };
    let signer: &[&str] = match by {
        Some(_) => &["-CA", issuer, "-CAkey", issuer_key, "-CAcreateserial"],
        None => &["-signkey", issuer_key],
    };
    let ext = file("ext");
    let words = [
        "x509",
        "-req",
        "-days",
        "30",
        "-sha256",
        "-in",
        text(&request),
    ];
    let rest = ["-extfile", text(&ext), "-out", text(&certificate)];
    openssl(&[&words[..], signer, &rest].concat());
    Holder { keys, certificate }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let error = lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {error}");
}

fn pki(arguments: &[&str]) -> Vec<u8> {
    need("pki", "strongswan-pki");
    let output = Command::new("pki").args(arguments).output().unwrap();
    let error = lossy(&output.stderr);
    assert!(output.status.success(), "pki {arguments:?}: {error}");
    output.stdout
}
