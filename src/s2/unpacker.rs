//! Takes bytes out of chunks, however the reads of the wire cut those.
//!
//! ```text
//! input:   [ done with │ rest of a stored chunk │ chunks that have not been looked at │ start of one ]
//! output:  [ given │ not yet given ]                         of the compressed chunk at hand
//! ```
//!
//! One chunk is undone at a time, and only when what it says is wanted: a few bytes that say megabytes cost those megabytes
//! once, not for each of them that is on the wire.

#![warn(clippy::indexing_slicing)]

use super::block::decode;
use super::{
    BLOCK_BYTES_MAX, CHECKSUM_BYTES, HEAD_BYTES, S2Error, SNAPPY_ID, STREAM_ID, checksum, kind,
};

/// Bytes in the block of a chunk: as many as the worst encoder makes of the largest.
const ENCODED_BYTES_MAX: usize = BLOCK_BYTES_MAX + BLOCK_BYTES_MAX / 6 + 32;
/// Buffers up to this size are kept for the next chunk.
const KEPT_BYTES_MAX: usize = 128 * 1024;

/// The reading end of a stream. It owns a buffer while it has a part of a chunk, and for the next one until it is
/// [trimmed](Unpacker::trim).
#[derive(Debug, Default)]
pub struct Unpacker {
    input: Vec<u8>,
    /// What is done with, in `0..=input.len()`.
    at: usize,
    /// Bytes from `at` on that say what they are and have not been given.
    stored: usize,
    /// Bytes to come that nobody wants.
    skip: usize,
    is_begun: bool,
    output: Vec<u8>,
    /// What of it was given, in `0..=output.len()`.
    given: usize,
}

impl Unpacker {
    /// Takes bytes of the wire in.
    pub fn push(&mut self, wire: &[u8]) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.extend_from_slice(wire);
    }

    /// Gives as much as there is and fits of what the wire says; nothing if its next chunk is not whole yet. Before anything
    /// is allocated for a chunk, its type and length are looked at, and the size of its block.
    ///
    /// # Errors
    ///
    /// The first [`S2Error`] of the stream, after what comes before it was given. There is no use in going on.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, S2Error> {
        let mut len = 0;
        while len < into.len() {
            if !self.has_said() {
                match self.next_chunk() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) if len == 0 => return Err(error),
                    Err(_) => {
                        self.output.clear();
                        break;
                    }
                }
            }
            let from = if self.stored > 0 {
                self.input.get(self.at..self.at + self.stored)
            } else {
                self.output.get(self.given..)
            };
            let (from, room) = (
                from.unwrap_or_default(),
                into.get_mut(len..).unwrap_or_default(),
            );
            let piece = from.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..piece), from.get(..piece)) {
                to.copy_from_slice(from);
            }
            len += piece;
            if self.stored > 0 {
                self.stored -= piece;
                self.at += piece;
            } else {
                self.given += piece;
            }
        }
        self.tidy();
        Ok(len)
    }

    /// Whether it can give nothing before more is [pushed](Unpacker::push).
    #[must_use]
    pub fn is_starved(&self) -> bool {
        let ahead = self.input.len() - self.at;
        let head = self.head();
        let is_whole = head.is_some_and(|(_, len)| HEAD_BYTES + len <= ahead);
        let is_none = head.is_some_and(|(kind, len)| check(kind, len).is_err());
        !self.has_said() && !is_whole && !is_none
    }

    /// Bytes that it keeps.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.input.len() + self.output.len()
    }

    /// Frees what is kept for the next chunk.
    pub fn trim(&mut self) {
        self.input.shrink_to_fit();
        self.output.shrink_to_fit();
    }

    /// Whether there is something to give without looking at another chunk.
    fn has_said(&self) -> bool {
        self.stored > 0 || self.given < self.output.len()
    }

    /// Type and length of the chunk that comes next.
    fn head(&self) -> Option<(u8, usize)> {
        let head = self.input.get(self.at..)?.first_chunk::<HEAD_BYTES>()?;
        let [kind, low, middle, high] = *head;
        let len = u32::from_le_bytes([low, middle, high, 0]);
        Some((kind, len as usize))
    }

    /// Undoes the next chunk that says something, if it is there as a whole.
    fn next_chunk(&mut self) -> Result<bool, S2Error> {
        self.output.clear();
        self.given = 0;
        while !self.has_said() {
            let skipped = self.skip.min(self.input.len() - self.at);
            (self.at, self.skip) = (self.at + skipped, self.skip - skipped);
            let Some((kind, len)) = self.head() else {
                return Ok(false);
            };
            if !self.is_begun && kind != kind::STREAM {
                return Err(S2Error::NoStream);
            }
            check(kind, len)?;
            let body = self.at + HEAD_BYTES;
            if kind >= kind::SKIPPABLE && kind != kind::STREAM {
                (self.at, self.skip) = (body, len);
                continue;
            }
            let Some(bytes) = self.input.get(body..body + len) else {
                return Ok(false);
            };
            if kind == kind::STREAM {
                if bytes != STREAM_ID && bytes != SNAPPY_ID {
                    return Err(S2Error::NoStream);
                }
                self.is_begun = true;
                self.at = body + len;
                continue;
            }
            let (checksum, bytes) = bytes
                .split_first_chunk::<CHECKSUM_BYTES>()
                .ok_or(S2Error::ChunkLength(kind, len))?;
            let said = if kind == kind::STORED {
                bytes
            } else {
                decode(bytes, &mut self.output)?;
                &self.output
            };
            if checksum::masked(said) != u32::from_le_bytes(*checksum) {
                return Err(S2Error::Checksum);
            }
            self.at = body + len;
            if kind == kind::STORED {
                self.stored = len - CHECKSUM_BYTES;
                self.at -= self.stored;
            }
        }
        Ok(true)
    }

    /// Lets go of what is done with, if that is everything.
    fn tidy(&mut self) {
        if self.at == self.input.len() {
            self.at = 0;
            recycle(&mut self.input);
        }
        if self.given == self.output.len() {
            self.given = 0;
            recycle(&mut self.output);
        }
    }
}

/// Whether a chunk can be like that.
fn check(kind: u8, len: usize) -> Result<(), S2Error> {
    let lens = match kind {
        kind::COMPRESSED => CHECKSUM_BYTES + 1..=CHECKSUM_BYTES + ENCODED_BYTES_MAX,
        kind::STORED => CHECKSUM_BYTES..=CHECKSUM_BYTES + BLOCK_BYTES_MAX,
        kind::STREAM => STREAM_ID.len()..=STREAM_ID.len(),
        kind::SKIPPABLE.. => return Ok(()),
        _ => return Err(S2Error::ChunkType(kind)),
    };
    if lens.contains(&len) {
        Ok(())
    } else {
        Err(S2Error::ChunkLength(kind, len))
    }
}

/// Empties a buffer, and frees it if it is large.
fn recycle(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES_MAX {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}
