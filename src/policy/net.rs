//! IP networks as configuration and kernel selectors write them: an address and a prefix length.
//! Host bits are kept as written (`10.0.0.5/24` stays that), as in OpenIKED; a range that is no
//! prefix is covered by several. Nothing here resolves names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with a prefix length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpNet {
    /// The address, host bits included.
    pub addr: IpAddr,
    /// Prefix length in bits; more than the family has counts as all of them.
    pub len: u8,
}

impl IpNet {
    /// All IPv4 addresses.
    pub const ANY_V4: Self = Self {
        addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        len: 0,
    };
    /// All IPv6 addresses.
    pub const ANY_V6: Self = Self {
        addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        len: 0,
    };

    /// The network of one address.
    pub const fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            len: bits_of(addr),
        }
    }

    /// Whether this is IPv4.
    pub const fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// Whether the prefix names one address only.
    pub const fn is_host(&self) -> bool {
        self.len >= bits_of(self.addr)
    }

    /// The same network without host bits.
    pub fn network(&self) -> Self {
        Self {
            addr: self.first(),
            len: self.len.min(bits_of(self.addr)),
        }
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        from_number(to_number(self.addr) & !self.host_mask(), self.is_ipv4())
    }

    /// The highest address (for IPv4 networks the broadcast address).
    pub fn last(&self) -> IpAddr {
        from_number(to_number(self.addr) | self.host_mask(), self.is_ipv4())
    }

    /// Whether the address lies inside; never for another family.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.is_ipv4() == addr.is_ipv4()
            && (to_number(self.addr) ^ to_number(addr)) & !self.host_mask() == 0
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    /// The fewest prefixes that together are `start..=end`, in ascending order: at most 62 for IPv4
    /// and 254 for IPv6. Nothing for an inverted range or one of two families.
    pub fn range_to_nets(start: IpAddr, end: IpAddr) -> Vec<Self> {
        let mut nets = Vec::new();
        if start.is_ipv4() != end.is_ipv4() {
            return nets;
        }
        let bits = bits_of(start);
        let (mut next, end) = (to_number(start), to_number(end));
        while next <= end {
            // The block may be no larger than the alignment of its start and what is left.
            let aligned = if next == 0 {
                u32::from(bits)
            } else {
                next.trailing_zeros()
            };
            let left = match (end - next).checked_add(1) {
                Some(count) => count.ilog2(),
                None => u128::BITS,
            };
            let host_bits = aligned.min(left).min(u32::from(bits));
            let len = bits - host_bits as u8;
            nets.push(Self {
                addr: from_number(next, start.is_ipv4()),
                len,
            });
            let step = 1u128
                .checked_shl(host_bits)
                .and_then(|step| next.checked_add(step));
            match step {
                Some(step) => next = step,
                None => break,
            }
        }
        nets
    }

    fn host_mask(&self) -> u128 {
        let bits = bits_of(self.addr);
        let host_bits = u32::from(bits - self.len.min(bits));
        1u128
            .checked_shl(host_bits)
            .map_or(u128::MAX, |above| above - 1)
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const fn bits_of(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn to_number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}

fn from_number(number: u128, ipv4: bool) -> IpAddr {
    if ipv4 {
        // The callers keep to the low 32 bits for IPv4.
        IpAddr::V4(Ipv4Addr::from((number & u128::from(u32::MAX)) as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn net(text: &str, len: u8) -> IpNet {
        IpNet {
            addr: addr(text),
            len,
        }
    }

    fn cover(start: &str, end: &str) -> Vec<String> {
        let nets = IpNet::range_to_nets(addr(start), addr(end));
        nets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn host_bits_are_kept_but_do_not_count() {
        let written = net("10.0.0.5", 24);
        assert_eq!(written.to_string(), "10.0.0.5/24");
        assert_eq!(written.network().to_string(), "10.0.0.0/24");
        assert_eq!(
            (written.first(), written.last()),
            (addr("10.0.0.0"), addr("10.0.0.255"))
        );
        assert!(written.contains(addr("10.0.0.200")) && !written.contains(addr("10.0.1.0")));
    }

    #[test]
    fn families_never_mix() {
        assert!(!IpNet::ANY_V4.contains(addr("::")) && !IpNet::ANY_V6.contains(addr("0.0.0.0")));
        assert!(!IpNet::ANY_V4.overlaps(&IpNet::ANY_V6));
        assert_eq!(IpNet::range_to_nets(addr("10.0.0.1"), addr("::9")), []);
    }

    #[test]
    fn any_and_hosts_are_the_two_ends() {
        assert_eq!(IpNet::ANY_V4.last(), addr("255.255.255.255"));
        assert_eq!(
            IpNet::ANY_V6.last(),
            addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
        );
        let host = IpNet::host(addr("2001:db8::1"));
        assert!(host.is_host() && host.first() == host.last() && host.len == 128);
        assert_eq!(net("10.0.0.1", 200).first(), addr("10.0.0.1"));
    }

    #[test]
    fn overlap_is_containment_of_one_in_the_other() {
        assert!(net("10.0.0.0", 8).overlaps(&net("10.1.0.0", 16)));
        assert!(net("10.1.0.0", 16).overlaps(&net("10.0.0.0", 8)));
        assert!(!net("10.1.0.0", 16).overlaps(&net("10.2.0.0", 16)));
    }

    #[test]
    fn ranges_are_covered_by_the_fewest_prefixes() {
        assert_eq!(cover("10.0.0.0", "10.0.0.255"), ["10.0.0.0/24"]);
        assert_eq!(cover("10.0.0.7", "10.0.0.7"), ["10.0.0.7/32"]);
        assert_eq!(
            cover("10.0.0.1", "10.0.0.4"),
            ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]
        );
        assert_eq!(cover("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(
            cover("255.255.255.254", "255.255.255.255"),
            ["255.255.255.254/31"]
        );
        assert_eq!(
            cover("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ["::/0"]
        );
        assert_eq!(cover("::1", "::2"), ["::1/128", "::2/128"]);
        assert_eq!(cover("10.0.0.9", "10.0.0.1"), Vec::<String>::new());
    }

    #[test]
    fn the_worst_ranges_stay_bounded() {
        let v4 = IpNet::range_to_nets(addr("0.0.0.1"), addr("255.255.255.254"));
        assert_eq!(v4.len(), 62);
        let end = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe";
        assert_eq!(IpNet::range_to_nets(addr("::1"), addr(end)).len(), 254);
    }
}
