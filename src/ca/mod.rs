//! `ikectl ca`: a small certification authority in a folder, with the files and names of OpenIKED's.
//!
//! Nothing here speaks to the daemon. `request` is what can be asked, `authority` the folder with
//! its key, its index of what was issued and its revocation list, `host` what is made for hosts;
//! `mint` is an authority without a folder, for load tests;
//! `install` brings it into iked's folders, `export` makes archives and profiles for clients.
//! Keys and certificates are BoringSSL's, revocation lists are put together by `x509-cert`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

mod authority;
mod certificate;
mod crl;
mod export;
mod files;
mod host;
mod index;
mod install;
mod key;
pub mod mint;
mod password;
pub mod request;
mod show;

pub use password::{Prompt, Terminal};
use request::{Command, OfCertificate, OfKey, What};

/// Where authorities have their folders.
pub const FOLDER: &str = "/etc/ssl";

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is no folder of that name, or it has no authority.
    #[error("CA '{0}' does not exist")]
    NoAuthority(String),
    /// Making it would destroy what is there.
    #[error("CA '{0}' exists already")]
    AuthorityExists(String),
    /// A folder of that name has other things in it.
    #[error("{0}: not the folder of a CA")]
    Foreign(PathBuf),
    /// A name that would be a path, or cannot stand in a certificate.
    #[error("{0}: a name has letters, digits and . _ - @ + : only")]
    Name(String),
    /// A file is there that is not replaced.
    #[error("{0}: exists already")]
    Exists(PathBuf),
    /// The host's certificate still counts.
    #[error("certificate for '{0}' exists already: revoke or delete it first")]
    CertificateExists(String),
    /// There is none.
    #[error("certificate for '{0}' does not exist")]
    NoCertificate(String),
    /// There is none.
    #[error("key for '{0}' does not exist")]
    NoKey(String),
    /// Somebody else signed it.
    #[error("certificate for '{0}' is not from this CA")]
    Stranger(String),
    /// It is on the list already.
    #[error("certificate for '{0}' is revoked already")]
    Revoked(String),
    /// Key and certificate are not of one pair.
    #[error("key for '{0}' is not that of its certificate")]
    Unpaired(String),
    /// The authority's certificate has expired.
    #[error("the CA's certificate has expired")]
    Expired,
    /// Not a key that this authority takes.
    #[error("not an RSA or EC key in PEM, or encrypted with another password")]
    Key,
    /// Not a certificate.
    #[error("{0}: not a certificate")]
    Certificate(PathBuf),
    /// Not an index of `openssl ca`.
    #[error("index.txt: a revoked certificate has a line that cannot be read")]
    Index,
    /// Not a number, or too long.
    #[error("serial.txt: not a serial number")]
    Serial,
    /// Not a revocation list.
    #[error("ca.crl: not a revocation list in PEM")]
    List,
    /// There is no password.
    #[error("password not set")]
    NoPassword,
    /// The second word was another.
    #[error("passphrase does not match!")]
    Mismatch,
    /// Passwords are kept in one line.
    #[error("a password has no control characters")]
    OddPassword,
    /// Nobody could be asked.
    #[error("passphrase: {0}")]
    Terminal(io::Error),
    /// The cryptographic library refused.
    #[error("the cryptographic library refuses")]
    Crypto,
    /// A file or folder.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl CaError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File(path, error)
    }
}

impl From<boring::error::ErrorStack> for CaError {
    fn from(_: boring::error::ErrorStack) -> Self {
        Self::Crypto
    }
}

impl From<der::Error> for CaError {
    fn from(_: der::Error) -> Self {
        Self::Crypto
    }
}

/// What a command works with.
pub struct Bench<'a> {
    /// Where authorities have their folders: [`FOLDER`].
    pub folder: &'a Path,
    /// Where archives are put.
    pub here: &'a Path,
    /// Who is asked for passwords.
    pub prompt: &'a mut dyn Prompt,
    /// Whether `show` answers in JSON.
    pub json: bool,
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Bench({}, {})",
            self.folder.display(),
            self.here.display()
        )
    }
}

/// Carries out a command; what there is to say about it goes to `out`.
pub fn run(command: &Command, bench: &mut Bench<'_>, out: &mut dyn Write) -> Result<(), CaError> {
    check_name(&command.ca)?;
    let now = now();
    if let What::Create { password, kind } = &command.what {
        return authority::create(bench, &command.ca, password.as_ref(), *kind, now);
    }
    let folder = authority::Folder::open(bench.folder, &command.ca)?;
    match &command.what {
        What::Create { .. } => Ok(()),
        What::Delete => folder.delete(),
        What::Install(to) => install::authority(&folder, to.as_deref(), out),
        What::Export(how) => export::authority(&folder, how, bench, out),
        What::Renew => {
            let number = folder.authority()?.sign_list(now)?;
            writeln!(out, "CRL {number} for CA '{}' signed", command.ca)?;
            Ok(())
        }
        What::Show(None) => show::all(&folder, bench.json, out),
        What::Show(Some(host)) => show::one(&folder, checked_host(host)?, bench.json, out),
        What::Certificate { host, what } => {
            let host = checked_host(host)?;
            match what {
                OfCertificate::Create { usage, kind } => {
                    host::certify(&folder, host, *usage, *kind, now, out)
                }
                OfCertificate::Delete => host::delete(&folder, host),
                OfCertificate::Install(to) => {
                    install::certificate(&folder, host, to.as_deref(), out)
                }
                OfCertificate::Export(how) => export::host(&folder, host, how, bench, out),
                OfCertificate::Revoke => host::revoke(&folder, host, now, out),
            }
        }
        What::Key { host, what } => {
            let host = checked_host(host)?;
            match what {
                OfKey::Create(kind) => host::create_key(&folder, host, *kind).map(drop),
                OfKey::Delete => host::delete_key(&folder, host),
                OfKey::Install(to) => install::key(&folder, host, to.as_deref(), out),
                OfKey::Import(from) => host::import_key(&folder, host, Path::new(from)),
            }
        }
    }
}

/// Names are parts of paths, fields of `index.txt` and values in profiles of several syntaxes.
fn check_name(name: &str) -> Result<(), CaError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@+:".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if begins && name.len() <= 64 && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(CaError::Name(name.to_owned()))
    }
}

/// A host's files stand beside those of the authority, which are called `ca`.
fn checked_host(host: &str) -> Result<&str, CaError> {
    check_name(host)?;
    if host.eq_ignore_ascii_case("ca") {
        return Err(CaError::Name(host.to_owned()));
    }
    Ok(host)
}

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "certificates begin when they are made"
)]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
