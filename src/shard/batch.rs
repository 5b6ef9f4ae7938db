//! Datagrams by the batch: fixed buffers for one `recvmmsg`, and what waits for one `sendmmsg`.

use std::io;

use super::socket::ShardSocket;
use crate::ike::Path;
use crate::sys::net::{self, BATCH_MAX, Outgoing, Received, Room};

/// Buffers for one receive call, and what it said.
#[derive(Debug)]
pub struct ReceiveBatch {
    room: Room,
    buffers: Vec<Vec<u8>>,
    received: Vec<Received>,
}

/// How a receive call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// The socket is empty.
    Yes,
    /// There may be more.
    No,
}

impl ReceiveBatch {
    /// Buffers for whole UDP datagrams.
    pub fn new() -> Self {
        let buffers = (0..BATCH_MAX).map(|_| vec![0; BUFFER_LEN]).collect();
        Self {
            room: Room::default(),
            buffers,
            received: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// One receive call.
    pub fn receive(&mut self, socket: &ShardSocket) -> io::Result<Drained> {
        let (room, buffers) = (&mut self.room, &mut self.buffers);
        match net::receive(socket.fd(), room, buffers, &mut self.received) {
            Ok(()) if self.received.len() == BATCH_MAX => Ok(Drained::No),
            Ok(()) => Ok(Drained::Yes),
            Err(error) => {
                self.received.clear();
                if error.kind() == io::ErrorKind::WouldBlock {
                    Ok(Drained::Yes)
                } else if error.kind() == io::ErrorKind::Interrupted {
                    Ok(Drained::No)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Datagrams in the batch.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Datagram `index` with its path; `None` where it was cut off or has no such index.
    pub fn datagram(&mut self, index: usize, socket: &ShardSocket) -> Option<(Path, &mut [u8])> {
        let received = self.received.get(index).filter(|r| !r.truncated)?;
        let bytes = self.buffers.get_mut(index)?.get_mut(..received.len)?;
        let local = (received.local, socket.bound.port()).into();
        Some((
            Path {
                local,
                remote: received.remote,
                marker: socket.marker,
            },
            bytes,
        ))
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Datagrams on their way out, and buffers that were.
#[derive(Debug, Default)]
pub struct SendBatch {
    room: Room,
    waiting: Vec<(Path, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

/// What sending came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Datagrams it refused; UDP may lose them, the peer asks again.
    pub failed: u64,
}

impl SendBatch {
    /// An empty buffer to write a datagram to.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Queues a datagram.
    pub fn push(&mut self, path: Path, bytes: Vec<u8>) {
        self.waiting.push((path, bytes));
    }

    /// Gives back a buffer that was not used.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < BATCH_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Sends all that wait, by socket.
    pub fn flush(&mut self, sockets: &[ShardSocket]) -> Sent {
        let mut result = Sent::default();
        for socket in sockets {
            let outgoing = self
                .waiting
                .iter()
                .filter(|(path, _)| socket.carries(path.remote.ip(), path.marker))
                .map(|(path, bytes)| Outgoing {
                    bytes,
                    marker: path.marker,
                    remote: path.remote,
                    local: path.local.ip(),
                });
            send_all(socket, &mut self.room, outgoing, &mut result);
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        for (_, buffer) in waiting.drain(..) {
            self.recycle(buffer);
        }
        self.waiting = waiting;
        result
    }
}

fn send_all<'a>(
    socket: &ShardSocket,
    room: &mut Room,
    mut outgoing: impl Iterator<Item = Outgoing<'a>> + Clone,
    result: &mut Sent,
) {
    // Those that the kernel took, or refused, are taken from the front.
    while outgoing.clone().next().is_some() {
        let gone = match net::send(socket.fd(), room, outgoing.clone()) {
            Ok(count) if count > 0 => {
                result.sent += count as u64;
                count
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Ok(_) | Err(_) => {
                result.failed += 1;
                1
            }
        };
        outgoing.by_ref().take(gone).for_each(drop);
    }
}

/// Room for the largest UDP payload, and some more, so that the heads of all buffers are not in the same few
/// lines of a cache.
const BUFFER_LEN: usize = 65_535 + 641;
