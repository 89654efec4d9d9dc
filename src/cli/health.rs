//! `--healthcheck`: asks a running server for its health, for images that have no other program to ask with.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::Flags;
use crate::cause::cause;
use crate::config::Outside;
use crate::config::options::{Options, TlsConfig};
use crate::net::tls::{Blocking, TlsClient};

/// The variable that holds the token of a monitoring port that asks for one.
const TOKEN: &str = "MIDGE_HTTP_AUTH_TOKEN";
/// Where a server's pages usually are.
const USUAL: &str = "http://127.0.0.1:8222";
/// The page.
const PAGE: &str = "/healthz";
/// Time to connect, and then for each read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Why a server is not known to be well.
#[derive(Debug, PartialEq, Eq)]
pub enum HealthError {
    /// It could not be asked for a mistake of who asks.
    Usage(String),
    /// Nobody answers, or the answer is not 200.
    Unwell(String),
}

impl HealthError {
    /// The status with which the program ends.
    pub fn exit_status(&self) -> u8 {
        match self {
            HealthError::Usage(_) => 2,
            HealthError::Unwell(_) => 1,
        }
    }
}

impl fmt::Display for HealthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HealthError::Usage(text) | HealthError::Unwell(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for HealthError {}

/// What is asked, and how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Target {
    /// As it was given, for errors.
    url: String,
    place: Place,
    path: String,
    token: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    File(PathBuf),
    Http {
        /// With the port, if there is one.
        authority: String,
    },
    Https {
        authority: String,
        /// Take any certificate.
        trusting: bool,
    },
}

/// Asks the server at `http[s]://host[:port][/path]` or `unix:/path/of/a/socket`.
///
/// Without an address it is that of the server that `flags` would start, by `-c`, `-m` or `-ms`; without these too it is
/// `http://127.0.0.1:8222`. By HTTPS, the certificate is verified against the authorities of `--tlscacert`; without that
/// flag against the system's, but where the server is on this very host, which is so if its address is not given or is
/// a loopback one: there any certificate will do.
///
/// # Errors
///
/// [`HealthError`], whose text names the address.
pub fn check_health(
    url: Option<&str>,
    flags: &Flags,
    outside: &dyn Outside,
) -> Result<(), HealthError> {
    let target = match url {
        Some(url) => Target::at(url),
        None => Target::of_flags(flags, outside),
    };
    let mut target = target.map_err(HealthError::Usage)?;
    if let Some(token) = std::env::var(TOKEN).ok().filter(|it| !it.is_empty()) {
        target.token = token;
    }
    let unwell = |what: &str| HealthError::Unwell(format!("{}: {what}", target.url));
    let answer = target.ask(flags);
    let answer = answer.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            unwell(&format!("no answer in {} s", PATIENCE.as_secs()))
        }
        _ => unwell(&cause(&error)),
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1).filter(|_| head.starts_with("HTTP/")) {
        Some("200") => Ok(()),
        Some(status) => Err(unwell(&format!("{status} {}", body.trim().escape_debug()))),
        None => Err(unwell("the answer is not one of HTTP")),
    }
}

impl Target {
    /// What an address means.
    fn at(url: &str) -> Result<Target, String> {
        let target = Target {
            url: url.into(),
            path: PAGE.into(),
            ..Target::default()
        };
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Target {
                place: Place::File(path.into()),
                ..target
            });
        }
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let place = match scheme {
            "http" => Place::Http {
                authority: authority.into(),
            },
            "https" => Place::Https {
                authority: authority.into(),
                trusting: is_loopback(host_of(authority)),
            },
            _ => {
                let needed = "it must begin with http://, https:// or unix:";
                return Err(format!("{url}: {needed}"));
            }
        };
        if authority.is_empty() || !is_clean(rest) {
            return Err(format!("{url}: it must be {scheme}://host:port/path"));
        }
        let path = if path.is_empty() {
            target.path
        } else {
            format!("/{path}")
        };
        Ok(Target {
            place,
            path,
            ..target
        })
    }

    /// Where the server is that these flags would start.
    fn of_flags(flags: &Flags, outside: &dyn Outside) -> Result<Target, String> {
        // This one flag is for us.
        let flags = Flags {
            tls_ca_cert: None,
            ..flags.clone()
        };
        let options = match &flags.config {
            Some(path) => flags.load(path, outside)?.options,
            None if flags.http_port.is_none() && flags.https_port.is_none() => {
                return Target::at(USUAL);
            }
            None => {
                let mut options = Options::default();
                flags.apply(&mut options)?;
                options
            }
        };
        Target::of_options(&options)
    }

    fn of_options(options: &Options) -> Result<Target, String> {
        let host = options.http_host.as_deref().unwrap_or(&options.host);
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(addr)) if addr.is_unspecified() => "127.0.0.1".into(),
            Ok(IpAddr::V6(addr)) if addr.is_unspecified() => "[::1]".into(),
            Ok(IpAddr::V6(addr)) => format!("[{addr}]"),
            _ => host.to_owned(),
        };
        let at = |port: u16| match port {
            0 => Err("the system chooses the monitoring port: give its address".to_owned()),
            port => Ok(format!("{host}:{port}")),
        };
        let (scheme, place) = match (options.http_port, options.https_port, &options.http_socket) {
            (Some(port), _, _) => (
                "http://",
                Place::Http {
                    authority: at(port)?,
                },
            ),
            (None, Some(port), _) => (
                "https://",
                Place::Https {
                    authority: at(port)?,
                    trusting: true,
                },
            ),
            (None, None, Some(path)) => ("unix:", Place::File(path.clone())),
            (None, None, None) => return Err("the configuration has no monitoring port".into()),
        };
        let url = match &place {
            Place::Nowhere => String::new(),
            Place::File(path) => format!("{scheme}{}", path.display()),
            Place::Http { authority } | Place::Https { authority, .. } => {
                format!("{scheme}{authority}")
            }
        };
        let base = options.http_base_path.trim_end_matches('/');
        let token = options.http_auth_token.as_ref();
        Ok(Target {
            url,
            place,
            path: format!("{base}{PAGE}"),
            token: token.map_or("", |token| token.reveal()).into(),
        })
    }

    fn ask(&self, flags: &Flags) -> io::Result<String> {
        match &self.place {
            Place::Nowhere => Err(ErrorKind::NotFound.into()),
            Place::File(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                self.exchange(stream, "localhost")
            }
            Place::Http { authority } => self.exchange(connect(authority, 80)?, authority),
            Place::Https {
                authority,
                trusting,
            } => {
                let authorities = flags.tls_ca_cert.clone();
                let tls = TlsConfig {
                    insecure: *trusting && authorities.is_none(),
                    ca_file: authorities,
                    ..TlsConfig::default()
                };
                let tls = TlsClient::new(&tls, None);
                let tls = tls.map_err(|error| io::Error::other(error.to_string()))?;
                let stream = connect(authority, 443)?;
                let stream = Blocking::connect(stream, &tls, host_of(authority))?;
                self.exchange(stream, authority)
            }
        }
    }

    fn exchange(&self, mut stream: impl Read + Write, host: &str) -> io::Result<String> {
        let Target { path, token, .. } = self;
        let authorization = if token.is_empty() || token.contains(['\r', '\n']) {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{authorization}\r\n"
        );
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`, with its brackets.
fn host_of(authority: &str) -> &str {
    split(authority).map_or(authority, |(host, _)| host)
}

/// Host and port, if there is a port.
fn split(authority: &str) -> Option<(&str, &str)> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    authority.rsplit_once(':').filter(|(_, port)| is_port(port))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(addr) => addr.is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}

fn connect(authority: &str, usual_port: u16) -> io::Result<TcpStream> {
    let addrs = match split(authority) {
        Some(_) => authority.to_socket_addrs()?,
        None => format!("{authority}:{usual_port}").to_socket_addrs()?,
    };
    let mut last = io::Error::other("no address");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Secret;

    #[test]
    fn certificates_are_taken_unseen_on_this_host_alone() {
        for (url, is_trusted) in [
            ("https://localhost:8222", true),
            ("https://LOCALHOST", true),
            ("https://127.0.0.9:1/healthz", true),
            ("https://[::1]:8222", true),
            ("https://localhost.example:8222", false),
            ("https://127.0.0.1.example", false),
            ("https://10.0.0.1:8222", false),
        ] {
            let target = Target::at(url).expect(url);
            let Place::Https { trusting, .. } = target.place else {
                panic!("{url}");
            };
            assert_eq!(trusting, is_trusted, "{url}");
        }
    }

    #[test]
    fn the_configuration_tells_where_to_ask() {
        let base = Options {
            http_base_path: "/nats/".into(),
            http_auth_token: Some(Secret::new("sesame")),
            http_port: Some(8222),
            ..Options::default()
        };
        let url_of = |options: &Options| Target::of_options(options).map(|it| it.url);
        let target = Target::of_options(&base).expect("a port");
        assert_eq!(target.url, "http://127.0.0.1:8222");
        assert_eq!(target.path, "/nats/healthz");
        assert_eq!(target.token, "sesame");
        for (host, url) in [
            ("::", "http://[::1]:8222"),
            ("fd00::1", "http://[fd00::1]:8222"),
            ("10.0.0.1", "http://10.0.0.1:8222"),
            ("monitor.local", "http://monitor.local:8222"),
        ] {
            let options = Options {
                http_host: Some(host.into()),
                ..base.clone()
            };
            assert_eq!(url_of(&options).as_deref(), Ok(url));
        }
        let secure = Options {
            http_port: None,
            https_port: Some(8443),
            ..base.clone()
        };
        assert_eq!(url_of(&secure).as_deref(), Ok("https://127.0.0.1:8443"));
        let file = Options {
            http_port: None,
            http_socket: Some("/run/m".into()),
            ..base.clone()
        };
        assert_eq!(url_of(&file).as_deref(), Ok("unix:/run/m"));
        let chosen = Options {
            http_port: Some(0),
            ..base
        };
        assert!(url_of(&chosen).is_err());
        assert!(url_of(&Options::default()).is_err());
    }
}
