//! Peers that play EAP falsely: Success that they tell themselves, challenges sent back, keys that did
//! not come of it. Each gets its answer, the log names it, and nothing is left.

use std::collections::BTreeMap;

use iked::auth::chain::ChainCache;
use iked::auth::eap::{Client, Means, Reply};
use iked::auth::psk;
use iked::crypto::mschap::{Challenges, PasswordHash, session_key};
use iked::crypto::{Rng, boring};
use iked::policy::{Auth as AuthWords, Eap, EapMethod, Policy, Secret};
use iked::wire::registry::{AuthMethod, ExchangeType};
use iked::wire::{Auth, Payload};

use super::certified::Certified;
use super::impostor::{
    AUTH, METHOD, is_refused_in_one_line, is_told_that_it_failed, nothing_is_left, octets_of, prf,
};
use super::peer::{Opened, Peer};
use super::setup::{config, ecdsa, fqdn, with_keys};
use super::world::{Host, at};

/// A guest of a gateway that wants EAP-MSCHAPv2, and the gateway's last EAP packet.
struct Guest {
    host: Host,
    peer: Peer,
    asked: Vec<u8>,
}

const PASSWORD: &[u8] = b"Hier ist's gut";
const TYPE_IDENTITY: u8 = 1;
const TYPE_MD5: u8 = 4;
const TYPE_MSCHAPV2: u8 = 26;

impl Guest {
    /// It has said its name and is asked for its name in EAP.
    fn arrive() -> Self {
        Self::arrive_for(EapMethod::MsChapV2)
    }

    /// The same where another method is wanted.
    fn arrive_for(method: EapMethod) -> Self {
        let [_, (policy, store)] = with_keys(&ecdsa(), &ecdsa());
        let policy = Policy {
            auth: AuthWords::Eap(Eap::of(method)),
            ..policy
        };
        let mut config = config([policy]);
        let password = Secret::new(PASSWORD.to_vec());
        config.users.insert("alice".to_owned(), password);
        Self::at(Host::new(config, store, 2))
    }

    fn at(mut host: Host) -> Self {
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let mut payloads = peer.auth_payloads();
        payloads.auth = None;
        let opened = peer.ask(&mut host, at(0), AUTH, &payloads.borrow());
        let asked = packet(&opened);
        Self { host, peer, asked }
    }

    /// It has been sent the challenge.
    fn challenged() -> Self {
        Self::challenged_for(EapMethod::MsChapV2)
    }

    /// The same with another method.
    fn challenged_for(method: EapMethod) -> Self {
        let mut guest = Self::arrive_for(method);
        let name = guest.response(TYPE_IDENTITY, b"alice");
        guest.asked = packet(&guest.say(&name));
        guest
    }

    /// It knows the password, has been told so, and shares this MSK.
    fn passed() -> (Self, Vec<u8>) {
        let mut guest = Self::challenged();
        let (answer, msk) = guest.answer();
        guest.asked = packet(&guest.say(&answer));
        let taken = guest.response(TYPE_MSCHAPV2, &[3]);
        guest.asked = packet(&guest.say(&taken));
        assert_eq!(guest.asked[0], 3, "EAP-Success");
        (guest, msk)
    }

    fn response(&self, kind: u8, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len() + 5).unwrap().to_be_bytes();
        [&[2, self.asked[1]], &length[..], &[kind], data].concat()
    }

    /// The answer to the challenge, and the MSK.
    fn answer(&self) -> (Vec<u8>, Vec<u8>) {
        let data = &self.asked[5..];
        let challenges = Challenges {
            authenticator: data[5..21].try_into().unwrap(),
            peer: &[7; 16],
            user: b"alice",
        };
        let hash = PasswordHash::new(PASSWORD);
        let proof = challenges.response(&hash);
        let msk = session_key(&hash, &proof).expose().to_vec();
        (self.mschap(&[7; 16], &proof), msk)
    }

    fn mschap(&self, challenge: &[u8; 16], proof: &[u8; 24]) -> Vec<u8> {
        let rest = [&[49][..], challenge, &[0; 8], proof, &[0], b"alice"].concat();
        let length = u16::try_from(rest.len() + 4).unwrap().to_be_bytes();
        let data = [&[2, self.asked[6]][..], &length, &rest].concat();
        self.response(TYPE_MSCHAPV2, &data)
    }

    fn say(&mut self, packet: &[u8]) -> Opened {
        self.ask(&[Payload::Eap(packet)])
    }

    fn ask(&mut self, payloads: &[Payload<'_>]) -> Opened {
        self.peer.ask(&mut self.host, at(0), AUTH, payloads)
    }

    /// The last message of EAP in IKE, with AUTH made of this key.
    fn proves(&mut self, method: AuthMethod, key: &[u8]) -> Opened {
        let data = psk::shared_key_auth(prf(), key, &octets_of(&self.peer));
        self.ask(&[Payload::Auth(Auth {
            method,
            data: &data,
        })])
    }
}

fn packet(opened: &Opened) -> Vec<u8> {
    let payloads = opened.payloads();
    let packet = payloads.iter().find_map(|payload| match payload {
        Payload::Eap(packet) => Some(packet.to_vec()),
        _ => None,
    });
    packet.unwrap_or_else(|| panic!("no EAP in {opened:?}"))
}

fn is_sent_eap_failure(opened: &Opened, name: &str) {
    assert_eq!(packet(opened)[0], 4, "{name}");
    assert_eq!(opened.payloads().len(), 1, "{name}");
}

const MALFORMED: &str = "EAP: unexpected or malformed packet";

#[test]
fn success_is_not_the_peers_to_tell() {
    let second = || {
        let mut guest = Guest::challenged();
        let (answer, _) = guest.answer();
        guest.asked = packet(&guest.say(&answer));
        guest
    };
    for (name, mut guest) in [
        ("first", Guest::arrive()),
        ("challenged", Guest::challenged()),
        ("before it has taken ours", second()),
    ] {
        let success = [3, guest.asked[1], 0, 4];
        let opened = guest.say(&success);
        is_sent_eap_failure(&opened, name);
        nothing_is_left(&mut guest.host, name, MALFORMED);
    }
}

#[test]
fn a_challenge_sent_back_is_no_answer() {
    let mut guest = Guest::challenged();
    let reflected = guest.response(TYPE_MSCHAPV2, &guest.asked[5..]);
    let opened = guest.say(&reflected);
    is_sent_eap_failure(&opened, "challenge");
    nothing_is_left(&mut guest.host, "challenge", MALFORMED);
    // Nor as the peer's own.
    let mut guest = Guest::challenged();
    let challenge: [u8; 16] = guest.asked[10..26].try_into().unwrap();
    let answer = guest.mschap(&challenge, &[0; 24]);
    guest.asked = packet(&guest.say(&answer));
    let taken = guest.response(TYPE_MSCHAPV2, &[4]);
    let opened = guest.say(&taken);
    is_sent_eap_failure(&opened, "own challenge");
    assert_eq!(guest.host.stats().sa_established_total, 0);
    assert!(
        guest
            .host
            .said("EAP: wrong user name or password for 'alice'")
    );
}

#[test]
fn another_method_than_was_begun_does_not_end_it() {
    for (name, kind, data, why) in [
        ("MD5", TYPE_MD5, &[16; 17][..], MALFORMED),
        ("identity again", TYPE_IDENTITY, b"alice", MALFORMED),
        ("Nak", 3, &[TYPE_MD5], "EAP: method refused by the peer"),
    ] {
        let mut guest = Guest::challenged();
        let answer = guest.response(kind, data);
        let opened = guest.say(&answer);
        is_sent_eap_failure(&opened, name);
        nothing_is_left(&mut guest.host, name, why);
    }
}

#[test]
fn auth_does_not_end_eap_early() {
    for (name, mut guest) in [
        ("first", Guest::arrive()),
        ("challenged", Guest::challenged()),
    ] {
        let opened = guest.proves(AuthMethod::SHARED_KEY, &[]);
        is_told_that_it_failed(&opened, name);
        nothing_is_left(&mut guest.host, name, METHOD);
    }
}

#[test]
fn the_end_of_eap_is_proven_with_its_key_alone() {
    let (mut guest, msk) = Guest::passed();
    guest.proves(AuthMethod::SHARED_KEY, &msk);
    assert_eq!(guest.host.stats().sa_established_total, 1);
    let mac = "authentication failed: pre-shared key mismatch";
    let (guest, msk) = Guest::passed();
    let sk_pi = guest.peer.keys.as_ref().unwrap().sk_pi.expose().to_vec();
    for (name, method, key, why) in [
        ("nothing", AuthMethod::SHARED_KEY, Vec::new(), mac),
        ("zeroes", AuthMethod::SHARED_KEY, vec![0; 64], mac),
        (
            "a part of it",
            AuthMethod::SHARED_KEY,
            msk[..16].to_vec(),
            mac,
        ),
        ("SK_pi", AuthMethod::SHARED_KEY, sk_pi, mac),
        ("password", AuthMethod::SHARED_KEY, PASSWORD.to_vec(), mac),
        ("signature", AuthMethod::SIGNATURE, msk.clone(), METHOD),
        ("NULL", AuthMethod::NULL, msk, METHOD),
    ] {
        let (mut guest, _) = Guest::passed();
        let opened = guest.proves(method, &key);
        is_told_that_it_failed(&opened, name);
        nothing_is_left(&mut guest.host, name, why);
    }
    let (mut guest, _) = Guest::passed();
    let opened = guest.ask(&[]);
    is_told_that_it_failed(&opened, "no AUTH");
    nothing_is_left(&mut guest.host, "no AUTH", METHOD);
}

#[test]
fn nobody_rekeys_in_the_middle_of_eap() {
    let mut guest = Guest::challenged();
    let exchange = ExchangeType::CREATE_CHILD_SA;
    let early = guest.peer.seal(exchange, &[Payload::Nonce(&[1; 32])]);
    assert_eq!(guest.peer.send(&mut guest.host, at(0), &early), []);
    assert_eq!(guest.host.stats().unexpected, 1);
    assert_eq!(guest.host.stats().sa_established_total, 0);
    assert!(guest.host.kernel.installed.is_empty());
    // It counts for nothing: the dialog goes on.
    guest.peer.next_id -= 1;
    let (answer, _) = guest.answer();
    guest.asked = packet(&guest.say(&answer));
    assert_eq!(guest.asked[5], 3, "the password is right");
}

/// Each method, its number, and why its own question is no answer to it.
const METHODS: [(EapMethod, u8, &str); 4] = [
    (EapMethod::MsChapV2, TYPE_MSCHAPV2, MALFORMED),
    (EapMethod::Md5, TYPE_MD5, WRONG),
    (EapMethod::Gtc, 6, WRONG),
    (EapMethod::Tls, 13, MALFORMED),
];
const WRONG: &str = "EAP: wrong user name or password for 'alice'";

#[test]
fn no_method_is_ended_by_the_peers_success_or_failure() {
    for (method, ..) in METHODS {
        for code in [3, 4] {
            for (name, mut guest) in [
                ("first", Guest::arrive_for(method)),
                ("challenged", Guest::challenged_for(method)),
            ] {
                let end = [code, guest.asked[1], 0, 4];
                let opened = guest.say(&end);
                is_sent_eap_failure(&opened, name);
                nothing_is_left(&mut guest.host, &format!("{method:?} {name}"), MALFORMED);
            }
        }
    }
}

#[test]
fn no_method_takes_its_own_question_for_an_answer() {
    for (method, number, why) in METHODS {
        let mut guest = Guest::challenged_for(method);
        assert_eq!(guest.asked[4], number);
        let reflected = guest.response(number, &guest.asked[5..]);
        let opened = guest.say(&reflected);
        is_sent_eap_failure(&opened, "reflected");
        nothing_is_left(&mut guest.host, &format!("{method:?}"), why);
        // Nor the request as it was sent.
        let mut guest = Guest::challenged_for(method);
        let request = guest.asked.clone();
        let opened = guest.say(&request);
        is_sent_eap_failure(&opened, "request");
        nothing_is_left(&mut guest.host, &format!("{method:?}"), MALFORMED);
    }
}

#[test]
fn no_method_takes_an_answer_that_is_empty_zero_or_of_another() {
    for (method, number, _) in METHODS {
        for (other, data) in [
            (number, &[][..]),
            (number, &[0; 24]),
            (if number == 4 { 6 } else { 4 }, &[16; 17]),
        ] {
            let mut guest = Guest::challenged_for(method);
            let answer = guest.response(other, data);
            let opened = guest.say(&answer);
            let name = format!("{method:?} {other} {data:?}");
            is_sent_eap_failure(&opened, &name);
            nothing_is_left(&mut guest.host, &name, "EAP");
        }
    }
}

#[test]
fn no_method_is_cut_short_by_auth_and_nobody_rekeys_in_it() {
    // Where a RADIUS server would be asked, it is not.
    let mut guest = Guest::arrive_for(EapMethod::Radius);
    let opened = guest.proves(AuthMethod::SHARED_KEY, &[]);
    is_told_that_it_failed(&opened, "RADIUS");
    nothing_is_left(&mut guest.host, "RADIUS", METHOD);
    assert!(guest.host.endpoint.poll_lookup().is_none());
    for (method, ..) in METHODS {
        let sk_pi = |guest: &Guest| guest.peer.keys.as_ref().unwrap().sk_pi.expose().to_vec();
        for (name, mut guest) in [
            ("first", Guest::arrive_for(method)),
            ("challenged", Guest::challenged_for(method)),
        ] {
            let exchange = ExchangeType::CREATE_CHILD_SA;
            let early = guest.peer.seal(exchange, &[Payload::Nonce(&[1; 32])]);
            assert_eq!(guest.peer.send(&mut guest.host, at(0), &early), []);
            guest.peer.next_id -= 1;
            let key = sk_pi(&guest);
            let opened = guest.proves(AuthMethod::SHARED_KEY, &key);
            is_told_that_it_failed(&opened, name);
            nothing_is_left(&mut guest.host, &format!("{method:?} {name}"), METHOD);
        }
    }
}

/// A guest of a gateway that wants EAP-TLS, with its own certificate; it has passed, and shares this MSK.
fn passed_by_tls() -> (Guest, Vec<u8>) {
    let [(_, ours), (config, theirs)] = Certified::default().ends(|_| {});
    let mut guest = Guest::at(Host::new(config, theirs, 2));
    let (me, gateway) = (fqdn("warrior.example"), fqdn("gateway.example"));
    let mut client = Client::begin(&Eap::of(EapMethod::Tls), &me).unwrap();
    let (mut rng, provider) = (Rng::from_seed([6; 32]), boring::provider());
    loop {
        let mut means = Means {
            users: &BTreeMap::new(),
            provider: &provider,
            rng: &mut rng,
            store: &ours,
            chains: &mut ChainCache::default(),
            wall: at(0).wall,
            ours: &me,
            theirs: &gateway,
        };
        match client.answer(&mut means, &guest.asked).unwrap() {
            Reply::Answer(answer) => guest.asked = packet(&guest.say(&answer)),
            Reply::Success(msk, _) => return (guest, msk.unwrap().expose().to_vec()),
        }
    }
}

#[test]
fn the_end_of_tls_is_proven_with_its_key_alone() {
    let (mut guest, msk) = passed_by_tls();
    guest.proves(AuthMethod::SHARED_KEY, &msk);
    let stats = guest.host.stats();
    assert_eq!(stats.sa_established_total, 1, "{:?}", guest.host.lines);
    // The key of another session as well: each has its own.
    let (mut guest, _) = passed_by_tls();
    let opened = guest.proves(AuthMethod::SHARED_KEY, &msk);
    is_told_that_it_failed(&opened, "another session's");
    let mac = "authentication failed: pre-shared key mismatch";
    nothing_is_left(&mut guest.host, "another session's", mac);
    for (name, key) in [("nothing", Vec::new()), ("zeroes", vec![0; 64])] {
        let (mut guest, _) = passed_by_tls();
        let opened = guest.proves(AuthMethod::SHARED_KEY, &key);
        is_told_that_it_failed(&opened, name);
        nothing_is_left(&mut guest.host, name, mac);
    }
}

#[test]
fn a_certificate_of_another_user_does_not_pass_tls() {
    let other = Certified {
        client: "mallory.example",
        ..Certified::default()
    };
    // Its own client would not show it: there is none that names it.
    let [(_, ours), (config, theirs)] = other.ends(|_| {});
    let mut guest = Guest::at(Host::new(config, theirs, 2));
    let (mallory, gateway) = (fqdn("mallory.example"), fqdn("gateway.example"));
    let mut client = Client::begin(&Eap::of(EapMethod::Tls), &mallory).unwrap();
    let (mut rng, provider) = (Rng::from_seed([6; 32]), boring::provider());
    while guest.asked[0] == 1 {
        let mut means = Means {
            users: &BTreeMap::new(),
            provider: &provider,
            rng: &mut rng,
            store: &ours,
            chains: &mut ChainCache::default(),
            wall: at(0).wall,
            ours: &mallory,
            theirs: &gateway,
        };
        let Ok(Reply::Answer(answer)) = client.answer(&mut means, &guest.asked) else {
            panic!("{:?}", guest.host.lines)
        };
        guest.asked = packet(&guest.say(&answer));
    }
    assert_eq!(guest.asked[0], 4, "EAP-Failure");
    // It was told by an alert first.
    let line = "sa_free: peer FQDN/warrior.example policy 'gateway': EAP-TLS: certificate: names \
                another identity";
    is_refused_in_one_line(&mut guest.host, "another user's", line);
}
