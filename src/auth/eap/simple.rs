//! MD5-Challenge and Generic Token Card (RFC 3748, 5.4 and 5.6) on the server's side: a password and
//! nothing else, so that no key comes of them. What the peer says of its password goes through
//! the IKE SA of a responder that has proven itself.

use super::server::{Case, Verdict};
use super::{Passed, Refusal};
use crate::crypto::Rng;
use crate::crypto::mschap::chap_md5;

/// A challenge that is answered with an MD5 digest.
#[derive(Debug)]
pub(super) struct Md5 {
    id: u8,
    challenge: [u8; 16],
}

impl Md5 {
    /// Draws one for the packet with this identifier; the data of the request goes along.
    pub(super) fn begin(rng: &mut Rng, id: u8) -> (Self, Vec<u8>) {
        let challenge = rng.bytes();
        let data = [&[VALUE_LEN][..], &challenge, super::SERVER].concat();
        (Self { id, challenge }, data)
    }

    /// Checks what came back: the digest behind its length, and perhaps a name.
    pub(super) fn answer(&self, case: &Case<'_>, data: &[u8]) -> Verdict {
        let Some((&[VALUE_LEN], rest)) = data.split_first_chunk::<1>() else {
            return Verdict::Refuse(Refusal::Packet);
        };
        let Some((digest, name)) = rest.split_first_chunk::<16>() else {
            return Verdict::Refuse(Refusal::Packet);
        };
        let (user, password) = case.find(&[name]);
        let expected = chap_md5(self.id, password.unwrap_or_default(), &self.challenge);
        let right = (case.provider.equal)(&*expected, digest);
        decide(right && password.is_some(), user)
    }
}

/// A question that is answered with the password.
#[derive(Debug)]
pub(super) struct Gtc;

impl Gtc {
    /// The data of the request.
    pub(super) fn begin() -> Vec<u8> {
        b"Password: ".to_vec()
    }

    /// Checks what came back.
    pub(super) fn answer(case: &Case<'_>, data: &[u8]) -> Verdict {
        let (user, password) = case.find(&[]);
        let right = (case.provider.equal)(password.unwrap_or_default(), data);
        decide(right && password.is_some(), user)
    }
}

fn decide(right: bool, user: String) -> Verdict {
    if right {
        Verdict::Pass(Passed {
            user,
            msk: None,
            vouched: None,
        })
    } else {
        Verdict::Refuse(Refusal::Password(user))
    }
}

/// Bytes of an MD5 digest, and of our challenge.
const VALUE_LEN: u8 = 16;
