//! How the kernel finds policies. By itself it does so by hash only where both prefixes are hosts; the others
//! are in a tree, all of which it walks whenever one goes. It is a setting of the whole network namespace.

use std::io;

use super::Xfrm;
use super::message::{Answers, Requests, Thresholds};

impl Xfrm {
    /// Has the kernel find the policies of road warriors by hash: those for one host on the peer's
    /// side, whatever is on ours. It is not set back at the end: guests with Linux 6.1 died of that, in
    /// `xfrm_hash_rebuild`; why is not known.
    pub fn hash_hosts(&mut self) -> io::Result<()> {
        if self.thresholds()? == HOSTS {
            return Ok(());
        }
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

/// Our prefix does not matter, the peer's must be a host.
const HOSTS: Thresholds = Thresholds {
    v4: [0, 32],
    v6: [0, 128],
};
/// One message: some numbers.
const ANSWER_MAX: usize = 4096;
