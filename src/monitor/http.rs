//! HTTP/1: the head of a request, and a response to it. Bytes and values only.
//!
//! Whatever the method, a request is one for a page; its body is skipped, for no page takes one. A response with a body of
//! more than [`WHOLE_BYTES_MAX`] bytes goes out in chunks, as from the reference server.

use std::io::Write as _;

use super::query::{Query, decode};

/// Bytes of a head, request line and fields, that are read at most.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a body that has its length in the head.
pub const WHOLE_BYTES_MAX: usize = 2048;
/// Fields in one head.
const FIELDS_MAX: usize = 100;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether the response has no body: the method is HEAD.
    pub is_head: bool,
    /// The method is OPTIONS, and the target not a path but the server as a whole.
    pub is_server_options: bool,
    /// The path, escapes resolved.
    pub path: String,
    /// The path as it came, with its query.
    pub target: String,
    /// The query.
    pub query: Query,
    /// HTTP/1.1: chunks may be used.
    pub takes_chunks: bool,
    /// The connection goes on after the response.
    pub keeps_alive: bool,
    /// HTTP/1.0 with keep-alive, which the response must confirm.
    pub confirms_keep_alive: bool,
    /// Bytes of body behind the head, to be skipped; `None` if only the end of the connection tells.
    pub body: Option<u64>,
    /// What follows `Bearer` in the field Authorization.
    pub bearer: Option<Vec<u8>>,
}

/// Why a head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// Not a request, or one of HTTP/2.
    Malformed,
    /// HTTP/1.1 without the field Host.
    NoHost,
    /// More than [`HEAD_BYTES_MAX`] bytes, or too many fields.
    TooLarge,
    /// A version of HTTP that is not spoken here.
    Version,
}

impl BadHead {
    /// The response, after which the connection ends.
    #[must_use]
    pub fn response(self) -> Response {
        let (status, text) = match self {
            BadHead::Malformed => (400, "400 Bad Request"),
            BadHead::NoHost => (400, "400 Bad Request: missing required Host header"),
            BadHead::TooLarge => (431, "431 Request Header Fields Too Large"),
            BadHead::Version => (
                505,
                "505 HTTP Version Not Supported: unsupported protocol version",
            ),
        };
        Response::text(status, text)
    }
}

/// Reads a head from the front of `bytes`, and says how long it is; `None` if it is not whole yet.
///
/// # Errors
///
/// [`BadHead`], after which nothing further can be read from the connection.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Head)>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_BYTES_MAX => {
            head(&request).map(|head| Some((len, head)))
        }
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(BadHead::TooLarge),
        Err(httparse::Error::Version) if names_http_version(bytes) => Err(BadHead::Version),
        Err(_) => Err(BadHead::Malformed),
    }
}

/// Whether the first line ends like one of HTTP, whatever the version.
fn names_http_version(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let word = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next();
    let version = word.unwrap_or_default().strip_prefix(b"HTTP/");
    let is_version = |it: &[u8]| matches!(it, [b'0'..=b'9', b'.', b'0'..=b'9']);
    // The preface of HTTP/2 looks like a request.
    version.is_some_and(is_version) && !line.starts_with(b"PRI * ")
}

fn head(request: &httparse::Request<'_, '_>) -> Result<Head, BadHead> {
    let is_1_1 = request.version == Some(1);
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let field = |name: &str| {
        let mut all = request.headers.iter();
        all.find(|it| it.name.eq_ignore_ascii_case(name))
            .map(|it| it.value)
    };
    if is_1_1 && field("host").is_none() {
        return Err(BadHead::NoHost);
    }
    let is_server_options = method == "OPTIONS" && target == "*";
    let (path, query) = split_target(target);
    if !path.starts_with('/') && !is_server_options {
        return Err(BadHead::Malformed);
    }
    let path = decode(path, false).ok_or(BadHead::Malformed)?;
    let says = |name: &str, word: &str| has_word(field(name).unwrap_or_default(), word);
    let wants_keep_alive = says("connection", "keep-alive");
    let body = if says("transfer-encoding", "chunked") || field("transfer-encoding").is_some() {
        None
    } else {
        Some(content_length(request)?)
    };
    let keeps_alive = if is_1_1 {
        !says("connection", "close")
    } else {
        wants_keep_alive
    };
    Ok(Head {
        is_head: method == "HEAD",
        is_server_options,
        path,
        target: without_origin(target).into(),
        query: Query::parse(query),
        takes_chunks: is_1_1,
        // A body of unknown length is not read to its end, and one that waits for a word may never come.
        keeps_alive: keeps_alive && body.is_some() && field("expect").is_none(),
        confirms_keep_alive: !is_1_1 && wants_keep_alive && body.is_some(),
        body,
        bearer: field("authorization").and_then(bearer),
    })
}

/// The length of the body, which several fields must agree on.
fn content_length(request: &httparse::Request<'_, '_>) -> Result<u64, BadHead> {
    let mut known = None;
    for field in request.headers.iter() {
        if !field.name.eq_ignore_ascii_case("content-length") {
            continue;
        }
        let digits = field.value.trim_ascii();
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_number);
        let length = text.and_then(|text| text.parse().ok());
        let length: u64 = length.ok_or(BadHead::Malformed)?;
        if known.replace(length).is_some_and(|other| other != length) {
            return Err(BadHead::Malformed);
        }
    }
    Ok(known.unwrap_or(0))
}

/// A target such as `http://host/path` without its origin.
fn without_origin(target: &str) -> &str {
    let lower = target.get(..8).unwrap_or(target).to_ascii_lowercase();
    let skip = ["http://", "https://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme))
        .map_or(0, str::len);
    if skip == 0 {
        return target;
    }
    let rest = target.get(skip..).unwrap_or_default();
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest.get(at..) {
        None | Some("") => "/",
        Some(path) => path,
    }
}

/// Path and query.
fn split_target(target: &str) -> (&str, &str) {
    let target = without_origin(target);
    let target = target.split('#').next().unwrap_or_default();
    match target.split_once('?') {
        Some(("", query)) => ("/", query),
        Some(both) => both,
        None => (target, ""),
    }
}

fn has_word(value: &[u8], word: &str) -> bool {
    let mut words = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    words.any(|it| it.eq_ignore_ascii_case(word.as_bytes()))
}

fn bearer(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii().to_vec())
}

/// The path with empty and dot segments resolved, if that makes a difference.
#[must_use]
pub fn cleaned(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The content type; empty for none.
    pub content_type: &'static str,
    /// Further fields.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Content type of pages for programs.
pub const JSON: &str = "application/json";
/// Content type of errors.
pub const PLAIN: &str = "text/plain; charset=utf-8";
/// Content type of pages for people.
pub const HTML: &str = "text/html; charset=utf-8";

impl Response {
    /// A page of JSON, which scripts of any origin may read.
    #[must_use]
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Response {
            status,
            content_type: JSON,
            fields: vec![("Access-Control-Allow-Origin", "*".into())],
            body,
        }
    }

    /// A plain text.
    #[must_use]
    pub fn text(status: u16, text: &str) -> Self {
        Response {
            status,
            content_type: PLAIN,
            fields: Vec::new(),
            body: text.into(),
        }
    }

    /// No such page.
    #[must_use]
    pub fn not_found() -> Self {
        let mut response = Response::text(404, "404 page not found\n");
        response
            .fields
            .push(("X-Content-Type-Options", "nosniff".into()));
        response
    }

    /// Elsewhere: at this path, with the query of the request.
    #[must_use]
    pub fn redirect(path: &str, target: &str) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        // Only what may stand in a URL as it is, so that nothing ends the field early.
        let mut location = String::new();
        for byte in path.bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                    location.push(char::from(byte));
                }
                other => location.push_str(&format!("%{other:02X}")),
            }
        }
        if !query.is_empty() {
            location.push('?');
            location.extend(query.chars().filter(char::is_ascii_graphic));
        }
        Response {
            status: 307,
            content_type: HTML,
            body: format!(
                "<a href=\"{}\">Temporary Redirect</a>.\n\n",
                location.replace('&', "&amp;").replace('"', "&#34;")
            )
            .into(),
            fields: vec![("Location", location)],
        }
    }

    /// Appends it as it goes over the wire. `head` is absent where the request could not be read; `closes` says that
    /// the connection ends behind it.
    pub fn encode(&self, head: Option<&Head>, closes: bool, date: &str, out: &mut Vec<u8>) {
        let version = if head.is_some_and(|head| !head.takes_chunks) {
            "1.0"
        } else {
            "1.1"
        };
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            "HTTP/{version} {} {}\r\n",
            self.status,
            reason(self.status)
        );
        for (name, value) in &self.fields {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        if !self.content_type.is_empty() {
            let _ = write!(out, "Content-Type: {}\r\n", self.content_type);
        }
        let _ = write!(out, "Date: {date}\r\n");
        let is_head = head.is_some_and(|head| head.is_head);
        let is_whole = self.body.len() <= WHOLE_BYTES_MAX;
        let takes_chunks = head.is_none_or(|head| head.takes_chunks);
        if is_whole {
            let _ = write!(out, "Content-Length: {}\r\n", self.body.len());
        } else if takes_chunks && !is_head {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if closes {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if head.is_some_and(|head| head.confirms_keep_alive) {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if is_head {
            return;
        }
        if is_whole || !takes_chunks {
            out.extend_from_slice(&self.body);
        } else {
            let _ = write!(out, "{:x}\r\n", self.body.len());
            out.extend_from_slice(&self.body);
            out.extend_from_slice(b"\r\n0\r\n\r\n");
        }
    }

    /// Whether only the end of the connection can tell the end of the body.
    #[must_use]
    pub fn needs_close(&self, head: &Head) -> bool {
        !head.takes_chunks && self.body.len() > WHOLE_BYTES_MAX
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().expect("a whole head").1
    }

    #[test]
    fn a_head_is_read_however_it_is_split() {
        let wire = b"GET /connz?limit=1&subs=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /";
        for cut in 0..wire.len() {
            let part = wire.get(..cut).unwrap();
            let read = parse(part).unwrap();
            assert_eq!(read.is_some(), cut >= wire.len() - 5, "cut at {cut}");
        }
        let (len, head) = parse(wire).unwrap().unwrap();
        assert_eq!((len, head.path.as_str()), (wire.len() - 5, "/connz"));
        assert_eq!(head.query.text("limit"), "1");
        assert!(head.keeps_alive && head.takes_chunks && !head.is_head);
    }

    #[test]
    fn escapes_and_origins_lead_to_the_same_page() {
        for target in ["/%68ealthz", "http://h:1/healthz", "HTTP://h/healthz?x#y"] {
            let head = parsed(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(head.path, "/healthz", "{target}");
        }
        assert_eq!(parsed("GET http://h HTTP/1.1\r\nHost: x\r\n\r\n").path, "/");
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        for (text, why) in [
            ("GET / HTTP/1.1\r\n\r\n", BadHead::NoHost),
            ("GET / HTTP/3.0\r\n\r\n", BadHead::Version),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadHead::Malformed),
            ("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", BadHead::Malformed),
            ("\u{1}\u{2}\r\n\r\n", BadHead::Malformed),
            (
                "POST / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                BadHead::Malformed,
            ),
            (
                "POST / HTTP/1.0\r\nContent-Length: +1\r\n\r\n",
                BadHead::Malformed,
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(why), "{text:?}");
        }
        let huge = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse(huge.as_bytes()), Err(BadHead::TooLarge));
    }

    #[test]
    fn a_connection_goes_on_as_its_version_and_fields_say() {
        for (head, on) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n",
                false,
            ),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", true),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
        ] {
            assert_eq!(parsed(head).keeps_alive, on, "{head:?}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_a_file_system_would() {
        for (path, clean) in [
            ("//varz", Some("/varz")),
            ("/a/../varz", Some("/varz")),
            ("/../..", Some("/")),
            ("/./", Some("/")),
            ("/a//b/", Some("/a/b/")),
            ("/varz", None),
            ("/varz/", None),
            ("/", None),
        ] {
            assert_eq!(cleaned(path).as_deref(), clean, "{path}");
        }
    }

    #[test]
    fn a_redirect_cannot_be_made_to_end_its_field() {
        let response = Response::redirect("/a\r\nSet-Cookie: x", "/?q=1\r\nB: c");
        let mut out = Vec::new();
        response.encode(None, true, "now", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("Location: /a%0D%0ASet-Cookie%3A%20x?q=1B:c\r\n"),
            "{text}"
        );
    }

    #[test]
    fn long_bodies_go_in_chunks_where_those_are_known() {
        let response = Response::json(200, vec![b'x'; 3000]);
        for (request, wanted) in [
            (
                "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                "Transfer-Encoding: chunked\r\n\r\nbb8\r\nxxx",
            ),
            ("GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n\r\nxxx"),
        ] {
            let head = parsed(request);
            let mut out = Vec::new();
            let closes = !head.keeps_alive || response.needs_close(&head);
            response.encode(Some(&head), closes, "now", &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn no_bytes_do_any_harm() {
        let samples: [&[u8]; 4] = [
            b"GET /connz?limit=1&subs=detail HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST //a/../varz?x=%41;y HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nAuthorization: Bearer t\r\n\r\nabc",
            b"GET http://h/%68ealthz HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
        ];
        let mut rng = crate::rng::Rng::seeded(7);
        for round in 0..20_000 {
            let mut bytes = samples[round % samples.len()].to_vec();
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len());
                match rng.below(4) {
                    0 if bytes.len() > 1 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, b" \r\n%/.?:\0\x7f\xff"[rng.below(11)]),
                    2 => bytes[at] ^= 1 << rng.below(8),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let half = parse(&bytes[..bytes.len() / 2]);
            let whole = parse(&bytes);
            if let Ok(Some((len, _))) = &half {
                assert!(matches!(&whole, Ok(Some((same, _))) if same == len));
            }
            let (response, head) = match &whole {
                Ok(Some((_, head))) => match cleaned(&head.path) {
                    Some(path) => (Response::redirect(&path, &head.target), Some(head)),
                    None => (Response::not_found(), Some(head)),
                },
                Ok(None) => continue,
                Err(error) => (error.response(), None),
            };
            let mut out = Vec::new();
            response.encode(head, true, "now", &mut out);
            let end = out.windows(4).position(|it| it == b"\r\n\r\n");
            let lines = out[..end.expect("a head ends")].split(|&it| it == b'\n');
            assert!(lines.count() <= 7, "{}", out.escape_ascii());
        }
    }
}
