//! EAP packets (RFC 3748, 4): code, identifier, length, and for requests and responses a type with
//! its data.

use crate::policy::EapMethod;

/// The code of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Of the server.
    Request = 1,
    /// Of the peer.
    Response = 2,
    /// The peer is let in.
    Success = 3,
    /// It is not.
    Failure = 4,
}

/// A packet as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What it is.
    pub code: Code,
    /// Counts requests; a response has that of its request.
    pub identifier: u8,
    /// Type and data of a request or a response.
    pub body: Option<(u8, &'a [u8])>,
}

impl<'a> Packet<'a> {
    /// Reads a packet that fills `bytes`.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&[code, identifier, high, low], rest) = bytes.split_first_chunk::<4>()?;
        let code = [Code::Request, Code::Response, Code::Success, Code::Failure]
            .into_iter()
            .find(|known| *known as u8 == code)?;
        let body = rest.split_first().map(|(kind, data)| (*kind, data));
        // Only these two have data, and always a type.
        let right = matches!(code, Code::Request | Code::Response) == body.is_some();
        let length = usize::from(u16::from_be_bytes([high, low]));
        (right && length == bytes.len()).then_some(Self {
            code,
            identifier,
            body,
        })
    }

    /// Type and data, if it is a response to the request with this identifier.
    pub fn answers(&self, identifier: u8) -> Option<(u8, &'a [u8])> {
        let good = self.code == Code::Response && self.identifier == identifier;
        self.body.filter(|_| good)
    }
}

/// A request or a response.
pub fn build(code: Code, identifier: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 5).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    [&[code as u8, identifier, high, low, kind], data].concat()
}

/// A packet without data.
pub fn end(code: Code, identifier: u8) -> Vec<u8> {
    vec![code as u8, identifier, 0, 4]
}

/// The type of a method; `None`: it is not done here.
pub(super) const fn type_of(method: EapMethod) -> Option<u8> {
    match method {
        EapMethod::Md5 => Some(MD5),
        EapMethod::Gtc => Some(GTC),
        EapMethod::MsChapV2 => Some(MSCHAPV2),
        EapMethod::Tls => Some(TLS),
        EapMethod::Radius => None,
    }
}

/// The type that asks for a name.
pub const IDENTITY: u8 = 1;
pub(super) const NOTIFICATION: u8 = 2;
pub(super) const NAK: u8 = 3;
pub(super) const MD5: u8 = 4;
pub(super) const GTC: u8 = 6;
pub(super) const TLS: u8 = 13;
pub(super) const MSCHAPV2: u8 = 26;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_whole_or_not_at_all() {
        let packet = build(Code::Response, 7, IDENTITY, b"alice");
        assert_eq!(packet, b"\x02\x07\x00\x0a\x01alice");
        let read = Packet::read(&packet).unwrap();
        assert_eq!(read.answers(7), Some((IDENTITY, b"alice".as_slice())));
        assert_eq!(read.answers(8), None);
        for len in 0..packet.len() {
            assert!(Packet::read(&packet[..len]).is_none(), "{len}");
        }
        // A request is no answer; a Success has no data, a request some; code 5 is nothing.
        let request = build(Code::Request, 7, IDENTITY, b"");
        assert_eq!(Packet::read(&request).unwrap().answers(7), None);
        assert!(Packet::read(&end(Code::Success, 7)).is_some());
        assert!(Packet::read(&end(Code::Request, 7)).is_none());
        assert!(Packet::read(&[3, 7, 0, 5, 1]).is_none());
        assert!(Packet::read(&[5, 7, 0, 5, 1]).is_none());
    }
}
