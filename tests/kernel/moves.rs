//! Child SAs that move to other addresses and ports while packets go through them.

use std::process::Stdio;

use iked::kernel::Outer;

use super::*;

/// The side's request to move the plan's Child SA to where `after` is.
fn shift(plan: &Plan, after: &Plan, side: usize) -> KernelRequest {
    let other = 1 - side;
    let to = Outer {
        local: after.outer[side],
        remote: after.outer[other],
        encap: after.encap.map(|ports| Encap {
            local_port: ports[side],
            remote_port: ports[other],
        }),
    };
    let child = Box::new(plan.names(side));
    KernelRequest::MoveChild { child, to }
}

/// The hexadecimal numbers behind a word of `ip xfrm state`.
fn numbers(tables: &str, word: &str) -> Vec<u32> {
    let behind = tables.split(word).skip(1);
    let texts = behind.filter_map(|rest| rest.split([',', '\n', ' ']).next());
    let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16);
    texts.map(|text| number(text).unwrap()).collect()
}

/// One host moves, and the other is told, under a stream of packets.
fn moves_under_traffic(pair: &Pair, plan: &Plan, after: &Plan) -> String {
    let (mut a, mut b) = pair.open();
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    let hosts = plan.inner_hosts();
    let stream = Command::new("ip")
        .args(["netns", "exec", &pair.a, "ping", "-q", "-c", "150"])
        .args(["-i", "0.02", "-W", "2", "-I", hosts[0], hosts[1]])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(1500));
    let before = pair.tables();
    all_ok(&a.apply(&[shift(plan, after, 0)]));
    all_ok(&b.apply(&[shift(plan, after, 1)]));
    let output = stream.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let tables = pair.tables();
    let received: u32 = said
        .split(" received")
        .next()
        .and_then(|head| head.rsplit(' ').next())
        .and_then(|count| count.parse().ok())
        .unwrap();
    // Between the two moves an answer goes to where nobody is any more.
    assert!(received >= 145, "{said}\n{before}\n{tables}");
    assert_eq!(tables.matches("proto esp spi").count(), 4, "{tables}");
    let clean = tables.matches("replay-window 0 replay 0 failed 0").count();
    assert_eq!(clean, 4, "{tables}");
    // What was counted before is counted still, and numbers went on, each used once at most.
    let counted = |text: &str| -> u32 {
        let counts = text.split("(packets)").filter_map(|head| {
            let count = head.rsplit(' ').next()?;
            count.parse::<u32>().ok()
        });
        counts.sum()
    };
    assert!(counted(&tables) > counted(&before) + 200, "{tables}");
    let (earlier, later) = (numbers(&before, "oseq "), numbers(&tables, "oseq "));
    let (earlier, later) = (earlier.iter().max().unwrap(), later.iter().max().unwrap());
    assert!(*later >= earlier + 1024, "{earlier} {later}\n{tables}");
    let moved = {
        let mut moved = after.clone();
        moved.number = plan.number;
        moved
    };
    all_ok(&a.apply(&[moved.delete(0)]));
    all_ok(&b.apply(&[moved.delete(1)]));
    assert_eq!(pair.tables(), "", "nothing stays behind");
    tables
}

#[test]
fn child_sas_move_to_another_address_under_traffic() {
    let Some(pair) = Pair::new("move") else {
        return;
    };
    ip(&["-n", &pair.a, "addr", "add", "192.0.2.11/24", "dev", "w"]);
    let esn = [
        TransformId::Encr(EncrId::AES_GCM_16),
        TransformId::Esn(EsnId::ESN),
    ];
    let cbc = esp(EncrId::AES_CBC, IntegId::HMAC_SHA2_256_128, 256, 32, 32);
    for plan in [Plan::gcm(), Plan::new(&esn, Some(256), 36, 0), cbc] {
        let mut after = plan.clone();
        after.outer[0] = "192.0.2.11".parse().unwrap();
        let tables = moves_under_traffic(&pair, &plan, &after);
        assert!(!tables.contains("192.0.2.1 "), "{tables}");
    }
}

#[test]
fn child_sas_move_between_families_and_into_udp() {
    let Some(pair) = Pair::new("famove") else {
        return;
    };
    let _sockets = encapsulation_sockets(&pair);
    let plan = Plan::gcm();
    let tables = moves_under_traffic(&pair, &plan, &plan.clone().over_ipv6());
    assert!(!tables.contains("src 192.0.2."), "{tables}");
    let mut wrapped = plan.clone();
    wrapped.encap = Some([4500, 4500]);
    let tables = moves_under_traffic(&pair, &plan, &wrapped);
    assert_eq!(tables.matches("encap type espinudp").count(), 4, "{tables}");
    let tables = moves_under_traffic(&pair, &wrapped, &plan);
    assert!(!tables.contains("espinudp"), "{tables}");
}

#[test]
fn a_new_port_is_followed_in_the_sa_that_stands() {
    let Some(pair) = Pair::new("port") else {
        return;
    };
    let _sockets = encapsulation_sockets(&pair);
    let (mut a, mut b) = pair.open();
    let mut plan = Plan::gcm();
    plan.encap = Some([4500, 4500]);
    all_ok(&a.apply(&[plan.add(0)]));
    let after = plan.clone();
    plan.encap = Some([4777, 4500]);
    all_ok(&b.apply(&[plan.add(1)]));
    assert!(!pair.ping("10.9.1.1", "10.9.2.1").status.success());
    all_ok(&b.apply(&[shift(&plan, &after, 1)]));
    assert!(pair.ping("10.9.1.1", "10.9.2.1").status.success());
    let tables = pair.tables();
    assert!(!tables.contains("4777"), "{tables}");
    // Two answers lost, two that came: no number was left out.
    assert_eq!(numbers(&tables, "oseq ").iter().max(), Some(&4), "{tables}");
    let mut events = Vec::new();
    b.poll_events(&mut events);
    events.clear();
    pair.ping("10.9.1.1", "10.9.2.1");
    b.poll_events(&mut events);
    assert_eq!(events, [], "nothing is new about this port");
}

#[test]
fn a_child_sa_that_is_not_there_is_not_moved() {
    let Some(pair) = Pair::new("nomove") else {
        return;
    };
    let (mut a, _) = pair.open();
    let (plan, mut other) = (Plan::gcm(), Plan::gcm());
    other.number = 2;
    other.inner = [prefix("10.20.0.0", 16), prefix("10.21.0.0", 16)];
    let mut after = plan.clone();
    after.outer[1] = "192.0.2.99".parse().unwrap();
    all_ok(&a.apply(&[other.add(0)]));
    let results = a.apply(&[shift(&plan, &after, 0), shift(&other, &after, 0)]);
    assert_eq!(results[0].as_ref().unwrap_err().errno, libc::ESRCH);
    assert!(results[1].is_ok());
    let tables = pair.tables();
    assert_eq!(tables.matches("proto esp spi").count(), 2, "{tables}");
    assert!(!tables.contains("10.9.2.0/24"), "{tables}");
    assert_eq!(tables.matches("dst 192.0.2.99").count(), 2, "{tables}");
}

#[test]
fn pfkey_says_that_it_cannot_and_changes_nothing() {
    let Some(pair) = Pair::new("pfmove") else {
        return;
    };
    let mut backend = in_namespace(&pair.a, open_pfkey);
    let plan = esp(EncrId::AES_CBC, IntegId::HMAC_SHA1_96, 128, 16, 20);
    all_ok(&backend.apply(&[plan.add(0)]));
    let before = pair.tables();
    let mut after = plan.clone();
    after.outer[1] = "192.0.2.99".parse().unwrap();
    let results = backend.apply(&[shift(&plan, &after, 0)]);
    assert_eq!(results[0].as_ref().unwrap_err().errno, libc::EOPNOTSUPP);
    assert_eq!(pair.tables(), before);
}
