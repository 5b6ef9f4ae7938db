use super::super::algorithm::{Algorithms, Encr, Integ};
use super::super::message::{Answers, SaEntry};
use super::*;
use std::time::Duration;

const KEY: [u8; 36] = [7; 36];

fn entry(encap: Option<(u16, u16)>) -> SaEntry<'static> {
    SaEntry {
        source: "192.0.2.1".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
        spi: EspSpi::new(0x0102_0304).unwrap(),
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 77,
        algorithms: Algorithms {
            encr: Some(Encr::Cipher { name: "cbc(aes)" }),
            integ: Some(Integ {
                name: "hmac(sha1)",
                icv_bits: 96,
            }),
            esn: false,
        },
        encr_key: &KEY[..16],
        integ_key: &KEY[..20],
        encap,
        soft: Duration::from_secs(50),
        hard: Duration::from_secs(60),
        bytes_soft: 0,
        bytes_hard: 5_000,
        replay_window: 64,
        mark: None,
        if_id: None,
        offload: None,
    }
}

/// What the kernel would tell of it, with 300 bytes counted and number 9 sent last.
fn told(encap: Option<(u16, u16)>) -> Vec<u8> {
    let mut requests = Requests::with_capacity(1024);
    requests.new_sa(1, &entry(encap));
    let mut body = Answers(requests.bytes()).next().unwrap().body.to_vec();
    body[160..168].copy_from_slice(&300u64.to_ne_bytes());
    let at = value_at(&body, attribute::REPLAY_ESN_VAL);
    body[at + 4..at + 8].copy_from_slice(&9u32.to_ne_bytes());
    body[at + 24] = 0xa5;
    for number in [attribute::LASTUSED, attribute::PAD] {
        body.extend_from_slice(&12u16.to_ne_bytes());
        body.extend_from_slice(&number.to_ne_bytes());
        body.extend_from_slice(&[1; 8]);
    }
    body
}

fn value_at(body: &[u8], wanted: u16) -> usize {
    let mut at = USERSA_INFO_LEN;
    while u16_at(body, at + 2) != Some(wanted) {
        at += usize::from(u16_at(body, at).unwrap()).next_multiple_of(4);
    }
    at + 4
}

fn copied(told: &[u8], way: Way, encap: Option<(u16, u16)>, skip: u32) -> (u16, Vec<u8>) {
    let mut requests = Requests::with_capacity(1024);
    let copy = Copy {
        told,
        way,
        source: "2001:db8::1".parse().unwrap(),
        destination: "2001:db8::2".parse().unwrap(),
        spi: EspSpi::new(0x0102_0304).unwrap(),
        protocol: IpProtocol::Esp,
        encap,
        skip,
    };
    requests.copy_sa(5, &copy);
    let answer = Answers(requests.bytes()).next().unwrap();
    assert_eq!(answer.seq, 5);
    (answer.kind, answer.body.to_vec())
}

fn attributes(body: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let all = Attributes::of(body);
    let mut all: Vec<_> = all
        .map(|(number, value)| (number, value.to_vec()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_copy_is_the_same_sa_elsewhere() {
    let told = told(None);
    let (kind, body) = copied(&told, Way::Beside, None, 0);
    assert_eq!(kind, kind::NEW_SA);
    // Keys and replay state as they were, and what was counted.
    let mut wanted = attributes(&told);
    wanted.retain(|(number, _)| ![attribute::LASTUSED, attribute::PAD].contains(number));
    wanted.push((attribute::LTIME_VAL, told[160..192].to_vec()));
    wanted.sort();
    assert_eq!(attributes(&body), wanted);
    // SPI, limits, reqid, mode, flags.
    for part in [72..80, 96..160, 208..212, 214..217] {
        assert_eq!(body[part.clone()], told[part]);
    }
    let addresses: [IpAddr; 2] = [
        "2001:db8::2".parse().unwrap(),
        "2001:db8::1".parse().unwrap(),
    ];
    for (at, address) in [56, 80].into_iter().zip(addresses) {
        let IpAddr::V6(v6) = address else { continue };
        assert_eq!(body[at..at + 16], v6.octets());
    }
    assert_eq!(u16_at(&body, 212), Some(libc::AF_INET6 as u16));
    assert_eq!(body.len() % 4, 0);
}

#[test]
fn encapsulation_comes_changes_and_goes() {
    let ports = |body: &[u8]| {
        let encap = attributes(body).into_iter();
        let mut encap = encap.filter(|(number, _)| *number == attribute::ENCAP);
        encap.next().map(|(_, value)| value[2..6].to_vec())
    };
    let (bare, wrapped) = (told(None), told(Some((4500, 4777))));
    assert!(!is_encapsulated(&bare) && is_encapsulated(&wrapped));
    let (kind, body) = copied(&wrapped, Way::InPlace, Some((4500, 4778)), 0);
    assert_eq!(kind, kind::UPD_SA);
    assert_eq!(ports(&body), Some(vec![0x11, 0x94, 0x12, 0xaa]));
    assert_eq!(ports(&copied(&wrapped, Way::Instead, None, 0).1), None);
    let (_, body) = copied(&bare, Way::Instead, Some((1, 2)), 0);
    assert_eq!(ports(&body), Some(vec![0, 1, 0, 2]));
}

#[test]
fn sequence_numbers_are_left_out_but_never_past_the_end() {
    let number = |body: &[u8]| u32_at(body, value_at(body, attribute::REPLAY_ESN_VAL) + 4);
    let mut told = told(None);
    let (_, body) = copied(&told, Way::Beside, None, 1000);
    assert_eq!(number(&body), Some(1009));
    let at = value_at(&told, attribute::REPLAY_ESN_VAL);
    told[at + 4..at + 8].copy_from_slice(&(u32::MAX - 5).to_ne_bytes());
    let (_, body) = copied(&told, Way::Beside, None, 1000);
    assert_eq!(number(&body), Some(u32::MAX - 5));
    // With extended numbers the upper half goes on.
    told[216] |= STATE_ESN;
    let (_, body) = copied(&told, Way::Beside, None, 1000);
    let at = value_at(&body, attribute::REPLAY_ESN_VAL);
    assert_eq!(
        (u32_at(&body, at + 4), u32_at(&body, at + 12)),
        (Some(994), Some(1))
    );
}

#[test]
fn keys_that_the_kernel_hides_are_seen_to_be_missing() {
    let whole = told(None);
    assert!(is_whole(&whole));
    for (number, key_at) in [(attribute::ALG_CRYPT, 68), (attribute::ALG_AUTH_TRUNC, 72)] {
        let mut hidden = whole.clone();
        let at = value_at(&hidden, number) + key_at;
        let len = if number == attribute::ALG_CRYPT {
            16
        } else {
            20
        };
        hidden[at..at + len].fill(0);
        assert!(!is_whole(&hidden));
    }
    assert!(!is_whole(&whole[..USERSA_INFO_LEN - 1]));
}
