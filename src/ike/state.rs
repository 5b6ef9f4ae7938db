//! The states of an IKE SA. Each variant owns just what exists in that state: keys that are not
//! derived yet are not there, and what only the handshake needs dies with it.

use std::fmt;
use std::time::Instant;

use super::child_sa::ChildSa;
use super::exchange::asking::Asking;
use super::exchange::auth::AuthReply;
use super::exchange::ppk::Blend;
use super::exchange::rounds::Rounds;
use super::exchange::{auth_eap, auth_eap_initiator};
use super::negotiate::Chosen;
use super::own::{Answering, Own};
use crate::auth::announce::Announced;
use crate::crypto::ActiveKeyExchange;
use crate::crypto::keymat::{self, IkeKeys, IkeSuite};
use crate::kernel::RequestId;
use crate::policy::Identity;
use crate::wire::TrafficSelector;
use crate::wire::registry::{CertEncoding, HashAlgorithm, KeId};
use crate::wire::spi::{Cpi, EspSpi, IkeSpi};

/// Where an IKE SA is in its life.
pub enum State {
    /// Initiator: IKE_SA_INIT is out.
    AwaitSaInitResponse(Box<SaInitSent>),
    /// Responder: IKE_SA_INIT is answered. This is what "half-open" means.
    AwaitAuthRequest(Box<HalfOpen>),
    /// Initiator: IKE_AUTH is out.
    AwaitAuthResponse(Box<AuthSent>),
    /// Authenticated; the Child SA is on its way into the kernel, the answer to IKE_AUTH waits.
    AwaitKernel(Box<AwaitKernel>),
    /// Up.
    Established(Box<Established>),
    /// Our Delete is out, or the answer that ended this SA may have to be repeated.
    Deleting(Box<Deleting>),
    /// Gone; the endpoint removes it before it does anything else.
    Closed,
}

/// An initiator that waits for the IKE_SA_INIT response.
pub struct SaInitSent {
    /// Our key pair.
    pub kex: Box<dyn ActiveKeyExchange>,
    /// Its method.
    pub method: KeId,
    /// Our nonce.
    pub nonce: Vec<u8>,
    /// The request as sent last, for AUTH.
    pub request: Vec<u8>,
    /// The cookie to repeat, once one was asked for.
    pub cookie: Vec<u8>,
    /// Times the responder asked for a COOKIE or another method.
    pub rounds: u32,
}

/// A responder that waits for IKE_AUTH.
pub struct HalfOpen {
    /// The agreed algorithms.
    pub suite: IkeSuite,
    /// What was chosen, for a policy found later by identity.
    pub chosen: Chosen,
    /// Key exchange not done yet, or the keys. The work is put off until IKE_AUTH arrives.
    pub keying: Keying,
    /// Nonce of the initiator.
    pub nonce_i: Vec<u8>,
    /// Our nonce.
    pub nonce_r: Vec<u8>,
    /// The IKE_SA_INIT request, for the peer's AUTH.
    pub request: Vec<u8>,
    /// Our IKE_SA_INIT response, for our AUTH.
    pub response: Vec<u8>,
    /// Hash algorithms the peer verifies (RFC 7427); empty: it does not do method 14.
    pub peer_hashes: Vec<HashAlgorithm>,
    /// Both have said that they have PPKs (RFC 8784).
    pub ppk: bool,
    /// The peer is in the middle of EAP.
    pub eap: Option<Box<auth_eap::Wait>>,
    /// It has authenticated, but not as often as it must (RFC 4739).
    pub rounds: Option<Box<Rounds>>,
    /// The answer to its last request waits for the lookup thread.
    pub asking: Option<Box<Asking>>,
}

impl HalfOpen {
    /// Whether the peer has had an answer to IKE_AUTH, and so may end it.
    pub const fn is_answered(&self) -> bool {
        self.eap.is_some() || self.rounds.is_some()
    }

    /// The keys of this SA (RFC 7296, 2.14); `None` where the peer's value is no good.
    pub fn derive(
        &self,
        kex: Box<dyn ActiveKeyExchange>,
        public: &[u8],
        initiator: Option<IkeSpi>,
        responder: IkeSpi,
    ) -> Option<IkeKeys> {
        let shared = kex.complete(public).ok()?;
        let (ni, nr) = (&self.nonce_i, &self.nonce_r);
        let seed = keymat::skeyseed(self.suite.prf, ni, nr, shared.expose());
        IkeKeys::derive(&self.suite, seed.expose(), ni, nr, initiator?, responder).ok()
    }
}

/// Key exchange before and after it is done.
pub enum Keying {
    /// Our key pair and the peer's value.
    Pending(Box<dyn ActiveKeyExchange>, Vec<u8>),
    /// Done.
    Ready(IkeKeys),
    /// It failed; this SA will never have keys.
    Failed,
}

/// An initiator that waits for the IKE_AUTH response.
pub struct AuthSent {
    /// Keys.
    pub keys: IkeKeys,
    /// The agreed algorithms.
    pub suite: IkeSuite,
    /// Our nonce.
    pub nonce_i: Vec<u8>,
    /// Nonce of the responder.
    pub nonce_r: Vec<u8>,
    /// Our IKE_SA_INIT request, for our AUTH.
    pub request: Vec<u8>,
    /// The IKE_SA_INIT response, for the peer's AUTH.
    pub response: Vec<u8>,
    /// Hash algorithms the peer verifies (RFC 7427); empty: it does not do method 14.
    pub peer_hashes: Vec<HashAlgorithm>,
    /// CERTREQ payloads of the responder.
    pub cert_requests: Vec<(CertEncoding, Vec<u8>)>,
    /// The PPK that we name, and the keys with it, for when the responder takes it (RFC 8784).
    pub ppk: Option<Box<Blend>>,
    /// What the responder announced that it takes as proof (RFC 9593).
    pub announced: Announced,
    /// The first Child SA is not asked for yet (RFC 6023).
    pub childless: bool,
    /// Our inbound SPI of the first Child SA.
    pub inbound_spi: EspSpi,
    /// Our CPI, where we offer to compress.
    pub cpi: Option<Cpi>,
    /// The policy's selectors as offered: ours, the peer's.
    pub offered: (Vec<TrafficSelector>, Vec<TrafficSelector>),
    /// The response is there, and waits for the lookup thread.
    pub asking: Option<Box<Asking>>,
    /// How many authentications went before (RFC 4739).
    pub round: usize,
    /// Who the responder has proven to be, once there was one.
    pub proven: Option<Identity>,
    /// We prove ourselves by EAP.
    pub eap: Option<Box<auth_eap_initiator::Run>>,
}

impl AuthSent {
    /// Whether the responder has proven itself and asks by EAP who we are.
    pub fn is_in_eap(&self) -> bool {
        self.eap.as_ref().is_some_and(|run| run.has_begun())
    }
}

/// An answer to IKE_AUTH that waits for the kernel.
pub struct AwaitKernel {
    /// Keys.
    pub keys: IkeKeys,
    /// The agreed algorithms, for the log.
    pub suite: IkeSuite,
    /// The kernel request.
    pub request: RequestId,
    /// The answer, complete but for what the kernel says. `None` as initiator.
    pub reply: Option<Box<AuthReply>>,
    /// The Child SA being installed.
    pub child: ChildSa,
    /// Message ID of the request to answer.
    pub message_id: u32,
    /// Digest of its first datagram, for the response cache.
    pub digest: u64,
}

/// An IKE SA that is up.
pub struct Established {
    /// Keys.
    pub keys: IkeKeys,
    /// The agreed algorithms: what Child SAs and the next IKE SA derive their keys with.
    pub suite: IkeSuite,
    /// Our own exchange that is under way.
    pub own: Own,
    /// A CREATE_CHILD_SA request whose answer waits for the kernel.
    pub answering: Option<Box<Answering>>,
    /// The IKE SA that took this one's place. All that is left to do with this one is its Delete.
    pub successor: Option<IkeSpi>,
}

impl Established {
    /// Up, with nothing under way. What only IKE_AUTH needs is wiped.
    pub fn new(mut keys: IkeKeys, suite: IkeSuite) -> Self {
        keys.forget_proofs();
        Self {
            keys,
            suite,
            own: Own::Idle,
            answering: None,
            successor: None,
        }
    }

    /// Child SAs on their way into the kernel.
    pub fn on_the_way(&self) -> impl Iterator<Item = &ChildSa> {
        let answering = self.answering.as_ref().map(|a| &a.child);
        answering.into_iter().chain(self.own.installing())
    }

    /// The same, to be changed.
    pub fn on_the_way_mut(&mut self) -> impl Iterator<Item = &mut ChildSa> {
        let answering = self.answering.as_mut().map(|a| &mut a.child);
        answering.into_iter().chain(self.own.installing_mut())
    }

    /// When the kernel must have answered.
    pub fn kernel_until(&self) -> Option<Instant> {
        let answering = self.answering.as_ref().map(|a| a.until);
        let installing = self.own.kernel_until();
        answering.into_iter().chain(installing).min()
    }
}

/// An IKE SA on its way out.
pub struct Deleting {
    /// Keys.
    pub keys: IkeKeys,
    /// When to forget it at the latest.
    pub until: Instant,
}

impl State {
    /// The keys, once there are any.
    pub fn keys(&self) -> Option<&IkeKeys> {
        match self {
            Self::AwaitSaInitResponse(_) | Self::Closed => None,
            Self::AwaitAuthRequest(half_open) => match &half_open.keying {
                Keying::Ready(keys) => Some(keys),
                Keying::Pending(..) | Keying::Failed => None,
            },
            Self::AwaitAuthResponse(sent) => Some(&sent.keys),
            Self::AwaitKernel(wait) => Some(&wait.keys),
            Self::Established(established) => Some(&established.keys),
            Self::Deleting(deleting) => Some(&deleting.keys),
        }
    }

    /// Whether the peer has proven its identity.
    pub fn is_authenticated(&self) -> bool {
        match self {
            Self::AwaitKernel(_) | Self::Established(_) | Self::Deleting(_) => true,
            Self::AwaitSaInitResponse(_)
            | Self::AwaitAuthRequest(_)
            | Self::AwaitAuthResponse(_)
            | Self::Closed => false,
        }
    }
}

impl fmt::Display for State {
    /// The names OpenIKED's users know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwaitSaInitResponse(_) => "INIT",
            Self::AwaitAuthRequest(half_open) if half_open.eap.is_some() => "EAP",
            Self::AwaitAuthRequest(_) => "SA_INIT",
            Self::AwaitAuthResponse(sent) if sent.is_in_eap() => "EAP",
            Self::AwaitAuthResponse(_) => "AUTH_REQUEST",
            Self::AwaitKernel(_) => "VALID",
            Self::Established(_) => "ESTABLISHED",
            Self::Deleting(_) => "CLOSING",
            Self::Closed => "CLOSED",
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
