//! Reading from connections, one buffer at a time, and pausing to.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::Duration;

use super::Worker;
use super::handshake::Phase;
use crate::engine::End;
use crate::heap;
use crate::limits;
use crate::log::{debug, error, quote, warn};
use crate::net::read_size::buffer_bytes;
use crate::net::timers::Purpose;
use crate::net::transport::Inflow;
use crate::net::verifier::Verifier;
use crate::s2::S2Error;
use crate::session::{CloseReason, Route};

impl Worker {
    pub(super) fn serve_ready(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let mut ready = mem::take(&mut self.ready);
        for conn in ready.drain(..) {
            if let Some(connection) = self.connections.get_mut(conn as usize) {
                connection.listed = false;
                self.serve(conn);
            }
        }
        // Whoever has more to read was listed anew meanwhile; keep the older list's memory.
        ready.append(&mut self.ready);
        self.ready = ready;
    }

    /// One read's worth of work for one connection.
    pub(super) fn serve(&mut self, conn: u32) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        if connection.parting {
            return self.part(conn);
        }
        if connection.phase != Phase::Open {
            let phase = connection.phase;
            return self.serve_phase(conn, phase);
        }
        let is_waiting = connection.peer.is_waiting();
        if connection.stalled.is_some() || connection.closing.is_some() || is_waiting {
            return;
        }
        if connection.unfed {
            connection.unfed = false;
            let bytes = connection.take_kept(&mut self.inbound);
            self.feed(conn, &bytes);
            return self.list(conn);
        }
        if !connection.readable {
            return;
        }
        if connection.peer.wanted() > limits::READ_BYTES {
            return self.read_large(conn);
        }
        // An unfinished control line is kept whole, and may be longer than a read where `max_control_line` is.
        let kept = connection.kept.len();
        let mut buffer = mem::take(&mut self.read_buffer);
        let most = self.read_size.bytes(self.work.bytes);
        let most = most.min(self.outlets.bounds().read());
        heap::resize(&mut buffer, buffer_bytes(kept, most));
        self.read_small(conn, &mut buffer, most);
        let usual = limits::READ_BYTES + most;
        buffer.truncate(usual);
        buffer.shrink_to(usual);
        self.read_buffer = buffer;
    }

    /// Reads up to `most` bytes into the worker's buffer, behind what was left of the last read, so that an operation is one
    /// run of bytes.
    fn read_small(&mut self, conn: u32, buffer: &mut [u8], most: usize) {
        let (Some(connection), Some(outlet)) = (
            self.connections.get_mut(conn as usize),
            self.outlets.get(conn),
        ) else {
            return;
        };
        let start = connection.kept.len();
        let Some((front, back)) = buffer.split_at_mut_checked(start) else {
            return;
        };
        front.copy_from_slice(&connection.kept);
        let is_stranger = connection.peer.is_stranger(&self.settings.auth);
        let most = if is_stranger {
            limits::UNAUTHENTICATED_READ_BYTES
        } else {
            most
        };
        match outlet.transport.read(back, most) {
            Ok(Inflow::End) => self.begin_closing(conn, CloseReason::ClientClosed),
            Ok(Inflow::Bytes { len, more }) => {
                let (wants_write, fed) = (outlet.transport.wants_write(), start + len);
                self.work.bytes += len;
                if more && !is_stranger {
                    self.read_size.note_full();
                }
                connection.readable = more || connection.hung_up;
                let readable = connection.readable;
                if len > 0 {
                    drop(connection.take_kept(&mut self.inbound));
                }
                if readable {
                    self.list(conn);
                }
                if wants_write {
                    self.outlets.flush(conn);
                }
                if len > 0 {
                    self.feed(conn, buffer.get(..fed).unwrap_or_default());
                }
            }
            Err(error) => self.on_read_error(conn, &error),
        }
    }

    /// Reads a message that is too large for the worker's buffer into one of its own, to its last byte and no further.
    pub(super) fn read_large(&mut self, conn: u32) {
        let (Some(connection), Some(outlet)) = (
            self.connections.get_mut(conn as usize),
            self.outlets.get(conn),
        ) else {
            return;
        };
        let missing = connection.peer.wanted() - connection.kept.len();
        connection.kept.reserve_exact(missing);
        let before = connection.kept.len();
        let mut buffer = mem::take(&mut self.read_buffer);
        let len = buffer.len().max(limits::READ_BYTES);
        heap::resize(&mut buffer, len);
        let (transport, kept) = (&mut outlet.transport, &mut connection.kept);
        let result = transport.read_long(kept, missing, &mut buffer);
        self.read_buffer = buffer;
        let grown = connection.kept.len() - before;
        self.work.bytes += grown;
        self.inbound += grown;
        match result {
            _ if grown >= missing => {
                let bytes = connection.take_kept(&mut self.inbound);
                self.list(conn);
                self.feed(conn, &bytes);
            }
            Ok(_) => self.begin_closing(conn, CloseReason::ClientClosed),
            Err(error) => self.on_read_error(conn, &error),
        }
    }

    pub(super) fn on_read_error(&mut self, conn: u32, error: &io::Error) {
        match (error.kind(), self.connections.get_mut(conn as usize)) {
            (ErrorKind::WouldBlock, Some(connection)) => connection.readable = false,
            (ErrorKind::Interrupted, _) => self.list(conn),
            (_, connection) => {
                let flaw = error.get_ref().and_then(|it| it.downcast_ref::<S2Error>());
                if let (Some(flaw), Some(connection)) = (flaw, connection) {
                    error!(self.shared.log, "{} - {flaw}", connection.peer);
                }
                self.begin_closing(conn, CloseReason::ReadError);
            }
        }
    }

    pub(super) fn feed(&mut self, conn: u32, bytes: &[u8]) {
        let Some(origin) = self.origin(conn) else {
            return;
        };
        // Whoever sent this may have seen what other workers have handed over to us: that comes first. It may be the end of
        // the connection, and the beginning of another one in its slot.
        self.take_mail();
        let Some(parts) = self.parts_of(origin) else {
            return;
        };
        let (connection, outlets) = (parts.connection, parts.outlets);
        if connection.peer.is_waiting() {
            // Other settings have come, under which it has to show once more who it is.
            connection.keep(bytes, parts.inbound);
            connection.unfed = !connection.kept.is_empty();
            return;
        }
        let was_known = connection.peer.is_known();
        let was_connected = connection.peer.is_connected();
        let peer = &mut connection.peer;
        let fed = parts.engine.feed(peer, bytes, &parts.context, outlets);
        let rest = bytes.get(fed.consumed..).unwrap_or_default();
        connection.keep(rest, parts.inbound);
        if let Some(level) = connection.peer.as_route().and_then(Route::level) {
            outlets.set_level(conn, level);
        }
        let now = parts.shared.moment(outlets.now);
        Worker::note_activity(connection, now);
        if !was_connected && connection.peer.is_connected() {
            connection.facts.answered(now);
            self.on_connected(conn);
        } else if connection.peer.keepalive().has_connect() {
            self.beat_early(conn);
        }
        let connection = self.connections.get(conn as usize);
        if !was_known && connection.is_some_and(|it| it.peer.is_known()) {
            self.report_login(conn);
        }
        if !self.outlets.traces.is_empty() {
            self.tell_traces();
        }
        match fed.end {
            End::Starved => {}
            End::Pause => {
                if let Some(connection) = self.connections.get_mut(conn as usize) {
                    connection.unfed = !connection.kept.is_empty();
                }
                let pause = self.outlets.pause.unwrap_or(limits::CROWDED_PAUSE);
                self.stall(conn, pause);
            }
            End::Verify => self.verify(conn),
            End::Wait => {
                if let Some(connection) = self.connections.get_mut(conn as usize) {
                    connection.unfed = !connection.kept.is_empty();
                }
            }
            End::Compress => self.compress(conn),
            End::Close(reason) => self.begin_closing(conn, reason),
        }
    }

    /// Has a password checked; the connection is not read from until that is done.
    pub(super) fn verify(&mut self, conn: u32) {
        let Some(origin) = self.origin(conn) else {
            return;
        };
        let connection = self.connections.get_mut(conn as usize);
        let challenge = connection.and_then(|it| it.peer.take_challenge());
        let Some((challenge, addr)) = challenge else {
            return;
        };
        let life = self.settings.options.password_cache;
        let verdict = Verifier::submit(&self.shared, addr, origin, challenge, life);
        if verdict.is_some() {
            self.on_verified(origin, verdict);
        }
    }

    pub(super) fn on_connected(&mut self, conn: u32) {
        self.report_mapping(conn);
        self.beat_early(conn);
    }

    /// The next PING comes soon: a peer has connected, perhaps anew.
    fn beat_early(&mut self, conn: u32) {
        let random = self.rng.fraction();
        let interval = self.settings.options.ping_interval;
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        let span = connection.peer.keepalive().connected(interval, random);
        self.set_beat(conn, span);
    }

    pub(super) fn stall(&mut self, conn: u32, pause: Duration) {
        let connection = self.connections.get(conn as usize);
        // What comes from another server is for many: it must not wait long for one of them.
        let is_route = connection.is_some_and(|it| it.peer.as_route().is_some());
        let pause = if is_route {
            pause.min(limits::CROWDED_PAUSE)
        } else {
            pause
        };
        let at = self.set_deadline(conn, pause, Purpose::Unstall);
        if let Some(connection) = self.connections.get_mut(conn as usize) {
            connection.stalled = Some(at);
        }
    }

    pub(super) fn unstall(&mut self, conn: u32, serial: u32) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        if connection.serial == serial && connection.stalled.take().is_some() {
            self.list(conn);
        }
    }

    /// Logs which user a client's certificate names, where that decides.
    fn report_mapping(&self, conn: u32) {
        let (auth, log) = (&self.settings.auth, &self.shared.log);
        let client = self.connections.get(conn as usize);
        let client = client.filter(|_| auth.maps_certificates());
        let Some(client) = client.and_then(|it| it.peer.as_client()) else {
            return;
        };
        let Some(mapped) = auth.map(client.certificate()) else {
            return;
        };
        debug!(log, "{client} - {mapped}");
        let user = client
            .connect()
            .and_then(|connect| connect.credentials().user.as_deref());
        if let Some(user) = user.filter(|_| mapped.user.is_some()) {
            let user = quote(user.as_bytes(), Some(limits::LOGGED_NAME_BYTES_MAX));
            let text = "but user required from cert";
            warn!(log, "{client} - User {user} found in connect proto, {text}");
        }
    }
}
