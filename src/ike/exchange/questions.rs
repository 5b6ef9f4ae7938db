//! What the lookup thread is asked about certificates: whether the peer's is revoked, and what is said
//! of our own (RFC 4806).

use std::time::{Duration, UNIX_EPOCH};

use super::super::context::Context;
use crate::auth::AuthError;
use crate::auth::chain::Vouched;
use crate::crypto::ocsp::{self, CertId, Rules, Status};
use crate::crypto::x509::Certificate;
use crate::lookup::http::Url;
use crate::lookup::port::{CrlQuestion, OcspQuestion, Question};
use crate::time::Now;
use crate::wire::registry::CertEncoding;

/// Whether a certificate that only a chain vouches for is revoked: what must be asked, as far as the
/// configuration says that it must, and the peer's CERT payloads `certs` have no answer (RFC 4806).
pub fn revocation(
    cx: &Context,
    now: Now,
    vouched: Option<Vouched>,
    certs: &[(CertEncoding, &[u8])],
) -> Result<Vec<Question>, AuthError> {
    let mut questions = Vec::new();
    let Some(Vouched { leaf, above }) = vouched else {
        return Ok(questions);
    };
    // A certificate that is trusted itself has nobody who could revoke it.
    if let (Some(ocsp), Some(issuer)) = (&cx.config.settings.ocsp, above.first()) {
        let question = ocsp_question(cx, &ocsp.url, &issuer.ocsp_urls(), &leaf, issuer);
        match answered_in_band(&question, now, certs) {
            Some(Status::Good) => {}
            Some(Status::Revoked) => return Err(AuthError::Certificate("revoked")),
            Some(Status::Unknown) | None => questions.push(Question::Ocsp(Box::new(question))),
        }
    }
    if cx.config.settings.crl.is_some() {
        let chain = [leaf].into_iter().chain(above.iter().cloned());
        for (certificate, issuer) in chain.zip(&above) {
            let named = certificate.crl_urls().into_iter();
            let urls = named.filter(|url| Url::read(url).is_some());
            let urls: Vec<String> = urls.take(LIST_URLS_MAX).collect();
            let issuer = issuer.clone();
            if !urls.is_empty() {
                questions.push(Question::Crl(Box::new(CrlQuestion {
                    urls,
                    certificate,
                    issuer,
                })));
            }
        }
    }
    Ok(questions)
}

/// What the peer's CERT payloads say of its certificate, if the responder said it a short while ago.
fn answered_in_band(
    question: &OcspQuestion,
    now: Now,
    certs: &[(CertEncoding, &[u8])],
) -> Option<Status> {
    let id = CertId::new(&question.leaf, &question.issuer).ok()?;
    let since = now.wall.duration_since(UNIX_EPOCH);
    let rules = Rules {
        issuer: &question.issuer,
        responders: &question.responders,
        nonce: None,
        at: i64::try_from(since.map_or(0, |since| since.as_secs())).unwrap_or(i64::MAX),
        tolerate: question.tolerate,
        // Else a peer could show for days what was said before it was revoked.
        max_age: Some(question.max_age.unwrap_or(IN_BAND_MAX)),
    };
    let responses = certs.iter().filter(|(kind, _)| *kind == CertEncoding::OCSP);
    let mut verdicts = responses
        .take(RESPONSES_MAX)
        .filter_map(|(_, response)| ocsp::check(response, &id, rules).ok());
    verdicts.next().map(|verdict| verdict.status)
}

/// What to ask about the first certificate that we show, should the peer want to see an answer
/// (RFC 4806). The peer may be anybody yet: it has us speak to our own responder only, and that seldom.
pub fn own_status(
    cx: &Context,
    asked: &[(CertEncoding, &[u8])],
    certs: &[(CertEncoding, Vec<u8>)],
) -> Option<Question> {
    let wanted = asked.iter().any(|(kind, _)| *kind == CertEncoding::OCSP);
    let (CertEncoding::X509, der) = certs.first().filter(|_| wanted)? else {
        return None;
    };
    let (leaf, issuer) = cx.store.own_issuer(der)?;
    let fallback = cx.config.settings.ocsp.as_ref();
    let fallback = fallback.map_or("", |ocsp| ocsp.url.as_str());
    let named = [leaf.ocsp_urls(), issuer.ocsp_urls()].concat();
    let question = ocsp_question(cx, fallback, &named, leaf, issuer);
    Url::read(&question.url)?;
    Some(Question::Own(Box::new(question)))
}

fn ocsp_question(
    cx: &Context,
    fallback: &str,
    named: &[String],
    leaf: &Certificate,
    issuer: &Certificate,
) -> OcspQuestion {
    let url = named.iter().find(|url| Url::read(url).is_some());
    let words = cx.config.settings.ocsp.as_ref();
    let tolerate = words.map(|ocsp| ocsp.tolerate);
    OcspQuestion {
        url: url.map_or(fallback, String::as_str).to_owned(),
        leaf: leaf.clone(),
        issuer: issuer.clone(),
        responders: cx.store.responders().clone(),
        tolerate: tolerate.filter(|time| !time.is_zero()).unwrap_or(TOLERATE),
        max_age: words.and_then(|ocsp| ocsp.max_age),
    }
}

/// How old a response may be that the peer shows: as long as we believe what a responder told us.
const IN_BAND_MAX: Duration = Duration::from_secs(300);
/// Responses of a peer that are looked at.
const RESPONSES_MAX: usize = 4;
/// Places of one list that are tried.
const LIST_URLS_MAX: usize = 4;
/// How far a responder's clock may be off where the configuration says nothing of it.
const TOLERATE: Duration = Duration::from_secs(300);
