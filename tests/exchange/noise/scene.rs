//! An IKE SA stopped at one moment of its life, to have things thrown at it: what may be seen from
//! outside is compared before and after, and in the end life goes on with the genuine message.

use std::sync::Arc;
use std::time::Instant;

use iked::ike::{Command, Path};
use iked::policy::{Config, Policy};
use iked::wire::Header;
use iked::wire::spi::EspSpi;

use super::super::setup::{config, fqdn, gateway, no_keys, warrior};
use super::super::world::{Datagram, Host, Mood, Pair, Side, at, mirrored};

/// Where the IKE SA is stopped, and who is the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// A responder that knows nobody.
    Nobody,
    /// An initiator whose IKE_SA_INIT is out.
    SaInitSent,
    /// A responder that waits for IKE_AUTH.
    HalfOpen,
    /// The same with all fragments of IKE_AUTH but one.
    InPieces,
    /// An initiator whose IKE_AUTH is out.
    AuthSent,
    /// A responder whose kernel does not answer.
    AwaitKernel,
    /// A responder that is up.
    Up,
    /// An initiator that is up and asks whether the peer lives.
    Probing,
    /// A responder that was told of the end.
    Deleted,
    /// An initiator whose Delete is out.
    Deleting,
}

impl Moment {
    pub(super) const ALL: [Self; 10] = [
        Self::Nobody,
        Self::SaInitSent,
        Self::HalfOpen,
        Self::InPieces,
        Self::AuthSent,
        Self::AwaitKernel,
        Self::Up,
        Self::Probing,
        Self::Deleted,
        Self::Deleting,
    ];

    pub(super) fn victim(self) -> Side {
        match self {
            Self::SaInitSent | Self::AuthSent | Self::Probing | Self::Deleting => Side::Initiator,
            Self::Nobody
            | Self::HalfOpen
            | Self::InPieces
            | Self::AwaitKernel
            | Self::Up
            | Self::Deleted => Side::Responder,
        }
    }
}

/// What a datagram did that was not to change anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Effect {
    /// What was sent because of it.
    pub(super) answers: Vec<Datagram>,
    /// The counters that say why it was not taken.
    pub(super) reasons: Vec<&'static str>,
    /// Counted as dropped.
    pub(super) dropped: bool,
}

/// Everything that may be seen of a host but counters of noise.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    len: usize,
    deadline: Option<Instant>,
    lines: Vec<String>,
    children: Vec<EspSpi>,
    kernel_requests: usize,
}

/// A pair stopped at a moment.
pub(super) struct Scene {
    pub(super) moment: Moment,
    pub(super) pair: Pair,
    /// The message that comes next, or came last where nothing comes.
    pub(super) next: Datagram,
    /// Everything both sides sent so far, `next` included.
    pub(super) sent: Vec<Datagram>,
    /// Names the input in the message of a failure.
    pub(super) note: u64,
}

impl Scene {
    /// Plays until the moment has come.
    pub(super) fn at(moment: Moment) -> Self {
        let mut warrior = warrior();
        if moment == Moment::InPieces {
            warrior.srcid = fqdn(&"w".repeat(600));
        }
        let mut pair = Pair::of(host(warrior, 1), host(gateway(), 2));
        if moment == Moment::AwaitKernel {
            pair.responder.kernel.mood = Mood::Slow;
        }
        let mut sent = Vec::new();
        let mut waiting = pair.initiate();
        sent.extend(waiting.clone());
        let mut from = Side::Initiator;
        let steps = match moment {
            Moment::Nobody => 0,
            Moment::SaInitSent => 1,
            Moment::HalfOpen | Moment::InPieces => 2,
            Moment::AuthSent | Moment::AwaitKernel => 3,
            Moment::Up | Moment::Probing | Moment::Deleted | Moment::Deleting => 4,
        };
        for _ in 0..steps {
            (from, waiting) = hand_over(&mut pair, from, &waiting);
            sent.extend(waiting.clone());
        }
        let mut scene = Self {
            moment,
            next: waiting
                .pop()
                .unwrap_or_else(|| sent[sent.len() - 1].clone()),
            pair,
            sent,
            note: 0,
        };
        scene.last_steps(&waiting);
        scene
    }

    /// What the moments have that is more than a handshake stopped early.
    fn last_steps(&mut self, waiting: &[Datagram]) {
        match self.moment {
            Moment::Nobody
            | Moment::SaInitSent
            | Moment::HalfOpen
            | Moment::AuthSent
            | Moment::AwaitKernel => assert!(waiting.is_empty()),
            Moment::InPieces => {
                assert!(waiting.len() >= 2, "{}", waiting.len());
                let (_, answers) = hand_over(&mut self.pair, Side::Initiator, waiting);
                assert_eq!(answers, []);
            }
            Moment::Up | Moment::Probing => {
                let probe = self.pair.initiator.wake(at(300));
                // What it looks at by itself until then is done.
                assert_eq!(self.pair.responder.wake(at(299)), []);
                // Just before a responder that has not heard it would send a probe of its own.
                self.pair.seconds = if self.moment == Moment::Up { 299 } else { 300 };
                self.ask(probe, Moment::Probing);
            }
            Moment::Deleted | Moment::Deleting => {
                let now = self.pair.now();
                let delete = self.pair.initiator.command(now, Command::ResetSa);
                self.ask(delete, Moment::Deleting);
            }
        }
    }

    /// The initiator of an IKE SA that is up sends this; at moment `answered` its answer is next.
    fn ask(&mut self, request: Vec<Datagram>, answered: Moment) {
        self.sent.extend(request.clone());
        if self.moment != Moment::Up {
            let (_, answers) = hand_over(&mut self.pair, Side::Initiator, &request);
            self.sent.extend(answers.clone());
            if self.moment == answered {
                self.next = answers[0].clone();
                return;
            }
        }
        self.next = request[0].clone();
    }

    /// The path of true messages, as the victim sees it.
    pub(super) fn path(&self) -> Path {
        mirrored(self.next.path)
    }

    /// The header of the message that comes next.
    pub(super) fn header(&self) -> Header {
        Header::decode(&self.next.bytes).unwrap()
    }

    pub(super) fn victim(&mut self) -> &mut Host {
        self.pair.host(self.moment.victim())
    }

    /// No more IKE SAs for whoever asks: what comes then makes nothing new.
    pub(super) fn close_house(&mut self) {
        self.set_half_open_max(0);
    }

    fn set_half_open_max(&mut self, max: u32) {
        let (now, policy) = (self.pair.now(), policy_of(self.moment.victim()));
        let mut config = settings(policy);
        config.settings.half_open_max = max;
        let endpoint = &mut self.victim().endpoint;
        endpoint.handle_config(now, Arc::new(config));
    }

    /// Takes a datagram that must change nothing, from where true messages come.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Effect {
        self.hear_from(self.path(), bytes)
    }

    /// Takes a datagram that must change nothing; says what else it did.
    pub(super) fn hear_from(&mut self, path: Path, bytes: &[u8]) -> Effect {
        let now = self.pair.now();
        let (moment, note) = (self.moment, self.note);
        let host = self.victim();
        let (before, counters) = (see(host, now), host.stats());
        let answers = host.receive(now, path, bytes);
        let after = see(host, now);
        let counted = changes(&counters.rows(), &host.stats().rows());
        host.lines.clear();
        host.events.clear();
        let context = || {
            let hex = hex::encode(bytes);
            format!("{moment:?}, input {note} from {}: {hex}", path.remote)
        };
        assert_eq!(before, after, "{}", context());
        let (beside, reasons): (Vec<_>, Vec<_>) = counted
            .into_iter()
            .partition(|(name, _)| BESIDE.contains(name));
        let known = reasons
            .iter()
            .all(|(name, by)| REASONS.contains(name) && *by == 1);
        assert!(known, "{reasons:?} {}", context());
        assert!(
            beside.contains(&("msg_rcvd", 1)),
            "{beside:?} {}",
            context()
        );
        assert!(
            beside.iter().all(|(_, by)| *by == 1),
            "{beside:?} {}",
            context()
        );
        assert!(
            answers.iter().all(|answer| answer.path == path),
            "{}",
            context()
        );
        Effect {
            answers,
            reasons: reasons.into_iter().map(|(name, _)| name).collect(),
            dropped: beside.contains(&("msg_rcvd_dropped", 1)),
        }
    }

    /// Takes a datagram that must change nothing and get no answer, for just this reason.
    pub(super) fn ignores(&mut self, bytes: &[u8], reason: &'static str) {
        let (moment, hex) = (self.moment, hex::encode(bytes));
        let effect = self.hear(bytes);
        assert_eq!(effect.answers, [], "{moment:?}: {hex}");
        assert_eq!(effect.reasons, [reason], "{moment:?}: {hex}");
    }

    /// The genuine message comes, and all goes on as if nothing had been.
    pub(super) fn goes_on(mut self) {
        let now = self.pair.now();
        self.set_half_open_max(20_000);
        let repeated = self.pair.responder.stats().retransmit_response;
        let (from, next) = (other(self.moment.victim()), vec![self.next.clone()]);
        if self.moment == Moment::AwaitKernel {
            let answer = self.pair.responder.answer_kernel(now);
            self.pair.run(Side::Responder, answer);
        } else {
            self.pair.run(from, next);
        }
        let pair = &mut self.pair;
        match self.moment {
            Moment::Deleted => {
                let again = pair.responder.stats().retransmit_response;
                assert_eq!(again, repeated + 1);
                pair.responder.wake(at(pair.seconds + 11));
                assert!(pair.responder.endpoint.is_empty());
            }
            Moment::Deleting => assert!(pair.initiator.endpoint.is_empty()),
            _ => assert!(pair.is_up(), "{:?} {:?}", self.moment, pair.initiator.lines),
        }
        if let Moment::Up | Moment::Probing = self.moment {
            let later = at(self.pair.seconds + 200);
            assert_eq!(
                self.pair.initiator.wake(later),
                [],
                "the probe was answered"
            );
            assert_eq!(self.pair.initiator.stats().retransmit_request, 0);
        }
    }
}

fn host(policy: Policy, seed: u8) -> Host {
    Host::new(settings(policy), no_keys(), seed)
}

fn settings(policy: Policy) -> Config {
    let mut config = config([policy]);
    config.settings.fragment_size = 400;
    config
}

fn policy_of(side: Side) -> Policy {
    match side {
        Side::Initiator => warrior(),
        Side::Responder => gateway(),
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Initiator => Side::Responder,
        Side::Responder => Side::Initiator,
    }
}

/// Gives all datagrams that `from` sent to the other side; returns who that is and its answers.
fn hand_over(pair: &mut Pair, from: Side, sent: &[Datagram]) -> (Side, Vec<Datagram>) {
    let mut answers = Vec::new();
    for datagram in sent {
        answers.extend(pair.give(from, datagram).1);
    }
    (other(from), answers)
}

fn see(host: &mut Host, now: iked::time::Now) -> Seen {
    Seen {
        len: host.endpoint.len(),
        deadline: host.endpoint.poll_timeout().map(|(deadline, _)| deadline),
        lines: host.show(now),
        children: host.kernel.holds(),
        kernel_requests: host.kernel.installed.len() + host.kernel.removed.len(),
    }
}

/// The counters that are not what they were, and by how much.
fn changes(
    before: &[(&'static str, u64)],
    after: &[(&'static str, u64)],
) -> Vec<(&'static str, u64)> {
    let pairs = before.iter().zip(after).filter(|(old, new)| old != new);
    pairs
        .map(|(old, new)| (old.0, new.1.wrapping_sub(old.1)))
        .collect()
}

/// Counters each of which is a reason not to take a datagram.
const REASONS: [&str; 10] = [
    "msg_rcvd_busy",
    "retransmit_response",
    "frag_rcvd_drop",
    "half_open_refused",
    "cookies_wrong",
    "decode_errors",
    "version_errors",
    "unknown_spi",
    "integrity_errors",
    "unexpected",
];
/// Counters that may go with them.
const BESIDE: [&str; 4] = ["msg_rcvd", "msg_rcvd_dropped", "frag_rcvd", "notifies_sent"];
