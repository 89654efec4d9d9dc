//! Puts bytes into chunks.

use super::encode::ENCODED_BYTES_MAX;
use super::{CHECKSUM_BYTES, Encoder, HEAD_BYTES, Level, STREAM_ID, checksum, kind};

/// Fewer bytes are stored as they are: there is nothing to gain.
const PACKED_BYTES_MIN: usize = 32;

/// The writing end of a stream: knows whether it has begun, and how hard to try. The buffers are the caller's.
#[derive(Debug, Default)]
pub struct Packer {
    /// How hard to try, from the next chunk on.
    pub level: Level,
    is_begun: bool,
}

impl Packer {
    /// Bytes that become one chunk, at the most.
    pub const BYTES_MAX: usize = ENCODED_BYTES_MAX;

    /// A stream that has not begun.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Packer {
            level,
            is_begun: false,
        }
    }

    /// Appends a chunk that says `bytes`, of which there are some and at most [`Packer::BYTES_MAX`], to `wire`; the first
    /// time, the start of the stream before it.
    pub fn pack(&mut self, bytes: &[u8], encoder: &mut Encoder, wire: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_begun, true) {
            wire.extend_from_slice(&head(kind::STREAM, STREAM_ID.len()));
            wire.extend_from_slice(&STREAM_ID);
        }
        let start = wire.len();
        wire.extend_from_slice(&[0; HEAD_BYTES]);
        wire.extend_from_slice(&checksum::masked(bytes).to_le_bytes());
        let body = wire.len();
        let is_worth_it = self.level != Level::Uncompressed && bytes.len() >= PACKED_BYTES_MIN;
        if is_worth_it {
            encoder.encode(bytes, self.level, wire);
        }
        let is_smaller = is_worth_it && wire.len() - body < bytes.len();
        if !is_smaller {
            wire.truncate(body);
            wire.extend_from_slice(bytes);
        }
        let kind = if is_smaller {
            kind::COMPRESSED
        } else {
            kind::STORED
        };
        let len = CHECKSUM_BYTES + wire.len() - body;
        wire[start..start + HEAD_BYTES].copy_from_slice(&head(kind, len));
    }
}

/// Type and length of a chunk.
fn head(kind: u8, len: usize) -> [u8; HEAD_BYTES] {
    let [low, middle, high, ..] = len.to_le_bytes();
    [kind, low, middle, high]
}
