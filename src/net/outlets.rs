//! The sending side of a worker: every outlet, and the batches for the other workers.
//!
//! This is the [`Sink`] of the worker's engine. Whoever's bytes are being worked off is the `origin`; a consumer or a
//! worker that falls behind makes its origin pause, wherever that is, as the rule in [`flow`](super::flow) has it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::busy_poll::{Recipient, Recipients};
use super::cluster::Happening;
use super::fan_out::Notes;
use super::flow::{self, Bounds, Queue, Verdict};
use super::mailbox::{Batch, Command, Origin, Settings};
use super::monitor::unix_time;
use super::outlet::{Outlet, Pool};
use super::shared::Shared;
use super::trace;
use crate::broker::Mark;
use crate::config::options::Options;
use crate::engine::{Delivery, Letter, SharedTrace, Sink};
use crate::heap;
use crate::limits;
use crate::log::{error, info};
use crate::monitor::Calendar;
use crate::monitor::system::SystemRequest;
use crate::proto::encode::{Message, Spread};
use crate::proto::error::ParseError;
use crate::proto::frame::{Frame, Publish};
use crate::proto::route::{self, RouteFrame};
use crate::s2::Level;
use crate::session::{Client, CloseReason, Route, RouteEvent, Violation};

/// See the module's documentation.
pub(super) struct Outlets {
    shared: Arc<Shared>,
    pub(super) settings: Arc<Settings>,
    worker: u16,
    slots: Vec<Option<Outlet>>,
    pub(super) pool: Pool,
    /// Outlets that have something to write this turn.
    listed: Vec<u32>,
    /// Connections that must end, and why. They may be gone by the time that is seen to.
    pub(super) doomed: Vec<(Origin, CloseReason)>,
    /// Connections whose socket took nothing, and that nobody watches yet.
    pub(super) blocked: Vec<u32>,
    /// Connections of this worker that may read again.
    pub(super) resumed: Vec<Origin>,
    /// Connections that were compressed some time. They are few, and may be gone.
    compressed: Vec<u32>,
    /// What is collected for each other worker.
    batches: Vec<Batch>,
    /// Traces in which this worker has to say who of its own is in them.
    pub(super) traces: Vec<SharedTrace>,
    /// Bytes queued since everything was last written.
    produced: usize,
    /// Whose bytes are being worked off.
    pub(super) origin: Origin,
    /// How long that one should pause, if anything made it.
    pub(super) pause: Option<Duration>,
    /// Bytes that the origin may yet queue for consumers that have stopped, before it has to pause.
    leeway: usize,
    /// Who was last sent something.
    pub(super) recipients: Recipients,
    /// The time of the turn.
    pub(super) now: Instant,
    /// Whether protocol lines are logged.
    tracing: bool,
    /// How traced lines name the clients that are in; empty while nothing is traced.
    names: HashMap<u32, Box<str>, RandomState>,
}

impl Outlets {
    pub(super) fn new(shared: Arc<Shared>, settings: Arc<Settings>, worker: u16) -> Self {
        let batches = shared.mailboxes.iter().map(|_| Batch::default()).collect();
        Outlets {
            tracing: shared.log.trace_on(),
            shared,
            settings,
            worker,
            slots: Vec::new(),
            pool: Pool::default(),
            listed: Vec::new(),
            doomed: Vec::new(),
            blocked: Vec::new(),
            resumed: Vec::new(),
            compressed: Vec::new(),
            batches,
            traces: Vec::new(),
            produced: 0,
            origin: Origin {
                worker,
                conn: 0,
                serial: 0,
            },
            pause: None,
            leeway: 0,
            recipients: Recipients::default(),
            now: Instant::now(),
            names: HashMap::default(),
        }
    }

    /// From now on somebody else's bytes are worked off.
    pub(super) fn begin(&mut self, origin: Origin) {
        self.origin = origin;
        self.pause = None;
        self.leeway = limits::LEEWAY_BYTES;
    }

    /// Starts a turn; true if it is the first one of which lines are logged, and clients have [no names](Sink::on_named)
    /// yet.
    pub(super) fn start_turn(&mut self, now: Instant) -> bool {
        self.now = now;
        self.pool.tick = self.shared.moment(now).tick();
        let was_tracing = std::mem::replace(&mut self.tracing, self.shared.log.trace_on());
        if was_tracing && !self.tracing {
            self.names = HashMap::default();
        }
        self.tracing && !was_tracing
    }

    /// Whether protocol lines are logged.
    pub(super) fn is_tracing(&self) -> bool {
        self.tracing
    }

    pub(super) fn insert(&mut self, conn: u32, outlet: Outlet) {
        let at = conn as usize;
        if self.slots.len() <= at {
            let missing = at + 1 - self.slots.len();
            if self.slots.capacity() <= at {
                let room = heap::room::<Option<Outlet>>(self.slots.len());
                self.slots.reserve(room.max(missing));
            }
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = Some(outlet);
    }

    /// Takes an outlet out; its producers go on, its buffers go back.
    pub(super) fn remove(&mut self, conn: u32) -> Option<Outlet> {
        self.release(conn);
        self.names.remove(&conn);
        let mut outlet = self.slots.get_mut(conn as usize)?.take()?;
        outlet.discard(&mut self.pool);
        Some(outlet)
    }

    #[inline]
    pub(super) fn get(&mut self, conn: u32) -> Option<&mut Outlet> {
        self.slots.get_mut(conn as usize)?.as_mut()
    }

    /// Compresses what is queued for another server from now on; what it sends is undone, beginning with `read`, which was
    /// read already.
    pub(super) fn compress(&mut self, conn: u32, level: Level, read: &[u8]) {
        let Some(outlet) = self.get(conn) else {
            return;
        };
        let queued = outlet.pending();
        outlet.transport.compress(level, queued, read);
        self.compressed.retain(|&other| other != conn);
        self.compressed.push(conn);
    }

    /// Compresses what goes to another server like this from now on, if it is compressed.
    pub(super) fn set_level(&mut self, conn: u32, level: Level) {
        if let Some(outlet) = self.get(conn) {
            outlet.transport.set_level(level);
        }
    }

    /// Memory that all queues take.
    pub(super) fn memory(&self) -> usize {
        self.slots.iter().flatten().map(Outlet::memory).sum()
    }

    /// The connection with the longest queue among those whose socket takes nothing, behind the memory of that.
    pub(super) fn slowest(&self) -> Option<(usize, u32)> {
        let slow = (0..).zip(&self.slots).filter_map(|(conn, outlet)| {
            let outlet = outlet.as_ref()?;
            let is_slow = outlet.blocked_since().is_some() && !outlet.closing;
            is_slow.then(|| (outlet.memory(), conn))
        });
        slow.max()
    }

    /// Drops what is queued for a connection, and marks it as ending.
    pub(super) fn give_up(&mut self, conn: u32, reason: CloseReason) {
        if let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) {
            outlet.lose(&mut self.pool);
        }
        self.doom(conn, reason);
    }

    /// Queues what is only noted for a connection: it counts as delivered from then on.
    pub(super) fn settle(&mut self, conn: u32) {
        if let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) {
            outlet.settle(&mut self.pool);
        }
    }

    /// Drops what is queued for a connection whose handshake is not done, and will not be: it cannot be sent.
    pub(super) fn forget_unsendable(&mut self, conn: u32) {
        let outlet = self.slots.get_mut(conn as usize).and_then(Option::as_mut);
        if let Some(outlet) = outlet.filter(|outlet| outlet.transport.is_handshaking()) {
            outlet.discard(&mut self.pool);
        }
    }

    /// Gives memory back that a crowd needed, when all have left.
    pub(super) fn shrink(&mut self) {
        self.slots = Vec::new();
        self.listed = Vec::new();
        self.compressed = Vec::new();
    }

    /// Frees what is kept for next time.
    pub(super) fn trim(&mut self) {
        for (batch, mailbox) in self.batches.iter_mut().zip(self.shared.mailboxes.iter()) {
            if batch.is_empty() {
                *batch = Batch::default();
            }
            mailbox.trim();
        }
        self.pool.trim();
        let slots = &mut self.slots;
        self.compressed.retain(|&conn| {
            let outlet = slots.get_mut(conn as usize).and_then(Option::as_mut);
            outlet.is_some_and(|outlet| outlet.transport.trim())
        });
        // What is in them has yet to be seen to.
        self.doomed.shrink_to_fit();
        self.blocked.shrink_to_fit();
        self.resumed.shrink_to_fit();
    }

    /// Whether connections are to end, to be watched or to be read from again.
    pub(super) fn has_come_to_something(&self) -> bool {
        !(self.doomed.is_empty() && self.blocked.is_empty() && self.resumed.is_empty())
    }

    /// Writes to one connection, as much as it takes.
    pub(super) fn flush(&mut self, conn: u32) {
        let low = self.bounds().drained();
        let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) else {
            return;
        };
        let result = outlet.flush(&mut self.pool, self.now);
        if outlet.blocked_since().is_some() && !outlet.watched {
            outlet.watched = true;
            self.blocked.push(conn);
        }
        let drained = outlet.has_waiting() && outlet.pending() <= low;
        if result.is_err() {
            outlet.lose(&mut self.pool);
            self.doom(conn, CloseReason::WriteError);
        }
        if drained {
            self.release(conn);
        }
    }

    /// Hands over what is for other workers, then writes to every connection that something was queued for.
    ///
    /// In this order, because whoever reads our answer may act on it at once: what came before it must be in the
    /// other worker's mailbox by then.
    pub(super) fn flush_all(&mut self) {
        self.hand_over();
        self.produced = 0;
        let mut listed = std::mem::take(&mut self.listed);
        for conn in listed.drain(..) {
            let outlet = self.slots.get_mut(conn as usize).and_then(Option::as_mut);
            let Some(outlet) = outlet else { continue };
            outlet.listed = false;
            if outlet.blocked_since().is_some() {
                outlet.settle(&mut self.pool);
                continue;
            }
            self.recipients.note(Recipient::Connection(conn));
            self.flush(conn);
        }
        self.listed = listed;
        // Nobody has notes any more: all were listed.
        self.pool.fan_out.clear();
    }

    /// Where a message to many is kept for them; nowhere, if it is large: then it is shared in another way.
    #[inline]
    fn keep(&mut self, message: &Message<'_>) -> Option<u32> {
        match message.spread() {
            Spread::Kept { emptied, at } if self.pool.fan_out.emptied() == emptied => Some(at),
            _ => self.keep_anew(message),
        }
    }

    #[inline(never)]
    fn keep_anew(&mut self, message: &Message<'_>) -> Option<u32> {
        if message.line().len() >= limits::SHARE_BYTES_MIN || self.tracing {
            // Nor need it be asked again.
            message.set_spread(Spread::Few);
            return None;
        }
        let is_limited = self.settings.options.memory_limit.is_some();
        let (fan_out, outlets) = (&self.pool.fan_out, self.listed.len());
        if fan_out.is_full(self.produced, outlets, self.bounds().unseen())
            || (is_limited && self.produced > self.turn_bytes())
        {
            self.flush_all();
        }
        Some(self.pool.fan_out.keep(message))
    }

    /// As `deliver`, of a message that is kept.
    fn deliver_kept(&mut self, conn: u32, sid: &[u8], at: u32, message: &Message<'_>) -> Delivery {
        let bounds = self.bounds();
        let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) else {
            return Delivery::Refused;
        };
        if refuses(outlet, &self.settings.options) {
            return Delivery::Refused;
        }
        outlet.note(at, sid, bounds.unseen(), &mut self.pool);
        let pending = outlet.pending();
        enlist(outlet, conn, &mut self.listed);
        self.produced += message.line().len();
        if pending > bounds.crowded() {
            self.crowded(conn, message.line().len())
        } else {
            Delivery::Taken
        }
    }

    /// Marks a connection as ending.
    pub(super) fn doom(&mut self, conn: u32, reason: CloseReason) {
        let worker = self.worker;
        if let Some(outlet) = self.get(conn).filter(|outlet| !outlet.closing) {
            outlet.closing = true;
            let origin = Origin {
                worker,
                conn,
                serial: outlet.serial,
            };
            self.doomed.push((origin, reason));
        }
    }

    /// Hands over what is for other workers.
    pub(super) fn hand_over(&mut self) {
        for (batch, mailbox) in self.batches.iter_mut().zip(self.shared.mailboxes.iter()) {
            if !batch.is_empty() {
                mailbox.hand_over(batch);
                self.recipients.note(Recipient::Worker);
            }
        }
    }

    /// Lets the producers go on that wait for a connection.
    fn release(&mut self, conn: u32) {
        let Some(outlet) = self.get(conn) else { return };
        for origin in outlet.take_waiting() {
            self.resume(origin);
        }
    }

    /// Tells a producer's worker, which may be this one, that it may go on.
    pub(super) fn resume(&mut self, origin: Origin) {
        if origin.worker == self.worker {
            self.resumed.push(origin);
        } else if let Some(mailbox) = self.shared.mailboxes.get(usize::from(origin.worker)) {
            mailbox.command(Command::Resume(origin));
        }
    }

    fn list(&mut self, conn: u32) {
        if let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) {
            enlist(outlet, conn, &mut self.listed);
        }
    }

    /// A message was queued for a connection, which had `before` bytes pending and has `pending` now.
    #[inline]
    fn taken(&mut self, conn: u32, before: usize, pending: usize) -> Delivery {
        self.produced += pending - before;
        if self.produced > self.turn_bytes() {
            self.flush_all();
        }
        if pending > self.bounds().crowded() {
            self.crowded(conn, pending - before)
        } else {
            Delivery::Taken
        }
    }

    /// How a traced line names a connection.
    fn label(&self, conn: u32) -> String {
        if let Some(name) = self.names.get(&conn) {
            return name.to_string();
        }
        let outlet = self.slots.get(conn as usize).and_then(Option::as_ref);
        outlet.map_or_else(String::new, |outlet| outlet.label.to_string())
    }

    /// A consumer has a lot queued, `grown` bytes of it just now: tries to write it, and makes the origin pause, or the
    /// consumer go, if that fails.
    #[cold]
    fn crowded(&mut self, conn: u32, grown: usize) -> Delivery {
        if self
            .get(conn)
            .is_some_and(|outlet| outlet.blocked_since().is_none())
        {
            self.flush(conn);
        }
        let bounds = self.bounds();
        let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) else {
            return Delivery::Refused;
        };
        let blocked_since = outlet.blocked_since().unwrap_or(self.now);
        let queue = Queue {
            pending: outlet.pending(),
            grown,
            blocked_for: self.now.saturating_duration_since(blocked_since),
            is_route: outlet.label.is_route,
        };
        let pause = match flow::judge(queue, bounds, &mut self.leeway) {
            Verdict::Run => return Delivery::Taken,
            Verdict::Wait(pause) => {
                outlet.wait(self.origin);
                pause
            }
            Verdict::Slow(pause) => pause,
            Verdict::Close => {
                outlet.lose(&mut self.pool);
                self.doom(conn, CloseReason::SlowConsumerPending);
                return Delivery::Refused;
            }
        };
        outlet.stalls += 1;
        self.pool.stalls += 1;
        self.pause = self.pause.max(Some(pause));
        Delivery::Filling
    }

    /// Bytes to queue before they are written: enough for each connection to make a write worth it, and few enough to
    /// be in the cache still.
    #[inline]
    fn turn_bytes(&self) -> usize {
        let worthwhile = self.listed.len() * limits::WRITE_BYTES;
        if worthwhile <= limits::TURN_BYTES_MIN {
            return limits::TURN_BYTES_MIN;
        }
        let most = match self.settings.options.memory_limit {
            Some(limit) => (limit / 4).clamp(limits::TURN_BYTES_MIN, limits::TURN_BYTES_MAX),
            None => limits::TURN_BYTES_MAX,
        };
        worthwhile.min(most)
    }

    /// Adds to what is for another worker; `Filling` if that is behind.
    #[inline]
    fn hand_in(&mut self, worker: u16, add: impl FnOnce(&mut Batch, Origin)) -> Delivery {
        let at = usize::from(worker);
        let unseen_max = self.bounds().unseen();
        let (Some(batch), Some(mailbox)) =
            (self.batches.get_mut(at), self.shared.mailboxes.get(at))
        else {
            return Delivery::Refused;
        };
        add(batch, self.origin);
        let behind = mailbox.backlog() > limits::MAILBOX_BYTES_MAX.min(unseen_max);
        if behind && self.origin.worker == self.worker {
            batch.push_waiting(self.origin);
            self.pause = self.pause.max(Some(limits::STALL_PAUSE));
        }
        if batch.weight() > limits::BATCH_BYTES_MAX.min(unseen_max) {
            mailbox.hand_over(batch);
        }
        if behind {
            Delivery::Filling
        } else {
            Delivery::Taken
        }
    }

    /// Where flow control begins, and ends.
    #[inline]
    pub(super) fn bounds(&self) -> Bounds {
        Bounds::new(self.settings.options.max_pending)
    }
}

/// Notes that something is queued there.
#[inline]
fn enlist(outlet: &mut Outlet, conn: u32, listed: &mut Vec<u32>) {
    if !outlet.listed {
        outlet.listed = true;
        listed.push(conn);
    }
}

/// Whether a consumer takes no message: it is going, or it is full where that makes no producer pause.
#[inline]
fn refuses(outlet: &Outlet, options: &Options) -> bool {
    let drops = options.no_fast_producer_stall;
    outlet.closing || (drops && outlet.pending() > Bounds::new(options.max_pending).full())
}

impl Sink for Outlets {
    fn reply(&mut self, conn: u32, bytes: &[u8]) {
        if self.tracing {
            let label = self.label(conn);
            trace::answered(&self.shared.log, &label, bytes);
        }
        let outlet = self.slots.get_mut(conn as usize).and_then(Option::as_mut);
        // One that was given up may have lost the rest of a message: nothing must follow that.
        let Some(outlet) = outlet.filter(|outlet| !outlet.closing) else {
            return;
        };
        outlet.push(bytes, &mut self.pool);
        let pending = outlet.pending();
        self.list(conn);
        if pending > self.bounds().crowded() {
            self.crowded(conn, bytes.len());
        }
    }

    #[inline]
    fn deliver(&mut self, conn: u32, sid: &[u8], headers: bool, message: &Message<'_>) -> Delivery {
        if message.spread() != Spread::Few
            && Notes::can_name(sid)
            && (headers || message.header_len() == 0)
        {
            if let Some(at) = self.keep(message) {
                return self.deliver_kept(conn, sid, at, message);
            }
        }
        let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) else {
            return Delivery::Refused;
        };
        if refuses(outlet, &self.settings.options) {
            return Delivery::Refused;
        }
        let before = outlet.pending();
        outlet.push_message(sid, headers, message, &mut self.pool);
        let pending = outlet.pending();
        enlist(outlet, conn, &mut self.listed);
        if self.tracing {
            let label = self.label(conn);
            let (log, options) = (&self.shared.log, &self.settings.options);
            trace::delivered(log, &label, sid, headers, message, options);
        }
        self.taken(conn, before, pending)
    }

    #[inline]
    fn deliver_routed(
        &mut self,
        conn: u32,
        account: Option<&[u8]>,
        groups: &[u8],
        headers: bool,
        message: &Message<'_>,
    ) -> Delivery {
        let Some(outlet) = self.slots.get_mut(conn as usize).and_then(Option::as_mut) else {
            return Delivery::Refused;
        };
        if outlet.closing {
            return Delivery::Refused;
        }
        let before = outlet.pending();
        let body = message.body().len().saturating_sub(2);
        let headers_left_out = if headers { 0 } else { message.header_len() };
        outlet.count_routed(body.saturating_sub(headers_left_out), &mut self.pool);
        let head_len_max = route::message_head_len_max(account, message, groups);
        outlet.push_headed(message, head_len_max, &mut self.pool, |tail| {
            route::message_head(account, message, groups, headers, tail)
        });
        let pending = outlet.pending();
        enlist(outlet, conn, &mut self.listed);
        if self.tracing {
            let label = self.label(conn);
            let (log, options) = (&self.shared.log, &self.settings.options);
            trace::routed(log, &label, (account, groups, headers), message, options);
        }
        self.taken(conn, before, pending)
    }

    fn announce(&mut self, mark: &Mark<'_>, worker: u16) {
        if let Some(batch) = self.batches.get_mut(usize::from(worker)) {
            batch.push_mark(mark);
        }
    }

    fn trace(&mut self, trace: &SharedTrace, weight: usize, worker: u16) -> Delivery {
        if worker == self.worker {
            self.traces.push(Arc::clone(trace));
            return Delivery::Taken;
        }
        self.hand_in(worker, |batch, _| batch.push_trace(trace, weight))
    }

    fn forward(&mut self, letter: &Letter<'_>, worker: u16) -> Delivery {
        self.hand_in(worker, |batch, origin| batch.push(origin, letter))
    }

    fn date(&self) -> String {
        let now = self.shared.moment(self.now);
        Calendar::new(now, unix_time()).rfc3339(now)
    }

    fn give_back(&mut self, letter: &Letter<'_>) {
        // Where it came from this worker, whoever published it has gone.
        if self.origin.worker != self.worker {
            self.forward(letter, self.origin.worker);
        }
    }

    #[inline]
    fn on_frame(&mut self, session: &Client, frame: &Frame<'_>) {
        if self.tracing {
            trace::inbound(&self.shared.log, session, frame, &self.settings.options);
        }
    }

    #[inline]
    fn on_publish(&mut self, session: &Client, publish: &Publish<'_>) {
        if self.tracing {
            self.on_frame(session, &Frame::Publish(*publish));
        }
    }

    fn on_route_frame(&mut self, session: &Route, frame: &RouteFrame<'_>) {
        if self.tracing {
            trace::inbound_routed(&self.shared.log, session, frame, &self.settings.options);
        }
    }

    fn on_route_event(&mut self, conn: u32, event: RouteEvent) {
        let serial = self.get(conn).map(|outlet| outlet.serial);
        let origin = Origin {
            worker: self.worker,
            conn,
            serial: serial.unwrap_or_default(),
        };
        self.shared.desk.post(Happening::Event(origin, event));
    }

    fn on_trouble(&mut self, peer: &dyn fmt::Display, trouble: &str) {
        error!(self.shared.log, "{peer} - {trouble}");
    }

    fn on_named(&mut self, conn: u32, session: &Client) {
        if self.tracing {
            let name = session.to_string().into_boxed_str();
            self.names.insert(conn, name);
        }
    }

    fn on_end(&mut self, conn: u32, sid: &[u8]) {
        if self.tracing {
            trace::ended(&self.shared.log, &self.label(conn), sid);
        }
    }

    fn on_refusal(&mut self, session: &Client, violation: &Violation<'_>) {
        let log = &self.shared.log;
        if let Violation::Withdrawn { .. } = violation {
            let user = session.user();
            return info!(log, "{violation} for {user} - not authorized");
        }
        error!(log, "{session} - {violation}");
    }

    fn on_request(&mut self, request: SystemRequest) {
        self.shared.request(request);
    }

    fn on_own(&mut self, message: &Message<'_>) {
        if self.settings.options.trace_verbose {
            trace::own(&self.shared.log, message, &self.settings.options);
        }
    }

    fn on_parse_error(&mut self, peer: &dyn fmt::Display, error: &ParseError) {
        error!(self.shared.log, "{peer} - {error}");
    }
}
