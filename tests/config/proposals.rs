//! `ikesa` and `childsa`.

use iked::wire::TransformId;
use iked::wire::registry::{EncrId, EsnId, IntegId, KeId, PrfId, ProtocolId};

use super::world::{LEAST, error, offered, parse, policy};

#[test]
fn groups_without_cipher_and_integrity_make_two_proposals() {
    let policy = policy(&format!(
        "{LEAST} ikesa group grp14 ikesa enc aes-128 childsa group ecp256"
    ));
    let ike = offered(&policy.ike_proposals);
    assert_eq!(ike.len(), 3);
    assert!(ike.first().unwrap().starts_with("AES_GCM_16-128"));
    assert!(ike.first().unwrap().ends_with("PRF_HMAC_SHA1 KE_MODP_2048"));
    assert!(ike.get(1).unwrap().starts_with("AES_CBC-256"));
    assert!(ike.get(1).unwrap().ends_with("HMAC_SHA1_96 KE_MODP_2048"));
    assert!(ike.get(2).unwrap().starts_with("AES_CBC-128 PRF"));
    let child = offered(&policy.child_proposals);
    assert_eq!(child.len(), 2);
    assert!(
        child
            .iter()
            .all(|line| line.ends_with("KE_ECP_256 ESN NO_ESN")),
        "{child:?}"
    );
}

#[test]
fn ah_has_no_cipher() {
    let policy = policy("ikev2 ah from any to any childsa auth hmac-sha2-512 esn");
    assert_eq!(policy.protocol, ProtocolId::AH);
    let expected = format!("HMAC_SHA2_512_256 KE_{} ESN", KeId::NONE);
    assert_eq!(offered(&policy.child_proposals), [expected]);
}

#[test]
fn transforms_that_do_not_go_together_are_refused() {
    let cases = [
        (
            "ikesa enc aes-256-gcm auth hmac-sha2-256",
            "authentication is implicit",
        ),
        (
            "ikesa enc aes-256-gcm enc aes-256",
            "cannot mix encryption transforms",
        ),
        ("ikesa esn", "cannot use ESN with ikesa."),
        ("ikesa group none", "IKE group can not be \"none\"."),
        ("ikesa enc aes-256-ctr", "aes-256-ctr not a valid transform"),
        ("childsa enc rot13", "rot13 not a valid transform"),
        ("childsa group modp1", ""),
    ];
    for (clause, message) in cases {
        let text = format!("{LEAST} {clause}");
        if message.is_empty() {
            assert!(parse(&text).is_ok(), "{clause}");
        } else {
            assert!(
                error(&text).starts_with(&format!("test: 1: {message}")),
                "{clause}"
            );
        }
    }
}

#[test]
fn transform_names_carry_the_registered_numbers() {
    let text = format!(
        "{LEAST} ikesa enc chacha20-poly1305 prf hmac-sha2-512 group brainpool512 \
         childsa enc blowfish enc cast enc null enc 3des auth hmac-md5 group none group grp25 esn"
    );
    let policy = policy(&text);
    let ids = |proposals: &[iked::policy::Proposal]| -> Vec<TransformId> {
        proposals
            .iter()
            .flat_map(|p| p.transforms.iter().map(|t| t.id))
            .collect()
    };
    assert_eq!(
        ids(&policy.ike_proposals),
        [
            TransformId::Encr(EncrId::CHACHA20_POLY1305),
            TransformId::Prf(PrfId::HMAC_SHA2_512),
            TransformId::Ke(KeId::BRAINPOOL_512),
        ]
    );
    assert_eq!(
        ids(&policy.child_proposals),
        [
            TransformId::Encr(EncrId::BLOWFISH),
            TransformId::Encr(EncrId::CAST),
            TransformId::Encr(EncrId::NULL),
            TransformId::Encr(EncrId::DES3),
            TransformId::Integ(IntegId::HMAC_MD5_96),
            TransformId::Ke(KeId::NONE),
            TransformId::Ke(KeId::ECP_192),
            TransformId::Esn(EsnId::ESN),
        ]
    );
}
