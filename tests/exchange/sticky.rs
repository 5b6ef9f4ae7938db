//! `set stickyaddress`: a peer that comes again gets the address that it had, in whichever shard it
//! comes, and the address is never in two hands.

use std::collections::{BTreeSet, VecDeque};

use iked::ike::{Event, News};
use iked::policy::Config;
use iked::wire::registry::{ExchangeType, NotifyType, ProtocolId};
use iked::wire::{Delete, Payload};

use super::peer::{Opened, Peer, range};
use super::setup::{config, fqdn, pool_gateway};
use super::world::{Datagram, Host, at};

/// The shards of one host, which tell each other everything at once.
struct House {
    shards: Vec<Host>,
    seconds: u64,
}

fn sticky(pool: &str) -> Config {
    let mut config = config([pool_gateway(pool)]);
    config.settings.sticky_address = true;
    config
}

impl House {
    fn new(shards: u8, config: &Config) -> Self {
        let shard = |number| Host::shard((number, shards), config.clone());
        Self {
            shards: (0..shards).map(shard).collect(),
            seconds: 0,
        }
    }

    /// Hands on what shards tell each other, until all is quiet; what is sent because of it.
    fn talk(&mut self) -> Vec<Datagram> {
        let (mut mail, mut sent) = (VecDeque::new(), Vec::new());
        loop {
            for from in 0..self.shards.len() {
                for event in std::mem::take(&mut self.shards[from].events) {
                    let Event::News(news) = event else { continue };
                    let to = news.to().map(|to| usize::from(to.0));
                    let others = (0..self.shards.len()).filter(|other| *other != from);
                    let heard = others.filter(|other| to.is_none_or(|to| to == *other));
                    mail.extend(heard.map(|other| (other, news.clone())));
                }
            }
            let Some((to, news)) = mail.pop_front() else {
                return sent;
            };
            sent.extend(self.shards[to].hear(at(self.seconds), news));
        }
    }

    /// This peer logs in at this shard; the answer.
    fn log_in(&mut self, shard: usize, name: &str, seed: u8) -> (Peer, Opened) {
        let mut peer = Peer::new(seed);
        peer.id = fqdn(name);
        let now = at(self.seconds);
        peer.meet(&mut self.shards[shard], now);
        let mut payloads = peer.auth_payloads();
        payloads.ask_address = true;
        payloads.ts_i = vec![range("0.0.0.0", "255.255.255.255")];
        let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
        let mut answers = peer.send(&mut self.shards[shard], now, &request);
        answers.extend(self.talk());
        let spi = peer.spi_r.unwrap().to_bytes();
        let answers: Vec<_> = answers
            .iter()
            .filter(|sent| sent.bytes[8..16] == spi)
            .collect();
        let [answer] = answers.as_slice() else {
            panic!("{answers:?} {:?}", self.shards[shard].lines)
        };
        let opened = peer.open(&answer.bytes);
        (peer, opened)
    }

    fn leave(&mut self, shard: usize, peer: &mut Peer) {
        let gone = Payload::Delete(Delete {
            protocol: ProtocolId::IKE,
            spi_size: 0,
            spis: &[],
        });
        let host = &mut self.shards[shard];
        peer.ask(host, at(self.seconds), ExchangeType::INFORMATIONAL, &[gone]);
        self.talk();
    }

    fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        for shard in &mut self.shards {
            shard.wake(at(self.seconds));
        }
        self.talk();
    }

    fn leases(&self) -> Vec<u64> {
        self.shards
            .iter()
            .map(|shard| shard.stats().leases)
            .collect()
    }

    fn up(&self) -> Vec<u64> {
        let up = |shard: &Host| shard.stats().sa_established_current;
        self.shards.iter().map(up).collect()
    }
}

#[test]
fn a_peer_that_comes_again_in_another_shard_takes_its_address_along() {
    let mut house = House::new(2, &sticky("10.8.0.0/24"));
    let (_, first) = house.log_in(0, "warrior.example", 1);
    let address = first.address().unwrap();
    assert_eq!((house.leases(), house.up()), (vec![1, 0], vec![1, 0]));
    for (shard, seed) in [(1, 2), (0, 3), (0, 4), (1, 5)] {
        house.pass(10);
        let (_, again) = house.log_in(shard, "warrior.example", seed);
        assert_eq!(again.address().unwrap(), address);
        let expected = if shard == 0 { vec![1, 0] } else { vec![0, 1] };
        assert_eq!((house.leases(), house.up()), (expected.clone(), expected));
    }
    assert!(house.shards[0].said("address re-use (identical dstid)"));
    assert!(house.shards[0].said("sent delete, closing SA"));
    // Each time the Child SA of before went as well.
    let held = house.shards.iter().map(|shard| shard.kernel.holds().len());
    assert_eq!(held.collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn an_address_is_held_for_six_seconds_after_its_peer_has_gone() {
    for (pause, same) in [(0, true), (5, true), (6, false)] {
        // One address for each shard, so that nothing else can be had of the first one's slice.
        let mut house = House::new(2, &sticky("10.8.0.1/30"));
        let (mut peer, first) = house.log_in(0, "warrior.example", 1);
        house.leave(0, &mut peer);
        assert_eq!(house.leases(), [0, 0]);
        house.pass(pause);
        let (_, again) = house.log_in(1, "warrior.example", 2);
        assert_eq!(again.address() == first.address(), same, "{pause}");
    }
}

#[test]
fn what_is_held_for_one_peer_is_not_given_to_another_and_then_free() {
    let mut house = House::new(1, &sticky("10.8.0.1/32"));
    let (mut peer, first) = house.log_in(0, "warrior.example", 1);
    assert!(first.address().is_some());
    house.leave(0, &mut peer);
    let (_, refused) = house.log_in(0, "other.example", 2);
    let notifies = refused.notifies();
    assert!(notifies.contains(&NotifyType::INTERNAL_ADDRESS_FAILURE));
    house.pass(6);
    let (_, taken) = house.log_in(0, "third.example", 3);
    assert_eq!(taken.address(), first.address());
}

#[test]
fn addresses_that_moved_go_home_when_they_are_free() {
    // Two addresses, one for each shard.
    let mut house = House::new(2, &sticky("10.8.0.1/30"));
    let (_, first) = house.log_in(0, "warrior.example", 1);
    let (mut moved, again) = house.log_in(1, "warrior.example", 2);
    assert_eq!(first.address(), again.address());
    // Its slice knows that it is taken.
    let (_, refused) = house.log_in(0, "other.example", 3);
    assert_eq!(refused.address(), None);
    let (_, beside) = house.log_in(1, "beside.example", 4);
    assert!(beside.address().is_some());
    assert_ne!(beside.address(), first.address());
    house.leave(1, &mut moved);
    house.pass(7);
    let (_, free) = house.log_in(0, "late.example", 5);
    assert_eq!(free.address(), first.address());
    let (_, full) = house.log_in(1, "later.example", 6);
    assert_eq!(full.address(), None);
}

#[test]
fn no_address_is_in_two_hands_however_peers_come_and_go() {
    let mut house = House::new(3, &sticky("10.8.0.0/28"));
    let mut peers: Vec<Option<(usize, Peer, Vec<u8>)>> = (0..8).map(|_| None).collect();
    for round in 0..120_u8 {
        let (who, shard) = (usize::from(round % 8 * 5 % 8), usize::from(round / 3 % 3));
        let name = format!("peer{who}.example");
        let before = peers[who].take();
        let gone = round % 4 == 3;
        if let (Some((shard, mut peer, _)), true) = (before, gone) {
            house.leave(shard, &mut peer);
        } else {
            let (peer, answer) = house.log_in(shard, &name, round.wrapping_add(100));
            let address = answer.address();
            peers[who] = address.map(|address| (shard, peer, address));
        }
        house.pass(u64::from(round % 3) * 3);
        let taken: Vec<_> = peers.iter().flatten().map(|(_, _, a)| a).collect();
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len());
        assert_eq!(
            house.leases().iter().sum::<u64>(),
            taken.len() as u64,
            "{round}"
        );
    }
    for (shard, mut peer, _) in peers.into_iter().flatten() {
        house.leave(shard, &mut peer);
    }
    house.pass(10);
    assert_eq!(house.leases(), [0, 0, 0]);
}

#[test]
fn of_two_shards_that_ask_at_once_one_keeps_the_address_and_its_ike_sa() {
    let mut house = House::new(2, &sticky("10.8.0.0/24"));
    house.log_in(0, "warrior.example", 1);
    // Both requests are in before the shards hear of each other.
    let mut peers = [Peer::new(2), Peer::new(3)];
    let mut sent = Vec::new();
    for (shard, peer) in peers.iter_mut().enumerate() {
        let host = &mut house.shards[shard];
        peer.meet(host, at(0));
        let mut payloads = peer.auth_payloads();
        payloads.ask_address = true;
        payloads.ts_i = vec![range("0.0.0.0", "255.255.255.255")];
        let request = peer.seal(ExchangeType::IKE_AUTH, &payloads.borrow());
        sent.extend(peer.send(host, at(0), &request));
    }
    sent.extend(house.talk());
    let address = |peer: &Peer| {
        let spi = peer.spi_r.unwrap().to_bytes();
        let answer = sent.iter().find(|sent| sent.bytes[8..16] == spi).unwrap();
        peer.open(&answer.bytes).address().unwrap()
    };
    // The one that was up first has handed it on.
    assert_eq!(address(&peers[0]), address(&peers[1]));
    assert_eq!((house.leases(), house.up()), (vec![0, 1], vec![0, 1]));
}

#[test]
fn without_the_setting_nobody_is_asked_and_both_ike_sas_stay() {
    let mut config = sticky("10.8.0.0/24");
    config.settings.sticky_address = false;
    let mut house = House::new(2, &config);
    let (_, first) = house.log_in(0, "warrior.example", 1);
    let claims = |event: &Event| matches!(event, Event::News(News::Claim { .. }));
    assert!(!house.shards[0].events.iter().any(claims));
    let (_, again) = house.log_in(1, "warrior.example", 2);
    assert_ne!(first.address(), again.address());
    assert_eq!(house.up(), [1, 1]);
}
