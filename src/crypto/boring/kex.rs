//! Key exchange: MODP (RFC 2409, 3526), ECP (RFC 5903, 5114) and Brainpool (RFC 6954); `awslc` has the
//! other curves. The peer's value is checked before it is used (RFC 6989).

use std::sync::OnceLock;

use boring::bn::{BigNum, BigNumContext, BigNumRef};
use boring::ec::{EcGroup, EcGroupRef, EcKey, EcPoint};
use boring::nid::Nid;
use boring::pkey::Public;
use zeroize::Zeroizing;

use super::curves;
use crate::crypto::sntrup::Sntrup761X25519;
use crate::crypto::{ActiveKeyExchange, CryptoError, KeyExchange, Rng, SecretBytes, awslc};
use crate::sys::bssl;
use crate::wire::registry::KeId;

pub(super) static KEY_EXCHANGES: &[&dyn KeyExchange] = &[
    &awslc::CURVE_25519,
    &awslc::ECP_384,
    &awslc::ECP_521,
    &EC[0],
    &EC[1],
    &EC[2],
    &EC[3],
    &EC[4],
    &EC[5],
    &EC[6],
    &MODP[0],
    &MODP[1],
    &MODP[2],
    &MODP[3],
    &MODP[4],
    &MODP[5],
    &MODP[6],
    &MODP[7],
    &Sntrup761X25519(&awslc::CURVE_25519),
];

static EC: [EcGroupKex; 7] = [
    EcGroupKex::new(KeId::ECP_256, 32, Curve::Named(Nid::X9_62_PRIME256V1)),
    EcGroupKex::new(KeId::ECP_224, 28, Curve::Named(Nid::SECP224R1)),
    EcGroupKex::new(KeId::ECP_192, 24, Curve::Explicit(&curves::PRIME_192)),
    EcGroupKex::new(
        KeId::BRAINPOOL_224,
        28,
        Curve::Explicit(&curves::BRAINPOOL_224),
    ),
    EcGroupKex::new(
        KeId::BRAINPOOL_256,
        32,
        Curve::Explicit(&curves::BRAINPOOL_256),
    ),
    EcGroupKex::new(
        KeId::BRAINPOOL_384,
        48,
        Curve::Explicit(&curves::BRAINPOOL_384),
    ),
    EcGroupKex::new(
        KeId::BRAINPOOL_512,
        64,
        Curve::Explicit(&curves::BRAINPOOL_512),
    ),
];

static MODP: [Modp; 8] = [
    Modp::new(KeId::MODP_2048, 256, 32, Prime::Rfc3526(2048)),
    Modp::new(KeId::MODP_3072, 384, 35, Prime::Rfc3526(3072)),
    Modp::new(KeId::MODP_4096, 512, 41, Prime::Rfc3526(4096)),
    Modp::new(KeId::MODP_6144, 768, 47, Prime::Rfc3526(6144)),
    Modp::new(KeId::MODP_8192, 1024, 50, Prime::Rfc3526(8192)),
    Modp::new(KeId::MODP_1536, 192, 32, Prime::Rfc3526(1536)),
    Modp::new(KeId::MODP_1024, 128, 32, Prime::Text(OAKLEY_1024)),
    Modp::new(KeId::MODP_768, 96, 32, Prime::Text(OAKLEY_768)),
];

enum Curve {
    Named(Nid),
    Explicit(&'static [&'static str; 6]),
}

struct EcGroupKex {
    id: KeId,
    /// Bytes of one coordinate.
    width: usize,
    curve: Curve,
    group: OnceLock<Option<EcGroup>>,
}

impl EcGroupKex {
    const fn new(id: KeId, width: usize, curve: Curve) -> Self {
        Self {
            id,
            width,
            curve,
            group: OnceLock::new(),
        }
    }

    fn group(&self) -> Result<&EcGroupRef, CryptoError> {
        let make = || match &self.curve {
            Curve::Named(nid) => EcGroup::from_curve_name(*nid).ok(),
            Curve::Explicit(parameters) => explicit(parameters).ok(),
        };
        self.group
            .get_or_init(make)
            .as_deref()
            .ok_or(CryptoError::Library)
    }
}

fn explicit(parameters: &[&str; 6]) -> Result<EcGroup, CryptoError> {
    let [p, a, b, x, y, order] = parameters;
    let number = |text: &str| BigNum::from_hex_str(text);
    let numbers = [
        number(p)?,
        number(a)?,
        number(b)?,
        number(x)?,
        number(y)?,
        number(order)?,
    ];
    Ok(bssl::curve(&numbers)?)
}

/// `x | y` as a point of the curve; anything else is refused.
fn point(group: &EcGroupRef, width: usize, public: &[u8]) -> Result<EcPoint, CryptoError> {
    if public.len() != 2 * width {
        return Err(CryptoError::PublicLength);
    }
    let mut uncompressed = vec![4];
    uncompressed.extend_from_slice(public);
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(group, &uncompressed, &mut context)
        .map_err(|_| CryptoError::PublicValue)?;
    let on_curve = point.is_on_curve(group, &mut context).unwrap_or(false);
    if on_curve && !point.is_infinity(group) {
        Ok(point)
    } else {
        Err(CryptoError::PublicValue)
    }
}

impl KeyExchange for EcGroupKex {
    fn id(&self) -> KeId {
        self.id
    }

    fn public_len(&self) -> usize {
        2 * self.width
    }

    fn check_public(&self, peer_public: &[u8]) -> Result<(), CryptoError> {
        if peer_public.len() == 2 * self.width {
            Ok(())
        } else {
            Err(CryptoError::PublicLength)
        }
    }

    fn start(&self, rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let group = self.group()?;
        let mut context = BigNumContext::new()?;
        // The library generates no keys for orders below 224 bits, which P-192 needs.
        let secret = scalar(group, rng, &mut context)?;
        let mut point = EcPoint::new(group)?;
        point.mul_generator(group, &secret, &mut context)?;
        let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
        point.affine_coordinates_gfp(group, &mut x, &mut y, &mut context)?;
        let mut public = x.to_vec_padded(self.width)?;
        public.extend(y.to_vec_padded(self.width)?);
        Ok(Box::new(ActiveEc {
            secret,
            own: EcKey::from_public_key(group, &point)?,
            public,
            width: self.width,
        }))
    }
}

/// A secret from 1 to one less than the order, each as likely as the other (RFC 5903, 7): drawn again
/// until it is in range.
fn scalar(
    group: &EcGroupRef,
    rng: &mut Rng,
    context: &mut BigNumContext,
) -> Result<BigNum, CryptoError> {
    let mut order = BigNum::new()?;
    group.order(&mut order, context)?;
    let bits = usize::try_from(order.num_bits()).map_err(|_| CryptoError::Library)?;
    let mut bytes = Zeroizing::new(vec![0; bits.div_ceil(8)]);
    loop {
        rng.fill(&mut bytes);
        if let Some(top) = bytes.first_mut() {
            *top &= 0xff >> (bits.next_multiple_of(8) - bits);
        }
        let mut secret = BigNum::from_slice(&bytes)?;
        if secret.num_bits() > 0 && secret < order {
            return Ok(secret);
        }
        secret.clear();
    }
}

struct ActiveEc {
    secret: BigNum,
    /// The public point, which brings its group.
    own: EcKey<Public>,
    public: Vec<u8>,
    width: usize,
}

impl Drop for ActiveEc {
    fn drop(&mut self) {
        self.secret.clear();
    }
}

impl ActiveKeyExchange for ActiveEc {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        let group = self.own.group();
        let peer = point(group, self.width, peer_public)?;
        let mut shared = EcPoint::new(group)?;
        let mut context = BigNumContext::new()?;
        shared.mul(group, &peer, &self.secret, &mut context)?;
        if shared.is_infinity(group) {
            return Err(CryptoError::PublicValue);
        }
        // RFC 5903, 7: the shared secret is the x coordinate, in its full width.
        let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
        shared.affine_coordinates_gfp(group, &mut x, &mut y, &mut context)?;
        let secret = SecretBytes::new(x.to_vec_padded(self.width)?);
        x.clear();
        y.clear();
        Ok(secret)
    }
}

/// Where a prime comes from.
enum Prime {
    /// The library, by its length in bits.
    Rfc3526(u32),
    /// Hexadecimal digits.
    Text(&'static str),
}

struct Modp {
    id: KeId,
    /// Bytes of the prime.
    width: usize,
    /// Bytes of a secret exponent: twice the group's strength, as RFC 7919, 5.2 allows for safe
    /// primes.
    exponent_len: usize,
    prime: Prime,
    cached: OnceLock<Option<BigNum>>,
}

impl Modp {
    const fn new(id: KeId, width: usize, exponent_len: usize, prime: Prime) -> Self {
        Self {
            id,
            width,
            exponent_len,
            prime,
            cached: OnceLock::new(),
        }
    }

    fn prime(&self) -> Result<&BigNumRef, CryptoError> {
        let make = || match self.prime {
            Prime::Rfc3526(bits) => bssl::modp_prime(bits).ok(),
            Prime::Text(digits) => BigNum::from_hex_str(digits).ok(),
        };
        self.cached
            .get_or_init(make)
            .as_deref()
            .ok_or(CryptoError::Library)
    }
}

/// RFC 6989, 2.1: 1 < y < p - 1.
fn modp_value(prime: &BigNumRef, width: usize, public: &[u8]) -> Result<BigNum, CryptoError> {
    if public.len() != width {
        return Err(CryptoError::PublicLength);
    }
    let value = BigNum::from_slice(public)?;
    let one = BigNum::from_u32(1)?;
    let mut below = BigNum::new()?;
    below.checked_sub(prime, &one)?;
    if value > one && value < below {
        Ok(value)
    } else {
        Err(CryptoError::PublicValue)
    }
}

impl KeyExchange for Modp {
    fn id(&self) -> KeId {
        self.id
    }

    fn public_len(&self) -> usize {
        self.width
    }

    fn check_public(&self, peer_public: &[u8]) -> Result<(), CryptoError> {
        modp_value(self.prime()?, self.width, peer_public).map(|_| ())
    }

    fn start(&self, rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let mut bytes = Zeroizing::new(vec![0; self.exponent_len]);
        rng.fill(&mut bytes);
        // The top bit is set, so that every exponent has the same length and none is small.
        if let Some(top) = bytes.first_mut() {
            *top |= 0x80;
        }
        let secret = BigNum::from_slice(&bytes)?;
        let generator = BigNum::from_u32(2)?;
        let prime = self.prime()?;
        let public = bssl::mod_exp(&generator, &secret, prime)?.to_vec_padded(self.width)?;
        let prime = prime.to_owned()?;
        Ok(Box::new(ActiveModp {
            secret,
            public,
            prime,
            width: self.width,
        }))
    }
}

struct ActiveModp {
    secret: BigNum,
    public: Vec<u8>,
    prime: BigNum,
    width: usize,
}

impl Drop for ActiveModp {
    fn drop(&mut self) {
        self.secret.clear();
    }
}

impl ActiveKeyExchange for ActiveModp {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        let peer = modp_value(&self.prime, self.width, peer_public)?;
        let mut shared = bssl::mod_exp(&peer, &self.secret, &self.prime)?;
        let secret = SecretBytes::new(shared.to_vec_padded(self.width)?);
        shared.clear();
        Ok(secret)
    }
}

/// RFC 2409, 6.1.
const OAKLEY_768: &str = concat!(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
    "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
    "4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a3620ffffffffffffffff",
);
/// RFC 2409, 6.2.
const OAKLEY_1024: &str = concat!(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
    "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
    "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff",
);
