//! The files: who may own and read the configuration, where everything is by default, the control
//! socket, and what is said where one of them is no good.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::client::gateway_conf;
use super::house::{House, IKED, alone, ikectl, run, wait_for};

#[test]
fn a_configuration_that_others_may_touch_is_refused() {
    let house = House::new();
    let conf = house.write("iked.conf", &gateway_conf(&[]));
    let check = || house.iked(&["-n", "-f", &conf]);
    for (mode, good) in [
        (0o600, true),
        (0o640, true),
        (0o400, true),
        (0o740, true),
        (0o620, false),
        (0o610, false),
        (0o604, false),
        (0o602, false),
        (0o601, false),
        (0o644, false),
    ] {
        fs::set_permissions(&conf, fs::Permissions::from_mode(mode)).unwrap();
        let expected = if good {
            (Some(0), "configuration OK\n".to_owned())
        } else {
            let line = format!("{conf}: group writable or world read/writable\n");
            (Some(1), line)
        };
        let said = check();
        assert_eq!((said.code, said.err), expected, "{mode:o}");
    }
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&conf, Some(STRANGER), None).unwrap();
    let line = format!("{conf}: owner not root or current user\n");
    let said = check();
    assert_eq!((said.code, said.err), (Some(1), line));
}

#[test]
fn included_files_are_secrets_too() {
    let house = House::new();
    let part = house.write("part", &gateway_conf(&[]));
    let conf = house.write("iked.conf", &format!("\ninclude \"{part}\"\n"));
    let check = || house.iked(&["-n", "-f", &conf]);
    assert_eq!(check().code, Some(0));
    fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
    let said = check();
    assert_eq!(said.code, Some(1));
    assert!(said.err.starts_with(&format!("{conf}: 2: ")), "{said:?}");
    assert!(said.err.contains(&part), "{said:?}");
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let house = House::new();
    let conf = house.text("nowhere");
    let said = house.iked(&["-f", &conf]);
    let line = format!("{conf}: No such file or directory\n");
    assert_eq!((said.code, said.err), (Some(1), line));
}

#[test]
fn s_names_the_control_socket_which_is_closed_to_others() {
    alone(|| {
        let house = House::new();
        let socket = house.path("sock");
        let absent = ikectl(&socket, &["show", "sa"]);
        let line = format!(
            "ikectl: connect: {}: No such file or directory\n",
            socket.display()
        );
        assert_eq!((absent.code, absent.err), (Some(1), line));
        let daemon = house.start(&gateway_conf(&[]), &[]);
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        assert_eq!(daemon.shows(&["show", "sa"]), "");
    });
}

/// Without a flag: the files of the manual, into the background, log to syslog.
#[test]
fn without_flags_it_is_a_daemon_with_the_files_of_the_manual() {
    alone(|| {
        let house = House::new();
        for folder in ["/etc", "/run"] {
            let words = ["-t", "tmpfs", "tmpfs", folder];
            let said = run(Command::new("mount").args(words), b"");
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        fs::write("/etc/iked.conf", gateway_conf(&[])).unwrap();
        fs::set_permissions("/etc/iked.conf", fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir_all("/etc/iked/pubkeys/fqdn").unwrap();
        fs::write("/etc/iked/pubkeys/fqdn/bad.example", "no key").unwrap();
        // The second place where a syslog may be; there may be one in the first.
        let syslog = UnixDatagram::bind("/run/syslog").unwrap();
        if Path::new("/dev/log").exists() {
            let words = ["--bind", "/run/syslog", "/dev/log"];
            let said = run(Command::new("mount").args(words), b"");
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        syslog
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let said = run(&mut Command::new(IKED), b"");
        assert_eq!((said.code, &*said.out, &*said.err), (Some(0), "", ""));
        let socket = Path::new("/var/run/iked.sock");
        wait_for("the daemon", || {
            (ikectl(socket, &["show", "stats"]).code == Some(0)).then_some(())
        });
        let by_default = run(
            Command::new(env!("CARGO_BIN_EXE_ikectl")).args(["show", "sa"]),
            b"",
        );
        assert_eq!(by_default.code, Some(0), "{by_default:?}");
        let pid = background().unwrap();
        assert!(is_detached(pid));
        let next = || {
            let mut buffer = [0; 1024];
            let len = syslog.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..len]).into_owned()
        };
        // Facility daemon is 3: 3 * 8 + 4 for a warning, + 6 for an information.
        let warning = next();
        assert!(warning.starts_with("<28>"), "{warning}");
        let place = "/etc/iked/pubkeys/fqdn/bad.example: ";
        assert!(warning.contains(place), "{warning}");
        let startup = next();
        assert!(startup.starts_with("<30>"), "{startup}");
        assert!(startup.ends_with("startup"), "{startup}");
        let said = run(Command::new("kill").args(["-TERM", &pid.to_string()]), b"");
        assert_eq!(said.code, Some(0));
        wait_for("its end", || (background().is_none()).then_some(()));
        assert!(!socket.exists());
        drop(house);
    });
}

/// The process of a daemon in this host that nobody waits for, while it lives.
fn background() -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains("(iked)") && !stat.contains(") Z ")
    })
}

/// A session of its own, and nothing left of the terminal.
fn is_detached(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let session: u32 = fields.split(' ').nth(3).unwrap().parse().unwrap();
    let null = fs::metadata("/dev/null").unwrap().rdev();
    let to_null = |fd| {
        let fd = fs::metadata(format!("/proc/{pid}/fd/{fd}")).unwrap();
        fd.rdev() == null
    };
    session == pid && (0..3).all(to_null)
}

#[test]
fn a_daemon_that_cannot_have_its_socket_says_so_before_it_goes_into_the_background() {
    alone(|| {
        let house = House::new();
        let socket = house.write("plain", "precious");
        let conf = house.write("iked.conf", &gateway_conf(&[]));
        for flag in [["-d"].as_slice(), &[]] {
            let said = house.iked(&[flag, &["-f", &conf, "-s", &socket]].concat());
            let line = format!("iked: {socket}: the file is not a socket\n");
            assert_eq!((said.code, said.err), (Some(1), line), "{flag:?}");
        }
        assert_eq!(fs::read(&socket).unwrap(), b"precious");
    });
}

/// Nobody's number.
const STRANGER: u32 = 12_345;
