//! Hosts, names, networks, ports and flows.

use iked::config::print;
use iked::policy::Family;
use iked::wire::registry::CfgAttrType;

use super::world::{World, config, error, flows, net, parse, parse_in, policy};

#[test]
fn hosts_are_addresses_then_interfaces_then_names() {
    let policy = policy("ikev2 from peer.example to 10.0.0.5/24 local eth0 peer both.example");
    assert_eq!(flows(&policy), ["0 198.51.100.1/32 > 10.0.0.5/24"]);
    // The first address of `local` settles the family.
    assert_eq!(policy.local, Some(net("192.0.2.1/32")));
    assert_eq!(policy.peer, Some(net("198.51.100.2/32")));
    let error = error("ikev2 from nowhere.example to any");
    assert_eq!(
        error,
        "test: 1: no IP address found for nowhere.example: could not parse host specification"
    );
}

#[test]
fn all_names_are_asked_for_at_once_and_each_once() {
    let world = World::default();
    let text = "ikev2 from peer.example to both.example/24 local eth0 peer two.example \\
                config name-server peer.example
ikev2 active from 10.0.0.1 (two.example) to 10.0.0.2 peer peer.example
ikev2 from any to 10.0.0.2 peer nowhere.example
ikev2 from any to 10.0.0.2 peer late.example";
    let errors: Vec<String> = match parse_in(&world, text) {
        Ok(_) => panic!("accepted"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    let end = "could not parse host specification";
    let wanted = [
        "test: 1: cannot mix different address families: invalid flow".to_owned(),
        format!("test: 4: no IP address found for nowhere.example: {end}"),
        format!("test: 5: no answer in time for late.example: {end}"),
    ];
    assert_eq!(errors, wanted);
    let names = ["both", "late", "nowhere", "peer", "two"].map(|name| format!("{name}.example"));
    assert_eq!(*world.asked.borrow(), [names]);
}

#[test]
fn addresses_of_names_are_taken_in_step_and_the_first_that_fits() {
    let local = "local any peer any";
    let of = |text: &str| flows(&policy(&format!("ikev2 {text} {local}")));
    let two = [
        "0 198.51.100.3/32 > 198.51.100.3/32",
        "0 198.51.100.4/32 > 198.51.100.4/32",
    ];
    assert_eq!(of("from two.example to two.example"), two);
    assert_eq!(
        of("from any to two.example"),
        ["0 0.0.0.0/0 > 198.51.100.3/32"]
    );
    let policy = policy("ikev2 active inet from any to any peer both.example");
    assert_eq!(policy.peer, Some(net("198.51.100.2/32")));
    let uneven = format!("ikev2 from 10.0.0.1 to two.example {local}");
    let warning = "test: 1: a side of the flow has more addresses than the other: those go without";
    assert_eq!(parse(&uneven).unwrap().warnings, [warning]);
}

#[test]
fn a_tag_that_is_a_number_is_a_mark_and_what_has_no_effect_is_said() {
    let of = |clause: &str| {
        let text = format!("ikev2 from any to any local any peer any \\\n {clause}");
        let loaded = parse(&text).unwrap();
        (loaded.config.policies[0].mark(), loaded.warnings)
    };
    for (tag, mark) in [
        ("tag \"42\"", 42),
        ("tag 0x2A", 42),
        ("tag \"0xffffffff\"", u32::MAX),
    ] {
        assert_eq!(of(tag), (Some(mark), vec![]), "{tag}");
    }
    let tag = "'tag' has no effect on this platform but as a number, which becomes a mark";
    for word in [
        "tag \"$name-$id\"",
        "tag \"0\"",
        "tag \"+4\"",
        "tag \"0x+4\"",
        "tag 0x100000000",
    ] {
        assert_eq!(of(word), (None, vec![format!("test: 2: {tag}")]), "{word}");
    }
    let warning = "test: 2: 'tap' has no effect on this platform".to_owned();
    assert_eq!(of("tap enc3"), (None, vec![warning]));
}

#[test]
fn source_nat_is_kept_and_printed() {
    let text = "ikev2 from 10.0.0.1 (192.168.0.0/24) port 80 to 10.2.0.0/16 local any peer any";
    let policy = policy(text);
    let flow = policy.flows.first().unwrap();
    assert_eq!(flow.pre_nat, Some(net("192.168.0.0/24")));
    assert_eq!(flow.from.net, net("10.0.0.1/32"));
    let printed = print(&config(text), true);
    let from = " from 10.0.0.1 (192.168.0.0/24) port 80 to 10.2.0.0/16 ";
    assert!(printed.contains(from), "{printed}");
    let wrong = "test: 1: flow NAT address family mismatch";
    let mixed = "ikev2 from 10.0.0.1 (fd00::/64) to 10.2.0.0/16 local any peer any";
    assert_eq!(error(mixed), wrong);
    let wrong = "test: 1: no flow NAT support for destination network";
    let there = "ikev2 from 10.0.0.1 to 10.2.0.0/16 (10.3.0.0/16) local any peer any";
    assert_eq!(error(there), wrong);
}

#[test]
fn port_0_is_every_port() {
    let policy = policy("ikev2 from 10.0.0.1 port 0 to 10.0.0.2 port 80 peer any");
    let ports = |flow: &iked::policy::Flow| (flow.from.port, flow.to.port);
    assert_eq!(
        policy.flows.iter().map(ports).collect::<Vec<_>>(),
        [(None, Some(80))]
    );
}

#[test]
fn a_shortened_attribute_is_one_of_the_family_of_its_address() {
    let policy =
        policy("ikev2 from any to any peer any config net 10.0.0.1 config net 2001:db8::1");
    let attributes: Vec<_> = policy.config.iter().map(|entry| entry.attribute).collect();
    let wanted = [
        CfgAttrType::INTERNAL_IP4_NETMASK,
        CfgAttrType::INTERNAL_IP6_NBNS,
    ];
    assert_eq!(attributes, wanted);
}

#[test]
fn without_local_and_peer_there_must_be_one_flow_to_take_them_from() {
    let two = "ikev2 from 10.0.0.1 to 10.0.0.2, from 10.0.0.3 to 10.0.0.4";
    assert_eq!(
        error(two),
        "test: 1: could not get local/peer specification"
    );
}

#[test]
fn wildcards_take_the_family_of_the_other_side_or_both() {
    let of = |text: &str| flows(&policy(&format!("ikev2 {text} local any peer any")));
    assert_eq!(
        of("from any to any"),
        ["0 0.0.0.0/0 > 0.0.0.0/0", "0 ::/0 > ::/0"]
    );
    assert_eq!(of("from any to 10.0.0.1"), ["0 0.0.0.0/0 > 10.0.0.1/32"]);
    assert_eq!(of("from 2001:db8::/32 to any"), ["0 2001:db8::/32 > ::/0"]);
    assert_eq!(
        of("from 10.0.0.0/8 to dynamic"),
        ["0 10.0.0.0/8 > dynamic 0.0.0.0/32"]
    );
    assert_eq!(
        of("from any to dynamic"),
        [
            "0 0.0.0.0/0 > dynamic 0.0.0.0/32",
            "0 ::/0 > dynamic ::/128"
        ]
    );
    // Lists are walked in step: one wildcard goes with one address.
    assert_eq!(of("from eth0 to any"), ["0 192.0.2.1/32 > 0.0.0.0/0"]);
    assert_eq!(
        of("from eth0 to eth0"),
        [
            "0 192.0.2.1/32 > 192.0.2.1/32",
            "0 2001:db8::1/128 > 2001:db8::1/128"
        ]
    );
    let both = "test: 1: cannot mix different address families: invalid flow";
    assert_eq!(
        error("ikev2 from 10.0.0.0/8 to 2001:db8::/32 local any peer any"),
        both
    );
}

#[test]
fn without_local_and_peer_the_first_flow_stands_in() {
    let loaded = parse("ikev2 from 10.0.0.0/24 to 192.0.2.2").unwrap();
    let policy = loaded.config.policies.first().unwrap();
    assert_eq!(
        (policy.local, policy.peer),
        (Some(net("10.0.0.0/24")), Some(net("192.0.2.2/32")))
    );
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.starts_with("test: 1: neither 'local'"))
    );
    let policy = self::policy("ikev2 from any to any");
    assert_eq!(
        (policy.local, policy.peer, policy.family),
        (None, None, None)
    );
    let policy = self::policy("ikev2 from any to any local 2001:db8::1");
    assert_eq!((policy.peer, policy.family), (None, Some(Family::Inet6)));
    let several = "test: 1: could not get local/peer specification";
    assert_eq!(error("ikev2 from eth0 to eth0"), several);
    // The side that has one address stands in.
    let policy = self::policy("ikev2 from 10.0.0.1 to two.example");
    assert_eq!(
        (policy.local, policy.peer),
        (Some(net("10.0.0.1/32")), None)
    );
}

#[test]
fn families_of_local_and_peer_must_agree() {
    let text = "ikev2 from any to any local 192.0.2.1 peer 2001:db8::1";
    assert_eq!(error(text), "test: 1: peer address family mismatch");
    let text = "ikev2 inet6 from any to any local 192.0.2.1 peer 192.0.2.2";
    assert_eq!(error(text), "test: 1: policy address family mismatch");
}

#[test]
fn prefix_lengths_must_fit_their_family() {
    for text in [
        "10.0.0.0/33",
        "2001:db8::/129",
        "10.0.0.0/-1",
        "\"10.0.0.0/33\"",
        "\"10.0.0.0/x\"",
    ] {
        let error = error(&format!("ikev2 from {text} to any"));
        assert!(
            error.contains("could not parse host specification: bad prefix length"),
            "{error}"
        );
    }
    assert_eq!(
        flows(&policy("ikev2 from \"10.0.0.0/8\" to any")),
        ["0 10.0.0.0/8 > 0.0.0.0/0"]
    );
}

#[test]
fn active_policies_need_a_concrete_peer() {
    let wrong = "test: 1: active mode requires local/peer address";
    assert_eq!(error("ikev2 active from any to any"), wrong);
    assert_eq!(
        error("ikev2 active from any to any peer 192.0.2.0/24"),
        wrong
    );
    assert_eq!(
        error("ikev2 active from any to any local 192.0.2.0/24 peer 192.0.2.7"),
        wrong
    );
    assert!(policy("ikev2 active from any to any peer 192.0.2.7").active);
}
