//! Connections to other servers: how they come, are let in, and end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Worker;
use super::handshake::Phase;
use crate::engine::Peer;
use crate::limits;
use crate::log::{debug, error, info};
use crate::net::cluster::Happening;
use crate::net::mailbox::{Arrival, Origin, Settings};
use crate::net::timers::Purpose;
use crate::session::{Agreement, Beat, CloseReason, ClusterFacts, Route, Side};

impl Worker {
    /// Somebody has come whom nobody will serve, `refused` before or not.
    pub(super) fn turn_away(&self, arrival: &Arrival, refused: bool) {
        match arrival {
            Arrival::Client(_) => {
                let count = if refused {
                    &self.shared.parting
                } else {
                    &self.shared.connections[usize::from(self.index)]
                };
                count.fetch_sub(1, Ordering::Relaxed);
            }
            Arrival::Route(route) => {
                let origin = Origin {
                    worker: self.index,
                    conn: u32::MAX,
                    serial: 0,
                };
                self.post_closed(origin, route);
            }
        }
    }

    /// Takes a fresh connection to another server as far as it comes by itself: with TLS, both sides show certificates
    /// before anything is said.
    pub(super) fn welcome_route(&mut self, conn: u32) {
        let tls = Arc::clone(&self.settings.tls);
        let (Some(connection), Some(outlet)) =
            (self.connections.get(conn as usize), self.outlets.get(conn))
        else {
            return;
        };
        let Some(route) = connection.peer.as_route() else {
            return;
        };
        let label = outlet.label;
        let (started, timeout, who) = match (route.side(), &tls.routes, &tls.dialled_routes) {
            (Side::Accepted, Some(server), _) => {
                (outlet.transport.accept(server), server.timeout, "server")
            }
            (Side::Dialled(dial), _, Some(client)) => {
                let started = outlet.transport.connect(client, &dial.host);
                (started, client.timeout, "client")
            }
            _ => {
                self.greet(conn);
                return self.open(conn);
            }
        };
        debug!(
            self.shared.log,
            "{label} - Starting TLS route {who} handshake"
        );
        if let Err(error) = started {
            return self.fail_handshake(conn, &error.to_string(), false);
        }
        self.enter(conn, Phase::Handshaking { greet: true });
        self.set_deadline(conn, timeout, Purpose::Handshake);
        self.list(conn);
    }

    /// The TLS session to another server stands.
    pub(super) fn finish_route_handshake(&mut self, conn: u32) {
        let settings = Arc::clone(&self.settings);
        let options = settings.options.cluster.tls.as_ref();
        let pins = options.map_or(&[][..], |tls| &tls.pinned_certs);
        let certificate = self.report_session(conn);
        if !self.is_pinned(conn, pins, certificate.as_ref()) {
            return self.fail_handshake(conn, "certificate not pinned", false);
        }
        let connection = self.connections.get_mut(conn as usize);
        if let Some(route) = connection.and_then(|it| it.peer.as_route_mut()) {
            route.set_certificate(certificate);
        }
        self.greet(conn);
        self.count_handshake(conn, true);
        self.open(conn);
    }

    /// Both servers have agreed to compress: what was queued until now goes out as it is, and what was read beyond their
    /// agreement is compressed already.
    pub(super) fn compress(&mut self, conn: u32) {
        let Some(parts) = self.parts(conn) else {
            return;
        };
        let connection = parts.connection;
        let Some(level) = connection.peer.as_route().and_then(Route::level) else {
            return;
        };
        let read = connection.take_kept(parts.inbound);
        parts.outlets.compress(conn, level, &read);
        connection.readable = true;
        let Peer::Route(route) = &connection.peer else {
            return;
        };
        let session = &route.session;
        let name = session.agreement().map_or("off", Agreement::name);
        debug!(
            parts.shared.log,
            "{session} - Compressed from here on: {name}"
        );
        parts.engine.greet_compressed(route, parts.outlets);
        self.list(conn);
    }

    /// Another server is part of the cluster now: it hears of this one's interest, and what it has sent meanwhile is read.
    pub(super) fn admit(&mut self, origin: Origin) {
        let Some(parts) = self.parts_of(origin) else {
            return;
        };
        let connection = parts.connection;
        let Peer::Route(route) = &mut connection.peer else {
            return;
        };
        parts.engine.admit(route, &parts.context, parts.outlets);
        connection.unfed = !connection.kept.is_empty();
        if let Some(remote) = route.session.remote() {
            let session = &route.session;
            let id = &remote.server_id;
            let account = session.account();
            let account = account.map_or_else(String::new, |it| format!(" for account {it:?}"));
            let log = &parts.shared.log;
            debug!(log, "{session} - Registering remote route {id:?}{account}");
            debug!(log, "{session} - Sent local subscriptions to route");
        }
        self.list(origin.conn);
        self.start_beats(origin.conn);
    }

    /// The time between two PINGs on a route, and how many may go unanswered.
    fn route_pings(&self) -> (Duration, u32) {
        let options = &self.settings.options;
        let cluster = &options.cluster;
        let interval = cluster.ping_interval.unwrap_or(options.ping_interval);
        let max = cluster.ping_max.unwrap_or(options.ping_max);
        (interval.min(limits::ROUTE_PING_INTERVAL_MAX), max)
    }

    fn start_beats(&mut self, conn: u32) {
        let random = self.rng.fraction();
        let (interval, _) = self.route_pings();
        let connection = self.connections.get_mut(conn as usize);
        let session = connection.and_then(|it| it.peer.as_route_mut());
        if let Some(span) = session.map(|it| it.first_beat(interval, random)) {
            self.set_beat(conn, span);
        }
    }

    /// As for clients, but however busy it is.
    pub(super) fn beat_route(&mut self, conn: u32) {
        let (interval, max) = self.route_pings();
        let now = self.outlets.now;
        let connection = self.connections.get_mut(conn as usize);
        let Some(session) = connection.and_then(|it| it.peer.as_route_mut()) else {
            return;
        };
        // Who has not introduced himself has a deadline for that.
        if session.is_admitted() {
            debug!(self.shared.log, "{session} - Router Ping Timer");
            if session.keepalive.beat(interval, max) == Beat::Stale {
                return self.end_with_text(conn, CloseReason::Stale);
            }
            let mut line = Vec::new();
            session.ping(now, &mut line);
            self.send(conn, &line);
        }
        self.set_beat(conn, interval);
    }

    /// Another server has logged in, which may have taken longer than the time that it had: it has as much again to say who it
    /// is.
    pub(super) fn await_introduction(&mut self, conn: u32) {
        let connection = self.connections.get(conn as usize);
        let route = connection.and_then(|it| it.peer.as_route());
        if route.is_some_and(Route::is_overdue) {
            let timeout = self.settings.options.cluster.auth_timeout();
            self.set_deadline(conn, timeout, Purpose::Connect);
            self.note_stranger(conn);
        }
    }

    /// Sends lines to another server, and ends the connection if there is a reason to.
    pub(super) fn tell_route(&mut self, origin: Origin, line: &[u8], end: Option<CloseReason>) {
        let connection = self.connections.get(origin.conn as usize);
        let is_it = |it: &super::Connection| it.serial == origin.serial && it.closing.is_none();
        if !connection.is_some_and(is_it) {
            return;
        }
        if !line.is_empty() {
            self.send(origin.conn, line);
        }
        if let Some(reason) = end {
            self.begin_closing(origin.conn, reason);
        }
    }

    /// After a change of what servers go by as they meet: ends the greetings that are under way, which have begun by what was
    /// before. Those that are part of the cluster are the control thread's to end.
    pub(super) fn end_greetings(&mut self, old: &Settings) {
        let (before, after) = (&old.options.cluster, &self.settings.options.cluster);
        let is_same = before.name == after.name
            && before.pool_size == after.pool_size
            && before.accounts == after.accounts
            && before.tls == after.tls
            && (&before.user, &before.password) == (&after.user, &after.password);
        if is_same {
            return;
        }
        for conn in self.slots() {
            let connection = self.connections.get(conn as usize);
            let route = connection.and_then(|it| it.peer.as_route());
            if route.is_some_and(|it| !it.is_admitted()) {
                self.begin_closing(conn, CloseReason::RouteRemoved);
            }
        }
    }

    /// Goes over to other facts about this server and its cluster.
    pub(super) fn go_by(&mut self, facts: Arc<ClusterFacts>, inform: bool, tell: bool) {
        self.engine.set_facts(Arc::clone(&facts));
        let old = std::mem::replace(&mut self.facts, facts);
        self.renew_info();
        if old.compression != self.facts.compression {
            self.renew_compression();
        }
        if tell {
            let mut line = Vec::new();
            self.facts.info.encode(None, &mut line);
            for conn in self.slots() {
                let Some(parts) = self.parts(conn) else {
                    continue;
                };
                if let Peer::Route(route) = &mut parts.connection.peer {
                    parts.engine.retell(route, &line, parts.outlets);
                }
            }
        }
        if inform {
            self.inform();
        }
    }

    /// Goes over to other settings of compression: at once, or by way of new connections.
    fn renew_compression(&mut self) {
        for conn in self.slots() {
            let connection = self.connections.get_mut(conn as usize);
            let Some(session) = connection.and_then(|it| it.peer.as_route_mut()) else {
                continue;
            };
            if !session.renew_compression(&self.facts) {
                self.begin_closing(conn, CloseReason::ClientClosed);
            } else if let Some(level) = session.level() {
                self.outlets.set_level(conn, level);
            }
        }
    }

    /// Works out what INFO says to clients.
    pub(super) fn renew_info(&mut self) {
        self.info = self.settings.info.clone();
        self.facts.complete(&mut self.info);
    }

    /// How long the socket of a connection may take nothing.
    pub(super) fn write_deadline(&mut self, conn: u32) -> Duration {
        let options = &self.settings.options;
        let own = options.write_deadline;
        let for_routes = options.cluster.write_deadline.unwrap_or(own);
        let is_route = self.outlets.get(conn).is_some_and(|it| it.label.is_route);
        if is_route { for_routes } else { own }
    }

    pub(super) fn report_route_closing(&mut self, conn: u32, reason: CloseReason) {
        let Some(connection) = self.connections.get(conn as usize) else {
            return;
        };
        let Some(session) = connection.peer.as_route() else {
            return;
        };
        let log = &self.shared.log;
        match reason {
            CloseReason::AuthenticationFailure => {
                let credentials = session.credentials();
                error!(log, "{session} - authentication error{credentials}");
            }
            CloseReason::AuthenticationTimeout => debug!(log, "{session} - {reason}"),
            CloseReason::IncorrectPort => {
                let text = reason.wire_text().unwrap_or_default();
                error!(log, "{session} - {text}");
            }
            CloseReason::Stale => {
                self.shared.stale.add(true);
                debug!(log, "{session} - Stale Client Connection - Closing");
            }
            _ => {}
        }
        let remote = session.remote().map(|it| &it.server_name);
        let remote = remote.filter(|it| !it.is_empty());
        let remote = remote.map_or_else(String::new, |it| {
            format!(" - Remote: {}", it.escape_debug())
        });
        info!(
            log,
            "{session} - Router connection closed: {reason}{remote}"
        );
        if let Some(origin) = self.origin(conn) {
            self.post_closed(origin, session);
        }
    }

    fn post_closed(&self, origin: Origin, session: &Route) {
        let dial = match session.side() {
            Side::Dialled(dial) => Some(dial.number),
            Side::Accepted => None,
        };
        self.shared.desk.post(Happening::Closed { origin, dial });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;
    use crate::config::options::{Options, Secret};
    use crate::net::fixture;
    use crate::net::mailbox::Command;

    /// A worker with these options, the end of another server that has come, and its slot.
    fn visited(options: Options) -> (Worker, TcpStream, u32) {
        let (mut polls, shared) = fixture::shared(1);
        let settings = fixture::settings(options);
        let mut worker = Worker::new(0, polls.swap_remove(0), shared, settings, 1);
        worker.obey(Command::Facts {
            facts: Arc::new(ClusterFacts::default()),
            inform: false,
            tell: false,
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("an address"));
        let (socket, addr) = listener.accept().expect("its other end");
        socket.set_nonblocking(true).expect("a flag");
        worker.obey(Command::Adopt {
            socket: mio::net::TcpStream::from_std(socket),
            session: Arrival::Route(Box::new(Route::new(1, addr, Side::Accepted, ""))),
            refuse: None,
            place: None,
        });
        let conn = worker.slots()[0];
        (worker, peer.expect("a connection"), conn)
    }

    #[test]
    fn whoever_has_logged_in_has_only_so_long_to_say_who_it_is() {
        let mut options = Options::default();
        let hash = bcrypt::hash("p", 4).expect("a hash");
        options.cluster.user = Some("u".into());
        options.cluster.password = Some(Secret::new(&hash));
        let timeout = options.cluster.auth_timeout();
        let (mut worker, _peer, conn) = visited(options);
        worker.feed(conn, b"CONNECT {\"user\":\"u\",\"pass\":\"p\"}\r\n");
        let is_waiting = |it: &Worker| it.connections[conn as usize].peer.is_waiting();
        assert!(is_waiting(&worker));
        // It takes longer to check the password than to wait for it.
        worker.outlets.now += timeout;
        worker.fire_timers();
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_waiting(&worker) {
            assert!(Instant::now() < deadline, "the password is not checked");
            worker.take_mail();
        }
        assert!(worker.connections[conn as usize].closing.is_none());
        worker.outlets.now += timeout;
        worker.fire_timers();
        let connection = worker.connections.get(conn as usize);
        let reason = connection.and_then(|it| it.closing);
        assert_eq!(reason, Some(CloseReason::AuthenticationTimeout));
    }

    #[test]
    fn whoever_has_logged_in_by_what_is_not_in_force_any_longer_is_not_let_in() {
        let (mut worker, _peer, conn) = visited(Options::default());
        worker.feed(conn, b"CONNECT {}\r\n");
        let reload = |worker: &mut Worker, options: Options| {
            worker.obey(Command::Settings {
                settings: fixture::settings(options),
                inform: false,
            });
        };
        reload(&mut worker, Options::default());
        assert!(worker.connections[conn as usize].closing.is_none());
        let origin = worker.origin(conn).expect("a connection");
        let mut options = Options::default();
        options.cluster.user = Some("other".into());
        reload(&mut worker, options);
        // The control thread has not heard of the reload yet.
        worker.feed(conn, b"INFO {\"server_id\":\"N\"}\r\n");
        worker.obey(Command::Admit(origin));
        let connection = worker.connections.get(conn as usize);
        assert!(connection.is_none_or(|it| it.closing == Some(CloseReason::RouteRemoved)));
        let happenings = worker.shared.desk.take();
        let closed =
            |it: &Happening| matches!(it, Happening::Closed { origin: it, .. } if *it == origin);
        assert!(happenings.iter().any(closed), "{happenings:?}");
    }
}
