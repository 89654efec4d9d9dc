//! A client of HTTP/1.1 that keeps what a test wants to look at: the status, the fields and the body, to the byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::tls::Tls;
use super::{DEADLINE, wait_for};

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// The value of a field; empty if it is absent.
    pub(crate) fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }
}

/// Asks for a page, on a connection of its own.
pub(crate) fn get(address: SocketAddr, target: &str) -> Response {
    request(address, "GET", target, "", "")
}

/// Makes a request: `fields` are whole lines that end in CRLF.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    fields: &str,
    body: &str,
) -> Response {
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{length}{fields}"
    );
    raw(address, format!("{head}\r\n{body}").as_bytes())
}

/// Sends bytes, and reads what comes until the end.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    // It may have answered, and closed, before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Asks for a page by TLS, and wants the connection to end as TLS has it.
pub(crate) fn secure_get(address: SocketAddr, target: &str, tls: &Tls) -> Response {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).expect("it listens");
    let mut session = tls.connect(&stream).expect("a handshake");
    let mut stream = rustls::Stream::new(&mut session, &mut stream);
    let head = format!("GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    read.expect("a page, and a proper end");
    parse(&answer)
}

/// Sends bytes, and reads one response.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> Response {
    parse(&exchange(address, bytes))
}

/// Reads a response that ends with its connection.
pub(crate) fn parse(bytes: &[u8]) -> Response {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (head, rest) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head in {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let mut response = Response {
        status: status.and_then(|it| it.parse().ok()).expect("a status"),
        fields: fields.collect(),
        body: rest.to_owned(),
    };
    if response.field("transfer-encoding") == "chunked" && !rest.is_empty() {
        response.body = dechunked(rest);
    }
    response
}

fn dechunked(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(size, 16).expect("it is hexadecimal");
        if size == 0 {
            return body;
        }
        let (chunk, after) = after.split_at(size);
        body.push_str(chunk);
        rest = after.strip_prefix("\r\n").expect("the end of a chunk");
    }
}

/// Asks for a page until it fulfils `condition`.
pub(crate) fn get_until(
    address: SocketAddr,
    target: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    let found = wait_for(|| {
        last = get(address, target).json();
        condition(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("{target} stayed {last:#}"))
}
