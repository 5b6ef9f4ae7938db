//! Requests of the other direction (RFC 5176): a server wants a peer gone, or changes for how long it
//! may stay and how often that is to be reported. Nothing else of a peer that is in can be changed.

use std::net::IpAddr;
use std::time::Duration;

use super::attribute as a;
use super::packet::{Builder, Code, Fault, Packet};
use super::request::NAS_IDENTIFIER;

/// Whom a request is about: all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Acct-Session-Id.
    pub session: Option<u64>,
    /// User-Name.
    pub user: Option<Vec<u8>>,
    /// Framed-IP-Address and Framed-IPv6-Address.
    pub addresses: Vec<IpAddr>,
    /// Calling-Station-Id.
    pub remote: Option<IpAddr>,
}

/// What a peer that is in may do from now on; what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Session-Timeout: how long it may stay, from now.
    pub session_timeout: Option<Duration>,
    /// Acct-Interim-Interval: how often its use is to be reported.
    pub interim: Option<Duration>,
}

/// Why a request failed: Error-Cause (RFC 5176, 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something in it means nothing here.
    UnsupportedAttribute = 401,
    /// It says not whom it means.
    MissingAttribute = 402,
    /// It is for another gateway.
    NasIdentificationMismatch = 403,
    /// Not what we do: the peer would have to be authorised anew.
    UnsupportedService = 405,
    /// A value that cannot be.
    InvalidAttributeValue = 407,
    /// There is no such peer.
    SessionContextNotFound = 503,
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End all IKE SAs of this target.
    Disconnect(Target),
    /// Change what all IKE SAs of this target may do.
    Change(Target, Rights),
    /// Say no.
    Refuse(Cause),
}

/// Reads a request of a client that shares this secret; `at` is the time in seconds since 1970.
pub fn read(packet: &Packet<'_>, secret: &[u8], at: u64) -> Result<Order, Fault> {
    if packet.code != Code::DISCONNECT_REQUEST && packet.code != Code::COA_REQUEST {
        return Err(Fault::Code);
    }
    packet.verify_request(secret)?;
    // RFC 5176, 6.3: an old one is a replay, and gets no answer.
    if let Some(said) = packet.number(a::EVENT_TIMESTAMP)
        && at.abs_diff(said.into()) > AGE_MAX
    {
        return Err(Fault::Old);
    }
    Ok(order(packet).unwrap_or_else(Order::Refuse))
}

fn order(packet: &Packet<'_>) -> Result<Order, Cause> {
    let change = packet.code == Code::COA_REQUEST;
    let mut rights = Rights::default();
    let mut target = Target::default();
    for (kind, value) in packet.attributes() {
        match kind {
            a::ACCT_SESSION_ID => {
                let text = std::str::from_utf8(value).ok();
                let session = text.and_then(|text| u64::from_str_radix(text, 16).ok());
                // A name that is none of ours is nobody's.
                target.session = Some(session.ok_or(Cause::SessionContextNotFound)?);
            }
            a::USER_NAME => target.user = Some(value.to_vec()),
            a::FRAMED_IP_ADDRESS => {
                let octets = <[u8; 4]>::try_from(value);
                let octets = octets.map_err(|_| Cause::InvalidAttributeValue)?;
                target.addresses.push(octets.into());
            }
            a::FRAMED_IPV6_ADDRESS => {
                let octets = <[u8; 16]>::try_from(value);
                let octets = octets.map_err(|_| Cause::InvalidAttributeValue)?;
                target.addresses.push(octets.into());
            }
            a::CALLING_STATION_ID => {
                let text = std::str::from_utf8(value).ok();
                let address = text.and_then(|text| text.parse().ok());
                target.remote = Some(address.ok_or(Cause::SessionContextNotFound)?);
            }
            a::SERVICE_TYPE if change => return Err(Cause::UnsupportedService),
            a::SESSION_TIMEOUT if change => rights.session_timeout = Some(seconds(value)?),
            a::ACCT_INTERIM_INTERVAL if change => rights.interim = Some(seconds(value)?),
            a::NAS_IDENTIFIER if value != NAS_IDENTIFIER => {
                return Err(Cause::NasIdentificationMismatch);
            }
            a::NAS_IDENTIFIER | a::NAS_IP_ADDRESS | a::NAS_IPV6_ADDRESS => {}
            a::MESSAGE_AUTHENTICATOR | a::EVENT_TIMESTAMP | a::REPLY_MESSAGE => {}
            a::ACCT_TERMINATE_CAUSE | a::CLASS | a::STATE => {}
            _ => return Err(Cause::UnsupportedAttribute),
        }
    }
    if target == Target::default() || (change && rights == Rights::default()) {
        return Err(Cause::MissingAttribute);
    }
    Ok(if change {
        Order::Change(target, rights)
    } else {
        Order::Disconnect(target)
    })
}

/// A time that is not zero.
fn seconds(value: &[u8]) -> Result<Duration, Cause> {
    let octets = <[u8; 4]>::try_from(value).map_err(|_| Cause::InvalidAttributeValue)?;
    match u32::from_be_bytes(octets) {
        0 => Err(Cause::InvalidAttributeValue),
        seconds => Ok(Duration::from_secs(seconds.into())),
    }
}

/// The answer to a request: done, or why not.
pub fn answer(packet: &Packet<'_>, outcome: Result<(), Cause>, secret: &[u8]) -> Vec<u8> {
    let disconnect = packet.code == Code::DISCONNECT_REQUEST;
    let mut builder = Builder::default();
    let code = match outcome {
        Ok(()) if disconnect => Code::DISCONNECT_ACK,
        Ok(()) => Code::COA_ACK,
        Err(cause) => {
            builder.put_number(a::ERROR_CAUSE, cause as u32);
            if disconnect {
                Code::DISCONNECT_NAK
            } else {
                Code::COA_NAK
            }
        }
    };
    let request = &packet.authenticator;
    builder.answer(code, packet.identifier, request, secret, true)
}

/// Seconds that a request may be old, or the client's clock off.
const AGE_MAX: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"between us";
    const NOW: u64 = 1_700_000_000;

    fn judge(code: Code, fill: impl FnOnce(&mut Builder)) -> Result<Order, Fault> {
        let mut builder = Builder::default();
        fill(&mut builder);
        let bytes = builder.signed_request(code, 5, SECRET);
        read(&Packet::decode(&bytes)?, SECRET, NOW)
    }

    fn disconnect(fill: impl FnOnce(&mut Builder)) -> Result<Order, Fault> {
        judge(Code::DISCONNECT_REQUEST, fill)
    }

    #[test]
    fn a_target_is_all_that_is_said() {
        let order = disconnect(|builder| {
            builder.put(a::ACCT_SESSION_ID, b"00000000000012ab");
            builder.put(a::USER_NAME, b"alice");
            builder.put(a::FRAMED_IP_ADDRESS, &[10, 9, 0, 7]);
            builder.put(a::CALLING_STATION_ID, b"2001:db8::2");
            builder.put(a::NAS_IDENTIFIER, b"iked");
            builder.put_number(a::EVENT_TIMESTAMP, 1_700_000_299);
        });
        let target = Target {
            session: Some(0x12ab),
            user: Some(b"alice".to_vec()),
            addresses: vec!["10.9.0.7".parse().unwrap()],
            remote: Some("2001:db8::2".parse().unwrap()),
        };
        assert_eq!(order, Ok(Order::Disconnect(target)));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_cause() {
        type Fill = fn(&mut Builder);
        let cases: [(Fill, Cause); 6] = [
            (|_| (), Cause::MissingAttribute),
            (
                |builder| builder.put(a::NAS_IDENTIFIER, b"iked"),
                Cause::MissingAttribute,
            ),
            (
                |builder| builder.put(a::NAS_IDENTIFIER, b"other"),
                Cause::NasIdentificationMismatch,
            ),
            (
                |builder| builder.put(a::FRAMED_IP_ADDRESS, &[10, 9]),
                Cause::InvalidAttributeValue,
            ),
            (
                |builder| builder.put(a::ACCT_SESSION_ID, b"no number"),
                Cause::SessionContextNotFound,
            ),
            (
                |builder| builder.put(a::SESSION_TIMEOUT, &[0, 0, 0, 1]),
                Cause::UnsupportedAttribute,
            ),
        ];
        for (fill, cause) in cases {
            assert_eq!(disconnect(fill), Ok(Order::Refuse(cause)));
        }
    }

    #[test]
    fn of_what_a_peer_may_do_two_things_can_be_changed() {
        let change = |fill: &dyn Fn(&mut Builder)| {
            judge(Code::COA_REQUEST, |builder| {
                builder.put(a::USER_NAME, b"alice");
                fill(builder);
            })
        };
        let both = change(&|builder| {
            builder.put_number(a::SESSION_TIMEOUT, 60);
            builder.put_number(a::ACCT_INTERIM_INTERVAL, 90);
        });
        let target = Target {
            user: Some(b"alice".to_vec()),
            ..Target::default()
        };
        let rights = Rights {
            session_timeout: Some(Duration::from_secs(60)),
            interim: Some(Duration::from_secs(90)),
        };
        assert_eq!(both, Ok(Order::Change(target, rights)));
        type Fill = fn(&mut Builder);
        let cases: [(Fill, Cause); 5] = [
            (|_| (), Cause::MissingAttribute),
            (
                |builder| builder.put_number(a::SESSION_TIMEOUT, 0),
                Cause::InvalidAttributeValue,
            ),
            (
                |builder| builder.put(a::ACCT_INTERIM_INTERVAL, &[1, 2]),
                Cause::InvalidAttributeValue,
            ),
            (
                |builder| builder.put_number(a::SERVICE_TYPE, 17),
                Cause::UnsupportedService,
            ),
            // Filter-Id.
            (
                |builder| builder.put(11, b"all"),
                Cause::UnsupportedAttribute,
            ),
        ];
        for (fill, cause) in cases {
            assert_eq!(change(&fill), Ok(Order::Refuse(cause)));
        }
        let nobody = judge(Code::COA_REQUEST, |builder| {
            builder.put_number(a::SESSION_TIMEOUT, 60);
        });
        assert_eq!(nobody, Ok(Order::Refuse(Cause::MissingAttribute)));
    }

    #[test]
    fn what_is_old_or_signed_by_others_gets_no_answer() {
        for at in [1_699_999_699, 1_700_000_301] {
            let order = disconnect(|builder| {
                builder.put(a::USER_NAME, b"alice");
                builder.put_number(a::EVENT_TIMESTAMP, at);
            });
            assert_eq!(order, Err(Fault::Old));
        }
        let bytes = Builder::default().signed_request(Code::DISCONNECT_REQUEST, 5, b"another");
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(read(&packet, SECRET, NOW), Err(Fault::Authenticator));
        let bytes = Builder::default().signed_request(Code::ACCESS_ACCEPT, 5, SECRET);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(read(&packet, SECRET, NOW), Err(Fault::Code));
    }

    #[test]
    fn an_answer_belongs_to_its_request() {
        let bytes = Builder::default().signed_request(Code::DISCONNECT_REQUEST, 5, SECRET);
        let request = Packet::decode(&bytes).unwrap();
        let nak = answer(&request, Err(Cause::SessionContextNotFound), SECRET);
        let nak = Packet::decode(&nak).unwrap();
        assert_eq!((nak.code, nak.identifier), (Code::DISCONNECT_NAK, 5));
        assert_eq!(nak.number(a::ERROR_CAUSE), Some(503));
        let proof = &request.authenticator;
        assert_eq!(nak.verify_answer(SECRET, proof, true), Ok(()));
    }
}
