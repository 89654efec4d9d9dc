//! Whether the workers still take their turns, for a service manager that wants to know.
//!
//! The control thread asks all of them and looks after a while who has answered. While one has not, it does not tell
//! the manager that the server is alive.

use std::sync::atomic::{AtomicBool, Ordering};

/// Who has answered since all were asked.
#[derive(Debug)]
pub struct Pulse(Vec<AtomicBool>);

impl Pulse {
    /// That of so many workers, none of which has been asked.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Pulse((0..workers).map(|_| AtomicBool::new(true)).collect())
    }

    /// A worker's answer.
    pub fn beat(&self, worker: u16) {
        if let Some(answered) = self.0.get(usize::from(worker)) {
            answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether all have answered; then they are to be asked again.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        let is_regular = self.0.iter().all(|it| it.load(Ordering::Relaxed));
        if is_regular {
            self.0
                .iter()
                .for_each(|it| it.store(false, Ordering::Relaxed));
        }
        is_regular
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_that_does_not_answer_is_enough() {
        let pulse = Pulse::new(2);
        assert!(pulse.is_regular());
        assert!(!pulse.is_regular());
        pulse.beat(0);
        pulse.beat(7);
        assert!(!pulse.is_regular());
        pulse.beat(1);
        assert!(pulse.is_regular() && !pulse.is_regular());
    }
}
