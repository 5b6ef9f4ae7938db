//! IKE_AUTH as responder (RFC 7296, 1.2 and 2.15): the peer proves its identity, gets an address
//! and the first Child SA. The answer waits for the kernel, so that the peer's first packet finds
//! its SA; a Child SA that cannot be had leaves the IKE SA up (RFC 7296, 1.2).

use std::fmt::{self, Display};
use std::sync::Arc;

use super::super::account;
use super::super::agenda::Task;
use super::super::child_sa::{self, Ask, ChildSa, Grant};
use super::super::context::Context;
use super::super::endpoint::{self, news};
use super::super::error::{Answer, Error, Trust};
use super::super::event::{Level, News};
use super::super::ike_sa::IkeSa;
use super::super::lease::{self, CfgReply};
use super::super::message;
use super::super::names;
use super::super::negotiate::Rules;
use super::super::own;
use super::super::show;
use super::super::state::{AwaitKernel, Established, HalfOpen, Keying, State};
use super::asking;
use super::auth_eap;
use super::auth_proof::{Proof, our_payloads, prove};
use super::auth_request::{Request, read};
use super::mobike;
use super::ppk;
use super::reauth;
use super::rounds::{self, Rounds};
use super::sa_init::status;
use crate::crypto::keymat::{ChildKeys, IkeKeys, IkeSuite};
use crate::kernel::KernelError;
use crate::policy::Identity;
use crate::time::Now;
use crate::wire::registry::{AuthMethod, CertEncoding, CfgType, ExchangeType, NotifyType};
use crate::wire::{CfgAttribute, Cp, Payload};

/// An IKE_AUTH response to be: everything in it, owned.
#[derive(Debug)]
pub struct AuthReply {
    id: Option<Identity>,
    certs: Vec<(CertEncoding, Vec<u8>)>,
    auth: Option<(AuthMethod, Vec<u8>)>,
    cp: Option<CfgReply>,
    /// `None`: the peer asked for no Child SA.
    child: Option<Result<Grant, (NotifyType, Vec<u8>)>>,
    /// The peer's PPK is in the keys (RFC 8784).
    ppk: bool,
    /// The peer says that this is its only IKE SA.
    initial_contact: bool,
}

/// Answers the request that ends the half-open state, whatever it brings.
pub fn respond(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message_id: u32,
    digest: u64,
    payloads: &[Payload<'_>],
) {
    let State::AwaitAuthRequest(half_open) = &sa.state else {
        return;
    };
    let Keying::Ready(keys) = &half_open.keying else {
        return;
    };
    if half_open.eap.is_some() {
        return auth_eap::proceed(cx, sa, now, (message_id, digest), payloads);
    }
    if half_open.rounds.is_some() {
        return rounds::proceed(cx, sa, now, (message_id, digest), payloads);
    }
    let proven = read(payloads).and_then(|request| {
        if request.auth.is_none() {
            return Ok(None);
        }
        let (proof, questions) = prove(cx, sa, now, half_open, keys, &request)?;
        mobike::check_nats(sa.asked_from(), payloads)?;
        Ok(Some((request, proof, questions)))
    });
    match proven {
        Ok(Some((request, proof, questions)))
            if questions.is_empty() && rounds::is_only(&proof.policy, payloads) =>
        {
            admit(cx, sa, now, (message_id, digest), payloads, &request, proof);
        }
        Ok(Some((_, proof, questions))) => {
            let (message, rounds) = (
                (message_id, digest),
                Rounds::new(asking::keep(payloads), proof),
            );
            rounds::passed(cx, sa, now, message, payloads, rounds, questions);
        }
        // Without AUTH the peer wants EAP (RFC 7296, 2.16).
        Ok(None) => auth_eap::begin(cx, sa, now, (message_id, digest), payloads),
        Err(error) => {
            let exchange = ExchangeType::IKE_AUTH;
            endpoint::refuse(cx, sa, now, exchange, message_id, digest, &error);
        }
    }
}

/// Lets in a peer that has proven its identity, once the shards have said whether it has addresses;
/// `payloads` and `request` are those in which it said what it wants.
pub fn admit(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message: (u32, u64),
    payloads: &[Payload<'_>],
    request: &Request<'_>,
    proof: Proof,
) {
    if let Some(proof) = asking::claim(cx, sa, message, payloads, request, proof) {
        let_in(cx, sa, now, message, payloads, request, proof);
    }
}

/// Lets in a peer, with the addresses that its IKE SA holds by now.
pub fn let_in(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    (message_id, digest): (u32, u64),
    payloads: &[Payload<'_>],
    request: &Request<'_>,
    mut proof: Proof,
) {
    let Some((half_open, mut keys)) = take_half_open(sa) else {
        return;
    };
    let ppk = proof.ppk.take();
    let has_ppk = ppk.is_some();
    ppk::settle(cx, sa, &proof.policy, &mut keys, ppk);
    sa.peer_id = Some(proof.peer_id.clone());
    sa.policy = Arc::clone(&proof.policy);
    mobike::agree(cx, sa, payloads);
    let pending = Pending {
        message_id,
        digest,
        half_open,
        keys,
        has_ppk,
    };
    grant(cx, sa, now, pending, request, proof);
}

/// What `respond` holds while it decides about the Child SA.
struct Pending {
    message_id: u32,
    digest: u64,
    half_open: Box<HalfOpen>,
    keys: IkeKeys,
    has_ppk: bool,
}

fn take_half_open(sa: &mut IkeSa) -> Option<(Box<HalfOpen>, IkeKeys)> {
    let State::AwaitAuthRequest(mut half_open) = std::mem::replace(&mut sa.state, State::Closed)
    else {
        return None;
    };
    match std::mem::replace(&mut half_open.keying, Keying::Failed) {
        Keying::Ready(keys) => Some((half_open, keys)),
        Keying::Pending(..) | Keying::Failed => None,
    }
}

/// The peer is who it says: makes the Child SA, or says why not, and answers.
fn grant(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    pending: Pending,
    request: &Request<'_>,
    proof: Proof,
) {
    // The address is the IKE SA's, whatever becomes of this Child SA: the peer may ask for another.
    let (cp, made) = match give_address(cx, sa, request) {
        Ok(cp) => {
            let child = (!request.is_childless())
                .then(|| make_child(cx, sa, request, &pending.half_open, &pending.keys));
            (cp, child)
        }
        Err(error) => (None, Some(Err(error))),
    };
    let (child, install) = match made {
        None => (None, None),
        Some(Ok((child, keys, grant))) => (Some(Ok(grant)), Some((child, keys))),
        Some(Err(error)) => {
            cx.info(format_args!("{}: no Child SA: {error}", sa.tag()));
            (Some(Err(notification(&error))), None)
        }
    };
    let reply = AuthReply {
        id: proof.id,
        certs: proof.certs,
        auth: proof.auth,
        cp,
        child,
        ppk: pending.has_ppk,
        initial_contact: request.initial_contact,
    };
    settle(cx, sa, now, pending, reply, install);
    cx.stats.leases = cx.pools.in_use() as u64;
}

/// Asks the kernel to install the Child SA, or answers at once where there is nothing to install.
fn settle(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    pending: Pending,
    reply: AuthReply,
    install: Option<(ChildSa, ChildKeys)>,
) {
    let Pending {
        message_id,
        digest,
        half_open,
        keys,
        has_ppk: _,
    } = pending;
    let suite = half_open.suite;
    match install {
        Some((child, child_keys)) if cx.coupled => {
            let policy = Arc::clone(&sa.policy);
            let install = child_sa::install(cx, &policy, &child, child_keys, sa.grant);
            let request = child_sa::request_install(cx, install);
            let wait = AwaitKernel {
                keys,
                suite,
                request,
                reply: Some(Box::new(reply)),
                child,
                message_id,
                digest,
            };
            sa.state = State::AwaitKernel(Box::new(wait));
        }
        install => {
            sa.state = State::Established(Box::new(Established::new(keys, suite)));
            establish(cx, sa, now, &suite);
            if let Some((child, child_keys)) = install {
                add_child(cx, sa, child.keep(&child_keys, now.mono));
            }
            answer(cx, sa, message_id, digest, &reply);
        }
    }
}

fn notification(error: &Error) -> (NotifyType, Vec<u8>) {
    match error.answer(Trust::Authenticated) {
        Answer::Notify(kind, data) | Answer::NotifyAndClose(kind, data) => (kind, data),
        Answer::Silent => (NotifyType::NO_PROPOSAL_CHOSEN, Vec::new()),
    }
}

/// Answers the configuration payload; the lease is the IKE SA's from now on.
fn give_address(
    cx: &mut Context,
    sa: &mut IkeSa,
    request: &Request<'_>,
) -> Result<Option<CfgReply>, Error> {
    let policy = Arc::clone(&sa.policy);
    let granted = sa.admission.as_ref().map_or(&[][..], |said| &said.granted);
    // Of what was asked for, and with it the answer ends well.
    let kept = std::mem::take(&mut sa.lease);
    let by = (&*policy, granted);
    let answered = lease::answer(&mut cx.pools, &mut cx.rng, by, request.cp, kept);
    let (lease, cp) = answered.inspect_err(|error| {
        if matches!(error, Error::AddressFailure) {
            cx.stats.leases_exhausted += 1;
        }
    })?;
    sa.lease = lease;
    Ok(cp)
}

fn make_child(
    cx: &mut Context,
    sa: &IkeSa,
    request: &Request<'_>,
    half_open: &HalfOpen,
    keys: &IkeKeys,
) -> Result<(ChildSa, ChildKeys, Grant), Error> {
    let proposals = request.proposals.ok_or(Error::Missing("SA"))?;
    let ts_i = request.ts_i.ok_or(Error::Missing("TSi"))?;
    let ts_r = request.ts_r.ok_or(Error::Missing("TSr"))?;
    let rules = Rules {
        ke_sent: None,
        ignore_ke: true,
    };
    let ask = Ask {
        proposals,
        ts_i,
        ts_r,
        transport: request.transport,
        ipcomp: request.ipcomp,
    };
    let (child, grant, _) = child_sa::grant(cx, sa, ask, rules, None)?;
    let child_keys = child_sa::derive_keys(
        half_open.suite.prf,
        keys.sk_d.expose(),
        None,
        (&half_open.nonce_i, &half_open.nonce_r),
        &child.transforms,
        false,
    )?;
    Ok((child, child_keys, grant))
}

/// The kernel answered: ends the handshake either way.
pub fn installed(cx: &mut Context, sa: &mut IkeSa, now: Now, result: Result<(), KernelError>) {
    if !matches!(sa.state, State::AwaitKernel(_)) {
        return;
    }
    let State::AwaitKernel(wait) = std::mem::replace(&mut sa.state, State::Closed) else {
        return;
    };
    let AwaitKernel {
        keys,
        suite,
        request: _,
        reply,
        child,
        message_id,
        digest,
    } = *wait;
    sa.state = State::Established(Box::new(Established::new(keys, suite)));
    establish(cx, sa, now, &suite);
    if result.is_err() && reply.is_none() {
        // As initiator: the peer has it, and must drop it.
        own::disown(sa, child.names.inbound_spi, now.mono);
    }
    let failed = match result {
        Ok(()) => {
            add_child(
                cx,
                sa,
                ChildSa {
                    loaded: true,
                    ..child
                },
            );
            None
        }
        Err(error) => {
            cx.stats.kernel_failures += 1;
            let error = Error::Kernel(error);
            cx.warn(format_args!("{}: no Child SA: {error}", sa.tag()));
            Some(notification(&error))
        }
    };
    // As initiator there is nothing to answer.
    let Some(mut reply) = reply else { return };
    if let Some(refused) = failed {
        reply.child = Some(Err(refused));
    }
    answer(cx, sa, message_id, digest, &reply);
}

/// Counts and logs an IKE SA that is up now.
pub fn establish(cx: &mut Context, sa: &mut IkeSa, now: Now, suite: &IkeSuite) {
    sa.heard_at = now.mono;
    cx.stats.sa_established_total += 1;
    cx.stats.sa_established_current += 1;
    own::begin(cx, sa, now.mono);
    if let Some(admission) = &mut sa.admission {
        admission.since = Some(now.mono);
    }
    account::open(cx, sa, now);
    if let Some(lifetime) = reauth::limit(cx, sa) {
        sa.agenda.plan(now.mono + lifetime, Task::Retire);
    }
    news::announce(cx, sa);
    if cx.is_read(Level::Info) {
        say_established(cx, sa, suite);
    }
}

fn say_established(cx: &mut Context, sa: &IkeSa, suite: &IkeSuite) {
    let peer = fmt::from_fn(|f| sa.peer_id.as_ref().map_or(Ok(()), |id| id.fmt(f)));
    let assigned = fmt::from_fn(|f| {
        let mut addresses = [sa.lease.v4, sa.lease.v6].into_iter().flatten();
        addresses.try_for_each(|(address, _)| write!(f, " assigned {address}"))
    });
    let role = match sa.role {
        super::super::Role::OriginalInitiator => "initiator",
        super::super::Role::OriginalResponder => "responder",
    };
    cx.info(format_args!(
        "{}: established peer {}[{peer}] local {}[{}]{assigned} policy '{}' as {role} ({})",
        sa.tag(),
        sa.path.remote,
        sa.path.local,
        sa.policy.srcid,
        sa.policy.name,
        names::suite(suite)
    ));
}

/// Takes a Child SA into its IKE SA, counts and logs it.
pub fn add_child(cx: &mut Context, sa: &mut IkeSa, child: ChildSa) {
    cx.stats.csa_created += 2;
    cx.children.insert(child.names.inbound_spi, sa.own_spi);
    account::watch(cx, sa, child.names.inbound_spi);
    if let Some(cpis) = child.names.ipcomp {
        cx.cpis.insert(cpis.inbound, child.names.inbound_spi);
    }
    let (outbound, inbound) = (child.names.outbound_spi, child.names.inbound_spi);
    if cx.is_read(Level::Info) {
        let (tag, algorithms) = (sa.tag(), child.algorithms());
        cx.info(format_args!(
            "{tag}: ikev2_childsa_enable: loaded SPIs: {outbound}, {inbound} ({algorithms})"
        ));
        let flows = show::flows(&child);
        cx.info(format_args!(
            "{tag}: ikev2_childsa_enable: loaded flows: {flows}"
        ));
    }
    sa.add_child(child);
}

fn answer(cx: &mut Context, sa: &mut IkeSa, message_id: u32, digest: u64, reply: &AuthReply) {
    let lifetime = reauth::limit(cx, sa).map(reauth::data);
    let mut payloads = our_payloads(reply.id.as_ref(), &reply.certs, reply.auth.as_ref());
    payloads.reserve(8);
    if let Some(cp) = &reply.cp {
        let attributes = cp
            .iter()
            .map(|(kind, value)| CfgAttribute { kind: *kind, value })
            .collect();
        payloads.push(Payload::Cp(Cp {
            kind: CfgType::REPLY,
            attributes,
        }));
    }
    if reply.ppk {
        payloads.push(status(NotifyType::PPK_IDENTITY, &[]));
    }
    payloads.extend(mobike::support(sa.mobility.agreed));
    payloads.extend(
        lifetime
            .iter()
            .map(|data| status(NotifyType::AUTH_LIFETIME, data)),
    );
    match &reply.child {
        None => {}
        Some(Ok(grant)) => {
            payloads.extend(grant.notifications());
            payloads.push(grant.sa());
            payloads.extend(grant.selectors());
        }
        Some(Err((kind, data))) => payloads.push(status(*kind, data)),
    }
    message::respond(
        cx,
        sa,
        ExchangeType::IKE_AUTH,
        message_id,
        digest,
        &payloads,
    );
    let since = if cx.config.settings.enforce_single_ike_sa {
        // Whatever they are: all before this one.
        Some(sa.heard_at)
    } else {
        reply.initial_contact.then_some(sa.born_at)
    };
    if let (Some(since), Some(identity)) = (since, sa.peer_id.clone()) {
        cx.out.news.push_back(News::InitialContact {
            identity,
            except: sa.own_spi,
            since,
        });
    }
}
