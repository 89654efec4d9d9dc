//! Messages to many connections of a worker, kept once until the turn ends.
//!
//! What goes to thousands of subscribers is not copied into thousands of queues, each of them cold by the time the next
//! message comes. It is kept here, and each outlet notes a [`Run`]: from which message to which it gets, and under which
//! sid. When the outlet is written, its run is put together in one block that all outlets use in turn. Mostly they have
//! the same run, so that from one to the next only the sids in the block change, if these do.
//!
//! ```text
//! messages:  0 │ 1 │ 2 │ 3 │ 4          block: MSG ticks 7 5␍␊…MSG ticks 7 3␍␊…
//! outlet a:  └── run of 7 ──┘                            └ sids ┘
//! outlet b:  └── run of 12 ─────┘
//! ```
//!
//! A message that comes in between for one outlet alone ends its run: it is copied into the queue, and what came in
//! between behind it. So order is kept, whatever is noted and whatever is not.

use crate::limits;
use crate::proto::encode::{Message, Spread, verb};
use crate::stats::Traffic;

/// Bytes of the longest sid that a run can name.
const SID_MAX: usize = 15;

/// Successive messages that one outlet gets under one sid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    from: u32,
    to: u32,
    sid_len: u8,
    sid: [u8; SID_MAX],
}

impl Run {
    /// A run of the message at this place alone. The sid must be one that it can name.
    pub(super) fn new(at: u32, sid: &[u8]) -> Run {
        let mut run = Run {
            from: at,
            to: at + 1,
            sid_len: u8::try_from(sid.len()).unwrap_or(u8::MAX),
            sid: [0; SID_MAX],
        };
        if let Some(room) = run.sid.get_mut(..sid.len()) {
            room.copy_from_slice(sid);
        }
        run
    }

    /// Whether the sid is short enough.
    #[inline]
    pub(super) fn can_name(sid: &[u8]) -> bool {
        sid.len() <= SID_MAX
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    #[inline]
    fn sid(&self) -> &[u8] {
        self.sid
            .get(..usize::from(self.sid_len))
            .unwrap_or_default()
    }

    /// Takes the message at this place in, if it is the next one and the sid is the same.
    #[inline]
    pub(super) fn extend(&mut self, at: u32, sid: &[u8]) -> bool {
        let is_next = self.to == at && !self.is_empty() && self.sid() == sid;
        self.to += u32::from(is_next);
        is_next
    }

    /// Whether both are put together to blocks that differ in nothing but sids.
    fn is_like(&self, other: &Run) -> bool {
        (self.from, self.to, self.sid_len) == (other.from, other.to, other.sid_len)
    }
}

/// Where a message's line is, and the payloads before it.
#[derive(Clone, Copy, Debug)]
struct Kept {
    start: usize,
    subject_len: usize,
    has_headers: bool,
    payload_before: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    /// How often it was emptied; places are good until the next time.
    emptied: u32,
    /// Lines, one behind the other.
    lines: Vec<u8>,
    messages: Vec<Kept>,
    /// Bytes of all payloads.
    payload: u64,
    /// The run that was last put together, and where its sids are.
    block: Vec<u8>,
    made: Run,
    sids_at: Vec<usize>,
}

impl FanOut {
    /// How often it was emptied.
    #[inline]
    pub(super) fn emptied(&self) -> u32 {
        self.emptied
    }

    /// Whether what it has should be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= limits::FAN_OUT_BYTES
    }

    /// Keeps a message; gives its place.
    pub(super) fn keep(&mut self, message: &Message<'_>) -> u32 {
        let at = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.messages.push(Kept {
            start: self.lines.len(),
            subject_len: message.parts().subject_len,
            has_headers: message.header_len() > 0,
            payload_before: self.payload,
        });
        self.payload += message.body().len().saturating_sub(2) as u64;
        self.lines.extend_from_slice(message.line());
        message.set_spread(Spread::Kept {
            emptied: self.emptied,
            at,
        });
        at
    }

    /// What a run amounts to.
    pub(super) fn traffic(&self, run: &Run) -> Traffic {
        let before = |at: u32| {
            let kept = self.messages.get(at as usize);
            kept.map_or(self.payload, |kept| kept.payload_before)
        };
        Traffic {
            msgs: u64::from(run.to - run.from),
            bytes: before(run.to) - before(run.from),
        }
    }

    /// The bytes of a run, until they are taken back.
    pub(super) fn lend(&mut self, run: &Run) -> Vec<u8> {
        if !self.made.is_like(run) {
            self.put_together(run);
        } else if self.made.sid != run.sid {
            for &at in &self.sids_at {
                if let Some(sid) = self.block.get_mut(at..at + run.sid().len()) {
                    sid.copy_from_slice(run.sid());
                }
            }
        }
        self.made = *run;
        std::mem::take(&mut self.block)
    }

    /// Takes such bytes back, as they are.
    pub(super) fn take_back(&mut self, block: Vec<u8>) {
        self.block = block;
    }

    fn put_together(&mut self, run: &Run) {
        let FanOut { block, sids_at, .. } = self;
        block.clear();
        sids_at.clear();
        let messages = self.messages.get(run.from as usize..run.to as usize);
        let mut rest = messages.unwrap_or_default();
        while let Some((message, more)) = rest.split_first() {
            let next = self.messages.get(run.to as usize - more.len());
            let end = next.map_or(self.lines.len(), |next| next.start);
            let line = self.lines.get(message.start..end).unwrap_or_default();
            block.extend_from_slice(verb(message.has_headers));
            block.extend_from_slice(line.get(..=message.subject_len).unwrap_or_default());
            sids_at.push(block.len());
            block.extend_from_slice(run.sid());
            block.extend_from_slice(line.get(message.subject_len..).unwrap_or_default());
            rest = more;
        }
    }

    /// Forgets all messages. Nobody may have a run of them any more.
    #[inline]
    pub(super) fn clear(&mut self) {
        if !self.messages.is_empty() {
            self.emptied = self.emptied.wrapping_add(1);
            self.lines.clear();
            self.messages.clear();
            self.payload = 0;
            self.made = Run::default();
        }
    }

    /// Frees what is kept for next time.
    pub(super) fn trim(&mut self) {
        *self = FanOut {
            emptied: self.emptied,
            ..FanOut::default()
        };
    }
}
