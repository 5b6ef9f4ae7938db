//! CREATE_CHILD_SA (RFC 7296, 1.3) as responder: a further Child SA, or one in the place of another.
//! What collides with an exchange of our own is sorted out as RFC 7296, 2.25 says.

use super::super::child_sa::{self, Ask, ChildSa, Fate};
use super::super::context::Context;
use super::super::endpoint;
use super::super::error::Error;
use super::super::ike_sa::{self, IkeSa};
use super::super::ipcomp;
use super::super::message;
use super::super::negotiate::Rules;
use super::super::own::{self, Answering, Own, Rival};
use super::super::state::{Established, State};
use super::auth::add_child;
use super::rekey_ike;
use super::sa_init::NONCE_LEN;
use crate::crypto::SecretBytes;
use crate::kernel::KernelError;
use crate::time::Now;
use crate::wire::registry::{ExchangeType, KeId, NotifyType, ProtocolId};
use crate::wire::spi::{Cpi, EspSpi};
use crate::wire::{DecodeError, DecodeErrorKind, Ke, Notify, Payload, Proposal, TrafficSelector};

/// A request, its payloads each at most once.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// The proposals.
    pub proposals: &'a [Proposal<'a>],
    /// The peer's nonce.
    pub nonce: &'a [u8],
    /// Its key exchange value.
    pub ke: Option<Ke<'a>>,
    ts_i: Option<&'a [TrafficSelector]>,
    ts_r: Option<&'a [TrafficSelector]>,
    /// The Child SA to be replaced: protocol and SPI.
    rekeys: Option<(ProtocolId, &'a [u8])>,
    transport: bool,
    /// The CPI under which the peer takes compressed packets.
    ipcomp: Option<Cpi>,
}

/// Answers a request, now or when the kernel has answered.
pub fn respond(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message_id: u32,
    digest: u64,
    payloads: &[Payload<'_>],
) {
    let answered = read(payloads).and_then(|request| {
        let ike = |p: &Proposal<'_>| p.protocol == ProtocolId::IKE;
        if request.proposals.iter().any(ike) {
            rekey_ike::respond(cx, sa, now, message_id, digest, &request)
        } else {
            child(cx, sa, now, message_id, digest, &request)
        }
    });
    match answered {
        Ok(()) => {}
        Err(Error::ChildNotFound(protocol, spi)) => {
            cx.info(format_args!(
                "{}: CREATE_CHILD_SA: no such Child SA",
                sa.tag()
            ));
            let payload = Payload::Notify(Notify {
                protocol,
                spi: &spi,
                kind: NotifyType::CHILD_SA_NOT_FOUND,
                data: &[],
            });
            let exchange = ExchangeType::CREATE_CHILD_SA;
            message::respond(cx, sa, exchange, message_id, digest, &[payload]);
        }
        Err(error) => {
            let exchange = ExchangeType::CREATE_CHILD_SA;
            endpoint::refuse(cx, sa, now, exchange, message_id, digest, &error);
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "payloads of no use here are passed over"
)]
fn read<'a>(payloads: &'a [Payload<'a>]) -> Result<Request<'a>, Error> {
    let mut request = Request::default();
    let (mut proposals, mut nonce) = (None, None);
    for payload in payloads {
        let repeated = match payload {
            Payload::Sa(list) => proposals.replace(list.as_slice()).is_some(),
            Payload::Nonce(value) => nonce.replace(*value).is_some(),
            Payload::Ke(ke) => request.ke.replace(*ke).is_some(),
            Payload::TsI(list) => request.ts_i.replace(list.as_slice()).is_some(),
            Payload::TsR(list) => request.ts_r.replace(list.as_slice()).is_some(),
            Payload::Notify(notify) if notify.kind == NotifyType::REKEY_SA => {
                let named = (notify.protocol, notify.spi);
                request.rekeys.replace(named).is_some()
            }
            Payload::Notify(notify) => {
                request.transport |= notify.kind == NotifyType::USE_TRANSPORT_MODE;
                request.ipcomp = request.ipcomp.or_else(|| ipcomp::heard(notify));
                false
            }
            _ => false,
        };
        if repeated {
            let (what, kind) = ("payload", DecodeErrorKind::Duplicate);
            return Err(DecodeError { what, kind }.into());
        }
    }
    request.proposals = proposals.ok_or(Error::Missing("SA"))?;
    request.nonce = nonce.ok_or(Error::Missing("nonce"))?;
    Ok(request)
}

/// The parts of an IKE SA that is up.
pub fn up(sa: &mut IkeSa) -> Option<&mut Established> {
    if let State::Established(up) = &mut sa.state {
        Some(up)
    } else {
        None
    }
}

fn child(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message_id: u32,
    digest: u64,
    request: &Request<'_>,
) -> Result<(), Error> {
    let mut ask = Ask {
        proposals: request.proposals,
        ts_i: request.ts_i.ok_or(Error::Missing("TSi"))?,
        ts_r: request.ts_r.ok_or(Error::Missing("TSr"))?,
        transport: request.transport,
        ipcomp: request.ipcomp,
    };
    // RFC 7296, 2.25.2: not while this IKE SA is being replaced or closed.
    let Some(up) = up(sa) else {
        return Err(Error::Temporary);
    };
    if up.successor.is_some() || matches!(up.own, Own::Rekey(_)) {
        return Err(Error::Temporary);
    }
    let old = request
        .rekeys
        .map(|named| replaced(sa, named))
        .transpose()?;
    if old.is_none() && sa.children.len() >= CHILDREN_MAX {
        return Err(Error::NoAdditionalSas);
    }
    let rules = Rules {
        ke_sent: request.ke.map(|ke| ke.method),
        ignore_ke: false,
    };
    // The policies are the same for both while the old one stands.
    ask.ipcomp = ask.ipcomp.filter(|_| old.is_none_or(|old| old.ipcomp));
    let reqid = old.map(|old| old.reqid);
    let (mut child, grant, chosen) = child_sa::grant(cx, sa, ask, rules, reqid)?;
    child.replaces = old.map(|old| old.inbound_spi);
    let agreed = exchange_keys(cx, chosen.ke(), request.ke)?;
    let (ke, shared) = agreed.map_or((None, None), |(ke, shared)| (Some(ke), Some(shared)));
    let nonce = cx.rng.bytes::<NONCE_LEN>().to_vec();
    let State::Established(up) = &sa.state else {
        return Err(Error::Temporary);
    };
    let keys = child_sa::derive_keys(
        up.suite.prf,
        up.keys.sk_d.expose(),
        shared.as_ref().map(SecretBytes::expose),
        (request.nonce, &nonce),
        &child.transforms,
        false,
    )?;
    let answering = Answering {
        request: crate::kernel::RequestId(0),
        until: now.mono + ike_sa::KERNEL_WAIT_MAX,
        rekeys: child.replaces,
        child,
        grant,
        ke,
        message_id,
        digest,
        nonce,
    };
    note_rival(sa, request.nonce, &answering);
    load(cx, sa, now, answering, keys);
    Ok(())
}

/// What is kept of a Child SA in the one that takes its place.
#[derive(Clone, Copy)]
struct Old {
    inbound_spi: EspSpi,
    reqid: u32,
    ipcomp: bool,
}

/// The Child SA that a REKEY_SA notification names.
fn replaced(sa: &IkeSa, (protocol, spi): (ProtocolId, &[u8])) -> Result<Old, Error> {
    let not_found = || Error::ChildNotFound(protocol, spi.to_vec());
    let outbound = <[u8; 4]>::try_from(spi).ok().and_then(EspSpi::from_bytes);
    let named = |child: &&ChildSa| {
        Some(child.names.outbound_spi) == outbound && child.names.protocol == protocol
    };
    let child = sa.children.iter().find(named).ok_or_else(not_found)?;
    match child.fate {
        Fate::Living => Ok(Old {
            inbound_spi: child.names.inbound_spi,
            reqid: child.names.reqid,
            ipcomp: child.names.ipcomp.is_some(),
        }),
        // RFC 7296, 2.25.1: we are about to close it, or it has been replaced before.
        Fate::Doomed | Fate::Replaced => Err(Error::Temporary),
    }
}

/// A method, our key exchange value, and the shared secret.
pub type Agreed = ((KeId, Vec<u8>), SecretBytes);

/// Our key exchange value and the shared secret, where the proposal has a method.
pub fn exchange_keys(
    cx: &mut Context,
    method: Option<KeId>,
    ke: Option<Ke<'_>>,
) -> Result<Option<Agreed>, Error> {
    let Some(method) = method else {
        return Ok(None);
    };
    let ke = ke.filter(|ke| ke.method == method);
    let ke = ke.ok_or(Error::InvalidKe(method))?;
    let exchange = cx.provider.key_exchange(method).ok_or(Error::NoProposal)?;
    exchange.check_public(ke.data).map_err(Error::BadKe)?;
    let pair = exchange.answer(&mut cx.rng, ke.data)?;
    let public = pair.public().to_vec();
    let shared = pair.complete(ke.data).map_err(Error::BadKe)?;
    Ok(Some(((method, public), shared)))
}

/// We are rekeying the same Child SA ourselves: both exchanges go on, and nonces decide which of
/// the two new Child SAs stays (RFC 7296, 2.8.1).
fn note_rival(sa: &mut IkeSa, peers_nonce: &[u8], answering: &Answering) {
    let Some(up) = up(sa) else { return };
    let (rekeys, rival) = match &mut up.own {
        Own::Child(sent) => (sent.rekeys, &mut sent.rival),
        Own::Install(installing) => (installing.rekeys, &mut installing.rival),
        Own::Idle | Own::Probe | Own::Delete(_) | Own::Rekey(_) | Own::Mobike(_) => return,
    };
    if rekeys.is_some() && rekeys == answering.rekeys {
        let nonce = own::lower(peers_nonce, &answering.nonce).to_vec();
        *rival = Some(Rival { nonce });
    }
}

fn load(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    mut answering: Answering,
    keys: crate::crypto::keymat::ChildKeys,
) {
    if !cx.coupled {
        answering.child = answering.child.keep(&keys, now.mono);
        return finish(cx, sa, now, answering, Ok(()));
    }
    let policy = std::sync::Arc::clone(&sa.policy);
    let mut install = child_sa::install(cx, &policy, &answering.child, keys, sa.grant);
    let compressed = answering.child.names.ipcomp.is_some();
    let old = answering.rekeys.and_then(|old| sa.child_by_inbound(old));
    // Where one is compressed and the other is not, policies for the new one end the old one.
    if old.is_some_and(|old| old.loaded && old.names.ipcomp.is_some() == compressed) {
        // The peer has the new SAs only when it has our answer; until it shows that, it gets
        // its packets through the old ones.
        answering.child.outbound_waits = Some(Box::new(install.clone()));
        install.receive_only = true;
    }
    answering.request = child_sa::request_install(cx, install);
    if let Some(up) = up(sa) {
        up.answering = Some(Box::new(answering));
    }
}

/// The kernel answered.
pub fn installed(cx: &mut Context, sa: &mut IkeSa, now: Now, result: Result<(), KernelError>) {
    let Some(answering) = up(sa).and_then(|up| up.answering.take()) else {
        return;
    };
    let mut answering = *answering;
    answering.child.loaded = result.is_ok();
    finish(cx, sa, now, answering, result);
}

fn finish(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    answering: Answering,
    result: Result<(), KernelError>,
) {
    let exchange = ExchangeType::CREATE_CHILD_SA;
    let (id, digest) = (answering.message_id, answering.digest);
    if let Err(error) = result {
        cx.stats.kernel_failures += 1;
        return endpoint::refuse(cx, sa, now, exchange, id, digest, &Error::Kernel(error));
    }
    let mut payloads: Vec<Payload<'_>> = answering.grant.notifications().collect();
    payloads.extend([answering.grant.sa(), Payload::Nonce(&answering.nonce)]);
    if let Some((method, data)) = &answering.ke {
        let method = *method;
        payloads.push(Payload::Ke(Ke { method, data }));
    }
    payloads.extend(answering.grant.selectors());
    message::respond(cx, sa, exchange, id, digest, &payloads);
    let child = answering.child;
    let inbound_spi = child.names.inbound_spi;
    if let Some(old) = answering.rekeys {
        supersede(sa, old);
        let activate = super::super::agenda::Task::Activate(inbound_spi);
        sa.agenda.plan(now.mono + ACTIVATE_AFTER, activate);
    }
    add_child(cx, sa, child);
}

/// The peer has replaced this Child SA; it will delete it.
fn supersede(sa: &mut IkeSa, old: EspSpi) {
    // Where we rekey it as well, our answer decides about it.
    if let Some(child) = sa.child_by_inbound(old)
        && child.fate == Fate::Living
    {
        child.fate = Fate::Replaced;
    }
    sa.agenda
        .strike(&super::super::agenda::Task::RekeyChild(old));
}

/// Child SAs of one IKE SA: more than any peer has use for, few enough to bound what one peer may
/// ask of us.
const CHILDREN_MAX: usize = 64;
/// How long we go on sending through the old Child SA, should its Delete never come.
const ACTIVATE_AFTER: std::time::Duration = std::time::Duration::from_secs(10);
