//! Anti-replay windows, limits of bytes, and devices that do the cryptography.

use std::collections::BTreeSet;
use std::time::SystemTime;

use iked::kernel::Found;
use iked::sadb::Sadb;
use iked::steer::ShardId;

use super::*;

/// Puts the outbound SA of `a` back to where its next packet has this number.
fn send_next(pair: &Pair, plan: &Plan, number: u32) {
    let names = plan.names(0);
    let spi = format!(
        "{:#010x}",
        u32::from_be_bytes(names.outbound_spi.to_bytes())
    );
    let sa = [
        "src",
        "192.0.2.1",
        "dst",
        "192.0.2.2",
        "proto",
        "esp",
        "spi",
        &spi,
    ];
    let key: String = (1..=20).map(|byte| format!("{byte:02x}")).collect();
    let (key, reqid) = (format!("0x{key}"), names.reqid.to_string());
    let oseq = format!("{:#x}", number - 1);
    let of = |words: &[&str]| {
        let all = [&["-n", pair.a.as_str(), "xfrm", "state"], words].concat();
        ip(&all);
    };
    of(&[&["delete"][..], &sa].concat());
    let rest = [
        "reqid",
        &reqid,
        "mode",
        "tunnel",
        "replay-window",
        "32",
        "replay-oseq",
        &oseq,
        "aead",
        "rfc4106(gcm(aes))",
        &key,
        "128",
    ];
    of(&[&["add"][..], &sa, &rest].concat());
}

fn arrives(pair: &Pair, plan: &Plan, number: u32) -> bool {
    send_next(pair, plan, number);
    // Two packets, with this number and the next.
    pair.ping("10.9.1.1", "10.9.2.1").status.success()
}

#[test]
fn a_window_of_4096_packets_takes_what_is_late_and_no_replay() {
    let Some(pair) = Pair::new("window") else {
        return;
    };
    let (mut a, mut b) = pair.open();
    let mut plan = Plan::gcm();
    plan.window = 4096;
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    let shown = ip(&["-n", &pair.b, "-s", "xfrm", "state"]);
    assert_eq!(shown.matches("replay_window 4096").count(), 2, "{shown}");
    assert!(arrives(&pair, &plan, 9000), "{}", pair.tables());
    assert!(arrives(&pair, &plan, 5000), "within the window");
    assert!(!arrives(&pair, &plan, 5000), "a replay");
    assert!(arrives(&pair, &plan, 6000));
    assert!(!arrives(&pair, &plan, 4000), "before the window");
    assert!(arrives(&pair, &plan, 20_000));
    assert!(!arrives(&pair, &plan, 9100), "the window has moved on");
}

#[test]
fn a_window_is_no_longer_than_it_says() {
    let Some(pair) = Pair::new("short") else {
        return;
    };
    let (mut a, mut b) = pair.open();
    let mut plan = Plan::gcm();
    plan.window = 128;
    all_ok(&a.apply(&[plan.add(0)]));
    all_ok(&b.apply(&[plan.add(1)]));
    assert!(arrives(&pair, &plan, 9000), "{}", pair.tables());
    assert!(arrives(&pair, &plan, 8900));
    assert!(!arrives(&pair, &plan, 8860));
}

#[test]
fn bytes_end_an_sa_and_are_told_before() {
    let Some(pair) = Pair::new("bytes") else {
        return;
    };
    for (by_pfkey, mut plan) in [(false, Plan::gcm()), (true, cbc())] {
        let open = if by_pfkey { open_pfkey } else { open_xfrm };
        let mut a = in_namespace(&pair.a, open);
        let mut b = in_namespace(&pair.b, open);
        all_ok(&b.apply(&[plan.add(1)]));
        plan.bytes = [200, 600];
        all_ok(&a.apply(&[plan.add(0)]));
        let spi = plan.names(0).inbound_spi;
        let told = |a: &mut Box<dyn Backend>| {
            let mut events = Vec::new();
            assert!(!a.poll_events(&mut events), "none are lost");
            events
        };
        // Two packets of 84 bytes each way.
        assert!(pair.ping("10.9.1.1", "10.9.2.1").status.success());
        assert_eq!(told(&mut a), []);
        assert!(pair.ping("10.9.1.1", "10.9.2.1").status.success());
        let soft = KernelEvent::Expire { spi, hard: false };
        assert_eq!(told(&mut a).first(), Some(&soft), "{}", pair.tables());
        for _ in 0..4 {
            let _ = pair.ping("10.9.1.1", "10.9.2.1");
        }
        let hard = KernelEvent::Expire { spi, hard: true };
        assert!(told(&mut a).contains(&hard), "{}", pair.tables());
        all_ok(&a.apply(&[plan.delete(0)]));
        all_ok(&b.apply(&[plan.delete(1)]));
    }
}

#[test]
fn a_device_that_cannot_leaves_it_to_the_kernel_and_a_missing_one_is_named() {
    let Some(pair) = Pair::new("offload") else {
        return;
    };
    let (mut a, _) = pair.open();
    let mut plan = Plan::gcm();
    plan.offload = Some("nowhere0");
    let results = a.apply(&[plan.add(0)]);
    let error = results[0].as_ref().unwrap_err();
    assert_eq!((error.errno, error.action), (libc::ENODEV, "offload"));
    assert_eq!(pair.tables(), "");
    // No kernel of the rig has a device that can.
    plan.offload = Some("w");
    for (ns, side) in [(&pair.a, 0), (&pair.b, 1)] {
        let request = plan.add(side);
        // The name is looked up where the backend works.
        in_namespace(ns, move || all_ok(&Xfrm::open().unwrap().apply(&[request])));
    }
    assert!(
        pair.ping("10.9.1.1", "10.9.2.1").status.success(),
        "{}",
        pair.tables()
    );
}

/// In the namespace of `pair.a`: tables are read by a socket that is opened for it.
fn finds_lost_events_again(pair: &Pair, backend: Box<dyn Backend>, plan: &Plan, count: u32) {
    let mut sadb = Sadb::new(Some(backend), None);
    let mut adds: Vec<(ShardId, KernelRequest)> = Vec::new();
    for number in 1..=count {
        let mut plan = plan.clone();
        (plan.number, plan.soft, plan.hard) = (number, 1, 10);
        let addr = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        plan.inner = [prefix("0.0.0.0", 0), IpNet { addr, len: 32 }];
        adds.push((ShardId(0), plan.add(0)));
    }
    sadb.serve(adds);
    let added = sadb.take_answers().into_values().flatten().count();
    let count = count as usize;
    assert_eq!(added, count);
    // Nobody else's make no difference.
    daemon::foreign(&pair.a);
    let told = |sadb: &mut Sadb, hard: bool| {
        let mut spis = BTreeSet::new();
        while sadb.take_events() {}
        for event in sadb.take_answers().into_values().flatten() {
            let KernelEvent::Expire { spi, hard: is } = event else {
                panic!("{event:?}");
            };
            assert_eq!(is, hard);
            spis.insert(spi);
        }
        spis
    };
    // Nobody listens, and there is room for a few.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(told(&mut sadb, false).len(), count, "soft");
    thread::sleep(Duration::from_secs(9));
    assert_eq!(told(&mut sadb, true).len(), count, "hard");
}

#[test]
fn events_that_did_not_fit_are_found_again_in_the_kernel_s_tables() {
    let Some(pair) = Pair::new("lost") else {
        return;
    };
    in_namespace(&pair.a.clone(), move || {
        let backend = Box::new(Xfrm::with_event_buffer(1).unwrap());
        finds_lost_events_again(&pair, backend, &Plan::gcm(), 100);
    });
}

#[test]
fn pfkey_loses_events_without_a_word_and_they_are_found_again_too() {
    let Some(pair) = Pair::new("pflost") else {
        return;
    };
    in_namespace(&pair.a.clone(), move || {
        let backend = Box::new(PfKey::with_buffer(1).unwrap());
        finds_lost_events_again(&pair, backend, &cbc(), 40);
    });
}

fn cbc() -> Plan {
    esp(EncrId::AES_CBC, IntegId::HMAC_SHA2_512_256, 128, 16, 64)
}

/// What a survey finds.
fn surveyed(backend: &mut dyn Backend) -> Vec<Found> {
    let mut found = Vec::new();
    let each = &mut |what| found.push(what);
    backend.survey(SystemTime::now(), each).unwrap();
    found
}

fn surveys(pair: &Pair, mut a: Box<dyn Backend>, mut plan: Plan) {
    assert_eq!(surveyed(a.as_mut()), [], "an empty table");
    daemon::foreign(&pair.a);
    assert_eq!(surveyed(a.as_mut()), [], "none of ours");
    // A packet waits for what a trap wants, and its event is not read.
    a.set_trap(&traps::trap(&plan), TRAP_TAG + 5).unwrap();
    assert!(!pair.ping("10.9.1.1", "10.9.2.1").status.success());
    let wanted = Found::Wanted {
        reqid: TRAP_TAG + 5,
    };
    assert_eq!(surveyed(a.as_mut()), [wanted]);
    // Both SAs of a Child SA that is to be replaced are told by the inbound one.
    (plan.number, plan.soft, plan.hard) = (6, 1, 600);
    plan.inner = [prefix("10.20.0.0", 16), prefix("10.21.0.0", 16)];
    all_ok(&a.apply(&[plan.add(0)]));
    thread::sleep(Duration::from_secs(3));
    let names = plan.names(0);
    let sa = |destination, spi, aged| Found::Sa {
        destination,
        spi,
        aged,
    };
    let aged = Some(names.inbound_spi);
    let found = surveyed(a.as_mut());
    assert!(found.contains(&sa(names.local, names.inbound_spi, aged)));
    assert!(found.contains(&sa(names.remote, names.outbound_spi, None)));
    assert!(found.contains(&wanted) && found.len() == 3, "{found:?}");
}

#[test]
fn a_survey_tells_what_is_ours_and_what_waits() {
    let Some(pair) = Pair::new("survey") else {
        return;
    };
    in_namespace(&pair.a.clone(), move || {
        surveys(&pair, open_xfrm(), Plan::gcm());
    });
}

#[test]
fn pfkey_surveys_too() {
    let Some(pair) = Pair::new("pfsurvey") else {
        return;
    };
    in_namespace(&pair.a.clone(), move || {
        surveys(&pair, open_pfkey(), cbc());
    });
}
