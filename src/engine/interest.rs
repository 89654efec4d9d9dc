//! Telling other servers what this one is interested in, when that changes and when a route is new.
//!
//! Only the first subscription to a subject and the end of the last one are news, and each change of the members of a
//! queue group. What is told is how things stand when it is told, so that a mark too many does no harm.

use std::sync::Arc;

use super::links::Carries;
use super::{Engine, Sink};
use crate::broker::{Account, Mark};
use crate::proto::route::{interest_line, no_interest_line};
use crate::session::ClusterFacts;

/// Changes that have not been told yet, one behind the other.
#[derive(Debug, Default)]
pub(super) struct News {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

/// One change; its bytes are in [`News`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    account: u32,
    at: usize,
    subject_len: usize,
    queue_len: Option<usize>,
}

/// Nodes of a trie that are looked at while it is locked.
const NODES_AT_ONCE: usize = 1024;

impl News {
    /// Adds one, unless it is the same as the last.
    pub(super) fn push(&mut self, account: u32, subject: &[u8], queue: Option<&[u8]>) {
        let mark = Mark {
            account,
            subject,
            queue,
        };
        if self
            .items
            .last()
            .is_some_and(|last| self.mark(last) == mark)
        {
            return;
        }
        self.items.push(Item {
            account,
            at: self.bytes.len(),
            subject_len: subject.len(),
            queue_len: queue.map(<[u8]>::len),
        });
        self.bytes.extend_from_slice(subject);
        self.bytes.extend_from_slice(queue.unwrap_or_default());
    }

    fn mark(&self, item: &Item) -> Mark<'_> {
        let bytes = self.bytes.get(item.at..).unwrap_or_default();
        let (subject, rest) = bytes.split_at_checked(item.subject_len).unwrap_or_default();
        Mark {
            account: item.account,
            subject,
            queue: item.queue_len.and_then(|len| rest.get(..len)),
        }
    }
}

impl Engine {
    /// Goes over to other facts about this server.
    pub fn set_facts(&mut self, facts: Arc<ClusterFacts>) {
        self.facts = facts;
    }

    /// Tells the other servers of all changes of interest so far.
    #[inline]
    pub fn tell_news(&mut self, sink: &mut impl Sink) {
        if !self.news.items.is_empty() {
            self.tell_all_news(sink);
        }
    }

    #[cold]
    fn tell_all_news(&mut self, sink: &mut impl Sink) {
        let mut news = std::mem::take(&mut self.news);
        for item in &news.items {
            let mark = news.mark(item);
            let broker = Arc::clone(&self.broker);
            for worker in broker.routes.workers() {
                match worker == self.worker {
                    true => self.hear(&mark, sink),
                    false => sink.announce(&mark, worker),
                }
            }
        }
        news.items.clear();
        news.bytes.clear();
        self.news = news;
    }

    /// Tells the servers that this worker has routes to how things stand with a subject.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it changed the trie.
    pub fn hear(&mut self, mark: &Mark<'_>, sink: &mut impl Sink) {
        let Some(account) = self.broker.account(mark.account) else {
            return;
        };
        if !self.facts.import.passes(mark.subject) {
            return;
        }
        let trie = account.trie.read().expect("no thread panics and lives on");
        let count = trie.local_count_of(mark.subject, mark.queue);
        drop(trie);
        let is_own = || self.facts.services.include(&account.name, mark.subject);
        if count == 0 && mark.queue.is_none() && is_own() {
            // A client was interested too, which is over; the server is.
            return;
        }
        for link in self.links.iter() {
            if !link.carries.includes(&account.name, &self.facts) {
                continue;
            }
            let shown = link.carries.shown(&account.name);
            let line = &mut self.scratch;
            line.clear();
            match (count, mark.queue) {
                (0, queue) => no_interest_line(shown, mark.subject, queue, line),
                (_, queue) => {
                    interest_line(shown, mark.subject, queue.map(|it| (it, count)), line);
                }
            }
            sink.reply(link.conn, line);
        }
    }

    /// Tells one server everything that a connection carries.
    pub(super) fn tell_everything(&mut self, conn: u32, carries: &Carries, sink: &mut impl Sink) {
        let broker = Arc::clone(&self.broker);
        let carried = broker.accounts();
        let facts = Arc::clone(&self.facts);
        for account in carried.filter(|it| carries.includes(&it.name, &facts)) {
            self.tell_account(account, conn, carries, sink);
        }
    }

    /// Tells the other servers what this one is interested in in accounts that came with the latest broker, behind those
    /// that were `known` before. Marks of it may have come when this worker did not know them.
    pub fn tell_accounts(&mut self, known: usize, sink: &mut impl Sink) {
        let (broker, facts) = (Arc::clone(&self.broker), Arc::clone(&self.facts));
        let links = self.links.iter().map(|it| (it.conn, it.carries.clone()));
        let links: Vec<_> = links.collect();
        for account in broker.accounts().skip(known) {
            for (conn, carries) in &links {
                if carries.includes(&account.name, &facts) {
                    self.tell_account(account, *conn, carries, sink);
                }
            }
        }
    }

    /// Takes back what may not be told any more.
    pub(super) fn withdraw_everything(
        &mut self,
        conn: u32,
        carries: &Carries,
        sink: &mut impl Sink,
    ) {
        let (broker, facts) = (Arc::clone(&self.broker), Arc::clone(&self.facts));
        for account in broker
            .accounts()
            .filter(|it| carries.includes(&it.name, &facts))
        {
            let shown = carries.shown(&account.name);
            let mut next = Some(0);
            while let Some(from) = next {
                let lines = &mut self.scratch;
                lines.clear();
                let trie = account.trie.read().expect("no thread panics and lives on");
                next = trie.for_each_local(from, NODES_AT_ONCE, |interest| {
                    if !facts.import.passes(interest.subject) {
                        let queue = interest.queue.map(|(name, _)| name);
                        no_interest_line(shown, interest.subject, queue, lines);
                    }
                });
                drop(trie);
                if !lines.is_empty() {
                    sink.reply(conn, lines);
                }
            }
            if facts.services.account == account.name {
                let lines = &mut self.scratch;
                lines.clear();
                let subjects = facts.services.subjects.iter().map(String::as_bytes);
                for subject in subjects.filter(|it| !facts.import.passes(it)) {
                    no_interest_line(shown, subject, None, lines);
                }
                sink.reply(conn, lines);
            }
        }
    }

    /// The trie is locked for a part of it at a time; whatever changes meanwhile is told as news.
    fn tell_account(
        &mut self,
        account: &Account,
        conn: u32,
        carries: &Carries,
        sink: &mut impl Sink,
    ) {
        let (shown, import) = (carries.shown(&account.name), &self.facts.import);
        let mut next = Some(0);
        while let Some(from) = next {
            let lines = &mut self.scratch;
            lines.clear();
            let trie = account.trie.read().expect("no thread panics and lives on");
            next = trie.for_each_local(from, NODES_AT_ONCE, |interest| {
                if import.passes(interest.subject) {
                    interest_line(shown, interest.subject, interest.queue, lines);
                }
            });
            drop(trie);
            if !lines.is_empty() {
                sink.reply(conn, lines);
            }
        }
        let services = &self.facts.services;
        if services.account == account.name {
            let lines = &mut self.scratch;
            lines.clear();
            let subjects = services.subjects.iter().map(String::as_bytes);
            for subject in subjects.filter(|it| import.passes(it)) {
                interest_line(shown, subject, None, lines);
            }
            sink.reply(conn, lines);
        }
    }
}
