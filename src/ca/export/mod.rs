//! Archives for whoever is vouched for: everything that a host or a client needs, and profiles with
//! which the systems of road warriors set up the connection by themselves.

mod android;
mod apple;
mod archive;
mod windows;

use std::ffi::{CStr, CString};
use std::fs;
use std::io::Write;
use std::path::Path;

use boring::stack::Stack;
use boring::x509::X509;
use zeroize::Zeroizing;

use super::authority::Folder;
use super::key::Key;
use super::request::{Export, Secret};
use super::{Bench, CaError, check_name, files, password};
use crate::sys::pkcs;
use archive::Entry;

/// How often an archive's password is hashed: an importer that has few rounds to offer has 3DES too.
const ROUNDS: i32 = 100_000;

/// What the profiles are made of.
struct Profile<'a> {
    /// The name of the authority, and of the connection.
    ca: &'a str,
    /// The authority's certificate in DER.
    ca_der: &'a [u8],
    /// The common name in it.
    ca_name: &'a str,
    /// The client's name, by which it identifies itself.
    host: &'a str,
    /// The gateway's name or address, by which it identifies itself.
    peer: &'a str,
    /// The client's key and certificate, encrypted.
    pfx: &'a [u8],
    /// Whether the client's key is RSA.
    rsa: bool,
}

/// Writes `HOST.tgz` with the folders of iked, and `HOST.zip` with what other systems want. With a
/// peer, profiles are among it, and stand beside the archives too.
pub(super) fn host(
    folder: &Folder,
    host: &str,
    how: &Export,
    bench: &mut Bench<'_>,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    let peer = how.peer.as_deref();
    peer.map_or(Ok(()), check_name)?;
    let (key, certificate) = folder.pair(host)?;
    let ca = folder.read_certificate("ca")?;
    let password = password::choose(how.password.as_ref(), "Export", bench.prompt)?;
    // Colons cannot stand in the names of files on Windows.
    let name = host.replace(':', "_");
    let pfx = Zeroizing::new(pfx(&password, Some((host, &key, &certificate)), &ca)?);
    let mut clients = for_clients(&ca, peer, &password)?;
    clients.push(Entry::secret(&format!("{name}.pfx"), pfx.to_vec()));
    let mut profiles = Vec::new();
    if let Some(peer) = peer {
        let profile = Profile {
            ca: &folder.name,
            ca_der: &ca.to_der()?,
            ca_name: &common_name(&ca),
            host,
            peer,
            pfx: &pfx,
            rsa: key.is_rsa(),
        };
        profiles = vec![
            Entry::secret(&format!("{name}.mobileconfig"), apple::profile(&profile)?),
            Entry::secret(&format!("{name}.sswan"), android::profile(&profile)?),
        ];
        let script = windows::script(&profile, &format!("{name}.pfx"));
        clients.push(Entry::public(&format!("{name}.ps1"), script));
        clients.extend(profiles.iter().cloned());
    }
    let mut entries = vec![Entry::public("ca/ca.crt", ca.to_pem()?)];
    if let Some(list) = files::read_if_there(&folder.list())? {
        entries.push(Entry::public("crls/ca.crl", list));
    }
    entries.push(Entry::public(
        &format!("certs/{host}.crt"),
        certificate.to_pem()?,
    ));
    for own in [host, "local"] {
        let path = format!("private/{own}.key");
        // A host may be called `local`.
        if !entries.iter().any(|entry| entry.path == path) {
            entries.push(Entry::secret(&path, key.plain_pem()?.to_vec()));
        }
    }
    entries.push(Entry::public("local.pub", key.public_pem()?));
    entries.extend(clients.iter().map(|entry| entry.below("export")));
    write(
        bench.here,
        &format!("{name}.tgz"),
        &archive::tgz(&entries)?,
        out,
    )?;
    write(
        bench.here,
        &format!("{name}.zip"),
        &archive::zip(&clients)?,
        out,
    )?;
    for profile in &profiles {
        write(bench.here, &profile.path, &profile.bytes, out)?;
    }
    Ok(())
}

/// Writes `ca.tgz` with the authority's folder, and `ca.zip` with its certificate for clients. Its
/// key and password stay here unless `private` asks for them.
pub(super) fn authority(
    folder: &Folder,
    how: &Export,
    bench: &mut Bench<'_>,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    how.peer.as_deref().map_or(Ok(()), check_name)?;
    let ca = folder.read_certificate("ca")?;
    let password = password::choose(how.password.as_ref(), "Export", bench.prompt)?;
    let mut entries = Vec::new();
    add_folder(&folder.path, "", how.private, &mut entries)?;
    if how.private {
        add_folder(&folder.path.join("private"), "private/", true, &mut entries)?;
    } else {
        writeln!(
            out,
            "the CA's key and the hosts' stay here: say private to have them exported"
        )?;
    }
    let clients = for_clients(&ca, how.peer.as_deref(), &password)?;
    write(bench.here, "ca.tgz", &archive::tgz(&entries)?, out)?;
    write(bench.here, "ca.zip", &archive::zip(&clients)?, out)
}

/// The plain files of a folder, whose names begin with no dot. The password is a secret.
fn add_folder(
    from: &Path,
    below: &str,
    private: bool,
    entries: &mut Vec<Entry>,
) -> Result<(), CaError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(CaError::at(from))? {
        let entry = entry.map_err(CaError::at(from))?;
        if entry.file_type().map_err(CaError::at(from))?.is_file() {
            names.push(entry.file_name());
        }
    }
    names.sort();
    for name in names {
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let secret = name.ends_with(".passwd") || !below.is_empty();
        if secret && !private {
            continue;
        }
        let (path, bytes) = (format!("{below}{name}"), files::read(&from.join(name))?);
        entries.push(if secret {
            Entry::secret(&path, bytes)
        } else {
            Entry::public(&path, bytes)
        });
    }
    Ok(())
}

/// What every client gets.
fn for_clients(ca: &X509, peer: Option<&str>, password: &Secret) -> Result<Vec<Entry>, CaError> {
    let mut entries = vec![
        Entry::public("ca.crt", ca.to_pem()?),
        Entry::public("ca.pfx", pfx(password, None, ca)?),
    ];
    if let Some(peer) = peer {
        entries.push(Entry::public("peer.txt", peer.as_bytes().to_vec()));
    }
    Ok(entries)
}

fn pfx(password: &Secret, own: Option<(&str, &Key, &X509)>, ca: &X509) -> Result<Vec<u8>, CaError> {
    let mut line = Zeroizing::new(Vec::with_capacity(password.reveal().len() + 1));
    line.extend_from_slice(password.reveal().as_bytes());
    line.push(0);
    let password = CStr::from_bytes_with_nul(&line).map_err(|_| CaError::OddPassword)?;
    let name = CString::new(own.map_or("", |(name, ..)| name)).map_err(|_| CaError::Crypto)?;
    let own = own.map(|(_, key, certificate)| (name.as_c_str(), key.pkey(), certificate.as_ref()));
    let mut others = Stack::new()?;
    others.push(ca.clone())?;
    pkcs::archive(password, own, &others, ROUNDS).map_err(|_| CaError::Crypto)
}

fn common_name(certificate: &X509) -> String {
    let mut names = certificate
        .subject_name()
        .entries_by_nid(boring::nid::Nid::COMMONNAME);
    let name = names.next().and_then(|entry| entry.data().as_utf8().ok());
    name.map(|name| name.to_string()).unwrap_or_default()
}

/// Archives are replaced by newer ones.
fn write(here: &Path, name: &str, bytes: &[u8], out: &mut dyn Write) -> Result<(), CaError> {
    let path = here.join(name);
    if path.exists() {
        writeln!(out, "{} is replaced", path.display())?;
    }
    files::replace(&path, bytes, 0o600)?;
    writeln!(out, "exported files in {}", path.display())?;
    Ok(())
}

/// Random, as RFC 9562, 5.4 writes it.
fn uuid() -> Result<String, CaError> {
    let mut bytes = [0; 16];
    boring::rand::rand_bytes(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (groups, mut at) = ([4, 2, 2, 2, 6], 0);
    let groups = groups.map(|length| {
        at += length;
        digits.get(at - length..at).unwrap_or_default().concat()
    });
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests;
