//! RADIUS (RFC 2865, 2866, 3579, 5176) as bytes and values: no sockets, no clocks. What a client of
//! ours sends and believes, and what a client of the other direction may tell us.

pub mod dae;
pub mod packet;
pub mod reply;
pub mod request;

pub use packet::{Builder, Code, Fault, Packet};
pub use reply::{Reply, Verdict};
pub use request::{Facts, Figures, Moment};

/// Attributes by number.
pub mod attribute {
    /// The name that the peer gives itself.
    pub const USER_NAME: u8 = 1;
    /// Our IPv4 address.
    pub const NAS_IP_ADDRESS: u8 = 4;
    /// What is asked for.
    pub const SERVICE_TYPE: u8 = 6;
    /// The address that the peer gets.
    pub const FRAMED_IP_ADDRESS: u8 = 8;
    /// Text for the user.
    pub const REPLY_MESSAGE: u8 = 18;
    /// Handed back to the server as it was.
    pub const STATE: u8 = 24;
    /// Handed to the accounting server as it was.
    pub const CLASS: u8 = 25;
    /// What only a vendor knows.
    pub const VENDOR_SPECIFIC: u8 = 26;
    /// Seconds after which the peer must go.
    pub const SESSION_TIMEOUT: u8 = 27;
    /// Where the peer called.
    pub const CALLED_STATION_ID: u8 = 30;
    /// Where the peer called from.
    pub const CALLING_STATION_ID: u8 = 31;
    /// Our name.
    pub const NAS_IDENTIFIER: u8 = 32;
    /// What an accounting record is about.
    pub const ACCT_STATUS_TYPE: u8 = 40;
    /// Bytes from the peer, modulo 2^32.
    pub const ACCT_INPUT_OCTETS: u8 = 42;
    /// Bytes to the peer, modulo 2^32.
    pub const ACCT_OUTPUT_OCTETS: u8 = 43;
    /// The name of an IKE SA.
    pub const ACCT_SESSION_ID: u8 = 44;
    /// How the peer was let in.
    pub const ACCT_AUTHENTIC: u8 = 45;
    /// Seconds that the peer has been here.
    pub const ACCT_SESSION_TIME: u8 = 46;
    /// Packets from the peer.
    pub const ACCT_INPUT_PACKETS: u8 = 47;
    /// Packets to the peer.
    pub const ACCT_OUTPUT_PACKETS: u8 = 48;
    /// Why the peer went.
    pub const ACCT_TERMINATE_CAUSE: u8 = 49;
    /// How often 2^32 bytes from the peer have been exceeded (RFC 2869).
    pub const ACCT_INPUT_GIGAWORDS: u8 = 52;
    /// How often 2^32 bytes to the peer have been exceeded.
    pub const ACCT_OUTPUT_GIGAWORDS: u8 = 53;
    /// When it happened.
    pub const EVENT_TIMESTAMP: u8 = 55;
    /// What kind of port.
    pub const NAS_PORT_TYPE: u8 = 61;
    /// What kind of tunnel.
    pub const TUNNEL_TYPE: u8 = 64;
    /// Up to 253 bytes of an EAP packet (RFC 3579).
    pub const EAP_MESSAGE: u8 = 79;
    /// HMAC-MD5 of the whole packet (RFC 3579).
    pub const MESSAGE_AUTHENTICATOR: u8 = 80;
    /// Seconds between accounting records.
    pub const ACCT_INTERIM_INTERVAL: u8 = 85;
    /// The port's name.
    pub const NAS_PORT_ID: u8 = 87;
    /// Our IPv6 address.
    pub const NAS_IPV6_ADDRESS: u8 = 95;
    /// Lower half of the peer's IPv6 address (RFC 3162).
    pub const FRAMED_INTERFACE_ID: u8 = 96;
    /// The peer's IPv6 network.
    pub const FRAMED_IPV6_PREFIX: u8 = 97;
    /// Why a request of the other direction failed (RFC 5176).
    pub const ERROR_CAUSE: u8 = 101;
    /// The address that the peer gets (RFC 6911).
    pub const FRAMED_IPV6_ADDRESS: u8 = 168;
}

#[cfg(test)]
mod tests;
