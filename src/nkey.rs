//! The text form of public keys, as NATS writes them: 56 letters and digits that begin with the key's kind.
//!
//! ```text
//! base32( kind << 3 (1 byte) | key (32 bytes) | CRC-16/XMODEM of both (2 bytes, little endian) )
//! ```
//! 35 bytes are exactly 56 characters of five bits, so there is neither padding nor a second spelling of a key.

use std::fmt;

/// What a key stands for: the first letter of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `A`.
    Account,
    /// `C`.
    Cluster,
    /// `N`.
    Server,
    /// `O`.
    Operator,
    /// `U`.
    User,
    /// `X`, for encryption.
    Curve,
}

/// Why a text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NkeyError {
    /// A character that is not `A` to `Z` or `2` to `7`.
    Character,
    /// The check sum: a character was mistyped.
    Checksum,
    /// A first letter that stands for nothing public.
    Kind,
    /// More or fewer than 56 characters.
    Length,
}

impl fmt::Display for NkeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NkeyError::Character => "public key has a character outside A-Z and 2-7",
            NkeyError::Checksum => "public key has a wrong check sum",
            NkeyError::Kind => "public key has an unknown first letter",
            NkeyError::Length => "public key does not have 56 characters",
        })
    }
}

impl std::error::Error for NkeyError {}

/// Characters of a key.
pub const TEXT_BYTES: usize = 56;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const RAW_BYTES: usize = 1 + KEY_BYTES + 2;
const ALPHABET: [u8; 32] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const KINDS: [Kind; 6] = [
    Kind::Account,
    Kind::Cluster,
    Kind::Server,
    Kind::Operator,
    Kind::User,
    Kind::Curve,
];

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Kind::Account => b'A',
            Kind::Cluster => b'C',
            Kind::Server => b'N',
            Kind::Operator => b'O',
            Kind::User => b'U',
            Kind::Curve => b'X',
        }
    }

    /// The byte whose upper five bits become the first letter.
    fn prefix(self) -> u8 {
        (self.letter() - b'A') << 3
    }
}

/// The text of `key`.
pub fn encode(kind: Kind, key: &[u8; KEY_BYTES]) -> String {
    let mut raw = Vec::with_capacity(RAW_BYTES);
    raw.push(kind.prefix());
    raw.extend_from_slice(key);
    raw.extend_from_slice(&crc16(&raw).to_le_bytes());
    let mut text = String::with_capacity(TEXT_BYTES);
    let mut pending = 0u16;
    let mut bits = 0;
    for byte in raw {
        pending = pending << 8 | u16::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            let five = usize::from(pending >> bits & 31);
            text.push(char::from(ALPHABET[five]));
        }
    }
    text
}

/// The kind and the bytes of the key that `text` stands for.
///
/// # Errors
///
/// [`NkeyError`] unless it is the one spelling of a public key.
pub fn decode(text: &str) -> Result<(Kind, [u8; KEY_BYTES]), NkeyError> {
    if text.len() != TEXT_BYTES {
        return Err(NkeyError::Length);
    }
    let mut raw = Vec::with_capacity(RAW_BYTES);
    let mut pending = 0u16;
    let mut bits = 0;
    for byte in text.bytes() {
        let five = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return Err(NkeyError::Character),
        };
        pending = pending << 5 | u16::from(five);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            raw.push((pending >> bits & 0xff) as u8);
        }
    }
    let (payload, sum) = raw
        .split_at_checked(1 + KEY_BYTES)
        .ok_or(NkeyError::Length)?;
    if crc16(payload).to_le_bytes() != sum {
        return Err(NkeyError::Checksum);
    }
    let (prefix, key) = payload.split_first().ok_or(NkeyError::Length)?;
    let kind = KINDS
        .into_iter()
        .find(|kind| kind.prefix() == *prefix)
        .ok_or(NkeyError::Kind)?;
    Ok((kind, key.try_into().map_err(|_| NkeyError::Length)?))
}

/// CRC-16/XMODEM: polynomial 0x1021, from zero, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    let shift = |crc: u16, _| {
        if crc & 0x8000 == 0 {
            crc << 1
        } else {
            crc << 1 ^ 0x1021
        }
    };
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, shift)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sum_is_the_published_one() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_key_of_the_reference_tools_is_read() {
        let text = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        let (kind, key) = decode(text).unwrap();
        assert_eq!(kind, Kind::User);
        assert_eq!(encode(kind, &key), text);
    }

    #[test]
    fn every_kind_survives_the_round_trip_and_shows_its_letter() {
        for kind in KINDS {
            let key = std::array::from_fn(|at| u8::try_from(at * 7).unwrap());
            let text = encode(kind, &key);
            assert_eq!(text.len(), TEXT_BYTES);
            assert_eq!(text.as_bytes()[0], kind.letter());
            assert_eq!(decode(&text), Ok((kind, key)));
        }
    }

    #[test]
    fn a_mistyped_key_is_refused() {
        let text = encode(Kind::User, &[7; KEY_BYTES]);
        for at in 0..text.len() {
            let mut mistyped = text.clone().into_bytes();
            mistyped[at] = if mistyped[at] == b'B' { b'C' } else { b'B' };
            assert_eq!(
                decode(std::str::from_utf8(&mistyped).unwrap()),
                Err(NkeyError::Checksum)
            );
        }
        assert_eq!(decode(&text[1..]), Err(NkeyError::Length));
        assert_eq!(decode(&text.to_lowercase()), Err(NkeyError::Character));
        assert_eq!(
            decode(&format!("{}ü", &text[2..])),
            Err(NkeyError::Character)
        );
        assert_eq!(decode(""), Err(NkeyError::Length));
    }

    #[test]
    fn a_kind_that_is_not_public_is_refused() {
        let mut raw = vec![(b'P' - b'A') << 3];
        raw.extend([0; KEY_BYTES]);
        let sum = crc16(&raw).to_le_bytes();
        raw.extend(sum);
        let bits: String = raw.iter().map(|byte| format!("{byte:08b}")).collect();
        let five = |at: usize| ALPHABET[usize::from_str_radix(&bits[at..at + 5], 2).unwrap()];
        let text: Vec<u8> = (0..bits.len()).step_by(5).map(five).collect();
        assert_eq!(
            decode(std::str::from_utf8(&text).unwrap()),
            Err(NkeyError::Kind)
        );
    }
}
