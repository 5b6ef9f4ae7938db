//! Identities as iked.conf(5) writes them: the type is seen from the text.

use std::net::IpAddr;

use crate::policy::{Identity, dn};
use crate::wire::registry::IdType;

/// The identity for a text of `srcid` or `dstid`: a leading `/` makes a distinguished name, an
/// address an address, an `@` a mail address; anything else is a host name.
pub fn parse_identity(text: &str) -> Result<Identity, String> {
    if text.is_empty() {
        return Err("empty id".to_owned());
    }
    if text.len() > ID_MAX {
        return Err("id too long".to_owned());
    }
    let (kind, data) = if text.starts_with('/') {
        (IdType::DER_ASN1_DN, dn::encode(text)?)
    } else {
        match text.parse() {
            Ok(IpAddr::V4(addr)) => (IdType::IPV4_ADDR, addr.octets().to_vec()),
            Ok(IpAddr::V6(addr)) => (IdType::IPV6_ADDR, addr.octets().to_vec()),
            Err(_) if text.contains('@') => (IdType::RFC822_ADDR, text.as_bytes().to_vec()),
            Err(_) => (IdType::FQDN, text.as_bytes().to_vec()),
        }
    };
    Ok(Identity { kind, data })
}

/// The text for an identity, such that [`parse_identity`] gives it back where it can be written.
pub fn identity_text(identity: &Identity) -> String {
    if identity.kind == IdType::DER_ASN1_DN
        && let Some(text) = dn::decode(&identity.data)
    {
        return text;
    }
    if matches!(identity.kind, IdType::FQDN | IdType::RFC822_ADDR)
        && let Ok(text) = std::str::from_utf8(&identity.data)
    {
        return text.to_owned();
    }
    // What the type stands in front of, in the common form.
    let text = identity.to_string();
    let bare = text.split_once('/').map(|(_, bare)| bare.to_owned());
    bare.unwrap_or(text)
}

/// Longest text of an identity.
const ID_MAX: usize = 1023;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_tells_the_type() {
        let kind = |text| parse_identity(text).unwrap().kind;
        assert_eq!(kind("192.0.2.1"), IdType::IPV4_ADDR);
        assert_eq!(kind("2001:db8::1"), IdType::IPV6_ADDR);
        assert_eq!(kind("a@b.c"), IdType::RFC822_ADDR);
        assert_eq!(kind("/C=DE/CN=x@y"), IdType::DER_ASN1_DN);
        assert_eq!(kind("192.0.2"), IdType::FQDN);
        assert_eq!(kind("host.example"), IdType::FQDN);
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for text in [
            "192.0.2.1",
            "2001:db8::1",
            "a@b.c",
            "/C=DE/O=a\\/b/CN=x",
            "host.example",
        ] {
            let identity = parse_identity(text).unwrap();
            assert_eq!(identity_text(&identity), text);
            assert_eq!(parse_identity(&identity_text(&identity)), Ok(identity));
        }
    }

    #[test]
    fn empty_and_endless_ids_are_refused() {
        assert!(parse_identity("").is_err());
        assert!(parse_identity(&"a".repeat(1024)).is_err());
        assert!(parse_identity("/").is_err());
        assert!(parse_identity("/nonsense").is_err());
    }
}
