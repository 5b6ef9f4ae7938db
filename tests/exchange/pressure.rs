//! A kernel that is late or refuses keeps new handshakes out, and nothing else.

use iked::policy::Policy;
use iked::wire::registry::{ExchangeType, NotifyType};

use super::peer::Peer;
use super::setup::{config, gateway, no_keys, warrior};
use super::world::{Host, Mood, at};

#[test]
fn a_late_kernel_keeps_new_handshakes_out_and_nothing_else() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let [mut up, mut waits, mut begun, mut late] = [1, 3, 4, 5].map(Peer::new);
    up.meet(&mut host, at(0));
    assert_eq!(up.log_in(&mut host, at(0)).notifies(), []);

    host.kernel.mood = Mood::Slow;
    waits.meet(&mut host, at(0));
    let payloads = waits.auth_payloads();
    let request = waits.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    assert_eq!(waits.send(&mut host, at(0), &request), []);
    // The kernel may still be as quick as ever.
    let first = begun.sa_init(&[], &[]);
    let answered = begun.send(&mut host, at(0), &first);
    begun.take_sa_init(&answered[0].bytes);

    let refused = late.sa_init(&[], &[]);
    for second in 1..5 {
        assert_eq!(late.send(&mut host, at(second), &refused), []);
        assert_eq!(host.stats().half_open_kernel, second);
    }
    assert!(host.said("dropped: the kernel is behind, 1 Child SAs wait"));
    assert_eq!(host.stats().half_open, 1, "no state was made");
    // What is up, and who has begun, is served.
    let alive = up.ask(&mut host, at(4), ExchangeType::INFORMATIONAL, &[]);
    assert_eq!(alive.notifies(), []);
    assert_eq!(begun.send(&mut host, at(4), &first), answered);
    let payloads = begun.auth_payloads();
    let request = begun.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
    assert_eq!(begun.send(&mut host, at(4), &request), []);
    assert_eq!(host.kernel.waiting.len(), 2, "it goes to the kernel too");

    assert_eq!(host.answer_kernel(at(5)).len(), 2);
    assert_eq!(host.stats().sa_established_current, 3);
    let answers = late.send(&mut host, at(5), &refused);
    late.take_sa_init(&answers[0].bytes);
    assert_eq!(host.stats().half_open_kernel, 4);
}

#[test]
fn a_kernel_without_room_is_given_no_more_than_64_handshakes_in_a_second() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    host.kernel.mood = Mood::Refusing;
    for seed in 1..=64 {
        let mut peer = Peer::new(seed);
        peer.meet(&mut host, at(0));
        let answer = peer.log_in(&mut host, at(0));
        assert_eq!(answer.notifies(), [NotifyType::TEMPORARY_FAILURE]);
    }
    let mut more = Peer::new(65);
    let request = more.sa_init(&[], &[]);
    assert_eq!(more.send(&mut host, at(0), &request), []);
    assert_eq!(host.stats().half_open_kernel, 1);
    host.kernel.mood = Mood::Willing;
    let answers = more.send(&mut host, at(1), &request);
    more.take_sa_init(&answers[0].bytes);
    assert_eq!(more.log_in(&mut host, at(1)).notifies(), []);
}

#[test]
fn nobody_begins_while_mail_for_the_kernel_finds_no_room() {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    host.endpoint.set_kernel_blocked(true);
    let mut peer = Peer::new(1);
    let request = peer.sa_init(&[], &[]);
    assert_eq!(peer.send(&mut host, at(0), &request), []);
    host.endpoint.set_kernel_blocked(false);
    assert_eq!(peer.send(&mut host, at(0), &request).len(), 1);
    assert_eq!(host.stats().half_open_kernel, 1);
}

#[test]
fn active_policies_begin_when_the_kernel_has_caught_up() {
    let policy = Policy {
        active: true,
        ..warrior()
    };
    let mut host = Host::new(config([policy]), no_keys(), 1);
    host.endpoint.set_kernel_blocked(true);
    for second in 0..30 {
        assert_eq!(host.wake(at(second)), []);
    }
    host.endpoint.set_kernel_blocked(false);
    let begun = (30..33).any(|second| !host.wake(at(second)).is_empty());
    assert!(begun && host.endpoint.len() == 1);
}
