//! `iked`: an IKEv2 daemon (RFC 7296) for Linux, compatible with OpenBSD's iked(8).
//!
//! The modules stand in layer order: each may use only those above it (ARCHITECTURE.md has the
//! picture and `tests/tidy.rs` the check).

pub mod wire;
