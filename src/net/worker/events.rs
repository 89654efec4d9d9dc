//! What the system account is told of this worker's clients.

use super::Worker;
use crate::id;
use crate::monitor::snapshot::ConnectionSnapshot;
use crate::monitor::{Calendar, Event, Site};
use crate::net::mailbox::Origin;
use crate::net::monitor::unix_time;
use crate::session::CloseReason;

impl Worker {
    /// Sends a text of the server's own to whoever is subscribed in an account: the subject, and where answers go, if any
    /// are wanted.
    pub(super) fn announce(&mut self, account: u32, (subject, reply): (&[u8], &[u8]), text: &str) {
        let Worker {
            engine, outlets, ..
        } = self;
        outlets.begin(Origin {
            worker: self.index,
            conn: u32::MAX,
            serial: 0,
        });
        let now = outlets.now;
        engine.announce(account, (subject, reply), text, now, outlets);
        // Whoever falls behind in reading what the server says makes nobody wait.
        outlets.pause = None;
    }

    /// A client is in.
    pub(super) fn report_login(&mut self, conn: u32) {
        let connection = self.connections.get(conn as usize);
        let client = connection.and_then(|it| it.peer.as_client());
        let Some(identity) = client.and_then(|it| it.identity()) else {
            return;
        };
        self.note_crowd();
        if identity.is_system {
            if let Some(control) = self.shared.control.get() {
                control.look();
            }
        }
        // Made only for those who hear it.
        if self
            .hearing(Event::Connect, &identity.account_name)
            .is_some()
        {
            if let Some(snapshot) = self.snapshot(conn) {
                self.report(Event::Connect, &snapshot);
            }
        }
    }

    /// A client has come into its account, or left it: whoever counts them is told, if there is anybody.
    pub(super) fn note_crowd(&self) {
        let broker = &self.settings.broker;
        let mut entries = self.settings.auth.accounts().iter().zip(0..);
        let system = entries.find(|(entry, _)| entry.is_system);
        let system = system.and_then(|(_, index)| broker.account(index));
        if broker.routes.count() > 0 || system.is_some_and(|it| it.connections() > 0) {
            self.shared.note_crowd();
        }
    }

    /// A client has left.
    pub(super) fn report_end(&mut self, snapshot: &ConnectionSnapshot, reason: CloseReason) {
        let is_refusal = matches!(
            reason,
            CloseReason::AuthenticationFailure | CloseReason::AuthenticationTimeout
        );
        if is_refusal {
            self.report(Event::AuthError, snapshot);
        }
        if is_refusal || snapshot.is_known {
            self.report(Event::Disconnect, snapshot);
        }
    }

    /// The system account's index, if anybody would hear there of this event of a client in an account.
    pub(super) fn hearing(&self, event: Event, account: &str) -> Option<u32> {
        let mut entries = self.settings.auth.accounts().iter().zip(0..);
        let (_, index) = entries.find(|(entry, _)| entry.is_system)?;
        let system = self.settings.broker.account(index)?;
        let subject = event.subject(account, &self.info.server_id);
        system.is_heard(subject.as_bytes()).then_some(index)
    }

    /// Whether the end of a client in an account may be news to anybody.
    pub(super) fn is_end_heard(&self, account: u32) -> bool {
        let Some(account) = self.settings.broker.account(account) else {
            return false;
        };
        [Event::AuthError, Event::Disconnect]
            .iter()
            .any(|&event| self.hearing(event, &account.name).is_some())
    }

    fn report(&mut self, event: Event, snapshot: &ConnectionSnapshot) {
        let Some(account) = self.hearing(event, &snapshot.account) else {
            return;
        };
        self.events += 1;
        let text = event.text(&self.site(), self.events, &id::nonce(), snapshot);
        let subject = event.subject(&snapshot.account, &self.settings.info.server_id);
        self.announce(account, (subject.as_bytes(), b""), &text);
    }

    /// What an event may tell of the server.
    pub(super) fn site(&self) -> Site<'_> {
        let now = self.moment();
        let loaded = self.shared.moment(self.settings.loaded);
        Site {
            options: &self.settings.options,
            info: &self.info,
            calendar: Calendar::new(now, unix_time()),
            now,
            started: loaded,
            configured: loaded,
            digest: &self.settings.digest,
        }
    }
}
