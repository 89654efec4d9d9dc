//! CRC-32C (Castagnoli), and the mask of Snappy's framing on it.

/// The checksum of a chunk that says `bytes`.
pub(super) fn masked(bytes: &[u8]) -> u32 {
    crc(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// With the instruction that the processor has for it: ten times as fast as the table.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use table::crc;

/// Without, eight bytes at a time.
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod table {
    use std::sync::OnceLock;

    /// The polynomial, its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;

    /// What a byte does to the checksum: by the number of bytes that follow it, and its value.
    type Tables = [[u32; 256]; 8];

    /// Made when the first route is compressed: most servers need none, and it would be in every binary.
    static TABLES: OnceLock<Box<Tables>> = OnceLock::new();

    pub(super) fn crc(bytes: &[u8]) -> u32 {
        let tables = TABLES.get_or_init(tables);
        let at = |follow: usize, word: u64, byte: u32| {
            tables[follow][((word >> (8 * byte)) & 0xff) as usize]
        };
        let mut crc = u32::MAX;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = word.try_into().expect("chunks of eight bytes");
            let word = u64::from_le_bytes(word) ^ u64::from(crc);
            crc = at(7, word, 0) ^ at(6, word, 1) ^ at(5, word, 2) ^ at(4, word, 3);
            crc ^= at(3, word, 4) ^ at(2, word, 5) ^ at(1, word, 6) ^ at(0, word, 7);
        }
        for &byte in words.remainder() {
            crc = at(0, u64::from(crc ^ u32::from(byte)), 0) ^ (crc >> 8);
        }
        !crc
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the index of a table of 256"
    )]
    fn tables() -> Box<Tables> {
        let mut tables = Box::new([[0; 256]; 8]);
        for byte in 0..256 {
            let mut crc = byte as u32;
            for _ in 0..8 {
                crc = (crc >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1));
            }
            tables[0][byte] = crc;
        }
        for follow in 1..8 {
            for byte in 0..256 {
                let crc = tables[follow - 1][byte];
                tables[follow][byte] = tables[0][(crc & 0xff) as usize] ^ (crc >> 8);
            }
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc(bytes), expected, "{bytes:?}");
            assert_eq!(table::crc(bytes), expected, "{bytes:?}");
        }
    }
}
