use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ike::Role;
use crate::policy::{Auth, Policy, PublicKeyAuth, Selection};
use crate::wire::registry::{IdType, ProtocolId};

fn policy() -> Policy {
    Policy {
        index: 0,
        name: String::new(),
        selection: Selection::Last,
        active: false,
        ipcomp: false,
        transport: false,
        natt: false,
        childless: false,
        protocol: ProtocolId::ESP,
        family: None,
        flows: Vec::new(),
        local: None,
        peer: None,
        ike_proposals: Vec::new(),
        child_proposals: Vec::new(),
        srcid: crate::policy::Identity {
            kind: IdType::FQDN,
            data: b"gate".to_vec(),
        },
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

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// An initiator at 192.0.2.1 whose peer is at 192.0.2.2, .3 and .4.
fn initiator() -> IkeSa {
    let path = Path {
        local: SocketAddr::new(address(1), 4500),
        remote: SocketAddr::new(address(2), 4500),
        marker: true,
    };
    let spi = IkeSpi::new(7).unwrap();
    let role = Role::OriginalInitiator;
    let policy = Arc::new(policy());
    let mut sa = IkeSa::new(spi, None, role, policy, path, State::Closed, now());
    sa.mobility.agreed = true;
    let others = [[192, 0, 2, 3], [192, 0, 2, 4]];
    let mut payloads: Vec<Payload<'_>> = others
        .iter()
        .map(|data| status(NotifyType::ADDITIONAL_IP4_ADDRESS, data))
        .collect();
    payloads.push(status(NotifyType::ADDITIONAL_IP6_ADDRESS, &[0x20; 16]));
    learn_addresses(&mut sa, &payloads);
    sa
}

fn tried(sa: &IkeSa) -> Vec<IpAddr> {
    let paths = (1..=5).map(|retries| path_for_retry(sa, retries));
    paths.map(|path| path.remote.ip()).collect()
}

#[test]
fn a_silent_peer_is_tried_at_all_its_addresses_in_turn() {
    let mut sa = initiator();
    assert_eq!(tried(&sa), [2, 3, 4, 2, 3].map(address));
    // Not by the one who does not decide, nor without MOBIKE.
    sa.mobility.leads = false;
    assert_eq!(tried(&sa), [2; 5].map(address));
    sa.mobility.leads = true;
    sa.mobility.agreed = false;
    assert_eq!(tried(&sa), [2; 5].map(address));
}

#[test]
fn the_address_that_answered_is_used_and_the_peer_told() {
    let mut sa = initiator();
    let first = sa.path;
    let now = now();
    let stranger = Path {
        remote: SocketAddr::new(address(99), 4500),
        ..first
    };
    answered_from(&mut sa, now, stranger);
    assert_eq!((sa.path, sa.agenda.next(true)), (first, None));
    let second = path_for_retry(&sa, 2);
    answered_from(&mut sa, now, second);
    assert_eq!(
        (sa.path, sa.mobility.left.as_deref()),
        (second, Some(&first))
    );
    assert_eq!(sa.agenda.take_due(now, true), Some(Task::UpdateAddresses));
    // Where it was first is one of the others now.
    assert_eq!(tried(&sa), [3, 4, 2, 3, 4].map(address));
}

#[test]
fn each_word_about_other_addresses_replaces_those_before() {
    let mut sa = initiator();
    assert_eq!(sa.mobility.others.len(), 3);
    learn_addresses(&mut sa, &[status(NotifyType::COOKIE2, &[1; 8])]);
    assert_eq!(sa.mobility.others.len(), 3);
    let wrong = [
        status(NotifyType::ADDITIONAL_IP4_ADDRESS, &[192, 0, 2]),
        status(NotifyType::ADDITIONAL_IP4_ADDRESS, &[224, 0, 0, 1]),
        status(NotifyType::ADDITIONAL_IP4_ADDRESS, &[192, 0, 2, 9]),
        status(NotifyType::ADDITIONAL_IP4_ADDRESS, &[192, 0, 2, 9]),
    ];
    learn_addresses(&mut sa, &wrong);
    assert_eq!(sa.mobility.others, [address(9)]);
    let many: Vec<[u8; 4]> = (0..200).map(|last| [198, 51, 100, last]).collect();
    let kind = NotifyType::ADDITIONAL_IP4_ADDRESS;
    let many: Vec<Payload<'_>> = many.iter().map(|data| status(kind, data)).collect();
    learn_addresses(&mut sa, &many);
    assert_eq!(sa.mobility.others.len(), OTHERS_MAX);
    learn_addresses(&mut sa, &[status(NotifyType::NO_ADDITIONAL_ADDRESSES, &[])]);
    assert!(sa.mobility.others.is_empty());
}
