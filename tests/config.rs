//! iked.conf(5) end to end: text in, policies, errors and printed text out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use iked::config::{
    Diagnostic, Environment, Files, Loaded, Resolver, SystemFiles, SystemResolver, load,
    parse_identity, parse_str, print,
};
use iked::policy::{
    Auth, Config, Eap, EapMethod, EapUser, Family, Generation, IpNet, Policy, Ppk, PublicKeyAuth,
    Round, Secret, Selection,
};
use iked::wire::TransformId;
use iked::wire::registry::{CfgAttrType, EncrId, EsnId, IdType, IntegId, KeId, PrfId, ProtocolId};
use proptest::prelude::*;
use zeroize::Zeroizing;

/// A world in which the names are known beforehand.
#[derive(Default)]
struct World {
    files: BTreeMap<&'static str, &'static str>,
    /// The host names that were asked for, each time.
    asked: RefCell<Vec<Vec<String>>>,
}

impl Resolver for World {
    fn interface(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "eth0" => vec![addr("192.0.2.1"), addr("2001:db8::1")],
            _ => Vec::new(),
        }
    }

    fn hosts(&self, names: &[String]) -> Vec<Option<Vec<IpAddr>>> {
        self.asked.borrow_mut().push(names.to_vec());
        let find = |name: &String| match name.as_str() {
            "peer.example" => Some(vec![addr("198.51.100.1")]),
            "both.example" => Some(vec![addr("2001:db8::2"), addr("198.51.100.2")]),
            "two.example" => Some(vec![addr("198.51.100.3"), addr("198.51.100.4")]),
            "late.example" => None,
            _ => Some(Vec::new()),
        };
        names.iter().map(find).collect()
    }

    fn service(&self, name: &str) -> Option<u16> {
        (name == "http").then_some(80)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        match name {
            "tcp" => Some(6),
            "udp" => Some(17),
            _ => None,
        }
    }
}

impl Files for World {
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let text = self.files.get(path).ok_or("No such file or directory")?;
        Ok(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    let (host, len) = text.split_once('/').unwrap();
    IpNet {
        addr: addr(host),
        len: len.parse().unwrap(),
    }
}

fn parse_in(world: &World, text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let environment = Environment {
        hostname: "gate.example",
        passive: false,
        resolver: world,
        files: world,
    };
    parse_str("test", text, &[], Generation(7), environment)
}

fn parse(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    parse_in(&World::default(), text)
}

fn config(text: &str) -> Config {
    parse(text)
        .unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
        .config
}

fn policy(text: &str) -> Policy {
    let config = config(text);
    assert_eq!(config.policies.len(), 1, "{text}");
    Policy::clone(config.policies.first().unwrap())
}

fn errors(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn error(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.into_iter().next().unwrap()
}

fn flows(policy: &Policy) -> Vec<String> {
    let end = |end: &iked::policy::FlowEnd| {
        let dynamic = if end.dynamic { "dynamic " } else { "" };
        let port = end.port.map_or(String::new(), |port| format!(":{port}"));
        format!("{dynamic}{}{port}", end.net)
    };
    let flow = |flow: &iked::policy::Flow| {
        format!("{} {} > {}", flow.protocol, end(&flow.from), end(&flow.to))
    };
    policy.flows.iter().map(flow).collect()
}

/// The transforms of each proposal, as iked.conf(5) or the RFC call them.
fn offered(proposals: &[iked::policy::Proposal]) -> Vec<String> {
    let name = |transform: &iked::wire::Transform| {
        let length = transform
            .key_length
            .map_or(String::new(), |bits| format!("-{bits}"));
        match transform.id {
            TransformId::Encr(id) => format!("{id}{length}"),
            TransformId::Prf(id) => format!("PRF_{id}"),
            TransformId::Integ(id) => id.to_string(),
            TransformId::Ke(id) => format!("KE_{id}"),
            TransformId::Esn(id) => id.to_string(),
            TransformId::Unknown(kind, id) => format!("{kind}:{id}"),
        }
    };
    let line = |proposal: &iked::policy::Proposal| {
        let names: Vec<String> = proposal.transforms.iter().map(name).collect();
        names.join(" ")
    };
    proposals.iter().map(line).collect()
}

const LEAST: &str = "ikev2 from 10.0.0.0/8 to 10.1.0.0/16 local 192.0.2.1 peer 192.0.2.2";

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
        set fragment_size 576\nuser alice secret\nuser alice \"new secret\"\n";
    let config = config(text);
    let settings = &config.settings;
    assert!(!settings.active && !settings.couple && !settings.fragmentation);
    assert!(!settings.mobike && !settings.vendor_id && settings.enforce_single_ike_sa);
    assert_eq!(settings.dpd_check_interval, Duration::ZERO);
    assert_eq!((settings.cookie_threshold, settings.half_open_max), (0, 5));
    assert_eq!(settings.half_open_timeout, Duration::from_secs(9));
    assert_eq!(settings.fragment_size, 576);
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

#[test]
fn groups_without_cipher_and_integrity_make_two_proposals() {
    let policy = policy(&format!(
        "{LEAST} ikesa group grp14 ikesa enc aes-128 childsa group ecp256"
    ));
    let ike = offered(&policy.ike_proposals);
    assert_eq!(ike.len(), 3);
    assert!(ike.first().unwrap().starts_with("AES_GCM_16-128"));
    assert!(ike.first().unwrap().ends_with("PRF_HMAC_SHA1 KE_MODP_2048"));
    assert!(ike.get(1).unwrap().starts_with("AES_CBC-256"));
    assert!(ike.get(1).unwrap().ends_with("HMAC_SHA1_96 KE_MODP_2048"));
    assert!(ike.get(2).unwrap().starts_with("AES_CBC-128 PRF"));
    let child = offered(&policy.child_proposals);
    assert_eq!(child.len(), 2);
    assert!(
        child
            .iter()
            .all(|line| line.ends_with("KE_ECP_256 ESN NO_ESN")),
        "{child:?}"
    );
}

#[test]
fn ah_has_no_cipher() {
    let policy = policy("ikev2 ah from any to any childsa auth hmac-sha2-512 esn");
    assert_eq!(policy.protocol, ProtocolId::AH);
    let expected = format!("HMAC_SHA2_512_256 KE_{} ESN", KeId::NONE);
    assert_eq!(offered(&policy.child_proposals), [expected]);
}

#[test]
fn transforms_that_do_not_go_together_are_refused() {
    let cases = [
        (
            "ikesa enc aes-256-gcm auth hmac-sha2-256",
            "authentication is implicit",
        ),
        (
            "ikesa enc aes-256-gcm enc aes-256",
            "cannot mix encryption transforms",
        ),
        ("ikesa esn", "cannot use ESN with ikesa."),
        ("ikesa group none", "IKE group can not be \"none\"."),
        ("ikesa enc aes-256-ctr", "aes-256-ctr not a valid transform"),
        ("childsa enc rot13", "rot13 not a valid transform"),
        ("childsa group modp1", ""),
    ];
    for (clause, message) in cases {
        let text = format!("{LEAST} {clause}");
        if message.is_empty() {
            assert!(parse(&text).is_ok(), "{clause}");
        } else {
            assert!(
                error(&text).starts_with(&format!("test: 1: {message}")),
                "{clause}"
            );
        }
    }
}

#[test]
fn transform_names_carry_the_registered_numbers() {
    let text = format!(
        "{LEAST} ikesa enc chacha20-poly1305 prf hmac-sha2-512 group brainpool512 \
         childsa enc blowfish enc cast enc null enc 3des auth hmac-md5 group none group grp25 esn"
    );
    let policy = policy(&text);
    let ids = |proposals: &[iked::policy::Proposal]| -> Vec<TransformId> {
        proposals
            .iter()
            .flat_map(|p| p.transforms.iter().map(|t| t.id))
            .collect()
    };
    assert_eq!(
        ids(&policy.ike_proposals),
        [
            TransformId::Encr(EncrId::CHACHA20_POLY1305),
            TransformId::Prf(PrfId::HMAC_SHA2_512),
            TransformId::Ke(KeId::BRAINPOOL_512),
        ]
    );
    assert_eq!(
        ids(&policy.child_proposals),
        [
            TransformId::Encr(EncrId::BLOWFISH),
            TransformId::Encr(EncrId::CAST),
            TransformId::Encr(EncrId::NULL),
            TransformId::Encr(EncrId::DES3),
            TransformId::Integ(IntegId::HMAC_MD5_96),
            TransformId::Ke(KeId::NONE),
            TransformId::Ke(KeId::ECP_192),
            TransformId::Esn(EsnId::ESN),
        ]
    );
}

#[test]
fn pre_shared_keys_are_text_hex_or_a_file() {
    let mut world = World::default();
    world.files.insert("/key", "00ff41\n");
    world.files.insert("/odd", "00ff4\n");
    world.files.insert("/bad", "hello\n");
    let psk = |clause: &str| {
        let loaded = parse_in(&world, &format!("{LEAST} psk {clause}"))?;
        let policy = loaded.config.policies.first().unwrap();
        let Auth::Psk(secret) = &policy.auth else {
            panic!("{:?}", policy.auth)
        };
        Ok::<_, Vec<Diagnostic>>(secret.expose().to_vec())
    };
    assert_eq!(psk("\"a b\"").unwrap(), b"a b");
    assert_eq!(psk("0x00fF41").unwrap(), b"\x00\xffA");
    assert_eq!(psk("0x00ff4").unwrap(), b"\x00\xff");
    assert_eq!(psk("file \"/key\"").unwrap(), b"\x00\xffA");
    assert_eq!(psk("file \"/odd\"").unwrap(), b"\x00\xff");
    let refused = |clause: &str| psk(clause).unwrap_err().first().unwrap().message.clone();
    assert_eq!(
        refused("file \"/bad\""),
        "pre-shared key is not hexadecimal"
    );
    assert_eq!(
        refused("file \"/none\""),
        "failed to read /none: No such file or directory"
    );
    assert_eq!(refused("0xzz"), "pre-shared key is not hexadecimal");
    assert_eq!(refused("\"\""), "empty pre-shared key");
    assert_eq!(refused("0x"), "empty pre-shared key");
    assert_eq!(refused(&"a".repeat(1025)), "pre-shared key too long");
    assert_eq!(
        refused("12345"),
        "syntax error: a string must be quoted: 12345"
    );
}

#[test]
fn post_quantum_keys_stand_beside_any_authentication() {
    let mut world = World::default();
    world.files.insert("/key", "00ff41\n");
    let read = |clauses: &str| parse_in(&world, &format!("{LEAST} {clauses}"));
    let long = "x".repeat(32);
    let text = format!(
        "ppk \"a b\" 0x{} required ppk two \"{long}\" ppk three file \"/key\" request address any",
        "00ff".repeat(16)
    );
    for (auth, expected) in [
        ("", Auth::PublicKey(PublicKeyAuth::Any)),
        ("psk abc", Auth::Psk(Secret::new(b"abc".to_vec()))),
        ("rsa", Auth::PublicKey(PublicKeyAuth::Rsa)),
        ("eap gtc", Auth::Eap(Eap::of(EapMethod::Gtc))),
    ] {
        let loaded = read(&format!("{auth} {text}")).unwrap();
        let policy = loaded.config.policies.first().unwrap();
        assert_eq!(policy.auth, expected);
        let ppk = |id: &str, secret: &[u8], required| Ppk {
            id: id.as_bytes().to_vec(),
            secret: Secret::new(secret.to_vec()),
            required,
        };
        let ppks = [
            ppk("a b", &[0, 0xff].repeat(16), true),
            ppk("two", long.as_bytes(), false),
            ppk("three", b"\x00\xffA", false),
        ];
        assert_eq!(policy.ppks, ppks);
        assert_eq!(policy.request.len(), 1);
        let short = "test: 1: ppk three: fewer than 32 bytes can be guessed by a quantum computer";
        assert_eq!(loaded.warnings, [short]);
    }
    let refused = |clause: &str| read(clause).unwrap_err().first().unwrap().message.clone();
    assert_eq!(refused("ppk \"\" x"), "invalid ppk ID: ");
    let endless = "a".repeat(256);
    assert_eq!(
        refused(&format!("ppk {endless} x")),
        format!("invalid ppk ID: {endless}")
    );
    assert_eq!(refused("ppk a x ppk b y ppk a z"), "duplicate ppk ID: a");
    assert_eq!(refused("ppk a \"\""), "empty pre-shared key");
    assert_eq!(refused("ppk a 0xzz"), "pre-shared key is not hexadecimal");
    let missing = "failed to read /none: No such file or directory";
    assert_eq!(refused("ppk a file \"/none\""), missing);
    assert!(refused("ppk a").starts_with("syntax error"));
    assert!(refused("ppk a b psk c").starts_with("syntax error"));
}

#[test]
fn further_authentications_follow_the_first() {
    let text = format!(
        "{LEAST} srcid host.example psk abc then eap gtc user alice pw \\
         then srcid user@a.b dstid \"other@a.b\" rsa then dstid x request address any"
    );
    let policy = policy(&text);
    assert_eq!(policy.auth, Auth::Psk(Secret::new(b"abc".to_vec())));
    let ids = |number| {
        let round: &Round = &policy.then[number];
        let dstid = round.dstid.as_ref().map(ToString::to_string);
        (round.srcid.to_string(), dstid.unwrap_or_default())
    };
    assert_eq!(policy.then.len(), 3);
    let host = "FQDN/host.example";
    assert_eq!(ids(0), (host.to_owned(), String::new()));
    let (user, other) = ("UFQDN/user@a.b", "UFQDN/other@a.b");
    assert_eq!(ids(1), (user.to_owned(), other.to_owned()));
    assert_eq!(ids(2), (host.to_owned(), "FQDN/x".to_owned()));
    assert!(matches!(&policy.then[0].auth, Auth::Eap(eap) if eap.user.is_some()));
    assert_eq!(policy.then[1].auth, Auth::PublicKey(PublicKeyAuth::Rsa));
    assert_eq!(policy.then[2].auth, Auth::PublicKey(PublicKeyAuth::Any));
    assert_eq!(policy.request.len(), 1);
    // The default of the first may be left out, too.
    assert_eq!(self::policy(&format!("{LEAST} then psk x")).then.len(), 1);
    let refused = |clause: &str| {
        parse(&format!("{LEAST} {clause}")).unwrap_err()[0]
            .message
            .clone()
    };
    let four = "psk a then psk b then psk c then psk d then psk e";
    assert_eq!(refused(four), "too many authentications");
    let mixed = "'ppk' does not go with several authentications";
    assert_eq!(refused("psk a then psk b ppk c d"), mixed);
    assert!(refused("psk a ppk c d then psk b").starts_with("syntax error"));
    assert_eq!(refused("psk a then psk \"\""), "empty pre-shared key");
    let nobody = "test: 1: 'active' with 'eap' and no 'user': nobody to begin as";
    let active =
        "ikev2 active from 10.0.0.1 to 10.0.0.2 local 192.0.2.1 peer 192.0.2.2 psk a then eap gtc";
    assert_eq!(parse(active).unwrap().warnings, [nobody]);
}

#[test]
fn authentication_words_are_understood() {
    let auth = |word: &str| policy(&format!("{LEAST} {word}")).auth;
    assert_eq!(auth("rsa"), Auth::PublicKey(PublicKeyAuth::Rsa));
    assert_eq!(auth("rsa-pss"), Auth::PublicKey(PublicKeyAuth::RsaPss));
    assert_eq!(auth("ecdsa256"), Auth::PublicKey(PublicKeyAuth::Ecdsa256));
    assert_eq!(auth("rfc7427"), Auth::PublicKey(PublicKeyAuth::Rfc7427));
    assert_eq!(auth("signature"), Auth::PublicKey(PublicKeyAuth::Any));
    let one = |method| Auth::Eap(Eap::of(method));
    assert_eq!(auth("eap mschap-v2"), one(EapMethod::MsChapV2));
    assert_eq!(auth("eap \"MSCHAP_V2\""), one(EapMethod::MsChapV2));
    assert_eq!(auth("eap \"md5\""), one(EapMethod::Md5));
    assert_eq!(auth("eap GTC"), one(EapMethod::Gtc));
    assert_eq!(auth("eap tls"), one(EapMethod::Tls));
    let methods = vec![EapMethod::MsChapV2, EapMethod::Gtc];
    let list = "eap { mschap-v2, \"gtc\" }";
    assert_eq!(
        auth(list),
        Auth::Eap(Eap {
            methods,
            user: None
        })
    );
    let user = EapUser {
        name: "alice".to_owned(),
        password: Secret::new(b"a b".to_vec()),
    };
    let methods = vec![EapMethod::Md5];
    let with_user = Auth::Eap(Eap {
        methods,
        user: Some(user),
    });
    assert_eq!(auth("eap md5 user alice \"a b\""), with_user);
    let wrong = error(&format!("{LEAST} eap md5 user alice \"\""));
    assert_eq!(wrong, "test: 1: invalid password");
    for (list, word) in [
        ("gtc gtc", "gtc"),
        ("gtc, radius", "radius"),
        ("radius gtc", "gtc"),
    ] {
        let wrong = error(&format!("{LEAST} eap {{ {list} }}"));
        let expected = format!("test: 1: EAP type does not go with the others: {word}");
        assert_eq!(wrong, expected);
    }
    let wrong = error(&format!("{LEAST} eap sim"));
    assert_eq!(wrong, "test: 1: not a supported EAP type: sim");
    let wrong = error(&format!("{LEAST} none"));
    assert_eq!(wrong, "test: 1: not a valid authentication mode: none");
}

#[test]
fn macros_includes_and_command_line_definitions_work_together() {
    let mut world = World::default();
    world.files.insert(
        "/more.conf",
        "# nothing\nlan = \"10.5.0.0/16\"\nikev2 included from any to any",
    );
    let text = "lan = 10.1.0.0\nname = \"a\" b\ninclude \"/more.conf\"\n\
        ikev2 last from $lan to $wan peer any local any\n";
    let macros = [("wan".to_owned(), "10.6.0.0/16".to_owned())];
    let environment = Environment {
        hostname: "h",
        passive: false,
        resolver: &world,
        files: &world,
    };
    // `name` is a keyword, so that line is an error, and the others are read all the same.
    let wrong = parse_str("main", text, &macros, Generation(1), environment).unwrap_err();
    let shown: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["main: 2: syntax error: unexpected 'name'"]);
    let text = text.replace("name = ", "title = ");
    let loaded = parse_str("main", &text, &macros, Generation(1), environment).unwrap();
    let names: Vec<&str> = loaded
        .config
        .policies
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(names, ["included", "last"]);
    assert_eq!(
        flows(loaded.config.policies.get(1).unwrap()),
        ["0 10.5.0.0/16 > 10.6.0.0/16"]
    );
}

#[test]
fn includes_end_somewhere() {
    let mut world = World::default();
    world
        .files
        .insert("/self", "include \"/self\"\ninclude \"/self\"\n");
    let wrong = parse_in(&world, "include \"/self\"\n").unwrap_err();
    assert!(
        wrong
            .iter()
            .any(|error| error.message.ends_with("too many includes")),
        "{wrong:?}"
    );
    let wrong = parse_in(&world, "\ninclude \"/none\"\n").unwrap_err();
    let shown: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["test: 2: failed to include file /none: No such file or directory"]
    );
}

#[test]
fn every_wrong_line_is_reported_with_its_place() {
    let text = "set nonsense\nfoo bar\nikev2 from any\nikev2 from any to any \\\n quick\n\
        ikev2 from $nothing to any\n\"x y\" = z\nuser a \"\"\nset dpd_check_interval -1\n\
        set dpd_check_interval 5m\nikev2 to any from any lifetime 3x\n=\n";
    assert_eq!(
        errors(text),
        [
            "test: 1: syntax error: unexpected 'nonsense'",
            "test: 2: syntax error: unexpected 'foo'",
            "test: 3: syntax error: unexpected end of line",
            "test: 5: syntax error: unexpected 'quick'",
            "test: 6: macro 'nothing' not defined",
            "test: 7: macro name cannot contain whitespace",
            "test: 8: invalid password",
            "test: 9: dpd_check_interval out of range: -1 is not in 0..31622400",
            "test: 10: syntax error: unexpected '5m'",
            "test: 11: invalid time specification: 3x",
            "test: 12: syntax error: unexpected '='",
        ]
    );
}

#[test]
fn clauses_out_of_order_are_syntax_errors() {
    for text in [
        "ikev2 active quick from any to any",
        "ikev2 from any to any dstid a srcid b dstid c",
        "ikev2 from any to any lifetime 1h ikelifetime 1h",
        "ikev2 from any to any psk x srcid a",
        "ikev2 from any to any childsa enc aes-128 ikesa enc aes-128",
        "ikev2 from any to any tag a iface lo",
        "ikev2 from any from any",
        "ikev2 peer any from any to any",
        "ikev2 \"a\" \"b\" from any to any",
        "ikev2 from any to any config address any",
    ] {
        assert!(error(text).starts_with("test: 1: syntax error"), "{text}");
    }
}

#[test]
fn what_this_platform_cannot_do_is_said() {
    let text = "ikev2 rdomain 1 from any to any";
    assert_eq!(
        error(text),
        "test: 1: 'rdomain' is not supported on this platform"
    );
}

#[test]
fn radius_lines_are_understood_and_printed() {
    let text = "radius server 192.0.2.1 secret x\n\
        radius server \"2001:db8::1\" port 1645 secret \"y z\"\n\
        radius max-failovers 1\n\
        radius accounting server 192.0.2.3 secret x\n\
        radius accounting max-tries 5\n\
        radius config inet6 name-server 0x1a 0xa9\n\
        radius config none 8\n\
        radius dae listen on 127.0.0.1\n\
        radius dae client 192.0.2.4 secret q\n\
        ikev2 from any to any eap radius\n";
    let config = config(text);
    let radius = &config.radius;
    let servers: Vec<String> = radius
        .auth
        .list
        .iter()
        .map(|s| s.address.to_string())
        .collect();
    assert_eq!(servers, ["192.0.2.1:1812", "[2001:db8::1]:1645"]);
    assert_eq!((radius.auth.tries, radius.auth.failovers), (3, 1));
    assert_eq!(radius.accounting.list[0].address.port(), 1813);
    assert_eq!(
        (radius.accounting.tries, radius.accounting.failovers),
        (5, 0)
    );
    let [mapped, none] = radius.mappings[..] else {
        panic!("two mappings");
    };
    assert_eq!((mapped.vendor, mapped.attribute), (26, 169));
    assert_eq!(
        (mapped.v4, mapped.v6),
        (None, Some(CfgAttrType::INTERNAL_IP6_DNS))
    );
    assert_eq!(
        (none.vendor, none.attribute, none.v4, none.v6),
        (0, 8, None, None)
    );
    assert_eq!(radius.dae_listen, ["127.0.0.1:3799".parse().unwrap()]);
    assert_eq!(radius.dae_clients[0].0, addr("192.0.2.4"));
    let shown = print(&config, false);
    assert!(shown.contains("radius server \"192.0.2.1\" port 1812 secret \"(hidden)\"\n"));
    let whole = print(&config, true);
    assert_eq!(*self::config(&whole).radius, **radius, "{whole}");
}

#[test]
fn radius_lines_that_mean_nothing_are_refused() {
    for (text, what) in [
        (
            "radius server radius.example secret x",
            "could not parse the address: radius.example",
        ),
        ("radius server 192.0.2.1 secret \"\"", "secret is empty"),
        (
            "radius server 192.0.2.1",
            "syntax error: unexpected end of line",
        ),
        (
            "radius max-tries 0",
            "max-tries must be in the range [1, 16]",
        ),
        (
            "radius config protected-subnet 8",
            "not a valid ikecfg option: protected-subnet",
        ),
        ("radius config address 256", "attribute outside range: 256"),
        (
            "radius config address 0x1000000 1",
            "vendor id outside range: 16777216",
        ),
        (
            "radius config inet6 netmask 9",
            "not a valid ikecfg option: netmask",
        ),
        (
            "radius dae client any secret x",
            "syntax error: unexpected 'any'",
        ),
        ("radius proxy x", "syntax error: unexpected 'proxy'"),
    ] {
        assert_eq!(error(text), format!("test: 1: {what}"), "{text}");
    }
}

#[test]
fn ipsec_conf_lines_are_passed_over() {
    let text = "ike esp from 10.0.0.0/8 to any \\\n more\nflow ( ! %\nsa \"x\ntcpmd5 a\nfrom b\n\
        to\ntunnel\ntransport x\nikev2 from any to any\n";
    assert_eq!(config(text).policies.len(), 1);
}

#[test]
fn the_last_default_policy_is_the_default() {
    let text = "ikev2 a default from any to any\nikev2 b from any to any\n\
        ikev2 c default from any to any\n";
    let loaded = parse(text).unwrap();
    let policies: Vec<(&str, u32)> = loaded
        .config
        .policies
        .iter()
        .map(|p| (p.name.as_str(), p.index))
        .collect();
    assert_eq!(policies, [("b", 0), ("c", 1)]);
    assert_eq!(
        loaded.warnings,
        ["test: 3: this default policy replaces an earlier one"]
    );
}

#[test]
fn an_empty_file_is_right_but_odd() {
    let loaded = parse("# nothing\nx = y\n").unwrap();
    assert_eq!(
        loaded.warnings,
        ["test: no valid configuration rules found"]
    );
}

#[test]
fn duplicate_flows_are_named_and_kept_once() {
    let loaded = parse("ikev2 from any to 10.0.0.1 from any to 10.0.0.1 peer any").unwrap();
    assert_eq!(loaded.warnings, ["test: 1: create_ike: duplicate flow"]);
    assert_eq!(loaded.config.policies.first().unwrap().flows.len(), 1);
}

#[test]
fn limits_are_kept() {
    let long = "a".repeat(1024);
    assert_eq!(
        error(&format!("ikev2 {long} from any to any")),
        "test: 1: name too long"
    );
    let many = "17 ".repeat(17);
    assert_eq!(
        error(&format!("ikev2 proto {{ {many} }} from any to any")),
        "test: 1: too many protocols"
    );
    let mut flows = String::from("ikev2");
    for i in 0..300 {
        flows.push_str(&format!(" from any to 10.0.{}.{}", i / 256, i % 256));
    }
    assert_eq!(error(&flows), "test: 1: too many traffic selectors");
    assert_eq!(
        error("set fragment_size 100"),
        "test: 1: fragment_size out of range: 100 is not in 256..65535"
    );
    assert_eq!(
        error("set halfopen_max 0"),
        "test: 1: halfopen_max out of range: 0 is not in 1..4294967295"
    );
    let text = "ikev2 from any to any port 65536 peer any";
    assert_eq!(error(text), "test: 1: port out of range: 65536");
    assert_eq!(
        error("ikev2 from any to any tap eth0"),
        "test: 1: invalid tap interface name: eth0"
    );
}

#[test]
fn printed_text_is_read_back_as_the_same_configuration() {
    let texts = [
        LEAST.to_owned(),
        "set passive\nset cookie_threshold 3\nset ocsp \"http://x/\" tolerate 1h maxage 2h\n\
         user \"a b\" 'c\"d'\nikev2 default from any to dynamic\n"
            .to_owned(),
        format!("{LEAST} psk 0x00ff22 config address 10.0.0.0/8 config netmask 255.0.0.0"),
        "ikev2 x skip active transport natt ah inet6 proto { 6 17 58 } \
         from fd00::/8 port 5 to 2001:db8::1 local any peer 2001:db8::9 childsa auth hmac-md5 \
         ikesa_is_no_keyword"
            .replace(" ikesa_is_no_keyword", ""),
        "ikev2 from 10.0.0.1 (192.168.0.0/24) to 10.2.0.0/16 local any peer any \
         srcid \"/C=DE/O=a\\/b/CN=x\" dstid \"who@x.y\" ikelifetime 1 lifetime 0 bytes 0 \
         ecdsa384 request address any request address fd00::5 iface lo tag \"t t\" tap enc0"
            .to_owned(),
        "ikev2 a\\\\ from any to any".to_owned(),
        format!(
            "{LEAST} psk x ppk 'a \"b' \"some secret\" required ppk c 0x00ff request address any"
        ),
        format!("{LEAST} ppk a b"),
        format!(
            "{LEAST} psk a then srcid b dstid '/C=DE/CN=\"c\"' rsa then eap gtc user d 'e' request address any"
        ),
        format!("set crl fetch\n{LEAST}"),
        format!("set crl try\n{LEAST}"),
        format!("{LEAST} eap gtc"),
        format!("{LEAST} eap gtc user alice 'a \"b' request address any"),
        format!("{LEAST} eap {{ mschap_v2 md5, gtc }} config address 10.0.0.0/8"),
    ];
    for text in texts {
        let config = config(&text);
        let printed = print(&config, true);
        let again = self::config(&printed);
        assert_eq!(format!("{again:?}"), format!("{config:?}"), "{printed}");
        assert_eq!(print(&again, true), printed);
    }
}

#[test]
fn the_printed_form_is_openiked_s() {
    let text = "ikev2 \"one\" active esp proto { tcp, udp } from 10.0.0.0/24 port 80 to 10.1.0.0/24 \
        local 192.0.2.1 peer 192.0.2.2 ikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 \
        group curve25519 childsa enc aes-256-ctr auth hmac-sha1 group none noesn srcid a@b.c \
        dstid \"/C=DE/CN=x\" ikelifetime 4h lifetime 30m bytes 2G psk abc config address 10.9.0.0/16";
    let expected = "ikev2 \"one\" active tunnel esp inet proto { tcp, udp } \
        from 10.0.0.0/24 port 80 to 10.1.0.0/24 from 10.0.0.0/24 port 80 to 10.1.0.0/24 \
        local 192.0.2.1 peer 192.0.2.2 ikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 \
        group curve25519 childsa enc aes-256-ctr auth hmac-sha1 group none noesn \
        srcid \"a@b.c\" dstid \"/C=DE/CN=x\" ikelifetime 14400 lifetime 1800 bytes 2147483648 \
        psk 0x616263 config address 10.9.0.0/16\n";
    assert_eq!(print(&config(text), true), expected);
}

#[test]
fn secrets_are_only_printed_when_asked_for() {
    let config = config(&format!(
        "user bob hunter2\n{LEAST} psk topsecret ppk who bobsecret\n\
         ikev2 x from 10.0.0.1 to 10.0.0.2 psk a then psk joesecret then eap gtc user joe eapsecret\n"
    ));
    let shown = print(&config, false);
    let hex = ["746f70736563726574", "626f62736563726574"];
    for secret in [
        "hunter2",
        "topsecret",
        "bobsecret",
        "joesecret",
        "eapsecret",
    ]
    .into_iter()
    .chain(hex)
    {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!format!("{config:?}").contains(secret));
    }
    assert!(print(&config, true).contains("hunter2"));
}

#[test]
fn the_sample_file_is_right() {
    let loaded = parse(include_str!("../conf/iked.conf")).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.config.policies.len(), 1);
    let uncommented: String = include_str!("../conf/iked.conf")
        .lines()
        .skip_while(|line| !line.contains("One client"))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            ["ikev2 ", "user ", "radius ", "\t"]
                .iter()
                .any(|word| line.starts_with(word))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let macros = "gateway = \"g\"\ninside = \"10.0.0.0/8\"\npool = \"10.9.0.0/16\"\n";
    let loaded = parse(&format!("{macros}{uncommented}")).unwrap();
    assert_eq!(loaded.config.policies.len(), 4, "{uncommented}");
    assert_eq!(loaded.config.radius.auth.list.len(), 2, "{uncommented}");
}

#[test]
fn files_are_checked_before_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("iked.conf");
    let mut file = std::fs::File::create(&path).unwrap();
    let elsewhere = "ikev2 rdomain 1 from any to any";
    writeln!(file, "ikev2 from any to any\n{elsewhere}").unwrap();
    let resolver = SystemResolver {
        interface_addresses: |_| Vec::new(),
        host_addresses: |_| Vec::new(),
    };
    let environment = Environment {
        hostname: "h",
        passive: false,
        resolver: &resolver,
        files: &SystemFiles,
    };
    let try_load = |path: &Path| {
        let loaded = load(path, &[], Generation(1), environment);
        loaded
            .map(|_| ())
            .map_err(|errors| errors.first().unwrap().to_string())
    };
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).unwrap();
    };
    let shown = path.display();
    mode(0o644);
    let open = format!("{shown}: group writable or world read/writable");
    assert_eq!(try_load(&path), Err(open));
    mode(0o640);
    let refused = format!("{shown}: 2: 'rdomain' is not supported on this platform");
    assert_eq!(try_load(&path), Err(refused));
    std::fs::write(&path, "ikev2 from any to any\n").unwrap();
    mode(0o600);
    assert_eq!(try_load(&path), Ok(()));
    let missing = dir.path().join("none");
    let expected = format!("{}: No such file or directory", missing.display());
    assert_eq!(try_load(&missing), Err(expected));
}

/// Texts made of the words of the language, so that many are nearly right.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "ikev2",
        "from",
        "to",
        "any",
        "dynamic",
        "10.0.0.0/8",
        "2001:db8::1",
        "both",
        "lo",
        "peer",
        "local",
        "ikesa",
        "childsa",
        "enc",
        "auth",
        "prf",
        "group",
        "aes-256-gcm",
        "aes-128",
        "hmac-sha2-256",
        "curve25519",
        "none",
        "esn",
        "noesn",
        "srcid",
        "dstid",
        "\"a b\"",
        "'x\\ y'",
        "a@b.c",
        "psk",
        "ppk",
        "required",
        "then",
        "0x00ff",
        "file",
        "key",
        "lifetime",
        "4h",
        "bytes",
        "17",
        "2G",
        "config",
        "request",
        "address",
        "name-server",
        "port",
        "http",
        "proto",
        "{",
        "}",
        ",",
        "tcp",
        "active",
        "quick",
        "default",
        "skip",
        "transport",
        "ah",
        "ipcomp",
        "natt",
        "inet",
        "set",
        "passive",
        "ocsp",
        "crl",
        "fetch",
        "tolerate",
        "fragment_size",
        "576",
        "user",
        "include",
        "macros",
        "$net",
        "net",
        "=",
        "\n",
        "\\\n",
        "#",
        "iface",
        "tag",
        "tap",
        "enc3",
        "\"/C=DE/CN=x\"",
        "eap",
        "mschap-v2",
        "rsa",
        "(",
        ")",
        "-1",
        "a\\\\",
        "\"",
        "ikelifetime",
        "radius",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

/// A right policy with nearly every clause, for the mutations.
const RICH: &str = "ikev2 one quick passive tunnel esp inet proto { tcp , 17 } from 10.0.0.0/8 port 80 \
        to any from any to 10.1.0.0/16 local 192.0.2.1 peer any ikesa enc aes-128 auth hmac-sha1 \
        ikesa group modp2048 childsa enc aes-256-gcm noesn srcid a dstid b@c ikelifetime 4h lifetime 30m \
        bytes 5K psk 0x00ff ppk a 0x00ff required ppk b c config address 10.9.0.0/16 config name-server 2001:db8::1 request address any \
        iface lo tag t tap enc0";

#[test]
fn the_text_that_is_mutated_is_right() {
    assert_eq!(policy(RICH).name, "one");
}

/// A right policy with words taken out, put in and exchanged.
fn nearly_right() -> impl Strategy<Value = String> {
    let base: Vec<String> = RICH.split_whitespace().map(str::to_owned).collect();
    (0..base.len(), 0..base.len(), words(), 0..4u8).prop_map(move |(at, other, extra, way)| {
        let mut words = base.clone();
        match way {
            0 => drop(words.remove(at)),
            1 => words.swap(at, other),
            2 => words.insert(at, extra),
            _ => words.truncate(at),
        }
        words.join(" ")
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        iked::config::fuzz(&bytes);
    }

    #[test]
    fn what_can_be_read_survives_being_printed(text in words()) {
        iked::config::fuzz(text.as_bytes());
    }

    #[test]
    fn broken_policies_are_refused_or_survive_being_printed(text in nearly_right()) {
        iked::config::fuzz(text.as_bytes());
    }
}
