//! The credentials under the configuration directory: `private/local.key` and
//! `pubkeys/{ipv4,ipv6,fqdn,ufqdn}/NAME`. Everything is read when the daemon starts or reloads; no
//! file is touched for a peer, so a peer's identity is never part of a path.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::crypto::sign::{PrivateKey, PublicKey};
use crate::policy::Identity;
use crate::wire::registry::IdType;

/// Our private key, and the public keys of peers by identity.
#[derive(Debug, Default)]
pub struct CredentialStore {
    own: Option<(PrivateKey, PublicKey)>,
    peers: BTreeMap<Identity, Vec<PublicKey>>,
}

impl CredentialStore {
    /// Reads the files under `config_dir`. What cannot be used is named in a warning and left out; a
    /// directory that is not there is empty.
    pub fn load(config_dir: &Path) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let own = load_own(&config_dir.join("private/local.key"), &mut warnings);
        let mut store = Self {
            own,
            peers: BTreeMap::new(),
        };
        for (folder, kind) in FOLDERS {
            store.load_folder(
                &config_dir.join("pubkeys").join(folder),
                kind,
                &mut warnings,
            );
        }
        (store, warnings)
    }

    /// A store of given keys, for tests and benches.
    pub fn from_keys(own: Option<PrivateKey>, peers: Vec<(Identity, PublicKey)>) -> Self {
        let own = own.and_then(|key| key.public().ok().map(|public| (key, public)));
        let mut store = Self {
            own,
            peers: BTreeMap::new(),
        };
        for (identity, key) in peers {
            store.peers.entry(identity).or_default().push(key);
        }
        store
    }

    /// Our private key.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.own.as_ref().map(|(key, _)| key)
    }

    /// Its public half.
    pub fn own_public_key(&self) -> Option<&PublicKey> {
        self.own.as_ref().map(|(_, public)| public)
    }

    /// The keys on file for a peer.
    pub fn peer_keys(&self, identity: &Identity) -> &[PublicKey] {
        self.peers.get(identity).map_or(&[], Vec::as_slice)
    }

    fn load_folder(&mut self, folder: &Path, kind: IdType, warnings: &mut Vec<String>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let identity = name.to_str().and_then(|name| identity_of(kind, name));
            let Some(identity) = identity else {
                warnings.push(format!("{}: not a name of this kind", path.display()));
                continue;
            };
            let key = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|pem| PublicKey::from_pem(&pem).map_err(|error| error.to_string()));
            match key {
                Ok(key) => self.peers.entry(identity).or_default().push(key),
                Err(error) => warnings.push(format!("{}: {error}", path.display())),
            }
        }
    }
}

fn load_own(path: &Path, warnings: &mut Vec<String>) -> Option<(PrivateKey, PublicKey)> {
    let pem = match fs::read(path) {
        Ok(pem) => zeroize::Zeroizing::new(pem),
        // A gateway with pre-shared keys only needs none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            warnings.push(format!("{}: {error}", path.display()));
            return None;
        }
    };
    warnings.extend(exposed(path));
    let key = PrivateKey::from_pem(&pem).and_then(|key| key.public().map(|public| (key, public)));
    key.map_err(|error| warnings.push(format!("{}: {error}", path.display())))
        .ok()
}

/// A private key that others may read deserves a word.
fn exposed(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        format!(
            "{}: mode {:03o} lets others read it",
            path.display(),
            mode & 0o777
        )
    })
}

fn identity_of(kind: IdType, name: &str) -> Option<Identity> {
    let data = match kind {
        IdType::IPV4_ADDR => name.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        IdType::IPV6_ADDR => name.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        _ => name.as_bytes().to_vec(),
    };
    Some(Identity { kind, data })
}

const FOLDERS: [(&str, IdType); 4] = [
    ("ipv4", IdType::IPV4_ADDR),
    ("ipv6", IdType::IPV6_ADDR),
    ("fqdn", IdType::FQDN),
    ("ufqdn", IdType::RFC822_ADDR),
];
