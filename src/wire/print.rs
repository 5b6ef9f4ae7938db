//! A message as text, for `-vv` and for expectations in tests. Keys, nonces, AUTH, EAP and encrypted
//! data print as lengths only.

use std::fmt::Write;
use std::net::IpAddr;

use super::cp::CfgAttribute;
use super::message::Message;
use super::payload::{Delete, Notify, Payload};
use super::registry::{CfgAttrType, IdType, PayloadType};
use super::sa::Proposal;
use super::spi::IkeSpi;

/// `IKE_SA_INIT request 0 [ SA KE Ni N(NAT_DETECTION_SOURCE_IP) ]`.
pub fn one_line(message: &Message<'_>) -> String {
    let header = &message.header;
    let direction = if header.flags.response {
        "response"
    } else {
        "request"
    };
    let mut text = format!("{} {direction} {} [", header.exchange, header.message_id);
    for payload in &message.payloads {
        text.push(' ');
        text.push_str(&name(payload, header.flags.response));
    }
    text.push_str(" ]");
    text
}

/// The one line, the SPIs, and a line for each payload with what it says.
pub fn details(message: &Message<'_>) -> String {
    let header = &message.header;
    let mut text = one_line(message);
    let spi = |spi: Option<IkeSpi>| spi.map_or(0, IkeSpi::value);
    let role = if header.flags.initiator {
        "original initiator"
    } else {
        "original responder"
    };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n  spi_i 0x{:016x} spi_r 0x{:016x} length {} from {role}",
        spi(header.initiator_spi),
        spi(header.responder_spi),
        header.length
    );
    for payload in &message.payloads {
        let _ = write!(
            text,
            "\n  {}: {}",
            name(payload, header.flags.response),
            detail(payload)
        );
    }
    text.push('\n');
    text
}

/// `D(ESP 0x00001000) N(REKEY_SA ESP spi 0x00001001)`: payloads with what they say, on one line;
/// `response` tells whose nonce it is.
pub fn compact(payloads: &[Payload<'_>], response: bool) -> String {
    let word = |payload: &Payload<'_>| {
        if let Payload::Notify(notify) = payload {
            return format!("N({})", short_notification(notify));
        }
        match detail(payload) {
            detail if detail.is_empty() => name(payload, response),
            detail => format!("{}({detail})", name(payload, response)),
        }
    };
    list(payloads.iter().map(word), " ")
}

/// Only what is there. The data of an error are a number and no secret.
fn short_notification(notify: &Notify<'_>) -> String {
    let mut text = notify.kind.to_string();
    if !notify.spi.is_empty() {
        let _ = write!(text, " {} spi {}", notify.protocol, hex(notify.spi));
    }
    match notify.data {
        [] => {}
        data if notify.kind.is_error() && data.len() <= 2 => {
            let _ = write!(text, " {}", hex(data));
        }
        data => {
            let _ = write!(text, " {} bytes", data.len());
        }
    }
    text
}

/// The notation of RFC 7296, 1.2, with the type of a notification in brackets.
fn name(payload: &Payload<'_>, response: bool) -> String {
    if let Payload::Notify(notify) = payload {
        return format!("N({})", notify.kind);
    }
    if payload.kind() == PayloadType::NONCE {
        return if response { "Nr" } else { "Ni" }.to_owned();
    }
    payload.kind().to_string()
}

fn detail(payload: &Payload<'_>) -> String {
    match payload {
        Payload::Sa(proposals) => list(proposals.iter().map(proposal), "; "),
        Payload::Ke(ke) => format!("{} {} bytes", ke.method, ke.data.len()),
        Payload::IdI(id) | Payload::IdR(id) => format!("{} {}", id.kind, id_text(id.kind, id.data)),
        Payload::Cert(cert) => format!("{} {} bytes", cert.encoding, cert.data.len()),
        Payload::CertReq(request) => {
            format!(
                "{} {} hashes",
                request.encoding,
                request.data.len() / SHA1_LEN
            )
        }
        Payload::Auth(auth) => format!("{} {} bytes", auth.method, auth.data.len()),
        Payload::Notify(notify) => notification(notify),
        Payload::Delete(delete) => deletion(delete),
        Payload::TsI(selectors) | Payload::TsR(selectors) => {
            list(selectors.iter().map(ToString::to_string), ", ")
        }
        Payload::Sk(sk) => format!("first {}, {} bytes", sk.first_inner, sk.body.len()),
        Payload::Skf(skf) => {
            let (first, len) = (skf.first_inner, skf.body.len());
            format!("first {first}, {}/{}, {len} bytes", skf.number, skf.total)
        }
        Payload::Cp(cp) => {
            format!(
                "{} {}",
                cp.kind,
                list(cp.attributes.iter().map(attribute), ", ")
            )
        }
        Payload::Nonce(bytes) | Payload::VendorId(bytes) | Payload::Eap(bytes) => {
            format!("{} bytes", bytes.len())
        }
        Payload::Unknown(unknown) => format!("{} bytes", unknown.body.len()),
    }
}

fn proposal(proposal: &Proposal<'_>) -> String {
    let mut text = format!("#{} {}", proposal.number, proposal.protocol);
    if !proposal.spi.is_empty() {
        let _ = write!(text, " spi {}", hex(proposal.spi));
    }
    for transform in &proposal.transforms {
        let _ = write!(text, " {transform}");
    }
    text
}

fn notification(notify: &Notify<'_>) -> String {
    let len = notify.data.len();
    if notify.spi.is_empty() {
        return format!("{} {len} bytes", notify.protocol);
    }
    format!("{} spi {} {len} bytes", notify.protocol, hex(notify.spi))
}

fn deletion(delete: &Delete<'_>) -> String {
    // A size of zero has no SPIs, so any chunk length will do.
    let spis = delete
        .spis
        .chunks(usize::from(delete.spi_size).max(1))
        .take(SPIS_SHOWN_MAX);
    let more = delete.count().saturating_sub(SPIS_SHOWN_MAX);
    let mut text = format!("{} {}", delete.protocol, list(spis.map(hex), " "));
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text.trim_end().to_owned()
}

/// Addresses in full, everything else, which may be a name or a secret, by length.
fn attribute(attribute: &CfgAttribute<'_>) -> String {
    let CfgAttribute { kind, value } = *attribute;
    let v6_with_prefix = value
        .split_at_checked(16)
        .filter(|(_, prefix)| prefix.len() == 1);
    match (kind, v6_with_prefix) {
        (_, _) if value.is_empty() => kind.to_string(),
        (CfgAttrType::INTERNAL_IP6_ADDRESS, Some((bytes, prefix))) => {
            let address = address(bytes).map_or_else(String::new, |address| address.to_string());
            format!("{kind} {address}/{}", prefix.first().copied().unwrap_or(0))
        }
        (kind, _) if ADDRESSES.contains(&kind) => match address(value) {
            Some(address) => format!("{kind} {address}"),
            None => format!("{kind} {} bytes", value.len()),
        },
        _ => format!("{kind} {} bytes", value.len()),
    }
}

fn id_text(kind: IdType, data: &[u8]) -> String {
    match (kind, address(data)) {
        (IdType::FQDN | IdType::RFC822_ADDR, _) => data
            .iter()
            .map(|&byte| {
                if byte.is_ascii_graphic() {
                    char::from(byte)
                } else {
                    '?'
                }
            })
            .collect(),
        (IdType::IPV4_ADDR | IdType::IPV6_ADDR, Some(address)) => address.to_string(),
        _ => format!("{} bytes", data.len()),
    }
}

/// Four or sixteen bytes as an address.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn list(items: impl Iterator<Item = String>, separator: &str) -> String {
    items.collect::<Vec<_>>().join(separator)
}

/// Attributes whose value is one address.
const ADDRESSES: &[CfgAttrType] = &[
    CfgAttrType::INTERNAL_IP4_ADDRESS,
    CfgAttrType::INTERNAL_IP4_NETMASK,
    CfgAttrType::INTERNAL_IP4_DNS,
    CfgAttrType::INTERNAL_IP4_NBNS,
    CfgAttrType::INTERNAL_IP4_DHCP,
    CfgAttrType::INTERNAL_IP4_SERVER,
    CfgAttrType::INTERNAL_IP6_DNS,
    CfgAttrType::INTERNAL_IP6_NBNS,
    CfgAttrType::INTERNAL_IP6_DHCP,
    CfgAttrType::INTERNAL_IP6_SERVER,
];
/// A CERTREQ of X.509 is a row of SHA-1 hashes (RFC 7296, 3.7).
const SHA1_LEN: usize = 20;
/// SPIs of a Delete that are shown; a peer may send thousands in one.
const SPIS_SHOWN_MAX: usize = 16;
