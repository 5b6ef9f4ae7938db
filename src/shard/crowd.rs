//! Whether more comes to a socket than is answered in time. Who begins asks again after a second or
//! two: to answer what has waited longer is work for somebody who has asked again since, and whose
//! repetitions wait behind it, so that a shard with twice the work that it can do would do
//! hardly any of use. So once a socket has not been empty for a while, the requests for new IKE SAs
//! that wait are passed over until it is; those who come then are answered at once.

use std::time::{Duration, Instant};

/// One socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crowd {
    /// When there was first more than one receive call takes, since it was last empty.
    since: Option<Instant>,
}

impl Crowd {
    /// After a receive call that left (`more`) or may have left something, or found the end. Whether
    /// requests for new IKE SAs among what it took are to be passed over.
    pub(super) fn is_late(&mut self, now: Instant, more: bool) -> bool {
        let late = self.since.is_some_and(|since| now >= since + PATIENCE);
        self.since = more.then(|| self.since.unwrap_or(now));
        late
    }
}

/// Shorter than the time after which any peer known to us asks again (libreswan: half a second).
const PATIENCE: Duration = Duration::from_millis(400);

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_passed_over_until_the_socket_is_empty() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut crowd = Crowd::default();
        assert!(!crowd.is_late(at(0), true));
        assert!(!crowd.is_late(at(399), true));
        assert!(crowd.is_late(at(400), true));
        assert!(crowd.is_late(at(410), true));
        // The rest of the queue, and then whoever comes.
        assert!(crowd.is_late(at(420), false));
        assert!(!crowd.is_late(at(421), true));
        assert!(!crowd.is_late(at(820), false));
    }

    #[test]
    fn a_socket_that_is_emptied_now_and_then_is_not_late() {
        let start = Instant::now();
        let mut crowd = Crowd::default();
        for millis in (0..5000).step_by(50) {
            let more = millis % 300 != 0;
            assert!(!crowd.is_late(start + Duration::from_millis(millis), more));
        }
    }
}
