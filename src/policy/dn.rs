//! Distinguished names: `/C=DE/O=Example/CN=host` to the DER of RFC 5280, 4.1.2.4 and back. One
//! attribute for each relative name; a backslash quotes the next character. Names are compared as
//! RFC 5280, 7.1 says: string types, case and spacing do not count.

/// A short name, the content of its OID and the tag of its string type.
type Attribute = (&'static str, &'static [u8], u8);

/// The DER of a name from its text; says what is wrong with the text.
pub fn encode(text: &str) -> Result<Vec<u8>, String> {
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
pub fn decode(der: &[u8]) -> Option<String> {
    text(der, |row, tag, value| {
        let exact = row.is_some_and(|row| row.2 == tag);
        let value = std::str::from_utf8(value).ok().filter(|_| exact)?;
        Some(value.to_owned())
    })
}

/// The text of any name, for people: string types do not count, and what cannot be shown is `?`.
pub fn show(der: &[u8]) -> Option<String> {
    text(der, |_, _, value| {
        let value = String::from_utf8_lossy(value);
        let shown = value.chars().map(|c| if c.is_control() { '?' } else { c });
        Some(shown.collect())
    })
}

/// Writes a name out; `value` turns the row of `ATTRIBUTES`, the tag and the content of a value into
/// text.
fn text(
    der: &[u8],
    value: impl Fn(Option<&Attribute>, u8, &[u8]) -> Option<String>,
) -> Option<String> {
    let mut text = String::new();
    for (number, set) in sets(der)?.into_iter().enumerate() {
        let [(oid, tag, content)] = set.as_slice() else {
            return None;
        };
        let row = ATTRIBUTES.iter().find(|row| row.1 == *oid);
        let known = row.map_or_else(|| format!("?{number}"), |row| row.0.to_owned());
        text.push('/');
        text.push_str(&known);
        text.push('=');
        for c in value(row, *tag, content)?.chars() {
            if matches!(c, '/' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
    }
    Some(text)
}

/// A relative name: the content of each OID, tag and content of each value.
type Relative<'a> = Vec<(&'a [u8], u8, &'a [u8])>;

/// The relative names in order.
fn sets(der: &[u8]) -> Option<Vec<Relative<'_>>> {
    let (mut names, rest) = take(der, TAG_SEQUENCE)?;
    let mut out = Vec::new();
    while !names.is_empty() {
        let (mut set, more) = take(names, TAG_SET)?;
        names = more;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (pair, more) = take(set, TAG_SEQUENCE)?;
            set = more;
            let (oid, value) = take(pair, TAG_OID)?;
            let (&tag, _) = value.split_first()?;
            let (content, end) = take(value, tag)?;
            if !end.is_empty() {
                return None;
            }
            attributes.push((oid, tag, content));
        }
        out.push(attributes);
    }
    (rest.is_empty() && !out.is_empty()).then_some(out)
}

/// Whether two names in DER are the same (RFC 5280, 7.1). What is no name equals only itself.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a == b || normal(a).is_some_and(|name| normal(b) == Some(name))
}

/// A relative name in the form that is compared.
type Normal<'a> = Vec<(&'a [u8], Value)>;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// A type that is no string: tag and content.
    Bytes(u8, Vec<u8>),
}

/// The form that is compared: relative names in order, the attributes of each sorted.
fn normal(der: &[u8]) -> Option<Vec<Normal<'_>>> {
    let mut names = Vec::new();
    for set in sets(der)? {
        let folded = set
            .into_iter()
            .map(|(oid, tag, value)| (oid, fold(tag, value)));
        let mut attributes: Vec<_> = folded.collect();
        attributes.sort();
        names.push(attributes);
    }
    Some(names)
}

/// A string without case and without spaces that do not count.
fn fold(tag: u8, content: &[u8]) -> Value {
    let text = match tag {
        TAG_UTF8 | TAG_PRINTABLE | TAG_IA5 => std::str::from_utf8(content).ok().map(str::to_owned),
        TAG_BMP if content.len().is_multiple_of(2) => {
            let units = content.chunks_exact(2).filter_map(|unit| match unit {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        _ => None,
    };
    match text {
        Some(text) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            Value::Text(words.join(" ").to_lowercase())
        }
        None => Value::Bytes(tag, content.to_vec()),
    }
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
const TAG_BMP: u8 = 0x1e;
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
    fn string_types_case_and_spacing_do_not_count_but_everything_else_does() {
        let name = encode("/C=DE/O=Example Org/CN=gate").unwrap();
        let same_as = |text: &str| same(&name, &encode(text).unwrap());
        assert!(same_as("/C=de/O=example  ORG/CN= Gate "));
        assert!(!same_as("/C=DE/O=ExampleOrg/CN=gate"));
        assert!(!same_as("/C=DE/CN=gate/O=Example Org"));
        assert!(!same_as("/C=DE/O=Example Org/CN=gate/CN=x"));
        assert!(!same_as("/C=DE/O=Example Org"));
        let printable = name
            .iter()
            .map(|&b| if b == TAG_UTF8 { TAG_PRINTABLE } else { b });
        assert!(same(&name, &printable.collect::<Vec<_>>()));
        for len in 0..name.len() {
            assert!(!same(&name, name.get(..len).unwrap()), "{len}");
        }
        assert!(!same(&[0x30, 0x00], &[0x30, 0x80, 0x00]));
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
