//! A TLS session on a socket that blocks, for a program that has nothing else to do.

use std::io::{self, Read, Write};

use super::{Inflow, Session, TlsClient, describe_failure};

/// The client's side of a session whose handshake is done. Dropping it ends it without a word to the server.
#[derive(Debug)]
pub struct Blocking<S> {
    session: Session,
    socket: S,
    /// Scratch space; what was decrypted is at its front.
    buffer: Vec<u8>,
    /// Where in `buffer` the bytes are that were not taken.
    ready: std::ops::Range<usize>,
    scratch: Vec<u8>,
}

impl<S: Read + Write> Blocking<S> {
    /// Makes the handshake with a server that is to be `host`, a name or an address.
    ///
    /// # Errors
    ///
    /// If `host` is no name that a certificate could have; if the server is not who it should be, with a text that
    /// says why; those of the socket.
    pub fn connect(mut socket: S, config: &TlsClient, host: &str) -> io::Result<Self> {
        let mut session = Session::client(config, host)?;
        session.start(&mut socket)?;
        let mut stream = Blocking {
            session,
            socket,
            buffer: vec![0; Session::READ_BYTES_MIN],
            ready: 0..0,
            scratch: Vec::new(),
        };
        while stream.session.is_handshaking() {
            let filled = stream.fill();
            filled.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => io::Error::other(
                    format!("TLS handshake error: {}", describe_failure(&error).0),
                ),
                _ => error,
            })?;
        }
        Ok(stream)
    }

    /// Reads once; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let Blocking {
            session,
            socket,
            buffer,
            ..
        } = self;
        match session.read(socket, buffer, usize::MAX)? {
            Inflow::End => Ok(false),
            Inflow::Bytes { len, .. } => {
                self.ready = 0..len;
                Ok(true)
            }
        }
    }
}

impl<S: Read + Write> Read for Blocking<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let waiting = self.buffer.get(self.ready.clone()).unwrap_or_default();
        let len = waiting.len().min(into.len());
        for (to, from) in into.iter_mut().zip(waiting) {
            *to = *from;
        }
        self.ready.start += len;
        Ok(len)
    }
}

impl<S: Read + Write> Write for Blocking<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let runs = std::iter::once(bytes);
        self.session
            .write(&mut self.socket, runs, &mut self.scratch)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.flush(&mut self.socket)?;
        self.socket.flush()
    }
}
