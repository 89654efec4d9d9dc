//! The tree that a configuration file parses to.
//!
//! Subtrees are shared: a variable that is used a thousand times is stored once. What such a tree would take written
//! out is bounded all the same (see `Size`), because whoever walks it visits every use.

use std::sync::Arc;

use super::error::Position;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The value itself.
    pub data: Data,
    /// Its first character; for a variable, where the variable is used.
    pub at: Position,
}

/// What a value can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Text. Bytes that are not UTF-8 have become replacement characters.
    String(Arc<str>),
    /// A whole number, its size suffix multiplied in.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true`, `yes`, `on` or their opposites.
    Bool(bool),
    /// `YYYY-MM-DDTHH:MM:SSZ`, in range.
    DateTime(Arc<str>),
    /// `[..]`
    Array(Arc<Array>),
    /// `{..}`
    Map(Arc<Map>),
}

/// The elements of an array, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// The elements.
    pub items: Vec<Value>,
    pub(super) size: Size,
}

/// The entries of a map, in the order of the file; each key once, where it stood last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    /// The entries.
    pub entries: Vec<Entry>,
    pub(super) size: Size,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as it is spelled in the file.
    pub key: Arc<str>,
    /// The key's first character, after the quote if it has one.
    pub at: Position,
    /// The value.
    pub value: Value,
    /// A variable reference resolved to this entry: then it need not be an option.
    pub used: bool,
}

/// How much a subtree is when every use of a variable is written out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    /// Values and bytes of text. Saturates.
    pub(super) weight: usize,
    /// Levels of arrays and maps.
    pub(super) depth: usize,
}

impl Value {
    /// The value's kind in words, for messages.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::String(_) => "a string",
            Data::Integer(_) => "an integer",
            Data::Float(_) => "a float",
            Data::Bool(_) => "a boolean",
            Data::DateTime(_) => "a date",
            Data::Array(_) => "an array",
            Data::Map(_) => "a map",
        }
    }

    pub(super) fn size(&self) -> Size {
        match &self.data {
            Data::String(text) | Data::DateTime(text) => Size {
                weight: text.len().saturating_add(1),
                depth: 0,
            },
            Data::Array(array) => array.size,
            Data::Map(map) => map.size,
            Data::Integer(_) | Data::Float(_) | Data::Bool(_) => Size {
                weight: 1,
                depth: 0,
            },
        }
    }
}

impl Map {
    /// The entry with exactly this key.
    pub fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| &*entry.key == key)
    }

    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let parts = entries.iter().map(|entry| {
            let size = entry.value.size();
            Size {
                weight: size.weight.saturating_add(entry.key.len()),
                depth: size.depth,
            }
        });
        let size = Size::around(parts);
        Map { entries, size }
    }
}

impl Array {
    pub(super) fn new(items: Vec<Value>) -> Self {
        let size = Size::around(items.iter().map(Value::size));
        Array { items, size }
    }
}

impl Size {
    /// The size of a container with these parts.
    fn around(parts: impl Iterator<Item = Size>) -> Self {
        let mut whole = Size {
            weight: 1,
            depth: 0,
        };
        for part in parts {
            whole.weight = whole.weight.saturating_add(part.weight);
            whole.depth = whole.depth.max(part.depth);
        }
        whole.depth += 1;
        whole
    }
}
