//! Policies and keys for the tests: a gateway and a road warrior that fit each other, to be changed
//! by each test where it wants something else.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use boring::ec::{EcGroup, EcKey};
use boring::nid::Nid;
use boring::pkey::PKey;
use boring::rsa::Rsa;
use iked::auth::store::CredentialStore;
use iked::crypto::sign::PrivateKey;
use iked::policy::{
    Auth, CfgEntry, Config, Eap, EapMethod, EapUser, Flow, FlowEnd, Identity, IpNet, Policy, Ppk,
    Proposal, PublicKeyAuth, Secret, Selection,
};
use iked::wire::registry::{CfgAttrType, EncrId, EsnId, IdType, IntegId, KeId, PrfId, ProtocolId};
use iked::wire::{Transform, TransformId};

/// The road warrior's address.
pub(super) const WARRIOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// The gateway's.
pub(super) const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
/// The pre-shared key of all tests that do not say another.
pub(super) const SECRET: &[u8] = b"correct horse battery staple";

pub(super) fn fqdn(name: &str) -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: name.as_bytes().to_vec(),
    }
}

pub(super) fn net(text: &str) -> IpNet {
    let (addr, len) = text.split_once('/').unwrap();
    IpNet {
        addr: addr.parse().unwrap(),
        len: len.parse().unwrap(),
    }
}

pub(super) fn end(text: &str) -> FlowEnd {
    FlowEnd {
        net: net(text),
        dynamic: false,
        port: None,
    }
}

pub(super) fn flow(from: FlowEnd, to: FlowEnd) -> Flow {
    Flow {
        protocol: 0,
        from,
        to,
        pre_nat: None,
    }
}

/// `dynamic`.
pub(super) fn leased() -> FlowEnd {
    FlowEnd {
        dynamic: true,
        ..end("0.0.0.0/32")
    }
}

pub(super) fn psk(secret: &[u8]) -> Auth {
    Auth::Psk(Secret::new(secret.to_vec()))
}

/// `ppk ID SECRET`, with `required` where the ID ends with `!`; each ID has a secret of its own.
pub(super) fn ppk(id: &str) -> Ppk {
    let name = id.trim_end_matches('!');
    Ppk {
        id: name.as_bytes().to_vec(),
        secret: Secret::new(format!("a long secret of {name}").into_bytes()),
        required: id.ends_with('!'),
    }
}

/// The ciphers of IKE that the tests run through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    AesGcm,
    AesCbcSha256,
    ChaCha20,
}

/// An IKE proposal with these key exchange methods.
pub(super) fn ike(suite: Suite, methods: &[KeId]) -> Proposal {
    let prf = Transform::new(TransformId::Prf(PrfId::HMAC_SHA2_256), None);
    let mut transforms = ciphers(suite);
    transforms.push(prf);
    let methods = methods.iter().map(|&id| TransformId::Ke(id));
    transforms.extend(methods.map(|id| Transform::new(id, None)));
    Proposal {
        protocol: ProtocolId::IKE,
        transforms,
    }
}

/// An ESP proposal.
pub(super) fn esp(suite: Suite) -> Proposal {
    let mut transforms = ciphers(suite);
    transforms.push(Transform::new(TransformId::Esn(EsnId::NO_ESN), None));
    Proposal {
        protocol: ProtocolId::ESP,
        transforms,
    }
}

fn ciphers(suite: Suite) -> Vec<Transform> {
    let encr = |id, bits| Transform::new(TransformId::Encr(id), bits);
    match suite {
        Suite::AesGcm => vec![encr(EncrId::AES_GCM_16, Some(128))],
        Suite::ChaCha20 => vec![encr(EncrId::CHACHA20_POLY1305, None)],
        Suite::AesCbcSha256 => vec![
            encr(EncrId::AES_CBC, Some(256)),
            Transform::new(TransformId::Integ(IntegId::HMAC_SHA2_256_128), None),
        ],
    }
}

/// `ikev2 passive esp from 10.1.0.0/16 to 10.2.0.0/16 ... psk`: any peer.
pub(super) fn gateway() -> Policy {
    Policy {
        index: 0,
        name: "gateway".to_owned(),
        selection: Selection::Last,
        active: false,
        ipcomp: false,
        transport: false,
        natt: false,
        childless: false,
        protocol: ProtocolId::ESP,
        family: None,
        flows: vec![flow(end("10.1.0.0/16"), end("10.2.0.0/16"))],
        local: None,
        peer: None,
        ike_proposals: vec![ike(Suite::AesGcm, &[KeId::CURVE25519])],
        child_proposals: vec![esp(Suite::AesGcm)],
        srcid: fqdn("gateway.example"),
        dstid: None,
        ike_lifetime: Duration::ZERO,
        child_lifetime: Duration::from_secs(10_800),
        child_lifetime_bytes: 0,
        auth: psk(SECRET),
        then: Vec::new(),
        ppks: Vec::new(),
        config: Vec::new(),
        domains: Vec::new(),
        request: Vec::new(),
        iface: None,
        if_id: None,
        offload: None,
        tag: None,
        tap: None,
    }
}

/// The other end of [`gateway`].
pub(super) fn warrior() -> Policy {
    let host = |addr| Some(IpNet { addr, len: 32 });
    Policy {
        name: "warrior".to_owned(),
        active: false,
        flows: vec![flow(end("10.2.0.0/16"), end("10.1.0.0/16"))],
        local: host(WARRIOR),
        peer: host(GATEWAY),
        srcid: fqdn("warrior.example"),
        ..gateway()
    }
}

/// [`gateway`] with a pool of addresses instead of a fixed network.
pub(super) fn pool_gateway(pool: &str) -> Policy {
    let entry = CfgEntry {
        attribute: CfgAttrType::INTERNAL_IP4_ADDRESS,
        value: net(pool),
        is_pool: true,
    };
    Policy {
        flows: vec![flow(end("10.1.0.0/16"), leased())],
        config: vec![entry],
        ..gateway()
    }
}

/// [`warrior`] that asks for an address.
pub(super) fn pool_warrior() -> Policy {
    Policy {
        flows: vec![flow(leased(), end("10.1.0.0/16"))],
        request: vec![(CfgAttrType::INTERNAL_IP4_ADDRESS, None)],
        ..warrior()
    }
}

pub(super) fn config<const N: usize>(policies: [Policy; N]) -> Config {
    Config {
        policies: policies.into_iter().map(Arc::new).collect(),
        ..Config::default()
    }
}

/// No keys at all.
pub(super) fn no_keys() -> CredentialStore {
    CredentialStore::default()
}

/// Both sides' policies with public keys, and stores that hold them.
pub(super) fn with_keys(ours: &[u8], theirs: &[u8]) -> [(Policy, CredentialStore); 2] {
    let key = |pem: &[u8]| PrivateKey::from_pem(pem).unwrap();
    let store = |own: &[u8], peer: &[u8], name| {
        let public = key(peer).public().unwrap();
        CredentialStore::from_keys(Some(key(own)), vec![(fqdn(name), public)])
    };
    let signed = |policy| Policy {
        auth: Auth::PublicKey(PublicKeyAuth::Any),
        ..policy
    };
    [
        (signed(warrior()), store(ours, theirs, "gateway.example")),
        (signed(gateway()), store(theirs, ours, "warrior.example")),
    ]
}

/// The user that [`with_passwords`] knows.
pub(super) fn eap_user(password: &str) -> EapUser {
    EapUser {
        name: "alice".to_owned(),
        password: Secret::new(password.as_bytes().to_vec()),
    }
}

/// A client that proves itself by EAP as alice, whose password is `secret`, and a gateway that signs.
pub(super) fn with_passwords(
    client: &[EapMethod],
    server: &[EapMethod],
    password: &str,
) -> [(Config, CredentialStore); 2] {
    // The same in all tests, so that each host can be made for itself.
    static KEYS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [ecdsa(), ecdsa()]);
    let [(initiator, ours), (responder, theirs)] = with_keys(&KEYS[0], &KEYS[1]);
    let by = |policy, methods: &[EapMethod], user| Policy {
        auth: Auth::Eap(Eap {
            methods: methods.to_vec(),
            user,
        }),
        ..policy
    };
    let client = config([by(initiator, client, Some(eap_user(password)))]);
    let mut server = config([by(responder, server, None)]);
    let secret = Secret::new(b"secret".to_vec());
    server.users.insert("alice".to_owned(), secret);
    [(client, ours), (server, theirs)]
}

/// A fresh ECDSA P-256 key as PEM.
pub(super) fn ecdsa() -> Vec<u8> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    key.private_key_to_pem_pkcs8().unwrap()
}

/// Two RSA keys as PEM, the same in all tests, for they are slow to make.
pub(super) fn rsa() -> &'static [Vec<u8>; 2] {
    static KEYS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
        [(); 2].map(|()| {
            let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
            key.private_key_to_pem_pkcs8().unwrap()
        })
    });
    &KEYS
}
