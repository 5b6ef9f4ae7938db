//! What we tell a server of a peer: in every Access-Request, and in the records of its use.

use std::net::IpAddr;

use super::attribute as a;
use super::packet::Builder;

/// What is known of a peer and does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The name it gives itself, or what the server calls it.
    pub user: Vec<u8>,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// The initiator's SPI: names the session, and its port.
    pub session: u64,
}

impl Facts {
    /// An Access-Request that carries this EAP packet, and what the server wants back.
    pub fn access(&self, eap: &[u8], state: Option<&[u8]>) -> Builder {
        let mut builder = Builder::default();
        self.put(&mut builder);
        builder.put_eap(eap);
        if let Some(state) = state {
            builder.put(a::STATE, state);
        }
        builder
    }

    fn put(&self, builder: &mut Builder) {
        if !self.user.is_empty() {
            builder.put(a::USER_NAME, &self.user);
        }
        put_nas(builder, self.local);
        builder.put_number(a::NAS_PORT_TYPE, PORT_VIRTUAL);
        builder.put_number(a::SERVICE_TYPE, SERVICE_FRAMED);
        // The tag in its first byte is zero: there is only one tunnel.
        builder.put_number(a::TUNNEL_TYPE, TUNNEL_ESP);
        let session = format!("{:016x}", self.session);
        builder.put(a::NAS_PORT_ID, session.as_bytes());
        builder.put(a::ACCT_SESSION_ID, session.as_bytes());
        builder.put(a::CALLED_STATION_ID, self.local.to_string().as_bytes());
        builder.put(a::CALLING_STATION_ID, self.remote.to_string().as_bytes());
    }

    /// An accounting record of this moment (RFC 2866).
    pub fn record(&self, moment: Moment, figures: &Figures) -> Builder {
        let mut builder = Builder::default();
        builder.put_number(a::ACCT_STATUS_TYPE, moment.status());
        self.put(&mut builder);
        builder.put_number(a::ACCT_AUTHENTIC, AUTHENTIC_RADIUS);
        builder.put_number(a::EVENT_TIMESTAMP, figures.at);
        for class in &figures.class {
            builder.put(a::CLASS, class);
        }
        for address in &figures.addresses {
            match address {
                IpAddr::V4(address) => builder.put(a::FRAMED_IP_ADDRESS, &address.octets()),
                IpAddr::V6(address) => builder.put(a::FRAMED_IPV6_ADDRESS, &address.octets()),
            }
        }
        if moment == Moment::Start {
            return builder;
        }
        builder.put_number(a::ACCT_SESSION_TIME, figures.seconds);
        let [input, output] = figures.octets;
        let low = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
        let high = |value: u64| u32::try_from(value >> 32).unwrap_or(u32::MAX);
        builder.put_number(a::ACCT_INPUT_OCTETS, low(input));
        builder.put_number(a::ACCT_INPUT_GIGAWORDS, high(input));
        builder.put_number(a::ACCT_OUTPUT_OCTETS, low(output));
        builder.put_number(a::ACCT_OUTPUT_GIGAWORDS, high(output));
        let [input, output] = figures.packets;
        builder.put_number(a::ACCT_INPUT_PACKETS, low(input));
        builder.put_number(a::ACCT_OUTPUT_PACKETS, low(output));
        if let Moment::Stop(cause) = moment {
            builder.put_number(a::ACCT_TERMINATE_CAUSE, cause as u32);
        }
        builder
    }
}

/// That we have begun, or end (RFC 2866, 5.1): nobody is connected any more.
pub fn whole_record(on: bool, local: IpAddr, at: u32) -> Builder {
    let mut builder = Builder::default();
    let status = if on { STATUS_ON } else { STATUS_OFF };
    builder.put_number(a::ACCT_STATUS_TYPE, status);
    put_nas(&mut builder, local);
    builder.put_number(a::EVENT_TIMESTAMP, at);
    builder
}

fn put_nas(builder: &mut Builder, local: IpAddr) {
    match local {
        IpAddr::V4(address) => builder.put(a::NAS_IP_ADDRESS, &address.octets()),
        IpAddr::V6(address) => builder.put(a::NAS_IPV6_ADDRESS, &address.octets()),
    }
    builder.put(a::NAS_IDENTIFIER, NAS_IDENTIFIER);
}

/// What an accounting record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The peer is in.
    Start,
    /// It still is.
    Interim,
    /// It is gone.
    Stop(Cause),
}

impl Moment {
    const fn status(self) -> u32 {
        match self {
            Self::Start => 1,
            Self::Stop(_) => 2,
            Self::Interim => 3,
        }
    }
}

/// Why a peer went (RFC 2866, 5.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It said so.
    UserRequest = 1,
    /// It was not heard of any more.
    LostCarrier = 2,
    /// It might not stay longer.
    SessionTimeout = 5,
    /// The operator, or the server, said so.
    AdminReset = 6,
    /// This daemon ends.
    AdminReboot = 7,
    /// We had a reason of our own.
    NasRequest = 10,
}

/// What is counted and may change from record to record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// When it happened, in seconds since 1970.
    pub at: u32,
    /// Seconds that the peer has been in.
    pub seconds: u32,
    /// Bytes from the peer, and to it.
    pub octets: [u64; 2],
    /// Packets from the peer, and to it.
    pub packets: [u64; 2],
    /// What the server wants handed on.
    pub class: Vec<Vec<u8>>,
    /// The peer's addresses inside.
    pub addresses: Vec<IpAddr>,
}

/// What we call ourselves.
pub const NAS_IDENTIFIER: &[u8] = b"iked";
const PORT_VIRTUAL: u32 = 5;
const SERVICE_FRAMED: u32 = 2;
const TUNNEL_ESP: u32 = 9;
const AUTHENTIC_RADIUS: u32 = 1;
const STATUS_ON: u32 = 7;
const STATUS_OFF: u32 = 8;
