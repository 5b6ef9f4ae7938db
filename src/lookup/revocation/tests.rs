//! The responses are those of `tests/vectors/ocsp`; responders are sockets of the tests.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, thread};

use mio::{Events, Poll, Token, Waker};

use super::super::names::Names;
use super::*;
use crate::wire::spi::IkeSpi;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ocsp");
    fs::read(folder.join(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let all = Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap();
    all.into_iter().next().unwrap()
}

struct Desk {
    poll: Poll,
    web: Web,
    revocation: Revocation,
    rng: Rng,
    replies: Replies,
    now: Now,
    asked: u64,
}

impl Desk {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let registry = poll.registry().try_clone().unwrap();
        Self {
            poll,
            web: Web::new(registry, Names::new(waker), 1024),
            revocation: Revocation::default(),
            rng: Rng::from_seed([7; 32]),
            replies: Vec::new(),
            now: Now {
                mono: crate::lookup::now().mono,
                // 2100, long after the responses were made, and they are good for a century.
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800),
            },
            asked: 0,
        }
    }

    fn ask(&mut self, url: &str, about: &str, seconds: u64) -> LookupId {
        self.ask_of(false, url, about, seconds)
    }

    fn ask_of(&mut self, own: bool, url: &str, about: &str, seconds: u64) -> LookupId {
        let question = OcspQuestion {
            url: url.to_owned(),
            leaf: certificate(about),
            issuer: certificate("ca"),
            responders: Arc::default(),
            tolerate: Duration::ZERO,
            max_age: None,
        };
        self.asked += 1;
        let id = LookupId {
            spi: IkeSpi::new(9).unwrap(),
            serial: self.asked,
        };
        let until = self.now.mono + Duration::from_secs(seconds);
        let tools = (&mut self.web, &mut self.rng, &mut self.replies);
        self.revocation
            .ask(tools, self.now, ShardId(3), (id, until), own, question);
        id
    }

    fn pass(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.now.wall += Duration::from_secs(seconds);
    }

    /// Goes on until this many have been answered; what they were told, by number.
    fn answers(&mut self, count: usize) -> Vec<(u64, Result<Status, Failure>)> {
        let replies = self.replies(count).into_iter();
        let told = replies.map(|(shard, id, answer)| {
            assert_eq!(shard, ShardId(3));
            let Answer::Ocsp(result) = answer else {
                panic!("{answer:?}");
            };
            (id.serial, result)
        });
        told.collect()
    }

    fn replies(&mut self, count: usize) -> Replies {
        let mut events = Events::with_capacity(64);
        for _ in 0..1000 {
            if self.replies.len() >= count {
                return std::mem::take(&mut self.replies);
            }
            let wait = Some(Duration::from_millis(20));
            self.poll.poll(&mut events, wait).unwrap();
            for event in events.iter().filter(|event| event.token() != Token(0)) {
                self.web.ready(event.token(), self.now.mono);
            }
            self.web.look(self.now.mono);
            for (ticket, result) in self.web.take_done() {
                let ours = self
                    .revocation
                    .fetched(self.now, ticket, &result, &mut self.replies);
                assert!(ours);
            }
            self.revocation.look(self.now.mono, &mut self.replies);
        }
        panic!("no answer")
    }
}

/// A responder that answers one request with each of these files, then ends; its URL.
fn responder(files: &[&str]) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ocsp", listener.local_addr().unwrap());
    let bodies: Vec<Vec<u8>> = files.iter().map(|name| file(name)).collect();
    let serving = thread::spawn(move || {
        for body in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut some = [0; 256];
                let count = stream.read(&mut some).unwrap();
                request.extend_from_slice(&some[..count]);
            }
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    (url, serving)
}

#[test]
fn all_who_ask_the_same_are_answered_by_one_request() {
    let mut desk = Desk::new();
    let (url, serving) = responder(&["good.der", "revoked.der"]);
    for _ in 0..10 {
        desk.ask(&url, "good", 10);
    }
    assert_eq!(desk.revocation.flights.len(), 1);
    let told = desk.answers(10);
    assert!(told.iter().all(|(_, result)| *result == Ok(Status::Good)));
    // From memory: the responder's next answer is about another certificate.
    desk.ask(&url, "good", 10);
    assert_eq!(desk.answers(1), [(11, Ok(Status::Good))]);
    desk.ask(&url, "revoked", 10);
    assert_eq!(desk.answers(1), [(12, Ok(Status::Revoked))]);
    serving.join().unwrap();
    assert!(desk.revocation.waiters.is_empty() && desk.revocation.tickets.is_empty());
}

#[test]
fn what_was_said_is_believed_for_minutes_and_without_next_update_not_at_all() {
    let mut desk = Desk::new();
    let (url, serving) = responder(&["good.der", "good.der"]);
    for serial in 1..=2 {
        desk.ask(&url, "good", 10);
        assert_eq!(desk.answers(1), [(serial, Ok(Status::Good))]);
        desk.pass(301);
    }
    serving.join().unwrap();
    let (url, serving) = responder(&["endless.der", "endless.der", "unknown.der", "good.der"]);
    for serial in 3..=4 {
        desk.ask(&url, "good", 10);
        assert_eq!(desk.answers(1), [(serial, Ok(Status::Good))]);
    }
    desk.ask(&url, "good", 10);
    assert_eq!(desk.answers(1), [(5, Ok(Status::Unknown))]);
    desk.ask(&url, "good", 10);
    assert_eq!(desk.answers(1), [(6, Ok(Status::Good))]);
    serving.join().unwrap();
}

#[test]
fn each_who_waits_has_a_time_of_its_own_and_the_request_outlives_them() {
    let mut desk = Desk::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    desk.ask(&url, "good", 2);
    desk.ask(&url, "good", 1);
    desk.ask(&url, "good", 60);
    assert_eq!(
        desk.revocation.deadline(),
        Some(desk.now.mono + Duration::from_secs(1))
    );
    desk.pass(1);
    assert_eq!(desk.answers(1), [(2, Err(Failure::Late))]);
    desk.pass(1);
    assert_eq!(desk.answers(1), [(1, Err(Failure::Late))]);
    desk.pass(28);
    assert_eq!(desk.answers(1), [(3, Err(Failure::Late))]);
    assert!(desk.revocation.flights.is_empty());
}

#[test]
fn a_failure_is_told_and_not_remembered() {
    let mut desk = Desk::new();
    let (url, serving) = responder(&["refused.der", "plain.der", "good.der"]);
    for wanted in [
        Err(Failure::Ocsp(ocsp::OcspError::Refused(3))),
        Err(Failure::Ocsp(ocsp::OcspError::Signer)),
        Ok(Status::Good),
    ] {
        desk.ask(&url, "good", 10);
        assert_eq!(desk.answers(1)[0].1, wanted);
    }
    serving.join().unwrap();
    desk.ask("https://ca.example/", "good", 10);
    assert_eq!(desk.answers(1)[0].1, Err(Failure::Url));
    desk.ask(&url, "revoked", 10);
    assert!(matches!(desk.answers(1)[0].1, Err(Failure::Unreachable(_))));
}

/// What there is to show of our own certificate.
fn shown(desk: &mut Desk) -> Option<Vec<u8>> {
    let Answer::Own(response) = desk.replies(1).remove(0).2 else {
        panic!("not our own");
    };
    response.map(|bytes| bytes.to_vec())
}

#[test]
fn what_is_said_of_our_own_is_kept_whole_for_two_minutes() {
    let mut desk = Desk::new();
    let (url, serving) = responder(&["good.der", "delegated.der"]);
    for wanted in ["good.der", "good.der", "delegated.der"] {
        desk.ask_of(true, &url, "good", 5);
        assert_eq!(shown(&mut desk), Some(file(wanted)));
        desk.pass(61);
    }
    serving.join().unwrap();
    // That a peer may be told the same of it is another matter.
    assert!(desk.revocation.known.is_empty());
}

#[test]
fn nothing_is_shown_but_that_it_is_good_for_a_while() {
    let bad = [
        "revoked.der",
        "unknown.der",
        "endless.der",
        "plain.der",
        "make.sh",
    ];
    for (recorded, about) in bad.map(|name| (name, "good")) {
        let about = if recorded == "revoked.der" {
            "revoked"
        } else {
            about
        };
        let mut desk = Desk::new();
        let (url, serving) = responder(&[recorded, "good.der"]);
        desk.ask_of(true, &url, about, 5);
        assert_eq!(shown(&mut desk), None, "{recorded}");
        // Not asked again at once.
        desk.ask_of(true, &url, about, 5);
        assert_eq!(shown(&mut desk), None, "{recorded}");
        desk.pass(11);
        desk.ask_of(true, &url, about, 5);
        let later = (about == "good").then(|| file("good.der"));
        assert_eq!(shown(&mut desk), later, "{recorded}");
        serving.join().unwrap();
    }
    let mut desk = Desk::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    desk.ask_of(true, &url, "good", 5);
    desk.pass(5);
    assert_eq!(shown(&mut desk), None);
}
