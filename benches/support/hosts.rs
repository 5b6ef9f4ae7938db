//! Two hosts in memory: endpoints with a kernel that says yes to everything, and datagrams passed
//! in bulk, so that the clock is read between the turns of the roles and not for each datagram.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use boring::pkey::{PKey, Private};
use iked::auth::store::CredentialStore;
use iked::crypto::sign::PrivateKey;
use iked::crypto::{Provider, Rng};
use iked::ike::{Command, Endpoint, EndpointParts, Path};
use iked::kernel::{Count, KernelEvent, KernelRequest, Volume};
use iked::policy::{
    Auth, CfgEntry, Config, Flow, FlowEnd, Identity, IpNet, Options, Policy, Proposal,
    PublicKeyAuth, Secret, Selection, Settings,
};
use iked::steer::ShardId;
use iked::time::Now;
use iked::wire::registry::{CfgAttrType, EncrId, EsnId, IdType, KeId, PrfId, ProtocolId};
use iked::wire::spi::EspSpi;
use iked::wire::{Transform, TransformId};

use super::floor::{Lengths, Proof, SECRET_LEN};
use super::timed;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The moment this many seconds after the start.
pub(crate) fn at(seconds: u64) -> Now {
    let since = Duration::from_secs(seconds);
    Now {
        mono: *START + since,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since,
    }
}

/// What is agreed on: everything with AES-128-GCM and PRF-HMAC-SHA2-256.
#[derive(Clone)]
pub(crate) struct Suite {
    pub(crate) method: KeId,
    pub(crate) proof: Proof,
    /// Whether the road warriors ask for addresses.
    pub(crate) leases: bool,
}

/// An endpoint and what it sent.
pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    /// Datagrams of this turn, the first `sent` of these; the buffers are used again.
    pub(crate) outbox: Vec<(Path, Vec<u8>)>,
    pub(crate) sent: usize,
    requests: Vec<KernelRequest>,
    is_gateway: bool,
    /// CPU time of its turns in nanoseconds.
    pub(crate) spent: f64,
}

/// What a gateway goes by, which the shards of one daemon share.
#[derive(Clone)]
pub(crate) struct Basis {
    config: Arc<Config>,
    store: Arc<CredentialStore>,
}

impl Basis {
    /// Of the gateway for these road warriors.
    pub(crate) fn new(suite: &Suite, warriors: Range<u32>) -> Self {
        let store = credentials(&suite.proof, warriors.map(warrior_name).collect());
        Self {
            config: config(vec![gateway(suite)]),
            store: Arc::new(store),
        }
    }
}

impl Host {
    /// The gateway for these road warriors.
    pub(crate) fn gateway(suite: &Suite, provider: Provider, warriors: Range<u32>) -> Self {
        Self::serving(Basis::new(suite, warriors), provider)
    }

    /// A gateway that goes by this.
    pub(crate) fn serving(basis: Basis, provider: Provider) -> Self {
        Self {
            is_gateway: true,
            ..Self::new(basis.config, basis.store, provider, 2)
        }
    }

    /// A host that can be any road warrior; `connect` says which.
    pub(crate) fn warriors(suite: &Suite, provider: Provider, seed: u8) -> Self {
        let store = credentials(&suite.proof, vec![fqdn(GATEWAY_NAME)]);
        Self::new(config(Vec::new()), Arc::new(store), provider, seed)
    }

    fn new(config: Arc<Config>, store: Arc<CredentialStore>, provider: Provider, seed: u8) -> Self {
        let options = Options {
            natt_off: false,
            natt_only: false,
            natt_port: 4500,
            config_dir: "/nowhere".into(),
        };
        let endpoint = Endpoint::new(EndpointParts {
            shard: ShardId(0),
            shards: 1,
            config,
            options: Arc::new(options),
            store,
            provider,
            rng: Rng::from_seed([seed; 32]),
            cookie_seed: [seed; 32],
            now: at(0),
        });
        Self {
            endpoint,
            outbox: Vec::new(),
            sent: 0,
            requests: Vec::new(),
            is_gateway: false,
            spent: 0.0,
        }
    }

    /// Takes all that `from` sent in its turn, and answers for the kernel.
    pub(crate) fn take_turn(&mut self, now: Now, from: &mut Self) {
        let datagrams = &mut from.outbox[..from.sent];
        let spent = timed(|| {
            if self.is_gateway {
                self.serve(now, datagrams);
            } else {
                self.receive(now, datagrams);
            }
        });
        self.spent += spent;
        from.sent = 0;
    }

    /// The gateway's turn, with a name of its own so that a profiler can tell the roles apart.
    #[inline(never)]
    pub(crate) fn serve(&mut self, now: Now, datagrams: &mut [(Path, Vec<u8>)]) {
        self.receive(now, datagrams);
        black_box(self.sent);
    }

    /// Takes datagrams, which are decrypted in place, and answers for the kernel.
    #[inline(never)]
    fn receive(&mut self, now: Now, datagrams: &mut [(Path, Vec<u8>)]) {
        for (path, bytes) in datagrams {
            let path = Path {
                local: path.remote,
                remote: path.local,
                marker: path.marker,
            };
            self.endpoint.handle_datagram(now, path, bytes);
            self.drain();
        }
        self.answer_kernel(now);
    }

    /// The kernel grants what it is asked for, and has seen no packet.
    fn answer_kernel(&mut self, now: Now) {
        let mut next = 0;
        while let Some(request) = self.requests.get(next) {
            next += 1;
            let event = match request {
                KernelRequest::AddChild { id, .. } => KernelEvent::Done { id: *id },
                KernelRequest::Count { asker, children } => {
                    let unused = |spi: &EspSpi| Count {
                        spi: *spi,
                        inbound: Volume::default(),
                        outbound: Volume::default(),
                    };
                    KernelEvent::Counts {
                        asker: *asker,
                        counts: children.iter().map(unused).collect(),
                    }
                }
                // No account is kept here.
                KernelRequest::LastCount { .. }
                | KernelRequest::AddOutbound { .. }
                | KernelRequest::MoveChild { .. }
                | KernelRequest::DeleteChild { .. }
                | KernelRequest::Couple { .. }
                | KernelRequest::SetTraps { .. }
                | KernelRequest::Grant { .. }
                | KernelRequest::Return { .. } => continue,
            };
            self.endpoint.handle_kernel(now, event);
            self.drain();
        }
        self.requests.clear();
    }

    /// Starts an IKE SA by each of the first policies.
    fn initiate(&mut self, now: Now, count: u32) {
        let spent = timed(|| {
            for index in 0..count {
                let command = Command::Initiate(index);
                self.endpoint.handle_command(now, 0, command);
                self.drain();
            }
        });
        self.spent += spent;
    }

    /// The gateway does as these settings say from now on.
    pub(crate) fn configure(&mut self, now: Now, suite: &Suite, settings: Settings) {
        let config = Config {
            settings,
            policies: vec![Arc::new(gateway(suite))],
            ..Config::default()
        };
        self.endpoint.handle_config(now, Arc::new(config));
    }

    /// The IKE_SA_INIT request of a road warrior.
    pub(crate) fn first_request(&mut self, now: Now, suite: &Suite) -> (Path, Vec<u8>) {
        self.endpoint
            .handle_config(now, config(vec![warrior(suite, 0)]));
        self.initiate(now, 1);
        self.sent = 0;
        self.outbox[0].clone()
    }

    /// Lets the timers run and takes what is sent because of them.
    pub(crate) fn wake(&mut self, now: Now) {
        loop {
            let before = (self.sent, self.requests.len());
            self.endpoint.handle_timeout(now);
            self.drain();
            if (self.sent, self.requests.len()) == before {
                break;
            }
        }
        // Those that have Child SAs first ask for the packets that these have seen.
        self.answer_kernel(now);
    }

    /// Forgets every IKE SA; the tables stay as large as they grew.
    pub(crate) fn forget(&mut self, now: Now) {
        self.endpoint.handle_command(now, 0, Command::ResetAll);
        self.drain();
        self.requests.clear();
        self.sent = 0;
        assert!(self.endpoint.is_empty());
    }

    fn drain(&mut self) {
        loop {
            if self.sent == self.outbox.len() {
                let nowhere = (IpAddr::from([0; 4]), 0).into();
                let path = Path {
                    local: nowhere,
                    remote: nowhere,
                    marker: false,
                };
                self.outbox.push((path, Vec::with_capacity(1500)));
            }
            let (path, bytes) = &mut self.outbox[self.sent];
            let Some(transmit) = self.endpoint.poll_transmit(bytes) else {
                break;
            };
            *path = transmit.path;
            self.sent += 1;
        }
        while let Some(request) = self.endpoint.poll_kernel() {
            self.requests.push(request);
        }
        while self.endpoint.poll_event().is_some() {}
        while self.endpoint.poll_reply().is_some() {}
    }
}

/// IKE_SA_INIT and IKE_AUTH of these road warriors, turn by turn, all at once in flight. Fails if
/// one of them is not up in the end.
pub(crate) fn connect(
    initiator: &mut Host,
    responder: &mut Host,
    suite: &Suite,
    now: Now,
    warriors: Range<u32>,
) -> Lengths {
    let count = warriors.end - warriors.start;
    let established = |host: &Host| host.endpoint.stats().sa_established_current;
    let before = [established(initiator), established(responder)];
    let policies = warriors.map(|number| warrior(suite, number)).collect();
    initiator.endpoint.handle_config(now, config(policies));
    let mut lengths = Lengths::default();
    let first = |host: &Host| host.outbox[0].1.len();
    initiator.initiate(now, count);
    lengths.init_request = first(initiator);
    responder.take_turn(now, initiator);
    lengths.init_response = first(responder);
    initiator.take_turn(now, responder);
    lengths.auth_request = first(initiator);
    responder.take_turn(now, initiator);
    lengths.auth_response = first(responder);
    initiator.take_turn(now, responder);
    let after = [established(initiator), established(responder)];
    assert_eq!(after, before.map(|before| before + u64::from(count)));
    lengths
}

/// Our key, and the keys of these peers, which all have the same.
fn credentials(proof: &Proof, peers: Vec<Identity>) -> CredentialStore {
    let Proof::Key(key) = proof else {
        return CredentialStore::default();
    };
    let key = PrivateKey::from_pem(&pem(key)).unwrap();
    let public = key.public().unwrap();
    let peers = peers.into_iter().map(|peer| (peer, public.clone()));
    CredentialStore::from_keys(Some(key), peers.collect())
}

/// The key as a file has it.
pub(crate) fn pem(key: &PKey<Private>) -> Vec<u8> {
    key.private_key_to_pem_pkcs8().unwrap()
}

fn config(policies: Vec<Policy>) -> Arc<Config> {
    Arc::new(Config {
        policies: policies.into_iter().map(Arc::new).collect(),
        ..Config::default()
    })
}

fn gateway(suite: &Suite) -> Policy {
    let (flow, pool) = if suite.leases {
        let pool = CfgEntry {
            attribute: CfgAttrType::INTERNAL_IP4_ADDRESS,
            value: net([10, 128, 0, 0], 9),
            is_pool: true,
        };
        (flow(inside(), leased()), vec![pool])
    } else {
        (flow(inside(), outside()), Vec::new())
    };
    Policy {
        index: 0,
        name: "gateway".to_owned(),
        selection: Selection::Last,
        active: false,
        ipcomp: false,
        transport: false,
        natt: false,
        childless: false,
        protocol: ProtocolId::ESP,
        family: None,
        flows: vec![flow],
        local: None,
        peer: None,
        ike_proposals: vec![ike(suite.method)],
        child_proposals: vec![esp()],
        srcid: fqdn(GATEWAY_NAME),
        dstid: None,
        ike_lifetime: Duration::ZERO,
        child_lifetime: Duration::from_secs(10_800),
        child_lifetime_bytes: 0,
        auth: match suite.proof {
            Proof::Psk => Auth::Psk(Secret::new(vec![b'k'; SECRET_LEN])),
            Proof::Key(_) => Auth::PublicKey(PublicKeyAuth::Any),
        },
        then: Vec::new(),
        ppks: Vec::new(),
        config: pool,
        domains: Vec::new(),
        request: Vec::new(),
        iface: None,
        if_id: None,
        offload: None,
        tag: None,
        tap: None,
    }
}

/// One of many: each has a name and an address of its own.
fn warrior(suite: &Suite, number: u32) -> Policy {
    let [_, a, b, c] = number.to_be_bytes();
    let (flow, request) = if suite.leases {
        let address = (CfgAttrType::INTERNAL_IP4_ADDRESS, None);
        (flow(leased(), inside()), vec![address])
    } else {
        (flow(outside(), inside()), Vec::new())
    };
    Policy {
        // An active policy has one IKE SA, told by its name.
        name: format!("w{number:06}"),
        active: true,
        flows: vec![flow],
        local: Some(net([100, a, b, c], 32)),
        peer: Some(net([192, 0, 2, 1], 32)),
        srcid: warrior_name(number),
        config: Vec::new(),
        request,
        ..gateway(suite)
    }
}

fn warrior_name(number: u32) -> Identity {
    fqdn(&format!("w{number:06}.example"))
}

fn fqdn(name: &str) -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: name.as_bytes().to_vec(),
    }
}

fn net(address: [u8; 4], len: u8) -> IpNet {
    IpNet {
        addr: Ipv4Addr::from(address).into(),
        len,
    }
}

fn flow(from: FlowEnd, to: FlowEnd) -> Flow {
    Flow {
        protocol: 0,
        from,
        to,
        pre_nat: None,
    }
}

fn end(net: IpNet, dynamic: bool) -> FlowEnd {
    FlowEnd {
        net,
        dynamic,
        port: None,
    }
}

fn inside() -> FlowEnd {
    end(net([10, 1, 0, 0], 16), false)
}

fn outside() -> FlowEnd {
    end(net([10, 2, 0, 0], 16), false)
}

fn leased() -> FlowEnd {
    end(net([0; 4], 0), true)
}

fn ike(method: KeId) -> Proposal {
    Proposal {
        protocol: ProtocolId::IKE,
        transforms: vec![
            Transform::new(TransformId::Encr(EncrId::AES_GCM_16), Some(128)),
            Transform::new(TransformId::Prf(PrfId::HMAC_SHA2_256), None),
            Transform::new(TransformId::Ke(method), None),
        ],
    }
}

fn esp() -> Proposal {
    Proposal {
        protocol: ProtocolId::ESP,
        transforms: vec![
            Transform::new(TransformId::Encr(EncrId::AES_GCM_16), Some(128)),
            Transform::new(TransformId::Esn(EsnId::NO_ESN), None),
        ],
    }
}

const GATEWAY_NAME: &str = "gateway.example";
