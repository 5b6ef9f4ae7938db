//! What a peer says of itself before anybody knows it: EAP packets and certificates.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use super::start;
use crate::auth::chain::{self, ChainCache};
use crate::auth::eap::{Client, Dialog, Means, Reply, Step};
use crate::auth::store::{CredentialStore, Parts};
use crate::crypto::sign::PrivateKey;
use crate::crypto::x509::{Certificate, Crl};
use crate::crypto::{Rng, boring};
use crate::policy::{Eap, EapMethod, EapUser, Identity, Secret};
use crate::wire::registry::IdType;

/// Answers to our server, or requests to our client, by the first byte; each is type and data behind
/// its length in two bytes, and gets code and identifier here. One whose length has its highest bit
/// set goes as it is. Nobody passes: the server knows nobody, and the client's password is no
/// secret only where the method gives no key.
pub fn eap(bytes: &[u8]) {
    let Some((&side, bytes)) = bytes.split_first() else {
        return;
    };
    if side & 1 == 0 {
        server(bytes);
    } else {
        client(bytes);
    }
}

const METHODS: [EapMethod; 4] = [
    EapMethod::MsChapV2,
    EapMethod::Md5,
    EapMethod::Gtc,
    EapMethod::Tls,
];

fn server(bytes: &[u8]) {
    let mut rng = Rng::from_seed([7; 32]);
    let (mut dialog, mut request) = Dialog::begin(&METHODS, &mut rng);
    let (users, provider) = (BTreeMap::new(), boring::provider());
    let mut over = false;
    for (raw, part) in parts(bytes) {
        let identifier = request.get(1).copied().unwrap_or(0);
        let packet = whole(2, identifier, raw, part);
        let mut means = Means {
            users: &users,
            provider: &provider,
            rng: &mut rng,
            store: &HOLDER,
            chains: &mut ChainCache::default(),
            wall: start().wall,
            ours: &peer(),
            theirs: &peer(),
        };
        match dialog.answer(&mut means, &packet) {
            Step::Ask(next) | Step::Deny(next, _) => {
                assert!(!over, "it goes on after its end");
                request = next;
            }
            Step::Failure(..) => over = true,
            Step::Success(..) => assert!(users.contains_key("nobody"), "there are no users"),
        }
    }
}

fn client(bytes: &[u8]) {
    let user = EapUser {
        name: "alice".to_owned(),
        password: Secret::new(b"secret".to_vec()),
    };
    let clause = Eap {
        methods: METHODS.to_vec(),
        user: Some(user),
    };
    let Some(mut client) = Client::begin(&clause, &peer()) else {
        return;
    };
    let (mut rng, provider) = (Rng::from_seed([7; 32]), boring::provider());
    let mut over = false;
    for (number, (raw, part)) in (1..=u8::MAX).cycle().zip(parts(bytes)) {
        let packet = whole(1, number, raw, part);
        let mut means = Means {
            users: &BTreeMap::new(),
            provider: &provider,
            rng: &mut rng,
            store: &HOLDER,
            chains: &mut ChainCache::default(),
            wall: start().wall,
            ours: &peer(),
            theirs: &peer(),
        };
        match client.answer(&mut means, &packet) {
            Ok(Reply::Answer(answer)) => {
                assert!(!over, "it goes on after its end");
                assert_eq!(answer.get(..2), Some(&[2, packet[1]][..]));
            }
            Ok(Reply::Success(msk, _)) => assert!(msk.is_none(), "nobody has the password"),
            Err(_) => over = true,
        }
    }
}

/// Whom `peer.crt` names.
fn peer() -> Identity {
    Identity {
        kind: IdType::FQDN,
        data: b"peer.example".to_vec(),
    }
}

fn whole(code: u8, identifier: u8, raw: bool, part: &[u8]) -> Vec<u8> {
    if raw {
        return part.to_vec();
    }
    let length = u16::try_from(part.len() + 4).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    [&[code, identifier, high, low], part].concat()
}

/// Parts behind their lengths in two bytes, and whether the highest bit of that is set.
fn parts(mut bytes: &[u8]) -> Vec<(bool, &[u8])> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = u16::from_be_bytes(*length);
        let (part, rest) = rest.split_at(usize::from(length & 0x7fff).min(rest.len()));
        parts.push((length & 0x8000 != 0, part));
        bytes = rest;
    }
    parts
}

/// CERT payloads in DER, each behind its length in two bytes: the peer's own, then those that lead to
/// an authority with a revocation list. A chain holds only if its first certificate is one that
/// this authority, or one below it, has signed.
pub fn certs(bytes: &[u8]) {
    let all = parts(bytes);
    let Some(((_, first), others)) = all.split_first() else {
        return;
    };
    let Ok(leaf) = Certificate::from_der(first) else {
        return;
    };
    let again = Certificate::from_der(leaf.der());
    assert_eq!(again.as_ref(), Ok(&leaf), "its DER is not its own");
    let others: Vec<&[u8]> = others.iter().map(|(_, der)| *der).collect();
    for (kind, data) in leaf.alternative_names() {
        let identity = Identity { kind, data };
        let mut cache = ChainCache::default();
        let wall = start().wall;
        let held = chain::vouch(&AUTHORITY, &mut cache, wall, &identity, &leaf, &others);
        // And once more, with what was learnt.
        let later = chain::vouch(&AUTHORITY, &mut cache, wall, &identity, &leaf, &others);
        assert_eq!(held.err(), later.err());
        let stranger = Identity {
            data: [&identity.data[..], b".example"].concat(),
            ..identity
        };
        let other = chain::vouch(&AUTHORITY, &mut cache, wall, &stranger, &leaf, &others);
        let names = leaf.alternative_names();
        let named = names.iter().any(|(_, data)| *data == stranger.data);
        assert!(other.is_err() || named, "it vouches for another name");
    }
    drop((
        leaf.public_key(),
        leaf.key_id(),
        leaf.subject(),
        leaf.fingerprint(),
    ));
    let _ = (leaf.not_after(), leaf.is_self_issued());
    let _ = (leaf.crl_urls(), leaf.ocsp_urls());
}

/// The authority of `tests/vectors/certs`.
static AUTHORITY: LazyLock<CredentialStore> = LazyLock::new(|| store(false));
/// The same, and `peer.crt` with its key.
static HOLDER: LazyLock<CredentialStore> = LazyLock::new(|| store(true));

fn store(own: bool) -> CredentialStore {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/certs");
    let read = |name| std::fs::read(folder.join(name)).unwrap_or_default();
    let certificates = |name| Certificate::all_from_pem(&read(name)).unwrap_or_default();
    let mut parts = Parts {
        authorities: certificates("root.crt"),
        crls: Crl::all_from_pem(&read("root.crl")),
        ..Parts::default()
    };
    if own {
        parts.keys = PrivateKey::from_pem(&read("peer.key"))
            .into_iter()
            .collect();
        parts.certificates = certificates("peer.crt");
    }
    let store = CredentialStore::assemble(parts, &mut Vec::new());
    assert!(store.trust().is_some(), "no authority");
    assert_eq!(store.own_certificates().is_empty(), !own);
    store
}
