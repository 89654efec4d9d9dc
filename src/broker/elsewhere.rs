//! Connections that an account has at the other servers of the cluster, as these tell.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Elsewhere {
    by_server: Mutex<HashMap<String, usize>>,
    sum: AtomicUsize,
}

impl Elsewhere {
    /// Connections at all the others together.
    #[must_use]
    pub fn sum(&self) -> usize {
        self.sum.load(Ordering::Relaxed)
    }

    /// The server with this id has so many. What more servers than a cluster has tell is passed over.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it counted: the process is about to end then.
    pub fn note(&self, server: &str, count: usize) {
        let mut counts = self
            .by_server
            .lock()
            .expect("no thread panics and lives on");
        if count == 0 {
            counts.remove(server);
        } else if let Some(known) = counts.get_mut(server) {
            *known = count;
        } else if counts.len() < limits::SERVERS_COUNTED_MAX {
            counts.insert(server.into(), count);
        }
        let sum = counts
            .values()
            .fold(0_usize, |sum, it| sum.saturating_add(*it));
        self.sum.store(sum, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_server_counts() {
        let elsewhere = Elsewhere::default();
        elsewhere.note("B", 2);
        elsewhere.note("C", 3);
        elsewhere.note("B", 4);
        assert_eq!(elsewhere.sum(), 7);
        elsewhere.note("C", 0);
        elsewhere.note("D", 0);
        assert_eq!(elsewhere.sum(), 4);
        elsewhere.note("E", usize::MAX);
        assert_eq!(elsewhere.sum(), usize::MAX);
    }
}
