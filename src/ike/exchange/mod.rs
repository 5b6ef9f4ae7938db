//! One file for each exchange of RFC 7296, section 1; both roles of an exchange share its file.

pub mod announce;
pub mod asking;
pub mod auth;
pub mod auth_eap;
pub mod auth_eap_initiator;
pub mod auth_initiator;
pub mod auth_proof;
pub mod auth_request;
pub mod create_child;
pub mod create_child_initiator;
pub mod informational;
pub mod mobike;
pub mod ppk;
pub mod questions;
pub mod reauth;
pub mod redirect;
pub mod rekey_ike;
pub mod relay;
pub mod rounds;
pub mod sa_init;
pub mod sa_init_initiator;
