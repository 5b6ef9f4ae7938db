//! The daemon at both ends of a real kernel: VPNs by routes, PF_KEY, and what it leaves when it is
//! killed.

use std::process::{Child, Stdio};

use super::*;

/// A running `iked -d`; killed when dropped.
pub(super) struct Iked {
    child: Child,
    folder: tempfile::TempDir,
}

impl Iked {
    /// In this namespace, as soon as it is up.
    pub(super) fn start(ns: &str, conf: &str) -> Self {
        Self::start_beside(ns, conf, None)
    }

    /// With other programs than those of this machine.
    pub(super) fn start_beside(ns: &str, conf: &str, programs: Option<&str>) -> Self {
        let there = std::env::var("PATH").unwrap();
        let programs = programs.into_iter().chain([there.as_str()]);
        let programs = programs.collect::<Vec<_>>().join(":");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        write_secret(&path("iked.conf"), conf);
        let log = File::create(path("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", ns, env!("CARGO_BIN_EXE_iked"), "-d", "-v"])
            .args(["-f", &path("iked.conf"), "-s", &path("sock")])
            .args([
                "--config-dir",
                folder.path().to_str().unwrap(),
                "--shards",
                "1",
            ])
            .env("PATH", programs)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut iked = Self { child, folder };
        wait_for("the daemon", || {
            let ended = iked.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}\n{}", iked.log());
            iked.log().contains("startup")
        });
        iked
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(super) fn ctl(&self, words: &str) {
        let output = self.ask(words);
        assert!(output.status.success(), "{output:?}");
    }

    /// What `ikectl` says.
    pub(super) fn ask(&self, words: &str) -> Output {
        let socket = self.folder.path().join("sock");
        Command::new(env!("CARGO_BIN_EXE_ikectl"))
            .args(["-s", socket.to_str().unwrap()])
            .args(words.split(' '))
            .output()
            .unwrap()
    }

    pub(super) fn kill(mut self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap();
    }
}

impl Drop for Iked {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn write_secret(path: &str, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).write(true).truncate(true).mode(0o600);
    file.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

pub(super) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !done() {
        assert!(Instant::now() < deadline, "waited for {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The configuration of one end: `words` go where a policy has them.
pub(super) fn conf(side: usize, active: &str, flows: &str, words: &str) -> String {
    let (own, other) = (side + 1, 2 - side);
    let flows = flows
        .replace("OWN", &own.to_string())
        .replace("OTHER", &other.to_string());
    format!("ikev2 \"it\" {active} esp {flows} local 192.0.2.{own} peer 192.0.2.{other} {words}\n")
}

pub(super) fn proof(side: usize) -> String {
    let (own, other) = (side + 1, 2 - side);
    format!("srcid end{own}.example dstid end{other}.example")
}

pub(super) const NETS: &str = "from 10.9.OWN.0/24 to 10.9.OTHER.0/24";
const ALL: &str = "from 0.0.0.0/0 to 0.0.0.0/0";
pub(super) const PSK: &str = "psk \"a secret of both ends\"";

pub(super) fn both(
    pair: &Pair,
    first: &str,
    flows: &str,
    before: &str,
    behind: &str,
) -> (Iked, Iked) {
    let text = |side, active| {
        let words = format!("{before} {} lifetime 1h {PSK} {behind}", proof(side));
        format!("{first}\n{}", conf(side, active, flows, &words))
    };
    let b = Iked::start(&pair.b, &text(1, "passive"));
    let a = Iked::start(&pair.a, &text(0, "active"));
    (a, b)
}

pub(super) fn states(ns: &str) -> String {
    ip(&["-n", ns, "xfrm", "state"])
}

/// SAs that are any: the kernel also lists, for a while, what a trap waits for.
pub(super) fn sas(ns: &str) -> usize {
    let text = states(ns);
    text.matches("proto esp spi").count() - text.matches("spi 0x00000000").count()
}

pub(super) fn templates(ns: &str) -> usize {
    ip(&["-n", ns, "xfrm", "policy"]).matches("tmpl").count()
}

pub(super) fn is_up(pair: &Pair) -> bool {
    pair.ping("10.9.1.1", "10.9.2.1").status.success()
}

/// SAs and policies of somebody else, some of them much like what is ours over PF_KEY: SAs with the
/// same peer, a reqid that it may name and a limit of packets, policies with such a reqid or no SA.
pub(super) fn foreign(ns: &str) {
    for other in [
        "xfrm state add src 192.0.2.1 dst 192.0.2.9 proto esp spi 0x00001001 reqid 7 mode tunnel \
         aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128",
        "xfrm policy add src 10.77.0.0/16 dst 10.78.0.0/16 dir out priority 5 \
         tmpl src 192.0.2.1 dst 192.0.2.9 proto esp reqid 7 mode tunnel",
        "xfrm policy add src 10.79.0.0/16 dst 10.78.0.0/16 dir out priority 5 action block",
        "xfrm state add src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x00001002 reqid 2 mode tunnel \
         enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha1) \
         0x000102030405060708090a0b0c0d0e0f10111213 96 limit packet-hard 4294967295",
        "xfrm state add src 192.0.2.2 dst 192.0.2.1 proto comp spi 0x00001003 reqid 2 mode tunnel \
         comp deflate",
        "xfrm policy add src 10.78.0.0/16 dst 10.77.0.0/16 dir in priority 15744 \
         tmpl src 192.0.2.2 dst 192.0.2.1 proto esp reqid 2 mode tunnel",
        "xfrm policy add src 10.78.0.0/16 dst 10.77.0.0/16 dir fwd priority 1229586432 \
         tmpl src 192.0.2.2 dst 192.0.2.1 proto esp reqid 2 mode tunnel",
    ] {
        let mut words = vec!["-n", ns];
        words.extend(other.split_whitespace());
        ip(&words);
    }
}

/// How a daemon is killed that reaches the kernel by `before`, and the next one by `after`.
fn leaves_nothing(test: &str, before: &str, after: &str) {
    let Some(pair) = Pair::new(test) else {
        return;
    };
    foreign(&pair.a);
    let (theirs, of_theirs) = (sas(&pair.a), templates(&pair.a));
    let left = (states(&pair.a), ip(&["-n", &pair.a, "xfrm", "policy"]));
    let (a, _b) = both(&pair, &format!("set kernel {before}"), NETS, "", "");
    wait_for("a Child SA", || sas(&pair.a) == theirs + 2);
    assert!(is_up(&pair), "{}", pair.tables());
    a.kill("-KILL");
    assert_eq!(sas(&pair.a), theirs + 2);
    assert_eq!(templates(&pair.a), of_theirs + 3);
    let idle = conf(0, "passive", NETS, &format!("{} {PSK}", proof(0)));
    let next = Iked::start(&pair.a, &format!("set kernel {after}\n{idle}"));
    let shown = ip(&["-n", &pair.a, "xfrm", "policy", "list", "nosock"]);
    assert_eq!((states(&pair.a), shown), left);
    next.kill("-TERM");
    let shown = ip(&["-n", &pair.a, "xfrm", "policy"]);
    assert_eq!((states(&pair.a), shown), left);
}

#[test]
fn a_killed_daemon_leaves_nothing_to_the_next_and_nobody_else_loses_anything() {
    leaves_nothing("life", "xfrm", "xfrm");
}

#[test]
fn a_daemon_killed_over_pf_key_leaves_nothing_to_the_next() {
    leaves_nothing("pflife", "pfkey", "pfkey");
}

#[test]
fn whichever_way_into_the_kernel_the_killed_daemon_had_nothing_of_it_stays() {
    leaves_nothing("xflife", "xfrm", "pfkey");
    leaves_nothing("pxlife", "pfkey", "xfrm");
}

/// 10,000 SAs of a daemon that is no more, then one that reaches the kernel by `way`.
fn sweeps_many(test: &str, open: fn() -> Box<dyn Backend>, way: &str, plan: &Plan) {
    let Some(pair) = Pair::new(test) else {
        return;
    };
    foreign(&pair.a);
    let count = || {
        let text = ip(&["-n", &pair.a, "xfrm", "state", "count"]);
        let number = text.split_whitespace().find_map(|word| word.parse().ok());
        number.unwrap_or_else(|| panic!("{text}"))
    };
    let (theirs, of_theirs): (usize, usize) = (count(), templates(&pair.a));
    let mut before = in_namespace(&pair.a, open);
    let adds: Vec<KernelRequest> = (2..5002u32)
        .map(|number| {
            let mut plan = plan.clone();
            plan.number = number;
            let addr = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            plan.inner = [prefix("0.0.0.0", 0), IpNet { addr, len: 32 }];
            plan.add(0)
        })
        .collect();
    let started = Instant::now();
    all_ok(&before.apply(&adds));
    let added = started.elapsed();
    drop(before);
    assert_eq!(count(), theirs + 10_000);
    let started = Instant::now();
    let idle = conf(0, "passive", NETS, PSK);
    let _next = Iked::start(&pair.a, &format!("set kernel {way}\n{idle}"));
    tell(&format!(
        "{way}: 10,000 SAs and 15,000 policies of an earlier life, added in {added:?}: up after {:?}",
        started.elapsed()
    ));
    assert_eq!((count(), templates(&pair.a)), (theirs, of_theirs));
}

#[test]
fn ten_thousand_sas_of_an_earlier_life_are_gone_when_the_daemon_is_up() {
    sweeps_many("tenk", open_xfrm, "xfrm", &Plan::gcm());
}

#[test]
fn ten_thousand_sas_of_an_earlier_life_are_gone_over_pf_key() {
    let sha512 = IntegId::HMAC_SHA2_512_256;
    let plan = esp(EncrId::AES_CBC, sha512, 128, 16, 64);
    sweeps_many("pftenk", open_pfkey, "pfkey", &plan);
}

#[test]
fn a_policy_for_everything_does_not_hold_back_ike() {
    let Some(pair) = Pair::new("bypass") else {
        return;
    };
    let (_a, b) = both(&pair, "", ALL, "", "");
    wait_for("a Child SA", || sas(&pair.a) == 2);
    assert!(is_up(&pair), "{}", pair.tables());
    // The peer goes and tells: a trap for everything takes the place of the policies.
    b.kill("-TERM");
    wait_for("the trap", || templates(&pair.a) == 1 && sas(&pair.a) == 0);
    assert!(!is_up(&pair), "in the clear");
    let text = conf(1, "passive", ALL, &format!("{} {PSK}", proof(1)));
    let _b = Iked::start(&pair.b, &text);
    wait_for("another Child SA", || is_up(&pair));
}

#[test]
fn a_daemon_makes_a_vpn_by_routes_and_rekeys_it_without_loss() {
    let Some(pair) = Pair::new("route") else {
        return;
    };
    if !interfaces::interfaces(&pair, 7) {
        return;
    }
    let text = |side, active| {
        let words = format!("{} lifetime 12 {PSK} iface xfrm7", proof(side));
        conf(side, active, ALL, &words)
    };
    let _b = Iked::start(&pair.b, &text(1, "passive"));
    let a = Iked::start(&pair.a, &text(0, "active"));
    wait_for("a Child SA", || is_up(&pair));
    let first = states(&pair.a);
    // Longer than a Child SA lives.
    let flood = Command::new("ip")
        .args([
            "netns", "exec", &pair.a, "ping", "-q", "-c", "150", "-i", "0.1",
        ])
        .args(["-W", "2", "-I", "10.9.1.1", "10.9.2.1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&flood.stdout);
    assert!(said.contains(" 0% packet loss"), "{said}\n{}", a.log());
    let spi = |text: &str| {
        text.lines()
            .find_map(|line| Some(line.split_once("spi ")?.1.to_owned()))
    };
    assert_ne!(spi(&first), spi(&states(&pair.a)), "not rekeyed");
    assert!(states(&pair.a).contains("if_id 0x7"));
    // What has another way is left alone.
    assert!(pair.ping("192.0.2.1", "192.0.2.2").status.success());
    a.kill("-KILL");
    let idle = conf(
        0,
        "passive",
        ALL,
        &format!("{} {PSK} iface xfrm7", proof(0)),
    );
    let _next = Iked::start(&pair.a, &idle);
    assert_eq!((sas(&pair.a), templates(&pair.a)), (0, 0));
}

#[test]
fn a_daemon_does_all_over_pf_key() {
    let Some(pair) = Pair::new("pfd") else { return };
    let (a, b) = both(&pair, "set kernel pfkey", NETS, "", "");
    wait_for("a Child SA", || is_up(&pair));
    let shown = states(&pair.a);
    assert_eq!(shown.matches("enc cbc(aes)").count(), 2, "{shown}");
    a.kill("-TERM");
    wait_for("the end", || sas(&pair.b) == 0);
    assert_eq!((sas(&pair.a), templates(&pair.a)), (0, 0));
    b.kill("-TERM");
    assert_eq!(templates(&pair.b), 0);
}

/// As long as it lives the kernel has no NETLINK_XFRM.
pub(super) struct NoXfrm(String);

impl NoXfrm {
    pub(super) fn new() -> Self {
        let loader = "/proc/sys/kernel/modprobe";
        let before = std::fs::read_to_string(loader).unwrap();
        std::fs::write(loader, "/bin/false").unwrap();
        let removed = Command::new("rmmod").arg("xfrm_user").output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
        Self(before)
    }
}

impl Drop for NoXfrm {
    fn drop(&mut self) {
        let _ = std::fs::write("/proc/sys/kernel/modprobe", &self.0);
        let _ = Command::new("modprobe").arg("xfrm_user").output();
    }
}

#[test]
fn without_netlink_the_kernel_is_reached_by_pf_key() {
    let Some(pair) = Pair::new("auto") else {
        return;
    };
    if std::env::var_os("IKED_RIG").is_none() {
        return tell("NOT RUN: takes a module away from the kernel; under rig.sh only");
    }
    let nothing = NoXfrm::new();
    let (a, b) = both(&pair, "", NETS, "", "");
    wait_for("a Child SA", || is_up(&pair));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("iked.conf");
    let path = path.to_str().unwrap();
    let aead = "childsa enc aes-128-gcm";
    write_secret(path, &format!("\n{}", conf(0, "passive", NETS, aead)));
    let checked = Command::new(env!("CARGO_BIN_EXE_iked"))
        .args(["-n", "-f", path])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    let wanted = format!("{path}: 2: aes-128-gcm is not possible over PF_KEY (set kernel xfrm)");
    assert!(said.contains(&wanted), "{said}");
    a.kill("-TERM");
    b.kill("-TERM");
    drop(nothing);
    for ns in [&pair.a, &pair.b] {
        assert_eq!((sas(ns), templates(ns)), (0, 0));
    }
}
