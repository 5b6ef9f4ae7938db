//! What happens to an IKE SA that is up: liveness, Deletes from both sides, new addresses, new
//! contacts, commands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iked::ike::{Command, Event, News, Reply};
use iked::kernel::KernelEvent;
use iked::policy::Policy;
use iked::wire::registry::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use iked::wire::spi::EspSpi;
use iked::wire::{Delete, Payload};

use super::peer::{AuthPayloads, Peer, range};
use super::setup::{self, config, gateway, no_keys, warrior};
use super::world::{Host, Mood, Pair, Side, at, mirrored};

const DELETE_IKE: Payload<'static> = Payload::Delete(Delete {
    protocol: ProtocolId::IKE,
    spi_size: 0,
    spis: &[],
});

fn delete_esp(spis: &[u8]) -> Payload<'_> {
    Payload::Delete(Delete {
        protocol: ProtocolId::ESP,
        spi_size: 4,
        spis,
    })
}

fn pair() -> Pair {
    let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    pair
}

fn host() -> Host {
    Host::new(config([gateway()]), no_keys(), 2)
}

fn logged_in(host: &mut Host, seed: u8) -> Peer {
    let mut peer = Peer::new(seed);
    peer.meet(host, at(0));
    assert_eq!(peer.log_in(host, at(0)).notifies(), []);
    peer
}

/// Nothing is left of any SA, here or in the kernel.
fn assert_empty(host: &Host) {
    let stats = host.stats();
    assert!(host.endpoint.is_empty());
    assert!(host.kernel.holds().is_empty());
    assert_eq!(stats.sa_established_current, 0);
    assert_eq!((stats.half_open, stats.leases), (0, 0));
    assert_eq!(stats.csa_created, stats.csa_removed);
    assert_eq!(stats.sa_created, stats.sa_removed);
    assert_eq!(host.endpoint.poll_timeout(), None);
}

#[test]
fn a_silent_peer_is_probed_and_stays_when_it_answers() {
    let mut pair = pair();
    pair.pass_time(1000);
    assert!(pair.is_up());
    let [initiator, responder] = [pair.initiator.stats(), pair.responder.stats()];
    // Whoever probes first has heard the other by the answer, and the other by the question.
    assert_eq!(initiator.dpd_sent + responder.dpd_sent, 3);
    assert_eq!(
        (initiator.retransmit_request, responder.retransmit_request),
        (0, 0)
    );
}

#[test]
fn a_dead_peer_is_given_up_after_126_seconds_of_retransmissions() {
    let policy = setup::pool_gateway("10.8.0.0/24");
    let mut host = Host::new(config([policy]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let mut payloads = peer.auth_payloads();
    payloads.ask_address = true;
    payloads.ts_i = vec![range("0.0.0.0", "255.255.255.255")];
    peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads.borrow());
    assert_eq!(host.stats().leases, 1);
    let mut sends = Vec::new();
    for second in 1..426 {
        let sent = host.wake(at(second));
        sends.extend(sent.into_iter().map(|datagram| (second, datagram)));
    }
    let times: Vec<_> = sends.iter().map(|(second, _)| *second).collect();
    let about = [
        300..=300,
        302..=303,
        305..=308,
        313..=318,
        327..=336,
        355..=372,
    ];
    assert_eq!(times.len(), about.len());
    for (range, second) in about.iter().zip(&times) {
        assert!(range.contains(second), "{second} is not in {range:?}");
    }
    assert!(sends.iter().all(|(_, datagram)| *datagram == sends[0].1));
    assert_eq!(host.stats().sa_established_current, 1);
    assert_eq!(host.wake(at(426)), []);
    assert_empty(&host);
    assert_eq!(host.stats().retransmit_limit, 1);
    assert_eq!(host.stats().sa_established_failures, 0);
}

#[test]
fn an_active_policy_begins_after_two_seconds_and_again_when_its_ike_sa_is_gone() {
    let active = Policy {
        active: true,
        ..warrior()
    };
    let mut pair = Pair::new((active, no_keys()), (gateway(), no_keys()));
    pair.pass_time(1);
    assert!(pair.passed.is_empty());
    pair.pass_time(2);
    assert!(pair.is_up());
    pair.pass_time(200);
    assert!(pair.is_up(), "once is enough");
    let now = pair.now();
    let deletes = pair.responder.command(now, Command::ResetSa);
    pair.run(Side::Responder, deletes);
    assert_eq!(pair.initiator.stats().sa_established_current, 0);
    pair.pass_time(200 + 80);
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    assert_eq!(pair.responder.stats().sa_established_current, 1);
    // Not while told to be passive.
    let now = pair.now();
    pair.initiator.command(now, Command::Active(false));
    let deletes = pair.responder.command(now, Command::ResetSa);
    pair.run(Side::Responder, deletes);
    pair.pass_time(500);
    assert_eq!(pair.initiator.stats().sa_established_current, 0);
}

/// The addresses that the initiator sent to since then.
fn sent_to(pair: &Pair, from: usize) -> Vec<String> {
    let passed = pair.passed[from..].iter();
    let ours = passed.filter(|(side, _)| *side == Side::Initiator);
    ours.map(|(_, datagram)| datagram.path.remote.ip().to_string())
        .collect()
}

#[test]
fn a_redirect_is_followed_and_the_old_ike_sa_deleted() {
    let mut pair = pair();
    let before = pair.passed.len();
    let now = pair.now();
    let to = "192.0.2.99".parse().unwrap();
    let sent = pair.responder.command(now, Command::Redirect(to));
    assert_eq!(sent.len(), 1);
    pair.run(Side::Responder, sent);
    // Acknowledged, then deleted; the new one goes to the other gateway.
    let sent = sent_to(&pair, before);
    assert!(sent.contains(&"192.0.2.99".to_owned()), "{sent:?}");
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    assert!(
        pair.initiator
            .said("redirected from 192.0.2.2 to 192.0.2.99")
    );
    assert!(pair.responder.said("received delete, closing SA"));
}

#[test]
fn a_second_redirect_on_the_same_ike_sa_begins_nothing() {
    let mut pair = pair();
    let now = pair.now();
    for to in ["192.0.2.98", "192.0.2.99"] {
        let to = to.parse().unwrap();
        let sent = pair.responder.command(now, Command::Redirect(to));
        let (_, answers) = pair.give(Side::Responder, &sent[0]);
        // The answer arrives, the Delete that follows it does not.
        pair.give(Side::Initiator, &answers[0]);
    }
    let followed = pair.initiator.lines.iter();
    let followed = followed.filter(|line| line.contains("redirected from"));
    assert_eq!(followed.count(), 1);
}

#[test]
fn redirects_in_a_circle_end() {
    let mut pair = pair();
    for round in 0..8u8 {
        pair.pass_time(pair.seconds + 2);
        let now = pair.now();
        let to = std::net::IpAddr::from([198, 51, 100, round]);
        let sent = pair.responder.command(now, Command::Redirect(to));
        pair.run(Side::Responder, sent);
    }
    let followed = pair.initiator.lines.iter();
    let followed = followed.filter(|line| line.contains("redirected from"));
    assert_eq!(followed.count(), 5);
    assert!(pair.initiator.said("redirected too often"));
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
}

#[test]
fn a_peer_without_child_sa_is_let_in_and_can_still_have_one() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let mut childless = payloads.borrow();
    childless.retain(|p| !matches!(p, Payload::Sa(_) | Payload::TsI(_) | Payload::TsR(_)));
    let opened = peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &childless);
    assert_eq!(opened.notifies(), []);
    assert!(opened.has(PayloadType::AUTH) && !opened.has(PayloadType::SA));
    assert_eq!(host.stats().sa_established_current, 1);
    assert_eq!(host.stats().csa_created, 0);
    let nonce = [7; 32];
    let mut child = payloads.borrow();
    child.retain(|p| matches!(p, Payload::Sa(_) | Payload::TsI(_) | Payload::TsR(_)));
    child.push(Payload::Nonce(&nonce));
    let opened = peer.ask(&mut host, at(1), ExchangeType::CREATE_CHILD_SA, &child);
    assert_eq!(opened.notifies(), []);
    assert_eq!(host.kernel.holds().len(), 1);
}

#[test]
fn dpd_can_be_turned_off() {
    let mut config = config([gateway()]);
    config.settings.dpd_check_interval = Duration::ZERO;
    let mut host = Host::new(config, no_keys(), 2);
    logged_in(&mut host, 1);
    // All that is left to do is to forget the last answer.
    assert_eq!(host.wake(at(301)), []);
    assert_eq!(host.endpoint.poll_timeout(), None);
    assert_eq!(host.wake(at(100_000)), []);
    assert_eq!(host.stats().sa_established_current, 1);
}

/// A host that lets an authentication count for this many seconds, and asks nobody whether he lives.
fn impatient(lifetime: u64, seed: u8) -> Host {
    let mut config = config([gateway()]);
    config.settings.auth_lifetime = Duration::from_secs(lifetime);
    config.settings.dpd_check_interval = Duration::ZERO;
    Host::new(config, no_keys(), seed)
}

#[test]
fn a_responder_says_how_long_an_authentication_counts_and_ends_what_is_older() {
    let mut host = impatient(300, 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let opened = peer.log_in(&mut host, at(0));
    let said = opened
        .payloads()
        .into_iter()
        .find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind == NotifyType::AUTH_LIFETIME => {
                Some(notify.data.to_vec())
            }
            _ => None,
        });
    assert_eq!(said, Some(300u32.to_be_bytes().to_vec()));
    assert_eq!(host.wake(at(299)), []);
    let sent = host.wake(at(300));
    assert_eq!(sent.len(), 1);
    assert!(peer.open(&sent[0].bytes).has(PayloadType::DELETE));
    assert_eq!(host.stats().sa_established_current, 0);
}

#[test]
fn whoever_began_authenticates_again_before_the_responder_ends_it_rekeys_or_not() {
    for ike_lifetime in [0, 40] {
        let mut client = warrior();
        client.ike_lifetime = Duration::from_secs(ike_lifetime);
        let client = Host::new(config([client]), no_keys(), 1);
        let mut pair = Pair::of(client, impatient(300, 2));
        pair.connect();
        for moment in (10..=900).step_by(10) {
            pair.pass_time(moment);
            for host in [&pair.initiator, &pair.responder] {
                let up = host.stats().sa_established_current;
                assert!(up > 0 && !host.kernel.installed.is_empty(), "at {moment} s");
            }
        }
        assert!(pair.responder.stats().sa_established_total > 3);
        assert!(pair.initiator.said("authenticating again"));
        // Those before went by the initiator's Delete, in time.
        assert!(
            !pair.responder.said("sent delete"),
            "{:?}",
            pair.responder.lines
        );
    }
}

#[test]
fn an_empty_informational_is_answered_empty() {
    let mut host = host();
    let mut peer = logged_in(&mut host, 1);
    for second in 1..5 {
        let answer = peer.ask(&mut host, at(second), ExchangeType::INFORMATIONAL, &[]);
        assert_eq!(answer.payloads(), []);
        assert_eq!(u64::from(answer.header.message_id), second + 1);
    }
}

#[test]
fn a_deleted_child_sa_is_answered_with_its_other_half_and_gone() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let ours = peer.log_in(&mut host, at(0)).esp_spi();
    let spi = peer.esp_spi;
    let payloads = [delete_esp(&spi)];
    let opened = peer.ask(&mut host, at(1), ExchangeType::INFORMATIONAL, &payloads);
    assert_eq!(opened.payloads(), [delete_esp(&ours)]);
    assert!(host.kernel.holds().is_empty());
    assert_eq!(host.stats().csa_removed, 2);
    assert_eq!(host.stats().sa_established_current, 1);
    // Twice is once, and an SPI of nobody is nothing.
    for spi in [spi, [9; 4], [0; 4]] {
        let payloads = [delete_esp(&spi)];
        let opened = peer.ask(&mut host, at(2), ExchangeType::INFORMATIONAL, &payloads);
        assert_eq!(opened.payloads(), []);
    }
    assert_eq!(host.stats().csa_removed, 2);
    assert_eq!(host.kernel.removed.len(), 1);
}

#[test]
fn a_delete_of_our_own_inbound_spi_is_not_the_peers_to_make() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let ours = peer.log_in(&mut host, at(0)).esp_spi();
    let payloads = [delete_esp(&ours)];
    let opened = peer.ask(&mut host, at(1), ExchangeType::INFORMATIONAL, &payloads);
    assert_eq!(opened.payloads(), []);
    assert_eq!(host.kernel.holds().len(), 1);
}

#[test]
fn a_peers_delete_of_the_ike_sa_is_answered_empty_and_all_is_gone() {
    let mut host = host();
    let mut peer = logged_in(&mut host, 1);
    let request = peer.seal(ExchangeType::INFORMATIONAL, &[DELETE_IKE]);
    let first = peer.send(&mut host, at(1), &request);
    assert_eq!(peer.open(&first[0].bytes).payloads(), []);
    assert!(host.kernel.holds().is_empty());
    assert_eq!(host.stats().sa_established_current, 0);
    // Its repetition still gets the answer; then the SA is forgotten.
    assert_eq!(peer.send(&mut host, at(3), &request), first);
    assert_eq!(host.stats().retransmit_response, 1);
    host.wake(at(11));
    assert_empty(&host);
}

#[test]
fn a_peer_that_keeps_talking_after_its_delete_does_not_keep_the_ike_sa() {
    let mut host = host();
    let mut peer = logged_in(&mut host, 1);
    for second in 1..11 {
        peer.ask(
            &mut host,
            at(second),
            ExchangeType::INFORMATIONAL,
            &[DELETE_IKE],
        );
    }
    host.wake(at(11));
    assert_empty(&host);
}

#[test]
fn a_probe_of_ours_does_not_outlive_the_peers_delete() {
    let mut host = host();
    let mut peer = logged_in(&mut host, 1);
    assert_eq!(host.wake(at(300)).len(), 1);
    peer.ask(
        &mut host,
        at(301),
        ExchangeType::INFORMATIONAL,
        &[DELETE_IKE],
    );
    for second in 302..311 {
        assert_eq!(host.wake(at(second)), []);
    }
    host.wake(at(311));
    assert_empty(&host);
}

#[test]
fn our_delete_empties_both_sides() {
    for side in [Side::Initiator, Side::Responder] {
        let mut pair = pair();
        let now = pair.now();
        let sent = pair.host(side).command(now, Command::ResetSa);
        assert_eq!(sent.len(), 1);
        assert!(matches!(
            pair.host(side).replies.pop(),
            Some(Reply::Done { count: 1 })
        ));
        pair.run(side, sent);
        assert_empty(pair.host(side));
        pair.pass_time(11);
        assert_empty(&pair.initiator);
        assert_empty(&pair.responder);
    }
}

#[test]
fn both_sides_may_delete_at_once() {
    let mut pair = pair();
    let now = pair.now();
    let from_initiator = pair.initiator.command(now, Command::ResetSa);
    let from_responder = pair.responder.command(now, Command::ResetSa);
    pair.run(Side::Initiator, from_initiator);
    pair.run(Side::Responder, from_responder);
    pair.pass_time(11);
    assert_empty(&pair.initiator);
    assert_empty(&pair.responder);
}

#[test]
fn a_delete_that_is_never_answered_is_repeated_and_then_forgotten() {
    let mut host = host();
    logged_in(&mut host, 1);
    let first = host.command(at(1), Command::ResetSa);
    assert!(host.kernel.holds().is_empty());
    let mut again = Vec::new();
    for second in 2..12 {
        again.extend(host.wake(at(second)));
    }
    assert_eq!(again, [first.clone(), first].concat());
    assert_empty(&host);
}

#[test]
fn reset_all_says_nothing_to_anybody() {
    let mut host = host();
    logged_in(&mut host, 1);
    Peer::new(2).meet(&mut host, at(0));
    assert_eq!(host.command(at(1), Command::ResetAll), []);
    assert_empty(&host);
}

#[test]
fn reset_id_deletes_the_ike_sas_of_that_identity_only() {
    let mut host = host();
    for (seed, name) in [(1, "alice"), (2, "bob"), (3, "alice")] {
        let mut peer = Peer::new(seed);
        peer.id = setup::fqdn(name);
        peer.meet(&mut host, at(0));
        peer.log_in(&mut host, at(0));
    }
    let sent = host.command(at(1), Command::ResetId("FQDN/alice".to_owned()));
    assert_eq!(sent.len(), 2);
    assert!(matches!(host.replies.pop(), Some(Reply::Done { count: 2 })));
    assert_eq!(host.stats().sa_established_current, 1);
    let left: Vec<_> = host
        .show(at(20))
        .into_iter()
        .filter(|l| l.contains("ESTAB"))
        .collect();
    assert!(left.len() == 1 && left[0].contains("FQDN/bob"), "{left:?}");
}

#[test]
fn shutdown_tells_every_peer_and_leaves_the_kernel_clean() {
    let mut host = host();
    for seed in 1..=3 {
        logged_in(&mut host, seed);
    }
    Peer::new(9).meet(&mut host, at(0));
    assert_eq!(host.command(at(1), Command::Shutdown).len(), 3);
    assert_empty(&host);
}

#[test]
fn show_sa_comes_in_chunks_and_names_everything() {
    let mut host = host();
    for seed in 1..=100 {
        let mut peer = Peer::new(seed);
        peer.id = setup::fqdn(&format!("peer{seed}"));
        peer.meet(&mut host, at(0));
        peer.log_in(&mut host, at(0));
    }
    host.command(at(1), Command::ShowSa { json: false });
    host.wake(at(1));
    assert!(matches!(
        host.replies.pop(),
        Some(Reply::Text { more: true, .. })
    ));
    host.wake(at(1));
    assert!(matches!(
        host.replies.pop(),
        Some(Reply::Text { more: false, .. })
    ));
    let shown = host.show(at(1));
    assert_eq!(shown.len(), 500);
    let heads: Vec<_> = shown.iter().filter(|l| l.starts_with("iked_sas")).collect();
    assert_eq!(heads.len(), 100);
    assert!(heads.is_sorted(), "by responder SPI");
    assert!(
        heads
            .iter()
            .any(|l| l.contains("<FQDN/peer57>") && l.contains("ESTABLISHED r"))
    );
}

fn with_initial_contact(peer: &Peer) -> AuthPayloads {
    let mut payloads = peer.auth_payloads();
    payloads.notifies = vec![NotifyType::INITIAL_CONTACT];
    payloads
}

#[test]
fn initial_contact_drops_the_older_ike_sa_of_the_same_identity_only() {
    let mut host = host();
    let mut old = logged_in(&mut host, 1);
    let mut other = Peer::new(2);
    other.id = setup::fqdn("other.example");
    other.meet(&mut host, at(0));
    other.log_in(&mut host, at(0));
    let mut new = Peer::new(3);
    new.meet(&mut host, at(1));
    let payloads = with_initial_contact(&new);
    let opened = new.ask(&mut host, at(1), ExchangeType::IKE_AUTH, &payloads.borrow());
    assert_eq!(opened.notifies(), []);
    assert_eq!(host.endpoint.len(), 2);
    assert_eq!(host.kernel.holds().len(), 2);
    for peer in [&mut other, &mut new] {
        let alive = peer.ask(&mut host, at(2), ExchangeType::INFORMATIONAL, &[]);
        assert_eq!(alive.payloads(), []);
    }
    let request = old.seal(ExchangeType::INFORMATIONAL, &[]);
    old.send(&mut host, at(2), &request);
    assert_eq!(host.stats().unknown_spi, 1);
    // The other shards are told.
    let told = host.events.iter().find_map(|event| match event {
        Event::News(News::InitialContact {
            identity, except, ..
        }) => Some((identity.to_string(), *except)),
        Event::Log { .. } | Event::News(_) => None,
    });
    assert_eq!(
        told,
        Some(("FQDN/warrior.example".to_owned(), new.spi_r.unwrap()))
    );
}

#[test]
fn initial_contact_of_an_impostor_drops_nothing() {
    let mut host = host();
    let mut old = logged_in(&mut host, 1);
    let mut impostor = Peer::new(2);
    impostor.secret = b"guess".to_vec();
    impostor.meet(&mut host, at(1));
    let payloads = with_initial_contact(&impostor);
    impostor.ask(&mut host, at(1), ExchangeType::IKE_AUTH, &payloads.borrow());
    let alive = old.ask(&mut host, at(2), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(alive.payloads(), []);
    assert!(host.events.iter().all(|e| matches!(e, Event::Log { .. })));
}

#[test]
fn initial_contact_waits_for_the_kernel_like_the_answer() {
    let mut host = host();
    logged_in(&mut host, 1);
    host.kernel.mood = Mood::Slow;
    let mut new = Peer::new(2);
    new.meet(&mut host, at(1));
    let payloads = with_initial_contact(&new);
    let request = new.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    new.send(&mut host, at(1), &request);
    assert_eq!(host.endpoint.len(), 2);
    host.answer_kernel(at(2));
    assert_eq!(host.endpoint.len(), 1);
    assert_eq!(host.stats().sa_established_current, 1);
}

#[test]
fn without_initial_contact_a_peer_may_have_two_ike_sas_unless_forbidden() {
    for (single, expected) in [(false, 2), (true, 1)] {
        let mut config = config([gateway()]);
        config.settings.enforce_single_ike_sa = single;
        let mut host = Host::new(config, no_keys(), 2);
        logged_in(&mut host, 1);
        logged_in(&mut host, 2);
        assert_eq!(host.stats().sa_established_current, expected);
        assert_eq!(host.kernel.holds().len() as u64, expected);
    }
}

#[test]
fn a_contact_in_another_shard_drops_the_ike_sa_here() {
    let mut host = host();
    logged_in(&mut host, 1);
    let elsewhere = iked::steer::tag_spi(77, iked::steer::ShardId(1));
    let contact = |name, since: u64| News::InitialContact {
        identity: setup::fqdn(name),
        except: elsewhere,
        since: at(since).mono,
    };
    host.endpoint
        .handle_news(at(1), contact("somebody.else", 1));
    assert_eq!(host.endpoint.len(), 1);
    host.wake(at(1));
    host.endpoint
        .handle_news(at(1), contact("warrior.example", 1));
    host.wake(at(1));
    assert_empty(&host);
}

fn behind_nat(port_shift: u16) -> impl Fn(SocketAddr) -> SocketAddr {
    move |inside| SocketAddr::new([203, 0, 113, 7].into(), inside.port() + port_shift)
}

#[test]
fn an_ike_auth_request_that_a_stranger_repeats_does_not_lead_the_child_sa_to_it() {
    let mut host = host();
    let mut peer = Peer::new(1);
    // Its NAT detection fits: nothing translates its address.
    let path = mirrored(peer.path);
    let spis = (peer.spi_i, None);
    let provider = iked::crypto::boring::provider();
    let hash = |address| iked::ike::natt::hash(&provider, spis.0, spis.1, address);
    let hashes = [hash(path.remote), hash(path.local)];
    peer.meet_with(&mut host, at(0), &iked::ike::natt::notifications(&hashes));
    let payloads = peer.auth_payloads();
    let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    let mut elsewhere = path;
    elsewhere.remote = "198.51.100.66:500".parse().unwrap();
    host.receive(at(0), elsewhere, &request);
    let installed = &host.kernel.installed;
    assert_eq!(installed[0].names.remote, path.remote.ip());
    // The peer's own request gets the answer again, and the IKE SA is where the peer is.
    let answers = host.receive(at(0), path, &request);
    assert_eq!(answers[0].path, path);
    assert!(host.show(at(0))[0].contains("->192.0.2.1:500<"));
}

#[test]
fn a_new_nat_mapping_is_followed_after_authentication_only() {
    // MOBIKE has its own way (tests/exchange/mobike.rs).
    let host = |policy, seed| {
        let mut config = config([policy]);
        config.settings.mobike = false;
        Host::new(config, no_keys(), seed)
    };
    let mut pair = Pair::of(host(warrior(), 1), host(gateway(), 2));
    pair.nat = Some(|inside| behind_nat(10_000)(inside));
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    let where_it_is = |pair: &mut Pair| pair.responder.show(at(0))[0].clone();
    assert!(where_it_is(&mut pair).contains("->203.0.113.7:14500<"));
    // A probe, seen by somebody who forges and replays from elsewhere.
    let probe = (1..)
        .find_map(|second| {
            let sent = pair.initiator.wake(at(second));
            // Keepalives of one byte come before it.
            sent.into_iter().find(|datagram| datagram.bytes.len() > 1)
        })
        .unwrap();
    let mut elsewhere = mirrored(probe.path);
    elsewhere.remote = "198.51.100.66:4500".parse().unwrap();
    let mut forged = probe.bytes.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(pair.responder.receive(at(400), elsewhere, &forged), []);
    assert!(where_it_is(&mut pair).contains("->203.0.113.7:14500<"));
    // The true one, through a new mapping.
    pair.nat = Some(|inside| behind_nat(20_000)(inside));
    let (_, answers) = pair.give(Side::Initiator, &probe);
    assert_eq!(answers[0].path.remote.port(), 24_500);
    // The Child SA comes along, once.
    let moved = &pair.responder.kernel.moved;
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].1.encap.unwrap().remote_port, 24_500);
    assert_eq!(moved[0].1.remote, std::net::IpAddr::from([203, 0, 113, 7]));
    assert!(where_it_is(&mut pair).contains("->203.0.113.7:24500<"));
    // Its replay from elsewhere gets the cached answer at most and moves nothing.
    pair.responder.receive(at(401), elsewhere, &probe.bytes);
    assert!(where_it_is(&mut pair).contains("->203.0.113.7:24500<"));
    assert_eq!(pair.responder.kernel.moved.len(), 1);
}

#[test]
fn without_a_nat_an_answer_goes_back_where_the_request_came_from_and_the_path_stays() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    peer.log_in(&mut host, at(0));
    let request = peer.seal(ExchangeType::INFORMATIONAL, &[]);
    let mut path = mirrored(peer.path);
    path.remote = "198.51.100.66:500".parse().unwrap();
    let answers = host.receive(at(1), path, &request);
    assert_eq!(answers[0].path, path);
    assert!(host.show(at(1))[0].contains("->192.0.2.1:500<"));
}

#[test]
fn a_child_sa_that_the_kernel_expired_is_deleted_and_the_peer_told() {
    let mut pair = pair();
    let spi = pair.responder.kernel.installed[0].names.inbound_spi;
    let now = pair.now();
    let endpoint = &mut pair.responder.endpoint;
    for hard in [true, false] {
        let spi = EspSpi::MAX;
        endpoint.handle_kernel(now, KernelEvent::Expire { spi, hard });
    }
    assert_eq!(pair.responder.wake(now), []);
    let expire = KernelEvent::Expire { spi, hard: true };
    pair.responder.endpoint.handle_kernel(now, expire);
    let sent = pair.responder.wake(now);
    assert_eq!(sent.len(), 1);
    pair.run(Side::Responder, sent);
    assert!(pair.responder.kernel.holds().is_empty());
    assert!(pair.initiator.kernel.holds().is_empty());
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    assert_eq!(pair.responder.stats().sa_established_current, 1);
    assert_eq!(pair.responder.stats().csa_removed, 2);
}

#[test]
fn a_child_sa_that_expires_while_a_request_is_out_is_deleted_after_its_answer() {
    let mut host = host();
    let mut peer = logged_in(&mut host, 1);
    let sent = host.wake(at(300));
    let probe = peer.open(&sent[0].bytes);
    let spi = host.kernel.installed[0].names.inbound_spi;
    let expire = KernelEvent::Expire { spi, hard: true };
    host.endpoint.handle_kernel(at(301), expire);
    assert_eq!(host.wake(at(301)), []);
    assert!(host.kernel.holds().is_empty());
    let mut header = probe.header;
    header.flags.initiator = true;
    header.flags.response = true;
    let answer = peer.seal_as(&header, &[]);
    let sent = peer.send(&mut host, at(302), &answer);
    let opened = peer.open(&sent[0].bytes);
    assert_eq!(opened.payloads(), [delete_esp(&spi.to_bytes())]);
}

#[test]
fn a_new_configuration_counts_for_new_ike_sas() {
    let mut host = host();
    let mut old = logged_in(&mut host, 1);
    let policy = Policy {
        auth: setup::psk(b"changed"),
        ..gateway()
    };
    host.endpoint
        .handle_config(at(1), Arc::new(config([policy])));
    let mut peer = Peer::new(2);
    peer.meet(&mut host, at(1));
    let opened = peer.log_in(&mut host, at(1));
    assert_eq!(opened.notifies(), [NotifyType::AUTHENTICATION_FAILED]);
    let mut peer = Peer::new(3);
    peer.secret = b"changed".to_vec();
    peer.meet(&mut host, at(1));
    assert!(peer.log_in(&mut host, at(1)).has(PayloadType::AUTH));
    let alive = old.ask(&mut host, at(2), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(alive.payloads(), []);
}
