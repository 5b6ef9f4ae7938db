//! Sockets that systemd has opened for us (sd_listen_fds(3)): the control socket, which then is
//! there before us and stays when we restart.

use std::os::fd::OwnedFd;
use std::path::Path;

use socket2::{Domain, SockRef, Type};

use crate::control::listener::Listener;
use crate::sys::process;

/// What was passed, with names. To be called before anything is opened: an empty place among the
/// descriptors that were announced would be taken by something of ours.
pub(super) fn take() -> Result<Vec<(OwnedFd, String)>, String> {
    process::inherited().map_err(|error| format!("sockets of systemd: {error}"))
}

/// The control socket, passed or bound at `path`, and what was passed and is of no use.
pub(super) fn control_socket(
    passed: Vec<(OwnedFd, String)>,
    path: &Path,
) -> Result<(Listener, Vec<String>), String> {
    let (controls, others): (Vec<_>, Vec<_>) =
        passed.into_iter().partition(|(fd, _)| is_control(fd));
    let unused = |(_, name): (OwnedFd, String)| {
        format!("socket '{name}' of systemd is no control socket and not used")
    };
    let mut warnings: Vec<String> = others.into_iter().map(unused).collect();
    let mut controls = controls.into_iter();
    let Some((first, _)) = controls.next() else {
        let listener =
            Listener::bind(path).map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok((listener, warnings));
    };
    let second = |(_, name)| format!("socket '{name}' of systemd is a second one and not used");
    warnings.extend(controls.map(second));
    let listener = Listener::inherit(first).map_err(|error| format!("control socket: {error}"))?;
    Ok((listener, warnings))
}

/// A stream socket in the file system that listens. The UDP sockets cannot be passed: each worker
/// has one of its own, bound in its turn behind the program that steers.
fn is_control(fd: &OwnedFd) -> bool {
    let socket = SockRef::from(fd);
    socket.domain().is_ok_and(|domain| domain == Domain::UNIX)
        && socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
        && socket.is_listener().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn only_a_listening_unix_stream_is_a_control_socket() {
        let dir = tempfile::tempdir().unwrap();
        let listening = UnixListener::bind(dir.path().join("sock")).unwrap();
        assert!(is_control(&listening.into()));
        let others: [OwnedFd; 5] = [
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            UnixDatagram::unbound().unwrap().into(),
            UnixStream::pair().unwrap().0.into(),
            std::fs::File::open("/dev/null").unwrap().into(),
        ];
        for other in &others {
            assert!(!is_control(other), "{other:?}");
        }
    }
}
