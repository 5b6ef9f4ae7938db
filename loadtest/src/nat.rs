//! The NATs that peers are behind: each peer has an address inside that it knows and that no other end
//! ever sees, and outside a port for each of its two on an address that it shares with others. So what
//! NAT detection says is true, and all goes on in UDP encapsulation on port 4500. A mapping may change
//! its port; what still comes to the old one is lost.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use iked::ike::Path;
use iked::shard::batch::SendBatch;
use iked::shard::socket::{self, Ports, ShardSocket};
use iked::steer::Steering;

use crate::run::{IKE_PORT, NATT_PORT};
use crate::scenario::{self, Scenario};

/// The mappings of the peers of one thread, and the sockets that they stand for.
#[derive(Debug)]
pub struct Nat {
    scenario: Arc<Scenario>,
    thread: u32,
    threads: u32,
    /// Those that share an address.
    seats: u32,
    /// One for each socket, and which of them have something.
    waiting: Vec<SendBatch>,
    full: Vec<usize>,
    /// By place among the peers of this thread: whether its second mapping of port 4500 counts.
    second: Vec<bool>,
}

impl Nat {
    /// The mappings of a thread, if the scenario has NATs, and their sockets.
    pub fn new(
        scenario: &Arc<Scenario>,
        thread: u8,
        threads: u8,
    ) -> io::Result<Option<(Self, Vec<ShardSocket>)>> {
        let Some(nat) = &scenario.nat else {
            return Ok(None);
        };
        let any: IpAddr = match scenario.responder.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let (thread, threads) = (u32::from(thread), u32::from(threads));
        let mut sockets = Vec::new();
        for index in 0..nat.peers * MAPPINGS {
            let (seat, mapping) = (index / MAPPINGS, index % MAPPINGS);
            let port = FIRST_PORT + (seat * threads + thread) * MAPPINGS + mapping;
            let port = u16::try_from(port)
                .map_err(|_| io::Error::other("no ports are left for so many threads"))?;
            let ports = if mapping == 0 {
                Ports {
                    ike: Some(port),
                    natt: None,
                }
            } else {
                Ports {
                    ike: None,
                    natt: Some(port),
                }
            };
            let bound = socket::bind(&[any], ports, &Steering::new(1, 1))?;
            sockets.extend(bound.shards.into_iter().flatten());
        }
        let own = scenario.peers_of(thread, threads);
        let made = Self {
            scenario: Arc::clone(scenario),
            thread,
            threads,
            seats: nat.peers,
            waiting: sockets.iter().map(|_| SendBatch::default()).collect(),
            full: Vec::new(),
            second: vec![false; own as usize],
        };
        Ok(Some((made, sockets)))
    }

    /// Queues a datagram of a peer, which believes that it goes out on this path.
    pub fn push(&mut self, path: Path, bytes: Vec<u8>) {
        let Some(place) = self.place_of(path.local.ip()) else {
            return;
        };
        let mapping = match self.second.get(place as usize) {
            _ if !path.marker => 0,
            Some(true) => 2,
            Some(false) | None => 1,
        };
        let index = (place % self.seats) * MAPPINGS + mapping;
        let mut outside = path;
        if let Some(address) = self.outside(place / self.seats) {
            outside.local.set_ip(address);
        }
        let index = index as usize;
        if let Some(waiting) = self.waiting.get_mut(index) {
            waiting.push(outside, bytes);
            self.full.push(index);
        }
    }

    /// Sends all that wait.
    pub fn flush(&mut self, sockets: &[ShardSocket]) {
        for index in self.full.drain(..) {
            if let (Some(waiting), Some(socket)) = (self.waiting.get_mut(index), sockets.get(index))
            {
                waiting.flush(std::slice::from_ref(socket));
            }
        }
    }

    /// The path as the peer sees it for whom this came; `None`: there is no such mapping any more.
    pub fn inside(&self, index: usize, path: Path) -> Option<Path> {
        let index = u32::try_from(index).ok()?;
        let (seat, mapping) = (index / MAPPINGS, index % MAPPINGS);
        let (first, count) = self.scenario.nat.as_ref()?.network()?;
        let nat = scenario::offset(first, path.local.ip()).filter(|nat| *nat < count)?;
        let place = nat.checked_mul(self.seats)?.checked_add(seat)?;
        let second = *self.second.get(place as usize)?;
        if mapping != 0 && (mapping == 2) != second {
            return None;
        }
        let peer = place.checked_mul(self.threads)?.checked_add(self.thread)?;
        let port = if mapping == 0 { IKE_PORT } else { NATT_PORT };
        let local = (self.scenario.source_of(peer)?, port).into();
        Some(Path { local, ..path })
    }

    /// The mapping of port 4500 of this peer, by its place among the thread's, has another port from
    /// now on.
    pub fn change(&mut self, place: u32) {
        if let Some(second) = self.second.get_mut(place as usize) {
            *second = !*second;
        }
    }

    fn place_of(&self, inside: IpAddr) -> Option<u32> {
        let (first, _) = self.scenario.sources()?;
        let peer = scenario::offset(first, inside)?;
        Some(peer / self.threads)
    }

    fn outside(&self, number: u32) -> Option<IpAddr> {
        let (first, _) = self.scenario.nat.as_ref()?.network()?;
        Some(scenario::nth(first, number))
    }
}

/// The first port that a NAT gives away.
const FIRST_PORT: u32 = 10_000;
/// For each seat: of port 500, and two of port 4500 of which one counts.
const MAPPINGS: u32 = 3;
