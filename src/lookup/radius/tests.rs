//! Servers on loopback that answer, do not answer, or answer with the wrong secret; the clock is the
//! test's.

use std::net::UdpSocket as Socket;
use std::sync::Arc;

use mio::{Events, Poll};

use super::*;
use crate::policy::Secret;
use crate::policy::radius::{Radius as Lines, Servers};
use crate::radius::{Builder, Code, Facts, Verdict};
use crate::wire::spi::IkeSpi;

struct Bench {
    poll: Poll,
    radius: Radius,
    rng: Rng,
    replies: Replies,
    now: Instant,
    asked: u64,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "a clock must begin somewhere")]
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        Self {
            radius: Radius::new(poll.registry().try_clone().unwrap()),
            poll,
            rng: Rng::from_seed([7; 32]),
            replies: Replies::new(),
            now: Instant::now(),
            asked: 0,
        }
    }

    fn ask(&mut self, lines: &Arc<Lines>, server: Option<usize>) {
        self.asked += 1;
        let id = LookupId {
            spi: IkeSpi::new(1).unwrap(),
            serial: self.asked,
        };
        let question = RadiusQuestion {
            radius: Arc::clone(lines),
            facts: Facts {
                user: b"carol".to_vec(),
                local: "192.0.2.1".parse().unwrap(),
                remote: "192.0.2.2".parse().unwrap(),
                session: 1,
            },
            eap: vec![2, 1, 0, 6, 1, b'c'],
            state: None,
            server,
        };
        let tools = (&mut self.rng, &mut self.replies);
        let until = self.now + Duration::from_secs(20);
        self.radius
            .ask(tools, self.now, ShardId(0), (id, until), question);
    }

    /// Waits for what is on its way, and looks.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(8);
        let wait = Some(Duration::from_millis(50));
        self.poll.poll(&mut events, wait).unwrap();
        for event in &events {
            self.radius.ready(event.token());
        }
        self.radius.look(&mut self.rng, self.now, &mut self.replies);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.turn();
    }

    fn answers(&mut self) -> Vec<RadiusAnswer> {
        let replies = std::mem::take(&mut self.replies).into_iter();
        let answers = replies.map(|(_, _, answer)| match answer {
            Answer::Radius(answer) => answer,
            Answer::Ocsp(_) | Answer::Crl(_) | Answer::Own(_) => panic!("nobody asked that"),
        });
        answers.collect()
    }
}

fn server() -> (Socket, SocketAddr) {
    let socket = Socket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn lines(servers: &[SocketAddr], tries: u32, failovers: u32) -> Arc<Lines> {
    let list = servers.iter().map(|address| Server {
        address: *address,
        secret: Secret::new(SECRET.to_vec()),
    });
    Arc::new(Lines {
        auth: Servers {
            list: list.collect(),
            tries,
            failovers,
        },
        ..Lines::default()
    })
}

fn hear(socket: &Socket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 4096];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), from)
}

/// Answers the next request with a welcome under this secret.
fn answer(socket: &Socket, secret: &[u8]) {
    welcome(socket, secret, &hear(socket));
}

fn welcome(socket: &Socket, secret: &[u8], (request, from): &(Vec<u8>, SocketAddr)) {
    let request = Packet::decode(request).unwrap();
    let (identifier, proof) = (request.identifier, request.authenticator);
    let mut builder = Builder::default();
    builder.put_eap(&[3, 1, 0, 4]);
    let code = Code::ACCESS_ACCEPT;
    let packet = builder.answer(code, identifier, &proof, secret, true);
    socket.send_to(&packet, *from).unwrap();
}

fn hears_nothing(socket: &Socket) -> bool {
    socket.recv_from(&mut [0; 4096]).is_err()
}

fn accepted(answers: &[RadiusAnswer], by: usize) {
    let [Ok((server, reply))] = answers else {
        panic!("{answers:?}");
    };
    assert_eq!((*server, reply.verdict), (by, Verdict::Accept));
}

const SECRET: &[u8] = b"between us";

#[test]
fn a_server_answers() {
    let (mut bench, (socket, address)) = (Bench::new(), server());
    bench.ask(&lines(&[address], 3, 0), None);
    answer(&socket, SECRET);
    bench.turn();
    accepted(&bench.answers(), 0);
    assert_eq!(bench.radius.deadline(), None);
}

#[test]
fn what_is_not_made_with_the_secret_is_passed_over() {
    let (mut bench, (socket, address)) = (Bench::new(), server());
    bench.ask(&lines(&[address], 3, 0), None);
    answer(&socket, b"between others");
    bench.turn();
    assert!(bench.answers().is_empty());
    bench.pass(2);
    answer(&socket, SECRET);
    bench.turn();
    accepted(&bench.answers(), 0);
}

#[test]
fn a_silent_server_is_asked_after_2_4_and_8_seconds() {
    let (mut bench, (socket, address)) = (Bench::new(), server());
    bench.ask(&lines(&[address], 3, 0), None);
    let mut first = [0; 4096];
    let (len, _) = socket.recv_from(&mut first).unwrap();
    for wait in [2, 4] {
        bench.pass(wait - 1);
        assert!(hears_nothing(&socket));
        bench.pass(1);
        let mut again = [0; 4096];
        assert_eq!(socket.recv_from(&mut again).unwrap().0, len);
        assert_eq!(first, again, "a server can tell that it is the same");
    }
    bench.pass(8);
    assert!(hears_nothing(&socket));
    assert_eq!(bench.answers(), [Err(Failure::Late)]);
    assert_eq!(bench.radius.deadline(), None);
}

#[test]
fn the_next_server_is_asked_and_the_silent_one_is_left_alone() {
    let mut bench = Bench::new();
    let ((silent, one), (speaking, other)) = (server(), server());
    let lines = lines(&[one, other], 1, 1);
    bench.ask(&lines, None);
    bench.pass(2);
    answer(&speaking, SECRET);
    bench.turn();
    accepted(&bench.answers(), 1);
    assert!(!hears_nothing(&silent));
    bench.ask(&lines, None);
    answer(&speaking, SECRET);
    bench.turn();
    accepted(&bench.answers(), 1);
    assert!(hears_nothing(&silent), "it rests");
    bench.pass(61);
    bench.ask(&lines, None);
    answer(&silent, SECRET);
    bench.turn();
    accepted(&bench.answers(), 0);
}

#[test]
fn a_port_without_a_server_is_left_at_once() {
    let mut bench = Bench::new();
    let ((gone, one), (speaking, other)) = (server(), server());
    drop(gone);
    bench.ask(&lines(&[one, other], 3, 1), None);
    bench.turn();
    answer(&speaking, SECRET);
    bench.turn();
    accepted(&bench.answers(), 1);
}

#[test]
fn a_port_without_a_server_is_tried_again_where_there_is_no_other() {
    let mut bench = Bench::new();
    let (gone, address) = server();
    drop(gone);
    bench.ask(&lines(&[address], 2, 5), None);
    bench.turn();
    assert!(bench.answers().is_empty());
    let back = Socket::bind(address).unwrap();
    bench.pass(2);
    answer(&back, SECRET);
    bench.turn();
    accepted(&bench.answers(), 0);
    drop(back);
    bench.ask(&lines(&[address], 1, 0), None);
    bench.turn();
    bench.pass(2);
    assert_eq!(bench.answers(), [Err(Failure::Late)]);
}

#[test]
fn a_server_to_which_no_way_leads_is_left_at_once() {
    let (mut bench, (speaking, other)) = (Bench::new(), server());
    // Only with a permission that nobody asked for.
    let nowhere = "255.255.255.255:1812".parse().unwrap();
    bench.ask(&lines(&[nowhere, other], 3, 1), None);
    answer(&speaking, SECRET);
    bench.turn();
    accepted(&bench.answers(), 1);
    bench.ask(&lines(&[nowhere], 3, 1), None);
    let answers = bench.answers();
    assert!(
        matches!(answers[..], [Err(Failure::Unreachable(_))]),
        "{answers:?}"
    );
}

#[test]
fn a_conversation_stays_with_its_server() {
    let mut bench = Bench::new();
    let ((_first, one), (second, other)) = (server(), server());
    bench.ask(&lines(&[one, other], 1, 5), Some(1));
    assert!(!hears_nothing(&second));
    bench.pass(2);
    assert_eq!(bench.answers(), [Err(Failure::Late)]);
}

#[test]
fn more_questions_than_identifiers_take_another_socket() {
    let (mut bench, (socket, address)) = (Bench::new(), server());
    let lines = lines(&[address], 1, 0);
    let mut heard = Vec::new();
    for _ in 0..300 {
        bench.ask(&lines, None);
        heard.push(hear(&socket));
    }
    assert_eq!(bench.radius.lines.count(), 2);
    for request in &heard {
        welcome(&socket, SECRET, request);
        bench.turn();
    }
    assert_eq!(bench.replies.len(), 300);
    assert!(bench.answers().iter().all(Result::is_ok));
    assert!(bench.radius.flights.is_empty() && bench.radius.due.is_empty());
}

#[test]
fn without_a_server_the_answer_is_at_once() {
    let mut bench = Bench::new();
    bench.ask(&lines(&[], 3, 0), None);
    assert!(matches!(bench.answers()[..], [Err(Failure::Radius(_))]));
}
