//! IKE_AUTH that waits for the lookup thread, in either role, or for the other shards. What was said is
//! kept as bytes and heeded once the answer is there; until then the peer's repetitions meet silence,
//! and the time that a handshake may take goes on.

use std::time::{Duration, Instant};

use super::super::context::Context;
use super::super::endpoint;
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::super::lease::{self, Lease};
use super::super::state::State;
use super::auth;
use super::auth_eap::{self, Opening};
use super::auth_initiator;
use super::auth_proof::Proof;
use super::auth_request::{Request, read};
use super::rounds::{self, Rounds};
use crate::auth::AuthError;
use crate::crypto::ocsp::Status;
use crate::lookup::port::{Answer, Failure, Question};
use crate::policy::{CrlFetch, Identity};
use crate::time::Now;
use crate::wire::registry::{CertEncoding, ExchangeType, PayloadType};
use crate::wire::{Payload, decode_payloads, encode_payloads};

/// What an IKE SA waits for.
pub struct Asking {
    serial: u64,
    /// When the answer must be there.
    pub until: Instant,
    /// When all answers must be there.
    limit: Instant,
    /// What it is if it never comes; nothing where the other shards are asked.
    otherwise: Option<Answer>,
    /// What is to be asked after that.
    rest: Vec<Question>,
    then: Then,
}

/// What happens with the answers.
pub enum Then {
    /// As responder: the peer is let in, or refused.
    Admit {
        /// Message ID and digest of the request.
        message: (u32, u64),
        /// Its payloads.
        request: Kept,
        /// What it has proven.
        proof: Box<Proof>,
    },
    /// As responder: the peer is answered, and authenticates once more, or is refused.
    Next {
        /// Message ID and digest of the request.
        message: (u32, u64),
        /// What it has proven.
        rounds: Box<Rounds>,
    },
    /// As responder: EAP begins, with our proof.
    Open {
        /// Message ID and digest of the request.
        message: (u32, u64),
        /// What the answer says.
        opening: Box<Opening>,
    },
    /// As responder: the peer is let in with the addresses that it had, if it had any; `left` shards
    /// have not answered yet.
    Seat {
        /// Message ID and digest of the request.
        message: (u32, u64),
        /// Its payloads.
        request: Kept,
        /// What it has proven.
        proof: Box<Proof>,
        /// Answers to come.
        left: u8,
    },
    /// As responder: the peer gets the next EAP packet.
    Relay {
        /// Message ID and digest of the request.
        message: (u32, u64),
    },
    /// As initiator: we prove ourselves.
    Prove {
        /// Our proof.
        proof: auth_initiator::Proof,
    },
    /// As initiator: the responder is accepted, or told that it is not.
    Accept {
        /// The payloads of the response.
        response: Kept,
        /// Who it has proven to be.
        peer_id: Identity,
    },
}

impl Then {
    /// Shows the peer this response about our certificate as well (RFC 4806).
    fn show(&mut self, response: &[u8]) {
        let certs = match self {
            Self::Admit { proof, .. } | Self::Seat { proof, .. } => &mut proof.certs,
            Self::Next { rounds, .. } => &mut rounds.proof_mut().certs,
            Self::Open { opening, .. } => match &mut opening.shown {
                Some((_, certs)) => certs,
                None => return,
            },
            Self::Prove { proof } => &mut proof.certs,
            Self::Relay { .. } | Self::Accept { .. } => return,
        };
        certs.push((CertEncoding::OCSP, response.to_vec()));
    }
}

/// Payloads that were read before, and will be again.
pub type Kept = (PayloadType, Vec<u8>);

/// Lets the peer in that has proven this with this request.
pub fn admit(request: Kept, message: (u32, u64), proof: Proof) -> Then {
    Then::Admit {
        message,
        request,
        proof: Box::new(proof),
    }
}

/// Asks the shards for the addresses that this peer had, where the configuration says that it gets
/// them again, and has it wait: `None`. Else the proof comes back.
pub fn claim(
    cx: &mut Context,
    sa: &mut IkeSa,
    message: (u32, u64),
    payloads: &[Payload<'_>],
    request: &Request<'_>,
    proof: Proof,
) -> Option<Proof> {
    let State::AwaitAuthRequest(half_open) = &mut sa.state else {
        return Some(proof);
    };
    let granted = sa.admission.as_ref().map_or(&[][..], |said| &said.granted);
    let pools = lease::pools_for(&proof.policy, granted, request.cp);
    if !cx.config.settings.sticky_address || pools.is_empty() {
        return Some(proof);
    }
    let (serial, left) = cx.claim(sa.own_spi, proof.peer_id.clone(), pools);
    let until = sa.born_at + cx.config.settings.half_open_timeout;
    half_open.asking = Some(Box::new(Asking {
        serial,
        until,
        limit: until,
        otherwise: None,
        rest: Vec::new(),
        then: Then::Seat {
            message,
            request: keep(payloads),
            proof: Box::new(proof),
            left,
        },
    }));
    None
}

/// A shard has answered. False: nobody waits for what it said.
pub fn ceded(cx: &mut Context, sa: &mut IkeSa, now: Now, serial: u64, lease: Lease) -> bool {
    let Some(place) = place(sa) else { return false };
    let Some(asking) = place.as_mut().filter(|asking| asking.serial == serial) else {
        return false;
    };
    let Then::Seat { left, .. } = &mut asking.then else {
        return false;
    };
    *left = left.saturating_sub(1);
    if lease.is_empty() && *left > 0 {
        return true;
    }
    if let Some(asking) = place.take() {
        cx.pools.move_in(&lease);
        sa.lease = lease;
        go_on(cx, sa, now, asking.then, Ok(()));
    }
    true
}

/// Accepts this responder with these payloads of its response.
pub fn accept(payloads: &[Payload<'_>], peer_id: Identity) -> Then {
    Then::Accept {
        response: keep(payloads),
        peer_id,
    }
}

/// Payloads for later.
pub fn keep(payloads: &[Payload<'_>]) -> Kept {
    let mut bytes = Vec::new();
    let first = encode_payloads(payloads, &mut bytes);
    (first, bytes)
}

/// Asks one question after the other, and waits.
pub fn ask(cx: &mut Context, sa: &mut IkeSa, now: Now, questions: Vec<Question>, then: Then) {
    let mut limit = now.mono + WAIT_MAX;
    if let State::AwaitAuthRequest(_) = &sa.state {
        limit = limit.min(sa.born_at + cx.config.settings.half_open_timeout);
    }
    ask_until(cx, sa, now, questions, then, limit);
}

fn ask_until(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    mut rest: Vec<Question>,
    then: Then,
    limit: Instant,
) {
    if rest.is_empty() {
        return go_on(cx, sa, now, then, Ok(()));
    }
    let question = rest.remove(0);
    let tried = cx.config.settings.crl == Some(CrlFetch::Tried);
    let (otherwise, short) = match &question {
        Question::Ocsp(_) => (Answer::Ocsp(Err(Failure::Late)), false),
        Question::Crl(_) => (Answer::Crl(Err(Failure::Late)), tried),
        Question::Own(_) => (Answer::Own(None), true),
        Question::Radius(_) => (Answer::Radius(Err(Failure::Late)), false),
    };
    // What may be missing is not worth a long wait.
    let until = if short {
        limit.min(now.mono + WAIT_SHORT)
    } else {
        limit
    };
    let serial = cx.ask(sa.own_spi, until, question);
    let asking = Some(Box::new(Asking {
        serial,
        until,
        limit,
        otherwise: Some(otherwise),
        rest,
        then,
    }));
    match &mut sa.state {
        State::AwaitAuthRequest(half_open) => half_open.asking = asking,
        State::AwaitAuthResponse(sent) => sent.asking = asking,
        State::AwaitSaInitResponse(_)
        | State::AwaitKernel(_)
        | State::Established(_)
        | State::Deleting(_)
        | State::Closed => {}
    }
}

/// The answer to the question with this number is there, if this IKE SA still waits for it.
pub fn answered(cx: &mut Context, sa: &mut IkeSa, now: Now, serial: u64, answer: Answer) {
    let place = place(sa);
    if let Some(asking) = place.and_then(|place| place.take_if(|asking| asking.serial == serial)) {
        settle(cx, sa, now, *asking, answer);
    }
}

/// The answer should have been there long ago.
pub fn give_up(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    if let Some(asking) = place(sa).and_then(Option::take) {
        match asking.otherwise.clone() {
            Some(answer) => settle(cx, sa, now, *asking, answer),
            None => go_on(cx, sa, now, asking.then, Ok(())),
        }
    }
}

fn settle(cx: &mut Context, sa: &mut IkeSa, now: Now, asking: Asking, answer: Answer) {
    let Asking {
        limit,
        rest,
        mut then,
        ..
    } = asking;
    let verdict = match answer {
        Answer::Radius(answer) => {
            if let Then::Relay { message } = then {
                auth_eap::relayed(cx, sa, now, message, answer);
            }
            return;
        }
        Answer::Own(Some(response)) => {
            then.show(&response);
            Ok(())
        }
        Answer::Own(None) => {
            cx.stats.lookup_failures += 1;
            cx.debug(format_args!("{}: no OCSP response to show", sa.tag()));
            Ok(())
        }
        Answer::Crl(Err(failure)) if cx.config.settings.crl == Some(CrlFetch::Tried) => {
            cx.stats.lookup_failures += 1;
            let tag = sa.tag();
            cx.info(format_args!("{tag}: revocation not looked up: {failure}"));
            Ok(())
        }
        Answer::Ocsp(said) | Answer::Crl(said) => judge(said),
    };
    match verdict {
        Ok(()) => ask_until(cx, sa, now, rest, then, limit),
        Err(error) => {
            cx.stats.lookup_failures += 1;
            go_on(cx, sa, now, then, Err(error.into()));
        }
    }
}

fn judge(said: Result<Status, Failure>) -> Result<(), AuthError> {
    match said {
        Ok(Status::Good) => Ok(()),
        Ok(Status::Revoked) => Err(AuthError::Certificate("revoked")),
        Ok(Status::Unknown) => Err(AuthError::Certificate("unknown to its OCSP responder")),
        Err(failure) => Err(AuthError::Unconfirmed(failure.to_string())),
    }
}

fn place(sa: &mut IkeSa) -> Option<&mut Option<Box<Asking>>> {
    match &mut sa.state {
        State::AwaitAuthRequest(half_open) => Some(&mut half_open.asking),
        State::AwaitAuthResponse(sent) => Some(&mut sent.asking),
        State::AwaitSaInitResponse(_)
        | State::AwaitKernel(_)
        | State::Established(_)
        | State::Deleting(_)
        | State::Closed => None,
    }
}

/// What follows, where nothing is to be asked or has been answered.
pub fn go_on(cx: &mut Context, sa: &mut IkeSa, now: Now, then: Then, verdict: Result<(), Error>) {
    match then {
        Then::Relay { message } => auth_eap::relayed(cx, sa, now, message, Err(Failure::Late)),
        Then::Next { message, rounds } => match verdict {
            Ok(()) => rounds::answer(cx, sa, message, *rounds),
            Err(error) => rounds::refuse(cx, sa, now, message, &rounds, error),
        },
        Then::Open { message, opening } => auth_eap::open(cx, sa, message, *opening),
        Then::Prove { proof } => auth_initiator::transmit(cx, sa, now, &proof),
        Then::Admit {
            message,
            request: (first, bytes),
            proof,
        } => {
            // It decoded before, and nothing has touched it since.
            let payloads = decode_payloads(first, &bytes).unwrap_or_default();
            let request = verdict.and_then(|()| read(&payloads));
            match request {
                Ok(request) => auth::admit(cx, sa, now, message, &payloads, &request, *proof),
                Err(error) => {
                    let error = error.of(&proof.peer_id, &proof.policy);
                    let exchange = ExchangeType::IKE_AUTH;
                    endpoint::refuse(cx, sa, now, exchange, message.0, message.1, &error);
                }
            }
        }
        Then::Seat {
            message,
            request: (first, bytes),
            proof,
            left: _,
        } => {
            let payloads = decode_payloads(first, &bytes).unwrap_or_default();
            if let Ok(request) = read(&payloads) {
                auth::let_in(cx, sa, now, message, &payloads, &request, *proof);
            }
        }
        Then::Accept {
            response: (first, bytes),
            peer_id,
        } => {
            let payloads = decode_payloads(first, &bytes).unwrap_or_default();
            match verdict {
                Ok(()) => auth_initiator::accept(cx, sa, now, peer_id, &payloads),
                Err(error) => {
                    let error = error.of(&peer_id, &sa.policy);
                    auth_initiator::reject(cx, sa, now, &error);
                }
            }
        }
    }
}

/// How long a handshake waits for an answer: shorter than a peer repeats its request.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How long it waits for what may be missing.
const WAIT_SHORT: Duration = Duration::from_secs(5);
