//! Policies without an SA: packets are held back, and the kernel asks.

use super::*;

pub(super) fn trap(plan: &Plan) -> Trap {
    let names = plan.names(0);
    Trap {
        policy: 3,
        pair: names.selectors[0],
        protocol: names.protocol,
        transport: names.transport,
        local: "0.0.0.0".parse().unwrap(),
        remote: names.remote,
    }
}

/// What the kernel asks for because of packets that do not arrive.
fn asked(pair: &Pair, backend: &mut dyn Backend) -> Vec<KernelEvent> {
    let hosts = Plan::gcm().inner_hosts();
    let ping = pair.ping(hosts[0], hosts[1]);
    assert!(!ping.status.success(), "a packet got out in the clear");
    let mut events = Vec::new();
    assert!(!backend.poll_events(&mut events), "none are lost");
    events
}

fn holds_back_and_asks(test: &str, open: fn() -> Box<dyn Backend>, plan: &Plan) {
    let Some(pair) = Pair::new(test) else { return };
    let mut a = in_namespace(&pair.a, open);
    let mut b = in_namespace(&pair.b, open);
    let trap = trap(plan);
    let acquire = |reqid| KernelEvent::Acquire { reqid };
    let hosts = plan.inner_hosts();
    assert!(pair.ping(hosts[0], hosts[1]).status.success());
    a.set_trap(&trap, TRAP_TAG + 1).unwrap();
    assert_eq!(asked(&pair, a.as_mut()), [acquire(TRAP_TAG + 1)]);
    assert_eq!(asked(&pair, a.as_mut()), [], "not again within a while");
    // The Child SA takes its place, whatever the kernel is waiting for.
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    assert!(pair.ping(hosts[0], hosts[1]).status.success());
    let policies = || ip(&["-n", &pair.a, "xfrm", "policy"]);
    assert_eq!(policies().matches("tmpl").count(), 3);
    // And gives it back: nothing gets out, and the kernel asks at once.
    a.set_trap(&trap, TRAP_TAG + 2).unwrap();
    let mut names = plan.names(0);
    names.selectors.clear();
    let child = Box::new(names);
    all_ok(&a.apply(&[KernelRequest::DeleteChild { child }]));
    let shown = policies();
    assert_eq!(shown.matches("tmpl").count(), 1, "{shown}");
    assert_eq!(asked(&pair, a.as_mut()), [acquire(TRAP_TAG + 2)]);
    a.remove_policies(&[trap.pair]).unwrap();
    assert_eq!(policies(), "");
    a.remove_policies(&[trap.pair]).unwrap();
}

#[test]
fn a_trap_holds_packets_back_until_its_child_sa_is_there_and_after_it() {
    holds_back_and_asks("trap", open_xfrm, &Plan::gcm());
}

#[test]
fn pfkey_traps_hold_packets_back_too() {
    let sha512 = IntegId::HMAC_SHA2_512_256;
    let plan = esp(EncrId::AES_CBC, sha512, 128, 16, 64);
    holds_back_and_asks("pftrap", open_pfkey, &plan);
}

#[test]
fn traps_of_an_earlier_life_are_swept() {
    let Some(pair) = Pair::new("swtrap") else {
        return;
    };
    let (mut a, _) = pair.open();
    a.set_trap(&trap(&Plan::gcm()), TRAP_TAG + 7).unwrap();
    assert!(pair.tables().contains("tmpl"));
    assert_eq!(a.sweep().unwrap(), 1);
    assert_eq!(pair.tables(), "");
}

#[test]
fn a_trap_gives_way_to_child_sas_with_narrower_selectors_and_to_their_likes() {
    let Some(pair) = Pair::new("narrow") else {
        return;
    };
    let (mut a, mut b) = pair.open();
    let mut plan = Plan::gcm();
    let mut wide = trap(&plan);
    wide.pair.remote = prefix("10.9.0.0", 16);
    a.set_trap(&wide, TRAP_TAG + 1).unwrap();
    // As specific as the trap, but another selector: one prefix shorter here, longer there.
    plan.inner = [prefix("10.9.0.0", 16), prefix("10.9.2.0", 24)];
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    let ping = pair.ping("10.9.1.1", "10.9.2.1");
    assert!(ping.status.success(), "{}", pair.tables());
}
