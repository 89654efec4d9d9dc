//! Accounts: separate worlds of subjects in one server.
//!
//! A [`Broker`] is what one configuration makes of them, and is replaced as a whole with it. The accounts themselves go on
//! from one to the next, each in its place: whoever holds an index, or has a message for it under way, need not care
//! which broker another thread has. An account that the configuration no longer has keeps its place, empty, for the
//! case that it comes back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::denials::Denials;
use super::elsewhere::Elsewhere;
use super::interest::RouteWorkers;
use super::plan::{self, Plan, ServiceImport};
use crate::config::options::Options;
use crate::sublist::{Generations, NodeId, SubRef, Sublist};

/// The account of those who name none.
pub const GLOBAL: &str = "$G";
/// The worker of references that stand for an account's service imports: there is none with this number, and whoever
/// tells other servers of interest leaves these out. The slot is the import's place in the [`Plan`].
pub const SERVICES: u16 = SubRef::INTERNAL;

/// One account, shared by all workers and by the brokers of all configurations.
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
    /// Subscriptions in the trie that will not take all that they match.
    pub denials: Denials,
    /// Connections that may be in it at a time; `usize::MAX` is unlimited.
    max_connections: AtomicUsize,
    /// Connections in it.
    connections: AtomicUsize,
    /// Those at other servers.
    pub elsewhere: Elsewhere,
    /// The service imports that are in its trie.
    offered: Mutex<Offered>,
}

/// Service imports in a trie.
#[derive(Debug, Default)]
struct Offered {
    services: Vec<ServiceImport>,
    places: Vec<(NodeId, SubRef)>,
    serial: u32,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// In the trie.
    pub node: NodeId,
    /// Whether other servers have to be told: it is the first of its subject, or one in a group, whose members count.
    pub is_news: bool,
}

/// All accounts, as one configuration has them.
#[derive(Debug)]
pub struct Broker {
    accounts: Vec<Arc<Account>>,
    /// What each of them takes from others, by index.
    plans: Vec<Plan>,
    by_name: HashMap<String, u32>,
    /// The workers that have routes.
    pub routes: Arc<RouteWorkers>,
}

impl Default for Broker {
    fn default() -> Self {
        Broker::new([(GLOBAL, None)])
    }
}

impl Broker {
    /// A broker for accounts with these names and limits of connections.
    pub fn new<'n>(accounts: impl IntoIterator<Item = (&'n str, Option<usize>)>) -> Self {
        let nothing = Broker {
            accounts: Vec::new(),
            plans: Vec::new(),
            by_name: HashMap::new(),
            routes: Arc::default(),
        };
        nothing.renewed(accounts)
    }

    /// The broker of the next configuration: `accounts` begins with those that there are, in the same order. Their new
    /// limits hold at once, for whoever comes in.
    #[must_use]
    pub fn renewed<'n>(
        &self,
        accounts: impl IntoIterator<Item = (&'n str, Option<usize>)>,
    ) -> Self {
        let account = |((name, max_connections), index): ((&str, Option<usize>), u32)| {
            let max_connections = max_connections.unwrap_or(usize::MAX);
            match self.accounts.get(index as usize) {
                Some(account) if account.name == name => {
                    let limit = &account.max_connections;
                    limit.store(max_connections, Ordering::Relaxed);
                    Arc::clone(account)
                }
                _ => Arc::new(Account::new(index, name, max_connections)),
            }
        };
        let accounts: Vec<_> = accounts.into_iter().zip(0..).map(account).collect();
        let names = accounts.iter().map(|it| (it.name.clone(), it.index));
        Broker {
            by_name: names.collect(),
            accounts,
            plans: Vec::new(),
            routes: Arc::clone(&self.routes),
        }
    }

    /// The same with what the accounts share and map according to these options, which have been checked. Service
    /// imports of the configuration before are not found any more.
    #[must_use]
    pub fn planned(mut self, options: &Options) -> Self {
        let names: Vec<&str> = self.accounts.iter().map(|it| it.name.as_str()).collect();
        self.plans = plan::plans(&names, options);
        for (account, plan) in self.accounts.iter().zip(&mut self.plans) {
            plan.services_serial = account.offer(&plan.services);
        }
        self
    }

    /// The plan of the account with this index, if there is anything in it.
    #[must_use]
    pub fn plan(&self, index: u32) -> Option<&Plan> {
        self.plans.get(index as usize)
    }

    /// The service import that a reference of worker [`SERVICES`] in this account's trie stands for, unless it is one
    /// of another configuration.
    #[must_use]
    pub fn service(&self, account: u32, sub: SubRef) -> Option<&ServiceImport> {
        let plan = self.plan(account)?;
        let service = plan.services.get(sub.slot as usize);
        service.filter(|_| sub.serial == plan.services_serial)
    }

    /// The account with this name.
    #[must_use]
    pub fn account_named(&self, name: &str) -> Option<&Arc<Account>> {
        self.account(*self.by_name.get(name)?)
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.iter()
    }

    /// The account with this index.
    #[must_use]
    pub fn account(&self, index: u32) -> Option<&Arc<Account>> {
        self.accounts.get(index as usize)
    }
}

impl Account {
    fn new(index: u32, name: &str, max_connections: usize) -> Self {
        Account {
            index,
            name: name.into(),
            trie: RwLock::default(),
            generations: Generations::default(),
            denials: Denials::default(),
            max_connections: AtomicUsize::new(max_connections),
            connections: AtomicUsize::new(0),
            elsewhere: Elsewhere::default(),
            offered: Mutex::default(),
        }
    }

    /// Puts these service imports into the trie, in place of those that were there, and gives the serial of their
    /// references. Those that stay the same stay in force.
    fn offer(&self, services: &[ServiceImport]) -> u32 {
        let mut offered = self.offered.lock().expect("no thread panics and lives on");
        if offered.services == services {
            return offered.serial;
        }
        let serial = offered.serial.wrapping_add(1);
        for (node, sub) in offered.places.drain(..) {
            self.unsubscribe(node, None, sub, &mut Vec::new());
        }
        let places = (0..).zip(services).map(|(slot, service)| {
            let sub = SubRef {
                worker: SERVICES,
                slot,
                serial,
            };
            let standing = self.subscribe(&service.renaming.pattern_here(), None, sub);
            (standing.node, sub)
        });
        *offered = Offered {
            places: places.collect(),
            services: services.to_vec(),
            serial,
        };
        serial
    }

    /// Counts a connection in; false if there is no room for it. Those at other servers take up room too.
    pub fn enter(&self) -> bool {
        let max = self.max_here();
        let one_more = |count| (count < max).then(|| count + 1);
        let order = Ordering::Relaxed;
        self.connections
            .fetch_update(order, order, one_more)
            .is_ok()
    }

    /// Counts a connection out if there are more than there may be; false if there are not.
    pub fn leave_surplus(&self) -> bool {
        let max = self.max_here();
        let one_less = |count| (count > max).then(|| count - 1);
        let order = Ordering::Relaxed;
        self.connections
            .fetch_update(order, order, one_less)
            .is_ok()
    }

    fn max_here(&self) -> usize {
        let max = self.max_connections.load(Ordering::Relaxed);
        max.saturating_sub(self.elsewhere.sum())
    }

    /// Whether there is a limit to its connections.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.max_connections.load(Ordering::Relaxed) != usize::MAX
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
    pub fn subscribe(&self, subject: &[u8], queue: Option<&[u8]>, sub: SubRef) -> Standing {
        let standing = {
            let mut trie = self.trie.write().expect("no thread panics and lives on");
            let node = trie.insert(subject, queue, sub);
            let is_news = queue.is_some() || trie.local_count(node, None) == 1;
            Standing { node, is_news }
        };
        self.generations.touch(subject);
        standing
    }

    /// Notes what another server is interested in; in a group it has so many members.
    ///
    /// # Panics
    ///
    /// As [`Account::subscribe`].
    pub fn take_interest(
        &self,
        subject: &[u8],
        queue: Option<(&[u8], u32)>,
        route: SubRef,
    ) -> NodeId {
        let mut trie = self.trie.write().expect("no thread panics and lives on");
        let node = trie.insert_route(subject, queue, route);
        drop(trie);
        self.generations.touch(subject);
        node
    }

    /// Whether anybody would get a message with this subject, here or at another server.
    ///
    /// # Panics
    ///
    /// As [`Account::subscribe`].
    #[must_use]
    pub fn is_heard(&self, subject: &[u8]) -> bool {
        let trie = self.trie.read().expect("no thread panics and lives on");
        trie.has_match(subject)
    }

    /// Appends the subject of a subscription that stands in the trie.
    ///
    /// # Panics
    ///
    /// As [`Account::subscribe`].
    pub fn subject_of(&self, node: NodeId, subject: &mut Vec<u8>) {
        let trie = self.trie.read().expect("no thread panics and lives on");
        trie.subject_of(node, subject);
    }

    /// Notes that a group of another server has another number of members now.
    ///
    /// # Panics
    ///
    /// As [`Account::subscribe`].
    pub fn weigh(
        &self,
        node: NodeId,
        subject: &[u8],
        (queue, weight): (&[u8], u32),
        route: SubRef,
    ) {
        let mut trie = self.trie.write().expect("no thread panics and lives on");
        trie.weigh(node, queue, route, weight);
        drop(trie);
        self.generations.touch(subject);
    }

    /// Ends a subscription; true if that is news for other servers. `scratch` has its subject then.
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
    ) -> bool {
        scratch.clear();
        let is_news = {
            let mut trie = self.trie.write().expect("no thread panics and lives on");
            trie.subject_of(node, scratch);
            let was_last = trie.local_count(node, None) == 1;
            trie.remove(node, queue, sub) && (queue.is_some() || was_last)
        };
        self.denials.remove(sub);
        self.generations.touch(scratch);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_go_on_in_their_places() {
        let old = Broker::new([(GLOBAL, None), ("A", Some(2))]);
        let before = old.account(1).expect("A");
        assert!(before.enter() && before.enter() && !before.enter());
        let new = old.renewed([(GLOBAL, None), ("A", Some(3)), ("B", None)]);
        let after = new.account(1).expect("A");
        assert!(Arc::ptr_eq(before, after) && after.connections() == 2);
        assert!(after.enter() && !after.enter());
        assert_eq!(new.account(2).expect("B").name, "B");
        assert!(old.account(2).is_none());
    }
}
