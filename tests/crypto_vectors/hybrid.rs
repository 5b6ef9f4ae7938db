//! OpenIKED's hybrid sntrup761x25519: its first half by what is published, and how the two halves are joined.

use boring::sha::sha512;
use iked::crypto::Rng;
use iked::wire::registry::KeId;
use sntrup761::{CIPHERTEXT_SIZE, Ciphertext, DecapsulationKey, generate_key_from_seed};

use super::provider;
use super::reader::read;

const SEED: [u8; 32] = [5; 32];

#[test]
fn streamlined_ntru_prime_decapsulates_what_is_published() {
    for vector in read("sntrup761.txt") {
        let secret = DecapsulationKey::from(vector.array("secret"));
        let sent = vector.array::<CIPHERTEXT_SIZE>("sent");
        let shared = secret.decapsulate(&Ciphertext::from(sent));
        assert_eq!(shared.as_ref(), vector.bytes("shared"), "{}", vector.place);
        // What was changed on its way gives another secret, and no error.
        let mut changed = sent;
        changed[7] ^= 1;
        let other = secret.decapsulate(&Ciphertext::from(changed));
        assert_ne!(other.as_ref(), shared.as_ref(), "{}", vector.place);
    }
}

#[test]
fn the_hybrids_secret_is_the_hash_of_both_halves_in_their_order() {
    let method = |id| provider().key_exchange(id).unwrap();
    let hybrid = method(KeId::SNTRUP761X25519);
    let begun = hybrid.start(&mut Rng::from_seed(SEED)).unwrap();
    let answered = hybrid
        .answer(&mut Rng::from_seed([6; 32]), begun.public())
        .unwrap();
    // The same draws, each half alone.
    let mut rng = Rng::from_seed(SEED);
    let (public, secret) = generate_key_from_seed(rng.bytes());
    let curve = method(KeId::CURVE25519).start(&mut rng).unwrap();
    assert_eq!(begun.public(), [public.as_ref(), curve.public()].concat());
    let (sent, point) = answered.public().split_first_chunk().unwrap();
    let first = secret.decapsulate(&Ciphertext::from(*sent));
    let second = curve.complete(point).unwrap();
    let joined = sha512(&[first.as_ref(), second.expose()].concat());
    assert_eq!(begun.complete(answered.public()).unwrap().expose(), joined);
    assert_eq!(answered.complete(begun.public()).unwrap().expose(), joined);
}
