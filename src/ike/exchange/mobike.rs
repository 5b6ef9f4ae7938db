//! MOBIKE (RFC 4555): the initiator tells by UPDATE_SA_ADDRESSES that it is elsewhere, both sides
//! look whether the other really is where it says, and the Child SAs follow.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::super::agenda::Task;
use super::super::context::Context;
use super::super::error::Error;
use super::super::event::Path;
use super::super::ike_sa::IkeSa;
use super::super::message;
use super::super::mobility;
use super::super::natt::{self, NatState};
use super::super::own::{self, Own};
use super::super::state::State;
use super::create_child::up;
use super::informational;
use super::sa_init::{find_notify, has_notify, status};
use crate::policy::Family;
use crate::wire::Payload;
use crate::wire::registry::{ExchangeType, NotifyType};
use crate::wire::spi::IkeSpi;

/// Our request that is out.
#[derive(Debug)]
pub struct Sent {
    what: What,
    /// COOKIE2: who returns it has received the request (RFC 4555, 3.7).
    cookie: [u8; COOKIE_LEN],
    /// Where it was sent first.
    path: Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Does the peer receive there?
    Verify,
    /// We are elsewhere.
    Update,
    /// Is the peer alive, and does it still see us where it did?
    Probe,
}

/// A notification of an answer.
#[derive(Clone, Debug)]
pub struct Note {
    kind: NotifyType,
    data: Vec<u8>,
}

impl Note {
    /// As a payload.
    pub fn payload(&self) -> Payload<'_> {
        status(self.kind, &self.data)
    }
}

/// The notification by which we offer or accept MOBIKE in IKE_AUTH, if we do.
pub fn support(wanted: bool) -> Option<Payload<'static>> {
    wanted.then(|| status(NotifyType::MOBIKE_SUPPORTED, &[]))
}

/// What the peer's IKE_AUTH message says about MOBIKE.
pub fn agree(cx: &Context, sa: &mut IkeSa, payloads: &[Payload<'_>]) {
    let supported = has_notify(payloads, NotifyType::MOBIKE_SUPPORTED);
    sa.mobility.agreed = cx.config.settings.mobike && supported;
    if sa.mobility.agreed {
        learn_addresses(sa, payloads);
    }
}

/// A peer that allows no NAT says which addresses it uses; others mean that there is one
/// (RFC 4555, 3.9).
pub fn check_nats(path: Path, payloads: &[Payload<'_>]) -> Result<(), Error> {
    let claimed = find_notify(payloads, NotifyType::NO_NATS_ALLOWED);
    match claimed {
        Some(claimed) if claimed != addresses(path.remote, path.local) => Err(Error::UnexpectedNat),
        Some(_) | None => Ok(()),
    }
}

/// Both addresses, then both ports.
fn addresses(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(36);
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => out.extend(ip.octets()),
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
    }
    for end in [source, destination] {
        out.extend(end.port().to_be_bytes());
    }
    out
}

/// The peer's other addresses: each message that speaks of them tells all (RFC 4555, 3.6).
fn learn_addresses(sa: &mut IkeSa, payloads: &[Payload<'_>]) {
    let mut told = has_notify(payloads, NotifyType::NO_ADDITIONAL_ADDRESSES);
    let mut others = Vec::new();
    for payload in payloads {
        let Payload::Notify(notify) = payload else {
            continue;
        };
        let address = match notify.kind {
            NotifyType::ADDITIONAL_IP4_ADDRESS => {
                <[u8; 4]>::try_from(notify.data).ok().map(IpAddr::from)
            }
            NotifyType::ADDITIONAL_IP6_ADDRESS => {
                <[u8; 16]>::try_from(notify.data).ok().map(IpAddr::from)
            }
            _ => continue,
        };
        told = true;
        let good = address.filter(|a| is_host(*a) && !others.contains(a));
        others.extend(good.filter(|_| others.len() < OTHERS_MAX));
    }
    if told {
        sa.mobility.others = others;
    }
}

fn is_host(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// Takes what an INFORMATIONAL request says about addresses; returns what the answer says.
pub fn heed(cx: &mut Context, sa: &mut IkeSa, now: Instant, payloads: &[Payload<'_>]) -> Vec<Note> {
    let mut notes = Vec::new();
    let cookie = find_notify(payloads, NotifyType::COOKIE2);
    if let Some(cookie) = cookie.filter(|cookie| COOKIE_LENS.contains(&cookie.len())) {
        notes.push(Note {
            kind: NotifyType::COOKIE2,
            data: cookie.to_vec(),
        });
    }
    if !sa.mobility.agreed || !matches!(sa.state, State::Established(_)) {
        return notes;
    }
    learn_addresses(sa, payloads);
    let moves = has_notify(payloads, NotifyType::UPDATE_SA_ADDRESSES) && !sa.mobility.leads;
    if moves && let Err(kind) = accept(cx, sa, now, payloads) {
        cx.info(format_args!("{}: update of addresses: {kind}", sa.tag()));
        let data = Vec::new();
        notes.push(Note { kind, data });
        return notes;
    }
    if speaks_of_nats(payloads) && !cx.options.natt_off {
        let hashes = hashes(cx, sa, sa.asked_from());
        notes.extend(hashes.into_iter().flatten());
    }
    notes
}

fn speaks_of_nats(payloads: &[Payload<'_>]) -> bool {
    has_notify(payloads, NotifyType::NAT_DETECTION_SOURCE_IP)
        && has_notify(payloads, NotifyType::NAT_DETECTION_DESTINATION_IP)
}

fn spis(sa: &IkeSa) -> Option<(IkeSpi, Option<IkeSpi>)> {
    Some((sa.initiator_spi()?, sa.responder_spi()))
}

/// The NAT detection notifications of a message of ours on this path.
fn hashes(cx: &mut Context, sa: &IkeSa, path: Path) -> Option<[Note; 2]> {
    let force = cx.options.natt_only || sa.policy.natt;
    let (provider, rng) = (&cx.provider, &mut cx.rng);
    let spis = spis(sa)?;
    let both = natt::hashes_to_send(provider, rng, force, spis, path.local, path.remote);
    let [source, destination] = both.map(|hash| hash.to_vec());
    Some([
        Note {
            kind: NotifyType::NAT_DETECTION_SOURCE_IP,
            data: source,
        },
        Note {
            kind: NotifyType::NAT_DETECTION_DESTINATION_IP,
            data: destination,
        },
    ])
}

/// What NAT detection finds on this path. Port 500 cannot carry ESP, and a peer that could do
/// more has changed to 4500 before (RFC 4555, 3.3).
fn detect(cx: &Context, sa: &IkeSa, path: Path, payloads: &[Payload<'_>]) -> Option<NatState> {
    if !speaks_of_nats(payloads) || cx.options.natt_off || !path.marker {
        return None;
    }
    let spis = spis(sa)?;
    let mut nat = natt::detect(&cx.provider, payloads, spis, path.local, path.remote);
    // What we send is no good on purpose, so the peer sees a NAT, and so must we.
    nat.local |= cx.options.natt_only || sa.policy.natt;
    Some(nat)
}

/// The peer is at the place its request came from. The IKE SA goes there at once, for whatever we
/// have to say must reach the peer; the Child SAs only when the peer has shown that it receives
/// there (RFC 4555, 3.7). Otherwise anybody with an account could turn a stream that it ordered on
/// a victim, and the price is one round trip.
fn accept(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Instant,
    payloads: &[Payload<'_>],
) -> Result<(), NotifyType> {
    let path = sa.asked_from();
    check_nats(path, payloads).map_err(|_| NotifyType::UNEXPECTED_NAT_DETECTED)?;
    if !is_acceptable(sa, path) {
        return Err(NotifyType::UNACCEPTABLE_ADDRESSES);
    }
    if let Some(nat) = detect(cx, sa, path, payloads) {
        sa.nat = nat;
    }
    own::keep_alive(sa, now);
    if path != sa.path {
        sa.mobility.leave(sa.path);
        sa.mobility.doubtful = true;
        sa.mobility.seen = None;
        sa.packet_max = None;
        sa.relocate(path);
        sa.window.hurry(now);
    }
    if sa.mobility.doubtful {
        sa.agenda.plan(now, Task::VerifyPath);
    } else {
        mobility::move_children(cx, sa);
    }
    Ok(())
}

/// Whether the policy lets this IKE SA use these addresses.
fn is_acceptable(sa: &IkeSa, path: Path) -> bool {
    let (local, remote) = (path.local.ip(), path.remote.ip());
    let family = if remote.is_ipv4() {
        Family::Inet
    } else {
        Family::Inet6
    };
    let policy = &sa.policy;
    is_host(remote)
        && policy.family.is_none_or(|wanted| wanted == family)
        && policy.peer.is_none_or(|net| net.contains(remote))
        && policy.local.is_none_or(|net| net.contains(local))
}

/// Goes on with what the IKE SA before this one had begun.
pub fn resume(sa: &mut IkeSa, now: Instant) {
    if sa.mobility.doubtful {
        sa.agenda.plan(now, Task::VerifyPath);
    } else if sa.mobility.left.is_some() {
        sa.agenda.plan(now, Task::UpdateAddresses);
    }
}

/// Asks the peer to show that it receives where it is now. NAT detection goes along, which either side
/// may have in any such request (RFC 4555, 3.8): libreswan returns COOKIE2 only then.
pub fn verify(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    if sa.mobility.doubtful {
        let notes = nat_notes(cx, sa);
        send(cx, sa, now, What::Verify, &notes);
    }
}

/// NAT detection for a request of ours, where both sides know it.
fn nat_notes(cx: &mut Context, sa: &IkeSa) -> Vec<Note> {
    let wanted = sa.nat.supported && !cx.options.natt_off;
    let both = wanted.then(|| hashes(cx, sa, sa.path)).flatten();
    both.into_iter().flatten().collect()
}

/// One of our addresses is gone. Returns whether this IKE SA moves to the new one.
pub fn change_address(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Instant,
    old: IpAddr,
    new: IpAddr,
) -> bool {
    let concerned = sa.path.local.ip() == old && old != new && is_host(new);
    let may = sa.mobility.agreed && sa.mobility.leads;
    if !concerned || !may || !matches!(sa.state, State::Established(_)) {
        return false;
    }
    let remote = std::iter::once(sa.path.remote.ip()).chain(sa.mobility.others.iter().copied());
    let fits = |address: &IpAddr| address.is_ipv4() == new.is_ipv4();
    let Some(remote) = remote.into_iter().find(fits) else {
        cx.info(format_args!(
            "{}: no address of the peer fits {new}",
            sa.tag()
        ));
        return false;
    };
    sa.mobility.leave(sa.path);
    sa.packet_max = None;
    sa.path.local.set_ip(new);
    sa.path.remote.set_ip(remote);
    sa.window.hurry(now);
    sa.agenda.plan(now, Task::UpdateAddresses);
    true
}

/// Tells the peer where we are. Answers to what was sent before from elsewhere count for nothing.
pub fn update(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let mut notes = vec![Note {
        kind: NotifyType::UPDATE_SA_ADDRESSES,
        data: Vec::new(),
    }];
    notes.extend(nat_notes(cx, sa));
    if send(cx, sa, now, What::Update, &notes) {
        cx.stats.update_addresses_sent += 1;
    }
}

/// Asks whether the peer is alive, and behind a NAT also whether that has moved us
/// (RFC 4555, 3.8). `false`: there is nothing to ask but the former.
pub fn probe(cx: &mut Context, sa: &mut IkeSa, now: Instant) -> bool {
    let asks = sa.mobility.agreed && sa.mobility.leads && sa.nat.local;
    if !asks || cx.options.natt_off {
        return false;
    }
    let notes = hashes(cx, sa, sa.path);
    let notes: Vec<Note> = notes.into_iter().flatten().collect();
    let sent = send(cx, sa, now, What::Probe, &notes);
    if sent {
        cx.stats.dpd_sent += 1;
    }
    sent
}

fn send(cx: &mut Context, sa: &mut IkeSa, now: Instant, what: What, notes: &[Note]) -> bool {
    let cookie = cx.rng.bytes::<COOKIE_LEN>();
    let mut payloads: Vec<Payload<'_>> = notes.iter().map(Note::payload).collect();
    if what != What::Probe {
        payloads.push(status(NotifyType::COOKIE2, &cookie));
    }
    let path = sa.path;
    let exchange = ExchangeType::INFORMATIONAL;
    let sent = message::request(cx, sa, exchange, &payloads, now).is_some();
    if let (true, Some(up)) = (sent, up(sa)) {
        up.own = Own::Mobike(Box::new(Sent { what, cookie, path }));
    }
    sent
}

/// Takes the answer to a request of ours.
pub fn conclude(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Instant,
    sent: &Sent,
    payloads: &[Payload<'_>],
) {
    let returned = find_notify(payloads, NotifyType::COOKIE2);
    if sent.what != What::Probe && returned != Some(sent.cookie.as_slice()) {
        // RFC 4555, 3.7: whoever answered did not see the question.
        cx.warn(format_args!("{}: COOKIE2 was not returned", sa.tag()));
        return informational::delete(cx, sa, now);
    }
    // Sent to several places, it tells nothing of any (RFC 4555, 3.5 and 3.7).
    let still = sent.path == sa.path;
    match sent.what {
        What::Verify if still => {
            sa.mobility.doubtful = false;
            arrive(cx, sa);
        }
        What::Verify => sa.agenda.plan(now, Task::VerifyPath),
        What::Update if still => updated(cx, sa, now, payloads),
        What::Update => sa.agenda.plan(now, Task::UpdateAddresses),
        What::Probe if still => probed(sa, now, payloads),
        What::Probe => {}
    }
}

fn updated(cx: &mut Context, sa: &mut IkeSa, now: Instant, payloads: &[Payload<'_>]) {
    let refusals = [
        NotifyType::UNACCEPTABLE_ADDRESSES,
        NotifyType::UNEXPECTED_NAT_DETECTED,
    ];
    if let Some(kind) = refusals
        .into_iter()
        .find(|&kind| has_notify(payloads, kind))
    {
        let from = sa.path.local;
        // Where we were, all is as before; should that be gone, the peer will seem dead.
        if let Some(left) = sa.mobility.left.take() {
            sa.relocate(*left);
        }
        cx.warn(format_args!("{}: update to {from}: {kind}", sa.tag()));
        return;
    }
    if let Some(nat) = detect(cx, sa, sa.path, payloads) {
        sa.nat = nat;
        sa.mobility.seen_as = seen_as(payloads);
    }
    own::keep_alive(sa, now);
    arrive(cx, sa);
}

/// How the peer sees our address.
fn seen_as(payloads: &[Payload<'_>]) -> Option<Box<[u8]>> {
    let hash = find_notify(payloads, NotifyType::NAT_DETECTION_DESTINATION_IP)?;
    Some(hash.into())
}

/// Where it is not known how the peer saw us before (IKE_SA_INIT went through another mapping, a
/// rekey changed the SPIs in the hash) one update too many does no harm (RFC 4555, 3.8).
fn probed(sa: &mut IkeSa, now: Instant, payloads: &[Payload<'_>]) {
    let seen = seen_as(payloads);
    if seen.is_some() && seen != sa.mobility.seen_as {
        sa.agenda.plan(now, Task::UpdateAddresses);
    }
}

/// The Child SAs come to where the IKE SA is.
fn arrive(cx: &mut Context, sa: &mut IkeSa) {
    if let Some(left) = sa.mobility.left.take() {
        let (old, new) = if sa.mobility.leads && left.local != sa.path.local {
            (left.local, sa.path.local)
        } else {
            (left.remote, sa.path.remote)
        };
        cx.info(format_args!(
            "{}: ikev2_update_sa_addresses: old {old} new {new}",
            sa.tag()
        ));
    }
    mobility::move_children(cx, sa);
}

/// Where a request goes that was not answered: each in its turn to the peer's addresses, for one
/// may have stopped working. Only the initiator decides which is used (RFC 4555, 3.4).
pub fn path_for_retry(sa: &IkeSa, retries: u32) -> Path {
    if let Some(seen) = &sa.mobility.seen {
        let odd = seen.retries.abs_diff(retries) % 2 == 1;
        return if odd { seen.path } else { sa.path };
    }
    let all = candidates(sa);
    let turn = usize::try_from(retries.saturating_sub(1)).unwrap_or(0);
    let turn = turn % all.len().max(1);
    let mut path = sa.path;
    if let Some(address) = all.get(turn) {
        path.remote.set_ip(*address);
    }
    path
}

/// The address in use, then the others of the same family.
fn candidates(sa: &IkeSa) -> Vec<IpAddr> {
    let current = sa.path.remote.ip();
    let mut all = vec![current];
    if sa.mobility.agreed && sa.mobility.leads {
        let others = sa.mobility.others.iter().copied();
        all.extend(others.filter(|a| *a != current && a.is_ipv4() == current.is_ipv4()));
    }
    all
}

/// The peer answered from this path. If that is another of its addresses it is the one that works:
/// the peer is told to use it.
pub fn answered_from(sa: &mut IkeSa, now: Instant, path: Path) {
    let elsewhere = path.remote != sa.path.remote && path.remote.port() == sa.path.remote.port();
    if elsewhere && candidates(sa).contains(&path.remote.ip()) {
        let before = sa.path;
        sa.mobility.leave(before);
        if !sa.mobility.others.contains(&before.remote.ip()) {
            sa.mobility.others.push(before.remote.ip());
        }
        sa.relocate(Path {
            remote: path.remote,
            ..before
        });
        sa.agenda.plan(now, Task::UpdateAddresses);
    }
}

/// Bytes of a COOKIE2 of ours.
const COOKIE_LEN: usize = 16;
/// Bytes that a peer's may have (RFC 4555, 4.2.5).
const COOKIE_LENS: std::ops::RangeInclusive<usize> = 8..=64;
/// Addresses remembered of one peer: more than a host has ways into the Internet.
const OTHERS_MAX: usize = 16;

#[cfg(test)]
#[path = "mobike_tests.rs"]
mod tests;
