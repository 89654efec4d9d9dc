//! `connection_rate_limit`: so many handshakes a second, of all workers together.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::limits;
use crate::log::{Logger, warn};

/// Counts over windows that begin with the first attempt after the last one has ended.
#[derive(Debug, Default)]
pub struct HandshakeRate(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    count: u32,
    rejected: u32,
}

impl HandshakeRate {
    /// Whether one more handshake may start, where a second may have `max` of them.
    pub(in crate::net) fn admits(&self, max: Option<u32>, now: Instant) -> bool {
        let Some(max) = max.filter(|&max| max > 0) else {
            return true;
        };
        let mut window = self.lock();
        let is_over =
            |since: Instant| now.saturating_duration_since(since) >= limits::TLS_RATE_WINDOW;
        if window.since.is_none_or(is_over) {
            window.since = Some(now);
            window.count = 0;
        }
        window.count = window.count.saturating_add(1);
        if window.count > max {
            window.rejected = window.rejected.saturating_add(1);
        }
        window.count <= max
    }

    /// Logs how many were not let in since the last report.
    pub(in crate::net) fn report(&self, log: &Logger) {
        let rejected = std::mem::take(&mut self.lock().rejected);
        if rejected > 0 {
            warn!(
                log,
                "Rejected {rejected} connections due to TLS rate limiting"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.0.lock().expect("no thread panics and lives on")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_window_lets_so_many_in_and_the_next_one_again() {
        let (rate, start) = (HandshakeRate::default(), Instant::now());
        let admitted = |at| (0..5).filter(|_| rate.admits(Some(2), at)).count();
        assert_eq!(admitted(start), 2);
        assert_eq!(admitted(start + Duration::from_millis(999)), 0);
        assert_eq!(admitted(start + Duration::from_secs(1)), 2);
        assert!((0..5).all(|_| rate.admits(None, start) && rate.admits(Some(0), start)));
        assert_eq!(rate.lock().rejected, 3 + 5 + 3);
    }
}
