//! The certificates and lists are those of `tests/vectors/crl`.

use std::fs;
use std::path::Path;

use super::*;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/crl");
    fs::read(folder.join(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let all = Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap();
    all.into_iter().next().unwrap()
}

/// 2100-01-01, when everything is valid that is not made otherwise.
const AT: i64 = 4_102_444_800;

fn read(list: &str, issuer: &str) -> Result<List, CrlError> {
    List::read(&file(&format!("{list}.crl")), &certificate(issuer), AT)
}

fn said(list: &str, issuer: &str, about: &str) -> Result<Status, CrlError> {
    read(list, issuer)?.status(&certificate(about))
}

#[test]
fn a_list_says_who_is_revoked() {
    for list in ["ca", "users"] {
        assert_eq!(said(list, "ca", "good"), Ok(Status::Good), "{list}");
        assert_eq!(said(list, "ca", "revoked"), Ok(Status::Revoked), "{list}");
    }
    assert_eq!(said("later", "ca", "good"), Ok(Status::Revoked));
    assert_eq!(said("ca", "ca", "sub"), Ok(Status::Good));
    assert_eq!(said("later", "ca", "sub"), Ok(Status::Revoked));
    assert_eq!(said("sub", "sub", "deep"), Ok(Status::Good));
    // One that has no distribution point is still of this issuer.
    assert_eq!(said("ca", "ca", "silent"), Ok(Status::Good));
}

#[test]
fn a_list_that_does_not_count_says_nothing() {
    let refused = |list, issuer| read(list, issuer).err();
    assert_eq!(refused("other", "ca"), Some(CrlError::Other));
    assert_eq!(refused("ca", "sub"), Some(CrlError::Other));
    assert_eq!(refused("twin", "ca"), Some(CrlError::Signer));
    assert_eq!(refused("sha1", "ca"), Some(CrlError::Signer));
    assert_eq!(refused("early", "ca"), Some(CrlError::Early));
    assert_eq!(refused("expired", "ca"), Some(CrlError::Expired));
    assert_eq!(said("mute", "mute", "under"), Err(CrlError::Signer));
    // For users only, or for another distribution point.
    assert_eq!(said("users", "ca", "sub"), Err(CrlError::Scope));
    assert_eq!(said("elsewhere", "ca", "good"), Err(CrlError::Scope));
    assert!(said("ca", "ca", "deep").is_err());
}

#[test]
fn a_list_counts_from_its_making_to_the_next_with_five_minutes_of_clock() {
    let (der, ca) = (file("expired.crl"), certificate("ca"));
    // 2026-01-01 to 2026-02-01.
    let (from, to) = (1_767_225_600, 1_769_904_000);
    let read = |at| List::read(&der, &ca, at).map(|list| list.until());
    assert_eq!(read(from - 301), Err(CrlError::Early));
    assert_eq!(read(from - 300), Ok(to + 300));
    assert_eq!(read(to + 300), Ok(to + 300));
    assert_eq!(read(to + 301), Err(CrlError::Expired));
}

#[test]
fn a_changed_list_is_none() {
    let (der, ca) = (file("ca.crl"), certificate("ca"));
    for place in 0..der.len() {
        let mut bytes = der.clone();
        bytes[place] ^= 1;
        assert!(List::read(&bytes, &ca, AT).is_err(), "{place}");
        assert!(List::read(&der[..place], &ca, AT).is_err(), "{place}");
    }
    let more = [der, vec![0]].concat();
    assert_eq!(List::read(&more, &ca, AT).err(), Some(CrlError::Malformed));
}

#[test]
fn a_certificate_names_where_its_list_is() {
    let urls = ["ldap://192.0.2.80/cn=ca", "http://192.0.2.80:8081/ca.crl"];
    assert_eq!(certificate("good").crl_urls(), urls);
    assert!(certificate("silent").crl_urls().is_empty());
}

#[test]
fn distribution_points_for_some_reasons_or_of_another_issuer_are_passed_over() {
    use crate::crypto::asn1::{explicit, sequence};
    let uri = b"\x86\x08http://a";
    let name = explicit(0, &explicit(0, uri));
    let plain = sequence(&[&name]);
    let some = sequence(&[&name, b"\x81\x02\x00\x80"]);
    let indirect = sequence(&[&name, &explicit(2, uri)]);
    let relative = sequence(&[&explicit(0, &explicit(1, b""))]);
    let empty = sequence(&[]);
    let all = sequence(&[&some, &indirect, &relative, &empty, &plain]);
    assert_eq!(urls(&all).unwrap(), ["http://a"]);
    for cut in 0..all.len() {
        assert!(urls(&all[..cut]).is_err(), "{cut}");
    }
}
