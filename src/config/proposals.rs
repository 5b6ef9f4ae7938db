//! What `ikesa` and `childsa` offer: the written transforms, filled up with defaults. A group that
//! names neither cipher nor integrity makes two proposals: ciphers with integrity of their own
//! first, then the others.

use super::Diagnostic;
use super::ast::{Text, Transforms};
use super::tables::{self, Encr, Row};
use crate::policy::Proposal;
use crate::wire::registry::{EncrId, EsnId, IntegId, KeId, PrfId, ProtocolId};
use crate::wire::{Transform, TransformId};

/// The proposals of all groups, or the defaults where there is none.
pub(super) fn proposals(
    protocol: ProtocolId,
    rules: &Rules,
    groups: &[Transforms],
) -> Result<Vec<Proposal>, Diagnostic> {
    if groups.is_empty() {
        return Ok(build(protocol, rules, &Wanted::default()));
    }
    let mut proposals = Vec::new();
    for group in groups {
        let wanted = read(protocol, rules, group)?;
        for proposal in build(protocol, rules, &wanted) {
            if !proposals.contains(&proposal) {
                proposals.push(proposal);
            }
        }
    }
    Ok(proposals)
}

/// What the words may be, and what stands where nothing is written.
pub(super) struct Rules {
    names: &'static [Row<Encr>],
    aead: &'static [Encr],
    encr: &'static [Encr],
    prf: &'static [PrfId],
    integ: &'static [IntegId],
    group: &'static [KeId],
    esn: &'static [EsnId],
}

pub(super) const IKE: Rules = Rules {
    names: tables::IKE_ENCR,
    aead: tables::DEFAULT_IKE_AEAD,
    encr: tables::DEFAULT_IKE_ENCR,
    prf: tables::DEFAULT_PRF,
    integ: tables::DEFAULT_INTEG,
    group: tables::DEFAULT_IKE_GROUP,
    esn: &[],
};

pub(super) const CHILD: Rules = Rules {
    names: tables::CHILD_ENCR,
    aead: tables::DEFAULT_CHILD_AEAD,
    encr: tables::DEFAULT_CHILD_ENCR,
    prf: &[],
    integ: tables::DEFAULT_INTEG,
    group: tables::DEFAULT_CHILD_GROUP,
    esn: tables::DEFAULT_ESN,
};

/// Child SAs that Linux can do over PF_KEY.
pub(super) const CHILD_BY_PFKEY: Rules = Rules {
    aead: &[],
    integ: tables::DEFAULT_PFKEY_INTEG,
    esn: tables::DEFAULT_PFKEY_ESN,
    ..CHILD
};

#[derive(Default)]
struct Wanted {
    encr: Vec<Encr>,
    integ: Vec<IntegId>,
    prf: Vec<PrfId>,
    group: Vec<KeId>,
    esn: Vec<EsnId>,
}

fn read(protocol: ProtocolId, rules: &Rules, group: &Transforms) -> Result<Wanted, Diagnostic> {
    let wrong = |message: &str| Err(Diagnostic::at(&group.at, message.to_owned()));
    let esn = |&on: &bool| if on { EsnId::ESN } else { EsnId::NO_ESN };
    let wanted = Wanted {
        encr: look_up(rules.names, &group.enc)?,
        integ: look_up(tables::INTEG, &group.auth)?,
        // After `childsa` a PRF is read and means nothing.
        prf: look_up(tables::PRF, &group.prf)?,
        group: look_up(tables::GROUP, &group.group)?,
        esn: group.esn.iter().map(esn).collect(),
    };
    let implicit = wanted
        .encr
        .iter()
        .filter(|(id, _)| tables::is_aead(*id))
        .count();
    if implicit > 0 && implicit != wanted.encr.len() {
        return wrong(
            "cannot mix encryption transforms with implicit and non-implicit authentication",
        );
    }
    if implicit > 0 && !wanted.integ.is_empty() {
        return wrong("authentication is implicit for given encryption transforms");
    }
    if protocol == ProtocolId::IKE {
        if !wanted.esn.is_empty() {
            return wrong("cannot use ESN with ikesa.");
        }
        if wanted.group.contains(&KeId::NONE) {
            return wrong("IKE group can not be \"none\".");
        }
    }
    Ok(wanted)
}

fn look_up<T: Copy>(table: &[Row<T>], names: &[Text]) -> Result<Vec<T>, Diagnostic> {
    let one = |name: &Text| {
        let wrong = || Diagnostic::at(&name.at, format!("{} not a valid transform", name.text));
        tables::find(table, &name.text).copied().ok_or_else(wrong)
    };
    names.iter().map(one).collect()
}

fn build(protocol: ProtocolId, rules: &Rules, wanted: &Wanted) -> Vec<Proposal> {
    if protocol == ProtocolId::AH {
        // AH has no cipher, whatever is written.
        return vec![one(protocol, rules, wanted, &[], rules.integ)];
    }
    let (aead, encr): (Vec<Encr>, Vec<Encr>) =
        wanted.encr.iter().partition(|(id, _)| tables::is_aead(*id));
    let free = wanted.encr.is_empty();
    let mut proposals = Vec::new();
    let unnamed = free && wanted.integ.is_empty() && !rules.aead.is_empty();
    if !aead.is_empty() || unnamed {
        let ciphers = if free { rules.aead } else { &aead };
        proposals.push(one(protocol, rules, wanted, ciphers, &[]));
    }
    if !encr.is_empty() || free {
        let ciphers = if free { rules.encr } else { &encr };
        proposals.push(one(protocol, rules, wanted, ciphers, rules.integ));
    }
    proposals
}

fn one(
    protocol: ProtocolId,
    rules: &Rules,
    wanted: &Wanted,
    ciphers: &[Encr],
    default_integ: &[IntegId],
) -> Proposal {
    let mut transforms = Vec::new();
    let mut push = |transform: Transform| {
        if !transforms.contains(&transform) {
            transforms.push(transform);
        }
    };
    for &cipher in ciphers {
        push(tables::encr(cipher));
        if protocol == ProtocolId::ESP && cipher.0 == EncrId::CHACHA20_POLY1305 {
            // RFC 7634, 4 has no Key Length here; OpenIKED sends and expects one.
            push(tables::encr((cipher.0, Some(256))));
        }
    }
    if protocol == ProtocolId::IKE {
        let prf = or_default(&wanted.prf, rules.prf);
        prf.iter()
            .for_each(|&id| push(tables::plain(TransformId::Prf(id))));
    }
    if !default_integ.is_empty() {
        let integ = or_default(&wanted.integ, default_integ);
        integ
            .iter()
            .for_each(|&id| push(tables::plain(TransformId::Integ(id))));
    }
    let group = or_default(&wanted.group, rules.group);
    group
        .iter()
        .for_each(|&id| push(tables::plain(TransformId::Ke(id))));
    let esn = or_default(&wanted.esn, rules.esn);
    esn.iter()
        .for_each(|&id| push(tables::plain(TransformId::Esn(id))));
    Proposal {
        protocol,
        transforms,
    }
}

fn or_default<'a, T>(written: &'a [T], default: &'a [T]) -> &'a [T] {
    if written.is_empty() { default } else { written }
}
