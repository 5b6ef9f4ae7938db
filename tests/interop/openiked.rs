//! OpenIKED as the peer: its configuration, and what its `ikectl` says.
//!
//! On Linux it loads SAs by PF_KEY alone, so it needs the rig's kernel even to start, and has neither
//! AEAD nor SHA2-256 in ESP.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::gateway::{CLIENT_ID, Conf, GATEWAY_ID, SECRET};
use super::keys::{Keys, Kind};
use super::pki::Holder;
use super::release;
use super::world::{CLIENT, GATEWAY, Process, World, lossy, text, wait_for};

/// The network behind the peer, and a host there.
pub const BEHIND_NET: &str = "10.66.0.0/24";
pub const BEHIND: &str = "10.66.0.1";

/// What of the peer's configuration differs from test to test.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `passive` or `active`.
    pub mode: &'static str,
    /// `set` lines, without the word.
    pub set: Vec<String>,
    /// `tunnel` or `transport`.
    pub encap: &'static str,
    /// `local` and `peer`.
    pub hosts: String,
    pub flows: String,
    pub suite: Suite,
    /// `ikelifetime` and `lifetime`.
    pub lifetimes: String,
    /// `config` and `request` clauses, and `iface`.
    pub config: &'static str,
    /// Own keys and the gateway's, instead of the secret.
    pub keys: Option<(Keys, Keys)>,
    pub id: &'static str,
    pub secret: String,
    /// Own certificate and the authority that it trusts, instead of either.
    pub certified: Option<(Holder, Holder)>,
    /// `ikectl ca` has put its key and certificates in place, instead of any of these.
    pub installed: bool,
}

/// Words of iked.conf(5), the same at both ends.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    pub ikesa: &'static str,
    pub childsa: &'static str,
}

pub const CBC_X25519: Suite = Suite {
    ikesa: "enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519",
    childsa: "enc aes-256 auth hmac-sha2-512",
};

pub const GCM_ECP256: Suite = Suite {
    ikesa: "enc aes-256-gcm prf hmac-sha2-256 group ecp256",
    childsa: "enc aes-128 auth hmac-sha2-384",
};

/// OpenIKED's own hybrid key exchange, for the Child SA's rekeys as well.
pub const GCM_SNTRUP: Suite = Suite {
    ikesa: "enc aes-256-gcm prf hmac-sha2-256 group sntrup761x25519",
    childsa: "enc aes-128 auth hmac-sha2-384 group sntrup761x25519",
};

impl Peer {
    pub fn new(mode: &'static str) -> Self {
        Self {
            mode,
            set: Vec::new(),
            encap: "tunnel",
            hosts: format!("local {CLIENT} peer {GATEWAY}"),
            flows: format!("from {BEHIND_NET} to 10.8.0.0/24"),
            suite: CBC_X25519,
            lifetimes: String::new(),
            config: "",
            keys: None,
            id: CLIENT_ID,
            secret: SECRET.to_owned(),
            certified: None,
            installed: false,
        }
    }

    /// Our configuration for this peer: it begins if the peer does not.
    pub fn mirror(&self) -> Conf {
        Conf {
            set: self.set.clone(),
            mode: if self.mode == "active" {
                "passive"
            } else {
                "active"
            },
            encap: self.encap,
            hosts: format!("local {GATEWAY} peer {CLIENT}"),
            flows: format!("from 10.8.0.0/24 to {BEHIND_NET}"),
            ikesa: vec![self.suite.ikesa.to_owned()],
            childsa: vec![self.suite.childsa.to_owned()],
            auth: self.auth(SECRET),
            config: Vec::new(),
            ..Conf::default()
        }
    }

    fn auth(&self, secret: &str) -> String {
        if self.installed || self.keys.is_some() || self.certified.is_some() {
            return String::new();
        }
        format!("psk \"{secret}\"")
    }

    fn conf(&self) -> String {
        let mut out = String::new();
        for set in &self.set {
            out += &format!("set {set}\n");
        }
        let (id, auth) = (self.id, self.auth(&self.secret));
        out + &format!(
            "ikev2 \"home\" {} {} esp {} {} \\\n  ikesa {} \\\n  \
             childsa {} \\\n  srcid {id} dstid {GATEWAY_ID} {} {auth} {}\n",
            self.mode,
            self.encap,
            self.flows,
            self.hosts,
            self.suite.ikesa,
            self.suite.childsa,
            self.lifetimes,
            self.config
        )
    }
}

/// A running OpenIKED.
#[derive(Debug)]
pub struct OpenIked {
    process: Process,
    socket: PathBuf,
}

impl OpenIked {
    pub fn start(world: &World, peer: &Peer) -> Self {
        let folder = world.folder("openiked");
        let file = folder.join("iked.conf");
        fs::write(&file, peer.conf()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let socket = folder.join("iked.sock");
        let root = release::running().root();
        // Its keys have one place, which this process alone sees.
        let keys = world.folder("openiked/etc");
        for part in ["ca", "certs", "crls", "private", "pubkeys/fqdn"] {
            fs::create_dir_all(keys.join(part)).unwrap();
        }
        let own = match (&peer.keys, &peer.certified) {
            (_, Some((own, trusted))) => {
                fs::copy(&trusted.certificate, keys.join("ca/root.crt")).unwrap();
                fs::copy(&own.certificate, keys.join("certs/own.crt")).unwrap();
                own.keys.clone()
            }
            (Some((own, gateway)), None) => {
                let pin = keys.join("pubkeys/fqdn").join(GATEWAY_ID);
                fs::copy(&gateway.public, pin).unwrap();
                own.clone()
            }
            // It does not start without a key, whether or not it needs one.
            (None, None) => Keys::make(world, "unused", Kind::EcdsaP256),
        };
        if !peer.installed {
            fs::copy(&own.private, keys.join("private/local.key")).unwrap();
        }
        let mut command = world.command_with(
            "rw",
            root.as_deref(),
            &[(text(&keys), "etc/iked")],
            "/usr/sbin/iked",
        );
        command.args(["-dvv", "-f", text(&file), "-s", text(&socket)]);
        let mut iked = Self {
            process: world.start("openiked", command),
            socket,
        };
        // It answers before it is ready, and then drops what has begun meanwhile.
        wait_for("OpenIKED", || {
            iked.process.must_run();
            let log = iked.process.log();
            let ready = READY.iter().all(|line| log.contains(line));
            iked.try_ikectl(&["show", "sa"]).filter(|_| ready)
        });
        thread::sleep(Duration::from_millis(500));
        iked
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as a crash would, with its children, which would tell the gateway.
    pub fn kill(mut self) {
        self.process.kill_family();
    }

    fn try_ikectl(&self, words: &[&str]) -> Option<String> {
        let mut command = self.process.beside("/usr/sbin/ikectl");
        command.args(["-s", text(&self.socket)]).args(words);
        let output = command.output().unwrap();
        output.status.success().then(|| lossy(&output.stdout))
    }

    /// What our `ikectl` prints of it.
    pub fn our_ikectl(&self, words: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ikectl"));
        command.args(["-s", text(&self.socket)]).args(words);
        let output = command.output().unwrap();
        let error = lossy(&output.stderr);
        assert!(output.status.success(), "ikectl {words:?}: {error}");
        lossy(&output.stdout)
    }

    /// What its `ikectl` prints.
    pub fn ikectl(&self, words: &[&str]) -> String {
        self.try_ikectl(words)
            .unwrap_or_else(|| panic!("its ikectl {words:?} failed:\n{}", self.process.log()))
    }
}

/// What it logs last when it has started.
const READY: [&str; 2] = [
    "config_getstatic: no stickyaddress",
    "config_getcompile: compilation done",
];
