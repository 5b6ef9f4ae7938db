//! Peers that are not who they should be, one row each: what they tell or are told, the one line of our
//! log that names them, the policy and the reason, and nothing left behind. Each row is played with
//! every peer that can be made to try it.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use super::credentials::certify_gateway;
use super::credentials::{asks_for_passwords, by_password, by_signature, certified_client};
use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID, Gateway, SECRET};
use super::keys::{Keys, Kind};
use super::libreswan::{self, Libreswan, NssKey};
use super::libreswan_rekey::networks;
use super::openiked::{self, OpenIked};
use super::pki::Holder;
use super::ppk::{Named, ONE, TWO, asking, holding};
use super::refusals::is_refused;
use super::session::{kernel_holds_traps, kernel_is_clean, raw_keys};
use super::strongswan::{Client, StrongSwan};
use super::world::{CLIENT, GATEWAY, Layout, World, assert_says, lossy, wait_for};

/// One that must not get in.
pub struct Impostor {
    pub name: &'static str,
    setup: fn(&World) -> (Conf, Attempt),
    /// What strongSwan is told when it begins.
    told: &'static str,
    /// The end of our line about it; before that come peer and policy.
    why: &'static str,
    /// It can also be the one who answers.
    pub answers: bool,
    /// libreswan can be made to try it.
    pub libreswan: bool,
    /// So can OpenIKED, and this is the end of our line then.
    pub openiked: Option<&'static str>,
}

/// Who it says it is, and how it means to prove it.
struct Attempt {
    id: &'static str,
    proof: Proof,
}

enum Proof {
    Secret(&'static str),
    /// The right secret, and this PPK.
    Ppk {
        ppk: Named,
        required: bool,
    },
    /// By a raw key that is on file, or one that is not.
    RawKey {
        kind: Kind,
        on_file: bool,
    },
    /// By the first, with those above it that it shows; it trusts the last.
    Certificate {
        own: Holder,
        above: Vec<Holder>,
        root: Holder,
    },
    Password {
        root: Holder,
        user: &'static str,
        password: &'static str,
    },
}

const NOTIFIED: &str = "received AUTHENTICATION_FAILED notify error";
const NO_PASSWORD: &str = "EAP-MS-CHAPv2 failed with error ERROR_AUTHENTICATION_FAILURE";
const MALLORY: &str = "mallory.example";
const EC: Kind = Kind::EcdsaP256;
const NOT_WANTED: &str = "no compatible policy found for FQDN/mallory.example: 'warriors' wants dstid FQDN/warrior.example";
const NOT_ISSUED: &str =
    "authentication failed: certificate: unable to get local issuer certificate";

const EXPIRED: &str = "authentication failed: certificate: certificate has expired";

/// The gateway requires a PPK; what else the client proves itself with is right.
fn requires_ppk(proof: Proof) -> (Conf, Attempt) {
    let conf = Conf {
        auth: asking(&Conf::default().auth, ONE, "required"),
        ..Conf::default()
    };
    (conf, called(CLIENT_ID, proof))
}

/// By whom and under what name nobody gets in.
pub const IMPOSTORS: &[Impostor] = &[
    Impostor {
        name: "wrong_secret",
        setup: |_| {
            (
                Conf::default(),
                called(CLIENT_ID, Proof::Secret("another secret")),
            )
        },
        why: "authentication failed: pre-shared key mismatch",
        openiked: Some("authentication failed: pre-shared key mismatch"),
        // charon looks at ours first.
        ..LIKE_MOST
    },
    Impostor {
        name: "another_ppk_of_this_name",
        setup: |_| {
            let (ppk, required) = ((ONE.0, TWO.1), true);
            requires_ppk(Proof::Ppk { ppk, required })
        },
        why: "authentication failed: pre-shared key mismatch with PPK 'one'",
        libreswan: false,
        ..LIKE_MOST
    },
    Impostor {
        name: "another_ppk_where_one_is_required",
        setup: |_| {
            let (ppk, required) = (TWO, false);
            requires_ppk(Proof::Ppk { ppk, required })
        },
        why: "authentication failed: PPK: unknown ID 'two'",
        libreswan: false,
        ..LIKE_MOST
    },
    Impostor {
        name: "no_ppk_where_one_is_required",
        setup: |_| requires_ppk(Proof::Secret(SECRET)),
        why: "authentication failed: PPK: required, and the peer has none",
        openiked: Some("authentication failed: PPK: required, and the peer has none"),
        ..LIKE_MOST
    },
    Impostor {
        name: "secret_under_another_name",
        setup: |_| (Conf::default(), called(MALLORY, Proof::Secret(SECRET))),
        why: NOT_WANTED,
        openiked: Some(NOT_WANTED),
        ..LIKE_MOST
    },
    Impostor {
        name: "raw_key_of_a_stranger",
        setup: |_| {
            let (kind, on_file) = (EC, false);
            let proof = Proof::RawKey { kind, on_file };
            (by_signature(), called(CLIENT_ID, proof))
        },
        why: "authentication failed: signature: ",
        // It shows its key.
        openiked: Some("authentication failed: public key differs from the one on file"),
        answers: true,
        ..LIKE_MOST
    },
    Impostor {
        name: "raw_key_under_another_name",
        setup: |_| {
            let (kind, on_file) = (Kind::Rsa2048, true);
            let proof = Proof::RawKey { kind, on_file };
            (by_signature(), called(MALLORY, proof))
        },
        why: NOT_WANTED,
        openiked: Some(NOT_WANTED),
        ..LIKE_MOST
    },
    Impostor {
        name: "certificate_of_another_user",
        setup: |world| {
            with_certificate(world, |root| root.vouches_for(world, "client", MALLORY, EC))
        },
        why: "authentication failed: certificate: names another identity",
        // It shows no certificate that does not name it, but its key.
        openiked: Some("authentication failed: no public key for this identity"),
        answers: true,
        ..LIKE_MOST
    },
    Impostor {
        name: "expired_certificate",
        setup: |world| {
            let dates = [
                "--not-before",
                "01.01.20 00:00:00",
                "--not-after",
                "01.01.21 00:00:00",
            ];
            with_certificate(world, |root| {
                root.vouches_oddly(world, "client", CLIENT_ID, &dates)
            })
        },
        why: EXPIRED,
        openiked: Some(EXPIRED),
        answers: true,
        libreswan: false,
        ..LIKE_MOST
    },
    Impostor {
        name: "certificate_of_the_future",
        setup: |world| {
            let dates = [
                "--not-before",
                "01.01.48 00:00:00",
                "--not-after",
                "01.01.49 00:00:00",
            ];
            with_certificate(world, |root| {
                root.vouches_oddly(world, "client", CLIENT_ID, &dates)
            })
        },
        why: "authentication failed: certificate: certificate is not yet valid",
        openiked: Some("authentication failed: certificate: certificate is not yet valid"),
        answers: true,
        libreswan: false,
        ..LIKE_MOST
    },
    Impostor {
        name: "revoked_certificate",
        setup: |world| {
            with_certificate(world, |root| {
                let client = root.vouches_for(world, "client", CLIENT_ID, EC);
                let crls = world.folder("iked/crls");
                fs::write(crls.join("root.crl"), root.revokes(&client)).unwrap();
                client
            })
        },
        why: "authentication failed: certificate: certificate revoked",
        openiked: Some("authentication failed: certificate: certificate revoked"),
        answers: true,
        ..LIKE_MOST
    },
    Impostor {
        name: "certificate_of_another_authority",
        setup: |world| {
            with_certificate(world, |_| {
                let other = Holder::authority(world, "other");
                other.vouches_for(world, "client", CLIENT_ID, EC)
            })
        },
        why: NOT_ISSUED,
        openiked: Some(NOT_ISSUED),
        answers: true,
        ..LIKE_MOST
    },
    Impostor {
        name: "certificate_without_the_one_between",
        setup: |world| {
            with_certificate(world, |root| {
                let between = root.intermediate(world, "between");
                between.vouches_for(world, "client", CLIENT_ID, EC)
            })
        },
        why: NOT_ISSUED,
        openiked: Some(NOT_ISSUED),
        answers: true,
        ..LIKE_MOST
    },
    Impostor {
        name: "certificate_below_too_long_a_path",
        setup: |world| {
            let root = Holder::authority(world, "root");
            certify_gateway(world, &gateway_of(world, &root), &[], &[&root]);
            let last = root.authority_oddly(world, "last", &["--pathlen", "0"]);
            let beyond = last.intermediate(world, "beyond");
            let own = beyond.vouches_for(world, "client", CLIENT_ID, EC);
            let above = vec![beyond, last];
            let proof = Proof::Certificate { own, above, root };
            (by_signature(), called(CLIENT_ID, proof))
        },
        why: "authentication failed: certificate: path length constraint exceeded",
        answers: true,
        libreswan: false,
        ..LIKE_MOST
    },
    Impostor {
        name: "wrong_password",
        setup: |world| with_password(world, CLIENT_ID, "alice", "hier ist's grün"),
        told: NO_PASSWORD,
        why: "EAP: wrong user name or password for 'alice'",
        libreswan: false,
        ..LIKE_MOST
    },
    Impostor {
        name: "unknown_user",
        setup: |world| with_password(world, CLIENT_ID, "bob", "Hier ist's grün"),
        told: NO_PASSWORD,
        why: "EAP: wrong user name or password for 'bob'",
        libreswan: false,
        ..LIKE_MOST
    },
    Impostor {
        name: "password_under_another_name",
        setup: |world| with_password(world, MALLORY, "alice", "Hier ist's grün"),
        why: NOT_WANTED,
        libreswan: false,
        ..LIKE_MOST
    },
];

/// What is the same in most rows.
const LIKE_MOST: Impostor = Impostor {
    name: "",
    setup: |_| (Conf::default(), called(CLIENT_ID, Proof::Secret(SECRET))),
    told: NOTIFIED,
    why: "",
    answers: false,
    libreswan: true,
    openiked: None,
};

const fn called(id: &'static str, proof: Proof) -> Attempt {
    Attempt { id, proof }
}

fn gateway_of(world: &World, root: &Holder) -> Holder {
    root.vouches_for(world, "gateway", GATEWAY_ID, EC)
}

/// Both ends with certificates, the gateway's good, the client's as made from the root.
fn with_certificate(world: &World, client: impl Fn(&Holder) -> Holder) -> (Conf, Attempt) {
    let root = Holder::authority(world, "root");
    certify_gateway(world, &gateway_of(world, &root), &[], &[&root]);
    let own = client(&root);
    let above = Vec::new();
    let proof = Proof::Certificate { own, above, root };
    (by_signature(), called(CLIENT_ID, proof))
}

fn with_password(
    world: &World,
    id: &'static str,
    user: &'static str,
    password: &'static str,
) -> (Conf, Attempt) {
    let (root, conf) = asks_for_passwords(world);
    let proof = Proof::Password {
        root,
        user,
        password,
    };
    (conf, called(id, proof))
}

impl Attempt {
    /// Keys of these kinds at both ends; the gateway may have another than ours on file.
    fn raw_keys(world: &World, kind: Kind, on_file: bool) -> (Keys, Keys) {
        let (mut own, gateway) = raw_keys(world, kind, kind).unwrap();
        if !on_file {
            own = Keys::make(world, "stranger", kind);
        }
        (own, gateway)
    }

    /// As strongSwan.
    fn strongswan(self, world: &World) -> Client {
        let client = match self.proof {
            Proof::Secret(secret) => Client {
                secret: secret.to_owned(),
                ..Client::default()
            },
            Proof::Ppk { ppk, required } => holding(Client::default(), ppk, required),
            Proof::RawKey { kind, on_file } => Client {
                keys: Some(Self::raw_keys(world, kind, on_file)),
                ..Client::default()
            },
            Proof::Certificate { own, above, root } => {
                let above: Vec<&Holder> = above.iter().collect();
                certified_client(&own, &above, &root)
            }
            Proof::Password {
                root,
                user,
                password,
            } => by_password(&root.certificate, user, password),
        };
        Client {
            id: self.id,
            ..client
        }
    }

    /// As libreswan, with the selectors of [`networks`].
    fn libreswan(self, world: &World) -> libreswan::Client {
        let (_, mut client) = networks("passive");
        client.id = self.id;
        match self.proof {
            Proof::Secret(secret) => client.secret = secret.to_owned(),
            Proof::RawKey { kind, on_file } => {
                let (program, words, auth): (_, &[_], _) = match kind {
                    Kind::Rsa2048 => ("rsasigkey", &["3072"], "authby=rsa-sha2"),
                    Kind::EcdsaP256 => ("ecdsasigkey", &[], "authby=ecdsa"),
                };
                let own = NssKey::make(world, program, words);
                let (other, gateway) = raw_keys(world, kind, kind).unwrap();
                let known = if on_file { &own.public } else { &other.public };
                Gateway::give_keys(world, &gateway, known);
                client.keys = Some((own, gateway));
                client.auth = auth;
            }
            Proof::Certificate { own, above, root } => {
                client
                    .lines
                    .extend(libreswan::certify(world, &own, &above, &root));
                client.auth = "authby=ecdsa";
            }
            Proof::Ppk { .. } => panic!("libreswan insists on its PPK, or names none"),
            Proof::Password { .. } => panic!("libreswan has no EAP-MSCHAPv2"),
        }
        client
    }

    /// As OpenIKED.
    fn openiked(self, world: &World, mode: &'static str) -> openiked::Peer {
        let mut peer = openiked::Peer {
            id: self.id,
            ..openiked::Peer::new(mode)
        };
        match self.proof {
            Proof::Secret(secret) => peer.secret = secret.to_owned(),
            Proof::RawKey { kind, on_file } => {
                peer.keys = Some(Self::raw_keys(world, kind, on_file));
            }
            Proof::Certificate { own, root, .. } => peer.certified = Some((own, root)),
            Proof::Ppk { .. } => panic!("OpenIKED has no PPKs"),
            Proof::Password { .. } => panic!("OpenIKED has no EAP as initiator"),
        }
        peer
    }
}

impl Impostor {
    /// How the line in our log ends.
    fn line(why: &str) -> String {
        if why.starts_with("no compatible") {
            return why.to_owned();
        }
        format!("peer FQDN/{CLIENT_ID} policy 'warriors': {why}")
    }

    /// It begins, and we refuse.
    pub fn begins(&self) {
        let world = World::new(Layout::Wire);
        let (conf, attempt) = (self.setup)(&world);
        let client = attempt.strongswan(&world);
        let gateway = is_refused(&world, &conf, &client, self.told);
        assert_eq!(gateway.count("IKE SA failed to establish"), 1);
        Self::is_named(&gateway, self.why);
    }

    fn is_named(gateway: &Gateway, why: &str) {
        let line = Self::line(why);
        gateway.says(&[&line]);
        let log = gateway.log();
        assert_eq!(log.matches(&line).count(), 1, "`{line}` in:\n{log}");
    }

    /// We begin, it answers, and we refuse.
    pub fn answers(&self) {
        let world = World::new(Layout::Wire);
        let (conf, attempt) = (self.setup)(&world);
        let client = attempt.strongswan(&world);
        let conf = Conf {
            mode: "active",
            hosts: format!("local {GATEWAY} peer {CLIENT}"),
            flows: format!("from 10.8.0.0/24 to {CLIENT}"),
            config: Vec::new(),
            ..conf
        };
        let client = Client {
            vips: String::new(),
            ..client
        };
        let swan = StrongSwan::start(&world, &client);
        let gateway = Gateway::start(&world, &conf);
        gateway.wait_for_count("IKE SA failed to establish", 1);
        Self::is_named(&gateway, self.why);
        wait_for("the peer to forget", || {
            swan.established().is_empty().then_some(())
        });
        assert_says(&swan.log(), &["received DELETE for IKE_SA home"]);
        let shown = gateway.show_sa();
        assert!(!shown.contains("ESTABLISHED"), "{shown}");
        assert_eq!(gateway.count("IKE SA established"), 0);
        assert_eq!(gateway.count("Child SA created"), 0);
        kernel_holds_traps(&world, 1);
    }

    /// libreswan begins, and we refuse.
    pub fn libreswan_begins(&self) {
        let world = World::new(Layout::Wire);
        let (conf, attempt) = (self.setup)(&world);
        let client = attempt.libreswan(&world);
        let gateway = Gateway::start(&world, &between_networks(conf, "passive"));
        let swan = Libreswan::start(&world, &client);
        let said = swan.connect();
        assert_says(&said, &["AUTHENTICATION_FAILED"]);
        assert!(!said.contains("established IKE SA"), "{said}");
        Self::is_named(&gateway, self.why);
        Self::nothing_is_left(&gateway);
        kernel_is_clean(&world);
    }

    /// We begin, libreswan answers, and we refuse.
    pub fn libreswan_answers(&self) {
        let world = World::new(Layout::Wire);
        let (conf, attempt) = (self.setup)(&world);
        let swan = Libreswan::start(&world, &attempt.libreswan(&world));
        let gateway = Gateway::start(&world, &between_networks(conf, "active"));
        gateway.wait_for_count("IKE SA failed to establish", 1);
        Self::is_named(&gateway, self.why);
        swan.wait_for_states(|states| !states.contains("ESTABLISHED_IKE_SA"));
        Self::nothing_is_left(&gateway);
        kernel_holds_traps(&world, 1);
    }

    /// OpenIKED begins, and we refuse.
    pub fn openiked_begins(&self) {
        let world = World::new(Layout::Wire);
        let (conf, attempt) = (self.setup)(&world);
        let peer = attempt.openiked(&world, "active");
        let conf = Conf {
            auth: conf.auth,
            ..peer.mirror()
        };
        let gateway = Gateway::start(&world, &conf);
        let peer = OpenIked::start(&world, &peer);
        gateway.wait_for_count_above("IKE SA failed to establish", 0);
        self.openiked_is_refused(&gateway, &peer);
        kernel_is_clean(&world);
    }

    /// We begin, OpenIKED answers, and we refuse.
    pub fn openiked_answers(&self) {
        let world = World::new(Layout::Wire);
        let (conf, attempt) = (self.setup)(&world);
        let peer = attempt.openiked(&world, "passive");
        let conf = Conf {
            auth: conf.auth,
            ..peer.mirror()
        };
        let peer = OpenIked::start(&world, &peer);
        let gateway = Gateway::start(&world, &conf);
        gateway.wait_for_count_above("IKE SA failed to establish", 0);
        self.openiked_is_refused(&gateway, &peer);
        kernel_holds_traps(&world, 1);
    }

    fn openiked_is_refused(&self, gateway: &Gateway, peer: &OpenIked) {
        let line = Self::line(self.openiked.unwrap_or(self.why));
        gateway.says(&[&line]);
        wait_for("the peer to forget", || {
            let shown = peer.ikectl(&["show", "sa"]);
            (!shown.contains("ESTABLISHED")).then_some(())
        });
        Self::nothing_is_left(gateway);
    }

    fn nothing_is_left(gateway: &Gateway) {
        let shown = gateway.show_sa();
        assert!(!shown.contains("ESTABLISHED"), "{shown}");
        assert_eq!(gateway.count("IKE SA established"), 0);
        assert_eq!(gateway.count("Child SA created"), 0);
        assert_eq!(gateway.count("faults"), 0);
    }
}

/// pluto does not load a certificate that has expired, but goes on with one that does.
pub fn a_certificate_expires_after_pluto_has_loaded_it() {
    let world = World::new(Layout::Wire);
    let until = SystemTime::now() + Duration::from_secs(25);
    let (conf, attempt) = with_certificate(&world, |root| {
        let words = ["--not-after", &date(until)];
        root.vouches_oddly(&world, "client", CLIENT_ID, &words)
    });
    let client = attempt.libreswan(&world);
    let gateway = Gateway::start(&world, &between_networks(conf, "passive"));
    let swan = Libreswan::start(&world, &client);
    if let Ok(left) = until.duration_since(SystemTime::now()) {
        thread::sleep(left + Duration::from_secs(2));
    }
    assert_says(&swan.connect(), &["AUTHENTICATION_FAILED"]);
    Impostor::is_named(&gateway, EXPIRED);
    Impostor::nothing_is_left(&gateway);
    kernel_is_clean(&world);
}

/// As `pki --not-after` wants it.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at = format!("@{}", seconds.as_secs());
    let words = ["-d", &at, "+%d.%m.%y %H:%M:%S"];
    let output = Command::new("date").args(words).output().unwrap();
    lossy(&output.stdout).trim().to_owned()
}

/// What proves the ends, between networks as [`networks`] has them.
fn between_networks(conf: Conf, mode: &'static str) -> Conf {
    let (networks, _) = networks(mode);
    Conf {
        auth: conf.auth,
        ..networks
    }
}
