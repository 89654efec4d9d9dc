//! The sending side of one connection: its transport, and what waits to be written to it.
//!
//! ```text
//! chunks: [own 16 KiB][own small][shared payload]…   tail: being filled
//!         └ sent ┘ written already
//! ```
//!
//! An outlet with nothing to send owns no buffer. Own chunks come from the worker's pool and go back to it; a large
//! message is one allocation that all queues share.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;

use super::fan_out::{FanOut, Notes};
use super::mailbox::Origin;
use super::transport::{Scratch, Transport};
use crate::limits;
use crate::monitor::Tick;
use crate::proto::encode::Message;
use crate::stats::Traffic;

/// Buffers in one gathered write.
const SLICES_MAX: usize = 64;

/// Spare buffers of a worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    spare: Vec<Vec<u8>>,
    /// Buffers of the usual size, or more, that outlets have.
    lent: usize,
    /// Messages to many, until the end of the turn.
    pub(super) fan_out: FanOut,
    /// Where transports put what they have made of bytes, for the moment until it is written.
    scratch: Scratch,
    /// Bytes that wait in all outlets; those of a shared message as often as it is queued.
    pub(super) pending: usize,
    /// What was delivered.
    pub(super) delivered: Traffic,
    /// Messages that were queued for other servers.
    pub(super) routed: Traffic,
    /// How often a producer was made to wait.
    pub(super) stalls: u64,
    /// The time of the turn.
    pub(super) tick: Tick,
}

impl Pool {
    /// An empty buffer with room for at least `len` bytes.
    fn take(&mut self, len: usize) -> Vec<u8> {
        // A message to thousands puts little into each queue, and a buffer keeps the memory that any use of it took.
        let size = if self.lent < limits::CHUNKS_LENT_MAX {
            limits::CHUNK_BYTES
        } else {
            limits::SMALL_CHUNK_BYTES
        };
        let buffer = match self.spare.pop() {
            Some(buffer) if buffer.capacity() >= len => buffer,
            _ => Vec::with_capacity(len.max(size)),
        };
        self.lent += usize::from(buffer.capacity() >= limits::CHUNK_BYTES);
        buffer
    }

    /// Takes a buffer back, if it is one of the usual size and there are not too many.
    fn give(&mut self, mut buffer: Vec<u8>) {
        let usual = (limits::CHUNK_BYTES..2 * limits::CHUNK_BYTES).contains(&buffer.capacity());
        let was_lent = buffer.capacity() >= limits::CHUNK_BYTES;
        self.lent = self.lent.saturating_sub(usize::from(was_lent));
        if usual && self.spare.len() < limits::SPARE_BYTES_MAX / limits::CHUNK_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Frees what is kept for next time.
    pub(super) fn trim(&mut self) {
        self.spare = Vec::new();
        self.fan_out.trim();
        self.scratch.trim();
    }
}

#[derive(Debug)]
enum Chunk {
    Own(Vec<u8>),
    /// A shared run of bytes, from an offset to its end.
    Shared(Arc<[u8]>, usize),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes, from) => bytes.get(*from..).unwrap_or_default(),
        }
    }
}

/// How logs name a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub(super) addr: SocketAddr,
    pub(super) id: u64,
    /// Whether the peer is another server.
    pub(super) is_route: bool,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_route { "rid" } else { "cid" };
        write!(f, "{} - {kind}:{}", self.addr, self.id)
    }
}

/// A transport and its queue.
///
/// What a delivery touches comes first and shares a cache line: in a fan-out, each outlet is a miss.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Outlet {
    tail: Vec<u8>,
    /// Bytes that are not written, but for those of `notes`.
    pending: usize,
    /// Messages to many that it gets too, behind all else. There are none but in a turn in which it is listed.
    notes: Notes,
    /// It is in the list of those to write to at the end of the turn.
    pub(super) listed: bool,
    /// It takes no more messages: the connection is ending.
    pub(super) closing: bool,
    /// A deadline is set for it to take something.
    pub(super) watched: bool,
    /// Tells this connection from earlier ones in the slot.
    pub(super) serial: u32,
    /// What was delivered to it, but for `notes`.
    pub(super) delivered: Traffic,
    /// When it last got a message.
    pub(super) active: Tick,
    /// How often a producer was made to wait for it.
    pub(super) stalls: u32,
    pub(super) transport: Transport,
    /// Bytes of the first chunk (the tail, if there is none) that are written.
    sent: usize,
    chunks: VecDeque<Chunk>,
    /// Since when the socket has taken nothing; absent while it takes what it is given.
    blocked_since: Option<Instant>,
    /// Producers that wait for it to drain. Few outlets ever have any.
    #[expect(
        clippy::box_collection,
        reason = "a pointer is a third of an empty vector, and an idle connection counts in bytes"
    )]
    waiting: Option<Box<Vec<Origin>>>,
    /// Bytes that were thrown away when it was given up.
    pub(super) lost: usize,
    pub(super) label: Label,
}

impl Outlet {
    pub(super) fn new(transport: Transport, label: Label, serial: u32) -> Self {
        Outlet {
            transport,
            label,
            serial,
            delivered: Traffic::default(),
            active: Tick::default(),
            stalls: 0,
            chunks: VecDeque::new(),
            tail: Vec::new(),
            sent: 0,
            pending: 0,
            notes: Notes::default(),
            blocked_since: None,
            listed: false,
            watched: false,
            closing: false,
            waiting: None,
            lost: 0,
        }
    }

    /// Bytes that are not written; of messages to many, only those of earlier turns.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether all is with the system.
    pub(super) fn is_drained(&self) -> bool {
        self.pending == 0 && self.notes.is_empty() && !self.transport.wants_write()
    }

    /// Memory that the queue takes, its part of what it shares with other queues counted in.
    pub(super) fn memory(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| match chunk {
            Chunk::Own(bytes) => bytes.len(),
            Chunk::Shared(bytes, _) => bytes.len() / Arc::strong_count(bytes),
        });
        chunks.sum::<usize>() + self.tail.len() + self.transport.kept_bytes()
    }

    /// Buffers that are not written.
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len() + usize::from(!self.tail.is_empty())
    }

    /// Since when the socket has taken nothing.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// The socket can take something again.
    pub(super) fn unblock(&mut self) {
        self.blocked_since = None;
    }

    /// Queues plain bytes.
    pub(super) fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        self.settle(pool);
        self.append(bytes, pool);
    }

    fn append(&mut self, bytes: &[u8], pool: &mut Pool) {
        self.reserve(bytes.len(), pool);
        self.tail.extend_from_slice(bytes);
        self.pending += bytes.len();
        pool.pending += bytes.len();
    }

    /// Queues a message that is kept for many, under a sid that can be noted. Where it comes to more than `most` bytes that
    /// are only noted, as for one that gets each message many times, they are queued in a copy of its own.
    #[inline]
    pub(super) fn note(&mut self, at: u32, sid: &[u8], most: usize, pool: &mut Pool) {
        if self.notes.add(at, sid, &mut pool.fan_out) > most {
            self.settle(pool);
        }
    }

    /// Queues what is noted, in a copy of its own.
    #[inline]
    pub(super) fn settle(&mut self, pool: &mut Pool) {
        if !self.notes.is_empty() {
            self.end_notes(pool, false);
        }
    }

    /// Writes what is noted, if it may and nothing is before it; what the socket does not take is queued as everything
    /// else.
    #[inline(never)]
    fn end_notes(&mut self, pool: &mut Pool, write: bool) {
        let notes = std::mem::take(&mut self.notes);
        let (text, traffic) = pool.fan_out.lend(&notes);
        self.count(traffic, pool);
        let is_first = self.pending == 0;
        let written = match self.transport.plain_socket() {
            // If this fails, so will the next attempt, and be reported.
            Some(mut socket) if write && is_first => socket.write(&text).unwrap_or(0),
            _ => 0,
        };
        if let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
            self.append(rest, pool);
        }
        pool.fan_out.take_back(text);
    }

    /// Queues a delivery.
    #[inline]
    pub(super) fn push_message(
        &mut self,
        sid: &[u8],
        headers: bool,
        message: &Message<'_>,
        pool: &mut Pool,
    ) {
        let body = message.body().len().saturating_sub(2);
        let headers_left_out = if headers { 0 } else { message.header_len() };
        self.count(
            Traffic {
                msgs: 1,
                bytes: body.saturating_sub(headers_left_out) as u64,
            },
            pool,
        );
        let head_len_max = message.head_len_max(sid);
        self.push_headed(message, head_len_max, pool, |tail| {
            message.head(sid, headers, tail)
        });
    }

    /// Queues a message, of which `head` writes what is not in its line as it is, and gives the rest.
    #[inline]
    pub(super) fn push_headed<'m>(
        &mut self,
        message: &Message<'m>,
        head_len_max: usize,
        pool: &mut Pool,
        head: impl FnOnce(&mut Vec<u8>) -> &'m [u8],
    ) {
        self.settle(pool);
        let whole = message.line().len() < limits::SHARE_BYTES_MIN;
        let body_len = if whole { message.body().len() } else { 0 };
        let before = self.reserve(head_len_max + body_len, pool);
        let rest = head(&mut self.tail);
        if whole {
            self.tail.extend_from_slice(rest);
            self.pending += self.tail.len() - before;
            pool.pending += self.tail.len() - before;
            return;
        }
        self.pending += self.tail.len() - before + rest.len();
        pool.pending += self.tail.len() - before + rest.len();
        self.rotate(pool);
        let shared = message.shared_line();
        self.chunks
            .push_back(Chunk::Shared(Arc::clone(shared), shared.len() - rest.len()));
    }

    /// The same for a message to another server.
    pub(super) fn count_routed(&mut self, bytes: usize, pool: &mut Pool) {
        let one = Traffic {
            msgs: 1,
            bytes: bytes as u64,
        };
        self.delivered.add(one);
        pool.routed.add(one);
        self.active = pool.tick;
    }

    #[inline]
    fn count(&mut self, traffic: Traffic, pool: &mut Pool) {
        self.delivered.add(traffic);
        pool.delivered.add(traffic);
        self.active = pool.tick;
    }

    /// Writes as much as the socket takes. An error ends the connection.
    pub(super) fn flush(&mut self, pool: &mut Pool, now: Instant) -> io::Result<()> {
        if !self.notes.is_empty() {
            self.end_notes(pool, true);
        }
        while !self.is_drained() {
            match self.write_once(pool) {
                Ok(len) => {
                    self.blocked_since = None;
                    self.advance(len, pool);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert(now);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes once: gives how many of the queued bytes are done with.
    #[inline]
    fn write_once(&mut self, pool: &mut Pool) -> io::Result<usize> {
        let Some(mut socket) = self.transport.plain_socket() else {
            return self.write_encrypted(pool);
        };
        let len = if self.chunks.is_empty() {
            socket.write(self.tail.get(self.sent..).unwrap_or_default())?
        } else {
            self.write_gathered(socket)?
        };
        if len == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(len)
    }

    /// Whether producers wait for it to drain.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes out the producers that wait for it to drain.
    pub(super) fn take_waiting(&mut self) -> Vec<Origin> {
        self.waiting
            .take()
            .map(|waiting| *waiting)
            .unwrap_or_default()
    }

    /// Notes a producer that waits for it to drain, once.
    pub(super) fn wait(&mut self, origin: Origin) {
        let waiting = self.waiting.get_or_insert_default();
        if !waiting.contains(&origin) {
            waiting.push(origin);
        }
    }

    /// Drops what is queued because it cannot be written any more.
    pub(super) fn lose(&mut self, pool: &mut Pool) {
        self.settle(pool);
        self.lost += self.pending;
        self.discard(pool);
    }

    /// Drops what is queued, and gives its buffers back.
    pub(super) fn discard(&mut self, pool: &mut Pool) {
        self.notes = Notes::default();
        self.advance(self.pending, pool);
    }

    /// Makes room for `len` bytes in the tail; gives the tail's length.
    #[inline]
    fn reserve(&mut self, len: usize, pool: &mut Pool) -> usize {
        if self.tail.capacity() - self.tail.len() < len {
            self.rotate(pool);
            if self.tail.capacity() < len {
                let old = std::mem::replace(&mut self.tail, pool.take(len));
                pool.give(old);
            }
        }
        self.tail.len()
    }

    /// Moves the tail behind the chunks.
    fn rotate(&mut self, pool: &mut Pool) {
        if self.tail.is_empty() {
            return;
        }
        // A few bytes between two shared chunks should not hold on to a whole buffer.
        let small = self.tail.len() < limits::CHUNK_BYTES / 8 && !self.chunks.is_empty();
        let full = if small {
            let copy = self.tail.clone();
            self.tail.clear();
            copy
        } else {
            std::mem::replace(&mut self.tail, pool.take(0))
        };
        self.chunks.push_back(Chunk::Own(full));
    }

    fn write_gathered(&self, mut socket: &TcpStream) -> io::Result<usize> {
        let mut slices: [IoSlice<'_>; SLICES_MAX] = std::array::from_fn(|_| IoSlice::new(&[]));
        let mut count = 0;
        for (slice, run) in slices
            .iter_mut()
            .zip(runs(&self.chunks, &self.tail, self.sent))
        {
            *slice = IoSlice::new(run);
            count += 1;
        }
        socket.write_vectored(slices.get(..count).unwrap_or_default())
    }

    /// As `write_once`, encrypted or compressed.
    fn write_encrypted(&mut self, pool: &mut Pool) -> io::Result<usize> {
        if self.pending == 0 {
            return self.transport.flush(&mut pool.scratch).map(|()| 0);
        }
        let runs = runs(&self.chunks, &self.tail, self.sent);
        self.transport.write(runs, &mut pool.scratch)
    }

    /// Forgets `len` written bytes.
    fn advance(&mut self, len: usize, pool: &mut Pool) {
        self.pending -= len;
        pool.pending -= len;
        self.sent += len;
        while let Some(first) = self.chunks.front().map(|chunk| chunk.bytes().len()) {
            if self.sent < first {
                return;
            }
            self.sent -= first;
            if let Some(Chunk::Own(buffer)) = self.chunks.pop_front() {
                pool.give(buffer);
            }
        }
        if self.pending == 0 {
            self.sent = 0;
            pool.give(std::mem::take(&mut self.tail));
            self.chunks = VecDeque::new();
        }
    }
}

/// What is queued, but for the first `sent` bytes of it, which are all in the first run.
fn runs<'a>(
    chunks: &'a VecDeque<Chunk>,
    tail: &'a [u8],
    sent: usize,
) -> impl Iterator<Item = &'a [u8]> {
    let mut skip = sent;
    let tail = Some(tail).filter(|tail| !tail.is_empty());
    let runs = chunks.iter().map(Chunk::bytes).chain(tail);
    runs.map(move |run| run.get(std::mem::take(&mut skip)..).unwrap_or_default())
}
