//! The options of the `cluster {}` block.

use std::fmt;
use std::time::Duration;

use super::auth::{Secret, SubjectRules};
use super::tls::TlsConfig;
use crate::limits;

/// How this server is part of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The cluster's name; made up at start when absent.
    pub name: Option<String>,
    /// Address on which routes are accepted.
    pub host: String,
    /// Port for routes; 0 lets the system choose one, `None` is no clustering.
    pub port: Option<u16>,
    /// User name that other servers must log in with.
    pub user: Option<String>,
    /// Their password, or a bcrypt hash of it.
    pub password: Option<Secret>,
    /// Time for their CONNECT, where it is set: see [`Cluster::auth_timeout`].
    pub auth_timeout: Option<Duration>,
    /// What crosses routes; everything when absent.
    pub permissions: Option<RoutePermissions>,
    /// Servers to dial, each once.
    pub routes: Vec<RouteUrl>,
    /// TLS of routes; plain text when absent.
    pub tls: Option<TlsConfig>,
    /// `host[:port]` that other servers are told to dial.
    pub advertise: Option<String>,
    /// Do not tell other servers where clients can connect.
    pub no_advertise: bool,
    /// Attempts to dial a server that was only heard of.
    pub connect_retries: u32,
    /// Double the time between attempts, from 1 s up to 30 s.
    pub connect_backoff: bool,
    /// Connections to each other server; `None` is a single one without a pool.
    pub pool_size: Option<u32>,
    /// Accounts with a connection of their own to each other server.
    pub accounts: Vec<String>,
    /// Compression of routes.
    pub compression: Compression,
    /// Time between PINGs on a route; as for clients, at most 30 s, when absent.
    pub ping_interval: Option<Duration>,
    /// Unanswered PINGs after which a route is stale; as for clients when absent.
    pub ping_max: Option<u32>,
    /// Time a route may take nothing; as for clients when absent.
    pub write_deadline: Option<Duration>,
    /// What happens then.
    pub write_timeout: WriteTimeout,
}

impl Cluster {
    /// Time for the CONNECT of another server.
    #[must_use]
    pub fn auth_timeout(&self) -> Duration {
        let by_default = self.tls.as_ref().map_or(limits::AUTH_TIMEOUT, |tls| {
            tls.timeout + limits::AUTH_TIMEOUT_AFTER_TLS
        });
        self.auth_timeout.unwrap_or(by_default)
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            name: None,
            host: limits::HOST.into(),
            port: None,
            user: None,
            password: None,
            auth_timeout: None,
            permissions: None,
            routes: Vec::new(),
            tls: None,
            advertise: None,
            no_advertise: false,
            connect_retries: 0,
            connect_backoff: false,
            pool_size: Some(limits::ROUTE_POOL_SIZE),
            accounts: Vec::new(),
            compression: Compression::default(),
            ping_interval: None,
            ping_max: None,
            write_deadline: None,
            write_timeout: WriteTimeout::Default,
        }
    }
}

/// What crosses a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePermissions {
    /// Subjects taken in from other servers.
    pub import: SubjectRules,
    /// Subjects given to other servers.
    pub export: SubjectRules,
}

/// What happens to a connection that takes nothing for `write_deadline`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimeout {
    /// Close.
    Close,
    /// Close clients, try on with routes.
    #[default]
    Default,
    /// Try on.
    Retry,
}

/// Compression of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// How much, and who decides.
    pub mode: CompressionMode,
    /// Round-trip times up to which [`CompressionMode::Auto`] uses one level after the other: not compressed, fast, better
    /// and best. Zero leaves a level out. They ascend otherwise, and the last one is not zero.
    pub rtt_thresholds: Vec<Duration>,
}

impl Default for Compression {
    fn default() -> Self {
        Compression {
            mode: CompressionMode::Accept,
            rtt_thresholds: limits::COMPRESSION_RTTS.to_vec(),
        }
    }
}

/// How a route compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionMode {
    /// As the other side wants it.
    Accept,
    /// By the round-trip time.
    Auto,
    /// Strongest.
    Best,
    /// Stronger.
    Better,
    /// Fast.
    Fast,
    /// As a server of old times: nothing is said about it.
    NotSupported,
    /// Never.
    Off,
}

impl CompressionMode {
    /// Every spelling; the first one of each mode is what INFO says.
    pub const NAMES: [(&'static str, CompressionMode); 17] = [
        ("off", CompressionMode::Off),
        ("accept", CompressionMode::Accept),
        ("s2_auto", CompressionMode::Auto),
        ("s2_fast", CompressionMode::Fast),
        ("s2_better", CompressionMode::Better),
        ("s2_best", CompressionMode::Best),
        ("not supported", CompressionMode::NotSupported),
        ("on", CompressionMode::Fast),
        ("disabled", CompressionMode::Off),
        ("false", CompressionMode::Off),
        ("fast", CompressionMode::Fast),
        ("better", CompressionMode::Better),
        ("best", CompressionMode::Best),
        ("auto", CompressionMode::Auto),
        ("enabled", CompressionMode::Fast),
        ("true", CompressionMode::Fast),
        ("not_supported", CompressionMode::NotSupported),
    ];

    /// As INFO and monitoring have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let mut names = CompressionMode::NAMES.iter();
        names.find(|it| it.1 == self).map_or("off", |it| it.0)
    }
}

/// A server to dial: `nats-route://user:password@host:port`. Shows itself without the user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct RouteUrl {
    /// Whether the scheme is `tls`.
    pub is_tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User to log in as.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
}

impl RouteUrl {
    /// Reads a URL such as `nats-route://user:password@host:port`; `nats` and `tls` are schemes too.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, without the text: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("it needs a scheme, such as nats://")?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "nats" | "nats-route" => false,
            "tls" => true,
            _ => return Err("its scheme must be nats, nats-route or tls"),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let (host, port) =
            host_and_port(address).ok_or("it needs a host and a port up to 65535")?;
        let decoded =
            |part: &str| percent_decoded(part).ok_or("its user or password has a bad % escape");
        let (user, password) = match login.map(|it| it.split_once(':').unwrap_or((it, ""))) {
            None => (None, None),
            Some((user, password)) => (Some(decoded(user)?), Some(Secret::new(decoded(password)?))),
        };
        Ok(RouteUrl {
            is_tls,
            host: host.into(),
            port,
            user,
            password,
        })
    }
}

impl fmt::Display for RouteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats-route" };
        let login = if self.user.is_some() {
            "[REDACTED]@"
        } else {
            ""
        };
        if self.host.contains(':') {
            return write!(f, "{scheme}://{login}[{}]:{}", self.host, self.port);
        }
        write!(f, "{scheme}://{login}{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for RouteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// `host:port`, with an IPv6 address in brackets.
pub(in crate::config) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text
            .split_once(':')
            .filter(|(_, port)| !port.contains(':'))?,
    };
    let is_host =
        !host.is_empty() && !host.contains(|it: char| it.is_whitespace() || it.is_control());
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_host && is_port {
        Some((host, port.parse().ok()?))
    } else {
        None
    }
}

/// The text with `%XX` resolved, unless there is a `%` without two hexadecimal digits, or something other than UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_urls_carry_a_login_and_never_show_it() {
        let url = RouteUrl::parse("nats-route://us%40er:p%3Ass@127.0.0.1:4245").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.is_tls),
            ("127.0.0.1", 4245, false)
        );
        assert_eq!(url.user.as_deref(), Some("us@er"));
        assert_eq!(url.password.as_ref().map(Secret::reveal), Some("p:ss"));
        assert_eq!(
            format!("{url} {url:?}")
                .matches("[REDACTED]@127.0.0.1:4245")
                .count(),
            2
        );
        assert!(!format!("{url:?}").contains("p:ss"));
        let url = RouteUrl::parse("tls://[::1]:4245/").unwrap();
        assert_eq!(
            (url.host.as_str(), url.is_tls, url.user),
            ("::1", true, None)
        );
        for bad in [
            ":::",
            "nats://a",
            "nats://",
            "a:1",
            "http://a:1",
            "nats://a b:1",
            "nats://a:70000",
            "nats://a:-1",
            "nats://%zz:x@a:1",
            "nats://a:1:2",
        ] {
            assert!(RouteUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
