//! The kernel thread, sole owner of the SADB and SPD as we installed them. It takes requests from
//! all shards, orders and coalesces them, has a [`Backend`] write them in one batch, and answers
//! each shard once per turn. How a request looks to a kernel is the backend's business.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::ike::Level;
use crate::kernel::{
    Backend, ChildInstall, ChildRemove, Count, KernelError, KernelEvent, KernelRequest, Outer,
    RequestId, SelectorPair,
};
use crate::log;
use crate::mail::{Inbox, KernelMail, Mailbox, Outlet, ShardMail};
use crate::route::Watch;
use crate::steer::{self, ShardId};
use crate::wire::spi::{EspSpi, IkeSpi};

pub mod grants;
pub mod host;
pub mod mirror;
mod reconcile;
mod resolvectl;

use grants::Grants;
use host::Interfaces;
use mirror::Mirror;

/// The token of the inbox's waker in [`SadbParts::poll`].
pub const WAKER: Token = Token(0);

/// The ways to what the kernel thread writes.
pub struct Ways {
    /// Into the SADB and SPD.
    pub backend: Box<dyn Backend>,
    /// To interfaces and routes, for what gateways grant; `None`: it is kept, and set nowhere.
    pub interfaces: Option<Box<dyn Interfaces>>,
}

/// Finds the ways, or says why there are none.
pub type Opener = Box<dyn FnMut() -> Result<Ways, String> + Send>;

/// What the kernel thread is made of.
pub struct SadbParts {
    /// The way into the kernel and to this host's interfaces; `None` is decoupled.
    pub ways: Option<Ways>,
    /// How they are found by a daemon that is coupled later.
    pub open: Opener,
    /// What tells of changed addresses, if anything does.
    pub watch: Option<Watch>,
    /// The poll in which the inbox's waker is registered as [`WAKER`].
    pub poll: Poll,
    /// Mail from the shards.
    pub inbox: Inbox<KernelMail>,
    /// The shards' mailboxes by number.
    pub shards: Vec<Mailbox<ShardMail>>,
}

/// The thread: returns after `KernelMail::Shutdown`, with everything of ours removed.
pub fn run(parts: SadbParts) -> io::Result<()> {
    let SadbParts {
        ways,
        open,
        mut watch,
        mut poll,
        inbox,
        shards,
    } = parts;
    let mut sadb = Sadb::new(None, None);
    sadb.open = Some(open);
    if let Some(ways) = ways {
        sadb.take_ways(ways);
    }
    let mut outlets: Vec<Outlet<ShardMail>> = shards.into_iter().map(Outlet::new).collect();
    let mut heard = sadb.event_fd();
    listen(&poll, heard, EVENTS)?;
    listen(&poll, watch.as_ref().map(Watch::event_fd), ADDRESSES)?;
    let mut ready = Events::with_capacity(8);
    let (mut more, mut waiting) = (false, false);
    loop {
        let look_at = watch.as_ref().and_then(Watch::look_at);
        match poll.poll(&mut ready, timeout(more, waiting, look_at)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let mut requests = Vec::new();
        let mut shutdown = false;
        more = inbox.drain(MAIL_PER_TURN_MAX, |mail| match mail {
            KernelMail::Requests {
                from,
                requests: some,
            } => {
                requests.extend(some.into_iter().map(|request| (from, request)));
            }
            KernelMail::Shutdown => shutdown = true,
        });
        sadb.serve(requests);
        if heard.is_none() {
            heard = sadb.event_fd();
            listen(&poll, heard, EVENTS)?;
        }
        more |= sadb.take_events();
        for (shard, events) in sadb.take_answers() {
            if let Some(outlet) = outlets.get_mut(usize::from(shard.0)) {
                outlet.send(ShardMail::Kernel(events));
            }
        }
        if let Some(watch) = &mut watch {
            more |= watch.take_notices(now());
            if let Some(addresses) = watch.look(now()) {
                tell_addresses(&mut outlets, addresses);
            }
        }
        waiting = false;
        for outlet in &mut outlets {
            waiting |= outlet.flush();
        }
        if shutdown {
            sadb.remove_all();
            return Ok(());
        }
    }
}

fn listen(poll: &Poll, fd: Option<RawFd>, token: Token) -> io::Result<()> {
    let registry = poll.registry();
    fd.map_or(Ok(()), |fd| {
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    })
}

/// How long the thread may sleep; `None` is until somebody rings.
fn timeout(more: bool, waiting: bool, look_at: Option<Instant>) -> Option<Duration> {
    if more {
        return Some(Duration::ZERO);
    }
    let retry = waiting.then_some(RETRY_AFTER);
    let look = look_at.map(|at| at.saturating_duration_since(now()));
    retry.into_iter().chain(look).min()
}

fn tell_addresses(outlets: &mut [Outlet<ShardMail>], addresses: BTreeSet<IpAddr>) {
    let line = format!("addresses of this host changed: {} now", addresses.len());
    log::write(Level::Debug, &line);
    let addresses = Arc::new(addresses);
    for outlet in outlets {
        outlet.send(ShardMail::Addresses(Arc::clone(&addresses)));
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread owns its clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the thread owns its clock")]
fn wall() -> SystemTime {
    SystemTime::now()
}

/// The state of the kernel thread, without its mail.
pub struct Sadb {
    backend: Option<Box<dyn Backend>>,
    open: Option<Opener>,
    mirror: Mirror,
    grants: Grants,
    adds: Vec<PendingAdd>,
    outbounds: Vec<ChildInstall>,
    /// Where Child SAs go, by inbound SPI.
    moves: BTreeMap<EspSpi, Outer>,
    deletes: Vec<ChildRemove>,
    /// Child SAs whose outbound SA is still to come.
    receiving: HashSet<EspSpi>,
    /// The SAs that `deletes` is about.
    leaving: HashSet<(IpAddr, EspSpi)>,
    /// Who asks for the packets of which Child SAs.
    questions: Vec<(ShardId, IkeSpi, Vec<EspSpi>)>,
    /// Who asks for the last count of which Child SA, by account, and where it stands.
    partings: Vec<(ShardId, u64, EspSpi, Option<ChildRemove>)>,
    answers: BTreeMap<ShardId, Vec<KernelEvent>>,
}

struct PendingAdd {
    from: ShardId,
    id: RequestId,
    child: Box<ChildInstall>,
}

impl Sadb {
    /// Nothing installed yet.
    pub fn new(backend: Option<Box<dyn Backend>>, interfaces: Option<Box<dyn Interfaces>>) -> Self {
        Self {
            backend,
            open: None,
            mirror: Mirror::default(),
            grants: Grants::new(interfaces),
            adds: Vec::new(),
            outbounds: Vec::new(),
            moves: BTreeMap::new(),
            deletes: Vec::new(),
            receiving: HashSet::new(),
            leaving: HashSet::new(),
            questions: Vec::new(),
            partings: Vec::new(),
            answers: BTreeMap::new(),
        }
    }

    fn take_ways(&mut self, ways: Ways) {
        self.backend = Some(ways.backend);
        self.grants.couple(ways.interfaces);
    }

    /// Finds the way into the kernel, if it has not been found yet.
    fn couple(&mut self) -> Result<(), String> {
        if self.backend.is_some() {
            return Ok(());
        }
        if let Some(open) = &mut self.open {
            let ways = open()?;
            self.take_ways(ways);
        }
        Ok(())
    }

    fn event_fd(&self) -> Option<RawFd> {
        self.backend.as_ref()?.event_fd()
    }

    /// Does all of `requests`. Additions of one turn go before its deletions, so that a rekeyed
    /// Child SA never leaves its selectors without a policy.
    pub fn serve(&mut self, requests: Vec<(ShardId, KernelRequest)>) {
        for (from, request) in requests {
            match request {
                KernelRequest::AddChild { id, child } => self.add(from, id, child),
                KernelRequest::AddOutbound { child } => self.outbounds.push(*child),
                KernelRequest::MoveChild { child, to } => self.shift(&child, to),
                KernelRequest::DeleteChild { child } => self.delete(&child),
                KernelRequest::Count { asker, children } => {
                    self.questions.push((from, asker, children));
                }
                KernelRequest::LastCount { account, child } => {
                    let names = self.mirror.child(child).cloned();
                    self.partings.push((from, account, child, names));
                }
                KernelRequest::Couple { id } => {
                    let result = self.couple();
                    self.answer(from, KernelEvent::Coupled { id, result });
                }
                KernelRequest::SetTraps { traps } => self.mirror.set_traps(from, traps),
                KernelRequest::Grant { id, grant } => self.grants.take((from, id), *grant),
                KernelRequest::Return { id } => self.grants.give_back((from, id)),
            }
        }
        self.flush();
        self.count();
    }

    /// Answers all questions of this turn by what the kernel says to one.
    fn count(&mut self) {
        let questions = std::mem::take(&mut self.questions);
        if questions.is_empty() {
            return;
        }
        let asked = questions.iter().flat_map(|(.., children)| children);
        let asked = asked.filter_map(|spi| self.mirror.child(*spi));
        let asked: Vec<ChildRemove> = asked.cloned().collect();
        let backend = self.backend.as_mut();
        let counts = backend.map_or_else(Vec::new, |backend| backend.count(&asked));
        let counts: BTreeMap<EspSpi, Count> =
            counts.into_iter().map(|count| (count.spi, count)).collect();
        for (shard, asker, children) in questions {
            let counts = children.iter().filter_map(|spi| counts.get(spi).copied());
            let counts = counts.collect();
            self.answer(shard, KernelEvent::Counts { asker, counts });
        }
    }

    /// Counts once more, all in one call, what is about to be removed.
    fn part(&mut self) {
        let partings = std::mem::take(&mut self.partings);
        if partings.is_empty() {
            return;
        }
        let there = partings.iter().filter_map(|(.., names)| names.clone());
        let there: Vec<ChildRemove> = there.collect();
        let backend = self.backend.as_mut();
        let counts = backend.map_or_else(Vec::new, |backend| backend.count(&there));
        let counts: BTreeMap<EspSpi, Count> =
            counts.into_iter().map(|count| (count.spi, count)).collect();
        for (shard, account, child, _) in partings {
            let count = counts.get(&child).copied();
            let event = KernelEvent::LastCount {
                account,
                child,
                count,
            };
            self.answer(shard, event);
        }
    }

    /// Takes what the kernel reports, a bounded number at a time; true if there may be more.
    pub fn take_events(&mut self) -> bool {
        let Some(backend) = &mut self.backend else {
            return false;
        };
        let mut events = Vec::new();
        if backend.poll_events(&mut events) {
            events.append(&mut self.reconcile(wall()));
        }
        let more = !events.is_empty();
        for event in events {
            let spi = match &event {
                KernelEvent::Expire { spi, .. } | KernelEvent::Mapping { spi, .. } => *spi,
                KernelEvent::Acquire { reqid } => {
                    if let Some((shard, trap)) = self.mirror.trapped(*reqid) {
                        self.answer(shard, KernelEvent::Wanted { trap });
                    }
                    continue;
                }
                KernelEvent::Done { .. }
                | KernelEvent::Failed { .. }
                | KernelEvent::Counts { .. }
                | KernelEvent::LastCount { .. }
                | KernelEvent::Coupled { .. }
                | KernelEvent::Wanted { .. } => continue,
            };
            // Not tagged: an SA of another key manager on this host.
            let Some(shard) = steer::shard_of_esp_spi(spi) else {
                continue;
            };
            self.answers.entry(shard).or_default().push(event);
        }
        more
    }

    /// Takes the answers and events so far, grouped by shard.
    pub fn take_answers(&mut self) -> BTreeMap<ShardId, Vec<KernelEvent>> {
        std::mem::take(&mut self.answers)
    }

    /// Removes everything we installed.
    pub fn remove_all(&mut self) {
        self.grants.give_back_all();
        let Some(backend) = &mut self.backend else {
            return;
        };
        let mut requests = Vec::new();
        let (children, traps) = self.mirror.drain();
        for child in children {
            requests.push(KernelRequest::DeleteChild {
                child: Box::new(child),
            });
        }
        let results = backend.apply(&requests);
        let failed = results.iter().filter(|result| result.is_err()).count();
        if failed > 0 {
            let line = format!("{failed} of {} Child SAs were not removed", results.len());
            log::write(Level::Warning, &line);
        }
        if let Err(error) = backend.remove_policies(&traps) {
            log::write(Level::Warning, format!("traps not removed: {error}"));
        }
    }

    /// How many Child SAs are installed.
    pub fn len(&self) -> usize {
        self.mirror.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.mirror.is_empty()
    }

    fn add(&mut self, from: ShardId, id: RequestId, mut child: Box<ChildInstall>) {
        if self.backend.is_none() {
            let error = KernelError {
                errno: libc::ENOTCONN,
                action: "add SA",
            };
            let event = if self.open.is_some() {
                KernelEvent::Failed { id, error }
            } else {
                KernelEvent::Done { id }
            };
            return self.answer(from, event);
        }
        let leaving = sas(&child.names).any(|sa| self.leaving.contains(&sa));
        let moving = !self.moves.is_empty() && self.mirror.clashes(&child.names);
        if leaving || moving {
            // The peer uses an SPI again: here the deletion, or the move, must come first.
            self.flush();
        }
        if self.mirror.clashes(&child.names) {
            let error = KernelError {
                errno: libc::EEXIST,
                action: "add SA",
            };
            self.answer(from, KernelEvent::Failed { id, error });
            return;
        }
        child.names.selectors = self.mirror.admit(&child.names);
        if child.receive_only {
            self.receiving.insert(child.names.inbound_spi);
        }
        self.adds.push(PendingAdd { from, id, child });
    }

    /// The last of several moves in one turn counts; the ways between were never gone.
    fn shift(&mut self, child: &ChildRemove, to: Outer) {
        if sas(&child.moved(to)).any(|sa| self.leaving.contains(&sa)) {
            self.flush();
        }
        if self.mirror.holds(child.inbound_spi) {
            self.moves.insert(child.inbound_spi, to);
        }
    }

    fn delete(&mut self, child: &ChildRemove) {
        // It goes from where it stands.
        self.moves.remove(&child.inbound_spi);
        // Not there: its addition failed, or this daemon is decoupled.
        let Some(child) = self.mirror.retire(child.inbound_spi) else {
            return;
        };
        self.receiving.remove(&child.inbound_spi);
        self.grants.forget(child.inbound_spi);
        self.leaving.extend(sas(&child));
        self.deletes.push(child);
    }

    /// Writes what is pending: additions, then moves and policies that change hands, then
    /// deletions, so that no policy goes before its successor stands.
    fn flush(&mut self) {
        self.part();
        self.flush_adds();
        self.flush_outbounds();
        self.flush_moves();
        self.leaving.clear();
        let Some(backend) = &mut self.backend else {
            return;
        };
        let mut settlement = self.mirror.settle();
        for child in settlement.restore {
            if let Err(error) = backend.set_policies(&child) {
                warn("policies not given back", &child, &error);
            }
        }
        for (trap, reqid) in settlement.traps {
            if let Err(error) = backend.set_trap(&trap, reqid) {
                let line = format!("trap towards {} not set: {error}", trap.remote);
                log::write(Level::Warning, &line);
            }
        }
        let mut deletes = Vec::with_capacity(self.deletes.len());
        for mut child in std::mem::take(&mut self.deletes) {
            let keys = child.selectors.iter().map(SelectorPair::key);
            child.selectors = keys
                .filter(|pair| settlement.unowned.remove(pair))
                .collect();
            deletes.push(KernelRequest::DeleteChild {
                child: Box::new(child),
            });
        }
        // Those of traps, and what a deleted Child SA had left to one whose addition then failed.
        let unowned: Vec<SelectorPair> = settlement.unowned.into_iter().collect();
        if !unowned.is_empty()
            && let Err(error) = backend.remove_policies(&unowned)
        {
            log::write(Level::Warning, format!("policies not removed: {error}"));
        }
        if deletes.is_empty() {
            return;
        }
        for (request, result) in deletes.iter().zip(backend.apply(&deletes)) {
            if let (KernelRequest::DeleteChild { child }, Err(error)) = (request, result) {
                warn("Child SA not removed", child, &error);
            }
        }
    }

    /// Completes Child SAs that could only receive so far, where they still are.
    fn flush_outbounds(&mut self) {
        let mut requests = Vec::new();
        for child in std::mem::take(&mut self.outbounds) {
            self.receiving.remove(&child.names.inbound_spi);
            if self.mirror.holds(child.names.inbound_spi) {
                let child = Box::new(child);
                requests.push(KernelRequest::AddOutbound { child });
            }
        }
        let Some(backend) = self.backend.as_mut().filter(|_| !requests.is_empty()) else {
            return;
        };
        for (request, result) in requests.iter().zip(backend.apply(&requests)) {
            if let (KernelRequest::AddOutbound { child }, Err(error)) = (request, result) {
                warn("outbound SA not added", &child.names, &error);
            }
        }
    }

    /// Moves Child SAs. What cannot be moved stays, and its shard is told to replace it: a new
    /// Child SA is made on the new way, and takes the policies along.
    fn flush_moves(&mut self) {
        let mut requests = Vec::new();
        for (spi, to) in std::mem::take(&mut self.moves) {
            if self.mirror.is_taken(spi, to) {
                self.cannot_move(spi);
            } else if let Some(child) = self.mirror.shift(spi, to) {
                self.grants.follow(spi, to.remote);
                let child = Box::new(child);
                requests.push(KernelRequest::MoveChild { child, to });
            }
        }
        let Some(backend) = self.backend.as_mut().filter(|_| !requests.is_empty()) else {
            return;
        };
        for (request, result) in requests.iter().zip(backend.apply(&requests)) {
            if let (KernelRequest::MoveChild { child, .. }, Err(error)) = (request, result) {
                warn("Child SA not moved", child, &error);
                let back = Outer {
                    local: child.local,
                    remote: child.remote,
                    encap: None,
                };
                self.mirror.shift(child.inbound_spi, back);
                self.grants.follow(child.inbound_spi, back.remote);
                self.mirror.doubt(&child.selectors);
                self.cannot_move(child.inbound_spi);
            }
        }
    }

    fn cannot_move(&mut self, spi: EspSpi) {
        if let Some(shard) = steer::shard_of_esp_spi(spi) {
            let event = KernelEvent::Expire { spi, hard: false };
            self.answer(shard, event);
        }
    }

    fn flush_adds(&mut self) {
        let Some(backend) = &mut self.backend else {
            return;
        };
        if self.adds.is_empty() {
            return;
        }
        let mut requests = Vec::with_capacity(self.adds.len());
        let mut askers = Vec::with_capacity(self.adds.len());
        for PendingAdd { from, id, child } in std::mem::take(&mut self.adds) {
            askers.push((from, id));
            requests.push(KernelRequest::AddChild { id, child });
        }
        let results = backend.apply(&requests);
        for (((from, id), request), result) in askers.into_iter().zip(&requests).zip(results) {
            let event = match (result, request) {
                (Err(error), KernelRequest::AddChild { child, .. }) => {
                    self.forget_failed(&child.names);
                    KernelEvent::Failed { id, error }
                }
                (Ok(()), KernelRequest::AddChild { child, .. }) => {
                    self.lead(from, child);
                    KernelEvent::Done { id }
                }
                (
                    _,
                    KernelRequest::AddOutbound { .. }
                    | KernelRequest::MoveChild { .. }
                    | KernelRequest::DeleteChild { .. }
                    | KernelRequest::Count { .. }
                    | KernelRequest::LastCount { .. }
                    | KernelRequest::Couple { .. }
                    | KernelRequest::SetTraps { .. }
                    | KernelRequest::Grant { .. }
                    | KernelRequest::Return { .. },
                ) => KernelEvent::Done { id },
            };
            self.answer(from, event);
        }
    }

    /// Routes from what its gateway grants lead into a Child SA that stands.
    fn lead(&mut self, from: ShardId, child: &ChildInstall) {
        let names = self.mirror.child(child.names.inbound_spi);
        if let (Some(grant), Some(names)) = (child.grant, names) {
            self.grants.lead((from, grant), names);
        }
    }

    /// The backend has taken back what it wrote for this Child SA. Its SAs must not be deleted
    /// once more: what stands there under these SPIs is not ours.
    fn forget_failed(&mut self, names: &ChildRemove) {
        self.mirror.doubt(&names.selectors);
        self.mirror.retire(names.inbound_spi);
        self.receiving.remove(&names.inbound_spi);
        self.deletes
            .retain(|child| child.inbound_spi != names.inbound_spi);
    }

    fn answer(&mut self, shard: ShardId, event: KernelEvent) {
        self.answers.entry(shard).or_default().push(event);
    }
}

/// All SAs of a Child SA, by destination.
fn sas(child: &ChildRemove) -> impl Iterator<Item = (IpAddr, EspSpi)> + use<> {
    let both = [
        (child.local, child.inbound_spi),
        (child.remote, child.outbound_spi),
    ];
    let comps = child.comps().map(|(address, cpi)| (address, cpi.as_spi()));
    both.into_iter().chain(comps)
}

fn warn(what: &str, child: &ChildRemove, error: &KernelError) {
    let line = format!(
        "{what}: SPI {} from {}: {error}",
        child.inbound_spi, child.remote
    );
    log::write(Level::Warning, &line);
}

const EVENTS: Token = Token(1);
const ADDRESSES: Token = Token(2);
/// Pieces of mail in one turn; each is what one shard had in one of its turns.
const MAIL_PER_TURN_MAX: usize = 256;
/// How long until a shard whose mailbox was full is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
