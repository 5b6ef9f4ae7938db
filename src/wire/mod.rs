//! Bytes to values and back, RFC 7296, section 3 and RFC 7383; no state, no crypto.
//!
//! Decoding borrows from the datagram and is total: any bytes give a message or a [`DecodeError`].
//! What a message means is not decided here.

pub mod announce;
pub mod codec;
pub mod cp;
pub mod header;
pub mod message;
pub mod payload;
pub mod print;
pub mod registry;
pub mod sa;
pub mod sk;
pub mod spi;
pub mod ts;

#[cfg(test)]
mod tests;

pub use announce::Announcement;
pub use codec::{DecodeError, DecodeErrorKind};
pub use cp::{CfgAttribute, Cp};
pub use header::{Flags, Header};
pub use message::{Message, decode_payloads, encode_message, encode_payloads};
pub use payload::{Auth, Cert, CertReq, Delete, Id, Ke, Notify, Payload, Sk, Skf, UnknownPayload};
pub use sa::{Proposal, Transform, TransformId};
pub use ts::TrafficSelector;
