//! Both programs, asked for their verdict on a file and their dump of it.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A release of OpenIKED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    OpenIked7_2,
    OpenIked7_4,
}

/// What a program says of a file.
#[derive(Clone, Debug)]
pub(super) struct Dump {
    /// It would run with it.
    pub accepted: bool,
    /// Its policies and users, cut into words; quotes are gone.
    pub lines: Vec<Vec<String>>,
    /// It died of a signal.
    pub crashed: bool,
    /// All that it wrote.
    raw: String,
}

impl Dump {
    fn new(output: &Output) -> Self {
        let both = [output.stdout.as_slice(), &output.stderr].concat();
        let raw = String::from_utf8_lossy(&both).into_owned();
        let lines = raw.lines().filter(|line| {
            ["ikev2 ", "user ", "set "]
                .iter()
                .any(|word| line.starts_with(word))
        });
        Self {
            accepted: output.status.success(),
            crashed: output.status.signal().is_some(),
            lines: lines.map(words).collect(),
            raw: raw.clone(),
        }
    }

    /// Whether it wrote this.
    pub(super) fn says(&self, text: &str) -> bool {
        self.raw.contains(text)
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.accepted { "yes" } else { "no" };
        write!(f, "{verdict}\n{}", self.raw)
    }
}

/// Words as a reader sees them: what stands in quotes is one.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// OpenIKED in the folder that holds its libraries.
#[derive(Debug)]
pub(super) struct Peer {
    root: PathBuf,
    inside: String,
}

impl Peer {
    pub(super) fn new(release: Release) -> Self {
        let name = match release {
            Release::OpenIked7_2 => "openiked-7.2",
            Release::OpenIked7_4 => "openiked-7.4",
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peers.sh");
        let output = Command::new(script).arg(name).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "tests/interop/peers.sh: {error}");
        let root = String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned();
        let root = PathBuf::from(root);
        // Names of protocols, ports and hosts, that neither is short of them.
        for (file, names) in [
            ("protocols", PROTOCOLS),
            ("services", SERVICES),
            ("hosts", HOSTS),
            ("host.conf", "multi on\n"),
            ("nsswitch.conf", "hosts: files\n"),
        ] {
            fs::write(root.join("etc").join(file), names).unwrap();
        }
        Self {
            root,
            inside: format!("/tmp/differential-{}.conf", std::process::id()),
        }
    }

    pub(super) fn read(&self, text: &str) -> Dump {
        write(&self.root.join(self.inside.trim_start_matches('/')), text);
        let mut command = Command::new("chroot");
        command.arg(&self.root);
        command.args(["/usr/sbin/iked", "-nv", "-f", &self.inside]);
        Dump::new(&command.output().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_file(self.root.join(self.inside.trim_start_matches('/')));
    }
}

const PROTOCOLS: &str = "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\ngre 47 GRE\n";
const SERVICES: &str = "http 80/tcp\n";
const HOSTS: &str = "127.0.0.1 localhost\n192.0.2.41 one.test\n192.0.2.42 two.test\n\
                     192.0.2.43 two.test\n2001:db8::44 six.test\n192.0.2.45 both.test\n\
                     2001:db8::45 both.test\n";

/// Our own program.
#[derive(Debug)]
pub(super) struct Ours {
    folder: tempfile::TempDir,
}

impl Ours {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hosts"), HOSTS).unwrap();
        Self { folder }
    }

    pub(super) fn read(&self, text: &str) -> Dump {
        let path = self.folder.path().join("iked.conf");
        write(&path, text);
        let program = env!("CARGO_BIN_EXE_iked");
        let mut command = if text.contains(".test") {
            // Only it sees these names.
            let mut command = Command::new("unshare");
            let script = "mount --bind $0/hosts /etc/hosts && exec \"$@\"";
            command.args(["--mount", "sh", "-c", script]);
            command.arg(self.folder.path()).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(["-nvv", "-f"]).arg(&path);
        Dump::new(&command.output().unwrap())
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
