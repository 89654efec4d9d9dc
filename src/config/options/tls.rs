//! The options of one `tls {}` block: names of files and algorithms, nothing loaded.

use std::path::PathBuf;
use std::time::Duration;

use super::super::error::Whereabouts;
use crate::limits;

/// How a listener, or what it dials out, uses TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    /// Certificate chains with their keys; from `cert_file` and `key_file`, or `certs`. May be empty: then handshakes
    /// fail, which is of use only behind a proxy that does TLS, with `allow_non_tls`.
    pub certs: Vec<CertFiles>,
    /// PEM bundle of authorities; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Ask clients for a certificate and check it.
    pub verify: bool,
    /// The same, and find the user by it.
    pub verify_and_map: bool,
    /// Peers of a cluster must have a certificate for one of the hosts in `routes`.
    pub verify_cert_and_check_known_urls: bool,
    /// Do not check the other side's certificate when dialling out.
    pub insecure: bool,
    /// Time for the handshake.
    pub timeout: Duration,
    /// Names of the cipher suites to allow, in order of preference; all when empty. Those of TLS 1.3 are always allowed.
    /// Only known names.
    pub cipher_suites: Vec<String>,
    /// Allow suites that are known to be weak. They stay refused: midge has none of them.
    pub allow_insecure_cipher_suites: bool,
    /// Names of the key exchange groups to allow; all when empty. Their order counts for what is dialled; of those that a
    /// client offers, the one that it likes best is taken. Only known names.
    pub curve_preferences: Vec<String>,
    /// Oldest version to accept.
    pub min_version: TlsVersion,
    /// SHA-256 of the public keys to accept, in lower-case hexadecimal digits; any when empty.
    pub pinned_certs: Vec<String>,
    /// Whether the handshake comes before INFO.
    pub handshake_first: HandshakeFirst,
    /// Handshakes a second; `None` is unlimited.
    pub connection_rate_limit: Option<u32>,
    /// How often to look whether the files have changed; `None` is never. Not in the reference server.
    pub watch: Option<Duration>,
    /// Where the block stands, for what is found out when its files are loaded.
    pub at: Whereabouts,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The chain.
    pub cert_file: PathBuf,
    /// The key.
    pub key_file: PathBuf,
}

/// Oldest TLS version to accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// Whether the TLS handshake comes before INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO first, in plain text.
    #[default]
    Off,
    /// Always, and no plain text at all.
    Always,
    /// If the client starts one within this time; else INFO follows after all.
    Within(Duration),
}

impl HandshakeFirst {
    /// Whether there is never an INFO in clear.
    #[must_use]
    pub fn is_always(self) -> bool {
        match self {
            HandshakeFirst::Always => true,
            HandshakeFirst::Within(delay) => delay.is_zero(),
            HandshakeFirst::Off => false,
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        TlsConfig {
            certs: Vec::new(),
            ca_file: None,
            verify: false,
            verify_and_map: false,
            verify_cert_and_check_known_urls: false,
            insecure: false,
            timeout: limits::TLS_TIMEOUT,
            cipher_suites: Vec::new(),
            allow_insecure_cipher_suites: false,
            curve_preferences: Vec::new(),
            min_version: TlsVersion::V1_2,
            pinned_certs: Vec::new(),
            handshake_first: HandshakeFirst::Off,
            connection_rate_limit: None,
            watch: None,
            at: Whereabouts::default(),
        }
    }
}
