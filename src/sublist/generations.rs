//! How a cached match is known to be good still, without a lock.
//!
//! A literal subscription changes the matches of one subject; one that starts with a literal token those of subjects
//! that start with it; any other one those of all subjects. Counters, bumped behind every change of the trie, stand for
//! these three: a subject's stamp is the sum of the ones that concern it, and while the sum stands, so does the match.
//! Subjects share counters by hash, which costs a walk too many now and then and is never wrong.

use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hasher};

use crate::subject;

/// Counters of each kind: as many as a byte of a hash tells apart.
const LITERALS: usize = 256;
const FIRST_TOKENS: usize = 256;

/// The change counters of one trie.
#[derive(Debug)]
pub struct Generations {
    literals: [AtomicUsize; LITERALS],
    first_tokens: [AtomicUsize; FIRST_TOKENS],
    everything: AtomicUsize,
}

/// A sum of counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(usize);

/// Where a subject's counters are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    literal: u8,
    first_token: u8,
}

impl Default for Generations {
    fn default() -> Self {
        Generations {
            literals: [const { AtomicUsize::new(0) }; LITERALS],
            first_tokens: [const { AtomicUsize::new(0) }; FIRST_TOKENS],
            everything: AtomicUsize::new(0),
        }
    }
}

/// The hash of a subject that caches and counters share.
pub(super) fn subject_hash(subject: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(subject);
    hasher.finish()
}

impl Place {
    /// The place of a subject whose hash is at hand.
    pub(super) fn of(subject: &[u8], hash: u64) -> Self {
        let first = subject_hash(subject::first_token(subject));
        Place {
            literal: hash.to_le_bytes()[7],
            first_token: first.to_le_bytes()[7],
        }
    }
}

impl Generations {
    /// Says that a subscription with this subject came or went. The trie must have been changed already.
    pub fn touch(&self, pattern: &[u8]) {
        let place = Place::of(pattern, subject_hash(pattern));
        let counter = match subject::first_token(pattern) {
            _ if subject::is_literal(pattern) => &self.literals[usize::from(place.literal)],
            b"*" | b">" => &self.everything,
            _ => &self.first_tokens[usize::from(place.first_token)],
        };
        counter.fetch_add(1, Ordering::Release);
    }

    /// The stamp of a subject. Take it before the walk whose result it shall vouch for.
    pub(super) fn stamp(&self, place: Place) -> Stamp {
        let literal = self.literals[usize::from(place.literal)].load(Ordering::Acquire);
        let first = self.first_tokens[usize::from(place.first_token)].load(Ordering::Acquire);
        Stamp(
            literal
                .wrapping_add(first)
                .wrapping_add(self.everything.load(Ordering::Acquire)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(generations: &Generations, subject: &[u8]) -> Stamp {
        generations.stamp(Place::of(subject, subject_hash(subject)))
    }

    #[test]
    fn a_change_shows_in_every_subject_it_concerns() {
        for (pattern, subject) in [
            (&b"a.b"[..], &b"a.b"[..]),
            (b"a.*", b"a.b"),
            (b"a.>", b"a.b.c"),
            (b"*.b", b"a.b"),
            (b">", b"x"),
        ] {
            let generations = Generations::default();
            let before = stamp(&generations, subject);
            generations.touch(pattern);
            assert_ne!(
                before,
                stamp(&generations, subject),
                "{}",
                pattern.escape_ascii()
            );
        }
    }

    #[test]
    fn a_change_elsewhere_does_not_show() {
        let generations = Generations::default();
        let before = stamp(&generations, b"orders.eu");
        generations.touch(b"orders.us");
        generations.touch(b"stock.>");
        assert_eq!(before, stamp(&generations, b"orders.eu"));
    }
}
