//! The invariants: what must hold after every step, whatever the network, the kernels and the
//! operators do. The ledger remembers what was sent and installed, so that it can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::host::{Host, Output};
use super::report::Line;
use super::tunnel;
use crate::crypto::keymat;
use crate::ike::Event;
use crate::ike::state::State;
use crate::kernel::{self, ChildInstall, KernelRequest, SelectorPair};
use crate::steer::{self, ShardId};
use crate::wire::Header;
use crate::wire::registry::{ExchangeType, PayloadType};
use crate::wire::spi::{EspSpi, IkeSpi};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fails with the message unless the condition holds.
macro_rules! demand {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::sim::check::Violation(format!($($message)+)));
        }
    };
}
pub(super) use demand;

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every key that ever encrypted ESP, and the Child SA it belongs to.
    keys: BTreeMap<Vec<u8>, (usize, u32, EspSpi)>,
    /// The last request of each shard in each life.
    requests: BTreeMap<(usize, u32, ShardId), u64>,
    /// The datagrams of each protected message, as first sent.
    messages: BTreeMap<Message, BTreeSet<Vec<u8>>>,
    /// The highest Message ID of requests in one direction of an IKE SA.
    highest: BTreeMap<Direction, u32>,
    /// IVs by direction of an IKE SA.
    ivs: BTreeMap<(Direction, [u8; 8]), Vec<u8>>,
    /// Hexadecimal beginnings of keys in use: they may stand in no log line.
    needles: Vec<String>,
}

type Direction = (Option<IkeSpi>, Option<IkeSpi>, bool);
type Message = (Direction, bool, u32);

/// What a shard was given before it produced output.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Bytes of the datagram.
    pub len: usize,
    /// Nobody with the keys sent it.
    pub forged: bool,
    /// It is of an IKE_SA_INIT exchange, whose answer is made for strangers.
    pub sa_init: bool,
}

impl Ledger {
    /// Looks at everything a shard wants done.
    pub fn output(
        &mut self,
        number: usize,
        host: &Host,
        shard: ShardId,
        output: &Output,
        received: Option<Received>,
    ) -> Result<(), Violation> {
        if let Some(Received {
            len,
            forged: true,
            sa_init: false,
        }) = received
        {
            let sent: usize = output
                .sent
                .iter()
                .map(|datagram| datagram.bytes.len())
                .sum();
            demand!(
                sent <= len,
                "a forged datagram of {len} bytes was answered with {sent}"
            );
        }
        let mut fresh = BTreeSet::new();
        for datagram in &output.sent {
            let ike = datagram
                .bytes
                .strip_prefix(&[0; 4])
                .unwrap_or(&datagram.bytes);
            self.datagram(ike, &mut fresh)?;
        }
        for request in &output.requests {
            if let KernelRequest::AddChild { id, child } = request {
                let last = self.requests.insert((number, host.life, shard), id.0);
                demand!(
                    last.is_none_or(|last| last < id.0),
                    "request {id:?} was used before"
                );
                self.addition(number, host.life, shard, child)?;
            }
        }
        for event in &output.events {
            let Event::Log { line, .. } = event else {
                continue;
            };
            let leak = self
                .needles
                .iter()
                .find(|needle| line.contains(needle.as_str()));
            demand!(leak.is_none(), "a key stands in the log: {line}");
            demand!(
                !line.contains(tunnel::SECRET),
                "a secret stands in the log: {line}"
            );
        }
        Ok(())
    }

    fn datagram(&mut self, ike: &[u8], fresh: &mut BTreeSet<Message>) -> Result<(), Violation> {
        let Ok(header) = Header::decode(ike) else {
            demand!(
                ike == [0xff],
                "neither IKE nor a keepalive was sent: {ike:02x?}"
            );
            return Ok(());
        };
        let skip = match header.next_payload {
            PayloadType::SK => 4,
            PayloadType::SKF => 8,
            _ => return Ok(()),
        };
        let direction = (
            header.initiator_spi,
            header.responder_spi,
            header.flags.initiator,
        );
        let message = (direction, header.flags.response, header.message_id);
        if !header.flags.response {
            let id = header.message_id;
            let highest = self.highest.entry(direction).or_insert(id);
            demand!(
                id == *highest || id == highest.wrapping_add(1),
                "request {id} was sent after {highest}, the window is one"
            );
            *highest = id;
        }
        let known = self.messages.entry(message).or_default();
        if known.is_empty() || fresh.contains(&message) {
            fresh.insert(message);
            known.insert(ike.to_vec());
        }
        demand!(
            known.contains(ike),
            "{} {} was sent again with other bytes",
            header.exchange,
            header.message_id
        );
        let iv = ike
            .get(Header::LEN + skip..)
            .and_then(|body| body.first_chunk::<8>());
        demand!(iv.is_some(), "an encrypted message without IV");
        if let Some(iv) = iv {
            let first = self
                .ivs
                .entry((direction, *iv))
                .or_insert_with(|| ike.to_vec());
            demand!(first == ike, "an IV was used twice");
        }
        Ok(())
    }

    fn addition(
        &mut self,
        number: usize,
        life: u32,
        shard: ShardId,
        child: &ChildInstall,
    ) -> Result<(), Violation> {
        let names = &child.names;
        let spi = names.inbound_spi;
        demand!(
            steer::shard_of_esp_spi(spi) == Some(shard),
            "{spi} was chosen by {shard:?} and does not say so"
        );
        demand!(
            kernel::is_our_reqid(names.reqid),
            "reqid {:#x} is not ours",
            names.reqid
        );
        demand!(!names.selectors.is_empty(), "{spi} has no selectors");
        let (encr, integ) = keymat::child_key_lengths(&child.transforms).unwrap_or((0, 0));
        let keys = &child.keys;
        let lengths = [
            (keys.inbound_encr.expose(), encr),
            (keys.outbound_encr.expose(), encr),
            (keys.inbound_integ.expose(), integ),
            (keys.outbound_integ.expose(), integ),
        ];
        for (key, len) in lengths {
            demand!(
                key.len() == len,
                "{spi} has a key of {} and not {len} bytes",
                key.len()
            );
        }
        let outbound = keys.outbound_encr.expose();
        demand!(
            outbound != keys.inbound_encr.expose(),
            "{spi} has one key for both ways"
        );
        let me = (number, life, spi);
        let first = self.keys.insert(outbound.to_vec(), me);
        demand!(
            first.is_none_or(|first| first == me),
            "{spi} has a key that was used before"
        );
        let start: String = outbound
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.needles.push(start);
        if self.needles.len() > NEEDLES_MAX {
            self.needles.remove(0);
        }
        Ok(())
    }
}

/// Checks what one shard says of itself after a step.
pub fn shard(host: &Host, shard: ShardId) -> Result<(), Violation> {
    let name = &host.plan.name;
    let Some(endpoint) = host
        .shards
        .get(usize::from(shard.0))
        .map(|shard| &shard.endpoint)
    else {
        return Ok(());
    };
    let (stats, len) = (endpoint.stats(), endpoint.len() as u64);
    demand!(stats.faults == 0, "{name} recovered from a fault");
    demand!(len <= IKE_SAS_MAX, "{name} {shard:?} holds {len} IKE SAs");
    let (mut all, mut half_open, mut established, mut leases) = (0, 0, 0, 0);
    for sa in endpoint.ike_sas() {
        let (spi, state) = (sa.own_spi, &sa.state);
        all += 1;
        half_open += u64::from(matches!(state, State::AwaitAuthRequest(_)));
        established += u64::from(matches!(state, State::Established(_)));
        leases += [sa.lease.v4, sa.lease.v6].iter().flatten().count() as u64;
        demand!(
            steer::shard_of_ike_spi(spi) == Some(shard),
            "{name} {shard:?} holds SPI {spi}"
        );
        demand!(
            sa.children.len() <= CHILDREN_MAX,
            "{name}: {spi} holds {} Child SAs",
            sa.children.len()
        );
    }
    let counted = (
        stats.half_open,
        stats.sa_established_current,
        stats.leases,
        len,
    );
    let there = (half_open, established, leases, all);
    demand!(
        counted == there,
        "{name} {shard:?} counts (half-open, established, leases, all) {counted:?} and has {there:?}"
    );
    demand!(
        len == 0 || endpoint.poll_timeout().is_some(),
        "{name} {shard:?} holds IKE SAs and waits for no deadline"
    );
    demand!(
        endpoint.all_have_deadlines(),
        "{name} {shard:?} holds an IKE SA that waits for no deadline"
    );
    Ok(())
}

/// Checks the Child SA that a kernel just got against the other end, wherever that is.
pub fn both_ends(hosts: &[Host], number: usize, spi: EspSpi) -> Result<(), Violation> {
    let Some(mine) = hosts[number].kernel.children.get(&spi) else {
        return Ok(());
    };
    let mine = &mine.install;
    let others = hosts
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != number);
    for (_, host) in others {
        let Some(theirs) = host.kernel.children.get(&mine.names.outbound_spi) else {
            continue;
        };
        let theirs = &theirs.install;
        if theirs.names.outbound_spi != spi {
            continue;
        }
        let same = |a: &ChildInstall, b: &ChildInstall| {
            a.keys.inbound_encr.expose() == b.keys.outbound_encr.expose()
                && a.keys.inbound_integ.expose() == b.keys.outbound_integ.expose()
        };
        demand!(
            same(mine, theirs) && same(theirs, mine),
            "the ends of {spi} have different keys"
        );
        let cpis = |a: &ChildInstall| a.names.ipcomp.map(|cpis| (cpis.inbound, cpis.outbound));
        demand!(
            cpis(mine) == cpis(theirs).map(|(ours, theirs)| (theirs, ours)),
            "the ends of {spi} differ in compression"
        );
        demand!(
            mine.transforms == theirs.transforms,
            "the ends of {spi} differ in transforms"
        );
        demand!(
            mine.names.transport == theirs.names.transport
                && mirrored(&mine.names.selectors) == sorted(&theirs.names.selectors),
            "the ends of {spi} differ in selectors"
        );
    }
    Ok(())
}

type Row = (String, String);

fn sorted(selectors: &[SelectorPair]) -> Vec<Row> {
    let row = |pair: &SelectorPair| {
        let local = format!("{} {:?} {:?}", pair.protocol, pair.local, pair.local_port);
        (local, format!("{:?} {:?}", pair.remote, pair.remote_port))
    };
    let mut rows: Vec<Row> = selectors.iter().map(row).collect();
    rows.sort();
    rows
}

fn mirrored(selectors: &[SelectorPair]) -> Vec<Row> {
    let mirror = |pair: &SelectorPair| SelectorPair {
        local: pair.remote,
        local_port: pair.remote_port,
        remote: pair.local,
        remote_port: pair.local_port,
        ..*pair
    };
    let mirrored: Vec<SelectorPair> = selectors.iter().map(mirror).collect();
    sorted(&mirrored)
}

/// Checks what a whole host shows: `shown` are its shards' lines in order.
pub fn host(host: &Host, shown: &[Vec<Line>]) -> Result<(), Violation> {
    let name = &host.plan.name;
    let (mut spis, mut leases) = (BTreeSet::new(), BTreeSet::new());
    let mut grants = BTreeSet::new();
    let mut children = BTreeSet::new();
    for ((shard, lines), state) in (0..).map(ShardId).zip(shown).zip(&host.shards) {
        demand!(
            lines.len() == state.endpoint.len(),
            "{name} {shard:?} shows not all IKE SAs"
        );
        let granted = state.endpoint.ike_sas().filter_map(|sa| sa.grant);
        grants.extend(granted.map(|grant| (shard, grant)));
        for line in lines {
            demand!(
                spis.insert(line.own_spi),
                "{name} has SPI {:#x} twice",
                line.own_spi
            );
            demand!(
                line.lease.is_empty() || leases.insert(&line.lease),
                "{name} leased {} twice",
                line.lease
            );
            for (inbound, _) in &line.children {
                demand!(
                    children.insert(*inbound),
                    "{name} has Child SA {inbound:#x} twice"
                );
            }
        }
    }
    let held: BTreeSet<_> = host.kernel.grants.keys().copied().collect();
    demand!(
        host.kernel.outstanding() > 0 || held == grants,
        "{name} holds the grants {held:?} and its IKE SAs have {grants:?}"
    );
    Ok(())
}

/// Whether a datagram is of an IKE_SA_INIT exchange.
pub fn is_sa_init(ike: &[u8]) -> bool {
    Header::peek(ike).is_ok_and(|header| header.exchange == ExchangeType::IKE_SA_INIT)
}

/// Keys that the log is searched for: those of the youngest Child SAs.
const NEEDLES_MAX: usize = 40;
/// IKE SAs of one shard, half-open ones of forgers included. A few tunnels, their rekeys and
/// attempts end here never near it.
const IKE_SAS_MAX: u64 = 60;
/// Child SAs under one IKE SA: the one in use, its successor, and what collisions leave behind.
const CHILDREN_MAX: usize = 8;
