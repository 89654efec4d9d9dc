//! TLS between a client and its connection: sessions of the real code, with a wire that is cut anywhere.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use midge::config::options::{CertFiles, TlsConfig};
use midge::net::tls::{Inflow, Listening, Session, TlsClient, TlsServer};

/// What all tunnels have in common.
pub(crate) struct Contexts {
    server: TlsServer,
    client: TlsClient,
}

impl Contexts {
    pub(crate) fn new() -> Self {
        let config = TlsConfig {
            certs: vec![CertFiles {
                cert_file: "certs/server-cert.pem".into(),
                key_file: "certs/server-key.pem".into(),
            }],
            ca_file: Some("certs/ca.pem".into()),
            ..TlsConfig::default()
        };
        Contexts {
            server: TlsServer::new(&config, Listening::Clients, None).expect("our certificates"),
            client: TlsClient::new(&config, None).expect("our authority"),
        }
    }
}

/// Two sessions, and what is on its way between them.
pub(crate) struct Tunnel {
    client: End,
    server: End,
    scratch: Vec<u8>,
    buffer: Vec<u8>,
}

struct End {
    session: Session,
    wire: Wire,
}

/// One end's socket: what arrives there, and what leaves.
#[derive(Default)]
struct Wire {
    arrived: VecDeque<u8>,
    left: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.arrived.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.arrived.read(buf)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // Never all of it at once, if it is long.
        let len = buf.len().min(1009);
        self.left
            .extend_from_slice(buf.get(..len).unwrap_or_default());
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl End {
    fn new(session: Session) -> Self {
        let wire = Wire::default();
        End { session, wire }
    }

    /// Reads all that has arrived.
    fn read(&mut self, buffer: &mut [u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        loop {
            match self.session.read(&mut self.wire, buffer, 777) {
                Ok(Inflow::Bytes { len, .. }) => plain.extend_from_slice(&buffer[..len]),
                Ok(Inflow::End) => panic!("the session has ended"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return plain,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn write(&mut self, plain: &[u8], scratch: &mut Vec<u8>) {
        let mut rest = plain;
        while !rest.is_empty() {
            let runs = rest.chunks(31);
            let len = self
                .session
                .write(&mut self.wire, runs, scratch)
                .expect("it is open");
            rest = rest.get(len..).unwrap_or_default();
        }
        self.session
            .flush(&mut self.wire)
            .expect("the wire takes all");
    }
}

impl Tunnel {
    /// A tunnel whose handshake is made.
    pub(crate) fn new(contexts: &Contexts) -> Self {
        let client = Session::client(&contexts.client, "localhost").expect("a host's name");
        let server = Session::server(&contexts.server).expect("a session");
        let mut tunnel = Tunnel {
            client: End::new(client),
            server: End::new(server),
            scratch: Vec::new(),
            buffer: vec![0; Session::READ_BYTES_MIN],
        };
        let Tunnel {
            client,
            server,
            buffer,
            ..
        } = &mut tunnel;
        client
            .session
            .start(&mut client.wire)
            .expect("the wire takes it");
        while client.session.is_handshaking() || server.session.is_handshaking() {
            server.wire.arrived.extend(client.wire.left.drain(..));
            server.read(buffer);
            client.wire.arrived.extend(server.wire.left.drain(..));
            client.read(buffer);
        }
        tunnel
    }

    /// The client writes.
    pub(crate) fn write(&mut self, plain: &[u8]) {
        self.client.write(plain, &mut self.scratch);
    }

    /// Bytes of the client's that are on their way.
    pub(crate) fn on_the_way(&self) -> usize {
        self.client.wire.left.len()
    }

    /// So many of them arrive: what they say.
    pub(crate) fn arrive(&mut self, len: usize) -> Vec<u8> {
        let len = len.min(self.on_the_way());
        self.server
            .wire
            .arrived
            .extend(self.client.wire.left.drain(..len));
        self.server.read(&mut self.buffer)
    }

    /// What arrives at the client of what it is sent.
    pub(crate) fn send(&mut self, plain: &[u8]) -> Vec<u8> {
        self.server.write(plain, &mut self.scratch);
        self.client
            .wire
            .arrived
            .extend(self.server.wire.left.drain(..));
        self.client.read(&mut self.buffer)
    }
}
