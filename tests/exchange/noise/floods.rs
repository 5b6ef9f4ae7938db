//! Many at once: forged IKE_AUTH at one half-open IKE SA, first requests from everywhere, cookies
//! of others.

use std::net::{IpAddr, Ipv4Addr};

use iked::crypto::Rng;
use iked::wire::registry::{ExchangeType, NotifyType};
use iked::wire::{Message, Payload};

use super::super::peer::{Peer, clear_notify, status};
use super::super::setup::{config, gateway, no_keys};
use super::super::world::{Host, at, mirrored};
use super::scene::{Moment, Scene};
use super::{sealed_by_nobody, with};

#[test]
fn a_half_open_ike_sa_outlives_a_flood_of_forged_ike_auth_requests() {
    let mut scene = Scene::at(Moment::HalfOpen);
    let mut rng = Rng::from_seed([3; 32]);
    for _ in 0..5000 {
        let len = usize::try_from(rng.below(400)).unwrap();
        let mut forged = sealed_by_nobody(&scene.next.bytes, len);
        if let Some(garbage) = forged.get_mut(32..) {
            rng.fill(garbage);
        }
        scene.ignores(&forged, "integrity_errors");
    }
    scene.goes_on();
}

#[test]
fn a_flood_writes_no_more_than_a_few_lines_and_the_next_one_tells_how_many_were_left_out() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let tag = format!("spi=0x{:016x}", peer.spi_i.value());
    let header = peer.header(ExchangeType::IKE_AUTH, 1);
    let genuine = peer.seal_as(&header, &[]);
    host.lines.clear();
    for number in 0..10_000_usize {
        let forged = with(&genuine, 32 + number % 20, &[0xee, 0xdd]);
        peer.send(&mut host, at(1 + number as u64 / 5000), &forged);
    }
    let why = "IKE_AUTH request 1 from 192.0.2.1:500 dropped: integrity check failed";
    let mut expected = vec![format!("{tag}: {why}"); 5];
    expected.push(format!("{tag}: {why} (4995 more suppressed)"));
    assert_eq!(host.lines, expected);
    assert_eq!(host.stats().integrity_errors, 10_000);
    // What is said of a peer that can be named is not held back by it.
    peer.secret = b"wrong".to_vec();
    let payloads = peer.auth_payloads();
    peer.ask(&mut host, at(2), ExchangeType::IKE_AUTH, &payloads.borrow());
    assert!(host.said("pre-shared key mismatch"));
}

#[test]
fn a_flood_of_first_requests_fills_the_house_to_its_mark_and_disturbs_nobody_inside() {
    let mut config = config([gateway()]);
    (
        config.settings.cookie_threshold,
        config.settings.half_open_max,
    ) = (20, 30);
    let mut host = Host::new(config, no_keys(), 2);
    let mut peers: Vec<Peer> = (1..=200).map(Peer::new).collect();
    let mut cookies = Vec::new();
    for (number, peer) in (0..).zip(&mut peers) {
        peer.path
            .local
            .set_ip(IpAddr::V4(Ipv4Addr::new(198, 51, 100, number)));
        let request = peer.sa_init(&[], &[]);
        let answers = peer.send(&mut host, at(0), &request);
        if number < 20 {
            peer.take_sa_init(&answers[0].bytes);
            continue;
        }
        assert!(answers[0].bytes.len() <= request.len());
        cookies.push(clear_notify(&answers[0]));
    }
    assert_eq!((host.endpoint.len(), host.stats().cookies_sent), (20, 180));
    // All of them are at their addresses: there is room for ten.
    let mut inside = 0;
    for (peer, (kind, cookie)) in peers[20..].iter_mut().zip(&cookies) {
        assert_eq!(*kind, NotifyType::COOKIE);
        let request = peer.sa_init(&[status(*kind, cookie)], &[]);
        inside += peer.send(&mut host, at(1), &request).len();
    }
    assert_eq!((inside, host.endpoint.len()), (10, 30));
    assert_eq!(host.stats().half_open_refused, 170);
    for peer in &mut peers[..20] {
        assert_eq!(peer.log_in(&mut host, at(2)).notifies(), []);
    }
    assert_eq!((host.stats().half_open, host.endpoint.len()), (10, 30));
    assert_eq!(host.wake(at(31)), []);
    assert_eq!((host.stats().half_open, host.endpoint.len()), (0, 20));
}

#[test]
fn a_cookie_of_another_is_answered_with_a_new_one() {
    let mut config = config([gateway()]);
    config.settings.cookie_threshold = 0;
    let mut host = Host::new(config, no_keys(), 2);
    let mut peer = Peer::new(1);
    let request = peer.sa_init(&[], &[]);
    let answers = peer.send(&mut host, at(0), &request);
    let (kind, cookie) = clear_notify(&answers[0]);
    let request = peer.sa_init(&[status(kind, &cookie)], &[]);
    // Right for its address, SPI and nonce, and for no other.
    let mut path = mirrored(peer.path);
    path.remote
        .set_ip(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)));
    let nonce_at = request
        .windows(32)
        .position(|part| part == peer.nonce_i)
        .unwrap();
    let others = [
        (path, request.clone()),
        (mirrored(peer.path), with(&request, 0, &[7; 8])),
        (mirrored(peer.path), with(&request, nonce_at, &[7; 32])),
    ];
    for (path, bytes) in others {
        let answers = host.receive(at(0), path, &bytes);
        assert_ne!(
            clear_notify(&answers[0]),
            (NotifyType::COOKIE, cookie.clone())
        );
        assert!(host.endpoint.is_empty());
    }
    assert_eq!(host.stats().cookies_wrong, 3);
    let last = peer.sa_init(&[], &[status(kind, &cookie)]);
    let answers = peer.send(&mut host, at(0), &last);
    assert_eq!(
        clear_notify(&answers[0]).0,
        NotifyType::COOKIE,
        "not the first payload"
    );
    let answers = peer.send(&mut host, at(0), &request);
    let message = Message::decode(&answers[0].bytes).unwrap();
    assert!(matches!(message.payloads[0], Payload::Sa(_)));
}
