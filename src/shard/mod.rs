//! The worker thread: its sockets, its mail, and one [`Endpoint`] that knows the protocol. One turn
//! of the loop reads the clock once, takes a bounded amount of each kind of work, then sends all
//! answers at once.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::ike::{Command, Endpoint, Event, Path, Stats};
use crate::kernel::KernelEvent;
use crate::log;
use crate::mail::{ControlMail, Inbox, KernelMail, LookupMail, Mailbox, NOBODY, Outlet, ShardMail};
use crate::steer::{ShardId, Steer, Steering};
use crate::time::Now;
use crate::wire::Header;
use crate::wire::registry::ExchangeType;

pub mod batch;
mod crowd;
mod pace;
pub mod socket;
pub mod spawn;

use batch::{Drained, ReceiveBatch, SendBatch};
use crowd::Crowd;
use pace::Pace;
use socket::ShardSocket;

/// Everything a shard is made of.
#[derive(Debug)]
pub struct ShardParts {
    /// Its number.
    pub id: ShardId,
    /// The protocol.
    pub endpoint: Endpoint,
    /// Its members of the socket groups.
    pub sockets: Vec<ShardSocket>,
    /// Its poll; the waker of `inbox` is registered with it.
    pub poll: Poll,
    /// Its mail.
    pub inbox: Inbox<ShardMail>,
    /// All shards' mailboxes by number, its own among them.
    pub peers: Vec<Mailbox<ShardMail>>,
    /// The kernel thread.
    pub kernel: Mailbox<KernelMail>,
    /// The lookup thread.
    pub lookup: Mailbox<LookupMail>,
    /// The control thread.
    pub control: Mailbox<ControlMail>,
    /// Whose datagram is whose.
    pub steering: Steering,
}

/// A running shard.
struct Shard {
    id: ShardId,
    endpoint: Endpoint,
    sockets: Vec<ShardSocket>,
    readable: Vec<bool>,
    crowds: Vec<Crowd>,
    inbox: Inbox<ShardMail>,
    mail_left: bool,
    peers: Vec<Outlet<ShardMail>>,
    kernel: Outlet<KernelMail>,
    lookup: Outlet<LookupMail>,
    control: Outlet<ControlMail>,
    steering: Steering,
    incoming: ReceiveBatch,
    outgoing: SendBatch,
    /// The addresses of this host, since they first changed.
    addresses: Arc<BTreeSet<IpAddr>>,
    /// The most datagrams that one call of this turn brought.
    taken: usize,
    /// With so many IKE SAs the heap is to grow.
    widen_at: usize,
    /// When to look again for an address to reach those from that lost theirs.
    lost_at: Option<Instant>,
    stopping: bool,
}

/// The token of the waker in a shard's poll; sockets count from 1.
pub const WAKE: Token = Token(0);

/// Runs a shard until it is told to shut down.
pub fn run(parts: ShardParts) -> io::Result<()> {
    let mut poll = parts.poll;
    for (index, socket) in parts.sockets.iter().enumerate() {
        let source = socket.raw_fd();
        poll.registry()
            .register(&mut SourceFd(&source), Token(index + 1), Interest::READABLE)?;
    }
    let mut shard = Shard {
        id: parts.id,
        endpoint: parts.endpoint,
        // A datagram may have come before the registration: look once.
        readable: vec![true; parts.sockets.len()],
        crowds: vec![Crowd::default(); parts.sockets.len()],
        sockets: parts.sockets,
        inbox: parts.inbox,
        mail_left: true,
        peers: parts.peers.into_iter().map(Outlet::new).collect(),
        kernel: Outlet::new(parts.kernel),
        lookup: Outlet::new(parts.lookup),
        control: Outlet::new(parts.control),
        steering: parts.steering,
        incoming: ReceiveBatch::new(),
        outgoing: SendBatch::default(),
        addresses: Arc::default(),
        taken: 0,
        widen_at: 0,
        lost_at: None,
        stopping: false,
    };
    let mut events = Events::with_capacity(16);
    let mut ended = now().mono;
    let mut pace = Pace::new(ended);
    while !shard.stopping {
        let timeout = shard.timeout(ended);
        match poll.poll(&mut events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        for event in &events {
            match event.token() {
                WAKE => shard.mail_left = true,
                Token(socket) => {
                    if let Some(readable) = shard.readable.get_mut(socket - 1) {
                        *readable = true;
                    }
                }
            }
        }
        let mut woken = now();
        if let Some(pause) = pace.pause(woken.mono) {
            rest(pause);
            woken = now();
        }
        // A fault in the core must not take the other SAs down: the SA at work is lost with its
        // turn, everything else is as it was before.
        if catch_unwind(AssertUnwindSafe(|| shard.turn(woken))).is_err() {
            shard.endpoint.stats_mut().faults += 1;
            log::write(
                crate::ike::Level::Warning,
                "shard recovered from a fault of its own",
            );
        }
        ended = now().mono;
        pace.turned(ended, shard.taken);
    }
    shard.finish();
    Ok(())
}

impl Shard {
    fn timeout(&self, now: Instant) -> Duration {
        if self.mail_left || self.readable.contains(&true) {
            return Duration::ZERO;
        }
        let mut timeout = IDLE_MAX;
        let waiting = self.kernel.waiting() + self.lookup.waiting() + self.control.waiting();
        if waiting > 0 || self.peers.iter().any(|peer| peer.waiting() > 0) {
            timeout = BACKLOG_RETRY;
        }
        let deadline = self.endpoint.poll_timeout().map(|(at, _)| at);
        for at in deadline.into_iter().chain(self.lost_at) {
            timeout = timeout.min(at.saturating_duration_since(now));
        }
        timeout
    }

    fn turn(&mut self, now: Now) {
        self.endpoint.set_log_level(log::read_level());
        let blocked = self.kernel.flush();
        self.endpoint.set_kernel_blocked(blocked);
        self.lookup.flush();
        self.control.flush();
        for peer in &mut self.peers {
            peer.flush();
        }
        self.take_mail(now);
        self.taken = 0;
        for index in 0..self.sockets.len() {
            if self.readable.get(index) == Some(&true) {
                self.take_datagrams(now, index);
                self.drain();
            }
        }
        if self.lost_at.is_some_and(|at| at <= now.mono) {
            self.change_addresses(now);
        }
        self.endpoint.handle_timeout(now);
        self.drain();
        if self.endpoint.len() >= self.widen_at {
            self.widen_at = self.endpoint.len() + HEAP_SAS;
            widen_heap();
        }
    }

    /// Whoever was reached from an address that is gone is reached from the one that the routes
    /// say now. Where they say none, there may be one as soon as the new link is up.
    fn change_addresses(&mut self, now: Now) {
        self.lost_at = None;
        for (old, remote) in self.endpoint.addresses() {
            if old.is_unspecified() || self.addresses.contains(&old) {
                continue;
            }
            let Some(new) = socket::source_towards(remote) else {
                self.lost_at = Some(now.mono + LOST_RETRY);
                continue;
            };
            let towards = Some(remote);
            let command = Command::LocalAddress { old, new, towards };
            self.endpoint.handle_command(now, NOBODY, command);
        }
    }

    fn take_mail(&mut self, now: Now) {
        let mut mail = Vec::new();
        self.mail_left = self.inbox.drain(MAIL_MAX, |one| mail.push(one));
        for one in mail {
            match one {
                ShardMail::Forwarded { path, mut datagram } => {
                    self.endpoint.handle_datagram(now, path, &mut datagram);
                }
                ShardMail::Kernel(events) => {
                    for event in events {
                        self.endpoint.handle_kernel(now, event);
                    }
                }
                ShardMail::Command { id, command } => {
                    self.stopping |= command == Command::Shutdown;
                    self.endpoint.handle_command(now, id, command);
                }
                ShardMail::Addresses(addresses) => {
                    self.addresses = addresses;
                    self.change_addresses(now);
                }
                ShardMail::Config(config) => {
                    // One is enough to tell the lookup thread.
                    if self.id == ShardId(0) {
                        let radius = Arc::clone(&config.radius);
                        self.lookup.send(LookupMail::Radius(radius));
                    }
                    socket::keep_outside(&self.sockets, &config);
                    self.endpoint.handle_config(now, config);
                }
                ShardMail::Order { serial, order } => {
                    let count = self.endpoint.obey(now, &order);
                    self.lookup.send(LookupMail::Obeyed { serial, count });
                }
                ShardMail::Credentials(store) => self.endpoint.handle_credentials(store),
                ShardMail::News(news) => self.endpoint.handle_news(now, news),
                ShardMail::Lookup { id, answer } => self.endpoint.handle_lookup(now, id, answer),
            }
            self.drain();
        }
    }

    /// One batch: established traffic first, IKE_SA_INIT, which costs most, after it, and where more
    /// of it comes than can be answered in time, not all of it.
    fn take_datagrams(&mut self, now: Now, index: usize) {
        let Some(socket) = self.sockets.get(index) else {
            return;
        };
        // An error is the socket's own affair (an ICMP report, no memory): the next datagram rings.
        let more = matches!(self.incoming.receive(socket), Ok(Drained::No));
        if let Some(readable) = self.readable.get_mut(index) {
            *readable = more;
        }
        self.taken = self.taken.max(self.incoming.len());
        let mut put_off = [false; crate::sys::net::BATCH_MAX];
        for (at, off) in put_off.iter_mut().enumerate().take(self.incoming.len()) {
            *off = self.take_datagram(now, index, at, true);
        }
        let crowd = self.crowds.get_mut(index);
        if crowd.is_some_and(|crowd| crowd.is_late(now.mono, more)) {
            let count = put_off.iter().filter(|off| **off).count() as u64;
            return count_late(self.endpoint.stats_mut(), count);
        }
        for at in (0..self.incoming.len()).filter(|&at| put_off.get(at) == Some(&true)) {
            self.take_datagram(now, index, at, false);
        }
    }

    /// Handles one datagram; true if it is an IKE_SA_INIT that was `put_off`.
    fn take_datagram(&mut self, now: Now, index: usize, at: usize, put_off: bool) -> bool {
        let Some(socket) = self.sockets.get(index) else {
            return false;
        };
        let marker = socket.marker;
        let Some((path, bytes)) = self.incoming.datagram(at, socket) else {
            count_dropped(self.endpoint.stats_mut());
            return false;
        };
        let owner = self.steering.owner_of(bytes, marker);
        let Some(ike) = strip(bytes, marker) else {
            // A NAT keepalive is no datagram of anybody; the rest is ESP that the kernel left us.
            if bytes != [0xff] {
                count_dropped(self.endpoint.stats_mut());
            }
            return false;
        };
        if put_off && is_sa_init(ike) {
            return true;
        }
        let (Steer::Shard(shard) | Steer::Initial(shard)) = owner else {
            self.endpoint.handle_datagram(now, path, ike);
            return false;
        };
        if shard == self.id {
            self.endpoint.handle_datagram(now, path, ike);
        } else {
            let datagram = Box::<[u8]>::from(&*ike);
            forward(
                &mut self.peers,
                self.endpoint.stats_mut(),
                shard,
                path,
                datagram,
            );
        }
        false
    }

    /// Moves everything the endpoint wants done to where it goes.
    fn drain(&mut self) {
        loop {
            let mut buffer = self.outgoing.buffer();
            match self.endpoint.poll_transmit(&mut buffer) {
                Some(transmit) => self.outgoing.push(transmit.path, buffer),
                None => {
                    self.outgoing.recycle(buffer);
                    break;
                }
            }
        }
        let sent = self.outgoing.flush(&self.sockets);
        let stats = self.endpoint.stats_mut();
        stats.msg_sent += sent.sent;
        stats.msg_send_failures += sent.failed;
        let mut requests = Vec::new();
        while let Some(request) = self.endpoint.poll_kernel() {
            requests.push(request);
        }
        if !requests.is_empty() {
            self.kernel.send(KernelMail::Requests {
                from: self.id,
                requests,
            });
        }
        while let Some(lookup) = self.endpoint.poll_lookup() {
            let from = self.id;
            self.lookup.send(LookupMail::Request { from, lookup });
        }
        while let Some(record) = self.endpoint.poll_record() {
            self.lookup.send(LookupMail::Record(Box::new(record)));
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.report(event);
        }
        while let Some((id, reply)) = self.endpoint.poll_reply() {
            self.control.send(ControlMail::Reply {
                shard: self.id,
                id,
                reply,
            });
        }
    }

    fn report(&mut self, event: Event) {
        match event {
            Event::Log {
                level,
                line,
                unauthenticated: false,
            } => log::write(level, line),
            Event::Log {
                level,
                line,
                unauthenticated: true,
            } => log::write_noise(level, line),
            Event::News(news) => {
                let me = usize::from(self.id.0);
                let to = news.to().map(|to| usize::from(to.0));
                let peers = self.peers.iter_mut().enumerate();
                for (_, peer) in peers.filter(|(at, _)| *at != me && to.is_none_or(|to| to == *at))
                {
                    peer.send(ShardMail::News(news.clone()));
                }
            }
        }
    }

    /// What the kernel has counted for peers that are gone, and nothing else.
    fn take_last_counts(&mut self) {
        let mut counts = Vec::new();
        self.inbox.drain(MAIL_MAX, |mail| {
            if let ShardMail::Kernel(events) = mail {
                counts.extend(events);
            }
        });
        counts.retain(|event| matches!(event, KernelEvent::LastCount { .. }));
        for event in counts {
            self.endpoint.handle_kernel(now(), event);
        }
        self.drain();
    }

    /// Hands over what still waits, for a moment at most.
    fn finish(&mut self) {
        let until = now().mono + FINISH_MAX;
        while now().mono < until {
            let waiting = self.kernel.flush() | self.lookup.flush() | self.control.flush();
            if !waiting && !self.endpoint.is_counting() {
                break;
            }
            self.take_last_counts();
            std::thread::yield_now();
        }
        self.control.send(ControlMail::Ended(self.id));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell owns the clock, and this is when there is more to do than can be seen"
)]
fn rest(pause: Duration) {
    std::thread::sleep(pause);
}

/// glibc grows the heap of a thread by as many pages as one block needs, with a system call each time,
/// which with every second IKE SA cost as much as one more datagram. A block that comes and goes
/// leaves as much room behind it; no page of it is touched. (The first is a mapping of its own.)
fn widen_heap() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(HEAP_STEP)));
}

fn count_dropped(stats: &mut Stats) {
    stats.msg_rcvd += 1;
    stats.msg_rcvd_dropped += 1;
}

/// Requests for new IKE SAs that nobody has looked at.
const fn count_late(stats: &mut Stats, count: u64) {
    stats.msg_rcvd += count;
    stats.msg_rcvd_dropped += count;
    stats.half_open_late += count;
}

fn forward(
    peers: &mut [Outlet<ShardMail>],
    stats: &mut Stats,
    shard: ShardId,
    path: Path,
    datagram: Box<[u8]>,
) {
    // Datagrams may get lost, so they never wait behind a full mailbox.
    let Some(peer) = peers.get_mut(usize::from(shard.0)) else {
        return;
    };
    if peer.try_now(ShardMail::Forwarded { path, datagram }) {
        stats.forwarded += 1;
    } else {
        stats.forward_dropped += 1;
    }
}

/// The IKE message without the non-ESP marker (RFC 3948, 2.2), which only one with `marker` has.
pub fn strip(bytes: &mut [u8], marker: bool) -> Option<&mut [u8]> {
    if !marker {
        return Some(bytes);
    }
    match bytes.split_first_chunk_mut::<4>() {
        Some(([0, 0, 0, 0], ike)) => Some(ike),
        Some(_) | None => None,
    }
}

fn is_sa_init(ike: &[u8]) -> bool {
    Header::peek(ike).is_ok_and(|h| h.exchange == ExchangeType::IKE_SA_INIT && !h.flags.response)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell owns the clock and passes it in"
)]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// Mail taken in one turn: keeps datagrams from waiting long behind a burst of it.
const MAIL_MAX: usize = 256;
/// By how many bytes the heap grows at once, at least; and how many IKE SAs fit into that.
const HEAP_STEP: usize = 1 << 20;
const HEAP_SAS: usize = 256;
/// Longest sleep; nothing depends on it.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How soon a full mailbox is tried again.
const BACKLOG_RETRY: Duration = Duration::from_millis(2);
/// How soon an IKE SA without an address of ours is looked at again.
const LOST_RETRY: Duration = Duration::from_secs(2);
/// How long a shard that ends tries to hand over what waits.
const FINISH_MAX: Duration = Duration::from_secs(1);
