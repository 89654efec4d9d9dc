//! The matches that a worker needed last.
//!
//! A fixed number of places, two candidates for each subject; what is found is written into the buffers of what it
//! replaces, so that a working set larger than the cache costs walks but no allocations.

use std::sync::RwLock;

use super::Generations;
use super::generations::{Place, Stamp, subject_hash};
use super::members::Matches;
use super::trie::{Sublist, Walk};

/// Places; a power of two.
const PLACES: usize = 1024;

/// One worker's cache, over the subjects of all accounts.
#[derive(Debug, Default)]
pub struct Cache {
    entries: Vec<Option<Box<Entry>>>,
    walk: Walk,
    /// Lookups that needed no walk.
    pub hits: u64,
    /// Lookups that did.
    pub misses: u64,
}

#[derive(Debug, Default)]
struct Entry {
    hash: u64,
    account: u32,
    place: Place,
    stamp: Stamp,
    subject: Vec<u8>,
    matches: Matches,
}

impl Cache {
    /// What matches `subject` in an account's trie.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it changed the trie.
    pub fn find(
        &mut self,
        account: u32,
        subject: &[u8],
        trie: &RwLock<Sublist>,
        generations: &Generations,
    ) -> &Matches {
        let hash = subject_hash(subject);
        if self.entries.is_empty() {
            self.entries.resize_with(PLACES, || None);
        }
        let first = hash.to_le_bytes()[..2]
            .iter()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte))
            % PLACES;
        let is_it = |entry: &&Entry| {
            entry.hash == hash && entry.account == account && entry.subject == subject
        };
        let at = [first, first ^ 1]
            .into_iter()
            .find(|&at| self.entries[at].as_deref().as_ref().is_some_and(is_it))
            // Which of the two to replace: a bit of the hash that nothing else uses will do.
            .unwrap_or_else(|| first ^ usize::from(hash.to_le_bytes()[3] & 1));
        let entry = self.entries[at].get_or_insert_default();
        let known = entry.hash == hash && entry.account == account && entry.subject == subject;
        if !known {
            entry.hash = hash;
            entry.account = account;
            entry.place = Place::of(subject, hash);
            entry.subject.clear();
            entry.subject.extend_from_slice(subject);
        }
        let stamp = generations.stamp(entry.place);
        if known && entry.stamp == stamp {
            self.hits += 1;
            return &entry.matches;
        }
        self.misses += 1;
        entry.stamp = stamp;
        entry.matches.clear();
        trie.read().expect("no thread panics and lives on").find(
            subject,
            &mut self.walk,
            &mut entry.matches,
        );
        &entry.matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::sublist::SubRef;

    #[test]
    fn the_cache_never_differs_from_a_walk() {
        let (trie, generations) = (RwLock::new(Sublist::default()), Generations::default());
        let mut cache = Cache::default();
        let mut rng = Rng::seeded(3);
        let mut standing = Vec::new();
        for round in 0..20_000_u32 {
            let number = rng.below(1200);
            if rng.below(8) == 0 {
                let pattern = match rng.below(20) {
                    0 => b"*.x".to_vec(),
                    1 => format!("s{}.>", number % 7).into_bytes(),
                    _ => format!("s{}.{}", number % 7, number % 50).into_bytes(),
                };
                let sub = SubRef {
                    worker: 0,
                    slot: round,
                    serial: 0,
                };
                let node = trie.write().unwrap().insert(&pattern, None, sub);
                generations.touch(&pattern);
                standing.push((pattern, node, sub));
            } else if let Some(at) = standing.len().checked_sub(30) {
                let (pattern, node, sub) = standing.swap_remove(at);
                assert!(trie.write().unwrap().remove(node, None, sub));
                generations.touch(&pattern);
            }
            let subject = format!("s{}.{}", number % 7, number).into_bytes();
            let mut walked = Matches::default();
            trie.read()
                .unwrap()
                .find(&subject, &mut Walk::new(), &mut walked);
            assert_eq!(
                cache.find(0, &subject, &trie, &generations).plain,
                walked.plain
            );
        }
        assert!(
            cache.hits > 1000 && cache.misses > 1000,
            "{} {}",
            cache.hits,
            cache.misses
        );
    }

    #[test]
    fn accounts_do_not_share_entries() {
        let (one, other) = (
            RwLock::new(Sublist::default()),
            RwLock::new(Sublist::default()),
        );
        let generations = Generations::default();
        one.write().unwrap().insert(
            b"a",
            None,
            SubRef {
                worker: 0,
                slot: 1,
                serial: 1,
            },
        );
        let mut cache = Cache::default();
        assert_eq!(cache.find(0, b"a", &one, &generations).plain.len(), 1);
        assert!(cache.find(1, b"a", &other, &generations).is_empty());
    }
}
