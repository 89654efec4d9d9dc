//! When whoever sends waits for whoever receives.
//!
//! This is the rule alone; [`Outlets`](super::outlets::Outlets) have the queues, and make producers pause:
//!
//! ```text
//! pending:     0 ───────── CROWDED_BYTES ───────── ¾ max_pending ───────── max_pending
//! producers:        run          pause for ms             pause for ≤ 1 s      consumer is closed
//! its socket has
//! taken nothing:    run      run after 100 ms      run slowly after 1 s        consumer is closed
//! ```
//!
//! Whoever reads is never lost to a producer that is faster. Who has stopped costs its producers a moment, once; then it
//! gets what they send until its queue is full.

use std::time::Duration;

use crate::limits;

/// The bounds that follow from `max_pending`, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    max_pending: usize,
}

impl Bounds {
    #[inline]
    pub(super) fn new(max_pending: usize) -> Bounds {
        Bounds { max_pending }
    }

    /// Pending bytes above which producers pause.
    #[inline]
    pub(super) fn crowded(self) -> usize {
        self.full().min(limits::CROWDED_BYTES)
    }

    /// Pending bytes up to which a queue has to drain for them to go on.
    #[inline]
    pub(super) fn drained(self) -> usize {
        self.crowded() / 2
    }

    /// Pending bytes above which a queue is nearly full.
    #[inline]
    pub(super) fn full(self) -> usize {
        self.max_pending / 4 * 3
    }

    /// Bytes that may be on their way to a connection before its queue shows them: noted, in a batch, in a mailbox. All of
    /// them must fit between where its producers pause and where it is closed, a quarter of `max_pending`.
    #[inline]
    pub(super) fn unseen(self) -> usize {
        self.max_pending / 32
    }

    /// Bytes to read at once: what comes of them may not be stopped by a consumer of another worker before they are all
    /// worked off.
    pub(super) fn read(self) -> usize {
        self.unseen().max(limits::READ_BYTES_MIN)
    }
}

/// The queue of a consumer, to which something was added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// Bytes that are queued.
    pub(super) pending: usize,
    /// How many of them were just added.
    pub(super) grown: usize,
    /// How long its socket has taken nothing.
    pub(super) blocked_for: Duration,
    /// Whether it is another server's. That has what all clients there are to get, and their interest: it is not closed for
    /// its size.
    pub(super) is_route: bool,
}

/// What comes of it, for whoever added that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Run,
    /// It pauses until the queue has drained, at most for so long.
    Wait(Duration),
    /// It pauses for so long.
    Slow(Duration),
    /// It goes on: it is the consumer that has to go.
    Close,
}

/// Judges a queue; `leeway` is what its producer may yet queue for consumers that have stopped, in bytes.
pub(super) fn judge(queue: Queue, bounds: Bounds, leeway: &mut usize) -> Verdict {
    let is_above = queue.pending > bounds.max_pending;
    if is_above && !queue.is_route {
        return Verdict::Close;
    }
    if queue.pending <= bounds.crowded() {
        return Verdict::Run;
    }
    let is_full = queue.pending > bounds.full();
    let (pause, patience) = if is_full {
        (limits::STALL_PAUSE, limits::STALL_PAUSE)
    } else {
        (limits::CROWDED_PAUSE, limits::CROWDED_PATIENCE)
    };
    let left = patience.saturating_sub(queue.blocked_for);
    if !left.is_zero() {
        return Verdict::Wait(pause.min(left));
    }
    // Without an end to the patience with it, the queue of another server would have none either.
    if is_above {
        return Verdict::Wait(pause);
    }
    if !is_full {
        return Verdict::Run;
    }
    if *leeway > queue.grown {
        *leeway -= queue.grown;
        return Verdict::Run;
    }
    Verdict::Slow(limits::LEEWAY_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn judged(pending: usize, max_pending: usize, blocked_for: u64, is_route: bool) -> Verdict {
        let queue = Queue {
            pending,
            grown: 100,
            blocked_for: Duration::from_millis(blocked_for),
            is_route,
        };
        judge(queue, Bounds::new(max_pending), &mut 0)
    }

    #[test]
    fn a_queue_is_judged_by_its_size_and_by_how_long_nothing_was_taken() {
        let wait = |ms| Verdict::Wait(Duration::from_millis(ms));
        let (run, close) = (Verdict::Run, Verdict::Close);
        let slow = Verdict::Slow(limits::LEEWAY_PAUSE);
        // Bytes pending of 64 MiB; milliseconds for which nothing was taken; for a client, and for another server.
        for (pending, blocked_for, client, route) in [
            (2 * MIB, 0, run, run),
            (2 * MIB, 60_000, run, run),
            (2 * MIB + 1, 0, wait(5), wait(5)),
            (2 * MIB + 1, 98, wait(2), wait(2)),
            (2 * MIB + 1, 100, run, run),
            (48 * MIB, 0, wait(5), wait(5)),
            (48 * MIB, 100, run, run),
            (48 * MIB + 1, 0, wait(1000), wait(1000)),
            (48 * MIB + 1, 900, wait(100), wait(100)),
            (48 * MIB + 1, 1000, slow, slow),
            (64 * MIB, 0, wait(1000), wait(1000)),
            (64 * MIB, 1000, slow, slow),
            (64 * MIB + 1, 0, close, wait(1000)),
            (64 * MIB + 1, 60_000, close, wait(1000)),
        ] {
            let at = format!("{pending} bytes, {blocked_for} ms");
            assert_eq!(
                judged(pending, 64 * MIB, blocked_for, false),
                client,
                "{at}"
            );
            assert_eq!(judged(pending, 64 * MIB, blocked_for, true), route, "{at}");
        }
    }

    #[test]
    fn producers_of_a_small_queue_pause_when_it_is_nearly_full() {
        for (pending, verdict) in [
            (48 * 1024, Verdict::Run),
            (48 * 1024 + 1, Verdict::Wait(limits::STALL_PAUSE)),
            (64 * 1024 + 1, Verdict::Close),
        ] {
            assert_eq!(judged(pending, 64 * 1024, 0, false), verdict, "{pending}");
        }
    }

    #[test]
    fn who_has_stopped_is_filled_at_a_pace() {
        let queue = Queue {
            pending: 50 * MIB,
            grown: 30,
            blocked_for: limits::STALL_PAUSE,
            is_route: false,
        };
        let mut leeway = 100;
        let verdicts: Vec<_> = (0..4)
            .map(|_| judge(queue, Bounds::new(64 * MIB), &mut leeway))
            .collect();
        let slow = Verdict::Slow(limits::LEEWAY_PAUSE);
        assert_eq!(verdicts, [Verdict::Run, Verdict::Run, Verdict::Run, slow]);
        assert_eq!(leeway, 10);
    }

    #[test]
    fn what_nobody_sees_fits_between_the_pause_and_the_end() {
        for max_pending in [64 * 1024, MIB, 64 * MIB, usize::MAX] {
            let bounds = Bounds::new(max_pending);
            assert!(bounds.unseen() <= (max_pending - bounds.full()) / 4);
            assert!(bounds.drained() < bounds.crowded());
            assert!(bounds.read() >= limits::READ_BYTES_MIN);
        }
    }
}
