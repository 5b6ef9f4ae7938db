//! The one time argument: the core never asks a clock, it is told.

use std::time::{Instant, SystemTime};

/// The moment of one wake-up, on both clocks; read once by the shell and passed in.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic, for timers and intervals.
    pub mono: Instant,
    /// Wall clock, for certificate validity and log lines only.
    pub wall: SystemTime,
}
