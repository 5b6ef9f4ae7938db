//! REDIRECT (RFC 5685): a gateway sends its clients to another one. As initiator we follow, whether
//! in IKE_SA_INIT, IKE_AUTH or later; as responder the operator may send peers away
//! (`ikectl redirect`). Gateways are named by address: nothing here waits for a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Role;
use super::super::agenda::Task;
use super::super::context::Context;
use super::super::ike_sa::IkeSa;
use super::super::message;
use super::super::own::{self, Own};
use super::super::state::State;
use super::create_child::up;
use super::sa_init::{find_notify, status};
use crate::policy::Policy;
use crate::time::Now;
use crate::wire::Payload;
use crate::wire::registry::{ExchangeType, NotifyType};

/// An IKE SA to be begun.
#[derive(Debug)]
pub struct Start {
    /// By this policy.
    pub policy: Arc<Policy>,
    /// With this peer instead of the policy's.
    pub to: Option<IpAddr>,
    /// How we came to it, if by redirects.
    pub trail: Option<Box<Trail>>,
    /// It takes the place of those by this policy with the same peer.
    pub renews: bool,
}

impl Start {
    /// With the policy's own peer.
    pub fn of(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            to: None,
            trail: None,
            renews: false,
        }
    }
}

/// The redirects that led to an IKE SA: gateways that send a client to each other must not keep it
/// going for ever (RFC 5685, 11).
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    /// The gateway that sent us here.
    from: Option<IpAddr>,
    /// Redirects followed since `since`.
    count: u32,
    since: Option<Instant>,
    /// Whether this IKE SA was left for another gateway: it is left once.
    left: bool,
}

impl Trail {
    /// One more redirect, from this gateway; `None`: too many.
    fn next(self, from: IpAddr, now: Instant) -> Option<Self> {
        let since = self.since.filter(|&at| now < at + LOOP_PERIOD);
        let count = if since.is_some() { self.count } else { 0 };
        (count < REDIRECTS_MAX).then(|| Self {
            from: Some(from),
            count: count + 1,
            since: since.or(Some(now)),
            left: false,
        })
    }
}

/// The gateway that sent us to the peer of this IKE SA, if one did.
pub fn came_from(sa: &IkeSa) -> Option<IpAddr> {
    sa.trail.as_ref()?.from
}

/// A gateway as RFC 5685, 6.2 writes it: type, length, address.
pub fn gateway(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => [&[1, 4][..], &address.octets()].concat(),
        IpAddr::V6(address) => [&[2, 16][..], &address.octets()].concat(),
    }
}

/// The gateway and what follows it; `None` for names and nonsense.
fn read_gateway(data: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (&[kind, len], rest) = data.split_first_chunk::<2>()?;
    let (address, rest) = rest.split_at_checked(usize::from(len))?;
    let address = match kind {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into(),
        _ => return None,
    };
    Some((address, rest))
}

/// A REDIRECT instead of an IKE_SA_INIT response. Nothing protects it but our own nonce in it: who
/// has not seen our request cannot send us away.
pub fn in_sa_init(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) -> bool {
    let State::AwaitSaInitResponse(sent) = &sa.state else {
        return false;
    };
    let Some(data) = find_notify(payloads, NotifyType::REDIRECT) else {
        return false;
    };
    let Some((to, nonce)) = read_gateway(data) else {
        return true;
    };
    if nonce == sent.nonce && begin(cx, sa, now.mono, to) {
        sa.state = State::Closed;
    }
    true
}

/// Follows a REDIRECT of an authenticated peer; true if there is one and the old IKE SA must end.
pub fn follow(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) -> bool {
    let data = find_notify(payloads, NotifyType::REDIRECT);
    let Some((to, _)) = data.and_then(read_gateway) else {
        return false;
    };
    sa.role == Role::OriginalInitiator && begin(cx, sa, now.mono, to)
}

fn begin(cx: &mut Context, sa: &mut IkeSa, now: Instant, to: IpAddr) -> bool {
    let trail = sa.trail.as_deref().copied().unwrap_or_default();
    if trail.left {
        return false;
    }
    let from = sa.path.remote.ip();
    let Some(next) = trail.next(from, now) else {
        cx.warn(format_args!("{}: redirected too often, to {to}", sa.tag()));
        return false;
    };
    if to == from || to.is_unspecified() || to.is_multicast() {
        return false;
    }
    cx.info(format_args!("{}: redirected from {from} to {to}", sa.tag()));
    sa.trail = Some(Box::new(Trail {
        left: true,
        ..trail
    }));
    cx.out.starts.push(Start {
        to: Some(to),
        trail: Some(Box::new(next)),
        ..Start::of(Arc::clone(&sa.policy))
    });
    true
}

/// Plans to send this peer away, if it understands that.
pub fn send(cx: &mut Context, sa: &mut IkeSa, now: Now, to: IpAddr) {
    let responder = sa.role == Role::OriginalResponder;
    if !sa.redirectable || !responder || !matches!(sa.state, State::Established(_)) {
        cx.debug(format_args!("{}: does not follow a redirect", sa.tag()));
        return;
    }
    sa.agenda.plan(now.mono, Task::Redirect(Box::new(to)));
    own::advance(cx, sa, now);
}

/// Sends it away. It deletes the IKE SA itself; should it not, we do (RFC 5685, 6.1).
pub fn tell(cx: &mut Context, sa: &mut IkeSa, now: Now, to: IpAddr) {
    let data = gateway(to);
    let payload = status(NotifyType::REDIRECT, &data);
    let exchange = ExchangeType::INFORMATIONAL;
    let sent = message::request(cx, sa, exchange, &[payload], now.mono);
    if let (Some(_), Some(up)) = (sent, up(sa)) {
        up.own = Own::Probe;
        cx.info(format_args!("{}: redirecting to {to}", sa.tag()));
        sa.agenda.plan(now.mono + LEAVE_MAX, Task::Retire);
    }
}

/// Redirects that are followed within this time; more are a loop (RFC 5685, 11: its defaults).
const REDIRECTS_MAX: u32 = 5;
const LOOP_PERIOD: Duration = Duration::from_secs(300);
/// How long a peer that was sent away may take to leave.
const LEAVE_MAX: Duration = Duration::from_secs(30);
