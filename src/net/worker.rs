//! One worker: a thread, a poll loop, and the connections it owns.
//!
//! ```text
//! turn:  sleep ▶ mail ▶ read and feed those that are ready, one read each ▶ hand over, write ▶ close ▶ timers
//! ```
//!
//! Events are edge-triggered: a connection stays in the ready list until a read came back short. Whoever has more to
//! read than one buffer takes its turn again behind the others.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::mem;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::mailbox::{Batch, Command, Mail, Mailbox, Origin, Settings, WAKE};
use super::outlet::{Label, Outlet};
use super::outlets::Outlets;
use super::timers::{Deadline, Purpose, Timers};
use super::verifier::Verifier;
use crate::broker::Broker;
use crate::engine::{Delivery, End, Engine, Peer, Sink as _};
use crate::id;
use crate::limits;
use crate::log::{Logger, debug, error, info};
use crate::proto::encode::error_line;
use crate::rng::Rng;
use crate::session::{Beat, Client, CloseReason, Context, Verdict};

/// Events taken from the system at once.
const EVENTS: usize = 256;

/// What the threads of a server share.
#[derive(Debug)]
pub struct Shared {
    /// Accounts and their tries.
    pub broker: Arc<Broker>,
    /// One for each worker.
    pub mailboxes: Vec<Mailbox>,
    /// Where to write the log.
    pub log: Logger,
    /// Connections that are being served, by worker.
    pub connections: Vec<AtomicUsize>,
    /// Connections that were closed because they were too slow.
    pub slow_consumers: AtomicUsize,
    /// Checks passwords.
    pub verifier: Verifier,
    /// Bytes that wait to be sent, as of the last turn of each worker; 0 where no limit makes it worth counting.
    pub buffered: AtomicUsize,
}

impl Shared {
    /// Connections of all workers.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        let counts = self.connections.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that wait somewhere between two sockets.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let mailboxes: usize = self.mailboxes.iter().map(Mailbox::backlog).sum();
        self.buffered.load(Ordering::Relaxed) + mailboxes
    }

    /// Has `count` connections closed, any of them as likely as the others.
    pub fn close_some(&self, count: usize, reason: CloseReason, rng: &mut Rng) {
        let counts = self.connections.iter();
        let mut left: Vec<usize> = counts.map(|count| count.load(Ordering::Relaxed)).collect();
        let mut chosen = vec![0; left.len()];
        for _ in 0..count {
            let mut at = rng.below(left.iter().sum());
            for (left, chosen) in left.iter_mut().zip(&mut chosen) {
                if at < *left {
                    *left -= 1;
                    *chosen += 1;
                    break;
                }
                at -= *left;
            }
        }
        for (mailbox, &count) in self.mailboxes.iter().zip(&chosen) {
            if count > 0 {
                mailbox.command(Command::Close { count, reason });
            }
        }
    }
}

/// The receiving side of a connection.
#[derive(Debug)]
struct Connection {
    peer: Peer,
    serial: u32,
    /// Bytes that were read and not consumed: the start of an unfinished operation, or more while it pauses.
    kept: Vec<u8>,
    /// Bytes in `kept` may be fed without reading more.
    unfed: bool,
    /// The socket may have something to read.
    readable: bool,
    /// The peer has closed its side, so a short read is not the last one.
    hung_up: bool,
    /// It is in the ready list.
    listed: bool,
    /// Until when it is not read from, for the sake of a slow consumer.
    stalled: Option<Instant>,
    /// When the keepalive is due; other deadlines of that kind are old.
    beat_at: Instant,
    /// It ends as soon as what is queued for it is written.
    closing: Option<CloseReason>,
    /// That is written, and our side closed; what is left is to wait for the peer's, so that it can read to the end.
    parting: bool,
}

/// The loop's state.
pub struct Worker {
    index: u16,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    poll: Poll,
    connections: Slab<Connection>,
    next_serial: u32,
    engine: Engine,
    outlets: Outlets,
    timers: Timers,
    /// Connections of which CONNECT is or was awaited, the oldest first.
    strangers: VecDeque<Origin>,
    rng: Rng,
    /// Connections to serve in this turn or the next.
    ready: Vec<u32>,
    read_buffer: Vec<u8>,
    mail: Mail,
    /// When to give spare memory back, if nothing happens until then.
    trim_at: Option<Instant>,
    /// When the server is stopping: until when clients may take what is queued for them.
    stopping: Option<Instant>,
    /// This worker's part of [`Shared::buffered`].
    buffered: usize,
}

impl Worker {
    /// A worker that has not started. `poll` is the one its mailbox wakes.
    #[must_use]
    pub fn new(
        index: u16,
        poll: Poll,
        shared: Arc<Shared>,
        settings: Arc<Settings>,
        seed: u64,
    ) -> Self {
        Worker {
            index,
            poll,
            engine: Engine::new(Arc::clone(&shared.broker), index, seed),
            outlets: Outlets::new(Arc::clone(&shared), Arc::clone(&settings), index),
            shared,
            settings,
            connections: Slab::new(),
            next_serial: 0,
            timers: Timers::default(),
            strangers: VecDeque::new(),
            rng: Rng::seeded(!seed),
            ready: Vec::new(),
            read_buffer: Vec::new(),
            mail: Mail::default(),
            trim_at: None,
            stopping: None,
            buffered: 0,
        }
    }

    /// Serves until it is told to stop.
    ///
    /// # Panics
    ///
    /// If the system refuses to poll, which ends the process.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.sleep(&mut events);
            self.outlets.start_turn(Instant::now());
            self.take_mail();
            for event in &events {
                if event.token() != WAKE {
                    let closed = event.is_read_closed() || event.is_error();
                    self.on_event(
                        slot(event.token().0),
                        event.is_readable() || closed,
                        event.is_writable(),
                        closed,
                    );
                }
            }
            self.serve_ready();
            self.finish_turn();
            self.keep_budget();
            self.fire_timers();
            if self.is_done() {
                return;
            }
        }
    }

    fn sleep(&mut self, events: &mut Events) {
        let wake_at = [self.timers.next(), self.trim_at, self.stopping]
            .into_iter()
            .flatten()
            .min();
        let mailbox = &self.shared.mailboxes[usize::from(self.index)];
        let timeout = if !self.ready.is_empty() || !mailbox.fall_asleep() {
            Some(Duration::ZERO)
        } else {
            wake_at.map(|at| at.saturating_duration_since(Instant::now()))
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("cannot poll: {error}"),
            _ => {}
        }
        self.shared.mailboxes[usize::from(self.index)].wake_up();
    }

    fn on_event(&mut self, conn: u32, readable: bool, writable: bool, closed: bool) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        connection.readable |= readable;
        connection.hung_up |= closed;
        if readable {
            self.list(conn);
        }
        if writable {
            if let Some(outlet) = self
                .outlets
                .get(conn)
                .filter(|outlet| outlet.blocked_since().is_some())
            {
                outlet.unblock();
                self.outlets.flush(conn);
                self.finish_closing(conn);
            }
        }
    }

    fn list(&mut self, conn: u32) {
        if let Some(connection) = self
            .connections
            .get_mut(conn as usize)
            .filter(|connection| !connection.listed)
        {
            connection.listed = true;
            self.ready.push(conn);
        }
    }

    // ---- mail ----

    fn take_mail(&mut self) {
        let mailbox = usize::from(self.index);
        while self.shared.mailboxes[mailbox].is_filled() {
            let mut mail = mem::take(&mut self.mail);
            self.shared.mailboxes[mailbox].take(&mut mail);
            for batch in mail.batches.drain(..) {
                self.work_off(&batch);
                self.shared.mailboxes[mailbox].give_back(batch);
            }
            for command in mail.commands.drain(..) {
                self.obey(command);
            }
            self.mail = mail;
        }
    }

    fn work_off(&mut self, batch: &Batch) {
        let Worker {
            connections,
            engine,
            outlets,
            shared,
            index,
            ..
        } = self;
        let mut told: Option<Origin> = None;
        batch.for_each(|from, letter| {
            outlets.origin = from;
            let is_publisher = |it: &Connection| it.serial == from.serial;
            let publisher = connections
                .get(from.conn as usize)
                .filter(|it| from.worker == *index && is_publisher(it))
                .map(|_| from.conn);
            let now = outlets.now;
            let filling = engine.receive(letter, publisher, now, outlets) == Delivery::Filling;
            let pause = outlets.pause.take();
            if let (true, Some(pause), Some(mailbox)) = (
                filling && told != Some(from),
                pause,
                shared.mailboxes.get(usize::from(from.worker)),
            ) {
                told = Some(from);
                mailbox.command(Command::Stall(from, pause));
            }
        });
        for &origin in batch.waiting() {
            outlets.resume(origin);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Adopt {
                socket,
                session,
                refuse,
            } => self.adopt(socket, *session, refuse),
            Command::Stall(origin, pause) => {
                let serial = self
                    .connections
                    .get(origin.conn as usize)
                    .map(|connection| connection.serial);
                if serial == Some(origin.serial) {
                    self.stall(origin.conn, pause);
                }
            }
            Command::Resume(origin) => self.unstall(origin.conn, origin.serial),
            Command::Verified { origin, verdict } => self.on_verified(origin, verdict),
            Command::Close { count, reason } => self.close_some(count, reason),
            Command::Settings { settings, inform } => {
                self.outlets.settings = Arc::clone(&settings);
                self.settings = settings;
                if inform {
                    self.inform();
                }
            }
            Command::Stop => {
                self.stopping = Some(self.outlets.now + limits::FLUSH_AT_STOP);
                for conn in self.slots() {
                    self.begin_closing(conn, CloseReason::ServerShutdown);
                }
            }
        }
    }

    fn slots(&self) -> Vec<u32> {
        self.connections.iter().map(|(key, _)| slot(key)).collect()
    }

    fn close_some(&mut self, count: usize, reason: CloseReason) {
        let open = self
            .connections
            .iter()
            .filter(|(_, it)| it.closing.is_none());
        let mut open: Vec<u32> = open.map(|(key, _)| slot(key)).collect();
        for _ in 0..count.min(open.len()) {
            let conn = open.swap_remove(self.rng.below(open.len()));
            self.end_with_text(conn, reason);
        }
    }

    /// Sends INFO to every client that takes one at any time.
    fn inform(&mut self) {
        for conn in self.slots() {
            let mut line = Vec::new();
            let open = self.connections.get(conn as usize);
            if let Some(connection) = open.filter(|it| it.closing.is_none()) {
                let lame_duck = self.settings.info.lame_duck;
                let session = &connection.peer.session;
                session.notify(
                    &context(&self.settings, self.outlets.now),
                    lame_duck,
                    &mut line,
                );
            }
            if !line.is_empty() {
                self.send(conn, &line);
            }
        }
    }

    // ---- the life of a connection ----

    fn adopt(&mut self, mut socket: TcpStream, mut session: Client, refuse: Option<CloseReason>) {
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
            self.shared.connections[usize::from(self.index)].fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (now, serial) = (self.outlets.now, self.next_serial);
        self.next_serial = serial.wrapping_add(1);
        let label = Label {
            addr: session.addr(),
            id: session.id(),
        };
        debug!(self.shared.log, "{label} - Client connection created");
        let auth = &self.settings.auth;
        if auth.has_nkeys() {
            session.set_nonce(&id::nonce());
        }
        let is_stranger = session.is_stranger(auth);
        let mut greeting = Vec::new();
        session.greet(&context(&self.settings, now), &mut greeting);
        let beat_at = now + self.settings.options.ping_interval;
        entry.insert(Connection {
            peer: Peer::new(conn, 0, session),
            serial,
            kept: Vec::new(),
            unfed: false,
            readable: false,
            hung_up: false,
            listed: false,
            stalled: None,
            beat_at,
            closing: None,
            parting: false,
        });
        self.outlets
            .insert(conn, Outlet::new(socket, label, serial));
        self.timers.set(Deadline {
            at: beat_at,
            conn,
            serial,
            purpose: Purpose::Ping,
        });
        self.send(conn, &greeting);
        match refuse {
            Some(reason) => self.end_with_text(conn, reason),
            None if is_stranger => self.await_connect(conn, serial),
            None => {}
        }
    }

    /// Gives a stranger a while to send CONNECT. If there are too many strangers, the oldest has had its while.
    fn await_connect(&mut self, conn: u32, serial: u32) {
        self.timers.set(Deadline {
            at: self.outlets.now + self.settings.options.auth_timeout,
            conn,
            serial,
            purpose: Purpose::Connect,
        });
        let origin = Origin {
            worker: self.index,
            conn,
            serial,
        };
        self.strangers.push_back(origin);
        if self.strangers.len() > limits::UNAUTHENTICATED_MAX {
            let mut strangers = mem::take(&mut self.strangers);
            strangers.retain(|&origin| self.is_overdue(origin));
            if strangers.len() > limits::UNAUTHENTICATED_MAX {
                if let Some(oldest) = strangers.pop_front() {
                    self.end_with_text(oldest.conn, CloseReason::AuthenticationTimeout);
                }
            }
            self.strangers = strangers;
        }
    }

    /// Whether that connection's CONNECT is still awaited.
    fn is_overdue(&self, origin: Origin) -> bool {
        let connection = self.connections.get(origin.conn as usize);
        connection.is_some_and(|it| {
            let is_it = it.serial == origin.serial && it.closing.is_none();
            is_it && it.peer.session.is_overdue(&self.settings.auth)
        })
    }

    /// A challenge of that connection was answered: it goes on, or ends.
    fn on_verified(&mut self, origin: Origin, verdict: Option<Verdict>) {
        let Worker {
            connections,
            engine,
            outlets,
            settings,
            ..
        } = self;
        let Some(connection) = connections
            .get_mut(origin.conn as usize)
            .filter(|it| it.serial == origin.serial && it.closing.is_none())
        else {
            return;
        };
        let Some(verdict) = verdict else {
            return self.end_with_text(origin.conn, CloseReason::AuthenticationTimeout);
        };
        outlets.origin = origin;
        outlets.pause = None;
        let context = context(settings, outlets.now);
        let peer = &mut connection.peer;
        match engine.on_verified(peer, verdict, &context, outlets) {
            Ok(()) => {
                connection.unfed = !connection.kept.is_empty();
                self.list(origin.conn);
            }
            Err(reason) => self.begin_closing(origin.conn, reason),
        }
    }

    fn send(&mut self, conn: u32, bytes: &[u8]) {
        self.outlets.reply(conn, bytes);
    }

    /// Tells the peer why, and ends the connection.
    fn end_with_text(&mut self, conn: u32, reason: CloseReason) {
        if let Some(text) = reason.wire_text() {
            let mut line = Vec::new();
            error_line(text, &mut line);
            self.send(conn, &line);
        }
        self.begin_closing(conn, reason);
    }

    /// Nothing more is read or delivered; what is queued is still written.
    fn begin_closing(&mut self, conn: u32, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        if connection.closing.is_none() {
            connection.closing = Some(reason);
            connection.kept = Vec::new();
            self.engine.part(&mut connection.peer);
            self.report_closing(conn, reason);
        }
        if let Some(outlet) = self.outlets.get(conn) {
            outlet.closing = true;
            if outlet.blocked_since().is_none() {
                self.outlets.flush(conn);
            }
        }
        self.finish_closing(conn);
    }

    fn report_closing(&mut self, conn: u32, reason: CloseReason) {
        let (Some(connection), Some(outlet)) =
            (self.connections.get(conn as usize), self.outlets.get(conn))
        else {
            return;
        };
        let (session, log, options) = (
            &connection.peer.session,
            &self.shared.log,
            &self.settings.options,
        );
        match reason {
            CloseReason::SlowConsumerPending => {
                info!(
                    log,
                    "{session} - Slow Consumer Detected: MaxPending of {} Exceeded",
                    options.max_pending
                );
            }
            CloseReason::SlowConsumerDeadline => {
                let (limit, chunks, bytes) = (
                    options.write_deadline,
                    outlet.chunk_count(),
                    outlet.pending(),
                );
                let what =
                    format!("{limit:?} exceeded with {chunks} chunks of {bytes} total bytes.");
                info!(
                    log,
                    "{session} - Slow Consumer Detected: WriteDeadline of {what}"
                );
            }
            CloseReason::AuthenticationFailure => {
                if let Some(flaw) = session.flaw() {
                    debug!(log, "{session} - {flaw}");
                }
                let credentials = session.credentials();
                error!(log, "{session} - authentication error{credentials}");
            }
            CloseReason::AuthenticationTimeout => debug!(log, "{session} - {reason}"),
            CloseReason::AccountConnections => {
                let text = reason.wire_text().unwrap_or_default();
                error!(log, "{session} - {text}");
            }
            CloseReason::SlowConsumerMemory => {
                let limit = options.memory_limit.unwrap_or_default();
                let what = format!("memory_limit of {limit} Exceeded");
                info!(log, "{session} - Slow Consumer Detected: {what}");
            }
            CloseReason::Stale => debug!(log, "{session} - Stale Client Connection - Closing"),
            _ => {}
        }
        if is_slow_consumer(reason) {
            self.shared.slow_consumers.fetch_add(1, Ordering::Relaxed);
        }
        debug!(log, "{session} - Client connection closed: {reason}");
    }

    /// Parts with a closing connection once nothing is left to write.
    fn finish_closing(&mut self, conn: u32) {
        let (Some(connection), Some(outlet)) = (
            self.connections.get_mut(conn as usize),
            self.outlets.get(conn),
        ) else {
            return;
        };
        let Some(reason) = connection.closing.filter(|_| outlet.pending() == 0) else {
            return;
        };
        if !has_last_words(reason)
            || connection.hung_up
            || outlet.socket.shutdown(Shutdown::Write).is_err()
        {
            return self.remove(conn);
        }
        if !mem::replace(&mut connection.parting, true) {
            let (at, serial) = (self.outlets.now + limits::PARTING, connection.serial);
            self.timers.set(Deadline {
                at,
                conn,
                serial,
                purpose: Purpose::Part,
            });
            self.part(conn);
        }
    }

    /// Reads on, to no end but this: bytes of the peer that nobody has read would make the system throw away what it
    /// has not sent yet.
    fn part(&mut self, conn: u32) {
        let Some(outlet) = self.outlets.get(conn) else {
            return;
        };
        let mut scrap = [0; 4096];
        match (&outlet.socket).read(&mut scrap) {
            Ok(1..) => {
                if let Some(connection) = self.connections.get_mut(conn as usize) {
                    connection.readable = true;
                    self.list(conn);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.remove(conn),
        }
    }

    fn remove(&mut self, conn: u32) {
        // Before the socket goes: whoever sees its end may connect at once, and finds the place free.
        if self.connections.try_remove(conn as usize).is_some() {
            self.shared.connections[usize::from(self.index)].fetch_sub(1, Ordering::Relaxed);
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

    // ---- reading ----

    fn serve_ready(&mut self) {
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
    fn serve(&mut self, conn: u32) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        if connection.parting {
            return self.part(conn);
        }
        let is_verifying = connection.peer.session.is_verifying();
        if connection.stalled.is_some() || connection.closing.is_some() || is_verifying {
            return;
        }
        if connection.unfed {
            connection.unfed = false;
            let bytes = mem::take(&mut connection.kept);
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
        let kept = connection.kept.len().max(limits::READ_BYTES);
        let mut buffer = mem::take(&mut self.read_buffer);
        buffer.resize(kept + limits::READ_BYTES, 0);
        self.read_small(conn, &mut buffer);
        buffer.truncate(2 * limits::READ_BYTES);
        buffer.shrink_to(2 * limits::READ_BYTES);
        self.read_buffer = buffer;
    }

    /// Reads into the worker's buffer, behind what was left of the last read, so that an operation is one run of bytes.
    fn read_small(&mut self, conn: u32, buffer: &mut [u8]) {
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
        let most = if connection.peer.session.is_stranger(&self.settings.auth) {
            limits::UNAUTHENTICATED_READ_BYTES
        } else {
            limits::READ_BYTES
        };
        let room = back.len().min(most);
        match (&outlet.socket).read(back.get_mut(..room).unwrap_or_default()) {
            Ok(0) => self.begin_closing(conn, CloseReason::ClientClosed),
            Ok(len) => {
                connection.kept = Vec::new();
                connection.readable = len == room || connection.hung_up;
                if connection.readable {
                    self.list(conn);
                }
                self.feed(conn, buffer.get(..start + len).unwrap_or_default());
            }
            Err(error) => self.on_read_error(conn, error.kind()),
        }
    }

    /// Reads a message that is too large for the worker's buffer into one of its own, to its last byte and no further.
    fn read_large(&mut self, conn: u32) {
        let (Some(connection), Some(outlet)) = (
            self.connections.get_mut(conn as usize),
            self.outlets.get(conn),
        ) else {
            return;
        };
        let missing = connection.peer.wanted() - connection.kept.len();
        connection.kept.reserve_exact(missing);
        let before = connection.kept.len();
        let result = (&outlet.socket)
            .take(missing as u64)
            .read_to_end(&mut connection.kept);
        match result {
            _ if connection.kept.len() - before == missing => {
                let bytes = mem::take(&mut connection.kept);
                self.list(conn);
                self.feed(conn, &bytes);
            }
            Ok(_) => self.begin_closing(conn, CloseReason::ClientClosed),
            Err(error) => self.on_read_error(conn, error.kind()),
        }
    }

    fn on_read_error(&mut self, conn: u32, kind: ErrorKind) {
        match (kind, self.connections.get_mut(conn as usize)) {
            (ErrorKind::WouldBlock, Some(connection)) => connection.readable = false,
            (ErrorKind::Interrupted, _) => self.list(conn),
            _ => self.begin_closing(conn, CloseReason::ReadError),
        }
    }

    fn feed(&mut self, conn: u32, bytes: &[u8]) {
        // Whoever sent this may have seen what other workers have handed over to us: that comes first.
        self.take_mail();
        let Worker {
            connections,
            engine,
            outlets,
            settings,
            ..
        } = self;
        let Some(connection) = connections
            .get_mut(conn as usize)
            .filter(|it| it.closing.is_none())
        else {
            return;
        };
        outlets.origin = Origin {
            worker: self.index,
            conn,
            serial: connection.serial,
        };
        outlets.pause = None;
        let was_connected = connection.peer.session.connect().is_some();
        let context = context(settings, outlets.now);
        let fed = engine.feed(&mut connection.peer, bytes, &context, outlets);
        connection
            .kept
            .extend_from_slice(bytes.get(fed.consumed..).unwrap_or_default());
        if !was_connected && connection.peer.session.connect().is_some() {
            self.on_connected(conn);
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
            End::Close(reason) => self.begin_closing(conn, reason),
        }
    }

    /// Has a password checked; the connection is not read from until that is done.
    fn verify(&mut self, conn: u32) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        let session = &mut connection.peer.session;
        let Some(challenge) = session.take_challenge() else {
            return;
        };
        let origin = Origin {
            worker: self.index,
            conn,
            serial: connection.serial,
        };
        let addr = session.addr().ip();
        let life = self.settings.options.password_cache;
        let verdict = Verifier::submit(&self.shared, addr, origin, challenge, life);
        if verdict.is_some() {
            self.on_verified(origin, verdict);
        }
    }

    fn on_connected(&mut self, conn: u32) {
        let random = self.rng.below(1000) as f64 / 1000.0;
        let interval = self.settings.options.ping_interval;
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        let span = connection
            .peer
            .session
            .keepalive
            .connected(interval, random);
        connection.beat_at = self.outlets.now + span;
        let (at, serial) = (connection.beat_at, connection.serial);
        self.timers.set(Deadline {
            at,
            conn,
            serial,
            purpose: Purpose::Ping,
        });
    }

    fn stall(&mut self, conn: u32, pause: Duration) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        let at = self.outlets.now + pause;
        connection.stalled = Some(at);
        let serial = connection.serial;
        self.timers.set(Deadline {
            at,
            conn,
            serial,
            purpose: Purpose::Unstall,
        });
    }

    fn unstall(&mut self, conn: u32, serial: u32) {
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        if connection.serial == serial && connection.stalled.take().is_some() {
            self.list(conn);
        }
    }

    // ---- the end of a turn ----

    fn finish_turn(&mut self) {
        self.outlets.flush_all();
        while let Some((conn, reason)) = self.outlets.doomed.pop() {
            self.begin_closing(conn, reason);
        }
        while let Some(origin) = self.outlets.resumed.pop() {
            self.unstall(origin.conn, origin.serial);
        }
        while let Some(conn) = self.outlets.blocked.pop() {
            let at = self.outlets.now + self.settings.options.write_deadline;
            if let Some(outlet) = self.outlets.get(conn) {
                let serial = outlet.serial;
                self.timers.set(Deadline {
                    at,
                    conn,
                    serial,
                    purpose: Purpose::Write,
                });
            }
        }
        if !self.read_buffer.is_empty() && self.trim_at.is_none() {
            self.trim_at = Some(self.outlets.now + limits::IDLE_TRIM);
        }
    }

    /// Where memory is limited and all workers together hold too much of it, this one gives its slowest consumer up.
    ///
    /// The sum of what is pending is cheap, and never less than what it takes: only above the limit it is worth looking
    /// at what queues share.
    fn keep_budget(&mut self) {
        let Some(limit) = self.settings.options.memory_limit else {
            return self.publish_buffered(0);
        };
        self.publish_buffered(self.outlets.pool.pending);
        if self.shared.buffered_bytes() <= limit {
            return;
        }
        self.publish_buffered(self.outlets.memory());
        if self.shared.buffered_bytes() <= limit {
            return;
        }
        if let Some(conn) = self.outlets.slowest() {
            self.outlets.give_up(conn, CloseReason::SlowConsumerMemory);
            self.publish_buffered(self.outlets.memory());
        }
    }

    fn publish_buffered(&mut self, bytes: usize) {
        let (buffered, total) = (
            mem::replace(&mut self.buffered, bytes),
            &self.shared.buffered,
        );
        match bytes.checked_sub(buffered) {
            Some(0) => {}
            Some(more) => drop(total.fetch_add(more, Ordering::Relaxed)),
            None => drop(total.fetch_sub(buffered - bytes, Ordering::Relaxed)),
        }
    }

    fn fire_timers(&mut self) {
        let now = self.outlets.now;
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.trim();
        }
        while let Some(deadline) = self.timers.due(now) {
            let live = self
                .connections
                .get(deadline.conn as usize)
                .filter(|c| c.serial == deadline.serial);
            match (live, deadline.purpose) {
                (None, _) => {}
                (Some(connection), Purpose::Ping) if connection.beat_at == deadline.at => {
                    self.beat(deadline.conn)
                }
                (Some(connection), Purpose::Unstall) if connection.stalled == Some(deadline.at) => {
                    self.unstall(deadline.conn, deadline.serial);
                }
                (Some(_), Purpose::Part) => self.remove(deadline.conn),
                (Some(connection), Purpose::Connect)
                    if connection.closing.is_none()
                        && connection.peer.session.is_overdue(&self.settings.auth) =>
                {
                    self.end_with_text(deadline.conn, CloseReason::AuthenticationTimeout);
                }
                (Some(_), Purpose::Write) => self.check_writing(deadline.conn, deadline.serial),
                _ => {}
            }
        }
        // What the timers queued must not wait for the next turn.
        self.outlets.flush_all();
        while let Some((conn, reason)) = self.outlets.doomed.pop() {
            self.begin_closing(conn, reason);
        }
    }

    /// Gives back what a busy time needed. Whatever of it is needed again costs one allocation.
    fn trim(&mut self) {
        self.read_buffer = Vec::new();
        self.mail = Mail::default();
        self.ready.shrink_to_fit();
        self.engine.trim();
        self.outlets.trim();
    }

    fn beat(&mut self, conn: u32) {
        let options = &self.settings.options;
        let Some(connection) = self.connections.get_mut(conn as usize) else {
            return;
        };
        let interval = options.ping_interval;
        let beat = connection
            .peer
            .session
            .keepalive
            .beat(interval, options.ping_max);
        connection.beat_at = self.outlets.now + interval;
        let (at, serial) = (connection.beat_at, connection.serial);
        debug!(
            self.shared.log,
            "{} - Client Ping Timer", connection.peer.session
        );
        match beat {
            Beat::Skip => {}
            Beat::Ping => self.send(conn, b"PING\r\n"),
            Beat::Stale => return self.end_with_text(conn, CloseReason::Stale),
        }
        self.timers.set(Deadline {
            at,
            conn,
            serial,
            purpose: Purpose::Ping,
        });
    }

    /// A socket took nothing some time ago: is that still so?
    fn check_writing(&mut self, conn: u32, serial: u32) {
        let (now, limit) = (self.outlets.now, self.settings.options.write_deadline);
        let Some(outlet) = self.outlets.get(conn) else {
            return;
        };
        let Some(since) = outlet.blocked_since() else {
            outlet.watched = false;
            return;
        };
        if now.saturating_duration_since(since) < limit {
            return self.timers.set(Deadline {
                at: since + limit,
                conn,
                serial,
                purpose: Purpose::Write,
            });
        }
        if self
            .connections
            .get(conn as usize)
            .is_some_and(|connection| connection.closing.is_some())
        {
            return self.remove(conn);
        }
        self.begin_closing(conn, CloseReason::SlowConsumerDeadline);
        self.remove(conn);
    }

    fn is_done(&self) -> bool {
        self.stopping
            .is_some_and(|until| self.connections.is_empty() || until <= self.outlets.now)
    }
}

fn context(settings: &Settings, now: Instant) -> Context<'_> {
    Context {
        options: &settings.options,
        info: &settings.info,
        auth: &settings.auth,
        now,
    }
}

fn slot(key: usize) -> u32 {
    u32::try_from(key).expect("a process has fewer than 2^32 descriptors")
}

fn is_slow_consumer(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::SlowConsumerPending
            | CloseReason::SlowConsumerDeadline
            | CloseReason::SlowConsumerMemory
    )
}

/// Whether the peer should be able to read to the end what was sent to it.
fn has_last_words(reason: CloseReason) -> bool {
    match reason {
        CloseReason::ClientClosed | CloseReason::ReadError | CloseReason::WriteError => false,
        reason if is_slow_consumer(reason) => false,
        // One too many must not take up a descriptor any longer.
        CloseReason::Connections => false,
        _ => true,
    }
}
