//! The addresses of this host, and when they change: NETLINK_ROUTE. Those that a gateway grants us,
//! and the routes from them, are set in [`link`].
//! A notification says no more
//! than that something happened; once it is quiet again the whole table is read and compared. So a
//! burst counts once, a lost notification costs nothing, and an address that a DHCP client takes
//! away and gives back in one breath was never gone.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use crate::sys::netlink::KernelSocket;

pub mod link;
pub mod message;
pub mod way;

use message::{Told, group};

/// Watches the addresses of the network namespace it was opened in.
#[derive(Debug)]
pub struct Watch {
    notices: KernelSocket,
    requests: KernelSocket,
    seq: u32,
    known: BTreeSet<IpAddr>,
    unrest: Unrest,
}

/// Since when, and until when at least, addresses change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unrest(Option<(Instant, Instant)>);

impl Unrest {
    fn stir(&mut self, now: Instant) {
        let since = self.0.map_or(now, |(since, _)| since);
        self.0 = Some((since, now));
    }

    /// When the table is to be read.
    fn over_at(self) -> Option<Instant> {
        let (since, last) = self.0?;
        Some((last + QUIET).min(since + UNREST_MAX))
    }
}

impl Watch {
    /// Subscribes to changes, then reads what is there.
    pub fn open() -> io::Result<Self> {
        let notices = KernelSocket::netlink(libc::NETLINK_ROUTE)?;
        notices.set_nonblocking(true)?;
        notices.join(group::IPV4_IFADDR)?;
        notices.join(group::IPV6_IFADDR)?;
        let requests = KernelSocket::netlink(libc::NETLINK_ROUTE)?;
        requests.set_receive_timeout(ANSWER_AFTER_MAX)?;
        let mut watch = Self {
            notices,
            requests,
            seq: 0,
            known: BTreeSet::new(),
            unrest: Unrest::default(),
        };
        for _ in 0..READS_MAX {
            if let Some(known) = watch.read()? {
                watch.known = known;
                return Ok(watch);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// The descriptor that becomes readable with a notification.
    pub fn event_fd(&self) -> RawFd {
        self.notices.as_raw_fd()
    }

    /// Takes waiting notifications, a bounded number at a time; true if there may be more.
    pub fn take_notices(&mut self, now: Instant) -> bool {
        let mut buffer = [0; NOTICE_MAX];
        for _ in 0..NOTICES_PER_TURN_MAX {
            match self.notices.receive(&mut buffer) {
                Ok(_) => self.unrest.stir(now),
                // Some were lost: that they were is all there is to know.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.unrest.stir(now);
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// When to call [`Self::look`].
    pub fn look_at(&self) -> Option<Instant> {
        self.unrest.over_at()
    }

    /// All addresses of this host, if it is time to look and they are not the ones of the last time.
    pub fn look(&mut self, now: Instant) -> Option<BTreeSet<IpAddr>> {
        self.look_at().filter(|at| *at <= now)?;
        self.unrest = Unrest::default();
        match self.read() {
            Ok(Some(fresh)) if fresh == self.known => None,
            Ok(Some(fresh)) => {
                self.known.clone_from(&fresh);
                Some(fresh)
            }
            // They changed while we read, or the kernel had no memory: once more, later.
            Ok(None) | Err(_) => {
                self.unrest.stir(now);
                None
            }
        }
    }

    /// Reads the table; `None`: it changed meanwhile.
    fn read(&mut self) -> io::Result<Option<BTreeSet<IpAddr>>> {
        self.seq = self.seq.wrapping_add(1);
        let mut addresses = BTreeSet::new();
        let request = message::dump_addresses(self.seq);
        let whole = dump(&self.requests, self.seq, &request, |told| {
            if let Told::Address {
                at, usable: true, ..
            } = told
            {
                addresses.insert(at.address);
            }
        })?;
        Ok(whole.then_some(addresses))
    }
}

/// Reads a table, all that is told of it. False: it changed meanwhile.
fn dump(
    socket: &KernelSocket,
    seq: u32,
    request: &[u8],
    mut each: impl FnMut(Told),
) -> io::Result<bool> {
    socket.send(request)?;
    let mut torn = false;
    let mut buffer = vec![0; DUMP_MAX];
    loop {
        let len = socket.receive(&mut buffer)?;
        for (answer_to, interrupted, told) in message::read(buffer.get(..len).unwrap_or_default()) {
            if answer_to != seq {
                continue;
            }
            torn |= interrupted;
            match told {
                Told::Done => return Ok(!torn),
                Told::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                told @ (Told::Address { .. }
                | Told::Link { .. }
                | Told::Route(_)
                | Told::Rule { .. }
                | Told::Other) => each(told),
            }
        }
    }
}

/// How long nothing may happen before the table is read: a DHCP client that renews, or changes, a
/// lease is done by then, with its routes too.
const QUIET: Duration = Duration::from_secs(1);
/// The longest unrest before the table is read all the same.
const UNREST_MAX: Duration = Duration::from_secs(5);
/// Reads at the start.
const READS_MAX: usize = 5;
/// The kernel answers within the send; this is for a kernel that lost the answer.
const ANSWER_AFTER_MAX: Duration = Duration::from_secs(5);
/// A notification is about one address; what is cut off is of no interest.
const NOTICE_MAX: usize = 1024;
const NOTICES_PER_TURN_MAX: usize = 1024;
/// The longest datagram of a dump is 32 KiB.
const DUMP_MAX: usize = 64 * 1024;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_burst_is_over_a_second_after_its_last_notification_but_lasts_no_longer_than_five() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut unrest = Unrest::default();
        assert_eq!(unrest.over_at(), None);
        unrest.stir(at(0));
        assert_eq!(unrest.over_at(), Some(at(1000)));
        unrest.stir(at(700));
        assert_eq!(unrest.over_at(), Some(at(1700)));
        for step in 1..9 {
            unrest.stir(at(600 * step));
        }
        assert_eq!(unrest.over_at(), Some(at(5000)));
    }

    #[test]
    fn the_table_of_this_host_has_the_loopback_address_and_nothing_changes_by_looking() {
        let mut watch = Watch::open().unwrap();
        assert!(watch.known.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let now = Instant::now();
        assert_eq!(watch.look(now), None, "nobody asked to look");
        watch.unrest.stir(now);
        assert_eq!(watch.look(now), None, "not yet quiet");
        assert_eq!(watch.look(now + QUIET), None, "and nothing is different");
        assert_eq!(watch.look_at(), None);
        watch.known.clear();
        watch.unrest.stir(now);
        let fresh = watch.look(now + QUIET).unwrap();
        assert!(fresh.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(watch.known, fresh);
    }
}
