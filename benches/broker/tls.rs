//! A client's side of TLS.
//!
//! ```text
//! INFO in clear ─▶ handshake ─▶ records, each way
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::wire::Wire;

/// What makes a server speak TLS, with the certificate of the tests.
pub(crate) const SERVER_ARGS: &[&str] = &[
    "--tls",
    "--tlscert",
    concat!(env!("CARGO_MANIFEST_DIR"), "/certs/server-cert.pem"),
    "--tlskey",
    concat!(env!("CARGO_MANIFEST_DIR"), "/certs/server-key.pem"),
];

/// TLS 1.3 over TCP.
pub(crate) struct Tls {
    socket: TcpStream,
    session: ClientConnection,
    /// What came in clear and was not read yet.
    greeting: Vec<u8>,
}

impl Tls {
    /// Takes the server's INFO, which is in clear, and starts a session on a socket in blocking mode. The handshake is
    /// done by the first reads and writes.
    pub(crate) fn connect(mut socket: TcpStream) -> io::Result<Self> {
        let mut greeting = Vec::new();
        // A byte at a time: nothing behind the line is ours.
        while !greeting.ends_with(b"\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            greeting.extend_from_slice(&byte);
        }
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::new(config()?), name).map_err(io::Error::other)?;
        Ok(Self {
            socket,
            session,
            greeting,
        })
    }

    /// Writes the records that wait.
    fn write_records(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

fn config() -> io::Result<ClientConfig> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/ca.pem");
    let pem = std::fs::read(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
        roots.add(certificate?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl Wire for Tls {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    fn is_drained(&self, _: usize, _: usize) -> bool {
        false
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.greeting.is_empty() {
            let count = self.greeting.as_slice().read(buffer)?;
            self.greeting.drain(..count);
            return Ok(count);
        }
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            self.session
                .process_new_packets()
                .map_err(io::Error::other)?;
            self.flush()?;
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_records()?;
        let count = self.session.writer().write(bytes)?;
        self.flush()?;
        Ok(count)
    }

    /// What the socket does not take stays for the next time.
    fn flush(&mut self) -> io::Result<()> {
        match self.write_records() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            outcome => outcome,
        }
    }
}
