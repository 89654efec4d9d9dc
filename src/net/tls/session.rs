//! One TLS session on a socket that does not block, either side of it.
//!
//! Uses rustls without its own buffers. The caller's read buffer is laid out like this, and worked off in place:
//!
//! ```text
//! [ room for one record's plaintext ][ kept ciphertext ][ ciphertext just read ]
//!   plaintext grows from the front ▶   ▶ records are consumed from here
//! ```

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error};

use super::{TlsClient, TlsServer, suites};
use crate::heap;
use crate::limits;

/// Plaintext of one record, at the most.
const RECORD_BYTES: usize = 16 * 1024;
/// What a record has beside its plaintext, or a message of its own that goes before it; more than enough.
const RECORD_OVERHEAD: usize = 64;
/// Ciphertext that is written at once: four full records.
const WRITE_BYTES: usize = 4 * (RECORD_BYTES + RECORD_OVERHEAD);

/// What a read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inflow {
    /// Bytes, at the front of the buffer; none of them yet, if the wire brought only parts of a record.
    Bytes {
        /// How many.
        len: usize,
        /// The socket may have more: no event will tell.
        more: bool,
    },
    /// The peer sends no more.
    End,
}

/// Which side of the session is ours.
enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Session {
    side: Side,
    /// Ciphertext that was read and not worked off: the start of a record, or records with the start of a message.
    kept: Vec<u8>,
    /// Ciphertext for the socket, and how much of it that has taken.
    out: Vec<u8>,
    sent: usize,
    /// The peer has said that it sends no more.
    peer_is_done: bool,
    /// We have said so.
    is_done: bool,
    /// The session cannot go on.
    has_failed: bool,
}

/// What one step with rustls came to.
enum Step {
    /// It goes on, with so many bytes of plaintext more.
    Plain(usize),
    /// It needs more from the peer.
    Starved,
    /// The peer sends no more.
    Closed,
}

impl Session {
    /// Bytes that a buffer must have for [`Session::read`].
    pub const READ_BYTES_MIN: usize = 2 * RECORD_BYTES + limits::TLS_KEPT_BYTES_MAX;

    /// The server's side.
    ///
    /// # Errors
    ///
    /// If rustls refuses.
    pub fn server(config: &TlsServer) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&config.config));
        let connection = connection.map_err(io::Error::other)?;
        Ok(Session::new(Side::Server(connection)))
    }

    /// The client's side, which expects the server to be `host`, a name or an address. [`Session::start`] comes next.
    ///
    /// # Errors
    ///
    /// If `host` is no name that a certificate could have.
    pub fn client(config: &TlsClient, host: &str) -> io::Result<Self> {
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let name = ServerName::try_from(bare.unwrap_or(host).to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connection = UnbufferedClientConnection::new(Arc::clone(&config.config), name);
        let connection = connection.map_err(io::Error::other)?;
        Ok(Session::new(Side::Client(connection)))
    }

    fn new(side: Side) -> Self {
        Session {
            side,
            kept: Vec::new(),
            out: Vec::new(),
            sent: 0,
            peer_is_done: false,
            is_done: false,
            has_failed: false,
        }
    }

    /// The version agreed on, as logs and monitoring have it: `1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        self.side.state().protocol_version().map(suites::version)
    }

    /// The name of the cipher suite agreed on.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<&'static str> {
        let suite = self.side.state().negotiated_cipher_suite()?;
        Some(suites::name_of(suite.suite()))
    }

    /// The certificates that the peer has shown, its own first, each in DER; they have been verified if the
    /// configuration says so. Empty if it has shown none.
    pub fn peer_certificates(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let certificates = self.side.state().peer_certificates().unwrap_or_default();
        certificates.iter().map(|it| it.as_ref())
    }

    /// Whether it cannot carry bytes yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.side.state().is_handshaking()
    }

    /// Whether bytes that count as written wait for the socket.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Bytes that it keeps because the socket or the peer is slow.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.len() + self.out.len()
    }

    /// Sends the first message, which is the client's.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn start<S: Read + Write>(&mut self, socket: &mut S) -> io::Result<()> {
        let mut buf = vec![0; RECORD_BYTES];
        self.receive(&mut buf, RECORD_BYTES).map_err(broken)?;
        self.flush_some(socket)
    }

    /// Reads once, at most `most` bytes off the socket, and gives what they say at the front of `buf`, all of which is
    /// scratch space of [`Session::READ_BYTES_MIN`] bytes at least.
    ///
    /// # Errors
    ///
    /// Those of the socket, `WouldBlock` among them; `InvalidData` for a peer that does not keep to TLS or is not who
    /// it should be (the alert for it is on its way), `UnexpectedEof` for one that leaves during the handshake.
    pub fn read<S: Read + Write>(
        &mut self,
        socket: &mut S,
        buf: &mut [u8],
        most: usize,
    ) -> io::Result<Inflow> {
        if self.peer_is_done || self.is_done || self.has_failed {
            return Ok(Inflow::End);
        }
        let start = RECORD_BYTES + self.kept.len();
        let too_small = || io::Error::from(io::ErrorKind::InvalidInput);
        let room = buf.len().saturating_sub(start).min(most);
        if room == 0 {
            return Err(too_small());
        }
        let fresh = buf.get_mut(start..start + room).ok_or_else(too_small)?;
        let len = socket.read(fresh)?;
        if len == 0 {
            let is_early = self.is_handshaking();
            return if is_early {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(Inflow::End)
            };
        }
        let kept = buf.get_mut(RECORD_BYTES..start).ok_or_else(too_small)?;
        kept.copy_from_slice(&self.kept);
        let received = self.receive(buf, start + len);
        if let Err(error) = &received {
            self.has_failed = true;
            // Whoever does not speak TLS would take an alert for an answer.
            let is_foreign = matches!(error, Error::InvalidMessage(_));
            if is_foreign && self.side.state().protocol_version().is_none() {
                self.out = Vec::new();
            }
        }
        let flushed = self.flush_some(socket);
        let plain = received.map_err(broken)?;
        // A peer that takes nothing any more may have said something before; what waits for it will fail again.
        flushed.or_else(|error| if plain > 0 { Ok(()) } else { Err(error) })?;
        Ok(Inflow::Bytes {
            len: plain,
            more: len == room || self.peer_is_done,
        })
    }

    /// Works off the ciphertext in `buf[RECORD_BYTES..end]`. Gives how many bytes of plaintext are at the front, and keeps
    /// what is left.
    fn receive(&mut self, buf: &mut [u8], end: usize) -> Result<usize, Error> {
        let (mut plain, mut from) = (0, RECORD_BYTES);
        let full = || Error::General("a record does not fit".into());
        loop {
            let buf = buf.get_mut(..end).ok_or_else(full)?;
            let (front, rest) = buf.split_at_mut_checked(from).ok_or_else(full)?;
            let room = front.get_mut(plain..).ok_or_else(full)?;
            let (discard, step) = self.side.step(rest, room, &mut self.out);
            from += discard;
            match step {
                Ok(Step::Plain(len)) => plain += len,
                Ok(Step::Closed) => self.peer_is_done = true,
                Ok(Step::Starved) => break,
                Err(error) => {
                    // The alert that tells the peer. Nothing is read while there is something to send.
                    while self.side.state().wants_write() {
                        let (_, step) = self.side.step(&mut [], &mut [], &mut self.out);
                        step?;
                    }
                    self.kept = Vec::new();
                    return Err(error);
                }
            }
        }
        self.kept = buf.get(from..end).unwrap_or_default().to_vec();
        if self.kept.len() > limits::TLS_KEPT_BYTES_MAX {
            let max = limits::TLS_KEPT_BYTES_MAX;
            return Err(Error::General(format!(
                "a handshake message exceeds the maximum of {max} bytes"
            )));
        }
        Ok(plain)
    }

    /// Writes as much of `runs` as fits in `scratch` and gives how many bytes that is. They count as written even where
    /// the socket has not taken all of what they became.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the handshake is not done, or what was written before still waits; else those of the socket.
    pub fn write<'a, S: Read + Write>(
        &mut self,
        socket: &mut S,
        runs: impl Iterator<Item = &'a [u8]>,
        scratch: &mut Vec<u8>,
    ) -> io::Result<usize> {
        self.flush(socket)?;
        if self.has_failed || self.is_done {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.is_handshaking() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if scratch.len() < WRITE_BYTES {
            heap::resize(scratch, WRITE_BYTES);
        }
        let (mut plain, mut used) = (0, 0);
        for mut run in runs {
            while !run.is_empty() {
                let room = scratch.get_mut(used..).unwrap_or_default();
                let Some(fitting) = fitting(room.len()) else {
                    break;
                };
                let (piece, rest) = run.split_at(run.len().min(fitting));
                let len = self.side.encrypt(&mut self.kept, piece, room)?;
                used += len;
                plain += piece.len();
                run = rest;
            }
            if !run.is_empty() {
                break;
            }
        }
        let wire = scratch.get(..used).unwrap_or_default();
        let taken = match socket.write(wire) {
            Ok(taken) => taken,
            Err(error) if is_for_later(&error) => 0,
            Err(error) => return Err(error),
        };
        self.out
            .extend_from_slice(wire.get(taken..).unwrap_or_default());
        Ok(plain)
    }

    /// Writes what waits for the socket.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if some of it still does; else those of the socket.
    pub fn flush<S: Read + Write>(&mut self, socket: &mut S) -> io::Result<()> {
        while self.wants_write() {
            match socket.write(self.out.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.sent >= self.out.len() {
                self.out = Vec::new();
                self.sent = 0;
            }
        }
        Ok(())
    }

    /// The same, where it is all right for some of it to wait.
    fn flush_some<S: Read + Write>(&mut self, socket: &mut S) -> io::Result<()> {
        match self.flush(socket) {
            Err(error) if !is_for_later(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends the session: tells the peer that nothing more comes, as far as the socket takes that without waiting. After
    /// this nothing can be written or read. An error changes nothing: the socket is closed next.
    pub fn finish<S: Read + Write>(&mut self, socket: &mut S) {
        let is_open = !self.is_done && !self.has_failed;
        self.is_done = true;
        let mut alert = [0; 2 * RECORD_OVERHEAD];
        if !is_open || self.flush(socket).is_err() {
            return;
        }
        if let Ok(len) = self.side.close(&mut self.kept, &mut alert) {
            self.out
                .extend_from_slice(alert.get(..len).unwrap_or_default());
            let _ = self.flush(socket);
        }
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Client(_) => "Client",
            Side::Server(_) => "Server",
        })
    }
}

impl Side {
    fn state(&self) -> &CommonState {
        match self {
            Side::Client(connection) => connection,
            Side::Server(connection) => connection,
        }
    }

    /// One step: gives how many bytes of `rest` are done with, and what it came to. Answers to the peer go to `out`.
    fn step(
        &mut self,
        rest: &mut [u8],
        plain: &mut [u8],
        out: &mut Vec<u8>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Side::Client(connection) => carry_out(connection.process_tls_records(rest), plain, out),
            Side::Server(connection) => carry_out(connection.process_tls_records(rest), plain, out),
        }
    }

    /// Encrypts `plain` into `wire`, behind whatever has to come before it; gives the length of it all.
    fn encrypt(&mut self, kept: &mut Vec<u8>, plain: &[u8], wire: &mut [u8]) -> io::Result<usize> {
        self.send(kept, wire, Some(plain))
    }

    /// Encrypts the closing alert into `wire`.
    fn close(&mut self, kept: &mut Vec<u8>, wire: &mut [u8]) -> io::Result<usize> {
        self.send(kept, wire, None)
    }

    fn send(
        &mut self,
        kept: &mut Vec<u8>,
        wire: &mut [u8],
        plain: Option<&[u8]>,
    ) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let room = wire.get_mut(used..).unwrap_or_default();
            // What is kept goes along: the session knows how much of it it has seen.
            let (discard, sent) = match self {
                Side::Client(connection) => {
                    send_step(connection.process_tls_records(kept), room, plain)
                }
                Side::Server(connection) => {
                    send_step(connection.process_tls_records(kept), room, plain)
                }
            };
            kept.drain(..discard.min(kept.len()));
            let (len, is_done) = sent?;
            used += len;
            if is_done {
                return Ok(used);
            }
        }
    }
}

fn carry_out<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut [u8],
    out: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            let mut len = 0;
            while let Some(record) = traffic.next_record() {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => return (discard, Err(error)),
                };
                discard += record.discard;
                let room = plain.get_mut(len..len + record.payload.len());
                let Some(room) = room else {
                    let error = Error::General("a record does not fit".into());
                    return (discard, Err(error));
                };
                room.copy_from_slice(record.payload);
                len += record.payload.len();
            }
            Step::Plain(len)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let at = out.len();
            if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                heap::resize(out, at + needed.required_size);
                // It has the size that was asked for.
                let _ = data.encode(out.get_mut(at..).unwrap_or_default());
            }
            Step::Plain(0)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Plain(0)
        }
        ConnectionState::PeerClosed => Step::Closed,
        // No early data is ever offered.
        _ => Step::Starved,
    };
    (discard, Ok(step))
}

/// One step towards sending: how many bytes it wrote, and whether that was it.
fn send_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    wire: &mut [u8],
    plain: Option<&[u8]>,
) -> (usize, io::Result<(usize, bool)>) {
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (status.discard, Err(broken(error))),
    };
    let sent = match state {
        ConnectionState::WriteTraffic(mut traffic) => {
            let sent = match plain {
                Some(plain) => traffic.encrypt(plain, wire),
                None => traffic.queue_close_notify(wire),
            };
            sent.map(|len| (len, true)).map_err(io::Error::other)
        }
        ConnectionState::EncodeTlsData(mut data) => match data.encode(wire) {
            Ok(len) => Ok((len, false)),
            Err(error) => Err(io::Error::other(error)),
        },
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok((0, false))
        }
        ConnectionState::PeerClosed => Ok((0, false)),
        _ => Err(io::ErrorKind::NotConnected.into()),
    };
    (status.discard, sent)
}

/// How much plaintext is sure to fit, encrypted, in so much room; `None` if it is not worth a record.
fn fitting(room: usize) -> Option<usize> {
    let records = room / RECORD_BYTES + 1;
    let fitting = room.checked_sub(records * RECORD_OVERHEAD)?;
    (fitting > 0).then_some(fitting)
}

/// A violation of TLS, as an error of the socket.
fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn is_for_later(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::net::fixture;
    use crate::net::tls::Listening;

    /// One end of a connection: what comes and what goes, unless the peer takes nothing any more.
    #[derive(Default)]
    struct End {
        inbound: VecDeque<u8>,
        outbound: Vec<u8>,
        is_closed: bool,
    }

    impl Read for End {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.inbound.read(into)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                len => Ok(len),
            }
        }
    }

    impl Write for End {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_closed {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.outbound.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_peer_has_said_before_it_went_is_not_lost() {
        let tls = fixture::tls();
        let server = TlsServer::new(&tls, Listening::Clients, None).unwrap();
        let client = TlsClient::new(&tls, None).unwrap();
        let mut server = Session::server(&server).unwrap();
        let mut client = Session::client(&client, "localhost").unwrap();
        let (mut near, mut far) = (End::default(), End::default());
        let mut buf = vec![0; Session::READ_BYTES_MIN];
        client.start(&mut near).unwrap();
        far.inbound.extend(near.outbound.drain(..));
        server.read(&mut far, &mut buf, usize::MAX).unwrap();
        near.inbound.extend(far.outbound.drain(..));
        client.read(&mut near, &mut buf, usize::MAX).unwrap();
        let runs = std::iter::once(&b"last words"[..]);
        client.write(&mut near, runs, &mut Vec::new()).unwrap();
        // The end of the handshake comes with them, and is answered by a ticket, which cannot be sent.
        far.inbound.extend(near.outbound.drain(..));
        far.is_closed = true;
        let read = server.read(&mut far, &mut buf, usize::MAX).unwrap();
        assert!(matches!(read, Inflow::Bytes { len: 10, .. }), "{read:?}");
        assert_eq!(&buf[..10], b"last words");
        assert!(server.wants_write() && server.flush(&mut far).is_err());
    }
}
