//! One datagram after the other, each with what it was answered and counted. A datagram that is
//! known to be answered follows each of them on the same way: what comes before that answer is the
//! answer to the one before.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use iked::wire::registry::NotifyType;
use iked::wire::{Flags, Header};

use super::house::{Daemon, singular};
use super::probe::{only_notify, receive, send, wrong_ke};

/// One datagram, what must come back, and what must be counted beside the datagrams themselves.
pub(super) struct Row {
    name: &'static str,
    message: Vec<u8>,
    answer: Option<(NotifyType, Vec<u8>)>,
    counters: &'static [&'static str],
}

pub(super) fn silence(
    name: &'static str,
    message: Vec<u8>,
    counters: &'static [&'static str],
) -> Row {
    Row {
        name,
        message,
        answer: None,
        counters,
    }
}

pub(super) fn answered(
    name: &'static str,
    message: Vec<u8>,
    (kind, data): (NotifyType, &[u8]),
    counters: &'static [&'static str],
) -> Row {
    Row {
        name,
        message,
        answer: Some((kind, data.to_vec())),
        counters,
    }
}

pub(super) const DROPPED: &str = "message dropped";
pub(super) const DECODE: &[&str] = &["decode_error", DROPPED];
pub(super) const VERSION: &[&str] = &["version_error", DROPPED];
pub(super) const UNKNOWN: &[&str] = &["unknown_spi"];
pub(super) const UNEXPECTED: &[&str] = &["unexpected", DROPPED];
pub(super) const INTEGRITY: &[&str] = &["integrity_error", DROPPED];

/// A way to the daemon and what was counted so far.
pub(super) struct Desk<'a> {
    daemon: &'a Daemon,
    socket: &'a UdpSocket,
    to: SocketAddr,
    marker: bool,
    counters: BTreeMap<String, u64>,
    /// What is counted for the datagram that follows.
    follower: BTreeMap<String, u64>,
    shown: String,
    spi: u64,
}

impl<'a> Desk<'a> {
    pub(super) fn new(daemon: &'a Daemon, socket: &'a UdpSocket, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let mut desk = Self {
            daemon,
            socket,
            to,
            marker: to.port() == 4500,
            counters: daemon.counters(),
            follower: BTreeMap::new(),
            shown: daemon.shows(&["show", "sa"]),
            spi: 0xfe0ce << 32,
        };
        assert!(desk.follow().is_empty());
        desk.follower = desk.count();
        let names: Vec<&str> = desk.follower.keys().map(String::as_str).collect();
        let expected = [DROPPED, "message received", "message sent", "notifie sent"];
        assert_eq!(names, expected);
        desk
    }

    /// Sends a datagram as it is; gives what came back and what was counted for it.
    pub(super) fn exchange(&mut self, datagram: &[u8]) -> (Vec<Vec<u8>>, BTreeMap<String, u64>) {
        self.socket.send_to(datagram, self.to).unwrap();
        let answers = self.follow();
        let mut counted = self.count();
        for (name, count) in &self.follower {
            *counted.get_mut(name).unwrap() -= count;
        }
        counted.retain(|_, count| *count > 0);
        assert_eq!(self.daemon.shows(&["show", "sa"]), self.shown);
        (answers, counted)
    }

    /// Sends the datagram that is answered for certain; gives what came before the answer.
    fn follow(&mut self) -> Vec<Vec<u8>> {
        self.spi += 1;
        send(self.socket, self.to, self.marker, &wrong_ke(self.spi));
        let mut answers = Vec::new();
        loop {
            let (from, answer) = receive(self.socket, self.marker).unwrap();
            assert_eq!(from, self.to);
            if answer.starts_with(&self.spi.to_be_bytes()) {
                return answers;
            }
            answers.push(answer);
        }
    }

    /// What was counted since last asked.
    fn count(&mut self) -> BTreeMap<String, u64> {
        let after = self.daemon.counters();
        let mut counted = after.clone();
        for (name, count) in &mut counted {
            *count -= self.counters[name];
        }
        counted.retain(|_, count| *count > 0);
        self.counters = after;
        counted
    }

    pub(super) fn try_row(&mut self, row: &Row) {
        let name = row.name;
        let marker = if self.marker { [0; 4].as_slice() } else { &[] };
        let (answers, counted) = self.exchange(&[marker, &row.message].concat());
        let mut expected: BTreeMap<String, u64> = row
            .counters
            .iter()
            .map(|name| (singular(name), 1))
            .collect();
        expected.insert(singular("message received"), 1);
        match (answers.as_slice(), &row.answer) {
            ([], None) => {}
            ([answer], Some(notify)) => {
                let (header, found) = only_notify(answer);
                assert_eq!(found, *notify, "{name}");
                assert_answers(name, &header, &row.message);
                expected.insert(singular("message sent"), 1);
                expected.insert(singular("notifie sent"), 1);
            }
            (answers, _) => panic!("{name}: {answers:02x?}"),
        }
        assert_eq!(counted, expected, "{name}");
    }
}

/// The answer has the SPIs, the exchange and the Message ID of the request, and is not longer.
fn assert_answers(name: &str, answer: &Header, message: &[u8]) {
    let request = Header::peek(message).unwrap();
    assert_eq!(answer.initiator_spi, request.initiator_spi, "{name}");
    assert_eq!(answer.responder_spi, request.responder_spi, "{name}");
    assert_eq!(answer.exchange, request.exchange, "{name}");
    assert_eq!(answer.message_id, request.message_id, "{name}");
    let flags = Flags {
        initiator: !request.flags.initiator,
        version: false,
        response: true,
    };
    assert_eq!((answer.flags, answer.major), (flags, 2), "{name}");
    assert!(answer.length as usize <= message.len(), "{name}");
}
