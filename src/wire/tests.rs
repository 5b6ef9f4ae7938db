//! Unit tests of the wire room: what must be refused, and framing with a transparent key.

use std::ops::Range;

use super::registry::{ExchangeType, KeId, NotifyType, PayloadType, ProtocolId};
use super::sk::{self, SkFailure, SkKey};
use super::spi::IkeSpi;
use super::*;

fn header() -> Header {
    Header {
        initiator_spi: IkeSpi::new(0x0102_0304_0506_0708),
        responder_spi: None,
        next_payload: PayloadType::NONE,
        major: 2,
        minor: 0,
        exchange: ExchangeType::IKE_SA_INIT,
        flags: Flags {
            initiator: true,
            version: false,
            response: false,
        },
        message_id: 0,
        length: 0,
    }
}

fn message(payloads: &[Payload<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_message(&header(), payloads, &mut out);
    out
}

fn kind_of(bytes: &[u8]) -> DecodeErrorKind {
    Message::decode(bytes).unwrap_err().kind
}

const NONCE: Payload<'_> = Payload::Nonce(&[7; 32]);

#[test]
fn a_message_survives_encoding_and_decoding() {
    let ke = Payload::Ke(Ke {
        method: KeId::CURVE25519,
        data: &[9; 32],
    });
    let notify = Payload::Notify(Notify {
        protocol: ProtocolId::NONE,
        spi: &[],
        kind: NotifyType::COOKIE,
        data: &[1, 2, 3],
    });
    let payloads = vec![notify, ke, NONCE];
    let bytes = message(&payloads);
    let decoded = Message::decode(&bytes).unwrap();
    assert_eq!(decoded.payloads, payloads);
    assert_eq!(decoded.header.length as usize, bytes.len());
    assert_eq!(decoded.header.next_payload, PayloadType::NOTIFY);
}

#[test]
fn lengths_that_lie_are_refused() {
    let good = message(&[NONCE]);
    let mut long = good.clone();
    long.push(0);
    assert_eq!(kind_of(&long), DecodeErrorKind::Length);
    assert_eq!(kind_of(&good[..good.len() - 1]), DecodeErrorKind::Length);
    assert_eq!(kind_of(&good[..27]), DecodeErrorKind::Truncated);
    // Payload length 3: shorter than its own header.
    let mut short = good.clone();
    short[30..32].copy_from_slice(&[0, 3]);
    assert_eq!(kind_of(&short), DecodeErrorKind::Length);
    // Payload length beyond the datagram.
    let mut beyond = good;
    beyond[30..32].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(kind_of(&beyond), DecodeErrorKind::Length);
}

#[test]
fn other_major_versions_are_named() {
    let mut bytes = message(&[NONCE]);
    bytes[17] = 0x30;
    assert_eq!(kind_of(&bytes), DecodeErrorKind::Version(3));
    bytes[17] = 0x2f;
    assert!(
        Message::decode(&bytes).is_ok(),
        "minor versions are ignored"
    );
}

#[test]
fn an_unknown_payload_is_kept_unless_it_is_critical() {
    let unknown = Payload::Unknown(UnknownPayload {
        kind: PayloadType(200),
        body: &[1],
    });
    let mut bytes = message(&[unknown, NONCE]);
    assert_eq!(Message::decode(&bytes).unwrap().payloads.len(), 2);
    bytes[29] |= 0x80;
    assert_eq!(
        kind_of(&bytes),
        DecodeErrorKind::UnknownCritical(PayloadType(200))
    );
    let mut known = message(&[NONCE]);
    known[29] |= 0x80;
    assert!(
        Message::decode(&known).is_ok(),
        "the critical bit of a known payload is ignored"
    );
}

#[test]
fn nonces_are_16_to_256_bytes() {
    for (len, good) in [(15, false), (16, true), (256, true), (257, false)] {
        let nonce = vec![1; len];
        assert_eq!(
            Message::decode(&message(&[Payload::Nonce(&nonce)])).is_ok(),
            good,
            "{len}"
        );
    }
}

#[test]
fn whoever_is_sent_a_cookie_has_sent_more() {
    // As many zeros as bodies of SA and KE, and as a nonce.
    let request = |sa: usize, ke: usize, nonce: usize| {
        let lens = [(0x21, sa), (0x22, ke), (0x28, nonce)];
        let mut bytes = message(&[]);
        bytes[16] = lens[0].0;
        for (index, (_, len)) in lens.iter().enumerate() {
            let next = lens.get(index + 1).map_or(0, |(kind, _)| *kind);
            bytes.extend([next, 0, 0, 4 + *len as u8]);
            bytes.resize(bytes.len() + len, 0);
        }
        let length = bytes.len() as u8;
        bytes[27] = length;
        bytes
    };
    let shortest = request(8, 4, 16);
    assert_eq!(nonce_without_cookie(&shortest), Some(&[0; 16][..]));
    // Header, Notify and the 21 bytes of a cookie of ours.
    assert!(shortest.len() > 28 + 8 + 21);
    for (sa, ke, nonce) in [(7, 4, 16), (8, 3, 16), (8, 4, 15), (0, 0, 16)] {
        assert_eq!(nonce_without_cookie(&request(sa, ke, nonce)), None);
    }
}

#[test]
fn more_payloads_than_the_limit_are_refused() {
    let many = vec![Payload::VendorId(&[]); 129];
    assert_eq!(kind_of(&message(&many)), DecodeErrorKind::TooMany);
    assert!(Message::decode(&message(&many[..128])).is_ok());
}

#[test]
fn a_delete_must_hold_as_many_spis_as_it_says() {
    let delete = Payload::Delete(Delete {
        protocol: ProtocolId::ESP,
        spi_size: 4,
        spis: &[1, 2, 3, 4, 5, 6, 7, 8],
    });
    let good = message(&[delete]);
    let decoded = Message::decode(&good).unwrap();
    let [Payload::Delete(delete)] = decoded.payloads.as_slice() else {
        panic!("{decoded:?}")
    };
    assert_eq!(delete.count(), 2);
    assert_eq!(delete.esp_spis().count(), 2);
    let mut bad = good.clone();
    bad[35] = 3;
    assert_eq!(kind_of(&bad), DecodeErrorKind::Length);
}

/// Shifts every byte by one, and sums them up as checksum.
struct Shift {
    block_len: usize,
}

impl SkKey for Shift {
    fn iv_len(&self) -> usize {
        8
    }

    fn block_len(&self) -> usize {
        self.block_len
    }

    fn icv_len(&self) -> usize {
        1
    }

    fn seal(&mut self, message: &mut Vec<u8>, iv_at: usize) -> Result<(), SkFailure> {
        for byte in &mut message[iv_at + 8..] {
            *byte = byte.wrapping_add(1);
        }
        let sum = message
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        message.push(sum);
        Ok(())
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, SkFailure> {
        let (sum, rest) = message.split_last_mut().ok_or(SkFailure)?;
        if rest.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != *sum {
            return Err(SkFailure);
        }
        for byte in rest.get_mut(iv_at + 8..).ok_or(SkFailure)? {
            *byte = byte.wrapping_sub(1);
        }
        Ok(iv_at + 8..message.len() - 1)
    }
}

#[test]
fn a_sealed_message_opens_to_the_same_payloads() {
    for block_len in [1, 8, 16] {
        let mut key = Shift { block_len };
        let mut bytes = Vec::new();
        sk::seal_message(&header(), &[NONCE], &mut key, &mut bytes).unwrap();
        let (first, at) = {
            let message = Message::decode(&bytes).unwrap();
            let [Payload::Sk(sk)] = message.payloads.as_slice() else {
                panic!("{message:?}")
            };
            (sk.first_inner, sk.body_at)
        };
        let range = sk::open_sk(&mut bytes, at, &key).unwrap();
        assert_eq!(decode_payloads(first, &bytes[range]).unwrap(), [NONCE]);
    }
}

#[test]
fn fragments_fit_the_limit_and_join_to_the_whole() {
    let data = vec![5; 3000];
    let inner = [Payload::VendorId(&data), NONCE];
    for block_len in [1, 16] {
        let mut key = Shift { block_len };
        let mut datagrams = Vec::new();
        sk::seal_fragments(&header(), &inner, &mut key, 500, &mut datagrams).unwrap();
        assert!(datagrams.len() > 6);
        let mut whole = Vec::new();
        for (index, bytes) in datagrams.iter_mut().enumerate() {
            assert!(bytes.len() <= 500);
            let at = {
                let message = Message::decode(bytes).unwrap();
                let [Payload::Skf(skf)] = message.payloads.as_slice() else {
                    panic!()
                };
                assert_eq!(usize::from(skf.number), index + 1);
                let first = if index == 0 {
                    PayloadType::VENDOR_ID
                } else {
                    PayloadType::NONE
                };
                assert_eq!(skf.first_inner, first);
                skf.body_at
            };
            let range = sk::open_sk(bytes, at, &key).unwrap();
            whole.extend_from_slice(&bytes[range]);
        }
        assert_eq!(
            decode_payloads(PayloadType::VENDOR_ID, &whole).unwrap(),
            inner
        );
    }
}

#[test]
fn what_does_not_fit_one_sk_payload_is_an_error_and_not_a_lie() {
    let data = vec![5; 33_000];
    let inner = [Payload::VendorId(&data), Payload::VendorId(&data)];
    let mut key = Shift { block_len: 1 };
    assert_eq!(
        sk::seal_message(&header(), &inner, &mut key, &mut Vec::new()),
        Err(SkFailure)
    );
    let mut datagrams = Vec::new();
    sk::seal_fragments(&header(), &inner, &mut key, 1280, &mut datagrams).unwrap();
    assert!(datagrams.len() > 51);
}

#[test]
fn a_pad_length_beyond_the_plaintext_is_refused() {
    let mut key = Shift { block_len: 1 };
    let mut bytes = Vec::new();
    sk::seal_message(&header(), &[], &mut key, &mut bytes).unwrap();
    // The only plaintext byte is the pad length: make it 5 and repair the sum.
    let last = bytes.len() - 2;
    bytes[last] = bytes[last].wrapping_add(5);
    bytes[last + 1] = bytes[last + 1].wrapping_add(5);
    assert_eq!(sk::open_sk(&mut bytes, 32, &key), Err(SkFailure));
}

#[test]
fn an_sk_payload_inside_of_one_is_refused() {
    let inner = [0, 0, 0, 4];
    assert!(decode_payloads(PayloadType::SK, &inner).is_err());
}
