//! EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2) on the server's side: what goes into requests and
//! what comes back, within packets of type 26.

use zeroize::Zeroizing;

use crate::crypto::mschap::{Challenges, PasswordHash, session_key};
use crate::crypto::{Provider, Rng, SecretBytes};

/// Our challenge.
#[derive(Debug)]
pub(super) struct Challenge {
    bytes: [u8; 16],
    /// MS-CHAPv2-ID: that of the packet.
    id: u8,
}

/// The peer's answer to it.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    challenge: [u8; 16],
    response: [u8; 24],
    /// The user, perhaps with a domain before it.
    pub(super) name: &'a [u8],
}

impl Challenge {
    /// Draws one for the packet with this identifier.
    pub(super) fn draw(rng: &mut Rng, id: u8) -> Self {
        let bytes = rng.bytes();
        Self { bytes, id }
    }

    /// The data of the request.
    pub(super) fn request(&self) -> Vec<u8> {
        let value = [&[16][..], &self.bytes, SERVER].concat();
        operation(OP_CHALLENGE, self.id, &value)
    }

    /// Checks an answer against a password; `None` where there is no such user, which takes as long
    /// as a wrong one. Returns the data of the Success request and the MSK.
    pub(super) fn judge(
        &self,
        answer: &Answer<'_>,
        password: Option<&[u8]>,
        provider: &Provider,
    ) -> Option<(Vec<u8>, SecretBytes)> {
        let challenges = Challenges {
            authenticator: &self.bytes,
            peer: &answer.challenge,
            user: answer.user(),
        };
        let hash = PasswordHash::new(password.unwrap_or_default());
        let expected = Zeroizing::new(challenges.response(&hash));
        let right = (provider.equal)(&*expected, &answer.response) && password.is_some();
        if !right {
            return None;
        }
        let proof = challenges.authenticator(&hash, &answer.response);
        let text = format!("S={} M=Welcome", digits(&proof));
        let message = operation(OP_SUCCESS, self.id, text.as_bytes());
        Some((message, session_key(&hash, &answer.response)))
    }

    /// The data of the Failure request: error 691, no second try.
    pub(super) fn failure(&self) -> Vec<u8> {
        let challenge = digits(&self.bytes);
        let text = format!("E=691 R=0 C={challenge} V=3 M=Authentication failed");
        operation(OP_FAILURE, self.id, text.as_bytes())
    }
}

impl<'a> Answer<'a> {
    /// The user without the domain that Windows puts before it.
    pub(super) fn user(&self) -> &'a [u8] {
        let bare = self.name.rsplit(|byte| *byte == b'\\').next();
        bare.unwrap_or(self.name)
    }

    /// Reads the data of a response.
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let (header, rest) = data.split_first_chunk::<5>()?;
        let [code, _, high, low, value_size] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if code != OP_RESPONSE || length != data.len() || value_size != VALUE_LEN {
            return None;
        }
        let (challenge, rest) = rest.split_first_chunk::<16>()?;
        let (_reserved, rest) = rest.split_first_chunk::<8>()?;
        let (response, rest) = rest.split_first_chunk::<24>()?;
        let (_flags, name) = rest.split_first()?;
        Some(Self {
            challenge: *challenge,
            response: *response,
            name,
        })
    }
}

/// Whether the peer takes our Success for what it is.
pub(super) fn is_success(data: &[u8]) -> bool {
    data.first() == Some(&OP_SUCCESS)
}

fn operation(code: u8, id: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 4)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    [&[code, id][..], &length, data].concat()
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

const OP_CHALLENGE: u8 = 1;
const OP_RESPONSE: u8 = 2;
const OP_SUCCESS: u8 = 3;
const OP_FAILURE: u8 = 4;
/// Peer challenge, eight reserved bytes, NT-Response, flags.
const VALUE_LEN: u8 = 49;
/// What we call ourselves; OpenIKED's name.
const SERVER: &[u8] = b"_iked";
