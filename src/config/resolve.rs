//! The meaning of the statements: defaults, names, checks. Each policy is judged by itself, so one
//! reading reports the errors of all. What this daemon does not do yet is collected apart.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::ast::{
    AuthText, CfgText, PolicyText, Position, PpkText, Set, Statement, Text, ThenText,
};
use super::hosts::{self, End};
use super::{Diagnostic, Environment, domains, identity, kernel, proposals, radius, tables};
use crate::policy::radius::Radius;
use crate::policy::{
    Auth, CfgEntry, Config, Eap, EapMethod, EapUser, Family, Generation, IpNet, Ocsp, Policy, Ppk,
    PublicKeyAuth, Round, Secret, Selection, Settings,
};
use crate::wire::registry::{CfgAttrType, IdType, ProtocolId};

/// What resolving gave.
pub(super) struct Resolved {
    pub(super) config: Config,
    pub(super) warnings: Vec<String>,
    pub(super) errors: Vec<Diagnostic>,
}

/// Gives the statements their meaning.
pub(super) fn resolve(
    statements: &[Statement],
    generation: Generation,
    environment: Environment<'_>,
) -> Resolved {
    let settings = Settings {
        active: !environment.passive,
        ..Settings::default()
    };
    let config = Config {
        generation,
        settings,
        ..Config::default()
    };
    let (warnings, errors) = (Vec::new(), Vec::new());
    let result = Resolved {
        config,
        warnings,
        errors,
    };
    let pfkey = kernel::is_pfkey(statements, environment);
    let mut resolver = Resolver {
        environment,
        pfkey,
        result,
    };
    let mut radius = Radius::default();
    for statement in statements {
        let outcome = match statement {
            Statement::Set(set, at) => resolver.set(set, at),
            Statement::User { name, password } => resolver.user(name, password),
            Statement::Policy(policy) => resolver.add_policy(policy),
            Statement::Radius(line) => radius::resolve(&mut radius, line, environment),
        };
        if let Err(error) = outcome {
            resolver.result.errors.push(error);
        }
    }
    resolver.result.config.radius = Arc::new(radius);
    resolver.result
}

struct Resolver<'a> {
    environment: Environment<'a>,
    /// The kernel is reached by PF_KEY, which can do less.
    pfkey: bool,
    result: Resolved,
}

type Outcome<T> = Result<T, Diagnostic>;

impl Resolver<'_> {
    fn warn(&mut self, at: &Position, message: &str) {
        self.result
            .warnings
            .push(Diagnostic::at(at, message.to_owned()).to_string());
    }

    fn set(&mut self, set: &Set, at: &Position) -> Outcome<()> {
        let settings = &mut self.result.config.settings;
        match set {
            Set::Active(on) => settings.active = *on,
            Set::Couple(on) => settings.couple = *on,
            Set::Fragmentation(on) => settings.fragmentation = *on,
            Set::Mobike(on) => settings.mobike = *on,
            Set::VendorId(on) => settings.vendor_id = *on,
            Set::EnforceSingleIkeSa(on) => settings.enforce_single_ike_sa = *on,
            Set::StickyAddress(on) => settings.sticky_address = *on,
            Set::CertPartialChain => {
                settings.cert_partial_chain = true;
            }
            Set::Ocsp {
                url,
                tolerate,
                max_age,
            } => {
                settings.ocsp = Some(Ocsp {
                    url: url.clone(),
                    tolerate: Duration::from_secs(tolerate.unwrap_or(0)),
                    max_age: max_age.map(Duration::from_secs),
                });
            }
            Set::Crl(how) => settings.crl = Some(*how),
            Set::DpdCheckInterval(number) => {
                let seconds = in_range(*number, 0, MAX_SECONDS, "dpd_check_interval", at)?;
                settings.dpd_check_interval = Duration::from_secs(seconds);
            }
            Set::CookieThreshold(number) => {
                let most = u32::MAX.into();
                let count = in_range(*number, 0, most, "cookie_threshold", at)?;
                settings.cookie_threshold = u32::try_from(count).unwrap_or(u32::MAX);
            }
            Set::HalfOpenMax(number) => {
                let count = in_range(*number, 1, u32::MAX.into(), "halfopen_max", at)?;
                settings.half_open_max = u32::try_from(count).unwrap_or(u32::MAX);
            }
            Set::HalfOpenTimeout(number) => {
                let seconds = in_range(*number, 1, 3600, "halfopen_timeout", at)?;
                settings.half_open_timeout = Duration::from_secs(seconds);
            }
            Set::AuthLifetime(seconds, at) => {
                let seconds = i64::try_from(*seconds).unwrap_or(i64::MAX);
                let least = if seconds == 0 { 0 } else { 15 };
                let seconds = in_range(seconds, least, MAX_SECONDS, "auth_lifetime", at)?;
                settings.auth_lifetime = Duration::from_secs(seconds);
            }
            Set::Kernel(way) => settings.kernel = *way,
            Set::ReplayWindow(number) => {
                let most = if self.pfkey {
                    kernel::PFKEY_WINDOW_MAX
                } else {
                    WINDOW_MAX
                };
                let size = in_range(*number, WINDOW_LEAST, most, "replay_window", at)?;
                settings.replay_window = u32::try_from(size).unwrap_or(u32::MAX);
            }
            Set::FragmentSize(number) => {
                let least = if *number == 0 { 0 } else { 256 };
                let size = in_range(*number, least, u16::MAX.into(), "fragment_size", at)?;
                settings.fragment_size = u16::try_from(size).unwrap_or(u16::MAX);
            }
        }
        Ok(())
    }

    fn user(&mut self, name: &Text, password: &Text) -> Outcome<()> {
        credential(name, password)?;
        let secret = Secret::new(password.text.as_bytes().to_vec());
        self.result.config.users.insert(name.text.clone(), secret);
        Ok(())
    }

    fn add_policy(&mut self, text: &PolicyText) -> Outcome<()> {
        let mut policy = self.policy(text)?;
        let policies = &mut self.result.config.policies;
        policy.index = u32::try_from(policies.len()).unwrap_or(u32::MAX);
        if policy.name.is_empty() {
            policy.name = format!("policy{}", policies.len() + 1);
        }
        let is_default = |policy: &Arc<Policy>| policy.selection == Selection::Default;
        let replaced = policies.iter().position(is_default).filter(|_| {
            // There is one default; the last one written is it.
            policy.selection == Selection::Default
        });
        if let Some(replaced) = replaced {
            let mut left = policies.clone();
            left.remove(replaced);
            for (index, policy) in (0..).zip(&mut left) {
                Arc::make_mut(policy).index = index;
            }
            policy.index = u32::try_from(left.len()).unwrap_or(u32::MAX);
            *policies = left;
        }
        policies.push(Arc::new(policy));
        if replaced.is_some() {
            self.warn(&text.at, "this default policy replaces an earlier one");
        }
        Ok(())
    }

    fn policy(&mut self, text: &PolicyText) -> Outcome<Policy> {
        let name = text.name.as_ref().map_or("", |name| name.text.as_str());
        if name.len() > NAME_MAX {
            return Err(Diagnostic::at(&text.at, "name too long".to_owned()));
        }
        let flows = self.flows(text)?;
        let (local, peer, family) = self.addresses(text)?;
        let protocol = if text.ah {
            ProtocolId::AH
        } else {
            ProtocolId::ESP
        };
        let seconds = |time: Option<u64>, default| Duration::from_secs(time.unwrap_or(default));
        let mut policy = Policy {
            index: 0,
            name: name.to_owned(),
            selection: text.selection,
            active: text.active,
            ipcomp: text.ipcomp,
            transport: text.transport,
            natt: text.natt,
            childless: text.childless,
            protocol,
            family,
            flows,
            local,
            peer,
            ike_proposals: proposals::proposals(ProtocolId::IKE, &proposals::IKE, &text.ikesa)?,
            child_proposals: kernel::proposals(protocol, &text.childsa, self.pfkey)?,
            srcid: match &text.srcid {
                Some(id) => parse_id(id)?,
                None => crate::policy::Identity {
                    kind: IdType::FQDN,
                    data: self.environment.hostname.as_bytes().to_vec(),
                },
            },
            dstid: text.dstid.as_ref().map(parse_id).transpose()?,
            then: Vec::new(),
            ike_lifetime: seconds(text.ike_lifetime, 0),
            child_lifetime: seconds(text.lifetime, CHILD_SECONDS),
            child_lifetime_bytes: text.bytes.unwrap_or(CHILD_BYTES),
            auth: self.auth(text.auth.as_ref())?,
            ppks: self.ppks(&text.ppks)?,
            config: self.config_entries(&text.config)?,
            domains: domains::domains(&text.config)?,
            request: self.request_entries(&text.config)?,
            iface: text.iface.as_ref().map(|name| name.text.clone()),
            if_id: kernel::interface(text.iface.as_ref(), self.environment)?,
            offload: text.offload.as_ref().map(|name| name.text.clone()),
            tag: self.tag(text.tag.as_ref())?,
            tap: self.tap(text.tap.as_ref())?,
        };
        policy.then = self.rounds(&text.then, &policy)?;
        if let (Some(tag), None) = (&text.tag, policy.mark()) {
            let message =
                "'tag' has no effect on this platform but as a number, which becomes a mark";
            self.warn(&tag.at, message);
        }
        if self.pfkey {
            kernel::check(text, &policy)?;
        }
        self.check_supported(&policy, &text.at);
        Ok(policy)
    }

    /// The `then` clauses of this policy.
    fn rounds(&mut self, texts: &[ThenText], policy: &Policy) -> Outcome<Vec<Round>> {
        let mut rounds = Vec::new();
        for text in texts {
            let wrong = |why: &str| Err(Diagnostic::at(&text.at, why.to_owned()));
            if rounds.len() == ROUNDS_MAX {
                return wrong("too many authentications");
            }
            if !policy.ppks.is_empty() {
                return wrong("'ppk' does not go with several authentications");
            }
            let srcid = text.srcid.as_ref().map(parse_id).transpose()?;
            rounds.push(Round {
                srcid: srcid.unwrap_or_else(|| policy.srcid.clone()),
                dstid: text.dstid.as_ref().map(parse_id).transpose()?,
                auth: self.auth(text.auth.as_ref())?,
            });
        }
        Ok(rounds)
    }

    fn check_supported(&mut self, policy: &Policy, at: &Position) {
        let all = (0..=policy.then.len()).map(|number| policy.round(number).1);
        let nameless = |auth: &Auth| match auth {
            Auth::Eap(eap) => eap.user.is_none() && !eap.methods.contains(&EapMethod::Tls),
            Auth::Psk(_) | Auth::PublicKey(_) => false,
        };
        if policy.active && all.into_iter().any(nameless) {
            self.warn(at, "'active' with 'eap' and no 'user': nobody to begin as");
        }
    }

    fn flows(&mut self, text: &PolicyText) -> Outcome<Vec<crate::policy::Flow>> {
        let mut protocols = Vec::new();
        for protocol in &text.protocols {
            protocols.push(hosts::protocol(protocol, self.environment)?);
        }
        if protocols.len() > PROTOCOLS_MAX {
            return Err(Diagnostic::at(&text.at, "too many protocols".to_owned()));
        }
        if protocols.is_empty() {
            protocols.push(0);
        }
        let mut flows = Vec::new();
        for hosts in &text.hosts {
            let (found, uneven) = hosts::flows(hosts, &protocols, self.environment)?;
            if uneven {
                let message =
                    "a side of the flow has more addresses than the other: those go without";
                self.warn(&hosts.at, message);
            }
            for flow in found {
                if flows.contains(&flow) {
                    self.warn(&hosts.at, "create_ike: duplicate flow");
                } else {
                    flows.push(flow);
                }
            }
            if flows.len() > FLOWS_MAX {
                return Err(Diagnostic::at(
                    &hosts.at,
                    "too many traffic selectors".to_owned(),
                ));
            }
        }
        Ok(flows)
    }

    /// `local` and `peer`, written or taken from the first `from .. to ..`, and the family.
    fn addresses(
        &mut self,
        text: &PolicyText,
    ) -> Outcome<(Option<IpNet>, Option<IpNet>, Option<Family>)> {
        let environment = self.environment;
        let of = |host: Option<&super::ast::Host>| match host {
            Some(host) => hosts::ends(host, environment),
            None => Ok(vec![End::Any]),
        };
        let written = text.local.is_some() || text.peer.is_some();
        let (mut locals, mut peers) = if written {
            (of(text.local.as_ref())?, of(text.peer.as_ref())?)
        } else {
            let first = text.hosts.first();
            (
                of(first.map(|hosts| &hosts.from))?,
                of(first.map(|hosts| &hosts.to))?,
            )
        };
        if !written {
            // A side with several addresses is left open, but not both.
            let one = |ends: &[End]| text.hosts.len() == 1 && ends.len() == 1;
            match (one(&locals), one(&peers)) {
                (true, true) => {}
                (true, false) => peers = vec![End::Any],
                (false, true) => locals = vec![End::Any],
                (false, false) => {
                    let message = "could not get local/peer specification".to_owned();
                    return Err(Diagnostic::at(&text.at, message));
                }
            }
        }
        if locals.len() > 1 || peers.len() > 1 {
            self.warn(
                &text.at,
                "'local' or 'peer' has several addresses; one is taken",
            );
        }
        let single = |ends: &[End]| match ends {
            [end] => end.net(),
            _ => None,
        };
        let first = |ends: &[End]| ends.first().and_then(|end| end.net());
        let ipv4 = text
            .inet
            .or_else(|| single(&locals).map(|net| net.is_ipv4()))
            .or_else(|| single(&peers).map(|net| net.is_ipv4()))
            .or_else(|| {
                first(&locals)
                    .or_else(|| first(&peers))
                    .map(|net| net.is_ipv4())
            });
        let pick = |ends: &[End], mismatch: &str| {
            let fits = |net: &IpNet| Some(net.is_ipv4()) == ipv4;
            let found = ends.iter().filter_map(|end| end.net()).find(fits);
            if found.is_none() && first(ends).is_some() {
                return Err(Diagnostic::at(&text.at, mismatch.to_owned()));
            }
            Ok(found)
        };
        let local = pick(&locals, "policy address family mismatch")?;
        let peer = pick(&peers, "peer address family mismatch")?;
        self.check_addresses(text, written, local, peer)?;
        let family = ipv4.map(|ipv4| if ipv4 { Family::Inet } else { Family::Inet6 });
        Ok((local, peer, family))
    }

    fn check_addresses(
        &mut self,
        text: &PolicyText,
        written: bool,
        local: Option<IpNet>,
        peer: Option<IpNet>,
    ) -> Outcome<()> {
        let is_net = |net: Option<IpNet>| net.is_some_and(|net| !net.is_host());
        let concrete = peer.is_some_and(|net| net.is_host() && !net.addr.is_unspecified());
        if text.active && (!concrete || is_net(local)) {
            let message = "active mode requires local/peer address".to_owned();
            return Err(Diagnostic::at(&text.at, message));
        }
        let narrow = |net: Option<IpNet>| net.is_some_and(|net| !net.is_host() && net.len > 0);
        if !written && (narrow(local) || narrow(peer)) {
            self.warn(
                &text.at,
                "neither 'local' nor 'peer' is written: the networks of the first flow stand in",
            );
        }
        Ok(())
    }

    fn auth(&mut self, text: Option<&AuthText>) -> Outcome<Auth> {
        Ok(match text {
            None => Auth::PublicKey(PublicKeyAuth::Any),
            Some(AuthText::Method(method)) => {
                let wrong = || {
                    let message = format!("not a valid authentication mode: {}", method.text);
                    Diagnostic::at(&method.at, message)
                };
                let found = tables::find(tables::METHOD, &method.text);
                Auth::PublicKey(*found.ok_or_else(wrong)?)
            }
            Some(AuthText::Eap(methods, user)) => {
                let user = user.as_ref().map(|(name, password)| {
                    credential(name, password)?;
                    Ok(EapUser {
                        name: name.text.clone(),
                        password: Secret::new(password.text.as_bytes().to_vec()),
                    })
                });
                Auth::Eap(Eap {
                    methods: eap_methods(methods)?,
                    user: user.transpose()?,
                })
            }
            Some(AuthText::Psk(psk)) => Auth::Psk(self.shared_key(psk)?),
            Some(AuthText::PskFile(path)) => Auth::Psk(self.shared_key_file(path)?),
        })
    }

    /// The `ppk` clauses. Each ID once, or nobody knew which is meant.
    fn ppks(&mut self, texts: &[PpkText]) -> Outcome<Vec<Ppk>> {
        let mut ppks: Vec<Ppk> = Vec::new();
        for text in texts {
            let id = text.id.text.as_bytes().to_vec();
            let wrong = |why: &str| Diagnostic::at(&text.id.at, format!("{why}: {}", text.id.text));
            if !(1..=PPK_ID_MAX).contains(&id.len()) {
                return Err(wrong("invalid ppk ID"));
            }
            if ppks.iter().any(|other| other.id == id) {
                return Err(wrong("duplicate ppk ID"));
            }
            let secret = if text.file {
                self.shared_key_file(&text.secret)?
            } else {
                self.shared_key(&text.secret)?
            };
            if secret.expose().len() < PPK_LEAST {
                let short = "fewer than 32 bytes can be guessed by a quantum computer";
                self.warn(&text.secret.at, &format!("ppk {}: {short}", text.id.text));
            }
            ppks.push(Ppk {
                id,
                secret,
                required: text.required,
            });
        }
        Ok(ppks)
    }

    /// A secret as text, or in hexadecimal after `0x`.
    fn shared_key(&mut self, text: &Text) -> Outcome<Secret> {
        match text.text.strip_prefix("0x") {
            Some(digits) => self.hex_key(digits, &text.at),
            None => shared_key(text.text.as_bytes().to_vec(), &text.at),
        }
    }

    /// A secret in hexadecimal, from a file.
    fn shared_key_file(&mut self, path: &Text) -> Outcome<Secret> {
        let wrong = |reason: &str| {
            Diagnostic::at(&path.at, format!("failed to read {}: {reason}", path.text))
        };
        let read = self.environment.files.read(&path.text);
        let bytes = read.map_err(|reason| wrong(&reason))?;
        let digits = std::str::from_utf8(&bytes).map_err(|_| wrong("not hexadecimal"))?;
        self.hex_key(digits.trim_ascii_end(), &path.at)
    }

    fn hex_key(&mut self, digits: &str, at: &Position) -> Outcome<Secret> {
        let wrong = || Diagnostic::at(at, "pre-shared key is not hexadecimal".to_owned());
        let mut nibbles = Zeroizing::new(Vec::with_capacity(digits.len()));
        for c in digits.chars() {
            nibbles.push(c.to_digit(16).ok_or_else(wrong)?);
        }
        if nibbles.len() % 2 != 0 {
            self.warn(
                at,
                "odd number of hexadecimal digits: the last one is ignored",
            );
        }
        let pairs = nibbles.chunks_exact(2);
        let byte = |pair: &[u32]| pair.iter().fold(0u32, |sum, nibble| sum << 4 | nibble);
        let bytes = pairs
            .map(|pair| u8::try_from(byte(pair)).unwrap_or(0))
            .collect();
        shared_key(bytes, at)
    }

    fn config_entries(&self, entries: &[CfgText]) -> Outcome<Vec<CfgEntry>> {
        let mut config = Vec::new();
        let nets = |entry: &&CfgText| !entry.request && entry.text.is_none();
        for entry in entries.iter().filter(nets) {
            if let (attribute, Some((value, is_pool))) = self.cfg_entry(entry)? {
                config.push(CfgEntry {
                    attribute,
                    value,
                    is_pool,
                });
            }
        }
        Ok(config)
    }

    fn request_entries(&self, entries: &[CfgText]) -> Outcome<Vec<(CfgAttrType, Option<IpNet>)>> {
        let mut request = Vec::new();
        for entry in entries.iter().filter(|entry| entry.request) {
            let (attribute, value) = self.cfg_entry(entry)?;
            request.push((attribute, value.map(|(net, _)| net)));
        }
        Ok(request)
    }

    /// The attribute, and the value with whether it has a prefix length; none for `any`.
    fn cfg_entry(&self, entry: &CfgText) -> Outcome<(CfgAttrType, Option<(IpNet, bool)>)> {
        let wrong = || {
            let message = format!("{} not a valid ikecfg option", entry.name.text);
            Diagnostic::at(&entry.name.at, message)
        };
        let found = |ipv4| tables::cfg_attribute(&entry.name.text, ipv4).ok_or_else(wrong);
        let Some(spec) = &entry.value else {
            let attribute = tables::cfg_text(&entry.name.text);
            return Ok((attribute.map_or_else(|| found(true), Ok)?, None));
        };
        let nets = hosts::networks(spec, self.environment)?;
        let Some(&net) = nets.first() else {
            return Err(wrong());
        };
        let attribute = found(net.is_ipv4())?;
        let has_len = spec.len.is_some() || spec.host.text.contains('/');
        Ok((attribute, Some((net, has_len))))
    }

    fn tag(&self, tag: Option<&Text>) -> Outcome<Option<String>> {
        let Some(tag) = tag else { return Ok(None) };
        if tag.text.len() > TAG_MAX {
            return Err(Diagnostic::at(&tag.at, "tag too long".to_owned()));
        }
        Ok(Some(tag.text.clone()))
    }

    fn tap(&mut self, tap: Option<&Text>) -> Outcome<Option<String>> {
        let Some(tap) = tap else { return Ok(None) };
        let wrong = |what: &str| {
            Diagnostic::at(
                &tap.at,
                format!("invalid tap interface {what}: {}", tap.text),
            )
        };
        let unit = tap.text.strip_prefix("enc").ok_or_else(|| wrong("name"))?;
        unit.parse::<u32>().map_err(|_| wrong("unit"))?;
        self.warn(&tap.at, "'tap' has no effect on this platform");
        Ok(Some(tap.text.clone()))
    }
}

fn parse_id(id: &Text) -> Outcome<crate::policy::Identity> {
    identity::parse_identity(&id.text).map_err(|message| Diagnostic::at(&id.at, message))
}

fn shared_key(bytes: Vec<u8>, at: &Position) -> Outcome<Secret> {
    match bytes.len() {
        0 => Err(Diagnostic::at(at, "empty pre-shared key".to_owned())),
        1..=PSK_MAX => Ok(Secret::new(bytes)),
        _ => Err(Diagnostic::at(at, "pre-shared key too long".to_owned())),
    }
}

fn in_range(number: i64, least: u64, most: u64, what: &str, at: &Position) -> Outcome<u64> {
    let found = u64::try_from(number)
        .ok()
        .filter(|number| (least..=most).contains(number));
    let wrong = || {
        let message = format!("{what} out of range: {number} is not in {least}..{most}");
        Diagnostic::at(at, message)
    };
    found.ok_or_else(wrong)
}

/// Checks the lengths of a user name and a password.
fn credential(name: &Text, password: &Text) -> Outcome<()> {
    let fits = |text: &Text| (1..USER_MAX).contains(&text.text.len());
    if !fits(name) {
        return Err(Diagnostic::at(&name.at, "invalid user name".to_owned()));
    }
    if !fits(password) {
        return Err(Diagnostic::at(&password.at, "invalid password".to_owned()));
    }
    Ok(())
}

/// The methods of an `eap` clause, each once. RADIUS stands alone: its server chooses.
fn eap_methods(words: &[Text]) -> Outcome<Vec<EapMethod>> {
    let mut methods = Vec::new();
    for word in words {
        let name = word.text.to_lowercase().replace('_', "-");
        let Some(method) = tables::find(tables::EAP, &name) else {
            let message = format!("not a supported EAP type: {}", word.text);
            return Err(Diagnostic::at(&word.at, message));
        };
        let alone = *method == EapMethod::Radius || methods.contains(&EapMethod::Radius);
        if methods.contains(method) || (alone && !methods.is_empty()) {
            let message = format!("EAP type does not go with the others: {}", word.text);
            return Err(Diagnostic::at(&word.at, message));
        }
        methods.push(*method);
    }
    Ok(methods)
}

const NAME_MAX: usize = 1023;
const USER_MAX: usize = 256;
const TAG_MAX: usize = 63;
const PSK_MAX: usize = 1024;
/// Authentications after the first.
const ROUNDS_MAX: usize = 3;
const PPK_ID_MAX: usize = 255;
/// Bytes of a PPK for 128 bits of security against a quantum computer (RFC 8784, 6).
const PPK_LEAST: usize = 32;
const PROTOCOLS_MAX: usize = 16;
/// As many as a traffic selector payload can number.
const FLOWS_MAX: usize = 255;
const CHILD_SECONDS: u64 = 10_800;
const CHILD_BYTES: u64 = 4 << 30;
/// Every implementation has as much (RFC 4303, 3.4.3).
const WINDOW_LEAST: u64 = 32;
/// As much as Linux keeps.
const WINDOW_MAX: u64 = 4096;
/// A year.
const MAX_SECONDS: u64 = 366 * 86_400;
