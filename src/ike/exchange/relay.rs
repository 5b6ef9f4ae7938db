//! EAP whose server is elsewhere (RFC 3579): what the peer answers goes to the RADIUS server, what
//! that asks goes to the peer, and in the end it says who may come in and with what.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::ike_sa::IkeSa;
use crate::auth::eap::packet::{self, Code, Packet};
use crate::auth::eap::{Passed, Refusal, Step, text};
use crate::crypto::Rng;
use crate::lookup::port::{Failure, Question, RadiusAnswer, RadiusQuestion};
use crate::policy::radius::Radius;
use crate::radius::dae::Target;
use crate::radius::{Facts, Reply, Verdict};
use crate::wire::registry::CfgAttrType;
use crate::wire::spi::IkeSpi;

/// One conversation.
#[derive(Debug)]
pub struct Relay {
    radius: Arc<Radius>,
    facts: Facts,
    /// The server that has begun, and what it wants back.
    server: Option<usize>,
    state: Option<Vec<u8>>,
    /// Of the request that the peer must answer.
    identifier: u8,
}

/// What the server says of a peer that it lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// What the server knows the peer by.
    pub facts: Option<Box<Facts>>,
    /// What the peer gets, beside what the configuration says.
    pub granted: Vec<(CfgAttrType, IpAddr)>,
    /// How long it may stay.
    pub session_timeout: Option<Duration>,
    /// Since when it is in.
    pub since: Option<Instant>,
    /// How often its use is to be reported.
    pub interim: Option<Duration>,
    /// What the server wants handed on to the one that keeps accounts.
    pub class: Vec<Vec<u8>>,
    /// Under which its use is counted.
    pub account: Option<u64>,
}

impl Relay {
    /// Begins; the request asks for the peer's name, which the server will want first.
    pub fn begin(radius: &Arc<Radius>, facts: Facts, rng: &mut Rng) -> (Self, Vec<u8>) {
        let [identifier] = rng.bytes::<1>();
        let relay = Self {
            radius: Arc::clone(radius),
            facts,
            server: None,
            state: None,
            identifier,
        };
        let question = packet::build(Code::Request, identifier, packet::IDENTITY, &[]);
        (relay, question)
    }

    /// Takes the peer's answer; gives what to ask the server.
    pub fn forward(&mut self, packet: &[u8]) -> Result<Question, Refusal> {
        let read = Packet::read(packet).filter(|_| packet.len() <= EAP_MAX);
        let answer = read.and_then(|read| read.answers(self.identifier));
        let (kind, name) = answer.ok_or(Refusal::Packet)?;
        if self.server.is_none() {
            // RFC 3579, 2.1: the name is for the server's routing, too.
            if kind != packet::IDENTITY {
                return Err(Refusal::Packet);
            }
            name.clone_into(&mut self.facts.user);
        }
        Ok(Question::Radius(Box::new(RadiusQuestion {
            radius: Arc::clone(&self.radius),
            facts: self.facts.clone(),
            eap: packet.to_vec(),
            state: self.state.clone(),
            server: self.server,
        })))
    }

    /// Takes the server's answer.
    pub fn take(&mut self, answer: RadiusAnswer) -> (Step, Option<Admission>) {
        let (server, reply) = match answer {
            Ok(answer) => answer,
            Err(failure) => return (self.refuse(&failure), None),
        };
        let Reply {
            verdict,
            eap,
            state,
            user,
            msk,
            granted,
            session_timeout,
            interim,
            class,
        } = *reply;
        let said = Packet::read(&eap);
        match verdict {
            Verdict::Challenge => match said {
                Some(asked) if asked.code == Code::Request => {
                    (self.server, self.state) = (Some(server), state);
                    self.identifier = asked.identifier;
                    (Step::Ask(eap), None)
                }
                Some(_) | None => (self.refuse(&Failure::Radius("no EAP request")), None),
            },
            // RFC 3579, 2.6.3: it says Failure whatever the server's packet says.
            Verdict::Reject => {
                let user = text(&self.facts.user);
                (self.fail(Refusal::Password(user)), None)
            }
            Verdict::Accept => {
                let success = match said {
                    Some(said) if said.code == Code::Success => eap,
                    None if eap.is_empty() => packet::end(Code::Success, self.identifier),
                    Some(_) | None => {
                        let failure = Failure::Radius("no EAP Success in Access-Accept");
                        return (self.refuse(&failure), None);
                    }
                };
                // RFC 2865, 5.1: what the server calls it is its name from now on.
                if let Some(user) = user {
                    self.facts.user = user;
                }
                let user = text(&self.facts.user);
                let admission = Admission {
                    facts: Some(Box::new(self.facts.clone())),
                    granted,
                    session_timeout,
                    since: None,
                    interim,
                    class,
                    account: None,
                };
                let passed = Passed {
                    user,
                    msk,
                    vouched: None,
                };
                (Step::Success(success, passed), Some(admission))
            }
        }
    }

    fn refuse(&self, why: &Failure) -> Step {
        self.fail(Refusal::Server(why.to_string()))
    }

    /// Ends it.
    pub fn fail(&self, why: Refusal) -> Step {
        Step::Failure(packet::end(Code::Failure, self.identifier), why)
    }
}

/// Whether an IKE SA is one of those that a server means.
pub fn is_meant(sa: &IkeSa, target: &Target) -> bool {
    let facts = sa.admission.as_ref().and_then(|said| said.facts.as_ref());
    let Some(facts) = facts else {
        return false;
    };
    let Target {
        session,
        user,
        addresses,
        remote,
    } = target;
    let held = |address: &IpAddr| {
        let held = [sa.lease.v4, sa.lease.v6].into_iter().flatten();
        held.map(|(held, _)| held).any(|held| held == *address)
    };
    session.is_none_or(|session| session == facts.session)
        && user.as_ref().is_none_or(|user| *user == facts.user)
        && addresses.iter().all(held)
        && remote.is_none_or(|remote| remote == facts.remote || remote == sa.path.remote.ip())
}

/// What is known of a peer before it says its name.
pub fn facts(sa: &IkeSa) -> Facts {
    Facts {
        user: Vec::new(),
        local: sa.path.local.ip(),
        remote: sa.path.remote.ip(),
        session: sa.initiator_spi().map_or(0, IkeSpi::value),
    }
}

/// Leaves room in a RADIUS packet for everything else.
const EAP_MAX: usize = 3000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretBytes;

    fn relay() -> Relay {
        let facts = Facts {
            user: Vec::new(),
            local: "192.0.2.1".parse().unwrap(),
            remote: "192.0.2.2".parse().unwrap(),
            session: 1,
        };
        let mut rng = Rng::from_seed([1; 32]);
        let (relay, question) = Relay::begin(&Arc::default(), facts, &mut rng);
        assert_eq!(question, [1, relay.identifier, 0, 5, 1]);
        relay
    }

    fn reply(verdict: Verdict, eap: &[u8]) -> Box<Reply> {
        Box::new(Reply {
            verdict,
            eap: eap.to_vec(),
            state: Some(b"state".to_vec()),
            class: Vec::new(),
            user: None,
            msk: Some(SecretBytes::new(vec![7; 64])),
            granted: Vec::new(),
            session_timeout: None,
            interim: None,
        })
    }

    fn asked(question: Question) -> RadiusQuestion {
        let Question::Radius(question) = question else {
            panic!("{question:?}");
        };
        *question
    }

    /// A conversation in which the server has asked something.
    fn challenged() -> Relay {
        let mut relay = relay();
        let name = [2, relay.identifier, 0, 8, 1, b'b', b'o', b'b'];
        let question = asked(relay.forward(&name).unwrap());
        assert_eq!((question.eap, question.server), (name.to_vec(), None));
        assert_eq!(question.facts.user, b"bob");
        let challenge = [1, 77, 0, 6, 26, 1];
        let (step, _) = relay.take(Ok((2, reply(Verdict::Challenge, &challenge))));
        assert!(matches!(step, Step::Ask(packet) if packet == challenge));
        relay
    }

    #[test]
    fn an_answer_goes_to_the_server_that_asked_with_its_state() {
        let mut relay = challenged();
        let question = asked(relay.forward(&[2, 77, 0, 6, 26, 2]).unwrap());
        assert_eq!(question.server, Some(2));
        assert_eq!(question.state.as_deref(), Some(&b"state"[..]));
        assert_eq!(question.facts.user, b"bob");
    }

    #[test]
    fn a_packet_that_is_no_answer_to_what_was_asked_goes_nowhere() {
        for packet in [
            &[2, 76, 0, 6, 26, 2][..],
            &[1, 77, 0, 6, 26, 2],
            &[2, 77, 0, 7, 26, 2],
            &[2, 77, 0, 5, 26, 2],
            &[2, 77, 0, 4],
            &[3, 77, 0, 4],
            &[],
        ] {
            assert_eq!(
                challenged().forward(packet).err(),
                Some(Refusal::Packet),
                "{packet:?}"
            );
        }
        let mut relay = relay();
        let unasked = [2, relay.identifier, 0, 6, 26, 2];
        assert_eq!(relay.forward(&unasked).err(), Some(Refusal::Packet));
    }

    #[test]
    fn an_accept_is_success_with_its_key() {
        for eap in [&[3, 77, 0, 4][..], &[]] {
            let (step, admission) = challenged().take(Ok((2, reply(Verdict::Accept, eap))));
            let Step::Success(packet, passed) = step else {
                panic!("{step:?}");
            };
            assert_eq!(packet, [3, 77, 0, 4]);
            assert_eq!(passed.user, "bob");
            let facts = admission.unwrap().facts.unwrap();
            assert_eq!((facts.user.as_slice(), facts.session), (&b"bob"[..], 1));
        }
    }

    #[test]
    fn everything_else_is_failure() {
        for answer in [
            Err(Failure::Late),
            Ok((2, reply(Verdict::Reject, &[4, 77, 0, 4]))),
            Ok((2, reply(Verdict::Reject, &[3, 77, 0, 4]))),
            Ok((2, reply(Verdict::Accept, &[4, 77, 0, 4]))),
            Ok((2, reply(Verdict::Accept, &[1, 78, 0, 5, 1]))),
            Ok((2, reply(Verdict::Challenge, &[3, 77, 0, 4]))),
            Ok((2, reply(Verdict::Challenge, &[1, 78, 0, 9, 1]))),
        ] {
            let (step, admission) = challenged().take(answer.clone());
            let Step::Failure(packet, _) = step else {
                panic!("{answer:?}");
            };
            assert_eq!(packet, [4, 77, 0, 4]);
            assert_eq!(admission, None);
        }
    }
}
