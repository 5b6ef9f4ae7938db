//! `iked`: an IKEv2 daemon (RFC 7296) for Linux, compatible with OpenBSD's iked(8).
//!
//! The modules stand in layer order: each may use only those above it (ARCHITECTURE.md has the
//! picture and `tests/tidy.rs` the check).

pub mod wire;
pub mod sys;
pub mod time;
pub mod crypto;
pub mod policy;
pub mod steer;
pub mod kernel;
pub mod auth;
pub mod ike;
pub mod mail;
pub mod log;
pub mod config;
pub mod xfrm;
pub mod sadb;
pub mod shard;
pub mod control;
pub mod daemon;
