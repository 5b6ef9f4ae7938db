//! Distinguished names: `/C=DE/O=Example/CN=host` to the DER of RFC 5280, 4.1.2.4 and back. One
//! attribute for each relative name; a backslash quotes the next character.

/// A short name, the content of its OID and the tag of its string type.
type Attribute = (&'static str, &'static [u8], u8);

/// The DER of a name.
pub(super) fn encode(text: &str) -> Result<Vec<u8>, String> {
    let mut name = Vec::new();
    for (attribute, value) in split(text)? {
        let wanted = |row: &&Attribute| row.0.eq_ignore_ascii_case(&attribute);
        let Some((_, oid, tag)) = ATTRIBUTES.iter().find(wanted) else {
            return Err(format!(
                "unknown attribute in distinguished name: {attribute}"
            ));
        };
        let mut pair = element(TAG_OID, oid);
        pair.extend(element(*tag, value.as_bytes()));
        name.extend(element(TAG_SET, &element(TAG_SEQUENCE, &pair)));
    }
    Ok(element(TAG_SEQUENCE, &name))
}

/// The text of a name, or `None` for one that [`encode`] would not have made.
pub(super) fn decode(der: &[u8]) -> Option<String> {
    let (mut names, rest) = take(der, TAG_SEQUENCE)?;
    if !rest.is_empty() || names.is_empty() {
        return None;
    }
    let mut text = String::new();
    while !names.is_empty() {
        let (set, rest) = take(names, TAG_SET)?;
        names = rest;
        let (pair, more) = take(set, TAG_SEQUENCE)?;
        let (oid, value) = take(pair, TAG_OID)?;
        let (attribute, _, tag) = ATTRIBUTES.iter().find(|row| row.1 == oid)?;
        let (value, end) = take(value, *tag)?;
        if !more.is_empty() || !end.is_empty() {
            return None;
        }
        text.push('/');
        text.push_str(attribute);
        text.push('=');
        for c in std::str::from_utf8(value).ok()?.chars() {
            if matches!(c, '/' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
    }
    Some(text)
}

/// `/type=value/type=value` as pairs.
fn split(text: &str) -> Result<Vec<(String, String)>, String> {
    let wrong = || "invalid distinguished name".to_owned();
    let mut parts = vec![String::new()];
    let mut chars = text.strip_prefix('/').ok_or_else(wrong)?.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '/' => {
                parts.push(String::new());
                continue;
            }
            '\\' => chars.next().ok_or_else(wrong)?,
            c => c,
        };
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let pair = |part: &String| match part.split_once('=') {
        Some((attribute, value)) if !attribute.is_empty() && !value.is_empty() => {
            Ok((attribute.to_owned(), value.to_owned()))
        }
        Some(_) | None => Err(wrong()),
    };
    parts.iter().map(pair).collect()
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let len = content.len();
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => der.push(short),
        Ok(byte) => der.extend([0x81, byte]),
        Err(_) => {
            // Longer than 65535 cannot be: identities are at most about a kilobyte of text.
            let len = u16::try_from(len).unwrap_or(u16::MAX);
            der.push(0x82);
            der.extend(len.to_be_bytes());
        }
    }
    der.extend_from_slice(content);
    der
}

/// The content of the first element, which must have this tag, and what follows it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&byte, rest) = rest.split_first()?;
            (usize::from(byte), rest)
        }
        0x82 => {
            let (bytes, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*bytes)), rest)
        }
        _ => return None,
    };
    if found != tag {
        None
    } else {
        rest.split_at_checked(len)
    }
}

const TAG_OID: u8 = 0x06;
const TAG_UTF8: u8 = 0x0c;
const TAG_PRINTABLE: u8 = 0x13;
const TAG_IA5: u8 = 0x16;
const TAG_SEQUENCE: u8 = 0x30;
const TAG_SET: u8 = 0x31;

const ATTRIBUTES: &[Attribute] = &[
    ("CN", &[0x55, 4, 3], TAG_UTF8),
    ("SN", &[0x55, 4, 4], TAG_UTF8),
    ("serialNumber", &[0x55, 4, 5], TAG_PRINTABLE),
    ("C", &[0x55, 4, 6], TAG_PRINTABLE),
    ("L", &[0x55, 4, 7], TAG_UTF8),
    ("ST", &[0x55, 4, 8], TAG_UTF8),
    ("street", &[0x55, 4, 9], TAG_UTF8),
    ("O", &[0x55, 4, 10], TAG_UTF8),
    ("OU", &[0x55, 4, 11], TAG_UTF8),
    ("title", &[0x55, 4, 12], TAG_UTF8),
    ("name", &[0x55, 4, 41], TAG_UTF8),
    ("GN", &[0x55, 4, 42], TAG_UTF8),
    ("initials", &[0x55, 4, 43], TAG_UTF8),
    (
        "emailAddress",
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
        TAG_IA5,
    ),
    (
        "UID",
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        TAG_UTF8,
    ),
    (
        "DC",
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        TAG_IA5,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_encoded_as_openssl_does() {
        // openssl req -x509 -subj /C=DE/CN=x -utf8 (subject field of the certificate).
        let expected = [
            0x30, 0x19, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x06, 0x13, 0x02, 0x44,
            0x45, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 0x78,
        ];
        assert_eq!(encode("/C=DE/CN=x").unwrap(), expected);
    }

    #[test]
    fn long_names_survive_the_round() {
        for len in [1, 100, 127, 128, 255, 256, 900] {
            let text = format!("/O={}/CN=b\\\\c", "a".repeat(len));
            assert_eq!(decode(&encode(&text).unwrap()), Some(text));
        }
    }

    #[test]
    fn broken_names_are_refused() {
        for text in [
            "",
            "CN=x",
            "/",
            "/CN",
            "/CN=",
            "/=x",
            "/CN=x//O=y",
            "/XX=y",
            "/CN=x\\",
        ] {
            assert!(encode(text).is_err(), "{text}");
        }
        let der = encode("/C=DE/CN=x").unwrap();
        for len in 0..der.len() {
            assert_eq!(decode(der.get(..len).unwrap()), None);
        }
        assert_eq!(decode(&[0x30, 0x00]), None);
    }
}
