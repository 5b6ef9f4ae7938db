//! Signature algorithms by their AlgorithmIdentifier (RFC 7427, appendix A; RFC 8420): what method 14
//! names in AUTH, and what announcements name (RFC 9593).

use std::sync::LazyLock;

use super::sign::KeyKind;
use crate::wire::registry::HashAlgorithm;

/// A signature algorithm with its hash: SHA2-256, SHA2-384 or SHA2-512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(HashAlgorithm),
    /// RSASSA-PSS with one hash for both uses and a salt as long as it.
    RsaPss(HashAlgorithm),
    /// ECDSA on any curve.
    Ecdsa(HashAlgorithm),
    /// Ed25519, which has no hash of its own choosing.
    Ed25519,
}

impl Algorithm {
    /// Every algorithm there is here, the preferred ones first.
    pub fn all() -> impl Iterator<Item = Self> {
        let each = |of: fn(HashAlgorithm) -> Self| SHA2.into_iter().map(of);
        [Self::Ed25519]
            .into_iter()
            .chain(each(Self::Ecdsa))
            .chain(each(Self::RsaPss))
            .chain(each(Self::RsaPkcs1))
    }

    /// The one that an AlgorithmIdentifier names, in any of the forms that are in use.
    pub fn named(identifier: &[u8]) -> Option<Self> {
        let named = FORMS.iter().find(|(form, _)| form == identifier);
        named.map(|(_, algorithm)| *algorithm)
    }

    /// Its hash, as SIGNATURE_HASH_ALGORITHMS counts them.
    pub const fn hash(self) -> HashAlgorithm {
        match self {
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) | Self::Ecdsa(hash) => hash,
            Self::Ed25519 => HashAlgorithm::IDENTITY,
        }
    }

    /// Whether a key of this kind signs with it.
    pub const fn fits(self, kind: KeyKind) -> bool {
        match self {
            Self::RsaPkcs1(_) | Self::RsaPss(_) => matches!(kind, KeyKind::Rsa),
            Self::Ecdsa(_) => matches!(
                kind,
                KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::EcdsaP521
            ),
            Self::Ed25519 => matches!(kind, KeyKind::Ed25519),
        }
    }

    /// The DER of the AlgorithmIdentifier, RFC 7427, appendix A.
    pub fn identifier(self) -> Vec<u8> {
        match self {
            Self::RsaPkcs1(hash) => {
                // sha256WithRSAEncryption is 11, the next two follow; parameters are NULL.
                let last = 10 + hash_byte(hash);
                let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
                der(0x30, &[der(0x06, &oid), NULL.to_vec()].concat())
            }
            Self::Ecdsa(hash) => {
                let last = 1 + hash_byte(hash);
                let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last];
                der(0x30, &der(0x06, &oid))
            }
            Self::Ed25519 => der(0x30, &der(0x06, &[0x2b, 0x65, 0x70])),
            Self::RsaPss(hash) => pss_identifier(hash, false),
        }
    }
}

/// Every form of an AlgorithmIdentifier that is taken: peers announce ten in each handshake, so they are
/// put together once.
static FORMS: LazyLock<Vec<(Vec<u8>, Algorithm)>> = LazyLock::new(|| {
    let written = Algorithm::all().map(|algorithm| (algorithm.identifier(), algorithm));
    let trailing = SHA2.map(|hash| (pss_identifier(hash, true), Algorithm::RsaPss(hash)));
    written.chain(trailing).collect()
});

/// 1, 2 and 3 for the three members of SHA-2, as their object identifiers count them.
const fn hash_byte(hash: HashAlgorithm) -> u8 {
    match hash {
        HashAlgorithm::SHA2_256 => 1,
        HashAlgorithm::SHA2_384 => 2,
        _ => 3,
    }
}

/// RSASSA-PSS with one hash for both uses and a salt as long as it; `trailer` writes out the default
/// trailer field too, as some do.
fn pss_identifier(hash: HashAlgorithm, trailer: bool) -> Vec<u8> {
    let number = hash_byte(hash);
    let salt_len = 16 + 16 * number;
    let hash_oid = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, number];
    let hash_id = der(0x30, &[der(0x06, &hash_oid), NULL.to_vec()].concat());
    let mgf1 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    let mgf1 = der(0x30, &[der(0x06, &mgf1), hash_id.clone()].concat());
    let mut parameters = [
        der(0xa0, &hash_id),
        der(0xa1, &mgf1),
        der(0xa2, &der(0x02, &[salt_len])),
    ]
    .concat();
    if trailer {
        parameters.extend(der(0xa3, &der(0x02, &[1])));
    }
    let pss = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    der(0x30, &[der(0x06, &pss), der(0x30, &parameters)].concat())
}

/// A DER value of fewer than 128 bytes.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, content.len() as u8];
    out.extend_from_slice(content);
    out
}

const NULL: [u8; 2] = [5, 0];
/// The hashes, the preferred one first.
const SHA2: [HashAlgorithm; 3] = [
    HashAlgorithm::SHA2_256,
    HashAlgorithm::SHA2_384,
    HashAlgorithm::SHA2_512,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_is_known_by_its_identifier_and_by_nothing_else() {
        for algorithm in Algorithm::all() {
            let identifier = algorithm.identifier();
            assert_eq!(Algorithm::named(&identifier), Some(algorithm));
            for at in 0..identifier.len() {
                let mut changed = identifier.clone();
                changed[at] ^= 0x80;
                assert_eq!(Algorithm::named(&changed), None, "{algorithm:?} {at}");
                let cut = Algorithm::named(&identifier[..at]);
                assert_eq!(cut, None, "{algorithm:?} {at}");
            }
        }
        assert_eq!(Algorithm::all().count(), 10);
    }

    #[test]
    fn the_salt_of_pss_is_as_long_as_its_hash() {
        for (hash, length) in SHA2.into_iter().zip([32, 48, 64]) {
            let identifier = Algorithm::RsaPss(hash).identifier();
            assert!(identifier.ends_with(&[0xa2, 3, 2, 1, length]), "{hash}");
        }
    }
}
