//! `.sswan`: a profile for the strongSwan app on Android, a JSON object.

use boring::base64::encode_block;
use serde::Serialize;

use super::{Profile, uuid};
use crate::ca::CaError;

#[derive(Serialize)]
struct Sswan<'a> {
    uuid: String,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    remote: Remote<'a>,
    local: Local<'a>,
    #[serde(rename = "ike-proposal")]
    ike: &'static str,
    #[serde(rename = "esp-proposal")]
    esp: &'static str,
}

#[derive(Serialize)]
struct Remote<'a> {
    addr: &'a str,
    id: &'a str,
    cert: String,
}

#[derive(Serialize)]
struct Local<'a> {
    id: &'a str,
    p12: String,
}

/// The profile; the app asks for the password when it imports the key.
pub(super) fn profile(of: &Profile<'_>) -> Result<Vec<u8>, CaError> {
    let profile = Sswan {
        uuid: uuid()?,
        name: of.ca,
        kind: "ikev2-cert",
        remote: Remote {
            addr: of.peer,
            id: of.peer,
            cert: encode_block(of.ca_der),
        },
        local: Local {
            id: of.host,
            p12: encode_block(of.pfx),
        },
        ike: "aes256gcm16-prfsha256-ecp256",
        esp: "aes256gcm16",
    };
    let text = serde_json::to_vec_pretty(&profile);
    Ok(text.map_err(std::io::Error::from)?)
}
