//! Starting the worker threads, each pinned to a CPU of its own among those this process may use.

use std::io;
use std::thread::JoinHandle;

use core_affinity::CoreId;

use super::ShardParts;
use crate::ike::Level;
use crate::log;

/// CPUs this process may run on, at least one.
pub fn allowed_cpus() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// Starts one shard. Pinning that fails is worth a warning and no more.
pub fn spawn(parts: ShardParts, cpu: Option<CoreId>) -> io::Result<JoinHandle<()>> {
    let id = parts.id;
    std::thread::Builder::new()
        .name(format!("shard-{}", id.0))
        .spawn(move || {
            if let Some(cpu) = cpu
                && !core_affinity::set_for_current(cpu)
            {
                log::write(
                    Level::Warning,
                    format!("shard {}: cannot be pinned to a CPU", id.0),
                );
            }
            if let Err(error) = super::run(parts) {
                log::write(Level::Warning, format!("shard {}: {error}", id.0));
            }
        })
}
