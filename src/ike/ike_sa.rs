//! One IKE SA with its Child SAs. It lives and dies in one shard; nothing else holds a reference.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Role;
use super::account;
use super::agenda::Agenda;
use super::child_sa::{ChildSa, Fate};
use super::context::Context;
use super::event::Path;
use super::exchange::redirect::Trail;
use super::exchange::relay::Admission;
use super::fragment::Pieces;
use super::grant;
use super::lease::Lease;
use super::mobility::Mobility;
use super::narrow::Dynamic;
use super::natt::NatState;
use super::own::Own;
use super::state::State;
use super::window::Window;
use crate::crypto::MessageKey;
use crate::kernel::{ChildRemove, KernelRequest, RequestId};
use crate::policy::{Identity, Policy};
use crate::wire::registry::ExchangeType;
use crate::wire::spi::{EspSpi, IkeSpi};
use crate::wire::{Flags, Header};

/// An IKE SA (RFC 7296, 1.1).
#[derive(Debug)]
pub struct IkeSa {
    /// Our SPI; its first byte is the shard.
    pub own_spi: IkeSpi,
    /// The peer's SPI, unknown until it answers.
    pub peer_spi: Option<IkeSpi>,
    /// Our role.
    pub role: Role,
    /// The policy it was made by; stays whatever happens to the configuration.
    pub policy: Arc<Policy>,
    /// The addresses it uses now.
    pub path: Path,
    /// Where the request that is being answered came from, if the IKE SA is elsewhere.
    asked_from: Option<Box<Path>>,
    /// Where it is in its life.
    pub state: State,
    /// Message IDs and caches.
    pub window: Window,
    /// Fragments of messages that are not complete.
    pub pieces: Option<Box<Pieces>>,
    /// Messages sealed so far: the AEAD's IV counter.
    pub sealed: u64,
    /// What NAT detection found.
    pub nat: NatState,
    /// How it moves with its peer.
    pub mobility: Mobility,
    /// Both sides do RFC 7383.
    pub fragmentation: bool,
    /// Bytes of the largest IP packet known to pass, once that is less than we begin with.
    pub packet_max: Option<u16>,
    /// The peer's identity, proven once the state says so.
    pub peer_id: Option<Identity>,
    /// Child SAs.
    pub children: Vec<ChildSa>,
    /// Inbound SPIs of Child SAs that the peer has and we could not take.
    pub orphans: Vec<EspSpi>,
    /// The peer makes no further Child SAs and does not rekey.
    pub no_additional_sas: bool,
    /// The peer understands REDIRECT, or has followed one.
    pub redirectable: bool,
    /// The redirects that led here or away from here, if there were any.
    pub trail: Option<Box<Trail>>,
    /// What it means to do.
    pub agenda: Agenda,
    /// Addresses that the peer gave us, if it did.
    pub assigned: Option<Box<Dynamic>>,
    /// What the kernel thread calls them, and what came with them.
    pub grant: Option<RequestId>,
    /// What a RADIUS server said of the peer.
    pub admission: Option<Box<Admission>>,
    /// Addresses the peer holds.
    pub lease: Lease,
    /// When it was made.
    pub born_at: Instant,
    /// When the peer last proved to be alive.
    pub heard_at: Instant,
    /// When a Child SA was last known to have brought packets from the peer.
    pub traffic_at: Instant,
    /// Digest of the IKE_SA_INIT request, the key of the half-open table.
    pub init_digest: Option<u64>,
    /// Listed under its peer's identity.
    pub indexed: bool,
    /// The peer began another; once it has answered on this one, that one goes.
    pub wants_single: bool,
    /// Counted for an active policy.
    pub counted: bool,
    /// Once it is up, others by its policy with the same peer go.
    pub renews: bool,
    /// The peer made it in the place of this one, which we were rekeying ourselves; which of both
    /// stands is not known yet.
    pub rival_for: Option<IkeSpi>,
}

impl IkeSa {
    /// A new IKE SA at the start of its life.
    pub fn new(
        own_spi: IkeSpi,
        peer_spi: Option<IkeSpi>,
        role: Role,
        policy: Arc<Policy>,
        path: Path,
        state: State,
        now: Instant,
    ) -> Self {
        Self {
            own_spi,
            peer_spi,
            role,
            policy,
            path,
            asked_from: None,
            state,
            window: Window::new(),
            pieces: None,
            sealed: 0,
            nat: NatState::default(),
            mobility: Mobility::new(role),
            fragmentation: false,
            packet_max: None,
            peer_id: None,
            children: Vec::new(),
            orphans: Vec::new(),
            no_additional_sas: false,
            redirectable: false,
            trail: None,
            agenda: Agenda::default(),
            assigned: None,
            grant: None,
            admission: None,
            lease: Lease::default(),
            born_at: now,
            heard_at: now,
            traffic_at: now,
            init_digest: None,
            indexed: false,
            wants_single: false,
            renews: false,
            rival_for: None,
            counted: false,
        }
    }

    /// The initiator's SPI, by which logs name the SA.
    pub fn initiator_spi(&self) -> Option<IkeSpi> {
        match self.role {
            Role::OriginalInitiator => Some(self.own_spi),
            Role::OriginalResponder => self.peer_spi,
        }
    }

    /// The responder's SPI.
    pub fn responder_spi(&self) -> Option<IkeSpi> {
        match self.role {
            Role::OriginalInitiator => self.peer_spi,
            Role::OriginalResponder => Some(self.own_spi),
        }
    }

    /// `spi=0x…`, the prefix of every line about this SA.
    pub fn tag(&self) -> Tag {
        Tag(self.initiator_spi())
    }

    /// The header of a message of ours.
    pub fn header(&self, exchange: ExchangeType, message_id: u32, response: bool) -> Header {
        Header {
            initiator_spi: self.initiator_spi(),
            responder_spi: self.responder_spi(),
            next_payload: Default::default(),
            major: 2,
            minor: 0,
            exchange,
            flags: Flags {
                initiator: self.role == Role::OriginalInitiator,
                version: false,
                response,
            },
            message_id,
            length: 0,
        }
    }

    /// The key of what we send.
    pub fn outbound_key(&self) -> Option<&dyn MessageKey> {
        let keys = self.state.keys()?;
        Some(match self.role {
            Role::OriginalInitiator => keys.initiator.as_ref(),
            Role::OriginalResponder => keys.responder.as_ref(),
        })
    }

    /// The key of what the peer sends.
    pub fn inbound_key(&self) -> Option<&dyn MessageKey> {
        let keys = self.state.keys()?;
        Some(match self.role {
            Role::OriginalInitiator => keys.responder.as_ref(),
            Role::OriginalResponder => keys.initiator.as_ref(),
        })
    }

    /// When this SA must be looked at, and why.
    pub fn deadline(&self, cx: &Context) -> Option<(Instant, &'static str)> {
        let settings = &cx.config.settings;
        let own = self.window.outstanding().map(|o| (o.due_at, "retransmit"));
        let state = match &self.state {
            State::AwaitAuthRequest(_) => {
                Some((self.born_at + settings.half_open_timeout, "half-open"))
            }
            State::AwaitKernel(_) => Some((self.heard_at + KERNEL_WAIT_MAX, "kernel")),
            State::Established(up) => {
                let task = self.agenda.next(self.may_request());
                let kernel = up.kernel_until();
                let answer = self.answer_until();
                let at = task.into_iter().chain(kernel).chain(answer).min();
                at.map(|at| (at, "task"))
            }
            State::Deleting(deleting) => Some((deleting.until, "delete")),
            State::AwaitAuthResponse(sent) => {
                let asking = sent.asking.as_ref();
                asking.map(|asking| (asking.until + LOOKUP_GRACE, "lookup"))
            }
            State::AwaitSaInitResponse(_) | State::Closed => None,
        };
        let pieces = self.pieces.as_ref();
        let pieces = pieces.map(|pieces| (pieces.since + PIECES_MAX, PIECES));
        let usual = match (own, state) {
            (Some(own), Some(state)) => Some(if own.0 <= state.0 { own } else { state }),
            (own, state) => own.or(state),
        };
        [usual, pieces]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// A request came from here, and is about to be answered.
    pub fn asked(&mut self, path: Path) {
        self.asked_from = (path != self.path).then(|| Box::new(path));
    }

    /// Where the request that is being answered came from: the answer goes there, whether or not
    /// the peer's other messages do (RFC 7296, 2.11).
    pub fn asked_from(&self) -> Path {
        self.asked_from.as_deref().copied().unwrap_or(self.path)
    }

    /// Goes elsewhere; what was asked before is still answered to where it was asked from.
    pub fn relocate(&mut self, path: Path) {
        let asked_from = self.asked_from();
        self.path = path;
        self.asked(asked_from);
    }

    /// Until when the last answer is kept, if there is one. A responder may forget it after several
    /// minutes (RFC 7296, 2.1); what was heard since only makes them more.
    pub fn answer_until(&self) -> Option<Instant> {
        let kept = self.window.keeps_answer();
        kept.then(|| self.heard_at + ANSWER_KEPT)
    }

    /// Takes a Child SA in. Most IKE SAs have one for all their life, so there is room for no more.
    pub fn add_child(&mut self, child: ChildSa) {
        self.children.reserve_exact(1);
        self.children.push(child);
    }

    /// Takes out one Child SA.
    pub fn take_child(&mut self, wanted: impl Fn(&ChildSa) -> bool) -> Option<ChildSa> {
        let at = self.children.iter().position(wanted)?;
        Some(self.children.swap_remove(at))
    }

    /// The Child SA with this inbound (our) SPI.
    pub fn child_by_inbound(&mut self, spi: EspSpi) -> Option<&mut ChildSa> {
        let mut children = self.children.iter_mut();
        children.find(|child| child.names.inbound_spi == spi)
    }

    /// The address that stands for `dynamic`: the one that the peer leases from us, or we from it.
    pub fn dynamic(&self) -> Dynamic {
        let address = |lease: Option<(IpAddr, _)>| lease.map(|(address, _)| address);
        let assigned = self.assigned.as_deref().copied().unwrap_or_default();
        Dynamic {
            v4: address(self.lease.v4).or(assigned.v4),
            v6: address(self.lease.v6).or(assigned.v6),
        }
    }

    /// Inbound SPIs of the Child SAs that we must delete.
    pub fn doomed_children(&self) -> Vec<EspSpi> {
        let doomed = self.children.iter().filter(|c| c.fate == Fate::Doomed);
        let doomed = doomed.map(|child| child.names.inbound_spi);
        doomed.chain(self.orphans.iter().copied()).collect()
    }

    /// Whether a request of ours may begin now.
    pub fn may_request(&self) -> bool {
        match &self.state {
            State::Established(up) => matches!(up.own, Own::Idle) && self.window.free().is_some(),
            State::AwaitSaInitResponse(_)
            | State::AwaitAuthRequest(_)
            | State::AwaitAuthResponse(_)
            | State::AwaitKernel(_)
            | State::Deleting(_)
            | State::Closed => false,
        }
    }

    /// The kernel requests whose answers this IKE SA waits for.
    pub fn awaits(&self) -> impl Iterator<Item = RequestId> {
        let (first, second) = match &self.state {
            State::AwaitKernel(wait) => (Some(wait.request), None),
            State::Established(up) => (
                up.answering.as_ref().map(|answering| answering.request),
                up.own.awaits(),
            ),
            State::AwaitSaInitResponse(_)
            | State::AwaitAuthRequest(_)
            | State::AwaitAuthResponse(_)
            | State::Deleting(_)
            | State::Closed => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// Gives up everything outside of this value: Child SAs in the kernel and leased addresses.
    pub fn release(&mut self, cx: &mut Context) {
        for child in std::mem::take(&mut self.children) {
            unload(cx, child);
        }
        match &self.state {
            State::AwaitKernel(wait) => withdraw(cx, &wait.child),
            State::Established(up) => {
                for child in up.on_the_way() {
                    withdraw(cx, child);
                }
            }
            State::AwaitSaInitResponse(_)
            | State::AwaitAuthRequest(_)
            | State::AwaitAuthResponse(_)
            | State::Deleting(_)
            | State::Closed => {}
        }
        account::end(cx, self.admission.as_deref());
        grant::give_back(cx, self.grant.take());
        let lease = std::mem::take(&mut self.lease);
        match &self.peer_id {
            Some(identity) if cx.config.settings.sticky_address && !lease.is_empty() => {
                cx.keep(identity, lease);
            }
            Some(_) | None => cx.release(lease),
        }
    }
}

/// `spi=0x…`: how the log names an IKE SA, by the initiator's SPI. Nothing is written before the
/// line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub Option<IkeSpi>);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spi=0x{:016x}", self.0.map_or(0, IkeSpi::value))
    }
}

/// Removes a Child SA from the kernel, if it is there.
pub fn unload(cx: &mut Context, mut child: ChildSa) {
    unload_from_kernel(cx, &mut child);
    forget(cx, &child);
}

/// Forgets a Child SA with what it has counted until now, and removes it from the kernel a moment
/// later ([`remove_leaving`]).
pub fn unload_soon(cx: &mut Context, mut child: ChildSa, now: Instant) {
    if let Some(names) = part(cx, &mut child) {
        cx.leaving.push_back((now + STILL_COMING, names));
    }
    forget(cx, &child);
}

/// Removes from the kernel what was to go by now.
pub fn remove_leaving(cx: &mut Context, now: Instant) {
    while let Some((_, child)) = cx.leaving.pop_front_if(|(at, _)| *at <= now) {
        cx.out
            .kernel
            .push_back(KernelRequest::DeleteChild { child });
    }
}

fn forget(cx: &mut Context, child: &ChildSa) {
    account::forget(cx, child.names.inbound_spi);
    cx.children.remove(&child.names.inbound_spi);
    cx.stats.csa_removed += 2;
}

/// Removes a Child SA from the kernel, if it is there, and keeps what we know of it.
pub fn unload_from_kernel(cx: &mut Context, child: &mut ChildSa) {
    if let Some(child) = part(cx, child) {
        cx.out
            .kernel
            .push_back(KernelRequest::DeleteChild { child });
    }
}

/// What names a Child SA that is in the kernel and is to leave it, which counts it once more.
fn part(cx: &mut Context, child: &mut ChildSa) -> Option<Box<ChildRemove>> {
    if !std::mem::take(&mut child.loaded) {
        return None;
    }
    account::part(cx, child.names.inbound_spi);
    Some(Box::new(child.names.clone()))
}

/// Takes back an addition that the kernel has not answered: the removal follows it in the same
/// queue, and the answer finds nobody.
pub fn withdraw(cx: &mut Context, child: &ChildSa) {
    let child = Box::new(child.names.clone());
    cx.out
        .kernel
        .push_back(KernelRequest::DeleteChild { child });
}

/// Longest wait for the kernel thread before the Child SA counts as refused.
pub const KERNEL_WAIT_MAX: Duration = Duration::from_secs(20);
/// For how long packets may come through a Child SA after the peer has answered its Delete: what its
/// kernel had not switched to the new one yet.
const STILL_COMING: Duration = Duration::from_millis(250);
/// How long after its time is over an answer of the lookup thread may still be on its way.
const LOOKUP_GRACE: Duration = Duration::from_secs(2);
/// What `IkeSa::deadline` calls the end of an incomplete message.
pub const PIECES: &str = "fragments";
/// How long fragments wait for the rest: longer than the peer waits between retransmissions at first.
const PIECES_MAX: Duration = Duration::from_secs(30);
/// For how long the last answer of an IKE SA that is up can be repeated: peers give a request up after
/// two or three minutes.
const ANSWER_KEPT: Duration = Duration::from_secs(300);
/// How long an SA that ended can still repeat its last answer.
pub const LINGER: Duration = Duration::from_secs(10);
