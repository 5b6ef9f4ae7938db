//! `from A (B)`: packets of B are translated to A by the firewall on their way into the tunnel.

use super::*;

/// The addresses before translation, one of them a host's.
const BEFORE: (&str, u8, &str) = ("10.77.0.0", 24, "10.77.0.1");

pub(super) fn output(ns: &str, words: &str) -> Output {
    let words = words.split_whitespace();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", ns]).args(words);
    command.output().unwrap()
}

fn with_nat(plan: &Plan, side: usize) -> KernelRequest {
    let KernelRequest::AddChild { id, mut child } = plan.add(side) else {
        panic!("another request");
    };
    let agreed = child.names.selectors[0];
    let before = prefix(BEFORE.0, BEFORE.1);
    let pair = if side == 0 {
        SelectorPair {
            local: before,
            outward: true,
            ..agreed
        }
    } else {
        // A peer that sends what was not agreed.
        SelectorPair {
            remote: before,
            outward: true,
            ..agreed
        }
    };
    child.names.selectors.push(pair);
    KernelRequest::AddChild { id, child }
}

fn translates(test: &str, open: fn() -> Box<dyn Backend>, plan: &Plan) {
    let Some(pair) = Pair::new(test) else { return };
    let (net, _, host) = BEFORE;
    let mut a = in_namespace(&pair.a, open);
    let mut b = in_namespace(&pair.b, open);
    ip(&[
        "-n",
        &pair.a,
        "addr",
        "add",
        &format!("{host}/24"),
        "dev",
        "lo",
    ]);
    all_ok(&a.apply(&[with_nat(plan, 0)]));
    all_ok(&b.apply(&[with_nat(plan, 1)]));
    let peer = plan.inner_hosts()[1];
    // Not translated, not in the clear, and nothing that the peer takes.
    assert!(!pair.ping(host, peer).status.success());
    let counted = |backend: &mut dyn Backend| {
        let count = backend.count(&[plan.names(0)])[0];
        (count.inbound.packets, count.outbound.packets)
    };
    assert_eq!(counted(a.as_mut()), (0, 2), "{}", pair.tables());
    let rule = format!(
        "iptables-legacy -t nat -A POSTROUTING -s {net}/24 -j SNAT --to-source {}",
        plan.inner_hosts()[0]
    );
    let ruled = output(&pair.a, &rule);
    assert!(
        ruled.status.success(),
        "{}",
        String::from_utf8_lossy(&ruled.stderr)
    );
    assert!(pair.ping(host, peer).status.success(), "{}", pair.tables());
    assert_eq!(counted(a.as_mut()), (2, 4), "{}", pair.tables());
    // What comes in is judged by what was agreed: it arrives and goes no further.
    ip(&[
        "-n",
        &pair.b,
        "route",
        "add",
        &format!("{net}/24"),
        "via",
        "192.0.2.1",
    ]);
    let sent = output(
        &pair.b,
        &format!("ping -q -c 2 -i 0.2 -W 2 -I {peer} {host}"),
    );
    assert!(!sent.status.success(), "{}", pair.tables());
    assert_eq!(counted(a.as_mut()), (4, 4), "{}", pair.tables());
    let mut names = plan.names(0);
    let KernelRequest::AddChild { child, .. } = with_nat(plan, 0) else {
        panic!("another request");
    };
    names.selectors = child
        .names
        .selectors
        .iter()
        .map(SelectorPair::key)
        .collect();
    let child = Box::new(names);
    all_ok(&a.apply(&[KernelRequest::DeleteChild { child }]));
    assert_eq!(ip(&["-n", &pair.a, "xfrm", "policy"]), "");
}

#[test]
fn packets_are_translated_on_their_way_into_the_tunnel() {
    translates("snat", open_xfrm, &Plan::gcm());
}
