//! Sockets that were opened before the daemon began, as systemd passes them.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use super::client::gateway_conf;
use super::house::{Daemon, House, IKED, alone, run};

/// `iked` with this socket as its descriptor 3, said to be for process `pid` (a word of sh(1)).
fn passing(house: &House, socket: &OwnedFd, pid: &str) -> Daemon {
    let script =
        "exec env LISTEN_PID=$0 LISTEN_FDS=1 LISTEN_FDNAMES=something \"$@\" 3<&0 0</dev/null";
    let script = script.replace("$0", pid);
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", IKED, "--shards", "1"]);
    let socket = socket.try_clone().unwrap();
    house.start_with(command, Stdio::from(socket), &gateway_conf(&[]))
}

fn inode(house: &House) -> u64 {
    fs::symlink_metadata(house.path("sock")).unwrap().ino()
}

#[test]
fn a_control_socket_is_there_before_the_daemon_and_after_it() {
    alone(|| {
        let house = House::new();
        let ours: OwnedFd = UnixListener::bind(house.path("sock")).unwrap().into();
        let made = inode(&house);
        for _ in 0..2 {
            // Who asks before it runs is answered when it does.
            let early = UnixStream::connect(house.path("sock")).unwrap();
            let mut daemon = passing(&house, &ours, "$$");
            assert_eq!(daemon.ikectl(&["reload"]).code, Some(0));
            let log = daemon.said();
            assert!(!log.contains("of systemd"), "{log}");
            daemon.signal("-TERM");
            assert_eq!(daemon.wait().code(), Some(0));
            assert_eq!(inode(&house), made);
            drop(early);
        }
    });
}

#[test]
fn a_socket_of_another_kind_is_named_and_one_for_another_process_passed_over() {
    alone(|| {
        let house = House::new();
        let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let mut daemon = passing(&house, &udp, "$$");
        let line = "socket 'something' of systemd is no control socket and not used";
        assert!(daemon.said().contains(line), "{}", daemon.said());
        daemon.signal("-TERM");
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(!house.path("sock").exists(), "its own, so it is removed");
        let mut daemon = passing(&house, &udp, "1");
        assert!(!daemon.said().contains("of systemd"), "{}", daemon.said());
        daemon.signal("-TERM");
        assert_eq!(daemon.wait().code(), Some(0));
        let broken = "exec env LISTEN_PID=$$ LISTEN_FDS=2 \"$@\" 3</dev/null 4<&-";
        let conf = house.write("iked.conf", &gateway_conf(&[]));
        let mut command = Command::new("sh");
        command.args(["-c", broken, "sh", IKED, "-d", "-f", &conf]);
        let said = run(&mut command, b"");
        assert_eq!(said.code, Some(1));
        assert!(said.err.contains("iked: sockets of systemd: "), "{said:?}");
    });
}

#[test]
fn the_units_are_for_the_socket_that_ikectl_asks() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/");
    let unit = fs::read_to_string(folder.to_owned() + "iked.socket").unwrap();
    assert!(unit.contains(&format!(
        "\nListenStream={}\n",
        iked::control::SOCKET.replace("/var", "")
    )));
    assert!(unit.contains("\nSocketMode=0660\n"));
    let service = fs::read_to_string(folder.to_owned() + "iked.service").unwrap();
    assert!(service.contains("\nType=notify\n") && service.contains("\n[Install]\n"));
}
