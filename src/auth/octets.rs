//! The octets that AUTH covers, RFC 7296, 2.15.

use crate::crypto::Prf;

/// `RealMessage | NonceOfThePeer | prf(SK_p, RestOfIDPayload)`. `sk_p` is SK_pi for the initiator's
/// octets and SK_pr for the responder's; `id_body` is the ID payload without its generic header.
pub fn signed_octets(
    real_message: &[u8],
    peer_nonce: &[u8],
    prf: &dyn Prf,
    sk_p: &[u8],
    id_body: &[u8],
) -> Vec<u8> {
    let mut octets = Vec::with_capacity(real_message.len() + peer_nonce.len() + prf.output_len());
    octets.extend_from_slice(real_message);
    octets.extend_from_slice(peer_nonce);
    let mac_at = octets.len();
    octets.resize(mac_at + prf.output_len(), 0);
    if let Some(mac) = octets.get_mut(mac_at..) {
        prf.compute(sk_p, &[id_body], mac);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::boring;
    use crate::wire::registry::PrfId;

    #[test]
    fn octets_are_message_nonce_and_mac_of_the_id() {
        let prf = boring::provider().prf(PrfId::HMAC_SHA2_256).unwrap();
        let octets = signed_octets(b"message", b"nonce", prf, b"key", b"\x02\0\0\0host.example");
        // The MAC is Python's, hmac.new(b"key", ..., "sha256").
        let mac = "f01dd827f09a3f806624a52f0e8828c74f412c05f35670c540c9ba8929d13d56";
        let mac = hex::decode(mac).unwrap();
        assert_eq!(octets, [b"messagenonce".as_slice(), &mac].concat());
    }

    #[test]
    fn every_part_counts() {
        let prf = boring::provider().prf(PrfId::HMAC_SHA1).unwrap();
        let octets = |message: &[u8], nonce: &[u8], key: &[u8], id: &[u8]| {
            signed_octets(message, nonce, prf, key, id)
        };
        let whole = octets(b"message", b"nonce", b"key", b"id");
        assert_ne!(whole, octets(b"massage", b"nonce", b"key", b"id"));
        assert_ne!(whole, octets(b"message", b"nance", b"key", b"id"));
        assert_ne!(whole, octets(b"message", b"nonce", b"kay", b"id"));
        assert_ne!(whole, octets(b"message", b"nonce", b"key", b"ad"));
    }
}
