//! Addresses that we set on interfaces of this host.

use std::io;

use super::message::{self, LinkAddress, Told};
use super::{ANSWER_AFTER_MAX, dump};
use crate::sys::net;
use crate::sys::netlink::KernelSocket;

/// The way to the interfaces of the network namespace it was opened in.
#[derive(Debug)]
pub struct Links {
    socket: KernelSocket,
    seq: u32,
}

impl Links {
    /// Opens it and takes away what a daemon before this one set and left.
    pub fn open() -> io::Result<Self> {
        let socket = KernelSocket::netlink(libc::NETLINK_ROUTE)?;
        socket.set_receive_timeout(ANSWER_AFTER_MAX)?;
        let mut links = Self { socket, seq: 0 };
        links.sweep()?;
        Ok(links)
    }

    /// Sets an address; `AlreadyExists` is one that is there, by whomever.
    pub fn add(&mut self, at: LinkAddress) -> io::Result<()> {
        let seq = self.next();
        self.ask(seq, &message::add_address(seq, at))
    }

    /// Takes an address away; one that is not there is no error.
    pub fn remove(&mut self, at: LinkAddress) -> io::Result<()> {
        let seq = self.next();
        match self.ask(seq, &message::remove_address(seq, at)) {
            // The interface may be gone, and its addresses with it.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EADDRNOTAVAIL | libc::ENODEV)
                ) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// A table that changes while it is read may show an address twice, or not; ours do not change.
    fn sweep(&mut self) -> io::Result<()> {
        let seq = self.next();
        let mut left = Vec::new();
        dump(&self.socket, seq, |at, _, ours| {
            if ours {
                left.push(at);
            }
        })?;
        left.into_iter().try_for_each(|at| self.remove(at))
    }

    fn next(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    fn ask(&self, seq: u32, request: &[u8]) -> io::Result<()> {
        self.socket.send(request)?;
        let mut buffer = [0; ANSWER_MAX];
        loop {
            let len = self.socket.receive(&mut buffer)?;
            for (answer_to, _, told) in message::read(buffer.get(..len).unwrap_or_default()) {
                match told {
                    Told::Error(0) if answer_to == seq => return Ok(()),
                    Told::Error(errno) if answer_to == seq => {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    Told::Address { .. }
                    | Told::Link { .. }
                    | Told::Done
                    | Told::Error(_)
                    | Told::Other => {}
                }
            }
        }
    }
}

/// The number of an XFRM interface (zero where it is for any), or `None` for an interface of another
/// kind. `ENODEV` is one that is not there.
pub fn xfrm_interface(name: &str) -> io::Result<Option<u32>> {
    let index = net::interface_index(name)?;
    let socket = KernelSocket::netlink(libc::NETLINK_ROUTE)?;
    socket.set_receive_timeout(ANSWER_AFTER_MAX)?;
    socket.send(&message::get_link(SEQ, index))?;
    let mut buffer = vec![0; LINK_MAX];
    loop {
        let len = socket.receive(&mut buffer)?;
        for (answer_to, _, told) in message::read(buffer.get(..len).unwrap_or_default()) {
            match told {
                Told::Link { xfrm } if answer_to == SEQ => return Ok(xfrm),
                Told::Error(errno) if answer_to == SEQ && errno != 0 => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Told::Address { .. }
                | Told::Link { .. }
                | Told::Done
                | Told::Error(_)
                | Told::Other => {}
            }
        }
    }
}

/// Of the one question to a socket of its own.
const SEQ: u32 = 1;
/// One interface with all that the kernel counts of it.
const LINK_MAX: usize = 32 * 1024;
/// An acknowledgement with the request that it is about.
const ANSWER_MAX: usize = 1024;
