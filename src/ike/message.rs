//! Sealing what we send and opening what we got: the SK and SKF payloads with the keys of an IKE SA.

use std::ops::Range;
use std::time::Instant;

use super::context::Context;
use super::fragment::{self, Added, Pieces};
use super::ike_sa::IkeSa;
use super::path_mtu;
use super::state::State;
use crate::crypto::{MessageKey, Rng};
use crate::wire::registry::{ExchangeType, PayloadType};
use crate::wire::sk::{self, SkFailure, SkKey};
use crate::wire::{DecodeError, Header, Payload, Sealed, decode_sealed};

/// A key of `crypto` as `wire::sk` wants it.
struct Sealer<'a> {
    key: &'a dyn MessageKey,
    counter: &'a mut u64,
    rng: &'a mut Rng,
}

impl SkKey for Sealer<'_> {
    fn iv_len(&self) -> usize {
        self.key.iv_len()
    }

    fn block_len(&self) -> usize {
        self.key.block_len()
    }

    fn icv_len(&self) -> usize {
        self.key.icv_len()
    }

    fn seal(&mut self, message: &mut Vec<u8>, iv_at: usize) -> Result<(), SkFailure> {
        *self.counter += 1;
        self.key
            .seal(message, iv_at, *self.counter, self.rng)
            .map_err(|_| SkFailure)
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, SkFailure> {
        self.key.open(message, iv_at).map_err(|_| SkFailure)
    }
}

/// Encrypts a message of this SA into one datagram, or into fragments where both sides can and it
/// is too long for one.
pub fn seal(
    cx: &mut Context,
    sa: &mut IkeSa,
    exchange: ExchangeType,
    message_id: u32,
    response: bool,
    inner: &[Payload<'_>],
) -> Option<Vec<Vec<u8>>> {
    let header = sa.header(exchange, message_id, response);
    let datagram_max = if sa.fragmentation {
        path_mtu::message_max(cx, sa, response)
    } else {
        65_507
    };
    let mut counter = sa.sealed;
    // One as a rule, and the answer is kept.
    let mut datagrams = Vec::with_capacity(1);
    let key = sa.outbound_key()?;
    let mut sealer = Sealer {
        key,
        counter: &mut counter,
        rng: &mut cx.rng,
    };
    let sealed = sk::seal_fragments(&header, inner, &mut sealer, datagram_max, &mut datagrams);
    sa.sealed = counter;
    if sealed.is_err() {
        cx.debug(format_args!("{}: cannot seal {exchange}", sa.tag()));
        return None;
    }
    if datagrams.len() > 1 {
        cx.stats.frag_sent += datagrams.len() as u64;
    }
    Some(datagrams)
}

/// Cuts a message that we sealed before into more and smaller datagrams, as the path wants it now.
/// `None`: it is none of this SA, or cannot be cut.
///
/// A receiver tells the pieces of one cut from those of another by their total alone, and drops
/// those of the smaller (RFC 7383, 2.6), so there is always one more than before.
pub fn cut_anew(cx: &mut Context, sa: &mut IkeSa, datagrams: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let datagram_max = path_mtu::message_max(cx, sa, false);
    let mut counter = sa.sealed;
    let key = sa.outbound_key()?;
    let mut sealer = Sealer {
        key,
        counter: &mut counter,
        rng: &mut cx.rng,
    };
    let mut content: Option<(Header, PayloadType)> = None;
    let mut plaintext = Vec::new();
    for datagram in datagrams {
        let mut bytes = datagram.clone();
        let (header, place) = decode_sealed(&bytes).ok()?;
        let place = place?;
        content.get_or_insert((header, place.first_inner));
        let range = sk::open_sk(&mut bytes, place.body_at, &sealer).ok()?;
        plaintext.extend_from_slice(bytes.get(range)?);
    }
    let (header, first) = content?;
    let mut anew = Vec::new();
    let before = datagrams.len();
    let sealed = sk::cut(
        &header,
        (first, &plaintext),
        &mut sealer,
        datagram_max,
        before + 1,
        &mut anew,
    );
    sa.sealed = counter;
    sealed.ok()?;
    cx.stats.frag_sent += anew.len() as u64;
    Some(anew)
}

/// What opening led to.
pub enum Opened {
    /// The whole plaintext and the type of its first payload.
    Whole(PayloadType, Vec<u8>),
    /// A good fragment; more are to come.
    Partial,
    /// Not from the peer, or of no use; counted. And why.
    Dropped(Fault),
}

/// Why a datagram cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The payloads outside of the encryption are wrong.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// Nothing in it is encrypted.
    #[error("not encrypted")]
    Clear,
    /// RFC 7383 was not agreed upon.
    #[error("fragments were not agreed upon")]
    NoFragments,
    /// There are no keys yet.
    #[error("no keys")]
    NoKeys,
    /// Not sealed by the peer, or changed on the way.
    #[error("integrity check failed")]
    Integrity,
    /// A fragment with numbers that cannot be, or that were there before, or one too many: its
    /// number, the total, and the Message ID.
    #[error("fragment {0}/{1} of message {2} is of no use")]
    Fragment(u16, u16, u32),
}

/// Decrypts the SK or SKF payload of a datagram of this SA. Only a datagram that passes here was
/// sent by the peer.
pub fn open(cx: &mut Context, sa: &mut IkeSa, now: Instant, bytes: &mut [u8]) -> Opened {
    let bytes_len = bytes.len();
    let (header, place) = match locate(cx, bytes) {
        Ok(located) => located,
        Err(fault) => return Opened::Dropped(fault),
    };
    if place.fragment.is_some() {
        cx.stats.frag_rcvd += 1;
        if !sa.fragmentation {
            cx.stats.frag_rcvd_drop += 1;
            return Opened::Dropped(Fault::NoFragments);
        }
    }
    let plaintext = {
        let Some(key) = sa.inbound_key() else {
            return Opened::Dropped(Fault::NoKeys);
        };
        let sealer = Sealer {
            key,
            counter: &mut 0,
            rng: &mut cx.rng,
        };
        sk::open_sk(bytes, place.body_at, &sealer)
    };
    let plaintext = plaintext.ok().and_then(|range| bytes.get(range));
    let Some(plaintext) = plaintext else {
        cx.stats.integrity_errors += 1;
        return Opened::Dropped(Fault::Integrity);
    };
    if place.fragment.is_some_and(|(number, total)| number < total) {
        path_mtu::learn(cx, sa, bytes_len);
    }
    gather(cx, sa, now, (&header, place), plaintext)
}

fn locate(cx: &mut Context, bytes: &[u8]) -> Result<(Header, Sealed), Fault> {
    match decode_sealed(bytes) {
        Ok((header, Some(place))) => Ok((header, place)),
        Ok((_, None)) => {
            cx.stats.unexpected += 1;
            Err(Fault::Clear)
        }
        Err(error) => {
            cx.stats.decode_errors += 1;
            Err(error.into())
        }
    }
}

/// The number of a fragment; `None` for what is none.
pub fn fragment_number(bytes: &[u8]) -> Option<u16> {
    let (number, _) = decode_sealed(bytes).ok()?.1?.fragment?;
    Some(number)
}

/// Whether the peer sealed this datagram. It is decrypted in place.
pub fn is_from_peer(cx: &mut Context, sa: &IkeSa, bytes: &mut [u8]) -> bool {
    let (Ok((_, place)), Some(key), true) = (locate(cx, bytes), sa.inbound_key(), sa.fragmentation)
    else {
        return false;
    };
    let sealer = Sealer {
        key,
        counter: &mut 0,
        rng: &mut cx.rng,
    };
    sk::open_sk(bytes, place.body_at, &sealer).is_ok()
}

/// Takes a plaintext: a whole one as it is, a piece into its message.
fn gather(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Instant,
    (header, place): (&Header, Sealed),
    plaintext: &[u8],
) -> Opened {
    let unknown = matches!(sa.state, State::AwaitAuthRequest(_));
    let bytes_max = if unknown {
        fragment::BYTES_MAX_UNKNOWN
    } else {
        fragment::BYTES_MAX
    };
    let Some((number, total)) = place.fragment else {
        if let Some(pieces) = &mut sa.pieces {
            let dropped = pieces.of(header.flags.response).take().is_some();
            cx.stats.frag_reass_drop += u64::from(dropped);
            sa.pieces.take_if(|pieces| pieces.is_empty());
        }
        return Opened::Whole(place.first_inner, plaintext.to_vec());
    };
    let (id, first) = (header.message_id, place.first_inner);
    let pieces = sa.pieces.get_or_insert_with(|| Box::new(Pieces::new(now)));
    let slot = pieces.of(header.flags.response);
    let added = fragment::add(slot, id, number, total, first, plaintext, bytes_max);
    sa.pieces.take_if(|pieces| pieces.is_empty());
    match added {
        Added::Waiting => Opened::Partial,
        Added::Dropped => {
            cx.stats.frag_rcvd_drop += 1;
            Opened::Dropped(Fault::Fragment(number, total, id))
        }
        Added::Complete(first, whole) => {
            cx.stats.frag_reass_ok += 1;
            Opened::Whole(first, whole)
        }
    }
}

/// Seals an answer, sends it, and keeps it for repetitions of the request.
pub fn respond(
    cx: &mut Context,
    sa: &mut IkeSa,
    exchange: ExchangeType,
    message_id: u32,
    digest: u64,
    inner: &[Payload<'_>],
) {
    let Some(datagrams) = seal(cx, sa, exchange, message_id, true, inner) else {
        return;
    };
    for datagram in &datagrams {
        cx.transmit_copy(sa.asked_from(), datagram);
    }
    sa.window.answer(message_id, digest, datagrams);
}

/// Seals and sends a request of ours, if none is out. Returns its Message ID.
pub fn request(
    cx: &mut Context,
    sa: &mut IkeSa,
    exchange: ExchangeType,
    inner: &[Payload<'_>],
    now: Instant,
) -> Option<u32> {
    let id = sa.window.free()?;
    let datagrams = seal(cx, sa, exchange, id, false, inner)?;
    for datagram in &datagrams {
        cx.transmit_copy(sa.path, datagram);
    }
    sa.window.sent(id, exchange, datagrams, now, &mut cx.rng);
    Some(id)
}
