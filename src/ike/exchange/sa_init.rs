//! IKE_SA_INIT as responder (RFC 7296, 1.2): cookie, proposal choice, our key exchange value.
//! The Diffie-Hellman computation itself waits for IKE_AUTH.

use std::sync::Arc;

use super::super::Role;
use super::super::context::Context;
use super::super::error::{Answer, Error, Trust};
use super::super::event::Path;
use super::super::ike_sa::{IkeSa, Tag};
use super::super::natt::{self, NatState};
use super::super::negotiate::{self, Chosen, Rules};
use super::super::path_mtu;
use super::super::state::{HalfOpen, Keying, State};
use crate::policy::select::{self, PolicyKey};
use crate::policy::{Auth, Policy};
use crate::time::Now;
use crate::wire::registry::{CertEncoding, ExchangeType, HashAlgorithm, NotifyType, ProtocolId};
use crate::wire::spi::IkeSpi;
use crate::wire::{
    CertReq, DecodeError, DecodeErrorKind, Flags, Header, Ke, Message, Notify, Payload, Proposal,
    encode_message, nonce_without_cookie,
};

/// A request, read but not yet acted upon.
struct Request<'a> {
    spi: IkeSpi,
    payloads: &'a [Payload<'a>],
    proposals: &'a [Proposal<'a>],
    ke: Ke<'a>,
    nonce: &'a [u8],
}

/// Answers an IKE_SA_INIT request that is no repetition. `None`: no state was made, and what the
/// initiator may know was sent.
pub fn respond(
    cx: &mut Context,
    now: Now,
    path: Path,
    header: &Header,
    bytes: &[u8],
    half_open_count: usize,
) -> Option<IkeSa> {
    let spi = header.initiator_spi?;
    if half_open_count >= cx.config.settings.half_open_max as usize {
        cx.stats.half_open_refused += 1;
        let (tag, remote) = (Tag(Some(spi)), path.remote);
        cx.dropped(format_args!(
            "{tag}: IKE_SA_INIT request 0 from {remote} dropped: {half_open_count} half-open IKE SAs"
        ));
        return None;
    }
    if cx.backlog.is_full(now.mono) {
        cx.stats.half_open_kernel += 1;
        let (tag, remote, waiting) = (Tag(Some(spi)), path.remote, cx.backlog.waiting());
        cx.dropped(format_args!(
            "{tag}: IKE_SA_INIT request 0 from {remote} dropped: the kernel is behind, {waiting} Child SAs wait"
        ));
        return None;
    }
    let demand_cookie = half_open_count >= cx.config.settings.cookie_threshold as usize;
    match answer(cx, now, path, spi, bytes, demand_cookie) {
        Ok(sa) => sa,
        Err(error) => {
            refuse(cx, now, path, spi, bytes.len(), &error);
            None
        }
    }
}

fn answer(
    cx: &mut Context,
    now: Now,
    path: Path,
    spi: IkeSpi,
    bytes: &[u8],
    demand_cookie: bool,
) -> Result<Option<IkeSa>, Error> {
    // Before anything else of it is read.
    if demand_cookie && let Some(nonce) = nonce_without_cookie(bytes) {
        challenge(cx, now, path, spi, nonce);
        return Ok(None);
    }
    let message = Message::decode(bytes)?;
    let nonce = message
        .payloads
        .iter()
        .find_map(|p| {
            if let Payload::Nonce(nonce) = p {
                Some(*nonce)
            } else {
                None
            }
        })
        .ok_or(Error::Missing("nonce"))?;
    // Also for its length: with all three payloads a request is longer than a challenge.
    let request = read(spi, &message.payloads, nonce)?;
    if demand_cookie && !cookie_holds(cx, now, path, spi, nonce, &message.payloads) {
        challenge(cx, now, path, spi, nonce);
        return Ok(None);
    }
    if !select::is_known(&cx.config, path.local.ip(), path.remote.ip()) {
        cx.stats.no_policy += 1;
        let key = select::anybody(path.local.ip(), path.remote.ip());
        return Err(Error::NoPolicy(explained(cx, &key)));
    }
    let (policy, chosen) = choose_policy(cx, path, &request)?;
    let method = chosen.ke().ok_or(Error::NoProposal)?;
    if method != request.ke.method {
        return Err(Error::InvalidKe(method));
    }
    let sa = accept(cx, now, path, &request, policy, chosen, bytes)?;
    Ok(Some(sa))
}

/// Asks the initiator to come again with a COOKIE.
fn challenge(cx: &mut Context, now: Now, path: Path, spi: IkeSpi, nonce: &[u8]) {
    let peer = path.remote.ip();
    let cookie = cx.cookies.make(&cx.provider, now, peer, spi, nonce);
    cx.stats.cookies_sent += 1;
    send_notify(cx, path, spi, NotifyType::COOKIE, &cookie);
}

fn cookie_holds(
    cx: &mut Context,
    now: Now,
    path: Path,
    spi: IkeSpi,
    nonce: &[u8],
    payloads: &[Payload<'_>],
) -> bool {
    // RFC 7296, 2.6: the cookie comes first.
    let Some(Payload::Notify(notify)) = payloads.first() else {
        return false;
    };
    if notify.kind != NotifyType::COOKIE {
        return false;
    }
    let peer = path.remote.ip();
    let holds = cx
        .cookies
        .check(&cx.provider, now, peer, spi, nonce, notify.data);
    if !holds {
        cx.stats.cookies_wrong += 1;
        let (tag, remote) = (Tag(Some(spi)), path.remote);
        cx.dropped(format_args!(
            "{tag}: IKE_SA_INIT request 0 from {remote}: cookie does not hold"
        ));
    }
    holds
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "payloads of no use here are passed over"
)]
fn read<'a>(
    spi: IkeSpi,
    payloads: &'a [Payload<'a>],
    nonce: &'a [u8],
) -> Result<Request<'a>, Error> {
    let mut proposals = None;
    let mut ke = None;
    let mut nonces = 0;
    for payload in payloads {
        let repeated = match payload {
            Payload::Sa(list) => proposals.replace(list.as_slice()).is_some(),
            Payload::Ke(value) => ke.replace(*value).is_some(),
            Payload::Nonce(_) => {
                nonces += 1;
                nonces > 1
            }
            _ => false,
        };
        if repeated {
            let kind = DecodeErrorKind::Duplicate;
            return Err(DecodeError {
                what: "payload",
                kind,
            }
            .into());
        }
    }
    let proposals = proposals.ok_or(Error::Missing("SA"))?;
    let ke = ke.ok_or(Error::Missing("KE"))?;
    Ok(Request {
        spi,
        payloads,
        proposals,
        ke,
        nonce,
    })
}

fn choose_policy(
    cx: &mut Context,
    path: Path,
    request: &Request<'_>,
) -> Result<(Arc<Policy>, Chosen), Error> {
    let rules = Rules {
        ke_sent: Some(request.ke.method),
        ignore_ke: false,
    };
    let provider = cx.provider;
    let choose = |policy: &Policy| {
        let chosen = negotiate::choose(&policy.ike_proposals, request.proposals, rules)?;
        chosen.ike_suite(&provider).is_some().then_some(chosen)
    };
    let key = PolicyKey {
        fits: &|policy| match choose(policy) {
            Some(_) => Ok(()),
            None => Err("has no common IKE proposal"),
        },
        ..select::anybody(path.local.ip(), path.remote.ip())
    };
    let config = cx.config.clone();
    let found = select::select(&config, &key)
        .and_then(|policy| choose(policy).map(|chosen| (policy.clone(), chosen)));
    found.ok_or_else(|| {
        cx.stats.sa_proposals_negotiate_failures += 1;
        Error::NoCommonProposal(explained(cx, &key))
    })
}

/// Why no policy applies, unless nobody will read it.
fn explained(cx: &Context, key: &PolicyKey<'_>) -> String {
    if !cx.drops.is_open() {
        return String::new();
    }
    format!(": {}", select::explain(&cx.config, key))
}

fn accept(
    cx: &mut Context,
    now: Now,
    path: Path,
    request: &Request<'_>,
    policy: Arc<Policy>,
    chosen: Chosen,
    bytes: &[u8],
) -> Result<IkeSa, Error> {
    let suite = chosen.ike_suite(&cx.provider).ok_or(Error::NoProposal)?;
    let exchange = cx
        .provider
        .key_exchange(request.ke.method)
        .ok_or(Error::NoProposal)?;
    exchange.check_public(request.ke.data)?;
    let kex = exchange.answer(&mut cx.rng, request.ke.data)?;
    let nonce_r = cx.rng.bytes::<NONCE_LEN>().to_vec();
    let own_spi = cx.draw_ike_spi();
    let nat = detect_nat(cx, path, request, &policy);
    let fragmentation = cx.config.settings.fragmentation
        && has_notify(request.payloads, NotifyType::FRAGMENTATION_SUPPORTED);
    let peer_hashes = signature_hashes(request.payloads);
    let ppk = has_notify(request.payloads, NotifyType::USE_PPK)
        && select::has_ppk(&cx.config, path.local.ip(), path.remote.ip());
    let facts = Facts {
        nat: nat.supported,
        fragmentation,
        ppk,
        rounds: select::has_then(&cx.config, path.local.ip(), path.remote.ip()),
        hashes: !peer_hashes.is_empty(),
    };
    let response = build(
        cx,
        path,
        request,
        &policy,
        &chosen,
        own_spi,
        kex.public(),
        &nonce_r,
        facts,
    );
    cx.transmit(path, response.clone());
    let half_open = HalfOpen {
        suite,
        chosen,
        keying: Keying::Pending(kex, request.ke.data.to_vec()),
        nonce_i: request.nonce.to_vec(),
        nonce_r,
        request: bytes.to_vec(),
        response,
        peer_hashes,
        ppk,
        eap: None,
        rounds: None,
        asking: None,
    };
    let state = State::AwaitAuthRequest(Box::new(half_open));
    let peer_spi = Some(request.spi);
    let role = Role::OriginalResponder;
    let mut sa = IkeSa::new(own_spi, peer_spi, role, policy, path, state, now.mono);
    sa.nat = nat;
    sa.fragmentation = fragmentation;
    sa.redirectable = has_notify(request.payloads, NotifyType::REDIRECT_SUPPORTED)
        || has_notify(request.payloads, NotifyType::REDIRECTED_FROM);
    cx.stats.sa_created += 1;
    Ok(sa)
}

/// Whether there is a NAT between us, or we pretend that there is.
fn detect_nat(cx: &Context, path: Path, request: &Request<'_>, policy: &Policy) -> NatState {
    if cx.options.natt_off {
        return NatState::default();
    }
    let (payloads, spis) = (request.payloads, (request.spi, None));
    let mut nat = natt::detect(&cx.provider, payloads, spis, path.local, path.remote);
    nat.local |= (cx.options.natt_only || policy.natt) && nat.supported;
    nat
}

/// What the initiator announced and so will be answered.
#[derive(Clone, Copy)]
struct Facts {
    nat: bool,
    fragmentation: bool,
    ppk: bool,
    rounds: bool,
    hashes: bool,
}

impl Facts {
    /// What of it is said by a notification without data.
    fn abilities<'a>(&self) -> impl Iterator<Item = Payload<'a>> + use<'a> {
        let all = [
            // RFC 6023: whoever wants to may come without a Child SA.
            (true, NotifyType::CHILDLESS_IKEV2_SUPPORTED),
            (self.ppk, NotifyType::USE_PPK),
            (self.rounds, NotifyType::MULTIPLE_AUTH_SUPPORTED),
        ];
        let said = all.into_iter().filter(|(said, _)| *said);
        said.map(|(_, kind)| status(kind, &[]))
    }
}

fn build(
    cx: &mut Context,
    path: Path,
    request: &Request<'_>,
    policy: &Policy,
    chosen: &Chosen,
    own_spi: IkeSpi,
    public: &[u8],
    nonce: &[u8],
    facts: Facts,
) -> Vec<u8> {
    let spis = (request.spi, Some(own_spi));
    let force = cx.options.natt_only || policy.natt;
    let hashes = natt::hashes_to_send(
        &cx.provider,
        &mut cx.rng,
        force,
        spis,
        path.local,
        path.remote,
    );
    let hash_list = hash_list(cx.provider.signature_hashes);
    let requests = cert_requests(cx, policy);
    let proposal = Proposal {
        number: chosen.number,
        protocol: ProtocolId::IKE,
        spi: &[],
        transforms: chosen.transforms.iter().copied().collect(),
    };
    let mut payloads = Vec::with_capacity(12);
    payloads.extend([
        Payload::Sa([proposal].into()),
        Payload::Ke(Ke {
            method: request.ke.method,
            data: public,
        }),
        Payload::Nonce(nonce),
    ]);
    if cx.config.settings.vendor_id {
        payloads.push(Payload::VendorId(VENDOR_ID));
    }
    if facts.fragmentation {
        payloads.push(status(NotifyType::FRAGMENTATION_SUPPORTED, &[]));
    }
    if facts.nat {
        payloads.extend(natt::notifications(&hashes));
    }
    payloads.extend(facts.abilities());
    if facts.hashes {
        payloads.push(status(NotifyType::SIGNATURE_HASH_ALGORITHMS, &hash_list));
    }
    for (encoding, data) in &requests {
        payloads.push(Payload::CertReq(CertReq {
            encoding: *encoding,
            data,
        }));
    }
    let header = header(request.spi, Some(own_spi), true);
    let announced = cx.announced.to(facts.hashes);
    payloads.extend(announced.map(|data| status(NotifyType::SUPPORTED_AUTH_METHODS, data)));
    let mut out = Vec::with_capacity(512);
    encode_message(&header, &payloads, &mut out);
    // RFC 9593 only helps a peer to choose: no handshake may fail for it.
    if announced.is_some() && out.len() > path_mtu::unfragmented_max(cx, path.remote.is_ipv4()) {
        payloads.pop();
        out.clear();
        encode_message(&header, &payloads, &mut out);
    }
    out
}

fn cert_requests(cx: &Context, policy: &Policy) -> Vec<(CertEncoding, Vec<u8>)> {
    let mut all = (0..=policy.then.len()).map(|number| policy.round(number).1);
    if all.any(|auth| matches!(auth, Auth::PublicKey(_))) {
        crate::auth::own::request(&cx.store, cx.config.settings.ocsp.is_some())
    } else {
        Vec::new()
    }
}

/// Sends the unprotected answer this error has in the table, and counts it.
fn refuse(cx: &mut Context, now: Now, path: Path, spi: IkeSpi, request_len: usize, error: &Error) {
    if matches!(error, Error::Decode(_) | Error::Missing(_)) {
        cx.stats.decode_errors += 1;
    }
    cx.stats.msg_rcvd_dropped += 1;
    let local = path.local;
    let remote = path.remote;
    let tag = Tag(Some(spi));
    cx.dropped(format_args!(
        "{tag}: IKE_SA_INIT from {remote} to {local}: {error}, failed to negotiate IKE SA"
    ));
    let (Answer::Notify(kind, data) | Answer::NotifyAndClose(kind, data)) =
        error.answer(Trust::Clear)
    else {
        return;
    };
    // Never more bytes back than came: nothing to gain for a reflector.
    let answer_len = Header::LEN + 8 + data.len();
    // An honest initiator that guessed the wrong method must not wait, however many come at once.
    let rationed = !matches!(error, Error::InvalidKe(_));
    if answer_len > request_len || (rationed && !cx.hints.take(now.mono)) {
        return;
    }
    cx.stats.notifies_sent += 1;
    send_notify(cx, path, spi, kind, &data);
}

fn send_notify(cx: &mut Context, path: Path, spi: IkeSpi, kind: NotifyType, data: &[u8]) {
    let mut out = cx.out.blank();
    encode_message(&header(spi, None, true), &[status(kind, data)], &mut out);
    cx.transmit(path, out);
}

/// The header of an IKE_SA_INIT message; `response` tells the role.
pub fn header(spi_i: IkeSpi, spi_r: Option<IkeSpi>, response: bool) -> Header {
    Header {
        initiator_spi: Some(spi_i),
        responder_spi: spi_r,
        next_payload: Default::default(),
        major: 2,
        minor: 0,
        exchange: ExchangeType::IKE_SA_INIT,
        flags: Flags {
            initiator: !response,
            version: false,
            response,
        },
        message_id: 0,
        length: 0,
    }
}

/// A notification that concerns the IKE SA.
pub fn status(kind: NotifyType, data: &[u8]) -> Payload<'_> {
    Payload::Notify(Notify {
        protocol: ProtocolId::NONE,
        spi: &[],
        kind,
        data,
    })
}

/// Whether a notification of this type is there.
pub fn has_notify(payloads: &[Payload<'_>], kind: NotifyType) -> bool {
    find_notify(payloads, kind).is_some()
}

/// The data of the first notification of this type.
pub fn find_notify<'a>(payloads: &[Payload<'a>], kind: NotifyType) -> Option<&'a [u8]> {
    payloads.iter().find_map(|payload| {
        let Payload::Notify(notify) = payload else {
            return None;
        };
        (notify.kind == kind).then_some(notify.data)
    })
}

/// The hash algorithms of a SIGNATURE_HASH_ALGORITHMS notification (RFC 7427, 4).
pub fn signature_hashes(payloads: &[Payload<'_>]) -> Vec<HashAlgorithm> {
    let data = find_notify(payloads, NotifyType::SIGNATURE_HASH_ALGORITHMS).unwrap_or(&[]);
    data.chunks_exact(2)
        .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
        .map(|pair| HashAlgorithm(u16::from_be_bytes(pair)))
        .take(HASHES_MAX)
        .collect()
}

/// The data of our SIGNATURE_HASH_ALGORITHMS notification.
pub fn hash_list(hashes: &[HashAlgorithm]) -> Vec<u8> {
    hashes
        .iter()
        .flat_map(|hash| hash.0.to_be_bytes())
        .collect()
}

/// Length of our nonces: even, as OpenIKED insists, and half of the longest PRF key or more.
pub const NONCE_LEN: usize = 32;
/// What `set vendorid` sends.
pub const VENDOR_ID: &[u8] = concat!("iked-rs-", env!("CARGO_PKG_VERSION")).as_bytes();
/// Hash algorithms of a peer that are remembered; more than exist.
const HASHES_MAX: usize = 16;
