//! Plain counters. Each belongs to one thread; whoever wants the whole adds them up.

use std::time::Duration;

/// Messages and bytes in one direction; bytes are those of headers and payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub msgs: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    /// Adds what came elsewhere.
    #[inline]
    pub fn add(&mut self, more: Traffic) {
        self.msgs += more.msgs;
        self.bytes += more.bytes;
    }
}

/// The count of connections of each kind that something happened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind {
    /// Clients.
    pub clients: u64,
    /// Routes.
    pub routes: u64,
    /// Leaf nodes.
    pub leafs: u64,
}

impl ByKind {
    /// All of them.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.clients + self.routes + self.leafs
    }
}

/// Handshakes that came to an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Those that led to a session.
    pub done: u64,
    /// Those that did not, for whatever reason: a peer that hangs up or is too slow, a certificate that is refused.
    pub failed: u64,
}

impl Handshakes {
    /// One more.
    pub fn count(&mut self, is_done: bool) {
        let count = if is_done {
            &mut self.done
        } else {
            &mut self.failed
        };
        *count += 1;
    }

    /// Adds those of elsewhere.
    pub fn add(&mut self, more: Handshakes) {
        self.done += more.done;
        self.failed += more.failed;
    }
}

/// TLS handshakes by who is at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsHandshakes {
    /// With clients.
    pub clients: Handshakes,
    /// With servers that have come.
    pub routes_accepted: Handshakes,
    /// With servers that were dialled.
    pub routes_dialled: Handshakes,
    /// At the monitoring port.
    pub monitor: Handshakes,
}

impl TlsHandshakes {
    /// Adds those of elsewhere.
    pub fn add(&mut self, more: TlsHandshakes) {
        self.clients.add(more.clients);
        self.routes_accepted.add(more.routes_accepted);
        self.routes_dialled.add(more.routes_dialled);
        self.monitor.add(more.monitor);
    }
}

/// How long something took, each time: how often up to which of a few bounds, and in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How often for each of the bounds, but not for a smaller one; behind the last one, those beyond all.
    counts: [u64; Durations::BOUNDS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Bounds, and how they are written in seconds: from a turn with a handful of messages to one that clients notice.
    pub const BOUNDS: [(Duration, &'static str); 8] = [
        (Duration::from_micros(10), "0.00001"),
        (Duration::from_micros(100), "0.0001"),
        (Duration::from_micros(500), "0.0005"),
        (Duration::from_millis(1), "0.001"),
        (Duration::from_millis(5), "0.005"),
        (Duration::from_millis(10), "0.01"),
        (Duration::from_millis(100), "0.1"),
        (Duration::from_secs(1), "1"),
    ];

    /// It took so long once more.
    #[inline]
    pub fn add(&mut self, took: Duration) {
        let is_within = |(bound, _): &(Duration, _)| took <= *bound;
        let at = Self::BOUNDS.iter().position(is_within);
        if let Some(count) = self.counts.get_mut(at.unwrap_or(Self::BOUNDS.len())) {
            *count += 1;
        }
        self.sum += took;
    }

    /// All of it together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How often in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bound as it is written, with how often it took at most so long.
    pub fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let bounds = Self::BOUNDS.iter().zip(&self.counts);
        bounds.scan(0, |sum, (&(_, text), count)| {
            *sum += count;
            Some((text, *sum))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_up_to_each_bound() {
        let mut durations = Durations::default();
        for micros in [0, 10, 11, 900, 2_000_000] {
            durations.add(Duration::from_micros(micros));
        }
        let counts: Vec<u64> = durations.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 4, 4, 4, 4, 4]);
        assert_eq!(durations.count(), 5);
        assert_eq!(durations.sum(), Duration::from_micros(2_000_921));
    }

    #[test]
    fn bounds_rise_and_are_written_as_they_are() {
        let bounds = Durations::BOUNDS;
        assert!(bounds.is_sorted_by(|a, b| a.0 < b.0));
        for (bound, text) in bounds {
            assert_eq!(text.parse(), Ok(bound.as_secs_f64()), "{text}");
        }
    }
}
