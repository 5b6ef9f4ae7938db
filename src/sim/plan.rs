//! What a world is made of, drawn from its seed before anything happens: hosts, their policies and
//! configuration, the links and NATs before them, and how bad things will get.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::outside::{self, LookupPlan};
use super::tunnel;
use crate::auth::store::CredentialStore;
use crate::policy::{Config, Identity, Options, Policy, Settings};
use crate::wire::registry::{EncrId, IntegId, KeId};
use crate::wire::{Transform, TransformId};

/// The whole drawing.
#[derive(Debug)]
pub struct Plan {
    /// All hosts, gateways first.
    pub hosts: Vec<HostPlan>,
    /// What must be up in the end.
    pub tunnels: Vec<Tunnel>,
    /// How long things go wrong.
    pub chaos: Duration,
    /// The mean pause between two mishaps.
    pub pause: Duration,
}

/// One host.
#[derive(Debug)]
pub struct HostPlan {
    /// For the trace.
    pub name: String,
    /// Its address, behind its NAT if it has one.
    pub address: IpAddr,
    /// How many shards it has.
    pub shards: u8,
    /// Its configuration.
    pub config: Arc<Config>,
    /// Its command line.
    pub options: Arc<Options>,
    /// The NAT before it.
    pub nat: Option<NatPlan>,
    /// The link before it.
    pub link: LinkPlan,
    /// How its kernel fails.
    pub kernel: KernelPlan,
    /// How what it asks of the outside fails.
    pub lookup: LookupPlan,
    /// Keys and certificates.
    pub store: Arc<CredentialStore>,
    /// Datagrams in a thousand that reach a shard by chance and not by rule.
    pub astray: u64,
}

/// What a NAT does.
#[derive(Clone, Copy, Debug)]
pub struct NatPlan {
    /// Its first outer address.
    pub outside: IpAddr,
    /// A mapping holds for one peer only, in both directions.
    pub symmetric: bool,
    /// Silence after which a mapping is forgotten.
    pub idle: Duration,
}

/// What a link does to datagrams, both ways; rates are in a thousand.
#[derive(Clone, Copy, Debug)]
pub struct LinkPlan {
    /// Least delay.
    pub delay: u64,
    /// Milliseconds of delay drawn on top.
    pub jitter: u64,
    /// Lost.
    pub loss: u64,
    /// Delivered twice.
    pub double: u64,
    /// Held back for up to some seconds.
    pub late: u64,
    /// One bit changed.
    pub corrupt: u64,
    /// The longest IP packet that passes.
    pub mtu: usize,
}

/// How often a kernel fails, in a thousand.
#[derive(Clone, Copy, Debug)]
pub struct KernelPlan {
    /// Additions refused.
    pub refuse: u64,
    /// Requests that take seconds.
    pub slow: u64,
    /// Answers that are lost.
    pub mute: u64,
}

/// An active policy and its other end.
#[derive(Debug)]
pub struct Tunnel {
    /// The host that initiates.
    pub from: usize,
    /// By which of its policies.
    pub policy: u32,
    /// The other host.
    pub to: usize,
    /// Who `from` says it is.
    pub from_id: Identity,
    /// Who `to` says it is.
    pub to_id: Identity,
}

/// What all hosts of one world agree on.
#[derive(Debug)]
pub(super) struct Taste {
    /// The ciphers of IKE SAs.
    pub ike: Vec<Transform>,
    /// Key exchange methods.
    pub methods: Vec<KeId>,
    /// The ciphers of Child SAs.
    pub esp: Vec<Transform>,
    /// Child SAs have a key exchange of their own: at the initiator, at the responder.
    pub pfs: (bool, bool),
    /// Road warriors lease addresses.
    pub leases: bool,
    /// Gateways begin as well, where they know whom to call.
    pub mutual: bool,
    /// Lifetimes are short, so that rekeys meet mishaps and each other.
    pub hasty: bool,
    /// Compression is wanted, by these of a thousand policies.
    pub ipcomp: u64,
    small: bool,
    v6: bool,
    encapsulate: bool,
    single: bool,
    /// A peer that comes again gets the address that it had.
    sticky: bool,
}

/// Draws everything.
pub fn draw(dice: &mut Dice) -> Plan {
    let taste = taste(dice);
    let gateways = dice.between(1, 2);
    let spokes = dice.between(1, 5);
    let mut hosts: Vec<HostPlan> = Vec::new();
    let mut policies: Vec<Vec<Policy>> = Vec::new();
    for number in 0..gateways + spokes {
        let is_gateway = number < gateways;
        hosts.push(host(dice, &taste, number, is_gateway));
        policies.push(Vec::new());
    }
    let mut tunnels = Vec::new();
    let ends = hosts.len();
    let first_spoke = usize::try_from(gateways).unwrap_or(1);
    for from in 1..ends {
        let to = dice.below(from.min(first_spoke));
        let leased = taste.leases && from >= first_spoke;
        let (mut initiator, mut responder) =
            tunnel::pair(dice, &taste, (from, &hosts[from]), (to, &hosts[to]), leased);
        (initiator.ppks, responder.ppks) = tunnel::ppks(dice);
        tunnel::rounds(dice, &mut initiator, &mut responder);
        tunnels.push(Tunnel {
            from,
            policy: u32::try_from(policies[from].len()).unwrap_or(0),
            to,
            from_id: initiator.srcid.clone(),
            to_id: responder.srcid.clone(),
        });
        policies[from].push(initiator);
        policies[to].push(responder);
    }
    for (host, policies) in hosts.iter_mut().zip(policies) {
        let numbered = (0..).zip(policies);
        let policies = numbered.map(|(index, policy)| Arc::new(Policy { index, ..policy }));
        let settings = settings(dice, &taste);
        host.config = Arc::new(Config {
            policies: policies.collect(),
            settings,
            ..Config::default()
        });
    }
    let (chaos, pause) = (dice.seconds(200, 500), dice.seconds(5, 40));
    if dice.chance(CERTIFIED) {
        outside::certify(&mut hosts);
        for host in &mut hosts {
            host.lookup = LookupPlan::draw(dice);
        }
    }
    Plan {
        hosts,
        tunnels,
        chaos,
        pause,
    }
}

fn taste(dice: &mut Dice) -> Taste {
    let encr = |id, bits| Transform::new(TransformId::Encr(id), bits);
    let gcm = vec![encr(EncrId::AES_GCM_16, Some(128))];
    let chacha = vec![encr(EncrId::CHACHA20_POLY1305, None)];
    let cbc = vec![
        encr(EncrId::AES_CBC, Some(256)),
        Transform::new(TransformId::Integ(IntegId::HMAC_SHA2_256_128), None),
    ];
    let suites = [gcm, chacha, cbc];
    let small = dice.chance(300);
    let methods = if small {
        vec![KeId::CURVE25519]
    } else {
        match dice.below(3) {
            0 => vec![KeId::CURVE25519],
            1 => vec![KeId::CURVE25519, KeId::ECP_256],
            _ => vec![KeId::MODP_2048, KeId::CURVE25519, KeId::ECP_256],
        }
    };
    let single = dice.chance(200);
    Taste {
        ike: suites[dice.below(3)].clone(),
        methods,
        esp: suites[dice.below(3)].clone(),
        pfs: if dice.chance(MIXED) {
            (true, false)
        } else {
            let both = dice.chance(400);
            (both, both)
        },
        small,
        leases: dice.chance(LEASES),
        mutual: dice.chance(MUTUAL) && !single,
        hasty: dice.chance(HASTY),
        v6: dice.chance(150),
        encapsulate: dice.chance(100),
        single,
        sticky: dice.chance(500),
        ipcomp: dice.pick([0, 0, 800, 1000]),
    }
}

fn settings(dice: &mut Dice, taste: &Taste) -> Settings {
    Settings {
        fragment_size: if taste.small { 300 } else { 0 },
        cookie_threshold: dice.pick([0, 1, 1000, 1000]),
        half_open_max: dice.pick([4, 20_000, 20_000]),
        dpd_check_interval: dice.seconds(10, 60),
        enforce_single_ike_sa: taste.single,
        sticky_address: taste.sticky,
        ..Settings::default()
    }
}

fn host(dice: &mut Dice, taste: &Taste, number: u64, is_gateway: bool) -> HostPlan {
    let last = u8::try_from(number + 1).unwrap_or(u8::MAX);
    let natted = !is_gateway && !taste.v6 && dice.chance(500);
    let address = if taste.v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()))
    } else if natted {
        IpAddr::V4(Ipv4Addr::new(192, 168, last, 2))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    };
    let nat = natted.then(|| NatPlan {
        outside: IpAddr::V4(Ipv4Addr::new(203, 0, 113, last)),
        symmetric: dice.chance(500),
        idle: dice.seconds(25, 200),
    });
    let bad = |dice: &mut Dice, most| {
        if dice.chance(600) {
            dice.between(1, most)
        } else {
            0
        }
    };
    HostPlan {
        name: format!("{}{number}", if is_gateway { "gw" } else { "rw" }),
        address,
        shards: u8::try_from(dice.between(1, 4)).unwrap_or(1),
        config: Arc::new(Config::default()),
        options: Arc::new(Options {
            natt_off: false,
            natt_only: !is_gateway && taste.encapsulate,
            natt_port: 4500,
            config_dir: "/nowhere".into(),
        }),
        nat,
        link: LinkPlan {
            delay: dice.between(1, 80),
            jitter: dice.between(0, 60),
            loss: bad(dice, 200),
            double: bad(dice, 100),
            late: bad(dice, 60),
            corrupt: bad(dice, 30),
            mtu: if taste.small { 480 } else { 1500 },
        },
        kernel: KernelPlan {
            refuse: bad(dice, 150),
            slow: bad(dice, 100),
            mute: bad(dice, 60),
        },
        lookup: LookupPlan::default(),
        store: Arc::default(),
        astray: dice.pick([0, 0, 100, 1000]),
    }
}

/// Worlds in a thousand whose road warriors lease addresses.
const LEASES: u64 = 300;
/// Worlds in a thousand where one side wants key exchange in Child SAs and the other has none.
const MIXED: u64 = 150;
/// Worlds in a thousand where both ends of a tunnel may begin. Not where the newest IKE SA replaces
/// the others without a word: there each end would drop what the other just made.
const MUTUAL: u64 = 250;
/// Worlds in a thousand whose hosts have certificates and ask whether they are revoked.
const CERTIFIED: u64 = 250;
/// Worlds in a thousand with short lifetimes.
const HASTY: u64 = 400;
