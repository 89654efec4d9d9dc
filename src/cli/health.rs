//! `--healthcheck`: asks a running server for its health, for images that have no other program to ask with.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The variable that holds the token of a monitoring port that asks for one.
const TOKEN: &str = "MIDGE_HTTP_AUTH_TOKEN";
/// Where a server's pages usually are.
const USUAL: &str = "http://127.0.0.1:8222/healthz";
/// Time to connect, and then for each read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks the server at `http://host[:port][/path]` or `unix:/path/of/a/socket`; at the usual address when absent.
///
/// # Errors
///
/// Why it is not known to be well: the address has no meaning, nobody answers, or the answer is not 200.
pub fn check_health(url: Option<&str>) -> Result<(), String> {
    let url = url.unwrap_or(USUAL);
    let token = std::env::var(TOKEN).unwrap_or_default();
    let fail = |what: &str| format!("{url}: {what}");
    let answer = if let Some(path) = url.strip_prefix("unix:") {
        let stream = UnixStream::connect(path).map_err(|error| fail(&error.to_string()))?;
        let limit = Some(PATIENCE);
        let limited = stream
            .set_read_timeout(limit)
            .and_then(|()| stream.set_write_timeout(limit));
        limited.map_err(|error| fail(&error.to_string()))?;
        ask(stream, "localhost", "/healthz", &token)
    } else {
        let rest = url.strip_prefix("http://");
        let rest = rest.ok_or_else(|| fail("it must begin with http:// or unix:"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "healthz"));
        let path = if path.is_empty() { "healthz" } else { path };
        let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || !is_clean(rest) {
            return Err(fail("it must be http://host:port/path"));
        }
        let stream = connect(authority).map_err(|error| fail(&error.to_string()))?;
        ask(stream, authority, &format!("/{path}"), &token)
    };
    let answer = answer.map_err(|error| fail(&error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => Err(fail(&format!("{status} {}", body.trim().escape_debug()))),
        None => Err(fail("the answer is not one of HTTP")),
    }
}

fn connect(authority: &str) -> std::io::Result<TcpStream> {
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()));
    let addrs = if has_port {
        authority.to_socket_addrs()?
    } else {
        format!("{authority}:80").to_socket_addrs()?
    };
    let mut last = std::io::Error::other("no address");
    for addr in addrs {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(
    mut stream: impl Read + Write,
    host: &str,
    path: &str,
    token: &str,
) -> std::io::Result<String> {
    let authorization = if token.is_empty() || token.contains(['\r', '\n']) {
        String::new()
    } else {
        format!("Authorization: Bearer {token}\r\n")
    };
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
