//! The control socket: `ikectl` on one end, every shard on the other.
//!
//! `imsg` has the frames both ends speak, `grammar` and `client` are the `ikectl` end. `server` is
//! the daemon's main thread: it takes requests, has `gather` collect the answers of all shards, and
//! listens to signals. What a reload means is not decided here; the daemon passes it in as
//! [`server::Hooks`].

mod answer;
pub mod client;
mod connection;
pub mod gather;
pub mod grammar;
pub mod imsg;
pub mod listener;
pub mod query;
pub mod server;
pub mod signals;
mod top;

/// Where the socket is unless `-s` says otherwise.
pub const SOCKET: &str = "/var/run/iked.sock";
