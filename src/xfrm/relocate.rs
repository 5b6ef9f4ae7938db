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

use zeroize::Zeroizing;

use super::Xfrm;
use super::batch::Chunk;
use super::copy::{self, Copy, Way};
use crate::kernel::{ChildRemove, Encap, KernelError, KernelRequest, Outer};

/// One Child SA and what the kernel told of it.
struct Move<'a> {
    from: &'a ChildRemove,
    to: Outer,
    inbound: Option<Zeroizing<Vec<u8>>>,
    outbound: Option<Zeroizing<Vec<u8>>>,
}

/// Does the moves among `requests`, all of which are; one result for each.
pub(super) fn run(xfrm: &mut Xfrm, requests: &[KernelRequest]) -> Vec<Result<(), KernelError>> {
    let moves: Vec<(&ChildRemove, Outer)> = requests.iter().filter_map(parts).collect();
    let mut names = Vec::with_capacity(moves.len() * 2);
    for (from, _) in &moves {
        names.push((from.local, from.inbound_spi, from.protocol));
        names.push((from.remote, from.outbound_spi, from.protocol));
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
        let mut next = || told.next().flatten();
        let (inbound, outbound) = (next(), next());
        let one = Move {
            from,
            to,
            inbound,
            outbound,
        };
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
        | KernelRequest::SetTraps { .. } => None,
    }
}

impl Move<'_> {
    fn push(&self, xfrm: &mut Xfrm, chunk: &mut Chunk) {
        // One that can only receive yet has no outbound SA.
        let Some(inbound) = &self.inbound else {
            return chunk.refuse(libc::ESRCH, "move SA");
        };
        let told = [Some(inbound), self.outbound.as_ref()];
        if told.iter().flatten().any(|told| !copy::is_whole(told)) {
            return chunk.refuse(libc::EPERM, "read SA");
        }
        chunk.begin();
        for copy in self.inward().into_iter().chain(self.outward()) {
            if copy.way == Way::Instead {
                chunk.delete_sa(xfrm, copy.destination, copy.spi, copy.protocol);
            }
            chunk.copy_sa(xfrm, &copy);
        }
        chunk.add_policies(xfrm, &self.from.moved(self.to));
    }

    fn inward(&self) -> Option<Copy<'_>> {
        let told = self.inbound.as_ref()?;
        Some(Copy {
            told,
            way: self.way(self.from.local == self.to.local, told)?,
            source: self.to.remote,
            destination: self.to.local,
            spi: self.from.inbound_spi,
            protocol: self.from.protocol,
            encap: self.to.encap.map(|e| (e.remote_port, e.local_port)),
            skip: 0,
        })
    }

    fn outward(&self) -> Option<Copy<'_>> {
        let told = self.outbound.as_ref()?;
        Some(Copy {
            told,
            way: self.way(self.from.remote == self.to.remote, told)?,
            source: self.to.local,
            destination: self.to.remote,
            spi: self.from.outbound_spi,
            protocol: self.from.protocol,
            encap: self.to.encap.map(|e: Encap| (e.local_port, e.remote_port)),
            skip: SEQUENCE_SKIP,
        })
    }

    /// `None`: there is nothing to change.
    fn way(&self, stays: bool, told: &[u8]) -> Option<Way> {
        let (from, to) = (self.from, self.to);
        if !stays {
            return Some(Way::Beside);
        }
        if (from.local, from.remote) != (to.local, to.remote) {
            return Some(Way::Instead);
        }
        match (copy::is_encapsulated(told), to.encap.is_some()) {
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
        let (from, to) = (one.from, one.to);
        if from.local != to.local {
            chunk.delete_sa(xfrm, from.local, from.inbound_spi, from.protocol);
        }
        if from.remote != to.remote {
            chunk.delete_sa(xfrm, from.remote, from.outbound_spi, from.protocol);
        }
    }
    let _ = chunk.run(xfrm);
}

/// Sequence numbers that a moved outbound SA leaves out: more packets than leave a fast host in the
/// millisecond that a move takes. The peer sees as many packets lost, which never come.
const SEQUENCE_SKIP: u32 = 1024;
/// Child SAs moved by one send: what is read of them fits the receive buffer many times.
pub(super) const MOVES_MAX: usize = 64;
