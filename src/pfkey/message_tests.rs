use std::net::Ipv4Addr;
use std::time::Duration;

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

fn pair() -> SelectorPair {
    SelectorPair {
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
    }
}

fn template() -> Template {
    Template {
        source: v4(1),
        destination: v4(2),
        protocol: IpProtocol::Esp,
        transport: false,
        reqid: 9,
        ipcomp: false,
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
                  040003004b49ffff 0000000000000000 0a00000000000000 0000000000000000 \
                  04000400000000f0 0000000000000000 0900000000000000 0000000000000000 \
                  04000800a0000000 aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa aaaaaaaa00000000 \
                  0300090080000000 eeeeeeeeeeeeeeee eeeeeeeeeeeeeeee \
                  0100140002000000 0100150011940000 0100160011950000";
    assert_eq!(hex(request.bytes()), wanted);
}

#[cfg(target_endian = "little")]
#[test]
fn policy_carries_selector_and_request() {
    let (pair, template) = (pair(), template());
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

/// Our ADD as `SADB_DUMP` tells it, in this state.
fn dumped(sa: &SaEntry<'_>, sa_state: u8) -> Vec<u8> {
    let mut bytes = Request::add(0, 0, sa).bytes().to_vec();
    bytes[1] = kind::DUMP;
    bytes[16 + 9] = sa_state;
    bytes
}

/// Puts these bytes in the place of others of the same number.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|part| part == old);
    let at = at.unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn our_sas_are_known_again_in_a_dump_and_those_of_others_are_not_ours() {
    let listed = |bytes: &[u8]| Answer::decode(bytes).unwrap().listed_sa();
    let mature = dumped(&sa(), state::MATURE);
    let ours = ListedSa {
        source: v4(1),
        destination: v4(2),
        spi: sa().spi,
        protocol: IpProtocol::Esp,
        is_ours: true,
        is_aged: false,
    };
    assert_eq!(listed(&mature), Some(ours));
    let dying = dumped(&sa(), state::DYING);
    assert!(listed(&dying).unwrap().is_aged);
    // Without limits of time or bytes as well.
    let endless = SaEntry {
        soft: Duration::ZERO,
        hard: Duration::ZERO,
        protocol: IpProtocol::Comp,
        ..sa()
    };
    let endless = listed(&dumped(&endless, state::MATURE)).unwrap();
    assert!(endless.is_ours && endless.protocol == IpProtocol::Comp);
    let hard = kernel::PACKETS_HARD.to_ne_bytes();
    let soft = kernel::PACKETS_SOFT.to_ne_bytes();
    for limit in [hard, soft] {
        let other = replaced(&mature, &limit, &[0; 4]);
        assert!(!listed(&other).unwrap().is_ours);
    }
    // Of an earlier life with NETLINK_XFRM, which gives reqids their tag.
    let other = replaced(&mature, &hard, &[0; 4]);
    let tagged = (kernel::REQID_TAG + 7).to_ne_bytes();
    let tagged = replaced(&other, &6u32.to_ne_bytes(), &tagged);
    assert!(listed(&tagged).unwrap().is_ours);
    // Neither what waits nor what has expired is an SA that carries packets.
    assert_eq!(listed(&dumped(&sa(), state::LARVAL)), None);
    assert_eq!(listed(&dumped(&sa(), 3)), None);
    let larva = |bytes: &[u8]| Answer::decode(bytes).unwrap().larva();
    assert_eq!(larva(&dumped(&sa(), state::LARVAL)), Some(6));
    assert_eq!(larva(&mature), None);
}

#[test]
fn our_policies_are_known_again_in_a_dump_and_deleted_by_their_number() {
    let listed = |priority: u32, reqid: u32| {
        let request = Request::update_policy(1, 2, Direction::Out, &pair(), priority, &template());
        let bytes = replaced(request.bytes(), &10u32.to_ne_bytes(), &reqid.to_ne_bytes());
        let mut bytes = replaced(
            &bytes,
            &[2, 0, 2, 0, 0, 0, 0, 0],
            &[2, 0, 2, 0, 0x91, 0, 0, 0],
        );
        bytes[1] = kind::SPD_DUMP;
        Answer::decode(&bytes).unwrap().listed_policy().unwrap()
    };
    let ours = listed(kernel::PRIORITY_TAG + pair().priority(), 10);
    let wanted = ListedPolicy {
        id: 0x91,
        direction: 2,
        is_ours: true,
    };
    assert_eq!(ours, wanted);
    assert!(listed(pair().priority(), kernel::TRAP_TAG + 1).is_ours);
    assert!(!listed(pair().priority(), 10).is_ours);
    assert!(!listed(0, 7).is_ours && !listed(u32::MAX, 0).is_ours);
    let request = Request::delete_listed_policy(3, 4, ours);
    let wanted = "0216000004000000 0300000004000000 0200120002000200 9100000000000000";
    #[cfg(target_endian = "little")]
    assert_eq!(hex(request.bytes()), wanted);
    let request = Request::list(kind::SPD_DUMP, 5, 6);
    assert_eq!(request.bytes().len(), 16);
}

#[test]
fn short_reqids_of_traps_are_no_child_sa_s() {
    for number in (0..0x0100_0000u32).step_by(641) {
        let child = short_reqid(kernel::REQID_TAG | number);
        let trap = short_reqid(kernel::TRAP_TAG | number);
        assert!((1..0x2000).contains(&child), "{number}: {child}");
        assert!((0x2000..0x4000).contains(&trap), "{number}: {trap}");
    }
    assert_eq!(short_reqid(0), 0);
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
