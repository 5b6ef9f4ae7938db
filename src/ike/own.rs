//! Our own exchanges on an IKE SA that is up: what is under way, and what is begun next. One at a
//! time, as the window of RFC 7296, 2.3 wants it; the rest waits in the agenda.

use std::time::{Duration, Instant};

use super::account;
use super::agenda::Task;
use super::child_sa::{ChildSa, Fate, Grant};
use super::context::Context;
use super::endpoint::news;
use super::event::Path;
use super::exchange::{create_child_initiator, informational, mobike, reauth, redirect, rekey_ike};
use super::ike_sa::{self, IkeSa};
use super::state::State;
use super::timer;
use super::window::Wear;
use crate::crypto::ActiveKeyExchange;
use crate::kernel::{Count, KernelRequest, RequestId, SelectorPair};
use crate::time::Now;
use crate::wire::TrafficSelector;
use crate::wire::registry::KeId;
use crate::wire::spi::{Cpi, EspSpi, IkeSpi};

/// Our exchange that is under way.
#[derive(Default)]
pub enum Own {
    /// None.
    #[default]
    Idle,
    /// An INFORMATIONAL whose answer says no more than that the peer lives.
    Probe,
    /// The Delete of Child SAs, by inbound SPI.
    Delete(Vec<EspSpi>),
    /// CREATE_CHILD_SA for a Child SA.
    Child(Box<ChildSent>),
    /// CREATE_CHILD_SA for the IKE SA itself.
    Rekey(Box<RekeySent>),
    /// An INFORMATIONAL about addresses (RFC 4555).
    Mobike(Box<mobike::Sent>),
    /// The peer granted a Child SA; the kernel is asked to install it.
    Install(Box<Installing>),
}

/// Our request for a Child SA.
pub struct ChildSent {
    /// Our nonce.
    pub nonce: Vec<u8>,
    /// Our key pair, where the Child SA gets its own key exchange.
    pub kex: Option<(KeId, Box<dyn ActiveKeyExchange>)>,
    /// Our inbound SPI.
    pub inbound_spi: EspSpi,
    /// Inbound SPI of the Child SA that it replaces.
    pub rekeys: Option<EspSpi>,
    /// Ties SAs to policies; that of the Child SA it replaces.
    pub reqid: u32,
    /// The selectors we offered: ours, the peer's.
    pub offered: (Vec<TrafficSelector>, Vec<TrafficSelector>),
    /// Whether transport mode was asked for.
    pub transport: bool,
    /// Whether IPComp is wanted.
    pub ipcomp: bool,
    /// Our CPI, where it was asked for.
    pub cpi: Option<Cpi>,
    /// Times the peer asked for another key exchange method.
    pub rounds: u32,
    /// What the peer did to the same Child SA meanwhile.
    pub rival: Option<Rival>,
}

/// Our request for a new IKE SA.
pub struct RekeySent {
    /// Our nonce.
    pub nonce: Vec<u8>,
    /// Our key pair.
    pub kex: Box<dyn ActiveKeyExchange>,
    /// Its method.
    pub method: KeId,
    /// Our SPI of the new IKE SA.
    pub own_spi: IkeSpi,
    /// Times the peer asked for another key exchange method.
    pub rounds: u32,
    /// The IKE SA that the peer made meanwhile, by our SPI, and the lower of its nonces.
    pub rival: Option<(IkeSpi, Vec<u8>)>,
}

/// The peer's rekey of a Child SA that we were rekeying ourselves (RFC 7296, 2.8.1).
pub struct Rival {
    /// The lower of its two nonces.
    pub nonce: Vec<u8>,
}

/// A Child SA of ours on its way into the kernel.
pub struct Installing {
    /// The kernel request.
    pub request: RequestId,
    /// When the kernel counts as having refused.
    pub until: Instant,
    /// The Child SA.
    pub child: ChildSa,
    /// Inbound SPI of the Child SA that it replaces.
    pub rekeys: Option<EspSpi>,
    /// The lower nonce of its exchange.
    pub lowest: Vec<u8>,
    /// What the peer did to the same Child SA meanwhile.
    pub rival: Option<Rival>,
}

/// A Child SA of the peer's on its way into the kernel, and the answer that waits for it.
pub struct Answering {
    /// The kernel request.
    pub request: RequestId,
    /// When the kernel counts as having refused.
    pub until: Instant,
    /// The Child SA.
    pub child: ChildSa,
    /// Inbound SPI of the Child SA that it replaces.
    pub rekeys: Option<EspSpi>,
    /// What the answer grants.
    pub grant: Grant,
    /// Our nonce.
    pub nonce: Vec<u8>,
    /// Our key exchange value.
    pub ke: Option<(KeId, Vec<u8>)>,
    /// Message ID of the request.
    pub message_id: u32,
    /// Digest of its first datagram, for the response cache.
    pub digest: u64,
}

impl Own {
    /// The kernel request whose answer this waits for.
    pub fn awaits(&self) -> Option<RequestId> {
        self.install().map(|installing| installing.request)
    }

    /// When the kernel must have answered.
    pub fn kernel_until(&self) -> Option<Instant> {
        self.install().map(|installing| installing.until)
    }

    /// The Child SA on its way into the kernel.
    pub fn installing(&self) -> Option<&ChildSa> {
        self.install().map(|installing| &installing.child)
    }

    fn install(&self) -> Option<&Installing> {
        match self {
            Self::Install(installing) => Some(installing),
            Self::Idle
            | Self::Probe
            | Self::Delete(_)
            | Self::Child(_)
            | Self::Rekey(_)
            | Self::Mobike(_) => None,
        }
    }

    /// The Child SA on its way into the kernel, to be changed.
    pub fn installing_mut(&mut self) -> Option<&mut ChildSa> {
        match self {
            Self::Install(installing) => Some(&mut installing.child),
            Self::Idle
            | Self::Probe
            | Self::Delete(_)
            | Self::Child(_)
            | Self::Rekey(_)
            | Self::Mobike(_) => None,
        }
    }
}

/// The lower of two nonces, compared as RFC 7296, 2.8.1 says.
pub fn lower<'a>(a: &'a [u8], b: &'a [u8]) -> &'a [u8] {
    a.min(b)
}

/// Does what is due, as far as it can be begun now.
pub fn advance(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    match sa.window.wear() {
        Wear::Fresh => {}
        Wear::Worn => sa.agenda.plan(now.mono, Task::RekeyIke),
        Wear::Spent => sa.agenda.plan(now.mono, Task::DeleteIke),
    }
    for _ in 0..TASKS_MAX {
        if !matches!(sa.state, State::Established(_)) {
            return;
        }
        let exchanges = sa.may_request();
        let Some(task) = sa.agenda.take_due(now.mono, exchanges) else {
            return;
        };
        perform(cx, sa, now, task);
    }
}

fn perform(cx: &mut Context, sa: &mut IkeSa, now: Now, task: Task) {
    match task {
        Task::CheckPeer => check_peer(cx, sa, now.mono),
        Task::Confirm => informational::probe(cx, sa, now.mono),
        Task::ReportDouble => news::announce(cx, sa),
        Task::Keepalive => {
            // Not an IKE message, so it goes without the marker of those.
            let path = Path {
                marker: false,
                ..sa.path
            };
            cx.stats.keepalive_sent += 1;
            cx.transmit(path, KEEPALIVE.to_vec());
            sa.agenda.plan(now.mono + KEEPALIVE_AFTER, Task::Keepalive);
        }
        Task::CheckChildren => check_children(cx, sa, now),
        Task::MakeChild(pair) => make_child(cx, sa, now, *pair),
        Task::RekeyChild(spi) => create_child_initiator::rekey(cx, sa, now, spi),
        Task::DeleteChildren => informational::delete_children(cx, sa, now.mono),
        Task::Activate(spi) => activate(cx, sa, spi),
        Task::Redirect(to) => redirect::tell(cx, sa, now, *to),
        Task::RekeyIke => rekey_ike::start(cx, sa, now),
        Task::DeleteIke => informational::delete(cx, sa, now.mono),
        Task::Retire => {
            account::out_of_time(cx, sa, now.mono);
            informational::delete(cx, sa, now.mono);
        }
        Task::VerifyPath => mobike::verify(cx, sa, now.mono),
        Task::UpdateAddresses => mobike::update(cx, sa, now.mono),
        Task::Report => account::report(cx, sa, now.mono),
        Task::Reauthenticate => reauth::again(cx, sa, now.mono),
    }
}

/// Plans what every IKE SA does from the moment it is up.
pub fn begin(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let settings = &cx.config.settings;
    let interval = settings.dpd_check_interval;
    if !interval.is_zero() {
        // Drawn for each SA: those that came in one storm do not ask the kernel in one.
        let permille = u32::try_from(500 + cx.rng.below(500)).unwrap_or(1000);
        let first = interval * permille / 1000;
        sa.agenda.plan(now + first, Task::CheckPeer);
    }
    keep_alive(sa, now);
    mobike::resume(sa, now);
    if sa.policy.active {
        plan_check(cx, sa, now);
    }
    if sa.wants_single {
        sa.agenda.plan(now, Task::Confirm);
    }
    let lifetime = sa.policy.ike_lifetime;
    if !lifetime.is_zero() {
        let soft = timer::soft_lifetime(lifetime, &mut cx.rng);
        sa.agenda.plan(now + soft, Task::RekeyIke);
        sa.agenda.plan(now + lifetime, Task::DeleteIke);
    }
}

/// Keeps the mapping of the NAT before us, if there is one.
pub fn keep_alive(sa: &mut IkeSa, now: Instant) {
    sa.agenda.strike(&Task::Keepalive);
    if sa.nat.local {
        sa.agenda.plan(now + KEEPALIVE_AFTER, Task::Keepalive);
    }
}

/// DPD. Whoever sends to the peer and gets nothing back asks whether it lives, and so does whoever
/// has not heard of it for long; packets of Child SAs, which only the kernel sees, tell as much as
/// messages (RFC 7296, 2.4).
fn check_peer(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let interval = cx.config.settings.dpd_check_interval;
    if interval.is_zero() {
        return;
    }
    let loaded = sa.children.iter().filter(|child| child.loaded);
    let children: Vec<EspSpi> = loaded.map(|child| child.names.inbound_spi).collect();
    let silent_at = heard_at(sa) + SILENCE_MAX;
    let next = if children.is_empty() {
        silent_at
    } else {
        silent_at.min(now + interval)
    };
    sa.agenda.plan(next.max(now + MOMENT), Task::CheckPeer);
    if children.is_empty() {
        return ask_if_silent(cx, sa, now, false);
    }
    let asker = sa.own_spi;
    cx.out
        .kernel
        .push_back(KernelRequest::Count { asker, children });
}

/// The kernel has counted the packets of the Child SAs, because `check_peer` asked.
pub fn counted(cx: &mut Context, sa: &mut IkeSa, now: Instant, counts: &[Count]) {
    account::counted(cx, sa, counts);
    let (mut heard, mut sent) = (false, false);
    for count in counts {
        if let Some(child) = sa.child_by_inbound(count.spi) {
            let (inbound, outbound) = child.packets;
            let now = (count.inbound.packets, count.outbound.packets);
            heard |= inbound != now.0;
            sent |= outbound != now.1;
            child.packets = now;
        }
    }
    if heard {
        sa.traffic_at = now;
    } else {
        ask_if_silent(cx, sa, now, sent);
    }
}

fn ask_if_silent(cx: &mut Context, sa: &mut IkeSa, now: Instant, sent: bool) {
    let silence = now.saturating_duration_since(heard_at(sa));
    // What was heard in this interval was heard after most of what was sent in it.
    let max = if sent {
        (cx.config.settings.dpd_check_interval / 2).min(SILENCE_MAX)
    } else {
        SILENCE_MAX
    };
    // A request that is out asks as well, and its own schedule decides about a dead peer.
    if silence >= max && sa.may_request() {
        informational::probe(cx, sa, now);
    }
}

fn heard_at(sa: &IkeSa) -> Instant {
    sa.heard_at.max(sa.traffic_at)
}

/// An active policy wants its Child SA, whatever became of the last one.
fn check_children(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    plan_check(cx, sa, now.mono);
    let State::Established(up) = &sa.state else {
        return;
    };
    let none = sa.children.iter().all(|child| child.fate == Fate::Doomed);
    if none && up.successor.is_none() && up.answering.is_none() {
        create_child_initiator::make(cx, sa, now);
    }
}

/// A packet waits for a Child SA with these selectors.
fn make_child(cx: &mut Context, sa: &mut IkeSa, now: Now, pair: SelectorPair) {
    let State::Established(up) = &sa.state else {
        return;
    };
    let living = sa
        .children
        .iter()
        .filter(|child| child.fate != Fate::Doomed);
    let living: Vec<&ChildSa> = living.chain(up.on_the_way()).collect();
    let covers = |child: &&ChildSa| child.names.selectors.contains(&pair);
    if up.successor.is_some() || living.iter().any(covers) {
        return;
    }
    if living.is_empty() {
        create_child_initiator::make(cx, sa, now);
    } else {
        create_child_initiator::make_for(cx, sa, now, pair);
    }
}

/// At a time that the peer, where its policy is active too, does not choose as well.
fn plan_check(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let pause = CHECK_AFTER + Duration::from_millis(cx.rng.below(CHECK_JITTER));
    sa.agenda.plan(now + pause, Task::CheckChildren);
}

/// From now on we send through this Child SA: as responder of a rekey this waits until the peer
/// has shown that it knows the new one, by its Delete of the old one.
pub fn activate(cx: &mut Context, sa: &mut IkeSa, inbound_spi: EspSpi) {
    sa.agenda.strike(&Task::Activate(inbound_spi));
    let Some(child) = sa.child_by_inbound(inbound_spi) else {
        return;
    };
    if let Some(child) = child.outbound_waits.take() {
        cx.out
            .kernel
            .push_back(KernelRequest::AddOutbound { child });
    }
}

/// Tells the peer to drop a Child SA that it made and we could not take.
pub fn disown(sa: &mut IkeSa, inbound_spi: EspSpi, now: Instant) {
    sa.orphans.push(inbound_spi);
    sa.agenda.plan(now, Task::DeleteChildren);
}

/// A Child SA has gone. The one that takes its place is used from now on; the one whose place it
/// took itself, if it still stands, is in use again.
pub fn gone(cx: &mut Context, sa: &mut IkeSa, now: Now, child: ChildSa) {
    let gone = detach(cx, sa, now, child);
    ike_sa::unload(cx, gone);
}

/// The same after the peer has answered our Delete: where another has taken its place, what the peer
/// sent before its kernel took that up is still on its way.
pub fn given_up(cx: &mut Context, sa: &mut IkeSa, now: Now, child: ChildSa) {
    let spi = child.names.inbound_spi;
    let replaced = sa.children.iter().any(|heir| heir.replaces == Some(spi));
    let gone = detach(cx, sa, now, child);
    if replaced {
        ike_sa::unload_soon(cx, gone, now.mono);
    } else {
        ike_sa::unload(cx, gone);
    }
}

fn detach(cx: &mut Context, sa: &mut IkeSa, now: Now, child: ChildSa) -> ChildSa {
    let spi = child.names.inbound_spi;
    sa.agenda.strike(&Task::RekeyChild(spi));
    sa.agenda.strike(&Task::Activate(spi));
    let heirs = sa.children.iter().filter(|heir| {
        let waits = heir.fate != Fate::Doomed && heir.outbound_waits.is_some();
        heir.replaces == Some(spi) && waits
    });
    let heirs: Vec<EspSpi> = heirs.map(|heir| heir.names.inbound_spi).collect();
    for heir in heirs {
        activate(cx, sa, heir);
    }
    let others = |old| {
        let mut children = sa.children.iter();
        children.any(|other| other.replaces == Some(old) && other.fate != Fate::Doomed)
    };
    let revived = child.replaces.filter(|&old| !others(old));
    if let Some(old) = revived.and_then(|old| sa.child_by_inbound(old))
        && old.fate == Fate::Replaced
    {
        old.fate = Fate::Living;
        let old = old.names.inbound_spi;
        create_child_initiator::retry(cx, sa, now, old);
    }
    child
}

/// Takes a Child SA out of service: the peer is told as soon as we may send a request.
pub fn doom(sa: &mut IkeSa, inbound_spi: EspSpi, now: Instant) {
    if let Some(child) = sa.child_by_inbound(inbound_spi) {
        child.fate = Fate::Doomed;
        sa.agenda.strike(&Task::RekeyChild(inbound_spi));
        sa.agenda.plan(now, Task::DeleteChildren);
    }
}

/// The kernel dropped the SAs of this Child SA: its policies go at once, the peer is told.
pub fn expire(cx: &mut Context, sa: &mut IkeSa, inbound_spi: EspSpi, now: Instant) {
    if let Some(child) = sa.child_by_inbound(inbound_spi) {
        ike_sa::unload_from_kernel(cx, child);
        doom(sa, inbound_spi, now);
    }
}

/// The kernel did not answer in time: what it was asked for must not stay, and whoever waits is
/// told that it was refused.
pub fn kernel_is_late(cx: &mut Context, sa: &mut IkeSa, now: Instant) -> Option<RequestId> {
    let State::Established(up) = &sa.state else {
        return None;
    };
    let answering = up.answering.as_ref();
    let answering = answering.map(|a| (a.request, a.until, &a.child));
    let installing = up.own.install().map(|i| (i.request, i.until, &i.child));
    let mut waits = answering.into_iter().chain(installing);
    let (request, _, child) = waits.find(|(_, until, _)| *until <= now)?;
    ike_sa::withdraw(cx, child);
    Some(request)
}

/// Silence after which the peer is asked whether it lives; OpenIKED's 300 s.
pub const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Between keepalives to the NAT before us (RFC 3948, 4).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(20);
const KEEPALIVE: [u8; 1] = [0xff];
/// Between looks at the Child SAs of an active policy, and the milliseconds drawn on top.
const CHECK_AFTER: Duration = Duration::from_secs(30);
const CHECK_JITTER: u64 = 30_000;
/// The least wait before the same question.
const MOMENT: Duration = Duration::from_secs(1);
/// Tasks of one SA in one turn; more are done in the next.
const TASKS_MAX: usize = 16;
