//! What the algorithms cost as the handshake calls them, through `crypto::Provider`, and BoringSSL's
//! primitive alone in the same run: the ratio is what our layer adds.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts the time that is made by hand"
)]

use std::hint::black_box;

use boring::aead::{AeadCtx, Algorithm};
use boring::ec::{EcGroup, EcKey};
use boring::hash::{hmac_sha1, hmac_sha256, hmac_sha512};
use boring::nid::Nid;
use boring::pkey::{PKey, Private};
use boring::rsa::Rsa;
use boring::symm::{Cipher, Crypter, Mode};
use iked::crypto::sign::PrivateKey;
use iked::crypto::{MessageKey, Provider, Rng, boring as ours};
use iked::wire::registry::{EncrId, HashAlgorithm, IntegId, KeId, PrfId};

mod support;

use support::floor::{self, Step};
use support::{Wanted, hosts, paired_row, take_turns};

fn main() {
    let wanted = Wanted::from_command_line();
    support::head("crypto", &["primitive", "time", "floor", "ratio"]);
    let provider = ours::provider();
    key_exchanges(&wanted, provider);
    macs(&wanted, provider);
    ciphers(&wanted, provider);
    signatures(&wanted);
}

/// A row for ours and the bare primitive.
fn compare(wanted: &Wanted, name: &str, ours: impl FnMut(), floor: impl FnMut()) {
    if wanted.has(name) {
        paired_row(name, &take_turns(wanted, ours, floor));
    }
}

fn key_exchanges(wanted: &Wanted, provider: Provider) {
    for (name, method) in [
        ("x25519", KeId::CURVE25519),
        ("ecp256", KeId::ECP_256),
        ("ecp384", KeId::ECP_384),
        ("ecp521", KeId::ECP_521),
        ("modp2048", KeId::MODP_2048),
    ] {
        let exchange = provider.key_exchange(method).unwrap();
        let mut rng = Rng::from_seed([1; 32]);
        let start = || {
            black_box(exchange.start(&mut rng).unwrap());
        };
        let bare = floor::key_pair(method);
        compare(wanted, &format!("{name} key pair"), start, bare);
        // A key pair serves one exchange: both jobs draw it, and the row says so.
        let mut rng = Rng::from_seed([2; 32]);
        let peer = exchange.start(&mut rng).unwrap().public().to_vec();
        let whole = || {
            let pair = exchange.start(&mut rng).unwrap();
            exchange.check_public(&peer).unwrap();
            black_box(pair.complete(black_box(&peer)).unwrap());
        };
        let mut bare = [floor::key_pair(method), floor::shared_secret(method)];
        let bare = || bare.iter_mut().for_each(|step| step());
        compare(
            wanted,
            &format!("{name} key pair and shared secret"),
            whole,
            bare,
        );
    }
}

fn macs(wanted: &Wanted, provider: Provider) {
    type Bare = fn(&[u8], &[u8]);
    let one_call: [(&str, PrfId, Bare); 3] = [
        ("HMAC-SHA2-256", PrfId::HMAC_SHA2_256, |key, data| {
            black_box(hmac_sha256(key, data).unwrap());
        }),
        ("HMAC-SHA2-512", PrfId::HMAC_SHA2_512, |key, data| {
            black_box(hmac_sha512(key, data).unwrap());
        }),
        ("HMAC-SHA1", PrfId::HMAC_SHA1, |key, data| {
            black_box(hmac_sha1(key, data).unwrap());
        }),
    ];
    for (name, id, bare) in one_call {
        let prf = provider.prf(id).unwrap();
        for len in [64, 300] {
            let (key, data) = (vec![1; prf.output_len()], vec![2; len]);
            let mut out = vec![0; prf.output_len()];
            let compute = || prf.compute(black_box(&key), &[&data], &mut out);
            let bare = || bare(black_box(&key), &data);
            compare(wanted, &format!("{name}, {len} B"), compute, bare);
        }
    }
    // The keys of an IKE SA with AES-128-GCM: five blocks.
    let prf = provider.prf(PrfId::HMAC_SHA2_256).unwrap();
    let (key, nonces, spis) = ([1; 32], [2; 64], [3; 16]);
    let mut out = [0; 136];
    let plus = || {
        prf.plus(black_box(&key), &[&nonces, &spis], &mut out)
            .unwrap()
    };
    let mut bare: Vec<Step> = (0..5).map(|_| floor::hmac(32, 32 + 64 + 16 + 1)).collect();
    let bare = || bare.iter_mut().for_each(|step| step());
    compare(wanted, "prf+ of HMAC-SHA2-256, 136 B", plus, bare);
}

fn ciphers(wanted: &Wanted, provider: Provider) {
    let aead = |id, material: usize| {
        let cipher = provider.cipher(id).unwrap();
        cipher.key(&vec![4; material], None).unwrap()
    };
    let name = "AES-128-GCM key";
    let ready = || drop(black_box(aead(EncrId::AES_GCM_16, 20)));
    compare(wanted, name, ready, floor::aead_key());
    for (name, key, algorithm, key_len) in [
        (
            "AES-128-GCM",
            aead(EncrId::AES_GCM_16, 20),
            Algorithm::aes_128_gcm(),
            16,
        ),
        (
            "AES-256-GCM",
            aead(EncrId::AES_GCM_16, 36),
            Algorithm::aes_256_gcm(),
            32,
        ),
        (
            "ChaCha20-Poly1305",
            aead(EncrId::CHACHA20_POLY1305, 36),
            Algorithm::chacha20_poly1305(),
            32,
        ),
    ] {
        let bare = AeadCtx::new(&algorithm, &vec![4; key_len], 16).unwrap();
        aead_rows(wanted, name, key.as_ref(), bare);
    }
    let cipher = provider.cipher(EncrId::AES_CBC).unwrap();
    let integ = provider.integ(IntegId::HMAC_SHA2_256_128).unwrap();
    let key = cipher.key(&[4; 32], Some((integ, &[5; 32]))).unwrap();
    cbc_rows(wanted, key.as_ref());
}

fn aead_rows(wanted: &Wanted, name: &str, key: &dyn MessageKey, mut bare: AeadCtx) {
    let (mut data, mut tag) = (vec![5; PLAINTEXT], [0; 16]);
    let seal = || {
        let sealed = bare.seal_in_place_mut(&[6; 12], &mut data, &mut tag, &[7; IV_AT]);
        black_box(sealed.unwrap());
    };
    compare(wanted, &format!("{name} seal, 304 B"), sealer(key), seal);
    let sealed = data.clone();
    let done = bare.seal_in_place_mut(&[6; 12], &mut data, &mut tag, &[7; IV_AT]);
    done.unwrap();
    let sealed = std::mem::replace(&mut data, sealed);
    let open = || {
        data.copy_from_slice(&sealed);
        let opened = bare.open_in_place_mut(&[6; 12], &mut data, &tag, &[7; IV_AT]);
        opened.unwrap();
    };
    compare(wanted, &format!("{name} open, 304 B"), opener(key), open);
}

fn cbc_rows(wanted: &Wanted, key: &dyn MessageKey) {
    let name = "AES-256-CBC with HMAC-SHA2-256";
    let length = IV_AT + key.iv_len() + PLAINTEXT;
    let (data, mut out) = (vec![5; length], vec![0; length + 32]);
    let mut bare = |mode| {
        let mut crypter = Crypter::new(Cipher::aes_256_cbc(), mode, &[4; 32], Some(&[6; 16]));
        let crypter = crypter.as_mut().unwrap();
        crypter.pad(false);
        crypter.update(&data[..PLAINTEXT], &mut out).unwrap();
        black_box(hmac_sha256(&[5; 32], &data).unwrap());
    };
    let seal = || bare(Mode::Encrypt);
    compare(wanted, &format!("{name} seal, 304 B"), sealer(key), seal);
    let open = || bare(Mode::Decrypt);
    compare(wanted, &format!("{name} open, 304 B"), opener(key), open);
}

/// A message with room for the IV and a plaintext of whole blocks.
fn message(key: &dyn MessageKey) -> Vec<u8> {
    let mut message = vec![7; IV_AT + key.iv_len() + PLAINTEXT];
    message.reserve(32);
    message
}

fn sealer(key: &dyn MessageKey) -> impl FnMut() {
    let mut message = message(key);
    let (length, mut counter) = (message.len(), 0);
    let mut rng = Rng::from_seed([3; 32]);
    move || {
        counter += 1;
        message.truncate(length);
        key.seal(&mut message, IV_AT, counter, &mut rng).unwrap();
    }
}

fn opener(key: &dyn MessageKey) -> impl FnMut() {
    let mut sealed = message(key);
    let mut rng = Rng::from_seed([4; 32]);
    key.seal(&mut sealed, IV_AT, 1, &mut rng).unwrap();
    let mut message = sealed.clone();
    move || {
        message.copy_from_slice(&sealed);
        black_box(key.open(&mut message, IV_AT).unwrap());
    }
}

fn signatures(wanted: &Wanted) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ecdsa = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    signature_rows(wanted, "ECDSA P-256", &ecdsa);
    signature_rows(wanted, "RSA-2048", &rsa);
}

fn signature_rows(wanted: &Wanted, name: &str, key: &PKey<Private>) {
    let ours = PrivateKey::from_pem(&hosts::pem(key)).unwrap();
    let public = ours.public().unwrap();
    let hash = HashAlgorithm::SHA2_256;
    let octets = vec![8; OCTETS];
    let signature = ours.sign_rfc7427(hash, &octets).unwrap();
    let sign = || {
        drop(black_box(
            ours.sign_rfc7427(hash, black_box(&octets)).unwrap(),
        ))
    };
    compare(
        wanted,
        &format!("{name} sign"),
        sign,
        floor::sign(key, OCTETS),
    );
    let verify = || {
        let checked = public.verify_rfc7427(black_box(&signature), &octets, &[hash]);
        checked.unwrap();
    };
    compare(
        wanted,
        &format!("{name} verify"),
        verify,
        floor::verify(key, OCTETS),
    );
}

/// IKE header and generic header of SK: authenticated, and the IV follows.
const IV_AT: usize = 28 + 4;
/// A usual IKE_AUTH: whole blocks, so that CBC can have it too.
const PLAINTEXT: usize = 304;
/// What AUTH covers: an IKE_SA_INIT message, a nonce and a MAC.
const OCTETS: usize = 400;
