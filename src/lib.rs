//! An IKEv2 daemon for Linux: a sharded, thread-per-core responder that is compatible with OpenBSD's
//! iked(8), iked.conf(5) and ikectl(8). Modules stand in layer order: each imports only those above it.

/// Bytes and values of RFC 7296, section 3; no state, no crypto.
pub mod wire {
    pub mod registry;
    pub mod spi;
}
