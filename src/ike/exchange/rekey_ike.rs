//! CREATE_CHILD_SA that replaces the IKE SA itself (RFC 7296, 1.3.2 and 2.18), both roles. The new
//! one lives in the same shard and inherits the Child SAs, addresses and tasks of the old one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Role;
use super::super::agenda::Task;
use super::super::context::{Bequest, Context};
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::super::message;
use super::super::negotiate::{self, Chosen, Rules, offers};
use super::super::own::{self, Own, RekeySent};
use super::super::state::{Established, State};
use super::create_child::{Request, exchange_keys, up};
use super::create_child_initiator::{error_in, nonce_and_ke};
use super::sa_init::NONCE_LEN;
use crate::crypto::keymat::{self, IkeKeys, IkeSuite};
use crate::policy::Policy;
use crate::time::Now;
use crate::wire::registry::{ExchangeType, KeId, NotifyType, ProtocolId};
use crate::wire::spi::IkeSpi;
use crate::wire::{Ke, Payload, Proposal};

/// Asks for a new IKE SA in the place of this one.
pub fn start(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    let refused = sa.no_additional_sas;
    let method = method_of(sa);
    let Some(up) = up(sa) else { return };
    if up.successor.is_some() || refused {
        return;
    }
    if up.answering.is_some() {
        // RFC 7296, 2.25.2: not while a Child SA is being made.
        return sa.agenda.plan(now.mono + MOMENT, Task::RekeyIke);
    }
    if let Some(method) = method {
        send(cx, sa, now, method, 0);
    }
}

/// The method in use, where the policy still has it; else the policy's first.
fn method_of(sa: &IkeSa) -> Option<KeId> {
    let State::Established(up) = &sa.state else {
        return None;
    };
    let mut methods = negotiate::methods(&sa.policy.ike_proposals);
    let first = methods.clone().next();
    methods.find(|&id| id == up.suite.ke).or(first)
}

fn send(cx: &mut Context, sa: &mut IkeSa, now: Now, method: KeId, rounds: u32) {
    let pair = cx.provider.key_exchange(method);
    let Some(kex) = pair.and_then(|ke| ke.start(&mut cx.rng).ok()) else {
        return;
    };
    let nonce = cx.rng.bytes::<NONCE_LEN>().to_vec();
    let own_spi = cx.draw_ike_spi();
    let policy = Arc::clone(&sa.policy);
    let spi = own_spi.to_bytes();
    let payloads = [
        Payload::Sa(negotiate::offer(&policy.ike_proposals, &spi, true)),
        Payload::Nonce(&nonce),
        Payload::Ke(Ke {
            method,
            data: kex.public(),
        }),
    ];
    let exchange = ExchangeType::CREATE_CHILD_SA;
    let id = message::request(cx, sa, exchange, &payloads, now.mono);
    drop(payloads);
    if let (Some(_), Some(up)) = (id, up(sa)) {
        up.own = Own::Rekey(Box::new(RekeySent {
            nonce,
            kex,
            method,
            own_spi,
            rounds,
            rival: None,
        }));
    }
}

/// Answers the peer's request for a new IKE SA.
pub fn respond(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    message_id: u32,
    digest: u64,
    request: &Request<'_>,
) -> Result<(), Error> {
    let policy = Arc::clone(&sa.policy);
    let Some(up) = up(sa) else {
        return Err(Error::Temporary);
    };
    // RFC 7296, 2.25.2: this IKE SA is going, or a Child SA of it is coming, changing or going.
    let busy = match &up.own {
        Own::Child(_) | Own::Install(_) | Own::Delete(_) => true,
        Own::Idle | Own::Probe | Own::Rekey(_) | Own::Mobike(_) => false,
    };
    if busy || up.answering.is_some() || up.successor.is_some() {
        return Err(Error::Temporary);
    }
    let (chosen, suite, peer_spi) = choose(cx, &policy, request)?;
    let agreed = exchange_keys(cx, Some(suite.ke), request.ke)?;
    let ((method, public), shared) = agreed.ok_or(Error::InvalidKe(suite.ke))?;
    let nonce = cx.rng.bytes::<NONCE_LEN>().to_vec();
    let own_spi = cx.draw_ike_spi();
    let material = Material {
        suite,
        shared: shared.expose(),
        nonces: (request.nonce, &nonce),
        role: Role::OriginalResponder,
        own_spi,
        peer_spi,
    };
    let newborn = derive(sa, now, &material)?;
    let spi = own_spi.to_bytes();
    let proposal = Proposal {
        number: chosen.number,
        protocol: ProtocolId::IKE,
        spi: &spi,
        transforms: chosen.transforms.into(),
    };
    let data = public.as_slice();
    let payloads = [
        Payload::Sa([proposal].into()),
        Payload::Nonce(&nonce),
        Payload::Ke(Ke { method, data }),
    ];
    let exchange = ExchangeType::CREATE_CHILD_SA;
    message::respond(cx, sa, exchange, message_id, digest, &payloads);
    born(cx, sa, newborn, now);
    note_rival(cx, sa, now, own_spi, own::lower(request.nonce, &nonce));
    Ok(())
}

fn choose(
    cx: &mut Context,
    policy: &Policy,
    request: &Request<'_>,
) -> Result<(Chosen, IkeSuite, IkeSpi), Error> {
    let rules = Rules {
        ke_sent: request.ke.map(|ke| ke.method),
        ignore_ke: false,
    };
    let chosen = negotiate::choose(&policy.ike_proposals, request.proposals, rules);
    let suite = chosen.as_ref().and_then(|c| c.ike_suite(&cx.provider));
    let (Some(chosen), Some(suite)) = (chosen, suite) else {
        cx.stats.sa_proposals_negotiate_failures += 1;
        return Err(Error::NoProposal);
    };
    let spi = <[u8; 8]>::try_from(chosen.spi.as_slice()).ok();
    let spi = spi.and_then(IkeSpi::from_bytes).ok_or(Error::NoProposal)?;
    Ok((chosen, suite, spi))
}

/// Where we are rekeying this IKE SA ourselves our answer decides who inherits; else the new one
/// does at once.
fn note_rival(cx: &mut Context, sa: &mut IkeSa, now: Now, newborn: IkeSpi, lowest: &[u8]) {
    if let Some(up) = up(sa)
        && let Own::Rekey(sent) = &mut up.own
    {
        sent.rival = Some((newborn, lowest.to_vec()));
        let old = sa.own_spi;
        if let Some(born) = cx.out.births.last_mut() {
            born.rival_for = Some(old);
        }
        return;
    }
    succeed(cx, sa, newborn, now.mono + KNOWN_AFTER);
    // The peer deletes the old one; should it not, we do.
    sa.agenda.plan(now.mono + OUTLIVE_MAX, Task::DeleteIke);
}

/// Gives everything to the successor.
fn succeed(cx: &mut Context, sa: &mut IkeSa, successor: IkeSpi, known_at: Instant) {
    let bequest = Bequest {
        to: successor,
        children: std::mem::take(&mut sa.children),
        lease: std::mem::take(&mut sa.lease),
        grant: sa.grant.take(),
        admission: sa.admission.take(),
        tasks: sa.agenda.bequeath(),
        known_at,
        end_at: None,
    };
    cx.out.bequests.push(bequest);
    cx.stats.sa_rekeyed += 1;
    if let Some(up) = up(sa) {
        up.successor = Some(successor);
    }
}

/// The peer deletes this IKE SA while our own request to rekey it is out: it did not see ours, and
/// the one it made has won (RFC 7296, 2.8.2).
pub fn bequeath_to_rival(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    let rival = up(sa).and_then(|up| match &up.own {
        Own::Rekey(sent) => sent.rival.as_ref().map(|(spi, _)| *spi),
        Own::Idle
        | Own::Probe
        | Own::Delete(_)
        | Own::Child(_)
        | Own::Install(_)
        | Own::Mobike(_) => None,
    });
    if let Some(rival) = rival {
        succeed(cx, sa, rival, now);
    }
}

/// The peer speaks on the IKE SA that it made: it did not see our request, or ours has lost. What
/// becomes of ours does not matter any more (RFC 7296, 2.8.2).
pub fn yield_to_rival(cx: &mut Context, sa: &mut IkeSa, now: Instant) {
    bequeath_to_rival(cx, sa, now);
    let succeeded = up(sa).is_some_and(|up| up.successor.is_some());
    if succeeded {
        sa.window.settle();
        if let Some(up) = up(sa) {
            up.own = Own::Idle;
        }
        sa.agenda.plan(now + OUTLIVE_MAX, Task::DeleteIke);
    }
}

/// What a new IKE SA is made of.
struct Material<'a> {
    suite: IkeSuite,
    shared: &'a [u8],
    /// Of the initiator of the exchange, and of its responder.
    nonces: (&'a [u8], &'a [u8]),
    /// Ours in the new IKE SA.
    role: Role,
    own_spi: IkeSpi,
    peer_spi: IkeSpi,
}

fn derive(old: &IkeSa, now: Now, material: &Material<'_>) -> Result<IkeSa, Error> {
    let State::Established(up) = &old.state else {
        return Err(Error::Temporary);
    };
    let (ni, nr) = material.nonces;
    let sk_d = up.keys.sk_d.expose();
    let seed = keymat::skeyseed_rekey(up.suite.prf, sk_d, material.shared, ni, nr);
    let (own_spi, peer_spi) = (material.own_spi, material.peer_spi);
    let (spi_i, spi_r) = match material.role {
        Role::OriginalInitiator => (own_spi, peer_spi),
        Role::OriginalResponder => (peer_spi, own_spi),
    };
    let keys = IkeKeys::derive(&material.suite, seed.expose(), ni, nr, spi_i, spi_r)?;
    let state = State::Established(Box::new(Established::new(keys, material.suite)));
    let policy = Arc::clone(&old.policy);
    let mut sa = IkeSa::new(
        own_spi,
        Some(peer_spi),
        material.role,
        policy,
        old.path,
        state,
        now.mono,
    );
    sa.nat = old.nat;
    sa.mobility = old.mobility.inherited();
    sa.fragmentation = old.fragmentation;
    sa.packet_max = old.packet_max;
    sa.wants_single = old.wants_single;
    sa.peer_id = old.peer_id.clone();
    sa.redirectable = old.redirectable;
    sa.assigned = old.assigned.clone();
    sa.trail = old.trail.clone();
    Ok(sa)
}

/// Takes a new IKE SA into the shard.
fn born(cx: &mut Context, old: &IkeSa, mut newborn: IkeSa, now: Now) {
    cx.info(format_args!("{}: rekeyed as {}", old.tag(), newborn.tag()));
    cx.stats.sa_created += 1;
    cx.stats.sa_established_current += 1;
    own::begin(cx, &mut newborn, now.mono);
    cx.out.births.push(newborn);
}

/// Takes the response to our request.
pub fn conclude(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    sent: RekeySent,
    payloads: &[Payload<'_>],
) {
    let (rounds, own_spi, rival) = (sent.rounds, sent.own_spi, sent.rival.clone());
    let mine = sent.nonce.clone();
    match answer(cx, sa, now, sent, payloads) {
        Ok((newborn, nonce)) => {
            born(cx, sa, newborn, now);
            match rival {
                // RFC 7296, 2.8.2: the one with the lowest nonce goes, by who made it.
                Some((other, lowest)) if own::lower(&mine, &nonce) < lowest.as_slice() => {
                    cx.info(format_args!("{}: simultaneous rekey: ours goes", sa.tag()));
                    succeed(cx, sa, other, now.mono);
                    sa.agenda.plan(now.mono + OUTLIVE_MAX, Task::DeleteIke);
                    if let Some(newborn) = cx.out.births.last_mut() {
                        newborn.agenda.plan(now.mono, Task::DeleteIke);
                    }
                }
                rival => {
                    succeed(cx, sa, own_spi, now.mono);
                    sa.agenda.plan(now.mono, Task::DeleteIke);
                    cx.out.bequests.extend(rival.map(|(to, _)| Bequest {
                        to,
                        children: Vec::new(),
                        lease: Default::default(),
                        grant: None,
                        admission: None,
                        tasks: Vec::new(),
                        known_at: now.mono,
                        // The peer deletes it, unless it never learned that it made it.
                        end_at: Some(now.mono + REDUNDANT_MAX),
                    }));
                }
            }
        }
        Err(error) => refused(cx, sa, now, rounds, rival.map(|(spi, _)| spi), &error),
    }
}

fn answer(
    cx: &Context,
    sa: &IkeSa,
    now: Now,
    sent: RekeySent,
    payloads: &[Payload<'_>],
) -> Result<(IkeSa, Vec<u8>), Error> {
    if let Some(error) = error_in(payloads) {
        return Err(error);
    }
    let proposals = payloads.iter().find_map(|payload| {
        let Payload::Sa(list) = payload else {
            return None;
        };
        (list.len() == 1).then_some(list.as_slice())
    });
    let proposals = proposals.ok_or(Error::Missing("SA"))?;
    let rules = Rules {
        ke_sent: Some(sent.method),
        ignore_ke: false,
    };
    let chosen = negotiate::choose(&sa.policy.ike_proposals, proposals, rules)
        .ok_or(Error::Answer("proposal"))?;
    let suite = chosen.ike_suite(&cx.provider);
    let suite = suite.filter(|suite| suite.ke == sent.method);
    let suite = suite.ok_or(Error::Answer("suite"))?;
    let (nonce, ke) = nonce_and_ke(payloads);
    let nonce = nonce.ok_or(Error::Missing("nonce"))?;
    let ke = ke.filter(|ke| ke.method == sent.method);
    let ke = ke.ok_or(Error::Missing("KE"))?;
    let spi = <[u8; 8]>::try_from(chosen.spi.as_slice()).ok();
    let peer_spi = spi.and_then(IkeSpi::from_bytes);
    let peer_spi = peer_spi.ok_or(Error::Answer("SPI"))?;
    let shared = sent.kex.complete(ke.data).map_err(Error::BadKe)?;
    let material = Material {
        suite,
        shared: shared.expose(),
        nonces: (&sent.nonce, nonce),
        role: Role::OriginalInitiator,
        own_spi: sent.own_spi,
        peer_spi,
    };
    Ok((derive(sa, now, &material)?, nonce.to_vec()))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else is wrong, it is tried again"
)]
fn refused(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    rounds: u32,
    rival: Option<IkeSpi>,
    error: &Error,
) {
    cx.info(format_args!("{}: IKE SA rekey: {error}", sa.tag()));
    if let Some(rival) = rival {
        // Ours came to nothing; the peer's stands.
        succeed(cx, sa, rival, now.mono);
        return sa.agenda.plan(now.mono + OUTLIVE_MAX, Task::DeleteIke);
    }
    match error {
        Error::InvalidKe(wanted)
            if rounds < ROUNDS_MAX && offers(&sa.policy.ike_proposals, *wanted) =>
        {
            send(cx, sa, now, *wanted, rounds + 1);
        }
        Error::Reported(NotifyType::NO_ADDITIONAL_SAS) => sa.no_additional_sas = true,
        _ => {
            // Some tries must fit between 95 % of the lifetime and its end.
            let pause = sa.policy.ike_lifetime / 100;
            let pause = pause.clamp(RETRY_MIN, RETRY_MAX);
            let permille = u32::try_from(500 + cx.rng.below(2000)).unwrap_or(1000);
            let pause = pause * permille / 1000;
            sa.agenda.plan(now.mono + pause, Task::RekeyIke);
        }
    }
}

/// How long an IKE SA that the peer has replaced waits for the peer's Delete.
const OUTLIVE_MAX: Duration = Duration::from_secs(120);
/// How long our answer may take to the peer: a request on the new IKE SA that overtakes it is lost.
const KNOWN_AFTER: Duration = Duration::from_millis(500);
/// How long one that lost waits for it.
const REDUNDANT_MAX: Duration = Duration::from_secs(10);
/// The wait for a Child SA in the making.
const MOMENT: Duration = Duration::from_secs(1);
/// Times a peer may ask for another key exchange method.
const ROUNDS_MAX: u32 = 2;
/// Least and longest pause before a refused rekey is tried again.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);
