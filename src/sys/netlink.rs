//! Datagram sockets to the kernel: netlink (`xfrm`) and PF_KEY (`pfkey`). Opening, joining groups,
//! buffer sizes, plain sends and receives; what the bytes mean is not here.

#![allow(
    unsafe_code,
    reason = "bind and connect take a sockaddr_nl, which std cannot make; socket options"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// A socket whose other end is the kernel.
#[derive(Debug)]
pub struct KernelSocket {
    socket: Socket,
}

impl KernelSocket {
    /// A netlink socket of `family` (`NETLINK_XFRM`, ..) that hears only the kernel.
    ///
    /// Connecting to port 0 makes the kernel refuse datagrams of other processes.
    pub fn netlink(family: i32) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::RAW.cloexec(),
            Some(Protocol::from(family)),
        )?;
        let fd = socket.as_raw_fd();
        with_kernel_address(|address, len| {
            // SAFETY: `address` points to `len` bytes of an initialised sockaddr_nl that lives
            // through the call, and `fd` is an open socket.
            unsafe { libc::bind(fd, address, len) }
        })?;
        with_kernel_address(|address, len| {
            // SAFETY: as above.
            unsafe { libc::connect(fd, address, len) }
        })?;
        Ok(Self { socket })
    }

    /// A PF_KEY version 2 socket (RFC 2367).
    pub fn pfkey() -> io::Result<Self> {
        const PF_KEY_V2: i32 = 2;
        let socket = Socket::new(
            Domain::from(libc::PF_KEY),
            Type::RAW.cloexec(),
            Some(Protocol::from(PF_KEY_V2)),
        )?;
        Ok(Self { socket })
    }

    /// Joins one netlink multicast group (its number, not its mask).
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.set_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Error answers carry only the header of the request they are about, not all its bytes.
    pub fn cap_acks(&self) -> io::Result<()> {
        self.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)
    }

    /// Asks for buffers of `bytes` in both directions, above the system's limit where allowed.
    pub fn enlarge_buffers(&self, bytes: u32) {
        if self
            .set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
            .is_err()
        {
            // Unprivileged: as much as the limit gives is all there is; nothing to tell.
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
        }
        if self
            .set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
            .is_err()
        {
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
        }
    }

    /// Bytes that wait to be received, their overhead counted, and how many the kernel lets wait: what
    /// comes while there are more is lost. `None` where the kernel does not tell (before 4.12).
    pub fn waiting(&self) -> Option<(u32, u32)> {
        let mut told = [0u32; MEMINFO_FIELDS];
        let mut len = size_of_val(&told) as libc::socklen_t;
        // SAFETY: `told` has room for `len` bytes, both live through the call, and the kernel writes
        // no more than that.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                (&raw mut told).cast(),
                &raw mut len,
            )
        };
        let [waiting, limit, ..] = told;
        (result == 0).then_some((waiting, limit))
    }

    /// Whether receives return `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.socket.set_nonblocking(on)
    }

    /// A blocking receive gives up after this long.
    pub fn set_receive_timeout(&self, after: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(after))
    }

    /// Sends one datagram to the kernel, whole or not at all.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let sent = (&self.socket).write(datagram)?;
        if sent == datagram.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Receives one datagram; one longer than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    fn set_option(&self, level: i32, name: i32, value: u32) -> io::Result<()> {
        let pointer: *const u32 = &raw const value;
        // SAFETY: `pointer` points to four readable bytes that live through the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                pointer.cast(),
                size_of::<u32>() as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsRawFd for KernelSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Of what SO_MEMINFO tells (SK_MEMINFO_VARS), two of which are wanted: what waits, and the limit.
const MEMINFO_FIELDS: usize = 9;

/// Moves the calling thread into the network namespace that `file` stands for; sockets it opens
/// from then on live there. For tests that stand between several hosts.
pub fn enter_namespace(file: &File) -> io::Result<()> {
    // SAFETY: takes integers only; the descriptor is open as long as `file` is borrowed.
    let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Calls `act` with the netlink address "port 0, no groups": the kernel to connect to, or any
/// free port to bind to.
fn with_kernel_address(
    act: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> i32,
) -> io::Result<()> {
    // SAFETY: sockaddr_nl is plain integers; all zero bytes are a valid value.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    let pointer: *const libc::sockaddr_nl = &raw const address;
    let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    if act(pointer.cast(), len) == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_netlink_answers_a_malformed_request() {
        // NETLINK_ROUTE exists in every kernel: a header of unknown type 0xfff0 with NLM_F_ACK.
        let socket = KernelSocket::netlink(libc::NETLINK_ROUTE).unwrap();
        socket.set_receive_timeout(Duration::from_secs(5)).unwrap();
        let mut request = Vec::new();
        request.extend_from_slice(&16u32.to_ne_bytes());
        request.extend_from_slice(&0xfff0u16.to_ne_bytes());
        request.extend_from_slice(&5u16.to_ne_bytes());
        request.extend_from_slice(&7u32.to_ne_bytes());
        request.extend_from_slice(&0u32.to_ne_bytes());
        socket.send(&request).unwrap();
        let mut buffer = [0; 256];
        let len = socket.receive(&mut buffer).unwrap();
        assert!(len >= 36);
        assert_eq!(
            buffer[8..12],
            7u32.to_ne_bytes(),
            "the answer carries our sequence number"
        );
    }
}
