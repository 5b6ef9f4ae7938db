//! Revocation lists as they are fetched (RFC 5280, 5): whether a list counts, and what it says of a
//! certificate. Parsing and scope are BoringSSL's.

use std::time::Duration;

use boring::stack::Stack;
use boring::x509::store::X509StoreBuilder;
use boring::x509::verify::X509VerifyFlags;
use boring::x509::{X509StoreContext, X509VerifyError};

use super::CryptoError;
use super::asn1::{Fields, Malformed};
use super::ocsp::Status;
use super::x509::{Certificate, Crl, is_strong};

/// A list that its issuer signed.
#[derive(Debug)]
pub struct List {
    crl: Crl,
    issuer: Certificate,
    /// When it was made, and when the next one is due, in seconds since 1970.
    made: i64,
    until: i64,
}

/// Why a list does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// It cannot be read, or does not say when the next one is due, as each must (RFC 5280, 5.1.2.5).
    #[error("malformed CRL")]
    Malformed,
    /// It is the list of somebody else.
    #[error("CRL of another issuer")]
    Other,
    /// It is not signed by the issuer, not with SHA-2, or the issuer may sign no lists.
    #[error("CRL of a wrong signer")]
    Signer,
    /// It is not of this time.
    #[error("CRL not yet valid")]
    Early,
    /// It is not of this time.
    #[error("CRL expired")]
    Expired,
    /// It speaks of other certificates of this issuer.
    #[error("CRL not about this certificate")]
    Scope,
    /// It has an extension that we do not know and must, or the library failed.
    #[error("CRL of an unknown kind")]
    Unsupported,
}

impl From<CryptoError> for CrlError {
    fn from(_: CryptoError) -> Self {
        Self::Unsupported
    }
}

impl List {
    /// Reads a list in DER, which must be this issuer's and of this moment (in seconds since 1970).
    pub fn read(der: &[u8], issuer: &Certificate, at: i64) -> Result<Self, CrlError> {
        let crl = Crl::from_der(der).ok_or(CrlError::Malformed)?;
        if !crl.names(issuer.x509()) {
            return Err(CrlError::Other);
        }
        let key = issuer.x509().public_key().map_err(|_| CrlError::Signer)?;
        if !is_strong(crl.signature_algorithm()) || !crl.is_signed_by(&key) {
            return Err(CrlError::Signer);
        }
        let slack = i64::try_from(SLACK.as_secs()).unwrap_or(0);
        let made = crl.this_update().ok_or(CrlError::Malformed)?;
        if made.saturating_sub(slack) > at {
            return Err(CrlError::Early);
        }
        let until = crl.next_update().ok_or(CrlError::Malformed)?;
        let until = until.saturating_add(slack);
        if until < at {
            return Err(CrlError::Expired);
        }
        let issuer = issuer.clone();
        Ok(Self {
            crl,
            issuer,
            made,
            until,
        })
    }

    /// When it was made, in seconds since 1970.
    pub const fn made(&self) -> i64 {
        self.made
    }

    /// The last second in which it counts, since 1970.
    pub const fn until(&self) -> i64 {
        self.until
    }

    /// Whose it is.
    pub const fn issuer(&self) -> &Certificate {
        &self.issuer
    }

    /// What it says of a certificate of its issuer.
    pub fn status(&self, certificate: &Certificate) -> Result<Status, CrlError> {
        self.verify(certificate)
            .map_err(|_| CrlError::Unsupported)?
    }

    /// Times are not looked at here: those of the certificate were, ours are [`Self::read`]'s.
    fn verify(&self, certificate: &Certificate) -> Result<Result<Status, CrlError>, CryptoError> {
        let mut builder = X509StoreBuilder::new()?;
        builder.add_cert(self.issuer.x509())?;
        if !self.crl.add_to(&mut builder) {
            return Err(CryptoError::Library);
        }
        let store = builder.build();
        let flags = X509VerifyFlags::PARTIAL_CHAIN
            | X509VerifyFlags::CRL_CHECK
            | X509VerifyFlags::from_bits_retain(boring_sys::X509_V_FLAG_NO_CHECK_TIME as _);
        let untrusted = Stack::new()?;
        let mut context = X509StoreContext::new()?;
        let verdict = context.init(&store, certificate.x509(), &untrusted, |context| {
            context.verify_param_mut().try_set_flags(flags)?;
            if context.verify_cert()? {
                return Ok(Ok(Status::Good));
            }
            Ok(match context.verify_result() {
                Err(X509VerifyError::CERT_REVOKED) => Ok(Status::Revoked),
                Err(X509VerifyError::DIFFERENT_CRL_SCOPE | X509VerifyError::UNABLE_TO_GET_CRL) => {
                    Err(CrlError::Scope)
                }
                Err(X509VerifyError::KEYUSAGE_NO_CRL_SIGN) => Err(CrlError::Signer),
                Ok(()) | Err(_) => Err(CrlError::Unsupported),
            })
        })?;
        Ok(verdict)
    }
}

/// The URIs in the value of a cRLDistributionPoints extension.
pub(crate) fn urls(value: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut points = Fields::of_sequence(value)?;
    let mut urls = Vec::new();
    while !points.is_empty() {
        let mut point = points.sequence()?;
        let Some(name) = point.optional(POINT)? else {
            continue;
        };
        // Reasons or an issuer.
        if !point.is_empty() {
            continue;
        }
        let mut name = name.fields()?;
        let Some(full) = name.optional(FULL_NAME)? else {
            continue;
        };
        let mut names = full.fields()?;
        while !names.is_empty() {
            let name = names.any()?;
            if let (URI, Ok(url)) = (name.tag, std::str::from_utf8(name.content)) {
                urls.push(url.to_owned());
            }
        }
    }
    Ok(urls)
}

/// How far the issuer's clock may be off.
const SLACK: Duration = Duration::from_secs(300);
/// `[0]` of a DistributionPoint, `[0]` of its name, `[6]` of a GeneralName.
const POINT: u8 = 0xa0;
const FULL_NAME: u8 = 0xa0;
const URI: u8 = 0x86;

#[cfg(test)]
mod tests;
