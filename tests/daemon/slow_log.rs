//! A log that nobody reads: nobody waits for it but its own thread.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use iked::control::imsg::{Frame, Kind};

use super::client::gateway_conf;
use super::house::{House, IKED, alone, ikectl, run, wait_for};

/// More lines than a pipe, the log's thread and its mail hold.
const LINES: usize = 30_000;

/// `iked -d -vv` with its log in a pipe, once it answers.
fn start(house: &House) -> Child {
    let conf = house.write("iked.conf", &gateway_conf(&[]));
    let child = Command::new(IKED)
        .args(["-d", "-vv", "-f", &conf, "-s", &house.text("sock")])
        .args(["--config-dir", &house.text("")])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the daemon", || answers(house).then_some(()));
    child
}

fn answers(house: &House) -> bool {
    ikectl(&house.path("sock"), &["show", "stats"]).code == Some(0)
}

/// Requests of a kind that does not exist, a line for each, and one that is answered after them.
fn make_it_talk(house: &House) {
    let mut stream = UnixStream::connect(house.path("sock")).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..LINES {
        Frame::new(Kind(9999), 0, Vec::new()).encode(&mut bytes);
    }
    Frame::new(Kind::SHOW_STATS, 0, Vec::new()).encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
    assert!(stream.read(&mut [0; 64]).unwrap() > 0);
}

fn terminate(child: &mut Child) {
    let pid = child.id().to_string();
    let said = run(Command::new("kill").args(["-TERM", &pid]), b"");
    assert_eq!(said.code, Some(0), "{said:?}");
    let status = wait_for("the daemon's end", || child.try_wait().unwrap());
    assert!(status.success(), "{status:?}");
}

#[test]
fn nobody_waits_for_a_log_that_nobody_reads_and_what_is_lost_is_counted() {
    alone(|| {
        let house = House::new();
        let mut daemon = start(&house);
        make_it_talk(&house);
        assert!(answers(&house));
        // Read at last, it has every line or says that it is missing.
        let mut log = BufReader::new(daemon.stderr.take().unwrap()).lines();
        let (mut told, mut lost) = (0, 0);
        while told + lost < LINES {
            let line = log.next().unwrap().unwrap();
            told += usize::from(line == "control request 9999 is unknown");
            let missing = line.strip_suffix(" lines lost, the log was too slow");
            lost += missing.map_or(0, |number| number.parse::<usize>().unwrap());
        }
        // Of those that are missing a few may have been about something else.
        assert!(lost > 0 && told + lost < LINES + 10, "{told} {lost}");
        terminate(&mut daemon);
        // Nor does its end wait for it.
        let mut daemon = start(&house);
        make_it_talk(&house);
        terminate(&mut daemon);
    });
}
