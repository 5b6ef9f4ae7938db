//! A world in which names and files are known beforehand, and short ways to what a text means.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use iked::config::{Diagnostic, Environment, Files, Link, Loaded, Resolver, parse_str};
use iked::policy::{Config, Generation, IfId, IpNet, Policy};
use iked::wire::TransformId;
use zeroize::Zeroizing;

#[derive(Default)]
pub(crate) struct World {
    pub files: BTreeMap<&'static str, &'static str>,
    /// The host names that were asked for, each time.
    pub asked: RefCell<Vec<Vec<String>>>,
    /// PF_KEY is the only way into the kernel.
    pub only_pfkey: bool,
}

impl Resolver for World {
    fn interface(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "eth0" => vec![addr("192.0.2.1"), addr("2001:db8::1")],
            _ => Vec::new(),
        }
    }

    fn link(&self, name: &str) -> Link {
        match name {
            "xfrm7" | "office" => Link::Xfrm(IfId::new(7)),
            "xfrm8" => Link::Xfrm(None),
            "eth0" => Link::Plain,
            _ => Link::Absent,
        }
    }

    fn has_only_pfkey(&self) -> bool {
        self.only_pfkey
    }

    fn hosts(&self, names: &[String]) -> Vec<Option<Vec<IpAddr>>> {
        self.asked.borrow_mut().push(names.to_vec());
        let find = |name: &String| match name.as_str() {
            "peer.example" => Some(vec![addr("198.51.100.1")]),
            "both.example" => Some(vec![addr("2001:db8::2"), addr("198.51.100.2")]),
            "two.example" => Some(vec![addr("198.51.100.3"), addr("198.51.100.4")]),
            "late.example" => None,
            _ => Some(Vec::new()),
        };
        names.iter().map(find).collect()
    }

    fn service(&self, name: &str) -> Option<u16> {
        (name == "http").then_some(80)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        match name {
            "tcp" => Some(6),
            "udp" => Some(17),
            _ => None,
        }
    }
}

impl Files for World {
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let text = self.files.get(path).ok_or("No such file or directory")?;
        Ok(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    let (host, len) = text.split_once('/').unwrap();
    IpNet {
        addr: addr(host),
        len: len.parse().unwrap(),
    }
}

pub(crate) fn parse_in(world: &World, text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let environment = Environment {
        hostname: "gate.example",
        passive: false,
        resolver: world,
        files: world,
    };
    parse_str("test", text, &[], Generation(7), environment)
}

pub(crate) fn parse(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    parse_in(&World::default(), text)
}

pub(crate) fn config(text: &str) -> Config {
    parse(text)
        .unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
        .config
}

pub(crate) fn policy(text: &str) -> Policy {
    let config = config(text);
    assert_eq!(config.policies.len(), 1, "{text}");
    Policy::clone(config.policies.first().unwrap())
}

pub(crate) fn errors(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn error(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.into_iter().next().unwrap()
}

pub(crate) fn flows(policy: &Policy) -> Vec<String> {
    let end = |end: &iked::policy::FlowEnd| {
        let dynamic = if end.dynamic { "dynamic " } else { "" };
        let port = end.port.map_or(String::new(), |port| format!(":{port}"));
        format!("{dynamic}{}{port}", end.net)
    };
    let flow = |flow: &iked::policy::Flow| {
        format!("{} {} > {}", flow.protocol, end(&flow.from), end(&flow.to))
    };
    policy.flows.iter().map(flow).collect()
}

/// The transforms of each proposal, as iked.conf(5) or the RFC call them.
pub(crate) fn offered(proposals: &[iked::policy::Proposal]) -> Vec<String> {
    let name = |transform: &iked::wire::Transform| {
        let length = transform
            .key_length
            .map_or(String::new(), |bits| format!("-{bits}"));
        match transform.id {
            TransformId::Encr(id) => format!("{id}{length}"),
            TransformId::Prf(id) => format!("PRF_{id}"),
            TransformId::Integ(id) => id.to_string(),
            TransformId::Ke(id) => format!("KE_{id}"),
            TransformId::Esn(id) => id.to_string(),
            TransformId::Unknown(kind, id) => format!("{kind}:{id}"),
        }
    };
    let line = |proposal: &iked::policy::Proposal| {
        let names: Vec<String> = proposal.transforms.iter().map(name).collect();
        names.join(" ")
    };
    proposals.iter().map(line).collect()
}

pub(crate) const LEAST: &str =
    "ikev2 from 10.0.0.0/8 to 10.1.0.0/16 local 192.0.2.1 peer 192.0.2.2";
