//! What a server says to an Access-Request: the next EAP packet, the key, and the peer's
//! configuration.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::attribute;
use super::packet::{Code, Fault, Packet};
use crate::crypto::SecretBytes;
use crate::crypto::md5::md5;
use crate::policy::radius::{MICROSOFT, Radius};
use crate::wire::registry::CfgAttrType;

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer must be asked more.
    Challenge,
    /// It may come in.
    Accept,
    /// It may not.
    Reject,
}

/// An answer that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which of the three.
    pub verdict: Verdict,
    /// The EAP packet for the peer; may be empty where the answer is final.
    pub eap: Vec<u8>,
    /// To be handed back with the next request.
    pub state: Option<Vec<u8>>,
    /// To be handed to the accounting server.
    pub class: Vec<Vec<u8>>,
    /// What the server calls the peer.
    pub user: Option<Vec<u8>>,
    /// The MSK, 64 bytes or more.
    pub msk: Option<SecretBytes>,
    /// What the peer gets.
    pub granted: Vec<(CfgAttrType, IpAddr)>,
    /// How long it may stay.
    pub session_timeout: Option<Duration>,
    /// How often its use is to be reported.
    pub interim: Option<Duration>,
}

impl Reply {
    /// Reads the answer to the request with this authenticator. Nothing in it counts unless all of
    /// it is protected.
    pub fn read(
        packet: &Packet<'_>,
        request: &[u8; 16],
        secret: &[u8],
        meanings: &Radius,
    ) -> Result<Self, Fault> {
        let verdict = match packet.code {
            Code::ACCESS_CHALLENGE => Verdict::Challenge,
            Code::ACCESS_ACCEPT => Verdict::Accept,
            Code::ACCESS_REJECT => Verdict::Reject,
            _ => return Err(Fault::Code),
        };
        packet.verify_answer(secret, request, true)?;
        let eap = packet.eap();
        if verdict == Verdict::Challenge && eap.is_empty() {
            return Err(Fault::Eap);
        }
        let seconds = |kind| {
            let number = packet.number(kind).filter(|number| *number > 0);
            number.map(|number| Duration::from_secs(number.into()))
        };
        let owned = |value: &[u8]| value.to_vec();
        let welcome = verdict == Verdict::Accept;
        let classes = packet.all(attribute::CLASS).take(CLASSES_MAX);
        Ok(Self {
            verdict,
            eap,
            state: packet.first(attribute::STATE).map(owned),
            class: classes.map(owned).collect(),
            user: packet.first(attribute::USER_NAME).map(owned),
            msk: if welcome {
                msk(packet, request, secret)?
            } else {
                None
            },
            granted: if welcome {
                granted(packet, meanings)
            } else {
                Vec::new()
            },
            session_timeout: seconds(attribute::SESSION_TIMEOUT),
            interim: seconds(attribute::ACCT_INTERIM_INTERVAL),
        })
    }
}

/// The MSK: MS-MPPE-Recv-Key, then MS-MPPE-Send-Key (RFC 3579, 3.16; RFC 2548, 2.4.2 and 2.4.3),
/// and zeros where a method has shorter ones.
fn msk(
    packet: &Packet<'_>,
    request: &[u8; 16],
    secret: &[u8],
) -> Result<Option<SecretBytes>, Fault> {
    let find = |wanted| {
        let mut all = packet.vendor();
        let found = all.find(|(vendor, kind, _)| (*vendor, *kind) == (MICROSOFT, wanted));
        found.map(|(_, _, value)| value)
    };
    let (Some(receive), Some(send)) = (find(MPPE_RECV_KEY), find(MPPE_SEND_KEY)) else {
        return Ok(None);
    };
    let receive = decrypt(receive, request, secret).ok_or(Fault::Key)?;
    let send = decrypt(send, request, secret).ok_or(Fault::Key)?;
    let mut key = Vec::with_capacity(2 * KEY_MAX);
    key.extend_from_slice(receive.expose());
    key.extend_from_slice(send.expose());
    if key.len() < MSK_LEN {
        key.resize(MSK_LEN, 0);
    }
    Ok(Some(SecretBytes::new(key)))
}

/// A key as RFC 2548, 2.4.2 hides it: a salt, then blocks under MD5 of secret and last block.
fn decrypt(value: &[u8], request: &[u8; 16], secret: &[u8]) -> Option<SecretBytes> {
    let (salt, hidden) = value.split_first_chunk::<2>()?;
    if hidden.is_empty() || hidden.len() % 16 != 0 {
        return None;
    }
    let mut pad = md5(&[secret, request, salt]);
    let mut plain = Vec::with_capacity(hidden.len());
    for block in hidden.chunks_exact(16) {
        plain.extend(block.iter().zip(pad).map(|(byte, pad)| byte ^ pad));
        pad = md5(&[secret, block]);
    }
    let plain = SecretBytes::new(plain);
    let (&length, rest) = plain.expose().split_first()?;
    let key = rest.get(..usize::from(length))?;
    (!key.is_empty()).then(|| SecretBytes::new(key.to_vec()))
}

/// The addresses that mean something to the peer's configuration.
fn granted(packet: &Packet<'_>, meanings: &Radius) -> Vec<(CfgAttrType, IpAddr)> {
    let interface = packet.first(attribute::FRAMED_INTERFACE_ID);
    let plain = packet
        .attributes()
        .filter(|(kind, _)| *kind != attribute::VENDOR_SPECIFIC)
        .map(|(kind, value)| (0, kind, value));
    let mut granted = Vec::new();
    for (vendor, kind, value) in plain.chain(packet.vendor()) {
        let address = if (vendor, kind) == (0, attribute::FRAMED_IPV6_PREFIX) {
            prefix(value, interface).map(IpAddr::V6)
        } else {
            address(value)
        };
        // RFC 2865, 5.8: the peer, or we, shall choose.
        let open = |address: IpAddr| {
            let numbers = ["255.255.255.255", "255.255.255.254"];
            kind == attribute::FRAMED_IP_ADDRESS && numbers.contains(&address.to_string().as_str())
        };
        let Some(address) = address.filter(|address| vendor != 0 || !open(*address)) else {
            continue;
        };
        let meaning = meanings.meaning(vendor, kind, address);
        if let Some(meaning) = meaning.filter(|_| granted.len() < GRANTED_MAX) {
            granted.push((meaning, address));
        }
    }
    granted
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(value).map(IpAddr::from);
    v4.or(v6).ok()
}

/// The one address that Framed-IPv6-Prefix (RFC 3162, 2.3) names, with Framed-Interface-Id's help
/// where it is half of one.
fn prefix(value: &[u8], interface: Option<&[u8]>) -> Option<Ipv6Addr> {
    let (&[_, length], written) = value.split_first_chunk::<2>()?;
    let mut octets = [0; 16];
    octets.get_mut(..written.len())?.copy_from_slice(written);
    match (length, interface) {
        (128, _) => {}
        (64, Some(interface)) if interface.len() == 8 => {
            octets.get_mut(8..)?.copy_from_slice(interface);
        }
        _ => return None,
    }
    Some(octets.into())
}

const MPPE_SEND_KEY: u8 = 16;
const MPPE_RECV_KEY: u8 = 17;
const MSK_LEN: usize = 64;
/// Longest key that one attribute holds.
const KEY_MAX: usize = 255;
/// More Class attributes than any server sends; each may have 253 bytes, kept as long as the IKE SA.
const CLASSES_MAX: usize = 8;
/// Addresses, servers and networks for one peer.
const GRANTED_MAX: usize = 32;
