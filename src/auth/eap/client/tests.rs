//! Against our own server, and against one that lies.

use std::collections::BTreeMap;

use super::*;
use crate::auth::chain::ChainCache;
use crate::auth::eap::{Dialog, Means, Step};
use crate::auth::store::CredentialStore;
use crate::crypto::Rng;
use crate::crypto::boring;
use crate::policy::Secret;
use crate::wire::registry::IdType;
use std::time::SystemTime;

fn client(methods: &[EapMethod], password: &str) -> Client {
    let user = EapUser {
        name: "alice".to_owned(),
        password: Secret::new(password.as_bytes().to_vec()),
    };
    let eap = Eap {
        methods: methods.to_vec(),
        user: Some(user),
    };
    Client::begin(&eap, &nobody()).unwrap()
}

fn nobody() -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: b"nobody".to_vec(),
    }
}

struct Server {
    dialog: Dialog,
    rng: Rng,
}

impl Server {
    fn begin(methods: &[EapMethod]) -> (Self, Vec<u8>) {
        let mut rng = Rng::from_seed([3; 32]);
        let (dialog, packet) = Dialog::begin(methods, &mut rng);
        (Self { dialog, rng }, packet)
    }

    fn answer(&mut self, packet: &[u8]) -> Step {
        let secret = Secret::new(b"secret".to_vec());
        let users = BTreeMap::from([("alice".to_owned(), secret)]);
        let provider = boring::provider();
        let mut means = Means {
            users: &users,
            provider: &provider,
            rng: &mut self.rng,
            store: &CredentialStore::default(),
            chains: &mut ChainCache::default(),
            wall: SystemTime::UNIX_EPOCH,
            ours: &nobody(),
            theirs: &nobody(),
        };
        self.dialog.answer(&mut means, packet)
    }
}

fn reply(client: &mut Client, packet: &[u8]) -> Result<Reply, Refusal> {
    let mut rng = Rng::from_seed([4; 32]);
    let mut means = Means {
        users: &BTreeMap::new(),
        provider: &boring::provider(),
        rng: &mut rng,
        store: &CredentialStore::default(),
        chains: &mut ChainCache::default(),
        wall: SystemTime::UNIX_EPOCH,
        ours: &nobody(),
        theirs: &nobody(),
    };
    client.answer(&mut means, packet)
}

fn answer(client: &mut Client, packet: &[u8]) -> Vec<u8> {
    match reply(client, packet) {
        Ok(Reply::Answer(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// Until one side has come to its end; what each has got.
fn play(
    client: &mut Client,
    methods: &[EapMethod],
) -> (Result<Option<SecretBytes>, Refusal>, Option<SecretBytes>) {
    let (mut server, mut packet) = Server::begin(methods);
    let mut theirs = None;
    for _ in 0..20 {
        match reply(client, &packet) {
            Ok(Reply::Success(msk, _)) => return (Ok(msk), theirs),
            Err(why) => return (Err(why), theirs),
            Ok(Reply::Answer(response)) => match server.answer(&response) {
                Step::Ask(request) | Step::Deny(request, _) => packet = request,
                Step::Success(success, passed) => {
                    assert_eq!(passed.user, "alice");
                    theirs = passed.msk;
                    packet = success;
                }
                Step::Failure(failure, _) => packet = failure,
            },
        }
    }
    panic!("no end")
}

const ALL: [EapMethod; 3] = [EapMethod::MsChapV2, EapMethod::Md5, EapMethod::Gtc];

#[test]
fn client_and_server_agree_with_every_method_and_on_the_key() {
    for method in ALL {
        let (ours, theirs) = play(&mut client(&[method], "secret"), &[method]);
        let ours = ours.unwrap();
        assert_eq!(
            ours.as_ref().map(SecretBytes::expose),
            theirs.as_ref().map(SecretBytes::expose)
        );
        assert_eq!(ours.is_some(), method == EapMethod::MsChapV2);
    }
}

#[test]
fn the_client_asks_for_a_method_that_it_has() {
    let (ours, _) = play(&mut client(&[EapMethod::Gtc], "secret"), &ALL);
    assert!(ours.unwrap().is_none());
    let refused = play(&mut client(&[EapMethod::Gtc], "secret"), &ALL[..2]).0;
    assert_eq!(refused.unwrap_err(), Refusal::Told(String::new()));
}

#[test]
fn a_wrong_password_fails_with_every_method() {
    for method in ALL {
        let refused = play(&mut client(&[method], "Secret"), &[method]).0;
        let Refusal::Told(why) = refused.unwrap_err() else {
            panic!("{method:?}")
        };
        assert_eq!(why.contains("E=691"), method == EapMethod::MsChapV2);
    }
}

/// A client whose MSCHAPv2 answer is out, and the server that has it.
fn answered() -> (Client, Server, Vec<u8>) {
    let mut client = client(&[EapMethod::MsChapV2], "secret");
    let (mut server, question) = Server::begin(&[EapMethod::MsChapV2]);
    let Step::Ask(challenge) = server.answer(&answer(&mut client, &question)) else {
        panic!("no challenge")
    };
    let response = answer(&mut client, &challenge);
    (client, server, response)
}

#[test]
fn success_before_the_method_has_ended_is_refused() {
    let mut fresh = client(&ALL, "secret");
    let early = packet::end(Code::Success, 0);
    assert_eq!(reply(&mut fresh, &early).unwrap_err(), Refusal::Early);
    let mut named = client(&ALL, "secret");
    answer(&mut named, &build(Code::Request, 5, packet::IDENTITY, &[]));
    let early = packet::end(Code::Success, 5);
    assert_eq!(reply(&mut named, &early).unwrap_err(), Refusal::Early);
    let (mut client, _, response) = answered();
    let early = packet::end(Code::Success, response[1]);
    assert_eq!(reply(&mut client, &early).unwrap_err(), Refusal::Early);
    // Nor with another identifier than the last.
    let (mut client, mut server, response) = answered();
    let Step::Ask(success) = server.answer(&response) else {
        panic!("not in")
    };
    answer(&mut client, &success);
    let other = packet::end(Code::Success, success[1].wrapping_add(1));
    assert_eq!(reply(&mut client, &other).unwrap_err(), Refusal::Early);
}

#[test]
fn a_server_that_does_not_know_the_password_is_refused() {
    let (_, mut server, response) = answered();
    let Step::Ask(success) = server.answer(&response) else {
        panic!("not in")
    };
    // Each digit of the proof, the words before it, and its length.
    for at in 9..51 {
        let (mut client, _, _) = answered();
        let mut forged = success.clone();
        forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
        let why = reply(&mut client, &forged).unwrap_err();
        let expected = if at < 11 {
            Refusal::Packet
        } else {
            Refusal::Impostor
        };
        assert_eq!(why, expected, "{at}");
    }
    for len in 0..success.len() {
        let (mut client, _, _) = answered();
        let why = reply(&mut client, &success[..len]).unwrap_err();
        assert_eq!(why, Refusal::Packet, "{len}");
    }
    // Its own answer sent back to it.
    let (mut client, _, response) = answered();
    assert_eq!(reply(&mut client, &response).unwrap_err(), Refusal::Packet);
}

#[test]
fn the_method_is_not_changed_once_it_has_begun() {
    for kind in [packet::GTC, packet::MD5, packet::IDENTITY] {
        let (mut client, _, _) = answered();
        let other = build(Code::Request, 9, kind, &[1, 1]);
        assert_eq!(reply(&mut client, &other).unwrap_err(), Refusal::Packet);
    }
    // A method that the policy does not name gets no password.
    let mut client = client(&[EapMethod::MsChapV2], "secret");
    let nak = answer(&mut client, &build(Code::Request, 1, packet::GTC, b"?"));
    assert_eq!(nak, build(Code::Response, 1, packet::NAK, &[26]));
}

#[test]
fn a_server_cannot_ask_for_ever() {
    let mut client = client(&ALL, "secret");
    let notification = build(Code::Request, 1, packet::NOTIFICATION, b"patience");
    for _ in 0..ROUNDS_MAX {
        let packet = answer(&mut client, &notification);
        assert_eq!(packet, build(Code::Response, 1, packet::NOTIFICATION, &[]));
    }
    let why = reply(&mut client, &notification).unwrap_err();
    assert_eq!(why, Refusal::Packet);
}

#[test]
fn malformed_challenges_are_refused() {
    let challenge = [&[1, 7, 0, 21, 16][..], &[5; 16]].concat();
    let request = |data: &[u8]| build(Code::Request, 1, packet::MSCHAPV2, data);
    answer(&mut client(&ALL, "secret"), &request(&challenge));
    for len in 0..challenge.len() {
        let cut = request(&challenge[..len]);
        let why = reply(&mut client(&ALL, "secret"), &cut).unwrap_err();
        assert_eq!(why, Refusal::Packet, "{len}");
    }
    for (at, value) in [(0, 2), (0, 3), (3, 20), (3, 22), (4, 15), (4, 17)] {
        let mut wrong = challenge.clone();
        wrong[at] = value;
        let why = reply(&mut client(&ALL, "secret"), &request(&wrong)).unwrap_err();
        assert_eq!(why, Refusal::Packet, "{at} {value}");
    }
    for md5 in [&[][..], &[0], &[3, 1, 2], &[255]] {
        let wrong = build(Code::Request, 1, packet::MD5, md5);
        let why = reply(&mut client(&ALL, "secret"), &wrong).unwrap_err();
        assert_eq!(why, Refusal::Packet, "{md5:?}");
    }
}

#[test]
fn after_an_error_not_even_a_notification_is_answered() {
    let notification = build(Code::Request, 2, packet::NOTIFICATION, b"patience");
    let success = packet::end(Code::Success, 1);
    for first in [&b""[..], &success] {
        let mut client = client(&[EapMethod::Md5], "secret");
        assert!(reply(&mut client, first).is_err());
        let after = reply(&mut client, &notification).map(|_| ());
        assert_eq!(after, Err(Refusal::Packet));
    }
}
