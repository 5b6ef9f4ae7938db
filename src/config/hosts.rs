//! From written hosts to networks and flows. A host is an address, a local interface or a name,
//! asked for in that order. No policy rules here.

use std::net::IpAddr;

use super::ast::{Host, HostSpec, Hosts, NameOrNumber, Position};
use super::{Diagnostic, Environment};
use crate::policy::{Flow, FlowEnd, IpNet};

/// One end of a flow before its family is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Net(IpNet),
    Any,
    Dynamic,
}

impl End {
    /// The network, unless it is a wildcard.
    pub(super) fn net(self) -> Option<IpNet> {
        match self {
            Self::Net(net) => Some(net),
            Self::Any | Self::Dynamic => None,
        }
    }

    fn of_family(self, ipv4: bool, port: Option<u16>) -> FlowEnd {
        let any = if ipv4 { IpNet::ANY_V4 } else { IpNet::ANY_V6 };
        let (net, dynamic) = match self {
            Self::Net(net) => (net, false),
            Self::Any => (any, false),
            Self::Dynamic => (IpNet::host(any.addr), true),
        };
        FlowEnd { net, dynamic, port }
    }
}

/// The ends that a written host stands for: several where a name has several addresses.
pub(super) fn ends(host: &Host, environment: Environment<'_>) -> Result<Vec<End>, Diagnostic> {
    match host {
        Host::Any => Ok(vec![End::Any]),
        Host::Dynamic => Ok(vec![End::Dynamic]),
        Host::Spec { spec, .. } => Ok(networks(spec, environment)?
            .into_iter()
            .map(End::Net)
            .collect()),
    }
}

/// The networks of one `host[/len]`.
pub(super) fn networks(
    spec: &HostSpec,
    environment: Environment<'_>,
) -> Result<Vec<IpNet>, Diagnostic> {
    let at = &spec.host.at;
    let name = spec.name();
    let mut len = spec.len;
    if let (None, Some((_, digits))) = (len, spec.host.text.rsplit_once('/')) {
        let parsed = digits.parse().ok();
        len = Some(parsed.ok_or_else(|| bad_host(at, &spec.host.text))?);
    }
    let literal: Option<IpAddr> = name.parse().ok();
    let mut addresses: Vec<IpAddr> = literal.into_iter().collect();
    if addresses.is_empty() {
        addresses = environment.resolver.interface(name);
    }
    if addresses.is_empty() {
        addresses = of_name(name, at, environment)?;
    }
    let net = |addr: IpAddr| match len {
        None => Ok(IpNet::host(addr)),
        Some(len) => {
            let longest = IpNet::host(addr).len;
            let len = u8::try_from(len).ok().filter(|len| *len <= longest);
            let len = len.ok_or_else(|| bad_host(at, &format!("{name}/{}", show(spec, name))))?;
            Ok(IpNet { addr, len })
        }
    };
    addresses.into_iter().map(net).collect()
}

fn of_name(
    name: &str,
    at: &Position,
    environment: Environment<'_>,
) -> Result<Vec<IpAddr>, Diagnostic> {
    let answers = environment.resolver.hosts(&[name.to_owned()]);
    let why = match answers.into_iter().next() {
        Some(Some(addresses)) if !addresses.is_empty() => return Ok(addresses),
        Some(None) => "no answer in time for",
        Some(Some(_)) | None => "no IP address found for",
    };
    let message = format!("{why} {name}: could not parse host specification");
    Err(Diagnostic::at(at, message))
}

fn show(spec: &HostSpec, name: &str) -> String {
    let in_text = spec.host.text.get(name.len() + 1..).unwrap_or_default();
    spec.len
        .map_or_else(|| in_text.to_owned(), |len| len.to_string())
}

fn bad_host(at: &Position, text: &str) -> Diagnostic {
    let message = format!("could not parse host specification: bad prefix length: {text}");
    Diagnostic::at(at, message)
}

/// A port by number or name.
pub(super) fn port(
    port: Option<&NameOrNumber>,
    environment: Environment<'_>,
) -> Result<Option<u16>, Diagnostic> {
    match port {
        None => Ok(None),
        Some(NameOrNumber::Number(number, at)) => {
            let wrong = |_| Diagnostic::at(at, format!("port out of range: {number}"));
            let port = u16::try_from(*number).map_err(wrong)?;
            // OpenIKED's word for every port.
            Ok((port != 0).then_some(port))
        }
        Some(NameOrNumber::Name(name)) => {
            let found = environment.resolver.service(&name.text);
            let wrong = || Diagnostic::at(&name.at, format!("unknown port: {}", name.text));
            found.map(Some).ok_or_else(wrong)
        }
    }
}

/// An IP protocol by number or name.
pub(super) fn protocol(
    protocol: &NameOrNumber,
    environment: Environment<'_>,
) -> Result<u8, Diagnostic> {
    match protocol {
        NameOrNumber::Number(number, at) => {
            let wrong = |_| Diagnostic::at(at, format!("protocol outside range: {number}"));
            u8::try_from(*number).map_err(wrong)
        }
        NameOrNumber::Name(name) => {
            let found = environment.resolver.protocol(&name.text);
            found
                .ok_or_else(|| Diagnostic::at(&name.at, format!("unknown protocol: {}", name.text)))
        }
    }
}

/// The flows of one `from .. to ..`, for each protocol, and whether a side has addresses for which
/// the other one has none.
pub(super) fn flows(
    hosts: &Hosts,
    protocols: &[u8],
    environment: Environment<'_>,
) -> Result<(Vec<Flow>, bool), Diagnostic> {
    let from = ends(&hosts.from, environment)?;
    let to = ends(&hosts.to, environment)?;
    let from_port = port(hosts.from_port.as_ref(), environment)?;
    let to_port = port(hosts.to_port.as_ref(), environment)?;
    if let Host::Spec {
        pre_nat: Some(spec),
        ..
    } = &hosts.to
    {
        let message = "no flow NAT support for destination network".to_owned();
        return Err(Diagnostic::at(&spec.host.at, message));
    }
    let pre_nat = match &hosts.from {
        Host::Spec {
            pre_nat: Some(spec),
            ..
        } => networks(spec, environment)?.first().copied(),
        Host::Spec { pre_nat: None, .. } | Host::Any | Host::Dynamic => None,
    };
    let mut flows = Vec::new();
    for (from, to, ipv4) in pairs(&from, &to).ok_or_else(|| mixed(&hosts.at))? {
        if pre_nat.is_some_and(|net| net.is_ipv4() != ipv4) {
            let message = "flow NAT address family mismatch".to_owned();
            return Err(Diagnostic::at(&hosts.at, message));
        }
        for &protocol in protocols {
            let (from, to) = (from.of_family(ipv4, from_port), to.of_family(ipv4, to_port));
            flows.push(Flow {
                protocol,
                from,
                to,
                pre_nat,
            });
        }
    }
    Ok((flows, from.len() != to.len()))
}

/// Which ends go together: two lists are walked in step, up to the end of the shorter one, as
/// OpenIKED does. A wildcard takes the family of the other side; two have each other in both.
fn pairs(from: &[End], to: &[End]) -> Option<Vec<(End, End, bool)>> {
    let mut pairs = Vec::new();
    for (&from, &to) in from.iter().zip(to) {
        match (from.net(), to.net()) {
            (Some(one), Some(other)) if one.is_ipv4() != other.is_ipv4() => return None,
            (Some(net), _) | (None, Some(net)) => pairs.push((from, to, net.is_ipv4())),
            (None, None) => pairs.extend([(from, to, true), (from, to, false)]),
        }
    }
    Some(pairs)
}

fn mixed(at: &Position) -> Diagnostic {
    let message = "cannot mix different address families: invalid flow".to_owned();
    Diagnostic::at(at, message)
}
