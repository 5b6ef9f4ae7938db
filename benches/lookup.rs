//! What it costs to find the IKE SA of a datagram among 10^3 to 10^6: a DPD exchange (look-up,
//! decryption, answer, timer) and the same request again (look-up, cached answer). The IKE SAs are
//! asked in random order, so that with many of them each is cold in the caches, as in life.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::print_stderr, reason = "the way to a million takes a while")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that is made by hand"
)]

use std::hint::black_box;
use std::time::Duration;

use iked::crypto::boring::provider;
use iked::crypto::{ActiveKeyExchange, CryptoError, KeyExchange, Provider, Rng, SecretBytes};
use iked::ike::Path;
use iked::policy::Settings;
use iked::time::Now;
use iked::wire::registry::KeId;

mod support;

use support::floor::{self, Proof};
use support::hosts::{self, Host, Suite};
use support::{Paired, Wanted, micros, timed};

fn main() {
    let wanted = Wanted::from_command_line();
    support::head(
        "lookup",
        &[
            "IKE SAs",
            "DPD exchange",
            "floor",
            "ratio",
            "repeated request",
            "memory of one SA",
        ],
    );
    let mut house = House::new();
    for size in [1_000, 10_000, 100_000, 1_000_000] {
        if !wanted.has(&format!("{size} IKE SAs")) {
            continue;
        }
        let memory = house.fill(size);
        let (exchanges, repeated) = house.ask(&wanted);
        let (time, floor, ratio) = exchanges.medians();
        support::row(&[
            size.to_string(),
            micros(time),
            micros(floor),
            format!("{ratio:.1}"),
            micros(support::median(&repeated)),
            memory.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0} B")),
        ]);
        if !wanted.is_whole() {
            break;
        }
    }
}

/// A gateway with many IKE SAs. Some of the peers stay to ask whether it lives, the others are
/// forgotten as soon as they are up.
struct House {
    suite: Suite,
    gateway: Host,
    askers: Host,
    fillers: Host,
    size: u32,
    seconds: u64,
    rng: Rng,
}

impl House {
    fn new() -> Self {
        let suite = Suite {
            method: KeId::CURVE25519,
            proof: Proof::Psk,
            leases: false,
        };
        // A million key exchanges would take minutes and prove nothing here.
        let provider = Provider {
            key_exchanges: &[&Free],
            ..provider()
        };
        let mut gateway = Host::gateway(&suite, provider, 0..0);
        // Whoever is asked all the time has nothing to ask.
        let settings = Settings {
            dpd_check_interval: Duration::ZERO,
            ..Settings::default()
        };
        gateway.configure(hosts::at(0), &suite, settings);
        Self {
            gateway,
            askers: Host::warriors(&suite, provider, 1),
            fillers: Host::warriors(&suite, provider, 3),
            suite,
            size: 0,
            seconds: 0,
            rng: Rng::from_seed([5; 32]),
        }
    }

    /// Lets peers come until there are so many; returns the growth of resident memory for each,
    /// where it can be told.
    fn fill(&mut self, size: u32) -> Option<f64> {
        let now = hosts::at(self.seconds);
        let before = (self.size, resident());
        let mut batches = 0;
        while self.size < size {
            let batch = self.size..size.min(self.size + BATCH);
            self.size = batch.end;
            let asks = size <= ASKERS || batches % (size / ASKERS) == 0;
            let peers = if asks {
                &mut self.askers
            } else {
                &mut self.fillers
            };
            hosts::connect(peers, &mut self.gateway, &self.suite, now, batch);
            self.fillers.forget(now);
            batches += 1;
            if batches % 1000 == 0 {
                eprintln!("lookup: {} of {size} IKE SAs", self.size);
            }
        }
        assert_eq!(self.gateway.endpoint.len(), size as usize);
        let grown = resident()?.saturating_sub(before.1?);
        (size >= 10 * ASKERS).then(|| grown as f64 / f64::from(size - before.0))
    }

    /// Rounds of DPD: each asker asks once, after the silence that makes it.
    fn ask(&mut self, wanted: &Wanted) -> (Paired, Vec<f64>) {
        let (mut exchanges, mut repeated) = (Paired::default(), Vec::new());
        let (mut open, mut seal) = (floor::aead_open(1), floor::aead_seal(1));
        for _ in 0..wanted.times(ROUNDS) {
            self.seconds += 301;
            let now = hosts::at(self.seconds);
            self.askers.wake(now);
            let count = self.askers.sent;
            assert_eq!(count, self.askers.endpoint.len());
            let asked = &mut self.askers.outbox[..count];
            shuffle(asked, &mut self.rng);
            // Decryption is in place: what is sent again must be kept.
            let mut again: Vec<(Path, Vec<u8>)> = asked.to_vec();
            for chunk in asked.chunks_mut(CHUNK) {
                let calls = chunk.len() as f64;
                let spent = timed(|| answer(&mut self.gateway, now, chunk));
                let bare = timed(|| {
                    for _ in 0..chunk.len() {
                        open();
                        seal();
                    }
                });
                exchanges.push(spent / calls, bare / calls);
            }
            self.askers.sent = 0;
            self.askers.take_turn(now, &mut self.gateway);
            for chunk in again.chunks_mut(CHUNK) {
                let calls = chunk.len() as f64;
                let spent = timed(|| answer(&mut self.gateway, now, chunk));
                repeated.push(spent / calls);
            }
            assert_eq!(self.gateway.sent, count, "every repetition is answered");
            self.gateway.sent = 0;
        }
        (exchanges, repeated)
    }
}

/// A name of its own for profilers.
#[inline(never)]
fn answer(gateway: &mut Host, now: Now, datagrams: &mut [(Path, Vec<u8>)]) {
    gateway.serve(now, datagrams);
    black_box(gateway.sent);
}

fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for at in (1..list.len()).rev() {
        let other = rng.below(at as u64 + 1);
        list.swap(at, usize::try_from(other).unwrap());
    }
}

/// Resident memory of this process in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// A key exchange that costs nothing and hides nothing, in the place of Curve25519.
struct Free;

impl KeyExchange for Free {
    fn id(&self) -> KeId {
        KeId::CURVE25519
    }

    fn public_len(&self) -> usize {
        32
    }

    fn check_public(&self, _peer_public: &[u8]) -> Result<(), CryptoError> {
        Ok(())
    }

    fn start(&self, _rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        Ok(Box::new(Self))
    }
}

impl ActiveKeyExchange for Free {
    fn public(&self) -> &[u8] {
        &[9; 32]
    }

    fn complete(&self, _peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        Ok(SecretBytes::new(vec![7; 32]))
    }
}

/// IKE SAs made at once.
const BATCH: u32 = 50;
/// About so many of the peers of each size stay to ask.
const ASKERS: u32 = 10_000;
/// Times that each of them asks.
const ROUNDS: usize = 5;
/// Datagrams between two readings of the clock.
const CHUNK: usize = 250;
