//! The connections that closed last.

use std::collections::VecDeque;
use std::sync::Arc;

use super::snapshot::ConnectionSnapshot;

/// A history of closed connections, bounded by their number and by the memory they take; the oldest go first.
#[derive(Debug)]
pub struct ClosedRing {
    entries: VecDeque<Arc<ConnectionSnapshot>>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl ClosedRing {
    /// An empty one for so many connections, and so many bytes.
    #[must_use]
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        ClosedRing {
            entries: VecDeque::new(),
            bytes: 0,
            entries_max,
            bytes_max,
        }
    }

    /// Adds one.
    pub fn push(&mut self, snapshot: ConnectionSnapshot) {
        self.add(Arc::new(snapshot));
    }

    /// Adds those of another one, which closed later.
    pub fn append(&mut self, later: ClosedRing) {
        later.entries.into_iter().for_each(|it| self.add(it));
    }

    /// Takes out all that it has.
    #[must_use]
    pub fn take(&mut self) -> ClosedRing {
        let empty = ClosedRing::new(self.entries_max, self.bytes_max);
        std::mem::replace(self, empty)
    }

    fn add(&mut self, snapshot: Arc<ConnectionSnapshot>) {
        self.bytes += snapshot.memory();
        self.entries.push_back(snapshot);
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some(gone) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= gone.memory();
        }
    }

    /// Those that are remembered, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ConnectionSnapshot>> {
        self.entries.iter()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::monitor::snapshot::Kind;
    use crate::monitor::time::Moment;
    use std::time::Duration;

    pub(in crate::monitor) fn connection(cid: u64, name: &str) -> ConnectionSnapshot {
        ConnectionSnapshot {
            cid,
            kind: Kind::Client,
            addr: ([127, 0, 0, 1], 5000).into(),
            start: Moment(0),
            active: Moment(0),
            end: None,
            rtt: Duration::ZERO,
            pending: 0,
            received: Default::default(),
            sent: Default::default(),
            stalls: 0,
            subs: 0,
            name: name.into(),
            lang: "".into(),
            version: "".into(),
            tls: None,
            user: "".into(),
            has_nkey: false,
            is_known: true,
            account: "$G".into(),
            listed: Vec::new(),
        }
    }

    fn cids(ring: &ClosedRing) -> Vec<u64> {
        ring.iter().map(|it| it.cid).collect()
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_take_too_much() {
        let mut ring = ClosedRing::new(3, 10_000);
        (1..=5).for_each(|cid| ring.push(connection(cid, "")));
        assert_eq!(cids(&ring), [3, 4, 5]);
        let room = 10_000 - connection(6, "").memory() - 100;
        ring.push(connection(6, &"x".repeat(room)));
        assert_eq!(cids(&ring), [6]);
        ring.push(connection(7, &"x".repeat(20_000)));
        assert!(cids(&ring).is_empty() && ring.bytes == 0);
    }

    #[test]
    fn those_that_closed_later_come_behind() {
        let (mut ring, mut later) = (ClosedRing::new(3, 10_000), ClosedRing::new(9, 10_000));
        (1..=2).for_each(|cid| ring.push(connection(cid, "")));
        (3..=4).for_each(|cid| later.push(connection(cid, "")));
        ring.append(later.take());
        assert_eq!((cids(&ring), cids(&later)), (vec![2, 3, 4], vec![]));
        assert_eq!(
            (ring.bytes, later.bytes),
            (3 * connection(1, "").memory(), 0)
        );
    }
}
