//! An IKE_AUTH request as its responder reads it (RFC 7296, 1.2; RFC 6023).

use super::super::error::Error;
use super::super::ipcomp;
use super::ppk::{self, Said};
use super::sa_init::{find_notify, has_notify};
use crate::policy::Identity;
use crate::wire::registry::{CertEncoding, IdType, NotifyType};
use crate::wire::spi::Cpi;
use crate::wire::{Auth, Cp, DecodeError, DecodeErrorKind, Id, Payload, Proposal, TrafficSelector};

/// The payloads of a request, each at most once.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// IDi.
    pub id_i: Option<Id<'a>>,
    /// IDr.
    pub id_r: Option<Id<'a>>,
    /// AUTH; without it the peer wants EAP.
    pub auth: Option<Auth<'a>>,
    /// CERT, all of them.
    pub certs: Vec<(CertEncoding, &'a [u8])>,
    /// CERTREQ, all of them.
    pub cert_requests: Vec<(CertEncoding, &'a [u8])>,
    /// SA.
    pub proposals: Option<&'a [Proposal<'a>]>,
    /// TSi.
    pub ts_i: Option<&'a [TrafficSelector]>,
    /// TSr.
    pub ts_r: Option<&'a [TrafficSelector]>,
    /// CP.
    pub cp: Option<&'a Cp<'a>>,
    /// INITIAL_CONTACT was said.
    pub initial_contact: bool,
    /// USE_TRANSPORT_MODE was said.
    pub transport: bool,
    /// IPCOMP_SUPPORTED was said: the peer's CPI.
    pub ipcomp: Option<Cpi>,
    /// What was said of PPKs.
    pub ppk: Said<'a>,
    /// Data of SUPPORTED_AUTH_METHODS (RFC 9593).
    pub announced: Option<&'a [u8]>,
}

impl Request<'_> {
    /// It asks for an IKE SA alone (RFC 6023).
    pub fn is_childless(&self) -> bool {
        self.proposals.is_none() && self.ts_i.is_none() && self.ts_r.is_none()
    }
}

/// Reads the payloads. A missing one that nothing can replace is an error.
pub fn read<'a>(payloads: &'a [Payload<'a>]) -> Result<Request<'a>, Error> {
    let mut request = Request {
        initial_contact: has_notify(payloads, NotifyType::INITIAL_CONTACT),
        transport: has_notify(payloads, NotifyType::USE_TRANSPORT_MODE),
        ipcomp: ipcomp::said(payloads),
        ppk: ppk::said(payloads),
        announced: find_notify(payloads, NotifyType::SUPPORTED_AUTH_METHODS),
        ..Request::default()
    };
    for payload in payloads {
        let repeated = match payload {
            Payload::IdI(id) => request.id_i.replace(*id).is_some(),
            Payload::IdR(id) => request.id_r.replace(*id).is_some(),
            Payload::Auth(auth) => request.auth.replace(*auth).is_some(),
            Payload::Sa(list) => request.proposals.replace(list.as_slice()).is_some(),
            Payload::TsI(list) => request.ts_i.replace(list.as_slice()).is_some(),
            Payload::TsR(list) => request.ts_r.replace(list.as_slice()).is_some(),
            Payload::Cp(cp) => request.cp.replace(cp).is_some(),
            Payload::Cert(cert) => {
                request.certs.push((cert.encoding, cert.data));
                false
            }
            Payload::CertReq(asked) => {
                request.cert_requests.push((asked.encoding, asked.data));
                false
            }
            Payload::Ke(_)
            | Payload::Nonce(_)
            | Payload::Notify(_)
            | Payload::Delete(_)
            | Payload::VendorId(_)
            | Payload::Sk(_)
            | Payload::Skf(_)
            | Payload::Eap(_)
            | Payload::Unknown(_) => false,
        };
        if repeated {
            let kind = DecodeErrorKind::Duplicate;
            return Err(DecodeError {
                what: "payload",
                kind,
            }
            .into());
        }
    }
    // RFC 6023: all three or none.
    if request.is_childless() {
        return Ok(request);
    }
    for (there, name) in [
        (request.proposals.is_some(), "SA"),
        (request.ts_i.is_some(), "TSi"),
        (request.ts_r.is_some(), "TSr"),
    ] {
        if !there {
            return Err(Error::Missing(name));
        }
    }
    Ok(request)
}

/// The AUTH payload.
pub fn auth_in<'a>(payloads: &[Payload<'a>]) -> Option<Auth<'a>> {
    payloads.iter().find_map(|payload| {
        let Payload::Auth(auth) = payload else {
            return None;
        };
        Some(*auth)
    })
}

/// The EAP packet.
pub fn eap_in<'a>(payloads: &[Payload<'a>]) -> Option<&'a [u8]> {
    payloads.iter().find_map(|payload| {
        let Payload::Eap(packet) = payload else {
            return None;
        };
        Some(*packet)
    })
}

/// The identity behind an ID payload, if its data have a form its type allows.
pub fn identity(id: &Id<'_>) -> Option<Identity> {
    let good = match id.kind {
        IdType::IPV4_ADDR => id.data.len() == 4,
        IdType::IPV6_ADDR => id.data.len() == 16,
        _ => !id.data.is_empty() && id.data.len() <= IDENTITY_MAX,
    };
    good.then(|| Identity {
        kind: id.kind,
        data: id.data.to_vec(),
    })
}

/// Longest identity taken: an ASN.1 name of a few hundred bytes has room.
const IDENTITY_MAX: usize = 1024;
