//! `iked` as gateway of clients that nobody here wrote, in network namespaces: every scenario looks
//! at what the client says as well as at `ikectl`.
//!
//! On a kernel without ESP it runs decoupled; with `IKED_KERNEL_TESTS=1`
//! (`tests/interop/under_rig.sh`) the same scenarios carry traffic too, and there are more of them. The
//! list of tests is made at run time, from `interop/tables.rs`. Needs root.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "interop/authority.rs"]
mod authority;
#[path = "interop/children.rs"]
mod children;
#[path = "interop/ciphers.rs"]
mod ciphers;
#[path = "interop/compression.rs"]
mod compression;
#[path = "interop/credentials.rs"]
mod credentials;
#[path = "interop/gateway.rs"]
mod gateway;
#[path = "interop/impostors.rs"]
mod impostors;
#[path = "interop/kernels.rs"]
mod kernels;
#[path = "interop/keys.rs"]
mod keys;
#[path = "interop/libreswan.rs"]
mod libreswan;
#[path = "interop/libreswan_children.rs"]
mod libreswan_children;
#[path = "interop/libreswan_moves.rs"]
mod libreswan_moves;
#[path = "interop/libreswan_rekey.rs"]
mod libreswan_rekey;
#[path = "interop/libreswan_scenarios.rs"]
mod libreswan_scenarios;
#[path = "interop/lifetimes.rs"]
mod lifetimes;
#[path = "interop/lossy.rs"]
mod lossy;
#[path = "interop/mobility.rs"]
mod mobility;
#[path = "interop/notices.rs"]
mod notices;
#[path = "interop/openiked.rs"]
mod openiked;
#[path = "interop/openiked_control.rs"]
mod openiked_control;
#[path = "interop/openiked_lives.rs"]
mod openiked_lives;
#[path = "interop/openiked_scenarios.rs"]
mod openiked_scenarios;
#[path = "interop/paths.rs"]
mod paths;
#[path = "interop/pki.rs"]
mod pki;
#[path = "interop/pluto_session.rs"]
mod pluto_session;
#[path = "interop/ppk.rs"]
mod ppk;
#[path = "interop/radius.rs"]
mod radius;
#[path = "interop/refusals.rs"]
mod refusals;
#[path = "interop/rekey.rs"]
mod rekey;
#[path = "interop/release.rs"]
mod release;
#[path = "interop/revocation.rs"]
mod revocation;
#[path = "interop/road_warrior.rs"]
mod road_warrior;
#[path = "interop/roles.rs"]
mod roles;
#[path = "interop/rounds.rs"]
mod rounds;
#[path = "interop/session.rs"]
mod session;
#[path = "interop/strongswan.rs"]
mod strongswan;
#[path = "interop/tables.rs"]
mod tables;
#[path = "interop/world.rs"]
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, tables::trials()).exit_code()
}
