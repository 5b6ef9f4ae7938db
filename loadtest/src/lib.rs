//! Synthetic IKEv2 initiators by the thousand, against any responder: what `ikeload` is made of.
//!
//! The peers share wire, crypto and state machine with the daemon: each thread of `engine` is an
//! endpoint that only begins. `run` watches the threads and the responder, `report` says what came
//! of it.

pub mod bars;
pub mod compare;
pub mod credentials;
pub mod engine;
pub mod flood;
pub mod kernel;
pub mod key_pair;
pub mod meter;
pub mod nat;
mod page;
pub mod plot;
pub mod population;
pub mod report;
pub mod responder;
pub mod run;
pub mod scenario;
