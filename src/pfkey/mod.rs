//! Backend over PF_KEY version 2, for kernels and policies without NETLINK_XFRM. One socket: the
//! kernel sends each answer to every PF_KEY socket, so a second one would only hear it all again.
//! On Linux it cannot do AEADs, HMAC-SHA2-256-128 or ESN; `xfrm` can.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::process;

use crate::kernel::entry::{self, Direction};
use crate::kernel::{
    Backend, ChildInstall, ChildRemove, KernelError, KernelEvent, KernelRequest, SelectorPair,
};
use crate::sys::netlink::KernelSocket;
use crate::wire::registry::ProtocolId;
use crate::wire::spi::EspSpi;

pub mod message;

use message::{Algorithms, Answer, Request, SaEntry};

/// The kernel's SADB and SPD through PF_KEY.
#[derive(Debug)]
pub struct PfKey {
    socket: KernelSocket,
    pid: u32,
    seq: u32,
    /// Outbound SAs by destination and SPI, to tell their expiries by the inbound SPI.
    outbound: BTreeMap<(IpAddr, EspSpi), EspSpi>,
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
        protocol: ProtocolId,
    },
    Policy {
        direction: Direction,
        pair: SelectorPair,
    },
}

impl PfKey {
    /// Opens the socket and asks for expiries of ESP and AH SAs.
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
            waiting: Vec::new(),
            dropped: false,
        };
        for protocol in [ProtocolId::ESP, ProtocolId::AH] {
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
                    Ok(())
                } else {
                    Err(i32::from(answer.errno))
                };
            }
            self.waiting.extend(event(&self.outbound, &answer));
        }
    }

    fn add_child(&mut self, child: &ChildInstall) -> Result<(), KernelError> {
        let names = &child.names;
        let Some(algorithms) = Algorithms::of(names.protocol, &child.transforms) else {
            return Err(UNSUPPORTED);
        };
        let both = [
            entry::inbound(child, algorithms),
            entry::outbound(child, algorithms),
        ];
        let sas = if child.receive_only {
            &both[..1]
        } else {
            &both
        };
        let mut done = Vec::new();
        let added = self
            .add_sas(sas, &mut done)
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
        self.add_sas(&[entry::outbound(child, algorithms)], &mut Vec::new())
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
        for pair in &child.selectors {
            for direction in [Direction::Out, Direction::Forward, Direction::In] {
                let seq = self.next_seq();
                let request = Request::delete_policy(seq, self.pid, direction, pair);
                note(self.transact(&request, seq));
            }
        }
        for (source, destination, spi) in [
            (child.local, child.remote, child.outbound_spi),
            (child.remote, child.local, child.inbound_spi),
        ] {
            let seq = self.next_seq();
            let request = Request::delete(seq, self.pid, source, destination, spi, child.protocol);
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
            });
        }
        results
    }

    fn set_policies(&mut self, child: &ChildRemove) -> Result<(), KernelError> {
        self.add_policies(child, &mut Vec::new())
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
                events.extend(event(&self.outbound, &answer));
            }
        }
        std::mem::take(&mut self.dropped)
    }
}

fn event(
    outbound: &BTreeMap<(IpAddr, EspSpi), EspSpi>,
    answer: &Answer<'_>,
) -> Option<KernelEvent> {
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
