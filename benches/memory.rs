//! What an IKE SA with one Child SA and a leased address keeps allocated at the responder, by size
//! of block: where its memory goes. `lookup` has what it comes to in resident memory.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that is made by hand"
)]

use iked::crypto::boring::provider;
use iked::sys::heap::Counting;
use iked::wire::registry::KeId;

mod support;

use support::Wanted;
use support::floor::Proof;
use support::hosts::{self, Host, Suite};

#[global_allocator]
static HEAP: Counting = Counting::new();

fn main() {
    let wanted = Wanted::from_command_line();
    let suite = Suite {
        method: KeId::CURVE25519,
        proof: Proof::Psk,
        leases: true,
    };
    let mut gateway = Host::gateway(&suite, provider(), 0..0);
    let mut warriors = Host::warriors(&suite, provider(), 1);
    let now = hosts::at(0);
    let mut connect = |range: std::ops::Range<u32>| {
        for first in range.step_by(BATCH as usize) {
            hosts::connect(
                &mut warriors,
                &mut gateway,
                &suite,
                now,
                first..first + BATCH,
            );
            warriors.forget(now);
        }
    };
    // What exists once is there before anything is counted.
    connect(0..BATCH);
    let before = (HEAP.bytes(), HEAP.live());
    let batches = u32::try_from(wanted.times(BATCHES)).unwrap();
    connect(BATCH..BATCH * (1 + batches));
    let after = (HEAP.bytes(), HEAP.live());
    let count = f64::from(BATCH * batches);
    support::head("memory", &["blocks up to", "of an IKE SA"]);
    let mut blocks = 0.0;
    for ((most, after), (_, before)) in after.1.iter().zip(&before.1) {
        let share = (after - before) as f64 / count;
        blocks += share;
        if share.abs() >= LEAST_SHARE {
            let most = most.map_or_else(|| "any".to_owned(), |most| format!("{most} B"));
            support::row(&[most, format!("{share:.2}")]);
        }
    }
    let bytes = (after.0 - before.0) as f64 / count;
    support::row(&["all".to_owned(), format!("{blocks:.2}, {bytes:.0} B")]);
}

/// IKE SAs made at once.
const BATCH: u32 = 64;
/// Batches counted: the tables are then about as full as on average.
const BATCHES: usize = 188;
/// Shares of an IKE SA that are told: less is what all have in common.
const LEAST_SHARE: f64 = 0.02;
