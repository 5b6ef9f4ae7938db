//! Backend over PF_KEY version 2, for kernels and policies without NETLINK_XFRM. One socket: the
//! kernel sends each answer to every PF_KEY socket, so a second one would only hear it all again.
//! On Linux it cannot do AEADs, HMAC-SHA2-256-128, ESN, marks, XFRM interfaces, offload, nor windows of
//! more than 32 packets; `xfrm` can.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::process;
use std::time::SystemTime;

use crate::kernel::entry::{self, Direction, IpProtocol};
use crate::kernel::{
    Backend, ChildInstall, ChildRemove, Count, Found, KernelError, KernelEvent, KernelRequest,
    SelectorPair, Trap, Volume,
};
use crate::sys::netlink::KernelSocket;
use crate::wire::spi::EspSpi;

pub mod message;

use message::{Algorithms, Answer, Request, SaEntry, kind};

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
        let socket = KernelSocket::pfkey()?;
        socket.enlarge_buffers(BUFFER);
        // The kernel queues the answer before the send returns: there is never one to wait for.
        socket.set_nonblocking(true)?;
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
        self.socket.send(request.bytes()).map_err(errno)?;
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let len = match self.socket.receive(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.dropped = true;
                    continue;
                }
                Err(error) => return Err(errno(error)),
            };
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
            let seq = self.next_seq();
            let request = Request::add(seq, self.pid, sa);
            self.transact(&request, seq).map_err(fault)?;
            let SaEntry {
                source,
                destination,
                spi,
                protocol,
                ..
            } = *sa;
            done.push(Done::Sa {
                source,
                destination,
                spi,
                protocol,
            });
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
            let priority = pair.priority();
            let request =
                Request::update_policy(seq, self.pid, direction, &pair, priority, &template);
            self.transact(&request, seq).map_err(fault)?;
            done.push(Done::Policy { direction, pair });
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
        let (priority, template) = (pair.trap_priority(), entry::trap(trap, reqid));
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
        events.append(&mut self.waiting);
        let mut buffer = vec![0; MESSAGE_MAX];
        for _ in 0..EVENTS_PER_POLL_MAX {
            let len = match self.socket.receive(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.dropped = true;
                    continue;
                }
                Err(_) => break,
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            if let Some(answer) = Answer::decode(datagram) {
                events.extend(event(&self.outbound, &self.traps, &answer));
            }
        }
        std::mem::take(&mut self.dropped)
    }

    /// Reqids are cut short over PF_KEY: nothing tells what is ours.
    fn survey(&mut self, _: SystemTime, _: &mut dyn FnMut(Found)) -> Result<(), KernelError> {
        Err(KernelError {
            errno: libc::EOPNOTSUPP,
            action: "read SAs",
        })
    }
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
