//! EAP (RFC 7296, 2.16): both ends are ours, or the client is made by hand.

use std::collections::BTreeMap;

use iked::auth::chain::ChainCache;
use iked::auth::eap::{Client, Means, Refusal, Reply};
use iked::crypto::{Rng, boring};
use iked::policy::{Auth, Eap, EapMethod, PublicKeyAuth};
use iked::wire::registry::{AuthMethod, ExchangeType, NotifyType, PayloadType};
use iked::wire::{Auth as AuthPayload, Payload};

use super::certified::Certified;
use super::peer::{Opened, Peer};
use super::setup::{self, eap_user, no_keys};
use super::world::{Host, Pair, Side, at};

const ALL: [EapMethod; 3] = [EapMethod::MsChapV2, EapMethod::Md5, EapMethod::Gtc];

fn pair(client: &[EapMethod], server: &[EapMethod], password: &str) -> Pair {
    let [initiator, responder] = setup::with_passwords(client, server, password);
    Pair::of(
        Host::new(initiator.0, initiator.1, 1),
        Host::new(responder.0, responder.1, 2),
    )
}

/// Nobody is up, and nothing is left once the last answers have lingered.
fn assert_nobody_got_in(pair: &mut Pair) {
    for side in [Side::Initiator, Side::Responder] {
        let host = pair.host(side);
        assert_eq!(host.stats().sa_established_total, 0);
        assert!(host.kernel.installed.is_empty());
        host.wake(at(40));
        assert!(host.endpoint.is_empty(), "{side:?}");
    }
}

#[test]
fn every_method_gets_a_client_with_the_right_password_in() {
    for method in ALL {
        let mut pair = pair(&[method], &[method], "secret");
        pair.connect();
        assert!(pair.is_up(), "{method:?} {:?}", pair.initiator.lines);
        assert!(pair.responder.said("EAP user 'alice' authenticated"));
        // And it lives: the keys of a rekey come from the same SA.
        pair.pass_time(200);
        assert!(pair.is_up(), "{method:?}");
    }
}

#[test]
fn a_client_gets_the_method_that_it_has() {
    for method in ALL {
        let mut pair = pair(&[method], &ALL, "secret");
        pair.connect();
        assert!(pair.is_up(), "{method:?} {:?}", pair.initiator.lines);
    }
    let mut pair = pair(&[EapMethod::Gtc], &ALL[..2], "secret");
    pair.connect();
    assert!(pair.responder.said("EAP: method refused by the peer"));
    assert_nobody_got_in(&mut pair);
}

#[test]
fn a_wrong_password_gets_nobody_in() {
    for method in ALL {
        let mut pair = pair(&[method], &[method], "Secret");
        pair.connect();
        let why = "EAP: wrong user name or password for 'alice'";
        assert!(pair.responder.said(why), "{:?}", pair.responder.lines);
        assert!(pair.initiator.said("EAP: refused by the peer"));
        assert_nobody_got_in(&mut pair);
    }
}

#[test]
fn lost_messages_of_eap_are_sent_again_and_answered_from_the_cache() {
    for password in ["secret", "wrong"] {
        let method = [EapMethod::MsChapV2];
        let mut pair = pair(&method, &method, password);
        pair.connect_losing_answers();
        assert_eq!(pair.is_up(), password == "secret");
    }
}

#[test]
fn a_gateway_that_does_not_prove_itself_hears_no_name() {
    let method = [EapMethod::Gtc];
    let [client, (config, _)] = setup::with_passwords(&method, &method, "secret");
    // It has another key than the client has on file.
    let [_, (_, store)] = setup::with_keys(&setup::ecdsa(), &setup::ecdsa());
    let mut pair = Pair::of(
        Host::new(client.0, client.1, 1),
        Host::new(config, store, 2),
    );
    pair.connect();
    assert!(pair.initiator.said("authentication failed"));
    assert!(pair.responder.said("given up by the peer"));
    assert!(!pair.responder.said("alice"));
    assert_nobody_got_in(&mut pair);
}

#[test]
fn a_gateway_of_another_name_or_with_a_secret_only_hears_no_name() {
    let method = [EapMethod::Gtc];
    let [(mut config, store), server] = setup::with_passwords(&method, &method, "secret");
    let policy = std::sync::Arc::make_mut(&mut config.policies[0]);
    policy.dstid = Some(setup::fqdn("another.example"));
    let mut pair = Pair::of(
        Host::new(config, store, 1),
        Host::new(server.0, server.1, 2),
    );
    pair.connect();
    assert_nobody_got_in(&mut pair);
    let [client, _] = setup::with_passwords(&method, &method, "secret");
    let server = setup::config([setup::gateway()]);
    let mut pair = Pair::of(
        Host::new(client.0, client.1, 1),
        Host::new(server, no_keys(), 2),
    );
    pair.connect();
    assert!(pair.initiator.said("AUTHENTICATION_FAILED"));
    assert_nobody_got_in(&mut pair);
}

#[test]
fn a_client_without_a_user_does_not_begin() {
    let [(mut config, store), server] = setup::with_passwords(&ALL, &ALL, "secret");
    let policy = std::sync::Arc::make_mut(&mut config.policies[0]);
    policy.auth = Auth::Eap(Eap::of(EapMethod::Gtc));
    let mut pair = Pair::of(
        Host::new(config, store, 1),
        Host::new(server.0, server.1, 2),
    );
    pair.connect();
    assert!(pair.initiator.said("no user for EAP"));
    assert_eq!(pair.initiator.stats().sa_established_total, 0);
}

#[test]
fn a_signature_is_no_way_into_a_policy_with_eap() {
    let [(mut config, store), server] = setup::with_passwords(&ALL, &ALL, "secret");
    let policy = std::sync::Arc::make_mut(&mut config.policies[0]);
    // The gateway even has its key on file.
    policy.auth = Auth::PublicKey(PublicKeyAuth::Any);
    let mut pair = Pair::of(
        Host::new(config, store, 1),
        Host::new(server.0, server.1, 2),
    );
    pair.connect();
    assert_nobody_got_in(&mut pair);
}

/// A client made by hand, in the middle of EAP.
struct Hand {
    host: Host,
    peer: Peer,
    client: Client,
    rng: Rng,
}

impl Hand {
    /// The first request is answered: the gateway's proof and the question for the name.
    fn begin(method: EapMethod) -> (Self, Vec<u8>) {
        let [_, (config, store)] = setup::with_passwords(&[method], &[method], "secret");
        let eap = Eap {
            methods: vec![method],
            user: Some(eap_user("secret")),
        };
        let mut hand = Self {
            host: Host::new(config, store, 2),
            peer: Peer::new(1),
            client: Client::begin(&eap, &setup::fqdn("warrior.example")).unwrap(),
            rng: Rng::from_seed([6; 32]),
        };
        hand.peer.meet(&mut hand.host, at(0));
        let mut payloads = hand.peer.auth_payloads();
        payloads.auth = None;
        let opened = hand.ask(&payloads.borrow());
        assert!(opened.has(PayloadType::AUTH), "the gateway proves itself");
        let packet = packet_in(&opened);
        (hand, packet)
    }

    fn ask(&mut self, payloads: &[Payload<'_>]) -> Opened {
        let exchange = ExchangeType::IKE_AUTH;
        self.peer.ask(&mut self.host, at(0), exchange, payloads)
    }

    fn reply(&mut self, packet: &[u8]) -> Result<Reply, Refusal> {
        let provider = boring::provider();
        let mut means = Means {
            users: &BTreeMap::new(),
            provider: &provider,
            rng: &mut self.rng,
            store: &no_keys(),
            chains: &mut ChainCache::default(),
            wall: at(0).wall,
            ours: &setup::fqdn("warrior.example"),
            theirs: &setup::fqdn("gateway.example"),
        };
        self.client.answer(&mut means, packet)
    }

    /// Until the method has ended well; the key that came of it.
    fn pass(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        loop {
            match self.reply(&packet) {
                Ok(Reply::Answer(answer)) => {
                    packet = packet_in(&self.ask(&[Payload::Eap(&answer)]))
                }
                Ok(Reply::Success(msk, _)) => return msk.map(|msk| msk.expose().to_vec()),
                Err(why) => panic!("{why}"),
            }
        }
    }

    fn prove(&mut self, key: &[u8]) -> Opened {
        self.peer.secret = key.to_vec();
        let (method, data) = self.peer.auth_payloads().auth.unwrap();
        let auth = AuthPayload {
            method,
            data: &data,
        };
        self.ask(&[Payload::Auth(auth)])
    }

    fn assert_refused(&self, opened: &Opened, why: NotifyType) {
        assert_eq!(opened.notifies(), [why]);
        assert_eq!(self.host.stats().sa_established_total, 0);
        assert!(self.host.kernel.installed.is_empty());
    }
}

fn packet_in(opened: &Opened) -> Vec<u8> {
    let payloads = opened.payloads();
    let packet = payloads.iter().find_map(|payload| match payload {
        Payload::Eap(packet) => Some(packet.to_vec()),
        _ => None,
    });
    packet.unwrap()
}

#[test]
fn at_the_end_the_key_of_the_method_counts_and_no_other() {
    let (mut hand, packet) = Hand::begin(EapMethod::MsChapV2);
    let msk = hand.pass(packet).unwrap();
    let opened = hand.prove(&msk);
    assert!(opened.has(PayloadType::SA));
    assert_eq!(hand.host.stats().sa_established_total, 1);
    let sk_pi = |hand: &Hand| {
        let keys = hand.peer.keys.as_ref().unwrap();
        keys.sk_pi.expose().to_vec()
    };
    let failed = NotifyType::AUTHENTICATION_FAILED;
    for other in 0..4 {
        let (mut hand, packet) = Hand::begin(EapMethod::MsChapV2);
        let mut msk = hand.pass(packet).unwrap();
        let key = match other {
            0 => sk_pi(&hand),
            1 => Vec::new(),
            2 => b"secret".to_vec(),
            _ => {
                msk[0] ^= 1;
                msk
            }
        };
        let opened = hand.prove(&key);
        hand.assert_refused(&opened, failed);
    }
    // Without a key of the method it is SK_pi, not SK_pr.
    let (mut hand, packet) = Hand::begin(EapMethod::Gtc);
    assert!(hand.pass(packet).is_none());
    let key = sk_pi(&hand);
    assert!(hand.prove(&key).has(PayloadType::SA));
    let (mut hand, packet) = Hand::begin(EapMethod::Gtc);
    hand.pass(packet);
    let key = hand.peer.keys.as_ref().unwrap().sk_pr.expose().to_vec();
    let opened = hand.prove(&key);
    hand.assert_refused(&opened, failed);
}

#[test]
fn auth_does_not_replace_eap_nor_come_before_its_end() {
    let failed = NotifyType::AUTHENTICATION_FAILED;
    // In place of the name, and of the answer to the challenge.
    for rounds in 0..2 {
        let (mut hand, mut packet) = Hand::begin(EapMethod::MsChapV2);
        for _ in 0..rounds {
            let reply = hand.reply(&packet);
            let Ok(Reply::Answer(answer)) = reply else {
                panic!("{reply:?}")
            };
            packet = packet_in(&hand.ask(&[Payload::Eap(&answer)]));
        }
        let key = hand.peer.keys.as_ref().unwrap().sk_pi.expose().to_vec();
        let opened = hand.prove(&key);
        hand.assert_refused(&opened, failed);
    }
    // At the end, nothing, or a claim of success.
    for last in [vec![], vec![Payload::Eap(&[3, 1, 0, 4])]] {
        let (mut hand, packet) = Hand::begin(EapMethod::MsChapV2);
        hand.pass(packet);
        let opened = hand.ask(&last);
        hand.assert_refused(&opened, failed);
    }
    let (mut hand, packet) = Hand::begin(EapMethod::MsChapV2);
    let key = hand.pass(packet).unwrap();
    hand.peer.secret = key;
    let (_, data) = hand.peer.auth_payloads().auth.unwrap();
    let auth = AuthPayload {
        method: AuthMethod::SIGNATURE,
        data: &data,
    };
    let opened = hand.ask(&[Payload::Auth(auth)]);
    hand.assert_refused(&opened, NotifyType::AUTHENTICATION_FAILED);
}

#[test]
fn no_child_sa_is_to_be_had_in_the_middle_of_eap() {
    let (mut hand, packet) = Hand::begin(EapMethod::MsChapV2);
    let request = hand.peer.seal(ExchangeType::CREATE_CHILD_SA, &[]);
    assert_eq!(hand.peer.send(&mut hand.host, at(0), &request), []);
    hand.peer.next_id -= 1;
    assert!(hand.pass(packet).is_some(), "and EAP goes on");
}

#[test]
fn a_certificate_gets_a_client_in_by_tls() {
    let mut pair = Certified::default().pair();
    pair.connect();
    assert!(
        pair.is_up(),
        "{:?} {:?}",
        pair.initiator.lines,
        pair.responder.lines
    );
    let who = "EAP user 'FQDN/warrior.example' authenticated";
    assert!(pair.responder.said(who));
    pair.pass_time(200);
    assert!(pair.is_up());
}

#[test]
fn tls_goes_in_fragments_where_certificates_are_long() {
    // Names that make each flight longer than one packet, and than two.
    let mut packets = 0;
    for filler in [0, 40, 120] {
        let certified = Certified {
            filler,
            ..Certified::default()
        };
        let mut pair = certified.pair();
        pair.connect();
        assert!(
            pair.is_up(),
            "{:?} {:?}",
            pair.initiator.lines,
            pair.responder.lines
        );
        let longest = pair.sent.iter().map(|(_, sent)| sent.bytes.len()).max();
        assert!(longest <= Some(1400), "{longest:?}");
        assert!(pair.sent.len() > packets, "{filler}");
        packets = pair.sent.len();
    }
}

#[test]
fn a_certificate_of_another_authority_or_time_gets_nobody_in_by_tls() {
    let stranger = Certified {
        stranger: true,
        ..Certified::default()
    };
    let expired = Certified {
        expired: true,
        ..Certified::default()
    };
    for (why, certified) in [
        ("certificate signature failure", stranger),
        ("certificate has expired", expired),
    ] {
        let mut pair = certified.pair();
        pair.connect();
        assert!(
            pair.responder.said(why),
            "{why}: {:?}",
            pair.responder.lines
        );
        assert_nobody_got_in(&mut pair);
    }
}

#[test]
fn a_client_without_a_certificate_does_not_get_in_by_tls() {
    let bare = Certified {
        bare: true,
        ..Certified::default()
    };
    let mut pair = bare.pair();
    pair.connect();
    let why = "EAP-TLS: no certificate of ours";
    assert!(pair.initiator.said(why), "{:?}", pair.initiator.lines);
    assert_nobody_got_in(&mut pair);
}

#[test]
fn a_client_with_a_password_and_a_certificate_takes_what_the_gateway_has() {
    for method in [EapMethod::Tls, EapMethod::MsChapV2] {
        let certified = Certified::default();
        let mut pair = certified.pair_with(|policy| {
            let client = policy.peer.is_some();
            let methods = if client {
                vec![EapMethod::MsChapV2, EapMethod::Tls]
            } else {
                vec![method]
            };
            let user = client.then(|| eap_user("secret"));
            policy.auth = Auth::Eap(Eap { methods, user });
        });
        pair.connect();
        // Nobody has told the gateway a password.
        assert_eq!(pair.is_up(), method == EapMethod::Tls);
    }
}

#[test]
fn tls_alone_proves_both_ends_where_both_want_that() {
    let mut pair = Certified::default().pair();
    pair.connect();
    assert!(pair.is_up());
    let alone = pair.sent.len();
    // With a password method beside it the gateway signs, which its certificate makes longer.
    let mut pair = Certified::default().pair_with(|policy| {
        let methods = vec![EapMethod::Tls, EapMethod::MsChapV2];
        let user = policy.peer.is_some().then(|| eap_user("secret"));
        policy.auth = Auth::Eap(Eap { methods, user });
    });
    pair.connect();
    assert!(pair.is_up());
    assert!(pair.sent.len() >= alone);
}

#[test]
fn the_gateway_signs_unless_the_client_says_that_tls_alone_will_do() {
    for (method, notify, signs) in [
        (EapMethod::Tls, true, false),
        (EapMethod::Tls, false, true),
        (EapMethod::MsChapV2, true, true),
        (EapMethod::Gtc, true, true),
    ] {
        let [_, (config, store)] = setup::with_passwords(&[method], &[method], "secret");
        let mut host = Host::new(config, store, 2);
        let mut peer = Peer::new(1);
        peer.meet(&mut host, at(0));
        let mut payloads = peer.auth_payloads();
        payloads.auth = None;
        if notify {
            payloads.notifies.push(NotifyType::EAP_ONLY_AUTHENTICATION);
        }
        let exchange = ExchangeType::IKE_AUTH;
        let opened = peer.ask(&mut host, at(0), exchange, &payloads.borrow());
        assert!(opened.has(PayloadType::EAP));
        assert_eq!(opened.has(PayloadType::AUTH), signs, "{method:?} {notify}");
    }
}

#[test]
fn a_gateway_that_tls_does_not_prove_is_refused_by_the_client() {
    // Its certificate names somebody else.
    let other = Certified {
        gateway: "other.example",
        ..Certified::default()
    };
    let mut pair = other.pair();
    pair.connect();
    let why = "names another identity";
    assert!(pair.initiator.said(why) || pair.responder.said("no certificate of ours"));
    assert_nobody_got_in(&mut pair);
    // Or it is not the one that the client wants.
    let mut pair = Certified::default().pair_with(|policy| {
        if policy.peer.is_some() {
            policy.dstid = Some(setup::fqdn("other.example"));
        }
    });
    pair.connect();
    assert_nobody_got_in(&mut pair);
}
