//! All IKE SAs of one shard: routes each datagram to its IKE SA and its exchange, keeps the timers,
//! takes the kernel's answers and the operator's commands. Nothing a datagram says counts before
//! its integrity is proven.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account;
use super::agenda::Task;
use super::child_sa::Fate;
use super::context::{Bequest, Context};
use super::error::{Answer, Error, Trust};
use super::event::{Event, Level, News, Path, Reply, Transmit};
use super::exchange::redirect::Start;
use super::exchange::{
    asking, auth, create_child, create_child_initiator, informational, mobike, rekey_ike, sa_init,
};
use super::grant;
use super::ike_sa::{self, IkeSa, PIECES, Tag};
use super::message;
use super::mobility;
use super::own;
use super::path_mtu;
use super::state::State;
use super::stats::Stats;
use super::table::{Key, Table};
use super::trap;
use super::window::Retry;

use crate::auth::store::CredentialStore;
use crate::crypto::{Provider, Rng};
use crate::kernel::{
    Count, KernelError, KernelEvent, KernelRequest, RequestId, SelectorPair, Trap,
};
use crate::lookup::port::{Answer as Found, Lookup, LookupId, Record};
use crate::policy::{Config, Options};
use crate::radius::request::Cause;
use crate::steer::ShardId;
use crate::time::Now;
use crate::wire::Header;
use crate::wire::registry::{ExchangeType, NotifyType};
use crate::wire::spi::{EspSpi, IkeSpi};

mod couple;
mod inbound;
pub mod news;
mod operator;
#[cfg(any(test, feature = "sim"))]
mod snapshot;

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
    /// Questions for the way into the kernel, and which command each is of.
    couplings: Vec<(RequestId, Option<u64>)>,
    /// Child SAs that were there before the kernel was to have them, by the request for it.
    loading: BTreeMap<RequestId, EspSpi>,
    /// When the active policies are looked at next; `None`: there are none to begin.
    starts_at: Option<Instant>,
}

/// A `show sa` that is being answered.
#[derive(Debug)]
struct Show {
    id: u64,
    left: VecDeque<Key>,
    json: bool,
}

impl Endpoint {
    /// An endpoint without IKE SAs.
    pub fn new(mut parts: EndpointParts) -> Self {
        let table = Table::new(parts.now.mono, &mut parts.rng);
        let now = parts.now.mono;
        let mut endpoint = Self {
            cx: Context::new(parts),
            table,
            shows: VecDeque::new(),
            couplings: Vec::new(),
            loading: BTreeMap::new(),
            starts_at: None,
        };
        endpoint.plan_starts(now);
        trap::refresh(&mut endpoint.cx);
        endpoint
    }

    /// The active policies begin soon.
    fn plan_starts(&mut self, now: Instant) {
        let any = self.cx.active && !self.cx.own_active().is_empty();
        self.starts_at = any.then(|| now + START_AFTER);
    }

    /// Begins every active policy that has no IKE SA, unless the kernel is behind: then a little later.
    fn start_active(&mut self, now: Now) {
        if self.cx.backlog.is_full(now.mono) {
            self.starts_at = Some(now.mono + START_AFTER);
            return;
        }
        self.starts_at = Some(now.mono + RESTART_AFTER);
        for policy in self.cx.own_active() {
            if self.cx.served(&policy) <= 0 {
                self.initiate(now, Start::of(policy));
            }
        }
    }

    /// Takes one datagram, marker stripped. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Now, path: Path, bytes: &mut [u8]) {
        self.cx.stats.msg_rcvd += 1;
        self.cx.drops.refill(now.mono);
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
            let tag = Tag(header.initiator_spi);
            self.say_dropped(tag, path, &header, &"an SPI of nobody here");
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
        account::settle(&mut self.cx, now);
        self.spread_news(now);
    }

    /// Hands Child SAs and addresses to the IKE SA that took the place of another.
    fn inherit(&mut self, now: Now, bequest: Bequest) {
        let heir = self.table.by_spi(bequest.to);
        let Some((key, mut heir)) = heir.and_then(|key| Some((key, self.table.take(key)?))) else {
            // It is gone already, and so is everything.
            for child in bequest.children {
                ike_sa::unload(&mut self.cx, child);
            }
            account::end(&mut self.cx, bequest.admission.as_deref());
            self.cx.release(bequest.lease);
            grant::give_back(&mut self.cx, bequest.grant);
            return;
        };
        self.adopt(&mut heir, bequest);
        own::advance(&mut self.cx, &mut heir, now);
        self.table.put(&mut self.cx, key, heir);
    }

    /// The peer speaks on the IKE SA that it made in the place of one that we were rekeying as well:
    /// that decides it.
    pub(super) fn decide(&mut self, now: Now, old: IkeSpi, heir: &mut IkeSa) {
        let old = self.table.by_spi(old);
        let Some((key, mut old)) = old.and_then(|key| Some((key, self.table.take(key)?))) else {
            return;
        };
        rekey_ike::yield_to_rival(&mut self.cx, &mut old, now.mono);
        self.table.put(&mut self.cx, key, old);
        if let Some(bequest) = self.cx.out.bequests.pop() {
            self.adopt(heir, bequest);
        }
    }

    fn adopt(&mut self, heir: &mut IkeSa, bequest: Bequest) {
        if let Some(at) = bequest.end_at {
            heir.agenda.strike(&Task::RekeyIke);
            heir.agenda.plan(at, Task::DeleteIke);
        } else {
            heir.lease = bequest.lease;
            heir.grant = bequest.grant;
            heir.admission = bequest.admission;
        }
        for child in bequest.children {
            let spi = child.names.inbound_spi;
            self.cx.children.insert(spi, heir.own_spi);
            heir.add_child(child);
        }
        for (at, task) in bequest.tasks {
            heir.agenda.plan(at.max(bequest.known_at), task);
        }
        if heir.children.iter().any(|child| child.fate == Fate::Doomed) {
            heir.agenda.plan(bequest.known_at, Task::DeleteChildren);
        }
        if heir.mobility.left.is_none() {
            mobility::move_children(&mut self.cx, heir);
        }
    }

    /// Takes what the kernel says.
    pub fn handle_kernel(&mut self, now: Now, event: KernelEvent) {
        let (id, result) = match event {
            KernelEvent::Done { id } => (id, Ok(())),
            KernelEvent::Failed { id, error } => (id, Err(error)),
            KernelEvent::Expire { spi, hard } => return self.expired(now, spi, hard),
            KernelEvent::Mapping { spi, remote } => return self.mapped(now, spi, remote),
            KernelEvent::Counts { asker, counts } => return self.counted(now, asker, &counts),
            KernelEvent::LastCount {
                account,
                child,
                count,
            } => {
                account::last(&mut self.cx, account, child, count);
                return account::settle(&mut self.cx, now);
            }
            KernelEvent::Coupled { id, result } => return self.coupled(now, id, result),
            KernelEvent::Wanted { trap } => return self.wanted(now, &trap),
            // The kernel thread makes `Wanted` of it.
            KernelEvent::Acquire { .. } => return,
        };
        self.cx.backlog.answered(now.mono, id, &result);
        if self.loaded(now, id, &result) {
            return;
        }
        let Some(key) = self.table.by_request(id) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        // The one that asked may be gone, and its place taken by another.
        installed(&mut self.cx, &mut sa, now, id, result);
        if !self.cx.coupled {
            // It was on its way when we were decoupled.
            self.unload_children(&mut sa);
        }
        self.give_back(now, key, sa);
    }

    /// Takes what came of a question. Who asked may be gone, and does not wait for it twice.
    pub fn handle_lookup(&mut self, now: Now, id: LookupId, answer: Found) {
        let Some(key) = self.table.by_spi(id.spi) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        asking::answered(&mut self.cx, &mut sa, now, id.serial, answer);
        own::advance(&mut self.cx, &mut sa, now);
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
            let tag = sa.tag();
            self.cx.info(format_args!("{tag}: Child SA {spi} expired"));
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
        mobility::mapped(&mut self.cx, &mut sa, now.mono, remote);
        self.give_back(now, key, sa);
    }

    /// What the kernel has counted for this IKE SA.
    fn counted(&mut self, now: Now, asker: IkeSpi, counts: &[Count]) {
        let Some(key) = self.table.by_spi(asker) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        if matches!(sa.state, State::Established(_)) {
            own::counted(&mut self.cx, &mut sa, now.mono, counts);
        }
        self.give_back(now, key, sa);
    }

    /// A packet waits for a Child SA of one of our policies.
    fn wanted(&mut self, now: Now, trap: &Trap) {
        let policy = self.cx.config.policies.get(trap.policy as usize).cloned();
        let Some(policy) = policy.filter(|_| self.cx.traps.holds(trap)) else {
            return;
        };
        let mut serving = self.table.by_policy(&policy.name);
        let here = i64::try_from(serving.len()).unwrap_or(i64::MAX);
        let elsewhere = self.cx.served(&policy) > here;
        // What remains of one that was deleted only repeats its last answer.
        serving.retain(|key| {
            let sa = self.table.get(*key);
            sa.is_some_and(|sa| !matches!(&sa.state, State::Deleting(_)))
        });
        if serving.is_empty() && elsewhere {
            let (policy, pair) = (policy.name.clone(), trap.pair);
            self.cx.out.news.push_back(News::Wanted { policy, pair });
            return self.spread_news(now);
        }
        if serving.is_empty() && self.cx.traps.may_begin(now.mono, trap.policy) {
            let line = format_args!("policy {}: a packet to its peer", policy.name);
            self.cx.info(line);
            self.initiate(now, Start::of(policy));
        }
        // Those that are not up yet come with all flows.
        self.make_wanted(now, &serving, trap.pair);
    }

    /// The first of these IKE SAs that is up asks for a Child SA for these selectors.
    fn make_wanted(&mut self, now: Now, serving: &[Key], pair: SelectorPair) {
        let up = |key: &&Key| {
            let sa = self.table.get(**key);
            sa.is_some_and(|sa| matches!(&sa.state, State::Established(_)))
        };
        let Some(&key) = serving.iter().find(up) else {
            return;
        };
        let Some(mut sa) = self.table.take(key) else {
            return;
        };
        sa.agenda.plan(now.mono, Task::MakeChild(Box::new(pair)));
        own::advance(&mut self.cx, &mut sa, now);
        self.give_back(now, key, sa);
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
        account::settle(&mut self.cx, now);
        ike_sa::remove_leaving(&mut self.cx, now.mono);
        while let Some(lease) = self.cx.held.due(now.mono) {
            self.cx.free(lease);
        }
        self.spread_news(now);
        self.show_chunk();
    }

    fn due(&mut self, sa: &mut IkeSa, now: Now) {
        match sa.window.retry(now.mono, &mut self.cx.rng) {
            Some(Retry::Again) => self.retransmit(sa),
            Some(Retry::GiveUp) => {
                self.cx.stats.retransmit_limit += 1;
                if !sa.state.is_authenticated() {
                    self.cx.stats.sa_established_failures += 1;
                }
                account::because(&mut self.cx, sa, Cause::LostCarrier);
                // What the peer made in its place while we waited may be all that it has.
                rekey_ike::bequeath_to_rival(&mut self.cx, sa, now.mono);
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
            self.cx.drops.refill(now.mono);
            let line = format_args!("{}: fragments of a message never finished", sa.tag());
            self.cx.dropped(line);
            sa.pieces = None;
            return;
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
                if sa.answer_until().is_some_and(|until| until <= now.mono) {
                    sa.window.forget_answer();
                }
                let late = own::kernel_is_late(&mut self.cx, sa, now.mono);
                if let Some(request) = late {
                    installed(&mut self.cx, sa, now, request, Err(no_answer()));
                }
                own::advance(&mut self.cx, sa, now);
            }
            State::Deleting(_) => sa.state = State::Closed,
            State::AwaitAuthResponse(_) => asking::give_up(&mut self.cx, sa, now),
            State::AwaitSaInitResponse(_) | State::Closed => {}
        }
    }

    fn retransmit(&mut self, sa: &mut IkeSa) {
        if let Some(smaller) = path_mtu::shrink(&mut self.cx, sa) {
            sa.window.recut(smaller);
        }
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
            self.cx.transmit_copy(path, datagram);
        }
    }

    /// The next datagram to send; its bytes come in the place of `out`, which is used for another.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> Option<Transmit> {
        let (path, bytes) = self.cx.out.transmits.pop_front()?;
        self.cx.out.recycle(std::mem::replace(out, bytes));
        Some(Transmit { path })
    }

    /// The next request to the kernel thread.
    pub fn poll_kernel(&mut self) -> Option<KernelRequest> {
        self.cx.out.kernel.pop_front()
    }

    /// The next question to the lookup thread.
    pub fn poll_lookup(&mut self) -> Option<Lookup> {
        self.cx.out.lookups.pop_front()
    }

    /// The next record for the accounting servers.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.cx.out.records.pop_front()
    }

    /// Whether the kernel has still to count for a peer that is gone.
    pub fn is_counting(&self) -> bool {
        self.cx.accounts.until().is_some()
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
        let counts = self.cx.accounts.until().map(|at| (at, "counts"));
        let held = self.cx.held.next().map(|at| (at, "held address"));
        let leaving = self.cx.leaving.front().map(|(at, _)| (*at, "leaving"));
        let others = starts.into_iter().chain(counts).chain(held).chain(leaving);
        deadline.into_iter().chain(others).min()
    }

    /// Somebody reads lines of this level and of more important ones; others are not even put
    /// together. At first all are.
    pub fn set_log_level(&mut self, level: Level) {
        self.cx.log_level = level;
    }

    /// Whether mail for the kernel thread waits because its mailbox is full: while it does, no new
    /// handshake is taken up.
    pub fn set_kernel_blocked(&mut self, blocked: bool) {
        self.cx.backlog.set_blocked(blocked);
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// The counters, for what the shell counts.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.cx.stats
    }

    /// The IKE SA with this SPI of ours.
    pub fn ike_sa(&self, own_spi: IkeSpi) -> Option<&IkeSa> {
        self.table.get(self.table.by_spi(own_spi)?)
    }

    /// All IKE SAs, for the invariants of the simulation.
    #[cfg(any(test, feature = "sim"))]
    pub fn ike_sas(&self) -> impl Iterator<Item = &IkeSa> {
        let keys = self.table.keys_by_spi().into_iter();
        keys.filter_map(|key| self.table.get(key))
    }

    /// Whether every IKE SA waits for a deadline, as each must.
    #[cfg(any(test, feature = "sim"))]
    pub fn all_have_deadlines(&self) -> bool {
        let mut keys = self.table.keys_by_spi().into_iter();
        keys.all(|key| self.table.has_deadline(key))
    }

    /// The addresses of all IKE SAs that are up: ours and the peer's.
    pub fn addresses(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        let keys = self.table.keys_by_spi().into_iter();
        let sas = keys.filter_map(|key| self.table.get(key));
        sas.filter(|sa| matches!(sa.state, State::Established(_)))
            .map(|sa| (sa.path.local.ip(), sa.path.remote.ip()))
            .collect()
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
