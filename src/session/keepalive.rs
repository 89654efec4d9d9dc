//! When to PING a quiet peer, and when to give it up.
//!
//! The clock is the caller's: it asks [`Keepalive::beat`] each time the span that it was told has passed.

use std::time::Duration;

/// The first PING after CONNECT comes early, so that the round-trip time is known; later by up to a fifth at random, so
/// that clients that reconnect together are not pinged together.
const FIRST_PING: Duration = Duration::from_secs(2);
/// A busy connection needs no PING, but gets one this often all the same.
const PING_REGARDLESS: Duration = Duration::from_secs(3600);

/// What to do when the timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Send a PING.
    Ping,
    /// Nothing: the peer has been busy.
    Skip,
    /// Close: the peer is stale.
    Stale,
}

/// The state of one connection's keepalive.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    unanswered: u32,
    /// The peer has sent an operation since the last beat.
    busy: bool,
    /// CONNECT came, and the time to the next beat has not been asked for since.
    connect: bool,
    /// The next PING is the first one after CONNECT.
    first: bool,
    /// A PING was answered since that was last asked.
    answered: bool,
    skipped: Duration,
}

impl Keepalive {
    /// The peer sent CONNECT: the time to the next beat is another one.
    pub fn on_connect(&mut self) {
        self.connect = true;
    }

    /// Whether CONNECT came that [`Keepalive::connected`] has not been asked about.
    #[must_use]
    pub fn has_connect(&self) -> bool {
        self.connect
    }

    /// The peer sent CONNECT: gives the time to the next beat, where `interval` is the time between two. `random` is in
    /// `0.0..1.0`.
    pub fn connected(&mut self, interval: Duration, random: f64) -> Duration {
        self.begin(interval.min(FIRST_PING), random)
    }

    /// The peer is in, and is to be pinged after `span`, or up to a fifth later: gives the time to that beat.
    pub fn begin(&mut self, span: Duration, random: f64) -> Duration {
        self.connect = false;
        self.first = true;
        span.mul_f64(1.0 + random.clamp(0.0, 1.0) / 5.0)
    }

    /// The peer sent an operation that shows it is alive and at work.
    pub fn busy(&mut self) {
        self.busy = true;
    }

    /// The peer sent PONG, asked for or not.
    pub fn pong(&mut self) {
        self.answered |= self.unanswered > 0;
        self.unanswered = 0;
    }

    /// Whether a PING was answered since this was last asked.
    #[inline]
    pub fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    /// `interval` has passed since the last beat.
    pub fn beat(&mut self, interval: Duration, unanswered_max: u32) -> Beat {
        let busy = std::mem::take(&mut self.busy);
        let first = std::mem::take(&mut self.first);
        if busy && !first && self.skipped < PING_REGARDLESS {
            self.skipped += interval;
            return Beat::Skip;
        }
        self.skipped = Duration::ZERO;
        if self.unanswered >= unanswered_max {
            return Beat::Stale;
        }
        self.unanswered += 1;
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_peer_is_stale_after_the_unanswered_pings() {
        let mut keepalive = Keepalive::default();
        keepalive.connected(SECOND, 0.0);
        let beats: Vec<Beat> = (0..3).map(|_| keepalive.beat(SECOND, 2)).collect();
        assert_eq!(beats, [Beat::Ping, Beat::Ping, Beat::Stale]);
    }

    #[test]
    fn a_pong_starts_the_count_again_and_work_puts_the_ping_off() {
        let mut keepalive = Keepalive::default();
        assert_eq!(keepalive.beat(SECOND, 1), Beat::Ping);
        keepalive.busy();
        assert_eq!(keepalive.beat(SECOND, 1), Beat::Skip);
        keepalive.pong();
        assert_eq!(keepalive.beat(SECOND, 1), Beat::Ping);
        assert_eq!(keepalive.beat(SECOND, 1), Beat::Stale);
    }

    #[test]
    fn the_first_ping_after_connect_comes_early_and_in_spite_of_traffic() {
        let mut keepalive = Keepalive::default();
        assert_eq!(
            keepalive.connected(120 * SECOND, 0.5),
            Duration::from_millis(2200)
        );
        assert_eq!(
            keepalive.connected(SECOND / 2, 1.0),
            Duration::from_millis(600)
        );
        keepalive.busy();
        assert_eq!(keepalive.beat(SECOND, 2), Beat::Ping);
    }

    #[test]
    fn once_an_hour_a_busy_peer_is_pinged_too() {
        let mut keepalive = Keepalive::default();
        let mut beats = (0..40).map(|_| {
            keepalive.busy();
            keepalive.beat(120 * SECOND, 2)
        });
        assert_eq!(beats.position(|beat| beat == Beat::Ping), Some(30));
    }
}
