//! IKE_SA_INIT as initiator (RFC 7296, 1.2 and 2.6): the request, a COOKIE or another key exchange
//! method where the responder asks for it, and the keys from its answer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::super::Role;
use super::super::context::Context;
use super::super::error::Error;
use super::super::event::Path;
use super::super::ike_sa::IkeSa;
use super::super::natt;
use super::super::negotiate::{self, Chosen, Rules};
use super::super::state::{SaInitSent, State};
use super::ppk;
use super::redirect::{self, Start};
use super::sa_init::{
    NONCE_LEN, find_notify, has_notify, hash_list, header, signature_hashes, status,
};
use super::{announce, auth_initiator};
use crate::auth::AuthError;
use crate::crypto::keymat::{self, IkeKeys};
use crate::policy::Policy;
use crate::time::Now;
use crate::wire::registry::{CertEncoding, ExchangeType, KeId, NotifyType};
use crate::wire::spi::IkeSpi;
use crate::wire::{Ke, Message, Payload, encode_message};

/// Sends the first request of a new IKE SA to the policy's peer. `None`: the policy names no single
/// peer, or no method of its proposals exists here.
pub fn start(cx: &mut Context, now: Now, start: Start) -> Option<IkeSa> {
    let Start {
        policy,
        to,
        trail,
        renews,
    } = start;
    let peer = to.or_else(|| policy.peer.map(|net| net.addr))?;
    let local = policy
        .local
        .map_or_else(|| unspecified(peer), |net| net.addr);
    let marker = cx.options.natt_only;
    let port = if marker {
        cx.options.natt_port
    } else {
        IKE_PORT
    };
    let path = Path {
        local: SocketAddr::new(local, port),
        remote: SocketAddr::new(peer, if marker { NATT_PORT } else { IKE_PORT }),
        marker,
    };
    let method = first_method(cx, &policy)?;
    let kex = cx.provider.key_exchange(method)?.start(&mut cx.rng).ok()?;
    let nonce = cx.rng.bytes::<NONCE_LEN>().to_vec();
    let own_spi = cx.draw_ike_spi();
    cx.info(format_args!(
        "ikev2_init_ike_sa: initiating \"{}\"",
        policy.name
    ));
    let sent = SaInitSent {
        kex,
        method,
        nonce,
        request: Vec::new(),
        cookie: Vec::new(),
        rounds: 0,
    };
    let state = State::AwaitSaInitResponse(Box::new(sent));
    let role = Role::OriginalInitiator;
    let mut sa = IkeSa::new(own_spi, None, role, policy, path, state, now.mono);
    sa.trail = trail;
    sa.renews = renews;
    cx.stats.sa_created += 1;
    send(cx, &mut sa, now);
    Some(sa)
}

/// The address of the same family that stands for any.
pub fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

fn first_method(cx: &Context, policy: &Policy) -> Option<KeId> {
    negotiate::methods(&policy.ike_proposals).find(|&id| cx.provider.key_exchange(id).is_some())
}

/// Builds the request from the state and sends it.
fn send(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    let from = redirect::came_from(sa).map(redirect::gateway);
    let State::AwaitSaInitResponse(sent) = &mut sa.state else {
        return;
    };
    let proposals = negotiate::offer(&sa.policy.ike_proposals, &[], true);
    let spis = (sa.own_spi, None);
    let force = cx.options.natt_only || sa.policy.natt;
    let (local, remote) = (sa.path.local, sa.path.remote);
    let hashes = natt::hashes_to_send(&cx.provider, &mut cx.rng, force, spis, local, remote);
    let hash_list = hash_list(cx.provider.signature_hashes);
    let mut payloads = Vec::new();
    if !sent.cookie.is_empty() {
        payloads.push(status(NotifyType::COOKIE, &sent.cookie));
    }
    payloads.extend([
        Payload::Sa(proposals),
        Payload::Ke(Ke {
            method: sent.method,
            data: sent.kex.public(),
        }),
        Payload::Nonce(&sent.nonce),
    ]);
    if cx.config.settings.fragmentation {
        payloads.push(status(NotifyType::FRAGMENTATION_SUPPORTED, &[]));
    }
    if !cx.options.natt_off {
        payloads.extend(natt::notifications(&hashes));
    }
    payloads.push(status(NotifyType::SIGNATURE_HASH_ALGORITHMS, &hash_list));
    if !sa.policy.ppks.is_empty() {
        payloads.push(status(NotifyType::USE_PPK, &[]));
    }
    payloads.push(match &from {
        Some(from) => status(NotifyType::REDIRECTED_FROM, from),
        None => status(NotifyType::REDIRECT_SUPPORTED, &[]),
    });
    let mut request = Vec::with_capacity(512);
    encode_message(&header(sa.own_spi, None, false), &payloads, &mut request);
    sent.request = request.clone();
    cx.transmit(sa.path, request.clone());
    sa.window.restart();
    sa.window.sent(
        0,
        ExchangeType::IKE_SA_INIT,
        vec![request],
        now.mono,
        &mut cx.rng,
    );
}

/// Takes a response. Nothing in it is authenticated: what does not fit is dropped, and the true
/// answer may still come.
pub fn conclude(cx: &mut Context, sa: &mut IkeSa, now: Now, path: Path, bytes: &[u8]) {
    if path.remote != sa.path.remote {
        // RFC 7296, 2.11: answers come from where the request went. What somebody else sends on
        // would make us see a NAT before a peer that has none.
        cx.stats.unexpected += 1;
        return drop_response(cx, sa, path, &"not from where the request went");
    }
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(error) => {
            cx.stats.decode_errors += 1;
            return drop_response(cx, sa, path, &error);
        }
    };
    match ask_again(cx, sa, now, &message.payloads) {
        Ok(true) => return,
        Ok(false) => {}
        Err(why) => return drop_response(cx, sa, path, &why),
    }
    if redirect::in_sa_init(cx, sa, now, &message.payloads) {
        return;
    }
    match accept(
        cx,
        sa,
        path,
        message.header.responder_spi,
        &message.payloads,
        bytes,
    ) {
        Ok(()) => auth_initiator::send(cx, sa, now),
        Err(error) => drop_response(cx, sa, path, &error),
    }
}

fn drop_response(cx: &mut Context, sa: &IkeSa, path: Path, why: &dyn fmt::Display) {
    cx.stats.msg_rcvd_dropped += 1;
    let (tag, remote) = (sa.tag(), path.remote);
    cx.dropped(format_args!(
        "{tag}: IKE_SA_INIT response 0 from {remote} dropped: {why}"
    ));
}

/// COOKIE and INVALID_KE_PAYLOAD: the same SPI, the request changed (RFC 7296, 2.6 and 2.7). False:
/// neither is there. The error says why what is there is not heeded.
fn ask_again(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    payloads: &[Payload<'_>],
) -> Result<bool, &'static str> {
    let State::AwaitSaInitResponse(sent) = &mut sa.state else {
        return Ok(false);
    };
    let often = sent.rounds >= ROUNDS_MAX;
    if let Some(cookie) = find_notify(payloads, NotifyType::COOKIE) {
        if often {
            return Err("COOKIE asked for too often");
        }
        if cookie.is_empty() || cookie.len() > COOKIE_MAX {
            return Err("COOKIE of impossible length");
        }
        sent.cookie = cookie.to_vec();
    } else if let Some(wanted) = find_notify(payloads, NotifyType::INVALID_KE_PAYLOAD) {
        let wanted = <[u8; 2]>::try_from(wanted);
        let wanted = wanted.map_err(|_| "INVALID_KE_PAYLOAD without a group")?;
        let wanted = KeId(u16::from_be_bytes(wanted));
        if often {
            return Err("INVALID_KE_PAYLOAD too often");
        }
        if !negotiate::offers(&sa.policy.ike_proposals, wanted) {
            return Err("INVALID_KE_PAYLOAD with a group that was not offered");
        }
        let kex = cx
            .provider
            .key_exchange(wanted)
            .and_then(|ke| ke.start(&mut cx.rng).ok());
        let kex = kex.ok_or("INVALID_KE_PAYLOAD with a group that is not there")?;
        sent.kex = kex;
        sent.method = wanted;
        cx.info(format_args!(
            "spi={}: reinitiating with new DH group",
            sa.own_spi
        ));
    } else {
        return Ok(false);
    }
    sent.rounds += 1;
    send(cx, sa, now);
    Ok(true)
}

fn accept(
    cx: &mut Context,
    sa: &mut IkeSa,
    path: Path,
    responder: Option<IkeSpi>,
    payloads: &[Payload<'_>],
    bytes: &[u8],
) -> Result<(), Error> {
    let responder = responder.ok_or(Error::Answer("no responder SPI"))?;
    let (chosen, public, nonce_r) = read(sa, payloads)?;
    let suite = chosen
        .ike_suite(&cx.provider)
        .ok_or(Error::Answer("suite"))?;
    let State::AwaitSaInitResponse(sent) = &sa.state else {
        return Ok(());
    };
    if suite.ke != sent.method {
        return Err(Error::InvalidKe(suite.ke));
    }
    may_have_rounds(&sa.policy, payloads)?;
    // Whatever fails up to here, the true answer may still come.
    let shared = sent.kex.complete(public)?;
    let seed = keymat::skeyseed(suite.prf, &sent.nonce, nonce_r, shared.expose());
    let keys = IkeKeys::derive(
        &suite,
        seed.expose(),
        &sent.nonce,
        nonce_r,
        sa.own_spi,
        responder,
    )?;
    let answered = has_notify(payloads, NotifyType::USE_PPK);
    let ppk = ppk::offer(answered, &sa.policy.ppks, &keys, suite.prf)?;
    let State::AwaitSaInitResponse(sent) = std::mem::replace(&mut sa.state, State::Closed) else {
        return Ok(());
    };
    let SaInitSent {
        nonce: nonce_i,
        request,
        ..
    } = *sent;
    sa.window.settle();
    sa.peer_spi = Some(responder);
    traverse_nat(cx, sa, responder, path, payloads);
    sa.fragmentation = cx.config.settings.fragmentation
        && has_notify(payloads, NotifyType::FRAGMENTATION_SUPPORTED);
    let announced = find_notify(payloads, NotifyType::SUPPORTED_AUTH_METHODS);
    let announced = announce::heard(cx, sa.tag(), announced);
    let facts = auth_initiator::Facts {
        keys,
        suite,
        nonce_i,
        nonce_r: nonce_r.to_vec(),
        request,
        response: bytes.to_vec(),
        peer_hashes: signature_hashes(payloads),
        cert_requests: cert_requests(payloads),
        ppk,
        announced,
        takes_childless: has_notify(payloads, NotifyType::CHILDLESS_IKEV2_SUPPORTED),
    };
    auth_initiator::prepare(cx, sa, facts);
    Ok(())
}

/// Who must prove itself more than once can do so only where the responder knows how (RFC 4739).
fn may_have_rounds(policy: &Policy, payloads: &[Payload<'_>]) -> Result<(), Error> {
    if policy.then.is_empty() || has_notify(payloads, NotifyType::MULTIPLE_AUTH_SUPPORTED) {
        return Ok(());
    }
    Err(AuthError::Rounds("the responder takes no second authentication").into())
}

/// Looks for a NAT, and floats to 4500 where there is one (RFC 7296, 2.23).
fn traverse_nat(
    cx: &Context,
    sa: &mut IkeSa,
    responder: IkeSpi,
    path: Path,
    payloads: &[Payload<'_>],
) {
    let spis = (sa.own_spi, Some(responder));
    if !cx.options.natt_off {
        sa.nat = natt::detect(&cx.provider, payloads, spis, path.local, path.remote);
        // What we sent as our address was no good: the responder sees a NAT, and so must we.
        let disguised = cx.options.natt_only || sa.policy.natt;
        let unknown = sa.path.local.ip().is_unspecified();
        sa.nat.local |= (disguised || unknown) && sa.nat.supported;
    }
    sa.path.local = path.local;
    // RFC 4555, 3.3: with MOBIKE also where there is no NAT yet, so that no port changes later.
    let float = sa.nat.encapsulate() || (cx.config.settings.mobike && sa.nat.supported);
    if float && !sa.path.marker {
        sa.path.local.set_port(cx.options.natt_port);
        sa.path.remote.set_port(NATT_PORT);
        sa.path.marker = true;
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "payloads of no use here are passed over"
)]
fn read<'a>(sa: &IkeSa, payloads: &[Payload<'a>]) -> Result<(Chosen, &'a [u8], &'a [u8]), Error> {
    let mut proposal = None;
    let mut public = None;
    let mut nonce = None;
    for payload in payloads {
        match payload {
            Payload::Sa(list) => proposal = list.first().filter(|_| list.len() == 1).cloned(),
            Payload::Ke(ke) => public = Some(ke.data),
            Payload::Nonce(value) => nonce = Some(*value),
            Payload::Notify(notify) if notify.kind.is_error() => {
                return Err(Error::Reported(notify.kind));
            }
            _ => {}
        }
    }
    let proposal = proposal.ok_or(Error::Missing("SA"))?;
    let rules = Rules {
        ke_sent: None,
        ignore_ke: false,
    };
    let chosen = negotiate::choose(&sa.policy.ike_proposals, &[proposal], rules);
    let chosen = chosen.ok_or(Error::Answer("proposal"))?;
    Ok((
        chosen,
        public.ok_or(Error::Missing("KE"))?,
        nonce.ok_or(Error::Missing("nonce"))?,
    ))
}

/// What the responder asks us to show. It is not known yet, so it is taken at its word for as much as
/// an honest one says.
fn cert_requests(payloads: &[Payload<'_>]) -> Vec<(CertEncoding, Vec<u8>)> {
    let asked = payloads.iter().filter_map(|payload| {
        let Payload::CertReq(asked) = payload else {
            return None;
        };
        Some((asked.encoding, asked.data.to_vec()))
    });
    asked.take(CERT_REQUESTS_MAX).collect()
}

/// The IKE port.
const IKE_PORT: u16 = 500;
/// The NAT-T port.
const NATT_PORT: u16 = 4500;
/// Longest cookie (RFC 7296, 2.6).
const COOKIE_MAX: usize = 64;
/// Times a responder may ask for something else: twice for each is the RFC's own example.
const ROUNDS_MAX: u32 = 4;
/// CERTREQ payloads that are remembered.
const CERT_REQUESTS_MAX: usize = 8;
