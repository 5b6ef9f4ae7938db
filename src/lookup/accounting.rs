//! Telling the accounting servers (RFC 2866): records wait here, one of each peer on its way at a
//! time, until a server has taken them. Nobody waits for that, and what waits is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use mio::{Registry, Token};

use super::lines::{Heard, Lines, Seat};
use super::port::Record;
use crate::ike::Level;
use crate::log;
use crate::policy::radius::{Radius, Server};
use crate::radius::packet::Code;
use crate::radius::request::whole_record;
use crate::radius::{Moment, Packet};
use crate::time::Now;

/// All records that no server has taken yet.
#[derive(Debug)]
pub struct Accounting {
    radius: Arc<Radius>,
    lines: Lines,
    /// What waits, by session, in order.
    waiting: BTreeMap<u64, VecDeque<Entry>>,
    /// How many entries that are.
    count: usize,
    /// Sessions of which something waits and nothing is out.
    turn: VecDeque<u64>,
    /// Such sessions whose turn comes later, because no server answered.
    later: BTreeSet<(Instant, u64)>,
    flights: BTreeMap<u64, Flight>,
    due: BTreeSet<(Instant, u64)>,
    next_flight: u64,
    /// Servers that were silent, and until when they are told last.
    resting: BTreeMap<SocketAddr, Instant>,
    /// Records were dropped and nothing was taken since.
    overflowing: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    what: What,
    /// When it has no use any more.
    until: Instant,
}

#[derive(Clone, Debug)]
enum What {
    /// We have begun, or end; when, in seconds since 1970.
    Whole {
        on: bool,
        at: u32,
    },
    Peer(Box<Record>),
}

#[derive(Debug)]
struct Flight {
    session: u64,
    entry: Entry,
    /// Which server of the list.
    server: usize,
    seat: Seat,
    packet: Vec<u8>,
    tries: u32,
    failovers: u32,
    due_at: Instant,
}

impl Accounting {
    /// No servers yet; sockets are registered here.
    pub fn new(registry: Registry) -> Self {
        Self {
            radius: Arc::default(),
            lines: Lines::new(registry, TOKENS),
            waiting: BTreeMap::new(),
            count: 0,
            turn: VecDeque::new(),
            later: BTreeSet::new(),
            flights: BTreeMap::new(),
            due: BTreeSet::new(),
            next_flight: 0,
            resting: BTreeMap::new(),
            overflowing: false,
        }
    }

    /// Takes the lines of a configuration. What is out is told again, to these servers.
    pub fn configure(&mut self, now: Now, radius: Arc<Radius>) {
        let old = std::mem::replace(&mut self.radius, radius);
        if old.accounting.list == self.radius.accounting.list {
            return;
        }
        for (_, flight) in std::mem::take(&mut self.flights) {
            self.put_back(flight.session, flight.entry);
            self.turn.push_back(flight.session);
        }
        self.due.clear();
        self.resting.clear();
        self.lines.clear();
        if old.accounting.list.is_empty() {
            self.tell_whole(now, true);
        } else if self.radius.accounting.list.is_empty() {
            self.waiting.clear();
            self.turn.clear();
            self.later.clear();
            self.count = 0;
        }
    }

    /// This daemon ends.
    pub fn close(&mut self, now: Now) {
        // Who has given no answer so far gets no more time than the rest.
        for (_, session) in std::mem::take(&mut self.later) {
            self.turn.push_back(session);
        }
        self.tell_whole(now, false);
    }

    fn tell_whole(&mut self, now: Now, on: bool) {
        let at = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        let what = What::Whole { on, at };
        self.push(now.mono, WHOLE, what, false);
    }

    /// Takes a record.
    pub fn tell(&mut self, now: Instant, record: Record) {
        let session = record.facts.session;
        let interim = record.moment == Moment::Interim;
        let last = self.waiting.get_mut(&session).and_then(VecDeque::back_mut);
        if let Some(last) = last.filter(|last| last.is_interim()) {
            // The younger one says it all.
            *last = Entry::new(now, What::Peer(Box::new(record)));
            return;
        }
        self.push(now, session, What::Peer(Box::new(record)), interim);
    }

    fn push(&mut self, now: Instant, session: u64, what: What, interim: bool) {
        if self.radius.accounting.list.is_empty() {
            return;
        }
        let max = if interim {
            WAITING_MAX / 2
        } else {
            WAITING_MAX
        };
        if self.count >= max {
            if !self.overflowing {
                let line = "radius accounting: too many records wait, some are dropped";
                log::write(Level::Warning, line);
            }
            self.overflowing = true;
            return;
        }
        self.overflowing = false;
        let idle = !self.waiting.contains_key(&session);
        let entry = Entry::new(now, what);
        self.waiting.entry(session).or_default().push_back(entry);
        self.count += 1;
        if idle {
            self.turn.push_back(session);
        }
    }

    /// Lets an entry wait again, before all others of its session.
    fn put_back(&mut self, session: u64, entry: Entry) {
        self.waiting.entry(session).or_default().push_front(entry);
        self.count += 1;
    }

    /// Sends what may be sent.
    fn pump(&mut self, now: Instant) {
        while let Some(&(at, session)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, session));
            self.turn.push_back(session);
        }
        while self.flights.len() < FLIGHTS_MAX {
            let Some(session) = self.turn.pop_front() else {
                return;
            };
            // The queue stays, though empty: it says that something is out.
            let queue = self.waiting.get_mut(&session);
            let Some(entry) = queue.and_then(VecDeque::pop_front) else {
                self.waiting.remove(&session);
                continue;
            };
            self.count = self.count.saturating_sub(1);
            let list = &self.radius.accounting.list;
            let awake = |server: &Server| {
                let resting = self.resting.get(&server.address);
                resting.is_none_or(|until| *until <= now)
            };
            let flight = Flight {
                session,
                entry,
                server: list.iter().position(awake).unwrap_or(0),
                seat: Seat::default(),
                packet: Vec::new(),
                tries: 0,
                failovers: 0,
                due_at: now,
            };
            self.begin(now, flight);
        }
    }

    /// Tells the flight's server for the first time.
    fn begin(&mut self, now: Instant, mut flight: Flight) {
        let number = self.next_flight;
        self.next_flight += 1;
        let Some(server) = self.radius.accounting.list.get(flight.server).cloned() else {
            return self.done(flight.session);
        };
        let Ok(seat) = self.lines.book(server.address, number) else {
            return self.unheard(now, flight);
        };
        (flight.seat, flight.tries) = (seat, 0);
        let Some(local) = self.lines.local(seat) else {
            self.lines.release(seat);
            return self.unheard(now, flight);
        };
        let record = match &flight.entry.what {
            What::Whole { on, at } => whole_record(*on, local, *at),
            What::Peer(record) => record.facts.record(record.moment, &record.figures),
        };
        let (code, secret) = (Code::ACCOUNTING_REQUEST, server.secret.expose());
        flight.packet = record.signed_request(code, seat.identifier, secret);
        self.send(now, &mut flight);
        self.due.insert((flight.due_at, number));
        self.flights.insert(number, flight);
    }

    fn send(&self, now: Instant, flight: &mut Flight) {
        self.lines.send(flight.seat, &flight.packet);
        // 2, 4, 8 seconds.
        flight.tries += 1;
        flight.due_at = now + FIRST_WAIT * 2u32.saturating_pow(flight.tries - 1);
    }

    /// Whether a token is one of ours.
    pub fn owns(&self, token: Token) -> bool {
        self.lines.owns(token)
    }

    /// A socket may be read.
    pub fn ready(&mut self, token: Token) {
        self.lines.ready(token);
    }

    /// Takes what has come, tells again, and what waits.
    pub fn look(&mut self, now: Instant) {
        for token in self.lines.take_unread() {
            self.read(token);
        }
        while let Some(&(at, number)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, number));
            if let Some(flight) = self.flights.remove(&number) {
                self.overdue(now, number, flight);
            }
        }
        self.pump(now);
    }

    fn read(&mut self, token: usize) {
        for count in 0.. {
            match self.lines.read(token, count) {
                Heard::Datagram(len) => self.received(token, len),
                // That nobody listens there may change before it is told again.
                Heard::Refused | Heard::Fault => {}
                Heard::Enough | Heard::Nothing => return,
            }
        }
    }

    /// A datagram of a server; what is not an answer to what was told is passed over.
    fn received(&mut self, token: usize, len: usize) {
        let Ok(packet) = Packet::decode(self.lines.datagram(len)) else {
            return;
        };
        let seat = Seat {
            line: token,
            identifier: packet.identifier,
        };
        let Some(number) = self.lines.flight(seat) else {
            return;
        };
        let Some(flight) = self.flights.get(&number) else {
            return;
        };
        let server = self.radius.accounting.list.get(flight.server);
        let sent = Packet::decode(&flight.packet);
        let (Some(server), Ok(sent)) = (server, sent) else {
            return;
        };
        let secret = server.secret.expose();
        if packet.code != Code::ACCOUNTING_RESPONSE
            || packet
                .verify_answer(secret, &sent.authenticator, false)
                .is_err()
        {
            return;
        }
        self.resting.remove(&server.address);
        self.due.remove(&(flight.due_at, number));
        if let Some(flight) = self.flights.remove(&number) {
            self.lines.release(flight.seat);
            self.done(flight.session);
        }
    }

    /// Nothing of this session is out any more.
    fn done(&mut self, session: u64) {
        match self.waiting.get(&session) {
            Some(queue) if !queue.is_empty() => self.turn.push_back(session),
            Some(_) | None => {
                self.waiting.remove(&session);
            }
        }
    }

    fn overdue(&mut self, now: Instant, number: u64, mut flight: Flight) {
        if flight.tries < self.radius.accounting.tries {
            self.send(now, &mut flight);
            self.due.insert((flight.due_at, number));
            self.flights.insert(number, flight);
        } else {
            self.lines.release(flight.seat);
            self.unheard(now, flight);
        }
    }

    /// A server does not answer: another is told, or all once more after a rest.
    fn unheard(&mut self, now: Instant, mut flight: Flight) {
        let servers = &self.radius.accounting;
        if let Some(server) = servers.list.get(flight.server) {
            let address = server.address;
            let known = self.resting.insert(address, now + REST);
            if known.is_none() {
                let line = format!("radius accounting server {address}: no answer");
                log::write(Level::Warning, &line);
            }
        }
        let others = u32::try_from(servers.list.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if flight.failovers < servers.failovers.min(others) {
            flight.failovers += 1;
            flight.server = (flight.server + 1) % servers.list.len().max(1);
            return self.begin(now, flight);
        }
        let Flight { session, entry, .. } = flight;
        let superseded = self.waiting.get(&session).is_some_and(|q| !q.is_empty());
        if entry.until <= now || (entry.is_interim() && superseded) {
            return self.done(session);
        }
        self.put_back(session, entry);
        self.later.insert((now + REST, session));
    }

    /// When to [`Self::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, u64)>| set.first().map(|(at, _)| *at);
        [first(&self.due), first(&self.later)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether there is more to do at once.
    pub fn is_busy(&self) -> bool {
        let may_send = !self.turn.is_empty() && self.flights.len() < FLIGHTS_MAX;
        may_send || self.lines.is_busy()
    }

    /// Whether no record waits for a server.
    pub fn is_idle(&self) -> bool {
        self.count == 0 && self.flights.is_empty()
    }
}

impl Entry {
    fn new(now: Instant, what: What) -> Self {
        let until = now + AGE_MAX;
        Self { what, until }
    }

    fn is_interim(&self) -> bool {
        matches!(&self.what, What::Peer(record) if record.moment == Moment::Interim)
    }
}

/// Our tokens in the poll: so many sockets.
const TOKENS: std::ops::Range<usize> = 544..576;
/// The session that is no peer's: the initiator's SPI is never zero.
const WHOLE: u64 = 0;
/// Records on their way; fewer than there are identifiers.
const FLIGHTS_MAX: usize = 128;
/// Records that wait, about half a KiB each; of those that only report half as many.
const WAITING_MAX: usize = 16_384;
/// Before the same is told again for the first time.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// How long a silent server is told last, and a record rests that nobody took.
const REST: Duration = Duration::from_secs(60);
/// How long a record is of use.
const AGE_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
