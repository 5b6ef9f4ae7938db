//! Child SAs that compress: what a real kernel makes of two SAs in a row.

use iked::kernel::Outer;

use super::*;

/// Bytes and packets of the SAs of this protocol, as the kernel counts them.
fn counted(tables: &str, protocol: &str) -> Vec<(u64, u64)> {
    let mut counts = Vec::new();
    for state in tables.split("\nsrc ") {
        if !state.contains(&format!("proto {protocol} spi ")) {
            continue;
        }
        let current = state.split("lifetime current:").nth(1).unwrap();
        let number = |unit: &str| {
            let head = current.split(unit).next().unwrap();
            head.rsplit(' ').next().unwrap().trim().parse().unwrap()
        };
        counts.push((number("(bytes)"), number("(packets)")));
    }
    counts
}

fn ping_with(pair: &Pair, hosts: [&str; 2], words: &[&str]) {
    let ping = Command::new("ip")
        .args(["netns", "exec", &pair.a, "ping", "-q", "-c", "2"])
        .args(["-i", "0.2", "-W", "2", "-I", hosts[0], hosts[1]])
        .args(words)
        .output()
        .unwrap();
    assert!(ping.status.success(), "{words:?}\n{}", pair.tables());
}

fn compresses(open: fn() -> Box<dyn Backend>, pair: &Pair, plan: &Plan) {
    let mut a = in_namespace(&pair.a, open);
    let mut b = in_namespace(&pair.b, open);
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    let hosts = plan.inner_hosts();
    ping_with(pair, hosts, &["-s", "1000", "-p", "5a"]);
    let tables = pair.tables();
    for counts in [counted(&tables, "esp"), counted(&tables, "comp")] {
        let packets: Vec<u64> = counts.iter().map(|(_, packets)| *packets).collect();
        assert_eq!(packets, [2; 4], "{tables}");
    }
    let bytes = counted(&tables, "esp").into_iter().map(|(bytes, _)| bytes);
    assert!(bytes.max() < Some(600), "{tables}");
    // What does not become shorter goes uncompressed, and arrives too (RFC 3173, 2.2).
    ping_with(pair, hosts, &["-s", "16"]);
    let tables = pair.tables();
    let packets: Vec<u64> = counted(&tables, "esp").iter().map(|c| c.1).collect();
    assert_eq!(packets, [4; 4], "{tables}");
    all_ok(&a.apply(&[plan.delete(0)]));
    all_ok(&b.apply(&[plan.delete(1)]));
    assert_eq!(pair.tables(), "", "nothing stays behind");
}

fn compressed(mut plan: Plan) -> Plan {
    plan.ipcomp = true;
    plan
}

#[test]
fn compressed_packets_pass_in_all_modes() {
    let Some(pair) = Pair::new("comp") else {
        return;
    };
    compresses(open_xfrm, &pair, &compressed(Plan::gcm()));
    let v6 = Plan::gcm().over_ipv6().with_ipv6_inside();
    compresses(open_xfrm, &pair, &compressed(v6));
    compresses(
        open_xfrm,
        &pair,
        &compressed(Plan::gcm().in_transport_mode()),
    );
    let _sockets = encapsulation_sockets(&pair);
    let mut encapsulated = compressed(Plan::gcm());
    encapsulated.encap = Some([4500, 4500]);
    compresses(open_xfrm, &pair, &encapsulated);
}

#[test]
fn pfkey_compresses_too() {
    let Some(pair) = Pair::new("pfcomp") else {
        return;
    };
    let plan = esp(EncrId::AES_CBC, IntegId::HMAC_SHA1_96, 128, 16, 20);
    compresses(open_pfkey, &pair, &compressed(plan));
}

#[test]
fn the_sas_of_ipcomp_of_an_earlier_life_are_swept() {
    let Some(pair) = Pair::new("swcomp") else {
        return;
    };
    let plan = compressed(Plan::gcm());
    let (mut before, _) = pair.open();
    all_ok(&before.apply(&[plan.add(0)]));
    drop(before);
    let (mut after, _) = pair.open();
    all_ok(&after.apply(&[plan.add(0)]));
    assert_eq!(after.sweep().unwrap(), 4 + 3, "SAs and policies");
    assert_eq!(pair.tables(), "");
}

#[test]
fn a_compressed_child_sa_moves() {
    let Some(pair) = Pair::new("mvcomp") else {
        return;
    };
    ip(&["-n", &pair.a, "addr", "add", "192.0.2.11/24", "dev", "w"]);
    let (mut a, mut b) = pair.open();
    let plan = compressed(Plan::gcm());
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    let words = ["-s", "1000", "-p", "5a"];
    ping_with(&pair, plan.inner_hosts(), &words);
    let mut after = plan.clone();
    after.outer[0] = "192.0.2.11".parse().unwrap();
    for (backend, side) in [(&mut a, 0), (&mut b, 1)] {
        let (local, remote) = (after.outer[side], after.outer[1 - side]);
        let to = Outer {
            local,
            remote,
            encap: None,
        };
        let child = Box::new(plan.names(side));
        all_ok(&backend.apply(&[KernelRequest::MoveChild { child, to }]));
    }
    ping_with(&pair, plan.inner_hosts(), &words);
    let tables = pair.tables();
    let packets: Vec<u64> = counted(&tables, "comp").iter().map(|c| c.1).collect();
    assert_eq!(packets.len(), 4, "{tables}");
    assert!(packets.iter().all(|&count| count >= 2), "{tables}");
    all_ok(&a.apply(&[after.delete(0)]));
    all_ok(&b.apply(&[after.delete(1)]));
    assert_eq!(pair.tables(), "", "nothing stays behind");
}

#[test]
fn a_cpi_that_is_taken_fails_the_addition_whole() {
    let Some(pair) = Pair::new("cpi") else { return };
    let (mut a, _) = pair.open();
    let plan = compressed(Plan::gcm());
    let words = format!(
        "-n {} xfrm state add src 192.0.2.2 dst 192.0.2.1 proto comp spi 0x1001 reqid 7 \
         mode tunnel comp deflate",
        pair.a
    );
    ip(&words.split_whitespace().collect::<Vec<_>>());
    let results = a.apply(&[plan.add(0)]);
    assert_eq!(results[0].as_ref().unwrap_err().errno, libc::EEXIST);
    let tables = pair.tables();
    assert!(
        !tables.contains("proto esp") && !tables.contains("tmpl"),
        "{tables}"
    );
}
