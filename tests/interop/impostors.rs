//! Peers that are not who they should be, one row each: what they tell or are told, the one line of our
//! log that names them, the policy and the reason, and nothing left behind.

use std::fs;

use super::credentials::certify_gateway;
use super::credentials::{asks_for_passwords, by_password, by_signature, certified_client};
use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID, Gateway};
use super::keys::{Keys, Kind};
use super::pki::Holder;
use super::ppk::{Named, ONE, TWO, asking, holding};
use super::refusals::is_refused;
use super::session::{kernel_holds_traps, raw_keys};
use super::strongswan::{Client, StrongSwan};
use super::world::{CLIENT, GATEWAY, Layout, World, assert_says, wait_for};

/// One that must not get in.
pub struct Impostor {
    pub name: &'static str,
    setup: fn(&World) -> (Conf, Client),
    /// What the client is told when it begins.
    told: &'static str,
    /// The end of our line about it; before that come peer and policy.
    why: &'static str,
    /// It can also be the one who answers.
    pub answers: bool,
}

const NOTIFIED: &str = "received AUTHENTICATION_FAILED notify error";
const MALLORY: &str = "mallory.example";

/// The gateway requires a PPK; the client has this one, and may require it.
fn with_ppk(ppk: Option<Named>, required: bool) -> (Conf, Client) {
    let conf = Conf {
        auth: asking(&Conf::default().auth, ONE, "required"),
        ..Conf::default()
    };
    let client = Client::default();
    let client = match ppk {
        Some(ppk) => holding(client, ppk, required),
        None => client,
    };
    (conf, client)
}

/// By whom and under what name nobody gets in.
pub const IMPOSTORS: &[Impostor] = &[
    Impostor {
        name: "wrong_secret",
        setup: |_| {
            let client = Client {
                secret: "another secret".to_owned(),
                ..Client::default()
            };
            (Conf::default(), client)
        },
        told: NOTIFIED,
        why: "authentication failed: pre-shared key mismatch",
        // charon looks at ours first.
        answers: false,
    },
    Impostor {
        name: "another_ppk_of_this_name",
        setup: |_| with_ppk(Some((ONE.0, TWO.1)), true),
        told: NOTIFIED,
        why: "authentication failed: pre-shared key mismatch with PPK 'one'",
        answers: false,
    },
    Impostor {
        name: "another_ppk_where_one_is_required",
        setup: |_| with_ppk(Some(TWO), false),
        told: NOTIFIED,
        why: "authentication failed: PPK: unknown ID 'two'",
        answers: false,
    },
    Impostor {
        name: "no_ppk_where_one_is_required",
        setup: |_| with_ppk(None, false),
        told: NOTIFIED,
        why: "authentication failed: PPK: required, and the peer has none",
        answers: false,
    },
    Impostor {
        name: "secret_under_another_name",
        setup: |_| (Conf::default(), mallory(Client::default())),
        told: NOTIFIED,
        why: NOT_WANTED,
        answers: false,
    },
    Impostor {
        name: "raw_key_of_a_stranger",
        setup: |world| {
            let keys = raw_keys(world, Kind::EcdsaP256, Kind::EcdsaP256);
            let stranger = Keys::make(world, "stranger", Kind::EcdsaP256);
            let client = Client {
                keys: keys.map(|(_, gateway)| (stranger, gateway)),
                ..Client::default()
            };
            (by_signature(), client)
        },
        told: NOTIFIED,
        why: "authentication failed: signature: ",
        answers: true,
    },
    Impostor {
        name: "raw_key_under_another_name",
        setup: |world| {
            let client = Client {
                keys: raw_keys(world, Kind::Rsa2048, Kind::Rsa2048),
                ..Client::default()
            };
            (by_signature(), mallory(client))
        },
        told: NOTIFIED,
        why: NOT_WANTED,
        answers: false,
    },
    Impostor {
        name: "certificate_of_another_user",
        setup: |world| {
            with_certificate(world, |root| root.vouches_for(world, "client", MALLORY, EC))
        },
        told: NOTIFIED,
        why: "authentication failed: certificate: names another identity",
        answers: true,
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
        told: NOTIFIED,
        why: "authentication failed: certificate: certificate has expired",
        answers: true,
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
        told: NOTIFIED,
        why: "authentication failed: certificate: certificate is not yet valid",
        answers: true,
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
        told: NOTIFIED,
        why: "authentication failed: certificate: certificate revoked",
        answers: true,
    },
    Impostor {
        name: "certificate_of_another_authority",
        setup: |world| {
            with_certificate(world, |_| {
                let other = Holder::authority(world, "other");
                other.vouches_for(world, "client", CLIENT_ID, EC)
            })
        },
        told: NOTIFIED,
        why: "authentication failed: certificate: unable to get local issuer certificate",
        answers: true,
    },
    Impostor {
        name: "certificate_without_the_one_between",
        setup: |world| {
            with_certificate(world, |root| {
                let between = root.intermediate(world, "between");
                between.vouches_for(world, "client", CLIENT_ID, EC)
            })
        },
        told: NOTIFIED,
        why: "authentication failed: certificate: unable to get local issuer certificate",
        answers: true,
    },
    Impostor {
        name: "certificate_below_too_long_a_path",
        setup: |world| {
            let root = Holder::authority(world, "root");
            certify_gateway(world, &gateway_of(world, &root), &[], &[&root]);
            let last = root.authority_oddly(world, "last", &["--pathlen", "0"]);
            let beyond = last.intermediate(world, "beyond");
            let client = beyond.vouches_for(world, "client", CLIENT_ID, EC);
            let client = certified_client(&client, &[&beyond, &last], &root);
            (by_signature(), client)
        },
        told: NOTIFIED,
        why: "authentication failed: certificate: path length constraint exceeded",
        answers: true,
    },
    Impostor {
        name: "wrong_password",
        setup: |world| {
            let (root, conf) = asks_for_passwords(world);
            (
                conf,
                by_password(&root.certificate, "alice", "hier ist's grün"),
            )
        },
        told: "EAP-MS-CHAPv2 failed with error ERROR_AUTHENTICATION_FAILURE",
        why: "EAP: wrong user name or password for 'alice'",
        answers: false,
    },
    Impostor {
        name: "unknown_user",
        setup: |world| {
            let (root, conf) = asks_for_passwords(world);
            (
                conf,
                by_password(&root.certificate, "bob", "Hier ist's grün"),
            )
        },
        told: "EAP-MS-CHAPv2 failed with error ERROR_AUTHENTICATION_FAILURE",
        why: "EAP: wrong user name or password for 'bob'",
        answers: false,
    },
    Impostor {
        name: "password_under_another_name",
        setup: |world| {
            let (root, conf) = asks_for_passwords(world);
            let client = by_password(&root.certificate, "alice", "Hier ist's grün");
            (conf, mallory(client))
        },
        told: NOTIFIED,
        why: NOT_WANTED,
        answers: false,
    },
];

const EC: Kind = Kind::EcdsaP256;
const NOT_WANTED: &str = "no compatible policy found for FQDN/mallory.example: 'warriors' wants dstid FQDN/warrior.example";

fn mallory(client: Client) -> Client {
    Client {
        id: MALLORY,
        ..client
    }
}

fn gateway_of(world: &World, root: &Holder) -> Holder {
    root.vouches_for(world, "gateway", GATEWAY_ID, EC)
}

/// Both ends with certificates, the gateway's good, the client's as made from the root.
fn with_certificate(world: &World, client: impl Fn(&Holder) -> Holder) -> (Conf, Client) {
    let root = Holder::authority(world, "root");
    certify_gateway(world, &gateway_of(world, &root), &[], &[&root]);
    let client = client(&root);
    (by_signature(), certified_client(&client, &[], &root))
}

impl Impostor {
    /// How the line in our log ends.
    fn line(&self) -> String {
        if self.why.starts_with("no compatible") {
            return self.why.to_owned();
        }
        format!("peer FQDN/{CLIENT_ID} policy 'warriors': {}", self.why)
    }

    /// It begins, and we refuse.
    pub fn begins(&self) {
        let world = World::new(Layout::Wire);
        let (conf, client) = (self.setup)(&world);
        let gateway = is_refused(&world, &conf, &client, self.told);
        assert_eq!(gateway.count("IKE SA failed to establish"), 1);
        self.is_named(&gateway);
    }

    fn is_named(&self, gateway: &Gateway) {
        let (log, line) = (gateway.log(), self.line());
        assert_eq!(log.matches(&line).count(), 1, "`{line}` in:\n{log}");
    }

    /// We begin, it answers, and we refuse.
    pub fn answers(&self) {
        let world = World::new(Layout::Wire);
        let (conf, client) = (self.setup)(&world);
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
        self.is_named(&gateway);
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
}
