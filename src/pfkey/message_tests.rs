use std::net::Ipv4Addr;

use super::*;
use crate::policy::IpNet;

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if at != 0 && at % 8 == 0 {
            text.push(' ');
        }
        text += &format!("{byte:02x}");
    }
    text
}

fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

fn sa() -> SaEntry<'static> {
    let transforms = [
        Transform {
            id: TransformId::Encr(EncrId::AES_CBC),
            key_length: Some(128),
        },
        Transform {
            id: TransformId::Integ(IntegId::HMAC_SHA1_96),
            key_length: None,
        },
    ];
    SaEntry {
        source: v4(1),
        destination: v4(2),
        spi: EspSpi::new(0x0102_0304).unwrap(),
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 5,
        algorithms: Algorithms::of(ProtocolId::ESP, &transforms).unwrap(),
        encr_key: &[0xee; 16],
        integ_key: &[0xaa; 20],
        encap: Some((4500, 4501)),
        soft: Duration::from_secs(9),
        hard: Duration::from_secs(10),
        bytes_soft: 0,
        bytes_hard: 0,
        replay_window: 64,
        mark: None,
        if_id: None,
        offload: None,
    }
}

#[cfg(target_endian = "little")]
#[test]
fn add_is_laid_out_as_rfc_2367_draws_it() {
    let request = Request::add(7, 8, &sa());
    let wanted = "020300031e000000 0700000008000000 \
                  0200010001020304 2001030c00000000 \
                  0200130002000000 0000000006000000 \
                  0300050000200000 02000000c0000201 0000000000000000 \
                  0300060000200000 02000000c0000202 0000000000000000 \
                  0400030000000000 0000000000000000 0a00000000000000 0000000000000000 \
                  0400040000000000 0000000000000000 0900000000000000 0000000000000000 \
                  04000800a0000000 aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa aaaaaaaa00000000 \
                  0300090080000000 eeeeeeeeeeeeeeee eeeeeeeeeeeeeeee \
                  0100140002000000 0100150011940000 0100160011950000";
    assert_eq!(hex(request.bytes()), wanted);
}

#[cfg(target_endian = "little")]
#[test]
fn policy_carries_selector_and_request() {
    let pair = SelectorPair {
        protocol: 0,
        local: IpNet {
            addr: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
            len: 16,
        },
        local_port: None,
        remote: IpNet {
            addr: IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9)),
            len: 32,
        },
        remote_port: Some(53),
        outward: false,
        if_id: None,
    };
    let template = Template {
        source: v4(1),
        destination: v4(2),
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 9,
        ipcomp: false,
    };
    let request = Request::update_policy(1, 2, Direction::Out, &pair, 3, &template);
    let wanted = "020d000010000000 0100000002000000 \
                  03000500ff100000 020000000a010000 0000000000000000 \
                  03000600ff200000 020000350a090909 0000000000000000 \
                  0800120002000200 0000000003000000 \
                  3000320002030000 0a00000000000000 \
                  02000000c0000201 0000000000000000 02000000c0000202 0000000000000000";
    assert_eq!(hex(request.bytes()), wanted);
    let request = Request::delete_policy(1, 2, Direction::Forward, &pair);
    let wanted = "020f00000a000000 0100000002000000 \
                  03000500ff200000 020000350a090909 0000000000000000 \
                  03000600ff100000 020000000a010000 0000000000000000 \
                  0200120002000300 0000000000000000";
    assert_eq!(hex(request.bytes()), wanted);
}

#[test]
fn lengths_always_match_the_datagram() {
    for (key, encap) in [(0, None), (1, Some((1, 2))), (33, None), (64, Some((3, 4)))] {
        let bytes = vec![1; key];
        let request = Request::add(
            1,
            1,
            &SaEntry {
                integ_key: &bytes,
                encap,
                ..sa()
            },
        );
        let answer = Answer::decode(request.bytes()).unwrap();
        assert_eq!((answer.kind, answer.seq, answer.pid), (kind::ADD, 1, 1));
        assert_eq!(answer.spi(), Some(sa().spi));
    }
    let v6 = SaEntry {
        destination: "2001:db8::2".parse().unwrap(),
        ..sa()
    };
    let request = Request::add(1, 1, &v6);
    let answer = Answer::decode(request.bytes()).unwrap();
    let address = answer.socket_address(extension::ADDRESS_DST).unwrap();
    assert_eq!(address.ip(), v6.destination);
}

#[test]
fn expiry_and_mapping_are_read() {
    // The kernel's EXPIRE has the fields of our ADD, but only the lifetime that it is about: the
    // other is hidden here as an extension of another number.
    let read = |message_kind: u8, hidden: u8| {
        let mut bytes = Request::add(0, 0, &sa()).bytes().to_vec();
        bytes[1] = message_kind;
        let at = bytes
            .windows(4)
            .position(|head| *head == [4, 0, hidden, 0])
            .unwrap();
        bytes[at + 2] = 2;
        bytes
    };
    let soft = read(kind::EXPIRE, 3);
    let hard = read(kind::EXPIRE, 4);
    assert_eq!(
        Answer::decode(&soft).unwrap().expire(),
        Some((v4(2), sa().spi, false))
    );
    assert_eq!(
        Answer::decode(&hard).unwrap().expire(),
        Some((v4(2), sa().spi, true))
    );
    let mapping = read(kind::NEW_MAPPING, 4);
    let mapping = Answer::decode(&mapping).unwrap();
    assert_eq!(
        mapping.mapping(),
        Some((sa().spi, SocketAddr::new(v4(2), 4501)))
    );
    assert_eq!(mapping.expire(), None);
}

#[test]
fn what_linux_cannot_do_over_pfkey_is_refused() {
    let t = |id| Transform {
        id,
        key_length: None,
    };
    let sha1 = t(TransformId::Integ(IntegId::HMAC_SHA1_96));
    let sha256 = t(TransformId::Integ(IntegId::HMAC_SHA2_256_128));
    let cbc = t(TransformId::Encr(EncrId::AES_CBC));
    let gcm = t(TransformId::Encr(EncrId::AES_GCM_16));
    let esn = t(TransformId::Esn(crate::wire::registry::EsnId::ESN));
    for list in [
        &[gcm][..],
        &[cbc, sha256],
        &[cbc, sha1, esn],
        &[cbc],
        &[sha1],
    ] {
        assert_eq!(Algorithms::of(ProtocolId::ESP, list), None, "{list:?}");
    }
    assert!(Algorithms::of(ProtocolId::AH, &[sha1]).is_some());
}

#[test]
fn truncated_and_random_answers_are_no_panic() {
    let whole = Request::add(1, 1, &sa());
    for cut in 0..whole.bytes().len() {
        assert!(Answer::decode(&whole.bytes()[..cut]).is_none());
    }
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut bytes = whole.bytes().to_vec();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = 6 + (state >> 33) as usize % (bytes.len() - 6);
            bytes[at] = (state >> 20) as u8;
        }
        for message_kind in [kind::EXPIRE, kind::NEW_MAPPING] {
            bytes[1] = message_kind;
            let answer = Answer::decode(&bytes).unwrap();
            let _ = (answer.expire(), answer.mapping());
        }
    }
}
