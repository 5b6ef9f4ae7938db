//! Pre-shared keys, RFC 7296, 2.15.

use zeroize::Zeroizing;

use super::AuthError;
use crate::crypto::{Prf, Provider};
use crate::wire::registry::AuthMethod;

/// `AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), <SignedOctets>)`.
pub fn shared_key_auth(prf: &dyn Prf, secret: &[u8], octets: &[u8]) -> Vec<u8> {
    let mut key = Zeroizing::new(vec![0; prf.output_len()]);
    prf.compute(secret, &[KEY_PAD], &mut key);
    let mut auth = vec![0; prf.output_len()];
    prf.compute(&key, &[octets], &mut auth);
    auth
}

/// Checks the peer's AUTH payload, in constant time.
pub fn verify(
    provider: &Provider,
    prf: &dyn Prf,
    secret: &[u8],
    octets: &[u8],
    method: AuthMethod,
    auth: &[u8],
) -> Result<(), AuthError> {
    if method != AuthMethod::SHARED_KEY {
        return Err(AuthError::Method);
    }
    let expected = Zeroizing::new(shared_key_auth(prf, secret, octets));
    if (provider.equal)(&expected, auth) {
        Ok(())
    } else {
        Err(AuthError::Mac)
    }
}

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring;
    use crate::wire::registry::PrfId;

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
