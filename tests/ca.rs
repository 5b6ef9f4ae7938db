//! `ikectl ca` from the making of an authority to a revocation, and what the programs that others
//! use for it say: `openssl`, strongSwan's `pki`, `tar`. Each way can go on where the other stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Runs a program here: whether it ended well, and all that it printed.
    fn run(&self, program: &str, words: &str) -> (bool, String) {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).stdin(Stdio::null());
        let output = command.args(words.split_whitespace()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    fn ikectl(&self, words: &str) -> String {
        let words = format!("--ssl-dir . {words}");
        let (ended, text) = self.run(env!("CARGO_BIN_EXE_ikectl"), &words);
        assert!(ended, "ikectl {words}: {text}");
        text
    }

    /// What it says about a command that it does not carry out.
    fn refused(&self, words: &str) -> String {
        let words = format!("--ssl-dir . {words}");
        let (ended, text) = self.run(env!("CARGO_BIN_EXE_ikectl"), &words);
        assert!(!ended, "ikectl {words}: {text}");
        text
    }

    fn openssl(&self, words: &str) -> String {
        let (ended, text) = self.run("openssl", words);
        assert!(ended, "openssl {words}: {text}");
        text
    }

    fn says(&self, words: &str, parts: &[&str]) {
        let text = self.openssl(words);
        for part in parts {
            assert!(text.contains(part), "openssl {words}: no {part} in {text}");
        }
    }
}

#[test]
fn openssl_agrees_with_an_authority_from_create_to_revoke() {
    for kind in ["", " rsa"] {
        let here = Place::new();
        here.ikectl(&format!("ca vpn create password s3cret{kind}"));
        here.ikectl("ca vpn certificate a.example create");
        here.ikectl("ca vpn certificate 192.0.2.7 create server rsa");
        here.ikectl("ca vpn certificate alice@example.org create client");
        here.ikectl("ca vpn certificate o.example create ocsp");
        here.openssl("pkey -in vpn/private/ca.key -passin file:vpn/ikeca.passwd -noout");
        here.says(
            "x509 -in vpn/ca.crt -noout -text",
            &[
                "Issuer: O = vpn, CN = VPN CA",
                "CA:TRUE",
                "Certificate Sign, CRL Sign",
            ],
        );
        let verify = "verify -x509_strict -CAfile vpn/ca.crt -crl_check -CRLfile vpn/ca.crl";
        for (host, parts) in [
            (
                "a.example",
                "DNS:a.example|TLS Web Server Authentication, TLS Web Client",
            ),
            (
                "192.0.2.7",
                "IP Address:192.0.2.7|Digital Signature, Key Encipherment",
            ),
            (
                "alice@example.org",
                "email:alice@example.org|Digital Signature, Key Agreement",
            ),
            ("o.example", "DNS:o.example|OCSP Signing"),
        ] {
            here.says(&format!("{verify} vpn/{host}.crt"), &["OK"]);
            let parts: Vec<&str> = parts.split('|').collect();
            here.says(&format!("x509 -in vpn/{host}.crt -noout -text"), &parts);
        }
        here.ikectl("ca vpn certificate a.example revoke");
        here.says(
            "crl -in vpn/ca.crl -noout -text -CAfile vpn/ca.crt",
            &[
                "verify OK",
                "X509v3 CRL Number: \n                2",
                "Revocation Date",
            ],
        );
        let (good, said) = here.run("openssl", &format!("{verify} vpn/a.example.crt"));
        assert!(!good && said.contains("certificate revoked"), "{said}");
        here.says(&format!("{verify} vpn/192.0.2.7.crt"), &["OK"]);
    }
}

#[test]
fn strongswan_reads_what_is_made() {
    let here = Place::new();
    here.ikectl("ca vpn create password s3cret");
    here.ikectl("ca vpn certificate a.example create");
    here.ikectl("ca vpn certificate a.example revoke");
    let (read, text) = here.run("pki", "--print --in vpn/a.example.crt");
    assert!(read && text.contains("altNames:  a.example"), "{text}");
    let (read, text) = here.run("pki", "--print --type crl --in vpn/ca.crl");
    assert!(read && text.contains("1 revoked certificate"), "{text}");
    let (good, text) = here.run("pki", "--verify --in vpn/a.example.crt --cacert vpn/ca.crt");
    assert!(good && text.contains("certificate trusted"), "{text}");
}

#[test]
fn openssl_and_tar_open_the_archives() {
    let here = Place::new();
    here.ikectl("ca vpn create password s3cret");
    here.ikectl("ca vpn certificate a.example create client");
    here.ikectl("ca vpn certificate a.example export peer gw.example password pw");
    let (listed, text) = here.run("tar", "-xvzf a.example.tgz");
    assert!(listed, "{text}");
    here.says(
        "pkcs12 -in export/a.example.pfx -passin pass:pw -nodes",
        &[
            "friendlyName: a.example",
            "BEGIN PRIVATE KEY",
            "subject=O = vpn, CN = VPN CA",
        ],
    );
    here.says(
        "pkcs12 -in export/ca.pfx -passin pass:pw -nokeys",
        &["CN = VPN CA"],
    );
    let (opened, _) = here.run(
        "openssl",
        "pkcs12 -in export/a.example.pfx -passin pass:no -nodes",
    );
    assert!(!opened);
    let public = here.openssl("pkey -in private/local.key -pubout");
    assert_eq!(public, fs::read_to_string(here.path("local.pub")).unwrap());
}

/// As OpenIKED leaves it: RSA 2048 under AES-256, no key identifiers, serial numbers from 01.
#[test]
fn an_authority_of_openiked_goes_on() {
    let here = Place::new();
    fs::create_dir_all(here.path("vpn/private")).unwrap();
    fs::write(here.path("vpn/ikeca.passwd"), "s3cret\ns3cret\n").unwrap();
    fs::write(here.path("vpn/serial.txt"), "01\n").unwrap();
    fs::write(here.path("vpn/index.txt"), "").unwrap();
    fs::write(here.path("ext"), "basicConstraints=critical,CA:true\n").unwrap();
    let pass = "file:vpn/ikeca.passwd";
    let traditional = "genrsa -traditional -aes256 -out vpn/private/ca.key -passout";
    here.openssl(&format!("{traditional} {pass} 2048"));
    let request = "req -new -key vpn/private/ca.key -subj /C=DE/O=OpenBSD/CN=VPN_CA -out ca.csr";
    here.openssl(&format!("{request} -passin {pass}"));
    let sign = "x509 -req -days 4500 -in ca.csr -signkey vpn/private/ca.key -extfile ext";
    here.openssl(&format!("{sign} -out vpn/ca.crt -passin {pass}"));
    here.ikectl("ca vpn renew");
    here.ikectl("ca vpn certificate a.example create");
    here.ikectl("ca vpn certificate b.example create rsa");
    here.ikectl("ca vpn certificate a.example revoke");
    let verify = "verify -CAfile vpn/ca.crt -crl_check -CRLfile vpn/ca.crl";
    here.says(&format!("{verify} vpn/b.example.crt"), &["OK"]);
    let (good, said) = here.run("openssl", &format!("{verify} vpn/a.example.crt"));
    assert!(!good && said.contains("certificate revoked"), "{said}");
    assert_eq!(
        fs::read_to_string(here.path("vpn/serial.txt")).unwrap(),
        "03\n"
    );
}

#[test]
fn openssl_goes_on_with_an_authority_and_we_after_it() {
    let here = Place::new();
    here.ikectl("ca vpn create password s3cret");
    here.ikectl("ca vpn certificate a.example create");
    let conf = "[ca]\ndefault_ca=d\n[d]\ndatabase=vpn/index.txt\nserial=vpn/serial.txt\n\
                new_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n";
    fs::write(here.path("ca.cnf"), conf).unwrap();
    let request = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    here.openssl(&format!(
        "{request} -keyout b.key -subj /CN=b.example -out b.csr"
    ));
    let by = "ca -config ca.cnf -batch -keyfile vpn/private/ca.key -cert vpn/ca.crt \
              -passin file:vpn/ikeca.passwd";
    here.openssl(&format!("{by} -days 30 -in b.csr -out vpn/b.example.crt"));
    here.openssl(&format!(
        "{by} -revoke vpn/a.example.crt -crl_reason superseded"
    ));
    here.ikectl("ca vpn certificate b.example revoke");
    here.says(
        "crl -in vpn/ca.crl -noout -text -CAfile vpn/ca.crt",
        &["verify OK", "Superseded"],
    );
    let text = here.openssl("crl -in vpn/ca.crl -noout -text");
    assert_eq!(text.matches("Revocation Date").count(), 2, "{text}");
    let said = here.refused("ca vpn certificate a.example revoke");
    assert_eq!(
        said,
        "ikectl: certificate for 'a.example' is revoked already\n"
    );
}

#[test]
fn faults_have_one_line_and_end_with_1() {
    let here = Place::new();
    assert_eq!(
        here.refused("ca vpn delete"),
        "ikectl: CA 'vpn' does not exist\n"
    );
    here.ikectl("ca vpn create password s3cret");
    let again = here.refused("ca vpn create password other");
    assert_eq!(again, "ikectl: CA 'vpn' exists already\n");
    let install = here.refused("ca vpn key a.example install ./etc");
    assert_eq!(install, "ikectl: key for 'a.example' does not exist\n");
    let import = here.refused("ca vpn key a.example import nothing.pem");
    assert_eq!(import, "ikectl: nothing.pem: No such file or directory\n");
    let option = "missing argument:\nvalid commands/args:\n  <password>\n";
    assert_eq!(here.refused("ca vpn export password"), option);
}
