//! `iked`: an IKEv2 daemon (RFC 7296) for Linux, compatible with OpenBSD's iked(8).
//!
//! The modules in layer order, each above those that may use it (ARCHITECTURE.md has the picture,
//! `tests/tidy.rs` the check):
//!
//! - [`wire`], [`sys`], [`time`]: bytes, system calls, the time argument
//! - [`crypto`], [`policy`], [`steer`]: algorithms, what the administrator wants, whose datagram
//! - [`kernel`], [`lookup::port`], [`radius`], [`auth`], [`ike`]: the ports to the kernel and to the outside,
//!   RADIUS as values, proofs of identity, the protocol
//! - [`config`], [`mail`], [`log`]: iked.conf(5), what threads tell each other, the log
//! - [`xfrm`], [`pfkey`], [`route`], [`sadb`], [`lookup`], [`shard`], [`control`]: the threads and their tools
//! - [`daemon`]: the only one that knows them all
//! - `sim`: whole worlds of all this in one thread, for tests only

pub mod auth;
pub mod ca;
pub mod config;
pub mod control;
pub mod crypto;
pub mod daemon;
pub mod fuzzing;
pub mod ike;
pub mod kernel;
pub mod log;
pub mod lookup;
pub mod mail;
pub mod pfkey;
pub mod policy;
pub mod radius;
pub mod route;
pub mod sadb;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod steer;
pub mod sys;
pub mod time;
pub mod wire;
pub mod xfrm;
