//! Accounts: separate worlds of subjects in one server.

use std::sync::RwLock;

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
}

/// All accounts.
#[derive(Debug)]
pub struct Broker {
    accounts: Vec<Account>,
}

impl Default for Broker {
    fn default() -> Self {
        Broker::new([GLOBAL])
    }
}

impl Broker {
    /// A broker for these accounts.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let accounts = names.into_iter().zip(0..).map(|(name, index)| Account {
            index,
            name: name.into(),
            trie: RwLock::default(),
            generations: Generations::default(),
        });
        Broker {
            accounts: accounts.collect(),
        }
    }

    /// The account with this index.
    #[must_use]
    pub fn account(&self, index: u32) -> Option<&Account> {
        self.accounts.get(index as usize)
    }
}

impl Account {
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
