//! The lists are those of `tests/vectors/crl`; servers are sockets of the tests.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, thread};

use mio::{Events, Poll, Token, Waker};

use super::super::names::Names;
use super::*;
use crate::crypto::crl::CrlError;
use crate::wire::spi::IkeSpi;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/crl");
    fs::read(folder.join(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let all = Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap();
    all.into_iter().next().unwrap()
}

struct Desk {
    poll: Poll,
    web: Web,
    lists: Lists,
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
            lists: Lists::default(),
            replies: Vec::new(),
            now: Now {
                mono: crate::lookup::now().mono,
                // 2100, when most of the lists hold.
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800),
            },
            asked: 0,
        }
    }

    fn ask(&mut self, url: &str, about: &str, issuer: &str, seconds: u64) {
        self.ask_any(&[url], about, issuer, seconds);
    }

    fn ask_any(&mut self, urls: &[&str], about: &str, issuer: &str, seconds: u64) {
        let question = CrlQuestion {
            urls: urls.iter().map(|&url| url.to_owned()).collect(),
            certificate: certificate(about),
            issuer: certificate(issuer),
        };
        self.asked += 1;
        let id = LookupId {
            spi: IkeSpi::new(9).unwrap(),
            serial: self.asked,
        };
        let asker = (id, self.now.mono + Duration::from_secs(seconds));
        let tools = (&mut self.web, &mut self.replies);
        self.lists.ask(tools, self.now, ShardId(3), asker, question);
    }

    fn pass(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.now.wall += Duration::from_secs(seconds);
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        let wait = Some(Duration::from_millis(20));
        self.poll.poll(&mut events, wait).unwrap();
        for event in events.iter().filter(|event| event.token() != Token(0)) {
            self.web.ready(event.token(), self.now.mono);
        }
        self.web.look(self.now.mono);
        for (ticket, result) in self.web.take_done() {
            let tools = (&mut self.web, &mut self.replies);
            let ours = self.lists.fetched(tools, self.now, ticket, &result);
            assert!(ours);
        }
        self.lists
            .look((&mut self.web, &mut self.replies), self.now);
    }

    /// Goes on until nothing is being fetched.
    fn settle(&mut self) {
        while !self.lists.flights.is_empty() {
            self.turn();
        }
    }

    /// Goes on until this many have been answered; what they were told, by number.
    fn answers(&mut self, count: usize) -> Vec<(u64, Result<Status, Failure>)> {
        while self.replies.len() < count {
            self.turn();
        }
        let replies = std::mem::take(&mut self.replies).into_iter();
        let told = replies.map(|(shard, id, answer)| {
            assert_eq!(shard, ShardId(3));
            let Answer::Crl(result) = answer else {
                panic!("{answer:?}");
            };
            (id.serial, result)
        });
        told.collect()
    }

    fn answer(&mut self, url: &str, about: &str) -> Result<Status, Failure> {
        self.ask(url, about, "ca", 10);
        self.answers(1).remove(0).1
    }
}

/// A server that answers one request with each of these bodies, then ends; its URL.
fn serve(bodies: Vec<Vec<u8>>) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ca.crl", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        for body in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut some = [0; 256];
                let count = stream.read(&mut some).unwrap();
                request.extend_from_slice(&some[..count]);
            }
            assert!(request.starts_with(b"GET /ca.crl HTTP/1.0\r\n"));
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            // Who finds it too large hangs up.
            let _ = stream.write_all(&body);
        }
    });
    (url, serving)
}

fn files(names: &[&str]) -> (String, thread::JoinHandle<()>) {
    serve(names.iter().map(|name| file(name)).collect())
}

#[test]
fn all_who_ask_for_one_list_are_answered_by_one_fetch() {
    let mut desk = Desk::new();
    let (url, serving) = files(&["ca.crl"]);
    for about in ["good", "revoked", "sub", "good"] {
        desk.ask(&url, about, "ca", 10);
    }
    assert_eq!(desk.lists.flights.len(), 1);
    let told = desk.answers(4);
    for (serial, result) in told {
        let revoked = serial == 2;
        let wanted = if revoked {
            Status::Revoked
        } else {
            Status::Good
        };
        assert_eq!(result, Ok(wanted), "{serial}");
    }
    serving.join().unwrap();
    // From memory from now on: there is no server any more.
    assert_eq!(desk.answer(&url, "silent"), Ok(Status::Good));
    assert_eq!(desk.answer(&url, "revoked"), Ok(Status::Revoked));
    assert!(desk.lists.waiters.is_empty() && desk.lists.tickets.is_empty());
    let line = format!("CRL: /CN=ca/O=Example from {url}");
    assert_eq!(desk.lists.news(), Some(vec![line]));
    assert_eq!(desk.lists.news(), None);
}

#[test]
fn a_list_is_fetched_anew_after_an_hour_and_nobody_waits_for_it() {
    let mut desk = Desk::new();
    let (url, serving) = files(&["ca.crl", "make.sh", "ca.crl"]);
    assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
    desk.pass(3599);
    assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
    assert!(desk.lists.flights.is_empty());
    desk.pass(1);
    // What cannot be had leaves the old one, and is tried again soon.
    for wait in [10, 0] {
        assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
        assert_eq!(desk.lists.flights.len(), 1);
        assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
        desk.settle();
        desk.pass(wait);
    }
    serving.join().unwrap();
    assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
    assert!(desk.lists.flights.is_empty());
}

#[test]
fn a_newer_list_replaces_an_older_one_and_an_older_one_nothing() {
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let mut desk = Desk::new();
    desk.now.wall = made + Duration::from_secs(3600);
    let (url, serving) = files(&["ca.crl", "newer.crl", "ca.crl"]);
    for wanted in [Status::Good, Status::Good, Status::Revoked, Status::Revoked] {
        assert_eq!(desk.answer(&url, "good"), Ok(wanted));
        desk.settle();
        desk.pass(3600);
    }
    serving.join().unwrap();
}

#[test]
fn a_list_ends_with_its_time() {
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let mut desk = Desk::new();
    desk.now.wall = made;
    let (url, serving) = files(&["expired.crl", "expired.crl"]);
    assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
    assert_eq!(desk.lists.news().unwrap().len(), 1);
    desk.pass(31 * 86_400 + 301);
    let expired = Err(Failure::Crl(CrlError::Expired));
    assert_eq!(desk.answer(&url, "good"), expired);
    assert_eq!(desk.lists.news(), Some(vec![]));
    serving.join().unwrap();
}

#[test]
fn a_list_that_does_not_count_is_told_and_tried_again_after_a_while() {
    for (name, error) in [
        ("twin.crl", CrlError::Signer),
        ("sha1.crl", CrlError::Signer),
        ("other.crl", CrlError::Other),
        ("expired.crl", CrlError::Expired),
        ("early.crl", CrlError::Early),
        ("make.sh", CrlError::Malformed),
        ("elsewhere.crl", CrlError::Scope),
    ] {
        let mut desk = Desk::new();
        let (url, serving) = files(&[name, "later.crl"]);
        for _ in 0..3 {
            let wanted = Err(Failure::Crl(error));
            assert_eq!(desk.answer(&url, "good"), wanted, "{name}");
        }
        if error == CrlError::Scope {
            // It counts for others.
            desk.pass(3600);
            let _ = desk.answer(&url, "good");
            desk.settle();
        } else {
            desk.pass(10);
        }
        let _ = desk.answer(&url, "good");
        desk.settle();
        serving.join().unwrap();
    }
}

#[test]
fn a_server_that_is_not_there_or_sends_too_much_has_no_list() {
    let mut desk = Desk::new();
    let (url, serving) = serve(vec![vec![0; LIST_MAX + 1]]);
    let refused = Err(Failure::Http("body too large".to_owned()));
    assert_eq!(desk.answer(&url, "good"), refused);
    serving.join().unwrap();
    desk.pass(11);
    let refused = desk.answer(&url, "good");
    assert!(
        matches!(refused, Err(Failure::Unreachable(_))),
        "{refused:?}"
    );
    assert_eq!(desk.answer("ldap://ca.example/", "good"), Err(Failure::Url));
}

#[test]
fn each_who_waits_has_a_time_of_its_own_and_the_fetch_outlives_them() {
    let mut desk = Desk::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    for seconds in [2, 1, 60] {
        desk.ask(&url, "good", "ca", seconds);
    }
    assert_eq!(
        desk.lists.deadline(),
        Some(desk.now.mono + Duration::from_secs(1))
    );
    for (seconds, serial) in [(1, 2), (1, 1), (28, 3)] {
        desk.pass(seconds);
        assert_eq!(desk.answers(1), [(serial, Err(Failure::Late))]);
    }
    // From then on nobody waits for it, for a while.
    assert!(desk.lists.flights.is_empty());
    assert_eq!(desk.answer(&url, "good"), Err(Failure::Late));
}

#[test]
fn the_same_url_for_another_issuer_is_another_list() {
    let mut desk = Desk::new();
    let (url, serving) = files(&["ca.crl", "ca.crl"]);
    assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
    desk.ask(&url, "deep", "sub", 10);
    let other = Err(Failure::Crl(CrlError::Other));
    assert_eq!(desk.answers(1), [(2, other)]);
    serving.join().unwrap();
    assert_eq!(desk.answer(&url, "good"), Ok(Status::Good));
}

#[test]
fn lists_are_forgotten_by_age_before_there_are_too_many_or_too_large() {
    let mut desk = Desk::new();
    let (der, ca) = (file("ca.crl"), certificate("ca"));
    let at = seconds(desk.now);
    let mut learn = |number: usize, length| {
        desk.pass(1);
        let key = Arc::new((format!("http://192.0.2.80/{number}"), [0; 32]));
        let list = List::read(&der, &ca, at).unwrap();
        desk.lists.learn(desk.now.mono, &key, list, length);
        (desk.lists.known.len(), desk.lists.bytes())
    };
    for number in 1..=LISTS_MAX {
        assert_eq!(learn(number, 10), (number, 10 * number));
    }
    assert_eq!(learn(0, 10), (LISTS_MAX, 10 * LISTS_MAX));
    for number in 1..=4 {
        learn(number, LIST_MAX);
    }
    assert_eq!(learn(5, LIST_MAX), (4, BYTES_MAX));
}

/// A port where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/ca.crl", listener.local_addr().unwrap())
}

#[test]
fn another_place_is_tried_where_one_fails_or_has_nothing_that_counts() {
    let (broken, first) = files(&["make.sh"]);
    let (good, second) = files(&["ca.crl"]);
    let mut desk = Desk::new();
    let urls = [&nobody(), "ldap://ca.example/", &broken, &good];
    desk.ask_any(&urls, "revoked", "ca", 10);
    assert_eq!(desk.answers(1), [(1, Ok(Status::Revoked))]);
    first.join().unwrap();
    second.join().unwrap();
    // That list is there now, so nobody is asked in vain for the others.
    desk.pass(3000);
    desk.ask_any(&urls, "good", "ca", 10);
    assert_eq!(desk.answers(1), [(2, Ok(Status::Good))]);
    assert!(desk.lists.flights.is_empty());
}

#[test]
fn where_every_place_fails_the_last_ones_failure_is_told() {
    let (broken, serving) = files(&["make.sh"]);
    let mut desk = Desk::new();
    desk.ask_any(&[&nobody(), &broken], "good", "ca", 10);
    let malformed = Err(Failure::Crl(CrlError::Malformed));
    assert_eq!(desk.answers(1), [(1, malformed.clone())]);
    serving.join().unwrap();
    // Remembered of both.
    desk.ask_any(&[&nobody(), &broken], "good", "ca", 10);
    assert_eq!(desk.answers(1), [(2, malformed)]);
    assert!(desk.lists.waiters.is_empty());
}

#[test]
fn a_silent_place_is_left_for_the_next_after_two_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("http://{}/", listener.local_addr().unwrap());
    let (good, serving) = files(&["ca.crl"]);
    let mut desk = Desk::new();
    desk.ask_any(&[&mute, &good], "good", "ca", 10);
    // Who has less time than that is told when it is over.
    desk.ask_any(&[&mute, &good], "good", "ca", 1);
    let first = desk.now.mono + Duration::from_secs(1);
    assert_eq!(desk.lists.deadline(), Some(first));
    desk.pass(1);
    assert_eq!(desk.answers(1), [(2, Err(Failure::Late))]);
    assert_eq!(desk.lists.flights.len(), 1);
    desk.pass(1);
    assert_eq!(desk.answers(1), [(1, Ok(Status::Good))]);
    serving.join().unwrap();
    // The silent one is still being asked.
    assert_eq!(desk.lists.flights.len(), 1);
}
