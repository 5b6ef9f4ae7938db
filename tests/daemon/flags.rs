//! The flags of iked(8): each one acts.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use iked::control::imsg::{Frame, Kind};
use iked::crypto::boring;
use iked::ike::exchange::sa_init::find_notify;
use iked::ike::natt;
use iked::wire::registry::{KeId, NotifyType};
use iked::wire::spi::IkeSpi;
use iked::wire::{Message, Notify, Payload};

use super::client::{IKE_PORT, NATT_PORT, SUITE, gateway_conf};
use super::house::{Daemon, House, IKED, Said, alone, run, wait_for};
use super::probe::{ask, receive, sa_init, send};

fn refused(said: &Said, line: &str) {
    let expected = (Some(1), "", format!("{line}\n"));
    assert_eq!((said.code, &*said.out, said.err.clone()), expected);
}

const USAGE: &str = "usage: iked [-dnSTtVv] [-D macro=value] [-f file] [-p udpencap_port] \
                     [-s socket] [--config-dir dir] [--shards n]";

#[test]
fn capital_v_prints_the_version_and_does_nothing_else() {
    let house = House::new();
    let said = house.iked(&["-V", "-f", "/nonexistent"]);
    let version = concat!(
        "iked ",
        env!("CARGO_PKG_VERSION"),
        " (OpenIKED compatible)\n"
    );
    assert_eq!((said.code, &*said.out, &*said.err), (Some(0), "", version));
}

#[test]
fn n_checks_the_configuration_for_anybody() {
    let house = House::new();
    let conf = house.write("iked.conf", &gateway_conf(&[]));
    // The program may lie where only root can go.
    let program = house.path("iked");
    fs::copy(IKED, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&conf, Some(NOBODY), None).unwrap();
    let user = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command.args(["--bounding-set", "-all", "--"]);
    command.arg(&program).args(["-n", "-f", &conf]);
    let said = run(&mut command, b"");
    let ok = (Some(0), "", "configuration OK\n");
    assert_eq!((said.code, &*said.out, &*said.err), ok);
}

#[test]
fn n_names_file_and_line_of_everything_that_is_wrong() {
    let house = House::new();
    let text = "set decouple\nset nonsense\n\nikev2 esp from any\n";
    let conf = house.write("iked.conf", text);
    let said = house.iked(&["-n", "-f", &conf]);
    assert_eq!((said.code, &*said.out), (Some(1), ""));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, number) in lines.iter().zip([2, 4]) {
        let message = line.strip_prefix(&format!("{conf}: {number}: "));
        assert!(message.is_some_and(|message| message.len() > 5), "{line}");
    }
}

#[test]
fn f_dash_reads_standard_input() {
    let stdin = |text: &str| run(Command::new(IKED).args(["-n", "-f", "-"]), text.as_bytes());
    let said = stdin(&gateway_conf(&[]));
    assert_eq!((said.code, &*said.err), (Some(0), "configuration OK\n"));
    let said = stdin("\nset nonsense\n");
    assert_eq!(said.code, Some(1));
    assert!(said.err.starts_with("stdin: 2: "), "{}", said.err);
}

#[test]
fn capital_d_defines_macros_that_beat_those_of_the_file() {
    let house = House::new();
    let text = "far = \"10.1.0.0/16\"\nikev2 esp from $near to $far psk \"x\"\n";
    let conf = house.write("iked.conf", text);
    let undefined = house.iked(&["-n", "-f", &conf]);
    assert_eq!(undefined.code, Some(1));
    let line = format!("{conf}: 2: macro 'near' not defined");
    assert!(undefined.err.starts_with(&line), "{}", undefined.err);
    let macros = ["-D", "near=10.8.0.0/16", "-Dfar=10.9.0.0/16"];
    let said = house.iked(&[&["-nv", "-f", &conf], macros.as_slice()].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    let flow = "from 10.8.0.0/16 to 10.9.0.0/16";
    assert!(said.err.contains(flow), "{}", said.err);
    let said = house.iked(&["-n", "-f", &conf, "-D", "near"]);
    let line = "could not parse macro definition near";
    assert!(said.err.contains(line), "{}", said.err);
}

#[test]
fn v_prints_the_configuration_and_a_second_one_details() {
    alone(|| {
        let house = House::new();
        let conf = house.write("iked.conf", &gateway_conf(&[]));
        let said = house.iked(&["-n", "-v", "-f", &conf]);
        assert_eq!(said.code, Some(0));
        assert!(said.err.starts_with("set decouple\nikev2 \"clients\" "));
        assert!(said.err.ends_with("configuration OK\n"), "{}", said.err);
        assert!(!said.err.contains("a secret"), "{}", said.err);
        let loud = |daemon: &Daemon| daemon.said().contains("control request 9999 is unknown");
        for (flag, expected) in [("-v", false), ("-vv", true)] {
            let daemon = house.start(&gateway_conf(&[]), &[flag]);
            assert!(daemon.said().contains("ikev2 \"clients\" "));
            ask_nonsense(&house);
            assert_eq!(loud(&daemon), expected, "{flag}: {}", daemon.log());
            let other = if expected { "brief" } else { "verbose" };
            daemon.shows(&["log", other]);
            let before = daemon.said().matches("request 9999").count();
            ask_nonsense(&house);
            let after = daemon.said().matches("request 9999").count();
            assert_eq!(after - before, usize::from(!expected), "log {other}");
        }
        let quiet = house.start(&gateway_conf(&[]), &[]);
        assert!(!quiet.said().contains("ikev2 \"clients\""));
    });
}

/// A request of a kind that does not exist: worth a line of detail. The answer to the next one
/// shows that it was read.
fn ask_nonsense(house: &House) {
    let mut stream = UnixStream::connect(house.path("sock")).unwrap();
    let mut bytes = Vec::new();
    for kind in [Kind(9999), Kind::SHOW_STATS] {
        Frame::new(kind, 0, Vec::new()).encode(&mut bytes);
    }
    stream.write_all(&bytes).unwrap();
    assert!(std::io::Read::read(&mut stream, &mut [0; 64]).unwrap() > 0);
}

/// The UDP ports of this network namespace.
fn udp_ports() -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().skip(1) {
            let local = line.split_whitespace().nth(1).unwrap();
            let (_, port) = local.rsplit_once(':').unwrap();
            ports.insert(u16::from_str_radix(port, 16).unwrap());
        }
    }
    ports
}

#[test]
fn p_t_and_capital_t_choose_the_ports() {
    alone(|| {
        let house = House::new();
        let cases: [(&[&str], &[u16]); 4] = [
            (&[], &[IKE_PORT, NATT_PORT]),
            (&["-p", "4599"], &[4599]),
            (&["-t"], &[NATT_PORT]),
            (&["-T"], &[IKE_PORT]),
        ];
        for (flags, ports) in cases {
            let daemon = house.start(&gateway_conf(&[]), flags);
            assert_eq!(udp_ports(), ports.iter().copied().collect(), "{flags:?}");
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            for &port in ports {
                let to = ([127, 0, 0, 1], port).into();
                let answer = ask(&socket, to, port != IKE_PORT, u64::from(port));
                assert_eq!(answer, (KeId::CURVE25519, to), "{flags:?}");
            }
            drop(daemon);
        }
    });
}

#[test]
fn t_pretends_a_nat_and_capital_t_knows_of_none() {
    alone(|| {
        let house = House::new();
        // Which of the two NAT detection hashes come, and whether the source's is our address.
        let cases = [("-v", Some(true)), ("-t", Some(false)), ("-T", None)];
        for (flag, expected) in cases {
            let _daemon = house.start(&gateway_conf(&[]), &[flag]);
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let marker = flag == "-t";
            let port = if marker { NATT_PORT } else { IKE_PORT };
            let to = ([127, 0, 0, 1], port).into();
            let hashes = [
                NotifyType::NAT_DETECTION_SOURCE_IP,
                NotifyType::NAT_DETECTION_DESTINATION_IP,
            ];
            let more = hashes.map(|kind| notify(kind, &[7; 20]));
            let public = [9; 32];
            send(
                &socket,
                to,
                marker,
                &sa_init(5, KeId::CURVE25519, &public, &more),
            );
            let (_, answer) = receive(&socket, marker).unwrap();
            let answer = Message::decode(&answer).unwrap();
            let spis = (
                answer.header.initiator_spi.unwrap(),
                answer.header.responder_spi,
            );
            assert_eq!(Some(spis.0), IkeSpi::new(5));
            let found = find_notify(&answer.payloads, hashes[0]);
            let ours = natt::hash(&boring::provider(), spis.0, spis.1, to);
            assert_eq!(found.map(|data| data == ours), expected, "{flag}");
        }
    });
}

fn notify<'a>(kind: NotifyType, data: &'a [u8]) -> Payload<'a> {
    Payload::Notify(Notify {
        protocol: iked::wire::registry::ProtocolId::NONE,
        spi: &[],
        kind,
        data,
    })
}

#[test]
fn flags_may_be_repeated_and_the_last_value_counts() {
    let house = House::new();
    let conf = house.write("iked.conf", &gateway_conf(&[]));
    let flags = ["-nn", "-d", "-d", "-S", "-S", "-vvv", "-f", "/nonexistent"];
    let said = house.iked(&[flags.as_slice(), &["-f", &conf]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn wrong_ports_and_contradictions_are_refused() {
    let house = House::new();
    let cases: [(&[&str], &str); 8] = [
        (&["-p", "0"], "iked: port is too small: 0"),
        (&["-p", "99999"], "iked: port is too large: 99999"),
        (&["-p", "x"], "iked: port is invalid: x"),
        (
            &["-T", "-p", "4600"],
            "iked: -T and -p are mutually exclusive",
        ),
        (&["-T", "-t"], "iked: -T and -t are mutually exclusive"),
        (&["-x"], USAGE),
        (&["operand"], USAGE),
        (&["-f"], USAGE),
    ];
    for (flags, line) in cases {
        refused(&house.iked(flags), line);
    }
}

#[test]
fn capital_s_keeps_active_policies_from_starting() {
    alone(|| {
        let house = House::new();
        let policy = format!(
            "set decouple\nikev2 \"far\" active esp from 10.1.0.0/16 to 10.2.0.0/16 \
             local 127.0.0.1 peer 192.0.2.9 {SUITE} psk \"x\"\n"
        );
        let active = format!("set active\n{policy}");
        let cases: [(&[&str], &str, u64); 3] = [
            (&[], &policy, 1),
            (&["-S"], &policy, 0),
            (&["-S"], &active, 1),
        ];
        for (flags, conf, started) in cases {
            let daemon = house.start(conf, flags);
            if started == 1 {
                let begun = || (daemon.count("IKE SA created") == 1).then_some(());
                wait_for("the policy to begin", begun);
            } else {
                // It would begin after two seconds.
                thread::sleep(Duration::from_millis(2500));
            }
            assert_eq!(daemon.count("IKE SA created"), started, "{flags:?}");
            let shown = daemon.shows(&["show", "sa"]);
            let count = shown.matches("->192.0.2.9:500<").count() as u64;
            assert_eq!(count, started, "{flags:?}: {shown}");
            let line = "ikev2_init_ike_sa: initiating \"far\"";
            assert_eq!(daemon.said().contains(line), started == 1);
        }
    });
}

#[test]
fn shards_are_as_many_as_asked_for_and_0_or_256_are_refused() {
    alone(|| {
        let house = House::new();
        let conf = house.write("iked.conf", &gateway_conf(&[]));
        for number in ["0", "255", "256", "-1", "many"] {
            let flag = format!("--shards={number}");
            let said = house.iked(&["-n", &flag, "-f", &conf]);
            assert_eq!((said.code, &*said.out), (Some(1), ""), "{number}");
            assert_eq!(said.err.lines().count(), 1, "{number}: {}", said.err);
            assert!(said.err.contains(number), "{number}: {}", said.err);
        }
        for number in [1, 3] {
            let flag = format!("--shards={number}");
            let daemon = house.start(&gateway_conf(&[]), &[&flag]);
            assert_eq!(shards(&daemon).len(), number);
        }
    });
}

#[test]
fn by_default_there_is_one_pinned_shard_for_each_allowed_cpu() {
    alone(|| {
        let house = House::new();
        let allowed = cpus(&fs::read_to_string("/proc/self/status").unwrap());
        let daemon = house.start(&gateway_conf(&[]), &[]);
        let pinned: BTreeSet<BTreeSet<usize>> = shards(&daemon).into_iter().collect();
        let each = allowed.iter().map(|&cpu| BTreeSet::from([cpu]));
        assert_eq!(pinned, each.collect());
        drop(daemon);
        let first = *allowed.first().unwrap();
        let mut command = Command::new("taskset");
        command.args(["-c", &first.to_string(), IKED]);
        let daemon = house.start_by(command, &gateway_conf(&[]));
        assert_eq!(shards(&daemon), [BTreeSet::from([first])]);
    });
}

/// The CPUs of each shard's thread.
fn shards(daemon: &Daemon) -> Vec<BTreeSet<usize>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        if status.starts_with("Name:\tshard-") {
            found.push(cpus(&status));
        }
    }
    found
}

/// `Cpus_allowed_list` of a status file: `0-3,8`.
fn cpus(status: &str) -> BTreeSet<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    let ranges = line.unwrap().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().collect()
}

#[test]
fn config_dir_is_where_keys_are_looked_for() {
    alone(|| {
        let house = House::new();
        fs::create_dir_all(house.path("keys/pubkeys/fqdn")).unwrap();
        let bad = house.write("keys/pubkeys/fqdn/peer.example", "no key\n");
        let with = house.start(&gateway_conf(&[]), &[]);
        assert!(!with.said().contains(&bad), "{}", with.log());
        drop(with);
        let file = house.text("iked.conf");
        let mut command = Command::new(IKED);
        command.args(["-d", "-f", &file, "-s", &house.text("other.sock")]);
        command.args(["--config-dir", &house.text("keys")]);
        let log = fs::File::create(house.path("other.log")).unwrap();
        let mut daemon = command.stderr(log).spawn().unwrap();
        wait_for("the warning", || {
            let said = fs::read_to_string(house.path("other.log")).unwrap();
            said.contains(&format!("{bad}: ")).then_some(())
        });
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    });
}

const NOBODY: u32 = 65_534;
