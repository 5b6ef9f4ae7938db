//! What is outside of all hosts: an authority that vouches for each, and a stand-in for the lookup
//! thread, which in life asks whether certificates are revoked. While things go wrong its answers
//! are late, wrong, come twice or never.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::plan::HostPlan;
use crate::auth::store::{CredentialStore, Parts};
use crate::crypto::ocsp::Status;
use crate::crypto::sign::PrivateKey;
use crate::crypto::x509::Certificate;
use crate::lookup::port::{Answer, Failure, Lookup, LookupId, Question};
use crate::policy::{Auth, Config, CrlFetch, Ocsp, Policy, PublicKeyAuth};

/// How often lookups fail, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct LookupPlan {
    /// Never answered.
    pub never: u64,
    /// Answered after up to a minute.
    pub late: u64,
    /// Answered twice.
    pub twice: u64,
    /// Answered with something else than `good`, or under another number.
    pub wrong: u64,
}

impl LookupPlan {
    /// Draws one.
    pub fn draw(dice: &mut Dice) -> Self {
        let mut bad = |most| {
            if dice.chance(600) {
                dice.between(1, most)
            } else {
                0
            }
        };
        Self {
            never: bad(200),
            late: bad(300),
            twice: bad(200),
            wrong: bad(200),
        }
    }

    /// The answers to a question: when, to whom, what. Outside of wild times just the right one.
    pub fn answers(
        &self,
        dice: &mut Dice,
        wild: bool,
        lookup: &Lookup,
    ) -> Vec<(Duration, LookupId, Answer)> {
        let good = || answer(&lookup.question, Ok(Status::Good));
        if !wild {
            return vec![(dice.millis(0, 100), lookup.id, good())];
        }
        if dice.chance(self.never) {
            return Vec::new();
        }
        let longest = if dice.chance(self.late) { 60_000 } else { 500 };
        let after = dice.millis(0, longest);
        let (mut id, mut answer) = (lookup.id, good());
        if dice.chance(self.wrong) {
            let mut other = |said| answer = self::answer(&lookup.question, said);
            match dice.below(4) {
                0 => other(Ok(Status::Revoked)),
                1 => other(Ok(Status::Unknown)),
                2 => other(Err(Failure::Late)),
                _ => id.serial += 1,
            }
        }
        let mut answers = vec![(after, id, answer)];
        if dice.chance(self.twice) {
            answers.push((dice.millis(0, longest), lookup.id, good()));
        }
        answers
    }
}

/// The answer to a question of its kind.
fn answer(question: &Question, said: Result<Status, Failure>) -> Answer {
    match question {
        // What nobody has signed is nothing to go by, so the other asks all the same.
        Question::Own(_) => Answer::Own(said.ok().map(|_| Arc::from(&b"0\x03\x0a\x01\x03"[..]))),
        Question::Crl(_) => Answer::Crl(said),
        Question::Ocsp(_) | Question::Radius(_) => Answer::Ocsp(said),
    }
}

/// Has all hosts prove themselves by certificates, and ask whether the others' are revoked.
pub fn certify(hosts: &mut [HostPlan]) {
    let lists = [Some(CrlFetch::Required), None, Some(CrlFetch::Tried)];
    for (host, crl) in hosts.iter_mut().zip(lists.into_iter().cycle()) {
        let policy = |policy: &Arc<Policy>| {
            Arc::new(Policy {
                auth: Auth::PublicKey(PublicKeyAuth::Any),
                ..Policy::clone(policy)
            })
        };
        let mut config = Config::clone(&host.config);
        config.policies = config.policies.iter().map(policy).collect();
        config.settings.ocsp = Some(Ocsp {
            url: "http://outside.example/".to_owned(),
            tolerate: Duration::ZERO,
            max_age: None,
        });
        config.settings.crl = crl;
        host.config = Arc::new(config);
        host.store = Arc::new(store(&host.name));
    }
}

fn store(name: &str) -> CredentialStore {
    let certificates = |pem: &[u8]| Certificate::all_from_pem(pem).unwrap_or_default();
    let name = format!("{name}.example").into_bytes();
    let mut own = certificates(CERTIFICATES);
    // Those of others would be trusted as they are, and nobody would ask.
    own.retain(|own| {
        own.alternative_names()
            .iter()
            .any(|(_, data)| *data == name)
    });
    let parts = Parts {
        keys: PrivateKey::from_pem(KEY).into_iter().collect(),
        certificates: own,
        authorities: certificates(AUTHORITY),
        ..Parts::default()
    };
    CredentialStore::assemble(parts, &mut Vec::new())
}

const KEY: &[u8] = include_bytes!("pki/host.key");
const CERTIFICATES: &[u8] = include_bytes!("pki/hosts.crt");
const AUTHORITY: &[u8] = include_bytes!("pki/ca.crt");
