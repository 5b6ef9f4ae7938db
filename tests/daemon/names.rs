//! Host names in iked.conf(5): asked for when it is read, and again by a reload. The names are those
//! of a file of the test's own; nobody outside is asked.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use iked::wire::registry::KeId;

use super::client::gateway_conf;
use super::house::{Daemon, House, alone, run};
use super::probe::ask;

/// A file that takes the place of another in this host.
fn instead(house: &House, of: &str, text: &str) {
    let name = of.rsplit('/').next().unwrap();
    let path = house.path(name);
    fs::write(&path, text).unwrap();
    let said = run(Command::new("mount").arg("--bind").arg(&path).arg(of), b"");
    assert_eq!(said.code, Some(0), "{said:?}");
}

fn names(house: &House, text: &str) {
    // The same file, which is mounted.
    fs::write(house.path("hosts"), text).unwrap();
}

fn with_names() -> House {
    let house = House::new();
    instead(&house, "/etc/hosts", "192.0.2.7 gate.example\n");
    instead(
        &house,
        "/etc/nsswitch.conf",
        "hosts: files\nservices: files\nprotocols: files\n",
    );
    house
}

const POLICY: &str =
    "ikev2 \"named\" esp from net.example/24 to 10.9.0.0/16 peer gate.example psk \"a\"\n";

/// The peer of the policy with a name in it.
fn peer(daemon: &Daemon) -> String {
    let shown = daemon.shows(&["show", "policy"]);
    let line = shown
        .lines()
        .find(|line| line.contains("\"named\""))
        .unwrap();
    let (_, rest) = line.split_once(" peer ").unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_name_that_nobody_knows_is_an_error_with_its_place() {
    alone(|| {
        let house = with_names();
        let file = house.write("named.conf", &format!("\n{POLICY}"));
        let said = house.iked(&["-n", "-f", &file]);
        let end = "no IP address found for net.example: could not parse host specification\n";
        assert_eq!(said.code, Some(1));
        assert_eq!(said.err, format!("{file}: 2: {end}"));
        names(&house, "192.0.2.7 gate.example\n10.8.3.4 net.example\n");
        let said = house.iked(&["-nv", "-f", &file]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let flow = " from 10.8.3.4/24 to 10.9.0.0/16 local any peer 192.0.2.7 ";
        assert!(said.err.contains(flow), "{said:?}");
    });
}

#[test]
fn a_reload_asks_again_and_without_an_answer_everything_stays() {
    alone(|| {
        let house = with_names();
        let known = "10.8.3.4 net.example\n192.0.2.7 gate.example\n";
        names(&house, known);
        let conf = gateway_conf(&[]) + POLICY;
        let daemon = house.start(&conf, &["--shards", "2"]);
        assert_eq!(peer(&daemon), "192.0.2.7");
        names(&house, &known.replace("192.0.2.7", "192.0.2.9"));
        assert_eq!(daemon.ikectl(&["reload"]).code, Some(0));
        assert_eq!(peer(&daemon), "192.0.2.9");
        names(&house, "10.8.3.4 net.example\n");
        let said = daemon.ikectl(&["reload"]);
        assert_eq!(said.code, Some(1));
        let line = gateway_conf(&[]).lines().count() + 1;
        let reason = format!("iked.conf: {line}: no IP address found for gate.example: ");
        assert!((said.out + &said.err).contains(&reason));
        let log = daemon.said();
        assert!(log.contains(&reason), "{log}");
        assert_eq!(peer(&daemon), "192.0.2.9");
    });
}

#[test]
fn peers_are_answered_while_a_reload_waits_for_a_name_that_nobody_answers_for() {
    alone(|| {
        let house = with_names();
        names(&house, "10.8.3.4 net.example\n192.0.2.7 gate.example\n");
        let daemon = house.start(&(gateway_conf(&[]) + POLICY), &["--shards", "1"]);
        let deaf = UdpSocket::bind("127.0.0.9:53").unwrap();
        deaf.set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let server = "nameserver 127.0.0.9\noptions timeout:40 attempts:1\n";
        instead(&house, "/etc/resolv.conf", server);
        fs::write(house.path("nsswitch.conf"), "hosts: files dns\n").unwrap();
        names(&house, "10.8.3.4 net.example\n");
        thread::scope(|scope| {
            let start = Instant::now();
            let reload = scope.spawn(|| daemon.ikectl(&["reload"]));
            deaf.recv_from(&mut [0; 512]).expect("a question");
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let gateway = "127.0.0.1:500".parse().unwrap();
            assert_eq!(
                ask(&socket, gateway, false, 0x5eed),
                (KeId::CURVE25519, gateway)
            );
            assert!(!reload.is_finished());
            let said = reload.join().unwrap();
            let took = start.elapsed();
            assert_eq!(said.code, Some(1));
            let reason = "no answer in time for gate.example: could not parse host specification";
            assert!((said.out + &said.err).contains(reason));
            assert!((9..30).contains(&took.as_secs()), "{took:?}");
        });
        assert_eq!(peer(&daemon), "192.0.2.7");
    });
}
