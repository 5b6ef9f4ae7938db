//! Every exchange in every state: requests and responses, sealed with the right keys, with wrong ones
//! and not at all, from the right address and another, with the Message ID that is next, an old one
//! and one far ahead. What nobody vouches for changes nothing of the endpoint; what the peer sent
//! is answered as the tables here say (RFC 7296, 2.2, 2.3, 2.21 and 2.25; `ike::Error::answer`).

use std::net::SocketAddr;

use iked::ike::Path;
use iked::wire::Header;
use iked::wire::registry::{ExchangeType, NotifyType};
use iked::wire::spi::IkeSpi;

use super::peer::{Opened, clear_notify};
use super::world::Datagram;
use scene::{Ask, Keys, Scene, Stage};

#[path = "matrix/errors.rs"]
mod errors;
#[path = "matrix/scene.rs"]
mod scene;

/// Far from any Message ID that is next.
const AHEAD: [u32; 3] = [1, 100, u32::MAX - 8];

/// What the peer's next request is answered with. A dot is silence, `+` the usual answer of the
/// exchange, `B` TEMPORARY_FAILURE (busy), `X` INVALID_SYNTAX and the end of the IKE SA, `F`
/// AUTHENTICATION_FAILED and the end of the IKE SA.
/// The columns are those of [`Ask::ALL`].
#[rustfmt::skip]
const REQUESTS: [(Stage, &str); 25] = [
    //                       IKE_SA_INIT, IKE_AUTH, further Child SA, rekey of it, of the IKE SA,
    //                       INFORMATIONAL, IKE_INTERMEDIATE, IKE_SESSION_RESUME, unassigned
    (Stage::SaInitSent,      ". . . . . . . . ."),
    // RFC 7296, 2.21.2: an IKE_AUTH without what it must have.
    (Stage::HalfOpen,        ". X . . . . . . ."),
    (Stage::AuthSent,        ". . . . . . . . ."),
    // RFC 7296, 2.21.2: the initiator may give up. Without EAP there is nothing to prove it by.
    (Stage::EapAsked,        ". F . . . + . . ."),
    (Stage::EapSent,         ". . . . . . . . ."),
    // RFC 4739: the second authentication begins with an identity.
    (Stage::RoundAwaited,    ". X . . . + . . ."),
    (Stage::RoundSent,       ". . . . . . . . ."),
    // The answer to the one before waits for the kernel.
    (Stage::AwaitKernel,     ". . . . . . . . ."),
    (Stage::InitiatorAwaitsKernel, ". . . . . . . . ."),
    (Stage::Answering,       ". . . . . . . . ."),
    // The answer waits for the lookup thread: a revocation list, or a RADIUS server.
    (Stage::AwaitList,       ". . . . . . . . ."),
    (Stage::InitiatorAwaitsList, ". . . . . . . . ."),
    (Stage::AwaitRadius,     ". . . . . . . . ."),
    // Up, and an accounting server is told of it.
    (Stage::Accounted,       "X X + + + + X X X"),
    (Stage::Idle,            "X X + + + + X X X"),
    (Stage::Probe,           "X X + + + + X X X"),
    // RFC 7296, 2.25.1: it is being deleted; 2.25.2: a Child SA goes, comes or changes.
    (Stage::DeleteChild,     "X X + B B + X X X"),
    (Stage::RekeyChild,      "X X + + B + X X X"),
    (Stage::Install,         "X X + + B + X X X"),
    // RFC 7296, 2.25.2: the IKE SA is being replaced, or has been.
    (Stage::RekeyIke,        "X X B B + + X X X"),
    (Stage::Succeeded,       "X X B B B + X X X"),
    (Stage::Mobike,          "X X + + + + X X X"),
    (Stage::Redirected,      "X X + + + + X X X"),
    (Stage::Deleting,        "X X B B B + X X X"),
    (Stage::Deleted,         "X X B B B + X X X"),
];

/// The exchange whose response is awaited, and taken only if it is that one.
const AWAITED: [(Stage, Option<ExchangeType>); 25] = [
    (Stage::SaInitSent, Some(ExchangeType::IKE_SA_INIT)),
    (Stage::HalfOpen, None),
    (Stage::AuthSent, Some(ExchangeType::IKE_AUTH)),
    (Stage::EapAsked, None),
    (Stage::EapSent, Some(ExchangeType::IKE_AUTH)),
    (Stage::RoundAwaited, None),
    (Stage::RoundSent, Some(ExchangeType::IKE_AUTH)),
    (Stage::AwaitKernel, None),
    (Stage::InitiatorAwaitsKernel, None),
    (Stage::Answering, None),
    (Stage::AwaitList, None),
    (Stage::InitiatorAwaitsList, None),
    (Stage::AwaitRadius, None),
    (Stage::Accounted, None),
    (Stage::Idle, None),
    (Stage::Probe, Some(ExchangeType::INFORMATIONAL)),
    (Stage::DeleteChild, Some(ExchangeType::INFORMATIONAL)),
    (Stage::RekeyChild, Some(ExchangeType::CREATE_CHILD_SA)),
    (Stage::Install, None),
    (Stage::RekeyIke, Some(ExchangeType::CREATE_CHILD_SA)),
    (Stage::Succeeded, None),
    (Stage::Mobike, Some(ExchangeType::INFORMATIONAL)),
    (Stage::Redirected, Some(ExchangeType::INFORMATIONAL)),
    (Stage::Deleting, Some(ExchangeType::INFORMATIONAL)),
    (Stage::Deleted, None),
];

fn paths(scene: &Scene) -> [Path; 2] {
    let right = scene.path();
    let remote: SocketAddr = "203.0.113.9:500".parse().unwrap();
    [right, Path { remote, ..right }]
}

/// Message IDs: the next, the one before it, and some ahead.
fn message_ids(next: u32) -> Vec<u32> {
    let before = next.checked_sub(1);
    let ahead = AHEAD.map(|step| next.wrapping_add(step));
    [next].into_iter().chain(before).chain(ahead).collect()
}

#[test]
fn whoever_has_no_keys_changes_nothing_in_any_state() {
    for (stage, _) in REQUESTS {
        let mut scene = Scene::at(stage);
        for ask in Ask::ALL {
            for (response, keys) in [
                (false, Keys::Wrong),
                (true, Keys::Wrong),
                (false, Keys::None),
                (true, Keys::None),
            ] {
                for id in message_ids(scene.next_id(response)) {
                    let bytes = scene.message(ask, response, id, keys);
                    assert_silent(&mut scene, ask, &bytes, response, id);
                }
            }
        }
    }
}

/// From the peer's address and another: no answer, no kernel request, and the state is the same.
fn assert_silent(scene: &mut Scene, ask: Ask, bytes: &[u8], response: bool, id: u32) {
    for path in paths(scene) {
        let before = scene.snapshot();
        let answers = scene.hear(path, bytes);
        let context = format!(
            "{:?} {ask:?} response {response} id {id} from {}",
            scene.stage, path.remote
        );
        assert_eq!(answers, [], "{context}");
        assert_eq!(before, scene.snapshot(), "{context}");
    }
}

#[test]
fn the_peers_messages_outside_of_the_window_change_nothing_in_any_state() {
    for (stage, _) in REQUESTS {
        let mut scene = Scene::at(stage);
        if !scene.peer_has_keys() {
            continue;
        }
        for ask in Ask::ALL {
            for response in [false, true] {
                let ids = message_ids(scene.next_id(response));
                for &id in ids.iter().skip(1) {
                    let bytes = scene.message(ask, response, id, Keys::Right);
                    assert_silent(&mut scene, ask, &bytes, response, id);
                }
            }
        }
    }
}

#[test]
fn the_peers_next_request_is_answered_by_the_table_and_again_from_the_cache() {
    for (stage, row) in REQUESTS {
        let row: Vec<&str> = row.split(' ').collect();
        assert_eq!(row.len(), Ask::ALL.len());
        for (ask, expected) in Ask::ALL.into_iter().zip(row) {
            for other_address in [false, true] {
                let mut scene = Scene::at(stage);
                let id = scene.next_id(false);
                let keys = if scene.peer_has_keys() {
                    Keys::Right
                } else {
                    Keys::Wrong
                };
                let bytes = scene.message(ask, false, id, keys);
                if expected == "." {
                    assert_silent(&mut scene, ask, &bytes, false, id);
                    continue;
                }
                let path = paths(&scene)[usize::from(other_address)];
                let before = scene.path();
                let answers = scene.hear(path, &bytes);
                let context = format!("{stage:?} {ask:?} {answers:?}");
                // A new IKE SA may begin an exchange of its own.
                let (answers, begun): (Vec<_>, Vec<_>) = answers.into_iter().partition(is_response);
                let [answer] = answers.as_slice() else {
                    panic!("{context}: one answer")
                };
                assert!(begun.is_empty() || ask == Ask::RekeyIke, "{context}");
                assert_eq!(answer.path, path, "{context}: not where it came from");
                let opened = scene.open(answer);
                assert_eq!(opened.header.exchange, ask.exchange(), "{context}");
                assert_eq!(opened.header.message_id, id, "{context}");
                assert_eq!(reaction(&scene, &opened), expected, "{context}");
                if let Some(after) = scene.path_now() {
                    assert_eq!(before, after, "{context}: nothing but a NAT moves a peer");
                }
                // The same bytes get the same answer and do nothing more.
                let still = scene.snapshot();
                assert_eq!(scene.hear(path, &bytes), answers, "{context}: again");
                assert_eq!(still, scene.snapshot(), "{context}: again");
            }
        }
    }
}

fn is_response(datagram: &Datagram) -> bool {
    Header::decode(&datagram.bytes).unwrap().flags.response
}

/// The answer as one of the table's letters.
fn reaction(scene: &Scene, opened: &Opened) -> &'static str {
    let errors: Vec<NotifyType> = opened.notifies();
    let errors: Vec<_> = errors.into_iter().filter(|kind| kind.is_error()).collect();
    match (errors.as_slice(), scene.is_ending()) {
        ([], _) => "+",
        ([NotifyType::TEMPORARY_FAILURE], _) => "B",
        ([NotifyType::INVALID_SYNTAX], true) => "X",
        ([NotifyType::AUTHENTICATION_FAILED], true) => "F",
        _ => "?",
    }
}

#[test]
fn only_the_response_that_is_awaited_is_taken() {
    for (stage, awaited) in AWAITED {
        for ask in Ask::ALL {
            let mut scene = Scene::at(stage);
            let id = scene.next_id(true);
            if !scene.peer_has_keys() {
                // In IKE_SA_INIT and before it; `whoever_has_no_keys` has been there.
                continue;
            }
            let bytes = scene.message(ask, true, id, Keys::Right);
            if Some(ask.exchange()) != awaited {
                assert_silent(&mut scene, ask, &bytes, true, id);
                continue;
            }
            let before = scene.snapshot();
            let path = scene.path();
            scene.hear(path, &bytes);
            assert_ne!(before, scene.snapshot(), "{stage:?} {ask:?}: not taken");
            // Once.
            assert_silent(&mut scene, ask, &bytes, true, id);
        }
    }
}

#[test]
fn where_there_is_no_ike_sa_a_request_gets_a_hint_and_a_response_nothing() {
    let mut scene = Scene::at(Stage::Idle);
    scene.forget_all();
    for ask in Ask::ALL {
        for keys in [Keys::Right, Keys::Wrong, Keys::None] {
            for (response, id) in [(false, 0), (false, 7), (true, 0), (true, 7)] {
                // So that hints are not rationed.
                scene.pair.seconds += 1;
                let bytes = scene.message(ask, response, id, keys);
                let before = scene.snapshot();
                let answers = scene.hear(scene.path(), &bytes);
                assert_eq!(before, scene.snapshot(), "{ask:?} {keys:?}");
                match (response, answers.as_slice()) {
                    (true, []) => {}
                    (false, [answer]) => assert_hint(answer, &bytes, scene.victim_spi),
                    _ => panic!("{ask:?} {keys:?} {response}: {answers:?}"),
                }
            }
        }
    }
}

fn assert_hint(answer: &Datagram, request: &[u8], spi: IkeSpi) {
    let (kind, data) = clear_notify(answer);
    assert_eq!((kind, data.len()), (NotifyType::INVALID_IKE_SPI, 0));
    assert!(answer.bytes.len() <= request.len());
    assert_eq!(answer.bytes[8..16], spi.to_bytes());
}
