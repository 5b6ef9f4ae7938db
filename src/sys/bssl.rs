//! BoringSSL where the `boring` crate has no safe call that is fast enough or no call at all: keyed
//! HMAC states that are copied instead of rekeyed, AEADs with short tags, CBC in place, X25519,
//! constant-time exponentiation, and curves that have no name there.

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use boring::bn::{BigNum, BigNumContext, BigNumRef};
use boring::ec::EcGroup;
use boring_sys as ffi;
use foreign_types::{ForeignType, ForeignTypeRef};
use zeroize::Zeroizing;

/// The library refused; it says why only to its own error queue, which is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure;

pub(super) fn check(result: i32) -> Result<(), Failure> {
    if result == 1 {
        return Ok(());
    }
    // SAFETY: no arguments; clears this thread's error queue.
    unsafe { ffi::ERR_clear_error() };
    Err(Failure)
}

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    fn md(self) -> *const ffi::EVP_MD {
        // SAFETY: these return pointers to static tables.
        unsafe {
            match self {
                Self::Md5 => ffi::EVP_md5(),
                Self::Sha1 => ffi::EVP_sha1(),
                Self::Sha256 => ffi::EVP_sha256(),
                Self::Sha384 => ffi::EVP_sha384(),
                Self::Sha512 => ffi::EVP_sha512(),
            }
        }
    }
}

/// HMAC with its key already absorbed.
#[derive(Debug)]
pub struct HmacKey(NonNull<ffi::HMAC_CTX>);

// SAFETY: the context is only written while it is made; computing copies it.
unsafe impl Send for HmacKey {}
// SAFETY: as above.
unsafe impl Sync for HmacKey {}

impl HmacKey {
    /// Absorbs a key of any length.
    pub fn new(hash: Hash, key: &[u8]) -> Result<Self, Failure> {
        // SAFETY: allocates a context, null on failure.
        let context = NonNull::new(unsafe { ffi::HMAC_CTX_new() }).ok_or(Failure)?;
        let made = Self(context);
        // SAFETY: made by HMAC_CTX_new.
        unsafe { absorb(made.0.as_ptr(), hash, key) }?;
        Ok(made)
    }

    /// HMAC of the parts, one after the other; fills `out` with its first bytes.
    pub fn compute<'a>(
        &self,
        parts: impl IntoIterator<Item = &'a [u8]>,
        out: &mut [u8],
    ) -> Result<(), Failure> {
        let mut context = Scratch::new();
        // SAFETY: both contexts are live, the scratch one initialised.
        check(unsafe { ffi::HMAC_CTX_copy_ex(context.0.as_mut_ptr(), self.0.as_ptr()) })?;
        context.finish(parts, out)
    }
}

/// HMAC of the parts with a key that is used this once; fills `out` with its first bytes.
pub fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]], out: &mut [u8]) -> Result<(), Failure> {
    let mut context = Scratch::new();
    context.absorb(hash, key)?;
    context.finish(parts.iter().copied(), out)
}

impl Drop for HmacKey {
    fn drop(&mut self) {
        // SAFETY: made by HMAC_CTX_new, freed once; BoringSSL wipes what it frees.
        unsafe { ffi::HMAC_CTX_free(self.0.as_ptr()) };
    }
}

/// # Safety
///
/// The context must be initialised.
unsafe fn absorb(context: *mut ffi::HMAC_CTX, hash: Hash, key: &[u8]) -> Result<(), Failure> {
    // SAFETY: the caller's promise; key pointer and length are those of a slice.
    check(unsafe {
        ffi::HMAC_Init_ex(
            context,
            key.as_ptr().cast(),
            key.len(),
            hash.md(),
            ptr::null_mut(),
        )
    })
}

/// A context on the stack.
struct Scratch(MaybeUninit<ffi::HMAC_CTX>);

impl Scratch {
    fn new() -> Self {
        let mut context = MaybeUninit::uninit();
        // SAFETY: HMAC_CTX_init makes uninitialised memory a valid, empty context.
        unsafe { ffi::HMAC_CTX_init(context.as_mut_ptr()) };
        Self(context)
    }

    fn absorb(&mut self, hash: Hash, key: &[u8]) -> Result<(), Failure> {
        // SAFETY: initialised in `new`.
        unsafe { absorb(self.0.as_mut_ptr(), hash, key) }
    }

    /// Takes the parts and fills `out` with the first bytes of the HMAC.
    fn finish<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a [u8]>,
        out: &mut [u8],
    ) -> Result<(), Failure> {
        let pointer = self.0.as_mut_ptr();
        for part in parts {
            // SAFETY: the context is live; pointer and length are those of a slice.
            check(unsafe { ffi::HMAC_Update(pointer, part.as_ptr(), part.len()) })?;
        }
        let mut full = [0u8; ffi::EVP_MAX_MD_SIZE as usize];
        let mut length = 0;
        // SAFETY: `full` has room for the longest digest.
        check(unsafe { ffi::HMAC_Final(pointer, full.as_mut_ptr(), &raw mut length) })?;
        let length = (length as usize).min(out.len());
        let result = match (out.get_mut(..length), full.get(..length)) {
            (Some(out), Some(full)) => {
                out.copy_from_slice(full);
                Ok(())
            }
            (_, _) => Err(Failure),
        };
        zeroize::Zeroize::zeroize(&mut full);
        result
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, cleaned up once.
        unsafe { ffi::HMAC_CTX_cleanup(self.0.as_mut_ptr()) };
    }
}

/// An AEAD of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aead {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-192-GCM.
    Aes192Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Aead {
    const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    fn method(self) -> *const ffi::EVP_AEAD {
        // SAFETY: these return pointers to static tables.
        unsafe {
            match self {
                Self::Aes128Gcm => ffi::EVP_aead_aes_128_gcm(),
                Self::Aes192Gcm => ffi::EVP_aead_aes_192_gcm(),
                Self::Aes256Gcm => ffi::EVP_aead_aes_256_gcm(),
                Self::ChaCha20Poly1305 => ffi::EVP_aead_chacha20_poly1305(),
            }
        }
    }
}

/// An AEAD key. Nonces are 12 bytes.
///
/// It is kept as it came, and made ready on the stack for each message: that takes a quarter of a
/// microsecond, where a ready key would take 576 bytes for as long as its IKE SA lives, which is
/// silent most of the time.
pub struct AeadKey {
    aead: Aead,
    tag_len: u8,
    /// The key and zeros behind it.
    key: Zeroizing<[u8; AEAD_KEY_MAX]>,
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AeadKey({:?})", self.aead)
    }
}

impl AeadKey {
    /// A key with tags of `tag_len` bytes, 16 at most.
    pub fn new(aead: Aead, key: &[u8], tag_len: usize) -> Result<Self, Failure> {
        if key.len() != aead.key_len() || !(1..=AEAD_TAG_MAX).contains(&tag_len) {
            return Err(Failure);
        }
        let mut kept = Zeroizing::new([0; AEAD_KEY_MAX]);
        kept.get_mut(..key.len())
            .ok_or(Failure)?
            .copy_from_slice(key);
        Ok(Self {
            aead,
            tag_len: u8::try_from(tag_len).map_err(|_| Failure)?,
            key: kept,
        })
    }

    /// Encrypts `data` in place and writes the tag, which fills `tag`.
    pub fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), Failure> {
        let mut ready = ReadyKey::new();
        ready.init(self)?;
        let mut tag_len = 0;
        // SAFETY: the context is initialised; all pointers and lengths are those of live slices;
        // output and input may be the same buffer, and the tag is written to at most tag.len() bytes.
        check(unsafe {
            ffi::EVP_AEAD_CTX_seal_scatter(
                ready.0.as_ptr(),
                data.as_mut_ptr(),
                tag.as_mut_ptr(),
                &raw mut tag_len,
                tag.len(),
                nonce.as_ptr(),
                nonce.len(),
                data.as_ptr(),
                data.len(),
                ptr::null(),
                0,
                aad.as_ptr(),
                aad.len(),
            )
        })?;
        if tag_len == tag.len() {
            Ok(())
        } else {
            Err(Failure)
        }
    }

    /// Checks the tag and decrypts `data` in place.
    pub fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Failure> {
        let mut ready = ReadyKey::new();
        ready.init(self)?;
        // SAFETY: the context is initialised; all pointers and lengths are those of live slices; in
        // place is allowed.
        check(unsafe {
            ffi::EVP_AEAD_CTX_open_gather(
                ready.0.as_ptr(),
                data.as_mut_ptr(),
                nonce.as_ptr(),
                nonce.len(),
                data.as_ptr(),
                data.len(),
                tag.as_ptr(),
                tag.len(),
                aad.as_ptr(),
                aad.len(),
            )
        })
    }
}

/// A key made ready, on the stack.
struct ReadyKey(MaybeUninit<ffi::EVP_AEAD_CTX>);

impl ReadyKey {
    /// No key yet; it may still be moved.
    fn new() -> Self {
        let mut context = MaybeUninit::uninit();
        // SAFETY: EVP_AEAD_CTX_zero makes uninitialised memory a valid, empty context.
        unsafe { ffi::EVP_AEAD_CTX_zero(context.as_mut_ptr()) };
        Self(context)
    }

    fn init(&mut self, key: &AeadKey) -> Result<(), Failure> {
        // SAFETY: the context is empty; the key has as many bytes as its algorithm wants.
        check(unsafe {
            ffi::EVP_AEAD_CTX_init(
                self.0.as_mut_ptr(),
                key.aead.method(),
                key.key.as_ptr(),
                key.aead.key_len(),
                key.tag_len.into(),
                ptr::null_mut(),
            )
        })
    }
}

impl Drop for ReadyKey {
    fn drop(&mut self) {
        let context = self.0.as_mut_ptr();
        // SAFETY: made valid in `new`, cleaned up once, then overwritten as the plain bytes it is.
        unsafe {
            ffi::EVP_AEAD_CTX_cleanup(context);
            ffi::OPENSSL_cleanse(context.cast(), size_of::<ffi::EVP_AEAD_CTX>());
        }
    }
}

/// Bytes of the longest key and of the longest tag of an AEAD.
const AEAD_KEY_MAX: usize = 32;
const AEAD_TAG_MAX: usize = 16;

/// A block cipher in CBC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cbc {
    /// AES-128.
    Aes128,
    /// AES-192.
    Aes192,
    /// AES-256.
    Aes256,
    /// Triple DES with three keys.
    Des3,
}

impl Cbc {
    fn shape(self) -> (*const ffi::EVP_CIPHER, usize, usize) {
        // SAFETY: these return pointers to static tables.
        unsafe {
            match self {
                Self::Aes128 => (ffi::EVP_aes_128_cbc(), 16, 16),
                Self::Aes192 => (ffi::EVP_aes_192_cbc(), 24, 16),
                Self::Aes256 => (ffi::EVP_aes_256_cbc(), 32, 16),
                Self::Des3 => (ffi::EVP_des_ede3_cbc(), 24, 8),
            }
        }
    }

    /// Encrypts or decrypts whole blocks in place, without padding.
    pub fn run(self, encrypt: bool, key: &[u8], iv: &[u8], data: &mut [u8]) -> Result<(), Failure> {
        let (cipher, key_len, block_len) = self.shape();
        let data_len = i32::try_from(data.len()).map_err(|_| Failure)?;
        if key.len() != key_len || iv.len() != block_len || !data.len().is_multiple_of(block_len) {
            return Err(Failure);
        }
        let mut context = MaybeUninit::<ffi::EVP_CIPHER_CTX>::uninit();
        let pointer = context.as_mut_ptr();
        let mut written = 0;
        // SAFETY: the context is initialised before use and cleaned up after it; key and IV have
        // the lengths of the cipher; whole blocks without padding give as many bytes as they take.
        let result = unsafe {
            ffi::EVP_CIPHER_CTX_init(pointer);
            let mut result = ffi::EVP_CipherInit_ex(
                pointer,
                cipher,
                ptr::null_mut(),
                key.as_ptr(),
                iv.as_ptr(),
                i32::from(encrypt),
            );
            if result == 1 {
                result = ffi::EVP_CIPHER_CTX_set_padding(pointer, 0);
            }
            if result == 1 {
                result = ffi::EVP_CipherUpdate(
                    pointer,
                    data.as_mut_ptr(),
                    &raw mut written,
                    data.as_ptr(),
                    data_len,
                );
            }
            ffi::EVP_CIPHER_CTX_cleanup(pointer);
            result
        };
        check(result)?;
        if written == data_len {
            Ok(())
        } else {
            Err(Failure)
        }
    }
}

/// `base ^ exponent mod modulus` in time that does not depend on the exponent.
pub fn mod_exp(
    base: &BigNumRef,
    exponent: &BigNumRef,
    modulus: &BigNumRef,
) -> Result<BigNum, Failure> {
    let result = BigNum::new().map_err(|_| Failure)?;
    let context = BigNumContext::new().map_err(|_| Failure)?;
    // SAFETY: all numbers and the context are live; no Montgomery context is passed.
    check(unsafe {
        ffi::BN_mod_exp_mont_consttime(
            result.as_ptr(),
            base.as_ptr(),
            exponent.as_ptr(),
            modulus.as_ptr(),
            context.as_ptr(),
            ptr::null(),
        )
    })?;
    Ok(result)
}

/// The primes of RFC 3526, by their length in bits.
pub fn modp_prime(bits: u32) -> Result<BigNum, Failure> {
    let prime = BigNum::new().map_err(|_| Failure)?;
    // SAFETY: `prime` is live; the calls write a constant to it.
    let pointer = unsafe {
        match bits {
            1536 => ffi::BN_get_rfc3526_prime_1536(prime.as_ptr()),
            2048 => ffi::BN_get_rfc3526_prime_2048(prime.as_ptr()),
            3072 => ffi::BN_get_rfc3526_prime_3072(prime.as_ptr()),
            4096 => ffi::BN_get_rfc3526_prime_4096(prime.as_ptr()),
            6144 => ffi::BN_get_rfc3526_prime_6144(prime.as_ptr()),
            8192 => ffi::BN_get_rfc3526_prime_8192(prime.as_ptr()),
            _ => ptr::null_mut(),
        }
    };
    if pointer.is_null() {
        Err(Failure)
    } else {
        Ok(prime)
    }
}

/// A curve by its parameters p, a, b, generator x and y, order; the cofactor is 1.
pub fn curve(parameters: &[BigNum; 6]) -> Result<EcGroup, Failure> {
    let [p, a, b, x, y, order] = parameters;
    let context = BigNumContext::new().map_err(|_| Failure)?;
    let one = BigNum::from_u32(1).map_err(|_| Failure)?;
    // SAFETY: all numbers and the context are live; the group is owned from here on.
    let group = unsafe {
        let group =
            ffi::EC_GROUP_new_curve_GFp(p.as_ptr(), a.as_ptr(), b.as_ptr(), context.as_ptr());
        if group.is_null() {
            return Err(Failure);
        }
        EcGroup::from_ptr(group)
    };
    let generator = boring::ec::EcPoint::new(&group).map_err(|_| Failure)?;
    // SAFETY: group, point, numbers and context are live; the point belongs to the group.
    check(unsafe {
        ffi::EC_POINT_set_affine_coordinates_GFp(
            group.as_ptr(),
            generator.as_ptr(),
            x.as_ptr(),
            y.as_ptr(),
            context.as_ptr(),
        )
    })?;
    // SAFETY: as above; the group copies the generator.
    check(unsafe {
        ffi::EC_GROUP_set_generator(
            group.as_ptr(),
            generator.as_ptr(),
            order.as_ptr(),
            one.as_ptr(),
        )
    })?;
    Ok(group)
}
