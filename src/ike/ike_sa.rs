//! One IKE SA with its Child SAs. It lives and dies in one shard; nothing else holds a reference.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Role;
use super::child_sa::ChildSa;
use super::context::Context;
use super::event::Path;
use super::fragment::Reassembly;
use super::lease::Lease;
use super::natt::NatState;
use super::state::State;
use super::window::Window;
use crate::crypto::MessageKey;
use crate::kernel::KernelRequest;
use crate::policy::{Identity, Policy};
use crate::wire::registry::{ExchangeType, ProtocolId};
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
    /// Where the request that is being answered came from; the answer goes there, whether or not
    /// the peer's other messages do (RFC 7296, 2.11).
    pub asked_from: Path,
    /// Where it is in its life.
    pub state: State,
    /// Message IDs and caches.
    pub window: Window,
    /// Fragments of a request that is not complete.
    pub request_pieces: Option<Reassembly>,
    /// Fragments of a response that is not complete; its Message ID counts apart.
    pub response_pieces: Option<Reassembly>,
    /// When the first of these fragments came.
    pub pieces_since: Option<Instant>,
    /// Messages sealed so far: the AEAD's IV counter.
    pub sealed: u64,
    /// What NAT detection found.
    pub nat: NatState,
    /// Both sides do RFC 7383.
    pub fragmentation: bool,
    /// The peer's identity, proven once the state says so.
    pub peer_id: Option<Identity>,
    /// Child SAs.
    pub children: Vec<ChildSa>,
    /// Addresses the peer holds.
    pub lease: Lease,
    /// When it was made.
    pub born_at: Instant,
    /// When the peer last proved to be alive.
    pub heard_at: Instant,
    /// Deadline registered with the timers.
    pub timer_at: Option<Instant>,
    /// Digest of the IKE_SA_INIT request, the key of the half-open table.
    pub init_digest: Option<u64>,
    /// Listed under its peer's identity.
    pub indexed: bool,
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
            asked_from: path,
            state,
            window: Window::new(),
            request_pieces: None,
            response_pieces: None,
            pieces_since: None,
            sealed: 0,
            nat: NatState::default(),
            fragmentation: false,
            peer_id: None,
            children: Vec::new(),
            lease: Lease::default(),
            born_at: now,
            heard_at: now,
            timer_at: None,
            init_digest: None,
            indexed: false,
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
    pub fn tag(&self) -> String {
        format!(
            "spi=0x{:016x}",
            self.initiator_spi().map_or(0, IkeSpi::value)
        )
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
            State::Established(_) if !settings.dpd_check_interval.is_zero() => {
                Some((self.heard_at + SILENCE_MAX, "dpd"))
            }
            State::Deleting(deleting) => Some((deleting.until, "delete")),
            State::AwaitSaInitResponse(_)
            | State::AwaitAuthResponse(_)
            | State::Established(_)
            | State::Closed => None,
        };
        let pieces = self.pieces_since.map(|since| (since + PIECES_MAX, PIECES));
        // While a request is out its own schedule decides about a dead peer.
        let usual = match (own, state) {
            (Some(own), Some((_, "dpd"))) => Some(own),
            (Some(own), Some(state)) => Some(if own.0 <= state.0 { own } else { state }),
            (own, state) => own.or(state),
        };
        [usual, pieces]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// Gives up messages of which fragments are missing.
    pub fn drop_pieces(&mut self) {
        (self.request_pieces, self.response_pieces) = (None, None);
        self.pieces_since = None;
    }

    /// Takes out the Child SA of this protocol with this outbound (peer's) SPI.
    pub fn take_child_by_outbound(&mut self, protocol: ProtocolId, spi: EspSpi) -> Option<ChildSa> {
        let at = self.children.iter().position(|child| {
            child.names.protocol == protocol && child.names.outbound_spi == spi
        })?;
        Some(self.children.swap_remove(at))
    }

    /// Takes out the Child SAs whose lifetime is over.
    pub fn take_expired_children(&mut self) -> Vec<ChildSa> {
        self.children
            .extract_if(.., |child| child.expired)
            .collect()
    }

    /// Gives up everything outside of this value: Child SAs in the kernel and leased addresses.
    pub fn release(&mut self, cx: &mut Context) {
        for child in std::mem::take(&mut self.children) {
            unload(cx, child);
        }
        if let State::AwaitKernel(wait) = &self.state {
            withdraw(cx, &wait.child);
        }
        cx.pools.release(std::mem::take(&mut self.lease));
        cx.stats.leases = cx.pools.in_use() as u64;
    }
}

/// Removes a Child SA from the kernel, if it is there.
pub fn unload(cx: &mut Context, child: ChildSa) {
    let inbound_spi = child.names.inbound_spi;
    if child.loaded {
        cx.out.kernel.push_back(KernelRequest::DeleteChild {
            child: Box::new(child.names),
        });
    }
    cx.children.remove(&inbound_spi);
    cx.stats.csa_removed += 2;
}

/// Takes back an addition that the kernel has not answered: the removal follows it in the same
/// queue, and the answer finds nobody.
pub fn withdraw(cx: &mut Context, child: &ChildSa) {
    let child = Box::new(child.names.clone());
    cx.out
        .kernel
        .push_back(KernelRequest::DeleteChild { child });
}

/// Silence after which the peer is asked whether it lives; OpenIKED's 300 s.
pub const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Longest wait for the kernel thread before the Child SA counts as refused.
const KERNEL_WAIT_MAX: Duration = Duration::from_secs(20);
/// What `IkeSa::deadline` calls the end of an incomplete message.
pub const PIECES: &str = "fragments";
/// How long fragments wait for the rest: longer than the peer waits between retransmissions at first.
const PIECES_MAX: Duration = Duration::from_secs(30);
/// How long an SA that ended can still repeat its last answer.
pub const LINGER: Duration = Duration::from_secs(10);
