//! The XFRM backend against a real kernel: every algorithm through `Backend::apply`, then packets
//! between two network namespaces, counted in the SAs. Needs root and a kernel with ESP;
//! `make test-kernel` runs it inside one. Elsewhere each test says on stderr that it did not run.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use iked::crypto::SecretBytes;
use iked::crypto::keymat::ChildKeys;
use iked::kernel::{
    Backend, ChildInstall, ChildRemove, Cpis, Encap, KernelEvent, KernelRequest, REQID_TAG,
    RequestId, SelectorPair, TRAP_TAG, Trap,
};
use iked::pfkey::PfKey;
use iked::policy::{IfId, IpNet};
use iked::sys::{net, netlink};
use iked::wire::registry::{EncrId, EsnId, IntegId, ProtocolId};
use iked::wire::spi::{Cpi, EspSpi};
use iked::wire::{Transform, TransformId};
use iked::xfrm::{self, Xfrm};

#[path = "kernel/couple.rs"]
mod couple;
#[path = "kernel/daemon.rs"]
mod daemon;
#[path = "kernel/interfaces.rs"]
mod interfaces;
#[path = "kernel/ipcomp.rs"]
mod ipcomp;
#[path = "kernel/limits.rs"]
mod limits;
#[path = "kernel/marks.rs"]
mod marks;
#[path = "kernel/moves.rs"]
mod moves;
#[path = "kernel/nat.rs"]
mod nat;
#[path = "kernel/routes.rs"]
mod routes;
#[path = "kernel/traps.rs"]
mod traps;

/// Two hosts as network namespaces, joined by a wire.
struct Pair {
    a: String,
    b: String,
}

impl Pair {
    /// `None`, and a line on stderr, where this kernel cannot do it; a failure if it must.
    fn new(test: &str) -> Option<Self> {
        if let Err(missing) = xfrm::probe() {
            let line = format!("{test}: NOT RUN: {missing}; use `make test-kernel`");
            assert!(std::env::var_os("IKED_KERNEL_TESTS").is_none(), "{line}");
            tell(&line);
            return None;
        }
        Some(Self::wire_up(test))
    }

    fn wire_up(test: &str) -> Self {
        let id = std::process::id();
        let pair = Self {
            a: format!("{test}-a{id}"),
            b: format!("{test}-b{id}"),
        };
        ip(&["netns", "add", &pair.a]);
        ip(&["netns", "add", &pair.b]);
        ip(&[
            "link", "add", "w", "netns", &pair.a, "type", "veth", "peer", "w", "netns", &pair.b,
        ]);
        for (ns, host) in [(&pair.a, 1), (&pair.b, 2)] {
            let other = 3 - host;
            let lines = format!(
                "link set lo up\naddr add 192.0.2.{host}/24 dev w\n\
                 addr add 2001:db8::{host}/64 dev w nodad\nlink set w up\n\
                 addr add 10.9.{host}.1/24 dev lo\naddr add fd00:{host}::1/64 dev lo nodad\n\
                 route add 10.9.{other}.0/24 via 192.0.2.{other} src 10.9.{host}.1\n\
                 route add fd00:{other}::/64 via 2001:db8::{other} src fd00:{host}::1\n"
            );
            let path = std::env::temp_dir().join(format!("iked-{ns}.batch"));
            std::fs::write(&path, lines).unwrap();
            ip(&["-n", ns, "-batch", path.to_str().unwrap()]);
            std::fs::remove_file(path).unwrap();
        }
        pair
    }

    fn open(&self) -> (Xfrm, Xfrm) {
        (
            in_namespace(&self.a, || Xfrm::open().unwrap()),
            in_namespace(&self.b, || Xfrm::open().unwrap()),
        )
    }

    /// States and policies that the kernel has, as `ip` prints them.
    fn tables(&self) -> String {
        let mut text = String::new();
        for ns in [&self.a, &self.b] {
            text += &ip(&["-n", ns, "-s", "xfrm", "state"]);
            text += &ip(&["-n", ns, "xfrm", "policy"]);
        }
        text
    }

    fn ping(&self, from: &str, to: &str) -> Output {
        Command::new("ip")
            .args([
                "netns", "exec", &self.a, "ping", "-q", "-c", "2", "-i", "0.2", "-W", "2",
            ])
            .args(["-I", from, to])
            .output()
            .unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for ns in [&self.a, &self.b] {
            let _ = Command::new("ip").args(["netns", "del", ns]).output();
        }
    }
}

/// Says it past libtest, which swallows what `eprintln!` says in a test that passes.
fn tell(line: &str) {
    let mut stderr = std::io::stderr();
    stderr.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn in_namespace<T: Send + 'static>(name: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{name}")).unwrap();
    let inside = thread::spawn(move || {
        netlink::enter_namespace(&file).unwrap();
        act()
    });
    inside.join().unwrap()
}

/// What one Child SA is made of, the same for both ends.
#[derive(Clone)]
struct Plan {
    transforms: Vec<Transform>,
    encr_len: usize,
    integ_len: usize,
    protocol: ProtocolId,
    transport: bool,
    outer: [IpAddr; 2],
    inner: [IpNet; 2],
    encap: Option<[u16; 2]>,
    ipcomp: bool,
    soft: u64,
    hard: u64,
    bytes: [u64; 2],
    window: u32,
    if_id: Option<IfId>,
    offload: Option<&'static str>,
    number: u32,
}

impl Plan {
    fn new(
        transforms: &[TransformId],
        key_length: Option<u16>,
        encr_len: usize,
        integ_len: usize,
    ) -> Self {
        let mut list = Vec::new();
        for id in transforms {
            let key_length = if matches!(id, TransformId::Encr(_)) {
                key_length
            } else {
                None
            };
            list.push(Transform {
                id: *id,
                key_length,
            });
        }
        Self {
            transforms: list,
            encr_len,
            integ_len,
            protocol: ProtocolId::ESP,
            transport: false,
            outer: ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
            inner: [prefix("10.9.1.0", 24), prefix("10.9.2.0", 24)],
            encap: None,
            ipcomp: false,
            soft: 0,
            hard: 0,
            bytes: [0, 0],
            window: 64,
            if_id: None,
            offload: None,
            number: 1,
        }
    }

    fn gcm() -> Self {
        Self::new(&[TransformId::Encr(EncrId::AES_GCM_16)], Some(128), 20, 0)
    }

    fn names(&self, side: usize) -> ChildRemove {
        let other = 1 - side;
        let spi = |of: usize| EspSpi::new(((of as u32 + 1) << 24) + self.number).unwrap();
        let cpi = |of: usize| Cpi::new((of as u16 + 1) * 0x1000 + self.number as u16).unwrap();
        ChildRemove {
            ipcomp: self.ipcomp.then(|| Cpis {
                inbound: cpi(side),
                outbound: cpi(other),
            }),
            protocol: self.protocol,
            transport: self.transport,
            local: self.outer[side],
            remote: self.outer[other],
            inbound_spi: spi(side),
            outbound_spi: spi(other),
            reqid: REQID_TAG + self.number,
            selectors: vec![SelectorPair {
                protocol: 0,
                local: self.inner[side],
                local_port: None,
                remote: self.inner[other],
                remote_port: None,
                outward: false,
                if_id: self.if_id,
            }],
        }
    }

    fn add(&self, side: usize) -> KernelRequest {
        // Side 0's key towards side 1 is made of ones, the other of twos.
        let key = |from: usize, len: usize| {
            let byte = from as u8 + 1;
            SecretBytes::new((0..len).map(|at| byte.wrapping_add(at as u8)).collect())
        };
        let other = 1 - side;
        let keys = ChildKeys {
            outbound_encr: key(side, self.encr_len),
            outbound_integ: key(side, self.integ_len),
            inbound_encr: key(other, self.encr_len),
            inbound_integ: key(other, self.integ_len),
        };
        let child = ChildInstall {
            names: self.names(side),
            transforms: self.transforms.clone(),
            keys,
            encap: self.encap.map(|ports| Encap {
                local_port: ports[side],
                remote_port: ports[other],
            }),
            lifetime_soft: Duration::from_secs(self.soft),
            lifetime_hard: Duration::from_secs(self.hard),
            bytes_soft: self.bytes[0],
            bytes_hard: self.bytes[1],
            replay_window: self.window,
            mark: None,
            if_id: self.if_id,
            offload: self.offload.map(str::to_owned),
            receive_only: false,
            grant: None,
        };
        KernelRequest::AddChild {
            id: RequestId(u64::from(self.number)),
            child: Box::new(child),
        }
    }

    fn delete(&self, side: usize) -> KernelRequest {
        KernelRequest::DeleteChild {
            child: Box::new(self.names(side)),
        }
    }

    fn inner_hosts(&self) -> [&'static str; 2] {
        match (self.transport, self.inner[0].addr.is_ipv4()) {
            (false, true) => ["10.9.1.1", "10.9.2.1"],
            (false, false) => ["fd00:1::1", "fd00:2::1"],
            (true, true) => ["192.0.2.1", "192.0.2.2"],
            (true, false) => ["2001:db8::1", "2001:db8::2"],
        }
    }

    fn over_ipv6(mut self) -> Self {
        self.outer = [
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        ];
        self
    }

    fn with_ipv6_inside(mut self) -> Self {
        self.inner = [prefix("fd00:1::", 64), prefix("fd00:2::", 64)];
        self
    }

    fn in_transport_mode(mut self) -> Self {
        self.transport = true;
        let len = if self.outer[0].is_ipv4() { 32 } else { 128 };
        self.inner = self.outer.map(|addr| IpNet { addr, len });
        self
    }
}

fn prefix(addr: &str, len: u8) -> IpNet {
    IpNet {
        addr: addr.parse().unwrap(),
        len,
    }
}

fn all_ok(results: &[Result<(), iked::kernel::KernelError>]) {
    for result in results {
        if let Err(error) = result {
            panic!("{error}");
        }
    }
}

fn open_xfrm() -> Box<dyn Backend> {
    Box::new(Xfrm::open().unwrap())
}

fn open_pfkey() -> Box<dyn Backend> {
    Box::new(PfKey::open().unwrap())
}

/// Installs the plan on both sides, pings through it, checks counters and names, removes it.
fn carries_traffic(pair: &Pair, plan: &Plan, shown: &[&str]) {
    carries_traffic_over(open_xfrm, pair, plan, shown);
}

fn carries_traffic_over(open: fn() -> Box<dyn Backend>, pair: &Pair, plan: &Plan, shown: &[&str]) {
    let mut a = in_namespace(&pair.a, open);
    let mut b = in_namespace(&pair.b, open);
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    let hosts = plan.inner_hosts();
    let ping = pair.ping(hosts[0], hosts[1]);
    let tables = pair.tables();
    assert!(ping.status.success(), "{shown:?}: no answer\n{tables}");
    for word in shown {
        assert_eq!(tables.matches(word).count(), 4, "{word}\n{tables}");
    }
    // All four SAs have seen both packets: in clear text they would have seen none.
    assert_eq!(tables.matches(", 2(packets)").count(), 4, "{tables}");
    let mut absent = plan.names(0);
    absent.inbound_spi = EspSpi::new(0x0900_0009).unwrap();
    let counted = a.count(&[absent, plan.names(0)]);
    let counted: Vec<_> = counted
        .iter()
        .map(|of| (of.spi, of.inbound, of.outbound))
        .collect();
    let [(spi, inbound, outbound)] = counted[..] else {
        panic!("{counted:?}")
    };
    assert_eq!(spi, plan.names(0).inbound_spi);
    assert_eq!((inbound.packets, outbound.packets), (2, 2));
    // Two echo requests of 84 bytes and their answers, whole or without their headers.
    for octets in [inbound.octets, outbound.octets] {
        assert!((128..400).contains(&octets), "{octets}");
    }
    all_ok(&a.apply(&[plan.delete(0)]));
    all_ok(&b.apply(&[plan.delete(1)]));
    assert_eq!(pair.tables(), "", "nothing stays behind");
}

fn esp(encr: EncrId, integ: IntegId, key_length: u16, encr_len: usize, integ_len: usize) -> Plan {
    let transforms = [TransformId::Encr(encr), TransformId::Integ(integ)];
    Plan::new(&transforms, Some(key_length), encr_len, integ_len)
}

#[test]
fn every_aead_carries_traffic() {
    let Some(pair) = Pair::new("aead") else {
        return;
    };
    for (encr, key, icv, name) in [
        (EncrId::AES_GCM_16, 16, "128", "rfc4106(gcm(aes))"),
        (EncrId::AES_GCM_16, 32, "128", "rfc4106(gcm(aes))"),
        (EncrId::AES_GCM_12, 24, "96", "rfc4106(gcm(aes))"),
        (EncrId::AES_GCM_8, 16, "64", "rfc4106(gcm(aes))"),
        (EncrId::AES_GMAC, 32, "128", "rfc4543(gcm(aes))"),
        (
            EncrId::CHACHA20_POLY1305,
            32,
            "128",
            "rfc7539esp(chacha20,poly1305)",
        ),
    ] {
        let plan = Plan::new(&[TransformId::Encr(encr)], Some(key as u16 * 8), key + 4, 0);
        carries_traffic(
            &pair,
            &plan,
            &[&format!("aead {name} "), &format!(" {icv}\n")],
        );
    }
}

#[test]
fn every_cipher_and_checksum_carries_traffic() {
    let Some(pair) = Pair::new("cbc") else { return };
    let sha1 = IntegId::HMAC_SHA1_96;
    let sha256 = IntegId::HMAC_SHA2_256_128;
    for (plan, cipher, checksum) in [
        (
            esp(EncrId::AES_CBC, IntegId::HMAC_MD5_96, 128, 16, 16),
            "cbc(aes)",
            "hmac(md5)",
        ),
        (
            esp(EncrId::AES_CBC, sha1, 192, 24, 20),
            "cbc(aes)",
            "hmac(sha1)",
        ),
        (
            esp(EncrId::AES_CBC, sha256, 256, 32, 32),
            "cbc(aes)",
            "hmac(sha256)",
        ),
        (
            esp(EncrId::AES_CBC, IntegId::HMAC_SHA2_384_192, 256, 32, 48),
            "cbc(aes)",
            "hmac(sha384)",
        ),
        (
            esp(EncrId::AES_CBC, IntegId::HMAC_SHA2_512_256, 256, 32, 64),
            "cbc(aes)",
            "hmac(sha512)",
        ),
        (
            esp(EncrId::AES_CTR, sha256, 256, 36, 32),
            "rfc3686(ctr(aes))",
            "hmac(sha256)",
        ),
        (
            esp(EncrId::DES3, sha1, 192, 24, 20),
            "cbc(des3_ede)",
            "hmac(sha1)",
        ),
        (
            esp(EncrId::NULL, sha256, 0, 0, 32),
            "ecb(cipher_null)",
            "hmac(sha256)",
        ),
    ] {
        carries_traffic(
            &pair,
            &plan,
            &[
                &format!("enc {cipher} "),
                &format!("auth-trunc {checksum} "),
            ],
        );
    }
}

#[test]
fn modes_families_esn_and_ah_carry_traffic() {
    let Some(pair) = Pair::new("mode") else {
        return;
    };
    carries_traffic(&pair, &Plan::gcm().over_ipv6(), &["rfc4106(gcm(aes))"]);
    carries_traffic(
        &pair,
        &Plan::gcm().over_ipv6().with_ipv6_inside(),
        &["rfc4106(gcm(aes))"],
    );
    carries_traffic(
        &pair,
        &Plan::gcm().with_ipv6_inside(),
        &["rfc4106(gcm(aes))"],
    );
    carries_traffic(
        &pair,
        &Plan::gcm().in_transport_mode(),
        &["rfc4106(gcm(aes))"],
    );
    let esn = [
        TransformId::Encr(EncrId::AES_GCM_16),
        TransformId::Esn(EsnId::ESN),
    ];
    carries_traffic(
        &pair,
        &Plan::new(&esn, Some(256), 36, 0),
        &["flag af-unspec esn"],
    );
    let ah = [TransformId::Integ(IntegId::HMAC_SHA2_256_128)];
    let mut ah = Plan::new(&ah, None, 0, 32);
    ah.protocol = ProtocolId::AH;
    carries_traffic(&pair, &ah, &["auth-trunc hmac(sha256)"]);
}

/// UDP sockets on port 4500 of both hosts that take ESP in UDP (RFC 3948) out of the stream.
fn encapsulation_sockets(pair: &Pair) -> Vec<UdpSocket> {
    let mut sockets = Vec::new();
    for ns in [&pair.a, &pair.b] {
        sockets.push(in_namespace(ns, || {
            let socket = UdpSocket::bind("0.0.0.0:4500").unwrap();
            net::set_int_option(socket.as_fd(), libc::IPPROTO_UDP, 100, 2).unwrap();
            socket
        }));
    }
    sockets
}

#[test]
fn udp_encapsulation_carries_traffic() {
    let Some(pair) = Pair::new("encap") else {
        return;
    };
    let _sockets = encapsulation_sockets(&pair);
    let mut plan = Plan::gcm();
    plan.encap = Some([4500, 4500]);
    carries_traffic(&pair, &plan, &["encap type espinudp sport 4500 dport 4500"]);
}

fn tells_a_new_port(test: &str, open: fn() -> Box<dyn Backend>, mut plan: Plan) {
    let Some(pair) = Pair::new(test) else { return };
    let _sockets = encapsulation_sockets(&pair);
    let mut a = in_namespace(&pair.a, open);
    let mut b = in_namespace(&pair.b, open);
    plan.encap = Some([4500, 4500]);
    all_ok(&a.apply(&[plan.add(0)]));
    // B believes that A is behind a NAT which gave it port 4777.
    plan.encap = Some([4777, 4500]);
    all_ok(&b.apply(&[plan.add(1)]));
    let _ = pair.ping("10.9.1.1", "10.9.2.1");
    let mut events = Vec::new();
    b.poll_events(&mut events);
    let wanted = KernelEvent::Mapping {
        spi: plan.names(1).inbound_spi,
        remote: "192.0.2.1:4500".parse().unwrap(),
    };
    assert_eq!(events.first(), Some(&wanted));
}

#[test]
fn packets_from_a_new_port_are_told_as_a_mapping() {
    tells_a_new_port("map", open_xfrm, Plan::gcm());
}

#[test]
fn pfkey_tells_packets_from_a_new_port_too() {
    let sha512 = IntegId::HMAC_SHA2_512_256;
    let plan = esp(EncrId::AES_CBC, sha512, 128, 16, 64);
    tells_a_new_port("pfmap", open_pfkey, plan);
}

#[test]
fn failed_addition_leaves_nothing_and_tells_why() {
    let Some(pair) = Pair::new("fail") else {
        return;
    };
    let (mut a, _) = pair.open();
    let mut good = Plan::gcm();
    good.number = 2;
    good.inner = [prefix("10.20.0.0", 16), prefix("10.21.0.0", 16)];
    // A key of 5 bytes: both SAs are refused, while the policies go in and must come out.
    let bad = Plan::new(&[TransformId::Encr(EncrId::AES_GCM_16)], Some(128), 5, 0);
    let none = Plan::new(&[TransformId::Encr(EncrId(999))], None, 16, 0);
    let results = a.apply(&[bad.add(0), good.add(0), none.add(0)]);
    let error = results[0].as_ref().unwrap_err();
    assert_eq!((error.errno, error.action), (libc::EINVAL, "add SA"));
    assert!(results[1].is_ok());
    assert_eq!(results[2].as_ref().unwrap_err().errno, libc::EOPNOTSUPP);
    let tables = pair.tables();
    assert_eq!(tables.matches("proto esp spi").count(), 2, "{tables}");
    assert!(
        tables.contains("10.21.0.0/16") && !tables.contains("10.9.2.0/24"),
        "{tables}"
    );
    all_ok(&a.apply(&[good.delete(0), good.delete(0), bad.delete(0)]));
    assert_eq!(pair.tables(), "");
}

#[test]
fn leftovers_of_an_earlier_life_are_replaced_and_swept_but_not_those_of_others() {
    let Some(pair) = Pair::new("left") else {
        return;
    };
    let plan = Plan::gcm();
    let (mut before, _) = pair.open();
    all_ok(&before.apply(&[plan.add(0)]));
    drop(before);
    let (mut after, _) = pair.open();
    all_ok(&after.apply(&[plan.add(0)]));
    let other = "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00001001 reqid 7 \
                 mode tunnel aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128";
    let mut words = vec!["-n", pair.a.as_str()];
    words.extend(other.split_whitespace());
    ip(&words);
    let mut clash = Plan::gcm();
    clash.number = 0x1001;
    let mut request = clash.add(0);
    if let KernelRequest::AddChild { child, .. } = &mut request {
        child.names.outbound_spi = EspSpi::new(0x1001).unwrap();
    }
    let results = after.apply(&[request]);
    assert_eq!(results[0].as_ref().unwrap_err().errno, libc::EEXIST);
    assert_eq!(
        after.sweep().unwrap(),
        2,
        "our two SAs; their policies went with the failed one"
    );
    let tables = pair.tables();
    assert_eq!(tables.matches("proto esp spi").count(), 1, "{tables}");
    assert!(tables.contains("0x00001001"), "{tables}");
}

#[test]
fn expiries_are_told_by_the_inbound_spi() {
    let Some(pair) = Pair::new("exp") else { return };
    let (mut a, _) = pair.open();
    let mut plan = Plan::gcm();
    (plan.soft, plan.hard) = (1, 3);
    all_ok(&a.apply(&[plan.add(0)]));
    let inbound = plan.names(0).inbound_spi;
    let mut events = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    let hard = KernelEvent::Expire {
        spi: inbound,
        hard: true,
    };
    while events.iter().filter(|event| **event == hard).count() < 2 && Instant::now() < deadline {
        assert!(!a.poll_events(&mut events), "none are lost");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        events[0],
        KernelEvent::Expire {
            spi: inbound,
            hard: false
        }
    );
    assert_eq!(
        events[1..],
        [hard.clone(), hard],
        "once for each SA, both by our SPI"
    );
}

#[test]
fn policies_are_handed_back() {
    let Some(pair) = Pair::new("back") else {
        return;
    };
    let (mut a, _) = pair.open();
    let (old, mut new) = (Plan::gcm(), Plan::gcm());
    new.number = 2;
    all_ok(&a.apply(&[old.add(0), new.add(0)]));
    let count = |reqid: u32| {
        let text = ip(&["-n", &pair.a, "xfrm", "policy"]);
        text.matches(&format!("reqid {reqid} ")).count()
    };
    assert_eq!((count(REQID_TAG + 1), count(REQID_TAG + 2)), (0, 3));
    a.set_policies(&old.names(0)).unwrap();
    assert_eq!((count(REQID_TAG + 1), count(REQID_TAG + 2)), (3, 0));
}

#[test]
fn thousand_child_sas_go_in_and_out_in_batches() {
    let Some(pair) = Pair::new("many") else {
        return;
    };
    let (mut a, _) = pair.open();
    let plans: Vec<Plan> = (1..=1000u32)
        .map(|number| {
            let mut plan = Plan::gcm();
            plan.number = number;
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            plan.inner = [
                prefix("0.0.0.0", 0),
                IpNet {
                    addr: address,
                    len: 32,
                },
            ];
            plan
        })
        .collect();
    let started = Instant::now();
    let adds: Vec<KernelRequest> = plans.iter().map(|plan| plan.add(0)).collect();
    all_ok(&a.apply(&adds));
    let added = started.elapsed();
    let tables = ip(&["-n", &pair.a, "xfrm", "state", "count"]);
    assert!(tables.contains("2000"), "{tables}");
    let started = Instant::now();
    let names: Vec<ChildRemove> = plans.iter().map(|plan| plan.names(0)).collect();
    let counts = a.count(&names);
    assert_eq!(counts.len(), 1000);
    assert!(
        counts
            .iter()
            .all(|count| count.inbound.packets + count.outbound.packets == 0)
    );
    let counted = started.elapsed();
    let started = Instant::now();
    let deletes: Vec<KernelRequest> = plans.iter().map(|plan| plan.delete(0)).collect();
    all_ok(&a.apply(&deletes));
    let line = format!(
        "1000 Child SAs: added in {added:?}, counted in {counted:?}, deleted in {:?}",
        started.elapsed()
    );
    tell(&line);
    assert_eq!(pair.tables(), "");
}

#[test]
fn pfkey_carries_traffic_with_what_it_can_do() {
    let Some(pair) = Pair::new("pfkey") else {
        return;
    };
    let sha512 = IntegId::HMAC_SHA2_512_256;
    for (plan, cipher, checksum) in [
        (
            esp(EncrId::AES_CBC, IntegId::HMAC_SHA1_96, 128, 16, 20),
            "cbc(aes)",
            "hmac(sha1)",
        ),
        (
            esp(EncrId::AES_CBC, sha512, 256, 32, 64),
            "cbc(aes)",
            "hmac(sha512)",
        ),
        (
            esp(EncrId::AES_CTR, sha512, 256, 36, 64),
            "rfc3686(ctr(aes))",
            "hmac(sha512)",
        ),
        (
            esp(EncrId::DES3, IntegId::HMAC_SHA2_384_192, 192, 24, 48).in_transport_mode(),
            "cbc(des3_ede)",
            "hmac(sha384)",
        ),
        (
            esp(EncrId::AES_CBC, sha512, 128, 16, 64)
                .over_ipv6()
                .with_ipv6_inside(),
            "cbc(aes)",
            "hmac(sha512)",
        ),
    ] {
        let shown = [format!("enc {cipher} "), format!("auth-trunc {checksum} ")];
        carries_traffic_over(open_pfkey, &pair, &plan, &[&shown[0], &shown[1]]);
    }
    let mut encapsulated = esp(EncrId::AES_CBC, sha512, 128, 16, 64);
    encapsulated.encap = Some([4500, 4500]);
    let _sockets = encapsulation_sockets(&pair);
    carries_traffic_over(
        open_pfkey,
        &pair,
        &encapsulated,
        &["espinudp sport 4500 dport 4500"],
    );
}

#[test]
fn pfkey_fails_whole_and_tells_expiries() {
    let Some(pair) = Pair::new("pfail") else {
        return;
    };
    let mut backend = in_namespace(&pair.a, open_pfkey);
    let bad = esp(EncrId::AES_CBC, IntegId::HMAC_SHA1_96, 128, 5, 20);
    let results = backend.apply(&[bad.add(0), Plan::gcm().add(0)]);
    assert_eq!(results[0].as_ref().unwrap_err().action, "add SA");
    assert_eq!(results[1].as_ref().unwrap_err().errno, libc::EOPNOTSUPP);
    assert_eq!(pair.tables(), "");
    let mut plan = esp(EncrId::AES_CBC, IntegId::HMAC_SHA1_96, 128, 16, 20);
    (plan.soft, plan.hard) = (1, 3);
    all_ok(&backend.apply(&[plan.add(0)]));
    let spi = plan.names(0).inbound_spi;
    let mut events = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while events.len() < 3 && Instant::now() < deadline {
        assert!(!backend.poll_events(&mut events), "none are lost");
        thread::sleep(Duration::from_millis(50));
    }
    let expire = |hard| KernelEvent::Expire { spi, hard };
    assert_eq!(events, [expire(false), expire(true), expire(true)]);
}
