//! Texts made of the words of the language: none takes the reader down, and what is right is printed as it was.

use proptest::prelude::*;

use super::world::policy;

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
