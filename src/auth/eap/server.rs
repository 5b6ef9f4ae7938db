//! The dialog of the authenticator that also holds the passwords: the question for the name, a
//! method that both sides want, success or failure.

use std::collections::BTreeMap;

use super::packet::{self, Code, Packet, build, end};
use super::simple::{Gtc, Md5};
use super::{Means, Passed, Refusal, mschapv2, text, tls};
use crate::crypto::{Provider, Rng};
use crate::policy::{EapMethod, Secret};

/// What the authenticator does next.
#[derive(Debug)]
pub enum Step {
    /// Send this request and wait for the answer.
    Ask(Vec<u8>),
    /// Send this request, which tells the peer that it did not pass; Failure follows whatever it
    /// answers.
    Deny(Vec<u8>, Refusal),
    /// Send this Success: the peer is who it says.
    Success(Vec<u8>, Passed),
    /// Send this Failure; that is the end.
    Failure(Vec<u8>, Refusal),
}

/// A dialog with one peer.
#[derive(Debug)]
pub struct Dialog {
    stage: Stage,
    identifier: u8,
    /// What the peer called itself first.
    identity: String,
    /// Methods not offered yet, the preferred one first.
    methods: Vec<EapMethod>,
    rounds: u32,
}

#[derive(Debug)]
enum Stage {
    Identity,
    /// The method's first request is out: the peer may want another.
    Offered(Method),
    /// The peer has taken it.
    Running(Method),
    Over,
}

#[derive(Debug)]
enum Method {
    Md5(Md5),
    Gtc,
    MsChapV2(mschapv2::Server),
    Tls(Box<tls::Run>),
}

/// What a method sees of its dialog.
#[derive(Debug)]
pub(super) struct Case<'a> {
    users: &'a BTreeMap<String, Secret>,
    identity: &'a str,
    pub(super) provider: &'a Provider,
}

/// What a method makes of an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Ask on with this data.
    Ask(Vec<u8>),
    /// The same, but the peer has failed.
    Deny(Vec<u8>, Refusal),
    Pass(Passed),
    Refuse(Refusal),
}

impl Dialog {
    /// Begins; the request asks for the peer's name. `methods` are on offer, the preferred one first.
    pub fn begin(methods: &[EapMethod], rng: &mut Rng) -> (Self, Vec<u8>) {
        let identifier = rng.bytes::<1>()[0];
        let dialog = Self {
            stage: Stage::Identity,
            identifier,
            identity: String::new(),
            methods: methods.to_vec(),
            rounds: 0,
        };
        let packet = build(Code::Request, identifier, packet::IDENTITY, &[]);
        (dialog, packet)
    }

    /// Takes the peer's answer. After Success or Failure every further packet is a failure.
    pub fn answer(&mut self, means: &mut Means<'_>, packet: &[u8]) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let answered = Packet::read(packet).and_then(|read| read.answers(self.identifier));
        self.rounds += 1;
        let Some((kind, data)) = answered.filter(|_| self.rounds <= ROUNDS_MAX) else {
            return self.refuse(Refusal::Packet);
        };
        match stage {
            Stage::Identity if kind == packet::IDENTITY => {
                self.identity = text(data);
                self.offer(means, None)
            }
            // RFC 3748, 5.3.1: only in answer to the first request of a method.
            Stage::Offered(_) if kind == packet::NAK => self.offer(means, Some(data)),
            Stage::Offered(method) | Stage::Running(method) if kind == method.kind() => {
                self.run(method, means, data)
            }
            Stage::Identity | Stage::Offered(_) | Stage::Running(_) | Stage::Over => {
                self.refuse(Refusal::Packet)
            }
        }
    }

    /// Offers the next of our methods, among those that the peer asked for if it has said so.
    fn offer(&mut self, means: &mut Means<'_>, wanted: Option<&[u8]>) -> Step {
        let fits = |method: &EapMethod| {
            let kind = packet::type_of(*method);
            kind.is_some_and(|kind| wanted.is_none_or(|wanted| wanted.contains(&kind)))
        };
        let Some(at) = self.methods.iter().position(fits) else {
            return self.refuse(Refusal::Method);
        };
        let identifier = self.next();
        let begun = Method::begin(self.methods.remove(at), means.rng, identifier);
        let Some((method, data)) = begun else {
            return self.refuse(Refusal::Method);
        };
        let packet = build(Code::Request, identifier, method.kind(), &data);
        self.stage = Stage::Offered(method);
        Step::Ask(packet)
    }

    fn run(&mut self, mut method: Method, means: &mut Means<'_>, data: &[u8]) -> Step {
        let verdict = method.answer(&self.identity, means, data);
        let kind = method.kind();
        match verdict {
            Verdict::Ask(data) => {
                self.stage = Stage::Running(method);
                Step::Ask(build(Code::Request, self.next(), kind, &data))
            }
            Verdict::Deny(data, why) => {
                self.stage = Stage::Running(method);
                Step::Deny(build(Code::Request, self.next(), kind, &data), why)
            }
            Verdict::Pass(passed) => Step::Success(end(Code::Success, self.identifier), passed),
            Verdict::Refuse(why) => self.refuse(why),
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

impl Method {
    /// Begins one; the data of its first request go along. `None`: it is not done here.
    fn begin(method: EapMethod, rng: &mut Rng, identifier: u8) -> Option<(Self, Vec<u8>)> {
        Some(match method {
            EapMethod::Md5 => {
                let (method, data) = Md5::begin(rng, identifier);
                (Self::Md5(method), data)
            }
            EapMethod::Gtc => (Self::Gtc, Gtc::begin()),
            EapMethod::MsChapV2 => {
                let (method, data) = mschapv2::Server::begin(rng, identifier);
                (Self::MsChapV2(method), data)
            }
            EapMethod::Tls => {
                let run = Box::new(tls::Run::server());
                (Self::Tls(run), vec![tls::START])
            }
            EapMethod::Radius => return None,
        })
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Md5(_) => packet::MD5,
            Self::Gtc => packet::GTC,
            Self::MsChapV2(_) => packet::MSCHAPV2,
            Self::Tls(_) => packet::TLS,
        }
    }

    fn answer(&mut self, identity: &str, means: &mut Means<'_>, data: &[u8]) -> Verdict {
        let case = Case {
            users: means.users,
            identity,
            provider: means.provider,
        };
        match self {
            Self::Md5(method) => method.answer(&case, data),
            Self::Gtc => Gtc::answer(&case, data),
            Self::MsChapV2(method) => method.answer(&case, data),
            Self::Tls(run) => match run.take(means, data) {
                tls::Next::Send(data) => Verdict::Ask(data),
                tls::Next::Alert(data, why) => Verdict::Deny(data, why),
                tls::Next::Pass(msk) => Verdict::Pass(Passed {
                    user: means.theirs.to_string(),
                    msk: Some(msk),
                    vouched: run.vouched(),
                }),
                tls::Next::Ready(..) => Verdict::Refuse(Refusal::Packet),
                tls::Next::Refuse(why) => Verdict::Refuse(why),
            },
        }
    }
}

impl<'a> Case<'a> {
    /// The user whom one of these names means, else what the peer called itself first, as OpenIKED
    /// does; and the password, if there is such a user.
    pub(super) fn find(&self, names: &[&[u8]]) -> (String, Option<&'a [u8]>) {
        let names = names.iter().map(|name| text(name));
        let names: Vec<String> = names.chain([self.identity.to_owned()]).collect();
        for name in &names {
            if let Some(password) = self.users.get(name) {
                return (name.clone(), Some(password.expose()));
            }
        }
        // For the log.
        let shown = names.into_iter().find(|name| !name.is_empty());
        (shown.unwrap_or_default(), None)
    }
}

/// Answers in one dialog: those of TLS with a flight of 32 KiB, and its Naks.
const ROUNDS_MAX: u32 = 100;
