//! SUPPORTED_AUTH_METHODS in both roles (RFC 9593): as responder we say in IKE_SA_INIT what all policies
//! together take as proof, for which of them applies is known only by the peer's identity; as initiator
//! in IKE_AUTH what ours takes. What the peer says guides our choice among keys and algorithms, and is
//! passed over where it names nothing that we can do.

use super::super::context::Context;
use super::super::ike_sa::Tag;
use crate::auth::announce::{self, Announced};
use crate::policy::{Auth, Config, Policy, PublicKeyAuth};
use crate::wire::registry::HashAlgorithm;

/// What a responder with this configuration says to peers that know method 14 (RFC 7427), and to those
/// that do not. Empty where nothing but EAP gets in: that has no number.
#[derive(Debug, Default)]
pub struct Ours {
    newer: Vec<u8>,
    older: Vec<u8>,
}

impl Ours {
    /// Put together once for each configuration; `hashes` are those that we announce.
    pub fn of(config: &Config, hashes: &[HashAlgorithm]) -> Self {
        let mut words: Vec<PublicKeyAuth> = Vec::new();
        let mut secrets = false;
        for policy in &config.policies {
            match &policy.auth {
                Auth::Psk(_) => secrets = true,
                Auth::PublicKey(word) if words.contains(word) => {}
                Auth::PublicKey(word) => words.push(*word),
                Auth::Eap(_) => {}
            }
        }
        let list = |newer| announce::list(&words, secrets, newer, hashes);
        Self {
            newer: list(true),
            older: list(false),
        }
    }

    /// The data for a peer, unless there is nothing to say: an empty notification would promise an
    /// IKE_INTERMEDIATE exchange (RFC 9593, 3.1).
    pub fn to(&self, newer: bool) -> Option<&[u8]> {
        let data = if newer { &self.newer } else { &self.older };
        (!data.is_empty()).then_some(data.as_slice())
    }
}

/// What an initiator with this policy says: how its responder may prove itself. With EAP too that is by
/// a signature.
pub fn to_responder(policy: &Policy, newer: bool, hashes: &[HashAlgorithm]) -> Option<Vec<u8>> {
    let data = match &policy.auth {
        Auth::Psk(_) => announce::list(&[], true, newer, hashes),
        Auth::PublicKey(word) => announce::list(&[*word], false, newer, hashes),
        Auth::Eap(_) => announce::list(&[PublicKeyAuth::Any], false, newer, hashes),
    };
    (!data.is_empty()).then_some(data)
}

/// What the peer says. A list that cannot be read counts for nothing, as it only guides.
pub fn heard(cx: &mut Context, tag: Tag, data: Option<&[u8]>) -> Announced {
    match Announced::read(data.unwrap_or_default()) {
        Ok(announced) => announced,
        Err(error) => {
            cx.dropped(format_args!("{tag}: {error}: passed over"));
            Announced::default()
        }
    }
}
