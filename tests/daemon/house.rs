//! A host of a test's own: network, processes and mounts nobody else sees, in which ports 500 and
//! 4500 are free and everything that was started ends with the test. In it, the real `iked`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Runs `body` in a host of its own: this test program is started there again for just this test,
/// whose name is that of the function `body` stands in.
pub(super) fn alone<F: FnOnce()>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return body();
    }
    let path = std::any::type_name::<F>();
    let name = path.split_once("::").map(|(_, name)| name);
    let name = name.and_then(|name| name.strip_suffix("::{{closure}}"));
    let output = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name.unwrap(), "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        // What it says when it fails is seen at once, and so is its progress.
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("unshare: {error}; apt-get install util-linux"));
    let said = lossy(&output.stdout);
    // Without this a wrong name would run nothing and pass.
    let ran = output.status.success() && said.contains("test result: ok. 1 passed");
    assert!(ran, "{name:?}: {} (root is needed)\n{said}", output.status);
}

/// A folder, and the means to start `iked` with what is in it.
#[derive(Debug)]
pub(super) struct House {
    folder: TempDir,
}

/// What a program that has ended said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl House {
    pub(super) fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix("iked-daemon-").tempdir().unwrap();
        // Also for those who are not root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path as an argument.
    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file that only its owner may read.
    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.text(name)
    }

    /// `iked` with these arguments, to its end.
    pub(super) fn iked<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        run(Command::new(IKED).args(arguments), b"")
    }

    /// `iked -d` in the background with this configuration, its own socket and more arguments, as
    /// soon as it answers.
    pub(super) fn start(&self, conf: &str, arguments: &[&str]) -> Daemon {
        let mut command = Command::new(IKED);
        command.args(arguments);
        self.start_by(command, conf)
    }

    /// The same by another command, `taskset` for instance, that ends in `iked`.
    pub(super) fn start_by(&self, command: Command, conf: &str) -> Daemon {
        self.start_with(command, Stdio::null(), conf)
    }

    /// The same with this on its standard input.
    pub(super) fn start_with(&self, mut command: Command, input: Stdio, conf: &str) -> Daemon {
        let file = self.write("iked.conf", conf);
        let log = self.path("log");
        let stderr = File::create(&log).unwrap();
        command.args(["-d", "-f", &file, "-s", &self.text("sock")]);
        command.args(["--config-dir", &self.text("")]);
        let child = command
            .stdin(input)
            .stdout(stderr.try_clone().unwrap())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut daemon = Daemon {
            child,
            log,
            socket: self.path("sock"),
        };
        wait_for("the daemon", || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}\n{}", daemon.log());
            (daemon.ikectl(&["show", "stats"]).code == Some(0)).then_some(())
        });
        daemon
    }
}

/// A running `iked -d`; killed when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl Daemon {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that is in its log.
    pub(super) fn log(&self) -> String {
        lossy(&fs::read(&self.log).unwrap())
    }

    /// The same with every line that it had to say until now: none comes in the log after one that was
    /// said later, such as that of this signal.
    pub(super) fn said(&self) -> String {
        let marks = || self.log().matches(MARK).count();
        let before = marks();
        self.signal("-USR1");
        wait_for("the last line", || (marks() > before).then_some(()));
        self.log().replace(&format!("{MARK}\n"), "")
    }

    pub(super) fn ikectl(&self, words: &[&str]) -> Said {
        ikectl(&self.socket, words)
    }

    /// What `ikectl` prints when all is well.
    pub(super) fn shows(&self, words: &[&str]) -> String {
        let said = self.ikectl(words);
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{words:?}");
        said.out
    }

    /// Every counter of `ikectl show stats` by its words, each without the `s` at its end.
    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        let stats = self.shows(&["show", "stats"]);
        let lines = stats.lines().filter_map(|line| line.strip_prefix('\t'));
        let counter = |line: &str| {
            let (number, words) = line.split_once(' ').unwrap();
            (singular(words), number.parse().unwrap())
        };
        lines.map(counter).collect()
    }

    /// One counter.
    pub(super) fn count(&self, words: &str) -> u64 {
        let counters = self.counters();
        let count = counters.get(&singular(words));
        *count.unwrap_or_else(|| panic!("no `{words}` in {counters:#?}"))
    }

    pub(super) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let said = run(Command::new("kill").args([signal, &pid]), b"");
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> ExitStatus {
        wait_for("the daemon's end", || self.child.try_wait().unwrap())
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows why")]
fn tell(log: &str) {
    eprintln!("---- log\n{log}----");
}

pub(super) fn singular(words: &str) -> String {
    let words = words
        .split([' ', '_'])
        .map(|word| word.trim_end_matches('s'));
    words.collect::<Vec<_>>().join(" ")
}

pub(super) fn ikectl(socket: &Path, words: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ikectl"));
    run(command.arg("-s").arg(socket).args(words), b"")
}

/// Runs a program to its end with this on its standard input.
pub(super) fn run(command: &mut Command, input: &[u8]) -> Said {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    // Whoever does not read it hangs up.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    Said {
        code: status.code(),
        out: lossy(&stdout),
        err: lossy(&stderr),
    }
}

pub(super) fn ip(words: &str) {
    let said = run(Command::new("ip").args(words.split(' ')), b"");
    assert_eq!(said.code, Some(0), "ip {words}: {said:?}");
}

/// Tries again until there is something, or fails saying what never came.
pub(super) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program under test.
pub(super) const IKED: &str = env!("CARGO_BIN_EXE_iked");
/// Set in a host of its own.
const INSIDE: &str = "IKED_TEST_INSIDE";
/// What a signal that does nothing says.
const MARK: &str = "SIGUSR1 ignored";
/// How long anything may take: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);
