//! HTTP conversations, all at once, none of which waits for another: each server has a few
//! connections and a queue of its own, so one that is dead holds up only what is asked of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::http::{Response, Url};
use super::names::Names;
use super::port::Failure;

/// Something to be fetched.
#[derive(Debug)]
pub struct Fetch {
    /// From where.
    pub url: Url,
    /// What to say there.
    pub request: Vec<u8>,
    /// Bytes that the body of the response may have.
    pub body_max: usize,
    /// When to give up.
    pub until: Instant,
}

/// Names a fetch; also its token in the poll.
pub type Ticket = usize;

/// All conversations.
#[derive(Debug)]
pub struct Web {
    registry: Registry,
    names: Names,
    running: BTreeMap<Ticket, Running>,
    servers: BTreeMap<(String, u16), Server>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    /// Whose turn has come.
    turn: VecDeque<Ticket>,
    done: Vec<(Ticket, Result<Vec<u8>, Failure>)>,
    next_ticket: Ticket,
}

#[derive(Debug)]
struct Running {
    fetch: Fetch,
    stage: Stage,
    /// The deadline it is listed with.
    due_at: Instant,
}

#[derive(Debug)]
enum Stage {
    /// Other fetches from this server come first.
    Queued,
    /// Its turn has come.
    Called,
    /// Its name is looked up.
    Naming,
    /// There is a connection.
    Talking(Box<Talk>),
}

#[derive(Debug)]
struct Talk {
    stream: TcpStream,
    /// Addresses not tried yet.
    others: VecDeque<SocketAddr>,
    connected: bool,
    sent: usize,
    response: Response,
}

#[derive(Debug, Default)]
struct Server {
    active: usize,
    queue: VecDeque<Ticket>,
}

impl Web {
    /// Tickets are counted from `first`, and are tokens in `registry`.
    pub const fn new(registry: Registry, names: Names, first: Ticket) -> Self {
        Self {
            registry,
            names,
            running: BTreeMap::new(),
            servers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            turn: VecDeque::new(),
            done: Vec::new(),
            next_ticket: first,
        }
    }

    /// Begins to fetch something. It ends in [`Self::take_done`], whatever happens.
    pub fn begin(&mut self, fetch: Fetch, now: Instant) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let server = (fetch.url.host.clone(), fetch.url.port);
        let server = self.servers.entry(server).or_default();
        server.queue.push_back(ticket);
        let due_at = fetch.until;
        self.deadlines.insert((due_at, ticket));
        let stage = Stage::Queued;
        let running = Running {
            fetch,
            stage,
            due_at,
        };
        let url = running.fetch.url.clone();
        self.running.insert(ticket, running);
        self.call_next(&url);
        self.work(now);
        ticket
    }

    /// Something happened on a connection.
    pub fn ready(&mut self, token: Token, now: Instant) {
        let ticket = token.0;
        let Some(running) = self.running.get_mut(&ticket) else {
            return;
        };
        let Stage::Talking(talk) = &mut running.stage else {
            return;
        };
        match talk.go_on(&running.fetch.request) {
            Ok(None) => {}
            Ok(Some(body)) => self.finish(ticket, Ok(body)),
            // It may be up at another of its addresses, while nothing has been said.
            Err(Failure::Unreachable(why)) if talk.sent == 0 => {
                self.connect(ticket, now, &why);
            }
            Err(failure) => self.finish(ticket, Err(failure)),
        }
        self.work(now);
    }

    /// Takes names that were found, and gives up what has taken too long.
    pub fn look(&mut self, now: Instant) {
        for (name, addresses) in self.names.answers(now) {
            let waits = |(_, running): &(&Ticket, &Running)| {
                matches!(running.stage, Stage::Naming) && running.fetch.url.host == name
            };
            let waiting = self.running.iter().filter(waits);
            let waiting: Vec<Ticket> = waiting.map(|(ticket, _)| *ticket).collect();
            for ticket in waiting {
                self.call(ticket, &addresses, now);
            }
        }
        while let Some(&(at, ticket)) = self.deadlines.first() {
            if at > now {
                break;
            }
            let running = self.running.get(&ticket);
            if running.is_some_and(|running| now < running.fetch.until) {
                self.connect(ticket, now, "no answer");
            } else {
                self.finish(ticket, Err(Failure::Late));
            }
        }
        self.work(now);
    }

    /// What has ended.
    pub fn take_done(&mut self) -> Vec<(Ticket, Result<Vec<u8>, Failure>)> {
        std::mem::take(&mut self.done)
    }

    /// When to [`Self::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Begins what may begin. Not where the room comes about: a long queue for a server that refuses
    /// would call itself once for each in it.
    fn work(&mut self, now: Instant) {
        while let Some(ticket) = self.turn.pop_front() {
            let Some(running) = self.running.get_mut(&ticket) else {
                continue;
            };
            running.stage = Stage::Naming;
            if let Some(addresses) = self.names.find(&running.fetch.url.host, now) {
                self.call(ticket, &addresses, now);
            }
        }
    }

    /// Lets the next in the queue of a server go, if there is room.
    fn call_next(&mut self, url: &Url) {
        let key = (url.host.clone(), url.port);
        let Some(server) = self.servers.get_mut(&key) else {
            return;
        };
        if server.active < CONNECTIONS_MAX
            && let Some(ticket) = server.queue.pop_front()
        {
            server.active += 1;
            if let Some(running) = self.running.get_mut(&ticket) {
                running.stage = Stage::Called;
            }
            self.turn.push_back(ticket);
        }
        if server.active == 0 && server.queue.is_empty() {
            self.servers.remove(&key);
        }
    }

    /// The addresses of its server are known.
    fn call(&mut self, ticket: Ticket, addresses: &[IpAddr], now: Instant) {
        let Some(running) = self.running.get_mut(&ticket) else {
            return;
        };
        if addresses.is_empty() {
            return self.finish(ticket, Err(Failure::Name));
        }
        let port = running.fetch.url.port;
        let others = addresses.iter().take(ADDRESSES_MAX);
        let others = others.map(|&address| SocketAddr::new(address, port));
        let others = others.collect();
        self.connect_to(ticket, others, now, "no address");
    }

    /// Tries the next address, or gives up for this reason.
    fn connect(&mut self, ticket: Ticket, now: Instant, why: &str) {
        let Some(running) = self.running.get_mut(&ticket) else {
            return;
        };
        let others = match &mut running.stage {
            Stage::Talking(talk) => std::mem::take(&mut talk.others),
            Stage::Queued | Stage::Called | Stage::Naming => VecDeque::new(),
        };
        self.connect_to(ticket, others, now, why);
    }

    fn connect_to(
        &mut self,
        ticket: Ticket,
        mut others: VecDeque<SocketAddr>,
        now: Instant,
        why: &str,
    ) {
        let mut why = why.to_owned();
        while let Some(address) = others.pop_front() {
            match self.open(ticket, address) {
                Ok(stream) => return self.talk(ticket, stream, others, now),
                Err(error) => why = error.to_string(),
            }
        }
        self.finish(ticket, Err(Failure::Unreachable(why)));
    }

    fn open(&self, ticket: Ticket, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(ticket), both)?;
        Ok(stream)
    }

    fn talk(
        &mut self,
        ticket: Ticket,
        stream: TcpStream,
        others: VecDeque<SocketAddr>,
        now: Instant,
    ) {
        let Some(running) = self.running.get_mut(&ticket) else {
            return;
        };
        let last = others.is_empty();
        let until = running.fetch.until;
        let due_at = if last {
            until
        } else {
            until.min(now + ATTEMPT)
        };
        self.deadlines.remove(&(running.due_at, ticket));
        self.deadlines.insert((due_at, ticket));
        running.due_at = due_at;
        let talk = Talk {
            stream,
            others,
            connected: false,
            sent: 0,
            response: Response::new(running.fetch.body_max),
        };
        running.stage = Stage::Talking(Box::new(talk));
    }

    fn finish(&mut self, ticket: Ticket, result: Result<Vec<u8>, Failure>) {
        let Some(running) = self.running.remove(&ticket) else {
            self.deadlines.retain(|(_, listed)| *listed != ticket);
            return;
        };
        self.deadlines.remove(&(running.due_at, ticket));
        let key = (running.fetch.url.host.clone(), running.fetch.url.port);
        if let Some(server) = self.servers.get_mut(&key) {
            match running.stage {
                Stage::Queued => server.queue.retain(|queued| *queued != ticket),
                Stage::Called | Stage::Naming | Stage::Talking(_) => server.active -= 1,
            }
        }
        self.call_next(&running.fetch.url);
        self.done.push((ticket, result));
    }
}

impl Talk {
    /// Says and hears what there is; the body once it is complete.
    fn go_on(&mut self, request: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let unreachable = |error: io::Error| Failure::Unreachable(error.to_string());
        if !self.connected {
            if let Some(error) = self.stream.take_error().map_err(unreachable)? {
                return Err(unreachable(error));
            }
            match self.stream.peer_addr() {
                Ok(_) => self.connected = true,
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(None),
                Err(error) => return Err(unreachable(error)),
            }
        }
        while let Some(rest) = request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreachable(error)),
            }
        }
        let mut buffer = [0; READ];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.response.end().map(Some),
                Ok(count) => {
                    let more = buffer.get(..count).unwrap_or_default();
                    if let Some(body) = self.response.take(more)? {
                        return Ok(Some(body));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreachable(error)),
            }
        }
    }
}

/// Connections with one server at the same time.
const CONNECTIONS_MAX: usize = 16;
/// Addresses of one server that are tried.
const ADDRESSES_MAX: usize = 8;
/// How long one address is tried while there are others.
const ATTEMPT: Duration = Duration::from_secs(5);
const READ: usize = 16 * 1024;

#[cfg(test)]
mod tests;
