//! The algorithms of a [`Provider`] for simulation and fuzzing: fast, the same bytes for the same
//! seed, and WITHOUT ANY SECURITY. Names and lengths are those of the real algorithms, and a
//! changed bit is always noticed, so everything above behaves as it does in life. Compiled for
//! tests and with the `sim` feature only.

use std::ops::Range;

use super::{
    ActiveKeyExchange, Cipher, CryptoError, Integ, KeyExchange, MessageKey, Prf, Provider, Rng,
    SecretBytes,
};
use crate::wire::registry::{EncrId, HashAlgorithm, IntegId, KeId, PrfId};

/// The tables.
pub fn provider() -> Provider {
    Provider {
        prfs: PRFS,
        integs: INTEGS,
        ciphers: CIPHERS,
        key_exchanges: KEY_EXCHANGES,
        sha1: |parts| digest(b"sha1", parts),
        sha256: |parts| digest(b"sha256", parts),
        equal: |a, b| a == b,
        signature_hashes: &[HashAlgorithm::SHA2_256, HashAlgorithm::IDENTITY],
    }
}

/// Two lanes of 64 bits. Each step is a bijection of the first lane for any word, so two inputs of
/// one length that differ in one word never meet again in it.
#[derive(Clone, Copy)]
struct Mixer {
    a: u64,
    b: u64,
}

impl Mixer {
    fn new(key: &[u8]) -> Self {
        let mut mixer = Self {
            a: LANE_A,
            b: LANE_B,
        };
        mixer.absorb(key);
        mixer
    }

    fn word(&mut self, word: u64) {
        self.a = (self.a ^ word).wrapping_mul(ODD_A).rotate_left(29);
        self.b = (self.b ^ self.a).wrapping_mul(ODD_B).rotate_left(31);
    }

    fn absorb(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    /// Fills `out`; its first eight bytes show the first lane whole.
    fn squeeze(mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let word = (self.a ^ self.a >> 32).to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
            self.word(self.b);
        }
    }
}

fn digest<const N: usize>(key: &[u8], parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    mix(key, parts, &mut out);
    out
}

/// Where one part ends and the next begins makes no difference, as with a real PRF.
fn mix(key: &[u8], parts: &[&[u8]], out: &mut [u8]) {
    let mut mixer = Mixer::new(key);
    mixer.absorb(&parts.concat());
    mixer.squeeze(out);
}

struct NullPrf {
    id: PrfId,
    output_len: usize,
}

impl Prf for NullPrf {
    fn id(&self) -> PrfId {
        self.id
    }

    fn output_len(&self) -> usize {
        self.output_len
    }

    fn compute(&self, key: &[u8], parts: &[&[u8]], out: &mut [u8]) {
        mix(key, parts, out);
    }

    fn plus(&self, key: &[u8], parts: &[&[u8]], out: &mut [u8]) -> Result<(), CryptoError> {
        if out.len() > 255 * self.output_len {
            return Err(CryptoError::KeyLength);
        }
        mix(key, parts, out);
        Ok(())
    }
}

struct NullInteg {
    id: IntegId,
    key_len: usize,
    icv_len: usize,
}

impl Integ for NullInteg {
    fn id(&self) -> IntegId {
        self.id
    }

    fn key_len(&self) -> usize {
        self.key_len
    }

    fn icv_len(&self) -> usize {
        self.icv_len
    }
}

struct NullCipher {
    id: EncrId,
    /// Bytes of key material beside the key proper; an AEAD has some.
    salt_len: usize,
    icv_len: usize,
    lengths: &'static [Option<u16>],
}

impl Cipher for NullCipher {
    fn id(&self) -> EncrId {
        self.id
    }

    fn is_aead(&self) -> bool {
        self.salt_len > 0
    }

    fn key_material_len(&self, key_length_bits: Option<u16>) -> Option<usize> {
        let known = self.lengths.contains(&key_length_bits);
        known.then(|| usize::from(key_length_bits.unwrap_or(256)) / 8 + self.salt_len)
    }

    fn key(
        &self,
        encr_key: &[u8],
        integ: Option<(&'static dyn Integ, &[u8])>,
    ) -> Result<Box<dyn MessageKey>, CryptoError> {
        if integ.is_some() == self.is_aead() {
            return Err(CryptoError::KeyLength);
        }
        let (icv_len, mac) = match integ {
            Some((integ, key)) if key.len() == integ.key_len() => (integ.icv_len(), key),
            Some(_) => return Err(CryptoError::KeyLength),
            None => (self.icv_len, encr_key),
        };
        let (iv_len, block_len) = if self.is_aead() { (8, 1) } else { (16, 16) };
        Ok(Box::new(NullKey {
            encr: Mixer::new(encr_key),
            mac: Mixer::new(mac),
            iv_len,
            block_len,
            icv_len,
        }))
    }
}

struct NullKey {
    encr: Mixer,
    mac: Mixer,
    iv_len: usize,
    block_len: usize,
    icv_len: usize,
}

impl NullKey {
    fn tag(&self, message: &[u8]) -> Vec<u8> {
        let mut tag = vec![0; self.icv_len];
        let mut mac = self.mac;
        mac.absorb(message);
        mac.squeeze(&mut tag);
        tag
    }

    /// Encrypts and decrypts.
    fn stream(&self, body: &mut [u8]) -> Result<(), CryptoError> {
        let (iv, data) = body
            .split_at_mut_checked(self.iv_len)
            .ok_or(CryptoError::Integrity)?;
        let mut mixer = self.encr;
        mixer.absorb(iv);
        let mut pad = vec![0; data.len()];
        mixer.squeeze(&mut pad);
        for (byte, pad) in data.iter_mut().zip(pad) {
            *byte ^= pad;
        }
        Ok(())
    }
}

impl MessageKey for NullKey {
    fn iv_len(&self) -> usize {
        self.iv_len
    }

    fn block_len(&self) -> usize {
        self.block_len
    }

    fn icv_len(&self) -> usize {
        self.icv_len
    }

    fn seal(
        &self,
        message: &mut Vec<u8>,
        iv_at: usize,
        counter: u64,
        rng: &mut Rng,
    ) -> Result<(), CryptoError> {
        let body = message.get_mut(iv_at..).ok_or(CryptoError::Library)?;
        let iv = body.get_mut(..self.iv_len).ok_or(CryptoError::Library)?;
        if self.block_len == 1 {
            iv.copy_from_slice(&counter.to_be_bytes());
        } else {
            rng.fill(iv);
        }
        self.stream(body)?;
        let tag = self.tag(message);
        message.extend_from_slice(&tag);
        Ok(())
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, CryptoError> {
        let end = message
            .len()
            .checked_sub(self.icv_len)
            .ok_or(CryptoError::Integrity)?;
        let data_at = iv_at + self.iv_len;
        let data_len = end.checked_sub(data_at).ok_or(CryptoError::Integrity)?;
        if data_len % self.block_len != 0 || self.block_len > 1 && data_len == 0 {
            return Err(CryptoError::Integrity);
        }
        let (protected, icv) = message.split_at_mut(end);
        if self.tag(protected) != icv {
            return Err(CryptoError::Integrity);
        }
        let body = protected.get_mut(iv_at..).ok_or(CryptoError::Integrity)?;
        self.stream(body)?;
        Ok(data_at..end)
    }
}

/// Powers of 7 modulo 2^61 - 1 in a field as long as the real one.
struct NullKex {
    id: KeId,
    public_len: usize,
    shared_len: usize,
}

impl KeyExchange for NullKex {
    fn id(&self) -> KeId {
        self.id
    }

    fn public_len(&self) -> usize {
        self.public_len
    }

    fn check_public(&self, peer_public: &[u8]) -> Result<(), CryptoError> {
        if peer_public.len() != self.public_len {
            return Err(CryptoError::PublicLength);
        }
        number(peer_public).map(|_| ())
    }

    fn start(&self, rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let secret = rng.below(MODULUS - 3) + 2;
        let mut public = vec![0; self.public_len - 8];
        public.extend_from_slice(&power(7, secret).to_be_bytes());
        Ok(Box::new(ActiveNullKex {
            secret,
            public,
            shared_len: self.shared_len,
        }))
    }
}

struct ActiveNullKex {
    secret: u64,
    public: Vec<u8>,
    shared_len: usize,
}

impl ActiveKeyExchange for ActiveNullKex {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        if peer_public.len() != self.public.len() {
            return Err(CryptoError::PublicLength);
        }
        let shared = power(number(peer_public)?, self.secret);
        let mut out = vec![0; self.shared_len];
        mix(&shared.to_be_bytes(), &[], &mut out);
        Ok(SecretBytes::new(out))
    }
}

/// The number in a public value: its last eight bytes, the rest zero.
fn number(public: &[u8]) -> Result<u64, CryptoError> {
    let (zeros, last) = public
        .split_last_chunk::<8>()
        .ok_or(CryptoError::PublicLength)?;
    let value = u64::from_be_bytes(*last);
    if zeros.iter().any(|&byte| byte != 0) || !(2..MODULUS - 1).contains(&value) {
        return Err(CryptoError::PublicValue);
    }
    Ok(value)
}

fn power(base: u64, mut exponent: u64) -> u64 {
    let times = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b) % u128::from(MODULUS);
        u64::try_from(product).unwrap_or(0)
    };
    let (mut result, mut square) = (1, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    result
}

const fn prf(id: PrfId, output_len: usize) -> NullPrf {
    NullPrf { id, output_len }
}

const fn integ(id: IntegId, key_len: usize, icv_len: usize) -> NullInteg {
    NullInteg {
        id,
        key_len,
        icv_len,
    }
}

const fn aead(id: EncrId, icv_len: usize, lengths: &'static [Option<u16>]) -> NullCipher {
    NullCipher {
        id,
        salt_len: 4,
        icv_len,
        lengths,
    }
}

const fn kex(id: KeId, public_len: usize, shared_len: usize) -> NullKex {
    NullKex {
        id,
        public_len,
        shared_len,
    }
}

static PRFS: &[&dyn Prf] = &[
    &prf(PrfId::HMAC_SHA2_256, 32),
    &prf(PrfId::HMAC_SHA2_384, 48),
    &prf(PrfId::HMAC_SHA2_512, 64),
    &prf(PrfId::HMAC_SHA1, 20),
];

static INTEGS: &[&dyn Integ] = &[
    &integ(IntegId::HMAC_SHA2_256_128, 32, 16),
    &integ(IntegId::HMAC_SHA2_384_192, 48, 24),
    &integ(IntegId::HMAC_SHA2_512_256, 64, 32),
    &integ(IntegId::HMAC_SHA1_96, 20, 12),
];

const AES: &[Option<u16>] = &[Some(128), Some(192), Some(256)];

static CIPHERS: &[&dyn Cipher] = &[
    &aead(EncrId::AES_GCM_16, 16, AES),
    &aead(EncrId::AES_GCM_12, 12, AES),
    &aead(EncrId::CHACHA20_POLY1305, 16, &[None, Some(256)]),
    &NullCipher {
        id: EncrId::AES_CBC,
        salt_len: 0,
        icv_len: 0,
        lengths: AES,
    },
];

static KEY_EXCHANGES: &[&dyn KeyExchange] = &[
    &kex(KeId::CURVE25519, 32, 32),
    &kex(KeId::ECP_256, 64, 32),
    &kex(KeId::ECP_384, 96, 48),
    &kex(KeId::MODP_2048, 256, 256),
];

/// A prime.
const MODULUS: u64 = (1 << 61) - 1;
const LANE_A: u64 = 0x9e37_79b9_7f4a_7c15;
const LANE_B: u64 = 0xc2b2_ae3d_27d4_eb4f;
const ODD_A: u64 = 0xff51_afd7_ed55_8ccd;
const ODD_B: u64 = 0xc4ce_b9fe_1a85_ec53;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring;

    #[test]
    fn every_algorithm_has_the_lengths_of_the_real_one() {
        let real = boring::provider();
        for prf in PRFS {
            let real = real.prf(prf.id()).unwrap();
            assert_eq!(prf.output_len(), real.output_len(), "{}", prf.id());
        }
        for integ in INTEGS {
            let real = real.integ(integ.id()).unwrap();
            assert_eq!(integ.key_len(), real.key_len(), "{}", integ.id());
            assert_eq!(integ.icv_len(), real.icv_len(), "{}", integ.id());
        }
        for cipher in CIPHERS {
            let real = real.cipher(cipher.id()).unwrap();
            assert_eq!(cipher.is_aead(), real.is_aead(), "{}", cipher.id());
            for bits in [None, Some(64), Some(128), Some(192), Some(256)] {
                let len = cipher.key_material_len(bits);
                assert_eq!(len, real.key_material_len(bits), "{}", cipher.id());
            }
        }
        for kex in KEY_EXCHANGES {
            let rng = &mut Rng::from_seed([1; 32]);
            let real = real.key_exchange(kex.id()).unwrap();
            assert_eq!(kex.public_len(), real.public_len(), "{}", kex.id());
            let shared = |method: &dyn KeyExchange, rng: &mut Rng| {
                let (a, b) = (method.start(rng).unwrap(), method.start(rng).unwrap());
                let (public_a, public_b) = (a.public().to_vec(), b.public().to_vec());
                method.check_public(&public_a).unwrap();
                let (one, other) = (
                    a.complete(&public_b).unwrap(),
                    b.complete(&public_a).unwrap(),
                );
                assert_eq!(one.expose(), other.expose(), "{}", method.id());
                one.expose().len()
            };
            assert_eq!(shared(*kex, rng), shared(real, rng), "{}", kex.id());
        }
    }

    #[test]
    fn what_was_sealed_opens_and_one_changed_bit_is_refused() {
        let rng = &mut Rng::from_seed([2; 32]);
        for cipher in CIPHERS {
            let bits = [None, Some(256)].into_iter();
            let bits = bits
                .rev()
                .find(|&bits| cipher.key_material_len(bits).is_some());
            let key = vec![7; cipher.key_material_len(bits.unwrap()).unwrap()];
            let integ = (!cipher.is_aead()).then(|| (INTEGS[0], &[9u8; 32][..]));
            let key = cipher.key(&key, integ).unwrap();
            let clear = [3u8; 32];
            let mut sealed = [&[1u8; 32][..], &vec![0; key.iv_len()], &clear].concat();
            key.seal(&mut sealed, 32, 5, rng).unwrap();
            for bit in 0..sealed.len() * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(&mut changed, 32), Err(CryptoError::Integrity));
            }
            assert_ne!(sealed[32 + key.iv_len()..][..32], clear);
            let range = key.open(&mut sealed, 32).unwrap();
            assert_eq!(sealed[range], clear);
        }
    }

    #[test]
    fn a_prf_sees_one_string_whatever_its_parts() {
        let prf = PRFS[0];
        let (mut one, mut other, mut third) = ([0; 32], [0; 32], [0; 32]);
        prf.compute(b"key", &[b"ab", b"c"], &mut one);
        prf.compute(b"key", &[b"a", b"bc"], &mut other);
        prf.compute(b"kez", &[b"abc"], &mut third);
        assert_eq!(one, other);
        assert_ne!(one, third);
        assert!(prf.plus(b"key", &[], &mut vec![0; 255 * 32 + 1]).is_err());
    }
}
