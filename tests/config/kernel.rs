//! What a text wants of the kernel, and what is refused because this one, or the way into it, cannot.

use iked::policy::{IfId, KernelWay};
use iked::wire::registry::{EncrId, EsnId, IntegId};
use iked::wire::{Transform, TransformId};

use super::world::{World, config, error, errors, parse_in, policy};

const PLAIN: &str = "ikev2 esp from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.1";

#[test]
fn an_xfrm_interface_gives_its_number_and_a_missing_one_is_refused() {
    let of = |name: &str| policy(&format!("{PLAIN} iface {name}")).if_id;
    assert_eq!(of("xfrm7"), IfId::new(7));
    assert_eq!(of("office"), IfId::new(7));
    // Any other may come later; it has addresses only.
    for name in ["eth0", "eth1", "xfrm", "xfrmx"] {
        assert_eq!(of(name), None, "{name}");
    }
    let refused = error(&format!("\n{PLAIN} iface xfrm1"));
    assert_eq!(refused, "test: 2: iface xfrm1: no such interface");
    let refused = error(&format!("{PLAIN} iface xfrm8"));
    assert_eq!(
        refused,
        "test: 1: iface xfrm8: an XFRM interface without if_id"
    );
}

#[test]
fn the_last_word_for_the_kernel_counts() {
    assert_eq!(config(PLAIN).settings.kernel, KernelWay::Auto);
    let text = format!("set kernel pfkey\nset kernel xfrm\n{PLAIN} childsa enc aes-128-gcm");
    assert_eq!(config(&text).settings.kernel, KernelWay::Xfrm);
    assert_eq!(
        error("set kernel netlink"),
        "test: 1: syntax error: unexpected 'netlink'"
    );
}

#[test]
fn what_pf_key_cannot_do_is_refused_by_name_where_it_is_written() {
    for (words, what) in [
        (
            "childsa enc aes-128 enc null childsa enc aes-128-gcm-12",
            "aes-128-gcm-12",
        ),
        ("childsa enc chacha20-poly1305", "chacha20-poly1305"),
        (
            "childsa auth hmac-sha2-512 auth hmac-sha2-256",
            "hmac-sha2-256",
        ),
        ("childsa enc aes-256 esn", "esn"),
        ("tag \"42\"", "a mark"),
        ("iface xfrm7", "an XFRM interface"),
        ("offload eth0", "offload"),
    ] {
        // Wherever the way into the kernel is said.
        let text = format!("\n{PLAIN} {words}\nset kernel pfkey\n");
        let wanted = format!("test: 2: {what} is not possible over PF_KEY (set kernel xfrm)");
        assert_eq!(errors(&text), [wanted]);
        let only_pfkey = World {
            only_pfkey: true,
            ..World::default()
        };
        let auto = text.replace("pfkey", "auto");
        assert_eq!(parse_in(&only_pfkey, &auto).unwrap_err().len(), 1, "{auto}");
        let xfrm = text.replace("pfkey", "xfrm");
        assert!(parse_in(&only_pfkey, &xfrm).is_ok(), "{xfrm}");
        assert_eq!(config(&auto).policies.len(), 1, "{auto}");
    }
    assert_eq!(
        error("set kernel pfkey\nset replay_window 64\n"),
        "test: 2: replay_window out of range: 64 is not in 32..32"
    );
    // Words of a firewall, and interfaces for addresses, are no business of it.
    let text = format!("set kernel pfkey\n{PLAIN} iface eth0 tag office");
    assert!(config(&text).policies.len() == 1);
}

#[test]
fn over_pf_key_the_defaults_are_what_it_can_do() {
    let text = format!("set kernel pfkey\n{PLAIN}");
    let config = config(&text);
    let [proposal] = config.policies[0].child_proposals.as_slice() else {
        panic!("one proposal: no AEAD");
    };
    let has = |id| {
        proposal
            .transforms
            .iter()
            .any(|transform: &Transform| transform.id == id)
    };
    assert!(has(TransformId::Encr(EncrId::AES_CBC)));
    assert!(has(TransformId::Integ(IntegId::HMAC_SHA1_96)));
    assert!(!has(TransformId::Integ(IntegId::HMAC_SHA2_256_128)));
    assert!(has(TransformId::Esn(EsnId::NO_ESN)) && !has(TransformId::Esn(EsnId::ESN)));
    assert!(config.policies[0].ike_proposals.len() > 1);
}

#[test]
fn windows_are_what_every_kernel_has_at_least_and_linux_at_most() {
    assert_eq!(config(PLAIN).settings.replay_window, 128);
    for size in [32, 4096] {
        let text = format!("set replay_window {size}\n{PLAIN}");
        assert_eq!(config(&text).settings.replay_window, size);
    }
    for size in [0, 31, 4097] {
        let said = error(&format!("set replay_window {size}"));
        let wanted = format!("test: 1: replay_window out of range: {size} is not in 32..4096");
        assert_eq!(said, wanted);
    }
}

#[test]
fn a_device_for_the_cryptography_is_named() {
    let policy = policy(&format!("{PLAIN} iface eth0 tag \"4\" offload eth1"));
    assert_eq!(policy.offload.as_deref(), Some("eth1"));
}
