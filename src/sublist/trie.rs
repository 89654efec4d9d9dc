//! The trie: one node per distinct prefix of the patterns that are subscribed to, and one per literal subject.
//!
//! Nodes live in one slab and know their parent; the edges for literal tokens of all nodes live in one hash table keyed
//! by parent and token, so that a leaf costs one node and one table entry and no map of its own. The two wildcard edges
//! are fields of the node. A subject without wildcards, which most are, is a single edge from a root of its own: to find
//! it takes one look into the table, however many tokens it has.
//!
//! ```text
//!   "orders.eu" |                      root
//!             node 6        "orders" /      \ "*"
//!                             node 1          node 4
//!                            "*" |  \ ">"        \ "eu"
//!                             node 2  node 3     node 5        each with the subscriptions that end there
//! ```
//!
//! A subscription keeps its [`NodeId`], valid as long as it stands there: to end it needs no walk, and its subject can be
//! read back from the path upwards.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::members::{Matches, Members};
use super::{SubRef, Text};
use crate::heap;
use crate::subject;

/// Names a node while a subscription stands at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

const ROOT: u32 = 0;
/// No node: the root is nobody's child.
const NONE: u32 = 0;
/// The parent of the nodes for literal subjects; there is no such node.
const LITERALS: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    token: Text,
    members: Members,
    parent: u32,
    /// Child for `*`, or none.
    star: u32,
    /// Child for `>`, or none.
    full: u32,
    /// Children with a literal token.
    literal_children: u32,
}

/// What this server is interested in, as other servers are told.
#[derive(Clone, Copy, Debug)]
pub struct LocalInterest<'a> {
    /// The subject.
    pub subject: &'a [u8],
    /// The queue group and how many members it has.
    pub queue: Option<(&'a [u8], usize)>,
}

/// Subscriptions by subject.
#[derive(Debug)]
pub struct Sublist {
    nodes: Slab<Node>,
    edges: HashTable<u32>,
    hasher: RandomState,
    len: usize,
    /// Those of them whose subject has a wildcard.
    patterns: usize,
    inserts: u64,
    removes: u64,
}

impl Default for Sublist {
    fn default() -> Self {
        Sublist {
            nodes: Slab::new(),
            edges: HashTable::new(),
            hasher: RandomState::default(),
            len: 0,
            patterns: 0,
            inserts: 0,
            removes: 0,
        }
    }
}

impl Node {
    fn new(token: &[u8], parent: u32) -> Self {
        Node {
            token: Text::new(token),
            members: Members::None,
            parent,
            star: NONE,
            full: NONE,
            literal_children: 0,
        }
    }
}

impl Sublist {
    /// Subscriptions in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Subscriptions that ever came, and those that went.
    #[must_use]
    pub fn changes(&self) -> (u64, u64) {
        (self.inserts, self.removes)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a subscription; the subject is one that [`subject::is_valid`] accepts.
    pub fn insert(&mut self, subject: &[u8], queue: Option<&[u8]>, sub: SubRef) -> NodeId {
        let at = self.walk_to(subject);
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.members.insert(queue, sub);
            self.len += 1;
            self.inserts += 1;
        }
        NodeId(at)
    }

    /// Notes that another server is interested: in a group it has so many members, whatever was known of it before.
    pub fn insert_route(
        &mut self,
        subject: &[u8],
        queue: Option<(&[u8], u32)>,
        route: SubRef,
    ) -> NodeId {
        let Some((queue, weight)) = queue else {
            return self.insert(subject, None, route);
        };
        let at = self.walk_to(subject);
        self.len += 1;
        self.inserts += 1;
        self.weigh(NodeId(at), queue, route, weight);
        NodeId(at)
    }

    /// Notes that another server's group, known already, now has so many members.
    pub fn weigh(&mut self, at: NodeId, queue: &[u8], route: SubRef, weight: u32) {
        if let Some(node) = self.nodes.get_mut(at.0 as usize) {
            node.members.weigh(queue, route, weight);
        }
    }

    /// How many of this server's subscriptions stand there: plain ones, where more than one is as good as two, or those
    /// in a group.
    #[must_use]
    pub fn local_count(&self, at: NodeId, queue: Option<&[u8]>) -> usize {
        self.node(at.0)
            .map_or(0, |node| node.members.local_count(queue))
    }

    /// The same for a subject.
    #[must_use]
    pub fn local_count_of(&self, subject: &[u8], queue: Option<&[u8]>) -> usize {
        let at = if subject::is_literal(subject) {
            self.literal_child(LITERALS, subject)
        } else {
            let mut tokens = subject::tokens(subject);
            let child = |at, token| match self.child(at, token) {
                NONE => None,
                child => Some(child),
            };
            tokens.try_fold(ROOT, child).unwrap_or(NONE)
        };
        if at == NONE {
            return 0;
        }
        self.local_count(NodeId(at), queue)
    }

    /// Gives this server's interest, a part at a time: that of up to `most` nodes from the `from`th on. The answer is
    /// where the next part starts, if there is one.
    pub fn for_each_local(
        &self,
        from: usize,
        most: usize,
        mut read: impl FnMut(LocalInterest<'_>),
    ) -> Option<usize> {
        let mut subject = Vec::new();
        for key in from..from.saturating_add(most) {
            if key >= self.nodes.capacity() {
                return None;
            }
            let (Some(node), Ok(id)) = (self.nodes.get(key), u32::try_from(key)) else {
                continue;
            };
            subject.clear();
            node.members.for_each_local(|queue| {
                if subject.is_empty() {
                    self.subject_of(NodeId(id), &mut subject);
                }
                read(LocalInterest {
                    subject: &subject,
                    queue,
                });
            });
        }
        Some(from.saturating_add(most))
    }

    /// Takes a subscription out, and the nodes that nothing needs any more; false if it was not there.
    pub fn remove(&mut self, at: NodeId, queue: Option<&[u8]>, sub: SubRef) -> bool {
        let Some(node) = self.nodes.get_mut(at.0 as usize) else {
            return false;
        };
        let is_literal = node.parent == LITERALS;
        if !node.members.remove(queue, sub) {
            return false;
        }
        self.len -= 1;
        self.patterns -= usize::from(!is_literal);
        self.removes += 1;
        self.prune(at.0);
        true
    }

    /// Whether anything matches the literal `subject`.
    #[must_use]
    pub fn has_match(&self, subject: &[u8]) -> bool {
        let mut found = Matches::default();
        self.find(subject, &mut Walk::new(), &mut found);
        !found.is_empty()
    }

    /// Adds to `found` whatever matches the literal `subject`; a malformed one matches nothing.
    pub(super) fn find(&self, subject: &[u8], walk: &mut Walk, found: &mut Matches) {
        if self.len > self.patterns {
            // The root, which stands for no node, has no members.
            if let Some(node) = self.node(self.literal_child(LITERALS, subject)) {
                node.members.collect(found);
            }
        }
        if self.patterns > 0 && subject::has_no_empty_token(subject) {
            self.find_patterns(subject, walk, found);
        }
    }

    fn find_patterns(&self, subject: &[u8], walk: &mut Walk, found: &mut Matches) {
        // Depth first, with a list of our own: subjects may have more tokens than a thread's stack has frames.
        walk.clear();
        walk.push((ROOT, 0));
        while let Some((at, start)) = walk.pop() {
            let Some(node) = self.node(at) else { continue };
            if let Some(full) = self.node(node.full).filter(|_| node.full != NONE) {
                full.members.collect(found);
            }
            let rest = subject.get(start..).unwrap_or_default();
            let end = memchr::memchr(subject::SEPARATOR, rest);
            let token = end.map_or(rest, |end| rest.get(..end).unwrap_or_default());
            let literal = if node.literal_children > 0 {
                self.literal_child(at, token)
            } else {
                NONE
            };
            for child in [node.star, literal] {
                match end {
                    _ if child == NONE => {}
                    Some(end) => walk.push((child, start + end + 1)),
                    None => self
                        .node(child)
                        .into_iter()
                        .for_each(|child| child.members.collect(found)),
                }
            }
        }
    }

    /// Appends the subject that leads to a node.
    pub fn subject_of(&self, at: NodeId, out: &mut Vec<u8>) {
        let mut path = Vec::new();
        let mut next = at.0;
        while let Some(node) = self.node(next).filter(|_| next != ROOT) {
            path.push(&node.token);
            next = node.parent;
        }
        for (position, token) in path.iter().rev().enumerate() {
            if position > 0 {
                out.push(subject::SEPARATOR);
            }
            out.extend_from_slice(token.as_bytes());
        }
    }

    /// The node of a subject, made if it is not there.
    fn walk_to(&mut self, subject: &[u8]) -> u32 {
        if self.nodes.is_empty() {
            self.nodes.insert(Node::new(b"", NONE));
        }
        if subject::is_literal(subject) {
            return self.descend(LITERALS, subject);
        }
        self.patterns += 1;
        subject::tokens(subject).fold(ROOT, |at, token| self.descend(at, token))
    }

    fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    fn edge_hash(&self, parent: u32, token: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(token);
        hasher.finish()
    }

    fn literal_child(&self, parent: u32, token: &[u8]) -> u32 {
        let hash = self.edge_hash(parent, token);
        let is_child = |&id: &u32| {
            self.node(id)
                .is_some_and(|node| node.parent == parent && node.token == *token)
        };
        self.edges.find(hash, is_child).copied().unwrap_or(NONE)
    }

    /// The child for a token of a pattern.
    fn child(&self, parent: u32, token: &[u8]) -> u32 {
        match token {
            b"*" => self.node(parent).map_or(NONE, |node| node.star),
            b">" => self.node(parent).map_or(NONE, |node| node.full),
            _ => self.literal_child(parent, token),
        }
    }

    /// The child for a token of a pattern, or for a literal subject, which there is from now on.
    fn descend(&mut self, parent: u32, token: &[u8]) -> u32 {
        match self.child(parent, token) {
            NONE => self.grow(parent, token),
            child => child,
        }
    }

    fn grow(&mut self, parent: u32, token: &[u8]) -> u32 {
        if self.nodes.len() == self.nodes.capacity() {
            self.nodes.reserve(heap::room::<Node>(self.nodes.len()));
        }
        let id = u32::try_from(self.nodes.insert(Node::new(token, parent)))
            .expect("fewer than 2^32 nodes fit in memory");
        match (token, self.nodes.get_mut(parent as usize)) {
            (b"*", Some(node)) => node.star = id,
            (b">", Some(node)) => node.full = id,
            (_, node) => {
                if let Some(node) = node {
                    node.literal_children += 1;
                }
                let hash = self.edge_hash(parent, token);
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                self.edges
                    .insert_unique(hash, id, |&id| rehash(nodes, hasher, id));
            }
        }
        id
    }

    /// Removes the node, and its ancestors, as far as they hold and lead to nothing.
    fn prune(&mut self, mut id: u32) {
        while let Some(node) = self.node(id).filter(|_| id != ROOT) {
            let needed = node.literal_children > 0 || node.star != NONE || node.full != NONE;
            if needed || !node.members.is_empty() {
                return;
            }
            let parent_id = node.parent;
            let hash = self.edge_hash(parent_id, node.token.as_bytes());
            if let Ok(entry) = self.edges.find_entry(hash, |&other| other == id) {
                entry.remove();
            }
            self.nodes.remove(id as usize);
            if let Some(parent) = self.nodes.get_mut(parent_id as usize) {
                match id {
                    _ if parent.star == id => parent.star = NONE,
                    _ if parent.full == id => parent.full = NONE,
                    _ => parent.literal_children -= 1,
                }
            }
            id = parent_id;
        }
        if self.len == 0 {
            // The last subscription is gone: give back what a crowd before it needed.
            *self = Sublist {
                inserts: self.inserts,
                removes: self.removes,
                ..Sublist::default()
            };
        }
    }
}

/// Places still to visit: a node, and where in the subject its children's token starts.
pub(super) type Walk = Vec<(u32, usize)>;

fn rehash(nodes: &Slab<Node>, hasher: &RandomState, id: u32) -> u64 {
    let mut hasher = hasher.build_hasher();
    if let Some(node) = nodes.get(id as usize) {
        hasher.write_u32(node.parent);
        hasher.write(node.token.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn sub(slot: u32) -> SubRef {
        SubRef {
            worker: 0,
            slot,
            serial: 0,
        }
    }

    fn found(list: &Sublist, subject: &[u8]) -> Vec<u32> {
        let mut matches = Matches::default();
        list.find(subject, &mut Walk::new(), &mut matches);
        let queued = matches.groups().iter().flat_map(|group| &group.members);
        let mut slots: Vec<u32> = matches
            .plain
            .iter()
            .chain(queued)
            .map(|sub| sub.slot)
            .collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn the_trie_agrees_with_the_definition_of_matching() {
        let mut rng = Rng::seeded(11);
        let words: [&[u8]; 5] = [b"a", b"b", b"*", b">", b"a*"];
        let mut random = |literal: bool| {
            let mut subject: Vec<u8> = Vec::new();
            for position in 0..=rng.below(4) {
                if position > 0 {
                    subject.push(b'.');
                }
                subject.extend_from_slice(words[rng.below(if literal { 2 } else { 5 })]);
            }
            subject
        };
        let mut list = Sublist::default();
        let mut model: Vec<(Vec<u8>, u32, NodeId)> = Vec::new();
        for round in 0..4_000_u32 {
            let pattern = random(false);
            if subject::is_valid(&pattern) {
                let queue = (round % 4 == 0).then_some(&b"q"[..]);
                let node = list.insert(&pattern, queue, sub(round));
                let mut back = Vec::new();
                list.subject_of(node, &mut back);
                assert_eq!(back, pattern);
                model.push((pattern, round, node));
            }
            if model.len() > 40 {
                let (_, slot, node) = model.swap_remove(round as usize % 40);
                let queue = (slot % 4 == 0).then_some(&b"q"[..]);
                assert!(list.remove(node, queue, sub(slot)));
            }
            let subject = random(true);
            let mut expected: Vec<u32> = model
                .iter()
                .filter(|(p, ..)| subject::matches(p, &subject))
                .map(|&(_, slot, _)| slot)
                .collect();
            expected.sort_unstable();
            assert_eq!(
                found(&list, &subject),
                expected,
                "{}",
                subject.escape_ascii()
            );
            assert_eq!(list.len(), model.len());
        }
        for (_, slot, node) in model {
            list.remove(node, (slot % 4 == 0).then_some(&b"q"[..]), sub(slot));
        }
        assert!(list.is_empty() && list.nodes.is_empty() && list.edges.is_empty());
        // What was counted outlives what was stored.
        let (inserts, removes) = list.changes();
        assert!(inserts > 1_000 && inserts == removes);
    }

    #[test]
    fn published_wildcards_are_plain_tokens() {
        let mut list = Sublist::default();
        for (slot, pattern) in [&b"a.*"[..], b"a.b", b"a.>", b">"].iter().enumerate() {
            list.insert(pattern, None, sub(u32::try_from(slot).expect("small")));
        }
        assert_eq!(found(&list, b"a.*"), [0, 2, 3]);
        assert_eq!(found(&list, b"a.>"), [0, 2, 3]);
        assert!(found(&list, b"a.").is_empty() && found(&list, b".a").is_empty());
    }

    #[test]
    fn a_subject_of_many_tokens_needs_no_deep_stack() {
        let subject = vec![&b"a"[..]; 200_000].join(&b'.');
        let pattern = [&subject, &b".*"[..]].concat();
        let mut list = Sublist::default();
        let node = list.insert(&pattern, None, sub(1));
        assert_eq!(found(&list, &pattern), [1]);
        assert!(list.remove(node, None, sub(1)) && list.is_empty());
    }

    #[test]
    fn what_other_servers_are_interested_in_counts_when_it_comes_and_when_it_goes() {
        let (mut list, route) = (Sublist::default(), SubRef::route(0, 1, 0));
        let plain = list.insert_route(b"a", None, route);
        let queued = list.insert_route(b"a", Some((b"q", 3)), route);
        assert_eq!((list.len(), list.changes()), (2, (2, 0)));
        assert!(list.remove(plain, None, route) && list.remove(queued, Some(b"q"), route));
        assert_eq!((list.len(), list.changes()), (0, (2, 2)));
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 64, "{}", size_of::<Node>());
    }
}
