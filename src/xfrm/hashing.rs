//! How the kernel finds policies. By itself it does so by hash only where both prefixes are hosts; the others
//! are in a tree, all of which it walks whenever one goes. It is a setting of the whole network namespace.

use std::time::{Duration, Instant};
use std::{io, thread};

use super::Xfrm;
use super::message::{Answers, Requests, Thresholds};

impl Xfrm {
    /// Has the kernel find the policies of road warriors by hash: those for one host on the peer's
    /// side, whatever is on ours. It is not set back at the end, see `Sorting`.
    pub fn hash_hosts(&mut self) -> io::Result<()> {
        if self.thresholds()? == HOSTS {
            return Ok(());
        }
        self.sorting = Sorting::begun();
        self.set_thresholds(HOSTS)
    }

    /// What is hashed now.
    pub fn thresholds(&mut self) -> io::Result<Thresholds> {
        let seq = self.next_seq();
        let mut requests = Requests::with_capacity(64);
        requests.get_thresholds(seq);
        self.requests.send(requests.bytes())?;
        let mut buffer = vec![0; ANSWER_MAX];
        loop {
            let len = self.requests.receive(&mut buffer)?;
            for answer in Answers(buffer.get(..len).unwrap_or_default()) {
                if answer.seq != seq {
                    continue;
                }
                if let Some(errno) = answer.errno() {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                return answer
                    .thresholds()
                    .ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// Changes what is hashed; the kernel sorts its policies anew.
    fn set_thresholds(&mut self, thresholds: Thresholds) -> io::Result<()> {
        let seq = self.next_seq();
        let mut requests = Requests::with_capacity(64);
        requests.hash_policies(seq, thresholds);
        let errors = self.transact(&mut requests, seq);
        let errno = errors.map_or_else(Some, |errors| errors.get(&seq).copied());
        errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

/// Since when the kernel sorts its policies anew, which it does later, in a thread of its own. A network
/// namespace that goes before that takes the machine with it (CVE-2026-31516; Linux 6.1.176 still does), and the
/// namespace of a container goes with us: so whoever sets it stays for a while.
#[derive(Debug, Default)]
pub(super) struct Sorting(Option<Instant>);

impl Sorting {
    #[expect(clippy::disallowed_methods, reason = "set once, at start-up")]
    fn begun() -> Self {
        Self(Some(Instant::now()))
    }
}

#[expect(clippy::disallowed_methods, reason = "everything else has ended")]
impl Drop for Sorting {
    fn drop(&mut self) {
        let since = self.0.map_or(SORTED, |begun| begun.elapsed());
        thread::sleep(SORTED.saturating_sub(since));
    }
}

/// Until then the kernel has sorted its policies: it takes milliseconds, and waits for other namespaces that do.
const SORTED: Duration = Duration::from_secs(1);
/// Our prefix does not matter, the peer's must be a host.
const HOSTS: Thresholds = Thresholds {
    v4: [0, 32],
    v6: [0, 128],
};
/// One message: some numbers.
const ANSWER_MAX: usize = 4096;
