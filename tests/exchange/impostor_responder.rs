//! Responders that answer IKE_AUTH with a proof that is none: the honest answer is opened on its way,
//! changed and sealed again with the keys of its sender, as one would do who has exchanged keys with us
//! and is not who it says.

use iked::policy::EapMethod;
use iked::wire::registry::{AuthMethod, PayloadType};
use iked::wire::{Auth, Payload};

use super::peer::{open_with, seal_with};
use super::setup::{self, gateway, no_keys, warrior, with_passwords};
use super::world::{Host, Pair, Side, mirrored};

/// The proof of the answer, and that of the request, which may be changed.
type Change = fn(&mut (AuthMethod, Vec<u8>), &(AuthMethod, Vec<u8>));

const FORGERIES: &[(&str, Change)] = &[
    ("empty", |(_, data), _| data.clear()),
    ("zeroes", |(_, data), _| data.fill(0)),
    ("truncated", |(_, data), _| data.truncate(data.len() - 1)),
    ("overlong", |(_, data), _| data.push(0)),
    ("flipped", |(_, data), _| *data.last_mut().unwrap() ^= 1),
    ("NULL", |(method, _), _| *method = AuthMethod::NULL),
    ("another method", |(method, _), _| {
        *method = match *method {
            AuthMethod::SHARED_KEY => AuthMethod::SIGNATURE,
            _ => AuthMethod::SHARED_KEY,
        };
    }),
    ("our own", |proof, ours| proof.clone_from(ours)),
];

fn proof(payloads: &[Payload<'_>]) -> (AuthMethod, Vec<u8>) {
    let found = payloads.iter().find_map(|payload| match payload {
        Payload::Auth(auth) => Some((auth.method, auth.data.to_vec())),
        _ => None,
    });
    found.unwrap()
}

/// The answer with another proof, or with none, reaches the initiator.
fn answer_with(pair: &mut Pair, change: Option<Change>) {
    let request = pair.initiate();
    let (_, response) = pair.give(Side::Initiator, &request[0]);
    let (_, request) = pair.give(Side::Responder, &response[0]);
    let (_, answer) = pair.give(Side::Initiator, &request[0]);
    let (sent, bytes) = {
        let sa = pair.responder.endpoint.ike_sas().next().unwrap();
        let ours = open_with(sa.inbound_key().unwrap(), &request[0].bytes);
        let ours = proof(&ours.payloads());
        let opened = open_with(sa.outbound_key().unwrap(), &answer[0].bytes);
        let mut forged = proof(&opened.payloads());
        if let Some(change) = change {
            change(&mut forged, &ours);
        }
        let mut payloads = opened.payloads();
        payloads.retain(|payload| payload.kind() != PayloadType::AUTH);
        if change.is_some() {
            let (method, data) = (forged.0, &forged.1[..]);
            payloads.insert(1, Payload::Auth(Auth { method, data }));
        }
        let (key, mut sealed) = (sa.outbound_key().unwrap(), 1 << 40);
        let bytes = seal_with(key, &mut sealed, &opened.header, &payloads);
        (answer[0].clone(), bytes)
    };
    let (now, path) = (pair.now(), mirrored(sent.path));
    let told = pair.initiator.receive(now, path, &bytes);
    pair.run(Side::Initiator, told);
}

/// One line, which names the peer and the policy where the peer has said who it is, and no trace at
/// either end: the responder takes the IKE SA for up and is told.
fn is_refused(mut pair: Pair, name: &str, line: &str) {
    let lines = &pair.initiator.lines;
    let said = lines.iter().filter(|said| said.contains(line));
    assert_eq!(said.count(), 1, "{name}: `{line}` in {lines:?}");
    let stats = pair.initiator.stats();
    assert_eq!(stats.sa_established_total, 0, "{name}");
    assert_eq!(stats.sa_established_failures, 1, "{name}");
    assert!(pair.initiator.kernel.installed.is_empty(), "{name}");
    pair.pass_time(30);
    assert!(pair.responder.kernel.holds().is_empty(), "{name}");
    assert!(pair.initiator.endpoint.is_empty(), "{name}");
    assert!(pair.responder.endpoint.is_empty(), "{name}");
}

fn refuses(pair: impl Fn() -> Pair, why: fn(&str) -> &'static str) {
    let mut honest = pair();
    answer_with(&mut honest, Some(|_, _| ()));
    assert!(honest.is_up(), "{:?}", honest.initiator.lines);
    for (name, change) in FORGERIES {
        let mut pair = pair();
        answer_with(&mut pair, Some(*change));
        let why = why(name);
        let line = format!(
            "sa_free: peer FQDN/gateway.example policy 'warrior': authentication failed: {why}"
        );
        is_refused(pair, name, &line);
    }
    let mut pair = pair();
    answer_with(&mut pair, None);
    is_refused(pair, "omitted", "sa_free: AUTH payload missing");
}

/// The gateway's answer number `which`, counted from 0, has this for its EAP packet, or for its AUTH.
fn eap_answers(method: EapMethod, which: usize, with: &Payload<'_>) -> Pair {
    let [(client, ours), (server, theirs)] = with_passwords(&[method], &[method], "secret");
    let mut pair = Pair::of(Host::new(client, ours, 1), Host::new(server, theirs, 2));
    let request = pair.initiate();
    let (_, response) = pair.give(Side::Initiator, &request[0]);
    let (_, mut request) = pair.give(Side::Responder, &response[0]);
    for _ in 0..which {
        let (_, answer) = pair.give(Side::Initiator, &request[0]);
        (_, request) = pair.give(Side::Responder, &answer[0]);
    }
    let (_, answer) = pair.give(Side::Initiator, &request[0]);
    let bytes = {
        let sa = pair.responder.endpoint.ike_sas().next().unwrap();
        let opened = open_with(sa.outbound_key().unwrap(), &answer[0].bytes);
        let mut payloads = opened.payloads();
        let place = payloads.iter().position(|p| p.kind() == with.kind());
        payloads[place.unwrap()] = with.clone();
        let (key, mut sealed) = (sa.outbound_key().unwrap(), 1 << 40);
        seal_with(key, &mut sealed, &opened.header, &payloads)
    };
    let (now, path) = (pair.now(), mirrored(answer[0].path));
    let told = pair.initiator.receive(now, path, &bytes);
    pair.run(Side::Initiator, told);
    pair
}

const WHO: &str = "sa_free: peer FQDN/gateway.example policy 'warrior': authentication failed: ";

/// RFC 3748, 4.2: it counts only where the method has come to its end, in which the server of MSCHAPv2
/// has shown that it knows the password.
#[test]
fn a_server_does_not_say_success_early() {
    for method in [EapMethod::MsChapV2, EapMethod::Md5, EapMethod::Gtc] {
        // In place of the question for the name, and of the method's first.
        for (which, identifier) in [(0, 0), (0, 1), (1, 1), (1, 2)] {
            let success = [3, identifier, 0, 4];
            let pair = eap_answers(method, which, &Payload::Eap(&success));
            let line = format!("{WHO}EAP: Success before the end of the method");
            is_refused(pair, &format!("{method:?} {which}"), &line);
        }
    }
    let success = [3, 2, 0, 4];
    let pair = eap_answers(EapMethod::MsChapV2, 2, &Payload::Eap(&success));
    let line = format!("{WHO}EAP: Success before the end of the method");
    is_refused(pair, "before it has shown the password", &line);
}

/// What the client said itself, and what another method says.
#[test]
fn a_server_does_not_reflect_nor_switch() {
    let response = [2, 1, 0, 10, 1, b'a', b'l', b'i', b'c', b'e'];
    let other = [1, 2, 0, 6, 6, b'?'];
    for (name, packet) in [("reflected", &response[..]), ("switched", &other)] {
        let pair = eap_answers(EapMethod::MsChapV2, 2, &Payload::Eap(packet));
        let line = format!("{WHO}EAP: unexpected or malformed packet");
        is_refused(pair, name, &line);
    }
}

#[test]
fn a_server_proves_the_key_of_eap_in_the_end() {
    for (method, last) in [(EapMethod::MsChapV2, 4), (EapMethod::Gtc, 3)] {
        for (name, proof, why) in [
            (
                "zeroes",
                (AuthMethod::SHARED_KEY, [0; 32]),
                "pre-shared key mismatch",
            ),
            ("NULL", (AuthMethod::NULL, [0; 32]), METHOD),
            ("signature", (AuthMethod::SIGNATURE, [0; 32]), METHOD),
        ] {
            let data = &proof.1[..];
            let auth = Payload::Auth(Auth {
                method: proof.0,
                data,
            });
            let pair = eap_answers(method, last, &auth);
            is_refused(pair, &format!("{method:?} {name}"), &format!("{WHO}{why}"));
        }
    }
}

const METHOD: &str = "authentication method not allowed";

#[test]
fn a_responder_with_a_secret_proves_itself_or_is_refused() {
    let pair = || Pair::new((warrior(), no_keys()), (gateway(), no_keys()));
    refuses(pair, |name| match name {
        "NULL" | "another method" => METHOD,
        _ => "pre-shared key mismatch",
    });
}

#[test]
fn a_responder_with_a_key_proves_itself_or_is_refused() {
    for [ours, theirs] in [[setup::ecdsa(), setup::ecdsa()], setup::rsa().clone()] {
        let pair = || {
            let [initiator, responder] = setup::with_keys(&ours, &theirs);
            Pair::new(initiator, responder)
        };
        refuses(pair, |name| match name {
            "NULL" | "another method" => METHOD,
            _ => "signature: ",
        });
    }
}
