//! Message IDs: which request we answer next, which of ours is out, and the cached answer
//! (RFC 7296, 2.1 to 2.3). The window is one in both directions.

use std::slice::Chunks;
use std::time::{Duration, Instant};

use crate::crypto::Rng;
use crate::wire::registry::ExchangeType;

/// Both directions of one IKE SA.
#[derive(Debug, Default)]
pub struct Window {
    /// Message ID of the next request we accept.
    next_inbound: u32,
    /// Message ID of our next request.
    next_outbound: u32,
    /// Our request that waits for its response.
    outstanding: Option<Box<Outstanding>>,
    /// The answer to the last request, for its retransmissions.
    answered: Option<Answered>,
    /// The last step of Message IDs at which it was said that they wear.
    worn_at: u32,
}

/// Our own request, kept whole until it is answered.
#[derive(Debug)]
pub struct Outstanding {
    /// Its Message ID.
    pub id: u32,
    /// Its exchange.
    pub exchange: ExchangeType,
    /// What was sent: one datagram, or all fragments.
    pub datagrams: Vec<Vec<u8>>,
    /// When to send it again, or give up.
    pub due_at: Instant,
    /// Not before this the peer counts as dead.
    give_up_at: Instant,
    /// Sends after the first.
    pub retries: u32,
    /// How often it was sent once more, as there was a new place to send it to.
    extras: u32,
}

/// The answer to a request, as small as it can be: every IKE SA keeps one.
#[derive(Debug)]
struct Answered {
    id: u32,
    /// Bytes of each datagram but the last, which may be shorter.
    each: u16,
    /// Keyed digest of the request's first datagram.
    digest: u64,
    /// All datagrams, one after the other.
    bytes: Box<[u8]>,
}

impl Answered {
    fn new(id: u32, digest: u64, datagrams: Vec<Vec<u8>>) -> Self {
        let mut answered = Self {
            id,
            each: 0,
            digest,
            bytes: Box::default(),
        };
        answered.set(datagrams);
        answered
    }

    fn set(&mut self, mut datagrams: Vec<Vec<u8>>) {
        let each = datagrams.first().map_or(0, Vec::len);
        debug_assert!(
            datagrams.split_last().is_none_or(|(last, others)| {
                others.iter().all(|piece| piece.len() == each) && last.len() <= each
            }),
            "they could not be told apart"
        );
        self.each = u16::try_from(each).unwrap_or(u16::MAX);
        self.bytes = match datagrams.pop() {
            Some(only) if datagrams.is_empty() => only,
            Some(last) => {
                datagrams.push(last);
                datagrams.concat()
            }
            None => Vec::new(),
        }
        .into_boxed_slice();
    }

    fn datagrams(&self) -> Chunks<'_, u8> {
        self.bytes.chunks(usize::from(self.each).max(1))
    }
}

/// What a request's Message ID says.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The one we wait for.
    Next,
    /// The one answered last: its cached answer may be sent again.
    Repeated,
    /// Anything else: outside the window.
    Outside,
}

/// What to do with an outstanding request that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Retry {
    /// Send it again.
    Again,
    /// The peer is dead.
    GiveUp,
}

/// How near the Message IDs of an IKE SA are to their end, after which it MUST be replaced or closed
/// (RFC 7296, 2.2).
#[derive(Debug, PartialEq, Eq)]
pub enum Wear {
    /// Far from it.
    Fresh,
    /// It is time to replace it; said once in 65,536 requests, should the peer not want to.
    Worn,
    /// It must end.
    Spent,
}

impl Window {
    /// How near the Message IDs of either direction are to their end.
    pub fn wear(&mut self) -> Wear {
        let id = self.next_inbound.max(self.next_outbound);
        if id >= SPENT_FROM {
            return Wear::Spent;
        }
        let step = id / WORN_EVERY;
        if id >= WORN_FROM && step > self.worn_at {
            self.worn_at = step;
            return Wear::Worn;
        }
        Wear::Fresh
    }

    /// As if so many requests had gone in each direction.
    #[cfg(any(test, feature = "sim"))]
    pub fn age(&mut self, id: u32) {
        (self.next_inbound, self.next_outbound) = (id, id);
    }

    /// A window that expects request 0 and starts with it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sorts a request by its Message ID.
    pub fn arrival(&self, id: u32) -> Arrival {
        if id == self.next_inbound {
            Arrival::Next
        } else if self.answered.as_ref().is_some_and(|a| a.id == id) {
            Arrival::Repeated
        } else {
            Arrival::Outside
        }
    }

    /// Notes the answer to request `id`, whose first datagram has this digest.
    pub fn answer(&mut self, id: u32, digest: u64, datagrams: Vec<Vec<u8>>) {
        self.next_inbound = id.wrapping_add(1);
        self.answered = Some(Answered::new(id, digest, datagrams));
    }

    /// Whether this really is the request again that was answered last.
    pub fn is_same(&self, id: u32, digest: u64) -> bool {
        let answered = self.answered.as_ref();
        answered.is_some_and(|answered| answered.id == id && answered.digest == digest)
    }

    /// Whether there is an answer to repeat.
    pub const fn keeps_answer(&self) -> bool {
        self.answered.is_some()
    }

    /// The request answered last is not repeated any more.
    pub fn forget_answer(&mut self) {
        self.answered = None;
    }

    /// The cached answer goes in these datagrams from now on.
    pub fn recut_answer(&mut self, datagrams: Vec<Vec<u8>>) {
        if let Some(answered) = &mut self.answered {
            answered.set(datagrams);
        }
    }

    /// The datagrams of the cached answer to the request with this Message ID, if there is one.
    pub fn answer_to(&self, id: u32) -> Option<Chunks<'_, u8>> {
        let answered = self.answered.as_ref()?;
        (answered.id == id && !answered.bytes.is_empty()).then(|| answered.datagrams())
    }

    /// Message ID for our next request, if none is out.
    pub fn free(&self) -> Option<u32> {
        self.outstanding.is_none().then_some(self.next_outbound)
    }

    /// Notes that a request was sent.
    pub fn sent(
        &mut self,
        id: u32,
        exchange: ExchangeType,
        datagrams: Vec<Vec<u8>>,
        now: Instant,
        rng: &mut Rng,
    ) {
        self.next_outbound = id.wrapping_add(1);
        // The answer may be on its way for as long as this; only later, not sooner.
        let due_at = now + FIRST_RETRY_AFTER.max(jittered(FIRST_RETRY_AFTER, rng));
        self.outstanding = Some(Box::new(Outstanding {
            id,
            exchange,
            datagrams,
            due_at,
            give_up_at: now + GIVE_UP_AFTER,
            retries: 0,
            extras: 0,
        }));
    }

    /// Starts again at request 0, for an IKE_SA_INIT that must be repeated with a COOKIE or another
    /// KE (RFC 7296, 2.6).
    pub fn restart(&mut self) {
        self.next_outbound = 0;
        self.outstanding = None;
    }

    /// Whether this response answers our outstanding request.
    pub fn expects(&self, id: u32, exchange: ExchangeType) -> bool {
        self.outstanding
            .as_ref()
            .is_some_and(|o| o.id == id && o.exchange == exchange)
    }

    /// Whether the answer to request `id` was had before: another is a late repetition.
    pub fn is_past(&self, id: u32) -> bool {
        id < self.next_outbound && self.outstanding.as_ref().is_none_or(|o| o.id != id)
    }

    /// The outstanding request was answered.
    pub fn settle(&mut self) {
        self.outstanding = None;
    }

    /// Our outstanding request.
    pub fn outstanding(&self) -> Option<&Outstanding> {
        self.outstanding.as_deref()
    }

    /// The outstanding request goes in these datagrams from now on.
    pub fn recut(&mut self, datagrams: Vec<Vec<u8>>) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.datagrams = datagrams;
        }
    }

    /// The outstanding request may reach the peer now and not before: it is sent again at once. Where
    /// all sends went elsewhere, some more are granted.
    pub fn hurry(&mut self, now: Instant) {
        let Some(outstanding) = &mut self.outstanding else {
            return;
        };
        if outstanding.retries >= RETRIES_MAX {
            if outstanding.extras >= EXTRAS_MAX {
                return;
            }
            outstanding.extras += 1;
            outstanding.retries = RETRIES_MAX - 1;
        }
        outstanding.due_at = outstanding.due_at.min(now);
    }

    /// Moves a due request on: sends at about 0, 2, 6, 14, 30 and 62 s, each wait a tenth shorter or
    /// longer, so that what began together does not stay together; gives up at 126 s.
    pub fn retry(&mut self, now: Instant, rng: &mut Rng) -> Option<Retry> {
        let outstanding = self.outstanding.as_mut()?;
        if now < outstanding.due_at {
            return None;
        }
        outstanding.retries += 1;
        if outstanding.retries > RETRIES_MAX {
            return Some(Retry::GiveUp);
        }
        let wait = FIRST_RETRY_AFTER * 2u32.pow(outstanding.retries);
        let due_at = now + jittered(wait, rng);
        outstanding.due_at = if outstanding.retries == RETRIES_MAX {
            // A host that was asleep listens for an answer before it gives up.
            outstanding.give_up_at.max(now + LAST_WAIT_MIN)
        } else {
            due_at
        };
        Some(Retry::Again)
    }
}

/// From this Message ID on an IKE SA is to be replaced, and how often that is tried.
const WORN_FROM: u32 = 0xf000_0000;
const WORN_EVERY: u32 = 0x1_0000;
/// From this one on it is closed; enough are left to do so.
const SPENT_FROM: u32 = 0xffff_0000;

/// Nine to eleven tenths of a wait.
fn jittered(wait: Duration, rng: &mut Rng) -> Duration {
    let permille = u32::try_from(900 + rng.below(201)).unwrap_or(1000);
    wait * permille / 1000
}

/// Wait before the first retransmission; each further wait is twice the one before.
const FIRST_RETRY_AFTER: Duration = Duration::from_secs(2);
/// Retransmissions.
const RETRIES_MAX: u32 = 5;
/// Sends after those, each to a place that was not known before; a peer that moves on and on without
/// an answer is not waited for longer.
const EXTRAS_MAX: u32 = 3;
/// From the first send until the peer is given up, as OpenIKED does: the waits together.
const GIVE_UP_AFTER: Duration = Duration::from_secs(126);
/// The least wait after the last send.
const LAST_WAIT_MIN: Duration = Duration::from_secs(50);

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_request_and_the_last_one_are_inside_the_window() {
        let mut window = Window::new();
        assert_eq!(window.arrival(0), Arrival::Next);
        assert_eq!(window.arrival(1), Arrival::Outside);
        window.answer(0, 7, vec![vec![1]]);
        assert_eq!(window.arrival(0), Arrival::Repeated);
        assert_eq!(window.arrival(1), Arrival::Next);
        window.answer(1, 8, vec![vec![2]]);
        assert_eq!(window.arrival(0), Arrival::Outside);
    }

    #[test]
    fn the_cached_answer_is_given_for_the_same_bytes_only() {
        let mut window = Window::new();
        window.answer(0, 7, vec![vec![1]]);
        assert!(window.is_same(0, 7) && !window.is_same(0, 9) && !window.is_same(1, 7));
        let kept = |window: &Window| Some(window.answer_to(0)?.map(<[u8]>::to_vec).collect());
        assert_eq!(kept(&window), Some(vec![vec![1]]));
        let pieces = vec![vec![1, 2, 3], vec![4, 5, 6], vec![7]];
        window.recut_answer(pieces.clone());
        assert_eq!(kept(&window), Some(pieces));
        window.forget_answer();
        assert_eq!((kept(&window), window.keeps_answer()), (None, false));
        assert_eq!(window.arrival(0), Arrival::Outside);
        assert_eq!(window.arrival(1), Arrival::Next);
        // An answer that is kept elsewhere.
        window.answer(1, 8, Vec::new());
        assert!(window.is_same(1, 8) && window.answer_to(1).is_none());
    }

    #[test]
    fn message_ids_wear_in_either_direction() {
        let mut window = Window::new();
        let mut wear = |inbound: u32, outbound: u32| {
            (window.next_inbound, window.next_outbound) = (inbound, outbound);
            window.wear()
        };
        assert_eq!(wear(0, 0xefff_ffff), Wear::Fresh);
        assert_eq!(wear(0, 0xf000_0000), Wear::Worn);
        assert_eq!(wear(0, 0xf000_0001), Wear::Fresh, "once");
        assert_eq!(wear(0xf001_0002, 7), Wear::Worn, "and again later");
        assert_eq!(wear(0xffff_0000, 7), Wear::Spent);
        assert_eq!(wear(0, u32::MAX), Wear::Spent);
    }

    /// The times of all sends, and when the peer is given up.
    fn schedule(seed: u8) -> (Vec<Duration>, Duration) {
        let start = Instant::now();
        let mut rng = Rng::from_seed([seed; 32]);
        let mut window = Window::new();
        let (exchange, datagrams) = (ExchangeType::IKE_SA_INIT, vec![vec![0]]);
        window.sent(0, exchange, datagrams, start, &mut rng);
        let mut sends = vec![Duration::ZERO];
        loop {
            let due_at = window.outstanding().unwrap().due_at;
            assert_eq!(
                window.retry(due_at - Duration::from_millis(1), &mut rng),
                None
            );
            match window.retry(due_at, &mut rng).unwrap() {
                Retry::Again => sends.push(due_at - start),
                Retry::GiveUp => return (sends, due_at - start),
            }
        }
    }

    #[test]
    fn a_request_is_sent_six_times_and_given_up_after_126_seconds() {
        let mut first_retries = Vec::new();
        for seed in 0..50 {
            let (sends, given_up_after) = schedule(seed);
            assert_eq!(sends.len(), 6);
            assert_eq!(given_up_after, Duration::from_secs(126));
            for (wait, pair) in [2, 4, 8, 16, 32].into_iter().zip(sends.windows(2)) {
                let ratio = (pair[1] - pair[0]).as_secs_f64() / f64::from(wait);
                assert!((0.9..=1.1).contains(&ratio), "{wait}: {sends:?}");
            }
            assert!(sends[1] >= FIRST_RETRY_AFTER);
            first_retries.push(sends[2]);
        }
        first_retries.sort_unstable();
        first_retries.dedup();
        assert!(first_retries.len() > 25, "they stay together");
    }

    #[test]
    fn a_request_in_a_hurry_is_sent_at_once_and_given_up_no_sooner() {
        let start = Instant::now();
        let mut rng = Rng::from_seed([1; 32]);
        let mut window = Window::new();
        let (exchange, datagrams) = (ExchangeType::INFORMATIONAL, vec![vec![0]]);
        window.sent(0, exchange, datagrams, start, &mut rng);
        for second in 1..100 {
            let now = start + Duration::from_secs(second);
            window.hurry(now);
            let sent = (second <= 5 + 3).then_some(Retry::Again);
            assert_eq!(window.retry(now, &mut rng), sent);
        }
        let given_up_at = window.outstanding().unwrap().due_at;
        assert_eq!(given_up_at - start, Duration::from_secs(126));
    }

    #[test]
    fn a_place_found_after_the_last_send_gets_one_and_time_to_answer() {
        let start = Instant::now();
        let mut rng = Rng::from_seed([1; 32]);
        let mut window = Window::new();
        let (exchange, datagrams) = (ExchangeType::INFORMATIONAL, vec![vec![0]]);
        window.sent(0, exchange, datagrams, start, &mut rng);
        for second in [3, 9, 18, 40, 90] {
            let now = start + Duration::from_secs(second);
            assert_eq!(window.retry(now, &mut rng), Some(Retry::Again));
        }
        let late = start + Duration::from_secs(120);
        assert_eq!(window.retry(late, &mut rng), None);
        window.hurry(late);
        assert_eq!(window.retry(late, &mut rng), Some(Retry::Again));
        assert_eq!(window.retry(late + LAST_WAIT_MIN / 2, &mut rng), None);
        let end = late + LAST_WAIT_MIN;
        assert_eq!(window.retry(end, &mut rng), Some(Retry::GiveUp));
    }
}
