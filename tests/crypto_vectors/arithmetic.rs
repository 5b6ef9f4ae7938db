//! Arithmetic that shares nothing with the library under test: numbers modulo an odd prime
//! (Montgomery's multiplication on 64 bit words), points of a curve in Weierstrass form, X25519, and
//! the primes of the MODP groups from their formula. Neither fast nor constant in time.

use std::cmp::Ordering;

/// A number in Montgomery form, least significant word first.
type Number = Vec<u64>;

/// The numbers modulo an odd prime.
pub(super) struct Field {
    modulus: Vec<u64>,
    /// `-1 / modulus` modulo 2^64.
    inverse: u64,
    one: Number,
    /// What takes a number into Montgomery form.
    square: Number,
    width: usize,
}

impl Field {
    /// The field of a prime given by its bytes, most significant first.
    pub(super) fn new(prime: &[u8]) -> Self {
        let modulus = words(prime);
        // Newton: every step doubles the bits that are right.
        let mut inverse = 1u64;
        for _ in 0..6 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(modulus[0].wrapping_mul(inverse)));
        }
        let mut field = Self {
            inverse: inverse.wrapping_neg(),
            one: Vec::new(),
            square: Vec::new(),
            width: prime.len(),
            modulus,
        };
        let mut power = vec![0; field.modulus.len()];
        power[0] = 1;
        for bit in 0..128 * field.modulus.len() {
            if bit == 64 * field.modulus.len() {
                field.one = power.clone();
            }
            power = field.add(&power, &power);
        }
        field.square = power;
        field
    }

    /// Takes big-endian bytes of a number of about the size of the prime.
    pub(super) fn number(&self, bytes: &[u8]) -> Number {
        let mut value = words(bytes);
        value.resize(value.len().max(self.modulus.len()), 0);
        while compare(&value, &self.modulus) != Ordering::Less {
            subtract(&mut value, &self.modulus);
        }
        value.truncate(self.modulus.len());
        self.mul(&value, &self.square)
    }

    /// Big-endian bytes, as many as the prime has.
    pub(super) fn bytes(&self, number: &Number) -> Vec<u8> {
        let mut unit = vec![0; self.modulus.len()];
        unit[0] = 1;
        let value = self.mul(number, &unit);
        let all: Vec<u8> = value
            .iter()
            .rev()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        all[all.len() - self.width..].to_vec()
    }

    /// A small number.
    pub(super) fn small(&self, value: u8) -> Number {
        self.number(&[value])
    }

    fn is_zero(number: &Number) -> bool {
        number.iter().all(|&word| word == 0)
    }

    fn reduced(&self, mut sum: Vec<u64>) -> Number {
        if compare(&sum, &self.modulus) != Ordering::Less {
            subtract(&mut sum, &self.modulus);
        }
        sum.truncate(self.modulus.len());
        sum
    }

    /// `a + b`.
    pub(super) fn add(&self, a: &Number, b: &Number) -> Number {
        let mut sum = a.clone();
        sum.push(0);
        accumulate(&mut sum, b, 1);
        self.reduced(sum)
    }

    /// `a - b`.
    pub(super) fn sub(&self, a: &Number, b: &Number) -> Number {
        let mut negative = self.modulus.clone();
        subtract(&mut negative, b);
        self.add(a, &negative)
    }

    /// `a * b`.
    pub(super) fn mul(&self, a: &Number, b: &Number) -> Number {
        let mut sum = vec![0; self.modulus.len() + 2];
        for &word in a {
            accumulate(&mut sum, b, word);
            let quotient = sum[0].wrapping_mul(self.inverse);
            accumulate(&mut sum, &self.modulus, quotient);
            // The lowest word is zero now.
            sum.rotate_left(1);
        }
        self.reduced(sum)
    }

    /// `base ^ exponent`, the exponent in big-endian bytes.
    pub(super) fn pow(&self, base: &Number, exponent: &[u8]) -> Number {
        let mut power = self.one.clone();
        for bit in bits(exponent) {
            power = self.mul(&power, &power);
            if bit {
                power = self.mul(&power, base);
            }
        }
        power
    }

    /// `1 / a` by Fermat.
    fn invert(&self, a: &Number) -> Number {
        let mut exponent = self.modulus.clone();
        subtract(&mut exponent, &[2]);
        let exponent: Vec<u8> = exponent
            .iter()
            .rev()
            .flat_map(|w| w.to_be_bytes())
            .collect();
        self.pow(a, &exponent)
    }
}

/// A curve `y^2 = x^3 + a x + b` with its generator.
pub(super) struct Curve {
    field: Field,
    a: Number,
    b: Number,
    generator: Vec<u8>,
}

/// A point `(x / z^2, y / z^3)`; infinity where z is zero.
struct Point {
    x: Number,
    y: Number,
    z: Number,
}

impl Curve {
    /// A curve by its parameters; the generator is x | y.
    pub(super) fn new(prime: &[u8], a: &[u8], b: &[u8], generator: Vec<u8>) -> Self {
        let field = Field::new(prime);
        Self {
            a: field.number(a),
            b: field.number(b),
            generator,
            field,
        }
    }

    /// x | y of the generator.
    pub(super) fn generator(&self) -> &[u8] {
        &self.generator
    }

    /// Whether x | y is a point of the curve.
    pub(super) fn contains(&self, point: &[u8]) -> bool {
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (self.field.number(x), self.field.number(y));
        let field = &self.field;
        let cubic = field.add(&field.mul(&x, &x), &self.a);
        let right = field.add(&field.mul(&cubic, &x), &self.b);
        field.mul(&y, &y) == right
    }

    /// x | y of `scalar` times the point x | y; nothing for infinity.
    pub(super) fn multiply(&self, scalar: &[u8], point: &[u8]) -> Option<Vec<u8>> {
        let (x, y) = point.split_at(point.len() / 2);
        let base = Point {
            x: self.field.number(x),
            y: self.field.number(y),
            z: self.field.one.clone(),
        };
        let mut sum = self.infinity();
        for bit in bits(scalar) {
            sum = self.double(&sum);
            if bit {
                sum = self.add(&sum, &base);
            }
        }
        if Field::is_zero(&sum.z) {
            return None;
        }
        let field = &self.field;
        let inverse = field.invert(&sum.z);
        let square = field.mul(&inverse, &inverse);
        let x = field.mul(&sum.x, &square);
        let y = field.mul(&sum.y, &field.mul(&square, &inverse));
        Some([field.bytes(&x), field.bytes(&y)].concat())
    }

    fn infinity(&self) -> Point {
        Point {
            x: self.field.one.clone(),
            y: self.field.one.clone(),
            z: self.field.small(0),
        }
    }

    fn double(&self, point: &Point) -> Point {
        let field = &self.field;
        let times = |value: &Number, factor| field.mul(value, &field.small(factor));
        let yy = field.mul(&point.y, &point.y);
        let s = times(&field.mul(&point.x, &yy), 4);
        let zz = field.mul(&point.z, &point.z);
        let m = field.add(
            &times(&field.mul(&point.x, &point.x), 3),
            &field.mul(&self.a, &field.mul(&zz, &zz)),
        );
        let x = field.sub(&field.mul(&m, &m), &times(&s, 2));
        let y = field.sub(
            &field.mul(&m, &field.sub(&s, &x)),
            &times(&field.mul(&yy, &yy), 8),
        );
        let z = times(&field.mul(&point.y, &point.z), 2);
        Point { x, y, z }
    }

    fn add(&self, left: &Point, right: &Point) -> Point {
        let field = &self.field;
        let copy = |point: &Point| Point {
            x: point.x.clone(),
            y: point.y.clone(),
            z: point.z.clone(),
        };
        if Field::is_zero(&left.z) {
            return copy(right);
        }
        if Field::is_zero(&right.z) {
            return copy(left);
        }
        let left_zz = field.mul(&left.z, &left.z);
        let right_zz = field.mul(&right.z, &right.z);
        let left_x = field.mul(&left.x, &right_zz);
        let right_x = field.mul(&right.x, &left_zz);
        let left_y = field.mul(&left.y, &field.mul(&right_zz, &right.z));
        let right_y = field.mul(&right.y, &field.mul(&left_zz, &left.z));
        if left_x == right_x {
            return if left_y == right_y {
                self.double(left)
            } else {
                self.infinity()
            };
        }
        let h = field.sub(&right_x, &left_x);
        let r = field.sub(&right_y, &left_y);
        let hh = field.mul(&h, &h);
        let hhh = field.mul(&hh, &h);
        let middle = field.mul(&left_x, &hh);
        let x = field.sub(
            &field.sub(&field.mul(&r, &r), &hhh),
            &field.add(&middle, &middle),
        );
        let y = field.sub(
            &field.mul(&r, &field.sub(&middle, &x)),
            &field.mul(&left_y, &hhh),
        );
        let z = field.mul(&h, &field.mul(&left.z, &right.z));
        Point { x, y, z }
    }
}

/// X25519 as RFC 7748, 5 defines it.
pub(super) fn x25519(secret: &[u8; 32], public: &[u8; 32]) -> [u8; 32] {
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0x7f, 0xed);
    let field = Field::new(&prime);
    let (mut scalar, mut u) = (*secret, *public);
    scalar[0] &= 248;
    scalar[31] = (scalar[31] & 127) | 64;
    u[31] &= 127;
    scalar.reverse();
    u.reverse();
    let x1 = field.number(&u);
    let a24 = field.number(&121_665u32.to_be_bytes());
    let (mut x2, mut z2) = (field.small(1), field.small(0));
    let (mut x3, mut z3) = (x1.clone(), field.small(1));
    for bit in bits(&scalar) {
        if bit {
            (x2, x3, z2, z3) = (x3, x2, z3, z2);
        }
        let (a, b) = (field.add(&x2, &z2), field.sub(&x2, &z2));
        let (aa, bb) = (field.mul(&a, &a), field.mul(&b, &b));
        let e = field.sub(&aa, &bb);
        let da = field.mul(&field.sub(&x3, &z3), &a);
        let cb = field.mul(&field.add(&x3, &z3), &b);
        let (sum, difference) = (field.add(&da, &cb), field.sub(&da, &cb));
        x3 = field.mul(&sum, &sum);
        z3 = field.mul(&x1, &field.mul(&difference, &difference));
        x2 = field.mul(&aa, &bb);
        z2 = field.mul(&e, &field.add(&aa, &field.mul(&a24, &e)));
        if bit {
            (x2, x3, z2, z3) = (x3, x2, z3, z2);
        }
    }
    let mut shared = field.bytes(&field.mul(&x2, &field.invert(&z2)));
    shared.reverse();
    shared.try_into().unwrap()
}

/// `2^bits - 2^(bits - 64) - 1 + 2^64 * ([2^(bits - 130) pi] + addend)`: RFC 2409, 6 and RFC 3526.
pub(super) fn modp_prime(bits: usize, addend: u64) -> Vec<u8> {
    let len = bits / 64;
    // Pi with `len` words behind the point; shifting out 130 bits leaves what the formula wants.
    let pi = pi(len);
    let mut middle: Vec<u64> = pi[2..]
        .windows(2)
        .map(|pair| (pair[0] >> 2) | (pair[1] << 62))
        .collect();
    accumulate(&mut middle, &[addend], 1);
    // Above it stand 64 ones, below it are 64 zeros; less one makes those ones, with a borrow.
    subtract(&mut middle, &[1]);
    let mut prime = vec![u64::MAX];
    prime.extend(middle);
    prime.push(u64::MAX);
    assert_eq!(prime.len(), len);
    prime
        .iter()
        .rev()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

/// Pi as a fixed point number with this many words behind the point, by Machin's formula.
fn pi(places: usize) -> Vec<u64> {
    let guard = 1;
    let mut sum = vec![0; places + guard + 1];
    for (x, factor, negative) in [(5, 16, false), (239, 4, true)] {
        let mut power = vec![0; places + guard + 1];
        power[places + guard] = factor;
        divide(&mut power, x);
        for index in 0u64.. {
            if power.iter().all(|&word| word == 0) {
                break;
            }
            let mut term = power.clone();
            divide(&mut term, 2 * index + 1);
            if (index % 2 == 1) == negative {
                accumulate(&mut sum, &term, 1);
            } else {
                subtract(&mut sum, &term);
            }
            divide(&mut power, x * x);
        }
    }
    sum.split_off(guard)
}

/// The bits of big-endian bytes, the highest first.
fn bits(bytes: &[u8]) -> impl Iterator<Item = bool> {
    let bit = |byte: u8, index: u8| (byte >> index) & 1 == 1;
    bytes
        .iter()
        .flat_map(move |&byte| (0..8).rev().map(move |index| bit(byte, index)))
}

/// Words, the lowest first, of big-endian bytes.
fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        chunk
            .iter()
            .fold(0, |word, &byte| (word << 8) | u64::from(byte))
    };
    bytes.rchunks(8).map(word).collect()
}

/// `sum += factor * digit`; the sum must have room.
fn accumulate(sum: &mut [u64], factor: &[u64], digit: u64) {
    let mut carry = 0u128;
    for (index, word) in sum.iter_mut().enumerate() {
        let factor = factor.get(index).copied().unwrap_or(0);
        let total = u128::from(*word) + u128::from(factor) * u128::from(digit) + carry;
        *word = total as u64;
        carry = total >> 64;
    }
    assert_eq!(carry, 0);
}

/// `from -= what`; the difference must not be negative.
fn subtract(from: &mut [u64], what: &[u64]) {
    let mut borrow = false;
    for (index, word) in from.iter_mut().enumerate() {
        let what = what.get(index).copied().unwrap_or(0);
        let (first, one) = word.overflowing_sub(what);
        let (second, two) = first.overflowing_sub(u64::from(borrow));
        *word = second;
        borrow = one || two;
    }
    assert!(!borrow);
}

fn compare(left: &[u64], right: &[u64]) -> Ordering {
    let at = |words: &[u64], index: usize| words.get(index).copied().unwrap_or(0);
    let longest = left.len().max(right.len());
    (0..longest)
        .rev()
        .map(|index| at(left, index).cmp(&at(right, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Divides by a small number, rounding down.
fn divide(number: &mut [u64], divisor: u64) {
    let mut rest = 0u128;
    for word in number.iter_mut().rev() {
        let total = (rest << 64) | u128::from(*word);
        *word = (total / u128::from(divisor)) as u64;
        rest = total % u128::from(divisor);
    }
}
