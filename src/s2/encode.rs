//! Makes blocks: finds what was said before, and says that it was.
//!
//! A table has for each hash of a few bytes the place where they were last; for the stronger levels, chains lead from each
//! place to the one before with the same hash. Both are an encoder's for all blocks, and are worth keeping.

use super::Level;

/// Bytes in one block: what a place of two bytes reaches. A larger window gains little on messages.
pub(super) const ENCODED_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are looked at as one number; what is closer to the end is said as it is.
const WORD: usize = 8;
/// The shortest copy that can be has four bytes.
const COPY_MIN_BITS: u32 = 32;
/// Bits of the table's index: of the largest, and of the smallest.
const TABLE_BITS_MAX: u32 = 14;
const TABLE_BITS_MIN: u32 = 8;
/// Places in a row without a copy after which every second one is looked at, then every third, as a power of two.
const PATIENCE: u32 = 5;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The last place of each hash. Zero is a place like any other: what is there is compared anyway.
    heads: Vec<u16>,
    /// From each place to the one before.
    links: Vec<u16>,
}

/// A run of bytes that was said before.
#[derive(Clone, Copy)]
struct Found {
    at: usize,
    from: usize,
    len: usize,
}

impl Found {
    /// Bytes that it saves.
    fn gain(&self) -> usize {
        let cost = match (self.at - self.from, self.len) {
            (..2048, ..12) => 2,
            (_, ..65) => 3,
            _ => 5,
        };
        self.len.saturating_sub(cost)
    }
}

/// How a level searches.
#[derive(Clone, Copy)]
struct Effort {
    /// Places to compare, beside the last one.
    depth: usize,
    /// Bits by which a place is found again. More of them find less, and what is longer.
    key_bits: u32,
}

const FAST: Effort = Effort {
    depth: 0,
    key_bits: 48,
};
const BETTER: Effort = Effort {
    depth: 2,
    key_bits: 40,
};
const BEST: Effort = Effort {
    depth: 32,
    key_bits: 32,
};

/// The search in one block.
struct Search<'a, const DEEP: bool> {
    bytes: &'a [u8],
    heads: &'a mut [u16],
    links: &'a mut [u16],
    effort: Effort,
    /// Bits of a hash that are not used.
    shift: u32,
}

impl Encoder {
    /// Appends the block that says `bytes`, which are at most 64 KiB. It may come out longer than they are, by a sixth.
    ///
    /// # Panics
    ///
    /// If there are more.
    pub fn encode(&mut self, bytes: &[u8], level: Level, out: &mut Vec<u8>) {
        assert!(bytes.len() <= ENCODED_BYTES_MAX, "{} bytes", bytes.len());
        out.reserve(bytes.len() + bytes.len() / 6 + 32);
        size(bytes.len(), out);
        match level {
            Level::Uncompressed | Level::Fast => self.elements::<false>(bytes, FAST, out),
            Level::Better => self.elements::<true>(bytes, BETTER, out),
            Level::Best => self.elements::<true>(bytes, BEST, out),
        }
    }

    /// Appends the elements. `DEEP` is whether chains are followed, which leaves nothing to ask on the way.
    fn elements<const DEEP: bool>(&mut self, bytes: &[u8], effort: Effort, out: &mut Vec<u8>) {
        let bits = bytes.len().max(1).ilog2();
        let bits = bits.clamp(TABLE_BITS_MIN, TABLE_BITS_MAX);
        if self.heads.len() < 1 << bits {
            self.heads = vec![0; 1 << bits];
        }
        let heads = self.heads.get_mut(..1 << bits).unwrap_or_default();
        heads.fill(0);
        if DEEP && self.links.is_empty() {
            self.links = vec![0; ENCODED_BYTES_MAX];
        }
        let mut search = Search::<DEEP> {
            bytes,
            heads,
            links: &mut self.links,
            effort,
            shift: u64::BITS - bits,
        };
        let (mut at, mut said, mut offset, mut misses) = (0, 0, 0, 0);
        while at + WORD <= bytes.len() {
            let Some(mut found) = search.at(at, offset) else {
                misses += 1;
                at += 1 + (misses >> PATIENCE);
                continue;
            };
            misses = 0;
            if DEEP && at + 1 + WORD <= bytes.len() {
                // Perhaps a better one begins right behind.
                let next = search.at(at + 1, offset);
                found = next
                    .filter(|it| it.gain() > found.gain() + 1)
                    .unwrap_or(found);
            }
            while found.at > said && found.from > 0 && bytes[found.at - 1] == bytes[found.from - 1]
            {
                found = Found {
                    at: found.at - 1,
                    from: found.from - 1,
                    len: found.len + 1,
                };
            }
            literal(&bytes[said..found.at], out);
            let distance = found.at - found.from;
            copy(distance, found.len, distance == offset, out);
            offset = distance;
            said = found.at + found.len;
            // What was just said is worth finding again, at its end most of all.
            let first = if DEEP { at + 2 } else { said - 2 };
            for at in first..said {
                search.note(at);
            }
            at = said;
        }
        literal(&bytes[said..], out);
    }
}

impl<const DEEP: bool> Search<'_, DEEP> {
    /// What begins at `at` and was said before, `offset` bytes further up or elsewhere. A word must be there.
    #[inline]
    fn at(&mut self, at: usize, offset: usize) -> Option<Found> {
        let word = self.word(at);
        let head = self.place(at, word);
        if !DEEP {
            // The same distance again costs least.
            let from = if offset > 0 && self.agrees(at - offset, word) {
                at - offset
            } else if head < at && self.agrees(head, word) {
                head
            } else {
                return None;
            };
            return Some(self.found(at, from));
        }
        let mut best: Option<Found> = None;
        let mut look = |from: usize| {
            if self.agrees(from, word) {
                let found = self.found(at, from);
                if best.is_none_or(|it| found.gain() > it.gain()) {
                    best = Some(found);
                }
            }
        };
        if offset > 0 {
            look(at - offset);
        }
        let (mut from, mut bound) = (head, at);
        for _ in 0..=self.effort.depth {
            if from >= bound {
                break;
            }
            look(from);
            bound = from;
            from = usize::from(self.links[from]);
        }
        best.filter(|it| it.gain() > 1)
    }

    /// Notes that `at` is the last place of what is there, if it is a word.
    #[inline]
    fn note(&mut self, at: usize) {
        if at + WORD <= self.bytes.len() {
            self.place(at, self.word(at));
        }
    }

    /// The same; gives the place before, or zero.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a place in a block has two bytes, a hash fewer bits than it is shifted by"
    )]
    fn place(&mut self, at: usize, word: u64) -> usize {
        let key = word << (u64::BITS - self.effort.key_bits);
        let hash = key.wrapping_mul(0x9e37_79b1_85eb_ca87);
        let head = &mut self.heads[(hash >> self.shift) as usize];
        let before = std::mem::replace(head, at as u16);
        if DEEP {
            self.links[at] = before;
        }
        usize::from(before)
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        let word = self.bytes[at..at + WORD].try_into();
        u64::from_le_bytes(word.expect("so many bytes"))
    }

    /// Whether the shortest copy of what `word` begins with could be made from there.
    #[inline]
    fn agrees(&self, from: usize, word: u64) -> bool {
        (self.word(from) ^ word).trailing_zeros() >= COPY_MIN_BITS
    }

    /// How long the bytes at both places are the same.
    #[inline]
    fn found(&self, at: usize, from: usize) -> Found {
        let mut len = 0;
        while at + len + WORD <= self.bytes.len() {
            let differ = self.word(at + len) ^ self.word(from + len);
            if differ != 0 {
                len += (differ.trailing_zeros() / 8) as usize;
                return Found { at, from, len };
            }
            len += WORD;
        }
        let rest = self.bytes[at + len..].iter().zip(&self.bytes[from + len..]);
        len += rest.take_while(|(one, other)| one == other).count();
        Found { at, from, len }
    }
}

/// Appends the size of what a block says.
#[expect(
    clippy::cast_possible_truncation,
    reason = "seven bits of it at a time"
)]
fn size(mut size: usize, out: &mut Vec<u8>) {
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
}

/// Appends bytes as they are, if there are any.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a block has at most 64 KiB"
)]
fn literal(bytes: &[u8], out: &mut Vec<u8>) {
    let Some(less) = bytes.len().checked_sub(1) else {
        return;
    };
    match less {
        ..60 => out.push((less << 2) as u8),
        60..256 => out.extend_from_slice(&[60 << 2, less as u8]),
        _ => out.extend_from_slice(&[61 << 2, less as u8, (less >> 8) as u8]),
    }
    out.extend_from_slice(bytes);
}

/// Appends a copy of `len` bytes, four at least, from `offset` bytes further up, less than 64 KiB; `is_repeat` if that is
/// as far as the last one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the arms say how large what is cut can be"
)]
fn copy(offset: usize, len: usize, is_repeat: bool, out: &mut Vec<u8>) {
    let is_near = offset < 2048;
    if is_near && len < 12 && !(is_repeat && len <= 8) {
        let high = (offset >> 8 << 5) as u8;
        return out.extend_from_slice(&[high | ((len - 4) << 2) as u8 | 1, offset as u8]);
    }
    if is_repeat {
        return repeat(len, out);
    }
    if len <= 64 {
        let tag = ((len - 1) << 2) as u8 | 2;
        return out.extend_from_slice(&[tag, offset as u8, (offset >> 8) as u8]);
    }
    // Long ones say how far once, and go on with a repeat.
    let first = if is_near { 8 } else { 60 };
    copy(offset, first, false, out);
    repeat(len - first, out);
}

/// Appends a copy of `len` bytes, four at least, from as far up as the last one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the arms say how large what is cut can be"
)]
fn repeat(len: usize, out: &mut Vec<u8>) {
    match len {
        ..9 => out.extend_from_slice(&[((len - 4) << 2) as u8 | 1, 0]),
        9..264 => out.extend_from_slice(&[5 << 2 | 1, 0, (len - 8) as u8]),
        _ => {
            // Never more than a block has, which is less than two bytes and this can say.
            let more = len - 260;
            out.extend_from_slice(&[6 << 2 | 1, 0, more as u8, (more >> 8) as u8]);
        }
    }
}
