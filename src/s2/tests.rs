//! Blocks and streams: vectors of the reference server, round trips, every cut, and what must be refused.

use super::*;
use crate::rng::Rng;

const LEVELS: [Level; 4] = [Level::Uncompressed, Level::Fast, Level::Better, Level::Best];

fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::seeded(seed);
    let byte = |_| u8::try_from(rng.below(256)).unwrap();
    (0..len).map(byte).collect()
}

/// What routes carry: operations that resemble each other.
fn operations(len: usize) -> Vec<u8> {
    let mut rng = Rng::seeded(7);
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let (price, volume) = (rng.below(100_000), rng.below(1000));
        let payload = format!("{{\"price\":{price},\"volume\":{volume},\"currency\":\"EUR\"}}");
        let subject = rng.below(40);
        bytes.extend_from_slice(
            format!(
                "RMSG $G quotes.{subject} {}\r\n{payload}\r\n",
                payload.len()
            )
            .as_bytes(),
        );
    }
    bytes.truncate(len);
    bytes
}

fn samples() -> Vec<Vec<u8>> {
    let mut samples = vec![
        vec![b'a'; 5],
        vec![b'a'; 64 * 1024],
        b"abc".repeat(21_000),
        b"0123456789abcdefghij".repeat(700),
        random(64 * 1024, 1),
        [random(3000, 2), random(3000, 2)].concat(),
        operations(64 * 1024),
    ];
    for len in [1, 7, 8, 9, 15, 16, 31, 32, 33, 60, 61, 256, 257, 300, 4096] {
        samples.push(operations(len));
        samples.push(random(len, len as u64));
    }
    // Long runs of both at many distances.
    for distance in [1, 2, 15, 16, 17, 2047, 2048, 2049, 30_000] {
        let pattern = random(distance, 3);
        let copies = pattern.iter().cycle().take(60_000).copied();
        samples.push(copies.collect());
    }
    samples
}

/// The stream of some bytes, in chunks of the given size.
fn packed(bytes: &[u8], level: Level, chunk: usize) -> Vec<u8> {
    let (mut packer, mut encoder) = (Packer::new(level), Encoder::default());
    let mut wire = Vec::new();
    for piece in bytes.chunks(chunk) {
        packer.pack(piece, &mut encoder, &mut wire);
    }
    wire
}

/// What a stream says, where reads of the wire cut it like this and `room` bytes are wanted at a time.
fn unpacked(reads: &[&[u8]], room: usize) -> Result<Vec<u8>, S2Error> {
    let (mut unpacker, mut said) = (Unpacker::default(), Vec::new());
    let mut buffer = vec![0; room];
    for read in reads {
        unpacker.push(read);
        loop {
            let len = unpacker.take(&mut buffer)?;
            said.extend_from_slice(&buffer[..len]);
            if len == 0 {
                break;
            }
        }
        assert!(unpacker.is_starved());
    }
    Ok(said)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn blocks_say_what_was_put_into_them() {
    let mut encoder = Encoder::default();
    for bytes in samples() {
        for level in LEVELS {
            let (mut block, mut said) = (Vec::new(), Vec::new());
            encoder.encode(&bytes, level, &mut block);
            decode(&block, &mut said).unwrap();
            let len = bytes.len();
            assert!(said == bytes, "{len} bytes at {level:?}");
            assert!(
                block.len() <= len + len / 6 + 32,
                "{} of {len}",
                block.len()
            );
        }
    }
}

#[test]
fn each_level_makes_messages_smaller_than_the_one_before() {
    let bytes = operations(256 * 1024);
    let lens = LEVELS.map(|level| packed(&bytes, level, Packer::BYTES_MAX).len());
    assert!(lens.is_sorted_by(|one, next| one > next), "{lens:?}");
    assert!(lens[1] < bytes.len() / 3, "{lens:?}");
    let bytes = random(64 * 1024, 4);
    for level in LEVELS {
        let wire = packed(&bytes, level, Packer::BYTES_MAX);
        assert_eq!(wire.len(), 10 + 8 + bytes.len(), "{level:?}");
    }
}

#[test]
fn streams_do_not_depend_on_where_reads_cut_them() {
    let bytes = [operations(700), random(40, 5)].concat();
    for level in [Level::Uncompressed, Level::Best] {
        let wire = packed(&bytes, level, 300);
        for cut in 0..=wire.len() {
            let (head, tail) = wire.split_at(cut);
            assert_eq!(unpacked(&[head, tail], 64).unwrap(), bytes, "cut at {cut}");
        }
        let single: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(unpacked(&single, 1).unwrap(), bytes);
    }
    for bytes in samples() {
        for level in LEVELS {
            let wire = packed(&bytes, level, 20_000);
            let reads: Vec<&[u8]> = wire.chunks(4099).collect();
            assert!(unpacked(&reads, 10_007).unwrap() == bytes);
        }
    }
}

#[test]
fn blocks_are_read_by_the_letter() {
    for (block, said) in [
        // Bytes as they are, with each width of their number.
        ("03 08 616263", "abc".to_owned()),
        ("03 f0 02 616263", "abc".to_owned()),
        ("03 f4 0200 616263", "abc".to_owned()),
        ("03 f8 020000 616263", "abc".to_owned()),
        ("03 fc 02000000 616263", "abc".to_owned()),
        // A copy from near by, from farther, and from far.
        ("08 0c 61626364 01 04", "abcdabcd".to_owned()),
        ("06 0c 61626364 06 0400", "abcdab".to_owned()),
        ("06 0c 61626364 07 04000000", "abcdab".to_owned()),
        // One that reaches into itself.
        ("07 04 6162 05 02", "abababa".to_owned()),
        // Repeats: four to eight bytes, and with one, two and three bytes that say how many more.
        ("0d 04 6162 05 02 09 00", "ababababababa".to_owned()),
        ("13 00 61 01 01 15 00 06", "a".repeat(19)),
        ("8a02 00 61 01 01 19 00 0100", "a".repeat(266)),
        ("8b8004 00 61 01 01 1d 00 020000", "a".repeat(5 + 65542)),
    ] {
        let (block, mut out) = (hex(block), Vec::new());
        assert_eq!(decode(&block, &mut out), Ok(()), "{block:02x?}");
        assert_eq!(String::from_utf8(out).unwrap(), said);
    }
}

#[test]
fn streams_of_the_reference_server_are_read() {
    // What it sent to another server, with s2_fast and with s2_better.
    let start = "ff06000053327354774f00";
    let block = "74ee85038d0358524d53472024472076203338300d0a61626364656667689e0800302d303132333435363738392d7a110119001f00";
    let pattern = "abcdefgh".repeat(6);
    let payload = format!(
        "{pattern}-0123456789-{}abcdefgh-0123456789-",
        "z".repeat(300)
    );
    let said = format!("RMSG $G v 380\r\n{payload}\r\n");
    for (len, end) in [("3b0000", "4e4001040d0a"), ("3d0000", "31502e4001040d0a")] {
        let wire = hex(&format!("{start}{len}{block}{end}"));
        assert_eq!(unpacked(&[&wire], 100).unwrap(), said.as_bytes());
    }
}

#[test]
fn blocks_that_are_none_are_refused() {
    for (block, error) in [
        ("", "s2: a block has no size"),
        ("80", "s2: a block has no size"),
        ("808080808000", "s2: a block has no size"),
        (
            "81808002",
            "s2: a block of 4194305 bytes exceeds the maximum of 4194304",
        ),
        (
            "ffffffff0f",
            "s2: a block of 4294967295 bytes exceeds the maximum of 4194304",
        ),
        ("03 08 6162", "s2: a block is cut short"),
        ("03 f4 02", "s2: a block is cut short"),
        ("05 00 61 01", "s2: a block is cut short"),
        ("20 00 61 01 01 15 00", "s2: a block is cut short"),
        ("02 08 616263", "s2: a block says more than its size"),
        ("04 00 61 01 01", "s2: a block says more than its size"),
        ("04 08 616263", "s2: a block says less than its size"),
        (
            "04 fc ffffffff 616263",
            "s2: a block says more than its size",
        ),
        ("05 00 61 01 02", "s2: a block copies from before its start"),
        (
            "05 00 61 02 0000",
            "s2: a block copies from before its start",
        ),
        ("05 00 61 01 00", "s2: a block copies from before its start"),
        (
            "05 00 61 03 ffffffff",
            "s2: a block copies from before its start",
        ),
    ] {
        let result = decode(&hex(block), &mut Vec::new());
        let found = result.map_err(|error| error.to_string());
        assert_eq!(found, Err(error.to_owned()), "{block}");
    }
}

#[test]
fn streams_may_begin_anew_and_have_chunks_to_skip() {
    let mut wire = packed(b"one", Level::Fast, 10);
    wire.extend_from_slice(&hex("fe 030000 000000 99 000000 80 010000 ff"));
    wire.extend_from_slice(&packed(b" two", Level::Fast, 10));
    // Of the time before S2.
    wire.extend_from_slice(b"\xff\x06\0\0sNaPpY");
    let mut rest = packed(b" three", Level::Fast, 10);
    wire.append(&mut rest.split_off(10));
    // A block and a chunk that say nothing.
    wire.extend_from_slice(&hex("00 050000 d8ea82a2 00 01 040000 d8ea82a2"));
    for cut in 0..=wire.len() {
        let (head, tail) = wire.split_at(cut);
        assert_eq!(unpacked(&[head, tail], 100).unwrap(), b"one two three");
    }
}

#[test]
fn streams_that_are_none_are_refused_at_once() {
    let stream = b"\xff\x06\0\0S2sTwO";
    for (chunks, error) in [
        (
            "01 050000 00000000 61",
            "s2: the checksum of a chunk is wrong",
        ),
        ("02 000000", "s2: a chunk of unknown type 0x02"),
        ("7f 000000", "s2: a chunk of unknown type 0x7f"),
        ("ff 050000", "s2: a chunk of type 0xff with 5 bytes"),
        ("ff 060000 533273547750", "s2: not a stream of chunks"),
        ("01 030000", "s2: a chunk of type 0x01 with 3 bytes"),
        ("00 040000", "s2: a chunk of type 0x00 with 4 bytes"),
        ("01 050040", "s2: a chunk of type 0x01 with 4194309 bytes"),
        ("00 ffffff", "s2: a chunk of type 0x00 with 16777215 bytes"),
        (
            "00 080000 00000000 ffffff7f",
            "s2: a block of 268435455 bytes exceeds the maximum of 4194304",
        ),
    ] {
        let mut wire = stream.to_vec();
        wire.extend_from_slice(&hex(chunks));
        let found = unpacked(&[&wire], 100).map_err(|error| error.to_string());
        assert_eq!(found, Err(error.to_owned()), "{chunks}");
    }
    for start in ["INFO {}\r\n", "\u{0}\u{1}\u{0}\u{0}\u{0}"] {
        assert_eq!(unpacked(&[start.as_bytes()], 9), Err(S2Error::NoStream));
    }
}

#[test]
fn what_comes_before_an_error_is_given() {
    for bad in [
        "02 000000",
        "01 050000 00000000 61",
        "00 080000 00000000 03006161",
    ] {
        let mut unpacker = Unpacker::default();
        unpacker.push(&packed(b"good", Level::Fast, 10));
        unpacker.push(&hex(bad));
        let mut buffer = [0; 100];
        assert_eq!(unpacker.take(&mut buffer), Ok(4));
        assert!(
            !unpacker.is_starved() && buffer.starts_with(b"good"),
            "{bad}"
        );
        assert!(unpacker.take(&mut buffer).is_err(), "{bad}");
    }
}

#[test]
fn a_chunk_that_says_megabytes_costs_them_once() {
    // Four megabytes from a dozen bytes, a thousand times.
    let mut block = hex("80808002 00 61 01 01");
    let (mut said, size) = (5, BLOCK_BYTES_MAX);
    while said < size {
        let len = (size - said).min(65540 + 0xff_ffff);
        let more = (len - 65540).to_le_bytes();
        block.extend_from_slice(&[7 << 2 | 1, 0, more[0], more[1], more[2]]);
        said += len;
    }
    let mut content = Vec::new();
    decode(&block, &mut content).unwrap();
    assert!(content == vec![b'a'; size] && block.len() < 16);
    let mut chunk = vec![0, 4 + u8::try_from(block.len()).unwrap(), 0, 0];
    chunk.extend_from_slice(&checksum::masked(&content).to_le_bytes());
    chunk.extend_from_slice(&block);
    let mut unpacker = Unpacker::default();
    unpacker.push(b"\xff\x06\0\0S2sTwO");
    unpacker.push(&chunk.repeat(1000));
    let mut buffer = vec![0; 1000];
    for _ in 0..3 {
        assert_eq!(unpacker.take(&mut buffer), Ok(1000));
        assert!(unpacker.kept_bytes() < size + 1000 * chunk.len() + 100);
        assert!(!unpacker.is_starved());
    }
}
