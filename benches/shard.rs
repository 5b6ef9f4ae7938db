//! What the endpoint of a shard spends on the datagrams that come most often, and how often it
//! allocates for one: a DPD exchange, the same request again, and an IKE_SA_INIT request from a
//! stranger while cookies are demanded. The few IKE SAs fit the CPU's caches: `lookup` has many.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that is made by hand"
)]

use std::time::Duration;

use iked::crypto::boring::provider;
use iked::ike::Path;
use iked::policy::Settings;
use iked::sys::heap::Counting;
use iked::time::Now;
use iked::wire::registry::KeId;

mod support;

use support::floor::{self, Proof};
use support::hosts::{self, Host, Suite};
use support::{Paired, Wanted, micros, timed};

#[global_allocator]
static HEAP: Counting = Counting::new();

fn main() {
    let wanted = Wanted::from_command_line();
    let columns = ["datagram", "time", "floor", "ratio", "allocations"];
    support::head("shard", &columns);
    let suite = Suite {
        method: KeId::CURVE25519,
        proof: Proof::Psk,
        leases: true,
    };
    if wanted.has("DPD exchange") || wanted.has("repeated request") {
        established(&wanted, &suite);
    }
    if wanted.has("COOKIE") {
        strangers(&wanted, &suite);
    }
}

/// What was spent on many datagrams.
#[derive(Default)]
struct Spent {
    times: Paired,
    allocations: u64,
    count: u64,
}

impl Spent {
    /// Gives these to the gateway; `floor` is done as often.
    fn serve(
        &mut self,
        gateway: &mut Host,
        now: Now,
        datagrams: &mut [(Path, Vec<u8>)],
        mut floor: impl FnMut(),
    ) {
        for chunk in datagrams.chunks_mut(CHUNK) {
            let before = HEAP.calls();
            let ours = timed(|| gateway.serve(now, chunk));
            self.allocations += HEAP.calls() - before;
            let bare = timed(|| chunk.iter().for_each(|_| floor()));
            let count = chunk.len() as f64;
            self.count += chunk.len() as u64;
            self.times.push(ours / count, bare / count);
        }
    }

    /// The row of these; without a floor its cells stay empty.
    fn row(&self, name: &str, has_floor: bool) {
        let (time, floor, ratio) = self.times.medians();
        let (floor, ratio) = if has_floor {
            (micros(floor), format!("{ratio:.1}"))
        } else {
            ("-".to_owned(), "-".to_owned())
        };
        let allocations = self.allocations as f64 / self.count as f64;
        let allocations = format!("{allocations:.2}");
        support::row(&[name.to_owned(), micros(time), floor, ratio, allocations]);
    }
}

/// Peers that are up ask whether the gateway lives, and ask again.
fn established(wanted: &Wanted, suite: &Suite) {
    let mut gateway = Host::gateway(suite, provider(), 0..0);
    // Whoever is asked all the time has nothing to ask.
    let settings = Settings {
        dpd_check_interval: Duration::ZERO,
        ..Settings::default()
    };
    gateway.configure(hosts::at(0), suite, settings);
    let mut askers = Host::warriors(suite, provider(), 1);
    for first in (0..PEERS).step_by(BATCH as usize) {
        let peers = first..first + BATCH;
        hosts::connect(&mut askers, &mut gateway, suite, hosts::at(0), peers);
    }
    let (mut open, mut seal) = (floor::aead_open(1), floor::aead_seal(1));
    let (mut exchanges, mut repeated) = (Spent::default(), Spent::default());
    for round in 1..=wanted.times(ROUNDS) as u64 {
        let now = hosts::at(round * 301);
        askers.wake(now);
        let count = askers.sent;
        assert_eq!(count, PEERS as usize);
        // Decryption is in place: what is sent again must be kept.
        let mut again = askers.outbox[..count].to_vec();
        let asked = &mut askers.outbox[..count];
        exchanges.serve(&mut gateway, now, asked, || {
            open();
            seal();
        });
        askers.sent = 0;
        askers.take_turn(now, &mut gateway);
        repeated.serve(&mut gateway, now, &mut again, || {});
        assert_eq!(gateway.sent, count, "every repetition is answered");
        gateway.sent = 0;
    }
    exchanges.row("DPD exchange", true);
    repeated.row("repeated request", false);
}

/// Nobody in particular begins, over and over, from everywhere.
fn strangers(wanted: &Wanted, suite: &Suite) {
    let mut gateway = Host::gateway(suite, provider(), 0..0);
    let settings = Settings {
        cookie_threshold: 0,
        ..Settings::default()
    };
    gateway.configure(hosts::at(0), suite, settings);
    let mut warrior = Host::warriors(suite, provider(), 1);
    let (path, request) = warrior.first_request(hosts::at(0), suite);
    let mut spent = Spent::default();
    for round in 0..wanted.times(ROUNDS) as u64 {
        let mut flood: Vec<(Path, Vec<u8>)> = (1..=PEERS)
            .map(|number| {
                let mut spoofed = (path, request.clone());
                let [_, a, b, c] = number.to_be_bytes();
                spoofed.0.local.set_ip([198, a, b, c].into());
                let spi = round << 32 | u64::from(number);
                spoofed.1[..8].copy_from_slice(&spi.to_be_bytes());
                spoofed
            })
            .collect();
        spent.serve(&mut gateway, hosts::at(round), &mut flood, || {});
        assert_eq!(gateway.sent, flood.len(), "every request is answered");
        gateway.sent = 0;
    }
    assert!(gateway.endpoint.is_empty(), "nothing was kept of them");
    spent.row("COOKIE for an IKE_SA_INIT request", false);
}

/// IKE SAs, and requests of one round.
const PEERS: u32 = 1024;
/// IKE SAs made at once.
const BATCH: u32 = 64;
/// Times that each peer asks.
const ROUNDS: usize = 50;
/// Datagrams between two readings of the clock: as many as a shard takes from a socket at once.
const CHUNK: usize = 64;
