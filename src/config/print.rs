//! A configuration as text again, one line for each policy, as `iked -nv` shows it. What is printed
//! can be read back and means the same, but for secrets, which are only shown when asked for.

use std::borrow::Cow;
use std::fmt::Write;

use super::{identity_text, tables};
use crate::policy::{
    Auth, CfgEntry, Config, CrlFetch, EapMethod, Family, Flow, FlowEnd, IpNet, KernelWay, Policy,
    Proposal, Secret, Selection, Settings,
};
use crate::wire::registry::{CfgAttrType, EncrId, EsnId, ProtocolId};
use crate::wire::{Transform, TransformId};

/// The text of a configuration. Without `secrets`, keys and passwords are replaced by a word.
pub fn print(config: &Config, secrets: bool) -> String {
    let mut text = String::new();
    settings(&mut text, &config.settings);
    for (name, password) in &config.users {
        let password = shown(password, secrets);
        let _ = writeln!(text, "user {} {}", quote(name), quote(&password));
    }
    super::radius::print(&mut text, &config.radius, |secret| {
        let shown = String::from_utf8_lossy(secret.expose());
        quote(if secrets { &shown } else { HIDDEN })
    });
    for entry in &config.policies {
        policy(&mut text, entry, secrets);
        text.push('\n');
    }
    text
}

/// One policy as a line of iked.conf(5), without newline.
pub fn print_policy(entry: &Policy, secrets: bool) -> String {
    let mut text = String::new();
    policy(&mut text, entry, secrets);
    text
}

/// A policy's proposals, each as the words of iked.conf(5).
pub fn print_proposals(policy: &Policy) -> Vec<String> {
    let both = [
        ("ikesa", &policy.ike_proposals),
        ("childsa", &policy.child_proposals),
    ];
    let all = both.into_iter().flat_map(|(word, proposals)| {
        proposals.iter().map(move |proposal| {
            let mut text = String::new();
            transforms(&mut text, word, proposal);
            text.trim_start().to_owned()
        })
    });
    all.collect()
}

/// The word of iked.conf(5) for a transform, as the log lines use it too; `None` for what the
/// language cannot name.
pub fn transform_name(transform: &Transform, protocol: ProtocolId) -> Option<&'static str> {
    match transform.id {
        TransformId::Encr(id) => {
            let table = if protocol == ProtocolId::IKE {
                tables::IKE_ENCR
            } else {
                tables::CHILD_ENCR
            };
            // OpenIKED's form of it with a key length has no name of its own.
            let is_chacha = id == EncrId::CHACHA20_POLY1305;
            let key_length = if is_chacha {
                None
            } else {
                transform.key_length
            };
            tables::name_of(table, &(id, key_length))
        }
        TransformId::Prf(id) => tables::name_of(tables::PRF, &id),
        TransformId::Integ(id) => tables::name_of(tables::INTEG, &id),
        TransformId::Ke(id) => tables::name_of(tables::GROUP, &id),
        TransformId::Esn(EsnId::ESN) => Some("esn"),
        TransformId::Esn(EsnId::NO_ESN) => Some("noesn"),
        TransformId::Esn(_) | TransformId::Unknown(_, _) => None,
    }
}

fn settings(text: &mut String, settings: &Settings) {
    let default = Settings::default();
    for (value, default, [off, on]) in switches(settings, &default) {
        if value != default {
            let _ = writeln!(text, "set {}", if value { on } else { off });
        }
    }
    if settings.cert_partial_chain {
        text.push_str("set cert_partial_chain\n");
    }
    if let Some(ocsp) = &settings.ocsp {
        let (url, tolerate) = (quote(&ocsp.url), ocsp.tolerate.as_secs());
        let _ = write!(text, "set ocsp {url} tolerate {tolerate}");
        if let Some(max_age) = ocsp.max_age {
            let _ = write!(text, " maxage {}", max_age.as_secs());
        }
        text.push('\n');
    }
    match settings.crl {
        Some(CrlFetch::Required) => text.push_str("set crl fetch\n"),
        Some(CrlFetch::Tried) => text.push_str("set crl try\n"),
        None => {}
    }
    match settings.kernel {
        KernelWay::Auto => {}
        KernelWay::Xfrm => text.push_str("set kernel xfrm\n"),
        KernelWay::PfKey => text.push_str("set kernel pfkey\n"),
    }
    for ((name, value), (_, default)) in numbers(settings).into_iter().zip(numbers(&default)) {
        if value != default {
            let _ = writeln!(text, "set {name} {value}");
        }
    }
}

/// The settings of two words: value, default, and the words for off and on.
fn switches(now: &Settings, default: &Settings) -> [(bool, bool, [&'static str; 2]); 7] {
    let single = ["noenforcesingleikesa", "enforcesingleikesa"];
    let fragmentation = ["nofragmentation", "fragmentation"];
    [
        (now.active, default.active, ["passive", "active"]),
        (now.couple, default.couple, ["decouple", "couple"]),
        (now.fragmentation, default.fragmentation, fragmentation),
        (now.mobike, default.mobike, ["nomobike", "mobike"]),
        (now.vendor_id, default.vendor_id, ["novendorid", "vendorid"]),
        (
            now.enforce_single_ike_sa,
            default.enforce_single_ike_sa,
            single,
        ),
        (
            now.sticky_address,
            default.sticky_address,
            ["nostickyaddress", "stickyaddress"],
        ),
    ]
}

fn numbers(settings: &Settings) -> [(&'static str, u64); 7] {
    [
        ("dpd_check_interval", settings.dpd_check_interval.as_secs()),
        ("cookie_threshold", settings.cookie_threshold.into()),
        ("halfopen_max", settings.half_open_max.into()),
        ("halfopen_timeout", settings.half_open_timeout.as_secs()),
        ("fragment_size", settings.fragment_size.into()),
        ("auth_lifetime", settings.auth_lifetime.as_secs()),
        ("replay_window", settings.replay_window.into()),
    ]
}

fn policy(text: &mut String, policy: &Policy, secrets: bool) {
    let _ = write!(text, "ikev2 {}", quote(&policy.name));
    flags(text, policy);
    for flow in &policy.flows {
        self::flow(text, flow);
    }
    let _ = write!(
        text,
        " local {} peer {}",
        any_net(policy.local),
        any_net(policy.peer)
    );
    for proposal in &policy.ike_proposals {
        transforms(text, "ikesa", proposal);
    }
    for proposal in &policy.child_proposals {
        transforms(text, "childsa", proposal);
    }
    let _ = write!(text, " srcid {}", quote(&identity_text(&policy.srcid)));
    if let Some(dstid) = &policy.dstid {
        let _ = write!(text, " dstid {}", quote(&identity_text(dstid)));
    }
    if !policy.ike_lifetime.is_zero() {
        let _ = write!(text, " ikelifetime {}", policy.ike_lifetime.as_secs());
    }
    let (seconds, bytes) = (policy.child_lifetime.as_secs(), policy.child_lifetime_bytes);
    let _ = write!(text, " lifetime {seconds} bytes {bytes}");
    auth(text, &policy.auth, secrets);
    for round in &policy.then {
        let _ = write!(text, " then srcid {}", quote(&identity_text(&round.srcid)));
        if let Some(dstid) = &round.dstid {
            let _ = write!(text, " dstid {}", quote(&identity_text(dstid)));
        }
        auth(text, &round.auth, secrets);
    }
    for ppk in &policy.ppks {
        let id = String::from_utf8_lossy(&ppk.id);
        let secret = shared_key(&ppk.secret, secrets);
        let _ = write!(text, " ppk {} {secret}", quote(&id));
        if ppk.required {
            text.push_str(" required");
        }
    }
    for entry in &policy.config {
        config_entry(text, entry);
    }
    for domain in &policy.domains {
        let _ = write!(text, " config dns-domain {}", quote(&domain.name));
        for anchor in &domain.anchors {
            let _ = write!(text, " config dnssec-ta {}", quote(&anchor.to_string()));
        }
    }
    for (attribute, value) in &policy.request {
        let value = value.map_or_else(|| "any".to_owned(), short);
        let _ = write!(text, " request {} {value}", attribute_name(*attribute));
    }
    let strings = [
        ("iface", &policy.iface),
        ("tag", &policy.tag),
        ("tap", &policy.tap),
        ("offload", &policy.offload),
    ];
    for (word, value) in strings {
        if let Some(value) = value {
            let _ = write!(text, " {word} {}", quote(value));
        }
    }
}

fn flags(text: &mut String, policy: &Policy) {
    let selection = match policy.selection {
        Selection::Last => "",
        Selection::Quick => " quick",
        Selection::Skip => " skip",
        Selection::Default => " default",
    };
    text.push_str(selection);
    text.push_str(if policy.active { " active" } else { " passive" });
    if policy.ipcomp {
        text.push_str(" ipcomp");
    }
    text.push_str(if policy.transport {
        " transport"
    } else {
        " tunnel"
    });
    if policy.natt {
        text.push_str(" natt");
    }
    if policy.childless {
        text.push_str(" childless");
    }
    text.push_str(if policy.protocol == ProtocolId::AH {
        " ah"
    } else {
        " esp"
    });
    match policy.family {
        Some(Family::Inet) => text.push_str(" inet"),
        Some(Family::Inet6) => text.push_str(" inet6"),
        None => {}
    }
    let mut protocols: Vec<u8> = Vec::new();
    for flow in &policy.flows {
        if !protocols.contains(&flow.protocol) {
            protocols.push(flow.protocol);
        }
    }
    if protocols != [0] {
        let names: Vec<String> = protocols.iter().map(|&id| protocol_name(id)).collect();
        match names.as_slice() {
            [one] => {
                let _ = write!(text, " proto {one}");
            }
            _ => {
                let _ = write!(text, " proto {{ {} }}", names.join(", "));
            }
        }
    }
}

/// Names that are no keywords and mean the same everywhere; else the number.
fn protocol_name(id: u8) -> String {
    let common = [("icmp", 1), ("tcp", 6), ("udp", 17), ("gre", 47)];
    let found = common.iter().find(|(_, number)| *number == id);
    found.map_or_else(|| id.to_string(), |(name, _)| (*name).to_owned())
}

fn flow(text: &mut String, flow: &Flow) {
    text.push_str(" from ");
    match flow.pre_nat {
        Some(pre_nat) => {
            let _ = write!(text, "{} ({})", short(flow.from.net), short(pre_nat));
            push_port(text, flow.from.port);
        }
        None => end(text, &flow.from),
    }
    text.push_str(" to ");
    end(text, &flow.to);
}

fn end(text: &mut String, end: &FlowEnd) {
    if end.dynamic {
        text.push_str("dynamic");
    } else {
        text.push_str(&short(end.net));
    }
    push_port(text, end.port);
}

fn push_port(text: &mut String, port: Option<u16>) {
    if let Some(port) = port {
        let _ = write!(text, " port {port}");
    }
}

fn any_net(net: Option<IpNet>) -> String {
    net.map_or_else(|| "any".to_owned(), short)
}

/// Without the length where that is all of the address.
fn short(net: IpNet) -> String {
    if net.is_host() {
        net.addr.to_string()
    } else {
        net.to_string()
    }
}

fn transforms(text: &mut String, word: &str, proposal: &Proposal) {
    let _ = write!(text, " {word}");
    let mut last = "";
    for transform in &proposal.transforms {
        let Some(name) = transform_name(transform, proposal.protocol) else {
            continue;
        };
        if std::mem::replace(&mut last, name) == name
            && matches!(transform.id, TransformId::Encr(_))
        {
            continue;
        }
        let kind = match transform.id {
            TransformId::Encr(_) => " enc ",
            TransformId::Prf(_) => " prf ",
            TransformId::Integ(_) => " auth ",
            TransformId::Ke(_) => " group ",
            TransformId::Esn(_) | TransformId::Unknown(_, _) => " ",
        };
        text.push_str(kind);
        text.push_str(name);
    }
}

fn auth(text: &mut String, auth: &Auth, secrets: bool) {
    match auth {
        Auth::Psk(secret) => {
            let _ = write!(text, " psk {}", shared_key(secret, secrets));
        }
        Auth::Eap(eap) => {
            let names: Vec<String> = eap.methods.iter().map(|method| eap_name(*method)).collect();
            match names.as_slice() {
                [name] => {
                    let _ = write!(text, " eap {name}");
                }
                names => {
                    let _ = write!(text, " eap {{ {} }}", names.join(", "));
                }
            }
            if let Some(user) = &eap.user {
                let password = shown(&user.password, secrets);
                let _ = write!(text, " user {} {}", quote(&user.name), quote(&password));
            }
        }
        Auth::PublicKey(method) => {
            let name = tables::name_of(tables::METHOD, method).unwrap_or("signature");
            let _ = write!(text, " {name}");
        }
    }
}

/// A shared secret in hexadecimal, or a word that stands for it.
fn shared_key(secret: &Secret, secrets: bool) -> String {
    if !secrets {
        return quote(HIDDEN);
    }
    let mut text = String::from("0x");
    for byte in secret.expose() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A password, or a word that stands for it.
fn shown(password: &Secret, secrets: bool) -> Cow<'_, str> {
    if secrets {
        String::from_utf8_lossy(password.expose())
    } else {
        HIDDEN.into()
    }
}

/// As OpenIKED prints it.
fn eap_name(method: EapMethod) -> String {
    let name = tables::name_of(tables::EAP, &method).unwrap_or_default();
    format!("\"{}\"", name.to_uppercase().replace('-', "_"))
}

fn config_entry(text: &mut String, entry: &CfgEntry) {
    let value = if entry.is_pool {
        entry.value.to_string()
    } else {
        short(entry.value)
    };
    let _ = write!(text, " config {} {value}", attribute_name(entry.attribute));
}

fn attribute_name(attribute: CfgAttrType) -> &'static str {
    let text = tables::CFG_TEXT.iter().find(|row| row.1 == attribute);
    if let Some((name, _)) = text {
        return name;
    }
    let is =
        |(v4, v6): &(CfgAttrType, Option<CfgAttrType>)| *v4 == attribute || *v6 == Some(attribute);
    tables::CFG
        .iter()
        .find(|(_, row)| is(row))
        .map_or("unknown", |(name, _)| name)
}

/// A string that the lexer reads back as it is. A backslash is kept by it unless a quote or a blank
/// follows, so those two are written with one in front.
fn quote(text: &str) -> String {
    if text.ends_with('\\') {
        // Quotes cannot hold that; it was written as a word, with each backslash doubled.
        return text.replace('\\', "\\\\");
    }
    let mut quoted = String::from("\"");
    let mut after_backslash = false;
    for c in text.chars() {
        if c == '"' || (after_backslash && matches!(c, ' ' | '\t')) {
            quoted.push('\\');
        }
        quoted.push(c);
        after_backslash = c == '\\';
    }
    quoted.push('"');
    quoted
}

/// Stands for a key or password.
const HIDDEN: &str = "(hidden)";
