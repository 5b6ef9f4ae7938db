//! Start and end, and the configuration in between: a second daemon, signals, reload, a kernel
//! without ESP.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use iked::wire::registry::KeId;

use super::client::{Client, Ports, SUITE, gateway_conf};
use super::house::{Daemon, House, IKED, alone, lossy, run, wait_for};
use super::probe::ask;

/// The group that the configuration in force wants, as an initiator learns it.
fn group() -> KeId {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    ask(&socket, "127.0.0.1:500".parse().unwrap(), false, 0x5eed).0
}

/// Another configuration than [`gateway_conf`], which everybody can tell from it.
fn other_conf() -> String {
    gateway_conf(&[]).replace("curve25519", "ecp256")
}

fn client(address: [u8; 4]) -> Client {
    let mut client = Client::new(
        "warrior.example",
        address.into(),
        [127, 0, 0, 1].into(),
        Ports::Own,
    );
    client.establish();
    client
}

#[test]
fn sigterm_and_sigint_end_it_well() {
    alone(|| {
        let house = House::new();
        for signal in ["-TERM", "-INT"] {
            let mut daemon = house.start(&gateway_conf(&[]), &["--shards", "2"]);
            let mut client = client([127, 0, 0, 9]);
            daemon.signal(signal);
            let status = daemon.wait();
            assert_eq!((status.code(), status.signal()), (Some(0), None));
            assert!(!house.path("sock").exists());
            let log = daemon.log();
            assert!(log.contains("\nterminating\n"), "{log}");
            assert!(log.contains("sent delete, closing SA"), "{log}");
            assert!(!log.contains("panicked"), "{log}");
            // The peer was told.
            wait_for("the Delete", || {
                client.turn();
                (client.stats().sa_established_current == 0).then_some(())
            });
        }
    });
}

#[test]
fn sigusr1_is_ignored_and_a_killed_daemon_s_socket_is_replaced() {
    alone(|| {
        let house = House::new();
        let mut daemon = house.start(&gateway_conf(&[]), &[]);
        daemon.signal("-USR1");
        wait_for("the line", || {
            daemon.log().contains("SIGUSR1 ignored").then_some(())
        });
        assert!(daemon.is_alive());
        daemon.signal("-KILL");
        assert_eq!(daemon.wait().signal(), Some(9));
        assert!(house.path("sock").exists());
        let again = house.start(&gateway_conf(&[]), &[]);
        assert_eq!(again.count("message received"), 0);
    });
}

#[test]
fn a_port_that_is_given_back_soon_is_waited_for() {
    alone(|| {
        let house = House::new();
        let held = UdpSocket::bind("[::]:500").unwrap();
        let holder = thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            drop(held);
        });
        house.start(&gateway_conf(&[]), &[]);
        holder.join().unwrap();
    });
}

#[test]
fn a_second_daemon_is_refused_and_the_first_one_is_none_the_worse() {
    alone(|| {
        let house = House::new();
        let conf = house.write("other.conf", &gateway_conf(&[]));
        let mut daemon = house.start(&gateway_conf(&[]), &[]);
        let (socket, other) = (house.text("sock"), house.text("other.sock"));
        let cases: [(&[&str], String); 2] = [
            (
                &["-f", &conf, "-s", &other],
                "iked: cannot bind 0.0.0.0:500: Address already in use".to_owned(),
            ),
            (
                &["-f", &conf, "-s", &socket, "-p", "4600"],
                format!("iked: {socket}: another daemon answers there"),
            ),
        ];
        for (flags, line) in cases {
            for more in [["-d"].as_slice(), &[]] {
                let said = house.iked(&[flags, more].concat());
                assert_eq!((said.code, &*said.out), (Some(1), ""), "{flags:?} {more:?}");
                assert_eq!(said.err.lines().count(), 1, "{}", said.err);
                assert!(said.err.starts_with(&line), "{}", said.err);
            }
        }
        // Checking is always allowed.
        assert_eq!(house.iked(&["-n", "-f", &conf]).code, Some(0));
        assert!(daemon.is_alive());
        for _ in 0..20 {
            assert_eq!(group(), KeId::CURVE25519);
        }
        assert_eq!(daemon.count("message received"), 20);
    });
}

#[test]
fn a_broken_file_changes_nothing() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&gateway_conf(&[]), &[]);
        let mut client = client([127, 0, 0, 9]);
        let shown = daemon.shows(&["show", "sa"]);
        let conf = house.text("iked.conf");
        let whole_but_one_line = format!("{}nonsense\n", other_conf());
        for broken in [&whole_but_one_line, "ikev2 esp from any to\n"] {
            house.write("iked.conf", broken);
            let line = broken.lines().count();
            let said = daemon.ikectl(&["reload"]);
            assert_eq!((said.code, &*said.out), (Some(1), ""));
            let place = format!("ikectl: {conf}: {line}: ");
            assert!(said.err.starts_with(&place), "{}", said.err);
            assert_eq!(group(), KeId::CURVE25519);
            let before = reloads(&daemon, "reload failed, the old configuration stays");
            daemon.signal("-HUP");
            wait_for("the reload", || {
                let now = reloads(&daemon, "reload failed, the old configuration stays");
                (now == before + 1).then_some(())
            });
            assert_eq!(group(), KeId::CURVE25519);
        }
        fs::remove_file(&conf).unwrap();
        assert_eq!(daemon.ikectl(&["reload"]).code, Some(1));
        assert_eq!(group(), KeId::CURVE25519);
        assert_eq!(daemon.shows(&["show", "sa"]), shown);
        client.ask_for_life();
    });
}

#[test]
fn a_good_file_is_taken_and_ike_sas_stay() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&gateway_conf(&[]), &["-D", "group=ecp256"]);
        let mut client = client([127, 0, 0, 9]);
        let shown = daemon.shows(&["show", "sa"]);
        house.write("iked.conf", &other_conf());
        assert_eq!(daemon.shows(&["reload"]), "");
        assert_eq!(group(), KeId::ECP_256);
        house.write("iked.conf", &gateway_conf(&[]));
        daemon.signal("-HUP");
        wait_for("the reload", || {
            (reloads(&daemon, "configuration reloaded") == 2).then_some(())
        });
        assert_eq!(group(), KeId::CURVE25519);
        // Another file, with a macro of the command line.
        let text = gateway_conf(&[]).replace("curve25519", "$group");
        let other = house.write("other.conf", &text);
        assert_eq!(daemon.shows(&["load", &other]), "");
        assert_eq!(group(), KeId::ECP_256);
        assert_eq!(daemon.shows(&["show", "sa"]), shown);
        client.ask_for_life();
    });
}

fn reloads(daemon: &Daemon, line: &str) -> usize {
    daemon.said().lines().filter(|said| *said == line).count()
}

#[test]
fn a_kernel_without_esp_is_named_and_decoupled_it_runs_all_the_same() {
    alone(|| {
        let house = House::new();
        let coupled = format!("ikev2 passive esp from any to any {SUITE} psk \"x\"\n");
        let decoupled = format!("set decouple\n{coupled}");
        let daemon = house.start(&decoupled, &[]);
        assert_eq!(daemon.count("kernel failure"), 0);
        let said = daemon.ikectl(&["couple"]);
        drop(daemon);
        if kernel_has_esp() {
            assert_eq!((said.code, &*said.err), (Some(0), ""));
            let mut daemon = house.start(&coupled, &[]);
            assert!(daemon.is_alive());
            return;
        }
        assert_eq!((said.code, &*said.out), (Some(1), ""));
        assert!(said.err.contains("the kernel has no "), "{}", said.err);
        let conf = house.write("iked.conf", &coupled);
        for flag in [["-d"].as_slice(), &[]] {
            let said =
                house.iked(&[flag, &["-f", &conf, "-s", &house.text("other.sock")]].concat());
            assert_eq!((said.code, &*said.out), (Some(1), ""));
            assert_eq!(said.err.lines().count(), 1, "{}", said.err);
            assert!(
                said.err.starts_with("iked: the kernel has "),
                "{}",
                said.err
            );
            for part in [" no ", "CONFIG_", "`set decouple`"] {
                assert!(said.err.contains(part), "{}", said.err);
            }
            assert!(!house.path("other.sock").exists());
        }
    });
}

/// Another program's opinion.
fn kernel_has_esp() -> bool {
    let words = "xfrm state add src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x1001 mode transport \
                 enc cbc(aes) 0x00112233445566778899aabbccddeeff \
                 auth hmac(sha1) 0x00112233445566778899aabbccddeeff00112233";
    run(Command::new("ip").args(words.split_whitespace()), b"").code == Some(0)
}

#[test]
fn systemd_hears_when_it_is_ready_and_when_it_reloads_and_ends() {
    alone(|| {
        let house = House::new();
        let systemd = UnixDatagram::bind(house.path("notify")).unwrap();
        systemd
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let hears = || {
            let mut buffer = [0; 256];
            let len = systemd.recv(&mut buffer).unwrap();
            lossy(&buffer[..len])
        };
        let mut command = Command::new(IKED);
        command.env("NOTIFY_SOCKET", house.path("notify"));
        let mut daemon = house.start_by(command, &gateway_conf(&[]));
        assert_eq!(hears(), "READY=1\n");
        for good in [true, false] {
            if !good {
                house.write("iked.conf", "nonsense\n");
            }
            daemon.signal("-HUP");
            let said = hears();
            assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
            assert_eq!(hears(), "READY=1\n");
        }
        daemon.signal("-TERM");
        assert_eq!(hears(), "STOPPING=1\n");
        assert!(daemon.wait().success());
    });
}
