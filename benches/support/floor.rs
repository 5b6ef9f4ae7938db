//! The floor: BoringSSL's primitives alone, each a step that can be repeated, and the sum of those
//! one role needs for a handshake. Nothing of `iked::crypto` is used here; `sys::bssl` only where
//! the `boring` crate has no call (constant-time exponentiation).

use std::hint::black_box;

use boring::aead::{AeadCtx, Algorithm};
use boring::bn::{BigNum, BigNumContext};
use boring::derive::Deriver;
use boring::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use boring::ecdsa::EcdsaSig;
use boring::hash::hmac_sha256;
use boring::nid::Nid;
use boring::pkey::{Id, PKey, Private};
use boring::rsa::Padding;
use boring::sha::{sha1, sha256};
use iked::sys::bssl;
use iked::wire::registry::KeId;

/// A primitive with its input.
pub(crate) type Step = Box<dyn FnMut()>;

/// How the peers of a handshake prove who they are.
#[derive(Clone)]
pub(crate) enum Proof {
    Psk,
    /// With this key, ECDSA P-256 or RSA.
    Key(PKey<Private>),
}

/// Bytes of the datagrams of a handshake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lengths {
    pub(crate) init_request: usize,
    pub(crate) init_response: usize,
    pub(crate) auth_request: usize,
    pub(crate) auth_response: usize,
}

/// The primitives that either role needs for a handshake with AES-128-GCM and PRF-HMAC-SHA2-256:
/// what RFC 7296 asks for, with the key made of a pre-shared key computed once for both proofs.
pub(crate) fn handshake(
    method: KeId,
    proof: &Proof,
    lengths: Lengths,
    responds: bool,
) -> Vec<Step> {
    let mut steps = vec![key_pair(method), shared_secret(method)];
    // NAT detection: two hashes made, two checked (2.23).
    steps.extend((0..4).map(|_| sha1_of(8 + 8 + 4 + 2)));
    // SKEYSEED, then five blocks for three keys of the PRF and two of the cipher (2.14).
    steps.push(hmac(2 * NONCE, shared_len(method)));
    steps.extend((0..5).map(|_| hmac(32, 32 + 2 * NONCE + 16 + 1)));
    steps.extend([aead_key(), aead_key()]);
    // The MACs of both identities, and both proofs (2.15).
    steps.extend([hmac(32, ID_BODY), hmac(32, ID_BODY)]);
    let octets = [lengths.init_request, lengths.init_response].map(|len| len + NONCE + 32);
    match proof {
        Proof::Psk => {
            steps.push(hmac(SECRET_LEN, 17));
            steps.extend(octets.map(|len| hmac(32, len)));
        }
        Proof::Key(key) => {
            let [theirs, ours] = if responds {
                octets
            } else {
                [octets[1], octets[0]]
            };
            steps.extend([verify(key, theirs), sign(key, ours)]);
        }
    }
    // KEYMAT of the Child SA, two blocks (2.17).
    steps.extend((0..2).map(|_| hmac(32, 32 + 2 * NONCE + 1)));
    let plaintexts = [lengths.auth_request, lengths.auth_response].map(|len| len - OVERHEAD);
    let [theirs, ours] = if responds {
        plaintexts
    } else {
        [plaintexts[1], plaintexts[0]]
    };
    steps.extend([aead_open(theirs), aead_seal(ours)]);
    steps
}

/// Keeps the compiler from seeing that nobody wants the result.
fn keep<T>(result: T) {
    black_box(result);
}

/// Our key pair.
pub(crate) fn key_pair(method: KeId) -> Step {
    match method {
        KeId::ECP_256 | KeId::ECP_384 | KeId::ECP_521 => {
            let group = curve(method);
            Box::new(move || keep(EcKey::generate(&group).unwrap()))
        }
        KeId::MODP_2048 => {
            let (prime, two) = (
                bssl::modp_prime(2048).unwrap(),
                BigNum::from_u32(2).unwrap(),
            );
            let exponent = exponent();
            Box::new(move || keep(bssl::mod_exp(&two, &exponent, &prime).unwrap()))
        }
        _ => Box::new(|| keep(PKey::generate(Id::X25519).unwrap())),
    }
}

/// The shared secret, from a peer's value as it comes.
pub(crate) fn shared_secret(method: KeId) -> Step {
    match method {
        KeId::ECP_256 | KeId::ECP_384 | KeId::ECP_521 => ecp_secret(method),
        KeId::MODP_2048 => {
            let prime = bssl::modp_prime(2048).unwrap();
            let exponent = exponent();
            let two = BigNum::from_u32(2).unwrap();
            let peer = bssl::mod_exp(&two, &exponent, &prime).unwrap();
            Box::new(move || keep(bssl::mod_exp(&peer, &exponent, &prime).unwrap()))
        }
        _ => {
            let [own, peer] = [(); 2].map(|()| PKey::generate(Id::X25519).unwrap());
            let mut shared = [0; 32];
            Box::new(move || {
                let mut deriver = Deriver::new(&own).unwrap();
                deriver.set_peer(&peer).unwrap();
                deriver.derive(&mut shared).unwrap();
                black_box(&shared);
            })
        }
    }
}

fn ecp_secret(method: KeId) -> Step {
    let group = curve(method);
    let own = EcKey::generate(&group).unwrap();
    let mut context = BigNumContext::new().unwrap();
    let form = PointConversionForm::UNCOMPRESSED;
    let peer = EcKey::generate(&group).unwrap();
    let peer = peer
        .public_key()
        .to_bytes(&group, form, &mut context)
        .unwrap();
    Box::new(move || {
        let peer = EcPoint::from_bytes(&group, &peer, &mut context).unwrap();
        let mut shared = EcPoint::new(&group).unwrap();
        shared
            .mul(&group, &peer, own.private_key(), &mut context)
            .unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let coordinates = shared.affine_coordinates_gfp(&group, &mut x, &mut y, &mut context);
        coordinates.unwrap();
        black_box(x);
    })
}

fn shared_len(method: KeId) -> usize {
    if method == KeId::MODP_2048 { 256 } else { 32 }
}

fn curve(method: KeId) -> EcGroup {
    let name = match method {
        KeId::ECP_384 => Nid::SECP384R1,
        KeId::ECP_521 => Nid::SECP521R1,
        _ => Nid::X9_62_PRIME256V1,
    };
    EcGroup::from_curve_name(name).unwrap()
}

/// A secret exponent of 256 bits, as long as ours for this group.
fn exponent() -> BigNum {
    BigNum::from_slice(&[0xa5; 32]).unwrap()
}

/// HMAC-SHA2-256 in one call.
pub(crate) fn hmac(key_len: usize, data_len: usize) -> Step {
    let (key, data) = (vec![1; key_len], vec![2; data_len]);
    Box::new(move || keep(hmac_sha256(black_box(&key), &data).unwrap()))
}

fn sha1_of(len: usize) -> Step {
    let data = vec![3; len];
    Box::new(move || keep(sha1(black_box(&data))))
}

/// A key of AES-128-GCM made ready.
pub(crate) fn aead_key() -> Step {
    Box::new(|| keep(aes(black_box(&[4; 16]))))
}

fn aes(key: &[u8; 16]) -> AeadCtx {
    AeadCtx::new(&Algorithm::aes_128_gcm(), key, 16).unwrap()
}

/// Encryption with a key that is ready.
pub(crate) fn aead_seal(len: usize) -> Step {
    let (mut context, mut data, mut tag) = (aes(&[4; 16]), vec![5; len], [0; 16]);
    Box::new(move || {
        let sealed = context.seal_in_place_mut(&[6; 12], &mut data, &mut tag, &[7; AAD]);
        black_box(sealed.unwrap());
    })
}

/// Decryption with a key that is ready.
pub(crate) fn aead_open(len: usize) -> Step {
    let (mut context, mut sealed, mut tag) = (aes(&[4; 16]), vec![5; len], [0; 16]);
    let done = context.seal_in_place_mut(&[6; 12], &mut sealed, &mut tag, &[7; AAD]);
    done.unwrap();
    let mut data = sealed.clone();
    Box::new(move || {
        data.copy_from_slice(&sealed);
        let opened = context.open_in_place_mut(&[6; 12], &mut data, &tag, &[7; AAD]);
        opened.unwrap();
    })
}

/// SHA2-256 of so many bytes and the signature of it.
pub(crate) fn sign(key: &PKey<Private>, len: usize) -> Step {
    let data = vec![8; len];
    if key.id() == Id::EC {
        let key = key.ec_key().unwrap();
        return Box::new(move || keep(EcdsaSig::sign(&sha256(&data), &key).unwrap()));
    }
    let key = key.rsa().unwrap();
    let mut out = vec![0; key.size() as usize];
    Box::new(move || {
        let info = digest_info(&data);
        key.private_encrypt(&info, &mut out, Padding::PKCS1)
            .unwrap();
    })
}

/// SHA2-256 of so many bytes and the check of a signature.
pub(crate) fn verify(key: &PKey<Private>, len: usize) -> Step {
    let data = vec![8; len];
    if key.id() == Id::EC {
        let key = key.ec_key().unwrap();
        let signature = EcdsaSig::sign(&sha256(&data), &key).unwrap();
        return Box::new(move || assert!(signature.verify(&sha256(&data), &key).unwrap()));
    }
    let key = key.rsa().unwrap();
    let mut signature = vec![0; key.size() as usize];
    let mut out = signature.clone();
    let info = digest_info(&data);
    key.private_encrypt(&info, &mut signature, Padding::PKCS1)
        .unwrap();
    Box::new(move || {
        let len = key
            .public_decrypt(&signature, &mut out, Padding::PKCS1)
            .unwrap();
        assert!(out[..len] == digest_info(&data));
    })
}

/// The prefix of SHA2-256 (RFC 8017, 9.2) has 19 bytes; their values cost nothing.
fn digest_info(data: &[u8]) -> [u8; 19 + 32] {
    let mut info = [0x30; 19 + 32];
    info[19..].copy_from_slice(&sha256(data));
    info
}

/// Our nonces.
const NONCE: usize = 32;
/// Length of the hosts' pre-shared key.
pub(crate) const SECRET_LEN: usize = 32;
/// An ID payload without its generic header: four bytes and a name.
const ID_BODY: usize = 4 + 15;
/// IKE header and generic header of SK.
const AAD: usize = 28 + 4;
/// What is no plaintext in a sealed datagram: the above, IV and ICV.
const OVERHEAD: usize = AAD + 8 + 16;
