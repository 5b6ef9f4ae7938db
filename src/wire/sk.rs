//! Framing of the encrypted payloads: SK (RFC 7296, 3.14) and SKF (RFC 7383, 2.5). The cipher is
//! passed in as a [`SkKey`].

use std::ops::Range;

use super::codec::{patch_length, put_u16};
use super::header::Header;
use super::message::{GENERIC_HEADER_LEN, encode_payloads, patch_message_length};
use super::payload::Payload;
use super::registry::PayloadType;

/// The message could not be sealed, or what came was not sealed by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkFailure;

/// One direction's key. Lengths are in bytes.
pub trait SkKey {
    /// Length of the IV field.
    fn iv_len(&self) -> usize;
    /// Plaintext and padding are a multiple of this.
    fn block_len(&self) -> usize;
    /// Length of the checksum field.
    fn icv_len(&self) -> usize;
    /// Encrypts what stands behind the IV field at `iv_at`, writes the IV, appends the checksum.
    fn seal(&mut self, message: &mut Vec<u8>, iv_at: usize) -> Result<(), SkFailure>;
    /// Checks and decrypts; returns where the padded plaintext stands.
    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, SkFailure>;
}

/// Seals `inner` into one message with one SK payload, appended to `out`, which must be empty.
pub fn seal_message(
    header: &Header,
    inner: &[Payload<'_>],
    key: &mut impl SkKey,
    out: &mut Vec<u8>,
) -> Result<(), SkFailure> {
    let mut plaintext = Vec::with_capacity(256);
    let first = encode_payloads(inner, &mut plaintext);
    let whole = Piece {
        kind: PayloadType::SK,
        first,
        numbers: None,
        plaintext: &plaintext,
    };
    seal_piece(header, whole, key, out)
}

/// Seals `inner` into one SK where the message is at most `datagram_max` bytes, else into as many
/// SKF messages as it takes; each is pushed to `out`.
pub fn seal_fragments(
    header: &Header,
    inner: &[Payload<'_>],
    key: &mut impl SkKey,
    datagram_max: usize,
    out: &mut Vec<Vec<u8>>,
) -> Result<(), SkFailure> {
    let mut plaintext = Vec::with_capacity(1024);
    let first = encode_payloads(inner, &mut plaintext);
    if sealed_len(key, plaintext.len(), 0) > datagram_max {
        return cut(header, (first, &plaintext), key, datagram_max, 1, out);
    }
    let whole = Piece {
        kind: PayloadType::SK,
        first,
        numbers: None,
        plaintext: &plaintext,
    };
    let mut datagram = Vec::with_capacity(sealed_len(key, plaintext.len(), 0));
    seal_piece(header, whole, key, &mut datagram)?;
    out.push(datagram);
    Ok(())
}

/// Seals a plaintext (with the type of its first payload) into SKF messages of at most
/// `datagram_max` bytes, and into `total_min` of them or more; each is pushed to `out`.
pub fn cut(
    header: &Header,
    (first, plaintext): (PayloadType, &[u8]),
    key: &mut impl SkKey,
    datagram_max: usize,
    total_min: usize,
    out: &mut Vec<Vec<u8>>,
) -> Result<(), SkFailure> {
    let mut room = fragment_room(key, datagram_max).ok_or(SkFailure)?;
    if plaintext.len().div_ceil(room) < total_min {
        // Rounded down, so that there are never fewer.
        room = plaintext
            .len()
            .checked_div(total_min)
            .filter(|&room| room > 0)
            .ok_or(SkFailure)?;
    }
    let total = plaintext.len().div_ceil(room);
    let total = u16::try_from(total).map_err(|_| SkFailure)?;
    for (number, chunk) in (1..=total).zip(plaintext.chunks(room)) {
        let first = if number == 1 {
            first
        } else {
            PayloadType::NONE
        };
        let numbers = Some((number, total));
        let piece = Piece {
            kind: PayloadType::SKF,
            first,
            numbers,
            plaintext: chunk,
        };
        let mut datagram = Vec::with_capacity(datagram_max);
        seal_piece(header, piece, key, &mut datagram)?;
        out.push(datagram);
    }
    Ok(())
}

/// Opens the encrypted payload whose IV stands at `body_at`; returns where its plaintext is,
/// padding removed.
pub fn open_sk(
    message: &mut [u8],
    body_at: usize,
    key: &impl SkKey,
) -> Result<Range<usize>, SkFailure> {
    let padded = key.open(message, body_at)?;
    let plaintext = message.get(padded.clone()).ok_or(SkFailure)?;
    let (&pad_len, content) = plaintext.split_last().ok_or(SkFailure)?;
    let content_len = content
        .len()
        .checked_sub(usize::from(pad_len))
        .ok_or(SkFailure)?;
    Ok(padded.start..padded.start + content_len)
}

/// One encrypted payload to be.
struct Piece<'a> {
    kind: PayloadType,
    first: PayloadType,
    numbers: Option<(u16, u16)>,
    plaintext: &'a [u8],
}

fn seal_piece(
    header: &Header,
    piece: Piece<'_>,
    key: &mut impl SkKey,
    out: &mut Vec<u8>,
) -> Result<(), SkFailure> {
    Header {
        next_payload: piece.kind,
        ..*header
    }
    .encode(out);
    let start = out.len();
    out.extend_from_slice(&[piece.first.0, 0, 0, 0]);
    if let Some((number, total)) = piece.numbers {
        put_u16(out, number);
        put_u16(out, total);
    }
    let iv_at = out.len();
    out.resize(iv_at + key.iv_len(), 0);
    out.extend_from_slice(piece.plaintext);
    let pad_len = pad_len(key, piece.plaintext.len());
    out.resize(out.len() + pad_len, 0);
    out.push(u8::try_from(pad_len).map_err(|_| SkFailure)?);
    // The lengths are authenticated, so they must be right before the checksum is made.
    let end = out.len();
    out.resize(end + key.icv_len(), 0);
    // A longer payload has no length field that a peer could read.
    if u16::try_from(out.len() - start).is_err() {
        return Err(SkFailure);
    }
    patch_length(out, start + 2, start);
    patch_message_length(out, 0);
    out.truncate(end);
    key.seal(out, iv_at)
}

fn pad_len(key: &impl SkKey, plaintext_len: usize) -> usize {
    let block_len = key.block_len().max(1);
    (block_len - (plaintext_len + 1) % block_len) % block_len
}

fn sealed_len(key: &impl SkKey, plaintext_len: usize, extra: usize) -> usize {
    let padded = plaintext_len + pad_len(key, plaintext_len) + 1;
    Header::LEN + GENERIC_HEADER_LEN + extra + key.iv_len() + padded + key.icv_len()
}

/// Most plaintext that one fragment of at most `datagram_max` bytes can carry.
fn fragment_room(key: &impl SkKey, datagram_max: usize) -> Option<usize> {
    let fixed = Header::LEN + GENERIC_HEADER_LEN + 4 + key.iv_len() + key.icv_len();
    let block_len = key.block_len().max(1);
    let padded = datagram_max.checked_sub(fixed)? / block_len * block_len;
    padded.checked_sub(1).filter(|&room| room > 0)
}
