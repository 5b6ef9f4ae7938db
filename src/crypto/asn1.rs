//! DER as a walk over fields: just as much of ASN.1 as OCSP and the extensions of certificates need
//! beside BoringSSL. Lengths and their encoding are the `der` crate's.

use der::asn1::{AnyRef, GeneralizedTime};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber};

/// Not DER, or not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed DER")]
pub struct Malformed;

impl From<der::Error> for Malformed {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its first byte.
    pub tag: u8,
    /// All of it.
    pub whole: &'a [u8],
    /// Without tag and length.
    pub content: &'a [u8],
}

impl<'a> Field<'a> {
    /// The fields in it.
    pub fn fields(self) -> Result<Fields<'a>, Malformed> {
        Fields::within(self.content)
    }

    /// The bytes of a BIT STRING of whole bytes.
    pub fn bits(self) -> Result<&'a [u8], Malformed> {
        match (self.tag, self.content.split_first()) {
            (BIT_STRING, Some((0, bits))) => Ok(bits),
            _ => Err(Malformed),
        }
    }

    /// A GeneralizedTime, in seconds since 1970.
    pub fn time(self) -> Result<i64, Malformed> {
        let time = GeneralizedTime::from_der(self.whole)?;
        i64::try_from(time.to_unix_duration().as_secs()).map_err(|_| Malformed)
    }
}

/// Fields in a row.
#[derive(Clone, Debug)]
pub struct Fields<'a>(SliceReader<'a>);

impl<'a> Fields<'a> {
    /// The fields in these bytes.
    pub fn within(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self(SliceReader::new(bytes)?))
    }

    /// The fields of the one SEQUENCE that these bytes are.
    pub fn of_sequence(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Self::within(bytes)?;
        let inner = outer.sequence()?;
        outer.end()?;
        Ok(inner)
    }

    /// The next field.
    pub fn any(&mut self) -> Result<Field<'a>, Malformed> {
        let whole = self.0.tlv_bytes()?;
        let content = AnyRef::from_der(whole)?.value();
        let tag = *whole.first().ok_or(Malformed)?;
        Ok(Field {
            tag,
            whole,
            content,
        })
    }

    /// The next field, which must have this tag.
    pub fn tagged(&mut self, tag: u8) -> Result<Field<'a>, Malformed> {
        let field = self.any()?;
        if field.tag == tag {
            Ok(field)
        } else {
            Err(Malformed)
        }
    }

    /// The next field, if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Field<'a>>, Malformed> {
        if self.0.peek_byte() == Some(tag) {
            return Ok(Some(self.any()?));
        }
        Ok(None)
    }

    /// The fields of the next field, a SEQUENCE.
    pub fn sequence(&mut self) -> Result<Self, Malformed> {
        self.tagged(SEQUENCE)?.fields()
    }

    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.0.is_finished()
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

/// A SEQUENCE of these fields.
pub fn sequence(fields: &[&[u8]]) -> Vec<u8> {
    encode(Tag::Sequence, &fields.concat())
}

/// An OCTET STRING.
pub fn octets(content: &[u8]) -> Vec<u8> {
    encode(Tag::OctetString, content)
}

/// `[number] EXPLICIT` around a field.
pub fn explicit(number: u32, field: &[u8]) -> Vec<u8> {
    encode(TagNumber(number).context_specific(true), field)
}

fn encode(tag: Tag, content: &[u8]) -> Vec<u8> {
    // Fails only beyond 256 MiB, and nothing we make comes near it.
    let value = AnyRef::new(tag, content).and_then(|value| value.to_der());
    value.unwrap_or_default()
}

/// First bytes of fields.
pub const INTEGER: u8 = 0x02;
/// See [`INTEGER`].
pub const BIT_STRING: u8 = 0x03;
/// See [`INTEGER`].
pub const OCTET_STRING: u8 = 0x04;
/// See [`INTEGER`].
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// See [`INTEGER`].
pub const ENUMERATED: u8 = 0x0a;
/// See [`INTEGER`].
pub const BOOLEAN: u8 = 0x01;
/// See [`INTEGER`].
pub const GENERALIZED_TIME: u8 = 0x18;
/// See [`INTEGER`].
pub const SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_walked_and_nothing_is_read_past_their_end() {
        let inner = sequence(&[&octets(b"ab"), &[INTEGER, 1, 7]]);
        let bytes = sequence(&[&inner, &explicit(2, &octets(b""))]);
        let mut fields = Fields::of_sequence(&bytes).unwrap();
        let mut first = fields.sequence().unwrap();
        assert_eq!(first.tagged(OCTET_STRING).unwrap().content, b"ab");
        assert_eq!(first.any().unwrap().content, [7]);
        assert_eq!(first.any().unwrap_err(), Malformed);
        assert!(fields.optional(0xa1).unwrap().is_none());
        assert!(fields.end().is_err());
        assert_eq!(fields.optional(0xa2).unwrap().unwrap().content, [4, 0]);
        assert!(fields.end().is_ok());
        for cut in 0..bytes.len() {
            assert!(Fields::of_sequence(&bytes[..cut]).is_err(), "{cut}");
        }
        let more = [bytes, vec![0]].concat();
        assert!(Fields::of_sequence(&more).is_err());
    }

    #[test]
    fn a_bit_string_has_whole_bytes_and_a_time_counts_from_1970() {
        let field = |bytes| Fields::within(bytes).unwrap().any().unwrap();
        assert_eq!(field(&[3, 2, 0, 9]).bits(), Ok(&[9][..]));
        assert_eq!(field(&[3, 2, 1, 8]).bits(), Err(Malformed));
        assert_eq!(field(b"\x18\x0f20270601000000Z").time(), Ok(1_811_808_000));
        assert_eq!(field(b"\x18\x0f20271301000000Z").time(), Err(Malformed));
    }
}
