//! XFRM interfaces: a VPN by routes. What a route sends out by the interface goes through its SAs,
//! what comes in through them comes out of it, and nothing else is touched.

use super::traps::trap;
use super::*;

/// An XFRM interface in each namespace, the peer's network behind it. Whether this kernel has them:
/// the one that user-mode Linux is made of has not.
pub(super) fn interfaces(pair: &Pair, number: u32) -> bool {
    let name = format!("xfrm{number}");
    let if_id = number.to_string();
    for (ns, other) in [(&pair.a, 2), (&pair.b, 1)] {
        let words = [
            "-n", ns, "link", "add", &name, "type", "xfrm", "dev", "w", "if_id", &if_id,
        ];
        let made = Command::new("ip").args(words).output().unwrap();
        if String::from_utf8_lossy(&made.stderr).contains("Unknown device type") {
            let uml = std::env::var("IKED_RIG").is_ok_and(|rig| rig == "uml");
            assert!(uml, "no XFRM interfaces");
            tell("NOT RUN: this kernel has no XFRM interfaces; `tests/kernel/run.sh -b tcg` has");
            return false;
        }
        assert!(made.status.success(), "{made:?}");
        ip(&["-n", ns, "link", "set", &name, "up"]);
        let net = format!("10.9.{other}.0/24");
        let source = format!("10.9.{}.1", 3 - other);
        ip(&[
            "-n", ns, "route", "replace", &net, "dev", &name, "src", &source,
        ]);
    }
    true
}

fn through(number: u32) -> Plan {
    let mut plan = Plan::gcm();
    plan.if_id = IfId::new(number);
    plan.inner = [prefix("0.0.0.0", 0), prefix("0.0.0.0", 0)];
    plan.number = number;
    plan
}

fn reaches(pair: &Pair) -> bool {
    pair.ping("10.9.1.1", "10.9.2.1").status.success()
}

/// Packets that the outbound SA of `a` with this number has seen.
fn sent(a: &mut Xfrm, plan: &Plan) -> u64 {
    let [count] = a.count(&[plan.names(0)])[..] else {
        panic!("not there");
    };
    count.outbound.packets
}

#[test]
fn an_interface_leads_into_its_tunnel_and_nothing_else_does() {
    let Some(pair) = Pair::new("if") else { return };
    if !interfaces(&pair, 7) {
        return;
    }
    assert!(!reaches(&pair), "without an SA nothing gets out");
    let (mut a, mut b) = pair.open();
    let (seven, eight) = (through(7), through(8));
    all_ok(&a.apply(&[seven.add(0), eight.add(0)]));
    all_ok(&b.apply(&[seven.add(1), eight.add(1)]));
    assert!(reaches(&pair), "{}", pair.tables());
    assert_eq!((sent(&mut a, &seven), sent(&mut a, &eight)), (2, 0));
    let received = ip(&["-n", &pair.b, "-s", "link", "show", "xfrm7"]);
    assert!(
        received.contains("168 "),
        "out of the interface: {received}"
    );
    // The selectors take in everything, and yet only what is sent by the interface is taken.
    assert!(pair.ping("192.0.2.1", "192.0.2.2").status.success());
    assert_eq!(sent(&mut a, &seven), 2);
    // Both have the same selectors, and a policy each.
    assert_eq!(pair.tables().matches("if_id 0x7").count(), 10);
    assert_eq!(pair.tables().matches("if_id 0x8").count(), 10);
    // The other interface has the other tunnel.
    assert!(interfaces(&pair, 8));
    assert!(reaches(&pair), "{}", pair.tables());
    assert_eq!((sent(&mut a, &seven), sent(&mut a, &eight)), (2, 2));
    for (backend, side) in [(&mut a, 0), (&mut b, 1)] {
        all_ok(&backend.apply(&[eight.delete(side)]));
    }
    assert!(!reaches(&pair), "another's tunnel was used");
    assert_eq!(pair.tables().matches("if_id 0x7").count(), 10);
    for (backend, side) in [(&mut a, 0), (&mut b, 1)] {
        all_ok(&backend.apply(&[seven.delete(side)]));
    }
    assert_eq!(pair.tables(), "");
}

#[test]
fn a_rekey_and_a_move_keep_the_interface() {
    let Some(pair) = Pair::new("ifre") else {
        return;
    };
    if !interfaces(&pair, 7) {
        return;
    }
    let (mut a, mut b) = pair.open();
    let old = through(7);
    let mut new = through(7);
    new.number = 9;
    let successor = |side: usize| {
        let KernelRequest::AddChild { id, mut child } = new.add(side) else {
            panic!("another request");
        };
        child.names.reqid = old.names(side).reqid;
        // As `sadb` has it: the policies stand.
        child.names.selectors.clear();
        KernelRequest::AddChild { id, child }
    };
    for (backend, side) in [(&mut a, 0), (&mut b, 1)] {
        all_ok(&backend.apply(&[old.add(side)]));
    }
    assert!(reaches(&pair), "{}", pair.tables());
    for (backend, side) in [(&mut a, 0), (&mut b, 1)] {
        all_ok(&backend.apply(&[successor(side)]));
        let mut names = old.names(side);
        names.selectors.clear();
        let child = Box::new(names);
        all_ok(&backend.apply(&[KernelRequest::DeleteChild { child }]));
    }
    assert!(reaches(&pair), "{}", pair.tables());
    ip(&["-n", &pair.a, "addr", "add", "192.0.2.11/24", "dev", "w"]);
    let after = ["192.0.2.11", "192.0.2.2"].map(|text| text.parse().unwrap());
    for (backend, side) in [(&mut a, 0), (&mut b, 1)] {
        let mut names = new.names(side);
        names.reqid = old.names(side).reqid;
        let to = iked::kernel::Outer {
            local: after[side],
            remote: after[1 - side],
            encap: None,
        };
        let child = Box::new(names);
        all_ok(&backend.apply(&[KernelRequest::MoveChild { child, to }]));
    }
    assert!(reaches(&pair), "{}", pair.tables());
    assert_eq!(pair.tables().matches("if_id 0x7").count(), 10);
}

#[test]
fn traps_of_an_interface_ask_and_what_a_crash_left_of_it_goes_alone() {
    let Some(pair) = Pair::new("iftrap") else {
        return;
    };
    if !interfaces(&pair, 7) {
        return;
    }
    let (mut a, mut b) = pair.open();
    let plan = through(7);
    a.set_trap(&trap(&plan), TRAP_TAG + 1).unwrap();
    assert!(!reaches(&pair));
    assert!(pair.ping("192.0.2.1", "192.0.2.2").status.success());
    let mut events = Vec::new();
    a.poll_events(&mut events);
    let reqid = TRAP_TAG + 1;
    assert_eq!(events, [KernelEvent::Acquire { reqid }]);
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    assert!(reaches(&pair), "{}", pair.tables());
    a.set_trap(&trap(&through(8)), TRAP_TAG + 2).unwrap();
    // Somebody else's, with the same selectors, on another interface and on none.
    for if_id in ["if_id 9", ""] {
        let other = format!(
            "xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir out priority 9999 {if_id} \
             tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel"
        );
        let mut words = vec!["-n", pair.a.as_str()];
        words.extend(other.split_whitespace());
        ip(&words);
    }
    // The process dies; the next one cleans up.
    drop(a);
    let (mut after, _) = pair.open();
    assert_eq!(after.sweep().unwrap(), 6, "{}", pair.tables());
    let left = ip(&["-n", &pair.a, "xfrm", "policy"]);
    assert_eq!(left.matches("reqid 7").count(), 2, "{left}");
    assert_eq!(left.matches("tmpl").count(), 2, "{left}");
    assert_eq!(daemon::sas(&pair.a), 0);
}

#[test]
fn an_interface_is_known_by_its_number() {
    let Some(pair) = Pair::new("ifid") else {
        return;
    };
    if !interfaces(&pair, 4711) {
        return;
    }
    let ask =
        |name: &'static str| in_namespace(&pair.a, move || iked::route::link::xfrm_interface(name));
    assert_eq!(ask("xfrm4711").unwrap(), Some(4711));
    assert_eq!(ask("w").unwrap(), None);
    let missing = ask("xfrm1").unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
}
