//! What was in events that the kernel had to drop: its table is read and compared with the mirror. A
//! Child SA whose SAs are not there any more has expired, one that has passed a soft limit should be
//! replaced, and a packet that waits wants its Child SA. That somebody sends from a new place is said
//! again with each of its packets.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::SystemTime;

use super::Sadb;
use crate::ike::Level;
use crate::kernel::{Found, KernelEvent};
use crate::log;
use crate::wire::spi::EspSpi;

impl Sadb {
    /// The events that there must have been, as far as they can still be known. They may be told
    /// twice; whoever hears them has to expect that.
    pub(super) fn reconcile(&mut self, now: SystemTime) -> Vec<KernelEvent> {
        let Some(backend) = &mut self.backend else {
            return Vec::new();
        };
        let mut there: HashSet<(IpAddr, EspSpi)> = HashSet::new();
        let mut aged = BTreeSet::new();
        let mut events = Vec::new();
        let result = backend.survey(now, &mut |found| match found {
            Found::Sa {
                destination,
                spi,
                aged: inbound,
            } => {
                there.insert((destination, spi));
                aged.extend(inbound);
            }
            Found::Wanted { reqid } => events.push(KernelEvent::Acquire { reqid }),
        });
        if let Err(error) = result {
            let line = format!("kernel events were lost, and what was in them: {error}");
            log::write(Level::Warning, &line);
            return Vec::new();
        }
        for child in self.mirror.children() {
            let spi = child.inbound_spi;
            let outbound = there.contains(&(child.remote, child.outbound_spi));
            let whole = outbound || self.receiving.contains(&spi);
            if !there.contains(&(child.local, spi)) || !whole {
                events.push(KernelEvent::Expire { spi, hard: true });
            } else if aged.contains(&spi) {
                events.push(KernelEvent::Expire { spi, hard: false });
            }
        }
        let line = format!("kernel events were lost; {} found again", events.len());
        log::write(Level::Warning, &line);
        events
    }
}
