//! Sets of subscriptions: those at one node of the trie, and those that one subject matches.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::SubRef;

/// Members from which on a set keeps an index, so that taking one out does not look at all of them.
const INDEXED_MIN: usize = 32;

/// What a set holds.
trait Item {
    /// What it is known by: no other one in the set has the same.
    type Key: Hash + PartialEq + ?Sized;

    fn key(&self) -> &Self::Key;
}

/// A set where finding one takes constant time, with a dense list to walk.
#[derive(Debug)]
struct Set<T> {
    list: Vec<T>,
    index: Option<Box<Index>>,
}

/// Positions in the list, by hash of the keys there.
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
    plain: Set<SubRef>,
    groups: Set<Gang>,
}

/// The members of a queue group at one node.
#[derive(Debug)]
struct Gang {
    name: Box<[u8]>,
    members: Set<SubRef>,
    /// Other servers that have members, and how many.
    remote: Vec<(SubRef, u32)>,
}

/// Queue subscriptions of one group that match a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: Vec<u8>,
    /// Its members on this server, over all matching patterns.
    pub members: Vec<SubRef>,
    /// Other servers that have members, and how many.
    pub remote: Vec<(SubRef, u32)>,
}

/// What matches a subject. Cleared and filled again, it keeps its buffers.
#[derive(Clone, Debug, Default)]
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
    /// The queue groups: one member of each gets a copy. In the order of their names once settled.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        self.groups.get(..self.group_count).unwrap_or_default()
    }

    /// The group with this name and its place among them, once settled.
    #[must_use]
    pub fn group(&self, name: &[u8]) -> Option<(usize, &Group)> {
        let order = |group: &Group| group.name.as_slice().cmp(name);
        let at = self.groups().binary_search_by(order).ok()?;
        Some((at, self.groups().get(at)?))
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
    /// each other server and each group stands once, however many of their subjects match.
    pub(super) fn settle(&mut self) {
        if self.group_count > 1 {
            self.merge_groups();
        }
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

    /// Sorts the groups by name, and makes one of those that have the same; what is left over are spare buffers.
    fn merge_groups(&mut self) {
        let groups = self.groups.get_mut(..self.group_count).unwrap_or_default();
        groups.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut last = 0;
        for at in 1..groups.len() {
            let (front, back) = groups.split_at_mut(at);
            let [.., known] = front.get_mut(..=last).unwrap_or_default() else {
                return;
            };
            match back.first_mut() {
                Some(group) if group.name == known.name => {
                    known.members.append(&mut group.members);
                    known.remote.append(&mut group.remote);
                }
                _ => {
                    last += 1;
                    groups.swap(last, at);
                }
            }
        }
        self.group_count = last + 1;
    }

    fn add_group(&mut self, name: &[u8], members: &[SubRef], remote: &[(SubRef, u32)]) {
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
                if crowd.groups.list.is_empty() && crowd.plain.list.is_empty() {
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
                let gang = crowd.groups.get(name);
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
            for gang in &crowd.groups.list {
                if gang.members.list.is_empty() {
                    continue;
                }
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
                for gang in &crowd.groups.list {
                    into.add_group(&gang.name, &gang.members.list, &gang.remote);
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
        let groups = &mut self.groups;
        let known = groups.find(name);
        let at = known.unwrap_or(groups.list.len());
        if known.is_none() {
            if at == 0 {
                // Mostly it stays the only one.
                groups.list.reserve_exact(1);
            }
            groups.insert(Gang {
                name: name.into(),
                members: Set::default(),
                remote: Vec::new(),
            });
        }
        &mut groups.list[at]
    }

    fn remove(&mut self, queue: Option<&[u8]>, sub: SubRef) -> bool {
        let Some(name) = queue else {
            return self.plain.remove(&sub);
        };
        let Some(gang) = self.groups.get_mut(name) else {
            return false;
        };
        let found = if sub.is_route() {
            let before = gang.remote.len();
            gang.remote.retain(|&(known, _)| known != sub);
            gang.remote.len() < before
        } else {
            gang.members.remove(&sub)
        };
        if gang.members.list.is_empty() && gang.remote.is_empty() {
            self.groups.remove(name);
        }
        found
    }
}

impl Item for SubRef {
    type Key = SubRef;

    fn key(&self) -> &SubRef {
        self
    }
}

impl Item for Gang {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        &self.name
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Set {
            list: Vec::new(),
            index: None,
        }
    }
}

impl<T: Item> Set<T> {
    fn insert(&mut self, item: T) {
        self.list.push(item);
        let len = self.list.len();
        if let Some(index) = &mut self.index {
            index.add(len - 1, &self.list);
        } else if len == INDEXED_MIN {
            let mut index = Box::new(Index::default());
            for at in 0..len {
                index.add(at, &self.list);
            }
            self.index = Some(index);
        }
    }

    fn find(&self, key: &T::Key) -> Option<usize> {
        match &self.index {
            Some(index) => index.find(key, &self.list),
            None => self.list.iter().position(|item| item.key() == key),
        }
    }

    fn get(&self, key: &T::Key) -> Option<&T> {
        self.find(key).and_then(|at| self.list.get(at))
    }

    fn get_mut(&mut self, key: &T::Key) -> Option<&mut T> {
        self.find(key).and_then(|at| self.list.get_mut(at))
    }

    fn remove(&mut self, key: &T::Key) -> bool {
        let Some(at) = self.find(key) else {
            return false;
        };
        if let Some(index) = &mut self.index {
            index.remove(at, &self.list);
        }
        self.list.swap_remove(at);
        if self.list.len() < INDEXED_MIN / 2 {
            self.index = None;
        }
        true
    }
}

impl Index {
    fn add<T: Item>(&mut self, at: usize, list: &[T]) {
        let hasher = &self.hasher;
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        // An entry behind the list's end cannot be; if it were, any hash would do.
        let hash = |&at: &u32| {
            let item = list.get(at as usize);
            item.map_or(0, |item| hasher.hash_one(item.key()))
        };
        self.positions.insert_unique(hash(&at), at, hash);
    }

    fn find<T: Item>(&self, key: &T::Key, list: &[T]) -> Option<usize> {
        let is_it = |&at: &u32| list.get(at as usize).is_some_and(|item| item.key() == key);
        let at = self.positions.find(self.hasher.hash_one(key), is_it)?;
        Some(*at as usize)
    }

    /// Notes that what stands at `at` goes, and that the last one comes in its place.
    fn remove<T: Item>(&mut self, at: usize, list: &[T]) {
        let (Some(gone), Some(last)) = (list.get(at), list.last()) else {
            return;
        };
        let stands_at = |place: usize| move |&at: &u32| at as usize == place;
        let hash = self.hasher.hash_one(gone.key());
        if let Ok(entry) = self.positions.find_entry(hash, stands_at(at)) {
            entry.remove();
        }
        let hash = self.hasher.hash_one(last.key());
        if let Some(position) = self.positions.find_mut(hash, stands_at(list.len() - 1)) {
            *position = u32::try_from(at).unwrap_or(u32::MAX);
        }
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
    fn of_many_groups_each_is_found_and_forgotten_by_its_name() {
        let mut nodes = [Members::default(), Members::default()];
        let name = |number: u32| format!("q{number}").into_bytes();
        for number in 0..1000 {
            nodes[0].insert(Some(&name(number)), sub(number));
            nodes[0].insert(Some(&name(number)), sub(number + 1000));
            nodes[1].insert(Some(&name(number * 2)), sub(number * 2 + 5000));
        }
        for number in (0..1000).filter(|number| number % 3 == 0) {
            let queue = name(number);
            for gone in [number, number + 1000] {
                assert!(nodes[0].remove(Some(&queue), sub(gone)));
                assert!(!nodes[0].remove(Some(&queue), sub(gone)));
            }
            assert_eq!(nodes[0].local_count(Some(&queue)), 0);
        }
        let mut found = Matches::default();
        for round in 0..2 {
            found.clear();
            nodes.iter().for_each(|node| node.collect(&mut found));
            found.settle();
            assert!(
                found
                    .groups()
                    .is_sorted_by(|one, next| one.name < next.name)
            );
            for number in 0..2000 {
                let mut expected = Vec::new();
                if number < 1000 && number % 3 != 0 {
                    expected.extend([sub(number), sub(number + 1000)]);
                }
                if number % 2 == 0 {
                    expected.push(sub(number + 5000));
                }
                let group = found.group(&name(number));
                let mut members = group.map_or(Vec::new(), |(_, group)| group.members.clone());
                members.sort_unstable();
                assert_eq!(members, expected, "q{number}, round {round}");
            }
        }
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
        found.settle();
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
