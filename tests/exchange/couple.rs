//! `ikectl couple` and `decouple`: what becomes of the Child SAs that there are.

use std::sync::Arc;
use std::time::Duration;

use iked::ike::{Command, Reply};
use iked::kernel::ChildInstall;
use iked::policy::Policy;

use super::setup::{config, gateway, no_keys, warrior};
use super::world::{Host, Mood, Pair, Side};

/// Two hosts that have an IKE SA and load nothing.
fn decoupled() -> Pair {
    let host = |policy, seed| {
        let mut config = config([policy]);
        config.settings.couple = false;
        Host::new(config, no_keys(), seed)
    };
    let lasting = |policy: Policy| Policy {
        child_lifetime: Duration::from_secs(3600),
        ..policy
    };
    let mut pair = Pair::of(host(lasting(warrior()), 1), host(lasting(gateway()), 2));
    pair.connect();
    for host in [&pair.initiator, &pair.responder] {
        assert_eq!(host.stats().sa_established_current, 1);
    }
    pair
}

fn tell(pair: &mut Pair, side: Side, command: Command) -> Reply {
    let now = pair.now();
    let sent = pair.host(side).command(now, command);
    let reply = pair.host(side).replies.pop().unwrap();
    pair.run(side, sent);
    reply
}

fn only(host: &Host) -> ChildInstall {
    let [install] = host.kernel.installed.as_slice() else {
        panic!("{:?}", host.kernel.installed)
    };
    install.clone()
}

#[test]
fn child_sas_of_a_decoupled_time_are_loaded_with_the_keys_that_were_agreed() {
    let mut pair = decoupled();
    pair.seconds = 1000;
    for side in [Side::Initiator, Side::Responder] {
        assert!(pair.host(side).kernel.installed.is_empty());
        let reply = tell(&mut pair, side, Command::Couple(true));
        assert!(matches!(reply, Reply::Done { count: 1 }), "{reply:?}");
    }
    let (ours, theirs) = (only(&pair.initiator), only(&pair.responder));
    assert_eq!(ours.names.inbound_spi, theirs.names.outbound_spi);
    let (sent, taken) = (&ours.keys.outbound_encr, &theirs.keys.inbound_encr);
    assert_eq!(sent.expose(), taken.expose());
    let (sent, taken) = (&theirs.keys.outbound_encr, &ours.keys.inbound_encr);
    assert_eq!(sent.expose(), taken.expose());
    assert!(!sent.expose().is_empty() && ours.keys.outbound_encr.expose() != sent.expose());
    // What is left of an hour.
    assert_eq!(ours.lifetime_hard, Duration::from_secs(2600));
    assert!(ours.lifetime_soft < ours.lifetime_hard && !ours.lifetime_soft.is_zero());
    assert!(!ours.receive_only);
    let now = pair.now();
    let shown = pair.responder.show(now);
    assert!(shown.iter().any(|line| line.contains("(LA)")), "{shown:?}");
    // They are what is removed in the end.
    tell(&mut pair, Side::Responder, Command::ResetSa);
    for host in [&pair.initiator, &pair.responder] {
        assert!(host.kernel.holds().is_empty());
        assert_eq!(host.kernel.removed.len(), 1);
    }
}

#[test]
fn a_kernel_that_is_not_there_is_an_error_and_nothing_changes() {
    let mut pair = decoupled();
    pair.responder.kernel.mood = Mood::Refusing;
    let reply = tell(&mut pair, Side::Responder, Command::Couple(true));
    assert!(matches!(reply, Reply::Failed(why) if why == "no ESP here"));
    assert!(pair.responder.said("not coupled: no ESP here"));
    tell(&mut pair, Side::Initiator, Command::ResetSa);
    pair.connect();
    assert_eq!(pair.responder.stats().sa_established_current, 1);
    assert_eq!(
        pair.responder.stats().kernel_failures,
        0,
        "it was not asked"
    );
    // The keys are there for another try.
    pair.responder.kernel.mood = Mood::Willing;
    let reply = tell(&mut pair, Side::Responder, Command::Couple(true));
    assert!(matches!(reply, Reply::Done { count: 1 }));
    assert_eq!(pair.responder.kernel.holds().len(), 1);
}

#[test]
fn what_was_decoupled_leaves_the_kernel_and_comes_back_with_other_keys() {
    let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    pair.connect();
    let before = pair.responder.kernel.holds();
    assert_eq!(before.len(), 1);
    let reply = tell(&mut pair, Side::Responder, Command::Couple(false));
    assert!(matches!(reply, Reply::Done { count: 1 }));
    assert!(pair.responder.kernel.holds().is_empty());
    assert_eq!(pair.responder.stats().sa_established_current, 1);
    let reply = tell(&mut pair, Side::Responder, Command::Couple(true));
    assert!(matches!(reply, Reply::Done { count: 1 }));
    // By a rekey, in which nothing is only for receiving: there is no older one that sends.
    for host in [&pair.initiator, &pair.responder] {
        let [now] = host.kernel.holds()[..] else {
            panic!("{:?}", host.kernel.holds())
        };
        assert!(!before.contains(&now));
    }
    assert_eq!(
        pair.initiator.kernel.holds().len() + pair.initiator.kernel.removed.len(),
        pair.initiator.kernel.installed.len()
    );
}

#[test]
fn one_that_the_kernel_refuses_is_replaced_soon() {
    let mut pair = decoupled();
    pair.responder.kernel.mood = Mood::Slow;
    tell(&mut pair, Side::Responder, Command::Couple(true));
    let [id] = pair.responder.kernel.waiting[..] else {
        panic!("{:?}", pair.responder.kernel.waiting)
    };
    pair.responder.kernel.waiting.clear();
    let error = iked::kernel::KernelError {
        errno: 12,
        action: "add SA",
    };
    let failed = iked::kernel::KernelEvent::Failed { id, error };
    let now = pair.now();
    pair.responder.endpoint.handle_kernel(now, failed);
    pair.responder.kernel.mood = Mood::Willing;
    pair.responder.wake(now);
    assert!(pair.responder.said("not loaded: add SA: "));
    pair.responder.kernel.installed.clear();
    pair.pass_time(600);
    let loaded = pair.responder.kernel.installed.last();
    let loaded = loaded.map(|child| child.names.inbound_spi);
    assert!(pair.responder.kernel.holds().contains(&loaded.unwrap()));
}

#[test]
fn a_configuration_couples_and_decouples_too() {
    let mut pair = decoupled();
    let now = pair.now();
    let coupled = config([gateway()]);
    let mut decoupled = config([gateway()]);
    decoupled.settings.couple = false;
    pair.responder
        .endpoint
        .handle_config(now, Arc::new(coupled));
    pair.responder.wake(now);
    assert_eq!(pair.responder.kernel.holds().len(), 1);
    pair.responder
        .endpoint
        .handle_config(now, Arc::new(decoupled));
    pair.responder.wake(now);
    assert!(pair.responder.kernel.holds().is_empty());
}
