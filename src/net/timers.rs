//! What is due when.
//!
//! Deadlines are never taken back: when one fires, its owner looks whether it still means anything. Those of
//! connections that are gone are swept out when they outnumber the rest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::heap;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// CONNECT should have come by now.
    Connect,
    /// The handshake should be over by now.
    Handshake,
    /// Whoever has not begun a handshake by now will not.
    HandshakeChoice,
    /// Whoever has not begun a handshake by now gets INFO first.
    HandshakeFirst,
    /// Keepalive.
    Ping,
    /// Reading goes on, though a consumer has not drained.
    Unstall,
    /// A peer that was told to go should be gone.
    Part,
    /// The socket should have taken something by now.
    Write,
}

/// One deadline of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) conn: u32,
    pub(super) serial: u32,
    pub(super) purpose: Purpose,
}

/// A deadline as it is kept: an idle connection has two, and counts in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Nanoseconds after the epoch: half a thousand years of them.
    at: u64,
    conn: u32,
    serial: u32,
    purpose: Purpose,
}

/// A worker's deadlines.
#[derive(Debug)]
pub(super) struct Timers {
    /// A time that is before all of them.
    epoch: Instant,
    heap: BinaryHeap<Reverse<Entry>>,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            epoch: Instant::now(),
            heap: BinaryHeap::new(),
        }
    }
}

impl Timers {
    /// Sets one.
    pub(super) fn set(&mut self, deadline: Deadline) {
        if self.heap.len() == self.heap.capacity() {
            self.heap.reserve(heap::room::<Entry>(self.heap.len()));
        }
        let after = deadline.at.saturating_duration_since(self.epoch);
        self.heap.push(Reverse(Entry {
            at: u64::try_from(after.as_nanos()).unwrap_or(u64::MAX),
            conn: deadline.conn,
            serial: deadline.serial,
            purpose: deadline.purpose,
        }));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| self.time(entry))
    }

    /// Takes out one that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Deadline> {
        self.next().filter(|&at| at <= now)?;
        self.heap.pop().map(|Reverse(entry)| self.deadline(&entry))
    }

    /// Drops what is not `live`, if there is much more of it than `connections` can account for.
    pub(super) fn sweep(&mut self, connections: usize, live: impl Fn(&Deadline) -> bool) {
        const SLACK: usize = 1024;
        if self.heap.len() > 4 * connections + SLACK || connections == 0 {
            let mut heap = std::mem::take(&mut self.heap);
            heap.retain(|Reverse(entry)| live(&self.deadline(entry)));
            heap.shrink_to(2 * heap.len());
            self.heap = heap;
        }
    }

    fn time(&self, entry: &Entry) -> Instant {
        self.epoch + Duration::from_nanos(entry.at)
    }

    fn deadline(&self, entry: &Entry) -> Deadline {
        Deadline {
            at: self.time(entry),
            conn: entry.conn,
            serial: entry.serial,
            purpose: entry.purpose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_before_their_time() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for seconds in [3, 1, 2] {
            let at = start + Duration::from_secs(seconds);
            timers.set(Deadline {
                at,
                conn: 0,
                serial: 0,
                purpose: Purpose::Ping,
            });
        }
        assert_eq!(timers.next(), Some(start + Duration::from_secs(1)));
        let now = start + Duration::from_secs(2);
        assert_eq!(
            [timers.due(now), timers.due(now), timers.due(now)]
                .iter()
                .flatten()
                .count(),
            2
        );
    }

    #[test]
    fn a_deadline_is_small_and_comes_back_as_it_was() {
        assert_eq!(size_of::<Entry>(), 24);
        let mut timers = Timers::default();
        let at = Instant::now() + Duration::from_nanos(123_456_789_012_345_678);
        timers.set(Deadline {
            at,
            conn: 7,
            serial: 8,
            purpose: Purpose::Write,
        });
        let back = timers.due(at).expect("it is due");
        assert_eq!((back.at, back.conn, back.serial), (at, 7, 8));
        assert_eq!(back.purpose, Purpose::Write);
    }

    #[test]
    fn a_sweep_leaves_what_is_live() {
        let mut timers = Timers::default();
        for conn in 0..3000 {
            timers.set(Deadline {
                at: Instant::now(),
                conn,
                serial: 0,
                purpose: Purpose::Ping,
            });
        }
        timers.sweep(10, |deadline| deadline.conn < 10);
        assert_eq!(timers.heap.len(), 10);
    }
}
