//! `.mobileconfig`: a configuration profile for iOS and macOS (Apple's "Device Management", payloads
//! `com.apple.vpn.managed`, `com.apple.security.pkcs12` and `com.apple.security.root`).

use boring::base64::encode_block;

use super::{Profile, uuid};
use crate::ca::CaError;

/// A property list in XML. The password is not in it: the device asks for it once.
pub(super) fn profile(of: &Profile<'_>) -> Result<Vec<u8>, CaError> {
    let [own, root, identity, vpn] = [uuid()?, uuid()?, uuid()?, uuid()?];
    let id = format!("{}.{}.iked", of.ca, of.host);
    let ca = payload("com.apple.security.root", &format!("{id}.ca"), &root, of.ca)
        + &string("PayloadCertificateFileName", "ca.crt")
        + &data("PayloadContent", of.ca_der);
    let pkcs12 = payload(
        "com.apple.security.pkcs12",
        &format!("{id}.identity"),
        &identity,
        of.host,
    ) + &string("PayloadCertificateFileName", &format!("{}.pfx", of.host))
        + &data("PayloadContent", of.pfx);
    let vpn = payload("com.apple.vpn.managed", &format!("{id}.vpn"), &vpn, of.ca)
        + &string("UserDefinedName", of.ca)
        + &string("VPNType", "IKEv2")
        + &dict("IKEv2", &ikev2(of, &identity));
    let payloads = [ca, pkcs12, vpn].map(|content| format!("<dict>\n{content}</dict>\n"));
    let content = payload("Configuration", &id, &own, of.ca)
        + &format!(
            "<key>PayloadContent</key>\n<array>\n{}</array>\n",
            payloads.concat()
        );
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n{content}</dict>\n</plist>\n"
    )
    .into_bytes())
}

fn ikev2(of: &Profile<'_>, identity: &str) -> String {
    // The suite must be the gateway's: a device that gets another one fails when it rekeys. Without
    // PFS, because macOS 14 fails with it.
    let suite = string("EncryptionAlgorithm", "AES-256-GCM")
        + &string("IntegrityAlgorithm", "SHA2-256")
        + &integer("DiffieHellmanGroup", 19);
    string("RemoteAddress", of.peer)
        + &string("RemoteIdentifier", of.peer)
        + &string("LocalIdentifier", of.host)
        + &string("AuthenticationMethod", "Certificate")
        + &string("CertificateType", if of.rsa { "RSA" } else { "ECDSA256" })
        + &string("PayloadCertificateUUID", identity)
        + &string("ServerCertificateIssuerCommonName", of.ca_name)
        + &integer("ExtendedAuthEnabled", 0)
        + &integer("EnablePFS", 0)
        + &string("DeadPeerDetectionRate", "Medium")
        + &dict("IKESecurityAssociationParameters", &suite)
        + &dict("ChildSecurityAssociationParameters", &suite)
}

fn payload(kind: &str, id: &str, uuid: &str, name: &str) -> String {
    string("PayloadType", kind)
        + &integer("PayloadVersion", 1)
        + &string("PayloadIdentifier", id)
        + &string("PayloadUUID", uuid)
        + &string("PayloadDisplayName", name)
}

fn string(key: &str, value: &str) -> String {
    format!("<key>{key}</key>\n<string>{}</string>\n", escape(value))
}

fn integer(key: &str, value: u32) -> String {
    format!("<key>{key}</key>\n<integer>{value}</integer>\n")
}

fn data(key: &str, value: &[u8]) -> String {
    format!("<key>{key}</key>\n<data>{}</data>\n", encode_block(value))
}

fn dict(key: &str, content: &str) -> String {
    format!("<key>{key}</key>\n<dict>\n{content}</dict>\n")
}

/// Names have no such characters, but an authority that somebody else made may.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}
