//! IKE_AUTH as responder with EAP (RFC 7296, 2.16): we prove ourselves in the first answer, the peer
//! by as many rounds as its method takes, and both once more with the key that came of it. What the
//! peer asked for in its first request is granted in the last answer. Where the method proves us as well
//! and the peer is content with that (RFC 5998), the first proof is left out.

use std::sync::Arc;

use super::super::context::Context;
use super::super::endpoint;
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::super::message;
use super::super::state::{HalfOpen, Keying, State};
use super::announce;
use super::asking::{self, Kept, Then};
use super::auth_proof::{self, Proof, Wishes};
use super::auth_request::{auth_in, eap_in, identity, read};
use super::ppk::{self, Blend};
use super::questions;
use super::relay::{self, Admission, Relay};
use super::rounds::{self, Rounds};
use super::sa_init::has_notify;
use super::{informational, mobike};
use crate::auth::eap::{Dialog, Means, Passed, Step};
use crate::auth::{AuthError, psk};
use crate::lookup::port::RadiusAnswer;
use crate::policy::{Auth as AuthWords, Eap, Identity, Policy, PublicKeyAuth};
use crate::time::Now;
use crate::wire::registry::{AuthMethod, ExchangeType, NotifyType};
use crate::wire::{Id, Payload};

/// What stands between the first request and the last.
#[derive(Debug)]
pub struct Wait {
    policy: Arc<Policy>,
    peer_id: Identity,
    server: Server,
    /// Once the method has ended well.
    passed: Option<Passed>,
    /// What the server said of it.
    admission: Option<Box<Admission>>,
    before: Before,
}

/// What went before.
#[derive(Debug)]
enum Before {
    /// Nothing: the first request's payloads, for when the peer is known.
    First(Kept),
    /// Other authentications.
    Rounds(Box<Rounds>),
}

/// Who knows the peer.
#[derive(Debug)]
enum Server {
    /// We do.
    Local(Dialog),
    /// A RADIUS server.
    Remote(Box<Relay>),
}

/// Answers a request without AUTH: our own proof, and EAP's first question.
pub fn begin(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    (message_id, digest): (u32, u64),
    payloads: &[Payload<'_>],
) {
    let State::AwaitAuthRequest(half_open) = &sa.state else {
        return;
    };
    let opening = match opening(cx, sa, half_open, payloads) {
        Ok(opening) => opening,
        Err(error) => {
            let exchange = ExchangeType::IKE_AUTH;
            return endpoint::refuse(cx, sa, now, exchange, message_id, digest, &error);
        }
    };
    let asked = read(payloads).map(|request| request.cert_requests);
    let shown = opening.shown.as_ref().map_or(&[][..], |(_, certs)| certs);
    let question = questions::own_status(cx, &asked.unwrap_or_default(), shown);
    let message = (message_id, digest);
    match question {
        Some(question) => {
            let opening = Box::new(opening);
            let then = Then::Open { message, opening };
            asking::ask(cx, sa, now, vec![question], then);
        }
        None => open(cx, sa, message, opening),
    }
}

/// Answers the first request.
pub fn open(cx: &mut Context, sa: &mut IkeSa, (message_id, digest): (u32, u64), opening: Opening) {
    let Opening {
        wait,
        question,
        shown,
    } = opening;
    let id = match &wait.before {
        Before::First(_) => Some(wait.policy.srcid.clone()),
        Before::Rounds(_) => None,
    };
    let (auth, certs) = shown.map_or((None, Vec::new()), |(auth, certs)| (Some(auth), certs));
    let mut answer = auth_proof::our_payloads(id.as_ref(), &certs, auth.as_ref());
    answer.push(Payload::Eap(&question));
    if let State::AwaitAuthRequest(half_open) = &mut sa.state {
        half_open.eap = Some(Box::new(wait));
    }
    let exchange = ExchangeType::IKE_AUTH;
    message::respond(cx, sa, exchange, message_id, digest, &answer);
}

/// What the first answer says.
pub struct Opening {
    wait: Wait,
    /// The first EAP packet.
    question: Vec<u8>,
    /// Our own proof, where EAP does not bring it.
    pub shown: Option<auth_proof::Ours>,
}

fn opening(
    cx: &mut Context,
    sa: &IkeSa,
    half_open: &HalfOpen,
    payloads: &[Payload<'_>],
) -> Result<Opening, Error> {
    let Keying::Ready(keys) = &half_open.keying else {
        return Err(Error::Missing("AUTH"));
    };
    let request = read(payloads)?;
    let id_i = request.id_i.ok_or(Error::Missing("IDi"))?;
    let peer_id = identity(&id_i).ok_or_else(auth_proof::no_identity)?;
    let policy = auth_proof::choose_policy(cx, sa, &half_open.chosen, &peer_id, &request)?;
    let AuthWords::Eap(eap) = &policy.auth else {
        return Err(Error::from(AuthError::Method).of(&peer_id, &policy));
    };
    ppk::check(half_open.ppk, &policy.ppks).map_err(|error| error.of(&peer_id, &policy))?;
    mobike::check_nats(sa.asked_from(), payloads)?;
    // Which PPK the peer has is said at the end (RFC 8784, 3).
    let proving = keys.proving(None);
    let (_, ours) = auth_proof::both_octets(half_open, proving, &id_i, &policy.srcid);
    let wishes = Wishes {
        asked: &request.cert_requests,
        hashes: &half_open.peer_hashes,
        pss: false,
        announced: &announce::heard(cx, sa.tag(), request.announced),
    };
    let only = has_notify(payloads, NotifyType::EAP_ONLY_AUTHENTICATION) && eap.is_mutual();
    let shown = if only {
        None
    } else {
        let any = PublicKeyAuth::Any;
        Some(auth_proof::our_signature(
            cx,
            sa,
            any,
            &policy.srcid,
            &wishes,
            &ours,
        )?)
    };
    let (server, question) = serve(cx, sa, eap);
    let wait = Wait {
        policy,
        peer_id,
        server,
        passed: None,
        admission: None,
        before: Before::First(asking::keep(payloads)),
    };
    Ok(Opening {
        wait,
        question,
        shown,
    })
}

/// Who answers the peer, and the first EAP packet.
fn serve(cx: &mut Context, sa: &IkeSa, eap: &Eap) -> (Server, Vec<u8>) {
    if eap.is_radius() {
        let facts = relay::facts(sa);
        let (relay, question) = Relay::begin(&cx.config.radius, facts, &mut cx.rng);
        (Server::Remote(Box::new(relay)), question)
    } else {
        let (dialog, question) = Dialog::begin(&eap.methods, &mut cx.rng);
        (Server::Local(dialog), question)
    }
}

/// Answers the request that begins another authentication, after these, with EAP's first question. The
/// peer says that it is this.
pub fn begin_round(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message: (u32, u64),
    peer_id: Identity,
    rounds: Box<Rounds>,
) {
    let policy = Arc::clone(rounds.policy());
    let Some(AuthWords::Eap(eap)) = rounds.current().map(|round| &round.auth) else {
        let error = AuthError::Method.into();
        return rounds::refuse(cx, sa, now, message, &rounds, error);
    };
    let (server, question) = serve(cx, sa, eap);
    let wait = Wait {
        policy,
        peer_id,
        server,
        passed: None,
        admission: None,
        before: Before::Rounds(rounds),
    };
    let opening = Opening {
        wait,
        question,
        shown: None,
    };
    open(cx, sa, message, opening);
}

/// Takes a later request: EAP's next packet, or at its end the AUTH that proves the key.
pub fn proceed(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    (message_id, digest): (u32, u64),
    payloads: &[Payload<'_>],
) {
    let State::AwaitAuthRequest(half_open) = &mut sa.state else {
        return;
    };
    let Some(mut wait) = half_open.eap.take() else {
        return;
    };
    let exchange = ExchangeType::IKE_AUTH;
    if wait.passed.is_some() {
        return finish(cx, sa, now, (message_id, digest), *wait, payloads);
    }
    let Some(packet) = eap_in(payloads) else {
        // Also where there is an AUTH instead: nothing was proven that it could be made of.
        let error = Error::from(AuthError::Method).of(&wait.peer_id, &wait.policy);
        return endpoint::refuse(cx, sa, now, exchange, message_id, digest, &error);
    };
    let step = match &mut wait.server {
        Server::Local(dialog) => {
            let mut means = means(cx, now, &wait.policy.srcid, &wait.peer_id);
            dialog.answer(&mut means, packet)
        }
        Server::Remote(relay) => match relay.forward(packet) {
            Ok(question) => {
                half_open.eap = Some(wait);
                let message = (message_id, digest);
                return asking::ask(cx, sa, now, vec![question], Then::Relay { message });
            }
            Err(why) => relay.fail(why),
        },
    };
    take(cx, sa, now, (message_id, digest), wait, step);
}

/// The method has ended well: the key that came of it is checked, and the first request granted, once
/// nothing more is to be known of a certificate.
fn finish(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message: (u32, u64),
    wait: Wait,
    payloads: &[Payload<'_>],
) {
    let State::AwaitAuthRequest(half_open) = &sa.state else {
        return;
    };
    let proof = conclude(cx, half_open, &wait, payloads);
    let proof = match proof.map_err(|error| error.of(&wait.peer_id, &wait.policy)) {
        Ok(proof) => proof,
        Err(error) => {
            let exchange = ExchangeType::IKE_AUTH;
            return endpoint::refuse(cx, sa, now, exchange, message.0, message.1, &error);
        }
    };
    if wait.admission.is_some() {
        sa.admission = wait.admission;
    }
    let rounds = match wait.before {
        Before::First(first) => Rounds::new(first, proof),
        Before::Rounds(rounds) => rounds.and(proof.auth),
    };
    let vouched = wait.passed.and_then(|passed| passed.vouched);
    match questions::revocation(cx, now, vouched, &[]) {
        Ok(questions) => rounds::passed(cx, sa, now, message, payloads, rounds, questions),
        Err(error) => rounds::refuse(cx, sa, now, message, &rounds, error.into()),
    }
}

/// The RADIUS server has answered, or never will.
pub fn relayed(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    (message_id, digest): (u32, u64),
    answer: RadiusAnswer,
) {
    let State::AwaitAuthRequest(half_open) = &mut sa.state else {
        return;
    };
    let Some(mut wait) = half_open.eap.take() else {
        return;
    };
    let Server::Remote(remote) = &mut wait.server else {
        return;
    };
    if answer.is_err() {
        cx.stats.lookup_failures += 1;
    }
    let (step, admission) = remote.take(answer);
    wait.admission = admission.map(Box::new);
    take(cx, sa, now, (message_id, digest), wait, step);
}

/// What a dialog needs of its surroundings, between us and a peer by these names.
pub fn means<'a>(
    cx: &'a mut Context,
    now: Now,
    ours: &'a Identity,
    theirs: &'a Identity,
) -> Means<'a> {
    Means {
        users: &cx.config.users,
        provider: &cx.provider,
        rng: &mut cx.rng,
        store: &cx.store,
        chains: &mut cx.chains,
        wall: now.wall,
        ours,
        theirs,
    }
}

/// Sends what the dialog wants sent.
fn take(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    (message_id, digest): (u32, u64),
    mut wait: Box<Wait>,
    step: Step,
) {
    let whose = format!("peer {} policy '{}'", wait.peer_id, wait.policy.name);
    let (packet, refusal) = match step {
        Step::Ask(packet) => (packet, None),
        Step::Deny(packet, why) => {
            cx.noise(format_args!("{}: {whose}: {why}", sa.tag()));
            (packet, None)
        }
        Step::Success(packet, passed) => {
            let (tag, user) = (sa.tag(), &passed.user);
            cx.info(format_args!("{tag}: EAP user '{user}' authenticated"));
            wait.passed = Some(passed);
            (packet, None)
        }
        Step::Failure(packet, why) => (packet, Some(why)),
    };
    let exchange = ExchangeType::IKE_AUTH;
    let answer = [Payload::Eap(&packet)];
    message::respond(cx, sa, exchange, message_id, digest, &answer);
    if let Some(why) = refusal {
        cx.noise(format_args!("{}: sa_free: {whose}: {why}", sa.tag()));
        cx.stats.sa_established_failures += 1;
        // So that a peer whose answer is lost is told again.
        informational::linger(cx, sa, now.mono);
    } else if let State::AwaitAuthRequest(half_open) = &mut sa.state {
        half_open.eap = Some(wait);
    }
}

/// The peer ends it (RFC 7296, 2.21.2): with AUTHENTICATION_FAILED where it does not take us for who
/// we say, or knows that it did not pass.
pub fn abandon(cx: &mut Context, sa: &mut IkeSa, now: Now, (message_id, digest): (u32, u64)) {
    let exchange = ExchangeType::INFORMATIONAL;
    message::respond(cx, sa, exchange, message_id, digest, &[]);
    cx.noise(format_args!("{}: sa_free: given up by the peer", sa.tag()));
    cx.stats.sa_established_failures += 1;
    informational::linger(cx, sa, now.mono);
}

/// Checks the peer's AUTH with the key that EAP gave, and makes ours.
fn conclude(
    cx: &Context,
    half_open: &HalfOpen,
    wait: &Wait,
    payloads: &[Payload<'_>],
) -> Result<Proof, Error> {
    let (Keying::Ready(keys), Some(passed)) = (&half_open.keying, &wait.passed) else {
        return Err(AuthError::Method.into());
    };
    let auth = auth_in(payloads).ok_or(AuthError::Method)?;
    let id_i = Id {
        kind: wait.peer_id.kind,
        data: &wait.peer_id.data,
    };
    let prf = half_open.suite.prf;
    let (policy, said) = (&wait.policy, ppk::said(payloads));
    let first = matches!(wait.before, Before::First(_));
    let agreed = half_open.ppk && (first || said.is_there());
    let (ppk, data) = ppk::choose(agreed, &policy.ppks, (keys, prf), said, auth.data)?;
    let proving = keys.proving(ppk.as_ref().map(Blend::mixed));
    let (theirs, ours) = auth_proof::both_octets(half_open, proving, &id_i, &policy.srcid);
    // RFC 7296, 2.16: without a key of the method each side's own SK_p stands in.
    let (sk_pi, sk_pr) = proving;
    let msk = passed.msk.as_ref();
    let (key_i, key_r) = (msk.unwrap_or(sk_pi), msk.unwrap_or(sk_pr));
    psk::verify(
        &cx.provider,
        prf,
        key_i.expose(),
        &theirs,
        auth.method,
        data,
    )
    .map_err(|error| ppk::blame(ppk.as_ref(), error.into()))?;
    let mac = psk::shared_key_auth(prf, key_r.expose(), &ours);
    Ok(Proof {
        peer_id: wait.peer_id.clone(),
        policy: Arc::clone(policy),
        // The first answer had it.
        id: None,
        certs: Vec::new(),
        auth: Some((AuthMethod::SHARED_KEY, mac)),
        ppk,
    })
}
