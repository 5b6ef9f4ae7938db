//! A host that is granted addresses: routes into the tunnel, the gateway outside of it, name servers
//! with the resolver, and nothing of all that when it is over.

use super::daemon::{Iked, PSK, sas, wait_for, write_secret};
use super::nat::output;
use super::*;

/// The gateway's address, which `a` reaches by its default route.
const GATEWAY: &str = "203.0.113.2";
/// Another gateway.
const ELSEWHERE: &str = "203.0.113.3";
/// Somebody in the Internet.
const FAR: &str = "198.18.0.1";
const FAR6: &str = "2001:db8:f::1";

/// Namespaces, `a` with an interface of this kind for what it is granted, and a program that stands
/// for resolvectl and notes what it is asked.
struct Scene {
    pair: Pair,
    iface: &'static str,
    programs: tempfile::TempDir,
}

impl Scene {
    fn new(test: &str, iface: &'static str, kind: &str) -> Option<Self> {
        let pair = Pair::new(test)?;
        for words in [
            format!("addr add {GATEWAY}/32 dev lo"),
            format!("addr add {ELSEWHERE}/32 dev lo"),
            format!("addr add {FAR}/32 dev lo"),
            format!("-6 addr add {FAR6}/128 dev lo nodad"),
            "route add 10.66.0.0/24 via 192.0.2.1".to_owned(),
            "-6 route add fd00:66::/64 via 2001:db8::1".to_owned(),
        ] {
            in_ns(&pair.b, &words);
        }
        let made = output(&pair.a, &format!("ip link add {iface} type {kind}"));
        let why = String::from_utf8_lossy(&made.stderr).into_owned();
        if why.contains("Unknown device type") {
            let uml = std::env::var("IKED_RIG").is_ok_and(|rig| rig == "uml");
            assert!(uml, "no {kind}");
            tell(&format!("{test}: NOT RUN: this kernel has no {kind}"));
            return None;
        }
        assert!(made.status.success(), "{why}");
        for words in [
            format!("link set {iface} up"),
            "route del 10.9.2.0/24".to_owned(),
            "-6 route del fd00:2::/64".to_owned(),
            "route add default via 192.0.2.2".to_owned(),
            "-6 route add default via 2001:db8::2".to_owned(),
        ] {
            in_ns(&pair.a, &words);
        }
        filter_strictly(&pair.a);
        Some(Self {
            pair,
            iface,
            programs: resolvectl(),
        })
    }

    /// The gateway, which leads everywhere.
    fn gateway(&self) -> Iked {
        let conf = format!(
            "ikev2 \"it\" passive esp from 0.0.0.0/0 to dynamic from ::/0 to dynamic \
             peer any srcid end2.example dstid end1.example {PSK} \
             config address 10.66.0.0/24 config address fd00:66::/64 \
             config name-server 10.9.2.53 config dns-domain corp.example\n"
        );
        Iked::start(&self.pair.b, &conf)
    }

    /// The host that is granted addresses.
    fn host(&self, mode: &str, words: &str) -> Iked {
        let iface = self.iface;
        let conf = format!(
            "ikev2 \"it\" {mode} esp from dynamic to 0.0.0.0/0 from dynamic to ::/0 \
             peer {GATEWAY} srcid end1.example dstid end2.example {words} {PSK} \
             request address any request address :: request name-server any \
             request dns-domain any iface {iface}\n"
        );
        Iked::start_beside(&self.pair.a, &conf, Some(folder(&self.programs)))
    }

    /// What `ip` says on the host.
    fn shown(&self, words: &str) -> String {
        let output = output(&self.pair.a, &format!("ip {words}"));
        String::from_utf8(output.stdout).unwrap()
    }

    fn pings(&self, to: &str) -> bool {
        let words = format!("ping -q -c 2 -i 0.2 -W 2 {to}");
        output(&self.pair.a, &words).status.success()
    }

    /// All that there is of ours: rules, routes of the table, addresses.
    fn ours(&self) -> Vec<String> {
        let rules = self.shown("rule") + &self.shown("-6 rule");
        let table = self.shown("route show table 210") + &self.shown("-6 route show table 210");
        let addresses = self.shown(&format!("-o addr show dev {}", self.iface));
        let ours = rules.lines().filter(|line| line.contains("lookup 210"));
        let of_tests = |line: &&str| line.contains("66.0.") || line.contains("fd00:66:");
        let addresses = addresses.lines().filter(of_tests);
        let all = ours.chain(table.lines()).chain(addresses);
        all.map(|line| line.trim_end().to_owned()).collect()
    }

    /// What the resolver was asked since the last time.
    fn asked(&self) -> Vec<String> {
        let path = self.programs.path().join("asked");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    fn is_up(&self) -> bool {
        sas(&self.pair.a) == 2 && self.ours().len() == OURS
    }

    /// Everything goes into the tunnel but what the gateway itself is to get.
    fn leads(&self, gateway: &str) {
        let far = self.shown(&format!("route get {FAR}"));
        assert!(far.contains(&format!("dev {} ", self.iface)), "{far}");
        assert!(far.contains("src 10.66.0."), "{far}");
        let far = self.shown(&format!("-6 route get {FAR6}"));
        assert!(far.contains("src fd00:66:"), "{far}");
        let gateway = self.shown(&format!("route get {gateway}"));
        assert!(gateway.contains("via 192.0.2.2 dev w"), "{gateway}");
        let marked = self.shown(&format!("route get {FAR} mark 0x49000000"));
        assert!(marked.contains("via 192.0.2.2 dev w"), "{marked}");
        let before = self.packets();
        assert!(self.pings(FAR), "{}", self.pair.tables());
        assert!(self.pings(FAR6), "{}", self.pair.tables());
        assert!(self.packets() >= before + 8, "in the clear");
    }

    /// Packets that the SAs of the host have seen.
    fn packets(&self) -> u64 {
        let text = self.shown("-s xfrm state");
        let counts = text.lines().filter_map(|line| {
            let (_, count) = line.trim().split_once("(bytes), ")?;
            count.strip_suffix("(packets)")?.parse::<u64>().ok()
        });
        counts.sum()
    }
}

/// A folder with a program of that name, which notes there what it is asked.
fn resolvectl() -> tempfile::TempDir {
    let programs = tempfile::tempdir().unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >>{}/asked\n", folder(&programs));
    let program = programs.path().join("resolvectl");
    write_secret(program.to_str().unwrap(), &script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(program, mode).unwrap();
    programs
}

fn folder(of: &tempfile::TempDir) -> &str {
    of.path().to_str().unwrap()
}

/// What comes from where packets would not go to is dropped.
fn filter_strictly(ns: &str) {
    in_namespace(ns, || {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
    });
}

fn in_ns(ns: &str, words: &str) {
    let mut all = vec!["-n", ns];
    all.extend(words.split(' '));
    ip(&all);
}

const DUMMY: (&str, &str) = ("vpn0", "dummy");
/// Rules, default routes and addresses of both families, and the way around for the gateway.
const OURS: usize = 7;

/// Set from the first Child SA on, taken away with the IKE SA, and at the end.
fn comes_and_goes(scene: &Scene) {
    let _b = scene.gateway();
    let a = scene.host("active", "");
    wait_for("routes", || scene.is_up());
    let ours = scene.ours();
    let iface = scene.iface;
    for line in [
        "210:\tnot from all fwmark 0x49000000 lookup 210 proto 73",
        &format!("throw {GATEWAY} proto 73"),
    ] {
        assert!(ours.iter().any(|own| own == line), "{line}: {ours:#?}");
    }
    let default = format!("default dev {iface} proto 73");
    let defaults = ours.iter().filter(|own| own.starts_with(&default));
    assert_eq!(defaults.count(), 2, "{ours:#?}");
    scene.leads(GATEWAY);
    let asked = [
        format!("dns {iface} 10.9.2.53"),
        format!("domain {iface} corp.example ~."),
        format!("default-route {iface} yes"),
    ];
    assert_eq!(scene.asked(), asked);
    // The IKE SA goes and none comes: whatever was there before is there again.
    a.ctl("passive");
    a.ctl("reset sa");
    wait_for("the end of the IKE SA", || scene.ours().is_empty());
    assert_eq!(sas(&scene.pair.a), 0);
    wait_for("the resolver", || {
        scene.asked() == [format!("revert {iface}")]
    });
    a.ctl("active");
    wait_for("routes again", || scene.is_up());
    scene.leads(GATEWAY);
    assert_eq!(scene.asked(), asked);
    a.kill("-TERM");
    assert!(scene.ours().is_empty(), "{:#?}", scene.ours());
    assert_eq!(scene.asked(), [format!("revert {iface}")]);
}

#[test]
fn everything_goes_into_the_tunnel_of_a_host_that_is_granted_addresses_as_long_as_it_stands() {
    let Some(scene) = Scene::new("lease", DUMMY.0, DUMMY.1) else {
        return;
    };
    comes_and_goes(&scene);
}

#[test]
fn granted_addresses_lead_into_an_xfrm_interface_vpn_by_routes() {
    let Some(scene) = Scene::new("leasex", "xfrm7", "xfrm dev w if_id 7") else {
        return;
    };
    comes_and_goes(&scene);
}

#[test]
fn a_killed_daemon_leaves_routes_to_the_next_which_takes_away_its_own_alone() {
    let Some(scene) = Scene::new("leasek", DUMMY.0, DUMMY.1) else {
        return;
    };
    for foreign in [
        "route add 10.77.0.0/16 dev vpn0 table 210",
        "rule add priority 209 to 10.78.0.0/16 lookup 210",
        "-6 rule add priority 210 to fd00:78::/64 lookup 210",
        "addr add 10.166.0.1/32 dev vpn0",
    ] {
        in_ns(&scene.pair.a, foreign);
    }
    let before = scene.ours();
    assert_eq!(before.len(), 4, "{before:#?}");
    let b = scene.gateway();
    let a = scene.host("active", "");
    wait_for("routes", || scene.ours().len() == OURS + 4);
    a.kill("-KILL");
    assert_eq!(scene.ours().len(), OURS + 4);
    scene.asked();
    let next = scene.host("passive", "");
    wait_for("the resolver", || scene.asked() == ["revert vpn0"]);
    assert_eq!(scene.ours(), before);
    next.kill("-TERM");
    assert_eq!(scene.ours(), before);
    drop(b);
}

#[test]
fn rekeys_of_a_host_that_is_granted_addresses_touch_no_route() {
    let Some(scene) = Scene::new("leaser", DUMMY.0, DUMMY.1) else {
        return;
    };
    let b = scene.gateway();
    let a = scene.host("active", "ikelifetime 15 lifetime 10");
    wait_for("routes", || scene.is_up());
    let first = scene.shown("xfrm state");
    let before = scene.ours();
    let log = File::create(scene.programs.path().join("changes")).unwrap();
    let mut monitor = Command::new("ip")
        .args(["-n", &scene.pair.a, "monitor", "route", "rule", "address"])
        .stdout(log)
        .spawn()
        .unwrap();
    let flood = Command::new("ip")
        .args(["netns", "exec", &scene.pair.a])
        .args(["ping", "-q", "-i", "0.1", "-W", "2", FAR])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The Child SA is rekeyed on the way.
    wait_for("two rekeys", || a.log().matches("rekeyed as").count() == 2);
    let interrupt = ["-INT", &flood.id().to_string()];
    assert!(
        Command::new("kill")
            .args(interrupt)
            .status()
            .unwrap()
            .success()
    );
    let flood = flood.wait_with_output().unwrap();
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let said = String::from_utf8_lossy(&flood.stdout);
    assert!(said.contains(" 0% packet loss"), "{said}\n{}", a.log());
    let spi = |text: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.split_once("spi ")?.1.to_owned()))
    };
    assert_ne!(spi(&first), spi(&scene.shown("xfrm state")), "not rekeyed");
    let loaded = a.log().matches("loaded SPIs").count();
    assert!(loaded > 2, "{loaded} Child SAs: {}", a.log());
    assert_eq!(scene.ours(), before);
    let changes = std::fs::read_to_string(scene.programs.path().join("changes")).unwrap();
    let ours = |line: &&str| {
        ["vpn0", "210", GATEWAY]
            .iter()
            .any(|word| line.contains(word))
    };
    let ours: Vec<&str> = changes.lines().filter(ours).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    assert_eq!(scene.asked().len(), 3);
    drop((a, b));
}

#[test]
fn a_gateway_that_sends_its_peers_elsewhere_is_left_though_everything_goes_into_its_tunnel() {
    let Some(scene) = Scene::new("leaseg", DUMMY.0, DUMMY.1) else {
        return;
    };
    let b = scene.gateway();
    let a = scene.host("active", "");
    wait_for("routes", || scene.is_up());
    b.ctl(&format!("redirect {ELSEWHERE}"));
    let around = format!("throw {ELSEWHERE} proto 73");
    wait_for("the other gateway", || {
        scene.is_up() && scene.ours().contains(&around)
    });
    scene.leads(ELSEWHERE);
    drop((a, b));
}
