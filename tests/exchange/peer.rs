//! An initiator made by hand, so that a test can send what no honest endpoint sends: it holds the
//! keys and seals whatever it is given.

use std::net::SocketAddr;
use std::ops::Range;

use iked::auth::{octets, psk};
use iked::crypto::keymat::{self, IkeKeys, IkeSuite};
use iked::crypto::{ActiveKeyExchange, MessageKey, Rng, boring};
use iked::ike::Path;
use iked::ike::negotiate::Chosen;
use iked::policy::{Identity, Proposal as Offer};
use iked::time::Now;
use iked::wire::registry::{
    AuthMethod, CfgAttrType, CfgType, ExchangeType, KeId, NotifyType, PayloadType, ProtocolId,
};
use iked::wire::sk::{self, SkFailure, SkKey};
use iked::wire::spi::IkeSpi;
use iked::wire::{
    Auth, CfgAttribute, Cp, Flags, Header, Id, Ke, Message, Notify, Payload, Proposal,
    TrafficSelector, decode_payloads, encode_message, encode_payloads,
};

use super::setup::{self, Suite};
use super::world::{Datagram, Host};

/// The initiator.
pub(super) struct Peer {
    pub(super) path: Path,
    pub(super) id: Identity,
    pub(super) secret: Vec<u8>,
    pub(super) spi_i: IkeSpi,
    pub(super) spi_r: Option<IkeSpi>,
    /// IKE_SA_INIT request and response.
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) nonce_i: Vec<u8>,
    pub(super) nonce_r: Vec<u8>,
    pub(super) keys: Option<IkeKeys>,
    /// Message ID of the next request.
    pub(super) next_id: u32,
    /// SPI of our inbound Child SA.
    pub(super) esp_spi: [u8; 4],
    method: KeId,
    offer: Offer,
    kex: Option<Box<dyn ActiveKeyExchange>>,
    rng: Rng,
    sealed: u64,
}

/// A message that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) header: Header,
    first: PayloadType,
    plaintext: Vec<u8>,
}

impl Opened {
    pub(super) fn payloads(&self) -> Vec<Payload<'_>> {
        decode_payloads(self.first, &self.plaintext)
            .unwrap()
            .to_vec()
    }

    /// The types of all notifications.
    pub(super) fn notifies(&self) -> Vec<NotifyType> {
        let kind = |payload: &Payload<'_>| match payload {
            Payload::Notify(notify) => Some(notify.kind),
            _ => None,
        };
        self.payloads().iter().filter_map(kind).collect()
    }

    /// Whether a payload of this type is there.
    pub(super) fn has(&self, kind: PayloadType) -> bool {
        self.payloads().iter().any(|payload| payload.kind() == kind)
    }

    /// The address in the CFG_REPLY.
    pub(super) fn address(&self) -> Option<Vec<u8>> {
        self.payloads().iter().find_map(|payload| match payload {
            Payload::Cp(cp) => cp
                .attributes
                .iter()
                .find(|a| a.kind == CfgAttrType::INTERNAL_IP4_ADDRESS)
                .map(|a| a.value.to_vec()),
            _ => None,
        })
    }

    /// The responder's SPI of the Child SA.
    pub(super) fn esp_spi(&self) -> Vec<u8> {
        let spi = self.payloads().iter().find_map(|payload| match payload {
            Payload::Sa(list) => Some(list[0].spi.to_vec()),
            _ => None,
        });
        spi.unwrap()
    }
}

impl Peer {
    /// An initiator with everything drawn from `seed`, at the road warrior's address.
    pub(super) fn new(seed: u8) -> Self {
        Self::with(seed, setup::ike(Suite::AesGcm, &[KeId::CURVE25519]))
    }

    /// One that offers this and sends a key exchange value of its first method.
    pub(super) fn with(seed: u8, offer: Offer) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let method = methods(&offer)[0];
        let mut peer = Self {
            path: Path {
                local: SocketAddr::new(setup::WARRIOR, 500),
                remote: SocketAddr::new(setup::GATEWAY, 500),
                marker: false,
            },
            id: setup::fqdn("warrior.example"),
            secret: setup::SECRET.to_vec(),
            spi_i: IkeSpi::new(rng.u64() | 1).unwrap(),
            spi_r: None,
            request: Vec::new(),
            response: Vec::new(),
            nonce_i: rng.bytes::<32>().to_vec(),
            nonce_r: Vec::new(),
            keys: None,
            next_id: 1,
            esp_spi: rng.bytes::<4>(),
            method,
            offer,
            kex: None,
            rng,
            sealed: 0,
        };
        peer.send_key(method);
        peer
    }

    /// Draws a key pair of this method for the next request.
    pub(super) fn send_key(&mut self, method: KeId) {
        let exchange = boring::provider().key_exchange(method).unwrap();
        self.kex = Some(exchange.start(&mut self.rng).unwrap());
        self.method = method;
    }

    /// The IKE_SA_INIT request; `first` and `last` are payloads before and after the usual three.
    pub(super) fn sa_init(&mut self, first: &[Payload<'_>], last: &[Payload<'_>]) -> Vec<u8> {
        let kex = self.kex.as_ref().unwrap();
        let proposal = Proposal {
            number: 1,
            protocol: ProtocolId::IKE,
            spi: &[],
            transforms: self.offer.transforms.clone().into(),
        };
        let mut payloads = first.to_vec();
        payloads.extend([
            Payload::Sa([proposal].into()),
            Payload::Ke(Ke {
                method: self.method,
                data: kex.public(),
            }),
            Payload::Nonce(&self.nonce_i),
        ]);
        payloads.extend_from_slice(last);
        let mut bytes = Vec::new();
        let header = self.header(ExchangeType::IKE_SA_INIT, 0);
        encode_message(&header, &payloads, &mut bytes);
        self.request = bytes.clone();
        bytes
    }

    /// Takes the IKE_SA_INIT response and derives the keys.
    pub(super) fn take_sa_init(&mut self, response: &[u8]) {
        let message = Message::decode(response).unwrap();
        self.spi_r = message.header.responder_spi;
        let mut transforms = Vec::new();
        let mut public = Vec::new();
        for payload in &message.payloads {
            match payload {
                Payload::Sa(list) => transforms = list[0].transforms.to_vec(),
                Payload::Ke(ke) => public = ke.data.to_vec(),
                Payload::Nonce(nonce) => self.nonce_r = nonce.to_vec(),
                _ => {}
            }
        }
        let suite = suite(transforms);
        let kex = self.kex.take().unwrap();
        let shared = kex.complete(&public).unwrap();
        let (ni, nr) = (&self.nonce_i, &self.nonce_r);
        let seed = keymat::skeyseed(suite.prf, ni, nr, shared.expose());
        let spi_r = self.spi_r.unwrap();
        let keys = IkeKeys::derive(&suite, seed.expose(), ni, nr, self.spi_i, spi_r).unwrap();
        self.keys = Some(keys);
        self.response = response.to_vec();
    }

    /// IKE_SA_INIT with `host`, both messages.
    pub(super) fn meet(&mut self, host: &mut Host, now: Now) {
        self.meet_with(host, now, &[]);
    }

    /// The same with more payloads in the request.
    pub(super) fn meet_with(&mut self, host: &mut Host, now: Now, last: &[Payload<'_>]) {
        let request = self.sa_init(&[], last);
        let answers = self.send(host, now, &request);
        let [response] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        self.take_sa_init(&response.bytes);
    }

    /// Sends bytes from where the initiator is.
    pub(super) fn send(&self, host: &mut Host, now: Now, bytes: &[u8]) -> Vec<Datagram> {
        host.receive(now, super::world::mirrored(self.path), bytes)
    }

    /// Seals a request with the next Message ID, sends it, and opens the one answer.
    pub(super) fn ask(
        &mut self,
        host: &mut Host,
        now: Now,
        exchange: ExchangeType,
        payloads: &[Payload<'_>],
    ) -> Opened {
        let request = self.seal(exchange, payloads);
        let answers = self.send(host, now, &request);
        let [response] = answers.as_slice() else {
            panic!("{answers:?} {:?}", host.lines)
        };
        assert_eq!(response.path, super::world::mirrored(self.path));
        self.open(&response.bytes)
    }

    /// IKE_AUTH with everything as the gateway wants it.
    pub(super) fn log_in(&mut self, host: &mut Host, now: Now) -> Opened {
        let payloads = self.auth_payloads();
        self.ask(host, now, ExchangeType::IKE_AUTH, &payloads.borrow())
    }

    /// The usual payloads of IKE_AUTH, to be changed by the test.
    pub(super) fn auth_payloads(&self) -> AuthPayloads {
        let keys = self.keys.as_ref().unwrap();
        let prf = boring::provider()
            .prf(iked::wire::registry::PrfId::HMAC_SHA2_256)
            .unwrap();
        let id = Id {
            kind: self.id.kind,
            data: &self.id.data,
        };
        let (nonce, sk_pi) = (&self.nonce_r, keys.sk_pi.expose());
        let octets = octets::signed_octets(&self.request, nonce, prf, sk_pi, &id.body());
        AuthPayloads {
            id: self.id.clone(),
            auth: Some((
                AuthMethod::SHARED_KEY,
                psk::shared_key_auth(prf, &self.secret, &octets),
            )),
            child: Some(setup::esp(Suite::AesGcm)),
            esp_spi: self.esp_spi,
            ts_i: vec![range("10.2.0.0", "10.2.255.255")],
            ts_r: vec![range("10.1.0.0", "10.1.255.255")],
            ask_address: false,
            notifies: Vec::new(),
        }
    }

    /// The header of a request.
    pub(super) fn header(&self, exchange: ExchangeType, message_id: u32) -> Header {
        Header {
            initiator_spi: Some(self.spi_i),
            responder_spi: self.spi_r,
            next_payload: PayloadType::NONE,
            major: 2,
            minor: 0,
            exchange,
            flags: Flags {
                initiator: true,
                version: false,
                response: false,
            },
            message_id,
            length: 0,
        }
    }

    /// Seals a request with the next Message ID.
    pub(super) fn seal(&mut self, exchange: ExchangeType, payloads: &[Payload<'_>]) -> Vec<u8> {
        let header = self.header(exchange, self.next_id);
        self.next_id += 1;
        self.seal_as(&header, payloads)
    }

    /// Seals under any header.
    pub(super) fn seal_as(&mut self, header: &Header, payloads: &[Payload<'_>]) -> Vec<u8> {
        let mut plaintext = Vec::new();
        let first = encode_payloads(payloads, &mut plaintext);
        self.seal_bytes(header, first, &plaintext)
    }

    /// Seals any bytes as the inside of an SK payload.
    pub(super) fn seal_bytes(
        &mut self,
        header: &Header,
        first: PayloadType,
        plaintext: &[u8],
    ) -> Vec<u8> {
        self.sealed += 1;
        let key = self.keys.as_ref().unwrap().initiator.as_ref();
        let header = Header {
            next_payload: PayloadType::SK,
            ..*header
        };
        let mut message = Vec::new();
        header.encode(&mut message);
        message.extend([first.0, 0, 0, 0]);
        let iv_at = message.len();
        message.resize(iv_at + key.iv_len(), 0);
        message.extend_from_slice(plaintext);
        let block = key.block_len();
        let pad = (block - (plaintext.len() + 1) % block) % block;
        message.resize(message.len() + pad, 0);
        message.push(u8::try_from(pad).unwrap());
        let length = message.len() + key.icv_len();
        let payload = u16::try_from(length - Header::LEN).unwrap();
        message[24..28].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        message[30..32].copy_from_slice(&payload.to_be_bytes());
        key.seal(&mut message, iv_at, self.sealed, &mut self.rng)
            .unwrap();
        message
    }

    /// Seals a request with the next Message ID in fragments of at most this many bytes.
    pub(super) fn seal_fragments(
        &mut self,
        exchange: ExchangeType,
        payloads: &[Payload<'_>],
        datagram_max: usize,
    ) -> Vec<Vec<u8>> {
        let header = self.header(exchange, self.next_id);
        self.next_id += 1;
        self.seal_fragments_as(&header, payloads, datagram_max)
    }

    /// The same under any header.
    pub(super) fn seal_fragments_as(
        &mut self,
        header: &Header,
        payloads: &[Payload<'_>],
        datagram_max: usize,
    ) -> Vec<Vec<u8>> {
        let mut key = Key {
            key: self.keys.as_ref().unwrap().initiator.as_ref(),
            sealed: &mut self.sealed,
            rng: &mut self.rng,
        };
        let mut out = Vec::new();
        sk::seal_fragments(header, payloads, &mut key, datagram_max, &mut out).unwrap();
        out
    }

    /// Opens what the responder sealed.
    pub(super) fn open(&self, datagram: &[u8]) -> Opened {
        open_with(self.keys.as_ref().unwrap().responder.as_ref(), datagram)
    }
}

/// The payloads of an IKE_AUTH request, owned.
#[derive(Clone, Debug)]
pub(super) struct AuthPayloads {
    pub(super) id: Identity,
    pub(super) auth: Option<(AuthMethod, Vec<u8>)>,
    pub(super) child: Option<Offer>,
    pub(super) esp_spi: [u8; 4],
    pub(super) ts_i: Vec<TrafficSelector>,
    pub(super) ts_r: Vec<TrafficSelector>,
    pub(super) ask_address: bool,
    pub(super) notifies: Vec<NotifyType>,
}

impl AuthPayloads {
    pub(super) fn borrow(&self) -> Vec<Payload<'_>> {
        let mut payloads = vec![Payload::IdI(Id {
            kind: self.id.kind,
            data: &self.id.data,
        })];
        if let Some((method, data)) = &self.auth {
            payloads.push(Payload::Auth(Auth {
                method: *method,
                data,
            }));
        }
        if self.ask_address {
            payloads.push(Payload::Cp(Cp {
                kind: CfgType::REQUEST,
                attributes: [CfgAttribute {
                    kind: CfgAttrType::INTERNAL_IP4_ADDRESS,
                    value: &[],
                }]
                .into(),
            }));
        }
        if let Some(child) = &self.child {
            payloads.push(Payload::Sa(
                [Proposal {
                    number: 1,
                    protocol: ProtocolId::ESP,
                    spi: &self.esp_spi,
                    transforms: child.transforms.clone().into(),
                }]
                .into(),
            ));
        }
        payloads.push(Payload::TsI(self.ts_i.clone().into()));
        payloads.push(Payload::TsR(self.ts_r.clone().into()));
        payloads.extend(self.notifies.iter().map(|&kind| status(kind, &[])));
        payloads
    }
}

/// A notification about the IKE SA.
pub(super) fn status(kind: NotifyType, data: &[u8]) -> Payload<'_> {
    Payload::Notify(Notify {
        protocol: ProtocolId::NONE,
        spi: &[],
        kind,
        data,
    })
}

/// All protocols and ports of a range of addresses.
pub(super) fn range(start: &str, end: &str) -> TrafficSelector {
    TrafficSelector {
        protocol: 0,
        start_port: 0,
        end_port: u16::MAX,
        start: start.parse().unwrap(),
        end: end.parse().unwrap(),
    }
}

/// The first notification of an unprotected message.
pub(super) fn clear_notify(datagram: &Datagram) -> (NotifyType, Vec<u8>) {
    let message = Message::decode(&datagram.bytes).unwrap();
    assert!(message.header.flags.response);
    let [Payload::Notify(notify)] = message.payloads.as_slice() else {
        panic!("{message:?}")
    };
    (notify.kind, notify.data.to_vec())
}

fn methods(offer: &Offer) -> Vec<KeId> {
    let method = |t: &iked::wire::Transform| match t.id {
        iked::wire::TransformId::Ke(id) => Some(id),
        _ => None,
    };
    offer.transforms.iter().filter_map(method).collect()
}

fn suite(transforms: Vec<iked::wire::Transform>) -> IkeSuite {
    let chosen = Chosen {
        number: 1,
        protocol: ProtocolId::IKE,
        spi: Vec::new(),
        transforms,
    };
    chosen.ike_suite(&boring::provider()).unwrap()
}

/// Seals a message with any key; `sealed` counts on.
pub(super) fn seal_with(
    key: &dyn MessageKey,
    sealed: &mut u64,
    header: &Header,
    payloads: &[Payload<'_>],
) -> Vec<u8> {
    let mut key = Key {
        key,
        sealed,
        rng: &mut Rng::from_seed([0; 32]),
    };
    let mut out = Vec::new();
    sk::seal_message(header, payloads, &mut key, &mut out).unwrap();
    out
}

/// Opens a message with any key.
pub(super) fn open_with(key: &dyn MessageKey, datagram: &[u8]) -> Opened {
    let mut bytes = datagram.to_vec();
    let message = Message::decode(datagram).unwrap();
    let Some(Payload::Sk(body)) = message.payloads.last() else {
        panic!("not encrypted: {message:?}")
    };
    let key = Key {
        key,
        sealed: &mut 0,
        rng: &mut Rng::from_seed([0; 32]),
    };
    let range = sk::open_sk(&mut bytes, body.body_at, &key).expect("sealed with this key");
    Opened {
        header: message.header,
        first: body.first_inner,
        plaintext: bytes[range].to_vec(),
    }
}

struct Key<'a> {
    key: &'a dyn MessageKey,
    sealed: &'a mut u64,
    rng: &'a mut Rng,
}

impl SkKey for Key<'_> {
    fn iv_len(&self) -> usize {
        self.key.iv_len()
    }

    fn block_len(&self) -> usize {
        self.key.block_len()
    }

    fn icv_len(&self) -> usize {
        self.key.icv_len()
    }

    fn seal(&mut self, message: &mut Vec<u8>, iv_at: usize) -> Result<(), SkFailure> {
        *self.sealed += 1;
        self.key
            .seal(message, iv_at, *self.sealed, self.rng)
            .map_err(|_| SkFailure)
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, SkFailure> {
        self.key.open(message, iv_at).map_err(|_| SkFailure)
    }
}
