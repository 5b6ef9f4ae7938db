//! OpenIKED's own `ikectl`, of both releases, at our control socket: every command that it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::{Client, Ports, gateway_conf};
use super::house::{Daemon, House, Said, alone, run, wait_for};

/// The certificate of an authority.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/ocsp/ca.crt");

/// `ikectl` of a release, with the libraries of its own distribution.
struct Theirs {
    root: PathBuf,
    socket: String,
}

impl Theirs {
    fn new(release: &str, house: &House) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peers.sh");
        let said = run(Command::new(script).arg(release), b"");
        assert_eq!(said.code, Some(0), "tests/interop/peers.sh: {}", said.err);
        Self {
            root: PathBuf::from(said.out.trim_end()),
            socket: house.text("sock"),
        }
    }

    fn run(&self, words: &[&str]) -> Said {
        let inside = |path: &str| self.root.join(path).to_str().unwrap().to_owned();
        let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(inside);
        let mut command = Command::new("timeout");
        command.args(["10", &inside("lib64/ld-linux-x86-64.so.2")]);
        command.args(["--library-path", &libraries.join(":")]);
        command.args([&inside("usr/sbin/ikectl"), "-s", &self.socket]);
        run(command.args(words), b"")
    }

    /// What it prints when all is well.
    fn shows(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{words:?}");
        said.out
    }
}

/// A client with an IKE SA, from an address of its own.
fn client(number: u8) -> Client {
    let address = [127, 0, 0, 10 + number].into();
    let gateway = [127, 0, 0, 1].into();
    let mut client = Client::new("warrior.example", address, gateway, Ports::Translated);
    client.establish();
    client
}

/// Every command but `monitor` and `ca`, which has no socket; each is seen to do something.
fn obeys(release: &str) {
    let house = House::new();
    fs::create_dir_all(house.path("ca")).unwrap();
    fs::copy(AUTHORITY, house.path("ca/ca.crt")).unwrap();
    let daemon = house.start(&gateway_conf(&[]), &[]);
    let theirs = Theirs::new(release, &house);
    for word in ["couple", "decouple", "passive", "active"] {
        assert_eq!(theirs.shows(&[word]), "");
    }
    let _client = client(1);

    let shown = theirs.shows(&["show", "sa"]);
    assert_eq!(shown, daemon.shows(&["show", "sa"]));
    assert!(
        shown.contains("<FQDN/warrior.example>[] ESTABLISHED r"),
        "{shown}"
    );
    counts(&theirs, &daemon);
    let known = daemon.shows(&["show", "certstore"]);
    assert!(known.starts_with("CA: "), "{known}");
    // To 7.2 our counters are the beginning of the answer.
    assert!(theirs.shows(&["show", "certstore"]).ends_with(&known));

    for word in ["verbose", "brief"] {
        assert_eq!(theirs.shows(&["log", word]), "logging request sent.\n");
    }
    reloads(&theirs, &daemon, &house);
    ends(&theirs, &daemon);
}

fn counts(theirs: &Theirs, daemon: &Daemon) {
    let stats = theirs.shows(&["show", "stats"]);
    let lines: Vec<&str> = stats.lines().collect();
    assert_eq!(lines.len(), 27, "{stats}");
    assert!(
        lines.contains(&"\t1 IKE SA currently established"),
        "{stats}"
    );
    let ours = daemon.shows(&["show", "stats"]);
    let ours: Vec<&str> = ours.lines().take(4).collect();
    assert_eq!(ours, lines[..4]);
}

fn reloads(theirs: &Theirs, daemon: &Daemon, house: &House) {
    let said = |words: &str| daemon.log().matches(words).count();
    let other = house.write("other.conf", &gateway_conf(&["dpd_check_interval 7"]));
    for (at, words) in [&["load", &*other][..], &["reload"]].iter().enumerate() {
        assert_eq!(theirs.shows(words), "");
        wait_for("a reload", || {
            (said("configuration reloaded") == at + 1).then_some(())
        });
    }
    assert_eq!(theirs.shows(&["load", "/nonexistent"]), "");
    wait_for("the fault", || {
        (said("reload failed, the old configuration stays") == 1).then_some(())
    });
    assert_eq!(daemon.count("IKE SAs currently established"), 1);
}

fn ends(theirs: &Theirs, daemon: &Daemon) {
    let here = |count: u64| {
        wait_for("this many IKE SAs", || {
            (daemon.count("IKE SAs currently established") == count).then_some(())
        });
    };
    for what in ["ca", "user"] {
        assert_eq!(theirs.shows(&["reset", what]), "reset request sent.\n");
    }
    here(1);
    assert_eq!(theirs.shows(&["reset", "id", "FQDN/somebody.else"]), "");
    here(1);
    assert_eq!(theirs.shows(&["reset", "id", "FQDN/warrior.example"]), "");
    here(0);
    for (number, what) in (2..).zip(["sa", "all"]) {
        let _client = client(number);
        here(1);
        assert_eq!(theirs.shows(&["reset", what]), "reset request sent.\n");
        here(0);
        // `reset all` has forgotten the policies, too.
        assert_eq!(theirs.shows(&["reload"]), "");
    }
    let _client = client(4);
    assert_eq!(theirs.shows(&["reset", "policy"]), "reset request sent.\n");
    here(1);
}

#[test]
fn openiked_7_2_controls_our_daemon() {
    alone(|| obeys("openiked-7.2"));
}

#[test]
fn openiked_7_4_controls_our_daemon() {
    alone(|| obeys("openiked-7.4"));
}
