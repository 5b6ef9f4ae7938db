//! What goes into and comes out of an [`Endpoint`](super::endpoint::Endpoint), as plain values.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::lease::Lease;
use super::stats::Stats;
use crate::kernel::SelectorPair;
use crate::lookup::port::LookupId;
use crate::policy::{Identity, IpNet};
use crate::steer::{self, ShardId};
use crate::wire::spi::IkeSpi;

/// The addresses an IKE SA uses now, and so those of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Our address and port; the port tells which socket.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// Whether this is the NAT-T socket, whose IKE datagrams carry four zero bytes first
    /// (RFC 3948, 2.2). The shell adds and strips them.
    pub marker: bool,
}

/// One datagram to send; its bytes were written to the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where from and where to.
    pub path: Path,
}

/// What an operator asks of every shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// All IKE SAs, Child SAs and flows as text, sorted by SPI.
    ShowSa {
        /// For programs: a JSON object for each IKE SA.
        json: bool,
    },
    /// How many addresses of each pool are leased.
    ShowPools,
    /// The counters.
    ShowStats,
    /// Forget every SA without telling the peers, as OpenIKED does.
    ResetAll,
    /// Delete every established IKE SA, telling the peers.
    ResetSa,
    /// Delete the IKE SAs of the peer whose identity prints like this (`FQDN/host.example`).
    ResetId(String),
    /// May active policies initiate?
    Active(bool),
    /// Load Child SAs into the kernel?
    Couple(bool),
    /// Start an IKE SA as initiator by this policy index, towards the policy's peer.
    Initiate(u32),
    /// Send the peers that understand it to another gateway (RFC 5685).
    Redirect(IpAddr),
    /// An address of this host is gone, another is there: whoever was reached from the one is
    /// reached from the other from now on.
    LocalAddress {
        /// The one that is gone.
        old: IpAddr,
        /// The one to use instead.
        new: IpAddr,
        /// Only for the peers at this address; `None` is for all.
        towards: Option<IpAddr>,
    },
    /// Tell every peer and forget everything.
    Shutdown,
}

/// One shard's answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Lines of text; `more` says that another chunk follows.
    Text {
        /// Whole lines, without newline.
        lines: Vec<String>,
        /// Another chunk follows.
        more: bool,
    },
    /// The counters of this shard.
    Stats(Box<Stats>),
    /// Addresses leased by this shard, by their pool.
    Pools(Vec<(IpNet, u64)>),
    /// It could not be done.
    Failed(String),
    /// Done; how many IKE SAs it concerned.
    Done {
        /// IKE SAs concerned.
        count: usize,
    },
}

/// How important a log line is; the words of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed that should not.
    Warning,
    /// A state change of an IKE SA.
    Info,
    /// What an operator wants when looking for a fault (`-vv`).
    Debug,
}

/// What the shell should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line for the log.
    Log {
        /// Its level.
        level: Level,
        /// The line, without newline.
        line: String,
        /// Caused by bytes that nobody vouches for: the sink limits the rate.
        unauthenticated: bool,
    },
    /// The other shards must hear this.
    News(News),
}

/// What one shard tells all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The peer authenticated and says it has no other IKE SA (RFC 7296, 2.4): the others drop
    /// theirs of this identity.
    InitialContact {
        /// The identity just proven.
        identity: Identity,
        /// The IKE SA that said so, which stays.
        except: IkeSpi,
        /// When that one was begun: the peer knows those on which it has spoken since.
        since: Instant,
    },
    /// An active policy has one IKE SA more, or one less.
    Served {
        /// Its name.
        policy: String,
        /// One more.
        more: bool,
    },
    /// The peer has begun an IKE SA of this active policy: if there is one of ours as well, theirs
    /// is one too many.
    Doubled {
        /// The policy's name.
        policy: String,
        /// The peer.
        identity: Identity,
    },
    /// Our IKE SA of this active policy is up at both ends: the peer's goes.
    Single {
        /// The policy's name.
        policy: String,
        /// The peer.
        identity: Identity,
    },
    /// We have authenticated again (RFC 4478): of this policy's IKE SAs that we began the others go.
    Renewed {
        /// The policy's name.
        policy: String,
        /// The peer.
        identity: Identity,
        /// The one that stays.
        by: IkeSpi,
    },
    /// The peer has come again (`set stickyaddress`): who has addresses of these pools for it hands
    /// them over. Every shard answers.
    Claim {
        /// The identity just proven.
        identity: Identity,
        /// The pools that it may have an address of.
        pools: Vec<IpNet>,
        /// The IKE SA that waits for the answers, and which of its questions this is.
        by: LookupId,
    },
    /// The answer to a claim: the addresses are the other shard's, whosever slice they are of.
    Ceded {
        /// Who asked.
        to: LookupId,
        /// The addresses, none as a rule.
        lease: Lease,
    },
    /// An address is free that another shard had ceded.
    Returned {
        /// The address.
        address: IpAddr,
        /// Its pool.
        net: IpNet,
        /// The shard whose slice it is of.
        home: ShardId,
    },
    /// A packet waits for a Child SA of this active policy, and no shard but another has its IKE SA.
    Wanted {
        /// The policy's name.
        policy: String,
        /// The selectors it would be for.
        pair: SelectorPair,
    },
}

impl News {
    /// The one shard that must hear it; `None`: all.
    pub fn to(&self) -> Option<ShardId> {
        match self {
            Self::Ceded { to, .. } => steer::shard_of_ike_spi(to.spi),
            Self::Returned { home, .. } => Some(*home),
            Self::InitialContact { .. }
            | Self::Served { .. }
            | Self::Doubled { .. }
            | Self::Single { .. }
            | Self::Renewed { .. }
            | Self::Claim { .. }
            | Self::Wanted { .. } => None,
        }
    }
}
