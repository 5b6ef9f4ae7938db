//! The peers of a scenario as the configuration of an [`Endpoint`](iked::ike::Endpoint): one policy
//! for each, by a template in the words of iked.conf(5).

use std::sync::Arc;

use iked::config::{self, Environment, Nobody};
use iked::policy::{
    Auth as Words, Config, Eap, EapMethod, EapUser, Generation, Identity, IpNet, Policy, Secret,
};
use iked::wire::registry::IdType;

use crate::scenario::{Auth, Scenario};

/// Why there is no population.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The words of a suite, an identity or a network are not those of iked.conf(5).
    #[error("the policy that the scenario makes is none: {0}\n{1}")]
    Template(String, String),
}

/// A configuration in which policy `n` is of peer `n`.
pub fn config(scenario: &Scenario) -> Result<Arc<Config>, Error> {
    let text = template(scenario);
    let environment = Environment {
        hostname: "load.example",
        passive: false,
        resolver: &Nobody,
        files: &Nobody,
    };
    let none = |message: String| Error::Template(message, text.clone());
    let loaded = config::parse_str("template", &text, &[], Generation(0), environment);
    let mut config = match loaded {
        Ok(loaded) => loaded.config,
        Err(errors) => return Err(none(joined(&errors))),
    };
    let one = config.policies.first().cloned();
    let one = one.ok_or_else(|| none("no policy".to_owned()))?;
    let all = (0..scenario.peers.count).map(|peer| Arc::new(policy(scenario, &one, peer)));
    config.policies = all.collect();
    Ok(config.ready())
}

/// The name of a peer.
pub fn name(scenario: &Scenario, peer: u32) -> String {
    format!("peer-{peer}.{}", scenario.peers.domain)
}

fn policy(scenario: &Scenario, template: &Policy, peer: u32) -> Policy {
    let name = name(scenario, peer);
    let source = scenario.source_of(peer).map(IpNet::host);
    let mut flows = template.flows.clone();
    // Without an address of the gateway's a peer's own network is its address.
    if let (false, Some(source)) = (scenario.suite.virtual_ip, source) {
        flows.iter_mut().for_each(|flow| flow.from.net = source);
    }
    let auth = match &scenario.auth {
        Auth::Psk { .. } | Auth::Raw { .. } | Auth::Certificate { .. } => template.auth.clone(),
        Auth::EapMschapv2 { password, .. } => Words::Eap(Eap {
            user: Some(EapUser {
                name: name.clone(),
                password: Secret::new(password.clone().into_bytes()),
            }),
            ..Eap::of(EapMethod::MsChapV2)
        }),
    };
    Policy {
        auth,
        index: peer,
        srcid: Identity {
            kind: IdType::FQDN,
            data: name.clone().into_bytes(),
        },
        local: source,
        flows,
        name,
        ..template.clone()
    }
}

fn template(scenario: &Scenario) -> String {
    let (suite, responder) = (&scenario.suite, &scenario.responder);
    let source = scenario.source_of(0).map(|address| address.to_string());
    let source = source.unwrap_or_default();
    let (inside, request) = if suite.virtual_ip {
        ("dynamic", " request address any")
    } else {
        (source.as_str(), "")
    };
    let auth = match &scenario.auth {
        Auth::Psk { secret } => format!("psk \"{secret}\""),
        Auth::Raw { .. } | Auth::Certificate { .. } => "signature".to_owned(),
        Auth::EapMschapv2 { .. } => "eap \"mschap-v2\"".to_owned(),
    };
    let dpd = scenario.steady.dpd;
    format!(
        "set dpd_check_interval {dpd}\nikev2 \"peer\" passive esp from {inside} to {} \
         local {source} peer {} ikesa {} childsa {} srcid peer.example dstid {} ikelifetime {} \
         lifetime {} {auth}{request}\n",
        responder.network,
        responder.address,
        suite.ike,
        suite.child,
        responder.identity,
        suite.ike_lifetime,
        suite.child_lifetime,
    )
}

fn joined(errors: &[config::Diagnostic]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| error.message.clone()).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_a_name_an_address_and_without_a_pool_a_network_of_its_own() {
        let text = "[peers]\ncount = 3\nsources = \"10.64.0.9/24\"\n[responder]\naddress = \"192.0.2.1\"\n\
                    identity = \"gw.example\"\nnetwork = \"10.8.0.0/24\"\n[auth]\nmethod = \"psk\"\n\
                    secret = \"s\"\n[suite]\nvirtual_ip = VIRTUAL\n";
        for (virtual_ip, own) in [("true", None), ("false", Some("10.64.0.11/32"))] {
            let scenario = Scenario::parse("s.toml", &text.replace("VIRTUAL", virtual_ip)).unwrap();
            let config = config(&scenario).unwrap();
            assert_eq!(config.policies.len(), 3);
            let last = &config.policies[2];
            assert_eq!(
                (last.index, last.srcid.to_string()),
                (2, "FQDN/peer-2.load.example".to_owned())
            );
            assert_eq!(last.local.unwrap().to_string(), "10.64.0.11/32");
            let from = &last.flows[0].from;
            assert_eq!(from.dynamic, own.is_none());
            let net = (!from.dynamic).then(|| from.net.to_string());
            assert_eq!(net.as_deref(), own);
            assert_eq!(last.request.is_empty(), own.is_some());
        }
        let wrong = text.replace("VIRTUAL", "true\nike = \"enc rot13\"");
        let error = config(&Scenario::parse("s.toml", &wrong).unwrap()).unwrap_err();
        assert!(error.to_string().contains("rot13"), "{error}");
    }
}
