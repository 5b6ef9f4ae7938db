//! An authority's folder: its key, its password, its index and its revocation list.

use std::fs;
use std::path::{Path, PathBuf};

use boring::x509::{X509, X509Ref};
use zeroize::Zeroizing;

use super::certificate::{self, Issuer};
use super::index::{Index, next_serial};
use super::key::Key;
use super::request::{KeyKind, Secret};
use super::{Bench, CaError, crl, files, password};

/// The folder of an authority.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Folder {
    fn at(root: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: root.join(name),
        }
    }

    /// One that has an authority in it.
    pub(super) fn open(root: &Path, name: &str) -> Result<Self, CaError> {
        let folder = Self::at(root, name);
        if folder.key("ca").exists()
            || folder.certificate("ca").exists() && folder.password().exists()
        {
            Ok(folder)
        } else {
            Err(CaError::NoAuthority(name.to_owned()))
        }
    }

    /// `HOST.crt`; the authority's own is `ca.crt`.
    pub(super) fn certificate(&self, host: &str) -> PathBuf {
        self.path.join(format!("{host}.crt"))
    }

    /// `private/HOST.ENDING`
    pub(super) fn private(&self, host: &str, ending: &str) -> PathBuf {
        self.path.join("private").join(format!("{host}.{ending}"))
    }

    /// `private/HOST.key`
    pub(super) fn key(&self, host: &str) -> PathBuf {
        self.private(host, "key")
    }

    pub(super) fn list(&self) -> PathBuf {
        self.path.join("ca.crl")
    }

    fn password(&self) -> PathBuf {
        self.path.join("ikeca.passwd")
    }

    fn index_path(&self) -> PathBuf {
        self.path.join("index.txt")
    }

    fn serial_path(&self) -> PathBuf {
        self.path.join("serial.txt")
    }

    /// What was issued.
    pub(super) fn index(&self) -> Result<Index, CaError> {
        let text = files::read_if_there(&self.index_path())?.unwrap_or_default();
        Ok(Index::parse(&String::from_utf8_lossy(&text)))
    }

    /// A host's certificate, or the authority's, which is `ca`.
    pub(super) fn read_certificate(&self, host: &str) -> Result<X509, CaError> {
        let path = self.certificate(host);
        let pem = files::read_if_there(&path)?;
        let pem = pem.ok_or_else(|| CaError::NoCertificate(host.to_owned()))?;
        X509::from_pem(&pem).map_err(|_| CaError::Certificate(path))
    }

    /// A host's key.
    pub(super) fn read_key(&self, host: &str) -> Result<Option<Key>, CaError> {
        let pem = files::read_if_there(&self.key(host))?.map(Zeroizing::new);
        pem.map(|pem| Key::from_pem(&pem, None)).transpose()
    }

    /// A host's key and certificate, which belong together.
    pub(super) fn pair(&self, host: &str) -> Result<(Key, X509), CaError> {
        let certificate = self.read_certificate(host)?;
        let key = self.read_key(host)?;
        let key = key.ok_or_else(|| CaError::NoKey(host.to_owned()))?;
        if certificate.public_key()?.public_eq(key.pkey()) {
            Ok((key, certificate))
        } else {
            Err(CaError::Unpaired(host.to_owned()))
        }
    }

    /// The authority itself, whose key is opened by the password in the folder. Nobody else who asks
    /// works with it meanwhile.
    pub(super) fn authority(&self) -> Result<Authority<'_>, CaError> {
        let lock = files::lock(&self.path)?;
        let password = self.read_password()?;
        let pem = Zeroizing::new(files::read(&self.key("ca"))?);
        let key = Key::from_pem(&pem, Some(&password))?;
        let certificate = self.read_certificate("ca")?;
        if !certificate.public_key()?.public_eq(key.pkey()) {
            return Err(CaError::Unpaired("ca".to_owned()));
        }
        Ok(Authority {
            folder: self,
            certificate,
            key,
            _lock: lock,
        })
    }

    /// The first line; OpenIKED writes it twice.
    fn read_password(&self) -> Result<Secret, CaError> {
        let text = Zeroizing::new(files::read(&self.password())?);
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let words = std::str::from_utf8(line).map_err(|_| CaError::OddPassword)?;
        Ok(Secret::new(words.to_owned()))
    }

    /// Removes all of it. [`Folder::open`] has seen that it is an authority's.
    pub(super) fn delete(&self) -> Result<(), CaError> {
        fs::remove_dir_all(&self.path).map_err(CaError::at(&self.path))
    }
}

/// An authority that can sign.
#[derive(Debug)]
pub(super) struct Authority<'a> {
    folder: &'a Folder,
    certificate: X509,
    key: Key,
    _lock: fs::File,
}

impl Authority<'_> {
    pub(super) fn certificate(&self) -> &X509Ref {
        &self.certificate
    }

    pub(super) fn issuer(&self) -> Issuer<'_> {
        Issuer {
            certificate: &self.certificate,
            key: &self.key,
        }
    }

    /// A serial number that nothing else has, and will have: the next one is on disk before it is
    /// used.
    pub(super) fn draw_serial(&self) -> Result<Vec<u8>, CaError> {
        let path = self.folder.serial_path();
        let file = files::read_if_there(&path)?;
        let file = file.as_deref().map(String::from_utf8_lossy);
        let (serial, next) = next_serial(file.as_deref(), &self.folder.index()?)?;
        files::replace(&path, next.as_bytes(), 0o644)?;
        Ok(serial)
    }

    pub(super) fn write_index(&self, index: &Index) -> Result<(), CaError> {
        files::replace(&self.folder.index_path(), index.text().as_bytes(), 0o644)
    }

    /// Signs the list of all that the index says is revoked, and tells its number.
    pub(super) fn sign_list(&self, now: i64) -> Result<u64, CaError> {
        let path = self.folder.list();
        let before = files::read_if_there(&path)?;
        let before = before.map_or(Ok(0), |pem| crl::number(&pem))?;
        let number = before.checked_add(1).ok_or(CaError::List)?;
        let revoked = self.folder.index()?.revoked()?;
        let list = crl::sign(self.issuer(), &revoked, number, now)?;
        files::replace(&path, &list, 0o644)?;
        Ok(number)
    }
}

/// Makes an authority, in a folder that is empty but for its password.
pub(super) fn create(
    bench: &mut Bench<'_>,
    name: &str,
    password: Option<&Secret>,
    kind: KeyKind,
    now: i64,
) -> Result<(), CaError> {
    let folder = Folder::at(bench.folder, name);
    if Folder::open(bench.folder, name).is_ok() {
        return Err(CaError::AuthorityExists(name.to_owned()));
    }
    check_empty(&folder)?;
    let given = if folder.password().exists() {
        folder.read_password()?
    } else {
        password::choose(password, "CA", bench.prompt)?
    };
    let key = Key::generate(kind)?;
    let certificate = certificate::of_authority(&key, name, now)?;
    files::make_folder(&folder.path, 0o700)?;
    files::make_folder(&folder.path.join("private"), 0o700)?;
    if !folder.password().exists() {
        let words = given.reveal();
        let lines = Zeroizing::new(format!("{words}\n{words}\n"));
        files::write_new(&folder.password(), lines.as_bytes(), 0o600)?;
    }
    files::write_new(&folder.key("ca"), &key.sealed_pem(&given)?, 0o600)?;
    files::write_new(&folder.certificate("ca"), &certificate.to_pem()?, 0o644)?;
    let (_, first) = next_serial(None, &Index::default())?;
    files::write_new(&folder.serial_path(), first.as_bytes(), 0o644)?;
    files::write_new(&folder.index_path(), b"", 0o644)?;
    folder.authority()?.sign_list(now)?;
    Ok(())
}

/// Folders like `/etc/ssl/certs` are somebody else's.
fn check_empty(folder: &Folder) -> Result<(), CaError> {
    for path in [folder.path.clone(), folder.path.join("private")] {
        let Ok(entries) = fs::read_dir(&path) else {
            continue;
        };
        for entry in entries {
            let name = entry.map_err(CaError::at(&path))?.file_name();
            if path != folder.path || name != "private" && name != "ikeca.passwd" {
                return Err(CaError::Foreign(folder.path.clone()));
            }
        }
    }
    Ok(())
}
