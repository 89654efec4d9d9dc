//! A map while it is being read: finds its keys in constant time, so that a long file takes linear time.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Position;
use super::value::{Entry, Map, Value};

/// The entries so far. The last one of a key counts; those before it are dropped at the end.
#[derive(Debug, Default)]
pub(super) struct Scope {
    entries: Vec<Entry>,
    /// Key to the index of its last entry.
    exact: HashMap<Arc<str>, usize>,
    /// The same by the key in lower case.
    folded: HashMap<String, usize>,
}

impl Scope {
    pub(super) fn insert(&mut self, mut entry: Entry) {
        let index = self.entries.len();
        if let Some(earlier) = self.exact.insert(Arc::clone(&entry.key), index) {
            // A use of the earlier value excuses the key, not the value.
            entry.used |= self.entries.get(earlier).is_some_and(|it| it.used);
        }
        self.folded.insert(entry.key.to_ascii_lowercase(), index);
        self.entries.push(entry);
    }

    /// The value of the variable `name`, marked as used.
    pub(super) fn variable(&mut self, name: &str) -> Option<Value> {
        let index = *self.exact.get(name)?;
        self.used(index)
    }

    /// The same in whatever letter case.
    pub(super) fn variable_in_any_case(&mut self, name: &str) -> Option<Value> {
        let index = *self.folded.get(&name.to_ascii_lowercase())?;
        self.used(index)
    }

    fn used(&mut self, index: usize) -> Option<Value> {
        let entry = self.entries.get_mut(index)?;
        entry.used = true;
        Some(entry.value.clone())
    }

    /// Adds what an included file defines.
    pub(super) fn absorb(&mut self, map: Map) {
        for entry in map.entries {
            self.insert(entry);
        }
    }

    pub(super) fn finish(self) -> Map {
        let Scope {
            entries,
            exact,
            folded: _,
        } = self;
        let is_last = |(index, entry): &(usize, Entry)| exact.get(&entry.key) == Some(index);
        Map::new(
            entries
                .into_iter()
                .enumerate()
                .filter(is_last)
                .map(|(_, entry)| entry)
                .collect(),
        )
    }
}

impl Entry {
    pub(super) fn new(key: &str, at: Position, value: Value) -> Self {
        Entry {
            key: key.into(),
            at,
            value,
            used: false,
        }
    }
}
