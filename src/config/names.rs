//! The host names of a text, which are asked for all at once before any is needed: one dead name
//! then costs no more time than many.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ast::{Host, HostSpec, PolicyText, Statement};
use super::{Link, Resolver};

/// A resolver that has its host names already; all else it asks the one behind it.
pub(super) struct Asked<'a> {
    behind: &'a dyn Resolver,
    answers: BTreeMap<String, Option<Vec<IpAddr>>>,
}

impl<'a> Asked<'a> {
    /// Asks for all names of these statements.
    pub(super) fn of(statements: &[Statement], behind: &'a dyn Resolver) -> Self {
        let policies = statements.iter().filter_map(|statement| match statement {
            Statement::Policy(policy) => Some(&**policy),
            Statement::Set(..) | Statement::User { .. } | Statement::Radius(_) => None,
        });
        let names: BTreeSet<&str> = policies.flat_map(specs).map(HostSpec::name).collect();
        let unknown = |name: &&str| name.parse::<IpAddr>().is_err();
        let no_interface = |name: &&str| behind.interface(name).is_empty();
        let names = names.into_iter().filter(unknown).filter(no_interface);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let answers = if names.is_empty() {
            Vec::new()
        } else {
            behind.hosts(&names)
        };
        Self {
            behind,
            answers: names.into_iter().zip(answers).collect(),
        }
    }
}

/// All hosts that a policy names.
fn specs(policy: &PolicyText) -> impl Iterator<Item = &HostSpec> {
    let ends = policy
        .hosts
        .iter()
        .flat_map(|hosts| [&hosts.from, &hosts.to]);
    let hosts = ends.chain(&policy.local).chain(&policy.peer);
    let hosts = hosts.flat_map(|host| match host {
        Host::Spec { spec, pre_nat } => [Some(spec), pre_nat.as_ref()],
        Host::Any | Host::Dynamic => [None, None],
    });
    let config = policy.config.iter().map(|entry| entry.value.as_ref());
    hosts.chain(config).flatten()
}

impl Resolver for Asked<'_> {
    fn interface(&self, name: &str) -> Vec<IpAddr> {
        self.behind.interface(name)
    }

    fn link(&self, name: &str) -> Link {
        self.behind.link(name)
    }

    fn has_only_pfkey(&self) -> bool {
        self.behind.has_only_pfkey()
    }

    fn hosts(&self, names: &[String]) -> Vec<Option<Vec<IpAddr>>> {
        let known = |name: &String| self.answers.get(name).cloned().unwrap_or(Some(Vec::new()));
        names.iter().map(known).collect()
    }

    fn service(&self, name: &str) -> Option<u16> {
        self.behind.service(name)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        self.behind.protocol(name)
    }
}
