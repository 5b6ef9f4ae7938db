//! Traffic selectors, RFC 7296, 3.13.

use std::fmt;
use std::net::IpAddr;

use super::Selectors;
use super::codec::{DecodeError, DecodeErrorKind, Reader, patch_length, put_u16};
use super::registry::TsType;

/// One range of addresses, ports and a protocol.
///
/// ```text
/// +---------------+---------------+-------------------------------+
/// |   TS Type     |IP Protocol ID |       Selector Length         |
/// |          Start Port           |           End Port            |
/// |                       Starting Address                        |
/// |                        Ending Address                         |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// First port; 65535 with an end of 0 is OPAQUE.
    pub start_port: u16,
    /// Last port.
    pub end_port: u16,
    /// First address.
    pub start: IpAddr,
    /// Last address, of the same family.
    pub end: IpAddr,
}

impl TrafficSelector {
    /// Whether this is an IPv4 range.
    pub const fn is_ipv4(&self) -> bool {
        self.start.is_ipv4()
    }

    /// Whether both ranges run forward within one family.
    pub fn is_valid(&self) -> bool {
        self.start.is_ipv4() == self.end.is_ipv4()
            && self.start <= self.end
            && self.start_port <= self.end_port
    }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)?;
        if self.protocol != 0 || self.start_port != 0 || self.end_port != u16::MAX {
            write!(
                f,
                "[{}/{}-{}]",
                self.protocol, self.start_port, self.end_port
            )?;
        }
        Ok(())
    }
}

pub(super) fn decode(body: &[u8]) -> Result<Selectors, DecodeError> {
    let mut reader = Reader::new(body, "TS");
    let count = reader.u8()?;
    let _reserved = reader.take(3)?;
    if count == 0 {
        return Err(reader.error(DecodeErrorKind::Value));
    }
    let mut selectors = Selectors::new();
    for _ in 0..count {
        let kind = TsType(reader.u8()?);
        let protocol = reader.u8()?;
        let length = reader.u16()?;
        let mut inner = reader.body(length, 4)?;
        if kind != TsType::IPV4_ADDR_RANGE && kind != TsType::IPV6_ADDR_RANGE {
            continue;
        }
        let (start_port, end_port) = (inner.u16()?, inner.u16()?);
        let (start, end) = if kind == TsType::IPV4_ADDR_RANGE {
            (
                IpAddr::from(inner.array::<4>()?),
                IpAddr::from(inner.array::<4>()?),
            )
        } else {
            (
                IpAddr::from(inner.array::<16>()?),
                IpAddr::from(inner.array::<16>()?),
            )
        };
        inner.finish()?;
        selectors.push(TrafficSelector {
            protocol,
            start_port,
            end_port,
            start,
            end,
        });
    }
    reader.finish()?;
    Ok(selectors)
}

pub(super) fn encode(selectors: &[TrafficSelector], out: &mut Vec<u8>) {
    out.push(u8::try_from(selectors.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(&[0, 0, 0]);
    for selector in selectors {
        let start = out.len();
        let kind = if selector.is_ipv4() {
            TsType::IPV4_ADDR_RANGE
        } else {
            TsType::IPV6_ADDR_RANGE
        };
        out.push(kind.0);
        out.push(selector.protocol);
        out.extend_from_slice(&[0, 0]);
        put_u16(out, selector.start_port);
        put_u16(out, selector.end_port);
        for address in [selector.start, selector.end] {
            match address {
                IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
            }
        }
        patch_length(out, start + 2, start);
    }
}
