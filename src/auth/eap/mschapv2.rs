//! EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2): what goes into packets of type 26 on the server's
//! side, and below `client` on the other.

use zeroize::Zeroizing;

use super::server::{Case, Verdict};
use super::{Passed, Refusal};
use crate::crypto::Rng;
use crate::crypto::mschap::{Challenges, PasswordHash, session_key};

mod client;

pub(super) use client::{Client, End};

/// The server's side of one run.
#[derive(Debug)]
pub(super) struct Server {
    challenge: [u8; 16],
    /// MS-CHAPv2-ID: that of the packet.
    id: u8,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Challenged,
    /// Our Success request is out.
    Passed(Option<Passed>),
    /// Our Failure request is out.
    Failed(String),
}

/// The peer's answer to the challenge.
#[derive(Debug)]
struct Answer<'a> {
    challenge: [u8; 16],
    response: [u8; 24],
    /// The user, perhaps with a domain before it.
    name: &'a [u8],
}

impl Server {
    /// Draws a challenge for the packet with this identifier; the data of the request goes along.
    pub(super) fn begin(rng: &mut Rng, id: u8) -> (Self, Vec<u8>) {
        let challenge = rng.bytes();
        let value = [&[CHALLENGE_LEN][..], &challenge, super::SERVER].concat();
        let server = Self {
            challenge,
            id,
            stage: Stage::Challenged,
        };
        (server, operation(OP_CHALLENGE, id, &value))
    }

    /// Takes the data of a response.
    pub(super) fn answer(&mut self, case: &Case<'_>, data: &[u8]) -> Verdict {
        match &mut self.stage {
            Stage::Challenged => match Answer::read(data) {
                Some(answer) => self.judge(case, &answer),
                None => Verdict::Refuse(Refusal::Packet),
            },
            Stage::Passed(passed) if data.first() == Some(&OP_SUCCESS) => match passed.take() {
                Some(passed) => Verdict::Pass(passed),
                None => Verdict::Refuse(Refusal::Packet),
            },
            Stage::Passed(_) => Verdict::Refuse(Refusal::Packet),
            Stage::Failed(user) => Verdict::Refuse(Refusal::Password(std::mem::take(user))),
        }
    }

    /// Checks an answer; an unknown user takes as long as a wrong password.
    fn judge(&mut self, case: &Case<'_>, answer: &Answer<'_>) -> Verdict {
        let (user, password) = case.find(&[answer.name, answer.user()]);
        let challenges = Challenges {
            authenticator: &self.challenge,
            peer: &answer.challenge,
            user: answer.user(),
        };
        let hash = PasswordHash::new(password.unwrap_or_default());
        let expected = Zeroizing::new(challenges.response(&hash));
        let right = (case.provider.equal)(&*expected, &answer.response) && password.is_some();
        if !right {
            self.stage = Stage::Failed(user.clone());
            return Verdict::Deny(self.failure(), Refusal::Password(user));
        }
        let proof = challenges.authenticator(&hash, &answer.response);
        let text = format!("S={} M=Welcome", digits(&proof));
        let msk = Some(session_key(&hash, &answer.response));
        self.stage = Stage::Passed(Some(Passed {
            user,
            msk,
            vouched: None,
        }));
        Verdict::Ask(operation(OP_SUCCESS, self.id, text.as_bytes()))
    }

    /// The data of the Failure request: error 691, no second try.
    fn failure(&self) -> Vec<u8> {
        let challenge = digits(&self.challenge);
        let text = format!("E=691 R=0 C={challenge} V=3 M=Authentication failed");
        operation(OP_FAILURE, self.id, text.as_bytes())
    }
}

impl<'a> Answer<'a> {
    /// The user without the domain that Windows puts before it.
    fn user(&self) -> &'a [u8] {
        bare(self.name)
    }

    /// Reads the data of a response.
    fn read(data: &'a [u8]) -> Option<Self> {
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

/// A user without the domain before it.
fn bare(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'\\').next().unwrap_or(name)
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
const CHALLENGE_LEN: u8 = 16;
