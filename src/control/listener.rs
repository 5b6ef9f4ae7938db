//! The listening socket in the file system: made with mode 0660, never over a living one's head,
//! removed when dropped. Or systemd's, which is left as it is.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

/// A bound control socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// `None`: somebody else made it and will remove it.
    file: Option<Bound>,
}

/// The file of a socket that we bound.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    /// Device and inode: another daemon's socket at the same path is not ours to remove.
    file: (u64, u64),
}

impl Listener {
    /// Binds `path`. A socket that nobody listens on is replaced; one that answers, or a file of
    /// another kind, is left alone and is an error.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => {
                if StdStream::connect(path).is_ok() {
                    let reason = "another daemon answers there";
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, reason));
                }
                fs::remove_file(path)?;
            }
            Ok(_) => {
                let reason = "the file is not a socket";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = UnixListener::bind(path)?;
        // Until here the umask holds; connecting takes write permission, which 022 gives nobody.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        let meta = fs::symlink_metadata(path)?;
        let path = path.to_owned();
        let file = (meta.dev(), meta.ino());
        Ok(Self {
            socket,
            file: Some(Bound { path, file }),
        })
    }

    /// Takes a listening socket that somebody else has bound, with the mode that it has.
    pub fn inherit(fd: OwnedFd) -> io::Result<Self> {
        let socket = StdListener::from(fd);
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixListener::from_std(socket),
            file: None,
        })
    }

    /// Adds the socket to a poll.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// The next client, or `WouldBlock`.
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().map(|(stream, _)| stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(Bound { path, file }) = &self.file else {
            return;
        };
        let ours = fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == *file);
        if ours {
            // Nobody is left to hear that it could not be removed; the next start replaces it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Owner and group may use the socket, as with OpenIKED.
const MODE: u32 = 0o660;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_socket_and_a_plain_file_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let first = Listener::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(
            Listener::bind(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(first);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert_eq!(
            Listener::bind(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn what_is_inherited_stays_when_we_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let bound = StdListener::bind(&path).unwrap();
        let ours = Listener::inherit(bound.try_clone().unwrap().into()).unwrap();
        assert_eq!(ours.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = StdStream::connect(&path).unwrap();
        assert!(ours.accept().is_ok());
        drop(ours);
        assert!(path.exists());
        assert!(StdStream::connect(&path).is_ok(), "systemd still listens");
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_foreign_one_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = Listener::bind(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let second = Listener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists(), "the second daemon's socket");
        drop(second);
        assert!(!path.exists());
    }
}
