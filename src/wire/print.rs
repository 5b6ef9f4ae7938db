//! A message as text, for `-vv` and for expectations in tests. Nonces, AUTH, EAP and encrypted data
//! print as lengths only.

use std::fmt::Write;

use super::message::Message;
use super::payload::Payload;
use super::registry::IdType;
use super::sa::Proposal;

/// `IKE_SA_INIT request 0 [ SA KE No N(NAT_DETECTION_SOURCE_IP) ]`.
pub fn one_line(message: &Message<'_>) -> String {
    let header = &message.header;
    let direction = if header.flags.response { "response" } else { "request" };
    let mut text = format!("{} {direction} {} [", header.exchange, header.message_id);
    for payload in &message.payloads {
        text.push(' ');
        text.push_str(&name(payload));
    }
    text.push_str(" ]");
    text
}

/// The one line, the SPIs, and a line for each payload with what it says.
pub fn details(message: &Message<'_>) -> String {
    let header = &message.header;
    let mut text = one_line(message);
    let spi = |spi: Option<super::spi::IkeSpi>| spi.map_or(0, super::spi::IkeSpi::value);
    let role = if header.flags.initiator { "original initiator" } else { "original responder" };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n  spi_i 0x{:016x} spi_r 0x{:016x} length {} from {role}",
        spi(header.initiator_spi),
        spi(header.responder_spi),
        header.length
    );
    for payload in &message.payloads {
        let _ = write!(text, "\n  {}: {}", name(payload), detail(payload));
    }
    text.push('\n');
    text
}

/// The notation of RFC 7296, with the type of a notification in brackets.
fn name(payload: &Payload<'_>) -> String {
    match payload {
        Payload::Notify(notify) => format!("N({})", notify.kind),
        other => other.kind().to_string(),
    }
}

fn detail(payload: &Payload<'_>) -> String {
    match payload {
        Payload::Sa(proposals) => {
            proposals.iter().map(proposal).collect::<Vec<_>>().join("; ")
        }
        Payload::Ke(ke) => format!("{} {} bytes", ke.method, ke.data.len()),
        Payload::IdI(id) | Payload::IdR(id) => format!("{} {}", id.kind, id_text(id.kind, id.data)),
        Payload::Cert(cert) => format!("{} {} bytes", cert.encoding, cert.data.len()),
        Payload::CertReq(request) => {
            format!("{} {} hashes", request.encoding, request.data.len() / 20)
        }
        Payload::Auth(auth) => format!("{} {} bytes", auth.method, auth.data.len()),
        Payload::Notify(notify) => {
            format!("{} spi {} bytes, {} bytes", notify.protocol, notify.spi.len(), notify.data.len())
        }
        Payload::Delete(delete) => format!("{} {} SPIs", delete.protocol, delete.count()),
        Payload::TsI(selectors) | Payload::TsR(selectors) => {
            selectors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        Payload::Sk(sk) => format!("first {}, {} bytes", sk.first_inner, sk.body.len()),
        Payload::Skf(skf) => {
            format!("first {}, {}/{}, {} bytes", skf.first_inner, skf.number, skf.total, skf.body.len())
        }
        Payload::Cp(cp) => {
            let attributes: Vec<String> = cp
                .attributes
                .iter()
                .map(|a| format!("{} {} bytes", a.kind, a.value.len()))
                .collect();
            format!("{} {}", cp.kind, attributes.join(", "))
        }
        Payload::Nonce(bytes) | Payload::VendorId(bytes) | Payload::Eap(bytes) => {
            format!("{} bytes", bytes.len())
        }
        Payload::Unknown(unknown) => format!("{} bytes", unknown.body.len()),
    }
}

fn proposal(proposal: &Proposal<'_>) -> String {
    let transforms: Vec<String> = proposal.transforms.iter().map(ToString::to_string).collect();
    format!("#{} {} {}", proposal.number, proposal.protocol, transforms.join(" "))
}

fn id_text(kind: IdType, data: &[u8]) -> String {
    match (kind, data.len()) {
        (IdType::FQDN | IdType::RFC822_ADDR, _) => data
            .iter()
            .map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' })
            .collect(),
        (_, len) => format!("{len} bytes"),
    }
}
