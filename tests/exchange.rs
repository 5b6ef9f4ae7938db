//! Whole exchanges in memory: two endpoints, or one endpoint and a peer made by hand, with the
//! datagrams passed by the test, the kernel a list, and time a number.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that tests make by hand"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one payload among many"
)]

#[path = "exchange/announced.rs"]
mod announced;
#[path = "exchange/asking.rs"]
mod asking;
#[path = "exchange/bounds.rs"]
mod bounds;
#[path = "exchange/certified.rs"]
mod certified;
#[path = "exchange/childless.rs"]
mod childless;
#[path = "exchange/configuration.rs"]
mod configuration;
#[path = "exchange/couple.rs"]
mod couple;
#[path = "exchange/eap.rs"]
mod eap;
#[path = "exchange/handshake.rs"]
mod handshake;
#[path = "exchange/impostor.rs"]
mod impostor;
#[path = "exchange/impostor_certified.rs"]
mod impostor_certified;
#[path = "exchange/impostor_eap.rs"]
mod impostor_eap;
#[path = "exchange/impostor_responder.rs"]
mod impostor_responder;
#[path = "exchange/in_band.rs"]
mod in_band;
#[path = "exchange/ipcomp.rs"]
mod ipcomp;
#[path = "exchange/lifecycle.rs"]
mod lifecycle;
#[path = "exchange/lists.rs"]
mod lists;
#[path = "exchange/matrix.rs"]
mod matrix;
#[path = "exchange/mobike.rs"]
mod mobike;
#[path = "exchange/noise.rs"]
mod noise;
#[path = "exchange/path_mtu.rs"]
mod path_mtu;
#[path = "exchange/peer.rs"]
mod peer;
#[path = "exchange/ppk.rs"]
mod ppk;
#[path = "exchange/pressure.rs"]
mod pressure;
#[path = "exchange/radius.rs"]
mod radius;
#[path = "exchange/refusals.rs"]
mod refusals;
#[path = "exchange/rekey.rs"]
mod rekey;
#[path = "exchange/repetition.rs"]
mod repetition;
#[path = "exchange/rounds.rs"]
mod rounds;
#[path = "exchange/selectors.rs"]
mod selectors;
#[path = "exchange/setup.rs"]
mod setup;
#[path = "exchange/single.rs"]
mod single;
#[path = "exchange/sticky.rs"]
mod sticky;
#[path = "exchange/traps.rs"]
mod traps;
#[path = "exchange/world.rs"]
mod world;
