//! Bytes to values and back, RFC 7296, section 3 and RFC 7383; no state, no crypto.
//!
//! Decoding borrows from the datagram and is total: any bytes give a message or a [`DecodeError`].
//! What a message means is not decided here.

pub mod announce;
pub mod codec;
pub mod cp;
pub mod header;
pub mod list;
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
pub use list::List;
pub use message::{
    Message, Sealed, decode_payloads, decode_sealed, encode_message, encode_payloads,
    nonce_without_cookie,
};
pub use payload::{Auth, Cert, CertReq, Delete, Id, Ke, Notify, Payload, Sk, Skf, UnknownPayload};
pub use sa::{Proposal, Transform, TransformId};
pub use ts::TrafficSelector;

/// The payloads of a message. This list and those within stand where the message is decoded, and
/// take memory of their own only for more than peers commonly send.
pub type Payloads<'a> = List<Payload<'a>, 16>;
/// The proposals of an SA payload.
pub type Proposals<'a> = List<Proposal<'a>, 1>;
/// The transforms of a proposal.
pub type Transforms = List<Transform, 8>;
/// The selectors of one side.
pub type Selectors = List<TrafficSelector, 2>;
/// The attributes of a configuration payload.
pub type CfgAttributes<'a> = List<CfgAttribute<'a>, 4>;
