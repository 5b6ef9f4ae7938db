//! Putting SKF fragments together, RFC 7383, 2.6. Each fragment was decrypted before it comes
//! here, so only the peer can fill this; still bounded in number and bytes.

use std::time::Instant;

use crate::wire::registry::PayloadType;

/// The messages of an IKE SA of which fragments are missing.
#[derive(Debug)]
pub struct Pieces {
    /// When the first of these fragments came.
    pub since: Instant,
    /// Those of a request.
    pub request: Option<Box<Reassembly>>,
    /// Those of a response; its Message ID counts apart.
    pub response: Option<Box<Reassembly>>,
}

impl Pieces {
    /// None yet.
    pub const fn new(since: Instant) -> Self {
        Self {
            since,
            request: None,
            response: None,
        }
    }

    /// Whether nothing is waited for.
    pub const fn is_empty(&self) -> bool {
        self.request.is_none() && self.response.is_none()
    }

    /// Those of this direction.
    pub const fn of(&mut self, response: bool) -> &mut Option<Box<Reassembly>> {
        if response {
            &mut self.response
        } else {
            &mut self.request
        }
    }
}

/// The fragments of one message so far.
#[derive(Debug)]
pub struct Reassembly {
    message_id: u32,
    total: u16,
    first_inner: PayloadType,
    pieces: Vec<Option<Vec<u8>>>,
    missing: usize,
    bytes: usize,
}

/// What a fragment led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// More are needed.
    Waiting,
    /// It is of no use: a duplicate, impossible numbers, or over the limits.
    Dropped,
    /// The whole plaintext and the type of its first payload.
    Complete(PayloadType, Vec<u8>),
}

/// Adds a decrypted fragment; `slot` is the one reassembly of this direction of an IKE SA, which
/// may take `bytes_max`.
pub fn add(
    slot: &mut Option<Box<Reassembly>>,
    message_id: u32,
    number: u16,
    total: u16,
    first_inner: PayloadType,
    plaintext: &[u8],
    bytes_max: usize,
) -> Added {
    if number == 0 || total == 0 || number > total || total > FRAGMENTS_MAX {
        return Added::Dropped;
    }
    // RFC 7383, 2.6: a larger total means that the peer fragments anew, smaller: replace;
    // a smaller one is an old fragment: drop.
    let fresh = match slot {
        Some(r) if r.message_id == message_id && total < r.total => return Added::Dropped,
        Some(r) => r.message_id != message_id || total > r.total,
        None => true,
    };
    if fresh {
        *slot = Some(Box::new(Reassembly {
            message_id,
            total,
            first_inner: PayloadType::NONE,
            pieces: vec![None; usize::from(total)],
            missing: usize::from(total),
            bytes: 0,
        }));
    }
    let Some(reassembly) = slot.as_mut() else {
        return Added::Dropped;
    };
    let added = reassembly.place(number, first_inner, plaintext, bytes_max);
    if matches!(added, Added::Complete(..)) {
        *slot = None;
    }
    added
}

impl Reassembly {
    fn place(
        &mut self,
        number: u16,
        first_inner: PayloadType,
        plaintext: &[u8],
        bytes_max: usize,
    ) -> Added {
        let Some(piece) = self.pieces.get_mut(usize::from(number) - 1) else {
            return Added::Dropped;
        };
        if piece.is_some() || self.bytes + plaintext.len() > bytes_max {
            return Added::Dropped;
        }
        *piece = Some(plaintext.to_vec());
        self.bytes += plaintext.len();
        self.missing -= 1;
        if number == 1 {
            self.first_inner = first_inner;
        }
        if self.missing > 0 {
            return Added::Waiting;
        }
        let whole = self.pieces.iter().flatten().flatten().copied().collect();
        Added::Complete(self.first_inner, whole)
    }
}

/// Fragments of one message. A message of 64 KiB in the smallest fragments peers use (about
/// 500 bytes) has 128.
const FRAGMENTS_MAX: u16 = 128;
/// Plaintext bytes of one message: what a UDP datagram could have carried whole.
pub const BYTES_MAX: usize = 65_535;
/// The same of a peer that has not proven who it is: a chain of certificates has room, and all
/// half-open IKE SAs of a shard together stay below a third of a gibibyte.
pub const BYTES_MAX_UNKNOWN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const SA: PayloadType = PayloadType::SA;
    const NONE: PayloadType = PayloadType::NONE;

    fn add(
        slot: &mut Option<Box<Reassembly>>,
        message_id: u32,
        number: u16,
        total: u16,
        first_inner: PayloadType,
        plaintext: &[u8],
    ) -> Added {
        super::add(
            slot,
            message_id,
            number,
            total,
            first_inner,
            plaintext,
            BYTES_MAX,
        )
    }

    #[test]
    fn fragments_in_any_order_make_the_message() {
        let mut slot = None;
        assert_eq!(add(&mut slot, 1, 3, 3, NONE, b"c"), Added::Waiting);
        assert_eq!(add(&mut slot, 1, 1, 3, SA, b"a"), Added::Waiting);
        assert_eq!(add(&mut slot, 1, 1, 3, SA, b"x"), Added::Dropped);
        assert_eq!(
            add(&mut slot, 1, 2, 3, NONE, b"b"),
            Added::Complete(SA, b"abc".to_vec())
        );
        assert!(slot.is_none());
    }

    #[test]
    fn impossible_numbers_are_dropped() {
        let mut slot = None;
        for (number, total) in [(0, 3), (4, 3), (1, 0), (1, FRAGMENTS_MAX + 1)] {
            assert_eq!(add(&mut slot, 1, number, total, SA, b"a"), Added::Dropped);
        }
        assert!(slot.is_none());
    }

    #[test]
    fn a_larger_total_starts_anew_and_a_smaller_one_is_old() {
        let mut slot = None;
        assert_eq!(add(&mut slot, 1, 1, 2, SA, b"old"), Added::Waiting);
        assert_eq!(add(&mut slot, 1, 1, 3, SA, b"a"), Added::Waiting);
        assert_eq!(add(&mut slot, 1, 2, 2, NONE, b"old"), Added::Dropped);
        assert_eq!(add(&mut slot, 1, 2, 3, NONE, b"b"), Added::Waiting);
        assert_eq!(
            add(&mut slot, 1, 3, 3, NONE, b"c"),
            Added::Complete(SA, b"abc".to_vec())
        );
    }

    #[test]
    fn bytes_are_bounded() {
        let mut slot = None;
        let big = vec![0; 40_000];
        assert_eq!(add(&mut slot, 1, 1, 3, SA, &big), Added::Waiting);
        assert_eq!(add(&mut slot, 1, 2, 3, NONE, &big), Added::Dropped);
    }

    #[test]
    fn another_message_replaces_an_unfinished_one() {
        let mut slot = None;
        assert_eq!(add(&mut slot, 1, 1, 2, SA, b"old"), Added::Waiting);
        assert_eq!(
            add(&mut slot, 2, 1, 1, SA, b"new"),
            Added::Complete(SA, b"new".to_vec())
        );
    }
}
