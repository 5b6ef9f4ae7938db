//! IKE_AUTH that waits for the lookup thread, in either role. What was said is kept as bytes and
//! heeded once the answer is there; until then the peer's repetitions meet silence, and the time
//! that a handshake may take goes on.

use std::time::{Duration, Instant};

use super::super::context::Context;
use super::super::endpoint;
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::super::state::State;
use super::auth::{self, Proof};
use super::auth_eap;
use super::auth_initiator;
use super::auth_request::read;
use crate::auth::AuthError;
use crate::auth::chain::Vouched;
use crate::crypto::ocsp::Status;
use crate::lookup::http::Url;
use crate::lookup::port::{Answer, Failure, OcspQuestion, Question};
use crate::policy::Identity;
use crate::time::Now;
use crate::wire::registry::{ExchangeType, PayloadType};
use crate::wire::{Payload, decode_payloads, encode_payloads};

/// What an IKE SA waits for.
pub struct Asking {
    serial: u64,
    /// When the answer must be there.
    pub until: Instant,
    then: Then,
}

/// What happens with the answer.
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
    /// As responder: the peer gets the next EAP packet.
    Relay {
        /// Message ID and digest of the request.
        message: (u32, u64),
    },
    /// As initiator: the responder is accepted, or told that it is not.
    Accept {
        /// The payloads of the response.
        response: Kept,
        /// Who it has proven to be.
        peer_id: Identity,
    },
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

/// Whether a certificate that only a chain vouches for is revoked: what must be asked, if the
/// configuration says that it must.
pub fn revocation(cx: &Context, vouched: Option<Vouched>) -> Option<Question> {
    let ocsp = cx.config.settings.ocsp.as_ref()?;
    let Vouched { leaf, above } = vouched?;
    // A certificate that is trusted itself has nobody who could revoke it.
    let issuer = above.into_iter().next()?;
    let mut named = issuer.ocsp_urls().into_iter();
    let url = named.find(|url| Url::read(url).is_some());
    let question = OcspQuestion {
        url: url.unwrap_or_else(|| ocsp.url.clone()),
        leaf,
        issuer,
        responders: cx.store.responders().clone(),
        tolerate: if ocsp.tolerate.is_zero() {
            TOLERATE
        } else {
            ocsp.tolerate
        },
        max_age: ocsp.max_age,
    };
    Some(Question::Ocsp(Box::new(question)))
}

/// Asks, and waits.
pub fn ask(cx: &mut Context, sa: &mut IkeSa, now: Now, question: Question, then: Then) {
    let mut until = now.mono + WAIT_MAX;
    if let State::AwaitAuthRequest(_) = &sa.state {
        until = until.min(sa.born_at + cx.config.settings.half_open_timeout);
    }
    let serial = cx.ask(sa.own_spi, until, question);
    let asking = Some(Box::new(Asking {
        serial,
        until,
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
    let Some(asking) = place.and_then(|place| place.take_if(|asking| asking.serial == serial))
    else {
        return;
    };
    let verdict = match answer {
        Answer::Radius(answer) => {
            if let Then::Relay { message } = asking.then {
                auth_eap::relayed(cx, sa, now, message, answer);
            }
            return;
        }
        Answer::Ocsp(Ok(Status::Good)) => Ok(()),
        Answer::Ocsp(Ok(Status::Revoked)) => Err(AuthError::Certificate("revoked")),
        Answer::Ocsp(Ok(Status::Unknown)) => {
            Err(AuthError::Certificate("unknown to its OCSP responder"))
        }
        Answer::Ocsp(Err(failure)) => Err(AuthError::Unconfirmed(failure.to_string())),
    };
    settled(cx, sa, now, asking.then, verdict.map_err(Error::from));
}

/// The answer should have been there long ago.
pub fn give_up(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    if let Some(asking) = place(sa).and_then(Option::take) {
        let error = AuthError::Unconfirmed("no answer".to_owned());
        settled(cx, sa, now, asking.then, Err(error.into()));
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

fn settled(cx: &mut Context, sa: &mut IkeSa, now: Now, then: Then, verdict: Result<(), Error>) {
    if verdict.is_err() {
        cx.stats.lookup_failures += 1;
    }
    go_on(cx, sa, now, then, verdict);
}

/// What follows, where nothing is to be asked or has been answered.
pub fn go_on(cx: &mut Context, sa: &mut IkeSa, now: Now, then: Then, verdict: Result<(), Error>) {
    match then {
        Then::Relay { message } => auth_eap::relayed(cx, sa, now, message, Err(Failure::Late)),
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
/// How far a responder's clock may be off where the configuration says nothing of it.
const TOLERATE: Duration = Duration::from_secs(300);
