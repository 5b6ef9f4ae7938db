//! HTTP/1.0 (RFC 1945) as far as a certificate's servers need it: one request on a connection, one
//! response with a known end. Bytes in, bytes out; the sockets are elsewhere.

use super::port::Failure;

/// An `http` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Name or address of the server, an IPv6 address without its brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path and query.
    target: String,
}

impl Url {
    /// Reads one: scheme `http`, no user, nothing that would break a request line.
    pub fn read(text: &str) -> Option<Self> {
        let scheme = text.get(..SCHEME.len())?;
        let rest = text.get(SCHEME.len()..)?;
        let clean = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !scheme.eq_ignore_ascii_case(SCHEME) || !clean || text.len() > URL_MAX {
            return None;
        }
        let rest = rest.split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end)?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?,
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => DEFAULT_PORT,
            Some("") => DEFAULT_PORT,
            Some(number) => number.parse().ok().filter(|port| *port != 0)?,
            None => return None,
        };
        if host.is_empty() || host.contains('@') {
            return None;
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some(Self {
            host: host.to_ascii_lowercase(),
            port,
            target: format!("{slash}{target}"),
        })
    }

    /// Fetches it.
    pub fn get(&self) -> Vec<u8> {
        self.head("GET", "").into_bytes()
    }

    /// Sends it a body of this type.
    pub fn post(&self, kind: &str, body: &[u8]) -> Vec<u8> {
        let fields = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        let mut request = self.head("POST", &fields).into_bytes();
        request.extend_from_slice(body);
        request
    }

    fn head(&self, method: &str, fields: &str) -> String {
        let Self { host, port, target } = self;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let port = match *port {
            DEFAULT_PORT => String::new(),
            port => format!(":{port}"),
        };
        format!("{method} {target} HTTP/1.0\r\nHost: {host}{port}\r\nAccept: */*\r\n{fields}\r\n")
    }
}

/// A response as it comes in.
#[derive(Debug)]
pub struct Response {
    bytes: Vec<u8>,
    /// Where its body begins and, if that was said, how long it is.
    head: Option<(usize, Option<usize>)>,
    body_max: usize,
}

impl Response {
    /// One whose body may have this many bytes.
    pub const fn new(body_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            head: None,
            body_max,
        }
    }

    /// Takes more of it. The body, once it is complete.
    pub fn take(&mut self, more: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.bytes.extend_from_slice(more);
        if self.head.is_none() {
            self.head = self.read_head()?;
        }
        let Some((start, length)) = self.head else {
            return Ok(None);
        };
        let have = self.bytes.len().saturating_sub(start);
        if length.unwrap_or(have) > self.body_max {
            return Err(refused("body too large"));
        }
        match length {
            Some(length) if have >= length => Ok(Some(self.body(start, length))),
            Some(_) | None => Ok(None),
        }
    }

    /// The server has hung up: an end where the length was not said.
    pub fn end(&mut self) -> Result<Vec<u8>, Failure> {
        match self.head {
            Some((start, None)) => Ok(self.body(start, usize::MAX)),
            Some(_) | None => Err(Failure::Unreachable("hung up".to_owned())),
        }
    }

    fn body(&self, start: usize, length: usize) -> Vec<u8> {
        let body = self.bytes.get(start..).unwrap_or_default();
        body.get(..length).unwrap_or(body).to_vec()
    }

    fn read_head(&self) -> Result<Option<(usize, Option<usize>)>, Failure> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.bytes);
        let parsed = parsed.map_err(|error| refused(&error.to_string()))?;
        let httparse::Status::Complete(start) = parsed else {
            let long = self.bytes.len() > HEAD_MAX;
            return if long {
                Err(refused("head too large"))
            } else {
                Ok(None)
            };
        };
        let code = response.code.unwrap_or(0);
        // Not followed elsewhere: who a certificate names is asked, and nobody else.
        if code != 200 {
            return Err(refused(&format!("status {code}")));
        }
        let mut length = None;
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(refused("transfer encoding in an answer to HTTP/1.0"));
            }
            if header.name.eq_ignore_ascii_case("content-length") {
                let number = std::str::from_utf8(header.value).ok();
                let number = number.and_then(|text| text.trim().parse().ok());
                length = Some(number.ok_or_else(|| refused("length is no number"))?);
            }
        }
        Ok(Some((start, length)))
    }
}

fn refused(why: &str) -> Failure {
    Failure::Http(why.to_owned())
}

const SCHEME: &str = "http://";
const DEFAULT_PORT: u16 = 80;
/// Longer ones are nobody's.
const URL_MAX: usize = 2048;
const HEADERS_MAX: usize = 64;
const HEAD_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_asked_are_told_from_others() {
        let read = |text: &str| Url::read(text).map(|url| (url.host, url.port, url.target));
        let url = |host: &str, port, target: &str| Some((host.to_owned(), port, target.to_owned()));
        assert_eq!(read("http://Ca.Example"), url("ca.example", 80, "/"));
        assert_eq!(
            read("HTTP://ca.example:8080/a?b#c"),
            url("ca.example", 8080, "/a?b")
        );
        assert_eq!(read("http://ca.example?q"), url("ca.example", 80, "/?q"));
        assert_eq!(
            read("http://[2001:db8::1]:81/x"),
            url("2001:db8::1", 81, "/x")
        );
        for text in [
            "https://ca.example/",
            "ldap://ca.example/",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://user@ca.example/",
            "http://ca.example:0/",
            "http://ca.example:99999/",
            "http://ca.example/a b",
            "http://ca.example/a\r\nX: y",
            "http://[2001:db8::1",
            "http://[2001:db8::1]x",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_names_host_and_length() {
        let url = Url::read("http://[2001:db8::1]:81/x").unwrap();
        let text = String::from_utf8(url.post("application/ocsp-request", b"body")).unwrap();
        assert!(
            text.starts_with("POST /x HTTP/1.0\r\nHost: [2001:db8::1]:81\r\n"),
            "{text}"
        );
        assert!(
            text.contains("\r\nContent-Type: application/ocsp-request\r\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\r\nContent-Length: 4\r\n\r\nbody"),
            "{text}"
        );
        let url = Url::read("http://ca.example/ca.crl").unwrap();
        let text = String::from_utf8(url.get()).unwrap();
        assert!(
            text.starts_with("GET /ca.crl HTTP/1.0\r\nHost: ca.example\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_response_ends_with_its_length_or_with_the_connection() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd";
        for cut in 0..whole.len() {
            let mut response = Response::new(16);
            let first = response.take(&whole[..cut]).unwrap();
            let done = cut >= whole.len() - 1;
            assert_eq!(first.is_some(), done, "{cut}");
            if !done {
                assert!(response.end().is_err(), "{cut}");
                let rest = response.take(&whole[cut..]).unwrap();
                assert_eq!(rest.as_deref(), Some(&b"abc"[..]), "{cut}");
            }
        }
        let mut response = Response::new(16);
        assert_eq!(response.take(b"HTTP/1.0 200 OK\r\n\r\nab").unwrap(), None);
        assert_eq!(response.take(b"cd").unwrap(), None);
        assert_eq!(response.end().unwrap(), b"abcd");
    }

    #[test]
    fn a_response_that_is_too_large_or_none_is_refused() {
        let take = |bytes: &[u8]| Response::new(4).take(bytes).is_err();
        assert!(take(b"HTTP/1.0 404 Not Found\r\n\r\n"));
        assert!(take(
            b"HTTP/1.0 302 Found\r\nLocation: http://other.example/\r\n\r\n"
        ));
        assert!(take(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"));
        assert!(take(b"HTTP/1.0 200 OK\r\nContent-Length: x\r\n\r\n"));
        assert!(take(b"HTTP/1.0 200 OK\r\n\r\nabcde"));
        assert!(take(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(take(b"SSH-2.0-x\r\n"));
        assert!(take(
            &[b"HTTP/1.0 200 OK\r\nX: ".as_slice(), &[b'a'; HEAD_MAX]].concat()
        ));
        assert!(!take(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nabcd"));
    }
}
