//! What is read from where, and what is said of what is wrong; `radius`.

use iked::config::{Environment, parse_str, print};
use iked::policy::Generation;
use iked::wire::registry::CfgAttrType;

use super::world::{World, addr, config, error, errors, flows, parse, parse_in};

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
