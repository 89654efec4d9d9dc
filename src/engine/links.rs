//! The connections to other servers that a worker has, and what each of them carries.

use slab::Slab;

use crate::broker::pool_index;
use crate::session::{ClusterFacts, Route};
use crate::sublist::SubRef;

/// One connection to another server.
#[derive(Debug)]
pub(super) struct Link {
    /// The connection's slot.
    pub(super) conn: u32,
    /// Whether the other server takes headers.
    pub(super) headers: bool,
    /// Whether it traces messages.
    pub(super) traces: bool,
    /// Whose interest it carries.
    pub(super) carries: Carries,
    serial: u32,
}

/// Whose interest a connection carries, and so whose messages come back on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// All accounts: it is the only one to that server.
    Everything,
    /// One account alone, whose name no operation has then.
    Account(String),
    /// Accounts that have no connection of their own and fall to this place of the pool.
    Share {
        /// Its place.
        index: u32,
        /// Places in all.
        size: u32,
    },
}

impl Carries {
    /// What an admitted route carries.
    pub(super) fn of(session: &Route, facts: &ClusterFacts) -> Self {
        let has_pool = session.remote().is_some_and(|it| it.pool_size.is_some());
        match (session.account(), facts.info.pool_size) {
            (Some(account), _) => Carries::Account(account.into()),
            (None, Some(size)) if has_pool => Carries::Share {
                index: session.pool_index(),
                size,
            },
            _ => Carries::Everything,
        }
    }

    /// Whether it carries this account.
    pub(super) fn includes(&self, account: &str, facts: &ClusterFacts) -> bool {
        match self {
            Carries::Everything => true,
            Carries::Account(name) => name == account,
            Carries::Share { index, size } => {
                let is_pinned = facts.pinned.iter().any(|it| it == account);
                !is_pinned && pool_index(account, *size) == *index
            }
        }
    }

    /// The account as operations name it: not at all where it goes without saying.
    pub(super) fn shown<'a>(&self, account: &'a str) -> Option<&'a [u8]> {
        match self {
            Carries::Account(_) => None,
            _ => Some(account.as_bytes()),
        }
    }
}

/// A worker's links. Slots are used again; serials are not.
#[derive(Debug, Default)]
pub(super) struct Links {
    slots: Slab<Link>,
    next_serial: u32,
}

impl Links {
    /// Adds one, and gives the reference for the tries.
    pub(super) fn insert(
        &mut self,
        worker: u16,
        conn: u32,
        (headers, traces): (bool, bool),
        carries: Carries,
    ) -> SubRef {
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        let slot = self.slots.insert(Link {
            conn,
            headers,
            traces,
            carries,
            serial,
        });
        let slot = u32::try_from(slot).expect("a process has fewer than 2^32 descriptors");
        SubRef::route(worker, slot, serial)
    }

    /// The link that `route` refers to, if it still exists.
    #[inline]
    pub(super) fn get(&self, route: SubRef) -> Option<&Link> {
        let link = self.slots.get(route.slot as usize);
        link.filter(|link| link.serial == route.serial)
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, route: SubRef) {
        if self.get(route).is_some() {
            self.slots.remove(route.slot as usize);
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.slots.iter().map(|(_, link)| link)
    }
}
