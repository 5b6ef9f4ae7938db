//! A world in one thread: hosts of several shards each, kernels, NATs and a network that loses,
//! doubles, delays and changes datagrams, all drawn from one seed. Nothing here asks a clock or the
//! system, so a seed that fails fails again, line by line.
//!
//! A world lives in three parts: chaos; peace, in which every tunnel must come up and stay up
//! through all rekeys; the end, after which nothing may be left in kernels, tables and pools. The
//! invariants of [`check`] hold at every step. `tests/sim.rs` runs many worlds. Compiled for
//! tests and with the `sim` feature only.

pub mod check;
pub mod dice;
pub mod host;
pub mod kernel;
mod mishap;
pub mod net;
pub mod outside;
pub mod plan;
pub mod report;
mod run;
mod traffic;
pub mod tunnel;
pub mod world;

pub use check::Violation;
pub use world::World;
