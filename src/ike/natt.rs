//! NAT detection, RFC 7296, 2.23: hashes of the addresses as each side sees them.

use std::net::{IpAddr, SocketAddr};

use super::event::Path;
use crate::crypto::{Provider, Rng};
use crate::wire::registry::{NotifyType, ProtocolId};
use crate::wire::spi::IkeSpi;
use crate::wire::{Notify, Payload, TrafficSelector};

/// What NAT detection found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatState {
    /// Our address is translated on its way to the peer.
    pub local: bool,
    /// The peer's address is translated on its way to us.
    pub remote: bool,
    /// The peer sent the notifications at all, so it does NAT traversal.
    pub supported: bool,
}

impl NatState {
    /// Whether ESP goes in UDP.
    pub fn encapsulate(self) -> bool {
        self.local || self.remote
    }
}

/// Selectors of transport mode, ours and the peer's, by the addresses that packets have here (RFC
/// 7296, 2.23.1): who is behind a NAT, or talks to somebody behind one, knows other addresses.
/// Where one side names more than one address, that side stays as it is.
pub fn as_packets_have_them(
    nat: NatState,
    path: Path,
    ours: &[TrafficSelector],
    theirs: &[TrafficSelector],
) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
    let here = |translated, address: IpAddr, list: &[TrafficSelector]| {
        let single = |s: &TrafficSelector| s.start == s.end && s.is_ipv4() == address.is_ipv4();
        let mut list = list.to_vec();
        if translated && list.iter().all(single) {
            for selector in &mut list {
                (selector.start, selector.end) = (address, address);
            }
        }
        list
    };
    (
        here(nat.local, path.local.ip(), ours),
        here(nat.remote, path.remote.ip(), theirs),
    )
}

/// `SHA-1(SPIi | SPIr | address | port)`.
pub fn hash(
    provider: &Provider,
    initiator: IkeSpi,
    responder: Option<IkeSpi>,
    address: SocketAddr,
) -> [u8; 20] {
    let responder = responder.map_or([0; 8], IkeSpi::to_bytes);
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => {
            (provider.sha1)(&[&initiator.to_bytes(), &responder, &ip.octets(), &port])
        }
        IpAddr::V6(ip) => {
            (provider.sha1)(&[&initiator.to_bytes(), &responder, &ip.octets(), &port])
        }
    }
}

/// The two hashes we send: source and destination. `force` makes them wrong on purpose, so that
/// the peer sees a NAT and encapsulates (`-t`, `natt`).
pub fn hashes_to_send(
    provider: &Provider,
    rng: &mut Rng,
    force: bool,
    spis: (IkeSpi, Option<IkeSpi>),
    local: SocketAddr,
    remote: SocketAddr,
) -> [[u8; 20]; 2] {
    if force {
        return [rng.bytes::<20>(), rng.bytes::<20>()];
    }
    [
        hash(provider, spis.0, spis.1, local),
        hash(provider, spis.0, spis.1, remote),
    ]
}

/// The two notifications with these hashes.
pub fn notifications<'a>(hashes: &'a [[u8; 20]; 2]) -> [Payload<'a>; 2] {
    let [source, destination] = hashes;
    [
        notify(NotifyType::NAT_DETECTION_SOURCE_IP, source),
        notify(NotifyType::NAT_DETECTION_DESTINATION_IP, destination),
    ]
}

fn notify(kind: NotifyType, data: &[u8]) -> Payload<'_> {
    Payload::Notify(Notify {
        protocol: ProtocolId::NONE,
        spi: &[],
        kind,
        data,
    })
}

/// Compares what the peer sent with the addresses we see. Several source hashes may come: one
/// that fits is enough (RFC 7296, 2.23).
pub fn detect(
    provider: &Provider,
    payloads: &[Payload<'_>],
    spis: (IkeSpi, Option<IkeSpi>),
    local: SocketAddr,
    remote: SocketAddr,
) -> NatState {
    let (mut sources, mut source_fits) = (0, false);
    let (mut destinations, mut destination_fits) = (0, false);
    for payload in payloads {
        let Payload::Notify(notify) = payload else {
            continue;
        };
        if notify.kind == NotifyType::NAT_DETECTION_SOURCE_IP {
            sources += 1;
            source_fits |= notify.data == hash(provider, spis.0, spis.1, remote);
        } else if notify.kind == NotifyType::NAT_DETECTION_DESTINATION_IP {
            destinations += 1;
            destination_fits |= notify.data == hash(provider, spis.0, spis.1, local);
        }
    }
    let supported = sources > 0 && destinations > 0;
    NatState {
        local: supported && !destination_fits,
        remote: supported && !source_fits,
        supported,
    }
}
