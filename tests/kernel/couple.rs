//! `ikectl couple` and `decouple`, and what the daemon leaves of its settings.

use super::daemon::{
    Iked, NETS, NoXfrm, PSK, both, conf, foreign, is_up, proof, sas, templates, wait_for,
};
use super::*;

#[test]
fn child_sas_of_a_decoupled_time_are_loaded_and_carry_traffic() {
    let Some(pair) = Pair::new("couple") else {
        return;
    };
    foreign(&pair.a);
    let foreign = (templates(&pair.a), sas(&pair.a));
    let (a, b) = both(&pair, "set decouple", NETS, "", "");
    wait_for("an IKE SA", || b.log().contains("established"));
    assert_eq!((templates(&pair.a), sas(&pair.a)), foreign);
    for iked in [&a, &b] {
        iked.ctl("couple");
    }
    // Loaded when `ikectl` says so or a moment later, and not made anew.
    wait_for("the Child SA", || {
        sas(&pair.a) == foreign.1 + 2 && sas(&pair.b) == 2
    });
    assert!(is_up(&pair), "{}", pair.tables());
    let shown = String::from_utf8(a.ask("show sa").stdout).unwrap();
    assert_eq!(shown.matches("iked_sas:").count(), 1, "{shown}");
    // Out of the kernel, but not of the daemon; only what is ours goes.
    a.ctl("decouple");
    wait_for("an empty kernel", || {
        (templates(&pair.a), sas(&pair.a)) == foreign
    });
    assert!(!is_up(&pair), "{}", pair.tables());
    a.ctl("couple");
    wait_for("new keys", || is_up(&pair));
    a.kill("-TERM");
    assert_eq!((templates(&pair.a), sas(&pair.a)), foreign);
}

#[test]
fn a_kernel_that_cannot_be_coupled_is_an_error() {
    let Some(pair) = Pair::new("nokern") else {
        return;
    };
    if std::env::var_os("IKED_RIG").is_none() {
        return tell("NOT RUN: takes a module away from the kernel; under rig.sh only");
    }
    let words = format!("{} {PSK}", proof(0));
    let text = format!(
        "set decouple\nset kernel xfrm\n{}",
        conf(0, "passive", NETS, &words)
    );
    let iked = Iked::start(&pair.a, &text);
    let nothing = NoXfrm::new();
    let said = iked.ask("couple");
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(error.contains("the kernel has no NETLINK_XFRM"), "{error}");
    wait_for("its line", || {
        iked.log().contains("not coupled: the kernel has no")
    });
    drop(nothing);
    iked.ctl("couple");
    iked.kill("-TERM");
}

#[test]
fn policies_for_hosts_are_hashed_and_what_is_so_already_is_not_set_again() {
    let Some(pair) = Pair::new("hash") else {
        return;
    };
    let (mut a, _) = pair.open();
    let mut hashed = || {
        let now = a.thresholds().unwrap();
        (now.v4, now.v6)
    };
    assert_eq!(hashed(), ([32, 32], [128, 128]));
    let text = conf(0, "passive", NETS, &format!("{} {PSK}", proof(0)));
    for _ in 0..2 {
        let iked = Iked::start(&pair.a, &text);
        assert_eq!(hashed(), ([0, 32], [0, 128]));
        iked.kill("-TERM");
        assert_eq!(hashed(), ([0, 32], [0, 128]));
    }
}

#[test]
fn whoever_has_the_kernel_sort_its_policies_anew_stays_until_it_has() {
    let Some(pair) = Pair::new("sort") else {
        return;
    };
    let (mut a, _) = pair.open();
    let begun = Instant::now();
    a.hash_hosts().unwrap();
    drop(a);
    assert!(begun.elapsed() >= Duration::from_secs(1));
}
