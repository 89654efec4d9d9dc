//! The matches that a worker needed last.
//!
//! A fixed number of places, two candidates for each subject; what is found is written into the buffers of what it
//! replaces, so that a working set larger than the cache costs walks but no allocations. One that is much larger is told by
//! the places that are never found again: it costs the walks alone, and leaves the cache as it is.

use std::sync::RwLock;

use super::Generations;
use super::generations::{Place, Stamp, subject_hash};
use super::members::Matches;
use super::trie::{Sublist, Walk};

/// Places; a power of two.
const PLACES: usize = 1024;
/// The place behind them, for a subject that gets none of them.
const SPARE: usize = PLACES;
/// Places that were looked for in a row and not found, from which on far more subjects are in use than there are places.
/// To give each of them one is then a waste: it would be another's before it is asked for again.
const STRAIN_MAX: usize = 4 * PLACES;
/// From then on one in so many gets a place, to notice when that has changed.
const SAMPLE: usize = 16;

/// One worker's cache, over the subjects of all accounts.
#[derive(Debug, Default)]
pub struct Cache {
    entries: Vec<Entry>,
    /// The place of the last lookup.
    last: usize,
    walk: Walk,
    /// Lookups that needed a walk.
    walks: u64,
    /// Places looked for since one was found.
    strain: usize,
    /// Nothing is good for a second lookup.
    forgets: bool,
}

/// Where the matches of the last lookup are.
#[derive(Clone, Copy, Debug)]
pub struct Found(usize);

/// What a cache of matches has been good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Subjects in it.
    pub entries: u64,
    /// Lookups that it could not answer.
    pub misses: u64,
    /// Subscriptions behind its entries, in all.
    pub fanout: u64,
    /// Those of the entry that has most.
    pub max_fanout: u64,
}

#[derive(Debug, Default)]
struct Entry {
    account: u32,
    place: Place,
    /// Absent until there was a walk.
    stamp: Option<Stamp>,
    subject: Vec<u8>,
    matches: Matches,
}

impl Cache {
    /// A cache that is none: it looks at the trie for every message.
    #[must_use]
    pub fn forgetful() -> Self {
        Cache {
            forgets: true,
            ..Cache::default()
        }
    }

    /// Gives back what it holds. What was counted outlives it.
    pub fn clear(&mut self) {
        *self = Cache {
            walks: self.walks,
            forgets: self.forgets,
            ..Cache::default()
        };
    }

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
        let found = self.look_up(account, subject, trie, generations);
        self.matches(found)
    }

    /// The same, to be had again from [`Cache::matches`] until the next lookup.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it changed the trie.
    #[inline(always)]
    pub fn look_up(
        &mut self,
        account: u32,
        subject: &[u8],
        trie: &RwLock<Sublist>,
        generations: &Generations,
    ) -> Found {
        // Publishers stay with a subject for a while: the place of the last one is worth a look before any hash.
        let last = self.entries.get(self.last);
        if !last.is_some_and(|entry| entry.is_for(account, subject)) {
            self.last = self.place(account, subject);
        }
        let at = self.last;
        let entry = &self.entries[at];
        let stamp = generations.stamp(entry.place);
        if entry.stamp != Some(stamp) {
            self.walk(at, stamp, trie);
        }
        Found(at)
    }

    /// What a lookup found.
    #[inline(always)]
    #[must_use]
    pub fn matches(&self, found: Found) -> &Matches {
        &self.entries[found.0].matches
    }

    /// What it has been good for.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        let used = self.entries.iter().filter(|entry| entry.stamp.is_some());
        let mut figures = CacheFigures {
            misses: self.walks,
            ..CacheFigures::default()
        };
        for entry in used {
            let fanout = entry.matches.fanout() as u64;
            figures.entries += 1;
            figures.fanout += fanout;
            figures.max_fanout = figures.max_fanout.max(fanout);
        }
        figures
    }

    /// Where the subject's entry is; if there is none, where it is now, with nothing found yet.
    #[inline(never)]
    fn place(&mut self, account: u32, subject: &[u8]) -> usize {
        if self.entries.is_empty() {
            self.entries.resize_with(SPARE + 1, Entry::default);
        }
        let hash = subject_hash(subject);
        self.strain = self.strain.wrapping_add(1);
        if self.strain > STRAIN_MAX && self.strain % SAMPLE != 0 {
            return self.take(SPARE, account, subject, hash);
        }
        let [low, high, .., spare, _] = hash.to_le_bytes();
        let first = usize::from(u16::from_le_bytes([low, high])) % PLACES;
        let candidates = [first, first ^ 1];
        if let Some(&at) = candidates
            .iter()
            .find(|&&at| self.entries[at].is_for(account, subject))
        {
            self.strain = 0;
            return at;
        }
        // Which of the two to replace: a bit of the hash that nothing else uses will do.
        self.take(candidates[usize::from(spare & 1)], account, subject, hash)
    }

    /// Makes a place the subject's.
    fn take(&mut self, at: usize, account: u32, subject: &[u8], hash: u64) -> usize {
        let entry = &mut self.entries[at];
        entry.account = account;
        entry.place = Place::of(subject, hash);
        entry.stamp = None;
        entry.subject.clear();
        entry.subject.extend_from_slice(subject);
        at
    }

    #[inline(never)]
    fn walk(&mut self, at: usize, stamp: Stamp, trie: &RwLock<Sublist>) {
        let entry = &mut self.entries[at];
        entry.stamp = Some(stamp).filter(|_| !self.forgets);
        entry.matches.clear();
        let trie = trie.read().expect("no thread panics and lives on");
        trie.find(&entry.subject, &mut self.walk, &mut entry.matches);
        drop(trie);
        entry.matches.settle();
        self.walks += 1;
    }
}

impl Entry {
    #[inline(always)]
    fn is_for(&self, account: u32, subject: &[u8]) -> bool {
        self.account == account && is_same(&self.subject, subject)
    }
}

/// Whether two subjects are the same: most are so short that a call costs more than the comparison.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    // Their ends overlap with what comes before: a few bytes are compared twice, none by itself.
    match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(end), Some(other_end)) => {
            let (eights, other_eights) = (one.chunks_exact(8), other.chunks_exact(8));
            end == other_end
                && eights
                    .zip(other_eights)
                    .all(|(one, other)| is_eight(one, other))
        }
        _ => match (one.last_chunk::<4>(), other.last_chunk::<4>()) {
            (Some(end), Some(other_end)) => {
                end == other_end && one.first_chunk::<4>() == other.first_chunk::<4>()
            }
            _ => one.iter().eq(other),
        },
    }
}

/// Whether two runs of eight bytes are the same.
#[inline(always)]
fn is_eight(one: &[u8], other: &[u8]) -> bool {
    one.first_chunk::<8>() == other.first_chunk::<8>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::sublist::SubRef;

    #[test]
    fn a_forgetful_one_walks_every_time() {
        let trie = RwLock::new(Sublist::default());
        let generations = Generations::default();
        let mut cache = Cache::forgetful();
        for round in 1..=3 {
            assert!(cache.find(0, b"a", &trie, &generations).is_empty());
            assert_eq!(cache.walks, round);
        }
        cache.clear();
        assert!(cache.forgets && cache.entries.is_empty());
    }

    #[test]
    fn misses_are_counted_on_when_memory_is_given_back() {
        let (trie, generations) = (RwLock::new(Sublist::default()), Generations::default());
        let mut cache = Cache::default();
        for misses in 1..=3 {
            assert!(cache.find(0, b"a", &trie, &generations).is_empty());
            assert_eq!(cache.figures().misses, misses);
            cache.clear();
            assert_eq!(
                (cache.figures().entries, cache.figures().misses),
                (0, misses)
            );
        }
    }

    #[test]
    fn the_cache_never_differs_from_a_walk() {
        let walks = walks_of(1200);
        assert!((500..19_500).contains(&walks), "{walks}");
        // Far more subjects than places.
        assert!(walks_of(1_000_000) > 19_500);
    }

    /// Compares lookups of so many subjects with walks, while subscriptions come and go; how many the cache needed.
    fn walks_of(subjects: usize) -> u64 {
        let (trie, generations) = (RwLock::new(Sublist::default()), Generations::default());
        let mut cache = Cache::default();
        let mut rng = Rng::seeded(3);
        let mut standing = Vec::new();
        for round in 0..20_000_u32 {
            let number = rng.below(subjects);
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
            walked.plain.sort_unstable();
            assert_eq!(
                cache.find(0, &subject, &trie, &generations).plain,
                walked.plain
            );
        }
        cache.walks
    }

    #[test]
    fn few_subjects_are_kept_again_after_very_many() {
        let (trie, generations) = (RwLock::new(Sublist::default()), Generations::default());
        let mut cache = Cache::default();
        let mut find = |number: usize| {
            let subject = format!("s.{number}").into_bytes();
            assert!(cache.find(0, &subject, &trie, &generations).is_empty());
            (cache.walks, cache.last == SPARE)
        };
        let beside = (0..2 * STRAIN_MAX).filter(|&number| find(number).1);
        // One in sixteen of the second half has a place.
        assert_eq!(beside.count(), STRAIN_MAX / 16 * 15);
        for few in [2, 3, 7, 16] {
            let mut walks = 0;
            for number in 0..(2 * SAMPLE * few) {
                (walks, _) = find(number % few);
            }
            for number in 0..few {
                assert_eq!(find(number).0, walks, "{few} subjects");
            }
        }
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
