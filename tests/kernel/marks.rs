//! `tag` as a number: packets that came through an SA carry it as their mark, for the firewall.

use super::nat::output;
use super::*;

/// How many packets of the peer the firewall of `a` has seen with this mark.
fn seen(pair: &Pair) -> String {
    let listed = output(&pair.a, "iptables-legacy -t mangle -nvxL INPUT");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let rule = listed.lines().find(|line| line.contains("mark match"));
    let count = rule.and_then(|rule| rule.split_whitespace().next());
    count.unwrap_or_default().to_owned()
}

#[test]
fn packets_of_the_peer_are_marked_also_after_a_move() {
    let Some(pair) = Pair::new("mark") else {
        return;
    };
    let plan = Plan::gcm();
    let (mut a, mut b) = pair.open();
    let KernelRequest::AddChild { id, mut child } = plan.add(0) else {
        panic!("another request");
    };
    child.mark = Some(0x2a);
    all_ok(&a.apply(&[KernelRequest::AddChild { id, child }]));
    all_ok(&b.apply(&[plan.add(1)]));
    let rule = "iptables-legacy -t mangle -A INPUT -p icmp -m mark --mark 42";
    assert!(output(&pair.a, rule).status.success());
    let hosts = plan.inner_hosts();
    assert!(pair.ping(hosts[0], hosts[1]).status.success());
    assert_eq!(seen(&pair), "2", "{}", pair.tables());
    // What leaves has none: routes by mark would send ESP elsewhere.
    assert_eq!(
        pair.tables().matches("output-mark 0x2a").count(),
        1,
        "{}",
        pair.tables()
    );
    let to = iked::kernel::Outer {
        local: plan.names(0).local,
        remote: plan.names(0).remote,
        encap: Some(Encap {
            local_port: 4500,
            remote_port: 4500,
        }),
    };
    let child = Box::new(plan.names(0));
    all_ok(&a.apply(&[KernelRequest::MoveChild { child, to }]));
    assert_eq!(
        pair.tables().matches("output-mark 0x2a").count(),
        1,
        "{}",
        pair.tables()
    );
}
