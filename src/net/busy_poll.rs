//! Whether a worker polls for a moment before it sleeps: busy polling.
//!
//! A core that sleeps takes tens of microseconds to be woken, several times what it then does for one message. Where
//! somebody waits for that, as with requests and replies that follow each other closely, a worker looks for the next
//! message a while, and gives its core away to whoever wants it between two looks. Whether it pays is learnt from the
//! waits themselves. An answer is what comes from one of the last that were sent something:
//!
//! ```text
//!        soon an answer: +1    soon anything else: −1    nothing for long: −64    core wanted by others: −1024
//! trust:  −960 ───────────── 0 ───────────────── 64 ───────────────── 128
//!              sleeps at once                      polls first, for `limit` at most
//! ```
//!
//! What is promised, whatever peers send and whenever:
//!
//! - One poll lasts for `limit` (the option `busy_poll`) at most, and a server that nobody talks to sleeps.
//! - Of any number of waits not more than one in 64 is polled in vain, give or take two: that is less than a microsecond
//!   for each, where the wake-up that it ends with takes ten. Messages at long intervals cost nothing at all.
//! - A stream of messages, however fast, is not polled for: nobody waits for those.
//! - After a turn with more than a message or two nothing is polled: to sleep until more has come makes each cheaper.
//! - Half of the cores at most are polled on at a time, and so none where there is only one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::limits;

/// What a turn has worked off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Sockets that were ready.
    pub(super) events: usize,
    /// Bytes that were read from them, or handed over by other workers.
    pub(super) bytes: usize,
}

impl Work {
    /// Whether that was a message or two.
    pub(super) fn is_light(self) -> bool {
        self.events <= LIGHT_EVENTS && self.bytes <= LIGHT_BYTES
    }
}

/// See the module's documentation. Each worker has its own.
#[derive(Debug)]
pub(super) struct BusyPoll {
    limit: Duration,
    /// In `TRUST_MIN..=TRUST_MAX`.
    trust: i32,
}

impl BusyPoll {
    /// Polls for `limit` at most; zero is never.
    pub(super) fn new(limit: Duration) -> Self {
        BusyPoll {
            limit: limit.min(limits::BUSY_POLL_MAX),
            trust: 0,
        }
    }

    /// From now on, `limit` is another.
    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit.min(limits::BUSY_POLL_MAX);
    }

    /// How long to poll before sleeping, after a turn that did this.
    pub(super) fn span(&self, work: Work) -> Option<Duration> {
        let is_worth_it = self.trust >= TRUST_NEEDED && !self.limit.is_zero();
        (is_worth_it && work.is_light()).then_some(self.limit)
    }

    /// A poll is over, after this long and with what had come by then.
    pub(super) fn polled(&mut self, waited: Duration, found: Found) {
        let step = match found {
            // Whoever has had the core for so long would have been interrupted for us, had we slept.
            _ if waited > self.limit * DISPLACED => -TRUST_DISPLACED,
            Found::Answer => 1,
            Found::Other => -1,
            Found::Nothing => -TRUST_NEEDED,
        };
        self.trust = (self.trust + step).clamp(TRUST_MIN, TRUST_MAX);
    }

    /// There was no poll, but a wait of this long after a light turn.
    pub(super) fn slept(&mut self, waited: Duration, found: Found) {
        // The wake-up is part of the wait, and takes longer than what it is there for.
        let is_short = waited <= self.limit * WAKE_UP;
        if is_short && found == Found::Answer {
            self.trust = (self.trust + 1).min(TRUST_MAX);
        } else if self.trust > 0 {
            let step = if is_short { 1 } else { TRUST_NEEDED };
            self.trust = (self.trust - step).max(0);
        }
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Something from one of the last that were sent something.
    Answer,
    /// Something else.
    Other,
    /// Nothing has ended it yet.
    Nothing,
}

/// The last that were sent something, turn by turn.
#[derive(Debug)]
pub(super) struct Recipients {
    last: [Recipient; 4],
    next: usize,
    /// This turn has sent something.
    any: bool,
}

/// Who was sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// A connection, by its slot.
    Connection(u32),
    /// Another worker.
    Worker,
    /// Nobody, in a whole turn.
    Nobody,
}

impl Recipients {
    /// Notes that this one was sent something.
    #[inline]
    pub(super) fn note(&mut self, recipient: Recipient) {
        self.any = true;
        if let Some(last) = self.last.get_mut(self.next) {
            *last = recipient;
        }
        self.next = (self.next + 1) % self.last.len();
    }

    /// Whether what comes from this one may be an answer.
    pub(super) fn has(&self, sender: Recipient) -> bool {
        self.last.contains(&sender)
    }

    /// Ends a turn.
    pub(super) fn end_turn(&mut self) {
        if !self.any {
            self.note(Recipient::Nobody);
        }
        self.any = false;
    }
}

impl Default for Recipients {
    fn default() -> Self {
        Recipients {
            last: [Recipient::Nobody; 4],
            next: 0,
            any: false,
        }
    }
}

/// How many workers may poll at a time.
#[derive(Debug)]
pub struct Places(AtomicUsize);

impl Places {
    /// Places for half of so many cores.
    #[must_use]
    pub fn on(cores: usize) -> Self {
        Places(AtomicUsize::new(cores / 2))
    }

    /// Takes a place, if one is free.
    pub(super) fn enter(&self) -> bool {
        let take = |free: usize| free.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Of a turn that is followed by a poll: a message and something else.
const LIGHT_EVENTS: usize = 2;
/// The same.
const LIGHT_BYTES: usize = 1024;
/// The trust that it takes to poll; a poll in vain costs as much.
const TRUST_NEEDED: i32 = 64;
const TRUST_MAX: i32 = 2 * TRUST_NEEDED;
/// What it costs if others want the core.
const TRUST_DISPLACED: i32 = 16 * TRUST_NEEDED;
const TRUST_MIN: i32 = TRUST_NEEDED - TRUST_DISPLACED;
/// A sleep of so many times the limit would have been a short poll.
const WAKE_UP: u32 = 3;
/// A poll that takes so many times its limit did not have the core.
const DISPLACED: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const LIMIT: Duration = Duration::from_micros(30);
    const SHORT: Duration = Duration::from_micros(20);
    const LONG: Duration = Duration::from_millis(1);
    const MESSAGE: Work = Work {
        events: 1,
        bytes: 60,
    };

    /// One wait for an answer after each of these gaps; gives how many were polled, and how many of them in vain.
    fn wait(policy: &mut BusyPoll, gaps: impl IntoIterator<Item = Duration>) -> (usize, usize) {
        let (mut polls, mut vain) = (0, 0);
        for gap in gaps {
            let Some(span) = policy.span(MESSAGE) else {
                policy.slept(gap, Found::Answer);
                continue;
            };
            assert_eq!(span, LIMIT);
            polls += 1;
            if gap <= span {
                policy.polled(gap, Found::Answer);
            } else {
                policy.polled(span, Found::Nothing);
                vain += 1;
            }
        }
        (polls, vain)
    }

    fn trusting() -> BusyPoll {
        let mut policy = BusyPoll::new(LIMIT);
        wait(&mut policy, [SHORT; 64]);
        assert_eq!(policy.span(MESSAGE), Some(LIMIT));
        policy
    }

    #[test]
    fn answers_that_follow_each_other_closely_are_polled_for() {
        let mut policy = BusyPoll::new(LIMIT);
        assert_eq!(wait(&mut policy, [SHORT; 1000]), (1000 - 64, 0));
        // One pause does not change that, two do.
        assert_eq!(wait(&mut policy, [LONG, SHORT, LONG]), (3, 2));
        assert_eq!(wait(&mut policy, [SHORT]), (0, 0));
    }

    #[test]
    fn what_comes_at_long_intervals_is_never_polled_for() {
        let mut policy = BusyPoll::new(LIMIT);
        assert_eq!(wait(&mut policy, [LONG; 1000]), (0, 0));
        // Nor are requests with a pause after each, or after a few.
        assert_eq!(wait(&mut policy, [SHORT, LONG].repeat(1000)), (0, 0));
        let few = [[SHORT; 59].as_slice(), &[LONG]].concat();
        assert_eq!(wait(&mut policy, few.repeat(1000)), (0, 0));
    }

    #[test]
    fn a_stream_is_not_polled_for() {
        let mut policy = trusting();
        policy.polled(SHORT, Found::Other);
        assert_eq!(policy.span(MESSAGE), None);
        (0..1000).for_each(|_| policy.slept(SHORT, Found::Other));
        assert_eq!(policy.span(MESSAGE), None);
        assert_eq!(wait(&mut policy, [SHORT; 64]), (0, 0));
        assert_eq!(wait(&mut policy, [SHORT]), (1, 0));
    }

    #[test]
    fn no_pattern_is_polled_for_in_vain_more_than_once_in_64_waits() {
        let mut rng = Rng::seeded(7);
        for odds in [2, 3, 10, 60, 65, 70, 100, 200, 1000] {
            let mut policy = BusyPoll::new(LIMIT);
            let gaps = (0..10_000).map(|_| if rng.below(odds) == 0 { LONG } else { SHORT });
            let (_, vain) = wait(&mut policy, gaps);
            assert!(vain <= 10_000 / 64, "{vain} at 1 in {odds}");
        }
        // The worst there is: whoever knows the rule pauses exactly when it is polled for.
        let (mut policy, mut vain) = (BusyPoll::new(LIMIT), 0);
        for _ in 0..10_000 {
            let gap = if policy.span(MESSAGE).is_some() {
                LONG
            } else {
                SHORT
            };
            vain += wait(&mut policy, [gap]).1;
        }
        assert!(vain <= 10_000 / 64, "{vain}");
    }

    #[test]
    fn a_turn_with_a_lot_to_do_is_not_followed_by_a_poll() {
        let policy = trusting();
        for (events, bytes) in [(3, 0), (1, 1025)] {
            assert_eq!(policy.span(Work { events, bytes }), None);
        }
    }

    #[test]
    fn whoever_else_wants_the_core_gets_it_for_long() {
        let mut policy = trusting();
        policy.polled(Duration::from_millis(3), Found::Answer);
        assert_eq!(wait(&mut policy, [SHORT; 1000]), (0, 0));
        assert!(wait(&mut policy, [SHORT; 1000]).0 > 0);
    }

    #[test]
    fn zero_is_never() {
        let mut policy = trusting();
        policy.set_limit(Duration::ZERO);
        (0..1000).for_each(|_| policy.slept(Duration::ZERO, Found::Answer));
        assert_eq!(policy.span(MESSAGE), None);
    }

    #[test]
    fn an_answer_comes_from_one_of_the_last_that_were_sent_something() {
        let mut recipients = Recipients::default();
        let all = [Recipient::Connection(0), Recipient::Worker];
        assert!(!all.iter().any(|&it| recipients.has(it)));
        all.into_iter().for_each(|it| recipients.note(it));
        assert!(all.iter().all(|&it| recipients.has(it)));
        assert!(!recipients.has(Recipient::Connection(1)));
        // Two more turns are what a request and its reply take; in four, nobody waits any more.
        (0..3).for_each(|_| recipients.end_turn());
        assert!(all.iter().all(|&it| recipients.has(it)));
        (0..2).for_each(|_| recipients.end_turn());
        assert!(!all.iter().any(|&it| recipients.has(it)));
    }

    #[test]
    fn half_of_the_cores_are_polled_on_at_a_time() {
        for (cores, most) in [(1, 0), (2, 1), (3, 1), (8, 4)] {
            let places = Places::on(cores);
            assert_eq!((0..cores).filter(|_| places.enter()).count(), most);
            if most > 0 {
                places.leave();
                assert!(places.enter() && !places.enter());
            }
        }
    }
}
