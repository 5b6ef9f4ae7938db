//! One client of the control socket: bytes in to frames, frames out to bytes, with bounds on both,
//! so that a slow or dead client costs a little memory and never a moment of waiting.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use super::imsg::{FRAME_MAX, Frame, Kind, OURS, PAYLOAD_MAX};

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    /// The socket may have more for us.
    readable: bool,
    /// The client will send no more.
    ended: bool,
    output: Vec<u8>,
    queue: VecDeque<Queued>,
    /// Since when the client takes nothing although there is something.
    stalled: Option<Instant>,
    /// A question to the shards is open; the next request waits until it is answered.
    pub(super) asking: bool,
    /// The client wants copies of all requests.
    pub(super) monitor: bool,
    /// The client wants the log.
    pub(super) listens: bool,
    /// Lines of it that had no room.
    missed: u64,
}

/// What waits behind the output buffer.
#[derive(Debug)]
enum Queued {
    Frame(Frame),
    Lines(Kind, std::vec::IntoIter<String>),
}

impl Connection {
    /// A client that just came.
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            readable: true,
            ended: false,
            output: Vec::new(),
            queue: VecDeque::new(),
            stalled: None,
            asking: false,
            monitor: false,
            listens: false,
            missed: 0,
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(
            &mut self.stream,
            token,
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.stream)
    }

    /// The poll says that there is something to read.
    pub(super) const fn set_readable(&mut self) {
        self.readable = true;
    }

    /// The next request, unless the one before is still open. An error ends the connection.
    pub(super) fn next_request(&mut self) -> io::Result<Option<Frame>> {
        if self.asking || self.queue.len() >= QUEUE_MAX {
            return Ok(None);
        }
        loop {
            let decoded = Frame::decode(&self.input).map_err(io::Error::other)?;
            if let Some((frame, length)) = decoded {
                self.input.drain(..length);
                return Ok(Some(frame));
            }
            if !self.readable || !self.read_some()? {
                return Ok(None);
            }
        }
    }

    /// Reads once; false if nothing came.
    fn read_some(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        // A frame that is not whole is shorter than FRAME_MAX, so there is room.
        let room = (FRAME_MAX - self.input.len().min(FRAME_MAX)).min(buffer.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        match self.stream.read(buffer) {
            Ok(0) => {
                self.readable = false;
                self.ended = true;
                Ok(false)
            }
            Ok(count) => {
                self.input.extend(buffer.iter().take(count));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Queues one frame.
    pub(super) fn send(&mut self, kind: Kind, payload: Vec<u8>) {
        self.queue
            .push_back(Queued::Frame(Frame::new(kind, OURS, payload)));
    }

    /// Queues a copy of another client's frame; an error if this client does not take them.
    pub(super) fn send_copy(&mut self, frame: &Frame) -> io::Result<()> {
        if self.queue.len() >= QUEUE_MAX {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.queue.push_back(Queued::Frame(frame.clone()));
        Ok(())
    }

    /// Queues a line of the log; a client that is too slow misses some, and is told how many.
    pub(super) fn tell(&mut self, line: &str) {
        if self.queue.len() + 1 >= QUEUE_MAX {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            self.send(Kind::EVENT, format!("{missed} lines missed").into_bytes());
        }
        self.send(Kind::EVENT, line.as_bytes().to_vec());
    }

    /// Queues lines, one frame each, and the empty frame that ends them.
    pub(super) fn send_lines(&mut self, kind: Kind, lines: Vec<String>) {
        self.queue.push_back(Queued::Lines(kind, lines.into_iter()));
    }

    /// Writes what the client takes. An error ends the connection.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<()> {
        loop {
            self.refill();
            if self.output.is_empty() {
                self.stalled = None;
                return Ok(());
            }
            match self.stream.write(&self.output) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(count) => {
                    self.output.drain(..count);
                    self.stalled = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert(now);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn refill(&mut self) {
        while self.output.len() < OUTPUT_MAX {
            match self.queue.front_mut() {
                None => return,
                Some(Queued::Frame(frame)) => {
                    frame.encode(&mut self.output);
                    self.queue.pop_front();
                }
                Some(Queued::Lines(kind, lines)) => {
                    let kind = *kind;
                    let line = lines.next();
                    let last = line.is_none();
                    let payload = line.map(text_payload).unwrap_or_default();
                    Frame::new(kind, OURS, payload).encode(&mut self.output);
                    if last {
                        self.queue.pop_front();
                    }
                }
            }
        }
    }

    /// Nothing more will happen: the client sent its last and has got everything.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && !self.asking && self.queue.is_empty() && self.output.is_empty()
    }

    /// When to give the client up, if it takes nothing until then.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.stalled.map(|since| since + STALL_MAX)
    }
}

/// A line as OpenIKED's client wants it: with newline and NUL.
fn text_payload(line: String) -> Vec<u8> {
    let mut payload = line.into_bytes();
    payload.truncate(PAYLOAD_MAX - 2);
    payload.extend(b"\n\0");
    payload
}

/// Bytes that are encoded ahead of what the client takes.
const OUTPUT_MAX: usize = 64 * 1024;
/// Answers and copies that may wait for one client.
const QUEUE_MAX: usize = 256;
/// How long a client may take nothing. An operator who paged the output has a pipe between.
const STALL_MAX: Duration = Duration::from_secs(30);
