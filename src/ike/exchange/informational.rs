//! INFORMATIONAL (RFC 7296, 1.4): liveness, Deletes and notifications, as requester and responder.

use std::time::Instant;

use super::super::account;
use super::super::agenda::Task;
use super::super::child_sa::ChildSa;
use super::super::context::Context;
use super::super::ike_sa::{IkeSa, LINGER};
use super::super::message;
use super::super::own::{self, Own};
use super::super::state::{Deleting, Keying, State};
use super::create_child::up;
use super::sa_init::status;
use super::{mobike, reauth, redirect, rekey_ike};
use crate::radius::request::Cause;
use crate::time::Now;
use crate::wire::registry::{ExchangeType, NotifyType, ProtocolId};
use crate::wire::spi::EspSpi;
use crate::wire::{Delete, Payload};

/// Answers a request of an established IKE SA.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "payloads of no use here are passed over"
)]
pub fn respond(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message_id: u32,
    digest: u64,
    payloads: &[Payload<'_>],
) {
    let mut ours: Vec<u8> = Vec::new();
    let (mut close, mut why) = (false, "received delete");
    for payload in payloads {
        match payload {
            Payload::Delete(delete) if delete.protocol == ProtocolId::IKE => close = true,
            Payload::Delete(delete) => ours.extend(children_deleted(cx, sa, now, delete)),
            Payload::Notify(notify) if notify.kind.is_error() => {
                say_reported(cx, sa, notify.kind);
                if is_fatal(notify.kind) {
                    (close, why) = (true, "given up by the peer");
                }
            }
            _ => {}
        }
    }
    if close {
        rekey_ike::bequeath_to_rival(cx, sa, now.mono);
    }
    let notes = mobike::heed(cx, sa, now.mono, payloads);
    // RFC 7296, 1.4.1: the Delete of an IKE SA is answered with an empty message.
    let mut answer: Vec<Payload<'_>> = if close || ours.is_empty() {
        Vec::new()
    } else {
        let protocol = sa.policy.protocol;
        vec![Payload::Delete(Delete {
            protocol,
            spi_size: 4,
            spis: &ours,
        })]
    };
    answer.extend(notes.iter().map(mobike::Note::payload));
    message::respond(
        cx,
        sa,
        ExchangeType::INFORMATIONAL,
        message_id,
        digest,
        &answer,
    );
    reauth::heed(cx, sa, now.mono, payloads);
    if !close && redirect::follow(cx, sa, now, payloads) {
        sa.agenda.plan(now.mono, Task::Retire);
    }
    let now = now.mono;
    if close {
        account::because(cx, sa, Cause::UserRequest);
        cx.info(format_args!("{}: {why}, closing SA", sa.tag()));
        end(cx, sa, now);
    }
}

fn say_reported(cx: &mut Context, sa: &IkeSa, kind: NotifyType) {
    let tag = sa.tag();
    cx.info(format_args!("{tag}: {kind} notification from peer"));
}

/// What ends an IKE SA without a Delete, whoever says it (RFC 7296, 2.21.2 and 2.21.3).
fn is_fatal(kind: NotifyType) -> bool {
    matches!(
        kind,
        NotifyType::INVALID_SYNTAX | NotifyType::AUTHENTICATION_FAILED
    )
}

/// Takes a response that says that our request was the end of the IKE SA. False: it does not.
pub fn ended(cx: &mut Context, sa: &mut IkeSa, now: Instant, payloads: &[Payload<'_>]) -> bool {
    let fatal = payloads.iter().find_map(|payload| {
        let Payload::Notify(notify) = payload else {
            return None;
        };
        is_fatal(notify.kind).then_some(notify.kind)
    });
    let Some(kind) = fatal else { return false };
    cx.info(format_args!(
        "{}: {kind} notification from peer, closing SA",
        sa.tag()
    ));
    rekey_ike::bequeath_to_rival(cx, sa, now);
    end(cx, sa, now);
    true
}

/// The peer has no use for the IKE SA any more, so nobody is left to answer a request of ours.
fn end(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    sa.window.settle();
    linger(cx, sa, now);
}

/// The peer deletes Child SAs. Returns our SPIs of them for the answer.
fn children_deleted(cx: &mut Context, sa: &mut IkeSa, now: Now, delete: &Delete<'_>) -> Vec<u8> {
    let (protocol, size) = (delete.protocol, delete.spi_size);
    if size != 4 {
        cx.debug(format_args!(
            "{}: Delete of {protocol} with SPIs of {size} bytes",
            sa.tag()
        ));
    }
    let mut ours = Vec::new();
    for spi in delete.esp_spis() {
        let deleted = child_deleted(cx, sa, now, protocol, spi);
        ours.extend(deleted.into_iter().flatten());
    }
    ours
}

/// The peer deletes a Child SA, named by its inbound SPI. Returns our SPI of it for the answer, but
/// none where we are deleting it ourselves (RFC 7296, 1.4.1 and 2.25.1).
fn child_deleted(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    protocol: ProtocolId,
    spi: EspSpi,
) -> Option<[u8; 4]> {
    let named =
        |child: &ChildSa| child.names.outbound_spi == spi && child.names.protocol == protocol;
    let Some(child) = sa.take_child(named) else {
        cx.debug(format_args!(
            "{}: Delete of {protocol} SPI {spi}, which is not there",
            sa.tag()
        ));
        return None;
    };
    let inbound_spi = child.names.inbound_spi;
    cx.info(format_args!("{}: deleted 1 SPI: {spi}", sa.tag()));
    let both = is_being_deleted(sa, inbound_spi);
    own::gone(cx, sa, now, child);
    (!both).then(|| inbound_spi.to_bytes())
}

fn is_being_deleted(sa: &IkeSa, inbound_spi: EspSpi) -> bool {
    let State::Established(up) = &sa.state else {
        return false;
    };
    matches!(&up.own, Own::Delete(spis) if spis.contains(&inbound_spi))
}

/// Takes the answer to a request of ours on an IKE SA that is up.
pub fn conclude(cx: &mut Context, sa: &mut IkeSa, now: Now, own: Own, payloads: &[Payload<'_>]) {
    for payload in payloads {
        if let Payload::Notify(notify) = payload
            && notify.kind.is_error()
        {
            say_reported(cx, sa, notify.kind);
        }
    }
    match own {
        Own::Delete(spis) => {
            sa.orphans.retain(|spi| !spis.contains(spi));
            for spi in spis {
                if let Some(child) = sa.take_child(|child| child.names.inbound_spi == spi) {
                    own::given_up(cx, sa, now, child);
                }
            }
        }
        Own::Idle
        | Own::Probe
        | Own::Child(_)
        | Own::Rekey(_)
        | Own::Install(_)
        | Own::Mobike(_) => {}
    }
}

/// Our Delete of the IKE SA was answered.
pub fn closed(cx: &mut Context, sa: &mut IkeSa) {
    cx.debug(format_args!("{}: delete acknowledged", sa.tag()));
    sa.window.settle();
    sa.state = State::Closed;
}

/// Asks whether the peer is alive.
pub fn probe(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    if mobike::probe(cx, sa, now) {
        return;
    }
    if message::request(cx, sa, ExchangeType::INFORMATIONAL, &[], now).is_some() {
        cx.stats.dpd_sent += 1;
        if let Some(up) = up(sa) {
            up.own = Own::Probe;
        }
    }
}

/// Tells the peer of the Child SAs that go. They stay in the kernel until it has answered, for
/// packets that are still on their way.
pub fn delete_children(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let doomed = sa.doomed_children();
    let spis: Vec<u8> = doomed.iter().flat_map(|spi| spi.to_bytes()).collect();
    if spis.is_empty() {
        return;
    }
    let payload = Payload::Delete(Delete {
        protocol: sa.policy.protocol,
        spi_size: 4,
        spis: &spis,
    });
    let sent = message::request(cx, sa, ExchangeType::INFORMATIONAL, &[payload], now);
    if let (Some(_), Some(up)) = (sent, up(sa)) {
        up.own = Own::Delete(doomed);
    }
}

/// Deletes an established IKE SA: tells the peer, and gives everything up at once.
pub fn delete(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    delete_because(cx, sa, now, None);
}

/// The same, with the error that is the reason.
pub fn delete_because(cx: &mut Context, sa: &mut IkeSa, now: Instant, why: Option<NotifyType>) {
    let payload = Payload::Delete(Delete {
        protocol: ProtocolId::IKE,
        spi_size: 0,
        spis: &[],
    });
    // A request that is out already will never matter; its Message ID is still used up.
    sa.window.settle();
    let notify = why.map(|kind| status(kind, &[]));
    let payloads: Vec<_> = notify.into_iter().chain([payload]).collect();
    message::request(cx, sa, ExchangeType::INFORMATIONAL, &payloads, now);
    cx.info(format_args!("{}: sent delete, closing SA", sa.tag()));
    linger(cx, sa, now);
}

/// Gives up Child SAs and addresses, and keeps the rest for a moment so that a repeated request
/// still gets its answer.
pub fn linger(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    if matches!(sa.state, State::Established(_)) {
        cx.stats.sa_established_current = cx.stats.sa_established_current.saturating_sub(1);
    }
    sa.release(cx);
    let keys = match std::mem::replace(&mut sa.state, State::Closed) {
        State::Established(established) => established.keys,
        // Whoever still talks does not make it live longer.
        State::Deleting(deleting) => {
            sa.state = State::Deleting(deleting);
            return;
        }
        State::AwaitKernel(wait) => wait.keys,
        State::AwaitAuthResponse(sent) => sent.keys,
        State::AwaitAuthRequest(half_open) => match half_open.keying {
            Keying::Ready(keys) => keys,
            Keying::Pending(..) | Keying::Failed => return,
        },
        State::AwaitSaInitResponse(_) | State::Closed => return,
    };
    sa.state = State::Deleting(Box::new(Deleting {
        keys,
        until: now + LINGER,
    }));
}
