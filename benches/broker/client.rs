//! A connection past its handshake.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use memchr::memmem;

use crate::Outcome;
use crate::process::Server;
use crate::wire::{self, Wire};

/// A client whose CONNECT and first commands the server has confirmed with a PONG.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    /// What was read past what [`Client::receive`] waited for.
    unread: Vec<u8>,
}

impl Client {
    /// Connects, sends `commands` (SUB lines) and waits until they are in force.
    pub(crate) fn connect(server: &Server, commands: &[u8]) -> Outcome<Self> {
        let wire = server.dial()?;
        let mut client = Self {
            wire,
            unread: Vec::new(),
        };
        wire::set_read_timeout(client.wire.as_mut(), ANSWER_TIMEOUT)?;
        client.receive_until(b"\r\n", "INFO")?;
        client.wire.write_all(CONNECT)?;
        client.wire.write_all(commands)?;
        client.flush()?;
        // Once more, because a server may send a second INFO behind the first PONG: past here, all bytes are messages.
        client.flush()?;
        Ok(client)
    }

    /// Writes bytes encoded by the caller.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.wire.write_all(bytes)?)
    }

    /// Waits until the server has processed everything sent before.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        self.wire.write_all(b"PING\r\n")?;
        self.receive_until(b"PONG\r\n", "PONG")
    }

    /// Waits for `count` bytes, not counting PINGs of the server, which come when they like.
    pub(crate) fn receive(&mut self, count: usize) -> Outcome<()> {
        while self.unread.len() - pings(&self.unread) * PING.len() < count {
            self.read_more("a message")?;
        }
        self.unread.clear();
        Ok(())
    }

    /// Whether a message has come, or comes within `patience`.
    pub(crate) fn has_received(&mut self, patience: Duration) -> Outcome<bool> {
        wire::set_read_timeout(self.wire.as_mut(), patience)?;
        let mut first = [0; 1024];
        let result = self.wire.read(&mut first);
        wire::set_read_timeout(self.wire.as_mut(), ANSWER_TIMEOUT)?;
        match result {
            Ok(0) => Err("the server closed the connection before a message".into()),
            Ok(count) => Ok(count > pings(first.get(..count).unwrap_or_default()) * PING.len()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The stream itself, for a poll loop.
    pub(crate) fn into_wire(self) -> Outcome<Box<dyn Wire>> {
        let mut wire = self.wire;
        wire::set_nonblocking(wire.as_mut(), true)?;
        Ok(wire)
    }

    fn receive_until(&mut self, end: &[u8], awaited: &str) -> Outcome<()> {
        loop {
            if let Some(at) = memmem::find(&self.unread, b"-ERR") {
                let text = String::from_utf8_lossy(self.unread.get(at..).unwrap_or_default());
                return Err(format!("the server answered {}", text.trim_end()).into());
            }
            if let Some(at) = memmem::find(&self.unread, end) {
                self.unread.drain(..at + end.len());
                return Ok(());
            }
            self.read_more(awaited)?;
        }
    }

    fn read_more(&mut self, awaited: &str) -> Outcome<()> {
        let mut buffer = [0; 4096];
        match self.wire.read(&mut buffer) {
            Ok(0) => Err(format!("the server closed the connection before {awaited}").into()),
            Ok(count) => {
                self.unread
                    .extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(format!("waiting for {awaited}: {error}").into()),
        }
    }
}

/// How many PINGs `bytes` holds. No payload of ours contains that text.
pub(crate) fn pings(bytes: &[u8]) -> usize {
    memmem::find_iter(bytes, PING).count()
}

/// The server's PING, which may come between any two messages.
pub(crate) const PING: &[u8] = b"PING\r\n";

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"bench\",\
    \"lang\":\"rust\",\"version\":\"0.1.0\",\"protocol\":1,\"echo\":true,\"headers\":true,\"no_responders\":true}\r\n";
/// Behind a crowd of password checks, the reference server takes its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
