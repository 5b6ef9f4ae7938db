//! HMAC as PRF and as integrity algorithm, and the bare hash functions of the Provider.

use iked::crypto::{CryptoError, Integ, Prf};
use iked::sys::bssl::{Hash, HmacKey};

use super::provider;
use super::reader::{Vector, read};

#[test]
fn prfs_give_the_published_output_however_the_input_is_cut() {
    for vector in read("hmac.txt") {
        let prf = prf(&vector);
        let (key, data, mac) = (
            vector.bytes("key"),
            vector.bytes("data"),
            vector.bytes("mac"),
        );
        let mut out = vec![0; prf.output_len()];
        prf.compute(&key, &[&data], &mut out);
        assert_eq!(out == mac, vector.is_valid(), "{}", vector.place);
        let whole = out;
        for at in 0..=data.len() {
            let (head, tail) = data.split_at(at);
            let mut out = vec![0; prf.output_len()];
            prf.compute(&key, &[head, &[], tail], &mut out);
            assert_eq!(out, whole, "{} cut at {at}", vector.place);
        }
        let mut short = vec![0; prf.output_len() - 1];
        prf.compute(&key, &[&data], &mut short);
        assert_eq!(short, whole[..short.len()]);
    }
}

#[test]
fn prf_plus_chains_the_prf_and_ends_after_255_blocks() {
    for prf in provider().prfs {
        let (key, parts) = (b"key of the prf", [b"seed ".as_slice(), b"in parts"]);
        let block = prf.output_len();
        let mut expected: Vec<u8> = Vec::new();
        for number in 1..=255 {
            let before = expected.len().saturating_sub(block);
            let mut next = vec![0; block];
            let input = [&expected[before..], parts[0], parts[1], &[number]];
            prf.compute(key, &input, &mut next);
            expected.extend(next);
        }
        for len in [
            0,
            1,
            block - 1,
            block,
            block + 1,
            3 * block + 5,
            255 * block,
        ] {
            let mut out = vec![0; len];
            prf.plus(key, &parts, &mut out).unwrap();
            assert_eq!(out, expected[..len], "{} {len}", prf.id());
        }
        let mut out = vec![0; 255 * block + 1];
        let plus = prf.plus(key, &parts, &mut out);
        assert_eq!(plus, Err(CryptoError::KeyLength), "{}", prf.id());
    }
}

#[test]
fn integrity_algorithms_give_the_published_checksums() {
    for vector in read("integ.txt") {
        let integ = integ(&vector);
        let (key, mac) = (vector.bytes("key"), vector.bytes("mac"));
        assert_eq!(key.len(), integ.key_len(), "{}", vector.place);
        assert_eq!(mac.len(), integ.icv_len(), "{}", vector.place);
        let mut out = vec![0; integ.icv_len()];
        let hmac = HmacKey::new(hash(&vector), &key).unwrap();
        let data = vector.bytes("data");
        hmac.compute([data.as_slice()], &mut out).unwrap();
        assert_eq!(out == mac, vector.is_valid(), "{}", vector.place);
    }
}

/// The published data is taken for a message whose last 16 bytes are IV and ciphertext of 3DES.
#[test]
fn messages_pass_with_the_published_checksum_and_no_other() {
    let provider = provider();
    let des = provider
        .ciphers
        .iter()
        .find(|cipher| cipher.id().to_string() == "3DES")
        .unwrap();
    for integ in provider.integs {
        let (mut passed, mut refused) = (0, 0);
        for vector in of(*integ) {
            let (data, mac) = (vector.bytes("data"), vector.bytes("mac"));
            let Some(iv_at) = data.len().checked_sub(16) else {
                continue;
            };
            let key = vector.bytes("key");
            let key = des.key(&[1; 24], Some((*integ, &key))).unwrap();
            let message = [data, mac].concat();
            let opened = key.open(&mut message.clone(), iv_at);
            if vector.is_valid() {
                assert_eq!(opened, Ok(iv_at + 8..iv_at + 16), "{}", vector.place);
                passed += 1;
            } else {
                assert_eq!(opened, Err(CryptoError::Integrity), "{}", vector.place);
                continue;
            }
            for bit in 0..8 * message.len() {
                let mut changed = message.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(key.open(&mut changed, iv_at).is_err(), "{}", vector.place);
                refused += 1;
            }
        }
        assert!(passed > 0 && refused > 0, "{}: nothing tried", integ.id());
    }
}

#[test]
fn sha1_gives_the_published_digests() {
    let provider = provider();
    // FIPS 180-2, appendix A, and the empty message.
    let long = vec![b'a'; 1_000_000];
    let cases: [(&[&[u8]], &str); 5] = [
        (&[], "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (&[b"abc"], "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            &[b"a", b"", b"bc"],
            "a9993e364706816aba3e25717850c26c9cd0d89d",
        ),
        (
            &[b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"],
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        ),
        (&[&long], "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
    ];
    for (parts, digest) in cases {
        assert_eq!(hex::encode((provider.sha1)(parts)), digest);
    }
}

#[test]
fn the_hash_of_cookies_is_sha256() {
    let provider = provider();
    let long = vec![b'a'; 1_000_000];
    let cases: [(&[&[u8]], &str); 4] = [
        (
            &[],
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            &[b"a", b"", b"bc"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            &[
                b"abcdbcdecdefdefgefghfghighij",
                b"hijkijkljklmklmnlmnomnopnopq",
            ],
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            &[&long],
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
    ];
    for (parts, digest) in cases {
        assert_eq!(hex::encode((provider.sha256)(parts)), digest);
    }
}

#[test]
fn equality_sees_every_bit_and_every_length() {
    let equal = provider().equal;
    let bytes: Vec<u8> = (0..64).collect();
    assert!(equal(&bytes, &bytes.clone()));
    assert!(equal(&[], &[]));
    for bit in 0..8 * bytes.len() {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!equal(&bytes, &changed));
    }
    assert!(!equal(&bytes, &bytes[1..]));
    assert!(!equal(&bytes[..63], &bytes));
    assert!(!equal(&bytes, &[]));
}

fn prf(vector: &Vector) -> &'static dyn Prf {
    let name = vector.text("algorithm");
    let mut prfs = provider().prfs.iter().copied();
    prfs.find(|prf| prf.id().to_string() == name)
        .unwrap_or_else(|| panic!("{}: no PRF {name}", vector.place))
}

fn integ(vector: &Vector) -> &'static dyn Integ {
    let name = vector.text("algorithm");
    let mut integs = provider().integs.iter().copied();
    integs
        .find(|integ| integ.id().to_string() == name)
        .unwrap_or_else(|| panic!("{}: no algorithm {name}", vector.place))
}

fn of(integ: &dyn Integ) -> Vec<Vector> {
    let name = integ.id().to_string();
    let mut vectors = read("integ.txt");
    vectors.retain(|vector| vector.text("algorithm") == name);
    vectors
}

fn hash(vector: &Vector) -> Hash {
    match vector.text("algorithm") {
        "HMAC_MD5_96" => Hash::Md5,
        "HMAC_SHA1_96" => Hash::Sha1,
        "HMAC_SHA2_256_128" => Hash::Sha256,
        "HMAC_SHA2_384_192" => Hash::Sha384,
        "HMAC_SHA2_512_256" => Hash::Sha512,
        other => panic!("{}: {other}", vector.place),
    }
}
