//! What peers do while they stay: each at its time, one after the other.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use iked::wire::spi::IkeSpi;

use super::{BEGIN_PER_TURN_MAX, Engine, Parts, now};

/// One thing that a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// It changes its address.
    Roam,
    /// It goes and comes again.
    Reconnect,
    /// Its NAT gives it another port.
    Remap,
}

/// Who does what when.
#[derive(Debug)]
pub(super) struct Life {
    paces: Vec<Pace>,
}

/// Peers one after the other, at a steady pace.
#[derive(Debug)]
struct Pace {
    deed: Deed,
    step: Duration,
    at: Instant,
    turn: u32,
    peers: u32,
}

impl Pace {
    /// So many times in `seconds`, among the `peers` of a thread; `None`: never.
    fn new(deed: Deed, seconds: u64, times: f64, peers: u32, now: Instant) -> Option<Self> {
        let step = seconds as f64 / times;
        (step > 0.0 && step.is_finite() && peers > 0).then(|| Self {
            deed,
            step: Duration::from_secs_f64(step),
            at: now + Duration::from_secs_f64(step),
            turn: 0,
            peers,
        })
    }
}

impl Life {
    /// That of the peers of a thread, all of which have come by `now`.
    pub(super) fn new(parts: &Parts, now: Instant) -> Self {
        let (scenario, peers) = (&parts.scenario, parts.own_peers());
        let all = f64::from(peers);
        let roam = scenario.roam.as_ref().map(|roam| (roam.every, all));
        let again = scenario.reconnect;
        let again = again.map(|again| (again.every, all * again.part));
        let remap = scenario.nat.as_ref().map(|nat| (nat.remap, all));
        let deeds = [
            (Deed::Roam, roam),
            (Deed::Reconnect, again),
            (Deed::Remap, remap),
        ];
        let paces = deeds.into_iter().filter_map(|(deed, pace)| {
            let (seconds, times) = pace?;
            Pace::new(deed, seconds, times, peers, now)
        });
        Self {
            paces: paces.collect(),
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.paces.iter().map(|pace| pace.at).min()
    }

    /// What is due, and the place of the peer whose turn it is.
    fn due(&mut self, now: Instant) -> Option<(Deed, u32)> {
        let due = |pace: &&mut Pace| pace.at <= now;
        let pace = self
            .paces
            .iter_mut()
            .filter(due)
            .min_by_key(|pace| pace.at)?;
        pace.at += pace.step;
        let place = pace.turn;
        pace.turn = (place + 1) % pace.peers;
        Some((pace.deed, place))
    }
}

impl Engine {
    /// Lets peers that are up do what it is time for, some at a time.
    pub(super) fn live(&mut self) {
        if self.parts.live.calm.load(Ordering::Relaxed) {
            self.life = None;
        }
        for _ in 0..BEGIN_PER_TURN_MAX {
            let now = now().mono;
            let Some((deed, place)) = self.life.as_mut().and_then(|life| life.due(now)) else {
                return;
            };
            let peer = u32::from(self.parts.thread) + place * u32::from(self.parts.threads);
            let spi = self.spis.get(place as usize).copied();
            let Some(spi) = spi.and_then(IkeSpi::new) else {
                continue;
            };
            match deed {
                Deed::Roam => self.roam(spi, peer),
                Deed::Reconnect => self.reconnect(spi, peer),
                Deed::Remap => {
                    if let Some(nat) = &mut self.outgoing.nat {
                        nat.change(place);
                        self.meter.counts.remaps += 1;
                    }
                }
            }
        }
    }

    fn roam(&mut self, spi: IkeSpi, peer: u32) {
        let scenario = &self.parts.scenario;
        let here = self.endpoint.ike_sa(spi).map(|sa| sa.path.local.ip());
        let home = scenario.source_of(peer);
        let to = if here == home {
            scenario.elsewhere(peer)
        } else {
            home
        };
        let Some(to) = to else { return };
        if self.endpoint.move_ike_sa(now(), spi, to) {
            self.meter.counts.moves_begun += 1;
        } else {
            let name = self.name_of(peer);
            self.meter.troubled("INFORMATIONAL", "no MOBIKE", &name);
        }
        self.drain();
    }

    fn reconnect(&mut self, spi: IkeSpi, peer: u32) {
        let tell = self
            .parts
            .scenario
            .reconnect
            .is_some_and(|again| again.delete);
        let sa = self.endpoint.ike_sa(spi);
        let Some(named) = sa.and_then(iked::ike::ike_sa::IkeSa::initiator_spi) else {
            return;
        };
        self.let_go(named.value(), peer);
        self.up = self.up.saturating_sub(1);
        self.meter.counts.gone += 1;
        self.endpoint.end_ike_sa(now(), spi, tell);
        self.drain();
        let live = &self.parts.live;
        live.returning.fetch_add(1, Ordering::Relaxed);
        let now = now();
        self.come(now, peer, now.mono, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_at_a_steady_pace() {
        let start = now().mono;
        let at = |millis| start + Duration::from_millis(millis);
        // Three peers; two of them in six seconds.
        let pace = Pace::new(Deed::Roam, 6, 2.0, 3, start).unwrap();
        let mut life = Life { paces: vec![pace] };
        assert_eq!(life.next(), Some(at(3000)));
        assert_eq!(life.due(at(2999)), None);
        let due = [life.due(at(9000)), life.due(at(9000)), life.due(at(9000))];
        assert_eq!(due.map(|due| due.unwrap().1), [0, 1, 2]);
        assert_eq!(life.due(at(12_000)), Some((Deed::Roam, 0)));
        assert!(Pace::new(Deed::Roam, 0, 2.0, 3, start).is_none());
    }
}
