//! IPComp (RFC 7296, 2.22; RFC 3173): packets of a Child SA are compressed with DEFLATE before they
//! are encrypted, where both ends want it. Each end names its own SA by a CPI.

use super::context::Context;
use super::ike_sa::IkeSa;
use crate::kernel::Cpis;
use crate::wire::Payload;
use crate::wire::registry::NotifyType;
use crate::wire::spi::Cpi;
use crate::wire::{Notify, TrafficSelector};

/// The CPI under which the peer takes what is compressed with DEFLATE, if it says so.
pub fn said(payloads: &[Payload<'_>]) -> Option<Cpi> {
    payloads.iter().find_map(|payload| {
        let Payload::Notify(notify) = payload else {
            return None;
        };
        heard(notify)
    })
}

/// The same of one notification.
pub fn heard(notify: &Notify<'_>) -> Option<Cpi> {
    if notify.kind != NotifyType::IPCOMP_SUPPORTED {
        return None;
    }
    match *notify.data {
        [high, low, DEFLATE] => Cpi::new(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

/// The data of IPCOMP_SUPPORTED (RFC 7296, 3.10.1).
pub fn data(cpi: Cpi) -> [u8; 3] {
    let [high, low] = cpi.to_bytes();
    [high, low, DEFLATE]
}

/// A CPI of ours for a Child SA with these selectors, if it can have one: Linux compresses only what
/// goes into packets of the same family.
pub fn draw<'a>(
    cx: &mut Context,
    sa: &IkeSa,
    mut selectors: impl Iterator<Item = &'a TrafficSelector>,
) -> Option<Cpi> {
    let v4 = sa.path.local.is_ipv4();
    selectors
        .all(|selector| selector.is_ipv4() == v4)
        .then_some(())?;
    cx.draw_cpi()
}

/// Both CPIs, where the peer has given one that none of its Child SAs has.
pub fn pair(sa: &IkeSa, inbound: Cpi, outbound: Cpi) -> Option<Cpis> {
    let mut taken = sa.children.iter().filter_map(|child| child.names.ipcomp);
    let free = taken.all(|cpis| cpis.outbound != outbound);
    free.then_some(Cpis { inbound, outbound })
}

/// IPCOMP_DEFLATE (RFC 7296, 3.10.1).
const DEFLATE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn said_with(data: &[u8]) -> Option<Cpi> {
        let (spi, protocol) = (&[][..], Default::default());
        let kind = NotifyType::IPCOMP_SUPPORTED;
        said(&[Payload::Notify(Notify {
            protocol,
            spi,
            kind,
            data,
        })])
    }

    #[test]
    fn only_deflate_under_a_cpi_that_may_be_negotiated_is_taken() {
        assert_eq!(said_with(&[0x12, 0x34, 2]), Cpi::new(0x1234));
        assert_eq!(said_with(&data(Cpi::new(256).unwrap())), Cpi::new(256));
        // OUI and LZS; well-known CPIs and private ones; too short and too long.
        for data in [
            &[0x12, 0x34, 1][..],
            &[0x12, 0x34, 3],
            &[0, 2, 2],
            &[0xf0, 0, 2],
            &[0x12, 0x34],
            &[0x12, 0x34, 2, 0],
            &[],
        ] {
            assert_eq!(said_with(data), None, "{data:?}");
        }
    }
}
