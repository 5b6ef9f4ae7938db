//! The payloads of RFC 7296, 3.4 to 3.16 that are a few fixed fields and data, and the enum of all.

use super::codec::{DecodeError, DecodeErrorKind, Reader, put_u16};
use super::cp::{self, Cp};
use super::registry::{
    AuthMethod, CertEncoding, IdType, KeId, NotifyType, PayloadType, ProtocolId,
};
use super::spi::EspSpi;
use super::{Proposals, Selectors, sa, ts};

/// One payload, borrowed from its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Security Association, 3.3.
    Sa(Proposals<'a>),
    /// Key Exchange, 3.4.
    Ke(Ke<'a>),
    /// Identification of the initiator, 3.5.
    IdI(Id<'a>),
    /// Identification of the responder, 3.5.
    IdR(Id<'a>),
    /// Certificate, 3.6.
    Cert(Cert<'a>),
    /// Certificate Request, 3.7.
    CertReq(CertReq<'a>),
    /// Authentication, 3.8.
    Auth(Auth<'a>),
    /// Nonce, 3.9: 16 to 256 bytes.
    Nonce(&'a [u8]),
    /// Notify, 3.10.
    Notify(Notify<'a>),
    /// Delete, 3.11.
    Delete(Delete<'a>),
    /// Vendor ID, 3.12.
    VendorId(&'a [u8]),
    /// Traffic selectors of the initiator, 3.13.
    TsI(Selectors),
    /// Traffic selectors of the responder, 3.13.
    TsR(Selectors),
    /// Encrypted and Authenticated, 3.14; always the last.
    Sk(Sk<'a>),
    /// Encrypted and Authenticated Fragment, RFC 7383, 2.5; always the last.
    Skf(Skf<'a>),
    /// Configuration, 3.15.
    Cp(Cp<'a>),
    /// EAP message, 3.16.
    Eap(&'a [u8]),
    /// A payload type not known here, not critical: skipped by every exchange.
    Unknown(UnknownPayload<'a>),
}

/// Key Exchange: the method and the public value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ke<'a> {
    /// The method.
    pub method: KeId,
    /// The public value.
    pub data: &'a [u8],
}

/// Identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<'a> {
    /// ID type.
    pub kind: IdType,
    /// Identification data.
    pub data: &'a [u8],
}

impl Id<'_> {
    /// The payload body as it enters the signed octets (RFC 7296, 2.15): type, reserved, data.
    pub fn body(&self) -> Vec<u8> {
        let mut body = vec![self.kind.0, 0, 0, 0];
        body.extend_from_slice(self.data);
        body
    }
}

/// Certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cert<'a> {
    /// What the data are.
    pub encoding: CertEncoding,
    /// The certificate, key or CRL.
    pub data: &'a [u8],
}

/// Certificate Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertReq<'a> {
    /// What is asked for.
    pub encoding: CertEncoding,
    /// SHA-1 hashes of the keys of trusted authorities.
    pub data: &'a [u8],
}

/// Authentication.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// The method.
    pub method: AuthMethod,
    /// The signature or MAC.
    pub data: &'a [u8],
}

impl std::fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({}, {} bytes)", self.method, self.data.len())
    }
}

/// Notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify<'a> {
    /// The protocol of the SPI, or none.
    pub protocol: ProtocolId,
    /// The SA concerned, where it is not the IKE SA.
    pub spi: &'a [u8],
    /// Notify message type.
    pub kind: NotifyType,
    /// Notification data.
    pub data: &'a [u8],
}

/// Delete: SPIs of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    /// IKE (no SPIs), AH or ESP.
    pub protocol: ProtocolId,
    /// Bytes of each SPI.
    pub spi_size: u8,
    /// The SPIs, one after the other.
    pub spis: &'a [u8],
}

impl<'a> Delete<'a> {
    /// How many SPIs there are.
    pub fn count(&self) -> usize {
        self.spis
            .len()
            .checked_div(usize::from(self.spi_size))
            .unwrap_or(0)
    }

    /// The SPIs of a Delete for AH or ESP; those of a wrong size or value are passed over.
    pub fn esp_spis(&self) -> impl Iterator<Item = EspSpi> + 'a {
        let spis = if self.spi_size == 4 { self.spis } else { &[] };
        spis.chunks_exact(4)
            .filter_map(|spi| <[u8; 4]>::try_from(spi).ok())
            .filter_map(EspSpi::from_bytes)
    }
}

/// Where the encrypted part of a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sk<'a> {
    /// Type of the first payload inside.
    pub first_inner: PayloadType,
    /// Offset of the IV in the message.
    pub body_at: usize,
    /// IV, ciphertext and checksum.
    pub body: &'a [u8],
}

/// Where the encrypted part of a fragment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skf<'a> {
    /// Type of the first payload inside; only in fragment 1, else 0.
    pub first_inner: PayloadType,
    /// Fragment number, from 1.
    pub number: u16,
    /// How many fragments there are.
    pub total: u16,
    /// Offset of the IV in the message.
    pub body_at: usize,
    /// IV, ciphertext and checksum.
    pub body: &'a [u8],
}

/// A payload of a type not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPayload<'a> {
    /// Its type.
    pub kind: PayloadType,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> Payload<'a> {
    /// The payload type.
    pub const fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SA,
            Self::Ke(_) => PayloadType::KE,
            Self::IdI(_) => PayloadType::ID_I,
            Self::IdR(_) => PayloadType::ID_R,
            Self::Cert(_) => PayloadType::CERT,
            Self::CertReq(_) => PayloadType::CERTREQ,
            Self::Auth(_) => PayloadType::AUTH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Delete(_) => PayloadType::DELETE,
            Self::VendorId(_) => PayloadType::VENDOR_ID,
            Self::TsI(_) => PayloadType::TS_I,
            Self::TsR(_) => PayloadType::TS_R,
            Self::Sk(_) => PayloadType::SK,
            Self::Skf(_) => PayloadType::SKF,
            Self::Cp(_) => PayloadType::CP,
            Self::Eap(_) => PayloadType::EAP,
            Self::Unknown(unknown) => unknown.kind,
        }
    }

    /// Decodes the body of a payload that is not SK or SKF.
    pub(super) fn decode(kind: PayloadType, body: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            PayloadType::SA => Self::Sa(sa::decode(body)?),
            PayloadType::KE => Self::Ke(decode_ke(body)?),
            PayloadType::ID_I => Self::IdI(decode_id(body)?),
            PayloadType::ID_R => Self::IdR(decode_id(body)?),
            PayloadType::CERT => {
                let (encoding, data) = encoding_and_data(body, "CERT")?;
                Self::Cert(Cert { encoding, data })
            }
            PayloadType::CERTREQ => {
                let (encoding, data) = encoding_and_data(body, "CERTREQ")?;
                Self::CertReq(CertReq { encoding, data })
            }
            PayloadType::AUTH => Self::Auth(decode_auth(body)?),
            PayloadType::NONCE => Self::Nonce(decode_nonce(body)?),
            PayloadType::NOTIFY => Self::Notify(decode_notify(body)?),
            PayloadType::DELETE => Self::Delete(decode_delete(body)?),
            PayloadType::VENDOR_ID => Self::VendorId(body),
            PayloadType::TS_I => Self::TsI(ts::decode(body)?),
            PayloadType::TS_R => Self::TsR(ts::decode(body)?),
            PayloadType::CP => Self::Cp(cp::decode(body)?),
            PayloadType::EAP => Self::Eap(body),
            kind => Self::Unknown(UnknownPayload { kind, body }),
        })
    }

    /// Appends the body, without the generic header.
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sa(proposals) => sa::encode(proposals, out),
            Self::Ke(ke) => {
                put_u16(out, ke.method.0);
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(ke.data);
            }
            Self::IdI(id) | Self::IdR(id) => {
                out.extend_from_slice(&[id.kind.0, 0, 0, 0]);
                out.extend_from_slice(id.data);
            }
            Self::Cert(Cert { encoding, data }) | Self::CertReq(CertReq { encoding, data }) => {
                out.push(encoding.0);
                out.extend_from_slice(data);
            }
            Self::Auth(auth) => {
                out.extend_from_slice(&[auth.method.0, 0, 0, 0]);
                out.extend_from_slice(auth.data);
            }
            Self::Notify(notify) => {
                out.push(notify.protocol.0);
                out.push(u8::try_from(notify.spi.len()).unwrap_or(u8::MAX));
                put_u16(out, notify.kind.0);
                out.extend_from_slice(notify.spi);
                out.extend_from_slice(notify.data);
            }
            Self::Delete(delete) => {
                out.push(delete.protocol.0);
                out.push(delete.spi_size);
                put_u16(out, u16::try_from(delete.count()).unwrap_or(u16::MAX));
                out.extend_from_slice(delete.spis);
            }
            Self::TsI(selectors) | Self::TsR(selectors) => ts::encode(selectors, out),
            Self::Skf(skf) => {
                put_u16(out, skf.number);
                put_u16(out, skf.total);
                out.extend_from_slice(skf.body);
            }
            Self::Cp(payload) => cp::encode(payload, out),
            Self::Sk(Sk { body, .. }) | Self::Unknown(UnknownPayload { body, .. }) => {
                out.extend_from_slice(body);
            }
            Self::Nonce(bytes) | Self::VendorId(bytes) | Self::Eap(bytes) => {
                out.extend_from_slice(bytes);
            }
        }
    }
}

fn decode_ke(body: &[u8]) -> Result<Ke<'_>, DecodeError> {
    let mut reader = Reader::new(body, "KE");
    let method = KeId(reader.u16()?);
    let _reserved = reader.u16()?;
    if reader.is_empty() {
        return Err(reader.error(DecodeErrorKind::Truncated));
    }
    Ok(Ke {
        method,
        data: reader.rest(),
    })
}

fn decode_id(body: &[u8]) -> Result<Id<'_>, DecodeError> {
    let mut reader = Reader::new(body, "ID");
    let kind = IdType(reader.u8()?);
    let _reserved = reader.take(3)?;
    Ok(Id {
        kind,
        data: reader.rest(),
    })
}

fn encoding_and_data<'a>(
    body: &'a [u8],
    what: &'static str,
) -> Result<(CertEncoding, &'a [u8]), DecodeError> {
    let mut reader = Reader::new(body, what);
    Ok((CertEncoding(reader.u8()?), reader.rest()))
}

fn decode_auth(body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    let mut reader = Reader::new(body, "AUTH");
    let method = AuthMethod(reader.u8()?);
    let _reserved = reader.take(3)?;
    Ok(Auth {
        method,
        data: reader.rest(),
    })
}

pub(super) fn decode_nonce(body: &[u8]) -> Result<&[u8], DecodeError> {
    // RFC 7296, 3.9.
    if (16..=256).contains(&body.len()) {
        Ok(body)
    } else {
        Err(DecodeError {
            what: "nonce",
            kind: DecodeErrorKind::Length,
        })
    }
}

fn decode_notify(body: &[u8]) -> Result<Notify<'_>, DecodeError> {
    let mut reader = Reader::new(body, "notify");
    let protocol = ProtocolId(reader.u8()?);
    let spi_size = reader.u8()?;
    let kind = NotifyType(reader.u16()?);
    let spi = reader.take(usize::from(spi_size))?;
    Ok(Notify {
        protocol,
        spi,
        kind,
        data: reader.rest(),
    })
}

fn decode_delete(body: &[u8]) -> Result<Delete<'_>, DecodeError> {
    let mut reader = Reader::new(body, "delete");
    let protocol = ProtocolId(reader.u8()?);
    let spi_size = reader.u8()?;
    let count = reader.u16()?;
    let spis = reader.rest();
    let expected = usize::from(spi_size) * usize::from(count);
    if spis.len() != expected || (spi_size == 0 && count != 0) {
        return Err(reader.error(DecodeErrorKind::Length));
    }
    Ok(Delete {
        protocol,
        spi_size,
        spis,
    })
}
