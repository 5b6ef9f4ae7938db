//! What Child SAs cost in the kernel, among 100 to 100,000 others: to install and to remove, in batches as
//! the kernel thread writes them, one by one, and by `ip -batch`; and what a packet costs that finds its
//! policy among so many. Needs root and a kernel with ESP of its own: `benches/kernel.sh`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::disallowed_methods,
    reason = "how many come in a second is a matter of wall time"
)]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use iked::crypto::SecretBytes;
use iked::crypto::keymat::ChildKeys;
use iked::kernel::{
    Backend, ChildInstall, ChildRemove, KernelRequest, REQID_TAG, RequestId, SelectorPair,
};
use iked::policy::IpNet;
use iked::wire::registry::{EncrId, ProtocolId};
use iked::wire::spi::EspSpi;
use iked::wire::{Transform, TransformId};
use iked::xfrm::{self, Xfrm};

mod support;

use support::{Wanted, median, micros};

fn main() {
    let wanted = Wanted::from_command_line();
    // What it does it does to the tables of this host.
    if std::env::var_os("IKED_RIG").is_none() || xfrm::probe().is_err() {
        println!("kernel: NOT RUN, this is for a guest: benches/kernel.sh");
        return;
    }
    way_out();
    let mut xfrm = Xfrm::open().unwrap();
    xfrm.hash_hosts().unwrap();
    let levels: &[u32] = if wanted.is_whole() {
        &[10, 100, 1000, 10_000, 100_000]
    } else {
        &[10, 100]
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel = kernel.trim();
    support::head(&format!("kernel, Linux {kernel}: Child SAs"), &COLUMNS);
    let mut there = 0;
    let mut packets = Vec::new();
    for &level in levels {
        let filled = spent(|| in_batches(&mut xfrm, there..level, add));
        if level >= LEAST {
            let each = filled.over(level - there);
            let mut row = vec![
                level.to_string(),
                "the first so many, in batches".to_owned(),
            ];
            row.extend([
                each.rate(),
                micros(each.cpu),
                "-".to_owned(),
                "-".to_owned(),
            ]);
            support::row(&row);
            if wanted.has("changes") {
                changes(&wanted, &mut xfrm, level);
            }
        }
        there = level;
        if wanted.has("packets") {
            let [into, past] = sent(&wanted, level);
            packets.push([level.to_string(), into, past]);
        }
    }
    let removed = spent(|| in_batches(&mut xfrm, 0..there, delete)).over(there);
    println!(
        "\nAll {there} were removed in batches at {}, {} of CPU each.",
        removed.rate(),
        micros(removed.cpu)
    );
    support::head(
        &format!("kernel, Linux {kernel}: CPU of one packet out"),
        &PACKET_COLUMNS,
    );
    for row in packets {
        support::row(&row);
    }
}

/// Nanoseconds.
#[derive(Clone, Copy)]
struct Spent {
    wall: f64,
    /// CPU time of this thread and of the processes it has waited for, in user mode and in the kernel.
    cpu: f64,
}

impl Spent {
    fn over(self, count: u32) -> Self {
        let count = f64::from(count);
        let (wall, cpu) = (self.wall / count, self.cpu / count);
        Self { wall, cpu }
    }

    fn rate(self) -> String {
        format!("{:.0}/s", 1e9 / self.wall)
    }
}

/// What this job takes.
fn spent(job: impl FnOnce()) -> Spent {
    let (start, cpu, children) = (Instant::now(), support::cpu(), children());
    job();
    Spent {
        wall: start.elapsed().as_nanos() as f64,
        cpu: support::cpu() - cpu + self::children() - children,
    }
}

/// CPU time of processes that have ended, in nanoseconds; the kernel tells ticks of 10 ms.
fn children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, behind) = stat.rsplit_once(") ").unwrap();
    let fields = behind.split(' ').skip(CHILDREN_AT).take(2);
    fields
        .map(|ticks| ticks.parse::<f64>().unwrap() * 1e7)
        .sum()
}

/// A device that swallows what is sent, and a route to all peers by it.
fn way_out() {
    ip(&["link", "add", "out0", "type", "dummy"]);
    ip(&["link", "set", "out0", "up"]);
    ip(&["addr", "add", "192.0.2.1/24", "dev", "out0"]);
    ip(&[
        "neigh",
        "add",
        "192.0.2.2",
        "lladdr",
        "02:00:00:00:00:02",
        "dev",
        "out0",
    ]);
    ip(&[
        "route",
        "add",
        "10.0.0.0/8",
        "via",
        "192.0.2.2",
        "src",
        "192.0.2.1",
    ]);
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

/// A road warrior: everything goes to its one address.
fn child(number: u32) -> ChildInstall {
    let key = || SecretBytes::new((1..=20).collect());
    let none = || SecretBytes::new(Vec::new());
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    ChildInstall {
        names: ChildRemove {
            protocol: ProtocolId::ESP,
            transport: false,
            local: IpAddr::from([192, 0, 2, 1]),
            remote: IpAddr::from([192, 0, 2, 2]),
            inbound_spi: EspSpi::new(0x0100_0100 + number).unwrap(),
            outbound_spi: EspSpi::new(0x0200_0100 + number).unwrap(),
            reqid: REQID_TAG + number,
            ipcomp: None,
            selectors: vec![SelectorPair {
                protocol: 0,
                local: IpNet { addr: any, len: 0 },
                local_port: None,
                remote: IpNet::host(inner(number)),
                remote_port: None,
                outward: false,
                if_id: None,
            }],
        },
        transforms: vec![Transform {
            id: TransformId::Encr(EncrId::AES_GCM_16),
            key_length: Some(128),
        }],
        keys: ChildKeys {
            outbound_encr: key(),
            outbound_integ: none(),
            inbound_encr: key(),
            inbound_integ: none(),
        },
        encap: None,
        lifetime_soft: Duration::from_secs(9000),
        lifetime_hard: Duration::from_secs(10_800),
        bytes_soft: 0,
        bytes_hard: 0,
        replay_window: 128,
        mark: None,
        if_id: None,
        offload: None,
        receive_only: false,
        grant: None,
    }
}

fn inner(number: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes())
}

fn add(number: u32) -> KernelRequest {
    KernelRequest::AddChild {
        id: RequestId(number.into()),
        child: Box::new(child(number)),
    }
}

fn delete(number: u32) -> KernelRequest {
    KernelRequest::DeleteChild {
        child: Box::new(child(number).names),
    }
}

fn in_batches(xfrm: &mut Xfrm, numbers: std::ops::Range<u32>, make: fn(u32) -> KernelRequest) {
    let all: Vec<u32> = numbers.collect();
    for some in all.chunks(BATCH) {
        let requests: Vec<KernelRequest> = some.iter().map(|number| make(*number)).collect();
        let results = xfrm.apply(&requests);
        assert!(results.iter().all(Result::is_ok), "{:?}", results.first());
    }
}

fn one_by_one(xfrm: &mut Xfrm, numbers: std::ops::Range<u32>, make: fn(u32) -> KernelRequest) {
    for number in numbers {
        assert!(xfrm.apply(&[make(number)]).iter().all(Result::is_ok));
    }
}

/// The same by `ip`, which reads it from a file.
fn by_ip(numbers: std::ops::Range<u32>, adds: bool) {
    let mut text = String::new();
    for number in numbers {
        let (reqid, peer) = (REQID_TAG + number, inner(number));
        let verb = if adds { "add" } else { "delete" };
        for (way, spi, source, destination) in [
            ("in", 0x0100_0100 + number, "192.0.2.2", "192.0.2.1"),
            ("out", 0x0200_0100 + number, "192.0.2.1", "192.0.2.2"),
        ] {
            let _ = write!(
                text,
                "xfrm state {verb} src {source} dst {destination} proto esp spi {spi:#x}"
            );
            if adds {
                let _ = write!(
                    text,
                    " reqid {reqid} mode tunnel flag af-unspec replay-window 128 aead \
                     rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128 \
                     limit time-hard 10800"
                );
            }
            let ways: &[&str] = if way == "in" {
                &["in", "fwd"]
            } else {
                &["out"]
            };
            for way in ways {
                let ends = if *way == "out" {
                    format!("src 0.0.0.0/0 dst {peer}/32")
                } else {
                    format!("src {peer}/32 dst 0.0.0.0/0")
                };
                let _ = write!(text, "\nxfrm policy {verb} {ends} dir {way}");
                if adds {
                    let _ = write!(
                        text,
                        " priority 15872 tmpl src {source} dst {destination} proto esp \
                         reqid {reqid} mode tunnel"
                    );
                }
            }
            text.push('\n');
        }
    }
    let path = std::env::temp_dir().join("iked-bench.batch");
    std::fs::write(&path, text).unwrap();
    ip(&["-batch", path.to_str().unwrap()]);
}

/// Installs and removes some more, beside `level` that stand, in each of the three ways in turns.
fn changes(wanted: &Wanted, xfrm: &mut Xfrm, level: u32) {
    let some = level..level + if wanted.is_whole() { TURN } else { 10 };
    let count = some.end - some.start;
    let mut ways: [[Vec<Spent>; 2]; 3] = Default::default();
    for _ in 0..wanted.times(TURNS) {
        let all = [
            [
                spent(|| in_batches(xfrm, some.clone(), add)),
                spent(|| in_batches(xfrm, some.clone(), delete)),
            ],
            [
                spent(|| one_by_one(xfrm, some.clone(), add)),
                spent(|| one_by_one(xfrm, some.clone(), delete)),
            ],
            [
                spent(|| by_ip(some.clone(), true)),
                spent(|| by_ip(some.clone(), false)),
            ],
        ];
        for (samples, spent) in ways.iter_mut().flatten().zip(all.into_iter().flatten()) {
            samples.push(spent.over(count));
        }
    }
    for (name, samples) in WAYS.iter().zip(ways) {
        let mut row = vec![level.to_string(), (*name).to_owned()];
        for samples in samples {
            let wall: Vec<f64> = samples.iter().map(|spent| spent.wall).collect();
            let cpu: Vec<f64> = samples.iter().map(|spent| spent.cpu).collect();
            let (wall, cpu) = (median(&wall), mean(&cpu));
            row.extend([Spent { wall, cpu }.rate(), micros(cpu)]);
        }
        support::row(&row);
    }
}

/// Sends to road warriors in turn, and to somebody who is none.
fn sent(wanted: &Wanted, level: u32) -> [String; 2] {
    let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
    let payload = [0u8; 64];
    let mut number = 0;
    [true, false].map(|into| {
        let mut samples = Vec::new();
        for _ in 0..wanted.times(PACKET_TURNS) {
            let time = support::timed(|| {
                for _ in 0..PACKETS_TURN {
                    number = (number + 997) % level;
                    let to = if into {
                        inner(number)
                    } else {
                        IpAddr::from((0x0af0_0000 + number).to_be_bytes())
                    };
                    socket.send_to(&payload, (to, 9)).unwrap();
                }
            });
            samples.push(time / f64::from(PACKETS_TURN));
        }
        micros(mean(&samples))
    })
}

/// Of CPU times: some kernels know them only in ticks of 10 ms, which a median would show.
fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

const COLUMNS: [&str; 6] = [
    "among",
    "way",
    "installed",
    "CPU each",
    "removed",
    "CPU each",
];
const WAYS: [&str; 3] = ["in batches", "one by one", "by `ip -batch`"];
const PACKET_COLUMNS: [&str; 3] = ["road warriors", "into its tunnel", "past all policies"];
/// With fewer there is nothing to see but the packets.
const LEAST: u32 = 100;
/// Of `cutime` behind the name of the process in proc_pid_stat(5).
const CHILDREN_AT: usize = 13;
/// Requests that the kernel thread has in one turn of a busy house.
const BATCH: usize = 256;
/// Child SAs of one turn.
const TURN: u32 = 1024;
const TURNS: usize = 3;
const PACKET_TURNS: usize = 9;
const PACKETS_TURN: u32 = 3000;
