//! libreswan's pluto as the client: its configuration, and what whack says of it.
//!
//! Without ESP in the kernel it authenticates,
//! takes its address and the selectors, and gives up when it installs the first SA: a decoupled test
//! can hold both ends to everything before that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::gateway::{CLIENT_ID, GATEWAY_ID, SECRET};
use super::keys::Keys;
use super::pki::Holder;
use super::release::{self, Release};
use super::world::{CLIENT, GATEWAY, INSIDE_NET, Process, World, lossy, read, text, wait_for};

/// What of the client's configuration differs from test to test; [`Client::default`] is a road
/// warrior that asks for an address.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: &'static str,
    pub own: String,
    pub gateway: String,
    pub ike: String,
    pub esp: String,
    /// Empty: the address that it assigns.
    pub remote_ts: String,
    pub secret: String,
    /// A post-quantum pre-shared key: ID and secret.
    pub ppk: Option<(&'static str, &'static str)>,
    /// Own key and the gateway's, instead of the secret.
    pub keys: Option<(NssKey, Keys)>,
    /// The line that says how both ends prove themselves.
    pub auth: &'static str,
    /// More lines of the connection.
    pub lines: Vec<String>,
    /// Asks for an address; without it `lines` say `leftsubnet`.
    pub wants_address: bool,
    /// Begins again by itself after a failure, which blurs the first; goes where it is redirected.
    pub revives: bool,
    /// Connections beside the first: name, and lines that differ.
    pub more: Vec<(&'static str, String)>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            id: CLIENT_ID,
            own: CLIENT.to_owned(),
            gateway: GATEWAY.to_owned(),
            ike: "aes_gcm256-sha2_256-dh31".to_owned(),
            esp: "aes_gcm256".to_owned(),
            remote_ts: INSIDE_NET.to_owned(),
            secret: SECRET.to_owned(),
            ppk: None,
            keys: None,
            auth: "authby=secret",
            lines: Vec::new(),
            wants_address: true,
            revives: false,
            more: Vec::new(),
        }
    }
}

impl Client {
    /// Adds lines to the connection.
    pub fn more_lines(&mut self, lines: &[&str]) {
        self.lines.extend(lines.iter().map(|&line| line.to_owned()));
    }

    fn conf(&self, folder: &str) -> String {
        let mut out = format!(
            "config setup\n nssdir={folder}/nss\n ipsecdir={folder}\n dumpdir={folder}\n \
             secretsfile={folder}/secrets\n logtime=no\n\
             conn home\n ikev2=insist\n left={}\n leftid=@{}\n right={}\n \
             rightid=@{GATEWAY_ID}\n ike={}\n esp={}\n leftupdown=%disabled\n auto=ignore\n",
            self.own, self.id, self.gateway, self.ike, self.esp
        );
        if !self.remote_ts.is_empty() {
            out += &format!(" rightsubnet={}\n", self.remote_ts);
        }
        if self.wants_address {
            let all = if self.remote_ts.contains(':') {
                "::/0"
            } else {
                "0.0.0.0/0"
            };
            out += &format!(
                " leftsubnet={all}\n leftmodecfgclient=yes\n modecfgpull=yes\n narrowing=yes\n"
            );
        }
        out += &format!(" {}\n", self.auth);
        if let Some((own, gateway)) = &self.keys {
            let key = body(&gateway.public);
            out += &format!(" leftckaid={}\n rightpubkey={key}\n", own.ckaid);
        }
        for line in &self.lines {
            out += &format!(" {line}\n");
        }
        let first = out.clone();
        let (_, first) = first.split_once("conn home\n").unwrap();
        for (name, lines) in &self.more {
            // What comes again counts, and may come only once.
            let kept = first.lines().filter(|line| {
                let key = line.split('=').next().unwrap_or_default();
                !lines
                    .lines()
                    .any(|other| other.split('=').next() == Some(key.trim()))
            });
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            let own: String = lines.lines().map(|line| format!(" {line}\n")).collect();
            out += &format!("conn {name}\n{kept}{own}");
        }
        out
    }
}

/// The base64 text of a PEM file in one line.
fn body(pem: &Path) -> String {
    let text = read(pem);
    text.lines().filter(|line| !line.starts_with('-')).collect()
}

/// A raw key pair that lives in libreswan's NSS database.
#[derive(Clone, Debug)]
pub struct NssKey {
    ckaid: String,
    /// The public key as PEM.
    pub public: PathBuf,
}

impl NssKey {
    /// `rsasigkey` or `ecdsasigkey` with its words makes it.
    pub fn make(world: &World, program: &str, words: &[&str]) -> Self {
        let nss = database(world);
        let tool = |name: &str, words: &[&str]| {
            let program = format!("/usr/libexec/ipsec/{name}");
            tool(world, &program, &[&["--nssdir", &nss], words].concat())
        };
        let said = tool(program, words);
        let ckaid = said
            .split_once("CKAID ")
            .and_then(|(_, rest)| rest.split(' ').next())
            .unwrap_or_else(|| panic!("no CKAID in:\n{said}"))
            .to_owned();
        let pem = tool("showhostkey", &["--pem", "--ckaid", &ckaid]);
        let public = world.path("nss-key.pub");
        fs::write(&public, pem).unwrap();
        Self { ckaid, public }
    }
}

/// Puts a certificate with its key, what is above it and who is trusted into the NSS database; gives
/// the lines of a connection that shows it.
pub fn certify(world: &World, own: &Holder, above: &[Holder], trusted: &Holder) -> Vec<String> {
    let place = format!("sql:{}", database(world));
    let archive = world.path("client.p12");
    let mut command = Command::new("openssl");
    command.args(["pkcs12", "-export", "-name", "client", "-passout", "pass:p"]);
    command.args(["-inkey", text(&own.keys.private)]);
    command.args(["-in", text(&own.certificate), "-out", text(&archive)]);
    assert!(command.status().unwrap().success(), "{command:?}");
    let words = ["-i", text(&archive), "-d", &place, "-W", "p", "-K", ""];
    tool(world, "/usr/bin/pk12util", &words);
    let trust = |name: &str, flags: &str, holder: &Holder| {
        let words = ["-A", "-a", "-d", &place, "-n", name, "-t", flags, "-i"];
        let file = [text(&holder.certificate)];
        tool(world, "/usr/bin/certutil", &[&words[..], &file].concat());
    };
    trust("root", "CT,,", trusted);
    for (number, holder) in above.iter().enumerate() {
        trust(&format!("above-{number}"), ",,", holder);
    }
    let lines = ["leftcert=client", "leftsendcert=always", "rightca=%any"];
    lines.map(str::to_owned).to_vec()
}

/// Makes the NSS database once and gives its folder.
fn database(world: &World) -> String {
    let folder = world.folder("libreswan/nss");
    if !folder.join("cert9.db").exists() {
        let place = format!("sql:{}", text(&folder));
        let words = ["-N", "--empty-password", "-d", &place];
        tool(world, "/usr/bin/certutil", &words);
    }
    text(&folder).to_owned()
}

/// Runs one of the programs that come with libreswan.
fn tool(world: &World, program: &str, words: &[&str]) -> String {
    let root = release::running().root();
    let mut command = world.command_in("rw", root.as_deref(), program);
    let output = command.args(words).output().unwrap();
    let said = lossy(&output.stdout) + &lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// A running pluto with its connection loaded.
#[derive(Debug)]
pub struct Libreswan {
    process: Process,
    folder: PathBuf,
}

impl Libreswan {
    pub fn start(world: &World, client: &Client) -> Self {
        let folder = world.folder("libreswan");
        let run = world.folder("libreswan/run");
        database(world);
        let conf = folder.join("ipsec.conf");
        fs::write(&conf, client.conf(text(&folder))).unwrap();
        let id = client.id;
        let mut secret = format!("@{id} @{GATEWAY_ID} : PSK \"{}\"\n", client.secret);
        if let Some((ppk, key)) = client.ppk {
            secret += &format!("@{id} @{GATEWAY_ID} : PPKS \"{ppk}\" \"{key}\"\n");
        }
        fs::write(folder.join("secrets"), secret).unwrap();
        let root = release::running().root();
        let mut command = world.command_in("rw", root.as_deref(), "/usr/libexec/ipsec/pluto");
        command.args(["--config", text(&conf), "--rundir", text(&run)]);
        command.args(["--nofork", "--stderrlog", "--no-dnssec"]);
        if !client.revives {
            command.args(["--impair", "revival"]);
        }
        let mut swan = Self {
            process: world.start("pluto", command),
            folder,
        };
        wait_for("pluto", || {
            swan.process.must_run();
            let log = swan.process.log();
            log.contains("loading secrets from").then_some(())
        });
        swan.load("home");
        for (name, _) in &client.more {
            swan.load(name);
        }
        swan
    }

    fn load(&self, name: &str) {
        let (conf, run) = (self.folder.join("ipsec.conf"), self.folder.join("run"));
        let socket = run.join("pluto.ctl");
        let words = ["--config", text(&conf), "--ctlsocket", text(&socket), name];
        let said = self.say("addconn", &words);
        let log = self.process.log();
        assert!(
            log.contains(&format!("\"{name}\": added IKEv2 connection")),
            "{said}{log}"
        );
    }

    /// One of libreswan's programs beside pluto.
    fn say(&self, program: &str, words: &[&str]) -> String {
        let path = format!("/usr/libexec/ipsec/{program}");
        let output = self.process.beside(&path).args(words).output().unwrap();
        lossy(&output.stdout) + &lossy(&output.stderr)
    }

    fn whack(&self, words: &[&str]) -> String {
        let run = self.folder.join("run");
        self.say("whack", &[&["--rundir", text(&run)], words].concat())
    }

    /// Connects, or tries to; gives what pluto said until it was up or had failed.
    pub fn connect(&self) -> String {
        self.initiate("home")
    }

    /// The same with any of its connections.
    pub fn initiate(&self, name: &str) -> String {
        self.whack(&["--initiate", "--name", name])
    }

    /// Ends pluto as a crash would.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Everything that pluto has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn wait_for_log(&self, part: &str) {
        wait_for(&format!("`{part}` in the log of pluto"), || {
            self.log().contains(part).then_some(())
        });
    }

    /// Sends the peers of its IKE SAs to another address (RFC 5685).
    pub fn redirect(&self, to: &str) {
        self.whack(&["--redirect-to", to, "--name", "home"]);
    }

    /// Deletes the IKE SA, telling the gateway.
    pub fn disconnect(&self) {
        self.whack(&["--terminate", "--name", "home"]);
    }

    /// Ends one of its connections and forgets it; the IKE SA goes with the last.
    pub fn delete(&self, name: &str) {
        self.whack(&["--delete", "--name", name]);
    }

    /// Begins a rekey of the Child SA.
    pub fn rekey_child(&self) {
        self.rekey_child_of("home");
    }

    /// The same with any of its connections.
    pub fn rekey_child_of(&self, name: &str) {
        let older = release::running() == Release::Libreswan4_10;
        let word = if older {
            "--rekey-ipsec"
        } else {
            "--rekey-child"
        };
        self.whack(&[word, "--name", name, "--asynchronous"]);
    }

    /// Begins a rekey of the IKE SA.
    pub fn rekey_ike(&self) {
        self.whack(&["--rekey-ike", "--name", "home", "--asynchronous"]);
    }

    /// Child SAs with their counters.
    pub fn traffic(&self) -> String {
        self.whack(&["--trafficstatus"])
    }

    /// IKE SAs and Child SAs.
    pub fn states(&self) -> String {
        self.whack(&["--showstates"])
    }

    /// Waits until what it says of its SAs is as expected.
    pub fn wait_for_states(&self, expected: impl Fn(&str) -> bool) {
        wait_for("the SAs of pluto", || {
            expected(&self.states()).then_some(())
        });
    }
}
