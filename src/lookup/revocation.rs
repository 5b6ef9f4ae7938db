//! Whether certificates are revoked, as their issuers' responders say (RFC 6960): one request for
//! each certificate however many ask, and what was said is believed for a while.

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
}

/// All that a question is about; certificates by their SHA-256.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct About {
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
    nonce: [u8; NONCE_LEN],
}

impl Revocation {
    /// Takes a question.
    pub fn ask(
        &mut self,
        (web, rng, replies): (&mut Web, &mut Rng, &mut Replies),
        now: Now,
        from: ShardId,
        (id, until): (LookupId, Instant),
        question: OcspQuestion,
    ) {
        let answer = match self.seek((web, rng), now, question) {
            Ok(Found::Known(status)) => Ok(status),
            Ok(Found::Asked(key)) => match self.waiters.add(key, until, (from, id)) {
                Ok(()) => return,
                Err(_) => Err(Failure::Busy),
            },
            Err(failure) => Err(failure),
        };
        replies.push((from, id, Answer::Ocsp(answer)));
    }

    /// What is known, or the flight that will tell.
    fn seek(
        &mut self,
        (web, rng): (&mut Web, &mut Rng),
        now: Now,
        question: OcspQuestion,
    ) -> Result<Found, Failure> {
        let crypto = |_: CryptoError| Failure::Ocsp(ocsp::OcspError::Unsupported);
        let key = key(&question).map_err(crypto)?;
        match self.known.get(&key) {
            Some((status, until)) if seconds(now) <= *until => {
                return Ok(Found::Known(*status));
            }
            Some(_) | None => self.known.remove(&key),
        };
        if self.flights.contains_key(&key) {
            return Ok(Found::Asked(key));
        }
        let url = Url::read(&question.url).ok_or(Failure::Url)?;
        let id = CertId::new(&question.leaf, &question.issuer).map_err(crypto)?;
        let nonce = rng.bytes();
        let fetch = Fetch {
            request: url.post("application/ocsp-request", &ocsp::request(&id, &nonce)),
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
        if let Ok(verdict) = &verdict {
            self.learn(&key, verdict, now);
        }
        let answer = Answer::Ocsp(verdict.map(|verdict| verdict.status));
        for (from, id) in self.waiters.take(&key) {
            replies.push((from, id, answer.clone()));
        }
        true
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

    /// Tells those whose time is over. What they asked for is still fetched: others may wait for it,
    /// and the peer will come again.
    pub fn look(&mut self, now: Instant, replies: &mut Replies) {
        for (_, (from, id)) in self.waiters.late(now) {
            replies.push((from, id, Answer::Ocsp(Err(Failure::Late))));
        }
    }

    /// When to [`Self::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiters.deadline()
    }
}

enum Found {
    Known(Status),
    Asked(Key),
}

impl Flight {
    fn check(&self, body: &[u8], now: Now) -> Result<Verdict, Failure> {
        let question = &self.question;
        let rules = Rules {
            issuer: &question.issuer,
            responders: &question.responders,
            nonce: Some(&self.nonce),
            at: seconds(now),
            tolerate: question.tolerate,
            max_age: question.max_age,
        };
        Ok(ocsp::check(body, &self.id, rules)?)
    }
}

fn key(question: &OcspQuestion) -> Result<Key, CryptoError> {
    let responders = question.responders.iter().map(Certificate::fingerprint);
    Ok(Arc::new(About {
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

#[cfg(test)]
mod tests;
