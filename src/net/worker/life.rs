//! The life of a connection: it is adopted, greeted, let in, and ended.

use std::io::ErrorKind;
use std::mem;
use std::sync::atomic::Ordering;

use mio::net::TcpStream;
use mio::{Interest, Token};
use slab::Slab;

use super::handshake::Phase;
use super::survey::Facts;
use super::{Connection, Worker, slot};
use crate::engine::{Peer, Sink as _};
use crate::heap;
use crate::id;
use crate::limits;
use crate::log::{debug, error, info};
use crate::net::addresses::Place;
use crate::net::mailbox::{Arrival, Origin};
use crate::net::outlet::{Label, Outlet};
use crate::net::timers::Purpose;
use crate::net::transport::Transport;
use crate::proto::encode::error_line;
use crate::session::{Authenticator, Client, CloseReason, Verdict};

impl Worker {
    pub(super) fn adopt(
        &mut self,
        mut socket: TcpStream,
        arrival: Arrival,
        refuse: Option<CloseReason>,
        place: Option<Place>,
    ) {
        if self.connections.len() == self.connections.capacity() {
            let room = heap::room::<Connection>(self.connections.len());
            self.connections.reserve(room);
        }
        let entry = self.connections.vacant_entry();
        let conn = slot(entry.key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.stopping.is_some()
            || self
                .poll
                .registry()
                .register(&mut socket, Token(entry.key()), interest)
                .is_err()
        {
            return self.turn_away(&arrival, refuse.is_some());
        }
        let (now, serial) = (self.outlets.now, self.next_serial);
        self.next_serial = serial.wrapping_add(1);
        let has_nkeys = self.settings.auth.has_nkeys();
        let (peer, addr) = match arrival {
            Arrival::Client(mut session) => {
                if has_nkeys {
                    session.set_nonce(&id::nonce());
                }
                let addr = session.addr();
                (Peer::client(conn, *session), addr)
            }
            Arrival::Route(session) => {
                let addr = session.addr();
                (Peer::route(conn, *session), addr)
            }
        };
        let is_route = peer.as_route().is_some();
        let label = Label {
            addr,
            id: peer.id(),
            is_route,
        };
        if is_route {
            info!(self.shared.log, "{label} - Route connection created");
        } else {
            debug!(self.shared.log, "{label} - Client connection created");
        }
        let limits = &self.settings.options.address_limits;
        let place = if place.is_none() && refuse.is_none() && !is_route && limits.is_on() {
            // A reload has brought the limits while it was on its way here.
            Some(self.shared.count_at_address(addr.ip(), limits, now))
        } else {
            place
        };
        let interval = self.settings.options.ping_interval;
        entry.insert(Connection {
            peer,
            serial,
            phase: Phase::Open,
            kept: Vec::new(),
            unfed: false,
            readable: false,
            hung_up: false,
            listed: false,
            stalled: None,
            beat_at: now,
            place,
            closing: None,
            refused: refuse.is_some(),
            parting: false,
            tls_first: false,
            facts: Facts::new(self.shared.moment(now)),
        });
        self.outlets
            .insert(conn, Outlet::new(Transport::plain(socket), label, serial));
        self.forget_found(conn);
        self.set_beat(conn, interval);
        match refuse {
            Some(reason) => self.refuse(conn, reason),
            None if is_route => self.welcome_route(conn),
            None => self.welcome(conn),
        }
    }

    /// Notes who has yet to show that it is a client. If there are too many of those, the oldest has had its while.
    pub(super) fn note_stranger(&mut self, conn: u32) {
        let Some(origin) = self.origin(conn) else {
            return;
        };
        // Mostly it was noted a moment ago, for its handshake.
        if self.strangers.back() != Some(&origin) {
            self.strangers.push_back(origin);
        }
        if self.strangers.len() > limits::UNAUTHENTICATED_MAX {
            let mut strangers = mem::take(&mut self.strangers);
            strangers.retain(|&origin| self.is_overdue(origin));
            let surplus = strangers.len() > limits::UNAUTHENTICATED_MAX;
            let oldest = surplus.then(|| strangers.pop_front()).flatten();
            self.strangers = strangers;
            if let Some(oldest) = oldest {
                self.dismiss(oldest.conn);
            }
        }
    }

    /// Ends a connection that has not shown in time that it is a client.
    fn dismiss(&mut self, conn: u32) {
        let phase = self.connections.get(conn as usize).map(|it| it.phase);
        match phase {
            Some(Phase::Open) => self.end_with_text(conn, CloseReason::AuthenticationTimeout),
            _ => self.begin_closing(conn, CloseReason::TlsHandshakeFailure),
        }
    }

    /// Whether that connection's handshake or CONNECT is still awaited.
    pub(super) fn is_overdue(&self, origin: Origin) -> bool {
        let connection = self.connections.get(origin.conn as usize);
        connection.is_some_and(|it| {
            let is_it = it.serial == origin.serial && it.closing.is_none();
            is_it && it.peer.is_overdue(&self.settings.auth)
        })
    }

    /// A challenge of that connection was answered: it goes on, or ends.
    pub(super) fn on_verified(&mut self, origin: Origin, verdict: Option<Verdict>) {
        let Some(parts) = self.parts_of(origin) else {
            return;
        };
        let Some(verdict) = verdict else {
            return self.end_with_text(origin.conn, CloseReason::AuthenticationTimeout);
        };
        let connection = parts.connection;
        let peer = &mut connection.peer;
        let was_known = peer.is_known();
        match (parts.engine).on_verified(peer, verdict, &parts.context, parts.outlets) {
            Ok(()) if peer.is_waiting() => self.verify(origin.conn),
            Ok(()) => {
                connection.unfed = !connection.kept.is_empty();
                self.list(origin.conn);
                if !was_known {
                    self.report_login(origin.conn);
                }
                self.await_introduction(origin.conn);
            }
            Err(reason) => self.begin_closing(origin.conn, reason),
        }
    }

    /// Judges a connection by the settings in force, after those of which `old` was the gate.
    pub(super) fn review(&mut self, conn: u32, old: &Authenticator) {
        let Some(parts) = self.parts(conn) else {
            return;
        };
        let peer = &mut parts.connection.peer;
        match (parts.engine).review(peer, old, &parts.context, parts.outlets) {
            Ok(()) => self.verify(conn),
            Err(reason) => self.begin_closing(conn, reason),
        }
    }

    pub(super) fn send(&mut self, conn: u32, bytes: &[u8]) {
        self.outlets.reply(conn, bytes);
    }

    /// Tells the peer why, and ends the connection.
    pub(super) fn end_with_text(&mut self, conn: u32, reason: CloseReason) {
        if let Some(text) = reason.wire_text() {
            let mut line = Vec::new();
            error_line(text, &mut line);
            self.send(conn, &line);
        }
        self.begin_closing(conn, reason);
    }

    /// Nothing more is read or delivered; what is queued is still written.
    pub(super) fn begin_closing(&mut self, conn: u32, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        if connection.closing.is_none() {
            connection.closing = Some(reason);
            drop(connection.take_kept(&mut self.inbound));
            self.outlets.settle(conn);
            self.remember(conn, reason);
            let Some(connection) = self.connections.get_mut(conn as usize) else {
                return;
            };
            let is_route = connection.peer.as_route().is_some();
            if self.outlets.is_tracing() {
                self.engine.tell_ends(conn, &mut self.outlets);
            }
            self.engine.part(&mut connection.peer);
            if !is_route {
                self.note_crowd();
            }
            if reason.is_slow_consumer() {
                self.report_slow(conn, reason);
            }
            self.engine.tell_news(&mut self.outlets);
            if is_route {
                // Its successor may be let in as soon as this is known, at another worker: what it has sent comes first.
                self.outlets.hand_over();
                self.report_route_closing(conn, reason);
            } else {
                self.report_closing(conn, reason);
            }
        }
        self.outlets.forget_unsendable(conn);
        if let Some(outlet) = self.outlets.get(conn) {
            outlet.closing = true;
            if outlet.blocked_since().is_none() {
                self.outlets.flush(conn);
            }
        }
        self.finish_closing(conn);
    }

    pub(super) fn report_closing(&mut self, conn: u32, reason: CloseReason) {
        let Some(connection) = self.connections.get(conn as usize) else {
            return;
        };
        let (peer, log) = (&connection.peer, &self.shared.log);
        match reason {
            CloseReason::AuthenticationFailure => {
                let client = peer.as_client();
                if let Some(flaw) = client.and_then(Client::flaw) {
                    debug!(log, "{peer} - {flaw}");
                }
                let credentials = client.map(Client::credentials).unwrap_or_default();
                error!(log, "{peer} - authentication error{credentials}");
            }
            CloseReason::AuthenticationTimeout => debug!(log, "{peer} - {reason}"),
            CloseReason::AccountConnections
            | CloseReason::Subscriptions
            | CloseReason::ClientProtocol
            | CloseReason::NoResponders => {
                let text = reason.wire_text().unwrap_or_default();
                error!(log, "{peer} - {text}");
            }
            CloseReason::Stale => debug!(log, "{peer} - Stale Client Connection - Closing"),
            _ => {}
        }
        match reason {
            CloseReason::Stale => self.shared.stale.add(false),
            CloseReason::AuthenticationFailure | CloseReason::AuthenticationTimeout => {
                let failures = &self.shared.auth_failures;
                failures.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        debug!(log, "{peer} - Client connection closed: {reason}");
    }

    /// Logs and counts a slow consumer.
    pub(super) fn report_slow(&mut self, conn: u32, reason: CloseReason) {
        let limit = self.write_deadline(conn);
        let (Some(connection), Some(outlet)) =
            (self.connections.get(conn as usize), self.outlets.get(conn))
        else {
            return;
        };
        let options = &self.settings.options;
        let what = match reason {
            CloseReason::SlowConsumerDeadline => {
                let chunks = outlet.chunk_count();
                let bytes = outlet.pending();
                let queued = format!("{chunks} chunks of {bytes} total bytes.");
                format!("WriteDeadline of {limit:?} exceeded with {queued}")
            }
            CloseReason::SlowConsumerMemory => {
                let limit = options.memory_limit.unwrap_or_default();
                format!("memory_limit of {limit} Exceeded")
            }
            _ => format!("MaxPending of {} Exceeded", options.max_pending),
        };
        let (peer, log) = (&connection.peer, &self.shared.log);
        info!(log, "{peer} - Slow Consumer Detected: {what}");
        self.shared.slow_consumers.add(peer.as_route().is_some());
    }

    /// Parts with a closing connection once nothing is left to write.
    pub(super) fn finish_closing(&mut self, conn: u32) {
        let (Some(connection), Some(outlet)) = (
            self.connections.get_mut(conn as usize),
            self.outlets.get(conn),
        ) else {
            return;
        };
        let Some(reason) = connection.closing.filter(|_| outlet.is_drained()) else {
            return;
        };
        // Before the peer can see the end: it may connect again at once.
        connection.place = None;
        if !has_last_words(reason) || connection.hung_up {
            return self.remove(conn);
        }
        let is_first = !mem::replace(&mut connection.parting, true);
        if is_first && !connection.refused && connection.peer.as_client().is_some() {
            self.shared.parting.fetch_add(1, Ordering::Relaxed);
            self.shared.connections[usize::from(self.index)].fetch_sub(1, Ordering::Relaxed);
        }
        if outlet.transport.finish().is_err() {
            return self.remove(conn);
        }
        if is_first {
            self.set_deadline(conn, limits::PARTING, Purpose::Part);
            self.part(conn);
        }
    }

    /// Reads on, to no end but this: bytes of the peer that nobody has read would make the system throw away what it
    /// has not sent yet.
    pub(super) fn part(&mut self, conn: u32) {
        let Some(outlet) = self.outlets.get(conn) else {
            return;
        };
        match outlet.transport.drain() {
            Ok(true) => {
                if let Some(connection) = self.connections.get_mut(conn as usize) {
                    connection.readable = true;
                    self.list(conn);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.remove(conn),
        }
    }

    pub(super) fn remove(&mut self, conn: u32) {
        // Before the socket goes: whoever sees its end may connect at once, and finds the place free.
        let mut gone = self.connections.try_remove(conn as usize);
        if let Some(gone) = &mut gone {
            drop(gone.take_kept(&mut self.inbound));
        }
        if let Some(gone) = gone.filter(|gone| gone.peer.as_client().is_some()) {
            let count = if gone.parting || gone.refused {
                &self.shared.parting
            } else {
                &self.shared.connections[usize::from(self.index)]
            };
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.outlets.remove(conn);
        if self.connections.is_empty() {
            self.connections = Slab::new();
            self.outlets.shrink();
        }
        let connections = &self.connections;
        self.timers.sweep(connections.len(), |deadline| {
            connections
                .get(deadline.conn as usize)
                .is_some_and(|connection| connection.serial == deadline.serial)
        });
    }
}

/// Whether the peer should be able to read to the end what was sent to it.
fn has_last_words(reason: CloseReason) -> bool {
    match reason {
        CloseReason::ClientClosed | CloseReason::ReadError | CloseReason::WriteError => false,
        reason if reason.is_slow_consumer() => false,
        // One too many must not take up a descriptor any longer.
        CloseReason::Connections | CloseReason::AddressConnections | CloseReason::AddressRate => {
            false
        }
        _ => true,
    }
}
