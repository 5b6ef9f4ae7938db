//! The gateway: `iked` on one host of a [`World`], its configuration and what `ikectl` shows of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use iked::control::client;
use iked::control::grammar::Command;

use super::keys::Keys;
use super::world::{Process, World, coupled, lossy, text, wait_for, wait_to_see};

pub const GATEWAY_ID: &str = "gateway.example";
pub const CLIENT_ID: &str = "warrior.example";
pub const SECRET: &str = "a secret of the tests";

/// What of `iked.conf` differs from test to test; [`Conf::default`] lets a road warrior in.
#[derive(Clone, Debug)]
pub struct Conf {
    /// `set` lines, without the word.
    pub set: Vec<String>,
    /// Other lines before the policy.
    pub lines: Vec<String>,
    /// `passive` or `active`.
    pub mode: &'static str,
    /// `tunnel` or `transport`.
    pub encap: &'static str,
    /// `esp` or `ah`.
    pub protocol: &'static str,
    /// `local` and `peer`.
    pub hosts: String,
    /// `from .. to ..`
    pub flows: String,
    /// Words after `ikesa`, one proposal each.
    pub ikesa: Vec<String>,
    /// Words after `childsa`.
    pub childsa: Vec<String>,
    /// `ikelifetime` and `lifetime`.
    pub lifetimes: String,
    /// The authentication clause.
    pub auth: String,
    /// `config` clauses.
    pub config: Vec<String>,
    /// `request` clauses.
    pub requests: Vec<&'static str>,
    /// The interface for addresses that are granted.
    pub iface: Option<&'static str>,
    /// `--shards`.
    pub shards: u8,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            set: Vec::new(),
            lines: Vec::new(),
            mode: "passive",
            encap: "tunnel",
            protocol: "esp",
            hosts: "local any peer any".to_owned(),
            flows: "from 10.8.0.0/24 to dynamic".to_owned(),
            ikesa: vec!["enc aes-256-gcm prf hmac-sha2-256 group curve25519".to_owned()],
            childsa: vec!["enc aes-256-gcm".to_owned()],
            lifetimes: String::new(),
            auth: format!("psk \"{SECRET}\""),
            config: vec!["address 10.9.0.0/24".to_owned()],
            requests: Vec::new(),
            iface: None,
            shards: 2,
        }
    }
}

impl Conf {
    fn text(&self) -> String {
        let mut out = String::new();
        if !coupled() {
            out += "set decouple\n";
        }
        for set in &self.set {
            out += &format!("set {set}\n");
        }
        for line in &self.lines {
            out += &format!("{line}\n");
        }
        out += &format!(
            "ikev2 \"warriors\" {} {} {} {} {} \\\n",
            self.mode, self.encap, self.protocol, self.flows, self.hosts
        );
        for (word, list) in [("ikesa", &self.ikesa), ("childsa", &self.childsa)] {
            for transforms in list {
                out += &format!("  {word} {transforms} \\\n");
            }
        }
        out += &format!(
            "  srcid {GATEWAY_ID} dstid {CLIENT_ID} {} {}",
            self.lifetimes, self.auth
        );
        for config in &self.config {
            out += &format!(" \\\n  config {config}");
        }
        for request in &self.requests {
            out += &format!(" \\\n  request {request}");
        }
        if let Some(iface) = self.iface {
            out += &format!(" \\\n  iface {iface}");
        }
        out + "\n"
    }
}

/// A running `iked`.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    socket: PathBuf,
}

impl Gateway {
    /// Starts it and waits until it answers.
    pub fn start(world: &World, conf: &Conf) -> Self {
        Self::start_on(world, "gw", "iked", &conf.text(), conf.shards)
    }

    /// Starts one on this host, with what is in this folder.
    pub fn start_on(world: &World, host: &str, name: &str, conf: &str, shards: u8) -> Self {
        let folder = world.folder(name);
        let file = folder.join("iked.conf");
        fs::write(&file, conf).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let socket = folder.join("iked.sock");
        let mut command = world.command(host, env!("CARGO_BIN_EXE_iked"));
        command.args(["-d", "-vv", "-f", text(&file), "-s", text(&socket)]);
        command.args(["--config-dir", text(&folder)]);
        command.args(["--shards", &shards.to_string()]);
        let mut gateway = Self {
            process: world.start(name, command),
            socket,
        };
        wait_for("iked's control socket", || {
            gateway.process.must_run();
            gateway.try_ikectl(&["show", "stats"])
        });
        gateway
    }

    /// Puts its private key and the client's public key in place, before it starts.
    pub fn give_keys(world: &World, own: &Keys, client_public: &Path) {
        let folder = world.folder("iked");
        fs::create_dir_all(folder.join("private")).unwrap();
        fs::create_dir_all(folder.join("pubkeys/fqdn")).unwrap();
        fs::copy(&own.private, folder.join("private/local.key")).unwrap();
        let pin = folder.join("pubkeys/fqdn").join(CLIENT_ID);
        fs::copy(client_public, pin).unwrap();
    }

    /// Asked without the program, whose start costs a guest more than the answer.
    fn try_ikectl(&self, words: &[&str]) -> Option<String> {
        let words: Vec<String> = words.iter().copied().map(str::to_owned).collect();
        let Ok(Command::Ask(request)) = Command::parse(&words) else {
            panic!("{words:?}")
        };
        let mut said = Vec::new();
        let answered = client::run(&self.socket, false, &request, &mut said);
        answered.ok().map(|()| lossy(&said))
    }

    /// What `ikectl` prints.
    pub fn ikectl(&self, words: &[&str]) -> String {
        self.try_ikectl(words)
            .unwrap_or_else(|| panic!("ikectl {words:?} failed"))
    }

    pub fn show_sa(&self) -> String {
        self.ikectl(&["show", "sa"])
    }

    /// A counter of `ikectl show stats` by its words, `s` of the plural left out.
    pub fn count(&self, what: &str) -> u64 {
        let stats = self.ikectl(&["show", "stats"]);
        find_count(&stats, what).unwrap_or_else(|| panic!("no counter `{what}` in:\n{stats}"))
    }

    /// Waits until a counter is as expected.
    pub fn wait_for_count(&self, what: &str, expected: u64) {
        wait_for(&format!("`{what}` to be {expected}"), || {
            (self.count(what) == expected).then_some(())
        });
    }

    /// Waits until a counter is greater than this.
    pub fn wait_for_count_above(&self, what: &str, limit: u64) {
        wait_for(&format!("`{what}` to be above {limit}"), || {
            (self.count(what) > limit).then_some(())
        });
    }

    /// What it has logged until now; a thread of its own writes that, a moment behind what was done.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until all of this stands in its log.
    pub fn says(&self, parts: &[&str]) {
        for part in parts {
            wait_to_see(&format!("`{part}` in the log of iked"), || {
                let log = self.log();
                let found = log.contains(part);
                found.then_some(()).ok_or(log)
            });
        }
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Stops it as a service manager does; it must end well.
    pub fn stop(mut self) -> String {
        let status = self.process.terminate();
        let log = self.process.log();
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}\n{log}"
        );
        log
    }
}

fn find_count(stats: &str, what: &str) -> Option<u64> {
    stats.lines().find_map(|line| {
        let (number, words) = line.trim().split_once(' ')?;
        let words = words.replace('_', " ");
        let singular = words.replacen("s ", " ", 1);
        let same = words == what || singular == what || words == format!("{what}s");
        same.then(|| number.parse().ok()).flatten()
    })
}
