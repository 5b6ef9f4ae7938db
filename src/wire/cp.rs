//! The Configuration payload, RFC 7296, 3.15.

use super::CfgAttributes;
use super::codec::{DecodeError, DecodeErrorKind, Reader, patch_length, put_u16};
use super::registry::{CfgAttrType, CfgType};

/// A Configuration payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cp<'a> {
    /// Request, reply, set or acknowledgement.
    pub kind: CfgType,
    /// The attributes in order.
    pub attributes: CfgAttributes<'a>,
}

/// One attribute; an empty value asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CfgAttribute<'a> {
    /// Its type, without the reserved bit.
    pub kind: CfgAttrType,
    /// Its value.
    pub value: &'a [u8],
}

pub(super) fn decode(body: &[u8]) -> Result<Cp<'_>, DecodeError> {
    let mut reader = Reader::new(body, "CP");
    let kind = CfgType(reader.u8()?);
    let _reserved = reader.take(3)?;
    let mut attributes = CfgAttributes::new();
    while !reader.is_empty() {
        // RFC 7296, 3.15.1: the top bit is reserved and ignored.
        let kind = CfgAttrType(reader.u16()? & 0x7fff);
        let length = reader.u16()?;
        let value = reader.take(usize::from(length))?;
        if attributes.len() == ATTRIBUTES_MAX {
            return Err(reader.error(DecodeErrorKind::TooMany));
        }
        attributes.push(CfgAttribute { kind, value });
    }
    Ok(Cp { kind, attributes })
}

pub(super) fn encode(cp: &Cp<'_>, out: &mut Vec<u8>) {
    out.push(cp.kind.0);
    out.extend_from_slice(&[0, 0, 0]);
    for attribute in &cp.attributes {
        put_u16(out, attribute.kind.0 & 0x7fff);
        let length_at = out.len();
        put_u16(out, 0);
        out.extend_from_slice(attribute.value);
        patch_length(out, length_at, length_at + 2);
    }
}

/// Attributes of one payload; no client sends more than about twenty.
const ATTRIBUTES_MAX: usize = 256;
