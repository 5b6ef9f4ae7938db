//! Files that appear all at once and with their mode from the start, and folders.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::CaError;

/// Writes a file that was not there.
///
/// # Errors
/// [`CaError::Exists`] if it was, or what the system says.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let draft = draft(path, bytes, mode)?;
    // Unlike a rename, a link replaces nothing.
    let linked = fs::hard_link(&draft, path);
    let removed = fs::remove_file(&draft);
    match linked.and(removed) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(CaError::Exists(path.to_owned()))
        }
        result => result.map_err(CaError::at(path)),
    }
}

/// Writes a file in the place of what was there, if there was anything.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let draft = draft(path, bytes, mode)?;
    fs::rename(&draft, path).map_err(|error| {
        let _ = fs::remove_file(&draft);
        CaError::at(path)(error)
    })
}

/// The bytes on disk under a name of their own, beside where they shall be.
fn draft(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, CaError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        // Narrow first: `mode` in `open` goes through the umask, `set_permissions` does not.
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode & 0o600)
            .open(&draft)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.sync_all());
        written.inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })
    };
    write().map_err(CaError::at(path))?;
    Ok(draft)
}

/// Makes a folder and those above it, each with this mode; what is there stays as it is.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<(), CaError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(CaError::at(path))
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CaError> {
    fs::read(path).map_err(CaError::at(path))
}

/// Reads a file if there is one.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, CaError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CaError::at(path)(error)),
    }
}

/// Removes a file if there is one, and says whether there was.
pub(super) fn remove(path: &Path) -> Result<bool, CaError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CaError::at(path)(error)),
    }
}

/// Nobody else who asks works in this folder while the file lives.
pub(super) fn lock(folder: &Path) -> Result<File, CaError> {
    let open = File::open(folder).and_then(|file| file.lock().map(|()| file));
    open.map_err(CaError::at(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn new_files_replace_nothing_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"one", 0o600).unwrap();
        assert!(matches!(write_new(&path, b"two", 0o644), Err(CaError::Exists(at)) if at == path));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn replaced_files_have_the_mode_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"one").unwrap();
        replace(&path, b"two", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o644);
        replace(&path, b"three", 0o600).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
