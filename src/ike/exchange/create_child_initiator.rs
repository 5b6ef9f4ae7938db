//! CREATE_CHILD_SA (RFC 7296, 1.3) as initiator: a Child SA in the place of one whose lifetime ends.

use std::sync::Arc;
use std::time::Duration;

use super::super::agenda::Task;
use super::super::child_sa::{self, ChildSa, Fate, Mode};
use super::super::context::Context;
use super::super::error::Error;
use super::super::ike_sa::{self, IkeSa};
use super::super::ipcomp;
use super::super::message;
use super::super::narrow::{self, Dynamic, Narrowed};
use super::super::natt;
use super::super::negotiate::{self, Chosen, Rules, offers};
use super::super::own::{self, ChildSent, Installing, Own};
use super::super::state::State;
use super::super::trap;
use super::auth::add_child;
use super::create_child::up;
use super::sa_init::{NONCE_LEN, has_notify};
use crate::crypto::keymat::ChildKeys;
use crate::crypto::{ActiveKeyExchange, SecretBytes};
use crate::kernel::{Cpis, KernelError, SelectorPair};
use crate::policy::{Flow, FlowEnd, IpNet, Policy};
use crate::time::Now;
use crate::wire::registry::{ExchangeType, KeId, NotifyType};
use crate::wire::spi::{Cpi, EspSpi};
use crate::wire::{Ke, Notify, Payload, TrafficSelector};

/// Asks for a Child SA in the place of the one with this inbound SPI.
pub fn rekey(cx: &mut Context, sa: &mut IkeSa, now: Now, inbound_spi: EspSpi) {
    let refused = sa.no_additional_sas;
    let answering = up(sa).and_then(|up| up.answering.as_ref()?.rekeys);
    let Some(old) = sa.child_by_inbound(inbound_spi) else {
        return;
    };
    if old.fate != Fate::Living || refused {
        return;
    }
    if answering == Some(inbound_spi) || old.outbound_waits.is_some() {
        // The peer is replacing it itself, or has not shown yet that it has it.
        return sa
            .agenda
            .plan(now.mono + MOMENT, Task::RekeyChild(inbound_spi));
    }
    let sent = ask_like(old, Some(inbound_spi));
    if replaces_one_that_stands(sa, inbound_spi) {
        // The peer made it, and deletes the old one as soon as it has our answer.
        return sa
            .agenda
            .plan(now.mono + MOMENT, Task::RekeyChild(inbound_spi));
    }
    if has_twin(sa, inbound_spi) {
        // One of two that do the same, however they came about, is enough.
        return own::doom(sa, inbound_spi, now.mono);
    }
    begin(cx, sa, now, sent);
}

/// Whether the Child SA whose place this one took is still there.
fn replaces_one_that_stands(sa: &mut IkeSa, inbound_spi: EspSpi) -> bool {
    let replaced = sa.child_by_inbound(inbound_spi).and_then(|c| c.replaces);
    let old = replaced.and_then(|old| sa.child_by_inbound(old));
    old.is_some_and(|old| old.fate == Fate::Replaced)
}

/// Whether another Child SA of this IKE SA is for the same selectors.
fn has_twin(sa: &IkeSa, inbound_spi: EspSpi) -> bool {
    let mut children = sa.children.iter();
    let Some(this) = children.find(|child| child.names.inbound_spi == inbound_spi) else {
        return false;
    };
    let mut others = sa.children.iter();
    others.any(|other| {
        let same = other.names.selectors == this.names.selectors;
        same && other.fate == Fate::Living && other.names.inbound_spi != inbound_spi
    })
}

/// Asks for the Child SA that an active policy wants and does not have.
pub fn make(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    let offered = offered_selectors(sa);
    make_with(cx, sa, now, offered);
}

/// Asks for a Child SA with the selectors of one flow of the policy.
pub fn make_for(cx: &mut Context, sa: &mut IkeSa, now: Now, pair: SelectorPair) {
    let mut flows = sa.policy.flows.iter();
    let flow = flows.find(|flow| trap::pairs_of(&sa.policy, flow).any(|own| own == pair));
    let Some(flow) = flow.cloned() else {
        return;
    };
    let select = |end| narrow::selector_of(end, flow.protocol, Dynamic::default());
    if let (Some(ours), Some(theirs)) = (select(&flow.from), select(&flow.to)) {
        make_with(cx, sa, now, (vec![ours], vec![theirs]));
    }
}

/// Asks for a Child SA with the first pair of selectors alone, for a peer that refuses more with
/// SINGLE_PAIR_REQUIRED (RFC 7296, 2.9). The other flows get theirs when packets ask for them.
pub fn make_single(cx: &mut Context, sa: &mut IkeSa, now: Now) {
    let offered = first_pair(&offered_selectors(sa));
    make_with(cx, sa, now, offered);
}

fn first_pair((ours, theirs): &Offer) -> Offer {
    let first = |list: &[TrafficSelector]| list.iter().take(1).copied().collect();
    (first(ours), first(theirs))
}

type Offer = (Vec<TrafficSelector>, Vec<TrafficSelector>);

fn make_with(cx: &mut Context, sa: &mut IkeSa, now: Now, offered: Offer) {
    if sa.no_additional_sas {
        return;
    }
    let sent = ChildSent {
        nonce: Vec::new(),
        kex: None,
        // Drawn when it is sent.
        inbound_spi: EspSpi::MAX,
        rekeys: None,
        reqid: cx.next_reqid(),
        offered,
        transport: sa.policy.transport,
        ipcomp: sa.policy.ipcomp,
        cpi: None,
        rounds: 0,
        rival: None,
    };
    begin(cx, sa, now, sent);
}

/// The flows of the policy as we offer them. Where we have no address yet, `dynamic` asks for any,
/// and the responder narrows.
fn own_flows(sa: &IkeSa) -> Vec<Flow> {
    let Dynamic { v4, v6 } = sa.dynamic();
    let settle = |end: FlowEnd| {
        let (address, any) = if end.net.is_ipv4() {
            (v4, IpNet::ANY_V4)
        } else {
            (v6, IpNet::ANY_V6)
        };
        let dynamic = end.dynamic && address.is_some();
        let net = if end.dynamic { any } else { end.net };
        FlowEnd {
            net,
            dynamic,
            ..end
        }
    };
    let flows = sa.policy.flows.iter();
    flows
        .map(|flow| Flow {
            from: settle(flow.from),
            to: settle(flow.to),
            ..flow.clone()
        })
        .collect()
}

/// The selectors of our flows: ours, the peer's.
pub fn offered_selectors(sa: &IkeSa) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for flow in own_flows(sa) {
        for (end, list) in [(flow.from, &mut ours), (flow.to, &mut theirs)] {
            let selector = narrow::selector_of(&end, flow.protocol, sa.dynamic());
            list.extend(selector.filter(|s| !list.contains(s)));
        }
    }
    (ours, theirs)
}

fn ask_like(old: &ChildSa, rekeys: Option<EspSpi>) -> ChildSent {
    ChildSent {
        nonce: Vec::new(),
        kex: None,
        inbound_spi: old.names.inbound_spi,
        rekeys,
        reqid: old.names.reqid,
        offered: old.selectors(),
        transport: old.names.transport,
        ipcomp: old.names.ipcomp.is_some(),
        cpi: None,
        rounds: 0,
        rival: None,
    }
}

fn begin(cx: &mut Context, sa: &mut IkeSa, now: Now, mut sent: ChildSent) {
    sent.kex = match first_method(cx, &sa.policy) {
        Some(method) => draw(cx, method),
        None => None,
    };
    sent.inbound_spi = cx.draw_esp_spi();
    if sent.ipcomp {
        sent.cpi = ipcomp::draw(cx, sa, sent.offered.0.iter().chain(&sent.offered.1));
    }
    send(cx, sa, now, sent);
}

type Pair = (KeId, Box<dyn ActiveKeyExchange>);

fn draw(cx: &mut Context, method: KeId) -> Option<Pair> {
    let pair = cx.provider.key_exchange(method)?.start(&mut cx.rng).ok()?;
    Some((method, pair))
}

/// The method that our Child SAs prefer; `None`: they have no key exchange of their own.
fn first_method(cx: &Context, policy: &Policy) -> Option<KeId> {
    negotiate::methods(&policy.child_proposals)
        .take_while(|&id| id != KeId::NONE)
        .find(|&id| cx.provider.key_exchange(id).is_some())
}

fn send(cx: &mut Context, sa: &mut IkeSa, now: Now, mut sent: ChildSent) {
    sent.nonce = cx.rng.bytes::<NONCE_LEN>().to_vec();
    let policy = Arc::clone(&sa.policy);
    let spi = sent.inbound_spi.to_bytes();
    let old = sent.rekeys.map(EspSpi::to_bytes);
    let ipcomp = sent.cpi.map(ipcomp::data);
    let mut payloads = Vec::new();
    if let Some(old) = &old {
        payloads.push(Payload::Notify(Notify {
            protocol: policy.protocol,
            spi: old,
            kind: NotifyType::REKEY_SA,
            data: &[],
        }));
    }
    payloads.extend(child_sa::mode(
        policy.protocol,
        sent.transport,
        ipcomp.as_ref(),
    ));
    let proposals = negotiate::offer(&policy.child_proposals, &spi, sent.kex.is_some());
    payloads.extend([Payload::Sa(proposals), Payload::Nonce(&sent.nonce)]);
    if let Some((method, pair)) = &sent.kex {
        payloads.push(Payload::Ke(Ke {
            method: *method,
            data: pair.public(),
        }));
    }
    payloads.push(Payload::TsI(sent.offered.0.clone().into()));
    payloads.push(Payload::TsR(sent.offered.1.clone().into()));
    let exchange = ExchangeType::CREATE_CHILD_SA;
    let id = message::request(cx, sa, exchange, &payloads, now.mono);
    drop(payloads);
    if let (Some(_), Some(up)) = (id, up(sa)) {
        up.own = Own::Child(Box::new(sent));
    }
}

/// Takes the response.
pub fn conclude(
    cx: &mut Context,
    sa: &mut IkeSa,
    now: Now,
    mut sent: ChildSent,
    payloads: &[Payload<'_>],
) {
    let pair = sent.kex.take();
    match answer(sa, &sent, pair, payloads) {
        Ok(made) => decide(cx, sa, now, sent, made),
        Err(error) => {
            if payloads.iter().any(|p| matches!(p, Payload::Sa(_))) {
                // The peer has made what we cannot take.
                own::disown(sa, sent.inbound_spi, now.mono);
            }
            refused(cx, sa, now, sent, &error);
        }
    }
}

/// What the peer's answer makes of our request.
struct Made {
    child: ChildSa,
    keys: ChildKeys,
    /// The peer's nonce.
    nonce: Vec<u8>,
}

fn answer(
    sa: &IkeSa,
    sent: &ChildSent,
    pair: Option<Pair>,
    payloads: &[Payload<'_>],
) -> Result<Made, Error> {
    let rules = Rules {
        ke_sent: pair.as_ref().map(|(method, _)| *method),
        ignore_ke: pair.is_none(),
    };
    let Granted {
        chosen,
        narrowed,
        mode,
    } = granted(sa, &sent.offered, sent.cpi, payloads, rules)?;
    // Where we offered to do without as well, the peer may have chosen that.
    let method = chosen.ke().filter(|&method| method != KeId::NONE);
    if method.is_some() && method != rules.ke_sent {
        return Err(Error::Answer("key exchange method"));
    }
    let (nonce, ke) = nonce_and_ke(payloads);
    let nonce = nonce.ok_or(Error::Missing("nonce"))?;
    let shared = match pair.filter(|_| method.is_some()) {
        Some((method, pair)) => {
            let ke = ke.filter(|ke| ke.method == method);
            let ke = ke.ok_or(Error::Missing("KE"))?;
            Some(pair.complete(ke.data).map_err(Error::BadKe)?)
        }
        None => None,
    };
    let outbound_spi = child_sa::outbound_spi(&chosen).ok_or(Error::Answer("SPI"))?;
    let State::Established(up) = &sa.state else {
        return Err(Error::Answer("state"));
    };
    let keys = child_sa::derive_keys(
        up.suite.prf,
        up.keys.sk_d.expose(),
        shared.as_ref().map(SecretBytes::expose),
        (&sent.nonce, nonce),
        &chosen.transforms,
        true,
    )?;
    let spi = sent.inbound_spi;
    let mode = Mode {
        transport: mode.transport && sent.transport,
        ..mode
    };
    let child = ChildSa::new(sa, &chosen, spi, outbound_spi, sent.reqid, narrowed, mode);
    Ok(Made {
        child: ChildSa {
            replaces: sent.rekeys,
            ..child
        },
        keys,
        nonce: nonce.to_vec(),
    })
}

/// The Nonce and KE payloads of a response.
pub fn nonce_and_ke<'a>(payloads: &[Payload<'a>]) -> (Option<&'a [u8]>, Option<Ke<'a>>) {
    let (mut nonce, mut ke) = (None, None);
    for payload in payloads {
        if let Payload::Nonce(value) = payload {
            nonce = Some(*value);
        } else if let Payload::Ke(value) = payload {
            ke = Some(*value);
        }
    }
    (nonce, ke)
}

/// The first error notification of a response.
pub fn error_in(payloads: &[Payload<'_>]) -> Option<Error> {
    payloads.iter().find_map(|payload| {
        let Payload::Notify(notify) = payload else {
            return None;
        };
        match (notify.kind, <[u8; 2]>::try_from(notify.data)) {
            (NotifyType::INVALID_KE_PAYLOAD, Ok(method)) => {
                Some(Error::InvalidKe(KeId(u16::from_be_bytes(method))))
            }
            (kind, _) => kind.is_error().then_some(Error::Reported(kind)),
        }
    })
}

/// What a response grants.
pub struct Granted {
    /// The proposal.
    pub chosen: Chosen,
    /// The selectors.
    pub narrowed: Narrowed,
    /// Tunnel or transport mode, compressed or not.
    pub mode: Mode,
}

/// What a response grants, if it lies within what we offered. `cpi` is ours, where we offered to
/// compress.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "payloads of no use here are passed over"
)]
pub fn granted(
    sa: &IkeSa,
    offered: &(Vec<TrafficSelector>, Vec<TrafficSelector>),
    cpi: Option<Cpi>,
    payloads: &[Payload<'_>],
    rules: Rules,
) -> Result<Granted, Error> {
    let policy = &sa.policy;
    if let Some(error) = error_in(payloads) {
        return Err(error);
    }
    let mut proposals = None;
    let (mut ts_i, mut ts_r) = (None, None);
    let mut transport = false;
    for payload in payloads {
        match payload {
            Payload::Sa(list) => proposals = Some(list.as_slice()),
            Payload::TsI(list) => ts_i = Some(list.as_slice()),
            Payload::TsR(list) => ts_r = Some(list.as_slice()),
            Payload::Notify(notify) => transport |= notify.kind == NotifyType::USE_TRANSPORT_MODE,
            _ => {}
        }
    }
    let proposals = proposals
        .filter(|list| list.len() == 1)
        .ok_or(Error::Missing("SA"))?;
    let chosen = negotiate::choose(&policy.child_proposals, proposals, rules)
        .ok_or(Error::Answer("proposal"))?;
    let (ts_i, ts_r) = (
        ts_i.ok_or(Error::Missing("TSi"))?,
        ts_r.ok_or(Error::Missing("TSr"))?,
    );
    let transport = transport && policy.transport;
    let (ts_i, ts_r) = if transport {
        natt::as_packets_have_them(sa.nat, sa.path, ts_i, ts_r)
    } else {
        (ts_i.to_vec(), ts_r.to_vec())
    };
    let within = |granted: &[TrafficSelector], offered: &[TrafficSelector]| {
        granted
            .iter()
            .all(|g| offered.iter().any(|o| narrow::contains(o, g)))
    };
    if !within(&ts_i, &offered.0) || !within(&ts_r, &offered.1) {
        return Err(Error::Answer("traffic selectors"));
    }
    // Of all combinations of the two lists only those that our flows have.
    let flows = own_flows(sa);
    let narrowed = narrow::narrow(&flows, &ts_i, &ts_r, sa.dynamic());
    let narrowed = Narrowed {
        local: ts_i,
        remote: ts_r,
        ..narrowed.ok_or(Error::TrafficSelectors)?
    };
    let mode = Mode {
        transport,
        ipcomp: compression(sa, cpi, payloads)?,
    };
    Ok(Granted {
        chosen,
        narrowed,
        mode,
    })
}

/// The CPIs, where we offered to compress and the peer does. What it says unasked is passed over.
fn compression(
    sa: &IkeSa,
    cpi: Option<Cpi>,
    payloads: &[Payload<'_>],
) -> Result<Option<Cpis>, Error> {
    let Some(inbound) = cpi.filter(|_| has_notify(payloads, NotifyType::IPCOMP_SUPPORTED)) else {
        return Ok(None);
    };
    let outbound = ipcomp::said(payloads);
    let pair = outbound.and_then(|outbound| ipcomp::pair(sa, inbound, outbound));
    pair.map(Some).ok_or(Error::Answer("IPCOMP_SUPPORTED"))
}

/// The Child SA exists at both ends: installs it, unless the peer's simultaneous rekey of the same
/// one wins (RFC 7296, 2.8.1: the exchange with the lowest nonce loses).
fn decide(cx: &mut Context, sa: &mut IkeSa, now: Now, sent: ChildSent, made: Made) {
    let Made { child, keys, nonce } = made;
    let lowest = own::lower(&sent.nonce, &nonce).to_vec();
    if sent.rival.is_some_and(|rival| lowest < rival.nonce) {
        return ours_goes(cx, sa, now, child);
    }
    if !cx.coupled {
        let child = child.keep(&keys, now.mono);
        return stands(cx, sa, now, child, sent.rekeys);
    }
    let policy = Arc::clone(&sa.policy);
    let install = child_sa::install(cx, &policy, &child, keys, sa.grant);
    let request = child_sa::request_install(cx, install);
    if let Some(up) = up(sa) {
        up.own = Own::Install(Box::new(Installing {
            request,
            until: now.mono + ike_sa::KERNEL_WAIT_MAX,
            child,
            rekeys: sent.rekeys,
            lowest,
            rival: None,
        }));
    }
}

/// The peer's exchange has won; its new Child SA stays, and we delete ours.
fn ours_goes(cx: &mut Context, sa: &mut IkeSa, now: Now, child: ChildSa) {
    cx.info(format_args!("{}: simultaneous rekey: ours goes", sa.tag()));
    let spi = child.names.inbound_spi;
    add_child(cx, sa, child);
    own::doom(sa, spi, now.mono);
}

/// The kernel answered.
pub fn installed(cx: &mut Context, sa: &mut IkeSa, now: Now, result: Result<(), KernelError>) {
    let Some(up) = up(sa) else { return };
    let Own::Install(installing) = std::mem::take(&mut up.own) else {
        return;
    };
    let Installing {
        mut child,
        rekeys,
        lowest,
        rival,
        ..
    } = *installing;
    match result {
        Ok(()) => {
            child.loaded = true;
            // The peer's request came while the kernel was at work.
            if rival.as_ref().is_some_and(|rival| lowest < rival.nonce) {
                return ours_goes(cx, sa, now, child);
            }
            stands(cx, sa, now, child, rekeys);
        }
        Err(error) => {
            cx.stats.kernel_failures += 1;
            cx.warn(format_args!("{}: no Child SA: kernel: {error}", sa.tag()));
            let spi = child.names.inbound_spi;
            add_child(cx, sa, child);
            own::doom(sa, spi, now.mono);
            if let (Some(old), None) = (rekeys, rival) {
                retry(cx, sa, now, old);
            }
        }
    }
}

fn stands(cx: &mut Context, sa: &mut IkeSa, now: Now, child: ChildSa, rekeys: Option<EspSpi>) {
    add_child(cx, sa, child);
    if let Some(old) = rekeys {
        own::doom(sa, old, now.mono);
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else is wrong, it is tried again"
)]
fn refused(cx: &mut Context, sa: &mut IkeSa, now: Now, sent: ChildSent, error: &Error) {
    cx.info(format_args!("{}: CREATE_CHILD_SA: {error}", sa.tag()));
    match error {
        Error::InvalidKe(wanted)
            if sent.rounds < ROUNDS_MAX && offers(&sa.policy.child_proposals, *wanted) =>
        {
            if let Some(pair) = draw(cx, *wanted) {
                let again = ChildSent {
                    kex: Some(pair),
                    rounds: sent.rounds + 1,
                    ..sent
                };
                return send(cx, sa, now, again);
            }
        }
        Error::Reported(NotifyType::SINGLE_PAIR_REQUIRED)
            if sent.rounds < ROUNDS_MAX && first_pair(&sent.offered) != sent.offered =>
        {
            let again = ChildSent {
                offered: first_pair(&sent.offered),
                rounds: sent.rounds + 1,
                ..sent
            };
            return begin(cx, sa, now, again);
        }
        Error::Reported(NotifyType::NO_ADDITIONAL_SAS) => {
            sa.no_additional_sas = true;
            return;
        }
        Error::Reported(NotifyType::CHILD_SA_NOT_FOUND) => return vanished(cx, sa, now, sent),
        _ => {}
    }
    if let Some(old) = sent.rekeys {
        retry(cx, sa, now, old);
    }
}

/// Plans the next try: not at once (RFC 7296, 2.25), not all of them at the same moment, and not in
/// step with a peer that we refuse as it refuses us.
pub fn retry(cx: &mut Context, sa: &mut IkeSa, now: Now, old: EspSpi) {
    let lifetime = sa.policy.child_lifetime.as_millis() / 100;
    let pause = u64::try_from(lifetime).unwrap_or(u64::MAX);
    let pause = pause.clamp(RETRY_MIN, RETRY_MAX);
    let pause = Duration::from_millis(pause / 2 + cx.rng.below(2 * pause));
    sa.agenda.plan(now.mono + pause, Task::RekeyChild(old));
}

/// The peer does not have the Child SA that we wanted to replace: it goes without a word, and where
/// the peer has made none in its place we ask for a new one (RFC 7296, 2.25.1).
fn vanished(cx: &mut Context, sa: &mut IkeSa, now: Now, sent: ChildSent) {
    let Some(spi) = sent.rekeys else { return };
    let replaced = has_twin(sa, spi) || sa.children.iter().any(|child| child.replaces == Some(spi));
    let Some(old) = sa.take_child(|child| child.names.inbound_spi == spi) else {
        return;
    };
    let again = ask_like(&old, None);
    let before = old.replaces;
    own::gone(cx, sa, now, old);
    let revived = before.and_then(|before| sa.child_by_inbound(before));
    let stands = revived.is_some_and(|child| child.fate == Fate::Living);
    if !replaced && !stands {
        begin(cx, sa, now, again);
    }
}

/// Times a peer may ask for another key exchange method.
const ROUNDS_MAX: u32 = 2;
/// The wait for something that is about to be decided.
const MOMENT: Duration = Duration::from_secs(1);
/// Least and longest pause in milliseconds before a refused rekey is tried again.
const RETRY_MIN: u64 = 500;
const RETRY_MAX: u64 = 60_000;
