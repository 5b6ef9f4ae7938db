//! Key exchange in the MODP groups. The Provider draws its own exponents, from a generator whose
//! output the test knows; published exchanges check the arithmetic that it is compared with.

use boring::bn::BigNum;
use iked::crypto::{CryptoError, KeyExchange, Rng};
use iked::sys::bssl;

use super::arithmetic::{Field, modp_prime};
use super::provider;
use super::reader::{Vector, read};

/// Group, bits, and the addend of its formula (RFC 2409, 6.1 and 6.2; RFC 3526).
const GROUPS: [(u16, usize, u64); 8] = [
    (1, 768, 149_686),
    (2, 1024, 129_093),
    (5, 1536, 741_804),
    (14, 2048, 124_476),
    (15, 3072, 1_690_314),
    (16, 4096, 240_904),
    (17, 6144, 929_484),
    (18, 8192, 4_743_158),
];
const SEED: [u8; 32] = [11; 32];

#[test]
fn primes_are_those_of_their_formula() {
    for (group, bits, addend) in GROUPS {
        let prime = modp_prime(bits, addend);
        let vector = vector(group);
        assert_eq!(prime, vector.bytes("prime"), "{}", vector.place);
        let of_library = bssl::modp_prime(bits as u32);
        if let Ok(found) = &of_library {
            assert_eq!(found.to_vec(), prime, "group {group}");
        }
        assert_eq!(of_library.is_ok(), bits > 1024, "group {group}");
    }
}

/// Only one number has the neighbours that are accepted and refused here.
#[test]
fn every_group_works_modulo_its_prime_and_refuses_what_is_out_of_range() {
    for (group, ..) in GROUPS {
        let exchange = exchange(group);
        let prime = vector(group).bytes("prime");
        let width = prime.len();
        assert_eq!(exchange.public_len(), width);
        let near = |difference: i64| shifted(&prime, difference);
        for good in [small(2, width), small(3, width), near(-2), near(-3)] {
            assert_eq!(exchange.check_public(&good), Ok(()), "group {group}");
            let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
            assert!(active.complete(&good).is_ok(), "group {group}");
        }
        let largest = vec![0xff; width];
        let range = [
            small(0, width),
            small(1, width),
            near(-1),
            near(0),
            near(1),
            largest,
        ];
        for bad in range {
            refuses(exchange, &bad, CryptoError::PublicValue);
        }
        let own = vector(group).bytes("pub_i");
        let lengths = [
            Vec::new(),
            own[1..].to_vec(),
            own[..width - 1].to_vec(),
            [&[0], own.as_slice()].concat(),
            [own.as_slice(), &[0]].concat(),
        ];
        for bad in lengths {
            refuses(exchange, &bad, CryptoError::PublicLength);
        }
    }
}

#[test]
fn published_exchanges_come_out_in_the_library_and_by_hand() {
    for vector in read("modp.txt") {
        let prime = vector.bytes("prime");
        let field = Field::new(&prime);
        let power = |base: &[u8], exponent: &str| {
            let exponent = vector.bytes(exponent);
            let by_hand = field.bytes(&field.pow(&field.number(base), &exponent));
            let number = |bytes: &[u8]| BigNum::from_slice(bytes).unwrap();
            let modulus = number(&prime);
            let library = bssl::mod_exp(&number(base), &number(&exponent), &modulus).unwrap();
            let library = library.to_vec_padded(prime.len()).unwrap();
            assert_eq!(by_hand, library, "{}", vector.place);
            by_hand
        };
        assert_eq!(power(&[2], "secret_i"), vector.bytes("pub_i"));
        assert_eq!(power(&[2], "secret_r"), vector.bytes("pub_r"));
        let shared = vector.bytes("shared");
        assert_eq!(power(&vector.bytes("pub_r"), "secret_i"), shared);
        assert_eq!(power(&vector.bytes("pub_i"), "secret_r"), shared);
    }
}

#[test]
fn the_provider_exchanges_with_both_sides_of_a_published_exchange() {
    for vector in read("modp.txt") {
        let exchange = exchange(vector.group());
        let field = Field::new(&vector.bytes("prime"));
        let power =
            |base: &[u8], exponent: &[u8]| field.bytes(&field.pow(&field.number(base), exponent));
        for (secret, public) in [("secret_i", "pub_i"), ("secret_r", "pub_r")] {
            let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
            let own = active.public().to_vec();
            let exponent = exponent(&own, power);
            assert!(exponent.len() >= 32, "group {}", vector.group());
            let shared = active.complete(&vector.bytes(public)).unwrap();
            let ours = power(&vector.bytes(public), &exponent);
            let theirs = power(&own, &vector.bytes(secret));
            assert_eq!(shared.expose(), ours, "{} {public}", vector.place);
            assert_eq!(shared.expose(), theirs, "{} {public}", vector.place);
        }
    }
}

/// A shared secret with a zero in front keeps its full width (RFC 7296, 2.14).
#[test]
fn secrets_keep_their_leading_zeros() {
    let exchange = exchange(1);
    let field = Field::new(&vector(1).bytes("prime"));
    let mut found = false;
    for base in 2..=255u8 {
        for seed in 0..16u8 {
            let peer = small(base, exchange.public_len());
            let active = exchange.start(&mut Rng::from_seed([seed; 32])).unwrap();
            let exponent = drawn([seed; 32], 32);
            let expected = field.bytes(&field.pow(&field.small(base), &exponent));
            if expected[0] == 0 {
                let shared = active.complete(&peer).unwrap();
                assert_eq!(shared.expose(), expected);
                found = true;
            }
        }
        if found {
            return;
        }
    }
    panic!("no secret begins with a zero");
}

/// The exponent behind a public value drawn with `SEED`: some first bytes of the generator, the top
/// bit set.
fn exponent(public: &[u8], power: impl Fn(&[u8], &[u8]) -> Vec<u8>) -> Vec<u8> {
    let found = (16..=64)
        .map(|len| drawn(SEED, len))
        .find(|exponent| power(&[2], exponent) == public);
    found.expect("the exponent is not what the generator gave")
}

fn drawn(seed: [u8; 32], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::from_seed(seed).fill(&mut bytes);
    bytes[0] |= 0x80;
    bytes
}

fn refuses(exchange: &dyn KeyExchange, public: &[u8], error: CryptoError) {
    let place = format!("group {} {}", exchange.id().0, hex::encode(public));
    assert_eq!(exchange.check_public(public), Err(error), "{place}");
    let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
    assert_eq!(active.complete(public).err(), Some(error), "{place}");
}

fn small(value: u8, width: usize) -> Vec<u8> {
    let mut bytes = vec![0; width];
    bytes[width - 1] = value;
    bytes
}

/// A number that ends in ones, plus a small difference.
fn shifted(bytes: &[u8], difference: i64) -> Vec<u8> {
    let mut number = BigNum::from_slice(bytes).unwrap();
    let by = u32::try_from(difference.abs()).unwrap();
    if difference < 0 {
        number.sub_word(by).unwrap();
    } else {
        number.add_word(by).unwrap();
    }
    number.to_vec_padded(bytes.len()).unwrap()
}

fn vector(group: u16) -> Vector {
    let mut vectors = read("modp.txt").into_iter();
    vectors.find(|vector| vector.group() == group).unwrap()
}

fn exchange(group: u16) -> &'static dyn KeyExchange {
    let mut exchanges = provider().key_exchanges.iter().copied();
    exchanges.find(|found| found.id().0 == group).unwrap()
}
