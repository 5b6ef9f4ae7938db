//! Every error type that a peer may report (RFC 7296, 3.10.1), and two that nobody knows: what it does
//! in either role before and after authentication, in the clear and protected, and the line about it.
//! What we send and when is `ike::error`'s table.

use iked::wire::registry::{ExchangeType, NotifyType};

use super::scene::{Ask, Keys, Scene, Stage};

/// Where an error comes in: the state, and the message that brings it.
const PLACES: [(Stage, Ask, bool); 8] = [
    (Stage::HalfOpen, Ask::Auth, false),
    (Stage::AuthSent, Ask::Auth, true),
    (Stage::EapSent, Ask::Auth, true),
    (Stage::Idle, Ask::Informational, false),
    (Stage::Probe, Ask::Informational, true),
    (Stage::DeleteChild, Ask::Informational, true),
    (Stage::RekeyChild, Ask::RekeyChild, true),
    (Stage::RekeyIke, Ask::RekeyIke, true),
];

/// What it does in each of [`PLACES`], where it comes with the right keys: `S` INVALID_SYNTAX and the
/// end, for it is no IKE_AUTH; `X` the end; `+` the usual answer; `k` the IKE SA stays; `n` it
/// stays and asks for a new Child SA at once.
#[rustfmt::skip]
const PROTECTED: [(NotifyType, &str); 19] = [
    (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, "S X X + k k k k"),
    (NotifyType::INVALID_IKE_SPI,              "S X X + k k k k"),
    (NotifyType::INVALID_MAJOR_VERSION,        "S X X + k k k k"),
    // RFC 7296, 2.21.2 and 2.21.3: these two end an IKE SA that is up.
    (NotifyType::INVALID_SYNTAX,               "S X X E X X X X"),
    (NotifyType::INVALID_MESSAGE_ID,           "S X X + k k k k"),
    (NotifyType::INVALID_SPI,                  "S X X + k k k k"),
    (NotifyType::NO_PROPOSAL_CHOSEN,           "S X X + k k k k"),
    (NotifyType::INVALID_KE_PAYLOAD,           "S X X + k k k k"),
    (NotifyType::AUTHENTICATION_FAILED,        "S X X E X X X X"),
    (NotifyType::SINGLE_PAIR_REQUIRED,         "S X X + k k k k"),
    (NotifyType::NO_ADDITIONAL_SAS,            "S X X + k k k k"),
    (NotifyType::INTERNAL_ADDRESS_FAILURE,     "S X X + k k k k"),
    (NotifyType::FAILED_CP_REQUIRED,           "S X X + k k k k"),
    (NotifyType::TS_UNACCEPTABLE,              "S X X + k k k k"),
    (NotifyType::INVALID_SELECTORS,            "S X X + k k k k"),
    (NotifyType::TEMPORARY_FAILURE,            "S X X + k k k k"),
    // RFC 7296, 2.25.1: that Child SA is no more.
    (NotifyType::CHILD_SA_NOT_FOUND,           "S X X + k k n k"),
    (NotifyType(8191),                         "S X X + k k k k"),
    (NotifyType(8192),                         "S X X + k k k k"),
];

fn does(stage: Stage, ask: Ask, response: bool, kind: NotifyType) -> (&'static str, Vec<String>) {
    let mut scene = Scene::at(stage);
    scene.take_lines();
    let bytes = scene.notification((ask, response), (kind, &[]), Keys::Right);
    let path = scene.path();
    let sent = scene.hear(path, &bytes);
    let over = !scene.is_there() || scene.is_ending();
    let lines = scene.take_lines();
    let seen = match (response, sent.as_slice(), over) {
        (true, [], true) => "X",
        (true, [], false) => "k",
        (true, [_], false) => "n",
        (false, [answer], over) => {
            let opened = scene.open(answer);
            match (opened.notifies().as_slice(), over) {
                ([NotifyType::INVALID_SYNTAX], true) => "S",
                ([], true) => "E",
                ([], false) => "+",
                _ => "?",
            }
        }
        _ => "?",
    };
    (seen, lines)
}

#[test]
fn every_error_of_a_peer_with_keys_does_what_the_table_says_and_is_logged() {
    for (kind, row) in PROTECTED {
        let row: Vec<&str> = row.split(' ').collect();
        assert_eq!(row.len(), PLACES.len());
        for ((stage, ask, response), expected) in PLACES.into_iter().zip(row) {
            let (seen, lines) = does(stage, ask, response, kind);
            assert_eq!(seen, expected, "{stage:?} {kind}: {lines:?}");
            let named = match (expected, kind) {
                ("S", _) => "IKE_AUTH: ".to_owned(),
                (_, NotifyType::INVALID_KE_PAYLOAD)
                    if ask.exchange() == ExchangeType::CREATE_CHILD_SA =>
                {
                    "INVALID_KE_PAYLOAD".to_owned()
                }
                _ => format!("{kind} notification from peer"),
            };
            let about = |line: &&String| line.starts_with("spi=0x") && line.contains(&named);
            assert_eq!(
                lines.iter().filter(about).count(),
                1,
                "{stage:?} {kind}: {lines:?}"
            );
        }
    }
}

#[test]
fn every_error_in_the_clear_changes_nothing_and_is_logged() {
    for (kind, _) in PROTECTED {
        let places = PLACES
            .into_iter()
            .chain([(Stage::SaInitSent, Ask::SaInit, true)]);
        for (stage, ask, response) in places {
            let mut scene = Scene::at(stage);
            scene.take_lines();
            let before = scene.snapshot();
            // No group that could be taken up.
            let bytes = scene.notification((ask, response), (kind, &[]), Keys::None);
            let path = scene.path();
            assert_eq!(scene.hear(path, &bytes), [], "{stage:?} {kind}");
            assert_eq!(before, scene.snapshot(), "{stage:?} {kind}");
            let lines = scene.take_lines();
            let [line] = lines.as_slice() else {
                panic!("{stage:?} {kind}: {lines:?}")
            };
            assert!(
                line.starts_with("spi=0x") && line.contains(" dropped: "),
                "{line}"
            );
            if stage == Stage::SaInitSent {
                assert!(line.contains(&kind.to_string()), "{line}");
            }
        }
    }
}

#[test]
fn a_cookie_or_a_group_that_is_no_good_is_dropped_with_a_line() {
    let rows: [(NotifyType, &[u8], &str); 5] = [
        (NotifyType::COOKIE, &[], "COOKIE of impossible length"),
        (NotifyType::COOKIE, &[1; 65], "COOKIE of impossible length"),
        (
            NotifyType::INVALID_KE_PAYLOAD,
            &[0, 19, 0],
            "INVALID_KE_PAYLOAD without a group",
        ),
        (
            NotifyType::INVALID_KE_PAYLOAD,
            &[0, 21],
            "INVALID_KE_PAYLOAD with a group that was not offered",
        ),
        (
            NotifyType::INVALID_KE_PAYLOAD,
            &[0xff, 0xff],
            "INVALID_KE_PAYLOAD with a group that was not offered",
        ),
    ];
    for (kind, data, why) in rows {
        let mut scene = Scene::at(Stage::SaInitSent);
        scene.take_lines();
        let before = scene.snapshot();
        let place = (Ask::SaInit, true);
        let bytes = scene.notification(place, (kind, data), Keys::None);
        let path = scene.path();
        assert_eq!(scene.hear(path, &bytes), []);
        assert_eq!(before, scene.snapshot());
        let lines = scene.take_lines();
        assert!(
            lines.len() == 1 && lines[0].ends_with(&format!("dropped: {why}")),
            "{lines:?}"
        );
    }
    // Asked for once more than an honest responder would.
    let mut scene = Scene::at(Stage::SaInitSent);
    let path = scene.path();
    for round in 1..=5_u8 {
        let place = (Ask::SaInit, true);
        let bytes = scene.notification(place, (NotifyType::COOKIE, &[round]), Keys::None);
        let sent = scene.hear(path, &bytes);
        assert_eq!(sent.len(), usize::from(round < 5));
    }
    let lines = scene.take_lines();
    assert!(
        lines
            .last()
            .unwrap()
            .ends_with("dropped: COOKIE asked for too often")
    );
}
