use std::net::Ipv4Addr;

use std::time::Duration;

use super::*;
use crate::policy::IpNet;
use crate::xfrm::algorithm::Integ;

fn sa() -> SaEntry<'static> {
    SaEntry {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        spi: EspSpi::new(0x0102_0304).unwrap(),
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 0x0100_0001,
        algorithms: Algorithms {
            encr: Some(Encr::Aead {
                name: "rfc4106(gcm(aes))",
                icv_bits: 128,
            }),
            integ: None,
            esn: false,
        },
        encr_key: &[7; 20],
        integ_key: &[],
        encap: None,
        soft: Duration::from_secs(90),
        hard: Duration::from_secs(100),
        bytes_soft: 0,
        bytes_hard: 0,
        replay_window: 32,
        mark: None,
        if_id: None,
        offload: None,
    }
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(len) = u16_at(bytes, 0) {
        let len = usize::from(len);
        found.push((u16_at(bytes, 2).unwrap(), bytes[4..len].to_vec()));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn one(requests: &Requests) -> Answer<'_> {
    let mut answers = Answers(requests.bytes());
    let first = answers.next().unwrap();
    assert!(answers.next().is_none());
    first
}

#[test]
fn new_sa_stands_where_the_kernel_looks() {
    let mut requests = Requests::with_capacity(1024);
    requests.new_sa(9, &sa());
    let message = one(&requests);
    assert_eq!((message.kind, message.seq), (kind::NEW_SA, 9));
    let name = message.sa().unwrap();
    assert_eq!(name.destination, sa().destination);
    assert_eq!(name.spi, sa().spi);
    assert_eq!(name.reqid, 0x0100_0001);
    let body = message.body;
    assert_eq!(body[72..76], [1, 2, 3, 4], "the SPI in network order");
    assert_eq!(body[76], 50);
    assert_eq!(body[80..84], [192, 0, 2, 1]);
    assert_eq!(body[96..128], [0xff; 32], "no limit of bytes or packets");
    assert_eq!(body[128..136], 90u64.to_ne_bytes());
    assert_eq!(body[136..144], 100u64.to_ne_bytes());
    assert_eq!(
        body[214..217],
        [1, 32, STATE_AF_UNSPEC],
        "tunnel, window, flags"
    );
    let attributes = attributes(&body[USERSA_INFO_LEN..]);
    assert_eq!(attributes.len(), 1);
    let (number, value) = &attributes[0];
    assert_eq!(*number, 18);
    assert!(value.starts_with(b"rfc4106(gcm(aes))\0"));
    assert_eq!(value[64..68], 160u32.to_ne_bytes());
    assert_eq!(value[68..72], 128u32.to_ne_bytes());
    assert_eq!(value[72..], [7; 20]);
}

#[test]
fn esn_and_long_windows_use_the_attribute_only() {
    for (esn, window, words) in [(true, 32, 1u32), (false, 64, 2), (true, 100_000, 128)] {
        let mut sa = sa();
        sa.algorithms.esn = esn;
        sa.replay_window = window;
        let mut requests = Requests::with_capacity(1024);
        requests.new_sa(1, &sa);
        let body = one(&requests).body;
        assert_eq!(body[215], 0);
        assert_eq!(body[216] & STATE_ESN != 0, esn);
        let attributes = attributes(&body[USERSA_INFO_LEN..]);
        let (_, value) = attributes.iter().find(|(number, _)| *number == 23).unwrap();
        assert_eq!(value[..4], words.to_ne_bytes());
        assert_eq!(value.len(), 24 + words as usize * 4);
        assert_eq!(value[20..24], window.min(4096).to_ne_bytes());
    }
}

#[test]
fn encapsulation_and_two_algorithms_are_three_attributes() {
    let mut sa = sa();
    sa.algorithms.encr = Some(Encr::Cipher { name: "cbc(aes)" });
    sa.algorithms.integ = Some(Integ {
        name: "hmac(sha256)",
        icv_bits: 128,
    });
    sa.encr_key = &[1; 16];
    sa.integ_key = &[2; 32];
    sa.encap = Some((4500, 51_000));
    let mut requests = Requests::with_capacity(1024);
    requests.new_sa(1, &sa);
    let attributes = attributes(&one(&requests).body[USERSA_INFO_LEN..]);
    let numbers: Vec<u16> = attributes.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, 20, 4]);
    assert_eq!(attributes[0].1.len(), 68 + 16);
    assert_eq!(attributes[1].1[68..72], 128u32.to_ne_bytes());
    let encap = &attributes[2].1;
    assert_eq!(encap.len(), 24);
    assert_eq!(encap[..2], 2u16.to_ne_bytes());
    assert_eq!(encap[2..6], [0x11, 0x94, 0xc7, 0x38]);
}

#[test]
fn policy_selector_is_masked_and_turned_round_for_out() {
    let pair = SelectorPair {
        protocol: 17,
        local: IpNet {
            addr: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
            len: 16,
        },
        local_port: Some(53),
        remote: IpNet {
            addr: IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9)),
            len: 32,
        },
        remote_port: None,
        outward: false,
        if_id: None,
    };
    let template = Template {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        protocol: IpProtocol::Esp,
        transport: true,
        reqid: 0x0200_0007,
        ipcomp: false,
    };
    let mut requests = Requests::with_capacity(1024);
    requests.update_policy(4, Direction::Out, &pair, 77, &template);
    let body = one(&requests).body;
    assert_eq!(body.len(), USERPOLICY_INFO_LEN + 68);
    assert_eq!(body[..4], [10, 9, 9, 9], "out: the peer is the destination");
    assert_eq!(body[16..20], [10, 1, 0, 0]);
    assert_eq!(body[32..40], [0, 0, 0, 0, 0, 53, 0xff, 0xff]);
    assert_eq!(body[42..45], [32, 16, 17]);
    assert_eq!(body[160], 1);
    requests = Requests::with_capacity(1024);
    requests.update_policy(4, Direction::Forward, &pair, 77, &template);
    let message = one(&requests);
    assert_eq!(message.body[..4], [10, 1, 0, 0]);
    assert_eq!(message.body[160], 2);
    let mut as_dumped = message;
    as_dumped.kind = kind::NEW_POLICY;
    let name = as_dumped.policy().unwrap();
    assert_eq!((name.direction, name.reqid), (2, 0x0200_0007));
}

#[test]
fn a_mark_is_said_where_there_is_one() {
    let marks = |mark| {
        let mut requests = Requests::with_capacity(1024);
        requests.new_sa(9, &SaEntry { mark, ..sa() });
        let behind = attributes(&one(&requests).body[USERSA_INFO_LEN..]);
        let marks = behind.into_iter().filter(|(number, _)| *number == 29);
        marks.map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(marks(Some(0x2a)), [0x2a_u32.to_ne_bytes()]);
    assert!(marks(None).is_empty());
}

#[test]
fn an_xfrm_interface_stands_behind_sas_and_policies_and_names_them() {
    let if_id = IfId::new(0x0a0b);
    let mut requests = Requests::with_capacity(1024);
    requests.new_sa(9, &SaEntry { if_id, ..sa() });
    let behind = attributes(&one(&requests).body[USERSA_INFO_LEN..]);
    assert!(behind.contains(&(31, 0x0a0b_u32.to_ne_bytes().to_vec())));
    let net = IpNet::host(sa().source);
    let pair = SelectorPair {
        protocol: 0,
        local: net,
        local_port: None,
        remote: net,
        remote_port: None,
        outward: false,
        if_id,
    };
    let template = Template {
        source: sa().source,
        destination: sa().destination,
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 5,
        ipcomp: false,
    };
    let mut requests = Requests::with_capacity(1024);
    requests.update_policy(1, Direction::In, &pair, 7, &template);
    let dumped = Answer {
        kind: kind::NEW_POLICY,
        ..one(&requests)
    };
    let name = dumped.policy().unwrap();
    assert_eq!((name.reqid, name.if_id), (5, if_id));
    for deletion in [true, false] {
        let mut requests = Requests::with_capacity(1024);
        if deletion {
            requests.del_policy_raw(1, &name);
        } else {
            requests.del_policy(1, Direction::In, &pair);
        }
        let behind = attributes(&one(&requests).body[64..]);
        assert_eq!(behind, [(31, 0x0a0b_u32.to_ne_bytes().to_vec())]);
    }
}

#[test]
fn a_device_for_the_cryptography_is_named_with_family_and_direction() {
    let said = |device, inbound, destination: &str| {
        let offload = Some(Offload { device, inbound });
        let destination = destination.parse().unwrap();
        let sa = SaEntry {
            offload,
            destination,
            ..sa()
        };
        let mut requests = Requests::with_capacity(1024);
        requests.new_sa(9, &sa);
        let behind = attributes(&one(&requests).body[USERSA_INFO_LEN..]);
        let found = behind.into_iter().find(|(number, _)| *number == 28);
        found.unwrap().1
    };
    // struct xfrm_user_offload: int ifindex, __u8 flags, padding.
    let number = 3u32.to_ne_bytes();
    assert_eq!(said(3, false, "192.0.2.2"), [&number[..], &[0; 4]].concat());
    assert_eq!(
        said(3, true, "192.0.2.2"),
        [&number[..], &[2, 0, 0, 0]].concat()
    );
    assert_eq!(
        said(3, true, "2001:db8::2"),
        [&number[..], &[3, 0, 0, 0]].concat()
    );
}

#[test]
fn longer_prefixes_and_narrower_selectors_come_first() {
    let pair = |len, protocol, port| SelectorPair {
        protocol,
        local: IpNet {
            addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)),
            len,
        },
        local_port: port,
        remote: IpNet {
            addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            len: 0,
        },
        remote_port: None,
        outward: false,
        if_id: None,
    };
    let order = [
        pair(24, 0, None),
        pair(16, 6, Some(80)),
        pair(16, 6, None),
        pair(16, 0, None),
    ];
    let numbers: Vec<u32> = order.iter().map(SelectorPair::priority).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // A trap comes after what is as specific, and before what is less.
    let [.., third, fourth] = order;
    assert!(third.priority() < third.trap_priority());
    assert!(third.trap_priority() < fourth.priority());
}

#[test]
fn an_acquire_names_the_reqid_of_the_policy_that_a_packet_hit() {
    let mut body = vec![0; USER_ACQUIRE_LEN];
    // Another attribute before the template, and its padding.
    body.extend_from_slice(&[5, 0, 16, 0, 0, 0, 0, 0]);
    body.extend_from_slice(&68u16.to_ne_bytes());
    body.extend_from_slice(&attribute::TMPL.to_ne_bytes());
    let mut template = [0; 64];
    template[44..48].copy_from_slice(&0x4a00_0007u32.to_ne_bytes());
    body.extend_from_slice(&template);
    let acquire = |body| Answer {
        kind: kind::ACQUIRE,
        seq: 0,
        body,
    };
    assert_eq!(acquire(&body[..]).acquire(), Some(0x4a00_0007));
    for len in 0..body.len() {
        assert_eq!(acquire(&body[..len]).acquire(), None, "{len} bytes");
    }
    let expire = Answer {
        kind: kind::EXPIRE,
        ..acquire(&body[..])
    };
    assert_eq!(expire.acquire(), None);
}

#[test]
fn thresholds_of_hashing_are_written_and_read() {
    let thresholds = Thresholds {
        v4: [1, 32],
        v6: [0, 128],
    };
    let mut requests = Requests::with_capacity(64);
    requests.hash_policies(1, thresholds);
    let message = one(&requests);
    assert_eq!((message.kind, &message.body[..4]), (0x24, &[0; 4][..]));
    let wanted = [(3, vec![1, 32]), (4, vec![0, 128])];
    assert_eq!(attributes(&message.body[4..]), wanted);
    // The answer to the question has the same form.
    assert_eq!(message.thresholds(), Some(thresholds));
    let body = message.body;
    for len in 0..body.len() - 2 {
        let cut = Answer {
            body: &body[..len],
            ..one(&requests)
        };
        assert_eq!(cut.thresholds(), None, "{len} bytes");
    }
    let mut requests = Requests::with_capacity(64);
    requests.get_thresholds(2);
    let message = one(&requests);
    assert_eq!((message.kind, message.body), (0x25, &[0; 4][..]));
    assert_eq!(message.thresholds(), None);
}

#[test]
fn only_the_last_message_asks_for_an_answer() {
    let mut requests = Requests::with_capacity(1024);
    let address = sa().destination;
    requests.del_sa(1, address, sa().spi, IpProtocol::Esp);
    requests.del_sa(2, address, sa().spi, IpProtocol::Ah);
    requests.acknowledge_last();
    let bytes = requests.bytes();
    assert_eq!(bytes.len(), 80);
    assert_eq!(bytes[6..8], 1u16.to_ne_bytes());
    assert_eq!(bytes[46..48], 5u16.to_ne_bytes());
    assert_eq!((bytes[16 + 22], bytes[56 + 22]), (50, 51));
}

#[test]
fn errors_expiries_and_mappings_are_read() {
    let mut bytes = Vec::new();
    let mut message = |kind: u16, body: &[u8]| {
        bytes.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    message(kind::ERROR, &(-17i32).to_ne_bytes());
    let mut requests = Requests::with_capacity(1024);
    requests.new_sa(1, &sa());
    let mut expire = requests.bytes()[16..16 + USERSA_INFO_LEN].to_vec();
    expire.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    message(kind::EXPIRE, &expire);
    let mut mapping = vec![0; 64];
    mapping[16..20].copy_from_slice(&[1, 2, 3, 4]);
    mapping[20..22].copy_from_slice(&2u16.to_ne_bytes());
    mapping[44..48].copy_from_slice(&[198, 51, 100, 7]);
    mapping[62..64].copy_from_slice(&4501u16.to_be_bytes());
    message(kind::MAPPING, &mapping);
    let answers: Vec<Answer<'_>> = Answers(&bytes).collect();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0].errno(), Some(17));
    assert_eq!(
        answers[1].expire(),
        Some((sa().destination, sa().spi, true))
    );
    assert_eq!(
        answers[2].mapping(),
        Some((sa().spi, "198.51.100.7:4501".parse().unwrap()))
    );
    assert_eq!(answers[2].expire(), None);
}

#[test]
fn truncated_and_random_answers_are_no_panic() {
    let mut state = 1u64;
    for round in 0..20_000u32 {
        let mut bytes = vec![0u8; (round % 300) as usize];
        for byte in &mut bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        // A plausible length and type, so that the readers behind it are reached.
        if let Some(head) = bytes.get_mut(..6) {
            head[..4].copy_from_slice(&(round % 300).to_ne_bytes());
            let kinds = [
                kind::ERROR,
                kind::EXPIRE,
                kind::MAPPING,
                kind::NEW_SA,
                kind::NEW_POLICY,
            ];
            head[4..6].copy_from_slice(&kinds[(state >> 40) as usize % 5].to_ne_bytes());
        }
        for answer in Answers(&bytes) {
            let _ = (answer.errno(), answer.expire(), answer.mapping());
            let _ = (answer.sa(), answer.policy());
        }
    }
}
