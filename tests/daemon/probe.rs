//! Single messages and their answers: an IKE_SA_INIT request that every policy of these tests meets
//! with INVALID_KE_PAYLOAD, so that it leaves no state and cannot be mistaken for anything else.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use iked::wire::registry::{
    EncrId, ExchangeType, KeId, NotifyType, PayloadType, PrfId, ProtocolId,
};
use iked::wire::spi::IkeSpi;
use iked::wire::{
    Flags, Header, Ke, Message, Payload, Proposal, Transform, TransformId, encode_message,
};

use super::client::MARKER;

/// The header of a first request.
pub(super) fn header(spi: u64) -> Header {
    Header {
        initiator_spi: IkeSpi::new(spi),
        responder_spi: None,
        next_payload: PayloadType::NONE,
        major: 2,
        minor: 0,
        exchange: ExchangeType::IKE_SA_INIT,
        flags: Flags {
            initiator: true,
            version: false,
            response: false,
        },
        message_id: 0,
        length: 0,
    }
}

/// An IKE_SA_INIT request with a KE payload of this method, offering it and two others, and with
/// more payloads.
pub(super) fn sa_init(spi: u64, method: KeId, public: &[u8], more: &[Payload<'_>]) -> Vec<u8> {
    let methods = [KeId::CURVE25519, KeId::ECP_256, method];
    let mut transforms = vec![
        Transform::new(TransformId::Encr(EncrId::AES_GCM_16), Some(128)),
        Transform::new(TransformId::Prf(PrfId::HMAC_SHA2_256), None),
    ];
    transforms.extend(methods.map(|id| Transform::new(TransformId::Ke(id), None)));
    let proposal = Proposal {
        number: 1,
        protocol: ProtocolId::IKE,
        spi: &[],
        transforms: transforms.into(),
    };
    let ke = Ke {
        method,
        data: public,
    };
    let nonce = [0x4e; 32];
    let mut payloads = vec![
        Payload::Sa([proposal].into()),
        Payload::Ke(ke),
        Payload::Nonce(&nonce),
    ];
    payloads.extend_from_slice(more);
    let mut out = Vec::new();
    encode_message(&header(spi), &payloads, &mut out);
    out
}

/// The request whose answer is INVALID_KE_PAYLOAD.
pub(super) fn wrong_ke(spi: u64) -> Vec<u8> {
    sa_init(spi, KeId::MODP_2048, &[0x4b; 256], &[])
}

/// Sends a message, with the marker where the port wants it.
pub(super) fn send(socket: &UdpSocket, to: SocketAddr, marker: bool, message: &[u8]) {
    let marker = if marker { MARKER } else { &[] };
    let datagram = [marker, message].concat();
    assert_eq!(socket.send_to(&datagram, to).unwrap(), datagram.len());
}

/// The next answer and who sent it.
pub(super) fn receive(socket: &UdpSocket, marker: bool) -> Option<(SocketAddr, Vec<u8>)> {
    socket.set_nonblocking(true).unwrap();
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 65_535];
    while Instant::now() < until {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let strip = if marker { MARKER.len() } else { 0 };
        assert_eq!(&buffer[..strip], &MARKER[..strip]);
        return Some((from, buffer[strip..len].to_vec()));
    }
    None
}

/// Asks with [`wrong_ke`]: the group the gateway wants, and the address that says so.
pub(super) fn ask(
    socket: &UdpSocket,
    to: SocketAddr,
    marker: bool,
    spi: u64,
) -> (KeId, SocketAddr) {
    send(socket, to, marker, &wrong_ke(spi));
    let (from, answer) = receive(socket, marker).unwrap_or_else(|| panic!("silence of {to}"));
    let (header, notify) = only_notify(&answer);
    assert_eq!(header.initiator_spi, IkeSpi::new(spi));
    assert_eq!(notify.0, NotifyType::INVALID_KE_PAYLOAD);
    let group = u16::from_be_bytes(notify.1.as_slice().try_into().unwrap());
    (KeId(group), from)
}

/// The header of a message in the clear and its only payload, a notification: type and data.
pub(super) fn only_notify(message: &[u8]) -> (Header, (NotifyType, Vec<u8>)) {
    let decoded = Message::decode(message).unwrap();
    let [Payload::Notify(notify)] = decoded.payloads.as_slice() else {
        panic!("{decoded:?}");
    };
    (decoded.header, (notify.kind, notify.data.to_vec()))
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
