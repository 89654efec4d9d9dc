//! What other workers must know of guarded subscriptions: which messages they will not take.
//!
//! Whether a delivery is permitted is for the worker of the subscription to say, when the message is there. Whether a
//! request reached anybody has to be said before, by the worker of the requester.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use foldhash::fast::RandomState;

use crate::config::options::Permissions;
use crate::subject::renaming::Renaming;
use crate::sublist::SubRef;

/// One subscription to which some of what it matches is denied.
#[derive(Debug)]
pub struct Denial {
    /// What its connection may do.
    pub permissions: Arc<Permissions>,
    /// Its queue group.
    pub queue: Option<Box<[u8]>>,
    /// The subjects here and in its own account, if it is the shadow of one there.
    pub renaming: Option<Arc<Renaming>>,
}

/// Those in the trie of one account.
#[derive(Debug, Default)]
pub struct Denials {
    /// Looked at for each message that changes workers; there are none in most accounts.
    count: AtomicUsize,
    by_sub: RwLock<HashMap<SubRef, Denial, RandomState>>,
}

impl Denial {
    fn holds(&self, subject: &[u8]) -> bool {
        let rules = &self.permissions.subscribe;
        let Some(renaming) = &self.renaming else {
            return rules.denies(subject, self.queue.as_deref());
        };
        let mut here = Vec::new();
        !renaming.name_here(subject, &mut here) || rules.denies(&here, self.queue.as_deref())
    }
}

impl Denials {
    /// Whether nothing is denied to anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Notes a subscription.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it did the same: the process is about to end then.
    pub fn add(&self, sub: SubRef, denial: Denial) {
        let mut by_sub = self.by_sub.write().expect("no thread panics and lives on");
        by_sub.insert(sub, denial);
        self.count.store(by_sub.len(), Ordering::Relaxed);
    }

    /// Forgets one.
    ///
    /// # Panics
    ///
    /// As [`Denials::add`].
    pub fn remove(&self, sub: SubRef) {
        if self.is_empty() {
            return;
        }
        let mut by_sub = self.by_sub.write().expect("no thread panics and lives on");
        by_sub.remove(&sub);
        if by_sub.is_empty() {
            by_sub.shrink_to_fit();
        }
        self.count.store(by_sub.len(), Ordering::Relaxed);
    }

    /// Whether a message for this subject will not be taken by any of these subscriptions.
    ///
    /// # Panics
    ///
    /// As [`Denials::add`].
    #[must_use]
    pub fn hold(&self, subs: &[SubRef], subject: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let by_sub = self.by_sub.read().expect("no thread panics and lives on");
        let is_denied = |sub| by_sub.get(sub).is_some_and(|it| it.holds(subject));
        subs.iter().all(is_denied)
    }
}
