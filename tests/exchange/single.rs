//! Both ends of a tunnel may begin: one IKE SA stays, and it is the same at both.

use iked::ike::News;
use iked::policy::{IpNet, Policy};

use super::setup::{GATEWAY, WARRIOR, config, fqdn, gateway, no_keys, warrior};
use super::world::{Host, Pair, Side, at};

fn active_warrior() -> Policy {
    Policy {
        active: true,
        ..warrior()
    }
}

fn active_gateway() -> Policy {
    Policy {
        active: true,
        local: Some(IpNet::host(GATEWAY)),
        peer: Some(IpNet::host(WARRIOR)),
        ..gateway()
    }
}

fn both_active() -> Pair {
    let host = |policy, seed| Host::new(config([policy]), no_keys(), seed);
    Pair::of(host(active_warrior(), 1), host(active_gateway(), 2))
}

/// One IKE SA and one Child SA, the same at both ends; who began it, as the gateway sees it.
fn the_one(pair: &Pair) -> bool {
    let sas = [&pair.initiator, &pair.responder].map(|host| {
        let sas: Vec<_> = host.endpoint.ike_sas().collect();
        assert_eq!(sas.len(), 1, "{:#?}", host.lines);
        assert_eq!(host.kernel.holds().len(), 1);
        (sas[0].own_spi, sas[0].peer_spi, sas[0].mobility.leads)
    });
    let [(own, peer, leads), (other, others_peer, gateway_leads)] = sas;
    assert_eq!((Some(own), peer), (others_peer, Some(other)));
    assert_ne!(leads, gateway_leads);
    gateway_leads
}

#[test]
fn two_ends_that_begin_at_once_keep_one_ike_sa_and_the_same() {
    for first in [Side::Initiator, Side::Responder] {
        let mut pair = both_active();
        let warriors = pair.initiator.wake(at(2));
        let gateways = pair.responder.wake(at(2));
        assert_eq!((warriors.len(), gateways.len()), (1, 1));
        let both = [(Side::Initiator, warriors), (Side::Responder, gateways)];
        let (now, later) = both.into_iter().partition(|(side, _)| *side == first);
        pair.seconds = 3;
        for (side, sent) in [now, later].into_iter().flat_map(|v: Vec<_>| v) {
            pair.run(side, sent);
            pair.seconds += 1;
        }
        pair.pass_time(20);
        // "gateway.example" is lower than "warrior.example".
        assert!(the_one(&pair));
        // And so it stays: nobody begins again.
        let made = [&pair.initiator, &pair.responder].map(|host| host.stats().sa_created);
        assert_eq!(made, [2, 2]);
        pair.pass_time(250);
        assert!(the_one(&pair));
        let now = [&pair.initiator, &pair.responder].map(|host| host.stats().sa_created);
        assert_eq!(now, made);
    }
}

#[test]
fn the_one_that_stays_is_not_kept_before_the_peer_answered_on_it() {
    let mut pair = both_active();
    let warriors = pair.initiator.wake(at(2));
    let gateways = pair.responder.wake(at(2));
    pair.seconds = 3;
    pair.run(Side::Responder, gateways);
    // The warrior forgets that one; its own is all it has.
    pair.initiator = Host::new(config([active_warrior()]), no_keys(), 5);
    drop(warriors);
    pair.seconds = 4;
    let again = pair
        .initiator
        .command(at(4), iked::ike::Command::Initiate(0));
    pair.responder.lines.clear();
    pair.run(Side::Initiator, again);
    pair.pass_time(30);
    assert!(!the_one(&pair));
    assert!(!pair.responder.said("another IKE SA serves"));
}

#[test]
fn a_policy_that_another_shard_serves_is_not_begun() {
    let mut host = Host::new(config([active_warrior()]), no_keys(), 1);
    let served = |more| News::Served {
        policy: "warrior".to_owned(),
        more,
    };
    host.endpoint.handle_news(at(1), served(true));
    for second in 1..200 {
        assert_eq!(host.wake(at(second)), []);
    }
    host.endpoint.handle_news(at(200), served(false));
    let begun = (200..300).any(|second| !host.wake(at(second)).is_empty());
    assert!(begun);
}

#[test]
fn an_ike_sa_that_the_peer_began_goes_when_another_shard_has_ours() {
    let mut pair = both_active();
    let first = pair.initiator.wake(at(2));
    pair.run(Side::Initiator, first);
    let told: Vec<_> = pair
        .responder
        .events
        .iter()
        .filter_map(|event| match event {
            iked::ike::Event::News(news) => Some(news.clone()),
            iked::ike::Event::Log { .. } => None,
        })
        .collect();
    let identity = fqdn("warrior.example");
    let policy = "gateway".to_owned();
    let doubled = News::Doubled {
        policy: policy.clone(),
        identity: identity.clone(),
    };
    assert!(told.contains(&doubled), "{told:?}");
    let single = News::Single { policy, identity };
    pair.responder.endpoint.handle_news(at(3), single);
    pair.pass_time(20);
    assert!(
        pair.responder
            .said("another IKE SA serves policy 'gateway'")
    );
    assert!(pair.initiator.said("received delete, closing SA"));
    // Nobody else served the policy, after all, so the gateway began anew.
    assert!(the_one(&pair));
}
