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
fn hashing_of_policies_is_as_before_when_the_daemon_has_ended() {
    let Some(pair) = Pair::new("hash") else {
        return;
    };
    let (mut a, _) = pair.open();
    let before = a.thresholds().unwrap();
    assert_eq!((before.v4, before.v6), ([32, 32], [128, 128]));
    let text = conf(0, "passive", NETS, &format!("{} {PSK}", proof(0)));
    let iked = Iked::start(&pair.a, &text);
    let hosts = a.thresholds().unwrap();
    assert_eq!((hosts.v4, hosts.v6), ([0, 32], [0, 128]));
    iked.kill("-TERM");
    assert_eq!(a.thresholds().unwrap(), before);
    // What somebody else has set meanwhile stays.
    let iked = Iked::start(&pair.a, &text);
    let words = "xfrm policy set hthresh4 16 24";
    let words: Vec<&str> = ["-n", &pair.a]
        .into_iter()
        .chain(words.split(' '))
        .collect();
    ip(&words);
    iked.kill("-TERM");
    let left = a.thresholds().unwrap();
    assert_eq!((left.v4, left.v6), ([16, 24], [0, 128]));
}
