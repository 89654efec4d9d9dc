//! Traced messages: who of this worker's connections they came to.

use std::mem;

use super::Worker;
use crate::engine::SharedTrace;
use crate::monitor::tracing::{Party, Step};

impl Worker {
    /// Adds to the traces of messages that this worker has just routed.
    #[cold]
    pub(super) fn tell_traces(&mut self) {
        let pause = self.outlets.pause;
        for trace in mem::take(&mut self.outlets.traces) {
            self.add_to(&trace);
        }
        self.outlets.pause = pause;
    }

    /// Adds who of its own a message went to. The last worker that does so tells all of it.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it did the same: the process is about to end then.
    #[cold]
    pub(super) fn add_to(&mut self, shared: &SharedTrace) {
        let lock = || shared.lock().expect("no thread panics and lives on");
        // Found out without the lock: that takes others.
        let trace = lock();
        let (account, subject, only) = (trace.account, trace.subject.clone(), trace.only);
        let own = trace
            .steps
            .iter()
            .enumerate()
            .filter_map(|(at, step)| match step {
                Step::Egress(it) if it.to.owner() == self.index => Some((at, it.clone())),
                _ => None,
            });
        let own: Vec<_> = own.collect();
        drop(trace);
        let mut found = Vec::with_capacity(own.len());
        for (at, egress) in own {
            let mut step = self.engine.find_out(egress, account, &subject, only);
            if let Step::Egress(egress) = &mut step {
                egress.party = egress.conn.and_then(|conn| self.party(conn));
            }
            found.push((at, step));
        }
        let mut trace = lock();
        for (at, step) in found {
            if let Some(place) = trace.steps.get_mut(at) {
                *place = step;
            }
        }
        trace.waiting -= 1;
        if trace.waiting > 0 {
            return;
        }
        self.events += 1;
        let at = self.shared.moment(trace.at);
        let text = trace.text(&self.site(), self.events, at);
        let destination = mem::take(&mut trace.destination);
        drop(trace);
        self.announce(account, (&destination, b""), &text);
    }

    fn party(&self, conn: u32) -> Option<Party> {
        let peer = &self.connections.get(conn as usize)?.peer;
        let application = || peer.as_client()?.connect()?.name.as_deref();
        let server = || Some(peer.as_route()?.remote()?.server_name.as_str());
        Some(Party {
            is_server: peer.as_route().is_some(),
            id: peer.id(),
            name: application().or_else(server).unwrap_or_default().into(),
        })
    }
}
