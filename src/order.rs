//! Sorting where a few nanoseconds do not matter and size does: one copy of the sort serves every type.
//!
//! Each type that the standard library sorts brings some six kilobytes of code. Lists of configuration, monitoring
//! and clusters are sorted here; what is in the way of a message is sorted there.

use std::cmp::Ordering;

/// Sorts by a comparison; what compares as equal keeps its order.
///
/// Takes memory for a number an item, and moves each item at most twice.
pub(crate) fn sort_by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let mut places = places(items.len(), &|one, other| {
        compare(&items[one], &items[other])
    });
    for at in 0..items.len() {
        // What belongs here may have been swapped away by an earlier turn, to the place that has its own since.
        let mut from = places[at];
        while from < at {
            from = places[from];
        }
        places[at] = from;
        items.swap(at, from);
    }
}

/// Sorts by a key; what has equal keys keeps its order.
pub(crate) fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |one, other| key(one).cmp(&key(other)));
}

/// Sorts by the order of the items themselves.
pub(crate) fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Which item belongs at each place: a permutation of `0..len`.
fn places(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..len).collect();
    places.sort_by(|&one, &other| compare(one, other));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn sorts_as_the_standard_library_does() {
        let mut rng = Rng::seeded(1);
        for len in 0..200 {
            let items: Vec<(usize, usize)> = (0..len).map(|at| (rng.below(50), at)).collect();
            let (mut ours, mut theirs) = (items.clone(), items);
            sort_by_key(&mut ours, |item| item.0);
            theirs.sort_by_key(|item| item.0);
            assert_eq!(ours, theirs, "equal keys keep their order");
            sort_by(&mut ours, |one, other| other.cmp(one));
            theirs.sort_by(|one, other| other.cmp(one));
            assert_eq!(ours, theirs);
            sort(&mut ours);
            theirs.sort();
            assert_eq!(ours, theirs);
        }
    }
}
