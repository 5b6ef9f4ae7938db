//! Pre-shared keys, RFC 7296, 2.15.

use std::fmt;

use zeroize::Zeroizing;

use super::AuthError;
use crate::crypto::{Prf, Provider};
use crate::wire::registry::AuthMethod;

/// `prf(Shared Secret, "Key Pad for IKEv2")`, by which both ends prove that they know the secret.
pub struct PaddedKey {
    prf: &'static dyn Prf,
    key: Zeroizing<Vec<u8>>,
}

impl PaddedKey {
    /// Of this secret.
    pub fn new(prf: &'static dyn Prf, secret: &[u8]) -> Self {
        let mut key = Zeroizing::new(vec![0; prf.output_len()]);
        prf.compute(secret, &[KEY_PAD], &mut key);
        Self { prf, key }
    }

    /// `AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), <SignedOctets>)`.
    pub fn auth(&self, octets: &[u8]) -> Vec<u8> {
        let mut auth = vec![0; self.prf.output_len()];
        self.prf.compute(&self.key, &[octets], &mut auth);
        auth
    }

    /// Checks the peer's AUTH payload, in constant time.
    pub fn verify(
        &self,
        provider: &Provider,
        octets: &[u8],
        method: AuthMethod,
        auth: &[u8],
    ) -> Result<(), AuthError> {
        if method != AuthMethod::SHARED_KEY {
            return Err(AuthError::Method);
        }
        let expected = Zeroizing::new(self.auth(octets));
        if (provider.equal)(&expected, auth) {
            Ok(())
        } else {
            Err(AuthError::Mac)
        }
    }
}

impl fmt::Debug for PaddedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaddedKey(..)")
    }
}

/// What proves the secret to the peer once.
pub fn shared_key_auth(prf: &'static dyn Prf, secret: &[u8], octets: &[u8]) -> Vec<u8> {
    PaddedKey::new(prf, secret).auth(octets)
}

/// Checks the peer's AUTH payload, in constant time.
pub fn verify(
    provider: &Provider,
    prf: &'static dyn Prf,
    secret: &[u8],
    octets: &[u8],
    method: AuthMethod,
    auth: &[u8],
) -> Result<(), AuthError> {
    PaddedKey::new(prf, secret).verify(provider, octets, method, auth)
}

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring;
    use crate::wire::registry::PrfId;

    #[test]
    fn the_mac_is_what_the_rfc_says_with_every_prf() {
        // Python's: mac(mac(b"secret", b"Key Pad for IKEv2"), b"octets"), mac = hmac.new(.., name).
        let known = [
            (PrfId::HMAC_MD5, "eea16da180ac83d8fb3994ab17b94c8c"),
            (PrfId::HMAC_SHA1, "a7fdda0d0267c9bc006e72e2651a66fd6939ab11"),
            (
                PrfId::HMAC_SHA2_256,
                "93d6b432e988c4c184f49457ef7ddfef938f1179de4120120d1cc523b368d33b",
            ),
            (
                PrfId::HMAC_SHA2_384,
                "5ea612520b86f9545d05e724e41db52c6f8af4b02f4be63f22a0c9f76dc31d330f8ca7fd725dcb59\
                 65b80dfa0b4fd714",
            ),
            (
                PrfId::HMAC_SHA2_512,
                "19c7c6df90a57403c0021a0fe40acecb8d8e6ac5f9cfe61230e98786cc62b4ac734b4a741abbd0fc\
                 e793ddad076b1107f210975aa8555a6d3c99d71535487464",
            ),
        ];
        for (id, mac) in known {
            let prf = boring::provider().prf(id).unwrap();
            let made = shared_key_auth(prf, b"secret", b"octets");
            assert_eq!(hex::encode(made), mac, "{id}");
        }
    }

    #[test]
    fn only_the_same_secret_octets_and_method_verify() {
        let provider = boring::provider();
        let prf = provider.prf(PrfId::HMAC_SHA2_256).unwrap();
        let auth = shared_key_auth(prf, b"secret", b"octets");
        let check = |secret: &[u8], octets: &[u8], method, auth: &[u8]| {
            verify(&provider, prf, secret, octets, method, auth)
        };
        let shared = AuthMethod::SHARED_KEY;
        assert_eq!(check(b"secret", b"octets", shared, &auth), Ok(()));
        assert_eq!(
            check(b"secret2", b"octets", shared, &auth),
            Err(AuthError::Mac)
        );
        assert_eq!(
            check(b"secret", b"octet", shared, &auth),
            Err(AuthError::Mac)
        );
        assert_eq!(
            check(b"secret", b"octets", shared, &auth[1..]),
            Err(AuthError::Mac)
        );
        assert_eq!(
            check(b"secret", b"octets", shared, &[]),
            Err(AuthError::Mac)
        );
        let other = AuthMethod::SIGNATURE;
        assert_eq!(
            check(b"secret", b"octets", other, &auth),
            Err(AuthError::Method)
        );
    }
}
