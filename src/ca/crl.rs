//! Revocation lists (RFC 5280, 5).

use std::time::Duration;

use boring::x509::X509Ref;
use der::asn1::{Any, BitString, Null, OctetString, Uint};
use der::oid::{AssociatedOid, ObjectIdentifier};
use der::pem::decode_vec;
use der::{DateTime, Decode, Encode};
use x509_cert::Version;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason, SubjectKeyIdentifier};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::CaError;
use super::certificate::{BACKDATED, Issuer};
use super::index::Revoked;
use super::key::pem;

const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// How long a list counts.
const LIFETIME: u64 = 365 * 86_400;

/// Signs a list, in PEM. `now` is in seconds since 1970.
pub(super) fn sign(
    issuer: Issuer<'_>,
    revoked: &[Revoked],
    number: u64,
    now: i64,
) -> Result<Vec<u8>, CaError> {
    let certificate = parsed(issuer.certificate)?;
    let tbs = certificate.tbs_certificate();
    let mut extensions = vec![extension(&CrlNumber(Uint::try_from(number)?))?];
    if let Some((_, SubjectKeyIdentifier(id))) = tbs.get_extension()? {
        let above = AuthorityKeyIdentifier {
            key_identifier: Some(id),
            ..AuthorityKeyIdentifier::default()
        };
        extensions.push(extension(&above)?);
    }
    let algorithm = if issuer.key.is_rsa() {
        AlgorithmIdentifierOwned {
            oid: RSA_SHA256,
            parameters: Some(Any::encode_from(&Null)?),
        }
    } else {
        AlgorithmIdentifierOwned {
            oid: ECDSA_SHA256,
            parameters: None,
        }
    };
    let entries: Result<Vec<_>, CaError> = revoked.iter().map(entry).collect();
    let entries = entries?;
    let begins = u64::try_from(now - BACKDATED).map_err(|_| CaError::Crypto)?;
    let list = TbsCertList::<Raw> {
        version: Version::V2,
        signature: algorithm.clone(),
        issuer: tbs.subject().clone(),
        this_update: time(begins)?,
        next_update: Some(time(begins + LIFETIME)?),
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(extensions),
    };
    let signature = issuer.key.sign(&list.to_der()?)?;
    let list = CertificateList {
        tbs_cert_list: list,
        signature_algorithm: algorithm,
        signature: BitString::from_bytes(&signature)?,
    };
    pem("X509 CRL", &list.to_der()?)
}

/// The number of a list in PEM; 0 if it has none.
pub(super) fn number(pem: &[u8]) -> Result<u64, CaError> {
    let (_, der) = decode_vec(pem).map_err(|_| CaError::List)?;
    let list = CertificateList::<Raw>::from_der(&der).map_err(|_| CaError::List)?;
    let extensions = list.tbs_cert_list.crl_extensions.unwrap_or_default();
    let number = extensions.iter().find(|e| e.extn_id == CrlNumber::OID);
    let Some(number) = number else { return Ok(0) };
    let number = Uint::from_der(number.extn_value.as_bytes()).map_err(|_| CaError::List)?;
    let bytes = number.as_bytes();
    if bytes.len() > 8 {
        return Err(CaError::List);
    }
    Ok(bytes
        .iter()
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

fn parsed(certificate: &X509Ref) -> Result<CertificateInner<Raw>, CaError> {
    Ok(CertificateInner::from_der(&certificate.to_der()?)?)
}

fn entry(revoked: &Revoked) -> Result<RevokedCert<Raw>, CaError> {
    let reason = revoked.reason.as_deref().and_then(reason);
    let extensions = reason.map(|reason| Ok(vec![extension(&reason)?]));
    Ok(RevokedCert {
        serial_number: SerialNumber::new(&revoked.serial)?,
        revocation_date: time(revoked.at)?,
        crl_entry_extensions: extensions.transpose().map_err(|e: CaError| e)?,
    })
}

/// OpenSSL's words for reasons (RFC 5280, 5.3.1); its further ones are no reasons on a list.
fn reason(word: &str) -> Option<CrlReason> {
    let reasons = [
        ("keyCompromise", CrlReason::KeyCompromise),
        ("CACompromise", CrlReason::CaCompromise),
        ("affiliationChanged", CrlReason::AffiliationChanged),
        ("superseded", CrlReason::Superseded),
        ("cessationOfOperation", CrlReason::CessationOfOperation),
        ("certificateHold", CrlReason::CertificateHold),
    ];
    let found = reasons.into_iter().find(|(name, _)| *name == word);
    found.map(|(_, reason)| reason)
}

fn extension<T: AssociatedOid + Encode>(value: &T) -> Result<Extension, CaError> {
    Ok(Extension {
        extn_id: T::OID,
        critical: false,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

/// UTCTime until 2049, then GeneralizedTime (RFC 5280, 5.1.2.4).
fn time(seconds: u64) -> Result<Time, CaError> {
    let time = DateTime::from_unix_duration(Duration::from_secs(seconds))?;
    Ok(Time::from(time))
}
