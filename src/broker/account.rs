//! Accounts: separate worlds of subjects in one server.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sublist::{Generations, NodeId, SubRef, Sublist};

/// The account of those who name none.
pub const GLOBAL: &str = "$G";

/// One account, shared by all workers.
#[derive(Debug)]
pub struct Account {
    /// Its place in the broker's list.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Who is subscribed. Written by SUB and UNSUB, read when a worker's cache does not know a subject.
    pub trie: RwLock<Sublist>,
    /// Changes to the trie, for the caches.
    pub generations: Generations,
    /// Connections that may be in it at a time; `None` is unlimited.
    max_connections: Option<usize>,
    /// Connections in it.
    connections: AtomicUsize,
}

/// All accounts.
#[derive(Debug)]
pub struct Broker {
    accounts: Vec<Account>,
}

impl Default for Broker {
    fn default() -> Self {
        Broker::new([(GLOBAL, None)])
    }
}

impl Broker {
    /// A broker for accounts with these names and limits of connections.
    pub fn new<'n>(accounts: impl IntoIterator<Item = (&'n str, Option<usize>)>) -> Self {
        let account = |((name, max_connections), index): ((&str, _), _)| Account {
            index,
            name: name.into(),
            trie: RwLock::default(),
            generations: Generations::default(),
            max_connections,
            connections: AtomicUsize::new(0),
        };
        Broker {
            accounts: accounts.into_iter().zip(0..).map(account).collect(),
        }
    }

    /// The account with this index.
    #[must_use]
    pub fn account(&self, index: u32) -> Option<&Account> {
        self.accounts.get(index as usize)
    }
}

impl Account {
    /// Counts a connection in; false if there is no room for it.
    pub fn enter(&self) -> bool {
        let has_room = |&count: &usize| self.max_connections.is_none_or(|max| count < max);
        let one_more = |count| Some(count).filter(has_room).map(|count| count + 1);
        let order = Ordering::Relaxed;
        self.connections
            .fetch_update(order, order, one_more)
            .is_ok()
    }

    /// Counts a connection out that was counted in.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections in it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Puts a subscription into force.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it changed the trie: the process is about to end then.
    pub fn subscribe(&self, subject: &[u8], queue: Option<&[u8]>, sub: SubRef) -> NodeId {
        let node = self
            .trie
            .write()
            .expect("no thread panics and lives on")
            .insert(subject, queue, sub);
        self.generations.touch(subject);
        node
    }

    /// Ends a subscription.
    ///
    /// # Panics
    ///
    /// As [`Account::subscribe`].
    pub fn unsubscribe(
        &self,
        node: NodeId,
        queue: Option<&[u8]>,
        sub: SubRef,
        scratch: &mut Vec<u8>,
    ) {
        scratch.clear();
        {
            let mut trie = self.trie.write().expect("no thread panics and lives on");
            trie.subject_of(node, scratch);
            trie.remove(node, queue, sub);
        }
        self.generations.touch(scratch);
    }
}
