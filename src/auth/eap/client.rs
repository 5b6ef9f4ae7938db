//! The dialog of the side that is let in. Whoever asks has proven itself before (RFC 7296, 2.16), so
//! it may learn our name; that it knows our password too only MSCHAPv2 shows.

use super::packet::{self, Code, Packet, build};
use super::{Refusal, mschapv2, text};
use crate::crypto::mschap::chap_md5;
use crate::crypto::{Provider, Rng, SecretBytes};
use crate::policy::{Eap, EapMethod, EapUser};

/// What comes of a packet.
#[derive(Debug)]
pub enum Reply {
    /// Send this response.
    Answer(Vec<u8>),
    /// The server lets us in; the key that both ends have now, where the method gives one.
    Success(Option<SecretBytes>),
}

/// A dialog with one server.
#[derive(Debug)]
pub struct Client {
    methods: Vec<EapMethod>,
    user: EapUser,
    stage: Stage,
    /// Identifier of the request answered last.
    identifier: Option<u8>,
    rounds: u32,
}

#[derive(Debug)]
enum Stage {
    /// No method has begun.
    Open,
    /// Our answer to the challenge is out.
    MsChapV2(mschapv2::Client),
    /// The method is at its end: only Success or Failure may come.
    Done(Option<SecretBytes>),
    /// The server said that we failed, and why; only Failure may come.
    Failed(String),
    Over,
}

impl Client {
    /// Begins as the clause of the policy says; `None` where that names no user.
    pub fn begin(eap: &Eap) -> Option<Self> {
        Some(Self {
            methods: eap.methods.clone(),
            user: eap.user.clone()?,
            stage: Stage::Open,
            identifier: None,
            rounds: 0,
        })
    }

    /// Takes a packet of the server. After an error nothing more comes of the dialog.
    pub fn answer(
        &mut self,
        provider: &Provider,
        rng: &mut Rng,
        packet: &[u8],
    ) -> Result<Reply, Refusal> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let packet = Packet::read(packet).ok_or(Refusal::Packet)?;
        match packet.code {
            Code::Request => {
                self.rounds += 1;
                let (kind, data) = packet.body.ok_or(Refusal::Packet)?;
                if self.rounds > ROUNDS_MAX {
                    return Err(Refusal::Packet);
                }
                self.identifier = Some(packet.identifier);
                let (stage, kind, data) = self.take(stage, provider, rng, kind, data)?;
                self.stage = stage;
                let response = build(Code::Response, packet.identifier, kind, &data);
                Ok(Reply::Answer(response))
            }
            // RFC 3748, 4.2: Success counts only where the method allows it.
            Code::Success => match stage {
                Stage::Done(msk) if self.identifier == Some(packet.identifier) => {
                    Ok(Reply::Success(msk))
                }
                Stage::Open
                | Stage::MsChapV2(_)
                | Stage::Done(_)
                | Stage::Failed(_)
                | Stage::Over => Err(Refusal::Early),
            },
            Code::Failure => Err(Refusal::Told(match stage {
                Stage::Failed(why) => why,
                Stage::Open | Stage::MsChapV2(_) | Stage::Done(_) | Stage::Over => String::new(),
            })),
            Code::Response => Err(Refusal::Packet),
        }
    }

    /// Answers a request: the next stage, and type and data of the response.
    fn take(
        &self,
        stage: Stage,
        provider: &Provider,
        rng: &mut Rng,
        kind: u8,
        data: &[u8],
    ) -> Result<(Stage, u8, Vec<u8>), Refusal> {
        match (stage, kind) {
            // RFC 3748, 5.2: it may come at any time and changes nothing.
            (stage, packet::NOTIFICATION) => Ok((stage, kind, Vec::new())),
            (Stage::Open, packet::IDENTITY) => {
                Ok((Stage::Open, kind, self.user.name.as_bytes().to_vec()))
            }
            (Stage::Open, kind) => self.start(rng, kind, data),
            (Stage::MsChapV2(run), packet::MSCHAPV2) => {
                let (end, answer) = run.conclude(provider, data).ok_or(Refusal::Packet)?;
                let stage = match end {
                    mschapv2::End::Proven(msk) => Stage::Done(Some(msk)),
                    mschapv2::End::Impostor => return Err(Refusal::Impostor),
                    mschapv2::End::Failed(why) => Stage::Failed(text(&why)),
                };
                Ok((stage, kind, answer))
            }
            (Stage::MsChapV2(_) | Stage::Done(_) | Stage::Failed(_) | Stage::Over, _) => {
                Err(Refusal::Packet)
            }
        }
    }

    /// Begins the method that the server offers, or says which ones we have.
    fn start(&self, rng: &mut Rng, kind: u8, data: &[u8]) -> Result<(Stage, u8, Vec<u8>), Refusal> {
        let ours = |method: &&EapMethod| packet::type_of(**method) == Some(kind);
        match self.methods.iter().find(ours) {
            Some(EapMethod::MsChapV2) => {
                let begun = mschapv2::Client::begin(&self.user, rng, data);
                let (run, answer) = begun.ok_or(Refusal::Packet)?;
                Ok((Stage::MsChapV2(run), kind, answer))
            }
            Some(EapMethod::Gtc) => {
                let password = self.user.password.expose().to_vec();
                Ok((Stage::Done(None), kind, password))
            }
            Some(EapMethod::Md5) => {
                let answer = self.digest(data).ok_or(Refusal::Packet)?;
                Ok((Stage::Done(None), kind, answer))
            }
            Some(EapMethod::Radius) | None => {
                let known = self.methods.iter().copied().filter_map(packet::type_of);
                let known: Vec<u8> = known.collect();
                Ok((Stage::Open, packet::NAK, known))
            }
        }
    }

    /// The answer to an MD5 challenge. Its `id` is the identifier of the packet.
    fn digest(&self, data: &[u8]) -> Option<Vec<u8>> {
        let (length, rest) = data.split_first()?;
        let challenge = rest.get(..usize::from(*length))?;
        if challenge.is_empty() {
            return None;
        }
        let digest = chap_md5(self.identifier?, self.user.password.expose(), challenge);
        let name = self.user.name.as_bytes();
        Some([&[16][..], &*digest, name].concat())
    }
}

/// Requests answered in one dialog: a name, a few Naks and notifications, and the method's.
const ROUNDS_MAX: u32 = 24;

#[cfg(test)]
mod tests;
