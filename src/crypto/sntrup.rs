//! OpenIKED's hybrid key exchange sntrup761x25519 (private method 1035): Streamlined NTRU Prime 761 beside
//! Curve25519. The initiator sends its key of the former, the responder a secret encapsulated for that;
//! either is followed by the value of Curve25519. SHA-512 makes one secret of both.

use boring::sha::Sha512;
use sntrup761::{Ciphertext, DecapsulationKey, EncapsulationKey, generate_key_from_seed};
use zeroize::{Zeroize as _, Zeroizing};

use super::{ActiveKeyExchange, CryptoError, KeyExchange, Rng, SecretBytes};
use crate::wire::registry::KeId;

/// The method, which does its half of Curve25519 by this.
pub(super) struct Sntrup761X25519(pub &'static dyn KeyExchange);

impl KeyExchange for Sntrup761X25519 {
    fn id(&self) -> KeId {
        KeId::SNTRUP761X25519
    }

    fn public_len(&self) -> usize {
        sntrup761::PUBLIC_KEY_SIZE + self.0.public_len()
    }

    fn check_public(&self, peer_public: &[u8]) -> Result<(), CryptoError> {
        split::<{ sntrup761::PUBLIC_KEY_SIZE }>(peer_public).map(|_| ())
    }

    fn start(&self, rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let mut seed = rng.bytes::<32>();
        let (public, secret) = generate_key_from_seed(seed);
        seed.zeroize();
        let curve = self.0.start(rng)?;
        Ok(Box::new(Begun {
            public: [public.as_ref(), curve.public()].concat(),
            secret,
            curve,
        }))
    }

    fn answer(
        &self,
        rng: &mut Rng,
        peer_public: &[u8],
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let (key, _) = split(peer_public)?;
        let mut seed = rng.bytes::<32>();
        let (sent, secret) = EncapsulationKey::from(*key).encapsulate_deterministic(seed);
        seed.zeroize();
        let curve = self.0.start(rng)?;
        Ok(Box::new(Answered {
            public: [sent.as_ref(), curve.public()].concat(),
            secret: SecretBytes::new(secret.as_ref().to_vec()),
            curve,
        }))
    }
}

/// Both values of a KE payload.
fn split<const N: usize>(public: &[u8]) -> Result<(&[u8; N], &[u8]), CryptoError> {
    let parts = public.split_first_chunk::<N>();
    let parts = parts.filter(|(_, curve)| curve.len() == CURVE_LEN);
    parts.ok_or(CryptoError::PublicLength)
}

/// One secret of both.
fn joined(kem: &[u8], curve: &SecretBytes) -> SecretBytes {
    let mut hash = Sha512::new();
    hash.update(kem);
    hash.update(curve.expose());
    SecretBytes::new(Zeroizing::new(hash.finish()).to_vec())
}

/// The initiator's half.
struct Begun {
    public: Vec<u8>,
    secret: DecapsulationKey,
    curve: Box<dyn ActiveKeyExchange>,
}

impl ActiveKeyExchange for Begun {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        let (sent, public) = split(peer_public)?;
        let curve = self.curve.complete(public)?;
        let secret = self.secret.decapsulate(&Ciphertext::from(*sent));
        Ok(joined(secret.as_ref(), &curve))
    }
}

/// The responder's half.
struct Answered {
    public: Vec<u8>,
    secret: SecretBytes,
    curve: Box<dyn ActiveKeyExchange>,
}

impl ActiveKeyExchange for Answered {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        let (_, public) = split::<{ sntrup761::PUBLIC_KEY_SIZE }>(peer_public)?;
        let curve = self.curve.complete(public)?;
        Ok(joined(self.secret.expose(), &curve))
    }
}

/// Bytes of a value of Curve25519.
const CURVE_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring::provider;

    fn method() -> &'static dyn KeyExchange {
        provider().key_exchange(KeId::SNTRUP761X25519).unwrap()
    }

    #[test]
    fn both_ends_have_one_secret_and_values_of_openikeds_lengths() {
        let mut rng = Rng::from_seed([7; 32]);
        let begun = method().start(&mut rng).unwrap();
        assert_eq!(begun.public().len(), 1190);
        assert_eq!(method().public_len(), 1190);
        assert_eq!(method().check_public(begun.public()), Ok(()));
        let answered = method().answer(&mut rng, begun.public()).unwrap();
        assert_eq!(answered.public().len(), 1071);
        let ours = begun.complete(answered.public()).unwrap();
        let theirs = answered.complete(begun.public()).unwrap();
        assert_eq!(ours, theirs);
        assert_eq!(ours.expose().len(), 64);
    }

    /// An attacker who changes what is encapsulated gets another secret, not an error to learn from.
    #[test]
    fn a_changed_value_makes_other_secrets() {
        let mut rng = Rng::from_seed([7; 32]);
        let begun = method().start(&mut rng).unwrap();
        let answered = method().answer(&mut rng, begun.public()).unwrap();
        let secret = answered.complete(begun.public()).unwrap();
        for at in [0, 600, 1038, 1039, 1070] {
            let mut changed = answered.public().to_vec();
            changed[at] ^= 1;
            assert_ne!(begun.complete(&changed).unwrap(), secret, "byte {at}");
        }
    }

    #[test]
    fn values_of_another_length_and_those_of_small_order_are_refused() {
        let mut rng = Rng::from_seed([7; 32]);
        let begun = method().start(&mut rng).unwrap();
        let answered = method().answer(&mut rng, begun.public()).unwrap();
        for length in [0, 32, 1039, 1071, 1158, 1189, 1191] {
            let public = vec![1; length];
            let error = Err(CryptoError::PublicLength);
            assert_eq!(method().check_public(&public), error, "{length}");
            assert!(method().answer(&mut rng, &public).is_err(), "{length}");
            assert!(answered.complete(&public).is_err(), "{length}");
        }
        for length in [0, 32, 1039, 1070, 1072, 1190] {
            assert!(begun.complete(&vec![1; length]).is_err(), "{length}");
        }
        let mut zero = answered.public().to_vec();
        zero[1039..].fill(0);
        assert_eq!(begun.complete(&zero).err(), Some(CryptoError::PublicValue));
    }
}
