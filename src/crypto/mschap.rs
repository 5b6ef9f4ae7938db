//! The arithmetic of CHAP (RFC 1994), of MS-CHAPv2 (RFC 2759) and the keys that come of it
//! (RFC 3079), for EAP. MD5, MD4, DES and SHA-1 are what the protocol is made of; whoever can choose takes
//! another method.

use std::fmt;

use boring::sha::Sha1;
use zeroize::Zeroizing;

use super::SecretBytes;
use super::md5::md5;
use crate::sys::mschap::{des, md4};

/// What stands for a password (RFC 2759, 8.3).
pub struct PasswordHash(Zeroizing<[u8; 16]>);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl PasswordHash {
    /// Of a password in UTF-8.
    pub fn new(password: &[u8]) -> Self {
        let text = Zeroizing::new(String::from_utf8_lossy(password).into_owned());
        let mut wide = Zeroizing::new(Vec::with_capacity(2 * text.len()));
        for unit in text.encode_utf16() {
            wide.extend_from_slice(&unit.to_le_bytes());
        }
        Self(Zeroizing::new(md4(&wide)))
    }

    fn again(&self) -> Zeroizing<[u8; 16]> {
        Zeroizing::new(md4(&*self.0))
    }
}

/// Both challenges and the user's name without its domain.
#[derive(Clone, Copy, Debug)]
pub struct Challenges<'a> {
    /// Of whom asks.
    pub authenticator: &'a [u8; 16],
    /// Of whom answers.
    pub peer: &'a [u8; 16],
    /// As the peer wrote it.
    pub user: &'a [u8],
}

impl Challenges<'_> {
    /// RFC 2759, 8.2.
    fn hash(&self) -> [u8; 8] {
        let digest = sha1(&[self.peer, self.authenticator, self.user]);
        let mut out = [0; 8];
        out.iter_mut()
            .zip(digest)
            .for_each(|(out, byte)| *out = byte);
        out
    }

    /// NT-Response (RFC 2759, 8.1).
    pub fn response(&self, password: &PasswordHash) -> [u8; 24] {
        let challenge = self.hash();
        let mut padded = Zeroizing::new([0; 21]);
        padded
            .iter_mut()
            .zip(*password.0)
            .for_each(|(out, byte)| *out = byte);
        let mut out = [0; 24];
        for (key, out) in padded.chunks_exact(7).zip(out.chunks_exact_mut(8)) {
            out.copy_from_slice(&des(spread(key), challenge));
        }
        out
    }

    /// What proves to the peer that we know its password (RFC 2759, 8.7).
    pub fn authenticator(&self, password: &PasswordHash, response: &[u8; 24]) -> [u8; 20] {
        let digest = sha1(&[&*password.again(), response, MAGIC_SERVER]);
        sha1(&[&digest, &self.hash(), MAGIC_PAD])
    }
}

/// The MSK (RFC 3748, 7.10) as the server has it: receive key, send key, 32 zero bytes.
pub fn session_key(password: &PasswordHash, response: &[u8; 24]) -> SecretBytes {
    let master = Zeroizing::new(sha1(&[&*password.again(), response, MAGIC_MASTER]));
    let master = master.get(..16).unwrap_or(&[]);
    let mut key = Vec::with_capacity(64);
    for magic in [MAGIC_TO_SERVER, MAGIC_TO_CLIENT] {
        let half = Zeroizing::new(sha1(&[master, &[0; 40], magic, &[0xf2; 40]]));
        key.extend_from_slice(half.get(..16).unwrap_or(&[]));
    }
    key.resize(64, 0);
    SecretBytes::new(key)
}

/// The response of CHAP to a challenge (RFC 1994, 4.1).
pub fn chap_md5(id: u8, secret: &[u8], challenge: &[u8]) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(md5(&[&[id], secret, challenge]))
}

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finish()
}

/// Seven bytes as a DES key: seven bits in each byte, above the parity bit.
fn spread(key: &[u8]) -> [u8; 8] {
    let bits = key
        .iter()
        .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut out = [0; 8];
    for (place, out) in (0u32..).zip(&mut out) {
        *out = ((bits >> (49 - 7 * place)) as u8 & 0x7f) << 1;
    }
    out
}

const MAGIC_SERVER: &[u8] = b"Magic server to client signing constant";
const MAGIC_PAD: &[u8] = b"Pad to make it do more than one iteration";
const MAGIC_MASTER: &[u8] = b"This is the MPPE Master Key";
const MAGIC_TO_SERVER: &[u8] =
    b"On the client side, this is the send key; on the server side, it is the receive key.";
const MAGIC_TO_CLIENT: &[u8] =
    b"On the client side, this is the receive key; on the server side, it is the send key.";

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_example_of_rfc_2759_comes_out() {
        let authenticator = bytes("5b5d7c7d7b3f2f3e3c2c602132262628");
        let peer = bytes("21402324255e262a28295f2b3a337c7e");
        let challenges = Challenges {
            authenticator: &authenticator,
            peer: &peer,
            user: b"User",
        };
        let password = PasswordHash::new(b"clientPass");
        assert_eq!(hex::encode(*password.0), "44ebba8d5312b8d611474411f56989ae");
        assert_eq!(hex::encode(challenges.hash()), "d02e4386bce91226");
        let response = challenges.response(&password);
        assert_eq!(
            hex::encode(response),
            "82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df"
        );
        assert_eq!(
            hex::encode_upper(challenges.authenticator(&password, &response)),
            "407A5589115FD0D6209F510FE9C04566932CDA56"
        );
    }

    #[test]
    fn chap_is_the_digest_of_id_secret_and_challenge() {
        // Python's hashlib.md5(b"\x07secretchallenge").
        let expected = "35524f3f6d24a5b27d3a2ff77c7c5060";
        assert_eq!(hex::encode(*chap_md5(7, b"secret", b"challenge")), expected);
    }

    #[test]
    fn the_example_of_rfc_3079_comes_out() {
        // RFC 3079, 3.5.3 with the password and response above: the client's send key is our
        // receive key.
        let password = PasswordHash::new(b"clientPass");
        let response = bytes("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df");
        let key = session_key(&password, &response);
        assert_eq!(key.expose().len(), 64);
        assert_eq!(
            hex::encode(&key.expose()[16..32]),
            "8b7cdc149b993a1ba118cb153f56dccb",
            "MasterSendKey of the server"
        );
        assert!(key.expose()[32..].iter().all(|byte| *byte == 0));
    }
}
