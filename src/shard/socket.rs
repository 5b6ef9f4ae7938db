//! The UDP sockets: for each address family and port one SO_REUSEPORT group with a member for each
//! shard, bound in the order of the shards, with the steering program attached before the first
//! member is bound.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::policy::Config;
use crate::steer::Steering;
use crate::sys::net;

/// One shard's member of one group.
#[derive(Debug)]
pub struct ShardSocket {
    socket: Socket,
    /// Its address as bound; the port is the one answers leave from.
    pub bound: SocketAddr,
    /// The NAT-T socket: IKE datagrams carry the marker.
    pub marker: bool,
}

impl ShardSocket {
    /// For polling.
    pub fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// For receiving and sending.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether datagrams of this family and kind go through this socket.
    pub fn carries(&self, address: IpAddr, marker: bool) -> bool {
        self.marker == marker && self.bound.is_ipv4() == address.is_ipv4()
    }
}

/// Which sockets to open.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// IKE, 500; `None` with `-t`.
    pub ike: Option<u16>,
    /// NAT-T, 4500 or `-p`; `None` with `-T`.
    pub natt: Option<u16>,
}

/// Sockets of all shards, by shard, and what an operator should know about them.
#[derive(Debug)]
pub struct Bound {
    /// One list for each shard.
    pub shards: Vec<Vec<ShardSocket>>,
    /// Whatever could not be had but is not needed everywhere.
    pub warnings: Vec<String>,
}

/// Binds everything on `addresses`. Fails where a port is taken, by another daemon for instance.
pub fn bind(addresses: &[IpAddr], ports: Ports, steering: &Steering) -> io::Result<Bound> {
    let mut bound = Bound {
        shards: (0..steering.shards()).map(|_| Vec::new()).collect(),
        warnings: vec![],
    };
    for &address in addresses {
        for (port, marker) in [(ports.ike, false), (ports.natt, true)] {
            let Some(port) = port else { continue };
            let name = SocketAddr::new(address, port);
            if let Err(error) = bind_group(name, marker, steering, &mut bound) {
                let missing = error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                    || error.raw_os_error() == Some(libc::EADDRNOTAVAIL);
                if address.is_ipv6() && missing {
                    bound.warnings.push(format!("{name}: {error}; no IPv6"));
                } else {
                    return Err(io::Error::new(error.kind(), format!("{name}: {error}")));
                }
            }
        }
    }
    Ok(bound)
}

/// Every address of both families.
pub const WILDCARDS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// Keeps what goes through these sockets out of all tunnels, if routes may lead into any: a peer may
/// have other addresses than the one that the tunnel goes to, or be another gateway. Once that is so
/// it stays so, for IKE SAs outlive the policy that made them. Not allowed: then there are no routes
/// of ours either.
pub fn keep_outside(sockets: &[ShardSocket], config: &Config) {
    if config.leads() {
        for socket in sockets {
            let _ = net::set_mark(socket.fd(), net::OUTSIDE_MARK);
        }
    }
}

/// The address that this host sends to `remote` from, by its routes but those into our tunnels;
/// `None`: there is no way.
pub fn source_towards(remote: IpAddr) -> Option<IpAddr> {
    let name = SocketAddr::new(remote, DISCARD);
    let socket = open(name).ok()?;
    // A policy for the peer's own address must not hide the route to it. Not allowed: none is ours.
    let _ = net::bypass_ipsec(socket.as_fd(), name.is_ipv4());
    let _ = net::set_mark(socket.as_fd(), net::OUTSIDE_MARK);
    // A datagram socket that is connected has its source chosen, and sends nothing.
    socket.connect(&name.into()).ok()?;
    let local = socket.local_addr().ok()?.as_socket()?.ip();
    (!local.is_unspecified()).then_some(local)
}

fn bind_group(
    name: SocketAddr,
    marker: bool,
    steering: &Steering,
    bound: &mut Bound,
) -> io::Result<()> {
    if name.port() != 0 {
        // A bind without SO_REUSEPORT fails while any group lives: a second daemon would silently
        // take half of the first one's datagrams otherwise.
        open(name)?.bind(&name.into())?;
    }
    let mut actual = name;
    for (index, sockets) in bound.shards.iter_mut().enumerate() {
        let socket = open(name)?;
        socket.set_reuse_port(true)?;
        if index == 0 {
            net::attach_reuseport_program(socket.as_fd(), &steering.program(marker))?;
        }
        socket.bind(&actual.into())?;
        actual = socket.local_addr()?.as_socket().unwrap_or(actual);
        let warnings = configure(&socket, actual, marker)?;
        if index == 0 {
            bound.warnings.extend(warnings);
        }
        sockets.push(ShardSocket {
            socket,
            bound: actual,
            marker,
        });
    }
    Ok(())
}

fn open(name: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(name), Type::DGRAM, Some(Protocol::UDP))?;
    if name.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn configure(socket: &Socket, name: SocketAddr, marker: bool) -> io::Result<Vec<String>> {
    let mut warnings = Vec::new();
    socket.set_nonblocking(true)?;
    let fd = socket.as_fd();
    if name.is_ipv4() {
        net::set_int_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    } else {
        net::set_int_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    }
    if net::set_int_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_LEN).is_err() {
        // Not privileged: as much as the machine's limit allows.
        socket.set_recv_buffer_size(BUFFER_LEN as usize)?;
    }
    if let Err(error) = net::bypass_ipsec(fd, name.is_ipv4()) {
        warnings.push(format!("{name}: cannot bypass IPsec policies: {error}"));
    }
    if marker {
        let set = net::set_int_option(fd, libc::IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP);
        if let Err(error) = set {
            warnings.push(format!("{name}: no ESP in UDP: {error}"));
        }
    }
    Ok(warnings)
}

/// Receive buffer of each socket: some thousand datagrams, a second of a mass reconnect.
const BUFFER_LEN: i32 = 8 << 20;
/// Any port will do to ask for a route.
const DISCARD: u16 = 9;
const UDP_ENCAP: i32 = 100;
const UDP_ENCAP_ESPINUDP: i32 = 2;
