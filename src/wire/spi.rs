//! Security Parameter Indexes: the 8-byte ones that name an IKE SA (RFC 7296, 3.1) and the
//! 4-byte ones that name an ESP or AH SA (RFC 4303, 2.1). Two types, so they are never mixed up;
//! zero is no SPI, so it is `None`.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

/// One half of an IKE SA's name: 8 bytes, never zero (RFC 7296, 2.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IkeSpi(NonZeroU64);

impl IkeSpi {
    /// The greatest SPI.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// The SPI with this value, or `None` for zero ("not yet known").
    pub const fn new(value: u64) -> Option<Self> {
        match NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The SPI in these eight bytes, big-endian as on the wire.
    pub const fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        Self::new(u64::from_be_bytes(bytes))
    }

    /// The eight bytes as they stand on the wire.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }

    /// The value, never zero.
    pub const fn value(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

impl fmt::Debug for IkeSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of one ESP or AH SA at its receiver: 4 bytes; 1 to 255 are reserved (RFC 4303, 2.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EspSpi(NonZeroU32);

impl EspSpi {
    /// The greatest SPI.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// The SPI with this value, or `None` for zero.
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The SPI in these four bytes, big-endian as on the wire.
    pub const fn from_bytes(bytes: [u8; 4]) -> Option<Self> {
        Self::new(u32::from_be_bytes(bytes))
    }

    /// The four bytes as they stand on the wire.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.get().to_be_bytes()
    }

    /// The value, never zero.
    pub const fn value(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for EspSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for EspSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of one SA of IPComp at its receiver (RFC 3173, 3.3): of the 16 bits those values that two
/// ends negotiate, 256 to 61439.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpi(NonZeroU16);

impl Cpi {
    /// The least that may be negotiated.
    pub const LEAST: u16 = 256;
    /// The greatest that may be negotiated.
    pub const GREATEST: u16 = 61_439;

    /// The CPI with this value, if it may be negotiated.
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(cpi) if value >= Self::LEAST && value <= Self::GREATEST => Some(Self(cpi)),
            Some(_) | None => None,
        }
    }

    /// The two bytes as they stand on the wire.
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.get().to_be_bytes()
    }

    /// As kernels keep it: in the place of the SPI of ESP.
    pub fn as_spi(self) -> EspSpi {
        EspSpi(NonZeroU32::from(self.0))
    }
}

impl fmt::Display for Cpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_spi(), f)
    }
}

impl fmt::Debug for Cpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
