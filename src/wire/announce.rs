//! Announcements of authentication methods, the data of SUPPORTED_AUTH_METHODS (RFC 9593, 3.2).

use super::codec::{DecodeError, DecodeErrorKind, Reader};
use super::registry::AuthMethod;

/// One announcement. Its length tells its form: two octets are a method alone, three a method and
/// the authority it is for, more name the algorithm of method 14 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement<'a> {
    /// The method.
    pub method: AuthMethod,
    /// The authority, counted from one through the CERTREQ payloads of the same message; 0: any. `None`
    /// in an announcement of two octets.
    pub authority: Option<u8>,
    /// DER of the AlgorithmIdentifier, which is sent only behind an `authority`.
    pub algorithm: &'a [u8],
}

/// Reads a list to its very end; an announcement of less than two octets, one that is cut and a list
/// of more than `ANNOUNCEMENTS_MAX` are errors. What one means is not looked at.
pub fn decode(data: &[u8]) -> Result<Vec<Announcement<'_>>, DecodeError> {
    let mut reader = Reader::new(data, "SUPPORTED_AUTH_METHODS");
    let mut list = Vec::new();
    while !reader.is_empty() {
        let length = usize::from(reader.u8()?);
        let Some(rest) = length.checked_sub(1).filter(|rest| *rest > 0) else {
            return Err(reader.error(DecodeErrorKind::Length));
        };
        if list.len() == ANNOUNCEMENTS_MAX {
            return Err(reader.error(DecodeErrorKind::TooMany));
        }
        let mut body = Reader::new(reader.take(rest)?, "SUPPORTED_AUTH_METHODS");
        let method = AuthMethod(body.u8()?);
        let authority = (!body.is_empty()).then(|| body.u8()).transpose()?;
        let algorithm = body.rest();
        list.push(Announcement {
            method,
            authority,
            algorithm,
        });
    }
    Ok(list)
}

/// Appends an announcement. One whose algorithm is longer than 252 octets, which none is, is left out:
/// its length would not fit.
pub fn encode(announcement: &Announcement<'_>, out: &mut Vec<u8>) {
    let rest = match announcement.authority {
        None => Vec::new(),
        Some(authority) => [&[authority], announcement.algorithm].concat(),
    };
    if let Ok(length) = u8::try_from(rest.len() + 2) {
        out.extend_from_slice(&[length, announcement.method.0]);
        out.extend_from_slice(&rest);
    }
}

/// Announcements of one list: more than there are methods, and algorithms for method 14.
pub const ANNOUNCEMENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(list: &[Announcement<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for announcement in list {
            encode(announcement, &mut out);
        }
        out
    }

    #[test]
    fn each_form_is_read_and_written() {
        let bytes = [2, 2, 3, 1, 0, 3, 9, 5, 6, 14, 1, 0x30, 1, 0];
        let list = decode(&bytes).unwrap();
        let expected = [
            (AuthMethod::SHARED_KEY, None, &[][..]),
            (AuthMethod::RSA, Some(0), &[]),
            (AuthMethod::ECDSA_256, Some(5), &[]),
            (AuthMethod::SIGNATURE, Some(1), &[0x30, 1, 0]),
        ];
        let read = list.iter().map(|a| (a.method, a.authority, a.algorithm));
        assert_eq!(read.collect::<Vec<_>>(), expected);
        assert_eq!(encoded(&list), bytes);
        assert_eq!(decode(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_cut_or_too_short_is_refused() {
        let refused = |bytes: &[u8]| decode(bytes).map(|_| ()).unwrap_err().kind;
        for bytes in [&[0][..], &[1], &[2, 2, 0], &[2, 2, 1, 2]] {
            assert_eq!(refused(bytes), DecodeErrorKind::Length, "{bytes:?}");
        }
        for bytes in [&[2][..], &[3, 1], &[2, 2, 4, 14, 0], &[255, 14, 0, 1]] {
            assert_eq!(refused(bytes), DecodeErrorKind::Truncated, "{bytes:?}");
        }
        let full = [2, 2].repeat(ANNOUNCEMENTS_MAX);
        assert_eq!(decode(&full).map(|list| list.len()), Ok(ANNOUNCEMENTS_MAX));
        let more = [&full[..], &[2, 2]].concat();
        assert_eq!(refused(&more), DecodeErrorKind::TooMany);
    }

    #[test]
    fn an_algorithm_as_long_as_a_list_can_hold_is_written_and_a_longer_one_is_not() {
        let of = |length| {
            let announcement = Announcement {
                method: AuthMethod::SIGNATURE,
                authority: Some(0),
                algorithm: &[7; 260][..length],
            };
            let out = encoded(&[announcement]);
            decode(&out).map(|list| list == [announcement]).ok()
        };
        assert_eq!(of(252), Some(true));
        assert_eq!(of(253), Some(false));
    }
}
