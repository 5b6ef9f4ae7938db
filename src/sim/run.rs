//! The life of a world: chaos, then peace in which everything must come right, then the end, after
//! which nothing may be left.

use std::time::Duration;

use super::check::{Violation, demand};
use super::report::Line;
use super::world::World;
use crate::ike::Command;

impl World {
    /// Runs it to its end.
    pub fn run(&mut self) -> Result<(), Violation> {
        self.rage()?;
        self.heal();
        self.converge()?;
        self.hold()?;
        self.finish()
    }

    fn rage(&mut self) -> Result<(), Violation> {
        while self.now < self.chaos {
            let next = self.now + CHAOS_LOOK_AFTER;
            self.run_until(next)?;
            for host in 0..self.hosts.len() {
                if self.hosts[host].up && self.hosts[host].frozen_until <= self.now {
                    self.show(host)?;
                }
            }
        }
        Ok(())
    }

    fn heal(&mut self) {
        self.tell(|_| "peace".to_owned());
        self.wild = false;
        self.net.heal();
        for host in &mut self.hosts {
            host.kernel.heal();
            host.frozen_until = Duration::ZERO;
        }
    }

    /// Waits until every tunnel has been in perfect order, no attempt is left over, and all work.
    fn converge(&mut self) -> Result<(), Violation> {
        let latest = self.now + CONVERGE_MAX;
        // What was sent before and not answered is given up only now.
        self.run_until(self.now + SETTLE)?;
        let mut perfect = vec![false; self.tunnels.len()];
        loop {
            self.run_until(self.now + PEACE_LOOK_AFTER)?;
            let shown = self.look_at_all()?;
            let attempt = |line: &&Line| !line.is_established() && !line.is_closing();
            let attempt = shown.iter().flatten().find(attempt);
            let mut wrong =
                attempt.map(|line| format!("IKE SA {:#x} is still {}", line.own_spi, line.state));
            for (number, perfect) in perfect.iter_mut().enumerate() {
                let order = self.is_perfect(number, &shown);
                *perfect |= order.is_ok();
                let works = self.works(number, &shown).map_err(|violation| violation.0);
                let works = works.and_then(|()| self.flows(number));
                let order = if *perfect { works } else { order.and(works) };
                if let (None, Err(found)) = (&wrong, order) {
                    wrong = Some(found);
                }
            }
            let Some(wrong) = wrong else {
                self.tell(|_| "in order".to_owned());
                return Ok(());
            };
            demand!(
                self.now < latest,
                "not in order after {CONVERGE_MAX:?}: {wrong}"
            );
        }
    }

    /// From now on every tunnel works at every moment, through all rekeys, and is in perfect
    /// order time and again.
    fn hold(&mut self) -> Result<(), Violation> {
        let until = self.now + HOLD;
        let mut perfect_at = vec![self.now; self.tunnels.len()];
        while self.now < until {
            self.run_until(self.now + HOLD_LOOK_AFTER)?;
            let shown = self.look_at_all()?;
            for (number, perfect_at) in perfect_at.iter_mut().enumerate() {
                self.works(number, &shown)?;
                self.flows(number).map_err(Violation)?;
                match self.is_perfect(number, &shown) {
                    Ok(()) => *perfect_at = self.now,
                    Err(wrong) => {
                        let since = self.now.saturating_sub(*perfect_at);
                        demand!(since < DISORDER_MAX, "out of order for {since:?}: {wrong}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes everything, and looks for what is left.
    fn finish(&mut self) -> Result<(), Violation> {
        for host in 0..self.hosts.len() {
            self.command(host, &Command::Active(false))?;
        }
        let abrupt = self.mishaps.chance(300);
        for host in 0..self.hosts.len() {
            let command = if abrupt {
                Command::Shutdown
            } else {
                Command::ResetSa
            };
            self.command(host, &command)?;
        }
        self.run_until(self.now + FINISH_MAX)?;
        for number in 0..self.hosts.len() {
            self.show(number)?;
            let host = &self.hosts[number];
            let name = &host.plan.name;
            let held = host.kernel.children.len();
            demand!(held == 0, "{name}: {held} Child SAs are left in the kernel");
            demand!(
                host.kernel.outstanding() == 0,
                "{name}: the kernel is not done"
            );
            for shard in &host.shards {
                let stats = shard.endpoint.stats();
                let left = shard.endpoint.len();
                demand!(left == 0, "{name}: {left} IKE SAs are left");
                demand!(
                    stats.leases == 0,
                    "{name}: {} leases are left",
                    stats.leases
                );
                demand!(
                    stats.csa_created == stats.csa_removed,
                    "{name}: {} Child SAs were made and {} removed",
                    stats.csa_created,
                    stats.csa_removed
                );
            }
        }
        Ok(())
    }

    fn look_at_all(&mut self) -> Result<Vec<Vec<Line>>, Violation> {
        let mut shown = Vec::new();
        for host in 0..self.hosts.len() {
            let lines = if self.hosts[host].up {
                self.show(host)?
            } else {
                Vec::new()
            };
            shown.push(lines.into_iter().flatten().collect());
        }
        Ok(shown)
    }

    /// Whether both ends have an IKE SA of this tunnel, and a Child SA through which both send.
    fn works(&self, number: usize, shown: &[Vec<Line>]) -> Result<(), Violation> {
        let tunnel = &self.tunnels[number];
        let (from, to) = (tunnel.from, tunnel.to);
        let ends = [(from, &tunnel.to_id), (to, &tunnel.from_id)];
        let [mine, theirs] = ends.map(|(host, peer)| {
            let peer = peer.to_string();
            let up = |line: &&Line| line.peer_id == peer && line.is_established();
            shown[host].iter().filter(up).collect::<Vec<&Line>>()
        });
        let pair = mine
            .iter()
            .any(|a| theirs.iter().any(|b| a.own_spi == b.peer_spi));
        demand!(
            pair,
            "{} and {} share no IKE SA",
            tunnel.from_id,
            tunnel.to_id
        );
        // Child SAs are looked for in the kernels alone: that is where packets go through.
        let sends = |host: usize, other: usize| {
            let held = self.hosts[host].kernel.children.iter();
            held.filter(|(_, held)| held.outbound)
                .any(|(inbound, held)| {
                    let outbound = held.install.names.outbound_spi;
                    let theirs = self.hosts[other].kernel.children.get(&outbound);
                    theirs.is_some_and(|theirs| {
                        theirs.inbound && theirs.install.names.outbound_spi == *inbound
                    })
                })
        };
        demand!(
            sends(from, to),
            "{} cannot send to {}",
            tunnel.from_id,
            tunnel.to_id
        );
        demand!(
            sends(to, from),
            "{} cannot send to {}",
            tunnel.to_id,
            tunnel.from_id
        );
        Ok(())
    }

    fn held(&self, host: usize, inbound: u32) -> Option<&super::kernel::Held> {
        let spi = crate::wire::spi::EspSpi::new(inbound)?;
        self.hosts[host].kernel.children.get(&spi)
    }

    /// Whether there is exactly one IKE SA and one Child SA of this tunnel, the same at both ends
    /// and in both kernels, and nothing else.
    fn is_perfect(&self, number: usize, shown: &[Vec<Line>]) -> Result<(), String> {
        let tunnel = &self.tunnels[number];
        let ends = [(tunnel.from, &tunnel.to_id), (tunnel.to, &tunnel.from_id)];
        let mut found = Vec::new();
        for (host, peer) in ends {
            let name = &self.hosts[host].plan.name;
            let text = peer.to_string();
            let ours = |line: &&Line| line.peer_id == text && !line.is_closing();
            let lines: Vec<&Line> = shown[host].iter().filter(ours).collect();
            let [line] = lines.as_slice() else {
                return Err(format!("{name} has {} IKE SAs with {peer}", lines.len()));
            };
            if !line.is_established() {
                return Err(format!("{name}: the IKE SA with {peer} is {}", line.state));
            }
            let [(inbound, outbound)] = line.children.as_slice() else {
                let count = line.children.len();
                return Err(format!("{name} has {count} Child SAs with {peer}"));
            };
            let Some(held) = self.held(host, *inbound) else {
                return Err(format!(
                    "{name} has Child SA {inbound:#x} not in its kernel"
                ));
            };
            if !held.inbound || !held.outbound {
                return Err(format!(
                    "{name} has half of Child SA {inbound:#x} in its kernel"
                ));
            }
            found.push((line.own_spi, line.peer_spi, *inbound, *outbound));
        }
        let [(own, peer, inbound, outbound), other] = found.as_slice() else {
            return Err("a tunnel has two ends".to_owned());
        };
        if (*peer, *own, *outbound, *inbound) != *other {
            return Err(format!("the ends of {} have different SAs", tunnel.from_id));
        }
        for (host, _) in ends {
            let held = self.hosts[host].kernel.children.iter();
            let ours = held.filter(|(_, held)| tunnel.carries(&held.install.names.selectors));
            let ours: Vec<_> = ours.map(|(spi, _)| spi).collect();
            if ours.len() != 1 {
                let name = &self.hosts[host].plan.name;
                return Err(format!(
                    "the kernel of {name} holds {ours:?} for {}",
                    tunnel.from_id
                ));
            }
        }
        Ok(())
    }
}

/// How often invariants that need `show sa` are checked.
const CHAOS_LOOK_AFTER: Duration = Duration::from_secs(5);
const PEACE_LOOK_AFTER: Duration = Duration::from_secs(2);
const HOLD_LOOK_AFTER: Duration = Duration::from_millis(1_000);
/// Five times what a request is repeated for until its sender gives up: the sender must notice
/// (by a rekey or by DPD), give up, initiate again, and meet the leftovers of the last attempt.
const CONVERGE_MAX: Duration = Duration::from_secs(5 * 126);
/// Longer than any request is repeated.
const SETTLE: Duration = Duration::from_secs(130);
/// How long order is watched: some lifetimes.
const HOLD: Duration = Duration::from_secs(450);
/// Rekeys, their Deletes and the time an SA lingers may take this long.
const DISORDER_MAX: Duration = Duration::from_secs(60);
/// Longer than any request is repeated and any SA lingers.
const FINISH_MAX: Duration = Duration::from_secs(140);
