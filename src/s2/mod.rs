//! S2, the compression of routes: an extension of Snappy, block by block, in a stream of chunks.
//!
//! ```text
//! stream:  ff 060000 "S2sTwO" │ 00 <len> <checksum> <block> │ 01 <len> <checksum> <bytes as they are> │ …
//! block:   <size> │ literal │ copy │ repeat │ …
//! ```
//!
//! A chunk has a type, a length of three bytes, and for data the masked CRC-32C of what it says. A block begins with the
//! size of what it says; its elements are bytes as they are, copies of bytes further up, and copies from the same distance
//! as the last one, which Snappy does not have. All numbers are little endian. Nothing here does I/O, and what a peer can
//! make it allocate is bounded by [`BLOCK_BYTES_MAX`]. Sources: the format descriptions of Snappy and of its framing, and
//! the documentation of S2.

mod block;
mod checksum;
mod encode;
mod packer;
mod unpacker;

use std::fmt;

pub use block::decode;
pub use encode::Encoder;
pub use packer::Packer;
pub use unpacker::Unpacker;

/// Bytes that a chunk says, at the most.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How hard to look for what can be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Not at all: chunks, but of bytes as they are.
    Uncompressed,
    /// Once, and less and less where nothing is found.
    #[default]
    Fast,
    /// At a few places further up.
    Better,
    /// At many.
    Best,
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S2Error {
    /// The checksum of a chunk is not that of what it says.
    Checksum,
    /// A chunk of this type can't be skipped, and means nothing.
    ChunkType(u8),
    /// A chunk of this type is longer or shorter than any can be.
    ChunkLength(u8, usize),
    /// It does not begin as a stream does.
    NoStream,
    /// A block is not what it should be.
    Block(&'static str),
    /// A block says that it is larger than any can be.
    BlockSize(u64),
}

impl fmt::Display for S2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            S2Error::Checksum => f.write_str("s2: the checksum of a chunk is wrong"),
            S2Error::ChunkType(kind) => write!(f, "s2: a chunk of unknown type 0x{kind:02x}"),
            S2Error::ChunkLength(kind, len) => {
                write!(f, "s2: a chunk of type 0x{kind:02x} with {len} bytes")
            }
            S2Error::NoStream => f.write_str("s2: not a stream of chunks"),
            S2Error::Block(flaw) => write!(f, "s2: a block {flaw}"),
            S2Error::BlockSize(size) => {
                let max = BLOCK_BYTES_MAX;
                write!(
                    f,
                    "s2: a block of {size} bytes exceeds the maximum of {max}"
                )
            }
        }
    }
}

impl std::error::Error for S2Error {}

/// Types of chunks.
mod kind {
    /// A compressed block.
    pub(super) const COMPRESSED: u8 = 0x00;
    /// Bytes as they are.
    pub(super) const STORED: u8 = 0x01;
    /// The first of those that a reader may skip; it may not skip those below.
    pub(super) const SKIPPABLE: u8 = 0x80;
    /// Where a stream begins; it may come again.
    pub(super) const STREAM: u8 = 0xff;
}

/// What the first chunk of a stream says.
const STREAM_ID: [u8; 6] = *b"S2sTwO";
/// The same, of a stream that keeps to Snappy.
const SNAPPY_ID: [u8; 6] = *b"sNaPpY";
/// Type and length of a chunk.
const HEAD_BYTES: usize = 4;
/// The checksum behind them.
const CHECKSUM_BYTES: usize = 4;

#[cfg(test)]
mod tests;
