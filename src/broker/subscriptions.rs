//! A worker's table of the subscriptions of its connections.
//!
//! One slab and one hash table for all of them, whatever connection they belong to: a connection with one subscription
//! owns no table of its own. The subscriptions of a connection are linked through the slab. Slots are used again;
//! serials are not, so that a reference that outlived its subscription is known for what it is.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::shadows::Shadows;
use crate::heap;
use crate::sublist::{NodeId, SubRef, Text};

/// One subscription.
#[derive(Debug)]
pub struct Subscription {
    /// The peer's name for it.
    pub sid: Text,
    /// The queue group, if any.
    queue: Option<Box<Text>>,
    /// Messages delivered to it.
    pub delivered: u64,
    /// The connection it belongs to.
    pub conn: u32,
    /// Where it stands in its account's trie, once it does.
    pub node: Option<NodeId>,
    /// Deliveries after which it ends; 0 is never.
    pub max: u32,
    /// Whether its connection takes headers.
    pub headers: bool,
    /// Whether each delivery is a matter of its connection's permissions.
    pub guarded: bool,
    serial: u32,
    next: u32,
    previous: u32,
}

impl Subscription {
    /// The queue group, if any.
    #[must_use]
    pub fn queue(&self) -> Option<&[u8]> {
        self.queue.as_deref().map(Text::as_bytes)
    }
}

/// The subscriptions of one connection: the start of its list, and how many.
#[derive(Clone, Copy, Debug)]
struct Owned {
    first: u32,
    len: u32,
}

/// No subscription.
const NONE: u32 = u32::MAX;

impl Default for Owned {
    fn default() -> Self {
        Owned {
            first: NONE,
            len: 0,
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Subscriptions {
    worker: u16,
    slots: Slab<Subscription>,
    by_sid: HashTable<u32>,
    /// By connection.
    owned: Vec<Owned>,
    hasher: RandomState,
    next_serial: u32,
    /// What they cast on accounts that streams are imported from.
    pub shadows: Shadows,
}

impl Subscriptions {
    /// An empty table for a worker.
    #[must_use]
    pub fn new(worker: u16) -> Self {
        Subscriptions {
            worker,
            slots: Slab::new(),
            by_sid: HashTable::new(),
            owned: Vec::new(),
            hasher: RandomState::default(),
            next_serial: 0,
            shadows: Shadows::default(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The subscription that `sub` refers to, if it still exists.
    #[inline]
    pub fn get(&mut self, sub: SubRef) -> Option<&mut Subscription> {
        self.slots
            .get_mut(sub.slot as usize)
            .filter(|found| found.serial == sub.serial)
    }

    /// The subscription that a connection calls `sid`.
    #[must_use]
    pub fn find(&self, conn: u32, sid: &[u8]) -> Option<SubRef> {
        let hash = hash(&self.hasher, conn, sid);
        let is_it = |&slot: &u32| {
            self.slots
                .get(slot as usize)
                .is_some_and(|s| s.conn == conn && s.sid == *sid)
        };
        self.by_sid
            .find(hash, is_it)
            .and_then(|&slot| self.reference(slot))
    }

    /// Adds a subscription, and gives the reference for the trie.
    pub fn insert(&mut self, conn: u32, sid: &[u8], queue: Option<&[u8]>, headers: bool) -> SubRef {
        let at = conn as usize;
        if self.owned.len() <= at {
            self.owned.resize(at + 1, Owned::default());
        }
        if self.slots.len() == self.slots.capacity() {
            let room = heap::room::<Subscription>(self.slots.len());
            self.slots.reserve(room);
        }
        let owned = &mut self.owned[at];
        let serial = self.next_serial;
        let slot = slot(self.slots.insert(Subscription {
            sid: Text::new(sid),
            queue: queue.map(|name| Box::new(Text::new(name))),
            delivered: 0,
            conn,
            node: None,
            max: 0,
            headers,
            guarded: false,
            serial,
            next: owned.first,
            previous: NONE,
        }));
        self.next_serial = self.next_serial.wrapping_add(1);
        if let Some(next) = self.slots.get_mut(owned.first as usize) {
            next.previous = slot;
        }
        owned.first = slot;
        owned.len += 1;
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |&slot: &u32| {
            let known = slots.get(slot as usize);
            known.map_or(0, |known| hash(hasher, known.conn, known.sid.as_bytes()))
        };
        self.by_sid
            .insert_unique(hash(hasher, conn, sid), slot, rehash);
        SubRef {
            worker: self.worker,
            slot,
            serial,
        }
    }

    /// Notes where in the trie a subscription stands.
    pub fn place(&mut self, sub: SubRef, node: NodeId) {
        if let Some(subscription) = self.get(sub) {
            subscription.node = Some(node);
        }
    }

    /// Takes a subscription out.
    pub fn remove(&mut self, sub: SubRef) -> Option<Subscription> {
        self.get(sub)?;
        let gone = self.slots.try_remove(sub.slot as usize)?;
        let owned = self.owned.get_mut(gone.conn as usize)?;
        let hash = hash(&self.hasher, gone.conn, gone.sid.as_bytes());
        if let Ok(entry) = self.by_sid.find_entry(hash, |&slot| slot == sub.slot) {
            entry.remove();
        }
        match self.slots.get_mut(gone.previous as usize) {
            Some(previous) if gone.previous != NONE => previous.next = gone.next,
            _ => owned.first = gone.next,
        }
        if let Some(next) = self.slots.get_mut(gone.next as usize) {
            next.previous = gone.previous;
        }
        owned.len -= 1;
        if self.slots.is_empty() {
            // Give back what a crowd before needed; the serials go on.
            self.slots = Slab::new();
            self.by_sid = HashTable::new();
            self.owned = Vec::new();
        }
        Some(gone)
    }

    /// The subscription in a slot, for whoever looks at all of them.
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<&Subscription> {
        self.slots.get(slot)
    }

    /// All slots are below this one.
    #[must_use]
    pub fn slots_end(&self) -> usize {
        self.slots.capacity()
    }

    /// One of a connection's subscriptions, the newest.
    #[must_use]
    pub fn first_of(&self, conn: u32) -> Option<SubRef> {
        self.reference(self.owned.get(conn as usize)?.first)
    }

    /// The one that follows, of the same connection.
    #[must_use]
    pub fn next_of(&self, subscription: &Subscription) -> Option<SubRef> {
        self.reference(subscription.next)
    }

    /// How many a connection has.
    #[must_use]
    pub fn count_of(&self, conn: u32) -> usize {
        self.owned
            .get(conn as usize)
            .map_or(0, |owned| owned.len as usize)
    }

    /// Lets `change` see all of a connection's subscriptions.
    pub fn for_each_of(&mut self, conn: u32, mut change: impl FnMut(&mut Subscription)) {
        let mut at = self
            .owned
            .get(conn as usize)
            .map_or(NONE, |owned| owned.first);
        while let Some(subscription) = self.slots.get_mut(at as usize) {
            change(subscription);
            at = subscription.next;
        }
    }

    /// All of a connection's subscriptions, the newest first.
    #[must_use]
    pub fn all_of(&self, conn: u32) -> Vec<SubRef> {
        let next = |sub: &SubRef| self.reference(self.slots.get(sub.slot as usize)?.next);
        std::iter::successors(self.first_of(conn), next).collect()
    }

    fn reference(&self, slot: u32) -> Option<SubRef> {
        let serial = self.slots.get(slot as usize)?.serial;
        Some(SubRef {
            worker: self.worker,
            slot,
            serial,
        })
    }
}

fn slot(key: usize) -> u32 {
    u32::try_from(key).expect("fewer than 2^32 subscriptions fit in memory")
}

fn hash(hasher: &RandomState, conn: u32, sid: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(conn);
    hasher.write(sid);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_its_own_sids_and_leaves_with_its_own() {
        let mut table = Subscriptions::new(3);
        for round in 0..100 {
            table.insert(round % 2, (round / 2).to_string().as_bytes(), None, false);
        }
        let middle = table.find(1, b"20").unwrap();
        assert_eq!(table.get(middle).unwrap().conn, 1);
        table.remove(middle).unwrap();
        assert!(
            table.find(1, b"20").is_none()
                && table.get(middle).is_none()
                && table.find(0, b"20").is_some()
        );
        let mut seen = 0;
        table.for_each_of(0, |sub| seen += u32::from(sub.conn == 0));
        assert_eq!((seen, table.count_of(1)), (50, 49));
        for conn in 0..2 {
            while let Some(sub) = table.first_of(conn) {
                table.remove(sub).unwrap();
            }
            assert_eq!(table.count_of(conn), 0);
        }
        assert!(table.is_empty() && table.by_sid.is_empty());
    }

    #[test]
    fn a_slot_used_again_is_not_the_old_subscription() {
        let mut table = Subscriptions::new(0);
        let old = table.insert(0, b"1", None, false);
        table.remove(old).unwrap();
        let new = table.insert(0, b"1", None, false);
        assert_eq!(old.slot, new.slot);
        assert!(table.get(old).is_none() && table.get(new).is_some());
    }

    #[test]
    fn a_subscription_is_small() {
        assert!(
            size_of::<Subscription>() <= 72,
            "{}",
            size_of::<Subscription>()
        );
    }
}
