//! The side that is dialled.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::clock::Clock;
use super::{TlsError, files, suites};
use crate::certificate::Certificate;
use crate::config::options::{TlsConfig, TlsVersion};

/// What a listener is for, which decides whom it asks for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// Clients: those are asked if the configuration says so.
    Clients,
    /// Monitoring: nobody is asked.
    Monitoring,
    /// Routes: every peer is asked.
    Routes,
}

/// What the sessions of a listener share.
#[derive(Debug)]
pub struct TlsServer {
    pub(super) config: Arc<ServerConfig>,
    /// Time for a handshake.
    pub timeout: Duration,
    /// Whether a peer must show a certificate.
    pub asks: bool,
    /// The last moment at which the first certificate is valid, in seconds since 1970, if there is one.
    pub not_after: Option<i64>,
}

impl TlsServer {
    /// Loads what a `tls` block names. `floor` is a time that has passed for sure, whatever the clock says.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, or do not hold what they should.
    pub fn new(
        tls: &TlsConfig,
        listening: Listening,
        floor: Option<SystemTime>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(suites::provider(&tls.cipher_suites, &tls.curve_preferences));
        let asks = match listening {
            Listening::Clients => tls.verify || tls.verify_and_map,
            Listening::Monitoring => false,
            Listening::Routes => true,
        };
        let clock = Arc::new(Clock { floor });
        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), clock)
            .with_protocol_versions(versions(tls.min_version))?;
        // Bad authorities are a mistake even where nobody is asked for a certificate.
        let wants = asks || tls.ca_file.is_some();
        let verifier = wants.then(|| verifier(tls, &provider)).transpose()?;
        let builder = match verifier.filter(|_| asks) {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let chains = Chains::load(tls, &provider)?;
        let first = chains.first();
        let first = first.as_ref().and_then(|it| it.cert.first());
        let not_after = first.and_then(|der| Certificate::parse(der)?.not_after);
        let mut config = builder.with_cert_resolver(Arc::new(chains));
        // A client that prefers otherwise would make us pay for it.
        config.ignore_client_order = true;
        config.max_early_data_size = 0;
        // Sessions to resume are the clients' to store, sealed: they cost no memory here. One ticket is enough.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(TlsServer {
            config: Arc::new(config),
            timeout: tls.timeout,
            asks,
            not_after,
        })
    }
}

/// The versions from `oldest` on.
pub(super) fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static LATEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    match oldest {
        TlsVersion::V1_2 => rustls::ALL_VERSIONS,
        TlsVersion::V1_3 => &LATEST,
    }
}

fn verifier(
    tls: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(files::authorities(tls.ca_file.as_deref())?);
    // Clients choose among their certificates by these names, and there may be too many to send them all.
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    builder
        .build()
        .map_err(|error| TlsError::Authorities(format!("cannot verify certificates: {error}")))
}

/// The certificates of a `tls` block.
#[derive(Debug)]
pub(super) struct Chains(Vec<Arc<CertifiedKey>>);

impl Chains {
    pub(super) fn load(tls: &TlsConfig, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let count = tls.certs.len();
        let mut chains = Vec::new();
        for (number, pair) in (1..).zip(&tls.certs) {
            let flaw = |why| TlsError::Pair {
                place: (count > 1).then_some((number, count)),
                why,
            };
            let (chain, key) = files::pair(pair).map_err(flaw)?;
            let key = CertifiedKey::from_der(chain, key, provider);
            chains.push(Arc::new(key.map_err(|error| flaw(describe(&error)))?));
        }
        Ok(Chains(chains))
    }

    pub(super) fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.0.first().map(Arc::clone)
    }
}

fn describe(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "tls: private key does not match public key".into(),
        error => format!("tls: failed to parse private key: {error}"),
    }
}

impl ResolvesServerCert for Chains {
    /// The first that suits the client, else the first.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |key: &&Arc<CertifiedKey>| {
            let signs = key.key.choose_scheme(hello.signature_schemes()).is_some();
            let name = hello.server_name();
            signs && name.is_none_or(|name| is_for(key, name))
        };
        let suiting = self.0.iter().find(suits);
        suiting.map(Arc::clone).or_else(|| self.first())
    }
}

/// Whether a certificate is for a host.
fn is_for(key: &CertifiedKey, host: &str) -> bool {
    let Ok(name) = rustls::pki_types::ServerName::try_from(host) else {
        return false;
    };
    let certificate = key.end_entity_cert().ok();
    let parsed = certificate.and_then(|it| rustls::server::ParsedCertificate::try_from(it).ok());
    parsed.is_some_and(|it| rustls::client::verify_server_name(&it, &name).is_ok())
}
