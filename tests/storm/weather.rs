//! The datagrams of the storm, all from one number: noise, noise behind a good header, and messages
//! that were once good, changed by a few bytes, cut, lengthened, given other SPIs, or just repeated.

use std::fs;
use std::path::Path;

/// A fast generator (SplitMix64) for bytes that need no secrecy.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn noise(&mut self, out: &mut Vec<u8>, len: usize) {
        out.resize(out.len() + len, 0);
        let start = out.len() - len;
        for chunk in out[start..].chunks_mut(8) {
            let bytes = self.roll().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// The messages that the storm is made from.
pub(super) struct Seeds {
    /// Captured from other daemons and from fuzzing.
    captured: Vec<Vec<u8>>,
    /// Of the IKE SAs that are up, both directions.
    live: Vec<Vec<u8>>,
}

impl Seeds {
    pub(super) fn new(live: Vec<Vec<u8>>) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/message");
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let captured: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(captured.len() > 50 && live.len() > 30);
        Self { captured, live }
    }

    /// Writes the next datagram, without marker.
    pub(super) fn draw(&self, dice: &mut Dice, out: &mut Vec<u8>) {
        out.clear();
        match dice.below(100) {
            0..15 => {
                let len = short(dice);
                dice.noise(out, len);
            }
            15..25 => self.headed_noise(dice, out),
            25..33 => self.forged(dice, out),
            33..60 => {
                out.extend_from_slice(&self.captured[dice.below(self.captured.len())]);
                self.mutate(dice, out);
            }
            60..94 => {
                out.extend_from_slice(&self.live[dice.below(self.live.len())]);
                self.mutate(dice, out);
            }
            94..98 => out.extend_from_slice(&self.live[dice.below(self.live.len())]),
            _ => self.overlong(dice, out),
        }
    }

    fn headed_noise(&self, dice: &mut Dice, out: &mut Vec<u8>) {
        let len = HEADER_LEN + short(dice);
        dice.noise(out, len);
        out[16] = [0, 33, 34, 41, 46, 53][dice.below(6)];
        out[17] = 0x20;
        out[18] = 34 + dice.below(4) as u8;
        out[19] = [0x08, 0x20, 0x28, 0x00][dice.below(4)];
        // A tag of a shard, or the SPIs of an IKE SA that is up.
        out[8] = dice.below(4) as u8;
        if dice.one_in(2) {
            self.borrow_spis(dice, out);
        }
        tell_length(out);
    }

    /// What only the keys can tell from a message of an IKE SA that is up: the right header, a
    /// Message ID near the one that is awaited, and a whole encrypted payload or fragment.
    fn forged(&self, dice: &mut Dice, out: &mut Vec<u8>) {
        let from = &self.live[dice.below(self.live.len())];
        out.extend_from_slice(&from[..HEADER_LEN]);
        let fragment = dice.one_in(3);
        out[16] = if fragment { 53 } else { 46 };
        out[18] = 35 + dice.below(3) as u8;
        out[20..24].copy_from_slice(&(dice.below(6) as u32).to_be_bytes());
        let len = 40 + dice.below(200);
        out.extend_from_slice(&[[0, 33, 39][dice.below(3)], 0, 0, 4 + len as u8]);
        dice.noise(out, len);
        if fragment {
            let numbers = [0, 1 + dice.below(2) as u8, 0, 2];
            out[HEADER_LEN + 4..HEADER_LEN + 8].copy_from_slice(&numbers);
        }
        tell_length(out);
    }

    /// A message with far more behind it, sometimes as much as fits a datagram.
    fn overlong(&self, dice: &mut Dice, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.live[dice.below(self.live.len())]);
        let len = if dice.one_in(20) { 64_000 } else { 2_000 };
        let len = dice.below(len);
        dice.noise(out, len);
        if dice.one_in(2) {
            tell_length(out);
        }
    }

    fn mutate(&self, dice: &mut Dice, out: &mut Vec<u8>) {
        for _ in 0..=dice.below(3) {
            if out.len() < HEADER_LEN {
                let len = short(dice);
                dice.noise(out, len);
                continue;
            }
            let at = dice.below(out.len());
            match dice.below(12) {
                0..4 => out[at] ^= 1 << dice.below(8),
                4 => out[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
                5 => out[at] = dice.roll() as u8,
                6 => out.truncate(at),
                7 => {
                    let len = dice.below(64);
                    dice.noise(out, len);
                }
                8 => out[19] ^= [0x08, 0x20, 0x28, 0x10][dice.below(4)],
                9 => out[20..24].copy_from_slice(&(dice.below(5) as u32).to_be_bytes()),
                10 => self.borrow_spis(dice, out),
                _ => {
                    // Part of it again, over another part.
                    let len = dice.below(out.len() - at).min(64);
                    let to = dice.below(out.len() - len + 1);
                    out.copy_within(at..at + len, to);
                }
            }
        }
        // Else most would fail at the first look.
        if dice.below(4) > 0 && out.len() >= HEADER_LEN {
            tell_length(out);
        }
    }

    fn borrow_spis(&self, dice: &mut Dice, out: &mut [u8]) {
        let lender = &self.live[dice.below(self.live.len())];
        out[..16].copy_from_slice(&lender[..16]);
    }
}

/// A length as most messages have it.
fn short(dice: &mut Dice) -> usize {
    let bound = [28, 128, 512, 1472][dice.below(4)];
    dice.below(bound)
}

/// Makes the header's length true.
fn tell_length(out: &mut [u8]) {
    let length = out.len() as u32;
    out[24..28].copy_from_slice(&length.to_be_bytes());
}

const HEADER_LEN: usize = 28;
