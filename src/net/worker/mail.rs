//! What other threads have for a worker: messages and commands.

use std::mem;
use std::sync::Arc;

use super::{Connection, Worker, context, slot};
use crate::engine::Delivery;
use crate::limits;
use crate::net::mailbox::{Batch, Command, Settings};
use crate::session::CloseReason;

impl Worker {
    /// Takes all mail that is there now. What comes meanwhile is for the next time: others may fill the mailbox as fast as it
    /// is emptied, and timers, sockets and questions must not wait for them to stop.
    pub(super) fn take_mail(&mut self) {
        let mailbox = usize::from(self.index);
        if !self.shared.mailboxes[mailbox].is_filled() {
            return;
        }
        let mut mail = mem::take(&mut self.mail);
        self.shared.mailboxes[mailbox].take(&mut mail);
        for batch in mail.batches.drain(..) {
            self.work.bytes += batch.weight();
            self.work_off(&batch);
            self.shared.mailboxes[mailbox].give_back(batch);
        }
        for command in mail.commands.drain(..) {
            self.obey(command);
        }
        self.mail = mail;
    }

    pub(super) fn work_off(&mut self, batch: &Batch) {
        batch.traces().iter().for_each(|trace| self.add_to(trace));
        let Worker {
            connections,
            engine,
            outlets,
            shared,
            index,
            ..
        } = self;
        let (mut told, mut last) = (Vec::new(), None);
        batch.for_each_mark(|mark| engine.hear(mark, outlets));
        batch.for_each(|from, letter| {
            if last.replace(from) != Some(from) {
                outlets.begin(from);
            }
            let is_publisher = |it: &Connection| it.serial == from.serial;
            let publisher = connections
                .get(from.conn as usize)
                .filter(|it| from.worker == *index && is_publisher(it))
                .map(|_| from.conn);
            let now = outlets.now;
            let filling = engine.receive(letter, publisher, now, outlets) == Delivery::Filling;
            let pause = outlets.pause.take();
            if let (true, Some(pause), Some(mailbox)) = (
                filling && !told.contains(&from),
                pause,
                shared.mailboxes.get(usize::from(from.worker)),
            ) {
                told.push(from);
                mailbox.command(Command::Stall(from, pause));
            }
        });
        // Whoever waits for a consumer as well goes on when that has drained.
        for &origin in batch.waiting() {
            if !told.contains(&origin) {
                outlets.resume(origin);
            }
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Adopt {
                socket,
                session,
                refuse,
                place,
            } => self.adopt(socket, session, refuse, place),
            Command::Stall(origin, pause) => {
                let serial = self
                    .connections
                    .get(origin.conn as usize)
                    .map(|connection| connection.serial);
                if serial == Some(origin.serial) {
                    self.stall(origin.conn, pause);
                }
            }
            Command::Resume(origin) => self.unstall(origin.conn, origin.serial),
            Command::Verified { origin, verdict } => self.on_verified(origin, verdict),
            Command::Announce {
                account,
                subject,
                reply,
                text,
            } => self.announce(account, (&subject, &reply), &text),
            Command::Survey { question, ticket } => self.survey(question, ticket),
            Command::Close { count, reason } => self.close_some(count, reason),
            Command::Settings { settings, inform } => self.go_over(settings, inform),
            Command::Beat => self.shared.pulse.beat(self.index),
            Command::Admit(origin) => self.admit(origin),
            Command::Route { origin, line, end } => self.tell_route(origin, &line, end),
            Command::Facts {
                facts,
                inform,
                tell,
            } => self.go_by(facts, inform, tell),
            Command::Stop => {
                if self.index == 0 {
                    self.outlets.hand_over();
                    for mailbox in self.shared.mailboxes.iter().skip(1) {
                        mailbox.command(Command::Stop);
                    }
                }
                self.stopping = Some(self.outlets.now + limits::FLUSH_AT_STOP);
                for conn in self.slots() {
                    self.begin_closing(conn, CloseReason::ServerShutdown);
                }
            }
        }
    }

    fn go_over(&mut self, settings: Arc<Settings>, inform: bool) {
        let known = self.settings.broker.accounts().count();
        self.engine.set_broker(Arc::clone(&settings.broker));
        self.engine.tell_accounts(known, &mut self.outlets);
        self.outlets.settings = Arc::clone(&settings);
        self.busy_poll.set_limit(settings.options.busy_poll);
        let old = mem::replace(&mut self.settings, settings);
        self.renew_info();
        if !Arc::ptr_eq(&old.auth, &self.settings.auth) {
            for conn in self.slots() {
                self.review(conn, &old.auth);
            }
        }
        self.close_unpinned(&old);
        self.end_greetings(&old);
        if self.settings.options.address_limits.is_on() {
            self.count_at_addresses();
        }
        if !Arc::ptr_eq(&old.broker, &self.settings.broker) {
            for (_, connection) in &mut self.connections {
                self.engine.replan(&mut connection.peer);
            }
        }
        if inform {
            self.inform();
        }
    }

    /// Counts those that came when their addresses had no limits.
    fn count_at_addresses(&mut self) {
        let (limits, now) = (&self.settings.options.address_limits, self.outlets.now);
        for (_, connection) in &mut self.connections {
            let client = connection.peer.as_client();
            let is_missing = connection.place.is_none() && connection.closing.is_none();
            if let Some(client) = client.filter(|_| is_missing) {
                let addr = client.addr().ip();
                connection.place = Some(self.shared.count_at_address(addr, limits, now));
            }
        }
    }

    pub(super) fn slots(&self) -> Vec<u32> {
        self.connections.iter().map(|(key, _)| slot(key)).collect()
    }

    pub(super) fn close_some(&mut self, count: usize, reason: CloseReason) {
        let open = self
            .connections
            .iter()
            .filter(|(_, it)| it.closing.is_none() && it.peer.as_client().is_some());
        let mut open: Vec<u32> = open.map(|(key, _)| slot(key)).collect();
        for _ in 0..count.min(open.len()) {
            let conn = open.swap_remove(self.rng.below(open.len()));
            self.end_with_text(conn, reason);
        }
    }

    /// Sends INFO to every client that takes one at any time.
    pub(super) fn inform(&mut self) {
        for conn in self.slots() {
            let mut line = Vec::new();
            let open = self.connections.get(conn as usize);
            if let Some(connection) = open.filter(|it| it.closing.is_none()) {
                let lame_duck = self.settings.info.lame_duck;
                let context = context(&self.settings, &self.info, self.outlets.now);
                if let Some(client) = connection.peer.as_client() {
                    client.notify(&context, lame_duck, &mut line);
                }
            }
            if !line.is_empty() {
                self.send(conn, &line);
            }
        }
    }
}
