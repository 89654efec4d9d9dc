//! A socket, and the TLS session on it if there is one: plain bytes on one side, wire bytes on the other.
//!
//! ```text
//! read:   socket ──wire──▶ [caller's buffer] ──records decrypted──▶ front of the same buffer
//! write:  caller's runs of bytes ──records encrypted──▶ [caller's scratch] ──wire──▶ socket
//! ```
//!
//! Both buffers are the caller's, one for all its connections: an idle session owns none. What a socket does not take
//! of a record, and the start of a record whose rest has not come, is all that a session keeps.
//!
//! How to use it, on any poll loop:
//!
//! - A transport starts [`plain`](Transport::plain). To upgrade it call [`accept`](Transport::accept) or
//!   [`connect`](Transport::connect): at once where TLS comes first, or after what is said in clear was written.
//! - While [`is_handshaking`](Transport::is_handshaking), call [`read`](Transport::read) when the socket is readable
//!   (it answers the peer by itself, and gives no bytes) and [`flush`](Transport::flush) when it is writable.
//!   Nothing can be written yet: keep it until `read` has made `is_handshaking` false, and write it then. A handshake
//!   costs up to milliseconds: do few of them a turn. Its time limit is the caller's to keep.
//! - Then `read` and [`write`](Transport::write) are as those of a socket, with edge-triggered events. While
//!   [`wants_write`](Transport::wants_write), bytes that count as written wait for the socket.
//! - What another server sends and gets may be compressed besides, below that and above TLS:
//!   [`compress`](Transport::compress) says from where on.
//! - [`finish`](Transport::finish) ends what we send: after `close_notify`, if there is a session. What the peer sends on
//!   can be [drained](Transport::drain).

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

mod compressed;

pub(super) use super::tls::Inflow;
use super::tls::{Session, TlsClient, TlsServer};
use crate::s2::Level;
use compressed::Compressed;
pub(super) use compressed::Workbench;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Transport {
    socket: TcpStream,
    /// Boxed: a plain connection pays one pointer for it.
    tls: Option<Box<Session>>,
    /// The same.
    compressed: Option<Box<Compressed>>,
}

/// Where a worker puts what it encrypts and compresses, for the moment until it is written.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    records: Vec<u8>,
    bench: Workbench,
}

impl Scratch {
    /// Frees what is kept for next time.
    pub(super) fn trim(&mut self) {
        self.records = Vec::new();
        self.bench.trim();
    }
}

impl Transport {
    /// Bytes that a buffer must have for [`Transport::read`] on a session.
    pub(super) const READ_BYTES_MIN: usize = Session::READ_BYTES_MIN;

    /// A transport without TLS.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Transport {
            socket,
            tls: None,
            compressed: None,
        }
    }

    /// The socket, to be registered and asked. Reading from it or writing to it would break a session.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Goes on as a TLS server. To find out whether the peer wants that, [`peek`](TcpStream::peek): what is read in clear
    /// is not part of the handshake.
    ///
    /// # Errors
    ///
    /// If the session cannot be made.
    pub(super) fn accept(&mut self, config: &TlsServer) -> io::Result<()> {
        self.tls = Some(Box::new(Session::server(config)?));
        Ok(())
    }

    /// Goes on as a TLS client that expects the server to be `host`, a name or an address, and writes its first message.
    ///
    /// # Errors
    ///
    /// If `host` is no name that a certificate could have; if the socket fails.
    pub(super) fn connect(&mut self, config: &TlsClient, host: &str) -> io::Result<()> {
        let mut session = Box::new(Session::client(config, host)?);
        session.start(&mut &self.socket)?;
        self.tls = Some(session);
        Ok(())
    }

    /// Compresses what is written after the next `queued` bytes; what is read is undone, beginning with `read`, which was
    /// read already.
    pub(super) fn compress(&mut self, level: Level, queued: usize, read: &[u8]) {
        let mut compressed = Box::new(Compressed::new(level, queued));
        compressed.push(read);
        self.compressed = Some(compressed);
    }

    /// Compresses like this from now on, if it compresses.
    pub(super) fn set_level(&mut self, level: Level) {
        if let Some(compressed) = &mut self.compressed {
            compressed.set_level(level);
        }
    }

    /// Frees what is kept for the next chunk; false if nothing is compressed here.
    pub(super) fn trim(&mut self) -> bool {
        let compressed = self.compressed.as_mut();
        compressed.map(|it| it.trim()).is_some()
    }

    /// The TLS session, to be asked what was agreed on.
    pub(super) fn session(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    /// Whether there is a session that cannot carry bytes yet.
    #[inline]
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether bytes that count as written wait for the socket.
    #[inline]
    pub(super) fn wants_write(&self) -> bool {
        let compressed = self.compressed.as_ref();
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
            || compressed.is_some_and(|it| it.wants_write())
    }

    /// Memory beside the transport itself: what a session and compression keep because the socket or the peer is slow.
    pub(super) fn kept_bytes(&self) -> usize {
        let compressed = self.compressed.as_ref().map_or(0, |it| it.kept_bytes());
        compressed + self.tls.as_ref().map_or(0, |tls| tls.kept_bytes())
    }

    /// Reads once, at most `most` bytes off the socket, and gives what they say at the front of `buf`.
    ///
    /// With a session, `buf` has at least [`Transport::READ_BYTES_MIN`] bytes and is scratch space as a whole.
    ///
    /// # Errors
    ///
    /// Those of the socket, `WouldBlock` among them; `InvalidData` for a peer that does not keep to TLS or is not who
    /// it should be (the alert for it is on its way), or to compression, and then an [`S2Error`](crate::s2::S2Error) is in
    /// it; `UnexpectedEof` for one that leaves during the handshake.
    pub(super) fn read(&mut self, buf: &mut [u8], most: usize) -> io::Result<Inflow> {
        if self.compressed.is_some() {
            return self.read_compressed(buf, most);
        }
        self.read_wire(buf, most)
    }

    /// As [`Transport::read`]: reads when there is nothing else to give, and at most `most` bytes of what that says.
    fn read_compressed(&mut self, buf: &mut [u8], most: usize) -> io::Result<Inflow> {
        let mut may_have_more = true;
        if self.compressed.as_ref().is_none_or(|it| it.is_starved()) {
            match self.read_wire(buf, most)? {
                Inflow::End => return Ok(Inflow::End),
                Inflow::Bytes { len, more } => {
                    may_have_more = more;
                    if let Some(compressed) = &mut self.compressed {
                        compressed.push(buf.get(..len).unwrap_or_default());
                    }
                }
            }
        }
        let Some(compressed) = &mut self.compressed else {
            return Ok(Inflow::End);
        };
        let room = buf.len().min(most);
        let len = compressed.take(buf.get_mut(..room).unwrap_or_default())?;
        Ok(Inflow::Bytes {
            len,
            more: may_have_more || !compressed.is_starved(),
        })
    }

    /// As [`Transport::read`], of what is compressed if anything is.
    fn read_wire(&mut self, buf: &mut [u8], most: usize) -> io::Result<Inflow> {
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut &self.socket, buf, most);
        }
        let room = buf.len().min(most);
        match (&self.socket).read(buf.get_mut(..room).unwrap_or_default())? {
            0 => Ok(Inflow::End),
            len => Ok(Inflow::Bytes {
                len,
                more: len == room,
            }),
        }
    }

    /// Appends to `into` until it has `len` bytes more, or the socket has no more: with a session it may be a record
    /// beyond that. `buf` is as for [`Transport::read`].
    ///
    /// # Errors
    ///
    /// As [`Transport::read`]; what came before is in `into`.
    pub(super) fn read_long(
        &mut self,
        into: &mut Vec<u8>,
        len: usize,
        buf: &mut [u8],
    ) -> io::Result<Inflow> {
        let before = into.len();
        if self.plain_socket().is_some() {
            (&self.socket).take(len as u64).read_to_end(into)?;
        }
        while into.len() - before < len {
            match self.read(buf, usize::MAX)? {
                Inflow::End => return Ok(Inflow::End),
                Inflow::Bytes { len, .. } => {
                    into.extend_from_slice(buf.get(..len).unwrap_or_default());
                }
            }
        }
        let len = into.len() - before;
        Ok(Inflow::Bytes { len, more: true })
    }

    /// The socket to write to, several runs at once, if what is written need not be encrypted or compressed first.
    #[inline]
    pub(super) fn plain_socket(&self) -> Option<&TcpStream> {
        if self.tls.is_none() && self.compressed.is_none() {
            Some(&self.socket)
        } else {
            None
        }
    }

    /// Writes as much of `runs` as fits in `scratch` and gives how many bytes that is. They count as written even where
    /// the socket has not taken all of what they became.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the handshake is not done, or what was written before still waits; else those of the socket.
    pub(super) fn write<'a>(
        &mut self,
        runs: impl Iterator<Item = &'a [u8]>,
        scratch: &mut Scratch,
    ) -> io::Result<usize> {
        let Scratch { records, bench } = scratch;
        let (mut socket, tls) = (&self.socket, &mut self.tls);
        match (&mut self.compressed, tls) {
            (Some(compressed), tls) => compressed.write(runs, bench, |wire| match tls {
                Some(tls) => tls.write(&mut socket, std::iter::once(wire), records),
                None => socket.write(wire),
            }),
            (None, Some(tls)) => tls.write(&mut socket, runs, records),
            (None, None) => {
                let mut runs = runs.filter(|run| !run.is_empty());
                socket.write(runs.next().unwrap_or_default())
            }
        }
    }

    /// Writes what waits for the socket.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if some of it still does; else those of the socket.
    pub(super) fn flush(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        if let Some(compressed) = &mut self.compressed {
            let (mut socket, tls) = (&self.socket, &mut self.tls);
            compressed.flush(|wire| match tls {
                Some(tls) => tls.write(&mut socket, std::iter::once(wire), &mut scratch.records),
                None => socket.write(wire),
            })?;
        }
        match &mut self.tls {
            Some(tls) => tls.flush(&mut &self.socket),
            None => Ok(()),
        }
    }

    /// Says that nothing more will be sent, as far as the socket takes it without waiting.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.finish(&mut &self.socket);
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// Reads to throw away: false if the peer is done.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(super) fn drain(&mut self) -> io::Result<bool> {
        let mut scrap = [0; 4096];
        Ok((&self.socket).read(&mut scrap)? > 0)
    }
}

#[cfg(test)]
mod tests;
