//! Traffic selector narrowing, RFC 7296, 2.9: the answer is the intersection of what the peer
//! proposes with the flows of our policy, first the part that holds the packet that caused it.

use std::net::IpAddr;

use crate::kernel::SelectorPair;
use crate::policy::{Flow, FlowEnd, IpNet};
use crate::wire::TrafficSelector;

/// The agreed selectors: what goes on the wire and what goes into the SPD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Our side.
    pub local: Vec<TrafficSelector>,
    /// The peer's side.
    pub remote: Vec<TrafficSelector>,
    /// The pairs for the SPD.
    pub pairs: Vec<SelectorPair>,
    /// There are more that fit than one Child SA takes.
    pub more: bool,
}

/// Selectors of both sides as they stand on the wire: ours, the peer's.
pub type Sides = (Vec<TrafficSelector>, Vec<TrafficSelector>);

/// Addresses that stand for `dynamic`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dynamic {
    /// Leased IPv4 address of the side that gets one.
    pub v4: Option<IpAddr>,
    /// Leased IPv6 address.
    pub v6: Option<IpAddr>,
}

/// Intersects the peer's selectors with the flows; `None` means TS_UNACCEPTABLE.
///
/// `leased` replaces `dynamic` (and, for a road warrior, a wider peer side of the same family stays
/// as written: `to any` allows what the peer asks for).
pub fn narrow(
    flows: &[Flow],
    offered_local: &[TrafficSelector],
    offered_remote: &[TrafficSelector],
    leased: Dynamic,
) -> Option<Narrowed> {
    let mut narrowed = Narrowed {
        local: Vec::new(),
        remote: Vec::new(),
        pairs: Vec::new(),
        more: false,
    };
    let mut tries = TRIES_MAX;
    for flow in flows {
        let Some(from) = selector_of(&flow.from, flow.protocol, leased) else {
            continue;
        };
        let Some(to) = selector_of(&flow.to, flow.protocol, leased) else {
            continue;
        };
        for local in offered_local
            .iter()
            .filter_map(|offer| intersect(offer, &from))
        {
            for remote in offered_remote
                .iter()
                .filter_map(|offer| intersect(&address_to_come(offer, leased), &to))
            {
                if tries == 0 || narrowed.pairs.len() >= PAIRS_MAX {
                    narrowed.more = true;
                    return (!narrowed.pairs.is_empty()).then_some(narrowed);
                }
                tries -= 1;
                add(&mut narrowed, flow, local, remote);
            }
        }
    }
    (!narrowed.pairs.is_empty()).then_some(narrowed)
}

/// A road warrior on OpenIKED that has no address yet offers the unspecified one for the one that it
/// is about to get.
fn address_to_come(offer: &TrafficSelector, leased: Dynamic) -> TrafficSelector {
    let leased = if offer.is_ipv4() {
        leased.v4
    } else {
        leased.v6
    };
    match leased {
        Some(address) if offer.start.is_unspecified() && offer.end.is_unspecified() => {
            TrafficSelector {
                start: address,
                end: address,
                ..*offer
            }
        }
        Some(_) | None => *offer,
    }
}

fn add(narrowed: &mut Narrowed, flow: &Flow, local: TrafficSelector, remote: TrafficSelector) {
    let mut pairs = pairs_of(&local, &remote);
    if pairs.is_empty() {
        return;
    }
    for at in 0..pairs.len() {
        let before = pairs.get(at).and_then(|pair| before_nat(flow, *pair));
        pairs.extend(before.filter(|before| !pairs.contains(before)));
    }
    if narrowed.pairs.len() + pairs.len() > PAIRS_MAX {
        narrowed.more = true;
        return;
    }
    for pair in pairs {
        if !narrowed.pairs.contains(&pair) {
            narrowed.pairs.push(pair);
        }
    }
    for (list, selector) in [(&mut narrowed.local, local), (&mut narrowed.remote, remote)] {
        if !list.contains(&selector) {
            list.push(selector);
        }
    }
}

/// One end of a flow as a selector.
pub fn selector_of(end: &FlowEnd, protocol: u8, leased: Dynamic) -> Option<TrafficSelector> {
    let net = if end.dynamic {
        let leased = if end.net.is_ipv4() {
            leased.v4
        } else {
            leased.v6
        };
        IpNet::host(leased?)
    } else {
        end.net
    };
    Some(side(protocol, net, end.port))
}

/// Whether `outer` holds all of `inner`.
pub fn contains(outer: &TrafficSelector, inner: &TrafficSelector) -> bool {
    intersect(outer, inner) == Some(*inner)
}

fn intersect(a: &TrafficSelector, b: &TrafficSelector) -> Option<TrafficSelector> {
    if !a.is_valid() || !b.is_valid() || a.is_ipv4() != b.is_ipv4() {
        return None;
    }
    let protocol = match (a.protocol, b.protocol) {
        (0, other) | (other, 0) => other,
        (a, b) if a == b => a,
        (_, _) => return None,
    };
    let both = TrafficSelector {
        protocol,
        start_port: a.start_port.max(b.start_port),
        end_port: a.end_port.min(b.end_port),
        start: a.start.max(b.start),
        end: a.end.min(b.end),
    };
    both.is_valid().then_some(both)
}

/// SPD selectors know one port or all, and prefixes, not ranges; a range is covered by prefixes.
fn pairs_of(local: &TrafficSelector, remote: &TrafficSelector) -> Vec<SelectorPair> {
    if local.is_ipv4() != remote.is_ipv4() || is_some_ports(local) || is_some_ports(remote) {
        return Vec::new();
    }
    let protocol = match (local.protocol, remote.protocol) {
        (0, other) | (other, 0) => other,
        (a, b) if a == b => a,
        (_, _) => return Vec::new(),
    };
    let mut pairs = Vec::new();
    for local_net in IpNet::range_to_nets(local.start, local.end) {
        for remote_net in IpNet::range_to_nets(remote.start, remote.end) {
            pairs.push(SelectorPair {
                protocol,
                local: local_net,
                local_port: single_port(local),
                remote: remote_net,
                remote_port: single_port(remote),
                outward: false,
                if_id: None,
            });
            if pairs.len() > PAIRS_MAX {
                return pairs;
            }
        }
    }
    pairs
}

/// What goes on the wire where each side of these pairs is a selector of its own: mostly that is
/// what was agreed.
pub fn sides(pairs: &[SelectorPair]) -> Sides {
    let (mut local, mut remote) = Sides::default();
    for pair in pairs {
        let ours = side(pair.protocol, pair.local, pair.local_port);
        let theirs = side(pair.protocol, pair.remote, pair.remote_port);
        for (list, selector) in [(&mut local, ours), (&mut remote, theirs)] {
            if !list.contains(&selector) {
                list.push(selector);
            }
        }
    }
    (local, remote)
}

fn side(protocol: u8, net: IpNet, port: Option<u16>) -> TrafficSelector {
    let (start_port, end_port) = port.map_or((0, u16::MAX), |port| (port, port));
    TrafficSelector {
        protocol,
        start_port,
        end_port,
        start: net.first(),
        end: net.last(),
    }
}

/// The selectors that packets of `pair` have before source NAT, if the flow has it (`from A (B)`).
/// Linux looks at its policies before NAT and after it: without the first those packets would go
/// where no rule translates them, without the second those that it has translated.
pub fn before_nat(flow: &Flow, pair: SelectorPair) -> Option<SelectorPair> {
    let net = flow.pre_nat?.network();
    (net.is_ipv4() == pair.local.is_ipv4() && net != pair.local).then_some(SelectorPair {
        local: net,
        outward: true,
        ..pair
    })
}

/// More ports than one but not all: the SPD could only say "all", and let through what was not
/// agreed.
fn is_some_ports(selector: &TrafficSelector) -> bool {
    let all = selector.start_port == 0 && selector.end_port == u16::MAX;
    !all && single_port(selector).is_none()
}

fn single_port(selector: &TrafficSelector) -> Option<u16> {
    (selector.start_port == selector.end_port).then_some(selector.start_port)
}

/// Selector pairs of one Child SA: each is three kernel policies, so a peer cannot ask for many.
const PAIRS_MAX: usize = 64;
/// Combinations of selectors that are looked at: a peer may send 255 for each side, and each
/// combination may cost as much as all that are taken together.
const TRIES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn end(net: &str, len: u8) -> FlowEnd {
        let net = IpNet {
            addr: net.parse().unwrap(),
            len,
        };
        FlowEnd {
            net,
            dynamic: false,
            port: None,
        }
    }

    fn flow(from: FlowEnd, to: FlowEnd) -> Flow {
        Flow {
            protocol: 0,
            from,
            to,
            pre_nat: None,
        }
    }

    fn range(start: &str, end: &str) -> TrafficSelector {
        TrafficSelector {
            protocol: 0,
            start_port: 0,
            end_port: u16::MAX,
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
        }
    }

    #[test]
    fn a_wider_offer_is_narrowed_to_the_policy() {
        let flows = [flow(end("10.1.0.0", 16), end("10.2.0.0", 16))];
        let any = [range("0.0.0.0", "255.255.255.255")];
        let got = narrow(&flows, &any, &any, Dynamic::default()).unwrap();
        assert_eq!(got.local, [range("10.1.0.0", "10.1.255.255")]);
        assert_eq!(got.remote, [range("10.2.0.0", "10.2.255.255")]);
        assert_eq!(got.pairs.len(), 1);
        assert_eq!(sides(&got.pairs), (got.local, got.remote));
    }

    #[test]
    fn a_narrower_offer_is_taken_as_it_is() {
        let flows = [flow(end("0.0.0.0", 0), end("10.2.0.0", 16))];
        let local = [range("192.0.2.7", "192.0.2.7")];
        let remote = [range("10.2.3.0", "10.2.3.255")];
        let got = narrow(&flows, &local, &remote, Dynamic::default()).unwrap();
        assert_eq!((got.local, got.remote), (local.to_vec(), remote.to_vec()));
    }

    #[test]
    fn disjoint_selectors_and_families_are_unacceptable() {
        let flows = [flow(end("10.1.0.0", 16), end("10.2.0.0", 16))];
        let other = [range("10.9.0.0", "10.9.255.255")];
        let any6 = [range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")];
        assert_eq!(narrow(&flows, &other, &other, Dynamic::default()), None);
        assert_eq!(narrow(&flows, &any6, &any6, Dynamic::default()), None);
        assert_eq!(narrow(&flows, &[], &[], Dynamic::default()), None);
    }

    #[test]
    fn dynamic_stands_for_the_leased_address() {
        let mut to = end("0.0.0.0", 32);
        to.dynamic = true;
        let flows = [flow(end("10.1.0.0", 16), to)];
        let any = [range("0.0.0.0", "255.255.255.255")];
        let leased = Dynamic {
            v4: Some("10.8.0.5".parse().unwrap()),
            v6: None,
        };
        let got = narrow(&flows, &any, &any, leased).unwrap();
        assert_eq!(got.remote, [range("10.8.0.5", "10.8.0.5")]);
        assert_eq!(narrow(&flows, &any, &any, Dynamic::default()), None);
    }

    #[test]
    fn the_unspecified_address_stands_for_the_one_that_is_leased() {
        let dynamic = FlowEnd {
            dynamic: true,
            ..end("0.0.0.0", 0)
        };
        let flows = [flow(end("10.8.0.0", 24), dynamic)];
        let leased = Dynamic {
            v4: Some("10.9.0.7".parse().unwrap()),
            v6: None,
        };
        let ours = [range("10.8.0.0", "10.8.0.255")];
        let none_yet = [range("0.0.0.0", "0.0.0.0")];
        let got = narrow(&flows, &ours, &none_yet, leased).unwrap();
        assert_eq!(got.remote, [range("10.9.0.7", "10.9.0.7")]);
        assert_eq!(narrow(&flows, &ours, &none_yet, Dynamic::default()), None);
    }

    #[test]
    fn source_nat_adds_what_packets_are_before_it_and_says_nothing_of_it() {
        let mut flow = flow(end("10.7.0.1", 32), end("10.2.0.0", 16));
        flow.pre_nat = Some(end("192.168.3.4", 24).net);
        let any = [range("0.0.0.0", "255.255.255.255")];
        let got = narrow(&[flow.clone()], &any, &any, Dynamic::default()).unwrap();
        assert_eq!(got.local, [range("10.7.0.1", "10.7.0.1")]);
        let [agreed, before] = got.pairs.as_slice() else {
            panic!("{:?}", got.pairs);
        };
        assert_eq!((agreed.local, agreed.outward), (flow.from.net, false));
        let wanted = SelectorPair {
            local: end("192.168.3.0", 24).net,
            outward: true,
            ..*agreed
        };
        assert_eq!(*before, wanted);
        // The same once, however many flows there are.
        let twice = [flow.clone(), flow];
        let got = narrow(&twice, &any, &any, Dynamic::default()).unwrap();
        assert_eq!(got.pairs.len(), 2);
    }

    #[test]
    fn what_one_child_sa_does_not_take_is_said_to_be_there() {
        let host = |number: u8| end(&format!("10.1.0.{number}"), 32);
        let flows: Vec<Flow> = (0..=64)
            .map(|n| flow(host(n), end("10.2.0.0", 16)))
            .collect();
        let any = [range("0.0.0.0", "255.255.255.255")];
        let got = |flows| narrow(flows, &any, &any, Dynamic::default()).unwrap();
        let (all, some) = (got(&flows[..64]), got(&flows));
        assert_eq!((all.pairs.len(), all.more), (64, false));
        assert_eq!((some.pairs.len(), some.more), (64, true));
    }

    #[test]
    fn an_inverted_range_is_no_selector() {
        let flows = [flow(end("0.0.0.0", 0), end("0.0.0.0", 0))];
        let inverted = [range("10.0.0.9", "10.0.0.1")];
        let any = [range("0.0.0.0", "255.255.255.255")];
        assert_eq!(narrow(&flows, &inverted, &any, Dynamic::default()), None);
    }
}
