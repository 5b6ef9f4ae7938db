//! The protocol, sans-IO: values in, values out, no socket, no clock, no thread (RFC 7296).
//!
//! [`endpoint::Endpoint`] holds all IKE SAs of one shard. `exchange/` has one file for each
//! exchange, both roles in it, because the RFC describes exchanges and either side may start one.

pub mod account;
pub mod agenda;
pub mod backlog;
pub mod child_sa;
pub mod context;
pub mod cookie;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod exchange;
pub mod fragment;
pub mod grant;
pub mod holders;
pub mod ike_sa;
pub mod ipcomp;
pub mod lease;
pub mod message;
pub mod mobility;
pub mod names;
pub mod narrow;
pub mod natt;
pub mod negotiate;
pub mod own;
pub mod path_mtu;
pub mod record;
pub mod show;
pub mod state;
pub mod stats;
pub mod sticky;
pub mod table;
pub mod timer;
pub mod trap;
pub mod wheel;
pub mod window;

pub use endpoint::{Endpoint, EndpointParts};
pub use event::{Command, Event, Level, News, Path, Reply, Transmit};
pub use stats::Stats;

/// Which side of the IKE SA we are. Kept for its whole life; who started one exchange is
/// another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We sent the IKE_SA_INIT request (or started the rekey that made this SA).
    OriginalInitiator,
    /// The peer did.
    OriginalResponder,
}
