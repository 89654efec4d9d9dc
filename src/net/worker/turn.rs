//! The end of a turn: everything queued is written, and what is due is done.

use std::mem;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::handshake::Phase;
use super::{Worker, slot};
use crate::config::options::WriteTimeout;
use crate::heap;
use crate::limits;
use crate::log::{debug, error};
use crate::net::mailbox::Mail;
use crate::net::read_size::ReadSize;
use crate::net::timers::{Deadline, Purpose};
use crate::session::{Beat, CloseReason};

impl Worker {
    pub(super) fn finish_turn(&mut self) {
        self.write_all();
        if !self.read_buffer.is_empty() && self.trim_at.is_none() {
            self.trim_at = Some(self.outlets.now + limits::TRIM_AFTER);
        }
    }

    /// Writes all that is queued, and sees to what that has come to, until nothing is left to be seen to: a connection that
    /// ends may be news to others.
    fn write_all(&mut self) {
        // What peers sent is told already; mail has ended subscriptions, too, or moved them.
        self.engine.tell_news(&mut self.outlets);
        self.outlets.flush_all();
        while self.outlets.has_come_to_something() {
            while let Some((origin, reason)) = self.outlets.doomed.pop() {
                if self.origin(origin.conn) == Some(origin) {
                    self.begin_closing(origin.conn, reason);
                }
            }
            while let Some(origin) = self.outlets.resumed.pop() {
                self.unstall(origin.conn, origin.serial);
            }
            while let Some(conn) = self.outlets.blocked.pop() {
                let limit = self.write_deadline(conn);
                self.set_deadline(conn, limit, Purpose::Write);
            }
            self.outlets.flush_all();
        }
    }

    /// Where memory is limited and all workers together hold too much of it, this one gives up its slowest consumer, or
    /// whoever has sent most of a message whose end does not come, if that takes more.
    ///
    /// The sum of what is pending is cheap, and never less than what it takes: only above the limit it is worth looking
    /// at what queues share.
    pub(super) fn keep_budget(&mut self) {
        let Some(limit) = self.settings.options.memory_limit else {
            return self.publish_buffered(0);
        };
        self.publish_buffered(self.outlets.pool.pending + self.inbound);
        if self.shared.buffered_bytes() <= limit {
            return;
        }
        self.publish_buffered(self.outlets.memory() + self.inbound);
        if self.shared.buffered_bytes() <= limit {
            return;
        }
        match (self.outlets.slowest(), self.longest_unfinished()) {
            (slow, Some((len, conn))) if slow.is_none_or(|(memory, _)| memory < len) => {
                if let Some(it) = self.connections.get(conn as usize) {
                    let text = format!("memory_limit of {limit} Exceeded: {len} bytes");
                    let (peer, log) = (&it.peer, &self.shared.log);
                    error!(log, "{peer} - {text} of a message without its end");
                }
                self.end_with_text(conn, CloseReason::MemoryLimit);
            }
            (Some((_, conn)), _) => self.outlets.give_up(conn, CloseReason::SlowConsumerMemory),
            (None, _) => {}
        }
        self.publish_buffered(self.outlets.memory() + self.inbound);
    }

    /// The connection of which most was read that cannot be worked off yet, if that is worth a connection, behind how much
    /// that is.
    fn longest_unfinished(&self) -> Option<(usize, u32)> {
        let unfinished = self.connections.iter().filter(|(_, it)| {
            let is_waiting = it.unfed || it.closing.is_some();
            !is_waiting && it.kept.len() >= limits::READ_BYTES_MIN
        });
        let lengths = unfinished.map(|(key, it)| (it.kept.len(), slot(key)));
        lengths.max()
    }

    pub(super) fn publish_buffered(&mut self, bytes: usize) {
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

    pub(super) fn fire_timers(&mut self) {
        let now = self.outlets.now;
        if self.report_rate_at.is_some_and(|at| at <= now) {
            self.report_rate_at = None;
            self.shared.tls_rate.report(&self.shared.log);
        }
        while let Some(deadline) = self.timers.due(now) {
            let live = self
                .connections
                .get(deadline.conn as usize)
                .filter(|c| c.serial == deadline.serial);
            match (live, deadline.purpose) {
                (None, _) => {}
                (Some(connection), Purpose::Ping)
                    if connection.beat_at == deadline.at && connection.closing.is_none() =>
                {
                    self.beat(deadline.conn);
                }
                (Some(connection), Purpose::Unstall) if connection.stalled == Some(deadline.at) => {
                    self.unstall(deadline.conn, deadline.serial);
                }
                (Some(_), Purpose::Part) => self.remove(deadline.conn),
                (Some(connection), Purpose::Connect)
                    if connection.closing.is_none()
                        && connection.peer.is_overdue(&self.settings.auth) =>
                {
                    self.end_with_text(deadline.conn, CloseReason::AuthenticationTimeout);
                }
                (
                    Some(_),
                    Purpose::HandshakeFirst | Purpose::HandshakeChoice | Purpose::Handshake,
                ) => self.on_phase_timeout(deadline.conn, deadline.purpose),
                (Some(_), Purpose::Write) => self.check_writing(deadline.conn),
                _ => {}
            }
        }
        // What the timers, and all that came since the end of the turn, have queued must not wait for the next one.
        self.write_all();
        // Behind that: nobody has notes of what is kept for many any more.
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.trim();
        }
    }

    /// Gives back what a busy time needed. Whatever of it is needed again costs one allocation.
    pub(super) fn trim(&mut self) {
        self.read_buffer = Vec::new();
        self.read_size = ReadSize::default();
        self.mail = Mail::default();
        self.ready.shrink_to_fit();
        self.engine.trim();
        self.outlets.trim();
        heap::give_back();
    }

    pub(super) fn beat(&mut self, conn: u32) {
        let options = &self.settings.options;
        let connection = self.connections.get_mut(conn as usize);
        // One that has ended, and lingers so that its peer can read to the end, needs none.
        let Some(connection) = connection.filter(|it| it.closing.is_none()) else {
            return;
        };
        if connection.peer.as_route().is_some() {
            return self.beat_route(conn);
        }
        let interval = options.ping_interval;
        // Before it has come through its handshake there is nobody to talk to, and a time limit of its own.
        let beat = if connection.phase == Phase::Open {
            connection.peer.keepalive().beat(interval, options.ping_max)
        } else {
            Beat::Skip
        };
        debug!(self.shared.log, "{} - Client Ping Timer", connection.peer);
        match beat {
            Beat::Skip => {}
            Beat::Ping => {
                connection
                    .facts
                    .pinged(self.shared.moment(self.outlets.now));
                self.send(conn, b"PING\r\n");
            }
            Beat::Stale => return self.end_with_text(conn, CloseReason::Stale),
        }
        self.set_beat(conn, interval);
    }

    /// The next beat of a connection comes so long from now, and no other one that was set before.
    pub(super) fn set_beat(&mut self, conn: u32, span: Duration) {
        let at = self.set_deadline(conn, span, Purpose::Ping);
        if let Some(connection) = self.connections.get_mut(conn as usize) {
            connection.beat_at = at;
        }
    }

    /// Sets a deadline of a connection so long from now; gives when that is.
    pub(super) fn set_deadline(&mut self, conn: u32, delay: Duration, purpose: Purpose) -> Instant {
        let at = self.outlets.now + delay;
        if let Some(connection) = self.connections.get(conn as usize) {
            let serial = connection.serial;
            self.timers.set(Deadline {
                at,
                conn,
                serial,
                purpose,
            });
        }
        at
    }

    /// A socket took nothing some time ago: is that still so?
    fn check_writing(&mut self, conn: u32) {
        let (now, limit) = (self.outlets.now, self.write_deadline(conn));
        let Some(outlet) = self.outlets.get(conn) else {
            return;
        };
        let Some(since) = outlet.blocked_since() else {
            outlet.watched = false;
            return;
        };
        let left = limit.saturating_sub(now.saturating_duration_since(since));
        if !left.is_zero() {
            self.set_deadline(conn, left, Purpose::Write);
            return;
        }
        if self
            .connections
            .get(conn as usize)
            .is_some_and(|connection| connection.closing.is_some())
        {
            return self.remove(conn);
        }
        // Nothing else bounds what waits for another server: one that takes nothing at all has gone.
        let is_route = self.outlets.get(conn).is_some_and(|it| it.label.is_route);
        if self.settings.options.write_timeout == WriteTimeout::Retry && !is_route {
            return self.retry_writing(conn);
        }
        self.begin_closing(conn, CloseReason::SlowConsumerDeadline);
        self.remove(conn);
    }

    /// Leaves a slow consumer another `write_deadline`: only `max_pending` ends it.
    fn retry_writing(&mut self, conn: u32) {
        self.report_slow(conn, CloseReason::SlowConsumerDeadline);
        let limit = self.settings.options.write_deadline;
        self.set_deadline(conn, limit, Purpose::Write);
    }
}
