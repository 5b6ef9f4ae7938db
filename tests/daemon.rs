//! The real program from outside: what its flags do, what it refuses and in which words, which
//! address answers, how it ends, and what datagrams that are wrong make it do: mostly nothing.
//!
//! Each test runs in a network namespace of its own (`daemon/house.rs`) and needs root for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "the daemon runs in real time, and so does who waits for it"
)]

#[path = "daemon/activation.rs"]
mod activation;
#[path = "daemon/addresses.rs"]
mod addresses;
#[path = "daemon/bad_input.rs"]
mod bad_input;
#[path = "daemon/certified.rs"]
mod certified;
#[path = "daemon/client.rs"]
mod client;
#[path = "daemon/desk.rs"]
mod desk;
#[path = "daemon/files.rs"]
mod files;
#[path = "daemon/flags.rs"]
mod flags;
#[path = "daemon/house.rs"]
mod house;
#[path = "daemon/life.rs"]
mod life;
#[path = "daemon/lists.rs"]
mod lists;
#[path = "daemon/many.rs"]
mod many;
#[path = "daemon/names.rs"]
mod names;
#[path = "daemon/probe.rs"]
mod probe;
#[path = "daemon/revocation.rs"]
mod revocation;
#[path = "daemon/shown.rs"]
mod shown;
#[path = "daemon/slow_log.rs"]
mod slow_log;
#[path = "daemon/theirs.rs"]
mod theirs;
