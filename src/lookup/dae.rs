//! Who may tell us that a peer must go or what it may do, and is told what came of it (RFC 5176): sockets, and
//! requests that wait for the shards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use crate::ike::Level;
use crate::log;
use crate::policy::radius::Radius;
use crate::radius::Packet;
use crate::radius::dae::{self, Cause, Order};
use crate::radius::packet::PACKET_MAX;
use crate::time::Now;

/// All doors, and what came in by them.
#[derive(Debug)]
pub struct Dae {
    registry: Registry,
    /// By token.
    doors: BTreeMap<usize, UdpSocket>,
    radius: Arc<Radius>,
    shards: usize,
    waiting: BTreeMap<u64, Waiting>,
    next_serial: u64,
    /// The last answers, for clients that ask again.
    answered: VecDeque<(Asked, Vec<u8>)>,
    unread: BTreeSet<usize>,
    buffer: Vec<u8>,
}

/// A request: by which door, from where, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    door: usize,
    from: SocketAddr,
    request: Vec<u8>,
}

/// A request of which not all shards have said how many of its IKE SAs they had.
#[derive(Debug)]
struct Waiting {
    asked: Asked,
    left: usize,
    count: usize,
    until: Instant,
}

/// What every shard must do.
pub type Orders = Vec<(u64, Arc<Order>)>;

impl Dae {
    /// No doors yet; they are registered here.
    pub fn new(registry: Registry, shards: usize) -> Self {
        Self {
            registry,
            doors: BTreeMap::new(),
            radius: Arc::default(),
            shards,
            waiting: BTreeMap::new(),
            next_serial: 0,
            answered: VecDeque::new(),
            unread: BTreeSet::new(),
            buffer: vec![0; PACKET_MAX],
        }
    }

    /// Takes the lines of a configuration, and listens where they say.
    pub fn configure(&mut self, radius: Arc<Radius>) {
        if self.radius.dae_listen != radius.dae_listen {
            for (_, mut socket) in std::mem::take(&mut self.doors) {
                let _ = self.registry.deregister(&mut socket);
            }
            for (token, address) in TOKENS.zip(&radius.dae_listen) {
                match open(&self.registry, *address, token) {
                    Ok(socket) => {
                        self.doors.insert(token, socket);
                    }
                    Err(error) => {
                        let line = format!("radius dae listen on {address}: {error}");
                        log::write(Level::Warning, &line);
                    }
                }
            }
        }
        self.radius = radius;
    }

    /// Whether a token is one of ours.
    pub fn owns(&self, token: Token) -> bool {
        TOKENS.contains(&token.0)
    }

    /// A socket may be read.
    pub fn ready(&mut self, token: Token) {
        self.unread.insert(token.0);
    }

    /// Takes what has come.
    pub fn look(&mut self, now: Now, orders: &mut Orders) {
        // A shard that ended answers nothing.
        self.waiting.retain(|_, waiting| waiting.until > now.mono);
        for door in std::mem::take(&mut self.unread) {
            self.read(door, now, orders);
        }
    }

    fn read(&mut self, door: usize, now: Now, orders: &mut Orders) {
        for _ in 0..READS_MAX {
            let Some(socket) = self.doors.get(&door) else {
                return;
            };
            match socket.recv_from(&mut self.buffer) {
                Ok((len, from)) => {
                    let request = self.buffer.get(..len).unwrap_or_default().to_vec();
                    let asked = Asked {
                        door,
                        from,
                        request,
                    };
                    self.received(asked, now, orders);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
        self.unread.insert(door);
    }

    /// A datagram of anybody: only a client's, with its secret, gets an answer.
    fn received(&mut self, asked: Asked, now: Now, orders: &mut Orders) {
        let Some(secret) = self.secret(&asked) else {
            return;
        };
        if self.waiting.values().any(|waiting| waiting.asked == asked) {
            return;
        }
        let known = self.answered.iter().find(|(known, _)| *known == asked);
        if let Some((_, answer)) = known {
            return self.send(&asked, answer);
        }
        let at = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let read = |packet: Packet<'_>| dae::read(&packet, &secret, at.as_secs());
        match Packet::decode(&asked.request).and_then(read) {
            Ok(Order::Refuse(cause)) => self.answer(asked, Err(cause)),
            Ok(order) if self.waiting.len() < WAITING_MAX => {
                let serial = self.next_serial;
                self.next_serial += 1;
                let waiting = Waiting {
                    asked,
                    left: self.shards,
                    count: 0,
                    until: now.mono + WAIT_MAX,
                };
                self.waiting.insert(serial, waiting);
                orders.push((serial, Arc::new(order)));
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn secret(&self, asked: &Asked) -> Option<Vec<u8>> {
        let from = asked.from.ip().to_canonical();
        let mut clients = self.radius.dae_clients.iter();
        let client = clients.find(|(address, _)| *address == from);
        client.map(|(_, secret)| secret.expose().to_vec())
    }

    /// One shard more has done what was ordered, to so many IKE SAs.
    pub fn done(&mut self, serial: u64, count: usize) {
        let Some(waiting) = self.waiting.get_mut(&serial) else {
            return;
        };
        waiting.count += count;
        waiting.left = waiting.left.saturating_sub(1);
        if waiting.left > 0 {
            return;
        }
        let Some(waiting) = self.waiting.remove(&serial) else {
            return;
        };
        let outcome = if waiting.count > 0 {
            Ok(())
        } else {
            Err(Cause::SessionContextNotFound)
        };
        self.answer(waiting.asked, outcome);
    }

    fn answer(&mut self, asked: Asked, outcome: Result<(), Cause>) {
        let Some(secret) = self.secret(&asked) else {
            return;
        };
        let Ok(packet) = Packet::decode(&asked.request) else {
            return;
        };
        let answer = dae::answer(&packet, outcome, &secret);
        self.send(&asked, &answer);
        self.answered.truncate(ANSWERED_MAX - 1);
        self.answered.push_front((asked, answer));
    }

    fn send(&self, asked: &Asked, answer: &[u8]) {
        if let Some(socket) = self.doors.get(&asked.door) {
            // The client asks again if this is lost.
            let _ = socket.send_to(answer, asked.from);
        }
    }

    /// Whether there is more to read at once.
    pub fn is_busy(&self) -> bool {
        !self.unread.is_empty()
    }
}

fn open(registry: &Registry, address: SocketAddr, token: usize) -> io::Result<UdpSocket> {
    let mut socket = UdpSocket::bind(address)?;
    registry.register(&mut socket, Token(token), Interest::READABLE)?;
    Ok(socket)
}

/// Our tokens in the poll: so many addresses.
const TOKENS: std::ops::Range<usize> = 512..528;
/// Datagrams taken from one socket in a turn.
const READS_MAX: usize = 64;
/// Requests that wait for the shards.
const WAITING_MAX: usize = 256;
/// How long they wait: longer than a client asks again.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Answers that are kept.
const ANSWERED_MAX: usize = 256;

#[cfg(test)]
mod tests;
