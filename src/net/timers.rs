//! What is due when.
//!
//! Deadlines are never taken back: when one fires, its owner looks whether it still means anything. Those of
//! connections that are gone are swept out when they outnumber the rest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) conn: u32,
    pub(super) serial: u32,
    pub(super) purpose: Purpose,
}

/// A worker's deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Deadline>>,
}

impl Timers {
    /// Sets one.
    pub(super) fn set(&mut self, deadline: Deadline) {
        if self.heap.len() == self.heap.capacity() {
            self.heap.reserve(heap::room::<Deadline>(self.heap.len()));
        }
        self.heap.push(Reverse(deadline));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(deadline)| deadline.at)
    }

    /// Takes out one that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Deadline> {
        self.next().filter(|&at| at <= now)?;
        self.heap.pop().map(|Reverse(deadline)| deadline)
    }

    /// Drops what is not `live`, if there is much more of it than `connections` can account for.
    pub(super) fn sweep(&mut self, connections: usize, live: impl Fn(&Deadline) -> bool) {
        const SLACK: usize = 1024;
        if self.heap.len() > 4 * connections + SLACK || connections == 0 {
            self.heap.retain(|Reverse(deadline)| live(deadline));
            self.heap.shrink_to(2 * self.heap.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
