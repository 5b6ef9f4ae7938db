//! Address pools: `config address A/len`. Each shard has its own slice (the addresses whose place
//! in the pool is congruent to the shard's number), so no two shards can lease one address and no
//! shard has to ask another. What is free is kept as intervals: a lease costs the logarithm of the
//! number of leases, whatever the size of the pool.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::net::IpNet;
use crate::crypto::Rng;

/// Why no address can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Every address of the slice is leased.
    #[error("address pool exhausted")]
    Exhausted,
}

/// One shard's slice of one pool.
#[derive(Clone, Debug)]
pub struct Pool {
    net: IpNet,
    /// First usable address, as its distance from the network's first one.
    low: u64,
    /// Number of usable addresses in the whole pool.
    count: u64,
    shard: u64,
    shards: u64,
    /// Addresses of this slice.
    slots: u64,
    leased: u64,
    /// Free slots as disjoint inclusive intervals that never touch: first to last.
    free: BTreeMap<u64, u64>,
}

impl Pool {
    /// The slice of `shard` out of `shards` slices.
    ///
    /// IPv4: from the host part of the written address (at least 1) up to the one below the
    /// broadcast address; both addresses of a /31, the one of a /32. IPv6: only the last 32 bits
    /// vary, and there is no broadcast address to spare.
    pub fn new(net: IpNet, shard: u8, shards: u8) -> Self {
        let (low, count) = usable(net);
        let shards = u64::from(shards.max(1));
        let shard = u64::from(shard) % shards;
        // Places shard, shard + shards, .. below count.
        let slots = count.saturating_sub(shard).div_ceil(shards);
        let mut free = BTreeMap::new();
        if slots > 0 {
            free.insert(0, slots - 1);
        }
        Self {
            net,
            low,
            count,
            shard,
            shards,
            slots,
            leased: 0,
            free,
        }
    }

    /// Leases an address: the wanted one where it is of this slice and free, else the first free one
    /// after a random place.
    pub fn lease(&mut self, rng: &mut Rng, wanted: Option<IpAddr>) -> Result<IpAddr, PoolError> {
        let wanted = wanted
            .and_then(|addr| self.slot_of(addr))
            .filter(|&slot| self.is_free(slot));
        let slot = match wanted {
            Some(slot) => slot,
            None if self.leased == self.slots => return Err(PoolError::Exhausted),
            None => {
                let start = rng.below(self.slots);
                self.next_free(start).ok_or(PoolError::Exhausted)?
            }
        };
        self.take(slot);
        Ok(self.address(slot))
    }

    /// Gives an address back; one that is not leased is left alone.
    pub fn release(&mut self, addr: IpAddr) {
        let Some(slot) = self.slot_of(addr).filter(|&slot| !self.is_free(slot)) else {
            return;
        };
        self.leased -= 1;
        let (mut first, mut last) = (slot, slot);
        if let Some(below) = slot.checked_sub(1)
            && let Some((start, _)) = self.interval(below)
        {
            self.free.remove(&start);
            first = start;
        }
        if let Some(end) = self.free.remove(&(slot + 1)) {
            last = end;
        }
        self.free.insert(first, last);
    }

    /// The shard whose slice this address is of; `None` for one that the pool does not give.
    pub fn home_of(&self, addr: IpAddr) -> Option<u8> {
        let place = self.place_of(addr)?;
        u8::try_from(place % self.shards).ok()
    }

    /// Number of leased addresses.
    pub fn in_use(&self) -> usize {
        usize::try_from(self.leased).unwrap_or(usize::MAX)
    }

    /// Number of addresses this slice has.
    pub fn size(&self) -> u64 {
        self.slots
    }

    fn take(&mut self, slot: u64) {
        let below = self.free.range_mut(..=slot).next_back();
        let Some((&first, end)) = below.filter(|(_, end)| slot <= **end) else {
            return;
        };
        let last = *end;
        if first < slot {
            *end = slot - 1;
        } else {
            self.free.remove(&first);
        }
        if slot < last {
            self.free.insert(slot + 1, last);
        }
        self.leased += 1;
    }

    fn interval(&self, slot: u64) -> Option<(u64, u64)> {
        let (&first, &last) = self.free.range(..=slot).next_back()?;
        (slot <= last).then_some((first, last))
    }

    fn is_free(&self, slot: u64) -> bool {
        self.interval(slot).is_some()
    }

    fn next_free(&self, start: u64) -> Option<u64> {
        if self.is_free(start) {
            return Some(start);
        }
        let above = self.free.range(start..).next();
        above
            .or_else(|| self.free.iter().next())
            .map(|(&first, _)| first)
    }

    fn slot_of(&self, addr: IpAddr) -> Option<u64> {
        let place = self.place_of(addr)?;
        (place % self.shards == self.shard).then_some(place / self.shards)
    }

    /// How many usable addresses of the whole pool come before this one.
    fn place_of(&self, addr: IpAddr) -> Option<u64> {
        if !self.net.contains(addr) {
            return None;
        }
        let offset = number(addr).checked_sub(number(self.base()))?;
        let place = u64::try_from(offset).ok()?.checked_sub(self.low)?;
        (place < self.count).then_some(place)
    }

    fn address(&self, slot: u64) -> IpAddr {
        let offset = u128::from(self.low + slot * self.shards + self.shard);
        let number = number(self.base()) + offset;
        match self.net.addr {
            // INVARIANT: low + place is inside the network, so an IPv4 number fits 32 bits.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from((number & 0xffff_ffff) as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    /// The address that offsets count from.
    fn base(&self) -> IpAddr {
        varying(self.net).first()
    }
}

/// The part of the network that addresses are drawn from.
fn varying(net: IpNet) -> IpNet {
    if net.is_ipv4() {
        net
    } else {
        IpNet {
            len: net.len.max(96),
            ..net
        }
    }
}

/// Offset of the first usable address, and how many there are.
fn usable(net: IpNet) -> (u64, u64) {
    let part = varying(net);
    let size = number(part.last()) - number(part.first()) + 1;
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let written = u64::try_from(number(net.addr) - number(part.first())).unwrap_or(0);
    if size <= 2 {
        return (written, size - written.min(size));
    }
    let low = written.max(1);
    // The last address of an IPv4 network is its broadcast address.
    let end = if net.is_ipv4() { size - 1 } else { size };
    (low, end.saturating_sub(low))
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pool(text: &str, len: u8, shard: u8, shards: u8) -> Pool {
        Pool::new(
            IpNet {
                addr: text.parse().unwrap(),
                len,
            },
            shard,
            shards,
        )
    }

    fn rng() -> Rng {
        Rng::from_seed([7; 32])
    }

    fn drain(pool: &mut Pool) -> BTreeSet<IpAddr> {
        let mut rng = rng();
        let mut seen = BTreeSet::new();
        while let Ok(address) = pool.lease(&mut rng, None) {
            assert!(seen.insert(address), "{address} leased twice");
        }
        seen
    }

    #[test]
    fn every_host_is_leased_once_and_then_the_pool_is_exhausted() {
        let mut pool = pool("10.0.0.0", 24, 0, 1);
        let seen = drain(&mut pool);
        assert_eq!(seen.len(), 254);
        assert_eq!(seen.first(), Some(&"10.0.0.1".parse().unwrap()));
        assert_eq!(seen.last(), Some(&"10.0.0.254".parse().unwrap()));
        assert_eq!(pool.in_use(), 254);
        assert_eq!(pool.lease(&mut rng(), None), Err(PoolError::Exhausted));
    }

    #[test]
    fn the_written_host_part_is_the_lower_bound() {
        let seen = drain(&mut pool("10.0.0.250", 24, 0, 1));
        assert_eq!(seen.first(), Some(&"10.0.0.250".parse().unwrap()));
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn tiny_pools_lease_all_they_have() {
        assert_eq!(drain(&mut pool("10.0.0.4", 31, 0, 1)).len(), 2);
        assert_eq!(drain(&mut pool("10.0.0.4", 32, 0, 1)).len(), 1);
        assert_eq!(drain(&mut pool("2001:db8::7", 128, 0, 1)).len(), 1);
        assert_eq!(drain(&mut pool("10.0.0.4", 30, 0, 1)).len(), 2);
        assert_eq!(drain(&mut pool("10.0.0.4", 32, 1, 2)).len(), 0);
    }

    #[test]
    fn slices_of_shards_are_disjoint_and_complete() {
        for (net, len, total) in [
            ("10.0.0.0", 24, 254),
            ("10.0.0.7", 28, 8),
            ("fd00::", 120, 255),
        ] {
            for shards in [1, 2, 3, 4, 7] {
                let mut all = BTreeSet::new();
                let mut sum = 0;
                for shard in 0..shards {
                    let slice = drain(&mut pool(net, len, shard, shards));
                    sum += slice.len();
                    all.extend(slice);
                }
                assert_eq!((sum, all.len()), (total, total), "{net}/{len} in {shards}");
            }
        }
    }

    #[test]
    fn a_wanted_address_is_given_when_free_and_in_the_slice() {
        let mut pool = pool("10.0.0.0", 24, 0, 2);
        let wanted = Some("10.0.0.77".parse().unwrap());
        assert_eq!(pool.lease(&mut rng(), wanted).ok(), wanted);
        assert_ne!(pool.lease(&mut rng(), wanted).ok(), wanted, "in use");
        let elsewhere = Some("10.0.0.78".parse().unwrap());
        assert_ne!(
            pool.lease(&mut rng(), elsewhere).ok(),
            elsewhere,
            "of the other shard"
        );
        let outside = Some("192.0.2.1".parse().unwrap());
        assert_ne!(
            pool.lease(&mut rng(), outside).ok(),
            outside,
            "out of range"
        );
        assert_eq!(pool.in_use(), 4);
    }

    #[test]
    fn released_addresses_can_be_leased_again_and_only_once() {
        let mut pool = pool("10.0.0.0", 29, 0, 1);
        let seen = drain(&mut pool);
        for &address in &seen {
            pool.release(address);
            pool.release(address);
        }
        pool.release("192.0.2.1".parse().unwrap());
        assert_eq!(
            (pool.in_use(), pool.free.len()),
            (0, 1),
            "intervals are joined again"
        );
        assert_eq!(drain(&mut pool), seen);
    }

    #[test]
    fn huge_ipv6_pools_vary_the_last_32_bits_and_stay_small() {
        let mut pool = pool("2001:db8::", 64, 3, 4);
        let mut rng = rng();
        let within = IpNet {
            addr: "2001:db8::".parse().unwrap(),
            len: 96,
        };
        let mut leases = BTreeSet::new();
        for _ in 0..5000 {
            let address = pool.lease(&mut rng, None).unwrap();
            assert!(within.contains(address));
            leases.insert(address);
        }
        assert_eq!(leases.len(), 5000);
        for address in leases {
            pool.release(address);
        }
        assert_eq!((pool.in_use(), pool.free.len()), (0, 1));
    }

    #[test]
    fn the_whole_ipv4_space_does_not_overflow() {
        let mut pool = pool("0.0.0.0", 0, 254, 255);
        assert!(pool.lease(&mut rng(), None).is_ok());
        assert_eq!(Pool::new(IpNet::ANY_V4, 0, 1).size(), (1 << 32) - 2);
    }
}
