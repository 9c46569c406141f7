//! The head of a request: where it ends, what it asks for, and what turns it away (`reliability.md` 11).
//!
//! Pure: bytes in, a request or a [`Refusal`] out. At most 8 KiB and 64 header lines. Lines end with CR
//! and LF; nothing is guessed, mended or skipped, since two readers who mend differently are how requests
//! are smuggled. There are no bodies, so the next request begins where a head ends.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::observe::HttpCode;

/// Longest head in bytes, request line included.
pub(super) const BYTES: usize = 8 * 1024;

/// Most header lines.
pub(super) const LINES: usize = 64;

/// Why a request is turned away before any page hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: HttpCode,
    /// One line for whoever reads the answer.
    pub(super) why: &'static str,
}

impl Refusal {
    pub(super) const fn new(code: HttpCode, why: &'static str) -> Self {
        Refusal { code, why }
    }
}

const fn malformed(why: &'static str) -> Refusal {
    Refusal::new(HttpCode::Malformed, why)
}

/// A request that may be answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request<Body>,
    /// The connection may serve another one.
    pub(super) keep: bool,
}

/// How many of these bytes are the head; `None` while more of it has to come.
///
/// # Errors
///
/// As soon as it is certain that no head that may be answered comes of them.
pub(super) fn end(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let (mut at, mut lines) = (0, 0);
    while let Some(length) = bytes[at..].iter().position(|&byte| byte == b'\n') {
        let line = bytes[at..at + length].strip_suffix(b"\r");
        let line = line.ok_or(malformed("a line ends without carriage return"))?;
        at += length + 1;
        match (lines, line) {
            (0, line) => _ = request_line(line)?,
            (_, []) => return Ok(Some(at)),
            (LINES.., _) if lines > LINES => {
                return Err(Refusal::new(HttpCode::HeaderTooLarge, "more than 64 header lines"));
            }
            _ => {}
        }
        lines += 1;
    }
    match (bytes.len() < BYTES, lines) {
        (true, _) => Ok(None),
        (false, 0) => Err(Refusal::new(HttpCode::UriTooLong, "the request line is longer than 8 KiB")),
        (false, _) => Err(Refusal::new(HttpCode::HeaderTooLarge, "the head is longer than 8 KiB")),
    }
}

/// Reads a whole head, as [`end`] measured it.
pub(super) fn parse(head: &[u8]) -> Result<Asked, Refusal> {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target, version) = request_line(lines.next().unwrap_or_default())?;
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = header(line)?;
        headers.append(name, value);
    }
    check_host(&headers, version)?;
    check_no_body(&headers)?;
    let keep = version == Version::HTTP_11 && !asks_to_close(&headers);
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    Ok(Asked { request, keep })
}

fn request_line(line: &[u8]) -> Result<(Method, Uri, Version), Refusal> {
    let words: Vec<&[u8]> = line.splitn(4, |&byte| byte == b' ').collect();
    let &[method, target, version] = words.as_slice() else {
        return Err(match words.as_slice() {
            [b"GET", target] if target.starts_with(b"/") => {
                Refusal::new(HttpCode::Version, "HTTP/0.9 is not spoken here; ask with HTTP/1.1")
            }
            _ => malformed("the request line is not METHOD PATH HTTP/1.1"),
        });
    };
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::new(HttpCode::Version, "only versions 1.0 and 1.1 of HTTP are spoken here"));
        }
        _ => return Err(malformed("the request line does not end with HTTP/1.1")),
    };
    let method = Method::from_bytes(method).map_err(|_| malformed("the method is not a word"))?;
    let is_path = target.starts_with(b"/") || target == b"*";
    if !is_path || target.contains(&b'#') {
        return Err(malformed("the target is not a path; this is no proxy"));
    }
    let target = Uri::try_from(target).map_err(|_| malformed("the target is not a path"))?;
    Ok((method, target, version))
}

fn header(line: &[u8]) -> Result<(HeaderName, HeaderValue), Refusal> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(malformed("a header line is folded"));
    }
    let colon = line.iter().position(|&byte| byte == b':').ok_or(malformed("a header line has no colon"))?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    // A name with a blank before the colon is no name.
    let name = HeaderName::from_bytes(name).map_err(|_| malformed("a header name is not a word"))?;
    let value =
        HeaderValue::from_bytes(value).map_err(|_| malformed("a header has control bytes in its value"))?;
    Ok((name, value))
}

fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(malformed("there are two Host headers")),
        (None, _) if version == Version::HTTP_11 => Err(malformed("there is no Host header")),
        (Some(host), _) if !is_host(host.as_bytes()) => Err(malformed("the Host header names no host")),
        _ => Ok(()),
    }
}

fn is_host(host: &[u8]) -> bool {
    host.is_empty() || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
}

fn check_no_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(malformed("Transfer-Encoding: requests have no body here"));
    }
    match (lengths.next(), lengths.next()) {
        (_, Some(_)) => Err(malformed("there are two Content-Length headers")),
        (Some(length), _) if length != "0" => Err(malformed("Content-Length: requests have no body here")),
        _ => Ok(()),
    }
}

fn asks_to_close(headers: &HeaderMap) -> bool {
    let words = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    words.into_iter().any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judge(head: &str) -> Result<Asked, Refusal> {
        match end(head.as_bytes())? {
            Some(length) => parse(&head.as_bytes()[..length]),
            None => panic!("more of it has to come: {head:?}"),
        }
    }

    fn code(head: &str) -> &'static str {
        judge(head).expect_err(head).code.as_str()
    }

    #[test]
    fn a_head_ends_with_an_empty_line_and_what_follows_is_the_next_request() {
        let two = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz";
        assert_eq!(end(two), Ok(Some(32)));
        for cut in 0..32 {
            assert_eq!(end(&two[..cut]), Ok(None), "{cut} bytes");
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let asked =
            judge("HEAD /readyz?verbose HTTP/1.1\r\nHost: [::1]:80\r\nA:\t b c \r\n\r\n").expect("good");
        assert_eq!((asked.request.method(), asked.keep), (&Method::HEAD, true));
        assert_eq!(asked.request.uri(), "/readyz?verbose");
        assert_eq!(asked.request.headers()["a"], "b c");
    }

    #[test]
    fn a_connection_is_kept_by_http_1_1_unless_it_is_told_to_close() {
        let keep = |head: &str| judge(head).expect(head).keep;
        assert!(keep("GET / HTTP/1.1\r\nHost:\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.1\r\nHost: x\r\nConnection: TE, Close\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn whatever_two_readers_could_read_in_two_ways_is_refused() {
        for rest in [
            "",
            "Host: x\r\nHost: x\r\n",
            "Host: a b\r\n",
            "Host: root@x\r\n",
            "Host: x\r\nContent-Length: 3\r\n",
            "Host: x\r\nContent-Length: +0\r\n",
            "Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
            "Host: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "Host: x\r\nTransfer-Encoding: identity\r\n",
            "Host: x\r\nA: b\r\n folded\r\n",
            " Host: x\r\n",
            "Host : x\r\n",
            "Host: x\r\n: nameless\r\n",
            "Host: x\r\nno colon\r\n",
            "Host: x\r\nA: \0\r\n",
            "Host: x\r\nA: b\rC: d\r\n",
            "Host: x\n",
        ] {
            assert_eq!(code(&format!("GET /metrics HTTP/1.1\r\n{rest}\r\n")), "400", "{rest:?}");
        }
    }

    #[test]
    fn a_target_is_a_path_and_nothing_else() {
        for target in ["http://x/metrics", "x:443", "metrics", "/metrics#part", "", "/a\u{7f}", "?verbose"] {
            assert_eq!(code(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")), "400", "{target:?}");
        }
        assert_eq!(code("G@T / HTTP/1.1\r\nHost: x\r\n\r\n"), "400");
        assert_eq!(code("GET  / HTTP/1.1\r\nHost: x\r\n\r\n"), "400");
        assert_eq!(code("GET / HTTP/1.1 \r\nHost: x\r\n\r\n"), "400");
        assert_eq!(code("\r\n\r\n"), "400");
    }

    #[test]
    fn another_version_is_named_as_soon_as_the_line_is_there() {
        for line in ["GET /metrics", "GET / HTTP/2.0", "PRI * HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/0.9"] {
            assert_eq!(code(&format!("{line}\r\n")), "505", "{line}");
        }
        assert_eq!(code("GET / HTTP/11\r\n"), "400");
        assert_eq!(code("BREW /pot\r\n"), "400");
    }

    #[test]
    fn size_and_number_of_lines_have_an_end() {
        let lines =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
        assert!(judge(&lines(64)).is_ok());
        assert_eq!(code(&lines(65)), "431");
        let long = |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(count));
        let frame = long(0).len();
        assert!(judge(&long(BYTES - frame)).is_ok());
        assert_eq!(code(&long(BYTES - frame + 1)[..BYTES]), "431");
        assert_eq!(code(&format!("GET /{}", "a".repeat(BYTES))[..BYTES]), "414");
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down_and_a_head_judged_whole_stays_so(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            text in "(GET|HEAD|POST) /[a-z?%./]{0,20} HTTP/1.[01]\r\n([A-Za-z :,-]{0,20}\r?\n){0,6}\r?\n?.{0,9}",
        ) {
            for input in [&bytes[..], text.as_bytes()] {
                if let Ok(Some(length)) = end(input) {
                    prop_assert!(input[..length].ends_with(b"\r\n\r\n"));
                    prop_assert_eq!(end(&input[..length]), Ok(Some(length)));
                    let _ = parse(&input[..length]);
                }
            }
        }
    }
}
