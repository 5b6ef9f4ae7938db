//! Two or three hosts as network namespaces: a gateway, a client, and between them a wire or a NAT
//! box. Everything that a test started ends with its [`World`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Addresses of the gateway.
pub const GATEWAY: &str = "192.0.2.1";
pub const GATEWAY6: &str = "2001:db8::1";
/// Address of the client, or of the NAT box before it.
pub const CLIENT: &str = "192.0.2.2";
pub const CLIENT6: &str = "2001:db8::2";
/// The client's own address behind the NAT box.
pub const BEHIND_NAT: &str = "10.77.0.2";
/// Hosts behind the gateway, and their networks.
pub const INSIDE: &str = "10.8.0.1";
pub const INSIDE_NET: &str = "10.8.0.0/24";
pub const INSIDE6: &str = "fd00:8::1";
pub const INSIDE_NET6: &str = "fd00:8::/64";

/// How long anything may take before the test has failed. A rig's kernel is slow, and one in a
/// processor that is emulated, beside other guests, slower by far: its first charon is read from
/// the host's disk.
fn patience() -> Duration {
    let emulated = std::env::var_os("IKED_RIG").is_some_and(|rig| rig == "tcg");
    Duration::from_secs(if emulated { 150 } else { 30 })
}

/// The tests run one after the other: they measure real time and share two processors.
static TURN: Mutex<()> = Mutex::new(());

/// Whether the kernel carries ESP: the tests then run with real traffic.
pub fn coupled() -> bool {
    std::env::var_os("IKED_KERNEL_TESTS").is_some_and(|value| value == "1")
}

/// What stands between client and gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Wire,
    Nat,
}

/// The hosts of one test and its folder.
#[derive(Debug)]
pub struct World {
    tag: String,
    hosts: Vec<&'static str>,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    pub fn new(layout: Layout) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        remove_leftovers();
        let mut world = Self {
            tag: format!("{PREFIX}{}", std::process::id()),
            hosts: vec!["gw", "rw"],
            folder: tempfile::Builder::new()
                .prefix("iked-interop-")
                .tempdir_in("/tmp")
                .unwrap(),
            _turn: turn,
        };
        match layout {
            Layout::Wire => world.join_by_a_wire(),
            Layout::Nat => world.join_by_a_nat_box(),
        }
        world
    }

    /// The folder of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder below it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }

    fn join_by_a_wire(&self) {
        self.add_hosts();
        self.wire(("gw", "wan"), ("rw", "wan"));
        self.batch("gw", &gateway_lines());
        let lines = format!(
            "addr add {CLIENT}/24 dev wan\naddr add {CLIENT6}/64 dev wan nodad\nlink set wan up\n"
        );
        self.batch("rw", &lines);
    }

    fn join_by_a_nat_box(&mut self) {
        self.hosts.push("nat");
        self.add_hosts();
        self.wire(("gw", "wan"), ("nat", "out"));
        self.wire(("nat", "in"), ("rw", "wan"));
        self.batch("gw", &gateway_lines());
        let lines = format!(
            "addr add {CLIENT}/24 dev out\nlink set out up\naddr add 10.77.0.1/24 dev in\nlink set in up\n"
        );
        self.batch("nat", &lines);
        let lines = format!(
            "addr add {BEHIND_NAT}/24 dev wan\nlink set wan up\nroute add default via 10.77.0.1\n"
        );
        self.batch("rw", &lines);
        // Not nftables: user-mode Linux has none for IPv4.
        let rule = "-t nat -A POSTROUTING -o out -p udp -j MASQUERADE --random";
        let words: Vec<&str> = rule.split(' ').collect();
        need("iptables-legacy", "iptables");
        self.run("nat", "iptables-legacy", &words);
        self.run("nat", "sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    }

    /// Nothing passes the NAT box.
    pub fn cut_link(&self) {
        self.run("nat", "sysctl", &["-qw", "net.ipv4.ip_forward=0"]);
    }

    /// Everything passes again.
    pub fn mend_link(&self) {
        self.run("nat", "sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    }

    /// A fifth of all datagrams is lost, a tenth comes twice, a quarter out of turn, on the wire.
    pub fn disturb(&self) {
        self.introduce();
        self.shape("delay 20ms loss 20% duplicate 10% reorder 25%");
    }

    /// Both ends know each other's hardware address. Three lost ARP requests in a row make a kernel drop
    /// all that waits for the answer, which looks like a peer that is asked seven times in vain. A host
    /// whose only address goes forgets it.
    pub fn introduce(&self) {
        let ends = [
            ("gw", "rw", [CLIENT, "192.0.2.3"]),
            ("rw", "gw", [GATEWAY; 2]),
        ];
        for (host, other, addresses) in ends {
            let link = self.ip(other, &["link", "show", "dev", "wan"]);
            let mac = link.split("link/ether ").nth(1).unwrap();
            let mac = mac.split(' ').next().unwrap();
            for address in addresses {
                let line = format!("neigh replace {address} lladdr {mac} nud permanent dev wan\n");
                self.batch(host, &line);
            }
        }
    }

    /// Nothing passes the wire.
    pub fn interrupt(&self) {
        self.shape("loss 100%");
    }

    fn shape(&self, netem: &str) {
        need("tc", "iproute2");
        let words = format!("qdisc add dev wan root netem {netem}");
        for host in ["gw", "rw"] {
            self.run(host, "tc", &words.split(' ').collect::<Vec<_>>());
        }
    }

    /// The wire is sound again.
    pub fn calm(&self) {
        for host in ["gw", "rw"] {
            self.run(host, "tc", &["qdisc", "del", "dev", "wan", "root"]);
        }
    }

    fn add_hosts(&self) {
        for host in &self.hosts {
            ip(&["netns", "add", &self.namespace(host)]);
            self.batch(host, "link set lo up\n");
        }
    }

    fn wire(&self, a: (&str, &str), b: (&str, &str)) {
        let (from, to) = (self.namespace(a.0), self.namespace(b.0));
        ip(&[
            "link", "add", a.1, "netns", &from, "type", "veth", "peer", "name", b.1, "netns", &to,
        ]);
    }

    /// Lines for `ip -batch`.
    pub fn batch(&self, host: &str, lines: &str) {
        let path = self.path("batch");
        fs::write(&path, lines).unwrap();
        ip(&["-n", &self.namespace(host), "-batch", text(&path)]);
    }

    /// The output of `ip` in a host.
    pub fn ip(&self, host: &str, arguments: &[&str]) -> String {
        let namespace = self.namespace(host);
        ip(&[&["-n", &namespace], arguments].concat())
    }

    /// A command in a host that is to succeed; gives its standard output.
    pub fn run(&self, host: &str, program: &str, arguments: &[&str]) -> String {
        let output = self.attempt(host, program, arguments);
        let (out, error) = (lossy(&output.stdout), lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{out}{error}",
            output.status
        );
        out
    }

    /// A command in a host, whatever comes of it.
    pub fn attempt(&self, host: &str, program: &str, arguments: &[&str]) -> Output {
        self.command(host, program)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// A command in a host, which dies with this process.
    pub fn command(&self, host: &str, program: &str) -> Command {
        self.command_in(host, None, program)
    }

    /// A command in a host, with this folder as its root. What the kernel shows and what tests write
    /// is there too; only the command sees it there.
    pub fn command_in(&self, host: &str, root: Option<&Path>, program: &str) -> Command {
        self.command_with(host, root, &[], program)
    }

    /// The same, with folders put in the place of others that are named relative to the root.
    pub fn command_with(
        &self,
        host: &str,
        root: Option<&Path>,
        places: &[(&str, &str)],
        program: &str,
    ) -> Command {
        let namespace = self.namespace(host);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace]);
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        if let Some(root) = root {
            let mut script = String::new();
            for part in ["proc", "dev", "sys", "tmp", "run"] {
                script += &format!("mount --rbind /{part} \"$0/{part}\" && ");
            }
            for (folder, place) in places {
                script += &format!("mount --bind {folder} \"$0/{place}\" && ");
            }
            script += "exec chroot \"$0\" \"$@\"";
            command.args(["sh", "-c", &script, text(root)]);
        }
        command.arg(program);
        command
    }

    /// Starts a program in a host. What it says goes to `NAME.log`.
    pub fn start(&self, name: &str, mut command: Command) -> Process {
        let log = self.path(&format!("{name}.log"));
        let out = File::create(&log).unwrap();
        let error = out.try_clone().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(error)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Process { child, log }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell_logs();
        }
        for host in &self.hosts {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(host)])
                .output();
        }
    }
}

impl World {
    /// Shows what every program said, when the test has failed.
    #[expect(clippy::print_stderr, reason = "a failed test shows why")]
    fn tell_logs(&self) {
        let Ok(entries) = fs::read_dir(self.folder.path()) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|found| found == "log") {
                eprintln!("---- {}\n{}", path.display(), read(&path));
            }
        }
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Everything that it has said.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// A command that sees what this process sees, its network and its root, for 30 seconds.
    pub fn beside(&self, program: &str) -> Command {
        let pid = self.child.id().to_string();
        let mut command = Command::new("timeout");
        command.args(["30", "nsenter", "--target", &pid]);
        command.args(["--mount", "--net", "--root", "--", program]);
        command
    }

    /// Fails the test if it has ended.
    pub fn must_run(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "ended: {ended:?}\n{}", self.log());
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The same with its children, all at once.
    pub fn kill_family(&mut self) {
        let own = self.child.id().to_string();
        let parent = format!("PPid:\t{own}\n");
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let children = entries.filter(|entry| read(&entry.path().join("status")).contains(&parent));
        let children = children.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let pids: Vec<String> = children.chain([own]).collect();
        let _ = Command::new("kill").arg("-KILL").args(&pids).output();
        self.kill();
    }

    /// Asks it to end and gives how it did.
    pub fn terminate(&mut self) -> Option<std::process::ExitStatus> {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).output();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.terminate().is_none() {
            self.kill();
        }
    }
}

const PREFIX: &str = "iki";

/// Namespaces of test processes that were killed.
fn remove_leftovers() {
    for line in ip(&["netns", "list"]).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let alive = Path::new("/proc").join(&pid).exists();
        if !pid.is_empty() && (!alive || pid == std::process::id().to_string()) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn gateway_lines() -> String {
    format!(
        "addr add {GATEWAY}/24 dev wan\naddr add {GATEWAY6}/64 dev wan nodad\n\
         addr add {INSIDE}/24 dev lo\naddr add {INSIDE6}/64 dev lo nodad\nlink set wan up\n\
         route add default dev wan\nroute add ::/0 dev wan\n"
    )
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("ip: {error}; apt-get install iproute2"));
    let error = lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
    lossy(&output.stdout)
}

/// Tries again until there is something, or fails saying what never came.
pub fn wait_for<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_within(patience(), what, attempt)
}

/// The same; what each attempt saw is said when it was the last.
pub fn wait_to_see<T>(what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
    wait_within_to_see(patience(), what, attempt)
}

/// The same for what takes minutes by its nature.
pub fn wait_long_for<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_within(6 * patience(), what, attempt)
}

/// Both: for minutes, and saying what the last attempt saw.
pub fn wait_long_to_see<T>(what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
    wait_within_to_see(6 * patience(), what, attempt)
}

fn wait_within<T>(time: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    wait_within_to_see(time, what, || attempt().ok_or_else(String::new))
}

fn wait_within_to_see<T>(
    time: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let until = Instant::now() + time;
    loop {
        let begun = Instant::now();
        match attempt() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < until, "waited in vain for {what} {seen}"),
        }
        // Programs cost much in a guest: most of its time is left to those that are waited for.
        let pause = 3 * begun.elapsed();
        thread::sleep(pause.clamp(Duration::from_millis(50), Duration::from_secs(1)));
    }
}

/// Fails, showing the whole text, unless every part stands in it.
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

pub fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| lossy(&bytes))
        .unwrap_or_default()
}

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Fails with the command that installs it, when a program is missing.
pub fn need(program: &str, packages: &str) {
    let found = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .iter()
    .any(|folder| Path::new(folder).join(program).exists());
    assert!(found, "{program} is missing: apt-get install {packages}");
}
