//! X.509 certificates and the chains that lead to a trusted one (RFC 5280). Parsing and checking are
//! BoringSSL's; what a chain must fulfil here stands in [`TrustStore::verify`].

use std::fmt;
use std::sync::Arc;

use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::stack::Stack;
use boring::x509::store::{X509Store, X509StoreBuilder};
use boring::x509::verify::X509VerifyFlags;
use boring::x509::{X509, X509Ref, X509StoreContext, X509StoreContextRef};

use super::CryptoError;
use super::asn1::Fields;
use super::crl;
use super::sign::{PublicKey, kind_of};
pub use crate::sys::x509::Crl;
use crate::sys::x509::{extension, may_sign, may_sign_ocsp, seconds};
use crate::wire::registry::IdType;

/// A certificate.
#[derive(Clone)]
pub struct Certificate {
    x509: X509,
    der: Arc<[u8]>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} bytes)", self.der.len())
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl Certificate {
    /// Reads one from DER, as CERT payloads have them (RFC 7296, 3.6); what follows it is passed over.
    pub fn from_der(der: &[u8]) -> Result<Self, CryptoError> {
        let x509 = X509::from_der(der).map_err(|_| CryptoError::Certificate)?;
        let first = Fields::within(der).and_then(|mut fields| fields.any());
        let der = first.map_err(|_| CryptoError::Certificate)?.whole.into();
        Ok(Self { x509, der })
    }

    /// Every certificate of a PEM file, in order; other blocks are passed over.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, CryptoError> {
        let stack = X509::stack_from_pem(pem).map_err(|_| CryptoError::Certificate)?;
        stack.into_iter().map(Self::new).collect()
    }

    fn new(x509: X509) -> Result<Self, CryptoError> {
        let der = x509.to_der()?.into();
        Ok(Self { x509, der })
    }

    /// Whether this is the very one that the library holds there.
    fn is(&self, x509: &X509Ref) -> bool {
        std::ptr::eq::<X509Ref>(&*self.x509, x509)
    }

    /// For TLS, which names it.
    pub(super) const fn x509(&self) -> &X509 {
        &self.x509
    }

    /// Its DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its key, if it is one that signs here.
    pub fn public_key(&self) -> Result<PublicKey, CryptoError> {
        let key = self
            .x509
            .public_key()
            .map_err(|_| CryptoError::UnsupportedKey)?;
        PublicKey::new(key)
    }

    /// SHA-1 of its SubjectPublicKeyInfo, by which CERTREQ payloads name authorities (RFC 7296, 3.7).
    pub fn key_id(&self) -> Result<[u8; 20], CryptoError> {
        let key = self
            .x509
            .public_key()
            .map_err(|_| CryptoError::UnsupportedKey)?;
        let digest = boring::hash::hash(MessageDigest::sha1(), &key.public_key_to_der()?)?;
        (*digest).try_into().map_err(|_| CryptoError::Library)
    }

    /// SHA-256 of the whole certificate.
    pub fn fingerprint(&self) -> Result<[u8; 32], CryptoError> {
        let digest = boring::hash::hash(MessageDigest::sha256(), &self.der)?;
        (*digest).try_into().map_err(|_| CryptoError::Library)
    }

    /// SHA-256 of the fingerprints of a certificate and of those that are shown with it, in order.
    pub fn chain_fingerprint(leaf: &Self, others: &[Self]) -> Result<[u8; 32], CryptoError> {
        let mut hasher = boring::sha::Sha256::new();
        for certificate in [leaf].into_iter().chain(others) {
            hasher.update(&certificate.fingerprint()?);
        }
        Ok(hasher.finish())
    }

    /// DER of the subject.
    pub fn subject(&self) -> Result<Vec<u8>, CryptoError> {
        Ok(self.x509.subject_name().to_der()?)
    }

    /// The names of its subjectAltName that can be identities: type and data as an ID payload has
    /// them (RFC 7296, 3.5). None where the extension stands twice.
    pub fn alternative_names(&self) -> Vec<(IdType, Vec<u8>)> {
        let Some(names) = self.x509.subject_alt_names() else {
            return Vec::new();
        };
        let known = names.iter().filter_map(|name| {
            if let Some(host) = name.dnsname() {
                Some((IdType::FQDN, host.as_bytes().to_vec()))
            } else if let Some(mail) = name.email() {
                Some((IdType::RFC822_ADDR, mail.as_bytes().to_vec()))
            } else {
                let address = name.ipaddress()?;
                let kind = match address.len() {
                    4 => IdType::IPV4_ADDR,
                    16 => IdType::IPV6_ADDR,
                    _ => return None,
                };
                Some((kind, address.to_vec()))
            }
        });
        known.collect()
    }

    /// The last second of its validity, since 1970.
    pub fn not_after(&self) -> Option<i64> {
        seconds(self.x509.not_after())
    }

    /// Whether `issuer` is who issued this, by names and key identifiers; the signature is not
    /// checked.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        issuer.x509.issued(&self.x509).is_ok()
    }

    /// SHA-1 of subject and public key, by which OCSP names an issuer (RFC 6960, 4.1.1).
    pub fn issuer_hashes(&self) -> Result<([u8; 20], [u8; 20]), CryptoError> {
        let name = boring::hash::hash(MessageDigest::sha1(), &self.subject()?)?;
        let key = spki_key(&self.x509)?;
        let key = boring::hash::hash(MessageDigest::sha1(), &key)?;
        let sized = |digest: &[u8]| digest.try_into().map_err(|_| CryptoError::Library);
        Ok((sized(&name)?, sized(&key)?))
    }

    /// The OCSP responders of its authorityInfoAccess, in order.
    pub fn ocsp_urls(&self) -> Vec<String> {
        let Ok(urls) = self.x509.ocsp_responders() else {
            return Vec::new();
        };
        urls.iter().map(|url| (**url).to_owned()).collect()
    }

    /// Where its revocation list is, by its distribution points (RFC 5280, 4.2.1.13), in order. Those
    /// for some reasons only, or of another issuer, are passed over.
    pub fn crl_urls(&self) -> Vec<String> {
        let value = extension(&self.x509, Nid::CRL_DISTRIBUTION_POINTS);
        value
            .and_then(|value| crl::urls(value).ok())
            .unwrap_or_default()
    }

    /// Whether `issuer` has given this certificate the right to sign OCSP responses in its place, and
    /// it holds at `at` (seconds since 1970; RFC 6960, 4.2.2.2).
    pub fn answers_for(&self, issuer: &Self, at: i64) -> bool {
        let begins = seconds(self.x509.not_before()).is_some_and(|begin| begin <= at);
        let lasts = seconds(self.x509.not_after()).is_some_and(|end| at <= end);
        let signed = || {
            let key = issuer.x509.public_key();
            key.is_ok_and(|key| self.x509.verify(&key).unwrap_or(false))
        };
        may_sign_ocsp(&self.x509)
            && begins
            && lasts
            && strong(&self.x509).is_ok()
            && self.is_issued_by(issuer)
            && signed()
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_issued(&self) -> bool {
        let (subject, issuer) = (self.x509.subject_name(), self.x509.issuer_name());
        subject.try_cmp(issuer).is_ok_and(std::cmp::Ordering::is_eq)
    }
}

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChainError(pub &'static str);

impl From<CryptoError> for ChainError {
    fn from(_: CryptoError) -> Self {
        Self("crypto library failure")
    }
}

/// The authorities we trust, and what they revoked.
pub struct TrustStore {
    store: X509Store,
    authorities: Vec<Certificate>,
    crls: bool,
    partial: bool,
    /// When the first list must have been replaced, in seconds since 1970.
    next_update: i64,
}

impl fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustStore(crls: {})", self.crls)
    }
}

impl TrustStore {
    /// `partial`: a chain may end at any certificate here, not only at one that issued itself. As
    /// soon as there is one revocation list, each issuer needs one.
    pub fn new(
        authorities: &[Certificate],
        crls: &[Crl],
        partial: bool,
    ) -> Result<Self, CryptoError> {
        let mut builder = X509StoreBuilder::new()?;
        for authority in authorities {
            builder.add_cert(&authority.x509)?;
        }
        for crl in crls {
            if !crl.add_to(&mut builder) {
                return Err(CryptoError::Library);
            }
        }
        let next_update = crls.iter().filter_map(Crl::next_update).min();
        Ok(Self {
            store: builder.build(),
            authorities: authorities.to_vec(),
            crls: !crls.is_empty(),
            partial,
            next_update: next_update.unwrap_or(i64::MAX),
        })
    }

    /// Checks that a chain leads from `leaf` to a trusted certificate at this moment
    /// (in seconds since 1970): signatures with
    /// SHA-2 or better, validity, constraints of path length and names, revocation; the leaf's key
    /// must be allowed to sign.
    pub fn verify(
        &self,
        leaf: &Certificate,
        others: &[Certificate],
        at: i64,
    ) -> Result<Verified, ChainError> {
        if !may_sign(&leaf.x509) {
            return Err(ChainError("key usage does not allow signatures"));
        }
        self.check(leaf, others, at)?
    }

    fn check(
        &self,
        leaf: &Certificate,
        others: &[Certificate],
        at: i64,
    ) -> Result<Result<Verified, ChainError>, CryptoError> {
        let mut untrusted = Stack::new()?;
        for other in others {
            untrusted.push(other.x509.clone())?;
        }
        let mut flags = X509VerifyFlags::empty();
        if self.partial {
            flags |= X509VerifyFlags::PARTIAL_CHAIN;
        }
        if self.crls {
            flags |= X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
        }
        let mut context = X509StoreContext::new()?;
        let verdict = context.init(&self.store, &leaf.x509, &untrusted, |context| {
            let parameters = context.verify_param_mut();
            parameters.try_set_flags(flags)?;
            parameters.set_depth(DEPTH_MAX);
            parameters.set_time(at);
            if context.verify_cert()? {
                let known = self.authorities.iter().chain(others);
                return Ok(sound(context, known));
            }
            let error = context.verify_result().err();
            let words = error.map_or("invalid certificate", |error| error.error_string());
            Ok(Err(ChainError(words)))
        })?;
        Ok(verdict.map(|verified| Verified {
            until: verified.until.min(self.next_update),
            ..verified
        }))
    }
}

/// A chain that holds.
#[derive(Clone, Debug)]
pub struct Verified {
    /// How long, in seconds since 1970.
    pub until: i64,
    /// What is above the leaf: who issued it, and so on up to a trusted certificate. Empty where the
    /// leaf itself is trusted.
    pub above: Vec<Certificate>,
}

/// What the library does not ask of a chain that it found: strong hashes and keys below the trusted
/// end. Whoever is above the leaf is among the `known`.
fn sound<'a>(
    context: &X509StoreContextRef,
    known: impl Iterator<Item = &'a Certificate> + Clone,
) -> Result<Verified, ChainError> {
    let chain = context.chain().ok_or(ChainError("no chain"))?;
    let below = chain.len().saturating_sub(1);
    let mut until = i64::MAX;
    for (depth, certificate) in chain.iter().enumerate() {
        until = until.min(seconds(certificate.not_after()).unwrap_or(0));
        if depth < below || below == 0 {
            strong(certificate)?;
        }
    }
    let above = chain.iter().skip(1).map(|issuer| {
        let known = known.clone().find(|known| known.is(issuer));
        known.map_or_else(
            || Certificate::new(issuer.to_owned()),
            |known| Ok(known.clone()),
        )
    });
    Ok(Verified {
        until,
        above: above.collect::<Result<_, _>>()?,
    })
}

/// The public key itself: what the BIT STRING of a SubjectPublicKeyInfo holds.
fn spki_key(certificate: &X509Ref) -> Result<Vec<u8>, CryptoError> {
    let key = certificate
        .public_key()
        .map_err(|_| CryptoError::UnsupportedKey)?;
    let spki = key.public_key_to_der()?;
    let key = Fields::of_sequence(&spki).and_then(|mut fields| {
        fields.sequence()?;
        fields.any()?.bits()
    });
    let key = key.map_err(|_| CryptoError::UnsupportedKey)?;
    Ok(key.to_vec())
}

/// Whether a signature of this kind counts.
pub(super) fn is_strong(algorithm: Nid) -> bool {
    STRONG.contains(&algorithm) || algorithm.as_raw() == boring_sys::NID_ED25519
}

fn strong(certificate: &X509Ref) -> Result<(), ChainError> {
    if !is_strong(certificate.signature_algorithm().object().nid()) {
        return Err(ChainError("signature algorithm too weak or unknown"));
    }
    let key = certificate
        .public_key()
        .map_err(|_| ChainError("unsupported key"))?;
    match kind_of(&key) {
        Ok(_) => Ok(()),
        Err(_) => Err(ChainError("unsupported key")),
    }
}

/// Intermediate certificates in a chain; more is nobody's practice.
const DEPTH_MAX: i32 = 8;
/// The signature algorithms of certificates that count, beside Ed25519.
const STRONG: [Nid; 7] = [
    Nid::SHA256WITHRSAENCRYPTION,
    Nid::SHA384WITHRSAENCRYPTION,
    Nid::SHA512WITHRSAENCRYPTION,
    Nid::RSASSAPSS,
    Nid::ECDSA_WITH_SHA256,
    Nid::ECDSA_WITH_SHA384,
    Nid::ECDSA_WITH_SHA512,
];
