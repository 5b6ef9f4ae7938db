//! Keys and certificates made on the fly. `write` makes a folder for the responder, in the layout of
//! /etc/iked and all in PEM, with what the peers need beside it; `load` reads that and has the
//! authority certify each peer. Peers share one key pair: what it costs the responder to check them
//! is the same, and thousands of RSA keys would take minutes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use iked::auth::store::{CredentialStore, Parts};
use iked::ca::CaError;
use iked::ca::mint::{Mint, Pair, PairKind};
use iked::crypto::CryptoError;
use iked::crypto::sign::{PrivateKey, PublicKey};
use iked::crypto::x509::Certificate;
use iked::policy::Identity;
use iked::wire::registry::IdType;
use indicatif::ProgressIterator as _;

use crate::population;
use crate::scenario::{Auth, KeyKind, Scenario};

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A file is no key or certificate, or not the one of another.
    #[error("{0}: {1}")]
    Content(PathBuf, String),
    /// The cryptographic library refuses.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A certificate cannot be made.
    #[error("certificates: {0}")]
    Certificate(#[from] CaError),
    /// The scenario wants keys.
    #[error("peers with keys need --credentials DIR, a folder that --write-credentials made")]
    NoFolder,
    /// The scenario has no keys.
    #[error("this scenario's peers have no keys: there is nothing to write")]
    NoKeys,
}

/// What a run goes by.
#[derive(Debug)]
pub struct Credentials {
    /// Keys and certificates of all peers, and what they check the responder by.
    pub store: CredentialStore,
    /// Where that is from; empty: from nowhere.
    pub config_dir: PathBuf,
}

/// Those of a scenario's peers. `folder` was made by [`write()`].
pub fn load(scenario: &Scenario, folder: Option<&Path>) -> Result<Credentials, Error> {
    let keys = || folder.ok_or(Error::NoFolder);
    let (store, config_dir) = match &scenario.auth {
        Auth::Psk { .. } => (CredentialStore::default(), Path::new("")),
        Auth::EapMschapv2 { config_dir, .. } => {
            (CredentialStore::load(config_dir, false).0, &**config_dir)
        }
        Auth::Raw { .. } => (raw(scenario, keys()?)?, keys()?),
        Auth::Certificate { .. } => (certified(scenario, keys()?)?, keys()?),
    };
    Ok(Credentials {
        store,
        config_dir: config_dir.to_owned(),
    })
}

/// Makes keys for both ends and writes them below `folder`.
pub fn write(scenario: &Scenario, folder: &Path) -> Result<(), Error> {
    let (kind, certified) = match &scenario.auth {
        Auth::Raw { key } => (*key, false),
        Auth::Certificate { key } => (*key, true),
        Auth::Psk { .. } | Auth::EapMschapv2 { .. } => return Err(Error::NoKeys),
    };
    let kind = match kind {
        KeyKind::EcdsaP256 => PairKind::EcdsaP256,
        KeyKind::Rsa2048 => PairKind::Rsa2048,
    };
    let (gateway, peer) = (Pair::generate(kind)?, Pair::generate(kind)?);
    // Those of an authority that was here before.
    let old = folder.join(PEERS);
    match fs::remove_file(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::File(old, error));
        }
        Ok(()) | Err(_) => {}
    }
    put(folder, GATEWAY_KEY, &gateway.private_pem()?)?;
    put(folder, PEER_KEY, &peer.private_pem()?)?;
    if certified {
        let (root, now) = (Pair::generate(kind)?, now());
        put(folder, ROOT_KEY, &root.private_pem()?)?;
        let mint = Mint::new(root, now)?;
        put(folder, ROOT, &mint.certificate_pem()?)?;
        let one = mint.certify(&gateway, &scenario.responder.identity, 1, now)?;
        return put(folder, "certs/gateway.pem", &one);
    }
    put(folder, GATEWAY_PUBLIC, &gateway.public_pem()?)?;
    let public = peer.public_pem()?;
    let mut peers = (0..scenario.peers.count).map(|peer| population::name(scenario, peer));
    peers.try_for_each(|name| put(folder, &format!("pubkeys/fqdn/{name}"), &public))
}

/// One key for all peers, and the responder's.
fn raw(scenario: &Scenario, folder: &Path) -> Result<CredentialStore, Error> {
    let key = content(folder, PEER_KEY, PrivateKey::from_pem)?;
    let gateway = content(folder, GATEWAY_PUBLIC, PublicKey::from_pem)?;
    let identity = Identity {
        kind: IdType::FQDN,
        data: scenario.responder.identity.clone().into_bytes(),
    };
    Ok(CredentialStore::from_keys(
        Some(key),
        vec![(identity, gateway)],
    ))
}

/// One key for all peers, and a certificate for each.
fn certified(scenario: &Scenario, folder: &Path) -> Result<CredentialStore, Error> {
    let read = || content(folder, PEERS, Certificate::all_from_pem);
    let mut certificates = if folder.join(PEERS).exists() {
        read()?
    } else {
        Vec::new()
    };
    if certificates.len() != scenario.peers.count as usize {
        put(folder, PEERS, &mint_all(scenario, folder)?)?;
        certificates = read()?;
    }
    let parts = Parts {
        keys: vec![content(folder, PEER_KEY, PrivateKey::from_pem)?],
        authorities: content(folder, ROOT, Certificate::all_from_pem)?,
        certificates,
        ..Parts::default()
    };
    Ok(CredentialStore::assemble(parts, &mut Vec::new()))
}

/// The certificates of all peers. They stay in the folder: who comes in another run shows the same.
fn mint_all(scenario: &Scenario, folder: &Path) -> Result<Vec<u8>, Error> {
    let root = content(folder, ROOT_KEY, Pair::from_pem)?;
    let mint = content(folder, ROOT, |pem| Mint::from_pem(root, pem))?;
    let pair = content(folder, PEER_KEY, Pair::from_pem)?;
    let (mut all, now) = (Vec::new(), now());
    for peer in (0..scenario.peers.count).progress() {
        let name = population::name(scenario, peer);
        // The gateway's has number 1.
        all.extend(mint.certify(&pair, &name, u64::from(peer) + 2, now)?);
    }
    Ok(all)
}

fn content<T, E: ToString>(
    folder: &Path,
    name: &str,
    of: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<T, Error> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(pem) => of(&pem).map_err(|error| Error::Content(path, error.to_string())),
        Err(error) => Err(Error::File(path, error)),
    }
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    let written = made.and_then(|()| {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path)?.write_all(bytes)
    });
    written.map_err(|error| Error::File(path, error))
}

#[expect(clippy::disallowed_methods, reason = "the program owns its clock")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// What iked reads.
const GATEWAY_KEY: &str = "private/local.key";
const ROOT: &str = "ca/root.pem";
/// What only the peers read.
const ROOT_KEY: &str = "peers/root.key";
const PEER_KEY: &str = "peers/peer.key";
const PEERS: &str = "peers/peers.pem";
const GATEWAY_PUBLIC: &str = "peers/gateway.pub";

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(auth: &str) -> Scenario {
        let text = format!(
            "[peers]\ncount = 3\nsources = \"10.64.0.0/24\"\n[responder]\naddress = \"192.0.2.1\"\n\
             identity = \"gw.example\"\nnetwork = \"10.8.0.0/24\"\n[auth]\n{auth}\n"
        );
        Scenario::parse("s.toml", &text).unwrap()
    }

    #[test]
    fn each_peer_has_a_certificate_and_the_responder_reads_its_own() {
        let scenario = scenario("method = \"certificate\"\nkey = \"ecdsa-p256\"");
        let folder = tempfile::tempdir().unwrap();
        write(&scenario, folder.path()).unwrap();
        let peers = load(&scenario, Some(folder.path())).unwrap().store;
        assert_eq!(peers.own_certificates().len(), 3);
        let again = load(&scenario, Some(folder.path())).unwrap().store;
        let all = |store: &CredentialStore| format!("{:?}", store.own_certificates());
        assert_eq!(all(&again), all(&peers), "not those of the first run");
        let mut more = scenario;
        more.peers.count += 1;
        let peers = load(&more, Some(folder.path())).unwrap().store;
        assert_eq!(peers.own_certificates().len(), 4);
        let (gateway, warnings) = CredentialStore::load(folder.path(), false);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(gateway.own_certificates().len(), 1);
        assert!(gateway.authorities() == peers.authorities());
        assert!(gateway.keys()[0].public != peers.keys()[0].public);
    }

    #[test]
    fn raw_keys_are_on_file_at_both_ends() {
        let scenario = scenario("method = \"raw\"\nkey = \"rsa-2048\"");
        let folder = tempfile::tempdir().unwrap();
        write(&scenario, folder.path()).unwrap();
        let peers = load(&scenario, Some(folder.path())).unwrap().store;
        let (gateway, warnings) = CredentialStore::load(folder.path(), false);
        assert!(warnings.is_empty(), "{warnings:?}");
        let named = |name: &str| Identity {
            kind: IdType::FQDN,
            data: name.as_bytes().to_vec(),
        };
        let last = gateway.peer_keys(&named("peer-2.load.example"));
        assert!(last == [peers.keys()[0].public.clone()]);
        let of_gateway = peers.peer_keys(&named("gw.example"));
        assert!(of_gateway == [gateway.keys()[0].public.clone()]);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let scenario = scenario("method = \"certificate\"\nkey = \"ecdsa-p256\"");
        let told = |folder: Option<&Path>| load(&scenario, folder).unwrap_err().to_string();
        assert!(told(None).contains("--credentials DIR"));
        let folder = tempfile::tempdir().unwrap();
        assert!(told(Some(folder.path())).contains("peers/root.key: No such file"));
        put(folder.path(), ROOT_KEY, b"no key").unwrap();
        assert!(told(Some(folder.path())).contains("peers/root.key: not an RSA or EC key"));
        let psk = self::scenario("method = \"psk\"\nsecret = \"s\"");
        assert!(matches!(write(&psk, folder.path()), Err(Error::NoKeys)));
    }
}
