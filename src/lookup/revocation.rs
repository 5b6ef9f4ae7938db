//! Whether certificates are revoked, as their issuers' responders say (RFC 6960): one request for
//! each certificate however many ask, and what was said is believed for a while. What is said of our
//! own is kept whole, to be shown (RFC 4806).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::http::Url;
use super::port::{Answer, Failure, LookupId, OcspQuestion};
use super::waiters::Waiters;
use super::web::{Fetch, Ticket, Web};
use super::{Replies, seconds};
use crate::crypto::ocsp::{self, CertId, NONCE_LEN, Rules, Status, Verdict};
use crate::crypto::x509::Certificate;
use crate::crypto::{CryptoError, Rng};
use crate::steer::ShardId;
use crate::time::Now;

/// Who asked what, and what is known.
#[derive(Debug, Default)]
pub struct Revocation {
    /// What is being asked.
    flights: BTreeMap<Key, Flight>,
    tickets: BTreeMap<Ticket, Key>,
    /// Who waits, and for what.
    waiters: Waiters<Key, (ShardId, LookupId)>,
    /// What was said, and until when that is believed.
    known: BTreeMap<Key, (Status, i64)>,
    /// What was said of our own certificates, or that it could not be had, and until when that holds.
    own: BTreeMap<Key, (Shown, i64)>,
}

/// A response, whole.
type Shown = Option<Arc<[u8]>>;

/// All that a question is about; certificates by their SHA-256.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    /// It is our own, and the response is wanted whole.
    own: bool,
    url: String,
    leaf: [u8; 32],
    issuer: [u8; 32],
    responders: Vec<[u8; 32]>,
    tolerate: Duration,
    max_age: Option<Duration>,
}

type Key = Arc<About>;

#[derive(Debug)]
struct Flight {
    question: OcspQuestion,
    id: CertId,
    nonce: Option<[u8; NONCE_LEN]>,
}

impl Revocation {
    /// Takes a question about a peer's certificate, or our `own`.
    pub fn ask(
        &mut self,
        (web, rng, replies): (&mut Web, &mut Rng, &mut Replies),
        now: Now,
        from: ShardId,
        (id, until): (LookupId, Instant),
        own: bool,
        question: OcspQuestion,
    ) {
        let answer = match self.seek((web, rng), now, own, question) {
            Ok(Found::Known(answer)) => answer,
            Ok(Found::Asked(key)) => match self.waiters.add(key, until, (from, id)) {
                Ok(()) => return,
                Err(_) => failed(own, Failure::Busy),
            },
            Err(failure) => failed(own, failure),
        };
        replies.push((from, id, answer));
    }

    /// What is known, or the flight that will tell.
    fn seek(
        &mut self,
        (web, rng): (&mut Web, &mut Rng),
        now: Now,
        own: bool,
        question: OcspQuestion,
    ) -> Result<Found, Failure> {
        let crypto = |_: CryptoError| Failure::Ocsp(ocsp::OcspError::Unsupported);
        let key = key(own, &question).map_err(crypto)?;
        if let Some(answer) = self.recall(&key, seconds(now)) {
            return Ok(Found::Known(answer));
        }
        if self.flights.contains_key(&key) {
            return Ok(Found::Asked(key));
        }
        let url = Url::read(&question.url).ok_or(Failure::Url)?;
        let id = CertId::new(&question.leaf, &question.issuer).map_err(crypto)?;
        // Our own is for others, who do not know of a nonce.
        let nonce: Option<[u8; NONCE_LEN]> = (!own).then(|| rng.bytes());
        let request = ocsp::request(&id, nonce.as_ref());
        let fetch = Fetch {
            request: url.post("application/ocsp-request", &request),
            url,
            body_max: BODY_MAX,
            until: now.mono + FETCH_MAX,
        };
        let ticket = web.begin(fetch, now.mono);
        self.tickets.insert(ticket, Arc::clone(&key));
        let flight = Flight {
            question,
            id,
            nonce,
        };
        self.flights.insert(Arc::clone(&key), flight);
        Ok(Found::Asked(key))
    }

    /// Takes what came of a fetch; false if it was not ours.
    pub fn fetched(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: &Result<Vec<u8>, Failure>,
        replies: &mut Replies,
    ) -> bool {
        let Some(key) = self.tickets.remove(&ticket) else {
            return false;
        };
        let Some(flight) = self.flights.remove(&key) else {
            return true;
        };
        let verdict = match result {
            Ok(body) => flight.check(body, now),
            Err(failure) => Err(failure.clone()),
        };
        let answer = if key.own {
            let good = verdict.ok().filter(|said| said.status == Status::Good);
            let body = result.as_deref().ok();
            let shown = good.and_then(|said| said.until).zip(body);
            Answer::Own(self.keep(&key, shown, seconds(now)))
        } else {
            if let Ok(verdict) = &verdict {
                self.learn(&key, verdict, now);
            }
            Answer::Ocsp(verdict.map(|verdict| verdict.status))
        };
        for (from, id) in self.waiters.take(&key) {
            replies.push((from, id, answer.clone()));
        }
        true
    }

    /// What was said before, if it is still believed.
    fn recall(&mut self, key: &Key, at: i64) -> Option<Answer> {
        if key.own {
            let (body, until) = self.own.get(key)?;
            return (at <= *until).then(|| Answer::Own(body.clone()));
        }
        let (status, until) = *self.known.get(key)?;
        if at <= until {
            return Some(Answer::Ocsp(Ok(status)));
        }
        self.known.remove(key);
        None
    }

    fn learn(&mut self, key: &Key, verdict: &Verdict, now: Now) {
        // Without a next update there may be news at any time (RFC 6960, 4.2.2.1).
        let Some(until) = verdict.until.filter(|_| verdict.status != Status::Unknown) else {
            return;
        };
        if self.known.len() >= KNOWN_MAX {
            let at = seconds(now);
            self.known.retain(|_, (_, until)| *until >= at);
        }
        if self.known.len() < KNOWN_MAX {
            let until = until.min(seconds(now).saturating_add(KEEP_MAX));
            self.known.insert(Arc::clone(key), (verdict.status, until));
        }
    }

    /// Keeps what is said of a certificate of ours, and until when that holds; or that there is nothing.
    fn keep(&mut self, key: &Key, shown: Option<(i64, &[u8])>, at: i64) -> Shown {
        let (body, until) = match shown {
            Some((until, body)) => {
                let until = until.min(at.saturating_add(SHOW_MAX));
                (Some(Arc::from(body)), until)
            }
            None => (None, at.saturating_add(RETRY)),
        };
        if self.own.len() >= OWN_MAX {
            // Certificates of before a reload.
            self.own.clear();
        }
        self.own
            .insert(Arc::clone(key), (Option::clone(&body), until));
        body
    }

    /// Tells those whose time is over. What they asked for is still fetched: others may wait for it,
    /// and the peer will come again.
    pub fn look(&mut self, now: Instant, replies: &mut Replies) {
        for (key, (from, id)) in self.waiters.late(now) {
            replies.push((from, id, failed(key.own, Failure::Late)));
        }
    }

    /// When to [`Self::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiters.deadline()
    }
}

fn failed(own: bool, failure: Failure) -> Answer {
    if own {
        Answer::Own(None)
    } else {
        Answer::Ocsp(Err(failure))
    }
}

enum Found {
    Known(Answer),
    Asked(Key),
}

impl Flight {
    fn check(&self, body: &[u8], now: Now) -> Result<Verdict, Failure> {
        let question = &self.question;
        let rules = Rules {
            issuer: &question.issuer,
            responders: &question.responders,
            nonce: self.nonce.as_ref().map(<[u8; NONCE_LEN]>::as_slice),
            at: seconds(now),
            tolerate: question.tolerate,
            max_age: question.max_age,
        };
        Ok(ocsp::check(body, &self.id, rules)?)
    }
}

fn key(own: bool, question: &OcspQuestion) -> Result<Key, CryptoError> {
    let responders = question.responders.iter().map(Certificate::fingerprint);
    Ok(Arc::new(About {
        own,
        url: question.url.clone(),
        leaf: question.leaf.fingerprint()?,
        issuer: question.issuer.fingerprint()?,
        responders: responders.collect::<Result<_, _>>()?,
        tolerate: question.tolerate,
        max_age: question.max_age,
    }))
}

/// How long a responder is waited for; OpenIKED's.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// No OCSP response comes near it.
const BODY_MAX: usize = 64 * 1024;
/// How long what a responder said is believed at most, in seconds: a revocation is heard of that soon.
const KEEP_MAX: i64 = 300;
/// Certificates remembered: 100 bytes each.
const KNOWN_MAX: usize = 65_536;
/// How long a response about our own certificate is shown, in seconds: peers may want news.
const SHOW_MAX: i64 = 120;
/// After how many seconds one that could not be had is asked for again.
const RETRY: i64 = 10;
/// Certificates of our own.
const OWN_MAX: usize = 256;

#[cfg(test)]
mod tests;
