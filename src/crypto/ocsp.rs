//! The Online Certificate Status Protocol (RFC 6960): the request for one certificate, and what its
//! response is worth. Who is asked, and how, is not said here.

use std::time::Duration;

use super::asn1::{self, Field, Fields, Malformed};
use super::x509::Certificate;
use super::{CryptoError, sign::PublicKey};
use crate::wire::registry::HashAlgorithm;

/// Names the certificate asked about (RFC 6960, 4.1.1), by SHA-1 as every responder knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    name_hash: [u8; 20],
    key_hash: [u8; 20],
    /// The INTEGER, whole.
    serial: Vec<u8>,
}

impl CertId {
    /// Of a certificate and who issued it.
    pub fn new(leaf: &Certificate, issuer: &Certificate) -> Result<Self, CryptoError> {
        let (name_hash, key_hash) = issuer.issuer_hashes()?;
        let serial = serial(leaf.der()).map_err(|_| CryptoError::Certificate)?;
        Ok(Self {
            name_hash,
            key_hash,
            serial,
        })
    }

    fn der(&self) -> Vec<u8> {
        let (name, key) = (asn1::octets(&self.name_hash), asn1::octets(&self.key_hash));
        let algorithm = asn1::sequence(&[SHA1, &[5, 0]]);
        asn1::sequence(&[&algorithm, &name, &key, &self.serial])
    }

    /// Whether a response speaks of the same certificate.
    fn is(&self, field: Field<'_>) -> Result<bool, Malformed> {
        let mut fields = field.fields()?;
        let algorithm = fields.sequence()?.any()?;
        let name = fields.tagged(asn1::OCTET_STRING)?.content;
        let key = fields.tagged(asn1::OCTET_STRING)?.content;
        let serial = fields.tagged(asn1::INTEGER)?.whole;
        fields.end()?;
        let same_issuer = name == self.name_hash && key == self.key_hash;
        Ok(algorithm.whole == SHA1 && same_issuer && serial == self.serial)
    }
}

/// A request for one certificate, unsigned, with this nonce, if any (RFC 9654).
pub fn request(id: &CertId, nonce: Option<&[u8; NONCE_LEN]>) -> Vec<u8> {
    let list = asn1::sequence(&[&asn1::sequence(&[&id.der()])]);
    let Some(nonce) = nonce else {
        return asn1::sequence(&[&asn1::sequence(&[&list])]);
    };
    let nonce = asn1::octets(&asn1::octets(nonce));
    let extensions = asn1::sequence(&[&asn1::sequence(&[NONCE, &nonce])]);
    asn1::sequence(&[&asn1::sequence(&[&list, &asn1::explicit(2, &extensions)])])
}

/// Whose responses count, and how old they may be.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Who issued the certificate, and so may speak of it or name who does.
    pub issuer: &'a Certificate,
    /// Responders that the administrator trusts.
    pub responders: &'a [Certificate],
    /// What the request had.
    pub nonce: Option<&'a [u8]>,
    /// Now, in seconds since 1970.
    pub at: i64,
    /// How far the responder's clock may be off.
    pub tolerate: Duration,
    /// Greatest age.
    pub max_age: Option<Duration>,
}

/// What is known of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked,
    /// The responder does not know it.
    Unknown,
}

/// A response that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it says.
    pub status: Status,
    /// How long, in seconds since 1970; `None`: there may be news at any time.
    pub until: Option<i64>,
    /// It has the nonce of the request.
    pub fresh: bool,
}

/// Why a response does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// It cannot be read.
    #[error("malformed OCSP response")]
    Malformed,
    /// The responder says that it has none: malformedRequest, internalError, tryLater, sigRequired,
    /// unauthorized.
    #[error("OCSP responder refuses with status {0}")]
    Refused(u8),
    /// It is of a type, or has an extension, that we do not know and must.
    #[error("OCSP response of an unknown kind")]
    Unsupported,
    /// It is not signed by one who may.
    #[error("OCSP response of a wrong signer")]
    Signer,
    /// It has another nonce than the request.
    #[error("OCSP response to another request")]
    Nonce,
    /// It does not speak of the certificate.
    #[error("OCSP response about another certificate")]
    Other,
    /// It is not of this time.
    #[error("OCSP response not yet valid")]
    Early,
    /// It is not of this time.
    #[error("OCSP response expired")]
    Expired,
}

impl From<Malformed> for OcspError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Reads and checks a response (RFC 6960, 3.2 and 4.2).
pub fn check(response: &[u8], id: &CertId, rules: Rules<'_>) -> Result<Verdict, OcspError> {
    let basic = Basic::read(response)?;
    if !basic.is_signed(&rules) {
        return Err(OcspError::Signer);
    }
    judge(basic.data, id, &rules)
}

/// What ResponseData say; they are signed by one who may.
fn judge(data: &[u8], id: &CertId, rules: &Rules<'_>) -> Result<Verdict, OcspError> {
    let mut data = Fields::of_sequence(data)?;
    if let Some(version) = data.optional(0xa0)? {
        // Version 1 is number 0.
        if version.content != [asn1::INTEGER, 1, 0] {
            return Err(OcspError::Unsupported);
        }
    }
    // Who it says it is matters less than whose key it signed with.
    data.any()?;
    data.tagged(asn1::GENERALIZED_TIME)?.time()?;
    let mut answers = data.sequence()?;
    let nonce = match data.optional(0xa1)? {
        Some(extensions) => nonce_of(extensions)?,
        None => None,
    };
    data.end()?;
    // A responder that answers from store says none (RFC 9654, 2.1).
    let fresh = match (rules.nonce, nonce) {
        (Some(sent), Some(said)) if sent != said => return Err(OcspError::Nonce),
        (Some(_), Some(_)) => true,
        (Some(_) | None, _) => false,
    };
    while !answers.is_empty() {
        let single = Single::read(answers.any()?)?;
        if id.is(single.id)? {
            let (status, until) = single.judge(rules)?;
            return Ok(Verdict {
                status,
                until,
                fresh,
            });
        }
    }
    Err(OcspError::Other)
}

/// Runs everything behind the signature on a response or on its ResponseData alone.
pub(crate) fn fuzz(bytes: &[u8], id: &CertId, rules: Rules<'_>) {
    let _ = judge(bytes, id, &rules);
    if let Ok(basic) = Basic::read(bytes) {
        let _ = judge(basic.data, id, &rules);
    }
}

/// What the signature of a response covers.
pub(crate) fn signed(response: &[u8]) -> Option<&[u8]> {
    Basic::read(response).ok().map(|basic| basic.data)
}

/// A BasicOCSPResponse (RFC 6960, 4.2.1).
struct Basic<'a> {
    data: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Vec<&'a [u8]>,
}

impl<'a> Basic<'a> {
    fn read(response: &'a [u8]) -> Result<Self, OcspError> {
        let mut outer = Fields::of_sequence(response)?;
        match outer.tagged(asn1::ENUMERATED)?.content {
            [0] => {}
            [status] => return Err(OcspError::Refused(*status)),
            _ => return Err(OcspError::Malformed),
        }
        let mut bytes = outer.tagged(0xa0)?.fields()?;
        outer.end()?;
        let mut typed = bytes.sequence()?;
        bytes.end()?;
        if typed.any()?.whole != BASIC {
            return Err(OcspError::Unsupported);
        }
        let basic = typed.tagged(asn1::OCTET_STRING)?.content;
        typed.end()?;
        let mut fields = Fields::of_sequence(basic)?;
        let data = fields.tagged(asn1::SEQUENCE)?.whole;
        let algorithm = fields.tagged(asn1::SEQUENCE)?.whole;
        let signature = fields.any()?.bits()?;
        let mut certificates = Vec::new();
        if let Some(field) = fields.optional(0xa0)? {
            let mut list = field.fields()?.sequence()?;
            while !list.is_empty() && certificates.len() < CERTIFICATES_MAX {
                certificates.push(list.any()?.whole);
            }
        }
        fields.end()?;
        Ok(Self {
            data,
            algorithm,
            signature,
            certificates,
        })
    }

    /// Whether one who may speak for the issuer signed it.
    fn is_signed(&self, rules: &Rules<'_>) -> bool {
        let own = [rules.issuer].into_iter().chain(rules.responders);
        let mut keys: Vec<PublicKey> = own.filter_map(|c| c.public_key().ok()).collect();
        let sent = self.certificates.iter();
        let sent = sent.filter_map(|der| Certificate::from_der(der).ok());
        let delegated = sent.filter(|c| c.answers_for(rules.issuer, rules.at));
        keys.extend(delegated.filter_map(|c| c.public_key().ok()));
        let Ok(length) = u8::try_from(self.algorithm.len()) else {
            return false;
        };
        // The form of RFC 7427, so that the same algorithms count as in AUTH payloads.
        let signature = [&[length], self.algorithm, self.signature].concat();
        let good = |key: &PublicKey| key.verify_rfc7427(&signature, self.data, HASHES).is_ok();
        keys.iter().any(good)
    }
}

/// A SingleResponse (RFC 6960, 4.2.1).
struct Single<'a> {
    id: Field<'a>,
    status: u8,
    this_update: i64,
    next_update: Option<i64>,
}

impl<'a> Single<'a> {
    fn read(field: Field<'a>) -> Result<Self, OcspError> {
        let mut fields = field.fields()?;
        let id = fields.tagged(asn1::SEQUENCE)?;
        let status = fields.any()?.tag;
        let this_update = fields.tagged(asn1::GENERALIZED_TIME)?.time()?;
        let next_update = match fields.optional(0xa0)? {
            Some(field) => Some(field.fields()?.tagged(asn1::GENERALIZED_TIME)?.time()?),
            None => None,
        };
        if let Some(extensions) = fields.optional(0xa1)? {
            nonce_of(extensions)?;
        }
        fields.end()?;
        Ok(Self {
            id,
            status,
            this_update,
            next_update,
        })
    }

    /// What it says, if it is of this time, and until when.
    fn judge(&self, rules: &Rules<'_>) -> Result<(Status, Option<i64>), OcspError> {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let slack = seconds(rules.tolerate);
        if self.this_update.saturating_sub(slack) > rules.at {
            return Err(OcspError::Early);
        }
        let aged = rules
            .max_age
            .map(|age| self.this_update.saturating_add(seconds(age)));
        let until = self.next_update.into_iter().chain(aged).min();
        if until.is_some_and(|until| until.saturating_add(slack) < rules.at) {
            return Err(OcspError::Expired);
        }
        let status = match self.status {
            0x80 => Status::Good,
            0xa1 => Status::Revoked,
            0x82 => Status::Unknown,
            _ => return Err(OcspError::Malformed),
        };
        Ok((status, until))
    }
}

/// The nonce among extensions; one that is critical and that we do not know must not be passed over.
fn nonce_of<'a>(extensions: Field<'a>) -> Result<Option<&'a [u8]>, OcspError> {
    let mut list = extensions.fields()?.sequence()?;
    let mut nonce = None;
    while !list.is_empty() {
        let mut extension = list.sequence()?;
        let kind = extension.tagged(asn1::OBJECT_IDENTIFIER)?.whole;
        let critical = extension.optional(asn1::BOOLEAN)?;
        let value = extension.tagged(asn1::OCTET_STRING)?.content;
        extension.end()?;
        if kind == NONCE {
            let mut inner = Fields::within(value)?;
            nonce = Some(inner.tagged(asn1::OCTET_STRING)?.content);
        } else if critical.is_some_and(|critical| critical.content != [0]) {
            return Err(OcspError::Unsupported);
        }
    }
    Ok(nonce)
}

/// The serial number of a certificate, the INTEGER as it stands there (RFC 5280, 4.1.2.2).
fn serial(certificate: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut fields = Fields::of_sequence(certificate)?.sequence()?;
    fields.optional(0xa0)?;
    Ok(fields.tagged(asn1::INTEGER)?.whole.to_vec())
}

/// Bytes of a nonce (RFC 9654, 2.1).
pub const NONCE_LEN: usize = 32;
/// Certificates looked at in one response.
const CERTIFICATES_MAX: usize = 8;
/// What may be signed with.
const HASHES: &[HashAlgorithm] = &[
    HashAlgorithm::SHA2_256,
    HashAlgorithm::SHA2_384,
    HashAlgorithm::SHA2_512,
    HashAlgorithm::IDENTITY,
];
/// Object identifiers as fields: SHA-1, id-pkix-ocsp-nonce, id-pkix-ocsp-basic.
const SHA1: &[u8] = &[6, 5, 0x2b, 0x0e, 3, 2, 0x1a];
const NONCE: &[u8] = &[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
const BASIC: &[u8] = &[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

#[cfg(test)]
mod tests;
