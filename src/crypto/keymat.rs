//! From shared secrets to keys: SKEYSEED and the keys of an IKE SA (RFC 7296, 2.14 and 2.18), and
//! KEYMAT of a Child SA (2.17). Everything here is wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

use super::{Cipher, CryptoError, Integ, MessageKey, Prf, SecretBytes};
use crate::wire::registry::{EncrId, IntegId, KeId};
use crate::wire::spi::IkeSpi;
use crate::wire::{Transform, TransformId};

/// The agreed algorithms of an IKE SA.
#[derive(Clone, Copy)]
pub struct IkeSuite {
    /// Encryption.
    pub encr: &'static dyn Cipher,
    /// Its Key Length attribute in bits.
    pub key_length: Option<u16>,
    /// Integrity; none with an AEAD.
    pub integ: Option<&'static dyn Integ>,
    /// Pseudorandom function.
    pub prf: &'static dyn Prf,
    /// Key exchange method.
    pub ke: KeId,
}

impl fmt::Debug for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "IkeSuite({} {} {})",
            self.encr.id(),
            self.prf.id(),
            self.ke
        )
    }
}

/// The keys of an IKE SA.
pub struct IkeKeys {
    /// Makes the keys of Child SAs and of the next IKE SA.
    pub sk_d: SecretBytes,
    /// Enters the initiator's AUTH.
    pub sk_pi: SecretBytes,
    /// Enters the responder's AUTH.
    pub sk_pr: SecretBytes,
    /// SK_ei and SK_ai: what the original initiator sends.
    pub initiator: Box<dyn MessageKey>,
    /// SK_er and SK_ar: what the original responder sends.
    pub responder: Box<dyn MessageKey>,
}

impl fmt::Debug for IkeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IkeKeys(..)")
    }
}

/// SK_d, SK_pi and SK_pr of an IKE SA that a post-quantum pre-shared key was mixed into.
pub struct Mixed {
    sk_d: SecretBytes,
    sk_pi: SecretBytes,
    sk_pr: SecretBytes,
}

impl fmt::Debug for Mixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mixed(..)")
    }
}

impl IkeKeys {
    /// `SK_d = prf+ (PPK, SK_d')`, and SK_pi and SK_pr likewise, each as long as it was (RFC 8784, 3).
    /// These keys stay as they are.
    pub fn mix(&self, prf: &dyn Prf, ppk: &[u8]) -> Result<Mixed, CryptoError> {
        let mixed = |key: &SecretBytes| {
            let mut out = vec![0; key.expose().len()];
            prf.plus(ppk, &[key.expose()], &mut out)?;
            Ok::<_, CryptoError>(SecretBytes::new(out))
        };
        Ok(Mixed {
            sk_d: mixed(&self.sk_d)?,
            sk_pi: mixed(&self.sk_pi)?,
            sk_pr: mixed(&self.sk_pr)?,
        })
    }

    /// From now on these are the keys; those that protect messages stay.
    pub fn adopt(&mut self, mixed: Mixed) {
        self.sk_d = mixed.sk_d;
        self.sk_pi = mixed.sk_pi;
        self.sk_pr = mixed.sk_pr;
    }

    /// Wipes SK_pi and SK_pr: nothing is proven with them once both sides have authenticated.
    pub fn forget_proofs(&mut self) {
        self.sk_pi = SecretBytes::new(Vec::new());
        self.sk_pr = SecretBytes::new(Vec::new());
    }

    /// SK_pi and SK_pr, mixed or not.
    pub fn proving<'a>(&'a self, mixed: Option<&'a Mixed>) -> (&'a SecretBytes, &'a SecretBytes) {
        match mixed {
            Some(mixed) => (&mixed.sk_pi, &mixed.sk_pr),
            None => (&self.sk_pi, &self.sk_pr),
        }
    }

    /// `{SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} =
    /// prf+ (SKEYSEED, Ni | Nr | SPIi | SPIr)`.
    pub fn derive(
        suite: &IkeSuite,
        skeyseed: &[u8],
        ni: &[u8],
        nr: &[u8],
        spi_i: IkeSpi,
        spi_r: IkeSpi,
    ) -> Result<Self, CryptoError> {
        let prf_len = suite.prf.output_len();
        let encr_len = suite
            .encr
            .key_material_len(suite.key_length)
            .ok_or(CryptoError::KeyLength)?;
        let integ_len = suite.integ.map_or(0, |integ| integ.key_len());
        let total = 3 * prf_len + 2 * integ_len + 2 * encr_len;
        let mut material = Zeroizing::new(vec![0; total]);
        let (spi_i, spi_r) = (spi_i.to_bytes(), spi_r.to_bytes());
        suite
            .prf
            .plus(skeyseed, &[ni, nr, &spi_i, &spi_r], &mut material)?;
        let mut rest = material.as_slice();
        let mut take = |len| {
            let (taken, left) = rest.split_at_checked(len).ok_or(CryptoError::KeyLength)?;
            rest = left;
            Ok::<_, CryptoError>(taken)
        };
        let sk_d = take(prf_len)?;
        let (sk_ai, sk_ar) = (take(integ_len)?, take(integ_len)?);
        let (sk_ei, sk_er) = (take(encr_len)?, take(encr_len)?);
        let (sk_pi, sk_pr) = (take(prf_len)?, take(prf_len)?);
        let key = |sk_e, sk_a| suite.encr.key(sk_e, suite.integ.map(|integ| (integ, sk_a)));
        Ok(Self {
            sk_d: SecretBytes::new(sk_d.to_vec()),
            sk_pi: SecretBytes::new(sk_pi.to_vec()),
            sk_pr: SecretBytes::new(sk_pr.to_vec()),
            initiator: key(sk_ei, sk_ai)?,
            responder: key(sk_er, sk_ar)?,
        })
    }
}

/// `SKEYSEED = prf(Ni | Nr, g^ir)`.
pub fn skeyseed(prf: &dyn Prf, ni: &[u8], nr: &[u8], shared: &[u8]) -> SecretBytes {
    let key = Zeroizing::new([ni, nr].concat());
    let mut seed = vec![0; prf.output_len()];
    prf.compute(&key, &[shared], &mut seed);
    SecretBytes::new(seed)
}

/// `SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr)`, with the old SA's PRF (RFC 7296, 2.18).
pub fn skeyseed_rekey(
    prf_old: &dyn Prf,
    sk_d_old: &[u8],
    shared: &[u8],
    ni: &[u8],
    nr: &[u8],
) -> SecretBytes {
    let mut seed = vec![0; prf_old.output_len()];
    prf_old.compute(sk_d_old, &[shared, ni, nr], &mut seed);
    SecretBytes::new(seed)
}

/// The keys of both directions of a Child SA, as we use them. A cipher's salt follows its key.
#[derive(Clone)]
pub struct ChildKeys {
    /// Encrypts what we send.
    pub outbound_encr: SecretBytes,
    /// Authenticates what we send; empty with an AEAD.
    pub outbound_integ: SecretBytes,
    /// Decrypts what we get.
    pub inbound_encr: SecretBytes,
    /// Checks what we get; empty with an AEAD.
    pub inbound_integ: SecretBytes,
}

impl fmt::Debug for ChildKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChildKeys(..)")
    }
}

impl ChildKeys {
    /// `KEYMAT = prf+(SK_d, [g^ir |] Ni | Nr)`: first the keys of what the initiator of the exchange
    /// sends, encryption before integrity. Lengths in bytes.
    pub fn derive(
        prf: &dyn Prf,
        sk_d: &[u8],
        g_ir: Option<&[u8]>,
        ni: &[u8],
        nr: &[u8],
        encr_len: usize,
        integ_len: usize,
        we_are_exchange_initiator: bool,
    ) -> Result<Self, CryptoError> {
        let mut material = Zeroizing::new(vec![0; 2 * (encr_len + integ_len)]);
        prf.plus(sk_d, &[g_ir.unwrap_or(&[]), ni, nr], &mut material)?;
        let (initiator, responder) = material.split_at(encr_len + integ_len);
        let (outbound, inbound) = if we_are_exchange_initiator {
            (initiator, responder)
        } else {
            (responder, initiator)
        };
        Ok(Self::split(outbound, inbound, encr_len))
    }

    /// All of them one behind the other, to be kept.
    pub fn joined(&self) -> SecretBytes {
        let all = [
            self.outbound_encr.expose(),
            self.outbound_integ.expose(),
            self.inbound_encr.expose(),
            self.inbound_integ.expose(),
        ];
        SecretBytes::new(all.concat())
    }

    /// What [`Self::joined`] made; `encr_len` is the length of a cipher's key with its salt.
    pub fn of_joined(joined: &SecretBytes, encr_len: usize) -> Option<Self> {
        let joined = joined.expose();
        let (outbound, inbound) = joined.split_at_checked(joined.len() / 2)?;
        (encr_len <= outbound.len()).then(|| Self::split(outbound, inbound, encr_len))
    }

    fn split(outbound: &[u8], inbound: &[u8], encr_len: usize) -> Self {
        let split = |keys: &[u8]| {
            let (encr, integ) = keys.split_at(encr_len);
            (
                SecretBytes::new(encr.to_vec()),
                SecretBytes::new(integ.to_vec()),
            )
        };
        let (outbound_encr, outbound_integ) = split(outbound);
        let (inbound_encr, inbound_integ) = split(inbound);
        Self {
            outbound_encr,
            outbound_integ,
            inbound_encr,
            inbound_integ,
        }
    }
}

/// Key lengths in bytes of an ESP or AH suite: encryption with its salt, integrity. `None`: a
/// transform or key length that does not exist.
pub fn child_key_lengths(transforms: &[Transform]) -> Option<(usize, usize)> {
    let (mut encr_len, mut integ_len) = (0, 0);
    for transform in transforms {
        match transform.id {
            TransformId::Encr(id) => encr_len = child_encr_len(id, transform.key_length)?,
            TransformId::Integ(id) => integ_len = child_integ_len(id)?,
            TransformId::Prf(_) | TransformId::Ke(_) | TransformId::Esn(_) => {}
            TransformId::Unknown(..) => return None,
        }
    }
    Some((encr_len, integ_len))
}

fn child_encr_len(id: EncrId, key_length: Option<u16>) -> Option<usize> {
    let bytes = key_length.map(|bits| usize::from(bits) / 8);
    let aes = || bytes.filter(|len| [16, 24, 32].contains(len));
    match id {
        EncrId::AES_CBC => aes(),
        EncrId::AES_CTR
        | EncrId::AES_GCM_8
        | EncrId::AES_GCM_12
        | EncrId::AES_GCM_16
        | EncrId::AES_GMAC => aes().map(|len| len + 4),
        EncrId::CHACHA20_POLY1305 if key_length.is_none_or(|bits| bits == 256) => Some(36),
        EncrId::DES3 if key_length.is_none() => Some(24),
        EncrId::BLOWFISH => Some(bytes.unwrap_or(16)).filter(|len| (5..=56).contains(len)),
        EncrId::CAST => Some(bytes.unwrap_or(16)).filter(|len| *len == 16),
        EncrId::NULL => Some(0),
        _ => None,
    }
}

fn child_integ_len(id: IntegId) -> Option<usize> {
    match id {
        IntegId::NONE => Some(0),
        IntegId::HMAC_MD5_96 => Some(16),
        IntegId::HMAC_SHA1_96 => Some(20),
        IntegId::HMAC_SHA2_256_128 => Some(32),
        IntegId::HMAC_SHA2_384_192 => Some(48),
        IntegId::HMAC_SHA2_512_256 => Some(64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring;
    use crate::wire::registry::PrfId;

    #[test]
    fn a_ppk_is_mixed_into_what_rfc_8784_says_and_nothing_else() {
        // Python's: p+(b"\1" * size, b"\2" * 32 + b"\3" * 32 + SPIs), and of its first and last two
        // keys hmac.new(b"a post-quantum secret", key + b"\1", name).
        let known = [
            (
                PrfId::HMAC_SHA2_256,
                [
                    "e41997c65895964007b3682d526204b4d13955ab4cf1633f0a94633f8342b619",
                    "d5de34b73876f31cab0a11103c21286331b7172a6ead81a150d508a37387a481",
                    "bff065f92fb4bb0381c58b7800e1a319fe4955d4df4bc4586a2d9f2b70cb1869",
                ],
            ),
            (
                PrfId::HMAC_SHA2_512,
                [
                    "6cf0e996c5e17b519aace410999424825c6be42450e1b8f887ee80680b5cdb85\
                     73c59fb6fef77c4061514569027478023eb4eb6f2359c0273a737fdc26a16e0f",
                    "f73680bd7b1c299609ef716a9253467511a273b7be5fa5b299e3058a6ce8c3ea\
                     7497bf5e4f61fc76a66fa8d14f2fd9cd1f23156a8a8d239277af4ca0265af871",
                    "3583a65afd639ac51ab54e3b4a4e3fc645cac4ceddd7cb94d14eb91f74565751\
                     2a3ca69729321dc7cbb8007aeb1b3734d243c83ddc5b0ba0fd0a97a469781f6f",
                ],
            ),
        ];
        let provider = boring::provider();
        for (id, expected) in known {
            let suite = IkeSuite {
                encr: provider.cipher(EncrId::AES_GCM_16).unwrap(),
                key_length: Some(128),
                integ: None,
                prf: provider.prf(id).unwrap(),
                ke: KeId::CURVE25519,
            };
            let seed = vec![1; suite.prf.output_len()];
            let (i, r) = (IkeSpi::new(1).unwrap(), IkeSpi::new(2).unwrap());
            let mut keys = IkeKeys::derive(&suite, &seed, &[2; 32], &[3; 32], i, r).unwrap();
            let before = keys.sk_d.clone();
            let mixed = keys.mix(suite.prf, b"a post-quantum secret").unwrap();
            assert!(keys.sk_d == before && keys.proving(None) == (&keys.sk_pi, &keys.sk_pr));
            let (sk_pi, sk_pr) = keys.proving(Some(&mixed));
            let (sk_pi, sk_pr) = (sk_pi.clone(), sk_pr.clone());
            keys.adopt(mixed);
            assert_eq!(keys.proving(None), (&sk_pi, &sk_pr));
            let found = [&keys.sk_d, &keys.sk_pi, &keys.sk_pr];
            let found = found.map(|key| hex::encode(key.expose()));
            assert_eq!(found, expected, "{id}");
        }
    }
}
