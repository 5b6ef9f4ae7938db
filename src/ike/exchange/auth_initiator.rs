//! IKE_AUTH as initiator (RFC 7296, 1.2 and 2.15): our proof and what we ask for, then the
//! responder's proof and what it granted. With EAP `auth_eap_initiator` stands between the two.

use std::sync::Arc;

use super::super::child_sa::{self, ChildSa};
use super::super::context::Context;
use super::super::error::Error;
use super::super::event::News;
use super::super::ike_sa::IkeSa;
use super::super::ipcomp;
use super::super::message;
use super::super::negotiate::{self, Rules};
use super::super::own;
use super::super::state::{AuthSent, AwaitKernel, Established, State};
use super::super::{grant, lease};
use super::announce;
use super::asking::{self, Then};
use super::auth::{add_child, establish};
use super::auth_eap_initiator::{self, Run};
use super::auth_proof::{Ours, Wishes, cert_payloads, no_identity, our_signature};
use super::auth_request::identity;
use super::create_child_initiator::{self, Granted, granted, make_single, offered_selectors};
use super::informational;
use super::ppk::{self, Blend};
use super::sa_init::{has_notify, status};
use super::{mobike, questions, reauth, redirect, rounds};
use crate::auth::announce::Announced;
use crate::auth::eap::Refusal;
use crate::auth::pubkey::Claim;
use crate::auth::{AuthError, octets, own as credentials, psk, pubkey};
use crate::crypto::keymat::{ChildKeys, IkeKeys, IkeSuite};
use crate::lookup::port::Question;
use crate::policy::{Auth as AuthWords, Identity, Policy, PublicKeyAuth};
use crate::time::Now;
use crate::wire::registry::{
    AuthMethod, CertEncoding, CfgType, ExchangeType, HashAlgorithm, NotifyType,
};
use crate::wire::{Auth, CertReq, CfgAttribute, Cp, Id, Payload};

/// What IKE_SA_INIT left behind.
pub struct Facts {
    /// Keys.
    pub keys: IkeKeys,
    /// The agreed algorithms.
    pub suite: IkeSuite,
    /// Our nonce.
    pub nonce_i: Vec<u8>,
    /// The responder's nonce.
    pub nonce_r: Vec<u8>,
    /// Our request as sent last.
    pub request: Vec<u8>,
    /// The response.
    pub response: Vec<u8>,
    /// Hash algorithms of the responder.
    pub peer_hashes: Vec<HashAlgorithm>,
    /// Its CERTREQ payloads.
    pub cert_requests: Vec<(CertEncoding, Vec<u8>)>,
    /// The PPK to use.
    pub ppk: Option<Box<Blend>>,
    /// What it announced that it takes as proof (RFC 9593).
    pub announced: Announced,
    /// It lets peers in without a Child SA (RFC 6023).
    pub takes_childless: bool,
}

/// Moves the SA to the state that waits for the IKE_AUTH response; [`send`] follows.
pub fn prepare(cx: &mut Context, sa: &mut IkeSa, facts: Facts) {
    let childless = facts.takes_childless && sa.policy.childless;
    let inbound_spi = cx.draw_esp_spi();
    let offered = offered_selectors(sa);
    let selectors = offered.0.iter().chain(&offered.1);
    let cpi = if sa.policy.ipcomp && !childless {
        ipcomp::draw(cx, sa, selectors)
    } else {
        None
    };
    let Facts {
        keys,
        suite,
        nonce_i,
        nonce_r,
        request,
        response,
        peer_hashes,
        cert_requests,
        ppk,
        announced,
        takes_childless: _,
    } = facts;
    let sent = AuthSent {
        keys,
        suite,
        nonce_i,
        nonce_r,
        request,
        response,
        peer_hashes,
        cert_requests,
        ppk,
        announced,
        childless,
        inbound_spi,
        cpi,
        offered,
        asking: None,
        round: 0,
        proven: None,
        eap: match &sa.policy.auth {
            AuthWords::Eap(eap) => Run::new(eap, &sa.policy.srcid).map(Box::new),
            AuthWords::Psk(_) | AuthWords::PublicKey(_) => None,
        },
    };
    sa.state = State::AwaitAuthResponse(Box::new(sent));
}

/// Makes the request, and sends it once everything is there that the responder wants to see.
pub fn send(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    let State::AwaitAuthResponse(sent) = &sa.state else {
        return;
    };
    let proof = match prove(cx, sa, sent) {
        Ok(proof) => proof,
        Err(error) => {
            cx.warn(format_args!("{}: cannot authenticate: {error}", sa.tag()));
            sa.state = State::Closed;
            return;
        }
    };
    let asked = sent.cert_requests.iter();
    let asked: Vec<_> = asked.map(|(kind, data)| (*kind, data.as_slice())).collect();
    match questions::own_status(cx, &asked, &proof.certs) {
        Some(question) => asking::ask(cx, sa, now, vec![question], Then::Prove { proof }),
        None => transmit(cx, sa, now, &proof),
    }
}

/// Sends the request with this proof.
pub fn transmit(cx: &mut Context, sa: &mut IkeSa, now: Now, proof: &Proof) {
    let State::AwaitAuthResponse(sent) = &sa.state else {
        return;
    };
    let policy = Arc::clone(&sa.policy);
    let spi = sent.inbound_spi.to_bytes();
    let (ts_i, ts_r) = sent.offered.clone();
    let requests = pubkey_requests(cx, &policy);
    // RFC 9593, 3.1: beside our CERTREQ payloads, whether the responder knows it or not.
    let newer = !sent.peer_hashes.is_empty();
    let announced = announce::to_responder(&policy, newer, cx.provider.signature_hashes);
    let compression = sent.cpi.map(ipcomp::data);
    let mut payloads = vec![Payload::IdI(Id {
        kind: policy.srcid.kind,
        data: &policy.srcid.data,
    })];
    payloads.extend(cert_payloads(&proof.certs));
    payloads.extend(requests.iter().map(|(encoding, data)| {
        Payload::CertReq(CertReq {
            encoding: *encoding,
            data,
        })
    }));
    if let Some(id) = &policy.dstid {
        payloads.push(Payload::IdR(Id {
            kind: id.kind,
            data: &id.data,
        }));
    }
    // Without AUTH we ask for EAP (RFC 7296, 2.16).
    if let Some(ours) = &proof.auth {
        payloads.extend(ours.payloads());
        payloads.extend(rounds::follows(&policy, sent));
    }
    if !policy.then.is_empty() {
        payloads.push(status(NotifyType::MULTIPLE_AUTH_SUPPORTED, &[]));
    }
    if is_sole(cx, &policy) {
        payloads.push(status(NotifyType::INITIAL_CONTACT, &[]));
    }
    let announced = announced.iter();
    payloads.extend(announced.map(|data| status(NotifyType::SUPPORTED_AUTH_METHODS, data)));
    payloads.extend(mobike::support(cx.config.settings.mobike));
    if matches!(&policy.auth, AuthWords::Eap(eap) if eap.is_mutual()) {
        payloads.push(status(NotifyType::EAP_ONLY_AUTHENTICATION, &[]));
    }
    payloads.extend(configuration_request(&policy));
    // The Child SA comes later, and with it all that is said of it (RFC 6023, 4).
    if !sent.childless {
        let mode = child_sa::mode(policy.protocol, policy.transport, compression.as_ref());
        payloads.extend(mode);
        let proposals = negotiate::offer(&policy.child_proposals, &spi, false);
        payloads.push(Payload::Sa(proposals));
        payloads.push(Payload::TsI(ts_i.into()));
        payloads.push(Payload::TsR(ts_r.into()));
    }
    message::request(cx, sa, ExchangeType::IKE_AUTH, &payloads, now.mono);
}

/// What the policy asks the peer for, if anything.
fn configuration_request(policy: &Policy) -> Option<Payload<'static>> {
    let kinds = lease::asked(policy);
    let attributes = kinds.iter().map(|&kind| CfgAttribute { kind, value: &[] });
    let cp = Cp {
        kind: CfgType::REQUEST,
        attributes: attributes.collect(),
    };
    (!kinds.is_empty()).then_some(Payload::Cp(cp))
}

fn pubkey_requests(cx: &Context, policy: &Policy) -> Vec<(CertEncoding, Vec<u8>)> {
    match policy.auth {
        AuthWords::PublicKey(_) | AuthWords::Eap(_) => {
            credentials::request(&cx.store, cx.config.settings.ocsp.is_some())
        }
        AuthWords::Psk(_) => Vec::new(),
    }
}

/// What our AUTH covers, with the PPK or without.
pub fn our_octets(policy: &Policy, sent: &AuthSent, ppk: Option<&Blend>) -> Vec<u8> {
    let (srcid, _) = policy.round(sent.round);
    let id = Id {
        kind: srcid.kind,
        data: &srcid.data,
    };
    let (key, _) = sent.keys.proving(ppk.map(Blend::mixed));
    let (nonce, key) = (&sent.nonce_r, key.expose());
    octets::signed_octets(&sent.request, nonce, sent.suite.prf, key, &id.body())
}

/// What the responder's AUTH covers, with the PPK or without.
pub fn their_octets(sent: &AuthSent, ppk: Option<&Blend>, id_r: &Id<'_>) -> Vec<u8> {
    let (_, key) = sent.keys.proving(ppk.map(Blend::mixed));
    let (nonce, key) = (&sent.nonce_i, key.expose());
    octets::signed_octets(&sent.response, nonce, sent.suite.prf, key, &id_r.body())
}

/// What proves us.
#[derive(Debug)]
pub struct Proof {
    /// Our AUTH, if it comes first.
    pub auth: Option<OurAuth>,
    /// The certificates with it.
    pub certs: Vec<(CertEncoding, Vec<u8>)>,
}

/// Our AUTH, and what is said of PPKs beside it (RFC 8784).
#[derive(Debug)]
pub struct OurAuth {
    method: AuthMethod,
    data: Vec<u8>,
    /// The data of PPK_IDENTITY.
    identity: Option<Vec<u8>>,
    /// The same proof without the PPK, which the responder may do without.
    plain: Option<Vec<u8>>,
}

impl OurAuth {
    /// Makes it, by what makes method and data with this PPK or without.
    pub fn make<E>(
        ppk: Option<&Blend>,
        mut make: impl FnMut(Option<&Blend>) -> Result<(AuthMethod, Vec<u8>), E>,
    ) -> Result<Self, E> {
        let (method, data) = make(ppk)?;
        let plain = match ppk.filter(|ppk| ppk.is_optional()) {
            Some(_) => Some(make(None)?.1),
            None => None,
        };
        Ok(Self {
            method,
            data,
            identity: ppk.map(Blend::identity),
            plain,
        })
    }

    /// The payloads.
    pub fn payloads(&self) -> Vec<Payload<'_>> {
        let auth = Auth {
            method: self.method,
            data: &self.data,
        };
        let mut payloads = vec![Payload::Auth(auth)];
        let notes = [
            (NotifyType::PPK_IDENTITY, &self.identity),
            (NotifyType::NO_PPK_AUTH, &self.plain),
        ];
        for (kind, data) in notes {
            payloads.extend(data.as_ref().map(|data| status(kind, data)));
        }
        payloads
    }
}

/// Our proof in this round.
pub fn prove(cx: &mut Context, sa: &IkeSa, sent: &AuthSent) -> Result<Proof, AuthError> {
    let mut certs = Vec::new();
    if sent.eap.is_some() {
        return Ok(Proof { auth: None, certs });
    }
    let auth = OurAuth::make(sent.ppk.as_deref(), |ppk| {
        let (auth, shown) = prove_with(cx, sa, sent, ppk)?;
        certs = shown;
        Ok::<_, AuthError>(auth)
    })?;
    let auth = Some(auth);
    Ok(Proof { auth, certs })
}

/// Our AUTH with the PPK or without.
fn prove_with(
    cx: &mut Context,
    sa: &IkeSa,
    sent: &AuthSent,
    ppk: Option<&Blend>,
) -> Result<Ours, AuthError> {
    let policy = &sa.policy;
    let prf = sent.suite.prf;
    let octets = our_octets(policy, sent, ppk);
    let (srcid, words) = policy.round(sent.round);
    match words {
        AuthWords::Psk(secret) => {
            let mac = psk::shared_key_auth(prf, secret.expose(), &octets);
            Ok(((AuthMethod::SHARED_KEY, mac), Vec::new()))
        }
        AuthWords::PublicKey(words) => {
            let asked = sent.cert_requests.iter();
            let asked: Vec<_> = asked.map(|(kind, data)| (*kind, data.as_slice())).collect();
            let wishes = Wishes {
                asked: &asked,
                hashes: &sent.peer_hashes,
                pss: false,
                announced: &sent.announced,
            };
            our_signature(cx, sa, *words, srcid, &wishes, &octets)
        }
        AuthWords::Eap(_) => Err(AuthError::NoUser),
    }
}

/// Whether this is the one IKE SA with its peer (RFC 7296, 2.4), which is said after a start to be
/// rid of what was before: no other policy has the same peer, and what an earlier try left here is
/// dropped when this one is up. Not later on: two ends that begin at the same time, or again while
/// the other's IKE SA stands in another shard, would drop each other's.
fn is_sole(cx: &Context, policy: &Policy) -> bool {
    let others = policy.active && cx.served(policy) > 1;
    !cx.greeted.contains(&policy.name) && cx.config.is_alone(policy) && !others
}

/// Takes the response: the responder must prove itself before anything else in it counts.
pub fn conclude(cx: &mut Context, sa: &mut IkeSa, now: Now, payloads: &[Payload<'_>]) {
    let verified = match &sa.state {
        State::AwaitAuthResponse(sent) if sent.is_in_eap() => {
            return auth_eap_initiator::proceed(cx, sa, now, payloads);
        }
        State::AwaitAuthResponse(sent) if sent.round > 0 => rounds::confirm(sent, payloads),
        State::AwaitAuthResponse(sent) => verify(cx, now, &sa.policy, sent, payloads),
        State::AwaitSaInitResponse(_)
        | State::AwaitAuthRequest(_)
        | State::AwaitKernel(_)
        | State::Established(_)
        | State::Deleting(_)
        | State::Closed => return,
    };
    sa.window.settle();
    match verified {
        Ok((peer_id, questions)) if questions.is_empty() => {
            accept(cx, sa, now, peer_id, payloads);
        }
        Ok((peer_id, questions)) => {
            let then = asking::accept(payloads, peer_id);
            asking::ask(cx, sa, now, questions, then);
        }
        Err(error) => reject(cx, sa, now, &error),
    }
}

/// The responder is not whom we want, or does not want us.
pub fn reject(cx: &mut Context, sa: &mut IkeSa, now: Now, error: &Error) {
    cx.info(format_args!("{}: sa_free: {error}", sa.tag()));
    cx.stats.sa_established_failures += 1;
    let plain = if let Error::Denied(denied) = error {
        &denied.why
    } else {
        error
    };
    let told = matches!(
        plain,
        Error::Reported(_) | Error::Authentication(AuthError::Eap(Refusal::Told(_)))
    );
    if told {
        sa.state = State::Closed;
    } else {
        // RFC 7296, 2.21.2: the responder believes the SA is up, or soon to be, so it is told.
        let why = ppk::is_refusal(error).then_some(NotifyType::AUTHENTICATION_FAILED);
        informational::delete_because(cx, sa, now.mono, why);
    }
}

/// The responder is who it says, and these are the payloads in which it said what it grants; with EAP
/// it begins to ask who we are.
pub fn accept(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    peer_id: Identity,
    payloads: &[Payload<'_>],
) {
    if has_notify(payloads, NotifyType::ANOTHER_AUTH_FOLLOWS) {
        let error = AuthError::Rounds("the responder wants to prove itself once more");
        let error = Error::from(error).of(&peer_id, &sa.policy);
        return reject(cx, sa, now, &error);
    }
    if matches!(&sa.state, State::AwaitAuthResponse(sent) if sent.eap.is_some() && !sent.is_in_eap())
    {
        return auth_eap_initiator::begin(cx, sa, now, peer_id, payloads);
    }
    if rounds::next(cx, sa, now, &peer_id) {
        return;
    }
    if is_sole(cx, &sa.policy) {
        cx.out.news.push_back(News::InitialContact {
            identity: peer_id.clone(),
            except: sa.own_spi,
            since: sa.born_at,
        });
        cx.greeted.insert(sa.policy.name.clone());
    }
    sa.peer_id = Some(peer_id);
    reauth::heed(cx, sa, now.mono, payloads);
    if redirect::follow(cx, sa, now, payloads) {
        return informational::delete(cx, sa, now.mono);
    }
    mobike::agree(cx, sa, payloads);
    let State::AwaitAuthResponse(sent) = std::mem::replace(&mut sa.state, State::Closed) else {
        return;
    };
    finish(cx, sa, now, *sent, payloads);
}

fn finish(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    mut sent: AuthSent,
    payloads: &[Payload<'_>],
) {
    let blend = sent.ppk.take();
    let taken = blend.filter(|_| has_notify(payloads, NotifyType::PPK_IDENTITY));
    let taken = taken.map(|blend| *blend);
    ppk::settle(cx, sa, &sa.policy, &mut sent.keys, taken);
    grant::take(cx, sa, payloads);
    if sent.childless {
        let suite = sent.suite;
        sa.state = State::Established(Box::new(Established::new(sent.keys, suite)));
        establish(cx, sa, now, &suite);
        create_child_initiator::make(cx, sa, now);
        return own::advance(cx, sa, now);
    }
    let made = make_child(cx, sa, &sent, payloads);
    let AuthSent {
        keys,
        suite,
        inbound_spi,
        ..
    } = sent;
    match made {
        Ok((child, child_keys)) if cx.coupled => {
            let policy = Arc::clone(&sa.policy);
            let install = child_sa::install(cx, &policy, &child, child_keys, sa.grant);
            let request = child_sa::request_install(cx, install);
            let wait = AwaitKernel {
                keys,
                suite,
                request,
                reply: None,
                child,
                message_id: 0,
                digest: 0,
            };
            sa.state = State::AwaitKernel(Box::new(wait));
        }
        made => {
            sa.state = State::Established(Box::new(Established::new(keys, suite)));
            establish(cx, sa, now, &suite);
            match made {
                Ok((child, child_keys)) => {
                    add_child(cx, sa, child.keep(&child_keys, now.mono));
                }
                Err(error) => {
                    cx.info(format_args!("{}: no Child SA: {error}", sa.tag()));
                    if payloads.iter().any(|p| matches!(p, Payload::Sa(_))) {
                        // The peer has made what we cannot take.
                        own::disown(sa, inbound_spi, now.mono);
                        own::advance(cx, sa, now);
                    }
                    if matches!(error, Error::Reported(NotifyType::SINGLE_PAIR_REQUIRED)) {
                        make_single(cx, sa, now);
                    }
                }
            }
        }
    }
}

/// Checks the responder's identity and its proof by key; with EAP that is in the first answer.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "payloads of no use here are passed over"
)]
fn verify(
    cx: &mut Context,
    now: Now,
    policy: &Policy,
    sent: &AuthSent,
    payloads: &[Payload<'_>],
) -> Result<(Identity, Vec<Question>), Error> {
    if auth_eap_initiator::is_left_to_eap(policy, payloads) {
        let claimed = auth_eap_initiator::claimed(policy, payloads)?;
        return Ok((claimed, Vec::new()));
    }
    let mut id_r = None;
    let mut auth = None;
    let mut certs = Vec::new();
    let mut reported = None;
    for payload in payloads {
        match payload {
            Payload::IdR(id) => id_r = Some(*id),
            Payload::Auth(value) => auth = Some(*value),
            Payload::Cert(cert) => certs.push((cert.encoding, cert.data)),
            Payload::Notify(notify) if notify.kind.is_error() => reported = Some(notify.kind),
            _ => {}
        }
    }
    let (Some(id_r), Some(auth)) = (id_r, auth) else {
        return Err(reported.map_or(Error::Missing("AUTH"), Error::Reported));
    };
    let peer_id = identity(&id_r).ok_or_else(no_identity)?;
    if let Some(wanted) = &policy.dstid
        && !wanted.same(&peer_id)
    {
        let why = format!(" for {peer_id}: '{}' wants dstid {wanted}", policy.name);
        return Err(Error::NoPolicy(why));
    }
    // With EAP the responder's first proof knows no PPK yet.
    let taken = match &policy.auth {
        AuthWords::Eap(_) => Ok(None),
        AuthWords::Psk(_) | AuthWords::PublicKey(_) => ppk::taken(sent.ppk.as_deref(), payloads),
    };
    let judged = taken.and_then(|ppk| {
        let octets = their_octets(sent, ppk, &id_r);
        judge(cx, now, policy, sent, (auth, &octets), &peer_id, &certs)
            .map_err(|error| ppk::blame(ppk, error))
    });
    let questions = judged.map_err(|error| error.of(&peer_id, policy))?;
    Ok((peer_id, questions))
}

/// Checks the responder's proof.
fn judge(
    cx: &mut Context,
    now: Now,
    policy: &Policy,
    sent: &AuthSent,
    (auth, octets): (Auth<'_>, &[u8]),
    peer_id: &Identity,
    certs: &[(CertEncoding, &[u8])],
) -> Result<Vec<Question>, Error> {
    let prf = sent.suite.prf;
    // RFC 7296, 2.16: with EAP the responder signs.
    let words = match &policy.auth {
        AuthWords::Psk(secret) => {
            psk::verify(
                &cx.provider,
                prf,
                secret.expose(),
                octets,
                auth.method,
                auth.data,
            )?;
            return Ok(Vec::new());
        }
        AuthWords::PublicKey(words) => *words,
        AuthWords::Eap(_) => PublicKeyAuth::Any,
    };
    let claim = Claim {
        identity: peer_id,
        certs,
        method: auth.method,
        auth: auth.data,
        octets,
        hashes: cx.provider.signature_hashes,
        peer_hashes: &sent.peer_hashes,
    };
    let proven = pubkey::verify(&cx.store, &mut cx.chains, now.wall, words, &claim)?;
    Ok(questions::revocation(cx, now, proven.vouched, certs)?)
}

fn make_child(
    cx: &mut Context,
    sa: &IkeSa,
    sent: &AuthSent,
    payloads: &[Payload<'_>],
) -> Result<(ChildSa, ChildKeys), Error> {
    let rules = Rules {
        ke_sent: None,
        ignore_ke: true,
    };
    let Granted {
        chosen,
        narrowed,
        mode,
    } = granted(sa, &sent.offered, sent.cpi, payloads, rules)?;
    let outbound_spi = child_sa::outbound_spi(&chosen).ok_or(Error::Answer("SPI"))?;
    let child = ChildSa::new(
        sa,
        &chosen,
        sent.inbound_spi,
        outbound_spi,
        cx.next_reqid(),
        narrowed,
        mode,
    );
    let keys = child_sa::derive_keys(
        sent.suite.prf,
        sent.keys.sk_d.expose(),
        None,
        (&sent.nonce_i, &sent.nonce_r),
        &child.transforms,
        true,
    )?;
    Ok((child, keys))
}
