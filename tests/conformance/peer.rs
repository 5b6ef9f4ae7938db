//! The other end of a case: it holds the keys and seals what the case says, right or wrong, in either
//! role.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use iked::auth::{octets, psk};
use iked::crypto::keymat::{self, IkeKeys, IkeSuite};
use iked::crypto::{ActiveKeyExchange, MessageKey, Rng, null};
use iked::ike::negotiate::Chosen;
use iked::ike::{Path, Role, natt};
use iked::policy::Identity;
use iked::wire::registry::{AuthMethod, ExchangeType, KeId, PayloadType, ProtocolId};
use iked::wire::sk::{self, SkFailure, SkKey};
use iked::wire::spi::IkeSpi;
use iked::wire::{Flags, Header, Id, Message, Payload, Transform, decode_payloads};

use super::setup;

/// The peer.
pub(super) struct Peer {
    /// The role of the peer in the IKE SA.
    pub(super) role: Role,
    /// As the peer sees it.
    pub(super) path: Path,
    pub(super) id: Identity,
    pub(super) own_spi: IkeSpi,
    pub(super) other_spi: Option<IkeSpi>,
    /// Message ID of the peer's next request.
    pub(super) next_id: u32,
    /// The last message of the other side, opened.
    pub(super) heard: Option<Heard>,
    /// The last request of the other side.
    pub(super) asked: Option<Heard>,
    /// The last COOKIE or COOKIE2 seen.
    pub(super) cookie: Vec<u8>,
    /// Names of SPIs in the case: `theirs`, `ours`, and so on.
    pub(super) names: BTreeMap<String, Vec<u8>>,
    pub(super) nonce: Vec<u8>,
    pub(super) method: KeId,
    pub(super) rng: Rng,
    other_nonce: Vec<u8>,
    kex: Option<Box<dyn ActiveKeyExchange>>,
    keys: Option<IkeKeys>,
    suite: Option<IkeSuite>,
    request: Vec<u8>,
    response: Vec<u8>,
    sealed: u64,
}

/// A message that was opened.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) header: Header,
    pub(super) first: PayloadType,
    pub(super) plaintext: Vec<u8>,
}

impl Heard {
    pub(super) fn payloads(&self) -> Vec<Payload<'_>> {
        decode_payloads(self.first, &self.plaintext)
            .unwrap()
            .to_vec()
    }
}

/// One payload as bytes, without its generic header.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) kind: PayloadType,
    pub(super) critical: bool,
    pub(super) body: Vec<u8>,
}

impl Raw {
    pub(super) fn of(payload: &Payload<'_>) -> Self {
        let mut bytes = Vec::new();
        let kind = iked::wire::encode_payloads(std::slice::from_ref(payload), &mut bytes);
        Self {
            kind,
            critical: false,
            body: bytes.split_off(4),
        }
    }
}

/// The payloads one after the other, and the type of the first.
pub(super) fn chain(payloads: &[Raw]) -> (PayloadType, Vec<u8>) {
    let mut bytes = Vec::new();
    for (at, payload) in payloads.iter().enumerate() {
        let next = payloads.get(at + 1).map_or(0, |next| next.kind.0);
        let length = u16::try_from(payload.body.len() + 4).unwrap();
        bytes.extend([next, if payload.critical { 0x80 } else { 0 }]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(&payload.body);
    }
    let first = payloads.first().map_or(PayloadType::NONE, |raw| raw.kind);
    (first, bytes)
}

impl Peer {
    pub(super) fn new(role: Role, seed: u8) -> Self {
        let mut rng = Rng::from_seed([seed ^ 0x55; 32]);
        let (own, other, name) = match role {
            Role::OriginalInitiator => (setup::WARRIOR, setup::GATEWAY, "warrior.example"),
            Role::OriginalResponder => (setup::GATEWAY, setup::WARRIOR, "gateway.example"),
        };
        let mut names = BTreeMap::new();
        for number in 1..9u8 {
            let name = if number == 1 {
                "theirs".to_owned()
            } else {
                format!("theirs{number}")
            };
            names.insert(name, vec![0, 0, 0xb0, number]);
        }
        Self {
            role,
            path: Path {
                local: SocketAddr::new(own, 500),
                remote: SocketAddr::new(other, 500),
                marker: false,
            },
            id: setup::fqdn(name),
            own_spi: IkeSpi::from_bytes([0xbb; 8]).unwrap(),
            other_spi: None,
            next_id: 0,
            heard: None,
            asked: None,
            cookie: Vec::new(),
            names,
            nonce: rng.bytes::<32>().to_vec(),
            method: KeId::CURVE25519,
            rng,
            other_nonce: Vec::new(),
            kex: None,
            keys: None,
            suite: None,
            request: Vec::new(),
            response: Vec::new(),
            sealed: 1,
        }
    }

    /// Forgets the IKE SA, for another one with this SPI.
    pub(super) fn begin_anew(&mut self, own_spi: IkeSpi) {
        self.own_spi = own_spi;
        self.other_spi = None;
        self.keys = None;
        self.request.clear();
        self.response.clear();
    }

    /// The public value of a fresh key pair of this method.
    pub(super) fn key_pair(&mut self, method: KeId) -> Vec<u8> {
        let exchange = null::provider().key_exchange(method).unwrap();
        let pair = exchange.start(&mut self.rng).unwrap();
        let public = pair.public().to_vec();
        self.kex = Some(pair);
        self.method = method;
        public
    }

    /// The header of a message of the peer.
    pub(super) fn header(&self, exchange: ExchangeType, response: bool, id: u32) -> Header {
        let initiator = self.role == Role::OriginalInitiator;
        let (own, other) = (Some(self.own_spi), self.other_spi);
        Header {
            initiator_spi: if initiator { own } else { other },
            responder_spi: if initiator { other } else { own },
            next_payload: PayloadType::NONE,
            major: 2,
            minor: 0,
            exchange,
            flags: Flags {
                initiator,
                version: false,
                response,
            },
            message_id: id,
            length: 0,
        }
    }

    /// A message in the clear.
    pub(super) fn clear(&mut self, header: &Header, payloads: &[Raw]) -> Vec<u8> {
        let (first, body) = chain(payloads);
        let length = u32::try_from(Header::LEN + body.len()).unwrap();
        let mut bytes = Vec::new();
        let header = Header {
            next_payload: first,
            ..*header
        };
        header.encode(&mut bytes);
        bytes.extend(body);
        bytes[24..28].copy_from_slice(&length.to_be_bytes());
        if header.exchange == ExchangeType::IKE_SA_INIT {
            match self.role {
                Role::OriginalInitiator => self.request = bytes.clone(),
                Role::OriginalResponder => self.response = bytes.clone(),
            }
            self.derive();
        }
        bytes
    }

    /// A message sealed; in several pieces where `pieces` says so.
    pub(super) fn seal(
        &mut self,
        header: &Header,
        payloads: &[Raw],
        pieces: Option<&[(u16, u16)]>,
        wrong: bool,
    ) -> Vec<Vec<u8>> {
        let (first, plaintext) = chain(payloads);
        let Some(pieces) = pieces else {
            return vec![self.seal_piece(header, first, &plaintext, None, wrong)];
        };
        let seal = |&(number, total): &(u16, u16)| {
            let share = plaintext.len().div_ceil(usize::from(total.max(1)));
            let from = share * usize::from(number.max(1) - 1);
            let part = plaintext.get(from..).unwrap_or(&[]);
            let part = &part[..share.min(part.len())];
            let first = if number == 1 {
                first
            } else {
                PayloadType::NONE
            };
            self.seal_piece(header, first, part, Some((number, total)), wrong)
        };
        pieces.iter().map(seal).collect()
    }

    fn seal_piece(
        &mut self,
        header: &Header,
        first: PayloadType,
        plaintext: &[u8],
        numbers: Option<(u16, u16)>,
        wrong: bool,
    ) -> Vec<u8> {
        let keys = self.keys.as_ref().expect("keys");
        // The wrong keys are those of the other direction.
        let initiator = (self.role == Role::OriginalInitiator) != wrong;
        let key = if initiator {
            &keys.initiator
        } else {
            &keys.responder
        };
        let next_payload = match numbers {
            None => PayloadType::SK,
            Some(_) => PayloadType::SKF,
        };
        let mut message = Vec::new();
        let header = Header {
            next_payload,
            ..*header
        };
        header.encode(&mut message);
        message.extend([first.0, 0, 0, 0]);
        if let Some((number, total)) = numbers {
            message.extend([number.to_be_bytes(), total.to_be_bytes()].concat());
        }
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
        self.sealed += 1;
        key.seal(&mut message, iv_at, self.sealed, &mut self.rng)
            .unwrap();
        message
    }

    /// Opens what the other side sent; `None` for a fragment.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Option<Heard> {
        let message = Message::decode(bytes).unwrap();
        let header = message.header;
        let is_init = header.exchange == ExchangeType::IKE_SA_INIT;
        let (first, plaintext) = match message.payloads.last() {
            Some(Payload::Sk(body)) => {
                let mut bytes = bytes.to_vec();
                let key = Key(self.inbound());
                let range = sk::open_sk(&mut bytes, body.body_at, &key).expect("sealed by us");
                (body.first_inner, bytes[range].to_vec())
            }
            Some(Payload::Skf(_)) => return None,
            _ => (header.next_payload, bytes[Header::LEN..].to_vec()),
        };
        let heard = Heard {
            header,
            first,
            plaintext,
        };
        if is_init {
            self.take_init(&heard, bytes);
        }
        for payload in heard.payloads() {
            if let Payload::Notify(notify) = payload
                && matches!(notify.kind.0, 16390 | 16401)
            {
                self.cookie = notify.data.to_vec();
            }
        }
        if !header.flags.response {
            self.asked = Some(heard.clone());
        }
        self.heard = Some(heard.clone());
        Some(heard)
    }

    fn inbound(&self) -> &dyn MessageKey {
        let keys = self.keys.as_ref().expect("keys");
        match self.role {
            Role::OriginalInitiator => keys.responder.as_ref(),
            Role::OriginalResponder => keys.initiator.as_ref(),
        }
    }

    fn take_init(&mut self, heard: &Heard, bytes: &[u8]) {
        match self.role {
            Role::OriginalInitiator => {
                self.response = bytes.to_vec();
                self.other_spi = heard.header.responder_spi;
            }
            Role::OriginalResponder => {
                self.request = bytes.to_vec();
                self.other_spi = heard.header.initiator_spi;
            }
        }
        self.derive();
    }

    /// The keys, once both messages of IKE_SA_INIT are there and have what it takes.
    fn derive(&mut self) {
        let (Ok(request), Ok(response)) = (
            Message::decode(&self.request),
            Message::decode(&self.response),
        ) else {
            return;
        };
        let (theirs, accepted) = match self.role {
            Role::OriginalInitiator => (&response, &response),
            Role::OriginalResponder => (&request, &response),
        };
        let find = |message: &Message<'_>| {
            let (mut nonce, mut ke) = (None, None);
            for payload in &message.payloads {
                match payload {
                    Payload::Nonce(value) => nonce = Some(value.to_vec()),
                    Payload::Ke(value) => ke = Some(value.data.to_vec()),
                    _ => {}
                }
            }
            Some((nonce?, ke?))
        };
        let Some(transforms) = accepted.payloads.iter().find_map(|payload| match payload {
            Payload::Sa(list) => Some(list.first()?.transforms.to_vec()),
            _ => None,
        }) else {
            return;
        };
        let (Some((other_nonce, public)), Some(suite)) = (find(theirs), suite(transforms)) else {
            return;
        };
        let Some(shared) = self.kex.as_ref().and_then(|kex| kex.complete(&public).ok()) else {
            return;
        };
        self.other_nonce = other_nonce;
        let (ni, nr) = self.nonces();
        let seed = keymat::skeyseed(suite.prf, &ni, &nr, shared.expose());
        let spis = (self.own_spi, self.other_spi.unwrap());
        let (spi_i, spi_r) = match self.role {
            Role::OriginalInitiator => spis,
            Role::OriginalResponder => (spis.1, spis.0),
        };
        self.keys = IkeKeys::derive(&suite, seed.expose(), &ni, &nr, spi_i, spi_r).ok();
        self.suite = Some(suite);
    }

    fn nonces(&self) -> (Vec<u8>, Vec<u8>) {
        let (own, other) = (self.nonce.clone(), self.other_nonce.clone());
        match self.role {
            Role::OriginalInitiator => (own, other),
            Role::OriginalResponder => (other, own),
        }
    }

    /// The peer's proof with the pre-shared key.
    pub(super) fn auth(&self) -> (AuthMethod, Vec<u8>) {
        let (keys, suite) = (self.keys.as_ref().unwrap(), self.suite.as_ref().unwrap());
        let (message, sk_p) = match self.role {
            Role::OriginalInitiator => (&self.request, &keys.sk_pi),
            Role::OriginalResponder => (&self.response, &keys.sk_pr),
        };
        let id = Id {
            kind: self.id.kind,
            data: &self.id.data,
        };
        let nonce = &self.other_nonce;
        let octets = octets::signed_octets(message, nonce, suite.prf, sk_p.expose(), &id.body());
        let mac = psk::shared_key_auth(suite.prf, setup::SECRET, &octets);
        (AuthMethod::SHARED_KEY, mac)
    }

    /// NAT detection hashes as they should be: of this end, of the other.
    pub(super) fn nat_hashes(&self) -> [[u8; 20]; 2] {
        let provider = null::provider();
        let spis = match self.role {
            Role::OriginalInitiator => (self.own_spi, self.other_spi),
            Role::OriginalResponder => (self.other_spi.unwrap(), Some(self.own_spi)),
        };
        [self.path.local, self.path.remote]
            .map(|address| natt::hash(&provider, spis.0, spis.1, address))
    }

    /// Takes note of an SPI of the other side; its name in the case. Those of the other side begin
    /// with its shard, which is not 0.
    pub(super) fn name_of(&mut self, spi: &[u8]) -> Option<String> {
        if let Some((name, _)) = self.names.iter().find(|(_, known)| known.as_slice() == spi) {
            return Some(name.clone());
        }
        if spi.first() == Some(&0) {
            return None;
        }
        let prefix = if spi.len() == 8 { "ike" } else { "ours" };
        let taken = self.names.keys().filter(|name| {
            let number = name.strip_prefix(prefix);
            number.is_some_and(|n| n.is_empty() || n.parse::<u8>().is_ok())
        });
        let name = match taken.count() {
            0 => prefix.to_owned(),
            count => format!("{prefix}{}", count + 1),
        };
        self.names.insert(name.clone(), spi.to_vec());
        Some(name)
    }
}

fn suite(transforms: Vec<Transform>) -> Option<IkeSuite> {
    let chosen = Chosen {
        number: 1,
        protocol: ProtocolId::IKE,
        spi: Vec::new(),
        transforms,
    };
    chosen.ike_suite(&null::provider())
}

struct Key<'a>(&'a dyn MessageKey);

impl SkKey for Key<'_> {
    fn iv_len(&self) -> usize {
        self.0.iv_len()
    }

    fn block_len(&self) -> usize {
        self.0.block_len()
    }

    fn icv_len(&self) -> usize {
        self.0.icv_len()
    }

    fn seal(&mut self, _message: &mut Vec<u8>, _iv_at: usize) -> Result<(), SkFailure> {
        Err(SkFailure)
    }

    fn open(&self, message: &mut [u8], iv_at: usize) -> Result<Range<usize>, SkFailure> {
        self.0.open(message, iv_at).map_err(|_| SkFailure)
    }
}
