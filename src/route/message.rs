//! Bytes of NETLINK_ROUTE that concern addresses (linux/rtnetlink.h, linux/if_addr.h).

use std::net::IpAddr;

/// Multicast groups, RTNLGRP_*.
pub mod group {
    /// IPv4 addresses.
    pub const IPV4_IFADDR: u32 = 5;
    /// IPv6 addresses.
    pub const IPV6_IFADDR: u32 = 9;
}

/// What one message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// An address that this host may send from.
    Address(IpAddr),
    /// The end of a dump.
    Done,
    /// The request failed; errno, positive.
    Error(i32),
    /// Nothing of interest.
    Other,
}

/// A message: its sequence number, whether the table changed while it was dumped, and what it says.
pub type Message = (u32, bool, Told);

/// Asks for all addresses of both families.
pub fn dump_addresses(seq: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + IFADDRMSG_LEN);
    let len = (HEADER_LEN + IFADDRMSG_LEN) as u32;
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&GET_ADDR.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | DUMP).to_ne_bytes());
    bytes.extend_from_slice(&seq.to_ne_bytes());
    bytes.resize(HEADER_LEN + IFADDRMSG_LEN, 0);
    bytes
}

/// The messages of one datagram, up to the first malformed one.
pub fn read(mut datagram: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some((one, rest)) = split(datagram) {
        all.push(one);
        datagram = rest;
    }
    all
}

fn split(datagram: &[u8]) -> Option<(Message, &[u8])> {
    let len = u32_at(datagram, 0)? as usize;
    let body = datagram.get(..len)?.get(HEADER_LEN..)?;
    let told = match u16_at(datagram, 4)? {
        ERROR => Told::Error((u32_at(body, 0)? as i32).saturating_neg()),
        DONE => Told::Done,
        NEW_ADDR => address(body).map_or(Told::Other, Told::Address),
        _ => Told::Other,
    };
    let interrupted = u16_at(datagram, 6)? & DUMP_INTR != 0;
    let seq = u32_at(datagram, 8)?;
    let rest = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some(((seq, interrupted, told), rest))
}

/// The address of `ifaddrmsg` and its attributes; `None`: nobody may use it (yet).
fn address(body: &[u8]) -> Option<IpAddr> {
    let family = i32::from(*body.first()?);
    let mut flags = u32::from(*body.get(2)?);
    let (mut local, mut address) = (None, None);
    let mut attributes = body.get(IFADDRMSG_LEN..)?;
    while let Some(len) = u16_at(attributes, 0).map(usize::from) {
        let value = attributes.get(4..len)?;
        match u16_at(attributes, 2)? {
            IFA_ADDRESS => address = ip(family, value),
            IFA_LOCAL => local = ip(family, value),
            IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
        attributes = attributes
            .get(len.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    let usable = flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0 || flags & IFA_F_OPTIMISTIC != 0;
    // On a point-to-point link IFA_ADDRESS is the other end.
    local.or(address).filter(|_| usable)
}

fn ip(family: i32, value: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        libc::AF_INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

const HEADER_LEN: usize = 16;
const IFADDRMSG_LEN: usize = 8;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_ADDR: u16 = 20;
const GET_ADDR: u16 = 22;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const DUMP_INTR: u16 = 0x10;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, seq: u32, body: &[u8]) -> Vec<u8> {
        let len = (HEADER_LEN + body.len()) as u32;
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&seq.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes
    }

    fn told_address(family: i32, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family as u8, 24, flags, 0, 2, 0, 0, 0];
        for (kind, value) in attributes {
            body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    #[test]
    fn a_dump_gives_our_own_end_of_each_link_and_its_end() {
        let tunnel = told_address(
            libc::AF_INET,
            0x80,
            &[
                (IFA_ADDRESS, &[10, 0, 0, 2]),
                (IFA_LOCAL, &[10, 0, 0, 1]),
                (3, b"tun0\0"),
            ],
        );
        let mut v6 = [0; 16];
        (v6[0], v6[15]) = (0xfd, 7);
        let network = told_address(libc::AF_INET6, 0, &[(IFA_ADDRESS, &v6)]);
        let mut datagram = message(NEW_ADDR, 2, 7, &tunnel);
        datagram.extend(message(NEW_ADDR, 2 | DUMP_INTR, 7, &network));
        datagram.extend(message(DONE, 2, 7, &[0; 4]));
        assert_eq!(
            read(&datagram),
            [
                (7, false, Told::Address("10.0.0.1".parse().unwrap())),
                (7, true, Told::Address("fd00::7".parse().unwrap())),
                (7, false, Told::Done),
            ]
        );
    }

    #[test]
    fn an_address_that_is_not_yet_proven_unique_is_none() {
        let at = [(IFA_ADDRESS, &[0xfd; 16][..])];
        let tentative = told_address(libc::AF_INET6, 0x40, &at);
        assert_eq!(
            read(&message(NEW_ADDR, 2, 1, &tentative)),
            [(1, false, Told::Other)]
        );
        // The attribute has all flags and wins over the byte.
        let flags = 0x40u32.to_ne_bytes();
        let attributes = [at[0], (IFA_FLAGS, &flags[..])];
        let tentative = told_address(libc::AF_INET6, 0, &attributes);
        assert_eq!(
            read(&message(NEW_ADDR, 2, 1, &tentative)),
            [(1, false, Told::Other)]
        );
    }

    #[test]
    fn malformed_messages_end_the_datagram_and_harm_nobody() {
        let refusal = message(ERROR, 0, 3, &(-13i32).to_ne_bytes());
        assert_eq!(read(&refusal), [(3, false, Told::Error(13))]);
        let good = told_address(libc::AF_INET, 0, &[(IFA_ADDRESS, &[10, 0, 0, 2])]);
        let whole = message(NEW_ADDR, 2, 1, &good);
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_empty(), "{len} bytes");
        }
        let mut lying = whole;
        lying[24..26].copy_from_slice(&3u16.to_ne_bytes());
        assert_eq!(read(&lying), [(1, false, Told::Other)]);
        lying[0..4].copy_from_slice(&2u32.to_ne_bytes());
        assert!(read(&lying).is_empty());
    }
}
