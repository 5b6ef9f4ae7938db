//! Encryption of IKE's own messages: AES-CBC and 3DES with an HMAC (RFC 7296, 3.14), AES-GCM
//! (RFC 5282) and ChaCha20-Poly1305 (RFC 7634).

use std::ops::Range;

use zeroize::{Zeroize, Zeroizing};

use super::integ_hash;
use crate::crypto::{Cipher, CryptoError, Integ, MessageKey, Rng};
use crate::sys::bssl::{Aead, AeadKey, Cbc, HmacKey};
use crate::wire::registry::EncrId;

pub(super) static CIPHERS: &[&dyn Cipher] = &[
    &AeadCipher {
        id: EncrId::AES_GCM_16,
        tag_len: 16,
    },
    &AeadCipher {
        id: EncrId::AES_GCM_12,
        tag_len: 12,
    },
    &AeadCipher {
        id: EncrId::AES_GCM_8,
        tag_len: 8,
    },
    &AeadCipher {
        id: EncrId::CHACHA20_POLY1305,
        tag_len: 16,
    },
    &CbcCipher {
        id: EncrId::AES_CBC,
    },
    &CbcCipher { id: EncrId::DES3 },
];

struct AeadCipher {
    id: EncrId,
    tag_len: usize,
}

impl AeadCipher {
    fn algorithm(&self, key_len: usize) -> Option<Aead> {
        match (self.id, key_len) {
            (EncrId::CHACHA20_POLY1305, 32) => Some(Aead::ChaCha20Poly1305),
            (EncrId::CHACHA20_POLY1305, _) => None,
            (_, 16) => Some(Aead::Aes128Gcm),
            (_, 24) => Some(Aead::Aes192Gcm),
            (_, 32) => Some(Aead::Aes256Gcm),
            (_, _) => None,
        }
    }
}

impl Cipher for AeadCipher {
    fn id(&self) -> EncrId {
        self.id
    }

    fn is_aead(&self) -> bool {
        true
    }

    fn key_material_len(&self, key_length_bits: Option<u16>) -> Option<usize> {
        match (self.id, key_length_bits) {
            // RFC 7634, 2: no Key Length attribute; a peer that sends 256 means the same.
            (EncrId::CHACHA20_POLY1305, None | Some(256)) => Some(32 + SALT_LEN),
            (EncrId::CHACHA20_POLY1305, Some(_)) => None,
            (_, Some(bits @ (128 | 192 | 256))) => Some(usize::from(bits) / 8 + SALT_LEN),
            (_, _) => None,
        }
    }

    fn key(
        &self,
        encr_key: &[u8],
        integ: Option<(&'static dyn Integ, &[u8])>,
    ) -> Result<Box<dyn MessageKey>, CryptoError> {
        let (key, salt) = encr_key.split_last_chunk().ok_or(CryptoError::KeyLength)?;
        let algorithm = self.algorithm(key.len()).ok_or(CryptoError::KeyLength)?;
        if integ.is_some() {
            return Err(CryptoError::KeyLength);
        }
        let key = AeadKey::new(algorithm, key, self.tag_len)?;
        Ok(Box::new(AeadMessageKey {
            key,
            salt: *salt,
            tag_len: self.tag_len,
        }))
    }
}

struct AeadMessageKey {
    key: AeadKey,
    salt: [u8; SALT_LEN],
    tag_len: usize,
}

impl Drop for AeadMessageKey {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

impl AeadMessageKey {
    fn nonce(&self, iv: &[u8; AEAD_IV_LEN]) -> [u8; SALT_LEN + AEAD_IV_LEN] {
        let mut nonce = [0; SALT_LEN + AEAD_IV_LEN];
        nonce[..SALT_LEN].copy_from_slice(&self.salt);
        nonce[SALT_LEN..].copy_from_slice(iv);
        nonce
    }
}

impl MessageKey for AeadMessageKey {
    fn iv_len(&self) -> usize {
        AEAD_IV_LEN
    }

    fn block_len(&self) -> usize {
        1
    }

    fn icv_len(&self) -> usize {
        self.tag_len
    }

    fn seal(
        &self,
        message: &mut Vec<u8>,
        iv_at: usize,
        counter: u64,
        _rng: &mut Rng,
    ) -> Result<(), CryptoError> {
        let (aad, body) = message
            .split_at_mut_checked(iv_at)
            .ok_or(CryptoError::Library)?;
        let (iv, data) = body.split_first_chunk_mut().ok_or(CryptoError::Library)?;
        *iv = counter.to_be_bytes();
        let mut tag = [0; TAG_MAX];
        let tag = tag.get_mut(..self.tag_len).ok_or(CryptoError::Library)?;
        self.key.seal(&self.nonce(iv), aad, data, tag)?;
        message.extend_from_slice(tag);
        Ok(())
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, CryptoError> {
        let end = message
            .len()
            .checked_sub(self.tag_len)
            .ok_or(CryptoError::Integrity)?;
        let (aad, body) = message
            .split_at_mut_checked(iv_at)
            .ok_or(CryptoError::Integrity)?;
        let (iv, rest) = body.split_first_chunk_mut().ok_or(CryptoError::Integrity)?;
        let data_len = rest
            .len()
            .checked_sub(self.tag_len)
            .ok_or(CryptoError::Integrity)?;
        let (data, tag) = rest.split_at_mut(data_len);
        self.key
            .open(&self.nonce(iv), aad, data, tag)
            .map_err(|_| CryptoError::Integrity)?;
        Ok(iv_at + AEAD_IV_LEN..end)
    }
}

struct CbcCipher {
    id: EncrId,
}

impl CbcCipher {
    fn algorithm(&self, key_len: usize) -> Option<Cbc> {
        match (self.id, key_len) {
            (EncrId::DES3, 24) => Some(Cbc::Des3),
            (EncrId::AES_CBC, 16) => Some(Cbc::Aes128),
            (EncrId::AES_CBC, 24) => Some(Cbc::Aes192),
            (EncrId::AES_CBC, 32) => Some(Cbc::Aes256),
            (_, _) => None,
        }
    }
}

impl Cipher for CbcCipher {
    fn id(&self) -> EncrId {
        self.id
    }

    fn is_aead(&self) -> bool {
        false
    }

    fn key_material_len(&self, key_length_bits: Option<u16>) -> Option<usize> {
        match (self.id, key_length_bits) {
            (EncrId::DES3, None) => Some(24),
            (EncrId::AES_CBC, Some(bits @ (128 | 192 | 256))) => Some(usize::from(bits) / 8),
            (_, _) => None,
        }
    }

    fn key(
        &self,
        encr_key: &[u8],
        integ: Option<(&'static dyn Integ, &[u8])>,
    ) -> Result<Box<dyn MessageKey>, CryptoError> {
        let cipher = self
            .algorithm(encr_key.len())
            .ok_or(CryptoError::KeyLength)?;
        let (integ, integ_key) = integ.ok_or(CryptoError::KeyLength)?;
        let hash = integ_hash(integ.id()).ok_or(CryptoError::Library)?;
        if integ_key.len() != integ.key_len() {
            return Err(CryptoError::KeyLength);
        }
        Ok(Box::new(CbcMessageKey {
            cipher,
            block_len: if cipher == Cbc::Des3 { 8 } else { 16 },
            key: Zeroizing::new(encr_key.to_vec()),
            mac: HmacKey::new(hash, integ_key)?,
            icv_len: integ.icv_len(),
        }))
    }
}

struct CbcMessageKey {
    cipher: Cbc,
    block_len: usize,
    key: Zeroizing<Vec<u8>>,
    mac: HmacKey,
    icv_len: usize,
}

impl MessageKey for CbcMessageKey {
    fn iv_len(&self) -> usize {
        self.block_len
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
        _counter: u64,
        rng: &mut Rng,
    ) -> Result<(), CryptoError> {
        let body = message.get_mut(iv_at..).ok_or(CryptoError::Library)?;
        let (iv, data) = body
            .split_at_mut_checked(self.block_len)
            .ok_or(CryptoError::Library)?;
        rng.fill(iv);
        self.cipher.run(true, &self.key, iv, data)?;
        let mut icv = [0; ICV_MAX];
        let icv = icv.get_mut(..self.icv_len).ok_or(CryptoError::Library)?;
        self.mac.compute([&**message], icv)?;
        message.extend_from_slice(icv);
        Ok(())
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, CryptoError> {
        let end = message
            .len()
            .checked_sub(self.icv_len)
            .ok_or(CryptoError::Integrity)?;
        let (protected, icv) = message.split_at_mut(end);
        let data_at = iv_at + self.block_len;
        let data_len = end.checked_sub(data_at).ok_or(CryptoError::Integrity)?;
        if data_len == 0 || data_len % self.block_len != 0 {
            return Err(CryptoError::Integrity);
        }
        let mut expected = [0; ICV_MAX];
        let expected = expected
            .get_mut(..self.icv_len)
            .ok_or(CryptoError::Library)?;
        self.mac.compute([&*protected], expected)?;
        // The checksum first: nothing is decrypted that the peer did not send.
        if !boring::memcmp::eq(expected, icv) {
            return Err(CryptoError::Integrity);
        }
        let body = protected.get_mut(iv_at..).ok_or(CryptoError::Integrity)?;
        let (iv, data) = body.split_at_mut(self.block_len);
        self.cipher.run(false, &self.key, iv, data)?;
        Ok(data_at..end)
    }
}

/// Bytes of key material that are no key but the fixed part of the nonce.
const SALT_LEN: usize = 4;
/// The IV field of RFC 5282 and RFC 7634.
const AEAD_IV_LEN: usize = 8;
const TAG_MAX: usize = 16;
/// The longest truncated HMAC, SHA-512's.
const ICV_MAX: usize = 32;
