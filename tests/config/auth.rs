//! Who proves what to whom.

use iked::config::Diagnostic;
use iked::policy::{Auth, Eap, EapMethod, EapUser, Ppk, PublicKeyAuth, Round, Secret};

use super::world::{LEAST, World, error, parse, parse_in, policy};

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
