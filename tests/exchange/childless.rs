//! RFC 6023 where we begin: the IKE SA first, and its Child SA by an exchange of its own.

use iked::policy::Policy;
use iked::wire::registry::KeId;
use iked::wire::{Transform, TransformId};

use super::setup::{gateway, no_keys, pool_gateway, pool_warrior, warrior};
use super::world::{Pair, Side};

fn childless(policy: Policy) -> Policy {
    Policy {
        childless: true,
        ..policy
    }
}

#[test]
fn the_child_sa_is_asked_for_when_the_ike_sa_is_up() {
    let leased = (pool_warrior(), pool_gateway("10.9.0.0/24"));
    for (warrior, gateway) in [(warrior(), gateway()), leased] {
        let mut pair = Pair::new((childless(warrior), no_keys()), (gateway, no_keys()));
        let mut sent = pair.initiate();
        let mut from = Side::Initiator;
        // IKE_SA_INIT and the request of IKE_AUTH.
        for _ in 0..3 {
            assert_eq!(sent.len(), 1);
            (from, sent) = pair.give(from, &sent[0]);
        }
        assert_eq!(pair.responder.stats().sa_established_current, 1);
        assert_eq!(pair.responder.stats().csa_created, 0);
        (from, sent) = pair.give(from, &sent[0]);
        assert_eq!(pair.initiator.stats().sa_established_current, 1);
        assert_eq!(pair.initiator.stats().csa_created, 0);
        pair.run(from, sent);
        assert!(pair.is_up(), "{:?}", pair.initiator.lines);
        assert_eq!(pair.sent.len(), 2, "one exchange more");
    }
}

#[test]
fn the_first_child_sa_then_has_a_key_exchange_of_its_own() {
    let group = |mut policy: Policy| {
        let ke = Transform::new(TransformId::Ke(KeId::CURVE25519), None);
        policy.child_proposals[0].transforms.push(ke);
        policy
    };
    for (first, wanted) in [(true, true), (false, false)] {
        let warrior = Policy {
            childless: first,
            ..group(warrior())
        };
        let mut pair = Pair::new((warrior, no_keys()), (group(gateway()), no_keys()));
        pair.connect();
        assert!(pair.is_up(), "{:?}", pair.initiator.lines);
        let now = pair.now();
        let endpoint = &pair.initiator.endpoint;
        let mut children = endpoint.ike_sas().flat_map(|sa| &sa.children);
        let has = |t: &Transform| matches!(t.id, TransformId::Ke(KeId::CURVE25519));
        let child = children.next().unwrap();
        assert_eq!(child.transforms.iter().any(has), wanted, "{now:?}");
    }
}
