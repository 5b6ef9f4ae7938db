//! Files drawn from the grammar of iked.conf(5), one statement in twelve damaged.

use iked::sim::dice::Dice;

use super::programs::Release;

/// The file of this seed.
pub(super) fn file(seed: u64, release: Release) -> String {
    let mut writer = Writer {
        dice: Dice::new(seed),
        release,
        v6: false,
    };
    let mut text = String::new();
    for _ in 0..writer.dice.between(1, 4) {
        let mut words = writer.statement();
        if writer.dice.chance(120) {
            writer.damage(&mut words);
        }
        text += &writer.lay_out(&words);
    }
    text
}

struct Writer {
    dice: Dice,
    release: Release,
    /// The family of the policy in the making.
    v6: bool,
}

type Words = Vec<String>;

impl Writer {
    fn statement(&mut self) -> Words {
        match self.dice.below(20) {
            0 => self.macro_line(),
            1 => words("# a comment with \"quotes' in it"),
            2 => words("flow esp from 10.0.0.1 to 10.0.0.2"),
            3 | 4 => self.set(),
            5 => self.user(),
            _ => self.policy(),
        }
    }

    fn macro_line(&mut self) -> Words {
        let value = self
            .dice
            .pick(["\"10.9.9.0/24\"", "peer7", "\"a b\"", "10.1.1.1 10.2.2.2"]);
        let mut line = words("net =");
        line.extend(words(value));
        line
    }

    fn set(&mut self) -> Words {
        let word = self.dice.pick([
            "active",
            "passive",
            "couple",
            "decouple",
            "fragmentation",
            "nofragmentation",
            "mobike",
            "nomobike",
            "vendorid",
            "novendorid",
            "enforcesingleikesa",
            "noenforcesingleikesa",
            "stickyaddress",
            "nostickyaddress",
            "cert_partial_chain",
            "dpd_check_interval 0",
            "dpd_check_interval 30",
            "ocsp \"http://ocsp.example/\"",
            "ocsp \"http://ocsp.example/\" tolerate 10",
            "ocsp \"http://ocsp.example/\" tolerate 1h maxage 30m",
        ]);
        let word = self.wrong(60, word, ["nosuchthing", "dpd_check_interval 30m"]);
        words(&format!("set {word}"))
    }

    fn user(&mut self) -> Words {
        let name = self.dice.pick(["alice", "\"bob\"", "\"c d\""]);
        let name = self.wrong(40, name, ["\"\""]);
        let password = self.dice.pick(["secret", "\"p w\"", "\"12345678\""]);
        let password = self.wrong(40, password, ["\"\""]);
        vec!["user".to_owned(), name.to_owned(), password.to_owned()]
    }

    fn policy(&mut self) -> Words {
        self.v6 = self.dice.chance(200);
        let mut line = words("ikev2");
        self.head(&mut line);
        self.body(&mut line);
        self.tail(&mut line);
        line
    }

    fn maybe<const N: usize>(&mut self, line: &mut Words, permille: u64, from: [&str; N]) {
        if self.dice.chance(permille) {
            line.extend(words(self.dice.pick(from)));
        }
    }

    /// At times what must be refused.
    fn wrong<'t, const N: usize>(
        &mut self,
        permille: u64,
        right: &'t str,
        wrong: [&'t str; N],
    ) -> &'t str {
        if self.dice.chance(permille) {
            self.dice.pick(wrong)
        } else {
            right
        }
    }

    fn head(&mut self, line: &mut Words) {
        self.maybe(line, 500, ["alpha", "\"two words\"", "x-1", "\"quick\""]);
        self.maybe(line, 250, ["quick", "skip", "default"]);
        self.maybe(line, 500, ["passive", "active", "passive"]);
        self.maybe(line, 80, ["ipcomp"]);
        self.maybe(line, 500, ["tunnel", "transport"]);
        if self.release == Release::OpenIked7_4 {
            self.maybe(line, 150, ["natt"]);
        }
        self.maybe(line, 500, ["esp", "esp", "ah"]);
        if self.dice.chance(200) {
            line.extend(words(if self.v6 { "inet6" } else { "inet" }));
        }
        self.maybe(
            line,
            200,
            [
                "proto 6",
                "proto 17",
                "proto { 6 17 }",
                "proto { tcp, udp, 1 }",
                "proto 0",
                "proto icmp",
            ],
        );
        self.maybe(line, 5, ["rdomain 3", "proto 256", "proto nothing"]);
    }

    fn body(&mut self, line: &mut Words) {
        let clauses = self.dice.between(1, 3);
        for number in 0..clauses {
            if number > 0 {
                self.maybe(line, 500, [","]);
            }
            let alone = clauses == 1;
            let (from, to) = (self.end(true, alone), self.end(false, alone));
            if self.dice.chance(800) {
                line.extend([words("from"), from, words("to"), to].concat());
            } else {
                line.extend([words("to"), to, words("from"), from].concat());
            }
        }
        let (peer, local) = (self.any_host(), self.any_host());
        match self.dice.below(6) {
            0 => {}
            1 => line.extend([words("peer"), peer].concat()),
            2 => line.extend([words("local"), local].concat()),
            3 => line.extend([words("local"), local, words("peer"), peer].concat()),
            _ => line.extend([words("peer"), peer, words("local"), local].concat()),
        }
        for _ in 0..self.dice.between(0, 2) {
            line.push("ikesa".to_owned());
            self.transforms(line, true);
        }
        for _ in 0..self.dice.between(0, 2) {
            line.push("childsa".to_owned());
            self.transforms(line, false);
        }
    }

    fn tail(&mut self, line: &mut Words) {
        let ids = [
            "gate.example",
            "a@b.example",
            "192.0.2.7",
            "\"2001:db8::7\"",
            "\"/C=DE/O=Example/CN=gate\"",
            "*.example",
        ];
        if self.dice.chance(350) {
            line.extend(["srcid".to_owned(), self.dice.pick(ids).to_owned()]);
        }
        if self.dice.chance(350) {
            line.extend(["dstid".to_owned(), self.dice.pick(ids).to_owned()]);
        }
        self.maybe(
            line,
            250,
            [
                "ikelifetime 4h",
                "ikelifetime 600",
                "ikelifetime 90m",
                "ikelifetime 0",
            ],
        );
        self.maybe(
            line,
            300,
            [
                "lifetime 1800",
                "lifetime 3h bytes 2G",
                "lifetime 10M bytes 512M",
                "lifetime 60 bytes 1000",
                "lifetime 0",
            ],
        );
        self.maybe(
            line,
            800,
            [
                "psk \"mekmitasdigoat\"",
                "psk 0x6d656b",
                "psk secret",
                "eap \"mschap-v2\"",
                "eap \"MSCHAP_V2\"",
                "rsa",
                "ecdsa256",
                "ecdsa384",
                "ecdsa521",
                "rfc7427",
                "signature",
            ],
        );
        self.maybe(line, 10, ["none", "ecdsa", "eap \"nothing\"", "psk \"0x\""]);
        for _ in 0..self.dice.below(3) {
            self.configuration(line);
        }
        self.maybe(line, 60, ["iface lo"]);
        self.maybe(
            line,
            60,
            [
                "tag \"$name-$id\"",
                "tag office",
                "tag \"42\"",
                "tag \"0x2a\"",
            ],
        );
        self.maybe(
            line,
            60,
            ["tap enc3", "tap \"enc0\"", "tap enc17 tag office"],
        );
        self.maybe(line, 4, ["tap enc", "tap sec1", "tag"]);
    }

    fn configuration(&mut self, line: &mut Words) {
        let word = self.dice.pick(["config", "config", "request"]);
        let attribute = self.dice.pick([
            "address",
            "address",
            "netmask",
            "name-server",
            "netbios-server",
            "dhcp-server",
            "protected-subnet",
            "access-server",
        ]);
        let attribute = self.wrong(20, attribute, ["name", "nothing", "net"]);
        line.extend([word.to_owned(), attribute.to_owned()]);
        if word == "request" && self.dice.chance(500) {
            line.push("any".to_owned());
        } else {
            self.v6 = self.dice.chance(200);
            let value = if self.dice.chance(60) {
                self.name()
            } else {
                self.net()
            };
            line.extend(value);
        }
    }

    fn transforms(&mut self, line: &mut Words, ike: bool) {
        let (enc, enc_aead) = if ike {
            (
                ["aes-256", "aes-128", "aes-192", "3des", "aes", "aes-256"],
                [
                    "aes-128-gcm",
                    "aes-256-gcm",
                    "aes-256-gcm-12",
                    "aes-128-gcm-12",
                    "aes-256-gcm",
                    "aes-128-gcm",
                ],
            )
        } else {
            (
                ["aes-256", "aes-192-ctr", "3des", "aes", "blowfish", "cast"],
                [
                    "aes-128-gcm",
                    "aes-256-gmac",
                    "chacha20-poly1305",
                    "aes-192-gcm",
                    "aes-256-gcm",
                    "aes-128-gmac",
                ],
            )
        };
        let auth = [
            "hmac-md5",
            "hmac-sha1",
            "hmac-sha2-256",
            "hmac-sha2-384",
            "hmac-sha2-512",
            "hmac-sha2",
        ];
        let group = [
            "none",
            "modp768",
            "grp1",
            "modp1024",
            "grp2",
            "modp2048",
            "grp14",
            "modp3072",
            "ecp256",
            "grp20",
            "ecp521",
            "curve25519",
            "grp31",
            "curve",
            "modp",
            "brainpool256",
            "sntrup761x25519",
            "ecp192",
        ];
        let aead = self.dice.chance(400);
        for _ in 0..self.dice.between(0, 5) {
            let mut push =
                |word: &str, value: &str| line.extend([word.to_owned(), value.to_owned()]);
            match self.dice.below(if ike { 8 } else { 10 }) {
                0..=2 => {
                    let enc = self.dice.pick(if aead { enc_aead } else { enc });
                    push("enc", enc);
                }
                // It is refused beside an AEAD.
                3 | 4 if aead => {}
                3 | 4 => push("auth", self.dice.pick(auth)),
                5 => push("prf", self.dice.pick(auth)),
                6 | 7 => push("group", self.dice.pick(group)),
                8 => line.push("esn".to_owned()),
                _ => line.push("noesn".to_owned()),
            }
        }
        let wrong = [
            "esn",
            "noesn",
            "enc rot13",
            "group grp99",
            "auth md5",
            "enc aes-128-gcm",
            "enc null",
        ];
        self.maybe(line, 15, wrong);
    }

    /// One end of a flow.
    fn end(&mut self, from: bool, alone: bool) -> Words {
        let mut words_ = match self.dice.below(10) {
            0 => words("any"),
            1 => words("dynamic"),
            // Of several clauses OpenIKED mixes the addresses.
            2 if alone => self.name(),
            2 => words(if self.v6 { "six.test" } else { "one.test" }),
            _ => self.net(),
        };
        if self.dice.chance(if from { 60 } else { 5 }) {
            words_.push("(".to_owned());
            words_.extend(self.net());
            words_.push(")".to_owned());
        }
        self.maybe(
            &mut words_,
            150,
            ["port 80", "port 0", "port 65535", "port http"],
        );
        self.maybe(&mut words_, 3, ["port 65536", "port nothing"]);
        words_
    }

    fn any_host(&mut self) -> Words {
        match self.dice.below(18) {
            0..=2 => words("any"),
            3..=5 => self.net(),
            6 => self.name(),
            _ => vec![self.address()],
        }
    }

    /// A host of the file that both read.
    fn name(&mut self) -> Words {
        let name = if self.v6 {
            self.dice.pick(["six.test", "both.test", "six.test"])
        } else {
            self.dice.pick(["one.test", "two.test", "both.test"])
        };
        let name = self.wrong(20, name, ["nobody.test", "six.test", "one.test/24"]);
        vec![name.to_owned()]
    }

    fn address(&mut self) -> String {
        if self.v6 {
            let last = self.dice.between(1, 0xffff);
            return self.dice.pick(["2001:db8::", "fd00:1:2::"]).to_owned() + &format!("{last:x}");
        }
        let octet = |dice: &mut Dice| dice.between(0, 255);
        let dice = &mut self.dice;
        format!("10.{}.{}.{}", octet(dice), octet(dice), octet(dice))
    }

    fn net(&mut self) -> Words {
        // Now and then the other family.
        let family = self.v6;
        if self.dice.chance(4) {
            self.v6 = !self.v6;
        }
        let address = self.address();
        let length = if self.v6 {
            self.dice.pick(["64", "128", "48", "0"])
        } else {
            self.dice.pick(["24", "32", "8", "16", "0"])
        };
        let length = self.wrong(6, length, ["33", "129"]);
        self.v6 = family;
        if self.dice.chance(600) {
            vec![format!("{address}/{length}")]
        } else {
            vec![address]
        }
    }

    /// Something that a hurried hand does.
    fn damage(&mut self, line: &mut Words) {
        if line.len() < 2 {
            return;
        }
        let (at, other) = (self.dice.below(line.len()), self.dice.below(line.len()));
        match self.dice.below(6) {
            0 => {
                line.remove(at);
            }
            1 => line.swap(at, other),
            2 => line.insert(at, line[other].clone()),
            3 => {
                line[at] = self
                    .dice
                    .pick([
                        "peer",
                        "esp",
                        "}",
                        "\"",
                        "99999999999999999999",
                        "$undefined",
                    ])
                    .to_owned()
            }
            4 => line.truncate(at),
            _ => line[at].push_str(self.dice.pick(["x", "/", "=", "1", "#"])),
        }
    }

    /// Words on a line, at times on several.
    fn lay_out(&mut self, line: &Words) -> String {
        let mut text = String::new();
        for word in line {
            if !text.is_empty() {
                text += if self.dice.chance(30) { " \\\n\t" } else { " " };
            }
            text += word;
        }
        text + "\n"
    }
}

fn words(text: &str) -> Words {
    text.split(' ').map(str::to_owned).collect()
}
