//! How a client's connection comes to TLS, or does without it, before its first operation.
//!
//! ```text
//! no tls block ─────────────────────────────────────────── INFO ──────────────────────────────▶ open
//! tls ──────────────────────────────────────────────────── INFO ─▶ handshake ─────────────────▶ open
//! tls, handshake_first ───────────────────────────────────────────▶ handshake ─▶ INFO ────────▶ open
//! tls, handshake_first after a delay ─▶ a byte in time? ──────────▶ handshake ─▶ INFO ────────▶ open
//!                                       └ silence ──────── INFO ─▶ handshake ─────────────────▶ open
//! tls, allow_non_tls ───────────────────────────────────── INFO ─▶ a TLS record? ─▶ handshake ▶ open
//!                                                                  └ else, or silence ────────▶ open
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Worker, context};
use crate::certificate::Certificate;
use crate::config::options::HandshakeFirst;
use crate::heap;
use crate::limits;
use crate::log::{debug, error, info};
use crate::net::mailbox::Settings;
use crate::net::timers::Purpose;
use crate::net::tls;
use crate::net::transport::Inflow;
use crate::proto::encode::error_line;
use crate::proto::error::text;
use crate::session::{CloseReason, Route, Side};

/// How far a connection has come. It enters each phase once at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// What comes is for the session.
    Open,
    /// A handshake may come before INFO; whatever comes in time is one.
    MayComeFirst,
    /// INFO was sent; the first byte tells whether this is a handshake.
    MayCome,
    /// A handshake is under way.
    Handshaking {
        /// INFO follows it.
        greet: bool,
    },
}

/// What begins a handshake: the type of the first record.
const HANDSHAKE_RECORD: u8 = 0x16;

impl Worker {
    /// Takes a fresh connection as far as it comes by itself.
    pub(super) fn welcome(&mut self, conn: u32) {
        let first = match (&self.settings.tls.clients, &self.settings.options.tls) {
            (Some(_), Some(options)) => options.handshake_first,
            _ => {
                self.greet(conn);
                return self.open(conn);
            }
        };
        match first {
            HandshakeFirst::Within(delay) if !delay.is_zero() => {
                self.enter(conn, Phase::MayComeFirst);
                self.set_deadline(conn, delay, Purpose::HandshakeFirst);
            }
            HandshakeFirst::Off => self.greet_before_handshake(conn),
            _ => self.start_handshake(conn, true),
        }
    }

    /// Tells a fresh connection why it cannot stay, in clear: a handshake would be work for nothing.
    pub(super) fn refuse(&mut self, conn: u32, reason: CloseReason) {
        let tls = self.settings.options.tls.as_ref();
        if tls.is_none_or(|tls| tls.handshake_first == HandshakeFirst::Off) {
            self.greet(conn);
        }
        self.end_with_text(conn, reason);
    }

    fn greet_before_handshake(&mut self, conn: u32) {
        self.greet(conn);
        if self.settings.options.allow_non_tls {
            self.enter(conn, Phase::MayCome);
            let timeout = self.tls_timeout();
            self.set_deadline(conn, timeout, Purpose::HandshakeChoice);
        } else {
            self.start_handshake(conn, false);
        }
    }

    /// Sends the INFO that greets a connection.
    pub(super) fn greet(&mut self, conn: u32) {
        let mut connection = self.connections.get_mut(conn as usize);
        let mut greeting = Vec::new();
        let route = connection.as_mut().and_then(|it| it.peer.as_route_mut());
        if let Some(route) = route {
            route.greet(&self.facts, self.outlets.now, &mut greeting);
            if matches!(route.side(), Side::Dialled(_)) {
                debug!(self.shared.log, "{route} - Route connect msg sent");
            }
        } else if let Some(session) = connection.and_then(|it| it.peer.as_client()) {
            session.greet(
                &context(&self.settings, &self.info, self.outlets.now),
                &mut greeting,
            );
        }
        self.send(conn, &greeting);
    }

    /// From now on the session gets what comes, and if it is a stranger's, its time runs.
    pub(super) fn open(&mut self, conn: u32) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        connection.phase = Phase::Open;
        let is_stranger = connection.peer.is_stranger(&self.settings.auth);
        if is_stranger {
            let options = &self.settings.options;
            let timeout = match connection.peer.as_route() {
                Some(_) if options.cluster.user.is_none() => limits::ROUTE_GREETING,
                Some(_) => options.cluster.auth_timeout(),
                None => options.auth_timeout,
            };
            self.set_deadline(conn, timeout, Purpose::Connect);
            self.note_stranger(conn);
        }
    }

    pub(super) fn enter(&mut self, conn: u32, phase: Phase) {
        if let Some(connection) = self.connections.get_mut(conn as usize) {
            connection.phase = phase;
        }
        self.note_stranger(conn);
    }

    fn tls_timeout(&self) -> Duration {
        let tls = self.settings.tls.clients.as_ref();
        tls.map_or(limits::TLS_TIMEOUT, |tls| tls.timeout)
    }

    fn start_handshake(&mut self, conn: u32, greet: bool) {
        let Some(tls) = self.settings.tls.clients.clone() else {
            // A reload has taken TLS away in this very moment.
            return self.fail_handshake(conn, "tls is not configured any longer", true);
        };
        // INFO goes in clear, before anything else.
        self.outlets.flush(conn);
        let options = self.settings.options.tls.as_ref();
        let rate = options.and_then(|tls| tls.connection_rate_limit);
        if !self.shared.tls_rate.admits(rate, self.outlets.now) {
            self.report_rate_at
                .get_or_insert(self.outlets.now + limits::TLS_RATE_WINDOW);
            let mut line = Vec::new();
            error_line(text::TLS_RATE, &mut line);
            self.send(conn, &line);
            return self.begin_closing(conn, CloseReason::Connections);
        }
        let Some(outlet) = self.outlets.get(conn) else {
            return;
        };
        let label = outlet.label;
        debug!(
            self.shared.log,
            "{label} - Starting TLS client connection handshake"
        );
        if !outlet.is_drained() || outlet.transport.accept(&tls).is_err() {
            return self.fail_handshake(conn, "INFO could not be sent", false);
        }
        self.enter(conn, Phase::Handshaking { greet });
        self.set_deadline(conn, tls.timeout, Purpose::Handshake);
        self.list(conn);
    }

    /// Serves a connection that is not open yet.
    pub(super) fn serve_phase(&mut self, conn: u32, phase: Phase) {
        let is_readable = self
            .connections
            .get(conn as usize)
            .is_some_and(|it| it.readable && it.closing.is_none());
        match phase {
            _ if !is_readable => {}
            Phase::Open => {}
            Phase::MayComeFirst | Phase::MayCome => self.look_at_first_byte(conn, phase),
            Phase::Handshaking { greet } => {
                // Each costs as much as thousands of messages, which must not wait for a crowd of them.
                if self.handshakes_left == 0 {
                    return self.list(conn);
                }
                self.handshakes_left -= 1;
                self.continue_handshake(conn, greet);
            }
        }
    }

    fn look_at_first_byte(&mut self, conn: u32, phase: Phase) {
        let Some(outlet) = self.outlets.get(conn) else {
            return;
        };
        let mut first = [0];
        match outlet.transport.socket().peek(&mut first) {
            Ok(0) => self.begin_closing(conn, CloseReason::ClientClosed),
            Ok(_) if phase == Phase::MayComeFirst => self.start_handshake(conn, true),
            Ok(_) if first == [HANDSHAKE_RECORD] => self.start_handshake(conn, false),
            Ok(_) => {
                self.open(conn);
                self.list(conn);
            }
            Err(error) => self.on_read_error(conn, &error),
        }
    }

    fn continue_handshake(&mut self, conn: u32, greet: bool) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let len = buffer.len().max(limits::READ_BYTES);
        heap::resize(&mut buffer, len);
        let (Some(connection), Some(outlet)) = (
            self.connections.get_mut(conn as usize),
            self.outlets.get(conn),
        ) else {
            return;
        };
        match outlet.transport.read(&mut buffer, usize::MAX) {
            Ok(Inflow::Bytes { len, more }) => {
                connection.readable = more || connection.hung_up;
                let is_done = !outlet.transport.is_handshaking();
                self.list(conn);
                if is_done {
                    self.finish_handshake(conn, greet);
                    self.feed(conn, buffer.get(..len).unwrap_or_default());
                }
                // After what the session had to say, and with it.
                self.outlets.flush(conn);
            }
            Ok(Inflow::End) => self.fail_handshake(conn, "EOF", false),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    self.on_read_error(conn, &error);
                }
                _ => {
                    let (why, is_quiet) = tls::describe_failure(&error);
                    self.fail_handshake(conn, &why, is_quiet);
                }
            },
        }
        self.read_buffer = buffer;
    }

    fn finish_handshake(&mut self, conn: u32, greet: bool) {
        let connection = self.connections.get(conn as usize);
        if connection.is_some_and(|it| it.peer.as_route().is_some()) {
            return self.finish_route_handshake(conn);
        }
        if let Some(connection) = self.connections.get_mut(conn as usize) {
            connection.tls_first = greet;
        }
        let settings = Arc::clone(&self.settings);
        let Some(options) = &settings.options.tls else {
            return self.fail_handshake(conn, "tls is not configured any longer", true);
        };
        let certificate = self.report_session(conn);
        if !self.is_pinned(conn, &options.pinned_certs, certificate.as_ref()) {
            return self.fail_handshake(conn, "certificate not pinned", false);
        }
        let connection = self.connections.get_mut(conn as usize);
        if let Some(client) = connection.and_then(|it| it.peer.as_client_mut()) {
            if options.verify_and_map {
                client.set_certificate(certificate);
            }
            if greet {
                client.set_over_tls();
            }
        }
        if greet {
            self.greet(conn);
        }
        self.count_handshake(conn, true);
        self.open(conn);
    }

    /// A handshake has come to an end.
    pub(super) fn count_handshake(&mut self, conn: u32, is_done: bool) {
        let Some(connection) = self.connections.get(conn as usize) else {
            return;
        };
        let side = connection.peer.as_route().map(Route::side);
        let counts = &mut self.handshakes;
        let counts = match side {
            None => &mut counts.clients,
            Some(Side::Accepted) => &mut counts.routes_accepted,
            Some(Side::Dialled(_)) => &mut counts.routes_dialled,
        };
        counts.count(is_done);
    }

    /// Logs what a handshake has come to, and gives the certificate that the peer has shown.
    pub(super) fn report_session(&mut self, conn: u32) -> Option<Certificate> {
        let outlet = self.outlets.get(conn)?;
        let (label, log) = (outlet.label, &self.shared.log);
        let session = outlet.transport.session()?;
        debug!(log, "{label} - TLS handshake complete");
        let version = session.version().unwrap_or_default();
        let suite = session.cipher_suite().unwrap_or_default();
        debug!(log, "{label} - TLS version {version}, cipher suite {suite}");
        if session.peer_certificates().len() > 1 && self.settings.auth.maps_certificates() {
            let text = "Multiple peer certificates found, selecting first";
            debug!(log, "{label} - {text}");
        }
        let shown = session.peer_certificates().next();
        shown.and_then(Certificate::parse)
    }

    /// Whether a certificate is one of those that are pinned, if any are.
    pub(super) fn is_pinned(
        &mut self,
        conn: u32,
        pins: &[String],
        certificate: Option<&Certificate>,
    ) -> bool {
        let key = certificate.map(|it| it.key_id.as_str());
        let is_pinned = key.is_some_and(|key| pins.iter().any(|pin| pin == key));
        if pins.is_empty() || is_pinned {
            return true;
        }
        let what = match key {
            Some(key) => format!("for key id: {key}"),
            None => "as client did not provide a certificate".into(),
        };
        if let Some(outlet) = self.outlets.get(conn) {
            let label = outlet.label;
            debug!(self.shared.log, "{label} - Failed pinned cert test {what}");
        }
        false
    }

    /// Ends a connection that did not come through its handshake. `is_quiet` is for what happens all day on a port that
    /// is open to the world.
    pub(super) fn fail_handshake(&mut self, conn: u32, why: &str, is_quiet: bool) {
        if let Some(outlet) = self.outlets.get(conn) {
            let (label, log) = (outlet.label, &self.shared.log);
            if is_quiet {
                debug!(log, "{label} - TLS handshake error: {why}");
            } else {
                let kind = if label.is_route { "route " } else { "" };
                error!(log, "{label} - TLS {kind}handshake error: {why}");
            }
        }
        self.count_handshake(conn, false);
        self.begin_closing(conn, CloseReason::TlsHandshakeFailure);
    }

    /// A time is up that one of the phases has.
    pub(super) fn on_phase_timeout(&mut self, conn: u32, purpose: Purpose) {
        let Some(connection) = self.connections.get(conn as usize) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        match (connection.phase, purpose) {
            (Phase::MayComeFirst, Purpose::HandshakeFirst) => self.greet_before_handshake(conn),
            (Phase::MayCome, Purpose::HandshakeChoice) => {
                self.open(conn);
                self.list(conn);
            }
            (Phase::Handshaking { .. }, Purpose::Handshake) => {
                if let Some(outlet) = self.outlets.get(conn) {
                    let label = outlet.label;
                    debug!(self.shared.log, "{label} - TLS handshake timeout");
                }
                self.count_handshake(conn, false);
                self.begin_closing(conn, CloseReason::TlsHandshakeFailure);
            }
            _ => {}
        }
    }

    /// After a change of pins: ends the clients whose certificate is none of them.
    pub(super) fn close_unpinned(&mut self, old: &Settings) {
        let pins = |settings: &Settings| {
            let tls = settings.options.tls.as_ref();
            tls.map(|tls| tls.pinned_certs.clone()).unwrap_or_default()
        };
        let (old, pins) = (pins(old), pins(&self.settings));
        if pins.is_empty() || pins == old {
            return;
        }
        let mut count = 0;
        for conn in self.slots() {
            let connection = self.connections.get(conn as usize);
            let is_client = connection.is_some_and(|it| it.peer.as_client().is_some());
            let outlet = self.outlets.get(conn).filter(|_| is_client);
            let Some(session) = outlet.and_then(|outlet| outlet.transport.session()) else {
                continue;
            };
            let shown = session.peer_certificates().next();
            let key = shown.and_then(Certificate::parse).map(|it| it.key_id);
            let is_open = !session.is_handshaking();
            if is_open && key.is_none_or(|key| !pins.contains(&key)) {
                count += 1;
                self.begin_closing(conn, CloseReason::TlsHandshakeFailure);
            }
        }
        if count > 0 {
            info!(
                self.shared.log,
                "Disconnect {count} clients due to pinned certs reload"
            );
        }
    }
}
