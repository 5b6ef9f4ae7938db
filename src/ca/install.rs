//! What an authority made, in the folders where iked looks for it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::authority::Folder;
use super::key::Key;
use super::{CaError, files};

/// Where iked has its keys and certificates.
const KEYS: &str = "/etc/iked";

/// The authority's certificate and its list.
pub(super) fn authority(
    folder: &Folder,
    to: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    let certificate = folder.read_certificate("ca")?.to_pem()?;
    let to = prepare(to)?;
    let place = to.join("ca/ca.crt");
    files::replace(&place, &certificate, 0o644)?;
    let name = &folder.name;
    writeln!(
        out,
        "certificate for CA '{name}' installed into {}",
        place.display()
    )?;
    if let Some(list) = files::read_if_there(&folder.list())? {
        let place = to.join("crls/ca.crl");
        files::replace(&place, &list, 0o644)?;
        writeln!(out, "CRL for CA '{name}' installed to {}", place.display())?;
    }
    Ok(())
}

/// A host's key, as the one that is this host's own.
pub(super) fn key(
    folder: &Folder,
    host: &str,
    to: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    let key = folder.read_key(host)?;
    let key = key.ok_or_else(|| CaError::NoKey(host.to_owned()))?;
    install_key(&key, host, &prepare(to)?, out)
}

/// A host's certificate and key.
pub(super) fn certificate(
    folder: &Folder,
    host: &str,
    to: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    let (key, certificate) = folder.pair(host)?;
    let to = prepare(to)?;
    install_key(&key, host, &to, out)?;
    let place = to.join("certs").join(format!("{host}.crt"));
    files::replace(&place, &certificate.to_pem()?, 0o644)?;
    writeln!(
        out,
        "certificate for '{host}' installed into {}",
        place.display()
    )?;
    Ok(())
}

/// Another key that is in the way is kept under another name, which iked does not read.
fn install_key(key: &Key, host: &str, to: &Path, out: &mut dyn Write) -> Result<(), CaError> {
    let place = to.join("private/local.key");
    let pem = key.plain_pem()?;
    if files::read_if_there(&place)?.is_some_and(|old| old != *pem) {
        let aside = to.join("private/local.key.old");
        fs::rename(&place, &aside).map_err(CaError::at(&place))?;
        fs::set_permissions(&aside, Permissions::from_mode(0o600)).map_err(CaError::at(&aside))?;
        writeln!(out, "the key that was there is now {}", aside.display())?;
    }
    files::replace(&place, &pem, 0o600)?;
    files::replace(&to.join("local.pub"), &key.public_pem()?, 0o644)?;
    writeln!(out, "key for '{host}' installed into {}", place.display())?;
    Ok(())
}

/// The folder that is meant, with those in it that iked looks into.
fn prepare(to: Option<&str>) -> Result<PathBuf, CaError> {
    let to = place(to);
    for (part, mode) in [
        ("", 0o755),
        ("ca", 0o755),
        ("certs", 0o755),
        ("crls", 0o755),
        ("private", 0o700),
    ] {
        files::make_folder(&to.join(part), mode)?;
    }
    Ok(to)
}

/// A bare name is one below `/etc`.
fn place(to: Option<&str>) -> PathBuf {
    match to {
        None => PathBuf::from(KEYS),
        Some(path) if path.starts_with(['.', '/']) => PathBuf::from(path),
        Some(name) => Path::new("/etc").join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_are_below_etc() {
        assert_eq!(place(None), Path::new("/etc/iked"));
        assert_eq!(place(Some("iked-b")), Path::new("/etc/iked-b"));
        assert_eq!(place(Some("./b")), Path::new("./b"));
        assert_eq!(place(Some("/srv/b")), Path::new("/srv/b"));
    }
}
