//! The credentials under the configuration directory: `private/local.key` and
//! `pubkeys/{ipv4,ipv6,fqdn,ufqdn}/NAME`. Everything is read when the daemon starts or reloads; no
//! file is touched for a peer, so a peer's identity is never part of a path.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

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

    /// Reads the keys of one kind of identity. Names with a leading dot are no identities, but
    /// what version control and editors leave behind.
    fn load_folder(&mut self, folder: &Path, kind: IdType, warnings: &mut Vec<String>) {
        let names = match names_in(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                warnings.push(format!("{}: {error}", folder.display()));
                return;
            }
        };
        for name in names {
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let path = folder.join(&name);
            let Some(identity) = identity_of(kind, &name) else {
                warnings.push(format!("{}: not a name of this kind", path.display()));
                continue;
            };
            let key = read_file(&path)
                .map_err(|error| error.to_string())
                .and_then(|(pem, _)| PublicKey::from_pem(&pem).map_err(|error| error.to_string()));
            match key {
                Ok(key) => self.peers.entry(identity).or_default().push(key),
                Err(error) => warnings.push(format!("{}: {error}", path.display())),
            }
        }
    }
}

/// In order, so that two loads of the same files make the same store.
fn names_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let names: io::Result<Vec<_>> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    let mut names = names?;
    names.sort();
    Ok(names)
}

fn load_own(path: &Path, warnings: &mut Vec<String>) -> Option<(PrivateKey, PublicKey)> {
    let (pem, metadata) = match read_file(path) {
        Ok(file) => file,
        // A gateway with pre-shared keys only needs none.
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            warnings.push(format!("{}: {error}", path.display()));
            return None;
        }
    };
    // Not refused: OpenIKED takes such a key without a word, and set-ups may depend on it.
    let own = fs::metadata("/proc/self").map_or(0, |own| own.uid());
    if let Some(exposure) = exposure(metadata.uid(), metadata.mode(), own) {
        warnings.push(format!("{}: {exposure}", path.display()));
    }
    let key = PrivateKey::from_pem(&pem).and_then(|key| key.public().map(|public| (key, public)));
    key.map_err(|error| warnings.push(format!("{}: {error}", path.display())))
        .ok()
}

/// A whole file, and what the open file (and not its path, which may by now name another) says of
/// itself.
fn read_file(path: &Path) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    // A FIFO would keep us waiting for a writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    // All at once: a growing buffer would leave copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX));
    file.take(FILE_MAX as u64).read_to_end(&mut bytes)?;
    if bytes.len() == FILE_MAX {
        return Err(io::Error::other("file too large"));
    }
    Ok((bytes, metadata))
}

/// What is wrong with the owner and mode of a private key.
fn exposure(owner: u32, mode: u32, own: u32) -> Option<String> {
    if owner != 0 && owner != own {
        return Some("owner not root or current user".to_owned());
    }
    (mode & 0o077 != 0).then(|| format!("mode {:03o} lets others at it", mode & 0o777))
}

/// The identity that a file is named after, byte for byte as the peer sends it; addresses may be
/// written in any form.
fn identity_of(kind: IdType, name: &OsStr) -> Option<Identity> {
    let data = match kind {
        IdType::IPV4_ADDR => name.to_str()?.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        IdType::IPV6_ADDR => name.to_str()?.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
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
/// No key in PEM comes near it; keeps a file put there by mistake out of memory.
const FILE_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
