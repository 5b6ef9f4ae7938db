//! What the kernel thread sets on this host for what gateways grant it: addresses, routes, and name
//! servers.

use std::fmt;
use std::io;
use std::net::IpAddr;

use super::resolvectl::Resolvectl;
use crate::ike::Level;
use crate::log;
use crate::route::link::{Links, Piece};
use crate::route::way::{Course, Prefix};
use crate::sys::net;

/// A way to the interfaces, the routes and the resolver of this host, or a stand-in for one.
pub trait Interfaces: Send {
    /// The number of an interface.
    fn index_of(&self, name: &str) -> io::Result<u32>;
    /// Sets a piece; `AlreadyExists` is one that is there already.
    fn add(&mut self, piece: Piece) -> io::Result<()>;
    /// Gives a route of ours another course.
    fn replace(&mut self, to: Prefix, course: Course) -> io::Result<()>;
    /// Takes a piece away; one that is not there is no error.
    fn remove(&mut self, piece: Piece) -> io::Result<()>;
    /// Tells the resolver which name servers are behind an interface, or that none are any more.
    /// Does not wait; what goes wrong is said in the log.
    fn resolve(&mut self, iface: &str, names: Option<Names>);
}

/// What the resolver of this host is told of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Whom to ask, the best first.
    pub servers: Vec<IpAddr>,
    /// What they are for; they also complete names that have no dot.
    pub domains: Vec<String>,
    /// They are for all names.
    pub all: bool,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.iter().map(IpAddr::to_string);
        let all = self.all.then_some("all names").into_iter();
        let names: Vec<&str> = self.domains.iter().map(String::as_str).chain(all).collect();
        f.write_str(&servers.collect::<Vec<_>>().join(", "))?;
        if names.is_empty() {
            return Ok(());
        }
        write!(f, " for {}", names.join(", "))
    }
}

/// This host, by NETLINK_ROUTE and resolvectl(1).
#[derive(Debug)]
pub struct Host {
    links: Links,
    resolver: Resolvectl,
}

impl Host {
    /// Opens the ways, and takes away what a daemon before this one left.
    pub fn open() -> io::Result<Self> {
        let (links, left) = Links::open()?;
        let mut host = Self {
            links,
            resolver: Resolvectl::default(),
        };
        for index in left {
            // An interface that is gone has taken its name servers along.
            if let Ok(name) = net::interface_name(index) {
                let line = format!("iface {name}: addresses and routes of an earlier run removed");
                log::write(Level::Info, &line);
                host.resolve(&name, None);
            }
        }
        Ok(host)
    }
}

impl Interfaces for Host {
    fn index_of(&self, name: &str) -> io::Result<u32> {
        net::interface_index(name)
    }

    fn add(&mut self, piece: Piece) -> io::Result<()> {
        self.links.add(piece)
    }

    fn replace(&mut self, to: Prefix, course: Course) -> io::Result<()> {
        self.links.replace(to, course)
    }

    fn remove(&mut self, piece: Piece) -> io::Result<()> {
        self.links.remove(piece)
    }

    fn resolve(&mut self, iface: &str, names: Option<Names>) {
        self.resolver.tell(iface, names);
    }
}
