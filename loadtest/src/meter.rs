//! What was measured: how long each exchange and each handshake took, and what became of each peer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use iked::wire::Header;
use iked::wire::registry::ExchangeType;
use iked::wire::spi::IkeSpi;
use serde::Serialize;

/// Durations in microseconds, to three digits, an hour at most.
#[derive(Clone, Debug)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    #[expect(
        clippy::expect_used,
        reason = "three digits and an hour are bounds that it can have"
    )]
    fn default() -> Self {
        Self(Histogram::new_with_max(MICROS_MAX, 3).expect("bounds of a histogram"))
    }
}

impl Durations {
    /// One more.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(MICROS_MAX);
        self.0.saturating_record(micros.min(MICROS_MAX));
    }

    /// Those of another thread as well.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so that there is nothing it could refuse.
        let _ = self.0.add(&other.0);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that this part of them, 0 to 1, does not exceed, in milliseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        self.0.value_at_quantile(part) as f64 / 1e3
    }
}

/// What was seen beside the handshakes, each by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests of the peers that were sent again.
    pub sent_again: u64,
    /// Datagrams that got lost because the scenario wants it so.
    pub wire_lost: u64,
    /// Datagrams of slow peers that left late.
    pub delayed: u64,
    /// Moves to another address that were begun.
    pub moves_begun: u64,
    /// Moves that the responder has agreed to.
    pub moves: u64,
    /// Child SAs that go in UDP, because of a NAT.
    pub encapsulated: u64,
    /// Ports of NATs that changed.
    pub remaps: u64,
    /// Datagrams that came to a port which a NAT has forgotten.
    pub forgotten: u64,
    /// Peers that went in order to come again.
    pub gone: u64,
    /// Child SAs that took the place of another, whoever began it.
    pub child_rekeys: u64,
    /// IKE SAs that took the place of another, whoever began it.
    pub ike_rekeys: u64,
    /// Requests of the responder that came, by exchange.
    pub asked: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sent_again += other.sent_again;
        self.wire_lost += other.wire_lost;
        self.delayed += other.delayed;
        self.moves_begun += other.moves_begun;
        self.moves += other.moves;
        self.encapsulated += other.encapsulated;
        self.remaps += other.remaps;
        self.forgotten += other.forgotten;
        self.gone += other.gone;
        self.child_rekeys += other.child_rekeys;
        self.ike_rekeys += other.ike_rekeys;
        for (exchange, count) in &other.asked {
            *self.asked.entry(exchange).or_default() += count;
        }
    }
}

/// By exchange and reason: how many, and one peer that had it.
pub type Reasons = BTreeMap<(String, String), (u64, String)>;

/// What one thread has measured.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// By exchange, from our first request to the first response.
    pub exchanges: BTreeMap<&'static str, Durations>,
    /// From when a peer was to come until its IKE SA was up.
    pub handshakes: Durations,
    /// The same of peers that had gone and came again.
    pub reconnects: Durations,
    /// What kept peers from getting in.
    pub failures: Reasons,
    /// What befell peers that were up: who got lost, and exchanges that came to nothing.
    pub troubles: Reasons,
    /// What was seen beside that.
    pub counts: Counts,
    /// Requests that are out.
    open: BTreeMap<(u64, u32), (Instant, &'static str)>,
}

impl Meter {
    /// A datagram of ours goes out.
    pub fn sent(&mut self, now: Instant, header: &Header) {
        if header.flags.response {
            return;
        }
        let key = (spi(header), header.message_id);
        let entry = self.open.entry(key);
        entry.or_insert_with(|| (now, name(header.exchange)));
    }

    /// A datagram of the responder came in.
    pub fn received(&mut self, now: Instant, header: &Header) {
        if !header.flags.response {
            *self.counts.asked.entry(name(header.exchange)).or_default() += 1;
            return;
        }
        if let Some((since, exchange)) = self.open.remove(&(spi(header), header.message_id)) {
            let durations = self.exchanges.entry(exchange).or_default();
            durations.record(now.saturating_duration_since(since));
        }
    }

    /// The exchange that waits for its response on this IKE SA, if one does.
    pub fn waits(&self, initiator_spi: u64) -> Option<&'static str> {
        let all = (initiator_spi, 0)..=(initiator_spi, u32::MAX);
        self.open
            .range(all)
            .next()
            .map(|(_, (_, exchange))| *exchange)
    }

    /// This IKE SA is over: what is out will not be answered.
    pub fn forget(&mut self, initiator_spi: u64) {
        let all = (initiator_spi, 0)..=(initiator_spi, u32::MAX);
        let keys: Vec<_> = self.open.range(all).map(|(key, _)| *key).collect();
        for key in keys {
            self.open.remove(&key);
        }
    }

    /// A peer has not come up.
    pub fn failed(&mut self, exchange: &str, reason: &str, peer: &str) {
        note(&mut self.failures, exchange, reason, peer);
    }

    /// Something befell a peer that was up.
    pub fn troubled(&mut self, exchange: &str, reason: &str, peer: &str) {
        note(&mut self.troubles, exchange, reason, peer);
    }

    /// What another thread has measured as well.
    pub fn add(&mut self, other: &Self) {
        for (exchange, durations) in &other.exchanges {
            self.exchanges.entry(exchange).or_default().add(durations);
        }
        self.handshakes.add(&other.handshakes);
        self.reconnects.add(&other.reconnects);
        self.counts.add(&other.counts);
        merge(&mut self.failures, &other.failures);
        merge(&mut self.troubles, &other.troubles);
    }
}

fn note(reasons: &mut Reasons, exchange: &str, reason: &str, peer: &str) {
    let entry = reasons.entry((exchange.to_owned(), reason.to_owned()));
    entry.or_insert_with(|| (0, peer.to_owned())).0 += 1;
}

fn merge(reasons: &mut Reasons, others: &Reasons) {
    for (key, (count, peer)) in others {
        let entry = reasons.entry(key.clone());
        entry.or_insert_with(|| (0, peer.clone())).0 += count;
    }
}

fn spi(header: &Header) -> u64 {
    header.initiator_spi.map_or(0, IkeSpi::value)
}

/// How a report calls an exchange.
fn name(exchange: ExchangeType) -> &'static str {
    match exchange {
        ExchangeType::IKE_SA_INIT => "IKE_SA_INIT",
        ExchangeType::IKE_AUTH => "IKE_AUTH",
        ExchangeType::CREATE_CHILD_SA => "CREATE_CHILD_SA",
        ExchangeType::INFORMATIONAL => "INFORMATIONAL",
        _ => "other",
    }
}

const MICROS_MAX: u64 = 3_600_000_000;
