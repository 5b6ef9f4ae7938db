//! Selectors that the other end has another view of: behind a NAT in transport mode (RFC 7296,
//! 2.23.1), and where it takes one pair at a time (2.9).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use iked::auth::store::CredentialStore;
use iked::kernel::{KernelEvent, SelectorPair};
use iked::policy::Policy;

use super::setup::{end, flow, gateway, net, no_keys, warrior};
use super::world::{Pair, Side};

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

fn in_transport(policy: Policy, from: &str, to: &str) -> (Policy, CredentialStore) {
    let flows = vec![flow(end(from), end(to))];
    let policy = Policy {
        transport: true,
        flows,
        ..policy
    };
    (policy, no_keys())
}

/// Local and remote selectors of the Child SA that came last, of both ends.
fn seen(pair: &Pair) -> [[String; 2]; 2] {
    [&pair.initiator, &pair.responder].map(|host| {
        let names = &host.kernel.installed.last().unwrap().names;
        assert!(names.transport);
        assert_eq!(names.selectors.len(), 1);
        let selectors = names.selectors[0];
        [selectors.local.to_string(), selectors.remote.to_string()]
    })
}

#[test]
fn transport_mode_behind_a_nat_has_the_addresses_that_packets_have_at_each_end() {
    let mut pair = Pair::new(
        in_transport(warrior(), "192.0.2.1/32", "192.0.2.2/32"),
        in_transport(gateway(), "192.0.2.2/32", "0.0.0.0/0"),
    );
    pair.nat = Some(|inside| SocketAddr::new(OUTSIDE, inside.port() + 10_000));
    pair.connect();
    let wanted = [
        ["192.0.2.1/32", "192.0.2.2/32"],
        ["192.0.2.2/32", "203.0.113.7/32"],
    ];
    assert_eq!(
        pair.responder.kernel.installed.len(),
        1,
        "{:?}",
        pair.responder.lines
    );
    assert_eq!(
        pair.initiator.kernel.installed.len(),
        1,
        "{:?}",
        pair.initiator.lines
    );
    assert_eq!(seen(&pair), wanted);
    // Either end rekeys and names what it sees.
    for side in [Side::Initiator, Side::Responder] {
        let now = pair.now();
        let host = pair.host(side);
        let before = host.kernel.installed.len();
        let spi = *host.kernel.holds().last().unwrap();
        let event = KernelEvent::Expire { spi, hard: false };
        host.endpoint.handle_kernel(now, event);
        let request = host.wake(now);
        pair.run(side, request);
        assert_eq!(pair.host(side).kernel.installed.len(), before + 1);
        assert_eq!(seen(&pair), wanted);
    }
}

#[test]
fn in_tunnel_mode_behind_a_nat_the_selectors_are_what_they_are() {
    let mut policies = [
        in_transport(warrior(), "192.0.2.1/32", "192.0.2.2/32"),
        in_transport(gateway(), "192.0.2.2/32", "0.0.0.0/0"),
    ];
    for (policy, _) in &mut policies {
        policy.transport = false;
    }
    let [initiator, responder] = policies;
    let mut pair = Pair::new(initiator, responder);
    pair.nat = Some(|inside| SocketAddr::new(OUTSIDE, inside.port() + 10_000));
    pair.connect();
    assert!(pair.is_up());
    let names = &pair.responder.kernel.installed[0].names;
    assert_eq!(names.selectors[0].remote, net("192.0.2.1/32"));
}

/// A warrior that translates a network of its own to one address of those that were agreed.
fn translating() -> Policy {
    let mut agreed = flow(end("10.2.0.9/32"), end("10.1.0.0/16"));
    agreed.pre_nat = Some(net("192.168.7.0/24"));
    Policy {
        active: true,
        flows: vec![agreed],
        ..warrior()
    }
}

/// What the child SA that came last has in the kernel: our side, and whether it only goes out.
fn sides(selectors: &[SelectorPair]) -> Vec<(String, bool)> {
    let side = |pair: &SelectorPair| (pair.local.to_string(), pair.outward);
    selectors.iter().map(side).collect()
}

#[test]
fn source_nat_is_between_us_and_our_kernel() {
    let mut pair = Pair::new((translating(), no_keys()), (gateway(), no_keys()));
    let wanted = [
        ("10.2.0.9/32".to_owned(), false),
        ("192.168.7.0/24".to_owned(), true),
    ];
    let traps = pair.initiator.kernel.traps.clone();
    let trapped: Vec<_> = traps.iter().map(|trap| trap.pair).collect();
    assert_eq!(sides(&trapped), wanted);
    pair.connect();
    for round in 0..2 {
        let installed = &pair.initiator.kernel.installed;
        assert_eq!(installed.len(), round + 1);
        let names = &installed.last().unwrap().names;
        assert_eq!(sides(&names.selectors), wanted);
        let theirs = &pair.responder.kernel.installed.last().unwrap().names;
        assert_eq!(
            sides(&theirs.selectors),
            [("10.1.0.0/16".to_owned(), false)]
        );
        assert_eq!(theirs.selectors[0].remote, net("10.2.0.9/32"));
        // A rekey keeps it.
        let (now, spi) = (pair.now(), names.inbound_spi);
        let event = KernelEvent::Expire { spi, hard: false };
        pair.initiator.endpoint.handle_kernel(now, event);
        let request = pair.initiator.wake(now);
        pair.run(Side::Initiator, request);
    }
    let now = pair.now();
    // A packet for either finds a Child SA: there is nothing to ask for.
    for trap in traps {
        let event = KernelEvent::Wanted { trap };
        pair.initiator.endpoint.handle_kernel(now, event);
        assert!(pair.initiator.wake(now).is_empty());
    }
}
