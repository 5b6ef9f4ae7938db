//! Child SAs that move: their SAs get other outer addresses or ports, their policies other
//! templates, while packets go through.
//!
//! Each SA is read from the kernel (GETSA: keys, counters, replay state) and made anew of that.
//! XFRM_MSG_MIGRATE would do it within the kernel, but it finds SAs by addresses and reqid and
//! takes the first, which during a rekey may be either; it needs a policy that the Child SA may
//! not own; it gives both directions the same encapsulation and can never take one away; and not
//! every kernel has it.
//!
//! What becomes of the packets meanwhile:
//! - Only ports change (a NAT that forgot): UPDSA changes them in the SA that stands. Nothing is
//!   lost, nothing else changes.
//! - The SA gets another destination (ours for inbound, the peer's for outbound): the new one is
//!   added beside the old one, then the policies lead to it, then the old one goes. No packet
//!   finds itself without an SA.
//! - It keeps its destination, and so its place in the SADB, but gets another source: the old one
//!   is deleted and the new one added by two neighbouring messages of one send. A packet on
//!   another processor in these microseconds is lost, as IP may lose any.
//!
//! Packets that leave by the old outbound SA between the reading and the change use sequence
//! numbers that the copy does not know to be used, and the peer would take the copy's for
//! replays: so the copy begins further on. Its IVs are another matter: the kernel salts the IV
//! generator of each SA afresh. Packets that the old inbound SA takes in that time could be
//! replayed to the new one; that is a window of a millisecond, once for each move.

use super::batch::Chunk;
use super::copy::{self, Copy, Way};
use super::{Told, Xfrm, sas};
use crate::kernel::entry::IpProtocol;
use crate::kernel::{ChildRemove, Encap, KernelError, KernelRequest, Outer};

/// One Child SA and what the kernel told of it.
struct Move<'a> {
    from: &'a ChildRemove,
    to: Outer,
    /// In the order of `sas`; `None` where the kernel has no such SA.
    told: Vec<Told>,
}

/// Does the moves among `requests`, all of which are; one result for each.
pub(super) fn run(xfrm: &mut Xfrm, requests: &[KernelRequest]) -> Vec<Result<(), KernelError>> {
    let moves: Vec<(&ChildRemove, Outer)> = requests.iter().filter_map(parts).collect();
    let mut names = Vec::with_capacity(moves.len() * 2);
    for (from, _) in &moves {
        names.extend(sas(from));
    }
    let told = match xfrm.read_sas(&names) {
        Ok(told) => told,
        Err(errno) => {
            let error = KernelError {
                errno,
                action: "read SA",
            };
            return moves.iter().map(|_| Err(error.clone())).collect();
        }
    };
    let mut told = told.into_iter();
    let mut results = Vec::with_capacity(moves.len());
    let mut chunk = Chunk::new();
    let mut ready = Vec::with_capacity(moves.len());
    for (from, to) in moves {
        if chunk.is_full() {
            results.append(&mut std::mem::replace(&mut chunk, Chunk::new()).run(xfrm));
        }
        let told = told.by_ref().take(sas(from).count()).collect();
        let one = Move { from, to, told };
        one.push(xfrm, &mut chunk);
        ready.push(one);
    }
    results.append(&mut chunk.run(xfrm));
    leave(xfrm, &ready, &results);
    results
}

fn parts(request: &KernelRequest) -> Option<(&ChildRemove, Outer)> {
    match request {
        KernelRequest::MoveChild { child, to } => Some((child, *to)),
        KernelRequest::AddChild { .. }
        | KernelRequest::AddOutbound { .. }
        | KernelRequest::DeleteChild { .. }
        | KernelRequest::Count { .. }
        | KernelRequest::LastCount { .. }
        | KernelRequest::Couple { .. }
        | KernelRequest::SetTraps { .. }
        | KernelRequest::Grant { .. }
        | KernelRequest::Return { .. } => None,
    }
}

impl Move<'_> {
    fn push(&self, xfrm: &mut Xfrm, chunk: &mut Chunk) {
        // One that can only receive yet has no outbound SA.
        if self.told.first().is_none_or(Option::is_none) {
            return chunk.refuse(libc::ESRCH, "move SA");
        }
        let compressed = self.from.ipcomp.is_some();
        if compressed && self.from.local.is_ipv4() != self.to.local.is_ipv4() {
            // Inner packets of one family only go with outer ones of the same.
            return chunk.refuse(libc::EAFNOSUPPORT, "move SA");
        }
        if self.told.iter().flatten().any(|told| !copy::is_whole(told)) {
            return chunk.refuse(libc::EPERM, "read SA");
        }
        chunk.begin();
        for copy in self.copies() {
            if copy.way == Way::Instead {
                chunk.delete_sa(xfrm, copy.destination, copy.spi, copy.protocol);
            }
            chunk.copy_sa(xfrm, &copy);
        }
        chunk.add_policies(xfrm, &self.from.moved(self.to));
    }

    /// What takes the place of the SAs that are there.
    fn copies(&self) -> impl Iterator<Item = Copy<'_>> {
        let (from, to) = (self.from, self.to);
        let moved = from.moved(to);
        let (local, remote) = (to.local, to.remote);
        let before = sas(from).zip(sas(&moved)).zip(&self.told);
        before
            .enumerate()
            .filter_map(move |(at, ((old, new), told))| {
                let told = told.as_ref()?;
                let (destination, spi, protocol) = new;
                let inbound = at % 2 == 0;
                let main = protocol != IpProtocol::Comp;
                let encap = to.encap.filter(|_| main);
                Some(Copy {
                    told,
                    way: self.way(old.0 == destination, told, encap.is_some())?,
                    source: if inbound { remote } else { local },
                    destination,
                    spi,
                    protocol,
                    encap: encap.map(
                        |Encap {
                             local_port,
                             remote_port,
                         }| {
                            if inbound {
                                (remote_port, local_port)
                            } else {
                                (local_port, remote_port)
                            }
                        },
                    ),
                    skip: if inbound || !main { 0 } else { SEQUENCE_SKIP },
                })
            })
    }

    /// `None`: there is nothing to change.
    fn way(&self, stays: bool, told: &[u8], encap: bool) -> Option<Way> {
        let (from, to) = (self.from, self.to);
        if !stays {
            return Some(Way::Beside);
        }
        if (from.local, from.remote) != (to.local, to.remote) {
            return Some(Way::Instead);
        }
        match (copy::is_encapsulated(told), encap) {
            (true, true) => Some(Way::InPlace),
            (false, false) => None,
            (true, false) | (false, true) => Some(Way::Instead),
        }
    }
}

/// Deletes what now stands elsewhere. It has no policy any more; should its deletion fail it ends
/// with its lifetime.
fn leave(xfrm: &mut Xfrm, moves: &[Move<'_>], results: &[Result<(), KernelError>]) {
    let mut chunk = Chunk::new();
    for (one, _) in moves
        .iter()
        .zip(results)
        .filter(|(_, result)| result.is_ok())
    {
        chunk.begin();
        for (old, new) in sas(one.from).zip(sas(&one.from.moved(one.to))) {
            if old != new {
                chunk.delete_sa(xfrm, old.0, old.1, old.2);
            }
        }
    }
    let _ = chunk.run(xfrm);
}

/// Sequence numbers that a moved outbound SA leaves out: more packets than leave a fast host in the
/// millisecond that a move takes. The peer sees as many packets lost, which never come.
const SEQUENCE_SKIP: u32 = 1024;
/// Child SAs moved by one send: what is read of them fits the receive buffer many times.
pub(super) const MOVES_MAX: usize = 64;
