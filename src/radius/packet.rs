//! Packets and attributes (RFC 2865, 3 and 5): total decoding, and the proofs that a packet carries.

use crate::crypto::md5::{hmac_md5, md5, same};
use crate::radius::attribute;

/// The code of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// May this peer come in?
    pub const ACCESS_REQUEST: Self = Self(1);
    /// It may.
    pub const ACCESS_ACCEPT: Self = Self(2);
    /// It may not.
    pub const ACCESS_REJECT: Self = Self(3);
    /// Something happened.
    pub const ACCOUNTING_REQUEST: Self = Self(4);
    /// It is written down.
    pub const ACCOUNTING_RESPONSE: Self = Self(5);
    /// Ask the peer this first.
    pub const ACCESS_CHALLENGE: Self = Self(11);
    /// That peer must go (RFC 5176).
    pub const DISCONNECT_REQUEST: Self = Self(40);
    /// It is gone.
    pub const DISCONNECT_ACK: Self = Self(41);
    /// It is not.
    pub const DISCONNECT_NAK: Self = Self(42);
    /// That peer gets other rights.
    pub const COA_REQUEST: Self = Self(43);
    /// It has them.
    pub const COA_ACK: Self = Self(44);
    /// It has not.
    pub const COA_NAK: Self = Self(45);
}

/// Why a packet does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Lengths that contradict each other.
    #[error("malformed packet")]
    Malformed,
    /// Not made with the secret that we share, or for another request.
    #[error("bad authenticator")]
    Authenticator,
    /// Nothing that protects the whole of it, or something that does not fit.
    #[error("bad or missing Message-Authenticator")]
    MessageAuthenticator,
    /// Made too long ago, or by a clock that is far off.
    #[error("old")]
    Old,
    /// A code that answers something else.
    #[error("unexpected code")]
    Code,
    /// A key that cannot be decrypted.
    #[error("malformed key")]
    Key,
    /// No EAP packet where there must be one.
    #[error("no EAP packet")]
    Eap,
}

/// A packet whose lengths are right; nothing else is said of it yet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What it is.
    pub code: Code,
    /// Which request it is, or answers.
    pub identifier: u8,
    /// A random number, or a proof.
    pub authenticator: [u8; 16],
    attributes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a datagram. What comes after the packet is padding (RFC 2865, 3).
    pub fn decode(datagram: &'a [u8]) -> Result<Self, Fault> {
        let (header, _) = datagram
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Fault::Malformed)?;
        let [code, identifier, high, low, authenticator @ ..] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > PACKET_MAX {
            return Err(Fault::Malformed);
        }
        let attributes = datagram.get(HEADER_LEN..length).ok_or(Fault::Malformed)?;
        let mut rest = attributes;
        while !rest.is_empty() {
            (_, rest) = split(rest).ok_or(Fault::Malformed)?;
        }
        Ok(Self {
            code: Code(code),
            identifier,
            authenticator,
            attributes,
        })
    }

    /// All attributes in order.
    pub fn attributes(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.attributes;
        std::iter::from_fn(move || {
            let (attribute, more) = split(rest)?;
            rest = more;
            Some(attribute)
        })
    }

    /// The values of one attribute.
    pub fn all(&self, kind: u8) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let found = self.attributes().filter(move |(found, _)| *found == kind);
        found.map(|(_, value)| value)
    }

    /// The first value of one attribute.
    pub fn first(&self, kind: u8) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    /// The first value of one attribute, if it is a number.
    pub fn number(&self, kind: u8) -> Option<u32> {
        let value = self.first(kind)?;
        value.try_into().ok().map(u32::from_be_bytes)
    }

    /// Vendors' attributes: vendor, attribute, value. One that is not made as RFC 2865, 5.26
    /// recommends is passed over.
    pub fn vendor(&self) -> impl Iterator<Item = (u32, u8, &'a [u8])> + use<'a> {
        self.all(attribute::VENDOR_SPECIFIC).flat_map(|value| {
            let (vendor, mut rest) = value.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
            let vendor = u32::from_be_bytes(*vendor);
            std::iter::from_fn(move || {
                let ((kind, value), more) = split(rest)?;
                rest = more;
                Some((vendor, kind, value))
            })
        })
    }

    /// The pieces of an EAP packet put together (RFC 3579, 3.1).
    pub fn eap(&self) -> Vec<u8> {
        self.all(attribute::EAP_MESSAGE)
            .collect::<Vec<_>>()
            .concat()
    }

    /// Checks an answer to the request with this authenticator. With `protected` it must carry a
    /// Message-Authenticator: without one an attacker on the way can turn a refusal into a welcome.
    pub fn verify_answer(
        &self,
        secret: &[u8],
        request: &[u8; 16],
        protected: bool,
    ) -> Result<(), Fault> {
        let proof = md5(&[&self.start(), request, self.attributes, secret]);
        if !same(&proof, &self.authenticator) {
            return Err(Fault::Authenticator);
        }
        if protected {
            return self.verify_message(secret, request);
        }
        Ok(())
    }

    /// Checks a request of the other direction (RFC 5176, 2.3); a Message-Authenticator is checked
    /// where there is one.
    pub fn verify_request(&self, secret: &[u8]) -> Result<(), Fault> {
        let proof = md5(&[&self.start(), &[0; 16], self.attributes, secret]);
        if !same(&proof, &self.authenticator) {
            return Err(Fault::Authenticator);
        }
        match self.first(attribute::MESSAGE_AUTHENTICATOR) {
            Some(_) => self.verify_message(secret, &[0; 16]),
            None => Ok(()),
        }
    }

    fn verify_message(&self, secret: &[u8], authenticator: &[u8; 16]) -> Result<(), Fault> {
        let mut found = self.all(attribute::MESSAGE_AUTHENTICATOR);
        let (Some(value), None) = (found.next(), found.next()) else {
            return Err(Fault::MessageAuthenticator);
        };
        let claimed: &[u8; 16] = value.try_into().map_err(|_| Fault::MessageAuthenticator)?;
        let mut blanked = Vec::with_capacity(self.attributes.len());
        for (kind, value) in self.attributes() {
            if kind == attribute::MESSAGE_AUTHENTICATOR {
                push(&mut blanked, kind, &[0; 16]);
            } else {
                push(&mut blanked, kind, value);
            }
        }
        let proof = hmac_md5(secret, &[&self.start(), authenticator, &blanked]);
        if same(&proof, claimed) {
            Ok(())
        } else {
            Err(Fault::MessageAuthenticator)
        }
    }

    /// The header without its authenticator.
    fn start(&self) -> [u8; 4] {
        start(self.code, self.identifier, self.attributes.len())
    }
}

/// A packet that is being made.
#[derive(Debug, Default)]
pub struct Builder {
    attributes: Vec<u8>,
}

impl Builder {
    /// Appends an attribute; what does not fit into one is cut off.
    pub fn put(&mut self, kind: u8, value: &[u8]) {
        let value = value.get(..VALUE_MAX).unwrap_or(value);
        push(&mut self.attributes, kind, value);
    }

    /// Appends a number.
    pub fn put_number(&mut self, kind: u8, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends an EAP packet, in as many pieces as it takes.
    pub fn put_eap(&mut self, packet: &[u8]) {
        for piece in packet.chunks(VALUE_MAX) {
            self.put(attribute::EAP_MESSAGE, piece);
        }
    }

    /// An Access-Request: its Message-Authenticator comes first, before what others can choose.
    pub fn access_request(
        self,
        identifier: u8,
        authenticator: &[u8; 16],
        secret: &[u8],
    ) -> Vec<u8> {
        self.protected(Code::ACCESS_REQUEST, identifier, authenticator, secret)
    }

    /// An answer of a server; with `protected` it carries a Message-Authenticator.
    pub fn answer(
        self,
        code: Code,
        identifier: u8,
        request: &[u8; 16],
        secret: &[u8],
        protected: bool,
    ) -> Vec<u8> {
        let mut packet = if protected {
            self.protected(code, identifier, request, secret)
        } else {
            self.plain(code, identifier, request)
        };
        sign(&mut packet, secret);
        packet
    }

    /// A request that is signed with the secret itself: accounting, and the other direction.
    pub fn signed_request(self, code: Code, identifier: u8, secret: &[u8]) -> Vec<u8> {
        let mut packet = self.plain(code, identifier, &[0; 16]);
        sign(&mut packet, secret);
        packet
    }

    fn plain(self, code: Code, identifier: u8, authenticator: &[u8; 16]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER_LEN + self.attributes.len());
        packet.extend(start(code, identifier, self.attributes.len()));
        packet.extend(authenticator);
        packet.extend(self.attributes);
        packet
    }

    fn protected(
        self,
        code: Code,
        identifier: u8,
        authenticator: &[u8; 16],
        secret: &[u8],
    ) -> Vec<u8> {
        let mut whole = Self::default();
        whole.put(attribute::MESSAGE_AUTHENTICATOR, &[0; 16]);
        whole.attributes.extend(self.attributes);
        let mut packet = whole.plain(code, identifier, authenticator);
        let proof = hmac_md5(secret, &[&packet]);
        // Behind the header, and behind the attribute's own.
        if let Some(place) = packet.get_mut(HEADER_LEN + 2..HEADER_LEN + 18) {
            place.copy_from_slice(&proof);
        }
        packet
    }
}

/// Writes the authenticator that proves the secret over the one that stands there.
fn sign(packet: &mut [u8], secret: &[u8]) {
    let proof = md5(&[packet, secret]);
    if let Some(place) = packet.get_mut(4..HEADER_LEN) {
        place.copy_from_slice(&proof);
    }
}

fn start(code: Code, identifier: u8, attributes_len: usize) -> [u8; 4] {
    let length = u16::try_from(HEADER_LEN + attributes_len).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    [code.0, identifier, high, low]
}

fn push(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let length = u8::try_from(value.len() + 2).unwrap_or(u8::MAX);
    out.extend([kind, length]);
    out.extend_from_slice(value);
}

type Split<'a> = ((u8, &'a [u8]), &'a [u8]);

/// Type and value of the first attribute, and what follows it.
fn split(bytes: &[u8]) -> Option<Split<'_>> {
    let (&[kind, length], _) = bytes.split_first_chunk::<2>()?;
    let (attribute, rest) = bytes.split_at_checked(usize::from(length))?;
    Some(((kind, attribute.get(2..)?), rest))
}

const HEADER_LEN: usize = 20;
/// RFC 2865, 3.
pub const PACKET_MAX: usize = 4096;
const VALUE_MAX: usize = 253;
