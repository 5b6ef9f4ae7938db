//! Clauses, defaults and settings.

use std::time::Duration;

use iked::config::{Environment, parse_identity, parse_str};
use iked::policy::{Auth, Family, Generation, KernelWay, PublicKeyAuth, Selection};
use iked::wire::registry::{CfgAttrType, IdType, KeId, ProtocolId};

use super::world::{LEAST, World, config, flows, net, offered, policy};

#[test]
fn a_short_policy_gets_the_defaults() {
    let policy = policy(LEAST);
    assert_eq!((policy.name.as_str(), policy.index), ("policy1", 0));
    assert_eq!(policy.selection, Selection::Last);
    assert!(!policy.active && !policy.transport && !policy.ipcomp && !policy.natt);
    assert_eq!(policy.protocol, ProtocolId::ESP);
    assert_eq!(policy.family, Some(Family::Inet));
    assert_eq!(policy.local, Some(net("192.0.2.1/32")));
    assert_eq!(policy.peer, Some(net("192.0.2.2/32")));
    assert_eq!(flows(&policy), ["0 10.0.0.0/8 > 10.1.0.0/16"]);
    assert_eq!(policy.srcid.kind, IdType::FQDN);
    assert_eq!(policy.srcid.data, b"gate.example");
    assert_eq!(policy.dstid, None);
    assert_eq!(policy.auth, Auth::PublicKey(PublicKeyAuth::Any));
    assert_eq!(policy.ike_lifetime, Duration::ZERO);
    assert_eq!(policy.child_lifetime, Duration::from_secs(10_800));
    assert_eq!(policy.child_lifetime_bytes, 4 << 30);
    assert!(policy.config.is_empty() && policy.request.is_empty());
}

#[test]
fn default_proposals_are_openbsd_s_with_chacha_last_among_its_kind() {
    let policy = policy(LEAST);
    let group = "KE_CURVE25519 KE_ECP_521 KE_ECP_384 KE_ECP_256 KE_MODP_4096 KE_MODP_3072 \
                 KE_MODP_2048 KE_MODP_1536 KE_MODP_1024";
    let prf = "PRF_HMAC_SHA2_256 PRF_HMAC_SHA2_384 PRF_HMAC_SHA2_512 PRF_HMAC_SHA1";
    let integ = "HMAC_SHA2_256_128 HMAC_SHA2_384_192 HMAC_SHA2_512_256 HMAC_SHA1_96";
    assert_eq!(
        offered(&policy.ike_proposals),
        [
            format!("AES_GCM_16-128 AES_GCM_16-256 CHACHA20_POLY1305 {prf} {group}"),
            format!("AES_CBC-256 AES_CBC-192 AES_CBC-128 3DES {prf} {integ} {group}"),
        ]
    );
    assert_eq!(
        offered(&policy.child_proposals),
        [
            "AES_GCM_16-128 AES_GCM_16-256 CHACHA20_POLY1305 CHACHA20_POLY1305-256 KE_0 ESN NO_ESN"
                .replace("KE_0", &format!("KE_{}", KeId::NONE)),
            format!(
                "AES_CBC-256 AES_CBC-192 AES_CBC-128 {integ} KE_{} ESN NO_ESN",
                KeId::NONE
            ),
        ]
    );
}

#[test]
fn every_clause_in_its_order_is_understood() {
    let text = "ikev2 \"one\" quick active ipcomp transport natt childless esp inet proto { tcp, udp } \
        from 10.0.0.0/24 port 80 to 10.1.0.0/24 port http, to eth0 from 192.0.2.7 \
        peer 192.0.2.2 local 192.0.2.1 \
        ikesa enc aes-256 enc aes-128 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519 \
        childsa enc aes-256-ctr auth hmac-sha1 noesn \
        srcid a@b.c dstid \"/C=DE/CN=x\" ikelifetime 4h lifetime 30m bytes 2G psk abc \
        config address 10.9.0.0/16 config name-server 10.9.0.1 config netmask 255.255.0.0 \
        config dns-domain corp.example config dnssec-ta \"20326 8 2 E06D44B8\" config dns-domain \".\" \
        request address any request name-server 10.0.0.1 request dns-domain any request dnssec-ta any \
        iface lo tag \"$name-$id\" tap enc3";
    let policy = policy(text);
    assert_eq!(policy.name, "one");
    assert_eq!(policy.selection, Selection::Quick);
    assert!(policy.active && policy.ipcomp && policy.transport && policy.natt && policy.childless);
    assert_eq!(
        flows(&policy),
        [
            "6 10.0.0.0/24:80 > 10.1.0.0/24:80",
            "17 10.0.0.0/24:80 > 10.1.0.0/24:80",
            "6 192.0.2.7/32 > 192.0.2.1/32",
            "17 192.0.2.7/32 > 192.0.2.1/32",
        ]
    );
    assert_eq!(
        offered(&policy.ike_proposals),
        ["AES_CBC-256 AES_CBC-128 PRF_HMAC_SHA2_256 HMAC_SHA2_256_128 KE_CURVE25519"]
    );
    assert_eq!(
        offered(&policy.child_proposals),
        [format!("AES_CTR-256 HMAC_SHA1_96 KE_{} NO_ESN", KeId::NONE)]
    );
    assert_eq!(policy.srcid, parse_identity("a@b.c").unwrap());
    assert_eq!(policy.dstid.as_ref().unwrap().kind, IdType::DER_ASN1_DN);
    assert_eq!(policy.ike_lifetime, Duration::from_secs(14_400));
    assert_eq!(policy.child_lifetime, Duration::from_secs(1800));
    assert_eq!(policy.child_lifetime_bytes, 2 << 30);
    let Auth::Psk(secret) = &policy.auth else {
        panic!("{:?}", policy.auth)
    };
    assert_eq!(secret.expose(), b"abc");
    let entries: Vec<_> = policy
        .config
        .iter()
        .map(|entry| (entry.attribute, entry.value, entry.is_pool))
        .collect();
    assert_eq!(
        entries,
        [
            (CfgAttrType::INTERNAL_IP4_ADDRESS, net("10.9.0.0/16"), true),
            (CfgAttrType::INTERNAL_IP4_DNS, net("10.9.0.1/32"), false),
            (
                CfgAttrType::INTERNAL_IP4_NETMASK,
                net("255.255.0.0/32"),
                false
            ),
        ]
    );
    assert_eq!(
        policy.request,
        [
            (CfgAttrType::INTERNAL_IP4_ADDRESS, None),
            (CfgAttrType::INTERNAL_IP4_DNS, Some(net("10.0.0.1/32"))),
            (CfgAttrType::INTERNAL_DNS_DOMAIN, None),
            (CfgAttrType::INTERNAL_DNSSEC_TA, None),
        ]
    );
    let domains = policy.domains.iter();
    let domains = domains.map(|domain| (domain.name.as_str(), domain.anchors.len()));
    assert_eq!(domains.collect::<Vec<_>>(), [("corp.example", 1), (".", 0)]);
    assert_eq!(policy.iface.as_deref(), Some("lo"));
    assert_eq!(policy.tag.as_deref(), Some("$name-$id"));
    assert_eq!(policy.tap.as_deref(), Some("enc3"));
}

#[test]
fn settings_are_set_and_the_last_word_counts() {
    let text = "set passive\nset active\nset passive\nset decouple\nset nofragmentation\n\
        set nomobike\nset novendorid\nset enforcesingleikesa\nset dpd_check_interval 0\n\
        set cookie_threshold 0\nset halfopen_max 5\nset halfopen_timeout 9\n\
        set fragment_size 576\nset kernel xfrm\nset replay_window 2048\nuser alice secret\nuser alice \"new secret\"\n";
    let config = config(text);
    let settings = &config.settings;
    assert!(!settings.active && !settings.couple && !settings.fragmentation);
    assert!(!settings.mobike && !settings.vendor_id && settings.enforce_single_ike_sa);
    assert_eq!(settings.dpd_check_interval, Duration::ZERO);
    assert_eq!((settings.cookie_threshold, settings.half_open_max), (0, 5));
    assert_eq!(settings.half_open_timeout, Duration::from_secs(9));
    assert_eq!(settings.fragment_size, 576);
    assert_eq!(
        (settings.kernel, settings.replay_window),
        (KernelWay::Xfrm, 2048)
    );
    assert_eq!(config.users.get("alice").unwrap().expose(), b"new secret");
    assert_eq!(config.generation, Generation(7));
}

#[test]
fn the_command_line_s_passive_is_only_the_first_word() {
    let world = World::default();
    let environment = Environment {
        hostname: "h",
        passive: true,
        resolver: &world,
        files: &world,
    };
    let active = |text| {
        let loaded = parse_str("test", text, &[], Generation(1), environment).unwrap();
        loaded.config.settings.active
    };
    assert!(!active(""));
    assert!(active("set active\n"));
}
