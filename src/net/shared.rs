//! What the threads of a server share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use super::acceptor::Control;
use super::addresses::{Addresses, Place};
use super::busy_poll::Places;
use super::cluster::Desk;
use super::mailbox::{Command, Mailbox};
use super::pulse::Pulse;
use super::tls::HandshakeRate;
use super::verifier::Verifier;
use crate::config::options::AddressLimits;
use crate::limits;
use crate::log::Logger;
use crate::monitor::snapshot::{ByKind, ConnectionSnapshot};
use crate::monitor::system::SystemRequest;
use crate::monitor::{ClosedRing, Moment};
use crate::rng::Rng;
use crate::session::CloseReason;

/// What the threads of a server share.
#[derive(Debug)]
pub struct Shared {
    /// One for each worker.
    pub mailboxes: Vec<Mailbox>,
    /// Where to write the log.
    pub log: Logger,
    /// Connections that are being served, by worker.
    pub connections: Vec<AtomicUsize>,
    /// Those that are not any more, or never will be, and take up descriptors until their peers have read to the end.
    pub parting: AtomicUsize,
    /// Connections that were closed because they were too slow.
    pub slow_consumers: Tally,
    /// Where connections come from, if that is limited.
    pub addresses: Mutex<Addresses>,
    /// Connections that were refused because of their address.
    pub address_refusals: AtomicUsize,
    /// Whether the workers are alive.
    pub pulse: Pulse,
    /// Counts the handshakes that clients start.
    pub tls_rate: HandshakeRate,
    /// Connections that were closed because they did not answer PINGs.
    pub stale: Tally,
    /// Connections that were closed because they did not show in time who they are.
    pub auth_failures: AtomicUsize,
    /// What moments count from.
    pub epoch: Instant,
    /// The control thread, once there is one.
    pub control: OnceLock<Arc<Control>>,
    /// Connections that closed, until the control thread takes them.
    pub closed: Closed,
    /// What happens on routes.
    pub desk: Desk,
    /// Clients have come into accounts, or left them, since the control thread last looked.
    pub crowd_changed: AtomicBool,
    /// Checks passwords.
    pub verifier: Verifier,
    /// Who may poll before it sleeps.
    pub polling: Places,
    /// Bytes that wait to be sent, as of the last turn of each worker; 0 where no limit makes it worth counting.
    pub buffered: AtomicUsize,
}

/// Connections, by kind.
#[derive(Debug, Default)]
pub struct Tally {
    clients: AtomicUsize,
    routes: AtomicUsize,
}

impl Tally {
    /// Counts one more.
    pub(super) fn add(&self, is_route: bool) {
        let count = if is_route {
            &self.routes
        } else {
            &self.clients
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// As pages show it.
    #[must_use]
    pub fn by_kind(&self) -> ByKind {
        ByKind {
            clients: self.clients.load(Ordering::Relaxed) as u64,
            routes: self.routes.load(Ordering::Relaxed) as u64,
            ..ByKind::default()
        }
    }

    /// All of them.
    #[must_use]
    pub fn sum(&self) -> usize {
        self.clients.load(Ordering::Relaxed) + self.routes.load(Ordering::Relaxed)
    }
}

/// Connections on their way into the history.
#[derive(Debug)]
pub struct Closed {
    /// Whether anybody can ask for them.
    wanted: AtomicBool,
    /// No more of them than the history can hold: when a crowd leaves, it may be a while before that takes them.
    last: Mutex<ClosedRing>,
}

impl Default for Closed {
    fn default() -> Self {
        let last = ClosedRing::new(usize::MAX, limits::CLOSED_BYTES_MAX);
        Closed {
            wanted: AtomicBool::new(false),
            last: Mutex::new(last),
        }
    }
}

impl Shared {
    /// What the workers with these mailboxes share, on a machine with so many cores, before anything has happened.
    #[must_use]
    pub fn new(mailboxes: Vec<Mailbox>, log: Logger, cores: usize) -> Self {
        let workers = mailboxes.len();
        Shared {
            mailboxes,
            log,
            connections: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            parting: AtomicUsize::new(0),
            slow_consumers: Tally::default(),
            addresses: Mutex::default(),
            address_refusals: AtomicUsize::new(0),
            pulse: Pulse::new(workers),
            tls_rate: HandshakeRate::default(),
            stale: Tally::default(),
            auth_failures: AtomicUsize::new(0),
            epoch: Instant::now(),
            control: OnceLock::new(),
            closed: Closed::default(),
            desk: Desk::default(),
            crowd_changed: AtomicBool::new(false),
            verifier: Verifier::default(),
            polling: Places::on(cores),
            buffered: AtomicUsize::new(0),
        }
    }

    /// A time as monitoring counts it.
    #[inline]
    #[must_use]
    pub fn moment(&self, time: Instant) -> Moment {
        Moment::after(time.saturating_duration_since(self.epoch))
    }

    /// Gives the control thread a request to the server.
    pub(super) fn request(&self, request: SystemRequest) {
        if let Some(control) = self.control.get() {
            control.request(request);
        }
    }

    /// Notes that a client has come into an account, or left it, for those who are told of that.
    pub(super) fn note_crowd(&self) {
        if !self.crowd_changed.swap(true, Ordering::AcqRel) {
            if let Some(control) = self.control.get() {
                control.look();
            }
        }
    }

    /// Whether closed connections are remembered.
    #[must_use]
    pub fn remembers_closed(&self) -> bool {
        self.closed.wanted.load(Ordering::Relaxed)
    }

    /// From now on closed connections are remembered.
    pub fn start_remembering(&self) {
        self.closed.wanted.store(true, Ordering::Relaxed);
    }

    /// Notes a connection that closed.
    pub(super) fn remember(&self, snapshot: ConnectionSnapshot) {
        self.last_closed().push(snapshot);
    }

    /// Takes out those that closed since this was last called.
    pub(super) fn take_closed(&self) -> ClosedRing {
        self.last_closed().take()
    }

    fn last_closed(&self) -> MutexGuard<'_, ClosedRing> {
        let last = self.closed.last.lock();
        last.expect("no thread panics and lives on")
    }

    /// Connections of all workers.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        let counts = self.connections.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that wait somewhere between two sockets.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let mailboxes: usize = self.mailboxes.iter().map(Mailbox::backlog).sum();
        self.buffered.load(Ordering::Relaxed) + mailboxes
    }

    /// Counts a connection that is there already at its address.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it counted.
    pub fn count_at_address(&self, addr: IpAddr, limits: &AddressLimits, now: Instant) -> Place {
        let addresses = self.addresses.lock();
        let mut addresses = addresses.expect("no thread panics and lives on");
        addresses.count(addr, limits, now)
    }

    /// Has `count` connections closed, any of them as likely as the others.
    pub fn close_some(&self, count: usize, reason: CloseReason, rng: &mut Rng) {
        let counts = self.connections.iter();
        let mut left: Vec<usize> = counts.map(|count| count.load(Ordering::Relaxed)).collect();
        let mut chosen = vec![0; left.len()];
        for _ in 0..count {
            let mut at = rng.below(left.iter().sum());
            for (left, chosen) in left.iter_mut().zip(&mut chosen) {
                if at < *left {
                    *left -= 1;
                    *chosen += 1;
                    break;
                }
                at -= *left;
            }
        }
        for (mailbox, &count) in self.mailboxes.iter().zip(&chosen) {
            if count > 0 {
                mailbox.command(Command::Close { count, reason });
            }
        }
    }
}
