//! Key exchange on curves. The Provider draws its own keys and shows only their public half; so a
//! published secret is used against it from the other side, by arithmetic that published exchanges
//! have checked before.

use boring::bn::{BigNum, BigNumContext};
use boring::ec::{EcGroup, EcPoint};
use boring::nid::Nid;
use iked::crypto::{CryptoError, KeyExchange, Rng};
use iked::sys::bssl;

use super::arithmetic::{self, Curve};
use super::provider;
use super::reader::{Vector, read};

const SEED: [u8; 32] = [13; 32];

#[test]
fn published_points_and_secrets_come_out_by_hand() {
    for vector in valid() {
        let curve = curve(vector.group());
        let (secret, peer) = (vector.bytes("secret"), vector.bytes("peer"));
        assert!(curve.contains(&peer), "{}", vector.place);
        let shared = curve.multiply(&secret, &peer).unwrap();
        let x = &shared[..shared.len() / 2];
        assert_eq!(x, vector.bytes("shared"), "{}", vector.place);
        if vector.find("public").is_some() {
            let public = curve.multiply(&secret, curve.generator());
            assert_eq!(public, Some(vector.bytes("public")), "{}", vector.place);
        }
    }
}

#[test]
fn the_library_gives_the_published_secrets() {
    for vector in valid() {
        let group = library_group(vector.group());
        let mut context = BigNumContext::new().unwrap();
        let encoded = [&[4], vector.bytes("peer").as_slice()].concat();
        let peer = EcPoint::from_bytes(&group, &encoded, &mut context).unwrap();
        let secret = BigNum::from_slice(&vector.bytes("secret")).unwrap();
        let mut shared = EcPoint::new(&group).unwrap();
        shared.mul(&group, &peer, &secret, &mut context).unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        shared
            .affine_coordinates_gfp(&group, &mut x, &mut y, &mut context)
            .unwrap();
        let published = vector.bytes("shared");
        let x = x.to_vec_padded(published.len()).unwrap();
        assert_eq!(x, published, "{}", vector.place);
    }
}

#[test]
fn the_provider_exchanges_with_the_owner_of_every_published_secret() {
    for vector in valid() {
        let (exchange, curve) = (exchange(vector.group()), curve(vector.group()));
        let secret = vector.bytes("secret");
        let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
        let own = active.public().to_vec();
        assert_eq!(own.len(), exchange.public_len());
        assert!(curve.contains(&own), "{}", vector.place);
        let peer = curve.multiply(&secret, curve.generator()).unwrap();
        let expected = curve.multiply(&secret, &own).unwrap();
        assert_eq!(exchange.check_public(&peer), Ok(()), "{}", vector.place);
        let shared = active.complete(&peer).unwrap();
        let x = &expected[..expected.len() / 2];
        assert_eq!(shared.expose(), x, "{}", vector.place);
    }
}

#[test]
fn the_provider_takes_every_published_point() {
    for vector in valid() {
        let exchange = exchange(vector.group());
        let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
        let shared = active.complete(&vector.bytes("peer"));
        let len = shared.map(|shared| shared.expose().len());
        assert_eq!(len, Ok(exchange.public_len() / 2), "{}", vector.place);
    }
}

#[test]
fn the_provider_refuses_every_published_bad_point() {
    let mut refused = 0;
    for vector in read("ecp.txt").iter().filter(|vector| !vector.is_valid()) {
        let exchange = exchange(vector.group());
        let peer = vector.bytes("peer");
        let error = if peer.len() == exchange.public_len() {
            CryptoError::PublicValue
        } else {
            CryptoError::PublicLength
        };
        let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
        assert_eq!(
            active.complete(&peer).err(),
            Some(error),
            "{}",
            vector.place
        );
        refused += 1;
    }
    assert!(refused > 100);
}

#[test]
fn the_provider_refuses_what_is_no_point_of_its_curve() {
    for parameters in read("curves.txt") {
        let group = parameters.group();
        let exchange = exchange(group);
        let curve = curve(group);
        let good = curve.generator().to_vec();
        let width = good.len() / 2;
        let (x, y) = good.split_at(width);
        let prime = parameters.bytes("p");
        let mut wrong = vec![
            vec![0; 2 * width],
            vec![0xff; 2 * width],
            [x, &vec![0; width]].concat(),
            [&vec![0; width], y].concat(),
            [x, &prime].concat(),
            [&prime, y].concat(),
            [y, x].concat(),
        ];
        for at in 0..2 * width {
            let mut changed = good.clone();
            changed[at] ^= 1 << (at % 8);
            wrong.push(changed);
        }
        wrong.retain(|point| !curve.contains(point) || point.starts_with(&prime));
        assert!(wrong.len() > width, "group {group}");
        wrong.extend(beyond(&curve, &parameters));
        for point in wrong {
            refuses(exchange, &point, CryptoError::PublicValue);
        }
        for point in [
            Vec::new(),
            x.to_vec(),
            good[1..].to_vec(),
            good[..2 * width - 1].to_vec(),
            [&[4], good.as_slice()].concat(),
            [good.as_slice(), &[0]].concat(),
            vec![0],
            [&[2], x].concat(),
        ] {
            assert_eq!(
                exchange.check_public(&point),
                Err(CryptoError::PublicLength)
            );
            refuses(exchange, &point, CryptoError::PublicLength);
        }
    }
}

#[test]
fn the_tables_of_the_test_describe_curves_with_generators_of_their_order() {
    for parameters in read("curves.txt") {
        let curve = curve(parameters.group());
        assert!(curve.contains(curve.generator()), "{}", parameters.place);
        let order = parameters.bytes("order");
        assert_eq!(curve.multiply(&order, curve.generator()), None);
        let mut less = BigNum::from_slice(&order).unwrap();
        less.sub_word(1).unwrap();
        let negative = curve.multiply(&less.to_vec(), curve.generator()).unwrap();
        let width = negative.len() / 2;
        assert_eq!(negative[..width], curve.generator()[..width]);
        assert_ne!(negative[width..], curve.generator()[width..]);
    }
}

/// What the next test measures the provider by.
#[test]
fn x25519_by_hand_gives_the_published_secrets() {
    for vector in read("x25519.txt") {
        let by_hand = arithmetic::x25519(&vector.array("secret"), &vector.array("peer"));
        let expected = if vector.is_valid() {
            vector.array("shared")
        } else {
            [0; 32]
        };
        assert_eq!(by_hand, expected, "{}", vector.place);
    }
}

#[test]
fn curve25519_exchanges_with_every_published_point_and_refuses_a_zero_secret() {
    let exchange = exchange(31);
    assert_eq!(exchange.public_len(), 32);
    let secret = Rng::from_seed(SEED).bytes::<32>();
    let mut base = [0; 32];
    base[0] = 9;
    let public = arithmetic::x25519(&secret, &base);
    let mut refused = 0;
    for vector in read("x25519.txt") {
        let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
        assert_eq!(active.public(), public);
        let peer = vector.array("peer");
        assert_eq!(exchange.check_public(&peer), Ok(()));
        let shared = active.complete(&peer);
        if vector.is_valid() {
            let expected = arithmetic::x25519(&secret, &peer);
            assert_eq!(shared.unwrap().expose(), expected, "{}", vector.place);
        } else {
            let error = shared.err();
            assert_eq!(error, Some(CryptoError::PublicValue), "{}", vector.place);
            refused += 1;
        }
    }
    assert!(refused >= 10);
    for len in [0, 1, 31, 33, 64] {
        let point = vec![9; len];
        assert_eq!(
            exchange.check_public(&point),
            Err(CryptoError::PublicLength)
        );
        refuses(exchange, &point, CryptoError::PublicLength);
    }
}

/// Points of the curve with coordinates that are not reduced, where they fit the field's width.
fn beyond(curve: &Curve, parameters: &Vector) -> Vec<Vec<u8>> {
    let prime = BigNum::from_slice(&parameters.bytes("p")).unwrap();
    let width = curve.generator().len() / 2;
    let raised = |coordinate: &[u8]| {
        let mut sum = BigNum::new().unwrap();
        let coordinate = BigNum::from_slice(coordinate).unwrap();
        sum.checked_add(&coordinate, &prime).unwrap();
        sum.to_vec_padded(width).ok()
    };
    let mut found = Vec::new();
    for scalar in 1..20u8 {
        let point = curve.multiply(&[scalar], curve.generator()).unwrap();
        let (x, y) = point.split_at(width);
        found.extend(raised(x).map(|x| [&x, y].concat()));
        found.extend(raised(y).map(|y| [x, &y].concat()));
    }
    found
}

fn refuses(exchange: &dyn KeyExchange, public: &[u8], error: CryptoError) {
    let place = format!("group {} {}", exchange.id().0, hex::encode(public));
    let active = exchange.start(&mut Rng::from_seed(SEED)).unwrap();
    assert_eq!(active.complete(public).err(), Some(error), "{place}");
}

fn valid() -> Vec<Vector> {
    let mut vectors = read("ecp.txt");
    vectors.retain(Vector::is_valid);
    vectors
}

fn parameters(group: u16) -> Vector {
    let mut curves = read("curves.txt").into_iter();
    curves.find(|curve| curve.group() == group).unwrap()
}

fn curve(group: u16) -> Curve {
    let of = parameters(group);
    let generator = [of.bytes("x"), of.bytes("y")].concat();
    Curve::new(&of.bytes("p"), &of.bytes("a"), &of.bytes("b"), generator)
}

fn library_group(group: u16) -> EcGroup {
    let named = match group {
        19 => Nid::X9_62_PRIME256V1,
        20 => Nid::SECP384R1,
        21 => Nid::SECP521R1,
        26 => Nid::SECP224R1,
        _ => {
            let of = parameters(group);
            let number = |name| BigNum::from_slice(&of.bytes(name)).unwrap();
            return bssl::curve(&["p", "a", "b", "x", "y", "order"].map(number)).unwrap();
        }
    };
    EcGroup::from_curve_name(named).unwrap()
}

fn exchange(group: u16) -> &'static dyn KeyExchange {
    let mut exchanges = provider().key_exchanges.iter().copied();
    exchanges.find(|found| found.id().0 == group).unwrap()
}
