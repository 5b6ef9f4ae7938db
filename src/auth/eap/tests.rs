//! The peer's side is written here by hand, from RFC 2759 and the draft.

use std::collections::BTreeMap;

use super::packet::{Code, build};
use super::*;
use crate::crypto::Rng;
use crate::crypto::boring;
use crate::crypto::mschap::{Challenges, PasswordHash, chap_md5, session_key};
use crate::policy::{EapMethod, Identity, Secret};
use crate::wire::registry::IdType;

fn users() -> BTreeMap<String, Secret> {
    let user =
        |name: &str, password: &str| (name.to_owned(), Secret::new(password.as_bytes().to_vec()));
    [user("alice", "Grüße"), user("bob", "")]
        .into_iter()
        .collect()
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
    fn new() -> (Self, Vec<u8>) {
        Self::offering(&[EapMethod::MsChapV2])
    }

    fn offering(methods: &[EapMethod]) -> (Self, Vec<u8>) {
        let mut rng = Rng::from_seed([7; 32]);
        let (dialog, packet) = Dialog::begin(methods, &mut rng);
        (Self { dialog, rng }, packet)
    }

    fn answer(&mut self, packet: &[u8]) -> Step {
        let provider = boring::provider();
        let mut means = Means {
            users: &users(),
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

    fn ask(&mut self, packet: &[u8]) -> Vec<u8> {
        let step = self.answer(packet);
        let Step::Ask(packet) = step else {
            panic!("{step:?}");
        };
        packet
    }

    fn deny(&mut self, packet: &[u8]) -> Vec<u8> {
        let step = self.answer(packet);
        let Step::Deny(packet, Refusal::Password(_)) = step else {
            panic!("{step:?}");
        };
        packet
    }

    fn refusal(&mut self, packet: &[u8]) -> Refusal {
        let step = self.answer(packet);
        let Step::Failure(end, why) = step else {
            panic!("{step:?}");
        };
        assert_eq!((end[0], end.len()), (4, 4));
        why
    }
}

fn reply(request: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    build(Code::Response, request[1], kind, data)
}

const PEER_CHALLENGE: [u8; 16] = [9; 16];

/// The answer to a challenge request: the packet, and the NT-Response in it.
fn response_to(request: &[u8], name: &str, password: &str) -> (Vec<u8>, [u8; 24]) {
    assert_eq!((request[0], request[4], request[5]), (1, 26, 1));
    assert_eq!(request[9], 16);
    let user = name.rsplit('\\').next().unwrap().as_bytes();
    let challenges = Challenges {
        authenticator: request[10..26].try_into().unwrap(),
        peer: &PEER_CHALLENGE,
        user,
    };
    let response = challenges.response(&PasswordHash::new(password.as_bytes()));
    let value = [
        &[49][..],
        &PEER_CHALLENGE,
        &[0; 8],
        &response,
        &[0],
        name.as_bytes(),
    ]
    .concat();
    let length = u16::try_from(value.len() + 4).unwrap().to_be_bytes();
    let data = [&[2, request[6]][..], &length, &value].concat();
    (reply(request, 26, &data), response)
}

/// The challenge for a peer that calls itself `identity`.
fn challenge(identity: &str) -> (Server, Vec<u8>) {
    let (mut server, question) = Server::new();
    assert_eq!((question[0], question[4], question.len()), (1, 1, 5));
    let request = server.ask(&reply(&question, 1, identity.as_bytes()));
    (server, request)
}

fn passes(identity: &str, name: &str, password: &str) -> String {
    let (mut server, request) = challenge(identity);
    let (packet, response) = response_to(&request, name, password);
    let success = server.ask(&packet);
    assert_eq!(success[5], 3);
    assert!(success[9..].starts_with(b"S="));
    let confirmed = server.answer(&reply(&success, 26, &[3]));
    let Step::Success(end, passed) = confirmed else {
        panic!("{confirmed:?}");
    };
    assert_eq!(end, [3, success[1], 0, 4]);
    let expected = session_key(&PasswordHash::new(password.as_bytes()), &response);
    assert_eq!(passed.msk.unwrap().expose(), expected.expose());
    // Nothing more comes of the dialog.
    assert_eq!(server.refusal(&reply(&success, 26, &[3])), Refusal::Packet);
    passed.user
}

#[test]
fn the_right_password_passes_under_any_form_of_the_name() {
    assert_eq!(passes("alice", "alice", "Grüße"), "alice");
    assert_eq!(passes("", "alice", "Grüße"), "alice");
    assert_eq!(passes("x", "OFFICE\\alice", "Grüße"), "alice");
    assert_eq!(passes("alice", "someone", "Grüße"), "alice");
    assert_eq!(passes("bob", "bob", ""), "bob");
}

#[test]
fn a_wrong_password_or_an_unknown_user_is_told_and_then_refused() {
    for (name, password) in [("alice", "Gruesse"), ("alice", ""), ("mallory", "")] {
        let (mut server, request) = challenge(name);
        let failure = server.deny(&response_to(&request, name, password).0);
        assert_eq!(failure[5], 4);
        assert!(failure[9..].starts_with(b"E=691 R=0 C="));
        // Whatever it says to that, claims of success included.
        let why = server.refusal(&reply(&failure, 26, &[3]));
        assert_eq!(why, Refusal::Password(name.to_owned()));
    }
}

#[test]
fn success_is_not_to_be_had_by_claiming_it() {
    let (mut server, question) = Server::new();
    assert_eq!(server.refusal(&reply(&question, 26, &[3])), Refusal::Packet);
    let (mut server, request) = challenge("alice");
    assert_eq!(server.refusal(&reply(&request, 26, &[3])), Refusal::Packet);
    let (mut server, request) = challenge("alice");
    assert_eq!(server.refusal(&[3, request[1], 0, 4]), Refusal::Packet);
    // Our own challenge reflected is a request, not a response.
    let (mut server, request) = challenge("alice");
    assert_eq!(server.refusal(&request), Refusal::Packet);
    // The Success request, answered with a failure.
    let (mut server, request) = challenge("alice");
    let success = server.ask(&response_to(&request, "alice", "Grüße").0);
    assert_eq!(server.refusal(&reply(&success, 26, &[4])), Refusal::Packet);
}

#[test]
fn a_packet_with_another_identifier_length_or_method_is_refused() {
    let (mut server, request) = challenge("alice");
    let (mut packet, _) = response_to(&request, "alice", "Grüße");
    packet[1] ^= 1;
    assert_eq!(server.refusal(&packet), Refusal::Packet);
    let (packet, _) = response_to(&challenge("alice").1, "alice", "Grüße");
    for len in 0..packet.len() {
        let (mut server, _) = challenge("alice");
        assert_eq!(server.refusal(&packet[..len]), Refusal::Packet, "{len}");
    }
    // Lengths inside that lie: the value's size and the length of the operation.
    for (at, value) in [(9, 48), (9, 50), (9, 0), (9, 255), (7, 1), (8, 0), (8, 255)] {
        let (mut server, request) = challenge("alice");
        let (mut packet, _) = response_to(&request, "alice", "Grüße");
        packet[at] = value;
        assert_eq!(server.refusal(&packet), Refusal::Packet, "{at} {value}");
    }
    let (mut server, request) = challenge("alice");
    assert_eq!(server.refusal(&reply(&request, 3, &[13])), Refusal::Method);
    let (mut server, request) = challenge("alice");
    assert_eq!(
        server.refusal(&reply(&request, 1, b"alice")),
        Refusal::Packet
    );
}

#[test]
fn a_name_cannot_carry_control_characters_or_megabytes_into_the_log() {
    let (mut server, request) = challenge("\u{1b}[2Jalice\n");
    let name = format!("{}\r\n", "x".repeat(2000));
    let failure = server.deny(&response_to(&request, &name, "").0);
    let Refusal::Password(shown) = server.refusal(&reply(&failure, 26, &[4])) else {
        panic!("refused for another reason");
    };
    assert_eq!(shown, "x".repeat(NAME_MAX));
}

/// The first request of the method for a peer that calls itself so.
fn begun(methods: &[EapMethod], identity: &[u8]) -> (Server, Vec<u8>) {
    let (mut server, question) = Server::offering(methods);
    let request = server.ask(&reply(&question, 1, identity));
    (server, request)
}

fn without_key(step: Step) -> String {
    let Step::Success(end, passed) = step else {
        panic!("{step:?}");
    };
    assert_eq!((end[0], end.len()), (3, 4));
    assert!(passed.msk.is_none(), "the method gives no key");
    passed.user
}

/// The answer to an MD5 challenge.
fn digest_for(request: &[u8], name: &[u8], password: &str) -> Vec<u8> {
    assert_eq!((request[4], request[5]), (4, 16));
    let digest = chap_md5(request[1], password.as_bytes(), &request[6..22]);
    let data = [&[16][..], &*digest, name].concat();
    reply(request, 4, &data)
}

#[test]
fn md5_takes_the_digest_of_the_right_password_and_gives_no_key() {
    let md5 = [EapMethod::Md5];
    for (identity, name) in [("alice", ""), ("alice", "alice"), ("x", "alice")] {
        let (mut server, request) = begun(&md5, identity.as_bytes());
        let answer = digest_for(&request, name.as_bytes(), "Grüße");
        assert_eq!(without_key(server.answer(&answer)), "alice");
        assert_eq!(server.refusal(&answer), Refusal::Packet);
    }
    for (identity, password) in [("alice", "Gruesse"), ("alice", ""), ("mallory", "")] {
        let (mut server, request) = begun(&md5, identity.as_bytes());
        let why = server.refusal(&digest_for(&request, b"", password));
        assert_eq!(why, Refusal::Password(identity.to_owned()));
    }
    let (_, request) = begun(&md5, b"alice");
    let good = digest_for(&request, b"", "Grüße");
    for len in 5..good.len() {
        let (mut server, request) = begun(&md5, b"alice");
        let cut = reply(&request, 4, &good[5..len]);
        assert_eq!(server.refusal(&cut), Refusal::Packet, "{len}");
    }
}

#[test]
fn gtc_takes_the_right_password_and_gives_no_key() {
    let gtc = [EapMethod::Gtc];
    let (mut server, request) = begun(&gtc, b"alice");
    let answer = reply(&request, 6, "Grüße".as_bytes());
    assert_eq!(without_key(server.answer(&answer)), "alice");
    for (identity, password) in [("alice", "Grüß"), ("alice", ""), ("mallory", ""), ("", "")] {
        let (mut server, request) = begun(&gtc, identity.as_bytes());
        let why = server.refusal(&reply(&request, 6, password.as_bytes()));
        assert_eq!(why, Refusal::Password(identity.to_owned()));
    }
}

#[test]
fn a_nak_leads_to_the_first_of_our_methods_that_the_peer_wants_each_offered_once() {
    let all = [EapMethod::MsChapV2, EapMethod::Md5, EapMethod::Gtc];
    let (mut server, request) = begun(&all, b"alice");
    assert_eq!(request[4], 26);
    // Our order counts, not the peer's.
    let request = server.ask(&reply(&request, 3, &[6, 4]));
    assert_eq!(request[4], 4);
    let request = server.ask(&reply(&request, 3, &[6, 26]));
    assert_eq!(request[4], 6);
    assert_eq!(
        server.refusal(&reply(&request, 3, &[4, 26])),
        Refusal::Method
    );
    for none in [&[][..], &[0], &[13], &[254]] {
        let (mut server, request) = begun(&all, b"alice");
        assert_eq!(server.refusal(&reply(&request, 3, none)), Refusal::Method);
    }
}

#[test]
fn a_method_that_has_begun_is_not_left_for_another() {
    let both = [EapMethod::MsChapV2, EapMethod::Gtc];
    let (mut server, request) = begun(&both, b"alice");
    let success = server.ask(&response_to(&request, "alice", "Grüße").0);
    assert_eq!(server.refusal(&reply(&success, 3, &[6])), Refusal::Packet);
    // Nor is one taken that was not offered.
    let (mut server, request) = begun(&both, b"alice");
    let password = reply(&request, 6, "Grüße".as_bytes());
    assert_eq!(server.refusal(&password), Refusal::Packet);
    // A Nak is no answer to the question for the name.
    let (mut server, question) = Server::offering(&both);
    assert_eq!(server.refusal(&reply(&question, 3, &[6])), Refusal::Packet);
}
