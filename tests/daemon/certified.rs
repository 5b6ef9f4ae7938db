//! A gateway and clients with certificates of one folder of `tests/vectors`, where something outside has a
//! say: responders, revocation lists.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use iked::auth::store::{CredentialStore, Parts};
use iked::crypto::sign::PrivateKey;
use iked::crypto::x509::Certificate;
use iked::policy::Identity;
use iked::wire::registry::IdType;

use super::client::{Client, Ports, SUITE, gateway_conf};
use super::house::{Daemon, House, ip, wait_for};

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A folder of vectors, and whose key in it is the gateway's.
pub(super) struct Vectors {
    pub(super) folder: &'static str,
    pub(super) gateway: &'static str,
    /// Whom the gateway has a policy for.
    pub(super) clients: &'static [&'static str],
    /// Authorities between the root and the clients.
    pub(super) between: &'static [&'static str],
}

impl Vectors {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        folder.join(self.folder).join(name)
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn certificates(&self, name: &str) -> Vec<Certificate> {
        Certificate::all_from_pem(&self.read(&format!("{name}.crt"))).unwrap()
    }

    fn key(&self, name: &str) -> PrivateKey {
        PrivateKey::from_pem(&self.read(&format!("{name}.key"))).unwrap()
    }

    /// The gateway, with this `set` line. Whoever has no certificate proves itself by a secret.
    pub(super) fn gateway(&self, house: &House, set: &str) -> Daemon {
        for folder in ["private", "ca", "crls", "ocsp"] {
            fs::create_dir_all(house.path(folder)).unwrap();
        }
        let key = String::from_utf8(self.read(&format!("{}.key", self.gateway))).unwrap();
        house.write("private/local.key", &key);
        fs::write(house.path("ca/ca.crt"), self.read("ca.crt")).unwrap();
        let mut conf = gateway_conf(&[set]);
        for name in self.clients {
            conf += &format!(
                "ikev2 \"{name}\" passive esp from 10.1.0.0/16 to 10.2.0.0/16 local any peer any \
                 {SUITE} srcid gateway.example dstid {name}.example\n"
            );
        }
        house.start(&conf, &["--shards", "2"])
    }

    /// A client that proves itself by this certificate.
    pub(super) fn client(&self, name: &str, last: u8) -> Client {
        let address = IpAddr::from([127, 0, 1, last]);
        let identity = Identity {
            kind: IdType::FQDN,
            data: b"gateway.example".to_vec(),
        };
        let between = self.between.iter().flat_map(|name| self.certificates(name));
        let parts = Parts {
            keys: vec![self.key(name)],
            peers: vec![(identity, self.key(self.gateway).public().unwrap())],
            certificates: self.certificates(name).into_iter().chain(between).collect(),
            authorities: self.certificates("ca"),
            ..Parts::default()
        };
        let store = CredentialStore::assemble(parts, &mut Vec::new());
        let names = (&*format!("{name}.example"), "");
        Client::with(names, address, GATEWAY, Ports::Own, store)
    }
}

/// The log is read by a thread, so its last lines may be late.
pub(super) fn said(daemon: &Daemon, words: &str) {
    wait_for(words, || daemon.log().contains(words).then_some(()));
}

/// Gets this many in that prove themselves by a secret.
pub(super) fn others_get_in(count: u8) {
    for last in 1..=count {
        let name = format!("other{last}.example");
        let address = IpAddr::from([127, 0, 2, last]);
        Client::new(&name, address, GATEWAY, Ports::Own).establish();
    }
}

/// What is sent to 192.0.2.80 vanishes without a word from now on.
pub(super) fn black_hole() {
    ip("link add hole type veth peer name void");
    ip("addr add 192.0.2.1/24 dev hole");
    ip("link set hole up");
    ip("link set void up");
    ip("neigh add 192.0.2.80 lladdr 02:00:00:00:00:50 dev hole");
}

/// Five clients begin, whose questions lead into the black hole, and hold up none of twenty others.
pub(super) fn five_wait(daemon: &Daemon, client: impl Fn(u8) -> Client) -> Vec<Client> {
    let mut waiting: Vec<Client> = (1..=5).map(client).collect();
    for (client, count) in waiting.iter_mut().zip(1..) {
        client.begin();
        client.turn_until("IKE_AUTH", |_| daemon.count("lookups") == count);
    }
    others_get_in(20);
    assert_eq!(daemon.count("IKE SA established"), 20);
    assert_eq!(daemon.count("lookup failures"), 0);
    waiting
}
