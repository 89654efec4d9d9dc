//! One worker: a thread, a poll loop, and the connections it owns.
//!
//! ```text
//! turn:  wait ▶ note who is ready ▶ mail ▶ read and feed those, one read each ▶ hand over, write ▶ close ▶ timers
//! ```
//!
//! Events are edge-triggered: a connection stays in the ready list until a read came back short. Whoever has more to
//! read than one read may take, which is more while turns are short, takes its turn again behind the others.
//!
//! A wait is a sleep that an event, the mailbox or the next deadline ends; where sleep has proved too short to pay, the
//! worker [polls](super::busy_poll) for a moment before it.

mod events;
mod handshake;
mod life;
mod mail;
mod parts;
mod read;
mod route;
mod routez;
mod survey;
mod tracing;
mod turn;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use slab::Slab;

use self::handshake::Phase;
use super::addresses::Place;
use super::busy_poll::{BusyPoll, Found, Recipient, Work};
use super::mailbox::{Mail, Mailbox, Origin, Settings, WAKE};
use super::outlets::Outlets;
use super::read_size::ReadSize;
use super::shared::Shared;
use super::timers::Timers;
use crate::engine::{Engine, Peer, Sink as _};
use crate::limits;
use crate::monitor::snapshot::AccountTraffic;
use crate::proto::info::ServerInfo;
use crate::rng::Rng;
use crate::session::{CloseReason, ClusterFacts, Context};
use crate::stats::{Durations, TlsHandshakes};
use survey::{Facts, Survey};

/// Events taken from the system at once.
const EVENTS: usize = 256;
/// Accounts that most servers do with.
const ACCOUNTS: usize = 4;

/// The receiving side of a connection.
#[derive(Debug)]
struct Connection {
    peer: Peer,
    serial: u32,
    phase: Phase,
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
    /// Where it is counted, if its address has limits.
    place: Option<Place>,
    /// It ends as soon as what is queued for it is written.
    closing: Option<CloseReason>,
    /// It has come only to be told that it cannot stay; no limit counts it.
    refused: bool,
    /// That is written, and our side closed; what is left is to wait for the peer's, so that it can read to the end.
    parting: bool,
    /// Its handshake came before INFO.
    tls_first: bool,
    facts: Facts,
}

impl Connection {
    /// Takes out what was read and not consumed. `inbound` counts that of all connections.
    fn take_kept(&mut self, inbound: &mut usize) -> Vec<u8> {
        *inbound -= self.kept.len();
        mem::take(&mut self.kept)
    }

    /// Keeps what was read and not consumed.
    fn keep(&mut self, bytes: &[u8], inbound: &mut usize) {
        *inbound += bytes.len();
        self.kept.extend_from_slice(bytes);
    }
}

/// The loop's state.
pub struct Worker {
    index: u16,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    /// What INFO says to clients: that of the settings, with what is known of the cluster.
    info: ServerInfo,
    /// What this server says of itself to others.
    facts: Arc<ClusterFacts>,
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
    read_size: ReadSize,
    mail: Mail,
    /// Steps of handshakes that this turn may still do.
    handshakes_left: usize,
    /// When to log how many handshakes there were too many.
    report_rate_at: Option<Instant>,
    /// When to give spare memory back.
    trim_at: Option<Instant>,
    /// When the server is stopping: until when clients may take what is queued for them.
    stopping: Option<Instant>,
    /// This worker's part of [`Shared::buffered`].
    buffered: usize,
    /// Bytes that were read from all connections and not consumed.
    inbound: usize,
    /// Questions that are being answered.
    surveys: VecDeque<Survey>,
    /// What the connections that are gone had sent and taken, by account.
    departed: Vec<AccountTraffic>,
    /// Turns of the loop.
    turns: Durations,
    /// Slices of surveys, by CPU time.
    slices: Durations,
    /// When the turn at hand began.
    turn_began: Option<Instant>,
    /// TLS handshakes that came to an end.
    handshakes: TlsHandshakes,
    /// Events that were reported.
    events: u64,
    /// Whether to poll before sleeping.
    busy_poll: BusyPoll,
    /// What the turn at hand has worked off.
    work: Work,
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
        let mut engine = Engine::new(Arc::clone(&settings.broker), index, seed);
        if settings.options.disable_sublist_cache {
            engine.remember_no_matches();
        }
        let busy_poll = BusyPoll::new(settings.options.busy_poll);
        Worker {
            index,
            poll,
            engine,
            outlets: Outlets::new(Arc::clone(&shared), Arc::clone(&settings), index),
            shared,
            info: settings.info.clone(),
            facts: Arc::default(),
            settings,
            connections: Slab::new(),
            next_serial: 0,
            timers: Timers::default(),
            strangers: VecDeque::new(),
            rng: Rng::seeded(!seed),
            ready: Vec::new(),
            read_buffer: Vec::new(),
            read_size: ReadSize::default(),
            mail: Mail::default(),
            handshakes_left: 0,
            report_rate_at: None,
            trim_at: None,
            stopping: None,
            buffered: 0,
            inbound: 0,
            surveys: VecDeque::new(),
            // With room from the start: made later, behind what a crowd takes, it would keep the heap from shrinking.
            departed: Vec::with_capacity(ACCOUNTS),
            turns: Durations::default(),
            slices: Durations::default(),
            turn_began: None,
            handshakes: TlsHandshakes::default(),
            events: 0,
            busy_poll,
            work: Work::default(),
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
            let now = self.wait(&mut events);
            self.turn_began = Some(now);
            if self.outlets.start_turn(now) {
                self.name_clients();
            }
            self.turn(&events);
            if self.is_done() {
                return;
            }
        }
    }

    /// One turn, with what has been reported at its beginning.
    fn turn(&mut self, events: &Events) {
        self.handshakes_left = limits::HANDSHAKES_PER_TURN;
        // Before the mail: with that, connections may end, and others come into their slots.
        for event in events {
            if event.token() != WAKE {
                self.work.events += 1;
                let closed = event.is_read_closed() || event.is_error();
                self.on_event(
                    slot(event.token().0),
                    event.is_readable() || closed,
                    event.is_writable(),
                    closed,
                );
            }
        }
        self.take_mail();
        self.serve_ready();
        self.finish_turn();
        if !self.surveys.is_empty() {
            self.survey_slice();
        }
        self.keep_budget();
        self.fire_timers();
    }

    /// Ends a turn, waits for something to do, and gives the time when the next turn begins.
    fn wait(&mut self, events: &mut Events) -> Instant {
        let work = mem::take(&mut self.work);
        self.outlets.recipients.end_turn();
        if !self.ready.is_empty() || !self.surveys.is_empty() {
            self.take_events(events, Some(Duration::ZERO));
            let now = Instant::now();
            // As there was no wait, one turn lasts until the next.
            self.end_turn(now);
            return now;
        }
        let wake_at = [
            self.timers.next(),
            self.trim_at,
            self.report_rate_at,
            self.stopping,
        ]
        .into_iter()
        .flatten()
        .min();
        let began = Instant::now();
        self.end_turn(began);
        let span = self.busy_poll.span(work);
        if let Some(span) = span.filter(|_| self.shared.polling.enter()) {
            return self.poll_busily(events, began, span, wake_at);
        }
        let now = self.sleep(events, began, wake_at);
        if work.is_light() {
            let (waited, found) = (now.saturating_duration_since(began), self.found(events));
            self.busy_poll.slept(waited, found);
        }
        now
    }

    /// Looks for something to do for `span`, and sleeps if nothing has come by then.
    fn poll_busily(
        &mut self,
        events: &mut Events,
        began: Instant,
        span: Duration,
        wake_at: Option<Instant>,
    ) -> Instant {
        let until = wake_at.map_or(began + span, |at| at.min(began + span));
        let (found, now) = loop {
            // Before the first look too: whoever is to answer may be waiting for this core.
            thread::yield_now();
            self.take_events(events, Some(Duration::ZERO));
            let found = self.found(events);
            let now = Instant::now();
            if found != Found::Nothing || now >= until {
                break (found, now);
            }
        };
        self.shared.polling.leave();
        self.busy_poll
            .polled(now.saturating_duration_since(began), found);
        if found == Found::Nothing {
            return self.sleep(events, now, wake_at);
        }
        now
    }

    fn sleep(&mut self, events: &mut Events, now: Instant, wake_at: Option<Instant>) -> Instant {
        let timeout = if self.mailbox().fall_asleep() {
            wake_at.map(|at| at.saturating_duration_since(now))
        } else {
            Some(Duration::ZERO)
        };
        self.take_events(events, timeout);
        self.mailbox().wake_up();
        Instant::now()
    }

    fn take_events(&mut self, events: &mut Events, timeout: Option<Duration>) {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("cannot poll: {error}"),
            _ => {}
        }
    }

    /// What has ended a wait, for what it tells of the next.
    fn found(&self, events: &Events) -> Found {
        let is_filled = self.mailbox().is_filled();
        let mail = is_filled.then_some(Recipient::Worker);
        let sockets = events.iter().filter(|event| event.token() != WAKE);
        let sockets = sockets.map(|event| Recipient::Connection(slot(event.token().0)));
        let recipients = &self.outlets.recipients;
        if sockets.chain(mail).any(|sender| recipients.has(sender)) {
            Found::Answer
        } else if is_filled || !events.is_empty() {
            Found::Other
        } else {
            Found::Nothing
        }
    }

    /// Has those who are in already named in what is traced from now on.
    #[cold]
    fn name_clients(&mut self) {
        for (conn, connection) in &self.connections {
            if let Some(client) = connection.peer.as_client() {
                self.outlets.on_named(slot(conn), client);
            }
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.shared.mailboxes[usize::from(self.index)]
    }

    fn end_turn(&mut self, now: Instant) {
        if let Some(began) = self.turn_began.take() {
            let time = now.saturating_duration_since(began);
            self.turns.add(time);
            self.read_size.end_turn(time);
        }
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

    /// How other threads may name a connection, if it is there.
    fn origin(&self, conn: u32) -> Option<Origin> {
        let connection = self.connections.get(conn as usize)?;
        Some(Origin {
            worker: self.index,
            conn,
            serial: connection.serial,
        })
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

    fn is_done(&self) -> bool {
        self.stopping
            .is_some_and(|until| self.connections.is_empty() || until <= self.outlets.now)
    }
}

fn context<'a>(settings: &'a Settings, info: &'a ServerInfo, now: Instant) -> Context<'a> {
    Context {
        options: &settings.options,
        info,
        auth: &settings.auth,
        now,
    }
}

fn slot(key: usize) -> u32 {
    u32::try_from(key).expect("a process has fewer than 2^32 descriptors")
}

#[cfg(test)]
mod tests;
