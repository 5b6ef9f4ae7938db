//! What goes out and what comes in: sockets, NATs, loss, and peers that are slow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use iked::ike::{Event, Path};
use iked::shard;
use iked::shard::batch::{Drained, SendBatch};
use iked::shard::socket::ShardSocket;
use iked::wire::Header;
use iked::wire::spi::IkeSpi;

use super::{Engine, now};
use crate::nat::Nat;

/// What is on its way out.
pub(super) struct Outgoing {
    batch: SendBatch,
    pub(super) nat: Option<Nat>,
    /// Datagrams of slow peers, by when they leave.
    late: BTreeMap<(Instant, u64), (Path, Vec<u8>)>,
    numbers: u64,
}

impl Outgoing {
    pub(super) fn new(nat: Option<Nat>) -> Self {
        Self {
            batch: SendBatch::default(),
            nat,
            late: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// When the next of a slow peer leaves.
    pub(super) fn next(&self) -> Option<Instant> {
        self.late.first_key_value().map(|((at, _), _)| *at)
    }

    fn push(&mut self, path: Path, bytes: Vec<u8>) {
        match &mut self.nat {
            Some(nat) => nat.push(path, bytes),
            None => self.batch.push(path, bytes),
        }
    }

    fn keep(&mut self, at: Instant, path: Path, bytes: Vec<u8>) {
        self.numbers += 1;
        self.late.insert((at, self.numbers), (path, bytes));
    }

    /// Sends what waits and, of slow peers, what is due.
    fn flush(&mut self, now: Instant, sockets: &[ShardSocket]) {
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (path, bytes) = entry.remove();
            self.push(path, bytes);
        }
        match &mut self.nat {
            Some(nat) => nat.flush(sockets),
            None => {
                self.batch.flush(sockets);
            }
        }
    }

    /// Sends everything, late or not.
    pub(super) fn hurry(&mut self, sockets: &[ShardSocket]) {
        while let Some((_, (path, bytes))) = self.late.pop_first() {
            self.push(path, bytes);
        }
        if let Some(nat) = &mut self.nat {
            nat.flush(sockets);
        }
        self.batch.flush(sockets);
    }
}

/// Which end of its IKE SA a datagram of a peer, or (`received`) one for it, names as the peer's own.
pub(super) fn own_spi(header: &Header, received: bool) -> Option<IkeSpi> {
    if header.flags.initiator == received {
        header.responder_spi
    } else {
        header.initiator_spi
    }
}

impl Engine {
    pub(super) fn take_datagrams(&mut self, index: usize) {
        for _ in 0..ROUNDS_MAX {
            let Some(socket) = self.parts.sockets.get(index) else {
                return;
            };
            let more = matches!(self.incoming.receive(socket), Ok(Drained::No));
            if let Some(readable) = self.readable.get_mut(index) {
                *readable = more;
            }
            for at in 0..self.incoming.len() {
                self.take_datagram(index, at);
            }
            if !more {
                return;
            }
        }
    }

    fn take_datagram(&mut self, index: usize, at: usize) {
        if self.is_lost() {
            return;
        }
        let Some(socket) = self.parts.sockets.get(index) else {
            return;
        };
        let marker = socket.marker;
        let Some((path, bytes)) = self.incoming.datagram(at, socket) else {
            return;
        };
        let path = match &self.outgoing.nat {
            Some(nat) => nat.inside(index, path),
            None => Some(path),
        };
        let Some(path) = path else {
            self.meter.counts.forgotten += 1;
            return;
        };
        let Some(ike) = shard::strip(bytes, marker) else {
            return;
        };
        let now = now();
        let header = Header::peek(ike).ok();
        self.endpoint.handle_datagram(now, path, ike);
        self.answer_kernel();
        let heard = &self.parts.live.heard;
        heard.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(header) = header {
            self.meter.received(now.mono, &header);
            self.note(now.mono, &header);
        }
    }

    /// Whether a datagram gets lost on its way.
    fn is_lost(&mut self) -> bool {
        let loss = self.parts.scenario.wire.loss;
        let lost = loss > 0.0 && (self.dice.u64() as f64 / u64::MAX as f64) < loss;
        self.meter.counts.wire_lost += u64::from(lost);
        lost
    }

    /// How late what this peer sends leaves, if it is a slow one.
    fn delay_of(&self, header: &Header) -> Option<Duration> {
        self.parts.scenario.slow?;
        let sa = self.endpoint.ike_sa(own_spi(header, false)?)?;
        self.parts.scenario.delay_of(sa.policy.index)
    }

    /// Answers what the endpoint asks of its kernel, and what it asks then.
    pub(super) fn answer_kernel(&mut self) {
        let now = now();
        while let Some(request) = self.endpoint.poll_kernel() {
            if let Some(event) = self.kernel.ask(now.mono, request) {
                self.endpoint.handle_kernel(now, event);
            }
        }
    }

    /// Moves what the endpoint wants done to where it goes; the SPI of the last request.
    pub(super) fn drain(&mut self) -> Option<u64> {
        self.answer_kernel();
        let mut last = None;
        let now = now().mono;
        loop {
            let mut buffer = self.outgoing.batch.buffer();
            let Some(transmit) = self.endpoint.poll_transmit(&mut buffer) else {
                self.outgoing.batch.recycle(buffer);
                break;
            };
            let header = Header::peek(&buffer).ok();
            if let Some(header) = &header {
                self.meter.sent(now, header);
                last = header.initiator_spi.map(IkeSpi::value);
            }
            let delay = header.and_then(|header| self.delay_of(&header));
            if self.is_lost() {
                self.outgoing.batch.recycle(buffer);
            } else if let Some(delay) = delay {
                self.meter.counts.delayed += 1;
                self.outgoing.keep(now + delay, transmit.path, buffer);
            } else {
                self.outgoing.push(transmit.path, buffer);
            }
        }
        self.outgoing.flush(now, &self.parts.sockets);
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Log { line, .. } = event {
                self.hear(&line);
            }
        }
        while self.endpoint.poll_reply().is_some() {}
        last
    }
}

/// Batches taken from one socket in a turn.
const ROUNDS_MAX: usize = 4;
