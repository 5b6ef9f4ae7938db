//! Accounting servers on loopback that write down, are silent, or have another secret; the clock is
//! the test's.

use std::net::UdpSocket as Socket;
use std::time::SystemTime;

use mio::{Events, Poll};

use super::*;
use crate::policy::Secret;
use crate::policy::radius::Servers;
use crate::radius::request::Cause;
use crate::radius::{Builder, Facts, Figures, attribute};

const SECRET: &[u8] = b"shared";

struct Bench {
    poll: Poll,
    accounting: Accounting,
    now: Now,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "a clock must begin somewhere")]
    fn new(radius: Arc<Radius>) -> Self {
        let poll = Poll::new().unwrap();
        let mut bench = Self {
            accounting: Accounting::new(poll.registry().try_clone().unwrap()),
            poll,
            now: Now {
                mono: Instant::now(),
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            },
        };
        bench.accounting.configure(bench.now, radius);
        bench
    }

    fn tell(&mut self, session: u64, moment: Moment) {
        self.accounting.tell(self.now.mono, record(session, moment));
    }

    /// Waits for what is on its way, and looks.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(8);
        let wait = Some(Duration::from_millis(50));
        self.poll.poll(&mut events, wait).unwrap();
        for event in &events {
            self.accounting.ready(event.token());
        }
        self.accounting.look(self.now.mono);
    }

    fn pass(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.turn();
    }
}

fn record(session: u64, moment: Moment) -> Record {
    Record {
        facts: Facts {
            user: b"carol".to_vec(),
            local: "192.0.2.1".parse().unwrap(),
            remote: "192.0.2.2".parse().unwrap(),
            session,
        },
        moment,
        figures: Figures::default(),
    }
}

fn server() -> (Socket, SocketAddr) {
    let socket = Socket::bind("127.0.0.1:0").unwrap();
    let patience = Duration::from_millis(200);
    socket.set_read_timeout(Some(patience)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn lines(servers: &[SocketAddr], tries: u32, failovers: u32) -> Arc<Radius> {
    let list = servers.iter().map(|address| Server {
        address: *address,
        secret: Secret::new(SECRET.to_vec()),
    });
    Arc::new(Radius {
        accounting: Servers {
            list: list.collect(),
            tries,
            failovers,
        },
        ..Radius::default()
    })
}

/// What a server was told: status, session, and how to answer it.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    status: u32,
    session: String,
    from: SocketAddr,
    identifier: u8,
    proof: [u8; 16],
}

fn hear(socket: &Socket) -> Option<Heard> {
    let mut buffer = [0; 4096];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    let packet = Packet::decode(&buffer[..len]).unwrap();
    assert_eq!(packet.code, Code::ACCOUNTING_REQUEST);
    assert_eq!(packet.verify_request(SECRET), Ok(()));
    let session = packet.first(attribute::ACCT_SESSION_ID).unwrap_or(b"all");
    Some(Heard {
        status: packet.number(attribute::ACCT_STATUS_TYPE).unwrap_or(0),
        session: String::from_utf8(session.to_vec()).unwrap(),
        from,
        identifier: packet.identifier,
        proof: packet.authenticator,
    })
}

fn confirm(socket: &Socket, heard: &Heard, secret: &[u8]) {
    let code = Code::ACCOUNTING_RESPONSE;
    let answer = Builder::default().answer(code, heard.identifier, &heard.proof, secret, false);
    socket.send_to(&answer, heard.from).unwrap();
}

/// Takes the next record, which has this status.
fn take(bench: &mut Bench, socket: &Socket, status: u32) -> String {
    let heard = hear(socket).expect("nothing was told");
    assert_eq!(heard.status, status);
    confirm(socket, &heard, SECRET);
    bench.turn();
    heard.session
}

const ON: u32 = 7;
const OFF: u32 = 8;
const START: u32 = 1;
const STOP: u32 = 2;
const INTERIM: u32 = 3;
const GONE: Moment = Moment::Stop(Cause::UserRequest);

#[test]
fn records_of_a_session_come_in_order_and_none_before_the_last_is_taken() {
    let (socket, address) = server();
    let mut bench = Bench::new(lines(&[address], 3, 0));
    bench.turn();
    assert_eq!(take(&mut bench, &socket, ON), "all");
    assert!(bench.accounting.is_idle());
    bench.tell(1, Moment::Start);
    bench.turn();
    let first = hear(&socket).unwrap();
    assert_eq!(first.status, START);
    // Meanwhile the session goes on and ends; of reports only the youngest would be of use.
    bench.tell(1, Moment::Interim);
    bench.tell(1, Moment::Interim);
    bench.tell(1, GONE);
    bench.tell(2, Moment::Start);
    bench.turn();
    assert_eq!(take(&mut bench, &socket, START), "0000000000000002");
    assert_eq!(hear(&socket), None);
    confirm(&socket, &first, b"another");
    bench.turn();
    assert_eq!(hear(&socket), None, "that was nobody's answer");
    confirm(&socket, &first, SECRET);
    bench.turn();
    assert_eq!(take(&mut bench, &socket, STOP), "0000000000000001");
    assert!(bench.accounting.is_idle() && bench.accounting.waiting.is_empty());
    bench.accounting.close(bench.now);
    bench.turn();
    assert_eq!(take(&mut bench, &socket, OFF), "all");
    assert!(bench.accounting.is_idle());
}

#[test]
fn a_silent_server_is_told_again_then_another_and_all_after_a_rest() {
    let ((dead, first), (other, second)) = (server(), server());
    let mut bench = Bench::new(lines(&[first, second], 2, 1));
    bench.turn();
    let told = hear(&dead).unwrap();
    assert_eq!(told.status, ON);
    bench.pass(2);
    assert_eq!(hear(&dead), Some(told), "the same bytes");
    bench.pass(4);
    assert_eq!(take(&mut bench, &other, ON), "all");
    // The next one goes there at once.
    bench.tell(1, Moment::Start);
    bench.turn();
    let told = hear(&other).unwrap();
    assert_eq!((told.status, hear(&dead)), (START, None));
    // It falls silent as well: both are tried, and again after a rest.
    bench.pass(2);
    bench.pass(4);
    assert_eq!(hear(&dead).unwrap().status, START);
    bench.pass(2);
    bench.pass(4);
    while hear(&dead).or_else(|| hear(&other)).is_some() {}
    assert!(bench.accounting.flights.is_empty() && !bench.accounting.is_idle());
    bench.tell(1, GONE);
    bench.pass(60);
    assert_eq!(take(&mut bench, &dead, START), "0000000000000001");
    assert_eq!(take(&mut bench, &dead, STOP), "0000000000000001");
    assert!(bench.accounting.is_idle());
}

#[test]
fn what_waits_is_bounded_and_reports_go_first() {
    let (_socket, address) = server();
    let mut bench = Bench::new(lines(&[address], 1, 0));
    for session in 1..=50_000 {
        bench.tell(session, Moment::Interim);
    }
    assert_eq!(bench.accounting.count, WAITING_MAX / 2);
    for session in 100_000..150_000 {
        bench.tell(session, GONE);
    }
    assert_eq!(bench.accounting.count, WAITING_MAX);
    bench.turn();
    assert_eq!(bench.accounting.flights.len(), FLIGHTS_MAX);
    // An hour later nothing of it is of use.
    for _ in 0..(WAITING_MAX / FLIGHTS_MAX) * 4 {
        bench.now.mono += Duration::from_secs(30);
        bench.accounting.look(bench.now.mono);
    }
    assert!(bench.accounting.is_idle() && bench.accounting.waiting.is_empty());
}

#[test]
fn a_new_configuration_has_its_servers_told_what_the_old_ones_did_not_take() {
    let ((old, first), (new, second)) = (server(), server());
    let mut bench = Bench::new(lines(&[first], 3, 0));
    bench.turn();
    take(&mut bench, &old, ON);
    bench.tell(1, Moment::Start);
    bench.turn();
    assert_eq!(hear(&old).unwrap().status, START);
    bench.tell(1, Moment::Interim);
    bench
        .accounting
        .configure(bench.now, lines(&[second], 3, 0));
    bench.turn();
    take(&mut bench, &new, START);
    take(&mut bench, &new, INTERIM);
    assert!(bench.accounting.is_idle());
    // Without servers nobody is told, and nothing is kept.
    bench.accounting.configure(bench.now, lines(&[], 3, 0));
    bench.tell(1, GONE);
    assert!(bench.accounting.is_idle() && bench.accounting.waiting.is_empty());
}
