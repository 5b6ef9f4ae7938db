//! The OpenBSD dialect of PF_KEY version 2 (net/pfkeyv2.h, API version 2; pfkeyv2 in
//! sys/net/pfkeyv2_parsemessage.c): flows instead of policies, IPComp bound to ESP by GRPSPIS, and
//! words for what Linux has none: authenticated encryption, extended sequence numbers, pf(4) tags,
//! enc(4) taps, routing domains. It is made of the same SAs and selector pairs as the Linux dialect.
//! No sockets here.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use self::words::{direction_number, extension, sa_type};
use super::frame::{Limits, Request, extension as base};
use crate::kernel::entry::{self, Direction, IpProtocol, Template};
use crate::kernel::{ChildInstall, ChildRemove, SelectorPair};
use crate::policy::Identity;
use crate::wire::registry::{EncrId, IntegId, ProtocolId};
use crate::wire::spi::EspSpi;
use crate::wire::{Transform, TransformId};

pub mod told;
mod words;

/// Message types, SADB_* and SADB_X_*.
pub mod kind {
    pub use super::super::frame::kind::*;

    /// Add a flow.
    pub const ADDFLOW: u8 = 12;
    /// Delete a flow.
    pub const DELFLOW: u8 = 13;
    /// Have two SAs applied one after the other.
    pub const GRPSPIS: u8 = 14;
    /// Ask for the flow that an `ACQUIRE` is about.
    pub const ASKPOLICY: u8 = 15;
}

/// What names a message: its answer has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Of the request.
    pub seq: u32,
    /// Of this process; OpenBSD refuses any other.
    pub pid: u32,
}

/// The algorithms of a Child SA by OpenBSD's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms {
    encr: u8,
    integ: u8,
    esn: bool,
}

impl Algorithms {
    /// Those of an SA of IPComp: its algorithm has the place of the encryption.
    pub const DEFLATE: Self = Self {
        encr: 2,
        integ: 0,
        esn: false,
    };

    /// Reads the chosen transforms; `None` for what OpenBSD does not have.
    pub fn of(protocol: ProtocolId, transforms: &[Transform]) -> Option<Self> {
        let (mut encr, mut integ, mut esn) = (None, None, false);
        for transform in transforms {
            match transform.id {
                TransformId::Encr(id) => encr = Some(encr_number(id)?),
                TransformId::Integ(IntegId::NONE) => {}
                TransformId::Integ(id) => integ = Some(integ_number(id)?),
                TransformId::Esn(id) => esn = id.0 == 1,
                TransformId::Ke(_) | TransformId::Prf(_) => {}
                TransformId::Unknown(..) => return None,
            }
        }
        let (encr, integ) = match (protocol, encr, integ) {
            (ProtocolId::ESP, Some((encr, true)), None) => (encr, 0),
            (ProtocolId::ESP, Some((encr, false)), Some(integ)) => (encr, integ),
            (ProtocolId::AH, None, Some(integ)) => (0, integ),
            _ => return None,
        };
        Some(Self { encr, integ, esn })
    }
}

/// SADB_EALG_* and SADB_X_EALG_*, and whether it authenticates as well.
fn encr_number(id: EncrId) -> Option<(u8, bool)> {
    match id {
        EncrId::DES3 => Some((3, false)),
        EncrId::CAST => Some((6, false)),
        EncrId::BLOWFISH => Some((7, false)),
        EncrId::NULL => Some((11, false)),
        EncrId::AES_CBC => Some((12, false)),
        EncrId::AES_CTR => Some((13, false)),
        EncrId::AES_GCM_16 => Some((20, true)),
        EncrId::AES_GMAC => Some((21, true)),
        EncrId::CHACHA20_POLY1305 => Some((22, true)),
        _ => None,
    }
}

/// SADB_AALG_* and SADB_X_AALG_*.
fn integ_number(id: IntegId) -> Option<u8> {
    match id {
        IntegId::HMAC_MD5_96 => Some(2),
        IntegId::HMAC_SHA1_96 => Some(3),
        IntegId::HMAC_SHA2_256_128 => Some(5),
        IntegId::HMAC_SHA2_384_192 => Some(6),
        IntegId::HMAC_SHA2_512_256 => Some(7),
        _ => None,
    }
}

/// One SA with its algorithms by OpenBSD's numbers.
pub type SaEntry<'a> = entry::SaEntry<'a, Algorithms>;

/// The name of a pf(4) tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a>(&'a str);

impl<'a> Tag<'a> {
    /// `None` where pf(4) would not have it: 1 to 63 bytes, none of them NUL.
    pub fn new(name: &'a str) -> Option<Self> {
        let fits = (1..TAG_LEN_MAX).contains(&name.len()) && !name.contains('\0');
        fits.then_some(Self(name))
    }
}

/// Routing domains of a Child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domains {
    /// Of what is encrypted.
    pub inner: u16,
    /// Of the encrypted packets.
    pub outer: u16,
}

/// What OpenBSD takes of a Child SA beside what every kernel takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// Ours.
    pub local_id: Option<&'a Identity>,
    /// The peer's.
    pub remote_id: Option<&'a Identity>,
    /// What packets from the peer are tagged with for pf(4).
    pub tag: Option<Tag<'a>>,
    /// Unit of the enc(4) interface where packets show themselves.
    pub tap: Option<u32>,
    /// Routing domains, if not those of this process.
    pub domains: Option<Domains>,
}

/// `SADB_REGISTER` for one SA type.
pub fn register(numbers: Numbers, protocol: IpProtocol) -> Request {
    begin(kind::REGISTER, protocol, numbers).end()
}

/// `SADB_GETSPI`: reserves an SPI, or CPI, of this range at the destination.
pub fn get_spi(
    numbers: Numbers,
    protocol: IpProtocol,
    (source, destination): (IpAddr, IpAddr),
    range: RangeInclusive<u32>,
) -> Request {
    let mut request = begin(kind::GETSPI, protocol, numbers);
    request.extension(extension::SPIRANGE, |out| {
        out.extend_from_slice(&range.start().to_ne_bytes());
        out.extend_from_slice(&range.end().to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
    });
    request.host(base::ADDRESS_SRC, source);
    request.host(base::ADDRESS_DST, destination);
    request.end()
}

/// `SADB_ADD`. `direction`: of its packets, in or out.
pub fn add(
    numbers: Numbers,
    sa: &SaEntry<'_>,
    direction: Direction,
    extras: &Extras<'_>,
) -> Request {
    whole(kind::ADD, numbers, sa, direction, extras).end()
}

/// `SADB_UPDATE`: of an SA that is there, or whose SPI is reserved. `sent`: its last sequence number,
/// from one who had it before.
pub fn update(
    numbers: Numbers,
    sa: &SaEntry<'_>,
    direction: Direction,
    extras: &Extras<'_>,
    sent: Option<u64>,
) -> Request {
    let mut request = whole(kind::UPDATE, numbers, sa, direction, extras);
    if let Some(count) = sent {
        request.extension(extension::REPLAY, |out| {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&count.to_ne_bytes());
        });
    }
    request.end()
}

fn whole(
    message_kind: u8,
    numbers: Numbers,
    sa: &SaEntry<'_>,
    direction: Direction,
    extras: &Extras<'_>,
) -> Request {
    let mut request = begin(message_kind, sa.protocol, numbers);
    let encapsulated = sa.encap.filter(|_| sa.protocol == IpProtocol::Esp);
    let flags = [
        (!sa.transport, FLAG_TUNNEL),
        (encapsulated.is_some(), FLAG_UDPENCAP),
        (sa.algorithms.esn, FLAG_ESN),
    ];
    let flags = flags.into_iter().filter(|(set, _)| *set);
    let flags = flags.fold(0, |flags, (_, flag)| flags | flag);
    let window = sa.replay_window.min(REPLAY_WINDOW_MAX) as u8;
    request.bsd_sa(base::SA, sa.spi, window, sa.algorithms, flags);
    request.host(base::ADDRESS_SRC, sa.source);
    request.host(base::ADDRESS_DST, sa.destination);
    let limits = |bytes, time| Limits {
        packets: 0,
        bytes,
        time,
    };
    let (soft, hard) = (
        limits(sa.bytes_soft, sa.soft),
        limits(sa.bytes_hard, sa.hard),
    );
    if (soft, hard) != (Limits::default(), Limits::default()) {
        request.lifetime(base::LIFETIME_SOFT, soft);
        request.lifetime(base::LIFETIME_HARD, hard);
    }
    let incoming = direction != Direction::Out;
    if let Some((source_port, destination_port)) = encapsulated {
        // The peer's, whichever way.
        let port = if incoming {
            source_port
        } else {
            destination_port
        };
        request.extension(extension::UDPENCAP, |out| {
            out.extend_from_slice(&port.to_be_bytes());
            out.extend_from_slice(&[0; 2]);
        });
    }
    // A key without bits is refused: NULL encryption has none.
    for (number, key) in [
        (base::KEY_ENCRYPT, sa.encr_key),
        (base::KEY_AUTH, sa.integ_key),
    ] {
        if !key.is_empty() {
            request.key(number, key);
        }
    }
    request.extras(incoming, extras);
    request.domains(sa_domains(sa.protocol, direction, extras));
    request
}

/// `SADB_DELETE`.
pub fn delete(
    numbers: Numbers,
    (source, destination): (IpAddr, IpAddr),
    (protocol, spi): (IpProtocol, EspSpi),
    domain: Option<u16>,
) -> Request {
    about(
        kind::DELETE,
        numbers,
        (source, destination),
        (protocol, spi),
        domain,
    )
}

/// `SADB_GET`.
pub fn get(
    numbers: Numbers,
    (source, destination): (IpAddr, IpAddr),
    (protocol, spi): (IpProtocol, EspSpi),
    domain: Option<u16>,
) -> Request {
    about(
        kind::GET,
        numbers,
        (source, destination),
        (protocol, spi),
        domain,
    )
}

fn about(
    message_kind: u8,
    numbers: Numbers,
    (source, destination): (IpAddr, IpAddr),
    (protocol, spi): (IpProtocol, EspSpi),
    domain: Option<u16>,
) -> Request {
    let mut request = begin(message_kind, protocol, numbers);
    request.bsd_sa(base::SA, spi, 0, NO_ALGORITHMS, 0);
    request.host(base::ADDRESS_SRC, source);
    request.host(base::ADDRESS_DST, destination);
    request.domains(domain.map(|domain| (domain, 0)));
    request.end()
}

/// `SADB_X_GRPSPIS`: packets go out through the first SA, then through the second; they come in the
/// other way round.
pub fn group(
    numbers: Numbers,
    first: (IpProtocol, EspSpi, IpAddr),
    second: (IpProtocol, EspSpi, IpAddr),
    domains: Option<(u16, u16)>,
) -> Request {
    let mut request = begin(kind::GRPSPIS, first.0, numbers);
    request.bsd_sa(base::SA, first.1, 0, NO_ALGORITHMS, 0);
    request.host(base::ADDRESS_DST, first.2);
    request.bsd_sa(extension::SA2, second.1, 0, NO_ALGORITHMS, 0);
    request.host(extension::DST2, second.2);
    request.protocol(extension::SATYPE2, sa_type(second.0), 0);
    request.domains(domains);
    request.end()
}

/// `SADB_X_ADDFLOW`: what matches needs an SA with the template's peer, and waits for it. What is
/// forwarded goes by the flows in and out.
pub fn add_flow(
    numbers: Numbers,
    direction: Direction,
    pair: &SelectorPair,
    template: &Template,
    extras: &Extras<'_>,
) -> Request {
    let mut request = flow_head(kind::ADDFLOW, numbers, direction, template);
    let peer = match direction {
        Direction::Out => template.destination,
        Direction::In | Direction::Forward => template.source,
    };
    request.host(base::ADDRESS_DST, peer);
    request.flow_selector(direction, pair);
    request.identities(extras.local_id, extras.remote_id);
    request.domains(extras.domains.map(|domains| (domains.inner, 0)));
    request.end()
}

/// `SADB_X_DELFLOW`.
pub fn delete_flow(
    numbers: Numbers,
    direction: Direction,
    pair: &SelectorPair,
    template: &Template,
    domains: Option<Domains>,
) -> Request {
    let mut request = flow_head(kind::DELFLOW, numbers, direction, template);
    request.flow_selector(direction, pair);
    request.domains(domains.map(|domains| (domains.inner, 0)));
    request.end()
}

/// A flow is of the type of the SA that packets meet first.
fn flow_head(
    message_kind: u8,
    numbers: Numbers,
    direction: Direction,
    template: &Template,
) -> Request {
    let first = template.layers(Direction::Out).next();
    let protocol = first.map_or(template.protocol, |layer| layer.protocol);
    let mut request = begin(message_kind, protocol, numbers);
    request.protocol(
        extension::FLOW_TYPE,
        FLOW_TYPE_REQUIRE,
        direction_number(direction),
    );
    request
}

/// `SADB_X_ASKPOLICY`: which flow an `ACQUIRE` with this sequence number is about.
pub fn ask_policy(numbers: Numbers, acquire: u32) -> Request {
    let mut request = Request::begin(kind::ASKPOLICY, SA_TYPE_UNSPEC, numbers.seq, numbers.pid);
    request.extension(extension::POLICY, |out| {
        out.extend_from_slice(&acquire.to_ne_bytes());
    });
    request.end()
}

/// The messages that install a Child SA, in their order: what comes in before what goes out, and
/// flows last. `None` for what OpenBSD has no words for.
pub fn install(
    mut next: impl FnMut() -> Numbers,
    child: &ChildInstall,
    extras: &Extras<'_>,
) -> Option<Vec<Request>> {
    let names = &child.names;
    let unknown = child.mark.is_some() || child.if_id.is_some() || child.offload.is_some();
    let algorithms = Algorithms::of(names.protocol, &child.transforms).filter(|_| !unknown)?;
    let mut comps = entry::compression(child, Algorithms::DEFLATE);
    let mut requests = Vec::new();
    let both = [
        (Direction::In, entry::inbound(child, algorithms)),
        (Direction::Out, entry::outbound(child, algorithms)),
    ];
    let wanted = if child.receive_only { 1 } else { 2 };
    for (direction, main) in both.iter().take(wanted) {
        let direction = *direction;
        requests.push(add(next(), main, direction, extras));
        if let Some(comp) = comps.next() {
            requests.push(add(next(), &comp, direction, extras));
            let first = (comp.protocol, comp.spi, comp.destination);
            let second = (main.protocol, main.spi, main.destination);
            let domains = extras.domains.map(|domains| {
                let of_main = sa_domains(main.protocol, direction, extras);
                (domains.inner, of_main.map_or(domains.inner, |(own, _)| own))
            });
            requests.push(group(next(), first, second, domains));
        }
    }
    for (direction, pair, template) in flows(names) {
        requests.push(add_flow(next(), direction, &pair, &template, extras));
    }
    Some(requests)
}

/// The messages that remove a whole Child SA, flows first.
pub fn remove(
    mut next: impl FnMut() -> Numbers,
    names: &ChildRemove,
    extras: &Extras<'_>,
) -> Vec<Request> {
    let mut requests = Vec::new();
    for (direction, pair, template) in flows(names) {
        let domains = extras.domains;
        requests.push(delete_flow(next(), direction, &pair, &template, domains));
    }
    let main = IpProtocol::from(names.protocol);
    let mains = [
        (names.local, names.inbound_spi),
        (names.remote, names.outbound_spi),
    ];
    let mains = mains.map(|(to, spi)| (to, main, spi));
    let comps = names.comps();
    let comps = comps.map(|(to, cpi)| (to, IpProtocol::Comp, cpi.as_spi()));
    for (to, protocol, spi) in mains.into_iter().chain(comps) {
        let (direction, from) = if to == names.local {
            (Direction::In, names.remote)
        } else {
            (Direction::Out, names.local)
        };
        let domain = sa_domains(protocol, direction, extras).map(|(own, _)| own);
        requests.push(delete(next(), (from, to), (protocol, spi), domain));
    }
    requests
}

fn flows(names: &ChildRemove) -> impl Iterator<Item = (Direction, SelectorPair, Template)> + use<> {
    entry::policies(names).filter(|(direction, ..)| *direction != Direction::Forward)
}

/// The routing domain of an SA's packets as it finds them, and as it leaves them: IPComp works on
/// what is not yet, or no more, encrypted.
fn sa_domains(
    protocol: IpProtocol,
    direction: Direction,
    extras: &Extras<'_>,
) -> Option<(u16, u16)> {
    let Domains { inner, outer } = extras.domains?;
    Some(match (protocol, direction) {
        (IpProtocol::Comp, _) => (inner, inner),
        (_, Direction::Out) => (inner, outer),
        (_, Direction::In | Direction::Forward) => (outer, inner),
    })
}

fn begin(message_kind: u8, protocol: IpProtocol, numbers: Numbers) -> Request {
    Request::begin(message_kind, sa_type(protocol), numbers.seq, numbers.pid)
}

const NO_ALGORITHMS: Algorithms = Algorithms {
    encr: 0,
    integ: 0,
    esn: false,
};
const SA_TYPE_UNSPEC: u8 = 0;
/// SADB_X_SAFLAGS_TUNNEL.
const FLAG_TUNNEL: u32 = 0x4;
/// SADB_X_SAFLAGS_UDPENCAP.
const FLAG_UDPENCAP: u32 = 0x200;
/// SADB_X_SAFLAGS_ESN.
const FLAG_ESN: u32 = 0x400;
/// SADB_X_FLOW_TYPE_REQUIRE.
const FLOW_TYPE_REQUIRE: u8 = 3;
/// More is refused.
const REPLAY_WINDOW_MAX: u32 = 64;
/// PF_TAG_NAME_SIZE, the NUL at its end counted.
const TAG_LEN_MAX: usize = 64;
#[cfg(test)]
mod tests;
