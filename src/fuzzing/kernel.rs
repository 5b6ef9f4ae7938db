//! Datagrams from the kernel: netlink and PF_KEY. They come from one who is trusted, but sizes and
//! fields differ between kernels, and a PF_KEY socket also hears what other programs are answered.

use std::net::{IpAddr, Ipv4Addr};

use crate::kernel::entry::{IpProtocol, Template};
use crate::pfkey::message as pf;
use crate::pfkey::openbsd as bsd;
use crate::xfrm::message as xf;

/// A datagram of NETLINK_XFRM: reading is total, no message reaches beyond it, each means one thing
/// at most, and what is read of an SA or a policy names the same one when it is to be deleted.
pub fn xfrm(bytes: &[u8]) {
    let mut room = bytes.len();
    for answer in xf::Answers(bytes) {
        let whole = answer.body.len() + NETLINK_HEADER_LEN;
        assert!(whole <= room, "a message reaches beyond the datagram");
        room = room.saturating_sub(whole);
        let (sa, policy) = (answer.sa(), answer.policy());
        let meanings = [
            answer.errno().is_some(),
            answer.expire().is_some(),
            answer.mapping().is_some(),
            sa.is_some(),
            policy.is_some(),
        ];
        let count = meanings.iter().filter(|&&meant| meant).count();
        assert!(count <= 1, "kind {} means {meanings:?}", answer.kind);
        if let Some(sa) = sa {
            named_sa(answer.body, sa);
        }
        if let Some(policy) = policy {
            named_policy(answer.body, &policy);
        }
    }
}

/// `xfrm_usersa_id` holds what `xfrm_usersa_info` says of destination and SPI.
fn named_sa(info: &[u8], sa: xf::SaName) {
    let mut requests = xf::Requests::with_capacity(64);
    requests.del_sa(1, sa.destination, sa.spi, sa.protocol);
    let body = only(&requests, xf::kind::DEL_SA);
    let len = if sa.destination.is_ipv4() { 4 } else { 16 };
    assert_eq!(body.get(..len), info.get(56..56 + len), "destination");
    assert_eq!(body.get(16..20), info.get(72..76), "SPI");
    assert_eq!(body.get(22), info.get(76), "protocol");
}

/// `xfrm_userpolicy_id` holds what `xfrm_userpolicy_info` says of selector, index and direction.
fn named_policy(info: &[u8], policy: &xf::PolicyName) {
    let mut requests = xf::Requests::with_capacity(128);
    requests.del_policy_raw(1, policy);
    let body = only(&requests, xf::kind::DEL_POLICY);
    assert_eq!(body.get(..56), info.get(..56), "selector");
    assert_eq!(body.get(56..61), info.get(156..161), "index and direction");
}

/// The body of the one message there is.
fn only(requests: &xf::Requests, kind: u16) -> &[u8] {
    let mut answers = xf::Answers(requests.bytes());
    let first = answers.next();
    assert!(first.is_some_and(|answer| answer.kind == kind));
    assert!(answers.next().is_none(), "more than one message");
    first.map(|answer| answer.body).unwrap_or_default()
}

/// A datagram of PF_KEY: reading is total, it means one thing at most, and an expiry that was read
/// names the SA that a deletion made of it names. Both dialects read it.
pub fn pfkey(bytes: &[u8]) {
    let Some(answer) = pf::Answer::decode(bytes) else {
        return;
    };
    assert!(bytes.len() >= PF_KEY_HEADER_LEN && bytes.len().is_multiple_of(8));
    assert_eq!(bytes.get(1..3), Some(&[answer.kind, answer.errno][..]));
    openbsd(&answer);
    let (expire, mapping) = (answer.expire(), answer.mapping());
    let meanings = [
        expire.is_some(),
        mapping.is_some(),
        answer.listed_sa().is_some(),
        answer.larva().is_some(),
        answer.listed_policy().is_some(),
    ];
    let count = meanings.iter().filter(|&&meant| meant).count();
    assert!(count <= 1, "kind {} means {meanings:?}", answer.kind);
    let Some((destination, spi, _)) = expire else {
        return;
    };
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (seq, pid) = (answer.seq, answer.pid);
    let request = pf::Request::delete(seq, pid, source, destination, spi, IpProtocol::Esp);
    // It has the layout of a soft EXPIRE but for its type.
    let mut again = request.bytes().to_vec();
    if let Some(kind) = again.get_mut(1) {
        *kind = pf::kind::EXPIRE;
    }
    let again = pf::Answer::decode(&again);
    assert!(again.is_some(), "our own encoding is refused");
    let Some(again) = again else { return };
    assert_eq!((again.seq, again.pid), (seq, pid));
    assert_eq!(again.expire(), Some((destination, spi, false)));
}

/// The same datagram in the dialect of OpenBSD: it means one thing at most, a flow that was read and
/// is written again is the same flow, and an expiry names the SA that a deletion names.
fn openbsd(answer: &pf::Answer<'_>) {
    let (flow, expire) = (bsd::told::flow(answer), bsd::told::expire(answer));
    let meanings = [
        flow.is_some(),
        expire.is_some(),
        bsd::told::acquire(answer).is_some(),
        bsd::told::reserved(answer).is_some(),
    ];
    let count = meanings.iter().filter(|&&meant| meant).count();
    assert!(count <= 1, "kind {} means {meanings:?}", answer.kind);
    let _ = (
        bsd::told::sent(answer),
        bsd::told::encapsulation_port(answer),
    );
    let numbers = bsd::Numbers {
        seq: answer.seq,
        pid: answer.pid,
    };
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(flow) = flow {
        let template = Template {
            source: localhost,
            destination: localhost,
            protocol: IpProtocol::Esp,
            transport: false,
            reqid: 0,
            ipcomp: false,
        };
        let (direction, extras) = (flow.direction, bsd::Extras::default());
        let request = bsd::add_flow(numbers, direction, &flow.pair, &template, &extras);
        let again = pf::Answer::decode(request.bytes());
        let again = again.and_then(|again| bsd::told::flow(&again));
        let is_required = true;
        assert_eq!(
            again,
            Some(bsd::told::Flow {
                is_required,
                ..flow
            })
        );
    }
    if let Some((destination, spi, _)) = expire {
        let ends = (localhost, destination);
        let request = bsd::delete(numbers, ends, (IpProtocol::Esp, spi), None);
        let mut again = request.bytes().to_vec();
        if let Some(kind) = again.get_mut(1) {
            *kind = bsd::kind::EXPIRE;
        }
        let again = pf::Answer::decode(&again);
        let again = again.and_then(|again| bsd::told::expire(&again));
        assert_eq!(again, Some((destination, spi, false)));
    }
}

/// Length of `nlmsghdr`.
const NETLINK_HEADER_LEN: usize = 16;
/// Length of `sadb_msg`.
const PF_KEY_HEADER_LEN: usize = 16;
