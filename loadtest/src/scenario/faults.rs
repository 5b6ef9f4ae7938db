//! Values that have their type and yet no sense, and the lines that they stand on.

use std::net::IpAddr;

use super::{Scenario, network};

/// `SECTION.KEY`, whether it is so, and what to say.
pub(super) type Fault = (&'static str, bool, &'static str);

/// All that can be wrong with a scenario.
pub(super) fn of(scenario: &Scenario) -> Vec<Fault> {
    let mut faults = of_peers(scenario);
    faults.extend(of_arrivals(scenario));
    faults.extend(of_nat(scenario));
    faults.extend(of_those_who_stay(scenario));
    faults
}

/// Whether this is no network of the responder's address family.
fn is_foreign(scenario: &Scenario, text: &str) -> bool {
    let is_ipv4 = |address: IpAddr| address.is_ipv4();
    let family = network(text).map(|(first, _)| is_ipv4(first));
    family != Some(is_ipv4(scenario.responder.address))
}

fn of_peers(scenario: &Scenario) -> Vec<Fault> {
    let sources = scenario.sources();
    vec![
        (
            "peers.count",
            scenario.peers.count == 0,
            "count: want at least one peer",
        ),
        (
            "peers.sources",
            sources.is_none(),
            "sources: want ADDRESS/LEN",
        ),
        (
            "peers.sources",
            sources.is_some() && is_foreign(scenario, &scenario.peers.sources),
            "sources: want the family of the responder's address",
        ),
    ]
}

fn of_arrivals(scenario: &Scenario) -> Vec<Fault> {
    let (rate, loss) = (scenario.arrival.rate, scenario.wire.loss);
    let flood = scenario.flood.as_ref();
    vec![
        (
            "arrival.rate",
            !(0.0..=1e6).contains(&rate),
            "rate: want 0 to 1000000 in a second",
        ),
        (
            "arrival.window",
            rate == 0.0 && scenario.arrival.window == 0,
            "window: want at least 1, or a rate",
        ),
        (
            "wire.loss",
            !(0.0..1.0).contains(&loss),
            "loss: want 0 or more, and less than 1",
        ),
        (
            "flood.requests",
            flood.is_some_and(|flood| !(1.0..=1e6).contains(&flood.requests)),
            "requests: want 1 to 1000000 in a second",
        ),
        (
            "flood.from",
            flood.is_some_and(|flood| is_foreign(scenario, &flood.from)),
            "from: want ADDRESS/LEN in the family of the responder's address",
        ),
    ]
}

fn of_nat(scenario: &Scenario) -> Vec<Fault> {
    let Some(nat) = &scenario.nat else {
        return Vec::new();
    };
    let peers = scenario.peers.count;
    let outside = nat.network().map_or(0, |(_, count)| count);
    vec![
        (
            "nat.outside",
            is_foreign(scenario, &nat.outside),
            "outside: want ADDRESS/LEN in the family of the responder's address",
        ),
        (
            "nat.peers",
            !(1..=SEATS_MAX).contains(&nat.peers),
            "peers: want 1 to 64 behind each NAT",
        ),
        (
            "nat.outside",
            outside < peers.div_ceil(nat.peers.max(1)),
            "outside: want enough addresses for all peers",
        ),
        (
            "peers.sources",
            scenario.sources().is_some_and(|(_, count)| count < peers),
            "sources: want one for each peer behind a NAT",
        ),
    ]
}

fn of_those_who_stay(scenario: &Scenario) -> Vec<Fault> {
    let (roam, again) = (scenario.roam.as_ref(), scenario.reconnect.as_ref());
    let slow = scenario.slow.as_ref();
    vec![
        (
            "slow.part",
            slow.is_some_and(|slow| !(0.0..=1.0).contains(&slow.part)),
            "part: want 0 to 1",
        ),
        (
            "reconnect.part",
            again.is_some_and(|again| !(again.part > 0.0 && again.part <= 1.0)),
            "part: want more than 0, and 1 at most",
        ),
        (
            "reconnect.every",
            again.is_some_and(|again| again.every == 0),
            "every: want at least 1 second",
        ),
        (
            "roam.every",
            roam.is_some_and(|roam| roam.every == 0),
            "every: want at least 1 second",
        ),
        (
            "roam.to",
            roam.is_some_and(|roam| is_foreign(scenario, &roam.to)),
            "to: want ADDRESS/LEN in the family of the responder's address",
        ),
        (
            "roam.to",
            roam.is_some() && scenario.nat.is_some(),
            "to: who is behind a NAT does not roam here",
        ),
    ]
}

/// The line that this place of the text is on.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// Of what is wrong with `auth` only the section's line is known: a word that nobody knows stands below it.
pub(super) fn line_of_unknown(text: &str, from: usize, message: &str) -> usize {
    let word = message.strip_prefix("unknown ");
    let word = word.and_then(|rest| rest.split('`').nth(1));
    let mut lines = text.lines().skip(from.saturating_sub(1));
    let below = word.and_then(|word| lines.position(|line| line.contains(word)));
    from + below.unwrap_or(0)
}

/// The line that gives `SECTION.KEY` a value.
pub(super) fn line_with(text: &str, name: &str) -> Option<usize> {
    let (section, key) = name.split_once('.')?;
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(title) = line.strip_prefix('[') {
            inside = title.trim_end().trim_end_matches(']').trim() == section;
        }
        let value = line.strip_prefix(key);
        if inside && value.is_some_and(|rest| rest.trim_start().starts_with('=')) {
            return Some(number);
        }
    }
    None
}

/// Peers behind one NAT: each has three sockets.
const SEATS_MAX: u32 = 64;
