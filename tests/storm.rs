//! A storm: ten million datagrams of noise and of mutated, cut, repeated and forged messages at a
//! running daemon with IKE SAs that are up. No fault, no growth, and the IKE SAs live on.
//!
//! `IKED_STORM_COUNT` makes it shorter. It runs in a network namespace of its own, as root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "the daemon runs in real time, and so does who waits for it"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use client::{Client, Ports, gateway_conf};
use house::{Daemon, House, alone, ip, singular, wait_for};
use weather::Seeds;
use wind::{Sent, Wind};

#[path = "daemon/client.rs"]
#[allow(dead_code, reason = "shared with the daemon tests")]
mod client;
#[path = "daemon/house.rs"]
#[allow(dead_code, reason = "shared with the daemon tests")]
mod house;
#[path = "storm/weather.rs"]
mod weather;
#[path = "storm/wind.rs"]
mod wind;

#[test]
fn ten_million_datagrams_leave_everything_as_it_is() {
    alone(|| {
        let count = std::env::var("IKED_STORM_COUNT").map_or(COUNT, |text| text.parse().unwrap());
        let house = House::new();
        let conf = gateway_conf(&["halfopen_timeout 5"]);
        let mut daemon = house.start(&conf, &["--shards", "2"]);
        let mut clients = clients();
        let shown = established(&daemon);
        assert_eq!(shown.len(), clients.len());
        let tape = clients.iter().flat_map(|client| client.tape.clone());
        let wind = Wind::new(count, Seeds::new(tape.collect()));

        let before = daemon.counters();
        let began = Instant::now();
        let mut sent = wind.blow(count / 2);
        let settled = resident(&daemon);
        sent += wind.blow(count - count / 2);
        let grown = resident(&daemon).saturating_sub(settled);
        let took = began.elapsed();

        let counted = since(&before, &daemon.counters());
        tell(&format!(
            "{sent:?} in {took:.1?}, RSS {settled} + {grown} kB\n{counted:#?}"
        ));
        assert_eq!(sent.datagrams, count);
        assert_arrived(&sent, &counted);
        assert_counted(&counted);
        assert!(grown <= GROWTH_MAX_KB, "{settled} kB and {grown} kB more");
        assert!(daemon.is_alive());
        assert_eq!(established(&daemon), shown);
        assert_quiet(&daemon, took);
        for client in &mut clients {
            client.ask_for_life();
        }
        assert_eq!(established(&daemon), shown);
        wait_for("the half-open IKE SAs to go", || {
            thread::sleep(Duration::from_millis(200));
            (daemon.count("half_open") == 0).then_some(())
        });
        part(&daemon, clients);
        daemon.signal("-TERM");
        assert_eq!(daemon.wait().code(), Some(0));
    });
}

/// Clients on both ports and of both families, with their IKE SAs up and some requests answered.
fn clients() -> Vec<Client> {
    let v4 = |last: u8| IpAddr::from([127, 0, 0, last]);
    let v6 = |last: u16| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]);
    ip("addr add fd00::1/128 dev lo nodad");
    let mut clients = Vec::new();
    for number in 1..=8 {
        let ports = [Ports::Own, Ports::Translated][usize::from(number % 2)];
        let name = format!("storm{number}.example");
        let last = 10 + number;
        let mut client = if number <= 6 {
            Client::new(&name, v4(last), v4(1), ports)
        } else {
            ip(&format!("addr add {}/128 dev lo nodad", v6(last.into())));
            Client::new(&name, v6(last.into()), v6(1), ports)
        };
        client.establish();
        for _ in 0..number % 3 {
            client.ask_for_life();
        }
        clients.push(client);
    }
    clients
}

/// The lines of `ikectl show sa` about established IKE SAs.
fn established(daemon: &Daemon) -> Vec<String> {
    let shown = daemon.shows(&["show", "sa"]);
    let lines = shown
        .lines()
        .filter(|line| line.contains("] ESTABLISHED r"));
    lines.map(str::to_owned).collect()
}

/// Bytes of memory in use, in units of 1024.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

fn since(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = after
        .iter()
        .map(|(name, count)| (name.clone(), count.saturating_sub(before[name])));
    grown.filter(|(_, count)| *count > 0).collect()
}

/// The storm was no storm if it ended in the kernel's queues.
fn assert_arrived(sent: &Sent, counted: &BTreeMap<String, u64>) {
    let received = counted[&singular("message received")];
    assert!(
        received + sent.lost >= sent.due && received <= sent.datagrams,
        "{received} of {sent:?}"
    );
    assert!(
        received >= sent.datagrams / 100 * 95,
        "{received} of {sent:?}"
    );
}

/// Everything there is to be counted was.
fn assert_counted(counted: &BTreeMap<String, u64>) {
    for name in [
        "message dropped",
        "message sent",
        "response retransmitted",
        "fragment received",
        "cookies_sent",
        "decode_errors",
        "version_errors",
        "unknown_spi",
        "integrity_errors",
        "unexpected",
        "notifies_sent",
    ] {
        assert!(counted.contains_key(&singular(name)), "no {name}");
    }
    for name in [
        "faults",
        // The kernel gave every one of them to its owner.
        "forwarded",
        "IKE SA established",
        "IKE SA currently established",
        "Child SA created",
        "Child SA removed",
        "leases",
        "kernel_failures",
        "fragment reassembled",
    ] {
        assert!(!counted.contains_key(&singular(name)), "{name}");
    }
}

/// Nothing panicked, and the log was not flooded.
fn assert_quiet(daemon: &Daemon, took: Duration) {
    let log = daemon.said();
    for word in ["panicked", "fault of its own"] {
        assert!(!log.contains(word), "{log}");
    }
    // 20 lines a second that anybody may cause, one that says how many are missing, and those of
    // the clients.
    let lines_max = 21 * (took.as_secs() + 5) + 100;
    let lines = log.lines().count() as u64;
    assert!(lines <= lines_max, "{lines} lines in {took:?}");
}

/// Half of the clients delete their IKE SA, those of the others are deleted by the daemon; all are
/// believed.
fn part(daemon: &Daemon, mut clients: Vec<Client>) {
    for (number, client) in (1..).zip(&mut clients) {
        if number % 2 == 0 {
            client.say_goodbye();
        } else {
            daemon.shows(&["reset", "id", &format!("FQDN/storm{number}.example")]);
            wait_for("the Delete", || {
                client.turn();
                (client.stats().sa_established_current == 0).then_some(())
            });
        }
    }
    wait_for("all IKE SAs to go", || {
        daemon.shows(&["show", "sa"]).is_empty().then_some(())
    });
    assert_eq!(daemon.count("IKE SA currently established"), 0);
    assert_eq!(
        daemon.count("IKE SA created"),
        daemon.count("IKE SA removed")
    );
    assert_eq!(
        daemon.count("Child SA created"),
        daemon.count("Child SA removed")
    );
}

#[expect(clippy::print_stderr, reason = "what it came to")]
fn tell(text: &str) {
    eprintln!("{text}");
}

/// Datagrams.
const COUNT: u64 = 10_000_000;
/// What the second half may add to the memory in use: less than a byte for each datagram.
const GROWTH_MAX_KB: u64 = 2048;
