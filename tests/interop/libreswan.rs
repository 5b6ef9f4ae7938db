//! libreswan's pluto as the client: its configuration, and what whack says of it.
//!
//! It runs from a folder that `libreswan.sh` unpacks. Without ESP in the kernel it authenticates,
//! takes its address and the selectors, and gives up when it installs the first SA: a decoupled test
//! can hold both ends to everything before that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::gateway::{CLIENT_ID, GATEWAY_ID, SECRET};
use super::keys::Keys;
use super::world::{CLIENT, GATEWAY, INSIDE_NET, Process, World, lossy, read, text, wait_for};

/// What of the client's configuration differs from test to test; [`Client::default`] is a road
/// warrior that asks for an address.
#[derive(Clone, Debug)]
pub struct Client {
    pub own: String,
    pub gateway: String,
    pub ike: String,
    pub esp: String,
    pub remote_ts: String,
    pub secret: String,
    /// Own key and the gateway's, instead of the secret.
    pub keys: Option<(NssKey, Keys)>,
    /// The line that says how both ends prove themselves.
    pub auth: &'static str,
    /// More lines of the connection.
    pub lines: Vec<String>,
    /// Asks for an address; without it `lines` say `leftsubnet`.
    pub wants_address: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            own: CLIENT.to_owned(),
            gateway: GATEWAY.to_owned(),
            ike: "aes_gcm256-sha2_256-dh31".to_owned(),
            esp: "aes_gcm256".to_owned(),
            remote_ts: INSIDE_NET.to_owned(),
            secret: SECRET.to_owned(),
            keys: None,
            auth: "authby=secret",
            lines: Vec::new(),
            wants_address: true,
        }
    }
}

impl Client {
    fn conf(&self, folder: &str) -> String {
        let mut out = format!(
            "config setup\n nssdir={folder}/nss\n ipsecdir={folder}\n dumpdir={folder}\n \
             secretsfile={folder}/secrets\n logtime=no\n\
             conn home\n ikev2=insist\n left={}\n leftid=@{CLIENT_ID}\n right={}\n \
             rightid=@{GATEWAY_ID}\n rightsubnet={}\n ike={}\n esp={}\n \
             leftupdown=%disabled\n auto=ignore\n",
            self.own, self.gateway, self.remote_ts, self.ike, self.esp
        );
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
        let said = tool(program, &[&["--nssdir", &nss], words].concat());
        let ckaid = said
            .split_once("CKAID ")
            .and_then(|(_, rest)| rest.split(' ').next())
            .unwrap_or_else(|| panic!("no CKAID in:\n{said}"))
            .to_owned();
        let pem = tool(
            "showhostkey",
            &["--nssdir", &nss, "--pem", "--ckaid", &ckaid],
        );
        let public = world.path("nss-key.pub");
        fs::write(&public, pem).unwrap();
        Self { ckaid, public }
    }
}

/// Makes the NSS database once and gives its folder.
fn database(world: &World) -> String {
    let folder = world.folder("libreswan/nss");
    if !folder.join("cert9.db").exists() {
        let certutil = unpacked().join("usr/bin/certutil");
        let place = format!("sql:{}", text(&folder));
        run(Command::new(certutil).args(["-N", "--empty-password", "-d", &place]));
    }
    text(&folder).to_owned()
}

/// The folder with libreswan, unpacked now if it was not.
fn unpacked() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/libreswan.sh");
    let output = Command::new(script).output().unwrap();
    let error = lossy(&output.stderr);
    assert!(
        output.status.success(),
        "tests/interop/libreswan.sh: {error}"
    );
    PathBuf::from(lossy(&output.stdout).trim_end())
}

/// Runs one of libreswan's own programs.
fn tool(name: &str, words: &[&str]) -> String {
    let program = unpacked().join("usr/libexec/ipsec").join(name);
    run(Command::new(program).args(words))
}

fn run(command: &mut Command) -> String {
    let output = command
        .env("LD_LIBRARY_PATH", libraries(&unpacked()))
        .output()
        .unwrap();
    let said = lossy(&output.stdout) + &lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn libraries(root: &Path) -> String {
    let folder = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    text(&root.join(folder)).to_owned()
}

/// A running pluto with its connection loaded.
#[derive(Debug)]
pub struct Libreswan<'w> {
    world: &'w World,
    process: Process,
    root: PathBuf,
    folder: PathBuf,
}

impl<'w> Libreswan<'w> {
    pub fn start(world: &'w World, client: &Client) -> Self {
        let root = unpacked();
        let folder = world.folder("libreswan");
        let run = world.folder("libreswan/run");
        database(world);
        let conf = folder.join("ipsec.conf");
        fs::write(&conf, client.conf(text(&folder))).unwrap();
        let secret = format!("@{CLIENT_ID} @{GATEWAY_ID} : PSK \"{}\"\n", client.secret);
        fs::write(folder.join("secrets"), secret).unwrap();
        // Pluto knows the way to its helpers from when it was compiled: they are put there, which
        // only this process sees. What it tries again after a failure would blur the first.
        let script = format!(
            "mount --bind {0}/usr/libexec /usr/libexec && \
             PATH={0}/usr/sbin:$PATH LD_LIBRARY_PATH={1} exec \"$@\"",
            text(&root),
            libraries(&root)
        );
        let mut command = world.command("rw", "sh");
        command.args(["-c", &script, "sh", "/usr/libexec/ipsec/pluto"]);
        command.args(["--config", text(&conf), "--rundir", text(&run)]);
        command.args(["--nofork", "--stderrlog", "--no-dnssec"]);
        command.args(["--impair", "revival"]);
        let mut swan = Self {
            world,
            process: world.start("pluto", command),
            root,
            folder,
        };
        wait_for("pluto", || {
            swan.process.must_run();
            let log = swan.process.log();
            log.contains("loading secrets from").then_some(())
        });
        swan.load();
        swan
    }

    fn load(&self) {
        let (conf, run) = (self.folder.join("ipsec.conf"), self.folder.join("run"));
        let socket = run.join("pluto.ctl");
        let words = [
            "--config",
            text(&conf),
            "--ctlsocket",
            text(&socket),
            "home",
        ];
        let said = self.say("addconn", &words);
        let log = self.process.log();
        assert!(
            log.contains("\"home\": added IKEv2 connection"),
            "{said}{log}"
        );
    }

    /// One of libreswan's programs beside pluto.
    fn say(&self, program: &str, words: &[&str]) -> String {
        let path = self.root.join("usr/libexec/ipsec").join(program);
        let output = self
            .world
            .command("rw", "timeout")
            .args(["25", text(&path)])
            .args(words)
            .env("LD_LIBRARY_PATH", libraries(&self.root))
            .output()
            .unwrap();
        lossy(&output.stdout) + &lossy(&output.stderr)
    }

    fn whack(&self, words: &[&str]) -> String {
        let run = self.folder.join("run");
        self.say("whack", &[&["--rundir", text(&run)], words].concat())
    }

    /// Connects, or tries to; gives what pluto said until it was up or had failed.
    pub fn connect(&self) -> String {
        self.whack(&["--initiate", "--name", "home"])
    }

    /// Deletes the IKE SA, telling the gateway.
    pub fn disconnect(&self) {
        self.whack(&["--terminate", "--name", "home"]);
    }

    /// Child SAs with their counters.
    pub fn traffic(&self) -> String {
        self.whack(&["--trafficstatus"])
    }

    /// IKE SAs and Child SAs.
    pub fn states(&self) -> String {
        self.whack(&["--showstates"])
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
}
