//! EAP (RFC 3748) as IKE carries it (RFC 7296, 2.16): packets, methods, and the dialogs of the side
//! that lets in and of the side that is let in.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::chain::{ChainCache, Vouched};
use super::store::CredentialStore;
use crate::crypto::{Provider, Rng, SecretBytes};
use crate::policy::{Identity, Secret};

mod client;
mod mschapv2;
pub mod packet;
mod server;
mod simple;
mod tls;

pub use client::{Client, Reply};
pub use server::{Dialog, Step};

/// What a dialog needs of its surroundings.
#[derive(Debug)]
pub struct Means<'a> {
    /// Names and passwords of those whom we let in.
    pub users: &'a BTreeMap<String, Secret>,
    /// Algorithms.
    pub provider: &'a Provider,
    /// Draws challenges.
    pub rng: &'a mut Rng,
    /// Our certificates, and the authorities we trust.
    pub store: &'a CredentialStore,
    /// Chains that held before.
    pub chains: &'a mut ChainCache,
    /// Now, for certificates.
    pub wall: SystemTime,
    /// Who we are to IKE.
    pub ours: &'a Identity,
    /// Who the peer is to IKE; a certificate must name it.
    pub theirs: &'a Identity,
}

/// A peer that passed.
#[derive(Debug)]
pub struct Passed {
    /// The name whose password or certificate it has.
    pub user: String,
    /// The key that both ends have now and make AUTH with; `None` where the method gives none
    /// (RFC 7296, 2.16).
    pub msk: Option<SecretBytes>,
    /// Its certificate, where it has shown one.
    pub vouched: Option<Vouched>,
}

/// Why a peer did not pass; it learns no more than that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not an answer to what was asked.
    #[error("EAP: unexpected or malformed packet")]
    Packet,
    /// It wants a method that is not on offer.
    #[error("EAP: method refused by the peer")]
    Method,
    /// The server that knows the peer cannot be had, or is not understood.
    #[error("EAP: {0}")]
    Server(String),
    /// No such name, or not its password.
    #[error("EAP: wrong user name or password for '{0}'")]
    Password(String),
    /// TLS came to no good end.
    #[error("EAP-TLS: {0}")]
    Tls(&'static str),
    /// The certificate shown in TLS does not name the peer, or nobody vouches for it.
    #[error("EAP-TLS: {0}")]
    Certificate(String),
    /// Said to the client before the method had ended.
    #[error("EAP: Success before the end of the method")]
    Early,
    /// The server claims that we passed and cannot show that it knows the password.
    #[error("EAP: the server does not know the password")]
    Impostor,
    /// The server says that we failed, in these words if there are any.
    #[error("EAP: refused by the peer {0}")]
    Told(String),
}

/// A name for comparison and logs: nothing that moves a terminal's cursor.
pub fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .filter(|c| !c.is_control())
        .take(NAME_MAX)
        .collect()
}

/// What we call ourselves as a server; OpenIKED's name.
const SERVER: &[u8] = b"_iked";
/// Characters of a name that are looked at; OpenIKED's `user` lines take fewer.
const NAME_MAX: usize = 255;

#[cfg(test)]
mod tests;
