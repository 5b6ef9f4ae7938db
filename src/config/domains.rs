//! `config dns-domain` and `config dnssec-ta` (RFC 8598).

use super::Diagnostic;
use super::ast::CfgText;
use super::tables;
use crate::policy::domain::{Domain, NoAnchor};
use crate::wire::registry::CfgAttrType;

/// The `config dns-domain` entries, each with the `config dnssec-ta` entries behind it.
pub(super) fn domains(entries: &[CfgText]) -> Result<Vec<Domain>, Diagnostic> {
    let mut domains: Vec<Domain> = Vec::new();
    for entry in entries {
        let Some(text) = &entry.text else { continue };
        let wrong = |why: &str| {
            let message = format!("{}: {why}: {}", entry.name.text, text.text);
            Diagnostic::at(&text.at, message)
        };
        if tables::cfg_text(&entry.name.text) == Some(CfgAttrType::INTERNAL_DNS_DOMAIN) {
            let domain = Domain::new(text.text.as_bytes());
            domains.push(domain.ok_or_else(|| wrong("not a domain name"))?);
        } else {
            let anchor = text.text.parse();
            let anchor = anchor.map_err(|no: NoAnchor| wrong(&no.to_string()))?;
            let domain = domains.last_mut();
            let domain = domain.ok_or_else(|| wrong("no dns-domain before it"))?;
            domain.anchors.push(anchor);
        }
        if domains.len() > DOMAINS_MAX {
            return Err(Diagnostic::at(&text.at, "too many domains".to_owned()));
        }
    }
    Ok(domains)
}

/// Domains of one policy: all fit into a CFG_REPLY.
const DOMAINS_MAX: usize = 64;
