//! Every message between threads, and the mailbox that carries it: a bounded channel and a waker,
//! rung only when the receiver has not been rung since it last looked. Nobody ever blocks on one.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::Waker;

use crate::auth::store::CredentialStore;
use crate::ike::{Command, News, Path, Reply};
use crate::kernel::{KernelEvent, KernelRequest};
use crate::lookup::port::{Answer, Lookup, LookupId, Record};
use crate::policy::Config;
use crate::policy::radius::Radius;
use crate::radius::dae::Order;
use crate::steer::ShardId;

/// To a shard.
#[derive(Debug)]
pub enum ShardMail {
    /// A datagram that another shard received; the marker is stripped.
    Forwarded {
        /// How it came.
        path: Path,
        /// Its bytes.
        datagram: Box<[u8]>,
    },
    /// What the kernel thread has to say.
    Kernel(Vec<KernelEvent>),
    /// An operator's command; the answer carries the same id.
    Command {
        /// Of the request.
        id: u64,
        /// The command.
        command: Command,
    },
    /// The addresses of this host are these from now on.
    Addresses(Arc<BTreeSet<IpAddr>>),
    /// A new configuration.
    Config(Arc<Config>),
    /// Keys and certificates, read again.
    Credentials(Arc<CredentialStore>),
    /// Another shard tells all.
    News(News),
    /// What came of a question to the lookup thread.
    Lookup {
        /// Who asked.
        id: LookupId,
        /// The answer.
        answer: Answer,
    },
    /// What a RADIUS server wants done; answered by `LookupMail::Obeyed`.
    Order {
        /// Echoed in the answer.
        serial: u64,
        /// What.
        order: Arc<Order>,
    },
}

/// The id of a command that no operator gave: nobody waits for its answer.
pub const NOBODY: u64 = u64::MAX;

/// To the kernel thread.
#[derive(Debug)]
pub enum KernelMail {
    /// Requests of one shard, in order.
    Requests {
        /// The shard.
        from: ShardId,
        /// The requests.
        requests: Vec<KernelRequest>,
    },
    /// Remove everything we installed, then end.
    Shutdown,
}

/// To the lookup thread.
#[derive(Debug)]
pub enum LookupMail {
    /// A question.
    Request {
        /// The shard of who asks.
        from: ShardId,
        /// The question.
        lookup: Lookup,
    },
    /// Something for the accounting servers.
    Record(Box<Record>),
    /// The `radius` lines of a new configuration.
    Radius(Arc<Radius>),
    /// A shard's answer to `ShardMail::Order`.
    Obeyed {
        /// Which.
        serial: u64,
        /// How many IKE SAs it had.
        count: usize,
    },
    /// End.
    Shutdown,
}

/// To the control thread.
#[derive(Debug)]
pub enum ControlMail {
    /// One shard's answer.
    Reply {
        /// The shard.
        shard: ShardId,
        /// The command's id.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// A shard ended.
    Ended(ShardId),
    /// A line of the log, while somebody wants to hear them.
    Line(String),
    /// The revocation lists that were fetched, a line for each.
    Lists(Vec<String>),
}

/// The sending end.
#[derive(Debug)]
pub struct Mailbox<T> {
    sender: Sender<T>,
    waker: Arc<Waker>,
    rung: Arc<AtomicBool>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            waker: Arc::clone(&self.waker),
            rung: Arc::clone(&self.rung),
        }
    }
}

/// The receiving end. It shares the waker: were the last sender's the last one, dropping it right
/// after a send would take the wake-up along.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: Receiver<T>,
    rung: Arc<AtomicBool>,
    _waker: Arc<Waker>,
}

/// A mailbox of `capacity` whose receiver polls `waker`.
pub fn mailbox<T>(capacity: usize, waker: Arc<Waker>) -> (Mailbox<T>, Inbox<T>) {
    let (sender, receiver) = bounded(capacity);
    let rung = Arc::new(AtomicBool::new(false));
    let inbox = Inbox {
        receiver,
        rung: Arc::clone(&rung),
        _waker: Arc::clone(&waker),
    };
    (
        Mailbox {
            sender,
            waker,
            rung,
        },
        inbox,
    )
}

impl<T> Mailbox<T> {
    /// Sends without waiting; gives the mail back where the box is full or its owner gone.
    pub fn try_send(&self, mail: T) -> Result<(), T> {
        match self.sender.try_send(mail) {
            Ok(()) => {
                if !self.rung.swap(true, Ordering::AcqRel) {
                    // A waker that fails has no poll any more: its thread ended.
                    let _ = self.waker.wake();
                }
                Ok(())
            }
            Err(TrySendError::Full(mail) | TrySendError::Disconnected(mail)) => Err(mail),
        }
    }
}

impl<T> Inbox<T> {
    /// Takes up to `max` pieces of mail; true if there may be more.
    pub fn drain(&self, max: usize, mut each: impl FnMut(T)) -> bool {
        // Cleared first: mail that comes while we read rings again.
        self.rung.store(false, Ordering::Release);
        for _ in 0..max {
            match self.receiver.try_recv() {
                Ok(mail) => each(mail),
                Err(_) => return false,
            }
        }
        !self.receiver.is_empty()
    }
}

/// A mailbox with a queue before it, for mail that must not get lost when the box is full.
#[derive(Debug)]
pub struct Outlet<T> {
    mailbox: Mailbox<T>,
    backlog: VecDeque<T>,
}

impl<T> Outlet<T> {
    /// An outlet into `mailbox`.
    pub const fn new(mailbox: Mailbox<T>) -> Self {
        Self {
            mailbox,
            backlog: VecDeque::new(),
        }
    }

    /// Sends now, or as soon as [`Self::flush`] finds room.
    pub fn send(&mut self, mail: T) {
        self.backlog.push_back(mail);
        self.flush();
    }

    /// Sends what waits; true if something still does.
    pub fn flush(&mut self) -> bool {
        while let Some(mail) = self.backlog.pop_front() {
            if let Err(mail) = self.mailbox.try_send(mail) {
                self.backlog.push_front(mail);
                return true;
            }
        }
        false
    }

    /// Sends now or not at all, behind nothing; false if it could not.
    pub fn try_now(&self, mail: T) -> bool {
        self.mailbox.try_send(mail).is_ok()
    }

    /// Pieces of mail that wait.
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn a_burst_rings_once_and_a_later_piece_rings_again() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, inbox) = mailbox::<u32>(8, waker);
        let mut events = Events::with_capacity(4);
        let mut rings = |poll: &mut Poll| {
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().count()
        };
        for mail in 0..5 {
            mailbox.try_send(mail).unwrap();
        }
        assert_eq!(rings(&mut poll), 1);
        let mut got = Vec::new();
        assert!(inbox.drain(3, |mail| got.push(mail)), "two are left");
        assert!(!inbox.drain(3, |mail| got.push(mail)));
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!(rings(&mut poll), 0);
        mailbox.try_send(9).unwrap();
        assert_eq!(rings(&mut poll), 1);
    }

    #[test]
    fn a_sender_that_is_dropped_after_sending_still_rings() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, _inbox) = mailbox::<u32>(8, waker);
        mailbox.try_send(1).unwrap();
        drop(mailbox);
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.iter().count(), 1);
    }

    #[test]
    fn a_full_mailbox_gives_the_mail_back_and_an_outlet_keeps_it() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, inbox) = mailbox::<u32>(1, waker);
        let mut outlet = Outlet::new(mailbox.clone());
        outlet.send(1);
        outlet.send(2);
        assert_eq!(mailbox.try_send(3), Err(3));
        assert_eq!(outlet.waiting(), 1);
        let mut got = Vec::new();
        inbox.drain(8, |mail| got.push(mail));
        assert!(!outlet.flush());
        inbox.drain(8, |mail| got.push(mail));
        assert_eq!(got, [1, 2]);
    }
}
