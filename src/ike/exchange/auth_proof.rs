//! Proofs of IKE_AUTH as responder (RFC 7296, 2.15): which policy lets the peer in, its AUTH checked by
//! that, and ours made.

use std::sync::Arc;

use super::super::context::Context;
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::super::negotiate::Chosen;
use super::super::state::HalfOpen;
use super::announce;
use super::auth_request::{Request, identity};
use super::ppk::{self, Blend};
use super::questions;
use crate::auth::announce::Announced;
use crate::auth::pubkey::Claim;
use crate::auth::{AuthError, octets, own as credentials, psk, pubkey};
use crate::crypto::SecretBytes;
use crate::crypto::keymat::IkeKeys;
use crate::lookup::port::Question;
use crate::policy::select::{self, PolicyKey};
use crate::policy::{Auth as AuthWords, Identity, Policy, PublicKeyAuth};
use crate::time::Now;
use crate::wire::registry::{AuthMethod, CertEncoding, HashAlgorithm};
use crate::wire::{Auth, Cert, Id, Payload};

/// Both proofs: the peer's, checked, and ours, made.
#[derive(Debug)]
pub struct Proof {
    /// Who the peer is.
    pub peer_id: Identity,
    /// The policy that lets it in.
    pub policy: Arc<Policy>,
    /// Who we say we are; `None` where that was said before.
    pub id: Option<Identity>,
    /// Our CERT payloads.
    pub certs: Vec<(CertEncoding, Vec<u8>)>,
    /// Our AUTH payload; `None` where that was said before.
    pub auth: Option<(AuthMethod, Vec<u8>)>,
    /// The PPK that both proofs were made with, and the keys with it.
    pub ppk: Option<Blend>,
}

/// Finds the policy for this request, checks its proof and makes ours; what is still to be asked about it.
pub fn prove(
    cx: &mut Context,
    sa: &IkeSa,
    now: Now,
    half_open: &HalfOpen,
    keys: &IkeKeys,
    request: &Request<'_>,
) -> Result<(Proof, Vec<Question>), Error> {
    let id_i = request.id_i.ok_or(Error::Missing("IDi"))?;
    let peer_id = identity(&id_i).ok_or_else(no_identity)?;
    let policy = choose_policy(cx, sa, &half_open.chosen, &peer_id, request)?;
    let judged = judge(cx, sa, now, half_open, keys, request, (&peer_id, &policy));
    let (ppk, (auth, certs), questions) = judged.map_err(|error| error.of(&peer_id, &policy))?;
    let proof = Proof {
        id: Some(policy.srcid.clone()),
        peer_id,
        policy,
        certs,
        auth: Some(auth),
        ppk,
    };
    Ok((proof, questions))
}

/// What the peer claims to be has a form that no identity has.
pub fn no_identity() -> Error {
    Error::NoPolicy(": an identity of impossible form".to_owned())
}

/// Checks the peer's proof under its policy, and makes ours, both with the PPK that it named.
fn judge(
    cx: &mut Context,
    sa: &IkeSa,
    now: Now,
    half_open: &HalfOpen,
    keys: &IkeKeys,
    request: &Request<'_>,
    (peer_id, policy): (&Identity, &Policy),
) -> Result<(Option<Blend>, Ours, Vec<Question>), Error> {
    let id_i = request.id_i.ok_or(Error::Missing("IDi"))?;
    let auth = request.auth.ok_or(Error::Missing("AUTH"))?;
    let by = (keys, half_open.suite.prf);
    let (ppk, data) = ppk::choose(half_open.ppk, &policy.ppks, by, request.ppk, auth.data)?;
    let proving = keys.proving(ppk.as_ref().map(Blend::mixed));
    let octets = both_octets(half_open, proving, &id_i, &policy.srcid);
    let auth = Auth { data, ..auth };
    let proof = (auth, peer_id, &policy.auth);
    let checked = check_auth(cx, now, half_open, request, proof, &octets.0);
    let checked = checked.map_err(|error| ppk::blame(ppk.as_ref(), error))?;
    let mut questions = checked.questions;
    let ours = match &policy.auth {
        AuthWords::Psk(secret) => {
            let key = checked.key;
            let key = key.unwrap_or_else(|| psk::PaddedKey::new(by.1, secret.expose()));
            ((AuthMethod::SHARED_KEY, key.auth(&octets.1)), Vec::new())
        }
        AuthWords::PublicKey(words) => {
            let wishes = Wishes {
                asked: &request.cert_requests,
                hashes: &half_open.peer_hashes,
                pss: checked.pss,
                announced: &announce::heard(cx, sa.tag(), request.announced),
            };
            let ours = our_signature(cx, sa, *words, &policy.srcid, &wishes, &octets.1)?;
            questions.extend(questions::own_status(cx, &request.cert_requests, &ours.1));
            ours
        }
        AuthWords::Eap(_) => return Err(AuthError::Method.into()),
    };
    Ok((ppk, ours, questions))
}

/// What came of a peer's AUTH.
pub struct Checked {
    /// It is a signature by RSASSA-PSS.
    pss: bool,
    /// It is a MAC by this key, which is ours as well.
    key: Option<psk::PaddedKey>,
    /// What is still to be asked about its certificate.
    pub questions: Vec<Question>,
}

/// Checks the peer's AUTH over these octets, by what a policy says.
pub fn check_auth(
    cx: &mut Context,
    now: Now,
    half_open: &HalfOpen,
    request: &Request<'_>,
    (auth, peer_id, words): (Auth<'_>, &Identity, &AuthWords),
    octets: &[u8],
) -> Result<Checked, Error> {
    let prf = half_open.suite.prf;
    let (method, data) = (auth.method, auth.data);
    match words {
        AuthWords::Psk(secret) => {
            let key = psk::PaddedKey::new(prf, secret.expose());
            key.verify(&cx.provider, octets, method, data)?;
            Ok(Checked {
                pss: false,
                key: Some(key),
                questions: Vec::new(),
            })
        }
        AuthWords::PublicKey(words) => {
            let claim = Claim {
                identity: peer_id,
                certs: &request.certs,
                method,
                auth: data,
                octets,
                // We announce ours to who announces its own (RFC 7427, 4).
                hashes: match half_open.peer_hashes.as_slice() {
                    [] => &[],
                    [_, ..] => cx.provider.signature_hashes,
                },
                peer_hashes: &half_open.peer_hashes,
            };
            let proven = pubkey::verify(&cx.store, &mut cx.chains, now.wall, *words, &claim)?;
            let questions = questions::revocation(cx, now, proven.vouched, &request.certs)?;
            let pss = proven.pss;
            Ok(Checked {
                pss,
                key: None,
                questions,
            })
        }
        AuthWords::Eap(_) => Err(AuthError::Method.into()),
    }
}

/// AUTH and CERT payloads of ours.
pub type Ours = ((AuthMethod, Vec<u8>), Vec<(CertEncoding, Vec<u8>)>);

/// What the peer wants to see of us.
pub struct Wishes<'a> {
    /// CERTREQ payloads.
    pub asked: &'a [(CertEncoding, &'a [u8])],
    /// Hash algorithms it verifies.
    pub hashes: &'a [HashAlgorithm],
    /// It signs with RSASSA-PSS itself.
    pub pss: bool,
    /// What it announced that it takes (RFC 9593).
    pub announced: &'a Announced,
}

/// Signs with the key that the policy's word, the identity we use and the peer's wishes lead to.
pub fn our_signature(
    cx: &mut Context,
    sa: &IkeSa,
    words: PublicKeyAuth,
    srcid: &Identity,
    wishes: &Wishes<'_>,
    octets: &[u8],
) -> Result<Ours, AuthError> {
    let store = Arc::clone(&cx.store);
    let said = (wishes.announced, wishes.hashes);
    let guided = credentials::show_announced(&store, words, srcid, wishes.asked, said);
    let (shown, way) = match guided {
        Some((shown, way)) => (shown, Some(way)),
        None => {
            if !wishes.announced.is_empty() {
                cx.info(format_args!(
                    "{}: none of the proofs that the peer announced can be had",
                    sa.tag()
                ));
            }
            (credentials::show(&store, words, srcid, wishes.asked)?, None)
        }
    };
    if let Some(note) = &shown.note {
        cx.info(format_args!("{}: {note}", sa.tag()));
    }
    let key = &shown.key.private;
    let auth = match way {
        Some(way) => pubkey::sign_by(key, way, octets)?,
        None => pubkey::sign(key, words, wishes.hashes, wishes.pss, octets)?,
    };
    let certs = shown.certs.into_iter();
    let certs = certs.map(|(encoding, data)| (encoding, data.to_vec()));
    Ok((auth, certs.collect()))
}

/// What the initiator signs and what we sign (RFC 7296, 2.15), with these SK_pi and SK_pr.
pub fn both_octets(
    half_open: &HalfOpen,
    (sk_pi, sk_pr): (&SecretBytes, &SecretBytes),
    id_i: &Id<'_>,
    srcid: &Identity,
) -> (Vec<u8>, Vec<u8>) {
    let prf = half_open.suite.prf;
    let theirs = octets::signed_octets(
        &half_open.request,
        &half_open.nonce_r,
        prf,
        sk_pi.expose(),
        &id_i.body(),
    );
    let id_r = Id {
        kind: srcid.kind,
        data: &srcid.data,
    };
    let ours = octets::signed_octets(
        &half_open.response,
        &half_open.nonce_i,
        prf,
        sk_pr.expose(),
        &id_r.body(),
    );
    (theirs, ours)
}

/// The policy of IKE_SA_INIT was chosen by addresses; the identities may lead to another one, which
/// must be content with what was agreed.
pub fn choose_policy(
    cx: &mut Context,
    sa: &IkeSa,
    agreed: &Chosen,
    peer_id: &Identity,
    request: &Request<'_>,
) -> Result<Arc<Policy>, Error> {
    let local_id = request.id_r.as_ref().and_then(identity);
    let fits = |policy: &Policy| {
        let holds = |proposal: &crate::policy::Proposal| {
            agreed
                .transforms
                .iter()
                .all(|t| proposal.transforms.contains(t))
        };
        // Who proves nothing wants EAP, and who proves something does not.
        let eap = matches!(policy.auth, AuthWords::Eap(_));
        match (eap, request.auth.is_some()) {
            (true, true) => Err("wants EAP"),
            (false, false) => Err("has no EAP"),
            _ if policy.ike_proposals.iter().any(holds) => Ok(()),
            _ => Err("has other IKE proposals than agreed"),
        }
    };
    let key = |local_id, transport| PolicyKey {
        local: sa.path.local.ip(),
        peer: sa.path.remote.ip(),
        peer_id: Some(peer_id),
        local_id,
        transport,
        fits: &fits,
    };
    // An IDr is a wish (RFC 7296, 3.5): a policy with another srcid still answers, and the
    // initiator decides whether that identity will do. So is transport mode (RFC 7296, 1.3.1): a
    // policy without it answers with a tunnel.
    let select = |transport| {
        select::select(&cx.config, &key(local_id.as_ref(), transport))
            .or_else(|| select::select(&cx.config, &key(None, transport)))
    };
    if let Some(found) = select(request.transport).or_else(|| select(false)) {
        return Ok(found.clone());
    }
    let why = select::explain(&cx.config, &key(None, false));
    cx.stats.no_policy += 1;
    Err(Error::NoPolicy(format!(" for {peer_id}: {why}")))
}

/// IDr, CERT and AUTH payloads of ours.
pub fn our_payloads<'a>(
    id: Option<&'a Identity>,
    certs: &'a [(CertEncoding, Vec<u8>)],
    auth: Option<&'a (AuthMethod, Vec<u8>)>,
) -> Vec<Payload<'a>> {
    let id = id.map(|id| {
        Payload::IdR(Id {
            kind: id.kind,
            data: &id.data,
        })
    });
    let certs = cert_payloads(certs);
    let auth = auth.map(|(method, data)| {
        let method = *method;
        Payload::Auth(Auth { method, data })
    });
    id.into_iter().chain(certs).chain(auth).collect()
}

/// CERT payloads of ours.
pub fn cert_payloads(certs: &[(CertEncoding, Vec<u8>)]) -> impl Iterator<Item = Payload<'_>> {
    certs.iter().map(|(encoding, data)| {
        Payload::Cert(Cert {
            encoding: *encoding,
            data,
        })
    })
}
