//! The containers: `.tgz` and `.zip`.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::ca::CaError;

/// A file in an archive.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    mode: u32,
}

impl Drop for Entry {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

impl Entry {
    /// A file for everybody.
    pub(super) fn public(path: &str, bytes: Vec<u8>) -> Self {
        Self::with_mode(path, bytes, 0o644)
    }

    /// A file for its owner.
    pub(super) fn secret(path: &str, bytes: Vec<u8>) -> Self {
        Self::with_mode(path, bytes, 0o600)
    }

    fn with_mode(path: &str, bytes: Vec<u8>, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
            mode,
        }
    }

    /// The same in a folder.
    pub(super) fn below(&self, folder: &str) -> Self {
        Self::with_mode(
            &format!("{folder}/{}", self.path),
            self.bytes.clone(),
            self.mode,
        )
    }
}

/// A tar archive, compressed with gzip. All belongs to root; `private` is for root only.
pub(super) fn tgz(entries: &[Entry]) -> Result<Vec<u8>, CaError> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    if entries
        .iter()
        .any(|entry| entry.path.starts_with("private/"))
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o700);
        tar.append_data(&mut header, "private/", &[][..])?;
    }
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(entry.bytes.len() as u64);
        header.set_mode(entry.mode);
        tar.append_data(&mut header, &entry.path, entry.bytes.as_slice())?;
    }
    Ok(tar.into_inner()?.finish()?)
}

/// A zip archive.
pub(super) fn zip(entries: &[Entry]) -> Result<Vec<u8>, CaError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for entry in entries {
        let options = SimpleFileOptions::default();
        let options = options.compression_method(CompressionMethod::Deflated);
        let begun = zip.start_file(entry.path.as_str(), options.unix_permissions(entry.mode));
        begun.map_err(std::io::Error::from)?;
        zip.write_all(&entry.bytes)?;
    }
    Ok(zip.finish().map_err(std::io::Error::from)?.into_inner())
}
