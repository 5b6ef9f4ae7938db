//! The network: what links do to datagrams on their way, NAT boxes, partitions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::dice::Dice;
use super::plan::{LinkPlan, NatPlan, Plan};

/// A UDP datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What stands in it.
    pub bytes: Vec<u8>,
    /// Nobody who has the keys sent this.
    pub forged: bool,
}

/// A datagram that will arrive.
#[derive(Debug)]
pub struct Delivery {
    /// After how long.
    pub after: Duration,
    /// At which host.
    pub host: usize,
    /// The datagram as it left the sender's NAT.
    pub datagram: Datagram,
}

/// All links and NATs.
#[derive(Debug)]
pub struct Net {
    dice: Dice,
    links: Vec<Link>,
    /// The host behind each address that the world can send to.
    places: BTreeMap<IpAddr, usize>,
    calm: bool,
    /// What became of datagrams.
    pub counts: Counts,
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Lost, or too long, or to nobody.
    pub lost: u64,
    /// Corrupted.
    pub corrupted: u64,
}

#[derive(Debug)]
struct Link {
    plan: LinkPlan,
    nat: Option<Nat>,
    /// Nothing gets out, nothing gets in, until then.
    cut_out_until: Duration,
    cut_in_until: Duration,
}

#[derive(Debug)]
struct Nat {
    plan: NatPlan,
    outside: IpAddr,
    /// Outer port of (inner address, peer where the NAT is symmetric), and when it was last used.
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), (u16, Duration)>,
    next_port: u16,
}

impl Net {
    /// The network of this plan.
    pub fn new(plan: &Plan, dice: Dice) -> Self {
        let mut places = BTreeMap::new();
        let mut links = Vec::new();
        for (number, host) in plan.hosts.iter().enumerate() {
            let outside = host.nat.map_or(host.address, |nat| nat.outside);
            places.insert(outside, number);
            links.push(Link {
                plan: host.link,
                nat: host.nat.map(Nat::new),
                cut_out_until: Duration::ZERO,
                cut_in_until: Duration::ZERO,
            });
        }
        Self {
            dice,
            links,
            places,
            calm: false,
            counts: Counts::default(),
        }
    }

    /// From now on nothing is lost, changed or cut.
    pub fn heal(&mut self) {
        self.calm = true;
        for link in &mut self.links {
            link.cut_in_until = Duration::ZERO;
            link.cut_out_until = Duration::ZERO;
        }
    }

    /// Cuts a host off, in one direction or both.
    pub fn cut(&mut self, host: usize, until: Duration) {
        let ways = self.dice.between(1, 3);
        let link = &mut self.links[host];
        if ways & 1 != 0 {
            link.cut_out_until = until;
        }
        if ways & 2 != 0 {
            link.cut_in_until = until;
        }
    }

    /// The NAT before a host forgets all mappings, and perhaps changes its address. False: there is
    /// none.
    pub fn rebind(&mut self, host: usize) -> bool {
        let Some(nat) = &mut self.links[host].nat else {
            return false;
        };
        nat.mappings.clear();
        if let (true, IpAddr::V4(outside)) = (self.dice.chance(300), nat.outside) {
            self.places.remove(&nat.outside);
            let [a, b, c, d] = outside.octets();
            nat.outside = IpAddr::V4(Ipv4Addr::new(a, b, c, d.wrapping_add(16)));
            self.places.insert(nat.outside, host);
        }
        true
    }

    /// Takes a datagram from a host; returns what will arrive where. None of it, or two of it, or
    /// something else may.
    pub fn send(&mut self, now: Duration, from: usize, mut datagram: Datagram) -> Vec<Delivery> {
        self.counts.sent += 1;
        if let Some(nat) = &mut self.links[from].nat {
            datagram.from = nat.outward(now, &datagram);
        }
        self.carry(now, Some(from), datagram)
    }

    /// Puts a datagram into the network from nowhere.
    pub fn inject(&mut self, now: Duration, datagram: Datagram) -> Vec<Delivery> {
        self.carry(now, None, datagram)
    }

    fn carry(&mut self, now: Duration, from: Option<usize>, datagram: Datagram) -> Vec<Delivery> {
        let Some(&host) = self.places.get(&datagram.to.ip()) else {
            self.counts.lost += 1;
            return Vec::new();
        };
        let cut = from.is_some_and(|from| self.links[from].cut_out_until > now)
            || self.links[host].cut_in_until > now;
        let ends = from.into_iter().chain([host]);
        let links: Vec<LinkPlan> = ends.map(|end| self.links[end].plan).collect();
        let longest = links.iter().map(|link| link.mtu).min().unwrap_or(0);
        let headers = if datagram.to.is_ipv4() { 28 } else { 48 };
        if cut || datagram.bytes.len() + headers > longest {
            self.counts.lost += 1;
            return Vec::new();
        }
        let copies = 1 + usize::from(self.happens(&links, |link| link.double));
        let mut deliveries = Vec::new();
        for _ in 0..copies {
            if self.happens(&links, |link| link.loss) {
                self.counts.lost += 1;
                continue;
            }
            let mut datagram = datagram.clone();
            if self.happens(&links, |link| link.corrupt) {
                self.corrupt(&mut datagram);
            }
            deliveries.push(Delivery {
                after: self.delay(&links),
                host,
                datagram,
            });
        }
        deliveries
    }

    fn happens(&mut self, links: &[LinkPlan], rate: impl Fn(&LinkPlan) -> u64) -> bool {
        !self.calm && links.iter().any(|link| self.dice.chance(rate(link)))
    }

    fn delay(&mut self, links: &[LinkPlan]) -> Duration {
        let mut delay = 0;
        for link in links {
            delay += link.delay + self.dice.between(0, link.jitter);
        }
        if self.happens(links, |link| link.late) {
            delay += self.dice.between(1, 4_000);
        }
        Duration::from_millis(delay)
    }

    fn corrupt(&mut self, datagram: &mut Datagram) {
        let bit = self.dice.below(datagram.bytes.len() * 8);
        if let Some(byte) = datagram.bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
            datagram.forged = true;
            self.counts.corrupted += 1;
        }
    }

    /// What the NAT before the receiver makes of the destination; `None`: it lets nothing in.
    pub fn inward(
        &mut self,
        now: Duration,
        host: usize,
        datagram: &Datagram,
    ) -> Option<SocketAddr> {
        let link = &mut self.links[host];
        match &mut link.nat {
            Some(nat) => nat.inward(now, datagram),
            None => Some(datagram.to),
        }
    }
}

impl Nat {
    fn new(plan: NatPlan) -> Self {
        Self {
            plan,
            outside: plan.outside,
            mappings: BTreeMap::new(),
            next_port: 20_000,
        }
    }

    fn forget_idle(&mut self, now: Duration) {
        let idle = self.plan.idle;
        self.mappings
            .retain(|_, (_, used)| now.saturating_sub(*used) < idle);
    }

    fn outward(&mut self, now: Duration, datagram: &Datagram) -> SocketAddr {
        self.forget_idle(now);
        let peer = self.plan.symmetric.then_some(datagram.to);
        let next_port = &mut self.next_port;
        let mapping = self
            .mappings
            .entry((datagram.from, peer))
            .or_insert_with(|| {
                *next_port += 1;
                (*next_port, now)
            });
        mapping.1 = now;
        SocketAddr::new(self.outside, mapping.0)
    }

    fn inward(&mut self, now: Duration, datagram: &Datagram) -> Option<SocketAddr> {
        self.forget_idle(now);
        if datagram.to.ip() != self.outside {
            return None;
        }
        let mut mappings = self.mappings.iter_mut();
        let (key, mapping) = mappings.find(|((_, peer), (port, _))| {
            *port == datagram.to.port() && peer.is_none_or(|peer| peer == datagram.from)
        })?;
        mapping.1 = now;
        Some(key.0)
    }
}
