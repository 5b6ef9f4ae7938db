//! EAP (RFC 3748) as the authenticator that also holds the passwords: packets, and the dialog from
//! the question for the name to success or failure.

use std::collections::BTreeMap;

use crate::crypto::{Provider, Rng, SecretBytes};
use crate::policy::Secret;

mod mschapv2;

/// The code of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Request = 1,
    Response = 2,
    Success = 3,
    Failure = 4,
}

/// What the authenticator does next.
#[derive(Debug)]
pub enum Step {
    /// Send this request and wait for the answer.
    Ask(Vec<u8>),
    /// Send this request, which tells the peer that it did not pass; Failure follows whatever it
    /// answers.
    Deny(Vec<u8>, Refusal),
    /// Send this Success: the peer is who it says, by this name, and shares this MSK with us.
    Success(Vec<u8>, Passed),
    /// Send this Failure; that is the end.
    Failure(Vec<u8>, Refusal),
}

/// A peer that passed.
#[derive(Debug)]
pub struct Passed {
    /// The name whose password it knows.
    pub user: String,
    /// The key that both ends have now; AUTH is made with it (RFC 7296, 2.16).
    pub msk: SecretBytes,
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
    /// No such name, or not its password.
    #[error("EAP: wrong user name or password for '{0}'")]
    Password(String),
}

/// A dialog with one peer.
#[derive(Debug)]
pub struct Dialog {
    stage: Stage,
    identifier: u8,
    /// What the peer called itself first.
    identity: String,
}

#[derive(Debug)]
enum Stage {
    Identity,
    Challenge(mschapv2::Challenge),
    Confirm(Passed),
    Failing(String),
    Over,
}

impl Dialog {
    /// Begins; the request asks for the peer's name.
    pub fn begin(rng: &mut Rng) -> (Self, Vec<u8>) {
        let identifier = rng.bytes::<1>()[0];
        let dialog = Self {
            stage: Stage::Identity,
            identifier,
            identity: String::new(),
        };
        let packet = request(identifier, TYPE_IDENTITY, &[]);
        (dialog, packet)
    }

    /// Takes the peer's answer. After Success or Failure every further packet is a failure.
    pub fn answer(
        &mut self,
        users: &BTreeMap<String, Secret>,
        provider: &Provider,
        rng: &mut Rng,
        packet: &[u8],
    ) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Some((kind, data)) = response(packet, self.identifier) else {
            return self.refuse(Refusal::Packet);
        };
        match (stage, kind) {
            (Stage::Identity, TYPE_IDENTITY) => {
                self.identity = text(data);
                let challenge = mschapv2::Challenge::draw(rng, self.next());
                let data = challenge.request();
                self.stage = Stage::Challenge(challenge);
                Step::Ask(request(self.identifier, TYPE_MSCHAPV2, &data))
            }
            (Stage::Challenge(challenge), TYPE_MSCHAPV2) => {
                self.judge(&challenge, users, provider, data)
            }
            (Stage::Confirm(passed), TYPE_MSCHAPV2) if mschapv2::is_success(data) => {
                Step::Success(end(Code::Success, self.identifier), passed)
            }
            (Stage::Failing(user), TYPE_MSCHAPV2) => self.refuse(Refusal::Password(user)),
            (_, TYPE_NAK) => self.refuse(Refusal::Method),
            (_, _) => self.refuse(Refusal::Packet),
        }
    }

    fn judge(
        &mut self,
        challenge: &mschapv2::Challenge,
        users: &BTreeMap<String, Secret>,
        provider: &Provider,
        data: &[u8],
    ) -> Step {
        let Some(answer) = mschapv2::Answer::read(data) else {
            return self.refuse(Refusal::Packet);
        };
        let name = text(answer.name);
        // By its own name, else by what it called itself first, as OpenIKED does.
        let bare = text(answer.user());
        let known = [&name, &bare, &self.identity]
            .into_iter()
            .find(|user| users.contains_key(*user));
        let user = known.unwrap_or(&name).clone();
        let password = users.get(&user).map(Secret::expose);
        let verdict = challenge.judge(&answer, password, provider);
        let identifier = self.next();
        match verdict {
            Some((message, msk)) => {
                self.stage = Stage::Confirm(Passed { user, msk });
                Step::Ask(request(identifier, TYPE_MSCHAPV2, &message))
            }
            None => {
                self.stage = Stage::Failing(user.clone());
                let message = challenge.failure();
                let packet = request(identifier, TYPE_MSCHAPV2, &message);
                Step::Deny(packet, Refusal::Password(user))
            }
        }
    }

    fn next(&mut self) -> u8 {
        self.identifier = self.identifier.wrapping_add(1);
        self.identifier
    }

    fn refuse(&self, why: Refusal) -> Step {
        Step::Failure(end(Code::Failure, self.identifier), why)
    }
}

/// A name for comparison and logs: nothing that moves a terminal's cursor.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .filter(|c| !c.is_control())
        .take(NAME_MAX)
        .collect()
}

fn request(identifier: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = end(Code::Request, identifier);
    packet.push(kind);
    packet.extend_from_slice(data);
    let length = u16::try_from(packet.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    packet.splice(2..4, length);
    packet
}

/// A packet without data.
fn end(code: Code, identifier: u8) -> Vec<u8> {
    vec![code as u8, identifier, 0, 4]
}

/// Type and data of a response to the request with this identifier.
fn response(packet: &[u8], identifier: u8) -> Option<(u8, &[u8])> {
    let (header, rest) = packet.split_first_chunk::<4>()?;
    let [code, answered, high, low] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let good = code == Code::Response as u8 && answered == identifier && length == packet.len();
    let (&kind, data) = rest.split_first()?;
    good.then_some((kind, data))
}

const TYPE_IDENTITY: u8 = 1;
const TYPE_NAK: u8 = 3;
const TYPE_MSCHAPV2: u8 = 26;
/// Characters of a name that are looked at; OpenIKED's `user` lines take fewer.
const NAME_MAX: usize = 255;

#[cfg(test)]
mod tests;
