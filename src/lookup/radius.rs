//! Asking RADIUS servers (RFC 2865, 2.5; RFC 3579): each question goes to one server, again and
//! again, then to the next. A server that is silent once is asked last for a while, so it holds up
//! only those who asked it first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::Replies;
use super::lines::{Heard, Lines, Seat};
use super::port::{Answer, Failure, LookupId, RadiusAnswer, RadiusQuestion};
use crate::crypto::Rng;
use crate::policy::radius::Server;
use crate::radius::{Packet, Reply};
use crate::steer::ShardId;

/// All questions that are out.
#[derive(Debug)]
pub struct Radius {
    lines: Lines,
    flights: BTreeMap<u64, Flight>,
    due: BTreeSet<(Instant, u64)>,
    next_flight: u64,
    /// Servers that were silent, and until when they are asked last.
    resting: BTreeMap<SocketAddr, Instant>,
}

#[derive(Debug)]
struct Flight {
    from: ShardId,
    id: LookupId,
    until: Instant,
    question: RadiusQuestion,
    /// Which server of the question's list.
    server: usize,
    seat: Seat,
    authenticator: [u8; 16],
    packet: Vec<u8>,
    tries: u32,
    failovers: u32,
    due_at: Instant,
}

impl Radius {
    /// No questions yet; sockets are registered here.
    pub fn new(registry: Registry) -> Self {
        Self {
            lines: Lines::new(registry, TOKENS),
            flights: BTreeMap::new(),
            due: BTreeSet::new(),
            next_flight: 0,
            resting: BTreeMap::new(),
        }
    }

    /// Takes a question.
    pub fn ask(
        &mut self,
        (rng, replies): (&mut Rng, &mut Replies),
        now: Instant,
        from: ShardId,
        (id, until): (LookupId, Instant),
        question: RadiusQuestion,
    ) {
        let list = &question.radius.auth.list;
        let awake = |server: &Server| {
            let resting = self.resting.get(&server.address);
            resting.is_none_or(|until| *until <= now)
        };
        let first = list.iter().position(awake).unwrap_or(0);
        let server = question.server.unwrap_or(first);
        let flight = Flight {
            from,
            id,
            until,
            question,
            server,
            seat: Seat::default(),
            authenticator: [0; 16],
            packet: Vec::new(),
            tries: 0,
            failovers: 0,
            due_at: now,
        };
        self.begin(rng, replies, now, flight);
    }

    /// Asks the flight's server for the first time.
    fn begin(&mut self, rng: &mut Rng, replies: &mut Replies, now: Instant, mut flight: Flight) {
        let number = self.next_flight;
        self.next_flight += 1;
        let Some(server) = flight.server().cloned() else {
            let failure = Failure::Radius("no server in the configuration");
            return reply(replies, &flight, Err(failure));
        };
        match self.lines.book(server.address, number) {
            Ok(seat) => flight.seat = seat,
            // No way leads there, which says nothing of the others.
            Err(_) if flight.may_fail_over() => {
                self.resting.insert(server.address, now + REST);
                return self.begin(rng, replies, now, flight.at_the_next());
            }
            Err(failure) => return reply(replies, &flight, Err(failure)),
        }
        flight.authenticator = rng.bytes();
        let question = &flight.question;
        let packet = question
            .facts
            .access(&question.eap, question.state.as_deref());
        flight.packet = packet.access_request(
            flight.seat.identifier,
            &flight.authenticator,
            server.secret.expose(),
        );
        flight.tries = 0;
        self.send(now, &mut flight);
        self.due.insert((flight.due_at, number));
        self.flights.insert(number, flight);
    }

    fn send(&self, now: Instant, flight: &mut Flight) {
        self.lines.send(flight.seat, &flight.packet);
        // 2, 4, 8 seconds.
        flight.tries += 1;
        let wait = FIRST_WAIT * 2u32.saturating_pow(flight.tries - 1);
        flight.due_at = flight.until.min(now + wait);
    }

    /// Whether a token is one of ours.
    pub fn owns(&self, token: Token) -> bool {
        self.lines.owns(token)
    }

    /// A socket may be read.
    pub fn ready(&mut self, token: Token) {
        self.lines.ready(token);
    }

    /// Takes what has come, asks again, and gives up.
    pub fn look(&mut self, rng: &mut Rng, now: Instant, replies: &mut Replies) {
        for token in self.lines.take_unread() {
            self.read(token, rng, now, replies);
        }
        while let Some(&(at, number)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, number));
            if let Some(flight) = self.flights.remove(&number) {
                self.overdue(rng, now, replies, number, flight);
            }
        }
    }

    fn read(&mut self, token: usize, rng: &mut Rng, now: Instant, replies: &mut Replies) {
        for count in 0.. {
            match self.lines.read(token, count) {
                Heard::Datagram(len) => self.received(token, len, replies),
                Heard::Refused => self.refused(token, rng, now, replies),
                Heard::Fault => {}
                Heard::Enough | Heard::Nothing => return,
            }
        }
    }

    /// A datagram of a server. What is not an answer to what was asked is passed over: the right one
    /// may still come.
    fn received(&mut self, token: usize, len: usize, replies: &mut Replies) {
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
        let Some(server) = flight.server() else {
            return;
        };
        let (secret, meanings) = (server.secret.expose(), &flight.question.radius);
        let Ok(found) = Reply::read(&packet, &flight.authenticator, secret, meanings) else {
            return;
        };
        self.lines.release(seat);
        self.resting.remove(&server.address);
        self.due.remove(&(flight.due_at, number));
        reply(replies, flight, Ok((flight.server, Box::new(found))));
        self.flights.remove(&number);
    }

    /// There is no server there, says its host: those who may ask another do so now.
    fn refused(&mut self, token: usize, rng: &mut Rng, now: Instant, replies: &mut Replies) {
        let Some((server, numbers)) = self.lines.all_of(token) else {
            return;
        };
        self.resting.insert(server, now + REST);
        for number in numbers {
            let may = self.flights.get(&number).is_some_and(Flight::may_fail_over);
            if !may {
                // It may be on its way up.
                continue;
            }
            if let Some(flight) = self.flights.remove(&number) {
                self.due.remove(&(flight.due_at, number));
                self.fail_over(rng, now, replies, flight);
            }
        }
    }

    fn overdue(
        &mut self,
        rng: &mut Rng,
        now: Instant,
        replies: &mut Replies,
        number: u64,
        mut flight: Flight,
    ) {
        if let Some(server) = flight.server() {
            self.resting.insert(server.address, now + REST);
        }
        if now >= flight.until {
            self.lines.release(flight.seat);
            reply(replies, &flight, Err(Failure::Late));
        } else if flight.tries < flight.question.radius.auth.tries {
            self.send(now, &mut flight);
            self.due.insert((flight.due_at, number));
            self.flights.insert(number, flight);
        } else if flight.may_fail_over() {
            self.fail_over(rng, now, replies, flight);
        } else {
            self.lines.release(flight.seat);
            reply(replies, &flight, Err(Failure::Late));
        }
    }

    fn fail_over(&mut self, rng: &mut Rng, now: Instant, replies: &mut Replies, flight: Flight) {
        self.lines.release(flight.seat);
        self.begin(rng, replies, now, flight.at_the_next());
    }

    /// When to [`Self::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether there is more to read at once.
    pub fn is_busy(&self) -> bool {
        self.lines.is_busy()
    }
}

impl Flight {
    fn server(&self) -> Option<&Server> {
        self.question.radius.auth.list.get(self.server)
    }

    fn at_the_next(self) -> Self {
        let count = self.question.radius.auth.list.len();
        Self {
            server: (self.server + 1) % count.max(1),
            failovers: self.failovers + 1,
            ..self
        }
    }

    /// Only the first question of a conversation can be put to another server.
    fn may_fail_over(&self) -> bool {
        let servers = &self.question.radius.auth;
        let others = u32::try_from(servers.list.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.question.server.is_none() && self.failovers < servers.failovers.min(others)
    }
}

fn reply(replies: &mut Replies, flight: &Flight, answer: RadiusAnswer) {
    replies.push((flight.from, flight.id, Answer::Radius(answer)));
}

/// Our tokens in the poll: so many sockets, 256 questions each.
const TOKENS: std::ops::Range<usize> = 1..257;
/// Before the same is asked again for the first time; OpenIKED's.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// How long a silent server is asked last.
const REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
