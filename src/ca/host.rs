//! Keys and certificates of hosts.

use std::io::Write;
use std::path::Path;

use boring::x509::X509Ref;
use zeroize::Zeroizing;

use super::authority::Folder;
use super::certificate::{self, Subject};
use super::key::Key;
use super::request::{KeyKind, Usage};
use super::{CaError, files, show};
use crate::sys::process;
use crate::sys::x509::seconds;

/// Makes a certificate for a host, and a key if it has none. A certificate that is revoked or has
/// expired is replaced, and with a revoked one its key.
pub(super) fn certify(
    folder: &Folder,
    host: &str,
    usage: Usage,
    kind: KeyKind,
    now: i64,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    let authority = folder.authority()?;
    let mut index = folder.index()?;
    if folder.certificate(host).exists() {
        let old = folder.read_certificate(host)?;
        let revoked = index.state(&serial(&old)?)? == Some('R');
        if !revoked && seconds(old.not_after()).is_some_and(|last| last > now) {
            return Err(CaError::CertificateExists(host.to_owned()));
        }
        let key = folder.read_key(host)?;
        let same = key.map(|key| old.public_key().map(|old| old.public_eq(key.pkey())));
        if revoked && same.transpose()?.unwrap_or(false) {
            files::remove(&folder.key(host))?;
            writeln!(
                out,
                "key for '{host}' is made anew, for its certificate was revoked"
            )?;
        }
    }
    let key = create_key(folder, host, kind)?;
    let name = match host {
        "local" => process::hostname().unwrap_or_else(|| host.to_owned()),
        host => host.to_owned(),
    };
    let subject = Subject {
        key: &key,
        name: host,
        host: &name,
        usage,
    };
    let serial = authority.draw_serial()?;
    let certificate = certificate::of_host(authority.issuer(), subject, &serial, now)?;
    index.add(&serial, last_second(&certificate)?, &format!("/CN={host}"))?;
    authority.write_index(&index)?;
    files::replace(&folder.certificate(host), &certificate.to_pem()?, 0o644)
}

/// The host's key, which is made if there is none.
pub(super) fn create_key(folder: &Folder, host: &str, kind: KeyKind) -> Result<Key, CaError> {
    if let Some(key) = folder.read_key(host)? {
        return Ok(key);
    }
    let key = Key::generate(kind)?;
    files::write_new(&folder.key(host), &key.plain_pem()?, 0o600)?;
    Ok(key)
}

/// Takes a key that was made elsewhere.
pub(super) fn import_key(folder: &Folder, host: &str, from: &Path) -> Result<(), CaError> {
    let pem = Zeroizing::new(files::read(from)?);
    let key = Key::from_pem(&pem, None)?;
    files::write_new(&folder.key(host), &key.plain_pem()?, 0o600)
}

/// Removes a key.
pub(super) fn delete_key(folder: &Folder, host: &str) -> Result<(), CaError> {
    if files::remove(&folder.key(host))? {
        Ok(())
    } else {
        Err(CaError::NoKey(host.to_owned()))
    }
}

/// Removes a certificate, its key and what OpenIKED leaves beside it. What was issued stays in the
/// index, and is not revoked by this.
pub(super) fn delete(folder: &Folder, host: &str) -> Result<(), CaError> {
    let mut any = files::remove(&folder.certificate(host))?;
    for ending in ["key", "csr", "pfx"] {
        any |= files::remove(&folder.private(host, ending))?;
    }
    if any {
        Ok(())
    } else {
        Err(CaError::NoCertificate(host.to_owned()))
    }
}

/// Revokes a certificate and signs the list anew.
pub(super) fn revoke(
    folder: &Folder,
    host: &str,
    now: i64,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    let authority = folder.authority()?;
    let certificate = folder.read_certificate(host)?;
    if !certificate.verify(&*authority.certificate().public_key()?)? {
        return Err(CaError::Stranger(host.to_owned()));
    }
    let serial = serial(&certificate)?;
    let mut index = folder.index()?;
    if index.state(&serial)? == Some('R') {
        return Err(CaError::Revoked(host.to_owned()));
    }
    let subject = show::subject(certificate.subject_name());
    let at = u64::try_from(now).map_err(|_| CaError::Crypto)?;
    index.revoke(&serial, last_second(&certificate)?, &subject, at)?;
    authority.write_index(&index)?;
    let number = authority.sign_list(now)?;
    let list = folder.list();
    writeln!(
        out,
        "certificate for '{host}' revoked, CRL {number} is in {}",
        list.display()
    )?;
    Ok(())
}

/// A certificate's serial number, big-endian.
pub(super) fn serial(certificate: &X509Ref) -> Result<Vec<u8>, CaError> {
    Ok(certificate.serial_number().to_bn()?.to_vec())
}

fn last_second(certificate: &X509Ref) -> Result<u64, CaError> {
    let last = seconds(certificate.not_after()).ok_or(CaError::Crypto)?;
    u64::try_from(last).map_err(|_| CaError::Crypto)
}
