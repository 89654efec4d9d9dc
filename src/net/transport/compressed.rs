//! Compression between a transport and the wire, TLS or not: what it keeps, and what it makes of bytes.
//!
//! ```text
//! write:  runs ▶ [plain: one chunk's worth] ▶ packed ▶ [wire] ▶ TLS, socket ─ what is not taken ▶ left
//! read:   socket, TLS ▶ [caller's buffer] ▶ unpacker ▶ front of the same buffer
//! ```
//!
//! What stands in brackets is the caller's, for all its connections.

use std::io;

use crate::limits;
use crate::s2::{Encoder, Level, Packer, S2Error, Unpacker};

/// Buffers of a worker for what it compresses, empty until something is.
#[derive(Debug, Default)]
pub(in crate::net) struct Workbench {
    /// Bytes of several runs that become one chunk.
    plain: Vec<u8>,
    /// Chunks for the wire.
    wire: Vec<u8>,
    encoder: Encoder,
}

/// What one transport keeps for it.
#[derive(Debug)]
pub(super) struct Compressed {
    packer: Packer,
    unpacker: Unpacker,
    /// Bytes to write before what is compressed: they were queued before that was agreed on.
    before: usize,
    /// What the wire has not taken, and how much of that it has since.
    left: Vec<u8>,
    sent: usize,
}

impl Workbench {
    /// Frees what is kept for next time.
    pub(in crate::net) fn trim(&mut self) {
        *self = Workbench::default();
    }
}

impl Compressed {
    /// Compresses what is written after the next `before` bytes; undoes that from the next byte that is read.
    pub(super) fn new(level: Level, before: usize) -> Self {
        Compressed {
            packer: Packer::new(level),
            unpacker: Unpacker::default(),
            before,
            left: Vec::new(),
            sent: 0,
        }
    }

    /// Compresses like this from now on.
    pub(super) fn set_level(&mut self, level: Level) {
        self.packer.level = level;
    }

    /// Whether bytes that count as written wait for the wire.
    pub(super) fn wants_write(&self) -> bool {
        !self.left.is_empty()
    }

    /// Memory that it keeps because the wire or the peer is slow.
    pub(super) fn kept_bytes(&self) -> usize {
        self.left.len() + self.unpacker.kept_bytes()
    }

    /// Frees what is kept for next time.
    pub(super) fn trim(&mut self) {
        self.unpacker.trim();
    }

    /// Takes in bytes of the wire.
    pub(super) fn push(&mut self, wire: &[u8]) {
        self.unpacker.push(wire);
    }

    /// Whether [`Compressed::take`] can give nothing before more is pushed.
    pub(super) fn is_starved(&self) -> bool {
        self.unpacker.is_starved()
    }

    /// Gives as much as there is and fits of what the wire has said.
    ///
    /// # Errors
    ///
    /// `InvalidData` with the [`S2Error`] in it.
    pub(super) fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let broken = |error: S2Error| io::Error::new(io::ErrorKind::InvalidData, error);
        self.unpacker.take(into).map_err(broken)
    }

    /// Writes what waits for the wire, by `write`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if some of it still waits; else those of the wire.
    pub(super) fn flush(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while let Some(rest) = self.left.get(self.sent..).filter(|it| !it.is_empty()) {
            match write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.left = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// Compresses some of `runs` and writes that, by `write`; gives how many of their bytes are done with. What the wire
    /// does not take of it is kept: less than [`limits::COMPRESSED_WRITE_BYTES`] and one chunk.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if what was written before still waits; else those of the wire.
    pub(super) fn write<'a>(
        &mut self,
        runs: impl Iterator<Item = &'a [u8]>,
        bench: &mut Workbench,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.flush(&mut write)?;
        let mut runs = runs.filter(|run| !run.is_empty());
        if self.before > 0 {
            let run = runs.next().unwrap_or_default();
            let len = write(run.get(..self.before).unwrap_or(run))?;
            self.before -= len;
            return Ok(len);
        }
        let done = self.pack(runs, bench);
        let mut rest = bench.wire.as_slice();
        while !rest.is_empty() {
            match write(rest) {
                Ok(len) if len > 0 => rest = rest.get(len..).unwrap_or_default(),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if !rest.is_empty() {
            self.left = rest.to_vec();
        }
        Ok(done)
    }

    /// Fills the bench with chunks of what comes first in `runs`; gives how many bytes they say.
    fn pack<'a>(&mut self, runs: impl Iterator<Item = &'a [u8]>, bench: &mut Workbench) -> usize {
        let Workbench {
            plain,
            wire,
            encoder,
        } = bench;
        plain.clear();
        wire.clear();
        let mut done = 0;
        for mut run in runs {
            while !run.is_empty() && wire.len() < limits::COMPRESSED_WRITE_BYTES {
                let room = Packer::BYTES_MAX - plain.len();
                let (piece, rest) = run.split_at(run.len().min(room));
                (run, done) = (rest, done + piece.len());
                if piece.len() == Packer::BYTES_MAX {
                    self.packer.pack(piece, encoder, wire);
                    continue;
                }
                plain.extend_from_slice(piece);
                if plain.len() == Packer::BYTES_MAX {
                    self.packer.pack(plain, encoder, wire);
                    plain.clear();
                }
            }
            if !run.is_empty() {
                break;
            }
        }
        if !plain.is_empty() {
            self.packer.pack(plain, encoder, wire);
        }
        done
    }
}
