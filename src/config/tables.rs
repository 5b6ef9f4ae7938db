//! The names of iked.conf(5) and what they stand for. A name may be shortened: the first row that
//! begins with what is written wins, so the order of the rows is part of the language.

use crate::policy::{EapMethod, PublicKeyAuth};
use crate::wire::registry::{CfgAttrType, EncrId, EsnId, IntegId, KeId, PrfId};
use crate::wire::{Transform, TransformId};

/// A name and its meaning.
pub(super) type Row<T> = (&'static str, T);

/// The row for a name: an exact one, else the first that begins with it.
pub(super) fn find<'t, T>(table: &'t [Row<T>], name: &str) -> Option<&'t T> {
    if name.is_empty() {
        return None;
    }
    let exact = table.iter().find(|(row, _)| *row == name);
    let row = exact.or_else(|| table.iter().find(|(row, _)| row.starts_with(name)));
    row.map(|(_, meaning)| meaning)
}

/// The name of a meaning.
pub(super) fn name_of<T: PartialEq>(table: &[Row<T>], meaning: &T) -> Option<&'static str> {
    table
        .iter()
        .find(|(_, row)| row == meaning)
        .map(|(name, _)| *name)
}

/// An encryption algorithm and its Key Length attribute in bits.
pub(super) type Encr = (EncrId, Option<u16>);

/// Whether this cipher authenticates by itself, so that no `auth` goes with it.
pub(super) fn is_aead(id: EncrId) -> bool {
    matches!(
        id,
        EncrId::AES_GCM_8
            | EncrId::AES_GCM_12
            | EncrId::AES_GCM_16
            | EncrId::AES_GMAC
            | EncrId::CHACHA20_POLY1305
    )
}

/// `auth`.
pub(super) const INTEG: &[Row<IntegId>] = &[
    ("hmac-md5", IntegId::HMAC_MD5_96),
    ("hmac-sha1", IntegId::HMAC_SHA1_96),
    ("hmac-sha2-256", IntegId::HMAC_SHA2_256_128),
    ("hmac-sha2-384", IntegId::HMAC_SHA2_384_192),
    ("hmac-sha2-512", IntegId::HMAC_SHA2_512_256),
];

/// `prf`.
pub(super) const PRF: &[Row<PrfId>] = &[
    ("hmac-md5", PrfId::HMAC_MD5),
    ("hmac-sha1", PrfId::HMAC_SHA1),
    ("hmac-sha2-256", PrfId::HMAC_SHA2_256),
    ("hmac-sha2-384", PrfId::HMAC_SHA2_384),
    ("hmac-sha2-512", PrfId::HMAC_SHA2_512),
];

/// `enc` after `ikesa`; the last rows are ours.
pub(super) const IKE_ENCR: &[Row<Encr>] = &[
    ("3des", (EncrId::DES3, None)),
    ("aes-128", (EncrId::AES_CBC, Some(128))),
    ("aes-192", (EncrId::AES_CBC, Some(192))),
    ("aes-256", (EncrId::AES_CBC, Some(256))),
    ("aes-128-gcm", (EncrId::AES_GCM_16, Some(128))),
    ("aes-256-gcm", (EncrId::AES_GCM_16, Some(256))),
    ("aes-128-gcm-12", (EncrId::AES_GCM_12, Some(128))),
    ("aes-256-gcm-12", (EncrId::AES_GCM_12, Some(256))),
    ("chacha20-poly1305", (EncrId::CHACHA20_POLY1305, None)),
    ("aes-192-gcm", (EncrId::AES_GCM_16, Some(192))),
    ("aes-192-gcm-12", (EncrId::AES_GCM_12, Some(192))),
    ("aes-128-gcm-8", (EncrId::AES_GCM_8, Some(128))),
    ("aes-192-gcm-8", (EncrId::AES_GCM_8, Some(192))),
    ("aes-256-gcm-8", (EncrId::AES_GCM_8, Some(256))),
];

/// `enc` after `childsa`; the last rows are ours.
pub(super) const CHILD_ENCR: &[Row<Encr>] = &[
    ("3des", (EncrId::DES3, None)),
    ("aes-128", (EncrId::AES_CBC, Some(128))),
    ("aes-192", (EncrId::AES_CBC, Some(192))),
    ("aes-256", (EncrId::AES_CBC, Some(256))),
    ("aes-128-ctr", (EncrId::AES_CTR, Some(128))),
    ("aes-192-ctr", (EncrId::AES_CTR, Some(192))),
    ("aes-256-ctr", (EncrId::AES_CTR, Some(256))),
    ("aes-128-gcm", (EncrId::AES_GCM_16, Some(128))),
    ("aes-192-gcm", (EncrId::AES_GCM_16, Some(192))),
    ("aes-256-gcm", (EncrId::AES_GCM_16, Some(256))),
    ("aes-128-gmac", (EncrId::AES_GMAC, Some(128))),
    ("aes-192-gmac", (EncrId::AES_GMAC, Some(192))),
    ("aes-256-gmac", (EncrId::AES_GMAC, Some(256))),
    ("blowfish", (EncrId::BLOWFISH, Some(160))),
    ("cast", (EncrId::CAST, Some(128))),
    ("chacha20-poly1305", (EncrId::CHACHA20_POLY1305, None)),
    ("null", (EncrId::NULL, None)),
    ("aes-128-gcm-12", (EncrId::AES_GCM_12, Some(128))),
    ("aes-192-gcm-12", (EncrId::AES_GCM_12, Some(192))),
    ("aes-256-gcm-12", (EncrId::AES_GCM_12, Some(256))),
    ("aes-128-gcm-8", (EncrId::AES_GCM_8, Some(128))),
    ("aes-192-gcm-8", (EncrId::AES_GCM_8, Some(192))),
    ("aes-256-gcm-8", (EncrId::AES_GCM_8, Some(256))),
];

/// `group`; the name printed is the first of each pair.
pub(super) const GROUP: &[Row<KeId>] = &[
    ("none", KeId::NONE),
    ("modp768", KeId::MODP_768),
    ("grp1", KeId::MODP_768),
    ("modp1024", KeId::MODP_1024),
    ("grp2", KeId::MODP_1024),
    ("modp1536", KeId::MODP_1536),
    ("grp5", KeId::MODP_1536),
    ("modp2048", KeId::MODP_2048),
    ("grp14", KeId::MODP_2048),
    ("modp3072", KeId::MODP_3072),
    ("grp15", KeId::MODP_3072),
    ("modp4096", KeId::MODP_4096),
    ("grp16", KeId::MODP_4096),
    ("modp6144", KeId::MODP_6144),
    ("grp17", KeId::MODP_6144),
    ("modp8192", KeId::MODP_8192),
    ("grp18", KeId::MODP_8192),
    ("ecp256", KeId::ECP_256),
    ("grp19", KeId::ECP_256),
    ("ecp384", KeId::ECP_384),
    ("grp20", KeId::ECP_384),
    ("ecp521", KeId::ECP_521),
    ("grp21", KeId::ECP_521),
    ("ecp192", KeId::ECP_192),
    ("grp25", KeId::ECP_192),
    ("ecp224", KeId::ECP_224),
    ("grp26", KeId::ECP_224),
    ("brainpool224", KeId::BRAINPOOL_224),
    ("grp27", KeId::BRAINPOOL_224),
    ("brainpool256", KeId::BRAINPOOL_256),
    ("grp28", KeId::BRAINPOOL_256),
    ("brainpool384", KeId::BRAINPOOL_384),
    ("grp29", KeId::BRAINPOOL_384),
    ("brainpool512", KeId::BRAINPOOL_512),
    ("grp30", KeId::BRAINPOOL_512),
    ("curve25519", KeId::CURVE25519),
    ("grp31", KeId::CURVE25519),
    ("sntrup761x25519", KeId::SNTRUP761X25519),
];

/// The authentication words that take no argument.
pub(super) const METHOD: &[Row<PublicKeyAuth>] = &[
    ("rsa", PublicKeyAuth::Rsa),
    ("rsa-pss", PublicKeyAuth::RsaPss),
    ("ecdsa256", PublicKeyAuth::Ecdsa256),
    ("ecdsa384", PublicKeyAuth::Ecdsa384),
    ("ecdsa521", PublicKeyAuth::Ecdsa521),
    ("rfc7427", PublicKeyAuth::Rfc7427),
    ("signature", PublicKeyAuth::Any),
];

/// The attribute of a `config` or `request` entry. What has none for IPv6 is passed over there, so a
/// shortened name may stand for another one.
pub(super) fn cfg_attribute(name: &str, ipv4: bool) -> Option<CfgAttrType> {
    let of = |row: &Row<(CfgAttrType, Option<CfgAttrType>)>| {
        let (v4, v6) = row.1;
        let attribute = if ipv4 { Some(v4) } else { v6 };
        attribute.map(|attribute| (row.0, attribute))
    };
    let rows: Vec<_> = CFG.iter().filter_map(of).collect();
    find(&rows, name).copied()
}

/// The attribute of a `config` or `request` entry whose value is no address.
pub(super) fn cfg_text(name: &str) -> Option<CfgAttrType> {
    let other = CFG
        .iter()
        .any(|(row, _)| !name.is_empty() && row.starts_with(name));
    let found = find(CFG_TEXT, name).copied();
    found.filter(|_| !other)
}

/// `config` and `request`: what is no address (RFC 8598).
pub(super) const CFG_TEXT: &[Row<CfgAttrType>] = &[
    ("dns-domain", CfgAttrType::INTERNAL_DNS_DOMAIN),
    ("dnssec-ta", CfgAttrType::INTERNAL_DNSSEC_TA),
];

/// `eap`, in small letters with `-`.
pub(super) const EAP: &[Row<EapMethod>] = &[
    ("mschap-v2", EapMethod::MsChapV2),
    ("md5", EapMethod::Md5),
    ("gtc", EapMethod::Gtc),
    ("tls", EapMethod::Tls),
    ("radius", EapMethod::Radius),
];

/// `config` and `request`: the attribute for IPv4 and the one for IPv6.
pub(super) const CFG: &[Row<(CfgAttrType, Option<CfgAttrType>)>] = &[
    (
        "address",
        (
            CfgAttrType::INTERNAL_IP4_ADDRESS,
            Some(CfgAttrType::INTERNAL_IP6_ADDRESS),
        ),
    ),
    ("netmask", (CfgAttrType::INTERNAL_IP4_NETMASK, None)),
    (
        "name-server",
        (
            CfgAttrType::INTERNAL_IP4_DNS,
            Some(CfgAttrType::INTERNAL_IP6_DNS),
        ),
    ),
    (
        "netbios-server",
        (
            CfgAttrType::INTERNAL_IP4_NBNS,
            Some(CfgAttrType::INTERNAL_IP6_NBNS),
        ),
    ),
    (
        "dhcp-server",
        (
            CfgAttrType::INTERNAL_IP4_DHCP,
            Some(CfgAttrType::INTERNAL_IP6_DHCP),
        ),
    ),
    (
        "protected-subnet",
        (
            CfgAttrType::INTERNAL_IP4_SUBNET,
            Some(CfgAttrType::INTERNAL_IP6_SUBNET),
        ),
    ),
    (
        "access-server",
        (
            CfgAttrType::INTERNAL_IP4_SERVER,
            Some(CfgAttrType::INTERNAL_IP6_SERVER),
        ),
    ),
];

/// The words that cannot be strings unless quoted.
pub(super) const KEYWORDS: &[&str] = &[
    "active",
    "ah",
    "any",
    "auth",
    "bytes",
    "cert_partial_chain",
    "childsa",
    "config",
    "couple",
    "decouple",
    "default",
    "dpd_check_interval",
    "dstid",
    "dynamic",
    "eap",
    "enc",
    "enforcesingleikesa",
    "esn",
    "esp",
    "file",
    "flow",
    "fragmentation",
    "from",
    "group",
    "iface",
    "ike",
    "ikelifetime",
    "ikesa",
    "ikev2",
    "include",
    "inet",
    "inet6",
    "ipcomp",
    "lifetime",
    "local",
    "maxage",
    "mobike",
    "name",
    "natt",
    "noenforcesingleikesa",
    "noesn",
    "nofragmentation",
    "nomobike",
    "nostickyaddress",
    "novendorid",
    "ocsp",
    "passive",
    "peer",
    "port",
    "prf",
    "proto",
    "psk",
    "quick",
    "rdomain",
    "request",
    "sa",
    "set",
    "skip",
    "srcid",
    "stickyaddress",
    "tag",
    "tap",
    "tcpmd5",
    "to",
    "tolerate",
    "transport",
    "tunnel",
    "user",
    "vendorid",
];

/// First words of ipsec.conf(5) lines, which are passed over.
pub(super) const IGNORED: &[&str] = &[
    "ike",
    "sa",
    "from",
    "to",
    "tunnel",
    "transport",
    "flow",
    "tcpmd5",
];

/// What `ikesa` has where nothing is written: ciphers with and without integrity of their own.
pub(super) const DEFAULT_IKE_AEAD: &[Encr] = &[
    (EncrId::AES_GCM_16, Some(128)),
    (EncrId::AES_GCM_16, Some(256)),
    (EncrId::CHACHA20_POLY1305, None),
];
pub(super) const DEFAULT_IKE_ENCR: &[Encr] = &[
    (EncrId::AES_CBC, Some(256)),
    (EncrId::AES_CBC, Some(192)),
    (EncrId::AES_CBC, Some(128)),
    (EncrId::DES3, None),
];
pub(super) const DEFAULT_PRF: &[PrfId] = &[
    PrfId::HMAC_SHA2_256,
    PrfId::HMAC_SHA2_384,
    PrfId::HMAC_SHA2_512,
    PrfId::HMAC_SHA1,
];
pub(super) const DEFAULT_INTEG: &[IntegId] = &[
    IntegId::HMAC_SHA2_256_128,
    IntegId::HMAC_SHA2_384_192,
    IntegId::HMAC_SHA2_512_256,
    IntegId::HMAC_SHA1_96,
];
pub(super) const DEFAULT_IKE_GROUP: &[KeId] = &[
    KeId::CURVE25519,
    KeId::ECP_521,
    KeId::ECP_384,
    KeId::ECP_256,
    KeId::MODP_4096,
    KeId::MODP_3072,
    KeId::MODP_2048,
    KeId::MODP_1536,
    KeId::MODP_1024,
];

/// What `childsa` has where nothing is written.
pub(super) const DEFAULT_CHILD_AEAD: &[Encr] = &[
    (EncrId::AES_GCM_16, Some(128)),
    (EncrId::AES_GCM_16, Some(256)),
    (EncrId::CHACHA20_POLY1305, None),
];
pub(super) const DEFAULT_CHILD_ENCR: &[Encr] = &[
    (EncrId::AES_CBC, Some(256)),
    (EncrId::AES_CBC, Some(192)),
    (EncrId::AES_CBC, Some(128)),
];
pub(super) const DEFAULT_CHILD_GROUP: &[KeId] = &[KeId::NONE];
pub(super) const DEFAULT_ESN: &[EsnId] = &[EsnId::ESN, EsnId::NO_ESN];
/// The same over PF_KEY, where Linux cuts HMAC-SHA2-256 to 96 bits and has no ESN.
pub(super) const DEFAULT_PFKEY_INTEG: &[IntegId] = &[
    IntegId::HMAC_SHA2_384_192,
    IntegId::HMAC_SHA2_512_256,
    IntegId::HMAC_SHA1_96,
];
pub(super) const DEFAULT_PFKEY_ESN: &[EsnId] = &[EsnId::NO_ESN];

/// The transform of an encryption algorithm.
pub(super) const fn encr((id, key_length): Encr) -> Transform {
    Transform {
        id: TransformId::Encr(id),
        key_length,
    }
}

/// A transform without attribute.
pub(super) const fn plain(id: TransformId) -> Transform {
    Transform {
        id,
        key_length: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_shortened_and_the_first_row_wins() {
        assert_eq!(find(CHILD_ENCR, "aes"), Some(&(EncrId::AES_CBC, Some(128))));
        assert_eq!(
            find(CHILD_ENCR, "aes-256-gc"),
            Some(&(EncrId::AES_GCM_16, Some(256)))
        );
        assert_eq!(find(INTEG, "hmac-sha2"), Some(&IntegId::HMAC_SHA2_256_128));
        assert_eq!(find(GROUP, "curve"), Some(&KeId::CURVE25519));
        assert_eq!(find(GROUP, "modp"), Some(&KeId::MODP_768));
        assert_eq!(find(GROUP, "grp2"), Some(&KeId::MODP_1024));
    }

    #[test]
    fn every_word_of_the_language_is_in_its_manual() {
        let page = include_str!("../../man/iked.conf.5");
        let words: Vec<&str> = page
            .split(|c: char| c.is_whitespace() || c == ',')
            .collect();
        // Reserved, and used by nothing.
        let used = KEYWORDS.iter().filter(|word| **word != "name");
        let rows = CHILD_ENCR.iter().map(|row| row.0).filter(|name| {
            // Written as one name with its endings.
            !["-12", "-8"].iter().any(|end| name.ends_with(end))
        });
        let groups = GROUP.iter().map(|row| row.0);
        let groups = groups.filter(|name| !name.starts_with("grp"));
        let methods = METHOD.iter().map(|row| row.0);
        let options = CFG.iter().map(|row| row.0);
        let options = options.chain(CFG_TEXT.iter().map(|row| row.0));
        let eap = EAP.iter().map(|row| row.0).filter(|name| *name != "radius");
        let all = used
            .copied()
            .chain(rows)
            .chain(groups)
            .chain(methods)
            .chain(options)
            .chain(eap);
        let missing: Vec<&str> = all.filter(|word| !words.contains(word)).collect();
        assert!(missing.is_empty(), "not in man/iked.conf.5: {missing:?}");
    }

    #[test]
    fn empty_and_longer_names_are_no_names() {
        assert_eq!(find(GROUP, ""), None);
        assert_eq!(find(GROUP, "curve25519x"), None);
        assert_eq!(find(METHOD, "none"), None);
    }

    #[test]
    fn every_printed_name_is_read_back_as_what_it_names() {
        for (name, meaning) in CHILD_ENCR {
            assert_eq!(find(CHILD_ENCR, name), Some(meaning), "{name}");
        }
        for (name, meaning) in IKE_ENCR {
            assert_eq!(find(IKE_ENCR, name), Some(meaning), "{name}");
        }
        for (name, meaning) in GROUP {
            assert_eq!(find(GROUP, name), Some(meaning), "{name}");
            assert_eq!(find(GROUP, name_of(GROUP, meaning).unwrap()), Some(meaning));
        }
    }

    #[test]
    fn keywords_are_sorted_and_single() {
        assert!(KEYWORDS.is_sorted_by(|a, b| a < b));
    }
}
