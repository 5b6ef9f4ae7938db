//! A pair of endpoints stopped in one state of one of them, and messages of its peer to it, sealed with
//! the keys that the other endpoint holds.

use std::sync::LazyLock;
use std::time::Duration;

use iked::crypto::null;
use iked::ike::ike_sa::IkeSa;
use iked::ike::own::Own;
use iked::ike::state::State;
use iked::ike::window::Arrival;
use iked::ike::{Command, Path, Role};
use iked::kernel::KernelEvent;
use iked::policy::{CrlFetch, EapMethod, Policy, Round};
use iked::wire::registry::{ExchangeType, KeId, NotifyType, ProtocolId};
use iked::wire::spi::IkeSpi;
use iked::wire::{Ke, Notify, Payload, Proposal, encode_message};

use super::super::lists;
use super::super::peer::{Opened, open_with, range, seal_with};
use super::super::radius;
use super::super::setup::{self, Suite, config, gateway, no_keys, warrior};
use super::super::world::{Datagram, Host, Mood, Pair, Side, at, options};

/// The states of `ike::state`, and those of an IKE SA that is up by what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Initiator: IKE_SA_INIT is out.
    SaInitSent,
    /// Responder: IKE_SA_INIT is answered.
    HalfOpen,
    /// Initiator: IKE_AUTH is out.
    AuthSent,
    /// Responder: EAP's first question is out.
    EapAsked,
    /// Initiator: our answer to it is out.
    EapSent,
    /// Responder: the first of two authentications is answered.
    RoundAwaited,
    /// Initiator: the second one is out.
    RoundSent,
    /// Responder: the answer to IKE_AUTH waits for the kernel.
    AwaitKernel,
    /// Initiator: its kernel has not answered.
    InitiatorAwaitsKernel,
    /// Responder of CREATE_CHILD_SA: the answer waits for the kernel.
    Answering,
    /// Responder: the answer to IKE_AUTH waits for a revocation list.
    AwaitList,
    /// Initiator: so does what follows from it.
    InitiatorAwaitsList,
    /// Responder: the answer to an EAP packet waits for a RADIUS server.
    AwaitRadius,
    /// Responder: up, let in by a RADIUS server, with an account.
    Accounted,
    /// Up, nothing under way.
    Idle,
    /// Up, a liveness check of ours is out.
    Probe,
    /// Up, our Delete of the Child SA is out.
    DeleteChild,
    /// Up, our rekey of the Child SA is out.
    RekeyChild,
    /// Up, the Child SA that we asked for is on its way into the kernel.
    Install,
    /// Up, our rekey of the IKE SA is out.
    RekeyIke,
    /// The peer replaced this IKE SA.
    Succeeded,
    /// Up, UPDATE_SA_ADDRESSES is out.
    Mobike,
    /// Up, REDIRECT is out.
    Redirected,
    /// Our Delete is out.
    Deleting,
    /// The peer's Delete was answered.
    Deleted,
}

/// What is asked, or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    SaInit,
    Auth,
    FurtherChild,
    RekeyChild,
    RekeyIke,
    Informational,
    Intermediate,
    Resume,
    Unassigned,
}

impl Ask {
    pub(super) const ALL: [Self; 9] = [
        Self::SaInit,
        Self::Auth,
        Self::FurtherChild,
        Self::RekeyChild,
        Self::RekeyIke,
        Self::Informational,
        Self::Intermediate,
        Self::Resume,
        Self::Unassigned,
    ];

    pub(super) fn exchange(self) -> ExchangeType {
        match self {
            Self::SaInit => ExchangeType::IKE_SA_INIT,
            Self::Auth => ExchangeType::IKE_AUTH,
            Self::FurtherChild | Self::RekeyChild | Self::RekeyIke => ExchangeType::CREATE_CHILD_SA,
            Self::Informational => ExchangeType::INFORMATIONAL,
            Self::Intermediate => ExchangeType::IKE_INTERMEDIATE,
            Self::Resume => ExchangeType::IKE_SESSION_RESUME,
            Self::Unassigned => ExchangeType(99),
        }
    }
}

/// What a message is sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    Right,
    /// Those of another IKE SA.
    Wrong,
    /// In the clear.
    None,
}

/// The pair.
pub(super) struct Scene {
    pub(super) stage: Stage,
    pub(super) pair: Pair,
    pub(super) victim_spi: IkeSpi,
    victim: Side,
    path: Path,
    sealed: u64,
}

impl Scene {
    /// Plays until the stage is reached.
    pub(super) fn at(stage: Stage) -> Self {
        let mut pair = pair(stage);
        let victim = play(&mut pair, stage);
        let host = pair.host(victim);
        let mut all = host.endpoint.ike_sas();
        let sa = all.find(|sa| is_at(stage, sa));
        let sa = sa.unwrap_or_else(|| panic!("{stage:?}: {}", host.endpoint.snapshot()));
        let (victim_spi, path) = (sa.own_spi, sa.path);
        drop(all);
        Self {
            stage,
            pair,
            victim_spi,
            victim,
            path,
            sealed: 1 << 32,
        }
    }

    fn host(&self) -> &Host {
        match self.victim {
            Side::Initiator => &self.pair.initiator,
            Side::Responder => &self.pair.responder,
        }
    }

    fn sa(&self) -> Option<&IkeSa> {
        let mut all = self.host().endpoint.ike_sas();
        all.find(|sa| sa.own_spi == self.victim_spi)
    }

    /// The peer's side of the IKE SA.
    fn peers(&self) -> &IkeSa {
        let other = match self.victim {
            Side::Initiator => &self.pair.responder,
            Side::Responder => &self.pair.initiator,
        };
        let mut all = other.endpoint.ike_sas();
        all.find(|sa| sa.peer_spi == Some(self.victim_spi)).unwrap()
    }

    /// How the victim sees its peer's messages come.
    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// The path of the IKE SA now, if it is still there.
    pub(super) fn path_now(&self) -> Option<Path> {
        self.sa().map(|sa| sa.path)
    }

    pub(super) fn snapshot(&self) -> String {
        let kernel = &self.host().kernel;
        let counts = (kernel.installed.len(), kernel.removed.len());
        format!(
            "{}{counts:?} {:?}",
            self.host().endpoint.snapshot(),
            kernel.moved
        )
    }

    pub(super) fn peer_has_keys(&self) -> bool {
        self.peers().outbound_key().is_some()
    }

    /// Whether the IKE SA is over but for its last answer.
    pub(super) fn is_ending(&self) -> bool {
        self.sa()
            .is_none_or(|sa| matches!(sa.state, State::Deleting(_)))
    }

    /// The Message ID of the peer's next request, or of the response that is awaited; where none is,
    /// of the last request of the victim.
    pub(super) fn next_id(&self, response: bool) -> u32 {
        let window = &self.sa().unwrap().window;
        if response {
            let awaited = window.outstanding().map(|request| request.id);
            let last = window.free().unwrap_or(0).saturating_sub(1);
            return awaited.unwrap_or(last);
        }
        let next = (0..99).find(|&id| window.arrival(id) == Arrival::Next);
        next.unwrap()
    }

    /// A message of the peer.
    pub(super) fn message(&mut self, ask: Ask, response: bool, id: u32, keys: Keys) -> Vec<u8> {
        let header = self.peers().header(ask.exchange(), id, response);
        let public = public();
        let payloads = if response {
            Vec::new()
        } else {
            self.payloads(ask, &public)
        };
        let mut sealed = self.sealed;
        let bytes = match keys {
            Keys::None => {
                let mut out = Vec::new();
                // Long enough for a hint.
                let payloads = [&payloads[..], &[Payload::VendorId(&[0; 8])]].concat();
                encode_message(&header, &payloads, &mut out);
                out
            }
            Keys::Right => {
                let key = self.peers().outbound_key().unwrap();
                seal_with(key, &mut sealed, &header, &payloads)
            }
            Keys::Wrong => {
                let key = first(&FOREIGN.initiator).outbound_key().unwrap();
                seal_with(key, &mut sealed, &header, &payloads)
            }
        };
        self.sealed = sealed;
        bytes
    }

    /// A message of the peer with nothing but a notification.
    pub(super) fn notification(
        &mut self,
        (ask, response): (Ask, bool),
        (kind, data): (NotifyType, &[u8]),
        keys: Keys,
    ) -> Vec<u8> {
        let id = self.next_id(response);
        let header = self.peers().header(ask.exchange(), id, response);
        let payloads = [super::super::peer::status(kind, data)];
        if keys == Keys::None {
            let mut out = Vec::new();
            encode_message(&header, &payloads, &mut out);
            return out;
        }
        let mut sealed = self.sealed;
        let key = self.peers().outbound_key().unwrap();
        let bytes = seal_with(key, &mut sealed, &header, &payloads);
        self.sealed = sealed;
        bytes
    }

    /// The victim's log; what was there before is forgotten.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.pair.host(self.victim).lines)
    }

    /// Whether the victim still has the IKE SA.
    pub(super) fn is_there(&self) -> bool {
        self.sa().is_some()
    }

    fn payloads<'a>(&self, ask: Ask, public: &'a [u8]) -> Vec<Payload<'a>> {
        let child = |rekeys: bool| {
            let mut payloads = Vec::new();
            if rekeys {
                payloads.push(Payload::Notify(Notify {
                    protocol: ProtocolId::ESP,
                    spi: self.child_spi().leak(),
                    kind: NotifyType::REKEY_SA,
                    data: &[],
                }));
            }
            let (gateway, warrior) = (
                range("10.1.0.0", "10.1.255.255"),
                range("10.2.0.0", "10.2.255.255"),
            );
            let (theirs, ours) = match self.victim {
                Side::Initiator => (gateway, warrior),
                Side::Responder => (warrior, gateway),
            };
            payloads.extend([
                Payload::Sa(
                    [Proposal {
                        number: 1,
                        protocol: ProtocolId::ESP,
                        spi: &[0, 0, 0x20, 1],
                        transforms: setup::esp(Suite::AesGcm).transforms.into(),
                    }]
                    .into(),
                ),
                Payload::Nonce(&[0x77; 32]),
                Payload::TsI([theirs].into()),
                Payload::TsR([ours].into()),
            ]);
            payloads
        };
        match ask {
            Ask::FurtherChild => child(false),
            Ask::RekeyChild => child(true),
            Ask::RekeyIke => vec![
                Payload::Sa(
                    [Proposal {
                        number: 1,
                        protocol: ProtocolId::IKE,
                        spi: &[9; 8],
                        transforms: setup::ike(Suite::AesGcm, &[KeId::CURVE25519])
                            .transforms
                            .into(),
                    }]
                    .into(),
                ),
                Payload::Nonce(&[0x77; 32]),
                Payload::Ke(Ke {
                    method: KeId::CURVE25519,
                    data: public,
                }),
            ],
            Ask::SaInit
            | Ask::Auth
            | Ask::Informational
            | Ask::Intermediate
            | Ask::Resume
            | Ask::Unassigned => Vec::new(),
        }
    }

    /// The peer's inbound SPI of the Child SA.
    fn child_spi(&self) -> Vec<u8> {
        let child = self.sa().and_then(|sa| sa.children.first());
        let spi = child.map(|child| child.names.outbound_spi.to_bytes());
        spi.unwrap_or([0, 0, 0x10, 1]).to_vec()
    }

    /// Hands a message to the victim; returns what it sends.
    pub(super) fn hear(&mut self, path: Path, bytes: &[u8]) -> Vec<Datagram> {
        let now = self.pair.now();
        self.pair.host(self.victim).receive(now, path, bytes)
    }

    pub(super) fn open(&self, answer: &Datagram) -> Opened {
        open_with(self.peers().inbound_key().unwrap(), &answer.bytes)
    }

    /// The victim loses everything.
    pub(super) fn forget_all(&mut self) {
        let now = self.pair.now();
        self.pair.host(self.victim).command(now, Command::ResetAll);
    }
}

/// Another pair, for its keys.
static FOREIGN: LazyLock<Pair> = LazyLock::new(|| {
    let mut pair = Pair::of(
        host(Stage::Idle, warrior(), 11),
        host(Stage::Idle, gateway(), 12),
    );
    pair.connect();
    assert!(pair.is_up());
    pair
});

fn public() -> Vec<u8> {
    let method = null::provider().key_exchange(KeId::CURVE25519).unwrap();
    let mut rng = iked::crypto::Rng::from_seed([5; 32]);
    method.start(&mut rng).unwrap().public().to_vec()
}

fn first(host: &Host) -> &IkeSa {
    host.endpoint.ike_sas().next().unwrap()
}

fn pair(stage: Stage) -> Pair {
    match stage {
        Stage::AwaitList => return lists::pair(Side::Responder, "good", CrlFetch::Required),
        Stage::InitiatorAwaitsList => {
            return lists::pair(Side::Initiator, "good", CrlFetch::Required);
        }
        Stage::AwaitRadius | Stage::Accounted => return radius::plain_pair(),
        _ => {}
    }
    let lifetime = match stage {
        Stage::RekeyIke | Stage::Succeeded => Duration::from_secs(100),
        _ => Duration::ZERO,
    };
    let rounds = matches!(stage, Stage::RoundAwaited | Stage::RoundSent);
    let twice = |policy: Policy| {
        let (srcid, auth) = (policy.srcid.clone(), policy.auth.clone());
        let round = Round {
            srcid,
            dstid: None,
            auth,
        };
        Policy {
            then: rounds.then_some(round).into_iter().collect(),
            ..policy
        }
    };
    let warrior = Policy {
        ike_lifetime: lifetime,
        ..warrior()
    };
    Pair::of(
        host(stage, twice(warrior), 1),
        host(stage, twice(gateway()), 2),
    )
}

fn host(stage: Stage, policy: Policy, seed: u8) -> Host {
    let (mut config, store) = if matches!(stage, Stage::EapAsked | Stage::EapSent) {
        let methods = [EapMethod::MsChapV2];
        let [client, server] = setup::with_passwords(&methods, &methods, "secret");
        if policy.peer.is_some() {
            client
        } else {
            server
        }
    } else {
        (config([policy]), no_keys())
    };
    config.settings.mobike = stage == Stage::Mobike;
    if matches!(stage, Stage::RekeyIke | Stage::Succeeded) {
        // Nothing else is to begin while time passes.
        config.settings.dpd_check_interval = Duration::ZERO;
    }
    Host::with_provider(config, store, seed, options(), null::provider())
}

/// Plays until the stage is reached; says at which side.
fn play(pair: &mut Pair, stage: Stage) -> Side {
    match stage {
        Stage::SaInitSent => {
            let request = pair.initiate();
            assert!(!pair.give(Side::Initiator, &request[0]).1.is_empty());
            return Side::Initiator;
        }
        Stage::HalfOpen | Stage::AuthSent => {
            let request = pair.initiate();
            let (_, response) = pair.give(Side::Initiator, &request[0]);
            let (_, auth) = pair.give(Side::Responder, &response[0]);
            if stage == Stage::HalfOpen {
                return Side::Responder;
            }
            pair.give(Side::Initiator, &auth[0]);
            return Side::Initiator;
        }
        Stage::EapAsked | Stage::EapSent => {
            let request = pair.initiate();
            let (_, response) = pair.give(Side::Initiator, &request[0]);
            let (_, auth) = pair.give(Side::Responder, &response[0]);
            let (_, question) = pair.give(Side::Initiator, &auth[0]);
            if stage == Stage::EapAsked {
                return Side::Responder;
            }
            assert!(!pair.give(Side::Responder, &question[0]).1.is_empty());
            return Side::Initiator;
        }
        Stage::RoundAwaited | Stage::RoundSent => {
            let (mut from, mut sent) = (Side::Initiator, pair.initiate());
            for _ in 0..3 {
                (from, sent) = pair.give(from, &sent[0]);
            }
            if stage == Stage::RoundAwaited {
                return Side::Responder;
            }
            assert!(!pair.give(from, &sent[0]).1.is_empty());
            return Side::Initiator;
        }
        Stage::AwaitKernel | Stage::InitiatorAwaitsKernel => {
            let (slow, host) = if stage == Stage::AwaitKernel {
                (Side::Responder, &mut pair.responder)
            } else {
                (Side::Initiator, &mut pair.initiator)
            };
            host.kernel.mood = Mood::Slow;
            pair.connect();
            return slow;
        }
        Stage::AwaitList | Stage::AwaitRadius => {
            pair.connect();
            return Side::Responder;
        }
        Stage::InitiatorAwaitsList => {
            pair.connect();
            return Side::Initiator;
        }
        Stage::Accounted => {
            radius::connect(pair, |_| ());
            let start = pair.responder.endpoint.poll_record();
            assert!(start.is_some(), "nobody is told");
            return Side::Responder;
        }
        _ => {}
    }
    pair.connect();
    assert!(pair.is_up(), "{:?}", pair.initiator.lines);
    from_up(pair, stage)
}

/// The stages of an IKE SA that was up.
fn from_up(pair: &mut Pair, stage: Stage) -> Side {
    let now = at(0);
    match stage {
        Stage::Idle => return Side::Responder,
        Stage::Probe => {
            pair.seconds = 300;
            pair.initiator.wake(at(300));
        }
        Stage::DeleteChild => {
            expire(pair, true);
        }
        Stage::RekeyChild => {
            expire(pair, false);
        }
        Stage::Install => {
            pair.initiator.kernel.mood = Mood::Slow;
            let request = expire(pair, false);
            pair.run(Side::Initiator, request);
            pair.initiator.kernel.mood = Mood::Willing;
        }
        Stage::Answering => {
            pair.responder.kernel.mood = Mood::Slow;
            let request = expire(pair, false);
            pair.run(Side::Initiator, request);
            return Side::Responder;
        }
        Stage::RekeyIke => {
            rekey(pair);
        }
        Stage::Succeeded => {
            let request = rekey(pair);
            // The answer is lost.
            pair.give(Side::Initiator, &request[0]);
            return Side::Responder;
        }
        Stage::Mobike => {
            let (old, new) = (setup::WARRIOR, [198, 51, 100, 7].into());
            let command = Command::LocalAddress {
                old,
                new,
                towards: None,
            };
            pair.initiator.command(now, command);
        }
        Stage::Redirected => {
            let to = [198, 51, 100, 7].into();
            pair.responder.command(now, Command::Redirect(to));
            return Side::Responder;
        }
        Stage::Deleting => {
            pair.initiator.command(now, Command::ResetSa);
        }
        Stage::Deleted => {
            let request = pair.initiator.command(now, Command::ResetSa);
            pair.give(Side::Initiator, &request[0]);
            return Side::Responder;
        }
        _ => panic!("{stage:?}"),
    }
    Side::Initiator
}

/// The initiator's kernel says that its Child SA comes to its end.
fn expire(pair: &mut Pair, hard: bool) -> Vec<Datagram> {
    let now = pair.now();
    let spi = pair.initiator.kernel.holds()[0];
    let event = KernelEvent::Expire { spi, hard };
    pair.initiator.endpoint.handle_kernel(now, event);
    pair.initiator.wake(now)
}

/// The initiator's time to replace the IKE SA comes.
fn rekey(pair: &mut Pair) -> Vec<Datagram> {
    for seconds in 85..=95 {
        pair.seconds = seconds;
        let sent = pair.initiator.wake(at(seconds));
        if !sent.is_empty() {
            return sent;
        }
    }
    panic!("no rekey: {:?}", pair.initiator.lines)
}

fn is_at(stage: Stage, sa: &IkeSa) -> bool {
    let initiator = sa.role == Role::OriginalInitiator;
    let up = match &sa.state {
        State::AwaitSaInitResponse(_) => return stage == Stage::SaInitSent,
        State::AwaitAuthRequest(half_open) if half_open.asking.is_some() => {
            let relayed = half_open.eap.is_some();
            let asked = [Stage::AwaitList, Stage::AwaitRadius];
            return stage == asked[usize::from(relayed)];
        }
        State::AwaitAuthRequest(half_open) if half_open.eap.is_some() => {
            return stage == Stage::EapAsked;
        }
        State::AwaitAuthRequest(half_open) if half_open.rounds.is_some() => {
            return stage == Stage::RoundAwaited;
        }
        State::AwaitAuthRequest(_) => return stage == Stage::HalfOpen,
        State::AwaitAuthResponse(sent) if sent.asking.is_some() => {
            return stage == Stage::InitiatorAwaitsList;
        }
        State::AwaitAuthResponse(sent) if sent.is_in_eap() => return stage == Stage::EapSent,
        State::AwaitAuthResponse(sent) if sent.round > 0 => return stage == Stage::RoundSent,
        State::AwaitAuthResponse(_) => return stage == Stage::AuthSent,
        State::AwaitKernel(_) if initiator => return stage == Stage::InitiatorAwaitsKernel,
        State::AwaitKernel(_) => return stage == Stage::AwaitKernel,
        State::Deleting(_) if initiator => return stage == Stage::Deleting,
        State::Deleting(_) => return stage == Stage::Deleted,
        State::Closed => return false,
        State::Established(up) => up,
    };
    let reached = match (&up.own, &up.answering, up.successor) {
        (Own::Idle, None, None) if stage == Stage::Accounted => Stage::Accounted,
        (Own::Idle, None, None) => Stage::Idle,
        (Own::Idle, Some(_), None) => Stage::Answering,
        (Own::Idle, None, Some(_)) => Stage::Succeeded,
        (Own::Probe, None, None) if initiator => Stage::Probe,
        (Own::Probe, None, None) => Stage::Redirected,
        (Own::Delete(_), None, None) => Stage::DeleteChild,
        (Own::Child(_), None, None) => Stage::RekeyChild,
        (Own::Install(_), None, None) => Stage::Install,
        (Own::Rekey(_), None, None) => Stage::RekeyIke,
        (Own::Mobike(_), None, None) => Stage::Mobike,
        _ => return false,
    };
    reached == stage
}
