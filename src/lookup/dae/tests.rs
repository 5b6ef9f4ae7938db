//! Clients on loopback; the test is the shards.

use std::net::{IpAddr, UdpSocket as Socket};
use std::time::SystemTime;

use mio::{Events, Poll};

use super::*;
use crate::policy::Secret;
use crate::radius::{Builder, Code, attribute};

struct Bench {
    poll: Poll,
    dae: Dae,
    now: Now,
    client: Socket,
    door: SocketAddr,
}

const SECRET: &[u8] = b"between us";

impl Bench {
    /// Two shards, one door, and this address as the client.
    #[expect(clippy::disallowed_methods, reason = "a clock must begin somewhere")]
    fn new(client: &str) -> Self {
        let poll = Poll::new().unwrap();
        let mut dae = Dae::new(poll.registry().try_clone().unwrap(), 2);
        let free = Socket::bind("127.0.0.1:0").unwrap();
        let door = free.local_addr().unwrap();
        drop(free);
        let address: IpAddr = client.parse().unwrap();
        dae.configure(Arc::new(Radius {
            dae_listen: vec![door],
            dae_clients: vec![(address, Secret::new(SECRET.to_vec()))],
            ..Radius::default()
        }));
        let client = Socket::bind("127.0.0.1:0").unwrap();
        let wait = Some(Duration::from_millis(200));
        client.set_read_timeout(wait).unwrap();
        let now = Now {
            mono: Instant::now(),
            wall: SystemTime::now(),
        };
        Self {
            poll,
            dae,
            now,
            client,
            door,
        }
    }

    /// Sends this, and gives what the shards are to do.
    fn say(&mut self, request: &[u8]) -> Orders {
        self.client.send_to(request, self.door).unwrap();
        let mut events = Events::with_capacity(8);
        let wait = Some(Duration::from_millis(200));
        self.poll.poll(&mut events, wait).unwrap();
        for event in &events {
            self.dae.ready(event.token());
        }
        let mut orders = Orders::new();
        self.dae.look(self.now, &mut orders);
        orders
    }

    /// Code and cause of the answer.
    fn hear(&self, request: &[u8]) -> Option<(Code, Option<u32>)> {
        let mut buffer = [0; 4096];
        let (len, _) = self.client.recv_from(&mut buffer).ok()?;
        let answer = Packet::decode(&buffer[..len]).unwrap();
        let proof = Packet::decode(request).unwrap().authenticator;
        assert_eq!(answer.verify_answer(SECRET, &proof, true), Ok(()));
        Some((answer.code, answer.number(attribute::ERROR_CAUSE)))
    }
}

fn request(code: Code, user: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut builder = Builder::default();
    builder.put(attribute::USER_NAME, user);
    builder.signed_request(code, 7, secret)
}

#[test]
fn all_shards_are_asked_and_the_last_one_s_word_is_waited_for() {
    let mut bench = Bench::new("127.0.0.1");
    let request = request(Code::DISCONNECT_REQUEST, b"alice", SECRET);
    let orders = bench.say(&request);
    let [(serial, order)] = &orders[..] else {
        panic!("{orders:?}");
    };
    let Order::Disconnect(target) = &**order else {
        panic!("{order:?}");
    };
    assert_eq!(target.user.as_deref(), Some(&b"alice"[..]));
    bench.dae.done(*serial, 1);
    assert_eq!(bench.hear(&request), None);
    assert_eq!(bench.say(&request), [], "it is under way");
    bench.dae.done(*serial, 0);
    let ack = Some((Code::DISCONNECT_ACK, None));
    assert_eq!(bench.hear(&request), ack);
    // The answer was lost: the peer that is gone does not become one that never was.
    assert_eq!(bench.say(&request), []);
    assert_eq!(bench.hear(&request), ack);
}

#[test]
fn nobody_by_that_name_is_said() {
    let mut bench = Bench::new("127.0.0.1");
    let request = request(Code::DISCONNECT_REQUEST, b"bob", SECRET);
    let orders = bench.say(&request);
    for (serial, _) in orders {
        bench.dae.done(serial, 0);
        bench.dae.done(serial, 0);
    }
    let nak = Some((Code::DISCONNECT_NAK, Some(503)));
    assert_eq!(bench.hear(&request), nak);
}

#[test]
fn what_cannot_be_changed_is_refused_at_once() {
    let mut bench = Bench::new("127.0.0.1");
    let request = request(Code::COA_REQUEST, b"alice", SECRET);
    assert_eq!(bench.say(&request), []);
    assert_eq!(bench.hear(&request), Some((Code::COA_NAK, Some(402))));
}

#[test]
fn a_change_is_done_by_all_shards() {
    let mut bench = Bench::new("127.0.0.1");
    let mut builder = Builder::default();
    builder.put(attribute::USER_NAME, b"alice");
    builder.put_number(attribute::SESSION_TIMEOUT, 60);
    let request = builder.signed_request(Code::COA_REQUEST, 7, SECRET);
    let orders = bench.say(&request);
    let [(serial, order)] = &orders[..] else {
        panic!("{orders:?}");
    };
    assert!(matches!(&**order, Order::Change(..)), "{order:?}");
    bench.dae.done(*serial, 0);
    bench.dae.done(*serial, 1);
    assert_eq!(bench.hear(&request), Some((Code::COA_ACK, None)));
}

#[test]
fn strangers_and_wrong_secrets_get_silence() {
    for (client, secret) in [("127.0.0.2", SECRET), ("127.0.0.1", b"another")] {
        let mut bench = Bench::new(client);
        let request = request(Code::DISCONNECT_REQUEST, b"alice", secret);
        assert_eq!(bench.say(&request), [], "{client}");
        assert!(bench.client.recv_from(&mut [0; 64]).is_err(), "{client}");
    }
}

#[test]
fn what_no_shard_answers_is_forgotten() {
    let mut bench = Bench::new("127.0.0.1");
    let request = request(Code::DISCONNECT_REQUEST, b"alice", SECRET);
    assert_eq!(bench.say(&request).len(), 1);
    bench.now.mono += WAIT_MAX;
    bench.dae.look(bench.now, &mut Orders::new());
    assert!(bench.dae.waiting.is_empty());
}
