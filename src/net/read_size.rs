//! How much one read takes from a socket.
//!
//! What a read and the write that follows it cost is mostly the same however many bytes they move: each wakes a peer, and
//! the system sends what that one could not send before. So reads that come back full may take more, as long as the turns
//! of the worker stay short enough for all others; where they do not, because messages take long or many have much to say,
//! they take less again. So do the last of very many in one turn, as what they have sent may have to wait in memory.

use std::time::Duration;

use super::transport::Transport;
use crate::limits;

/// Turns up to this long let reads grow: twice as long is short, too.
const SHORT: Duration = Duration::from_micros(250);
/// Turns from this on make them smaller.
const LONG: Duration = Duration::from_millis(1);

/// See the module's documentation. Each worker has its own.
#[derive(Debug)]
pub(super) struct ReadSize {
    bytes: usize,
    /// Whether a read of the turn at hand took all that it might.
    filled: bool,
}

impl Default for ReadSize {
    fn default() -> Self {
        ReadSize {
            bytes: limits::READ_BYTES,
            filled: false,
        }
    }
}

impl ReadSize {
    /// Bytes that a read takes at most, in [`limits::READ_BYTES`]`..=`[`limits::READ_BYTES_MAX`]. So many were `taken` in the
    /// turn at hand.
    pub(super) fn bytes(&self, taken: usize) -> usize {
        if taken >= limits::READ_TURN_BYTES {
            limits::READ_BYTES
        } else {
            self.bytes
        }
    }

    /// Notes that a read took all that it might.
    pub(super) fn note_full(&mut self) {
        self.filled = true;
    }

    /// Notes how long the turn took that these reads were in.
    pub(super) fn end_turn(&mut self, time: Duration) {
        if self.filled && time <= SHORT {
            self.bytes = (self.bytes * 2).min(limits::READ_BYTES_MAX);
        } else if time >= LONG {
            self.bytes = (self.bytes / 2).max(limits::READ_BYTES);
        }
        self.filled = false;
    }
}

/// Bytes of the buffer for a read of `most` bytes, behind `kept` ones that were left of the last: what a session needs, too.
/// Where it matters not, the buffer is as large as for any other read.
pub(super) fn buffer_bytes(kept: usize, most: usize) -> usize {
    let usual = kept.max(limits::READ_BYTES) + most;
    usual.max(kept + Transport::READ_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_grow_while_turns_are_short_and_shrink_when_they_are_long() {
        let mut size = ReadSize::default();
        let mut turn = |filled: bool, micros: u64| {
            if filled {
                size.note_full();
            }
            size.end_turn(Duration::from_micros(micros));
            size.bytes(0) / 1024
        };
        // Nobody had more.
        assert_eq!(turn(false, 50), 128);
        assert_eq!(turn(true, 200), 256);
        // Neither short nor long.
        assert_eq!(turn(true, 600), 256);
        assert_eq!(turn(true, 250), 512);
        assert_eq!(turn(true, 10), 512);
        assert_eq!(turn(false, 10), 512);
        assert_eq!(turn(true, 1000), 256);
        assert_eq!(turn(false, 9000), 128);
        assert_eq!(turn(true, 9000), 128);
    }

    #[test]
    fn a_turn_has_a_bound() {
        let mut size = ReadSize::default();
        for _ in 0..3 {
            size.note_full();
            size.end_turn(Duration::ZERO);
        }
        assert_eq!(size.bytes(4 * 1024 * 1024 - 1), 512 * 1024);
        assert_eq!(size.bytes(4 * 1024 * 1024), 128 * 1024);
    }

    #[test]
    fn a_session_always_has_the_room_that_it_needs() {
        for most in [
            limits::READ_BYTES_MIN,
            limits::READ_BYTES,
            limits::READ_BYTES_MAX,
        ] {
            for kept in (0..=2 * limits::READ_BYTES).step_by(1000) {
                let room = buffer_bytes(kept, most) - kept;
                assert!(
                    room >= Transport::READ_BYTES_MIN && room >= most,
                    "{kept}, {most}"
                );
            }
            assert_eq!(buffer_bytes(0, most), limits::READ_BYTES + most);
        }
    }
}
