//! One connection to the monitoring port.
//!
//! It reads a request, waits for the page, writes it, and only then looks at the next request: what it can make the
//! server hold is one head and one page.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

use mio::{Interest, Registry, Token};

use super::listener::{READ_BYTES, Stream};
use crate::heap;
use crate::limits;
use crate::monitor::http::{self, Head, Response};
use crate::net::tls::TlsServer;
use crate::net::transport::Inflow;

/// What begins a handshake: the type of the first record.
const HANDSHAKE_RECORD: u8 = 0x16;
/// What is said, in clear, to whoever sends a request where TLS is spoken.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// What TLS is to be spoken with, until the first byte has come.
    tls: Option<Arc<TlsServer>>,
    handshake: Handshake,
    serial: u64,
    /// Bytes that were read and are no whole head yet.
    input: Vec<u8>,
    /// Bytes of a request's body that are still to come, and mean nothing.
    skip: u64,
    output: Vec<u8>,
    /// Bytes of `output` that are written.
    sent: usize,
    /// The request whose page is being made.
    waiting: Option<Box<Head>>,
    /// It ends once its output is written.
    closes: bool,
    /// Our side is closed, and what is left is to wait for the peer's.
    lingers: bool,
    readable: bool,
    writable: bool,
    /// The peer has closed its side: a short read is not the last one.
    is_ending: bool,
    hung_up: bool,
    failed: bool,
    /// When it is too late for what it waits for.
    deadline: Option<Instant>,
    /// Since when it has been as it is.
    since: Instant,
}

/// How far its TLS handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// There is none, or it has been counted.
    Over,
    UnderWay,
    /// What came was none.
    Failed,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing before the next event.
    Waiting,
    /// The end.
    Over,
    /// A request.
    Request(Box<Head>),
    /// Something that is none: say so, and end.
    Bad(Response),
    /// There is more, and others have waited long enough.
    More,
}

/// Reads, and requests that are found, before it is somebody else's turn: whoever sends as fast as it is read from would
/// have the control thread for itself.
pub(super) const STEPS: usize = 32;

impl Connection {
    pub(super) fn new(
        stream: Stream,
        tls: Option<Arc<TlsServer>>,
        serial: u64,
        now: Instant,
    ) -> Self {
        Connection {
            stream,
            tls,
            handshake: Handshake::Over,
            serial,
            input: Vec::new(),
            skip: 0,
            output: Vec::new(),
            sent: 0,
            waiting: None,
            closes: false,
            lingers: false,
            readable: false,
            writable: true,
            is_ending: false,
            hung_up: false,
            failed: false,
            deadline: Some(now + limits::MONITOR_HEAD_TIME),
            since: now,
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(self.stream.source(), token, interest)
    }

    /// Tells it from earlier ones in its slot.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// When it will have been too slow.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Since when it has been as it is.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether nothing is owed to it.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.pending() == 0
    }

    /// Bytes that are not written.
    pub(super) fn pending(&self) -> usize {
        self.output.len() - self.sent + usize::from(self.stream.wants_write())
    }

    /// Whether it can be served without waiting for an event.
    pub(super) fn has_more(&self) -> bool {
        let has_input = self.readable || !self.input.is_empty();
        self.failed || (self.is_idle() && (self.closes || has_input))
    }

    /// Whether a handshake has succeeded or failed; each is told of once. `is_over`: nothing more will come.
    pub(super) fn take_handshake(&mut self, is_over: bool) -> Option<bool> {
        let is_done = match self.handshake {
            Handshake::Over => return None,
            Handshake::UnderWay if !self.stream.is_handshaking() => true,
            Handshake::UnderWay if !is_over => return None,
            Handshake::UnderWay | Handshake::Failed => false,
        };
        self.handshake = Handshake::Over;
        Some(is_done)
    }

    /// The socket has something to read, takes something, or is `closed` by the peer.
    pub(super) fn on_event(&mut self, readable: bool, writable: bool, closed: bool) {
        self.readable |= readable || closed;
        self.writable |= writable;
        self.is_ending |= closed;
    }

    /// The page is being made.
    pub(super) fn wait(&mut self, head: Head) {
        self.deadline = None;
        self.waiting = Some(Box::new(head));
    }

    /// The page is there.
    pub(super) fn stop_waiting(&mut self) -> Option<Box<Head>> {
        self.waiting.take()
    }

    /// Writes, reads, and finds the next request, in so many `steps` at the most, of which it leaves what it does not need.
    pub(super) fn advance(
        &mut self,
        buffer: &mut Vec<u8>,
        steps: &mut usize,
        now: Instant,
    ) -> Progress {
        self.flush(now);
        loop {
            if self.failed {
                return Progress::Over;
            }
            if *steps == 0 {
                self.await_head(now);
                return Progress::More;
            }
            *steps -= 1;
            if self.lingers {
                if self.drain() {
                    continue;
                }
                return if self.hung_up || self.failed {
                    Progress::Over
                } else {
                    Progress::Waiting
                };
            }
            if self.waiting.is_some() || self.pending() > 0 {
                return Progress::Waiting;
            }
            if self.closes {
                self.linger(now);
                continue;
            }
            self.skip_body();
            if self.skip == 0 && !self.input.is_empty() {
                match http::parse(&self.input) {
                    Ok(Some((len, head))) => {
                        self.input.drain(..len);
                        self.skip = head.body.unwrap_or(0);
                        return Progress::Request(Box::new(head));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.input = Vec::new();
                        return Progress::Bad(error.response());
                    }
                }
            }
            if !self.read(buffer) {
                if self.hung_up || self.failed {
                    return Progress::Over;
                }
                self.await_head(now);
                return Progress::Waiting;
            }
        }
    }

    /// A head that has begun must be there soon; until then there is no hurry.
    fn await_head(&mut self, now: Instant) {
        let is_handshaking = self.stream.is_handshaking();
        let has_begun = is_handshaking || !self.input.is_empty() || self.skip > 0;
        if has_begun && self.deadline.is_none() {
            self.deadline = Some(now + limits::MONITOR_HEAD_TIME);
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    fn skip_body(&mut self) {
        let len = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(self.input.len());
        self.input.drain(..len);
        self.skip -= len as u64;
    }

    /// Our side is done: closes it, so that the peer can read to the end before the socket goes.
    fn linger(&mut self, now: Instant) {
        self.lingers = true;
        self.failed |= self.stream.finish().is_err();
        self.deadline = Some(now + limits::PARTING);
    }

    /// Reads once; false if there is nothing to read.
    fn read(&mut self, buffer: &mut Vec<u8>) -> bool {
        if !self.readable || self.hung_up {
            return false;
        }
        if !self.has_chosen() {
            return false;
        }
        heap::resize(buffer, READ_BYTES);
        match self.stream.read(buffer) {
            Ok(Inflow::End) => self.hung_up = true,
            Ok(Inflow::Bytes { len, more }) => {
                self.readable = more || self.is_ending;
                self.input
                    .extend_from_slice(buffer.get(..len).unwrap_or_default());
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(_) => self.failed = true,
        }
        false
    }

    /// Reads once to throw away; false if there is nothing to read.
    fn drain(&mut self) -> bool {
        if !self.readable || self.hung_up {
            return false;
        }
        match self.stream.drain() {
            Ok(true) => return true,
            Ok(false) => self.hung_up = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(_) => self.failed = true,
        }
        false
    }

    /// Whether it is known that TLS is spoken, or not to be.
    fn has_chosen(&mut self) -> bool {
        let Some(tls) = &self.tls else { return true };
        match self.stream.peek() {
            Ok(Some(HANDSHAKE_RECORD)) => {
                self.failed |= self.stream.start_tls(tls).is_err();
                self.handshake = Handshake::UnderWay;
            }
            Ok(Some(_)) => {
                self.handshake = Handshake::Failed;
                // As far as it goes at once.
                let _ = self.stream.write(NOT_TLS);
                self.closes = true;
            }
            Ok(None) => self.hung_up = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return false;
            }
            Err(_) => self.failed = true,
        }
        self.tls = None;
        !self.failed && !self.hung_up
    }

    /// Queues a response, and writes as much of it as the socket takes.
    pub(super) fn respond(
        &mut self,
        head: Option<&Head>,
        response: &Response,
        date: &str,
        now: Instant,
    ) {
        let keeps_alive = head.is_some_and(|head| head.keeps_alive && !response.needs_close(head));
        self.closes = !keeps_alive;
        response.encode(head, self.closes, date, &mut self.output);
        self.deadline = Some(now + limits::MONITOR_WRITE_TIME);
        self.since = now;
        self.flush(now);
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.writable && self.stream.wants_write() {
            match self.stream.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(_) => self.failed = true,
                Ok(()) => {}
            }
        }
        while self.sent < self.output.len() && self.writable && !self.failed {
            match self
                .stream
                .write(self.output.get(self.sent..).unwrap_or_default())
            {
                Ok(0) => self.failed = true,
                Ok(len) => {
                    self.sent += len;
                    self.deadline = Some(now + limits::MONITOR_WRITE_TIME);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.failed = true,
            }
        }
        let is_written = self.pending() == 0;
        if is_written && self.sent > 0 {
            self.output = Vec::new();
            self.sent = 0;
            self.deadline = None;
            self.since = now;
        }
    }
}
