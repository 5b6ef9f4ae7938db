//! Addresses that move: MOBIKE in both roles, with and without NAT, mappings that the kernel saw, and
//! whatever must move nobody (RFC 4555; RFC 7296, 2.23).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use iked::ike::{Command, Path};
use iked::kernel::{Encap, KernelEvent};
use iked::policy::Policy;
use iked::wire::registry::{ExchangeType, NotifyType};
use iked::wire::{Flags, Header, Payload};

use super::peer::{Opened, Peer, status};
use super::setup::{GATEWAY, WARRIOR, config, gateway, net, no_keys, warrior};
use super::world::{Datagram, Host, Mood, Pair, Side, agree, at, mirrored};

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
const AFTERWARDS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 8));

fn host(policy: Policy, seed: u8, mobike: bool) -> Host {
    let mut config = config([policy]);
    config.settings.mobike = mobike;
    Host::new(config, no_keys(), seed)
}

fn pair(mobike: [bool; 2]) -> Pair {
    Pair::of(host(warrior(), 1, mobike[0]), host(gateway(), 2, mobike[1]))
}

fn up() -> Pair {
    let mut pair = pair([true; 2]);
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    pair
}

fn up_behind_nat(mobike: [bool; 2]) -> Pair {
    let mut pair = pair(mobike);
    pair.nat = Some(|inside| through_nat(10_000, inside));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    pair
}

fn through_nat(shift: u16, inside: SocketAddr) -> SocketAddr {
    SocketAddr::new([203, 0, 113, 7].into(), inside.port() + shift)
}

/// The warrior's address changes.
fn change(pair: &mut Pair, old: IpAddr, new: IpAddr) -> Vec<Datagram> {
    let now = pair.now();
    let towards = Some(GATEWAY);
    let command = Command::LocalAddress { old, new, towards };
    pair.initiator.command(now, command)
}

/// Where the packets of the host's Child SAs come from and go to.
fn outer(host: &Host) -> Vec<(IpAddr, IpAddr)> {
    let held = host.kernel.holds();
    let all = host.kernel.installed.iter();
    let held = all.filter(|child| held.contains(&child.names.inbound_spi));
    held.map(|child| (child.names.local, child.names.remote))
        .collect()
}

/// A gateway with one MOBIKE peer made by hand.
fn logged_in(policy: Policy) -> (Host, Peer) {
    logged_in_with(policy, &[])
}

/// The same with more payloads in its IKE_SA_INIT request.
fn logged_in_with(policy: Policy, init: &[Payload<'_>]) -> (Host, Peer) {
    let mut host = host(policy, 2, true);
    let mut peer = Peer::new(1);
    peer.meet_with(&mut host, at(0), init);
    let mut auth = peer.auth_payloads();
    auth.notifies.push(NotifyType::MOBIKE_SUPPORTED);
    let answer = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &auth.borrow());
    assert_eq!(answer.notifies(), [NotifyType::MOBIKE_SUPPORTED]);
    assert_eq!(outer(&host), [(GATEWAY, WARRIOR)]);
    (host, peer)
}

fn from(peer: &mut Peer, address: IpAddr) -> Path {
    peer.path.local.set_ip(address);
    mirrored(peer.path)
}

fn update(peer: &mut Peer, more: &[Payload<'_>]) -> Vec<u8> {
    let mut payloads = vec![status(NotifyType::UPDATE_SA_ADDRESSES, &[])];
    payloads.extend_from_slice(more);
    peer.seal(INFORMATIONAL, &payloads)
}

fn answer(peer: &mut Peer, request: &Opened, payloads: &[Payload<'_>]) -> Vec<u8> {
    let header = peer.header(request.header.exchange, request.header.message_id);
    let header = Header {
        flags: Flags {
            response: true,
            ..header.flags
        },
        ..header
    };
    peer.seal_as(&header, payloads)
}

fn cookie(message: &Opened) -> Vec<u8> {
    let payloads = message.payloads();
    let cookie = payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == NotifyType::COOKIE2 => Some(notify.data),
        _ => None,
    });
    cookie.expect("a COOKIE2").to_vec()
}

/// Answers the gateway's check as the peer should.
fn show_presence(host: &mut Host, peer: &mut Peer, check: &Datagram) -> Vec<Datagram> {
    let check = peer.open(&check.bytes);
    assert_eq!(check.notifies(), [NotifyType::COOKIE2]);
    let cookie = cookie(&check);
    let answer = answer(peer, &check, &[status(NotifyType::COOKIE2, &cookie)]);
    let path = mirrored(peer.path);
    host.receive(at(2), path, &answer)
}

#[test]
fn it_is_agreed_only_where_both_want_it() {
    for mobike in [[true, true], [true, false], [false, true], [false, false]] {
        let mut pair = pair(mobike);
        pair.connect();
        assert!(pair.is_up());
        // RFC 4555, 3.3: who does it changes to 4500 with IKE_AUTH.
        let port = if mobike[0] { 4500 } else { 500 };
        assert_eq!(pair.passed[2].1.path.remote.port(), port);
        assert_eq!(pair.passed[2].1.path.marker, mobike[0]);
        let sent = change(&mut pair, WARRIOR, ELSEWHERE);
        assert_eq!(!sent.is_empty(), mobike == [true; 2], "{mobike:?}");
    }
}

#[test]
fn an_initiator_takes_its_child_sa_along() {
    let mut pair = up();
    let sent = change(&mut pair, WARRIOR, ELSEWHERE);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].path.local, SocketAddr::new(ELSEWHERE, 4500));
    let (_, back) = pair.give(Side::Initiator, &sent[0]);
    let [response, check] = back.as_slice() else {
        panic!("{back:?}")
    };
    // Nothing of the Child SA has moved before the other side has shown that it is there.
    assert_eq!(outer(&pair.initiator), [(WARRIOR, GATEWAY)]);
    assert_eq!(outer(&pair.responder), [(GATEWAY, WARRIOR)]);
    assert_eq!(check.path.remote.ip(), ELSEWHERE);
    pair.give(Side::Responder, response);
    assert_eq!(outer(&pair.initiator), [(ELSEWHERE, GATEWAY)]);
    assert_eq!(outer(&pair.responder), [(GATEWAY, WARRIOR)]);
    let (_, shown) = pair.give(Side::Responder, check);
    pair.run(Side::Initiator, shown);
    assert_eq!(outer(&pair.responder), [(GATEWAY, ELSEWHERE)]);
    let line = "ikev2_update_sa_addresses: old 192.0.2.1:4500 new 198.51.100.7:4500";
    assert!(pair.initiator.said(line) && pair.responder.said(line));
    assert_eq!(pair.initiator.stats().update_addresses_sent, 1);
    assert!(pair.initiator.kernel.installed[0].encap.is_none());
    assert!(agree(
        &pair.initiator.kernel.installed[0],
        &pair.responder.kernel.installed[0]
    ));
    // What they say from now on goes there, and the end is a clean one.
    let sent = pair.responder.command(at(3), Command::ResetSa);
    assert_eq!(sent[0].path.remote.ip(), ELSEWHERE);
    pair.run(Side::Responder, sent);
    assert_eq!(outer(&pair.initiator), []);
    assert_eq!(outer(&pair.responder), []);
}

#[test]
fn one_ike_sa_is_moved_and_ended_by_its_spi() {
    for tell in [true, false] {
        let mut pair = up();
        let spi = pair.initiator.endpoint.ike_sas().next().unwrap().own_spi;
        let other = iked::wire::spi::IkeSpi::new(spi.value() ^ 1).unwrap();
        let now = pair.now();
        let endpoint = &mut pair.initiator.endpoint;
        assert!(!endpoint.move_ike_sa(now, other, ELSEWHERE));
        assert!(!endpoint.end_ike_sa(now, other, tell));
        assert!(endpoint.move_ike_sa(now, spi, ELSEWHERE));
        let sent = pair.initiator.wake(now);
        assert_eq!(sent[0].path.local, SocketAddr::new(ELSEWHERE, 4500));
        pair.run(Side::Initiator, sent);
        assert_eq!(outer(&pair.responder), [(GATEWAY, ELSEWHERE)]);
        assert!(pair.initiator.endpoint.end_ike_sa(now, spi, tell));
        let sent = pair.initiator.wake(now);
        assert_eq!(sent.len(), usize::from(tell));
        pair.run(Side::Initiator, sent);
        assert!(pair.initiator.endpoint.ike_sa(spi).is_none());
        assert_eq!(outer(&pair.responder).is_empty(), tell);
    }
}

#[test]
fn a_change_before_the_answer_counts_and_the_answer_does_not() {
    let mut pair = up();
    let first = change(&mut pair, WARRIOR, ELSEWHERE);
    let second = change(&mut pair, ELSEWHERE, AFTERWARDS);
    assert_eq!(second, [], "one request at a time");
    pair.run(Side::Initiator, first);
    assert_eq!(outer(&pair.initiator), [(AFTERWARDS, GATEWAY)]);
    pair.pass_time(10);
    assert_eq!(outer(&pair.responder), [(GATEWAY, AFTERWARDS)]);
    assert_eq!(
        pair.initiator.kernel.moved.len(),
        1,
        "not to the place between"
    );
}

#[test]
fn it_outlives_a_rekey_of_the_ike_sa_by_either_side() {
    for side in [Side::Initiator, Side::Responder] {
        let make = |policy: Policy, rekeys: bool, seed| {
            let ike_lifetime = Duration::from_secs(if rekeys { 100 } else { 0 });
            host(
                Policy {
                    ike_lifetime,
                    ..policy
                },
                seed,
                true,
            )
        };
        let mut pair = Pair::of(
            make(warrior(), side == Side::Initiator, 1),
            make(gateway(), side == Side::Responder, 2),
        );
        pair.connect();
        pair.pass_time(97);
        assert_eq!(pair.host(side).stats().sa_rekeyed, 1);
        let sent = change(&mut pair, WARRIOR, ELSEWHERE);
        assert_eq!(sent.len(), 1, "{side:?}");
        pair.run(Side::Initiator, sent);
        assert_eq!(outer(&pair.initiator), [(ELSEWHERE, GATEWAY)]);
        assert_eq!(outer(&pair.responder), [(GATEWAY, ELSEWHERE)]);
    }
}

#[test]
fn into_a_nat_and_out_of_it() {
    let mut pair = up();
    // The new address is behind a NAT, which the answer tells.
    pair.nat = Some(|inside| through_nat(10_000, inside));
    let sent = change(&mut pair, WARRIOR, ELSEWHERE);
    pair.run(Side::Initiator, sent);
    let encap = |host: &Host| host.kernel.installed[0].encap;
    let seen = |local_port, remote_port| {
        Some(Encap {
            local_port,
            remote_port,
        })
    };
    assert_eq!(encap(&pair.initiator), seen(4500, 4500));
    assert_eq!(encap(&pair.responder), seen(4500, 14_500));
    assert_eq!(outer(&pair.responder)[0].1, IpAddr::from([203, 0, 113, 7]));
    assert!(!pair.initiator.wake(at(25)).is_empty(), "keepalives");
    pair.seconds = 30;
    pair.nat = None;
    let sent = change(&mut pair, ELSEWHERE, WARRIOR);
    pair.run(Side::Initiator, sent);
    assert_eq!(
        (encap(&pair.initiator), encap(&pair.responder)),
        (None, None)
    );
    assert_eq!(outer(&pair.responder), [(GATEWAY, WARRIOR)]);
    assert_eq!(pair.initiator.wake(at(60)), [], "no keepalives");
}

#[test]
fn a_nat_that_forgot_is_noticed_by_the_initiator() {
    let mut pair = up_behind_nat([true; 2]);
    // How the gateway sees it is not known before the first answer about it.
    pair.pass_time(310);
    assert_eq!(pair.initiator.stats().update_addresses_sent, 1);
    pair.pass_time(1000);
    assert_eq!(pair.initiator.stats().update_addresses_sent, 1);
    assert_eq!(pair.responder.kernel.moved, []);
    pair.nat = Some(|inside| through_nat(20_000, inside));
    pair.pass_time(1310);
    assert_eq!(pair.initiator.stats().update_addresses_sent, 2);
    let encap = pair.responder.kernel.installed[0].encap.unwrap();
    assert_eq!(encap.remote_port, 24_500);
    assert_eq!(pair.responder.kernel.moved.len(), 1);
    assert_eq!(pair.initiator.kernel.moved.len(), 0);
}

#[test]
fn with_mobike_no_other_message_moves_anybody() {
    let mut pair = up_behind_nat([true; 2]);
    let spi = pair.initiator.kernel.holds()[0];
    let now = pair.now();
    let expire = KernelEvent::Expire { spi, hard: true };
    pair.initiator.endpoint.handle_kernel(now, expire);
    let delete = pair.initiator.wake(now);
    pair.nat = Some(|inside| through_nat(20_000, inside));
    let (_, answers) = pair.give(Side::Initiator, &delete[0]);
    assert_eq!(answers[0].path.remote.port(), 24_500, "the answer alone");
    let shown = &pair.responder.show(now)[0];
    assert!(shown.contains("->203.0.113.7:14500<"), "{shown}");
}

#[test]
fn a_request_in_a_dead_mapping_is_sent_where_the_peer_was_seen() {
    let mut pair = up_behind_nat([true; 2]);
    let lost = begin_rekey(&mut pair, Side::Responder);
    assert_eq!(lost[0].path.remote.port(), 14_500);
    pair.nat = Some(|inside| through_nat(20_000, inside));
    pair.seconds = 1;
    assert_eq!(pair.responder.wake(at(1)), []);
    let request = begin_rekey(&mut pair, Side::Initiator);
    let (_, answers) = pair.give(Side::Initiator, &request[0]);
    assert_eq!(answers[0].path.remote.port(), 24_500);
    let again = pair.responder.wake(at(1));
    assert_eq!(again[0].bytes, lost[0].bytes);
    assert_eq!(again[0].path.remote.port(), 24_500);
    // RFC 4555, 3.8: that moves nothing, and the next send tries where the IKE SA is.
    let sa = pair.responder.endpoint.ike_sas().next().unwrap();
    assert_eq!(sa.path.remote.port(), 14_500);
    assert_eq!(pair.responder.kernel.moved, []);
    let (_, answers) = pair.give(Side::Responder, &again[0]);
    pair.give(Side::Initiator, &answers[0]);
    let sa = pair.responder.endpoint.ike_sas().next().unwrap();
    assert!(sa.window.outstanding().is_none_or(|o| o.id > 0));
}

#[test]
fn a_request_all_sends_of_which_were_lost_is_sent_where_the_peer_is_seen_at_last() {
    let mut pair = up_behind_nat([true; 2]);
    let lost = begin_rekey(&mut pair, Side::Responder);
    for after in [3, 8, 18, 36, 75] {
        let again = pair.responder.wake(at(after));
        assert_eq!(again.len(), 1, "after {after} s");
        assert_eq!(again[0].path.remote.port(), 14_500);
    }
    pair.nat = Some(|inside| through_nat(20_000, inside));
    pair.seconds = 120;
    let request = begin_rekey(&mut pair, Side::Initiator);
    // Its NAT keepalive goes before it, and says nothing.
    for datagram in &request {
        pair.give(Side::Initiator, datagram);
    }
    let again = pair.responder.wake(at(120));
    assert_eq!(again[0].bytes, lost[0].bytes);
    assert_eq!(again[0].path.remote.port(), 24_500);
    assert_eq!(
        pair.responder.wake(at(127)),
        [],
        "and has time to be answered"
    );
    let (_, answers) = pair.give(Side::Responder, &again[0]);
    pair.give(Side::Initiator, &answers[0]);
    let sa = pair.responder.endpoint.ike_sas().next().unwrap();
    assert!(sa.window.outstanding().is_none_or(|o| o.id > 0));
}

#[test]
fn a_request_sent_twice_already_goes_first_where_the_peer_is_seen() {
    let mut pair = up_behind_nat([true; 2]);
    begin_rekey(&mut pair, Side::Responder);
    assert_eq!(pair.responder.wake(at(3)).len(), 1);
    pair.nat = Some(|inside| through_nat(20_000, inside));
    pair.seconds = 4;
    let request = begin_rekey(&mut pair, Side::Initiator);
    pair.give(Side::Initiator, &request[0]);
    let ports = [4, 13, 31].map(|second| pair.responder.wake(at(second))[0].path.remote.port());
    assert_eq!(ports, [24_500, 14_500, 24_500]);
}

/// The Child SA of this side comes to the end of its lifetime.
fn begin_rekey(pair: &mut Pair, side: Side) -> Vec<Datagram> {
    let now = pair.now();
    let host = pair.host(side);
    let spi = host.kernel.holds()[0];
    let expire = KernelEvent::Expire { spi, hard: false };
    host.endpoint.handle_kernel(now, expire);
    host.wake(now)
}

#[test]
fn an_ike_sa_init_answer_from_elsewhere_is_none() {
    let mut pair = pair([true; 2]);
    let request = pair.initiate();
    let (_, answer) = pair.give(Side::Initiator, &request[0]);
    // Sent on by somebody, it would make the initiator see a NAT before the gateway.
    let mut path = mirrored(answer[0].path);
    path.remote.set_ip(ELSEWHERE);
    let now = pair.now();
    assert_eq!(pair.initiator.receive(now, path, &answer[0].bytes), []);
    path.remote = SocketAddr::new(GATEWAY, 501);
    assert_eq!(pair.initiator.receive(now, path, &answer[0].bytes), []);
    pair.run(Side::Responder, answer);
    assert!(pair.is_up());
    assert_eq!(pair.initiator.kernel.installed[0].encap, None);
    assert_eq!(pair.responder.kernel.installed[0].encap, None);
}

#[test]
fn esp_from_a_new_mapping_moves_a_peer_behind_a_nat_and_no_other() {
    let remote: SocketAddr = "203.0.113.7:24500".parse().unwrap();
    let tell = |host: &mut Host| {
        let spi = host.kernel.holds()[0];
        let event = KernelEvent::Mapping { spi, remote };
        for _ in 0..3 {
            host.endpoint.handle_kernel(at(1), event.clone());
        }
        host.wake(at(1));
    };
    for mobike in [false, true] {
        let mut pair = up_behind_nat([mobike; 2]);
        tell(&mut pair.responder);
        assert_eq!(pair.responder.kernel.moved.len(), 1);
        let encap = pair.responder.kernel.installed[0].encap.unwrap();
        assert_eq!(encap.remote_port, 24_500);
        let shown = &pair.responder.show(at(1))[0];
        assert!(shown.contains("->203.0.113.7:24500<"), "{shown}");
        // The one behind the NAT stays with the gateway it knows.
        tell(&mut pair.initiator);
        assert_eq!(pair.initiator.kernel.moved, []);
    }
    let mut pair = up();
    tell(&mut pair.responder);
    assert_eq!(pair.responder.kernel.moved, []);
}

#[test]
fn a_child_sa_on_its_way_into_the_kernel_is_moved_too() {
    let mut pair = up_behind_nat([true; 2]);
    pair.responder.kernel.mood = Mood::Slow;
    let spi = pair.responder.kernel.holds()[0];
    let now = pair.now();
    let expire = KernelEvent::Expire { spi, hard: false };
    pair.responder.endpoint.handle_kernel(now, expire);
    let request = pair.responder.wake(now);
    pair.run(Side::Responder, request);
    assert_eq!(pair.responder.kernel.waiting.len(), 1);
    let remote = "203.0.113.7:24500".parse().unwrap();
    let event = KernelEvent::Mapping { spi, remote };
    pair.responder.endpoint.handle_kernel(now, event);
    pair.responder.wake(now);
    assert_eq!(pair.responder.kernel.moved.len(), 2);
    pair.nat = Some(|inside| through_nat(20_000, inside));
    let delete = pair.responder.answer_kernel(now);
    pair.run(Side::Responder, delete);
    pair.pass_time(pair.seconds + 1);
    assert_eq!(pair.responder.kernel.holds().len(), 1);
    assert_eq!(outer(&pair.responder).len(), 1);
    let sent = pair.responder.command(now, Command::ResetSa);
    pair.run(Side::Responder, sent);
    assert_eq!(outer(&pair.responder), []);
}

#[test]
fn a_responder_answers_checks_and_then_moves() {
    let (mut host, mut peer) = logged_in(gateway());
    let secret = [7; 20];
    let request = update(&mut peer, &[status(NotifyType::COOKIE2, &secret)]);
    let path = from(&mut peer, ELSEWHERE);
    let sent = host.receive(at(1), path, &request);
    let [response, check] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!((response.path, check.path), (path, path));
    let opened = peer.open(&response.bytes);
    assert_eq!(opened.notifies(), [NotifyType::COOKIE2]);
    assert_eq!(cookie(&opened), secret);
    assert_eq!(outer(&host), [(GATEWAY, WARRIOR)]);
    show_presence(&mut host, &mut peer, check);
    assert_eq!(outer(&host), [(GATEWAY, ELSEWHERE)]);
    assert!(host.said("ikev2_update_sa_addresses: old 192.0.2.1:500 new 198.51.100.7:500"));
    // An update that changes nothing is answered and nothing else.
    let request = update(&mut peer, &[]);
    assert_eq!(host.receive(at(3), path, &request).len(), 1);
    assert_eq!(host.kernel.moved.len(), 1);
}

#[test]
fn the_check_speaks_of_nats_where_the_peer_does() {
    let nats = [
        NotifyType::NAT_DETECTION_SOURCE_IP,
        NotifyType::NAT_DETECTION_DESTINATION_IP,
    ];
    let (mut host, mut peer) = logged_in_with(gateway(), &nats.map(|kind| status(kind, &[0; 20])));
    let request = update(&mut peer, &[]);
    let path = from(&mut peer, ELSEWHERE);
    let sent = host.receive(at(1), path, &request);
    let check = peer.open(&sent[1].bytes);
    assert_eq!(
        check.notifies(),
        [&nats[..], &[NotifyType::COOKIE2]].concat()
    );
    let cookie = cookie(&check);
    let proof = answer(&mut peer, &check, &[status(NotifyType::COOKIE2, &cookie)]);
    host.receive(at(2), path, &proof);
    assert_eq!(outer(&host), [(GATEWAY, ELSEWHERE)]);
}

#[test]
fn a_peer_that_cannot_show_its_presence_is_closed() {
    for wrong in [Some([0; 16]), None] {
        let (mut host, mut peer) = logged_in(gateway());
        let request = update(&mut peer, &[]);
        let path = from(&mut peer, ELSEWHERE);
        let sent = host.receive(at(1), path, &request);
        let check = peer.open(&sent[1].bytes);
        let wrong = wrong
            .as_ref()
            .map(|wrong| status(NotifyType::COOKIE2, wrong));
        let lie = answer(&mut peer, &check, wrong.as_slice());
        host.receive(at(2), path, &lie);
        assert_eq!(outer(&host), []);
        assert_eq!(host.stats().sa_established_current, 0);
        assert!(host.said("COOKIE2 was not returned"));
    }
}

#[test]
fn what_is_forged_or_comes_again_moves_nobody() {
    let (mut host, mut peer) = logged_in(gateway());
    let request = update(&mut peer, &[]);
    let path = from(&mut peer, ELSEWHERE);
    let mut forged = request.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(host.receive(at(1), path, &forged), []);
    assert!(host.show(at(1))[0].contains("->192.0.2.1:500<"));
    let sent = host.receive(at(1), path, &request);
    show_presence(&mut host, &mut peer, &sent[1]);
    // Once more, from where an attacker wants the stream to go.
    let replayed = Path {
        remote: SocketAddr::new(AFTERWARDS, 500),
        ..path
    };
    let answers = host.receive(at(3), replayed, &request);
    assert_eq!(answers.len(), 1, "the cached answer");
    assert_eq!(answers[0].bytes, sent[0].bytes);
    let next = peer.seal(INFORMATIONAL, &[]);
    host.receive(at(4), path, &next);
    assert_eq!(host.receive(at(5), replayed, &request), []);
    assert_eq!(outer(&host), [(GATEWAY, ELSEWHERE)]);
    assert!(host.show(at(5))[0].contains("->198.51.100.7:500<"));
}

#[test]
fn without_agreement_an_update_is_only_answered() {
    let mut host = host(gateway(), 2, true);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    peer.log_in(&mut host, at(0));
    let request = update(&mut peer, &[]);
    let path = from(&mut peer, ELSEWHERE);
    let sent = host.receive(at(1), path, &request);
    assert_eq!(sent.len(), 1);
    assert_eq!(peer.open(&sent[0].bytes).notifies(), []);
    assert!(host.show(at(1))[0].contains("->192.0.2.1:500<"));
    assert_eq!(host.kernel.moved, []);
}

#[test]
fn addresses_that_the_policy_does_not_have_are_refused() {
    let policy = Policy {
        peer: Some(net("192.0.2.0/24")),
        ..gateway()
    };
    let (mut host, mut peer) = logged_in(policy);
    let request = update(&mut peer, &[]);
    let path = from(&mut peer, ELSEWHERE);
    let sent = host.receive(at(1), path, &request);
    assert_eq!(sent.len(), 1);
    let opened = peer.open(&sent[0].bytes);
    assert_eq!(opened.notifies(), [NotifyType::UNACCEPTABLE_ADDRESSES]);
    assert!(host.show(at(1))[0].contains("->192.0.2.1:500<"));
    let near = "192.0.2.99".parse().unwrap();
    let request = update(&mut peer, &[]);
    let path = from(&mut peer, near);
    let sent = host.receive(at(2), path, &request);
    show_presence(&mut host, &mut peer, &sent[1]);
    assert_eq!(outer(&host), [(GATEWAY, near)]);
}

#[test]
fn an_initiator_that_is_refused_stays_where_it_was() {
    let policy = Policy {
        peer: Some(net("192.0.2.0/24")),
        ..gateway()
    };
    let mut pair = Pair::of(host(warrior(), 1, true), host(policy, 2, true));
    pair.connect();
    let sent = change(&mut pair, WARRIOR, ELSEWHERE);
    pair.run(Side::Initiator, sent);
    assert!(
        pair.initiator
            .said("update to 198.51.100.7:4500: UNACCEPTABLE_ADDRESSES")
    );
    assert_eq!(outer(&pair.initiator), [(WARRIOR, GATEWAY)]);
    assert_eq!(outer(&pair.responder), [(GATEWAY, WARRIOR)]);
    let sent = pair.initiator.command(at(1), Command::ResetSa);
    assert_eq!(sent[0].path.local.ip(), WARRIOR);
}

/// The content of NO_NATS_ALLOWED.
fn no_nats(source: IpAddr) -> Vec<u8> {
    let mut data = Vec::new();
    for address in [source, GATEWAY] {
        let IpAddr::V4(v4) = address else { continue };
        data.extend(v4.octets());
    }
    data.extend([500u16.to_be_bytes(), 500u16.to_be_bytes()].concat());
    data
}

#[test]
fn a_nat_that_the_peer_forbids_is_told_and_nothing_moves() {
    let (mut host, mut peer) = logged_in(gateway());
    let path = from(&mut peer, ELSEWHERE);
    // Its address is another on the way here.
    let claimed = no_nats(AFTERWARDS);
    let request = update(&mut peer, &[status(NotifyType::NO_NATS_ALLOWED, &claimed)]);
    let sent = host.receive(at(1), path, &request);
    assert_eq!(sent.len(), 1);
    let opened = peer.open(&sent[0].bytes);
    assert_eq!(opened.notifies(), [NotifyType::UNEXPECTED_NAT_DETECTED]);
    assert!(host.show(at(1))[0].contains("->192.0.2.1:500<"));
    let claimed = no_nats(ELSEWHERE);
    let request = update(&mut peer, &[status(NotifyType::NO_NATS_ALLOWED, &claimed)]);
    let sent = host.receive(at(2), path, &request);
    show_presence(&mut host, &mut peer, &sent[1]);
    assert_eq!(outer(&host), [(GATEWAY, ELSEWHERE)]);
}

#[test]
fn a_nat_that_the_peer_forbids_ends_ike_auth() {
    for (claimed, good) in [(no_nats(WARRIOR), true), (no_nats(ELSEWHERE), false)] {
        let mut host = host(gateway(), 2, true);
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let auth = peer.auth_payloads();
        let mut payloads = auth.borrow();
        payloads.push(status(NotifyType::NO_NATS_ALLOWED, &claimed));
        let answer = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads);
        let refused = answer.notifies() == [NotifyType::UNEXPECTED_NAT_DETECTED];
        assert_eq!((refused, outer(&host).len()), (!good, usize::from(good)));
    }
}

#[test]
fn the_later_of_two_updates_wins() {
    let (mut host, mut peer) = logged_in(gateway());
    let first = update(&mut peer, &[]);
    let path = from(&mut peer, ELSEWHERE);
    let sent = host.receive(at(1), path, &first);
    let check = sent[1].clone();
    let second = update(&mut peer, &[]);
    let path = from(&mut peer, AFTERWARDS);
    let sent = host.receive(at(1), path, &second);
    assert_eq!(sent.len(), 1, "one request at a time");
    // The check was sent to the first place: its answer tells nothing of the second.
    let again = show_presence(&mut host, &mut peer, &check);
    assert_eq!(outer(&host), [(GATEWAY, WARRIOR)]);
    assert_eq!(again[0].path.remote.ip(), AFTERWARDS);
    show_presence(&mut host, &mut peer, &again[0]);
    assert_eq!(outer(&host), [(GATEWAY, AFTERWARDS)]);
    assert_eq!(host.kernel.moved.len(), 1);
}

#[test]
fn an_update_waits_for_no_request_of_the_other_side() {
    let (mut host, mut peer) = logged_in(gateway());
    let probe = host.wake(at(300));
    assert_eq!(probe.len(), 1);
    // The probe is lost; the peer is elsewhere and says so.
    let request = update(&mut peer, &[]);
    let path = from(&mut peer, ELSEWHERE);
    let sent = host.receive(at(301), path, &request);
    assert_eq!(sent.len(), 1);
    // It is sent again, to where the peer is now, and its answer is no proof.
    let again = host.wake(at(302));
    assert_eq!(again[0].bytes, probe[0].bytes);
    assert_eq!(again[0].path.remote.ip(), ELSEWHERE);
    let opened = peer.open(&again[0].bytes);
    let alive = answer(&mut peer, &opened, &[]);
    let check = host.receive(at(303), path, &alive);
    assert_eq!(outer(&host), [(GATEWAY, WARRIOR)]);
    show_presence(&mut host, &mut peer, &check[0]);
    assert_eq!(outer(&host), [(GATEWAY, ELSEWHERE)]);
}
