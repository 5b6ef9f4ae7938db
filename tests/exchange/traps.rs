//! What the kernel knows better than IKE: that packets pass, and that some wait for a Child SA.

use iked::ike::Command;
use iked::kernel::{KernelEvent, Trap};
use iked::policy::{IfId, Policy, Selection};
use iked::wire::registry::ExchangeType;

use super::peer::Peer;
use super::setup::{self, GATEWAY, WARRIOR, config, end, flow, gateway, net, no_keys, warrior};
use super::world::{Host, Pair, Side, at};

/// A host with one IKE SA, whose peer says nothing any more.
fn served() -> Host {
    let mut host = Host::new(config([gateway()]), no_keys(), 2);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let auth = peer.auth_payloads();
    peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &auth.borrow());
    assert_eq!(host.stats().sa_established_current, 1);
    host
}

/// Lets time pass while packets pass; gives the seconds in which something was sent.
fn sends(host: &mut Host, seconds: u64, packets: impl Fn(u64) -> (u64, u64)) -> Vec<u64> {
    let mut sends = Vec::new();
    for second in 1..=seconds {
        host.kernel.packets = packets(second);
        sends.extend(host.wake(at(second)).iter().map(|_| second));
    }
    sends
}

#[test]
fn a_peer_that_gets_packets_and_sends_none_is_asked_within_two_intervals() {
    let mut host = served();
    let sent = sends(&mut host, 200, |second| (0, second));
    let first = *sent.first().unwrap();
    assert!((30..=120).contains(&first), "{sent:?}");
    // The retransmissions of this one question follow, and the end of it all.
    assert_eq!(host.stats().dpd_sent, 1);
    assert_eq!(host.stats().sa_established_current, 0);
}

#[test]
fn a_peer_whose_packets_come_in_is_never_asked() {
    let mut host = served();
    assert!(sends(&mut host, 1000, |second| (second, second)).is_empty());
    // Whoever only receives has as little to ask.
    let mut host = served();
    assert!(sends(&mut host, 1000, |second| (5000 + second, 9)).is_empty());
}

#[test]
fn packets_are_counted_once_in_an_interval_and_an_idle_peer_is_asked_after_300_seconds() {
    let mut host = served();
    // The handshake was the last that was heard of it.
    assert_eq!(sends(&mut host, 301, |_| (0, 0)), [300]);
    assert!(
        (5..=7).contains(&host.kernel.questions),
        "{}",
        host.kernel.questions
    );
    // Packets that came before the last look say nothing about now.
    let mut host = served();
    let sent = sends(&mut host, 500, |second| (second.min(61), 0));
    let first = *sent.first().unwrap();
    assert!((361..=421).contains(&first), "{sent:?}");
}

fn active(policy: Policy) -> Policy {
    Policy {
        active: true,
        ..policy
    }
}

fn traps_of(policy: Policy) -> Vec<Trap> {
    Host::new(config([policy]), no_keys(), 1).kernel.traps
}

#[test]
fn a_trap_stands_for_each_flow_of_an_active_policy_with_a_known_peer() {
    let mut policy = active(warrior());
    policy
        .flows
        .push(flow(end("10.3.3.3/16"), end("10.1.0.0/16")));
    // Twice the same is one.
    policy
        .flows
        .push(flow(end("10.3.0.0/16"), end("10.1.0.0/16")));
    let traps = traps_of(policy.clone());
    let locals: Vec<_> = traps.iter().map(|trap| trap.pair.local).collect();
    assert_eq!(locals, [net("10.2.0.0/16"), net("10.3.0.0/16")]);
    for trap in &traps {
        assert_eq!((trap.local, trap.remote), (WARRIOR, GATEWAY));
        assert_eq!(trap.pair.remote, net("10.1.0.0/16"));
    }
    let unbound = Policy {
        local: None,
        ..policy.clone()
    };
    assert!(traps_of(unbound)[0].local.is_unspecified());
    let without = [
        warrior(),
        Policy {
            selection: Selection::Skip,
            ..policy.clone()
        },
        Policy {
            peer: None,
            ..policy.clone()
        },
        Policy {
            peer: Some(net("192.0.2.0/24")),
            ..policy.clone()
        },
        Policy {
            flows: vec![flow(setup::leased(), end("10.1.0.0/16"))],
            ..policy.clone()
        },
        // Neighbour discovery would hit it, and no packet could leave for the peer.
        Policy {
            flows: vec![flow(end("fd00::/64"), end("::/0"))],
            ..policy
        },
    ];
    for policy in without {
        assert_eq!(traps_of(policy.clone()), [], "{policy:?}");
    }
}

#[test]
fn traps_follow_the_operator_and_go_at_shutdown() {
    let mut host = Host::new(config([active(warrior())]), no_keys(), 1);
    let count = |host: &mut Host, command| {
        host.command(at(0), command);
        host.kernel.traps.len()
    };
    assert_eq!(count(&mut host, Command::Active(false)), 0);
    assert_eq!(count(&mut host, Command::Active(true)), 1);
    assert_eq!(count(&mut host, Command::Couple(false)), 0);
    assert_eq!(count(&mut host, Command::Couple(true)), 1);
    let other = config([Policy {
        flows: vec![flow(end("10.2.0.0/16"), end("10.7.0.0/16"))],
        ..active(warrior())
    }]);
    host.endpoint
        .handle_config(at(1), std::sync::Arc::new(other));
    host.wake(at(1));
    assert_eq!(host.kernel.traps[0].pair.remote, net("10.7.0.0/16"));
    assert_eq!(count(&mut host, Command::Shutdown), 0);
}

/// The packet that waits is told of; gives how many datagrams follow.
fn hit(host: &mut Host, second: u64, trap: Trap) -> usize {
    let event = KernelEvent::Wanted { trap };
    host.endpoint.handle_kernel(at(second), event);
    host.wake(at(second)).len()
}

#[test]
fn a_packet_begins_the_ike_sa_once_and_again_only_after_a_pause() {
    let mut host = Host::new(config([active(warrior())]), no_keys(), 1);
    let trap = host.kernel.traps[0];
    let foreign = Trap { policy: 9, ..trap };
    assert_eq!(hit(&mut host, 0, foreign), 0);
    let stale = Trap {
        remote: WARRIOR,
        ..trap
    };
    assert_eq!(hit(&mut host, 0, stale), 0, "of another configuration");
    assert_eq!(hit(&mut host, 0, trap), 1);
    assert_eq!(hit(&mut host, 1, trap), 0, "one is under way");
    host.command(at(1), Command::ResetAll);
    assert_eq!(host.endpoint.len(), 0);
    assert_eq!(hit(&mut host, 1, trap), 0, "too soon");
    assert_eq!(host.wake(at(2)).len(), 1, "it begins by itself");
    host.command(at(3), Command::ResetAll);
    assert_eq!(hit(&mut host, 9, trap), 0);
    assert_eq!(hit(&mut host, 10, trap), 1);
    host.command(at(11), Command::Active(false));
    host.command(at(11), Command::ResetAll);
    assert_eq!(hit(&mut host, 60, trap), 0, "told to be passive");
}

#[test]
fn a_packet_brings_back_the_child_sa_that_the_peer_deleted() {
    let mut pair = Pair::new((active(warrior()), no_keys()), (gateway(), no_keys()));
    let trap = pair.initiator.kernel.traps[0];
    let now = pair.now();
    let event = KernelEvent::Wanted { trap };
    pair.initiator.endpoint.handle_kernel(now, event.clone());
    let sent = pair.initiator.wake(now);
    pair.run(Side::Initiator, sent);
    assert!(pair.is_up());
    // With the Child SA there the kernel may still tell of a packet from before.
    pair.initiator.endpoint.handle_kernel(now, event.clone());
    assert_eq!(pair.initiator.wake(now), []);
    let spi = pair.responder.kernel.holds()[0];
    let expire = KernelEvent::Expire { spi, hard: true };
    pair.responder.endpoint.handle_kernel(now, expire);
    let sent = pair.responder.wake(now);
    pair.run(Side::Responder, sent);
    assert_eq!(pair.initiator.kernel.holds(), []);
    pair.initiator.endpoint.handle_kernel(now, event.clone());
    let sent = pair.initiator.wake(now);
    assert_eq!(sent.len(), 1, "long before the policy is looked at again");
    pair.run(Side::Initiator, sent);
    assert_eq!(pair.initiator.kernel.holds().len(), 1);
    assert_eq!(pair.responder.kernel.holds().len(), 1);
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    // The IKE SA as well, though what remains of the old one still answers.
    pair.seconds = 11;
    let now = pair.now();
    let sent = pair.responder.command(now, Command::ResetSa);
    pair.run(Side::Responder, sent);
    assert_eq!(pair.initiator.stats().sa_established_current, 0);
    assert_eq!(pair.initiator.endpoint.len(), 1);
    pair.initiator.endpoint.handle_kernel(now, event);
    let sent = pair.initiator.wake(now);
    pair.run(Side::Initiator, sent);
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    assert_eq!(pair.initiator.kernel.holds().len(), 1);
}

#[test]
fn a_packet_for_a_flow_that_the_peer_left_out_asks_for_a_child_sa_of_its_own() {
    let mut policy = active(warrior());
    policy
        .flows
        .push(flow(end("10.2.0.0/16"), end("10.5.0.0/16")));
    let mut pair = Pair::new((policy, no_keys()), (gateway(), no_keys()));
    let [near, other] = pair.initiator.kernel.traps[..] else {
        panic!("two flows, two traps");
    };
    pair.connect();
    pair.pass_time(3);
    assert!(pair.is_up());
    let pairs = &pair.initiator.kernel.installed[0].names.selectors;
    assert_eq!(*pairs, [near.pair], "narrowed");
    let now = pair.now();
    let event = KernelEvent::Wanted { trap: other };
    pair.initiator.endpoint.handle_kernel(now, event);
    let sent = pair.initiator.wake(now);
    assert_eq!(sent.len(), 1);
    let before = pair.passed.len();
    pair.run(Side::Initiator, sent);
    // Refused, and that is the end of it: neither is asked again nor the IKE SA harmed.
    assert_eq!(pair.passed.len(), before + 2);
    assert!(
        pair.responder.said("CREATE_CHILD_SA: "),
        "{:?}",
        pair.responder.lines
    );
    assert_eq!(pair.initiator.kernel.installed.len(), 1);
    assert!(pair.is_up());
}

#[test]
fn an_xfrm_interface_stands_in_traps_and_child_sas_of_its_policy_alone() {
    let if_id = IfId::new(7);
    let through = |policy: Policy| Policy {
        if_id,
        offload: Some("eth0".to_owned()),
        ..policy
    };
    // Neighbour discovery does not go that way.
    let wide = Policy {
        flows: vec![flow(end("fd00::/64"), end("::/0"))],
        ..through(active(warrior()))
    };
    assert_eq!(traps_of(wide)[0].pair.if_id, if_id);
    let mut own = config([through(active(warrior()))]);
    own.settings.replay_window = 4096;
    let initiator = Host::new(own, no_keys(), 1);
    let responder = Host::new(config([gateway()]), no_keys(), 2);
    let mut pair = Pair::of(initiator, responder);
    let trap = pair.initiator.kernel.traps[0];
    let now = pair.now();
    let event = KernelEvent::Wanted { trap };
    pair.initiator.endpoint.handle_kernel(now, event.clone());
    let sent = pair.initiator.wake(now);
    pair.run(Side::Initiator, sent);
    assert_eq!(pair.initiator.stats().sa_established_current, 1);
    let [ours] = pair.initiator.kernel.installed.as_slice() else {
        panic!("one Child SA");
    };
    assert_eq!((ours.if_id, ours.names.selectors[0].if_id), (if_id, if_id));
    assert_eq!(ours.names.selectors[0], trap.pair);
    assert_eq!(ours.offload.as_deref(), Some("eth0"));
    assert_eq!(ours.replay_window, 4096);
    let theirs = &pair.responder.kernel.installed[0];
    assert_eq!(
        (theirs.if_id, theirs.names.selectors[0].if_id),
        (None, None)
    );
    assert_eq!(
        (theirs.offload.as_deref(), theirs.replay_window),
        (None, 128)
    );
    // The peer deletes it, and a packet that the interface sends brings it back.
    let spi = pair.responder.kernel.holds()[0];
    let expire = KernelEvent::Expire { spi, hard: true };
    pair.responder.endpoint.handle_kernel(now, expire);
    let sent = pair.responder.wake(now);
    pair.run(Side::Responder, sent);
    pair.initiator.endpoint.handle_kernel(now, event);
    let sent = pair.initiator.wake(now);
    pair.run(Side::Initiator, sent);
    let installed = &pair.initiator.kernel.installed;
    assert!(installed.len() > 1 && installed.iter().all(|child| child.if_id == if_id));
}
