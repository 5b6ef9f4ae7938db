//! The credentials under the configuration directory: keys in `private`, certificates in `ca` and
//! `certs`, revocation lists in `crls`, OCSP responders in `ocsp`, `pubkeys/{ipv4,ipv6,fqdn,ufqdn}/NAME`. Everything is read
//! when the daemon starts or reloads; no file is touched for a peer, so a peer's identity is never
//! part of a path.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::own::{self, OwnCertificate};
use super::pubkey::named;
use crate::crypto::CryptoError;
use crate::crypto::sign::{PrivateKey, PublicKey};
use crate::crypto::x509::{Certificate, Crl, TrustStore};
use crate::policy::{Identity, dn};
use crate::wire::registry::IdType;

/// A private key of ours and its public half.
#[derive(Debug)]
pub struct OwnKey {
    /// Signs.
    pub private: PrivateKey,
    /// What it is known by.
    pub public: PublicKey,
    /// Its SubjectPublicKeyInfo.
    pub spki_der: Vec<u8>,
    /// PKCS #1 form of the public half, of an RSA key.
    pub rsa_der: Option<Vec<u8>>,
}

impl OwnKey {
    fn new(private: PrivateKey) -> Result<Self, CryptoError> {
        let public = private.public()?;
        let rsa_der = public.rsa_pkcs1_der();
        let spki_der = public.spki_der()?;
        Ok(Self {
            private,
            public,
            spki_der,
            rsa_der,
        })
    }
}

/// Our private keys, the certificates we have and those we trust, and the public keys of peers by
/// identity. Made once, shared by all shards, replaced as a whole.
#[derive(Debug, Default)]
pub struct CredentialStore {
    keys: Vec<OwnKey>,
    peers: BTreeMap<Identity, Vec<PublicKey>>,
    certificates: Vec<Certificate>,
    own_certificates: Vec<OwnCertificate>,
    /// Keys of the certificates in `certs` with every identity that these name.
    pins: Vec<(Identity, PublicKey)>,
    authorities: Vec<Certificate>,
    /// What CERTREQ payloads call the authorities, and the responders.
    authority_ids: Vec<[u8; 20]>,
    responder_ids: Vec<[u8; 20]>,
    /// `None` without authorities: no chain leads anywhere.
    trust: Option<TrustStore>,
    responders: Arc<Vec<Certificate>>,
}

/// What certificates and keys a store is made of, for [`CredentialStore::assemble`].
#[derive(Debug, Default)]
pub struct Parts {
    /// Our private keys, the preferred one first.
    pub keys: Vec<PrivateKey>,
    /// The keys on file for peers.
    pub peers: Vec<(Identity, PublicKey)>,
    /// Our own certificates, and those of peers that are trusted as they are.
    pub certificates: Vec<Certificate>,
    /// Trusted authorities, and the intermediate ones that lead to them.
    pub authorities: Vec<Certificate>,
    /// Revocation lists.
    pub crls: Vec<Crl>,
    /// Trusted OCSP responders.
    pub responders: Vec<Certificate>,
    /// A chain may end at any authority.
    pub partial_chain: bool,
}

impl CredentialStore {
    /// Reads the files under `config_dir`. What cannot be used is named in a warning and left out; a
    /// directory that is not there is empty.
    pub fn load(config_dir: &Path, partial_chain: bool) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let certificates = |folder: &str, warnings: &mut Vec<String>| {
            let each = |pem: &[u8]| Certificate::all_from_pem(pem).map_err(|e| e.to_string());
            load_folder(&config_dir.join(folder), "no certificate", warnings, each)
        };
        let crls = |pem: &[u8]| Ok(Crl::all_from_pem(pem));
        let mut parts = Parts {
            keys: load_keys(&config_dir.join("private"), &mut warnings),
            certificates: certificates("certs", &mut warnings),
            authorities: certificates("ca", &mut warnings),
            crls: load_folder(&config_dir.join("crls"), "no CRL", &mut warnings, crls),
            responders: certificates("ocsp", &mut warnings),
            peers: Vec::new(),
            partial_chain,
        };
        for (folder, kind) in FOLDERS {
            let folder = config_dir.join("pubkeys").join(folder);
            load_peers(&folder, kind, &mut parts.peers, &mut warnings);
        }
        (Self::assemble(parts, &mut warnings), warnings)
    }

    /// Puts a store together; what does not fit is named in a warning and left out.
    pub fn assemble(parts: Parts, warnings: &mut Vec<String>) -> Self {
        let mut store = Self {
            certificates: parts.certificates,
            responders: Arc::new(parts.responders),
            ..Self::default()
        };
        for key in parts.keys {
            match OwnKey::new(key) {
                Ok(key) => store.keys.push(key),
                Err(error) => warnings.push(format!("private key: {error}")),
            }
        }
        for (identity, key) in parts.peers {
            store.peers.entry(identity).or_default().push(key);
        }
        if !parts.authorities.is_empty() {
            match TrustStore::new(&parts.authorities, &parts.crls, parts.partial_chain) {
                Ok(trust) => store.trust = Some(trust),
                Err(error) => warnings.push(format!("ca: {error}")),
            }
        }
        let ids = |of: &[Certificate]| of.iter().filter_map(|c| c.key_id().ok()).collect();
        store.authority_ids = ids(&parts.authorities);
        store.responder_ids = ids(&store.responders);
        store.authorities = parts.authorities;
        for certificate in &store.certificates {
            // A key that cannot sign here proves nothing either.
            if let (Ok(key), Ok(names)) = (certificate.public_key(), named(certificate)) {
                let pins = names.into_iter().map(|name| (name, key.clone()));
                store.pins.extend(pins);
            }
        }
        match own::certificates(&store.keys, &store.certificates, &store.authorities) {
            Ok(certificates) => store.own_certificates = certificates,
            Err(error) => warnings.push(format!("certs: {error}")),
        }
        store
    }

    /// A store of given keys, for tests and benches.
    pub fn from_keys(own: Option<PrivateKey>, peers: Vec<(Identity, PublicKey)>) -> Self {
        let parts = Parts {
            keys: own.into_iter().collect(),
            peers,
            ..Parts::default()
        };
        Self::assemble(parts, &mut Vec::new())
    }

    /// Our private keys, `local.key` first.
    pub fn keys(&self) -> &[OwnKey] {
        &self.keys
    }

    /// The keys on file for a peer.
    pub fn peer_keys(&self, identity: &Identity) -> &[PublicKey] {
        self.peers.get(identity).map_or(&[], Vec::as_slice)
    }

    /// A line for each certificate, as `ikectl show certstore` shows them.
    pub fn list(&self) -> Vec<String> {
        let line = |kind, certificate: &Certificate| {
            let subject = certificate.subject().ok();
            let subject = subject.and_then(|der| dn::show(&der)).unwrap_or_default();
            format!("{kind}: {subject}")
        };
        let authorities = self.authorities.iter().map(|c| line("CA", c));
        let certificates = self.certificates.iter().map(|c| line("CERT", c));
        authorities.chain(certificates).collect()
    }

    /// The keys of certificates in `certs` that name this identity: these are trusted as they are.
    pub fn pinned(&self, identity: &Identity) -> Vec<PublicKey> {
        let pins = self.pins.iter().filter(|(name, _)| name.same(identity));
        pins.map(|(_, key)| key.clone()).collect()
    }

    /// The certificates in `certs` that belong to a key of ours.
    pub fn own_certificates(&self) -> &[OwnCertificate] {
        &self.own_certificates
    }

    /// The certificate of ours with this DER, and who issued it, as far as we have both.
    pub fn own_issuer(&self, der: &[u8]) -> Option<(&Certificate, &Certificate)> {
        self.own_certificates.iter().find_map(|own| own.issued(der))
    }

    /// The certificates in `ca`.
    pub fn authorities(&self) -> &[Certificate] {
        &self.authorities
    }

    /// The certificates in `ocsp`: responders that are believed beside an issuer and whom it names.
    pub const fn responders(&self) -> &Arc<Vec<Certificate>> {
        &self.responders
    }

    /// The key identifiers of the authorities (RFC 7296, 3.7).
    pub fn authority_ids(&self) -> &[[u8; 20]] {
        &self.authority_ids
    }

    /// The key identifiers of the responders (RFC 4806, 3.1).
    pub fn responder_ids(&self) -> &[[u8; 20]] {
        &self.responder_ids
    }

    /// What chains must lead to.
    pub const fn trust(&self) -> Option<&TrustStore> {
        self.trust.as_ref()
    }
}

/// Everything that `each` finds in the files of a folder, which may have any name.
fn load_folder<T>(
    folder: &Path,
    nothing: &str,
    warnings: &mut Vec<String>,
    each: impl Fn(&[u8]) -> Result<Vec<T>, String>,
) -> Vec<T> {
    let mut found = Vec::new();
    for (_, path) in files_in(folder, warnings) {
        let read = read_file(&path).map_err(|error| error.to_string());
        match read.and_then(|(pem, _)| each(&pem)) {
            Ok(some) if some.is_empty() => warnings.push(format!("{}: {nothing}", path.display())),
            Ok(some) => found.extend(some),
            Err(error) => warnings.push(format!("{}: {error}", path.display())),
        }
    }
    found
}

/// The names of a folder in order, with their paths; none where it is not there.
fn files_in(folder: &Path, warnings: &mut Vec<String>) -> Vec<(OsString, std::path::PathBuf)> {
    match names_in(folder) {
        Ok(names) => {
            let names = names.into_iter();
            // Names with a leading dot are what version control and editors leave behind.
            let names = names.filter(|name| !name.as_bytes().starts_with(b"."));
            names
                .map(|name| (name.clone(), folder.join(name)))
                .collect()
        }
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                warnings.push(format!("{}: {error}", folder.display()));
            }
            Vec::new()
        }
    }
}

/// The public keys of peers with one kind of identity.
fn load_peers(
    folder: &Path,
    kind: IdType,
    peers: &mut Vec<(Identity, PublicKey)>,
    warnings: &mut Vec<String>,
) {
    for (name, path) in files_in(folder, warnings) {
        let Some(identity) = identity_of(kind, &name) else {
            warnings.push(format!("{}: not a name of this kind", path.display()));
            continue;
        };
        let key = read_file(&path)
            .map_err(|error| error.to_string())
            .and_then(|(pem, _)| PublicKey::from_pem(&pem).map_err(|error| error.to_string()));
        match key {
            Ok(key) => peers.push((identity, key)),
            Err(error) => warnings.push(format!("{}: {error}", path.display())),
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

/// `local.key`, then every other `NAME.key`: a gateway may have an RSA and an ECDSA key side by side.
fn load_keys(folder: &Path, warnings: &mut Vec<String>) -> Vec<PrivateKey> {
    let mut files = files_in(folder, warnings);
    files.retain(|(name, _)| name.as_bytes().ends_with(b".key"));
    files.sort_by_key(|(name, _)| name != LOCAL_KEY);
    let mut keys = Vec::new();
    for (_, path) in files {
        keys.extend(load_key(&path, warnings));
    }
    keys
}

fn load_key(path: &Path, warnings: &mut Vec<String>) -> Option<PrivateKey> {
    let (pem, metadata) = match read_file(path) {
        Ok(file) => file,
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
    PrivateKey::from_pem(&pem)
        .map_err(|error| warnings.push(format!("{}: {error}", path.display())))
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

const LOCAL_KEY: &str = "local.key";
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
