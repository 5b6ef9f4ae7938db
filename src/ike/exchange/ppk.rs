//! Post-quantum pre-shared keys (RFC 8784), both roles: USE_PPK in IKE_SA_INIT says that there are any,
//! PPK_IDENTITY beside the initiator's AUTH names the one that its proof was made with, and NO_PPK_AUTH
//! is the proof that it would have made without. The answer says whether the PPK was taken. An IKE SA
//! keeps its unmixed keys until the proof holds.

use super::super::context::Context;
use super::super::error::Error;
use super::super::ike_sa::IkeSa;
use super::sa_init::{find_notify, has_notify};
use crate::auth::AuthError;
use crate::crypto::keymat::{IkeKeys, Mixed};
use crate::crypto::{CryptoError, Prf};
use crate::policy::{Policy, Ppk};
use crate::wire::Payload;
use crate::wire::registry::NotifyType;

/// What an initiator says of PPKs beside its AUTH.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// PPK_IDENTITY: the type, and what follows it.
    identity: Option<&'a [u8]>,
    /// NO_PPK_AUTH.
    plain: Option<&'a [u8]>,
}

impl Said<'_> {
    /// Whether a PPK is named.
    pub const fn is_there(&self) -> bool {
        self.identity.is_some()
    }
}

/// Finds it.
pub fn said<'a>(payloads: &[Payload<'a>]) -> Said<'a> {
    Said {
        identity: find_notify(payloads, NotifyType::PPK_IDENTITY),
        plain: find_notify(payloads, NotifyType::NO_PPK_AUTH),
    }
}

/// A PPK and the keys that it gave.
#[derive(Debug)]
pub struct Blend {
    /// Its ID.
    id: Vec<u8>,
    /// Nobody gets up without.
    required: bool,
    /// The keys.
    mixed: Mixed,
}

impl Blend {
    fn new(ppk: &Ppk, required: bool, keys: &IkeKeys, prf: &dyn Prf) -> Result<Self, CryptoError> {
        Ok(Self {
            id: ppk.id.clone(),
            required,
            mixed: keys.mix(prf, ppk.secret.expose())?,
        })
    }

    /// The keys.
    pub const fn mixed(&self) -> &Mixed {
        &self.mixed
    }

    /// Whether the peer may do without, and so gets NO_PPK_AUTH.
    pub const fn is_optional(&self) -> bool {
        !self.required
    }

    /// The data of our PPK_IDENTITY.
    pub fn identity(&self) -> Vec<u8> {
        [&[PPK_ID_FIXED], self.id.as_slice()].concat()
    }
}

/// The same error, naming the PPK that the proof was to be made with: it may be that which differs.
pub fn blame(blend: Option<&Blend>, error: Error) -> Error {
    match (blend, error) {
        (Some(blend), Error::Authentication(why @ (AuthError::Mac | AuthError::Signature(_)))) => {
            AuthError::WithPpk(Box::new(why), shown(&blend.id)).into()
        }
        (_, error) => error,
    }
}

/// Whether nobody gets up without a PPK: `required` stands with any of them.
fn is_required(ppks: &[Ppk]) -> bool {
    ppks.iter().any(|ppk| ppk.required)
}

/// As responder: who has no PPK gets nothing out of a policy that requires one; `agreed` says whether
/// both have said USE_PPK.
pub fn check(agreed: bool, ppks: &[Ppk]) -> Result<(), Error> {
    if is_required(ppks) && !agreed {
        return Err(refused("required, and the peer has none"));
    }
    Ok(())
}

/// As responder: the PPK that the peer's AUTH was made with, if any, and the authentication data that
/// count, where `auth` are those of the AUTH payload (RFC 8784, table 1).
pub fn choose<'a>(
    agreed: bool,
    ppks: &[Ppk],
    (keys, prf): (&IkeKeys, &dyn Prf),
    said: Said<'a>,
    auth: &'a [u8],
) -> Result<(Option<Blend>, &'a [u8]), Error> {
    check(agreed, ppks)?;
    if !agreed {
        return Ok((None, auth));
    }
    let identity = said
        .identity
        .ok_or_else(|| refused("the peer names none"))?;
    let known = |ppk: &&Ppk| identity.split_first() == Some((&PPK_ID_FIXED, ppk.id.as_slice()));
    if let Some(ppk) = ppks.iter().find(known) {
        let blend = Blend::new(ppk, is_required(ppks), keys, prf)?;
        return Ok((Some(blend), auth));
    }
    match said.plain {
        Some(plain) if !is_required(ppks) => Ok((None, plain)),
        _ => {
            let id = identity.get(1..).unwrap_or_default();
            Err(refused(&format!("unknown ID '{}'", shown(id))))
        }
    }
}

/// As initiator: the PPK to use, if there is one; `answered` says whether the responder has any.
pub fn offer(
    answered: bool,
    ppks: &[Ppk],
    keys: &IkeKeys,
    prf: &dyn Prf,
) -> Result<Option<Box<Blend>>, Error> {
    let Some(ppk) = ppks.first() else {
        return Ok(None);
    };
    let required = is_required(ppks);
    if answered {
        return Ok(Some(Box::new(Blend::new(ppk, required, keys, prf)?)));
    }
    if required {
        return Err(refused("required, and the responder has none"));
    }
    Ok(None)
}

/// As initiator: whether the responder has taken our PPK, by its last answer.
pub fn taken<'a>(
    blend: Option<&'a Blend>,
    payloads: &[Payload<'_>],
) -> Result<Option<&'a Blend>, Error> {
    match blend {
        Some(_) if has_notify(payloads, NotifyType::PPK_IDENTITY) => Ok(blend),
        Some(blend) if blend.required => {
            let id = shown(&blend.id);
            Err(refused(&format!("required, and '{id}' was not taken")))
        }
        Some(_) | None => Ok(None),
    }
}

/// The peer's proof holds: these are the keys from now on, and the log has which they are.
pub fn settle(
    cx: &mut Context,
    sa: &IkeSa,
    policy: &Policy,
    keys: &mut IkeKeys,
    blend: Option<Blend>,
) {
    let tag = sa.tag();
    match blend {
        Some(blend) => {
            let id = shown(&blend.id);
            cx.info(format_args!("{tag}: PPK '{id}' is in the keys"));
            keys.adopt(blend.mixed);
        }
        None if !policy.ppks.is_empty() => {
            let name = &policy.name;
            cx.info(format_args!(
                "{tag}: policy '{name}' has a PPK, but none is used"
            ));
        }
        None => {}
    }
}

/// Whether there is no agreement about a PPK. Then an initiator says AUTHENTICATION_FAILED, too.
pub fn is_refusal(error: &Error) -> bool {
    let why = if let Error::Denied(denied) = error {
        &denied.why
    } else {
        error
    };
    matches!(why, Error::Authentication(AuthError::Ppk(_)))
}

fn refused(why: &str) -> Error {
    AuthError::Ppk(why.to_owned()).into()
}

/// An ID that may come from anybody, for the log.
fn shown(id: &[u8]) -> String {
    let shown = id.iter().take(SHOWN_MAX).map(|&byte| {
        let plain = byte.is_ascii_graphic() || byte == b' ';
        char::from(if plain { byte } else { b'?' })
    });
    shown.collect()
}

/// PPK_ID_FIXED (RFC 8784, 5.1), the one type there is to be configured.
const PPK_ID_FIXED: u8 = 2;
/// Bytes of an ID that a line of the log has room for.
const SHOWN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring;
    use crate::crypto::keymat::IkeSuite;
    use crate::policy::Secret;
    use crate::wire::registry::{EncrId, KeId, PrfId, ProtocolId};
    use crate::wire::spi::IkeSpi;
    use crate::wire::{Notify, Payload};

    fn suite() -> IkeSuite {
        let provider = boring::provider();
        IkeSuite {
            encr: provider.cipher(EncrId::AES_GCM_16).unwrap(),
            key_length: Some(128),
            integ: None,
            prf: provider.prf(PrfId::HMAC_SHA2_256).unwrap(),
            ke: KeId::CURVE25519,
        }
    }

    fn keys() -> IkeKeys {
        let (i, r) = (IkeSpi::new(1).unwrap(), IkeSpi::new(2).unwrap());
        IkeKeys::derive(&suite(), &[1; 32], &[2; 32], &[3; 32], i, r).unwrap()
    }

    fn known(ppks: &[(&str, bool)]) -> Vec<Ppk> {
        let ppk = |&(id, required): &(&str, bool)| Ppk {
            id: id.as_bytes().to_vec(),
            secret: Secret::new(format!("secret of {id}").into_bytes()),
            required,
        };
        ppks.iter().map(ppk).collect()
    }

    fn note(kind: NotifyType, data: &[u8]) -> Payload<'_> {
        Payload::Notify(Notify {
            protocol: ProtocolId::NONE,
            spi: &[],
            kind,
            data,
        })
    }

    /// Table 1 of RFC 8784, with what PPK_IDENTITY may be: which proof counts.
    #[test]
    fn the_responder_does_what_table_1_says() {
        let (keys, suite) = (keys(), suite());
        let optional = known(&[("one", false), ("two", false)]);
        let required = known(&[("one", false), ("two", true)]);
        let none = known(&[]);
        let (mixed, plain, usual) = (Ok("AUTH, mixed"), Ok("NO_PPK_AUTH"), Ok("AUTH"));
        let lacks = Err("PPK: required, and the peer has none");
        let unnamed = Err("PPK: the peer names none");
        let unknown = Err("PPK: unknown ID 'three'");
        let two: Option<&[u8]> = Some(b"\x02two");
        let three: Option<&[u8]> = Some(b"\x02three");
        let rows = [
            (false, None, false, &none, usual),
            (false, two, true, &optional, usual),
            (false, None, false, &optional, usual),
            (false, None, true, &required, lacks),
            (true, None, true, &optional, unnamed),
            (true, None, true, &required, unnamed),
            (true, three, false, &none, unknown),
            (true, three, false, &optional, unknown),
            (true, three, true, &none, plain),
            (true, three, true, &optional, plain),
            (true, three, false, &required, unknown),
            (true, three, true, &required, unknown),
            (true, two, false, &optional, mixed),
            (true, two, true, &optional, mixed),
            (true, two, false, &required, mixed),
            (true, two, true, &required, mixed),
            // Of another type, of none, and longer than the one that is known.
            (true, Some(b"\x01three"), false, &optional, unknown),
            (true, Some(b"\x01two"), true, &optional, plain),
            (true, Some(b""), false, &optional, Err("PPK: unknown ID ''")),
            (true, Some(b"\x02"), true, &optional, plain),
            (true, Some(b"\x02two2"), true, &optional, plain),
        ];
        for (agreed, identity, has_plain, ppks, expected) in rows {
            let mut payloads = Vec::new();
            payloads.extend(identity.map(|data| note(NotifyType::PPK_IDENTITY, data)));
            payloads.extend(has_plain.then(|| note(NotifyType::NO_PPK_AUTH, b"NO_PPK_AUTH")));
            let by = (&keys, suite.prf);
            let chosen = choose(agreed, ppks, by, said(&payloads), b"AUTH");
            let found = match &chosen {
                Ok((Some(blend), b"AUTH")) => {
                    let (sk_pi, sk_pr) = keys.proving(Some(blend.mixed()));
                    assert!(sk_pi != &keys.sk_pi && sk_pr != &keys.sk_pr);
                    "AUTH, mixed".to_owned()
                }
                Ok((None, data)) => String::from_utf8(data.to_vec()).unwrap(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => error.to_string(),
            };
            let expected = match expected {
                Ok(counts) => counts.to_owned(),
                Err(why) => format!("authentication failed: {why}"),
            };
            assert_eq!(found, expected, "{agreed} {identity:?} {has_plain}");
        }
    }

    #[test]
    fn the_initiator_offers_its_first_and_stops_where_it_must() {
        let (keys, suite) = (keys(), suite());
        let ask = |answered, ppks: &[Ppk]| offer(answered, ppks, &keys, suite.prf);
        assert!(ask(true, &known(&[])).unwrap().is_none());
        let optional = known(&[("one", false), ("two", false)]);
        assert!(ask(false, &optional).unwrap().is_none());
        let blend = ask(true, &optional).unwrap().unwrap();
        assert_eq!(blend.identity(), b"\x02one");
        assert!(blend.is_optional());
        let taken_with = |blend, payloads: &[Payload<'_>]| {
            let found = taken(blend, payloads);
            found.map(|found| found.is_some()).map_err(|error| {
                assert!(is_refusal(&error));
                error.to_string()
            })
        };
        let yes = [note(NotifyType::PPK_IDENTITY, b"whatever")];
        assert_eq!(taken_with(None, &yes), Ok(false));
        assert_eq!(taken_with(Some(&blend), &yes), Ok(true));
        assert_eq!(taken_with(Some(&blend), &[]), Ok(false));
        let required = known(&[("one", true)]);
        assert!(is_refusal(&ask(false, &required).unwrap_err()));
        let blend = ask(true, &required).unwrap().unwrap();
        assert!(!blend.is_optional());
        assert_eq!(taken_with(Some(&blend), &yes), Ok(true));
        let why = "authentication failed: PPK: required, and 'one' was not taken";
        assert_eq!(taken_with(Some(&blend), &[]), Err(why.to_owned()));
    }

    #[test]
    fn what_a_stranger_calls_its_ppk_stays_one_short_word_of_the_log() {
        assert_eq!(shown(b"a b\n\x1b[31m\xff"), "a b??[31m?");
        assert_eq!(shown(&[b'x'; 1000]).len(), SHOWN_MAX);
    }

    #[test]
    fn a_proof_that_fails_names_the_ppk_and_other_errors_do_not() {
        let (keys, suite) = (keys(), suite());
        let ppks = known(&[("one", false)]);
        let blend = offer(true, &ppks, &keys, suite.prf).unwrap();
        let said = |error| blame(blend.as_deref(), error).to_string();
        let mac = "authentication failed: pre-shared key mismatch with PPK 'one'";
        assert_eq!(said(AuthError::Mac.into()), mac);
        let other = "authentication failed: no private key";
        assert_eq!(said(AuthError::NoPrivateKey.into()), other);
    }
}
