//! INFORMATIONAL (RFC 7296, 1.4): liveness, Deletes and notifications, as requester and responder.

use std::time::Instant;

use super::super::context::Context;
use super::super::ike_sa::{self, IkeSa, LINGER};
use super::super::message;
use super::super::state::{Deleting, Keying, State};
use crate::wire::registry::{ExchangeType, ProtocolId};
use crate::wire::{Delete, Payload};

/// Answers a request of an established IKE SA.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "payloads of no use here are passed over"
)]
pub fn respond(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Instant,
    message_id: u32,
    digest: u64,
    payloads: &[Payload<'_>],
) {
    let mut ours = Vec::new();
    let mut close = false;
    for payload in payloads {
        match payload {
            Payload::Delete(delete) if delete.protocol == ProtocolId::IKE => close = true,
            Payload::Delete(delete) => {
                for spi in delete.esp_spis() {
                    if let Some(child) = sa.take_child_by_outbound(delete.protocol, spi) {
                        ours.extend(child.names.inbound_spi.to_bytes());
                        cx.info(format_args!("{}: deleted 1 SPI: {spi}", sa.tag()));
                        ike_sa::unload(cx, child);
                    }
                }
            }
            Payload::Notify(notify) if notify.kind.is_error() => {
                cx.info(format_args!(
                    "{}: {} notification from peer",
                    sa.tag(),
                    notify.kind
                ));
            }
            _ => {}
        }
    }
    // RFC 7296, 1.4.1: the Delete of an IKE SA is answered with an empty message.
    let deletes: Vec<Payload<'_>> = if close || ours.is_empty() {
        Vec::new()
    } else {
        let protocol = ProtocolId::ESP;
        vec![Payload::Delete(Delete {
            protocol,
            spi_size: 4,
            spis: &ours,
        })]
    };
    message::respond(
        cx,
        sa,
        ExchangeType::INFORMATIONAL,
        message_id,
        digest,
        &deletes,
    );
    if close {
        cx.info(format_args!("{}: received delete, closing SA", sa.tag()));
        // Nobody is left to answer a request of ours.
        sa.window.settle();
        linger(cx, sa, now);
    }
}

/// Takes the answer to a request of ours.
pub fn conclude(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    sa.window.settle();
    delete_expired(cx, sa, now);
    if matches!(sa.state, State::Deleting(_)) {
        cx.debug(format_args!("{}: delete acknowledged", sa.tag()));
        sa.state = State::Closed;
    }
}

/// Asks whether the peer is alive.
pub fn probe(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    if message::request(cx, sa, ExchangeType::INFORMATIONAL, &[], now).is_some() {
        cx.stats.dpd_sent += 1;
    }
}

/// Deletes an established IKE SA: tells the peer, and gives everything up at once.
pub fn delete(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let payload = Payload::Delete(Delete {
        protocol: ProtocolId::IKE,
        spi_size: 0,
        spis: &[],
    });
    // A request that is out already will never matter; its Message ID is still used up.
    sa.window.settle();
    message::request(cx, sa, ExchangeType::INFORMATIONAL, &[payload], now);
    cx.info(format_args!("{}: sent delete, closing SA", sa.tag()));
    linger(cx, sa, now);
}

/// Gives up the Child SAs whose lifetime is over and tells the peer; where a request is out already,
/// this waits for its answer.
pub fn delete_expired(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    if !matches!(sa.state, State::Established(_)) || sa.window.free().is_none() {
        return;
    }
    let mut spis = Vec::new();
    for child in sa.take_expired_children() {
        let spi = child.names.inbound_spi;
        cx.info(format_args!("{}: Child SA {spi} expired", sa.tag()));
        spis.extend(spi.to_bytes());
        ike_sa::unload(cx, child);
    }
    if spis.is_empty() {
        return;
    }
    let payload = Payload::Delete(Delete {
        protocol: ProtocolId::ESP,
        spi_size: 4,
        spis: &spis,
    });
    message::request(cx, sa, ExchangeType::INFORMATIONAL, &[payload], now);
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
    sa.state = State::Deleting(Deleting {
        keys,
        until: now + LINGER,
    });
}
