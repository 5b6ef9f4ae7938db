//! Whether shards hold each other up: what a handshake costs the gateway's half in each of several threads
//! at once, where all go by one configuration and one set of keys, as the shards of a daemon do, and where
//! each has its own. A line of a cache that all of them write to would show in the ratio; what the threads
//! of one core take from each other, and what turns cost where there are more threads than CPUs, is in both.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that is made by hand"
)]

use std::sync::Barrier;
use std::thread;

use boring::ec::{EcGroup, EcKey};
use boring::nid::Nid;
use boring::pkey::PKey;
use iked::crypto::boring::provider;
use iked::wire::registry::KeId;

mod support;

use support::floor::Proof;
use support::hosts::{self, Basis, Host, Suite};
use support::{Paired, Wanted};

fn main() {
    let wanted = Wanted::from_command_line();
    support::head(
        "shards",
        &["shards at once", "all shared", "all their own", "ratio"],
    );
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ecdsa = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    for (name, proof) in [("PSK", Proof::Psk), ("ECDSA P-256", Proof::Key(ecdsa))] {
        let suite = Suite {
            method: KeId::CURVE25519,
            proof,
            leases: true,
        };
        for shards in SHARDS {
            let row = format!("{name}: {shards}");
            if wanted.has(&row) {
                support::paired_row(&row, &measure(&wanted, &suite, shards));
            }
        }
    }
}

/// In turns, with everything shared and with nothing.
fn measure(wanted: &Wanted, suite: &Suite, shards: usize) -> Paired {
    let batches = wanted.times(BATCHES) as u32;
    let mut paired = Paired::default();
    for _ in 0..wanted.times(TURNS) {
        let basis = Basis::new(suite, 0..2 * batches * BATCH);
        let shared = together(suite, shards, batches, Some(&basis));
        paired.push(shared, together(suite, shards, batches, None));
    }
    paired
}

/// CPU time of one handshake in nanoseconds, the mean of all shards.
fn together(suite: &Suite, shards: usize, batches: u32, basis: Option<&Basis>) -> f64 {
    let start = Barrier::new(shards);
    let spent: f64 = thread::scope(|scope| {
        let shard = |number| {
            let start = &start;
            scope.spawn(move || alone(suite, number, batches, basis, start))
        };
        let threads: Vec<_> = (0..shards).map(shard).collect();
        let spent = threads.into_iter().map(|thread| thread.join().unwrap());
        spent.sum()
    });
    spent / shards as f64
}

/// The same of one of them, which begins its second half with the others.
fn alone(
    suite: &Suite,
    number: usize,
    batches: u32,
    basis: Option<&Basis>,
    start: &Barrier,
) -> f64 {
    let cpus = core_affinity::get_core_ids().unwrap();
    core_affinity::set_for_current(cpus[number % cpus.len()]);
    let all = 0..2 * batches * BATCH;
    let basis = basis.cloned();
    let basis = basis.unwrap_or_else(|| Basis::new(suite, all.clone()));
    let mut initiator = Host::warriors(suite, provider(), number as u8 + 1);
    let mut responder = Host::serving(basis, provider());
    let now = hosts::at(0);
    for first in all.step_by(BATCH as usize) {
        if first == batches * BATCH {
            start.wait();
            responder.spent = 0.0;
        }
        let batch = first..first + BATCH;
        hosts::connect(&mut initiator, &mut responder, suite, now, batch);
    }
    responder.spent / f64::from(batches * BATCH)
}

/// How many there are at once.
const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];
/// Handshakes in flight at once.
const BATCH: u32 = 64;
/// Batches that are measured, after as many that are not.
const BATCHES: usize = 8;
/// Measurements of either kind.
const TURNS: usize = 9;
