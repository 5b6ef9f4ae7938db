//! A client's certificate, and the revocation list that it names. Keys, certificates and lists are those
//! of `tests/vectors/crl`; the server is this program.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use iked::ike::Stats;

use super::certified::{Vectors, black_hole, five_wait, others_get_in, said};
use super::client::Client;
use super::house::{Daemon, House, alone, ip, wait_for};

/// What the certificates name.
const SERVER: &str = "192.0.2.80:8081";

const VECTORS: Vectors = Vectors {
    folder: "crl",
    gateway: "silent",
    clients: &["good", "revoked", "deep", "silent"],
    between: &["sub"],
};

fn file(name: &str) -> Vec<u8> {
    VECTORS.read(name)
}

fn gateway(house: &House, crl: &str) -> Daemon {
    VECTORS.gateway(house, &format!("crl {crl}"))
}

fn certified(name: &str, last: u8) -> Client {
    VECTORS.client(name, last)
}

/// What a server has.
#[derive(Clone, Copy, Debug)]
enum Has {
    /// This file, whatever it is asked for.
    File(&'static str),
    /// What it is asked for.
    All,
    /// This file, a byte in each of so many milliseconds.
    Slowly(&'static str, u64),
    /// More than anybody wants.
    Flood,
    /// Nothing under this name.
    Nothing,
    /// Something that is no HTTP.
    Noise,
}

/// A web server; it ends with the test.
#[derive(Clone)]
struct Site {
    has: Arc<Mutex<Has>>,
    /// How many requests it got.
    asked: Arc<AtomicUsize>,
}

impl Site {
    fn new(has: Has) -> Self {
        let site = Self {
            has: Arc::new(Mutex::new(has)),
            asked: Arc::default(),
        };
        let listener = TcpListener::bind(SERVER).unwrap();
        let serving = site.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serving.asked.fetch_add(1, Ordering::SeqCst);
                let has = *serving.has.lock().unwrap();
                thread::spawn(move || answer(stream.unwrap(), has));
            }
        });
        site
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Whoever hangs up has heard enough.
fn answer(mut stream: TcpStream, has: Has) {
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut some = [0; 256];
        match stream.read(&mut some) {
            Ok(count) if count > 0 => request.extend_from_slice(&some[..count]),
            Ok(_) | Err(_) => return,
        }
    }
    let head = b"HTTP/1.0 200 OK\r\nContent-Type: application/pkix-crl\r\n\r\n";
    let _ = match has {
        Has::File(name) => stream.write_all(&[head, &*file(name)].concat()),
        Has::All => {
            let request = String::from_utf8(request).unwrap();
            let (_, name) = request.split_once("GET /").unwrap();
            let (name, _) = name
                .split_once(" HTTP/1.0\r\nHost: 192.0.2.80:8081")
                .unwrap();
            stream.write_all(&[head, &*file(name)].concat())
        }
        Has::Slowly(name, pause) => [head, &*file(name)].concat().chunks(1).try_for_each(|one| {
            thread::sleep(Duration::from_millis(pause));
            stream.write_all(one)
        }),
        Has::Flood => {
            let _ = stream.write_all(head);
            let zeros = [0; 65_536];
            (0..1024).try_for_each(|_| stream.write_all(&zeros))
        }
        Has::Nothing => stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n"),
        Has::Noise => stream.write_all(b"SSH-2.0-OpenSSH\r\n"),
    };
}

#[test]
fn the_lists_that_a_chain_names_decide_who_gets_in() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let house = House::new();
        let daemon = gateway(&house, "fetch");
        let site = Site::new(Has::All);
        certified("good", 1).establish();
        certified("revoked", 2).fail();
        said(&daemon, "certificate: revoked");
        certified("deep", 3).establish();
        // It names none.
        certified("silent", 4).establish();
        assert_eq!(site.asked(), 2, "each list once");
        assert_eq!(daemon.count("lookups"), 4);
        assert_eq!(daemon.count("lookup failures"), 1);
        let shown = daemon.shows(&["show", "certstore"]);
        for (issuer, list) in [("ca", "ca.crl"), ("sub", "sub.crl")] {
            let line = format!("CRL: /CN={issuer}/O=Example from http://{SERVER}/{list}");
            assert!(shown.contains(&line), "{shown}");
        }
        let shown = daemon.shows(&["--json", "show", "certstore"]);
        let url = format!("\"http://{SERVER}/ca.crl\"");
        assert!(shown.contains(&url), "{shown}");
    });
}

#[test]
fn a_list_that_does_not_count_refuses_or_is_done_without() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let site = Site::new(Has::Nothing);
        for (has, words) in [
            (Has::File("twin.crl"), "CRL of a wrong signer"),
            (Has::File("sha1.crl"), "CRL of a wrong signer"),
            (Has::File("expired.crl"), "CRL expired"),
            (Has::File("early.crl"), "CRL not yet valid"),
            (Has::File("other.crl"), "CRL of another issuer"),
            (Has::File("elsewhere.crl"), "CRL not about this certificate"),
            (Has::File("make.sh"), "malformed CRL"),
            (Has::Flood, "HTTP: body too large"),
            (Has::Nothing, "HTTP: status 404"),
            (Has::Noise, "HTTP: "),
        ] {
            *site.has.lock().unwrap() = has;
            let house = House::new();
            let daemon = gateway(&house, "fetch");
            certified("good", 1).fail();
            said(&daemon, &format!("certificate: not confirmed: {words}"));
            drop(daemon);
            let house = House::new();
            let daemon = gateway(&house, "try");
            certified("good", 2).establish();
            said(&daemon, &format!("revocation not looked up: {words}"));
        }
    });
}

#[test]
fn without_a_server_the_same() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let house = House::new();
        let daemon = gateway(&house, "fetch");
        certified("good", 1).fail();
        said(&daemon, "certificate: not confirmed: server not reached: ");
        drop(daemon);
        let house = House::new();
        let daemon = gateway(&house, "try");
        certified("good", 2).establish();
        said(&daemon, "revocation not looked up: server not reached: ");
        // Once there is a server its list counts, after a while.
        Site::new(Has::File("later.crl"));
        wait_for("a revocation", || {
            let mut client = certified("good", 3);
            client.begin();
            client.turn_until("an end", |stats| {
                stats.sa_established_failures + stats.sa_established_current == 1
            });
            (client.stats().sa_established_failures == 1).then_some(())
        });
        said(&daemon, "certificate: revoked");
    });
}

#[test]
fn a_file_goes_before_what_is_fetched() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let site = Site::new(Has::File("later.crl"));
        let house = House::new();
        let daemon = gateway(&house, "fetch");
        let to_pem = |name: &str| {
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["crl", "-inform", "DER", "-in"]);
            openssl.arg(VECTORS.path(name)).arg("-out");
            openssl.arg(house.path("crls/ca.crl"));
            assert!(openssl.status().unwrap().success());
            daemon.shows(&["reset", "ca"]);
        };
        to_pem("later.crl");
        certified("good", 1).fail();
        said(&daemon, "certificate: certificate revoked");
        assert_eq!(site.asked(), 0);
        // The file has nothing against it, but the list has.
        to_pem("ca.crl");
        certified("good", 2).fail();
        said(&daemon, "certificate: revoked");
        assert_eq!(site.asked(), 1);
    });
}

#[test]
fn who_waits_for_a_slow_server_gets_in_late_and_holds_up_nobody() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let house = House::new();
        let daemon = gateway(&house, "fetch");
        // More than a second in all.
        Site::new(Has::Slowly("ca.crl", 10));
        let mut waiting = certified("good", 1);
        let since = Instant::now();
        waiting.begin();
        waiting.turn_until("IKE_AUTH", |_| daemon.count("lookups") == 1);
        others_get_in(20);
        assert_eq!(daemon.count("IKE SA established"), 20);
        waiting.turn_until("the list", |stats| stats.sa_established_current == 1);
        assert!(since.elapsed() > Duration::from_secs(2));
    });
}

/// Five wait in the black hole, twenty get in, and the five come to this end.
fn in_the_black_hole(word: &str, is_over: fn(&Stats) -> bool, words: &str) {
    black_hole();
    let house = House::new();
    let daemon = gateway(&house, word);
    let mut waiting = five_wait(&daemon, |last| certified("good", last));
    for client in &mut waiting {
        client.turn_until("an end", is_over);
    }
    said(&daemon, words);
    assert_eq!(daemon.count("lookup failures"), 5);
}

#[test]
fn a_black_hole_holds_up_nobody_and_ends_in_a_refusal() {
    alone(|| {
        let refused = |stats: &Stats| stats.sa_established_failures == 1;
        let words = "certificate: not confirmed: no answer in time";
        in_the_black_hole("fetch", refused, words);
    });
}

#[test]
fn where_a_list_need_not_be_had_a_black_hole_only_delays() {
    alone(|| {
        let up = |stats: &Stats| stats.sa_established_current == 1;
        let words = "revocation not looked up: no answer in time";
        in_the_black_hole("try", up, words);
    });
}
