//! Which policy applies to a peer. As in iked.conf(5): the last match wins, `quick` ends the walk,
//! `skip` is never chosen, and `default` is taken when nothing else matches. Child proposals and
//! traffic selectors play no part.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::index::Candidates;
use super::{Config, Family, Identity, Policy, Selection};

/// What is known of the peer when the question is asked.
pub struct PolicyKey<'a> {
    /// Our address, where the datagram came to.
    pub local: IpAddr,
    /// The peer's address.
    pub peer: IpAddr,
    /// The identity the peer claims (IDi), once known.
    pub peer_id: Option<&'a Identity>,
    /// The identity of ours that the peer asked for (IDr), if any.
    pub local_id: Option<&'a Identity>,
    /// The peer sent USE_TRANSPORT_MODE.
    pub transport: bool,
    /// Whether the policy's proposals fit what the peer offers or what was agreed, or why not.
    pub fits: &'a dyn Fn(&Policy) -> Result<(), &'static str>,
}

/// Why a policy does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mismatch {
    Family,
    Peer,
    Local,
    PeerId,
    LocalId,
    Transport,
    Other(&'static str),
}

/// The policy for this key.
pub fn select<'c>(config: &'c Config, key: &PolicyKey<'_>) -> Option<&'c Arc<Policy>> {
    let policies = &config.policies;
    let candidates = config.index.candidates(policies, key.peer, key.peer_id);
    // The first that ends the walk, else the last. The default must match too: it may name a peer or
    // an identity like any other.
    let order = [Selection::Quick, Selection::Last, Selection::Default];
    let found = order.into_iter().find_map(|selection| {
        let first = selection == Selection::Quick;
        let mut best = None;
        for list in &candidates {
            let mut places = list.of(selection).iter();
            let next = || {
                if first {
                    places.next()
                } else {
                    places.next_back()
                }
            };
            for &place in std::iter::from_fn(next) {
                if best.is_some_and(|best| (place < best) != first) {
                    break;
                }
                let policy = policies.get(place as usize)?;
                if mismatch(policy, key).is_none() {
                    best = Some(place);
                    break;
                }
            }
        }
        best
    });
    policies.get(found? as usize)
}

/// Whether any policy is for these addresses, whoever the peer is.
pub fn is_known(config: &Config, local: IpAddr, peer: IpAddr) -> bool {
    select(config, &anybody(local, peer)).is_some()
}

/// Whether any policy for these addresses has a PPK.
pub fn has_ppk(config: &Config, local: IpAddr, peer: IpAddr) -> bool {
    any(config, local, peer, Candidates::with_ppk)
}

/// Whether any policy for these addresses has several authentications.
pub fn has_then(config: &Config, local: IpAddr, peer: IpAddr) -> bool {
    any(config, local, peer, Candidates::with_then)
}

fn any(config: &Config, local: IpAddr, peer: IpAddr, of: fn(&Candidates) -> &[u32]) -> bool {
    let key = anybody(local, peer);
    let policies = &config.policies;
    let lists = config.index.candidates(policies, peer, None).into_iter();
    lists.flat_map(of).any(|&place| {
        let policy = policies.get(place as usize);
        policy.is_some_and(|policy| mismatch(policy, &key).is_none())
    })
}

/// All that is known before a proposal was looked at.
pub fn anybody(local: IpAddr, peer: IpAddr) -> PolicyKey<'static> {
    PolicyKey {
        local,
        peer,
        peer_id: None,
        local_id: None,
        transport: false,
        fits: &|_| Ok(()),
    }
}

/// Why none applies, for the log: each policy by its name. Of many only a few are named, first those
/// that come into question for the peer's address and identity; all in the order of the file.
pub fn explain(config: &Config, key: &PolicyKey<'_>) -> String {
    let policies = &config.policies;
    let mut places = BTreeSet::new();
    for list in config.index.candidates(policies, key.peer, key.peer_id) {
        for selection in [Selection::Quick, Selection::Last, Selection::Default] {
            places.extend(list.of(selection).iter().take(EXPLAINED_MAX));
        }
    }
    while places.len() > EXPLAINED_MAX {
        places.pop_last();
    }
    for place in (0..).take(policies.len()) {
        if places.len() < EXPLAINED_MAX {
            places.insert(place);
        } else {
            break;
        }
    }
    let mut out = String::new();
    let total = policies.len();
    for policy in places
        .iter()
        .filter_map(|place| policies.get(*place as usize))
    {
        let separator = if out.is_empty() { "" } else { ", " };
        let why = why_not(policy, key).unwrap_or_else(|| "fits".to_owned());
        out += &format!("{separator}'{}' {why}", policy.name);
    }
    if total > EXPLAINED_MAX {
        out += &format!(" and {} more", total - EXPLAINED_MAX);
    }
    out
}

/// Why a policy does not apply, as what follows its name in a sentence; `None` if it fits.
pub fn why_not(policy: &Policy, key: &PolicyKey<'_>) -> Option<String> {
    if policy.selection == Selection::Skip {
        return Some("is skipped".to_owned());
    }
    mismatch(policy, key).map(|mismatch| match mismatch {
        Mismatch::Family => "is of the other address family".to_owned(),
        Mismatch::Peer => "is for another peer address".to_owned(),
        Mismatch::Local => "is for another local address".to_owned(),
        Mismatch::PeerId => match &policy.dstid {
            Some(wanted) => format!("wants dstid {wanted}"),
            None => "wants another dstid".to_owned(),
        },
        Mismatch::LocalId => format!("has srcid {}", policy.srcid),
        Mismatch::Transport => "has no transport mode".to_owned(),
        Mismatch::Other(why) => why.to_owned(),
    })
}

fn mismatch(policy: &Policy, key: &PolicyKey<'_>) -> Option<Mismatch> {
    let family = if key.peer.is_ipv4() {
        Family::Inet
    } else {
        Family::Inet6
    };
    let id_fits = |wanted: Option<&Identity>, known: Option<&Identity>| match (wanted, known) {
        (Some(wanted), Some(known)) => wanted.same(known),
        (_, _) => true,
    };
    let found = if policy.family.is_some_and(|wanted| wanted != family) {
        Mismatch::Family
    } else if policy.peer.is_some_and(|net| !net.contains(key.peer)) {
        Mismatch::Peer
    } else if policy.local.is_some_and(|net| !net.contains(key.local)) {
        Mismatch::Local
    } else if !id_fits(policy.dstid.as_ref(), key.peer_id) {
        Mismatch::PeerId
    } else if !id_fits(Some(&policy.srcid), key.local_id) {
        Mismatch::LocalId
    } else if key.transport && !policy.transport {
        Mismatch::Transport
    } else {
        // Last, because it is the dearest.
        Mismatch::Other((key.fits)(policy).err()?)
    };
    Some(found)
}

/// Policies that a line of the log has room for.
const EXPLAINED_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{Auth, IpNet, PublicKeyAuth};
    use crate::wire::registry::{IdType, ProtocolId};

    fn fqdn(text: &str) -> Identity {
        Identity {
            kind: IdType::FQDN,
            data: text.as_bytes().to_vec(),
        }
    }

    fn policy(name: &str, selection: Selection, peer: Option<(&str, u8)>) -> Policy {
        Policy {
            index: 0,
            name: name.to_owned(),
            selection,
            active: false,
            ipcomp: false,
            transport: false,
            natt: false,
            childless: false,
            protocol: ProtocolId::ESP,
            family: None,
            flows: Vec::new(),
            local: None,
            peer: peer.map(|(addr, len)| IpNet {
                addr: addr.parse().unwrap(),
                len,
            }),
            ike_proposals: Vec::new(),
            child_proposals: Vec::new(),
            srcid: fqdn("gate"),
            dstid: None,
            ike_lifetime: Duration::ZERO,
            child_lifetime: Duration::ZERO,
            child_lifetime_bytes: 0,
            auth: Auth::PublicKey(PublicKeyAuth::Any),
            then: Vec::new(),
            ppks: Vec::new(),
            config: Vec::new(),
            domains: Vec::new(),
            request: Vec::new(),
            iface: None,
            if_id: None,
            offload: None,
            tag: None,
            tap: None,
        }
    }

    fn config(policies: Vec<Policy>) -> Config {
        Config {
            policies: policies.into_iter().map(Arc::new).collect(),
            ..Config::default()
        }
    }

    fn key(peer: &str) -> PolicyKey<'static> {
        PolicyKey {
            local: "192.0.2.1".parse().unwrap(),
            peer: peer.parse().unwrap(),
            peer_id: None,
            local_id: None,
            transport: false,
            fits: &|_| Ok(()),
        }
    }

    fn chosen<'c>(config: &'c Config, key: &PolicyKey<'_>) -> Option<&'c str> {
        select(config, key).map(|policy| policy.name.as_str())
    }

    #[test]
    fn the_last_match_wins() {
        let config = config(vec![
            policy("wide", Selection::Last, None),
            policy("narrow", Selection::Last, Some(("198.51.100.0", 24))),
            policy("other", Selection::Last, Some(("203.0.113.0", 24))),
        ]);
        assert_eq!(chosen(&config, &key("198.51.100.9")), Some("narrow"));
        assert_eq!(chosen(&config, &key("203.0.113.9")), Some("other"));
        assert_eq!(chosen(&config, &key("8.8.8.8")), Some("wide"));
    }

    #[test]
    fn quick_ends_the_walk_only_when_it_matches() {
        let config = config(vec![
            policy("quick", Selection::Quick, Some(("198.51.100.0", 24))),
            policy("wide", Selection::Last, None),
        ]);
        assert_eq!(chosen(&config, &key("198.51.100.9")), Some("quick"));
        assert_eq!(chosen(&config, &key("8.8.8.8")), Some("wide"));
    }

    #[test]
    fn skip_is_never_chosen_and_vetoes_nothing() {
        let config = config(vec![
            policy("wide", Selection::Last, None),
            policy("off", Selection::Skip, None),
        ]);
        assert_eq!(chosen(&config, &key("8.8.8.8")), Some("wide"));
    }

    #[test]
    fn default_is_taken_when_nothing_else_matches() {
        let config = config(vec![
            policy("narrow", Selection::Last, Some(("198.51.100.0", 24))),
            policy("default", Selection::Default, None),
        ]);
        assert_eq!(chosen(&config, &key("198.51.100.9")), Some("narrow"));
        assert_eq!(chosen(&config, &key("8.8.8.8")), Some("default"));
    }

    #[test]
    fn a_default_for_another_identity_lets_nobody_else_in() {
        let mut fallback = policy("default", Selection::Default, None);
        fallback.dstid = Some(fqdn("alice"));
        let config = config(vec![fallback]);
        let (alice, mallory) = (fqdn("alice"), fqdn("mallory"));
        let asked = PolicyKey {
            peer_id: Some(&alice),
            ..key("8.8.8.8")
        };
        assert_eq!(chosen(&config, &asked), Some("default"));
        let asked = PolicyKey {
            peer_id: Some(&mallory),
            ..key("8.8.8.8")
        };
        assert_eq!(chosen(&config, &asked), None);
    }

    #[test]
    fn identities_count_once_they_are_known() {
        let mut alice = policy("alice", Selection::Last, None);
        alice.dstid = Some(fqdn("alice"));
        let mut gate2 = policy("gate2", Selection::Last, None);
        gate2.srcid = fqdn("gate2");
        let config = config(vec![gate2, alice]);
        assert_eq!(chosen(&config, &key("8.8.8.8")), Some("alice"));
        let bob = fqdn("bob");
        let asked = PolicyKey {
            peer_id: Some(&bob),
            ..key("8.8.8.8")
        };
        assert_eq!(chosen(&config, &asked), Some("gate2"));
        let id = fqdn("gate");
        let asked = PolicyKey {
            peer_id: Some(&bob),
            local_id: Some(&id),
            ..key("8.8.8.8")
        };
        assert_eq!(chosen(&config, &asked), None);
        let as_mail = Identity {
            kind: IdType::RFC822_ADDR,
            ..fqdn("alice")
        };
        let asked = PolicyKey {
            peer_id: Some(&as_mail),
            ..key("8.8.8.8")
        };
        assert_eq!(
            chosen(&config, &asked),
            Some("gate2"),
            "the type counts too"
        );
    }

    #[test]
    fn transport_wants_a_transport_policy_but_not_the_other_way_round() {
        let mut transport = policy("transport", Selection::Last, None);
        transport.transport = true;
        let config = config(vec![transport, policy("tunnel", Selection::Last, None)]);
        let asked = PolicyKey {
            transport: true,
            ..key("8.8.8.8")
        };
        assert_eq!(chosen(&config, &asked), Some("transport"));
        assert_eq!(chosen(&config, &key("8.8.8.8")), Some("tunnel"));
    }

    #[test]
    fn family_addresses_and_proposals_must_fit() {
        let mut six = policy("six", Selection::Last, None);
        six.family = Some(Family::Inet6);
        let mut local = policy("local", Selection::Last, None);
        local.local = Some(IpNet::host("192.0.2.2".parse().unwrap()));
        let config = config(vec![policy("any", Selection::Last, None), six, local]);
        assert_eq!(chosen(&config, &key("8.8.8.8")), Some("any"));
        assert_eq!(chosen(&config, &key("2001:db8::1")), Some("six"));
        let asked = PolicyKey {
            fits: &|policy| {
                (policy.name == "any")
                    .then_some(())
                    .ok_or("offers nothing common")
            },
            ..key("2001:db8::1")
        };
        assert_eq!(chosen(&config, &asked), Some("any"));
        let asked = PolicyKey {
            fits: &|_| Err("offers nothing common"),
            ..key("8.8.8.8")
        };
        assert_eq!(chosen(&config, &asked), None);
    }

    /// The walk through all of them, as iked.conf(5) describes it.
    fn walked<'c>(config: &'c Config, key: &PolicyKey<'_>) -> Option<&'c str> {
        let fitting = config
            .policies
            .iter()
            .filter(|policy| mismatch(policy, key).is_none());
        let of = |selection| {
            fitting
                .clone()
                .filter(move |policy| policy.selection == selection)
        };
        let quick = of(Selection::Quick).next();
        let found = quick.or_else(|| of(Selection::Last).next_back());
        let found = found.or_else(|| of(Selection::Default).next_back());
        found.map(|policy| policy.name.as_str())
    }

    #[test]
    fn the_index_finds_what_a_walk_would() {
        let mut rng = crate::crypto::Rng::from_seed([7; 32]);
        let mut pick = |from: u64| rng.below(from) as usize;
        let peers = [
            "198.51.100.1",
            "198.51.100.2",
            "198.51.101.1",
            "2001:db8::1",
        ];
        let nets = [
            ("198.51.100.1", 32),
            ("198.51.100.9", 24),
            ("198.51.0.0", 16),
            ("2001:db8::", 64),
            ("0.0.0.0", 0),
        ];
        let names = ["alice", "ALICE", "bob", "carol"];
        let selections = [
            Selection::Quick,
            Selection::Last,
            Selection::Last,
            Selection::Last,
            Selection::Default,
            Selection::Skip,
        ];
        let mut found = 0;
        for _ in 0..300 {
            let policies = (0..pick(12)).map(|number| {
                let net = nets.get(pick(7)).copied();
                let mut one = policy(&number.to_string(), selections[pick(6)], net);
                one.dstid = names.get(pick(6)).map(|name| fqdn(name));
                one
            });
            let config = config(policies.collect());
            for peer in peers {
                for id in [None, Some(fqdn(names[pick(4)])), Some(fqdn("dave"))] {
                    let key = PolicyKey {
                        peer_id: id.as_ref(),
                        ..key(peer)
                    };
                    let chosen = chosen(&config, &key);
                    assert_eq!(chosen, walked(&config, &key), "{peer} {id:?}");
                    found += usize::from(chosen.is_some());
                }
            }
        }
        assert!((1000..3000).contains(&found), "{found}");
    }

    #[test]
    fn a_changed_copy_is_searched_anew() {
        let mut all = config(vec![policy("wide", Selection::Last, None)]);
        assert_eq!(chosen(&all, &key("8.8.8.8")), Some("wide"));
        all = all.clone();
        all.policies.clear();
        assert_eq!(chosen(&all, &key("8.8.8.8")), None);
    }

    #[test]
    fn each_policy_says_why_it_does_not_apply() {
        let mut policies = vec![
            policy("off", Selection::Skip, None),
            policy("far", Selection::Last, Some(("203.0.113.0", 24))),
        ];
        let mut change = |name: &str, change: fn(&mut Policy)| {
            let mut one = policy(name, Selection::Last, None);
            change(&mut one);
            policies.push(one);
        };
        change("six", |policy| policy.family = Some(Family::Inet6));
        change("alice", |policy| policy.dstid = Some(fqdn("alice")));
        change("gate2", |policy| policy.srcid = fqdn("gate2"));
        change("rest", |_| {});
        let all = config(policies.clone());
        let (bob, gate) = (fqdn("bob"), fqdn("gate"));
        let key = PolicyKey {
            peer_id: Some(&bob),
            local_id: Some(&gate),
            fits: &|_| Err("offers nothing common"),
            ..key("8.8.8.8")
        };
        let said = "'off' is skipped, 'far' is for another peer address, 'six' is of the other \
                    address family, 'alice' wants dstid FQDN/alice, 'gate2' has srcid FQDN/gate2, \
                    'rest' offers nothing common";
        assert_eq!(explain(&all, &key), said);
        let many = (0..10_000).map(|_| Arc::new(policy("x", Selection::Last, None)));
        let mut all = config(policies.clone());
        all.policies = many.collect();
        let said = explain(&all, &key);
        assert!(said.ends_with(" and 9992 more"), "{said}");
        assert_eq!(said.matches("'x' offers nothing common").count(), 8);
    }

    #[test]
    fn of_many_policies_those_in_question_are_named_before_others() {
        let far = Some(("203.0.113.0", 24));
        let mut all = config(
            (0..100)
                .map(|_| policy("far", Selection::Last, far))
                .collect(),
        );
        let mut bobs = policy("bob", Selection::Quick, None);
        bobs.dstid = Some(fqdn("bob"));
        for one in [bobs, policy("any", Selection::Default, None)] {
            all.policies.push(Arc::new(one));
        }
        let bob = fqdn("bob");
        let key = PolicyKey {
            peer_id: Some(&bob),
            fits: &|_| Err("offers nothing common"),
            ..key("8.8.8.8")
        };
        let said = explain(&all, &key);
        assert_eq!(said.matches("'far' is for another peer address").count(), 6);
        let last = "'bob' offers nothing common, 'any' offers nothing common and 94 more";
        assert!(said.ends_with(last), "{said}");
    }
}
