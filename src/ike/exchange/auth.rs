//! IKE_AUTH as responder (RFC 7296, 1.2 and 2.15): the peer proves its identity, gets an address
//! and the first Child SA. The answer waits for the kernel, so that the peer's first packet finds
//! its SA; a Child SA that cannot be had leaves the IKE SA up (RFC 7296, 1.2).

use std::sync::Arc;

use super::super::account;
use super::super::agenda::Task;
use super::super::child_sa::{self, Ask, ChildSa, Grant};
use super::super::context::Context;
use super::super::endpoint::{self, news};
use super::super::error::{Answer, Error, Trust};
use super::super::event::News;
use super::super::ike_sa::IkeSa;
use super::super::lease::{self, CfgReply};
use super::super::message;
use super::super::names;
use super::super::negotiate::{Chosen, Rules};
use super::super::own;
use super::super::show;
use super::super::state::{AwaitKernel, Established, HalfOpen, Keying, State};
use super::auth_eap;
use super::auth_request::{Request, identity, read};
use super::mobike;
use super::ppk::{self, Blend};
use super::questions;
use super::reauth;
use super::rounds::{self, Rounds};
use super::sa_init::status;
use super::{announce, asking};
use crate::auth::announce::Announced;
use crate::auth::pubkey::Claim;
use crate::auth::{AuthError, octets, own as credentials, psk, pubkey};
use crate::crypto::SecretBytes;
use crate::crypto::keymat::{ChildKeys, IkeKeys, IkeSuite};
use crate::kernel::KernelError;
use crate::lookup::port::Question;
use crate::policy::select::{self, PolicyKey};
use crate::policy::{Auth as AuthWords, Identity, Policy, PublicKeyAuth};
use crate::time::Now;
use crate::wire::registry::{
    AuthMethod, CertEncoding, CfgType, ExchangeType, HashAlgorithm, NotifyType,
};
use crate::wire::{Auth, Cert, CfgAttribute, Cp, Id, Payload};

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
        mobike::check_nats(sa.asked_from, payloads)?;
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

/// Both proofs: the peer's, checked, and ours, made.
#[derive(Debug)]
pub struct Proof {
    /// Who the peer is.
    pub peer_id: Identity,
    /// The policy that lets it in.
    pub policy: Arc<Policy>,
    /// Who we say we are; `None` where that was said before.
    pub id: Option<Identity>,
    /// Our CERT payloads.
    pub certs: Vec<(CertEncoding, Vec<u8>)>,
    /// Our AUTH payload; `None` where that was said before.
    pub auth: Option<(AuthMethod, Vec<u8>)>,
    /// The PPK that both proofs were made with, and the keys with it.
    pub ppk: Option<Blend>,
}

fn prove(
    cx: &mut Context,
    sa: &IkeSa,
    now: Now,
    half_open: &HalfOpen,
    keys: &IkeKeys,
    request: &Request<'_>,
) -> Result<(Proof, Vec<Question>), Error> {
    let id_i = request.id_i.ok_or(Error::Missing("IDi"))?;
    let peer_id = identity(&id_i).ok_or_else(no_identity)?;
    let policy = choose_policy(cx, sa, &half_open.chosen, &peer_id, request)?;
    let judged = judge(cx, sa, now, half_open, keys, request, (&peer_id, &policy));
    let (ppk, (auth, certs), questions) = judged.map_err(|error| error.of(&peer_id, &policy))?;
    let proof = Proof {
        id: Some(policy.srcid.clone()),
        peer_id,
        policy,
        certs,
        auth: Some(auth),
        ppk,
    };
    Ok((proof, questions))
}

/// What the peer claims to be has a form that no identity has.
pub fn no_identity() -> Error {
    Error::NoPolicy(": an identity of impossible form".to_owned())
}

/// Checks the peer's proof under its policy, and makes ours, both with the PPK that it named.
fn judge(
    cx: &mut Context,
    sa: &IkeSa,
    now: Now,
    half_open: &HalfOpen,
    keys: &IkeKeys,
    request: &Request<'_>,
    (peer_id, policy): (&Identity, &Policy),
) -> Result<(Option<Blend>, Ours, Vec<Question>), Error> {
    let id_i = request.id_i.ok_or(Error::Missing("IDi"))?;
    let auth = request.auth.ok_or(Error::Missing("AUTH"))?;
    let by = (keys, half_open.suite.prf);
    let (ppk, data) = ppk::choose(half_open.ppk, &policy.ppks, by, request.ppk, auth.data)?;
    let proving = keys.proving(ppk.as_ref().map(Blend::mixed));
    let octets = both_octets(half_open, proving, &id_i, &policy.srcid);
    let auth = Auth { data, ..auth };
    let proof = (auth, peer_id, &policy.auth);
    let checked = check_auth(cx, now, half_open, request, proof, &octets.0);
    let checked = checked.map_err(|error| ppk::blame(ppk.as_ref(), error))?;
    let mut questions = checked.questions;
    let ours = match &policy.auth {
        AuthWords::Psk(secret) => {
            let mac = psk::shared_key_auth(by.1, secret.expose(), &octets.1);
            ((AuthMethod::SHARED_KEY, mac), Vec::new())
        }
        AuthWords::PublicKey(words) => {
            let wishes = Wishes {
                asked: &request.cert_requests,
                hashes: &half_open.peer_hashes,
                pss: checked.pss,
                announced: &announce::heard(cx, sa.tag(), request.announced),
            };
            let ours = our_signature(cx, sa, *words, &policy.srcid, &wishes, &octets.1)?;
            questions.extend(questions::own_status(cx, &request.cert_requests, &ours.1));
            ours
        }
        AuthWords::Eap(_) => return Err(AuthError::Method.into()),
    };
    Ok((ppk, ours, questions))
}

/// What came of a peer's AUTH.
pub struct Checked {
    /// It is a signature by RSASSA-PSS.
    pss: bool,
    /// What is still to be asked about its certificate.
    pub questions: Vec<Question>,
}

/// Checks the peer's AUTH over these octets, by what a policy says.
pub fn check_auth(
    cx: &mut Context,
    now: Now,
    half_open: &HalfOpen,
    request: &Request<'_>,
    (auth, peer_id, words): (Auth<'_>, &Identity, &AuthWords),
    octets: &[u8],
) -> Result<Checked, Error> {
    let prf = half_open.suite.prf;
    let (method, data) = (auth.method, auth.data);
    match words {
        AuthWords::Psk(secret) => {
            psk::verify(&cx.provider, prf, secret.expose(), octets, method, data)?;
            Ok(Checked {
                pss: false,
                questions: Vec::new(),
            })
        }
        AuthWords::PublicKey(words) => {
            let claim = Claim {
                identity: peer_id,
                certs: &request.certs,
                method,
                auth: data,
                octets,
                // We announce ours to who announces its own (RFC 7427, 4).
                hashes: match half_open.peer_hashes.as_slice() {
                    [] => &[],
                    [_, ..] => cx.provider.signature_hashes,
                },
                peer_hashes: &half_open.peer_hashes,
            };
            let proven = pubkey::verify(&cx.store, &mut cx.chains, now.wall, *words, &claim)?;
            let questions = questions::revocation(cx, now, proven.vouched, &request.certs)?;
            let pss = proven.pss;
            Ok(Checked { pss, questions })
        }
        AuthWords::Eap(_) => Err(AuthError::Method.into()),
    }
}

/// AUTH and CERT payloads of ours.
pub type Ours = ((AuthMethod, Vec<u8>), Vec<(CertEncoding, Vec<u8>)>);

/// What the peer wants to see of us.
pub struct Wishes<'a> {
    /// CERTREQ payloads.
    pub asked: &'a [(CertEncoding, &'a [u8])],
    /// Hash algorithms it verifies.
    pub hashes: &'a [HashAlgorithm],
    /// It signs with RSASSA-PSS itself.
    pub pss: bool,
    /// What it announced that it takes (RFC 9593).
    pub announced: &'a Announced,
}

/// Signs with the key that the policy's word, the identity we use and the peer's wishes lead to.
pub fn our_signature(
    cx: &mut Context,
    sa: &IkeSa,
    words: PublicKeyAuth,
    srcid: &Identity,
    wishes: &Wishes<'_>,
    octets: &[u8],
) -> Result<Ours, AuthError> {
    let store = Arc::clone(&cx.store);
    let said = (wishes.announced, wishes.hashes);
    let guided = credentials::show_announced(&store, words, srcid, wishes.asked, said);
    let (shown, way) = match guided {
        Some((shown, way)) => (shown, Some(way)),
        None => {
            if !wishes.announced.is_empty() {
                cx.info(format_args!(
                    "{}: none of the proofs that the peer announced can be had",
                    sa.tag()
                ));
            }
            (credentials::show(&store, words, srcid, wishes.asked)?, None)
        }
    };
    if let Some(note) = &shown.note {
        cx.info(format_args!("{}: {note}", sa.tag()));
    }
    let key = &shown.key.private;
    let auth = match way {
        Some(way) => pubkey::sign_by(key, way, octets)?,
        None => pubkey::sign(key, words, wishes.hashes, wishes.pss, octets)?,
    };
    let certs = shown.certs.into_iter();
    let certs = certs.map(|(encoding, data)| (encoding, data.to_vec()));
    Ok((auth, certs.collect()))
}

/// What the initiator signs and what we sign (RFC 7296, 2.15), with these SK_pi and SK_pr.
pub fn both_octets(
    half_open: &HalfOpen,
    (sk_pi, sk_pr): (&SecretBytes, &SecretBytes),
    id_i: &Id<'_>,
    srcid: &Identity,
) -> (Vec<u8>, Vec<u8>) {
    let prf = half_open.suite.prf;
    let theirs = octets::signed_octets(
        &half_open.request,
        &half_open.nonce_r,
        prf,
        sk_pi.expose(),
        &id_i.body(),
    );
    let id_r = Id {
        kind: srcid.kind,
        data: &srcid.data,
    };
    let ours = octets::signed_octets(
        &half_open.response,
        &half_open.nonce_i,
        prf,
        sk_pr.expose(),
        &id_r.body(),
    );
    (theirs, ours)
}

/// The policy of IKE_SA_INIT was chosen by addresses; the identities may lead to another one, which
/// must be content with what was agreed.
pub fn choose_policy(
    cx: &mut Context,
    sa: &IkeSa,
    agreed: &Chosen,
    peer_id: &Identity,
    request: &Request<'_>,
) -> Result<Arc<Policy>, Error> {
    let local_id = request.id_r.as_ref().and_then(identity);
    let fits = |policy: &Policy| {
        let holds = |proposal: &crate::policy::Proposal| {
            agreed
                .transforms
                .iter()
                .all(|t| proposal.transforms.contains(t))
        };
        // Who proves nothing wants EAP, and who proves something does not.
        let eap = matches!(policy.auth, AuthWords::Eap(_));
        match (eap, request.auth.is_some()) {
            (true, true) => Err("wants EAP"),
            (false, false) => Err("has no EAP"),
            _ if policy.ike_proposals.iter().any(holds) => Ok(()),
            _ => Err("has other IKE proposals than agreed"),
        }
    };
    let key = |local_id, transport| PolicyKey {
        local: sa.path.local.ip(),
        peer: sa.path.remote.ip(),
        peer_id: Some(peer_id),
        local_id,
        transport,
        fits: &fits,
    };
    // An IDr is a wish (RFC 7296, 3.5): a policy with another srcid still answers, and the
    // initiator decides whether that identity will do. So is transport mode (RFC 7296, 1.3.1): a
    // policy without it answers with a tunnel.
    let select = |transport| {
        select::select(&cx.config, &key(local_id.as_ref(), transport))
            .or_else(|| select::select(&cx.config, &key(None, transport)))
    };
    if let Some(found) = select(request.transport).or_else(|| select(false)) {
        return Ok(found.clone());
    }
    let why = select::explain(&cx.config, &key(None, false));
    cx.stats.no_policy += 1;
    Err(Error::NoPolicy(format!(" for {peer_id}: {why}")))
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
            let install = child_sa::install(&mut cx.rng, &policy, &child, child_keys);
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
            if let Some((child, _)) = install {
                add_child(cx, sa, child);
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
    let peer = sa
        .peer_id
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let assigned: String = [sa.lease.v4, sa.lease.v6]
        .into_iter()
        .flatten()
        .map(|(address, _)| format!(" assigned {address}"))
        .collect();
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
    cx.info(format_args!(
        "{}: ikev2_childsa_enable: loaded SPIs: {outbound}, {inbound} ({})",
        sa.tag(),
        child.algorithms()
    ));
    cx.info(format_args!(
        "{}: ikev2_childsa_enable: loaded flows: {}",
        sa.tag(),
        show::flows(&child)
    ));
    sa.add_child(child);
}

/// IDr, CERT and AUTH payloads of ours.
pub fn our_payloads<'a>(
    id: Option<&'a Identity>,
    certs: &'a [(CertEncoding, Vec<u8>)],
    auth: Option<&'a (AuthMethod, Vec<u8>)>,
) -> Vec<Payload<'a>> {
    let id = id.map(|id| {
        Payload::IdR(Id {
            kind: id.kind,
            data: &id.data,
        })
    });
    let certs = cert_payloads(certs);
    let auth = auth.map(|(method, data)| {
        let method = *method;
        Payload::Auth(Auth { method, data })
    });
    id.into_iter().chain(certs).chain(auth).collect()
}

/// CERT payloads of ours.
pub fn cert_payloads(certs: &[(CertEncoding, Vec<u8>)]) -> impl Iterator<Item = Payload<'_>> {
    certs.iter().map(|(encoding, data)| {
        Payload::Cert(Cert {
            encoding: *encoding,
            data,
        })
    })
}

fn answer(cx: &mut Context, sa: &mut IkeSa, message_id: u32, digest: u64, reply: &AuthReply) {
    let mut payloads = our_payloads(reply.id.as_ref(), &reply.certs, reply.auth.as_ref());
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
    let lifetime = reauth::limit(cx, sa).map(reauth::data);
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
