//! The responses are those of `tests/vectors/ocsp`, made by openssl(1).

use std::fs;
use std::path::Path;

use super::*;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ocsp");
    fs::read(folder.join(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let all = Certificate::all_from_pem(&file(&format!("{name}.crt"))).unwrap();
    all.into_iter().next().unwrap()
}

/// When the responses were made, as they say themselves.
fn made() -> i64 {
    let response = file("endless.der");
    let basic = Basic::read(&response).unwrap();
    let mut data = Fields::of_sequence(basic.data).unwrap();
    data.any().unwrap();
    data.any().unwrap().time().unwrap()
}

fn id(about: &str) -> CertId {
    CertId::new(&certificate(about), &certificate("ca")).unwrap()
}

struct Case {
    about: &'static str,
    response: Vec<u8>,
    responders: Vec<Certificate>,
    nonce: Option<Vec<u8>>,
    at: i64,
    tolerate: u64,
    max_age: Option<u64>,
}

impl Case {
    fn of(about: &'static str, response: &str) -> Self {
        Self {
            about,
            response: file(&format!("{response}.der")),
            responders: Vec::new(),
            nonce: None,
            at: made() + 60,
            tolerate: 0,
            max_age: None,
        }
    }

    fn outcome(&self) -> Result<Verdict, OcspError> {
        let issuer = certificate("ca");
        let id = id(self.about);
        let rules = Rules {
            issuer: &issuer,
            responders: &self.responders,
            nonce: self.nonce.as_deref(),
            at: self.at,
            tolerate: Duration::from_secs(self.tolerate),
            max_age: self.max_age.map(Duration::from_secs),
        };
        check(&self.response, &id, rules)
    }

    fn status(&self) -> Result<Status, OcspError> {
        self.outcome().map(|verdict| verdict.status)
    }
}

#[test]
fn the_issuer_and_whom_it_names_are_believed() {
    assert_eq!(Case::of("good", "good").status(), Ok(Status::Good));
    assert_eq!(Case::of("good", "delegated").status(), Ok(Status::Good));
    assert_eq!(Case::of("good", "unknown").status(), Ok(Status::Unknown));
    assert_eq!(Case::of("revoked", "revoked").status(), Ok(Status::Revoked));
}

#[test]
fn nobody_else_is_believed_unless_the_administrator_says_so() {
    // A leaf without OCSPSigning, one whose time is over, one of another authority, one that is not
    // shown, and a signature with SHA-1.
    for name in ["plain", "late", "foreign", "bare", "sha1"] {
        let case = Case::of("good", name);
        assert_eq!(case.status(), Err(OcspError::Signer), "{name}");
    }
    for (name, responder) in [
        ("bare", "delegate"),
        ("foreign", "foreign"),
        ("late", "late"),
    ] {
        let mut case = Case::of("good", name);
        case.responders = vec![certificate("other"), certificate(responder)];
        assert_eq!(case.status(), Ok(Status::Good), "{name}");
    }
}

#[test]
fn an_answer_about_another_certificate_is_none() {
    let case = Case::of("revoked", "good");
    assert_eq!(case.status(), Err(OcspError::Other));
}

#[test]
fn a_response_is_good_for_its_time_and_no_longer() {
    let at = |name, seconds, tolerate, max_age| {
        let case = Case {
            at: made() + seconds,
            tolerate,
            max_age,
            ..Case::of("good", name)
        };
        case.outcome()
            .map(|verdict| verdict.until.map(|until| until - made()))
    };
    let day = 86_400;
    // openssl(1) may take a second or two for all of them.
    let near = |found: Result<Option<i64>, _>, wanted: i64| {
        let found = found.unwrap().unwrap();
        assert!((wanted..wanted + 10).contains(&found), "{found} {wanted}");
    };
    near(at("short", day - 60, 0, None), day);
    assert_eq!(at("short", day + 60, 0, None), Err(OcspError::Expired));
    near(at("short", day + 60, 300, None), day);
    assert_eq!(at("short", -60, 0, None), Err(OcspError::Early));
    near(at("short", -60, 300, None), day);
    near(at("short", 60, 0, Some(600)), 600);
    assert_eq!(at("short", 660, 0, Some(600)), Err(OcspError::Expired));
    assert_eq!(at("endless", day, 0, None), Ok(None));
    assert_eq!(at("endless", day, 0, Some(600)), Err(OcspError::Expired));
}

#[test]
fn a_response_to_another_request_is_refused_and_one_without_nonce_is_not_fresh() {
    let request = file("nonce.req");
    let mut fields = Fields::of_sequence(&request).unwrap().sequence().unwrap();
    fields.sequence().unwrap();
    let extensions = fields.tagged(0xa2).unwrap();
    let nonce = nonce_of(extensions).unwrap().unwrap().to_vec();
    let mut case = Case::of("good", "nonce");
    case.nonce = Some(nonce);
    let verdict = case.outcome().unwrap();
    assert_eq!((verdict.status, verdict.fresh), (Status::Unknown, true));
    case.nonce = Some(vec![7; 32]);
    assert_eq!(case.outcome(), Err(OcspError::Nonce));
    let mut case = Case::of("good", "good");
    case.nonce = Some(vec![7; 32]);
    assert!(!case.outcome().unwrap().fresh);
}

#[test]
fn our_request_is_that_of_openssl_but_for_the_nonce() {
    let id = CertId::new(&certificate("good"), &certificate("ca")).unwrap();
    let ours = request(&id, Some(&[0x5a; NONCE_LEN]));
    let list = |request: &[u8]| {
        let mut fields = Fields::of_sequence(request).unwrap().sequence().unwrap();
        let list = fields.any().unwrap().whole.to_vec();
        let extensions = fields.tagged(0xa2).unwrap();
        let nonce = nonce_of(extensions).unwrap().unwrap().len();
        (list, nonce)
    };
    let (ours, len) = list(&ours);
    assert_eq!(len, NONCE_LEN);
    assert_eq!(ours, list(&file("nonce.req")).0);
    let bare = request(&id, None);
    let mut bare = Fields::of_sequence(&bare).unwrap().sequence().unwrap();
    assert_eq!(bare.any().unwrap().whole, ours);
    bare.end().unwrap();
}

#[test]
fn a_refusal_and_bytes_that_are_no_response_say_so() {
    assert_eq!(
        Case::of("good", "refused").status(),
        Err(OcspError::Refused(3))
    );
    let whole = file("good.der");
    for cut in 0..whole.len() {
        let mut case = Case::of("good", "good");
        case.response.truncate(cut);
        assert_eq!(case.status(), Err(OcspError::Malformed), "{cut}");
    }
}

#[test]
fn no_bit_of_what_is_signed_can_be_changed() {
    let whole = file("good.der");
    let basic = Basic::read(&whole).unwrap();
    let end = basic.data.as_ptr() as usize - whole.as_ptr() as usize + basic.data.len();
    for at in 0..end {
        let mut case = Case::of("good", "good");
        case.response[at] ^= 1;
        assert!(case.status().is_err(), "{at}");
    }
}
