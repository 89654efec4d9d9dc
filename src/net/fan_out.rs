//! Messages to many connections of a worker, kept once until the turn ends.
//!
//! What goes to thousands of subscribers is not copied into thousands of queues, each of them cold by the time the next
//! message comes. It is kept here, and each outlet notes a [`Run`]: from which message to which it gets, and under which
//! sid. When the outlet is written, what it noted is put together in one block that all outlets use in turn. Where they
//! all get the same, only the sids in the block change from one to the next, if these do.
//!
//! ```text
//! messages:  0 │ 1 │ 2 │ 3 │ 4          block: MSG ticks 7 5␍␊…MSG ticks 7 3␍␊…
//! outlet a:  └── run of 7 ──┘                            └ sids ┘
//! outlet b:  └ run ┘   └run┘
//! ```
//!
//! An outlet has its last run itself; those before it, if it has several, are here too, each with the place of the one
//! before. Bytes for an outlet alone come behind what it noted: that is copied into its queue first. So order is kept,
//! whatever is noted and whatever is not.

use crate::limits;
use crate::proto::encode::{Message, Spread, verb};
use crate::stats::Traffic;

/// Bytes of the longest sid that a run can name.
const SID_MAX: usize = 15;

/// Successive messages that one outlet gets under one sid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    from: u32,
    to: u32,
    sid_len: u8,
    sid: [u8; SID_MAX],
}

impl Run {
    #[inline]
    fn new(at: u32, sid: &[u8]) -> Run {
        let mut run = Run {
            from: at,
            to: at + 1,
            ..Run::default()
        };
        if let (Some(room), Ok(len)) = (run.sid.get_mut(..sid.len()), u8::try_from(sid.len())) {
            room.copy_from_slice(sid);
            run.sid_len = len;
        }
        run
    }

    #[inline]
    fn sid(&self) -> &[u8] {
        self.sid
            .get(..usize::from(self.sid_len))
            .unwrap_or_default()
    }

    /// Whether both are put together to blocks that differ in nothing but sids.
    fn is_like(&self, other: &Run) -> bool {
        (self.from, self.to, self.sid_len) == (other.from, other.to, other.sid_len)
    }
}

/// What an outlet has noted: its last run, and where those before it are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes {
    last: Run,
    /// The place of the run before it, and one; 0 if there is none.
    before: u32,
}

impl Notes {
    /// Whether a sid is short enough to be noted.
    #[inline]
    pub(super) fn can_name(sid: &[u8]) -> bool {
        sid.len() <= SID_MAX
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.last.from == self.last.to
    }

    /// Notes the message at this place, under a sid that can be. Where that is another run than the last one, gives the
    /// bytes of those before it.
    #[inline]
    pub(super) fn add(&mut self, at: u32, sid: &[u8], fan_out: &mut FanOut) -> usize {
        if self.last.to == at && self.last.sid() == sid && !self.is_empty() {
            self.last.to += 1;
            return 0;
        }
        let mut bytes = 0;
        if !self.is_empty() {
            bytes = fan_out.put_by(*self);
            self.before = u32::try_from(fan_out.earlier.len()).unwrap_or(0);
        }
        self.last = Run::new(at, sid);
        bytes
    }
}

/// Runs of an outlet that has later ones.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    notes: Notes,
    /// Bytes of their lines.
    bytes: usize,
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
    /// Runs of outlets that have later ones.
    earlier: Vec<Earlier>,
    /// What was last put together; if that was one run, which one, and where its sids are.
    block: Vec<u8>,
    made: Run,
    sids_at: Vec<usize>,
    /// The runs of one outlet, for the moment.
    runs: Vec<Run>,
}

impl FanOut {
    /// How often it was emptied.
    #[inline]
    pub(super) fn emptied(&self) -> u32 {
        self.emptied
    }

    /// Whether what it has should be written before more is added, where so many bytes wait for so many outlets, and none
    /// may have more than `most`.
    pub(super) fn is_full(&self, bytes: usize, outlets: usize, most: usize) -> bool {
        let each = limits::TURN_BYTES_MAX / outlets.max(1);
        let each = each.clamp(limits::WRITE_BYTES, limits::FAN_OUT_WRITE_BYTES);
        bytes >= outlets.saturating_mul(each)
            || self.lines.len() >= limits::FAN_OUT_BYTES_MAX.min(most)
            || self.earlier.len() >= limits::FAN_OUT_RUNS_MAX
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

    /// Keeps what an outlet has noted so far, which notes something else next; gives the bytes of its lines.
    fn put_by(&mut self, notes: Notes) -> usize {
        let run = notes.last;
        let start = |at: u32| {
            let kept = self.messages.get(at as usize);
            kept.map_or(self.lines.len(), |kept| kept.start)
        };
        let before = self.before(&notes).map_or(0, |earlier| earlier.bytes);
        let bytes = before + start(run.to) - start(run.from);
        self.earlier.push(Earlier { notes, bytes });
        bytes
    }

    /// What an outlet had noted before its last run.
    fn before(&self, notes: &Notes) -> Option<&Earlier> {
        self.earlier.get(notes.before.checked_sub(1)? as usize)
    }

    /// Puts together what an outlet has noted: lends it its bytes, and says what it amounts to.
    pub(super) fn lend(&mut self, notes: &Notes) -> (Vec<u8>, Traffic) {
        let run = notes.last;
        if notes.before > 0 {
            return self.lend_several(notes);
        }
        if !self.made.is_like(&run) {
            self.block.clear();
            self.sids_at.clear();
            self.put_together(&run);
        } else if self.made.sid != run.sid {
            for &at in &self.sids_at {
                if let Some(sid) = self.block.get_mut(at..at + run.sid().len()) {
                    sid.copy_from_slice(run.sid());
                }
            }
        }
        self.made = run;
        (std::mem::take(&mut self.block), self.traffic(&run))
    }

    fn lend_several(&mut self, notes: &Notes) -> (Vec<u8>, Traffic) {
        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        let mut next = Some(notes);
        while let Some(notes) = next {
            runs.push(notes.last);
            next = self.before(notes).map(|earlier| &earlier.notes);
        }
        self.block.clear();
        self.sids_at.clear();
        self.made = Run::default();
        let mut traffic = Traffic::default();
        for run in runs.iter().rev() {
            traffic.add(self.traffic(run));
            self.put_together(run);
        }
        self.runs = runs;
        (std::mem::take(&mut self.block), traffic)
    }

    /// Takes such bytes back, as they are.
    pub(super) fn take_back(&mut self, block: Vec<u8>) {
        self.block = block;
    }

    fn traffic(&self, run: &Run) -> Traffic {
        let before = |at: u32| {
            let kept = self.messages.get(at as usize);
            kept.map_or(self.payload, |kept| kept.payload_before)
        };
        Traffic {
            msgs: u64::from(run.to - run.from),
            bytes: before(run.to) - before(run.from),
        }
    }

    /// Appends the messages of a run to the block.
    fn put_together(&mut self, run: &Run) {
        let block = &mut self.block;
        let messages = self.messages.get(run.from as usize..).unwrap_or_default();
        let ends = messages.iter().skip(1).map(|next| next.start);
        let ends = ends.chain([self.lines.len()]);
        let count = (run.to - run.from) as usize;
        for (message, end) in messages.iter().zip(ends).take(count) {
            let line = self.lines.get(message.start..end).unwrap_or_default();
            block.extend_from_slice(verb(message.has_headers));
            block.extend_from_slice(line.get(..=message.subject_len).unwrap_or_default());
            self.sids_at.push(block.len());
            block.extend_from_slice(run.sid());
            block.extend_from_slice(line.get(message.subject_len..).unwrap_or_default());
        }
    }

    /// Forgets all messages. Nobody may have notes of them any more.
    #[inline]
    pub(super) fn clear(&mut self) {
        if !self.messages.is_empty() {
            self.emptied = self.emptied.wrapping_add(1);
            self.lines.clear();
            self.messages.clear();
            self.earlier.clear();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::encode::compose;

    fn keep(fan_out: &mut FanOut, subject: &str, headers: &str, payload: &str) -> u32 {
        let mut line = Vec::new();
        let body = format!("{headers}{payload}");
        let parts = compose(
            subject.as_bytes(),
            b"",
            headers.len(),
            body.as_bytes(),
            &mut line,
        );
        fan_out.keep(&Message::new(&line, parts))
    }

    fn take(fan_out: &mut FanOut, notes: &Notes) -> (String, Traffic) {
        let (block, traffic) = fan_out.lend(notes);
        let text = String::from_utf8(block.clone()).unwrap();
        fan_out.take_back(block);
        (text, traffic)
    }

    #[test]
    fn each_outlet_gets_what_it_noted_under_its_own_sids() {
        let mut fan_out = FanOut::default();
        let places = [
            keep(&mut fan_out, "a", "", "one"),
            keep(&mut fan_out, "b.c", "NATS/1.0\r\n\r\n", "two!"),
            keep(&mut fan_out, "a", "", ""),
        ];
        let headed = "HMSG b.c 7 12 16\r\nNATS/1.0\r\n\r\ntwo!\r\n";
        let all = format!("MSG a 7 3\r\none\r\n{headed}MSG a 7 0\r\n\r\n");
        for sid in ["7", "8", "12", "7", "a-sid-of-15-byte"] {
            let sid = &sid[..sid.len().min(15)];
            let mut notes = Notes::default();
            for at in places {
                notes.add(at, sid.as_bytes(), &mut fan_out);
            }
            let traffic = Traffic { msgs: 3, bytes: 19 };
            let wanted = all.replace(" 7 ", &format!(" {sid} "));
            assert_eq!(take(&mut fan_out, &notes), (wanted, traffic));
        }
        // Not the one in the middle, and the last one twice.
        let mut notes = Notes::default();
        let lines = ["a 3\r\none\r\n".len(), "a 0\r\n\r\n".len()];
        for (at, sid, before) in [
            (0, "7", 0),
            (2, "7", lines[0]),
            (2, "123", lines[0] + lines[1]),
        ] {
            let bytes = notes.add(places[at], sid.as_bytes(), &mut fan_out);
            assert_eq!(bytes, before);
        }
        let wanted = "MSG a 7 3\r\none\r\nMSG a 7 0\r\n\r\nMSG a 123 0\r\n\r\n";
        let traffic = Traffic { msgs: 3, bytes: 3 };
        assert_eq!(take(&mut fan_out, &notes), (wanted.into(), traffic));
    }

    #[test]
    fn it_is_full_before_an_outlet_would_get_too_much() {
        let mut fan_out = FanOut::default();
        for _ in 0..10 {
            assert!(!fan_out.is_full(0, 1, 1000));
            keep(&mut fan_out, "a", "", &"x".repeat(100));
        }
        assert!(fan_out.is_full(0, 1, 1000));
        // Where all may have more, it depends on what they get together.
        assert!(!fan_out.is_full(1_000_000, 100, usize::MAX));
        assert!(fan_out.is_full(10_000_000, 100, usize::MAX));
    }

    #[test]
    fn a_place_is_good_until_it_is_emptied() {
        let mut fan_out = FanOut::default();
        let mut line = Vec::new();
        let parts = compose(b"a", b"", 0, b"x", &mut line);
        let message = Message::new(&line, parts);
        for emptied in 0..3 {
            assert_eq!(fan_out.keep(&message), 0);
            assert_eq!(message.spread(), Spread::Kept { emptied, at: 0 });
            let mut notes = Notes::default();
            notes.add(0, b"1", &mut fan_out);
            assert_eq!(take(&mut fan_out, &notes).0, "MSG a 1 1\r\nx\r\n");
            fan_out.clear();
            assert_ne!(fan_out.emptied(), emptied);
        }
    }
}
