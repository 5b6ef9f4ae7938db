//! The dialog of the side that is let in. Whoever asks has proven itself before (RFC 7296, 2.16), so
//! it may learn our name; that it knows our password too only MSCHAPv2 shows, and with TLS it proves
//! itself once more.

use super::packet::{self, Code, Packet, build};
use super::{Means, Refusal, mschapv2, text, tls};
use crate::auth::chain::Vouched;
use crate::crypto::SecretBytes;
use crate::crypto::mschap::chap_md5;
use crate::policy::{Eap, EapMethod, EapUser, Identity};

/// What comes of a packet.
#[derive(Debug)]
pub enum Reply {
    /// Send this response.
    Answer(Vec<u8>),
    /// The server lets us in; the key that both ends have now, where the method gives one, and the
    /// certificate that the server has shown, if any.
    Success(Option<SecretBytes>, Option<Vouched>),
}

/// A dialog with one server.
#[derive(Debug)]
pub struct Client {
    methods: Vec<EapMethod>,
    name: String,
    user: Option<EapUser>,
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
    Tls(Box<tls::Run>),
    /// The method is at its end: only Success or Failure may come.
    Done(Option<SecretBytes>, Option<Vouched>),
    /// The server said that we failed, and why; only Failure may come.
    Failed(String),
    Over,
}

impl Client {
    /// Begins as the clause of the policy says; `None` where that names no user for a method that
    /// needs one. Without a user we are who we are to IKE.
    pub fn begin(eap: &Eap, srcid: &Identity) -> Option<Self> {
        let user = eap.user.clone();
        let usable = |method: &EapMethod| user.is_some() || *method == EapMethod::Tls;
        let methods: Vec<EapMethod> = eap.methods.iter().copied().filter(usable).collect();
        let name = user.as_ref().map(|user| user.name.clone());
        (!methods.is_empty()).then(|| Self {
            methods,
            name: name.unwrap_or_else(|| plain(srcid)),
            user,
            stage: Stage::Open,
            identifier: None,
            rounds: 0,
        })
    }

    /// Takes a packet of the server. After an error nothing more comes of the dialog.
    pub fn answer(&mut self, means: &mut Means<'_>, packet: &[u8]) -> Result<Reply, Refusal> {
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
                let (stage, kind, data) = self.take(stage, means, kind, data)?;
                self.stage = stage;
                let response = build(Code::Response, packet.identifier, kind, &data);
                Ok(Reply::Answer(response))
            }
            // RFC 3748, 4.2: Success counts only where the method allows it.
            Code::Success => match stage {
                Stage::Done(msk, vouched) if self.identifier == Some(packet.identifier) => {
                    Ok(Reply::Success(msk, vouched))
                }
                Stage::Open
                | Stage::MsChapV2(_)
                | Stage::Tls(_)
                | Stage::Done(..)
                | Stage::Failed(_)
                | Stage::Over => Err(Refusal::Early),
            },
            Code::Failure => Err(Refusal::Told(match stage {
                Stage::Failed(why) => why,
                Stage::Open
                | Stage::MsChapV2(_)
                | Stage::Tls(_)
                | Stage::Done(..)
                | Stage::Over => String::new(),
            })),
            Code::Response => Err(Refusal::Packet),
        }
    }

    /// Answers a request: the next stage, and type and data of the response.
    fn take(
        &self,
        stage: Stage,
        means: &mut Means<'_>,
        kind: u8,
        data: &[u8],
    ) -> Result<(Stage, u8, Vec<u8>), Refusal> {
        match (stage, kind) {
            (Stage::Over, _) => Err(Refusal::Packet),
            // RFC 3748, 5.2: it may come at any time and changes nothing.
            (stage, packet::NOTIFICATION) => Ok((stage, kind, Vec::new())),
            (Stage::Open, packet::IDENTITY) => {
                Ok((Stage::Open, kind, self.name.as_bytes().to_vec()))
            }
            (Stage::Open, kind) => self.start(means, kind, data),
            (Stage::Tls(run), packet::TLS) => go_on(run, means, data),
            (Stage::MsChapV2(run), packet::MSCHAPV2) => {
                let (end, answer) = run.conclude(means.provider, data).ok_or(Refusal::Packet)?;
                let stage = match end {
                    mschapv2::End::Proven(msk) => Stage::Done(Some(msk), None),
                    mschapv2::End::Impostor => return Err(Refusal::Impostor),
                    mschapv2::End::Failed(why) => Stage::Failed(text(&why)),
                };
                Ok((stage, kind, answer))
            }
            (Stage::MsChapV2(_) | Stage::Tls(_) | Stage::Done(..) | Stage::Failed(_), _) => {
                Err(Refusal::Packet)
            }
        }
    }

    /// Begins the method that the server offers, or says which ones we have.
    fn start(
        &self,
        means: &mut Means<'_>,
        kind: u8,
        data: &[u8],
    ) -> Result<(Stage, u8, Vec<u8>), Refusal> {
        let ours = |method: &&EapMethod| packet::type_of(**method) == Some(kind);
        let method = self.methods.iter().find(ours);
        match (method, &self.user) {
            (Some(EapMethod::Tls), _) => go_on(Box::new(tls::Run::client()), means, data),
            (Some(EapMethod::MsChapV2), Some(user)) => {
                let begun = mschapv2::Client::begin(user, means.rng, data);
                let (run, answer) = begun.ok_or(Refusal::Packet)?;
                Ok((Stage::MsChapV2(run), kind, answer))
            }
            (Some(EapMethod::Gtc), Some(user)) => {
                let password = user.password.expose().to_vec();
                Ok((Stage::Done(None, None), kind, password))
            }
            (Some(EapMethod::Md5), Some(user)) => {
                let answer = self.digest(user, data).ok_or(Refusal::Packet)?;
                Ok((Stage::Done(None, None), kind, answer))
            }
            (Some(_) | None, _) => {
                let known = self.methods.iter().copied().filter_map(packet::type_of);
                let known: Vec<u8> = known.collect();
                Ok((Stage::Open, packet::NAK, known))
            }
        }
    }

    /// The answer to an MD5 challenge. Its `id` is the identifier of the packet.
    fn digest(&self, user: &EapUser, data: &[u8]) -> Option<Vec<u8>> {
        let (length, rest) = data.split_first()?;
        let challenge = rest.get(..usize::from(*length))?;
        if challenge.is_empty() {
            return None;
        }
        let digest = chap_md5(self.identifier?, user.password.expose(), challenge);
        let name = user.name.as_bytes();
        Some([&[16][..], &*digest, name].concat())
    }
}

/// An identity without its type.
fn plain(identity: &Identity) -> String {
    let shown = identity.to_string();
    let (_, rest) = shown.split_once('/').unwrap_or_default();
    rest.to_owned()
}

/// The next step of TLS.
fn go_on(
    mut run: Box<tls::Run>,
    means: &mut Means<'_>,
    data: &[u8],
) -> Result<(Stage, u8, Vec<u8>), Refusal> {
    let (stage, answer) = match run.take(means, data) {
        tls::Next::Send(data) => (Stage::Tls(run), data),
        tls::Next::Ready(data, msk) => (Stage::Done(Some(msk), run.vouched()), data),
        tls::Next::Alert(data, why) => (Stage::Failed(why.to_string()), data),
        tls::Next::Pass(_) => return Err(Refusal::Packet),
        tls::Next::Refuse(why) => return Err(why),
    };
    Ok((stage, packet::TLS, answer))
}

/// Requests answered in one dialog: those of TLS with a flight of 32 KiB, and a few before.
const ROUNDS_MAX: u32 = 100;

#[cfg(test)]
mod tests;
