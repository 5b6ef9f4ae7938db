//! What a whole handshake costs each role: IKE_SA_INIT and IKE_AUTH with one Child SA, an address
//! leased, everything but sockets and kernel. The tables are warm: endpoints live on, grow to
//! [`GROWTH`] IKE SAs, and then forget them between two measurements.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that is made by hand"
)]

use boring::ec::{EcGroup, EcKey};
use boring::nid::Nid;
use boring::pkey::PKey;
use boring::rsa::Rsa;
use iked::crypto::boring::provider;
use iked::wire::registry::KeId;

mod support;

use support::floor::{self, Proof, Step};
use support::hosts::{self, Host, Suite};
use support::{Paired, Wanted, cpu, timed};

fn main() {
    let wanted = Wanted::from_command_line();
    support::head(
        "handshake",
        &["IKE_SA_INIT and IKE_AUTH", "time", "floor", "ratio"],
    );
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ecdsa = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let suites = [
        ("PSK, x25519", KeId::CURVE25519, Proof::Psk),
        ("PSK, ecp256", KeId::ECP_256, Proof::Psk),
        ("PSK, modp2048", KeId::MODP_2048, Proof::Psk),
        ("ECDSA P-256, x25519", KeId::CURVE25519, Proof::Key(ecdsa)),
        ("RSA-2048, x25519", KeId::CURVE25519, Proof::Key(rsa)),
    ];
    for (name, method, proof) in suites {
        if !wanted.has(name) {
            continue;
        }
        let suite = Suite {
            method,
            proof,
            leases: true,
        };
        let [initiator, responder] = measure(&wanted, &suite);
        support::paired_row(&format!("{name}: responder"), &responder);
        support::paired_row(&format!("{name}: initiator"), &initiator);
    }
}

/// Batches of handshakes, and after each the floors of both roles as often.
fn measure(wanted: &Wanted, suite: &Suite) -> [Paired; 2] {
    let mut initiator = Host::warriors(suite, provider(), 1);
    let mut responder = Host::gateway(suite, provider(), 0..GROWTH);
    let now = hosts::at(0);
    // Unmeasured: the tables grow to their size, and the lengths are learnt.
    let mut lengths = floor::Lengths::default();
    for first in (0..if wanted.is_whole() { GROWTH } else { BATCH }).step_by(BATCH as usize) {
        let batch = first..first + BATCH;
        lengths = hosts::connect(&mut initiator, &mut responder, suite, now, batch);
    }
    let floor = |responds| floor::handshake(suite.method, &suite.proof, lengths, responds);
    let mut floors = [floor(false), floor(true)];
    let mut paired = [Paired::default(), Paired::default()];
    let start = cpu();
    let enough = |done: usize| done >= BATCHES_MIN && cpu() - start > TIME;
    let mut done = 0;
    while !enough(done) {
        let first = done as u32 * BATCH % GROWTH;
        if first == 0 {
            initiator.forget(now);
            responder.forget(now);
        }
        (initiator.spent, responder.spent) = (0.0, 0.0);
        let batch = first..first + BATCH;
        hosts::connect(&mut initiator, &mut responder, suite, now, batch);
        let spent = [initiator.spent, responder.spent];
        for ((paired, floor), spent) in paired.iter_mut().zip(&mut floors).zip(spent) {
            let bare = timed(|| (0..BATCH).for_each(|_| run(floor)));
            paired.push(spent / f64::from(BATCH), bare / f64::from(BATCH));
        }
        done += 1;
        if !wanted.is_whole() {
            break;
        }
    }
    paired
}

fn run(steps: &mut [Step]) {
    for step in steps {
        step();
    }
}

/// Handshakes in flight at once: a shard's batch of datagrams.
const BATCH: u32 = 64;
/// IKE SAs after which the tables are emptied.
const GROWTH: u32 = 4096;
/// Measured batches at least.
const BATCHES_MIN: usize = 15;
/// CPU time for one suite in nanoseconds, both roles and floors.
const TIME: f64 = 4e9;
