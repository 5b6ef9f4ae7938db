//! The Security Association payload: proposals and their transforms, RFC 7296, 3.3.

use std::fmt;

use super::codec::{DecodeError, DecodeErrorKind, Reader, patch_length, put_u16};
use super::registry::{EncrId, EsnId, IntegId, KeId, PrfId, ProtocolId, TransformType};
use super::{Proposals, Transforms};

/// What a transform stands for: its type and number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransformId {
    /// Encryption algorithm.
    Encr(EncrId),
    /// Pseudorandom function.
    Prf(PrfId),
    /// Integrity algorithm.
    Integ(IntegId),
    /// Key exchange method.
    Ke(KeId),
    /// Extended sequence numbers.
    Esn(EsnId),
    /// A type not known here, or a transform with an attribute that is not understood and so must
    /// not be chosen (RFC 7296, 3.3.6).
    Unknown(TransformType, u16),
}

impl TransformId {
    /// The transform type.
    pub const fn kind(self) -> TransformType {
        match self {
            Self::Encr(_) => TransformType::ENCR,
            Self::Prf(_) => TransformType::PRF,
            Self::Integ(_) => TransformType::INTEG,
            Self::Ke(_) => TransformType::KE,
            Self::Esn(_) => TransformType::ESN,
            Self::Unknown(kind, _) => kind,
        }
    }

    /// The cipher, if this is one.
    pub const fn encr(self) -> Option<EncrId> {
        if let Self::Encr(id) = self {
            Some(id)
        } else {
            None
        }
    }

    /// The pseudorandom function, if this is one.
    pub const fn prf(self) -> Option<PrfId> {
        if let Self::Prf(id) = self {
            Some(id)
        } else {
            None
        }
    }

    /// The integrity algorithm, if this is one.
    pub const fn integ(self) -> Option<IntegId> {
        if let Self::Integ(id) = self {
            Some(id)
        } else {
            None
        }
    }

    /// The key exchange method, if this is one.
    pub const fn ke(self) -> Option<KeId> {
        if let Self::Ke(id) = self {
            Some(id)
        } else {
            None
        }
    }

    /// The number within the type.
    pub const fn number(self) -> u16 {
        match self {
            Self::Encr(id) => id.0,
            Self::Prf(id) => id.0,
            Self::Integ(id) => id.0,
            Self::Ke(id) => id.0,
            Self::Esn(id) => id.0,
            Self::Unknown(_, number) => number,
        }
    }

    const fn from_wire(kind: TransformType, number: u16) -> Self {
        match kind {
            TransformType::ENCR => Self::Encr(EncrId(number)),
            TransformType::PRF => Self::Prf(PrfId(number)),
            TransformType::INTEG => Self::Integ(IntegId(number)),
            TransformType::KE => Self::Ke(KeId(number)),
            TransformType::ESN => Self::Esn(EsnId(number)),
            other => Self::Unknown(other, number),
        }
    }
}

impl fmt::Display for TransformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encr(id) => id.fmt(f),
            Self::Prf(id) => write!(f, "PRF_{id}"),
            Self::Integ(id) => id.fmt(f),
            Self::Ke(id) => id.fmt(f),
            Self::Esn(id) => id.fmt(f),
            Self::Unknown(kind, number) => write!(f, "({kind}, {number})"),
        }
    }
}

impl fmt::Debug for TransformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform {
    /// Type and number.
    pub id: TransformId,
    /// The Key Length attribute in bits.
    pub key_length: Option<u16>,
}

impl Transform {
    /// A transform.
    pub const fn new(id: TransformId, key_length: Option<u16>) -> Self {
        Self { id, key_length }
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        match self.key_length {
            Some(bits) => write!(f, "-{bits}"),
            None => Ok(()),
        }
    }
}

/// One proposal.
///
/// ```text
/// +---------------+---------------+---------------+---------------+
/// |  Last (0, 2)  |   RESERVED    |        Proposal Length        |
/// | Proposal Num  |  Protocol ID  |   SPI Size    | Num Transforms|
/// |                        SPI (variable)                         |
/// |                         <Transforms>                          |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// Its number, repeated by the answer.
    pub number: u8,
    /// IKE, AH or ESP.
    pub protocol: ProtocolId,
    /// The sender's SPI: empty in IKE_SA_INIT, 8 bytes to rekey an IKE SA, 4 for AH and ESP.
    pub spi: &'a [u8],
    /// The transforms.
    pub transforms: Transforms,
}

pub(super) fn decode(body: &[u8]) -> Result<Proposals<'_>, DecodeError> {
    let mut reader = Reader::new(body, "SA");
    let mut proposals = Proposals::new();
    loop {
        let more = last_byte(&mut reader, 2)?;
        let _reserved = reader.u8()?;
        let length = reader.u16()?;
        let mut inner = reader.body(length, 4)?;
        proposals.push(decode_proposal(&mut inner)?);
        if proposals.len() > PROPOSALS_MAX {
            return Err(reader.error(DecodeErrorKind::TooMany));
        }
        if !more {
            break;
        }
    }
    reader.finish()?;
    Ok(proposals)
}

/// 0 says "the last", `more` says another follows; nothing else may stand there.
fn last_byte(reader: &mut Reader<'_>, more: u8) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        byte if byte == more => Ok(true),
        _ => Err(reader.error(DecodeErrorKind::Value)),
    }
}

fn decode_proposal<'a>(reader: &mut Reader<'a>) -> Result<Proposal<'a>, DecodeError> {
    let number = reader.u8()?;
    let protocol = ProtocolId(reader.u8()?);
    let spi_size = reader.u8()?;
    let count = reader.u8()?;
    let spi = reader.take(usize::from(spi_size))?;
    let mut transforms = Transforms::new();
    for index in 1..=count {
        let more = last_byte(reader, 3)?;
        if more == (index == count) {
            return Err(reader.error(DecodeErrorKind::Value));
        }
        let _reserved = reader.u8()?;
        let length = reader.u16()?;
        let mut inner = reader.body(length, 4)?;
        transforms.push(decode_transform(&mut inner)?);
    }
    reader.finish()?;
    Ok(Proposal {
        number,
        protocol,
        spi,
        transforms,
    })
}

fn decode_transform(reader: &mut Reader<'_>) -> Result<Transform, DecodeError> {
    let kind = TransformType(reader.u8()?);
    let _reserved = reader.u8()?;
    let number = reader.u16()?;
    let mut key_length = None;
    let mut understood = true;
    while !reader.is_empty() {
        let attribute = reader.u16()?;
        if attribute == KEY_LENGTH_TV && key_length.is_none() {
            key_length = Some(reader.u16()?);
        } else if attribute & ATTRIBUTE_TV != 0 {
            reader.u16()?;
            understood = false;
        } else {
            let length = reader.u16()?;
            reader.take(usize::from(length))?;
            understood = false;
        }
    }
    if understood {
        Ok(Transform {
            id: TransformId::from_wire(kind, number),
            key_length,
        })
    } else {
        Ok(Transform {
            id: TransformId::Unknown(kind, number),
            key_length: None,
        })
    }
}

pub(super) fn encode(proposals: &[Proposal<'_>], out: &mut Vec<u8>) {
    for (index, proposal) in proposals.iter().enumerate() {
        let start = out.len();
        out.push(if index + 1 == proposals.len() { 0 } else { 2 });
        out.extend_from_slice(&[0, 0, 0]);
        out.push(proposal.number);
        out.push(proposal.protocol.0);
        out.push(u8::try_from(proposal.spi.len()).unwrap_or(u8::MAX));
        out.push(u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(proposal.spi);
        for (index, transform) in proposal.transforms.iter().enumerate() {
            encode_transform(transform, index + 1 == proposal.transforms.len(), out);
        }
        patch_length(out, start + 2, start);
    }
}

fn encode_transform(transform: &Transform, last: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(if last { 0 } else { 3 });
    out.extend_from_slice(&[0, 0, 0]);
    out.push(transform.id.kind().0);
    out.push(0);
    put_u16(out, transform.id.number());
    if let Some(bits) = transform.key_length {
        put_u16(out, KEY_LENGTH_TV);
        put_u16(out, bits);
    }
    patch_length(out, start + 2, start);
}

/// Attribute 14, Key Length, in its only form: type and value (RFC 7296, 3.3.5).
const KEY_LENGTH_TV: u16 = ATTRIBUTE_TV | 14;
/// The AF bit: the attribute has a 16-bit value and no length.
const ATTRIBUTE_TV: u16 = 0x8000;
/// Proposals of one SA payload; clients send up to about twenty.
const PROPOSALS_MAX: usize = 64;
