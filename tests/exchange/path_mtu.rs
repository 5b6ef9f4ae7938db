//! Paths that carry less than we begin with: long messages are cut anew until they pass
//! (RFC 7383, 2.5.2).

use iked::policy::{Identity, IpNet, Policy};
use iked::wire::registry::{ExchangeType, IdType, NotifyType};
use iked::wire::{Message, Payload};

use super::peer::{Peer, status};
use super::setup::{config, gateway, no_keys, warrior};
use super::world::{Datagram, Host, Pair, Side, at};

/// A name that makes IKE_AUTH long.
fn long(name: u8) -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: vec![name; 1000],
    }
}

fn pair(v6: bool, mtu: usize) -> Pair {
    let host = |addr: &str| {
        let addr = addr.parse().unwrap();
        let len = if v6 { 128 } else { 32 };
        Some(IpNet { addr, len })
    };
    let (local, peer) = if v6 {
        (host("2001:db8::1"), host("2001:db8::2"))
    } else {
        (host("192.0.2.1"), host("192.0.2.2"))
    };
    let initiator = Policy {
        local,
        peer,
        srcid: long(b'w'),
        dstid: Some(long(b'g')),
        ..warrior()
    };
    let responder = Policy {
        srcid: long(b'g'),
        ..gateway()
    };
    let mut pair = Pair::new((initiator, no_keys()), (responder, no_keys()));
    pair.mtu = Some(mtu);
    pair
}

/// Number and total of a fragment.
fn numbers(bytes: &[u8]) -> Option<(u16, u16)> {
    match Message::decode(bytes).unwrap().payloads.last() {
        Some(Payload::Skf(body)) => Some((body.number, body.total)),
        _ => None,
    }
}

fn totals<'a>(datagrams: impl Iterator<Item = &'a Datagram>) -> Vec<u16> {
    let mut totals: Vec<u16> = datagrams
        .filter_map(|datagram| Some(numbers(&datagram.bytes)?.1))
        .collect();
    totals.dedup();
    totals
}

#[test]
fn a_long_request_is_cut_smaller_until_it_passes() {
    for (v6, mtu, retransmissions) in [
        (false, 1400, 0),
        (false, 1300, 1),
        (false, 576, 2),
        (true, 1280, 1),
    ] {
        let mut pair = pair(v6, mtu);
        pair.connect();
        assert_eq!(pair.is_up(), retransmissions == 0, "{v6} {mtu}");
        pair.pass_time(8);
        assert!(pair.is_up(), "{v6} {mtu}: {:?}", pair.responder.lines);
        assert_eq!(pair.initiator.stats().retransmit_request, retransmissions);
        let request = |(side, datagram): &&(Side, Datagram)| {
            *side == Side::Initiator && numbers(&datagram.bytes).is_some()
        };
        // Pieces of different cuts must not be taken for those of one.
        let all = pair
            .sent
            .iter()
            .filter(request)
            .map(|(_, datagram)| datagram);
        let totals = totals(all);
        assert_eq!(totals.len() as u64, 1 + retransmissions, "{totals:?}");
        assert!(totals.is_sorted(), "{totals:?}");
        // The answer did not have to be asked for twice, and both know the path now.
        assert_eq!(pair.responder.stats().retransmit_response, 0);
        for host in [&pair.initiator, &pair.responder] {
            let known = host.endpoint.ike_sas().next().unwrap().packet_max;
            assert!(
                known.is_none_or(|known| usize::from(known) <= mtu),
                "{known:?}"
            );
            assert_eq!(known.is_some(), retransmissions > 0);
        }
    }
}

#[test]
fn a_short_request_without_answer_says_nothing_of_the_path() {
    let mut pair = Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    pair.connect();
    pair.mtu = Some(0);
    let spi = pair.initiator.kernel.holds()[0];
    let expire = iked::kernel::KernelEvent::Expire { spi, hard: false };
    pair.initiator.endpoint.handle_kernel(at(1), expire);
    pair.pass_time(40);
    assert_eq!(pair.initiator.stats().retransmit_request, 4);
    assert_eq!(pair.initiator.stats().frag_sent, 0);
    let sa = pair.initiator.endpoint.ike_sas().next().unwrap();
    assert_eq!(sa.packet_max, None);
}

#[test]
fn a_request_repeated_in_smaller_pieces_gets_its_answer_in_smaller_pieces() {
    let policy = Policy {
        srcid: long(b'g'),
        ..gateway()
    };
    let mut config = config([policy]);
    config.settings.fragment_size = 1000;
    let mut host = Host::new(config, no_keys(), 2);
    let mut peer = Peer::new(1);
    let supported = [status(NotifyType::FRAGMENTATION_SUPPORTED, &[])];
    peer.meet_with(&mut host, at(0), &supported);
    let header = peer.header(ExchangeType::IKE_AUTH, peer.next_id);
    let payloads = peer.auth_payloads();
    let whole = peer.seal_as(&header, &payloads.borrow());
    let first = peer.send(&mut host, at(0), &whole);
    assert_eq!(first.len(), 2);
    let longest = |datagrams: &[Datagram]| datagrams.iter().map(|d| d.bytes.len()).max();
    assert!(longest(&first) <= Some(1000 - 32));
    // The same request, whole: the same answer.
    assert_eq!(peer.send(&mut host, at(2), &whole), first);
    let pieces = peer.seal_fragments_as(&header, &payloads.borrow(), 200);
    assert!(pieces.len() > 1);
    let again = peer.send(&mut host, at(6), &pieces[0]);
    assert!(again.len() > first.len());
    assert!(longest(&again) <= Some(576 - 32), "{:?}", longest(&again));
    assert_eq!(totals(again.iter()), [u16::try_from(again.len()).unwrap()]);
    for piece in &pieces[1..] {
        assert_eq!(peer.send(&mut host, at(6), piece), []);
    }
    assert_eq!(host.stats().retransmit_response, 2);
    // And so it stays.
    assert_eq!(peer.send(&mut host, at(14), &pieces[0]), again);
}
