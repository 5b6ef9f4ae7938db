//! IPCOMP_SUPPORTED (RFC 7296, 2.22): compression where both ends want it, and what becomes of it
//! when the Child SA is rekeyed.

use iked::kernel::{ChildInstall, Cpis, KernelEvent};
use iked::policy::Policy;
use iked::wire::registry::{ExchangeType, NotifyType, ProtocolId};
use iked::wire::spi::Cpi;
use iked::wire::{Notify, Payload, Proposal};

use super::peer::{Peer, status};
use super::setup::{self, Suite, config, gateway, no_keys, warrior};
use super::world::{Host, Pair, Side, at};

fn compressing(policy: Policy, wanted: bool) -> Policy {
    Policy {
        ipcomp: wanted,
        ..policy
    }
}

fn up(initiator: bool, responder: bool) -> Pair {
    let mut pair = Pair::new(
        (compressing(warrior(), initiator), no_keys()),
        (compressing(gateway(), responder), no_keys()),
    );
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    pair
}

/// The Child SA that each end installed last; they are the ends of one.
fn last(pair: &Pair) -> [ChildInstall; 2] {
    let ends = [&pair.initiator, &pair.responder];
    let ends = ends.map(|host| host.kernel.installed.last().unwrap().clone());
    let cpis = ends.each_ref().map(|child| child.names.ipcomp);
    let crossed = cpis[1].map(|cpis| Cpis {
        inbound: cpis.outbound,
        outbound: cpis.inbound,
    });
    assert_eq!(cpis[0], crossed);
    ends
}

#[test]
fn both_want_it_and_have_it_through_rekeys_by_either_side() {
    let mut pair = up(true, true);
    let mut before = last(&pair);
    assert!(before[0].names.ipcomp.is_some());
    for side in [Side::Initiator, Side::Responder] {
        let now = pair.now();
        let host = pair.host(side);
        let spi = *host.kernel.holds().last().unwrap();
        let event = KernelEvent::Expire { spi, hard: false };
        host.endpoint.handle_kernel(now, event);
        let request = host.wake(now);
        pair.run(side, request);
        let after = last(&pair);
        for (before, after) in before.iter().zip(&after) {
            let cpis = |child: &ChildInstall| child.names.ipcomp.unwrap();
            assert_ne!(cpis(before).inbound, cpis(after).inbound);
            assert_eq!(before.names.reqid, after.names.reqid);
        }
        before = after;
    }
}

#[test]
fn where_one_end_does_not_want_it_there_is_none() {
    for (initiator, responder) in [(true, false), (false, true)] {
        let pair = up(initiator, responder);
        assert_eq!(last(&pair)[0].names.ipcomp, None);
    }
}

#[test]
fn the_sas_of_ipcomp_are_shown_behind_those_that_they_belong_to() {
    let mut pair = up(true, true);
    let cpis = last(&pair)[1].names.ipcomp.unwrap();
    let now = pair.now();
    let shown = pair.responder.show(now);
    let [out, inward] =
        [(cpis.outbound, "out", 2, 1), (cpis.inbound, "in", 1, 2)].map(|(cpi, word, from, to)| {
            format!("             : 0x0 IPCOMP {cpi} {word} 192.0.2.{from} -> 192.0.2.{to} (LA) ")
        });
    let main = "  sa_childsas: 0x0 ESP ".to_owned();
    for (line, wanted) in shown[1..].iter().zip([&main, &out, &main, &inward]) {
        assert!(line.starts_with(wanted.as_str()), "{line}\n{wanted}");
    }
}

#[test]
fn inner_packets_of_the_other_family_are_not_compressed() {
    let v6 = |policy: Policy, from, to| Policy {
        flows: vec![setup::flow(setup::end(from), setup::end(to))],
        ..compressing(policy, true)
    };
    let mut pair = Pair::new(
        (v6(warrior(), "fd00:2::/64", "fd00:1::/64"), no_keys()),
        (v6(gateway(), "fd00:1::/64", "fd00:2::/64"), no_keys()),
    );
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
    assert_eq!(last(&pair)[0].names.ipcomp, None);
}

/// A gateway that compresses, and a peer whose Child SA is up with what it offered.
fn let_in(offers: &[&'static [u8]]) -> (Host, Peer) {
    let mut host = Host::new(config([compressing(gateway(), true)]), no_keys(), 7);
    let mut peer = Peer::new(1);
    peer.meet(&mut host, at(0));
    let payloads = peer.auth_payloads();
    let mut payloads = payloads.borrow();
    for data in offers {
        payloads.push(status(NotifyType::IPCOMP_SUPPORTED, data));
    }
    peer.ask(&mut host, at(0), ExchangeType::IKE_AUTH, &payloads);
    (host, peer)
}

#[test]
fn of_several_offers_deflate_is_taken() {
    let (host, _) = let_in(&[&[0x11, 0x11, 3], &[0x22, 0x22, 2], &[0x33, 0x33, 4]]);
    let cpis = host.kernel.installed[0].names.ipcomp.unwrap();
    assert_eq!(Some(cpis.outbound), Cpi::new(0x2222));
    for offers in [&[&[0x11, 0x11, 3][..]][..], &[&[0, 2, 2]], &[&[]]] {
        let (host, _) = let_in(offers);
        assert_eq!(host.kernel.installed[0].names.ipcomp, None, "{offers:?}");
    }
}

/// The peer rekeys what it was let in with, and offers to compress or does not.
fn rekeyed(before: &[&'static [u8]], after: &[&'static [u8]]) -> ChildInstall {
    let (mut host, mut peer) = let_in(before);
    let old = peer.esp_spi;
    let wanted = peer.auth_payloads();
    let proposal = setup::esp(Suite::AesGcm);
    let mut payloads = vec![
        Payload::Notify(Notify {
            protocol: ProtocolId::ESP,
            spi: &old,
            kind: NotifyType::REKEY_SA,
            data: &[],
        }),
        Payload::Sa(
            [Proposal {
                number: 1,
                protocol: ProtocolId::ESP,
                spi: &[9; 4],
                transforms: proposal.transforms.into(),
            }]
            .into(),
        ),
        Payload::Nonce(&[7; 32]),
        Payload::TsI(wanted.ts_i.into()),
        Payload::TsR(wanted.ts_r.into()),
    ];
    let offers = after.iter();
    payloads.extend(offers.map(|data| status(NotifyType::IPCOMP_SUPPORTED, data)));
    let exchange = ExchangeType::CREATE_CHILD_SA;
    let opened = peer.ask(&mut host, at(1), exchange, &payloads);
    let installed = host.kernel.installed.last().unwrap().clone();
    let answered = opened.notifies().contains(&NotifyType::IPCOMP_SUPPORTED);
    assert_eq!(answered, installed.names.ipcomp.is_some());
    installed
}

#[test]
fn a_peer_may_end_compression_by_a_rekey_but_not_begin_it() {
    let (first, second) = (&[0x22, 0x22, 2][..], &[0x33, 0x33, 2][..]);
    let kept = rekeyed(&[first], &[second]);
    assert!(kept.names.ipcomp.is_some() && kept.receive_only);
    let begun = rekeyed(&[], &[second]);
    assert!(begun.names.ipcomp.is_none() && begun.receive_only);
    // The policies are the new one's at once, so it sends at once.
    let ended = rekeyed(&[first], &[]);
    assert!(ended.names.ipcomp.is_none() && !ended.receive_only);
    // A CPI that its other Child SA has would name two SAs.
    assert!(rekeyed(&[first], &[first]).names.ipcomp.is_none());
}
