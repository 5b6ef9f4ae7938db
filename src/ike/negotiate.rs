//! The choice of one proposal (RFC 7296, 2.7 and 3.3): the first of ours that any of the peer's
//! fits; within it, the peer's order breaks no tie: ours decides.

use crate::crypto::Provider;
use crate::crypto::keymat::IkeSuite;
use crate::policy;
use crate::wire::registry::{EncrId, IntegId, KeId, ProtocolId, TransformType};
use crate::wire::{Proposal, Proposals, Transform, TransformId};

/// What was agreed: one transform of each type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Number of the peer's proposal, to be repeated in the answer.
    pub number: u8,
    /// The protocol.
    pub protocol: ProtocolId,
    /// The peer's SPI in that proposal.
    pub spi: Vec<u8>,
    /// One transform of each type, in the order ENCR, PRF, INTEG, KE, ESN.
    pub transforms: Vec<Transform>,
}

impl Chosen {
    /// The encryption algorithm and its Key Length attribute.
    pub fn encr(&self) -> Option<(EncrId, Option<u16>)> {
        self.transforms
            .iter()
            .find_map(|t| t.id.encr().map(|id| (id, t.key_length)))
    }

    /// The key exchange method.
    pub fn ke(&self) -> Option<KeId> {
        self.transforms.iter().find_map(|t| t.id.ke())
    }

    /// The suite for IKE, if this provider has all of it.
    pub fn ike_suite(&self, provider: &Provider) -> Option<IkeSuite> {
        let (encr, key_length) = self.encr()?;
        let encr = provider.cipher(encr)?;
        let prf = self.transforms.iter().find_map(|t| t.id.prf());
        let prf = provider.prf(prf?)?;
        let integ = self.transforms.iter().find_map(|t| t.id.integ());
        let integ = integ.and_then(|id| provider.integ(id));
        if encr.is_aead() == integ.is_some() {
            return None;
        }
        Some(IkeSuite {
            encr,
            key_length,
            integ,
            prf,
            ke: self.ke()?,
        })
    }
}

/// The key exchange methods of our proposals, in order of preference.
pub fn methods(ours: &[policy::Proposal]) -> impl Iterator<Item = KeId> + Clone {
    let transforms = ours.iter().flat_map(|proposal| &proposal.transforms);
    transforms.filter_map(|transform| transform.id.ke())
}

/// Whether our proposals have this key exchange method.
pub fn offers(ours: &[policy::Proposal], method: KeId) -> bool {
    methods(ours).any(|id| id == method)
}

/// Our proposals as we offer them, with our SPI; without key exchange where the exchange has none
/// (RFC 7296, 1.2).
pub fn offer<'a>(ours: &[policy::Proposal], spi: &'a [u8], with_ke: bool) -> Proposals<'a> {
    let fits = |transform: &&Transform| with_ke || transform.id.ke().is_none();
    let numbered = (1..).zip(ours);
    numbered
        .map(|(number, proposal)| Proposal {
            number,
            protocol: proposal.protocol,
            spi,
            transforms: proposal.transforms.iter().filter(fits).copied().collect(),
        })
        .collect()
}

/// What the rules of one choice depend on.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The method of the peer's KE payload: taken where both sides list it, so that no
    /// INVALID_KE_PAYLOAD round is needed.
    pub ke_sent: Option<KeId>,
    /// IKE_AUTH: key exchange transforms have no meaning and are passed over (RFC 7296, 1.2).
    pub ignore_ke: bool,
}

/// The first of `ours` that one of `theirs` fits.
pub fn choose(ours: &[policy::Proposal], theirs: &[Proposal<'_>], rules: Rules) -> Option<Chosen> {
    ours.iter()
        .find_map(|our| theirs.iter().find_map(|their| fit(our, their, rules)))
}

fn fit(ours: &policy::Proposal, theirs: &Proposal<'_>, rules: Rules) -> Option<Chosen> {
    if ours.protocol != theirs.protocol || has_aead_with_integ(theirs) {
        return None;
    }
    let mut transforms = Vec::with_capacity(TYPES.len());
    for kind in TYPES {
        if kind == TransformType::KE && rules.ignore_ke {
            continue;
        }
        match pick(ours, theirs, kind, rules) {
            Pick::Found(transform) => transforms.push(transform),
            Pick::NotNeeded => {}
            Pick::NoneFits => return None,
        }
    }
    // A transform type we do not know cannot be answered, so the proposal cannot be taken.
    let unknown_type = theirs
        .transforms
        .iter()
        .any(|t| !TYPES.contains(&t.id.kind()));
    if unknown_type || !complete(theirs.protocol, &transforms) {
        return None;
    }
    let spi = theirs.spi.to_vec();
    Some(Chosen {
        number: theirs.number,
        protocol: theirs.protocol,
        spi,
        transforms,
    })
}

enum Pick {
    Found(Transform),
    NotNeeded,
    NoneFits,
}

fn pick(ours: &policy::Proposal, theirs: &Proposal<'_>, kind: TransformType, rules: Rules) -> Pick {
    let listed = theirs.transforms.iter().any(|t| t.id.kind() == kind);
    let of_ours = || ours.transforms.iter().filter(|t| t.id.kind() == kind);
    let common = |our: &&Transform| theirs.transforms.contains(our);
    if !listed {
        // RFC 7296, 3.3.3: an optional type left out means NONE; ours must allow that.
        let optional =
            of_ours().next().is_none() || of_ours().any(is_none) || (kind == TransformType::ESN);
        return if optional {
            Pick::NotNeeded
        } else {
            Pick::NoneFits
        };
    }
    let none_only = || {
        theirs
            .transforms
            .iter()
            .filter(|t| t.id.kind() == kind)
            .any(is_none)
    };
    if let (TransformType::KE, Some(sent)) = (kind, rules.ke_sent) {
        let sent = Transform::new(TransformId::Ke(sent), None);
        if of_ours().any(|t| *t == sent) && common(&&sent) {
            return Pick::Found(sent);
        }
    }
    match of_ours().find(common) {
        Some(transform) if is_none(transform) && kind != TransformType::ESN => Pick::NotNeeded,
        Some(transform) => Pick::Found(*transform),
        None if of_ours().next().is_none() && none_only() => Pick::NotNeeded,
        None => Pick::NoneFits,
    }
}

fn is_none(transform: &Transform) -> bool {
    matches!(
        transform.id,
        TransformId::Integ(IntegId::NONE) | TransformId::Ke(KeId::NONE)
    )
}

fn has_aead_with_integ(proposal: &Proposal<'_>) -> bool {
    let transforms = || proposal.transforms.iter();
    let aead = transforms().any(|t| t.id.encr().is_some_and(is_aead));
    let integ = transforms().any(|t| t.id.integ().is_some_and(|id| id != IntegId::NONE));
    aead && integ
}

/// Whether this cipher authenticates by itself.
pub fn is_aead(id: EncrId) -> bool {
    matches!(
        id,
        EncrId::AES_GCM_8
            | EncrId::AES_GCM_12
            | EncrId::AES_GCM_16
            | EncrId::AES_GMAC
            | EncrId::CHACHA20_POLY1305
    )
}

/// RFC 7296, 3.3.3: the types each protocol cannot do without.
fn complete(protocol: ProtocolId, transforms: &[Transform]) -> bool {
    let has = |kind| transforms.iter().any(|t| t.id.kind() == kind);
    let aead = transforms.iter().any(|t| t.id.encr().is_some_and(is_aead));
    match protocol {
        ProtocolId::IKE => {
            has(TransformType::ENCR)
                && has(TransformType::PRF)
                && has(TransformType::KE)
                && (aead != has(TransformType::INTEG))
        }
        ProtocolId::ESP => has(TransformType::ENCR) && (aead != has(TransformType::INTEG)),
        ProtocolId::AH => has(TransformType::INTEG),
        _ => false,
    }
}

const TYPES: [TransformType; 5] = [
    TransformType::ENCR,
    TransformType::PRF,
    TransformType::INTEG,
    TransformType::KE,
    TransformType::ESN,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::registry::{EsnId, PrfId};

    const GCM: Transform = Transform {
        id: TransformId::Encr(EncrId::AES_GCM_16),
        key_length: Some(128),
    };
    const CBC: Transform = Transform {
        id: TransformId::Encr(EncrId::AES_CBC),
        key_length: Some(256),
    };
    const PRF: Transform = Transform {
        id: TransformId::Prf(PrfId::HMAC_SHA2_256),
        key_length: None,
    };
    const SHA: Transform = Transform {
        id: TransformId::Integ(IntegId::HMAC_SHA2_256_128),
        key_length: None,
    };
    const X25519: Transform = Transform {
        id: TransformId::Ke(KeId::CURVE25519),
        key_length: None,
    };
    const P256: Transform = Transform {
        id: TransformId::Ke(KeId::ECP_256),
        key_length: None,
    };
    const NO_ESN: Transform = Transform {
        id: TransformId::Esn(EsnId::NO_ESN),
        key_length: None,
    };
    const RULES: Rules = Rules {
        ke_sent: None,
        ignore_ke: false,
    };

    fn ours(transforms: &[Transform]) -> policy::Proposal {
        policy::Proposal {
            protocol: ProtocolId::IKE,
            transforms: transforms.to_vec(),
        }
    }

    fn theirs(number: u8, transforms: &[Transform]) -> Proposal<'static> {
        Proposal {
            number,
            protocol: ProtocolId::IKE,
            spi: &[],
            transforms: transforms.iter().copied().collect(),
        }
    }

    #[test]
    fn our_first_proposal_wins_over_the_peers_order() {
        let ours = [ours(&[GCM, PRF, X25519]), ours(&[CBC, PRF, SHA, X25519])];
        let theirs = [
            theirs(1, &[CBC, PRF, SHA, X25519]),
            theirs(2, &[GCM, PRF, X25519]),
        ];
        let chosen = choose(&ours, &theirs, RULES).unwrap();
        assert_eq!(
            (chosen.number, chosen.encr().unwrap().0),
            (2, EncrId::AES_GCM_16)
        );
    }

    #[test]
    fn the_key_exchange_already_sent_is_taken_where_both_list_it() {
        let ours = [ours(&[GCM, PRF, X25519, P256])];
        let theirs = [theirs(1, &[GCM, PRF, X25519, P256])];
        let rules = Rules {
            ke_sent: Some(KeId::ECP_256),
            ..RULES
        };
        assert_eq!(
            choose(&ours, &theirs, rules).unwrap().ke(),
            Some(KeId::ECP_256)
        );
        let rules = Rules {
            ke_sent: Some(KeId::MODP_2048),
            ..RULES
        };
        assert_eq!(
            choose(&ours, &theirs, rules).unwrap().ke(),
            Some(KeId::CURVE25519)
        );
    }

    #[test]
    fn a_cipher_without_integrity_and_an_aead_with_one_are_refused() {
        let ours = [ours(&[GCM, PRF, X25519]), ours(&[CBC, PRF, SHA, X25519])];
        assert_eq!(
            choose(&ours, &[theirs(1, &[CBC, PRF, X25519])], RULES),
            None
        );
        assert_eq!(
            choose(&ours, &[theirs(1, &[GCM, PRF, SHA, X25519])], RULES),
            None
        );
    }

    #[test]
    fn a_missing_key_exchange_or_prf_is_refused() {
        let ours = [ours(&[GCM, PRF, X25519])];
        assert_eq!(choose(&ours, &[theirs(1, &[GCM, PRF])], RULES), None);
        assert_eq!(choose(&ours, &[theirs(1, &[GCM, X25519])], RULES), None);
    }

    #[test]
    fn key_length_must_be_equal() {
        let ours = [ours(&[GCM, PRF, X25519])];
        let long = Transform {
            key_length: Some(256),
            ..GCM
        };
        let absent = Transform {
            key_length: None,
            ..GCM
        };
        assert_eq!(
            choose(&ours, &[theirs(1, &[long, PRF, X25519])], RULES),
            None
        );
        assert_eq!(
            choose(&ours, &[theirs(1, &[absent, PRF, X25519])], RULES),
            None
        );
    }

    #[test]
    fn an_unknown_transform_type_makes_a_proposal_unusable() {
        let ours = [ours(&[GCM, PRF, X25519])];
        let unknown = Transform {
            id: TransformId::Unknown(TransformType(6), 36),
            key_length: None,
        };
        assert_eq!(
            choose(&ours, &[theirs(1, &[GCM, PRF, X25519, unknown])], RULES),
            None
        );
    }

    #[test]
    fn esp_in_ike_auth_passes_over_key_exchange() {
        let ours = [policy::Proposal {
            protocol: ProtocolId::ESP,
            transforms: vec![GCM, NO_ESN],
        }];
        let theirs = [Proposal {
            number: 3,
            protocol: ProtocolId::ESP,
            spi: &[1, 2, 3, 4],
            transforms: [GCM, X25519, NO_ESN].into(),
        }];
        let rules = Rules {
            ke_sent: None,
            ignore_ke: true,
        };
        let chosen = choose(&ours, &theirs, rules).unwrap();
        assert_eq!(chosen.transforms, [GCM, NO_ESN]);
        assert_eq!(chosen.spi, [1, 2, 3, 4]);
    }
}
