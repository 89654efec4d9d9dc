//! TLS sessions of both sides, back to back on a wire that delivers what it likes and can be tampered with.
//!
//! The input is a list of steps, two bytes each and for some of them bytes of their own:
//!
//! ```text
//! 0 n bytes: put on the wire to the server     4 n: the client writes n runs
//! 1 n bytes: put on the wire to the client     5 n: the server writes n runs
//! 2 n: n × 16 bytes arrive at the server       6 n: the wire takes n bytes at a time from now on
//! 3 n: n × 16 bytes arrive at the client       7 -: the client says that it is done
//! ```
//!
//! Whatever comes, a session keeps no more than it may, and says nothing that was not written at the other end. Untampered
//! with, all that was written arrives.

#![no_main]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use midge::config::options::{CertFiles, TlsConfig, TlsVersion};
use midge::limits;
use midge::net::tls::{Inflow, Listening, Session, TlsClient, TlsServer};

/// Bytes of a record, with what belongs to it.
const RECORD_BYTES_MAX: usize = 17 * 1024;

#[derive(Default)]
struct Wire {
    arrived: VecDeque<u8>,
    left: VecDeque<u8>,
    write_max: usize,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.arrived.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.arrived.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.write_max == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = buf.len().min(self.write_max);
        self.left.extend(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct End {
    session: Session,
    wire: Wire,
    written: usize,
    read: usize,
    failed: bool,
    ended: bool,
}

impl End {
    fn new(session: Session) -> Self {
        let wire = Wire {
            write_max: 4096,
            ..Wire::default()
        };
        End {
            session,
            wire,
            written: 0,
            read: 0,
            failed: false,
            ended: false,
        }
    }

    /// Reads what has arrived; what it says must be what [`pattern`] says.
    fn read(&mut self, buffer: &mut [u8]) {
        while !self.failed && !self.ended && !self.wire.arrived.is_empty() {
            match self.session.read(&mut self.wire, buffer, 4096) {
                Ok(Inflow::Bytes { len, .. }) => {
                    for &byte in &buffer[..len] {
                        assert_eq!(byte, pattern(self.read), "byte {}", self.read);
                        self.read += 1;
                    }
                }
                Ok(Inflow::End) => self.ended = true,
                Err(error) => self.failed |= error.kind() != io::ErrorKind::WouldBlock,
            }
            let kept = self.session.kept_bytes();
            let most = limits::TLS_KEPT_BYTES_MAX + 8 * RECORD_BYTES_MAX;
            assert!(kept <= most, "{kept} bytes are kept");
        }
    }

    fn write(&mut self, runs: usize, scratch: &mut Vec<u8>) {
        let start = self.written;
        let bytes: Vec<u8> = (start..start + runs * 300).map(pattern).collect();
        if let Ok(len) = self
            .session
            .write(&mut self.wire, bytes.chunks(300), scratch)
        {
            self.written += len;
        }
    }
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

fn contexts(version: TlsVersion) -> (TlsServer, TlsClient) {
    let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../certs");
    let config = TlsConfig {
        certs: vec![CertFiles {
            cert_file: certs.join("server-cert.pem"),
            key_file: certs.join("server-key.pem"),
        }],
        ca_file: Some(certs.join("ca.pem")),
        min_version: version,
        ..TlsConfig::default()
    };
    let server = TlsServer::new(&config, Listening::Clients, None).expect("our certificates");
    (
        server,
        TlsClient::new(&config, None).expect("our authority"),
    )
}

fuzz_target!(|input: &[u8]| {
    static CONTEXTS: OnceLock<(TlsServer, TlsClient)> = OnceLock::new();
    let (server, client) = CONTEXTS.get_or_init(|| contexts(TlsVersion::V1_2));
    let mut server = End::new(Session::server(server).expect("a session"));
    let mut client = End::new(Session::client(client, "localhost").expect("a host's name"));
    let (mut buffer, mut scratch) = (vec![0; Session::READ_BYTES_MIN], Vec::new());
    client
        .session
        .start(&mut client.wire)
        .expect("the wire takes it");
    let mut is_intact = true;
    let mut rest = input;
    while let [step, count, after @ ..] = rest {
        rest = after;
        let count = usize::from(*count);
        match step % 8 {
            step @ (0 | 1) => {
                let (foreign, after) = rest.split_at(count.min(rest.len()));
                rest = after;
                is_intact &= foreign.is_empty();
                let end = if step == 0 { &mut server } else { &mut client };
                end.wire.arrived.extend(foreign);
                end.read(&mut buffer);
            }
            2 => {
                let len = (count * 16).min(client.wire.left.len());
                server.wire.arrived.extend(client.wire.left.drain(..len));
                server.read(&mut buffer);
            }
            3 => {
                let len = (count * 16).min(server.wire.left.len());
                client.wire.arrived.extend(server.wire.left.drain(..len));
                client.read(&mut buffer);
            }
            4 => client.write(count, &mut scratch),
            5 => server.write(count, &mut scratch),
            6 => {
                client.wire.write_max = count;
                server.wire.write_max = count;
            }
            _ => client.session.finish(&mut client.wire),
        }
    }
    if !is_intact {
        return;
    }
    assert!(
        !server.failed && !client.failed,
        "it failed untampered with"
    );
    client.wire.write_max = 4096;
    server.wire.write_max = 4096;
    for _ in 0..4 {
        let _ = client.session.flush(&mut client.wire);
        server.wire.arrived.extend(client.wire.left.drain(..));
        server.read(&mut buffer);
        let _ = server.session.flush(&mut server.wire);
        client.wire.arrived.extend(server.wire.left.drain(..));
        client.read(&mut buffer);
    }
    if !client.ended {
        assert_eq!(client.read, server.written, "the client misses something");
    }
    assert_eq!(server.read, client.written, "the server misses something");
});
