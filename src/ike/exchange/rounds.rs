//! Several authentications in a row (RFC 4739), both roles: after a proof the initiator says that
//! another follows, and begins it with a new IDi. The responder proves itself once, with the first. Only
//! the last lets the initiator in, with what its first request asked for.

use std::sync::Arc;

use super::super::context::Context;
use super::super::endpoint;
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::super::message;
use super::super::state::{AuthSent, HalfOpen, Keying, State};
use super::asking::{self, Kept, Then};
use super::auth_eap;
use super::auth_eap_initiator::Run;
use super::auth_initiator;
use super::auth_proof::{self, Proof};
use super::auth_request::{identity, read};
use super::informational;
use super::ppk;
use super::sa_init::{has_notify, status};
use crate::auth::AuthError;
use crate::lookup::port::Question;
use crate::policy::{Auth as AuthWords, Identity, Policy};
use crate::time::Now;
use crate::wire::registry::{AuthMethod, ExchangeType, NotifyType};
use crate::wire::{Id, Payload};

/// As responder: what the rounds so far have brought.
#[derive(Debug)]
pub struct Rounds {
    /// The first request's payloads, for when the peer is known.
    first: Kept,
    /// The proofs, of which we say ours in the answer to the round that it was made in.
    proof: Proof,
    /// How many.
    done: usize,
}

impl Rounds {
    /// After the first.
    pub const fn new(first: Kept, proof: Proof) -> Self {
        Self {
            first,
            proof,
            done: 1,
        }
    }

    /// After one more, in which we proved this.
    pub fn and(mut self, auth: Option<(AuthMethod, Vec<u8>)>) -> Self {
        self.proof.auth = auth;
        self.done += 1;
        self
    }

    /// The policy.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.proof.policy
    }

    /// The proofs.
    pub const fn proof_mut(&mut self) -> &mut Proof {
        &mut self.proof
    }
}

/// Whether nothing follows this proof by any account.
pub fn is_only(policy: &Policy, payloads: &[Payload<'_>]) -> bool {
    policy.then.is_empty() && !has_notify(payloads, NotifyType::ANOTHER_AUTH_FOLLOWS)
}

/// As responder: the proof in these payloads holds, once these questions are answered. The peer is let
/// in, or answered and asked for the next.
pub fn passed(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message: (u32, u64),
    payloads: &[Payload<'_>],
    rounds: Rounds,
    questions: Vec<Question>,
) {
    let more = has_notify(payloads, NotifyType::ANOTHER_AUTH_FOLLOWS);
    let wanted = rounds.done <= rounds.policy().then.len();
    let error = match (more, wanted) {
        (true, true) => {
            let rounds = Box::new(rounds);
            return asking::ask(cx, sa, now, questions, Then::Next { message, rounds });
        }
        (false, false) => {
            let then = asking::admit(rounds.first, message, rounds.proof);
            return asking::ask(cx, sa, now, questions, then);
        }
        (false, true) => AuthError::Rounds("the peer does not prove itself once more"),
        (true, false) => AuthError::Rounds("the peer wants to prove itself once more"),
    };
    refuse(cx, sa, now, message, &rounds, error.into());
}

/// As responder: a round that does not hold ends them all.
pub fn refuse(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message: (u32, u64),
    rounds: &Rounds,
    error: Error,
) {
    let error = if matches!(error, Error::Denied(_)) {
        error
    } else {
        error.of(&rounds.proof.peer_id, rounds.policy())
    };
    let exchange = ExchangeType::IKE_AUTH;
    endpoint::refuse(cx, sa, now, exchange, message.0, message.1, &error);
}

/// As responder: answers a round that is not the last.
pub fn answer(cx: &mut Context, sa: &mut IkeSa, message: (u32, u64), mut rounds: Rounds) {
    let (tag, peer) = (sa.tag(), &rounds.proof.peer_id);
    let (done, all) = (rounds.done, rounds.policy().then.len() + 1);
    cx.info(format_args!(
        "{tag}: peer {peer}: authentication {done} of {all}"
    ));
    let id = rounds.proof.id.take();
    let certs = std::mem::take(&mut rounds.proof.certs);
    let auth = rounds.proof.auth.take();
    if let State::AwaitAuthRequest(half_open) = &mut sa.state {
        half_open.rounds = Some(Box::new(rounds));
    }
    let payloads = auth_proof::our_payloads(id.as_ref(), &certs, auth.as_ref());
    let exchange = ExchangeType::IKE_AUTH;
    message::respond(cx, sa, exchange, message.0, message.1, &payloads);
}

/// As responder: takes the request that begins the next round, and mostly ends it.
pub fn proceed(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message: (u32, u64),
    payloads: &[Payload<'_>],
) {
    let State::AwaitAuthRequest(half_open) = &mut sa.state else {
        return;
    };
    let Some(rounds) = half_open.rounds.take() else {
        return;
    };
    let judged = {
        let State::AwaitAuthRequest(half_open) = &sa.state else {
            return;
        };
        judge(cx, now, half_open, &rounds, payloads)
    };
    match judged {
        Ok((_, Some(questions))) => {
            passed(cx, sa, now, message, payloads, rounds.and(None), questions);
        }
        Ok((peer_id, None)) => auth_eap::begin_round(cx, sa, now, message, peer_id, rounds),
        Err(error) => refuse(cx, sa, now, message, &rounds, error),
    }
}

/// Who the peer says it is now, and what is to be asked about its proof; nothing where it wants EAP.
fn judge(
    cx: &mut Context,
    now: Now,
    half_open: &HalfOpen,
    rounds: &Rounds,
    payloads: &[Payload<'_>],
) -> Result<(Identity, Option<Vec<Question>>), Error> {
    let policy = rounds.policy();
    let Keying::Ready(keys) = &half_open.keying else {
        return Err(Error::Missing("AUTH"));
    };
    let round = rounds.current().ok_or(AuthError::Method)?;
    let request = read(payloads)?;
    let id_i = request.id_i.ok_or(Error::Missing("IDi"))?;
    let peer_id = identity(&id_i).ok_or_else(auth_proof::no_identity)?;
    let wanted = round.dstid.as_ref();
    if let Some(wanted) = wanted.filter(|wanted| !wanted.same(&peer_id)) {
        let name = &policy.name;
        let why = format!(" for {peer_id}: '{name}' wants dstid {wanted} then");
        return Err(Error::NoPolicy(why).of(&peer_id, policy));
    }
    let judged = match (request.auth, &round.auth) {
        (None, AuthWords::Eap(_)) => Ok(None),
        (None, AuthWords::Psk(_) | AuthWords::PublicKey(_)) => Err(AuthError::Method.into()),
        (Some(auth), words) => {
            // A policy with several has no PPK, but another may have had us say USE_PPK.
            let (agreed, by) = (half_open.ppk, (keys, half_open.suite.prf));
            let said = request.ppk;
            let agreed = agreed && said.is_there();
            ppk::choose(agreed, &policy.ppks, by, said, auth.data).and_then(|(_, data)| {
                let proving = keys.proving(None);
                let (theirs, _) = auth_proof::both_octets(half_open, proving, &id_i, &policy.srcid);
                let auth = crate::wire::Auth { data, ..auth };
                let proof = (auth, &peer_id, words);
                let proven = auth_proof::check_auth(cx, now, half_open, &request, proof, &theirs)?;
                Ok(Some(proven.questions))
            })
        }
    };
    let judged = judged.map_err(|error: Error| error.of(&peer_id, policy))?;
    Ok((peer_id, judged))
}

impl Rounds {
    /// What the policy says of the round that comes.
    pub fn current(&self) -> Option<&crate::policy::Round> {
        self.policy().then.get(self.done.checked_sub(1)?)
    }
}

/// As initiator: the round is over, and the responder is this. Begins the next one; false: that was
/// the last.
pub fn next(cx: &mut Context, sa: &mut IkeSa, now: Now, peer_id: &Identity) -> bool {
    let policy = Arc::clone(&sa.policy);
    let State::AwaitAuthResponse(sent) = &mut sa.state else {
        return false;
    };
    let Some(round) = policy.then.get(sent.round) else {
        return false;
    };
    sent.round += 1;
    sent.proven = Some(peer_id.clone());
    sent.eap = match &round.auth {
        AuthWords::Eap(eap) => Run::again(eap, &round.srcid, peer_id).map(Box::new),
        AuthWords::Psk(_) | AuthWords::PublicKey(_) => None,
    };
    let State::AwaitAuthResponse(sent) = &sa.state else {
        return true;
    };
    let more = follows(&policy, sent);
    let proof = match auth_initiator::prove(cx, sa, sent) {
        Ok(proof) => proof,
        Err(error) => {
            cx.warn(format_args!("{}: cannot authenticate: {error}", sa.tag()));
            informational::delete(cx, sa, now.mono);
            return true;
        }
    };
    let mut payloads = vec![Payload::IdI(Id {
        kind: round.srcid.kind,
        data: &round.srcid.data,
    })];
    payloads.extend(auth_proof::cert_payloads(&proof.certs));
    if let Some(auth) = &proof.auth {
        payloads.extend(auth.payloads());
        payloads.extend(more);
    }
    message::request(cx, sa, ExchangeType::IKE_AUTH, &payloads, now.mono);
    true
}

/// As initiator: what is said beside an AUTH that another follows.
pub fn follows(policy: &Policy, sent: &AuthSent) -> Option<Payload<'static>> {
    let more = sent.round < policy.then.len();
    more.then(|| status(NotifyType::ANOTHER_AUTH_FOLLOWS, &[]))
}

/// As initiator: the responder has nothing more to prove, and takes our proof or reports an error.
pub fn confirm(
    sent: &AuthSent,
    payloads: &[Payload<'_>],
) -> Result<(Identity, Vec<Question>), Error> {
    let fatal = payloads.iter().find_map(|payload| {
        let Payload::Notify(notify) = payload else {
            return None;
        };
        let kind = notify.kind;
        (kind.is_error() && !CHILD_ERRORS.contains(&kind)).then_some(kind)
    });
    match (fatal, &sent.proven) {
        (Some(kind), _) => Err(Error::Reported(kind)),
        (None, Some(peer_id)) => Ok((peer_id.clone(), Vec::new())),
        (None, None) => Err(Error::Missing("IDr")),
    }
}

/// Errors that leave the IKE SA up, without its Child SA (RFC 7296, 1.2).
const CHILD_ERRORS: [NotifyType; 6] = [
    NotifyType::NO_PROPOSAL_CHOSEN,
    NotifyType::TS_UNACCEPTABLE,
    NotifyType::SINGLE_PAIR_REQUIRED,
    NotifyType::INTERNAL_ADDRESS_FAILURE,
    NotifyType::FAILED_CP_REQUIRED,
    NotifyType::TEMPORARY_FAILURE,
];
