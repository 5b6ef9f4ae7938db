//! What the kernel thread still owes this shard, and so whether it should begin more. A handshake ends in
//! the kernel: where that is slow or has no room, each new one would only wait behind those that do, and its
//! peer would ask again meanwhile. So new ones are passed over until the kernel has caught up; what is
//! established goes on.

use std::time::{Duration, Instant};

use super::ike_sa::KERNEL_WAIT_MAX;
use crate::kernel::{KernelError, RequestId};

/// The additions that have no answer yet, and those refused lately.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Additions without an answer.
    waiting: u32,
    /// The youngest of them.
    last: Option<RequestId>,
    /// Since when the first of those that wait has been the first, as far as anybody has looked.
    since: Option<Instant>,
    /// The mailbox of the kernel thread was full when it was last tried.
    blocked: bool,
    /// Additions in `refused_at`'s second for which the kernel had no room.
    refused: u32,
    refused_at: Option<Instant>,
}

impl Backlog {
    /// An addition is on its way.
    pub fn asked(&mut self, id: RequestId) {
        self.waiting = self.waiting.saturating_add(1);
        self.last = Some(id);
    }

    /// One of them is answered. They are answered in the order in which they were asked for, so with the
    /// youngest nothing is left, even if answers were lost.
    pub fn answered(&mut self, now: Instant, id: RequestId, result: &Result<(), KernelError>) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.last == Some(id) {
            self.waiting = 0;
        }
        self.since = (self.waiting > 0).then_some(now);
        if result.as_ref().is_err_and(has_no_room) {
            if !self.is_recent(now) {
                self.refused = 0;
                self.refused_at = Some(now);
            }
            self.refused = self.refused.saturating_add(1);
        }
    }

    /// Whether mail for the kernel thread waits because its mailbox is full.
    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Additions without an answer.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether new handshakes are to be passed over.
    pub fn is_full(&mut self, now: Instant) -> bool {
        if self.waiting > 0 {
            let since = *self.since.get_or_insert(now);
            let silent = now.saturating_duration_since(since);
            if silent >= KERNEL_WAIT_MAX {
                // Who waits for it has given up by now: the answers are lost.
                self.waiting = 0;
                self.since = None;
            } else if silent >= SILENT_MAX {
                return true;
            }
        }
        let refusing = self.is_recent(now) && self.refused >= REFUSED_MAX;
        self.blocked || self.waiting >= WAITING_MAX || refusing
    }

    fn is_recent(&self, now: Instant) -> bool {
        let since = self.refused_at.map(|at| now.saturating_duration_since(at));
        since.is_some_and(|since| since < REFUSED_WITHIN)
    }
}

/// Whether a refusal speaks of the kernel, so that the next addition will fare no better. What one peer
/// has agreed to with us, or an SPI that it uses twice, is no other's concern.
fn has_no_room(error: &KernelError) -> bool {
    matches!(
        error.errno,
        libc::ENOMEM
            | libc::ENOBUFS
            | libc::ENOSPC
            | libc::EAGAIN
            | libc::EIO
            | libc::EPERM
            | libc::ENOTCONN
            | libc::ETIMEDOUT
    )
}

/// Additions without an answer. The kernel thread takes them all in one turn, which lasts some 20 ms.
const WAITING_MAX: u32 = 256;
/// Without any answer for so long the kernel thread is stuck, however few wait.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// Refusals in `REFUSED_WITHIN`: each has cost a whole handshake.
const REFUSED_MAX: u32 = 64;
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        use std::sync::LazyLock;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_millis(ms)
    }

    fn refusal(errno: i32) -> Result<(), KernelError> {
        let action = "add SA";
        Err(KernelError { errno, action })
    }

    #[test]
    fn it_is_full_while_256_additions_wait() {
        let mut backlog = Backlog::default();
        for id in 1..=255 {
            backlog.asked(RequestId(id));
            assert!(!backlog.is_full(at(0)), "{id}");
        }
        backlog.asked(RequestId(256));
        assert!(backlog.is_full(at(0)));
        backlog.answered(at(1), RequestId(1), &Ok(()));
        assert_eq!(backlog.waiting(), 255);
        assert!(!backlog.is_full(at(1)));
    }

    #[test]
    fn it_is_full_once_a_single_addition_has_waited_for_a_second_and_every_answer_is_a_sign_of_life()
     {
        let mut backlog = Backlog::default();
        for id in 1..=3 {
            backlog.asked(RequestId(id));
        }
        assert!(!backlog.is_full(at(0)), "from now on it is watched");
        assert!(!backlog.is_full(at(999)));
        assert!(backlog.is_full(at(1000)));
        backlog.answered(at(1500), RequestId(1), &Ok(()));
        assert!(!backlog.is_full(at(2400)));
        assert!(backlog.is_full(at(2500)));
        backlog.answered(at(2600), RequestId(2), &Ok(()));
        backlog.answered(at(2600), RequestId(3), &Ok(()));
        assert!(!backlog.is_full(at(9000)), "nothing waits");
    }

    #[test]
    fn answers_that_are_lost_do_not_shut_the_door_for_ever() {
        let mut backlog = Backlog::default();
        for id in 1..=9 {
            backlog.asked(RequestId(id));
        }
        // The one to the youngest says that there is nothing more to come.
        backlog.answered(at(0), RequestId(9), &Ok(()));
        assert_eq!(backlog.waiting(), 0);
        backlog.asked(RequestId(10));
        assert!(!backlog.is_full(at(10)));
        assert!(backlog.is_full(at(19_999)));
        assert!(!backlog.is_full(at(20_010)), "that was the last");
        assert_eq!(backlog.waiting(), 0);
        // It comes after all.
        backlog.answered(at(20_020), RequestId(10), &Ok(()));
        assert!(!backlog.is_full(at(30_000)));
    }

    #[test]
    fn sixty_four_refusals_are_enough_for_one_second() {
        let mut backlog = Backlog::default();
        let refuse = |backlog: &mut Backlog, ms, errno| {
            backlog.asked(RequestId(ms));
            backlog.answered(at(ms), RequestId(ms), &refusal(errno));
        };
        for ms in 0..63 {
            refuse(&mut backlog, ms, libc::ENOBUFS);
        }
        // Those concern nobody else.
        for errno in [libc::EEXIST, libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL] {
            refuse(&mut backlog, 63, errno);
        }
        assert!(!backlog.is_full(at(63)));
        refuse(&mut backlog, 64, libc::ENOMEM);
        assert!(backlog.is_full(at(64)));
        assert!(backlog.is_full(at(999)));
        assert!(!backlog.is_full(at(1000)));
        refuse(&mut backlog, 1000, libc::ENOMEM);
        assert!(!backlog.is_full(at(1000)), "they are counted anew");
    }

    #[test]
    fn it_is_full_while_the_mailbox_of_the_kernel_thread_is() {
        let mut backlog = Backlog::default();
        backlog.set_blocked(true);
        assert!(backlog.is_full(at(0)));
        backlog.set_blocked(false);
        assert!(!backlog.is_full(at(0)));
    }
}
