//! Certificates, of the authority and of hosts (RFC 5280, 4; RFC 4945, 5.1).

use std::net::IpAddr;

use boring::asn1::{Asn1Integer, Asn1Time};
use boring::bn::BigNum;
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use boring::x509::{X509, X509Builder, X509Extension, X509Name, X509NameRef, X509Ref};

use super::CaError;
use super::key::Key;
use super::request::Usage;
use crate::sys::x509::seconds;

/// Peers whose clocks are slow shall not refuse what was signed just now.
pub(super) const BACKDATED: i64 = 300;

const DAY: i64 = 86_400;
const AUTHORITY_DAYS: i64 = 4500;
const HOST_DAYS: i64 = 365;

/// The name of every authority, as OpenIKED has it.
pub(super) const AUTHORITY_NAME: &str = "VPN CA";

/// An authority's certificate, signed by itself. `now` is in seconds since 1970.
pub(super) fn of_authority(key: &Key, name: &str, now: i64) -> Result<X509, CaError> {
    let mut subject = X509Name::builder()?;
    subject.append_entry_by_nid(Nid::ORGANIZATIONNAME, name)?;
    subject.append_entry_by_nid(Nid::COMMONNAME, AUTHORITY_NAME)?;
    let subject = subject.build();
    let mut serial = [0; 16];
    boring::rand::rand_bytes(&mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let lifetime = now + AUTHORITY_DAYS * DAY;
    let mut builder = begin(key, &serial, &subject, &subject, now, lifetime)?;
    builder.append_extension(&*BasicConstraints::new().critical().ca().build()?)?;
    let usage = KeyUsage::new()
        .critical()
        .key_cert_sign()
        .crl_sign()
        .build()?;
    builder.append_extension(&usage)?;
    sign(builder, None, key)
}

/// Who signs.
#[derive(Clone, Copy)]
pub(super) struct Issuer<'a> {
    pub(super) certificate: &'a X509Ref,
    pub(super) key: &'a Key,
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) key: &'a Key,
    /// The common name.
    pub(super) name: &'a str,
    /// The alternative name: an address, a mail address or a host name.
    pub(super) host: &'a str,
    pub(super) usage: Usage,
}

/// A host's certificate, valid for a year but no longer than its issuer's.
pub(super) fn of_host(
    issuer: Issuer<'_>,
    subject: Subject<'_>,
    serial: &[u8],
    now: i64,
) -> Result<X509, CaError> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::COMMONNAME, subject.name)?;
    let name = name.build();
    let last = seconds(issuer.certificate.not_after()).ok_or(CaError::Crypto)?;
    if last <= now {
        return Err(CaError::Expired);
    }
    let lifetime = last.min(now + HOST_DAYS * DAY);
    let from = issuer.certificate.subject_name();
    let mut builder = begin(subject.key, serial, from, &name, now, lifetime)?;
    builder.append_extension(&*BasicConstraints::new().critical().build()?)?;
    for extension in usages(subject.usage, subject.key.is_rsa())? {
        builder.append_extension(&extension)?;
    }
    let mut alternative = SubjectAlternativeName::new();
    if subject.host.parse::<IpAddr>().is_ok() {
        alternative.ip(subject.host);
    } else if subject.host.contains('@') {
        alternative.email(subject.host);
    } else {
        alternative.dns(subject.host);
    }
    let alternative = alternative.build(&builder.x509v3_context(None, None))?;
    builder.append_extension(&alternative)?;
    sign(builder, Some(issuer.certificate), issuer.key)
}

/// RFC 4945, 5.1.3.2 and 5.1.3.12: what signs, and for what.
fn usages(usage: Usage, rsa: bool) -> Result<[X509Extension; 2], CaError> {
    let (mut key, mut extended) = (KeyUsage::new(), ExtendedKeyUsage::new());
    key.critical().digital_signature();
    match usage {
        Usage::Any => extended.server_auth().client_auth(),
        Usage::Server => extended.server_auth(),
        Usage::Client => extended.client_auth(),
        Usage::Ocsp => extended.other("OCSPSigning"),
    };
    match usage {
        Usage::Client => {
            key.key_agreement();
        }
        Usage::Ocsp => {
            key.non_repudiation();
        }
        Usage::Any | Usage::Server if rsa => {
            key.key_encipherment();
        }
        Usage::Any | Usage::Server => {}
    }
    Ok([key.build()?, extended.build()?])
}

fn begin(
    key: &Key,
    serial: &[u8],
    issuer: &X509NameRef,
    subject: &X509NameRef,
    now: i64,
    not_after: i64,
) -> Result<X509Builder, CaError> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let serial = Asn1Integer::from_bn(&*BigNum::from_slice(serial)?)?;
    builder.set_serial_number(&serial)?;
    builder.set_issuer_name(issuer)?;
    builder.set_subject_name(subject)?;
    builder.set_not_before(&*Asn1Time::from_unix(now - BACKDATED)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(not_after)?)?;
    builder.set_pubkey(key.pkey())?;
    Ok(builder)
}

/// Adds the key identifiers, for which key and issuer must be known, and signs.
fn sign(mut builder: X509Builder, issuer: Option<&X509Ref>, by: &Key) -> Result<X509, CaError> {
    let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer, None))?;
    builder.append_extension(&own)?;
    // OpenSSL's authorities of old have no identifier that could be named.
    if issuer.is_some_and(|issuer| issuer.subject_key_id().is_some()) {
        let context = builder.x509v3_context(issuer, None);
        let above = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
        builder.append_extension(&above)?;
    }
    builder.sign(by.pkey(), MessageDigest::sha256())?;
    Ok(builder.build())
}
