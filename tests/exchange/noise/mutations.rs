//! Mutations of everything both sides say, at every moment, 10,000 each. A failure prints moment,
//! number and bytes of the input; the number is the seed of that input alone.

use iked::crypto::Rng;
use iked::ike::Path;
use iked::wire::registry::ExchangeType;
use iked::wire::{Header, Message};

use super::super::setup::{config, gateway, no_keys};
use super::super::world::{Host, at};
use super::scene::{Moment, Scene};
use super::{
    EXCHANGE_AT, FLAGS_AT, LENGTH_AT, MESSAGE_ID_AT, NEXT_PAYLOAD_AT, VERSION_AT,
    assert_one_reason, measured, own_spi_at,
};

const INPUTS: u64 = 10_000;

/// Randomness of one input.
struct Dice(Rng);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self(Rng::from_seed(bytes))
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.below(limit as u64)).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(max + 1)];
        self.0.fill(&mut bytes);
        bytes
    }

    /// One of many messages, changed in up to five places, or just random bytes.
    fn datagram(&mut self, messages: &[Vec<u8>]) -> Vec<u8> {
        if self.one_in(12) {
            return self.bytes(400);
        }
        let mut datagram = messages[self.below(messages.len())].clone();
        for _ in 0..=self.below(5) {
            self.change(&mut datagram, messages);
        }
        if self.one_in(4) {
            datagram
        } else {
            measured(datagram)
        }
    }

    fn change(&mut self, datagram: &mut Vec<u8>, messages: &[Vec<u8>]) {
        let at = self.below(datagram.len() + 1);
        match self.below(12) {
            0 => datagram.truncate(at),
            1 => datagram.extend(self.bytes(40)),
            2 => datagram.splice(at..at, self.bytes(8)).for_each(drop),
            3 => {
                let other = &messages[self.below(messages.len())];
                let from = self.below(other.len());
                datagram
                    .splice(at.., other[from..].iter().copied())
                    .for_each(drop);
            }
            4 | 5 => self.change_header(datagram),
            6 => put(datagram, at, &[self.pick(&[0, 1, 0x7f, 0x80, 0xff])]),
            7 => put(
                datagram,
                at,
                &self.pick(&[[0, 0], [0, 1], [0, 3], [0xff; 2]]),
            ),
            8 => {
                let end = (at + self.below(20)).min(datagram.len());
                datagram.drain(at..end);
            }
            _ => {
                let bit = 1 << self.below(8);
                if let Some(byte) = datagram.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }

    fn change_header(&mut self, datagram: &mut [u8]) {
        let byte = self.pick(&[0, 1, 33, 34, 35, 36, 37, 41, 46, 53, 200, 255]);
        let number: u32 = self.pick(&[0, 1, 2, 3, 4, 0x7fff_ffff, u32::MAX]);
        match self.below(9) {
            0 => put(datagram, NEXT_PAYLOAD_AT, &[byte]),
            1 => put(datagram, VERSION_AT, &[self.pick(&[0x10, 0x21, 0x30])]),
            2 => put(datagram, EXCHANGE_AT, &[byte]),
            3 => put(datagram, FLAGS_AT, &[self.pick(&[0, 8, 0x20, 0x28, 0xff])]),
            4 => put(datagram, MESSAGE_ID_AT, &number.to_be_bytes()),
            5 => put(datagram, LENGTH_AT, &number.to_be_bytes()),
            6 => put(datagram, 8 * self.below(2), &[0; 8]),
            7 => put(datagram, 8 * self.below(2), &[1; 8]),
            _ => {
                if let Some(spis) = datagram.get_mut(..16) {
                    spis.rotate_left(8);
                }
            }
        }
    }

    /// The true path, or one from elsewhere.
    fn path(&mut self, path: Path) -> Path {
        let mut other = path;
        if self.one_in(3) {
            let ip: [u8; 4] = self.0.bytes();
            other.remote.set_ip(ip.into());
        }
        if self.one_in(3) {
            other.remote.set_port(4500);
            other.marker = true;
        }
        other
    }
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + part.len()) {
        place.copy_from_slice(part);
    }
}

/// Whether these bytes may be taken: the genuine message, or in a state where nothing can be proven
/// yet any response that has its form.
fn may_be_true(scene: &Scene, bytes: &[u8]) -> bool {
    if bytes == scene.next.bytes {
        return true;
    }
    let Ok(message) = Message::decode(bytes) else {
        return false;
    };
    let (header, own) = (message.header, own_spi_at(scene));
    scene.moment == Moment::SaInitSent
        && header.flags.response
        && !header.flags.initiator
        && header.exchange == ExchangeType::IKE_SA_INIT
        && header.message_id == 0
        && bytes[own..own + 8] == scene.next.bytes[own..own + 8]
}

#[test]
fn no_mutation_of_anything_that_was_said_changes_anything() {
    for moment in Moment::ALL {
        let mut scene = Scene::at(moment);
        scene.close_house();
        let mut messages: Vec<Vec<u8>> = scene.sent.iter().map(|d| d.bytes.clone()).collect();
        messages.extend(vec![scene.next.bytes.clone(); messages.len()]);
        let mut heard = 0;
        for seed in 0..INPUTS {
            let mut dice = Dice::new(seed);
            let bytes = dice.datagram(&messages);
            if may_be_true(&scene, &bytes) {
                continue;
            }
            heard += 1;
            scene.note = seed;
            let path = dice.path(scene.path());
            let effect = scene.hear_from(path, &bytes);
            assert_one_reason(&scene, &bytes, &effect);
        }
        assert!(heard > INPUTS / 2, "{moment:?}: {heard}");
        scene.goes_on();
    }
}

#[test]
fn mutated_first_requests_make_half_open_ike_sas_at_most_and_those_end_in_time() {
    let scene = Scene::at(Moment::Nobody);
    let messages = [scene.next.bytes.clone()];
    let mut config = config([gateway()]);
    (
        config.settings.cookie_threshold,
        config.settings.half_open_max,
    ) = (40, 60);
    let mut host = Host::new(config, no_keys(), 2);
    for seed in 0..2 * INPUTS {
        let mut dice = Dice::new(seed);
        let bytes = dice.datagram(&messages);
        let path = dice.path(scene.path());
        let now = at(seed / 200);
        host.wake(now);
        let (before, len) = (host.stats(), host.endpoint.len());
        let answers = host.receive(now, path, &bytes);
        let (stats, made) = (host.stats(), host.endpoint.len() - len);
        let context = format!("input {seed}: {}", hex::encode(&bytes));
        assert!(made <= 1 && host.endpoint.len() <= 60, "{context}");
        assert_eq!(
            stats.sa_created - before.sa_created,
            made as u64,
            "{context}"
        );
        assert_eq!(stats.half_open, host.endpoint.len() as u64, "{context}");
        assert!(answers.len() <= 1, "{context}");
        if let Some(answer) = answers.first() {
            let header = Header::decode(&answer.bytes).unwrap();
            assert!(header.flags.response, "{context}");
            assert_eq!(answer.path, path, "{context}");
            let repeated = stats.retransmit_response > before.retransmit_response;
            let grown = answer.bytes.len() > bytes.len();
            assert!(made == 1 || repeated || !grown, "{context}");
        }
        host.lines.clear();
        host.events.clear();
    }
    let stats = host.stats();
    assert!(
        stats.sa_created > 100 && stats.cookies_sent > 100,
        "{stats:?}"
    );
    assert_eq!((stats.sa_established_total, stats.leases), (0, 0));
    host.wake(at(1000));
    assert!(host.endpoint.is_empty());
    assert_eq!(host.stats().sa_removed, host.stats().sa_created);
    assert_eq!(host.endpoint.poll_timeout(), None);
}
