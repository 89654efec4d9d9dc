//! Feeds arbitrary streams to the reading end of compression, and what the writing end makes of arbitrary bytes.
//!
//! The first byte says which, and how; the second one where reads cut the wire. Whatever the bytes are: nothing panics, what
//! is kept has its bound, a stream says the same however it is cut, and what was packed comes out again.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use midge::s2::{BLOCK_BYTES_MAX, Encoder, Level, Packer, S2Error, Unpacker, decode};

/// Bytes of what a stream says that are looked at: a few on the wire can say a lot.
const SAID_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What is kept of a chunk, beside what it says: the longest there can be.
const CHUNK_BYTES_MAX: usize = BLOCK_BYTES_MAX * 7 / 6 + 64;

fuzz_target!(|input: &[u8]| {
    let Some(([choice, cut], bytes)) = input.split_first_chunk() else {
        return;
    };
    let (cut, room) = (usize::from(*cut) + 1, usize::from(*choice) * 16 + 1);
    match choice % 4 {
        // A stream that begins as it should, unless the bytes begin another one.
        0 => {
            let stream = [b"\xff\x06\0\0S2sTwO", bytes].concat();
            assert_eq!(
                unpacked(&stream, cut, room),
                unpacked(&stream, stream.len(), 65536)
            );
        }
        1 => assert_eq!(
            unpacked(bytes, cut, room),
            unpacked(bytes, bytes.len(), 65536)
        ),
        2 => {
            let mut said = b"before".to_vec();
            let result = decode(bytes, &mut said);
            assert!(said.starts_with(b"before") && said.len() <= 6 + BLOCK_BYTES_MAX);
            assert!(result.is_err() || said.len() >= 6);
        }
        _ => {
            let mut encoder = Encoder::default();
            for level in [Level::Uncompressed, Level::Fast, Level::Better, Level::Best] {
                let (mut packer, mut wire) = (Packer::new(level), Vec::new());
                for piece in bytes.chunks(room.max(64)) {
                    packer.pack(piece, &mut encoder, &mut wire);
                }
                let (said, error) = unpacked(&wire, cut, 1000);
                assert!(error.is_none() && said == bytes, "{level:?}: {error:?}");
            }
        }
    }
});

/// What a stream says, and what is wrong with it behind that.
fn unpacked(stream: &[u8], cut: usize, room: usize) -> (Vec<u8>, Option<S2Error>) {
    let (mut unpacker, mut said, mut buffer) = (Unpacker::default(), Vec::new(), vec![0; room]);
    for read in stream.chunks(cut.max(1)) {
        unpacker.push(read);
        loop {
            assert!(unpacker.kept_bytes() <= stream.len() + CHUNK_BYTES_MAX);
            match unpacker.take(&mut buffer) {
                Ok(0) => break,
                Ok(len) => said.extend_from_slice(&buffer[..len]),
                Err(error) => return (said, Some(error)),
            }
            if said.len() > SAID_BYTES_MAX {
                said.truncate(SAID_BYTES_MAX);
                return (said, None);
            }
        }
        assert!(unpacker.is_starved());
    }
    (said, None)
}
