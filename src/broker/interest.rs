//! Who has to hear of it when this server's interest changes: the workers that have routes.
//!
//! What another server knows of this one is its *interest*: the subjects of each account that somebody here is subscribed
//! to, and for queue groups how many. The account's trie has all of it; what goes from thread to thread is only a
//! [`Mark`] that something may have changed. Whoever gets one looks into the trie for how things stand now, and says
//! that. So it does not matter in which order marks of several workers come, or whether one comes too many.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;

/// What may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The account's index.
    pub account: u32,
    /// The subject.
    pub subject: &'a [u8],
    /// The queue group, if it is about one.
    pub queue: Option<&'a [u8]>,
}

/// How many routes each worker has.
#[derive(Debug)]
pub struct RouteWorkers {
    counts: [AtomicUsize; limits::WORKERS_MAX],
    all: AtomicUsize,
}

impl Default for RouteWorkers {
    fn default() -> Self {
        RouteWorkers {
            counts: [const { AtomicUsize::new(0) }; limits::WORKERS_MAX],
            all: AtomicUsize::new(0),
        }
    }
}

impl RouteWorkers {
    /// A worker has one more. From now on it gets all marks: only then it may look into the tries for what to tell first.
    pub fn add(&self, worker: u16) {
        if let Some(count) = self.counts.get(usize::from(worker)) {
            count.fetch_add(1, Ordering::SeqCst);
            self.all.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A worker has one less.
    pub fn remove(&self, worker: u16) {
        if let Some(count) = self.counts.get(usize::from(worker)) {
            count.fetch_sub(1, Ordering::SeqCst);
            self.all.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// How many there are in all.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }

    /// The workers that have any.
    pub fn workers(&self) -> impl Iterator<Item = u16> {
        let has_any = |count: &AtomicUsize| count.load(Ordering::SeqCst) > 0;
        let all = (0..).zip(&self.counts);
        all.filter(move |(_, count)| has_any(count))
            .map(|(worker, _)| worker)
    }
}

/// Which of `size` connections to another server carries an account: its name's FNV-1a hash, of 32 bits, decides.
#[must_use]
pub fn pool_index(account: &str, size: u32) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let add = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(PRIME);
    account.bytes().fold(OFFSET, add) % size.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_go_where_the_reference_server_puts_them() {
        let known = [
            ("$G", 3, 2),
            ("$G", 5, 3),
            ("$SYS", 3, 0),
            ("ACC", 3, 1),
            ("BCC", 3, 2),
        ];
        for (account, size, index) in known {
            assert_eq!(pool_index(account, size), index, "{account} of {size}");
        }
        assert_eq!((pool_index("$G", 1), pool_index("$G", 0)), (0, 0));
    }

    #[test]
    fn only_workers_with_routes_hear_of_changes() {
        let routes = RouteWorkers::default();
        routes.add(3);
        routes.add(1);
        routes.add(3);
        routes.remove(1);
        assert_eq!(routes.workers().collect::<Vec<_>>(), [3]);
        assert_eq!(routes.count(), 2);
    }
}
