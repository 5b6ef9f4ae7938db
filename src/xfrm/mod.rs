//! Backend for Linux: Child SAs over NETLINK_XFRM. Whole batches go out in one send; the kernel
//! works them off before the send returns and answers only what failed, and the last message.
//! Which policies belong to whom when several Child SAs share a selector is `sadb`'s business.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::kernel::entry::IpProtocol;
use crate::kernel::{
    Backend, ChildRemove, Count, Found, KernelError, KernelEvent, KernelRequest, PACKETS_HARD,
    REQID_TAG, SelectorPair, Trap, is_our_priority, is_our_reqid,
};
use crate::sys::netlink::KernelSocket;
use crate::wire::spi::EspSpi;

pub mod algorithm;
mod batch;
pub mod copy;
mod hashing;
pub mod message;
mod relocate;

use algorithm::{Algorithms, Encr, Integ};
use batch::Chunk;
use message::{Answers, Requests, SaEntry, group, kind};

/// The kernel's SADB and SPD through NETLINK_XFRM.
#[derive(Debug)]
pub struct Xfrm {
    requests: KernelSocket,
    events: KernelSocket,
    seq: u32,
    /// Outbound SAs by destination and SPI: the kernel tells expiries of both SAs of a Child SA,
    /// we tell both by the inbound SPI, which alone names the shard.
    outbound: BTreeMap<(IpAddr, EspSpi), EspSpi>,
    sorting: hashing::Sorting,
}

/// What the kernel told of an SA, if it has it.
type Told = Option<Zeroizing<Vec<u8>>>;

/// What the kernel lacks.
#[derive(Debug)]
pub enum Missing {
    /// No NETLINK_XFRM at all.
    Netlink(io::Error),
    /// We may not change the SADB.
    Permission,
    /// NETLINK_XFRM, but no ESP.
    Esp,
    /// ESP, but not the algorithm of the probe.
    Algorithm,
    /// Something else.
    Other(KernelError),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Netlink(error) => {
                return write!(
                    f,
                    "the kernel has no NETLINK_XFRM (CONFIG_XFRM_USER): {error}"
                );
            }
            Self::Other(error) => return write!(f, "the kernel refuses an ESP SA: {error}"),
            Self::Permission => "not allowed to change the kernel's SADB and SPD (CAP_NET_ADMIN)",
            Self::Esp => "the kernel has no ESP (CONFIG_INET_ESP, module esp4)",
            Self::Algorithm => {
                "the kernel has ESP, but not AES-CBC with HMAC-SHA1 (CONFIG_CRYPTO_AUTHENC, ..)"
            }
        };
        f.write_str(text)
    }
}

impl std::error::Error for Missing {}

/// Finds out whether this kernel can do ESP: adds an SA on the loopback address and deletes it.
pub fn probe() -> Result<(), Missing> {
    let mut xfrm = Xfrm::open().map_err(Missing::Netlink)?;
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some(spi) = EspSpi::new(PROBE_REQID) else {
        return Ok(());
    };
    let algorithms = Algorithms {
        encr: Some(Encr::Cipher { name: "cbc(aes)" }),
        integ: Some(Integ {
            name: "hmac(sha1)",
            icv_bits: 96,
        }),
        esn: false,
    };
    let sa = SaEntry {
        source: loopback,
        destination: loopback,
        spi,
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: PROBE_REQID,
        algorithms,
        encr_key: &[0x5a; 16],
        integ_key: &[0x5a; 20],
        encap: None,
        soft: Duration::ZERO,
        // Should we die between adding and deleting, the kernel deletes it.
        hard: Duration::from_secs(10),
        bytes_soft: 0,
        bytes_hard: 0,
        replay_window: 0,
        mark: None,
        if_id: None,
        offload: None,
    };
    let mut requests = Requests::with_capacity(1024);
    let seq = xfrm.next_seq();
    requests.new_sa(seq, &sa);
    let added = xfrm
        .transact(&mut requests, seq)
        .map(|errors| errors.get(&seq).copied());
    match added.unwrap_or_else(Some) {
        None | Some(libc::EEXIST) => {}
        Some(libc::EPERM | libc::EACCES) => return Err(Missing::Permission),
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => return Err(Missing::Esp),
        Some(libc::ENOSYS | libc::ENOENT | libc::EOPNOTSUPP) => return Err(Missing::Algorithm),
        Some(errno) => {
            return Err(Missing::Other(KernelError {
                errno,
                action: "add SA",
            }));
        }
    }
    let mut requests = Requests::with_capacity(1024);
    let seq = xfrm.next_seq();
    requests.del_sa(seq, loopback, spi, IpProtocol::Esp);
    match xfrm
        .transact(&mut requests, seq)
        .map(|errors| errors.get(&seq).copied())
    {
        Ok(_) => Ok(()),
        Err(errno) => Err(Missing::Other(KernelError {
            errno,
            action: "delete SA",
        })),
    }
}

impl Xfrm {
    /// Opens both sockets and subscribes to expiries, changed mappings and packets without an SA.
    pub fn open() -> io::Result<Self> {
        Self::with_event_buffer(EVENT_BUFFER)
    }

    /// The same with room for `bytes` of events that wait; what does not fit is lost, and told.
    pub fn with_event_buffer(bytes: u32) -> io::Result<Self> {
        let requests = KernelSocket::netlink(libc::NETLINK_XFRM)?;
        requests.enlarge_buffers(REQUEST_BUFFER);
        requests.set_receive_timeout(ANSWER_AFTER_MAX)?;
        // Kernels before 4.3 do not know it; then errors are longer, nothing else.
        let _ = requests.cap_acks();
        let events = KernelSocket::netlink(libc::NETLINK_XFRM)?;
        events.enlarge_buffers(bytes);
        events.set_nonblocking(true)?;
        events.join(group::EXPIRE)?;
        events.join(group::MAPPING)?;
        events.join(group::ACQUIRE)?;
        Ok(Self {
            requests,
            events,
            seq: 0,
            outbound: BTreeMap::new(),
            sorting: hashing::Sorting::default(),
        })
    }

    /// Deletes the SAs and policies that an earlier life of this daemon left behind, known by
    /// their reqid, or by what `pfkey` marks its own with. Returns how many there were.
    ///
    /// Only for start-up: a policy without its SA would block its traffic for ever.
    pub fn sweep(&mut self) -> io::Result<usize> {
        let mut policies = Vec::new();
        self.dump(kind::GET_POLICY, |answer| policies.extend(answer.policy()))?;
        policies.retain(|p| is_our_reqid(p.reqid) || is_our_priority(p.priority));
        policies.retain(|p| p.direction < FIRST_SOCKET_DIRECTION);
        let mut sas = Vec::new();
        self.dump(kind::GET_SA, |answer| sas.extend(answer.sa()))?;
        sas.retain(|sa| is_our_reqid(sa.reqid) || sa.packets_hard == u64::from(PACKETS_HARD));
        for part in policies.chunks(SWEEP_MAX) {
            let mut requests = Requests::with_capacity(0);
            let mut seq = 0;
            for policy in part {
                seq = self.next_seq();
                requests.del_policy_raw(seq, policy);
            }
            self.transact(&mut requests, seq)
                .map_err(io::Error::from_raw_os_error)?;
        }
        for part in sas.chunks(SWEEP_MAX) {
            let mut requests = Requests::with_capacity(0);
            let mut seq = 0;
            for sa in part {
                seq = self.next_seq();
                requests.del_sa(seq, sa.destination, sa.spi, sa.protocol);
            }
            self.transact(&mut requests, seq)
                .map_err(io::Error::from_raw_os_error)?;
        }
        Ok(policies.len() + sas.len())
    }

    /// Reads a whole table.
    fn dump(
        &mut self,
        message_kind: u16,
        mut each: impl FnMut(&message::Answer<'_>),
    ) -> io::Result<()> {
        let seq = self.next_seq();
        let mut requests = Requests::with_capacity(64);
        requests.dump(seq, message_kind);
        self.requests.send(requests.bytes())?;
        let mut buffer = vec![0; RECEIVE_BUFFER];
        loop {
            let len = self.requests.receive(&mut buffer)?;
            for answer in Answers(buffer.get(..len).unwrap_or_default()) {
                if answer.seq != seq {
                    continue;
                }
                match (answer.kind, answer.errno()) {
                    (kind::DONE, _) => return Ok(()),
                    (_, Some(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                    (_, None) => each(&answer),
                }
            }
        }
    }

    fn next_seq(&mut self) -> u32 {
        // 0 marks events.
        self.seq = self.seq.checked_add(1).unwrap_or(1);
        self.seq
    }

    /// Sends requests whose last one has number `last`; returns the errno of each that failed.
    /// `Err`: the whole send failed, or its answers were lost.
    fn transact(&self, requests: &mut Requests, last: u32) -> Result<BTreeMap<u32, i32>, i32> {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        requests.acknowledge_last();
        self.requests.send(requests.bytes()).map_err(errno)?;
        let mut errors = BTreeMap::new();
        let mut buffer = vec![0; RECEIVE_BUFFER];
        loop {
            let len = self.requests.receive(&mut buffer).map_err(errno)?;
            for answer in Answers(buffer.get(..len).unwrap_or_default()) {
                let Some(code) = answer.errno() else { continue };
                if code != 0 {
                    errors.insert(answer.seq, code);
                }
                if answer.seq == last {
                    return Ok(errors);
                }
            }
        }
    }

    /// What the kernel knows of these SAs, keys and all; `None` where it has no such SA.
    fn read_sas(&mut self, names: &[(IpAddr, EspSpi, IpProtocol)]) -> Result<Vec<Told>, i32> {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let mut requests = Requests::with_capacity(names.len() * 64);
        let mut places = BTreeMap::new();
        for (place, (destination, spi, protocol)) in names.iter().enumerate() {
            let seq = self.next_seq();
            requests.get_sa(seq, *destination, *spi, *protocol);
            places.insert(seq, place);
        }
        let mut told: Vec<Told> = names.iter().map(|_| None).collect();
        self.requests.send(requests.bytes()).map_err(errno)?;
        let mut buffer = Zeroizing::new(vec![0; RECEIVE_BUFFER]);
        while !places.is_empty() {
            let len = self.requests.receive(&mut buffer).map_err(errno)?;
            for answer in Answers(buffer.get(..len).unwrap_or_default()) {
                let Some(place) = places.remove(&answer.seq) else {
                    continue;
                };
                if let Some(slot) = told.get_mut(place) {
                    *slot = answer.whole_sa().map(|sa| Zeroizing::new(sa.to_vec()));
                }
            }
        }
        Ok(told)
    }

    /// The reqid of an SA in the kernel, if it is there.
    fn reqid_of(&mut self, destination: IpAddr, spi: EspSpi, protocol: IpProtocol) -> Option<u32> {
        let seq = self.next_seq();
        let mut requests = Requests::with_capacity(64);
        requests.get_sa(seq, destination, spi, protocol);
        self.requests.send(requests.bytes()).ok()?;
        let mut buffer = vec![0; RECEIVE_BUFFER];
        loop {
            let len = self.requests.receive(&mut buffer).ok()?;
            for answer in Answers(buffer.get(..len).unwrap_or_default()) {
                if answer.seq == seq {
                    return answer.sa().map(|sa| sa.reqid);
                }
            }
        }
    }
}

impl Backend for Xfrm {
    fn name(&self) -> &'static str {
        "xfrm"
    }

    fn apply(&mut self, batch: &[KernelRequest]) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let is_move =
                |request: &&KernelRequest| matches!(request, KernelRequest::MoveChild { .. });
            let moves = rest.iter().take_while(is_move).count();
            if moves > 0 {
                let (now, later) = rest.split_at(moves.min(relocate::MOVES_MAX));
                let mut part = relocate::run(self, now);
                for (request, result) in now.iter().zip(&part) {
                    self.remember(request, result.is_ok());
                }
                results.append(&mut part);
                rest = later;
                continue;
            }
            let mut chunk = Chunk::new();
            let mut taken = 0;
            for request in rest.iter().take_while(|request| !is_move(request)) {
                if chunk.is_full() {
                    break;
                }
                chunk.push(self, request);
                taken += 1;
            }
            let (now, later) = rest.split_at(taken);
            let mut part = chunk.run(self);
            self.replace_leftovers(now, &mut part);
            for (request, result) in now.iter().zip(&part) {
                self.remember(request, result.is_ok());
            }
            results.append(&mut part);
            rest = later;
        }
        results
    }

    fn set_policies(&mut self, child: &ChildRemove) -> Result<(), KernelError> {
        let mut chunk = Chunk::new();
        chunk.push_policies(self, child);
        chunk.run(self).pop().unwrap_or(Ok(()))
    }

    fn set_trap(&mut self, trap: &Trap, reqid: u32) -> Result<(), KernelError> {
        let mut chunk = Chunk::new();
        chunk.push_trap(self, trap, reqid);
        chunk.run(self).pop().unwrap_or(Ok(()))
    }

    fn remove_policies(&mut self, pairs: &[SelectorPair]) -> Result<(), KernelError> {
        let mut result = Ok(());
        for some in pairs.chunks(SWEEP_MAX / 2) {
            let mut chunk = Chunk::new();
            for pair in some {
                chunk.push_no_policies(self, pair);
            }
            result = chunk.run(self).into_iter().fold(result, Result::and);
        }
        result
    }

    fn count(&mut self, children: &[ChildRemove]) -> Vec<Count> {
        let mut counts = Vec::with_capacity(children.len());
        for some in children.chunks(COUNTS_MAX) {
            counts.extend(self.count_some(some));
        }
        counts
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.events.as_raw_fd())
    }

    fn poll_events(&mut self, events: &mut Vec<KernelEvent>) -> bool {
        let mut dropped = false;
        let mut buffer = vec![0; EVENT_MESSAGE_MAX];
        for _ in 0..EVENTS_PER_POLL_MAX {
            let len = match self.events.receive(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    dropped = true;
                    continue;
                }
                Err(_) => break,
            };
            for answer in Answers(buffer.get(..len).unwrap_or_default()) {
                if let Some((destination, spi, hard)) = answer.expire() {
                    let inbound = self.outbound.get(&(destination, spi)).copied();
                    events.push(KernelEvent::Expire {
                        spi: inbound.unwrap_or(spi),
                        hard,
                    });
                } else if let Some((spi, remote)) = answer.mapping() {
                    events.push(KernelEvent::Mapping { spi, remote });
                } else if let Some(reqid) = answer.acquire() {
                    events.push(KernelEvent::Acquire { reqid });
                }
            }
        }
        dropped
    }

    fn survey(&mut self, now: SystemTime, each: &mut dyn FnMut(Found)) -> Result<(), KernelError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let outbound = std::mem::take(&mut self.outbound);
        let dumped = self.dump(kind::GET_SA, |answer| {
            if let Some(reqid) = answer.larva().filter(|reqid| is_our_reqid(*reqid)) {
                return each(Found::Wanted { reqid });
            }
            let Some(sa) = answer.sa().filter(|sa| is_our_reqid(sa.reqid)) else {
                return;
            };
            if sa.protocol == IpProtocol::Comp {
                // Those of IPComp are no more than companions.
                return;
            }
            let inbound = outbound.get(&(sa.destination, sa.spi)).copied();
            each(Found::Sa {
                destination: sa.destination,
                spi: sa.spi,
                aged: answer.is_aged(now).then_some(inbound.unwrap_or(sa.spi)),
            });
        });
        self.outbound = outbound;
        dumped.map_err(|error| KernelError {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            action: "read SAs",
        })
    }
}

impl Xfrm {
    /// An SA that stands in the way and is ours is a leftover of an earlier life: `sadb` never
    /// adds what it knows to be there. It goes, and the request is tried once more.
    fn replace_leftovers(
        &mut self,
        requests: &[KernelRequest],
        results: &mut [Result<(), KernelError>],
    ) {
        for (request, result) in requests.iter().zip(results) {
            let KernelRequest::AddChild { child, .. } = request else {
                continue;
            };
            let Err(KernelError {
                errno: libc::EEXIST,
                ..
            }) = result
            else {
                continue;
            };
            let names = &child.names;
            let mut cleared = false;
            for (destination, spi, protocol) in sas(names) {
                if !self
                    .reqid_of(destination, spi, protocol)
                    .is_some_and(is_our_reqid)
                {
                    continue;
                }
                let mut deletion = Requests::with_capacity(64);
                let seq = self.next_seq();
                deletion.del_sa(seq, destination, spi, protocol);
                cleared |= self
                    .transact(&mut deletion, seq)
                    .is_ok_and(|errors| errors.is_empty());
            }
            if cleared {
                let mut chunk = Chunk::new();
                chunk.push(self, request);
                *result = chunk.run(self).pop().unwrap_or(Ok(()));
            }
        }
    }

    fn remember(&mut self, request: &KernelRequest, done: bool) {
        match request {
            KernelRequest::AddChild { child, .. } | KernelRequest::AddOutbound { child } => {
                if done {
                    let names = &child.names;
                    self.outbound
                        .insert((names.remote, names.outbound_spi), names.inbound_spi);
                }
            }
            KernelRequest::MoveChild { child, to } => {
                let key = (child.remote, child.outbound_spi);
                if done && self.outbound.remove(&key).is_some() {
                    self.outbound
                        .insert((to.remote, child.outbound_spi), child.inbound_spi);
                }
            }
            KernelRequest::DeleteChild { child } => {
                let key = (child.remote, child.outbound_spi);
                if self.outbound.get(&key) == Some(&child.inbound_spi) {
                    self.outbound.remove(&key);
                }
            }
            KernelRequest::Count { .. }
            | KernelRequest::LastCount { .. }
            | KernelRequest::Couple { .. }
            | KernelRequest::SetTraps { .. }
            | KernelRequest::Grant { .. }
            | KernelRequest::Return { .. } => {}
        }
    }

    /// Where the kernel does not answer, nothing is counted.
    fn count_some(&mut self, children: &[ChildRemove]) -> Vec<Count> {
        let mut names = Vec::with_capacity(children.len() * 2);
        for child in children {
            names.extend(sas(child).take(2));
        }
        let told = self.read_sas(&names).unwrap_or_default();
        let volume = |told: &Told| {
            let body = told.as_ref()?;
            let (kind, seq) = (kind::NEW_SA, 0);
            message::Answer { kind, seq, body }.volume()
        };
        let pairs = children.iter().zip(told.chunks(2));
        let count = |(child, both): (&ChildRemove, &[Told])| {
            Some(Count {
                spi: child.inbound_spi,
                inbound: both.first().and_then(volume)?,
                // Not there before the peer is ready for it.
                outbound: both.get(1).and_then(volume).unwrap_or_default(),
            })
        };
        pairs.filter_map(count).collect()
    }
}

/// The SAs of a Child SA: inbound and outbound, then those of IPComp in the same order.
fn sas(child: &ChildRemove) -> impl Iterator<Item = (IpAddr, EspSpi, IpProtocol)> + use<> {
    let main = IpProtocol::from(child.protocol);
    let both = [
        (child.local, child.inbound_spi, main),
        (child.remote, child.outbound_spi, main),
    ];
    let comps = child.comps();
    let comps = comps.map(|(address, cpi)| (address, cpi.as_spi(), IpProtocol::Comp));
    both.into_iter().chain(comps)
}

/// Reqid and SPI of the SA that `probe` adds: tagged as ours, so that `sweep`
/// finds it should we die in between.
const PROBE_REQID: u32 = REQID_TAG | 0x4b_0001;
/// Buffers of the request socket: one chunk out, an error for each message of it in.
const REQUEST_BUFFER: u32 = 4 << 20;
/// Room for about 8000 events; a mass expiry is read faster than that comes in.
const EVENT_BUFFER: u32 = 8 << 20;
/// The kernel answers within the send; this is for a kernel that lost the answer.
const ANSWER_AFTER_MAX: Duration = Duration::from_secs(5);
/// The longest datagram of a dump is 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// An EXPIRE carries the whole SA, less than 1 KiB.
const EVENT_MESSAGE_MAX: usize = 8 * 1024;
/// Events taken in one go before requests get their turn again.
const EVENTS_PER_POLL_MAX: usize = 4096;
/// Child SAs counted in one send: the answers, less than 1 KiB for each SA, fit our buffer.
const COUNTS_MAX: usize = 256;
/// Deletions in one send of `sweep`.
const SWEEP_MAX: usize = 256;
/// Directions from this number on are socket policies, which die with their socket.
const FIRST_SOCKET_DIRECTION: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_says_in_one_line_what_is_missing() {
        // Whatever kernel runs this: either it can, or the answer names the part.
        if let Err(missing) = probe() {
            let line = missing.to_string();
            assert!(!line.contains('\n') && line.len() > 20, "{line}");
            assert!(!matches!(missing, Missing::Other(_)), "{line}");
        }
    }
}
