//! A client's certificate, and what the responder of its issuer says of it. Keys, certificates and
//! recorded responses are those of `tests/vectors/ocsp`; responders are openssl(1), or this program.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::certified::{Vectors, black_hole, five_wait, others_get_in, said};
use super::client::Client;
use super::house::{Daemon, House, alone, ip, run, wait_for};

/// What the issuer's certificate names.
const RESPONDER: &str = "192.0.2.80:8080";

const VECTORS: Vectors = Vectors {
    folder: "ocsp",
    gateway: "delegate",
    clients: &["good", "revoked"],
    between: &[],
};

fn vector(name: &str) -> String {
    VECTORS.path(name).to_str().unwrap().to_owned()
}

fn gateway(house: &House, ocsp: &str) -> Daemon {
    VECTORS.gateway(house, &format!("ocsp {ocsp}"))
}

fn certified(name: &str, last: u8) -> Client {
    VECTORS.client(name, last)
}

/// `openssl ocsp`; killed when dropped.
struct OpenSsl(Child);

impl OpenSsl {
    /// One that knows of these certificates: name, and whether it is revoked.
    fn start(house: &House, certificates: &[(&str, bool)]) -> Self {
        let mut index = String::new();
        for (name, revoked) in certificates {
            let file = vector(&format!("{name}.crt"));
            let words = ["x509", "-noout", "-serial", "-in", &file];
            let serial = run(Command::new("openssl").args(words), b"").out;
            let serial = serial.trim().strip_prefix("serial=").unwrap();
            let (letter, since) = if *revoked {
                ("R", "260601000000Z")
            } else {
                ("V", "")
            };
            index +=
                &format!("{letter}\t21260101000000Z\t{since}\t{serial}\tunknown\t/CN={name}\n");
        }
        let index = house.write("index.txt", &index);
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-port", "8080", "-ndays", "1", "-ignore_err"]);
        command.args(["-index", &index, "-CA", &vector("ca.crt")]);
        command.args([
            "-rsigner",
            &vector("delegate.crt"),
            "-rkey",
            &vector("delegate.key"),
        ]);
        let log = File::create(house.path("openssl.log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = Self(command.spawn().unwrap());
        // Not by connecting: it would wait for a request from then on.
        wait_for("openssl ocsp", || {
            let said = fs::read_to_string(house.path("openssl.log")).unwrap();
            said.contains("waiting for OCSP").then_some(())
        });
        child
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes one request and answers with this recorded response.
fn answer(listener: &TcpListener, name: &str) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut some = [0; 256];
        let count = stream.read(&mut some).unwrap();
        request.extend_from_slice(&some[..count]);
    }
    assert!(request.starts_with(b"POST /ocsp HTTP/1.0\r\nHost: 192.0.2.80:8080\r\n"));
    let body = fs::read(vector(name)).unwrap();
    let head = "HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
}

/// Tries to get in with the certificate `good` while a responder says what is recorded; the log has
/// this afterwards.
fn is_refused(daemon: &Daemon, recorded: &str, last: u8, words: &str) {
    let listener = TcpListener::bind(RESPONDER).unwrap();
    let recorded = recorded.to_owned();
    let answering = std::thread::spawn(move || answer(&listener, &recorded));
    certified("good", last).fail();
    answering.join().unwrap();
    said(daemon, words);
}

#[test]
fn the_issuers_responder_decides_who_gets_in() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let house = House::new();
        // The URL of the configuration is for issuers that name none.
        let daemon = gateway(&house, "\"http://127.0.0.1:1/\"");
        let responder = OpenSsl::start(&house, &[]);
        certified("good", 1).fail();
        said(&daemon, "certificate: unknown to its OCSP responder");
        drop(responder);
        certified("good", 2).fail();
        said(&daemon, "certificate: not confirmed: server not reached: ");
        let responder = OpenSsl::start(&house, &[("good", false), ("revoked", true)]);
        certified("good", 3).establish();
        certified("revoked", 4).fail();
        said(&daemon, "certificate: revoked");
        assert_eq!(daemon.count("lookups"), 4);
        assert_eq!(daemon.count("lookup failures"), 3);
        // What it said a moment ago still holds.
        drop(responder);
        certified("good", 5).establish();
    });
}

#[test]
fn a_response_that_does_not_count_lets_nobody_in() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let house = House::new();
        let daemon = gateway(&house, "\"http://127.0.0.1:1/\" tolerate 1m maxage 1m");
        let wrong = "certificate: not confirmed: OCSP response of a wrong signer";
        is_refused(&daemon, "foreign.der", 1, wrong);
        is_refused(
            &daemon,
            "revoked.der",
            2,
            "OCSP response about another certificate",
        );
        is_refused(
            &daemon,
            "good.der",
            3,
            "certificate: not confirmed: OCSP response expired",
        );
        is_refused(
            &daemon,
            "refused.der",
            4,
            "OCSP responder refuses with status 3",
        );
        is_refused(&daemon, "make.sh", 5, "malformed OCSP response");
        // The same signer, trusted by the administrator: then only its age is wrong.
        fs::copy(vector("foreign.crt"), house.path("ocsp/responder.crt")).unwrap();
        daemon.shows(&["reset", "ca"]);
        let expired = |daemon: &Daemon| daemon.said().matches("OCSP response expired").count();
        assert_eq!(expired(&daemon), 1);
        is_refused(&daemon, "foreign.der", 6, "OCSP response expired");
        wait_for("the second", || (expired(&daemon) == 2).then_some(()));
        assert_eq!(daemon.count("IKE SA currently established"), 0);
    });
}

#[test]
fn who_waits_for_a_slow_responder_gets_in_late_and_holds_up_nobody() {
    alone(|| {
        ip("addr add 192.0.2.80/32 dev lo");
        let house = House::new();
        let daemon = gateway(&house, "\"http://127.0.0.1:1/\"");
        let listener = TcpListener::bind(RESPONDER).unwrap();
        let mut waiting = certified("good", 1);
        waiting.begin();
        waiting.turn_until("IKE_AUTH", |_| daemon.count("lookups") == 1);
        others_get_in(20);
        waiting.turn();
        assert_eq!(waiting.stats().sa_established_total, 0);
        assert_eq!(daemon.count("IKE SA established"), 20);
        let answering = std::thread::spawn(move || answer(&listener, "good.der"));
        waiting.turn_until("the answer", |stats| stats.sa_established_current == 1);
        answering.join().unwrap();
        assert_eq!(daemon.count("IKE SA established"), 21);
    });
}

#[test]
fn a_black_hole_holds_up_nobody_and_ends_in_a_refusal() {
    alone(|| {
        black_hole();
        let to: SocketAddr = RESPONDER.parse().unwrap();
        assert!(TcpStream::connect_timeout(&to, std::time::Duration::from_millis(200)).is_err());
        let house = House::new();
        let daemon = gateway(&house, "\"http://127.0.0.1:1/\"");
        let mut waiting = five_wait(&daemon, |last| certified("good", last));
        for client in &mut waiting {
            client.turn_until("the refusal", |stats| stats.sa_established_failures == 1);
        }
        said(&daemon, "certificate: not confirmed: no answer in time");
        assert_eq!(daemon.count("lookup failures"), 5);
    });
}

#[test]
fn a_client_that_shows_what_its_responder_said_gets_in_without_another_question() {
    alone(|| {
        // There is no responder at all.
        let house = House::new();
        let ask = "\"http://127.0.0.1:1/\" tolerate 1m maxage";
        let daemon = gateway(&house, &format!("{ask} 876000h"));
        let mut client = certified("good", 1);
        client.shows = Some(fs::read(vector("good.der")).unwrap());
        client.establish();
        assert_eq!(daemon.count("lookups"), 0);
        let mut client = certified("revoked", 2);
        client.shows = Some(fs::read(vector("revoked.der")).unwrap());
        client.fail();
        said(&daemon, "certificate: revoked");
        assert_eq!(daemon.count("lookups"), 0);
        // Another's, or nothing.
        for (shows, last) in [(Some("good.der"), 3), (None, 4)] {
            let mut client = certified("revoked", last);
            client.shows = shows.map(|name| fs::read(vector(name)).unwrap());
            client.fail();
            assert_eq!(daemon.count("lookups"), u64::from(last) - 2);
        }
        said(&daemon, "certificate: not confirmed: server not reached: ");
    });
}
