//! The peer's side is written here by hand, from RFC 2759 and the draft.

use super::*;
use crate::crypto::boring;
use crate::crypto::mschap::{Challenges, PasswordHash, session_key};

fn users() -> BTreeMap<String, Secret> {
    let user =
        |name: &str, password: &str| (name.to_owned(), Secret::new(password.as_bytes().to_vec()));
    [user("alice", "Grüße"), user("bob", "")]
        .into_iter()
        .collect()
}

struct Server {
    dialog: Dialog,
    rng: Rng,
}

impl Server {
    fn new() -> (Self, Vec<u8>) {
        let mut rng = Rng::from_seed([7; 32]);
        let (dialog, packet) = Dialog::begin(&mut rng);
        (Self { dialog, rng }, packet)
    }

    fn answer(&mut self, packet: &[u8]) -> Step {
        let provider = boring::provider();
        self.dialog
            .answer(&users(), &provider, &mut self.rng, packet)
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
    let mut packet = super::request(request[1], kind, data);
    packet[0] = 2;
    packet
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
    assert_eq!(passed.msk.expose(), expected.expose());
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
