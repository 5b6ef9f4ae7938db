//! Reading big-endian fields out of a slice without ever running past its end, and the error that
//! says which field was wrong.

use std::fmt;

use super::registry::PayloadType;

/// What is wrong with the bytes, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The field or payload.
    pub what: &'static str,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

/// The kinds of [`DecodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The bytes end before the field does.
    Truncated,
    /// A length field contradicts the bytes there are.
    Length,
    /// A value the field must not have.
    Value,
    /// Something came twice that may come once.
    Duplicate,
    /// More elements than this implementation takes.
    TooMany,
    /// Another major version.
    Version(u8),
    /// A payload type not known here, with its critical bit set (RFC 7296, 2.5).
    UnknownCritical(PayloadType),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what;
        match self.kind {
            DecodeErrorKind::Truncated => write!(f, "{what}: truncated"),
            DecodeErrorKind::Length => write!(f, "{what}: malformed length"),
            DecodeErrorKind::Value => write!(f, "{what}: invalid value"),
            DecodeErrorKind::Duplicate => write!(f, "{what}: more than once"),
            DecodeErrorKind::TooMany => write!(f, "{what}: too many"),
            DecodeErrorKind::Version(major) => write!(f, "{what}: major version {major}"),
            DecodeErrorKind::UnknownCritical(kind) => {
                write!(f, "{what}: unknown critical payload {}", kind.0)
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Takes fields from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`; errors name `what`.
    pub(super) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    /// The error of this reader with this kind.
    pub(super) const fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError {
            what: self.what,
            kind,
        }
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.error(DecodeErrorKind::Truncated));
        };
        self.bytes = rest;
        Ok(taken)
    }

    /// The next bytes as an array.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(self.error(DecodeErrorKind::Truncated));
        };
        self.bytes = rest;
        Ok(*taken)
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Bytes left.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is left.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A reader over the body of a structure whose 16-bit length, header of `header_len` bytes
    /// already read included, was `length`.
    pub(super) fn body(&mut self, length: u16, header_len: usize) -> Result<Self, DecodeError> {
        let Some(body_len) = usize::from(length).checked_sub(header_len) else {
            return Err(self.error(DecodeErrorKind::Length));
        };
        if body_len > self.len() {
            return Err(self.error(DecodeErrorKind::Length));
        }
        Ok(Self::new(self.take(body_len)?, self.what))
    }

    /// The structure must end here.
    pub(super) const fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.error(DecodeErrorKind::Length))
        }
    }
}

/// Appends a 16-bit field.
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes the length of everything from `start` into the 16-bit field at `field_at`.
///
/// What we send is far below 64 KiB; a longer structure would get a length that no peer accepts.
pub(super) fn patch_length(out: &mut [u8], field_at: usize, start: usize) {
    let length = u16::try_from(out.len().saturating_sub(start)).unwrap_or(u16::MAX);
    if let Some(field) = out
        .get_mut(field_at..)
        .and_then(|tail| tail.first_chunk_mut::<2>())
    {
        *field = length.to_be_bytes();
    }
}
