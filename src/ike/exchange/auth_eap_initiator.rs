//! IKE_AUTH as initiator with EAP (RFC 7296, 2.16): the responder proves itself in its first answer
//! before it hears anything of ours; at the end of the method both prove the key that came of it. Where
//! the method proves both ends it may leave its first proof out (RFC 5998): we have said so.

use super::super::context::Context;
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::super::message;
use super::super::state::{AuthSent, State};
use super::asking;
use super::auth_eap::means;
use super::auth_initiator::{self, OurAuth, our_octets, their_octets};
use super::auth_request::{auth_in, eap_in, identity};
use super::create_child_initiator::error_in;
use super::ppk::{self, Blend};
use super::questions;
use super::rounds;
use crate::auth::chain::Vouched;
use crate::auth::eap::{Client, Reply};
use crate::auth::{AuthError, psk};
use crate::crypto::SecretBytes;
use crate::lookup::port::Question;
use crate::policy::{Auth as AuthWords, Eap, Identity, Policy};
use crate::time::Now;
use crate::wire::registry::{AuthMethod, ExchangeType};
use crate::wire::{Id, Payload};

/// What is known in the middle of EAP.
#[derive(Debug)]
pub struct Run {
    client: Client,
    /// Who the responder is, once it has proven it, or says it is, for the method to prove.
    peer_id: Option<Identity>,
    /// The method alone proves it.
    left_to_eap: bool,
    /// The certificate with which it has done so.
    vouched: Option<Vouched>,
    /// The method has ended well, with this key: AUTH is out.
    passed: Option<Option<SecretBytes>>,
}

impl Run {
    /// Ready for the first answer; `None` where the policy names no user.
    pub fn new(eap: &Eap, srcid: &Identity) -> Option<Self> {
        Some(Self {
            client: Client::begin(eap, srcid)?,
            peer_id: None,
            left_to_eap: false,
            vouched: None,
            passed: None,
        })
    }

    /// Ready for the first answer of another authentication, with the responder that has proven to be
    /// this; `None` where the policy names no user.
    pub fn again(eap: &Eap, srcid: &Identity, peer_id: &Identity) -> Option<Self> {
        let run = Self::new(eap, srcid)?;
        Some(Self {
            peer_id: Some(peer_id.clone()),
            ..run
        })
    }

    /// Whether the responder has begun to ask.
    pub const fn has_begun(&self) -> bool {
        self.peer_id.is_some()
    }
}

/// What follows an answer.
enum Next {
    /// The next packet.
    Packet(Vec<u8>),
    /// Our proof.
    Proof(OurAuth),
    /// Both sides have proven the key; what is still to be asked of the responder's certificate.
    Up(Identity, Vec<Question>),
}

/// The responder has proven itself, in these payloads of its first answer.
pub fn begin(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    peer_id: Identity,
    payloads: &[Payload<'_>],
) {
    if let State::AwaitAuthResponse(sent) = &mut sa.state
        && let Some(run) = &mut sent.eap
    {
        run.peer_id = Some(peer_id);
        run.left_to_eap = is_left_to_eap(&sa.policy, payloads);
        advance(cx, sa, now, payloads);
    }
}

/// Takes a later answer.
pub fn proceed(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) {
    sa.window.settle();
    advance(cx, sa, now, payloads);
}

fn advance(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) {
    let policy = sa.policy.clone();
    let State::AwaitAuthResponse(sent) = &mut sa.state else {
        return;
    };
    let Some(mut run) = sent.eap.take() else {
        return;
    };
    let next = step(cx, now, &policy, sent, &mut run, payloads);
    let peer_id = run.peer_id.clone();
    sent.eap = Some(run);
    let follows = rounds::follows(&policy, sent);
    match next {
        Ok(Next::Packet(packet)) => ask(cx, sa, now, &[Payload::Eap(&packet)]),
        Ok(Next::Proof(auth)) => {
            let mut payloads = auth.payloads();
            payloads.extend(follows);
            ask(cx, sa, now, &payloads);
        }
        Ok(Next::Up(peer_id, questions)) => {
            let then = asking::accept(payloads, peer_id);
            asking::ask(cx, sa, now, questions, then);
        }
        Err(error) => {
            let error = match &peer_id {
                Some(peer_id) => error.of(peer_id, &policy),
                None => error,
            };
            auth_initiator::reject(cx, sa, now, &error);
        }
    }
}

fn ask(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) {
    message::request(cx, sa, ExchangeType::IKE_AUTH, payloads, now.mono);
}

fn step(
    cx: &mut Context,
    now: Now,
    policy: &Policy,
    sent: &AuthSent,
    run: &mut Run,
    payloads: &[Payload<'_>],
) -> Result<Next, Error> {
    let peer_id = run.peer_id.clone().ok_or(Error::Missing("IDr"))?;
    let prf = sent.suite.prf;
    if let Some(msk) = &run.passed {
        let auth = auth_in(payloads).ok_or_else(|| missing(payloads, "AUTH"))?;
        let id_r = Id {
            kind: peer_id.kind,
            data: &peer_id.data,
        };
        let ppk = ppk::taken(sent.ppk.as_deref(), payloads)?;
        let theirs = their_octets(sent, ppk, &id_r);
        // RFC 7296, 2.16: without a key of the method each side's own SK_p stands in.
        let (_, sk_pr) = sent.keys.proving(ppk.map(Blend::mixed));
        let key = msk.as_ref().unwrap_or(sk_pr).expose();
        psk::verify(&cx.provider, prf, key, &theirs, auth.method, auth.data)
            .map_err(|error| ppk::blame(ppk, error.into()))?;
        let questions = questions::revocation(cx, now, run.vouched.take(), &[])?;
        return Ok(Next::Up(peer_id, questions));
    }
    let packet = eap_in(payloads).ok_or_else(|| missing(payloads, "EAP"))?;
    let (srcid, _) = policy.round(sent.round);
    let mut means = means(cx, now, srcid, &peer_id);
    let reply = run.client.answer(&mut means, packet);
    match reply.map_err(AuthError::Eap)? {
        Reply::Answer(packet) => Ok(Next::Packet(packet)),
        Reply::Success(msk, vouched) => {
            run.vouched = vouched.filter(|_| run.left_to_eap);
            let proof = OurAuth::make(sent.ppk.as_deref(), |ppk| {
                let ours = our_octets(policy, sent, ppk);
                let (sk_pi, _) = sent.keys.proving(ppk.map(Blend::mixed));
                let key = msk.as_ref().unwrap_or(sk_pi).expose();
                let mac = psk::shared_key_auth(prf, key, &ours);
                Ok::<_, Error>((AuthMethod::SHARED_KEY, mac))
            })?;
            run.passed = Some(msk);
            Ok(Next::Proof(proof))
        }
    }
}

/// Whether the responder leaves its proof to a method that proves both ends.
pub fn is_left_to_eap(policy: &Policy, payloads: &[Payload<'_>]) -> bool {
    let mutual = matches!(&policy.auth, AuthWords::Eap(eap) if eap.is_mutual());
    mutual && eap_in(payloads).is_some() && auth_in(payloads).is_none()
}

/// Whom the responder says it is, if that is whom we want.
pub fn claimed(policy: &Policy, payloads: &[Payload<'_>]) -> Result<Identity, Error> {
    let id_r = payloads.iter().find_map(|payload| {
        let Payload::IdR(id) = payload else {
            return None;
        };
        identity(id)
    });
    let id_r = id_r.ok_or(Error::Missing("IDr"))?;
    let wanted = policy
        .dstid
        .as_ref()
        .is_none_or(|wanted| wanted.same(&id_r));
    if wanted {
        Ok(id_r)
    } else {
        let why = format!(" for {id_r}: '{}' wants another dstid", policy.name);
        Err(Error::NoPolicy(why))
    }
}

/// The error that the responder reported in place of this payload, or that it is missing.
fn missing(payloads: &[Payload<'_>], what: &'static str) -> Error {
    error_in(payloads).unwrap_or(Error::Missing(what))
}
