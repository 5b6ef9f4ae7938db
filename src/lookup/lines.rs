//! Sockets to RADIUS servers, and the identifiers that are in use on each: one socket carries as many
//! packets that wait for an answer as there are identifiers. What waits, and how long, is for those
//! to say who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use super::port::Failure;
use crate::radius::packet::PACKET_MAX;

/// All sockets of one who asks.
#[derive(Debug)]
pub struct Lines {
    registry: Registry,
    /// So many sockets, under these tokens in the poll.
    tokens: Range<usize>,
    lines: BTreeMap<usize, Line>,
    /// Sockets with more to read than one turn takes.
    unread: BTreeSet<usize>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Line {
    server: SocketAddr,
    socket: UdpSocket,
    /// What waits, by identifier.
    flights: BTreeMap<u8, u64>,
    next_identifier: u8,
}

/// Where a packet waits for its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// The socket's token.
    pub line: usize,
    /// The identifier of the packet.
    pub identifier: u8,
}

/// What a socket has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A datagram of so many bytes, see [`Lines::datagram`].
    Datagram(usize),
    /// Nobody listens there, says the server's host.
    Refused,
    /// Another error, which says nothing of what comes after it.
    Fault,
    /// There may be more: it is this socket's turn again later.
    Enough,
    /// There is nothing more.
    Nothing,
}

impl Lines {
    /// None yet; sockets are registered here, under these tokens.
    pub fn new(registry: Registry, tokens: Range<usize>) -> Self {
        Self {
            registry,
            tokens,
            lines: BTreeMap::new(),
            unread: BTreeSet::new(),
            buffer: vec![0; PACKET_MAX],
        }
    }

    /// A socket to this server and an identifier that is free there, for this flight.
    pub fn book(&mut self, server: SocketAddr, flight: u64) -> Result<Seat, Failure> {
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
        Ok(Seat {
            line: token,
            identifier,
        })
    }

    fn open(&mut self, server: SocketAddr) -> Result<usize, Failure> {
        let mut tokens = self.tokens.clone();
        let token = tokens.find(|token| !self.lines.contains_key(token));
        // Where all are in use, one that nobody waits on makes room: its server may have gone.
        let idle = || {
            let mut lines = self.lines.iter();
            let idle = lines.find(|(_, line)| line.flights.is_empty());
            idle.map(|(token, _)| *token)
        };
        let token = token.or_else(idle).ok_or(Failure::Busy)?;
        self.close(token);
        let socket = self.connect(server, token);
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

    fn connect(&self, server: SocketAddr, token: usize) -> io::Result<UdpSocket> {
        let any = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(server)?;
        self.registry
            .register(&mut socket, Token(token), Interest::READABLE)?;
        Ok(socket)
    }

    fn close(&mut self, token: usize) {
        if let Some(mut line) = self.lines.remove(&token) {
            // It is closed right after, which ends the registration in any case.
            let _ = self.registry.deregister(&mut line.socket);
        }
    }

    /// Closes all sockets, whatever waits.
    pub fn clear(&mut self) {
        for token in self.tokens.clone() {
            self.close(token);
        }
    }

    /// Our address on this socket.
    pub fn local(&self, seat: Seat) -> Option<IpAddr> {
        let local = self.lines.get(&seat.line)?.socket.local_addr();
        local.ok().map(|local| local.ip())
    }

    /// Sends a packet. What cannot be sent now is lost, like what is lost on the way.
    pub fn send(&self, seat: Seat, packet: &[u8]) {
        if let Some(line) = self.lines.get(&seat.line) {
            let _ = line.socket.send(packet);
        }
    }

    /// Nothing waits there any more.
    pub fn release(&mut self, seat: Seat) {
        if let Some(line) = self.lines.get_mut(&seat.line) {
            line.flights.remove(&seat.identifier);
        }
    }

    /// The flight that waits there.
    pub fn flight(&self, seat: Seat) -> Option<u64> {
        let line = self.lines.get(&seat.line)?;
        line.flights.get(&seat.identifier).copied()
    }

    /// The server of a socket, and all that waits on it.
    pub fn all_of(&self, token: usize) -> Option<(SocketAddr, Vec<u64>)> {
        let line = self.lines.get(&token)?;
        Some((line.server, line.flights.values().copied().collect()))
    }

    /// How many sockets there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Whether a token is one of ours.
    pub fn owns(&self, token: Token) -> bool {
        self.tokens.contains(&token.0)
    }

    /// A socket may be read.
    pub fn ready(&mut self, token: Token) {
        self.unread.insert(token.0);
    }

    /// The sockets to [`Self::read`] in this turn.
    pub fn take_unread(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.unread)
    }

    /// Whether there is more to read at once.
    pub fn is_busy(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Reads a socket once more, after `count` times in this turn.
    pub fn read(&mut self, token: usize, count: usize) -> Heard {
        let Some(line) = self.lines.get(&token) else {
            return Heard::Nothing;
        };
        if count >= READS_MAX {
            self.unread.insert(token);
            return Heard::Enough;
        }
        match line.socket.recv(&mut self.buffer) {
            Ok(len) => Heard::Datagram(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Heard::Refused,
            Err(_) => Heard::Fault,
        }
    }

    /// The bytes of the datagram that was read last.
    pub fn datagram(&self, len: usize) -> &[u8] {
        self.buffer.get(..len).unwrap_or_default()
    }
}

/// Identifiers of a socket.
const LINE_MAX: usize = 256;
/// Datagrams taken from one socket in a turn.
const READS_MAX: usize = 256;
