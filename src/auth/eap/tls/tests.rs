//! What frames the messages of TLS, and an end of one side before the other's. The certificates are
//! those of `tests/vectors/certs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::auth::chain::ChainCache;
use crate::auth::store::{CredentialStore, Parts};
use crate::crypto::sign::PrivateKey;
use crate::crypto::{Rng, boring};
use crate::policy::Identity;
use crate::wire::registry::IdType;

fn store() -> CredentialStore {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/certs");
    let read = |name| std::fs::read(folder.join(name)).unwrap();
    let parts = Parts {
        keys: vec![PrivateKey::from_pem(&read("peer.key")).unwrap()],
        certificates: Certificate::all_from_pem(&read("peer.crt")).unwrap(),
        authorities: Certificate::all_from_pem(&read("root.crt")).unwrap(),
        ..Parts::default()
    };
    CredentialStore::assemble(parts, &mut Vec::new())
}

fn take(run: &mut Run, data: &[u8]) -> Next {
    take_from("peer.example", run, data)
}

/// What comes of a packet of whom IKE knows by this name.
fn take_from(theirs: &str, run: &mut Run, data: &[u8]) -> Next {
    let fqdn = |name: &str| Identity {
        kind: IdType::FQDN,
        data: name.as_bytes().to_vec(),
    };
    let mut means = Means {
        users: &BTreeMap::new(),
        provider: &boring::provider(),
        rng: &mut Rng::from_seed([1; 32]),
        store: &store(),
        chains: &mut ChainCache::default(),
        // 2027-06-01, when the certificates are valid.
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_811_808_000),
        ours: &fqdn("peer.example"),
        theirs: &fqdn(theirs),
    };
    run.take(&mut means, data)
}

fn send(next: Next) -> Vec<u8> {
    let Next::Send(data) = next else {
        panic!("{next:?}")
    };
    data
}

fn assert_refused(packets: &[&[u8]]) {
    let mut run = Run::server();
    let (last, first) = packets.split_last().unwrap();
    for packet in first {
        assert_eq!(send(take(&mut run, packet)), [0]);
    }
    let next = take(&mut run, last);
    assert!(matches!(next, Next::Refuse(Refusal::Packet)), "{next:?}");
}

#[test]
fn both_ends_agree_on_the_key() {
    let (mut client, mut server) = (Run::client(), Run::server());
    let mut packet = vec![START];
    let mut ours = None;
    for _ in 0..20 {
        let answer = match take(&mut client, &packet) {
            Next::Send(answer) => answer,
            Next::Ready(answer, msk) => {
                ours = Some(msk);
                answer
            }
            other => panic!("{other:?}"),
        };
        match take(&mut server, &answer) {
            Next::Send(next) => packet = next,
            Next::Pass(msk) => {
                assert_eq!(msk.expose().len(), 64);
                assert_eq!(ours.unwrap().expose(), msk.expose());
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("no end");
}

#[test]
fn a_certificate_that_does_not_name_the_peer_is_refused_on_either_side() {
    for liar in [Side::Client, Side::Server] {
        let (mut client, mut server) = (Run::client(), Run::server());
        let mut packet = vec![START];
        let why = loop {
            let by = |side| {
                if side == liar {
                    "other.example"
                } else {
                    "peer.example"
                }
            };
            let answer = match take_from(by(Side::Server), &mut client, &packet) {
                Next::Send(answer) => answer,
                Next::Alert(_, why) => break why,
                other => panic!("{other:?}"),
            };
            match take_from(by(Side::Client), &mut server, &answer) {
                Next::Send(next) => packet = next,
                Next::Alert(_, why) => break why,
                other => panic!("{other:?}"),
            }
        };
        let expected = "certificate: names another identity".to_owned();
        assert_eq!(why, Refusal::Certificate(expected), "{liar:?}");
    }
}

#[test]
fn fragments_that_do_not_fit_their_length_are_refused() {
    assert_refused(&[&[]]);
    assert_refused(&[&[START]]);
    assert_refused(&[&[MORE]]);
    assert_refused(&[&[LENGTH]]);
    assert_refused(&[&[LENGTH, 0, 0, 1]]);
    assert_refused(&[&[LENGTH, 0, 0, 0, 2, 7]]);
    assert_refused(&[&[LENGTH, 0, 0, 0, 1, 7, 7]]);
    let huge = u32::try_from(MESSAGE_MAX + 1).unwrap().to_be_bytes();
    assert_refused(&[&[&[LENGTH | MORE], &huge[..], &[7]].concat()]);
    let begun = [LENGTH | MORE, 0, 0, 0, 4, 7, 7];
    assert_refused(&[&begun, &[0, 7]]);
    assert_refused(&[&begun, &[0, 7, 7, 7]]);
    assert_refused(&[&begun, &[MORE, 7, 7, 7]]);
    assert_refused(&[&begun, &[MORE]]);
    assert_refused(&[&begun, &[LENGTH, 0, 0, 0, 5, 7, 7, 7]]);
    assert_refused(&[&begun, &[START]]);
}

#[test]
fn fragments_without_a_length_cannot_grow_for_ever() {
    let mut run = Run::server();
    let fragment = [&[MORE][..], &[7; 1000]].concat();
    for _ in 0..MESSAGE_MAX / 1000 {
        assert_eq!(send(take(&mut run, &fragment)), [0]);
    }
    let next = take(&mut run, &fragment);
    assert!(matches!(next, Next::Refuse(Refusal::Packet)), "{next:?}");
}

#[test]
fn what_is_no_tls_gets_an_alert_and_then_failure() {
    let mut run = Run::server();
    let next = take(&mut run, &[0, 22, 3, 1, 0, 4, 9, 0, 0, 0]);
    let Next::Alert(alert, why) = next else {
        panic!("{next:?}")
    };
    assert_eq!((alert[0], alert[1]), (0, 21));
    assert_eq!(why, Refusal::Tls("handshake failed"));
    let next = take(&mut run, &[0]);
    assert!(matches!(next, Next::Refuse(Refusal::Tls(_))), "{next:?}");
}

#[test]
fn a_fragment_is_acknowledged_by_an_empty_packet_only() {
    let mut run = Run::server();
    run.outbound = vec![7; 3 * FRAGMENT_MAX];
    let first = run.fragment(true);
    let total = u32::try_from(3 * FRAGMENT_MAX).unwrap().to_be_bytes();
    assert_eq!(first[0], LENGTH | MORE);
    assert_eq!(first[1..5], total);
    let second = send(take(&mut run, &[0]));
    assert_eq!((second[0], second.len()), (MORE, 1 + FRAGMENT_MAX));
    let next = take(&mut run, &[0, 1]);
    assert!(matches!(next, Next::Refuse(Refusal::Packet)), "{next:?}");
    let last = send(take(&mut run, &[0]));
    assert_eq!((last[0], last.len()), (0, 1 + FRAGMENT_MAX));
}
