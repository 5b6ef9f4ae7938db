//! Ciphers as messages use them: AEADs against published tags, CBC against published blocks with a
//! checksum that the test itself adds. Whatever is changed or cut must be refused.

use iked::crypto::{Cipher, CryptoError, Integ, MessageKey, Provider, Rng};
use iked::sys::bssl::Cbc;

use super::provider;
use super::reader::{Vector, read};

const SALT: usize = 4;
const SEED: [u8; 32] = [7; 32];

#[test]
fn aeads_seal_to_the_published_bytes_and_open_them() {
    for vector in read("aead.txt").iter().filter(|vector| vector.is_valid()) {
        let (key, sealed, iv_at) = aead(vector);
        let plain = vector.bytes("plain");
        let iv = sealed[iv_at..iv_at + 8].try_into().unwrap();
        let mut message = [vector.bytes("aad"), vec![0; 8], plain.clone()].concat();
        let mut rng = Rng::from_seed(SEED);
        key.seal(&mut message, iv_at, u64::from_be_bytes(iv), &mut rng)
            .unwrap();
        assert_eq!(
            hex::encode(&message),
            hex::encode(&sealed),
            "{}",
            vector.place
        );
        let range = key.open(&mut message, iv_at).unwrap();
        assert_eq!(message[range], plain, "{}", vector.place);
        assert_eq!(message[..iv_at + 8], sealed[..iv_at + 8]);
    }
}

#[test]
fn aeads_refuse_what_is_published_as_forged() {
    let mut refused = 0;
    for vector in read("aead.txt").iter().filter(|vector| !vector.is_valid()) {
        let (key, mut sealed, iv_at) = aead(vector);
        let opened = key.open(&mut sealed, iv_at);
        assert_eq!(opened, Err(CryptoError::Integrity), "{}", vector.place);
        refused += 1;
    }
    assert!(refused > 50);
}

#[test]
fn aeads_refuse_every_changed_bit_and_every_cut() {
    for vector in read("aead.txt").iter().filter(|vector| vector.is_valid()) {
        let (key, sealed, iv_at) = aead(vector);
        refuses_changes(key.as_ref(), &sealed, iv_at, &vector.place);
    }
}

#[test]
fn aeads_take_keys_of_their_own_lengths_only_and_no_checksum_beside_them() {
    let provider = provider();
    let integ = provider.integs[0];
    for cipher in provider.ciphers.iter().filter(|cipher| cipher.is_aead()) {
        let lengths = key_lengths(*cipher);
        assert!(!lengths.is_empty());
        for len in 0..80 {
            let good = cipher.key(&vec![1; len], None).is_ok();
            assert_eq!(good, lengths.contains(&len), "{} {len}", cipher.id());
            let with = cipher.key(&vec![1; len], Some((integ, &vec![1; integ.key_len()])));
            assert!(with.is_err(), "{} {len}", cipher.id());
        }
    }
}

#[test]
fn cbc_opens_the_published_blocks_under_every_checksum() {
    let provider = provider();
    for vector in read("cbc.txt") {
        for integ in provider.integs {
            let (key, mut message, iv_at) = cbc(&provider, &vector, *integ);
            let range = key.open(&mut message, iv_at).unwrap();
            assert_eq!(message[range], vector.bytes("plain"), "{}", vector.place);
        }
    }
}

#[test]
fn cbc_seals_with_a_random_iv_to_what_the_plain_cipher_makes() {
    let provider = provider();
    for vector in read("cbc.txt") {
        let (iv, plain, cipher) = (
            vector.bytes("iv"),
            vector.bytes("plain"),
            vector.bytes("cipher"),
        );
        let algorithm = plain_cbc(&vector);
        let mut blocks = plain.clone();
        algorithm
            .run(true, &vector.bytes("key"), &iv, &mut blocks)
            .unwrap();
        assert_eq!(blocks, cipher, "{}", vector.place);
        for integ in provider.integs {
            let (key, published, iv_at) = cbc(&provider, &vector, *integ);
            let mut drawn = vec![0; iv.len()];
            Rng::from_seed(SEED).fill(&mut drawn);
            let mut blocks = plain.clone();
            algorithm
                .run(true, &vector.bytes("key"), &drawn, &mut blocks)
                .unwrap();
            let mut expected = [&published[..iv_at], &drawn, &blocks].concat();
            append_icv(&provider, *integ, &mut expected);
            let mut message = [&published[..iv_at], &vec![0; iv.len()], &plain].concat();
            key.seal(&mut message, iv_at, 0, &mut Rng::from_seed(SEED))
                .unwrap();
            assert_eq!(message, expected, "{} {}", vector.place, integ.id());
        }
    }
}

#[test]
fn cbc_refuses_every_changed_bit_and_every_cut() {
    let provider = provider();
    for vector in read("cbc.txt") {
        for integ in provider.integs {
            let (key, message, iv_at) = cbc(&provider, &vector, *integ);
            refuses_changes(key.as_ref(), &message, iv_at, &vector.place);
        }
    }
}

#[test]
fn cbc_refuses_no_blocks_and_broken_blocks_even_with_a_right_checksum() {
    let provider = provider();
    for vector in read("cbc.txt") {
        for integ in provider.integs {
            let (key, message, iv_at) = cbc(&provider, &vector, *integ);
            let end = message.len() - integ.icv_len();
            let block = key.block_len();
            for end in [
                iv_at + block,
                iv_at + 2 * block - 1,
                end - 1,
                end - block + 1,
            ] {
                let mut cut = message[..end].to_vec();
                append_icv(&provider, *integ, &mut cut);
                let opened = key.open(&mut cut, iv_at);
                assert_eq!(
                    opened,
                    Err(CryptoError::Integrity),
                    "{} {end}",
                    vector.place
                );
            }
        }
    }
}

#[test]
fn cbc_takes_keys_of_its_own_lengths_only_and_wants_a_checksum() {
    let provider = provider();
    for cipher in provider.ciphers.iter().filter(|cipher| !cipher.is_aead()) {
        let lengths = key_lengths(*cipher);
        assert!(!lengths.is_empty());
        for integ in provider.integs {
            let integ_key = vec![1; integ.key_len()];
            for len in 0..40 {
                let key = vec![1; len];
                assert!(cipher.key(&key, None).is_err());
                let good = cipher.key(&key, Some((*integ, &integ_key))).is_ok();
                assert_eq!(good, lengths.contains(&len), "{} {len}", cipher.id());
                let short = &integ_key[1..];
                assert!(cipher.key(&key, Some((*integ, short))).is_err());
            }
        }
    }
}

/// The key, the sealed message, and where its IV stands.
fn aead(vector: &Vector) -> (Box<dyn MessageKey>, Vec<u8>, usize) {
    let (aad, nonce) = (vector.bytes("aad"), vector.array::<12>("nonce"));
    let material = [&vector.bytes("key"), &nonce[..SALT]].concat();
    let key = cipher(vector).key(&material, None).unwrap();
    let sealed = [
        &aad,
        &nonce[SALT..],
        &vector.bytes("cipher"),
        &vector.bytes("tag"),
    ]
    .concat();
    assert_eq!(key.icv_len(), vector.bytes("tag").len());
    assert_eq!((key.iv_len(), key.block_len()), (8, 1));
    (key, sealed, aad.len())
}

/// The same with a header in front and a checksum behind.
fn cbc(
    provider: &Provider,
    vector: &Vector,
    integ: &'static dyn Integ,
) -> (Box<dyn MessageKey>, Vec<u8>, usize) {
    let header: Vec<u8> = (0..32).collect();
    let key = cipher(vector)
        .key(
            &vector.bytes("key"),
            Some((integ, &integ_key(integ.key_len()))),
        )
        .unwrap();
    assert_eq!(key.iv_len(), key.block_len());
    assert_eq!(key.icv_len(), integ.icv_len());
    let mut message = [
        header.as_slice(),
        &vector.bytes("iv"),
        &vector.bytes("cipher"),
    ]
    .concat();
    append_icv(provider, integ, &mut message);
    (key, message, header.len())
}

/// The checksum is the PRF with the same hash, cut off.
fn append_icv(provider: &Provider, integ: &dyn Integ, message: &mut Vec<u8>) {
    let name = integ.id().to_string();
    let prf = provider
        .prfs
        .iter()
        .find(|prf| name.starts_with(&format!("{}_", prf.id())))
        .unwrap();
    let mut icv = vec![0; prf.output_len()];
    prf.compute(&integ_key(integ.key_len()), &[message], &mut icv);
    message.extend_from_slice(&icv[..integ.icv_len()]);
}

fn integ_key(len: usize) -> Vec<u8> {
    (0x40..).take(len).collect()
}

fn cipher(vector: &Vector) -> &'static dyn Cipher {
    let name = vector.text("algorithm");
    let mut ciphers = provider().ciphers.iter().copied();
    ciphers
        .find(|cipher| cipher.id().to_string() == name)
        .unwrap_or_else(|| panic!("{}: no cipher {name}", vector.place))
}

fn plain_cbc(vector: &Vector) -> Cbc {
    match (vector.text("algorithm"), vector.bytes("key").len()) {
        ("3DES", 24) => Cbc::Des3,
        ("AES_CBC", 16) => Cbc::Aes128,
        ("AES_CBC", 24) => Cbc::Aes192,
        ("AES_CBC", 32) => Cbc::Aes256,
        other => panic!("{}: {other:?}", vector.place),
    }
}

/// The lengths of key material that some Key Length attribute stands for.
fn key_lengths(cipher: &dyn Cipher) -> Vec<usize> {
    let attributes = (0..=512).map(Some).chain([None]);
    attributes
        .filter_map(|attribute| cipher.key_material_len(attribute))
        .collect()
}

fn refuses_changes(key: &dyn MessageKey, message: &[u8], iv_at: usize, place: &str) {
    assert!(key.open(&mut message.to_vec(), iv_at).is_ok(), "{place}");
    for at in 0..message.len() {
        let mut changed = message.to_vec();
        changed[at] ^= 1 << (at % 8);
        let opened = key.open(&mut changed, iv_at);
        assert_eq!(opened, Err(CryptoError::Integrity), "{place}: byte {at}");
    }
    for len in 0..message.len() {
        let opened = key.open(&mut message[..len].to_vec(), iv_at);
        assert_eq!(opened, Err(CryptoError::Integrity), "{place}: cut at {len}");
    }
}
