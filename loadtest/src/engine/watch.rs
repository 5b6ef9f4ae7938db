//! What becomes of the peers: who is up, who failed and why, and who got lost.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use iked::ike::state::State;
use iked::wire::Header;
use iked::wire::spi::IkeSpi;

use super::wire::own_spi;
use super::{Coming, Engine, now};

impl Engine {
    /// Looks what became of the IKE SA that a datagram came for.
    pub(super) fn note(&mut self, now: Instant, header: &Header) {
        let Some(spi) = header.initiator_spi else {
            return;
        };
        if self.coming.contains_key(&spi.value()) {
            return self.note_coming(now, spi);
        }
        // After a rekey that the responder began the log calls it by the responder's SPI.
        let peer = self.names.get(&spi.value()).copied();
        if let (Some(peer), Some(own)) = (peer, own_spi(header, true)) {
            let place = self.place_of(peer);
            if let Some(known) = self.spis.get_mut(place) {
                *known = own.value();
            }
        }
    }

    fn note_coming(&mut self, now: Instant, spi: IkeSpi) {
        let sa = self.endpoint.ike_sa(spi);
        match sa.map(|sa| (&sa.state, sa.children.is_empty())) {
            Some((State::Established(_), false)) => {
                if let Some(coming) = self.coming.remove(&spi.value()) {
                    self.is_up(now, spi.value(), &coming);
                }
            }
            Some((State::Established(_), true)) => {
                self.fail(spi.value(), "IKE_AUTH", "no Child SA")
            }
            Some((State::Deleting(_) | State::Closed, _)) | None => self.fail(spi.value(), "", ""),
            Some((
                State::AwaitSaInitResponse(_)
                | State::AwaitAuthRequest(_)
                | State::AwaitAuthResponse(_)
                | State::AwaitKernel(_),
                _,
            )) => {}
        }
    }

    fn is_up(&mut self, now: Instant, spi: u64, coming: &Coming) {
        let took = now.saturating_duration_since(coming.since);
        let live = &self.parts.live;
        if coming.again {
            self.meter.reconnects.record(took);
            live.returning.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.meter.handshakes.record(took);
            live.up.fetch_add(1, Ordering::Relaxed);
        }
        self.up += 1;
        self.names.insert(spi, coming.peer);
        let place = self.place_of(coming.peer);
        if let Some(known) = self.spis.get_mut(place) {
            *known = spi;
        }
    }

    fn fail(&mut self, spi: u64, exchange: &str, reason: &str) {
        self.drain();
        let Some(coming) = self.coming.remove(&spi) else {
            return;
        };
        let waits = self.meter.waits(spi).unwrap_or("IKE_AUTH");
        let exchange = if exchange.is_empty() { waits } else { exchange };
        let reason = if reason.is_empty() {
            cause(&coming.said)
        } else {
            reason
        };
        let peer = self.name_of(coming.peer);
        self.meter.failed(exchange, reason, &peer);
        self.meter.forget(spi);
        self.parts.live.failed.fetch_add(1, Ordering::Relaxed);
        if coming.again {
            self.parts.live.returning.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn name_of(&self, peer: u32) -> String {
        let policy = self.parts.config.policies.get(peer as usize);
        policy.map_or_else(String::new, |policy| policy.name.clone())
    }

    /// Keeps the last that was said of a peer that is on its way, and what befalls one that is up.
    pub(super) fn hear(&mut self, line: &str) {
        let Some((spi, said)) = named(line) else {
            return;
        };
        if let Some(coming) = self.coming.get_mut(&spi) {
            // How it ended matters less than why.
            if coming.said.is_empty() || !said.starts_with("sa_free") {
                said.clone_into(&mut coming.said);
            }
            return;
        }
        let Some(peer) = self.names.get(&spi).copied() else {
            return;
        };
        if let Some(successor) = said.strip_prefix("rekeyed as ") {
            self.meter.counts.ike_rekeys += 1;
            self.rename(spi, peer, successor);
        } else if said.starts_with("ikev2_update_sa_addresses") {
            self.meter.counts.moves += 1;
        } else if said.starts_with("sa_free") || said.ends_with("closing SA") {
            let exchange = self.meter.waits(spi).unwrap_or("none");
            let name = self.name_of(peer);
            self.meter.troubled(exchange, cause(said), &name);
            self.let_go(spi, peer);
        } else if TROUBLES.iter().any(|trouble| said.starts_with(trouble)) {
            let exchange = self.meter.waits(spi).unwrap_or("none");
            let name = self.name_of(peer);
            self.meter.troubled(exchange, said, &name);
        }
    }

    fn rename(&mut self, spi: u64, peer: u32, successor: &str) {
        let Some(new) = successor.strip_prefix("spi=0x").and_then(hexadecimal) else {
            return;
        };
        self.names.remove(&spi);
        self.names.insert(new, peer);
        // If the responder began it, the peer's own SPI shows in the next datagram.
        let ours = IkeSpi::new(new).is_some_and(|new| self.endpoint.ike_sa(new).is_some());
        let place = self.place_of(peer);
        if let Some(known) = self.spis.get_mut(place) {
            *known = if ours { new } else { 0 };
        }
        self.meter.forget(spi);
    }

    /// This IKE SA is no peer's any more.
    pub(super) fn let_go(&mut self, spi: u64, peer: u32) {
        self.names.remove(&spi);
        let place = self.place_of(peer);
        if let Some(known) = self.spis.get_mut(place) {
            *known = 0;
        }
        self.meter.forget(spi);
    }

    /// Finds those that ended without a datagram, and those whose time is over.
    pub(super) fn look(&mut self) {
        let patience = Duration::from_secs(self.parts.scenario.arrival.patience);
        let now = now().mono;
        if now < self.look_at {
            return;
        }
        self.look_at = now + SCAN_EVERY;
        let gone = self.coming.keys().filter(|spi| {
            let spi = IkeSpi::new(**spi);
            spi.is_none_or(|spi| self.endpoint.ike_sa(spi).is_none())
        });
        let gone: Vec<u64> = gone.copied().collect();
        for spi in gone {
            self.fail(spi, "", "");
        }
        let all_begun = self.all_begun;
        let late = self.coming.iter().filter(|(_, coming)| {
            let since = if coming.again {
                Some(coming.since)
            } else {
                all_begun
            };
            since.is_some_and(|since| now > since + patience)
        });
        let late: Vec<u64> = late.map(|(spi, _)| *spi).collect();
        for spi in late {
            self.fail(spi, "", "not up in time");
        }
        let current = self.endpoint.stats().sa_established_current;
        let lost = self.up.saturating_sub(current);
        if lost > 0 {
            self.up -= lost;
            self.parts.live.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

/// The SPI that a line of the log begins with, and what it says.
fn named(line: &str) -> Option<(u64, &str)> {
    let (spi, said) = line.strip_prefix("spi=0x")?.split_once(": ")?;
    Some((hexadecimal(spi)?, said))
}

/// What was said, without what is true of one peer alone: reasons are counted.
fn cause(said: &str) -> &str {
    if said.starts_with("retransmit ") {
        return "no answer";
    }
    said
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// How often those on their way are looked at one by one; there may be many.
const SCAN_EVERY: Duration = Duration::from_millis(250);
/// How lines begin about an exchange that came to nothing while its IKE SA stays.
const TROUBLES: [&str; 3] = [
    "CREATE_CHILD_SA: ",
    "IKE SA rekey: ",
    "update of addresses: ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_an_ike_sa_or_concern_none() {
        let line = "spi=0x00000000000000ff: IKE SA rekey: no answer";
        assert_eq!(named(line), Some((255, "IKE SA rekey: no answer")));
        let repeated = "retransmit 5 IKE_SA_INIT req 0 peer 192.0.2.1:500 local 10.64.0.7:500";
        assert_eq!(cause(repeated), "no answer");
        assert_eq!(cause("recv NO_PROPOSAL_CHOSEN"), "recv NO_PROPOSAL_CHOSEN");
        assert_eq!(named("policy load: a packet to its peer"), None);
        assert_eq!(named("spi=0xzz: sa_free"), None);
    }
}
