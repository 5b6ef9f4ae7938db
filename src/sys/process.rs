//! The process and the machine: name, addresses of interfaces, going into the background.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{FromRawFd, OwnedFd};

/// The host's name, as `gethostname(2)` has it.
pub fn hostname() -> Option<String> {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is live and its length given, less one for the final zero.
    let result = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    if result != 0 {
        return None;
    }
    let name = CStr::from_bytes_until_nul(&buffer).ok()?;
    name.to_str().ok().map(ToOwned::to_owned)
}

/// The effective user.
pub fn effective_user() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// Detaches from the terminal and goes on in a child process. Must be called before any thread
/// is started.
pub fn daemonize() -> io::Result<()> {
    // SAFETY: no pointers; the caller has no other thread yet.
    if unsafe { libc::daemon(1, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The sockets that systemd has opened for this process, with their names (sd_listen_fds(3)); to be
/// called once, at start. None where nobody passed any.
pub fn inherited() -> io::Result<Vec<(OwnedFd, String)>> {
    let passed = sd_notify::listen_fds()?;
    // They may be another process's, whose environment we have: then there are no sockets.
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').chain(std::iter::repeat("unknown"));
    // SAFETY: who set LISTEN_PID to ours gives these descriptors away; each was just found to be
    // open, and nobody here knew of them.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    let names = names.map(str::to_owned);
    Ok(passed.map(own).zip(names).collect())
}

/// All addresses of the interface (or interface group member) with this name.
pub fn interface_addresses(name: &str) -> Vec<IpAddr> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` receives a list that freeifaddrs below gives back.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an element of the list that getifaddrs made.
        let entry = unsafe { &*next };
        // SAFETY: ifa_name is a C string for the life of the list.
        let entry_name = unsafe { CStr::from_ptr(entry.ifa_name) };
        if entry_name.to_bytes() == name.as_bytes() && !entry.ifa_addr.is_null() {
            // SAFETY: ifa_addr points to a sockaddr of the family it names.
            addresses.extend(unsafe { address_at(entry.ifa_addr) });
        }
        next = entry.ifa_next;
    }
    // SAFETY: `list` came from getifaddrs and is freed once.
    unsafe { libc::freeifaddrs(list) };
    addresses
}

/// # Safety
/// `pointer` must point to a sockaddr as long as its family says.
unsafe fn address_at(pointer: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: promised by the caller.
    let family = unsafe { (*pointer).sa_family };
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: the family says so; the caller promises the length.
            let name = unsafe { pointer.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says so; the caller promises the length.
            let name = unsafe { pointer.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(name.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Fills `out` from the system's random source; waits at most until the machine has started it.
pub fn random(out: &mut [u8]) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live slice.
    let got = unsafe { libc::getrandom(out.as_mut_ptr().cast(), out.len(), 0) };
    // Up to 256 bytes come whole or not at all (getrandom(2)).
    if usize::try_from(got) == Ok(out.len()) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
