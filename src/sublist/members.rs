//! Sets of subscriptions: those at one node of the trie, and those that one subject matches.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::SubRef;

/// Members from which on a set keeps an index, so that taking one out does not look at all of them.
const INDEXED_MIN: usize = 32;

/// A set with constant-time removal and a dense list to walk.
#[derive(Debug, Default)]
struct Set {
    list: Vec<SubRef>,
    index: Option<Box<Index>>,
}

/// Positions in the list, by hash of what stands there.
#[derive(Debug, Default)]
struct Index {
    hasher: RandomState,
    positions: HashTable<u32>,
}

/// The subscriptions at one node.
#[derive(Debug, Default)]
pub(super) enum Members {
    #[default]
    None,
    /// One plain subscription, by far the most frequent case.
    One(SubRef),
    Many(Box<Crowd>),
}

/// Several subscriptions, or any that are in a queue group.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    plain: Set,
    groups: Vec<Gang>,
}

/// The members of a queue group at one node.
#[derive(Debug)]
struct Gang {
    name: Box<[u8]>,
    members: Set,
    /// Other servers that have members, and how many.
    remote: Vec<(SubRef, u32)>,
}

/// Queue subscriptions of one group that match a subject.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: Vec<u8>,
    /// Its members on this server, over all matching patterns.
    pub members: Vec<SubRef>,
    /// Other servers that have members, and how many.
    pub remote: Vec<(SubRef, u32)>,
}

/// What matches a subject. Cleared and filled again, it keeps its buffers.
#[derive(Debug, Default)]
pub struct Matches {
    /// Plain subscriptions: each gets a copy.
    pub plain: Vec<SubRef>,
    /// Links to other servers that have plain subscriptions: each gets one copy. Apart from the others once settled.
    pub routes: Vec<SubRef>,
    groups: Vec<Group>,
    /// Groups in use; the ones behind are spare buffers.
    group_count: usize,
    /// Whether other servers are interested, in whatever way.
    is_routed: bool,
}

impl Matches {
    /// The queue groups: one member of each gets a copy.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        self.groups.get(..self.group_count).unwrap_or_default()
    }

    /// Whether nobody is interested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.group_count == 0 && self.routes.is_empty()
    }

    /// Whether these are subscriptions of this server, and either plain ones of one worker or one queue group.
    #[must_use]
    pub fn are_together(&self) -> bool {
        let worker = |sub: Option<&SubRef>| sub.map(|sub| sub.worker);
        let is_one = worker(self.plain.first()) == worker(self.plain.last());
        let kinds = usize::from(!self.plain.is_empty()) + self.group_count;
        kinds == 1 && is_one && !self.is_routed
    }

    /// Whether other servers are interested.
    #[inline]
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.is_routed
    }

    /// Puts what was found in order: those of one worker stand together, so that it gets one copy for all of them, and
    /// each other server stands once, however many of its subjects match.
    pub(super) fn settle(&mut self) {
        self.plain.sort_unstable();
        let own = self.plain.partition_point(|sub| !sub.is_route());
        self.routes
            .extend_from_slice(self.plain.get(own..).unwrap_or_default());
        self.plain.truncate(own);
        self.routes.dedup();
        let has_remote = |group: &Group| !group.remote.is_empty();
        self.is_routed = !self.routes.is_empty() || self.groups().iter().any(has_remote);
    }

    /// Subscriptions in it, members of groups counted each.
    #[must_use]
    pub fn fanout(&self) -> usize {
        let members = self.groups().iter().map(|group| group.members.len());
        self.plain.len() + members.sum::<usize>()
    }

    /// Forgets what was found.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.routes.clear();
        self.group_count = 0;
        self.is_routed = false;
    }

    fn add_to_group(&mut self, name: &[u8], members: &[SubRef], remote: &[(SubRef, u32)]) {
        let in_use = self.groups.get_mut(..self.group_count).unwrap_or_default();
        if let Some(group) = in_use.iter_mut().find(|group| group.name == name) {
            group.members.extend_from_slice(members);
            group.remote.extend_from_slice(remote);
            return;
        }
        if self.groups.len() == self.group_count {
            self.groups.push(Group::default());
        }
        if let Some(group) = self.groups.get_mut(self.group_count) {
            group.name.clear();
            group.name.extend_from_slice(name);
            group.members.clear();
            group.members.extend_from_slice(members);
            group.remote.clear();
            group.remote.extend_from_slice(remote);
            self.group_count += 1;
        }
    }
}

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Members::None)
    }

    pub(super) fn insert(&mut self, queue: Option<&[u8]>, sub: SubRef) {
        *self = match (std::mem::take(self), queue) {
            (Members::None, None) => Members::One(sub),
            (Members::Many(mut crowd), queue) => {
                crowd.insert(queue, sub);
                Members::Many(crowd)
            }
            (few, queue) => {
                let mut crowd = Box::new(Crowd::default());
                if let Members::One(first) = few {
                    crowd.insert(None, first);
                }
                crowd.insert(queue, sub);
                Members::Many(crowd)
            }
        };
    }

    /// Takes `sub` out; false if it was not there.
    pub(super) fn remove(&mut self, queue: Option<&[u8]>, sub: SubRef) -> bool {
        match self {
            Members::None => false,
            Members::One(only) => {
                let found = *only == sub && queue.is_none();
                if found {
                    *self = Members::None;
                }
                found
            }
            Members::Many(crowd) => {
                let found = crowd.remove(queue, sub);
                if crowd.groups.is_empty() && crowd.plain.list.is_empty() {
                    *self = Members::None;
                }
                found
            }
        }
    }

    /// Notes that another server has so many members of a group, whatever was known of it before.
    pub(super) fn weigh(&mut self, queue: &[u8], route: SubRef, weight: u32) {
        *self = match std::mem::take(self) {
            Members::Many(mut crowd) => {
                let remote = &mut crowd.gang(queue).remote;
                match remote.iter_mut().find(|(known, _)| *known == route) {
                    Some((_, known)) => *known = weight,
                    None => remote.push((route, weight)),
                }
                Members::Many(crowd)
            }
            few => {
                let mut crowd = Box::new(Crowd::default());
                if let Members::One(first) = few {
                    crowd.insert(None, first);
                }
                crowd.gang(queue).remote.push((route, weight));
                Members::Many(crowd)
            }
        };
    }

    /// How many of this server's subscriptions there are: plain ones, where more than one is as good as two, or those in
    /// a group.
    pub(super) fn local_count(&self, queue: Option<&[u8]>) -> usize {
        let is_local = |sub: &&SubRef| sub.is_local();
        match (self, queue) {
            (Members::One(only), None) => usize::from(only.is_local()),
            (Members::Many(crowd), None) => {
                crowd.plain.list.iter().filter(is_local).take(2).count()
            }
            (Members::Many(crowd), Some(name)) => {
                let gang = crowd.groups.iter().find(|gang| *gang.name == *name);
                gang.map_or(0, |gang| gang.members.list.len())
            }
            _ => 0,
        }
    }

    /// Gives this server's interest: the plain one, and each group with the number of its members.
    pub(super) fn for_each_local(&self, mut read: impl FnMut(Option<(&[u8], usize)>)) {
        if self.local_count(None) > 0 {
            read(None);
        }
        if let Members::Many(crowd) = self {
            for gang in crowd.groups.iter().filter(|it| !it.members.list.is_empty()) {
                read(Some((&gang.name, gang.members.list.len())));
            }
        }
    }

    pub(super) fn collect(&self, into: &mut Matches) {
        match self {
            Members::None => {}
            Members::One(sub) => into.plain.push(*sub),
            Members::Many(crowd) => {
                into.plain.extend_from_slice(&crowd.plain.list);
                for gang in &crowd.groups {
                    into.add_to_group(&gang.name, &gang.members.list, &gang.remote);
                }
            }
        }
    }
}

impl Crowd {
    fn insert(&mut self, queue: Option<&[u8]>, sub: SubRef) {
        match queue {
            None => self.plain.insert(sub),
            Some(name) => self.gang(name).members.insert(sub),
        }
    }

    /// The group's members here; nobody yet, if it is new.
    fn gang(&mut self, name: &[u8]) -> &mut Gang {
        let known = self.groups.iter().position(|gang| *gang.name == *name);
        let at = known.unwrap_or(self.groups.len());
        if known.is_none() {
            self.groups.push(Gang {
                name: name.into(),
                members: Set::default(),
                remote: Vec::new(),
            });
        }
        &mut self.groups[at]
    }

    fn remove(&mut self, queue: Option<&[u8]>, sub: SubRef) -> bool {
        let Some(name) = queue else {
            return self.plain.remove(sub);
        };
        let Some(at) = self.groups.iter().position(|gang| *gang.name == *name) else {
            return false;
        };
        let Some(gang) = self.groups.get_mut(at) else {
            return false;
        };
        let found = if sub.is_route() {
            let before = gang.remote.len();
            gang.remote.retain(|&(known, _)| known != sub);
            gang.remote.len() < before
        } else {
            gang.members.remove(sub)
        };
        if gang.members.list.is_empty() && gang.remote.is_empty() {
            self.groups.swap_remove(at);
        }
        found
    }
}

impl Set {
    fn insert(&mut self, sub: SubRef) {
        if let Some(index) = &mut self.index {
            index.add(sub, self.list.len(), &self.list);
        }
        self.list.push(sub);
        if self.index.is_none() && self.list.len() == INDEXED_MIN {
            let mut index = Box::new(Index::default());
            for (at, &sub) in self.list.iter().enumerate() {
                index.add(sub, at, &self.list);
            }
            self.index = Some(index);
        }
    }

    fn remove(&mut self, sub: SubRef) -> bool {
        let found = match &mut self.index {
            Some(index) => index.take(sub, &self.list),
            None => self.list.iter().position(|&other| other == sub),
        };
        let Some(at) = found else { return false };
        let last = self.list.len() - 1;
        if let (Some(index), Some(&moved)) = (&mut self.index, self.list.get(last)) {
            index.shift(moved, last, at);
        }
        self.list.swap_remove(at);
        if self.list.len() < INDEXED_MIN / 2 {
            self.index = None;
        }
        true
    }
}

impl Index {
    fn add(&mut self, sub: SubRef, at: usize, list: &[SubRef]) {
        let hasher = &self.hasher;
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        // An entry behind the list's end cannot be; if it were, any hash would do.
        let rehash = |&at: &u32| list.get(at as usize).map_or(0, |sub| hasher.hash_one(sub));
        self.positions
            .insert_unique(hasher.hash_one(sub), at, rehash);
    }

    /// Notes that what stood at `from` will stand at `to`.
    fn shift(&mut self, sub: SubRef, from: usize, to: usize) {
        let is_from = |&at: &u32| at as usize == from;
        if let Some(position) = self.positions.find_mut(self.hasher.hash_one(sub), is_from) {
            *position = u32::try_from(to).unwrap_or(u32::MAX);
        }
    }

    fn take(&mut self, sub: SubRef, list: &[SubRef]) -> Option<usize> {
        let hash = self.hasher.hash_one(sub);
        let entry = self
            .positions
            .find_entry(hash, |&at| list.get(at as usize) == Some(&sub))
            .ok()?;
        Some(entry.remove().0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(slot: u32) -> SubRef {
        SubRef {
            worker: 0,
            slot,
            serial: slot,
        }
    }

    #[test]
    fn a_large_set_forgets_exactly_what_is_removed() {
        let mut members = Members::default();
        for slot in 0..1000 {
            members.insert(None, sub(slot));
        }
        for slot in (0..1000).filter(|slot| slot % 3 != 0) {
            assert!(members.remove(None, sub(slot)) && !members.remove(None, sub(slot)));
        }
        let mut found = Matches::default();
        members.collect(&mut found);
        found.plain.sort_unstable();
        assert_eq!(
            found.plain,
            (0..1000)
                .filter(|slot| slot % 3 == 0)
                .map(sub)
                .collect::<Vec<_>>()
        );
        for slot in (0..1000).step_by(3) {
            assert!(members.remove(None, sub(slot)));
        }
        assert!(members.is_empty());
    }

    #[test]
    fn a_group_is_one_group_over_several_nodes() {
        let (mut one, mut other) = (Members::default(), Members::default());
        one.insert(Some(b"q"), sub(1));
        one.insert(Some(b"r"), sub(2));
        other.insert(Some(b"q"), sub(3));
        let mut found = Matches::default();
        one.collect(&mut found);
        other.collect(&mut found);
        let names: Vec<_> = found
            .groups()
            .iter()
            .map(|group| (group.name.as_slice(), group.members.len()))
            .collect();
        assert_eq!(names, [(&b"q"[..], 2), (&b"r"[..], 1)]);
        found.clear();
        assert!(found.is_empty());
        assert!(
            one.remove(Some(b"q"), sub(1))
                && !one.remove(None, sub(2))
                && one.remove(Some(b"r"), sub(2))
        );
        assert!(one.is_empty());
    }
}
