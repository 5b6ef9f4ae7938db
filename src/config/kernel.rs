//! What depends on the kernel of this host: interfaces, and what PF_KEY of Linux cannot do, which is
//! refused where it is written.

use super::ast::{PolicyText, Set, Statement, Text, Transforms};
use super::parser::Read;
use super::proposals::{self, CHILD, CHILD_BY_PFKEY};
use super::{Diagnostic, Environment, Link, tables};
use crate::policy::{IfId, KernelWay, Policy, Proposal};
use crate::wire::registry::{IntegId, ProtocolId};

/// Whether the kernel will be reached by PF_KEY: the last `set kernel` counts.
pub(super) fn is_pfkey(statements: &[Statement], environment: Environment<'_>) -> bool {
    let mut ways = statements
        .iter()
        .rev()
        .filter_map(|statement| match statement {
            Statement::Set(Set::Kernel(way), _) => Some(*way),
            Statement::Set(..)
            | Statement::User { .. }
            | Statement::Policy(_)
            | Statement::Radius(_) => None,
        });
    match ways.next().unwrap_or(KernelWay::Auto) {
        KernelWay::Auto => environment.resolver.has_only_pfkey(),
        KernelWay::Xfrm => false,
        KernelWay::PfKey => true,
    }
}

/// The number of the interface, if it is an XFRM interface. One that is called `xfrmN` must be there:
/// without its number the policy would take packets from wherever they come.
pub(super) fn interface(name: Option<&Text>, environment: Environment<'_>) -> Read<Option<IfId>> {
    let Some(name) = name else { return Ok(None) };
    let wrong = |why: &str| Diagnostic::at(&name.at, format!("iface {}: {why}", name.text));
    match environment.resolver.link(&name.text) {
        Link::Xfrm(Some(if_id)) => Ok(Some(if_id)),
        Link::Xfrm(None) => Err(wrong("an XFRM interface without if_id")),
        Link::Absent if is_called_xfrm(&name.text) => Err(wrong("no such interface")),
        Link::Absent | Link::Plain => Ok(None),
    }
}

fn is_called_xfrm(name: &str) -> bool {
    let unit = name.strip_prefix("xfrm").unwrap_or_default();
    !unit.is_empty() && unit.bytes().all(|byte| byte.is_ascii_digit())
}

/// The proposals for Child SAs: over PF_KEY the defaults are what it can do, and nothing else may be
/// written.
pub(super) fn proposals(
    protocol: ProtocolId,
    groups: &[Transforms],
    pfkey: bool,
) -> Read<Vec<Proposal>> {
    if !pfkey {
        return proposals::proposals(protocol, &CHILD, groups);
    }
    for group in groups {
        for name in &group.enc {
            let found = tables::find(tables::CHILD_ENCR, &name.text);
            if found.is_some_and(|(id, _)| tables::is_aead(*id)) {
                return Err(refusal(&name.text, name));
            }
        }
        for name in &group.auth {
            let found = tables::find(tables::INTEG, &name.text);
            if found == Some(&IntegId::HMAC_SHA2_256_128) {
                return Err(refusal(&name.text, name));
            }
        }
        if group.esn.contains(&true) {
            return Err(Diagnostic::at(&group.at, refused("esn")));
        }
    }
    proposals::proposals(protocol, &CHILD_BY_PFKEY, groups)
}

/// Refuses what else of a policy PF_KEY has no words for.
pub(super) fn check(text: &PolicyText, policy: &Policy) -> Read<()> {
    let interface = text.iface.as_ref().filter(|_| policy.if_id.is_some());
    let mark = text.tag.as_ref().filter(|_| policy.mark().is_some());
    let offload = text.offload.as_ref();
    let words = [
        ("an XFRM interface", interface),
        ("a mark", mark),
        ("offload", offload),
    ];
    match words
        .into_iter()
        .find_map(|(what, at)| Some(refusal(what, at?)))
    {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

fn refusal(what: &str, text: &Text) -> Diagnostic {
    Diagnostic::at(&text.at, refused(what))
}

fn refused(what: &str) -> String {
    format!("{what} is not possible over PF_KEY (set kernel xfrm)")
}

/// Packets that the anti-replay window of an SA may span over PF_KEY.
pub(super) const PFKEY_WINDOW_MAX: u64 = 32;
