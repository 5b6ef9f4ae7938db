//! UDP sockets beyond what `socket2` offers: batches with packet information, the steering program,
//! UDP encapsulation and the per-socket IPsec bypass.

use std::ffi::CString;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{fmt, io, ptr};

use crate::steer::BpfInsn;

/// Most datagrams of one system call.
pub const BATCH_MAX: usize = 64;

/// What came with one datagram.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Bytes in its buffer.
    pub len: usize,
    /// Sender.
    pub remote: SocketAddr,
    /// The address it was sent to.
    pub local: IpAddr,
    /// It did not fit its buffer.
    pub truncated: bool,
}

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Put four zero bytes before them (RFC 3948, 2.2).
    pub marker: bool,
    /// Receiver.
    pub remote: SocketAddr,
    /// The address it leaves from.
    pub local: IpAddr,
}

/// Room for one IPV6_PKTINFO control message.
const CONTROL_LEN: usize = 64;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_LEN]);

/// What the kernel reads and writes beside the bytes of a batch: one for receiving, one for sending.
pub struct Room {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    vectors: Vec<[libc::iovec; 2]>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: what its pointers point to is looked at only by the call that has set them.
unsafe impl Send for Room {}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room(..)")
    }
}

impl Default for Room {
    fn default() -> Self {
        // SAFETY: these are plain data for which zero is valid.
        let (name, vectors, header) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Self {
            names: vec![name; BATCH_MAX],
            controls: vec![Control([0; CONTROL_LEN]); BATCH_MAX],
            vectors: vec![vectors; BATCH_MAX],
            headers: vec![header; BATCH_MAX],
        }
    }
}

/// Where one datagram of a batch is prepared.
struct Place<'a> {
    name: &'a mut libc::sockaddr_storage,
    control: &'a mut Control,
    vectors: &'a mut [libc::iovec; 2],
    header: &'a mut libc::mmsghdr,
}

impl Room {
    fn places(&mut self) -> impl Iterator<Item = Place<'_>> {
        let beside = self.controls.iter_mut().zip(&mut self.vectors);
        let all = self.names.iter_mut().zip(beside).zip(&mut self.headers);
        all.map(|((name, (control, vectors)), header)| Place {
            name,
            control,
            vectors,
            header,
        })
    }
}

/// Receives up to `BATCH_MAX` datagrams, one in each buffer, without waiting.
pub fn receive(
    socket: BorrowedFd<'_>,
    room: &mut Room,
    buffers: &mut [Vec<u8>],
    received: &mut Vec<Received>,
) -> io::Result<()> {
    received.clear();
    let count = buffers.len().min(BATCH_MAX);
    for (place, buffer) in room.places().zip(buffers) {
        let vector = &mut place.vectors[0];
        vector.iov_base = buffer.as_mut_ptr().cast();
        vector.iov_len = buffer.len();
        let header = &mut place.header.msg_hdr;
        header.msg_name = ptr::from_mut(place.name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_control = place.control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LEN;
    }
    // SAFETY: each of the first `count` headers points to a live name, control and buffer of the
    // lengths given, all of which outlive the call.
    let got = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            room.headers.as_mut_ptr(),
            count as u32,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let Ok(got) = usize::try_from(got) else {
        return Err(io::Error::last_os_error());
    };
    for (header, name) in room.headers.iter().zip(&room.names).take(got) {
        let remote = address_of(name);
        let local = local_of(&header.msg_hdr);
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        received.push(Received {
            len: header.msg_len as usize,
            remote: remote.unwrap_or(unknown),
            local: local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0
                || remote.is_none()
                || local.is_none(),
        });
    }
    Ok(())
}

fn address_of(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let pointer: *const libc::sockaddr_storage = storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says this is a sockaddr_in, and the storage is larger.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says this is a sockaddr_in6, and the storage is larger.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn local_of(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel filled msg_control up to msg_controllen; the macros stay within it.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return whole, aligned headers or null.
        let (level, kind) = unsafe { ((*control).cmsg_level, (*control).cmsg_type) };
        // SAFETY: the data of a control message stands behind its header.
        let data = unsafe { libc::CMSG_DATA(control) };
        if level == libc::IPPROTO_IP && kind == libc::IP_PKTINFO {
            // SAFETY: the type says that an in_pktinfo stands there; it may be unaligned.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
        }
        if level == libc::IPPROTO_IPV6 && kind == libc::IPV6_PKTINFO {
            // SAFETY: the type says that an in6_pktinfo stands there; it may be unaligned.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
        }
        // SAFETY: `control` came from the same header.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

/// Sends up to `BATCH_MAX` datagrams; returns how many the kernel took, none where there are none. An
/// error concerns the first.
pub fn send<'a>(
    socket: BorrowedFd<'_>,
    room: &mut Room,
    datagrams: impl Iterator<Item = Outgoing<'a>>,
) -> io::Result<usize> {
    let mut count = 0;
    for (place, datagram) in room.places().zip(datagrams) {
        count += 1;
        for (vector, bytes) in place.vectors.iter_mut().zip([&MARKER, datagram.bytes]) {
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
        }
        let vectors = if datagram.marker {
            place.vectors.as_mut_slice()
        } else {
            &mut place.vectors[1..]
        };
        let header = &mut place.header.msg_hdr;
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = vectors.len();
        header.msg_namelen = fill_name(place.name, datagram.remote);
        header.msg_name = ptr::from_mut(place.name).cast();
        header.msg_control = place.control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LEN;
        header.msg_controllen = fill_source(header, datagram.local, datagram.remote);
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: each of the first `count` headers points to a live name, control and one or two live
    // vectors; sendmmsg does not write through iov_base.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            room.headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

static MARKER: [u8; 4] = [0; 4];

fn fill_name(storage: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let storage: *mut libc::sockaddr_storage = storage;
    match address {
        SocketAddr::V4(address) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*address.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than sockaddr_in and aligned for it.
            unsafe { storage.cast::<libc::sockaddr_in>().write(name) };
            size_of::<libc::sockaddr_in>() as u32
        }
        SocketAddr::V6(address) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: sockaddr_storage is larger than sockaddr_in6 and aligned for it.
            unsafe { storage.cast::<libc::sockaddr_in6>().write(name) };
            size_of::<libc::sockaddr_in6>() as u32
        }
    }
}

/// Writes the packet information that chooses the source address; returns its length.
fn fill_source(header: &libc::msghdr, local: IpAddr, remote: SocketAddr) -> usize {
    // SAFETY: msg_control points to CONTROL_LEN aligned bytes, room for one control message.
    let control = unsafe { &mut *libc::CMSG_FIRSTHDR(header) };
    match local {
        IpAddr::V4(local) => {
            let s_addr = u32::from(local).to_be();
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            control.cmsg_level = libc::IPPROTO_IP;
            control.cmsg_type = libc::IP_PKTINFO;
            // SAFETY: CMSG_LEN and CMSG_SPACE only compute; the data has room for an in_pktinfo.
            unsafe {
                control.cmsg_len = libc::CMSG_LEN(size_of_val(&info) as u32) as usize;
                libc::CMSG_DATA(control)
                    .cast::<libc::in_pktinfo>()
                    .write_unaligned(info);
                libc::CMSG_SPACE(size_of_val(&info) as u32) as usize
            }
        }
        IpAddr::V6(local) => {
            let scope = if let SocketAddr::V6(remote) = remote {
                remote.scope_id()
            } else {
                0
            };
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: local.octets(),
                },
                ipi6_ifindex: scope,
            };
            control.cmsg_level = libc::IPPROTO_IPV6;
            control.cmsg_type = libc::IPV6_PKTINFO;
            // SAFETY: CMSG_LEN and CMSG_SPACE only compute; the data has room for an in6_pktinfo.
            unsafe {
                control.cmsg_len = libc::CMSG_LEN(size_of_val(&info) as u32) as usize;
                libc::CMSG_DATA(control)
                    .cast::<libc::in6_pktinfo>()
                    .write_unaligned(info);
                libc::CMSG_SPACE(size_of_val(&info) as u32) as usize
            }
        }
    }
}

/// `setsockopt` with the bytes of a plain value.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live slice, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as u32,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// An `int` option.
pub fn set_int_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_option(socket, level, name, &value.to_ne_bytes())
}

/// What datagrams that must not go into a tunnel of ours are marked with (SO_MARK).
pub const OUTSIDE_MARK: u32 = 0x4900_0000;

/// Marks what is sent through a socket, or takes the mark away with zero.
pub fn set_mark(socket: BorrowedFd<'_>, mark: u32) -> io::Result<()> {
    let mark = i32::from_ne_bytes(mark.to_ne_bytes());
    set_int_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark)
}

/// The name of an interface of this network namespace.
pub fn interface_name(index: u32) -> io::Result<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the pointer is that of IF_NAMESIZE writable bytes, which is what the call may write.
    let written = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if written.is_null() {
        return Err(io::Error::last_os_error());
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(name.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The number of an interface of this network namespace.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: the pointer is that of a live string with a NUL at its end, which is only read.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(index)
    }
}

/// Attaches the program that chooses the member of a SO_REUSEPORT group.
pub fn attach_reuseport_program(socket: BorrowedFd<'_>, program: &[BpfInsn]) -> io::Result<()> {
    let mut filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|i| libc::sock_filter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect();
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` points to `filter`, which lives until the call returns; the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets IKE pass this socket whatever the host's IPsec policies say, in both directions.
pub fn bypass_ipsec(socket: BorrowedFd<'_>, ipv4: bool) -> io::Result<()> {
    let (level, name, family) = if ipv4 {
        (libc::IPPROTO_IP, IP_XFRM_POLICY, libc::AF_INET as u16)
    } else {
        (libc::IPPROTO_IPV6, IPV6_XFRM_POLICY, libc::AF_INET6 as u16)
    };
    for direction in [XFRM_POLICY_IN, XFRM_POLICY_OUT] {
        // struct xfrm_userpolicy_info: the selector's family, the direction, action "allow" (0).
        let mut policy = [0u8; 168];
        policy[40..42].copy_from_slice(&family.to_ne_bytes());
        policy[160] = direction;
        set_option(socket, level, name, &policy)?;
    }
    Ok(())
}

const IP_XFRM_POLICY: i32 = 17;
const IPV6_XFRM_POLICY: i32 = 35;
const XFRM_POLICY_IN: u8 = 0;
const XFRM_POLICY_OUT: u8 = 1;
