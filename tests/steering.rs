//! The kernel's choice against ours: real sockets in SO_REUSEPORT groups, bound and steered by the
//! daemon's own code, on the loopback addresses of both families. A small interpreter of classic BPF
//! compares the program with the rule where sockets cannot.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "datagrams of the kernel take real time"
)]

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use iked::crypto::Rng;
use iked::shard::socket::{self, Bound, Ports, ShardSocket};
use iked::steer::{BpfInsn, SHARDS_MAX, ShardId, Steer, Steering, tag_spi};
use socket2::SockRef;

/// The SO_REUSEPORT groups of a daemon with some number of shards.
struct Groups {
    bound: Bound,
    steering: Steering,
}

/// One group: an address family and one of the two ports.
#[derive(Clone, Copy, Debug)]
struct Group {
    address: IpAddr,
    marker: bool,
}

impl Groups {
    fn bind(shards: u8, key: u32) -> Self {
        let steering = Steering::new(shards, key);
        let ports = Ports {
            ike: Some(0),
            natt: Some(0),
        };
        Self {
            bound: socket::bind(&addresses(), ports, &steering).unwrap(),
            steering,
        }
    }

    fn all() -> Vec<Group> {
        let both = |address| [false, true].map(|marker| Group { address, marker });
        addresses().into_iter().flat_map(both).collect()
    }

    fn members(&self, group: Group) -> Vec<&ShardSocket> {
        let in_group = |socket: &&ShardSocket| socket.carries(group.address, group.marker);
        let members = self.bound.shards.iter();
        let members: Vec<_> = members
            .filter_map(|sockets| sockets.iter().find(in_group))
            .collect();
        assert_eq!(
            members.len(),
            usize::from(self.steering.shards()),
            "{group:?}"
        );
        members
    }

    fn port(&self, group: Group) -> SocketAddr {
        self.members(group)[0].bound
    }

    /// Whether the kernel takes ESP out of this group's datagrams.
    fn takes_esp(&self, group: Group) -> bool {
        let name = format!("{}: no ESP in UDP", self.port(group));
        group.marker && !self.bound.warnings.iter().any(|w| w.starts_with(&name))
    }

    /// Sends a datagram and says which member got it. It must be one, and it must get just that.
    fn deliver(&self, group: Group, sender: &UdpSocket, datagram: &[u8]) -> usize {
        sender.send_to(datagram, self.port(group)).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.waiting(group).as_slice() {
                [] => assert!(Instant::now() < until, "lost: {datagram:02x?}"),
                [(member, bytes)] if bytes == datagram => return *member,
                others => panic!("{others:02x?} instead of {datagram:02x?}"),
            }
            thread::yield_now();
        }
    }

    /// What waits in the members' sockets.
    fn waiting(&self, group: Group) -> Vec<(usize, Vec<u8>)> {
        let mut found = Vec::new();
        let mut buffer = [0; 2048];
        for (member, socket) in self.members(group).into_iter().enumerate() {
            let fd = socket.fd();
            while let Ok(len) = (&*SockRef::from(&fd)).read(&mut buffer) {
                found.push((member, buffer[..len].to_vec()));
            }
        }
        found
    }
}

/// The loopback addresses; the second only where the machine has IPv6 at all.
fn addresses() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    if Path::new("/proc/net/if_inet6").exists() {
        addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    addresses
}

/// Datagrams of every sort that the rule tells apart.
struct Source {
    rng: Rng,
    shards: u8,
    marker: bool,
}

impl Source {
    fn below(&mut self, bound: u32) -> u32 {
        self.rng.below(u64::from(bound)) as u32
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        bytes
    }

    /// An IKE datagram whose SPI of ours, chosen by the flag, begins with this tag.
    fn tagged(&mut self, from_initiator: bool, tag: u8) -> Vec<u8> {
        let len = IKE_HEADER_LEN + self.below(100) as usize;
        let mut ike = self.bytes(len);
        if from_initiator {
            ike[FLAGS_AT] |= INITIATOR;
            ike[RESPONDER_SPI_AT] = tag;
        } else {
            ike[FLAGS_AT] &= !INITIATOR;
            ike[0] = tag;
        }
        self.framed(ike)
    }

    fn framed(&self, ike: Vec<u8>) -> Vec<u8> {
        if self.marker {
            [vec![0; MARKER_LEN], ike].concat()
        } else {
            ike
        }
    }

    /// Too short for an IKE header. The kernel takes what looks like ESP, so it does not.
    fn runt(&mut self) -> Vec<u8> {
        let len = self.below(IKE_HEADER_LEN as u32) as usize;
        let bytes = self.bytes(len);
        self.framed(bytes)
    }

    fn any(&mut self) -> Vec<u8> {
        let from_initiator = self.below(2) == 0;
        let shards = u32::from(self.shards);
        match self.below(8) {
            0..4 => {
                let tag = 1 + self.below(shards) as u8;
                self.tagged(from_initiator, tag)
            }
            4 => self.tagged(from_initiator, 0),
            5 => {
                let tag = 255 - self.below(255 - shards) as u8;
                self.tagged(from_initiator, tag)
            }
            6 => self.runt(),
            _ => {
                let len = self.below(200) as usize;
                let bytes = self.bytes(len);
                self.framed(bytes)
            }
        }
    }
}

fn sender(address: IpAddr) -> UdpSocket {
    UdpSocket::bind((address, 0)).unwrap()
}

/// A source address that was not used before, as far as there are more than one.
fn moved(address: IpAddr, step: usize) -> UdpSocket {
    match address {
        IpAddr::V4(_) => sender(IpAddr::from([
            127,
            1,
            (step >> 8) as u8,
            1 + step as u8 % 200,
        ])),
        IpAddr::V6(_) => sender(address),
    }
}

#[test]
fn the_kernel_chooses_the_owner_of_every_datagram() {
    for (shards, seed) in [(1, 1), (2, 2), (4, 3), (7, 4)] {
        let groups = Groups::bind(shards, 0x9e37_79b9 ^ u32::from(seed));
        for group in Groups::all() {
            let senders = [(); 8].map(|()| sender(group.address));
            let marker = group.marker;
            let rng = Rng::from_seed([seed; 32]);
            let mut source = Source {
                rng,
                shards,
                marker,
            };
            let mut owned = 0;
            for step in 0..3000 {
                let datagram = source.any();
                let member = groups.deliver(group, &senders[step % 8], &datagram);
                match groups.steering.owner_of(&datagram, marker) {
                    Steer::Shard(owner) | Steer::Initial(owner) => {
                        assert_eq!(member, usize::from(owner.0), "{group:?} {datagram:02x?}");
                        owned += 1;
                    }
                    // Delivered, and that is all there is to it.
                    Steer::Any => {}
                }
            }
            assert!(owned > 1500, "{group:?}: only {owned} had an owner");
        }
    }
}

#[test]
fn an_spi_meets_its_shard_from_every_address_and_port_and_in_both_roles() {
    let groups = Groups::bind(4, 77);
    let mut rng = Rng::from_seed([5; 32]);
    for group in Groups::all() {
        for shard in 0..4 {
            let spi = tag_spi(rng.u64(), ShardId(shard)).to_bytes();
            for step in 0..50 {
                let mut ike = [0; IKE_HEADER_LEN];
                ike[..8].copy_from_slice(&rng.bytes::<8>());
                ike[RESPONDER_SPI_AT..16].copy_from_slice(&rng.bytes::<8>());
                // The original initiator speaks to the SPI we chose as responder, and back.
                if step % 2 == 0 {
                    ike[RESPONDER_SPI_AT..16].copy_from_slice(&spi);
                    ike[FLAGS_AT] = INITIATOR;
                } else {
                    ike[..8].copy_from_slice(&spi);
                    ike[FLAGS_AT] = 0x20;
                }
                let marker = if group.marker { MARKER_LEN } else { 0 };
                let datagram = [vec![0; marker], ike.to_vec()].concat();
                let member = groups.deliver(group, &moved(group.address, step), &datagram);
                assert_eq!(member, usize::from(shard), "{group:?}");
            }
        }
    }
}

#[test]
fn repetitions_of_a_first_request_meet_and_first_requests_spread() {
    let groups = Groups::bind(4, 0x1234_5678);
    let other = Groups::bind(4, 0x0bad_cafe);
    for group in Groups::all() {
        let rng = Rng::from_seed([6; 32]);
        let mut source = Source {
            rng,
            shards: 4,
            marker: group.marker,
        };
        let (mut counts, mut elsewhere) = ([0; 4], 0);
        for step in 0..400 {
            let request = source.tagged(true, 0);
            let first = groups.deliver(group, &moved(group.address, step), &request);
            // A cookie or another KE payload follows the same SPI, from another port perhaps.
            let retry = [request.as_slice(), &source.bytes(40)].concat();
            let second = groups.deliver(group, &moved(group.address, step + 1), &retry);
            assert_eq!(first, second, "{group:?} {request:02x?}");
            counts[first] += 1;
            let keyed = other.deliver(group, &sender(group.address), &request);
            elsewhere += usize::from(keyed != first);
        }
        assert!(
            counts.iter().all(|&count| count > 50),
            "{group:?}: {counts:?}"
        );
        assert!(
            elsewhere > 100,
            "{group:?}: the key moves only {elsewhere} of 400"
        );
    }
}

#[test]
fn runts_and_forged_tags_are_delivered_and_not_all_to_the_first_member() {
    let groups = Groups::bind(4, 99);
    for group in Groups::all() {
        let rng = Rng::from_seed([7; 32]);
        let mut source = Source {
            rng,
            shards: 4,
            marker: group.marker,
        };
        let (mut runts, mut forged) = ([0; 4], [0; 4]);
        for step in 0..200 {
            let runt = source.runt();
            runts[groups.deliver(group, &moved(group.address, step), &runt)] += 1;
            let tag = 5 + source.below(251) as u8;
            let lie = source.tagged(step % 2 == 0, tag);
            assert_eq!(groups.steering.owner_of(&lie, group.marker), Steer::Any);
            forged[groups.deliver(group, &moved(group.address, step), &lie)] += 1;
        }
        for counts in [runts, forged] {
            assert!(
                counts.iter().all(|&count| count > 10),
                "{group:?}: {counts:?}"
            );
        }
    }
}

#[test]
fn esp_and_keepalives_on_the_natt_port_stay_in_the_kernel_and_ike_is_steered() {
    let groups = Groups::bind(4, 11);
    for group in Groups::all().into_iter().filter(|group| group.marker) {
        let rng = Rng::from_seed([8; 32]);
        let mut source = Source {
            rng,
            shards: 4,
            marker: true,
        };
        let takes_esp = groups.takes_esp(group);
        let from = sender(group.address);
        for step in 0..100 {
            let mut esp = source.bytes(60);
            esp[..4].copy_from_slice(&(0x0100_0000 | source.rng.u32()).to_be_bytes());
            for not_ike in [esp.as_slice(), &[0xff]] {
                if takes_esp {
                    from.send_to(not_ike, groups.port(group)).unwrap();
                } else {
                    groups.deliver(group, &from, not_ike);
                }
            }
            // Had one of them come through, this would not arrive alone.
            for tag in 1..=4 {
                let ike = source.tagged(step % 2 == 0, tag);
                let member = groups.deliver(group, &from, &ike);
                assert_eq!(member, usize::from(tag - 1), "{group:?}");
            }
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(groups.waiting(group), [], "{group:?}");
    }
}

#[test]
fn program_and_rule_agree_on_any_bytes() {
    for shards in [1, 2, 3, 4, 8, 100, SHARDS_MAX] {
        for marker in [false, true] {
            let steering = Steering::new(shards, 0xdead_beef ^ u32::from(shards));
            let program = steering.program(marker);
            let rng = Rng::from_seed([shards; 32]);
            let mut source = Source {
                rng,
                shards,
                marker,
            };
            for _ in 0..20_000 {
                let mut datagram = source.any();
                // ESP, a marker with one wrong byte, a header cut short.
                match source.below(8) {
                    0 if !datagram.is_empty() => {
                        let at = source.below(4.min(datagram.len() as u32)) as usize;
                        datagram[at] = source.bytes(1)[0];
                    }
                    1 => datagram.truncate(source.below(40) as usize),
                    _ => {}
                }
                let index = interpret(&program, &datagram);
                match steering.owner_of(&datagram, marker) {
                    Steer::Shard(owner) | Steer::Initial(owner) => {
                        assert_eq!(index, u32::from(owner.0), "{datagram:02x?}");
                    }
                    Steer::Any => assert!(index >= u32::from(shards), "{datagram:02x?}"),
                }
            }
        }
    }
}

#[test]
fn the_interpreter_ends_with_0_where_the_kernel_would() {
    let load = |code, k| {
        let insn = |code, k| BpfInsn {
            code,
            jt: 0,
            jf: 0,
            k,
        };
        [insn(code, k), insn(0x06, 7)]
    };
    let byte = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let word = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    assert_eq!(interpret(&load(byte, 3), &[1; 4]), 7);
    assert_eq!(interpret(&load(byte, 4), &[1; 4]), 0);
    assert_eq!(interpret(&load(word, 0), &[1; 4]), 7);
    assert_eq!(interpret(&load(word, 1), &[1; 4]), 0);
}

/// Classic BPF as the kernel runs it over a payload, as far as the program needs it.
fn interpret(program: &[BpfInsn], packet: &[u8]) -> u32 {
    let (mut accumulator, mut at) = (0u32, 0);
    loop {
        let BpfInsn { code, jt, jf, k } = program[at];
        at += 1;
        let code = u32::from(code);
        let part = |mask: u32| code & mask;
        match part(0x07) {
            libc::BPF_LD => {
                let start = k as usize;
                let loaded = match (part(0xe0), part(0x18)) {
                    (libc::BPF_LEN, libc::BPF_W) => Some(packet.len() as u32),
                    (libc::BPF_ABS, libc::BPF_B) => packet.get(start).map(|&b| u32::from(b)),
                    (libc::BPF_ABS, libc::BPF_W) => packet
                        .get(start..start + 4)
                        .map(|word| u32::from_be_bytes(word.try_into().unwrap())),
                    other => panic!("load {other:x?}"),
                };
                // Past the end: the program is over, and so socket 0 it is.
                let Some(loaded) = loaded else { return 0 };
                accumulator = loaded;
            }
            libc::BPF_ALU => {
                accumulator = match part(0xf0) {
                    libc::BPF_SUB => accumulator.wrapping_sub(k),
                    libc::BPF_MUL => accumulator.wrapping_mul(k),
                    libc::BPF_RSH => accumulator >> k,
                    libc::BPF_MOD => accumulator % k,
                    other => panic!("arithmetic {other:x}"),
                };
            }
            libc::BPF_JMP => {
                let jump = match part(0xf0) {
                    libc::BPF_JA => k as usize,
                    test => {
                        let holds = match test {
                            libc::BPF_JEQ => accumulator == k,
                            libc::BPF_JGE => accumulator >= k,
                            libc::BPF_JSET => accumulator & k != 0,
                            other => panic!("jump {other:x}"),
                        };
                        usize::from(if holds { jt } else { jf })
                    }
                };
                at += jump;
            }
            libc::BPF_RET => {
                return if part(0x18) == libc::BPF_A {
                    accumulator
                } else {
                    k
                };
            }
            other => panic!("class {other:x}"),
        }
    }
}

const IKE_HEADER_LEN: usize = 28;
const RESPONDER_SPI_AT: usize = 8;
const FLAGS_AT: usize = 19;
const INITIATOR: u8 = 0x08;
const MARKER_LEN: usize = 4;
/// How long the loopback may take.
const PATIENCE: Duration = Duration::from_secs(5);
