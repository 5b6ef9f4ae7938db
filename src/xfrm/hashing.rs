//! How the kernel finds policies. By itself it does so by hash only where both prefixes are hosts; the others
//! are in a tree, all of which it walks whenever one goes. It is a setting of the whole network namespace.

use std::io;

use super::Xfrm;
use super::message::{Answers, Requests, Thresholds};
use crate::kernel::KernelError;

impl Xfrm {
    /// Has the kernel find the policies of road warriors by hash: those for one host on the peer's
    /// side, whatever is on ours.
    pub fn hash_hosts(&mut self) -> io::Result<()> {
        let before = self.thresholds()?;
        if before != HOSTS {
            self.set_thresholds(HOSTS)?;
            self.hashed_before = Some(before);
        }
        Ok(())
    }

    /// Sets it back to what it was, unless somebody has changed it since. What an earlier life left
    /// when it was killed is not known any more, and stays.
    pub(super) fn hash_as_before(&mut self) -> Result<(), KernelError> {
        let Some(before) = self.hashed_before.take() else {
            return Ok(());
        };
        let now = self.thresholds();
        let done = now.and_then(|now| match now {
            HOSTS => self.set_thresholds(before),
            _ => Ok(()),
        });
        done.map_err(|error| KernelError {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            action: "hash policies as before",
        })
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

/// Our prefix does not matter, the peer's must be a host.
const HOSTS: Thresholds = Thresholds {
    v4: [0, 32],
    v6: [0, 128],
};
/// One message: some numbers.
const ANSWER_MAX: usize = 4096;
