//! The port to the kernel as plain data: what `ike` asks of the SADB and SPD, and what comes back.
//! `sadb` drives a [`Backend`]; `xfrm`, `pfkey` and `esp` are backends and know only this file.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::crypto::keymat::ChildKeys;
use crate::policy::domain::Domain;
use crate::policy::{IfId, IpNet};
use crate::wire::Transform;
use crate::wire::registry::ProtocolId;
use crate::wire::spi::{Cpi, EspSpi, IkeSpi};

pub mod entry;

/// Names one request of one shard; the answer carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One request to the kernel thread.
#[derive(Debug)]
pub enum KernelRequest {
    /// Install a whole Child SA: both SAs and all policies; answered by exactly one event.
    AddChild {
        /// Echoed in the answer.
        id: RequestId,
        /// What to install.
        child: Box<ChildInstall>,
    },
    /// Install the outbound SA of a Child SA that was added `receive_only`; not answered.
    AddOutbound {
        /// What `AddChild` was given.
        child: Box<ChildInstall>,
    },
    /// Move a whole Child SA to other outer addresses or ports, sequence numbers and replay windows
    /// kept; not answered. One that cannot be moved stays where it was and is told as softly
    /// expired, so that another takes its place.
    MoveChild {
        /// What `AddChild` installed, or the last move left, without keys.
        child: Box<ChildRemove>,
        /// Where it goes.
        to: Outer,
    },
    /// Remove a whole Child SA (both SAs and its policies); not answered, missing pieces are no
    /// error.
    DeleteChild {
        /// What `AddChild` installed, without keys.
        child: Box<ChildRemove>,
    },
    /// Tell how many packets went through these Child SAs; answered by exactly one `Counts`.
    Count {
        /// Echoed in the answer: the IKE SA that asks.
        asker: IkeSpi,
        /// Inbound SPIs of Child SAs that were added.
        children: Vec<EspSpi>,
    },
    /// Tell what went through this Child SA before a later request of the same turn, or of a later
    /// one, removes it; answered by exactly one `LastCount`.
    LastCount {
        /// Echoed in the answer.
        account: u64,
        /// Inbound SPI of a Child SA that was added.
        child: EspSpi,
    },
    /// Find the way into the kernel, if it has not been found yet; answered by exactly one
    /// `Coupled`.
    Couple {
        /// Echoed in the answer.
        id: RequestId,
    },
    /// From now on this shard wants exactly these traps; not answered.
    SetTraps {
        /// All of them.
        traps: Vec<Trap>,
    },
    /// A gateway grants this host an address; not answered.
    Grant {
        /// Names it in `Return`.
        id: RequestId,
        /// What.
        grant: Box<Grant>,
    },
    /// The IKE SA of a grant is gone, and so is the grant; not answered.
    Return {
        /// Of the grant.
        id: RequestId,
    },
}

/// What the gateway's CFG_REPLY gave us of all that we asked for (RFC 7296, 2.19 and 3.15).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Name of the interface that it is for; without one nothing is set.
    pub iface: Option<String>,
    /// Our addresses, with the prefix length of the network that the gateway puts them in.
    pub addresses: Vec<IpNet>,
    /// Name servers.
    pub name_servers: Vec<IpAddr>,
    /// Networks that the gateway leads to.
    pub subnets: Vec<IpNet>,
    /// Domains that the name servers are for (RFC 8598).
    pub domains: Vec<Domain>,
}

impl Grant {
    /// Whether it grants nothing.
    pub const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
            && self.name_servers.is_empty()
            && self.subnets.is_empty()
            && self.domains.is_empty()
    }
}

impl fmt::Display for Grant {
    /// `address A/LEN, name-server A, protected-subnet A/LEN, dns-domain NAME (ANCHOR)`, in the
    /// words of iked.conf(5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses.iter().map(|net| format!("address {net}"));
        let servers = self.name_servers.iter();
        let servers = servers.map(|address| format!("name-server {address}"));
        let subnets = self.subnets.iter();
        let subnets = subnets.map(|net| format!("protected-subnet {net}"));
        let domains = self.domains.iter().map(|domain| {
            let anchors = domain.anchors.iter().map(|anchor| format!(" ({anchor})"));
            format!("dns-domain {}{}", domain.name, anchors.collect::<String>())
        });
        let all = addresses.chain(servers).chain(subnets).chain(domains);
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}

/// Packets for these selectors that find no Child SA are held back, and we are told. A Child SA
/// with the same selectors takes the place of the trap as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trap {
    /// Index of the policy that wants it.
    pub policy: u32,
    /// Which packets of ours.
    pub pair: SelectorPair,
    /// ESP or AH.
    pub protocol: ProtocolId,
    /// Transport mode (else tunnel).
    pub transport: bool,
    /// Our outer address, or the unspecified one.
    pub local: IpAddr,
    /// The peer's.
    pub remote: IpAddr,
}

/// What went through an SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes of them, as the kernel counts: of what is inside, or with the outer header.
    pub octets: u64,
}

/// What went through a Child SA since it, or what it is a copy of elsewhere, was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// SPI of the inbound SA.
    pub spi: EspSpi,
    /// From the peer, all of it authentic.
    pub inbound: Volume,
    /// To the peer.
    pub outbound: Volume,
}

/// Everything the kernel must know of one Child SA.
#[derive(Clone, Debug)]
pub struct ChildInstall {
    /// Identification shared with the removal.
    pub names: ChildRemove,
    /// Chosen transforms: ENCR (with key length), INTEG, ESN.
    pub transforms: Vec<Transform>,
    /// Keys of both directions.
    pub keys: ChildKeys,
    /// UDP encapsulation (RFC 3948): our and the peer's NAT-T ports.
    pub encap: Option<Encap>,
    /// Soft and hard lifetime; zero is none.
    pub lifetime_soft: Duration,
    /// Hard lifetime; zero is none.
    pub lifetime_hard: Duration,
    /// Soft byte limit; zero is none.
    pub bytes_soft: u64,
    /// Hard byte limit; zero is none.
    pub bytes_hard: u64,
    /// Anti-replay window in packets.
    pub replay_window: u32,
    /// What packets from the peer are marked with once they are decrypted, for the firewall.
    pub mark: Option<u32>,
    /// The XFRM interface that packets from the peer come out of, and those to it go into.
    pub if_id: Option<IfId>,
    /// Name of the device that does the cryptography, if it can.
    pub offload: Option<String>,
    /// Leave the outbound SA out until `AddOutbound`: the peer cannot take our packets yet.
    pub receive_only: bool,
    /// What its gateway grants this host: routes lead from those addresses into it.
    pub grant: Option<RequestId>,
}

/// What names a Child SA in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRemove {
    /// ESP or AH.
    pub protocol: ProtocolId,
    /// Transport mode (else tunnel).
    pub transport: bool,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// SPI of the inbound SA, chosen by us.
    pub inbound_spi: EspSpi,
    /// SPI of the outbound SA, chosen by the peer.
    pub outbound_spi: EspSpi,
    /// Marks SAs and policies as ours and ties them together.
    pub reqid: u32,
    /// Packets are compressed before they are encrypted.
    pub ipcomp: Option<Cpis>,
    /// Selector pairs: one OUT, one IN and (tunnel mode) one FWD policy for each, or OUT alone.
    pub selectors: Vec<SelectorPair>,
}

/// What names the SAs of IPComp beside those of a Child SA (RFC 3173; RFC 7296, 2.22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpis {
    /// Chosen by us.
    pub inbound: Cpi,
    /// Chosen by the peer.
    pub outbound: Cpi,
}

impl ChildRemove {
    /// Its SAs of IPComp, by destination: the inbound one, the outbound one.
    pub fn comps(&self) -> impl Iterator<Item = (IpAddr, Cpi)> + use<> {
        let (local, remote) = (self.local, self.remote);
        let both = |cpis: Cpis| [(local, cpis.inbound), (remote, cpis.outbound)];
        self.ipcomp.map(both).into_iter().flatten()
    }

    /// The same Child SA elsewhere.
    pub fn moved(&self, to: Outer) -> Self {
        Self {
            local: to.local,
            remote: to.remote,
            ..self.clone()
        }
    }
}

/// The way of a Child SA's packets between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Our address.
    pub local: IpAddr,
    /// The peer's.
    pub remote: IpAddr,
    /// UDP encapsulation, if any.
    pub encap: Option<Encap>,
}

/// One pair of traffic selectors as an SPD selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SelectorPair {
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// Our side.
    pub local: IpNet,
    /// Our port, `None` for all.
    pub local_port: Option<u16>,
    /// The peer's side.
    pub remote: IpNet,
    /// The peer's port, `None` for all.
    pub remote_port: Option<u16>,
    /// Only what goes out, as it is before source NAT makes of it what was agreed with the peer
    /// (`from A (B)`): an OUT policy alone. What comes in is judged by what was agreed.
    pub outward: bool,
    /// Only what goes through this XFRM interface. The SPD keeps those of each interface apart.
    pub if_id: Option<IfId>,
}

impl SelectorPair {
    /// What the SPD tells it from others by.
    pub fn key(&self) -> Self {
        Self {
            outward: false,
            ..*self
        }
    }

    /// The place of its policies in the SPD: the lowest number comes first, so more specific
    /// selectors have lower ones. Both prefix lengths count most, then protocol, then ports.
    /// The number above it is that of a trap with selectors as specific.
    pub fn priority(&self) -> u32 {
        let bits = u32::from(self.local.network().len) + u32::from(self.remote.network().len);
        let protocol = if self.protocol == 0 { 0 } else { 4 };
        let ports = u32::from(self.local_port.is_some()) + u32::from(self.remote_port.is_some());
        PRIORITY_LEAST - 2 * (bits * 8 + protocol + ports)
    }

    /// The place of its trap: behind the policies of all Child SAs whose selectors are as specific.
    pub fn trap_priority(&self) -> u32 {
        self.priority() + 1
    }
}

/// Ports of UDP encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encap {
    /// Our port (4500 or `-p`).
    pub local_port: u16,
    /// The peer's port as seen here.
    pub remote_port: u16,
}

/// What the kernel (thread) tells a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// The request is in the kernel.
    Done {
        /// Of the request.
        id: RequestId,
    },
    /// The request failed; nothing of it remains in the kernel.
    Failed {
        /// Of the request.
        id: RequestId,
        /// Why.
        error: KernelError,
    },
    /// An SA reached a lifetime.
    Expire {
        /// SPI of the SA at its receiver.
        spi: EspSpi,
        /// Whether the SA is gone (hard) or should be replaced (soft).
        hard: bool,
    },
    /// ESP in UDP arrived from a new address.
    Mapping {
        /// SPI of the inbound SA.
        spi: EspSpi,
        /// Where it comes from now.
        remote: SocketAddr,
    },
    /// The answer to [`KernelRequest::Count`].
    Counts {
        /// Who asked.
        asker: IkeSpi,
        /// Of those Child SAs that are there.
        counts: Vec<Count>,
    },
    /// The answer to [`KernelRequest::LastCount`].
    LastCount {
        /// Of the request.
        account: u64,
        /// Inbound SPI.
        child: EspSpi,
        /// What was counted, if the Child SA was there.
        count: Option<Count>,
    },
    /// The answer to [`KernelRequest::Couple`].
    Coupled {
        /// Of the request.
        id: RequestId,
        /// Whether there is a way into the kernel, or why there is none.
        result: Result<(), String>,
    },
    /// A packet hit a policy without an SA. What a backend tells `sadb`.
    Acquire {
        /// Of the policy.
        reqid: u32,
    },
    /// A packet hit a trap. What `sadb` makes of [`Self::Acquire`], for the shard that set it.
    Wanted {
        /// The trap.
        trap: Trap,
    },
}

/// What a survey of the kernel finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// An SA.
    Sa {
        /// Outer destination.
        destination: IpAddr,
        /// SPI at the destination.
        spi: EspSpi,
        /// It has passed a soft limit: SPI of the inbound SA.
        aged: Option<EspSpi>,
    },
    /// A packet waits for an SA.
    Wanted {
        /// Of the policy that it hit.
        reqid: u32,
    },
}

/// Why the kernel refused: its errno and what was being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// errno, positive.
    pub errno: i32,
    /// "add SA", "add policy", ..
    pub action: &'static str,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            self.action,
            io::Error::from_raw_os_error(self.errno)
        )
    }
}

/// Priority of `any to any`, above the greatest sum that is taken from it: 2 * (256 * 8 + 6).
const PRIORITY_LEAST: u32 = 16_384;

/// The top byte of every reqid of ours: by it we know our own SAs and policies again after a crash,
/// and touch no other's.
pub const REQID_TAG: u32 = 0x49 << 24;

/// The top byte of the reqids of traps. No SA has one.
pub const TRAP_TAG: u32 = 0x4a << 24;

/// Whether a reqid is one of ours.
pub const fn is_our_reqid(reqid: u32) -> bool {
    matches!(reqid & 0xff00_0000, REQID_TAG | TRAP_TAG)
}

/// The top half of the priorities of policies written over PF_KEY, which cuts reqids short: by it we
/// know them again.
pub const PRIORITY_TAG: u32 = 0x494b << 16;

/// Whether a policy with this priority is one that we wrote over PF_KEY.
pub const fn is_our_priority(priority: u32) -> bool {
    priority & 0xffff_0000 == PRIORITY_TAG
}

/// Packets after which an SA written over PF_KEY ends: by this number we know it again. Without
/// extended sequence numbers, which PF_KEY does not have, none can carry many more.
pub const PACKETS_HARD: u32 = 0xffff_494b;

/// Packets after which such an SA is to be replaced, before its sequence numbers run out (RFC 4303,
/// 3.3.3).
pub const PACKETS_SOFT: u32 = 0xf000_0000;

/// A way into one kernel (or a stand-in for one). Driven only by the `sadb` thread.
pub trait Backend: Send {
    /// Short name for logs: `xfrm`, `pfkey`.
    fn name(&self) -> &'static str;
    /// Does all of `batch` in as few system calls as the kernel allows, and returns one result for
    /// each item in order. An `AddChild` that fails half-way must leave nothing behind. A
    /// `MoveChild` rewrites the policies of `child.selectors`, and where it fails leaves the SAs
    /// where they were.
    fn apply(&mut self, batch: &[KernelRequest]) -> Vec<Result<(), KernelError>>;
    /// Adds or replaces the policies of `child`, whose SAs stand: `sadb` hands policies back to it
    /// when a younger Child SA with the same selectors goes. Nothing else of `child` changes.
    fn set_policies(&mut self, child: &ChildRemove) -> Result<(), KernelError>;
    /// Puts a trap for outbound packets in the place of whatever policies these selectors have, in
    /// all directions. [`KernelEvent::Acquire`] tells this reqid when a packet hits it.
    fn set_trap(&mut self, trap: &Trap, reqid: u32) -> Result<(), KernelError>;
    /// Removes the policies of these selectors in all directions; missing ones are no error.
    fn remove_policies(&mut self, pairs: &[SelectorPair]) -> Result<(), KernelError>;
    /// Counts what went through Child SAs; those that are not there are left out.
    fn count(&mut self, children: &[ChildRemove]) -> Vec<Count>;
    /// The descriptor that becomes readable when the kernel has something to say, if any.
    fn event_fd(&self) -> Option<std::os::fd::RawFd>;
    /// Takes waiting events. Returns whether the kernel had to drop some that we did not read in
    /// time.
    fn poll_events(&mut self, events: &mut Vec<KernelEvent>) -> bool;
    /// Tells all that the kernel has of ours, for what was in events that it had to drop.
    fn survey(&mut self, now: SystemTime, each: &mut dyn FnMut(Found)) -> Result<(), KernelError>;
}
