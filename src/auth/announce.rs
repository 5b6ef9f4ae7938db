//! Which proofs each end takes, as it announces them (RFC 9593), and what of the peer's announcements
//! a key of ours can do.

use super::pubkey::{allows, allows_key, older_method};
use crate::crypto::algorithm::Algorithm;
use crate::crypto::sign::KeyKind;
use crate::policy::PublicKeyAuth;
use crate::wire::registry::{AuthMethod, HashAlgorithm};
use crate::wire::{Announcement, DecodeError, announce};

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By method 14 with this algorithm (RFC 7427).
    Named(Algorithm),
    /// By an older method, each of which belongs to one kind of key.
    Older(AuthMethod),
}

impl Way {
    /// What an announcement stands for; `None` where its form is not that of its method, or it is a
    /// method or an algorithm that is not known here.
    fn of(announcement: &Announcement<'_>) -> Option<(Self, u8)> {
        let authority = announcement.authority?;
        let way = match (announcement.method, announcement.algorithm) {
            (AuthMethod::SIGNATURE, identifier) => Self::Named(Algorithm::named(identifier)?),
            (method, []) if OLDER.contains(&method) => Self::Older(method),
            _ => return None,
        };
        Some((way, authority))
    }

    /// Whether a key of this kind signs so under this word of the policy, for a peer that verifies
    /// these hashes (RFC 7427, 4).
    pub fn fits(self, words: PublicKeyAuth, kind: KeyKind, peer_hashes: &[HashAlgorithm]) -> bool {
        let newer = !peer_hashes.is_empty();
        let can = match self {
            Self::Named(algorithm) => {
                let pss = matches!(algorithm, Algorithm::RsaPss(_));
                algorithm.fits(kind)
                    && peer_hashes.contains(&algorithm.hash())
                    && allows(words, AuthMethod::SIGNATURE, newer)
                    && (pss || words != PublicKeyAuth::RsaPss)
            }
            Self::Older(method) => {
                older_method(kind) == Some(method) && allows(words, method, newer)
            }
        };
        can && allows_key(words, kind)
    }
}

/// What the peer announced, as far as it is known here, in its order; each with the number of the
/// authority that it is for, 0 for any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced(Vec<(Way, u8)>);

impl Announced {
    /// Reads the data of a SUPPORTED_AUTH_METHODS notification.
    pub fn read(data: &[u8]) -> Result<Self, DecodeError> {
        let list = announce::decode(data)?;
        Ok(Self(list.iter().filter_map(Way::of).collect()))
    }

    /// Each way, and for which authority.
    pub fn ways(&self) -> impl Iterator<Item = (Way, u8)> {
        self.0.iter().copied()
    }

    /// Whether there is nothing in it that is known here.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Our announcement, the preferred proof first: what of all these words we take from a peer that knows
/// method 14 (`newer`) or does not, with these hashes; and whether secrets count. All of it is for
/// any authority. Empty where nothing counts.
pub fn list(
    words: &[PublicKeyAuth],
    secrets: bool,
    newer: bool,
    hashes: &[HashAlgorithm],
) -> Vec<u8> {
    let known: &[HashAlgorithm] = if newer { hashes } else { &[] };
    let taken = |way: &Way| {
        let mut pairs = words
            .iter()
            .flat_map(|&word| KINDS.map(|kind| (word, kind)));
        pairs.any(|(word, kind)| way.fits(word, kind, known))
    };
    let ways = Algorithm::all().map(Way::Named);
    let ways = ways.chain(OLDER.map(Way::Older)).filter(taken);
    let mut out = Vec::new();
    for way in ways {
        let (method, algorithm) = match way {
            Way::Named(algorithm) => (AuthMethod::SIGNATURE, algorithm.identifier()),
            Way::Older(method) => (method, Vec::new()),
        };
        let announcement = Announcement {
            method,
            authority: Some(0),
            algorithm: &algorithm,
        };
        announce::encode(&announcement, &mut out);
    }
    if secrets {
        let announcement = Announcement {
            method: AuthMethod::SHARED_KEY,
            authority: None,
            algorithm: &[],
        };
        announce::encode(&announcement, &mut out);
    }
    out
}

/// The methods before RFC 7427 that are known here, the one with SHA-1 last.
const OLDER: [AuthMethod; 4] = [
    AuthMethod::ECDSA_256,
    AuthMethod::ECDSA_384,
    AuthMethod::ECDSA_521,
    AuthMethod::RSA,
];
const KINDS: [KeyKind; 5] = [
    KeyKind::Rsa,
    KeyKind::EcdsaP256,
    KeyKind::EcdsaP384,
    KeyKind::EcdsaP521,
    KeyKind::Ed25519,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring;

    fn listed(words: &[PublicKeyAuth], newer: bool) -> Vec<(Way, u8)> {
        let hashes = boring::provider().signature_hashes;
        let data = list(words, false, newer, hashes);
        Announced::read(&data).unwrap().ways().collect()
    }

    fn count(words: PublicKeyAuth, newer: bool) -> [usize; 2] {
        let all = listed(&[words], newer);
        assert!(all.iter().all(|(_, authority)| *authority == 0));
        let named = all.iter().filter(|(way, _)| matches!(way, Way::Named(_)));
        let named = named.count();
        [named, all.len() - named]
    }

    #[test]
    fn what_is_announced_is_what_the_word_lets_in() {
        use PublicKeyAuth as W;
        // Algorithms of method 14, and older methods; to a peer with method 14 and to one without.
        for (words, newer, older) in [
            (W::Any, [10, 3], [0, 4]),
            (W::Rfc7427, [10, 0], [0, 0]),
            (W::Rsa, [6, 1], [0, 1]),
            (W::RsaPss, [3, 0], [0, 0]),
            (W::Ecdsa256, [3, 1], [0, 1]),
            (W::Ecdsa384, [3, 1], [0, 1]),
            (W::Ecdsa521, [3, 1], [0, 1]),
        ] {
            assert_eq!(count(words, true), newer, "{words:?}");
            assert_eq!(count(words, false), older, "{words:?}");
        }
        let both = listed(&[W::RsaPss, W::Ecdsa256], true);
        assert_eq!(both.len(), 3 + 4);
    }

    #[test]
    fn a_secret_is_announced_in_two_octets_and_nothing_in_none() {
        let hashes = boring::provider().signature_hashes;
        assert_eq!(list(&[], true, true, hashes), [2, 2]);
        assert!(list(&[], false, true, hashes).is_empty());
        let longest = list(&[PublicKeyAuth::Any], true, true, hashes);
        assert!(longest.len() < 360, "{}", longest.len());
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        // A secret, a method of two octets that has three, an unknown one, an unknown algorithm, method
        // 14 without one, RSA with one.
        let odd = [
            2, 2, 2, 1, 3, 200, 0, 5, 14, 0, 0x30, 0, 3, 14, 0, 4, 1, 0, 0,
        ];
        assert_eq!(Announced::read(&odd), Ok(Announced::default()));
        let good = [&odd[..], &[3, 9, 7]].concat();
        let read = Announced::read(&good).unwrap();
        let expected = (Way::Older(AuthMethod::ECDSA_256), 7);
        assert_eq!(read.ways().collect::<Vec<_>>(), [expected]);
        assert!(Announced::read(&good[..good.len() - 1]).is_err());
    }

    #[test]
    fn an_algorithm_whose_hash_the_peer_did_not_announce_fits_no_key() {
        let way = Way::Named(Algorithm::RsaPss(HashAlgorithm::SHA2_384));
        let fits = |hash| way.fits(PublicKeyAuth::Any, KeyKind::Rsa, &[hash]);
        assert!(fits(HashAlgorithm::SHA2_384));
        assert!(!fits(HashAlgorithm::SHA2_256));
    }
}
