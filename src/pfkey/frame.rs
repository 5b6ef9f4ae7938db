//! What every dialect of PF_KEY version 2 shares (RFC 2367, 2): one header, then extensions, all of
//! them in units of 8 bytes; integers in the machine's order, SPIs and ports in network order.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::kernel::Volume;
use crate::wire::spi::EspSpi;

/// Message types that all dialects have, SADB_* of RFC 2367.
pub(super) mod kind {
    /// Reserve an SPI.
    pub const GETSPI: u8 = 1;
    /// Change an SA, or make one of a reserved SPI.
    pub const UPDATE: u8 = 2;
    /// Add an SA.
    pub const ADD: u8 = 3;
    /// Delete an SA.
    pub const DELETE: u8 = 4;
    /// Ask for an SA.
    pub const GET: u8 = 5;
    /// A packet needs an SA that is not there.
    pub const ACQUIRE: u8 = 6;
    /// Ask to be told about SAs of one type.
    pub const REGISTER: u8 = 7;
    /// An SA reached a lifetime.
    pub const EXPIRE: u8 = 8;
    /// Tell all SAs; the last one has the sequence number 0.
    pub const DUMP: u8 = 10;
}

/// One message for one send; wiped when dropped.
#[derive(Debug)]
pub struct Request {
    bytes: Zeroizing<Vec<u8>>,
}

/// `sadb_lifetime`: what ends an SA; zero is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) packets: u32,
    pub(super) bytes: u64,
    /// Since it was added.
    pub(super) time: Duration,
}

impl Request {
    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn begin(message_kind: u8, sa_type: u8, seq: u32, pid: u32) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(REQUEST_LEN_MAX));
        bytes.extend_from_slice(&[PF_KEY_V2, message_kind, 0, sa_type, 0, 0, 0, 0]);
        bytes.extend_from_slice(&seq.to_ne_bytes());
        bytes.extend_from_slice(&pid.to_ne_bytes());
        Self { bytes }
    }

    pub(super) fn end(mut self) -> Self {
        let units = (self.bytes.len() / 8) as u16;
        if let Some(field) = self.bytes.get_mut(4..6) {
            field.copy_from_slice(&units.to_ne_bytes());
        }
        self
    }

    pub(super) fn extension(&mut self, number: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        body(&mut self.bytes);
        let len = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(len, 0);
        let units = ((len - at) / 8) as u16;
        if let Some(field) = self.bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&units.to_ne_bytes());
        }
    }

    pub(super) fn lifetime(&mut self, number: u16, limits: Limits) {
        self.extension(number, |out| {
            out.extend_from_slice(&limits.packets.to_ne_bytes());
            out.extend_from_slice(&limits.bytes.to_ne_bytes());
            out.extend_from_slice(&limits.time.as_secs().to_ne_bytes());
            out.extend_from_slice(&[0; 8]);
        });
    }

    pub(super) fn key(&mut self, number: u16, key: &[u8]) {
        let bits = key.len() as u16 * 8;
        self.extension(number, |out| {
            out.extend_from_slice(&bits.to_ne_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(key);
        });
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Message type.
    pub kind: u8,
    /// errno, 0 for success.
    pub errno: u8,
    /// Of the request.
    pub seq: u32,
    /// Of the process that asked.
    pub pid: u32,
    pub(super) sa_type: u8,
    extensions: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads one datagram; `None` if it is not one whole message of this version.
    pub fn decode(datagram: &'a [u8]) -> Option<Self> {
        let [version, message_kind, errno, sa_type] = *datagram.first_chunk()?;
        let units = usize::from(u16_at(datagram, 4)?);
        (version == PF_KEY_V2 && units * 8 == datagram.len()).then_some(())?;
        Some(Self {
            kind: message_kind,
            errno,
            seq: u32_at(datagram, 8)?,
            pid: u32_at(datagram, 12)?,
            sa_type,
            extensions: datagram.get(HEADER_LEN..)?,
        })
    }

    /// What has gone through the SA that this tells.
    pub fn volume(&self) -> Option<Volume> {
        let current = self.find(extension::LIFETIME_CURRENT)?;
        Some(Volume {
            packets: u32_at(current, 4)?.into(),
            octets: u64_at(current, 8)?,
        })
    }

    pub(super) fn spi(&self) -> Option<EspSpi> {
        EspSpi::from_bytes(self.find(extension::SA)?.get(4..8)?.try_into().ok()?)
    }

    /// The extension with this number, its header included.
    pub(super) fn find(&self, number: u16) -> Option<&'a [u8]> {
        let mut rest = self.extensions;
        loop {
            let len = usize::from(u16_at(rest, 0)?) * 8;
            let found = rest.get(..len).filter(|found| !found.is_empty())?;
            if u16_at(found, 2)? == number {
                return Some(found);
            }
            rest = rest.get(len..)?;
        }
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Extension types of RFC 2367, SADB_EXT_*.
pub(super) mod extension {
    pub(in super::super) const SA: u16 = 1;
    pub(in super::super) const LIFETIME_CURRENT: u16 = 2;
    pub(in super::super) const LIFETIME_HARD: u16 = 3;
    pub(in super::super) const LIFETIME_SOFT: u16 = 4;
    pub(in super::super) const ADDRESS_SRC: u16 = 5;
    pub(in super::super) const ADDRESS_DST: u16 = 6;
    pub(in super::super) const KEY_AUTH: u16 = 8;
    pub(in super::super) const KEY_ENCRYPT: u16 = 9;
}

/// SADB_SASTATE_*.
pub(super) mod state {
    pub(in super::super) const LARVAL: u8 = 0;
    pub(in super::super) const MATURE: u8 = 1;
    pub(in super::super) const DYING: u8 = 2;
}

const PF_KEY_V2: u8 = 2;
/// Length of `sadb_msg`.
pub(super) const HEADER_LEN: usize = 16;
/// An SADB_ADD with both keys and IPv6 addresses has less than 512 bytes: keys are never moved.
const REQUEST_LEN_MAX: usize = 1024;
