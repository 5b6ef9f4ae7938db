//! A client and a gateway with certificates, made for the test, and EAP-TLS between them.

use boring::asn1::Asn1Time;
use boring::bn::BigNum;
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::pkey::{PKey, Private};
use boring::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use boring::x509::{X509, X509Extension, X509NameBuilder};
use iked::auth::store::{CredentialStore, Parts};
use iked::crypto::sign::PrivateKey;
use iked::crypto::x509::Certificate;
use iked::policy::{Auth, Config, Eap, EapMethod, Policy};

use super::setup::{self, config, gateway, warrior};
use super::world::{Host, Pair};

/// What is wrong with them.
#[derive(Debug)]
pub(super) struct Certified {
    /// Whom the client's certificate names.
    pub(super) client: &'static str,
    /// Whom the gateway's names.
    pub(super) gateway: &'static str,
    /// The client's is of an authority that nobody knows.
    pub(super) stranger: bool,
    /// The client's is no longer valid.
    pub(super) expired: bool,
    /// The client has none.
    pub(super) bare: bool,
    /// Further names, to make certificates long.
    pub(super) filler: usize,
    /// Where the revocation list is, in the words of openssl(1).
    pub(super) lists: &'static str,
}

impl Default for Certified {
    fn default() -> Self {
        Self {
            client: "warrior.example",
            gateway: "gateway.example",
            stranger: false,
            expired: false,
            bare: false,
            filler: 0,
            lists: "",
        }
    }
}

struct Holder {
    key: PKey<Private>,
    x509: X509,
}

impl Holder {
    fn authority() -> Self {
        issue("authority", None, false, 0, "")
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_der(&self.x509.to_der().unwrap()).unwrap()
    }

    fn private(&self) -> PrivateKey {
        PrivateKey::from_pem(&self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }
}

fn issue(name: &str, by: Option<&Holder>, expired: bool, filler: usize, lists: &str) -> Holder {
    let key = PKey::private_key_from_pem(&setup::ecdsa()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer = by.map_or(&*subject, |by| by.x509.subject_name());
    builder.set_issuer_name(issuer).unwrap();
    builder.set_pubkey(&key).unwrap();
    // The world's clock stands at 1,800,000,000.
    let until = if expired {
        1_799_999_000
    } else {
        1_900_000_000
    };
    let time = |seconds| Asn1Time::from_unix(seconds).unwrap();
    builder.set_not_before(&time(1_700_000_000)).unwrap();
    builder.set_not_after(&time(until)).unwrap();
    if by.is_none() {
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(&constraints).unwrap();
    } else {
        let usage = KeyUsage::new().digital_signature().build().unwrap();
        builder.append_extension(&usage).unwrap();
        let mut names = SubjectAlternativeName::new();
        names.dns(name);
        for number in 0..filler {
            names.dns(&format!("host-{number}.filler.example"));
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(&names).unwrap();
    }
    if !lists.is_empty() {
        let kind = Nid::CRL_DISTRIBUTION_POINTS;
        let points = X509Extension::new_nid(None, None, kind, lists).unwrap();
        builder.append_extension(&points).unwrap();
    }
    let signer = by.map_or(&key, |by| &by.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    let x509 = builder.build();
    Holder { key, x509 }
}

impl Certified {
    /// Both of them.
    pub(super) fn pair(&self) -> Pair {
        self.pair_with(|_| {})
    }

    /// With changes to both policies.
    pub(super) fn pair_with(&self, change: impl Fn(&mut Policy)) -> Pair {
        let [(client, ours), (server, theirs)] = self.ends(change);
        Pair::of(Host::new(client, ours, 1), Host::new(server, theirs, 2))
    }

    /// What the client and the gateway are made of.
    pub(super) fn ends(&self, change: impl Fn(&mut Policy)) -> [(Config, CredentialStore); 2] {
        let [authority, stranger] = [Holder::authority(), Holder::authority()];
        let by = if self.stranger { &stranger } else { &authority };
        let client = issue(self.client, Some(by), self.expired, self.filler, self.lists);
        let server = issue(self.gateway, Some(&authority), false, self.filler, "");
        let store = |own: Option<&Holder>| {
            let parts = Parts {
                keys: own.iter().map(|own| own.private()).collect(),
                certificates: own.iter().map(|own| own.certificate()).collect(),
                authorities: vec![authority.certificate()],
                ..Parts::default()
            };
            let mut warnings = Vec::new();
            let store = CredentialStore::assemble(parts, &mut warnings);
            assert_eq!(warnings, [""; 0]);
            store
        };
        let policy = |policy| -> Config {
            let auth = Auth::Eap(Eap::of(EapMethod::Tls));
            let mut policy = Policy { auth, ..policy };
            change(&mut policy);
            config([policy])
        };
        let client = store((!self.bare).then_some(&client));
        [
            (policy(warrior()), client),
            (policy(gateway()), store(Some(&server))),
        ]
    }
}
