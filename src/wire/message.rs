//! Whole messages: the header and the chain of payloads, RFC 7296, 3.1 and 3.2.

use super::Payloads;
use super::codec::{DecodeError, DecodeErrorKind, Reader, patch_length};
use super::header::Header;
use super::payload::{Payload, Sk, Skf, decode_nonce};
use super::registry::{NotifyType, PayloadType};

/// A decoded message. Its encrypted payload, if any, is the last one and still closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    /// The payloads in order.
    pub payloads: Payloads<'a>,
}

impl<'a> Message<'a> {
    /// Decodes a datagram.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let header = Header::decode(bytes)?;
        let body = bytes.get(Header::LEN..).unwrap_or(&[]);
        let mut payloads = Payloads::new();
        for payload in Chain::new(header.next_payload, body, Some(Header::LEN)) {
            payloads.push(payload?);
        }
        Ok(Self { header, payloads })
    }
}

/// Decodes the payloads inside of a decrypted SK. An SK within is an error.
pub fn decode_payloads(first: PayloadType, body: &[u8]) -> Result<Payloads<'_>, DecodeError> {
    let mut payloads = Payloads::new();
    for payload in Chain::new(first, body, None) {
        payloads.push(payload?);
    }
    Ok(payloads)
}

/// Where the encrypted payload of a message stands, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Offset of the IV in the message.
    pub body_at: usize,
    /// Type of the first payload inside.
    pub first_inner: PayloadType,
    /// Number and total of a fragment.
    pub fragment: Option<(u16, u16)>,
}

/// Decodes a datagram of which no more is wanted than the header and where the encrypted payload
/// stands, if there is one.
pub fn decode_sealed(bytes: &[u8]) -> Result<(Header, Option<Sealed>), DecodeError> {
    let header = Header::decode(bytes)?;
    let body = bytes.get(Header::LEN..).unwrap_or(&[]);
    let mut sealed = None;
    for payload in Chain::new(header.next_payload, body, Some(Header::LEN)) {
        let payload = payload?;
        sealed = if let Payload::Sk(sk) = &payload {
            Some(Sealed {
                body_at: sk.body_at,
                first_inner: sk.first_inner,
                fragment: None,
            })
        } else if let Payload::Skf(skf) = &payload {
            Some(Sealed {
                body_at: skf.body_at,
                first_inner: skf.first_inner,
                fragment: Some((skf.number, skf.total)),
            })
        } else {
            None
        };
    }
    Ok((header, sealed))
}

/// The nonce of an IKE_SA_INIT request that brings no COOKIE, if it has SA, KE and Nonce once each, none too
/// short to be one, and whole payloads to its end; nothing else of it is looked at. So it is longer than the
/// answer with a COOKIE. `None` for any other message: whoever wants to know why decodes it.
pub fn nonce_without_cookie(bytes: &[u8]) -> Option<&[u8]> {
    let header = Header::decode(bytes).ok()?;
    let mut chain = Chain::new(header.next_payload, bytes.get(Header::LEN..)?, None);
    let (mut proposals, mut key, mut nonce) = (0, 0, None);
    while chain.kind != PayloadType::NONE {
        let first = chain.taken == 0;
        let (kind, body, _) = chain.open_next().ok()?;
        match kind {
            PayloadType::SA if body.len() >= PROPOSAL_MIN => proposals += 1,
            PayloadType::KE if body.len() >= KE_MIN => key += 1,
            PayloadType::NONCE if nonce.is_none() => nonce = Some(body),
            PayloadType::SA
            | PayloadType::KE
            | PayloadType::NONCE
            | PayloadType::SK
            | PayloadType::SKF => return None,
            // RFC 7296, 2.6: the cookie comes first.
            PayloadType::NOTIFY if first && is_cookie(body)? => return None,
            _ => {}
        }
    }
    chain.reader.finish().ok()?;
    let nonce = decode_nonce(nonce?).ok()?;
    ((proposals, key) == (1, 1)).then_some(nonce)
}

/// Whether the body of a Notify payload (RFC 7296, 3.10) is that of a COOKIE; `None` for a short one.
fn is_cookie(body: &[u8]) -> Option<bool> {
    let kind = body.get(2..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*kind) == NotifyType::COOKIE.0)
}

/// A chain of payloads, decoded one after the other. Nothing follows an error.
struct Chain<'a> {
    reader: Reader<'a>,
    /// Type of the next payload.
    kind: PayloadType,
    /// Where the chain ends in its message; `None` where no encrypted payload may stand.
    end: Option<usize>,
    taken: usize,
    finished: bool,
}

impl<'a> Chain<'a> {
    /// `offset` is where `body` begins in its message; `None` where no encrypted payload may stand.
    const fn new(first: PayloadType, body: &'a [u8], offset: Option<usize>) -> Self {
        Self {
            reader: Reader::new(body, "payload"),
            kind: first,
            end: match offset {
                Some(offset) => Some(offset + body.len()),
                None => None,
            },
            taken: 0,
            finished: false,
        }
    }

    /// Opens the next payload, whatever is in it: its type, its body, and how many bytes the chain had
    /// left behind its generic header.
    fn open_next(&mut self) -> Result<(PayloadType, &'a [u8], usize), DecodeError> {
        let (kind, reader) = (self.kind, &mut self.reader);
        if self.taken == PAYLOADS_MAX {
            return Err(reader.error(DecodeErrorKind::TooMany));
        }
        self.taken += 1;
        self.kind = PayloadType(reader.u8()?);
        let critical = reader.u8()? & CRITICAL != 0;
        let length = reader.u16()?;
        let left = reader.len();
        let inner = reader.body(length, GENERIC_HEADER_LEN)?.rest();
        // RFC 7296, 2.5: the critical bit matters only for what we do not know.
        if critical && kind.name().is_none() {
            return Err(reader.error(DecodeErrorKind::UnknownCritical(kind)));
        }
        Ok((kind, inner, left))
    }

    fn decode(&mut self) -> Result<Payload<'a>, DecodeError> {
        let (kind, inner, left) = self.open_next()?;
        let reader = &mut self.reader;
        match (kind, self.end) {
            (PayloadType::SK | PayloadType::SKF, Some(end)) => {
                reader.finish()?;
                self.finished = true;
                encrypted(kind, self.kind, end - left, inner)
            }
            (PayloadType::SK | PayloadType::SKF, None) => Err(reader.error(DecodeErrorKind::Value)),
            _ => Payload::decode(kind, inner),
        }
    }
}

impl<'a> Iterator for Chain<'a> {
    type Item = Result<Payload<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        if self.kind == PayloadType::NONE {
            self.finished = true;
            return self.reader.finish().err().map(Err);
        }
        let decoded = self.decode();
        self.finished |= decoded.is_err();
        Some(decoded)
    }
}

fn encrypted(
    kind: PayloadType,
    first_inner: PayloadType,
    body_at: usize,
    body: &[u8],
) -> Result<Payload<'_>, DecodeError> {
    if kind == PayloadType::SK {
        return Ok(Payload::Sk(Sk {
            first_inner,
            body_at,
            body,
        }));
    }
    let mut reader = Reader::new(body, "SKF");
    let (number, total) = (reader.u16()?, reader.u16()?);
    // RFC 7383, 2.5: numbers begin at 1 and do not pass the total.
    if number == 0 || number > total {
        return Err(reader.error(DecodeErrorKind::Value));
    }
    let body_at = body_at + 4;
    Ok(Payload::Skf(Skf {
        first_inner,
        number,
        total,
        body_at,
        body: reader.rest(),
    }))
}

/// Appends a chain of payloads; returns the type of the first, `NONE` for an empty chain. Critical
/// bits are clear, as RFC 7296, 3.2 wants for payloads it defines.
pub fn encode_payloads(payloads: &[Payload<'_>], out: &mut Vec<u8>) -> PayloadType {
    let first = payloads.first().map_or(PayloadType::NONE, Payload::kind);
    for (index, payload) in payloads.iter().enumerate() {
        let next = if let Payload::Sk(Sk { first_inner, .. })
        | Payload::Skf(Skf { first_inner, .. }) = payload
        {
            *first_inner
        } else {
            payloads
                .get(index + 1)
                .map_or(PayloadType::NONE, Payload::kind)
        };
        let start = out.len();
        out.extend_from_slice(&[next.0, 0, 0, 0]);
        payload.encode_body(out);
        patch_length(out, start + 2, start);
    }
    first
}

/// Appends a whole message in the clear; "next payload" and length of the header are filled in.
pub fn encode_message(header: &Header, payloads: &[Payload<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    let next_payload = payloads.first().map_or(PayloadType::NONE, Payload::kind);
    Header {
        next_payload,
        ..*header
    }
    .encode(out);
    encode_payloads(payloads, out);
    patch_message_length(out, start);
}

/// Writes the length of the message that begins at `start` into its header.
pub(super) fn patch_message_length(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    let field = out
        .get_mut(start + LENGTH_AT..)
        .and_then(|tail| tail.first_chunk_mut::<4>());
    if let Some(field) = field {
        *field = length.to_be_bytes();
    }
}

/// Offset of the length field in the IKE header.
const LENGTH_AT: usize = 24;
/// Bytes of the generic payload header.
pub(super) const GENERIC_HEADER_LEN: usize = 4;
/// The critical bit of the generic payload header.
const CRITICAL: u8 = 0x80;
/// Bytes of a proposal without transforms (RFC 7296, 3.3.1), and of a key exchange without its value (3.4).
const PROPOSAL_MIN: usize = 8;
const KE_MIN: usize = 4;
/// Payloads of one message: far above what a long certificate chain needs.
const PAYLOADS_MAX: usize = 128;
