//! TLS for raw connections: what a client of these tests trusts and shows.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::DEADLINE;

/// TLS 1.2 alone.
pub(crate) static TLS12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
/// TLS 1.3 alone.
pub(crate) static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// A client's side of TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    authority: &'static str,
    certificate: Option<&'static str>,
    versions: &'static [&'static SupportedProtocolVersion],
    host: &'static str,
}

impl Tls {
    /// A client that trusts `certs/ca.pem`, shows no certificate, and knows the server as `localhost`.
    pub(crate) fn new() -> Tls {
        Tls {
            authority: "ca",
            certificate: None,
            versions: rustls::ALL_VERSIONS,
            host: "localhost",
        }
    }

    /// That trusts another file of `certs/`.
    pub(crate) fn trusting(mut self, authority: &'static str) -> Tls {
        self.authority = authority;
        self
    }

    /// That shows this certificate of `certs/`.
    pub(crate) fn showing(mut self, certificate: &'static str) -> Tls {
        self.certificate = Some(certificate);
        self
    }

    /// That speaks these versions alone.
    pub(crate) fn speaking(
        mut self,
        versions: &'static [&'static SupportedProtocolVersion],
    ) -> Tls {
        self.versions = versions;
        self
    }

    /// That knows the server by another name.
    pub(crate) fn calling(mut self, host: &'static str) -> Tls {
        self.host = host;
        self
    }

    /// What its sessions have in common.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&format!("certs/{}.pem", self.authority)));
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(self.versions)
            .expect("the versions go with the provider")
            .with_root_certificates(roots);
        match self.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => builder
                .with_client_auth_cert(
                    certificates(&format!("certs/{name}-cert.pem")),
                    key(&format!("certs/{name}-key.pem")),
                )
                .expect("the key is that of the certificate"),
        }
    }

    /// A session whose handshake is to be made.
    pub(crate) fn session(&self) -> ClientConnection {
        let name = ServerName::try_from(self.host).expect("a host's name");
        ClientConnection::new(Arc::new(self.config()), name).expect("a client's configuration")
    }

    /// Makes the handshake on `stream`.
    pub(crate) fn connect(&self, mut stream: &TcpStream) -> io::Result<ClientConnection> {
        let mut session = self.session();
        stream.set_read_timeout(Some(DEADLINE))?;
        let start = Instant::now();
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
            assert!(start.elapsed() < DEADLINE, "the handshake does not end");
        }
        Ok(session)
    }
}

fn certificates(path: &str) -> Vec<CertificateDer<'static>> {
    let text = std::fs::read(Path::new(path)).expect(path);
    let mut text = text.as_slice();
    let found = rustls_pemfile::certs(&mut text);
    found.collect::<Result<_, _>>().expect(path)
}

fn key(path: &str) -> PrivateKeyDer<'static> {
    let text = std::fs::read(Path::new(path)).expect(path);
    let key = rustls_pemfile::private_key(&mut text.as_slice());
    key.expect(path).expect(path)
}
