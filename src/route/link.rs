//! What we set on this host for what gateways grant it: addresses of interfaces, routes, and the
//! rules that lead to them.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use super::message::{self, LinkAddress, Told};
use super::way::{self, Course, Prefix, Route, TABLE};
use super::{ANSWER_AFTER_MAX, dump};
use crate::sys::net;
use crate::sys::netlink::KernelSocket;

/// One of the things that we set. Each needs those that come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Piece {
    /// An address of an interface.
    Address(LinkAddress),
    /// A route in our table; those around the tunnel come before those into it.
    Route(Course, Prefix),
    /// The rule that leads to our table, for IPv4 (else IPv6).
    Rule {
        /// For IPv4.
        v4: bool,
    },
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(at) => write!(f, "address {}/{}", at.address, at.len),
            Self::Route(Course::Elsewhere, to) => write!(f, "route around for {}", to.address),
            Self::Route(Course::Out { source, .. }, to) => {
                write!(f, "route to {}/{} from {source}", to.address, to.len)
            }
            Self::Rule { v4 } => {
                let family = if *v4 { "IPv4" } else { "IPv6" };
                write!(f, "rule for {family} to table {TABLE}")
            }
        }
    }
}

/// The way to the interfaces and routes of the network namespace it was opened in.
#[derive(Debug)]
pub struct Links {
    socket: KernelSocket,
    seq: u32,
}

impl Links {
    /// Opens it and takes away what a daemon before this one set and left. Tells the numbers of the
    /// interfaces that this was on.
    pub fn open() -> io::Result<(Self, BTreeSet<u32>)> {
        let socket = KernelSocket::netlink(libc::NETLINK_ROUTE)?;
        socket.set_receive_timeout(ANSWER_AFTER_MAX)?;
        let mut links = Self { socket, seq: 0 };
        let left = links.left()?;
        for piece in left.iter().rev() {
            links.remove(*piece)?;
        }
        let indices = left.into_iter().filter_map(|piece| match piece {
            Piece::Address(at) => Some(at.index),
            Piece::Route(Course::Out { index, .. }, _) => Some(index),
            Piece::Route(Course::Elsewhere, _) | Piece::Rule { .. } => None,
        });
        Ok((links, indices.collect()))
    }

    /// Sets a piece; `AlreadyExists` is one that is there, by whomever.
    pub fn add(&mut self, piece: Piece) -> io::Result<()> {
        let seq = self.next();
        let request = match piece {
            Piece::Address(at) => message::add_address(seq, at),
            Piece::Route(course, to) => way::add_route(seq, Route { to, course }),
            Piece::Rule { v4 } => way::add_rule(seq, v4),
        };
        self.ask(seq, &request)
    }

    /// Gives a route of ours another course.
    pub fn replace(&mut self, to: Prefix, course: Course) -> io::Result<()> {
        let seq = self.next();
        self.ask(seq, &way::replace_route(seq, Route { to, course }))
    }

    /// Takes a piece away; one that is not there is no error.
    pub fn remove(&mut self, piece: Piece) -> io::Result<()> {
        let seq = self.next();
        let request = match piece {
            Piece::Address(at) => message::remove_address(seq, at),
            Piece::Route(course, to) => way::remove_route(seq, Route { to, course }),
            Piece::Rule { v4 } => way::remove_rule(seq, v4),
        };
        match self.ask(seq, &request) {
            // The interface may be gone, and its addresses with it; with an address go its routes.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ESRCH | libc::ENOENT)
                ) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// What carries our mark. A table that changes while it is read may show a piece twice, or not;
    /// ours do not change.
    fn left(&mut self) -> io::Result<BTreeSet<Piece>> {
        let mut left = BTreeSet::new();
        for request in [message::dump_addresses, way::dump_routes, way::dump_rules] {
            let seq = self.next();
            dump(&self.socket, seq, &request(seq), |told| match told {
                Told::Address { at, ours: true, .. } => {
                    left.insert(Piece::Address(at));
                }
                Told::Route(Route { to, course }) => {
                    left.insert(Piece::Route(course, to));
                }
                Told::Rule { v4 } => {
                    left.insert(Piece::Rule { v4 });
                }
                Told::Address { .. }
                | Told::Link { .. }
                | Told::Done
                | Told::Error(_)
                | Told::Other => {}
            })?;
        }
        Ok(left)
    }

    fn next(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    fn ask(&self, seq: u32, request: &[u8]) -> io::Result<()> {
        self.socket.send(request)?;
        let mut buffer = [0; ANSWER_MAX];
        loop {
            let len = self.socket.receive(&mut buffer)?;
            for (answer_to, _, told) in message::read(buffer.get(..len).unwrap_or_default()) {
                match told {
                    Told::Error(0) if answer_to == seq => return Ok(()),
                    Told::Error(errno) if answer_to == seq => {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    Told::Address { .. }
                    | Told::Link { .. }
                    | Told::Route(_)
                    | Told::Rule { .. }
                    | Told::Done
                    | Told::Error(_)
                    | Told::Other => {}
                }
            }
        }
    }
}

/// The number of an XFRM interface (zero where it is for any), or `None` for an interface of another
/// kind. `ENODEV` is one that is not there.
pub fn xfrm_interface(name: &str) -> io::Result<Option<u32>> {
    let index = net::interface_index(name)?;
    let socket = KernelSocket::netlink(libc::NETLINK_ROUTE)?;
    socket.set_receive_timeout(ANSWER_AFTER_MAX)?;
    socket.send(&message::get_link(SEQ, index))?;
    let mut buffer = vec![0; LINK_MAX];
    loop {
        let len = socket.receive(&mut buffer)?;
        for (answer_to, _, told) in message::read(buffer.get(..len).unwrap_or_default()) {
            match told {
                Told::Link { xfrm } if answer_to == SEQ => return Ok(xfrm),
                Told::Error(errno) if answer_to == SEQ && errno != 0 => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Told::Address { .. }
                | Told::Link { .. }
                | Told::Route(_)
                | Told::Rule { .. }
                | Told::Done
                | Told::Error(_)
                | Told::Other => {}
            }
        }
    }
}

/// Of the one question to a socket of its own.
const SEQ: u32 = 1;
/// One interface with all that the kernel counts of it.
const LINK_MAX: usize = 32 * 1024;
/// An acknowledgement with the request that it is about.
const ANSWER_MAX: usize = 1024;
