//! Peers that a RADIUS server lets in, and what the accounting servers are told of them: both are
//! the test.

use std::sync::Arc;
use std::time::Duration;

use iked::ike::Command;
use iked::kernel::KernelEvent;
use iked::lookup::port::{Answer, Question, Record};
use iked::policy::radius::{Radius, Server, Servers};
use iked::policy::{Auth, Eap, EapMethod, Policy, Secret};
use iked::radius::dae::{Order, Rights, Target};
use iked::radius::request::Cause;
use iked::radius::{Figures, Moment, Reply, Verdict};
use iked::wire::registry::CfgAttrType;

use super::setup::{self, end, flow, leased};
use super::world::{Datagram, Host, Pair, Side};

/// An answer that asks for a token, or lets the peer in.
fn reply(verdict: Verdict, eap: Vec<u8>) -> Reply {
    Reply {
        verdict,
        eap,
        state: None,
        class: vec![b"gold".to_vec()],
        user: Some(b"alice".to_vec()),
        msk: None,
        granted: vec![(
            CfgAttrType::INTERNAL_IP4_ADDRESS,
            "10.8.0.77".parse().unwrap(),
        )],
        session_timeout: None,
        interim: Some(Duration::from_secs(100)),
    }
}

/// A client with a password, and a gateway that asks RADIUS servers and tells one what happens.
fn pair() -> Pair {
    pair_of(0, |_| ())
}

/// The same between fixed networks.
pub(super) fn plain_pair() -> Pair {
    pair_by(|_, _| (), |_| ())
}

/// The same; the client's IKE SAs live for so many seconds.
fn pair_of(lifetime: u64, change: impl Fn(&mut Radius)) -> Pair {
    let leases = |warrior: &mut Policy, gateway: &mut Policy| {
        warrior.flows = vec![flow(leased(), end("10.1.0.0/16"))];
        warrior.request = setup::pool_warrior().request;
        warrior.ike_lifetime = Duration::from_secs(lifetime);
        gateway.flows = vec![flow(end("10.1.0.0/16"), leased())];
    };
    pair_by(leases, change)
}

fn pair_by(policies: impl Fn(&mut Policy, &mut Policy), change: impl Fn(&mut Radius)) -> Pair {
    let [(mut client, ours), (mut config, theirs)] =
        setup::with_passwords(&[EapMethod::Gtc], &[EapMethod::Gtc], "secret");
    let warrior = Arc::make_mut(&mut client.policies[0]);
    let gateway = Arc::make_mut(&mut config.policies[0]);
    policies(warrior, gateway);
    gateway.auth = Auth::Eap(Eap::of(EapMethod::Radius));
    let server = Server {
        address: "192.0.2.80:1813".parse().unwrap(),
        secret: Secret::new(b"x".to_vec()),
    };
    let mut radius = Radius {
        accounting: Servers {
            list: vec![server],
            ..Servers::default()
        },
        ..Radius::default()
    };
    change(&mut radius);
    config.radius = Arc::new(radius);
    Pair::of(Host::new(client, ours, 1), Host::new(config, theirs, 2))
}

/// Plays the RADIUS server to one question.
fn serve(pair: &mut Pair, change: impl Fn(&mut Reply)) {
    let now = pair.now();
    let gateway = &mut pair.responder;
    let lookup = gateway.endpoint.poll_lookup().expect("no question");
    let Question::Radius(question) = &lookup.question else {
        panic!("{lookup:?}");
    };
    let mut reply = match question.eap[..] {
        // What the peer says: its name, then its password.
        [2, _, _, _, 1, ..] => reply(Verdict::Challenge, vec![1, 9, 0, 6, 6, b'?']),
        _ => reply(Verdict::Accept, vec![3, 9, 0, 4]),
    };
    change(&mut reply);
    let answer = Answer::Radius(Ok((0, Box::new(reply))));
    gateway.endpoint.handle_lookup(now, lookup.id, answer);
    let sent = gateway.wake(now);
    pair.run(Side::Responder, sent);
}

pub(super) fn connect(pair: &mut Pair, change: impl Fn(&mut Reply)) {
    pair.connect();
    serve(pair, &change);
    serve(pair, &change);
    assert!(pair.is_up(), "{:?}", pair.responder.lines);
}

/// What the accounting servers were told, and when.
fn told(pair: &mut Pair) -> Vec<Record> {
    let endpoint = &mut pair.responder.endpoint;
    std::iter::from_fn(|| endpoint.poll_record()).collect()
}

/// The one record there is.
fn one(pair: &mut Pair) -> Record {
    let mut told = told(pair);
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

fn order(pair: &mut Pair, command: Command) {
    let now = pair.now();
    let sent = pair.responder.command(now, command);
    pair.run(Side::Responder, sent);
}

#[test]
fn start_reports_and_stop_tell_of_one_session() {
    let mut pair = pair();
    connect(&mut pair, |_| ());
    let start = one(&mut pair);
    assert_eq!(start.moment, Moment::Start);
    assert_eq!(start.facts.user, b"alice");
    let figures = Figures {
        at: 1_800_000_000,
        class: vec![b"gold".to_vec()],
        addresses: vec!["10.8.0.77".parse().unwrap()],
        ..Figures::default()
    };
    assert_eq!(start.figures, figures);
    pair.responder.kernel.packets = (3, 5);
    pair.pass_time(99);
    assert_eq!(told(&mut pair), []);
    pair.pass_time(100);
    let interim = one(&mut pair);
    assert_eq!(
        (&interim.facts, interim.moment),
        (&start.facts, Moment::Interim)
    );
    let figures = Figures {
        at: 1_800_000_100,
        seconds: 100,
        octets: [300, 500],
        packets: [3, 5],
        ..figures
    };
    assert_eq!(interim.figures, figures);
    // Counted when it goes, not when it was counted last.
    pair.responder.kernel.packets = (30, 50);
    pair.pass_time(150);
    order(&mut pair, Command::ResetSa);
    let stop = one(&mut pair);
    assert_eq!(stop.facts, start.facts);
    assert_eq!(stop.moment, Moment::Stop(Cause::AdminReset));
    let figures = Figures {
        at: 1_800_000_150,
        seconds: 150,
        octets: [3000, 5000],
        packets: [30, 50],
        ..figures
    };
    assert_eq!(stop.figures, figures);
    pair.pass_time(400);
    assert_eq!(told(&mut pair), [], "nothing comes after a Stop");
    assert!(!pair.responder.endpoint.is_counting());
}

#[test]
fn what_was_rekeyed_away_is_in_the_sum() {
    let mut pair = pair_of(80, |_| ());
    connect(&mut pair, |_| ());
    let start = one(&mut pair);
    pair.responder.kernel.packets = (10, 20);
    let spi = pair.responder.kernel.holds()[0];
    let now = pair.now();
    let event = KernelEvent::Expire { spi, hard: false };
    pair.responder.endpoint.handle_kernel(now, event);
    let sent = pair.responder.wake(now);
    pair.run(Side::Responder, sent);
    pair.pass_time(pair.seconds + 1);
    let held = pair.responder.kernel.holds();
    assert!(held.len() == 1 && held[0] != spi, "{held:?}");
    // And the IKE SA after it: the session stays what it was.
    pair.responder.kernel.packets = (1, 2);
    pair.pass_time(99);
    assert_eq!(pair.responder.stats().sa_rekeyed, 1);
    assert_eq!(told(&mut pair), []);
    pair.pass_time(100);
    let interim = one(&mut pair);
    assert_eq!(
        (interim.moment, &interim.facts),
        (Moment::Interim, &start.facts)
    );
    assert_eq!(interim.figures.packets, [11, 22]);
    assert_eq!(interim.figures.octets, [1100, 2200]);
    order(&mut pair, Command::ResetAll);
    let stop = one(&mut pair);
    assert_eq!(stop.moment, Moment::Stop(Cause::AdminReset));
    assert_eq!(stop.figures.packets, [11, 22]);
    assert_eq!(stop.figures.addresses, start.figures.addresses);
}

#[test]
fn a_stop_says_why() {
    type End = fn(&mut Pair);
    let cases: [(End, Cause); 5] = [
        (
            |pair| {
                let now = pair.now();
                let sent = pair.initiator.command(now, Command::ResetSa);
                pair.run(Side::Initiator, sent);
            },
            Cause::UserRequest,
        ),
        (|pair| silence(pair), Cause::LostCarrier),
        (|pair| order(pair, Command::ResetSa), Cause::AdminReset),
        (|pair| order(pair, Command::Shutdown), Cause::AdminReboot),
        (
            |pair| {
                let (now, target) = (pair.now(), Target::default());
                let order = Order::Disconnect(target);
                assert_eq!(pair.responder.endpoint.obey(now, &order), 1);
                pair.responder.wake(now);
            },
            Cause::AdminReset,
        ),
    ];
    for (end, cause) in cases {
        let mut pair = pair();
        connect(&mut pair, |reply| reply.interim = None);
        assert_eq!(one(&mut pair).moment, Moment::Start);
        end(&mut pair);
        let last = told(&mut pair).pop().unwrap();
        assert_eq!(last.moment, Moment::Stop(cause));
        assert!(!pair.responder.endpoint.is_counting());
    }
}

/// The client is gone without a word.
fn silence(pair: &mut Pair) {
    for second in 1..2000 {
        pair.seconds = second;
        let now = pair.now();
        let _: Vec<Datagram> = pair.responder.wake(now);
    }
}

#[test]
fn a_session_timeout_is_the_cause_of_its_end() {
    let mut pair = pair();
    connect(&mut pair, |reply| {
        reply.session_timeout = Some(Duration::from_secs(50));
    });
    assert_eq!(one(&mut pair).moment, Moment::Start);
    // Without a client that authenticates again.
    for second in 1..=50 {
        pair.seconds = second;
        let now = pair.now();
        pair.responder.wake(now);
    }
    let stop = one(&mut pair);
    assert_eq!(stop.moment, Moment::Stop(Cause::SessionTimeout));
    assert_eq!(stop.figures.seconds, 50);
}

#[test]
fn nobody_is_told_without_accounting_servers_and_of_who_did_not_get_in() {
    let mut quiet = pair_of(0, |radius| radius.accounting.list.clear());
    connect(&mut quiet, |_| ());
    order(&mut quiet, Command::ResetSa);
    assert_eq!(told(&mut quiet), []);
    let mut refused = pair();
    refused.connect();
    serve(&mut refused, |reply| {
        reply.verdict = Verdict::Reject;
        reply.eap = vec![4, 9, 0, 4];
    });
    refused.pass_time(60);
    assert!(refused.responder.endpoint.is_empty());
    assert_eq!(told(&mut refused), []);
}

#[test]
fn reports_are_no_more_than_one_in_a_minute() {
    let mut pair = pair();
    connect(&mut pair, |reply| {
        reply.interim = Some(Duration::from_secs(1));
    });
    pair.pass_time(599);
    let moments: Vec<Moment> = told(&mut pair).iter().map(|record| record.moment).collect();
    let mut expected = vec![Moment::Interim; 10];
    expected[0] = Moment::Start;
    assert_eq!(moments, expected);
}

#[test]
fn a_server_changes_how_long_a_peer_stays_and_how_often_that_is_told() {
    let mut pair = pair();
    connect(&mut pair, |reply| {
        reply.session_timeout = Some(Duration::from_secs(5000));
    });
    pair.pass_time(30);
    assert_eq!(one(&mut pair).moment, Moment::Start);
    let change = |pair: &mut Pair, user: &[u8], session_timeout, interim| {
        let target = Target {
            user: Some(user.to_vec()),
            ..Target::default()
        };
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let rights = Rights {
            session_timeout: seconds(session_timeout),
            interim: seconds(interim),
        };
        let now = pair.now();
        let order = Order::Change(target, rights);
        pair.responder.endpoint.obey(now, &order)
    };
    assert_eq!(change(&mut pair, b"bob", Some(1), None), 0);
    assert_eq!(change(&mut pair, b"alice", None, Some(200)), 1);
    pair.pass_time(229);
    assert_eq!(told(&mut pair), []);
    pair.pass_time(230);
    assert_eq!(one(&mut pair).moment, Moment::Interim);
    // Longer, and then shorter.
    assert_eq!(change(&mut pair, b"alice", Some(9000), None), 1);
    assert_eq!(change(&mut pair, b"alice", Some(70), None), 1);
    pair.pass_time(299);
    assert_eq!(told(&mut pair), []);
    pair.pass_time(300);
    let stop = one(&mut pair);
    assert_eq!(stop.moment, Moment::Stop(Cause::SessionTimeout));
    assert!(pair.responder.said("by a RADIUS server"));
}

/// The peer got in at the server, and still must have the key that the server tells us.
#[test]
fn a_key_that_the_peer_does_not_have_lets_nobody_in() {
    let mut pair = pair();
    pair.connect();
    for _ in 0..2 {
        serve(&mut pair, |reply| {
            reply.msk = Some(iked::crypto::SecretBytes::new(vec![7; 64]));
        });
    }
    let why = "peer FQDN/warrior.example policy 'gateway': authentication failed: pre-shared key \
               mismatch";
    is_refused(&mut pair, why);
}

/// RFC 3579, 2.6.3: the kind of the server's packet counts, and what is in it must say the same.
#[test]
fn success_inside_of_a_challenge_and_failure_inside_of_an_accept_let_nobody_in() {
    for (verdict, eap, why) in [
        (Verdict::Challenge, vec![3, 9, 0, 4], "no EAP request"),
        (
            Verdict::Accept,
            vec![4, 9, 0, 4],
            "no EAP Success in Access-Accept",
        ),
        (
            Verdict::Reject,
            vec![3, 9, 0, 4],
            "wrong user name or password for 'alice'",
        ),
    ] {
        let mut pair = pair();
        pair.connect();
        serve(&mut pair, |reply| {
            (reply.verdict, reply.eap) = (verdict, eap.clone());
        });
        is_refused(&mut pair, why);
    }
}

/// One line names the peer, the policy and the reason, and nothing is left.
fn is_refused(pair: &mut Pair, why: &str) {
    let who = "peer FQDN/warrior.example policy 'gateway': ";
    let lines = &pair.responder.lines;
    let said = lines
        .iter()
        .filter(|line| line.contains(who) && line.contains(why));
    assert_eq!(said.count(), 1, "{why}: {lines:?}");
    pair.pass_time(60);
    for side in [Side::Initiator, Side::Responder] {
        let host = pair.host(side);
        assert_eq!(host.stats().sa_established_total, 0, "{why}");
        assert!(host.kernel.installed.is_empty(), "{why}");
        assert!(host.endpoint.is_empty(), "{why}");
    }
    assert_eq!(pair.responder.stats().leases, 0);
    assert_eq!(told(pair), [], "{why}");
}
