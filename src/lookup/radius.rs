//! Asking RADIUS servers (RFC 2865, 2.5; RFC 3579): each question goes to one server, again and
//! again, then to the next. A server that is silent once is asked last for a while, so it holds up
//! only those who asked it first.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use super::Replies;
use super::port::{Answer, Failure, LookupId, RadiusAnswer, RadiusQuestion};
use crate::crypto::Rng;
use crate::policy::radius::Server;
use crate::radius::packet::PACKET_MAX;
use crate::radius::{Packet, Reply};
use crate::steer::ShardId;

/// All questions that are out.
#[derive(Debug)]
pub struct Radius {
    registry: Registry,
    /// By token.
    lines: BTreeMap<usize, Line>,
    flights: BTreeMap<u64, Flight>,
    due: BTreeSet<(Instant, u64)>,
    next_flight: u64,
    /// Servers that were silent, and until when they are asked last.
    resting: BTreeMap<SocketAddr, Instant>,
    /// Sockets with more to read than one turn takes.
    unread: BTreeSet<usize>,
    buffer: Vec<u8>,
}

/// A socket to one server: 256 questions can be out on it, as many as there are identifiers.
#[derive(Debug)]
struct Line {
    server: SocketAddr,
    socket: UdpSocket,
    flights: BTreeMap<u8, u64>,
    next_identifier: u8,
}

#[derive(Debug)]
struct Flight {
    from: ShardId,
    id: LookupId,
    until: Instant,
    question: RadiusQuestion,
    /// Which server of the question's list.
    server: usize,
    line: usize,
    identifier: u8,
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
            registry,
            lines: BTreeMap::new(),
            flights: BTreeMap::new(),
            due: BTreeSet::new(),
            next_flight: 0,
            resting: BTreeMap::new(),
            unread: BTreeSet::new(),
            buffer: vec![0; PACKET_MAX],
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
            line: 0,
            identifier: 0,
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
        match self.book(server.address, number) {
            Ok((line, identifier)) => (flight.line, flight.identifier) = (line, identifier),
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
            flight.identifier,
            &flight.authenticator,
            server.secret.expose(),
        );
        flight.tries = 0;
        self.send(now, &mut flight);
        self.due.insert((flight.due_at, number));
        self.flights.insert(number, flight);
    }

    fn send(&self, now: Instant, flight: &mut Flight) {
        if let Some(line) = self.lines.get(&flight.line) {
            // What is not sent now is sent again.
            let _ = line.socket.send(&flight.packet);
        }
        // 2, 4, 8 seconds.
        flight.tries += 1;
        let wait = FIRST_WAIT * 2u32.saturating_pow(flight.tries - 1);
        flight.due_at = flight.until.min(now + wait);
    }

    /// A socket to this server and an identifier that is free there.
    fn book(&mut self, server: SocketAddr, flight: u64) -> Result<(usize, u8), Failure> {
        let free = |line: &Line| line.server == server && line.flights.len() < LINE_MAX;
        let found = self.lines.iter_mut().find(|(_, line)| free(line));
        let token = match found {
            Some((token, _)) => *token,
            None => self.open(server)?,
        };
        let line = self.lines.get_mut(&token).ok_or(Failure::Busy)?;
        while line.flights.contains_key(&line.next_identifier) {
            line.next_identifier = line.next_identifier.wrapping_add(1);
        }
        let identifier = line.next_identifier;
        line.next_identifier = identifier.wrapping_add(1);
        line.flights.insert(identifier, flight);
        Ok((token, identifier))
    }

    fn open(&mut self, server: SocketAddr) -> Result<usize, Failure> {
        let token = TOKENS.clone().find(|token| !self.lines.contains_key(token));
        // Where all are in use, one that nobody waits on makes room: its server may have gone.
        let idle = || {
            let mut lines = self.lines.iter();
            let idle = lines.find(|(_, line)| line.flights.is_empty());
            idle.map(|(token, _)| *token)
        };
        let token = token.or_else(idle).ok_or(Failure::Busy)?;
        if let Some(mut old) = self.lines.remove(&token) {
            let _ = self.registry.deregister(&mut old.socket);
        }
        let socket = connect(&self.registry, server, token);
        let socket = socket.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let line = Line {
            server,
            socket,
            flights: BTreeMap::new(),
            next_identifier: 0,
        };
        self.lines.insert(token, line);
        Ok(token)
    }

    /// Whether a token is one of ours.
    pub fn owns(&self, token: Token) -> bool {
        TOKENS.contains(&token.0)
    }

    /// A socket may be read.
    pub fn ready(&mut self, token: Token) {
        self.unread.insert(token.0);
    }

    /// Takes what has come, asks again, and gives up.
    pub fn look(&mut self, rng: &mut Rng, now: Instant, replies: &mut Replies) {
        for token in std::mem::take(&mut self.unread) {
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
        for _ in 0..READS_MAX {
            let Some(line) = self.lines.get(&token) else {
                return;
            };
            match line.socket.recv(&mut self.buffer) {
                Ok(len) => self.received(token, len, replies),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.refused(token, rng, now, replies);
                }
                Err(_) => {}
            }
        }
        self.unread.insert(token);
    }

    /// A datagram of a server. What is not an answer to what was asked is passed over: the right one
    /// may still come.
    fn received(&mut self, token: usize, len: usize, replies: &mut Replies) {
        let datagram = self.buffer.get(..len).unwrap_or_default();
        let Ok(packet) = Packet::decode(datagram) else {
            return;
        };
        let Some(line) = self.lines.get_mut(&token) else {
            return;
        };
        let Some(&number) = line.flights.get(&packet.identifier) else {
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
        line.flights.remove(&packet.identifier);
        self.resting.remove(&server.address);
        self.due.remove(&(flight.due_at, number));
        reply(replies, flight, Ok((flight.server, Box::new(found))));
        self.flights.remove(&number);
    }

    /// There is no server there, says its host: those who may ask another do so now.
    fn refused(&mut self, token: usize, rng: &mut Rng, now: Instant, replies: &mut Replies) {
        let Some(line) = self.lines.get(&token) else {
            return;
        };
        self.resting.insert(line.server, now + REST);
        for number in line.flights.values().copied().collect::<Vec<_>>() {
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
            self.release(&flight);
            reply(replies, &flight, Err(Failure::Late));
        } else if flight.tries < flight.question.radius.auth.tries {
            self.send(now, &mut flight);
            self.due.insert((flight.due_at, number));
            self.flights.insert(number, flight);
        } else if flight.may_fail_over() {
            self.fail_over(rng, now, replies, flight);
        } else {
            self.release(&flight);
            reply(replies, &flight, Err(Failure::Late));
        }
    }

    fn fail_over(&mut self, rng: &mut Rng, now: Instant, replies: &mut Replies, flight: Flight) {
        self.release(&flight);
        self.begin(rng, replies, now, flight.at_the_next());
    }

    fn release(&mut self, flight: &Flight) {
        if let Some(line) = self.lines.get_mut(&flight.line) {
            line.flights.remove(&flight.identifier);
        }
    }

    /// When to [`Self::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether there is more to read at once.
    pub fn is_busy(&self) -> bool {
        !self.unread.is_empty()
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

/// A socket to this server, registered under this token.
pub(super) fn connect(
    registry: &Registry,
    server: SocketAddr,
    token: usize,
) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    registry.register(&mut socket, Token(token), Interest::READABLE)?;
    Ok(socket)
}

/// Our tokens in the poll: so many sockets, 256 questions each.
const TOKENS: std::ops::Range<usize> = 1..257;
/// Identifiers of a socket.
const LINE_MAX: usize = 256;
/// Before the same is asked again for the first time; OpenIKED's.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// How long a silent server is asked last.
const REST: Duration = Duration::from_secs(60);
/// Datagrams taken from one socket in a turn.
const READS_MAX: usize = 256;

#[cfg(test)]
mod tests;
