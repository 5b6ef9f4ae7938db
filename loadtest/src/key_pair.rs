//! One key pair for all peers, which RFC 7296, 2.12, lets an end have: a peer then costs the load generator
//! one multiplication, not two, and the responder no less than before.

use std::sync::{Arc, LazyLock, OnceLock};

use iked::crypto::boring;
use iked::crypto::{ActiveKeyExchange, CryptoError, KeyExchange, Provider, Rng, SecretBytes};
use iked::wire::registry::KeId;

/// The algorithms of the daemon; with `one` each method of key exchange draws a single key pair.
pub fn provider(one: bool) -> Provider {
    let provider = boring::provider();
    if !one {
        return provider;
    }
    Provider {
        key_exchanges: &METHODS,
        ..provider
    }
}

/// As long as the process, like those that they stand for.
static METHODS: LazyLock<Vec<&'static dyn KeyExchange>> = LazyLock::new(|| {
    let methods = boring::provider().key_exchanges.iter();
    let methods = methods.map(|&method| {
        let once: &'static Once = Box::leak(Box::new(Once {
            method,
            pair: OnceLock::new(),
        }));
        once as &'static dyn KeyExchange
    });
    methods.collect()
});

/// A method that draws once.
struct Once {
    method: &'static dyn KeyExchange,
    pair: OnceLock<Arc<dyn ActiveKeyExchange>>,
}

impl KeyExchange for Once {
    fn id(&self) -> KeId {
        self.method.id()
    }

    fn public_len(&self) -> usize {
        self.method.public_len()
    }

    fn check_public(&self, peer_public: &[u8]) -> Result<(), CryptoError> {
        self.method.check_public(peer_public)
    }

    fn start(&self, rng: &mut Rng) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let pair = match self.pair.get() {
            Some(pair) => pair,
            None => {
                let drawn = self.method.start(rng)?.into();
                self.pair.get_or_init(|| drawn)
            }
        };
        Ok(Box::new(Shared(Arc::clone(pair))))
    }

    /// What the other end draws may be for one value alone.
    fn answer(
        &self,
        rng: &mut Rng,
        peer_public: &[u8],
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.method.answer(rng, peer_public)
    }
}

struct Shared(Arc<dyn ActiveKeyExchange>);

impl ActiveKeyExchange for Shared {
    fn public(&self) -> &[u8] {
        self.0.public()
    }

    fn complete(&self, peer_public: &[u8]) -> Result<SecretBytes, CryptoError> {
        self.0.complete(peer_public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_peers_have_one_key_pair_of_each_method_and_the_responder_has_its_own() {
        let mut rng = Rng::from_seed([7; 32]);
        for method in provider(true).key_exchanges {
            let mut pair = || method.start(&mut rng).unwrap();
            let (one, other) = (pair(), pair());
            assert_eq!(one.public(), other.public(), "{:?}", method.id());
            let own = boring::provider().key_exchange(method.id()).unwrap();
            let theirs = own.answer(&mut rng, one.public()).unwrap();
            let secret = theirs.complete(one.public()).unwrap();
            for peer in [one, other] {
                let shared = peer.complete(theirs.public()).unwrap();
                assert_eq!(shared.expose(), secret.expose(), "{:?}", method.id());
            }
        }
        let fresh = provider(false).key_exchanges.first().unwrap();
        let mut public = || fresh.start(&mut rng).unwrap().public().to_vec();
        assert_ne!(public(), public());
    }
}
