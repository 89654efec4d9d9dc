//! A short byte string that needs no allocation.
//!
//! Most tokens and nearly all sids have at most 22 bytes; a million of them should not cost a million allocations.

use std::fmt;

/// Bytes that fit without an allocation.
const INLINE_MAX: usize = 22;

/// An immutable byte string, inline up to 22 bytes.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Inline(u8, [u8; INLINE_MAX]),
    Heap(Box<[u8]>),
}

impl Text {
    /// A copy of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_MAX];
        match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(bytes);
                Text(Repr::Inline(len, inline))
            }
            _ => Text(Repr::Heap(bytes.into())),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Heap(bytes) => bytes,
        }
    }
}

impl PartialEq<[u8]> for Text {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_comes_back_as_it_went_in() {
        for len in [0, 1, 21, 22, 23, 300] {
            let bytes = vec![b'x'; len];
            assert_eq!(Text::new(&bytes).as_bytes(), bytes);
        }
        assert_eq!(size_of::<Text>(), 24);
    }
}
