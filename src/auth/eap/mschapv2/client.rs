//! EAP-MSCHAPv2 on the client's side.

use std::fmt;

use zeroize::Zeroizing;

use super::operation;
use super::{CHALLENGE_LEN, OP_CHALLENGE, OP_FAILURE, OP_RESPONSE, OP_SUCCESS, VALUE_LEN, bare};
use crate::crypto::mschap::{Challenges, PasswordHash, session_key};
use crate::crypto::{Provider, Rng, SecretBytes};
use crate::policy::EapUser;

/// A run whose challenge is answered.
pub(in crate::auth::eap) struct Client {
    authenticator: [u8; 16],
    peer: [u8; 16],
    name: Vec<u8>,
    hash: PasswordHash,
    response: Zeroizing<[u8; 24]>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?}, {:?})", self.authenticator, self.peer)
    }
}

/// What the server made of our answer.
#[derive(Debug)]
pub(in crate::auth::eap) enum End {
    /// It knows the password, and we share this MSK.
    Proven(SecretBytes),
    /// It says that we passed, and does not know the password.
    Impostor,
    /// It says that we failed, in these words.
    Failed(Vec<u8>),
}

impl Client {
    /// Answers a Challenge request; `None` if it is none.
    pub(in crate::auth::eap) fn begin(
        user: &EapUser,
        rng: &mut Rng,
        data: &[u8],
    ) -> Option<(Self, Vec<u8>)> {
        let (code, id, value) = read(data)?;
        let Some((&[CHALLENGE_LEN], rest)) = value.split_first_chunk::<1>() else {
            return None;
        };
        let (authenticator, _name) = rest.split_first_chunk::<16>()?;
        if code != OP_CHALLENGE {
            return None;
        }
        let mut client = Self {
            authenticator: *authenticator,
            peer: rng.bytes(),
            name: user.name.as_bytes().to_vec(),
            hash: PasswordHash::new(user.password.expose()),
            response: Zeroizing::new([0; 24]),
        };
        *client.response = client.challenges().response(&client.hash);
        let value = [
            &[VALUE_LEN][..],
            &client.peer,
            &[0; 8],
            &*client.response,
            &[0],
            &client.name,
        ];
        let answer = operation(OP_RESPONSE, id, &value.concat());
        Some((client, answer))
    }

    fn challenges(&self) -> Challenges<'_> {
        Challenges {
            authenticator: &self.authenticator,
            peer: &self.peer,
            user: bare(&self.name),
        }
    }

    /// Takes a Success or Failure request and answers it; `None` if it is neither. A failure is
    /// never tried again, whatever the server allows.
    pub(in crate::auth::eap) fn conclude(
        &self,
        provider: &Provider,
        data: &[u8],
    ) -> Option<(End, Vec<u8>)> {
        let (code, _, value) = read(data)?;
        match code {
            OP_SUCCESS => {
                let expected = self.challenges().authenticator(&self.hash, &self.response);
                let shown = value.strip_prefix(b"S=")?.get(..40)?;
                let shown = unhex(shown)?;
                if !(provider.equal)(&expected, &shown) {
                    return Some((End::Impostor, Vec::new()));
                }
                let msk = session_key(&self.hash, &self.response);
                Some((End::Proven(msk), vec![OP_SUCCESS]))
            }
            OP_FAILURE => Some((End::Failed(value.to_vec()), vec![OP_FAILURE])),
            _ => None,
        }
    }
}

/// Code, MS-CHAPv2-ID and value of an operation that fills `data`.
fn read(data: &[u8]) -> Option<(u8, u8, &[u8])> {
    let (&[code, id, high, low], value) = data.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    (length == data.len()).then_some((code, id, value))
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16);
    let (pairs, _) = digits.as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(nibble(high)? << 4 | nibble(low)?).ok();
    pairs.iter().map(byte).collect()
}
