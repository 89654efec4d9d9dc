//! The side that dials.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::clock::Clock;
use super::server::{Chains, versions};
use super::{TlsError, files, suites};
use crate::config::options::TlsConfig;

/// What the sessions that are dialled out from one place share.
#[derive(Debug)]
pub struct TlsClient {
    pub(super) config: Arc<ClientConfig>,
    /// Time for a handshake.
    pub timeout: Duration,
}

impl TlsClient {
    /// Loads what a `tls` block names: its authorities to check the other side by, unless it says `insecure`, and its
    /// certificate to show if asked. `floor` is as for [`TlsServer::new`](super::TlsServer::new).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn new(tls: &TlsConfig, floor: Option<SystemTime>) -> Result<Self, TlsError> {
        let provider = Arc::new(suites::provider(&tls.cipher_suites, &tls.curve_preferences));
        let clock = Arc::new(Clock { floor });
        let verifier: Arc<dyn ServerCertVerifier> = if tls.insecure {
            Arc::new(Anyone(Arc::clone(&provider)))
        } else {
            let roots = Arc::new(files::authorities(tls.ca_file.as_deref())?);
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            builder.build().map_err(|error| {
                TlsError::Authorities(format!("cannot verify certificates: {error}"))
            })?
        };
        let chains = Chains::load(tls, &provider)?;
        let builder = ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(versions(tls.min_version))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = builder.with_client_cert_resolver(Arc::new(chains));
        // What is dialled stays open for long.
        config.resumption = Resumption::disabled();
        Ok(TlsClient {
            config: Arc::new(config),
            timeout: tls.timeout,
        })
    }
}

impl ResolvesClientCert for Chains {
    /// The first, whichever authorities the other side names: it is for that side to judge.
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.first()
    }

    fn has_certs(&self) -> bool {
        self.first().is_some()
    }
}

/// Takes any certificate, as long as the other side has the key to it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
