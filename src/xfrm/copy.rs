//! An SA made of what the kernel told of another: its keys, counters and limits as they are, its
//! addresses and UDP encapsulation new.

use std::net::IpAddr;

use super::message::{Answer, Requests, attribute, flag, kind};
use super::message::{CURRENT_LIFETIME_LEN, SELECTOR_LEN, STATE_ALIGN4, STATE_ESN, STATISTICS_LEN};
use super::message::{USERSA_INFO_LEN, address_family, u16_at, u32_at};
use crate::kernel::entry::IpProtocol;
use crate::wire::spi::EspSpi;

/// How a copy relates to the SA that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Another destination, so both can stand at once.
    Beside,
    /// The same destination and SPI: the one before must go first.
    Instead,
    /// Only the ports of the encapsulation change; the SA stays the same one.
    InPlace,
}

/// One SA to be.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a> {
    /// What the kernel told of the SA before: the body of its `NEW_SA` message.
    pub told: &'a [u8],
    /// How the copy relates to it.
    pub way: Way,
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// SPI at the destination.
    pub spi: EspSpi,
    /// Of its packets.
    pub protocol: IpProtocol,
    /// UDP encapsulation: source and destination port.
    pub encap: Option<(u16, u16)>,
    /// Sequence numbers left out.
    pub skip: u32,
}

/// Whether an SA can be made of what the kernel told. A kernel in lockdown tells no keys but zeros,
/// and what is encrypted with those is encrypted with nothing.
pub fn is_whole(told: &[u8]) -> bool {
    if told.len() < USERSA_INFO_LEN {
        return false;
    }
    Attributes::of(told).all(|(number, value)| match number {
        attribute::ALG_CRYPT => has_key(value, 68),
        attribute::ALG_AEAD | attribute::ALG_AUTH_TRUNC => has_key(value, 72),
        _ => true,
    })
}

/// Whether it is encapsulated in UDP.
pub fn is_encapsulated(told: &[u8]) -> bool {
    Attributes::of(told).any(|(number, _)| number == attribute::ENCAP)
}

/// The algorithm's name comes first, then the bits of its key.
fn has_key(value: &[u8], key_at: usize) -> bool {
    let bits = u32_at(value, 64);
    bits == Some(0)
        || value
            .get(key_at..)
            .is_some_and(|key| key.iter().any(|&byte| byte != 0))
}

/// The attributes behind `xfrm_usersa_info`.
struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    fn of(told: &'a [u8]) -> Self {
        Self(told.get(USERSA_INFO_LEN..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let len = usize::from(u16_at(self.0, 0)?);
        let number = u16_at(self.0, 2)? & ATTRIBUTE_NUMBER;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((number, value))
    }
}

impl Requests {
    /// Adds the copy of an SA, or changes the ports of the one that stands. Nothing is added where
    /// the kernel told too little.
    pub fn copy_sa(&mut self, seq: u32, copy: &Copy<'_>) {
        let Some(info) = copy.told.get(..USERSA_INFO_LEN) else {
            return;
        };
        let part = |from: usize, to: usize| info.get(from..to).unwrap_or_default();
        let message_kind = match copy.way {
            Way::Beside | Way::Instead => kind::NEW_SA,
            Way::InPlace => kind::UPD_SA,
        };
        self.begin(message_kind, flag::REQUEST, seq);
        self.zeros(SELECTOR_LEN);
        self.address(copy.destination);
        self.raw(part(72, 80));
        self.address(copy.source);
        self.raw(part(96, 160));
        self.zeros(CURRENT_LIFETIME_LEN + STATISTICS_LEN + 4);
        self.raw(part(208, 212));
        self.u16(address_family(copy.destination));
        self.raw(part(214, 216));
        let mut flags = part(216, 217).first().copied().unwrap_or(0);
        if copy.protocol == IpProtocol::Ah {
            flags &= !STATE_ALIGN4;
            flags |= if copy.destination.is_ipv4() {
                STATE_ALIGN4
            } else {
                0
            };
        }
        self.raw(&[flags]);
        self.zeros(7);
        for (number, value) in Attributes::of(copy.told) {
            self.copy_attribute(number, value, copy.skip, flags & STATE_ESN != 0);
        }
        if let Some(ports) = copy.encap {
            self.encapsulation(ports);
        }
        // What was counted so far: limits of time and bytes hold for both together.
        let at = self.begin_attribute(attribute::LTIME_VAL);
        self.raw(part(160, 192));
        self.end_attribute(at);
        self.end();
    }

    fn copy_attribute(&mut self, number: u16, value: &[u8], skip: u32, esn: bool) {
        let left_out = [
            attribute::ENCAP,
            attribute::LASTUSED,
            attribute::PAD,
            // The same as ALG_AUTH_TRUNC, without the length of the checksum.
            attribute::ALG_AUTH,
        ];
        if left_out.contains(&number) {
            return;
        }
        let at = self.begin_attribute(number);
        match number {
            attribute::REPLAY_VAL => self.skip_ahead(value, 0, None, skip),
            attribute::REPLAY_ESN_VAL => {
                self.skip_ahead(value, 4, esn.then_some(12), skip);
            }
            _ => self.raw(value),
        }
        self.end_attribute(at);
    }

    /// A replay state whose next outbound sequence number is `skip` later. Near the end of the
    /// numbers it stays as it is.
    fn skip_ahead(&mut self, value: &[u8], low_at: usize, high_at: Option<usize>, skip: u32) {
        let mut value = value.to_vec();
        let low = u32_at(&value, low_at).unwrap_or(0);
        let high = high_at.and_then(|at| u32_at(&value, at));
        let next = match high {
            Some(high) => (u64::from(high) << 32 | u64::from(low)).checked_add(u64::from(skip)),
            None => low.checked_add(skip).map(u64::from),
        };
        let fields = next.map(|next| (next as u32, (next >> 32) as u32));
        if let Some((new_low, new_high)) = fields {
            let places = [(Some(low_at), new_low), (high_at, new_high)];
            for (at, number) in places {
                let field = at.and_then(|at| value.get_mut(at..at + 4));
                if let Some(field) = field {
                    field.copy_from_slice(&number.to_ne_bytes());
                }
            }
        }
        self.raw(&value);
    }
}

impl<'a> Answer<'a> {
    /// What a `GET_SA` told, for a copy.
    pub fn whole_sa(&self) -> Option<&'a [u8]> {
        (self.kind == kind::NEW_SA).then_some(self.body)
    }
}

/// The two top bits of an attribute's type are flags.
const ATTRIBUTE_NUMBER: u16 = 0x3fff;

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
