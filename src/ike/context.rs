//! What every exchange of a shard shares: configuration, algorithms, randomness, pools, counters,
//! and the places where output waits to be drained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::account::Accounts;
use super::agenda::Task;
use super::backlog::Backlog;
use super::child_sa::ChildSa;
use super::cookie::Cookies;
use super::event::{Event, Level, News, Path, Reply};
use super::exchange::announce;
use super::exchange::redirect::Start;
use super::exchange::relay::Admission;
use super::ike_sa::IkeSa;
use super::lease::{Lease, Pools};
use super::stats::Stats;
use super::sticky::Held;
use super::trap::Traps;
use crate::auth::chain::ChainCache;
use crate::auth::store::CredentialStore;
use crate::crypto::{Provider, Rng};
use crate::kernel::{self, ChildRemove, KernelRequest, RequestId};
use crate::lookup::port::{Lookup, LookupId, Question, Record};
use crate::policy::{Config, Identity, IpNet, Options, Policy};
use crate::steer::{self, ShardId};
use crate::wire::spi::{Cpi, EspSpi, IkeSpi};

/// The shared part of an [`Endpoint`](super::Endpoint).
#[derive(Debug)]
pub struct Context {
    /// Which shard this is; every SPI drawn here carries it.
    pub shard: ShardId,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// What of it an IKE_SA_INIT response announces.
    pub announced: announce::Ours,
    /// The command line.
    pub options: Arc<Options>,
    /// Keys and certificates.
    pub store: Arc<CredentialStore>,
    /// Certificate chains of peers that were verified.
    pub chains: ChainCache,
    /// Algorithms.
    pub provider: Provider,
    /// The one source of randomness.
    pub rng: Rng,
    /// Cookies.
    pub cookies: Cookies,
    /// Address pools.
    pub pools: Pools,
    /// Addresses whose peers are gone, and may come again (`set stickyaddress`).
    pub held: Held,
    /// Child SAs that are given up and still in the kernel, and until when; the oldest first.
    pub leaving: VecDeque<(Instant, Box<ChildRemove>)>,
    /// Counters.
    pub stats: Stats,
    /// What is counted of peers for accounting servers.
    pub accounts: Accounts,
    /// Output.
    pub out: Outbox,
    /// What the kernel thread owes us.
    pub backlog: Backlog,
    /// Are Child SAs loaded into the kernel?
    pub coupled: bool,
    /// Policies, by name, whose peers know since we started that nothing of before is left.
    pub greeted: BTreeSet<String>,
    /// IKE SAs of each active policy, by its name, in all shards. Told by mail, so for a moment it
    /// may be off, and even below zero.
    served: BTreeMap<String, i64>,
    /// When of two IKE SAs of a policy one may be deleted next, and how long the last pause was.
    pub singled: BTreeMap<String, (Instant, Duration)>,
    /// The least important lines that somebody reads.
    pub log_level: Level,
    /// May active policies begin?
    pub active: bool,
    /// What the kernel holds back for our policies.
    pub traps: Traps,
    /// Limits unprotected answers.
    pub hints: Budget,
    /// Limits the lines about what nobody vouches for.
    pub drops: Drops,
    /// The IKE SA of each Child SA, by inbound SPI.
    pub children: HashMap<EspSpi, IkeSpi, SeedableRandomState>,
    /// The Child SA that each CPI of ours was drawn for, by inbound SPI; it may be gone.
    pub cpis: BTreeMap<Cpi, EspSpi>,
    /// When this endpoint was made.
    pub started_at: Instant,
    next_request: u64,
    next_lookup: u64,
    next_reqid: u32,
    shards: u8,
}

/// Output that waits for `poll_*`.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Datagrams.
    pub transmits: VecDeque<(Path, Vec<u8>)>,
    /// Empty buffers for datagrams to come.
    pub spare: Vec<Vec<u8>>,
    /// Kernel requests.
    pub kernel: VecDeque<KernelRequest>,
    /// Questions to the lookup thread.
    pub lookups: VecDeque<Lookup>,
    /// Records for the accounting servers.
    pub records: VecDeque<Record>,
    /// Events.
    pub events: VecDeque<Event>,
    /// Answers to commands.
    pub replies: VecDeque<(u64, Reply)>,
    /// New IKE SAs that came of a rekey.
    pub births: Vec<IkeSa>,
    /// What IKE SAs that were rekeyed leave to their successors.
    pub bequests: Vec<Bequest>,
    /// IKE SAs to be begun, where a peer sent us elsewhere.
    pub starts: Vec<Start>,
    /// What this shard and the others must hear.
    pub news: VecDeque<News>,
    /// Addresses that peers left behind, to be held for a moment.
    pub left: Vec<(Identity, Lease)>,
}

impl Outbox {
    /// An empty buffer for a datagram.
    pub fn blank(&mut self) -> Vec<u8> {
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(SPARE_LEN))
    }

    /// Keeps the buffer of a datagram that is gone.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= SPARE_LEN && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// What an IKE SA that was rekeyed leaves behind.
#[derive(Debug)]
pub struct Bequest {
    /// The successor, by our SPI.
    pub to: IkeSpi,
    /// Its Child SAs.
    pub children: Vec<ChildSa>,
    /// The addresses its peer holds.
    pub lease: Lease,
    /// What the peer granted us.
    pub grant: Option<RequestId>,
    /// What a RADIUS server said of its peer.
    pub admission: Option<Box<Admission>>,
    /// What it meant to do for its Child SAs.
    pub tasks: Vec<(Instant, Task)>,
    /// From when on the peer should know the successor, and so requests on it.
    pub known_at: Instant,
    /// When the successor must end: it is none, but lost against another.
    pub end_at: Option<Instant>,
}

impl Context {
    /// Puts the parts together.
    pub fn new(mut parts: super::EndpointParts) -> Self {
        let seed = parts.rng.u64();
        let hasher = SeedableRandomState::with_seed(seed, foldhash::SharedSeed::global_fixed());
        let coupled = parts.config.settings.couple;
        let active = parts.config.settings.active;
        let hashes = parts.provider.signature_hashes;
        Self {
            shard: parts.shard,
            announced: announce::Ours::of(&parts.config, hashes),
            config: parts.config,
            options: parts.options,
            store: parts.store,
            chains: ChainCache::default(),
            provider: parts.provider,
            rng: parts.rng,
            cookies: Cookies::new(parts.cookie_seed),
            pools: Pools::new(parts.shard.0, parts.shards),
            held: Held::default(),
            leaving: VecDeque::new(),
            stats: Stats::default(),
            accounts: Accounts::default(),
            out: Outbox::default(),
            backlog: Backlog::default(),
            coupled,
            log_level: Level::Debug,
            active,
            greeted: BTreeSet::new(),
            traps: Traps::default(),
            served: BTreeMap::new(),
            singled: BTreeMap::new(),
            hints: Budget::new(parts.now.mono),
            drops: Drops::new(parts.now.mono),
            children: HashMap::with_hasher(hasher),
            cpis: BTreeMap::new(),
            started_at: parts.now.mono,
            next_request: 1,
            next_lookup: 1,
            next_reqid: u32::from(parts.shard.0),
            shards: parts.shards,
        }
    }

    /// Queues a datagram.
    pub fn transmit(&mut self, path: Path, datagram: Vec<u8>) {
        self.out.transmits.push_back((path, datagram));
    }

    /// Queues a copy of a datagram.
    pub fn transmit_copy(&mut self, path: Path, datagram: &[u8]) {
        let mut bytes = self.out.blank();
        bytes.extend_from_slice(datagram);
        self.transmit(path, bytes);
    }

    /// Whether somebody reads lines of this level: what is dear to put together asks first.
    pub fn is_read(&self, level: Level) -> bool {
        level <= self.log_level
    }

    /// A state change worth a line.
    pub fn info(&mut self, line: fmt::Arguments<'_>) {
        self.log(Level::Info, line, false);
    }

    /// A fault that should not be.
    pub fn warn(&mut self, line: fmt::Arguments<'_>) {
        self.log(Level::Warning, line, false);
    }

    /// A detail for whoever looks for a fault.
    pub fn debug(&mut self, line: fmt::Arguments<'_>) {
        self.log(Level::Debug, line, false);
    }

    /// Says why a datagram that nobody vouches for was not taken, unless [`Drops`] has had enough:
    /// then the line is not even put together.
    pub fn dropped(&mut self, line: fmt::Arguments<'_>) {
        match self.drops.take() {
            None => {}
            Some(0) => self.noise(line),
            Some(more) => self.noise(format_args!("{line} ({more} more suppressed)")),
        }
    }

    /// A line about a peer that has not proven who it is: the sink limits the rate.
    pub fn noise(&mut self, line: fmt::Arguments<'_>) {
        self.log(Level::Info, line, true);
    }

    /// A line of any level.
    pub fn log(&mut self, level: Level, line: fmt::Arguments<'_>, unauthenticated: bool) {
        if self.is_read(level) && self.out.events.len() < EVENTS_MAX {
            let mut text = String::with_capacity(LINE_LEN);
            // A String takes whatever is written to it.
            let _ = text.write_fmt(line);
            self.out.events.push_back(Event::Log {
                level,
                line: text,
                unauthenticated,
            });
        }
    }

    /// The active policies that this shard begins (the others are other shards').
    pub fn own_active(&self) -> Vec<Arc<Policy>> {
        let (shard, shards) = (u32::from(self.shard.0), u32::from(self.shards.max(1)));
        let ours = |policy: &&Arc<Policy>| policy.active && policy.index % shards == shard;
        self.config.policies.iter().filter(ours).cloned().collect()
    }

    /// Counts an IKE SA of an active policy that has come (`more`) or gone.
    pub fn count_served(&mut self, policy: &str, more: bool) {
        let change = if more { 1 } else { -1 };
        let count = self.served.entry(policy.to_owned()).or_default();
        *count += change;
        if *count == 0 {
            self.served.remove(policy);
        }
    }

    /// How many IKE SAs this active policy has, in whatever state and shard.
    pub fn served(&self, policy: &Policy) -> i64 {
        self.served.get(&policy.name).copied().unwrap_or(0)
    }

    /// Gives back the addresses that an IKE SA held.
    pub fn release(&mut self, lease: Lease) {
        self.move_out(&lease);
        self.free(lease);
    }

    /// An IKE SA of this shard holds these addresses no more, but they stay leased.
    pub fn move_out(&mut self, lease: &Lease) {
        self.pools.move_out(lease);
        self.stats.leases = self.pools.in_use() as u64;
    }

    /// Makes addresses free, here or in the shard whose slice they are of.
    pub fn free(&mut self, lease: Lease) {
        for (address, net, home) in self.pools.free(&lease) {
            let news = News::Returned { address, net, home };
            self.out.news.push_back(news);
        }
    }

    /// The addresses that this peer's IKE SA held may soon be asked for again.
    pub fn keep(&mut self, identity: &Identity, lease: Lease) {
        self.move_out(&lease);
        self.out.left.push((identity.clone(), lease));
    }

    /// A number for what is asked.
    pub fn next_serial(&mut self) -> u64 {
        let serial = self.next_lookup;
        self.next_lookup += 1;
        serial
    }

    /// Asks all shards, this one too, to hand over the addresses that this peer has of these pools
    /// to the IKE SA with this SPI of ours; returns the question's serial number and how many
    /// answers there will be.
    pub fn claim(&mut self, spi: IkeSpi, identity: Identity, pools: Vec<IpNet>) -> (u64, u8) {
        let serial = self.next_serial();
        let by = LookupId { spi, serial };
        self.out.news.push_back(News::Claim {
            identity,
            pools,
            by,
        });
        (serial, self.shards.max(1))
    }

    /// A fresh IKE SPI of ours.
    pub fn draw_ike_spi(&mut self) -> IkeSpi {
        steer::tag_spi(self.rng.u64(), self.shard)
    }

    /// A fresh ESP SPI of ours. Of 24 random bits many are taken in a large house; once all tries
    /// are, the kernel will refuse the double.
    pub fn draw_esp_spi(&mut self) -> EspSpi {
        let mut spi = steer::tag_esp_spi(self.rng.u32(), self.shard);
        for _ in 0..DRAWS_MAX {
            if !self.children.contains_key(&spi) {
                break;
            }
            spi = steer::tag_esp_spi(self.rng.u32(), self.shard);
        }
        spi
    }

    /// A fresh CPI of ours, no other shard's: inbound SAs of IPComp are told apart by nothing else.
    /// `None` where too many are taken.
    pub fn draw_cpi(&mut self) -> Option<Cpi> {
        let (shard, shards) = (u16::from(self.shard.0), u16::from(self.shards.max(1)));
        let share = (Cpi::GREATEST - Cpi::LEAST) / shards;
        (0..DRAWS_MAX).find_map(|_| {
            let drawn = u16::try_from(self.rng.below(u64::from(share))).ok()?;
            let cpi = Cpi::new(Cpi::LEAST + drawn * shards + shard)?;
            let owner = self.cpis.get(&cpi);
            let taken = owner.is_some_and(|spi| self.children.contains_key(spi));
            (!taken).then_some(cpi)
        })
    }

    /// Names the next kernel request.
    pub fn next_request(&mut self) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        id
    }

    /// Asks something for the IKE SA with this SPI of ours; returns the question's serial number.
    pub fn ask(&mut self, spi: IkeSpi, until: Instant, question: Question) -> u64 {
        let serial = self.next_serial();
        self.stats.lookups += 1;
        let id = LookupId { spi, serial };
        self.out.lookups.push_back(Lookup {
            id,
            until,
            question,
        });
        serial
    }

    /// The next reqid: ours by its tag, and no other shard's; 24 bits of count.
    pub fn next_reqid(&mut self) -> u32 {
        self.next_reqid = self.next_reqid.wrapping_add(u32::from(self.shards));
        kernel::REQID_TAG | self.next_reqid & 0x00ff_ffff
    }
}

/// A token bucket for answers that no one vouches for: `HINTS_PER_SECOND`, no burst above it.
#[derive(Debug)]
pub struct Budget {
    left: u32,
    refilled_at: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            left: HINTS_PER_SECOND,
            refilled_at: now,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.refilled_at) >= Duration::from_secs(1) {
            self.left = HINTS_PER_SECOND;
            self.refilled_at = now;
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

/// A token bucket for lines about datagrams that nobody vouches for: `DROPS_BURST` at once, then
/// one in a second. The first line after a pause tells how many there were not.
#[derive(Debug)]
pub struct Drops {
    left: u64,
    refilled_at: Instant,
    suppressed: u64,
}

impl Drops {
    fn new(now: Instant) -> Self {
        Self {
            left: DROPS_BURST,
            refilled_at: now,
            suppressed: 0,
        }
    }

    /// Tells the time, before a datagram is looked at.
    pub fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled_at).as_secs();
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds).min(DROPS_BURST);
            self.refilled_at = now;
        }
    }

    /// Whether a line would be written now.
    pub const fn is_open(&self) -> bool {
        self.left > 0
    }

    /// Takes one, if there is one; how many were refused since the last.
    fn take(&mut self) -> Option<u64> {
        let Some(left) = self.left.checked_sub(1) else {
            self.suppressed += 1;
            return None;
        };
        self.left = left;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Tries for a free ESP SPI or CPI; even with half of them taken all fail once in a million times.
const DRAWS_MAX: u32 = 20;
/// INVALID_IKE_SPI and INVALID_MAJOR_VERSION hints of one shard in a second: enough for peers of a
/// restarted gateway to learn of it, useless to a reflector.
const HINTS_PER_SECOND: u32 = 50;
/// Lines about dropped datagrams at once: a client that tries all it has is seen whole, a flood
/// is not.
const DROPS_BURST: u64 = 5;
/// Bytes that hold most lines of the log.
const LINE_LEN: usize = 224;
/// Buffers kept for datagrams: as many as one turn of a shard sends at once, more or less.
const SPARE_MAX: usize = 64;
/// Bytes of each of them at least, so that none has to grow for a datagram of the usual size.
const SPARE_LEN: usize = 1280;
/// Log lines that wait for the shell; more in one turn are not written.
const EVENTS_MAX: usize = 4096;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use super::*;

    #[test]
    fn five_lines_at_once_then_one_in_a_second_and_the_rest_is_counted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut drops = Drops::new(start);
        let mut take = |ms, times: usize| {
            drops.refill(at(ms));
            let taken: Vec<_> = (0..times).filter_map(|_| drops.take()).collect();
            taken
        };
        assert_eq!(take(0, 100), [0; 5]);
        assert!(take(999, 10).is_empty());
        assert_eq!(take(1000, 10), [105]);
        assert!(take(1999, 1).is_empty());
        assert_eq!(take(2000, 1), [10]);
        // However long it was quiet, no more than five.
        assert_eq!(take(1_000_000, 9), [0; 5]);
        assert_eq!(take(1_002_000, 9), [4, 0]);
    }
}
