//! `show ca NAME certificates`.

use std::fs;
use std::io::Write;
use std::time::Duration;

use boring::asn1::Asn1TimeRef;
use boring::hash::MessageDigest;
use boring::x509::{X509NameRef, X509Ref};
use der::DateTime;
use serde::Serialize;

use super::authority::Folder;
use super::index::Index;
use super::{CaError, host, now};
use crate::sys::x509::{seconds, text};

/// A certificate as `--json` shows it. Names are added and never changed.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    subject: String,
    serial: String,
    fingerprint_sha256: String,
    not_before: String,
    not_after: String,
    state: &'static str,
}

/// Every certificate in the folder, the authority's first.
pub(super) fn all(folder: &Folder, json: bool, out: &mut dyn Write) -> Result<(), CaError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder.path).map_err(CaError::at(&folder.path))? {
        let name = entry.map_err(CaError::at(&folder.path))?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".crt")) {
            names.push(name.to_owned());
        }
    }
    names.sort_by(|a, b| (a != "ca", a).cmp(&(b != "ca", b)));
    let index = folder.index()?;
    let shown: Result<Vec<_>, _> = names
        .iter()
        .map(|name| shown(folder, name, &index))
        .collect();
    let shown = shown?;
    if json {
        return write_json(&shown, out);
    }
    for one in &shown {
        writeln!(out, "subject={}", one.subject)?;
        writeln!(out, "SHA256 Fingerprint={}", one.fingerprint_sha256)?;
        writeln!(out, "serial={}", one.serial)?;
        writeln!(out, "notBefore={}", one.not_before)?;
        writeln!(out, "notAfter={}", one.not_after)?;
        writeln!(out, "state={}\n", one.state)?;
    }
    Ok(())
}

/// One certificate in full, as text and in PEM.
pub(super) fn one(
    folder: &Folder,
    host: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CaError> {
    if json {
        return write_json(&[shown(folder, host, &folder.index()?)?], out);
    }
    let certificate = folder.read_certificate(host)?;
    out.write_all(&text(&certificate).ok_or(CaError::Crypto)?)?;
    out.write_all(&certificate.to_pem()?)?;
    writeln!(out)?;
    Ok(())
}

fn write_json(shown: &[Shown], out: &mut dyn Write) -> Result<(), CaError> {
    let text = serde_json::to_string_pretty(shown).map_err(std::io::Error::from)?;
    writeln!(out, "{text}")?;
    Ok(())
}

fn shown(folder: &Folder, name: &str, index: &Index) -> Result<Shown, CaError> {
    let certificate = folder.read_certificate(name)?;
    let serial = host::serial(&certificate)?;
    let expired = seconds(certificate.not_after()).is_none_or(|last| last <= now());
    let state = match index.state(&serial)? {
        Some('R') if name != "ca" => "revoked",
        _ if expired => "expired",
        _ => "valid",
    };
    Ok(Shown {
        name: name.to_owned(),
        subject: subject(certificate.subject_name()),
        serial: certificate
            .serial_number()
            .to_bn()?
            .to_hex_str()?
            .to_uppercase(),
        fingerprint_sha256: fingerprint(&certificate)?,
        not_before: date(certificate.not_before())?,
        not_after: date(certificate.not_after())?,
        state,
    })
}

/// `/O=vpn/CN=VPN CA`
pub(super) fn subject(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let kind = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().as_utf8();
        let value = value.map_or_else(|_| String::new(), |value| value.to_string());
        // Neither may end a field of `index.txt`.
        format!("/{kind}={}", value.replace(char::is_control, "?"))
    });
    entries.collect()
}

fn fingerprint(certificate: &X509Ref) -> Result<String, CaError> {
    let digest = certificate.digest(MessageDigest::sha256())?;
    let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(bytes.join(":"))
}

/// `2026-11-28T14:00:00Z`
fn date(time: &Asn1TimeRef) -> Result<String, CaError> {
    let since = seconds(time).and_then(|seconds| u64::try_from(seconds).ok());
    let since = since.ok_or(CaError::Crypto)?;
    Ok(DateTime::from_unix_duration(Duration::from_secs(since))?.to_string())
}
