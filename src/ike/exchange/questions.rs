//! What the lookup thread is asked about certificates: whether the peer's is revoked.

use std::time::Duration;

use super::super::context::Context;
use crate::auth::chain::Vouched;
use crate::crypto::x509::Certificate;
use crate::lookup::http::Url;
use crate::lookup::port::{CrlQuestion, OcspQuestion, Question};

/// Whether a certificate that only a chain vouches for is revoked: what must be asked, as far as the
/// configuration says that it must.
pub fn revocation(cx: &Context, vouched: Option<Vouched>) -> Vec<Question> {
    let mut questions = Vec::new();
    let Some(Vouched { leaf, above }) = vouched else {
        return questions;
    };
    // A certificate that is trusted itself has nobody who could revoke it.
    if let (Some(ocsp), Some(issuer)) = (&cx.config.settings.ocsp, above.first()) {
        let question = ocsp_question(cx, &ocsp.url, &issuer.ocsp_urls(), &leaf, issuer);
        questions.push(Question::Ocsp(Box::new(question)));
    }
    if cx.config.settings.crl.is_some() {
        let chain = [leaf].into_iter().chain(above.iter().cloned());
        for (certificate, issuer) in chain.zip(&above) {
            let mut named = certificate.crl_urls().into_iter();
            let issuer = issuer.clone();
            let url = named.find(|url| Url::read(url).is_some());
            questions.extend(url.map(|url| {
                Question::Crl(Box::new(CrlQuestion {
                    url,
                    certificate,
                    issuer,
                }))
            }));
        }
    }
    questions
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

/// How far a responder's clock may be off where the configuration says nothing of it.
const TOLERATE: Duration = Duration::from_secs(300);
