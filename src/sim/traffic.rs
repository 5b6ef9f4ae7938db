//! Packets through the tunnels. They show whether a tunnel works, and by them a kernel sees that the
//! peer's NAT has moved it.

use std::net::SocketAddr;
use std::time::Duration;

use super::kernel::ESP;
use super::net::Datagram;
use super::plan::Tunnel;
use super::world::{Happening, Inner, World};
use crate::kernel::KernelEvent;
use crate::steer;

impl World {
    /// Sends one packet through each tunnel of a host, where there is a way.
    pub(super) fn traffic(&mut self, host: usize) {
        self.plan_own(host, TRAFFIC_AFTER, Inner::Traffic);
        for number in 0..self.tunnels.len() {
            let tunnel = &self.tunnels[number];
            if !tunnel.ends_at(host) {
                continue;
            }
            let packet = self.hosts[host]
                .kernel
                .packet(|pairs| tunnel.carries(pairs));
            let Some(packet) = packet else {
                let kernel = &mut self.hosts[host].kernel;
                let asked = kernel.acquire(self.now, |pairs| tunnel.carries(pairs));
                if let Some((shard, event)) = asked {
                    self.plan_own(host, Duration::ZERO, Inner::Answer { shard, event });
                }
                continue;
            };
            for delivery in self.net.send(self.now, host, packet) {
                let (host, datagram) = (delivery.host, delivery.datagram);
                self.plan(delivery.after, Happening::Arrive { host, datagram });
            }
        }
    }

    /// A packet reaches the kernel of a host.
    pub(super) fn esp(&mut self, host: usize, datagram: &Datagram) {
        let Some(inside) = self.hosts[host].kernel.receive(datagram) else {
            return;
        };
        let spi = inside.child;
        if let Some(held) = self.hosts[host].kernel.children.get(&spi) {
            let pairs = &held.install.names.selectors;
            let mine = |tunnel: &Tunnel| tunnel.ends_at(host) && tunnel.carries(pairs);
            if let Some(number) = self.tunnels.iter().position(mine) {
                self.delivered.insert((number, host), self.now);
            }
        }
        let shards = self.hosts[host].plan.shards;
        let shard = steer::shard_of_esp_spi(spi).filter(|shard| shard.0 < shards);
        if let (true, Some(shard)) = (inside.mapping, shard) {
            let remote = datagram.from;
            let event = KernelEvent::Mapping { spi, remote };
            self.plan_own(host, Duration::ZERO, Inner::Answer { shard, event });
        }
    }

    /// Whether packets of this tunnel got in at both ends not long ago.
    pub(super) fn flows(&self, number: usize) -> Result<(), String> {
        let tunnel = &self.tunnels[number];
        for end in [tunnel.from, tunnel.to] {
            let last = self.delivered.get(&(number, end)).copied();
            let since = self.now.saturating_sub(last.unwrap_or_default());
            if since > SILENCE_MAX {
                let (from, to) = (&tunnel.from_id, &tunnel.to_id);
                let name = &self.hosts[end].plan.name;
                return Err(format!(
                    "no packet of {from} - {to} has reached {name} for {since:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Whether a datagram is ESP: by itself, or on the NAT-T port without the marker of IKE.
pub(super) fn is_esp(to: SocketAddr, datagram: &Datagram) -> bool {
    let marked = datagram.bytes.starts_with(&[0; 4]);
    to.port() == ESP || to.port() == 4500 && datagram.bytes.len() > 4 && !marked
}

/// Between two packets of one tunnel.
const TRAFFIC_AFTER: Duration = Duration::from_secs(2);
/// Two packets may be lost to reordering around a rekey, not more.
const SILENCE_MAX: Duration = Duration::from_secs(7);
