//! Domains that the name servers of a configuration payload answer for (RFC 8598).

use std::fmt;
use std::str::FromStr;

/// One INTERNAL_DNS_DOMAIN and the INTERNAL_DNSSEC_TA that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The name in presentation format, in ASCII.
    pub name: String,
    /// Its trust anchors.
    pub anchors: Vec<Anchor>,
}

impl Domain {
    /// The domain of this name, if it can be one: labels of 1 to 63 letters, digits, `-` and `_`,
    /// 253 bytes in all, perhaps with a dot at its end, or the root, `.` (RFC 8598, 4.1; RFC 1035).
    pub fn new(name: &[u8]) -> Option<Self> {
        let bare = name.strip_suffix(b".").unwrap_or(name);
        let good = |label: &[u8]| {
            let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
            (1..=LABEL_MAX).contains(&label.len()) && label.iter().all(of_name)
        };
        let root = name == b".";
        let all = bare.len() <= NAME_MAX && bare.split(|byte| *byte == b'.').all(good);
        let name = std::str::from_utf8(name).ok()?.to_owned();
        (root || all).then_some(Self {
            name,
            anchors: Vec::new(),
        })
    }
}

/// The digest of a key that signs a domain: the data of a DS record (RFC 4034, 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Key tag.
    pub key_tag: u16,
    /// Algorithm of the key.
    pub algorithm: u8,
    /// Algorithm of the digest.
    pub digest_type: u8,
    /// The digest.
    pub digest: Vec<u8>,
}

impl Anchor {
    /// Reads the value of an INTERNAL_DNSSEC_TA (RFC 8598, 4.2). A digest that is not in hex, as the
    /// RFC wants it, is one in bytes.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (&[high, low, algorithm, digest_type], digest) = value.split_first_chunk()?;
        let digest = from_hex(digest).unwrap_or_else(|| digest.to_vec());
        (1..=DIGEST_MAX).contains(&digest.len()).then(|| Self {
            key_tag: u16::from_be_bytes([high, low]),
            algorithm,
            digest_type,
            digest,
        })
    }

    /// The value of an INTERNAL_DNSSEC_TA.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = self.key_tag.to_be_bytes().to_vec();
        value.extend([self.algorithm, self.digest_type]);
        value.extend(self.hex().into_bytes());
        value
    }

    fn hex(&self) -> String {
        let bytes = self.digest.iter();
        bytes.map(|byte| format!("{byte:02X}")).collect()
    }
}

/// Bytes in hex, two digits each.
fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| {
        let hex = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(pair).ok().filter(|_| hex)?;
        u8::from_str_radix(text, 16).ok()
    };
    digits.chunks(2).map(byte).collect()
}

impl fmt::Display for Anchor {
    /// As a DS record is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tag, algorithm, kind) = (self.key_tag, self.algorithm, self.digest_type);
        write!(f, "{tag} {algorithm} {kind} {}", self.hex())
    }
}

/// It is no anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want key tag, algorithm, digest type and digest in hex")]
pub struct NoAnchor;

impl FromStr for Anchor {
    type Err = NoAnchor;

    fn from_str(text: &str) -> Result<Self, NoAnchor> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [key_tag, algorithm, digest_type, digest @ ..] = fields.as_slice() else {
            return Err(NoAnchor);
        };
        // Long digests are written with blanks between.
        let digits = digest.concat();
        let digest = from_hex(digits.as_bytes());
        let digest = digest.filter(|d| (1..=DIGEST_MAX).contains(&d.len()));
        Ok(Self {
            key_tag: key_tag.parse().map_err(|_| NoAnchor)?,
            algorithm: algorithm.parse().map_err(|_| NoAnchor)?,
            digest_type: digest_type.parse().map_err(|_| NoAnchor)?,
            digest: digest.ok_or(NoAnchor)?,
        })
    }
}

/// Bytes of a label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;
/// Bytes of a name as it is written, without the dot at its end.
const NAME_MAX: usize = 253;
/// Bytes of a digest: SHA-512 is the longest there is.
const DIGEST_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_with_dots_between() {
        let long = [&[b'a'; 63][..]; 3].join(&b'.');
        let longest = [&long[..], &[b'b'; 61]].join(&b'.');
        assert_eq!(longest.len(), 253);
        for name in [
            &b"example.com"[..],
            b"example.com.",
            b".",
            b"_tcp.a-1",
            &longest,
        ] {
            let text = String::from_utf8(name.to_vec()).unwrap();
            assert_eq!(Domain::new(name).map(|domain| domain.name), Some(text));
        }
        let too_long = [&longest[..], b"b"].concat();
        let label = [b'a'; 64];
        for name in [
            &b""[..],
            b"..",
            b"a..b",
            b".a",
            b"a b",
            b"a\nb",
            b"a\0",
            &too_long,
            &label,
        ] {
            assert_eq!(Domain::new(name), None, "{name:?}");
        }
        assert_eq!(Domain::new("ä.example".as_bytes()), None);
    }

    #[test]
    fn anchors_are_read_as_they_are_written() {
        let text = "20326 8 2 E06D44B8";
        let anchor: Anchor = text.parse().unwrap();
        assert_eq!(anchor.to_string(), text);
        assert_eq!(anchor.encode(), b"\x4f\x66\x08\x02E06D44B8");
        let bytes = Anchor::decode(&[0x4f, 0x66, 8, 2, 0xe0, 0x6d, 0x44, 0xb8]);
        assert_eq!(bytes, Some(anchor.clone()));
        assert_eq!(Anchor::decode(&anchor.encode()), Some(anchor.clone()));
        assert_eq!("20326 8 2 e06d 44B8".parse(), Ok(anchor));
        let long = format!("1 8 2 {}", "00".repeat(65));
        for text in [
            "",
            "1 8 2",
            "1 8 2 e",
            "1 8 2 +1",
            "65536 8 2 00",
            "1 256 2 00",
            "a",
            &long,
        ] {
            assert_eq!(text.parse::<Anchor>(), Err(NoAnchor), "{text}");
        }
        for value in [&[][..], &[0; 4], &[0; 69]] {
            assert_eq!(Anchor::decode(value), None);
        }
    }
}
