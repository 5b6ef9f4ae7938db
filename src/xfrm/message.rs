//! Bytes of NETLINK_XFRM (linux/netlink.h, linux/xfrm.h): what we send and what we read.
//! Integers are in the machine's order, ports and SPIs in network order. No sockets here.

use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use super::algorithm::{Algorithms, Encr};
use crate::kernel::entry::{Direction, IpProtocol, Layer, Offload, Template};
use crate::kernel::{SelectorPair, Volume};
use crate::policy::IfId;
use crate::wire::spi::EspSpi;

/// Message types, XFRM_MSG_*.
pub mod kind {
    /// An error or acknowledgement, of netlink itself.
    pub const ERROR: u16 = 2;
    /// The end of a dump, of netlink itself.
    pub const DONE: u16 = 3;
    /// Add an SA.
    pub const NEW_SA: u16 = 0x10;
    /// Delete an SA.
    pub const DEL_SA: u16 = 0x11;
    /// Ask for an SA, or with `DUMP` for all.
    pub const GET_SA: u16 = 0x12;
    /// A policy, as a dump tells it.
    pub const NEW_POLICY: u16 = 0x13;
    /// Delete a policy.
    pub const DEL_POLICY: u16 = 0x14;
    /// A packet needs an SA that is not there.
    pub const ACQUIRE: u16 = 0x17;
    /// Ask for policies.
    pub const GET_POLICY: u16 = 0x15;
    /// An SA reached a lifetime.
    pub const EXPIRE: u16 = 0x18;
    /// Change an SA.
    pub const UPD_SA: u16 = 0x1a;
    /// Add or replace a policy.
    pub const UPD_POLICY: u16 = 0x19;
    /// How the kernel finds policies.
    pub const NEW_SPD_INFO: u16 = 0x24;
    /// Ask for that.
    pub const GET_SPD_INFO: u16 = 0x25;
    /// ESP in UDP comes from a new place.
    pub const MAPPING: u16 = 0x26;
}

/// Netlink flags.
pub mod flag {
    /// On every request.
    pub const REQUEST: u16 = 1;
    /// Answer also when all went well.
    pub const ACK: u16 = 4;
    /// All there are (`ROOT | MATCH`).
    pub const DUMP: u16 = 0x300;
}

/// Multicast groups, XFRMNLGRP_*.
pub mod group {
    /// `ACQUIRE` messages.
    pub const ACQUIRE: u32 = 1;
    /// `EXPIRE` messages.
    pub const EXPIRE: u32 = 2;
    /// `MAPPING` messages.
    pub const MAPPING: u32 = 8;
}

/// XFRM_POLICY_*.
const fn number(direction: Direction) -> u8 {
    match direction {
        Direction::In => 0,
        Direction::Out => 1,
        Direction::Forward => 2,
    }
}

/// One SA with the kernel's names of its algorithms.
pub type SaEntry<'a> = crate::kernel::entry::SaEntry<'a, Algorithms>;

/// Requests for one send, wiped when dropped: they carry keys.
#[derive(Debug)]
pub struct Requests {
    bytes: Zeroizing<Vec<u8>>,
    message_at: usize,
    last_at: Option<usize>,
}

impl Requests {
    /// Empty; grows past `capacity` only at the price of unwiped copies of keys.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Zeroizing::new(Vec::with_capacity(capacity)),
            message_at: 0,
            last_at: None,
        }
    }

    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.last_at.is_none()
    }

    /// Asks for an answer to the last message even when it goes well: it tells that all are done.
    pub fn acknowledge_last(&mut self) {
        let Some(at) = self.last_at else { return };
        if let Some(flags) = self.bytes.get_mut(at + 6..at + 8) {
            flags.copy_from_slice(&(flag::REQUEST | flag::ACK).to_ne_bytes());
        }
    }

    /// Adds an SA.
    pub fn new_sa(&mut self, seq: u32, sa: &SaEntry<'_>) {
        self.begin(kind::NEW_SA, flag::REQUEST, seq);
        self.usersa_info(sa);
        match sa.algorithms.encr {
            Some(Encr::Cipher { name }) => {
                let at = self.begin_attribute(attribute::ALG_CRYPT);
                self.algorithm_name(name);
                self.u32(bits(sa.encr_key));
                self.raw(sa.encr_key);
                self.end_attribute(at);
            }
            Some(Encr::Aead { name, icv_bits }) => {
                let at = self.begin_attribute(attribute::ALG_AEAD);
                self.algorithm_name(name);
                self.u32(bits(sa.encr_key));
                self.u32(icv_bits);
                self.raw(sa.encr_key);
                self.end_attribute(at);
            }
            None => {}
        }
        if sa.protocol == IpProtocol::Comp {
            let at = self.begin_attribute(attribute::ALG_COMP);
            self.algorithm_name("deflate");
            self.u32(0);
            self.end_attribute(at);
        }
        if let Some(integ) = sa.algorithms.integ {
            let at = self.begin_attribute(attribute::ALG_AUTH_TRUNC);
            self.algorithm_name(integ.name);
            self.u32(bits(sa.integ_key));
            self.u32(integ.icv_bits);
            self.raw(sa.integ_key);
            self.end_attribute(at);
        }
        if let Some(ports) = sa.encap {
            self.encapsulation(ports);
        }
        if let Some(mark) = sa.mark {
            let at = self.begin_attribute(attribute::SET_MARK);
            self.u32(mark);
            self.end_attribute(at);
        }
        self.interface(sa.if_id);
        if let Some(Offload { device, inbound }) = sa.offload {
            let at = self.begin_attribute(attribute::OFFLOAD_DEV);
            self.u32(device);
            let family = u8::from(sa.destination.is_ipv6()) * OFFLOAD_IPV6;
            let direction = u8::from(inbound) * OFFLOAD_INBOUND;
            self.raw(&[family | direction, 0, 0, 0]);
            self.end_attribute(at);
        }
        if replay_in_attribute(sa) {
            let window = sa.replay_window.clamp(1, REPLAY_WINDOW_MAX);
            let at = self.begin_attribute(attribute::REPLAY_ESN_VAL);
            let words = window.div_ceil(32);
            self.u32(words);
            self.zeros(16);
            self.u32(window);
            self.zeros(words as usize * 4);
            self.end_attribute(at);
        }
        self.end();
    }

    /// Deletes an SA.
    pub fn del_sa(&mut self, seq: u32, destination: IpAddr, spi: EspSpi, protocol: IpProtocol) {
        self.begin(kind::DEL_SA, flag::REQUEST, seq);
        self.usersa_id(destination, spi, protocol);
        self.end();
    }

    /// Asks for one SA.
    pub fn get_sa(&mut self, seq: u32, destination: IpAddr, spi: EspSpi, protocol: IpProtocol) {
        self.begin(kind::GET_SA, flag::REQUEST, seq);
        self.usersa_id(destination, spi, protocol);
        self.end();
    }

    /// Asks for all SAs or all policies.
    pub fn dump(&mut self, seq: u32, message_kind: u16) {
        self.begin(message_kind, flag::REQUEST | flag::DUMP, seq);
        self.end();
    }

    /// Adds a policy or replaces the one with the same selector.
    pub fn update_policy(
        &mut self,
        seq: u32,
        direction: Direction,
        pair: &SelectorPair,
        priority: u32,
        template: &Template,
    ) {
        self.begin(kind::UPD_POLICY, flag::REQUEST, seq);
        self.selector(direction, pair);
        self.lifetimes(&[0; 4], &[0; 4]);
        self.zeros(CURRENT_LIFETIME_LEN);
        self.u32(priority);
        self.u32(0);
        self.raw(&[number(direction), POLICY_ALLOW, 0, 0]);
        self.zeros(4);
        let at = self.begin_attribute(attribute::TMPL);
        for layer in template.layers(direction) {
            self.template(template, layer);
        }
        self.end_attribute(at);
        self.interface(pair.if_id);
        self.end();
    }

    /// Deletes the policy with this selector.
    pub fn del_policy(&mut self, seq: u32, direction: Direction, pair: &SelectorPair) {
        self.begin(kind::DEL_POLICY, flag::REQUEST, seq);
        self.selector(direction, pair);
        self.u32(0);
        self.raw(&[number(direction)]);
        self.zeros(3);
        self.interface(pair.if_id);
        self.end();
    }

    /// Deletes a policy by what a dump said of it: its selector as bytes.
    pub fn del_policy_raw(&mut self, seq: u32, leftover: &PolicyName) {
        self.begin(kind::DEL_POLICY, flag::REQUEST, seq);
        self.raw(&leftover.selector);
        self.u32(leftover.index);
        self.raw(&[leftover.direction]);
        self.zeros(3);
        self.interface(leftover.if_id);
        self.end();
    }

    /// Sets which policies are found by hash.
    pub fn hash_policies(&mut self, seq: u32, thresholds: Thresholds) {
        self.begin(kind::NEW_SPD_INFO, flag::REQUEST, seq);
        self.u32(0);
        let Thresholds { v4, v6 } = thresholds;
        for (number, bits) in [(SPD_IPV4_HTHRESH, v4), (SPD_IPV6_HTHRESH, v6)] {
            let at = self.begin_attribute(number);
            self.raw(&bits);
            self.end_attribute(at);
        }
        self.end();
    }

    /// Asks for them.
    pub fn get_thresholds(&mut self, seq: u32) {
        self.begin(kind::GET_SPD_INFO, flag::REQUEST, seq);
        self.u32(0);
        self.end();
    }

    /// UDP encapsulation with this source and destination port.
    pub(super) fn encapsulation(&mut self, (source, destination): (u16, u16)) {
        let at = self.begin_attribute(attribute::ENCAP);
        self.u16(UDP_ENCAP_ESPINUDP);
        self.raw(&source.to_be_bytes());
        self.raw(&destination.to_be_bytes());
        self.zeros(2 + ADDRESS_LEN);
        self.end_attribute(at);
    }

    /// The XFRM interface that an SA or a policy belongs to.
    fn interface(&mut self, if_id: Option<IfId>) {
        if let Some(number) = if_id {
            let at = self.begin_attribute(attribute::IF_ID);
            self.u32(number.get());
            self.end_attribute(at);
        }
    }

    fn usersa_info(&mut self, sa: &SaEntry<'_>) {
        self.zeros(SELECTOR_LEN);
        self.address(sa.destination);
        self.raw(&sa.spi.to_bytes());
        self.raw(&[ip_protocol(sa.protocol), 0, 0, 0]);
        self.address(sa.source);
        let bytes = [
            infinite(sa.bytes_soft),
            infinite(sa.bytes_hard),
            u64::MAX,
            u64::MAX,
        ];
        self.lifetimes(&bytes, &[sa.soft.as_secs(), sa.hard.as_secs(), 0, 0]);
        self.zeros(CURRENT_LIFETIME_LEN + STATISTICS_LEN);
        self.u32(0);
        self.u32(sa.reqid);
        self.u16(address_family(sa.destination));
        // With ESN or a long window the attribute says it, and this field must be zero.
        let window = if replay_in_attribute(sa) {
            0
        } else {
            sa.replay_window.min(32) as u8
        };
        self.raw(&[mode(sa.transport), window, state_flags(sa)]);
        self.zeros(7);
    }

    fn usersa_id(&mut self, destination: IpAddr, spi: EspSpi, protocol: IpProtocol) {
        self.address(destination);
        self.raw(&spi.to_bytes());
        self.u16(address_family(destination));
        self.raw(&[ip_protocol(protocol), 0]);
    }

    /// `xfrm_selector`: for packets from us the peer is the destination, else we are.
    fn selector(&mut self, direction: Direction, pair: &SelectorPair) {
        let local = (pair.local, pair.local_port);
        let remote = (pair.remote, pair.remote_port);
        let (source, destination) = match direction {
            Direction::Out => (local, remote),
            Direction::In | Direction::Forward => (remote, local),
        };
        // Host bits off: the kernel compares selectors as bytes when it replaces or deletes.
        let (source_net, destination_net) = (source.0.network(), destination.0.network());
        self.address(destination_net.addr);
        self.address(source_net.addr);
        for port in [destination.1, source.1] {
            self.raw(&port.unwrap_or(0).to_be_bytes());
            self.raw(&[if port.is_some() { 0xff } else { 0 }; 2]);
        }
        self.u16(address_family(destination_net.addr));
        self.raw(&[destination_net.len, source_net.len, pair.protocol, 0, 0, 0]);
        self.zeros(8);
    }

    fn template(&mut self, template: &Template, layer: Layer) {
        self.address(template.destination);
        // SPI 0 is any: the reqid finds the SA, also the one that replaces it.
        self.zeros(4);
        self.raw(&[ip_protocol(layer.protocol), 0, 0, 0]);
        self.u16(address_family(template.destination));
        self.zeros(2);
        self.address(template.source);
        self.u32(template.reqid);
        self.raw(&[mode(layer.transport), 0, u8::from(layer.optional), 0]);
        for _ in 0..3 {
            self.u32(u32::MAX);
        }
    }

    /// `xfrm_lifetime_cfg`: soft and hard limits of bytes, then of packets; soft and hard times
    /// since the addition, then since the first use.
    fn lifetimes(&mut self, counts: &[u64; 4], seconds: &[u64; 4]) {
        for value in counts.iter().chain(seconds) {
            self.raw(&value.to_ne_bytes());
        }
    }

    pub(super) fn begin(&mut self, message_kind: u16, flags: u16, seq: u32) {
        self.message_at = self.bytes.len();
        self.u32(0);
        self.u16(message_kind);
        self.u16(flags);
        self.u32(seq);
        self.u32(0);
    }

    pub(super) fn end(&mut self) {
        let len = (self.bytes.len() - self.message_at) as u32;
        if let Some(field) = self.bytes.get_mut(self.message_at..self.message_at + 4) {
            field.copy_from_slice(&len.to_ne_bytes());
        }
        self.pad();
        self.last_at = Some(self.message_at);
    }

    pub(super) fn begin_attribute(&mut self, attribute_kind: u16) -> usize {
        let at = self.bytes.len();
        self.u16(0);
        self.u16(attribute_kind);
        at
    }

    pub(super) fn end_attribute(&mut self, at: usize) {
        let len = (self.bytes.len() - at) as u16;
        if let Some(field) = self.bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&len.to_ne_bytes());
        }
        self.pad();
    }

    fn pad(&mut self) {
        let rest = self.bytes.len() % 4;
        if rest != 0 {
            self.zeros(4 - rest);
        }
    }

    fn algorithm_name(&mut self, name: &str) {
        self.raw(name.as_bytes());
        self.zeros(ALGORITHM_NAME_LEN.saturating_sub(name.len()));
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.raw(&v4.octets());
                self.zeros(ADDRESS_LEN - 4);
            }
            IpAddr::V6(v6) => self.raw(&v6.octets()),
        }
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_ne_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.raw(&value.to_ne_bytes());
    }

    pub(super) fn zeros(&mut self, count: usize) {
        let len = self.bytes.len() + count;
        self.bytes.resize(len, 0);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Message type, see [`kind`].
    pub kind: u16,
    /// Of the request it answers; 0 for events.
    pub seq: u32,
    /// Behind the header.
    pub body: &'a [u8],
}

/// The messages of one datagram from the kernel; ends at the first malformed one.
#[derive(Debug)]
pub struct Answers<'a>(pub &'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let len = u32_at(self.0, 0)? as usize;
        let message = self.0.get(..len)?;
        let body = message.get(HEADER_LEN..)?;
        let answer = Answer {
            kind: u16_at(message, 4)?,
            seq: u32_at(message, 8)?,
            body,
        };
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    }
}

impl Answer<'_> {
    /// The errno of an `ERROR` message, positive; 0 acknowledges.
    pub fn errno(&self) -> Option<i32> {
        (self.kind == kind::ERROR).then_some(())?;
        Some((u32_at(self.body, 0)? as i32).saturating_neg())
    }

    /// Destination, SPI and whether it is the hard limit, of an `EXPIRE` message.
    pub fn expire(&self) -> Option<(IpAddr, EspSpi, bool)> {
        (self.kind == kind::EXPIRE).then_some(())?;
        // Those of IPComp are no more than companions.
        let sa = sa_name(self.body).filter(|sa| sa.protocol != IpProtocol::Comp)?;
        let hard = *self.body.get(USERSA_INFO_LEN)? != 0;
        Some((sa.destination, sa.spi, hard))
    }

    /// SPI and new source of a `MAPPING` message.
    pub fn mapping(&self) -> Option<(EspSpi, SocketAddr)> {
        (self.kind == kind::MAPPING).then_some(())?;
        let spi = spi_at(self.body, 16)?;
        let family = u16_at(self.body, 20)?;
        let new_source = address_at(self.body, 44, family)?;
        let port: [u8; 2] = self.body.get(62..64)?.try_into().ok()?;
        Some((spi, SocketAddr::new(new_source, u16::from_be_bytes(port))))
    }

    /// What names the SA that a `GET_SA` or a dump told.
    pub fn sa(&self) -> Option<SaName> {
        (self.kind == kind::NEW_SA).then_some(())?;
        sa_name(self.body)
    }

    /// What names the policy that a dump told.
    pub fn policy(&self) -> Option<PolicyName> {
        (self.kind == kind::NEW_POLICY).then_some(())?;
        let selector = self.body.get(..SELECTOR_LEN)?.try_into().ok()?;
        let index = u32_at(self.body, 156)?;
        let direction = *self.body.get(160)?;
        let attributes = self.body.get(USERPOLICY_INFO_LEN..)?;
        Some(PolicyName {
            selector,
            index,
            direction,
            reqid: template_reqid(attributes)?,
            priority: u32_at(self.body, 152)?,
            if_id: interface_of(attributes),
        })
    }

    /// The reqid of the policy that an `ACQUIRE` message is about.
    pub fn acquire(&self) -> Option<u32> {
        (self.kind == kind::ACQUIRE).then_some(())?;
        template_reqid(self.body.get(USER_ACQUIRE_LEN..)?)
    }

    /// What is found by hash, of the answer to `GET_SPD_INFO`.
    pub fn thresholds(&self) -> Option<Thresholds> {
        (self.kind == kind::NEW_SPD_INFO).then_some(())?;
        let attributes = self.body.get(4..)?;
        let bits = |number| find(attributes, number)?.first_chunk::<2>().copied();
        Some(Thresholds {
            v4: bits(SPD_IPV4_HTHRESH)?,
            v6: bits(SPD_IPV6_HTHRESH)?,
        })
    }

    /// Whether the SA that a dump told has passed a soft limit, at `now` in seconds since 1970.
    pub fn is_aged(&self, now: u64) -> bool {
        let field = |at: usize| u64_at(self.body, at).unwrap_or(0);
        let (limit, count) = (field(SOFT_BYTES_AT), field(VOLUME_AT));
        let (life, born) = (field(SOFT_TIME_AT), field(BORN_AT));
        self.kind == kind::NEW_SA
            && (count >= limit && limit != 0 || life != 0 && now >= born.saturating_add(life))
    }

    /// The reqid of what a dump told that is no SA yet: the kernel waits for one.
    pub fn larva(&self) -> Option<u32> {
        let unborn = self.kind == kind::NEW_SA && u32_at(self.body, 72)? == 0;
        unborn.then_some(u32_at(self.body, 208)?)
    }

    /// What has gone through the SA that a `GET_SA` told.
    pub fn volume(&self) -> Option<Volume> {
        (self.kind == kind::NEW_SA).then_some(())?;
        let counter = |at: usize| u64_at(self.body, at);
        Some(Volume {
            packets: counter(VOLUME_AT + 8)?,
            octets: counter(VOLUME_AT)?,
        })
    }
}

/// The reqid of the first template among these attributes.
fn template_reqid(attributes: &[u8]) -> Option<u32> {
    u32_at(find(attributes, attribute::TMPL)?, 44)
}

fn interface_of(attributes: &[u8]) -> Option<IfId> {
    IfId::new(u32_at(find(attributes, attribute::IF_ID)?, 0)?)
}

/// The value of the first of these attributes that has this number.
fn find(mut attributes: &[u8], number: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..len)?;
        if u16_at(attributes, 2)? == number {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// The shortest prefixes of policies that are found by hash (struct xfrmu_spdhthresh): bits of the local
/// one, of the remote one. Policies with a shorter one are in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// For IPv4.
    pub v4: [u8; 2],
    /// For IPv6.
    pub v6: [u8; 2],
}

/// What names an SA in the kernel, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaName {
    /// Outer destination.
    pub destination: IpAddr,
    /// SPI at the destination.
    pub spi: EspSpi,
    /// Of its packets.
    pub protocol: IpProtocol,
    /// Tells whether it is one of ours.
    pub reqid: u32,
    /// Packets after which it ends.
    pub packets_hard: u64,
}

/// What names a policy in the kernel, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyName {
    /// `xfrm_selector` as the kernel wrote it.
    pub selector: [u8; SELECTOR_LEN],
    /// The kernel's number for it.
    pub index: u32,
    /// Of XFRM_POLICY_*; from 3 on it belongs to a socket.
    pub direction: u8,
    /// Of the first template.
    pub reqid: u32,
    /// Its place among all.
    pub priority: u32,
    /// Its XFRM interface.
    pub if_id: Option<IfId>,
}

fn sa_name(info: &[u8]) -> Option<SaName> {
    let family = u16_at(info, 212)?;
    let protocol = match i32::from(*info.get(76)?) {
        libc::IPPROTO_ESP => IpProtocol::Esp,
        libc::IPPROTO_AH => IpProtocol::Ah,
        libc::IPPROTO_COMP => IpProtocol::Comp,
        _ => return None,
    };
    Some(SaName {
        destination: address_at(info, 56, family)?,
        spi: spi_at(info, 72)?,
        protocol,
        reqid: u32_at(info, 208)?,
        packets_hard: u64_at(info, 120)?,
    })
}

fn replay_in_attribute(sa: &SaEntry<'_>) -> bool {
    sa.algorithms.esn || sa.replay_window > 32
}

fn state_flags(sa: &SaEntry<'_>) -> u8 {
    let mut flags = 0;
    if !sa.transport {
        // Selectors of either family may go through the tunnel.
        flags |= STATE_AF_UNSPEC;
    }
    if sa.algorithms.esn {
        flags |= STATE_ESN;
    }
    if sa.protocol == IpProtocol::Ah && sa.destination.is_ipv4() {
        // RFC 4302, 2.6: the ICV is padded to 32 bits with IPv4; Linux pads to 64 unless told.
        flags |= STATE_ALIGN4;
    }
    flags
}

/// The kernel counts to a limit of 0 at once; no limit is all ones.
fn infinite(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

fn bits(key: &[u8]) -> u32 {
    key.len() as u32 * 8
}

fn mode(transport: bool) -> u8 {
    u8::from(!transport)
}

const fn ip_protocol(protocol: IpProtocol) -> u8 {
    match protocol {
        IpProtocol::Esp => libc::IPPROTO_ESP as u8,
        IpProtocol::Ah => libc::IPPROTO_AH as u8,
        IpProtocol::Comp => libc::IPPROTO_COMP as u8,
    }
}

pub(super) fn address_family(address: IpAddr) -> u16 {
    if address.is_ipv4() {
        libc::AF_INET as u16
    } else {
        libc::AF_INET6 as u16
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn spi_at(bytes: &[u8], at: usize) -> Option<EspSpi> {
    EspSpi::from_bytes(bytes.get(at..at + 4)?.try_into().ok()?)
}

fn address_at(bytes: &[u8], at: usize, family: u16) -> Option<IpAddr> {
    if i32::from(family) == libc::AF_INET {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::from(octets))
    } else {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::from(octets))
    }
}

/// Attribute types, XFRMA_*.
pub(super) mod attribute {
    pub(crate) const ALG_AUTH: u16 = 1;
    pub(crate) const ALG_CRYPT: u16 = 2;
    pub(crate) const ALG_COMP: u16 = 3;
    pub(crate) const ENCAP: u16 = 4;
    pub(crate) const TMPL: u16 = 5;
    pub(crate) const LTIME_VAL: u16 = 9;
    pub(crate) const REPLAY_VAL: u16 = 10;
    pub(crate) const LASTUSED: u16 = 15;
    pub(crate) const ALG_AEAD: u16 = 18;
    pub(crate) const ALG_AUTH_TRUNC: u16 = 20;
    pub(crate) const REPLAY_ESN_VAL: u16 = 23;
    pub(crate) const PAD: u16 = 27;
    pub(crate) const OFFLOAD_DEV: u16 = 28;
    /// Called OUTPUT_MARK once, when it held only for what goes out.
    pub(crate) const SET_MARK: u16 = 29;
    pub(crate) const IF_ID: u16 = 31;
}

/// Length of `nlmsghdr`.
const HEADER_LEN: usize = 16;
/// Length of `xfrm_address_t`.
const ADDRESS_LEN: usize = 16;
/// Length of `xfrm_selector`.
pub(super) const SELECTOR_LEN: usize = 56;
/// Length of `xfrm_lifetime_cur`.
pub(super) const CURRENT_LIFETIME_LEN: usize = 32;
/// Length of `xfrm_stats`.
pub(super) const STATISTICS_LEN: usize = 12;
/// Length of `xfrm_usersa_info`.
pub(super) const USERSA_INFO_LEN: usize = 224;
/// Length of `xfrm_userpolicy_info`.
const USERPOLICY_INFO_LEN: usize = 168;
/// Length of `xfrm_user_acquire`.
const USER_ACQUIRE_LEN: usize = 280;
/// Where `xfrm_usersa_info` has the soft limit of bytes.
const SOFT_BYTES_AT: usize = 96;
/// Where it has the soft limit of seconds since its addition.
const SOFT_TIME_AT: usize = 128;
/// Where it has the time of its addition.
const BORN_AT: usize = 176;
/// Where `xfrm_usersa_info` has the bytes of its current lifetime; its packets come next.
const VOLUME_AT: usize = 160;
/// Length of an algorithm's name field.
const ALGORITHM_NAME_LEN: usize = 64;
/// The kernel keeps at most 128 words of bitmap (XFRMA_REPLAY_ESN_MAX).
const REPLAY_WINDOW_MAX: u32 = 4096;
const SPD_IPV4_HTHRESH: u16 = 3;
const SPD_IPV6_HTHRESH: u16 = 4;
const UDP_ENCAP_ESPINUDP: u16 = 2;
const OFFLOAD_IPV6: u8 = 1;
const OFFLOAD_INBOUND: u8 = 2;
const POLICY_ALLOW: u8 = 0;
const STATE_AF_UNSPEC: u8 = 32;
pub(super) const STATE_ALIGN4: u8 = 64;
pub(super) const STATE_ESN: u8 = 128;

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
