//! Datagrams that are wrong get exactly the answer of RFC 7296, 2.21, which mostly is none, and a
//! counter; nothing else changes.

use std::net::UdpSocket;

use iked::wire::Header;
use iked::wire::registry::{ExchangeType, KeId, NotifyType, PayloadType};
use iked::wire::spi::IkeSpi;

use super::client::{Client, Ports, gateway_conf};
use super::desk::{
    DECODE, DROPPED, Desk, INTEGRITY, Row, UNEXPECTED, UNKNOWN, VERSION, answered, silence,
};
use super::house::{House, alone, singular};
use super::probe::{header, sa_init};

/// A message with some bytes replaced.
fn with(message: &[u8], edits: &[(usize, &[u8])]) -> Vec<u8> {
    let mut out = message.to_vec();
    for (at, bytes) in edits {
        out[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    out
}

/// A message with more bytes at its end and the length to match.
fn longer(message: &[u8], more: &[u8]) -> Vec<u8> {
    let mut out = [message, more].concat();
    let length = out.len() as u32;
    out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    out
}

/// A header with these SPIs and a payload in the clear.
fn message(header: Header, next: PayloadType, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        next_payload: next,
        ..header
    };
    header.encode(&mut out);
    longer(&out, payload)
}

/// Requests that come first: nobody is known, and nobody shall be.
fn first_requests() -> Vec<Row> {
    let good = sa_init(0xbad, KeId::CURVE25519, &[9; 32], &[]);
    let sa_len = usize::from(u16::from_be_bytes([good[30], good[31]]));
    let (ke, nonce) = (SA_AT + sa_len, SA_AT + sa_len + 8 + 32);
    assert_eq!((good[ke], good[nonce]), (PayloadType::NONCE.0, 0));
    let length = good.len() as u32;
    let claim = |length: u32| with(&good, &[(LENGTH_AT, &length.to_be_bytes())]);
    let critical = [&[0, 0x80, 0, 8][..], &[1; 4]].concat();
    let unknown_critical = with(&longer(&good, &critical), &[(nonce, &[99])]);
    let alone = message(header(0xbad), PayloadType::NONE, &[]);
    vec![
        silence("empty", vec![], DECODE),
        silence("a byte short of a header", good[..27].to_vec(), DECODE),
        silence("cut off", good[..good.len() - 1].to_vec(), DECODE),
        silence("a byte too long", [&good[..], &[0]].concat(), DECODE),
        silence("claims a byte more", claim(length + 1), DECODE),
        silence("claims a byte less", claim(length - 1), DECODE),
        silence("claims less than a header", claim(27), DECODE),
        silence("claims 4 GiB", claim(u32::MAX), DECODE),
        silence("a header alone", alone.clone(), DECODE),
        silence("version 0", with(&good, &[(17, &[0x00])]), VERSION),
        silence("version 1", with(&good, &[(17, &[0x10])]), VERSION),
        answered(
            "version 3",
            with(&good, &[(17, &[0x30])]),
            (NotifyType::INVALID_MAJOR_VERSION, &[]),
            VERSION,
        ),
        silence(
            "version 3 response",
            with(&good, &[(17, &[0x30]), (19, &[0x28])]),
            VERSION,
        ),
        silence(
            "version 3, too short",
            with(&alone, &[(17, &[0x30])]),
            VERSION,
        ),
        silence(
            "payload of length 0",
            with(&good, &[(ke + 2, &[0, 0])]),
            DECODE,
        ),
        silence(
            "payload of length 3",
            with(&good, &[(ke + 2, &[0, 3])]),
            DECODE,
        ),
        silence(
            "payload too long",
            with(&good, &[(nonce + 2, &[0, 37])]),
            DECODE,
        ),
        silence(
            "payload of 64 KiB",
            with(&good, &[(ke + 2, &[0xff, 0xff])]),
            DECODE,
        ),
        silence(
            "a payload is missing",
            with(&good, &[(nonce, &[41])]),
            DECODE,
        ),
        silence("bytes behind the payloads", longer(&good, &[0; 8]), DECODE),
        silence(
            "no SA",
            with(&good, &[(16, &[PayloadType::VENDOR_ID.0])]),
            DECODE,
        ),
        answered(
            "unknown critical payload",
            unknown_critical.clone(),
            (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, &[99]),
            DECODE,
        ),
        silence(
            "unknown critical payload in a response",
            with(&unknown_critical, &[(19, &[0x28])]),
            UNEXPECTED,
        ),
        silence("response", with(&good, &[(19, &[0x28])]), UNEXPECTED),
        silence("Message ID 1", with(&good, &[(23, &[1])]), UNEXPECTED),
        silence("no SPI at all", with(&good, &[(0, &[0; 8])]), UNEXPECTED),
        silence("IKE_AUTH", with(&good, &[(18, &[35])]), UNEXPECTED),
        silence("exchange 240", with(&good, &[(18, &[240])]), UNEXPECTED),
        answered(
            "not of the initiator",
            with(&good, &[(19, &[0])]),
            (NotifyType::INVALID_IKE_SPI, &[]),
            UNKNOWN,
        ),
    ]
}

/// Messages of IKE SAs that are not there.
fn of_nobody() -> Vec<Row> {
    let noise = [&[33, 0, 0, 64][..], &[0xa5; 60]].concat();
    let mut rows = Vec::new();
    for (exchange, name) in [
        (ExchangeType::IKE_AUTH, "IKE_AUTH of nobody"),
        (ExchangeType::INFORMATIONAL, "INFORMATIONAL of nobody"),
        (ExchangeType::IKE_SA_INIT, "IKE_SA_INIT of nobody"),
    ] {
        // A tag of the only shard, and one that no shard has.
        for spi in [0x01aa_aaaa_aaaa_aaaa, 0xeeaa_aaaa_aaaa_aaaa] {
            let header = Header {
                responder_spi: IkeSpi::new(spi),
                exchange,
                message_id: 1,
                ..header(0xbad)
            };
            let request = message(header, PayloadType::SK, &noise);
            let response = with(&request, &[(19, &[0x28])]);
            let short = message(header, PayloadType::NONE, &[]);
            let notify = (NotifyType::INVALID_IKE_SPI, [].as_slice());
            rows.push(answered(name, request, notify, UNKNOWN));
            rows.push(silence(name, response, UNKNOWN));
            rows.push(silence(name, short, UNKNOWN));
        }
    }
    rows
}

/// Messages of an IKE SA that is up, which awaits request 2.
fn of_somebody(client: &Client) -> Vec<Row> {
    let last = client.tape[client.tape.len() - 2].clone();
    let good = Header::decode(&last).unwrap();
    assert_eq!(
        (good.exchange, good.message_id),
        (ExchangeType::IKE_AUTH, 1)
    );
    let next = Header {
        exchange: ExchangeType::INFORMATIONAL,
        message_id: 2,
        ..good
    };
    let delete = [0, 0, 0, 8, 1, 0, 0, 0];
    let noise = [&[0, 0, 0, 64][..], &[0x5a; 60]].concat();
    let fragment = |number: u8, total: u8| {
        let numbers = [0, number, 0, total];
        [&[0, 0, 0, 68][..], &numbers, &[0x5a; 60]].concat()
    };
    let sealed = |header| message(header, PayloadType::SK, &noise);
    let exchange = |exchange| sealed(Header { exchange, ..next });
    let numbered = |message_id| sealed(Header { message_id, ..next });
    let critical = [&[PayloadType::SK.0, 0x80, 0, 4][..], &noise].concat();
    let wrong_peer = Header {
        initiator_spi: IkeSpi::new(next.initiator_spi.unwrap().value() ^ 1),
        ..next
    };
    let flipped = with(&last, &[(last.len() - 1, &[last[last.len() - 1] ^ 1])]);
    vec![
        silence(
            "Delete in the clear",
            message(next, PayloadType::DELETE, &delete),
            UNEXPECTED,
        ),
        silence(
            "nothing at all",
            message(next, PayloadType::NONE, &[]),
            UNEXPECTED,
        ),
        silence("noise", sealed(next), INTEGRITY),
        silence(
            "CREATE_CHILD_SA",
            exchange(ExchangeType::CREATE_CHILD_SA),
            INTEGRITY,
        ),
        silence(
            "IKE_AUTH again",
            exchange(ExchangeType::IKE_AUTH),
            INTEGRITY,
        ),
        silence("exchange 240", exchange(ExchangeType(240)), INTEGRITY),
        silence(
            "an empty SK",
            message(next, PayloadType::SK, &[0, 0, 0, 4]),
            INTEGRITY,
        ),
        silence("bytes behind SK", longer(&sealed(next), &[0]), DECODE),
        silence(
            "critical before SK",
            message(next, PayloadType(99), &critical),
            DECODE,
        ),
        silence(
            "fragment 0",
            message(next, PayloadType::SKF, &fragment(0, 2)),
            DECODE,
        ),
        silence(
            "fragment 3 of 2",
            message(next, PayloadType::SKF, &fragment(3, 2)),
            DECODE,
        ),
        silence(
            "fragment of noise",
            message(next, PayloadType::SKF, &fragment(1, 2)),
            &["fragment received", "integrity_error", DROPPED],
        ),
        silence("Message ID 3", numbered(3), UNEXPECTED),
        silence("Message ID 0", numbered(0), UNEXPECTED),
        silence("the last Message ID", numbered(u32::MAX), UNEXPECTED),
        silence("the last request, one bit wrong", flipped, UNEXPECTED),
        silence(
            "a response to nothing",
            with(&sealed(next), &[(19, &[0x28])]),
            UNEXPECTED,
        ),
        silence("another peer's SPI", sealed(wrong_peer), UNEXPECTED),
        answered(
            "the wrong role",
            with(&sealed(next), &[(19, &[0])]),
            (NotifyType::INVALID_IKE_SPI, &[]),
            UNKNOWN,
        ),
        answered(
            "version 3",
            with(&sealed(next), &[(17, &[0x30])]),
            (NotifyType::INVALID_MAJOR_VERSION, &[]),
            VERSION,
        ),
    ]
}

#[test]
fn wrong_datagrams_get_the_answer_of_the_rfc_and_a_counter() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&gateway_conf(&[]), &["--shards", "1"]);
        for to in ["127.0.0.1:500", "127.0.0.1:4500"] {
            let socket = UdpSocket::bind("127.0.0.8:0").unwrap();
            let mut desk = Desk::new(&daemon, &socket, to);
            for row in first_requests().iter().chain(&of_nobody()) {
                desk.try_row(row);
            }
        }
        assert_eq!(daemon.count("IKE SA created"), 0);
        assert_eq!(daemon.count("faults"), 0);
    });
}

#[test]
fn wrong_datagrams_of_an_ike_sa_leave_it_as_it_is_wherever_they_come_from() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&gateway_conf(&[]), &["--shards", "1"]);
        let (own, gateway) = ([127, 0, 0, 9].into(), [127, 0, 0, 1].into());
        let mut client = Client::new("warrior.example", own, gateway, Ports::Own);
        client.establish();
        let rows = of_somebody(&client);
        let elsewhere = UdpSocket::bind("127.0.0.8:0").unwrap();
        for socket in [client.socket(false), &elsewhere] {
            let mut desk = Desk::new(&daemon, socket, "127.0.0.1:500");
            for row in &rows {
                desk.try_row(row);
            }
            // The last request as it was is answered from the cache, to whoever repeats it.
            let [.., request, response] = client.tape.as_slice() else {
                panic!("{:02x?}", client.tape);
            };
            let (answers, counted) = desk.exchange(request);
            assert_eq!(answers, std::slice::from_ref(response));
            let names: Vec<&String> = counted.keys().collect();
            assert_eq!(
                names,
                ["message received", "message sent", "response retransmitted"]
            );
        }
        client.ask_for_life();
        client.say_goodbye();
        assert_eq!(daemon.count("IKE SA currently established"), 0);
        assert_eq!(daemon.count("faults"), 0);
    });
}

#[test]
fn on_the_natt_port_what_is_no_ike_is_no_message() {
    alone(|| {
        let house = House::new();
        let daemon = house.start(&gateway_conf(&[]), &["--shards", "1"]);
        let takes_esp = !daemon.said().contains("no ESP in UDP");
        let socket = UdpSocket::bind("127.0.0.8:0").unwrap();
        let mut desk = Desk::new(&daemon, &socket, "127.0.0.1:4500");
        let esp = [0x21; 80];
        let dropped = [singular(DROPPED), singular("message received")];
        let keepalive: &[u8] = &[0xff];
        for (datagram, counted) in [
            (keepalive, false),
            (&esp, !takes_esp),
            // Too short for ESP: the kernel leaves it to us.
            (&[1, 2, 3], true),
            (&[0, 0, 0], true),
        ] {
            let (answers, names) = desk.exchange(datagram);
            assert_eq!(answers, Vec::<Vec<u8>>::new(), "{datagram:02x?}");
            let names: Vec<String> = names.into_keys().collect();
            let expected: &[String] = if counted { &dropped } else { &[] };
            assert_eq!(names, expected, "{datagram:02x?}");
        }
    });
}

/// Of the header's length field.
const LENGTH_AT: usize = 24;
/// Of the first payload.
const SA_AT: usize = 28;
