//! iked.conf(5) end to end: text in, policies, errors and printed text out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#[path = "config/auth.rs"]
mod auth;
#[path = "config/hosts.rs"]
mod hosts;
#[path = "config/kernel.rs"]
mod kernel;
#[path = "config/policy.rs"]
mod policy;
#[path = "config/printed.rs"]
mod printed;
#[path = "config/proposals.rs"]
mod proposals;
#[path = "config/text.rs"]
mod text;
#[path = "config/words.rs"]
mod words;
#[path = "config/world.rs"]
mod world;
