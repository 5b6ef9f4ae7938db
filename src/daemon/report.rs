//! What the configuration answers to what our `ikectl` asks beyond OpenIKED's requests, as lines for people or, in JSON, for
//! programs. Secrets are in none of them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use serde_json::{Value, json};

use crate::config::{self, identity_text};
use crate::control::query::{Query, What};
use crate::policy::pool::Pool;
use crate::policy::select::{self, PolicyKey};
use crate::policy::{Config, Identity, IpNet, Policy, Selection};

/// The lines of an answer; `leased` has the leased addresses of each pool, where those are asked for.
pub(super) fn show(
    config: &Config,
    certificates: &dyn Fn() -> Vec<String>,
    query: &Query,
    leased: &BTreeMap<IpNet, u64>,
) -> Result<Vec<String>, String> {
    let json = query.json;
    Ok(match &query.what {
        What::Certstore if json => self::certificates(&certificates()),
        What::Certstore => certificates(),
        What::Policy => policies(config, json),
        What::Pool => pools(config, leased, json),
        What::Explain { address, id } => {
            explain(config, &Peer::new(*address, id.as_deref())?, json)
        }
        // The shards say it all.
        What::Sa | What::Stats => Vec::new(),
    })
}

/// A line for each policy: as iked.conf(5) writes it.
fn policies(config: &Config, json: bool) -> Vec<String> {
    let line = |policy: &Policy| {
        let text = config::print_policy(policy, false);
        if json {
            policy_record(policy, &text).to_string()
        } else {
            text
        }
    };
    config.policies.iter().map(|policy| line(policy)).collect()
}

fn policy_record(policy: &Policy, text: &str) -> Value {
    let net = |net: Option<IpNet>| net.map(|net| format!("{}/{}", net.addr, net.len));
    let selection = match policy.selection {
        Selection::Last => "last",
        Selection::Quick => "quick",
        Selection::Skip => "skip",
        Selection::Default => "default",
    };
    json!({
        "index": policy.index,
        "name": policy.name,
        "selection": selection,
        "active": policy.active,
        "local": net(policy.local),
        "peer": net(policy.peer),
        "srcid": identity_text(&policy.srcid),
        "dstid": policy.dstid.as_ref().map(identity_text),
        "text": text,
    })
}

/// A line for each pool: of which policies it is, its size, and how many addresses are leased, which
/// the shards have said.
fn pools(config: &Config, leased: &BTreeMap<IpNet, u64>, json: bool) -> Vec<String> {
    let mut pools: BTreeMap<IpNet, Vec<&str>> = BTreeMap::new();
    for policy in &config.policies {
        for entry in policy.config.iter().filter(|entry| entry.is_pool) {
            let names = pools.entry(entry.value).or_default();
            if names.last() != Some(&policy.name.as_str()) {
                names.push(&policy.name);
            }
        }
    }
    for (net, count) in leased {
        if *count > 0 {
            // Of an earlier configuration, perhaps.
            pools.entry(*net).or_default();
        }
    }
    let line = |(net, names): (IpNet, Vec<&str>)| {
        let size = Pool::new(net, 0, 1).size();
        let leased = leased.get(&net).copied().unwrap_or_default();
        let written = format!("{}/{}", net.addr, net.len);
        if json {
            let record = json!({"net": written, "policies": names, "size": size, "leased": leased});
            return record.to_string();
        }
        let names = match names.as_slice() {
            [] => "no policy any more".to_owned(),
            [one] => format!("policy '{one}'"),
            [one, rest @ ..] => format!("policy '{one}' and {} more", rest.len()),
        };
        format!("{written}: {leased} of {size} leased ({names})")
    };
    pools.into_iter().map(line).collect()
}

/// Lines `KIND: SUBJECT`, or `CRL: SUBJECT from URL`, as objects.
fn certificates(lines: &[String]) -> Vec<String> {
    let object = |line: &String| {
        let (kind, subject) = line.split_once(": ").unwrap_or(("", line));
        match subject.rsplit_once(" from ").filter(|_| kind == "CRL") {
            Some((subject, url)) => json!({"kind": kind, "subject": subject, "url": url}),
            None => json!({"kind": kind, "subject": subject}),
        }
        .to_string()
    };
    lines.iter().map(object).collect()
}

/// Who asks, for [`explain`].
#[derive(Debug)]
struct Peer {
    /// Our address towards it.
    local: IpAddr,
    /// Its address.
    address: IpAddr,
    /// Its identity, if that is known.
    id: Option<Identity>,
}

impl Peer {
    /// One with this address and perhaps an identity, which is written as iked.conf(5) does, or with
    /// its type before it (`FQDN/host.example`).
    fn new(address: IpAddr, id: Option<&str>) -> Result<Self, String> {
        let id = id
            .map(|id| config::parse_identity(without_type(id)))
            .transpose()?;
        let local = local_towards(address).map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { local, address, id })
    }
}

/// A distinguished name begins with a slash, and no name of a host has one.
fn without_type(id: &str) -> &str {
    let types = ["IPV4/", "IPV6/", "FQDN/", "UFQDN/", "ASN1_DN/"];
    let bare = types.iter().find_map(|kind| id.strip_prefix(kind));
    bare.unwrap_or(id)
}

/// The address of this host that the routes choose; no packet is sent.
fn local_towards(address: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((address, PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// Any would do.
const PORT: u16 = 500;

/// Which policy applies to a peer, and why each other one does not. What the peer will offer is not
/// known: of each that fits, and of the one that applies, the proposals are shown.
fn explain(config: &Config, peer: &Peer, json: bool) -> Vec<String> {
    let key = PolicyKey {
        local: peer.local,
        peer: peer.address,
        peer_id: peer.id.as_ref(),
        local_id: None,
        transport: false,
        fits: &|_| Ok(()),
    };
    let chosen = select::select(config, &key).map(|policy| policy.index);
    let mut lines = Vec::new();
    for policy in &config.policies {
        let applies = chosen == Some(policy.index);
        let why = match select::why_not(policy, &key) {
            None if applies => "applies".to_owned(),
            None => "fits, and another goes before it".to_owned(),
            Some(why) => why,
        };
        let proposals = config::print_proposals(policy);
        if json {
            let record = json!({
                "name": policy.name, "index": policy.index, "applies": applies, "why": why,
                "proposals": proposals,
            });
            lines.push(record.to_string());
            continue;
        }
        lines.push(format!("policy '{}' {why}", policy.name));
        if applies {
            lines.extend(proposals.iter().map(|text| format!("\t{text}")));
        }
    }
    if chosen.is_none() && !json {
        lines.push(
            "no policy applies: the peer gets no answer, or AUTHENTICATION_FAILED".to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Nobody, parse_str};
    use crate::policy::Generation;

    fn config(text: &str) -> Config {
        let environment = Environment {
            hostname: "gateway.example",
            passive: false,
            resolver: &Nobody,
            files: &Nobody,
        };
        let loaded = parse_str("test", text, &[], Generation(0), environment);
        loaded.unwrap().config
    }

    fn three() -> Config {
        config(
            "ikev2 \"far\" esp from 10.1.0.0/16 to dynamic peer 203.0.113.0/24 psk \"hidden\" \
               config address 10.9.0.0/24\n\
             ikev2 \"all\" esp from 10.1.0.0/16 to dynamic peer any psk \"hidden\" \
               config address 10.9.0.0/24 config address 10.7.0.0/30\n\
             ikev2 \"alice\" esp from 10.1.0.0/16 to 10.2.0.0/16 peer any \
               childsa enc aes-128-gcm dstid alice.example psk \"hidden\"\n",
        )
    }

    fn peer(id: Option<&str>) -> Peer {
        Peer::new("127.0.0.5".parse().unwrap(), id).unwrap()
    }

    #[test]
    fn explain_says_of_each_policy_why_and_of_one_what_it_proposes() {
        let lines = explain(&three(), &peer(Some("FQDN/bob.example")), false);
        let policies: Vec<&String> = lines
            .iter()
            .filter(|line| !line.starts_with('\t'))
            .collect();
        let said = [
            "policy 'far' is for another peer address",
            "policy 'all' applies",
            "policy 'alice' wants dstid FQDN/alice.example",
        ];
        assert_eq!(policies, said);
        assert!(
            lines.iter().any(|line| line.starts_with("\tikesa enc ")),
            "{lines:?}"
        );
        let lines = explain(&three(), &peer(Some("alice.example")), false);
        assert_eq!(
            lines.get(1).unwrap(),
            "policy 'all' fits, and another goes before it"
        );
        assert_eq!(
            lines.last().unwrap(),
            "\tchildsa enc aes-128-gcm group none esn noesn"
        );
        let none = explain(&Config::default(), &peer(None), false);
        assert_eq!(none.len(), 1);
    }

    #[test]
    fn no_secret_is_in_what_is_shown() {
        for json in [false, true] {
            let lines = policies(&three(), json);
            assert_eq!(lines.len(), 3);
            assert!(!lines.concat().contains("\"hidden"), "{lines:?}");
            let lines = explain(&three(), &peer(None), json);
            assert!(!lines.concat().contains("\"hidden"), "{lines:?}");
        }
    }

    #[test]
    fn pools_are_those_of_the_configuration_and_those_still_leased() {
        let net = |text: &str, len| IpNet {
            addr: text.parse().unwrap(),
            len,
        };
        let leased = [
            (net("10.9.0.0", 24), 3),
            (net("10.5.0.0", 24), 1),
            (net("10.6.0.0", 24), 0),
        ];
        let lines = pools(&three(), &leased.into(), false);
        let said = [
            "10.5.0.0/24: 1 of 254 leased (no policy any more)",
            "10.7.0.0/30: 0 of 2 leased (policy 'all')",
            "10.9.0.0/24: 3 of 254 leased (policy 'far' and 1 more)",
        ];
        assert_eq!(lines, said);
        let record: Value =
            serde_json::from_str(&pools(&three(), &leased.into(), true)[2]).unwrap();
        assert_eq!(record["policies"], json!(["far", "all"]));
        assert_eq!(
            (&record["size"], &record["leased"]),
            (&json!(254), &json!(3))
        );
    }

    #[test]
    fn a_type_before_the_identity_changes_nothing_and_a_bad_one_is_refused() {
        let id = |text| Peer::new("127.0.0.1".parse().unwrap(), Some(text)).map(|peer| peer.id);
        assert_eq!(id("UFQDN/a@b.c"), id("a@b.c"));
        assert_eq!(id("ASN1_DN//C=DE/CN=x"), id("/C=DE/CN=x"));
        assert_eq!(id("").unwrap_err(), "empty id");
    }
}
