//! What the administrator wants, as immutable values: the meaning of an iked.conf(5), with nothing
//! of its text. Made by `config`, read by `ike`, shared by all shards as `Arc<Config>`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::wire::registry::{CfgAttrType, IdType, ProtocolId};
use crate::wire::{Transform, TransformId};

pub mod dn;
pub mod domain;
pub mod index;
pub mod net;
pub mod pool;
pub mod radius;
pub mod select;

pub use net::IpNet;

/// Counts configurations; every reload makes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(pub u64);

/// One whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Which load of the file this is.
    pub generation: Generation,
    /// All policies in file order (the last match wins; `policy::select`).
    pub policies: Vec<Arc<Policy>>,
    /// EAP users: name to password.
    pub users: BTreeMap<String, Secret>,
    /// The `radius` lines.
    pub radius: Arc<radius::Radius>,
    /// The `set` options.
    pub settings: Settings,
    /// Finds policies by peer.
    pub index: index::Index,
}

impl Config {
    /// Ready for the shards: what would otherwise be made when the first of them needs it.
    pub fn ready(self) -> Arc<Self> {
        self.index.prepare(&self.policies);
        Arc::new(self)
    }

    /// Whether no other policy is for the peers of this one.
    pub fn is_alone(&self, policy: &Policy) -> bool {
        self.index.count(&self.policies, policy.peer) == 1
    }

    /// Whether routes of ours may lead into a tunnel: there are addresses to ask for, and an
    /// interface for them.
    pub fn leads(&self) -> bool {
        let mut policies = self.policies.iter();
        policies.any(|policy| policy.iface.is_some() && !policy.request.is_empty())
    }
}

/// The number of an XFRM interface, which its SAs and policies carry (XFRMA_IF_ID).
pub type IfId = NonZeroU32;

/// Bytes that are never printed: pre-shared keys and passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes; they are wiped when the last owner drops them.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The `set` options of iked.conf(5), with OpenIKED's defaults unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `set active|passive`: may this daemon initiate at all.
    pub active: bool,
    /// `set couple|decouple`: load SAs and flows into the kernel.
    pub couple: bool,
    /// `set fragmentation|nofragmentation`, RFC 7383. On by default here (OpenIKED: off).
    pub fragmentation: bool,
    /// `set mobike|nomobike`.
    pub mobike: bool,
    /// `set vendorid|novendorid`.
    pub vendor_id: bool,
    /// `set enforcesingleikesa|noenforcesingleikesa`.
    pub enforce_single_ike_sa: bool,
    /// `set stickyaddress|nostickyaddress`.
    pub sticky_address: bool,
    /// `set cert_partial_chain`.
    pub cert_partial_chain: bool,
    /// `set ocsp URL [tolerate T [maxage T]]`.
    pub ocsp: Option<Ocsp>,
    /// `set crl fetch|try` (ours): whether revocation lists are fetched.
    pub crl: Option<CrlFetch>,
    /// `set dpd_check_interval N`; zero turns DPD off.
    pub dpd_check_interval: Duration,
    /// `set cookie_threshold N` (ours): half-open IKE SAs of one shard above which a COOKIE is
    /// demanded; 0 demands it always.
    pub cookie_threshold: u32,
    /// `set halfopen_max N` (ours): half-open IKE SAs one shard keeps; further requests get silence.
    pub half_open_max: u32,
    /// `set halfopen_timeout N` (ours): seconds from IKE_SA_INIT until a half-open SA is dropped.
    pub half_open_timeout: Duration,
    /// `set fragment_size N` (ours): bytes of a whole IP packet that an IKE fragment may fill;
    /// zero begins with 1400, and falls to 1280 (IPv4: then 576) without an answer.
    pub fragment_size: u16,
    /// `set auth_lifetime T` (ours): how long an authentication counts where the peer began
    /// (RFC 4478); zero is for ever.
    pub auth_lifetime: Duration,
    /// `set kernel` (ours): the way into the kernel.
    pub kernel: KernelWay,
    /// `set replay_window N` (ours): packets that the anti-replay window of an SA spans, 32 to 4096.
    pub replay_window: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            active: true,
            couple: true,
            fragmentation: true,
            mobike: true,
            vendor_id: true,
            enforce_single_ike_sa: false,
            sticky_address: false,
            cert_partial_chain: false,
            ocsp: None,
            crl: None,
            dpd_check_interval: Duration::from_secs(60),
            cookie_threshold: 1000,
            half_open_max: 20_000,
            half_open_timeout: Duration::from_secs(30),
            fragment_size: 0,
            auth_lifetime: Duration::ZERO,
            kernel: KernelWay::Auto,
            replay_window: REPLAY_WINDOW,
        }
    }
}

/// `set kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelWay {
    /// `auto`: NETLINK_XFRM where the kernel has it, else PF_KEY.
    Auto,
    /// `xfrm`.
    Xfrm,
    /// `pfkey`.
    PfKey,
}

/// `set ocsp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ocsp {
    /// The responder asked where the issuer of a certificate names none.
    pub url: String,
    /// How far the responder's clock may be off; zero: five minutes.
    pub tolerate: Duration,
    /// Greatest age of a response; `None` is unlimited.
    pub max_age: Option<Duration>,
}

/// `set crl`: the revocation lists that certificates name are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlFetch {
    /// `fetch`: whose list cannot be had is refused.
    Required,
    /// `try`: whose list cannot be had is let in.
    Tried,
}

/// How a policy ends the walk through the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Selection {
    /// Plain: the last match wins.
    #[default]
    Last,
    /// `quick`: a match ends the walk.
    Quick,
    /// `skip`: never chosen.
    Skip,
    /// `default`: chosen when nothing else matches.
    Default,
}

/// Address family of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 (`inet`).
    Inet,
    /// IPv6 (`inet6`).
    Inet6,
}

/// One `ikev2` policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Position in the file, from 0; ACQUIRE and `active` starts go to shard `index mod N`.
    pub index: u32,
    /// The name written, or `policyN`.
    pub name: String,
    /// `quick`, `skip`, `default` or plain.
    pub selection: Selection,
    /// `active`: this side initiates.
    pub active: bool,
    /// `ipcomp`.
    pub ipcomp: bool,
    /// `transport` (else `tunnel`).
    pub transport: bool,
    /// `natt`: pretend a NAT so that UDP encapsulation is always used.
    pub natt: bool,
    /// `childless` (ours): where we begin, the first Child SA is asked for after IKE_AUTH (RFC 6023).
    pub childless: bool,
    /// ESP or AH.
    pub protocol: ProtocolId,
    /// `inet` or `inet6`, written or derived.
    pub family: Option<Family>,
    /// The `from .. to ..` clauses, one flow for each pair and protocol.
    pub flows: Vec<Flow>,
    /// `local`; `None` is any.
    pub local: Option<IpNet>,
    /// `peer`; `None` is any.
    pub peer: Option<IpNet>,
    /// IKE proposals in order of preference.
    pub ike_proposals: Vec<Proposal>,
    /// Child SA proposals in order of preference.
    pub child_proposals: Vec<Proposal>,
    /// Our identity.
    pub srcid: Identity,
    /// The peer's identity; `None` lets any in.
    pub dstid: Option<Identity>,
    /// `ikelifetime`; zero is never.
    pub ike_lifetime: Duration,
    /// `lifetime` of a Child SA; zero is never.
    pub child_lifetime: Duration,
    /// `bytes` of a Child SA; zero is no limit.
    pub child_lifetime_bytes: u64,
    /// How both sides prove who they are.
    pub auth: Auth,
    /// `then` (ours): how whoever begins proves itself after that, once for each (RFC 4739).
    pub then: Vec<Round>,
    /// `ppk` (ours), in the order written.
    pub ppks: Vec<Ppk>,
    /// `config` entries: what we answer a CFG_REQUEST with.
    pub config: Vec<CfgEntry>,
    /// `config dns-domain NAME`, each with the `config dnssec-ta` entries that follow it.
    pub domains: Vec<domain::Domain>,
    /// `request` entries: what we ask for as initiator; `None` as value is `any`.
    pub request: Vec<(CfgAttrType, Option<IpNet>)>,
    /// `iface`.
    pub iface: Option<String>,
    /// The number of `iface`, if that is an XFRM interface: what goes out by it goes into the tunnel.
    pub if_id: Option<IfId>,
    /// `offload` (ours): the device that does the cryptography of the Child SAs.
    pub offload: Option<String>,
    /// `tag`.
    pub tag: Option<String>,
    /// `tap`.
    pub tap: Option<String>,
}

impl Policy {
    /// Who we are in this round of authentication, counted from 0, and how that is proven.
    pub fn round(&self, number: usize) -> (&Identity, &Auth) {
        let further = number.checked_sub(1).and_then(|at| self.then.get(at));
        further.map_or((&self.srcid, &self.auth), |round| {
            (&round.srcid, &round.auth)
        })
    }

    /// The mark that a `tag` stands for: a number, decimal or hexadecimal behind `0x`, but not zero,
    /// which every packet has. Other tags are words for a firewall that Linux does not have.
    pub fn mark(&self) -> Option<u32> {
        let tag = self.tag.as_deref()?;
        let number = match tag.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => tag.parse(),
        };
        let plain = tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        number.ok().filter(|mark| *mark != 0 && plain)
    }
}

/// One `then [srcid ID] [dstid ID] AUTHENTICATION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Who we are where we begin.
    pub srcid: Identity,
    /// Who the peer must be where it begins; `None` is anybody whose proof is good.
    pub dstid: Option<Identity>,
    /// How that is proven.
    pub auth: Auth,
}

/// One `ppk ID SECRET` (RFC 8784): where we begin the first is used, else the one that the peer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ppk {
    /// What follows the type in a PPK_ID of type PPK_ID_FIXED; 1 to 255 bytes.
    pub id: Vec<u8>,
    /// The key itself.
    pub secret: Secret,
    /// `required`: without a PPK nobody gets up by this policy.
    pub required: bool,
}

/// One proposal we offer or accept: transforms of one protocol, in order of preference per type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// IKE, ESP or AH.
    pub protocol: ProtocolId,
    /// All transforms; those of one type are alternatives.
    pub transforms: Vec<Transform>,
}

impl Proposal {
    /// The alternatives of one type, in order of preference.
    pub fn of<'a>(
        &'a self,
        test: impl Fn(&TransformId) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Transform> {
        self.transforms.iter().filter(move |t| test(&t.id))
    }
}

/// One `from A port P to B port Q` for one IP protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// Our side.
    pub from: FlowEnd,
    /// The peer's side.
    pub to: FlowEnd,
    /// `from A (B)`: the network as it is before source NAT.
    pub pre_nat: Option<IpNet>,
}

/// One side of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnd {
    /// The network, `0.0.0.0/0` or `::/0` for `any`.
    pub net: IpNet,
    /// `dynamic`: stands for the address that the peer gets (or we get) by configuration payload.
    pub dynamic: bool,
    /// Port, or `None` for all.
    pub port: Option<u16>,
}

/// An identity as RFC 7296, 3.5 sends it and as iked.conf(5) writes it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// ID type.
    pub kind: IdType,
    /// The ID data of the payload: text for FQDN and RFC822, 4 or 16 bytes for addresses, DER for DNs.
    pub data: Vec<u8>,
}

impl Identity {
    /// Whether both name the same: distinguished names without regard to string types, case and
    /// spacing (RFC 5280, 7.1), host names without regard to case, anything else byte for byte.
    pub fn same(&self, other: &Self) -> bool {
        self.kind == other.kind
            && match self.kind {
                IdType::DER_ASN1_DN => dn::same(&self.data, &other.data),
                IdType::FQDN => self.data.eq_ignore_ascii_case(&other.data),
                _ => self.data == other.data,
            }
    }
}

impl fmt::Display for Identity {
    /// `FQDN/host.example`, the form that logs and `ikectl reset id` use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind)?;
        if self.kind == IdType::DER_ASN1_DN
            && let Some(text) = dn::show(&self.data)
        {
            return f.write_str(&text);
        }
        match (self.kind, self.data.len()) {
            (IdType::IPV4_ADDR, 4) => {
                let octets: [u8; 4] = self.data.as_slice().try_into().map_err(|_| fmt::Error)?;
                write!(f, "{}", IpAddr::from(octets))
            }
            (IdType::IPV6_ADDR, 16) => {
                let octets: [u8; 16] = self.data.as_slice().try_into().map_err(|_| fmt::Error)?;
                write!(f, "{}", IpAddr::from(octets))
            }
            (IdType::FQDN | IdType::RFC822_ADDR, _) => {
                let graphic = self.data.iter().all(u8::is_ascii_graphic);
                if let (true, Ok(text)) = (graphic, str::from_utf8(&self.data)) {
                    return f.write_str(text);
                }
                for &byte in &self.data {
                    let shown = if byte.is_ascii_graphic() { byte } else { b'?' };
                    f.write_char(char::from(shown))?;
                }
                Ok(())
            }
            _ => {
                for byte in &self.data {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `psk`, `rsa`, `rsa-pss`, `ecdsa*`, `rfc7427`, `signature` or `eap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Pre-shared key.
    Psk(Secret),
    /// A public key; which methods are allowed.
    PublicKey(PublicKeyAuth),
    /// The responder signs, the initiator does EAP.
    Eap(Eap),
}

/// The public-key words of iked.conf(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyAuth {
    /// `signature`: any method.
    Any,
    /// `rfc7427`: only method 14.
    Rfc7427,
    /// `rsa`.
    Rsa,
    /// `rsa-pss`: RSA keys that sign with RSASSA-PSS.
    RsaPss,
    /// `ecdsa256`.
    Ecdsa256,
    /// `ecdsa384`.
    Ecdsa384,
    /// `ecdsa521`.
    Ecdsa521,
}

/// `eap METHOD` or `eap { METHOD, .. }`, perhaps with `user NAME PASSWORD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eap {
    /// The methods on offer, the preferred one first.
    pub methods: Vec<EapMethod>,
    /// Who we are where we begin.
    pub user: Option<EapUser>,
}

/// A name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EapUser {
    /// As it is said to the server.
    pub name: String,
    /// In UTF-8.
    pub password: Secret,
}

impl Eap {
    /// One method.
    pub fn of(method: EapMethod) -> Self {
        Self {
            methods: vec![method],
            user: None,
        }
    }

    /// Whether every method proves both ends, so that the responder need not sign (RFC 5998).
    pub fn is_mutual(&self) -> bool {
        self.methods.iter().all(|method| *method == EapMethod::Tls)
    }

    /// Whether a RADIUS server decides; then no other method is on offer.
    pub fn is_radius(&self) -> bool {
        self.methods.contains(&EapMethod::Radius)
    }
}

/// EAP methods of iked.conf(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EapMethod {
    /// `md5` against `user` lines: MD5-Challenge.
    Md5,
    /// `gtc` against `user` lines: the password itself.
    Gtc,
    /// `mschap-v2` against `user` lines.
    MsChapV2,
    /// `tls`: a certificate that names the identity which IKE knows.
    Tls,
    /// `radius`.
    Radius,
}

/// One `config NAME ADDR[/len]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CfgEntry {
    /// The attribute it answers.
    pub attribute: CfgAttrType,
    /// The value; for addresses a network means a pool, a bare address a fixed answer.
    pub value: IpNet,
    /// Whether a prefix length was written.
    pub is_pool: bool,
}

/// What the command line and the machine say, beside the configuration file.
#[derive(Clone, Debug)]
pub struct Options {
    /// `-T`: no NAT traversal at all.
    pub natt_off: bool,
    /// `-t` or `-p`: only the NAT-T socket, always UDP encapsulation.
    pub natt_only: bool,
    /// `-p`: the NAT-T port, 4500 by default.
    pub natt_port: u16,
    /// `--config-dir`.
    pub config_dir: PathBuf,
}

/// Room for reordering across the queues of a fast link.
const REPLAY_WINDOW: u32 = 128;
