//! What servers of certificates answer.

use std::sync::LazyLock;
use std::time::Duration;

use crate::crypto::crl::{self, List};
use crate::crypto::ocsp::{self, CertId, Rules};
use crate::crypto::x509::Certificate;
use crate::lookup::http::{Response, Url};

/// An OCSP response. Whatever it is, only one that the issuer or its delegate has signed counts, and
/// those we know: a verdict on other data is a bug.
pub fn ocsp(bytes: &[u8]) {
    let Some((leaf, issuer)) = &*PAIR else {
        return;
    };
    let Ok(id) = CertId::new(leaf, issuer) else {
        return;
    };
    let rules = Rules {
        issuer,
        responders: &[],
        nonce: None,
        at: MADE,
        tolerate: Duration::MAX,
        max_age: None,
    };
    if ocsp::check(bytes, &id, rules).is_ok() {
        // Not the certificates along with it: they are no part of what is signed.
        let data = ocsp::signed(bytes);
        let known = SIGNED.iter().any(|one| ocsp::signed(one) == data);
        assert!(known && data.is_some(), "a forged response counts");
    }
    // The walk behind the signature, which no fuzzer gets past.
    ocsp::fuzz(bytes, &id, rules);
}

/// A revocation list in DER, and the value of an extension that says where lists are. Whatever it is,
/// only a list that the issuer has signed counts, and those we know.
pub fn crl(bytes: &[u8]) {
    let Some(authority) = &*AUTHORITY else {
        return;
    };
    if let Ok(list) = List::read(bytes, authority, MADE) {
        assert!(LISTS.contains(&bytes), "a forged list counts");
        assert!(list.made() <= MADE && MADE <= list.until());
        for certificate in &*LISTED {
            let _ = list.status(certificate);
        }
    }
    for url in crl::urls(bytes).unwrap_or_default() {
        let stands_there = |url: &str| bytes.windows(url.len()).any(|part| part == url.as_bytes());
        assert!(url.is_empty() || stands_there(&url), "a URL from nowhere");
    }
}

/// An HTTP response in pieces: each behind its length in one byte. However it is cut, it ends the same
/// way. The bytes are tried as a URL too, and one that is taken keeps its request line whole.
pub fn http(bytes: &[u8]) {
    let mut pieces = Response::new(BODY_MAX);
    let mut all = Vec::new();
    let mut rest = bytes;
    let mut ended = None;
    while let Some((&length, more)) = rest.split_first() {
        let (piece, more) = more.split_at(usize::from(length).min(more.len()));
        all.extend_from_slice(piece);
        rest = more;
        match pieces.take(piece) {
            Ok(None) => {}
            end => {
                ended = Some(end);
                break;
            }
        }
    }
    let whole = Response::new(BODY_MAX).take(&all);
    if let Some(Ok(body)) = ended {
        assert_eq!(whole, Ok(body));
    }
    if let Some(url) = std::str::from_utf8(bytes).ok().and_then(Url::read) {
        let request = url.get();
        let lines = request.split(|byte| *byte == b'\n').count();
        assert_eq!(lines, 5, "the URL breaks the request");
        assert!(!url.host.is_empty() && url.port != 0);
    }
}

static PAIR: LazyLock<Option<(Certificate, Certificate)>> = LazyLock::new(|| {
    let read = |pem: &[u8]| Certificate::all_from_pem(pem).ok()?.into_iter().next();
    Some((read(LEAF)?, read(ISSUER)?))
});

static AUTHORITY: LazyLock<Option<Certificate>> = LazyLock::new(|| {
    let pem = include_bytes!("../../tests/vectors/crl/ca.crt");
    Certificate::all_from_pem(pem).ok()?.into_iter().next()
});

/// What the authority issued.
static LISTED: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    let pems: [&[u8]; 3] = [
        include_bytes!("../../tests/vectors/crl/good.crt"),
        include_bytes!("../../tests/vectors/crl/revoked.crt"),
        include_bytes!("../../tests/vectors/crl/sub.crt"),
    ];
    let all = pems.iter().map(|pem| Certificate::all_from_pem(pem));
    all.filter_map(Result::ok).flatten().collect()
});

/// All lists of the authority that count.
const LISTS: [&[u8]; 5] = [
    include_bytes!("../../tests/vectors/crl/ca.crl"),
    include_bytes!("../../tests/vectors/crl/later.crl"),
    include_bytes!("../../tests/vectors/crl/newer.crl"),
    include_bytes!("../../tests/vectors/crl/users.crl"),
    include_bytes!("../../tests/vectors/crl/elsewhere.crl"),
];
const LEAF: &[u8] = include_bytes!("../../tests/vectors/ocsp/good.crt");
const ISSUER: &[u8] = include_bytes!("../../tests/vectors/ocsp/ca.crt");
/// All responses about that certificate that count.
const SIGNED: [&[u8]; 6] = [
    include_bytes!("../../tests/vectors/ocsp/good.der"),
    include_bytes!("../../tests/vectors/ocsp/short.der"),
    include_bytes!("../../tests/vectors/ocsp/endless.der"),
    include_bytes!("../../tests/vectors/ocsp/delegated.der"),
    include_bytes!("../../tests/vectors/ocsp/unknown.der"),
    include_bytes!("../../tests/vectors/ocsp/nonce.der"),
];
/// 2100, when all certificates are valid; all responses are of that time with so much tolerance.
const MADE: i64 = 4_102_444_800;
const BODY_MAX: usize = 300;
