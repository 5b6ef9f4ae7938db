//! Revocation lists as certificates name them (RFC 5280, 4.2.1.13): one fetch for each list however
//! many ask, and what was fetched counts until the next one is due. Of several places of one list the next
//! is tried when the one before fails, or keeps silent for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::http::Url;
use super::port::{Answer, CrlQuestion, Failure, LookupId};
use super::waiters::Waiters;
use super::web::{Fetch, Ticket, Web};
use super::{Replies, seconds};
use crate::crypto::crl::List;
use crate::crypto::ocsp::Status;
use crate::crypto::x509::Certificate;
use crate::crypto::{CryptoError, crl};
use crate::policy::dn;
use crate::steer::ShardId;
use crate::time::Now;

/// The lists that were fetched, and who waits for others.
#[derive(Debug, Default)]
pub struct Lists {
    known: BTreeMap<Key, Known>,
    /// What is being fetched, and whose list it must be.
    flights: BTreeMap<Key, Certificate>,
    tickets: BTreeMap<Ticket, Key>,
    waiters: Waiters<Key, Waiter>,
    /// What could not be had, and until when it is not tried again.
    failed: BTreeMap<Key, (Failure, Instant)>,
    /// The lists are others than when somebody last looked.
    changed: bool,
}

/// A list by its URL and its issuer's SHA-256.
type Key = Arc<(String, [u8; 32])>;

#[derive(Debug)]
struct Known {
    list: List,
    /// Its bytes.
    length: usize,
    /// When it was last asked for.
    used_at: Instant,
    /// When it is fetched anew, should anybody ask.
    renew_at: Instant,
    /// What it said, by the SHA-256 of the certificate.
    said: BTreeMap<[u8; 32], Status>,
}

#[derive(Debug)]
struct Waiter {
    from: ShardId,
    id: LookupId,
    certificate: Certificate,
    issuer: Certificate,
    /// Places that were not tried yet.
    rest: VecDeque<String>,
    /// When it must be told.
    until: Instant,
}

impl Lists {
    /// Takes a question.
    pub fn ask(
        &mut self,
        tools: (&mut Web, &mut Replies),
        now: Now,
        from: ShardId,
        (id, until): (LookupId, Instant),
        question: CrlQuestion,
    ) {
        let CrlQuestion {
            mut urls,
            certificate,
            issuer,
        } = question;
        // Nobody waits for one place while the list of another is there.
        urls.sort_by_key(|url| !key(url, &issuer).is_ok_and(|key| self.known.contains_key(&key)));
        let waiter = Waiter {
            from,
            id,
            certificate,
            issuer,
            rest: urls.into(),
            until,
        };
        self.pursue(tools, now, waiter, Failure::Url);
    }

    /// Goes on to the next place; where there is none left, the last one's failure is the answer.
    fn pursue(
        &mut self,
        (web, replies): (&mut Web, &mut Replies),
        now: Now,
        mut waiter: Waiter,
        mut failure: Failure,
    ) {
        while let Some(url) = waiter.rest.pop_front() {
            match self.seek(web, now, &url, &waiter) {
                Ok(Found::Known(status)) => return waiter.tell(Ok(status), replies),
                Ok(Found::Asked(key)) => {
                    let patience = now.mono + PATIENCE;
                    let until = if waiter.rest.is_empty() {
                        waiter.until
                    } else {
                        waiter.until.min(patience)
                    };
                    if let Err(waiter) = self.waiters.add(key, until, waiter) {
                        waiter.tell(Err(Failure::Busy), replies);
                    }
                    return;
                }
                Err(next) => failure = next,
            }
        }
        waiter.tell(Err(failure), replies);
    }

    /// What is known, or the flight that will tell.
    fn seek(
        &mut self,
        web: &mut Web,
        now: Now,
        url: &str,
        waiter: &Waiter,
    ) -> Result<Found, Failure> {
        let key = key(url, &waiter.issuer)?;
        if let Some(known) = self.known.get_mut(&key) {
            if seconds(now) <= known.list.until() {
                known.used_at = now.mono;
                let status = known.status(&waiter.certificate);
                if now.mono >= known.renew_at {
                    known.renew_at = now.mono + RETRY;
                    self.fetch(web, now, &key, &waiter.issuer)?;
                }
                return Ok(Found::Known(status?));
            }
            self.known.remove(&key);
            self.changed = true;
        }
        match self.failed.get(&key) {
            Some((failure, until)) if now.mono < *until => return Err(failure.clone()),
            Some(_) | None => self.failed.remove(&key),
        };
        self.fetch(web, now, &key, &waiter.issuer)?;
        Ok(Found::Asked(key))
    }

    fn fetch(
        &mut self,
        web: &mut Web,
        now: Now,
        key: &Key,
        issuer: &Certificate,
    ) -> Result<(), Failure> {
        if self.flights.contains_key(key) {
            return Ok(());
        }
        let url = Url::read(&key.0).ok_or(Failure::Url)?;
        let fetch = Fetch {
            request: url.get(),
            url,
            body_max: LIST_MAX,
            until: now.mono + FETCH_MAX,
        };
        let ticket = web.begin(fetch, now.mono);
        self.tickets.insert(ticket, Arc::clone(key));
        self.flights.insert(Arc::clone(key), issuer.clone());
        Ok(())
    }

    /// Takes what came of a fetch; false if it was not ours.
    pub fn fetched(
        &mut self,
        (web, replies): (&mut Web, &mut Replies),
        now: Now,
        ticket: Ticket,
        result: &Result<Vec<u8>, Failure>,
    ) -> bool {
        let Some(key) = self.tickets.remove(&ticket) else {
            return false;
        };
        let Some(issuer) = self.flights.remove(&key) else {
            return true;
        };
        let list = match result {
            Ok(body) => List::read(body, &issuer, seconds(now))
                .map(|list| (list, body.len()))
                .map_err(Failure::from),
            Err(failure) => Err(failure.clone()),
        };
        let learned = list.map(|(list, length)| self.learn(now.mono, &key, list, length));
        if let Err(failure) = &learned {
            self.fail(now.mono, &key, failure);
        }
        for waiter in self.waiters.take(&key) {
            let answer = match (self.known.get_mut(&key), &learned) {
                (Some(known), _) => known.status(&waiter.certificate),
                (None, Err(failure)) => Err(failure.clone()),
                (None, Ok(())) => Err(Failure::Busy),
            };
            match answer {
                Ok(status) => waiter.tell(Ok(status), replies),
                Err(failure) => self.pursue((web, replies), now, waiter, failure),
            }
        }
        true
    }

    fn learn(&mut self, now: Instant, key: &Key, list: List, length: usize) {
        if let Some(known) = self.known.get_mut(key) {
            known.renew_at = now + RENEW;
            // Somebody on the way may have kept an old one, and the server may be slow to have a new.
            if list.made() <= known.list.made() {
                return;
            }
        }
        self.known.remove(key);
        while self.known.len() >= LISTS_MAX || self.bytes().saturating_add(length) > BYTES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used_at);
            let Some(oldest) = oldest.map(|(key, _)| Arc::clone(key)) else {
                break;
            };
            self.known.remove(&oldest);
        }
        let known = Known {
            list,
            length,
            used_at: now,
            renew_at: now + RENEW,
            said: BTreeMap::new(),
        };
        self.known.insert(Arc::clone(key), known);
        self.changed = true;
    }

    fn fail(&mut self, now: Instant, key: &Key, failure: &Failure) {
        if self.known.contains_key(key) {
            return;
        }
        if self.failed.len() >= LISTS_MAX {
            self.failed.retain(|_, (_, until)| now < *until);
        }
        if self.failed.len() < LISTS_MAX {
            let entry = (failure.clone(), now + RETRY);
            self.failed.insert(Arc::clone(key), entry);
        }
    }

    fn bytes(&self) -> usize {
        self.known.values().map(|known| known.length).sum()
    }

    /// Tells those whose time is over, and lets those try another place who have waited long for one.
    /// What they asked for is still fetched: others may wait for it, and the peer will come again.
    pub fn look(&mut self, (web, replies): (&mut Web, &mut Replies), now: Now) {
        for (_, waiter) in self.waiters.late(now.mono) {
            if waiter.until <= now.mono {
                waiter.tell(Err(Failure::Late), replies);
            } else {
                self.pursue((web, replies), now, waiter, Failure::Late);
            }
        }
    }

    /// When to [`Self::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiters.deadline()
    }

    /// A line for each list, as `ikectl show certstore` shows them, if there are others than before.
    pub fn news(&mut self) -> Option<Vec<String>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let lines = self.known.iter().map(|(key, known)| {
            let subject = known.list.issuer().subject().ok();
            let subject = subject.and_then(|der| dn::show(&der)).unwrap_or_default();
            format!("CRL: {subject} from {}", key.0)
        });
        Some(lines.collect())
    }
}

/// The name of a list.
fn key(url: &str, issuer: &Certificate) -> Result<Key, Failure> {
    let library = |_: CryptoError| Failure::Crl(crl::CrlError::Unsupported);
    let issuer = issuer.fingerprint().map_err(library)?;
    Ok(Arc::new((url.to_owned(), issuer)))
}

enum Found {
    Known(Status),
    Asked(Key),
}

impl Known {
    fn status(&mut self, certificate: &Certificate) -> Result<Status, Failure> {
        let library = |_: CryptoError| Failure::Crl(crl::CrlError::Unsupported);
        let name = certificate.fingerprint().map_err(library)?;
        if let Some(status) = self.said.get(&name) {
            return Ok(*status);
        }
        let status = self.list.status(certificate)?;
        if self.said.len() >= SAID_MAX {
            // Rare, and what is still in use comes back at its next handshake.
            self.said.clear();
        }
        self.said.insert(name, status);
        Ok(status)
    }
}

impl Waiter {
    fn tell(self, answer: Result<Status, Failure>, replies: &mut Replies) {
        replies.push((self.from, self.id, Answer::Crl(answer)));
    }
}

/// How long a server is waited for.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// How long one place is waited for while there is another.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a list: 100,000 certificates, a tenth of a second of work for this thread. The library needs
/// ten times as much memory.
const LIST_MAX: usize = 4 * 1024 * 1024;
/// Bytes of all lists.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lists remembered, and as many failures.
const LISTS_MAX: usize = 256;
/// Certificates of one list of which it is remembered what the list says of them.
const SAID_MAX: usize = 16_384;
/// After how long a list is fetched anew before it must be: an issuer in haste makes one early.
const RENEW: Duration = Duration::from_secs(3600);
/// After how long what could not be had is tried again.
const RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
