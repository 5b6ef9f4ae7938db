//! The IKE header, RFC 7296, 3.1.

use super::codec::{DecodeError, DecodeErrorKind, Reader};
use super::registry::{ExchangeType, PayloadType};
use super::spi::IkeSpi;

/// The IKE header.
///
/// ```text
///                      1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-------------------------------+-------------------------------+
/// |                   IKE SA Initiator's SPI (8)                  |
/// |                   IKE SA Responder's SPI (8)                  |
/// +---------------+-------+-------+---------------+---------------+
/// | Next Payload  | MjVer | MnVer | Exchange Type |     Flags     |
/// |                          Message ID                           |
/// |                            Length                             |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the original initiator of the IKE SA.
    pub initiator_spi: Option<IkeSpi>,
    /// Chosen by the original responder; `None` in the first message.
    pub responder_spi: Option<IkeSpi>,
    /// Type of the first payload.
    pub next_payload: PayloadType,
    /// Major version, 2.
    pub major: u8,
    /// Minor version, 0; ignored when received.
    pub minor: u8,
    /// The exchange.
    pub exchange: ExchangeType,
    /// Role and direction.
    pub flags: Flags,
    /// Message ID.
    pub message_id: u32,
    /// Length of the whole message in bytes, as the sender says.
    pub length: u32,
}

/// The flags of the IKE header; reserved bits are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags {
    /// The sender is the original initiator of the IKE SA.
    pub initiator: bool,
    /// The sender could do a higher major version.
    pub version: bool,
    /// This is a response.
    pub response: bool,
}

impl Header {
    /// Bytes of an IKE header.
    pub const LEN: usize = 28;

    /// Reads the fields and judges none of them: enough to route a datagram.
    pub fn peek(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "header");
        let initiator_spi = IkeSpi::from_bytes(reader.array()?);
        let responder_spi = IkeSpi::from_bytes(reader.array()?);
        let next_payload = PayloadType(reader.u8()?);
        let version = reader.u8()?;
        let exchange = ExchangeType(reader.u8()?);
        let flags = reader.u8()?;
        let message_id = reader.u32()?;
        let length = reader.u32()?;
        Ok(Self {
            initiator_spi,
            responder_spi,
            next_payload,
            major: version >> 4,
            minor: version & 0x0f,
            exchange,
            flags: Flags {
                initiator: flags & INITIATOR != 0,
                version: flags & VERSION != 0,
                response: flags & RESPONSE != 0,
            },
            message_id,
            length,
        })
    }

    /// Reads the fields and demands major version 2 and the true length.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header = Self::peek(bytes)?;
        let error = |kind| DecodeError {
            what: "header",
            kind,
        };
        if header.major != 2 {
            return Err(error(DecodeErrorKind::Version(header.major)));
        }
        if usize::try_from(header.length) != Ok(bytes.len()) {
            return Err(error(DecodeErrorKind::Length));
        }
        Ok(header)
    }

    /// Appends the 28 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.initiator_spi.map_or([0; 8], IkeSpi::to_bytes));
        out.extend_from_slice(&self.responder_spi.map_or([0; 8], IkeSpi::to_bytes));
        out.push(self.next_payload.0);
        out.push(self.major << 4 | self.minor & 0x0f);
        out.push(self.exchange.0);
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            bit(self.flags.initiator, INITIATOR)
                | bit(self.flags.version, VERSION)
                | bit(self.flags.response, RESPONSE),
        );
        out.extend_from_slice(&self.message_id.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
    }
}

const INITIATOR: u8 = 0x08;
const VERSION: u8 = 0x10;
const RESPONSE: u8 = 0x20;
