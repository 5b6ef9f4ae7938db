//! The lookup thread: what IKE SAs have to ask of the outside, and the slow work it is. It never
//! waits for one server while another has something to say. What can be asked, and what comes back,
//! stands in [`port`].

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token, Waker};

use crate::crypto::Rng;
use crate::mail::{ControlMail, Inbox, LookupMail, Mailbox, Outlet, ShardMail};
use crate::steer::ShardId;
use crate::time::Now;

pub mod accounting;
pub mod dae;
pub mod http;
pub mod lines;
pub mod lists;
pub mod names;
pub mod port;
pub mod radius;
pub mod revocation;
pub mod waiters;
pub mod web;

use crate::policy::radius::Radius as Lines;
use accounting::Accounting;
use dae::{Dae, Orders};
use lists::Lists;
use names::Names;
use port::{Answer, Lookup, LookupId, Question};
use radius::Radius;
use revocation::Revocation;
use web::Web;

/// The token of the inbox's waker in [`LookupParts::poll`].
pub const WAKER: Token = Token(0);

/// What the lookup thread is made of.
#[derive(Debug)]
pub struct LookupParts {
    /// The poll in which `waker` is registered as [`WAKER`].
    pub poll: Poll,
    /// The waker of the inbox.
    pub waker: Arc<Waker>,
    /// Mail from the shards.
    pub inbox: Inbox<LookupMail>,
    /// The shards' mailboxes by number.
    pub shards: Vec<Mailbox<ShardMail>>,
    /// The main thread's mailbox.
    pub control: Mailbox<ControlMail>,
    /// Randomness, of this thread alone.
    pub rng: Rng,
    /// The `radius` lines of the configuration.
    pub radius: Arc<Lines>,
}

/// Answers on their way to a shard.
pub type Replies = Vec<(ShardId, LookupId, Answer)>;

/// The thread: returns after `LookupMail::Shutdown`.
pub fn run(parts: LookupParts) -> io::Result<()> {
    let LookupParts {
        mut poll,
        waker,
        inbox,
        shards,
        control,
        rng,
        radius: lines,
    } = parts;
    let mut control = Outlet::new(control);
    let registry = poll.registry().try_clone()?;
    let mut desk = Desk {
        radius: Radius::new(registry.try_clone()?),
        accounting: Accounting::new(registry.try_clone()?),
        dae: Dae::new(registry.try_clone()?, shards.len()),
        orders: Orders::new(),
        web: Web::new(registry, Names::new(waker), WEB_TOKENS),
        revocation: Revocation::default(),
        lists: Lists::default(),
        rng,
        replies: Replies::new(),
    };
    desk.configure(now(), lines);
    let mut outlets: Vec<Outlet<ShardMail>> = shards.into_iter().map(Outlet::new).collect();
    let mut events = Events::with_capacity(EVENTS);
    let (mut more, mut waiting) = (true, false);
    let mut last_at = None;
    loop {
        let timeout = timeout(more, waiting, [desk.deadline(), last_at]);
        match poll.poll(&mut events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let now = now();
        let mut shutdown = false;
        more = inbox.drain(MAIL_PER_TURN_MAX, |mail| match mail {
            LookupMail::Request { from, lookup } => desk.ask(now, from, lookup),
            LookupMail::Record(record) => desk.accounting.tell(now.mono, *record),
            LookupMail::Radius(lines) => desk.configure(now, lines),
            LookupMail::Obeyed { serial, count } => desk.dae.done(serial, count),
            LookupMail::Shutdown => shutdown = true,
        });
        for event in events.iter().filter(|event| event.token() != WAKER) {
            desk.ready(event.token(), now.mono);
        }
        desk.look(now);
        more |= desk.is_busy();
        waiting = desk.post(&mut outlets);
        if let Some(lines) = desk.lists.news() {
            control.send(ControlMail::Lists(lines));
        }
        waiting |= control.flush();
        if shutdown && last_at.is_none() {
            desk.accounting.close(now);
            more = true;
            last_at = Some(now.mono + LAST_WORDS);
        }
        let over = |at: Instant| at <= now.mono || (!more && desk.accounting.is_idle());
        if last_at.is_some_and(over) {
            return Ok(());
        }
    }
}

/// How long the thread may sleep; `None` is until somebody rings.
fn timeout(more: bool, waiting: bool, deadlines: [Option<Instant>; 2]) -> Option<Duration> {
    if more {
        return Some(Duration::ZERO);
    }
    let retry = waiting.then_some(RETRY_AFTER);
    let due = deadlines
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.saturating_duration_since(now().mono));
    retry.into_iter().chain(due).min()
}

/// Everything that is being asked.
struct Desk {
    web: Web,
    radius: Radius,
    accounting: Accounting,
    dae: Dae,
    orders: Orders,
    revocation: Revocation,
    lists: Lists,
    rng: Rng,
    replies: Replies,
}

impl Desk {
    fn configure(&mut self, now: Now, lines: Arc<Lines>) {
        self.accounting.configure(now, Arc::clone(&lines));
        self.dae.configure(lines);
    }

    /// Whether there is more to do at once.
    fn is_busy(&self) -> bool {
        self.radius.is_busy() || self.accounting.is_busy() || self.dae.is_busy()
    }

    fn ask(&mut self, now: Now, from: ShardId, lookup: Lookup) {
        let Lookup {
            id,
            until,
            question,
        } = lookup;
        let tools = (&mut self.web, &mut self.rng, &mut self.replies);
        match question {
            Question::Ocsp(question) => {
                self.revocation
                    .ask(tools, now, from, (id, until), false, *question);
            }
            Question::Own(question) => {
                self.revocation
                    .ask(tools, now, from, (id, until), true, *question);
            }
            Question::Crl(question) => {
                let (web, _, replies) = tools;
                let asker = (id, until);
                self.lists.ask((web, replies), now, from, asker, *question);
            }
            Question::Radius(question) => {
                let (_, rng, replies) = tools;
                let asker = (id, until);
                self.radius
                    .ask((rng, replies), now.mono, from, asker, *question);
            }
        }
    }

    /// Sends the shards what came of their questions, and what they are to do. Whether some of it
    /// has to wait.
    fn post(&mut self, outlets: &mut [Outlet<ShardMail>]) -> bool {
        for (shard, id, answer) in std::mem::take(&mut self.replies) {
            if let Some(outlet) = outlets.get_mut(usize::from(shard.0)) {
                outlet.send(ShardMail::Lookup { id, answer });
            }
        }
        for (serial, order) in self.orders.drain(..) {
            for outlet in &mut *outlets {
                let order = Arc::clone(&order);
                outlet.send(ShardMail::Order { serial, order });
            }
        }
        outlets
            .iter_mut()
            .fold(false, |waiting, outlet| outlet.flush() | waiting)
    }

    /// Something can be read, or written.
    fn ready(&mut self, token: Token, now: Instant) {
        if self.radius.owns(token) {
            self.radius.ready(token);
        } else if self.accounting.owns(token) {
            self.accounting.ready(token);
        } else if self.dae.owns(token) {
            self.dae.ready(token);
        } else {
            self.web.ready(token, now);
        }
    }

    /// Takes what has come, and gives up what has not.
    fn look(&mut self, now: Now) {
        self.dae.look(now, &mut self.orders);
        self.web.look(now.mono);
        for (ticket, result) in self.web.take_done() {
            let replies = &mut self.replies;
            if !self.revocation.fetched(now, ticket, &result, replies) {
                let tools = (&mut self.web, replies);
                self.lists.fetched(tools, now, ticket, &result);
            }
        }
        self.revocation.look(now.mono, &mut self.replies);
        self.lists.look((&mut self.web, &mut self.replies), now);
        self.radius.look(&mut self.rng, now.mono, &mut self.replies);
        self.accounting.look(now.mono);
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.web.deadline(),
            self.revocation.deadline(),
            self.lists.deadline(),
            self.radius.deadline(),
            self.accounting.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// The wall clock in seconds since 1970.
fn seconds(now: Now) -> i64 {
    let since = now.wall.duration_since(UNIX_EPOCH);
    i64::try_from(since.map_or(0, |since| since.as_secs())).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the thread owns its clock")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// Connections count from here in the poll; below are the waker and room for sockets that stay.
const WEB_TOKENS: usize = 1024;
/// Events taken in one turn.
const EVENTS: usize = 256;
/// Mail taken in one turn.
const MAIL_PER_TURN_MAX: usize = 1024;
/// How long the accounting servers may take for the last records.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How soon a full mailbox is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(2);
