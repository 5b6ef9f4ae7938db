//! Printed configurations, the sample, and files.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use iked::config::{Environment, SystemFiles, SystemResolver, load, print};
use iked::policy::Generation;

use super::world::{LEAST, config, parse};

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
         ecdsa384 request address any request address fd00::5 iface lo tag \"t t\" tap enc0 \
         offload eth0"
            .to_owned(),
        "ikev2 a\\\\ from any to any".to_owned(),
        format!(
            "{LEAST} psk x ppk 'a \"b' \"some secret\" required ppk c 0x00ff request address any"
        ),
        format!("{LEAST} ppk a b"),
        format!(
            "{LEAST} psk a then srcid b dstid '/C=DE/CN=\"c\"' rsa then eap gtc user d 'e' request address any"
        ),
        format!("set kernel pfkey\n{LEAST}"),
        format!("set kernel xfrm\nset replay_window 4096\n{LEAST} iface office"),
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
    let loaded = parse(include_str!("../../conf/iked.conf")).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.config.policies.len(), 1);
    let uncommented: String = include_str!("../../conf/iked.conf")
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
        link: |_| iked::config::Link::Absent,
        only_pfkey: || false,
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
