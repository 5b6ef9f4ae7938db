//! What goes wrong in a world beside its links and kernels: restarts, partitions, clocks, NATs,
//! forgers, and operators who reset things.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::check::Violation;
use super::net::Datagram;
use super::world::{Happening, Inner, World};
use crate::ike::Command;
use crate::policy::Config;
use crate::wire::spi::EspSpi;

impl World {
    /// Lets one thing go wrong, and plans the next.
    pub(super) fn mishap(&mut self) -> Result<(), Violation> {
        if !self.wild {
            return Ok(());
        }
        let mean = u64::try_from(self.pause.as_millis()).unwrap_or(1_000);
        let pause = self.mishaps.millis(0, 2 * mean);
        self.plan(pause, Happening::Mishap);
        let host = self.mishaps.below(self.hosts.len());
        if !self.hosts[host].up {
            return Ok(());
        }
        match self.mishaps.below(17) {
            0 | 1 => self.rebind(host),
            2 => self.partition(host),
            3 => self.freeze(host),
            4 => self.shift(host),
            5 => self.crash(host),
            6..=8 => self.operate(host),
            9 | 10 => self.collide(),
            11 => self.expire_by_chance(host),
            12 => self.reload(host),
            _ => self.forge(),
        }
        Ok(())
    }

    fn rebind(&mut self, host: usize) {
        if self.net.rebind(host) {
            self.tell(|world| format!("the NAT of {} forgets", world.hosts[host].plan.name));
        }
    }

    fn partition(&mut self, host: usize) {
        let longest = self.mishaps.pick([5, 30, 150]);
        let until = self.now + self.mishaps.seconds(1, longest);
        self.net.cut(host, until);
        self.tell(|world| format!("{} is cut off until {until:?}", world.hosts[host].plan.name));
    }

    /// All clocks of a host but those of the others stand still: a virtual machine that is moved.
    fn freeze(&mut self, host: usize) {
        let until = self.now + self.mishaps.seconds(1, 60);
        self.hosts[host].frozen_until = until;
        self.tell(|world| {
            format!(
                "{} stands still until {until:?}",
                world.hosts[host].plan.name
            )
        });
    }

    fn shift(&mut self, host: usize) {
        let seconds = i64::try_from(self.mishaps.between(0, 172_800)).unwrap_or(0);
        self.hosts[host].wall_shift = seconds - 86_400;
        self.tell(|world| {
            format!(
                "{}: wall clock off by {seconds} s",
                world.hosts[host].plan.name
            )
        });
    }

    fn crash(&mut self, host: usize) {
        self.hosts[host].crash();
        let after = self.mishaps.seconds(0, 40);
        self.tell(|world| format!("{} crashes for {after:?}", world.hosts[host].plan.name));
        self.plan(after, Happening::Restart { host });
    }

    /// The shards get a new configuration, which says the same, one after the other.
    fn reload(&mut self, host: usize) {
        let mut config = Config::clone(&self.hosts[host].plan.config);
        config.generation.0 += 1;
        let config = Arc::new(config);
        self.hosts[host].plan.config = Arc::clone(&config);
        self.tell(|world| format!("{} reloads", world.hosts[host].plan.name));
        for shard in self.hosts[host].shard_ids() {
            let after = self.mishaps.millis(0, 50);
            let config = Arc::clone(&config);
            self.plan_own(host, after, Inner::Reload { shard, config });
        }
    }

    fn operate(&mut self, host: usize) {
        let tunnel = self.mishaps.below(self.tunnels.len());
        let tunnel = &self.tunnels[tunnel];
        let command = match self.mishaps.below(6) {
            0 => Command::ResetSa,
            1 => Command::ResetAll,
            2 => Command::ResetId(tunnel.to_id.to_string()),
            3 => Command::ResetId(tunnel.from_id.to_string()),
            // Not waiting for the daemon to do it by itself.
            4 => {
                let (from, policy) = (tunnel.from, tunnel.policy);
                let shards = u32::from(self.hosts[from].plan.shards);
                let shard = crate::steer::ShardId(u8::try_from(policy % shards).unwrap_or(0));
                if self.hosts[from].up && self.hosts[from].frozen_until <= self.now {
                    let what = Inner::Initiate { shard, policy };
                    self.plan_own(from, Duration::ZERO, what);
                }
                return;
            }
            _ => Command::ShowStats,
        };
        self.plan_own(host, Duration::ZERO, Inner::Command(command));
    }

    /// Both ends of one tunnel are told at once to replace their Child SAs.
    fn collide(&mut self) {
        let tunnel = self.mishaps.below(self.tunnels.len());
        let ends = [self.tunnels[tunnel].from, self.tunnels[tunnel].to];
        for end in ends {
            let spis: Vec<EspSpi> = self.hosts[end].kernel.children.keys().copied().collect();
            for spi in spis {
                self.expire(end, spi, false);
            }
        }
    }

    fn expire_by_chance(&mut self, host: usize) {
        let spis: Vec<EspSpi> = self.hosts[host].kernel.children.keys().copied().collect();
        if !spis.is_empty() {
            let spi = spis[self.mishaps.below(spis.len())];
            self.expire(host, spi, false);
        }
    }

    /// Somebody who saw the wire sends what he saw again, or changed, or made up.
    fn forge(&mut self) {
        for _ in 0..self.mishaps.between(1, 8) {
            if self.captured.is_empty() {
                return;
            }
            let seen = self.mishaps.below(self.captured.len());
            let mut datagram = self.captured[seen].clone();
            if self.mishaps.chance(500) {
                let port = u16::try_from(self.mishaps.between(1024, 65_000)).unwrap_or(1024);
                let elsewhere: IpAddr = if datagram.to.is_ipv4() {
                    Ipv4Addr::new(198, 51, 100, 66).into()
                } else {
                    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66).into()
                };
                datagram.from = SocketAddr::new(elsewhere, port);
            }
            self.change(&mut datagram);
            for delivery in self.net.inject(self.now, datagram) {
                let (host, datagram) = (delivery.host, delivery.datagram);
                self.plan(delivery.after, Happening::Arrive { host, datagram });
            }
        }
    }

    fn change(&mut self, datagram: &mut Datagram) {
        let kind = self.mishaps.below(5);
        // A mere repetition is no forgery: the answer may be sent again.
        datagram.forged = kind > 0;
        let len = datagram.bytes.len();
        match kind {
            0 => {}
            1 => {
                let at = self.mishaps.below(len);
                datagram.bytes[at] ^= 1 << self.mishaps.below(8);
            }
            2 => datagram.bytes.truncate(self.mishaps.below(len)),
            3 => datagram.bytes.extend(self.mishaps.bytes::<16>()),
            // Another SPI, so that it may pass as new.
            _ => {
                let noise = self.mishaps.bytes::<8>();
                let marker = if datagram.to.port() == 4500 { 4 } else { 0 };
                if let Some(spi) = datagram.bytes.get_mut(marker..marker + 8) {
                    spi.copy_from_slice(&noise);
                }
            }
        }
    }
}
