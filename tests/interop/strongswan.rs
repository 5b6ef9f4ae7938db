//! strongSwan's charon as the client: its configuration, and what swanctl says of it. Where the
//! kernel has no ESP it keeps its Child SAs in user space, which makes it use port 4500 always.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use super::gateway::{CLIENT_ID, GATEWAY_ID, SECRET};
use super::keys::Keys;
use super::release;
use super::world::{
    GATEWAY, INSIDE_NET, Process, World, coupled, lossy, need, read, text, wait_for,
};

const PACKAGES: &str = "strongswan-swanctl charon-systemd libcharon-extra-plugins \
                        libcharon-extauth-plugins libstrongswan-extra-plugins";

/// What of the client's configuration differs from test to test.
#[derive(Clone, Debug)]
pub struct Client {
    /// Who it says it is.
    pub id: &'static str,
    pub remote: String,
    pub proposals: String,
    pub esp_proposals: String,
    /// Addresses to ask for.
    pub vips: String,
    pub local_ts: Option<String>,
    pub remote_ts: String,
    /// Children beside the first: name and `remote_ts`.
    pub more_children: Vec<(&'static str, &'static str)>,
    /// More lines of every child.
    pub child_lines: Vec<String>,
    /// Addresses for whoever asks: name and `addrs`.
    pub pools: Vec<(&'static str, &'static str)>,
    pub secret: String,
    /// Own keys and the gateway's, instead of the secret.
    pub keys: Option<(Keys, Keys)>,
    /// Post-quantum pre-shared keys: ID and secret.
    pub ppks: Vec<(&'static str, &'static str)>,
    /// How both ends prove themselves, where it is neither of these.
    pub credentials: Option<Credentials>,
    /// More lines of the connection.
    pub lines: Vec<String>,
    /// More Child SAs.
    pub children: Vec<String>,
    /// More plugins.
    pub plugins: &'static str,
    /// One that `plugin.sh` builds for the release that is installed on this machine.
    pub built_plugin: Option<&'static str>,
    /// More lines of strongswan.conf.
    pub daemon_lines: Vec<String>,
}

/// Certificates or EAP, in the words of swanctl.conf.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Lines of `local`.
    pub local: String,
    /// Lines of `remote`.
    pub remote: String,
    /// Sections of `secrets`.
    pub secrets: String,
    /// What goes where under the folder of swanctl.
    pub files: Vec<(PathBuf, String)>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            id: CLIENT_ID,
            remote: GATEWAY.to_owned(),
            proposals: "aes256gcm16-prfsha256-x25519".to_owned(),
            esp_proposals: "aes256gcm16".to_owned(),
            vips: "0.0.0.0".to_owned(),
            local_ts: None,
            remote_ts: INSIDE_NET.to_owned(),
            more_children: Vec::new(),
            child_lines: Vec::new(),
            pools: Vec::new(),
            secret: SECRET.to_owned(),
            keys: None,
            ppks: Vec::new(),
            credentials: None,
            lines: Vec::new(),
            children: Vec::new(),
            plugins: "",
            built_plugin: None,
            daemon_lines: Vec::new(),
        }
    }
}

impl Client {
    fn connection(&self) -> String {
        let auth = |key: &str| match self.keys {
            Some(_) => format!("auth = pubkey\n pubkeys = {key}.pem\n"),
            None => "auth = psk\n".to_owned(),
        };
        let mut out = format!(
            "connections {{ home {{\n version = 2\n remote_addrs = {}\n proposals = {}\n",
            self.remote, self.proposals
        );
        if !self.vips.is_empty() {
            out += &format!(" vips = {}\n", self.vips);
        }
        if !self.pools.is_empty() {
            let names: Vec<&str> = self.pools.iter().map(|(name, _)| *name).collect();
            out += &format!(" pools = {}\n", names.join(", "));
        }
        for line in &self.lines {
            out += &format!(" {line}\n");
        }
        let (local, remote) = match &self.credentials {
            Some(credentials) => (credentials.local.clone(), credentials.remote.clone()),
            None => (auth("client"), auth("gateway")),
        };
        out += &format!(" local {{ {local} id = {}\n }}\n", self.id);
        out += &format!(" remote {{ {remote} id = {GATEWAY_ID}\n }}\n");
        out += " children {\n";
        let first = ("net", self.remote_ts.as_str());
        for (name, remote_ts) in [&[first][..], &self.more_children].concat() {
            out += &format!(
                " {name} {{\n esp_proposals = {}\n remote_ts = {remote_ts}\n",
                self.esp_proposals
            );
            if let Some(local) = &self.local_ts {
                out += &format!(" local_ts = {local}\n");
            }
            for line in &self.child_lines {
                out += &format!(" {line}\n");
            }
            out += " }\n";
        }
        for child in &self.children {
            out += &format!(" {child}\n");
        }
        out += "} } }\n";
        for (name, addresses) in &self.pools {
            out += &format!("pools {{ {name} {{ addrs = {addresses}\n }} }}\n");
        }
        if let Some(credentials) = &self.credentials {
            out += &format!("secrets {{ {} }}\n", credentials.secrets);
        } else if self.keys.is_none() {
            out += &format!(
                "secrets {{ ike-home {{ secret = \"{}\" }} }}\n",
                self.secret
            );
        }
        for (number, (id, secret)) in self.ppks.iter().enumerate() {
            let words = format!("id = {id}\n secret = \"{secret}\"\n");
            out += &format!("secrets {{ ppk-{number} {{ {words} }} }}\n");
        }
        out
    }

    fn settings(&self, folder: &str) -> String {
        let kernel = if coupled() {
            "kernel-netlink"
        } else {
            "kernel-libipsec kernel-netlink"
        };
        let more = self.daemon_lines.join("\n ");
        format!(
            "charon-systemd {{\n load = random nonce openssl aes sha1 sha2 hmac kdf curve25519 gcm \
             pem pkcs1 pkcs7 pkcs8 pkcs12 pubkey x509 constraints eap-identity eap-mschapv2 eap-md5 eap-gtc eap-tls eap-ttls vici {kernel} socket-default updown {} {}\n \
             plugins {{ vici {{ socket = unix://{folder}/vici\n }} }}\n \
             filelog {{ file {{ path = {folder}/../charon-file.log\n default = 1\n ike = 2\n cfg = 2\n \
             flush_line = yes\n }} }}\n retransmit_tries = 3\n {more}\n}}\n\
             swanctl {{ load =\n plugins {{ vici {{ socket = unix://{folder}/vici\n }} }} }}\n",
            self.plugins,
            self.built_plugin.unwrap_or_default()
        )
    }
}

/// A running charon with its connection loaded.
#[derive(Debug)]
pub struct StrongSwan<'w> {
    world: &'w World,
    process: Process,
    folder: PathBuf,
}

impl<'w> StrongSwan<'w> {
    pub fn start(world: &'w World, client: &Client) -> Self {
        let root = release::running().root();
        if root.is_none() {
            need("charon-systemd", PACKAGES);
            need("swanctl", PACKAGES);
        }
        let folder = world.folder("strongswan");
        let settings = client.settings(text(&folder));
        fs::write(folder.join("strongswan.conf"), settings).unwrap();
        fs::write(folder.join("swanctl.conf"), client.connection()).unwrap();
        for part in ["pkcs12", "private", "pubkey", "x509", "x509ca"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        if let Some((own, gateway)) = &client.keys {
            fs::copy(&own.private, folder.join("private/client.pem")).unwrap();
            fs::copy(&own.public, folder.join("pubkey/client.pem")).unwrap();
            fs::copy(&gateway.public, folder.join("pubkey/gateway.pem")).unwrap();
        }
        for (from, to) in client.credentials.iter().flat_map(|c| &c.files) {
            fs::copy(from, folder.join(to)).unwrap();
        }
        let program = "charon-systemd";
        let mut command = match client.built_plugin {
            None => world.command_in("rw", root.as_deref(), program),
            Some(plugin) => {
                let mut command = world.command_in("rw", root.as_deref(), "env");
                let library = text(&release::plugin(plugin)).to_owned();
                command.args([&format!("LD_PRELOAD={library}"), program]);
                command
            }
        };
        command.env("STRONGSWAN_CONF", folder.join("strongswan.conf"));
        let mut swan = Self {
            world,
            process: world.start("charon", command),
            folder,
        };
        wait_for("charon", || {
            swan.process.must_run();
            let output = swan.swanctl(&["--stats"]);
            output.status.success().then_some(())
        });
        let file = swan.folder.join("swanctl.conf");
        let output = swan.swanctl(&["--load-all", "--file", text(&file)]);
        let (out, error) = (lossy(&output.stdout), lossy(&output.stderr));
        assert!(output.status.success(), "swanctl --load-all: {out}{error}");
        swan
    }

    fn swanctl(&self, words: &[&str]) -> Output {
        let socket = format!("unix://{}/vici", text(&self.folder));
        self.process
            .beside("swanctl")
            .env("STRONGSWAN_CONF", self.folder.join("strongswan.conf"))
            .args(words)
            .args(["--uri", &socket])
            .output()
            .unwrap()
    }

    fn say(&self, words: &[&str]) -> (bool, String) {
        let output = self.swanctl(words);
        let text = lossy(&output.stdout) + &lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// Connects; gives what charon said. Fails unless the Child SA came up.
    pub fn connect(&self) -> String {
        let (up, said) = self.try_connect();
        assert!(up, "the client did not get in:\n{said}");
        said
    }

    /// Asks for a Child SA; fails unless it came up.
    pub fn initiate(&self, child: &str) -> String {
        let (up, said) = self.say(&["--initiate", "--child", child, "--timeout", "25"]);
        assert!(up, "no Child SA {child}:\n{said}");
        said
    }

    /// Tries to connect.
    pub fn try_connect(&self) -> (bool, String) {
        self.say(&["--initiate", "--child", "net", "--timeout", "25"])
    }

    /// Tries to connect without waiting for what comes of it.
    pub fn start_connecting(&self) {
        self.say(&["--initiate", "--child", "net", "--timeout", "-1"]);
    }

    pub fn list_sas(&self) -> String {
        self.say(&["--list-sas"]).1
    }

    /// Deletes the IKE SA, telling the gateway.
    pub fn disconnect(&self) -> String {
        let (down, said) = self.say(&["--terminate", "--ike", "home", "--timeout", "20"]);
        assert!(down, "swanctl --terminate:\n{said}");
        said
    }

    /// Rekeys what the words name; fails unless charon says that it did.
    pub fn rekey(&self, words: &[&str]) -> String {
        let (done, said) = self.say(&[&["--rekey"], words].concat());
        assert!(done, "swanctl --rekey {words:?}:\n{said}");
        said
    }

    /// The numbers of the IKE SAs that are up.
    pub fn established(&self) -> Vec<String> {
        let listed = self.list_sas();
        let lines = listed
            .lines()
            .filter(|line| line.contains(", ESTABLISHED,"));
        let numbers = lines.filter_map(|line| line.split(',').next());
        numbers.map(str::to_owned).collect()
    }

    /// Deletes a Child SA alone.
    pub fn drop_child(&self, child: &str) -> String {
        let (down, said) = self.say(&["--terminate", "--child", child, "--timeout", "20"]);
        assert!(down, "swanctl --terminate:\n{said}");
        said
    }

    /// Everything that charon has logged.
    pub fn log(&self) -> String {
        read(&self.world.path("charon-file.log"))
    }

    pub fn wait_for_log(&self, part: &str) {
        wait_for(&format!("`{part}` in the log of charon"), || {
            self.log().contains(part).then_some(())
        });
    }

    /// Ends charon as a crash would.
    pub fn kill(mut self) {
        self.process.kill();
    }
}
