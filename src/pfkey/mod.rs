//! Backend over PF_KEY version 2, for kernels and policies without NETLINK_XFRM. One socket: the
//! kernel sends each answer to every PF_KEY socket, so a second one, but for the short time of a dump,
//! would only hear it all again.
//! On Linux it cannot do AEADs, HMAC-SHA2-256-128, ESN, marks, XFRM interfaces, offload, nor windows of
//! more than 32 packets; `xfrm` can.
//!
//! What is ours is known again after a crash by what PF_KEY lets us choose: the packets after which an
//! SA ends, and the top half of a policy's priority (`kernel::PACKETS_HARD`, `kernel::PRIORITY_TAG`).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::process;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::kernel::entry::{self, Direction, IpProtocol};
use crate::kernel::{
    Backend, ChildInstall, ChildRemove, Count, Found, KernelError, KernelEvent, KernelRequest,
    PRIORITY_TAG, SelectorPair, Trap, Volume,
};
use crate::sys::netlink::KernelSocket;
use crate::wire::spi::EspSpi;

mod frame;
pub mod message;
pub mod openbsd;

use message::{Algorithms, Answer, ListedSa, Request, SaEntry, kind};

/// The kernel's SADB and SPD through PF_KEY.
#[derive(Debug)]
pub struct PfKey {
    socket: KernelSocket,
    pid: u32,
    seq: u32,
    /// Outbound SAs by destination and SPI, to tell their expiries by the inbound SPI.
    outbound: BTreeMap<(IpAddr, EspSpi), EspSpi>,
    /// Selectors and reqids of the traps by the kernel's numbers for their policies.
    traps: BTreeMap<u32, (SelectorPair, u32)>,
    /// Events that came while an answer was awaited.
    waiting: Vec<KernelEvent>,
    /// Events may have been lost.
    dropped: bool,
}

/// What was done of one Child SA, for taking it back.
#[derive(Clone, Copy)]
enum Done {
    Sa {
        source: IpAddr,
        destination: IpAddr,
        spi: EspSpi,
        protocol: IpProtocol,
    },
    Policy {
        direction: Direction,
        pair: SelectorPair,
    },
}

impl PfKey {
    /// Opens the socket and asks for expiries of ESP and AH SAs, and for packets without one.
    pub fn open() -> io::Result<Self> {
        Self::with_buffer(BUFFER)
    }

    /// The same with room for `bytes` of events that wait; what does not fit is lost, and told.
    pub fn with_buffer(bytes: u32) -> io::Result<Self> {
        let socket = socket(bytes)?;
        let mut pfkey = Self {
            socket,
            pid: process::id(),
            seq: 0,
            outbound: BTreeMap::new(),
            traps: BTreeMap::new(),
            waiting: Vec::new(),
            dropped: false,
        };
        for protocol in [IpProtocol::Esp, IpProtocol::Ah] {
            let seq = pfkey.next_seq();
            let request = Request::register(seq, pfkey.pid, protocol);
            pfkey
                .transact(&request, seq)
                .map_err(io::Error::from_raw_os_error)?;
        }
        Ok(pfkey)
    }

    /// Deletes the SAs and policies that an earlier life of this daemon left behind, whichever way
    /// into the kernel it had. Returns how many there were.
    ///
    /// Only for start-up: a policy without its SA would block its traffic for ever.
    pub fn sweep(&mut self) -> io::Result<usize> {
        let (mut policies, mut sas) = (Vec::new(), Vec::new());
        self.dump(kind::SPD_DUMP, |answer| {
            policies.extend(answer.listed_policy());
        })?;
        policies.retain(|policy| policy.is_ours && policy.direction < FIRST_SOCKET_DIRECTION);
        self.dump(kind::DUMP, |answer| sas.extend(answer.listed_sa()))?;
        sas.retain(|sa| sa.is_ours);
        let mut gone = 0;
        for policy in policies {
            let seq = self.next_seq();
            let request = Request::delete_listed_policy(seq, self.pid, policy);
            gone += self.remove(&request, seq)?;
        }
        for sa in sas {
            let seq = self.next_seq();
            let (from, to) = (sa.source, sa.destination);
            let request = Request::delete(seq, self.pid, from, to, sa.spi, sa.protocol);
            gone += self.remove(&request, seq)?;
        }
        Ok(gone)
    }

    /// Has something deleted that a dump told; what is not there any more, or is of an XFRM
    /// interface, where PF_KEY cannot reach, counts nothing.
    fn remove(&mut self, request: &Request, seq: u32) -> io::Result<usize> {
        match self.transact(request, seq) {
            Ok(()) => Ok(1),
            Err(libc::ESRCH | libc::ENOENT) => Ok(0),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Reads a whole table through a socket of its own, so that nothing of it takes the place of an
    /// event, and closing it ends the dump however it went.
    fn dump(&mut self, message_kind: u8, mut each: impl FnMut(&Answer<'_>)) -> io::Result<()> {
        let socket = socket(BUFFER)?;
        let seq = self.next_seq();
        socket.send(Request::list(message_kind, seq, self.pid).bytes())?;
        // Keys are told too.
        let mut buffer = Zeroizing::new(vec![0; MESSAGE_MAX]);
        loop {
            let len = socket.receive(&mut buffer)?;
            let Some(answer) = Answer::decode(buffer.get(..len).unwrap_or_default()) else {
                continue;
            };
            if answer.pid != self.pid || answer.kind != message_kind {
                continue;
            }
            match i32::from(answer.errno) {
                0 => each(&answer),
                // Nothing is there.
                libc::ENOENT => return Ok(()),
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
            if answer.seq == 0 {
                return Ok(());
            }
        }
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.checked_add(1).unwrap_or(1);
        self.seq
    }

    /// Sends one message and finds its answer; events on the way are kept.
    fn transact(&mut self, request: &Request, seq: u32) -> Result<(), i32> {
        self.ask(request, seq, |_| ())
    }

    /// Sends one message and reads something in its answer.
    fn ask<T>(
        &mut self,
        request: &Request,
        seq: u32,
        read: impl FnOnce(&Answer<'_>) -> T,
    ) -> Result<T, i32> {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        // So that there is room for the answer.
        self.take_waiting();
        self.socket.send(request.bytes()).map_err(errno)?;
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let len = self.receive(&mut buffer).map_err(errno)?;
            let datagram = buffer.get(..len).unwrap_or_default();
            let Some(answer) = Answer::decode(datagram) else {
                continue;
            };
            if answer.pid == self.pid && answer.seq == seq {
                return if answer.errno == 0 {
                    Ok(read(&answer))
                } else {
                    Err(i32::from(answer.errno))
                };
            }
            self.waiting
                .extend(event(&self.outbound, &self.traps, &answer));
        }
    }

    /// Takes one message, if one waits. PF_KEY loses what does not fit without a word, but nothing is
    /// lost before the queue is full, and nobody but us makes it shorter.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = self.socket.waiting();
        self.dropped |= waiting.is_some_and(|(bytes, limit)| bytes > limit);
        self.socket.receive(buffer)
    }

    /// Takes the events that wait, a bounded number of them.
    fn take_waiting(&mut self) {
        if self.socket.waiting().is_some_and(|(bytes, _)| bytes == 0) {
            return;
        }
        let mut buffer = vec![0; MESSAGE_MAX];
        for _ in 0..EVENTS_PER_POLL_MAX {
            let Ok(len) = self.receive(&mut buffer) else {
                return;
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            let answer = Answer::decode(datagram);
            let event = answer.and_then(|answer| event(&self.outbound, &self.traps, &answer));
            self.waiting.extend(event);
        }
    }

    fn add_child(&mut self, child: &ChildInstall) -> Result<(), KernelError> {
        let names = &child.names;
        let unknown = child.if_id.is_some() || child.mark.is_some() || child.offload.is_some();
        let Some(algorithms) =
            Algorithms::of(names.protocol, &child.transforms).filter(|_| !unknown)
        else {
            return Err(UNSUPPORTED);
        };
        let ours = [entry::inbound(child, algorithms)];
        let theirs = [entry::outbound(child, algorithms)];
        let comp: Vec<_> = entry::compression(child, Algorithms::DEFLATE).collect();
        let (comp_ours, comp_theirs) = comp.split_at(comp.len() / 2);
        let sas = if child.receive_only {
            [comp_ours, &ours, &[], &[]]
        } else {
            [comp_ours, &ours, comp_theirs, &theirs]
        };
        let mut done = Vec::new();
        let added = self
            .add_sas(&sas.concat(), &mut done)
            .and_then(|()| self.add_policies(names, &mut done));
        match added {
            Ok(()) => self.remember(names),
            Err(_) => self.undo(&done),
        }
        added
    }

    fn add_outbound(&mut self, child: &ChildInstall) -> Result<(), KernelError> {
        let Some(algorithms) = Algorithms::of(child.names.protocol, &child.transforms) else {
            return Err(UNSUPPORTED);
        };
        let mut sas = vec![entry::outbound(child, algorithms)];
        sas.extend(entry::compression(child, Algorithms::DEFLATE).skip(1));
        self.add_sas(&sas, &mut Vec::new())
    }

    fn remember(&mut self, names: &ChildRemove) {
        self.outbound
            .insert((names.remote, names.outbound_spi), names.inbound_spi);
    }

    fn add_sas(&mut self, sas: &[SaEntry<'_>], done: &mut Vec<Done>) -> Result<(), KernelError> {
        let fault = |errno| KernelError {
            errno,
            action: "add SA",
        };
        for sa in sas {
            let SaEntry {
                source,
                destination,
                spi,
                protocol,
                ..
            } = *sa;
            let step = Done::Sa {
                source,
                destination,
                spi,
                protocol,
            };
            let seq = self.next_seq();
            let request = Request::add(seq, self.pid, sa);
            let added = self.transact(&request, seq);
            note(done, step, added).map_err(fault)?;
        }
        Ok(())
    }

    fn add_policies(
        &mut self,
        child: &ChildRemove,
        done: &mut Vec<Done>,
    ) -> Result<(), KernelError> {
        let fault = |errno| KernelError {
            errno,
            action: "add policy",
        };
        for (direction, pair, template) in entry::policies(child) {
            let seq = self.next_seq();
            let priority = PRIORITY_TAG + pair.priority();
            let request =
                Request::update_policy(seq, self.pid, direction, &pair, priority, &template);
            let added = self.transact(&request, seq);
            note(done, Done::Policy { direction, pair }, added).map_err(fault)?;
        }
        Ok(())
    }

    /// Takes back; what is not there any more is as good.
    fn undo(&mut self, done: &[Done]) {
        for step in done.iter().rev() {
            let seq = self.next_seq();
            let request = match *step {
                Done::Sa {
                    source,
                    destination,
                    spi,
                    protocol,
                } => Request::delete(seq, self.pid, source, destination, spi, protocol),
                Done::Policy { direction, pair } => {
                    Request::delete_policy(seq, self.pid, direction, &pair)
                }
            };
            let _ = self.transact(&request, seq);
        }
    }

    /// Returns the errno of the last that failed; missing ones do not.
    fn delete_policies(&mut self, pairs: &[SelectorPair], which: &[Direction]) -> Result<(), i32> {
        let mut result = Ok(());
        for pair in pairs {
            for direction in which {
                let seq = self.next_seq();
                let request = Request::delete_policy(seq, self.pid, *direction, pair);
                match self.transact(&request, seq) {
                    Ok(()) | Err(libc::ESRCH | libc::ENOENT) => {}
                    Err(errno) => result = Err(errno),
                }
            }
        }
        result
    }

    fn volume(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        spi: EspSpi,
        protocol: IpProtocol,
    ) -> Option<Volume> {
        let seq = self.next_seq();
        let request = Request::get(seq, self.pid, source, destination, spi, protocol);
        self.ask(&request, seq, |answer| answer.volume()).ok()?
    }

    fn delete_child(&mut self, child: &ChildRemove) -> Result<(), KernelError> {
        let key = (child.remote, child.outbound_spi);
        if self.outbound.get(&key) == Some(&child.inbound_spi) {
            self.outbound.remove(&key);
        }
        let mut result = Ok(());
        let mut note = |outcome: Result<(), i32>| match outcome {
            Ok(()) | Err(libc::ESRCH | libc::ENOENT) => {}
            Err(errno) => {
                result = Err(KernelError {
                    errno,
                    action: "delete",
                })
            }
        };
        note(self.delete_policies(&child.selectors, &ALL_DIRECTIONS));
        let main = IpProtocol::from(child.protocol);
        let mut sas = vec![
            (child.remote, child.outbound_spi, main),
            (child.local, child.inbound_spi, main),
        ];
        sas.extend(
            child
                .comps()
                .map(|(to, cpi)| (to, cpi.as_spi(), IpProtocol::Comp)),
        );
        for (destination, spi, protocol) in sas {
            let source = if destination == child.local {
                child.remote
            } else {
                child.local
            };
            let seq = self.next_seq();
            let request = Request::delete(seq, self.pid, source, destination, spi, protocol);
            note(self.transact(&request, seq));
        }
        result
    }
}

impl Backend for PfKey {
    fn name(&self) -> &'static str {
        "pfkey"
    }

    fn apply(&mut self, batch: &[KernelRequest]) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(batch.len());
        for request in batch {
            results.push(match request {
                KernelRequest::AddChild { child, .. } => self.add_child(child),
                KernelRequest::AddOutbound { child } => self.add_outbound(child),
                KernelRequest::DeleteChild { child } => self.delete_child(child),
                // PF_KEY has no words for sequence numbers and replay windows: an SA made anew
                // would begin at 1, and the peer would take its packets for replays. So `sadb`
                // has the Child SA replaced by one that is made where the peer is now.
                KernelRequest::MoveChild { .. } => Err(KernelError {
                    errno: libc::EOPNOTSUPP,
                    action: "move SA",
                }),
                // `sadb` has methods for those.
                KernelRequest::Count { .. }
                | KernelRequest::LastCount { .. }
                | KernelRequest::Couple { .. }
                | KernelRequest::SetTraps { .. }
                | KernelRequest::Grant { .. }
                | KernelRequest::Return { .. } => Err(UNSUPPORTED),
            });
        }
        results
    }

    fn set_policies(&mut self, child: &ChildRemove) -> Result<(), KernelError> {
        self.add_policies(child, &mut Vec::new())
    }

    fn set_trap(&mut self, trap: &Trap, reqid: u32) -> Result<(), KernelError> {
        let fault = |action| move |errno| KernelError { errno, action };
        if trap.pair.if_id.is_some() {
            return Err(fault("add policy")(libc::EOPNOTSUPP));
        }
        let (seq, pair) = (self.next_seq(), trap.pair);
        let priority = PRIORITY_TAG + pair.trap_priority();
        let template = entry::trap(trap, reqid);
        let direction = Direction::Out;
        let request = Request::update_policy(seq, self.pid, direction, &pair, priority, &template);
        let id = self.ask(&request, seq, |answer| answer.policy_id());
        self.traps.retain(|_, (other, _)| *other != pair);
        if let Some(id) = id.map_err(fault("add policy"))? {
            self.traps.insert(id, (pair, reqid));
        }
        self.delete_policies(&[pair], &[Direction::Forward, Direction::In])
            .map_err(fault("delete"))
    }

    fn remove_policies(&mut self, pairs: &[SelectorPair]) -> Result<(), KernelError> {
        self.traps.retain(|_, (pair, _)| !pairs.contains(pair));
        let fault = |errno| KernelError {
            errno,
            action: "delete",
        };
        self.delete_policies(pairs, &ALL_DIRECTIONS).map_err(fault)
    }

    fn count(&mut self, children: &[ChildRemove]) -> Vec<Count> {
        let mut counts = Vec::new();
        for child in children {
            let ChildRemove {
                protocol,
                local,
                remote,
                inbound_spi,
                outbound_spi,
                ..
            } = *child;
            let protocol = protocol.into();
            if let Some(inbound) = self.volume(remote, local, inbound_spi, protocol) {
                let outbound = self.volume(local, remote, outbound_spi, protocol);
                counts.push(Count {
                    spi: inbound_spi,
                    inbound,
                    // Not there before the peer is ready for it.
                    outbound: outbound.unwrap_or_default(),
                });
            }
        }
        counts
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }

    fn poll_events(&mut self, events: &mut Vec<KernelEvent>) -> bool {
        self.take_waiting();
        events.append(&mut self.waiting);
        std::mem::take(&mut self.dropped)
    }

    /// The kernel says itself which SAs have passed a soft limit.
    fn survey(&mut self, _: SystemTime, each: &mut dyn FnMut(Found)) -> Result<(), KernelError> {
        let outbound = std::mem::take(&mut self.outbound);
        let traps: BTreeMap<u32, u32> = self
            .traps
            .values()
            .map(|(_, reqid)| (message::short_reqid(*reqid), *reqid))
            .collect();
        let dumped = self.dump(kind::DUMP, |answer| {
            let larva = answer.larva();
            if let Some(reqid) = larva.and_then(|short| traps.get(&short).copied()) {
                return each(Found::Wanted { reqid });
            }
            // Those of IPComp are no more than companions.
            let main = |sa: &ListedSa| sa.is_ours && sa.protocol != IpProtocol::Comp;
            let Some(sa) = answer.listed_sa().filter(main) else {
                return;
            };
            let inbound = outbound.get(&(sa.destination, sa.spi)).copied();
            each(Found::Sa {
                destination: sa.destination,
                spi: sa.spi,
                aged: sa.is_aged.then_some(inbound.unwrap_or(sa.spi)),
            });
        });
        self.outbound = outbound;
        dumped.map_err(|error| KernelError {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            action: "read SAs",
        })
    }
}

/// The kernel queues what it answers before the send returns: there is never anything to wait for.
fn socket(buffer: u32) -> io::Result<KernelSocket> {
    let socket = KernelSocket::pfkey()?;
    socket.enlarge_buffers(buffer);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Notes what has been done, or may have been: its answer was lost.
fn note(done: &mut Vec<Done>, step: Done, result: Result<(), i32>) -> Result<(), i32> {
    if matches!(result, Ok(()) | Err(libc::EAGAIN)) {
        done.push(step);
    }
    result
}

fn event(
    outbound: &BTreeMap<(IpAddr, EspSpi), EspSpi>,
    traps: &BTreeMap<u32, (SelectorPair, u32)>,
    answer: &Answer<'_>,
) -> Option<KernelEvent> {
    if answer.kind == kind::ACQUIRE {
        let (_, reqid) = traps.get(&answer.policy_id()?)?;
        return Some(KernelEvent::Acquire { reqid: *reqid });
    }
    if let Some((destination, spi, hard)) = answer.expire() {
        let inbound = outbound.get(&(destination, spi)).copied();
        return Some(KernelEvent::Expire {
            spi: inbound.unwrap_or(spi),
            hard,
        });
    }
    let (spi, remote) = answer.mapping()?;
    Some(KernelEvent::Mapping { spi, remote })
}

const ALL_DIRECTIONS: [Direction; 3] = [Direction::Out, Direction::Forward, Direction::In];
const UNSUPPORTED: KernelError = KernelError {
    errno: libc::EOPNOTSUPP,
    action: "add SA",
};
/// Room for a few thousand events, and for what other PF_KEY programs are answered.
const BUFFER: u32 = 4 << 20;
/// The longest message is the list of algorithms that REGISTER answers, less than 1 KiB.
const MESSAGE_MAX: usize = 8 * 1024;
/// Events taken in one go before requests get their turn again.
const EVENTS_PER_POLL_MAX: usize = 4096;
/// Directions from this number on (IPSEC_DIR_FWD + 1) are socket policies, which die with their socket.
const FIRST_SOCKET_DIRECTION: u8 = 4;
