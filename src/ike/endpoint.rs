//! All IKE SAs of one shard: routes each datagram to its IKE SA and its exchange, keeps the timers,
//! takes the kernel's answers and the operator's commands. Nothing a datagram says counts before
//! its integrity is proven.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Role;
use super::agenda::Task;
use super::child_sa::Fate;
use super::context::{Bequest, Context};
use super::error::{Answer, Error, Trust};
use super::event::{Command, Event, Level, Path, Reply, Transmit};
use super::exchange::redirect::{self, Start};
use super::exchange::{auth, auth_initiator, create_child, create_child_initiator};
use super::exchange::{informational, mobike, rekey_ike, sa_init, sa_init_initiator};
use super::ike_sa::{self, IkeSa, PIECES};
use super::message::{self, Opened};
use super::mobility;
use super::own::{self, Own};
use super::show;
use super::state::{Keying, State};
use super::stats::Stats;
use super::table::{Key, Table};
use super::window::{Arrival, Retry};
use crate::auth::store::CredentialStore;
use crate::crypto::{Provider, Rng};
use crate::kernel::{KernelError, KernelEvent, KernelRequest, RequestId};
use crate::policy::{Config, Identity, Options};
use crate::steer::ShardId;
use crate::time::Now;
use crate::wire::registry::{ExchangeType, NotifyType};
use crate::wire::spi::{EspSpi, IkeSpi};
use crate::wire::{DecodeErrorKind, Flags, Header, Payload, decode_payloads, encode_message};

/// What an [`Endpoint`] is made of.
#[derive(Debug)]
pub struct EndpointParts {
    /// Its shard.
    pub shard: ShardId,
    /// How many shards there are.
    pub shards: u8,
    /// The configuration.
    pub config: Arc<Config>,
    /// The command line.
    pub options: Arc<Options>,
    /// Keys and certificates.
    pub store: Arc<CredentialStore>,
    /// Algorithms.
    pub provider: Provider,
    /// Randomness, of this shard alone.
    pub rng: Rng,
    /// The same in all shards.
    pub cookie_seed: [u8; 32],
    /// The time of making.
    pub now: Now,
}

/// All IKE SAs of one shard.
#[derive(Debug)]
pub struct Endpoint {
    cx: Context,
    table: Table,
    shows: VecDeque<Show>,
    /// When the active policies are looked at next; `None`: there are none to begin.
    starts_at: Option<Instant>,
}

/// A `show sa` that is being answered.
#[derive(Debug)]
struct Show {
    id: u64,
    left: VecDeque<Key>,
}

impl Endpoint {
    /// An endpoint without IKE SAs.
    pub fn new(mut parts: EndpointParts) -> Self {
        let table = Table::new(&mut parts.rng);
        let now = parts.now.mono;
        let mut endpoint = Self {
            cx: Context::new(parts),
            table,
            shows: VecDeque::new(),
            starts_at: None,
        };
        endpoint.plan_starts(now);
        endpoint
    }

    /// The active policies begin soon.
    fn plan_starts(&mut self, now: Instant) {
        let any = self.cx.active && !self.cx.own_active().is_empty();
        self.starts_at = any.then(|| now + START_AFTER);
    }

    /// Begins every active policy that has no IKE SA.
    fn start_active(&mut self, now: Now) {
        self.starts_at = Some(now.mono + RESTART_AFTER);
        for policy in self.cx.own_active() {
            if !self.table.serves(&policy) {
                self.initiate(now, Start::of(policy));
            }
        }
    }

    /// Takes one datagram, marker stripped. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Now, path: Path, bytes: &mut [u8]) {
        self.cx.stats.msg_rcvd += 1;
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(error) => return self.undecodable(now, path, bytes, error.into()),
        };
        let own_spi = if header.flags.initiator {
            header.responder_spi
        } else {
            header.initiator_spi
        };
        let Some(own_spi) = own_spi else {
            return self.sa_init_request(now, path, &header, bytes);
        };
        let Some(key) = self.table.by_spi(own_spi) else {
            self.cx.stats.unknown_spi += 1;
            return self.hint(now, path, &header, bytes.len(), NotifyType::INVALID_IKE_SPI);
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        self.message(&mut sa, now, path, &header, bytes);
        self.give_back(now, key, sa);
    }

    /// Puts an IKE SA back after work on it, with what came of the work: new IKE SAs, and old ones
    /// that must go.
    fn give_back(&mut self, now: Now, key: Key, sa: Box<IkeSa>) {
        self.table.put(&mut self.cx, key, sa);
        for newborn in std::mem::take(&mut self.cx.out.births) {
            self.table.insert(&mut self.cx, newborn);
        }
        for bequest in std::mem::take(&mut self.cx.out.bequests) {
            self.inherit(now, bequest);
        }
        for start in std::mem::take(&mut self.cx.out.starts) {
            self.initiate(now, start);
        }
        self.meet_contacts(now);
    }

    /// Hands Child SAs and addresses to the IKE SA that took the place of another.
    fn inherit(&mut self, now: Now, bequest: Bequest) {
        let heir = self.table.by_spi(bequest.to);
        let Some((key, mut heir)) = heir.and_then(|key| Some((key, self.table.take(key)?))) else {
            // It is gone already, and so is everything.
            for child in bequest.children {
                ike_sa::unload(&mut self.cx, child);
            }
            self.cx.pools.release(bequest.lease);
            return;
        };
        if let Some(at) = bequest.end_at {
            heir.agenda.plan(at, Task::DeleteIke);
        } else {
            heir.lease = bequest.lease;
        }
        for child in bequest.children {
            let spi = child.names.inbound_spi;
            self.cx.children.insert(spi, heir.own_spi);
            if child.outbound_waits.is_some() {
                heir.agenda.plan(now.mono, Task::Activate(spi));
            }
            if child.fate == Fate::Doomed {
                heir.agenda.plan(now.mono, Task::DeleteChildren);
            }
            heir.children.push(child);
        }
        if heir.mobility.left.is_none() {
            mobility::move_children(&mut self.cx, &mut heir);
        }
        own::advance(&mut self.cx, &mut heir, now);
        self.table.put(&mut self.cx, key, heir);
    }

    fn undecodable(&mut self, now: Now, path: Path, bytes: &[u8], error: Error) {
        self.cx.stats.msg_rcvd_dropped += 1;
        let kind = if let Error::Decode(error) = &error {
            Some(error.kind)
        } else {
            None
        };
        match kind {
            Some(DecodeErrorKind::Version(_)) => self.cx.stats.version_errors += 1,
            _ => self.cx.stats.decode_errors += 1,
        }
        if let (Answer::Notify(kind, _), Ok(header)) =
            (error.answer(Trust::Clear), Header::peek(bytes))
        {
            self.hint(now, path, &header, bytes.len(), kind);
        }
    }

    /// An unprotected answer to a request: never longer than it, never many (RFC 7296, 2.21.4).
    fn hint(
        &mut self,
        now: Now,
        path: Path,
        request: &Header,
        request_len: usize,
        kind: NotifyType,
    ) {
        let answer_len = Header::LEN + 8;
        if request.flags.response || request_len < answer_len || !self.cx.hints.take(now.mono) {
            return;
        }
        let flags = Flags {
            initiator: !request.flags.initiator,
            version: false,
            response: true,
        };
        let header = Header {
            major: 2,
            minor: 0,
            flags,
            ..*request
        };
        let mut out = Vec::with_capacity(answer_len);
        encode_message(&header, &[sa_init::status(kind, &[])], &mut out);
        self.cx.stats.notifies_sent += 1;
        self.cx.transmit(path, out);
    }

    fn sa_init_request(&mut self, now: Now, path: Path, header: &Header, bytes: &[u8]) {
        let first = header.exchange == ExchangeType::IKE_SA_INIT
            && header.flags.initiator
            && !header.flags.response
            && header.initiator_spi.is_some()
            && header.message_id == 0;
        if !first {
            self.cx.stats.unexpected += 1;
            self.cx.stats.msg_rcvd_dropped += 1;
            return;
        }
        let digest = self.table.digest((path.remote.ip(), bytes));
        if let Some(key) = self.table.by_init(digest) {
            return self.repeat_sa_init(path, key);
        }
        let half_open = self.table.half_open_len();
        let made = sa_init::respond(&mut self.cx, now, path, header, bytes, half_open);
        let Some(mut sa) = made else { return };
        if self.table.has_spi(sa.own_spi) {
            // 56 random bits met twice: the initiator will ask again.
            return;
        }
        sa.init_digest = Some(digest);
        sa.window.answer(0, digest, Vec::new());
        self.table.insert(&mut self.cx, sa);
    }

    fn repeat_sa_init(&mut self, path: Path, key: Key) {
        let Some(sa) = self.table.get(key) else {
            return;
        };
        if let State::AwaitAuthRequest(half_open) = &sa.state {
            let response = half_open.response.clone();
            self.cx.stats.retransmit_response += 1;
            self.cx.transmit(path, response);
        }
    }

    /// A datagram with one of our SPIs in it.
    fn message(&mut self, sa: &mut IkeSa, now: Now, path: Path, header: &Header, bytes: &mut [u8]) {
        let from_initiator = sa.role == Role::OriginalResponder;
        let theirs = if from_initiator {
            header.initiator_spi
        } else {
            header.responder_spi
        };
        let first_answer = matches!(sa.state, State::AwaitSaInitResponse(_));
        if header.flags.initiator != from_initiator || (theirs != sa.peer_spi && !first_answer) {
            return self.drop_unexpected();
        }
        if header.flags.response {
            self.response(sa, now, path, header, bytes);
        } else {
            self.request(sa, now, path, header, bytes);
        }
    }

    fn drop_unexpected(&mut self) {
        self.cx.stats.unexpected += 1;
        self.cx.stats.msg_rcvd_dropped += 1;
    }

    fn request(&mut self, sa: &mut IkeSa, now: Now, path: Path, header: &Header, bytes: &mut [u8]) {
        let digest = self.table.digest(&*bytes);
        let id = header.message_id;
        match sa.window.arrival(id) {
            Arrival::Next => {}
            Arrival::Repeated => return self.repeat_response(sa, path, id, digest, bytes),
            Arrival::Outside => return self.drop_unexpected(),
        }
        match &sa.state {
            State::AwaitKernel(_) => {
                self.cx.stats.msg_rcvd_busy += 1;
                return;
            }
            State::Established(up) if up.answering.is_some() => {
                self.cx.stats.msg_rcvd_busy += 1;
                return;
            }
            State::AwaitAuthRequest(_) if header.exchange != ExchangeType::IKE_AUTH => {
                return self.drop_unexpected();
            }
            State::AwaitAuthRequest(_) | State::Established(_) | State::Deleting(_) => {}
            State::AwaitSaInitResponse(_) | State::AwaitAuthResponse(_) | State::Closed => {
                return self.drop_unexpected();
            }
        }
        if !ready_keys(sa) {
            return self.drop_unexpected();
        }
        let Some((first, plaintext)) = self.open(sa, now, path, bytes) else {
            return;
        };
        sa.asked_from = path;
        let payloads = match decode_payloads(first, &plaintext) {
            Ok(payloads) => payloads,
            Err(error) => {
                self.cx.stats.decode_errors += 1;
                let exchange = header.exchange;
                return refuse(&mut self.cx, sa, now, exchange, id, digest, &error.into());
            }
        };
        self.dispatch(sa, now, header, digest, &payloads);
    }

    /// The same bytes again get the same answer, without crypto. A peer may also ask again in other
    /// fragments than before, or in fragments for the first time (RFC 7383, 2.5 and 2.6): of those
    /// only number 1 is answered, once it is known to be the peer's.
    fn repeat_response(&mut self, sa: &IkeSa, path: Path, id: u32, digest: u64, bytes: &mut [u8]) {
        let repeated = match message::fragment_number(bytes) {
            None => sa.window.cached(id, digest).is_some(),
            Some(1) => message::is_from_peer(&mut self.cx, sa, bytes),
            Some(_) => false,
        };
        let Some(datagrams) = sa.window.answer_to(id).filter(|_| repeated) else {
            return self.drop_unexpected();
        };
        self.cx.stats.retransmit_response += 1;
        for datagram in datagrams {
            self.cx.transmit(path, datagram.clone());
        }
    }

    /// Decrypts; only past this point the sender is known to be the peer.
    fn open(
        &mut self,
        sa: &mut IkeSa,
        now: Now,
        path: Path,
        bytes: &mut [u8],
    ) -> Option<(crate::wire::registry::PayloadType, Vec<u8>)> {
        match message::open(&mut self.cx, sa, now.mono, bytes) {
            Opened::Whole(first, plaintext) => {
                sa.heard_at = now.mono;
                mobility::follow(&mut self.cx, sa, path);
                Some((first, plaintext))
            }
            // The same fragment may come again, from anywhere, until all are there.
            Opened::Partial => None,
            Opened::Dropped => {
                self.cx.stats.msg_rcvd_dropped += 1;
                None
            }
        }
    }

    fn dispatch(
        &mut self,
        sa: &mut IkeSa,
        now: Now,
        header: &Header,
        digest: u64,
        payloads: &[Payload<'_>],
    ) {
        let (cx, id) = (&mut self.cx, header.message_id);
        match (&sa.state, header.exchange) {
            (State::AwaitAuthRequest(_), ExchangeType::IKE_AUTH) => {
                auth::respond(cx, sa, now, id, digest, payloads);
            }
            (State::Established(_) | State::Deleting(_), ExchangeType::INFORMATIONAL) => {
                informational::respond(cx, sa, now, id, digest, payloads);
            }
            (State::Established(_) | State::Deleting(_), ExchangeType::CREATE_CHILD_SA) => {
                create_child::respond(cx, sa, now, id, digest, payloads);
            }
            (_, exchange) => {
                let error = Error::Unexpected(exchange);
                refuse(cx, sa, now, exchange, id, digest, &error);
            }
        }
        own::advance(cx, sa, now);
    }

    fn response(
        &mut self,
        sa: &mut IkeSa,
        now: Now,
        path: Path,
        header: &Header,
        bytes: &mut [u8],
    ) {
        if !sa.window.expects(header.message_id, header.exchange) {
            return self.drop_unexpected();
        }
        if matches!(sa.state, State::AwaitSaInitResponse(_)) {
            return sa_init_initiator::conclude(&mut self.cx, sa, now, path, bytes);
        }
        let Some((first, plaintext)) = self.open(sa, now, path, bytes) else {
            return;
        };
        let Ok(payloads) = decode_payloads(first, &plaintext) else {
            self.cx.stats.decode_errors += 1;
            return;
        };
        match header.exchange {
            ExchangeType::IKE_AUTH => {
                auth_initiator::conclude(&mut self.cx, sa, now, &payloads);
            }
            ExchangeType::INFORMATIONAL | ExchangeType::CREATE_CHILD_SA => {
                mobike::answered_from(sa, now.mono, path);
                conclude(&mut self.cx, sa, now, &payloads);
            }
            _ => self.drop_unexpected(),
        }
    }

    /// Drops the other IKE SAs of identities that said INITIAL_CONTACT, here and elsewhere.
    fn meet_contacts(&mut self, now: Now) {
        for (identity, except) in std::mem::take(&mut self.cx.out.contacts) {
            self.handle_initial_contact(now, &identity, except);
            self.cx
                .out
                .events
                .push_back(Event::InitialContact { identity, except });
        }
    }

    /// The peer with this identity has no IKE SA but `except`: drops what is left of others,
    /// silently, since the peer does not know them (RFC 7296, 2.4).
    pub fn handle_initial_contact(&mut self, _now: Now, identity: &Identity, except: IkeSpi) {
        for key in self.table.by_identity(identity) {
            let Some(mut sa) = self.table.take(key) else {
                continue;
            };
            if sa.own_spi != except {
                self.close(&mut sa, "initial contact");
            }
            self.table.put(&mut self.cx, key, sa);
        }
    }

    /// Takes what the kernel says.
    pub fn handle_kernel(&mut self, now: Now, event: KernelEvent) {
        let (id, result) = match event {
            KernelEvent::Done { id } => (id, Ok(())),
            KernelEvent::Failed { id, error } => (id, Err(error)),
            KernelEvent::Expire { spi, hard } => return self.expired(now, spi, hard),
            KernelEvent::Mapping { spi, remote } => return self.mapped(now, spi, remote),
        };
        let Some(key) = self.table.by_request(id) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        // The one that asked may be gone, and its place taken by another.
        installed(&mut self.cx, &mut sa, now, id, result);
        self.give_back(now, key, sa);
    }

    /// The lifetime of a Child SA comes to its end, or (`hard`) is over and the kernel dropped it.
    fn expired(&mut self, now: Now, spi: EspSpi, hard: bool) {
        let owner = self.cx.children.get(&spi);
        let Some(key) = owner.and_then(|&owner| self.table.by_spi(owner)) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        if hard {
            let line = format!("{}: Child SA {spi} expired", sa.tag());
            self.cx.info(format_args!("{line}"));
            own::expire(&mut self.cx, &mut sa, spi, now.mono);
        } else {
            sa.agenda.plan(now.mono, Task::RekeyChild(spi));
        }
        own::advance(&mut self.cx, &mut sa, now);
        self.give_back(now, key, sa);
    }

    /// ESP of a Child SA came from another address.
    fn mapped(&mut self, now: Now, spi: EspSpi, remote: SocketAddr) {
        let owner = self.cx.children.get(&spi);
        let Some(key) = owner.and_then(|&owner| self.table.by_spi(owner)) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        mobility::mapped(&mut self.cx, &mut sa, remote);
        self.give_back(now, key, sa);
    }

    /// Takes an operator's command; `id` comes back with each reply.
    pub fn handle_command(&mut self, now: Now, id: u64, command: Command) {
        let count = match command {
            Command::ShowSa => {
                let left = self.table.keys_by_spi().into();
                return self.shows.push_back(Show { id, left });
            }
            Command::ShowStats => {
                let reply = Reply::Stats(Box::new(self.cx.stats.clone()));
                return self.cx.out.replies.push_back((id, reply));
            }
            Command::ResetAll => self.each(now, |endpoint, sa| endpoint.close(sa, "reset")),
            Command::ResetSa => self.each(now, |endpoint, sa| endpoint.delete(sa, now.mono)),
            Command::ResetId(wanted) => self.each_where(
                now,
                |sa| {
                    sa.peer_id
                        .as_ref()
                        .is_some_and(|id| id.to_string() == wanted)
                },
                |endpoint, sa| endpoint.delete(sa, now.mono),
            ),
            Command::Active(active) => {
                self.cx.active = active;
                self.plan_starts(now.mono);
                0
            }
            Command::Couple(couple) => {
                self.cx.coupled = couple;
                0
            }
            Command::Redirect(to) => self.each(now, |endpoint, sa| {
                redirect::send(&mut endpoint.cx, sa, now, to);
            }),
            Command::Initiate(index) => {
                let policy = self.cx.config.policies.get(index as usize).cloned();
                policy.map_or(0, |policy| self.initiate(now, Start::of(policy)))
            }
            Command::LocalAddress { old, new } => self.each_where(
                now,
                |sa| sa.path.local.ip() == old,
                |endpoint, sa| {
                    if mobike::change_address(&mut endpoint.cx, sa, now.mono, old, new) {
                        own::advance(&mut endpoint.cx, sa, now);
                    }
                },
            ),
            Command::Shutdown => self.each(now, |endpoint, sa| {
                endpoint.delete(sa, now.mono);
                sa.state = State::Closed;
            }),
        };
        self.cx.out.replies.push_back((id, Reply::Done { count }));
    }

    fn initiate(&mut self, now: Now, start: Start) -> usize {
        let Some(sa) = sa_init_initiator::start(&mut self.cx, now, start) else {
            return 0;
        };
        self.table.insert(&mut self.cx, sa);
        1
    }

    fn each(&mut self, now: Now, act: impl FnMut(&mut Self, &mut IkeSa)) -> usize {
        self.each_where(now, |_| true, act)
    }

    fn each_where(
        &mut self,
        now: Now,
        wanted: impl Fn(&IkeSa) -> bool,
        mut act: impl FnMut(&mut Self, &mut IkeSa),
    ) -> usize {
        let mut count = 0;
        for key in self.table.keys_by_spi() {
            if !self.table.get(key).is_some_and(&wanted) {
                continue;
            }
            let Some(mut sa) = self.table.take(key) else {
                continue;
            };
            act(self, &mut sa);
            self.give_back(now, key, sa);
            count += 1;
        }
        count
    }

    /// Ends an IKE SA without a word to the peer.
    fn close(&mut self, sa: &mut IkeSa, reason: &str) {
        // Anybody can make half-open IKE SAs, and so their ends.
        let unauthenticated = matches!(sa.state, State::AwaitAuthRequest(_));
        let line = format_args!("{}: sa_free: {reason}", sa.tag());
        self.cx.log(Level::Info, line, unauthenticated);
        if matches!(sa.state, State::Established(_)) {
            self.cx.stats.sa_established_current =
                self.cx.stats.sa_established_current.saturating_sub(1);
        }
        sa.release(&mut self.cx);
        sa.state = State::Closed;
    }

    /// Deletes an IKE SA: tells the peer where there is an established one.
    fn delete(&mut self, sa: &mut IkeSa, now: Instant) {
        if matches!(sa.state, State::Established(_)) {
            informational::delete(&mut self.cx, sa, now);
        } else if !matches!(sa.state, State::Deleting(_)) {
            self.close(sa, "reset");
        }
    }

    /// Takes a new configuration; IKE SAs keep the policy they were made by.
    pub fn handle_config(&mut self, now: Now, config: Arc<Config>) {
        self.cx.coupled = config.settings.couple;
        self.cx.active = config.settings.active;
        self.cx.config = config;
        self.plan_starts(now.mono);
    }

    /// Does what is due: a bounded number of deadlines and one chunk of a `show sa`.
    pub fn handle_timeout(&mut self, now: Now) {
        for _ in 0..DUE_MAX {
            let Some((key, mut sa)) = self.table.take_due(now.mono) else {
                break;
            };
            self.due(&mut sa, now);
            self.give_back(now, key, sa);
        }
        if self.starts_at.is_some_and(|at| at <= now.mono) {
            self.start_active(now);
        }
        self.show_chunk();
    }

    fn due(&mut self, sa: &mut IkeSa, now: Now) {
        match sa.window.retry(now.mono) {
            Some(Retry::Again) => self.retransmit(sa),
            Some(Retry::GiveUp) => {
                self.cx.stats.retransmit_limit += 1;
                if !sa.state.is_authenticated() {
                    self.cx.stats.sa_established_failures += 1;
                }
                return self.close(sa, "retransmit limit reached");
            }
            None => {}
        }
        let Some((at, what)) = sa.deadline(&self.cx) else {
            return;
        };
        if at > now.mono {
            return;
        }
        if what == PIECES {
            self.cx.stats.frag_reass_drop += 1;
            return sa.drop_pieces();
        }
        match &sa.state {
            State::AwaitAuthRequest(_) => {
                self.cx.stats.half_open_timeouts += 1;
                self.cx.stats.sa_established_failures += 1;
                self.close(sa, "SA_INIT timeout");
            }
            State::AwaitKernel(wait) => {
                let error = no_answer();
                // It may still get there; then it must not stay.
                ike_sa::withdraw(&mut self.cx, &wait.child);
                auth::installed(&mut self.cx, sa, now, Err(error));
            }
            State::Established(_) => {
                let late = own::kernel_is_late(&mut self.cx, sa, now.mono);
                if let Some(request) = late {
                    installed(&mut self.cx, sa, now, request, Err(no_answer()));
                }
                own::advance(&mut self.cx, sa, now);
            }
            State::Deleting(_) => sa.state = State::Closed,
            State::AwaitSaInitResponse(_) | State::AwaitAuthResponse(_) | State::Closed => {}
        }
    }

    fn retransmit(&mut self, sa: &IkeSa) {
        let Some(outstanding) = sa.window.outstanding() else {
            return;
        };
        self.cx.stats.retransmit_request += 1;
        self.cx.info(format_args!(
            "{}: retransmit {} {} req {} peer {} local {}",
            sa.tag(),
            outstanding.retries,
            outstanding.exchange,
            outstanding.id,
            sa.path.remote,
            sa.path.local
        ));
        let path = mobike::path_for_retry(sa, outstanding.retries);
        for datagram in &outstanding.datagrams {
            self.cx.transmit(path, datagram.clone());
        }
    }

    fn show_chunk(&mut self) {
        let Some(show) = self.shows.front_mut() else {
            return;
        };
        let count = show.left.len().min(SHOW_CHUNK);
        let keys: Vec<Key> = show.left.drain(..count).collect();
        let lines = keys
            .iter()
            .filter_map(|&key| self.table.get(key))
            .flat_map(show::sa)
            .collect();
        let more = !show.left.is_empty();
        self.cx
            .out
            .replies
            .push_back((show.id, Reply::Text { lines, more }));
        if !more {
            self.shows.pop_front();
        }
    }

    /// The next datagram to send; its bytes go to `out`, which is cleared first.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> Option<Transmit> {
        let (path, bytes) = self.cx.out.transmits.pop_front()?;
        out.clear();
        out.extend_from_slice(&bytes);
        Some(Transmit { path })
    }

    /// The next request to the kernel thread.
    pub fn poll_kernel(&mut self) -> Option<KernelRequest> {
        self.cx.out.kernel.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.cx.out.events.pop_front()
    }

    /// The next answer to a command.
    pub fn poll_reply(&mut self) -> Option<(u64, Reply)> {
        self.cx.out.replies.pop_front()
    }

    /// When to call [`Self::handle_timeout`] at the latest, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if !self.shows.is_empty() {
            return Some((self.cx.started_at, "show"));
        }
        let deadline = self.table.next_deadline().map(|at| (at, "deadline"));
        let starts = self.starts_at.map(|at| (at, "start"));
        deadline.into_iter().chain(starts).min()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// The counters, for what the shell counts.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.cx.stats
    }

    /// All IKE SAs, for the invariants of the simulation.
    #[cfg(any(test, feature = "sim"))]
    pub fn ike_sas(&self) -> impl Iterator<Item = &IkeSa> {
        let keys = self.table.keys_by_spi().into_iter();
        keys.filter_map(|key| self.table.get(key))
    }

    /// IKE SAs in any state.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

/// Takes the response to a request of ours on an IKE SA that is up or going.
fn conclude(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) {
    let State::Established(up) = &mut sa.state else {
        return informational::closed(cx, sa);
    };
    let own = std::mem::take(&mut up.own);
    sa.window.settle();
    match own {
        Own::Child(sent) => create_child_initiator::conclude(cx, sa, now, *sent, payloads),
        Own::Rekey(sent) => rekey_ike::conclude(cx, sa, now, *sent, payloads),
        Own::Mobike(sent) => mobike::conclude(cx, sa, now.mono, &sent, payloads),
        own @ (Own::Delete(_) | Own::Probe | Own::Idle | Own::Install(_)) => {
            informational::conclude(cx, sa, now, own);
        }
    }
    own::advance(cx, sa, now);
}

/// The kernel answered one of this IKE SA's requests.
fn installed(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    id: RequestId,
    result: Result<(), KernelError>,
) {
    match &sa.state {
        State::AwaitKernel(wait) if wait.request == id => auth::installed(cx, sa, now, result),
        State::Established(up) if up.own.awaits() == Some(id) => {
            create_child_initiator::installed(cx, sa, now, result);
        }
        State::Established(up) if up.answering.as_ref().is_some_and(|a| a.request == id) => {
            create_child::installed(cx, sa, now, result);
        }
        State::AwaitKernel(_)
        | State::Established(_)
        | State::AwaitSaInitResponse(_)
        | State::AwaitAuthRequest(_)
        | State::AwaitAuthResponse(_)
        | State::Deleting(_)
        | State::Closed => {}
    }
    own::advance(cx, sa, now);
}

fn no_answer() -> KernelError {
    KernelError {
        errno: libc::ETIMEDOUT,
        action: "answer",
    }
}

/// Does the key exchange computation that was put off until IKE_AUTH arrived. False: this SA will
/// never have keys.
fn ready_keys(sa: &mut IkeSa) -> bool {
    let (own_spi, peer_spi) = (sa.own_spi, sa.peer_spi);
    let State::AwaitAuthRequest(half_open) = &mut sa.state else {
        return true;
    };
    if matches!(half_open.keying, Keying::Pending(..))
        && let Keying::Pending(kex, public) =
            std::mem::replace(&mut half_open.keying, Keying::Failed)
        && let Some(keys) = half_open.derive(kex, &public, peer_spi, own_spi)
    {
        half_open.keying = Keying::Ready(keys);
    }
    matches!(half_open.keying, Keying::Ready(_))
}

/// Answers a protected request with the row of `error`.
pub(super) fn refuse(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    exchange: ExchangeType,
    id: u32,
    digest: u64,
    error: &Error,
) {
    let trust = if sa.state.is_authenticated() {
        Trust::Authenticated
    } else {
        Trust::Protected
    };
    let line = format_args!("{}: {exchange}: {error}", sa.tag());
    cx.log(Level::Info, line, trust == Trust::Protected);
    match error.answer(trust) {
        Answer::Silent => {
            cx.stats.unexpected += 1;
            cx.stats.msg_rcvd_dropped += 1;
        }
        Answer::Notify(kind, data) => {
            message::respond(
                cx,
                sa,
                exchange,
                id,
                digest,
                &[sa_init::status(kind, &data)],
            );
        }
        Answer::NotifyAndClose(kind, data) => {
            message::respond(
                cx,
                sa,
                exchange,
                id,
                digest,
                &[sa_init::status(kind, &data)],
            );
            if !sa.state.is_authenticated() {
                cx.stats.sa_established_failures += 1;
            }
            informational::linger(cx, sa, now.mono);
        }
    }
}

/// When active policies begin, and how often those without an IKE SA begin again; OpenIKED's.
const START_AFTER: Duration = Duration::from_secs(2);
const RESTART_AFTER: Duration = Duration::from_secs(60);
/// Deadlines handled in one turn.
const DUE_MAX: usize = 1024;
/// IKE SAs in one chunk of `show sa`.
const SHOW_CHUNK: usize = 64;
